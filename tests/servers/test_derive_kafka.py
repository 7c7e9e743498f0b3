"""`hub derive --kafka` against a real broker: several processes, killed, frozen and joined at random, lose and repeat
nothing.

Long form: HUB_TEST_KILLS=50.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import delete, select

import brokers
from brokers import Broker
from conftest import Town
from hub.answer import Query
from hub.registry import Registry
from hub.relay import broker as kafka
from hub.relay.derive import Derived, Member
from hub.relay.events import EventsLine
from hub.relay.relay import Relay
from hub.relay.settings import load
from hub.views import index
from hub.views.index import share
from test_derived import by_chunks, rows

KILLS = int(os.environ.get("HUB_TEST_KILLS", "8"))
PARTITIONS = 4
PATIENCE_S = 180
COMMAND = "from hub.cli import main; main()"


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    brokers.needed()
    found = Broker().start()
    yield found
    found.close()


class Topic:
    """A town whose log goes to a topic of its own."""

    def __init__(self, broker: Broker, town: Town, prefix: str) -> None:
        self.broker, self.town, self.prefix = broker, town, prefix
        self.settings = broker.settings(f'prefix = "{prefix}"\n', partitions=PARTITIONS)
        self.at = kafka.Broker(load(self.settings, {}))
        events = EventsLine(town.hub.log, self.at, Registry(town.hub.log.schemas))
        self.relay = Relay(town.hub.relayed, self.at, lambda: [events])

    def publish(self) -> None:
        assert self.relay.once(lambda sent: None)

    def process(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "HUB_KAFKA": str(self.settings), "HUB_DATABASE_URL": self.town.url}
        with Path(self.town.folder / "derive.out").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-c", COMMAND, "derive", "--kafka"], env=environment, stdout=out, stderr=out
            )

    def offsets(self) -> dict[str, int]:
        with self.town.hub.log.entries.snapshot() as (connection, _):
            query = select(share.c.name, share.c.next).where(share.c.name != index.WHOLE)
            return dict(map(tuple, connection.execute(query)))  # type: ignore[arg-type]

    def ends(self) -> dict[str, int]:
        """By partition where it ends at the broker; empty ones are left out."""
        topic = f"{self.prefix}hub.events"
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": "look"})
        try:
            marks = {
                n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=60)[1] for n in range(PARTITIONS)
            }
        finally:
            consumer.close()
        return {f"{topic}/{n}": end for n, end in marks.items() if end}


@pytest.fixture
def topic(broker: Broker, town: Town, request: pytest.FixtureRequest) -> Topic:
    said = {"class": "hospital", "areas": ["*"], "purposes": ["care"]}
    town.tell("recipient.registered", recipient="clinic", **said)
    grant = {"to": {"recipient": "clinic"}, "kinds": ["safety.answered"], "purposes": ["care"], "modes": ["normal"]}
    for n in range(12):
        town.tell("person.enrolled", person=f"p{n}", areas=["07202"])
        town.tell("consent.granted", person=f"p{n}", grant=f"g{n}", **grant)
        town.tell("safety.answered", person=f"p{n}", status="safe")
    return Topic(broker, town, f"d{abs(hash(request.node.name)) % 10**8}.")


def looked(town: Town, rng: random.Random, times: int) -> None:
    """Looks at some of the persons."""
    for _ in range(times):
        persons = tuple(town.hub.disclosure.name_of(f"p{n}") for n in rng.sample(range(12), 5))
        town.hub.disclosure.read(Query(recipient="clinic", purpose="care", persons=persons))


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_processes_that_are_killed_frozen_and_joined_end_equal_to_a_rebuild(topic: Topic) -> None:
    rng, town = random.Random(4), topic.town
    looked(town, rng, 20)
    topic.publish()
    members = [topic.process() for _ in range(2)]
    frozen: list[subprocess.Popen[bytes]] = []
    try:
        until(lambda: bool(topic.offsets()), "nobody began")
        for turn in range(KILLS):
            looked(town, rng, 15)
            if turn == KILLS // 2:
                town.tell("person.erased", person="p3")
            topic.publish()
            time.sleep(rng.uniform(0.0, 1.5))  # anywhere in a member's work
            victim = members.pop(rng.randrange(len(members)))
            if turn % 3 == 2:
                victim.send_signal(signal.SIGSTOP)  # it wakes later, with partitions that others have
                frozen.append(victim)
            else:
                victim.send_signal(rng.choice((signal.SIGKILL, signal.SIGTERM)))
                victim.wait(60)
            members.append(topic.process())
            for zombie in frozen[:-1]:
                zombie.send_signal(signal.SIGCONT)
        for zombie in frozen:
            zombie.send_signal(signal.SIGCONT)
        topic.publish()
        until(lambda: topic.offsets() == topic.ends(), f"{topic.offsets()} of {topic.ends()}")
        assert town.hub.index.lag().waiting == 0
    finally:
        for member in [*members, *frozen]:
            member.send_signal(signal.SIGCONT)
            member.kill()
            member.wait(60)
    found = rows(town)
    assert found == by_chunks(town)
    assert len(found) > 100
    town.hub.audit.verify()
    town.hub.views.rebuild()
    assert rows(town) == found


def test_a_partition_goes_on_where_its_rows_end_and_not_where_the_group_was(topic: Topic) -> None:
    rng, town = random.Random(5), topic.town
    looked(town, rng, 10)
    topic.publish()
    run(topic, lambda: topic.offsets() == topic.ends())
    with town.hub.log.entries.maintaining() as connection:  # an older state of the database, as of a backup
        index.clear(connection)
        connection.execute(delete(share))
    assert town.hub.index.lag().waiting == 10
    run(topic, lambda: topic.offsets() == topic.ends())
    assert rows(town) == by_chunks(town)
    assert town.hub.index.lag().waiting == 0


def test_a_group_that_finds_less_in_the_topic_than_it_needs_reads_the_log(topic: Topic) -> None:
    rng, town = random.Random(6), topic.town
    looked(town, rng, 10)
    topic.publish()
    forget_half(topic)
    run(topic, lambda: topic.offsets() == topic.ends())
    until(lambda: town.hub.index.lag().waiting == 0, "what the topic lost is not there")
    assert rows(town) == by_chunks(town)


def forget_half(topic: Topic) -> None:
    """Have the broker forget the first half of each partition, as after its retention."""
    admin = AdminClient({"bootstrap.servers": topic.broker.bootstrap})
    ends = [
        TopicPartition(name.partition("/")[0], int(name.partition("/")[2]), end // 2)
        for name, end in topic.ends().items()
    ]
    for future in admin.delete_records(ends).values():
        future.result(30)


def run(topic: Topic, done: Callable[[], bool]) -> list[Derived]:
    """A member in this process, until `done`."""
    stop, told, failed = threading.Event(), list[Derived](), list[Any]()

    def work() -> None:
        try:
            Member(topic.town.hub.index, topic.at).run(stop, told.append)
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until(lambda: done() or bool(failed), "the member does not come to the end")
    finally:
        stop.set()
        thread.join(60)
    assert not failed
    return told
