"""The records of the app, one by one: what they have in common, and what each type gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

from hub.connector import Event, PayloadError, Rejected, is_id
from hub.connector.json import Field
from hub_connector_myhazard import locations, words
from hub_connector_myhazard.parts import alone
from hub_connector_myhazard.reading import (
    LINE,
    MOST_REV,
    TEXT,
    WORD,
    day,
    identifier,
    language,
    listed,
    number,
    plain,
    revisions,
    some,
    text,
    user,
)

SOURCE = locations.SOURCE
RETRACTED = "fact.retracted"
MOST_MEMBERS, MOST_TARGETS, MOST_DELETED, MOST_UNREAD = 50, 100, 10_000, 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a record says: its events, and the parts of it that cannot be read."""

    events: Sequence[Event]
    rejected: Sequence[Rejected] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What every record has. voids: revisions of it that do not hold any more.

    former: whom they were about besides, since a retraction hides an event of one person.
    """

    record: Field
    id: str
    rev: int
    user: str
    drill: bool
    voids: Sequence[int] = field(default=())
    former: Sequence[str] = field(default=())

    @property
    def at(self) -> datetime:
        """When the app's user said it."""
        return self.record.need("at").time()

    def event(self, kind: str, data: Mapping[str, Any], *, id: str = "", ref: str = "") -> Event:
        """An event of the record's user, or of another; what is None in the data is left out."""
        return Event(
            source=SOURCE,
            id=id or record_id(self.id, self.rev),
            kind=kind,
            ref=ref or self.user,
            occurred_at=self.at,
            exercise=self.drill and kind != RETRACTED,
            data={name: value for name, value in data.items() if value is not None},
        )

    def voided(self, named: Callable[[str, int], str], ref: str = "") -> Iterator[Event]:
        """A retraction of each revision that does not hold any more. named: the id of its event."""
        for rev in self.voids:
            event = named(self.id, rev)
            said = f"{self.id}:{self.rev}:voids:{event.removeprefix(f'{self.id}:')}"
            yield self.event(RETRACTED, {"event": event}, id=said, ref=ref)


def record_id(record: str, rev: int) -> str:
    """The event's id of a record about one person."""
    return f"{record}:{rev}"


def member_id(record: str, rev: int, member: str) -> str:
    """The event's id of a household's record about one member. Recipients see ids, and the app's id of nobody."""
    return f"{record}:{rev}:{hashlib.sha256(f'{record}:{member}'.encode()).hexdigest()[:16]}"


def read(record: Field) -> Said:
    """What a record says. Raises PayloadError where nothing of it can be taken."""
    if not isinstance(record.value, dict):
        raise record.wrong("is no object")
    reader = record.need("type").one_of(_READERS)
    rev, voids, drill = record.need("rev").whole(1, MOST_REV), record.optional("voids"), record.optional("drill")
    former = record.optional("former_users")
    head = Head(
        record=record,
        id=identifier(record.need("id")),
        rev=rev,
        user=user(record.need("user")),
        drill=drill is not None and drill.flag(),
        voids=() if voids is None else revisions(voids, rev - 1),
        former=() if former is None else tuple(dict.fromkeys(map(user, some(former, MOST_MEMBERS)))),
    )
    if former is not None and not head.voids:
        raise former.wrong("is for records with voids")
    said = reader(head)
    return replace(said, events=[*said.events, *_of_former(head, said.events)]) if head.former else said


def _of_former(head: Head, said: Sequence[Event]) -> Iterator[Event]:
    """The retractions of `voids` for whom the record was about before and is not any more."""
    known = {event.id for event in said}
    names = _NAMES[head.record.need("type").text()]
    for former in head.former:
        if former == head.user and names is not member_id:
            continue
        for rev in head.voids:
            event = names(head.id, rev, former) if names else _of_fix(head.record, rev)
            said_as = f"{head.id}:{head.rev}:voids:{member_id(head.id, rev, former).removeprefix(f'{head.id}:')}"
            if said_as not in known:
                yield head.event(RETRACTED, {"event": event}, id=said_as, ref=former)


def _of_fix(record: Field, rev: int) -> str:
    return locations.fix_id(identifier(record.need("device")), record.need("n").whole(0, locations.LARGEST_N), rev)


