"""What others ask for in their own form: consent records (JSON-LD), and the record of provisions (CSV).

A consent record has the structure of ISO/IEC TS 27560:2023 in the terms of the W3C's DPV 2.2; what DPV has
no word for stands under our own `hub:`. docs/records.md says what is in them and what is not. Nothing is
appended here: who asks appends the look, before a byte is written.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hub.canonical import dumps, plain, timestamp
from hub.errors import Misuse
from hub.events import (
    ConsentDeclined,
    ConsentGranted,
    ConsentRequested,
    ConsentRevoked,
    DataFrom,
    Entry,
    To,
    control,
)
from hub.log.log import Log
from hub.policy import ALL, City, Policy
from hub.traces import Sighting, Trace, Traces
from hub.views import uses
from hub.views.views import Standing, Views

TOKYO = timezone(timedelta(hours=9))
"""Japan has kept one time all the year since 1952."""

ARTICLES = {"life_protection": "個人情報保護法27条1項2号", "roster": "災害対策基本法49条の11第3項"}
"""The article that a basis of an override rests on (R14)."""

COLUMNS = (
    "提供年月日 date",
    "提供日時 time_utc",
    "提供先 recipient",
    "提供先の分類 class",
    "担当者 actor",
    "本人 person",
    "項目 items",
    "根拠 ground",
    "根拠のID ground_id",
    "利用目的 purpose",
    "訓練 exercise",
    "提供のID disclosure",
)
_LOST = "(保存期間の終了により不明)"
_ERASED = "(消去により不明)"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_AT_ONCE = 200
_URN = "urn:saigai-hub:"
_TIME = {"@type": "http://www.w3.org/2001/XMLSchema#dateTime"}

CONTEXT: Mapping[str, Any] = {
    "@version": 1.1,
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "hub": f"{_URN}vocab:",
    "legal-jp": "https://w3id.org/dpv/legal/jp#",
    "loc": "https://w3id.org/dpv/loc#",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dct:created": {"@id": "http://purl.org/dc/terms/created", **_TIME},
    "dpv:isIndicatedAtTime": {"@id": "https://w3id.org/dpv#isIndicatedAtTime", **_TIME},
    "hub:from": {"@id": f"{_URN}vocab:from", **_TIME},
    "hub:precision": {"@id": f"{_URN}vocab:precision", "@type": "@json"},
    "hub:validFrom": {"@id": f"{_URN}vocab:validFrom", **_TIME},
    "hub:validUntil": {"@id": f"{_URN}vocab:validUntil", **_TIME},
}
"""Inline, so that a record is read without a network."""


class Records:
    """Writes the records of one log."""

    def __init__(self, log: Log, views: Views, traces: Traces) -> None:
        self._log, self._views, self._traces = log, views, traces

    def persons(self, person: str | None = None) -> int:
        """Of how many persons `consent_records` tells now: those who are enrolled and not erased."""
        with self._log.entries.snapshot() as (connection, end):
            self._views.at(connection, end.position)
            return len(self._ordinals(person, end.position))

    def _ordinals(self, person: str | None, position: int) -> list[int]:
        known = self._views.persons
        if person is None:
            return sorted(known.present(position))
        ordinal = known.ordinal(person)
        return [ordinal] if ordinal is not None and known.enrolled_by(ordinal, position) else []

    def consent_records(self, person: str | None = None) -> Iterator[bytes]:
        """One JSON-LD document, in pieces: a record of every grant ever made and of every request that was declined.

        person: only theirs. In the order of enrolment, then of the log; canonical JSON throughout, so that an
        equal log at an equal time gives equal bytes. Who is erased is left out.
        """
        with self._log.entries.snapshot() as (connection, end):
            self._views.at(connection, end.position)
            position, ordinals = end.position, self._ordinals(person, end.position)
            now = self._log.clock.now() if end.recorded_at is None else max(self._log.clock.now(), end.recorded_at)
        yield b'{"@context":' + dumps(CONTEXT) + b',"@graph":['
        comma = b""
        for at in range(0, len(ordinals), _AT_ONCE):
            for record in self._records(ordinals[at : at + _AT_ONCE], position, now):
                yield comma + dumps(record)
                comma = b",\n"
        yield b"]}\n"

    def _records(self, ordinals: list[int], position: int, now: datetime) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with self._log.entries.snapshot() as (connection, end):
            standing = self._views.at(connection, end.position, position)
            present = [o for o in ordinals if self._views.persons.enrolled_by(o, position)]
            names, policies = self._views.persons.names(connection, present), standing.policies(present)
            said = self._views.pointers.said(connection, present, position)
            entries = self._log.read(connection, (at for positions in said.values() for at in positions))
            for ordinal, name in names.items():
                told = [entry for at in said[ordinal] if isinstance(entry := entries[at], Entry)]
                consents = _Consents(self, standing, name, now)
                found += map(plain, consents.records(told, policies[ordinal], ordinal))
        return found

    def provisions(self, since: datetime, until: datetime, *, exercises: bool = False) -> Iterator[bytes]:
        """The record of provisions decided in [since, until), oldest first: CSV with a byte order mark, in pieces.

        A line for each disclosure, person and ground; of those erased since, one line a disclosure with their
        number. Figures of statistics name nobody and are left out. exercises: drills too.
        """
        yield b"\xef\xbb\xbf" + _line(COLUMNS)
        for trace in self._traces.disclosures(since, until):
            if trace.counted or (trace.exercise and not exercises):
                continue
            if trace.sightings or trace.erased:
                city = self._city(trace.position)
                yield b"".join(_line(row) for row in _provisions(trace, city))

    def _city(self, position: int) -> City:
        with self._log.entries.snapshot() as (connection, end):
            return self._views.at(connection, end.position, position).city


@dataclass(slots=True)
class _Course:
    """What became of one grant."""

    entry: Entry
    grant: ConsentGranted
    request: tuple[Entry, ConsentRequested] | None
    revoked: tuple[datetime, str | None] | None = None


class _Consents:
    """The consents of one person."""

    def __init__(self, records: Records, standing: Standing, person: str, now: datetime) -> None:
        self._log, self._views = records._log, records._views
        self._standing, self._person, self._now = standing, person, now

    def records(self, entries: Iterable[Entry], policy: Policy, ordinal: int) -> list[dict[str, Any]]:
        """One a grant and a declined request, in order. entries: the person's control events, in order."""
        requests: dict[str, tuple[Entry, ConsentRequested]] = {}
        courses: dict[str, _Course] = {}
        declined: list[tuple[Entry, dict[str, Any]]] = []
        for entry in entries:
            match said := control(entry.event):
                case ConsentRequested():
                    requests[said.request] = entry, said
                case ConsentGranted():
                    asked = requests.get(entry.event.data.get("request") or "")
                    courses[said.grant] = _Course(entry, said, asked)
                case ConsentRevoked():
                    for course in courses.values():
                        if said.grant in (ALL, course.grant.grant) and course.revoked is None:
                            course.revoked = entry.recorded_at, said.by
                case ConsentDeclined():
                    if said.request in requests:
                        declined.append((entry, self._declined(entry, said, requests[said.request])))
                case _:
                    pass
        taken = uses.takings(self._standing.connection, ordinal, self._standing.position)
        found = [(c.entry, self._granted(c, policy, taken.get(c.entry.position, []))) for c in courses.values()]
        return [record for _, record in sorted(found + declined, key=lambda pair: pair[0].position)]

    def _granted(self, course: _Course, policy: Policy, taken: list[int]) -> dict[str, Any]:
        grant, entry = course.grant, course.entry
        events = [] if course.request is None else [self._requested(*course.request)]
        events.append(self._event("ConsentGiven", entry.recorded_at, grant.by or self._person))
        end = self._end(course, taken)
        record = {
            "@id": _urn("consent", grant.grant),
            "dct:created": timestamp(entry.recorded_at),
            "dct:identifier": grant.grant,
            "dpv:hasConsentStatus": events + ([end] if end else []),
            "dpv:hasDuration": _durations(grant),
            "dpv:hasProcess": self._process(grant.kinds, grant.purposes, _recipient(grant.to), _terms(grant, entry)),
            **self._common(),
        }
        if grant.notice is not None:
            notice = grant.notice
            record["dpv:hasProcess"]["dpv:hasLegalBasis"] = {"@id": "dpv:ExpressedConsent"}  # which DPV has be informed
            record["dpv:hasNotice"] = {
                "@id": _urn("notice", f"{notice.id}:{notice.version}:{notice.language}"),
                "@type": "dpv:ConsentNotice",
                "dct:identifier": notice.id,
                "dct:language": notice.language,
                "hub:sha256": notice.sha256,
                "hub:version": notice.version,
            }
        if grant.uses is not None:
            record["hub:used"] = len(taken)
        if grant.by not in (None, self._person):
            record["hub:delegationActive"] = policy.delegated(str(grant.by), self._now)
        return record

    def _end(self, course: _Course, taken: list[int]) -> dict[str, Any] | None:
        """What ended the grant first: its time, its last use, or a revocation; None while it runs."""
        grant = course.grant
        ends: list[tuple[datetime, dict[str, Any]]] = []
        if grant.valid_until is not None and grant.valid_until <= self._now:
            ends.append((grant.valid_until, {"hub:endedBy": "time"}))
        if grant.uses is not None and len(taken) >= grant.uses:
            last = self._log.recorded_at(self._standing.connection, sorted(taken)[grant.uses - 1])
            ends.append((last or self._now, {"hub:endedBy": "uses"}))
        if course.revoked is not None:
            time, by = course.revoked
            own = by in (None, self._person)
            ends.append((time, self._event("ConsentWithdrawn" if own else "ConsentRevoked", time, by or self._person)))
        if not ends:
            return None
        time, event = min(ends, key=lambda end: end[0])
        return event if "@type" in event else {**self._event("ConsentExpired", time, None), **event}

    def _declined(self, entry: Entry, said: ConsentDeclined, asked: tuple[Entry, ConsentRequested]) -> dict[str, Any]:
        request = asked[1]
        recipient = _recipient(To(recipient=request.recipient))
        return {
            "@id": _urn("request", request.request),
            "dct:created": timestamp(entry.recorded_at),
            "dct:identifier": request.request,
            "dpv:hasConsentStatus": [
                self._requested(*asked),
                self._event("ConsentRefused", entry.recorded_at, said.by or self._person),
            ],
            "dpv:hasProcess": self._process(request.kinds, (request.purpose,), recipient, {}),
            **self._common(),
        }

    def _common(self) -> dict[str, Any]:
        return {
            "@type": "dpv:ConsentRecord",
            "dct:conformsTo": {"@id": "https://w3id.org/dpv/schema/dpv-27560#record"},
            "dpv:hasDataSubject": {
                "@id": _urn("person", self._person),
                "@type": "dpv:DataSubject",
                "dct:identifier": self._person,
            },
        }

    def _process(
        self, kinds: Iterable[str], purposes: Iterable[str], recipient: dict[str, Any], terms: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "@type": "dpv:Process",
            "dpv:hasApplicableLaw": {"@id": "legal-jp:law-APPI"},
            "dpv:hasDataController": {"@id": _urn("controller", "city"), "@type": "dpv:DataController"},
            "dpv:hasJurisdiction": {"@id": "loc:JP"},
            "dpv:hasLegalBasis": {"@id": "dpv:Consent"},
            "dpv:hasPersonalData": [_named("kind", kind, "dpv:PersonalData") for kind in kinds],
            "dpv:hasProcessing": {"@id": "dpv:Disclose"},
            "dpv:hasPurpose": [_named("purpose", purpose, "dpv:Purpose") for purpose in purposes],
            "dpv:hasRecipient": recipient,
            **terms,
        }

    def _requested(self, entry: Entry, said: ConsentRequested) -> dict[str, Any]:
        asker = _recipient(To(recipient=said.recipient))
        return {
            "@type": "dpv:ConsentRequested",
            "dct:identifier": said.request,
            "dpv:isIndicatedAtTime": timestamp(entry.recorded_at),
            "dpv:isIndicatedBy": asker,
        }

    def _event(self, state: str, time: datetime, by: str | None) -> dict[str, Any]:
        event: dict[str, Any] = {"@type": f"dpv:{state}", "dpv:isIndicatedAtTime": timestamp(time)}
        if by is not None:
            event["dpv:isIndicatedBy"] = self._who(by)
        return event

    def _who(self, by: str) -> dict[str, Any]:
        """Whoever acted: the person, or another, whose id is left out where they are erased."""
        if by == self._person:
            return {"@id": _urn("person", by)}
        ordinal = self._views.persons.ordinal(by)
        if ordinal is not None and self._views.persons.erased_at(ordinal) is not None:
            return {"@type": "dpv:Entity"}
        return {"@id": _urn("actor", by), "@type": "dpv:Entity", "dct:identifier": by}


