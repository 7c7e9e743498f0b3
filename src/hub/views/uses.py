"""Which disclosures there were, and which uses of limited grants they consumed (R19)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Column, Connection, Index, Table, delete, func, insert, select

from hub.log.recorder import Number, metadata

disclosure = Table(
    "disclosure",
    metadata,
    Column("position", Number, primary_key=True, autoincrement=False),
    Column("recipient", Number, nullable=False),
    Index("disclosure_recipient", "recipient", "position"),
)
consumed = Table(
    "consumed",
    metadata,
    Column("person", Number, primary_key=True, autoincrement=False),
    Column("grant", Number, primary_key=True, autoincrement=False),
    Column("position", Number, primary_key=True, autoincrement=False),
    Index("consumed_position", "position"),
    sqlite_with_rowid=False,
)


def insert_disclosure(connection: Connection, position: int, recipient: int, uses: Iterable[tuple[int, int]]) -> None:
    """Write one disclosure and what it consumed: pairs of a person's ordinal and a grant's position."""
    connection.execute(insert(disclosure).values(position=position, recipient=recipient))
    rows = [{"person": person, "grant": grant, "position": position} for person, grant in uses]
    if rows:
        connection.execute(insert(consumed), rows)


def spent(connection: Connection, ordinals: Sequence[int], position: int) -> dict[int, int]:
    """How often each grant (by its position) of these persons was consumed up to `position`."""
    found: dict[int, int] = {}
    for at in range(0, len(ordinals), 500):
        query = select(consumed.c.grant, func.count()).where(
            consumed.c.person.in_(ordinals[at : at + 500]), consumed.c.position <= position
        )
        found.update((grant, count) for grant, count in connection.execute(query.group_by(consumed.c.grant)))
    return found


def takings(connection: Connection, ordinal: int, position: int) -> dict[int, list[int]]:
    """By grant of the person (its position) the disclosures up to `position` that consumed it, in order."""
    query = select(consumed.c.grant, consumed.c.position).where(consumed.c.person == ordinal)
    found: dict[int, list[int]] = {}
    for grant, at in connection.execute(query.where(consumed.c.position <= position).order_by(consumed.c.position)):
        found.setdefault(grant, []).append(at)
    return found


def taken(connection: Connection, pairs: Iterable[tuple[int, int]], after: int) -> bool:
    """Whether one of these grants was consumed after that position."""
    for person, grant in pairs:
        query = select(consumed.c.position).where(consumed.c.person == person, consumed.c.grant == grant)
        if connection.scalar(query.where(consumed.c.position > after).limit(1)) is not None:
            return True
    return False


def takers(connection: Connection, after: int, up_to: int) -> set[int]:
    """Persons of whom a use was taken behind one position and up to another."""
    query = select(consumed.c.person).where(consumed.c.position > after, consumed.c.position <= up_to)
    return set(connection.scalars(query.distinct()))


def disclosures(
    connection: Connection, *, up_to: int, after: int = 0, recipient: int | None = None, last: int | None = None
) -> list[int]:
    """The positions of all disclosures behind `after`, or of those to one recipient (its number).

    last: only so many, the newest first.
    """
    query = select(disclosure.c.position).where(disclosure.c.position > after, disclosure.c.position <= up_to)
    if recipient is not None:
        query = query.where(disclosure.c.recipient == recipient)
    if last is not None:
        return list(connection.scalars(query.order_by(disclosure.c.position.desc()).limit(last)))
    return list(connection.scalars(query.order_by(disclosure.c.position)))


def delete_person(connection: Connection, ordinal: int) -> None:
    """Drop every row of an erased person."""
    connection.execute(delete(consumed).where(consumed.c.person == ordinal))
