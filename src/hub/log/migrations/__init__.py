"""Which form a database has, and how it is brought to the form of this release: alembic, for log and keys, on both
databases.

    nothing there -> all tables at once, stamped      an older form -> revision by revision      a newer one -> refused

A file of SQLite is brought along when it is opened. PostgreSQL is brought along by `hub migrate`, as the role that
owns the tables: the roles that serve may not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, Column, Connection, Engine, MetaData, String, Table, insert, inspect, select

from hub.errors import Misuse
from hub.log import recorder, sealing
from hub.log.database import Place, Role, dialect, naming, open_database, parse_url, place

if TYPE_CHECKING:
    from alembic.config import Config

FORMS: Mapping[Role, str] = {"log": "0002", "keys": "0001"}
"""The newest revision of each database."""

_METADATA: Mapping[Role, MetaData] = {"log": recorder.metadata, "keys": sealing.metadata}
_FOLDER = Path(__file__).parent
_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def databases(at: Place) -> list[tuple[Role, URL]]:
    """The databases of a hub: keys first, without which no log is opened."""
    return [("keys", at.keys), ("log", at.log)]


def prepare(engine: Engine, role: Role) -> None:
    """Bring an SQLite file to this release's form. Raises Misuse for a database that is not, and cannot be here."""
    with naming(engine, role):
        if dialect(engine).name == "sqlite":
            upgrade(engine, role)
            return
        form = form_of(engine)
        if form is None:
            setting = "HUB_DATABASE_URL" if role == "log" else "HUB_DATABASE_URL / HUB_KEYS_DATABASE_URL"
            raise Misuse(
                f"the database holds no hub: is {setting} right? If it is new, or this role was granted nothing there, "
                "run as its owner: hub migrate"
            )
        if form != FORMS[role]:
            _known(_config(role), form)
            raise Misuse("the database is of an earlier release's form; as the role that owns it, run: hub migrate")


@contextmanager
def throwaway(url: str) -> Iterator[str]:
    """The URL of a hub that may be filled at will: schemas of its own on the PostgreSQL that `url` names, dropped
    afterwards; an SQLite file is its maker's to remove.
    """
    named = parse_url(url)
    if named.get_backend_name() == "sqlite":
        yield url
        return
    named = named.update_query_dict({"schema": f"hub_{secrets.token_hex(8)}"})
    url = named.render_as_string(hide_password=False)
    made = databases(place(url))
    try:
        for role, of in made:
            engine = open_database(of, role, durable=False)
            upgrade(engine, role)
            engine.dispose()
        yield url
    finally:
        for role, of in made:
            engine = open_database(of, role, durable=False)
            with engine.begin() as connection:
                connection.exec_driver_sql(f'DROP SCHEMA IF EXISTS "{of.query["schema"]}" CASCADE')
            engine.dispose()


def form_of(engine: Engine) -> str | None:
    """The revision that a database is at; None where it is at none."""
    with dialect(engine).reading(engine).begin() as connection:
        return _form(connection)


def upgrade(engine: Engine, role: Role) -> bool:
    """Bring a database to this release's form; False where it is already. Raises Misuse where it is of a newer one."""
    offers = dialect(engine)
    with offers.writing(engine).begin() as connection:
        offers.claim(connection)
        form = _form(connection)
        if form is None:  # an empty database, or one of before there were revisions
            offers.create(connection, _METADATA[role], role)
            _version.create(connection, checkfirst=True)
            connection.execute(insert(_version).values(version_num=FORMS[role]))
            if role == "log":
                recorder.begin(connection)
        else:
            if role == "log":
                recorder.hold(connection)  # else a writer under way and the triggers' locks wait for each other
            if form != FORMS[role]:
                with offers.revising(connection):
                    revise(connection, role, form)
            offers.guard(connection, role)
        return form != FORMS[role]


def _form(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_version.name):
        return None
    return connection.scalar(select(_version.c.version_num))


def revise(connection: Connection, role: Role, form: str | None) -> None:
    """Run the revisions behind `form` (None: all). Raises Misuse for a form that this release does not know."""
    from alembic import command

    config = _config(role)
    config.attributes.update(connection=connection, metadata=_METADATA[role])
    _known(config, form)
    command.upgrade(config, "head")


def _config(role: Role) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.set_main_option("version_locations", str(_FOLDER / role))
    config.set_main_option("path_separator", "newline")
    return config


def _known(config: Config, form: str | None) -> None:
    """Raise Misuse for a form that this release does not know."""
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if form is not None and form not in known:
        raise Misuse("the database is of a newer release's form; run that release, or restore a backup of before")
