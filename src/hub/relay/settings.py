"""The Kafka file (TOML), named by HUB_KAFKA: where the broker is, how it is spoken to, how its topics are made, and
which sources may come by the topic. A password stands in a file or a variable, never here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hub.codec import is_id
from hub.errors import Misuse
from hub.events import CONTROLS
from hub.identity.caller import RESERVED

SECURITY = ("PLAINTEXT", "SSL", "SASL_SSL")
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")

DAY_S = 86_400
_LOOPBACK = ("localhost",)
_SERVER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})")
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,50}")
_PATTERN = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?")
_LARGEST_FILE = 16 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Topics:
    """How topics are made. create: False where the broker's own people make them, and the hub only looks.

    replication: None for the broker's default. prefix: stands before each name, where several hubs share a broker.
    """

    create: bool = True
    partitions: int = 12
    replication: int | None = None
    prefix: str = ""
    events_s: int = 7 * DAY_S
    views_s: int = 7 * DAY_S
    ingest_s: int = 3 * DAY_S
    refused_s: int = 30 * DAY_S


@dataclass(frozen=True, kw_only=True, slots=True)
class Kafka:
    """The whole file. lease_s: after how long another relay takes over from one that was killed.

    sources: by source, the kinds of facts and patterns that may come by the topic; empty: nothing may.
    """

    bootstrap: tuple[str, ...]
    security: str = "PLAINTEXT"
    ca_file: str | None = None
    mechanism: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    topics: Topics = field(default_factory=Topics)
    lease_s: float = 15.0
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def load(path: Path, environment: Mapping[str, str]) -> Kafka:
    """What a file says. Raises Misuse with the key that is wrong, and never its value."""
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misuse(f"HUB_KAFKA names no file that can be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misuse(f"{path.name}: is no TOML in UTF-8: {error}") from None
    return _Reader(path, environment).whole(said)


@dataclass(frozen=True)
class _Reader:
    """Reads one file."""

    path: Path
    environment: Mapping[str, str]

    def whole(self, said: Mapping[str, Any]) -> Kafka:
        known = {"bootstrap", "security", "plaintext_beyond_this_machine", "ca_file", "lease_s"}
        self._known(said, known | {"sasl", "topics", "ingest"}, "")
        bootstrap = self._bootstrap(said.get("bootstrap"))
        security = said.get("security", "PLAINTEXT")
        if security not in SECURITY:
            raise self._wrong("security", f"is none of {', '.join(SECURITY)}")
        anywhere = self._flag(said, "plaintext_beyond_this_machine", False, "")
        if security == "PLAINTEXT" and not anywhere and not all(map(_is_here, bootstrap)):
            raise self._wrong("security", "is PLAINTEXT, and the broker is not on this machine; take SASL_SSL")
        sasl = self._sasl(self._table(said, "sasl"), needed=security == "SASL_SSL")
        return Kafka(
            bootstrap=bootstrap,
            security=security,
            ca_file=self._ca_file(said.get("ca_file")),
            **sasl,
            topics=self._topics(self._table(said, "topics")),
            lease_s=self._number(said, "lease_s", 15, 1, 600, ""),
            sources=self._sources(self._table(said, "ingest")),
        )

    def _bootstrap(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise self._wrong("bootstrap", 'is no list of servers, as ["kafka.example:9093"]')
        for server in value:
            found = _SERVER.fullmatch(server) if isinstance(server, str) else None
            if found is None or not 0 < int(found[2]) < 65536:
                raise self._wrong("bootstrap", "holds what is no host:port; a user and a password belong in [sasl]")
        return tuple(value)

    def _ca_file(self, value: Any) -> str | None:
        if value is None:
            return None
        path = self.path.parent / value if isinstance(value, str) else None
        if path is None or not path.is_file():
            raise self._wrong("ca_file", "names no file")
        return str(path)

    def _sasl(self, table: Mapping[str, Any], *, needed: bool) -> dict[str, str]:
        self._known(table, {"mechanism", "user", "password"}, "sasl.")
        if not needed:
            if table:
                raise self._wrong("sasl", "is for security = SASL_SSL; a password goes over no other")
            return {}
        mechanism, user = table.get("mechanism", MECHANISMS[0]), table.get("user")
        if mechanism not in MECHANISMS:
            raise self._wrong("sasl.mechanism", f"is none of {', '.join(MECHANISMS)}")
        if not isinstance(user, str) or not user:
            raise self._wrong("sasl.user", "is missing")
        return {"mechanism": mechanism, "user": user, "password": self._secret(table.get("password"))}

    def _secret(self, value: Any) -> str:
        match value:
            case {"file": str(named), **rest} if not rest:
                try:
                    with (self.path.parent / named).open("rb") as file:
                        secret = file.read(_LARGEST_FILE).decode().strip()
                except OSError as error:
                    raise self._wrong("sasl.password", f"cannot be read: {error.strerror}") from None
                except UnicodeDecodeError:
                    raise self._wrong("sasl.password", "is no text in UTF-8") from None
            case {"env": str(named), **rest} if not rest:
                secret = self.environment.get(named, "").strip()
            case _:
                raise self._wrong("sasl.password", 'is neither { file = "…" } nor { env = "…" }')
        if not secret:
            raise self._wrong("sasl.password", "is empty")
        return secret

    def _topics(self, table: Mapping[str, Any]) -> Topics:
        names = {"create", "partitions", "replication", "prefix", "events_days", "views_hours", "ingest_hours"}
        self._known(table, names | {"refused_days"}, "topics.")
        prefix = table.get("prefix", "")
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise self._wrong("topics.prefix", "is no beginning of a topic's name")

        def number(key: str, default: int, most: int) -> int:
            return int(self._number(table, key, default, 1, most, "topics."))

        return Topics(
            create=self._flag(table, "create", True, "topics."),
            partitions=number("partitions", 12, 10_000),
            replication=number("replication", 1, 100) if "replication" in table else None,
            prefix=prefix,
            events_s=number("events_days", 7, 36_500) * DAY_S,
            views_s=int(self._number(table, "views_hours", 7 * 24, 2, 7 * 24, "topics.")) * 3600,
            ingest_s=number("ingest_hours", 72, 24 * 365) * 3600,
            refused_s=number("refused_days", 30, 36_500) * DAY_S,
        )

    def _sources(self, table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        self._known(table, {"sources"}, "ingest.")
        found: dict[str, tuple[str, ...]] = {}
        for source, kinds in self._table(table, "sources").items():
            key = "ingest.sources"
            if not is_id(source) or source in RESERVED or source == "*":
                raise self._wrong(key, "names a source that is no id, every source, or one of the hub's own")
            if not isinstance(kinds, list) or not kinds:
                raise self._wrong(f"{key}.{source}", 'is no list of kinds, as ["location.*"]')
            for kind in kinds:
                if not isinstance(kind, str) or not _PATTERN.fullmatch(kind):
                    raise self._wrong(f"{key}.{source}", "holds what is no kind and no pattern (care.*)")
                if kind in CONTROLS:
                    raise self._wrong(f"{key}.{source}", "holds a control kind; by the topic come facts alone")
            found[source] = tuple(kinds)
        return found

    def _table(self, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        found = table.get(key, {})
        if not isinstance(found, dict):
            raise self._wrong(key, "is no table")
        return found

    def _known(self, table: Mapping[str, Any], known: set[str], where: str) -> None:
        for key in table:
            if key not in known:
                raise self._wrong(f"{where}{key}", f"is no key; known: {', '.join(sorted(known))}")

    def _flag(self, table: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
        value = table.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(f"{where}{key}", "is not true or false")
        return value

    def _number(self, table: Mapping[str, Any], key: str, default: int, least: int, most: int, where: str) -> float:
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(f"{where}{key}", f"is no whole number from {least} to {most}")
        return float(value)

    def _wrong(self, key: str, reason: str) -> Misuse:
        return Misuse(f"{self.path.name}: {key}: {reason}")


def _is_here(server: str) -> bool:
    host = server.rpartition(":")[0].strip("[]")
    try:
        return host in _LOOPBACK or ip_address(host).is_loopback
    except ValueError:
        return False
