"""PostgreSQL: one server, many processes and machines. `synchronous_commit=on`; a writer locks the head's row, a
reader sees one snapshot (repeatable read). Log and keys each have a schema of their own, or a database.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import psycopg
from psycopg import errors
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    inspect,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement
from sqlalchemy.types import BigInteger, Integer, TypeEngine

from hub.errors import Busy, HubError, Misuse, PayloadError, Tampered
from hub.log.database import DAMAGED, SCHEMA, Beside, Role

_COMPILED = postgresql.dialect()  # type: ignore[no-untyped-call]
_LOCK_S = 60
_CONNECT_S = 10
_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
"""A server that falls silent is given up within half a minute; it gives up a client that does, as soon."""

OLDEST = 15
"""The oldest release of PostgreSQL that the hub runs on."""

_POOL = 16
"""Connections of a process to each of the two databases; as many again under load."""

_APPEND_ONLY = "the log is append-only"
_GUARDED = {
    **{f"{table}_{verb}": (table, f"BEFORE {verb.upper()}", "hub_refuse") for table in ("log", "identity", "chunk")
       for verb in ("update", "delete", "truncate")},
    "log_insert": ("log", "AFTER INSERT", "hub_next"),
    "head_delete": ("head", "BEFORE DELETE", "hub_refuse"),
    "head_truncate": ("head", "BEFORE TRUNCATE", "hub_refuse"),
    "head_update": ("head", "BEFORE UPDATE", "hub_forward"),
}  # fmt: skip
"""The triggers: table, when, function."""

_REFUSE = f"RAISE EXCEPTION USING ERRCODE = '23001', MESSAGE = '{_APPEND_ONLY}';"


@cache
def _functions(schema: str) -> dict[str, str]:
    """What the triggers do. They name the log's schema themselves: a connection may have another search path."""
    return {
        "hub_refuse": f"BEGIN {_REFUSE} END",
        "hub_next": (
            "DECLARE low bigint; high bigint; many bigint; last bigint; BEGIN "
            "SELECT min(position), max(position), count(*) INTO low, high, many FROM added; "
            "IF many = 0 THEN RETURN NULL; END IF; "
            f'SELECT coalesce(max(position), 0) INTO last FROM "{schema}".log WHERE position < low; '
            "IF low <> last + 1 OR high <> last + many "
            f'OR (SELECT max(position) FROM "{schema}".log) <> high THEN {_REFUSE} END IF; '
            "RETURN NULL; END"
        ),
        "hub_forward": (
            f"BEGIN IF NEW.position < OLD.position OR NEW.id <> OLD.id THEN {_REFUSE} END IF; RETURN NEW; END"
        ),
    }


class _Told(NamedTuple):
    error: type[HubError]
    words: str


_AWAY = _Told(Busy, "the database does not answer; try again")
_MEANINGS = {
    "08": _AWAY,
    "57": _AWAY,
    "25P03": _AWAY,
    "53": _Told(Busy, "the database has no room left: its disk, memory or connections; try again once it has"),
    "40": _Told(Busy, "the database had to take it back; try again"),
    "55P03": _Told(Busy, "another process holds the log; try again"),
    "25006": _Told(Busy, "the database is a standby or read-only; name the primary"),
    "28": _Told(
        Misuse,
        "the database refuses this user or password; see the user in its URL, and "
        "HUB_DATABASE_PASSWORD_FILE / HUB_KEYS_DATABASE_PASSWORD_FILE",
    ),
    "3D": _Told(Misuse, "the server has no such database; create it first, then run: hub migrate"),
    "42501": _Told(
        Misuse,
        "this role of the database may not do that: name another (docs/operating.md), or as the role that owns it "
        "run: hub migrate --append ROLE --read ROLE",
    ),
    "42704": _Told(
        Misuse, "the server has no such role; make it first (deploy/postgres/roles.sh), then run: hub migrate"
    ),
    "42P01": _Told(Tampered, DAMAGED),
    "42703": _Told(Tampered, DAMAGED),
    "XX": _Told(Tampered, DAMAGED),
}
"""By SQLSTATE, or the class of it that it begins with."""

_REFUSALS = (
    (
        ("SSL was required", "certificate "),
        _Told(Misuse, "TLS with the database fails: see sslmode and sslrootcert in its URL"),
    ),
    (("authentication", "no password supplied", "pg_hba.conf", "FATAL:  role "), _MEANINGS["28"]),
    (("permission denied",), _MEANINGS["42501"]),
    (("too many", "connection slots"), _MEANINGS["53"]),
    (("does not exist",), _MEANINGS["3D"]),
)
"""A connection that was refused has no SQLSTATE: by the words that libpq or the server says."""


