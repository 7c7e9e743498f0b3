"""`hub serve`: where it listens, what it says, how it stops, and what it lets in when there is too much."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from doors import PATIENCE_S, Client, Process, Served, cloudevent, served
from hub.errors import Busy
from hub.events import Entry, Event
from hub.hub import Hub
from hub.intake import Result
from hub.log.clock import SetClock
from hub.web.inlet import Inlet


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    started = Process(tmp_path / "hub.sqlite3", workers=2)
    yield started
    started.kill()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.10", "hub.example"])
def test_it_refuses_an_address_that_others_can_reach(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, host: str
) -> None:
    done = command("serve", "--host", host, "--port", "0", "--database", f"sqlite:///{tmp_path}/hub.sqlite3")
    assert done.returncode == 2
    assert "without an identity file the hub listens on loopback alone: set HUB_IDENTITY" in done.stderr


def test_a_port_that_is_taken_is_misuse(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = command("serve", "--port", port, "--database", f"sqlite:///{tmp_path}/hub.sqlite3")
    assert done.returncode == 2
    assert f"port {port} cannot be listened on" in done.stderr


def test_it_says_where_it_listens_and_whom_it_answers(process: Process) -> None:
    assert f"http://127.0.0.1:{process.port}/v1" in process.announced
    assert "/openapi.json" in process.announced
    assert "For trying out, on this machine alone: tokens come from `hub token --as citizen:ID`." in process.announced
    assert process.client().get("/readyz").json == {"status": "ready"}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(tmp_path: Path, workers: int, number: signal.Signals) -> None:
    process = Process(tmp_path / "hub.sqlite3", workers=workers)
    try:
        assert process.client().get("/livez").status == 200
        assert (process.stop(number), process.said().count('"stopped"')) == (0, workers)
        assert "Abort" not in process.said()
    finally:
        process.kill()


def test_a_request_from_another_site_is_refused(process: Process) -> None:
    client = process.client()
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
    ):
        reply = client.get("/v1/kinds", headers=headers)
        assert (reply.status, reply.json["type"]) == (403, "urn:saigai-hub:problem:foreign-origin")
    assert client.get("/v1/kinds", headers={"Origin": "http://localhost:8000"}).status == 200


def test_two_workers_see_at_once_what_the_other_wrote(process: Process) -> None:
    for number in range(12):
        writer, reader = process.client(), process.client()
        reply = writer.call("PUT", f"/v1/recipients/r{number}", {"class": "city", "areas": ["*"], "purposes": ["p"]})
        token = {"Hub-At-Least": reply.headers["hub-position"]}
        assert reader.get("/v1/places", headers=token, kind="shelter.reported").status == 200
        assert reader.get(f"/v1/recipients/r{number}").status == 200
    wrong = process.client().get("/v1/places", headers={"Hub-At-Least": "00"}, kind="shelter.reported")
    assert (wrong.status, wrong.json["errors"][0]["path"]) == (400, "Hub-At-Least")


def test_the_figures_of_all_workers_are_in_one_text(process: Process) -> None:
    for number in range(8):
        client = process.client()
        client.event(cloudevent("no.such_kind", f"e{number}"))
        client.get("/v1/views/nobody", purpose="rescue")
        client.call("PUT", f"/v1/persons/p{number}", {"areas": []})
    wanted = [
        "hub_queue_events", "hub_queue_reads", "hub_commit_events_count", "hub_commit_jobs_sum", "hub_log_position",
        "hub_log_age", "hub_clock_trusted", "hub_refusals_total", "hub_decisions_total", "hub_events_total",
        "hub_request_duration_milliseconds_count", "hub_streams", "process_resident_memory_bytes",
    ]  # fmt: skip
    text, workers, deadline = "", set[str](), time.monotonic() + PATIENCE_S
    while len(workers) != 2 or not all(name in text for name in wanted):  # left every two seconds, and when asked
        assert time.monotonic() < deadline, (workers, [name for name in wanted if name not in text])
        client = Client(process.port, tokens=process.tokens)
        text = client.get("/metrics").body.decode()
        client.close()
        workers = {line.split('worker="')[1].split('"')[0] for line in text.splitlines() if 'worker="' in line}
    assert 'rule="R8"' in text
    assert 'route="/v1/views/{recipient}"' in text


def test_a_clock_that_is_not_trusted_makes_it_unready_but_alive(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    database = tmp_path / "hub.sqlite3"
    hub = Hub.open(f"sqlite:///{database}", SetClock(datetime.now(UTC) - timedelta(days=9)))
    hub.init()
    hub.close()
    process = Process(database)
    client = process.client()
    try:
        assert client.get("/livez").json == {"status": "live"}
        unready = client.get("/readyz")
        assert unready.status == 503
        assert "hub clock accept" in unready.json["detail"]
        refused = client.call("PUT", "/v1/persons/hanako", {"areas": []})
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert command("clock", "accept", "--database", f"sqlite:///{database}").returncode == 0
        assert client.get("/readyz").status == 200
        assert client.call("PUT", "/v1/persons/hanako", {"areas": []}).status == 201
    finally:
        process.kill()


def test_an_idle_connection_does_not_hold_up_the_stop(process: Process) -> None:
    idle = [Client(process.port, tokens=process.tokens) for _ in range(6)]
    for client in idle:
        assert client.get("/livez").status == 200
    assert process.stop() == 0
    assert "uvicorn" not in process.said(), "it waited for who asks nothing, and cut them off"
    for client in idle:
        client.close()


def test_it_stops_without_losing_what_it_took_in(tmp_path: Path) -> None:
    """Whoever was answered 201 is in the log; of whoever was answered 503, or was cut off, nothing is.

    So a request that was begun is answered, or its connection is closed before any event of it is appended.
    """
    database = tmp_path / "hub.sqlite3"
    process = Process(database, workers=2)
    first = process.client()
    assert first.call("PUT", "/v1/persons/hanako", {"areas": []}).status == 201
    idle = process.client()
    assert idle.get("/livez").status == 200
    answered: list[str] = []
    unanswered: list[str] = []
    begun = threading.Barrier(9)

    def write(number: int) -> None:
        client = Client(process.port, tokens=process.tokens)
        begun.wait()
        for count in range(10_000):
            name = f"w{number}-{count}"
            try:
                reply = client.event(cloudevent("safety.answered", name, "hanako", status="safe"))
            except Exception:
                unanswered.append(name)
                break
            if reply.status != 201:
                assert reply.status == 503
                unanswered.append(name)
                break
            answered.append(name)
        client.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    begun.wait()
    while len(answered) < 100:
        assert any(thread.is_alive() for thread in threads)
    assert process.stop() == 0
    for thread in threads:
        thread.join()

    hub = Hub.open(f"sqlite:///{database}", SetClock(datetime.now(UTC)))
    with hub.log.entries.snapshot() as (connection, _):
        there = {entry.event.id for entry in hub.log.scan(connection) if isinstance(entry, Entry)}
    hub.close()
    assert set(answered) <= there
    assert len(unanswered) == 8
    assert set(unanswered) & there == set()


class Held:
    """An intake that takes nothing until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.order: list[str] = []

    def take(self, events: Any) -> list[Result]:
        self.let_go.wait(60)
        self.order += [event.id for event in events]
        return [Result(event=event, status="accepted", position=1) for event in events]


