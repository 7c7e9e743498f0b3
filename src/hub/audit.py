"""Looking back: what was answered, why, why not, and whether the log proves itself.

Replay asks the one path of `disclosure` at a past position and time; it is itself a look and appends
`view.audited`. `explain` asks the rules the same questions one by one. `verify` derives everything again
from the log and compares.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, MetaData, Table, exists, func, or_, select

from hub.answer import FIGURE_FORMAT, Answer, Query, answer_hash, query_text
from hub.canonical import plain, text, timestamp
from hub.commits import Commits
from hub.disclosure import Disclosure
from hub.errors import Busy, PayloadError, Tampered
from hub.events import EPOCH, Entry, Event, Position
from hub.intake import HUB
from hub.log import merkle, recorder, sealing
from hub.log.database import Beside, dialect
from hub.log.log import Closed, Log
from hub.log.recorder import NO_CLAIM, Append, Head
from hub.obstacles import BLOCKED, Obstacle
from hub.policy import Emergency, Policy
from hub.rules import Case, FactRow, Moment, Opening, Reading, override_opening
from hub.schemas import Kind
from hub.statistics import Statistics
from hub.views import index, uses
from hub.views.views import DISCLOSED, LAGGING, TABLES, Change, Standing, Views
from hub.waiting import Waiting

AUDITED = "view.audited"
INTRODUCED = "kind.introduced"

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What held. erased, ended: entries whose key was destroyed, by erasure or when the time to keep them ended."""

    size: int
    root: bytes
    opened: int
    erased: int
    ended: int
    disclosures: int
    view_rows: int

    @property
    def closed(self) -> int:
        """How many entries cannot be read any more."""
        return self.erased + self.ended


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
            answer = self._disclosure.decide(standing, query, moment.time)
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
        """Derive positions, leaves, root, identities, chunks and views from the log again, and compare.

        Raises Tampered with the first position that does not hold, Busy where keys were destroyed meanwhile.
        """
        ended = self._log.keyring.ended()
        try:
            return self._verify(views)
        except Tampered:
            if self._log.keyring.ended().keys() == ended.keys():
                raise
            raise Busy("hub retain destroyed keys meanwhile; verify again") from None

    def _verify(self, views: bool) -> Verified:
        offers = dialect(self._log.engine)
        with offers.beside(self._log.engine, [table for table in (*TABLES, *LAGGING) if views]) as beside:
            offers.check(beside.connection, "log")
            verifying = _Verifying(self._log, beside)
            verified = verifying.log()
            rows = verifying.views() if views else 0
        self._check_keys()
        self._log.kept.check(verified.introduced)
        return Verified(
            size=verified.tree.size,
            root=verified.tree.root(),
            opened=verified.opened,
            erased=verified.erased,
            ended=verified.ended,
            disclosures=verified.disclosures,
            view_rows=rows,
        )

    def _check_keys(self) -> None:
        """Every key that there is can be unwrapped, and what waits can be opened."""
        self._log.keyring.check()
        Waiting(self._log).check()


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