class Postgres:
    """What PostgreSQL offers."""

    name = "postgresql"

    def open(self, url: URL, role: Role, *, durable: bool) -> Engine:
        schema = schema_of(url)
        settings = {
            "search_path": schema,
            "synchronous_commit": "on" if durable else "off",
            "lock_timeout": f"{_LOCK_S}s",
            "idle_in_transaction_session_timeout": f"{_LOCK_S}s",
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "20s",
            "timezone": "UTC",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        engine = create_engine(
            url.difference_update_query(["schema"]),
            connect_args={
                "options": options,
                "connect_timeout": _CONNECT_S,
                "application_name": f"hub {role}",
                **_ALIVE,
            },
            hide_parameters=True,
            pool_size=_POOL,
            max_overflow=_POOL,
            pool_timeout=_LOCK_S,
            isolation_level="READ COMMITTED",
            execution_options={"hub_schema": schema},
        )
        event.listen(engine, "connect", _connected, insert=True)  # before SQLAlchemy asks the server anything
        return engine

    def reading(self, engine: Engine) -> Engine:
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def writing(self, engine: Engine) -> Engine:
        return engine

    def time(self) -> ColumnElement[datetime] | None:
        return func.clock_timestamp(type_=DateTime(timezone=True))

    def turn(self, engine: Engine) -> AbstractContextManager[object]:
        return threading.Lock()  # among processes the head's row is the turn

    def claim(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('hub'))")

    def may_append(self, connection: Connection) -> bool:
        return bool(connection.exec_driver_sql("SELECT has_table_privilege('log', 'INSERT')").scalar())

    def create(self, connection: Connection, metadata: MetaData, role: Role) -> None:
        schema = _schema(connection)
        connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        connection.exec_driver_sql(_creating(metadata, len(metadata.tables)))
        self.guard(connection, role)

    def guard(self, connection: Connection, role: Role) -> None:
        if role != "log":
            return
        statements = [
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $hub${body}$hub$"
            for name, body in _functions(_schema(connection)).items()
        ]
        for name, (table, when, function) in _GUARDED.items():
            row = "FOR EACH ROW" if function == "hub_forward" else "FOR EACH STATEMENT"
            added = "REFERENCING NEW TABLE AS added " if function == "hub_next" else ""
            statements.append(
                f"CREATE OR REPLACE TRIGGER {name} {when} ON {table} {added}{row} EXECUTE FUNCTION {function}()"
            )
        connection.exec_driver_sql(";".join(statements))

    @contextmanager
    def revising(self, connection: Connection) -> Iterator[None]:
        before = granted(connection)
        yield
        for name in sorted(before.append | before.read):
            _grant(connection, name, append=name in before.append)

    def insert_many(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        connection.exec_driver_sql(_insert(table), tuple(map(list, zip(*rows, strict=True))))

    def insert_missing(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), list(rows))

    def among(self, connection: Connection, table: Table, key: str, wanted: Sequence[bytes]) -> Iterator[Any]:
        names = ", ".join(table.columns.keys())
        query = f"SELECT {names} FROM {table.name} WHERE {key} = ANY(%b::bytea[])"
        yield from connection.exec_driver_sql(query, (list(wanted),))

    @contextmanager
    def beside(self, engine: Engine, tables: Sequence[Table]) -> Iterator[Beside]:
        """Temporary tables come before those of the schema, for as long as the connection: nobody else gets it."""
        schema = engine.get_execution_options()["hub_schema"]
        with engine.execution_options(isolation_level="REPEATABLE READ").connect() as connection:
            connection.detach()
            for table in tables:
                connection.exec_driver_sql(
                    f'CREATE TEMPORARY TABLE {table.name} (LIKE "{schema}".{table.name} INCLUDING ALL)'
                )
            connection.commit()
            yield Beside(connection, "pg_temp", schema)
            connection.rollback()

    def check(self, connection: Connection, role: Role) -> None:
        """The server checks its pages itself where it keeps checksums; a trigger that is off is as good as none."""
        if role != "log":
            return
        schema = _schema(connection)
        found = connection.exec_driver_sql(_TRIGGERS, (schema,)).all()
        wanted = {(name, table, function) for name, (table, _, function) in _GUARDED.items()}
        bodies = {row.function: " ".join(row.body.split()) for row in found}
        if {(row.name, row.at, row.function) for row in found if row.on} != wanted or bodies != _functions(schema):
            raise Tampered("the triggers that keep the log append-only were changed")

    def meaning(self, error: BaseException) -> HubError | None:
        if not isinstance(error, psycopg.Error):
            return None
        state = error.sqlstate or ""
        for named in (state, state[:2]):
            if named in _MEANINGS:
                told = _MEANINGS[named]
                return told.error(told.words)
        if isinstance(error, errors.DataError) and not state:  # text with NUL, which the driver refuses
            return PayloadError("holds a character that the database cannot keep")
        if isinstance(error, errors.OperationalError) and not state:
            said = str(error)
            told = next((told for words, told in _REFUSALS if any(word in said for word in words)), _AWAY)
            return told.error(told.words)
        return None


POSTGRES = Postgres()

_TRIGGERS = """
    SELECT t.tgname AS name, c.relname AS at, p.proname AS function, t.tgenabled IN ('O', 'A') AS "on", p.prosrc AS body
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal AND n.nspname = %s
"""


def _connected(raw: psycopg.Connection[Any], _record: object) -> None:
    try:
        fits(raw.info.server_version, raw.info.parameter_status("server_encoding") or "")
    except Misuse:
        raw.close()
        raise


def fits(version: int, encoding: str) -> None:
    """Raise Misuse where the hub runs on no such server. version: as libpq says it, 150004 for 15.4."""
    if version // 10_000 < OLDEST:
        raise Misuse(
            f"the database's server is PostgreSQL {version // 10_000}, and the hub needs {OLDEST} or newer: upgrade it"
        )
    if encoding != "UTF8":
        raise Misuse(
            f"the database keeps text as {encoding}, and the hub needs UTF8: "
            "make it anew with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


def schema_of(url: URL) -> str:
    """The schema that a URL names."""
    return str(url.query.get("schema", SCHEMA))


def _schema(connection: Connection) -> str:
    return str(connection.get_execution_options()["hub_schema"])


@cache
def _creating(metadata: MetaData, _tables: int) -> str:
    """What creates the tables and indexes that are missing, as one text: one way to the server."""
    ddl: list[ExecutableDDLElement] = []
    for table in metadata.sorted_tables:
        ddl.append(CreateTable(table, if_not_exists=True))
        ddl += [CreateIndex(index, if_not_exists=True) for index in table.indexes]
    return ";".join(str(one.compile(dialect=_COMPILED)) for one in ddl)


@cache
def _insert(table: Table) -> str:
    """One statement for any number of rows: an array for each column."""
    names = ", ".join(f'"{name}"' for name in table.columns.keys())  # noqa: SIM118 -- a collection of columns
    arrays = ", ".join(f"%b::{_type(column.type)}[]" for column in table.columns)
    return f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays})"


