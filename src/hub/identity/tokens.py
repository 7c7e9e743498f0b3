"""A bearer token (RFC 9068, RFC 8725): every check that makes it one, before anything in it is believed.

A token that was believed is kept, by its hash, until it or its key is gone: checking a signature again costs
more than the rest of a request.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import Key

from hub.codec import is_id
from hub.identity.caller import RESERVED, ROLES, Caller, Role, Unauthenticated
from hub.identity.keys import Keys
from hub.identity.settings import ALGORITHMS, Client, Condition, Issuer

LARGEST_BYTES = 8 * 1024
_KEPT = 10_000
_PARTS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_FORBIDDEN = ("crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc")
"""Names of a head that would have the token say how it is to be checked."""

NOT_ACCEPTED = "the token is not accepted"
EXPIRED = "the token has expired; fetch a new one"


@dataclass(frozen=True, slots=True)
class Read:
    """A token whose signature and times hold."""

    issuer: Issuer
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Kept:
    caller: Caller
    keys: Keys
    kid: str | None
    algorithm: str
    key: Key


class Tokens:
    """Checks tokens of the issuers that are believed. now: seconds since 1970, as the wall's clock says."""

    def __init__(self, issuers: Sequence[tuple[Issuer, Keys]], now: Callable[[], float]) -> None:
        self._issuers = {issuer.issuer: (issuer, keys) for issuer, keys in issuers}
        self._now = now
        self._kept: dict[bytes, _Kept] = {}

    async def caller(self, token: str) -> Caller:
        """Whom the token makes its bearer. Raises Unauthenticated."""
        _check_shape(token)
        name = hashlib.sha256(token.encode()).digest()
        kept = self._kept.get(name)
        if kept is not None and not kept.keys.due() and kept.keys.known(kept.kid, kept.algorithm) is kept.key:
            if self._now() < kept.caller.expires.timestamp():
                return kept.caller
            del self._kept[name]  # what the leeway still allows is judged as if it came for the first time
        head, issuer, keys = self._opened(token, None)
        key = await self._key(head, keys)
        claims = self._verified(token, head, issuer, key)
        caller = caller_of(issuer, claims)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[name] = _Kept(caller, keys, head.get("kid"), head["alg"], key)
        return caller

    async def read(self, token: str, *, issuer: str, audience: str, types: Sequence[str | None]) -> Read:
        """A token of one issuer for another audience than the hub's: an ID token. Raises Unauthenticated."""
        head, of, keys = self._opened(token, types)
        if of.name != issuer:
            raise Unauthenticated(NOT_ACCEPTED)
        key = await self._key(head, keys)
        return Read(of, self._verified(token, head, of, key, audience))

    def _opened(self, token: str, types: Sequence[str | None] | None) -> tuple[dict[str, Any], Issuer, Keys]:
        """The head, and whose the token says it is; nothing of it is believed yet."""
        _check_shape(token)
        first, second, third = token.split(".")
        head, claims = _json(first), _json(second)
        _decoded(third)
        found = self._issuers.get(claims["iss"]) if isinstance(claims.get("iss"), str) else None
        if found is None:
            raise Unauthenticated("the token's issuer is not one that is believed here")
        issuer, keys = found
        if any(name in head for name in _FORBIDDEN) or head.get("alg") not in issuer.algorithms:
            raise Unauthenticated(NOT_ACCEPTED)
        typ, kid = head.get("typ"), head.get("kid")
        if typ is not None and not isinstance(typ, str):
            raise Unauthenticated(NOT_ACCEPTED)
        plain = None if typ is None else typ.lower().removeprefix("application/")
        if plain not in (issuer.types if types is None else types):
            raise Unauthenticated("the token is not of the type of an access token")
        if kid is not None and not (isinstance(kid, str) and len(kid) <= 200):
            raise Unauthenticated(NOT_ACCEPTED)
        return head, issuer, keys

    async def _key(self, head: Mapping[str, Any], keys: Keys) -> Key:
        key = await keys.find(head.get("kid"), head["alg"])
        if key is None:
            raise Unauthenticated("the token's key is not one of its issuer's")
        return key

    def _verified(
        self, token: str, head: Mapping[str, Any], issuer: Issuer, key: Key, audience: str | None = None
    ) -> Mapping[str, Any]:
        claims = _object(payload(token, key, head["alg"]))
        self._check(claims, issuer, audience or issuer.audience)
        return claims

    def _check(self, claims: Mapping[str, Any], issuer: Issuer, audience: str) -> None:
        if claims.get("iss") != issuer.issuer:
            raise Unauthenticated(NOT_ACCEPTED)
        meant = claims.get("aud")
        if not (meant == audience or (isinstance(meant, list) and audience in meant)):
            raise Unauthenticated("the token is meant for another audience")
        now, leeway = self._now(), issuer.leeway_s
        ends, made = _time(claims, "exp"), _time(claims, "iat")
        begins = _time(claims, "nbf") if "nbf" in claims else made
        if ends <= now - leeway:
            raise Unauthenticated(EXPIRED)
        if made > now + leeway or begins > now + leeway:
            raise Unauthenticated("the token is not valid yet; compare the clocks")
        if not made <= ends <= made + issuer.longest_s:
            raise Unauthenticated("the token lives too long to be taken")


