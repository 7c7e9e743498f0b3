"""A town: a real hub in a folder, with a clock that is set, that can be left and come back to."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

import databases
import statements
from hub.answer import Answer, Query
from hub.events import Event
from hub.hub import Hub
from hub.intake import Result
from hub.log.clock import SetClock
from hub.plugins import Plugins
from hub.scenario import World, flat_event
from hub.views.views import TABLES

MORNING = datetime(2026, 6, 1, 0, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

for name in [name for name in os.environ if name.startswith("HUB_")]:
    if not name.startswith(("HUB_TEST_", "HUB_SHARED")):
        del os.environ[name]  # what is set for a hub on this machine is none of the tests'

settings.register_profile("hub", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hub")

gc.set_threshold(100_000, 20, 20)  # a third of what collecting the tests took went to looking for garbage
statements.share()

SERVERS = Path(__file__).parent / "servers"


def _servers_are_meant(config: pytest.Config) -> bool:
    """Whether tests/servers, or something in it, was named on the command line."""
    named = [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]
    return any(path.is_relative_to(SERVERS) for path in named)


ON_SQLITE_ALONE = frozenset(
    """
    identity test_merkle.py test_clock.py test_compatibility.py test_identity_docs.py test_kafka_settings.py
    test_naive.py test_registry.py test_schemas.py test_hazards.py test_deploy.py test_docs.py test_operating_docs.py
    test_conformance.py test_connector_docs.py test_demo.py test_bad_input.py test_tampering.py test_backup.py
    test_backup_after.py test_openapi.py
    """.split()  # noqa: SIM905 -- a list of names reads better so
)
"""Files of which a run on PostgreSQL has nothing more to say: they open no hub, or are about the files of one."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests that need a server run where they are named: make test-servers."""
    if databases.POSTGRES and collection_path.name in ON_SQLITE_ALONE:
        return True
    return True if collection_path == SERVERS and not _servers_are_meant(config) else None


def pytest_report_header(config: pytest.Config) -> list[str]:
    said = ["the hubs of this run are on SQLite"]
    if databases.POSTGRES:
        said = [
            f"the hubs of this run are on {databases.which()}",
            f"left out, as on SQLite: {', '.join(sorted(ON_SQLITE_ALONE))}",
        ]
    left_out = "tests/servers are left out; they run by: make test-servers"
    if not _servers_are_meant(config):
        return [*said, left_out]
    from brokers import which

    return [*said, f"broker: {which()}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is about the files of SQLite runs on SQLite."""
    for item in items:
        marker = item.get_closest_marker("sqlite")
        if marker is not None and databases.POSTGRES:
            item.add_marker(pytest.mark.skip(reason=f"on SQLite only: {marker.args[0]}"))


def pytest_collection_finish() -> None:
    """The tests themselves are no garbage, and are not looked through again."""
    gc.collect()
    gc.freeze()


class Town:
    """A hub under `folder`. Each thing that is told happens a minute after the one before."""

    def __init__(self, folder: Path, plugins: Plugins | None = None) -> None:
        self.folder, self.plugins = folder, plugins
        self.database = folder / "hub.sqlite3"
        self.url = databases.url(folder)
        if databases.POSTGRES:  # where commands of this process find the key of the last town that was made
            os.environ["HUB_FOLDER"] = str(folder)
        self.clock = SetClock(MORNING)
        self._ids = 0
        self.hub = self._open()

    @property
    def world(self) -> World:
        return World(self.hub, self.clock)

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def wait(self, time: timedelta = MINUTE) -> datetime:
        self.clock.set(self.clock.now() + time)
        return self.clock.now()

    def event(self, kind: str, id: str | None = None, **data: Any) -> Event:
        self._ids += 1
        return flat_event(kind, data, id or f"e{self._ids}")

    def hand_in(self, kind: str, id: str | None = None, **data: Any) -> Result:
        """What intake makes of one event, whose data is flat."""
        self.wait()
        [result] = self.hub.intake.take([self.event(kind, id, **data)])
        return result

    def tell(self, kind: str, id: str | None = None, **data: Any) -> int:
        """The position of an event that is accepted."""
        result = self.hand_in(kind, id, **data)
        assert result.status == "accepted", result.error
        assert result.position is not None
        return result.position

    def read(self, recipient: str, purpose: str, *, request: str | None = None, **asked: Any) -> Answer:
        self.wait()
        return self.hub.disclosure.read(Query(recipient=recipient, purpose=purpose, **asked), request=request)

    def reopen(self) -> Town:
        self.close()
        self.hub = self._open()
        return self

    def _open(self) -> Hub:
        """Not proof against a loss of power, which no test brings about; a killed process loses nothing."""
        return Hub.open(self.url, self.clock, folder=self.folder, plugins=self.plugins, durable=False)

    def close(self) -> None:
        self.hub.close()

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of log, head, identities, chunks and views."""
        return self._rows(None)

    def views(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of the views."""
        return self._rows({table.name for table in TABLES})

    def _rows(self, only: set[str] | None) -> dict[str, list[tuple[Any, ...]]]:
        from sqlalchemy import select

        from hub.log.recorder import metadata

        # what is kept beside the log, and is neither truth nor view
        beside = {"parked", "parked_about", "polled", "feed", "held", "waiting", "severed", "session"}
        beside |= {"kept_schema", "kept_feed", "relayed", "relay", "shown", "ahead", "share", "figure"}
        beside |= {"renewal", "renewal_share"}
        tables = [t for t in metadata.sorted_tables if (t.name in only if only is not None else t.name not in beside)]
        with self.hub.log.entries.snapshot() as (connection, _):
            return {
                t.name: sorted(map(tuple, connection.execute(select(t))), key=lambda row: repr(row)) for t in tables
            }


if databases.POSTGRES:
    World.server = databases.server().render_as_string(hide_password=False)


@pytest.fixture
def new_town(tmp_path: Path) -> Iterator[Callable[[str], Town]]:
    """Makes towns by name, each in a folder of its own, and closes them at the end."""
    made: list[Town] = []

    def make(name: str = "town") -> Town:
        made.append(Town(tmp_path / name))
        return made[-1]

    yield make
    for town in made:
        town.close()
        databases.drop(databases.place_of(town.folder))


@pytest.fixture
def town(new_town: Callable[[str], Town]) -> Town:
    """Empty, but for the packaged kinds and the city's areas."""
    found = new_town("town")
    found.hub.init()
    return found


@pytest.fixture(scope="session")
def open_town() -> Callable[[Path], Any]:
    """Opens the town that stands in a folder, as another process would; an empty folder becomes one."""

    @contextmanager
    def opened(folder: Path) -> Iterator[Town]:
        town = Town(folder)
        try:
            yield town
        finally:
            town.close()

    return opened


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `hub` in a process of its own."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("HUB_") or name == "HUB_FOLDER"
        }
        return subprocess.run(
            [sys.executable, "-c", "from hub.cli import main; main()", *map(str, arguments)],
            env={**kept, **environment},
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=300,
            check=False,
        )

    return run


class Said(NamedTuple):
    """What a command did: its exit status, standard output and standard error."""

    status: int
    out: str
    err: str


@pytest.fixture
def hub_main(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Runs `hub` in this process, which is quicker; what would be a traceback fails the test."""

    def run(*arguments: str | Path) -> Said:
        from hub.cli import main

        monkeypatch.setattr(sys, "argv", ["hub", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Said(status, *capfd.readouterr())

    return run
