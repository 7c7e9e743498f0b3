"""Which disclosures showed a person, or took the person back from a feed: the index by person.

    (person, position) for every person whom the disclosure at `position` names in its chunks

A person stands there under a number that only who has the hub's keys can tell: the rows alone do not say who was
shown, as the chunks, which are sealed, do not.

It may lag behind the log: `whole` is the position up to which it holds every disclosure, and `ahead` names those
beyond that it holds as well. A look-up says which ones it does not hold, for the caller to read their chunks; so
an answer is exact, whatever the lag. Rows of a disclosure that is not whole yet are true, and not all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    String,
    Table,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from hub.events import Entry
from hub.log.database import insert_many
from hub.log.log import Log
from hub.log.recorder import Number, metadata
from hub.views.persons import person as person_table
from hub.views.uses import disclosure

WHOLE = "shown"
"""The share whose `next` is the last position up to which every disclosure is in the index."""

_AT_ONCE = 500
_CHUNK_BYTES = 60 * 1024

shown = Table(
    "shown",
    metadata,
    Column("person", Number, primary_key=True, autoincrement=False),
    Column("position", Number, primary_key=True, autoincrement=False),
    Column("removed", Number, nullable=False),
    sqlite_with_rowid=False,
)
ahead = Table(
    "ahead",
    metadata,
    Column("position", Number, primary_key=True, autoincrement=False),
)
share = Table(
    "share",
    metadata,
    Column("name", String, primary_key=True),
    Column("next", Number, nullable=False),
    Column("lease", String),
    Column("lease_us", Number, nullable=False),
)
"""How far each follower of the log has come, by its share of it; `lease`: who follows it now."""


def next_of(connection: Connection, name: str) -> int | None:
    """Where a share goes on; None where nobody began it."""
    return connection.scalar(select(share.c.next).where(share.c.name == name))


def advance(connection: Connection, name: str, before: int | None, after: int) -> bool:
    """Move a share on from `before` (None: begin it); False where it stands elsewhere: another worker was there."""
    if before is None:
        if next_of(connection, name) is not None:
            return False
        connection.execute(insert(share).values(name=name, next=after, lease_us=0))
        return True
    mine = (share.c.name == name) & (share.c.next == before)
    return bool(connection.execute(update(share).where(mine).values(next=after)).rowcount)


def _number(log: Log, ordinal: int) -> int:
    return log.keyring.number("shown", str(ordinal))


def insert_rows(log: Log, connection: Connection, position: int, ordinals: Iterable[int], *, removed: bool) -> None:
    """Write rows of which none stands."""
    insert_many(connection, shown, [(_number(log, ordinal), position, int(removed)) for ordinal in ordinals])


def put(log: Log, connection: Connection, position: int, ordinals: Sequence[int], *, removed: bool) -> None:
    """Write that a disclosure showed these persons, or took them back; who is erased is left out, what stands stays."""
    for at in range(0, len(ordinals), _AT_ONCE):
        part = {_number(log, ordinal): ordinal for ordinal in ordinals[at : at + _AT_ONCE]}
        erased = (person_table.c.ordinal.in_(part.values()), person_table.c.erased.is_not(None))
        gone = set(connection.scalars(select(person_table.c.ordinal).where(*erased)))
        there = select(shown.c.person).where(shown.c.person.in_(part), shown.c.position == position)
        for number in connection.scalars(there):
            del part[number]
        rows = [(number, position, int(removed)) for number, ordinal in part.items() if ordinal not in gone]
        insert_many(connection, shown, rows)


def whole(connection: Connection) -> int:
    """The position up to which the index holds every disclosure."""
    return next_of(connection, WHOLE) or 0


def holds(connection: Connection, position: int) -> bool:
    """Whether the index holds all of a disclosure."""
    if position <= whole(connection):
        return True
    return connection.scalar(select(ahead.c.position).where(ahead.c.position == position)) is not None


def mark(connection: Connection, position: int) -> None:
    """Say that the index holds all of a disclosure beyond `whole`."""
    if not holds(connection, position):
        connection.execute(insert(ahead).values(position=position))


def close_up(connection: Connection, end: int, *, everything: bool = False) -> None:
    """Move `whole` on as far as the index holds every disclosure; at most to `end`, where the log ends.

    everything: it holds them all.
    """
    begun = next_of(connection, WHOLE)
    missing = (
        None if everything else connection.scalar(select(func.min(disclosure.c.position)).where(_missing(begun or 0)))
    )
    after = end if missing is None else missing - 1
    if after > (begun or 0) and advance(connection, WHOLE, begun, after):
        connection.execute(delete(ahead).where(ahead.c.position <= after))


def _missing(begun: int) -> ColumnElement[bool]:
    """Of disclosures: that the index does not hold it."""
    marked = exists().where(ahead.c.position == disclosure.c.position)
    return (disclosure.c.position > begun) & ~marked


def missing(connection: Connection, *, after: int, up_to: int, limit: int) -> list[int]:
    """The disclosures behind `after` and up to `up_to` that the index does not hold, the first so many."""
    query = select(disclosure.c.position).where(disclosure.c.position > after, disclosure.c.position <= up_to)
    query = query.where(_missing(whole(connection)))
    return list(connection.scalars(query.order_by(disclosure.c.position).limit(limit)))


def found(
    log: Log, connection: Connection, ordinal: int, *, after: int, before: int, limit: int, recipient: int | None = None
) -> list[tuple[int, bool]]:
    """Disclosures strictly between that showed a person, or may have: the last `limit`, newest first.

    Each with whether it is known to have; of the others the index does not know. recipient: only those to it.
    """
    rows = select(shown.c.position).where(shown.c.person == _number(log, ordinal), shown.c.removed == 0)
    rows = rows.where(shown.c.position > after, shown.c.position < before)
    rest = select(disclosure.c.position).where(disclosure.c.position > after, disclosure.c.position < before)
    rest = rest.where(_missing(whole(connection)))
    if recipient is not None:
        to_it = exists().where(disclosure.c.position == shown.c.position, disclosure.c.recipient == recipient)
        rows, rest = rows.where(to_it), rest.where(disclosure.c.recipient == recipient)
    known = list(connection.scalars(rows.order_by(shown.c.position.desc()).limit(limit)))
    unknown = set(connection.scalars(rest.order_by(disclosure.c.position.desc()).limit(limit))) - set(known)
    both = [(position, True) for position in known] + [(position, False) for position in unknown]
    return sorted(both, reverse=True)[:limit]


def delete_person(log: Log, connection: Connection, ordinal: int) -> None:
    """Drop every row of an erased person."""
    connection.execute(delete(shown).where(shown.c.person == _number(log, ordinal)))


def clear(connection: Connection) -> None:
    """Drop the index."""
    for table in (shown, ahead):
        connection.execute(delete(table))
    connection.execute(delete(share).where(share.c.name == WHOLE))


def named(log: Log, connection: Connection, entry: Entry) -> tuple[list[int], list[int]]:
    """Whom a disclosure showed, and whom it took back: ordinals, as its chunks say."""
    pieces = log.chunks(connection, entry.position)
    count = entry.event.data["persons_chunks"]
    count = len(pieces) if count is None else count
    return ordinals(pieces[:count]), ordinals(pieces[count:])


def ordinals(pieces: Iterable[bytes]) -> list[int]:
    """The set of ordinals that a disclosure's chunks hold: steps between them, seven bits a byte."""
    said, last, step, shift = [], 0, 0, 0
    for byte in b"".join(pieces):
        step |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            last += step
            said.append(last)
            step = shift = 0
    return said


def pieces(ordinals: Iterable[int]) -> list[bytes]:
    """A set of ordinals as the steps between them, seven bits a byte, cut into chunks."""
    out, last = bytearray(), 0
    for ordinal in sorted(ordinals):
        step, last = ordinal - last, ordinal
        while step > 0x7F:
            out.append(step & 0x7F | 0x80)
            step >>= 7
        out.append(step)
    return [bytes(out[at : at + _CHUNK_BYTES]) for at in range(0, len(out), _CHUNK_BYTES)]
