"""The schemas by subject, version and id: what a Kafka client needs to write and to read a message.

A kind is the subject `<kind>-value`, its versions the files; the topics that carry one envelope are subjects besides
(TOPICS). An id follows from the schema alone, so that it is the same on every process, machine and hub, and needs no
storage: the first 31 bits of the SHA-256 of its canonical JSON (RFC 8785), which is also the text that is served.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.canonical import text as canonical
from hub.errors import Misuse, PayloadError
from hub.schemas import Kind, Schemas
from hub.wire import frame, unframe

TOPICS = {"hub.events": "sealed", "hub.view": "visible"}
"""The schema by topic, for the topics whose messages all have the same one; `hub.view.<recipient>` is `hub.view`."""

_SUFFIX = "-value"


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """One version of a schema. text: its canonical JSON."""

    id: int
    text: str
    kind: Kind


class Registry:
    """Every version of every schema that a hub has. `topics`: the schema by topic, as TOPICS."""

    def __init__(self, schemas: Schemas, topics: Mapping[str, str] = TOPICS) -> None:
        """Raises Misuse where two schemas have the same id."""
        self._by_id: dict[int, Registered] = {}
        self._versions: dict[str, dict[int, Registered]] = {}
        for kind in schemas.every():
            self._add(kind)
        self._topics = {topic: name for topic, name in topics.items() if name in self._versions}
        self._subjects = {name + _SUFFIX: name for name in self._versions}
        self._subjects |= {topic + _SUFFIX: name for topic, name in self._topics.items()}
        self._records = {str(found[max(found)].kind.record): name for name, found in self._versions.items()}

    def _add(self, kind: Kind) -> None:
        text = canonical_text(kind.schema)
        added = Registered(id=schema_id(text), text=text, kind=kind)
        other = self._by_id.setdefault(added.id, added)
        if other is not added:
            raise Misuse(f"{kind.topic}.avsc and {other.kind.topic}.avsc have the same schema id; change one's doc")
        self._versions.setdefault(kind.name, {})[kind.version] = added

    def subjects(self) -> list[str]:
        """The names of the subjects, sorted."""
        return sorted(self._subjects)

    def versions(self, subject: str) -> Mapping[int, Registered]:
        """The versions of a subject by number, ascending; empty where there is no such subject.

        A subject is also found by the full name of its record (`hub.LocationReported`), as the clients' strategy
        "record name" writes it, and that of a recipient's topic (`hub.view.clinic-value`) is that of all of them.
        """
        name = self._subjects.get(subject) or self._records.get(subject) or self._recipient(subject)
        found = self._versions.get(name or "", {})
        return {number: found[number] for number in sorted(found)}

    def _recipient(self, subject: str) -> str | None:
        view = subject.startswith("hub.view.") and subject.endswith(_SUFFIX)
        return self._topics.get("hub.view") if view else None

    def newest(self, subject: str) -> Registered | None:
        """The newest version of a subject; None where there is no such subject."""
        found = self.versions(subject)
        return found[max(found)] if found else None

    def by_id(self, id: int) -> Registered | None:
        """The schema of an id; None where no schema here has it."""
        return self._by_id.get(id)

    def id_of(self, topic: str) -> int:
        """The id of a topic's schema: of `hub.events`, or of a kind's version as the log names it (`entry.1`).

        Raises KeyError where there is no schema of it.
        """
        name, _, version = topic.rpartition(".")
        if version.isdigit():
            return self._versions[name][int(version)].id
        found = self.newest(topic + _SUFFIX)
        if found is None:
            raise KeyError(topic)
        return found.id

    def lookup(self, subject: str, text: str) -> Registered | None:
        """The version of a subject that says the same as `text`, however that is written; None where none does.

        Raises PayloadError for a text that is no JSON.
        """
        canon = canonical_text(parsed(text))
        return next((found for found in self.versions(subject).values() if found.text == canon), None)

    def places(self, id: int) -> list[tuple[str, int]]:
        """The subjects and versions under which the schema of an id stands, sorted."""
        found = self._by_id.get(id)
        if found is None:
            return []
        return sorted((name, found.kind.version) for name, kind in self._subjects.items() if kind == found.kind.name)

    def encode(self, topic: str, data: Mapping[str, Any]) -> bytes:
        """The value of a message: `data` by the newest schema of a topic. Raises PayloadError, KeyError."""
        found = self._by_id[self.id_of(topic)]
        return frame(found.id, found.kind.encode(data))

    def decode(self, value: bytes) -> tuple[Kind, dict[str, Any]]:
        """The kind and the record of a message's value, as its own version says it. Raises PayloadError."""
        number, body = unframe(value)
        found = self._by_id.get(number)
        if found is None:
            raise PayloadError("names a schema that this hub does not have")
        try:
            return found.kind, found.kind.decode(body)
        except PayloadError as error:
            raise error.within(kind=found.kind.name) from None
        except (ArithmeticError, LookupError, ValueError, struct.error):
            raise PayloadError("is no Avro of its schema", kind=found.kind.name) from None


def canonical_text(schema: Any) -> str:
    """The one text of a schema that is written in many ways. Raises PayloadError for what JSON cannot say exactly."""
    try:
        return canonical(schema)
    except (TypeError, ValueError, RecursionError):
        raise PayloadError("is a schema that has no canonical form (RFC 8785)") from None


def parsed(text: str) -> Any:
    """The JSON of a schema's text. Raises PayloadError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise PayloadError("is no JSON", path="schema") from None


def schema_id(text: str) -> int:
    """The id of a schema's canonical text: 1 to 2^31 - 1."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1 or 1
