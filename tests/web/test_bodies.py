"""Bodies of every bad sort: a clear answer, no effect on the log, on others, or on memory."""

from __future__ import annotations

import gzip
import json
import os
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from doors import BATCH, STRUCTURED, Client, Process, Reply, cloudevent, served
from hub.scenario import SOURCE
from hub.web import bodies, protocol

SUITE = Path(os.environ.get("HUB_SHARED", Path(__file__).parents[3] / "shared")) / "data/9-robustness/json-test-suite"
PROBLEM = "application/problem+json"
ATTRIBUTES = {"ce-specversion": "1.0", "ce-type": "safety.answered", "ce-source": "m", "ce-subject": "hanako"}

DEEP = 100_000
BAD = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "overlong UTF-8": b'{"a": "\xc0\xaf"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "nested arrays": b"[" * DEEP + b"]" * DEEP,
    "nested objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "nested without end": b"[" * DEEP,
    "a number": b"1",
    "a text": b'"x"',
    "null": b"null",
    "NaN": b'{"data": NaN}',
    "Infinity": b"[-Infinity]",
    "a number of 10,000 digits": b'{"data": {"n": ' + b"9" * 10_000 + b"}}",
    "a number far out": b'{"data": {"n": 1e999999999999999999999}}',
    "a name twice": b'{"id": "a", "id": "b"}',
    "a lone surrogate": b'{"id": "\\ud800", "specversion": "1.0", "type": "safety.answered", "source": "m"}',
    "a lone surrogate as name": b'{"\\udfff": 1, "specversion": "1.0", "type": "safety.answered", "source": "m"}',
    "a control character": b'{"a": "\x00"}',
    "a trailing comma": b'{"a": 1,}',
    "two values": b"{}{}",
    "a comment": b"{} // x",
}


@pytest.fixture
def home(town: Town) -> Iterator[tuple[Town, Client]]:
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    with served().over(town.hub) as client:
        yield town, client


def end(town: Town) -> int:
    return town.hub.log.entries.max_notification_id() or 0


def everywhere(client: Client, body: bytes) -> dict[str, Reply]:
    """The same bytes as an event, a batch, a line, the data of a binary event, and the body of other routes."""

    def post(kind: str, body: bytes, path: str = "/v1/events", method: str = "POST", **headers: str) -> Reply:
        return client.call(method, path, body, headers={"Content-Type": kind, **headers})

    return {
        "structured": post(STRUCTURED, body),
        "batch": post(BATCH, body),
        "line": post("application/x-ndjson", body.replace(b"\n", b" ")),
        "binary": post("application/json", body, **ATTRIBUTES, **{"ce-id": f"b{len(body)}"}),
        "put": post("application/json", body, "/v1/persons/nobody", "PUT"),
        "grant": post("application/json", body, "/v1/persons/hanako/grants"),
        "webhook": post("application/xml", body, "/v1/connectors/jma"),
    }


def judged(replies: dict[str, Reply]) -> None:
    for where, reply in replies.items():
        assert reply.status < 500, (where, reply)
        if reply.status >= 400:
            assert reply.headers["content-type"] == PROBLEM, (where, reply)
            assert reply.json["errors"] or reply.json["detail"], (where, reply)
        elif where in ("batch", "line"):
            assert reply.json["accepted"] == 0, (where, reply)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_answered_and_changes_nothing(home: tuple[Town, Client], name: str) -> None:
    town, client = home
    before = end(town)
    replies = everywhere(client, BAD[name])
    judged(replies)
    assert all(replies[where].status >= 400 for where in ("structured", "put", "grant", "webhook")), replies
    assert end(town) == before
    assert client.event(cloudevent("safety.answered", "after", "hanako", status="safe")).status == 201


def test_a_name_that_is_said_twice_is_refused_though_either_would_do(home: tuple[Town, Client]) -> None:
    _, client = home
    event = json.dumps(cloudevent("safety.answered", "twice", "hanako", status="safe"))
    twice = event.replace('"status": "safe"', '"status": "safe", "status": "injured"').encode()
    reply = client.call("POST", "/v1/events", twice, headers={"Content-Type": STRUCTURED})
    assert (reply.status, reply.json["errors"][0]["reason"]) == (400, "says a name twice in one object")


