"""What the commands share: options, how a hub is opened, how a result is printed."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hub.hub import Hub
    from hub.log.clock import Clock
    from hub.log.database import Place
    from hub.plugins import Plugins

DATABASE = "HUB_DATABASE_URL"
KEYS_DATABASE = "HUB_KEYS_DATABASE_URL"
DATABASE_SECRET = "HUB_DATABASE_PASSWORD_FILE"  # noqa: S105 -- the setting's name
KEYS_SECRET = "HUB_KEYS_DATABASE_PASSWORD_FILE"  # noqa: S105
FOLDER = "HUB_FOLDER"
MASTER_KEY = "HUB_MASTER_KEY_FILE"
POLICY = "HUB_HAZARD_POLICY"
IDENTITY = "HUB_IDENTITY"
RETENTION = "HUB_RETENTION"
CONNECTORS = "HUB_CONNECTORS"
OUTBOX = "HUB_OUTBOX"
KAFKA = "HUB_KAFKA"
_RENEW_S = 2.0
DEFAULT_DATABASE = "sqlite:///hub-data/hub.sqlite3"

Database = Annotated[
    str | None,
    typer.Option("--database", envvar=DATABASE, metavar="URL", help=f"The database; default {DEFAULT_DATABASE}."),
]
MetricsPort = Annotated[
    str | None,
    typer.Option(
        "--metrics-port",
        metavar="[HOST:]PORT",
        help="Show metrics (Prometheus) at this port; on 127.0.0.1 without HOST.",
    ),
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


def note(line: str, *, as_json: bool) -> None:
    """Say what is no result: to standard error where the result is JSON."""
    if as_json:
        sys.stderr.write(f"hub: {line}\n")
    else:
        say(line)


def tried_again(error: str) -> str:
    """What failed in a command that goes on: its reader need not try again."""
    return f"{error.partition('; try again')[0]}; it is tried again"


def counted(count: int, what: str) -> str:
    """A number of things, as `1 item` and `2 items`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def one_of(**options: bool) -> None:
    """Raise Misuse where more than one of these options is given: they contradict each other."""
    from hub.errors import Misuse

    given = [f"--{name.replace('_', '-')}" for name, is_given in options.items() if is_given]
    if len(given) > 1:
        raise Misuse(f"{' and '.join(given)} contradict each other; choose one")


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
    """What gives the retention policy, once the kinds are known: connectors bring some."""
    from hub import retention
    from hub.errors import Misuse

    if path is None:
        return None
    try:
        text = Path(path).read_bytes()
    except OSError:
        raise Misuse(f"{RETENTION} names no file that can be read") from None
    return partial(retention.load, text)


def connectors(path: str | None = None) -> Plugins:
    from hub.plugins import Plugins, load

    path = path or os.environ.get(CONNECTORS)
    return Plugins() if path is None else load(Path(path), os.environ)


@dataclass(frozen=True)
class Opening:
    """How a hub is opened; a fresh process can be handed it."""

    url: str
    keys_url: str | None = None
    folder: str | None = None
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
        options: dict[str, Any] = {
            "keys_url": self.keys_url,
            "folder": None if self.folder is None else Path(self.folder),
            "master": master,
            "policy": policy,
            "retention_policy": keeps,
            "plugins": plugins,
        }
        hub = Hub.open(self.url, clock, **options)
        if hub.simulated and not isinstance(clock, SetClock):
            with hub.log.entries.snapshot() as (_, end):
                last = end.recorded_at or datetime.now(UTC)
            hub.close()
            hub = Hub.open(self.url, SetClock(last), **options)
        return hub


def to_open(database: str | None, *, create: bool) -> Opening:
    from hub.errors import Misuse

    at = place_of(database)
    master = os.environ.get(MASTER_KEY)
    if not create and at.file is not None and not at.file.exists():
        raise Misuse("there is no database yet; run: hub init")
    if at.file is None and master is None and not (at.folder / "master.key").exists():
        raise Misuse(f"{MASTER_KEY} has to name the file of the master key: every machine needs the same one")
    urls = [url.render_as_string(hide_password=False) for url in (at.log, at.keys)]
    return Opening(
        urls[0], urls[1], str(at.folder), master, *(os.environ.get(name) for name in (POLICY, RETENTION, CONNECTORS))
    )


def place_of(database: str | None) -> Place:
    """Where the hub is that the command line and the environment name."""
    from hub.log.database import place

    log = _with_password(database or DEFAULT_DATABASE, DATABASE_SECRET)
    keys = os.environ.get(KEYS_DATABASE)
    folder = Path(os.environ.get(FOLDER, "hub-data"))
    return place(log, None if keys is None else _with_password(keys, KEYS_SECRET), folder)


def _with_password(url: str, setting: str) -> str:
    """A URL with the password that stands in the file which a setting names."""
    from hub.errors import Misuse
    from hub.log.database import parse_url

    path = os.environ.get(setting)
    if path is None:
        return url
    try:
        password = Path(path).read_text().strip()
    except (OSError, ValueError):
        raise Misuse(f"{setting} names no file that can be read") from None
    return parse_url(url).set(password=password).render_as_string(hide_password=False)


@contextmanager
def kept_up(hub: Hub) -> Iterator[None]:
    """While a command runs for long: what other processes destroyed is dropped from its memory."""
    from sqlalchemy.exc import SQLAlchemyError

    from hub.errors import HubError

    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEW_S):
            with suppress(HubError, SQLAlchemyError):  # the next one tries again
                hub.renew()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def opened(database: str | None, *, clock: Clock | None = None, create: bool = False) -> Iterator[Hub]:
    """The hub of a command."""
    hub = to_open(database, create=create)(clock)
    try:
        yield hub
    finally:
        hub.close()