class _One(jws.JWSRegistry):
    """One algorithm, taken without a warning: which one may be used is the identity file's to say."""

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm])
        self._algorithm = algorithm

    def get_alg(self, name: str) -> Any:
        """The one. Raises JoseError for any other."""
        if name != self._algorithm or name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


def payload(token: str, key: Key, algorithm: str) -> bytes:
    """What `key` signed with `algorithm`. Raises Unauthenticated where it did not."""
    try:
        return jws.deserialize_compact(token, key, registry=_One(algorithm)).payload or b""
    except (JoseError, ValueError, TypeError, KeyError):
        raise Unauthenticated(NOT_ACCEPTED) from None


def caller_of(issuer: Issuer, claims: Mapping[str, Any]) -> Caller:
    """What a token's claims make its bearer, as the issuer is configured. Raises Unauthenticated for nobody."""
    actor = actor_of(issuer, claims)
    client = next((found for name in issuer.client if (found := _id(claims, name)) is not None), None)
    configured = issuer.clients.get(client or "", Client())
    person = _id(claims, issuer.person)
    recipient = configured.recipient or _id(claims, issuer.recipient)
    source = configured.source or _id(claims, issuer.source)
    source = None if source in RESERVED else source
    given = {role for role in ROLES if any(_holds(claims, c) for c in issuer.roles.get(role, ()))} | configured.roles
    needed: dict[Role, str | None] = {"citizen": person, "service": recipient, "source": source}
    roles = frozenset(role for role in given if needed.get(role, "") is not None)
    return Caller(
        actor=actor,
        roles=roles,
        expires=datetime.fromtimestamp(_time(claims, "exp"), UTC),
        person=person if "citizen" in roles else None,
        recipient=recipient if roles & {"service", "officer"} else None,
        source=source if "source" in roles else None,
        client=client,
        subject=_id(claims, "sub"),
    )


def actor_of(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    """Who it is, for the trace: `issuer:subject`. Raises Unauthenticated for nobody."""
    subject = _id(claims, issuer.actor)
    actor = f"{issuer.name}:{subject}"
    if subject is None or not is_id(actor):
        raise Unauthenticated("the token does not say whose it is")
    return actor


def claim(claims: Mapping[str, Any], path: str | None) -> Any:
    """A claim by its name or, where no claim has it, by its path: `realm_access.roles`."""
    if path is None or path in claims:
        return claims.get(path or "")
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _id(claims: Mapping[str, Any], path: str | None) -> str | None:
    found = claim(claims, path)
    return found if is_id(found) else None


def _holds(claims: Mapping[str, Any], condition: Condition) -> bool:
    found = claim(claims, condition.claim)
    if isinstance(found, str):
        return condition.value in (found, *found.split(" "))
    return isinstance(found, list) and condition.value in found


def _time(claims: Mapping[str, Any], name: str) -> float:
    found = claims.get(name)
    plain = isinstance(found, int | float) and not isinstance(found, bool)
    if not plain or not 0 <= found < 2**40:  # type: ignore[operator]
        raise Unauthenticated("the token does not say when it was made and when it ends")
    return float(found)  # type: ignore[arg-type]


def _check_shape(token: str) -> None:
    if len(token) > LARGEST_BYTES or not _PARTS.fullmatch(token):
        raise Unauthenticated(NOT_ACCEPTED)


def _decoded(part: str) -> bytes:
    """The bytes of a part, which has to be written in the one way that there is."""
    try:
        raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise Unauthenticated(NOT_ACCEPTED) from None
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != part:
        raise Unauthenticated(NOT_ACCEPTED)
    return raw


def _json(part: str) -> dict[str, Any]:
    return _object(_decoded(part))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        said = json.loads(raw.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise Unauthenticated(NOT_ACCEPTED) from None
    if not isinstance(said, dict):
        raise Unauthenticated(NOT_ACCEPTED)
    return said


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _constant(_: str) -> Any:
    raise ValueError("no number of JSON")
