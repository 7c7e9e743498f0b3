"""Looking back: what was answered, why, why not, and whether the log proves itself.

Replay asks the one path of `disclosure` at a past position and time; it is itself a look and appends
`view.audited`. `explain` asks the rules the same questions one by one. `verify` is `hub.verifying`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from hub.answer import FIGURE_FORMAT, Answer, Query, answer_hash, query_text
from hub.canonical import plain, text, timestamp
from hub.commits import Commits
from hub.disclosure import Disclosure
from hub.errors import PayloadError, Tampered
from hub.events import EPOCH, Entry, Event, Position
from hub.intake import HUB
from hub.log.log import Closed, Log
from hub.log.recorder import NO_CLAIM, Append, Head
from hub.obstacles import BLOCKED, Obstacle
from hub.policy import Emergency, Policy
from hub.rules import Case, FactRow, Moment, Opening, Reading, override_opening
from hub.schemas import Kind
from hub.statistics import Statistics
from hub.verifying import Verified, entry_kind, verify
from hub.views import index, uses
from hub.views.views import DISCLOSED, Change, Standing, Views

AUDITED = "view.audited"

_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """A past answer. hypothetical: the log went on before `time`. erased: persons asked for whose id is erased.

    destroyed: at most how many items are missing since the time to keep them has ended, as in `Answer`.
    """

    answer: Answer
    erased: int
    destroyed: int
    hypothetical: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeated:
    """A logged disclosure, decided again. same: its bytes are those that were let out.

    erased: how many persons shown then are erased now; with one of them the bytes cannot be the same.
    destroyed: at most how many items are missing since the time to keep them has ended; 0 where it is the same.
    """

    answer: Answer
    same: bool
    erased: int
    destroyed: int


class Reason(NamedTuple):
    """One thing that was asked: what stands or fails, by which rule. holds: it opens; else it stands against."""

    text: str
    text_ja: str
    rule: str
    holds: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why something is shown or not. lines: what was asked, in order."""

    shown: bool
    lines: tuple[Reason, ...]


