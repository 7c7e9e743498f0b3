"""What changed since: each feed is one consumer's copy of a view, and what that consumer holds.

    due persons -> decide -> leave out who is as before -> confirm under the head lock, append -> the message

Due are those whom the log spoke of since the last message, those for whom time alone may have changed
something, and, after a change for everyone (an emergency, a registration, an erasure), all: a sweep. The
decision is `disclosure`'s own; a message is a disclosure like any answer. What a consumer holds is kept as
keyed digests beside the log; were it lost, the consumer would begin again.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, delete, func, insert, select, update

from hub.answer import Answer, Query, Shown, query_text
from hub.disclosure import Disclosure
from hub.errors import Busy, PayloadError
from hub.events import EPOCH, micros
from hub.feeds.planning import Plan, Planning, ends
from hub.feeds.rows import NEVER, TOLD, State, Ticket, feed, held, kept_feed
from hub.log.database import insert_many
from hub.log.log import Log
from hub.log.recorder import Append, log
from hub.log.sealing import CITY
from hub.views import uses
from hub.views.policies import FOREVER
from hub.views.views import DISCLOSED, Change, Standing, Views

MOST_FEEDS = 1_000
KEPT = timedelta(days=7)
"""How long a feed that nobody asks for is kept."""

RETOLD = 1_000
"""How many messages back a consumer may go on from."""

_KEPT_SWEEPS = 64
_SILENT = (DISCLOSED, "view.audited", "view.refused")
"""The hub's own traces: of themselves they change nothing that is shown."""

STRANGE = "is not the `next` of this feed, or is too old; ask again without it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What a consumer is told. next: to be given back. more: ask again at once.

    number: of the message in its feed; a later one has a greater number, also where it tells again. persons, removed:
    of whom the body speaks, who is taken back by ordinal.
    """

    body: bytes
    time: datetime
    persons: Sequence[Shown]
    removed: Sequence[int]
    number: int
    next: str
    more: bool
    disclosure: str
    position: int


class _AtRest(Exception):
    """There is nothing to tell."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


class Feeds:
    """The feeds of one log. Processes may share them."""

    def __init__(self, log: Log, views: Views, disclosure: Disclosure) -> None:
        self._log, self._views, self._disclosure = log, views, disclosure
        self._looked: dict[bytes, State] = {}
        """How far feeds at rest were looked through by this process."""
        self._sweeps: dict[bytes, tuple[State, Sequence[int]]] = {}
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
        plans: list[Plan] = []

        def decide(standing: Standing, time: datetime) -> Answer:
            plan = Planning(self, standing, query, ticket, time).plan(limit)
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
            time=answer.moment.time,
            persons=answer.persons,
            removed=said.removed,
            number=plans[-1].after.sequence,
            next=said.next,
            more=said.more,
            disclosure=answer.disclosure,
            position=answer.position,
        )

    def renew(self, query: Query, since: str, number: int, limit: int) -> int:
        """Have at most `limit` persons told again of whom no message after `number` spoke; how many."""
        ticket = self._ticket(query, since)
        told = (held.c.feed == ticket.feed) & held.c.digest.is_not(None) & (held.c.digest != TOLD)
        some = select(held.c.person).where(told, held.c.sequence <= number).order_by(held.c.person).limit(limit)
        with self._log.entries.snapshot() as (connection, _):
            if connection.scalar(some.limit(1)) is None:
                return 0
        with self._log.entries.maintaining() as connection:
            persons = list(connection.scalars(some))
            for at in range(0, len(persons), 500):
                part = (held.c.feed == ticket.feed) & held.c.person.in_(persons[at : at + 500])
                connection.execute(update(held).where(part).values(digest=TOLD, next_us=0))
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
            planning = Planning(self, self._views.at(connection, end.position), query, ticket, now)
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

    def _ticket(self, query: Query, since: str | None) -> Ticket:
        if since is None:
            return Ticket(os.urandom(8), NEVER, begins=True)
        try:
            sealed = bytes.fromhex(since)
            said = self._cipher().decrypt(sealed[:12], sealed[12:], _scope(query))
        except (ValueError, InvalidTag):
            raise PayloadError(STRANGE, path="since") from None
        return Ticket(said[:8], int.from_bytes(said[8:]), begins=False)

    def _cipher(self) -> AESGCM:
        return AESGCM(self._log.keyring.secret(CITY, "feed"))

    def state(self, connection: Connection, ticket: Ticket) -> State | None:
        """How far the feed of a ticket has come; None where it begins. Raises PayloadError where it is gone."""
        row = connection.execute(select(feed).where(feed.c.feed == ticket.feed)).first()
        if row is None and ticket.begins:
            return None
        if row is None or not 0 <= row.sequence - ticket.number <= RETOLD:
            raise PayloadError(STRANGE, path="since")
        return State(row.sequence, row.position, row.time_us, row.swept)

    def looked(self, ticket: Ticket, state: State) -> State:
        """`state`, or further, as far as this process has looked since."""
        further = self._looked.get(ticket.feed)
        same = further is not None and further.sequence == state.sequence and state.swept is None
        return further if further is not None and same and further.position >= state.position else state

    def _remember(self, plan: Plan) -> None:
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

    def _keep_sweep(self, plan: Plan, stored: State) -> None:
        self._sweeps.pop(plan.ticket.feed, None)
        if plan.left:
            if len(self._sweeps) >= _KEPT_SWEEPS:
                self._sweeps.clear()
            self._sweeps[plan.ticket.feed] = stored, array("Q", plan.left)

    def sweep(self, ticket: Ticket, state: State) -> Sequence[int] | None:
        """Whom a sweep has still to look at; None where another process had the feed since, and all are to be listed.

        Who comes to it after it began is due by what the log says of them, so that the list of its beginning is enough.
        """
        kept = self._sweeps.get(ticket.feed)
        return kept[1] if kept is not None and kept[0] == state else None

    def _store(self, connection: Connection, plan: Plan, *, sent: bool = True, kept: str | None = None) -> None:
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
        persons = list(plan.rows)
        for at in range(0, len(persons), 500):
            part = held.c.person.in_(persons[at : at + 500])
            connection.execute(delete(held).where(held.c.feed == name, part))
        standing = [
            (name, person, sequence, digest, next_us)
            for person, (sequence, digest, next_us) in plan.rows.items()
            if digest is not None or sequence or next_us != FOREVER
        ]
        insert_many(connection, held, standing)
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


def _scope(query: Query) -> bytes:
    return query_text(query).encode()
