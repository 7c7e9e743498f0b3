"""Records as they lie in a batch: one that cannot be read is handed out as such, and stops nothing.

The broker looks neither at the name of a header nor at a record's attributes and offset, so that whoever may write can
make one at which the library stops for ever, or which has it pass over what others sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka.errors import CorruptRecordError
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

UNREADABLE: Sequence[tuple[str, bytes | None]] = (("", None),)
"""The headers of a record that cannot be read: this very object."""


class Batch(DefaultRecordBatch):  # type: ignore[misc]
    """The library's, but for what stops it."""

    _pos: int

    def _read_msg(self) -> Any:
        begun, number = self._pos, self._next_record_index
        least = self.base_offset + number
        most = max(least, self.last_offset - (self.records_count - number - 1))
        try:
            found = super()._read_msg()
            if least <= found.offset <= most:
                return found
        except (ValueError, IndexError, CorruptRecordError):
            pass
        length, body = decode_varint(self._buffer, begun)
        self._pos = body + length
        return DefaultRecord(length, least, self.max_timestamp, self.timestamp_type, None, None, UNREADABLE)


def install() -> None:
    """Have every consumer of this process read so."""
    memory_records.DefaultRecordBatch = Batch