class _Verifying:
    """One pass over a log, beside empty copies of its views."""

    def __init__(self, log: Log, beside: Beside) -> None:
        self._log, self._beside, self._connection = log, beside, beside.connection
        self.tree = merkle.Frontier()
        self.opened = self.erased = self.ended = self.disclosures = 0
        self._identities = self._chunks = 0
        self._erased: set[int] = set()
        self.introduced: dict[str, str] = {}

    def log(self) -> _Verifying:
        """Positions, times, leaves, root, identities, payloads and chunks."""
        closed: list[Closed] = []
        last = 0
        for row in self._log.rows(self._connection):
            if row.position != self.tree.size + 1:
                raise Tampered("the entry before it is missing", position=row.position)
            self._leaf(row)
            if row.recorded_us < last:
                raise Tampered("it was recorded before the one before it", position=row.position)
            last = row.recorded_us
            entry = self._log.open(row)
            if isinstance(entry, Closed):
                closed.append(entry)
            else:
                self._entry(row, entry)
            if entry_kind(entry) == "person.erased":
                self._erased.add(row.subject)
        self._closed(closed)
        if self._connection.scalar(select(func.count()).select_from(recorder.chunk)) != self._chunks:
            raise Tampered("there are pieces that belong to no disclosure")
        self._head(last)
        self._identity()
        return self

    def _leaf(self, row: Any) -> None:
        try:
            hashed = merkle.leaf(
                position=row.position,
                recorded_us=row.recorded_us,
                subject=row.subject,
                identity=row.identity,
                identity_version=row.identity_version,
                claim=row.claim,
                topic=row.topic,
                state=row.state,
                commitment=sealing.parse(row.state).commitment,
            )
        except (Tampered, struct.error, TypeError, ValueError, AttributeError):
            raise Tampered("it has not the form of an entry", position=row.position) from None
        if hashed != row.leaf:
            raise Tampered("the entry is not the one whose hash was kept", position=row.position)
        self.tree.extend([hashed])
        for digest, version in ((row.identity, row.identity_version), (row.claim, 0)):
            if digest:
                self._identities += _number(digest, version, row.position)

    def _entry(self, row: Any, entry: Entry) -> None:
        self.opened += 1
        if entry.event.kind == INTRODUCED and entry.event.data["schema"] and entry.event.data["schema_sha256"]:
            self.introduced[entry.event.data["schema"]] = entry.event.data["schema_sha256"]
        if self._log.identify(entry.event) != row.identity:
            raise Tampered("the event's identity is not its own", position=row.position)
        if entry.event.kind == DISCLOSED:
            self.disclosures += 1
            try:
                pieces = self._log.chunks(self._connection, row.position)
            except (Tampered, OverflowError):
                raise Tampered("a piece beside it was changed", position=row.position) from None
            self._chunks += len(pieces)
            if [hashlib.sha256(piece).digest() for piece in pieces] != entry.event.data["chunks"]:
                raise Tampered("the persons shown are not those that were written", position=row.position)

    def _closed(self, closed: Iterable[Closed]) -> None:
        """A payload may be unreadable only where its person was erased or its month's tombstone stands.

        A month's key that is missing without one was found when the entry was opened.
        """
        for entry in closed:
            if entry.reason == "retention ended":
                self.ended += 1
                continue
            if entry.subject not in self._erased:
                raise Tampered("its key is missing, though nobody erased the person", position=entry.position)
            self.erased += 1

    def _head(self, last: int) -> None:
        rows = self._connection.execute(select(recorder.head).order_by(recorder.head.c.id)).all()
        if not rows:
            raise Tampered("the log has lost its head")
        head, *others = rows
        if others:
            raise Tampered("the log has more than one head")
        if (head.position, head.recorded_us) != (self.tree.size, last if self.tree.size else head.recorded_us):
            raise Tampered("the end of the log is missing, or its head was changed", position=head.position)
        if head.frontier != self.tree.encode():
            raise Tampered("the root of the log is not the one that was kept", position=head.position)

    def _identity(self) -> None:
        found = 0
        for row in self._connection.execute(select(recorder.identity)):
            found += _number(row.digest, row.version, row.position)
        if found != self._identities:
            raise Tampered("the table of identities does not follow from the log")

    def views(self) -> int:
        """Every view, derived again beside it, equals what stands; returns the number of rows."""
        Views(self._log).derive(self._connection)
        count = 0
        for table in TABLES:
            standing = _rows(self._connection, table, self._beside.kept)
            derived = _rows(self._connection, table, self._beside.copies)
            if standing != derived:
                raise Tampered(f"the view {table.name} does not follow from the log; run: hub rebuild")
            count += standing[0]
        self._index()
        return count

    def _index(self) -> None:
        """The index of disclosures by person: all rows are true, and of a disclosure that it holds none is missing."""
        schemas = self._beside.kept, self._beside.copies
        standing, derived = (index.shown.to_metadata(MetaData(), schema=schema) for schema in schemas)
        same = [mine == other for mine, other in zip(standing.columns, derived.columns, strict=True)]
        held = or_(
            derived.c.position <= index.whole(self._connection), derived.c.position.in_(select(index.ahead.c.position))
        )
        strange = select(standing.c.person).where(~exists(select(derived.c.person).where(*same)))
        missing = select(derived.c.person).where(held, ~exists(select(standing.c.person).where(*same)))
        if any(self._connection.execute(query.limit(1)).first() for query in (strange, missing)):
            raise Tampered(f"the view {index.shown.name} does not follow from the log; run: hub rebuild")


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


def entry_kind(entry: Entry | Closed) -> str:
    """The kind of an entry, opened or not."""
    return entry.kind if isinstance(entry, Closed) else entry.event.kind


def _number(digest: bytes, version: int, position: int) -> int:
    """A number for one row, so that sets of rows can be compared by their sum."""
    row = repr((digest, version, position)).encode()
    return int.from_bytes(hashlib.sha256(row).digest())


def _rows(connection: Connection, table: Table, schema: str) -> tuple[int, str]:
    """The number of rows and a hash over them, in the order of their key."""
    copy = table.to_metadata(MetaData(), schema=schema)
    hashed, count = hashlib.sha256(), 0
    for row in connection.execute(select(copy).order_by(*copy.primary_key.columns)):
        hashed.update(repr(tuple(row)).encode())
        count += 1
    return count, hashed.hexdigest()