def _urn(what: str, name: str) -> str:
    return f"{_URN}{what}:{quote(name, safe=':')}"


def _named(what: str, name: str, type_: str) -> dict[str, Any]:
    return {"@id": _urn(what, name), "@type": type_, "dct:identifier": name}


def _recipient(to: To) -> dict[str, Any]:
    if to.recipient is not None:
        return _named("recipient", to.recipient, "dpv:Recipient")
    what, name = ("class", to.class_) if to.class_ is not None else ("relation", to.relation)
    return {**_named(what, str(name), "dpv:Recipient"), f"hub:{what}": name}


def _durations(grant: ConsentGranted) -> list[dict[str, Any]]:
    """How long the consent is to last: to a time, for a number of uses, and in any case until it is withdrawn."""
    found: list[dict[str, Any]] = [{"@type": "dpv:UntilEventDuration", "rdf:value": "dpv:ConsentWithdrawn"}]
    if grant.valid_until is not None:
        found.append({"@type": "dpv:UntilTimeDuration", "rdf:value": timestamp(grant.valid_until)})
    if grant.uses is not None:
        found.append({"@type": "dpv:FixedOccurrencesDuration", "rdf:value": grant.uses})
    return found


def _terms(grant: ConsentGranted, entry: Entry) -> dict[str, Any]:
    """What the hub's rules know of a grant beyond the standard (R4-R9a, R19)."""
    window = grant.data
    return {
        "hub:approves": grant.approves,
        "hub:ask": grant.ask,
        "hub:from": timestamp(window.from_) if isinstance(window, DataFrom) else None,
        "hub:modes": list(grant.modes),
        "hub:precision": None if grant.precision is None else plain(grant.precision),
        "hub:uses": grant.uses,
        "hub:validFrom": timestamp(max(grant.valid_from or entry.recorded_at, entry.recorded_at)),
        "hub:validUntil": None if grant.valid_until is None else timestamp(grant.valid_until),
        "hub:window": "from" if isinstance(window, DataFrom) else window or _default_window(grant),
    }


