"""Taking a backup while the hub runs: one reading snapshot, so that it ends at one position and no writer waits.

The log first, then the keys: a key is durable before the first entry that it seals, so that keys which are taken
later open all of the log but what was erased in between.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, select

from hub.backup import tables
from hub.backup.folder import Manifest, making
from hub.canonical import timestamp
from hub.errors import Tampered
from hub.hub import Hub
from hub.log import merkle, recorder, sealing
from hub.log.log import RESTORING

AT_ONCE = 2_000


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
    with making(out) as folder, hub.log.entries.snapshot() as (connection, end):
        growing = Growing()
        for table in tables.kept():
            rows = _rows(connection, table)
            if table is recorder.log:
                rows = growing.through(rows)
            if table is recorder.setting:
                rows = (row for row in rows if row.name != RESTORING)
            folder.write(table.name, table.columns.keys(), map(tuple, rows))
        head = connection.execute(select(recorder.head)).one()
        if (head.position, head.frontier) != (growing.tree.size, growing.tree.encode()):
            raise Tampered("the log does not come to the root that its head keeps; run: hub verify")
        with hub.engines[1].connect() as keys:
            ended = sealing.ended_period
            folder.write(ended.name, ended.columns.keys(), map(tuple, _rows(keys, ended)))
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
            folder.write(table.name, table.columns.keys(), map(tuple, _rows(connection, table)))
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


def _rows(connection: Connection, table: Table) -> Iterator[Row[Any]]:
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=AT_ONCE)
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
