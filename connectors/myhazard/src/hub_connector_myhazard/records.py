"""The records of the app, one by one: what they have in common, and what each type gives."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from hub.connector import Event, PayloadError, Rejected, is_id
from hub.connector.json import Field
from hub_connector_myhazard import locations, words
from hub_connector_myhazard.alone import alone

SOURCE = locations.SOURCE
RETRACTED = "fact.retracted"
MOST_REV, MOST_VOIDS, MOST_MEMBERS, MOST_TARGETS, MOST_DELETED = 1_000_000, 100, 50, 100, 10_000

_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[0-9A-Za-z]{2,8}){0,3}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TEXT, _LINE = 4_000, 500

Said = Event | Rejected


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What every record says. voids: revisions of it that do not hold any more."""

    record: Field
    id: str
    rev: int
    user: str
    drill: bool
    voids: tuple[int, ...] = ()

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

    def voided(self, named: Callable[[int], str], ref: str = "") -> Iterator[Event]:
        """A retraction of each revision that does not hold any more. named: the id of its event."""
        for rev in self.voids:
            event = named(rev)
            said = f"{self.id}:{self.rev}:voids:{event.removeprefix(f'{self.id}:')}"
            yield self.event(RETRACTED, {"event": event}, id=said, ref=ref)


def record_id(id: str, rev: int) -> str:
    """The event's id of a record about one person."""
    return f"{id}:{rev}"


def member_id(id: str, rev: int, user: str) -> str:
    """The event's id of a household's record about one of its members. No recipient may learn the user's own id."""
    return f"{id}:{rev}:{hashlib.sha256(f'{id}:{user}'.encode()).hexdigest()[:16]}"


def read(record: Field) -> Iterator[Said]:
    """What a record says: events, and the parts of it that cannot be read. Raises PayloadError for the whole."""
    if not isinstance(record.value, dict):
        raise record.wrong("is no object")
    reader = record.need("type").one_of(_READERS)
    rev = record.need("rev").whole(1, MOST_REV)
    voids = record.optional("voids")
    drill = record.optional("drill")
    return reader(
        Head(
            record=record,
            id=identifier(record.need("id")),
            rev=rev,
            user=user(record.need("user")),
            drill=drill is not None and drill.flag(),
            voids=() if voids is None else tuple(sorted(set(_revisions(voids, rev - 1, MOST_VOIDS)))),
        )
    )


def users(record: Any) -> tuple[str, ...]:
    """The app's ids of the people whom a record is about, as far as it can be read."""
    if not isinstance(record, dict):
        return ()
    members = record.get("members")
    named = [record, *(members if isinstance(members, list) else ())]
    found = (part.get("user") for part in named if isinstance(part, dict))
    return tuple(dict.fromkeys(name for name in found if is_id(name)))


def _profile(head: Head) -> Iterator[Said]:
    yield head.event("profile.updated", _person(head.record))
    yield from head.voided(lambda rev: record_id(head.id, rev))


def _household(head: Head) -> Iterator[Said]:
    """A profile for each member who has the app: each one replaces the former, so it must be whole."""
    shared = _shared(head.record)
    members = head.record.need("members")
    if not 1 <= len(list(members.items())) <= MOST_MEMBERS:
        raise members.wrong(f"has not 1 to {MOST_MEMBERS} members")
    at, seen = head.at, set[str]()
    for member in members.items():
        try:
            name = user(member.need("user"))
            if name in seen:
                raise member.wrong("names a user who is a member already")
            seen.add(name)
            profile = {key: value for key, value in _person(member.need("profile")).items() if value is not None}
            said = [head.event("profile.updated", shared | profile, id=member_id(head.id, head.rev, name), ref=name)]
            said += head.voided(lambda rev, name=name: member_id(head.id, rev, name), name)
        except PayloadError as error:
            part = {**head.record.value, "members": [member.value]}
            yield Rejected(error=error, payload=alone(part), refs=users({"members": [member.value]}))
        else:
            yield from said


def _shared(record: Field) -> dict[str, Any]:
    size = record.optional("size")
    people = None if size is None else size.whole(1, MOST_MEMBERS)
    description = text(record, "description")
    worded = words.together(None if people is None or description is None else f"{people}人", description)
    return {
        "address": text(record, "address", _LINE),
        "contact": text(record, "contact", _LINE),
        "household": worded if worded is not None else people,
    }