def _default_window(grant: ConsentGranted) -> str:
    return "since_grant" if "normal" in grant.modes else "latest"


def _provisions(trace: Trace, city: City) -> Iterator[list[str]]:
    """The lines of one disclosure."""
    known = city.recipients.get(trace.recipient)
    head = [
        trace.time.astimezone(TOKYO).date().isoformat(),
        timestamp(trace.time),
        trace.recipient,
        "" if known is None else known.class_,
        trace.actor or "",
    ]
    tail = [trace.purpose, "訓練" if trace.exercise else "", trace.disclosure]
    for sighting in trace.sightings:
        for ground, ground_id, items in _grounds(sighting, city):
            yield [*head, sighting.person, items, ground, ground_id, *tail]
    if trace.erased:
        yield [*head, f"(消去された本人 {trace.erased}人)", _ERASED, _ERASED, "", *tail]


def _grounds(sighting: Sighting, city: City) -> Iterator[tuple[str, str, str]]:
    """By ground: its name, its id, and the items that were shown on it."""
    if not sighting.kinds:
        yield _LOST, "", _LOST
    for basis in sorted({(shown.basis_type, shown.basis) for shown in sighting.kinds}):
        items = [
            f"{shown.kind}({shown.level}){shown.items}件"
            for shown in sighting.kinds
            if (shown.basis_type, shown.basis) == basis
        ]
        yield _ground(*basis, city), basis[1], "、".join(items)


def _ground(type_: str, name: str, city: City) -> str:
    if type_ == "grant":
        return "本人の同意"
    override = city.overrides.get(name)
    return "法令に基づく緊急閲覧" if override is None else f"法令に基づく緊急閲覧({ARTICLES[override.basis]})"


def _line(cells: Iterable[str]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return out.getvalue().encode()


def _cell(text: str) -> str:
    """A text that a spreadsheet would run as a formula is preceded by an apostrophe."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def write(out: str, pieces: Iterable[bytes]) -> None:
    """Write a file that its owner alone reads, whole or not at all; `-` is standard output."""
    if out == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    path = Path(out)
    try:
        descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    except OSError:
        raise Misuse("--out names no place where a file can be made") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(made)
        raise
