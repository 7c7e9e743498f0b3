"""`hub ingest-kafka` as processes against a real broker, killed, together, and with the broker away.

Long form: HUB_TEST_KILLS=50.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import brokers
from brokers import Broker
from hub.cli.opening import Opening
from hub.events import Entry
from hub.scenario import flat_event
from test_command_metrics import asked, free_port
from topics import STRUCTURED, Door, answer

KILLS = int(os.environ.get("HUB_TEST_KILLS", "8"))
PEOPLE = 20
PATIENCE_S = 120
COMMAND = "from hub.cli import main; main()"


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    brokers.needed()
    found = Broker().start()
    yield found
    found.close()


@pytest.fixture
def door(broker: Broker) -> Door:
    return Door(broker, f"i{uuid.uuid4().hex[:8]}.")


class Taking:
    """A real `hub ingest-kafka`."""

    def __init__(self, url: str, settings: Path, *options: str) -> None:
        env = {**os.environ, "HUB_DATABASE_URL": url, "HUB_KAFKA": str(settings)}
        command = [sys.executable, "-c", COMMAND, "ingest-kafka", "--json", *options]
        self.popen = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.said.append(line)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        status = self.popen.wait(60)
        self._reader.join()
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        return status


def wait_for(what: str, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Stood:
    """A hub on the machine's clock, beside which processes take events in."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'hub.sqlite3'}"
        self.hub = Opening(self.url)()
        self.hub.init()
        said = [{"person": f"p{n}", "areas": ["07202"]} for n in range(PEOPLE)]
        self.hub.intake.take([flat_event("person.enrolled", one, f"e-{one['person']}") for one in said])
        self.begun = self.position

    @property
    def position(self) -> int:
        return self.hub.log.entries.max_notification_id() or 0

    def ids(self) -> list[str]:
        with self.hub.log.entries.snapshot() as (connection, _):
            rows = self.hub.log.scan(connection, after=self.begun)
            return [entry.event.id for entry in rows if isinstance(entry, Entry)]


@pytest.fixture
def stood(tmp_path: Path) -> Iterator[Stood]:
    found = Stood(tmp_path)
    yield found
    found.hub.close()


def test_killed_at_random_nothing_is_lost_or_doubled(stood: Stood, door: Door) -> None:
    some = random.Random(3)
    number, bad = 0, 0
    for _ in range(KILLS):
        taking = Taking(stood.url, door.settings)
        at = stood.position
        for _ in range(600):
            person = f"p{number % PEOPLE}"
            door.event(answer(f"s{number}", person), person.encode())
            number += 1
            if number % 100 == 0:
                door.send(b"{", STRUCTURED, f"bad{bad}".encode())
                bad += 1
        door.flush()
        wait_for("it takes", lambda at=at: stood.position > at)  # type: ignore[misc]
        time.sleep(some.uniform(0, 0.3))
        taking.end(signal.SIGKILL)
    taking = Taking(stood.url, door.settings)
    wait_for("all is taken", lambda: stood.position >= stood.begun + number)
    wait_for("all is refused", lambda: len({m.key() for m in door.refused()}) == bad)
    assert taking.end() == 0
    ids = stood.ids()
    assert len(ids) == number
    assert set(ids) == {f"s{n}" for n in range(number)}
    for person in range(PEOPLE):
        of_them = [number for number in map(int, (name[1:] for name in ids)) if number % PEOPLE == person]
        assert of_them == sorted(of_them), "what shares a key stays in its order"


def test_two_in_one_group_share_what_comes(stood: Stood, door: Door) -> None:
    both = [Taking(stood.url, door.settings) for _ in range(2)]
    number = 0

    def write(count: int) -> None:
        nonlocal number
        for _ in range(count):
            door.event(answer(f"s{number}", f"p{number % PEOPLE}"), str(number).encode(), partition=number % 4)
            number += 1
        door.flush()

    deadline = time.monotonic() + PATIENCE_S
    while not all(any('"accepted"' in line for line in taking.said) for taking in both):
        assert time.monotonic() < deadline, "one of them takes nothing"
        write(100)
        time.sleep(0.3)
    both[0].end(signal.SIGKILL)
    write(400)
    wait_for("all is taken", lambda: stood.position >= stood.begun + number)
    assert both[1].end() == 0
    ids = stood.ids()
    assert len(ids) == len(set(ids)) == number


def test_figures_of_what_comes(stood: Stood, door: Door) -> None:
    stood.hub.intake.take([flat_event("person.enrolled", {"person": "hanako-9", "areas": ["07202"]}, "e-hanako")])
    for number in range(30):
        door.event(answer(f"s{number}", "hanako-9"), partition=number % 4)
    door.send(b"{", STRUCTURED)
    door.flush()
    port = free_port()
    taking = Taking(stood.url, door.settings, "--metrics-port", str(port))
    wait_for("it takes", lambda: len(stood.ids()) > 30)
    figures: dict[str, float] = {}

    def counted(status: str) -> float:
        figures.update(asked(port))
        return figures[f'hub_ingest_events_total{{status="{status}"}}']

    wait_for("what is accepted is counted", lambda: counted("accepted") == 30)
    wait_for("what is refused is counted", lambda: counted("refused") == 1)
    assert (figures["hub_ingest_shares"], figures["hub_ingest_failures_total"]) == (4, 0)
    wait_for("nothing is left", lambda: asked(port)["hub_ingest_lag_records"] == 0)
    assert not any("hanako" in name for name in figures)
    assert taking.end() == 0


def last(taking: Taking) -> dict[str, Any]:
    """What it said last; it says something of each part that it took."""
    wait_for("it says something", lambda: bool(taking.said))
    said: dict[str, Any] = json.loads(taking.said[-1])
    return said


def test_the_broker_away_for_a_while(stood: Stood, door: Door) -> None:
    taking = Taking(stood.url, door.settings)
    door.event(answer("before", "p1"))
    door.flush()
    wait_for("it takes", lambda: stood.position == stood.begun + 1)
    (door.broker.stop if door.broker.lasting else door.broker.pause)()
    wait_for("it says so", lambda: "the broker" in (last(taking)["error"] or ""))
    (door.broker.start if door.broker.lasting else door.broker.resume)()
    wait_for("it says that it is back", lambda: last(taking)["error"] is None)
    door.event(answer("after", "p1"))
    door.flush()
    wait_for("it takes again", lambda: stood.position == stood.begun + 2)
    assert taking.end() == 0
    assert stood.ids() == ["before", "after"]


def test_without_sources_nothing_is_taken(stood: Stood, broker: Broker) -> None:
    env = {**os.environ, "HUB_DATABASE_URL": stood.url, "HUB_KAFKA": str(broker.settings())}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "ingest-kafka"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "[ingest.sources]" in done.stderr
