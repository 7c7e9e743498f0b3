"""Sessions of browsers, kept at the hub: the cookie is a random name, and holds nothing.

They stand beside the log, sealed, each under the hash of its cookie, for all workers of the database. One that is
not used ends, one that is used ends all the same after a working day, and that of an erased person at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, Index, LargeBinary, String, Table, delete, func, insert, select, update

from hub.errors import Busy
from hub.identity.caller import ROLES, Caller
from hub.log.log import Log
from hub.log.recorder import Number, metadata
from hub.log.sealing import CITY
from hub.views.persons import person as person_table

LOGIN_S = 600
"""How long a login may take at the provider."""

MOST_LOGINS = 10_000
"""Logins that may be under way: anyone can begin one."""

_TOUCHED_S = 60
_NOBODY = b""

session = Table(
    "session",
    metadata,
    Column("name", LargeBinary(32), primary_key=True),
    Column("what", String, nullable=False),
    Column("person", LargeBinary(16), nullable=False),
    Column("until_s", Number, nullable=False),
    Column("used_s", Number, nullable=False),
    Column("box", LargeBinary, nullable=False),
    Index("session_until", "until_s"),
    Index("session_what", "what"),
    Index("session_person", "person"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A browser that is logged in. csrf: what it has to send with whatever changes something."""

    caller: Caller
    csrf: str
    id_token: str | None


class Sessions:
    """The sessions of one hub. now: seconds since 1970."""

    def __init__(self, log: Log, now: Callable[[], float], *, idle_s: int, longest_s: int) -> None:
        self._log, self._now, self._idle_s, self._longest_s = log, now, idle_s, longest_s

    def begin(self, caller: Caller, id_token: str | None) -> str:
        """A new session; the cookie."""
        until_s = int(self._now()) + self._longest_s
        caller = replace(caller, expires=datetime.fromtimestamp(until_s, UTC))
        said = {"caller": _written(caller), "csrf": secrets.token_urlsafe(32), "id_token": id_token}
        person = self._log.keyring.digest("person", caller.person) if caller.person else _NOBODY
        return self._keep("session", said, until_s, person)

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie; None where there is none, or it has ended."""
        row = self._row(cookie, "session")
        if row is None:
            return None
        said, used_s = row
        now = int(self._now())
        if now - used_s > self._idle_s:
            self.end(cookie)
            return None
        if now - used_s > _TOUCHED_S:
            with self._log.entries.maintaining() as connection:
                connection.execute(update(session).where(session.c.name == _name(cookie)).values(used_s=now))
        return Session(caller=_caller(said["caller"]), csrf=said["csrf"], id_token=said["id_token"])

    def begin_login(self, said: dict[str, Any]) -> str:
        """Keep what a login needs when the browser comes back; the cookie that binds it to this browser."""
        return self._keep("login", said, int(self._now()) + LOGIN_S, _NOBODY)

    def take_login(self, cookie: str) -> dict[str, Any] | None:
        """What a login kept, once."""
        row = self._row(cookie, "login")
        if row is None or not self._delete(cookie):
            return None
        return row[0]

    def end(self, cookie: str) -> None:
        """End a session."""
        self._delete(cookie)

    def erase(self, persons: Iterable[bytes]) -> None:
        """Drop the sessions of who was erased (R15); none of them is found any more. persons: digests of their ids."""
        wanted = list(persons)
        with self._log.entries.maintaining() as connection:
            for at in range(0, len(wanted), 500):
                connection.execute(delete(session).where(session.c.person.in_(wanted[at : at + 500])))

    def _keep(self, what: str, said: dict[str, Any], until_s: int, person: bytes) -> str:
        cookie = secrets.token_urlsafe(32)
        now, nonce = int(self._now()), os.urandom(12)
        box = nonce + self._cipher().encrypt(nonce, json.dumps(said).encode(), _name(cookie) + what.encode())
        with self._log.entries.maintaining() as connection:
            connection.execute(delete(session).where(session.c.until_s <= now))
            waiting = select(func.count()).select_from(session).where(session.c.what == "login")
            if what == "login" and (connection.scalar(waiting) or 0) >= MOST_LOGINS:
                raise Busy("too many logins have begun and not ended")
            values = {"name": _name(cookie), "what": what, "person": person, "until_s": until_s, "used_s": now}
            connection.execute(insert(session).values(**values, box=box))
        return cookie

    def _row(self, cookie: str, what: str) -> tuple[dict[str, Any], int] | None:
        if len(cookie) > 100:
            return None
        query = select(session).where(session.c.name == _name(cookie), session.c.what == what)
        gone = select(person_table.c.erased).where(person_table.c.digest == session.c.person)
        with self._log.entries.snapshot() as (connection, _):
            row = connection.execute(query.add_columns(gone.scalar_subquery().label("erased"))).first()
        if row is None or row.until_s <= self._now() or row.erased is not None:
            return None
        try:
            opened = self._cipher().decrypt(row.box[:12], row.box[12:], _name(cookie) + what.encode())
        except InvalidTag:
            return None
        return json.loads(opened), row.used_s

    def _delete(self, cookie: str) -> bool:
        with self._log.entries.maintaining() as connection:
            return connection.execute(delete(session).where(session.c.name == _name(cookie))).rowcount > 0

    def _cipher(self) -> AESGCM:
        return AESGCM(self._log.keyring.secret(CITY, "session"))


def _name(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).digest()


def _written(caller: Caller) -> dict[str, Any]:
    names = ("actor", "person", "recipient", "source", "client", "subject")
    roles = sorted(caller.roles, key=ROLES.index)
    return {name: getattr(caller, name) for name in names} | {"roles": roles, "expires": caller.expires.timestamp()}


def _caller(said: dict[str, Any]) -> Caller:
    expires = datetime.fromtimestamp(said.pop("expires"), UTC)
    return Caller(roles=frozenset(said.pop("roles")), expires=expires, **said)
