"""Whether a log proves itself: everything is derived from it again, and compared.

    pages of the log -> leaves, root, payloads -> pages again -> copies of the views -> one short snapshot: compared

No snapshot is held while the log is gone through: PostgreSQL would keep every version of the head's row, and each
append would look through them. What is not append-only is compared in the last snapshot. Who is erased meanwhile has
the entry that says so before its end; where a month is destroyed meanwhile all is done again.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, MetaData, Table, exists, func, literal, or_, select, tuple_

from hub.errors import Busy, Tampered
from hub.events import Entry
from hub.log import merkle, recorder, sealing
from hub.log.database import Beside, dialect
from hub.log.log import Closed, Log
from hub.views import facts, index, links
from hub.views.views import DISCLOSED, LAGGING, TABLES, Views
from hub.waiting import Waiting

ERASED = "person.erased"
INTRODUCED = "kind.introduced"

_PAGE = 2_000
_IDENTITIES = 10_000
_ROUNDS = 50
_TRIES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What held. erased, ended: entries whose key was destroyed, by erasure or when the time to keep them ended."""

    size: int
    root: bytes
    opened: int
    erased: int
    ended: int
    disclosures: int
    view_rows: int

    @property
    def closed(self) -> int:
        """How many entries cannot be read any more."""
        return self.erased + self.ended


def verify(log: Log, *, views: bool = True) -> Verified:
    """Derive positions, leaves, root, identities, chunks and views from the log again, and compare.

    Raises Tampered with the first position that does not hold, Busy where keys were destroyed meanwhile, twice.
    """
    for _ in range(_TRIES):
        ended = log.keyring.ended()
        log.keyring.renew()  # what this process holds in memory opens what another has destroyed
        try:
            return _verify(log, views)
        except Tampered:
            if log.keyring.ended().keys() == ended.keys():
                raise
    raise Busy("hub retain destroyed keys meanwhile; verify again")


def _verify(log: Log, views: bool) -> Verified:
    offers = dialect(log.engine)
    with offers.beside(log.engine, [table for table in (*TABLES, *LAGGING) if views]) as beside:
        offers.check(beside.connection, "log")
        beside.connection.commit()
        verifying = _Verifying(log, beside, views=views)
        rows = verifying.run()
    log.keyring.check()  # every key that there is can be unwrapped
    Waiting(log).check()
    log.kept.check(verifying.introduced)
    return Verified(
        size=verifying.tree.size,
        root=verifying.tree.root(),
        opened=verifying.opened,
        erased=verifying.erased,
        ended=verifying.ended,
        disclosures=verifying.disclosures,
        view_rows=rows,
    )


