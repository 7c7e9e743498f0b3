"""Revocation and read, over two worker processes: no read that began after the acknowledgement shows the data.

Long form: HUB_TEST_PAIRS=20000. A pair is a revocation that was acknowledged, and a read that began after it.
The controls are the same hub without the confirming step, and one whose reads lag: the same checks have to find
violations in them. Both workers have to have answered, which is counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from doors import Process, cloudevent
from hub.events import Entry
from hub.hub import Hub
from hub.log.clock import SetClock
from worlds import DAWN

PAIRS = int(os.environ.get("HUB_TEST_PAIRS", "480"))
WRITERS, READERS_EACH = 16, 2
USES, ROUNDS = 3, 6

UNCONFIRMED = """
import time
import hub.disclosure as d

d.Disclosure._stale = lambda self, connection, answer: False
decide = d.Disclosure.decide


def slowly(self, *args, **kwargs):
    answer = decide(self, *args, **kwargs)
    time.sleep(0.02)  # between the decision and the commit
    return answer


d.Disclosure.decide = slowly
"""
"""A hub that does not look again before it discloses."""

LAGGING = """
import hub.disclosure as d

d.Disclosure._stale = lambda self, connection, answer: False
decided = d.Disclosure._decided


def late(self, decide):
    def behind(standing, time):
        past = max(standing.position - 8, 0)
        return decide(self._views.at(standing.connection, standing.position, past), time)

    return decided(self, behind)


