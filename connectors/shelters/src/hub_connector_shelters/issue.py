"""One issue of a list: all the places that one payload names, and what they have in common."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from hub.connector import Event, PayloadError, Rejected, Translation, is_id, stable_id
from hub_connector_shelters import columns
from hub_connector_shelters.place import Place
from hub_connector_shelters.records import Record

SOURCE = "shelters"
KIND = "shelter.reported"
_OPEN, _EVACUATION_PLACES, _SHELTERS, _OTHER = "open", "evacuation-places", "shelters", "places"
_LONGEST_NAME = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class _Named:
    """A place that the list names. of: its municipality, by code or else by name; None where it is not told."""

    place: Place
    shelter: str
    area: str | None
    of: str | None
    counted_at: datetime | None


def translated(found: Sequence[Record], area: str | None) -> Translation:
    """What the records say. area: the municipality of those that name none. Raises PayloadError."""
    form = _form(found)
    rejected: list[Rejected] = []
    named: list[_Named] = []
    for record in found:
        try:
            named.append(_named(record))
        except PayloadError as error:
            rejected.append(_rejected(record, error))
    if not named:
        return Translation(rejected=rejected)
    named = _located(named, area)
    time = None
    if form == _OPEN:
        time = _time(named)
        rejected += [_rejected(one.place.record, _nowhere(one.place.record)) for one in named if one.of is None]
        named = [one for one in named if one.of is not None]
    events, doubled = _events(named, form, time, unread=len(rejected))
    wrong = [_rejected(one.place.record, one.place.wrong[0]) for one in named if one.place.wrong]
    return Translation(events=events, rejected=rejected + doubled + wrong, reported_at=time)


def _form(found: Sequence[Record]) -> str:
    """Which kind of list it is, from the columns of all its records."""
    names = {name for record in found for name in record.cells}
    hazards = columns.HAZARDS.keys() | {columns.HAZARD_PREFIX + name for name in columns.HAZARDS}
    if names.intersection(columns.PEOPLE + columns.HOUSEHOLDS + columns.STATUS):
        return _OPEN
    if names.intersection(columns.ALSO_PLACE):
        return _SHELTERS
    return _EVACUATION_PLACES if names & hazards else _OTHER


def _named(record: Record) -> _Named:
    if record.wrong is not None and not record.cells:
        raise record.wrong
    place = Place(record, [] if record.wrong is None else [record.wrong])
    shelter, area, name = place.shelter(), place.area(), place.municipality()
    by_name = name if len(name) <= _LONGEST_NAME and is_id(name) else None
    known = area if area and len(area) == 5 else by_name
    return _Named(place=place, shelter=shelter, area=area, of=known, counted_at=place.time(columns.COUNTED_AT))


def _located(named: list[_Named], area: str | None) -> list[_Named]:
    """Those that say no municipality have that of all others, where it is one; else what the operator set."""
    said = {(one.of, one.area) for one in named if one.of is not None}
    of, code = said.pop() if len(said) == 1 else (area, area)
    return [one if one.of is not None else replace(one, of=of, area=one.area or code) for one in named]


def _time(named: list[_Named]) -> datetime:
    """The newest time that it says: the issue's own."""
    times = [one.counted_at for one in named if one.counted_at is not None]
    if not times:
        wrong = next((error for one in named for error in one.place.wrong if "時点" in (error.path or "")), None)
        reason = "says no time (時点), without which a head-count cannot be put in order"
        raise wrong or PayloadError(reason, path=named[0].place.record.where)
    return max(times)


def _nowhere(record: Record) -> PayloadError:
    return PayloadError("names no municipality; the operator can set options.area", path=record.where)


def _events(named: list[_Named], form: str, time: datetime | None, unread: int) -> tuple[list[Event], list[Rejected]]:
    """An event for each place; and those that are named again, with other content.

    unread: how many records name a place that nobody can read.
    """
    listed = Counter(of for of, _ in {(one.of, one.shelter) for one in named})
    first: dict[tuple[str | None, str], Event] = {}
    doubled = []
    for one in named:
        event = _event(one, form, time, None if time is None else listed[one.of] + unread)
        if event != first.setdefault((one.of, one.shelter), event):
            error = PayloadError("names a place again, with other content", path=one.place.record.where)
            doubled.append(_rejected(one.place.record, error))
    return list(first.values()), doubled


def _event(one: _Named, form: str, time: datetime | None, listed: int | None) -> Event:
    list_ = form if one.of is None else f"{form}:{one.of}"
    data: dict[str, Any] = {"shelter": one.shelter, "list": list_, "area": one.area, **one.place.described()}
    if time is not None:
        data |= {"listed": listed, "counted_at": one.counted_at, **one.place.counted()}
    data = {name: value for name, value in data.items() if value is not None}
    moment = "-" if time is None else time.strftime("%Y%m%dT%H%M%SZ")
    said = stable_id(json.dumps(data, sort_keys=True, default=datetime.isoformat))
    return Event(
        source=SOURCE,
        id=f"{list_}:{moment}:{said}",
        kind=KIND,
        occurred_at=time,
        data=data,
    )


def _rejected(record: Record, error: PayloadError) -> Rejected:
    return Rejected(error=error, payload=record.alone())
