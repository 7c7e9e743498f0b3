"""Avro, compiled: a schema becomes one pair of functions that validate and encode, or decode.

The bytes are those of `avro` and `fastavro`; the walk is several times faster, and its errors name the
path of a field and never its value. A string's `format` is checked in the same walk; `decimal` keeps the
digits of a number as they came.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from hub.areas import AREA_CODE
from hub.errors import PayloadError
from hub.events import EPOCH, micros

Encode = Callable[[Any, bytearray], None]
Decode = Callable[[bytes, int], tuple[Any, int]]

_PRINTABLE_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_DIGITS = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?", re.ASCII)
_SEGMENT = r"[a-z][a-z0-9_]*"
_KIND = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})+")
_FORMATS: dict[str, tuple[re.Pattern[str], str]] = {
    "id": (re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?"), "is no id"),
    "name": (re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}"), "is no name (a-z, 0-9, _)"),
    "area-code": (AREA_CODE, "is no area code (07, 07202, 07202-12, m5639)"),
    "area-code-or-any": (
        re.compile(rf"\*|{AREA_CODE.pattern}", re.ASCII),
        "is no area code (07, 07202, m5639) and not *",
    ),
    "kind": (_KIND, "is no kind (care.medication_updated)"),
    "kind-pattern": (re.compile(rf"\*|{_SEGMENT}(?:\.{_SEGMENT})*(?:\.\*)?"), "is no kind or pattern (care.*, *)"),
}
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


def is_id(value: Any) -> bool:
    """Whether a value may be the id of an event, a person, a grant: 1 to 200 characters, none of them a control."""
    return isinstance(value, str) and bool(_FORMATS["id"][0].fullmatch(value)) and value.isprintable()


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as aware UTC; digits beyond the microsecond are cut off. Raises PayloadError."""
    found = _TIME.fullmatch(text)
    if not found:
        raise PayloadError("is no time with its offset (2026-06-01T09:00:00+09:00)")
    fraction = int((found[7] or "0").ljust(6, "0")[:6])
    try:
        time = datetime(*(int(found[i]) for i in range(1, 7)), fraction, tzinfo=UTC)  # type: ignore[misc,arg-type]
        if found[8] is None:
            if int(found[10]) > 23 or int(found[11]) > 59:
                raise ValueError
            offset = timedelta(hours=int(found[10]), minutes=int(found[11]))
            time = time - offset if found[9] == "+" else time + offset
    except (ValueError, OverflowError):
        raise PayloadError("is no date that exists") from None
    return time


Named = dict[str, tuple[Encode, Decode]]


def compile_schema(schema: Any, named: Named) -> tuple[Encode, Decode]:
    """Encoder and decoder of an Avro schema; `named` collects the types that later ones refer to."""
    match schema:
        case list():
            return _union(schema, named)
        case {"type": "record", "fields": parts, "name": name}:
            codec = _record([(f["name"], "default" in f, *compile_schema(f["type"], named)) for f in parts])
            named[name] = codec
            return codec
        case {"type": "enum", "symbols": symbols, "name": name}:
            named[name] = _enum(symbols)
            return named[name]
        case {"type": "array", "items": items}:
            return _array(*compile_schema(items, named))
        case {"type": "map", "values": values}:
            return _map(*compile_schema(values, named))
        case {"type": "long", "logicalType": "timestamp-micros"}:
            return _encode_time, _decode_time
        case {"type": "string", "format": "decimal"}:
            return _encode_decimal, _decode_decimal
        case {"type": "string", "format": form}:
            return _formatted(*_FORMATS[form]), _decode_string
        case {"type": inner}:
            return compile_schema(inner, named)
        case str():
            return named[schema] if schema in named else _PRIMITIVES[schema]
        case _:
            raise ValueError("a type that the codec does not know")


def _record(parts: list[tuple[str, bool, Encode, Decode]]) -> tuple[Encode, Decode]:
    known = frozenset(name for name, *_ in parts)
    if not all(isinstance(name, str) for name in known):
        raise ValueError("a field whose name is no text")

    def encode(value: Any, out: bytearray) -> None:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise PayloadError("is no object")
        if not known >= value.keys():
            raise _unknown(next(name for name in value if name not in known))
        name = ""
        try:
            get = value.get
            for name, optional, encode_part, _ in parts:
                part = get(name)
                if part is None and not optional and name not in value:
                    raise PayloadError("is missing")
                encode_part(part, out)
        except PayloadError as error:
            raise _deeper(name, error) from None

    decoders = [(name, decode_part) for name, _, _, decode_part in parts]

    def decode(encoded: bytes, at: int) -> tuple[Any, int]:
        record = {}
        for name, decode_part in decoders:
            record[name], at = decode_part(encoded, at)
        return record, at

    return encode, decode


def _unknown(name: Any) -> PayloadError:
    printable = isinstance(name, str) and _PRINTABLE_FIELD.fullmatch(name)
    return PayloadError("is not a field of this kind", path=name if printable else "(a field)")


