"""JSON of a source, read strictly and field by field; what is wrong raises PayloadError with the field's path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, TypeVar

from hub.codec import parse_time
from hub.errors import PayloadError

LIMIT_BYTES = 16 * 1024 * 1024
T = TypeVar("T")


def parse(body: bytes | str) -> Any:
    """The JSON that `body` says: UTF-8, no name twice, numbers with their digits (Decimal). Raises PayloadError."""
    try:
        text = body.decode("utf-8") if isinstance(body, bytes) else body
    except UnicodeDecodeError:
        raise PayloadError("is not UTF-8") from None
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise PayloadError(f"is no JSON, at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise PayloadError("is nested too deeply") from None
    except (ValueError, InvalidOperation):  # a number of thousands of digits
        raise PayloadError("holds a number that is out of range") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise PayloadError("says a name twice in one object")
    return found


def _constant(_: str) -> Any:
    raise PayloadError("holds a number that JSON does not have")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=Decimal, parse_constant=_constant)


def written(said: Any) -> bytes:
    """What `parse` read, as JSON again, numbers with their digits, however deeply it is nested."""
    done: list[str] = []
    left: list[Any] = [said]
    while left:
        part = left.pop()
        match part:
            case _Piece():
                done.append(part)
            case dict():
                left += _pieces("{", ((f"{_quoted(name)}:", inner) for name, inner in part.items()), "}")
            case list():
                left += _pieces("[", (("", inner) for inner in part), "]")
            case _:
                done.append(_scalar(part))
    return "".join(done).encode()


def _scalar(part: Any) -> str:
    if isinstance(part, str):
        return _quoted(part)
    return str(part) if isinstance(part, Decimal) else json.dumps(part)


class _Piece(str):
    """A piece of JSON, written already."""

    __slots__ = ()


def _pieces(opening: str, parts: Iterable[tuple[str, Any]], closing: str) -> list[Any]:
    """The brackets and what stands between them, the last first; only what has parts itself is still to be written."""
    pieces: list[Any] = []
    said = [opening]
    for number, (name, part) in enumerate(parts):
        said.append(f",{name}" if number else name)
        if isinstance(part, dict | list):
            pieces += [_Piece("".join(said)), part]
            said = []
        else:
            said.append(_scalar(part))
    return [*pieces, _Piece("".join([*said, closing]))][::-1]


def read(payload: bytes, limit_bytes: int = LIMIT_BYTES) -> Field:
    """The value that the payload holds. Raises PayloadError."""
    if len(payload) > limit_bytes:
        raise PayloadError(f"is larger than {limit_bytes // 1024 // 1024} MiB")
    if not payload.strip():
        raise PayloadError("is empty")
    return Field(parse(payload.removeprefix(b"\xef\xbb\xbf")))


@dataclass(frozen=True, slots=True)
class Field:
    """A value and the path that leads to it, as `locations[3].lat`."""

    value: Any
    path: str = ""

    def need(self, name: str) -> Field:
        """The field called `name`, which is there and not null."""
        found = self.optional(name)
        if found is None:
            raise PayloadError("is missing", path=self._inner(name))
        return found

    def optional(self, name: str) -> Field | None:
        """The field called `name`; None where it is absent or null."""
        if not isinstance(self.value, dict):
            raise self.wrong("is no object")
        value = self.value.get(name)
        return None if value is None else Field(value, self._inner(name))

    def items(self) -> Iterator[Field]:
        """The values of the array, in order."""
        if not isinstance(self.value, list):
            raise self.wrong("is no list")
        return (Field(value, f"{self.path}[{index}]") for index, value in enumerate(self.value))

    def text(self, longest: int = 10_000) -> str:
        """Its text, without white space around it; it may be empty."""
        if not isinstance(self.value, str):
            raise self.wrong("is no text")
        if len(self.value) > longest:
            raise self.wrong(f"is longer than {longest:,} characters")
        return self.value.strip()

    def word(self, longest: int = 200) -> str:
        """Its text, which must not be empty."""
        text = self.text(longest)
        if not text:
            raise self.wrong("is empty")
        return text

    def number(self, low: float, high: float) -> int | Decimal:
        """Its number, with its digits, from `low` to `high`."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise self.wrong("is no number")
        if not low <= value <= high:
            raise self.wrong(f"is not from {low} to {high}")
        return value

    def whole(self, low: int, high: int) -> int:
        """Its whole number, from `low` to `high`."""
        value = self.number(low, high)
        if not isinstance(value, int):
            raise self.wrong("is no whole number")
        return value

    def flag(self) -> bool:
        """Whether it is true."""
        if not isinstance(self.value, bool):
            raise self.wrong("is not true or false")
        return self.value

    def time(self) -> datetime:
        """Its RFC 3339 time, in UTC."""
        try:
            return parse_time(self.word())
        except PayloadError as error:
            raise self.wrong(error.reason) from None

    def one_of(self, words: Mapping[str, T]) -> T:
        """What `words` says of its text."""
        text = self.text()
        if text not in words:
            raise self.wrong(f"is none of {', '.join(words)}")
        return words[text]

    def wrong(self, reason: str) -> PayloadError:
        """The error to raise about this field."""
        return PayloadError(reason, path=self.path)

    def _inner(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name
