"""The measures over HTTP, on loopback: a real `hub serve` over the city that the parts were measured on.

The load comes from a process of its own. The floor is a server of the same make that answers the same requests with
nothing, and for single events also the rows that they wrote, one a commit.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from hub.bench.figures import Act, Aim, Trial, costliest, cpu_of, slow_end
from hub.bench.load import Load, Taken, loading, request
from hub.bench.profiled import between
from hub.bench.server import NOTHING, Line, Server, Stream, started
from hub.bench.stage import Stage
from hub.bench.town import PURPOSE, READER, name_of
from hub.errors import HubError
from hub.hub import Hub
from hub.identity.local import LONGEST_S, LocalIssuer, claims_of
from hub.log.clock import WatchedClock

VIEW = f"/v1/views/{READER}"
_SOURCE = "http"
_STRUCTURED = "application/cloudevents+json"
_LONGEST_S = 120
"""What does not come by then does not come."""

_START = ("-c", "from hub.cli import main; main()")
_PROFILED = ("-c", f"from hub.bench.profiled import begin; begin(); {_START[1]}")

Row = Callable[[int], Trial]
"""What is asked of the server at a port."""


class _Asked:
    """What the load and the server took over the rounds of one row."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.load_s = self.server_s = 0.0

    def add(self, taken: Taken, server_s: float) -> None:
        """One more round."""
        self.waits += taken.waits
        self.load_s, self.server_s = self.load_s + taken.cpu_s, self.server_s + server_s


