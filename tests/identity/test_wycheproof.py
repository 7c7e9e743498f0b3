"""Wycheproof's vectors through the hub's own path: key sets as they are parsed, keys as they are chosen, signatures."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws

from hub.identity.caller import Unauthenticated
from hub.identity.keys import Keys, _usable
from hub.identity.settings import ALGORITHMS
from hub.identity.tokens import payload
from issuers import Provider, checking, mac

VECTORS = Path(os.environ.get("HUB_SHARED", Path(__file__).parents[3] / "shared")) / "data/9-robustness/wycheproof"
SECRET = "HS"

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason="no Wycheproof beside the repository (shared/data)")


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}_test.json").read_text())["testGroups"]
    return found


def accepted(said: str, key_set: dict[str, Any]) -> bool:
    """Whether the hub would believe a signature, of an issuer that may use every algorithm there is."""
    head = jws.extract_compact(said.encode()).protected
    algorithm, kid = head["alg"], head.get("kid")
    if algorithm not in ALGORITHMS:
        return False

    async def fetch(_: str) -> bytes:
        return json.dumps(key_set).encode()

    key = asyncio.run(Keys(Provider("city").issuer, lambda: 0.0, fetch).find(kid, algorithm))
    if key is None:
        return False
    try:
        payload(said, key, algorithm)
    except Unauthenticated:
        return False
    return True


def test_no_invalid_signature_is_believed_and_every_valid_one_that_is_asymmetric() -> None:
    seen = {True: 0, False: 0}
    for group in groups("json_web_key"):
        for vector in group["tests"]:
            said = vector["jws"]
            shared = jws.extract_compact(said.encode()).protected["alg"].startswith(SECRET)
            right = vector["result"] == "valid" and not shared
            key_set = group.get("public") or group["private"]
            assert accepted(said, key_set) is right, (vector["tcId"], vector["comment"], group["comment"])
            seen[right] += 1
    assert seen[True] >= 1
    assert seen[False] >= 20


def test_every_ed25519_signature_is_judged_as_wycheproof_does() -> None:
    seen = {"valid": 0, "invalid": 0}
    for group in groups("ed25519"):
        [[(_, key)]] = _usable([group["publicKeyJwk"]]).values()
        for vector in group["tests"]:
            message, seal = bytes.fromhex(vector["msg"]), bytes.fromhex(vector["sig"])
            for algorithm in ("Ed25519", "EdDSA"):
                believed = jws.JWSRegistry.algorithms[algorithm].verify(message, seal, key)
                assert believed is (vector["result"] == "valid"), (vector["tcId"], vector["comment"])
            seen[vector["result"]] += 1
    assert min(seen.values()) > 10


def test_a_shared_secret_in_a_key_set_is_no_key() -> None:
    city = Provider("city")
    rows = []
    for group in groups("hmac_sha256"):
        for number, vector in enumerate(group["tests"]):
            secret = bytes.fromhex(vector["key"])
            written = urlsafe_b64encode(secret).rstrip(b"=").decode()
            rows.append({"kty": "oct", "k": written, "kid": f"s-{group['keySize']}-{number}", "alg": "HS256"})
    assert len(rows) > 100
    assert _usable(rows) == {}
    every = city.jwks()
    city.jwks = lambda: [*every, *rows[:50]]  # type: ignore[method-assign]
    check = checking(city)

    async def refused(said: str) -> bool:
        try:
            await check.caller(said)
        except Unauthenticated:
            return True
        return False

    for row in rows[:50]:
        secret = _decoded(row["k"])
        for alg in ("HS256", "ES256", "Ed25519"):
            said = mac({"alg": alg, "typ": "at+jwt", "kid": row["kid"]}, city.claims(), secret)
            assert asyncio.run(refused(said))
    assert not asyncio.run(refused(city.token("ES256")))


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
