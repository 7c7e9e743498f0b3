"""The door at the source's side: `POST /v1/events` as at the hub, on this machine alone, for whoever bears its key."""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hub.errors import HubError, Misuse
from hub.events import Event
from hub.forwarding.outbox import Outbox
from hub.web import bodies, cloudevents
from hub.web.cloudevents import Sent
from hub.web.problems import Problem, problem_of, told
from hub.web.serve import SETTINGS

SHORTEST_KEY = 16


class Door:
    """Takes events into one outbox."""

    def __init__(self, outbox: Outbox, key: Path, now: Callable[[], datetime]) -> None:
        """Raises Misuse where the key's file cannot be read, or the key is too short to be one."""
        self._outbox, self._now = outbox, now
        try:
            self._key = key.read_text().strip().encode()
        except (OSError, UnicodeDecodeError):
            raise Misuse("--key-file names no file that can be read") from None
        if len(self._key) < SHORTEST_KEY:
            raise Misuse(f"--key-file holds a key of less than {SHORTEST_KEY} characters")
        routes = [
            Route("/v1/events", self._post, methods=["POST"]),
            Route("/livez", self._livez, methods=["GET"]),
        ]
        self.app = Starlette(routes=routes)

    async def _livez(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _post(self, request: Request) -> Response:
        try:
            self._check_key(request)
            content = bodies.media_type(request.headers.get("content-type"))
            body = await bodies.read(request)
            sent, single = cloudevents.read(content, request.headers, body)
            rows = await asyncio.to_thread(self.keep, sent)
        except (Problem, HubError) as error:
            return problem_of(error).response()
        counts = {status: sum(row["status"] == status for row in rows) for status in ("kept", "duplicate", "rejected")}
        status = 422 if single and counts["rejected"] else 202
        return JSONResponse({**counts, "results": rows}, status)

    def _check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self._key):
            raise Problem("unauthenticated", "Send the key of --key-file: Authorization: Bearer …")
        if request.headers.get("origin") is not None:
            raise Problem("foreign-origin", "No page of a browser sends here.")

    def keep(self, sent: list[Sent]) -> list[dict[str, Any]]:
        """Keep what can be read; a row for each."""
        return keep(self._outbox, sent, self._now())


def keep(outbox: Outbox, sent: list[Sent], now: datetime) -> list[dict[str, Any]]:
    """Keep what can be read; for each event its id and what became of it, in order. Raises Busy where it is full."""
    added = iter(outbox.add([(one.event, one.raw) for one in sent if isinstance(one.event, Event)], now))
    rows: list[dict[str, Any]] = []
    for one in sent:
        if not isinstance(one.event, Event):
            rows.append({"id": one.id, "status": "rejected", "error": told(one.event.error)})
            continue
        what = next(added)
        row: dict[str, Any] = {"id": one.id, "status": "rejected" if what == "conflict" else what}
        if what == "conflict":
            row["error"] = {"path": "id", "reason": "this id waits here with other content"}
        rows.append(row)
    return rows


def listen(address: str) -> socket.socket:
    """The listening socket of `HOST:PORT`. Raises Misuse for one that others could reach."""
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]") or not port.isdecimal() or int(port) > 65535:
        raise Misuse("--listen is 127.0.0.1:PORT: the door is for this machine alone")
    bound = socket.socket(socket.AF_INET6 if host == "[::1]" else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("::1" if host == "[::1]" else "127.0.0.1", int(port)))
    except OSError as error:
        bound.close()
        raise Misuse(f"port {port} cannot be listened on: {error.strerror}") from None
    bound.listen(128)
    return bound


def serve(door: Door, bound: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT."""
    settings = {name: value for name, value in SETTINGS.items() if name != "timeout_worker_healthcheck"}
    with suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(door.app, lifespan="off", **settings)).run([bound])
