"""Locations, single and in bundles: the one path of this connector through which most of what it reads goes.

A fix is read without a `Field` for each value, since phones that were offline for a day bring thousands at once.
Types are compared and not asked for by `isinstance`: what the JSON parser gives is an int, a Decimal or neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded, Subnormal
from math import inf
from typing import Any

from hub.connector import Event, PayloadError

SOURCE = "myhazard"
LOCATION = "location.reported"
COLUMNS = ("n", "t", "lat", "lon", "accuracy", "altitude", "speed", "heading")
LARGEST_N = 2**53 - 1

_NEEDED = 5
_FIRST_MS, _LAST_MS = 946_684_800_000, 4_102_444_800_000
"""2000 and 2100: outside them lie seconds or microseconds that were sent as milliseconds."""

_SOUTH, _NORTH, _WEST, _EAST = Decimal(-90), Decimal(90), Decimal(-180), Decimal(180)
_INVALID = -1
"""What iOS says of a speed or a heading that it does not know."""

_check_digits = Context(
    prec=30, Emin=-30, Emax=30, traps=[Clamped, Inexact, InvalidOperation, Overflow, Rounded, Subnormal]
).plus
"""Raises ArithmeticError for a number of more than 30 digits, or one that is written with a far exponent."""


def fix_id(device: str, n: int, rev: int) -> str:
    """The event's id of a device's nth fix: the same by itself and in any bundle.

    Hashed, since recipients see ids: a running number would tell them how much they do not see.
    """
    numbered = _begun(device)
    numbered.update(b"%d:%d" % (n, rev))
    return str(numbered.hexdigest())


def _begun(device: str) -> Any:
    return hashlib.blake2b(f"myhazard:{device}:".encode(), digest_size=16)


def single(values: list[Any], *, rev: int, user: str, device: str, drill: bool, at: datetime) -> Event:
    """The event of one location. values: as in a bundle; at: its time, which stands among them otherwise.

    Raises PayloadError with the column's name as path.
    """
    return Event(
        source=SOURCE,
        id=fix_id(device, count(values[0]), rev),
        kind=LOCATION,
        ref=user,
        occurred_at=at,
        exercise=drill,
        data=_data(values),
    )


def bundle(
    rows: Sequence[Any], *, user: str, device: str, drill: bool, most: int
) -> tuple[list[Event], list[tuple[int, PayloadError]]]:
    """The events of a bundle's fixes; of each one that cannot be read its index and why.

    A fix that stands there twice comes once. most: after so many unread ones and one more, the rest is left.
    """
    events: list[Event] = []
    unread: list[tuple[int, PayloadError]] = []
    begun, seen = _begun(device), dict[int, Any]()
    add, time_of = events.append, datetime.fromtimestamp
    for index, row in enumerate(rows):
        try:
            if type(row) is not list:
                raise PayloadError("is no list")
            if not _NEEDED <= len(row) <= 8:
                raise PayloadError(f"has not {_NEEDED} to {len(COLUMNS)} values")
            n, at = row[0], row[1]
            if type(n) is not int or not 0 <= n <= LARGEST_N:
                count(n)
            if type(at) is not int or not _FIRST_MS <= at <= _LAST_MS:
                raise _no_time(at)
            data = _data(row)
            if seen.setdefault(n, row) is not row:
                if seen[n] == row:
                    continue
                raise PayloadError("is another fix's of this bundle too", path="n")
        except PayloadError as error:
            unread.append((index, error))
            if len(unread) > most:
                break
            continue
        numbered = begun.copy()
        numbered.update(b"%d:1" % n)
        add(
            Event(
                source=SOURCE,
                id=numbered.hexdigest(),
                kind=LOCATION,
                ref=user,
                # A double holds the milliseconds of this range to a quarter of a microsecond, so this is exact.
                occurred_at=time_of(at / 1000, UTC),
                exercise=drill,
                data=data,
            )
        )
    return events, unread


def _data(row: list[Any]) -> dict[str, Any]:
    """The position in a fix: coordinates in the digits received; what the device did not know is left out."""
    lat, lon = row[2], row[3]
    if type(lat) is not Decimal:
        lat = _decimal(lat, 2)
    if type(lon) is not Decimal:
        lon = _decimal(lon, 3)
    if not _SOUTH <= lat <= _NORTH:
        raise PayloadError("is not from -90 to 90", path="lat")
    if not _WEST <= lon <= _EAST:
        raise PayloadError("is not from -180 to 180", path="lon")
    name = "lat"
    try:
        _check_digits(lat)
        name = "lon"
        _check_digits(lon)
    except ArithmeticError:
        raise PayloadError("has more than 30 digits", path=name) from None
    data = {"lat_deg": lat, "lon_deg": lon, "accuracy_m": _measure(row[4], 4, 0.0, 1_000_000.0)}
    size = len(row)
    if size > 5 and (value := row[5]) is not None:
        data["altitude_m"] = _measure(value, 5, -1_000.0, 20_000.0)
    if size > 6 and (value := row[6]) is not None and value != _INVALID:
        data["speed_mps"] = _measure(value, 6, 0.0, 1_000.0)
    if size > 7 and (value := row[7]) is not None and value != _INVALID:
        data["heading_deg"] = _measure(value, 7, 0.0, 360.0)
    return data


def _decimal(value: Any, column: int) -> Decimal:
    if type(value) is not int:
        raise PayloadError("is missing" if value is None else "is no number", path=COLUMNS[column])
    return Decimal(value)


def _measure(value: Any, column: int, low: float, high: float) -> float:
    if type(value) is not Decimal and type(value) is not int:
        raise PayloadError("is missing" if value is None else "is no number", path=COLUMNS[column])
    try:
        number = float(value)
    except OverflowError:  # of an int; a Decimal becomes inf
        number = inf
    if low <= number <= high:
        return number
    raise PayloadError(f"is not from {low:,.0f} to {high:,.0f}", path=COLUMNS[column])


def count(n: Any) -> int:
    """A fix's number. Raises PayloadError."""
    if type(n) is not int:
        raise PayloadError("is missing" if n is None else "is no whole number", path="n")
    if not 0 <= n <= LARGEST_N:
        raise PayloadError("is not from 0 to 9007199254740991", path="n")
    return n


def _no_time(at: Any) -> PayloadError:
    if type(at) is not int:
        return PayloadError("is missing" if at is None else "is no whole number", path="t")
    return PayloadError("is no time of 2000 to 2100 in milliseconds since 1970", path="t")
