"""What the commands share: options, how a hub is opened, how a result is printed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hub.hub import Hub
    from hub.log.clock import Clock
    from hub.plugins import Plugins

DATABASE = "HUB_DATABASE_URL"
MASTER_KEY = "HUB_MASTER_KEY_FILE"
POLICY = "HUB_HAZARD_POLICY"
IDENTITY = "HUB_IDENTITY"
RETENTION = "HUB_RETENTION"
CONNECTORS = "HUB_CONNECTORS"
OUTBOX = "HUB_OUTBOX"
DEFAULT_DATABASE = "sqlite:///hub-data/hub.sqlite3"

Database = Annotated[
    str | None,
    typer.Option("--database", envvar=DATABASE, metavar="URL", help=f"The database; default {DEFAULT_DATABASE}."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Out = Annotated[str, typer.Option("--out", metavar="FILE", help="The file, which its owner alone reads; - for output.")]
At = Annotated[str | None, typer.Option("--at", metavar="TIME", help="As it was at this time, with its offset.")]
AtPosition = Annotated[int | None, typer.Option("--position", metavar="N", help="As it was at this position.")]
Exercise = Annotated[bool, typer.Option("--exercise", help="A drill's reading.")]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_json(value: Any) -> None:
    say(json.dumps(value, ensure_ascii=False))


def time_of(text: str | None, option: str = "--at") -> datetime | None:
    from hub.codec import parse_time
    from hub.errors import Misuse, PayloadError

    if text is None:
        return None
    try:
        return parse_time(text)
    except PayloadError as error:
        raise Misuse(f"{option}: {error.reason}") from None


def _key_file(path: str | None) -> bytes | None:
    from hub.errors import Misuse

    if path is None:
        return None
    try:
        return bytes.fromhex(Path(path).read_text().strip())
    except (OSError, ValueError):
        raise Misuse(f"{MASTER_KEY} names no file that holds a key of 32 bytes in hexadecimal") from None


def _policy(path: str | None) -> Any:
    from hub import hazards
    from hub.errors import Misuse

    if path is None:
        return None
    try:
        return hazards.load(Path(path).read_bytes())
    except OSError:
        raise Misuse(f"{POLICY} names no file that can be read") from None


def _retention(path: str | None) -> Any:
    from hub import retention
    from hub.errors import Misuse
    from hub.schemas import packaged

    if path is None:
        return None
    try:
        return retention.load(Path(path).read_bytes(), packaged())
    except OSError:
        raise Misuse(f"{RETENTION} names no file that can be read") from None


def connectors(path: str | None = None) -> Plugins:
    from hub.plugins import Plugins, load

    path = path or os.environ.get(CONNECTORS)
    return Plugins() if path is None else load(Path(path), os.environ)


@dataclass(frozen=True)
class Opening:
    """How a hub is opened; a fresh process can be handed it."""

    url: str
    master_file: str | None = None
    policy_file: str | None = None
    retention_file: str | None = None
    connectors_file: str | None = None

    def __call__(self, clock: Clock | None = None) -> Hub:
        """The hub, on the machine's clock. A database that replays the past goes on at its own last time."""
        from hub.hub import Hub
        from hub.log.clock import SetClock, WatchedClock

        master, policy = _key_file(self.master_file), _policy(self.policy_file)
        keeps, plugins = _retention(self.retention_file), connectors(self.connectors_file)
        clock = clock or WatchedClock(lambda: datetime.now(UTC), time.monotonic)
        options: dict[str, Any] = {"master": master, "policy": policy, "retention_policy": keeps, "plugins": plugins}
        hub = Hub.open(self.url, clock, **options)
        if hub.simulated and not isinstance(clock, SetClock):
            with hub.log.entries.snapshot() as (_, end):
                last = end.recorded_at or datetime.now(UTC)
            hub.close()
            hub = Hub.open(self.url, SetClock(last), **options)
        return hub


def to_open(database: str | None, *, create: bool) -> Opening:
    from hub.errors import Misuse
    from hub.log.database import parse_url

    url = database or DEFAULT_DATABASE
    if not create and not Path(parse_url(url).database or "").exists():
        raise Misuse("there is no database yet; run: hub init")
    return Opening(url, *(os.environ.get(name) for name in (MASTER_KEY, POLICY, RETENTION, CONNECTORS)))


@contextmanager
def opened(database: str | None, *, clock: Clock | None = None, create: bool = False) -> Iterator[Hub]:
    """The hub of a command."""
    hub = to_open(database, create=create)(clock)
    try:
        yield hub
    finally:
        hub.close()
