"""The heavier derived views by a group of consumers over `hub.events`: a share is a partition of the topic.

    record -> its position -> entry and chunks from the log -> rows and the partition's next offset, in one transaction

Where a partition goes on stands beside the rows, in the hub's database, and not with the group: what was written and
what comes next are never apart. A member that has lost its partition and does not know it moves nothing, since it
moves an offset only from where it stands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition

from hub.derived.index import Index
from hub.errors import Tampered
from hub.relay.broker import Broker, Pulse, told
from hub.relay.relay import backoff_s, reason_of
from hub.views.views import DISCLOSED

GROUP = "hub.derived"
AT_ONCE = 500

_WAIT_S = 0.5
_SESSION_S = 2.0
_DIGITS = 19


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """What a member did. shares: the partitions that it has. error: why nothing can be done now."""

    shares: int
    records: int
    error: str | None = None
    wait_s: float = 0.0


Told = Callable[[Derived], None]


class Member:
    """One member of the group."""

    def __init__(self, index: Index, broker: Broker, *, at_once: int = AT_ONCE) -> None:
        self._index, self._broker, self._at_once = index, broker, at_once
        self._session_s = max(_SESSION_S, broker.settings.lease_s)
        """After how long the group gives a dead member's partitions to others."""
        self._topic = broker.events().name
        self._next: dict[int, int | None] = {}
        """Where each partition that this member has goes on, as the database said."""

    def run(self, stop: threading.Event, told_of: Told = lambda derived: None) -> None:
        """Fold what comes until `stop`. Raises Tampered."""
        failures = 0
        while not stop.is_set():
            try:
                self._broker.ensure([self._broker.events()])
                with closing(self._consumer()) as client:
                    client.subscribe([self._topic], listener=_Assigned(self, client))
                    pulse = Pulse(self._broker)
                    while not stop.is_set():
                        records = self._poll(client)
                        pulse(came=bool(records))
                        for partition, found in records.items():
                            self._take(client, partition, found)
                        failures = 0
                        told_of(Derived(shares=len(self._next), records=sum(map(len, records.values()))))
            except Tampered:
                raise
            except Exception as failure:  # as of a broker that is away: nothing was moved on without its rows
                failures += 1
                wait_s = backoff_s(failures)
                told_of(Derived(shares=0, records=0, error=reason_of(failure), wait_s=wait_s))
                stop.wait(wait_s)

    def _consumer(self) -> Any:
        return self._broker.client(
            KafkaConsumer,
            group_id=self._broker.named(GROUP),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=self._at_once,
            session_timeout_ms=int(self._session_s * 1000),
            heartbeat_interval_ms=max(500, int(self._session_s * 250)),
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def _poll(self, client: Any) -> Mapping[int, Sequence[Any]]:
        with told():
            found = client.poll(timeout_ms=int(_WAIT_S * 1000))
        return {at.partition: records for at, records in found.items()}

    def assigned(self, client: Any, partitions: Iterable[int]) -> None:
        """Begin each of these partitions where its rows end."""
        for partition in partitions:
            begins = self._next[partition] = self._index.offset(self._share(partition))
            client.seek(TopicPartition(self._topic, partition), begins or 0)

    def revoked(self, partitions: Iterable[int]) -> None:
        """Others have these partitions now."""
        for partition in partitions:
            self._next.pop(partition, None)

    def _share(self, partition: int) -> str:
        return f"{self._topic}/{partition}"

    def _take(self, client: Any, partition: int, records: Sequence[Any]) -> None:
        if partition not in self._next or not records:
            return
        before, after = self._next[partition], records[-1].offset + 1
        if records[0].offset > (before or 0):
            self._fill()
        positions = [position for record in records if (position := position_of(record)) is not None]
        if self._index.take_share(self._share(partition), before, after, positions):
            self._next[partition] = after
        else:  # another member was here: on from where it came to
            self.assigned(client, [partition])

    def _fill(self) -> None:
        """Read from the log what the topic no longer has: it keeps records for a time only."""
        while self._index.step():
            pass


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]
    """Told by the client of the group's decisions."""

    def __init__(self, member: Member, client: Any) -> None:
        self._member, self._client = member, client

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._member.assigned(self._client, (at.partition for at in assigned))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._member.revoked(at.partition for at in revoked)


def position_of(record: Any) -> int | None:
    """The log's position of a record, where it is a disclosure; of no other does the index take anything.

    None as well for what no relay of ours sent.
    """
    said = dict(record.headers)
    if said.get("ce_type") != DISCLOSED.encode():
        return None
    position = said.get("ce_position") or b""
    return int(position) if position.isdigit() and len(position) < _DIGITS else None
