"""The servers that are asked, each a process of its own, and the connections for what is asked one at a time."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub.bench.figures import cpu_of_group
from hub.bench.load import request
from hub.bench.profiled import Stats, read
from hub.errors import HubError

NOTHING = """
import socket, sys, uvicorn

async def app(scope, receive, send):
    while scope["type"] == "http" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})

bound = socket.socket()
bound.bind(("127.0.0.1", 0))
print(f"http://127.0.0.1:{bound.getsockname()[1]}/", flush=True)
how = {"lifespan": "off", "log_level": "critical", "access_log": False, "timeout_keep_alive": 3600}
config = uvicorn.Config(app, loop="uvloop", http="httptools", **how)
uvicorn.Server(config).run([bound])
"""


class Line:
    """One connection; one request after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self, method: str, path: str, body: bytes = b"", *, token: str = "", kind: str = "application/json"
    ) -> bytes:
        """The body of the answer. Raises HubError where it is none."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request(method, path, body, token=token, kind=kind))
        try:
            answer = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            raise HubError(
                f"the server closed the connection before it answered {method} {path.split('?')[0]}"
            ) from None
        length = int(answer.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        said = await reader.readexactly(length)
        if int(answer[9:12]) >= 300:
            raise HubError(f"the server answered {answer[9:12].decode()} to {method} {path.split('?')[0]}")
        return said

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


class Stream:
    """An open stream; its messages, one after the other."""

    def __init__(self, port: int, path: str, token: str) -> None:
        self._port, self._asked = port, request("GET", path, token=token)

    async def open(self) -> None:
        """Ask for it, and take the first message."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._asked)
        await self._reader.readuntil(b"\r\n\r\n")
        await self.next()

    async def next(self) -> bytes:
        """The data of the next message."""
        while True:
            line = await self._reader.readuntil(b"\n")
            if line.startswith(b"data: "):
                return line[6:]

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at `port`."""

    port: int
    process: subprocess.Popen[str]

    def cpu_s(self) -> float:
        """The processor time of its processes so far."""
        return cpu_of_group(self.process.pid)

    def spent(self, file: Path) -> Stats:
        """What a profiled server spent so far; `file` is for passing it on."""
        if self.process.stdin is not None:
            self.process.stdin.write(f"{file}\n")
            self.process.stdin.flush()
        for line in self.process.stdout or ():
            if line == "written\n":
                return read(file)
        raise HubError("the server of the bench ended while it was profiled")


@contextmanager
def started(command: Sequence[str], environment: dict[str, str]) -> Iterator[Server]:
    """A server of its own process; it is gone afterwards."""
    process = subprocess.Popen(  # noqa: S603 -- our own interpreter and arguments
        [sys.executable, *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stdout or ():
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                yield Server(int(found[1]), process)
                return
        raise HubError("the server of the bench did not start")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
