"""The load: a process of its own that asks over raw connections, so that asking costs less than answering."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import uvloop

from hub.bench.processes import fresh_process
from hub.errors import HubError

_LONGEST_S = 120
"""What is not answered by then is not answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What a round took: the wait of each request in seconds, sorted, and the load's own processor time."""

    waits: Sequence[float]
    cpu_s: float
    problem: str | None = None


def request(method: str, path: str, body: bytes = b"", *, token: str = "", kind: str = "application/json") -> bytes:
    """A request as it goes over the wire. token: of who asks; empty for nobody."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{head}{bearer}\r\n".encode() + body


class Load:
    """The bench's end of the process."""

    def __init__(self, pid: int, pipe: Pipe) -> None:
        self.pid, self._pipe = pid, pipe

    def prepare(self, port: int, connections: int, requests: Sequence[bytes]) -> None:
        """Open the connections, and lay the requests out."""
        self._pipe.send((port, connections, requests))
        self._pipe.recv()

    def go(self) -> Taken:
        """Send them, one after the other on each connection. Raises HubError where one is not answered well."""
        self._pipe.send(None)
        taken: Taken = self._pipe.recv()
        if taken.problem is not None:
            raise HubError(f"the server of the bench {taken.problem}")
        return taken


@contextmanager
def loading() -> Iterator[Load]:
    """A process that is ready to ask; it is gone afterwards."""
    with fresh_process(_run) as (process, pipe):
        yield Load(process.pid, pipe)


def _run(pipe: Pipe) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while True:
            port, connections, requests = pipe.recv()
            runner.run(_round(pipe, port, connections, requests))


async def _round(pipe: Pipe, port: int, connections: int, requests: Sequence[bytes]) -> None:
    loop, waiting, waits = asyncio.get_running_loop(), iter(requests), list[float]()
    made = [await loop.create_connection(lambda: _Line(waiting, waits), "127.0.0.1", port) for _ in range(connections)]
    lines = [line for _, line in made]
    pipe.send(None)
    pipe.recv()
    began, problem = time.process_time(), None
    for line in lines:
        line.ask()
    try:
        async with asyncio.timeout(_LONGEST_S):
            await asyncio.gather(*(line.ended for line in lines))
    except (HubError, TimeoutError) as error:
        problem = str(error) or "did not answer in time"
    cpu_s = time.process_time() - began
    for line in lines:
        line.transport.close()
    pipe.send(Taken(waits=sorted(waits), cpu_s=cpu_s, problem=problem))


class _Line(asyncio.Protocol):
    """One connection, which takes the next request as soon as it is answered."""

    transport: asyncio.Transport

    def __init__(self, waiting: Iterator[bytes], waits: list[float]) -> None:
        self._waiting, self._waits = waiting, waits
        self._answer, self._began = b"", 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """An end before the last answer is a problem."""
        if not self.ended.done():
            self.ended.set_exception(HubError("closed the connection"))

    def ask(self) -> None:
        """Send the next request, or end."""
        following = next(self._waiting, None)
        if following is not None:
            self._began = time.perf_counter()
            self.transport.write(following)
        elif not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Part of an answer; the next request follows where it is whole."""
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        status, self._answer = self._answer[9:12], b""
        self._waits.append(time.perf_counter() - self._began)
        if int(status) < 300:
            self.ask()
        elif not self.ended.done():
            self.ended.set_exception(HubError(f"answered {status.decode()}"))
