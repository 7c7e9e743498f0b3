"""What changed since: each feed is one consumer's copy of a view, and what that consumer holds.

    due persons -> decide -> leave out who is as before -> confirm under the head lock, append -> the message

Due are those whom the log spoke of since the last message, those for whom time alone may have changed
something, and, after a change for everyone (an emergency, a registration, an erasure), all: a sweep. The
decision is `disclosure`'s own; a message is a disclosure like any answer. What a consumer holds is kept as
keyed digests beside the log; were it lost, the consumer would begin again.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, Connection, Index, LargeBinary, String, Table, delete, func, insert, select, update

from hub.answer import Answer, FeedPart, Query, Shown, query_text
from hub.disclosure import Disclosure
from hub.errors import Busy, PayloadError
from hub.events import CONTROLS, EPOCH, Position, micros
from hub.log.log import Log
from hub.log.recorder import Append, Number, log, metadata
from hub.log.sealing import CITY
from hub.policy import City, Policy
from hub.rules import Moment, Place, Reading
from hub.views import uses
from hub.views.policies import FOREVER
from hub.views.views import DISCLOSED, Change, Standing, Views

MOST_FEEDS = 1_000
KEPT = timedelta(days=7)
"""How long a feed that nobody asks for is kept."""

RETOLD = 1_000
"""How many messages back a consumer may go on from."""

LOCATED = timedelta(hours=24)
"""How long a location gives its area (R10)."""

_PIECE, _PROBE = 200, 10
"""Persons who are decided on at once; and the first of them once a message is full, to know whether more follows."""

_KEPT_SWEEPS = 64
_LONGEST = 20_000
"""Entries that are looked through for whom they are about; beyond, everyone is due."""

_SILENT = (DISCLOSED, "view.audited", "view.refused")
"""The hub's own traces: of themselves they change nothing that is shown."""

_TERMS = ("stream.registered", "stream.ended")
"""What says who is sent what: nobody sees more or less by it."""

_NEVER = 0
"""The number of a message that spoke of someone: none."""

_TOLD = b""
"""The digest of someone who was told of in a message that the consumer may not have: it has to be told again."""

feed = Table(
    "feed",
    metadata,
    Column("feed", LargeBinary(8), primary_key=True),
    Column("sequence", Number, nullable=False),
    Column("position", Number, nullable=False),
    Column("time_us", Number, nullable=False),
    Column("swept", Number, nullable=True),
    Column("used_us", Number, nullable=False, index=True),
)
held = Table(
    "held",
    metadata,
    Column("feed", LargeBinary(8), primary_key=True),
    Column("person", Number, primary_key=True, autoincrement=False),
    Column("sequence", Number, nullable=False),
    Column("digest", LargeBinary(16), nullable=True),
    Column("next_us", Number, nullable=False),
    Index("held_next", "feed", "next_us"),
    sqlite_with_rowid=False,
)

kept_feed = Table(
    "kept_feed",
    metadata,
    Column("name", String, primary_key=True),
    Column("feed", LargeBinary(8), nullable=False),
)
"""The feeds that are not dropped for their age or number: of registered streams, one for each name."""

STRANGE = "is not the `next` of this feed, or is too old; ask again without it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What a consumer is told. next: to be given back. more: ask again at once.

    number: of the message in its feed; a later one has a greater number, also where it tells again.
    """

    body: bytes
    number: int
    next: str
    more: bool
    disclosure: str
    position: int


@dataclass(frozen=True, slots=True)
class _Ticket:
    """Which feed, and the last message that its consumer has; no feed yet where it begins.

    closes: nothing is visible to this consumer any more.
    """

    feed: bytes
    number: int
    begins: bool
    closes: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    """How far a feed has come: the last message, the log and the time that were looked at, the sweep."""

    sequence: int
    position: int
    time_us: int
    swept: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """The next message, and what the feed's rows are once it is sent. left: whom the sweep has still to look at."""

    ticket: _Ticket
    before: _State | None
    after: _State
    answer: Answer
    rows: dict[int, tuple[int, bytes | None, int]]
    left: Sequence[int]
    sends: bool
    evaluated: bool


class _AtRest(Exception):
    """There is nothing to tell."""

    def __init__(self, plan: _Plan) -> None:
        super().__init__()
        self.plan = plan


