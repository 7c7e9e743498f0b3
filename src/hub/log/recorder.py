"""The log's table, and the recorder that `eventsourcing` sees.

Positions come from the head row, locked by the appending transaction: no gap, and a tailing reader
never misses what commits late. The database itself refuses to change or delete an entry (triggers). An
event's identity, and an id that it claims (a person's, a grant's), are keyed digests in a table of
their own, which is derivable from the log.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    StoredEvent,
)
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    bindparam,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError as DatabaseIntegrityError

from hub.errors import Misuse, Tampered
from hub.events import EPOCH, micros
from hub.log import merkle, sealing
from hub.log.clock import Clock
from hub.log.database import dialect, insert_many, insert_missing

Number = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()
"""The tables of the log and, added by `hub.views`, those that are derived from it."""

log = Table(
    "log",
    metadata,
    Column("position", Number, primary_key=True, autoincrement=False),
    Column("recorded_us", Number, nullable=False),
    Column("subject", Number, nullable=False),
    Column("identity", LargeBinary(16), nullable=False),
    Column("identity_version", Number, nullable=False),
    Column("claim", LargeBinary(16), nullable=False),
    Column("topic", String, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("leaf", LargeBinary(32), nullable=False),
)
identity = Table(
    "identity",
    metadata,
    Column("digest", LargeBinary(16), primary_key=True),
    Column("version", Number, primary_key=True),
    Column("position", Number, nullable=False),
    sqlite_with_rowid=False,
)
chunk = Table(
    "chunk",
    metadata,
    Column("position", Number, primary_key=True, autoincrement=False),
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("state", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", Number, nullable=False),
    Column("recorded_us", Number, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)
setting = Table(
    "setting",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

NO_CLAIM = b""
_CLAIM_VERSION = 0
_CLOCK_ACCEPTED = "clock_accepted"
_NO_HEAD = "the log has lost its head"


# Made once: building a statement costs more than running it.
_LOCK_HEAD = (  # SQLite's writer holds the whole database already
    select(head.c.position, head.c.recorded_us, head.c.frontier).where(head.c.id == 1).with_for_update()
)
_MOVE_HEAD = (
    update(head)
    .where(head.c.id == 1)
    .values(position=bindparam("position"), recorded_us=bindparam("recorded_us"), frontier=bindparam("frontier"))
)
_ACCEPTED = select(setting.c.value).where(setting.c.name == _CLOCK_ACCEPTED)


def begin(connection: Connection) -> None:
    """Write the head of an empty log."""
    insert_missing(connection, head, [{"id": 1, "position": 0, "recorded_us": 0, "frontier": b""}])


def hold(connection: Connection) -> None:
    """Wait until nobody appends, and keep it so until this transaction ends."""
    connection.execute(_LOCK_HEAD)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends: position 0 and no time where it is empty."""

    position: int
    recorded_at: datetime | None


class Append:
    """One appending transaction: holds the head, gives positions, and writes all when it ends."""

    def __init__(self, connection: Connection, tree: merkle.Frontier, last: datetime | None, now: datetime) -> None:
        self.connection = connection
        self.start = Head(tree.size, last)
        self.now = now if last is None else max(now, last)
        self._tree, self._now_us = tree, micros(self.now)
        self._rows: list[tuple[Any, ...]] = []
        self._leaves: list[bytes] = []
        self._known: list[tuple[bytes, int, int]] = []
        self._chunks: list[tuple[int, int, bytes]] = []

    @property
    def position(self) -> int:
        """The last position that is taken, by this transaction too."""
        return self.start.position + len(self._rows)

    def add(
        self,
        *,
        topic: str,
        state: bytes,
        identity: bytes,
        identity_version: int = 1,
        subject: int = sealing.CITY,
        claim: bytes = NO_CLAIM,
        commitment: bytes = b"",
    ) -> int:
        """Take the next position for a sealed state."""
        position = self.position + 1
        hashed = merkle.leaf(
            position=position,
            recorded_us=self._now_us,
            subject=subject,
            identity=identity,
            identity_version=identity_version,
            claim=claim,
            topic=topic,
            state=state,
            commitment=commitment,
        )
        self._rows.append((position, self._now_us, subject, identity, identity_version, claim, topic, state, hashed))
        self._leaves.append(hashed)
        self._known.append((identity, identity_version, position))
        if claim:
            self._known.append((claim, _CLAIM_VERSION, position))
        return position

    def add_chunk(self, position: int, number: int, state: bytes) -> None:
        """Write a piece beside the entry at `position`, in the same transaction."""
        self._chunks.append((position, number, state))

    def write(self) -> None:
        """Insert what was added and move the head."""
        if not self._rows:
            return
        insert_many(self.connection, identity, sorted(self._known))
        insert_many(self.connection, log, self._rows)
        insert_many(self.connection, chunk, self._chunks)
        self._tree.extend(self._leaves)
        values = {"position": self.position, "recorded_us": self._now_us, "frontier": self._tree.encode()}
        self.connection.execute(_MOVE_HEAD, values)