class _Verifying:
    """One look at a log, beside empty copies of its views. views: whether these are derived again too."""

    def __init__(self, log: Log, beside: Beside, *, views: bool) -> None:
        self._log, self._beside, self._connection = log, beside, beside.connection
        self._change = Views(log).deriving(self._connection) if views else None
        self._last_us = self._derived = 0
        self._closed: list[Closed] = []
        self.tree = merkle.Frontier()
        self.opened = self.erased = self.ended = self.disclosures = 0
        self._identities = self._chunks = 0
        self._erased: set[int] = set()
        self.introduced: dict[str, str] = {}

    def run(self) -> int:
        """Positions, times, leaves, root, identities, payloads, chunks and views; returns the number of views' rows.

        Ends with one snapshot, in which the log holds and nobody was erased behind it: what was opened fits to it.
        """
        self._follow()
        until, found = self.tree.size, self._known()
        self._follow()  # to read all identities took its time
        for _ in range(_ROUNDS):
            end = self._log.entries.end(self._connection).position
            self._go_on(end)
            for row in self._log.rows(self._connection, after=self.tree.size):  # there is none behind the head
                self._row(row)
            if not self._erased_behind(end):
                self._check_closed()
                if self._connection.scalar(select(func.count()).select_from(recorder.chunk)) != self._chunks:
                    raise Tampered("there are pieces that belong to no disclosure")
                self._head()
                self._identity(found, until)
                return self._views()
            self._connection.commit()
        raise Busy("persons were erased meanwhile, again and again; verify again")

    def _follow(self) -> None:
        """Go through the log page by page, each in a snapshot of its own, until about a page is left."""
        for _ in range(_ROUNDS):
            end = self._log.entries.end(self._connection).position
            self._connection.commit()
            if end - self.tree.size <= _PAGE:
                return
            self._go_on(end, between=self._connection.commit)

    def _go_on(self, end: int, between: Callable[[], None] = lambda: None) -> None:
        """Check the log up to `end`, then derive the views up to there."""
        for after in range(self.tree.size, end, _PAGE):
            for row in self._log.rows(self._connection, after=after, stop=min(after + _PAGE, end)):
                self._row(row)
            between()
        if self._change is None:
            return
        for after in range(self._derived, end, _PAGE):
            for row in self._log.rows(self._connection, after=after, stop=min(after + _PAGE, end)):
                self._change.take(self._log.open(row), row.identity)
            self._change.flush()
            between()
        self._derived = end

    def _row(self, row: Any) -> None:
        if row.position != self.tree.size + 1:
            raise Tampered("the entry before it is missing", position=row.position)
        self._leaf(row)
        if row.recorded_us < self._last_us:
            raise Tampered("it was recorded before the one before it", position=row.position)
        self._last_us = row.recorded_us
        entry = self._log.open(row)
        if isinstance(entry, Closed) and entry.reason == "retention ended":
            self.ended += 1  # a month's key that is missing without a tombstone was found when the entry was opened
        elif isinstance(entry, Closed):
            self._closed.append(entry)
        else:
            self._entry(row, entry)
        if entry_kind(entry) == ERASED:
            self._erased.add(row.subject)

    def _erased_behind(self, end: int) -> bool:
        """Whether somebody was erased behind `end`, by now: a key is destroyed once that is recorded."""
        erased = recorder.log.c.topic.like(f"{ERASED}.%")
        with self._log.entries.snapshot() as (connection, _):
            query = select(recorder.log.c.position).where(recorder.log.c.position > end, erased).limit(1)
            return connection.scalar(query) is not None

    def _leaf(self, row: Any) -> None:
        try:
            hashed = merkle.leaf(
                position=row.position,
                recorded_us=row.recorded_us,
                subject=row.subject,
                identity=row.identity,
                identity_version=row.identity_version,
                claim=row.claim,
                topic=row.topic,
                state=row.state,
                commitment=sealing.parse(row.state).commitment,
            )
        except (Tampered, struct.error, TypeError, ValueError, AttributeError):
            raise Tampered("it has not the form of an entry", position=row.position) from None
        if hashed != row.leaf:
            raise Tampered("the entry is not the one whose hash was kept", position=row.position)
        self.tree.extend([hashed])
        for digest, version in ((row.identity, row.identity_version), (row.claim, 0)):
            if digest:
                self._identities += _number(digest, version, row.position)

    def _entry(self, row: Any, entry: Entry) -> None:
        self.opened += 1
        if entry.event.kind == INTRODUCED and entry.event.data["schema"] and entry.event.data["schema_sha256"]:
            self.introduced[entry.event.data["schema"]] = entry.event.data["schema_sha256"]
        if self._log.identify(entry.event) != row.identity:
            raise Tampered("the event's identity is not its own", position=row.position)
        if entry.event.kind == DISCLOSED:
            self.disclosures += 1
            try:
                pieces = self._log.chunks(self._connection, row.position)
            except (Tampered, OverflowError):
                raise Tampered("a piece beside it was changed", position=row.position) from None
            self._chunks += len(pieces)
            if [hashlib.sha256(piece).digest() for piece in pieces] != entry.event.data["chunks"]:
                raise Tampered("the persons shown are not those that were written", position=row.position)

    def _check_closed(self) -> None:
        """A payload may be unreadable only where its person was erased or its month's tombstone stands."""
        for entry in self._closed:
            if entry.subject not in self._erased:
                raise Tampered("its key is missing, though nobody erased the person", position=entry.position)
            self.erased += 1

    def _head(self) -> None:
        rows = self._connection.execute(select(recorder.head).order_by(recorder.head.c.id)).all()
        if not rows:
            raise Tampered("the log has lost its head")
        head, *others = rows
        if others:
            raise Tampered("the log has more than one head")
        if (head.position, head.recorded_us) != (self.tree.size, self._last_us if self.tree.size else head.recorded_us):
            raise Tampered("the end of the log is missing, or its head was changed", position=head.position)
        if head.frontier != self.tree.encode():
            raise Tampered("the root of the log is not the one that was kept", position=head.position)

    def _known(self) -> int:
        """The number for the identities of all that was gone through, read page by page in the order of their key."""
        key = tuple_(recorder.identity.c.digest, recorder.identity.c.version)
        query = select(recorder.identity).order_by(*recorder.identity.primary_key.columns).limit(_IDENTITIES)
        found, page = 0, query
        while rows := self._connection.execute(page).all():
            self._connection.commit()
            found += sum(_number(*row) for row in rows if row.position <= self.tree.size)
            page = query.where(key > tuple_(*(literal(value) for value in rows[-1][:2])))
        self._connection.commit()
        return found

    def _identity(self, found: int, until: int) -> None:
        """found: the number for the identities up to `until`."""
        for row in self._connection.execute(select(recorder.identity).where(recorder.identity.c.position > until)):
            found += _number(*row)
        if found != self._identities:
            raise Tampered("the table of identities does not follow from the log")

    def _views(self) -> int:
        """Every view, derived again beside it, equals what stands; returns the number of rows."""
        if self._change is None:
            return 0
        try:
            return self._same()
        except Tampered:
            if self._log.keyring.ended().keys() <= set(facts.marked(self._connection)):
                raise
            raise Busy("hub retain brings the views along with what it destroyed; verify again") from None

    def _same(self) -> int:
        links.drop_severed(self._connection)  # of the copy: the others were derived before what severed them
        count = 0
        for table in TABLES:
            standing = _rows(self._connection, table, self._beside.kept)
            derived = _rows(self._connection, table, self._beside.copies)
            if standing != derived:
                raise Tampered(f"the view {table.name} does not follow from the log; run: hub rebuild")
            count += standing[0]
        self._index()
        return count

    def _index(self) -> None:
        """The index of disclosures by person: all rows are true, and of a disclosure that it holds none is missing."""
        schemas = self._beside.kept, self._beside.copies
        standing, derived = (index.shown.to_metadata(MetaData(), schema=schema) for schema in schemas)
        same = [mine == other for mine, other in zip(standing.columns, derived.columns, strict=True)]
        held = or_(
            derived.c.position <= index.whole(self._connection), derived.c.position.in_(select(index.ahead.c.position))
        )
        strange = select(standing.c.person).where(~exists(select(derived.c.person).where(*same)))
        missing = select(derived.c.person).where(held, ~exists(select(standing.c.person).where(*same)))
        if any(self._connection.execute(query.limit(1)).first() for query in (strange, missing)):
            raise Tampered(f"the view {index.shown.name} does not follow from the log; run: hub rebuild")


def entry_kind(entry: Entry | Closed) -> str:
    """The kind of an entry, opened or not."""
    return entry.kind if isinstance(entry, Closed) else entry.event.kind


def _number(digest: bytes, version: int, position: int) -> int:
    """A number for one row, so that sets of rows can be compared by their sum."""
    row = repr((digest, version, position)).encode()
    return int.from_bytes(hashlib.sha256(row).digest())


def _rows(connection: Connection, table: Table, schema: str) -> tuple[int, str]:
    """The number of rows and a hash over them, in the order of their key."""
    copy = table.to_metadata(MetaData(), schema=schema)
    hashed, count = hashlib.sha256(), 0
    for row in connection.execute(select(copy).order_by(*copy.primary_key.columns)):
        hashed.update(repr(tuple(row)).encode())
        count += 1
    return count, hashed.hexdigest()
