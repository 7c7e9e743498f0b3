"""The identity file (TOML): which issuers are believed, and what their claims mean here.

One file for Keycloak, Entra or a city's own provider: every name of a claim is a setting. What is not said
is not allowed: a role that no condition gives, a source without kinds, an algorithm that is not listed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hub.codec import is_id
from hub.errors import Misuse
from hub.identity.caller import RESERVED, ROLES, Role

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""All asymmetric: a shared secret, or none, is never a signature here."""

ACTS = ("declare", "amend")
"""What takes two officers, unless one alone may do it."""

_LONGEST_S = 3600
_LEEWAY_S = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A claim that has a value: equal to it, or a list or a space-separated text that holds it."""

    claim: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """What a program is by configuration, where its provider cannot say it in the token."""

    roles: frozenset[Role] = frozenset()
    recipient: str | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Issuer:
    """One provider that is believed. Claims are named by path: `realm_access.roles`.

    types: the `typ` that its access tokens bear. longest_s: the longest lifetime of a token that is taken.
    jwks_uri: where its keys are; None to ask its discovery document.
    """

    name: str
    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    types: tuple[str, ...] = ("at+jwt",)
    jwks_uri: str | None = None
    longest_s: int = _LONGEST_S
    leeway_s: int = _LEEWAY_S
    roles: Mapping[Role, tuple[Condition, ...]] = field(default_factory=dict)
    clients: Mapping[str, Client] = field(default_factory=dict)
    actor: str = "sub"
    person: str | None = None
    recipient: str | None = None
    source: str | None = None
    client: tuple[str, ...] = ("client_id", "azp", "appid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """Login with a browser, at one of the issuers, by code and PKCE."""

    issuer: str
    client_id: str
    client_secret: str | None
    scope: str
    public_url: str
    idle_s: int
    longest_s: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Officers:
    """What one officer alone may do: always, and at night (a span of the day in `zone`, which may pass midnight)."""

    alone: frozenset[str] = frozenset()
    alone_at_night: frozenset[str] = frozenset()
    night: tuple[time, time] | None = None
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("Asia/Tokyo"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """The whole file. sources: the kinds and patterns that each source may write. hosts: the names that the hub is
    reached by; empty on loopback alone."""

    issuers: tuple[Issuer, ...]
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    login: Login | None = None
    officers: Officers = field(default_factory=Officers)
    hosts: frozenset[str] = frozenset()


def load(content: bytes, secrets: Mapping[str, str] | None = None) -> Identity:
    """What an identity file says. Raises Misuse with the name of the setting that is wrong.

    secrets: what may not stand in the file, by the name of the environment variable that it names.
    """
    try:
        said = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misuse(f"the identity file is no TOML: {error}") from None
    whole = _Table(said, "")
    issuers = tuple(_issuer(table) for table in whole.tables("issuers"))
    if not issuers:
        raise Misuse("the identity file names no issuer: [[issuers]]")
    for of in ("name", "issuer"):
        if len({getattr(issuer, of) for issuer in issuers}) != len(issuers):
            raise Misuse(f"the identity file: two issuers have the same {of}")
    sources = {name: tuple(table.texts("kinds")) for name, table in whole.named("sources")}
    for name in RESERVED & set(sources):
        raise whole.wrong(f"sources.{name}", "is the hub's own")
    login = _login(whole.table("login"), issuers, secrets or {}) if "login" in said else None
    found = Identity(
        issuers=issuers,
        sources=sources,
        login=login,
        officers=_officers(whole.table("officers")),
        hosts=frozenset(host.lower() for host in whole.texts("hosts", ())),
    )
    whole.done()
    return found


def is_loopback(host: str | None) -> bool:
    """Whether an address or name is this machine's own."""
    if host is None:
        return False
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def safe_url(url: str) -> bool:
    """Whether what is asked there cannot be read or changed on the way: https, or this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.username or parts.password or parts.fragment or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


class _Table:
    """A table of the file, whose every name has to be asked for."""

    def __init__(self, said: Mapping[str, Any], path: str) -> None:
        self.said, self.path = said, path
        self._known: set[str] = set()
        self._inner: list[_Table] = []

    def wrong(self, name: str, reason: str) -> Misuse:
        return Misuse(f"the identity file: {self.path}{name} {reason}")

    def _get(self, name: str, kind: type, default: Any) -> Any:
        self._known.add(name)
        if name not in self.said:
            if default is ...:
                raise self.wrong(name, "is missing")
            return default
        value = self.said[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(name, f"is no {kind.__name__}")
        return value

    def text(self, name: str, default: Any = ...) -> Any:
        value = self._get(name, str, default)
        if value == "":
            raise self.wrong(name, "is empty")
        return value

    def url(self, name: str, default: Any = ...) -> Any:
        value = self.text(name, default)
        if value is not None and not safe_url(value):
            raise self.wrong(name, "is no https address (http is for this machine alone)")
        return value

    def seconds(self, name: str, default: int, most: int) -> int:
        value: int = self._get(name, int, default)
        if not 0 <= value <= most:
            raise self.wrong(name, f"is not between 0 and {most} seconds")
        return value

    def texts(self, name: str, default: Any = ...) -> tuple[str, ...]:
        values = self._get(name, list, default)
        if not all(isinstance(value, str) and value for value in values):
            raise self.wrong(name, "is no list of texts")
        return tuple(values)

    def table(self, name: str) -> _Table:
        inner = _Table(self._get(name, dict, {}), f"{self.path}{name}.")
        self._inner.append(inner)
        return inner

    def tables(self, name: str) -> list[_Table]:
        rows = self._get(name, list, [])
        if not all(isinstance(row, dict) for row in rows):
            raise self.wrong(name, f"is no list of tables: [[{name}]]")
        inner = [_Table(row, f"{self.path}{name}[{number}].") for number, row in enumerate(rows)]
        self._inner += inner
        return inner

    def named(self, name: str) -> list[tuple[str, _Table]]:
        outer = self.table(name)
        return [(key, outer.table(key)) for key in list(outer.said)]

    def done(self) -> None:
        """Raise Misuse for a name that means nothing: a setting that is misspelt would silently not hold."""
        for name in self.said:
            if name not in self._known:
                raise self.wrong(name, "means nothing here")
        for inner in self._inner:
            inner.done()


def _issuer(table: _Table) -> Issuer:
    algorithms = table.texts("algorithms")
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            raise table.wrong("algorithms", f"may hold {', '.join(ALGORITHMS)}")
    if not algorithms:
        raise table.wrong("algorithms", "is empty")
    name = table.text("name")
    if not is_id(name) or ":" in name or len(name) > 40:
        raise table.wrong("name", "is no short name without a colon")
    claims = table.table("claims")
    return Issuer(
        name=name,
        issuer=table.url("issuer"),
        audience=table.text("audience"),
        algorithms=algorithms,
        types=tuple(map(str.lower, table.texts("types", ("at+jwt",)))),
        jwks_uri=table.url("jwks_uri", None),
        longest_s=table.seconds("longest_s", _LONGEST_S, 24 * 3600),
        leeway_s=table.seconds("leeway_s", _LEEWAY_S, 300),
        roles=_roles(table.table("roles")),
        clients={client: _client(found) for client, found in table.named("clients")},
        actor=claims.text("actor", "sub"),
        person=claims.text("person", None),
        recipient=claims.text("recipient", None),
        source=claims.text("source", None),
        client=claims.texts("client", ("client_id", "azp", "appid")),
    )


def _roles(table: _Table) -> dict[Role, tuple[Condition, ...]]:
    found: dict[Role, tuple[Condition, ...]] = {}
    for role in ROLES:
        if role in table.said:
            rows = table.tables(role)
            found[role] = tuple(Condition(claim=row.text("claim"), value=row.text("value")) for row in rows)
    return found


def _client(table: _Table) -> Client:
    roles = table.texts("roles", ())
    for role in roles:
        if role not in ROLES:
            raise table.wrong("roles", f"may hold {', '.join(ROLES)}")
    if table.text("source", None) in RESERVED:
        raise table.wrong("source", "is the hub's own")
    return Client(
        roles=frozenset(role for role in ROLES if role in roles),
        recipient=table.text("recipient", None),
        source=table.text("source", None),
    )


def _login(table: _Table, issuers: Sequence[Issuer], secrets: Mapping[str, str]) -> Login:
    name, client_id = table.text("issuer"), table.text("client_id")
    at = next((issuer for issuer in issuers if issuer.name == name), None)
    if at is None:
        raise table.wrong("issuer", "is the name of no issuer")
    if at.audience == client_id:
        raise table.wrong("client_id", "is the audience too: an ID token would pass for an access token")
    return Login(
        issuer=name,
        client_id=client_id,
        client_secret=_client_secret(table, secrets),
        scope=table.text("scope", "openid"),
        public_url=table.url("public_url").rstrip("/"),
        idle_s=table.seconds("idle_s", 30 * 60, 24 * 3600),
        longest_s=table.seconds("longest_s", 8 * 3600, 24 * 3600),
    )


def _client_secret(table: _Table, secrets: Mapping[str, str]) -> str | None:
    variable, path = table.text("client_secret_env", None), table.text("client_secret_file", None)
    if variable is not None and path is not None:
        raise table.wrong("client_secret_file", "and client_secret_env: one of the two")
    if variable is not None:
        if not secrets.get(variable):
            raise table.wrong("client_secret_env", "names no variable of the environment that is set")
        return secrets[variable]
    if path is None:
        return None
    try:
        secret = Path(path).read_text().strip()
    except (OSError, ValueError):
        secret = ""
    if not secret:
        raise table.wrong("client_secret_file", "names no file that holds a secret and can be read")
    return secret


def _officers(table: _Table) -> Officers:
    alone, at_night = table.texts("alone", ()), table.texts("alone_at_night", ())
    for name, acts in (("alone", alone), ("alone_at_night", at_night)):
        if not set(acts) <= set(ACTS):
            raise table.wrong(name, f"may hold {', '.join(ACTS)}; to lift, undo or reject takes one officer always")
    span = table.texts("night", ())
    night: tuple[time, time] | None = None
    if span:
        try:
            begin, end = map(time.fromisoformat, span)
            if begin.tzinfo or end.tzinfo:
                raise ValueError("it is said in the zone")
        except ValueError:
            raise table.wrong("night", 'is no span of the day, as ["21:00", "06:00"]') from None
        night = begin, end
    if at_night and night is None:
        raise table.wrong("night", "is missing, though something may be done alone at night")
    try:
        zone = ZoneInfo(table.text("zone", "Asia/Tokyo"))
    except (ZoneInfoNotFoundError, ValueError):
        raise table.wrong("zone", "is no time zone, as Asia/Tokyo") from None
    return Officers(alone=frozenset(alone), alone_at_night=frozenset(at_night), night=night, zone=zone)
