"""Keeps figures for their hour, sealed: the bytes, and until a figure is told for the first time whom it counts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, Connection, LargeBinary, Table, delete, select, update

from hub.events import EPOCH, Position, micros
from hub.log.database import insert_many
from hub.log.log import Log
from hub.log.recorder import Number, metadata
from hub.log.sealing import CITY
from hub.rules import Moment

RENEWED = timedelta(hours=1)
"""How long a figure stays."""

figure = Table(
    "figure",
    metadata,
    Column("question", LargeBinary(16), primary_key=True),
    Column("position", Number, nullable=False),
    Column("time_us", Number, nullable=False),
    Column("persons", Number, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""The figure of the hour for each question, sealed; `position` and `time_us`: where it was decided."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure of one moment. persons: how many it counts. counted: their ordinals, in the order of enrolment; none
    once it was told. told: whether it was."""

    body: bytes
    moment: Moment
    persons: int
    counted: Sequence[int] = ()
    destroyed: int = 0
    told: bool = False


Row = tuple[bytes, int, int, int, bytes]


class Keeping:
    """The figures that one log keeps."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def row(self, name: bytes, made: Figure, *, told: bool) -> Row:
        """A figure as it is kept under `name`; ready before the turn is held."""
        moment = made.moment
        return name, moment.position, micros(moment.time), made.persons, self._sealed(name, made, told=told)

    def keep(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Keep figures of one moment instead of those of before, and drop what is over by then."""
        over = figure.c.time_us <= rows[0][2] - RENEWED // timedelta(microseconds=1)
        connection.execute(delete(figure).where(over | figure.c.question.in_([row[0] for row in rows])))
        insert_many(connection, figure, rows)

    def of(self, connection: Connection, name: bytes, now: datetime) -> Figure | None:
        """The figure that is kept under `name` for the hour that `now` lies in."""
        row = connection.execute(select(figure).where(figure.c.question == name)).first()
        if row is None:
            return None
        time = EPOCH + timedelta(microseconds=row.time_us)
        if not time <= now < time + RENEWED:
            return None
        opened = self._cipher().decrypt(row.body[:12], row.body[12:], name)
        end = 5 + int.from_bytes(opened[1:5])
        return Figure(
            body=opened[5:end],
            moment=Moment(position=Position(row.position), time=time),
            persons=row.persons,
            counted=ordinals(opened[end:]),
            told=opened[0] == 1,
        )

    def tell(self, connection: Connection, name: bytes, kept: Figure) -> None:
        """Forget whom a figure counts: its first answer says it from now on."""
        sealed = self._sealed(name, kept, told=True)
        connection.execute(update(figure).where(figure.c.question == name).values(body=sealed))

    def _sealed(self, name: bytes, made: Figure, *, told: bool) -> bytes:
        nonce = os.urandom(12)
        counted = b"" if told else bits(made.counted)
        opened = bytes([told]) + len(made.body).to_bytes(4) + made.body + counted
        return nonce + self._cipher().encrypt(nonce, opened, name)

    def _cipher(self) -> AESGCM:
        return AESGCM(self._log.keyring.secret(CITY, "figure"))


def bits(counted: Sequence[int]) -> bytes:
    """A set of ordinals, a bit each: a kilobyte for 8,000 persons who are enrolled, however many it holds."""
    held = bytearray(max(counted, default=-1) // 8 + 1)
    for ordinal in counted:
        held[ordinal // 8] |= 1 << ordinal % 8
    return bytes(held)


def ordinals(held: bytes) -> tuple[int, ...]:
    """The set that `bits` wrote, in order."""
    return tuple(at * 8 + bit for at, byte in enumerate(held) if byte for bit in range(8) if byte >> bit & 1)
