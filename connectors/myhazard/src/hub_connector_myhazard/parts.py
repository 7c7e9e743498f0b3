"""A part of a payload that cannot be read, as a payload of its own, which can be mended and taken in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hub.connector.json import Field, written

FORMAT = "myhazard/1"

KEPT_BYTES = 1_000_000
"""The hub keeps no larger one; a bundle that is larger is kept in pieces."""


def alone(part: Any) -> bytes:
    """An envelope that holds one record."""
    return written({"format": FORMAT, "records": [part]})


def pieces(record: Field) -> Iterator[bytes]:
    """An envelope that holds the record; of a bundle that is too large, several, each with some of its fixes."""
    part = alone(record.value)
    fixes = record.value.get("fixes") if isinstance(record.value, dict) else None
    if len(part) <= KEPT_BYTES or not isinstance(fixes, list):
        yield part
        return
    rows = [written(row) for row in fixes]
    before, after = (half.encode() for half in _around(record.value))
    room, piece, size = KEPT_BYTES - len(before) - len(after), list[bytes](), 0
    for row in rows:
        if piece and size + len(row) >= room:
            yield before + b",".join(piece) + after
            piece, size = [], 0
        piece.append(row)
        size += len(row) + 1
    yield before + b",".join(piece) + after


def _around(record: dict[str, Any]) -> tuple[str, str]:
    """What stands before and behind the fixes of a bundle."""
    head = {name: value for name, value in record.items() if name != "fixes"}
    before = written({"format": FORMAT, "records": [head]}).decode().removesuffix("}]}")
    return before + ("," if head else "") + json.dumps("fixes") + ":[", "]}]}"
