"""The connectors that are installed, and what the operator set for each.

They are found by entry point, ours as anyone's. One that is broken is told of and stops nothing else.
HUB_CONNECTORS names a TOML file with a table for each connector that has settings:

    [qualtrics]
    url = "https://fra1.qualtrics.com"                  # whom to poll; without it the connector is not polled
    every_s = 300
    options = { survey = "SV_1" }
    files = { needs = "needs.toml" }                    # beside this file
    secrets = { token = { file = "/run/secrets/qualtrics" }, webhook = { env = "QUALTRICS_WEBHOOK" } }
"""

from __future__ import annotations

import re
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hub.codec import is_id
from hub.connector import GROUP, UNSET, Connector, Schemed, Settings
from hub.errors import Misuse
from hub.schemas import Schemas

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KEYS = ("url", "every_s", "options", "files", "secrets")
RESERVED = frozenset({"hub", "api", "operator"})
"""Sources under which the hub itself appends; another's ids among them would take those that it needs."""

EVERY_S = 300
SHORTEST_SECRET = 8
_LARGEST_FILE = 16 * 1024 * 1024
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What the file says of one connector. url: whom to poll, None for nobody; every_s: seconds between two polls."""

    url: str | None = None
    every_s: int = EVERY_S
    settings: Settings = UNSET


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """A connector as it is found: its plugin, or why there is none."""

    name: str
    plugin: Connector | None
    error: str | None


class Plugins:
    """The connectors of one process. Each is loaded once, when it is first asked for."""

    def __init__(self, settings: Mapping[str, Setting] | None = None) -> None:
        self._settings = dict(settings or {})
        self._found: dict[str, Installed] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names that entry points give, sorted."""
        return sorted(_points())

    def setting(self, name: str) -> Setting:
        """What the operator set for a connector."""
        return self._settings.get(name, Setting())

    @property
    def strange(self) -> list[str]:
        """The names for which something is set, and of which no connector is installed; sorted."""
        return sorted(self._settings.keys() - _points().keys())

    def find(self, name: str) -> Connector:
        """The connector called `name`. Raises Misuse where there is none, or where it does not load."""
        points = _points()
        if name not in points:
            known = ", ".join(sorted(points)) or "none is installed"
            raise Misuse(f"no connector is called {name[:40]!r}; known: {known}")
        with self._lock:
            if name not in self._found:
                self._found[name] = _load(points[name], self.setting(name))
            found = self._found[name]
        if found.plugin is None:
            raise Misuse(f"connector {name!r} does not load: {found.error}")
        return found.plugin

    def installed(self) -> list[Installed]:
        """Every connector that an entry point names, broken ones with their error."""
        for name in self.names:
            try:
                self.find(name)
            except Misuse:
                continue
        with self._lock:
            return [self._found[name] for name in sorted(self._found)]

    def loaded(self) -> list[Connector]:
        """The connectors that load."""
        return [found.plugin for found in self.installed() if found.plugin is not None]

    def extend(self, schemas: Schemas) -> Schemas:
        """`schemas` with those that connectors bring. A connector whose schemas cannot be had counts as broken.

        Those of one that is only set wrongly are had: what the log holds of its kinds stays readable.
        """
        for found in self.installed():
            try:
                brought = _points()[found.name].load() if found.plugin is None else found.plugin
                if isinstance(brought, Schemed):
                    schemas = schemas.extended(brought.schemas.items())
            except (Exception, SystemExit) as error:
                if found.plugin is not None:
                    broken = Installed(name=found.name, plugin=None, error=_told(error, self.setting(found.name)))
                    with self._lock:
                        self._found[found.name] = broken
        return schemas


@cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _load(point: EntryPoint, setting: Setting) -> Installed:
    try:
        plugin = point.load()(setting.settings)
        reason = faults(plugin, point.name)
    except (Exception, SystemExit) as error:
        return Installed(name=point.name, plugin=None, error=_told(error, setting))
    return Installed(name=point.name, plugin=None if reason else plugin, error=reason)


def _told(error: BaseException, setting: Setting) -> str:
    """Why a connector is broken; of an error that repeats a secret, as `int` does what it cannot read, the name."""
    text = str(error) if isinstance(error, Misuse) else f"{type(error).__name__}: {error}"
    return type(error).__name__ if any(secret in text for secret in setting.settings.secrets.values()) else text


