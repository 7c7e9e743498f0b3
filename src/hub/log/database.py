"""The databases: where a hub's log and keys are, how they are opened, and what every dialect has to offer.

SQLite in files is the default; PostgreSQL is for a city that outgrows one machine. What differs between
them is here and in `sqlite` and `postgres`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from sqlalchemy import URL, ColumnElement, Connection, Engine, ExceptionContext, MetaData, Table, event, make_url
from sqlalchemy.exc import ArgumentError

from hub.errors import Busy, HubError, Misuse, Tampered

DAMAGED = "the database is damaged; restore it from a backup, or ask who changed it"

Role = Literal["log", "keys", "outbox"]
"""What a database is for: the log with its views, the keys, or (at a source's side, SQLite) what waits to be sent."""

SCHEMA = "hub"
"""The schema of a log in PostgreSQL, where its URL names none; its keys are in one with `_keys` behind its name."""

_OPTIONS = frozenset(
    {"schema", "sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "target_session_attrs", "connect_timeout"}
)
"""What may stand behind the ? of a URL of PostgreSQL."""


class Beside(NamedTuple):
    """A connection beside empty copies of tables: the schema of the copies, and that of the tables themselves.

    Each of its transactions sees one snapshot; the copies outlast them. A name without a schema means the copy where
    there is one, else the table itself.
    """

    connection: Connection
    copies: str
    kept: str


class Dialect(Protocol):
    """What the hub asks of a database beyond what SQLAlchemy makes alike."""

    name: str

    def open(self, url: URL, role: Role, *, durable: bool) -> Engine:
        """An engine; durable: False only for a database that is thrown away."""

    def reading(self, engine: Engine) -> Engine:
        """The same engine for transactions that see one snapshot and write nothing."""

    def writing(self, engine: Engine) -> Engine:
        """The same engine for transactions that write."""

    def time(self) -> ColumnElement[datetime] | None:
        """The clock of the database's machine, which every process can look at; None where it is the process's own."""

    def turn(self, engine: Engine) -> AbstractContextManager[object]:
        """What this process waits for before it locks the head; threads may share it."""

    def claim(self, connection: Connection) -> None:
        """Wait until no other process changes the form of this database; until the transaction ends."""

    def may_append(self, connection: Connection) -> bool:
        """Whether who is connected may add to the log; a role may be let only look."""

    def create(self, connection: Connection, metadata: MetaData, role: Role) -> None:
        """Create the tables that are missing, and what `guard` puts in place."""

    def guard(self, connection: Connection, role: Role) -> None:
        """Put the triggers in place that keep a log append-only, as they are in this release."""

    def revising(self, connection: Connection) -> AbstractContextManager[None]:
        """Have who could use every table before the block use those that it makes, in the same way."""

    def insert_many(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows whose values stand in the order of the table's columns and are the driver's own types.

        SQLAlchemy's handling of each parameter is left out, which doubles the speed.
        """

    def insert_missing(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert those rows whose primary key nobody has taken, by whichever process; the others stay as they are."""

    def among(self, connection: Connection, table: Table, key: str, wanted: Sequence[bytes]) -> Iterator[Any]:
        """The rows of `table` whose `key` is one of `wanted`."""

    def beside(self, engine: Engine, tables: Sequence[Table]) -> AbstractContextManager[Beside]:
        """A connection of its own beside empty copies of `tables`, which go with it."""

    def check(self, connection: Connection, role: Role) -> None:
        """The database's own look at its pages and indexes, and ours at the triggers. Raises Tampered."""

    def meaning(self, error: BaseException) -> HubError | None:
        """An error of the driver in the hub's words; None for a fault of the hub's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a hub is. folder: for what stands in files beside the databases."""

    log: URL
    keys: URL
    folder: Path

    @property
    def file(self) -> Path | None:
        """The file of the log; None where it is on a server."""
        return Path(self.log.database or "") if self.log.get_backend_name() == "sqlite" else None


def place(url: str, keys: str | None = None, folder: Path = Path("hub-data")) -> Place:
    """Where a hub is by the URL of its log, and that of its keys; without it, the keys are beside the log.

    folder: for what stands in files, where the log is on a server. Raises Misuse.
    """
    log = parse_url(url)
    if keys is not None and _where(parse_url(keys)) == _where(log):
        raise Misuse("the keys' database is the log's: name another in HUB_KEYS_DATABASE_URL, or leave it out")
    if log.get_backend_name() == "sqlite":
        path = Path(log.database or "")
        beside = file_url(path.with_name(path.stem + ".keys" + path.suffix))
        return Place(log=log, keys=beside if keys is None else parse_url(keys), folder=path.parent)
    if keys is not None:
        return Place(log=log, keys=parse_url(keys), folder=folder)
    schema = str(log.query.get("schema", SCHEMA))
    return Place(log=log, keys=log.update_query_dict({"schema": f"{schema}_keys"}), folder=folder)


def parse_url(url: str) -> URL:
    """The database that `url` names. Raises Misuse where it is none that the hub runs on."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Misuse(
            "the database's URL is none; write sqlite:///path/to/hub.sqlite3 or postgresql://user@host/name"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and not parsed.host and parsed.database not in (None, "", ":memory:"):
        return parsed
    if backend == "postgresql":
        return _postgresql(parsed)
    raise Misuse(
        "the hub keeps its log in an SQLite file (sqlite:///path/to/hub.sqlite3) "
        "or in PostgreSQL (postgresql://user@host/name)"
    )


def _where(url: URL) -> tuple[object, ...]:
    return url.host, url.port, url.database, url.query.get("schema", SCHEMA)


def _postgresql(url: URL) -> URL:
    strange = min(url.query.keys() - _OPTIONS, default=None)
    if strange is not None:
        raise Misuse(
            f"the database's URL: `{strange}` is no option that the hub knows; the schema is given as ?schema=NAME"
        )
    schema = url.query.get("schema", SCHEMA)
    if not isinstance(schema, str) or not schema.isidentifier() or not schema.isascii() or schema != schema.lower():
        raise Misuse("the database's URL: schema has to be one name in small letters")
    return url.set(drivername="postgresql+psycopg")


def dialect(of: Engine | Connection | URL) -> Dialect:
    """What the database of an engine, a connection or a URL offers."""
    from hub.log.postgres import POSTGRES
    from hub.log.sqlite import SQLITE

    name = of.get_backend_name() if isinstance(of, URL) else of.dialect.name
    return POSTGRES if name == "postgresql" else SQLITE


def file_url(path: Path) -> URL:
    """The URL of an SQLite file."""
    return URL.create("sqlite", database=str(path))


def open_database(url: URL, role: Role = "log", *, durable: bool = True) -> Engine:
    """The engine of a database. An SQLite file is created where it is missing.

    durable: False only for a database that is thrown away, since a loss of power may cost it what it acknowledged.
    """
    offers = dialect(url)
    engine = offers.open(url, role, durable=durable)
    told(engine, offers)
    return engine


def called(engine: Engine, role: Role) -> str:
    """Which database it is, for who has two of them; without user and password."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return f"the database of the {role} ({url.database})"
    host, port = url.host or url.query.get("host", "localhost"), url.port or url.query.get("port", 5432)
    schema = engine.get_execution_options()["hub_schema"]
    return f"the database of the {role} ({host}:{port}/{url.database or ''}, schema {schema})"


@contextmanager
def naming(engine: Engine, role: Role) -> Iterator[None]:
    """Have what fails say which database it was. For an operator alone: an answer names no server."""
    try:
        yield
    except (Misuse, Busy, Tampered) as error:
        said, name = str(error), called(engine, role)
        if name in said:
            raise
        what = said.removeprefix("the database")
        raise type(error)(f"{name}{what}" if what.startswith(" ") else f"{name}: {said}") from None


def told(engine: Engine, offers: Dialect) -> None:
    """Have errors of the database said in the hub's words; what is a fault of the hub's own stays as it is."""

    def failed(context: ExceptionContext) -> None:
        meaning = offers.meaning(context.original_exception)
        if meaning is not None:
            raise meaning from None

    event.listen(engine, "handle_error", failed)


def insert_many(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows whose values stand in the order of the table's columns and are the driver's own types."""
    if rows:
        dialect(connection).insert_many(connection, table, rows)


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those rows whose primary key nobody has taken; the others stay as they are."""
    if rows:
        dialect(connection).insert_missing(connection, table, rows)
