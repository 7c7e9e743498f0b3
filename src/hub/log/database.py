"""The databases: how they are opened, and what makes an acknowledged commit durable.

SQLite runs in WAL with `synchronous=FULL`; a writer begins with `BEGIN IMMEDIATE`, a reader sees one
snapshot. What is deleted is overwritten (`secure_delete`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    make_url,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from hub.errors import Busy, HubError, Misuse, Tampered

WRITER = {"hub_writer": True}
"""Execution options of a connection that will write."""

DAMAGED = "the database file is damaged; restore it from a backup, or ask who changed it"

_BUSY_MS = 60_000
_SQLITE = sqlite.dialect()
_MEANINGS = {
    sqlite3.SQLITE_CORRUPT: Tampered(DAMAGED),
    sqlite3.SQLITE_NOTADB: Tampered("the file is no database, or is damaged; restore it from a backup"),
    sqlite3.SQLITE_CANTOPEN: Misuse("the database cannot be opened: --database has to name a file, in a folder"),
    sqlite3.SQLITE_READONLY: Misuse("the database cannot be written to"),
    sqlite3.SQLITE_BUSY: Busy("another process holds the database; try again"),
}
_ALTERED = ("Could not decode", "no such column", "no such table", "table ", "unsupported", "attached databases")


def parse_url(url: str) -> URL:
    """The database that `url` names. Raises Misuse where it is none that this hub runs on."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Misuse("--database is no URL; for a file write sqlite:///path/to/hub.sqlite3") from None
    if parsed.get_backend_name() != "sqlite" or parsed.host or parsed.database in (None, "", ":memory:"):
        raise Misuse("this release keeps its log in an SQLite file: sqlite:///path/to/hub.sqlite3")
    return parsed


def open_database(path: Path, *, journal: str = "WAL", durable: bool = True) -> Engine:
    """The engine of an SQLite file, which is created where it is missing.

    durable: False only for a database that is thrown away, since a loss of power may cost it what it acknowledged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise Misuse("the database cannot be opened: its folder cannot be made") from None
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False},
        hide_parameters=True,
        pool_size=64,
        max_overflow=64,
    )

    def connected(raw: Any, _record: Any) -> None:
        raw.isolation_level = None
        try:
            for pragma in (
                f"journal_mode={journal}",
                f"synchronous={'FULL' if durable else 'OFF'}",
                f"busy_timeout={_BUSY_MS}",
                "secure_delete=ON",
                "recursive_triggers=ON",
                "foreign_keys=ON",
                "temp_store=MEMORY",
                "cache_size=-65536",
            ):
                raw.execute(f"PRAGMA {pragma}")
        except UnicodeDecodeError:  # a message that quotes damaged bytes is no UTF-8 itself
            raise Tampered(DAMAGED) from None

    def begun(connection: Connection) -> None:
        writer = connection.get_execution_options().get("hub_writer")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    event.listen(engine, "handle_error", _failed)
    return engine


def _failed(context: ExceptionContext) -> None:
    """Say an error of the database in the hub's words; what is a fault of the hub's own stays as it is."""
    meaning = _meaning(context.original_exception)
    if meaning is not None:
        raise meaning from None


def _meaning(error: BaseException) -> HubError | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _MEANINGS:
        said = _MEANINGS[code & 0xFF]
        return type(said)(*said.args)
    altered = isinstance(error, sqlite3.OperationalError) and str(error).startswith(_ALTERED)
    return Tampered(DAMAGED) if altered or isinstance(error, UnicodeDecodeError) else None


def create_missing(connection: Connection, metadata: MetaData) -> None:
    """Create the tables and indexes that are missing."""
    for table in metadata.sorted_tables:
        for statement in _creating(table):
            connection.exec_driver_sql(statement)


@cache
def _creating(table: Table) -> Sequence[str]:
    """What creates a table and its indexes, compiled once: an engine keeps no DDL."""
    ddl: list[ExecutableDDLElement] = [CreateTable(table, if_not_exists=True)]
    ddl += [CreateIndex(index, if_not_exists=True) for index in table.indexes]
    return [str(one.compile(dialect=_SQLITE)) for one in ddl]


def insert_many(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows whose values stand in the order of the table's columns and are the driver's own types.

    The statement is SQLAlchemy's; its handling of each parameter is left out, which doubles the speed.
    """
    if rows:
        connection.exec_driver_sql(_insert(table), list(rows))


@cache
def _insert(table: Table) -> str:
    return str(insert(table).compile(dialect=_SQLITE, column_keys=list(table.columns.keys())))


@contextmanager
def beside_memory(engine: Engine, tables: Sequence[Table]) -> Iterator[Connection]:
    """A reading snapshot of the database, attached as `hub`, beside empty copies of `tables` in memory (`main`).

    A name without a schema means the copy where there is one, else the database itself.
    """
    memory = create_engine("sqlite://")

    def connected(raw: Any, _record: Any) -> None:
        raw.isolation_level = None
        raw.execute("ATTACH DATABASE ? AS hub", (str(engine.url.database),))

    event.listen(memory, "connect", connected)
    event.listen(memory, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    event.listen(memory, "handle_error", _failed)
    try:
        with memory.connect() as connection:
            for table in tables:
                for statement in _creating(table):
                    connection.exec_driver_sql(statement)
            yield connection
            connection.rollback()
    finally:
        memory.dispose()
