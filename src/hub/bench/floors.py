"""Floors: the least that the work costs on this machine without the hub."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine

from hub.bench.town import PURPOSE, READER
from hub.events import LOCATION, Event
from hub.log.database import file_url, open_database
from hub.rules import FactRow
from hub.schemas import Kind

PAGE = os.urandom(4096)
PLAINTEXT_BYTES = 130
sync = getattr(os, "fdatasync", os.fsync)


class Bare:
    """The log's rows in a bare table, with the hub's own pragmas; with `keyed`, a random key in a table beside it."""

    _COLUMNS = "position, recorded_us, subject, identity, identity_version, claim, topic, state, leaf"

    def __init__(self, folder: Path, *, keyed: bool) -> None:
        self._keyed = keyed
        self._engine: Engine = open_database(file_url(folder / f"bare-{keyed}.sqlite3"))
        self._pooled = self._engine.raw_connection()
        self._raw: sqlite3.Connection = self._pooled.driver_connection  # type: ignore[assignment]
        self._raw.execute(f"CREATE TABLE log ({self._COLUMNS.replace('position', 'position INTEGER PRIMARY KEY')})")
        self._raw.execute("CREATE TABLE identity (digest BLOB PRIMARY KEY, position INTEGER) WITHOUT ROWID")
        self._position = 0

    def follow(self, source: Path, end: int) -> None:
        """Take over what the hub's log holds up to `end`, so that both are of one size."""
        self.insert(self.rows(source, self._position, end), 10_000)

    def end(self, source: Path) -> int:
        """The last position of the hub's log."""
        reader = sqlite3.connect(source)
        try:
            return int(reader.execute("SELECT max(position) FROM log").fetchone()[0])
        finally:
            reader.close()

    def rows(self, source: Path, after: int, end: int = 2**62) -> list[tuple[Any, ...]]:
        """Rows of the hub's log, as they stand."""
        reader = sqlite3.connect(source)
        try:
            query = f"SELECT {self._COLUMNS} FROM log WHERE position > ? AND position <= ? ORDER BY position"  # noqa: S608
            return reader.execute(query, (after, end)).fetchall()
        finally:
            reader.close()

    def insert(self, rows: Sequence[tuple[Any, ...]], size: int) -> None:
        """Insert rows, `size` a transaction."""
        raw = self._raw
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", part)
            if self._keyed:
                keys = sorted((row[3], row[0]) for row in part)
                raw.executemany("INSERT INTO identity VALUES (?, ?)", keys)
            raw.execute("COMMIT")
        self._position = rows[-1][0] if rows else self._position

    def close(self) -> None:
        """Close the database."""
        self._pooled.close()
        self._engine.dispose()


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