def _deeper(step: str, error: PayloadError) -> PayloadError:
    path = step if not error.path else step + ("" if error.path[0] in "[{" else ".") + error.path
    return PayloadError(error.reason, path=path)


def _union(branches: list[Any], named: Named) -> tuple[Encode, Decode]:
    if not branches:
        raise ValueError("a union of no types")
    codecs = [compile_schema(branch, named) for branch in branches]
    by_shape: dict[str, int] = {}
    for index, branch in enumerate(branches):
        for shape in _shapes(branch):
            by_shape.setdefault(shape, index)
    only = 1 - branches.index("null") if len(branches) == 2 and "null" in branches else None
    prefixes = [_zigzag(index) for index in range(len(branches))]
    if only is not None:
        return _option(1 - only, *codecs[only])

    def encode(value: Any, out: bytearray) -> None:
        if value is None:
            index = by_shape.get("null")
            if index is None:
                raise PayloadError("is null, which this field cannot be")
        else:
            index = by_shape.get(_shape(value))
            if index is None:
                raise PayloadError("is of a type that this field does not take")
        out += prefixes[index]
        codecs[index][0](value, out)

    def decode(encoded: bytes, at: int) -> tuple[Any, int]:
        index, at = _decode_long(encoded, at)
        return codecs[index][1](encoded, at)

    return encode, decode


def _option(null: int, encode_some: Encode, decode_some: Decode) -> tuple[Encode, Decode]:
    """A union with null and one other branch; `null` is the number of null's branch."""
    none, some = 2 * null, 2 * (1 - null)

    def encode(value: Any, out: bytearray) -> None:
        if value is None:
            out.append(none)
            return
        out.append(some)
        encode_some(value, out)

    def decode(encoded: bytes, at: int) -> tuple[Any, int]:
        index = encoded[at]
        if index == none:
            return None, at + 1
        if index != some:
            raise IndexError("no such branch")
        return decode_some(encoded, at + 1)

    return encode, decode


def _shapes(branch: Any) -> tuple[str, ...]:
    name = branch["type"] if isinstance(branch, dict) else branch
    return {
        "null": ("null",),
        "boolean": ("boolean",),
        "int": ("number",),
        "long": ("string", "number") if isinstance(branch, dict) else ("number",),
        "double": ("number",),
        "float": ("number",),
        "string": ("string",),
        "enum": ("string",),
        "array": ("array",),
        "record": ("object",),
        "map": ("object",),
        "bytes": ("bytes",),
    }[name]


