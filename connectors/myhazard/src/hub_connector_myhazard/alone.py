"""A part of a payload as a payload of its own: JSON again, each number in the digits that it came in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

FORMAT = "myhazard/1"


def alone(record: Any) -> bytes:
    """A record that can be mended and sent by itself; empty where it is no record, or nested too deeply."""
    if not isinstance(record, dict):
        return b""
    try:
        return _written({"format": FORMAT} | record).encode()
    except RecursionError:
        return b""


def _written(value: Any) -> str:
    match value:
        case Mapping():
            return "{" + ",".join(f"{json.dumps(name)}:{_written(item)}" for name, item in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case Decimal():
            return str(value)
        case _:
            return json.dumps(value)
