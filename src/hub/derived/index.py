"""Brings the index of disclosures by person along with the log.

    disclosures that it does not hold -> whom their chunks name -> rows, mark and offset in one transaction

Who does it, how often and how many at once does not matter: rows and marks are written where they are missing, and
an offset only from where it stood.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, insert, or_, select, update

from hub.events import Entry, micros
from hub.log.clock import SKEW
from hub.log.log import Log
from hub.log.recorder import Head
from hub.views import index
from hub.views.index import share
from hub.views.views import DISCLOSED

MOST_ROWS = 5_000
"""Rows that are written at once: for so long nobody else can append."""

LEASE = timedelta(seconds=15)

_DISCLOSURES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Lag:
    """How far the index is behind: disclosures that it does not hold yet, at most `MOST`; the log's last position."""

    waiting: int
    end: int


MOST = 10_000


class Index:
    """Writes the index of one log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._me = f"{os.getpid()}-{os.urandom(6).hex()}"

    def lag(self) -> Lag:
        """How far the index is behind."""
        with self._log.entries.snapshot() as (connection, end):
            waiting = index.missing(connection, after=0, up_to=end.position, limit=MOST)
        return Lag(waiting=len(waiting), end=end.position)

    def step(self) -> int:
        """Write some of what is missing, the oldest first; how many disclosures that were.

        0 where nothing is missing, or another process is at it.
        """
        with self._log.entries.snapshot() as (connection, end):
            positions = index.missing(connection, after=0, up_to=end.position, limit=_DISCLOSURES)
        if not positions or not self._leased():
            return 0
        return self.take(positions)

    def take(self, positions: Sequence[int]) -> int:
        """Write what these entries say, as far as they are disclosures; how many of them are held now."""
        done = 0
        for whole, pieces in self._portions(positions):
            with self._writing() as (connection, end):
                for position, ordinals, removed in pieces:
                    index.put(self._log, connection, position, ordinals, removed=removed)
                for position in whole:
                    index.mark(connection, position)
                if whole:
                    index.close_up(connection, end.position)
            done += len(whole)
        return done

    def offset(self, name: str) -> int | None:
        """Where a share goes on; None where nobody began it."""
        with self._log.entries.snapshot() as (connection, _):
            return index.next_of(connection, name)

    def take_share(self, name: str, before: int | None, after: int, positions: Sequence[int]) -> bool:
        """Write what these entries say, and with the last of it that the share goes on at `after`.

        False where the share did not stand at `before`: another worker has it now. What was written stays, and is
        true.
        """
        portions = list(self._portions(positions)) or [([], [])]
        for whole, pieces in portions:
            with self._writing() as (connection, end):
                if index.next_of(connection, name) != before:
                    return False
                for position, ordinals, removed in pieces:
                    index.put(self._log, connection, position, ordinals, removed=removed)
                for position in whole:
                    index.mark(connection, position)
                index.close_up(connection, end.position)
                if whole is portions[-1][0] and not index.advance(connection, name, before, after):
                    return False
        return True

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, Head]]:
        with self._log.entries.maintaining() as connection:
            yield connection, self._log.entries.end(connection)

    def _portions(self, positions: Sequence[int]) -> Iterator[tuple[list[int], list[tuple[int, list[int], bool]]]]:
        """What to write at once: which disclosures are whole by then, and rows as (position, ordinals, removed)."""
        whole: list[int] = []
        pieces: list[tuple[int, list[int], bool]] = []
        rows = 0
        for position, shown, removed in self._named(positions):
            for ordinals, took in ((shown, False), (removed, True)):
                for at in range(0, len(ordinals), MOST_ROWS):
                    piece = ordinals[at : at + MOST_ROWS]
                    if rows and rows + len(piece) > MOST_ROWS:
                        yield whole, pieces
                        whole, pieces, rows = [], [], 0
                    pieces.append((position, piece, took))
                    rows += len(piece)
            whole.append(position)
        if whole or pieces:
            yield whole, pieces

    def _named(self, positions: Sequence[int]) -> Iterator[tuple[int, list[int], list[int]]]:
        """Of each of these disclosures that the index does not hold: whom it names."""
        for at in range(0, len(positions), _DISCLOSURES):
            with self._log.entries.snapshot() as (connection, _):
                part = [p for p in positions[at : at + _DISCLOSURES] if not index.holds(connection, p)]
                found = [
                    (entry.position, *index.named(self._log, connection, entry))
                    for entry in self._log.read(connection, part).values()
                    if isinstance(entry, Entry) and entry.event.kind == DISCLOSED
                ]
            yield from sorted(found)

    def _leased(self) -> bool:
        """Whether this process follows the log: one at a time does, so that none does what another did."""
        now = self._log.clock.now()
        with self._log.entries.maintaining() as connection:
            if connection.scalar(select(share.c.name).where(share.c.name == index.WHOLE)) is None:
                connection.execute(insert(share).values(name=index.WHOLE, next=0, lease_us=0))
            leapt = share.c.lease_us > micros(now + LEASE + SKEW)
            free = or_(share.c.lease_us < micros(now), leapt, share.c.lease == self._me)
            mine = update(share).where(share.c.name == index.WHOLE, free)
            return bool(connection.execute(mine.values(lease=self._me, lease_us=micros(now + LEASE))).rowcount)
