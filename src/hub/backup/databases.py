"""Where backups come from and go to: the databases of a hub, opened without the hub."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from hub.hub import Hub
from hub.log import migrations
from hub.log.clock import Clock
from hub.log.database import dialect, open_database, place
from hub.plugins import Plugins


@dataclass(frozen=True, slots=True)
class Databases:
    """The databases of one hub, by the URLs of its log and of its keys; without the latter, beside the log."""

    url: str
    keys_url: str | None = None

    def engines(self) -> tuple[Engine, Engine]:
        """The databases of the log and of its keys, with their tables; an SQLite file is made where it is missing."""
        at = place(self.url, self.keys_url)
        keys, engine = open_database(at.keys, "keys"), open_database(at.log)
        migrations.prepare(keys, "keys")
        migrations.prepare(engine, "log")
        return engine, keys

    def hub(self, clock: Clock, master: bytes, plugins: Plugins) -> Hub:
        """The hub, though its restore is not finished."""
        return Hub.open(self.url, clock, keys_url=self.keys_url, master=master, plugins=plugins, restoring=True)


def writing(engine: Engine) -> Engine:
    """The same engine for transactions that write."""
    return dialect(engine).writing(engine)