def _person(said: Field) -> dict[str, Any]:
    household = said.optional("household")
    return {
        "name": text(said, "name", _LINE),
        "name_kana": text(said, "name_kana", _LINE),
        "birth_date": _day(said),
        "sex": text(said, "sex", 50),
        "address": text(said, "address", _LINE),
        "phone": text(said, "phone", 50),
        "language": _matching(said, "language", _LANGUAGE, "is no language tag (ja, pt-BR)"),
        "household": None if household is None else _household_of(household),
        "needs": _list(said, "needs"),
        "contact": text(said, "contact", _LINE),
        "note": text(said, "note"),
    }


def _household_of(said: Field) -> str | int:
    return said.whole(1, MOST_MEMBERS) if isinstance(said.value, int) else plain(said, _TEXT)


def _location(head: Head) -> Iterator[Said]:
    record = head.record
    device, n = identifier(record.need("device")), record.need("n").whole(0, locations.LARGEST_N)
    values = [record.value.get(column) for column in locations.COLUMNS]
    at = head.at
    try:
        yield locations.single(values, rev=head.rev, user=head.user, device=device, drill=head.drill, at=at)
    except PayloadError as error:
        raise PayloadError(error.reason, path=_below(record, error.path)) from None
    yield from head.voided(lambda rev: locations.fix_id(device, n, rev))


def _bundle(head: Head) -> Iterator[Said]:
    device, fixes = identifier(head.record.need("device")), head.record.need("fixes")
    if head.voids:
        raise head.record.need("voids").wrong("is for no bundle; its fixes are taken back by a deletion")
    if not isinstance(fixes.value, list):
        raise fixes.wrong("is no list")
    events, unread = locations.bundle(fixes.value, user=head.user, device=device, drill=head.drill)
    yield from events
    same = {"type": "location_bundle", "id": head.id, "rev": head.rev, "user": head.user, "device": device}
    for index, error in unread:
        part = alone({**same, "drill": head.drill, "fixes": [fixes.value[index]]})
        path = f"{fixes.path}[{index}]" + (f".{error.path}" if error.path else "")
        yield Rejected(error=PayloadError(error.reason, path=path), payload=part, refs=(head.user,))


def _safety(head: Head) -> Iterator[Said]:
    record = head.record
    status, original = record.need("status").one_of(words.SAFETY)
    inquiry, by = record.optional("inquiry"), record.optional("by")
    data = {
        "status": status,
        "note": words.together(words.kept(original, record.need("status").text()), text(record, "comment")),
        "place": text(record, "place", _LINE),
        "answered_by": None if by is None else _answerer(by),
        "inquiry": None if inquiry is None else identifier(inquiry),
    }
    yield head.event("safety.answered", data)
    yield from head.voided(lambda rev: record_id(head.id, rev))


def _answerer(by: Field) -> str:
    """Who answered for the person: relation and name. Their own id at the app stays there: it is another person's."""
    relation, name = plain(by.need("relation"), 50), text(by, "name", _LINE)
    return relation if name is None else f"{name}({relation})"


def _evacuation(head: Head) -> Iterator[Said]:
    record = head.record
    status, original = record.need("status").one_of(words.EVACUATION)
    name = text(record, "shelter_name", _LINE)
    data = {
        "status": status,
        "shelter": text(record, "shelter", 200),
        "companions": _number(record, "companions"),
        "note": words.together(
            words.kept(original, record.need("status").text()),
            None if name is None else f"避難先: {name}",
            text(record, "comment"),
        ),
    }
    yield head.event("evacuation.changed", data)
    yield from head.voided(lambda rev: record_id(head.id, rev))


def _transport(head: Head) -> Iterator[Said]:
    """A request; cancelled, only what it voids."""
    record = head.record
    if record.need("status").one_of(words.TRANSPORT):
        pickup = record.optional("pickup_at")
        data = {
            "from": text(record, "from", _LINE),
            "to": text(record, "to", _LINE),
            "pickup_at": None if pickup is None else pickup.time(),
            "companions": _number(record, "companions"),
            "needs": _list(record, "needs"),
            "note": text(record, "comment"),
        }
        yield head.event("transport.requested", data)
    elif not head.voids:
        raise record.wrong("is cancelled, and names no revision in voids")
    yield from head.voided(lambda rev: record_id(head.id, rev))


