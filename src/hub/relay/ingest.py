"""Events in by a topic: `hub.ingest`, by a group of consumers, through the same intake as every other door.

What comes is ticked off once it is durable, and what was refused once the broker has the refusal. A stop in between
has it come again, and its events are known by then: nothing is lost, nothing doubled. Who may say what: a topic shows
no token, so the settings name the sources that may come this way; the table of authorities judges as for a source.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from hub.errors import Busy, PayloadError, Refused, Tampered
from hub.events import Event
from hub.hub import Hub
from hub.identity.caller import Caller
from hub.intake import Result
from hub.log.sealing import CITY
from hub.quarantine import MOST_OF_A_SOURCE, Refusal
from hub.registry import Registry
from hub.relay.broker import INGEST, Broker, Consumer, Message, Pulse, Record, Sender
from hub.relay.reading import Reading
from hub.relay.relay import backoff_s, reason_of
from hub.web import cloudevents
from hub.web.access import Authority, check_source
from hub.web.cloudevents import Sent, Unread
from hub.web.inlet import urgency

GROUP = INGEST
AT_ONCE = 1_000
"""Events that share a commit."""

AT_ONCE_BYTES = 4 * 1024 * 1024
"""Of messages that are read at once: what they say takes up to twenty times as much in memory."""

VIA = "events:kafka"
_WAIT_S = 0.5
_ACTOR = "kafka:ingest"
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Came:
    """What became of a part of what came. error: why nothing can be taken now; it is tried again in `wait_s`."""

    counts: Mapping[str, int]
    error: str | None = None
    wait_s: float = 0.0


Told = Callable[[Came], None]


@dataclass(slots=True)
class _One:
    """One event of a message, what was judged of it, and what became of it. number: its place in a batch."""

    record: Record
    number: int
    sent: Sent
    event: Event | None = None
    error: PayloadError | Refused | None = None
    status: str = "refused"
    foreign: bool = False


class Ingest:
    """One member of the group."""

    def __init__(self, hub: Hub, broker: Broker, registry: Registry) -> None:
        self._hub, self._broker = hub, broker
        self._reading = Reading(hub.log.schemas, registry)
        self._sources = broker.settings.sources
        self._authority = Authority(self._sources, lambda act: False)
        self._refused = broker.refused()
        self.shares = self.left = 0
        """How many partitions it has, and how many of their records it has not read; for whoever watches."""

    def run(self, stop: threading.Event, told: Told) -> None:
        """Take what comes until `stop`. Raises Tampered."""
        failures = 0
        sender = self._broker.sender()
        with closing(sender):
            while not stop.is_set():
                try:
                    self._broker.ensure([self._broker.ingest(), self._refused])
                    consumer = self._broker.consumer(self._broker.ingest(), self._broker.named(GROUP), at_once=AT_ONCE)
                    pulse = Pulse(self._broker)
                    with closing(consumer):
                        while not stop.is_set():
                            records = consumer.poll(_WAIT_S)
                            pulse(came=bool(records))
                            self.shares, self.left = consumer.standing()
                            self._take(records, consumer, sender, stop, told)
                            if failures:
                                told(Came(counts={}))
                            failures = 0
                except Tampered:
                    raise
                except _Stopped:
                    return
                except Exception as failure:  # as of a broker that is away: what was not ticked off comes again
                    failures += 1
                    self.shares = 0
                    wait_s = backoff_s(failures)
                    told(Came(counts={}, error=reason_of(failure), wait_s=wait_s))
                    stop.wait(wait_s)

    def _take(
        self, records: Sequence[Record], consumer: Consumer, sender: Sender, stop: threading.Event, told: Told
    ) -> None:
        for part, whole in self._parts(records):
            self._judge(part)
            self._append(part, stop, told)
            self._refuse(part, sender)
            told(Came(counts=Counter(one.status for one in part)))
            if whole and not consumer.done(whole):
                return  # others have the partitions now, and what was not ticked off comes to them

    def _parts(self, records: Sequence[Record]) -> Iterator[tuple[list[_One], list[Record]]]:
        """The events of the records, about so many and so large at once, each with the records that are whole then."""
        part: list[_One] = []
        whole: list[Record] = []
        size = 0
        for record in records:
            part += [_One(record, number, sent) for number, sent in enumerate(self._reading.events(record))]
            whole.append(record)
            size += len(record.value or b"")
            if len(part) >= AT_ONCE or size >= AT_ONCE_BYTES:
                yield part, whole
                part, whole, size = [], [], 0
        if whole:
            yield part, whole

    def _judge(self, part: Sequence[_One]) -> None:
        """Whether each can be read, and may be said by its source."""
        for one in part:
            found = one.sent.event
            if isinstance(found, Unread):
                one.error = found.error
                continue
            try:
                self._authority.check(self._caller(found), found)
                check_source(found)
                one.event = found
            except Refused as error:
                one.error, one.foreign = error, True
            except PayloadError as error:
                one.error = error

    def _caller(self, event: Event) -> Caller:
        """As whom an event comes: its own source, where that may come by the topic; else nobody."""
        source = event.source if event.source in self._sources else None
        return Caller(actor=_ACTOR, roles=frozenset({"source"}), expires=_NEVER, source=source)

    def _append(self, part: Sequence[_One], stop: threading.Event, told: Told) -> None:
        """Have intake take what may come; waits while it is busy. What a fault of ours stops is refused by itself."""
        judged = in_order([one for one in part if one.event is not None])
        events = [one.event for one in judged if one.event is not None]
        failures = 0
        while True:
            try:
                results = self._taken(events)
                break
            except (Busy, SQLAlchemyError) as failure:
                failures += 1
                wait_s = backoff_s(failures)
                told(Came(counts={}, error=reason_of(failure), wait_s=wait_s))
                if stop.wait(wait_s):
                    raise _Stopped from None
        for one, result in zip(judged, results, strict=True):
            one.status, one.error = result.status, result.error

    def _taken(self, events: Sequence[Event]) -> list[Result]:
        try:
            return self._hub.intake.take(events)
        except (Busy, Tampered, SQLAlchemyError):
            raise
        except Exception as failure:
            if len(events) > 1:
                return [result for event in events for result in self._taken([event])]
            error = PayloadError(reason_of(failure), kind=events[0].kind)
            return [Result(event=events[0], status="refused", error=error)]

    def _refuse(self, part: Sequence[_One], sender: Sender) -> None:
        """Keep what was refused, as every door does, and say on the topic why. Raises Busy, Unavailable."""
        refused = [(one, one.error) for one in part if one.error is not None]
        kept = [self._refusal(one, error) for one, error in refused if self._is_kept(one)]
        if kept:
            self._hub.quarantine.keep(kept[:MOST_OF_A_SOURCE])
        sender.deliver([self._said(one, error) for one, error in refused])

    def _is_kept(self, one: _One) -> bool:
        """Nobody fills the quarantine in the name of a source that may not come this way."""
        source = one.sent.event.source
        return not one.foreign and (source is None or source in self._sources)

    def _refusal(self, one: _One, error: PayloadError | Refused) -> Refusal:
        if one.sent.raw is None and one.event is not None:  # Avro: as the JSON that its source could have sent
            return replace(Refusal.of_event(error, one.event), via=VIA)
        return replace(cloudevents.refusal(one.sent, error), via=VIA)

    def _said(self, one: _One, error: PayloadError | Refused) -> Message:
        """What stands on the topic: why, and where the message is; no value of it."""
        kind = one.sent.event.kind
        record = one.record
        said: dict[str, Any] = {
            "kind": kind if self._hub.log.schemas.newest(kind) is not None else None,
            "path": error.path,
            "reason": error.reason,
            "rule": error.rule if isinstance(error, Refused) else None,
            "number": one.number,
        }
        where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        headers = [(f"hub_{name}", str(value).encode()) for name, value in where.items()]
        value = json.dumps(said, ensure_ascii=False).encode("utf-8", "backslashreplace")
        headers.append(("content-type", b"application/json"))
        return Message(topic=self._refused.name, key=self._key(record), value=value, headers=headers)

    def _key(self, record: Record) -> bytes | None:
        """What stands for a source's key, which may name a person: the same for the same key."""
        if record.key is None:
            return None
        secret = self._hub.log.keyring.secret(CITY, "kafka-key")
        return hmac.digest(secret, record.key, "sha256")[:16].hex().encode()


class _Stopped(Busy):
    """A stop did not wait until intake could take what came; it comes again."""


def in_order(part: Sequence[_One]) -> list[_One]:
    """The urgent first, as at every door; what shares a key, or has none in a partition, stays in its order.

    So what stands before something urgent of its key comes with it.
    """
    ranks: dict[tuple[int, bytes | None], int] = {}
    ranked: list[tuple[int, int, _One]] = []
    for number in range(len(part) - 1, -1, -1):
        one = part[number]
        key = (one.record.partition, one.record.key)
        rank = urgency(one.event) if one.event is not None else 0
        ranks[key] = min(rank, ranks.get(key, rank))
        ranked.append((ranks[key], number, one))
    return [one for _, _, one in sorted(ranked, key=lambda found: found[:2])]
