"""The end of retention: payloads of kinds with a time to live are destroyed, a kind and month at a time.

A month (of recording, UTC) may go once it is over, the kind's time to live is over for its newest fact, and
the days that the policy file keeps it beyond have passed. Its key is destroyed first, with a tombstone; then
its rows in the views become what the log says in the clear. Cut off in between, the next opening of the hub
goes on. Two things a decision of now may still need are kept: a location while an emergency that it may
place someone in is active (R10), and the month in which the log itself still stands.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import ColumnElement, Connection, func, select

from hub.errors import Misuse
from hub.events import LOCATION
from hub.log import recorder, sealing
from hub.log.log import Log
from hub.policy import City, KindTerms
from hub.rules import PLACE_HOLDS, reaches_back
from hub.schemas import Schemas
from hub.views import facts, persons
from hub.views.views import Views

_LONGEST_DAYS = 36_500
_DEFAULT = "default"
_PERSONS_AT_ONCE = 200
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionPolicy:
    """The policy file, read: for how many days payloads are kept after their time to live."""

    default: int
    days: Mapping[str, int]

    def keeps(self, kind: str) -> timedelta:
        """For how long payloads of a kind are kept after their time to live."""
        return timedelta(days=self.days.get(kind, self.default))


def load(text: bytes, schemas: Schemas) -> RetentionPolicy:
    """The policy that a file says. Raises Misuse, which names the key that is wrong."""
    try:
        said = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misuse(f"retention policy: is no TOML in UTF-8: {error}") from None
    for key in said:
        if key != "keep_days":
            raise _wrong(key, "is no key of the policy; known: keep_days")
    table = said.get("keep_days")
    if not isinstance(table, dict):
        raise _wrong("keep_days", "is missing, or is no table")
    if _DEFAULT not in table:
        raise _wrong("keep_days.default", "is missing")
    kinds = {kind.name for kind in schemas if kind.category == "fact" and kind.about == "person"}
    return RetentionPolicy(
        default=_days(table.pop(_DEFAULT), _DEFAULT),
        days={kind: _kept(kind, days, kinds) for kind, days in table.items()},
    )


def _kept(kind: str, days: object, kinds: Collection[str]) -> int:
    if kind not in kinds:
        raise _wrong(f'keep_days."{kind}"', "is no kind of facts about persons")
    return _days(days, f'"{kind}"')


def _days(days: object, name: str) -> int:
    if isinstance(days, bool) or not isinstance(days, int) or not 0 <= days <= _LONGEST_DAYS:
        raise _wrong(f"keep_days.{name}", f"is no whole number from 0 to {_LONGEST_DAYS}")
    return days


def _wrong(path: str, reason: str) -> Misuse:
    return Misuse(f"retention policy: {path}: {reason}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Month:
    """A kind's month (`2026-06`), and how many entries its destruction closes: of persons who are not erased."""

    kind: str
    month: str
    entries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Retained:
    """What was destroyed, or with `dry_run` would be; and what is due and waits, as an emergency needs it."""

    destroyed: tuple[Month, ...]
    waiting: tuple[Month, ...]


