"""SQL that is compiled once for all the hubs on SQLite of a process, and not once for each: a test opens its own hub.

The library keeps what it compiled by the dialect object, of which each engine has another. Those of SQLite do not
differ, so that here they count as one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from hub.log import sqlite

_COMPILED: LRUCache[Any, Any] = LRUCache(2_000)


@cache
def share() -> None:
    """Have every engine that `hub.log.sqlite` makes from now on keep what it compiled in one place."""
    create = sqlite.create_engine
    alike: dict[str, Any] = {
        "__eq__": lambda self, other: type(self) is type(other),
        "__hash__": lambda self: hash(type(self)),
    }
    for name, method in alike.items():
        setattr(SQLiteDialect_pysqlite, name, method)

    def created(*arguments: Any, **said: Any) -> Any:
        return create(*arguments, execution_options={"compiled_cache": _COMPILED}, **said)

    sqlite.create_engine = created
