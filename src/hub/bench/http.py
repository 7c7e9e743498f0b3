"""The measures over HTTP, on loopback: a real `hub serve` over the city that the parts were measured on.

The load comes from this process, over raw connections that cost little. The floor is a server of the same make
that answers the same requests with nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hub.bench.figures import Act, Aim, Sizes, Trial
from hub.bench.town import PURPOSE, READER, name_of
from hub.errors import HubError
from hub.hub import Hub
from hub.log.clock import WatchedClock

VIEW = f"/v1/views/{READER}"
_LONGEST_S = 120
"""What does not come by then does not come."""

_START = "from hub.cli import main; main()"
_NOTHING = """
import socket, sys, uvicorn

async def app(scope, receive, send):
    while scope["type"] == "http" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})

bound = socket.socket()
bound.bind(("127.0.0.1", 0))
print(f"http://127.0.0.1:{bound.getsockname()[1]}/", flush=True)
config = uvicorn.Config(app, loop="uvloop", http="httptools", lifespan="off", log_level="critical", access_log=False,
                        timeout_keep_alive=600)
uvicorn.Server(config).run([bound])
"""

Measure = Callable[..., object]


class Line:
    """One connection; one request after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """The body of the answer. Raises HubError where it is none."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
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

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path

    async def open(self) -> None:
        """Ask for it, and take the first message."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
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