class Retention:
    """Destroys the payloads of one log whose time is over."""

    def __init__(self, log: Log, views: Views, policy: RetentionPolicy) -> None:
        self._log, self._views, self._policy = log, views, policy

    def retain(self, *, dry_run: bool = False) -> Retained:
        """Destroy every month that is due, the oldest first. Asked again, it finds nothing more to do.

        Raises Busy where the clock cannot be trusted: what is destroyed does not come back.
        """
        self._log.entries.check_clock()
        if not dry_run:
            self.finish()
        destroyed: list[Month] = []
        waiting: list[Month] = []
        for kind, month, needed in self._due(self._log.clock.now()):
            with self._log.entries.snapshot() as (connection, end):
                found = Month(kind=kind, month=_name(month), entries=self._count(connection, end.position, kind, month))
            (waiting if needed else destroyed).append(found)
            if not needed and not dry_run:
                self._log.keyring.end(kind, month, self._log.clock.now())
                self._fold(kind, month)
        return Retained(destroyed=tuple(destroyed), waiting=tuple(waiting))

    def finish(self) -> None:
        """Bring the views along with months whose keys were destroyed just before the hub was stopped."""
        ended = self._log.keyring.ended()
        with self._log.entries.snapshot() as (connection, _):
            folded = set(connection.scalars(select(recorder.setting.c.name)))
        for kind, month in sorted(ended, key=lambda period: (period[1], period[0])):
            if facts.mark(kind, month) not in folded:
                self._fold(kind, month)

    def renew(self) -> bool:
        """Drop from memory what another process destroyed; whether anything was. Cheap enough for every second."""
        new = self._log.keyring.renew()
        if new:
            self._views.forget()
        return new

    def _due(self, now: datetime) -> list[tuple[str, int, bool]]:
        """The kinds and months whose time is over; and whether an emergency needs them still."""
        with self._log.entries.snapshot() as (connection, end):
            city = self._views.at(connection, end.position).city
        found = []
        for kind, month in self._log.keyring.periods():
            terms, over = city.kinds.get(kind), sealing.first_of(month + 1)
            if terms is None or terms.ttl_s is None or end.recorded_at is None or end.recorded_at < over:
                continue
            if now >= over + _lives(kind, terms) + self._policy.keeps(kind):
                found.append((kind, month, kind == LOCATION and _needed(city, over, now)))
        return found

    def _fold(self, kind: str, month: int) -> None:
        """Make the rows of a destroyed month what the log says of it in the clear."""
        self._views.forget()
        with self._log.entries.snapshot() as (connection, end):
            terms = self._views.at(connection, end.position).city.kinds.get(kind)
            rows = self._rows(connection, end.position, kind, month)
            query = select(recorder.log.c.subject, recorder.log.c.position, recorder.log.c.recorded_us).where(*rows)
            recorded: dict[int, dict[int, int]] = {}
            for subject, position, recorded_us in connection.execute(query):
                recorded.setdefault(subject, {})[position] = recorded_us
        for ordinals in _pieces(recorded) if terms is not None else ():
            of_these = {position: us for ordinal in ordinals for position, us in recorded[ordinal].items()}
            with self._log.entries.maintaining() as connection:
                self._views.facts.lose(connection, terms, ordinals, of_these)  # type: ignore[arg-type]
        self._log.entries.set(facts.mark(kind, month), "folded")

    def _rows(self, connection: Connection, end: int, kind: str, month: int) -> list[ColumnElement[bool]]:
        """What picks the entries that are sealed under the key of a kind and month."""
        first = self._log.position_at(connection, sealing.first_of(month) - _MICROSECOND, end) + 1
        last = self._log.position_at(connection, sealing.first_of(month + 1) - _MICROSECOND, end)
        schema, columns = self._log.schemas.newest(kind), recorder.log.c
        header = sealing.header(month)
        return [
            columns.position.between(first, last),
            columns.topic.in_([f"{kind}.{version}" for version in range(1, (schema.version if schema else 1) + 1)]),
            columns.subject != sealing.CITY,
            func.substr(columns.state, 1, len(header)) == header,
        ]

    def _count(self, connection: Connection, end: int, kind: str, month: int) -> int:
        columns = recorder.log.c
        erased = list(persons.erased(connection))
        query = select(columns.subject, func.count()).where(*self._rows(connection, end, kind, month))
        counts: dict[int, int] = dict(map(tuple, connection.execute(query.group_by(columns.subject))))
        return sum(counts.values()) - sum(counts.get(ordinal, 0) for ordinal in erased)


def _lives(kind: str, terms: KindTerms) -> timedelta:
    """How long a fact may matter: its time to live; a location gives its area for a day at least (R10)."""
    lives = timedelta(seconds=terms.ttl_s or 0)
    return max(lives, PLACE_HOLDS) if kind == LOCATION else lives


def _needed(city: City, over: datetime, now: datetime) -> bool:
    """Whether a location of before `over` may place someone in an emergency that is active (R10)."""
    active = (e for e in city.emergencies.values() if e.active(now) and not e.exercise)
    return any(over > reaches_back(emergency) for emergency in active)


def _name(month: int) -> str:
    return sealing.first_of(month).strftime("%Y-%m")


def _pieces(ordinals: Iterable[int]) -> Iterator[list[int]]:
    left = iter(sorted(ordinals))
    while piece := list(islice(left, _PERSONS_AT_ONCE)):
        yield piece