def _shape(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case str() | datetime():
            return "string"
        case int() | float() | Decimal():
            return "number"
        case list() | tuple():
            return "array"
        case Mapping():
            return "object"
        case bytes():
            return "bytes"
        case _:
            return "other"


def _enum(symbols: list[str]) -> tuple[Encode, Decode]:
    index = {symbol: _zigzag(number) for number, symbol in enumerate(symbols)}

    def encode(value: Any, out: bytearray) -> None:
        if not isinstance(value, str) or value not in index:
            raise PayloadError(f"is none of {', '.join(symbols)}")
        out += index[value]

    def decode(encoded: bytes, at: int) -> tuple[Any, int]:
        number, at = _decode_long(encoded, at)
        return symbols[number], at

    return encode, decode


def _array(encode_item: Encode, decode_item: Decode) -> tuple[Encode, Decode]:
    def encode(value: Any, out: bytearray) -> None:
        if not isinstance(value, list | tuple):
            raise PayloadError("is no list")
        if value:
            out += _zigzag(len(value))
            done = 0
            try:
                for item in value:
                    encode_item(item, out)
                    done += 1
            except PayloadError as error:
                raise _deeper(f"[{done}]", error) from None
        out.append(0)

    def decode(encoded: bytes, at: int) -> tuple[Any, int]:
        items: list[Any] = []
        while True:
            count, at = _block(encoded, at)
            if count == 0:
                return items, at
            for _ in range(count):
                item, at = decode_item(encoded, at)
                items.append(item)

    return encode, decode


def _map(encode_item: Encode, decode_item: Decode) -> tuple[Encode, Decode]:
    def encode(value: Any, out: bytearray) -> None:
        if not isinstance(value, Mapping):
            raise PayloadError("is no object")
        if value:
            out += _zigzag(len(value))
            try:
                for name, item in value.items():
                    _encode_string(name, out)
                    encode_item(item, out)
            except PayloadError as error:
                raise _deeper("{}", error) from None
        out.append(0)

    def decode(encoded: bytes, at: int) -> tuple[Any, int]:
        found: dict[str, Any] = {}
        while True:
            count, at = _block(encoded, at)
            if count == 0:
                return found, at
            for _ in range(count):
                name, at = _decode_string(encoded, at)
                found[name], at = decode_item(encoded, at)

    return encode, decode


def _block(encoded: bytes, at: int) -> tuple[int, int]:
    count, at = _decode_long(encoded, at)
    if count < 0:
        _, at = _decode_long(encoded, at)
    return abs(count), at


def _zigzag(number: int) -> bytes:
    number = number << 1 ^ number >> 63
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_NUMBERS = (int, float, Decimal)
_PACK_DOUBLE = struct.Struct("<d").pack
_SMALL = [_zigzag(number) for number in range(2048)]


def _decode_long(encoded: bytes, at: int) -> tuple[int, int]:
    byte = encoded[at]
    at += 1
    if byte < 0x80:
        return byte >> 1 ^ -(byte & 1), at
    number, shift = byte & 0x7F, 7
    while byte & 0x80:
        byte = encoded[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63 and byte & 0x80:
            raise PayloadError("holds a number of more than 64 bits")
    return number >> 1 ^ -(number & 1), at


def _encode_null(value: Any, out: bytearray) -> None:
    if value is not None:
        raise PayloadError("is not null")


def _decode_null(encoded: bytes, at: int) -> tuple[Any, int]:
    return None, at


def _encode_boolean(value: Any, out: bytearray) -> None:
    if value is not True and value is not False:
        raise PayloadError("is not true or false")
    out.append(value)


def _decode_boolean(encoded: bytes, at: int) -> tuple[Any, int]:
    return encoded[at] == 1, at + 1


def _integer(low: int, high: int) -> Encode:
    def encode(value: Any, out: bytearray) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise PayloadError("is no whole number")
        if not low <= value <= high:
            raise PayloadError("is a whole number out of range")
        out += _zigzag(value)

    return encode


def _encode_double(value: Any, out: bytearray) -> None:
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, _NUMBERS):
            raise PayloadError("is no number")
        try:
            value = float(value)
        except OverflowError:
            raise PayloadError("is a number out of range") from None
    if not -1.8e308 < value < 1.8e308:  # beyond the largest double: infinite
        raise PayloadError("is a number out of range")
    out += _PACK_DOUBLE(value)


def _decode_double(encoded: bytes, at: int) -> tuple[Any, int]:
    return struct.unpack_from("<d", encoded, at)[0], at + 8


def _encode_string(value: Any, out: bytearray) -> None:
    if not isinstance(value, str):
        raise PayloadError("is no text")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise PayloadError("holds half a surrogate pair") from None
    size = len(encoded)
    out += _SMALL[size] if size < 2048 else _zigzag(size)
    out += encoded


def _decode_string(encoded: bytes, at: int) -> tuple[Any, int]:
    size = encoded[at]
    if size < 0x80:
        size, at = size >> 1, at + 1
    else:
        size, at = _decode_size(encoded, at)
    return encoded[at : at + size].decode(), at + size


def _decode_size(encoded: bytes, at: int) -> tuple[int, int]:
    size, at = _decode_long(encoded, at)
    if size < 0:  # the walk would go backwards, and never end
        raise PayloadError("holds a text of negative length")
    return size, at


def _formatted(pattern: re.Pattern[str], reason: str) -> Encode:
    def encode(value: Any, out: bytearray) -> None:
        if not isinstance(value, str):
            raise PayloadError("is no text")
        if not pattern.fullmatch(value):
            raise PayloadError(reason)
        _encode_string(value, out)

    return encode


def _encode_bytes(value: Any, out: bytearray) -> None:
    if not isinstance(value, bytes):
        raise PayloadError("is no bytes")
    out += _zigzag(len(value))
    out += value


def _decode_bytes(encoded: bytes, at: int) -> tuple[Any, int]:
    size, at = _decode_size(encoded, at)
    return encoded[at : at + size], at + size


def _encode_time(value: Any, out: bytearray) -> None:
    if isinstance(value, str):
        value = parse_time(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise PayloadError("is no time with its offset (2026-06-01T09:00:00+09:00)")
    out += _zigzag(micros(value))


def _decode_time(encoded: bytes, at: int) -> tuple[Any, int]:
    number, at = _decode_long(encoded, at)
    return EPOCH + timedelta(microseconds=number), at


def _encode_decimal(value: Any, out: bytearray) -> None:
    """The digits as they came, as a number or as text: R10 computes on them, and a double would have rounded."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise PayloadError("is no number")
    try:
        digits = value if isinstance(value, Decimal) else Decimal(repr(value))
    except InvalidOperation:
        raise PayloadError("is a number out of range") from None
    if not digits.is_finite() or digits.adjusted() > 15:
        raise PayloadError("is a number out of range")
    text = str(digits)
    if "E" in text:
        text = format(digits, "f")
    size = len(text)
    if size > 100:
        raise PayloadError("has more than 100 digits")
    out += _SMALL[size]
    out += text.encode()


def _decode_decimal(encoded: bytes, at: int) -> tuple[Any, int]:
    text, at = _decode_string(encoded, at)
    return Decimal(text), at


_PRIMITIVES: dict[str, tuple[Encode, Decode]] = {
    "null": (_encode_null, _decode_null),
    "boolean": (_encode_boolean, _decode_boolean),
    "int": (_integer(-(2**31), 2**31 - 1), _decode_long),
    "long": (_integer(-(2**63), 2**63 - 1), _decode_long),
    "double": (_encode_double, _decode_double),
    "string": (_encode_string, _decode_string),
    "bytes": (_encode_bytes, _decode_bytes),
}
