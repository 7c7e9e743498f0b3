"""Facts under an id at a service that nobody has linked yet: they wait here, beside the log, for 30 days.

Each is sealed under a key of its own in the keys' database. It is written in intake's own transaction, so that
what was acknowledged is durable, and it is full before anything is dropped: over a bound the new fact is refused.
`hub.linking` hands on what waits once its id is linked.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Row, String, Table, delete, func, insert, select

from hub.errors import Conflict, PayloadError, Refused, Tampered
from hub.events import EPOCH, Event, micros
from hub.log.log import Log
from hub.log.recorder import Number, metadata
from hub.log.sealing import Gone
from hub.schemas import Kind
from hub.views import links

MOST_OF_A_REF = 1_000
MOST_OF_A_SOURCE = 50_000
MOST_FACTS = 200_000
LARGEST_BYTES = 1024 * 1024
KEPT = timedelta(days=30)

waiting = Table(
    "waiting",
    metadata,
    Column("number", Number, primary_key=True),
    Column("item", String, nullable=False, unique=True),
    Column("link", LargeBinary(16), nullable=False, index=True),
    Column("source", Number, nullable=False, index=True),
    Column("identity", LargeBinary(16), nullable=False, unique=True),
    Column("received_us", Number, nullable=False, index=True),
    Column("box", LargeBinary, nullable=False),
)
"""`number` is the order of arrival."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waited:
    """A fact that waits. event: None where its key is gone already, and where it was changed since it was sealed."""

    number: int
    item: str
    event: Event | None
    received_at: datetime
    changed: bool = False


