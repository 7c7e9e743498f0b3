"""What waits for the person's answer: a recipient's request, a reading that is asked each time, a new kind, an end.

Nothing of this is written (R1): it follows from the person's control events, and each answer is one of them, a
`consent.granted` or `consent.declined` that names the request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from hub.canonical import timestamp
from hub.events import (
    ConsentDeclined,
    ConsentGranted,
    ConsentRequested,
    ConsentRevoked,
    DataFrom,
    Entry,
    Mode,
    control,
)
from hub.log.sealing import Keyring
from hub.policy import ALL, City, Grant, Policy, Recipient
from hub.rules import matches

QUIET = timedelta(days=30)
"""How long a recipient who was refused is not heard again with the same."""

MOST_OF_A_RECIPIENT = 20
"""Requests of one recipient that a person is shown at once."""

CHOSEN = ("kinds", "modes", "precision", "data", "valid_from", "valid_until", "uses", "ask", "notice")
"""What an approval may say otherwise than the request."""

Type = Literal["asked", "every_time", "new_kind", "expired"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One thing that waits. since: when it began to. until: when it lapses. grant: the grant that it is about.

    approval: the data of the `consent.granted` that an approval makes, its id aside.
    """

    id: str
    type: Type
    since: datetime
    until: datetime | None
    grant: str | None
    message: str | None
    approval: Mapping[str, Any]


Reaches = Callable[[str, str, Grant], bool]
"""Whether a grant would reach a recipient for a purpose now, but for being asked each time (R4–R7, R16, R19)."""


@dataclass(slots=True)
class _Said:
    """What the person and the recipients have said so far. asked: by the name under which it is answered."""

    asked: dict[str, tuple[ConsentRequested, Entry]] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    refused: list[tuple[ConsentRequested, datetime]] = field(default_factory=list)
    granted: dict[str, ConsentGranted] = field(default_factory=dict)


def pending(
    entries: Sequence[Entry],
    policy: Policy,
    city: City,
    mode: Mode,
    now: datetime,
    keyring: Keyring,
    reaches: Reaches,
) -> list[Request]:
    """What waits for an answer, oldest first.

    entries: the person's control events, in order. policy, city, mode: as they stand at `now`.
    """
    said = _gather(entries, keyring)
    found = [*_asked(said, policy, city, mode, now, reaches), *_new_kinds(said, policy, city, now, keyring)]
    found += _expired(said, policy, city, now, keyring)
    return sorted(found, key=lambda request: (request.since, request.id))


def _gather(entries: Sequence[Entry], keyring: Keyring) -> _Said:
    said = _Said()
    for entry in entries:
        match control(entry.event) if entry.event.kind.startswith("consent.") else None:
            case ConsentRequested() as asked:
                name = asked.request
                if name in said.asked or name in said.answered:  # used before, by it or by another recipient
                    name = keyring.digest("request", asked.recipient, asked.request, entry.event.id).hex()
                said.asked[name] = asked, entry
            case ConsentGranted() as granted:
                said.granted[granted.grant] = granted
                said.answered.add(entry.event.data["request"] or "")
            case ConsentRevoked(grant=grant):
                said.granted = {} if grant == ALL else {k: v for k, v in said.granted.items() if k != grant}
            case ConsentDeclined(request=request):
                said.answered.add(request)
                if request in said.asked:
                    said.refused.append((said.asked[request][0], entry.recorded_at))
            case _:
                pass
    return said


def _asked(said: _Said, policy: Policy, city: City, mode: Mode, now: datetime, reaches: Reaches) -> Iterator[Request]:
    """The newest of those that are alike, and of one recipient so many at most."""
    newest: dict[tuple[str, str, frozenset[str]], str] = {}
    for name, (asked, entry) in said.asked.items():
        until = entry.event.data["until"]
        if name not in said.answered and (until is None or now < until):
            newest[asked.recipient, asked.purpose, frozenset(asked.kinds)] = name
    counts: Counter[str] = Counter()
    for name in sorted(newest.values(), key=lambda name: said.asked[name][1].position, reverse=True):
        asked, entry = said.asked[name]
        reader = city.recipients.get(asked.recipient)
        if reader is None or asked.purpose not in reader.purposes or _unheard(policy, reader):
            continue
        each_time = _every_time(policy, asked, reaches)
        if each_time is None and _refused(said, asked, entry):
            continue
        counts[asked.recipient] += 1
        if counts[asked.recipient] > MOST_OF_A_RECIPIENT:
            continue
        approval: dict[str, Any] = {
            "to": {"recipient": asked.recipient},
            "kinds": list(asked.kinds),
            "purposes": [asked.purpose],
            "modes": [mode],
            "request": name,
        }
        if each_time is not None:
            approval |= {"approves": each_time.id, "uses": 1, "data": "latest", "modes": list(each_time.modes)}
            approval |= {"precision": dict(each_time.precision)} if each_time.precision else {}
        yield Request(
            id=name,
            type="asked" if each_time is None else "every_time",
            since=entry.recorded_at,
            until=entry.event.data["until"],
            grant=each_time.id if each_time else None,
            message=entry.event.data["message"],
            approval=approval,
        )