def _deletion(head: Head) -> Iterator[Said]:
    of = head.record.need("of")
    if head.voids:
        raise head.record.need("voids").wrong("is for no deletion; what was deleted is sent as a new record")
    targets = list(of.items())
    if not 1 <= len(targets) <= MOST_TARGETS:
        raise of.wrong(f"has not 1 to {MOST_TARGETS} entries")
    named = dict.fromkeys(event for target in targets for event in _deleted(target, head.user))
    if len(named) > MOST_DELETED:
        raise of.wrong(f"names more than {MOST_DELETED:,} records")
    reason = text(head.record, "reason", _LINE)
    for index, event in enumerate(named):
        yield head.event(RETRACTED, {"event": event, "reason": reason}, id=f"{head.id}:{head.rev}:{index}")


def _deleted(target: Field, user: str) -> Iterator[str]:
    """The ids of the events that a deletion means."""
    of_household = {"household": True, "location": False} | dict.fromkeys(_ONE_PERSON, False)
    kind = target.need("type")
    member = kind.one_of(of_household)
    if kind.text() == "location":
        device, numbers = identifier(target.need("device")), target.need("n")
        revs = target.optional("revs")
        said = [1] if revs is None else _revisions(revs, MOST_REV, MOST_VOIDS)
        for number in numbers.items():
            n = number.whole(0, locations.LARGEST_N)
            yield from (locations.fix_id(device, n, rev) for rev in said)
        return
    id = identifier(target.need("id"))
    for rev in _revisions(target.need("revs"), MOST_REV, MOST_VOIDS):
        yield member_id(id, rev, user) if member else record_id(id, rev)


_ONE_PERSON = ("profile", "safety", "evacuation", "transport")
_READERS: Mapping[str, Callable[[Head], Iterator[Said]]] = {
    "profile": _profile,
    "household": _household,
    "location": _location,
    "location_bundle": _bundle,
    "safety": _safety,
    "evacuation": _evacuation,
    "transport": _transport,
    "deletion": _deletion,
}


def identifier(field: Field) -> str:
    """The id of a record, a device, an inquiry."""
    if not isinstance(field.value, str) or not _ID.fullmatch(field.value):
        raise field.wrong("is no id of 1 to 64 letters, digits, _, . and -")
    return field.value


def user(field: Field) -> str:
    """The app's id of a person."""
    if not is_id(field.value):
        raise field.wrong("is no id of 1 to 200 printable characters")
    return str(field.value)


def plain(field: Field, longest: int) -> str:
    """A text that is not empty and that UTF-8 can hold."""
    said = field.word(longest)
    try:
        said.encode()
    except UnicodeEncodeError:
        raise field.wrong("holds half a surrogate pair") from None
    return said


def text(said: Field, name: str, longest: int = _TEXT) -> str | None:
    """A text that may be absent; None where it is, or empty."""
    found = said.optional(name)
    return None if found is None or not found.text(longest) else plain(found, longest)


def _matching(said: Field, name: str, pattern: re.Pattern[str], reason: str) -> str | None:
    found = text(said, name, _LINE)
    if found is not None and not pattern.fullmatch(found):
        raise said.need(name).wrong(reason)
    return found


def _day(said: Field) -> str | None:
    found = _matching(said, "birth_date", _DATE, "is no date (1950-01-31)")
    if found is not None:
        try:
            date.fromisoformat(found)
        except ValueError:
            raise said.need("birth_date").wrong("is no date that exists") from None
    return found


def _number(said: Field, name: str) -> int | None:
    found = said.optional(name)
    return None if found is None else found.whole(0, 100)


def _list(said: Field, name: str) -> list[str] | None:
    found = said.optional(name)
    if found is None:
        return None
    listed = [plain(item, 200) for item in found.items()]
    if len(listed) > 50:
        raise found.wrong("has more than 50 entries")
    return listed


def _revisions(field: Field, last: int, most: int) -> list[int]:
    found = [item.whole(1, last) for item in field.items()]
    if not 1 <= len(found) <= most:
        raise field.wrong(f"has not 1 to {most} entries")
    return found


def _below(record: Field, path: str) -> str:
    return ".".join(part for part in (record.path, path) if part)
