"""PostgreSQL stopped as if the power went, under load: nothing that was acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

import databases
from doors import served
from hub.errors import Busy, HubError
from hub.hub import Hub
from hub.log import recorder
from hub.log.clock import WatchedClock
from hub.scenario import flat_event
from postgres import PostgresServer

STOPS = int(os.environ.get("HUB_TEST_KILLS", "3"))
HUBS = 2
WRITERS = 4


@pytest.fixture
def server() -> object:
    made = PostgresServer(durable=True).start()
    yield made
    made.close()


def opened(server: PostgresServer, folder: Path, *, durable: bool = True) -> Hub:
    clock = WatchedClock(lambda: datetime.now(UTC), time.monotonic)
    url = server.url.update_query_dict({"schema": "hub"}).render_as_string(hide_password=False)
    return Hub.open(url, clock, folder=folder, durable=durable)


def acknowledged(server: PostgresServer, hubs: list[Hub], stop: Callable[[], None]) -> tuple[set[str], int]:
    """The ids of events that were acknowledged while the server was stopped again and again; how often it was away."""
    promised: set[str] = set()
    away = 0
    done, lock = threading.Event(), threading.Lock()

    def write(number: int) -> None:
        nonlocal away
        hub, count = hubs[number % HUBS], 0
        while not done.is_set():
            name = f"w{number}-{count}"
            place = {"person": "hanako", "lat_deg": 37.5, "lon_deg": 139.9, "accuracy_m": 5}
            try:
                [result] = hub.intake.take([flat_event("location.reported", place, name)])
            except Busy:  # a source sends again what was not acknowledged
                away += 1
                time.sleep(0.05)
                continue
            assert result.status in ("accepted", "duplicate"), result
            with lock:
                promised.add(name)
            count += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(STOPS):
            before, deadline = len(promised), time.monotonic() + 60
            while len(promised) < before + 100:
                assert time.monotonic() < deadline, "nothing is acknowledged any more"
                time.sleep(0.01)
            stop()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return promised, away


def kept(server: PostgresServer, folder: Path) -> list[str]:
    hub = opened(server, folder)
    with hub.log.entries.snapshot() as (connection, _):
        positions = connection.scalars(select(recorder.log.c.position)).all()
        entries = hub.log.read(connection, positions).values()
        found = [e.event.id for e in entries if e.event.kind == "location.reported"]  # type: ignore[union-attr]
    hub.audit.verify()
    hub.close()
    return found


def begin(server: PostgresServer, folder: Path, *, durable: bool) -> list[Hub]:
    databases.prepare(
        databases.place(server.url.update_query_dict({"schema": "hub"}).render_as_string(hide_password=False))
    )
    hubs = [opened(server, folder, durable=durable) for _ in range(HUBS)]
    hubs[0].init()
    hubs[0].intake.take([flat_event("person.enrolled", {"person": "hanako", "areas": ["07202"]}, "enrolled")])
    return hubs


def test_what_was_acknowledged_outlives_a_server_that_is_stopped_hard(server: PostgresServer, tmp_path: Path) -> None:
    hubs = begin(server, tmp_path, durable=True)

    def stop() -> None:
        server.stop(signal.SIGQUIT)
        server.start()

    promised, away = acknowledged(server, hubs, stop)
    for hub in hubs:
        hub.close()
    found = kept(server, tmp_path)
    assert promised <= set(found)
    assert len(found) == len(set(found))
    assert away > 0, "no writer met the server while it was away"


def test_without_waiting_for_the_disk_the_same_would_lose_some(server: PostgresServer, tmp_path: Path) -> None:
    """The control: were nothing lost here, the test above would prove nothing."""
    lost = False
    hubs = begin(server, tmp_path, durable=False)

    def stop() -> None:
        server.stop(signal.SIGQUIT)
        server.start()

    promised: set[str] = set()
    with suppress(HubError):  # what was lost may be told as well: positions that a process still knows are gone
        promised, _ = acknowledged(server, hubs, stop)
    for hub in hubs:
        hub.close()
    with suppress(HubError):
        lost = not promised <= set(kept(server, tmp_path))
    assert lost


def test_a_server_that_is_away_is_no_matter_of_the_clock(server: PostgresServer, tmp_path: Path) -> None:
    hubs = begin(server, tmp_path, durable=True)
    with served().over(hubs[0]) as client:
        assert "hub_clock_trusted{" in client.get("/metrics", as_="operator").body.decode()
        server.stop(signal.SIGQUIT)
        assert "hub_clock_trusted{" not in client.get("/metrics", as_="operator").body.decode()
        unready = client.get("/readyz")
        assert (unready.status, "does not answer" in unready.json["detail"]) == (503, True)
        server.start()
    for hub in hubs:
        hub.close()
