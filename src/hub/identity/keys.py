"""An issuer's public keys: fetched from where its configuration says, kept, and fetched again when they change.

Keys are asked for again once they are ten minutes old, and at once when a token names a key that is not
there. A token may name anything: a fetch that did not bring the key that was asked for is not repeated for
30 seconds, or random ids would have the hub hammer its issuer. Where the issuer does not answer, the keys
that are known serve for a day: a disaster may take it away. Nobody whose key is known waits longer than a
second for an issuer that is slow.
"""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from hub.identity.settings import Issuer, safe_url

FRESH_S = 600.0
COOLDOWN_S = 30.0
STALE_S = 24 * 3600.0
LARGEST_BYTES = 256 * 1024
TIMEOUT_S = 5.0
PATIENCE_S = 1.0
_SILENCE_S = 2.0
_MOST_KEYS = 100
_RSA_BITS = 2048
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}

_RSA_MOST_BITS = 8192
_PRIMES = [n for n in range(3, 168) if all(n % d for d in range(2, n))]
_ROCA = {prime: {pow(65537, exponent, prime) for exponent in range(prime)} for prime in _PRIMES}
"""The remainders that the modulus of such a key has, by prime: powers of 65537."""

Fetch = Callable[[str], Awaitable[bytes]]


class Unfetched(Exception):
    """The issuer did not answer as it should. The text says how, without what it sent."""


async def fetch(url: str) -> bytes:
    """The body that is found at `url`: no redirect, no proxy, at most 256 KiB within 5 seconds. Raises Unfetched."""
    if not safe_url(url):
        raise Unfetched("is no https address")
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx2.AsyncClient(follow_redirects=False, trust_env=False, timeout=TIMEOUT_S) as client,
            client.stream("GET", url, headers=_HEADERS) as response,
        ):
            if response.status_code != 200:
                raise Unfetched(f"answered {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Unfetched("sent it compressed")
            body = b""
            async for part in response.aiter_raw():  # what is packed may be a thousand times as much
                body += part
                if len(body) > LARGEST_BYTES:
                    raise Unfetched("sent too much")
            return body
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError, ValueError) as error:
        raise Unfetched(f"did not answer ({type(error).__name__})") from None


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in an answer. Raises Unfetched."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise Unfetched("sent no JSON") from None
    if not isinstance(said, dict):
        raise Unfetched("sent no object")
    return said