d.Disclosure._decided = late
"""
"""A hub whose reads are some events behind, as one with a lagging projection."""


class Line:
    """One connection, over which asyncio sends one request after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        sent = b"" if body is None else json.dumps(body).encode()
        kind = "application/cloudevents+json" if path.endswith("/events") else "application/json"
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
        writer.write(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
        body = json.loads(await reader.readexactly(int(fields[b"content-length"])))
        return int(answer.split()[1]), body

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()


class Trial:
    """Writers that grant and revoke, readers that read; counts what was shown and what should not have been."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pairs = self.shown = self.stale = self.missed = self.reads = 0
        self.lines: list[Line] = []

    def line(self) -> Line:
        self.lines.append(Line(self.port))
        return self.lines[-1]

    async def prepare(self) -> None:
        line = self.line()
        recipient = {"class": "municipality", "areas": ["*"], "purposes": ["rescue"]}
        assert (await line.call("PUT", "/v1/recipients/aizu-city", recipient))[0] == 201
        for number in range(WRITERS):
            assert (await line.call("PUT", f"/v1/persons/p{number}", {"areas": ["07202"]}))[0] == 201
            await self.grant(line, f"p{number}", "first")
            fact = cloudevent("safety.answered", f"s{number}", f"p{number}", status="safe")
            assert (await line.call("POST", "/v1/events", fact))[0] == 201

    async def grant(self, line: Line, person: str, name: str, **terms: Any) -> None:
        grant = {
            "grant": f"{person} {name}",
            "to": {"recipient": "aizu-city"},
            "kinds": ["*"],
            "purposes": ["rescue"],
            "modes": ["normal"],
            "data": "all",
        }
        status, said = await line.call("POST", f"/v1/persons/{person}/grants", grant | terms)
        assert status == 201, said

    async def read(self, line: Line, person: str) -> bool:
        """Whether the person was shown."""
        status, said = await line.call("GET", f"/v1/views/aizu-city?purpose=rescue&persons={person}")
        assert status == 200, said
        self.reads += 1
        return bool(said["persons"])

    async def opened(self, count: int) -> list[Line]:
        """Connections that are there, opened one after the other, so that no worker takes them all."""
        lines = [self.line() for _ in range(count)]
        for line in lines:
            assert (await line.call("GET", "/livez"))[0] == 200
        return lines

    async def writers(self, pairs: int) -> None:
        """All writers at once, each with its readers."""
        lines = await self.opened(WRITERS * (READERS_EACH + 2))
        await asyncio.gather(*(self.writer(n, pairs // WRITERS, *lines[n::WRITERS]) for n in range(WRITERS)))

    async def writer(self, number: int, pairs: int, line: Line, restless: Line, *readers: Line) -> None:
        """Revoke; readers begin after the acknowledgement, while others are in the middle; grant again."""
        person = f"p{number}"
        for turn in range(pairs // READERS_EACH):
            within = asyncio.create_task(self.read(restless, person))
            status, said = await line.call("DELETE", f"/v1/persons/{person}/grants/all")
            assert status == 200, said
            found = await asyncio.gather(*(self.read(reader, person) for reader in readers))
            self.pairs += len(found)
            self.stale += sum(found)
            overlapping = await within
            await self.grant(line, person, f"again {turn}")
            granted = await self.read(readers[turn % READERS_EACH], person)
            self.missed += not granted
            self.shown += overlapping + granted

    async def last_uses(self) -> list[int]:
        """Grants of a few uses, each read by many at once: how many were shown the person."""
        readers = await self.opened(12)
        counts = []
        for turn in range(ROUNDS):
            person = f"u{turn}"
            assert (await readers[0].call("PUT", f"/v1/persons/{person}", {"areas": ["07202"]}))[0] == 201
            await self.grant(readers[0], person, "few", uses=USES)
            fact = cloudevent("safety.answered", f"use {turn}", person, status="safe")
            assert (await readers[0].call("POST", "/v1/events", fact))[0] == 201
            counts.append(sum(await asyncio.gather(*(self.read(reader, person) for reader in readers))))
        return counts

    async def close(self) -> None:
        for line in self.lines:
            await line.close()


def tried(process: Process, work: Callable[[Trial], Awaitable[Any]]) -> tuple[Trial, Any]:
    async def run() -> tuple[Trial, Any]:
        trial = Trial(process.port)
        try:
            await trial.prepare()
            return trial, await work(trial)
        finally:
            await trial.close()

    trial, said = asyncio.run(run())
    shares = process.figures("hub_decisions_total", trial.reads)
    assert len(shares) == 2, shares
    assert min(shares.values()) > trial.reads // 20, shares
    sys.stdout.write(f"reads by worker: {sorted(shares.values())}\n")
    return trial, said


def overtaken(database: Path) -> int:
    """Disclosures that stand behind a revocation of someone whom they show, though they were decided before it."""
    hub = Hub.open(f"sqlite:///{database}", SetClock(DAWN))
    try:
        found, revoked, disclosures = 0, {}, 0
        with hub.log.entries.snapshot() as (connection, _):
            for entry in hub.log.scan(connection):
                if not isinstance(entry, Entry):
                    continue
                if entry.event.kind == "consent.revoked":
                    revoked[entry.subject] = entry.position
                if entry.event.kind == "view.disclosed":
                    disclosures += 1
                    shown, _ = hub.disclosure.named(connection, entry)
                    found += any(revoked.get(person, 0) > entry.event.data["position"] for person in shown)  # type: ignore[call-overload]
        assert disclosures
        return found
    finally:
        hub.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(patch: str = "") -> Process:
        environment = {}
        if patch:
            (tmp_path / "patch").mkdir()
            (tmp_path / "patch" / "sitecustomize.py").write_text(patch)
            path = os.environ.get("PYTHONPATH", "")
            environment["PYTHONPATH"] = f"{tmp_path / 'patch'}{os.pathsep}{path}" if path else str(tmp_path / "patch")
        started.append(Process(tmp_path / "hub.sqlite3", workers=2, environment=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def test_no_read_that_began_after_a_revocation_shows_the_data(serve: Callable[..., Process], tmp_path: Path) -> None:
    process = serve()
    trial, _ = tried(process, lambda trial: trial.writers(PAIRS))
    process.kill()

    assert (trial.stale, trial.missed) == (0, 0)
    assert trial.pairs >= PAIRS - WRITERS * READERS_EACH
    assert trial.shown >= trial.pairs // READERS_EACH, "too little was shown while it was granted"
    assert overtaken(tmp_path / "hub.sqlite3") == 0
    sys.stdout.write(f"{trial.pairs} pairs, {trial.shown} other reads showed the data, none was stale or overtaken\n")


def test_two_readers_never_share_a_last_use(serve: Callable[..., Process]) -> None:
    _, counts = tried(serve(), Trial.last_uses)
    assert counts == [USES] * ROUNDS


def test_without_the_confirming_step_both_are_violated(serve: Callable[..., Process], tmp_path: Path) -> None:
    process = serve(UNCONFIRMED)

    async def both(trial: Trial) -> list[int]:
        await trial.writers(160)
        return await trial.last_uses()

    _, counts = tried(process, both)
    process.kill()

    assert sum(counts) > USES * ROUNDS, "no use was taken twice"
    found = overtaken(tmp_path / "hub.sqlite3")
    assert found > 0, "no disclosure was overtaken"
    sys.stdout.write(f"without confirming: uses {counts} of {USES} each, {found} disclosures overtaken\n")


def test_reads_that_lag_are_found_stale(serve: Callable[..., Process]) -> None:
    trial, _ = tried(serve(LAGGING), lambda trial: trial.writers(160))
    assert trial.stale > 0, "no read showed what had been revoked"
    sys.stdout.write(f"lagging: {trial.stale} of {trial.pairs} reads were stale\n")