def faults(plugin: object, name: str) -> str | None:
    """Why an object can be no connector called `name`; None where it can."""
    if not isinstance(plugin, Connector):
        return "it lacks name, source, kinds, quality or translate"
    if plugin.name != name:
        return "its name is not that of its entry point"
    if not NAME.fullmatch(name):
        return "its name is not of lower-case letters, digits and _"
    if not is_id(plugin.source) or plugin.source in RESERVED:
        return f"its source is no id, or one of the hub's own: {', '.join(sorted(RESERVED))}"
    return None


def load(path: Path, environment: Mapping[str, str]) -> Plugins:
    """The connectors with the settings of a file. Raises Misuse with the key that is wrong, and never its value."""
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misuse(f"HUB_CONNECTORS names no file that can be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misuse(f"{path.name}: is no TOML in UTF-8: {error}") from None
    return Plugins({name: _Reader(path, environment, name).setting(table) for name, table in said.items()})


@dataclass(frozen=True)
class _Reader:
    """Reads one connector's table."""

    path: Path
    environment: Mapping[str, str]
    name: str

    def setting(self, table: Any) -> Setting:
        if not isinstance(table, dict):
            raise self._wrong("", "is no table")
        for key in table:
            if key not in _KEYS:
                raise self._wrong(key, f"is no key; known: {', '.join(_KEYS)}")
        every_s = table.get("every_s", EVERY_S)
        if isinstance(every_s, bool) or not isinstance(every_s, int) or not 1 <= every_s <= 86_400:
            raise self._wrong("every_s", "is no whole number from 1 to 86400")
        files = {key: self._file(f"files.{key}", value) for key, value in self._table(table, "files").items()}
        secrets = {key: self._secret(key, value) for key, value in self._table(table, "secrets").items()}
        settings = Settings(options=self._table(table, "options"), files=files, secrets=secrets)
        return Setting(url=self._url(table.get("url"), secrets), every_s=every_s, settings=settings)

    def _table(self, table: dict[str, Any], key: str) -> dict[str, Any]:
        found = table.get(key, {})
        if not isinstance(found, dict):
            raise self._wrong(key, "is no table")
        return found

    def _url(self, url: Any, secrets: Mapping[str, str]) -> str | None:
        """Where to poll: https, or plain on this machine; without a user, a password or a query, where secrets hide."""
        if url is None:
            return None
        try:
            parts = urlsplit(url) if isinstance(url, str) else None
        except ValueError:
            parts = None
        if parts is None or not parts.hostname or parts.scheme not in ("https", "http"):
            raise self._wrong("url", "is no http URL")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise self._wrong("url", "is not https, and not on this machine")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise self._wrong("url", "holds more than host and path; secrets belong in secrets")
        if any(secret in url for secret in secrets.values()):
            raise self._wrong("url", "holds a secret")
        return str(url).rstrip("/")

    def _file(self, key: str, value: Any) -> bytes:
        if not isinstance(value, str):
            raise self._wrong(key, "is no name of a file")
        return self._content(key, self.path.parent / value)

    def _content(self, key: str, path: Path) -> bytes:
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise self._wrong(key, "is larger than 16 MiB")
            return path.read_bytes()
        except OSError as error:
            raise self._wrong(key, f"cannot be read: {error.strerror or type(error).__name__}") from None

    def _secret(self, name: str, value: Any) -> str:
        key = f"secrets.{name}"
        match value:
            case {"file": str(named), **rest} if not rest:
                try:
                    secret = self._content(key, self.path.parent / named).decode().strip()
                except UnicodeDecodeError:
                    raise self._wrong(key, "is no text in UTF-8") from None
            case {"env": str(named), **rest} if not rest:
                secret = self.environment.get(named, "").strip()
            case _:
                raise self._wrong(key, 'is neither { file = "…" } nor { env = "…" }; it is not written here itself')
        if len(secret) < SHORTEST_SECRET:
            raise self._wrong(key, f"is shorter than {SHORTEST_SECRET} characters" if secret else "is empty")
        return secret

    def _wrong(self, key: str, reason: str) -> Misuse:
        return Misuse(f"{self.path.name}: {'.'.join(part for part in (self.name, key) if part)}: {reason}")
