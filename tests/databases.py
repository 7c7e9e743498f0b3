"""The databases of the tests: SQLite files, or schemas of a real PostgreSQL (HUB_TEST_DATABASE=postgresql).

The server is the one that HUB_TEST_POSTGRES names, a superuser's URL, else one that comes as a wheel and is
started for this run, its worker's own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

import psycopg
from sqlalchemy import inspect, make_url, text
from sqlalchemy.engine import URL

from hub.log import migrations
from hub.log.database import Place, Role, open_database, place
from postgres import PostgresServer

POSTGRES = os.environ.get("HUB_TEST_DATABASE", "sqlite") == "postgresql"
"""Whether this run is on PostgreSQL."""


@cache
def server() -> URL:
    """A PostgreSQL that may be filled at will."""
    named = os.environ.get("HUB_TEST_POSTGRES")
    if named:
        return make_url(named)
    started = PostgresServer().start()
    os.environ["HUB_TEST_POSTGRES"] = started.url.render_as_string(hide_password=False)  # for processes of the tests
    return started.url


def which() -> str:
    """Which PostgreSQL the hubs of this run are on, and how it orders text."""
    with psycopg.connect(server().render_as_string(hide_password=False)) as connection:
        [version] = connection.execute("SHOW server_version").fetchone() or ("",)
        [bytewise] = connection.execute("SELECT 'B' < 'a'").fetchone() or (True,)
    return f"PostgreSQL {version}, text ordered by {'its bytes' if bytewise else 'the words of a language'}"


def url(folder: Path, *, postgres: bool = POSTGRES) -> str:
    """The URL of the hub in `folder`: a file there, or a schema named after it, which is prepared."""
    if not postgres:
        return f"sqlite:///{folder / 'hub.sqlite3'}"
    schema = "t" + hashlib.blake2b(str(folder).encode(), digest_size=10).hexdigest()
    found = server().update_query_dict({"schema": schema}).render_as_string(hide_password=False)
    prepare(place(found))
    return found


def settings(folder: Path) -> dict[str, str]:
    """The environment in which a command runs on the hub in `folder`."""
    found = {"HUB_DATABASE_URL": url(folder)}
    if POSTGRES:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), (folder / "master.key").open("x") as key:
            key.write(os.urandom(32).hex())
        found["HUB_FOLDER"] = str(folder)
    return found


def place_of(folder: Path) -> Place:
    """Where the hub in `folder` is."""
    return place(url(folder))


_PREPARED: set[str] = set()


def prepare(at: Place) -> None:
    """Make the schemas of a hub, in this release's form."""
    for role, of in migrations.databases(at):
        if str(of) not in _PREPARED:
            _prepare(role, of)
            _PREPARED.add(str(of))


def _prepare(role: Role, of: URL) -> None:
    engine = open_database(of, role, durable=False)
    migrations.upgrade(engine, role)
    engine.dispose()


def copy(from_folder: Path, to_folder: Path) -> None:
    """A copy of the hub that stands in a folder, as it is."""
    shutil.copytree(from_folder, to_folder)
    if not POSTGRES:
        return
    pairs = zip(migrations.databases(place_of(from_folder)), migrations.databases(place_of(to_folder)), strict=True)
    for (role, old), (_, new) in pairs:
        engine = open_database(new, role, durable=False)
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))  # without the triggers
            for table in inspect(connection).get_table_names(schema=str(new.query["schema"])):
                connection.execute(text(f"DELETE FROM {table}"))
                connection.execute(text(f'INSERT INTO {table} SELECT * FROM "{old.query["schema"]}".{table}'))
        engine.dispose()


def drop(at: Place) -> None:
    """Drop the schemas of a hub on a server."""
    for _, of in migrations.databases(at):
        if of.get_backend_name() == "postgresql" and str(of) in _PREPARED:
            engine = open_database(of)
            with engine.begin() as connection:
                connection.execute(text(f'DROP SCHEMA "{of.query["schema"]}" CASCADE'))
            engine.dispose()
            _PREPARED.discard(str(of))
