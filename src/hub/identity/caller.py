"""Who a request comes from, once it is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

Role = Literal["source", "service", "citizen", "officer", "operator", "auditor"]
RESERVED = frozenset({"hub", "api"})
"""Sources under which the hub itself writes, with ids that can be foreseen: no caller's and no setting's."""

ROLES: tuple[Role, ...] = get_args(Role)


class Unauthenticated(Exception):
    """Nobody is known to be asking. reason: what to do about it, in words without a value of the token."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who is asking.

    actor: who it is in the trace, `issuer:subject`. person: the citizen's own id. recipient: whom a service or
    an officer reads as. source: in whose name facts are written. client: the program that the token was given
    to. subject: the `sub` of the token. expires: when the caller has to show anew who it is, aware.
    """

    actor: str
    roles: frozenset[Role]
    expires: datetime
    person: str | None = None
    recipient: str | None = None
    source: str | None = None
    client: str | None = None
    subject: str | None = None
