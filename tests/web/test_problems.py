"""One shape of errors everywhere; and nothing of a person in any error, log line or metric."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from doors import STRUCTURED, Client, Process, Reply, cloudevent, served
from hub.errors import Busy, Tampered
from hub.web import bodies
from hub.web.operation import ALLOWED
from hub.web.problems import TITLES, problem_of

NAME, PHONE, DIAGNOSIS = "Hanako-Sato-of-Aizu", "090-1234-5678", "Guillain-Barre"
PLANTED = (NAME, PHONE, DIAGNOSIS)
VIEW = "/v1/views/aizu-city"


@pytest.fixture
def home(town: Town) -> Iterator[tuple[Town, Client]]:
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    with served().over(town.hub) as client:
        yield town, client


def shaped(reply: Reply, name: str) -> None:
    assert reply.status == TITLES[name][0], reply
    assert reply.headers["content-type"] == "application/problem+json"
    said = reply.json
    assert list(said) == ["type", "title", "status", "detail", "errors"]
    assert (said["type"], said["title"], said["status"]) == (
        f"urn:saigai-hub:problem:{name}",
        TITLES[name][1],
        reply.status,
    )
    assert said["detail"]
    for error in said["errors"]:
        assert {"path", "reason"} <= error.keys() <= {"path", "reason", "rule", "kind"}
        assert error["reason"]
    assert not [planted for planted in PLANTED if planted in reply.body.decode()], reply


class Broken:
    """Stands for a part that fails in a way that nobody thought of; its text holds a person's data."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