def users(record: Any) -> tuple[str, ...]:
    """The app's ids of the people whom a record is about, as far as it can be read."""
    if not isinstance(record, dict):
        return ()
    members = record.get("members")
    named = [record, *(members[:MOST_MEMBERS] if isinstance(members, list) else ())]
    former = record.get("former_users")
    found = [part.get("user") for part in named if isinstance(part, dict)]
    found += former[:MOST_MEMBERS] if isinstance(former, list) else ()
    return tuple(dict.fromkeys(str(name) for name in found if is_id(name)))


def _one(head: Head, kind: str, data: Mapping[str, Any]) -> Said:
    return Said(events=[head.event(kind, data), *head.voided(record_id)])


def _profile(head: Head) -> Said:
    return _one(head, "profile.updated", _person(head.record))


def _household(head: Head) -> Said:
    """A profile for each member who has the app. It is whole, since a profile replaces the one before."""
    shared, seen = _shared(head.record), set[str]()
    events: list[Event] = []
    rejected: list[Rejected] = []
    for member in some(head.record.need("members"), MOST_MEMBERS):
        try:
            name = user(member.need("user"))
            if name in seen:
                raise member.wrong("is of a user who is a member already")
            events += _of_member(head, name, shared | _person(member.need("profile")))
            seen.add(name)
        except PayloadError as error:
            part = {**head.record.value, "members": [member.value]}
            rejected.append(Rejected(error=error, payload=alone(part, member), refs=users(part)))
    return Said(events=events, rejected=rejected)


def _of_member(head: Head, member: str, data: Mapping[str, Any]) -> list[Event]:
    def named(record: str, rev: int) -> str:
        return member_id(record, rev, member)

    said = head.event("profile.updated", data, id=named(head.id, head.rev), ref=member)
    return [said, *head.voided(named, member)]


def _shared(record: Field) -> dict[str, Any]:
    size, description = record.optional("size"), text(record, "description")
    people = None if size is None else size.whole(1, MOST_MEMBERS)
    both = None if people is None or description is None else f"{people}人\n{description}"
    found = {
        "address": text(record, "address", LINE),
        "contact": text(record, "contact", LINE),
        "household": both or description or people,
    }
    return {name: value for name, value in found.items() if value is not None}


