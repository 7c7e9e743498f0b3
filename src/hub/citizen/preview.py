"""What a grant would show: with it, in this mode, these recipients would see these fields at this precision.

The rules are asked as ever, of the policy with the grant added and, for an emergency or a drill, of the city with
one declared where the person lives. Nothing is appended, and no fact is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from hub.events import LOCATION, ConsentGranted, Mode, Position
from hub.policy import City, Declaration, Emergency, Grant, Policy
from hub.rules import Ask, Moment, Place, Reading
from hub.schemas import Schemas
from hub.views.views import Standing

_IMAGINED = "preview"
_MESH_FIELDS = ("lat_deg", "lon_deg", "mesh")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sees:
    """What one recipient would see of one kind. fields: by name. new: whether the new grant is what opens it."""

    recipient: str
    class_: str
    purpose: str
    kind: str
    precision: str
    fields: tuple[str, ...]
    new: bool


def preview(
    standing: Standing,
    schemas: Schemas,
    ordinal: int,
    grant: ConsentGranted | None,
    mode: Mode,
    moment: Moment,
    *,
    located: bool,
) -> list[Sees]:
    """By recipient, purpose and kind, what would be open at `moment` if the person's mode were `mode`.

    grant: what the person thinks of granting; None for what holds without it. located: whether where the person
    is counts; not for a delegate, who would learn it.
    """
    policy = standing.policies([ordinal])[ordinal]
    place = standing.places([ordinal]).get(ordinal) if located else None
    spent = standing.spent([(ordinal, policy)])
    position = Position(moment.position + 1)
    if grant is not None:
        policy = policy.apply(replace(grant, by=None), position, moment.time)
    if not policy.areas:  # an emergency has to cover them somewhere
        policy = replace(policy, areas=(_IMAGINED,))
    city = _in_mode(standing.city, policy, mode, moment)
    later = Moment(position=position, time=moment.time)

    def used(of: Grant) -> int:
        return 0 if of.position == position else spent(of)

    found = []
    for recipient in sorted(city.recipients):
        for purpose in sorted(city.recipients[recipient].purposes):
            reading = Reading(city, Ask(recipient=recipient, purpose=purpose, exercise=mode == "exercise"), later)
            found += list(_sees(reading, schemas, policy, place, used, position))
    return found


def _sees(
    reading: Reading,
    schemas: Schemas,
    policy: Policy,
    place: Place | None,
    used: Callable[[Grant], int],
    position: Position,
) -> Iterable[Sees]:
    decision = reading.decide(policy, place, used)
    if decision is None or reading.reader is None:
        return
    for kind in reading.open_kinds(decision):
        about = schemas.newest(kind)
        permits = reading.permits(decision, kind)
        if not permits or about is None or about.about != "person":
            continue
        precision, opening = permits[0]
        yield Sees(
            recipient=reading.reader.id,
            class_=reading.reader.class_,
            purpose=reading.ask.purpose,
            kind=kind,
            precision=precision,
            fields=fields_of(schemas, kind, precision),
            new=opening.basis.position == position,
        )


def fields_of(schemas: Schemas, kind: str, precision: str) -> tuple[str, ...]:
    """The fields of a kind that a precision leaves (R9a)."""
    about = schemas.kind(kind)
    if kind == LOCATION and precision != "exact":
        return _MESH_FIELDS
    names = [field["name"] for field in about.schema["fields"]]
    return tuple(name for name in names if precision != "summary" or name in about.summary)


def _in_mode(city: City, policy: Policy, mode: Mode, moment: Moment) -> City:
    """The city as it would be: in an emergency one covers the person, in normal times none does."""
    if mode == "normal":
        real = {name: found for name, found in city.emergencies.items() if found.exercise}
        return replace(city, emergencies=real)
    until = moment.time + timedelta(hours=1)
    declared = Declaration(areas=policy.areas, recorded_at=moment.time, until=until)
    imagined = Emergency(id=_IMAGINED, hazard=_IMAGINED, exercise=mode == "exercise", declarations=(declared,))
    return replace(city, emergencies={**city.emergencies, _IMAGINED: imagined})
