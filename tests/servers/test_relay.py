"""`hub relay` against a real broker: what the log holds is there, whole, whoever is stopped or killed.

Long form: HUB_TEST_KILLS=50 HUB_TEST_AWAY_S=60. The control stores its position before the broker has the messages:
the same test has to find that it loses some.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Message
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.partitioner.default import murmur2
from kafka.record.memory_records import MemoryRecords
from sqlalchemy import select

import brokers
from brokers import Broker, everything, header
from conftest import Town
from doors import served
from hub.cli.opening import Opening
from hub.events import Event
from hub.hub import Hub
from hub.log import merkle, recorder, sealing
from hub.registry import Registry
from hub.relay import broker as kafka
from hub.relay.events import EventsLine, name_of
from hub.relay.line import Piece
from hub.relay.relay import Relay, Sent
from hub.relay.settings import load
from hub.relayed import Held, Relayed
from hub.scenario import flat_event

KILLS = int(os.environ.get("HUB_TEST_KILLS", "8"))
AWAY_S = float(os.environ.get("HUB_TEST_AWAY_S", "4"))
PEOPLE = 30
PATIENCE_S = 120

COMMAND = "from hub.cli import main; main()"
STORES_FIRST = """
from hub.relay import relay
def send(self, held, piece):
    self.held = self._relayed.advance(held, self._lease, position=piece.position, token=piece.token)
    self._sender.deliver(piece.messages, self._meanwhile)
relay._Turn._send = send
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    brokers.needed()
    found = Broker().start()
    yield found
    found.close()


@pytest.fixture
def prefix() -> str:
    """Topics of a test's own."""
    return f"t{uuid.uuid4().hex[:8]}."


def settings(broker: Broker, prefix: str) -> Path:
    path = broker.settings()
    path.write_text(path.read_text() + f'prefix = "{prefix}"\n')
    return path


def relay_of(hub: Hub, broker: Broker, prefix: str, **more: Any) -> Relay:
    at = kafka.Broker(load(settings(broker, prefix), {}))
    line = EventsLine(hub.log, at, Registry(hub.log.schemas), **more)
    return Relay(hub.relayed, at, lambda: [line])


def log_of(hub: Hub) -> dict[int, Any]:
    with hub.log.entries.snapshot() as (connection, _):
        return {row.position: row for row in connection.execute(select(recorder.log))}