def test_every_problem_there_is_has_the_one_shape(home: tuple[Town, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    town, client = home
    data = {"status": DIAGNOSIS, PHONE: NAME}
    seen: dict[str, Reply] = {}

    def see(name: str, reply: Reply) -> None:
        shaped(reply, name)
        seen[name] = reply

    see("not-read", client.call("PUT", "/v1/persons/x", b"{" + NAME.encode()))
    see("not-read", client.get(VIEW, purpose="rescue", limit=PHONE))
    see("not-read", client.get(VIEW, purpose="rescue", history=NAME))
    see("not-read", client.get(VIEW, **{"purpose": "rescue", NAME: PHONE}))
    see("not-read", client.get(VIEW, headers={"Hub-At-Least": PHONE}, purpose="rescue"))
    see("not-read", client.call("POST", "/v1/persons/hanako/blocks", {}, headers={"Idempotency-Key": "\t"}))
    see("foreign-origin", client.get("/v1/kinds", headers={"Origin": f"https://{NAME}"}))
    see("not-found", client.get(f"/v1/{NAME}"))
    see("not-found", client.get(f"/v1/recipients/{NAME}"))
    see("forbidden", client.call("POST", f"/v1/connectors/{NAME}", PHONE.encode()))
    see("forbidden", client.get(f"/v1/persons/{NAME}/grants", as_=f"citizen:{PHONE}"))
    see("unauthenticated", client.get("/v1/kinds", headers={"Authorization": f"Bearer {NAME}"}))
    see("unauthenticated", client.get("/v1/kinds", headers={"Authorization": f"Basic {PHONE}"}))
    see("wrong-method", client.call("DELETE", "/v1/events"))
    assert seen["wrong-method"].headers["allow"] == "POST"
    see("not-acceptable", client.get(VIEW, headers={"Accept": NAME}, purpose="rescue"))
    see("too-large", client.call("PUT", "/v1/persons/x", NAME.encode() * 100_000))
    see("head-too-large", client.get("/livez", headers={"X": NAME * 40_000}))
    see("wrong-media-type", client.call("POST", "/v1/events", NAME.encode(), headers={"Content-Type": "text/plain"}))
    see("refused", client.event(cloudevent("safety.answered", "e", "hanako", **data)))
    see("refused", client.event(cloudevent("safety.answered", "e", NAME, status="safe", note=PHONE)))
    see("refused", client.event({**cloudevent("safety.answered", NAME, "hanako"), "time": PHONE, "exercise": NAME}))
    see("refused", client.event({**cloudevent(NAME, PHONE, DIAGNOSIS)}))
    see("refused", client.get(VIEW, purpose="rescue", cursor=NAME))
    see("refused", client.get(VIEW, purpose="rescue", area=NAME))
    see("refused", client.get(f"{VIEW}/changes", purpose="rescue", since=NAME))
    see("refused", client.call("PUT", "/v1/recipients/r", {"class": NAME, "areas": [PHONE], "purposes": []}))
    monkeypatch.setattr(bodies, "SLOWEST_S", 0.1)
    see("too-slow", slow(client.port))
    monkeypatch.setattr(served().app.state.door.inlet, "_capacity", 0)
    see("busy", client.event(cloudevent("safety.answered", "b", "hanako", status="safe", note=PHONE)))
    monkeypatch.undo()
    monkeypatch.setattr(served().app.state.door, "hub", Broken(Tampered("a payload", position=5)))
    see("stopped", client.get("/v1/recipients"))
    monkeypatch.setattr(served().app.state.door, "hub", Broken(ZeroDivisionError(f"{NAME} {PHONE}")))
    see("failed", client.get("/v1/recipients"))
    monkeypatch.undo()
    assert client.get("/v1/recipients").status == 200
    silent = {"provider-silent"}  # tests/servers/test_openid.py
    assert set(seen) == set(TITLES) - silent, "a problem that nothing provokes"
    assert town.hub.log.entries.max_notification_id()


@pytest.mark.parametrize("why", ["the database does not answer", "the database does not answer; try again"])
def test_busy_says_the_same_to_who_reads_and_who_writes(why: str) -> None:
    assert problem_of(Busy(why)).detail == "the database does not answer. Send the same again later."


def slow(port: int) -> Reply:
    """The answer to a request whose body does not come."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {STRUCTURED}\r\nContent-Length: 99\r\n"
            f"Authorization: Bearer {served().tokens.of('source:myhazard')}\r\n\r\n"
        )
        connection.sendall(head.encode() + NAME.encode())
        with connection.makefile("rb") as file:
            status = int(file.readline().split()[1])
            headers = {}
            while line := file.readline().strip().decode():
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
            return Reply(status, headers, file.read(int(headers["content-length"])))


FAILING = f"""
import logging

from hub import directory


def fail(self, *args):
    logging.getLogger("library").error("{NAME} %s", "{PHONE}")
    raise LookupError("{NAME} {PHONE} {DIAGNOSIS}")


directory.Directory.blocks = fail
"""


def test_nothing_of_a_person_is_in_any_log_line_metric_or_error(tmp_path: Path) -> None:
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(FAILING)
    path = f"{tmp_path / 'patch'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    process = Process(tmp_path / "hub.sqlite3", workers=2, environment={"PYTHONPATH": path})
    client = process.client()
    replies = [
        client.call("PUT", f"/v1/persons/{NAME}", {"areas": ["07202"]}),
        client.event(cloudevent("care.condition_updated", PHONE, NAME, condition=DIAGNOSIS, note=PHONE)),
        client.event(cloudevent("care.condition_updated", "bad", NAME, condition=[DIAGNOSIS])),
        client.event(cloudevent(NAME, PHONE, DIAGNOSIS)),
        client.call("POST", "/v1/events", f"{{{NAME}".encode(), headers={"Content-Type": STRUCTURED, "X-Name": NAME}),
        client.call("POST", "/v1/connectors/jma", f"<{NAME}>{PHONE}</{NAME}>".encode()),
        client.call("POST", f"/v1/connectors/{NAME}", DIAGNOSIS.encode()),
        client.get(f"/v1/views/{NAME}", purpose=NAME, kinds=DIAGNOSIS, persons=NAME, cursor=PHONE),
        client.get(f"/v1/persons/{NAME}/blocks"),
        client.get(f"/v1/{NAME}/{PHONE}", name=NAME),
        client.call("DELETE", f"/v1/persons/{NAME}/grants/{PHONE}"),
        client.get("/v1/audit/explain", recipient=PHONE, purpose="rescue", person=DIAGNOSIS),
        client.call("PATCH", f"/v1/persons/{NAME}", DIAGNOSIS.encode()),
    ]
    assert {reply.status for reply in replies} >= {200, 201, 400, 404, 405, 422, 500}
    with socket.create_connection(("127.0.0.1", process.port), timeout=60) as connection:
        connection.sendall(f"{NAME} {PHONE}\r\n\r\n".encode())
        connection.recv(1000)
    metrics = client.get("/metrics").body.decode()
    assert process.stop() == 0

    for reply in replies:
        if reply.status >= 400:
            assert not [planted for planted in PLANTED if planted in reply.body.decode()], reply
    for text in (process.said(), metrics):
        assert [planted for planted in PLANTED if planted in text] == []
    lines = [json.loads(line) for line in process.said().splitlines()]
    assert set().union(*lines) <= ALLOWED
    failed = [line for line in lines if line["event"] == "request failed"]
    assert [(line["error"], line["route"]) for line in failed] == [("LookupError", "/v1/persons/{person}/blocks")]
    assert "library" in {line["logger"] for line in lines if line["event"] == "library"}
    assert failed[0]["where"] == "sitecustomize.py:9"
    assert {line["route"] for line in lines if "route" in line} >= {"/v1/persons/{person}", "/v1/events", "none"}
