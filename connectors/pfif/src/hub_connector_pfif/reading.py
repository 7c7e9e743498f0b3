"""All that one payload says: answers, and retractions for records that have expired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from hub.connector import Event, PayloadError, Rejected, Translation
from hub.connector.xml import Node
from hub_connector_pfif import feed, notes
from hub_connector_pfif.feed import Feed
from hub_connector_pfif.notes import Note


def translated(found: Feed, domain: str | None) -> Translation:
    """What the records say. domain: ours; notes that went out from here and come back are left."""
    reading = _Reading(found, domain)
    for record, inside in reading.notes():
        reading.take(record, inside)
    made = [feed.time_of(record, "entry_date") for record in found.everything()]
    return Translation(
        events=list(reading.events.values()),
        nothing=None if reading.events or reading.rejected else reading.nothing(),
        rejected=reading.rejected,
        reported_at=max((time for time in (*made, found.updated) if time is not None), default=None),
    )


@dataclass(frozen=True, slots=True)
class _Inside:
    """The person's record in which a note stands."""

    person: Node
    ref: str | None
    expiry: datetime | None
    expired: bool


class _Reading:
    """Goes through a feed once. events: by id."""

    def __init__(self, found: Feed, domain: str | None) -> None:
        self._feed, self._ours = found, None if domain is None else f"{domain}/"
        self._expired: set[str] = set()
        self._expiry: dict[str, datetime] = {}
        self._seen: set[str] = set()
        self.events: dict[str, Event] = {}
        self.rejected: list[Rejected] = []

    def notes(self) -> Iterator[tuple[Node, _Inside | None]]:
        """Each note, and the record in which it stands; those at the top last, when all records are known."""
        for person in self._feed.persons:
            try:
                ref, expiry = notes.ref_of(person), feed.expiry_of(person)
                expired = feed.has_expired(person, expiry, self._feed.updated)
            except PayloadError as error:
                self._reject(error, person, None)
                continue
            if expired:
                self._seen.add("expired")
                self._expired |= {ref} if ref else set()
            if ref and expiry:
                self._expiry[ref] = min(expiry, self._expiry.get(ref, expiry))
            for note in person.children("note"):
                yield note, _Inside(person, ref, expiry, expired)
        for note in self._feed.notes:
            yield note, None

    def take(self, record: Node, inside: _Inside | None) -> None:
        """Take a note, or reject it alone."""
        expired = inside is not None and inside.expired
        try:
            note = notes.read(record, inside.ref if inside else None)
        except PayloadError as error:
            if not expired:  # what is to be deleted need not be whole
                self._reject(error, record, inside)
            return
        note = replace(note, expires_at=inside.expiry if inside else self._expiry.get(note.ref))
        for event in self._events(note, expired=expired or note.ref in self._expired):
            if event != self.events.setdefault(event.id, event):
                other = PayloadError("is another than the one that has its id and source_date", path=record.path)
                self._reject(other, record, inside)

    def _events(self, note: Note, *, expired: bool) -> list[Event]:
        if self._ours is not None and note.id.startswith(self._ours):
            self._seen.add("ours")
            return []
        if expired:
            return note.retracted()
        if note.status is None:
            self._seen.add("silent")
            return []
        return [note.answered()]

    def _reject(self, error: PayloadError, record: Node, inside: _Inside | None) -> None:
        ref = inside.ref if inside else None
        refs = {ref} if ref else {found for one in (record, *record.children("note")) if (found := _ref(one))}
        payload = feed.alone(record, inside.person if inside else None)
        self.rejected.append(Rejected(error=error, payload=payload, refs=sorted(refs)))

    def nothing(self) -> str:
        """Why there is no event."""
        if "expired" in self._seen:
            return "its records have expired, and it names none of their notes"
        if "ours" in self._seen:
            return "its notes are this hub's own"
        return "no note in it says how a person is" if "silent" in self._seen else "holds no note"


def _ref(record: Node) -> str | None:
    try:
        return notes.ref_of(record)
    except PayloadError:
        return None
