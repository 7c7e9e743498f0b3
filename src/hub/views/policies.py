"""Which control events bear on whom, from which position to which; and whom a recipient may have a grant of.

A row points at a control event in the log; the policy is folded from those that hold at a position. The
grantee of a row narrows who can be visible to a recipient at all: it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Index, Table, delete, select, update

from hub.errors import Tampered
from hub.events import (
    CONTROLS,
    ConsentGranted,
    ConsentRevoked,
    Control,
    Entry,
    PersonControl,
    RelationAdded,
    RosterListed,
    To,
    control,
)
from hub.log.database import insert_many
from hub.log.log import Log
from hub.log.recorder import Number, log, metadata
from hub.policy import ALL, City, Policy
from hub.views.persons import Persons

FOREVER = 2**62
CITY = 0
_NOBODY = 0
_MOST_VERSIONS = 10

policy = Table(
    "policy",
    metadata,
    Column("person", Number, primary_key=True, autoincrement=False),
    Column("position", Number, primary_key=True, autoincrement=False),
    Column("until", Number, nullable=False),
    Column("grantee", Number, nullable=False),
    Index("policy_grantee", "grantee", "person"),
    sqlite_with_rowid=False,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A person's policy, and since which position it has been so."""

    since: int
    policy: Policy


class Policies:
    """Reads and writes the rows, and folds what they point at."""

    def __init__(self, log: Log, persons: Persons) -> None:
        self._log, self._persons = log, persons

    def grantee(self, event: Control) -> int:
        """The number under which a row is found by those whom the event may open something to; 0 for nobody."""
        match event:
            case ConsentGranted(to=To(recipient=str(recipient))):
                return self._log.keyring.number("to/recipient", recipient)
            case ConsentGranted(to=To(class_=str(class_))):
                return self._log.keyring.number("to/class", class_)
            case RelationAdded():
                return self._log.keyring.number("relation/recipient", event.recipient)
            case RosterListed():
                return self._log.keyring.number("roster")
            case _:
                return _NOBODY

    def candidates(
        self,
        connection: Connection,
        recipient: str,
        class_: str,
        position: int,
        *,
        roster: bool,
        ordinals: range | None = None,
    ) -> set[int]:
        """Everyone of whom `recipient` might see something at `position`; overrides that list persons aside.

        ordinals: only these.
        """
        number = self._log.keyring.number
        grantees = [
            number("to/recipient", recipient),
            number("to/class", class_),
            number("relation/recipient", recipient),
        ]
        grantees += [number("roster")] if roster else []
        query = select(policy.c.person).distinct()
        query = query.where(policy.c.grantee.in_(grantees), policy.c.position <= position, policy.c.until > position)
        if ordinals is not None:
            query = query.where(policy.c.person.between(ordinals.start, ordinals.stop - 1))
        return set(connection.scalars(query))

    def bearing(self, connection: Connection, persons: Iterable[int], after: int) -> bool:
        """Whether a control event after that position bears on one of `persons` or on the city."""
        wanted = [CITY, *persons]
        for at in range(0, len(wanted), 500):
            query = select(policy.c.position).where(policy.c.person.in_(wanted[at : at + 500]))
            if connection.scalar(query.where(policy.c.position > after).limit(1)) is not None:
                return True
        return False

    def city(self, connection: Connection, position: int) -> City:
        """The city's policy at `position`."""
        query = select(policy.c.position).where(policy.c.person == CITY, policy.c.position <= position)
        entries = self._log.read(connection, connection.scalars(query))
        city = City()
        for at in sorted(entries):
            entry = entries[at]
            if not isinstance(entry, Entry):
                continue
            if entry.event.kind not in CONTROLS:
                raise Tampered("the view policy does not follow from the log; run: hub rebuild", position=at)
            city = city.apply(control(entry.event), entry.position, entry.recorded_at)  # type: ignore[arg-type]
        return city

    def city_since(self, connection: Connection, position: int) -> int:
        """The position of the last event of the city's policy at `position`."""
        query = select(policy.c.position).where(policy.c.person == CITY, policy.c.position <= position)
        return connection.scalar(query.order_by(policy.c.position.desc()).limit(1)) or 0

    def events(self, connection: Connection, subject: int, end: int, kinds: Iterable[str] = ()) -> list[Entry]:
        """The control events about a person (or the city, 0) up to `end`, in order.

        kinds: only these, if any are named. What cannot be read any more is left out.
        """
        query = select(policy.c.position).where(policy.c.person == subject, policy.c.position <= end)
        topics = [f"{kind}.{version}" for kind in kinds for version in range(1, _MOST_VERSIONS)]
        if topics:
            query = query.join(log, log.c.position == policy.c.position).where(log.c.topic.in_(topics))
        entries = self._log.read(connection, connection.scalars(query))
        return [entry for at in sorted(entries) if isinstance(entry := entries[at], Entry)]

    def said(self, connection: Connection, ordinals: Sequence[int], position: int) -> dict[int, list[int]]:
        """The positions up to `position` of all control events about persons, those that hold no longer too."""
        found: dict[int, list[int]] = {ordinal: [] for ordinal in ordinals}
        for at in range(0, len(ordinals), 500):
            query = select(policy.c.person, policy.c.position).where(policy.c.person.in_(ordinals[at : at + 500]))
            query = query.where(policy.c.position <= position).order_by(policy.c.position)
            for row in connection.execute(query):
                found[row.person].append(row.position)
        return found

    def read(self, connection: Connection, ordinals: Sequence[int], position: int) -> dict[int, tuple[Held, bool]]:
        """The policies at `position`, each with whether it is also the newest there is."""
        pointers: dict[int, list[int]] = {ordinal: [] for ordinal in ordinals}
        last = dict.fromkeys(ordinals, 0)
        newest = dict.fromkeys(ordinals, True)
        for at in range(0, len(ordinals), 500):
            query = select(policy.c.person, policy.c.position, policy.c.until)
            for row in connection.execute(query.where(policy.c.person.in_(ordinals[at : at + 500]))):
                if row.position <= position < row.until:
                    pointers[row.person].append(row.position)
                for changed in (row.position, row.until):
                    if changed <= position:
                        last[row.person] = max(last[row.person], changed)
                    elif changed != FOREVER:
                        newest[row.person] = False
        entries = self._log.read(connection, (p for found in pointers.values() for p in found))
        held = {}
        for ordinal, found in pointers.items():
            events = [entry for at in sorted(found) if isinstance(entry := entries[at], Entry)]
            folded, since = self._fold(ordinal, events, position)
            held[ordinal] = Held(since=max(since, last[ordinal]), policy=folded), newest[ordinal]
        return held

    def _fold(self, ordinal: int, entries: list[Entry], position: int) -> tuple[Policy, int]:
        folded = self.blank(ordinal, entries[0].event.person or "" if entries else "")
        for entry in entries:
            folded = folded.apply(_person_control(entry), entry.position, entry.recorded_at)
        return self.without_erased_delegates(folded, position)

    def blank(self, ordinal: int, name: str) -> Policy:
        """The policy of someone of whom nothing was said yet."""
        return Policy(person=name, listed_as=self._persons.digest_of(ordinal).hex())

    def without_erased_delegates(self, folded: Policy, position: int) -> tuple[Policy, int]:
        """R15: no delegation to an erased id is active; and since which position that has been so."""
        since = 0
        for delegate in list(folded.delegations):
            ordinal = self._persons.ordinal(delegate)
            erased = self._persons.erased_at(ordinal) if ordinal is not None else None
            if erased is not None and erased <= position:
                folded, since = folded.without_delegate(delegate), max(since, erased)
        return folded, since


