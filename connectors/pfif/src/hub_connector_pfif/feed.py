"""Where person and note records stand: in a PFIF document, or in an Atom or RSS feed that carries them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from hub.connector import PayloadError
from hub.connector.xml import Node, read

VERSIONS: Mapping[str, int] = {f"http://zesty.ca/pfif/1.{minor}": minor for minor in (1, 2, 3, 4)}
"""The minor version by namespace."""

_ATOM = "http://www.w3.org/2005/Atom"
_OF_PERSON = frozenset(("person_record_id", "source_date", "entry_date", "expiry_date"))
_OF_NOTE = frozenset(
    (
        *("note_record_id", "person_record_id", "source_date", "entry_date", "status", "found"),
        *("author_made_contact", "last_known_location", "text"),
    )
)


@dataclass(frozen=True, slots=True)
class Feed:
    """The records at the top of a payload, in order. updated: when the feed says that it was made."""

    persons: Sequence[Node]
    notes: Sequence[Node]
    updated: datetime | None

    def everything(self) -> Iterator[Node]:
        """All records, those inside of persons too."""
        for person in self.persons:
            yield person
            yield from person.children("note")
        yield from self.notes


def parse(payload: bytes) -> Feed:
    """The records of a payload. Raises PayloadError."""
    root = read(payload)
    updated = None
    if root.namespace in VERSIONS and root.name == "pfif":
        containers = [root]
    elif root.namespace == _ATOM and root.name == "feed":
        containers, updated = root.children("entry"), root.optional_time("updated")
    elif root.namespace is None and root.name == "rss":
        containers = root.need("channel").children("item")
    else:
        raise PayloadError("is no PFIF of version 1.1 to 1.4, and no Atom or RSS feed of it", path="(root)")
    persons = [node for inside in containers for name in VERSIONS for node in inside.children("person", name)]
    notes = [node for inside in containers for name in VERSIONS for node in inside.children("note", name)]
    return Feed(persons, notes, updated)


def expiry_of(person: Node) -> datetime | None:
    """When the record has to be deleted. Before version 1.3 records did not expire.

    Raises PayloadError for an expiry date that cannot be read: it could not be honoured.
    """
    return person.optional_time("expiry_date") if VERSIONS[person.namespace or ""] >= 3 else None


def has_expired(person: Node, expiry: datetime | None, updated: datetime | None) -> bool:
    """Whether the record's own dates, or the feed's, say that `expiry` was over when it was made."""
    if expiry is None:
        return False
    dates = [updated, *(time_of(record, "entry_date") for record in (person, *person.children("note")))]
    return _is_placeholder(person) or any(date is not None and date >= expiry for date in dates)


def time_of(record: Node, name: str) -> datetime | None:
    """A date of a record; None where it is absent, or cannot be read and does not matter."""
    try:
        return record.optional_time(name)
    except PayloadError:
        return None


def _is_placeholder(person: Node) -> bool:
    """Whether it holds nothing but ids and dates: what a publisher leaves of a record that has expired."""
    return not any(
        etree.QName(child).localname not in _OF_PERSON and (len(child) or (child.text or "").strip())
        for child in person.element
    )


def alone(record: Node, person: Node | None = None) -> bytes:
    """A record as a payload, with no more of it than is read. person: the record in which a note stands."""
    namespace = record.namespace or ""
    root = etree.Element(f"{{{namespace}}}pfif", nsmap={"pfif": namespace})
    _copy(record.element, root if person is None else _copy(person.element, root, notes=False))
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _copy(record: etree._Element, into: etree._Element, *, notes: bool = True) -> etree._Element:
    copy = etree.SubElement(into, record.tag)
    is_note = etree.QName(record).localname == "note"
    for child in record:
        name = etree.QName(child)
        if name.namespace != etree.QName(record).namespace:
            continue
        if not is_note and name.localname == "note":
            if notes:
                _copy(child, copy)
        elif name.localname in (_OF_NOTE if is_note else _OF_PERSON):
            etree.SubElement(copy, child.tag).text = child.text
    return copy