def test_every_file_of_the_json_test_suite_is_answered_and_changes_nothing(home: tuple[Town, Client]) -> None:
    if not SUITE.is_dir():
        pytest.skip(f"no JSON test suite at {SUITE.parent.name}/{SUITE.name} beside the repository")
    town, client = home
    before, files = end(town), sorted(SUITE.glob("*.json"))
    assert len(files) > 100
    for path in files:
        replies = everywhere(client, path.read_bytes())
        judged(replies)
        if path.name.startswith("n_"):
            assert replies["structured"].status == replies["put"].status == 400, path.name
    assert end(town) == before
    assert client.event(cloudevent("safety.answered", "after", "hanako", status="safe")).status == 201


def test_one_bad_event_of_a_batch_is_refused_by_itself(home: tuple[Town, Client]) -> None:
    _, client = home
    good = [cloudevent("safety.answered", f"g{n}", "hanako", status="safe") for n in range(3)]
    bad = cloudevent("safety.answered", "bad", "hanako", status="hypertension")
    said = client.batch([good[0], bad, good[1], good[0], {"id": 5}, good[2]]).json
    assert (said["accepted"], said["duplicate"], said["rejected"]) == (3, 1, 2)
    assert [row["status"] for row in said["results"]] == [
        "accepted", "rejected", "accepted", "duplicate", "rejected", "accepted",
    ]  # fmt: skip
    error = said["results"][1]["error"]
    assert (error["path"], error["kind"]) == ("status", "safety.answered")
    assert "hypertension" not in json.dumps(said)
    items = client.get("/v1/quarantine").json["items"]
    assert {item["path"] for item in items} == {"status", "specversion"}


def test_an_id_that_is_used_again_with_other_content_is_refused(home: tuple[Town, Client]) -> None:
    town, client = home
    event = cloudevent("safety.answered", "once", "hanako", status="safe")
    assert client.event(event).status == 201
    assert client.event(event).status == 200
    before = end(town)
    for changed in (
        event | {"data": {"status": "injured"}},
        event | {"time": "2026-06-01T00:00:00Z"},
        event | {"exercise": True},
        event | {"type": "evacuation.changed", "data": {"status": "moving"}},
    ):
        reply = client.event(changed)
        assert (reply.status, reply.json["errors"][0]["path"]) == (422, "id")
    assert end(town) == before


def test_a_body_that_is_too_large_is_refused_before_it_is_read(home: tuple[Town, Client]) -> None:
    _, client = home
    event = cloudevent("safety.answered", "big", "hanako", status="safe", note="x" * (bodies.EVENT_BYTES + 1))
    assert client.event(event).status == 413
    assert client.call("PUT", "/v1/persons/x", {"areas": ["0" * bodies.EVENT_BYTES]}).status == 413
    many = [cloudevent("safety.answered", f"m{n}", "hanako", status="safe") for n in range(10_001)]
    assert client.batch(many).status == 413
    with raw(client, f"Content-Length: {10**12}\r\n") as (connection, answer):
        connection.sendall(b"{")
        assert answer() == 413
    with raw(client, f"Content-Length: {'9' * 5000}\r\n") as (_, answer):
        assert answer() in (400, 413)


