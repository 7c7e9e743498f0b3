"""One look at one feed: who is due, what is decided of each, and the message that says it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from hub.answer import Answer, FeedPart, Query, Shown
from hub.events import CONTROLS, Position, micros
from hub.feeds.rows import NEVER, TOLD, State, Ticket, held
from hub.log.recorder import log
from hub.log.sealing import CITY, Gone
from hub.policy import City, Policy
from hub.rules import Moment, Place, Reading
from hub.views import uses
from hub.views.policies import FOREVER
from hub.views.views import DISCLOSED, Standing

if TYPE_CHECKING:
    from hub.feeds.feeds import Feeds

LOCATED = timedelta(hours=24)
"""How long a location gives its area (R10)."""

_PIECE, _PROBE = 200, 10
"""Persons who are decided on at once; and the first of them once a message is full, to know whether more follows."""
_LONGEST = 20_000
"""Entries that are looked through for whom they are about; beyond, everyone is due."""

_TERMS = ("stream.registered", "stream.ended")
"""What says who is sent what: nobody sees more or less by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The next message, and what the feed's rows are once it is sent. left: whom the sweep has still to look at."""

    ticket: Ticket
    before: State | None
    after: State
    answer: Answer
    rows: dict[int, tuple[int, bytes | None, int]]
    left: Sequence[int]
    sends: bool
    evaluated: bool


