"""Floors: the least that the work costs on this machine without the hub."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import URL, Column, LargeBinary, MetaData, Table, func, select

from hub.bench.town import PURPOSE, READER
from hub.events import LOCATION, Event
from hub.log.database import dialect, insert_many, open_database
from hub.log.recorder import Number, log
from hub.rules import FactRow
from hub.schemas import Kind

PAGE = os.urandom(4096)
PLAINTEXT_BYTES = 130
sync = getattr(os, "fdatasync", os.fsync)


class Bare:
    """The log's rows in a bare table of the same database; with `keyed`, a random key in a table beside it."""

    def __init__(self, url: URL, source: URL, *, keyed: bool) -> None:
        """source: the hub's log, whose rows are taken over."""
        metadata = MetaData()
        columns = [Column(c.name, c.type, primary_key=c.primary_key, autoincrement=False) for c in log.columns]
        self._log = Table("bare_log", metadata, *columns)
        digest = Column("digest", LargeBinary, primary_key=True)
        self._identity = Table("bare_identity", metadata, digest, Column("position", Number), sqlite_with_rowid=False)
        self._keyed, self._position = keyed, 0
        self._engine, self._source = open_database(url), open_database(source)
        self._writers = dialect(self._engine).writing(self._engine)
        with self._writers.begin() as connection:
            metadata.create_all(connection)

    def follow(self, end: int) -> None:
        """Take over what the hub's log holds up to `end`, so that both are of one size."""
        self.insert(self.rows(self._position, end), 10_000)

    def end(self) -> int:
        """The last position of the hub's log."""
        with self._source.begin() as connection:
            return int(connection.execute(select(func.max(log.c.position))).scalar_one())

    def rows(self, after: int, end: int = 2**62) -> list[tuple[Any, ...]]:
        """Rows of the hub's log, as they stand."""
        query = select(log).where(log.c.position > after, log.c.position <= end).order_by(log.c.position)
        with self._source.begin() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def insert(self, rows: Sequence[tuple[Any, ...]], size: int) -> None:
        """Insert rows, `size` a transaction."""
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            with self._writers.begin() as connection:
                insert_many(connection, self._log, part)
                if self._keyed:
                    insert_many(connection, self._identity, sorted((row[3], row[0]) for row in part))
        self._position = rows[-1][0] if rows else self._position

    def close(self) -> None:
        """Close the databases."""
        self._engine.dispose()
        self._source.dispose()


class Sealed:
    """Payloads of a ping's size under keys of their own, through the bare cipher."""

    def __init__(self, persons: int) -> None:
        self._ciphers = [AESGCM(os.urandom(32)) for _ in range(persons)]
        self._plaintext, self._bound_to = os.urandom(PLAINTEXT_BYTES), os.urandom(40)
        self._boxes = [(cipher, nonce, box) for cipher in self._ciphers for nonce, box in [self._box(cipher)]]

    def _box(self, cipher: AESGCM) -> tuple[bytes, bytes]:
        nonce = os.urandom(12)
        return nonce, cipher.encrypt(nonce, self._plaintext, self._bound_to)

    def seal(self, count: int) -> None:
        """Seal `count` payloads."""
        ciphers = self._ciphers
        for number in range(count):
            self._box(ciphers[number % len(ciphers)])

    def open(self, count: int) -> None:
        """Open `count` payloads."""
        boxes, bound_to = self._boxes, self._bound_to
        for number in range(count):
            cipher, nonce, box = boxes[number % len(boxes)]
            cipher.decrypt(nonce, box, bound_to)


class Avro:
    """The Avro library that a kind's codec is held against: fastavro, else the hub's own codec again."""

    def __init__(self, kind: Kind) -> None:
        fastavro, io = _optional("fastavro"), import_module("io")
        self.name = "fastavro" if fastavro else "the hub's codec (fastavro is not installed)"
        self.encode: Callable[[Any], bytes] = kind.encode
        self.decode: Callable[[bytes], Any] = kind.decode
        if fastavro:
            schema = fastavro.parse_schema(dict(kind.schema))

            def encode(said: Any) -> bytes:
                out = io.BytesIO()
                fastavro.schemaless_writer(out, schema, said)
                return out.getvalue()  # type: ignore[no-any-return]

            self.encode = encode
            self.decode = lambda record: fastavro.schemaless_reader(io.BytesIO(record), schema, None)


def _optional(name: str) -> Any:
    """A library that makes a better floor, where it is installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def json_writer() -> tuple[Callable[[Any], bytes], str]:
    msgspec = _optional("msgspec")
    if msgspec:
        return msgspec.json.encode, "msgspec"
    return lambda said: json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode(), "json"


def plainly(grant: Any, fact: FactRow, time: datetime) -> bool:
    """Whether a grant shows a fact, without a rule's trimmings."""
    return (
        grant.to.recipient == READER
        and PURPOSE in grant.purposes
        and LOCATION in grant.kinds
        and "normal" in grant.modes
        and grant.start <= time
        and (grant.until is None or time < grant.until)
        and time - fact.effective_at < timedelta(days=14)
    )


# Other threads and processes.


def at_once(callers: int, parts: Sequence[Sequence[Event]], take: Callable[[Sequence[Event]], object]) -> None:
    """Hand `parts` in from several threads."""
    failed: list[BaseException] = []

    def work(mine: Sequence[Sequence[Event]]) -> None:
        try:
            for part in mine:
                take(part)
        except BaseException as error:  # told by the thread that waits
            failed.append(error)

    threads = [threading.Thread(target=work, args=(parts[number::callers],)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