@contextmanager
def _server(command: Sequence[str], environment: dict[str, str]) -> Iterator[int]:
    """A server of its own process, and its port; it is gone afterwards."""
    process = subprocess.Popen(  # noqa: S603 -- our own interpreter and arguments
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        for line in process.stdout or ():
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                yield int(found[1])
                return
        raise HubError("the server of the bench did not start")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Doors:
    """The measures. measure: takes one figure with its floors, as `Bench.measure`."""

    def __init__(self, database: Path, sizes: Sizes, measure: Measure) -> None:
        self._database, self._sizes, self._measure = database, sizes, measure
        self._loop = asyncio.new_event_loop()
        self._count = 0
        self._lines: list[Line] = []
        self._environment = {n: v for n, v in os.environ.items() if not n.startswith("HUB_")}
        key = database.with_name("bench.key")
        key.write_text("00" * 32)
        self._environment["HUB_MASTER_KEY_FILE"] = str(key)

    def run(self) -> None:
        """Every measure over HTTP."""
        clock = WatchedClock(lambda: datetime.now(UTC), time.monotonic)
        hub = Hub.open(f"sqlite:///{self._database}", clock, master=bytes(32))
        hub.log.entries.accept_clock()
        hub.close()
        try:
            with _server([sys.executable, "-c", _NOTHING], self._environment) as floor:
                with self._serving(1) as port:
                    self._events(port, floor)
                    self._page(port, floor)
                    self._changes(port, floor)
                    self._streams(port, floor)
                with self._serving(2) as port:
                    self._singles(port, floor, ", 2 workers")
        finally:
            for line in self._lines:
                line.close()
            self._loop.run_until_complete(asyncio.sleep(0.05))  # transports close in the loop
            self._loop.close()

    def _line(self, port: int) -> Line:
        self._lines.append(Line(port))
        return self._lines[-1]

    @contextmanager
    def _serving(self, workers: int) -> Iterator[int]:
        url = f"sqlite:///{self._database}"
        command = [sys.executable, "-c", _START, "serve", "--port", "0", "--database", url, "--workers", str(workers)]
        with _server(command, self._environment) as port:
            self._wait(self._ready(port))
            yield port

    async def _ready(self, port: int) -> None:
        while True:
            line = self._line(port)
            try:
                await line.call("GET", "/readyz")
            except (HubError, OSError):
                await asyncio.sleep(0.05)
            else:
                return

    def _wait(self, work: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(work, _LONGEST_S))

    def _body(self, count: int) -> bytes:
        """Pings: one event, or a batch."""
        events = []
        for _ in range(count):
            self._count += 1
            said = {"lat_deg": 37.4948, "lon_deg": 139.9298, "accuracy_m": 12.0}
            person = name_of(self._count % self._sizes.persons)
            event = {"specversion": "1.0", "type": "location.reported", "source": "http", "id": f"h{self._count}"}
            events.append({**event, "subject": person, "time": datetime.now(UTC).isoformat(), "data": said})
        return json.dumps(events[0] if count == 1 else events).encode()

    def _posting(self, port: int, connections: int, requests: int, size: int) -> Trial:
        """So many requests of so many events each, over so many connections at once."""
        lines = [self._line(port) for _ in range(connections)]
        kind = f"application/cloudevents{'' if size == 1 else '-batch'}+json"

        def prepare() -> Act:
            waiting = [self._body(size) for _ in range(requests)]

            async def send(line: Line) -> None:
                while waiting:
                    await line.call("POST", "/v1/events", waiting.pop(), kind)

            async def all_of_them() -> None:
                await asyncio.gather(*(send(line) for line in lines))

            return lambda: self._wait(all_of_them())

        return prepare

    def _singles(self, port: int, floor: int, more: str = "") -> None:
        count, connections = self._sizes.requests, min(64, self._sizes.requests)
        self._measure(
            f"http: one ping a request, {connections} connections{more}",
            "1/s",
            self._posting(port, connections, count, 1),
            count=count,
            floors=[("a server that answers nothing", self._posting(floor, connections, count, 1), count)],
            aim=Aim(text="10,000/s", value=10_000),
            profiled=False,
            alone=False,
        )

    def _events(self, port: int, floor: int) -> None:
        self._singles(port, floor)
        for size, requests, connections in (
            (self._sizes.small, self._sizes.smalls * 2, 8),
            (self._sizes.large, self._sizes.larges * 2, 4),
        ):
            count = size * requests
            self._measure(
                f"http: batches of {size:,} pings, {connections} connections",
                "1/s",
                self._posting(port, connections, requests, size),
                count=count,
                floors=[("a server that answers nothing", self._posting(floor, connections, requests, size), count)],
                aim=Aim(text="50,000/s", value=50_000),
                profiled=False,
                alone=False,
            )

    def _getting(self, port: int, path: str) -> Trial:
        line = self._line(port)
        return lambda: lambda: self._wait(line.call("GET", path))

    def _page(self, port: int, floor: int) -> None:
        size = min(self._sizes.page, self._sizes.persons)
        path = f"{VIEW}?purpose={PURPOSE}&limit={size}"
        self._measure(
            f"http: a page of {size} persons of {self._sizes.persons:,}",
            "s",
            self._getting(port, path),
            rounds=self._sizes.pages,
            floors=[("a server that answers nothing", self._getting(floor, path), 1)],
            aim=Aim(text="p95 under 20 ms", value=0.02),
            judged_by_p95=True,
            profiled=False,
            alone=False,
        )

    def _some(self) -> str:
        """A query for the first twenty persons."""
        return f"?purpose={PURPOSE}&persons={','.join(map(name_of, range(min(20, self._sizes.persons))))}"

    def _body_of_first(self) -> bytes:
        self._count += 1
        said = {"lat_deg": 37.4948, "lon_deg": 139.9298, "accuracy_m": 12.0}
        event = {"specversion": "1.0", "type": "location.reported", "source": "http", "id": f"first {self._count}"}
        return json.dumps({**event, "subject": name_of(0), "data": said}).encode()

    def _changes(self, port: int, floor: int) -> None:
        line, path = self._line(port), f"{VIEW}/changes{self._some()}"
        since = json.loads(self._wait(line.call("GET", path)))["next"]

        def prepare() -> Act:
            self._wait(line.call("POST", "/v1/events", self._body_of_first(), "application/cloudevents+json"))

            def act() -> None:
                nonlocal since
                said = json.loads(self._wait(line.call("GET", f"{path}&since={since}")))
                since = said["next"]
                if len(said["persons"]) != 1:
                    raise HubError("the change did not arrive")

            return act

        self._measure(
            "http: what changed after one ping",
            "s",
            prepare,
            rounds=self._sizes.pages,
            floors=[("a server that answers nothing", self._getting(floor, path), 1)],
            profiled=False,
            alone=False,
        )

    def _streams(self, port: int, floor: int) -> None:
        count = self._sizes.streams
        streams = [Stream(port, f"{VIEW}/stream{self._some()}") for _ in range(count)]
        line = self._line(port)
        for stream in streams:
            self._wait(stream.open())
        again = False

        def pinged() -> Act:
            self._wait(asyncio.sleep(0.3))  # streams at rest
            return lambda: self._wait(self._told(streams, line, self._ping_first, b'"removed":[]'))

        def revoked() -> Act:
            nonlocal again
            if not again:  # from then on there is one grant at a time
                self._wait(self._told(streams, line, self._revoke_first, b'"persons":[]'))
                again = True
            self._wait(asyncio.sleep(0.3))
            self._wait(self._told(streams, line, self._grant_first, b'"removed":[]'))
            self._wait(asyncio.sleep(0.3))
            return lambda: self._wait(self._told(streams, line, self._revoke_first, b'"persons":[]'))

        floors = [("a server that answers nothing", self._getting(floor, "/"), 1)]
        for name, trial in (("one ping to", pinged), ("a revocation to", revoked)):
            self._measure(
                f"http: {name} {count} streams, to the last of them",
                "s",
                trial,
                rounds=self._sizes.rounds,
                floors=floors,
                aim=Aim(text="within a second", value=1.0),
                judged_by_p95=True,
                profiled=False,
                alone=False,
            )
        for stream in streams:
            stream.close()

    async def _told(
        self, streams: Sequence[Stream], line: Line, act: Callable[[Line], Awaitable[bytes]], wanted: bytes
    ) -> None:
        """Until the last of the streams is told what `act` did."""

        async def heard(stream: Stream) -> None:
            while wanted not in await stream.next():
                pass

        await asyncio.gather(act(line), *(heard(stream) for stream in streams))

    def _ping_first(self, line: Line) -> Awaitable[bytes]:
        return line.call("POST", "/v1/events", self._body_of_first(), "application/cloudevents+json")

    def _grant_first(self, line: Line) -> Awaitable[bytes]:
        grant = {
            "to": {"recipient": READER},
            "kinds": ["location.reported"],
            "purposes": [PURPOSE],
            "modes": ["normal", "emergency"],
            "data": "all",
        }
        return line.call("POST", f"/v1/persons/{name_of(0)}/grants", json.dumps(grant).encode())

    def _revoke_first(self, line: Line) -> Awaitable[bytes]:
        return line.call("DELETE", f"/v1/persons/{name_of(0)}/grants/all")
