"""The log as the rest of the hub sees it: entries go in sealed and come out opened.

An `eventsourcing` application on our own recorder. Its events are sealed records, not pickled classes:
the topic is `<kind>.<version>`, the originator an event's identity (source + id, as a keyed digest).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import (
    AggregateRecorder,
    InfrastructureFactory,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.utils import Environment, EnvType
from sqlalchemy import Connection, Engine, Row, select

from hub.errors import PayloadError, Tampered
from hub.events import EPOCH, Entry, Event, Ordinal, Position
from hub.log import recorder, sealing
from hub.log.clock import Clock
from hub.log.kept import Kept, changed
from hub.log.recorder import NO_CLAIM, Append, Recorder
from hub.log.sealing import CITY, Ended, Gone, Keyring
from hub.schemas import Kind, Schemas

_ENVELOPE = "entry"
_NO_SCHEMA = "there is no schema of {topic} here: install the connector that brings it, or restore what was kept of it"

RESTORING = "restoring"
"""The setting of a database that a restore has not finished: no hub opens it."""

Reason = Literal["erased", "retention ended"]
"""Why a payload cannot be read any more: its person was erased (R15), or its month was destroyed."""


class Factory(InfrastructureFactory[TrackingRecorder]):
    """Gives the application the one recorder that the hub has."""

    def __init__(self, env: Environment | EnvType | None, recorder: Recorder) -> None:
        super().__init__(env)
        self._recorder = recorder

    def application_recorder(self) -> Recorder:
        return self._recorder

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        return self._recorder

    def tracking_recorder(self, tracking_recorder_class: type[TrackingRecorder] | None = None) -> TrackingRecorder:
        raise NotImplementedError("views commit with the log's own transaction; nothing tracks it from outside")

    def process_recorder(self) -> ProcessRecorder:
        raise NotImplementedError("views commit with the log's own transaction; nothing tracks it from outside")


@dataclass(frozen=True, slots=True)
class Closed:
    """An entry whose payload cannot be read any more: what still stands in the clear."""

    position: Position
    recorded_at: datetime
    kind: str
    subject: Ordinal | None
    claim: bytes
    reason: Reason


class Log(Application[UUID]):
    """The entries of one hub."""

    name = "hub"

    def __init__(self, engine: Engine, keyring: Keyring, schemas: Schemas, clock: Clock) -> None:
        self.engine, self.keyring, self.clock = engine, keyring, clock
        self.entries = Recorder(engine, clock)
        self.kept = Kept(self.entries, keyring)
        self._installed = schemas
        self._changed: Set[str] = frozenset()
        self.schemas = schemas
        """The schemas that are installed and, for reading alone, those that are kept."""
        self.learn()
        self._envelope = schemas.kind(_ENVELOPE)
        super().__init__()

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        return Factory(env, self.entries)

    def identify(self, event: Event) -> bytes:
        """The identity of an event: its source and id, as a keyed digest."""
        return self.keyring.digest("event", event.source, event.id)

    def add(
        self,
        append: Append,
        event: Event,
        kind: Kind,
        record: bytes,
        *,
        received_at: datetime,
        identity: bytes,
        subject: int = CITY,
        claim: bytes = NO_CLAIM,
    ) -> Entry:
        """Seal `event`, whose data `record` encodes, and give it the next position of `append`."""
        plaintext = self._envelope.encode(
            {
                "source": event.source,
                "id": event.id,
                "person": event.person,
                "occurred_at": event.occurred_at,
                "received_at": received_at,
                "exercise": event.exercise,
                "data": record,
            }
        )
        month = sealing.month_of(append.now) if kind.ttl_s is not None and subject != CITY else 0
        bound_to = _bound(kind.topic, identity, subject)
        state = self.keyring.seal(subject, plaintext, kind=kind.name, month=month, bound_to=bound_to)
        position = append.add(
            topic=kind.topic,
            state=state,
            identity=identity,
            subject=subject,
            claim=claim,
            commitment=sealing.commitment_of(state),
        )
        return Entry(
            position=Position(position),
            recorded_at=append.now,
            received_at=received_at,
            version=kind.version,
            subject=Ordinal(subject) if subject != CITY else None,
            event=event,
        )

    def learn(self) -> None:
        """Read by what is kept now: another process may have kept more."""
        files = self.kept.files()
        self._changed = files.changed
        self.schemas = self._installed.reading(files.whole)

    def decode(self, topic: str, encoded: bytes) -> dict[str, Any]:
        """The record of `topic`. Raises Tampered where no schema of it is here, PayloadError where it does not fit."""
        try:
            return self.schemas.decode(topic, encoded)
        except KeyError:
            if self.schemas.knows(topic):
                raise
        self.learn()
        if not self.schemas.knows(topic):
            raise changed(topic) if topic in self._changed else Tampered(_NO_SCHEMA.format(topic=topic))
        return self.schemas.decode(topic, encoded)

    def recorded_at(self, connection: Connection, position: int) -> datetime | None:
        """When the entry at `position` was recorded; None where there is none."""
        us = connection.scalar(select(recorder.log.c.recorded_us).where(recorder.log.c.position == position))
        return None if us is None else EPOCH + timedelta(microseconds=us)

    def position_at(self, connection: Connection, time: datetime, end: int) -> int:
        """The last position up to `end` that was recorded at `time` or before; 0 where there is none."""
        low, high = 0, end
        while low < high:
            middle = (low + high + 1) // 2
            recorded = self.recorded_at(connection, middle)
            if recorded is not None and recorded <= time:
                low = middle
            else:
                high = middle - 1
        return low

    def seal_chunk(self, position: int, number: int, piece: bytes) -> bytes:
        """Seal a piece that stands beside the entry at `position`."""
        return self.keyring.seal(CITY, piece, kind="", month=0, bound_to=_beside(position, number))

    def chunks(self, connection: Connection, position: int) -> list[bytes]:
        """The pieces that stand beside the entry at `position`, in order."""
        query = select(recorder.chunk).where(recorder.chunk.c.position == position).order_by(recorder.chunk.c.number)
        return [
            self.keyring.open(CITY, row.state, kind="", bound_to=_beside(position, row.number))
            for row in connection.execute(query)
        ]

    def read(self, connection: Connection, positions: Iterable[int]) -> dict[int, Entry | Closed]:
        """The entries at `positions`, opened where their key still exists."""
        wanted, found = sorted(set(positions)), {}
        for at in range(0, len(wanted), 500):
            query = select(recorder.log).where(recorder.log.c.position.in_(wanted[at : at + 500]))
            rows = connection.execute(query).all()
            self.keyring.load({row.subject for row in rows})
            found.update({row.position: self.open(row) for row in rows})
        return found

    def scan(self, connection: Connection, *, after: int = 0, stop: int | None = None) -> Iterator[Entry | Closed]:
        """Every entry in order, opened where its key still exists."""
        for row in self.rows(connection, after=after, stop=stop):
            yield self.open(row)

    def rows(self, connection: Connection, *, after: int = 0, stop: int | None = None) -> Iterator[Row[Any]]:
        """Every row of the log in order, as it stands."""
        while True:
            query = select(recorder.log).where(recorder.log.c.position > after)
            query = query.where(recorder.log.c.position <= stop) if stop is not None else query
            rows = connection.execute(query.order_by(recorder.log.c.position).limit(2_000)).all()
            if not rows:
                return
            self.keyring.load({row.subject for row in rows})
            yield from rows
            after = rows[-1].position

    def open(self, row: Row[Any]) -> Entry | Closed:
        """The entry that a row of the log holds. Raises Tampered with its position where it was changed."""
        position, recorded_us, about, identity, _, claim, topic, state, _ = tuple(row)
        recorded_at = EPOCH + timedelta(microseconds=recorded_us)
        kind, _, version = topic.rpartition(".")
        subject = Ordinal(about) if about != CITY else None
        try:
            plaintext = self.keyring.open(about, state, kind=kind, bound_to=_bound(topic, identity, about))
            said = self._envelope.decode(plaintext)
            data = self.decode(topic, said["data"])
        except Gone as gone:
            reason: Reason = "retention ended" if isinstance(gone, Ended) else "erased"
            return Closed(Position(position), recorded_at, kind, subject, claim, reason)
        except Tampered as error:
            raise Tampered(error.reason, position=position) from None
        except (PayloadError, KeyError, IndexError, ValueError):
            raise Tampered("the payload does not fit its schema", position=position) from None
        event = Event(
            source=said["source"],
            id=said["id"],
            kind=kind,
            person=said["person"],
            occurred_at=said["occurred_at"],
            exercise=said["exercise"],
            data=data,
        )
        return Entry(
            position=Position(position),
            recorded_at=recorded_at,
            received_at=said["received_at"],
            version=int(version),
            subject=subject,
            event=event,
        )


def _beside(position: int, number: int) -> bytes:
    return b"chunk\0" + position.to_bytes(8) + number.to_bytes(4)


def _bound(topic: str, identity: bytes, subject: int) -> bytes:
    """What a sealed payload is bound to: it opens in no other row."""
    return topic.encode() + b"\0" + identity + subject.to_bytes(8)