def _person_control(entry: Entry) -> PersonControl:
    return control(entry.event)  # type: ignore[return-value]


def endings(event: Control, before: Policy) -> tuple[list[int], bool]:
    """Which grants' rows end with `event`, and whether its own row has to be folded from then on.

    A revocation needs no row once the rows of what it revoked have ended; a grant with `ask: every_time`
    keeps its row, since R8 asks whether there ever was one.
    """
    if not isinstance(event, ConsentRevoked):
        return [], True
    named = before.grants.values() if event.grant == ALL else filter(None, [before.grants.get(event.grant)])
    ended = list(named)
    return [g.position for g in ended if g.ask != "every_time"], any(g.ask == "every_time" for g in ended)


def insert_rows(connection: Connection, rows: list[tuple[int, int, int, int]]) -> None:
    """Write rows: person, position, until, grantee."""
    insert_many(connection, policy, rows)


def end_rows(connection: Connection, ordinal: int, positions: Iterable[int], until: int) -> None:
    """Have the rows hold no longer than to `until`."""
    where = (policy.c.person == ordinal) & policy.c.position.in_(list(positions))
    connection.execute(update(policy).where(where).values(until=until))


def delete_person(connection: Connection, ordinal: int) -> None:
    """Drop every row of an erased person."""
    connection.execute(delete(policy).where(policy.c.person == ordinal))
