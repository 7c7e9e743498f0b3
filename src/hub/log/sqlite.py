"""SQLite: one file, one machine. WAL with `synchronous=FULL`; a writer begins with `BEGIN IMMEDIATE`, a reader sees
one snapshot. What is deleted is overwritten (`secure_delete`).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Engine, MetaData, Table, create_engine, event, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from hub.errors import Busy, HubError, Misuse, Tampered
from hub.log.database import DAMAGED, Beside, Role, told

_BUSY_MS = 60_000
_COMPILED = sqlite.dialect()
_WRITER = "hub_writer"
_JOURNALS: Mapping[Role, str] = {"log": "WAL", "keys": "DELETE", "outbox": "WAL"}
_MEANINGS = {
    sqlite3.SQLITE_CORRUPT: Tampered(DAMAGED),
    sqlite3.SQLITE_NOTADB: Tampered("the file is no database, or is damaged; restore it from a backup"),
    sqlite3.SQLITE_CANTOPEN: Misuse("the database cannot be opened: --database has to name a file, in a folder"),
    sqlite3.SQLITE_READONLY: Misuse("the database cannot be written to"),
    sqlite3.SQLITE_BUSY: Busy("another process holds the database; try again"),
}
_ALTERED = ("Could not decode", "no such column", "no such table", "table ", "unsupported", "attached databases")

_GUARDS = [
    f"CREATE TRIGGER {table}_{verb} BEFORE {verb.upper()} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END"
    for table in ("log", "identity", "chunk")
    for verb in ("update", "delete")
] + [
    "CREATE TRIGGER log_insert BEFORE INSERT ON log "
    "WHEN NEW.position <> (SELECT coalesce(max(position), 0) + 1 FROM log) "
    "BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END",
    "CREATE TRIGGER head_delete BEFORE DELETE ON head BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END",
    "CREATE TRIGGER head_update BEFORE UPDATE ON head WHEN NEW.position < OLD.position "
    "BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END",
]
"""The triggers, as the database holds them."""


class Turn:
    """The turn to write: of one thread of this process, and of one process.

    SQLite has a process that finds the database locked sleep and ask again, for up to 100 ms; a lock on a
    file wakes the next one at once. The system releases it when a process dies.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._file: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._lock.release()

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


class Sqlite:
    """What SQLite offers."""

    name = "sqlite"

    def open(self, url: URL, role: Role, *, durable: bool) -> Engine:
        path = Path(url.database or "")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            raise Misuse("the database cannot be opened: its folder cannot be made") from None
        engine = create_engine(
            url,
            connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False},
            hide_parameters=True,
            pool_size=64,
            max_overflow=64,
        )

        def connected(raw: Any, _record: Any) -> None:
            raw.isolation_level = None
            try:
                for pragma in (
                    f"journal_mode={_JOURNALS[role]}",
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
            writer = connection.get_execution_options().get(_WRITER)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

        event.listen(engine, "connect", connected)
        event.listen(engine, "begin", begun)
        return engine

    def reading(self, engine: Engine) -> Engine:
        return engine

    def writing(self, engine: Engine) -> Engine:
        return engine.execution_options(**{_WRITER: True})

    def time(self) -> ColumnElement[datetime] | None:
        return None

    def turn(self, engine: Engine) -> AbstractContextManager[object]:
        return Turn(Path(f"{engine.url.database}.turn"))

    def claim(self, connection: Connection) -> None:
        """A writer of SQLite is alone."""

    def may_append(self, connection: Connection) -> bool:
        return True

    def create(self, connection: Connection, metadata: MetaData, role: Role) -> None:
        for table in metadata.sorted_tables:
            for statement in _creating(table):
                connection.exec_driver_sql(statement)
        self.guard(connection, role)

    def guard(self, connection: Connection, role: Role) -> None:
        for guard in _GUARDS if role == "log" else ():
            connection.exec_driver_sql(guard.replace("TRIGGER", "TRIGGER IF NOT EXISTS"))

    def revising(self, connection: Connection) -> AbstractContextManager[None]:
        return nullcontext()

    def insert_many(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        connection.exec_driver_sql(_insert(table), list(rows))

    def insert_missing(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), list(rows))

    def among(self, connection: Connection, table: Table, key: str, wanted: Sequence[bytes]) -> Iterator[Any]:
        names = ", ".join(table.columns.keys())
        for at in range(0, len(wanted), 500):
            part = tuple(wanted[at : at + 500])
            marks = ",".join("?" * len(part))
            query = f"SELECT {names} FROM {table.name} WHERE {key} IN ({marks})"  # noqa: S608 -- names and marks only
            yield from connection.exec_driver_sql(query, part)

    @contextmanager
    def beside(self, engine: Engine, tables: Sequence[Table]) -> Iterator[Beside]:
        """The database is attached as `hub` beside a database in memory."""
        memory = create_engine("sqlite://")

        def connected(raw: Any, _record: Any) -> None:
            raw.isolation_level = None
            raw.execute("ATTACH DATABASE ? AS hub", (str(engine.url.database),))

        event.listen(memory, "connect", connected)
        event.listen(memory, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        told(memory, self)
        try:
            with memory.connect() as connection:
                for table in tables:
                    for statement in _creating(table):
                        connection.exec_driver_sql(statement)
                connection.commit()
                yield Beside(connection, "main", "hub")
                connection.rollback()
        finally:
            memory.dispose()

    def check(self, connection: Connection, role: Role) -> None:
        pages, triggers = "PRAGMA integrity_check(3)", "SELECT sql FROM sqlite_master WHERE type = 'trigger'"
        if role == "log":  # attached, see `beside`
            pages, triggers = pages.replace("integrity", "hub.integrity"), triggers.replace("sqlite_m", "hub.sqlite_m")
        if list(connection.exec_driver_sql(pages).scalars()) != ["ok"]:
            what = DAMAGED if role == "log" else "the file of keys is damaged; restore it from its backup"
            raise Tampered(what)
        if set(connection.exec_driver_sql(triggers).scalars()) != set(_GUARDS if role == "log" else ()):
            raise Tampered("the triggers that keep the log append-only were changed")

    def meaning(self, error: BaseException) -> HubError | None:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _MEANINGS:
            said = _MEANINGS[code & 0xFF]
            return type(said)(*said.args)
        altered = isinstance(error, sqlite3.OperationalError) and str(error).startswith(_ALTERED)
        return Tampered(DAMAGED) if altered or isinstance(error, UnicodeDecodeError) else None


SQLITE = Sqlite()


@cache
def _creating(table: Table) -> Sequence[str]:
    """What creates a table and its indexes, compiled once: an engine keeps no DDL."""
    ddl: list[ExecutableDDLElement] = [CreateTable(table, if_not_exists=True)]
    ddl += [CreateIndex(index, if_not_exists=True) for index in table.indexes]
    return [str(one.compile(dialect=_COMPILED)) for one in ddl]


@cache
def _insert(table: Table) -> str:
    return str(insert(table).compile(dialect=_COMPILED, column_keys=list(table.columns.keys())))
