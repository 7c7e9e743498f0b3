"""The app's updates API as a real server on this machine, which does by a script what such a source does on bad days.

It knows nothing of the connector: what it serves is the format of README.md.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

TOKEN = "t0ken-of-the-hub"
GENERATED = "2026-06-01T09:30:00+09:00"

Trouble = Literal["fine", "busy", "broken", "silent", "cut", "garbled", "gone", "forgotten", "same"]
"""429; 503; no answer in time; half an answer; no JSON; the connection closed; 410; the page before once more."""


class FakeApp:
    """pages: the records of each, as they are to come. script: what happens to each request; then all is fine."""

    def __init__(self, pages: Sequence[Sequence[dict[str, Any]]], script: Sequence[Trouble] = ()) -> None:
        self.pages, self.script = list(pages), list(script)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.port = 0
        self._over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def __enter__(self) -> FakeApp:
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                app._answer(self)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._over.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        params = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append((parts.path, params))
        if handler.headers["authorization"] != f"Bearer {TOKEN}":
            return self._say(handler, 401, b"{}")
        number = int(params.get("cursor", "page-0").removeprefix("page-"))
        body = self.page(number)
        match self.script.pop(0) if self.script else "fine":
            case "busy":
                return self._say(handler, 429, b"{}", {"retry-after": "37"})
            case "broken":
                return self._say(handler, 503, b"<h1>Service Unavailable</h1>")
            case "silent":
                self._over.wait(60)
                return None
            case "cut":
                return self._say(handler, 200, body[: len(body) // 2], length=len(body))
            case "garbled":
                return self._say(handler, 200, b"<html>maintenance</html>")
            case "gone":
                handler.close_connection = True
                return None
            case "forgotten":
                return self._say(handler, 410, b"{}")
            case "same":
                return self._say(handler, 200, self.page(max(number - 1, 0), leads_to=number))
            case "fine":
                return self._say(handler, 200, body)

    def page(self, number: int, leads_to: int | None = None) -> bytes:
        """A page. leads_to: the number of the page that it names as the next one."""
        following = min(number + 1, len(self.pages)) if leads_to is None else leads_to
        records = self.pages[number] if number < len(self.pages) else []
        more = following < len(self.pages)
        said = {"format": "myhazard/1", "generated_at": GENERATED, "cursor": f"page-{following}", "more": more}
        return json.dumps(said | {"records": records}).encode()

    def _say(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True