class Audit:
    """Looks back over one log."""

    def __init__(
        self, log: Log, views: Views, commits: Commits, disclosure: Disclosure, statistics: Statistics
    ) -> None:
        self._log, self._views, self._commits, self._disclosure = log, views, commits, disclosure
        self._statistics = statistics

    @contextmanager
    def _past(self, position: int | None, time: datetime | None) -> Iterator[tuple[Standing, Moment, bool]]:
        """What held at a position, or at a time, or now; and whether the question is hypothetical (R18)."""
        with self._log.entries.snapshot() as (connection, end):
            if position is None:
                position = end.position if time is None else self._log.position_at(connection, time, end.position)
            if not 0 <= position <= end.position:
                raise PayloadError("is beyond the end of the log", path="position")
            last = self._log.recorded_at(connection, position)
            if time is None:
                time = self._log.clock.now() if position == end.position else last or EPOCH
            time = time if last is None else max(time, last)
            following = self._log.recorded_at(connection, position + 1)
            standing = self._views.at(connection, end.position, position)
            moment = Moment(position=Position(position), time=time)
            yield standing, moment, following is not None and time > following

    def emergencies(self, time: datetime | None = None, *, details: bool = False) -> list[dict[str, Any]]:
        """Every emergency as it stood at `time` (default: now), by since: proposed, active or ended.

        details: also who, whether one officer alone, whether by mistake, and what waits for a confirmation.
        """
        with self._past(None, time) as (standing, moment, _):
            rows = [
                _emergency(found, moment.time) | (_details(found, moment.time) if details else {})
                for found in standing.city.emergencies.values()
            ]
        return sorted(rows, key=lambda row: (row["since"], row["emergency"]))

    def replay(
        self,
        query: Query,
        *,
        position: int | None = None,
        time: datetime | None = None,
        actor: str | None = None,
    ) -> Replayed:
        """The answer to `query` at a position, at a time, or now; appends `view.audited`, consumes nothing."""
        with self._past(position, time) as (standing, moment, hypothetical):
            answer = self._disclosure.deciding.decide(standing, query, moment.time)
            erased = sum(self._erased(name) for name in query.persons or ())
        self._look(query, moment, len(answer.persons), hypothetical, actor)
        return Replayed(answer=answer, erased=erased, destroyed=answer.destroyed, hypothetical=hypothetical)

    def _erased(self, name: str) -> bool:
        ordinal = self._views.persons.ordinal_of(bytes.fromhex(name))
        return ordinal is not None and self._views.persons.erased_at(ordinal) is not None

    def _look(self, query: Query, moment: Moment, persons: int, hypothetical: bool, actor: str | None) -> None:
        kind = self._log.schemas.kind(AUDITED)
        record = kind.encode(
            {
                "recipient": query.recipient,
                "purpose": query.purpose,
                "actor": actor,
                "query": query_text(query),
                "position": moment.position,
                "time": moment.time,
                "hypothetical": hypothetical,
                "persons_count": persons,
            }
        )
        self._append_look(kind, record)

    def _append_look(self, kind: Kind, record: bytes) -> None:
        def job(append: Append, change: Change) -> None:
            name = f"audit-{append.position + 1}"
            event = Event(source=HUB, id=name, kind=AUDITED, data=kind.decode(record))
            identity = self._log.identify(event)
            entry = self._log.add(append, event, kind, record, received_at=append.now, identity=identity)
            change.append(entry, identity, NO_CLAIM)

        self._commits.run(job, rank="answer")

    def disclosures(self) -> list[int]:
        """The positions of all disclosures."""
        with self._log.entries.snapshot() as (connection, end):
            return uses.disclosures(connection, up_to=end.position)

    def trace(
        self,
        *,
        recipient: str | None = None,
        person: str | None = None,
        before: int | None = None,
        limit: int = 100,
        actor: str | None = None,
    ) -> list[dict[str, Any]]:
        """The disclosures, newest first: to whom, what for, how much; a look, which appends `view.audited`.

        recipient, person: only those to it, only those that showed the person. before: only those at an
        earlier position.
        """
        rows: list[dict[str, Any]] = []
        with self._log.entries.snapshot() as (connection, end):
            self._views.at(connection, end.position)
            number = None if recipient is None else self._log.keyring.number("recipient", recipient)
            ordinal = None if person is None else self._views.persons.ordinal(person) or 0
            up_to = end.position if before is None else min(before - 1, end.position)
            while len(rows) < limit:
                looked = self._looked_through(connection, number, ordinal, up_to)
                entries = self._log.read(connection, (position for position, _ in looked))
                for position, known in looked:
                    entry = entries[position]
                    if (
                        len(rows) < limit
                        and isinstance(entry, Entry)
                        and (known or self._showed(connection, entry, ordinal))
                    ):
                        rows.append(_disclosed(entry))
                if not looked:
                    break
                up_to = looked[-1][0] - 1
        asked = {
            "disclosures": {"recipient": recipient, "person": self._named(person), "before": before, "limit": limit}
        }
        self._looked(asked, end, recipient, len(rows), actor)
        return rows

    def _looked_through(
        self, connection: Connection, recipient: int | None, ordinal: int | None, up_to: int
    ) -> list[tuple[int, bool]]:
        """Disclosures, newest first, and whether each is known to be one of those asked for."""
        if ordinal and self._views.persons.erased_at(ordinal) is None:
            return index.found(
                self._log, connection, ordinal, after=0, before=up_to + 1, limit=_AT_ONCE, recipient=recipient
            )
        # of who is erased the index keeps nothing; the chunks still name the ordinal
        positions = uses.disclosures(connection, up_to=up_to, recipient=recipient, last=_AT_ONCE)
        return [(position, ordinal is None) for position in positions]

    def _named(self, person: str | None) -> str | None:
        return None if person is None else self._disclosure.name_of(person)

    def _showed(self, connection: Connection, entry: Entry, ordinal: int | None) -> bool:
        return ordinal in self._disclosure.named(connection, entry)[0]

    def events(self, *, after: int = 0, limit: int = 100, actor: str | None = None) -> list[dict[str, Any]]:
        """The entries of the log in order, opened where they can be; a look, which appends `view.audited`."""
        with self._log.entries.snapshot() as (connection, end):
            self._views.at(connection, end.position)  # of who is erased, by whichever process, no key is held then
            stop = min(after + limit, end.position)
            rows = [_entry_row(entry) for entry in self._log.scan(connection, after=after, stop=stop)]
        self._looked({"events": {"after": after, "limit": limit}}, end, None, len(rows), actor)
        return rows

    def looked(self, asked: Any, *, actor: str | None, recipient: str | None = None, count: int = 0) -> None:
        """Append `view.audited` for a look that another room takes. asked: what was asked; count: of how many persons.

        A person in it is named by `Disclosure.name_of`.
        """
        with self._log.entries.snapshot() as (_, end):
            pass
        self._looked(asked, end, recipient, count, actor)

    def _looked(self, asked: Any, end: Head, recipient: str | None, count: int, actor: str | None) -> None:
        kind = self._log.schemas.kind(AUDITED)
        data = {
            "recipient": recipient,
            "actor": actor,
            "query": text(asked),
            "position": end.position,
            "time": end.recorded_at or EPOCH,
            "hypothetical": False,
            "persons_count": count,
        }
        self._append_look(kind, kind.encode(data))

    def repeat(self, position: int) -> Repeated:
        """Decide a logged disclosure again, at its own position and time, and compare the bytes."""
        with self._log.entries.snapshot() as (connection, end):
            entry = self._log.read(connection, [position]).get(position)
            if not isinstance(entry, Entry) or entry.event.kind != DISCLOSED:
                raise PayloadError("is no disclosure", path="position")
            if entry.event.data["format"] == FIGURE_FORMAT:
                answer = self._statistics.repeat(connection, end.position, entry)
                shown = self._statistics.named(connection, entry)
            else:
                answer = self._disclosure.repeat(connection, end.position, entry)
                shown, _ = self._disclosure.named(connection, entry)
        data = entry.event.data
        same = answer_hash(data["salt"], answer.body) == data["answer_sha256"]
        return Repeated(
            answer=answer,
            same=same,
            destroyed=0 if same else answer.destroyed,
            erased=sum(self._views.persons.erased_at(ordinal) is not None for ordinal in shown),
        )

    def explain(
        self,
        *,
        recipient: str,
        purpose: str,
        person: str,
        kind: str | None = None,
        event: str | None = None,
        exercise: bool = False,
        position: int | None = None,
        time: datetime | None = None,
        actor: str | None = None,
    ) -> Explanation:
        """Why `recipient` sees something of `person`, or nothing: every grant, override and fact that bears on it.

        kind, event: only that kind, only the fact with that id. Someone who is not enrolled or erased is
        explained alike. It opens consents and times, so it is a look: it appends `view.audited`.
        """
        query = Query(
            recipient=recipient,
            purpose=purpose,
            exercise=exercise,
            kinds=(kind,) if kind else (),
            persons=(self._disclosure.name_of(person),),
        )
        with self._past(position, time) as (standing, moment, hypothetical):
            reading = Reading(standing.city, query.ask, moment)
            ordinal = self._views.persons.ordinal(person)
            if ordinal is None or not self._views.persons.enrolled_by(ordinal, moment.position):
                return Explanation(shown=False, lines=(_UNKNOWN,))
            explaining = _Explaining(self._log, self._views, standing, reading, ordinal)
            explanation = explaining.explain(kind, event)
        self._look(query, moment, 1, hypothetical, actor)
        return explanation

    def verify(self, *, views: bool = True) -> Verified:
        """As `hub.verifying`: every entry and, with `views`, every derived row proves itself. Raises Tampered, Busy."""
        return verify(self._log, views=views)


def _emergency(emergency: Emergency, time: datetime) -> dict[str, Any]:
    """One row of `hub emergencies --json`: since is where the run began, until where it ends or was lifted."""
    active, proposed = emergency.active(time), emergency.proposed
    waiting = proposed if proposed and not active and time < proposed.until else None
    last = waiting or (emergency.declarations[-1] if emergency.declarations else proposed or emergency.withdrawn)
    if last is None:
        raise Tampered("an emergency was neither proposed nor declared")
    since = last.recorded_at
    for before, after in zip(emergency.declarations[-2::-1], emergency.declarations[:0:-1], strict=False):
        if waiting is not None or not before.continued_by(after):
            break
        since = before.recorded_at
    until = last.until if last.lifted_at is None else min(last.until, last.lifted_at)
    state = "proposed" if waiting else "active" if active else "ended"
    return {
        "emergency": emergency.id,
        "hazard": emergency.hazard,
        "areas": sorted(last.areas),
        "since": timestamp(min(since, until)),  # one that was over when it came was never in force
        "until": timestamp(until),
        "exercise": emergency.exercise,
        "state": state,
    }


def _details(emergency: Emergency, time: datetime) -> dict[str, Any]:
    waiting = emergency.proposed if emergency.proposed and time < emergency.proposed.until else None
    last = emergency.declarations[-1] if emergency.declarations else None
    proposed = waiting and {
        "proposal": waiting.token,
        "hazard": waiting.hazard,
        "exercise": waiting.exercise,
        "areas": sorted(waiting.areas),
        "until": timestamp(waiting.until),
        "by": waiting.by,
    }
    said = last or emergency.proposed or emergency.withdrawn
    return {
        "by": said.by if said else None,
        "alone": last.alone if last else False,
        "mistaken": last.mistaken if last else False,
        "proposed": proposed,
    }


