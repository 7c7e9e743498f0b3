"""Issuers whose keys come in a way that does harm: the hub answers in time, believes nothing, and stays small."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from doors import Process
from openid import free_port

KEY = RSAKey.generate_key(2048, auto_kid=True)
ROW = json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()
WAYS = ("redirect", "large", "slow", "silent", "text", "packed")
GROWTH_MB = 32
ASKED: Counter[str] = Counter()
"""How often the keys were asked for, by way."""


class Hostile(BaseHTTPRequestHandler):
    """The keys are right each time; what they come in is not, but for `plain`."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        way = self.path.split("/")[1]
        ASKED[way] += 1
        with suppress(OSError):  # the hub hangs up
            getattr(self, f"do_{way}")()

    def do_plain(self) -> None:
        self._send(ROW)

    def do_redirect(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/plain/jwks")
        self.end_headers()

    def do_large(self) -> None:
        self._send(ROW + b" " * 10_000_000)

    def do_slow(self) -> None:
        self._send(b"")
        for byte in ROW:
            self.wfile.write(bytes([byte]))
            time.sleep(0.5)  # the whole takes minutes

    def do_silent(self) -> None:
        time.sleep(300)

    def do_text(self) -> None:
        self._send(b"<html>" + ROW)

    def do_packed(self) -> None:
        self._send(PACKED, **{"Content-Encoding": "gzip"})

    def _send(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


PACKED = gzip.compress(ROW + b" " * 200_000_000, compresslevel=1)


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


class _NoTokens:
    def of(self, said: Any) -> str:
        return ""


@pytest.fixture(scope="module")
def hub(hostile: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder: Path = tmp_path_factory.mktemp("hub")
    file = folder / "identity.toml"
    file.write_text("".join(map(ISSUER.format_map, ({"way": way, "at": hostile} for way in (*WAYS, "plain")))))
    found = Process(
        folder / "hub.sqlite3", port=free_port(), tokens=_NoTokens(), environment={"HUB_IDENTITY": str(file)}
    )
    yield found
    found.kill()


ISSUER = """
[[issuers]]
name = "{way}"
issuer = "{at}/{way}"
audience = "urn:hub"
algorithms = ["RS256"]
jwks_uri = "{at}/{way}/jwks"
roles.operator = [{{claim = "roles", value = "operator"}}]
"""


def token(at: str, way: str) -> str:
    now = int(time.time())
    claims = {"iss": f"{at}/{way}", "aud": "urn:hub", "sub": "s", "iat": now, "exp": now + 300, "roles": ["operator"]}
    return jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": KEY.kid}, claims, KEY)


def peak_mb(hub: Process) -> float:
    status = Path(f"/proc/{hub.popen.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def test_keys_that_come_plainly_are_believed(hostile: str, hub: Process) -> None:
    headers = {"Authorization": f"Bearer {token(hostile, 'plain')}"}
    assert hub.client().get("/v1/kinds", headers=headers).status == 200


@pytest.mark.parametrize("way", WAYS)
def test_keys_that_come_otherwise_are_not(hostile: str, hub: Process, way: str) -> None:
    """The client waits for a minute: less than an issuer that is slow or silent takes."""
    before = peak_mb(hub)
    headers = {"Authorization": f"Bearer {token(hostile, way)}"}
    assert hub.client().get("/v1/kinds", headers=headers).status == 401
    assert peak_mb(hub) - before < GROWTH_MB
    assert hub.client().get("/v1/kinds", headers=headers).status == 401
    assert ASKED[way] == 1, "within the pause nothing is fetched"
