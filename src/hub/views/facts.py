"""Where the facts of a person stand in the log: by kind, newest first, and until which position.

`until` is where a retraction took the fact away; a fact whose retraction came first holds nowhere. A
fact of a place has person 0. `variant` stands for the values of the kind's `latest_by` fields (R9); `ends_us`
is the end that the fact carries itself (R11).

Of a fact whose payload was destroyed when its retention ended nothing is kept but what the log says in the
clear. It stands at its time of recording, the latest that it can have happened, in real and drill alike and
as `LOST`, so that in a decision about the past nothing older takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    Table,
    delete,
    insert,
    literal,
    select,
    true,
    update,
)

from hub.canonical import dumps
from hub.events import EPOCH, Entry, Position, micros
from hub.log.database import insert_many
from hub.log.log import Closed, Log
from hub.log.recorder import Number, metadata, setting
from hub.policy import KindTerms
from hub.rules import LOST, FactRow
from hub.schemas import ENDS
from hub.views.persons import person as person_table
from hub.views.policies import FOREVER

PLACE = 0
"""The person of a fact that is about a place."""

fact = Table(
    "fact",
    metadata,
    Column("person", Number, primary_key=True, autoincrement=False),
    Column("kind", Number, primary_key=True, autoincrement=False),
    Column("exercise", Number, primary_key=True, autoincrement=False),
    Column("effective_us", Number, primary_key=True, autoincrement=False),
    Column("position", Number, primary_key=True, autoincrement=False),
    Column("variant", Number, nullable=False),
    Column("until", Number, nullable=False),
    Column("ends_us", Number, nullable=False),
    sqlite_with_rowid=False,
)
retraction = Table(
    "retraction",
    metadata,
    Column("target", LargeBinary(16), primary_key=True),
    Column("person", Number, primary_key=True, autoincrement=False),
    Column("position", Number, nullable=False),
    sqlite_with_rowid=False,
)

FOLDED = "retention"
"""With what the settings begin that say which destroyed months' rows were brought along."""

_COLUMNS = tuple(fact.columns.keys())


_ANY_RETRACTION = select(retraction.c.position).limit(1)