def test_when_there_is_too_much_the_urgent_is_let_in_and_taken_first() -> None:
    held = Held()
    inlet = Inlet(held.take, capacity=10)
    inlet.start()

    def said(kind: str, count: int, name: str) -> list[Event]:
        return [Event(source="m", id=f"{name}{number}", kind=kind) for number in range(count)]

    async def crowd() -> None:
        first = []
        for number in range(2):  # one for each of the inlet's threads
            first.append(asyncio.create_task(inlet.take(said("location.reported", 1, f"first{number}-"))))
            while inlet.taking <= number:
                await asyncio.sleep(0)
        pings = asyncio.create_task(inlet.take(said("location.reported", 3, "ping")))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await inlet.take(said("location.reported", 1, "one too many"))
        facts = asyncio.create_task(inlet.take(said("care.condition_updated", 3, "care")))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await inlet.take(said("care.condition_updated", 1, "one too many"))
        urgent = [
            asyncio.create_task(inlet.take(said(kind, 1, kind))) for kind in ("safety.answered", "consent.revoked")
        ]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await inlet.take(said("safety.answered", 1, "one too many"))
        with pytest.raises(Busy):
            inlet.check()
        held.let_go.set()
        await asyncio.gather(*first, pings, facts, *urgent)

    asyncio.run(crowd())
    inlet.stop()
    later = [name for name in held.order if not name.startswith("first")]
    assert set(later[:2]) == {"safety.answered0", "consent.revoked0"}
    assert [name[:4] for name in later[2:]] == ["care"] * 3 + ["ping"] * 3


def test_a_full_queue_is_told_with_retry_after(town: Town) -> None:
    server: Served = served()
    with server.over(town.hub) as client:
        inlet: Any = server.app.state.door.inlet
        inlet._capacity = 0
        reply = client.event(cloudevent("safety.answered", "s", "hanako", status="safe"))
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.json["type"] == "urn:saigai-hub:problem:busy"


def test_log_lines_are_json_with_the_route_instead_of_the_path(process: Process) -> None:
    process.client().get("/v1/persons/hanako/grants")
    process.client().get("/v1/nothing/here")
    process.stop()
    lines = [json.loads(line) for line in process.said().splitlines()]
    assert {line["route"] for line in lines if line["event"] == "request"} == {"/v1/persons/{person}/grants", "none"}
    assert "hanako" not in process.said()


def test_log_lines_of_two_workers_do_not_run_together(process: Process) -> None:
    def ask() -> None:
        client = Client(process.port, tokens=process.tokens)
        for _ in range(150):
            client.get("/v1/nothing/here")
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.stop()
    lines = [json.loads(line) for line in process.said().splitlines()]
    asked = [line for line in lines if line["event"] == "request" and line["route"] == "none"]
    assert len(asked) == 150 * 12
    assert len({line["worker"] for line in asked}) == 2