class Doors:
    """The measures, over the stage's city; its own hub is closed by then."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._sizes = stage, stage.sizes
        self._loop = asyncio.new_event_loop()
        self._count = 0
        self._lines: list[Line | Stream] = []
        self._rows: list[tuple[int, Row]] = []
        self._environment = {n: v for n, v in os.environ.items() if not n.startswith("HUB_")}
        key = stage.folder / "bench.key"
        key.write_text("00" * 32)
        self._environment |= {"HUB_MASTER_KEY_FILE": str(key), "HUB_FOLDER": str(stage.folder)}
        issuer, now = LocalIssuer(stage.folder / "local-issuer.key"), time.time()
        self._service, self._source, self._citizen = (
            issuer.token(claims_of(said), now=now, lifetime_s=LONGEST_S)
            for said in (f"service:{READER}", f"source:{_SOURCE}", f"citizen:{name_of(0)}")
        )

    def run(self) -> None:
        """Every measure over HTTP."""
        clock = WatchedClock(lambda: datetime.now(UTC), time.monotonic)
        hub = Hub.open(self._stage.url, clock, master=bytes(32))
        hub.log.entries.accept_clock()
        hub.close()
        try:
            with started(["-c", NOTHING], self._environment) as floor, loading() as load:
                with self._serving(1, floor, load) as server:
                    self._events(server, floor, load)
                    self._page(server, floor, load)
                    self._changes(server, floor)
                    self._streams(server, floor)
                with self._serving(2, floor, load) as server:
                    self._singles(server, floor, load, ", 2 workers")
                if self._stage.profile:
                    with self._serving(1, floor, load, _PROFILED) as server:
                        self._profile(server)
        finally:
            self._stage.ours = lambda: 0.0
            for line in self._lines:
                line.close()
            self._loop.run_until_complete(asyncio.sleep(0.05))  # transports close in the loop
            self._loop.close()

    def _line(self, port: int) -> Line:
        line = Line(port)
        self._lines.append(line)
        return line

    @contextmanager
    def _serving(self, workers: int, floor: Server, load: Load, start: Sequence[str] = _START) -> Iterator[Server]:
        command = [*start, "serve", "--port", "0", "--database", self._stage.url, "--workers", str(workers)]
        with started(command, self._environment) as server:
            self._stage.ours = lambda: server.cpu_s() + floor.cpu_s() + cpu_of(load.pid)
            self._wait(self._ready(server.port))
            yield server

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

    def _profile(self, server: Server) -> None:
        """Every row of one worker once more, on a server whose threads are profiled."""
        file = self._stage.folder / "spent"
        self._wait(self._grant_first(self._line(server.port)))  # what was revoked last is wanted again
        for number, row in self._rows:
            figure = self._stage.figures[number]
            self._stage.say(f"{figure.name}: profiled")
            act = row(server.port)()
            before = server.spent(file)
            act()
            self._stage.figures[number] = replace(figure, costs=costliest(between(before, server.spent(file))))

    def _measure(
        self,
        name: str,
        unit: Literal["1/s", "s"],
        server: Server,
        row: Row,
        floor: Row,
        at_floor: int,
        asked: _Asked | None = None,
        **how: Any,
    ) -> None:
        """One figure; `how` as `Stage.measure` has it. at_floor: the port of the floor's server."""
        count = how.get("count", 1)
        floors = [("a server that answers nothing", floor(at_floor), count), *how.pop("floors", ())]
        profiled = how.pop("profiled", True)
        figure = self._stage.measure(name, unit, row(server.port), floors=floors, profiled=False, **how)
        if asked is not None:
            waits, spent_s = sorted(asked.waits), asked.load_s + asked.server_s
            waited = waits[len(waits) // 2], slow_end(waits)
            share = round(asked.load_s / spent_s, 2) if asked.server_s else None
            self._stage.figures[-1] = replace(figure, waits=waited, load=share)
        if profiled:
            self._rows.append((len(self._stage.figures) - 1, row))

    def _body(self, count: int) -> bytes:
        """Pings: one event, or a batch."""
        events = []
        for _ in range(count):
            self._count += 1
            said = {"lat_deg": 37.4948, "lon_deg": 139.9298, "accuracy_m": 12.0}
            person = name_of(self._count % self._sizes.persons)
            event = {"specversion": "1.0", "type": "location.reported", "source": _SOURCE, "id": f"h{self._count}"}
            events.append({**event, "subject": person, "time": datetime.now(UTC).isoformat(), "data": said})
        return json.dumps(events[0] if count == 1 else events).encode()

    def _asking(
        self, load: Load, connections: int, make: Callable[[], Sequence[bytes]], server: Server, asked: _Asked
    ) -> Row:
        """What `make` gives, over so many connections at once; what the server takes goes into `asked`."""

        def row(port: int) -> Trial:
            def prepare() -> Act:
                load.prepare(port, connections, make())
                if port != server.port:
                    return load.go

                def act() -> None:
                    before = server.cpu_s()
                    taken = load.go()
                    asked.add(taken, server.cpu_s() - before)

                return act

            return prepare

        return row

    def _posts(self, count: int, size: int) -> list[bytes]:
        kind = f"application/cloudevents{'' if size == 1 else '-batch'}+json"
        return [request("POST", "/v1/events", self._body(size), token=self._source, kind=kind) for _ in range(count)]

    def _singles(self, server: Server, floor: Server, load: Load, more: str = "") -> None:
        count, connections, asked = self._sizes.requests, min(64, self._sizes.requests), _Asked()
        row = self._asking(load, connections, lambda: self._posts(count, 1), server, asked)
        self._measure(
            f"http: one ping a request, {connections} connections{more}",
            "1/s",
            server,
            row,
            row,
            floor.port,
            asked,
            count=count,
            floors=[("the same rows, a commit each, and a random 16-byte key", self._rows_alone(count), count)],
            aim=Aim(text="10,000/s", value=10_000),
            profiled=not more,
        )

    def _rows_alone(self, count: int) -> Trial:
        """The rows that the last round wrote, in a bare table, a commit each."""
        bare = self._stage.bare[True]

        def prepare() -> Act:
            end = bare.end()
            bare.follow(end - count)
            rows = bare.rows(end - count, end)
            return lambda: bare.insert(rows, 1)

        return prepare

    def _events(self, server: Server, floor: Server, load: Load) -> None:
        self._singles(server, floor, load)
        for size, requests, connections in (
            (self._sizes.small, self._sizes.smalls * 2, 8),
            (self._sizes.large, self._sizes.larges * 2, 4),
        ):
            asked, make = _Asked(), partial(self._posts, requests, size)
            row = self._asking(load, connections, make, server, asked)
            self._measure(
                f"http: batches of {size:,} pings, {connections} connections",
                "1/s",
                server,
                row,
                row,
                floor.port,
                asked,
                count=size * requests,
                aim=Aim(text="50,000/s", value=50_000),
            )

    def _getting(self, path: str) -> Row:
        def row(port: int) -> Trial:
            line = self._line(port)
            return lambda: lambda: self._wait(line.call("GET", path, token=self._service))

        return row

    def _page(self, server: Server, floor: Server, load: Load) -> None:
        size = min(self._sizes.page, self._sizes.persons)
        path = f"{VIEW}?purpose={PURPOSE}&limit={size}"
        name = f"http: a page of {size} persons of {self._sizes.persons:,}"
        aim = Aim(text="p95 under 20 ms", value=0.02)
        one = self._getting(path)
        rounds = self._sizes.pages
        self._measure(name, "s", server, one, one, floor.port, rounds=rounds, aim=aim, judged_by_p95=True)
        asked, count = _Asked(), self._sizes.pages * 2
        row = self._asking(load, 16, lambda: [request("GET", path, token=self._service)] * count, server, asked)
        self._measure(f"{name}, 16 connections", "1/s", server, row, row, floor.port, asked, count=count)

    def _some(self) -> str:
        """A query for the first twenty persons."""
        return f"?purpose={PURPOSE}&persons={','.join(map(name_of, range(min(20, self._sizes.persons))))}"

    def _body_of_first(self) -> bytes:
        self._count += 1
        said = {"lat_deg": 37.4948, "lon_deg": 139.9298, "accuracy_m": 12.0}
        event = {"specversion": "1.0", "type": "location.reported", "source": _SOURCE, "id": f"first {self._count}"}
        return json.dumps({**event, "subject": name_of(0), "data": said}).encode()

    def _changes(self, server: Server, floor: Server) -> None:
        path = f"{VIEW}/changes{self._some()}"
        self._measure(
            "http: what changed after one ping",
            "s",
            server,
            partial(self._changed, path),
            self._getting(path),
            floor.port,
            rounds=self._sizes.pages,
        )

    def _changed(self, path: str, port: int) -> Trial:
        line = self._line(port)
        since = json.loads(self._wait(line.call("GET", path, token=self._service)))["next"]

        def prepare() -> Act:
            self._wait(self._ping_first(line))

            def act() -> None:
                nonlocal since
                said = json.loads(self._wait(line.call("GET", f"{path}&since={since}", token=self._service)))
                since = said["next"]
                if len(said["persons"]) != 1:
                    raise HubError("the change did not arrive")

            return act

        return prepare

    def _streams(self, server: Server, floor: Server) -> None:
        count, aim = self._sizes.streams, Aim(text="within a second", value=1.0)
        for name, row in (("one ping to", self._pinged), ("a revocation to", self._revoked)):
            self._measure(
                f"http: {name} {count} streams, to the last of them",
                "s",
                server,
                row,
                self._getting("/"),
                floor.port,
                rounds=self._sizes.rounds,
                aim=aim,
                judged_by_p95=True,
            )

    def _open_streams(self, port: int) -> list[Stream]:
        streams = [Stream(port, f"{VIEW}/stream{self._some()}", self._service) for _ in range(self._sizes.streams)]
        for stream in streams:
            self._wait(stream.open())
        self._lines += streams
        return streams

    def _pinged(self, port: int) -> Trial:
        """From the acknowledgement of a ping to its arrival at the last stream."""
        streams, line = self._open_streams(port), self._line(port)

        def prepare() -> Act:
            self._wait(asyncio.sleep(0.3))  # streams at rest
            self._wait(self._ping_first(line))
            return lambda: self._wait(self._heard(streams, b'"removed":[]'))

        return prepare

    def _revoked(self, port: int) -> Trial:
        """From the acknowledgement of a revocation to the removal at the last stream."""
        streams, line = self._open_streams(port), self._line(port)
        first = True

        def prepare() -> Act:
            nonlocal first
            if first:  # from then on there is one grant at a time
                self._wait(self._told(streams, line, self._revoke_first, b'"persons":[]'))
            first = False
            self._wait(asyncio.sleep(0.3))
            self._wait(self._told(streams, line, self._grant_first, b'"removed":[]'))
            self._wait(asyncio.sleep(0.3))
            self._wait(self._revoke_first(line))
            return lambda: self._wait(self._heard(streams, b'"persons":[]'))

        return prepare

    async def _told(
        self, streams: Sequence[Stream], line: Line, act: Callable[[Line], Awaitable[bytes]], wanted: bytes
    ) -> None:
        """Until the last of the streams is told what `act` did."""
        await asyncio.gather(act(line), self._heard(streams, wanted))

    async def _heard(self, streams: Sequence[Stream], wanted: bytes) -> None:
        async def heard(stream: Stream) -> None:
            while wanted not in await stream.next():
                pass

        await asyncio.gather(*map(heard, streams))

    def _ping_first(self, line: Line) -> Awaitable[bytes]:
        return line.call("POST", "/v1/events", self._body_of_first(), token=self._source, kind=_STRUCTURED)

    def _grant_first(self, line: Line) -> Awaitable[bytes]:
        grant = {
            "to": {"recipient": READER},
            "kinds": ["location.reported"],
            "purposes": [PURPOSE],
            "modes": ["normal", "emergency"],
            "data": "all",
        }
        path, body = f"/v1/persons/{name_of(0)}/grants", json.dumps(grant).encode()
        return line.call("POST", path, body, token=self._citizen)

    def _revoke_first(self, line: Line) -> Awaitable[bytes]:
        return line.call("DELETE", f"/v1/persons/{name_of(0)}/grants/all", token=self._citizen)
