"""Who saw what, told again from the log: of a person, or of a period. No payload of a fact is told.

    the logged disclosure -> whom its chunks name -> the one decision path, at its own position and time

Of someone who is erased nothing can be told but that they were shown. Nothing is appended here: who asks
appends the look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection

from hub.answer import FIGURE_FORMAT, parse_query
from hub.deciding import Telling
from hub.disclosure import Disclosure
from hub.events import Entry
from hub.log.log import Log
from hub.statistics import Question
from hub.views import index, uses
from hub.views.views import DISCLOSED, Views

UNKNOWN = "unknown"
"""The mode where what the decision rested on was destroyed since: the person was shown, what of them is lost."""

_AT_ONCE = 200
_PERSONS = 1_000
_APART = timedelta(hours=1)
"""How far a decision's time may be from the time at which its disclosure was recorded: a slow answer, a set clock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownKind:
    """So many items of one kind, shown at one level on one basis. basis: the id of the grant or override."""

    kind: str
    level: str
    items: int
    basis_type: Literal["grant", "override"]
    basis: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """One disclosure's share of one person. time: when it was decided. kinds: none where `mode` is unknown.

    counted: whether the person was not shown, but counted in a figure of statistics; by the first answer of its hour.
    """

    position: int
    disclosure: str
    time: datetime
    recipient: str
    actor: str | None
    purpose: str
    exercise: bool
    person: str
    mode: str
    kinds: tuple[ShownKind, ...]
    counted: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One disclosure: whom it showed, by id, and how many of those it showed are erased now.

    counted: whether it showed nobody, but counted them in a figure of statistics.
    """

    position: int
    disclosure: str
    time: datetime
    recipient: str
    actor: str | None
    purpose: str
    exercise: bool
    sightings: tuple[Sighting, ...]
    erased: int
    counted: bool = False


class Traces:
    """Tells of one log's disclosures again."""

    def __init__(self, log: Log, views: Views, disclosure: Disclosure) -> None:
        self._log, self._views, self._disclosure = log, views, disclosure

    def of_person(self, person: str, *, before: int | None = None, after: int = 0, limit: int = 100) -> list[Sighting]:
        """Who saw what of a person, newest first; of someone unknown or erased nothing.

        before, after: only disclosures at positions strictly between. limit: at most so many.
        """
        found: list[Sighting] = []
        while len(found) < limit:
            with self._log.entries.snapshot() as (connection, end):
                self._views.at(connection, end.position)
                ordinal = self._views.persons.ordinal(person)
                if ordinal is None or self._views.persons.erased_at(ordinal) is not None:
                    return found
                before = end.position + 1 if before is None else before
                looked = index.found(self._log, connection, ordinal, after=after, before=before, limit=_AT_ONCE)
                entries = self._log.read(connection, (position for position, _ in looked))
                for position, known in looked:
                    entry = entries[position]
                    if isinstance(entry, Entry) and (known or self._shows(connection, entry, ordinal)):
                        found += self._sightings(connection, end.position, entry, [ordinal])
                        if len(found) >= limit:
                            return found[:limit]
            if len(looked) < _AT_ONCE:
                return found
            before = looked[-1][0]
        return found

    def _shows(self, connection: Connection, entry: Entry, ordinal: int) -> bool:
        return ordinal in self._disclosure.named(connection, entry)[0]

    def between(self, since: datetime, until: datetime) -> Iterator[Sighting]:
        """Who saw what of whom, oldest first: of each disclosure decided at `since` or later, and before `until`."""
        for trace in self.disclosures(since, until):
            yield from trace.sightings

    def disclosures(self, since: datetime, until: datetime) -> Iterator[Trace]:
        """As `between`, by disclosure, those that showed nobody too. No snapshot stays open between two of them."""
        for position in self._positions(since, until):
            trace = self._trace(position, since, until)
            if trace is not None:
                yield trace

    def persons(self, since: datetime, until: datetime, *, exercises: bool = True) -> int:
        """How many persons the disclosures of [since, until) showed, those who are erased now too.

        Figures of statistics show nobody.
        """
        found: set[int] = set()
        positions = self._positions(since, until)
        for at in range(0, len(positions), _AT_ONCE):
            with self._log.entries.snapshot() as (connection, _):
                for entry in self._log.read(connection, positions[at : at + _AT_ONCE]).values():
                    data = entry.event.data if isinstance(entry, Entry) else None
                    if (
                        data
                        and data["format"] != FIGURE_FORMAT
                        and since <= data["time"] < until
                        and (exercises or not data["exercise"])
                    ):
                        found.update(self._disclosure.named(connection, entry)[0])  # type: ignore[arg-type]
        return len(found)

    def _positions(self, since: datetime, until: datetime) -> list[int]:
        """Where disclosures stand that may have been decided in [since, until)."""
        with self._log.entries.snapshot() as (connection, end):
            first = self._log.position_at(connection, since - _APART, end.position)
            last = self._log.position_at(connection, until + _APART, end.position)
            return uses.disclosures(connection, after=first, up_to=last)

    def _trace(self, position: int, since: datetime, until: datetime) -> Trace | None:
        with self._log.entries.snapshot() as (connection, end):
            entry = self._log.read(connection, [position])[position]
            if not isinstance(entry, Entry) or entry.event.kind != DISCLOSED:
                return None
            data = entry.event.data
            if not since <= data["time"] < until:
                return None
            self._views.at(connection, end.position)
            shown, _ = self._disclosure.named(connection, entry)
            sightings = list(self._sightings(connection, end.position, entry, shown))
        return Trace(
            position=entry.position,
            disclosure=data["disclosure"],
            time=data["time"],
            recipient=data["recipient"],
            actor=data["actor"],
            purpose=data["purpose"],
            exercise=data["exercise"],
            sightings=tuple(sorted(sightings, key=lambda sighting: sighting.person)),
            erased=len(shown) - len(sightings),
            counted=data["format"] == FIGURE_FORMAT,
        )

    def _sightings(self, connection: Connection, end: int, entry: Entry, ordinals: Sequence[int]) -> Iterator[Sighting]:
        """What a disclosure showed of those among `ordinals` who are not erased, whom its chunks name."""
        data = entry.event.data
        counted, standing = data["format"] == FIGURE_FORMAT, self._views.at(connection, end, data["position"])
        query = Question.logged(data["query"]).query if counted else parse_query(data["query"])
        for at in range(0, len(ordinals), _PERSONS):
            names = self._views.persons.names(connection, self._present(ordinals[at : at + _PERSONS]))
            told = self._disclosure.deciding.tellings(standing, query, data["time"], names, counting=counted)
            for ordinal, name in names.items():
                mode, kinds = told.get(ordinal, (UNKNOWN, ()))
                yield Sighting(
                    position=entry.position,
                    disclosure=data["disclosure"],
                    time=data["time"],
                    recipient=data["recipient"],
                    actor=data["actor"],
                    purpose=data["purpose"],
                    exercise=data["exercise"],
                    person=name,
                    mode=mode,
                    kinds=tuple(map(_shown, kinds)),
                    counted=counted,
                )

    def _present(self, ordinals: Sequence[int]) -> list[int]:
        return [ordinal for ordinal in ordinals if self._views.persons.erased_at(ordinal) is None]


def _shown(telling: Telling) -> ShownKind:
    basis = telling.basis
    return ShownKind(kind=telling.kind, level=telling.level, items=telling.items, basis_type=basis.type, basis=basis.id)
