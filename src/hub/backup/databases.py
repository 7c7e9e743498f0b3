"""Where backups come from and go to: the databases of a hub, opened without the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from hub.events import EPOCH
from hub.hub import Hub
from hub.log import recorder, sealing
from hub.log.clock import Clock, SetClock
from hub.log.database import WRITER, create_missing, open_database, parse_url
from hub.plugins import Plugins


@dataclass(frozen=True, slots=True)
class Databases:
    """The databases of one hub, by the URL of its log."""

    url: str

    def engines(self) -> tuple[Engine, Engine]:
        """The databases of the log and of its keys, with their tables; an SQLite file is made where it is missing."""
        path = Path(parse_url(self.url).database or "")
        keys = open_database(path.with_name(path.stem + ".keys" + path.suffix), journal="DELETE")
        engine = open_database(path)
        entries = recorder.Recorder(engine, SetClock(EPOCH))
        entries.create_tables()
        entries.close()
        with writing(keys).begin() as connection:
            create_missing(connection, sealing.metadata)
        return engine, keys

    def hub(self, clock: Clock, master: bytes, plugins: Plugins) -> Hub:
        """The hub, though its restore is not finished."""
        return Hub.open(self.url, clock, master=master, plugins=plugins, restoring=True)


def writing(engine: Engine) -> Engine:
    """The same engine for transactions that write."""
    return engine.execution_options(**WRITER)
