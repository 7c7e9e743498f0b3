"""What comes by a topic: `hub.ingest` of a test's own, and who writes to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Message, Producer

from brokers import Broker, everything, header
from doors import cloudevent
from hub.relay import broker as kafka
from hub.relay.settings import load

SOURCES = '[ingest.sources]\nmyhazard = ["safety.answered", "location.*", "care.*"]\n'
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
BATCH = [("content-type", b"application/cloudevents-batch+json")]


class Door:
    """A topic of a test's own, and who writes to it."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self.broker, self.prefix = broker, prefix
        self.settings = broker.settings()
        self.settings.write_text(self.settings.read_text() + f'prefix = "{prefix}"\n{SOURCES}')
        self.at = kafka.Broker(load(self.settings, {}))
        self.at.ensure([self.at.ingest(), self.at.refused()])
        self._producer = Producer(
            {"bootstrap.servers": broker.bootstrap, "message.max.bytes": 20_000_000, "log_level": 0}
        )
        self.sent = 0

    def send(self, value: bytes | None, headers: Any = (), key: bytes | None = None, partition: int = -1) -> None:
        failed: list[Any] = []
        more = {} if partition < 0 else {"partition": partition}
        topic = f"{self.prefix}hub.ingest"
        while True:
            try:
                self._producer.produce(
                    topic, value, key, headers=list(headers), on_delivery=lambda e, _: failed.append(e), **more
                )
                break
            except BufferError:
                self._producer.poll(0.1)
        self.sent += 1
        self._failed = failed

    def flush(self) -> None:
        assert self._producer.flush(60) == 0

    def event(self, event: Mapping[str, Any], key: bytes | None = None, partition: int = -1) -> None:
        self.send(json.dumps(event).encode(), STRUCTURED, key, partition)

    def refused(self) -> list[Message]:
        return everything(self.broker.bootstrap, f"{self.prefix}hub.ingest.refused")

    def reasons(self) -> list[tuple[int, str, str]]:
        """By offset in the topic: path and reason."""
        said = [(int(header(m, "hub_offset")), json.loads(m.value() or b"")) for m in self.refused()]
        return [(offset, one["path"], one["reason"]) for offset, one in sorted(said, key=lambda found: found[0])]


def answer(id: str, person: str = "hanako", **more: Any) -> dict[str, Any]:
    return cloudevent("safety.answered", id, person, source="myhazard", status="safe", **more)
