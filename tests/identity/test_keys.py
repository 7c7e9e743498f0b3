"""An issuer's keys: fetched, kept, fetched again, and whom a key set may not have the hub believe."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc.errors import SecurityWarning
from joserfc.jwk import RSAKey

from hub.identity import keys as fetching
from hub.identity.keys import Keys, Unfetched, _usable
from issuers import Provider, key

CITY = Provider("city")
RSA = dict(key("city", "RS256").as_dict(private=False))
EC = dict(key("city", "ES256").as_dict(private=False))


class Away:
    """A provider's answers, counted; with nothing to say it is away."""

    def __init__(self, *rows: Any) -> None:
        self.said: Any = {"keys": list(rows)}
        self.now, self.fetches = 0.0, 0
        self.keys = Keys(CITY.issuer, lambda: self.now, self.fetch)

    async def fetch(self, _: str) -> bytes:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.said is None:
            raise Unfetched("answered 503")
        return json.dumps(self.said).encode()

    def find(self, row: dict[str, Any], algorithm: str | None = None) -> bool:
        return asyncio.run(self.keys.find(row.get("kid"), algorithm or row["alg"])) is not None


def test_a_new_key_is_fetched_when_a_token_names_it_and_an_old_one_goes() -> None:
    at = Away(RSA)
    assert at.find(RSA)
    at.said = {"keys": [EC]}
    assert at.find(RSA), "until the keys are ten minutes old"
    assert at.find(EC)
    assert at.fetches == 2
    assert not at.find(RSA)


def test_a_fruitless_fetch_is_not_repeated_for_half_a_minute() -> None:
    at = Away(RSA)
    for _ in range(5):
        assert not at.find(EC)
    assert at.fetches == 1
    assert at.find(RSA)
    at.now = 29.9
    assert not at.find(EC)
    at.now, at.said = 30, {"keys": [RSA, EC]}
    assert at.find(EC)
    assert at.fetches == 2


def test_a_fruitful_fetch_starts_no_wait() -> None:
    at = Away(RSA)
    assert at.find(RSA)
    at.said = {"keys": [RSA, EC]}
    assert at.find(EC)
    assert at.fetches == 2


def test_known_keys_serve_for_a_day_while_the_issuer_is_away() -> None:
    at = Away(RSA)
    assert at.find(RSA)
    at.said = None
    at.now = 24 * 3600
    assert at.find(RSA)
    at.now += 31
    assert not at.find(RSA)


def test_a_hundred_who_ask_at_once_are_one_fetch() -> None:
    at = Away(RSA)

    async def every() -> list[Any]:
        return await asyncio.gather(*(at.keys.find(RSA["kid"], "RS256") for _ in range(100)))

    assert None not in asyncio.run(every())
    assert at.fetches == 1


UNUSABLE: dict[str, Any] = {
    "a private key": dict(key("city", "ES256").as_dict(private=True)),
    "a shared secret": {"kty": "oct", "k": "c2VjcmV0c2VjcmV0", "kid": "s"},
    "for encryption": {**RSA, "use": "enc"},
    "for signing alone": {**RSA, "key_ops": ["sign"]},
    "with operations that are a text": {**RSA, "key_ops": "verify"},
    "with a kid that is a number": {**RSA, "kid": 1},
    "of no type": {"kid": "x"},
    "of a type that is a list": {**RSA, "kty": ["RSA"]},
    "with a modulus that is a number": {**RSA, "n": 5},
    "with a modulus that is no base64": {**RSA, "n": "\u00e9" * 400},
    "without an exponent": {"kty": "RSA", "n": RSA["n"]},
    "with an exponent of one": {**RSA, "e": "AQ"},
    "with an even exponent": {**RSA, "e": "Ag"},
    "with a huge modulus": {**RSA, "n": "v" * 20_000},
    "on an unknown curve": {**EC, "crv": "P-1"},
    "on a curve that is a list": {**EC, "crv": ["P-256"]},
    "on another curve than its point": {**EC, "crv": "P-384"},
    "with a point that is not on its curve": {**EC, "x": EC["y"], "y": EC["x"]},
    "a text": "x",
    "nothing": None,
    "a list": [],
}