def wait_for(what: str, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Relaying:
    """A real `hub relay`."""

    def __init__(self, url: str, settings: Path, *, before: str = "") -> None:
        env = {**os.environ, "HUB_DATABASE_URL": url, "HUB_KAFKA": str(settings)}
        command = [sys.executable, "-c", f"{before}\n{COMMAND}", "relay", "--json"]
        self.popen = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        self.sent: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            if line.startswith("{"):
                self.sent.append(json.loads(line))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        status = self.popen.wait(60)
        self._reader.join()
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        return status


class Writing:
    """A hub on the machine's clock, into which events come."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'hub.sqlite3'}"
        self.hub = Opening(self.url)()
        self.hub.init()
        self._count = 0
        said = [{"person": f"p{n}", "areas": ["07202"]} for n in range(PEOPLE)]
        people = [flat_event("person.enrolled", one, f"e-{one['person']}") for one in said]
        assert all(result.status == "accepted" for result in self.hub.intake.take(people))

    @property
    def position(self) -> int:
        return self.hub.log.entries.max_notification_id() or 0

    def write(self, count: int, source: str = "myhazard") -> None:
        events = []
        for _ in range(count):
            self._count += 1
            person = f"p{self._count % PEOPLE}"
            events.append(
                Event(
                    source=source, id=f"s{self._count}", kind="safety.answered", person=person, data={"status": "safe"}
                )
            )
        assert {result.status for result in self.hub.intake.take(events)} == {"accepted"}

    def sent(self) -> int:
        """Up to where the broker has it."""
        return max((lag.position for lag in self.hub.relayed.lags()), default=0)

    def lag(self) -> int:
        return self.position - self.sent()


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Writing]:
    found = Writing(tmp_path)
    yield found
    found.hub.close()


@pytest.fixture
def lively(town: Town) -> Town:
    """People, consent, an emergency, a place, answers and a refusal."""
    for recipient in ("aizu-city", "clinic"):
        said = {"class": "city", "areas": ["*"], "purposes": ["rescue"], "overrides": []}
        town.tell("recipient.registered", recipient=recipient, **said)
    for person in ("hanako", "taro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
        town.tell("safety.answered", person=person, status="safe")
    terms = {"to": {"recipient": "aizu-city"}, "kinds": ["safety.answered"], "purposes": ["rescue"], "data": "all"}
    town.tell("consent.granted", person="hanako", grant="g", modes=["normal", "emergency"], **terms)
    town.read("aizu-city", "rescue")
    town.read("clinic", "rescue")
    return town


def test_both_clients_read_what_the_log_holds_byte_for_byte(lively: Town, broker: Broker, prefix: str) -> None:
    hub = lively.hub
    assert relay_of(hub, broker, prefix, at_once=7).once(lambda sent: None)
    held = log_of(hub)
    confluent = [
        (m.key(), m.value(), dict(m.headers() or [])) for m in everything(broker.bootstrap, f"{prefix}hub.events")
    ]
    consumer = KafkaConsumer(
        f"{prefix}hub.events",
        bootstrap_servers=broker.bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=PATIENCE_S * 1_000,
    )
    python = []
    for message in consumer:
        python.append((message.key, message.value, dict(message.headers)))
        if len(python) == len(held):
            break
    consumer.close()
    assert sorted(confluent, key=str) == sorted(python, key=str)
    assert len(confluent) == len(held)
    for key, value, headers in confluent:
        assert value[0] == 0
        body = io.BytesIO(value[5:])
        record = fastavro.schemaless_reader(body, schema_of(hub, int.from_bytes(value[1:5])), None)
        assert isinstance(record, dict)
        assert body.read() == b""
        row = held.pop(record["position"])
        assert record == {name: getattr(row, name) for name in row._fields}
        assert record["leaf"] == leaf_of(record), "whoever has the message can prove it against the log's root"
        kind = row.topic.rpartition(".")[0]
        trace = kind in ("view.disclosed", "view.refused", "view.audited")
        assert key == (str(row.position) if trace else str(row.subject)).encode()
        recorded_at = datetime.fromisoformat(headers.pop("ce_time").decode())
        assert recorded_at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row.recorded_us)
        assert headers == {
            "ce_specversion": b"1.0",
            "ce_id": name_of(row.identity, row.identity_version).encode(),
            "ce_source": b"hub",
            "ce_type": kind.encode(),
            "ce_subject": key,
            "ce_position": str(row.position).encode(),
            "content-type": b"application/avro",
        }
    assert held == {}


@cache
def schema_of(hub: Hub, id: int) -> Any:
    """The schema of an id, as the registry says it over HTTP."""
    with served().over(hub) as client:
        said = client.get(f"/registry/schemas/ids/{id}", as_="auditor")
    return fastavro.parse_schema(json.loads(said.json["schema"]))


def leaf_of(record: Mapping[str, Any]) -> bytes:
    said = {name: value for name, value in record.items() if name != "leaf"}
    return merkle.leaf(**said, commitment=sealing.commitment_of(record["state"]))


def test_nothing_of_a_person_stands_in_clear(lively: Town, broker: Broker, prefix: str) -> None:
    relay_of(lively.hub, broker, prefix).once(lambda sent: None)
    for message in everything(broker.bootstrap, f"{prefix}hub.events"):
        whole = repr((message.key(), message.value(), message.headers()))
        assert not any(name in whole for name in ("hanako", "taro", "safe\\", "aizu-city"))


def test_what_is_about_one_person_stays_in_one_partition_in_order(
    writing: Writing, broker: Broker, prefix: str
) -> None:
    writing.write(3_000)
    assert relay_of(writing.hub, broker, prefix).once(lambda sent: None)
    partitions: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    for message in everything(broker.bootstrap, f"{prefix}hub.events"):
        key, position = message.key() or b"", int(header(message, "ce_position"))
        assert partitions.setdefault(key, message.partition() or 0) == (message.partition() or 0)
        assert message.partition() == (murmur2(key) & 0x7FFFFFFF) % 4, "every other client looks there for the key"
        assert position > last.get(key, 0)
        last[key] = position
    assert len(set(partitions.values())) == 4


def test_what_the_client_sends_again_is_there_once(writing: Writing, broker: Broker, prefix: str) -> None:
    """By the number of its producer and of each batch, as the broker has them on its disk."""
    if not broker.lasting:
        pytest.skip("the broker of the wheel has no disk")
    writing.write(100)
    assert relay_of(writing.hub, broker, prefix, at_once=20).once(lambda sent: None)
    numbers: dict[str, list[int]] = {}
    for path in (broker.folder / "data").glob(f"{prefix}hub.events-*/*.log"):
        for batch in MemoryRecords(path.read_bytes()):
            assert batch.has_producer_id()
            numbers.setdefault(path.parent.name, []).append(batch.base_sequence)
    assert len(numbers) == 4
    assert all(min(of) == 0 and sorted(set(of)) == of for of in numbers.values())


def test_the_broker_away_under_ingest_and_nothing_is_missing(writing: Writing, broker: Broker, prefix: str) -> None:
    path = settings(broker, prefix)
    relaying = Relaying(writing.url, path)
    writing.write(500)
    wait_for("the relay sends", lambda: writing.lag() == 0)
    (broker.stop if broker.lasting else broker.pause)()
    until, written = time.monotonic() + AWAY_S, 0
    while time.monotonic() < until:
        writing.write(100)
        written += 100
        time.sleep(0.02)
    assert written >= 100
    wait_for("the relay says that it fails", lambda: any(lag.error for lag in writing.hub.relayed.lags()))
    [lag] = writing.hub.relayed.lags()
    assert lag.events >= written
    assert lag.lag_s > 0
    assert lag.error is not None
    assert "broker" in lag.error
    (broker.start if broker.lasting else broker.resume)()
    wait_for("the relay catches up", lambda: writing.lag() == 0)
    assert relaying.end() == 0
    there = {int(header(m, "ce_position")) for m in everything(broker.bootstrap, f"{prefix}hub.events")}
    assert there == set(range(1, writing.position + 1))
    assert not any(lag.error for lag in writing.hub.relayed.lags())


def killed(writing: Writing, path: Path, kills: int, *, before: str = "", seed: int = 1) -> Iterator[None]:
    """Events come while a relay is killed and begun again; once more at the end, until all is sent."""
    some = random.Random(seed)
    for _ in range(kills):
        relaying = Relaying(writing.url, path, before=before)
        begun = writing.position
        writing.write(200)
        wait_for("it began", lambda begun=begun: writing.sent() > begun)  # type: ignore[misc]
        ends = threading.Timer(some.uniform(0, 0.4), relaying.end, args=(signal.SIGKILL,))
        ends.start()
        while ends.is_alive():
            writing.write(150)
        ends.join()
        yield
    relaying = Relaying(writing.url, path)
    wait_for("all is sent", lambda: writing.lag() == 0)
    assert relaying.end() == 0


def missing(writing: Writing, messages: Sequence[Message]) -> set[int]:
    return set(range(1, writing.position + 1)) - {int(header(m, "ce_position")) for m in messages}


def test_a_relay_killed_at_random_loses_nothing(writing: Writing, broker: Broker, prefix: str) -> None:
    for _ in killed(writing, settings(broker, prefix), KILLS):
        continue
    messages = everything(broker.bootstrap, f"{prefix}hub.events")
    assert missing(writing, messages) == set()
    held = log_of(writing.hub)
    seen: set[str] = set()
    last: dict[bytes, int] = {}
    for message in messages:  # what came twice is dropped; the rest is in order
        name, key, position = header(message, "ce_id"), message.key() or b"", int(header(message, "ce_position"))
        assert name == name_of(held[position].identity, held[position].identity_version)
        if name not in seen:
            assert position > last.get(key, 0)
            seen.add(name)
            last[key] = position
    assert len(seen) == writing.position


def test_the_control_that_stores_before_the_broker_has_it_loses_some(
    writing: Writing, broker: Broker, prefix: str
) -> None:
    topic = f"{prefix}hub.events"
    for _ in killed(writing, settings(broker, prefix), 40, before=STORES_FIRST):
        [lag] = writing.hub.relayed.lags()
        there = {int(header(m, "ce_position")) for m in everything(broker.bootstrap, topic)}
        if set(range(1, lag.position + 1)) - there:
            return
    pytest.fail("the control lost nothing: the test of the relay proves nothing")


def test_each_message_three_times_and_shuffled_ends_in_the_same_state(
    writing: Writing, broker: Broker, prefix: str
) -> None:
    writing.write(2_000)
    assert relay_of(writing.hub, broker, prefix).once(lambda sent: None)
    messages = everything(broker.bootstrap, f"{prefix}hub.events")
    shuffled = messages * 3
    random.Random(7).shuffle(shuffled)
    assert Consumed().fold(shuffled).state() == Consumed().fold(messages).state()
    assert Consumed(forgetful=True).fold(shuffled).state() != Consumed().fold(messages).state()


class Consumed:
    """A consumer as docs/kafka.md says: it drops what it has, and of a key keeps what is furthest in the log."""

    def __init__(self, *, forgetful: bool = False) -> None:
        self._forgetful = forgetful
        self._seen: set[str] = set()
        self._counts: dict[str, int] = {}
        self._last: dict[bytes, tuple[int, str]] = {}

    def fold(self, messages: Sequence[Message]) -> Consumed:
        for message in messages:
            name, kind, key = header(message, "ce_id"), header(message, "ce_type"), message.key() or b""
            if name in self._seen and not self._forgetful:
                continue
            self._seen.add(name)
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._last[key] = max(self._last.get(key, (0, "")), (int(header(message, "ce_position")), name))
        return self

    def state(self) -> Any:
        return self._counts, self._last


def test_a_standby_takes_over_from_one_that_was_killed(writing: Writing, broker: Broker, prefix: str) -> None:
    path = settings(broker, prefix)
    first = Relaying(writing.url, path)
    writing.write(100)
    wait_for("the first sends", lambda: writing.lag() == 0)
    second = Relaying(writing.url, path)
    writing.write(100)
    wait_for("one of them sends", lambda: writing.lag() == 0)
    first.end(signal.SIGKILL)
    writing.write(100)
    wait_for("the second sends", lambda: writing.lag() == 0)
    assert second.end() == 0
    assert any(sent["messages"] for sent in second.sent)
    assert missing(writing, everything(broker.bootstrap, f"{prefix}hub.events")) == set()


def test_a_line_stays_ours_while_the_broker_takes_its_time(writing: Writing, broker: Broker, prefix: str) -> None:
    """Twice as long as a lease."""
    path = settings(broker, prefix)
    path.write_text(path.read_text().replace("lease_s = 1", "lease_s = 4"))
    at, other = kafka.Broker(load(path, {})), Relayed(writing.hub.log)
    line = EventsLine(writing.hub.log, at, Registry(writing.hub.log.schemas))
    stop = threading.Event()
    running = threading.Thread(
        target=Relay(writing.hub.relayed, at, lambda: [line]).run, args=(stop, lambda sent: None)
    )
    running.start()
    try:
        wait_for("it sends", lambda: writing.lag() == 0)
        broker.pause()
        writing.write(10)
        until = time.monotonic() + 8
        while time.monotonic() < until:
            assert other.take(line.name, timedelta(seconds=4)) is None
            time.sleep(0.1)
        broker.resume()
        wait_for("it sends again", lambda: writing.lag() == 0)
    finally:
        broker.resume()
        stop.set()
        running.join()


def test_a_line_stays_ours_while_it_is_being_decided(writing: Writing, broker: Broker, prefix: str) -> None:
    """Twice as long as a lease, as where memory is cold; and the relay is counted all the while."""
    path = settings(broker, prefix)
    path.write_text(path.read_text().replace("lease_s = 1", "lease_s = 4"))
    at, other = kafka.Broker(load(path, {})), Relayed(writing.hub.log)
    stop, decides, decided = threading.Event(), threading.Event(), threading.Event()

    class Cold(EventsLine):
        def piece(self, held: Held) -> Piece | None:
            decides.set()
            decided.wait(PATIENCE_S)
            return super().piece(held)

    line, told = Cold(writing.hub.log, at, Registry(writing.hub.log.schemas)), list[Sent]()
    relay = Relay(writing.hub.relayed, at, lambda: [line])
    running = threading.Thread(target=relay.run, args=(stop, told.append))
    running.start()
    try:
        assert decides.wait(PATIENCE_S)
        until = time.monotonic() + 2 * at.settings.lease_s
        while time.monotonic() < until:
            assert other.take(line.name, timedelta(seconds=4)) is None
            assert other.present(timedelta(seconds=4)) == 2
            time.sleep(0.1)
        decided.set()
        wait_for("it sends", lambda: writing.lag() == 0)
    finally:
        decided.set()
        stop.set()
        running.join()
    assert {sent.error for sent in told} == {None}


def test_one_who_was_overtaken_stores_nothing(writing: Writing, broker: Broker, prefix: str) -> None:
    hub, other = writing.hub, Relayed(writing.hub.log)
    held = hub.relayed.take("hub.events", timedelta(0))
    assert held is not None
    assert other.take("hub.events", timedelta(minutes=1)) is not None
    assert hub.relayed.advance(held, timedelta(minutes=1), position=9) is None
    assert not hub.relayed.renew(held, timedelta(minutes=1))
    hub.relayed.release(held)
    assert hub.relayed.take("hub.events", timedelta(minutes=1)) is None
    assert [lag.position for lag in hub.relayed.lags()] == [0]
    told: list[Sent] = []
    assert not relay_of(hub, broker, prefix).once(told.append)
    assert told == []


def test_one_who_is_overtaken_while_it_decides_sends_nothing(town: Town, broker: Broker, prefix: str) -> None:
    at = kafka.Broker(load(settings(broker, prefix), {}))
    other = Relayed(town.hub.log)

    class Stalls(EventsLine):
        def piece(self, held: Held) -> Piece | None:
            found = super().piece(held)
            town.wait(timedelta(hours=1))
            assert other.take(self.name, timedelta(minutes=1)) is not None
            return found

    line = Stalls(town.hub.log, at, Registry(town.hub.log.schemas))
    told: list[Sent] = []
    assert not Relay(town.hub.relayed, at, lambda: [line]).once(told.append)
    assert told == []
    at.ensure(line.topics)
    sent = Relay(Relayed(town.hub.log), at, lambda: [EventsLine(town.hub.log, at, Registry(town.hub.log.schemas))])
    town.wait(timedelta(hours=1))
    assert sent.once(told.append)
    there = everything(broker.bootstrap, f"{prefix}hub.events")
    assert len(there) == sum(one.messages for one in told), "what was overtaken was sent as well"


def test_a_delivery_that_fails_is_told_and_not_passed_over(writing: Writing, broker: Broker, prefix: str) -> None:
    if not broker.lasting:
        pytest.skip("the broker of the wheel has no largest size")
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics({f"{prefix}hub.events": {"configs": {"max.message.bytes": "100"}}})
    admin.close()
    told: list[Sent] = []
    assert not relay_of(writing.hub, broker, prefix).once(told.append)
    assert [sent.error for sent in told] == [
        "the broker refuses the size of a message; see max.message.bytes of its topic"
    ]
    [lag] = writing.hub.relayed.lags()
    assert (lag.position, lag.failures) == (0, 1)


def hub_relay(writing: Writing, path: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "HUB_KAFKA"}
    env |= {"HUB_DATABASE_URL": writing.url} | ({} if path is None else {"HUB_KAFKA": str(path)})
    command = [sys.executable, "-c", COMMAND, "relay", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_once_sends_what_is_there_and_status_says_how_far(writing: Writing, broker: Broker, prefix: str) -> None:
    path = settings(broker, prefix)
    missing_file = hub_relay(writing, None, "--once")
    assert (missing_file.returncode, "HUB_KAFKA" in missing_file.stderr) == (2, True)
    assert hub_relay(writing, path, "--once").returncode == 0
    writing.write(3)
    [row] = json.loads(hub_relay(writing, None, "--status", "--json").stdout)
    assert (row["line"], row["lag_events"], row["failures"], row["error"]) == ("hub.events", 3, 0, None)
    assert row["position"] == writing.position - 3
    said = hub_relay(writing, None, "--status").stdout
    assert "3 events" in said
    assert "; no relay is sending" in said
    assert row["relay"] is None
    away = path.with_name("away.toml")
    away.write_text(path.read_text().replace(broker.bootstrap, "127.0.0.1:1"))
    failed = hub_relay(writing, away, "--once")
    assert (failed.returncode, "does not answer" in failed.stdout) == (1, True)
    assert "fails, 1 in a row: the broker does not answer in time" in hub_relay(writing, None, "--status").stdout
