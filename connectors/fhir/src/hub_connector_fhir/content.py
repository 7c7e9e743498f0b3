"""The JSON of FHIR, in and out: with the digits that numbers came with, since FHIR counts them as part of a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

from hub.connector import PayloadError, json
from hub.connector.json import Field

LIMIT_BYTES = 32 * 1024 * 1024
MOST_LEVELS = 100
_HUGE = 1e300

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read(payload: bytes) -> Field:
    """The resource that a payload holds. Raises PayloadError.

    Of a Bundle each entry is to be looked over by itself, where `has_halves`.
    """
    root = json.read(payload, LIMIT_BYTES)
    if not isinstance(root.value, dict):
        raise PayloadError("is no FHIR resource: an object with a resourceType")
    if has_halves(payload):
        written({name: value for name, value in root.value.items() if name != "entry"})
    return root


def has_halves(payload: bytes) -> bool:
    """Whether a payload may hold half characters: a surrogate alone, which no text can be written with."""
    return _SURROGATE.search(payload) is not None


def written(value: Any) -> str:
    """The JSON of a value, compact, fields in their order, numbers in their digits. Raises PayloadError."""
    parts: list[str] = []
    _write(value, parts.append, 0)
    text = "".join(parts)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PayloadError("holds half a character (a surrogate alone)") from None
    return text


def _write(value: Any, put: Any, level: int) -> None:
    match value:
        case str():
            put(encode_basestring(value))
        case dict():
            put("{")
            _write_parts(((f"{encode_basestring(name)}:", part) for name, part in value.items()), put, level)
            put("}")
        case list():
            put("[")
            _write_parts((("", part) for part in value), put, level)
            put("]")
        case True | False | None:
            put({True: "true", False: "false", None: "null"}[value])
        case Decimal() | int() | float():
            put(str(value))
        case _:
            raise TypeError(f"a {type(value).__name__} stands in no JSON")


def _write_parts(parts: Any, put: Any, level: int) -> None:
    if level >= MOST_LEVELS:
        raise PayloadError("is nested too deeply")
    for number, (name, part) in enumerate(parts):
        put(f",{name}" if number else name)
        _write(part, put, level + 1)


def ordered(value: Any) -> str:
    """The JSON of a value with its fields in the order of their names: equal values, equal text."""
    return written(_ordered(value, 0, lambda number: number))


def alike(value: Any) -> str:
    """As `ordered`, numbers as doubles: equal for what another program has read and written again."""
    return written(_ordered(value, 0, _double))


def _double(number: Any) -> int | float:
    nearest = float(number) if abs(number) < _HUGE else _HUGE
    return int(nearest) if nearest == int(nearest) else nearest


def _ordered(value: Any, level: int, number: Callable[[Any], Any]) -> Any:
    if level > MOST_LEVELS:
        raise PayloadError("is nested too deeply")
    if isinstance(value, dict):
        return {name: _ordered(value[name], level + 1, number) for name in sorted(value)}
    if isinstance(value, list):
        return [_ordered(part, level + 1, number) for part in value]
    return number(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else value