@pytest.mark.parametrize("row", UNUSABLE.values(), ids=UNUSABLE)
def test_no_key_is_what_is(row: Any) -> None:
    assert _usable([row]) == {}
    assert list(_usable([row, RSA])) == [RSA["kid"]], "and the others serve"


def test_a_small_rsa_key_is_no_key() -> None:
    with pytest.warns(SecurityWarning):
        small = RSAKey.generate_key(1024)
    assert _usable([small.as_dict(private=False)]) == {}


def test_two_keys_of_one_name_are_none_and_one_without_a_name_serves_alone() -> None:
    twice = Away(EC, {**EC, "x": EC["x"]})
    assert not twice.find(EC)
    nameless = {name: value for name, value in EC.items() if name != "kid"}
    assert Away(nameless).find({"alg": "ES256"})
    assert not Away(nameless, RSA).find({"alg": "ES256"})


def test_a_key_is_for_its_own_algorithm() -> None:
    at = Away(EC, RSA)
    assert not at.find(EC, "ES384")
    assert not at.find(EC, "Ed25519")
    assert not at.find(RSA, "PS256"), "its set says RS256"
    assert not at.find(RSA, "HS256")


def test_the_hundred_and_first_key_is_not_looked_at() -> None:
    rows = [{**EC, "kid": str(number)} for number in range(101)]
    assert Away(*rows).find(rows[99])
    assert not Away(*rows).find(rows[100])


@pytest.mark.parametrize("said", [[], {}, {"keys": {}}, {"keys": None}, 1, "x"])
def test_what_is_no_set_of_keys_leaves_those_that_are_known(said: Any) -> None:
    at = Away(RSA)
    assert at.find(RSA)
    at.said, at.now = said, 601
    assert at.find(RSA)
    assert at.keys.problem is not None


@contextmanager
def served(status: int, body: bytes, headers: dict[str, str] | None = None, slow: bool = False) -> Iterator[str]:
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if slow:
                done.wait(5)
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/keys"
    finally:
        done.set()
        server.shutdown()
        server.server_close()


def fetched(url: str) -> bytes:
    return asyncio.run(fetching.fetch(url))


def test_keys_come_over_http_from_this_machine() -> None:
    with served(200, b'{"keys": []}') as url:
        assert fetched(url) == b'{"keys": []}'


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (302, b"", {"Location": "http://127.0.0.1:9/"}),
        (404, b"{}", {}),
        (500, b"{}", {}),
        (204, b"", {}),
        (200, b"x" * (fetching.LARGEST_BYTES + 1), {}),
    ],
)
def test_an_answer_is_not_taken_that_is(status: int, body: bytes, headers: dict[str, str]) -> None:
    with served(status, body, headers) as url, pytest.raises(Unfetched):
        fetched(url)


def test_an_answer_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.2)
    with served(200, b"{}", slow=True) as url, pytest.raises(Unfetched):
        fetched(url)


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://u:p@x/", "ftp://localhost/", "https://exa mple/", "https://[::1", ""]
)
def test_no_address_of_keys_is(url: str) -> None:
    with pytest.raises(Unfetched):
        fetched(url)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_no_json_object_is(body: bytes) -> None:
    with pytest.raises(Unfetched):
        fetching.parse(body)


def test_a_discovery_document_of_another_issuer_is_not_believed() -> None:
    async def fetch(_: str) -> bytes:
        return json.dumps({"issuer": "https://evil.example", "jwks_uri": "https://evil.example/keys"}).encode()

    found = Keys(Provider("city", jwks_uri=None).issuer, lambda: 0.0, fetch)
    assert asyncio.run(found.find(RSA["kid"], "RS256")) is None
    assert found.problem == "says it is another issuer"