def test_a_body_without_a_length_is_cut_off_at_the_limit(home: tuple[Town, Client]) -> None:
    _, client = home
    piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with raw(client, "Transfer-Encoding: chunked\r\n") as (connection, answer):
        try:
            for _ in range(bodies.DRAINED_BYTES // 65_536 + 2):
                connection.sendall(piece)
        except ConnectionError:
            pass  # it was told already
        assert answer() == 413


def test_a_body_that_does_not_come_is_not_waited_for(
    home: tuple[Town, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    town, client = home
    before = end(town)
    monkeypatch.setattr(bodies, "SLOWEST_S", 0.2)
    with raw(client, "Content-Length: 1000\r\n") as (connection, answer):
        connection.sendall(b'{"specversion"')
        assert answer() == 408
    assert end(town) == before
    assert client.get("/livez").status == 200


def head(client: Client, sent: bytes, more: bytes = b"") -> tuple[int, dict[str, Any]]:
    """What is answered to bytes that are no whole request."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
        connection.sendall(sent)
        try:
            for _ in range(40 if more else 0):
                connection.sendall(more)
        except ConnectionError:
            pass  # it was told already
        with connection.makefile("rb") as file:
            status = int(file.readline().split()[1])
            while file.readline().strip():
                pass
            return status, json.loads(file.read())


def test_a_head_that_is_too_large_too_slow_or_none_is_told_in_the_same_shape(
    home: tuple[Town, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = home
    status, problem = head(client, b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", b"x" * 2_048)
    assert (status, problem["type"]) == (431, "urn:saigai-hub:problem:head-too-large")
    status, problem = head(client, b"nonsense\r\n\r\n")
    assert (status, problem["type"]) == (400, "urn:saigai-hub:problem:not-read")
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    status, problem = head(client, b"GET /livez HTTP/1.1\r\nHost: ")
    assert (status, problem["type"]) == (408, "urn:saigai-hub:problem:too-slow")
    assert client.get("/livez").status == 200


def test_a_connection_that_is_cut_in_the_body_appends_nothing(home: tuple[Town, Client]) -> None:
    town, client = home
    before = end(town)
    event = json.dumps(cloudevent("safety.answered", "cut", "hanako", status="safe")).encode()
    for cut in (1, len(event) // 2, len(event) - 1):
        with raw(client, f"Content-Length: {len(event)}\r\n") as (connection, _):
            connection.sendall(event[:cut])
    assert client.get("/livez").status == 200
    assert end(town) == before


def raw(client: Client, fields: str) -> Raw:
    return Raw(client.port, fields)


class Raw:
    """A request that is written by hand."""

    def __init__(self, port: int, fields: str) -> None:
        self._port, self._fields = port, fields

    def __enter__(self) -> tuple[socket.socket, Any]:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        token = f"Authorization: Bearer {served().tokens.of(f'source:{SOURCE}')}\r\n"
        head = f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {STRUCTURED}\r\n{token}{self._fields}\r\n"
        self._socket.sendall(head.encode())

        def answer() -> int:
            with self._socket.makefile("rb") as file:
                return int(file.readline().split()[1])

        return self._socket, answer

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def test_gzip_is_read_within_the_same_limits(home: tuple[Town, Client]) -> None:
    town, client = home
    event = json.dumps(cloudevent("safety.answered", "packed", "hanako", status="safe")).encode()

    def packed(body: bytes, encoding: str = "gzip") -> Reply:
        return client.call(
            "POST", "/v1/events", body, headers={"Content-Type": STRUCTURED, "Content-Encoding": encoding}
        )

    assert packed(gzip.compress(event)).status == 201
    before = end(town)
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    assert len(bomb) * 900 < 64 * 1024 * 1024
    assert packed(bomb).status == 413
    assert packed(gzip.compress(bomb)).status == 400
    assert packed(gzip.compress(event)[:-5]).status == 400
    assert packed(gzip.compress(event) + b"more").status == 400
    assert packed(b"no gzip").status == 400
    assert packed(zlib.compress(event), "deflate").status == 415
    assert packed(event, "br").status == 415
    assert end(town) == before


def test_a_media_type_that_is_not_read_is_told(home: tuple[Town, Client]) -> None:
    _, client = home
    event = json.dumps(cloudevent("safety.answered", "m", "hanako", status="safe")).encode()
    for kind in ("text/plain", "application/xml", "", "multipart/form-data; boundary=x", "application/json", ";;;"):
        assert client.call("POST", "/v1/events", event, headers={"Content-Type": kind}).status == 415, kind
    for charset in ("shift_jis", "utf-16"):
        kind = f"{STRUCTURED}; charset={charset}"
        assert client.call("POST", "/v1/events", event, headers={"Content-Type": kind}).status == 415
    kind = f'{STRUCTURED.upper()}; charset="UTF-8"'
    assert client.call("POST", "/v1/events", event, headers={"Content-Type": kind}).status == 201


def test_nothing_of_this_grows_the_server(tmp_path: Path) -> None:
    process = Process(tmp_path / "hub.sqlite3")
    try:
        client = process.client()
        assert client.call("PUT", "/v1/persons/hanako", {"areas": []}).status == 201

        def rounds(count: int) -> None:
            for _ in range(count):
                for body in BAD.values():
                    judged(everywhere(client, body))

        rounds(2)
        before = resident_mb(process)
        rounds(6)
        assert resident_mb(process) - before < 30
    finally:
        process.kill()


def resident_mb(process: Process) -> float:
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