class Waiting:
    """The room of one hub."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def count(self) -> int:
        """How many facts wait."""
        with self._log.entries.snapshot() as (connection, _):
            return connection.scalar(select(func.count()).select_from(waiting)) or 0

    def linked(self, digests: Sequence[bytes] | None, *, after: int = 0, limit: int = 50) -> list[Waited]:
        """What waits for ids that are linked now, in the order of arrival behind a number.

        digests: only for these ids.
        """
        query = select(waiting).join(links.link, links.link.c.digest == waiting.c.link)
        query = query.where(waiting.c.number > after).order_by(waiting.c.number).limit(limit)
        if digests is not None:
            query = query.where(waiting.c.link.in_(digests))
        with self._log.entries.snapshot() as (connection, _):
            rows = connection.execute(query).all()
        return [self._waited(row) for row in rows]

    def _waited(self, row: Row[Any]) -> Waited:
        received_at = EPOCH + timedelta(microseconds=row.received_us)
        event, changed = None, False
        try:
            event = self.open(row.item, row.box)
        except Gone:
            pass
        except Tampered:
            changed = True
        return Waited(number=row.number, item=row.item, event=event, received_at=received_at, changed=changed)

    def check(self) -> None:
        """Open everything that waits. Raises Tampered where something was changed."""
        with self._log.entries.snapshot() as (connection, _):
            for row in connection.execute(select(waiting)):
                if self._waited(row).changed:
                    raise Tampered("a fact that waits for a link was changed")

    def seal(self, item: str, event: Event, kind: Kind, record: bytes) -> bytes:
        """The box of a fact, whose data `record` encodes."""
        said = {
            "topic": kind.topic,
            "source": event.source,
            "id": event.id,
            "ref": event.ref,
            "occurred_us": None if event.occurred_at is None else micros(event.occurred_at),
            "exercise": event.exercise,
            "record": base64.b64encode(record).decode(),
        }
        return self._log.keyring.seal_parked(item, json.dumps(said).encode())

    def open(self, item: str, box: bytes) -> Event:
        """The fact in a box. Raises Gone, and Tampered where it was changed."""
        said = json.loads(self._log.keyring.open_parked(item, box))
        try:
            data = self._log.decode(said["topic"], base64.b64decode(said["record"]))
        except (PayloadError, KeyError):
            raise Tampered("a fact that waits does not fit a schema of this hub") from None
        occurred_us = said["occurred_us"]
        return Event(
            source=said["source"],
            id=said["id"],
            kind=said["topic"].rpartition(".")[0],
            ref=said["ref"],
            occurred_at=None if occurred_us is None else EPOCH + timedelta(microseconds=occurred_us),
            exercise=said["exercise"],
            data=data,
        )

    def remove(self, items: Iterable[str]) -> None:
        """Take out what is in the log or in the quarantine now: keys first, so that none is left over."""
        gone = set(items)
        if gone:
            self._log.keyring.destroy_parked(gone)
            with self._log.entries.maintaining() as connection:
                _delete(connection, gone)

    def destroy(self, digests: Iterable[bytes]) -> None:
        """Destroy what waits for ids that were severed: keys first (R15)."""
        wanted = sorted(set(digests))
        with self._log.entries.snapshot() as (connection, _):
            if not wanted or connection.scalar(select(waiting.c.number).limit(1)) is None:
                return
        with self._log.entries.maintaining() as connection:
            gone: set[str] = set()
            for at in range(0, len(wanted), 500):
                part = waiting.c.link.in_(wanted[at : at + 500])
                gone.update(connection.scalars(select(waiting.c.item).where(part)))
            self._log.keyring.destroy_parked(gone)
            _delete(connection, gone)

    def sweep(self) -> None:
        """Destroy what has waited for more than 30 days. Raises Busy where the clock that says so cannot be trusted."""
        old = waiting.c.received_us < micros(self._log.clock.now() - KEPT)
        with self._log.entries.snapshot() as (connection, _):
            if connection.scalar(select(waiting.c.number).where(old).limit(1)) is None:
                return
        self._log.entries.check_clock()
        with self._log.entries.maintaining() as connection:
            gone = set(connection.scalars(select(waiting.c.item).where(old)))
            self._log.keyring.destroy_parked(gone)
            _delete(connection, gone)


class Keeping:
    """Letting facts into the room, within one transaction of intake."""

    def __init__(self, log: Log, connection: Connection, now: datetime) -> None:
        self._log, self._connection, self._now = log, connection, now
        self._room = Waiting(log)
        self._spare: list[str] = []
        self._counts: dict[object, int] = {}
        self.made: list[str] = []
        self.used: set[str] = set()

    def prepare(self, count: int) -> None:
        """Make keys for as many facts at once. One that stays unused harms nobody."""
        self._spare = self._log.keyring.park([os.urandom(16).hex() for _ in range(count)])
        self.made += self._spare

    def keep(self, event: Event, kind: Kind, record: bytes, *, link: bytes, identity: bytes) -> None:
        """Have a fact wait; nothing where it waits already.

        Raises Conflict where its id waits with other content, Refused at a bound, PayloadError where it is too large.
        """
        before = self._connection.execute(select(waiting).where(waiting.c.identity == identity)).first()
        if before is not None and self._same(before, event, kind, record):
            return
        if len(record) > LARGEST_BYTES:
            raise PayloadError("is larger than 1 MiB", path="data", kind=event.kind)
        source = self._log.keyring.number("source", event.source)
        self._check(event.kind, link, source)
        if not self._spare:
            self.prepare(1)
        item = self._spare.pop()
        self._connection.execute(
            insert(waiting).values(
                item=item,
                link=link,
                source=source,
                identity=identity,
                received_us=micros(self._now),
                box=self._room.seal(item, event, kind, record),
            )
        )
        self.used.add(item)
        for counted in (link, source, None):
            self._counts[counted] += 1

    def _same(self, row: Row[Any], event: Event, kind: Kind, record: bytes) -> bool:
        try:
            there = self._room.open(row.item, row.box)
        except Gone:  # what is left of a fact that was destroyed
            _delete(self._connection, {row.item})
            return False
        said = (event.kind, event.ref, event.occurred_at, event.exercise, kind.decode(record))
        if (there.kind, there.ref, there.occurred_at, there.exercise, there.data) != said:
            raise Conflict("this id was used for another event", rule="R1a", path="id", kind=event.kind)
        return True

    def _check(self, kind: str, link: bytes, source: int) -> None:
        """That no bound is reached. The counts are asked once a transaction."""
        bounds: list[tuple[object, Any, int, str]] = [
            (link, waiting.c.link == link, MOST_OF_A_REF, "for this id; link it first"),
            (source, waiting.c.source == source, MOST_OF_A_SOURCE, "for ids of this source; link some first"),
            (None, waiting.c.number > 0, MOST_FACTS, "here; link some ids first"),
        ]
        for counted, where, most, what in bounds:
            if counted not in self._counts:
                query = select(func.count()).select_from(waiting).where(where)
                self._counts[counted] = self._connection.scalar(query) or 0
            if self._counts[counted] >= most:
                raise Refused(f"{most:,} facts, the most there may be, wait {what}", rule="R1a", path="ref", kind=kind)


def _delete(connection: Connection, items: Iterable[str]) -> None:
    gone = sorted(items)
    for at in range(0, len(gone), 500):
        connection.execute(delete(waiting).where(waiting.c.item.in_(gone[at : at + 500])))
