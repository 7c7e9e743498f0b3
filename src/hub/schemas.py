"""Kinds and their Avro schemas: validate, encode, decode, evolve.

A kind's schema is `schemas/avro/<kind>.<version>.avsc`, and `<kind>.<version>` is also the topic in the
log. A released file never changes. Beyond Avro, a schema says of a kind its `category`, whom it is
`about`, `ttl_s`, `latest_by`, `roster`, and of a field whether it remains at precision `summary` (R9a);
of a string its `format`. A field `expires_at` of a fact about a person is the fact's own end (R11), and a timestamp.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from hub.codec import Decode, Encode, compile_schema
from hub.errors import Misuse, PayloadError

ENDS = "expires_at"
"""The field of a fact's payload that says when the fact ends by itself (R11)."""

_TIME = {"type": "long", "logicalType": "timestamp-micros"}
_SUFFIX = ".avsc"
_FILE = re.compile(r"(?P<kind>[a-z_]+(?:\.[a-z_]+)?)\.(?P<version>[1-9]\d*)\.avsc")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One version of a kind: what its schema file says, and its compiled codec.

    about: whom its events are about. summary: the fields that remain at level `summary`. ends: whether a fact of
    it may carry its own end.
    """

    name: str
    version: int
    category: Literal["control", "fact", "hub", "envelope"]
    about: Literal["person", "place", "city"]
    ttl_s: int | None
    latest_by: tuple[str, ...]
    roster: bool
    summary: frozenset[str]
    ends: bool
    sha256: str
    schema: Mapping[str, Any] = field(repr=False)
    _encode: Encode = field(repr=False)
    _decode: Decode = field(repr=False)

    @property
    def topic(self) -> str:
        """Name of the kind's version in the log."""
        return f"{self.name}.{self.version}"

    @property
    def record(self) -> str:
        """Full name of its record, as Avro has it: `hub.LocationReported`."""
        return ".".join(filter(None, (self.schema.get("namespace"), self.schema["name"])))

    def encode(self, data: Mapping[str, Any]) -> bytes:
        """The Avro bytes of `data`, which is as on the wire. Raises PayloadError with the field's path."""
        out = bytearray()
        try:
            self._encode(data, out)
        except PayloadError as error:
            raise error.within(kind=self.name) from None
        return bytes(out)

    def decode(self, encoded: bytes) -> dict[str, Any]:
        """The record that `encoded` holds: times aware, `decimal` strings as Decimal, absent options None."""
        record, end = self._decode(encoded, 0)
        if end != len(encoded):
            raise PayloadError("bytes are left over", kind=self.name)
        return record  # type: ignore[no-any-return]


class Schemas:
    """The kinds that this hub has schemas of, every version of each."""

    def __init__(
        self, files: Iterable[tuple[str, bytes]], *, brought: Iterable[str] = (), only_read: Iterable[str] = ()
    ) -> None:
        """files: name and content of each schema file. Raises Misuse for a file that is none.

        brought: the files that a connector brought. only_read: those that are known from the log's side alone.
        """
        self._files = dict(files)
        self._brought, self._only_read = frozenset(brought), frozenset(only_read)
        self._versions: dict[str, dict[int, Kind]] = {}
        for name, content in self._files.items():
            kind = _read(name, content)
            self._versions.setdefault(kind.name, {})[kind.version] = kind
        self._newest = {name: found[max(found)] for name, found in self._versions.items()}
        self._writing = {
            name: found[max(versions)]
            for name, found in self._versions.items()
            if (versions := [number for number, kind in found.items() if file_name(kind.topic) not in self._only_read])
        }

    def extended(self, files: Iterable[tuple[str, bytes]]) -> Schemas:
        """These and the facts of a connector's own files. Raises Misuse for one that is none, or that is another's."""
        added = dict(files)
        if not added:
            return self
        for name, content in added.items():
            kind = _read(name, content)
            if kind.category != "fact":
                raise Misuse(f"{name}: a connector brings kinds of facts only")
            if self._files.get(name, content) != content or (kind.name in self._newest and name not in self._files):
                raise Misuse(f"{name}: this kind is the hub's own already")
        brought = self._brought | (added.keys() - self._files.keys())
        return Schemas((self._files | added).items(), brought=brought, only_read=self._only_read)

    def reading(self, kept: Mapping[str, bytes]) -> Schemas:
        """These and, for reading alone, files that are kept by topic; where one differs from ours, it is read by."""
        files = {file_name(topic): content for topic, content in kept.items()}
        others = {name: content for name, content in files.items() if self._files.get(name) != content}
        if not others:
            return self
        brought = self._brought - others.keys()
        return Schemas((self._files | others).items(), brought=brought, only_read=self._only_read | others.keys())

    @property
    def brought(self) -> list[Kind]:
        """Every version of a kind that a connector brought and that is here now, by topic."""
        found = [self.topic(name.removesuffix(_SUFFIX)) for name in self._brought]
        return sorted(found, key=lambda kind: kind.topic)

    def is_brought(self, kind: Kind) -> bool:
        """Whether a connector brought this version."""
        return file_name(kind.topic) in self._brought

    def file(self, topic: str) -> bytes:
        """The content of a version's file."""
        return self._files[file_name(topic)]

    def __iter__(self) -> Iterator[Kind]:
        return iter(sorted(self._newest.values(), key=lambda kind: kind.name))

    def every(self) -> list[Kind]:
        """Every version of every kind, by name and version."""
        return [found[version] for _, found in sorted(self._versions.items()) for version in sorted(found)]

    def newest(self, name: str) -> Kind | None:
        """The newest version of the kind called `name`; None where no schema says what it is."""
        return self._newest.get(name)

    def writing(self, name: str) -> Kind | None:
        """The version by which new facts are written; None where none is here but for reading."""
        return self._writing.get(name)

    def kind(self, name: str) -> Kind:
        """The newest version of a kind that the hub cannot be without. Raises Misuse where its schema is missing."""
        found = self._newest.get(name)
        if found is None:
            raise Misuse(f"the schema {name}.<version>.avsc is missing from this installation")
        return found

    def topic(self, topic: str) -> Kind:
        """One version of a kind, as the log names it. Raises KeyError where there is no schema of it."""
        name, _, version = topic.rpartition(".")
        return self._versions[name][int(version)]

    def knows(self, topic: str) -> bool:
        """Whether there is a schema of this version."""
        return file_name(topic) in self._files

    def decode(self, topic: str, encoded: bytes) -> dict[str, Any]:
        """The record of `topic` as its newest version reads it: fields that came later have their default."""
        written = self.topic(topic)
        newest = self._newest[written.name]
        record = written.decode(encoded)
        if written is newest:
            return record
        found: dict[str, Any] = _filled(newest.schema, record)
        return found


