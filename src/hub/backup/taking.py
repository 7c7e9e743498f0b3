"""Taking a backup while the hub runs: no writer waits, and no snapshot is held for long.

    the log, page by page, until little is left -> one short snapshot: the rest, its head, and what stands beside it

What was appended once is the same in every later snapshot, so that pages of it need none in common. What is not
append-only is read in the last one, and is that of the position at which the log ends there.

The log first, then the keys: a key is durable before the first entry that it seals, so that keys which are taken
later open all of the log but what was erased in between.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, select

from hub.backup import tables
from hub.backup.folder import Making, Manifest, Writing, making
from hub.canonical import timestamp
from hub.errors import Tampered
from hub.hub import Hub
from hub.log import merkle, recorder, sealing
from hub.log.log import RESTORING

AT_ONCE = 2_000

_ROUNDS = 50
"""How often the end of the log is gone after; each time less has come in between."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """A backup that is finished. rows, bytes: of all its files."""

    folder: Path
    manifest: Manifest

    @property
    def rows(self) -> int:
        return sum(int(file["rows"]) for file in self.manifest.files.values())

    @property
    def bytes(self) -> int:
        return sum(int(file["bytes"]) for file in self.manifest.files.values())


def take_log(hub: Hub, out: Path) -> Taken:
    """A backup of the log and of what stands beside it, as all of it stood at one position.

    Every leaf is hashed again on the way. Raises Tampered where the log does not hold: such a backup is none.
    """
    entries, growing = hub.log.entries, Growing()
    with making(out) as folder:
        with _writing(folder, recorder.log) as log, _writing(folder, recorder.chunk) as chunks:

            def go_on(connection: Connection, after: int, stop: int | None) -> None:
                log.put(map(tuple, growing.through(_rows(connection, recorder.log, after, stop))))
                chunks.put(map(tuple, _rows(connection, recorder.chunk, after, stop)))

            after = _follow(entries, go_on)
            with entries.snapshot() as (connection, end):
                go_on(connection, after, None)
                head = connection.execute(select(recorder.head)).one()
                if (head.position, head.frontier) != (growing.tree.size, growing.tree.encode()):
                    raise Tampered("the log does not come to the root that its head keeps; run: hub verify")
                for table in tables.kept():
                    if table.name not in tables.APPEND_ONLY:
                        rows = _rows(connection, table)
                        if table is recorder.setting:
                            rows = (row for row in rows if row.name != RESTORING)
                        _write(folder, table, rows)
        with hub.engines[1].connect() as keys:
            _write(folder, sealing.ended_period, _rows(keys, sealing.ended_period))
        recorded_at = None if end.recorded_at is None else timestamp(end.recorded_at)
        root = growing.tree.root().hex()
        said = _said(hub, "log", end.position) | {"recorded_at": recorded_at, "root": root}
        manifest = folder.finish(said, hub.log.keyring.secret_of_backups())
    return Taken(folder=out, manifest=manifest)


def take_keys(hub: Hub, out: Path) -> Taken:
    """A backup of the keys, wrapped by the master key as they stand. Keep it for days, not years."""
    with hub.log.entries.snapshot() as (_, end):
        pass
    engine: Engine = hub.engines[1]
    with making(out) as folder, engine.connect() as connection:
        for table in tables.KEYS:
            _write(folder, table, _rows(connection, table))
        said = _said(hub, "keys", end.position) | {"recorded_at": None, "root": None}
        manifest = folder.finish(said, hub.log.keyring.secret_of_backups())
    return Taken(folder=out, manifest=manifest)


def _said(hub: Hub, of: str, position: int) -> dict[str, Any]:
    return {
        "of": of,
        "id": os.urandom(16).hex(),
        "hub_version": version("saigai-hub"),
        "taken_at": timestamp(hub.log.clock.now()),
        "keys": hub.log.keyring.digest("backup").hex(),
        "position": position,
    }


def _follow(entries: recorder.Recorder, go_on: Callable[[Connection, int, int | None], None]) -> int:
    """Have `go_on` read the log page by page, each in a snapshot of its own, until about a page is left.

    Returns the position up to which it was read.
    """
    after = 0
    for _ in range(_ROUNDS):
        with entries.snapshot() as (_, end):
            stop = end.position
        if stop - after <= AT_ONCE:
            break
        while after < stop:
            until = min(after + AT_ONCE, stop)
            with entries.snapshot() as (connection, _):
                go_on(connection, after, until)
            after = until
    return after


def _writing(folder: Making, table: Table) -> AbstractContextManager[Writing]:
    return folder.writing(table.name, table.columns.keys())


def _write(folder: Making, table: Table, rows: Iterable[Row[Any]]) -> None:
    with _writing(folder, table) as writing:
        writing.put(map(tuple, rows))


def _rows(
    connection: Connection, table: Table, after: int | None = None, stop: int | None = None
) -> Iterator[Row[Any]]:
    """The rows of a table in the order of its key. after, stop: only those of positions behind it, up to it."""
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=AT_ONCE)
    query = query.where(table.c.position > after) if after is not None else query
    query = query.where(table.c.position <= stop) if stop is not None else query
    yield from connection.execute(query)


class Growing:
    """The tree of rows that pass by: each is hashed again, and has to be the next."""

    def __init__(self) -> None:
        self.tree = merkle.Frontier()
        self.recorded_us = 0

    def through(self, rows: Iterable[Any]) -> Iterator[Any]:
        """The rows, as they come. Raises Tampered with the position of the first that does not hold."""
        for row in rows:
            self.add(*row)
            yield row

    def add(
        self,
        position: int,
        recorded_us: int,
        subject: int,
        identity: bytes,
        identity_version: int,
        claim: bytes,
        topic: str,
        state: bytes,
        leaf: bytes,
    ) -> None:
        """Take the next row of the log, its columns in the table's order."""
        if position != self.tree.size + 1:
            raise Tampered("the entry before it is missing", position=position)
        hashed = merkle.leaf(
            position=position,
            recorded_us=recorded_us,
            subject=subject,
            identity=identity,
            identity_version=identity_version,
            claim=claim,
            topic=topic,
            state=state,
            commitment=sealing.parse(state).commitment,
        )
        if hashed != leaf or recorded_us < self.recorded_us:
            raise Tampered("the entry is not the one whose hash was kept", position=position)
        self.tree.extend([hashed])
        self.recorded_us = recorded_us