class Recorder(ApplicationRecorder):
    """The log's tables on one engine. Threads may share it."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine, self.clock = engine, clock
        offers = dialect(engine)
        self._offers, self._writers, self._readers = offers, offers.writing(engine), offers.reading(engine)
        self._turn = offers.turn(engine)
        time = offers.time()
        held = _LOCK_HEAD.cte("held")  # so that the time is that at which the turn came, and not that of asking for it
        self._lock_head = _LOCK_HEAD if time is None else select(held, time.label("time"))
        self._listeners: set[threading.Event] = set()

    @contextmanager
    def appending(self) -> Iterator[Append]:
        """A transaction that holds the head. What it added is durable when the block ends; an error undoes all.

        Raises Busy where the clock cannot be trusted or another process holds the log too long.
        """
        with self._turn, self._writers.begin() as connection:
            append = self._begin(connection)
            yield append
            append.write()
        for listener in list(self._listeners):
            listener.set()

    def _begin(self, connection: Connection) -> Append:
        row = connection.execute(self._lock_head).first()
        if row is None:
            raise Tampered(_NO_HEAD)
        last = self._trusted(connection, row)
        return Append(connection, merkle.Frontier.decode(row.position, row.frontier), last, self.clock.now())

    def _trusted(self, connection: Connection, row: Row[Any, Any, Any]) -> datetime | None:
        """When the newest entry was recorded. Raises Busy where the clock cannot be trusted. row: the head's."""
        self.clock.compare(getattr(row, "time", None))
        last = _time(row.recorded_us) if row.position else None
        accepted = connection.scalar(_ACCEPTED)
        self.clock.watch(last, datetime.fromisoformat(accepted) if accepted else None)
        return last

    def check_clock(self) -> None:
        """Raise Untrusted where the clock cannot be trusted, so that nothing is appended."""
        with self._readers.begin() as connection:
            us = connection.scalar(select(head.c.recorded_us).where(head.c.id == 1))
            accepted = connection.scalar(_ACCEPTED)
        self.clock.watch(_time(us) if us else None, datetime.fromisoformat(accepted) if accepted else None)

    def check_role(self) -> None:
        """Raise Misuse where who is connected may only look, so that nothing is appended."""
        with self._readers.begin() as connection:
            if not self._offers.may_append(connection):
                raise Misuse(
                    "this role of the database only looks, and here it has to append: HUB_DATABASE_URL names the wrong "
                    "one; docs/operating.md names the roles"
                )

    def accept_clock(self) -> datetime:
        """Say that the clock is right as it is now; returns the time that was accepted."""
        now = self.clock.now()
        self.set(_CLOCK_ACCEPTED, now.isoformat())
        return now

    def get(self, name: str) -> str | None:
        """A setting that was written into the database."""
        with self._readers.begin() as connection:
            return connection.scalar(select(setting.c.value).where(setting.c.name == name))

    def set(self, name: str, value: str) -> None:
        """Write a setting into the database."""
        with self._writers.begin() as connection:
            insert_missing(connection, setting, [{"name": name, "value": value}])
            connection.execute(update(setting).where(setting.c.name == name).values(value=value))

    @contextmanager
    def snapshot(self) -> Iterator[tuple[Connection, Head]]:
        """A reading transaction that sees one state of log and views, and where the log ends in it."""
        with self._readers.begin() as connection:
            yield connection, self.end(connection)

    def end(self, connection: Connection) -> Head:
        """Where the log ends, as `connection` sees it."""
        row = connection.execute(select(head.c.position, head.c.recorded_us).where(head.c.id == 1)).first()
        if row is None:
            raise Tampered(_NO_HEAD)
        return Head(row.position, _time(row.recorded_us) if row.position else None)

    @contextmanager
    def maintaining(self, *, timed: bool = False) -> Iterator[Connection]:
        """A writing transaction that appends nothing: for derived tables.

        timed: what is written goes by the time; raises Busy where the clock cannot be trusted, as `appending` does.
        """
        with self._turn, self._writers.begin() as connection:
            row = connection.execute(self._lock_head).first()
            if row is None:
                raise Tampered(_NO_HEAD)
            if timed:
                self._trusted(connection, row)
            yield connection

    def known(self, connection: Connection, digests: Iterable[bytes]) -> dict[bytes, int]:
        """The positions of the identities and claims that are taken, among `digests`."""
        wanted = sorted(set(digests))
        rows = self._offers.among(connection, identity, "digest", wanted) if wanted else ()
        return {row.digest: row.position for row in rows}

    # What follows is the surface that `eventsourcing` asks for.

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        try:
            with self.appending() as append:
                return [
                    append.add(
                        topic=stored.topic,
                        state=stored.state,
                        identity=_uuid(stored.originator_id).bytes,
                        identity_version=stored.originator_version,
                    )
                    for stored in stored_events
                ]
        except DatabaseIntegrityError as error:
            raise IntegrityError("an event of this originator and version is recorded already") from error

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        version = identity.c.version
        query = select(log).join(identity, log.c.position == identity.c.position)
        query = query.where(identity.c.digest == _uuid(originator_id).bytes, version == log.c.identity_version)
        query = query.where(version > gt) if gt is not None else query
        query = query.where(version <= lte) if lte is not None else query
        query = query.order_by(version.desc() if desc else version).limit(limit)
        with self._readers.begin() as connection:
            return [StoredEvent(**_stored(row)) for row in connection.execute(query)]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        position = log.c.position
        query = select(log).order_by(position).limit(limit)
        if start is not None:
            query = query.where(position >= start if inclusive_of_start else position > start)
        query = query.where(position <= stop) if stop is not None else query
        query = query.where(log.c.topic.in_(topics)) if topics else query
        with self._readers.begin() as connection:
            return [Notification(id=row.position, **_stored(row)) for row in connection.execute(query)]

    def max_notification_id(self) -> int | None:
        with self.snapshot() as (_, end):
            return end.position or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription:
        return Subscription(self, gt, topics)

    def listen(self, listener: threading.Event) -> None:
        """Have `listener` set after each append of this process."""
        self._listeners.add(listener)

    def unlisten(self, listener: threading.Event) -> None:
        """The end of `listen`."""
        self._listeners.discard(listener)


class Subscription(ListenNotifySubscription[Recorder]):
    """Notifications as they are recorded, those of other processes when this one appends or reads again."""

    def __init__(self, recorder: Recorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        recorder.listen(self._has_been_notified)

    def stop(self) -> None:
        super().stop()
        self._recorder.unlisten(self._has_been_notified)


def _stored(row: Row[Any]) -> dict[str, Any]:
    return {
        "originator_id": UUID(bytes=row.identity),
        "originator_version": row.identity_version,
        "topic": row.topic,
        "state": row.state,
    }


def _uuid(originator_id: UUID | str) -> UUID:
    return originator_id if isinstance(originator_id, UUID) else UUID(originator_id)


def _time(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)
