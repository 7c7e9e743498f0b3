"""Answers a person's questions about themselves, and turns their answers into events."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from hub.canonical import plain, timestamp
from hub.citizen import requests
from hub.citizen.notices import Notices
from hub.citizen.preview import Sees, preview
from hub.citizen.requests import CHOSEN, Request
from hub.errors import PayloadError, Refused
from hub.events import ConsentGranted, Entry, Event, Mode, Position, PreferencesChanged, control
from hub.log.log import Closed, Log
from hub.policy import Grant
from hub.rules import Ask, Case, Moment, Reading, levels_of, mode_of
from hub.traces import Sighting, Traces
from hub.views.views import Views

Row = dict[str, Any]

GRANTED = "consent.granted"
_GROUNDS = {"grant": ("your consent", "あなたの同意"), "override": ("a look without consent", "緊急閲覧")}
_AT_ONCE = 500
_TYPES = {
    "asked": ("{who} asks to see: {what}", "{who}が次のデータの閲覧を求めています: {what}"),
    "every_time": ("{who} asks to see once: {what}", "{who}が次のデータを一度だけ閲覧したいと求めています: {what}"),
    "new_kind": (
        "There is a new kind of data; do you wish to show it to {who}? {what}",
        "新しい種別のデータがあります。{who}にも見せますか: {what}",
    ),
    "expired": (
        "Your consent for {who} has ended; do you wish to renew it? {what}",
        "{who}への同意は期限が切れました。更新しますか: {what}",
    ),
}
_PATTERNS = {"*": ("all data", "すべてのデータ"), "care.*": ("all care data", "医療・介護のデータすべて")}


class Citizen:
    """The citizen's side of one hub."""

    def __init__(self, log: Log, views: Views, traces: Traces) -> None:
        self._log, self._views, self._traces = log, views, traces
        self._notices = Notices(log, views, traces)

    def preferences(self, person: str) -> Row:
        """How often the person wishes to be asked: `ask`, by recipient, and their language."""
        found = self._preferences(person)
        return {"ask": found.ask or "once", "recipients": dict(found.recipients), "language": found.language}

    def ask_of(self, person: str, recipient: object) -> str | None:
        """The cadence for a new grant to `recipient`, where the grant says none; None where the person set none."""
        found = self._preferences(person)
        return found.recipients.get(recipient, found.ask) if isinstance(recipient, str) else found.ask

    def _preferences(self, person: str) -> PreferencesChanged:
        with self._log.entries.snapshot() as (connection, end):
            self._views.at(connection, end.position)
            ordinal = self._ordinal(person, end.position)
            kinds = ["preferences.changed"]
            found = self._views.pointers.events(connection, ordinal, end.position, kinds) if ordinal else []
        said = control(found[-1].event) if found else None
        return said if isinstance(said, PreferencesChanged) else PreferencesChanged(person=person)

    def requests(self, person: str, *, located: bool = True) -> list[Row]:
        """What waits for the person's answer, oldest first; of someone who is not enrolled nothing (R20).

        located: whether where the person is counts; not for a delegate, who would learn it.
        """
        return [self._request_row(request) for request in self._pending(person, located=located)]

    def answer(
        self, person: str, answers: Sequence[Mapping[str, Any]], *, located: bool = True
    ) -> list[Event | PayloadError | Refused]:
        """The events that the answers come to, or what is wrong with each.

        answers: `{"request", "answer": "approve" | "refuse", "grant"?: what is granted otherwise than asked}`, of that
        form. The event of a request has one id, whatever the answer: it can be given once.
        """
        waiting = {request.id: request for request in self._pending(person, located=located)}
        found: list[Event | PayloadError | Refused] = []
        for number, said in enumerate(answers):
            try:
                found.append(self._answered(person, waiting, said))
            except PayloadError as error:
                found.append(PayloadError(error.reason, path=f"answers[{number}].{error.path}", kind=error.kind))
            except Refused as error:
                found.append(error)
        return found

    def _answered(self, person: str, waiting: Mapping[str, Request], said: Mapping[str, Any]) -> Event:
        name, answer, chosen = said["request"], said["answer"], said.get("grant")
        chosen = {} if chosen is None else chosen
        request = waiting.get(name)
        if request is None:
            raise Refused("nothing waits under this id; it may be answered already", rule="R8", path="request")
        fixed = {"uses", "ask", "data"} if request.type == "every_time" else set()
        if set(chosen) - (set(CHOSEN) - fixed):
            raise PayloadError(f"may say {', '.join(sorted(set(CHOSEN) - fixed))}", path="grant")
        unique = self._log.keyring.digest("answer", person, request.id).hex()
        if answer == "refuse":
            return self._event("consent.declined", person, unique, {"request": request.id})
        data = {"grant": unique, **request.approval, **chosen}
        if request.type == "asked" and data.get("ask") is None:
            data["ask"] = self.ask_of(person, request.approval["to"].get("recipient"))
        return self._event(GRANTED, person, unique, data)

    def _event(self, kind: str, person: str, unique: str, data: Mapping[str, Any]) -> Event:
        return Event(source="api", id=f"answer:{unique}", kind=kind, person=person, data=dict(data))

    def _pending(self, person: str, *, located: bool) -> list[Request]:
        with self._log.entries.snapshot() as (connection, end):
            standing = self._views.at(connection, end.position)
            ordinal = self._ordinal(person, end.position)
            if not ordinal:
                return []
            now = self._now(end.recorded_at)
            entries = self._views.pointers.events(connection, ordinal, end.position)
            policy = standing.policies([ordinal])[ordinal]
            place = standing.places([ordinal]).get(ordinal) if located else None
            mode, spent = mode_of(policy, standing.city, place, now), standing.spent([(ordinal, policy)])

            def reaches(recipient: str, purpose: str, grant: Grant) -> bool:
                moment = Moment(position=Position(standing.position), time=now)
                reading = Reading(standing.city, Ask(recipient=recipient, purpose=purpose), moment)
                case = reading.case(policy, place, spent)
                return isinstance(case, Case) and reading.reach_obstacle(case, grant) is None

            return requests.pending(entries, policy, standing.city, mode, now, self._log.keyring, reaches)

    def _request_row(self, request: Request) -> Row:
        english, japanese = _TYPES[request.type]
        to, kinds = request.approval["to"], request.approval["kinds"]
        [who] = to.values()
        return {
            "request": request.id,
            "type": request.type,
            "since": timestamp(request.since),
            "until": None if request.until is None else timestamp(request.until),
            "grant": request.grant,
            "message": request.message,
            "would_grant": plain({k: v for k, v in request.approval.items() if k != "request"}),
            "text": english.format(who=who, what=", ".join(self.words(kind)[0] for kind in kinds)),
            "text_ja": japanese.format(who=who, what="、".join(self.words(kind)[1] for kind in kinds)),
        }

    def words(self, kind: str) -> tuple[str, str]:
        """A kind in words, English and Japanese: the first sentence of its schema; a pattern as it stands."""
        schema = self._log.schemas.newest(kind)
        if schema is None:
            return _PATTERNS.get(kind, (f"everything of {kind}", f"{kind} のすべて"))
        english, japanese = str(schema.schema["doc"]), str(schema.schema["doc_ja"])
        return english.partition(". ")[0].rstrip("."), japanese.partition("。")[0]

    def notices(self, person: str, *, located: bool = True) -> list[Row]:
        """What the person should know, newest first. located: as for `requests`."""
        with self._log.entries.snapshot() as (connection, end):
            self._views.at(connection, end.position)
            ordinal = self._ordinal(person, end.position)
        return self._notices.of(person, ordinal, located=located) if ordinal else []

    def disclosures(self, person: str, *, before: int | None = None, limit: int = 100) -> tuple[list[Row], int | None]:
        """Who looked, at what, what for, on which ground, newest first; and the position behind which it goes on."""
        found = self._traces.of_person(person, before=before, limit=limit)
        last = found[-1].position if len(found) == limit else None
        return [self._disclosed(sighting) for sighting in found], last

    def _disclosed(self, sighting: Sighting) -> Row:
        kinds = "、".join(self.words(shown.kind)[1] for shown in sighting.kinds)
        seen = ", ".join(self.words(shown.kind)[0] for shown in sighting.kinds)
        if not sighting.kinds:
            seen, kinds = "what was shown has been destroyed since", "見た内容は保存期間が過ぎ、消去されました"
        drill, drill_ja = (" (a drill)", "(訓練)") if sighting.exercise else ("", "")
        grounds = sorted({(shown.basis_type, shown.basis) for shown in sighting.kinds})
        ground = ", ".join(f"{_GROUNDS[basis][0]} {name}" for basis, name in grounds)
        ground_ja = "、".join(f"{_GROUNDS[basis][1]} {name}" for basis, name in grounds)
        did, did_ja = "saw", "見ました"
        if sighting.counted:
            did, did_ja = "counted you, without your name, in statistics", "統計のために名前なしで数えました"
        return {
            "disclosure": sighting.disclosure,
            "statistics": sighting.counted,
            "time": timestamp(sighting.time),
            "recipient": sighting.recipient,
            "actor": sighting.actor,
            "purpose": sighting.purpose,
            "mode": sighting.mode,
            "exercise": sighting.exercise,
            "items": [
                {
                    "kind": shown.kind,
                    "precision": shown.level,
                    "count": shown.items,
                    "basis": {shown.basis_type: shown.basis},
                }
                for shown in sighting.kinds
            ],
            "text": f"{sighting.recipient} {did}, for {sighting.purpose}{drill}: {seen}. Ground: {ground or 'unknown'}",
            "text_ja": f"{sighting.recipient}が、{sighting.purpose}のために{did_ja}{drill_ja}: "
            f"{kinds}。根拠: {ground_ja or '不明'}",
        }

    def preview(self, person: str, grant: Mapping[str, Any] | None, mode: Mode, *, located: bool = True) -> list[Row]:
        """What recipients would see if the person granted this and their mode were `mode`. located: as for `requests`.

        Raises PayloadError for a grant that the schema does not hold.
        """
        thought = None
        if grant is not None:
            kind = self._log.schemas.kind(GRANTED)
            if not isinstance(to := grant.get("to"), Mapping) or len(to) != 1:
                raise PayloadError("names not exactly one of recipient, class, relation", path="to", kind=GRANTED)
            ask = grant.get("ask") or self.ask_of(person, to.get("recipient"))
            own = {"grant": os.urandom(16).hex(), "approves": None, "by": None, "ask": ask}
            data = kind.decode(kind.encode({**grant, **own}))
            said = control(Event(source="api", id="preview", kind=GRANTED, person=person, data=data))
            thought = said if isinstance(said, ConsentGranted) else None
        with self._log.entries.snapshot() as (connection, end):
            standing = self._views.at(connection, end.position)
            ordinal = self._ordinal(person, end.position)
            if not ordinal:
                return []
            moment = Moment(position=standing.position, time=self._now(end.recorded_at))  # type: ignore[arg-type]
            found = preview(standing, self._log.schemas, ordinal, thought, mode, moment, located=located)
        return [self._seen(sees) for sees in found]

    def _seen(self, sees: Sees) -> Row:
        english, japanese = self.words(sees.kind)
        return {
            "recipient": sees.recipient,
            "class": sees.class_,
            "purpose": sees.purpose,
            "kind": sees.kind,
            "precision": sees.precision,
            "finest": sees.precision == levels_of(sees.kind)[0],
            "fields": list(sees.fields),
            "new": sees.new,
            "text": f"{sees.recipient} would see, for {sees.purpose}: {english} ({sees.precision})",
            "text_ja": f"{sees.recipient}が、{sees.purpose}のために見られる: {japanese}({sees.precision})",
        }

    def export(self, person: str) -> Iterator[Row]:
        """All that the log holds about the person, in order: what was said and what was reported."""
        with self._log.entries.snapshot() as (connection, end):
            self._views.at(connection, end.position)
            ordinal = self._ordinal(person, end.position)
            positions = sorted(self._views.positions_of(connection, ordinal, end.position)) if ordinal else []
        for at in range(0, len(positions), _AT_ONCE):
            with self._log.entries.snapshot() as (connection, end):
                self._views.at(connection, end.position)  # who is erased meanwhile is told nothing more
                entries = self._log.read(connection, positions[at : at + _AT_ONCE])
            yield from (_exported(entry) for _, entry in sorted(entries.items()))

    def _ordinal(self, person: str, position: int) -> int:
        """The person's ordinal; 0 for who is not enrolled, or erased."""
        ordinal = self._views.persons.ordinal(person)
        return ordinal if ordinal is not None and self._views.persons.enrolled_by(ordinal, position) else 0

    def _now(self, last: datetime | None) -> datetime:
        now = self._log.clock.now()
        return now if last is None else max(now, last)


def _exported(entry: Entry | Closed) -> Row:
    if isinstance(entry, Closed):
        return {"kind": entry.kind, "recorded_at": timestamp(entry.recorded_at), "destroyed": entry.reason}
    event = entry.event
    return {
        "kind": event.kind,
        "version": entry.version,
        "source": event.source,
        "id": event.id,
        "occurred_at": None if event.occurred_at is None else timestamp(event.occurred_at),
        "recorded_at": timestamp(entry.recorded_at),
        "exercise": event.exercise,
        "data": plain(event.data),
    }
