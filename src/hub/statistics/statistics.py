"""Answers a recipient's question for figures: by the one decision, at most once an hour, each answer logged.

    question -> what lasting grants show, by person -> cells -> rounded figure, kept for the hour -> view.disclosed

The first answer of an hour names in its chunks whom it counted; those after it give the same bytes and name nobody
anew. A figure tells of nobody, so it stays until it is renewed, whatever is revoked meanwhile (R20).
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, Connection, LargeBinary, Table, delete, insert, select

from hub.canonical import dumps, text, timestamp
from hub.codec import is_id
from hub.commits import Commits
from hub.disclosure import FIGURE_FORMAT, Answer, Disclosure, Query
from hub.errors import Busy, PayloadError
from hub.events import EPOCH, Entry, Position, micros
from hub.log.log import Log
from hub.log.recorder import Append, Number, metadata
from hub.log.sealing import CITY
from hub.rules import Moment
from hub.statistics.counting import BY, KINDS, Cells, Count, rounded
from hub.views import uses
from hub.views.views import Change, Standing, Views

FORMAT = FIGURE_FORMAT
RENEWED = timedelta(hours=1)
"""How long a figure stays."""

_SHELTER = "shelter.reported"
_TRIES = 4
_PATIENCE_S = 2.0
_MOST_LOCKS = 1_000

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
class Question:
    """What is asked: no persons, no area, no kinds of one's own. kind: of `KINDS`; by: of `BY`."""

    recipient: str
    purpose: str
    kind: str
    by: str
    exercise: bool = False

    def __post_init__(self) -> None:
        """Raises PayloadError for what can be asked of nobody."""
        for path, name in (("recipient", self.recipient), ("purpose", self.purpose)):
            if not is_id(name):
                raise PayloadError("is no name", path=path)
        for path, name, known in (("kind", self.kind, KINDS), ("by", self.by, BY)):
            if name not in known:
                raise PayloadError(f"is none of {', '.join(known)}", path=path)

    @property
    def count(self) -> Count:
        """What is counted."""
        return KINDS[self.kind]

    @property
    def query(self) -> Query:
        """What the one decision is asked: every fact that is counted, or that places a person."""
        kinds = tuple(sorted({*self.count.facts, *BY[self.by]}))
        return Query(recipient=self.recipient, purpose=self.purpose, exercise=self.exercise, kinds=kinds)

    def text(self) -> str:
        """As it is logged: canonical JSON; equal for two names of one count."""
        said = {"recipient": self.recipient, "purpose": self.purpose, "exercise": self.exercise}
        return text({**said, "kind": self.count.name, "by": self.by})

    @classmethod
    def logged(cls, said: str) -> Question:
        """The question that `text` wrote."""
        return cls(**json.loads(said))


@dataclass(frozen=True, slots=True)
class _Kept:
    """A figure: whom it counted, where that is known; how many. holds: whether it is kept, as one that was refused
    is not."""

    body: bytes
    moment: Moment
    persons: int
    counted: tuple[int, ...] = ()
    destroyed: int = 0
    holds: bool = True


