"""The wire format, the headers and the registry's ids, each against an independent judge."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import fastavro
import pytest
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from hub import wire
from hub.errors import Misuse, PayloadError
from hub.events import Event
from hub.plugins import Plugins
from hub.registry import Registry, schema_id
from hub.schemas import packaged

JST = timezone(timedelta(hours=9))
SAID = {
    "source": "https://sdk.example/怪?q=1",
    "id": "1",
    "type": "safety.answered",
    "subject": "会津 花子/1%",
    "time": datetime(2026, 6, 1, 9, 0, 0, 123456, tzinfo=JST),
}


@pytest.fixture
def registry() -> Registry:
    return Registry(packaged())


@given(st.integers(1, 2**31 - 1), st.binary(max_size=40))
def test_what_is_framed_is_unframed_and_lies_as_confluent_says(id: int, body: bytes) -> None:
    value = wire.frame(id, body)
    assert wire.unframe(value) == (id, body)
    assert value == b"\0" + id.to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "value", [b"", b"\0\0\0\0", b"\1\0\0\0\1x", b"\0\0\0\0\0x", b"\0\xff\xff\xff\xffx", b'{"a":1}']
)
def test_what_is_no_frame_is_refused(value: bytes) -> None:
    with pytest.raises(PayloadError):
        wire.unframe(value)


def test_headers_are_those_of_the_sdk_and_what_it_writes_is_read() -> None:
    event = CloudEvent(attributes={**SAID, "datacontenttype": wire.AVRO, "exercise": "true"}, data=b"")
    theirs = sdk.to_binary(event, JSONFormat()).headers

    ours = wire.headers(**SAID, exercise=True)

    parsed = sdk.from_binary(sdk.KafkaMessage(headers=dict(ours), key=None, value=b"\0"), JSONFormat())
    assert parsed.get_attributes() == {**event.get_attributes(), "specversion": "1.0"}
    assert set(dict(ours)) == set(theirs)
    assert wire.attributes(wire.read_headers(theirs.items())) == wire.attributes(wire.read_headers(ours))


def test_headers_give_an_event() -> None:
    said = wire.read_headers([*wire.headers(**SAID, dataschema="urn:x", exercise=True), ("trace", b"\xff")])
    assert Event(**wire.attributes(said)) == Event(
        source="https://sdk.example/怪?q=1",
        id="1",
        kind="safety.answered",
        person="会津 花子/1%",
        occurred_at=datetime(2026, 6, 1, 0, 0, 0, 123456, tzinfo=UTC),
        exercise=True,
    )
    assert said["datacontenttype"] == "application/avro"


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ([], "specversion"),
        ([("ce_specversion", b"1.0")], "id"),
        ([*wire.headers(**SAID), ("ce_id", b"2")], "id"),
        ([*wire.headers(**SAID), ("ce_ref", b"\xff")], "ref"),
        ([*wire.headers(**SAID), ("ce_exercise", b"perhaps")], "exercise"),
        ([*wire.headers(**(SAID | {"time": None})), ("ce_time", b"today")], "time"),
        ([*wire.headers(**SAID), ("ce_a_b", b"1")], "a_b"),
    ],
)
def test_headers_that_are_no_event_are_told_by_path(headers: list[tuple[str, bytes]], path: str) -> None:
    with pytest.raises(PayloadError) as told:
        wire.attributes(wire.read_headers(headers))
    assert told.value.path == path


@pytest.mark.parametrize("kind", packaged().every(), ids=lambda kind: kind.topic)
def test_each_version_has_an_id_that_leads_back_to_it(registry: Registry, kind: Any) -> None:
    number = registry.id_of(kind.topic)
    found = registry.by_id(number)
    assert found is not None
    assert 0 < number < 2**31
    assert found.kind is kind
    assert json.loads(found.text) == kind.schema
    assert registry.versions(f"{kind.name}-value")[kind.version] is found
    assert registry.lookup(f"{kind.name}-value", json.dumps(kind.schema, indent=3)) is found
    assert (f"{kind.name}-value", kind.version) in registry.places(number)


def test_ids_are_the_same_in_every_process_and_for_ever(registry: Registry) -> None:
    assert registry.id_of("location.reported.1") == 2105561774  # it stands in messages that are kept
    program = "from hub.registry import *; from hub.schemas import *; print(Registry(packaged()).id_of('entry.1'))"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert int(told.stdout) == registry.id_of("entry.1")


def test_a_collision_of_ids_is_told_when_the_schemas_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.registry.schema_id", lambda text: 7)
    with pytest.raises(Misuse, match="same schema id"):
        Registry(packaged())


def test_schemas_of_connectors_are_registered_too() -> None:
    registry = Registry(Plugins().extend(packaged()))
    assert "care.carers_updated-value" in registry.subjects()


def test_a_topic_has_the_newest_schema_of_its_table() -> None:
    registry = Registry(packaged(), {"hub.events": "emergency.declared", "hub.view": "entry", "hub.none": "none"})
    assert registry.id_of("hub.events") == registry.id_of("emergency.declared.2")
    assert registry.id_of("hub.view.clinic") == registry.id_of("hub.view") == registry.id_of("entry.1")
    assert {"hub.events-value", "hub.view-value"} < set(registry.subjects())
    assert "hub.none-value" not in registry.subjects()
    assert list(registry.versions("hub.events-value")) == [1, 2]
    for unknown in ("hub.none", "no.kind.1", "entry.9"):
        with pytest.raises(KeyError):
            registry.id_of(unknown)


def test_a_message_is_decoded_by_the_version_that_it_names(registry: Registry) -> None:
    data = {"lat_deg": 37.5, "lon_deg": 139.9, "accuracy_m": 8.0}
    value = registry.encode("location.reported", data)
    kind, record = registry.decode(value)
    assert (kind.topic, {name: float(record[name]) for name in data}) == ("location.reported.1", data)
    judged = fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(dict(kind.schema)), None)
    assert {name: float(judged[name]) for name in data} == data


@given(st.sampled_from(packaged().every()), st.binary(max_size=60))
def test_bytes_that_are_no_record_are_refused_and_nothing_else_happens(kind: Any, body: bytes) -> None:
    registry = REGISTRY
    try:
        registry.decode(wire.frame(registry.id_of(kind.topic), body))
    except PayloadError as error:
        assert error.kind == kind.name  # noqa: PT017


REGISTRY = Registry(packaged())


@pytest.mark.parametrize(
    ("body", "reason"), [(b"\xff" * 200_000, "more than 64 bits"), (b"\x0e\x83\x00", "negative length")]
)
def test_a_length_without_end_and_one_that_leads_back_are_refused(registry: Registry, body: bytes, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        registry.decode(wire.frame(registry.id_of("person.moved.1"), body))


def test_an_unknown_id_is_refused(registry: Registry) -> None:
    with pytest.raises(PayloadError, match="does not have"):
        registry.decode(wire.frame(7, b""))


def test_an_id_is_never_0() -> None:
    assert schema_id("") > 0
