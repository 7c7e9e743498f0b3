"""Changes and streams over HTTP, from real servers: removals and additions arrive, whoever appended."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from doors import Client, Process, cloudevent, confirm

WAIT_S = 120
VIEW = "/v1/views/aizu-city"


class Stream:
    """An open stream: messages as they come, each within `WAIT_S`."""

    def __init__(self, process: Process, last: str | None = None, small: bool = False) -> None:
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(("127.0.0.1", process.port))
        head = f"GET {VIEW}/stream?purpose=rescue HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Authorization: Bearer {process.tokens.of('service:aizu-city')}\r\n"
        again = f"Last-Event-ID: {last}\r\n" if last else ""
        self.socket.sendall(f"{head}{again}\r\n".encode())
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        while self._file.readline().strip():
            pass
        self._left = b""
        self.last = ""

    def lines(self) -> Iterator[bytes]:
        """The lines of the body, out of its chunks."""
        while size := int(self._file.readline().strip() or b"0", 16):
            self._left += self._file.read(size)
            self._file.readline()
            while b"\n" in self._left:
                line, _, self._left = self._left.partition(b"\n")
                yield line

    def next(self) -> dict[str, Any]:
        """The next message."""
        for line in self.lines():
            if line.startswith(b"id: "):
                self.last = line[4:].decode()
            if line.startswith(b"data: "):
                said: dict[str, Any] = json.loads(line[6:])
                assert said["next"] == self.last
                return said
        raise EOFError

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Process]:
    """Two workers over one database; aizu-city is registered, hanako has granted it everything."""
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text("import hub.web.streams as s\ns._KEEP_ALIVE_S = 3600.0\n")
    path = (
        f"{tmp_path / 'patch'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"  # what is told was woken, not waited for
    )
    process = Process(tmp_path / "hub.sqlite3", workers=2, environment={"PYTHONPATH": path})
    client = process.client()
    recipient = {"class": "municipality", "areas": ["07202"], "purposes": ["rescue"]}
    assert client.call("PUT", "/v1/recipients/aizu-city", recipient).status == 201
    enrol(client, "hanako")
    yield process
    process.kill()


def enrol(client: Client, person: str, **terms: Any) -> None:
    assert client.call("PUT", f"/v1/persons/{person}", {"areas": ["07202"]}).status == 201
    grant(client, person, **terms)


def grant(client: Client, person: str, **terms: Any) -> str:
    whole = {
        "to": {"recipient": "aizu-city"},
        "kinds": ["safety.answered", "location.reported"],
        "purposes": ["rescue"],
        "modes": ["normal", "emergency"],
        "data": "all",
    }
    reply = client.call("POST", f"/v1/persons/{person}/grants", {**whole, **terms})
    assert reply.status == 201, reply
    return str(reply.json["grant"])


def answer(client: Client, id: str, person: str, status: str = "safe", **more: Any) -> None:
    assert client.event(cloudevent("safety.answered", id, person, status=status, **more)).status == 201


def people(said: dict[str, Any]) -> list[str]:
    return [entry["person"] for entry in said["persons"]]


def test_a_stream_tells_what_happens_and_takes_back_what_is_withdrawn(served: Process) -> None:
    client, stream = served.client(), Stream(served)
    assert people(stream.next()) == []

    answer(client, "s1", "hanako")
    told = stream.next()
    assert people(told) == ["hanako"]
    ref = told["persons"][0]["ref"]

    assert client.call("DELETE", "/v1/persons/hanako/grants/all").status == 200
    assert stream.next()["removed"] == [ref]

    grant(client, "hanako")
    assert people(stream.next()) == ["hanako"]

    assert client.call("DELETE", "/v1/persons/hanako").status == 200
    assert stream.next()["removed"] == [ref]
    stream.close()


def test_ends_in_time_reach_a_stream_by_themselves(served: Process) -> None:
    client, stream = served.client(), Stream(served)
    refs: dict[str, str] = {}
    removed: list[str] = []
    for lasts_s in (4, 30, 240):  # on a busy machine all may be over before the stream looks: then once more, longer
        taro, jiro, last = f"taro{lasts_s}", f"jiro{lasts_s}", f"last{lasts_s}"
        enrol(client, last)
        enrol(client, taro, modes=["emergency"])
        until = (datetime.now(UTC) + timedelta(seconds=lasts_s)).isoformat()
        enrol(client, jiro, valid_until=until)
        proposed = {"emergency": f"e{lasts_s}", "areas": ["07202"], "until": until, "hazard": "flood"}
        client.call("POST", "/v1/emergencies", proposed)
        confirm(client, f"e{lasts_s}")
        for person in (taro, jiro, last):
            answer(client, f"of {person}", person)
        while last not in refs:
            said = stream.next()
            refs |= {entry["person"]: entry["ref"] for entry in said["persons"]}
            removed += said["removed"]
        if {taro, jiro} <= refs.keys():
            break
    assert {taro, jiro} <= refs.keys()
    while not {refs[taro], refs[jiro]} <= set(removed):
        removed += stream.next()["removed"]
    assert refs[last] not in removed
    stream.close()


def test_a_stream_goes_on_where_it_was_left_at_the_consent_of_now(served: Process) -> None:
    client, stream = served.client(), Stream(served)
    enrol(client, "taro")
    stream.next()
    answer(client, "s1", "hanako")
    answer(client, "t1", "taro")
    refs: dict[str, str] = {}
    while len(refs) < 2:
        refs |= {entry["person"]: entry["ref"] for entry in stream.next()["persons"]}
    last = stream.last
    stream.close()

    assert client.call("DELETE", "/v1/persons/hanako/grants/all").status == 200
    answer(client, "t2", "taro", "injured")

    again = Stream(served, last)
    said = again.next()
    assert (people(said), said["removed"]) == (["taro"], [refs["hanako"]])
    again.close()


def test_a_slow_reader_holds_nobody_up(served: Process) -> None:
    client = served.client()
    slow, quick = Stream(served, small=True), Stream(served)
    quick.next()
    note = "x" * 60_000
    for number in range(40):  # far more than sockets and server hold for a reader who does not read
        answer(client, f"s{number}", "hanako", note=f"{number} {note}")
    last = {}
    while not last.get("note", "").startswith("39 "):
        for entry in quick.next()["persons"]:
            last = entry["items"][0]["data"]
    answer(client, "end", "hanako", "injured")
    while last["status"] != "injured":
        last = quick.next()["persons"][0]["items"][0]["data"]

    messages = 0
    while not (said := slow.next())["persons"] or said["persons"][0]["items"][0]["data"]["status"] != "injured":
        messages += 1
    assert messages < 41, "it was told each step, instead of what holds when it comes back"
    slow.close()
    quick.close()


def test_changes_are_asked_for_with_the_last_next(served: Process) -> None:
    client = served.client()
    answer(client, "s1", "hanako")
    first = client.get(f"{VIEW}/changes", purpose="rescue")
    assert (first.status, people(first.json), first.json["more"]) == (200, ["hanako"], False)
    assert {"hub-disclosure", "hub-position"} <= first.headers.keys()

    still = client.get(f"{VIEW}/changes", purpose="rescue", since=first.json["next"])
    assert (still.json["persons"], still.json["removed"]) == ([], [])

    client.call("DELETE", "/v1/persons/hanako/grants/all")
    other = served.client()
    later = other.get(f"{VIEW}/changes", purpose="rescue", since=still.json["next"])
    assert later.json["removed"] == [first.json["persons"][0]["ref"]]

    wrong = client.get(f"{VIEW}/changes", purpose="rescue", since=first.json["next"], history=True)
    assert (wrong.status, wrong.json["errors"][0]["path"]) == (422, "since")


def test_a_server_that_stops_ends_its_streams(served: Process) -> None:
    stream = Stream(served)
    stream.next()
    assert served.stop() == 0
    with pytest.raises(EOFError):
        stream.next()
    stream.close()
