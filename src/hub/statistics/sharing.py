"""A renewal of figures that is shared out by persons, in two small tables beside the log.

    begun at one position and time -> shares, each leased -> each one's part, sealed -> all there: figures

Who carries a share, in which order and how often it is begun does not matter: a part follows from position, time and
range alone, and one is kept of each share. What a renewal is of stands sealed, under a keyed name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    String,
    Table,
    and_,
    delete,
    func,
    not_,
    or_,
    select,
    update,
)

from hub.disclosure import RULES
from hub.errors import Tampered
from hub.events import EPOCH, Position, micros
from hub.log.clock import APART, SKEW
from hub.log.database import insert_many
from hub.log.log import Log
from hub.log.recorder import Number, metadata
from hub.log.sealing import CITY
from hub.rules import Moment
from hub.statistics.counting import edition

AT_ONCE = 1_000
"""Persons of a share where figures are of one purpose; the half where they are of two: about half a second of work."""

LEASE = timedelta(seconds=15)
ABANDONED = timedelta(minutes=2)
"""After so long in which nobody took or finished a share, a renewal is given up."""

LONGEST = timedelta(minutes=15)
"""After so long it is given up in any case: no figure is made of a standing that is older."""

FOREVER = 2**62
"""Behind every ordinal."""

renewal = Table(
    "renewal",
    metadata,
    Column("name", LargeBinary(16), primary_key=True),
    Column("position", Number, nullable=False),
    Column("time_us", Number, nullable=False),
    Column("used_us", Number, nullable=False),
    Column("box", LargeBinary, nullable=False),
)
"""`position` and `time_us`: where it is decided. `used_us`: when a share was last taken or finished. `box`: sealed,
whose figures they are."""

portion = Table(
    "renewal_share",
    metadata,
    Column("name", LargeBinary(16), primary_key=True),
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("first", Number, nullable=False),
    Column("stop", Number, nullable=False),
    Column("lease", String),
    Column("lease_us", Number, nullable=False),
    Column("box", LargeBinary),
)
"""The persons from ordinal `first` to before `stop`. `box`: sealed, their part; none while it is not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """Whose figures are made, and at which moment. name: keyed, of recipient, mode and registration."""

    name: bytes
    moment: Moment
    recipient: str
    purposes: tuple[str, ...]
    exercise: bool

    @property
    def bound(self) -> bytes:
        """What is sealed for it is bound to."""
        return self.name + self.moment.position.to_bytes(8) + micros(self.moment.time).to_bytes(8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A share that is ours for a while."""

    renewal: Renewal
    number: int
    persons: range
    lease: str


class Sharing:
    """The renewals of one log that are under way. Threads may share it.

    What is written goes by the time, so that each call that writes raises Busy on a machine whose clock cannot be
    trusted: it would end what others carry.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._edition = f"{version('saigai-hub')}:{RULES}:{log.keyring.digest('edition', edition()).hex()}"

    def name(self, recipient: str, terms: str, *, exercise: bool) -> bytes:
        """What a renewal is kept under; another one where anything is counted differently."""
        return self._log.keyring.digest("renewal", recipient, str(exercise), terms, self._edition)

    def now(self, connection: Connection) -> datetime:
        """The time, never before the log's last."""
        now, last = self._log.clock.now(), self._log.entries.end(connection).recorded_at
        return now if last is None else max(now, last)

    def of(self, connection: Connection, name: bytes) -> Renewal | None:
        """The renewal of this name that is under way."""
        row = connection.execute(select(renewal).where(renewal.c.name == name, _lives(self.now(connection)))).first()
        return None if row is None else self._opened(row)

    def begin(
        self, new: Renewal, firsts: Sequence[int], unless: Callable[[Connection, datetime], bool]
    ) -> Renewal | None:
        """Have `new` carried, in shares that begin at these ordinals; or the one of its name that is under way.

        None where `unless` says so, under the lock: another process came to the end of it.
        """
        box = self._sealed(b"renewal" + new.bound, self._said(new))
        stops = [*firsts[1:], FOREVER]
        rows = [(new.name, n, *of, None, 0, None) for n, of in enumerate(zip(firsts, stops, strict=True))]
        with self._log.entries.maintaining(timed=True) as connection:
            now = self.now(connection)
            self.end(connection, now)
            found = self.of(connection, new.name)
            if found is not None or unless(connection, now):
                return found
            moment = new.moment
            row = (new.name, moment.position, micros(moment.time), micros(now), box)
            insert_many(connection, renewal, [row])
            insert_many(connection, portion, rows)
        return new

    def take(self, name: bytes | None = None) -> Share | None:
        """A share that nobody carries, of the renewal of this name or of the oldest; None where there is none."""
        with self._log.entries.snapshot() as (connection, _):
            if self._free(connection, name) is None:
                return None
        with self._log.entries.maintaining(timed=True) as connection:
            found = self._free(connection, name)
            if found is None:
                return None
            of, row = found
            mine, now = f"{os.getpid()}-{os.urandom(6).hex()}", self.now(connection)
            this = and_(portion.c.name == of.name, portion.c.number == row.number)
            connection.execute(update(portion).where(this).values(lease=mine, lease_us=micros(now + LEASE)))
            self._used(connection, of, now)
        return Share(renewal=of, number=row.number, persons=range(row.first, row.stop), lease=mine)

    def finish(self, share: Share, part: bytes) -> bool:
        """Keep the part of a share; False where one is kept, or the renewal is over.

        Who lost the lease may finish too: its part is the same, and the first counts. What may not be is a part of a
        renewal that was begun anew since, at another moment.
        """
        of = share.renewal
        box = self._sealed(_bound(share), part)
        at = and_(renewal.c.position == of.moment.position, renewal.c.time_us == micros(of.moment.time))
        same = select(renewal.c.name).where(renewal.c.name == of.name, at).exists()
        open_ = and_(portion.c.name == of.name, portion.c.number == share.number, portion.c.box.is_(None), same)
        with self._log.entries.maintaining(timed=True) as connection:
            done = connection.execute(update(portion).where(open_).values(box=box, lease=None, lease_us=0)).rowcount
            if done:
                self._used(connection, of, self.now(connection))
        return bool(done)

    def give_back(self, share: Share) -> None:
        """Let another carry it at once."""
        ours = and_(portion.c.name == share.renewal.name, portion.c.number == share.number)
        ours = and_(ours, portion.c.lease == share.lease, portion.c.box.is_(None))
        with self._log.entries.maintaining() as connection:
            connection.execute(update(portion).where(ours).values(lease=None, lease_us=0))

    def left(self, connection: Connection, of: Renewal) -> int | None:
        """How many shares are not there yet; None where this renewal is over."""
        found = self.of(connection, of.name)
        if found is None or found.moment != of.moment:
            return None
        query = select(func.count()).select_from(portion).where(portion.c.name == of.name, portion.c.box.is_(None))
        return connection.scalar(query) or 0

    def parts(self, connection: Connection, of: Renewal) -> list[bytes]:
        """The parts of all shares, in the order of the persons."""
        rows = connection.execute(select(portion).where(portion.c.name == of.name).order_by(portion.c.number)).all()
        return [self._open(_bound_to(of, row.number, row.first, row.stop), row.box) for row in rows]

    def waiting(self) -> int:
        """How many shares wait for somebody."""
        with self._log.entries.snapshot() as (connection, _):
            now = self.now(connection)
            query = select(func.count()).select_from(portion.join(renewal, portion.c.name == renewal.c.name))
            return connection.scalar(query.where(_lives(now), portion.c.box.is_(None), _unleased(now))) or 0

    def end(self, connection: Connection, now: datetime, name: bytes | None = None) -> None:
        """Forget the renewals that are over, and that of this name."""
        over = or_(not_(_lives(now)), renewal.c.name == (name or b""))
        names = connection.scalars(select(renewal.c.name).where(over)).all()
        for table in (portion, renewal) if names else ():
            connection.execute(delete(table).where(table.c.name.in_(names)))

    def drop(self, name: bytes) -> None:
        """Forget a renewal that nothing can be made of."""
        with self._log.entries.maintaining(timed=True) as connection:
            self.end(connection, self.now(connection), name)

    def tidy(self) -> None:
        """Forget the renewals that are over, if there are any."""
        with self._log.entries.snapshot() as (connection, _):
            now = self.now(connection)
            over = connection.scalar(select(renewal.c.name).where(not_(_lives(now))).limit(1))
        if over is not None:
            with self._log.entries.maintaining(timed=True) as connection:
                self.end(connection, self.now(connection))

    def _free(self, connection: Connection, name: bytes | None) -> tuple[Renewal, Any] | None:
        now = self.now(connection)
        query = select(renewal, portion.c.number, portion.c.first, portion.c.stop)
        query = query.join(portion, portion.c.name == renewal.c.name)
        query = query.where(_lives(now), portion.c.box.is_(None), _unleased(now))
        query = query if name is None else query.where(renewal.c.name == name)
        for row in connection.execute(query.order_by(renewal.c.time_us, renewal.c.name, portion.c.number)):
            of = self._opened(row)
            if of is not None:
                return of, row
        return None

    def _used(self, connection: Connection, of: Renewal, now: datetime) -> None:
        connection.execute(update(renewal).where(renewal.c.name == of.name).values(used_us=micros(now)))

    def _said(self, of: Renewal) -> bytes:
        said = {"recipient": of.recipient, "purposes": of.purposes, "exercise": of.exercise, "edition": self._edition}
        return json.dumps(said).encode()

    def _opened(self, row: Any) -> Renewal | None:
        """The renewal of a row; None where another release counts it."""
        bound = b"renewal" + row.name + row.position.to_bytes(8) + row.time_us.to_bytes(8)
        said = json.loads(self._open(bound, row.box))
        if said.pop("edition") != self._edition:
            return None
        moment = Moment(position=Position(row.position), time=EPOCH + timedelta(microseconds=row.time_us))
        return Renewal(name=row.name, moment=moment, **{**said, "purposes": tuple(said["purposes"])})

    def _sealed(self, bound: bytes, opened: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher().encrypt(nonce, opened, bound)

    def _open(self, bound: bytes, box: bytes) -> bytes:
        try:
            return self._cipher().decrypt(box[:12], box[12:], bound)
        except InvalidTag:
            raise Tampered("a renewal of figures was changed; delete the rows of renewal and renewal_share") from None

    def _cipher(self) -> AESGCM:
        return AESGCM(self._log.keyring.secret(CITY, "renewal"))


def _bound(share: Share) -> bytes:
    return _bound_to(share.renewal, share.number, share.persons.start, share.persons.stop)


def _bound_to(of: Renewal, number: int, first: int, stop: int) -> bytes:
    return b"part" + of.bound + b"".join(part.to_bytes(8) for part in (number, first, stop))


def _lives(now: datetime) -> ColumnElement[bool]:
    """Whether a renewal is still carried: begun, and used, lately, and by no clock that leapt."""
    begun = renewal.c.time_us.between(micros(now - LONGEST), micros(now + APART))
    return and_(begun, renewal.c.used_us.between(micros(now - ABANDONED), micros(now + APART)))


def _unleased(now: datetime) -> ColumnElement[bool]:
    """Whether nobody carries a share: a lease that ends too late is one of a clock that leapt."""
    return or_(portion.c.lease_us < micros(now), portion.c.lease_us > micros(now + LEASE + SKEW))
