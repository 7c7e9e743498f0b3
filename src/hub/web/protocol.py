"""HTTP/1.1 with heads that are bounded in size and time, and the hub's one shape of errors below the routes too."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.web.problems import Problem

HEAD_BYTES = 64 * 1024
HEAD_S = 15.0
_LINGER_S = 2.0
"""How long what still comes is thrown away after a refusal, before the connection is cut."""


class Bounded(HttpToolsProtocol):
    """One connection. uvicorn itself would read a head without end, and wait for it for ever."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_bytes = 0
        self._refused = False
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._late.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # thrown away: who is sending hears the answer only then
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(Problem("head-too-large", f"Path and headers have at most {HEAD_BYTES // 1024} KiB."))

    def on_message_begin(self) -> None:
        self._late.cancel()
        self._head_bytes = 0
        self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._late.cancel()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed as HTTP."""
        self._refuse(Problem("not-read", "This is no HTTP/1.1 request."))

    def _expect_head(self) -> None:
        self._in_head = True
        late = Problem("too-slow", f"Path and headers have to arrive within {HEAD_S:.0f} s.")
        self._late = asyncio.get_running_loop().call_later(HEAD_S, self._refuse, late)

    def _refuse(self, problem: Problem) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        response = problem.response()
        head = [b"HTTP/1.1 %d %s" % (problem.status, problem.name.encode())]
        head += [b"%s: %s" % pair for pair in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"connection: close", b"", bytes(response.body)]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._late.cancel()
        self._late = asyncio.get_running_loop().call_later(_LINGER_S, self.transport.abort)
