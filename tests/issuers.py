"""Providers of identity, as the tests use them: their keys, their tokens, also those that no provider would make."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from hub.identity.keys import Keys
from hub.identity.settings import Condition, Issuer
from hub.identity.tokens import Tokens

NOW = 1_790_000_000
AUDIENCE = "urn:hub"
ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519")


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def written(value: Any) -> str:
    """A part of a token. value: JSON, or its text, which may be wrong."""
    return b64((value if isinstance(value, str) else json.dumps(value)).encode())


def signature(algorithm: str, key: Any, head: str, claims: str) -> str:
    """What is signed, by one of the algorithms of joserfc: none is left out here."""
    return b64(jws.JWSRegistry.algorithms[algorithm].sign(f"{head}.{claims}".encode(), key))


def token(head: Any, claims: Any, algorithm: str, key: Any) -> str:
    first, second = written(head), written(claims)
    return f"{first}.{second}.{signature(algorithm, key, first, second)}"


def mac(head: Any, claims: Any, secret: bytes, size: str = "sha256") -> str:
    first, second = written(head), written(claims)
    return f"{first}.{second}.{b64(hmac.new(secret, f'{first}.{second}'.encode(), getattr(hashlib, size)).digest())}"


@cache
def key(name: str, algorithm: str) -> Key:
    """The key of a provider for an algorithm."""
    kid = {"kid": f"{name}-{algorithm}", "alg": algorithm}
    if algorithm[:2] in ("RS", "PS"):
        return RSAKey.generate_key(2048, kid)
    if algorithm.startswith("ES"):
        return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm], kid)
    return OKPKey.generate_key("Ed25519", kid)


class Provider:
    """One provider, whose keys do not change. Its tokens make their bearer a citizen."""

    def __init__(self, name: str, algorithms: tuple[str, ...] = ALGORITHMS, **settings: Any) -> None:
        self.name, self.algorithms = name, algorithms
        said: dict[str, Any] = {
            "name": name,
            "issuer": f"https://{name}.example",
            "audience": AUDIENCE,
            "algorithms": algorithms,
            "jwks_uri": f"https://{name}.example/keys",
            "roles": {"citizen": (Condition(claim="roles", value="citizen"),)},
            "person": "person",
        }
        self.issuer = Issuer(**said | settings)

    def jwks(self) -> list[dict[str, Any]]:
        return [dict(key(self.name, algorithm).as_dict(private=False)) for algorithm in self.algorithms]

    def keys(self) -> Keys:
        async def fetch(_: str) -> bytes:
            return json.dumps({"keys": self.jwks()}).encode()

        return Keys(self.issuer, lambda: 0.0, fetch)

    def head(self, algorithm: str, **other: Any) -> dict[str, Any]:
        return {"alg": algorithm, "typ": "at+jwt", "kid": f"{self.name}-{algorithm}", **other}

    def claims(self, **other: Any) -> dict[str, Any]:
        """Of a token that is taken. other: claims that are different; None takes one out."""
        said = {"iss": self.issuer.issuer, "aud": AUDIENCE, "sub": "user-1", "iat": NOW - 10, "exp": NOW + 600}
        said |= {"roles": ["citizen"], "person": "hanako", **other}
        return {name: value for name, value in said.items() if value is not None}

    def token(self, algorithm: str, head: Mapping[str, Any] | None = None, **claims: Any) -> str:
        signed_head = {**self.head(algorithm), **(head or {})}
        return token(signed_head, self.claims(**claims), algorithm, key(self.name, algorithm))


def checking(*providers: Provider, of: type[Tokens] = Tokens, now: float = NOW) -> Tokens:
    """What checks the tokens of these providers."""
    return of([(provider.issuer, provider.keys()) for provider in providers], lambda: now)
