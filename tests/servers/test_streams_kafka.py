"""Streams over a real broker: whatever is killed, stopped or slow, a consumer shows what may be seen, and no more.

Long form: HUB_TEST_KILLS=50 HUB_TEST_AWAY_S=60 HUB_TEST_OPENED=50000.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

import brokers
from brokers import Broker
from hub.answer import Query
from hub.cli.opening import Opening
from hub.errors import Busy
from hub.events import Event
from hub.hub import Hub
from hub.registry import Registry
from hub.relay import broker as kafka
from hub.relay.events import EventsLine
from hub.relay.line import Piece
from hub.relay.relay import Relay, Sent
from hub.relay.settings import load
from hub.relay.views import ViewLines
from hub.relayed import Held, Relayed
from hub.scenario import flat_event
from hub.sdk import View, topic_of
from streams import HubKeys, shown
from test_feeds import shown_now

# of a broker that is away the client leaves sockets to the collector that were never connected
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

KILLS = int(os.environ.get("HUB_TEST_KILLS", "6"))
AWAY_S = float(os.environ.get("HUB_TEST_AWAY_S", "4"))
OPENED = int(os.environ.get("HUB_TEST_OPENED", "200"))
AT_ONCE = 500 if OPENED > 2_000 else 20
PATIENCE_S = 120 + OPENED / 100
RECIPIENTS = ("aizu-city", "koriyama-city", "central-hospital", "clinic")

COMMAND = "from hub.cli import main; main()"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What the client left is collected here, where it is expected, and not at the end of the run."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    brokers.needed()
    found = Broker().start()
    yield found
    found.close()


@pytest.fixture
def settings(broker: Broker, request: pytest.FixtureRequest) -> Path:
    """The Kafka file of a test, with topics of its own."""
    path = broker.settings()
    path.write_text(path.read_text() + f'prefix = "t{abs(hash(request.node.name)) % 10**8}."\n')
    return path


class City:
    """A hub on the machine's clock, whose four recipients each have a stream."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'hub.sqlite3'}"
        self.hub: Hub = Opening(self.url)()
        self.hub.init()
        self._count = 0
        for recipient in RECIPIENTS:
            class_ = {"class": "municipality"}
            self.tell("recipient.registered", recipient=recipient, **class_, areas=["07202"], purposes=["rescue"])
            self.tell("stream.registered", recipient=recipient, stream="rescue", purpose="rescue")

    def event(self, kind: str, **data: Any) -> Event:
        self._count += 1
        return flat_event(kind, data, f"e{self._count}")

    def take(self, events: Sequence[Event]) -> None:
        results = self.hub.intake.take(events)
        assert {result.status for result in results} <= {"accepted"}, [r.error for r in results if r.error][:3]

    def tell(self, kind: str, **data: Any) -> None:
        self.take([self.event(kind, **data)])

    def people(self, names: Sequence[str], modes: Sequence[str] = ("normal", "emergency")) -> None:
        """Persons who let every municipality see all of them."""
        terms = {"to": {"class": "municipality"}, "kinds": ["*"], "purposes": ["rescue"], "modes": list(modes)}
        if "normal" in modes:
            terms["data"] = "all"
        self.take([self.event("person.enrolled", person=name, areas=["07202"]) for name in names])
        self.take([self.event("consent.granted", person=name, grant=f"g {name}", **terms) for name in names])
        self.take([self.event("safety.answered", person=name, status="safe") for name in names])

    def sees(self, recipient: str) -> dict[str, Any]:
        return shown_now(self.hub, Query(recipient=recipient, purpose="rescue"))

    def declare(self) -> None:
        until = self.hub.log.clock.now() + timedelta(hours=2)
        self.tell("emergency.declared", emergency=f"e{self._count}", areas=["07202"], until=until, hazard="flood")


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    found = City(tmp_path)
    yield found
    found.hub.close()


