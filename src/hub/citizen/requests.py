"""What waits for the person's answer: a recipient's request, a reading that is asked each time, a new kind, an end.

Nothing of this is written (R1): it follows from the person's control events, and each answer is one of them, a
`consent.granted` or `consent.declined` that names the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from hub.events import ConsentDeclined, ConsentGranted, ConsentRequested, ConsentRevoked, Entry, Mode, To, control
from hub.log.sealing import Keyring
from hub.policy import ALL, City, Grant, Policy, Recipient
from hub.rules import matches

QUIET = timedelta(days=30)
"""How long a recipient who was refused is not heard again with the same."""

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


@dataclass(slots=True)
class _Said:
    """What the person and the recipients have said so far."""

    asked: dict[str, tuple[ConsentRequested, Entry]] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    refused: list[tuple[ConsentRequested, datetime]] = field(default_factory=list)
    granted: dict[str, ConsentGranted] = field(default_factory=dict)


def pending(
    entries: Sequence[Entry], policy: Policy, city: City, mode: Mode, now: datetime, keyring: Keyring
) -> list[Request]:
    """What waits for an answer, oldest first.

    entries: the person's control events, in order. policy, city, mode: as they stand at `now`.
    """
    said = _gather(entries)
    found = [*_asked(said, policy, city, mode, now), *_new_kinds(said, policy, city, now, keyring)]
    found += _expired(said, policy, now, keyring)
    return sorted(found, key=lambda request: (request.since, request.id))


def _gather(entries: Sequence[Entry]) -> _Said:
    said = _Said()
    for entry in entries:
        match control(entry.event) if entry.event.kind.startswith("consent.") else None:
            case ConsentRequested() as asked:
                before = said.asked.get(asked.request)
                if before is None or before[0].recipient == asked.recipient:  # an id is its first user's
                    said.asked[asked.request] = asked, entry
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


def _asked(said: _Said, policy: Policy, city: City, mode: Mode, now: datetime) -> Iterator[Request]:
    newest: dict[tuple[str, str, tuple[str, ...]], str] = {}
    for name, (asked, _) in said.asked.items():
        newest[asked.recipient, asked.purpose, asked.kinds] = name
    for name, (asked, entry) in said.asked.items():
        until = entry.event.data["until"]
        reader = city.recipients.get(asked.recipient)
        over = name in said.answered or (until is not None and now >= until)
        if over or newest[asked.recipient, asked.purpose, asked.kinds] != name or _refused(said, asked, entry):
            continue
        if reader is None or reader.retired or asked.purpose not in reader.purposes or _blocked(policy, reader):
            continue
        each_time = _every_time(policy, reader, asked, now)
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
            until=until,
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


def _blocked(policy: Policy, reader: Recipient) -> bool:
    """Whether the person does not want to hear of the recipient (R13)."""
    return any(
        to.recipient == reader.id
        or to.class_ in reader.classes_ever
        or (to.relation is not None and (reader.id, to.relation) in policy.relations_ever)
        for to in policy.blocks
    )


def _every_time(policy: Policy, reader: Recipient, asked: ConsentRequested, now: datetime) -> Grant | None:
    """The grant under which the recipient may ask each time (R8)."""
    for grant in policy.grants.values():
        open_now = grant.start <= now and (grant.until is None or now < grant.until)
        if (
            grant.ask == "every_time"
            and open_now
            and asked.purpose in grant.purposes
            and all(matches(kind, grant.kinds) for kind in asked.kinds)
            and _means(policy, grant.to, reader)
        ):
            return grant
    return None


def _means(policy: Policy, to: To, reader: Recipient) -> bool:
    if to.relation is not None:
        return (reader.id, to.relation) in policy.relations
    return to.recipient == reader.id or (to.class_ is not None and to.class_ == reader.class_)


def _new_kinds(said: _Said, policy: Policy, city: City, now: datetime, keyring: Keyring) -> Iterator[Request]:
    for grant in policy.grants.values():
        original = said.granted.get(grant.id)
        over = grant.until is not None and now >= grant.until
        if grant.ask != "each_new_kind" or original is None or over:
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


def _expired(said: _Said, policy: Policy, now: datetime, keyring: Keyring) -> Iterator[Request]:
    for grant in policy.grants.values():
        original = said.granted.get(grant.id)
        if original is None or grant.until is None or now < grant.until or grant.uses is not None:
            continue
        name = keyring.digest("request", "expired", grant.id).hex()
        if name in said.answered or grant.until <= grant.start or _taken_over(policy, grant, now):
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
        "data": grant.data if isinstance(grant.data, str) else None,
        "ask": grant.ask,
        **changed,
    }
    return {name: value for name, value in said.items() if value is not None}
