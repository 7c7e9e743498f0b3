"""`hub ingest-kafka` against a real broker: what a source may say comes in once, the rest is refused with a reason."""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from kafka import KafkaProducer
from kafka.record.default_records import DefaultRecordBatchBuilder

import brokers
from brokers import Broker, header
from conftest import Town
from doors import cloudevent
from hub.errors import Busy, HubError, Tampered
from hub.events import Entry, Event
from hub.hub import Hub
from hub.intake import Result
from hub.log.clock import WatchedClock
from hub.registry import Registry
from hub.relay import ingest as ingesting
from hub.relay.ingest import VIA, Came, Ingest
from hub.scenario import flat_event
from hub.schemas import packaged
from hub.web.quarantine import translator
from hub.wire import frame, headers
from topics import BATCH, STRUCTURED, Door, answer

PATIENCE_S = 120


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    brokers.needed()
    found = Broker().start()
    yield found
    found.close()


@pytest.fixture
def door(broker: Broker) -> Door:
    return Door(broker, f"i{uuid.uuid4().hex[:8]}.")


@pytest.fixture
def home(town: Town) -> Town:
    for person in ("hanako", "taro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
    return town


def ingest(town: Town, door: Door, count: int | None = None, parts: list[int] | None = None) -> Counter[str]:
    """Take what was sent, until each of it became something; how many of each. parts: told how many at once."""
    door.flush()
    counts: Counter[str] = Counter()
    stop, wanted = threading.Event(), door.sent if count is None else count

    def told(came: Came) -> None:
        assert came.error is None, came.error
        counts.update(came.counts)
        if parts is not None:
            parts.append(sum(came.counts.values()))
        if counts.total() >= wanted:
            stop.set()

    give_up = threading.Timer(PATIENCE_S, stop.set)
    give_up.start()
    Ingest(town.hub, door.at, Registry(town.hub.log.schemas)).run(stop, told)
    give_up.cancel()
    assert counts.total() >= wanted, counts
    return counts


def entries(town: Town, source: str = "myhazard") -> list[Entry]:
    with town.hub.log.entries.snapshot() as (connection, _):
        return [e for e in town.hub.log.scan(connection) if isinstance(e, Entry) and e.event.source == source]


def attributes(id: str, person: str = "hanako", **more: Any) -> list[tuple[str, bytes]]:
    """The headers of binary mode."""
    return headers(id=id, source="myhazard", type="safety.answered", subject=person, **more)


def test_each_form_of_an_event_comes_in_as_over_http(home: Town, door: Door) -> None:
    registry, kind = Registry(home.hub.log.schemas), home.hub.log.schemas.kind("safety.answered")
    out = io.BytesIO()
    schema = {name: part for name, part in kind.schema.items() if name != "category"}
    record = {field["name"]: None for field in kind.schema["fields"]} | {"status": "safe"}
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    door.event({**answer("structured"), "time": "2026-06-01T09:00:00+09:00"})
    door.send(json.dumps([answer("first"), answer("second")]).encode(), BATCH)
    said = headers(
        id="json", source="myhazard", type="safety.answered", subject="hanako", datacontenttype="application/json"
    )
    door.send(b'{"status": "safe"}', said)
    said = attributes("avro", exercise=True)
    door.send(frame(registry.id_of("safety.answered.1"), out.getvalue()), said)
    assert ingest(home, door, 5) == {"accepted": 5}
    found = {entry.event.id: entry for entry in entries(home)}
    assert set(found) == {"structured", "first", "second", "json", "avro"}
    assert {entry.event.data["status"] for entry in found.values()} == {"safe"}
    assert {entry.event.person for entry in found.values()} == {"hanako"}
    assert [name for name, entry in found.items() if entry.event.exercise] == ["avro"]
    assert found["structured"].event.occurred_at is not None
    assert door.refused() == []


def test_the_same_again_is_a_duplicate_and_what_has_no_link_waits(home: Town, door: Door) -> None:
    for _ in range(3):
        door.event(answer("s"))
    unlinked = {**answer("r"), "ref": "resident-7"}
    del unlinked["subject"]
    door.event(unlinked)
    assert ingest(home, door) == {"accepted": 1, "duplicate": 2, "waiting": 1}
    home.tell("identity.linked", person="hanako", source="myhazard", ref="resident-7")
    assert [entry.event.id for entry in entries(home)] == ["s", "r"]


HERE = {"lat_deg": "37.4947", "lon_deg": "139.9298", "accuracy_m": 8.5}
HOSTILE: dict[str, tuple[bytes | None, Any, str, str]] = {
    "no value": (None, STRUCTURED, "", "has no value"),
    "no form": (b"{}", (), "", "has neither ce_ headers nor the content-type application/cloudevents+json"),
    "not UTF-8": (b"\xff\xfe{}", STRUCTURED, "", "is not UTF-8"),
    "no JSON": (b"{", STRUCTURED, "", "is no JSON, at line 1, column 2"),
    "nested": (b"[" * 200_000, STRUCTURED, "", "is nested too deeply"),
    "a name twice": (b'{"a":1,"a":2}', STRUCTURED, "", "says a name twice in one object"),
    "no object": (b"7", STRUCTURED, "", "is no object"),
    "NaN": (b'{"a":NaN}', STRUCTURED, "", "holds a number that JSON does not have"),
    "huge": (b'{"a":"' + b"x" * 10_000_000 + b'"}', STRUCTURED, "", "is larger than 1024 KiB"),
    "no batch": (b"{}", BATCH, "", "is no array of events"),
    "an empty batch": (b"[]", BATCH, "", "is an empty array"),
    "a long batch": (b"[" + b"7," * 10_000 + b"7]", BATCH, "", "holds more than 10000 events"),
    "a large batch": (b"[" + b" " * 16_800_000 + b"7]", BATCH, "", "is larger than 16384 KiB"),
    "JSON that says of itself no more": (json.dumps(answer("a")).encode(), [("content-type", b"application/json")], "",
                                         "has neither ce_ headers nor the content-type application/cloudevents+json"),
    "a charset": (b"{}", [("content-type", b"application/cloudevents+json; charset=shift_jis")], "datacontenttype",
                  "is in a charset that is not UTF-8"),
    "a header twice": (b"{}", [("ce_id", b"a"), ("CE_ID", b"b")], "id", "stands twice in the headers"),
    "a header that is no text": (b"{}", [("ce_id", b"\xff")], "id", "is not UTF-8"),
    "an old version": (b"{}", [("ce_specversion", b"0.3"), ("ce_id", b"a")], "specversion", "is not 1.0"),
    "no source": (b"{}", [("ce_specversion", b"1.0"), ("ce_id", b"a"), ("ce_type", b"a.b")], "source", "is missing"),
    "Avro of no schema": (frame(7, b"abc"), attributes("a"),
                          "data", "names a schema that this hub does not have"),
    "Avro that says it is text": (frame(7, b"abc"), attributes("a", datacontenttype="text/plain"),
                                  "data", "is no JSON, at line 1, column 1"),
    "Avro of another kind": (Registry(packaged()).encode("location.reported", HERE), attributes("a"),
                             "type", "is of another kind than its schema"),
    "Avro that is cut": (b"\x00\x01", attributes("a"),
                         "data", "is too short for the wire format: one byte 0 and a schema's id in four"),
}  # fmt: skip


def test_what_is_hostile_is_refused_with_a_reason_and_stops_nothing(home: Town, door: Door) -> None:
    for value, said, _, _ in HOSTILE.values():
        door.send(value, said, b"k", partition=0)
    door.event(answer("at the end"), b"k", partition=0)
    assert ingest(home, door) == {"refused": len(HOSTILE), "accepted": 1}
    assert [entry.event.id for entry in entries(home)] == ["at the end"]
    wanted = [(path, reason) for _, _, path, reason in HOSTILE.values()]
    assert [(path, reason) for _, path, reason in door.reasons()] == wanted
    for message in door.refused():
        assert header(message, "hub_topic") == f"{door.prefix}hub.ingest"
        assert header(message, "hub_partition") == "0"
    [key] = {message.key() for message in door.refused()}
    assert key is not None
    assert len(key) == 32, "a key may name a person, and stands there as a digest"
    kept = home.hub.quarantine.items(limit=100)
    assert {item.via for item in kept} == {VIA}
    assert len(kept) >= 10


@pytest.mark.parametrize(("most", "wanted"), [(4 * 1024 * 1024, [6]), (3_000, [3, 3])])
def test_what_is_large_is_read_a_part_at_a_time(
    home: Town, door: Door, monkeypatch: pytest.MonkeyPatch, most: int, wanted: list[int]
) -> None:
    monkeypatch.setattr(ingesting, "AT_ONCE_BYTES", most)
    for number in range(6):
        door.event({**answer(f"s{number}"), "padding": "x" * 1_000}, b"k", 0)
    parts = list[int]()
    assert ingest(home, door, parts=parts) == {"accepted": 6}
    assert parts == wanted


UNREADABLE = "is no record of Kafka that can be read: a header's name that is not UTF-8, or bytes in no order"


def no_name(record: bytearray) -> bytearray:
    """A header whose name is not UTF-8: seven bytes, as `no text`."""
    return record.replace(b"no text", b"\xff" * 7)


def no_attributes(record: bytearray) -> bytearray:
    """Attributes that go on behind their one byte."""
    record[2] = 0x81
    return record


def no_offset(record: bytearray) -> bytearray:
    """A record that says it is 32 further on: who believes it passes over what others sent."""
    record[4] = 64
    return record


def test_a_record_that_no_client_writes_is_refused_and_stops_nothing(
    home: Town, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker looks at no name of a header, and at neither attributes nor offset of a record."""
    written = DefaultRecordBatchBuilder.write_header
    for number, bend in enumerate([no_name, no_attributes, no_offset]):

        def bent(batch: Any, packed: bool, bend: Callable[[bytearray], bytearray] = bend) -> None:
            begin = batch.HEADER_STRUCT.size
            batch._buffer[begin:] = bend(batch._buffer[begin:])
            written(batch, packed)

        with monkeypatch.context() as patched, closing(door.at.client(KafkaProducer, retries=0)) as producer:
            patched.setattr(DefaultRecordBatchBuilder, "write_header", bent)
            said = [*STRUCTURED, ("no text", b"")]
            value = json.dumps(answer("x")).encode()
            producer.send(f"{door.prefix}hub.ingest", value, headers=said, partition=0).get(timeout=60)
        door.event(answer(f"s{number}"), partition=0)
        door.flush()
    assert ingest(home, door, 6) == {"refused": 3, "accepted": 3}
    assert [entry.event.id for entry in entries(home)] == ["s0", "s1", "s2"]
    assert door.reasons() == [(offset, "", UNREADABLE) for offset in (0, 2, 4)]


def refused_of(error: str, path: str, **changed: Any) -> tuple[dict[str, Any], str, str]:
    return {**answer("x"), **changed}, path, error


NOT_THEIRS = "is not for this caller to append"
FOREIGN = [
    refused_of(NOT_THEIRS, "", source="careyell"),
    refused_of(NOT_THEIRS, "", source="careyell", type="fact.retracted", data={"event": "e"}),
    refused_of(NOT_THEIRS, "", source="hub"),
    refused_of(NOT_THEIRS, "", source="api"),
    refused_of(NOT_THEIRS, "", source="*"),
    refused_of(NOT_THEIRS, "", type="profile.updated"),
    refused_of(NOT_THEIRS, "", type="person.erased", data={}),
    refused_of(NOT_THEIRS, "", type="consent.granted", data={}),
    refused_of(NOT_THEIRS, "", type="consent.requested", data={}),
    refused_of(NOT_THEIRS, "", type="emergency.declared", subject=None, data={}),
    refused_of(NOT_THEIRS, "", type="override.opened", subject=None, data={}),
    refused_of(NOT_THEIRS, "", type="kind.introduced", subject=None, data={}),
    refused_of(NOT_THEIRS, "", type="identity.linked", data={}),
    refused_of(NOT_THEIRS, "", type="view.disclosed", subject=None, data={}),
    refused_of(NOT_THEIRS, "", type="fact.retracted", data={"event": "e", "source": "careyell"}),
    refused_of("is not for a source to say", "by", type="fact.retracted", data={"event": "e", "by": "taro"}),
]


def test_the_broker_unpacks_and_refuses_what_would_burst(home: Town, door: Door) -> None:
    """40 MB of nothing take 40 KB as gzip: whoever unpacks a batch has all of it before anything can look."""
    if not door.broker.lasting:
        pytest.skip("the broker of the wheel measures nothing")
    packing = {"compression.type": "gzip", "message.max.bytes": 100_000_000, "queue.buffering.max.kbytes": 200_000}
    producer = Producer({"bootstrap.servers": door.broker.bootstrap, "log_level": 0, **packing})
    failed: list[Any] = []
    bomb, topic = b" " * 40_000_000, f"{door.prefix}hub.ingest"
    producer.produce(topic, bomb, headers=STRUCTURED, on_delivery=lambda error, _: failed.append(error))
    assert producer.flush(60) == 0
    assert [error.name() for error in failed] == ["MSG_SIZE_TOO_LARGE"]
    producer.produce(topic, json.dumps(answer("s")).encode(), headers=STRUCTURED)
    assert producer.flush(60) == 0
    assert ingest(home, door, 1) == {"accepted": 1}


def test_a_topic_says_no_more_than_a_source_may(home: Town, door: Door) -> None:
    end = home.hub.log.entries.max_notification_id()
    for event, _, _ in FOREIGN:
        door.event(event, partition=0)
    assert ingest(home, door) == {"refused": len(FOREIGN)}
    assert [(path, reason) for _, path, reason in door.reasons()] == [(path, reason) for _, path, reason in FOREIGN]
    assert home.hub.log.entries.max_notification_id() == end
    assert len(home.hub.quarantine.items()) == 1, "nobody fills the quarantine with what is not theirs"


def test_a_source_takes_back_its_own_fact(home: Town, door: Door) -> None:
    door.event(answer("s"), b"k")
    door.event(cloudevent("fact.retracted", "t", "hanako", source="myhazard", event="s"), b"k")
    assert ingest(home, door) == {"accepted": 2}


def test_a_refusal_tells_no_value_and_the_quarantine_plays_it_again(home: Town, door: Door) -> None:
    registry, kind = Registry(home.hub.log.schemas), home.hub.log.schemas.kind("safety.answered")
    body = kind.encode({"status": "safe"})
    said = attributes("late", "jiro")
    door.send(frame(registry.id_of("safety.answered.1"), body), said, b"k")
    door.event({**answer("n", "hanako"), "data": {"status": "secretly fine"}}, b"k")
    door.event({**answer("u", "hanako"), "type": "hanako.called"}, b"k")
    assert ingest(home, door) == {"refused": 3}
    kinds = []
    for message in door.refused():
        whole = repr((message.value(), message.headers()))
        assert not any(word in whole for word in ("hanako", "jiro", "secretly", "late"))
        kinds.append(json.loads(message.value() or b"")["kind"])
    assert kinds == ["safety.answered", "safety.answered", None]
    home.tell("person.enrolled", person="jiro", areas=["07202"])
    [item] = [item for item in home.hub.quarantine.items() if item.reason == "no such person is enrolled"]
    [result] = home.hub.quarantine.replay(item.item, translator(home.hub.plugins))
    assert (result.status, result.event.person, result.event.data["status"]) == ("accepted", "jiro", "safe")


def test_what_is_urgent_goes_first_and_a_key_keeps_its_order(home: Town, door: Door) -> None:
    place = {"lat_deg": 37.5, "lon_deg": 139.9, "accuracy_m": 5}
    for number in range(3):
        door.event(cloudevent("location.reported", f"p{number}", "taro", source="myhazard", **place), b"taro", 0)
    door.event(cloudevent("location.reported", "before", "hanako", source="myhazard", **place), b"hanako", 0)
    door.event(answer("urgent"), b"hanako", 0)
    door.event(cloudevent("location.reported", "after", "hanako", source="myhazard", **place), b"hanako", 0)
    assert ingest(home, door) == {"accepted": 6}
    assert [entry.event.id for entry in entries(home)] == ["before", "urgent", "p0", "p1", "p2", "after"]


def test_a_fault_of_the_hub_refuses_one_event_and_none_beside_it(
    home: Town, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = home.hub.intake.take

    def fails(events: Sequence[Event]) -> list[Result]:
        if any(event.id == "s1" for event in events):
            raise RuntimeError("hanako")
        return take(events)

    monkeypatch.setattr(home.hub.intake, "take", fails)
    for number in range(3):
        door.event(answer(f"s{number}"), b"k")
    assert ingest(home, door) == {"accepted": 2, "refused": 1}
    assert [entry.event.id for entry in entries(home)] == ["s0", "s2"]
    assert door.reasons() == [(1, "", "the hub failed (RuntimeError); tell its makers")]


def test_a_hub_that_is_busy_loses_nothing(tmp_path: Path, door: Door) -> None:
    """The clock leaps, so that nothing can be appended, until it is right again."""
    leap = timedelta(0)
    clock = WatchedClock(lambda: datetime.now(UTC) + leap, time.monotonic)
    hub = Hub.open(f"sqlite:///{tmp_path / 'hub.sqlite3'}", clock, durable=False)
    hub.init()
    hub.intake.take([flat_event("person.enrolled", {"person": "hanako", "areas": ["07202"]}, "e")])
    for number in range(50):
        door.event(answer(f"s{number}"))
    door.flush()
    stop, told = threading.Event(), list[str | None]()
    counts: Counter[str] = Counter()
    leap = timedelta(hours=-3)

    def hear(came: Came) -> None:
        nonlocal leap
        told.append(came.error)
        counts.update(came.counts)
        if len(told) == 3:
            leap = timedelta(0)
        if counts.total() >= 50:
            stop.set()

    Ingest(hub, door.at, Registry(hub.log.schemas)).run(stop, hear)
    assert all("clock" in (error or "") for error in told[:3]), told
    assert counts == {"accepted": 50}
    hub.close()


def test_a_stop_does_not_wait_until_the_hub_is_free_and_a_log_that_was_changed_ends_it(
    home: Town, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure: HubError = Busy("the disk is full")
    stop, told = threading.Event(), list[str | None]()

    def fails(events: Sequence[Event]) -> list[Result]:
        raise failure

    def hear(came: Came) -> None:
        told.append(came.error)
        stop.set()
        assert len(told) == 1

    door.event(answer("s"))
    door.flush()
    with monkeypatch.context() as patched:
        patched.setattr(home.hub.intake, "take", fails)
        Ingest(home.hub, door.at, Registry(home.hub.log.schemas)).run(stop, hear)
        assert told == ["the disk is full"]
        stop.clear()
        failure = Tampered("the log was changed")
        with pytest.raises(Tampered):
            Ingest(home.hub, door.at, Registry(home.hub.log.schemas)).run(stop, hear)
    assert ingest(home, door) == {"accepted": 1}