class Consumer:
    """Reads the topic of a recipient as it grows. slow_s: how long it takes over a record."""

    def __init__(self, city: City, settings: Path, recipient: str, *, slow_s: float = 0) -> None:
        at = kafka.Broker(load(settings, {}))
        topic = at.view(topic_of(recipient).removeprefix(kafka.VIEWS))
        at.ensure([topic])
        self.topic, self.view = topic.name, View(recipient, HubKeys(city.hub, recipient))
        self.records: list[Any] = []
        self._slow_s, self._city, self._recipient = slow_s, city, recipient
        self._client = KafkaConsumer(bootstrap_servers=list(at.settings.bootstrap), enable_auto_commit=False)
        self._at = TopicPartition(self.topic, 0)
        self._client.assign([self._at])
        self._client.seek_to_beginning(self._at)

    def read(self) -> None:
        """Take all that is there by now."""
        end = self._client.end_offsets([self._at])[self._at]
        while self._client.position(self._at) < end:
            for records in self._client.poll(timeout_ms=200).values():
                for record in records:
                    self.records.append(record)
                    self.view.take(record.key, record.value, record.headers)
                    time.sleep(self._slow_s)

    def again(self) -> dict[str, Any]:
        """What another consumer shows that is given every record three times, shuffled."""
        other = View(self._recipient, HubKeys(self._city.hub, self._recipient))
        for record in random.Random(7).sample(self.records * 3, 3 * len(self.records)):
            other.take(record.key, record.value, record.headers)
        return shown(other)

    def settles(self) -> None:
        """Until it shows what the hub would, having taken every record, thrice too."""

        def settled() -> bool:
            self.read()
            return shown(self.view) == self._city.sees(self._recipient)

        wait_for(f"what {self._recipient} shows", settled)
        assert self.again() == shown(self.view)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def consumer(city: City, settings: Path) -> Iterator[Callable[..., Consumer]]:
    made: list[Consumer] = []

    def make(recipient: str = "aizu-city", **more: Any) -> Consumer:
        made.append(Consumer(city, settings, recipient, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def wait_for(what: str, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Told(list[Sent]):
    """What a relay said of its pieces. halt: a line that says something that this holds for waits until `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.halt: Callable[[Sent], bool] = lambda sent: False
        self.halted: set[str] = set()
        self.go_on = threading.Event()

    def __call__(self, sent: Sent) -> None:
        self.append(sent)
        if self.halt(sent) and not self.go_on.is_set():
            self.halted.add(sent.name)
            self.go_on.wait(PATIENCE_S)


@contextmanager
def relaying(city: City, settings: Path, *, at_once: int = AT_ONCE, relayed: Relayed | None = None) -> Iterator[Told]:
    """A relay of this process, of every line. relayed: another relay's than the city's own."""
    at, registry = kafka.Broker(load(settings, {})), Registry(city.hub.log.schemas)
    views, events = ViewLines(city.hub, at, registry, at_once=at_once), EventsLine(city.hub.log, at, registry)
    stop, told = threading.Event(), Told()
    relay = Relay(relayed or city.hub.relayed, at, lambda: [events, *views.lines()])
    thread = threading.Thread(target=relay.run, args=(stop, told))
    thread.start()
    try:
        yield told
    finally:
        told.go_on.set()
        stop.set()
        thread.join()


def stir(city: City, rng: random.Random, names: Sequence[str]) -> None:
    """Something changes for somebody."""
    name = rng.choice(names)
    match rng.randrange(5):
        case 0 | 1:
            city.tell("safety.answered", person=name, status=rng.choice(["safe", "injured", "need_help"]))
        case 2:
            city.tell("consent.revoked", person=name, grant="all")
        case 3:
            to = {"class": "municipality"}
            terms = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal", "emergency"], "data": "all"}
            city.tell("consent.granted", person=name, grant=f"g{rng.random()}", to=to, **terms)
        case _:
            kind = rng.choice(["block.added", "block.removed"])
            city.tell(kind, person=name, to={"recipient": rng.choice(RECIPIENTS)})


def test_a_relay_that_is_killed_again_and_again_leaves_consumers_with_what_may_be_seen(
    city: City, settings: Path, consumer: Callable[..., Consumer]
) -> None:
    rng = random.Random(KILLS)
    names = [f"p{number}" for number in range(30)]
    city.people(names)
    readers = [consumer(recipient) for recipient in RECIPIENTS[:2]]
    env = {**os.environ, "HUB_DATABASE_URL": city.url, "HUB_KAFKA": str(settings)}
    for _ in range(KILLS):
        popen = subprocess.Popen([sys.executable, "-c", COMMAND, "relay"], env=env, stdout=subprocess.DEVNULL)
        before, until = len(readers[0].records), float("inf")
        while time.monotonic() < until:
            stir(city, rng, names)
            for reader in readers:
                reader.read()
            if until == float("inf") and len(readers[0].records) > before:
                until = time.monotonic() + rng.uniform(0, 2)
        assert popen.poll() is None, "the relay ended by itself"
        popen.send_signal(signal.SIGKILL)
        popen.wait()
    with relaying(city, settings):
        for reader in readers:
            reader.settles()
    assert min(len(reader.records) for reader in readers) > KILLS * 2, "too little was sent"


def senders(city: City) -> list[int]:
    """How many lines each relay sends on, and how many nobody does."""
    by = Counter(lag.relay for lag in city.hub.relayed.lags())
    return [by.pop(None, 0), *sorted(by.values())]


def test_relays_share_the_lines_and_whoever_is_killed_is_followed_by_the_other(
    city: City, settings: Path, consumer: Callable[..., Consumer]
) -> None:
    rng, names = random.Random(KILLS), [f"p{number}" for number in range(30)]
    city.people(names)
    readers = [consumer(recipient) for recipient in RECIPIENTS]
    env = {**os.environ, "HUB_DATABASE_URL": city.url, "HUB_KAFKA": str(settings)}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(max(3, KILLS // 2)):
            while len(running) < 2:
                command = [sys.executable, "-c", COMMAND, "relay"]
                running.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
            wait_for("both send", lambda: senders(city) == [0, 2, 3])
            stir(city, rng, names)
            time.sleep(rng.uniform(0, 0.5))
            killed = running.pop(rng.randrange(2))
            killed.kill()
            killed.wait()
            stir(city, rng, names)
            wait_for("the other sends all", lambda: senders(city) == [0, 5])
        for reader in readers:
            reader.settles()
        [last] = running
        last.terminate()
        assert last.wait(60) == 0
        assert senders(city) == [5]
    finally:
        for popen in running:
            popen.kill()
            popen.wait()


def test_a_line_that_is_handed_on_goes_on_where_it_stands(
    city: City, settings: Path, consumer: Callable[..., Consumer]
) -> None:
    city.people(["hanako", "taro"])
    readers = [consumer(recipient) for recipient in RECIPIENTS]
    with relaying(city, settings):
        for reader in readers:
            reader.settles()
        with relaying(city, settings, relayed=Relayed(city.hub.log)) as told:
            wait_for("both send", lambda: senders(city) == [0, 2, 3])
            city.tell("consent.revoked", person="taro", grant="all")
            for reader in readers:
                reader.settles()
        wait_for("the first sends all", lambda: senders(city) == [0, 5])
        city.tell("safety.answered", person="hanako", status="injured")
        for reader in readers:
            reader.settles()
    assert {sent.error for sent in told} == {None}
    for reader in readers:
        marks = [record for record in reader.records if record.key.endswith(b"/")]
        assert len(marks) == 1, "a generation was begun that nothing called for"
        assert list(shown(reader.view)) == ["hanako"]


def test_what_fails_with_one_is_taken_by_another_that_has_its_part(city: City, settings: Path) -> None:
    """As where one of two machines has lost its rights at the broker."""
    at, registry = kafka.Broker(load(settings, {})), Registry(city.hub.log.schemas)

    class Refused(EventsLine):
        def piece(self, held: Held) -> Piece | None:
            raise Busy("no")

    class Other(EventsLine):
        name = "other"

    def lines(kind: type[EventsLine]) -> list[EventsLine]:
        return [of(city.hub.log, at, registry) for of in (kind, Other)]

    relays = [
        Relay(Relayed(city.hub.log), at, lambda: lines(Refused)),
        Relay(Relayed(city.hub.log), at, lambda: lines(EventsLine)),
    ]
    stop = threading.Event()
    threads = [threading.Thread(target=relay.run, args=(stop, lambda sent: None)) for relay in relays]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            city.tell("person.enrolled", person=f"p{city.hub.log.entries.max_notification_id()}", areas=["07202"])
            wait_for("both lines are sent", lambda: {lag.position for lag in city.hub.relayed.lags()} == {_end(city)})
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_while_the_broker_is_away_events_come_in_and_nothing_is_decided(
    city: City, settings: Path, consumer: Callable[..., Consumer], broker: Broker
) -> None:
    if not broker.lasting:
        pytest.skip("this broker forgets what it has")
    city.people(["hanako", "taro"])
    reader = consumer()
    with relaying(city, settings):
        reader.settles()
        broker.stop()
        city.tell("consent.revoked", person="taro", grant="all")
        until = time.monotonic() + AWAY_S
        while time.monotonic() < until:
            city.tell("safety.answered", person="hanako", status="injured")
            time.sleep(0.1)
        disclosures = len(city.hub.audit.disclosures())
        time.sleep(1.5)
        assert len(city.hub.audit.disclosures()) == disclosures, "something was decided that could not leave"
        broker.start()
        reader.settles()
    assert list(shown(reader.view)) == ["hanako"]


def test_a_slow_consumer_holds_up_nobody_and_ends_the_same(
    city: City, settings: Path, consumer: Callable[..., Consumer]
) -> None:
    names = [f"p{number}" for number in range(20)]
    city.people(names)
    rng = random.Random(5)
    quick, slow = consumer(), consumer(slow_s=0.1)
    with relaying(city, settings):
        quick.settles()
        begun = time.perf_counter()
        for _ in range(60):
            stir(city, rng, names)
        thread = threading.Thread(target=slow.read)
        thread.start()
        quick.settles()
        quick_s = time.perf_counter() - begun
        thread.join()
        slow.settles()
    sys.stdout.write(f"{len(quick.records)} records, read within {quick_s:.1f} s, by the slow in 0.1 s each\n")
    assert shown(slow.view) == shown(quick.view)


def test_the_broker_holds_nothing_in_the_clear(
    city: City, settings: Path, consumer: Callable[..., Consumer], broker: Broker
) -> None:
    planted = ["planted-hanako-7f3a", "planted-taro-9c1e"]
    city.people(planted)
    city.tell("location.reported", person=planted[0], lat_deg=37.4948, lon_deg=139.9298, accuracy_m=5)
    reader = consumer()
    with relaying(city, settings):
        reader.settles()
        city.tell("consent.revoked", person=planted[1], grant="all")
        reader.settles()
    assert list(shown(reader.view)) == planted[:1]
    whole = b"".join(
        b"".join([record.key, record.value or b"", *(name.encode() + (value or b"") for name, value in record.headers)])
        for record in reader.records
    )
    files = [path for path in broker.folder.rglob("*.log") if reader.topic in str(path)]
    whole += b"".join(path.read_bytes() for path in files)
    assert not broker.lasting or files
    digests = [city.hub.disclosure.name_of(name) for name in planted]
    for said in (*planted, *digests, "37.49", "139.92", "safety.answered", "location.reported", "lat_deg"):
        assert said.encode() not in whole, said
    assert bytes.fromhex(digests[0]) not in whole


def test_the_keys_of_another_open_nothing_and_a_retired_recipient_has_none(
    city: City, settings: Path, consumer: Callable[..., Consumer]
) -> None:
    city.people(["hanako", "taro"])
    reader = consumer()
    with relaying(city, settings):
        reader.settles()
        stolen = View("aizu-city", HubKeys(city.hub, "clinic"))
        assert {stolen.take(r.key, r.value, r.headers) for r in reader.records} == {"removed"}
        shows = [record for record in reader.records if record.value is not None]
        city.tell("recipient.retired", recipient="aizu-city")
        late = View("aizu-city", HubKeys(city.hub, "aizu-city"))
        assert {late.take(r.key, r.value, r.headers) for r in shows} == {"removed"}

        def emptied() -> bool:
            reader.read()
            return not shown(reader.view)

        wait_for("that the retired recipient forgets", emptied)
        last = {record.key: record.value for record in reader.records}
        assert not any(last.values()), "a key has no tombstone"


def test_an_emergency_opens_many_and_a_revocation_goes_before_them(
    city: City, settings: Path, consumer: Callable[..., Consumer]
) -> None:
    names = [f"p{number:05}" for number in range(OPENED)]
    for at in range(0, OPENED, 5_000):
        city.people(names[at : at + 5_000], modes=["emergency"])
    city.people(["taro"])
    readers = [consumer(recipient) for recipient in RECIPIENTS]
    with relaying(city, settings) as told:
        for reader in readers:
            reader.settles()
            assert list(shown(reader.view)) == ["taro"]
        begun = time.perf_counter()
        lines = {f"{topic_of(recipient)}/rescue" for recipient in RECIPIENTS}
        told.halt = lambda sent: sent.name in lines and sent.messages > 1
        city.declare()
        wait_for("that all begin", lambda: lines <= told.halted)
        city.tell("consent.revoked", person="taro", grant="all")
        told.go_on.set()
        wait_for("hub.events", lambda: _position(told, "hub.events") >= _end(city))
        events_s = time.perf_counter() - begun
        for reader in readers:
            reader.settles()
        seconds = time.perf_counter() - begun
    for reader in readers:
        assert len(shown(reader.view)) == OPENED
        values = [record.value for record in reader.records[2:]]
        gone = len(values) - 1 - values[::-1].index(None)
        sys.stdout.write(f"{reader.topic}: taken back after {gone} of {len(values)} records\n")
        assert gone < len(values) - AT_ONCE, "the revocation waited for the sweep"
    sys.stdout.write(f"{OPENED} persons to four in {seconds:.1f} s; hub.events was through after {events_s:.1f} s\n")


def _position(told: Sequence[Sent], name: str) -> int:
    return max((sent.position for sent in told if sent.name == name), default=0)


def _end(city: City) -> int:
    return city.hub.log.entries.max_notification_id() or 0
