"""The broker, whatever goes over it: topics as they have to be, and what of a delivery is known."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

import brokers
from brokers import Broker
from hub.errors import Misuse
from hub.relay import broker as kafka
from hub.relay.settings import load


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


def test_a_topic_that_would_lose_what_it_has_to_keep_is_refused(broker: Broker, prefix: str) -> None:
    if not broker.lasting:
        pytest.skip("the broker of the wheel tells nothing of a topic's configuration")
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics({f"{prefix}hub.events": {"configs": {"cleanup.policy": "compact"}}})
    admin.create_topics({f"{prefix}hub.view.clinic": {"configs": {"cleanup.policy": "compact"}}})
    admin.create_topics({f"{prefix}hub.ingest": {"configs": {"max.message.bytes": "30000000"}}})
    short = {"cleanup.policy": "compact,delete", "retention.ms": "3600000", "delete.retention.ms": "86400000"}
    admin.create_topics({f"{prefix}hub.view.other": {"configs": short}})
    for name, kept_ms in (("long", "691200000"), ("ever", "-1")):
        admin.create_topics({f"{prefix}hub.view.{name}": {"configs": {**short, "retention.ms": kept_ms}}})
    packed = {"compression.type": "gzip", "max.message.bytes": "1000000"}
    admin.create_topics({f"{prefix}packed.hub.ingest": {"configs": packed}})
    admin.close()
    at = kafka.Broker(load(settings(broker, prefix), {}))
    with pytest.raises(Misuse, match=r"cleanup\.policy=delete"):
        at.ensure([at.events()])
    for name in ("clinic", "long", "ever"):
        with pytest.raises(Misuse, match=r" retention\.ms=604800000, and delete"):
            at.ensure([at.view(name)])
    for name, wrong in (("hub.ingest", "max.message.bytes"), ("hub.view.other", "delete.retention.ms")):
        with pytest.raises(Misuse, match=wrong.replace(".", r"\.")):
            at.ensure([at.ingest() if name == "hub.ingest" else at.view("other")])
    at.ensure([at.view("aizu-city"), at.refused()])
    again = kafka.Broker(at.settings)
    again.ensure([at.view("aizu-city"), at.refused()])
    other = kafka.Broker(replace(at.settings, topics=replace(at.settings.topics, prefix=f"{prefix}other.")))
    other.ensure([other.ingest()])
    kafka.Broker(other.settings).ensure([other.ingest()])
    packing = kafka.Broker(replace(at.settings, topics=replace(at.settings.topics, prefix=f"{prefix}packed.")))
    with pytest.raises(Misuse, match=r"compression\.type=uncompressed"):
        packing.ensure([packing.ingest()])
    looking = kafka.Broker(
        replace(at.settings, topics=replace(at.settings.topics, prefix=f"{prefix}none.", create=False))
    )
    with pytest.raises(Misuse, match=r"none\.hub\.events is missing; make it"):
        looking.ensure([looking.events()])


def test_what_failed_before_anyone_looked_is_told_too(broker: Broker, prefix: str) -> None:
    if not broker.lasting:
        pytest.skip("the broker of the wheel has no largest size")
    at = kafka.Broker(load(settings(broker, prefix), {}))
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        admin.create_topics({f"{prefix}hub.events": {"configs": {"max.message.bytes": "100"}}})
    at.ensure([at.refused()])
    large = kafka.Message(topic=at.events().name, key=b"k", value=os.urandom(1_000))
    small = kafka.Message(topic=at.refused().name, key=b"k", value=b"x")
    with closing(at.sender()) as sender:
        sender.deliver([small])

        class Slow(list[kafka.Message]):
            """The broker has judged each before the next is given."""

            def __iter__(self) -> Iterator[kafka.Message]:
                for message in super().__iter__():
                    yield message
                    sender._producer.flush(60)

        with pytest.raises(Misuse, match="refuses the size"):
            sender.deliver(Slow([large, small]))
        sender.deliver([small])