class Facts:
    """Reads and writes the rows. `kind` is the position at which the kind was introduced."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def row(self, entry: Entry, terms: KindTerms, identity: bytes) -> dict[str, Any]:
        """The row of a fact, and its identity, by which an early retraction finds it."""
        return {
            "person": entry.subject or PLACE,
            "kind": terms.position,
            "exercise": int(entry.event.exercise),
            "effective_us": micros(entry.effective_at),
            "position": entry.position,
            "variant": self.variant(entry.event.data, terms),
            "until": FOREVER,
            "ends_us": FOREVER if entry.subject is None else _ends_us(entry.event.data),
            "identity": identity,
        }

    def lost(self, entry: Closed, terms: KindTerms, identity: bytes) -> list[dict[str, Any]]:
        """The rows of a fact whose payload was destroyed."""
        row = {
            "person": entry.subject or PLACE,
            "kind": terms.position,
            "effective_us": micros(entry.recorded_at),
            "position": entry.position,
            "variant": LOST,
            "until": FOREVER,
            "ends_us": FOREVER,
            "identity": identity,
        }
        return [row | {"exercise": exercise} for exercise in (0, 1)]

    def lose(
        self, connection: Connection, terms: KindTerms, ordinals: Sequence[int], recorded: Mapping[int, int]
    ) -> None:
        """Make the rows of these persons what `lost` says; recorded: position and time of each fact destroyed."""
        query = select(fact).where(
            fact.c.person.in_(ordinals),
            fact.c.kind == terms.position,
            fact.c.position.between(min(recorded), max(recorded)),
            fact.c.variant != LOST,
        )
        rows = [row for row in connection.execute(query) if row.position in recorded]
        for row in rows:
            this = [column == value for column, value in zip(fact.primary_key.columns, tuple(row)[:5], strict=True)]
            connection.execute(delete(fact).where(*this))
        lost = [
            (row.person, row.kind, exercise, recorded[row.position], row.position, LOST, row.until, FOREVER)
            for row in rows
            for exercise in (0, 1)
        ]
        insert_many(connection, fact, lost)

    def variant(self, data: Mapping[str, Any], terms: KindTerms) -> int:
        """A number that is equal where the values of the `latest_by` fields are; 0 without such fields."""
        if not terms.latest_by:
            return 0
        values = [data.get(name) for name in terms.latest_by]
        return self._log.keyring.number("variant", dumps(values).decode())

    def insert(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Write rows; those whose retraction came first hold nowhere (R12)."""
        if connection.scalar(_ANY_RETRACTION) is not None:
            early = self._early(connection, [row["identity"] for row in rows])
            for row in rows:
                if (row["identity"], row["person"]) in early:
                    row["until"] = row["position"]
        rows.sort(key=lambda row: (row["person"], row["kind"], row["effective_us"]))
        insert_many(connection, fact, [tuple(row[name] for name in _COLUMNS) for row in rows])

    def _early(self, connection: Connection, identities: list[bytes]) -> set[tuple[bytes, int]]:
        found: set[tuple[bytes, int]] = set()
        for at in range(0, len(identities), 500):
            query = select(retraction.c.target, retraction.c.person)
            rows = connection.execute(query.where(retraction.c.target.in_(identities[at : at + 500])))
            found.update((row.target, row.person) for row in rows)
        return found

    def retract(self, connection: Connection, ordinal: int, target: bytes, known: int | None, at: int) -> None:
        """Take a fact away from position `at` on; `known` is where it stands, or None while it has not arrived."""
        if known is None:
            seen = select(retraction.c.position).where(retraction.c.target == target, retraction.c.person == ordinal)
            if connection.scalar(seen) is None:
                connection.execute(insert(retraction).values(target=target, person=ordinal, position=at))
            return
        where = (fact.c.person == ordinal) & (fact.c.position == known) & (fact.c.until > at)
        connection.execute(update(fact).where(where).values(until=at))

    def newest(
        self,
        connection: Connection,
        ordinals: Sequence[int],
        terms: KindTerms,
        exercise: bool,
        position: int,
        *,
        ends: bool = False,
    ) -> dict[int, list[FactRow]]:
        """Of each person the most recent fact of the kind that holds at `position`; ends: with its own end."""
        top = select(fact.c.position).where(
            fact.c.person == person_table.c.ordinal,
            fact.c.kind == terms.position,
            fact.c.exercise == int(exercise),
            fact.c.position <= position,
            fact.c.until > position,
        )
        top = top.order_by(fact.c.effective_us.desc(), fact.c.position.desc()).limit(1)
        time = top.with_only_columns(fact.c.effective_us)
        end = top.with_only_columns(fact.c.ends_us).scalar_subquery() if ends else literal(FOREVER)
        columns = top.scalar_subquery().label("top"), time.scalar_subquery().label("us"), end.label("ends_us")
        query = select(person_table.c.ordinal, *columns)
        found = {}
        for at in range(0, len(ordinals), 500):
            part = query.where(person_table.c.ordinal.in_(ordinals[at : at + 500]))
            for ordinal, where, us, ends_us in connection.execute(part):
                if where is not None:
                    found[ordinal] = [FactRow(Position(where), _time(us), True, 0, _end(ends_us))]
        return found

    def history(
        self, connection: Connection, ordinals: Iterable[int], terms: KindTerms, exercise: bool, position: int
    ) -> dict[int, list[FactRow]]:
        """Of each person every fact of the kind that holds at `position`, newest first."""
        query = select(fact.c.person, fact.c.effective_us, fact.c.position, fact.c.variant, fact.c.ends_us)
        query = query.where(
            fact.c.kind == terms.position,
            fact.c.exercise == int(exercise),
            fact.c.position <= position,
            fact.c.until > position,
        ).order_by(fact.c.person, fact.c.effective_us.desc(), fact.c.position.desc())
        ordinals, found = list(ordinals), {}  # type: ignore[var-annotated]
        seen: set[tuple[int, int]] = set()
        hidden: set[int] = set()
        for at in range(0, len(ordinals), 500):
            for ordinal, us, where, variant, ends_us in connection.execute(
                query.where(fact.c.person.in_(ordinals[at : at + 500]))
            ):
                newest = variant == LOST or (ordinal not in hidden and (ordinal, variant) not in seen)
                seen.add((ordinal, variant))
                if variant == LOST:  # what is older may have been behind it
                    hidden.add(ordinal)
                row = FactRow(Position(where), _time(us), newest, variant, _end(ends_us))
                found.setdefault(ordinal, []).append(row)
        return found

    def of_place(
        self, connection: Connection, terms: KindTerms, position: int, by: datetime | None = None
    ) -> list[int]:
        """The positions of the facts of places of a kind, drills included, newest first; by: none from after it."""
        query = select(fact.c.position).where(
            fact.c.person == PLACE, fact.c.kind == terms.position, fact.c.position <= position, _by(by)
        )
        return list(connection.scalars(query.order_by(fact.c.effective_us.desc(), fact.c.position.desc())))

    def newest_of_place(
        self, connection: Connection, terms: KindTerms, position: int, by: datetime | None = None
    ) -> list[int]:
        """The position of the newest fact of each place (each value of `latest_by`), newest first.

        by: the newest of those that do not come after it.
        """
        query = select(fact.c.position, fact.c.variant, fact.c.exercise).where(
            fact.c.person == PLACE, fact.c.kind == terms.position, fact.c.position <= position, _by(by)
        )
        first: dict[tuple[int, int], int] = {}
        for row in connection.execute(query.order_by(fact.c.effective_us.desc(), fact.c.position.desc())):
            first.setdefault((row.variant, row.exercise), row.position)
        return list(first.values())


def _ends_us(data: Mapping[str, Any]) -> int:
    ends_at = data.get(ENDS)
    return FOREVER if ends_at is None else micros(ends_at)


def _end(ends_us: int) -> datetime | None:
    return None if ends_us == FOREVER else _time(ends_us)


def _time(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def _by(time: datetime | None) -> ColumnElement[bool]:
    return true() if time is None else fact.c.effective_us <= micros(time)


def delete_person(connection: Connection, ordinal: int) -> None:
    """Drop every row of an erased person."""
    connection.execute(delete(fact).where(fact.c.person == ordinal))
    connection.execute(delete(retraction).where(retraction.c.person == ordinal))


def marked(connection: Connection) -> list[tuple[str, int]]:
    """The kinds and months that the log's own database says were destroyed: what keys from a backup have to obey."""
    names = connection.scalars(select(setting.c.name).where(setting.c.name.like(f"{FOLDED}:%")))
    parts = [name.split(":") for name in names]
    return [(kind, int(month)) for _, kind, month in parts]


def mark(kind: str, month: int) -> str:
    """The setting that says that the views were brought along."""
    return f"{FOLDED}:{kind}:{month}"