def _refused(said: _Said, asked: ConsentRequested, entry: Entry) -> bool:
    """Whether the same was refused to the same recipient not long before."""
    return any(
        before.recipient == asked.recipient
        and before.purpose == asked.purpose
        and all(matches(kind, before.kinds) for kind in asked.kinds)
        and entry.recorded_at < refused_at + QUIET
        for before, refused_at in said.refused
    )


def _unheard(policy: Policy, reader: Recipient) -> bool:
    """Whether the person is not to hear of the recipient: it is retired, or they block it (R13)."""
    return reader.retired or any(
        to.recipient == reader.id
        or to.class_ in reader.classes_ever
        or (to.relation is not None and (reader.id, to.relation) in policy.relations_ever)
        for to in policy.blocks
    )


def _unheard_grantee(policy: Policy, city: City, grant: Grant) -> bool:
    reader = city.recipients.get(grant.to.recipient or "")
    return reader is not None and _unheard(policy, reader)


def _every_time(policy: Policy, asked: ConsentRequested, reaches: Reaches) -> Grant | None:
    """The grant under which the recipient may ask each time (R8)."""
    for grant in policy.grants.values():
        covered = all(matches(kind, grant.kinds) for kind in asked.kinds)
        if grant.ask == "every_time" and covered and reaches(asked.recipient, asked.purpose, grant):
            return grant
    return None


def _new_kinds(said: _Said, policy: Policy, city: City, now: datetime, keyring: Keyring) -> Iterator[Request]:
    for grant in policy.grants.values():
        original = said.granted.get(grant.id)
        over = grant.until is not None and now >= grant.until
        if grant.ask != "each_new_kind" or original is None or over or _unheard_grantee(policy, city, grant):
            continue
        for kind, terms in sorted(city.kinds.items()):
            if terms.position <= grant.position or kind in grant.kinds or not matches(kind, grant.kinds):
                continue
            name = keyring.digest("request", "new_kind", grant.id, kind).hex()
            if name not in said.answered:
                yield Request(
                    id=name,
                    type="new_kind",
                    since=max(terms.introduced_at, grant.start),
                    until=grant.until,
                    grant=grant.id,
                    message=None,
                    approval=_same(original, kinds=[kind], request=name, valid_until=original.valid_until),
                )


def _expired(said: _Said, policy: Policy, city: City, now: datetime, keyring: Keyring) -> Iterator[Request]:
    for grant in policy.grants.values():
        original = said.granted.get(grant.id)
        if original is None or grant.until is None or now < grant.until or grant.uses is not None:
            continue
        name = keyring.digest("request", "expired", grant.id).hex()
        over = name in said.answered or grant.until <= grant.start or _taken_over(policy, grant, now)
        if over or _unheard_grantee(policy, city, grant):
            continue
        until = now + (grant.until - grant.start)
        approval = _same(original, kinds=list(original.kinds), request=name, valid_until=until)
        yield Request(
            id=name, type="expired", since=grant.until, until=None, grant=grant.id, message=None, approval=approval
        )


def _taken_over(policy: Policy, grant: Grant, now: datetime) -> bool:
    """Whether a later grant says the same and still holds."""
    return any(
        other.position > grant.position
        and other.to == grant.to
        and other.modes == grant.modes
        and set(grant.kinds) <= set(other.kinds)
        and set(grant.purposes) <= set(other.purposes)
        and (other.until is None or now < other.until)
        for other in policy.grants.values()
    )


def _same(grant: ConsentGranted, **changed: Any) -> dict[str, Any]:
    """The terms of a grant, for another one."""
    to = {"recipient": grant.to.recipient, "class": grant.to.class_, "relation": grant.to.relation}
    said: dict[str, Any] = {
        "to": {name: value for name, value in to.items() if value is not None},
        "purposes": list(grant.purposes),
        "modes": list(grant.modes),
        "precision": dict(grant.precision) if grant.precision else None,
        "data": {"from": timestamp(grant.data.from_)} if isinstance(grant.data, DataFrom) else grant.data,
        "uses": grant.uses,
        "ask": grant.ask,
        **changed,
    }
    return {name: value for name, value in said.items() if value is not None}