def _person(said: Field) -> dict[str, Any]:
    household = said.optional("household")
    found = {
        "name": text(said, "name", LINE),
        "name_kana": text(said, "name_kana", LINE),
        "birth_date": day(said, "birth_date"),
        "sex": text(said, "sex", WORD),
        "address": text(said, "address", LINE),
        "phone": text(said, "phone", WORD),
        "language": language(said, "language"),
        "household": None if household is None else _household_of(household),
        "needs": listed(said, "needs"),
        "contact": text(said, "contact", LINE),
        "note": text(said, "note"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _household_of(said: Field) -> str | int:
    return plain(said, TEXT) if isinstance(said.value, str) else said.whole(1, MOST_MEMBERS)


def _location(head: Head) -> Said:
    record, at = head.record, head.at
    device, n = identifier(record.need("device")), record.need("n").whole(0, locations.LARGEST_N)
    values = [record.value.get(column) for column in locations.COLUMNS]
    try:
        event = locations.single(values, rev=head.rev, user=head.user, device=device, drill=head.drill, at=at)
    except PayloadError as error:
        raise PayloadError(error.reason, path=_below(record.path, error.path)) from None
    return Said(events=[event, *head.voided(lambda _, rev: locations.fix_id(device, n, rev))])


def _bundle(head: Head) -> Said:
    record = head.record
    device, fixes = identifier(record.need("device")), record.need("fixes")
    if head.voids:
        raise record.need("voids").wrong("is for no bundle; its fixes are taken back by a deletion")
    if not isinstance(fixes.value, list):
        raise fixes.wrong("is no list")
    events, unread = locations.bundle(fixes.value, user=head.user, device=device, drill=head.drill, most=MOST_UNREAD)
    if len(unread) > MOST_UNREAD:
        raise fixes.wrong(f"has more than {MOST_UNREAD:,} fixes that cannot be read, so that none is taken")
    same = {"type": "location_bundle", "id": head.id, "rev": head.rev, "user": head.user, "device": device}
    rejected = []
    for index, error in unread:
        fix = Field(fixes.value[index], f"{fixes.path}[{index}]")
        part = alone({**same, "drill": head.drill, "fixes": [fix.value]}, fix)
        told = PayloadError(error.reason, path=_below(fix.path, error.path))
        rejected.append(Rejected(error=told, payload=part, refs=(head.user,)))
    return Said(events=events, rejected=rejected)


def _safety(head: Head) -> Said:
    record = head.record
    status, original = record.need("status").one_of(words.SAFETY)
    inquiry, by = record.optional("inquiry"), record.optional("by")
    data = {
        "status": status,
        "note": words.note(original, text(record, "comment")),
        "place": text(record, "place", LINE),
        "answered_by": None if by is None else _answerer(by),
        "inquiry": None if inquiry is None else identifier(inquiry),
    }
    return _one(head, "safety.answered", data)


def _answerer(by: Field) -> str:
    """Who answered for the person: relation and name. Their own id at the app stays there: it is another person's."""
    relation, name = plain(by.need("relation"), WORD), text(by, "name", LINE)
    return relation if name is None else f"{name}({relation})"


def _evacuation(head: Head) -> Said:
    """Where the person is. Where somebody under way goes stays in the note: they are not there."""
    record = head.record
    status, original = record.need("status").one_of(words.EVACUATION)
    place = text(record, "place", LINE)
    goal = None if place is None or status != words.MOVING else f"避難先: {place}"
    data = {
        "status": status,
        "shelter": text(record, "shelter", 200),
        "companions": number(record, "companions"),
        "note": words.note(original, goal, text(record, "comment")),
        "place": None if goal else place,
    }
    return _one(head, "evacuation.changed", data)


def _transport(head: Head) -> Said:
    """A request; of a cancelled one only that its revisions do not hold."""
    record = head.record
    if not record.need("status").one_of(words.TRANSPORT):
        if not head.voids:
            raise PayloadError("is missing: which revisions are cancelled", path=_below(record.path, "voids"))
        return Said(events=list(head.voided(record_id)))
    pickup = record.optional("pickup_at")
    data = {
        "from": text(record, "from", LINE),
        "to": text(record, "to", LINE),
        "pickup_at": None if pickup is None else pickup.time(),
        "companions": number(record, "companions"),
        "needs": listed(record, "needs"),
        "note": text(record, "comment"),
        "request": head.id,
    }
    return _one(head, "transport.requested", data)


def _deletion(head: Head) -> Said:
    of, reason = head.record.need("of"), text(head.record, "reason", LINE)
    if head.voids:
        raise head.record.need("voids").wrong("is for no deletion; what was deleted is sent as a new record")
    every = (event for target in some(of, MOST_TARGETS) for event in _deleted(target, head.user))
    named = list(islice(every, MOST_DELETED + 1))
    if len(named) > MOST_DELETED:
        raise of.wrong(f"names more than {MOST_DELETED:,} facts")
    data = {"reason": reason}
    return Said(
        events=[
            head.event(RETRACTED, data | {"event": event}, id=f"{head.id}:{head.rev}:{index}")
            for index, event in enumerate(dict.fromkeys(named))
        ]
    )


def _deleted(target: Field, of: str) -> Iterator[str]:
    """The ids of the events that one entry of a deletion means."""
    names = target.need("type").one_of(_NAMES)
    if names is not None:
        record = identifier(target.need("id"))
        yield from (names(record, rev, of) for rev in revisions(target.need("revs"), MOST_REV))
        return
    device, numbers, revs = identifier(target.need("device")), target.need("n"), target.optional("revs")
    said = [1] if revs is None else revisions(revs, MOST_REV)
    for item in some(numbers, MOST_DELETED):
        n = item.whole(0, locations.LARGEST_N)
        yield from (locations.fix_id(device, n, rev) for rev in said)


def _of_one(record: str, rev: int, _: str) -> str:
    return record_id(record, rev)


_NAMES: Mapping[str, Callable[[str, int, str], str] | None] = {
    "profile": _of_one,
    "household": member_id,
    "location": None,
    "safety": _of_one,
    "evacuation": _of_one,
    "transport": _of_one,
}
"""What can be deleted: how its events are named; locations otherwise."""

_READERS: Mapping[str, Callable[[Head], Said]] = {
    "profile": _profile,
    "household": _household,
    "location": _location,
    "location_bundle": _bundle,
    "safety": _safety,
    "evacuation": _evacuation,
    "transport": _transport,
    "deletion": _deletion,
}


def _below(path: str, name: str) -> str:
    return ".".join(part for part in (path, name) if part)