def _type(of: TypeEngine[Any]) -> str:
    found = {LargeBinary: "bytea", String: "text", BigInteger: "int8", Integer: "int4"}
    return next(name for type_, name in found.items() if isinstance(of, type_))


def grant(connection: Connection, role: Role, append: str | None, read: str | None) -> None:
    """Let one role of the server add to the log and keep what is derived, and one only look.

    Neither may change what is recorded, empty a table, or put the triggers away: they own nothing. Raises Misuse for
    what is no name of a role.
    """
    named = [name for name in (append, read) if name is not None]
    for name in named:
        if not name.isidentifier() or not name.isascii():
            raise Misuse("a role's name has to be letters, digits and _")
    POSTGRES.claim(connection)  # of two that grant at once the server would refuse one
    for name in named:
        _grant(connection, name, append=name == append)


def _grant(connection: Connection, name: str, *, append: bool) -> None:
    schema, to = _schema(connection), '"' + name.replace('"', '""').replace("%", "%%") + '"'
    _run(connection, f'GRANT USAGE ON SCHEMA "{schema}" TO {to}')
    _run(connection, f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO {to}')
    if append:
        _run(connection, f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{schema}" TO {to}')
        for table in inspect(connection).get_table_names(schema=schema):
            _run(connection, f'REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON "{schema}"."{table}" FROM {to}')
            if rights := _RIGHTS.get(table, _EVERYTHING):
                _run(connection, f'GRANT {rights} ON "{schema}"."{table}" TO {to}')


class Granted(NamedTuple):
    """The roles that may all that `grant` gives, by what was granted to themselves; and those that may a part of it."""

    append: frozenset[str]
    read: frozenset[str]
    part: frozenset[str]


def granted(connection: Connection) -> Granted:
    """Who may what at the tables of a database."""
    held: dict[str, set[tuple[str, str]]] = {}
    for row in connection.exec_driver_sql(_HELD, (_schema(connection),)):
        held.setdefault(row.name, set()).add((row.at, row.may))
    tables = inspect(connection).get_table_names(schema=_schema(connection))
    look = {(table, "SELECT") for table in tables}
    more = {(table, may) for table in tables for may in _RIGHTS.get(table, _EVERYTHING).split(", ") if may}
    append = frozenset(name for name, may in held.items() if may >= look | more)
    read = frozenset(name for name, may in held.items() if may >= look and may.isdisjoint(more))
    ours = frozenset(name for name, may in held.items() if ("alembic_version", "SELECT") in may)
    return Granted(append, read, ours - append - read)


_HELD = """
    SELECT r.rolname AS name, c.relname AS at, a.privilege_type AS may
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind = 'r' AND a.grantee <> c.relowner
"""
"""What each role was granted itself, but for the owner: none of it by another role, nor as one of all (PUBLIC)."""

_EVERYTHING = "INSERT, UPDATE, DELETE"
_RIGHTS = {"log": "INSERT", "identity": "INSERT", "chunk": "INSERT", "head": "UPDATE", "alembic_version": ""}
"""What the appending role may do besides looking, where that is not everything."""


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)