class Feeds:
    """The feeds of one log. Processes may share them."""

    def __init__(self, log: Log, views: Views, disclosure: Disclosure) -> None:
        self._log, self._views, self._disclosure = log, views, disclosure
        self._looked: dict[bytes, _State] = {}
        """How far feeds at rest were looked through by this process."""
        self._sweeps: dict[bytes, tuple[_State, Sequence[int]]] = {}
        """Whom a sweep has still to look at, while the feed's row is as this process left it."""

    def advance(
        self,
        query: Query,
        since: str | None,
        *,
        actor: str | None = None,
        limit: int = 500,
        at_rest: Literal["answer", "nothing"] = "answer",
        name: str | None = None,
        closes: bool = False,
    ) -> Message | None:
        """The message after `since`; without it, the first of a new feed.

        What was told after `since` is told again, at the consent of now. limit: persons in a message.
        at_rest: where there is nothing to tell, an empty message, which is logged (R18), or None. name: a new
        feed is kept under it until `drop`, or until another begins under the same name. closes: everyone is
        taken back. Raises PayloadError for a token that is not of this query.
        """
        if query.limit is not None or query.cursor is not None or query.area is not None:
            raise PayloadError("is not for feeds", path="limit")
        ticket = replace(self._ticket(query, since), closes=closes)
        plans: list[_Plan] = []

        def decide(standing: Standing, time: datetime) -> Answer:
            plan = _Planning(self, standing, query, ticket, time).plan(limit)
            if not plan.sends and at_rest == "nothing":
                raise _AtRest(plan)
            plans.append(plan)
            return plan.answer

        def write(append: Append, change: Change, answer: Answer | None) -> Answer | None:
            if answer is None or self.state(append.connection, ticket) != plans[-1].before:
                return None
            self._store(append.connection, plans[-1], kept=name)
            return self._disclosure.append(append, change, answer, query, actor)

        try:
            answer = self._disclosure.confirmed(decide, write)
        except _AtRest as rest:
            self._remember(rest.plan)
            return None
        said = answer.feed
        if said is None or answer.disclosure is None or answer.position is None:
            raise Busy("the message was not appended")
        self._keep_sweep(plans[-1], plans[-1].after)
        return Message(
            body=answer.body,
            number=plans[-1].after.sequence,
            next=said.next,
            more=said.more,
            disclosure=answer.disclosure,
            position=answer.position,
        )

    def renew(self, query: Query, since: str, number: int, limit: int) -> int:
        """Have at most `limit` persons told again of whom no message after `number` spoke; how many."""
        ticket = self._ticket(query, since)
        told = (held.c.feed == ticket.feed) & held.c.digest.is_not(None) & (held.c.digest != _TOLD)
        some = select(held.c.person).where(told, held.c.sequence <= number).order_by(held.c.person).limit(limit)
        with self._log.entries.snapshot() as (connection, _):
            if connection.scalar(some.limit(1)) is None:
                return 0
        with self._log.entries.maintaining() as connection:
            persons = list(connection.scalars(some))
            for at in range(0, len(persons), 500):
                part = (held.c.feed == ticket.feed) & held.c.person.in_(persons[at : at + 500])
                connection.execute(update(held).where(part).values(digest=_TOLD, next_us=0))
        return len(persons)

    def stands(self, query: Query, since: str, told_at: int) -> bool:
        """Whether the message before `since` is the newest, and nothing came that bears on anyone of whom it spoke.

        told_at: the position of its disclosure. Raises PayloadError where the feed is gone.
        """
        ticket = self._ticket(query, since)
        with self._log.entries.snapshot() as (connection, end):
            state = self.state(connection, ticket)
            if state is None or state.sequence != ticket.number:
                return False
            now = self._log.clock.now()
            now = now if end.recorded_at is None else max(now, end.recorded_at)
            planning = _Planning(self, self._views.at(connection, end.position), query, ticket, now)
            due, everyone = planning.due(state, told_at)
            spoken = (held.c.feed == ticket.feed) & (held.c.sequence == ticket.number)
            told = set(connection.scalars(select(held.c.person).where(spoken)))
        return not everyone and not due & told

    def drop(self, name: str) -> None:
        """Forget the feed that is kept under a name, if there is one."""
        with self._log.entries.maintaining() as connection:
            self._unkeep(connection, name)

    def _unkeep(self, connection: Connection, name: str) -> None:
        old = connection.scalar(select(kept_feed.c.feed).where(kept_feed.c.name == name))
        if old is not None:
            connection.execute(delete(kept_feed).where(kept_feed.c.name == name))
            connection.execute(delete(feed).where(feed.c.feed == old))
            connection.execute(delete(held).where(held.c.feed == old))

    def quiet_s(self, query: Query, since: str) -> float:
        """For how many seconds nothing changes by time alone for the consumer who has `since`."""
        ticket = self._ticket(query, since)
        with self._log.entries.snapshot() as (connection, end):
            city = self._views.at(connection, end.position).city
            first = select(held.c.next_us).where(held.c.feed == ticket.feed).order_by(held.c.next_us).limit(1)
            next_us = connection.scalar(first)
            now = micros(self._log.clock.now())
        times = [time for time in (next_us, *map(micros, ends(city))) if time is not None and time > now]
        return (min(times) - now) / 1e6 if times else float(FOREVER)

    def look(self, after: int) -> tuple[int, bool]:
        """Where the log ends, and whether what was appended behind `after` may change what somebody is shown."""
        with self._log.entries.snapshot() as (connection, end):
            if end.position <= after:
                return after, False
            silent = [f"{name}.{version}" for name in _SILENT for version in (1, 2)]
            behind = select(log.c.position).where(log.c.position > after, log.c.topic.not_in(silent)).limit(1)
            matters = connection.scalar(behind) is not None or bool(uses.takers(connection, after, end.position))
        return end.position, matters

    def token(self, query: Query, feed_id: bytes, number: int) -> str:
        """`next` after a message: sealed, of constant length, never the same twice (R20)."""
        nonce = os.urandom(12)
        return (nonce + self._cipher().encrypt(nonce, feed_id + number.to_bytes(8), _scope(query))).hex()

    def _ticket(self, query: Query, since: str | None) -> _Ticket:
        if since is None:
            return _Ticket(os.urandom(8), _NEVER, begins=True)
        try:
            sealed = bytes.fromhex(since)
            said = self._cipher().decrypt(sealed[:12], sealed[12:], _scope(query))
        except (ValueError, InvalidTag):
            raise PayloadError(STRANGE, path="since") from None
        return _Ticket(said[:8], int.from_bytes(said[8:]), begins=False)

    def _cipher(self) -> AESGCM:
        return AESGCM(self._log.keyring.secret(CITY, "feed"))

    def state(self, connection: Connection, ticket: _Ticket) -> _State | None:
        """How far the feed of a ticket has come; None where it begins. Raises PayloadError where it is gone."""
        row = connection.execute(select(feed).where(feed.c.feed == ticket.feed)).first()
        if row is None and ticket.begins:
            return None
        if row is None or not 0 <= row.sequence - ticket.number <= RETOLD:
            raise PayloadError(STRANGE, path="since")
        return _State(row.sequence, row.position, row.time_us, row.swept)

    def looked(self, ticket: _Ticket, state: _State) -> _State:
        """`state`, or further, as far as this process has looked since."""
        further = self._looked.get(ticket.feed)
        same = further is not None and further.sequence == state.sequence and state.swept is None
        return further if further is not None and same and further.position >= state.position else state

    def _remember(self, plan: _Plan) -> None:
        """A feed at rest was looked through: in the rows where someone was evaluated, else in memory."""
        if plan.before is None:
            return
        if plan.evaluated:
            with self._log.entries.maintaining() as connection:
                if self.state(connection, plan.ticket) != plan.before:
                    return
                self._store(connection, plan, sent=False)
            self._keep_sweep(plan, replace(plan.after, sequence=plan.before.sequence))
            return
        if len(self._looked) >= MOST_FEEDS:
            self._looked.clear()
        self._looked[plan.ticket.feed] = replace(plan.after, sequence=plan.before.sequence)

    def _keep_sweep(self, plan: _Plan, stored: _State) -> None:
        self._sweeps.pop(plan.ticket.feed, None)
        if plan.left:
            if len(self._sweeps) >= _KEPT_SWEEPS:
                self._sweeps.clear()
            self._sweeps[plan.ticket.feed] = stored, array("Q", plan.left)

    def sweep(self, ticket: _Ticket, state: _State) -> Sequence[int] | None:
        """Whom a sweep has still to look at; None where another process had the feed since, and all are to be listed.

        Who comes to it after it began is due by what the log says of them, so that the list of its beginning is enough.
        """
        kept = self._sweeps.get(ticket.feed)
        return kept[1] if kept is not None and kept[0] == state else None

    def _store(self, connection: Connection, plan: _Plan, *, sent: bool = True, kept: str | None = None) -> None:
        after, name = plan.after, plan.ticket.feed
        values = {"position": after.position, "time_us": after.time_us, "swept": after.swept, "used_us": after.time_us}
        if plan.before is None:
            if kept is None:
                self._make_room(connection, after.time_us)
            else:
                self._unkeep(connection, kept)
                connection.execute(insert(kept_feed).values(name=kept, feed=name))
            connection.execute(insert(feed).values(feed=name, sequence=after.sequence, **values))
        else:
            sequence = after.sequence if sent else plan.before.sequence
            connection.execute(update(feed).where(feed.c.feed == name).values(sequence=sequence, **values))
        rows = [
            {"feed": name, "person": person, "sequence": sequence, "digest": digest, "next_us": next_us}
            for person, (sequence, digest, next_us) in plan.rows.items()
        ]
        persons = list(plan.rows)
        for at in range(0, len(persons), 500):
            part = held.c.person.in_(persons[at : at + 500])
            connection.execute(delete(held).where(held.c.feed == name, part))
        standing = [row for row in rows if row["digest"] is not None or row["sequence"] or row["next_us"] != FOREVER]
        if standing:
            connection.execute(insert(held), standing)
        # who was taken back so long ago that no token that is still taken is older
        told = (held.c.feed == name) & held.c.digest.is_(None) & (held.c.next_us == FOREVER)
        connection.execute(delete(held).where(told, held.c.sequence < after.sequence - RETOLD))

    def _make_room(self, connection: Connection, now_us: int) -> None:
        """Drop feeds that nobody asks for, and where there are too many, the one unused for longest."""
        old = now_us - micros(EPOCH + KEPT)
        loose = feed.c.feed.not_in(select(kept_feed.c.feed))
        gone = list(connection.scalars(select(feed.c.feed).where(loose, feed.c.used_us < old)))
        count = connection.scalar(select(func.count()).select_from(feed).where(loose)) or 0
        more = count - len(gone) - MOST_FEEDS + 1
        if more > 0:
            oldest = select(feed.c.feed).where(loose, feed.c.feed.not_in(gone)).order_by(feed.c.used_us).limit(more)
            gone += list(connection.scalars(oldest))
        for name in gone:
            connection.execute(delete(feed).where(feed.c.feed == name))
            connection.execute(delete(held).where(held.c.feed == name))


