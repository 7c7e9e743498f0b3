"""`kill -9` of servers under load: what was acknowledged is there, once, and everything follows from the log.

Long form: HUB_TEST_KILLS=50. The moment of each kill is drawn from a number of acknowledged requests, so that
no clock is in it. Writers re-send what was not acknowledged, as a client does, and on each new connection
what was acknowledged last, as one does that missed the answer.
"""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import select

from doors import Client, Process, cloudevent
from hub.events import Entry
from hub.hub import Hub
from hub.log.clock import SetClock
from hub.views.views import TABLES
from worlds import DAWN

KILLS = int(os.environ.get("HUB_TEST_KILLS", "5"))
WRITERS = 6
PEOPLE = 20


class Writer(threading.Thread):
    """Sends single events and batches until it is told to end; keeps what was acknowledged, and what was sent."""

    def __init__(self, number: int, told: Callable[[], None], *, careless: bool = False) -> None:
        super().__init__(daemon=True)
        self.number, self._told, self._careless = number, told, careless
        self._random = Random(f"writer {number}")
        self._count = itertools.count()
        self.process: Process | None = None
        self.ending = threading.Event()
        self.acknowledged: dict[str, int] = {}
        self.sent: set[str] = set()
        self.failed: BaseException | None = None
        self.repeated = 0
        self._again: list[dict[str, Any]] = []
        self._last: list[dict[str, Any]] = []

    def event(self) -> dict[str, Any]:
        name, person = f"w{self.number}-{next(self._count)}", f"p{self._random.randrange(PEOPLE)}"
        return cloudevent("safety.answered", name, person, status="safe")

    def run(self) -> None:
        client: Client | None = None
        try:
            while not self.ending.is_set():
                events = self._again or [self.event() for _ in range(self._random.choice((1, 1, 5, 40)))]
                self._again = events
                self.sent |= {event["id"] for event in events}
                try:
                    process = self.process
                    assert process is not None
                    if client is None or client.port != process.port:
                        if client is not None:
                            client.close()
                        client = Client(process.port, timeout_s=20, tokens=process.tokens)
                        self._repeat(client)
                    reply = client.batch(events) if len(events) > 1 else client.event(events[0])
                except (OSError, http.client.HTTPException):
                    if client is not None:
                        client.close()
                    client = None
                    if self._careless:
                        self._again = []
                    self.ending.wait(0.05)  # the server is gone; ask again until there is one
                    continue
                if reply.status == 503:
                    continue
                assert reply.status in (200, 201), reply
                for result in reply.json["results"]:
                    assert result["status"] in ("accepted", "duplicate"), result
                    self.acknowledged[result["id"]] = result["position"]
                self._again, self._last = [], events
                self._told()
        except BaseException as error:
            self.failed = error
        finally:
            if client is not None:
                client.close()

    def _repeat(self, client: Client) -> None:
        """Send what was acknowledged last once more: a duplicate, at the position that was promised."""
        if not self._last:
            return
        reply = client.batch(self._last)
        if reply.status == 503:
            return
        for result in reply.json["results"]:
            assert result["status"] == "duplicate", result
            assert result["position"] == self.acknowledged[result["id"]], result
            self.repeated += 1


class Load:
    """Writers against a database whose servers are killed again and again. careless: they re-send nothing."""

    def __init__(self, database: Path, *, careless: bool = False) -> None:
        self.database, self.random = database, Random(20261123)
        self._answers, self._changed = 0, threading.Condition()
        self.writers = [Writer(number, self._told, careless=careless) for number in range(WRITERS)]

    def _told(self) -> None:
        with self._changed:
            self._answers += 1
            self._changed.notify_all()

    def wait_for(self, answers: int) -> None:
        """Until so many more requests were acknowledged."""
        with self._changed:
            wanted = self._answers + answers
            assert self._changed.wait_for(lambda: self._answers >= wanted, timeout=120), self.failures()

    def failures(self) -> list[BaseException]:
        return [writer.failed for writer in self.writers if writer.failed is not None]

    def start(self) -> Process:
        process = Process(self.database, workers=2, all_up=False)
        for writer in self.writers:
            writer.process = process
        return process

    def run(self, kills: int) -> None:
        process = self.start()
        client = process.client()
        people = [cloudevent("person.enrolled", f"enrol {n}", f"p{n}", areas=["07202"]) for n in range(PEOPLE)]
        assert client.batch(people).json["accepted"] == PEOPLE
        for writer in self.writers:
            writer.start()
        for kill in range(kills):
            self.wait_for(self.random.randint(3, 40))
            if kill % 3 == 1:
                self.kill_a_worker(process)
                continue
            process.kill()
            process = self.start()
        self.wait_for(20)
        for writer in self.writers:
            writer.ending.set()
        for writer in self.writers:
            writer.join(60)
        assert process.stop() == 0
        assert not self.failures()

    def kill_a_worker(self, process: Process) -> None:
        """One of the two; the parent starts another, which answers."""
        process.wait_for_workers(2)
        killed = self.random.choice(sorted(process.workers()))
        os.kill(killed, signal.SIGKILL)
        while killed in process.workers():
            process.popen.poll()
            assert process.popen.returncode is None, process.said()
        process.wait_for_workers(2)


def rows(hub: Hub) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every view."""
    with hub.log.entries.snapshot() as (connection, _):
        return {table.name: sorted(map(tuple, connection.execute(select(table))), key=repr) for table in TABLES}


def lost(database: Path, promised: Mapping[str, int | None]) -> list[str]:
    """What was promised and is not there, once, where it was promised; None: anywhere."""
    hub = Hub.open(f"sqlite:///{database}", SetClock(DAWN))
    try:
        with hub.log.entries.snapshot() as (connection, end):
            entries = [entry for entry in hub.log.scan(connection) if isinstance(entry, Entry)]
        assert [entry.position for entry in entries] == list(range(1, end.position + 1))
        times = Counter(entry.event.id for entry in entries)
        where = {entry.event.id: entry.position for entry in entries}
        return [name for name, position in promised.items() if times[name] != 1 or position not in (None, where[name])]
    finally:
        hub.close()


def test_what_was_acknowledged_is_there_once_however_often_servers_are_killed(tmp_path: Path) -> None:
    load = Load(tmp_path / "hub.sqlite3")
    load.run(KILLS)

    promised = {name: at for writer in load.writers for name, at in writer.acknowledged.items()}
    assert len(promised) > 100
    assert sum(writer.repeated for writer in load.writers) > 0
    assert lost(load.database, promised) == []
    hub = Hub.open(f"sqlite:///{load.database}", SetClock(DAWN))
    try:
        hub.audit.verify()
        found = rows(hub)
        hub.views.rebuild()
        assert rows(hub) == found
    finally:
        hub.close()
    assert len(found["fact"]) > 100


def test_the_same_check_finds_what_is_lost(tmp_path: Path) -> None:
    """The control: under the same load, who takes `sent` for `acknowledged` and re-sends nothing is found out."""
    load = Load(tmp_path / "hub.sqlite3", careless=True)
    load.run(2)

    promised = {name: at for writer in load.writers for name, at in writer.acknowledged.items()}
    assert lost(load.database, promised) == []
    taken_for_granted = {name: promised.get(name) for writer in load.writers for name in writer.sent}
    assert lost(load.database, taken_for_granted) != []
