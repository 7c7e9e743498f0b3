"""Store and forward between real processes, which are killed: nothing is lost, nothing doubled.

The long form: HUB_TEST_FORWARDED=1000000 python -m pytest tests/servers/test_forwarding.py -k away
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from doors import Client, Process, cloudevent
from hub.forwarding.outbox import Outbox

KEY = "a-key-of-this-machine"
SOURCE = "myhazard"
COUNT = int(os.environ.get("HUB_TEST_FORWARDED", "5000"))


def ping(id: str, person: str = "hanako") -> dict[str, Any]:
    place = {"lat_deg": 37.5, "lon_deg": 139.9, "accuracy_m": 5}
    return cloudevent("location.reported", id, person, source=SOURCE, **place)


class Forwarder:
    """A real `hub forward run`, killed and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.outbox, self.folder, self.port = folder / "outbox.sqlite3", folder, port
        (folder / "key").write_text(KEY)
        self.popen: Any = None
        self.client: Any = None

    def start(self) -> Client:
        command = [sys.executable, "-c", "from hub.cli import main; main()", "forward", "run"]
        options = ["--to", f"http://127.0.0.1:{self.port}", "--token-file", self.folder / "token"]
        options += ["--outbox", self.outbox, "--listen", "127.0.0.1:0", "--key-file", self.folder / "key"]
        self.popen = subprocess.Popen([*command, *map(str, options)], stdout=subprocess.PIPE, text=True)
        line = self.popen.stdout.readline()
        self.client = Client(int(line.split(":")[2].split("/")[0]))
        return self.client

    def end(self, number: int = signal.SIGKILL) -> int:
        self.client.close()
        self.popen.send_signal(number)
        status = self.popen.wait(60)
        self.popen.stdout.close()
        return int(status)


def send(client: Client, events: list[dict[str, Any]]) -> Any:
    body = "\n".join(map(json.dumps, events)).encode()
    headers = {"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {KEY}"}
    return client.call("POST", "/v1/events", body, headers=headers, as_="")


def test_hub_away_forwarder_killed_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """Events while the hub is away; forwarder and hub are killed in between, again and again."""
    some = random.Random(5)
    database = tmp_path / "hub.sqlite3"
    process = Process(database)
    port = process.port
    (tmp_path / "token").write_text(process.tokens.of(f"source:{SOURCE}"))
    people = [f"p{n}" for n in range(20)]
    first = process.client().batch([cloudevent("person.enrolled", f"e{p}", p, areas=["07202"]) for p in people])
    assert first.json["accepted"] == len(people)
    process.kill()

    forwarder = Forwarder(tmp_path, port)
    client = forwarder.start()
    acknowledged: set[str] = set()
    number = 0
    while number < COUNT:
        events = []
        for _ in range(min(500, COUNT - number)):
            kind = some.choice(("ping", "ping", "safety"))
            person = some.choice(people)
            made = ping(f"n{number}", person) if kind == "ping" else cloudevent(
                "safety.answered", f"n{number}", person, source=SOURCE, status="safe"
            )  # fmt: skip
            events.append(made)
            number += 1
        with suppress(OSError):
            reply = send(client, events)
            assert reply.status == 202, reply
            acknowledged |= {row["id"] for row in reply.json["results"] if row["status"] in ("kept", "duplicate")}
        if number in (1_000, COUNT // 2):
            forwarder.end()
            client = forwarder.start()
            reply = send(client, events)  # the source sends again what was not acknowledged
            acknowledged |= {row["id"] for row in reply.json["results"]}
    assert len(acknowledged) == COUNT

    for _ in range(2):  # the hub comes back, and goes
        process = Process(database, port=port)
        time.sleep(0.3)  # some of it gets through, or none: either will do
        process.kill()
        forwarder.end()
        client = forwarder.start()
    process = Process(database, port=port)
    deadline = time.monotonic() + 600
    box = Outbox(forwarder.outbox)
    while box.state().waiting:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert box.state().refused_count == 0
    box.close()
    assert forwarder.end(signal.SIGTERM) == 0
    ids: list[str] = []
    asker, after = process.client(), 0
    rows = [{}] * 1000
    while len(rows) == 1000:  # each look is an event itself, so that there is always one more
        rows = asker.get("/v1/audit/events", after=after, limit=1000, as_="auditor").json["events"]
        ids += [row["id"] for row in rows if row["source"] == SOURCE]
        after = rows[-1]["position"]
    process.stop()
    assert sorted(ids) == sorted(acknowledged)


def test_the_door_asks_for_its_key_and_says_when_it_is_full(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    forwarder = Forwarder(tmp_path, 1)
    client = forwarder.start()
    body = json.dumps(ping("a")).encode()
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong-key-of-this-machine"}, 401),
        ({"Authorization": f"Bearer {KEY}", "Origin": "https://evil.example"}, 403),
        ({"Authorization": f"Bearer {KEY}"}, 202),
    ):
        reply = client.call(
            "POST", "/v1/events", body, headers={"Content-Type": "application/cloudevents+json", **headers}, as_=""
        )
        assert reply.status == status, reply
    assert reply.json == {"kept": 1, "duplicate": 0, "rejected": 0, "results": [{"id": "a", "status": "kept"}]}
    assert client.call("GET", "/livez", as_="").status == 200
    assert forwarder.end(signal.SIGTERM) == 0
