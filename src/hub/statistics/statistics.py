"""Answers a recipient's question for figures: by the one decision, at most once an hour, each answer logged.

    question -> what lasting grants show, by person -> cells -> rounded figures, kept for the hour -> view.disclosed

All figures of a recipient are made together, at one moment: from two that were made minutes apart it could subtract
one person. The first answer to a question names in its chunks whom its figure counts; those after it give the same
bytes and name nobody anew. A figure tells of nobody, so it stays until it is renewed, whatever is revoked meanwhile
(R20); it is told only under the registration that it was made for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from hub.answer import FIGURE_FORMAT, Answer, Query
from hub.canonical import dumps, text, timestamp
from hub.commits import Commits
from hub.disclosure import Disclosure
from hub.errors import Busy
from hub.events import Entry, Position
from hub.log.log import Log
from hub.log.recorder import Append
from hub.policy import City
from hub.rules import Moment
from hub.statistics.counting import BY, Cells, Count, Sums
from hub.statistics.keeping import RENEWED, Figure, Keeping, Row
from hub.statistics.question import Question
from hub.views import uses
from hub.views.views import Change, Standing, Views

FORMAT = FIGURE_FORMAT

_SHELTER = "shelter.reported"
_TRIES = 4
_PATIENCE_S = 2.0
_MOST_LOCKS = 1_000

Reported = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fresh:
    """What was made just now: the figure that is asked for, and all that are kept, each as its row.

    terms: the registration that they were made for; None where there is none, and nothing is kept.
    """

    asked: Figure
    terms: str | None
    rows: Sequence[Row] = ()


class Statistics:
    """Answers with the figures of one log."""

    def __init__(self, log: Log, views: Views, commits: Commits, disclosure: Disclosure) -> None:
        self._log, self._views, self._commits, self._disclosure = log, views, commits, disclosure
        self._keeping = Keeping(log)
        self._lock = threading.Lock()
        self._renewing: dict[tuple[str, bool], threading.Lock] = {}

    def read(self, question: Question, *, actor: str | None = None) -> Answer:
        """The figure of the hour, logged as a disclosure before it leaves. Raises Busy where it cannot be."""
        question = question.plain
        for _ in range(_TRIES):
            if self._is_kept(question):
                answer = self._tell(question, None, actor)
            else:
                with self._one_at_a_time(question):
                    answer = self._tell(question, self._renewed(question), actor)
            if answer is not None:
                return answer
        raise Busy("the figure ended while it was answered; ask again")

    def repeat(self, connection: Connection, end: int, entry: Entry) -> Answer:
        """The figure that the disclosure at `entry` let out, counted again at its own position and time."""
        data = entry.event.data
        standing = self._views.at(connection, end, data["position"])
        return _answer(self._figure(standing, Question.logged(data["query"]), data["time"]))

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
    def _one_at_a_time(self, question: Question) -> Iterator[None]:
        """One thread of this process counts for a recipient; who waited finds what it kept.

        Raises Busy where that takes long: whoever waits holds a thread that others could read with.
        """
        of = question.recipient, question.exercise
        with self._lock:
            if len(self._renewing) >= _MOST_LOCKS:
                self._renewing = {}
            lock = self._renewing.setdefault(of, threading.Lock())
        if not lock.acquire(timeout=_PATIENCE_S):
            raise Busy("the figure is being counted; ask again in some seconds")
        try:
            yield
        finally:
            lock.release()

    def _name(self, question: Question, terms: str) -> bytes:
        """What a figure is kept under: the question, and the registration that it was made for."""
        return self._log.keyring.digest("figure", question.text(), terms)

    def _is_kept(self, question: Question) -> bool:
        with self._log.entries.snapshot() as (connection, end):
            terms = _terms(self._views.at(connection, end.position).city, question)
            now = self._now(end.recorded_at)
            return terms is not None and self._keeping.of(connection, self._name(question, terms), now) is not None

    def _now(self, recorded_at: datetime | None) -> datetime:
        now = self._log.clock.now()
        return now if recorded_at is None else max(now, recorded_at)

    def _renewed(self, question: Question) -> _Fresh | None:
        """The figures of the recipient as of now; None where those that are kept still hold."""
        with self._log.entries.snapshot() as (connection, end):
            standing, time = self._views.at(connection, end.position), self._now(end.recorded_at)
            terms = _terms(standing.city, question)
            if terms is None:
                return _Fresh(asked=self._figure(standing, question, time), terms=None)
            if self._keeping.of(connection, self._name(question, terms), time) is not None:
                return None
            questions = question.beside(standing.city.recipients[question.recipient].purposes)
            made = self._figures(standing, questions, time)
        rows = [self._keeping.row(self._name(q, terms), of, told=q == question) for q, of in made.items()]
        return _Fresh(asked=made[question], terms=terms, rows=rows)

    def _tell(self, question: Question, fresh: _Fresh | None, actor: str | None) -> Answer | None:
        """Log and answer the figure that is kept, or else the fresh one; those made with it are kept from now on.

        None where neither is of the registration as it stands now, or the hour ended in between.
        """

        def job(append: Append, change: Change) -> Answer | None:
            terms = _terms(change.city, question)
            name = None if terms is None else self._name(question, terms)
            kept = None if name is None else self._keeping.of(append.connection, name, append.now)
            if kept is not None and name is not None:
                if not kept.told:
                    self._keeping.tell(append.connection, name, kept)
                return self._write(append, change, question, kept, actor)
            if fresh is None or fresh.terms != terms:
                return None
            if fresh.rows:
                self._keeping.keep(append.connection, fresh.rows)
            return self._write(append, change, question, fresh.asked, actor)

        return self._commits.run(job, rank="answer")

    def _write(self, append: Append, change: Change, question: Question, found: Figure, actor: str | None) -> Answer:
        return self._disclosure.append_figure(
            append,
            change,
            _answer(found),
            question.query,
            question.text(),
            actor,
            persons=found.persons,
            first=not found.told,
        )

    def _figure(self, standing: Standing, question: Question, time: datetime) -> Figure:
        """The figure at a standing and a time. One path for now and then."""
        return self._figures(standing, [question], time)[question]

    def _figures(self, standing: Standing, questions: Sequence[Question], time: datetime) -> dict[Question, Figure]:
        """The figures of one recipient at a standing and a time."""
        reader = standing.city.recipients.get(questions[0].recipient)
        reader = None if reader is None or reader.retired else reader
        needs_shelters = any(question.by == "shelter" for question in questions)
        shelters = self._shelters(standing, exercise=questions[0].exercise) if needs_shelters else {}
        cells = {by: Cells(by, standing.city, reader, shelters) for by in BY if any(q.by == by for q in questions)}
        made: dict[Question, Figure] = {}
        for purpose in {question.purpose: None for question in questions}:
            some = [question for question in questions if question.purpose == purpose]
            made |= self._counted(standing, some, time, cells, shelters)
        return made

    def _counted(
        self,
        standing: Standing,
        questions: Sequence[Question],
        time: datetime,
        cells: Mapping[str, Cells],
        shelters: Reported,
    ) -> dict[Question, Figure]:
        """The figures of one recipient and purpose, everybody decided on once."""
        kinds = tuple(sorted({kind for question in questions for kind in question.query.kinds}))
        asked = questions[0]
        query = Query(recipient=asked.recipient, purpose=asked.purpose, exercise=asked.exercise, kinds=kinds)
        of_count: dict[str, list[tuple[str, Sums]]] = {}
        sums = {question: Sums() for question in questions}
        for question, of in sums.items():
            of_count.setdefault(question.count.name, []).append((question.by, of))
        counts = {question.count.name: question.count for question in questions}
        counted: dict[str, list[int]] = {name: [] for name in counts}
        missed: list[int] = []
        for ordinal, homes, seen in self._disclosure.lasting(standing, query, time, missed.append):
            places = {by: of.of(homes, seen) for by, of in cells.items()}
            for name, count in counts.items():
                tally = count.tally([fact for fact in seen if fact.kind in count.facts])
                if tally:
                    counted[name].append(ordinal)
                    for by, adding in of_count[name]:
                        adding.add(places[by], tally)
        moment = Moment(position=Position(standing.position), time=time)
        return {
            question: Figure(
                body=_body(question, cells[question.by], of, shelters, time),
                moment=moment,
                persons=len(counted[question.count.name]),
                counted=counted[question.count.name],
                destroyed=sum(missed),
            )
            for question, of in sums.items()
        }

    def _shelters(self, standing: Standing, *, exercise: bool) -> Reported:
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


def _terms(city: City, question: Question) -> str | None:
    """The registration that a figure is made for, as far as figures rest on it; None where there may be none."""
    reader = city.recipients.get(question.recipient)
    if reader is None or reader.retired or question.purpose not in reader.purposes:
        return None
    return text({"class": reader.class_, "areas": sorted(reader.areas), "purposes": sorted(reader.purposes)})


def _body(question: Question, cells: Cells, sums: Sums, shelters: Reported, time: datetime) -> bytes:
    count: Count = question.count
    rows = []
    for cell in cells.names:
        row: dict[str, Any] = {"cell": cell, "counts": {c: sums.told(cell, c) for c in count.categories}}
        if count.reported and question.by == "shelter" and cell in shelters:
            row["reported"] = shelters[cell]
        rows.append(row)
    return dumps(
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


def _answer(found: Figure) -> Answer:
    return Answer(body=found.body, persons=(), moment=found.moment, counted=found.counted, destroyed=found.destroyed)
