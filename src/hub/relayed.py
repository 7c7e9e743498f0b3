"""How far each line to the broker has come, and which relays there are: stored beside the log, by these themselves.

Of several relays one sends on a line at a time, by a lease with a number: who was overtaken stores nothing more.
Overlapping sends do no harm; a position that went back would only have some sent again.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Column, Connection, String, Table, func, insert, or_, select, update

from hub.events import EPOCH, micros
from hub.log.log import Log
from hub.log.recorder import Number, metadata

_LONGEST_TOKEN = 16 * 1024
_LONGEST = timedelta(hours=1)
"""No lease is longer; more is what a clock that leapt left behind."""

_GIVEN_BACK, _OVER = 0, 1
"""The end of a lease that was given back; and of one given back by who had taken over, and stored nothing since."""

relayed = Table(
    "relayed",
    metadata,
    Column("name", String, primary_key=True),
    Column("position", Number, nullable=False),
    Column("token", String),
    Column("updated_us", Number, nullable=False),
    Column("holder", String, nullable=False),
    Column("fence", Number, nullable=False),
    Column("lease_us", Number, nullable=False),
    Column("failures", Number, nullable=False),
    Column("error", String),
)
"""One row for each line. `token` is the line's own JSON, with `ended` where nothing more comes by it; nothing of a
person is in it."""

relay = Table("relay", metadata, Column("holder", String, primary_key=True), Column("lease_us", Number, nullable=False))
"""One row for each relay that is there, until its lease ends: they share the lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A line that is ours for a while. position: up to where the broker has it. fence: rises with each new holder.

    taken_over: the lease before ended without its holder having given it back, and nothing was stored since: what that
    holder had in hand may still arrive, after anything that is sent now.
    """

    name: str
    position: int
    token: str | None
    fence: int
    taken_over: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Lag:
    """How a line stands. updated_at: when it last moved. failures: how many tries failed in a row, and why the last.

    lag_s: since when the oldest entry waits that is not sent. relay: who sends on it now; None where nobody does.
    """

    name: str
    position: int
    events: int
    lag_s: float
    updated_at: datetime
    failures: int
    error: str | None
    relay: str | None


class Relayed:
    """The lines of one hub. Each object is another holder."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._me = f"{socket.gethostname()[:64]}-{os.getpid()}-{os.urandom(6).hex()}"
        self._taken_over: set[str] = set()
        """Lines that we took over, and of which nothing was stored since."""

    def present(self, lease: timedelta) -> int:
        """Say that this relay is there, for as long as a lease. Returns how many are, this one too."""
        now = self._log.clock.now()
        with self._log.entries.snapshot() as (connection, _):
            until = {row.holder: row.lease_us for row in connection.execute(select(relay)) if _runs(row.lease_us, now)}
        if until.get(self._me, 0) < micros(now + lease * 2 / 3):
            over = or_(relay.c.lease_us < micros(now), relay.c.lease_us > micros(now + _LONGEST))
            with self._log.entries.maintaining() as connection:
                connection.execute(relay.delete().where(or_(over, relay.c.holder == self._me)))
                connection.execute(insert(relay).values(holder=self._me, lease_us=micros(now + lease)))
                return connection.scalar(select(func.count()).select_from(relay)) or 1
        return len(until)

    def leave(self) -> None:
        """Say that this relay is there no more."""
        with self._log.entries.maintaining() as connection:
            connection.execute(relay.delete().where(relay.c.holder == self._me))

    def take(self, name: str, lease: timedelta, *, failing: bool = False) -> Held | None:
        """The line called `name`; None while another holds it. One that is new begins before the first position.

        failing: only where nothing could be sent on it of late.
        """
        now = self._log.clock.now()
        with self._log.entries.snapshot() as (connection, _):
            row = connection.execute(select(relayed).where(relayed.c.name == name)).first()
        if row is not None and row.holder != self._me and _runs(row.lease_us, now):
            return None
        if failing and (row is None or not row.failures):
            return None
        with self._log.entries.maintaining() as connection:
            if connection.scalar(select(relayed.c.name).where(relayed.c.name == name)) is None:
                nobody = {"holder": "", "fence": 0, "lease_us": 0, "failures": 0}
                connection.execute(insert(relayed).values(name=name, position=0, updated_us=micros(now), **nobody))
            ours, leapt = relayed.c.holder == self._me, relayed.c.lease_us > micros(now + _LONGEST)
            before = connection.execute(select(relayed).where(relayed.c.name == name)).one()
            free = (relayed.c.name == name) & or_(relayed.c.lease_us < micros(now), leapt, ours)
            mine = {"holder": self._me, "lease_us": micros(now + lease), "fence": relayed.c.fence + 1}
            if not connection.execute(update(relayed).where(free).values(mine)).rowcount:
                return None
            found = connection.execute(select(relayed).where(relayed.c.name == name)).one()
        if before.lease_us == _GIVEN_BACK:  # by who had stored something
            self._taken_over.discard(name)
        elif before.holder not in ("", self._me):
            self._taken_over.add(name)
        taken_over = name in self._taken_over
        return Held(name=name, position=found.position, token=found.token, fence=found.fence, taken_over=taken_over)

    def renew(self, held: Held, lease: timedelta) -> bool:
        """Hold it for longer; False where another has taken over."""
        return self._write(held, {"lease_us": micros(self._log.clock.now() + lease)})

    def advance(
        self,
        held: Held,
        lease: timedelta,
        *,
        position: int,
        token: str | None = None,
        stored: Callable[[Connection], None] | None = None,
        error: str | None = None,
    ) -> Held | None:
        """Store that the broker has all up to `position`; None where another has taken over.

        stored: writes what has to hold with it, in the same transaction. error: what is wrong although it was sent.
        """
        if token is not None and len(token) > _LONGEST_TOKEN:
            raise ValueError("the token of a line is larger than 16 KiB")
        now = self._log.clock.now()
        values = {"position": position, "token": token, "updated_us": micros(now), "lease_us": micros(now + lease)}
        with self._log.entries.maintaining() as connection:
            if not self._update(connection, held, {**values, "failures": 0, "error": error}):
                return None
            if stored is not None:
                stored(connection)
        self._taken_over.discard(held.name)
        return Held(name=held.name, position=position, token=token, fence=held.fence)

    def fail(self, held: Held, reason: str) -> None:
        """Say why nothing is sent, and let another try."""
        self._write(held, {"lease_us": _end(held), "failures": relayed.c.failures + 1, "error": reason})

    def release(self, held: Held) -> None:
        """Let another take over at once."""
        self._write(held, {"lease_us": _end(held)})

    def forget(self, names: Sequence[str], before: datetime) -> None:
        """Forget lines that are no more, but not one that moved at `before` or since: it was begun anew."""
        old = relayed.c.updated_us < micros(before)
        with self._log.entries.maintaining() as connection:
            for name in names:
                connection.execute(relayed.delete().where(relayed.c.name == name, old))

    def lags(self) -> list[Lag]:
        """How each line stands, by name; one that has ended, as its token says, is behind nothing and left out."""
        with self._log.entries.snapshot() as (connection, end):
            rows = connection.execute(select(relayed).order_by(relayed.c.name)).all()
            rows = [row for row in rows if row.token is None or not json.loads(row.token).get("ended")]
            now = self._log.clock.now()
            since = {row.position: self._log.recorded_at(connection, row.position + 1) for row in rows}
        return [
            Lag(
                name=row.name,
                position=row.position,
                events=max(0, end.position - row.position),
                lag_s=max(0.0, (now - waits).total_seconds()) if (waits := since[row.position]) else 0.0,
                updated_at=EPOCH + timedelta(microseconds=row.updated_us),
                failures=row.failures,
                error=row.error,
                relay=row.holder if _runs(row.lease_us, now) else None,
            )
            for row in rows
        ]

    def _write(self, held: Held, values: dict[str, object]) -> bool:
        with self._log.entries.maintaining() as connection:
            return self._update(connection, held, values)

    def _update(self, connection: Connection, held: Held, values: dict[str, object]) -> bool:
        mine = (relayed.c.name == held.name) & (relayed.c.fence == held.fence) & (relayed.c.holder == self._me)
        return bool(connection.execute(update(relayed).where(mine).values(values)).rowcount)


def _runs(lease_us: int, now: datetime) -> bool:
    """Whether a lease has not ended; one that is longer than any is of a clock that leapt."""
    return micros(now) <= lease_us <= micros(now + _LONGEST)


def _end(held: Held) -> int:
    return _OVER if held.taken_over else _GIVEN_BACK
