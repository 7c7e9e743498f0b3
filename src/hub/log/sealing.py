"""Sealing: nothing about a person is ever written in the clear, and a destroyed key is an erased person.

Payloads are sealed with AES-256-GCM under a key of the person's; for kinds with a time to live, under a
key derived from the person's key and a secret of the kind and the month of recording, so that a month
can be destroyed for everyone at once; of a month that was, a tombstone stays. Person 0 is the city: what
is about no one person. The keys stand wrapped (RFC 3394) by a master key, in a database of their own.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
)
from sqlalchemy.engine import Engine

from hub.errors import Misuse, Tampered
from hub.events import EPOCH, micros
from hub.log.database import dialect, insert_missing

CITY = 0
"""The subject of what is about no one person."""

_VERSION = 1
_HEADER = struct.Struct(">BH")
_NONCE, _COMMITMENT, _SALT = 12, 32, 16
_BODY = _HEADER.size + _NONCE + _COMMITMENT
_KEY_BYTES = 32
_CACHED = 20_000
"""Ciphers kept in memory: about 2.5 KB each, and quickly made again."""

metadata = MetaData()
person_key = Table(
    "person_key",
    metadata,
    Column("subject", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("wrapped", LargeBinary, nullable=False),
)
period_key = Table(
    "period_key",
    metadata,
    Column("kind", String, primary_key=True),
    Column("month", Integer, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)
ended_period = Table(
    "ended_period",
    metadata,
    Column("kind", String, primary_key=True),
    Column("month", Integer, primary_key=True),
    Column("ended_us", BigInteger, nullable=False),
    Column("proof", LargeBinary, nullable=False),
)
"""The tombstones: a period key that stood here was destroyed, and is never made again. proof: by the master key."""

parked_key = Table(
    "parked_key",
    metadata,
    Column("item", String, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)
content_key = Table(
    "content_key",
    metadata,
    Column("recipient", LargeBinary(16), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    Column("created_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)
"""See hub.log.content. recipient: a keyed digest."""

hub_key = Table(
    "hub_key",
    metadata,
    Column("name", String, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)


class Sealed(NamedTuple):
    """The parts of a state: month 0 where the kind has no time to live."""

    month: int
    nonce: bytes
    commitment: bytes
    box: bytes


def parse(state: bytes) -> Sealed:
    """The parts of a sealed state. Raises Tampered where it has none."""
    if len(state) < _BODY or state[0] != _VERSION:
        raise Tampered("a payload has no seal that this hub knows")
    _, month = _HEADER.unpack_from(state)
    nonce_end = _HEADER.size + _NONCE
    return Sealed(month, state[_HEADER.size : nonce_end], state[nonce_end:_BODY], state[_BODY:])


def header(month: int) -> bytes:
    """With what every state begins that is sealed for a month."""
    return _HEADER.pack(_VERSION, month)


def month_in(state: bytes) -> int:
    """The month that a state, or its beginning, says it is sealed for; 0 where none."""
    month: int = _HEADER.unpack_from(state)[1]
    return month


def commitment_of(state: bytes) -> bytes:
    """The commitment of a state that was just sealed."""
    return state[_BODY - _COMMITMENT : _BODY]


def month_of(time: datetime) -> int:
    """The month as a number: 1 is January 2000."""
    return (time.year - 2000) * 12 + time.month


def first_of(month: int) -> datetime:
    """When a month begins, by the number that `month_of` gives; `first_of(month + 1)` is when it is over."""
    return datetime(2000 + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)


def backup_secret(master: bytes) -> bytes:
    """What the manifests of a hub's backups are authenticated with, before any of its keys is there."""
    return hmac.digest(master, b"hub/backup", "sha256")


class Gone(Exception):
    """The key was destroyed: the person was erased, or (`Ended`) the time to keep the payload has ended."""


class Ended(Gone):
    """The key of the kind and month was destroyed when the time to keep its payloads had ended."""


