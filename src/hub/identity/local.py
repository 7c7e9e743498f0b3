"""The local issuer: tokens for trying the hub out, made by whoever can read a key beside the database.

It is believed only where no identity file is set and the hub listens on loopback, so that a configuration for
production cannot switch it on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from hub.codec import is_id
from hub.errors import Misuse
from hub.identity.caller import ROLES
from hub.identity.keys import Keys
from hub.identity.settings import Condition, Identity, Issuer

NAME = "local"
LONGEST_S = 24 * 3600
_ISSUER = "urn:saigai-hub:local"
_ALGORITHM = "Ed25519"


def identity() -> Identity:
    """What holds on a hub that is tried out: the local issuer alone, whose sources may write every kind."""
    issuer = Issuer(
        name=NAME,
        issuer=_ISSUER,
        audience=_ISSUER,
        algorithms=(_ALGORITHM,),
        jwks_uri="http://localhost/",
        longest_s=LONGEST_S,
        roles={role: (Condition(claim="roles", value=role),) for role in ROLES},
        person="person",
        recipient="recipient",
        source="source",
    )
    return Identity(issuers=(issuer,), sources={"*": ("*", "consent.requested")})


class LocalIssuer:
    """The one who signs. The key stands in a file that only its owner reads; it is made where there is none."""

    def __init__(self, path: Path) -> None:
        """Raises Misuse where the file holds no key."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.{os.getpid()}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(OKPKey.generate_key("Ed25519", auto_kid=True).as_dict(private=True), file)
            with suppress(FileExistsError):  # another process made it in the meantime: that one counts
                os.link(fresh, path)
            os.unlink(fresh)
        try:
            self._key = OKPKey.import_key(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, JoseError):
            raise Misuse(f"{path.name} holds no key of the local issuer; remove it to have one made") from None

    def keys(self, monotonic: Callable[[], float]) -> Keys:
        """The public key, as an issuer's keys."""

        async def own(_: str) -> bytes:
            return json.dumps({"keys": [self._key.as_dict(private=False)]}).encode()

        [issuer] = identity().issuers
        return Keys(issuer, monotonic, own)

    def token(self, claims: dict[str, Any], *, now: float, lifetime_s: float) -> str:
        """A token with these claims. now: seconds since 1970."""
        times = {"iat": int(now), "exp": int(now + lifetime_s)}
        head = {"alg": _ALGORITHM, "typ": "at+jwt", "kid": self._key.kid}
        return jwt.encode(head, {"iss": _ISSUER, "aud": _ISSUER, **times, **claims}, self._key, algorithms=[_ALGORITHM])


def claims_of(said: str) -> dict[str, Any]:
    """The claims of `--as`: `citizen:ID`, `service:RECIPIENT`, `source:NAME`, `officer:ID`, `officer:ID@RECIPIENT`,
    `operator`, `operator:ID`, `auditor`, `auditor:ID`. Raises Misuse."""
    role, _, name = said.partition(":")
    name = name or (role if role in ("operator", "auditor") else "")
    desk = ""
    if role == "officer":
        name, _, desk = name.partition("@")
    if role not in ROLES or not is_id(name) or (desk and not is_id(desk)):
        forms = "citizen:ID, service:RECIPIENT, source:NAME, officer:ID[@RECIPIENT], operator[:ID], auditor[:ID]"
        raise Misuse(f"--as takes {forms}")
    member = {"citizen": "person", "service": "recipient", "source": "source"}.get(role)
    claims: dict[str, Any] = {"sub": name, "roles": [role]}
    if member is not None:
        claims[member] = name
    if desk:
        claims["recipient"] = desk
    return claims
