"""Which id at a service is whose now (ID連携): the latest link of an id counts, until that pair is unlinked.

An id at a service stands here as a keyed digest of source and ref. `severed` keeps the ids that were unlinked,
or whose person was erased, until they are linked again. It is no view: after an erasure the log cannot say it
any more. It keeps a rebuild from letting an older link of somebody else stand again.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Column, Connection, LargeBinary, Table, delete, exists, insert, select

from hub.events import Entry
from hub.log import recorder
from hub.log.log import Log
from hub.log.recorder import Number, metadata
from hub.views.policies import policy

link = Table(
    "link",
    metadata,
    Column("digest", LargeBinary(16), primary_key=True),
    Column("person", Number, nullable=False, index=True),
    Column("position", Number, nullable=False),
    sqlite_with_rowid=False,
)
severed = Table(
    "severed",
    metadata,
    Column("digest", LargeBinary(16), primary_key=True),
    Column("position", Number, nullable=False),
    sqlite_with_rowid=False,
)


def digest(log: Log, source: str, ref: str) -> bytes:
    """What stands for an id at a service outside sealed payloads."""
    return log.keyring.digest("link", source, ref)


def put(connection: Connection, name: bytes, ordinal: int, position: int, *, live: bool) -> None:
    """An id was linked to a person. live: the event is new; else the views are derived again."""
    if live:
        connection.execute(delete(severed).where(severed.c.digest == name))
    else:
        ended = connection.scalar(select(severed.c.position).where(severed.c.digest == name))
        if ended is not None and ended > position:
            return
    connection.execute(delete(link).where(link.c.digest == name))
    connection.execute(insert(link).values(digest=name, person=ordinal, position=position))


def end(connection: Connection, name: bytes, ordinal: int, position: int, *, live: bool) -> bool:
    """An id was unlinked from a person; whether that pair stood."""
    pair = (link.c.digest == name) & (link.c.person == ordinal)
    if not connection.execute(delete(link).where(pair)).rowcount:
        return False
    _sever(connection, [name], position, live=live)
    return True


def end_person(connection: Connection, ordinal: int, position: int, *, live: bool) -> list[bytes]:
    """Drop every row of an erased person; the ids that were linked to them."""
    names = list(connection.scalars(select(link.c.digest).where(link.c.person == ordinal)))
    connection.execute(delete(link).where(link.c.person == ordinal))
    _sever(connection, names, position, live=live)
    return names


def drop_severed(connection: Connection) -> None:
    """Drop what does not stand though it was put: it was severed behind its position while views were derived."""
    behind = (severed.c.digest == link.c.digest) & (severed.c.position > link.c.position)
    connection.execute(delete(link).where(exists(select(severed.c.digest).where(behind))))


def _sever(connection: Connection, names: Iterable[bytes], position: int, *, live: bool) -> None:
    for name in names if live else ():
        connection.execute(delete(severed).where(severed.c.digest == name))
        connection.execute(insert(severed).values(digest=name, position=position))


def resolve(connection: Connection, names: Iterable[bytes]) -> dict[bytes, int | None]:
    """Whose each id is: the person's ordinal, None where it was severed; no entry where it was never linked."""
    wanted = sorted(set(names))
    found: dict[bytes, int | None] = {}
    for at in range(0, len(wanted), 500):
        part = wanted[at : at + 500]
        found.update(dict.fromkeys(connection.scalars(select(severed.c.digest).where(severed.c.digest.in_(part)))))
        rows = connection.execute(select(link.c.digest, link.c.person).where(link.c.digest.in_(part)))
        found.update((row.digest, row.person) for row in rows)
    return found


def of_person(connection: Connection, ordinal: int) -> list[int]:
    """The positions of the links of a person that stand, in order."""
    return list(connection.scalars(select(link.c.position).where(link.c.person == ordinal).order_by(link.c.position)))


def ever(log: Log, connection: Connection, ordinal: int) -> set[bytes]:
    """Every id that was ever linked to a person, standing or not; it reads their links from the log."""
    query = select(policy.c.position).join(recorder.log, recorder.log.c.position == policy.c.position)
    query = query.where(policy.c.person == ordinal, recorder.log.c.topic.startswith("identity.linked."))
    entries = log.read(connection, connection.scalars(query).all()).values()
    said = (entry.event.data for entry in entries if isinstance(entry, Entry))
    return {digest(log, data["source"], data["ref"]) for data in said}


def all_severed(connection: Connection) -> list[bytes]:
    """Every id that is severed."""
    return list(connection.scalars(select(severed.c.digest)))