def _filled(schema: Any, value: Any) -> Any:
    """What an earlier version wrote, with the defaults of the fields that came since, in inner records too."""
    match schema, value:
        case {"type": "record", "fields": fields}, dict():
            return {
                f["name"]: _filled(f["type"], value[f["name"]]) if f["name"] in value else f.get("default")
                for f in fields
            }
        case {"type": "array", "items": items}, list():
            return [_filled(items, item) for item in value]
        case {"type": "map", "values": values}, dict():
            return {name: _filled(values, item) for name, item in value.items()}
        case {"type": dict() | list() as inner}, _:
            return _filled(inner, value)
        case list(), dict() | list():
            return _filled(next((b for b in schema if isinstance(b, dict) and _holds(b, value)), None), value)
        case _:
            return value


def _holds(branch: Mapping[str, Any], value: Any) -> bool:
    return branch["type"] in (("array",) if isinstance(value, list) else ("record", "map"))


def file_name(topic: str) -> str:
    """The name of the file of one version of a kind."""
    return topic + _SUFFIX


@cache
def packaged() -> Schemas:
    """The schemas that ship with the hub."""
    return Schemas((path.name, path.read_bytes()) for path in sorted(folder().glob("*.avsc")))


def folder() -> Path:
    """Where the schemas lie that ship with the hub."""
    inside = Path(__file__).parent / "avro"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "schemas" / "avro"


@cache
def _read(name: str, content: bytes) -> Kind:
    """The same file is compiled once, however many hubs a process opens."""
    found = _FILE.fullmatch(name)
    if not found:
        raise Misuse(f"{name}: a schema file is called <kind>.<version>.avsc")
    try:
        schema = json.loads(content)
        encode, decode = compile_schema(schema, {})
        return Kind(
            name=found["kind"],
            version=int(found["version"]),
            category=schema["category"],
            about=schema["about"],
            ttl_s=schema.get("ttl_s"),
            latest_by=tuple(schema.get("latest_by", ())),
            roster=schema.get("roster", False),
            summary=frozenset(f["name"] for f in schema["fields"] if f.get("summary")),
            ends=(schema["category"], schema["about"]) == ("fact", "person") and _ends(schema),
            sha256=hashlib.sha256(content).hexdigest(),
            schema=schema,
            _encode=encode,
            _decode=decode,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Misuse(f"{name}: {type(error).__name__}: {error}") from None


def _ends(schema: Mapping[str, Any]) -> bool:
    """Whether facts may carry their own end. Raises ValueError where the field is no time: it could not be kept."""
    found = [f["type"] for f in schema["fields"] if f["name"] == ENDS]
    if found and found[0] not in (_TIME, ["null", _TIME]):
        raise ValueError(f"{ENDS} is when a fact ends (R11), and a timestamp-micros")
    return bool(found)