_MODE_JA = {"normal": "平時", "emergency": "有事", "exercise": "訓練"}
_BASIS_JA = {"grant": "同意", "override": "緊急閲覧"}
_UNKNOWN = Reason("no such person is enrolled", "この人は登録されていない", "R1a", False)


class _Explaining:
    """One person before one reading, asked step by step."""

    def __init__(self, log: Log, views: Views, standing: Standing, reading: Reading, ordinal: int) -> None:
        self._log, self._views, self._standing, self._reading = log, views, standing, reading
        self._ordinal = ordinal
        self._lines: list[Reason] = []

    def explain(self, kind: str | None, event: str | None) -> Explanation:
        policy = self._standing.policies([self._ordinal])[self._ordinal]
        place = self._standing.places([self._ordinal]).get(self._ordinal)
        case = self._reading.case(policy, place, self._standing.spent([(self._ordinal, policy)]))
        if isinstance(case, Obstacle):
            self._against("", "", case)
            return Explanation(shown=False, lines=tuple(self._lines))
        self._say(f"the person's mode is {case.mode}", f"本人のモードは{_MODE_JA[case.mode]}", "R10", True)
        openings = self._openings(case, policy)
        kinds = [k for k in self._reading.kinds() if kind in (None, k)]
        shown = [self._facts(openings, k, event) for k in kinds]
        if not any(shown) and not self._lines[1:]:
            self._say("the person granted nothing", "本人の同意がひとつもない", "R3", False)
        return Explanation(shown=any(shown), lines=tuple(self._lines))

    def _openings(self, case: Case, policy: Policy) -> list[Opening]:
        found = []
        for grant in policy.grants.values():
            obstacle = BLOCKED if case.blocks else self._reading.grant_obstacle(case, grant)
            if obstacle is None:
                found.append(self._reading.grant_opening(case, grant))
                self._say(f"grant {grant.id}: open", f"同意 {grant.id}: 開いている", "R4", True)
            else:
                self._against(f"grant {grant.id}", f"同意 {grant.id}", obstacle)
        for override in self._standing.city.overrides.values():
            if override.recipient != case.reader.id:
                continue
            obstacle = self._reading.override_obstacle(case, override)
            if obstacle is None:
                found.append(override_opening(override))
                self._say(f"override {override.id}: open", f"緊急閲覧 {override.id}: 開いている", "R14", True)
            else:
                self._against(f"override {override.id}", f"緊急閲覧 {override.id}", obstacle)
        return sorted(found, key=lambda opening: (opening.basis.limited, opening.basis.position))

    def _facts(self, openings: list[Opening], kind: str, event: str | None) -> bool:
        """Say of each fact of the kind whether it is shown; whether one is."""
        terms, exercise = self._standing.city.kinds[kind], self._reading.ask.exercise
        connection, position = self._standing.connection, self._standing.position
        history = self._views.facts.history(connection, [self._ordinal], terms, exercise, position)
        rows = history.get(self._ordinal, [])
        entries = self._log.read(connection, [row.position for row in rows])
        shown = False
        for row in rows:
            entry = entries[row.position]
            if isinstance(entry, Entry) and event in (None, entry.event.id):
                shown = self._fact(openings, kind, row, entry) or shown
        return shown

    def _fact(self, openings: list[Opening], kind: str, row: FactRow, entry: Entry) -> bool:
        name = f"{kind} {entry.event.id}"
        against: list[tuple[Opening, Obstacle]] = []
        for allowed, opening in self._reading.permits_of(openings, kind):
            obstacle = self._reading.fact_obstacle(opening, kind, allowed, row, self._in_grid)
            if obstacle is None:
                basis = opening.basis
                self._say(
                    f"{name}: shown at {allowed} by {basis.type} {basis.id}",
                    f"{name}: {allowed} で提供({_BASIS_JA[basis.type]} {basis.id})",
                    "R9a",
                    True,
                )
                return True
            against.append((opening, obstacle))
        for opening in openings:
            obstacle = self._reading.kind_obstacle(opening, kind)
            if obstacle is not None:
                against.append((opening, obstacle))
        if not against:
            self._say(f"{name}: nothing is open", f"{name}: 開いている同意がない", "R3", False)
        for opening, obstacle in against:
            basis = opening.basis
            words, words_ja = f"{name}, {basis.type} {basis.id}", f"{name}、{_BASIS_JA[basis.type]} {basis.id}"
            self._against(words, words_ja, obstacle)
        return False

    def _in_grid(self, position: Position) -> bool:
        return self._views.meshes(self._standing.connection, [position])[position] is not None

    def _say(self, english: str, japanese: str, rule: str, holds: bool) -> None:
        self._lines.append(Reason(english, japanese, rule, holds))

    def _against(self, name: str, name_ja: str, obstacle: Obstacle) -> None:
        english = f"{name}: {obstacle.text}" if name else obstacle.text
        japanese = f"{name_ja}: {obstacle.text_ja}" if name_ja else obstacle.text_ja
        self._say(english, japanese, obstacle.rule, False)


def _disclosed(entry: Entry) -> dict[str, Any]:
    """One row of the trace. Whom it showed stands in sealed chunks; a replay tells."""
    data = entry.event.data
    row = {name: data[name] for name in ("disclosure", "recipient", "actor", "purpose", "exercise", "format")}
    counts = {name: data[name] for name in ("persons_count", "items_count")}
    return {"position": entry.position, **row, "time": timestamp(data["time"]), "at": data["position"], **counts}


def _entry_row(entry: Entry | Closed) -> dict[str, Any]:
    """One row of the events; of one that cannot be read any more what still stands in the clear."""
    row = {"position": entry.position, "recorded_at": timestamp(entry.recorded_at), "kind": entry_kind(entry)}
    if isinstance(entry, Closed):
        return row | {"state": "closed", "reason": entry.reason}
    event = entry.event
    occurred = None if event.occurred_at is None else timestamp(event.occurred_at)
    about = {"person": event.person, "occurred_at": occurred, "exercise": event.exercise}
    return row | {"state": "open", "source": event.source, "id": event.id, **about, "data": plain(event.data)}
