"""Tables of a source (CSV), row by row: what cannot be read is rejected by itself, and the rest is taken."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hub.errors import PayloadError

LIMIT_BYTES = 64 * 1024 * 1024
MOST_CELLS = 2_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one column of a row; `text` is without white space around it."""

    text: str
    path: str

    def word(self) -> str:
        """Its text, which must not be empty."""
        if not self.text:
            raise self.wrong("is empty")
        return self.text

    def whole(self, low: int, high: int) -> int:
        """Its whole number, from `low` to `high`; ASCII digits."""
        text = self.word()
        if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 12:
            raise self.wrong("is no whole number")
        if not low <= int(text) <= high:
            raise self.wrong(f"is not from {low} to {high}")
        return int(text)

    def one_of(self, words: Mapping[str, T]) -> T:
        """What `words` says of its text."""
        if self.text not in words:
            raise self.wrong(f"is none of {', '.join(words)}")
        return words[self.text]

    def wrong(self, reason: str) -> PayloadError:
        """The error to raise about this cell."""
        return PayloadError(reason, path=self.path)


@dataclass(frozen=True, slots=True)
class Row:
    """A row under its header. number: its line in the file, the first being 1. alone: header and row as a payload."""

    number: int
    cells: Mapping[str, str]
    alone: Callable[[], bytes]

    def has(self, name: str) -> bool:
        """Whether the table has this column."""
        return name in self.cells

    def cell(self, name: str) -> Cell:
        """What stands in the column called `name`, which the table must have."""
        path = f"line {self.number}, {name}"
        if name not in self.cells:
            raise PayloadError("the table has no such column", path=path)
        return Cell(self.cells[name].strip(), path)


@dataclass(frozen=True, slots=True)
class Ragged:
    """A row that has not as many cells as the header."""

    number: int
    error: PayloadError
    alone: Callable[[], bytes]


def decoded(payload: bytes, encodings: Sequence[str] = ("utf-8",), limit_bytes: int = LIMIT_BYTES) -> str:
    """The text of the payload, in the first encoding that it is whole in; a byte order mark is left out.

    Raises PayloadError.
    """
    if len(payload) > limit_bytes:
        raise PayloadError(f"is larger than {limit_bytes // 1024 // 1024} MiB")
    if not payload.strip():
        raise PayloadError("is empty")
    if b"\0" in payload:
        raise PayloadError("holds a zero byte: it is no text, or in another encoding")
    for encoding in encodings:
        try:
            return payload.decode("utf-8-sig" if encoding == "utf-8" else encoding)
        except UnicodeDecodeError:
            continue
    raise PayloadError(f"is not {' or '.join(encodings).upper()}")


def read(text: str, delimiter: str = ",") -> tuple[list[str], Iterator[Row | Ragged]]:
    """The header's names and the rows below it, in order; empty lines are left out.

    Raises PayloadError for a header that is none; while iterating, for a quotation mark that does not close.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error:
        raise PayloadError("its header is no CSV; see its quotation marks", path="line 1") from None
    if not any(header) or len(header) > MOST_CELLS:
        raise PayloadError("has no header", path="line 1")
    named = [name for name in header if name]
    if len(set(named)) != len(named):
        raise PayloadError("its header says a name twice", path="line 1")
    return header, _rows(reader, header, delimiter)


def _rows(reader: Any, header: list[str], delimiter: str) -> Iterator[Row | Ragged]:
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            reason = "is no CSV from here; see its quotation marks, and cells of more than 131,072 characters"
            raise PayloadError(reason, path=f"line {number}") from None
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        alone = _alone(header, cells, delimiter)
        if len(cells) != len(header):
            error = PayloadError(f"has {len(cells)} cells under a header of {len(header)}", path=f"line {number}")
            yield Ragged(number, error, alone)
        else:
            yield Row(number, {name: cell for name, cell in zip(header, cells, strict=True) if name}, alone)


def _alone(header: list[str], cells: list[str], delimiter: str) -> Callable[[], bytes]:
    def written() -> bytes:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerows([header, cells])
        return out.getvalue().encode()

    return written
