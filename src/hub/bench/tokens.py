"""What a bearer token costs: to check one that is new here, by algorithm, and to know one that is kept. No network."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from hub.bench.figures import Act
from hub.bench.stage import Stage
from hub.bench.town import READER
from hub.identity.keys import Keys
from hub.identity.settings import Condition, Issuer
from hub.identity.tokens import Tokens

_ISSUER = "https://issuer.example"
_LIFETIME_S = 3600


class Signed:
    """Tokens of a service under one algorithm, each another, and the issuer whose keys are at hand."""

    def __init__(self, algorithm: str, count: int) -> None:
        self.algorithm = algorithm
        self._key = _key(algorithm)
        self._issuer = Issuer(
            name="bench",
            issuer=_ISSUER,
            audience=_ISSUER,
            algorithms=(algorithm,),
            jwks_uri=f"{_ISSUER}/jwks",
            roles={"service": (Condition(claim="roles", value="service"),)},
            recipient="recipient",
        )
        body = json.dumps({"keys": [self._key.as_dict(private=False)]}).encode()

        async def own(_: str) -> bytes:
            return body

        self._keys = Keys(self._issuer, time.monotonic, own)
        head = {"alg": algorithm, "typ": "at+jwt", "kid": self._key.kid}
        now = int(time.time())
        said = {"iss": _ISSUER, "aud": _ISSUER, "iat": now, "exp": now + _LIFETIME_S, "sub": READER}
        said |= {"roles": ["service"], "recipient": READER}
        self.tokens = [
            jwt.encode(head, {**said, "jti": str(number)}, self._key, algorithms=[algorithm]) for number in range(count)
        ]

    def gate(self) -> Tokens:
        """One that has its issuer's keys and has seen no token."""
        return Tokens([(self._issuer, self._keys)], time.time)

    def bare(self) -> Callable[[], None]:
        """The signatures alone."""
        check = _checking(self._key)
        cases = []
        for token in self.tokens:
            said, _, last = token.rpartition(".")
            cases.append((urlsafe_b64decode(last + "=" * (-len(last) % 4)), said.encode()))
        if isinstance(self._key, ECKey):
            cases = [(_der(signature), said) for signature, said in cases]

        def act() -> None:
            for signature, said in cases:
                check(signature, said)

        return act


def measure(stage: Stage) -> None:
    """A new token of each algorithm; then one that was seen before."""
    count = max(1, stage.sizes.codec // 10)
    with asyncio.Runner() as runner:

        def asking(gate: Tokens, tokens: Sequence[str]) -> Act:
            async def ask() -> None:
                for token in tokens:
                    await gate.caller(token)

            return lambda: runner.run(ask())

        signed = [Signed(algorithm, count) for algorithm in ("RS256", "ES256", "Ed25519")]
        for of in signed:
            asking(of.gate(), of.tokens[:1])()  # the issuer's keys are at hand from then on

            def fresh(of: Signed = of) -> Act:
                return asking(of.gate(), of.tokens)

            floors = [("the signature alone", of.bare, count)]
            stage.measure(f"tokens: check a new one, {of.algorithm}", "1/s", fresh, count=count, floors=floors)
        last, times = signed[-1], 10
        gate = last.gate()
        asking(gate, last.tokens)()

        def digests() -> Act:
            return lambda: [hashlib.sha256(token.encode()).digest() for _ in range(times) for token in last.tokens]

        stage.measure(
            "tokens: know one that is kept",
            "1/s",
            lambda: asking(gate, last.tokens * times),
            count=count * times,
            floors=[("its SHA-256 alone", digests, count * times)],
        )


def _key(algorithm: str) -> RSAKey | ECKey | OKPKey:
    match algorithm:
        case "RS256":
            return RSAKey.generate_key(2048, auto_kid=True)
        case "ES256":
            return ECKey.generate_key("P-256", auto_kid=True)
        case _:
            return OKPKey.generate_key("Ed25519", auto_kid=True)


def _checking(key: RSAKey | ECKey | OKPKey) -> Callable[[bytes, bytes], None]:
    """Checks a signature over what was signed; raises where it does not hold."""
    match key.public_key:
        case rsa.RSAPublicKey() as of_rsa:
            return lambda signature, said: of_rsa.verify(signature, said, padding.PKCS1v15(), SHA256())
        case ec.EllipticCurvePublicKey() as of_curve:
            return lambda signature, said: of_curve.verify(signature, said, ec.ECDSA(SHA256()))
        case ed25519.Ed25519PublicKey() as of_edwards:
            return of_edwards.verify
        case _:
            raise TypeError("a key of another kind than the bench made")


def _der(signature: bytes) -> bytes:
    """The form that the cipher takes, of the one that a token has."""
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
