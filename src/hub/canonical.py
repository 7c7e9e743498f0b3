"""Canonical JSON (RFC 8785): equal values give equal bytes, for ever.

Answers, queries and fingerprints are written with it. Our own, because it stands on the hot path of a
full view and because Decimal and aware times come out of the log as they are; the `rfc8785` package is
its judge in tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

_SAFE_INTEGER = 2**53 - 1


def dumps(value: Any) -> bytes:
    """The canonical UTF-8 of `value`: None, bool, int, float, Decimal, str, aware datetime, lists, mappings.

    A Decimal is written as the double nearest to it, a time as `timestamp` writes it.
    Raises ValueError for what JSON cannot say: NaN, an integer beyond 2^53, a lone surrogate.
    """
    return text(value).encode()


def text(value: Any) -> str:
    """As `dumps`, before UTF-8."""
    if value is None:
        return "null"
    if type(value) is str:
        return encode_basestring(value)
    if type(value) is dict:
        return _object(value)
    match value:
        case str():
            return encode_basestring(value)
        case bool():
            return "true" if value else "false"
        case int():
            if abs(value) > _SAFE_INTEGER:
                raise ValueError("an integer beyond 2^53 has no canonical form")
            return str(value)
        case float() | Decimal():
            return number(float(value))
        case datetime():
            return f'"{timestamp(value)}"'
        case Mapping():
            return _object(value)
        case list() | tuple():
            return "[" + ",".join([text(item) for item in value]) + "]"
        case _:
            raise TypeError(f"{type(value).__name__} has no canonical form")


def _object(value: Mapping[str, Any]) -> str:
    names = sorted(value) if all(map(str.isascii, value)) else sorted(value, key=_utf16)
    return "{" + ",".join([f"{encode_basestring(n)}:{text(value[n])}" for n in names]) + "}"


def timestamp(time: datetime) -> str:
    """`2026-06-02T00:02:00.000000Z`: UTC, always six digits."""
    time = time if time.tzinfo is UTC else time.astimezone(UTC)
    return time.isoformat(timespec="microseconds")[:-6] + "Z"


def number(value: float) -> str:
    """A double as ECMAScript writes it (RFC 8785, 3.2.2.3)."""
    if not math.isfinite(value):
        raise ValueError("NaN and infinities have no canonical form")
    if value == 0:
        return "0"
    written = repr(value)
    if "e" not in written:  # ECMAScript writes these as Python does, without a fraction of 0
        return written[:-2] if written.endswith(".0") else written
    if value == int(value) and abs(value) < 1e16:
        return str(int(value))
    sign, digits, exponent = _parts(value)
    point = len(digits) + exponent
    if 0 < point <= 21:
        body = digits + "0" * exponent if exponent >= 0 else f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        body = "0." + "0" * -point + digits
    else:
        mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
        body = f"{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + body


def _parts(value: float) -> tuple[str, str, int]:
    """Sign, shortest digits without zeros at either end, and the power of ten of the last digit."""
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    exponent = int(power or 0) - len(fraction)
    digits = (whole + fraction).lstrip("0")
    trimmed = digits.rstrip("0")
    return "-" if value < 0 else "", trimmed, exponent + len(digits) - len(trimmed)


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def plain(value: Any) -> Any:
    """What was said, as any JSON writer takes it: times as text, numbers as they are, options left out absent."""
    match value:
        case datetime():
            return timestamp(value)
        case Decimal():
            return float(value)
        case bytes():
            return value.hex()
        case Mapping():
            return {name: plain(part) for name, part in value.items() if part is not None}
        case list() | tuple():
            return [plain(part) for part in value]
        case _:
            return value