class _Planning:
    """One look at one feed, at one standing and time."""

    def __init__(self, feeds: Feeds, standing: Standing, query: Query, ticket: _Ticket, time: datetime) -> None:
        self._feeds, self._standing, self._query, self._ticket, self._time = feeds, standing, query, ticket, time
        self._log, self._views, self._disclosure = feeds._log, feeds._views, feeds._disclosure
        self._connection, self._now_us = standing.connection, micros(time)
        self._rows: dict[int, tuple[int, bytes | None, int]] = {}
        self._shown: list[Shown] = []
        self._removed: list[int] = []

    def plan(self, limit: int) -> _Plan:
        """The next message of at most `limit` persons."""
        before = self._feeds.state(self._connection, self._ticket)
        state = self._feeds.looked(self._ticket, before) if before is not None else _State(0, 0, 0, 0)
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
            sequence, digest = self._before([ordinal]).get(ordinal, (_NEVER, None))
            self._rows[ordinal] = sequence, _TOLD if sequence > self._ticket.number else digest, 0
        after = _State(number, self._standing.position, max(self._now_us, state.time_us), swept)
        said = FeedPart(
            removed=tuple(self._removed), next=self._feeds.token(self._query, self._ticket.feed, number), more=more
        )
        moment = Moment(position=Position(self._standing.position), time=self._time)
        shown = sorted(self._shown, key=lambda person: person.person)
        return _Plan(
            ticket=self._ticket,
            before=before,
            after=after,
            answer=self._disclosure.message(self._query, shown, said, moment),
            rows=self._rows,
            left=left,
            sends=bool(shown or self._removed),
            evaluated=bool(queue),
        )

    def due(self, state: _State, told_at: int = 0) -> tuple[set[int], bool]:
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
        candidates = set(self._disclosure.candidates(self._standing, reading, self._query))
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
                sequence, digest = before.get(ordinal, (_NEVER, None))
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
        answer = self._disclosure.decide(self._standing, replace(self._query, persons=names), self._time)
        return {person.ordinal: person for person in answer.persons}

    def _before(self, piece: Sequence[int]) -> dict[int, tuple[int, bytes | None]]:
        query = select(held).where(held.c.feed == self._ticket.feed, held.c.person.in_(piece))
        return {row.person: (row.sequence, row.digest) for row in self._connection.execute(query)}

    def _nexts(self, piece: Sequence[int]) -> tuple[dict[int, Policy], dict[int, Place]]:
        if self._ticket.closes:
            return {}, {}
        present = [o for o in piece if self._views.persons.enrolled_by(o, self._standing.position)]
        return self._standing.policies(present), self._standing.places(present)

    def _digest(self, person: Shown) -> bytes:
        """What stands for all that is shown of a person; nothing can be guessed from it without the person's key."""
        key = self._log.keyring.secret(person.ordinal, "feed")
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


def _scope(query: Query) -> bytes:
    return query_text(query).encode()
