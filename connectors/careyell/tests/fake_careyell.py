"""The care communication service, over real HTTP on this machine: its feed, and everything that goes wrong on the way.

    with FakeCareyell(updates, token="…", troubles=["limit", None, "vanish"]) as fake: … fake.url …

Each request of the feed takes the next trouble; where there is none, it is answered well.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

Record = dict[str, Any]

RETRY_AFTER_S = 7
TROUBLES = ("limit", "down", "silent", "vanish", "reset", "garbled", "repeat", "reorder", "forgotten")


class FakeCareyell:
    """The service. updates: its feed, in order. page: how many it gives at once. troubles: one for each request.

    limit: 429 with Retry-After. down: 503. silent: no answer for `silence_s`. reset: the connection ends before one.
    vanish: it ends in the middle of one. garbled: half a page, told as a whole one. repeat: the page before comes
    along. reorder: its updates in another order. forgotten: 410, the cursor is too old. Bytes: this body instead.
    """

    def __init__(
        self,
        updates: Sequence[Record],
        *,
        token: str,
        page: int = 3,
        troubles: Iterable[str | bytes | None] = (),
        silence_s: float = 60.0,
    ) -> None:
        self.updates, self.token, self.page, self.silence_s = list(updates), token, page, silence_s
        self.asked: list[dict[str, str]] = []
        self.answers: list[int] = []
        self._troubles = iter(troubles)
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeCareyell:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        parts = urlsplit(handler.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._lock:
            self.asked.append(asked)
            trouble = next(self._troubles, None)
        if handler.headers.get("Authorization") != f"Bearer {self.token}":
            return self._say(handler, 401, b"")
        if parts.path != "/v1/updates":
            return self._say(handler, 404, b"")
        start = int(asked.get("after", "c-0").removeprefix("c-"))
        body = self._written(start, min(int(asked["limit"]), self.page), trouble)
        match trouble:
            case "limit":
                return self._say(handler, 429, b"", {"Retry-After": str(RETRY_AFTER_S)})
            case "down":
                return self._say(handler, 503, b"")
            case "forgotten":
                return self._say(handler, 410 if "after" in asked else 200, b"" if "after" in asked else body)
            case "silent":
                self._closing.wait(self.silence_s)
                return self._end(handler)
            case "reset":
                return self._end(handler)
            case "vanish":
                return self._say(handler, 200, body[: len(body) // 2], {"Content-Length": str(len(body))})
            case "garbled":
                return self._say(handler, 200, body[: len(body) // 2])
            case bytes():
                return self._say(handler, 200, trouble)
            case _:
                return self._say(handler, 200, body)

    def _written(self, start: int, size: int, trouble: str | bytes | None) -> bytes:
        end = min(start + size, len(self.updates))
        updates = self.updates[max(0, start - size) if trouble == "repeat" else start : end]
        if trouble == "reorder":
            Random(start).shuffle(updates)
        page = {
            "format": "careyell/1",
            "sent_at": "2026-06-01T00:00:00Z",
            "updates": updates,
            "next": f"c-{end}",
            "more": end < len(self.updates),
            "complete_to": "2026-05-31T23:59:00Z",
        }
        return json.dumps(page, ensure_ascii=False).encode()

    def _say(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: Record | None = None) -> None:
        with self._lock:
            self.answers.append(status)
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    def _end(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.answers.append(0)
        handler.close_connection = True


def _handler(fake: FakeCareyell) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler
