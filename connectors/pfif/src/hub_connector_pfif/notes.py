"""What a note says of a person's safety, as an event; of a record that has expired, that the note no longer holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.connector import Event, is_id, stable_id
from hub.connector.xml import Node

SOURCE = "pfif"
ANSWERED, RETRACTED = "safety.answered", "fact.retracted"
STATUSES = ("is_note_author", "believed_alive", "believed_missing", "believed_dead", "information_sought")
"""PFIF's own. None says that somebody is safe: who is alive may lie under a house. What is known is the note."""

WORDS = {"safe": "無事", "injured": "けが", "need_help": "助けが必要", "unknown": "不明"}
"""The hub's own statuses, as a text that goes out begins: `助けが必要 (need_help)`."""

IN_CONTACT = "in_contact"
"""Stands for the status of a note that has none, but whose author was in contact with the person."""

_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}
_IN_ID = "%Y%m%dT%H%M%SZ"
_LONGEST_ID, _LONGEST_TEXT, _LONGEST_PLACE = 150, 10_000, 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A note. status: PFIF's word, or IN_CONTACT; None where it says nothing of safety.

    expires_at: when the person's record, and the note with it, has to be deleted.
    """

    ref: str
    id: str
    source_date: datetime
    status: str | None
    contact: bool
    place: str | None
    text: str
    expires_at: datetime | None = None

    def answered(self) -> Event:
        """Its event. The note's own words follow the word that was mapped."""
        status = self.status or IN_CONTACT
        data: dict[str, Any] = {
            "status": _of_a_hub(self.text) or "unknown",
            "note": marked(status, self.contact, self.text),
            "place": self.place,
            "answered_by": None if status == "is_note_author" else self.id.partition("/")[0],
            "expires_at": self.expires_at,
        }
        return Event(
            source=SOURCE,
            id=self.events[-1],
            kind=ANSWERED,
            ref=self.ref,
            occurred_at=self.source_date,
            data={name: value for name, value in data.items() if value is not None},
        )

    def retracted(self) -> list[Event]:
        """That its events are to be hidden, for the person's record has expired."""
        return [
            Event(
                source=SOURCE,
                id=f"{event}:expired",
                kind=RETRACTED,
                ref=self.ref,
                data={"event": event, "reason": "the record's expiry_date is over"},
            )
            for event in self.events
        ]

    @property
    def events(self) -> list[str]:
        """The ids of its event: as it comes without its person's record, and as it comes with an expiry date.

        A note is known by its record id, and by when it was written should it be changed. Where its record is to be
        kept longer, it is another answer, which ends later.
        """
        alone = f"{self.id}@{self.source_date:{_IN_ID}}"
        return [alone] if self.expires_at is None else [alone, f"{alone}~{self.expires_at:{_IN_ID}}"]


def told(status: str) -> str:
    """A status of the hub as a text that goes out begins."""
    return f"{WORDS[status]} ({status})"


def _of_a_hub(text: str) -> str | None:
    """The status that another hub wrote into the text, since PFIF has none for it."""
    return next((status for status in WORDS if text.startswith(told(status))), None)


def ref_of(record: Node) -> str | None:
    """The id of the person's record, as it stands in a person or a note; None where there is none."""
    found = record.child("person_record_id")
    if found is None or not found.text():
        return None
    if len(found.text()) > _LONGEST_ID or not is_id(found.text()):
        raise found.wrong("is no record id")
    return found.text()


def read(record: Node, inside: str | None) -> Note:
    """A note. inside: the record id of the person in which it stands. Raises PayloadError."""
    ref = ref_of(record) or inside
    if ref is None:
        raise record.need("person_record_id").wrong("is empty")
    if inside is not None and ref != inside:
        raise record.need("person_record_id").wrong("is another than that of the person in which the note stands")
    source_date = record.need("source_date").time()
    status, contact = _status(record), _contact(record)
    text = _short(record, "text", _LONGEST_TEXT)
    return Note(
        ref=ref,
        id=_id(record) or f"{ref.partition('/')[0]}/{stable_id(ref, source_date.isoformat(), status, text)}",
        source_date=source_date,
        status=status or (IN_CONTACT if contact else None),
        contact=contact,
        place=_short(record, "last_known_location", _LONGEST_PLACE) or None,
        text=text,
    )


def _id(record: Node) -> str | None:
    found = record.child("note_record_id")
    if found is None or not found.text():
        return None
    if len(found.text()) > _LONGEST_ID or not is_id(found.text()):
        raise found.wrong("is no record id")
    return found.text()


def _status(record: Node) -> str | None:
    found = record.child("status")
    if found is None or not found.text():
        return None
    if found.text() not in STATUSES:
        raise found.wrong(f"is none of {', '.join(STATUSES)}")
    return found.text()


def _contact(record: Node) -> bool:
    """Whether the author was in contact with the person: `found` until version 1.2, then `author_made_contact`."""
    for name in ("author_made_contact", "found"):
        found = record.child(name)
        if found is not None:
            if found.text().lower() not in _FLAGS:
                raise found.wrong("is neither true nor false")
            return _FLAGS[found.text().lower()]
    return False


def _short(record: Node, name: str, longest: int) -> str:
    found = record.child(name)
    text = "" if found is None else found.text()
    if found is not None and len(text) > longest:
        raise found.wrong(f"is longer than {longest:,} characters")
    return text


def marked(status: str, contact: bool, text: str) -> str:
    """The note as the hub keeps it: `PFIF: believed_alive, in_contact`, and on a line of its own what it says."""
    words = [status] + [IN_CONTACT] * (contact and status != IN_CONTACT)
    return f"PFIF: {', '.join(words)}" + (f"\n{text}" if text else "")


def unmarked(note: str) -> tuple[str | None, bool, str] | None:
    """Status, contact and text of a note as `marked` writes it; None for any other."""
    head, _, text = note.partition("\n")
    if not head.startswith("PFIF: "):
        return None
    words = head.removeprefix("PFIF: ").split(", ")
    known = [word for word in words if word in STATUSES]
    return (known[0] if known else None), IN_CONTACT in words, text
