"""The wire: how an event lies in a Kafka message, and what a CloudEvent says of it beside its data.

The value is Avro in Confluent's wire format: one byte 0, the schema's id in four bytes, big endian, and the record.
The attributes stand in headers (binary mode): `ce_specversion`, `ce_id`, `ce_source`, `ce_type`, `ce_subject`,
`ce_time`, `ce_dataschema`, `ce_<extension>`, and `content-type`, each the text in UTF-8.
Source: CloudEvents 1.0.2, Kafka protocol binding 1.0.2.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from hub.canonical import timestamp
from hub.codec import parse_time
from hub.errors import PayloadError

AVRO = "application/avro"

_HEAD = struct.Struct(">bI")
_LARGEST_ID = 2**31 - 1
_PREFIX = "ce_"
_NAME = re.compile(r"[a-z0-9]+")
_OWN = frozenset({"specversion", "type", "source", "id", "subject", "time", "datacontenttype", "dataschema"})


def frame(schema_id: int, body: bytes) -> bytes:
    """`body`, the Avro of one record, as the value of a message."""
    return _HEAD.pack(0, schema_id) + body


def unframe(value: bytes) -> tuple[int, bytes]:
    """The schema's id and the Avro of a message's value. Raises PayloadError."""
    if len(value) < _HEAD.size:
        raise PayloadError("is too short for the wire format: one byte 0 and a schema's id in four")
    magic, schema_id = _HEAD.unpack_from(value)
    if magic != 0:
        raise PayloadError("does not begin with the byte 0 of the wire format")
    if not 0 < schema_id <= _LARGEST_ID:
        raise PayloadError("names a schema by what is no id")
    return schema_id, value[_HEAD.size :]


def headers(
    *,
    id: str,
    source: str,
    type: str,
    subject: str | None = None,
    time: datetime | None = None,
    dataschema: str | None = None,
    datacontenttype: str = AVRO,
    **extensions: str | bool | int | None,
) -> list[tuple[str, bytes]]:
    """The headers of a message that is one CloudEvent; what is None is left out. Raises ValueError for a bad name."""
    said: dict[str, Any] = {"specversion": "1.0", "id": id, "source": source, "type": type}
    said |= {"subject": subject, "time": None if time is None else timestamp(time), "dataschema": dataschema}
    for name, value in extensions.items():
        if not _NAME.fullmatch(name) or name == "data":
            raise ValueError(f"{name} is no name of an extension (a-z, 0-9)")
        said[name] = value
    written = [(_PREFIX + name, _text(value).encode()) for name, value in said.items() if value is not None]
    return [*written, ("content-type", datacontenttype.encode())]


def read_headers(found: Iterable[tuple[str, bytes | None]]) -> dict[str, Any]:
    """The attributes that a message's headers say, `datacontenttype` among them; headers of others are left out.

    Each is text, as it came; `exercise` true or false where it says so. Raises PayloadError for one that stands twice
    or is no UTF-8.
    """
    said: dict[str, Any] = {}
    for header, value in found:
        name = _named(header)
        if name is None or value is None:
            continue
        path = name if _NAME.fullmatch(name) and len(name) <= 40 else ""
        if name in said:
            raise PayloadError("stands twice in the headers", path=path)
        try:
            said[name] = value.decode()
        except UnicodeDecodeError:
            raise PayloadError("is not UTF-8", path=path) from None
    return with_exercise(said)


def _named(header: str) -> str | None:
    lower = header.lower()
    if lower == "content-type":
        return "datacontenttype"
    return lower[len(_PREFIX) :] if lower.startswith(_PREFIX) else None


def _text(value: str | bool | int) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def with_exercise(said: dict[str, Any]) -> dict[str, Any]:
    """`said` with `exercise` as true or false, where headers said it in words."""
    if isinstance(said.get("exercise"), str):
        said["exercise"] = {"true": True, "false": False}.get(said["exercise"], said["exercise"])
    return said


def attributes(said: Mapping[str, Any]) -> dict[str, Any]:
    """What the attributes of a CloudEvent say, as the fields of `Event` except `data`. Raises PayloadError.

    `type` is the kind, `subject` the person (or the extension `ref` the source's own id of them), `time` occurred_at,
    the extension `exercise` says a drill. Other extensions are allowed and left out.
    """
    if said.get("specversion") != "1.0":
        raise PayloadError("is not 1.0", path="specversion")
    for name in ("id", "source", "type"):
        if not isinstance(said.get(name), str) or not said[name]:
            raise PayloadError("is missing" if said.get(name) is None else "is no text", path=name)
    _check_extensions(said)
    exercise = said.get("exercise")
    if exercise is not None and not isinstance(exercise, bool):
        raise PayloadError("is not true or false", path="exercise")
    return {
        "source": said["source"],
        "id": said["id"],
        "kind": said["type"],
        "person": said.get("subject"),
        "ref": said.get("ref"),
        "occurred_at": _time(said.get("time")),
        "exercise": bool(exercise),
    }


def _check_extensions(said: Mapping[str, Any]) -> None:
    for name, value in said.items():
        if name in ("data", "data_base64") or name in _OWN:
            continue
        if not _NAME.fullmatch(name):
            plain = name.isascii() and name.isidentifier() and len(name) <= 40
            raise PayloadError("is no name of an attribute (a-z, 0-9)", path=name if plain else "")
        if not (value is None or isinstance(value, str | bool) or (isinstance(value, int) and abs(value) < 2**31)):
            raise PayloadError("is no value of an attribute", path=name)


def _time(said: Any) -> datetime | None:
    if said is None:
        return None
    if not isinstance(said, str):
        raise PayloadError("is no time with its offset", path="time")
    try:
        return parse_time(said)
    except PayloadError as error:
        raise PayloadError(error.reason, path="time") from None
