"""The forms of the databases: revision by revision they come to what is made at once, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.engine import Engine

import databases
import hub.hub  # noqa: F401 -- every room's tables are known by then
from hub.errors import Misuse
from hub.log import migrations
from hub.log.database import Place, Role, dialect, open_database, place

ROLES: tuple[Role, ...] = ("log", "keys")


def engine_of(at: Place, role: Role) -> Engine:
    return open_database(dict(migrations.databases(at))[role], role, durable=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A hub in this release's form."""
    made = place(databases.url(tmp_path, postgres=request.param == "postgresql"))
    for role, url in migrations.databases(made):
        engine = open_database(url, role, durable=False)
        migrations.upgrade(engine, role)
        engine.dispose()
    yield made
    databases.drop(made)


def form(engine: Engine) -> dict[str, Any]:
    """What a database says of its tables."""
    seen = inspect(engine)
    return {
        table: {
            "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in seen.get_columns(table)],
            "key": seen.get_pk_constraint(table)["constrained_columns"],
            "indexes": sorted((i["name"], i["column_names"], bool(i["unique"])) for i in seen.get_indexes(table)),
            "unique": sorted(u["column_names"] for u in seen.get_unique_constraints(table)),
        }
        for table in seen.get_table_names()
        if table != "alembic_version"
    }


def emptied(engine: Engine, role: Role) -> None:
    """Take every table away, as the owner may."""
    with dialect(engine).writing(engine).begin() as connection:
        for table in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE {table}"))


@pytest.mark.parametrize("role", ROLES)
def test_the_revisions_come_to_what_an_empty_database_is_given_at_once(at: Place, role: Role) -> None:
    engine = engine_of(at, role)
    at_once = form(engine)
    assert len(at_once) > 4
    emptied(engine, role)
    assert form(engine) == {}
    with dialect(engine).writing(engine).begin() as connection:
        migrations.revise(connection, role, None)
    assert form(engine) == at_once
    assert migrations.form_of(engine) == migrations.FORMS[role]
    engine.dispose()


def test_a_database_of_the_first_form_is_brought_along_and_keeps_what_it_holds(at: Place) -> None:
    engine = engine_of(at, "log")
    at_once = form(engine)
    with dialect(engine).writing(engine).begin() as connection:
        for table in ("renewal", "renewal_share", "relay"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        connection.execute(text("INSERT INTO setting (name, value) VALUES ('kept', 'yes')"))
    assert migrations.upgrade(engine, "log")
    assert form(engine) == at_once
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT value FROM setting WHERE name = 'kept'")) == "yes"
    engine.dispose()


@pytest.mark.parametrize("role", ROLES)
def test_a_database_in_this_releases_form_is_left_as_it_is(at: Place, role: Role) -> None:
    engine = engine_of(at, role)
    assert migrations.form_of(engine) == migrations.FORMS[role]
    assert not migrations.upgrade(engine, role)
    engine.dispose()


@pytest.mark.parametrize("role", ROLES)
def test_a_database_of_a_newer_release_is_refused_and_says_what_to_do(at: Place, role: Role) -> None:
    engine = engine_of(at, role)
    with dialect(engine).writing(engine).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Misuse, match="newer release"):
        migrations.upgrade(engine, role)
    with pytest.raises(Misuse, match="newer release"):
        migrations.prepare(engine, role)
    engine.dispose()