class Keys:
    """The keys of one issuer. monotonic: seconds that never leap."""

    def __init__(self, issuer: Issuer, monotonic: Callable[[], float], fetch: Fetch = fetch) -> None:
        self._issuer, self._monotonic, self._fetch = issuer, monotonic, fetch
        self._found: dict[str | None, list[tuple[dict[str, Any], Key]]] = {}
        self._fetched: float | None = None
        self._fruitless: float | None = None
        self._refresh: asyncio.Task[None] | None = None
        self._since = 0.0
        self._metadata: dict[str, Any] = {}
        self._discovered: float | None = None
        self._silent: tuple[float, str] | None = None
        self._turn = asyncio.Lock()
        self.problem: str | None = None
        """Why the last fetch failed; None where it did not."""

    def due(self) -> bool:
        """Whether the keys are old enough to be asked for again."""
        now = self._monotonic()
        if self._fetched is not None and now - self._fetched < FRESH_S:
            return False
        return not self._cooling()

    def _cooling(self) -> bool:
        return self._fruitless is not None and self._monotonic() - self._fruitless < COOLDOWN_S

    def known(self, kid: str | None, algorithm: str) -> Key | None:
        """The key among those at hand that `kid` names and that is for `algorithm`; None where there is not one."""
        if self._fetched is None or self._monotonic() - self._fetched > STALE_S:
            return None
        found = self._found.get(kid, [])
        if kid is None:
            every = [pair for pairs in self._found.values() for pair in pairs]
            found = every if len(every) == 1 else []
        fitting = [key for said, key in found if _fits(said, key, algorithm)]
        return fitting[0] if len(fitting) == 1 else None

    async def find(self, kid: str | None, algorithm: str) -> Key | None:
        """As `known`; asks the issuer where the key is not there or the keys are old."""
        for _ in range(2):  # a fetch that was under way may be older than the key: the next one is not
            key = self.known(kid, algorithm)
            if self._cooling() or (key is not None and not self.due()):
                return key
            joined = self._refresh is not None
            refresh = self._refresh or self._begin(kid, algorithm)
            waited = asyncio.get_running_loop().time() - self._since
            await asyncio.wait({refresh}, timeout=None if key is None else max(0.0, PATIENCE_S - waited))
            if refresh.done():
                refresh.result()
            if key is not None or not joined:
                break
        return self.known(kid, algorithm)

    def _begin(self, kid: str | None, algorithm: str) -> asyncio.Task[None]:
        """A fetch that ends also when whoever wanted it has gone."""
        self._since = asyncio.get_running_loop().time()
        self._refresh = asyncio.create_task(self._refreshed(kid, algorithm))
        return self._refresh

    async def _refreshed(self, kid: str | None, algorithm: str) -> None:
        self.problem = "did not answer"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                uri = self._issuer.jwks_uri or (await self.discovered())["jwks_uri"]
                rows = parse(await self._fetch(uri)).get("keys")
            if not isinstance(rows, list):
                raise Unfetched("sent no set of keys")
            self._found = _usable(rows[:_MOST_KEYS])
            self._fetched, self.problem = self._monotonic(), None
        except Unfetched as error:
            self.problem = str(error)
        except TimeoutError:
            self.problem = "did not answer in time"
        finally:
            if self.problem is not None or self.known(kid, algorithm) is None:
                self._fruitless = self._monotonic()
            self._refresh = None

    async def discovered(self) -> dict[str, Any]:
        """The discovery document (OpenID Connect Discovery 1.0, 4.3), at most ten minutes old. Raises Unfetched."""
        async with self._turn:
            now = self._monotonic()
            if self._discovered is not None and now - self._discovered < FRESH_S:
                return self._metadata
            if self._silent is not None and now - self._silent[0] < _SILENCE_S:
                raise Unfetched(self._silent[1])
            try:
                said = parse(await self._fetch(self._issuer.issuer.rstrip("/") + "/.well-known/openid-configuration"))
                if said.get("issuer") != self._issuer.issuer:
                    raise Unfetched("says it is another issuer")
                if not isinstance(said.get("jwks_uri"), str):
                    raise Unfetched("says nowhere where its keys are")
            except Unfetched as error:
                self._silent = self._monotonic(), str(error)
                raise
            self._metadata, self._discovered = said, self._monotonic()
            return said


def _usable(rows: list[Any]) -> dict[str | None, list[tuple[dict[str, Any], Key]]]:
    """The keys that can check a signature, by id. Shared secrets and private keys are left out."""
    found: dict[str | None, list[tuple[dict[str, Any], Key]]] = {}
    for row in rows:
        if not isinstance(row, dict) or row.get("kty") not in ("RSA", "EC", "OKP") or "d" in row:
            continue
        kid = row.get("kid")
        if row.get("use", "sig") != "sig" or not (kid is None or isinstance(kid, str)):
            continue
        operations = row.get("key_ops")
        if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
            continue
        try:
            if row["kty"] == "RSA" and not _strong(row["n"]):
                continue
            key = JWKRegistry.import_key(row)
        except (JoseError, UnsupportedAlgorithm, ArithmeticError, LookupError, ValueError, TypeError, AttributeError):
            continue
        found.setdefault(kid, []).append((row, key))
    return found


def _strong(modulus: str) -> bool:
    """Whether an RSA key is long enough, and not of those that a faulty chip made (ROCA, CVE-2017-15361)."""
    number = int.from_bytes(urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4)))
    if not _RSA_BITS <= number.bit_length() <= _RSA_MOST_BITS:
        return False
    return not all(number % prime in powers for prime, powers in _ROCA.items())


def _fits(said: dict[str, Any], key: Key, algorithm: str) -> bool:
    """Whether a key is of the type that the algorithm takes, and not kept for another one."""
    if said.get("alg", algorithm) != algorithm:
        return False
    if algorithm[:2] in ("RS", "PS"):
        return isinstance(key, RSAKey)
    kind: type[Key] = ECKey if algorithm.startswith("ES") else OKPKey
    return isinstance(key, kind) and said.get("crv") == _CURVES.get(algorithm)
