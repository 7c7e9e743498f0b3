"""Schema files that connectors brought, kept beside the log: what it holds of their kinds is read without them.

A file is kept in the transaction in which the first fact of it comes in, or when a hub is opened where the kind is in
use already; so nothing stands in the log, or waits, whose file is not here. It is sealed by a keyed digest, and is that
of `kind.introduced` where this names its version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Row, String, Table, insert, select

from hub.errors import Refused, Tampered
from hub.log.recorder import Recorder, metadata
from hub.log.sealing import Keyring
from hub.policy import KindTerms
from hub.schemas import Schemas, file_name

kept_schema = Table(
    "kept_schema",
    metadata,
    Column("topic", String, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("sha256", String, nullable=False),
    Column("seal", LargeBinary(16), nullable=False),
)
"""One row for each version of a kind that a connector brought. sha256: in hexadecimal, as `kind.introduced` has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """What is kept. whole: content by topic. changed: the topics whose row is not as it was written."""

    whole: Mapping[str, bytes] = field(default_factory=dict)
    changed: Set[str] = frozenset()


class Kept:
    """The kept files of one log."""

    def __init__(self, entries: Recorder, keyring: Keyring) -> None:
        self._entries, self._keyring = entries, keyring

    def files(self) -> Files:
        """All that is kept, as it stands now."""
        with self._entries.engine.begin() as connection:
            rows = connection.execute(select(kept_schema)).all()
        whole = {row.topic: content for row in rows if (content := self._content(row)) is not None}
        return Files(whole=whole, changed={row.topic for row in rows} - whole.keys())

    def topics(self) -> set[str]:
        """Of which versions a file is kept."""
        with self._entries.engine.begin() as connection:
            return set(connection.scalars(select(kept_schema.c.topic)))

    def check(self, introduced: Mapping[str, str]) -> None:
        """Raise Tampered, which names the topic, where a file is not as it was written.

        introduced: what `kind.introduced` says, the hash by the topic.
        """
        files = self.files()
        if files.changed:
            raise changed(min(files.changed))
        for topic, content in sorted(files.whole.items()):
            if introduced.get(topic, _sha256(content)) != _sha256(content):
                raise Tampered(f"the kept schema {topic} is not the one by which its kind was introduced")

    def hold(self, connection: Connection, schemas: Schemas, topic: str, terms: KindTerms) -> None:
        """See to it that the file of a topic is kept once `connection` commits.

        terms: of the kind's introduction. Raises Refused where facts may not be written by this file, since those that
        are here are read by another.
        """
        content, kind = schemas.file(topic), topic.rpartition(".")[0]
        row = connection.execute(select(kept_schema).where(kept_schema.c.topic == topic)).first()
        before = None if row is None else self._content(row)
        if row is not None and before is None:
            raise Refused(f"the kept schema {topic} was changed; run: hub verify", rule="R8", kind=kind)
        introduced = terms.schema_sha256 if terms.schema == topic else None
        known = introduced if before is None else _sha256(before)
        if known not in (None, _sha256(content)):
            raise Refused(
                f"the connector's {file_name(topic)} is not the file by which this kind came into use here: install the"
                " connector that has it; what is to change belongs into a new version",
                rule="R8",
                kind=kind,
            )
        if row is None:
            seal = self._seal(topic, content)
            values = {"topic": topic, "content": content, "sha256": _sha256(content), "seal": seal}
            connection.execute(insert(kept_schema).values(values))

    def _content(self, row: Row[tuple[str, bytes, str, bytes]]) -> bytes | None:
        """What a row keeps; None where it is not as it was written."""
        content: Any = row.content
        if not isinstance(content, bytes) or row.sha256 != _sha256(content):
            return None
        return content if row.seal == self._seal(row.topic, content) else None

    def _seal(self, topic: str, content: bytes) -> bytes:
        return self._keyring.digest("kept schema", topic, _sha256(content))


def changed(topic: str) -> Tampered:
    """The error for a file that is not as it was written."""
    return Tampered(f"the kept schema {topic} was changed; restore it from a backup, or ask who changed it")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
