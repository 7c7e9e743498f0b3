"""The outbox: one SQLite file of events that the hub has not acknowledged yet.

Safety, revocations and what else protects someone leave first, pings last. What a person decided keeps its order: with
an urgent event of a person go all control events of theirs that came before it, since a revocation that overtakes its
grant would revoke nothing (R1a). It is full before anything is dropped. The file is its owner's alone; what has left is
overwritten.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    Column,
    Connection,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from hub.connector.json import written
from hub.errors import Busy, Misuse
from hub.events import CONTROLS, EPOCH, LOCATION, Event, micros
from hub.log.database import dialect, file_url, open_database
from hub.log.recorder import Number

MOST_EVENTS = 1_000_000
URGENT, USUAL, PING = 0, 1, 2

_FIRST = frozenset(
    {"safety.answered", "fact.retracted", "consent.revoked", "consent.declined", "block.added", "person.erased"}
    | {"identity.unlinked", "delegation.ended", "relation.ended", "override.closed", "hazard.reported"}
)
_WAITS, _REFUSED = 0, 1
_LATER = 10
"""Added to the rank of what the token's bearer may not append: it holds up nothing else, and is tried again."""

metadata = MetaData()
kept = Table(
    "kept",
    metadata,
    Column("number", Number, primary_key=True),
    Column("identity", LargeBinary(16), nullable=False, unique=True),
    Column("content", LargeBinary(16), nullable=False),
    Column("state", Number, nullable=False),
    Column("rank", Number, nullable=False),
    Column("person", LargeBinary(16), nullable=False),
    Column("control", Number, nullable=False),
    Column("added_us", Number, nullable=False),
    Column("id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("reason", String),
    Index("kept_next", "state", "rank", "number"),
    Index("kept_person", "person", "control", "number"),
)
"""`number` is the order of arrival. `person` stands for whom (or which override) the event names, empty for nobody."""

word = Table("word", metadata, Column("name", String, primary_key=True), Column("value", String, nullable=False))

Added = Literal["kept", "duplicate", "conflict"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """An event that is to be sent: its number, and itself as a structured CloudEvent."""

    number: int
    id: str
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """How the outbox stands. oldest_at: since when the oldest of those that wait does. refused: id, kind, reason."""

    urgent: int
    usual: int
    pings: int
    oldest_at: datetime | None
    refused: Sequence[tuple[str, str, str]]
    refused_count: int
    words: dict[str, str]

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self.urgent + self.usual + self.pings


class Outbox:
    """One outbox, open."""

    def __init__(self, path: Path, most: int = MOST_EVENTS) -> None:
        """Raises Misuse where the file cannot be one."""
        self._path, self._most = path, most
        before = os.umask(0o077)
        try:
            self._engine = open_database(file_url(path), "outbox")
            offers = dialect(self._engine)
            self._writers = offers.writing(self._engine)
            with self._writers.begin() as connection:
                offers.create(connection, metadata, "outbox")
        finally:
            os.umask(before)
        self._lock: Any = None

    def close(self) -> None:
        """Close the file, and give up the right to drain it."""
        self._engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def claim(self) -> None:
        """Be the one that drains it, until `close`. Raises Misuse where another process is."""
        path = self._path.with_name(self._path.name + ".lock")
        lock = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise Misuse("another hub forward drains this outbox") from None
        self._lock = lock

    def add(self, sent: Sequence[tuple[Event, Any]], now: datetime) -> list[Added]:
        """Keep events, each with its own JSON, all or none; durable when it returns.

        `duplicate`: the same is here already. `conflict`: its id is here with other content. Raises Busy where it is
        full.
        """
        rows = [_row(event, raw, now) for event, raw in sent]
        with self._writers.begin() as connection:
            known = self._known(connection, [row["identity"] for row in rows])
            added: list[Added] = []
            for row in rows:
                content = known.get(row["identity"])
                if content is not None:
                    added.append("duplicate" if content == row["content"] else "conflict")
                    continue
                known[row["identity"]] = row["content"]
                added.append("kept")
            fresh = [row for row, what in zip(rows, added, strict=True) if what == "kept"]
            if fresh:
                self._check_room(connection, len(fresh))
                connection.execute(insert(kept), fresh)
                for row in fresh:
                    _promote(connection, row)
        return added

    def _known(self, connection: Connection, identities: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for at in range(0, len(identities), 500):
            query = select(kept.c.identity, kept.c.content).where(kept.c.identity.in_(identities[at : at + 500]))
            found.update((row.identity, row.content) for row in connection.execute(query))
        return found

    def _check_room(self, connection: Connection, more: int) -> None:
        """Counting is left out while the numbers, which grow by one, show that there is room."""
        low, high = connection.execute(select(func.min(kept.c.number), func.max(kept.c.number))).one()
        if low is None or high - low + 1 + more <= self._most:
            return
        count = connection.scalar(select(func.count()).select_from(kept)) or 0
        if count + more > self._most:
            raise Busy(f"the outbox holds {count:,} events, and takes {self._most:,}; the hub has been away too long")

    def next(self, limit: int, most_bytes: int) -> list[Waiting]:
        """What is to be sent next, at most so many events and bytes, but at least one where any waits."""
        query = select(kept.c.number, kept.c.id, kept.c.body).where(kept.c.state == _WAITS)
        with self._engine.begin() as connection:
            rows = connection.execute(query.order_by(kept.c.rank, kept.c.number).limit(limit)).all()
        found: list[Waiting] = []
        size = 0
        for row in rows:
            body = zlib.decompress(row.body)
            size += len(body) + 1
            if found and size > most_bytes:
                break
            found.append(Waiting(number=row.number, id=row.id, body=body))
        return found

    def settle(self, done: Sequence[int], refused: Sequence[tuple[int, str]], deferred: Sequence[int] = ()) -> int:
        """Drop what the hub acknowledged; keep what it refused, with the reason; send what is deferred after all else.

        How many of the deferred were not so yet.
        """
        fresh = 0
        with self._writers.begin() as connection:
            for at in range(0, len(done), 500):
                connection.execute(delete(kept).where(kept.c.number.in_(done[at : at + 500])))
            for number, reason in refused:
                values = {"state": _REFUSED, "reason": reason}
                connection.execute(update(kept).where(kept.c.number == number).values(values))
            for at in range(0, len(deferred), 500):
                late = kept.c.number.in_(deferred[at : at + 500]) & (kept.c.rank < _LATER)
                fresh += connection.execute(update(kept).where(late).values(rank=kept.c.rank + _LATER)).rowcount
        return fresh

    def retry(self) -> int:
        """Have what was refused sent again; how many."""
        with self._writers.begin() as connection:
            values = {"state": _WAITS, "reason": None}
            return connection.execute(update(kept).where(kept.c.state == _REFUSED).values(values)).rowcount

    def drop_refused(self) -> int:
        """Destroy what was refused; how many. The hub keeps it in its own quarantine for 30 days."""
        with self._writers.begin() as connection:
            return connection.execute(delete(kept).where(kept.c.state == _REFUSED)).rowcount

    def say(self, **words: str) -> None:
        """Write down how sending goes, for `hub forward status`."""
        with self._writers.begin() as connection:
            for name, value in words.items():
                connection.execute(delete(word).where(word.c.name == name))
                connection.execute(insert(word).values(name=name, value=value))

    def state(self, shown: int = 20) -> State:
        """How it stands, with so many of those that were refused."""
        refused = select(kept.c.id, kept.c.kind, kept.c.reason).where(kept.c.state == _REFUSED)
        count = select(kept.c.rank, func.count(), func.min(kept.c.added_us)).where(kept.c.state == _WAITS)
        with self._engine.begin() as connection:
            ranks: dict[int, tuple[int, int]] = {}
            for rank, number, oldest in connection.execute(count.group_by(kept.c.rank)):
                before = ranks.get(rank % _LATER, (0, oldest))
                ranks[rank % _LATER] = before[0] + number, min(before[1], oldest)
            rows = connection.execute(refused.order_by(kept.c.number).limit(shown)).all()
            refusals = select(func.count()).select_from(kept).where(kept.c.state == _REFUSED)
            number = connection.scalar(refusals) or 0
            words = {row.name: row.value for row in connection.execute(select(word))}
        first = min((since for _, since in ranks.values()), default=None)
        return State(
            urgent=ranks.get(URGENT, (0, 0))[0],
            usual=ranks.get(USUAL, (0, 0))[0],
            pings=ranks.get(PING, (0, 0))[0],
            oldest_at=None if first is None else EPOCH + timedelta(microseconds=first),
            refused=[(row.id, row.kind, row.reason or "") for row in rows],
            refused_count=number,
            words=words,
        )


def rank_of(event: Event) -> int:
    """When an event is sent: URGENT before USUAL before PING."""
    if event.kind in _FIRST:
        return URGENT
    return PING if event.kind == LOCATION else USUAL


def _row(event: Event, raw: Any, now: datetime) -> dict[str, Any]:
    body = raw if isinstance(raw, bytes) else written(raw)
    who = _who(event)
    return {
        "identity": _digest(event.source, event.id),
        "content": hashlib.sha256(body).digest()[:16],
        "state": _WAITS,
        "rank": rank_of(event),
        "person": b"" if who is None else _digest("person", who),
        "control": int(event.kind in CONTROLS),
        "added_us": micros(now),
        "id": event.id,
        "kind": event.kind,
        "body": zlib.compress(body, 1),
    }


def _who(event: Event) -> Any:
    """Whose order an event keeps: a person's, or, closing an override before it is opened would close nothing, its."""
    if event.kind in ("override.opened", "override.closed"):
        return ("override", event.data.get("override"))
    return event.person if event.person is not None else (event.source, event.ref) if event.ref is not None else None


def _digest(*parts: Any) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()[:16]


def _promote(connection: Connection, row: dict[str, Any]) -> None:
    """Have the control events of the same person that came before an urgent one go with it."""
    if row["rank"] == URGENT and row["person"]:
        own = select(kept.c.number).where(kept.c.identity == row["identity"]).scalar_subquery()
        before = (kept.c.person == row["person"]) & (kept.c.control == 1) & (kept.c.number < own)
        connection.execute(update(kept).where(before, kept.c.rank > URGENT).values(rank=URGENT))