class Planning:
    """One look at one feed, at one standing and time."""

    def __init__(self, feeds: Feeds, standing: Standing, query: Query, ticket: Ticket, time: datetime) -> None:
        self._feeds, self._standing, self._query, self._ticket, self._time = feeds, standing, query, ticket, time
        self._log, self._views, self._disclosure = feeds._log, feeds._views, feeds._disclosure
        self._connection, self._now_us = standing.connection, micros(time)
        self._rows: dict[int, tuple[int, bytes | None, int]] = {}
        self._shown: list[Shown] = []
        self._removed: list[int] = []

    def plan(self, limit: int) -> Plan:
        """The next message of at most `limit` persons."""
        before = self._feeds.state(self._connection, self._ticket)
        state = self._feeds.looked(self._ticket, before) if before is not None else State(0, 0, 0, 0)
        due, everyone = (set[int](), True) if before is None else self.due(state)
        everyone = everyone or self._ticket.closes
        swept = 0 if everyone else state.swept
        number = (before.sequence if before else 0) + 1
        kept = None if everyone else self._feeds.sweep(self._ticket, state)
        queue = sorted(due)
        if kept is not None:
            queue += [ordinal for ordinal in kept if ordinal not in due]
        elif swept is not None:
            queue += [ordinal for ordinal in self._everyone() if ordinal > swept and ordinal not in due]
        first = self._evaluate(queue, number, limit)
        more, left = first < len(queue), queue[max(first, len(due)) :]
        if swept is not None:  # up to whom the sweep has come
            swept = None if not left else max(swept, queue[first - 1] if first > len(due) else 0)
        for ordinal in queue[first : len(due)]:
            sequence, digest = self._before([ordinal]).get(ordinal, (NEVER, None))
            self._rows[ordinal] = sequence, TOLD if sequence > self._ticket.number else digest, 0
        after = State(number, self._standing.position, max(self._now_us, state.time_us), swept)
        said = FeedPart(
            removed=tuple(self._removed), next=self._feeds.token(self._query, self._ticket.feed, number), more=more
        )
        moment = Moment(position=Position(self._standing.position), time=self._time)
        shown = sorted(self._shown, key=lambda person: person.person)
        return Plan(
            ticket=self._ticket,
            before=before,
            after=after,
            answer=self._disclosure.message(self._query, shown, said, moment),
            rows=self._rows,
            left=left,
            sends=bool(shown or self._removed),
            evaluated=bool(queue),
        )

    def due(self, state: State, told_at: int = 0) -> tuple[set[int], bool]:
        """Who has to be looked at again, and whether everyone has to.

        told_at: up to there, whose uses were taken was looked at when the message was appended.
        """
        end = self._standing.position
        if end - state.position > _LONGEST:
            return self._resent(), True
        columns = log.c
        rows = self._connection.execute(
            select(columns.subject, columns.topic).where(columns.position > state.position, columns.position <= end)
        )
        due, everyone, disclosed = self._resent(), False, False
        for row in rows:
            kind = row.topic.rpartition(".")[0]
            if row.subject != CITY:
                due.add(row.subject)
                everyone = everyone or kind == "person.erased"  # grants that they made for others end too (R15)
            everyone = everyone or (row.subject == CITY and kind in CONTROLS and kind not in _TERMS)
            disclosed = disclosed or kind == DISCLOSED
        if disclosed:
            due |= uses.takers(self._connection, max(state.position, told_at), end)
        in_time = select(held.c.person).where(held.c.feed == self._ticket.feed, held.c.next_us <= self._now_us)
        due |= set(self._connection.scalars(in_time))
        over = any(state.time_us < micros(time) <= self._now_us for time in ends(self._standing.city))
        return due & self._asked_for(due), everyone or over

    def _resent(self) -> set[int]:
        """Those of whom a later message spoke than the last that the consumer has."""
        query = select(held.c.person).where(held.c.feed == self._ticket.feed, held.c.sequence > self._ticket.number)
        return set(self._connection.scalars(query))

    def _asked_for(self, ordinals: set[int]) -> set[int]:
        if self._query.persons is None:
            return ordinals
        found = (self._views.persons.ordinal_of(bytes.fromhex(name)) for name in self._query.persons)
        return {ordinal for ordinal in found if ordinal is not None}

    def _everyone(self) -> list[int]:
        """All who could be shown, and all of whom the feed keeps a row."""
        rows = select(held.c.person).where(held.c.feed == self._ticket.feed)
        if self._ticket.closes:
            shown = held.c.digest.is_not(None) | (held.c.sequence > self._ticket.number)
            return sorted(self._connection.scalars(rows.where(shown)))
        moment = Moment(position=Position(self._standing.position), time=self._time)
        reading = Reading(self._standing.city, self._query.ask, moment)
        candidates = set(self._disclosure.deciding.candidates(self._standing, reading, self._query))
        return sorted(candidates | set(self._connection.scalars(rows)))

    def _evaluate(self, queue: Sequence[int], number: int, limit: int) -> int:
        """Look at one after the other until there is more than a message holds; how many were looked at."""
        at, probe = 0, _PROBE
        while at < len(queue):
            room = limit - len(self._shown) - len(self._removed)
            if room <= 0:
                room, probe = probe, probe * 2
            piece = queue[at : at + min(room, _PIECE)]
            shown, before, nexts = self._decided(piece), self._before(piece), self._nexts(piece)
            for done, ordinal in enumerate(piece):
                sequence, digest = before.get(ordinal, (NEVER, None))
                person = shown.get(ordinal)
                now = None if person is None else self._digest(person)
                again = sequence > self._ticket.number
                tells = now is not None and (now != digest or again)
                takes = now is None and (digest is not None or again)
                if (tells or takes) and len(self._shown) + len(self._removed) >= limit:
                    return at + done
                if tells and person is not None:
                    self._shown.append(person)
                if takes:
                    self._removed.append(ordinal)
                next_us = self._next_us(ordinal, person, nexts)
                self._rows[ordinal] = number if tells or takes else sequence, now, next_us
            at += len(piece)
        return at

    def _decided(self, piece: Sequence[int]) -> dict[int, Shown]:
        if self._ticket.closes:
            return {}
        names = tuple(self._views.persons.digest_of(ordinal).hex() for ordinal in piece)
        answer = self._disclosure.deciding.decide(self._standing, replace(self._query, persons=names), self._time)
        return {person.ordinal: person for person in answer.persons}

    def _before(self, piece: Sequence[int]) -> dict[int, tuple[int, bytes | None]]:
        query = select(held).where(held.c.feed == self._ticket.feed, held.c.person.in_(piece))
        return {row.person: (row.sequence, row.digest) for row in self._connection.execute(query)}

    def _nexts(self, piece: Sequence[int]) -> tuple[dict[int, Policy], dict[int, Place]]:
        if self._ticket.closes:
            return {}, {}
        present = [o for o in piece if self._views.persons.enrolled_by(o, self._standing.position)]
        return self._standing.policies(present), self._standing.places(present)

    def _digest(self, person: Shown) -> bytes | None:
        """What stands for all that is shown of a person; nothing can be guessed from it without the person's key.

        None for who was erased since this was decided: it is not told, and decided again.
        """
        try:
            key = self._log.keyring.secret(person.ordinal, "feed")
        except Gone:
            return None
        whole = "\0".join([person.mode, *(item.json for item in person.items)])
        return hashlib.blake2b(whole.encode(), digest_size=16, key=key).digest()

    def _next_us(self, ordinal: int, person: Shown | None, of: tuple[dict[int, Policy], dict[int, Place]]) -> int:
        """The next moment at which time alone may change what is shown of the person; never too late."""
        policies, places = of
        policy, place = policies.get(ordinal), places.get(ordinal)
        times: list[datetime] = []
        if policy is not None:
            times += [grant.start for grant in policy.grants.values()]
            times += [grant.until for grant in policy.grants.values() if grant.until is not None]
            times += [until for until in policy.delegations.values() if until is not None]
        if place is not None:
            times.append(place.effective_at + LOCATED)
        for item in person.items if person is not None else ():
            if item.permit.fact.ends_at is not None:
                times.append(item.permit.fact.ends_at)
            ttl_s = self._standing.city.kinds[item.entry.event.kind].ttl_s
            if ttl_s is not None:
                times.append(item.entry.effective_at + timedelta(seconds=ttl_s))
        return min((us for us in map(micros, times) if us > self._now_us), default=FOREVER)


def ends(city: City) -> Iterable[datetime]:
    """When leases and overrides end."""
    for emergency in city.emergencies.values():
        if emergency.declarations:
            yield emergency.declarations[-1].until
    for override in city.overrides.values():
        yield override.until