class Keyring:
    """The keys of one hub. Threads may share it; processes each have their own over one database."""

    def __init__(self, engine: Engine, master: bytes) -> None:
        """Raises Misuse where `master` is not the key that wrapped what is there."""
        if len(master) != _KEY_BYTES:
            raise Misuse("the master key has to be 32 bytes")
        self._engine, self._writers, self._master = engine, dialect(engine).writing(engine), master
        self._persons: dict[int, bytes] = {}
        self._gone: set[int] = set()
        """Who is erased, as far as was told here: their keys open nothing, also while they are there."""
        self._periods: dict[tuple[str, int], bytes] = {}
        self._ended: dict[tuple[str, int], datetime] = {}
        self._ciphers: dict[tuple[int, str, int], AESGCM] = {}
        self._index = self._named("index")
        self.create([CITY])

    @property
    def engine(self) -> Engine:
        """The database of keys."""
        return self._engine

    def wrap(self, key: bytes) -> bytes:
        """A key as it may be stored."""
        return aes_key_wrap(self._master, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """A key that `wrap` wrapped. Raises Tampered."""
        return self._unwrap(wrapped)

    def digest(self, namespace: str, *parts: str) -> bytes:
        """16 bytes that stand for `parts` where they must not be readable; equal parts give equal bytes."""
        lengths = ",".join([str(len(part)) for part in parts])
        message = f"{namespace}:{lengths}:{''.join(parts)}".encode()
        return hashlib.blake2b(message, digest_size=16, key=self._index).digest()

    def number(self, namespace: str, *parts: str) -> int:
        """As `digest`, as a number of 63 bits for an index; never 0."""
        return (int.from_bytes(self.digest(namespace, *parts)[:8]) >> 1) | 1

    def create(self, subjects: Iterable[int]) -> None:
        """Give each subject a key that has none. Durable when it returns; a key that is never used harms nobody."""
        wanted = [subject for subject in subjects if subject not in self._persons]
        if not wanted:
            return
        self._gone.difference_update(wanted)
        with self._writers.begin() as connection:
            have = self._wrapped(connection, wanted)
            new = [subject for subject in wanted if subject not in have]
            rows = [{"subject": s, "wrapped": aes_key_wrap(self._master, os.urandom(_KEY_BYTES))} for s in new]
            insert_missing(connection, person_key, rows)
            if new:  # another process may have been first with some
                have |= self._wrapped(connection, new)
        self._persons |= have

    def load(self, subjects: Iterable[int]) -> None:
        """Fetch the keys of many subjects at once."""
        wanted = [subject for subject in subjects if subject not in self._persons]
        if not wanted:
            return
        with self._engine.connect() as connection:
            self._persons |= self._wrapped(connection, wanted)

    def _wrapped(self, connection: Connection, subjects: Sequence[int]) -> dict[int, bytes]:
        found = {}
        for at in range(0, len(subjects), 500):
            query = select(person_key).where(person_key.c.subject.in_(subjects[at : at + 500]))
            found.update({row.subject: self._unwrap(row.wrapped) for row in connection.execute(query)})
        return found

    def erase(self, subject: int) -> None:
        """Destroy the subject's key: nothing sealed under it can be read any more."""
        with self._writers.begin() as connection:
            connection.execute(delete(person_key).where(person_key.c.subject == subject))
        self.forget(subject)

    def keep(self, subjects: Iterable[int]) -> int:
        """Destroy the key of every subject that is not among `subjects`, but the city's; how many."""
        gone = sorted(self.subjects().difference(subjects, [CITY]))
        with self._writers.begin() as connection:
            for at in range(0, len(gone), 500):
                connection.execute(delete(person_key).where(person_key.c.subject.in_(gone[at : at + 500])))
        for subject in gone:
            self._persons.pop(subject, None)
        self._ciphers.clear()
        return len(gone)

    def forget(self, subject: int) -> None:
        """The subject is erased: drop what is held in memory of the key, and use it no more."""
        self._gone.add(subject)
        self._persons.pop(subject, None)
        for name in [name for name in list(self._ciphers) if name[0] == subject]:
            self._ciphers.pop(name, None)

    def doubt(self) -> None:
        """Forget who is erased: it was told by a view, and the log is asked anew."""
        self._gone.clear()

    def forget_all(self, subjects: Iterable[int]) -> None:
        """As `forget`, for these subjects."""
        gone = set(subjects)  # at once: other threads may add to them
        self._gone |= gone
        for subject in gone.intersection(list(self._persons)):
            self.forget(subject)

    def periods(self) -> list[tuple[str, int]]:
        """The kinds and months that have a key, the oldest month first."""
        with self._engine.connect() as connection:
            query = select(period_key.c.kind, period_key.c.month).order_by(period_key.c.month, period_key.c.kind)
            return [(row.kind, row.month) for row in connection.execute(query)]

    def ended(self) -> dict[tuple[str, int], datetime]:
        """The kinds and months whose key was destroyed, and when. Raises Tampered where a tombstone was changed."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(ended_period)).all()
        found = {}
        for row in rows:
            if not hmac.compare_digest(row.proof, self._proof(row.kind, row.month, row.ended_us)):
                raise Tampered("a tombstone of a destroyed key was changed")
            found[row.kind, row.month] = EPOCH + timedelta(microseconds=row.ended_us)
        return found

    def end(self, kind: str, month: int, at: datetime) -> None:
        """Destroy the key of a kind and month, for everyone and for ever. Durable when it returns."""
        with self._writers.begin() as connection:
            where = (period_key.c.kind == kind) & (period_key.c.month == month)
            connection.execute(delete(period_key).where(where))
            row = {"kind": kind, "month": month, "ended_us": micros(at)}
            insert_missing(connection, ended_period, [row | {"proof": self._proof(kind, month, micros(at))}])
        self.renew()

    def renew(self) -> bool:
        """Drop from memory the keys of months that were destroyed, by whichever process; whether any is new.

        One look at a small table: cheap enough for every second.
        """
        ended = self.ended()
        new = ended.keys() != self._ended.keys()
        self._ended = ended
        for period in ended.keys() & list(self._periods):
            self._periods.pop(period, None)
        for name in list(self._ciphers) if ended else ():
            if name[1:] in ended:
                self._ciphers.pop(name, None)
        return new

    def _proof(self, kind: str, month: int, ended_us: int) -> bytes:
        return hmac.digest(self._master, f"hub/ended:{month}:{ended_us}:{kind}".encode(), "sha256")

    def park(self, items: Sequence[str]) -> list[str]:
        """Make a key for each item of the quarantine; returns the items. Durable when it returns."""
        rows = [{"item": item, "wrapped": aes_key_wrap(self._master, os.urandom(_KEY_BYTES))} for item in items]
        if rows:
            with self._writers.begin() as connection:
                connection.execute(insert(parked_key), rows)
        return list(items)

    def seal_parked(self, item: str, plaintext: bytes) -> bytes:
        """The box of an item. Raises Gone where its key was destroyed."""
        nonce = os.urandom(_NONCE)
        return nonce + self._parked(item).encrypt(nonce, plaintext, item.encode())

    def open_parked(self, item: str, box: bytes) -> bytes:
        """What a box holds. Raises Gone where its key was destroyed, Tampered where it was changed."""
        try:
            return self._parked(item).decrypt(box[:_NONCE], box[_NONCE:], item.encode())
        except InvalidTag:
            raise Tampered("an item of the quarantine was changed") from None

    def keep_parked(self, items: Iterable[str]) -> None:
        """Destroy the key of every item that is not among `items`."""
        with self._engine.connect() as connection:
            there = set(connection.scalars(select(parked_key.c.item)))
        self.destroy_parked(there.difference(items))

    def destroy_parked(self, items: Iterable[str]) -> None:
        """Destroy the keys of items: what is sealed under them cannot be read any more, in no backup either."""
        wanted = sorted(items)
        if not wanted:
            return
        with self._writers.begin() as connection:
            for at in range(0, len(wanted), 500):
                connection.execute(delete(parked_key).where(parked_key.c.item.in_(wanted[at : at + 500])))

    def _parked(self, item: str) -> AESGCM:
        with self._engine.connect() as connection:
            wrapped = connection.scalar(select(parked_key.c.wrapped).where(parked_key.c.item == item))
        if wrapped is None:
            raise Gone
        return AESGCM(self._unwrap(wrapped))

    def check(self) -> None:
        """Unwrap every key that there is. Raises Tampered where one was changed, or the file of keys was."""
        self.ended()
        with self._engine.connect() as connection:
            dialect(connection).check(connection, "keys")
            for table in (person_key, period_key, parked_key, content_key, hub_key):
                for wrapped in connection.scalars(select(table.c.wrapped)):
                    self._unwrap(wrapped)

    def held(self, subjects: Iterable[int]) -> list[int]:
        """Which of these subjects have a key."""
        wanted = sorted(subjects)
        found: list[int] = []
        with self._engine.connect() as connection:
            for at in range(0, len(wanted), 500):
                part = person_key.c.subject.in_(wanted[at : at + 500])
                found += connection.scalars(select(person_key.c.subject).where(part))
        return found

    def subjects(self) -> set[int]:
        """All subjects that have a key."""
        with self._engine.connect() as connection:
            return set(connection.scalars(select(person_key.c.subject)))

    def secret_of_backups(self) -> bytes:
        """As `backup_secret`."""
        return backup_secret(self._master)

    def secret(self, subject: int, purpose: str) -> bytes:
        """32 bytes derived from the subject's key. Raises Gone."""
        return hmac.digest(self._person(subject), b"hub/" + purpose.encode(), "sha256")

    def seal(self, subject: int, plaintext: bytes, *, kind: str, month: int, bound_to: bytes) -> bytes:
        """The state that holds `plaintext`, for the subject's key; `bound_to` must be equal when it is opened."""
        random = os.urandom(_NONCE + _SALT)
        nonce, salt = random[:_NONCE], random[_NONCE:]
        salted = salt + plaintext
        box = self._cipher(subject, kind, month, create=True).encrypt(nonce, salted, bound_to)
        return header(month) + nonce + hashlib.sha256(salted).digest() + box

    def open(self, subject: int, state: bytes, *, kind: str, bound_to: bytes) -> bytes:
        """The plaintext of a state. Raises Gone where its key was destroyed, Tampered where it was changed.

        A key that is missing without a tombstone was not destroyed by the hub: Tampered.
        """
        sealed = parse(state)
        cipher = self._cipher(subject, kind, sealed.month, create=False)
        try:
            salted = cipher.decrypt(sealed.nonce, sealed.box, bound_to)
        except InvalidTag:
            raise Tampered("a sealed payload does not open with its key") from None
        if hashlib.sha256(salted).digest() != sealed.commitment:
            raise Tampered("a payload is not the one that was committed to")
        return salted[_SALT:]

    def _cipher(self, subject: int, kind: str, month: int, *, create: bool) -> AESGCM:
        name = (subject, kind if month else "", month)
        cipher = self._ciphers.get(name)
        if cipher is None or subject in self._gone:
            key = self._person(subject)
            if month:
                key = hmac.digest(key, b"hub/period" + self._period(kind, month, create=create), "sha256")
            if len(self._ciphers) >= _CACHED:
                self._ciphers.clear()
            cipher = self._ciphers[name] = AESGCM(key)
        return cipher

    def _person(self, subject: int) -> bytes:
        if subject in self._gone:
            raise Gone
        if subject not in self._persons:
            self.load([subject])
        try:
            return self._persons[subject]
        except KeyError:
            raise Gone from None

    def _period(self, kind: str, month: int, *, create: bool) -> bytes:
        key = self._periods.get((kind, month))  # which another thread may drop meanwhile
        if key is None:
            if (kind, month) not in self._ended:
                self._ended = self.ended()
            if (kind, month) in self._ended:
                if create:
                    raise Tampered("the payloads of this month are destroyed: the log or the clock is behind its keys")
                raise Ended
            with self._writers.begin() as connection:
                where = (period_key.c.kind == kind) & (period_key.c.month == month)
                wrapped = connection.scalar(select(period_key.c.wrapped).where(where))
                if wrapped is None and not create:
                    raise Tampered("the key of its month is missing, though the time to keep it has not ended")
                if wrapped is None:
                    fresh = aes_key_wrap(self._master, os.urandom(_KEY_BYTES))
                    insert_missing(connection, period_key, [{"kind": kind, "month": month, "wrapped": fresh}])
                    wrapped = connection.scalar(select(period_key.c.wrapped).where(where))
            key = self._periods[kind, month] = self._unwrap(wrapped)
        return key

    def _named(self, name: str) -> bytes:
        query = select(hub_key.c.wrapped).where(hub_key.c.name == name)
        with self._engine.connect() as connection:
            wrapped = connection.scalar(query)
        if wrapped is None:
            with self._writers.begin() as connection:
                fresh = aes_key_wrap(self._master, os.urandom(_KEY_BYTES))
                insert_missing(connection, hub_key, [{"name": name, "wrapped": fresh}])
                wrapped = connection.scalar(query)
        try:
            return aes_key_unwrap(self._master, wrapped or b"")
        except (InvalidUnwrap, TypeError):
            raise Misuse("this master key is not the one that the hub's keys were wrapped with") from None

    def _unwrap(self, wrapped: bytes | None) -> bytes:
        try:
            return aes_key_unwrap(self._master, wrapped or b"")
        except (InvalidUnwrap, TypeError):
            raise Tampered("a wrapped key was changed") from None
