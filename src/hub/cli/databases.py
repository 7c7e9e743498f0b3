"""Commands about the form of the databases."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hub.cli.opening import Database, place_of, say

Append = Annotated[
    str | None, typer.Option("--append", metavar="ROLE", help="PostgreSQL: let this role serve, append and derive.")
]
Read = Annotated[str | None, typer.Option("--read", metavar="ROLE", help="PostgreSQL: let this role only look.")]


def migrate(database: Database = None, append: Append = None, read: Read = None) -> None:
    """Bring the databases to this release's form, as the role that owns them. SQLite is, whenever it is opened."""
    import hub.hub  # noqa: F401 -- every room's tables are known by then
    from hub.errors import Misuse
    from hub.log import migrations
    from hub.log.database import dialect, naming, open_database
    from hub.log.postgres import grant, granted

    at = place_of(database)
    granting = append is not None or read is not None
    if granting and at.file is not None:
        raise Misuse("--append and --read are for PostgreSQL; who may open an SQLite file is its owner's matter")
    if at.file is not None and not at.file.exists():
        raise Misuse("there is no database yet; run: hub init")
    for role, url in migrations.databases(at):
        engine = open_database(url, role)
        try:
            with naming(engine, role):
                changed = migrations.upgrade(engine, role)
                if granting:
                    with dialect(engine).writing(engine).begin() as connection:
                        grant(connection, role, append, read)
                part: frozenset[str] = frozenset()
                if at.file is None:
                    with dialect(engine).reading(engine).begin() as connection:
                        part = granted(connection).part
        finally:
            engine.dispose()
        say(f"The database of the {role} {'was brought to' if changed else 'had'} the form {migrations.FORMS[role]}.")
        for name in sorted(part):
            sys.stderr.write(
                f"hub: the role {name} may not use all of the database of the {role}; as the same owner run: "
                f"hub migrate --append {name} where it serves, --read {name} where it only looks\n"
            )
