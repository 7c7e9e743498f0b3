"""CloudEvents in every mode: the specification's examples, another implementation's, and the SDK's own events."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings import http as sdk
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from conftest import Town
from doors import BATCH, STRUCTURED, Client, Reply, served

DATA = Path(os.environ.get("HUB_SHARED", Path(__file__).parents[3] / "shared")) / "data/8a-cloudevents"
JST = timezone(timedelta(hours=9))
NO_KIND = "no schema says what this kind is"


@pytest.fixture
def home(town: Town) -> Iterator[tuple[Town, Client]]:
    for person in ("hanako", "会津 花子/1%", 'a"b'):
        town.tell("person.enrolled", person=person, areas=["07202"])
    with served().over(town.hub) as client:
        yield town, client


def event(id: str, person: str = "hanako", **more: Any) -> CloudEvent:
    attributes = {
        "type": "safety.answered",
        "source": "https://sdk.example/怪?q=1",
        "id": id,
        "subject": person,
        "time": datetime(2026, 6, 1, 9, 0, 0, 123456, tzinfo=JST),
        "datacontenttype": "application/json",
        **more,
    }
    return CloudEvent(attributes=attributes, data={"status": "safe", "note": "無事です"})


def sent(client: Client, message: Any) -> Reply:
    return client.call("POST", "/v1/events", bytes(message.body), headers=dict(message.headers))


def recorded(client: Client, id: str) -> dict[str, Any]:
    rows = client.get("/v1/audit/events", limit=1000).json["events"]
    [found] = [row for row in rows if row.get("id") == id]
    return dict(found)


@pytest.mark.parametrize("person", ["hanako", "会津 花子/1%", 'a"b'])
@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_an_event_of_the_sdk_is_taken_as_it_was_meant(home: tuple[Town, Client], mode: str, person: str) -> None:
    _, client = home
    name = f"{mode} 1"
    made = event(name, person, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    message = sdk.to_structured(made, JSONFormat()) if mode == "structured" else sdk.to_binary(made, JSONFormat())

    reply = sent(client, message)

    assert (reply.status, reply.json["results"][0]["id"]) == (201, name)
    row = recorded(client, name)
    assert (row["kind"], row["source"], row["person"]) == ("safety.answered", "https://sdk.example/怪?q=1", person)
    assert row["occurred_at"] == "2026-06-01T00:00:00.123456Z"
    assert row["data"] == {"status": "safe", "note": "無事です"}
    assert sent(client, message).status == 200


def test_structured_binary_batch_and_lines_say_the_same_event(home: tuple[Town, Client]) -> None:
    _, client = home
    made = event("one")
    structured, binary = sdk.to_structured(made, JSONFormat()), sdk.to_binary(made, JSONFormat())
    assert sent(client, binary).status == 201
    assert sent(client, structured).status == 200
    batch = client.call("POST", "/v1/events", b"[" + structured.body + b"]", headers={"Content-Type": BATCH})
    assert batch.json["duplicate"] == 1
    lines = structured.body + b"\n\n" + structured.body + b"\r\n"
    ndjson = client.call("POST", "/v1/events", lines, headers={"Content-Type": "application/x-ndjson"})
    assert ndjson.json["duplicate"] == 2


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_a_drill_says_so_in_an_extension(home: tuple[Town, Client], mode: str) -> None:
    _, client = home
    made = event("drill", exercise=True)
    if mode == "structured":
        reply = sent(client, sdk.to_structured(made, JSONFormat()))
    else:
        message = sdk.to_binary(made, JSONFormat())
        headers = {**message.headers, "ce-exercise": "true"}
        reply = client.call("POST", "/v1/events", bytes(message.body), headers=headers)
    assert reply.status == 201
    assert recorded(client, "drill")["exercise"] is True


def test_a_batch_of_the_sdk_and_an_empty_one(home: tuple[Town, Client]) -> None:
    _, client = home
    bodies = [sdk.to_structured(event(f"b{n}"), JSONFormat()).body for n in range(3)]
    said = client.call("POST", "/v1/events", b"[" + b",".join(bodies) + b"]", headers={"Content-Type": BATCH})
    assert (said.status, said.json["accepted"]) == (200, 3)
    empty = client.batch([])
    assert (empty.status, empty.json) == (
        200,
        {"accepted": 0, "duplicate": 0, "rejected": 0, "position": None, "results": []},
    )


def test_data_may_be_packed_and_times_may_be_absent(home: tuple[Town, Client]) -> None:
    _, client = home
    plain = {"specversion": "1.0", "type": "safety.answered", "source": "m", "subject": "hanako"}
    packed = client.event(
        {**plain, "id": "p", "datacontenttype": "text/json", "data_base64": "eyJzdGF0dXMiOiJzYWZlIn0="}
    )
    assert packed.status == 201
    assert recorded(client, "p")["occurred_at"] is None
    assert client.event({**plain, "id": "n", "time": None, "data": {"status": "safe"}, "anumber": 10}).status == 201


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("specversion", {"specversion": "0.3"}),
        ("specversion", {"specversion": None}),
        ("type", {"type": ""}),
        ("source", {"source": 5}),
        ("id", {"id": None}),
        ("id", {"id": "a\nb"}),
        ("person", {"subject": ["hanako"]}),
        ("time", {"time": "yesterday"}),
        ("time", {"time": 5}),
        ("datacontenttype", {"datacontenttype": "application/xml"}),
        ("data_base64", {"data_base64": "e30="}),
        ("data_base64", {"data": None, "data_base64": "***"}),
        ("data", {"data": [1]}),
        ("exercise", {"exercise": "yes"}),
        ("Upper", {"Upper": "case"}),
        ("nested", {"nested": {"a": 1}}),
        ("fraction", {"fraction": 1.5}),
    ],
)
def test_an_envelope_that_is_wrong_is_told_by_its_path(
    home: tuple[Town, Client], path: str, wrong: dict[str, Any]
) -> None:
    _, client = home
    good = {
        "specversion": "1.0",
        "type": "safety.answered",
        "source": "m",
        "id": "w",
        "subject": "hanako",
        "data": {"status": "safe"},
    }
    reply = client.event({**good, **wrong})
    assert (reply.status, [error["path"] for error in reply.json["errors"]]) == (422, [path])


def judged(name: str, errors: list[dict[str, Any]]) -> None:
    """A valid envelope: only the kind, or data that is no JSON object, stands against it."""
    [error] = errors
    fits = error["reason"] == NO_KIND or error["path"] in ("datacontenttype", "data", "data_base64")
    assert fits, (name, error)


@pytest.mark.skipif(not DATA.is_dir(), reason="no CloudEvents of others beside the repository (shared/data)")
def test_events_of_others_are_read_and_refused_for_their_kind_alone(home: tuple[Town, Client]) -> None:
    _, client = home
    files = sorted((DATA / "spec-json-examples").glob("*.json")) + sorted((DATA / "sdk-java-json").rglob("*.json"))
    assert len(files) > 15
    for path in files:
        said = json.loads(path.read_bytes())
        if isinstance(said, list):
            for one in said:  # each of a source of its own, which one token cannot be
                reply = client.call("POST", "/v1/events", [one], headers={"Content-Type": BATCH})
                assert (reply.status, reply.json["rejected"]) == (200, 1), path.name
                judged(path.name, [reply.json["results"][0]["error"]])
            continue
        reply = client.call("POST", "/v1/events", path.read_bytes(), headers={"Content-Type": STRUCTURED})
        assert reply.status == 422, path.name
        judged(path.name, reply.json["errors"])


def test_a_fact_under_an_id_at_a_service_waits_and_enters_when_it_is_linked(home: tuple[Town, Client]) -> None:
    town, client = home
    said = {"status": "safe"}
    one = {"specversion": "1.0", "type": "safety.answered", "source": "m", "id": "w1", "ref": "u55", "data": said}
    headers = {"ce-specversion": "1.0", "ce-type": "safety.answered", "ce-source": "m", "ce-id": "w2", "ce-ref": "u55"}
    waits = client.event(one)
    assert waits.status == 202
    assert waits.json == {
        "accepted": 0,
        "duplicate": 0,
        "rejected": 0,
        "waiting": 1,
        "position": None,
        "results": [{"id": "w1", "status": "waiting"}],
    }
    assert client.call("POST", "/v1/events", said, headers=headers).status == 202
    both = {**one, "id": "w3", "subject": "hanako"}
    control = {**one, "id": "w4", "type": "person.moved", "data": {"areas": []}}
    place = {**one, "id": "w5", "ref": 7}
    mixed = client.batch([{**one, "id": "w0", "ref": None, "subject": "hanako"}, one, both, control, place])
    assert (mixed.status, mixed.json["waiting"], mixed.json["rejected"]) == (200, 1, 3)
    assert [row["error"]["path"] for row in mixed.json["results"] if "error" in row] == ["ref"] * 3

    town.tell("identity.linked", person="hanako", source="m", ref="u55")

    assert [recorded(client, name)["person"] for name in ("w0", "w1", "w2")] == ["hanako"] * 3
    assert "ref" not in recorded(client, "w1")
    assert client.event(one).json["results"][0]["status"] == "duplicate"
    assert "hub_events_total{" in (metrics := client.get("/metrics").body.decode())
    assert "waiting" in metrics