class Statistics:
    """Answers with the figures of one log."""

    def __init__(self, log: Log, views: Views, commits: Commits, disclosure: Disclosure) -> None:
        self._log, self._views, self._commits, self._disclosure = log, views, commits, disclosure
        self._lock = threading.Lock()
        self._renewing: dict[bytes, threading.Lock] = {}

    def read(self, question: Question, *, actor: str | None = None) -> Answer:
        """The figure of the hour, logged as a disclosure before it leaves. Raises Busy where it cannot be."""
        name = self._log.keyring.digest("figure", question.text())
        for _ in range(_TRIES):
            with self._one_at_a_time(name):
                fresh = self._renewed(question, name)

            def job(append: Append, change: Change, fresh: _Kept | None = fresh) -> Answer | None:
                kept = self._kept(append.connection, name, append.now)
                if kept is None and fresh is None:
                    return None  # the hour ended in between
                return self._write(append, change, question, name, kept, fresh, actor)

            answer = self._commits.run(job, rank="answer")
            if answer is not None:
                return answer
        raise Busy("the figure ended while it was answered; ask again")

    def repeat(self, connection: Connection, end: int, entry: Entry) -> Answer:
        """The figure that the disclosure at `entry` let out, counted again at its own position and time."""
        data = entry.event.data
        standing = self._views.at(connection, end, data["position"])
        found = self._figure(standing, Question.logged(data["query"]), data["time"])
        return _answer(found)

    def named(self, connection: Connection, entry: Entry) -> list[int]:
        """Whom the figure of a disclosure counts: as the first answer of its hour says."""
        data = entry.event.data
        if data["persons_chunks"] is None:
            return self._disclosure.named(connection, entry)[0]
        number = self._log.keyring.number("recipient", data["recipient"])
        before = uses.disclosures(connection, after=data["position"], up_to=entry.position - 1, recipient=number)
        for first in self._log.read(connection, before).values():
            said = first.event.data if isinstance(first, Entry) else {}
            same = all(said.get(part) == data[part] for part in ("format", "query", "time", "position"))
            if isinstance(first, Entry) and same and said["persons_chunks"] is None:
                return self._disclosure.named(connection, first)[0]
        return []

    @contextmanager
    def _one_at_a_time(self, name: bytes) -> Iterator[None]:
        """One thread of this process counts for a question; who waited finds what it kept.

        Raises Busy where that takes long: whoever waits holds a thread that others could read with.
        """
        with self._lock:
            if len(self._renewing) >= _MOST_LOCKS:
                self._renewing = {}
            lock = self._renewing.setdefault(name, threading.Lock())
        if not lock.acquire(timeout=_PATIENCE_S):
            raise Busy("the figure is being counted; ask again in some seconds")
        try:
            yield
        finally:
            lock.release()

    def _renewed(self, question: Question, name: bytes) -> _Kept | None:
        """The figure as of now; None where the one that is kept still holds."""
        with self._log.entries.snapshot() as (connection, end):
            now = self._log.clock.now()
            now = now if end.recorded_at is None else max(now, end.recorded_at)
            if self._kept(connection, name, now) is not None:
                return None
            return self._figure(self._views.at(connection, end.position), question, now)

    def _write(
        self,
        append: Append,
        change: Change,
        question: Question,
        name: bytes,
        kept: _Kept | None,
        fresh: _Kept | None,
        actor: str | None,
    ) -> Answer:
        """Log the answer: the figure that is kept, or else the fresh one, which is kept from now on."""
        found = kept or fresh
        if found is None:
            raise Busy("there is no figure; ask again")
        if kept is None and found.holds:
            self._keep(append.connection, name, found)
        answer = _answer(found)
        return self._disclosure.append_figure(
            append, change, answer, question.query, question.text(), actor, persons=found.persons, first=kept is None
        )

    def _kept(self, connection: Connection, name: bytes, now: datetime) -> _Kept | None:
        """The figure of the hour that `now` lies in."""
        row = connection.execute(select(figure).where(figure.c.question == name)).first()
        if row is None:
            return None
        time = EPOCH + timedelta(microseconds=row.time_us)
        if not time <= now < time + RENEWED:
            return None
        body = self._cipher().decrypt(row.body[:12], row.body[12:], name)
        return _Kept(body, Moment(position=Position(row.position), time=time), row.persons)

    def _keep(self, connection: Connection, name: bytes, found: _Kept) -> None:
        nonce = os.urandom(12)
        body = nonce + self._cipher().encrypt(nonce, found.body, name)
        time_us = micros(found.moment.time)
        over = (figure.c.question == name) | (figure.c.time_us <= time_us - micros(EPOCH + RENEWED))
        connection.execute(delete(figure).where(over))
        values = {"position": found.moment.position, "time_us": time_us, "persons": found.persons, "body": body}
        connection.execute(insert(figure).values(question=name, **values))

    def _cipher(self) -> AESGCM:
        return AESGCM(self._log.keyring.secret(CITY, "figure"))

    def _figure(self, standing: Standing, question: Question, time: datetime) -> _Kept:
        """The figure at a standing and a time. One path for now and then."""
        count, reader = question.count, standing.city.recipients.get(question.recipient)
        reader = None if reader is None or reader.retired else reader
        shelters = self._shelters(standing, exercise=question.exercise) if question.by == "shelter" else {}
        cells = Cells(question.by, standing.city, reader, shelters)
        values: Counter[tuple[str, str]] = Counter()
        persons: Counter[tuple[str, str]] = Counter()
        counted: list[int] = []
        missed: list[int] = []
        for ordinal, homes, seen in self._disclosure.lasting(standing, question.query, time, missed.append):
            tally = count.tally(seen)
            if tally:
                counted.append(ordinal)
                cell = cells.of(homes, seen)
                for category, value in tally.items():
                    values[cell, category] += value
                    persons[cell, category] += 1
        rows = []
        for cell in cells.names:
            counts = {c: rounded(values[cell, c], persons[cell, c]) for c in count.categories}
            row: dict[str, Any] = {"cell": cell, "counts": counts}
            if count.reported and cell in shelters:
                row["reported"] = shelters[cell]
            rows.append(row)
        body = dumps(
            {
                "by": question.by,
                "cells": rows,
                "exercise": question.exercise,
                "format": FORMAT,
                "kind": count.name,
                "purpose": question.purpose,
                "recipient": question.recipient,
                "time": timestamp(time),
                "until": timestamp(time + RENEWED),
            }
        )
        moment = Moment(position=Position(standing.position), time=time)
        holds = reader is not None and question.purpose in reader.purposes
        return _Kept(body, moment, len(counted), tuple(counted), sum(missed), holds)

    def _shelters(self, standing: Standing, *, exercise: bool) -> Mapping[str, Mapping[str, Any]]:
        """By id every shelter that was reported, with what its newest report says of how many are there (R22)."""
        terms = standing.city.kinds.get(_SHELTER)
        if terms is None:
            return {}
        positions = self._views.facts.newest_of_place(standing.connection, terms, standing.position)
        entries = self._log.read(standing.connection, positions)
        found: dict[str, Mapping[str, Any]] = {}
        for position in positions:  # newest first
            entry = entries[position]
            if isinstance(entry, Entry) and entry.event.exercise is exercise:
                data = entry.event.data
                counted_at = None if data["counted_at"] is None else timestamp(data["counted_at"])
                said = {"people": data["people"], "households": data["households"], "counted_at": counted_at}
                found.setdefault(data["shelter"], said)
        return found


def _answer(found: _Kept) -> Answer:
    return Answer(body=found.body, persons=(), moment=found.moment, counted=found.counted, destroyed=found.destroyed)
