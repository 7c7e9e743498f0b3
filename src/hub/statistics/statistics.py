"""Answers a recipient's question for figures: by the one decision, at most once an hour, each answer logged.

    question -> what lasting grants show, by person -> cells -> rounded figures, kept for the hour -> view.disclosed

Where more persons are to be decided on than one share holds, a renewal is shared out (`sharing`): who asks carries
shares, and so does every process that looks for them (`carrier`), whoever comes to the end tells.

All figures of a recipient are made together, at one moment: from two that were made minutes apart it could subtract
one person. The first answer to a question names in its chunks whom its figure counts; those after it give the same
bytes and name nobody anew. A figure tells of nobody, so it stays until it is renewed, whatever is revoked meanwhile
(R20); it is told only under the registration that it was made for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from hub.answer import FIGURE_FORMAT, Answer
from hub.canonical import text
from hub.commits import Commits
from hub.disclosure import Disclosure
from hub.errors import Busy, HubError
from hub.events import Entry, Position
from hub.log.log import Log
from hub.log.recorder import Append
from hub.policy import City
from hub.rules import Moment
from hub.statistics import sharing
from hub.statistics.keeping import Figure, Keeping, Row
from hub.statistics.question import Question
from hub.statistics.sharing import Renewal, Share, Sharing
from hub.statistics.sweep import Frame, Part, Sweep
from hub.views import uses
from hub.views.views import Change, Standing, Views

FORMAT = FIGURE_FORMAT

_TRIES = 4
_PATIENCE_S = 2.0
_STILL_S = 20.0
_LOOK_S = 0.1
_MOST_LOCKS = 1_000
_ASK_AGAIN = "the figure is being counted; ask again in some seconds"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fresh:
    """What was made just now: the figure that is asked for, and all that are kept, each as its row.

    terms: the registration that they were made for; None where there is none, and nothing is kept. renewal: the name
    of the one that is over with them.
    """

    asked: Figure
    terms: str | None
    rows: Sequence[Row] = ()
    renewal: bytes = b""


class Statistics:
    """Answers with the figures of one log."""

    def __init__(self, log: Log, views: Views, commits: Commits, disclosure: Disclosure) -> None:
        self._log, self._views, self._commits, self._disclosure = log, views, commits, disclosure
        self._keeping, self._sharing, self._sweep = Keeping(log), Sharing(log), Sweep(log, views, disclosure.deciding)
        self._framed: tuple[Renewal, Frame] | None = None
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
            raise Busy(_ASK_AGAIN)
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
        """The figures of the recipient as of now; None where those that are kept still hold, or it has to be asked
        again.
        """
        with self._log.entries.snapshot() as (connection, end):
            standing, now = self._views.at(connection, end.position), self._now(end.recorded_at)
            terms = _terms(standing.city, question)
            if terms is None:
                return _Fresh(asked=self._figure(standing, question, now), terms=None)
            if self._keeping.of(connection, self._name(question, terms), now) is not None:
                return None
            purposes = tuple(sorted(standing.city.recipients[question.recipient].purposes))
            name = self._sharing.name(question.recipient, terms, exercise=question.exercise)
            firsts = self._firsts(standing, question, len(purposes))
            since = self._views.control_since
            made = None
            if len(firsts) == 1 and self._sharing.of(connection, name) is None:
                made = self._figures(standing, question.beside(purposes), now)
        if made is None:
            moment = Moment(position=Position(standing.position), time=now)
            new = Renewal(
                name=name,
                moment=moment,
                recipient=question.recipient,
                purposes=purposes,
                exercise=question.exercise,
            )
            made = self._carried(new, firsts, self._name(question, terms), since)
        if made is None:
            return None
        rows = [self._keeping.row(self._name(q, terms), of, told=q == question) for q, of in made.items()]
        return _Fresh(asked=made[question], terms=terms, rows=rows, renewal=name)

    def _firsts(self, standing: Standing, question: Question, purposes: int) -> list[int]:
        """With which ordinals shares begin, so that each has as many persons who granted the recipient anything."""
        reader = standing.city.recipients[question.recipient]
        asked = sorted(self._views.candidates(standing, reader.id, reader.class_, roster=False))
        size = max(1, sharing.AT_ONCE // purposes)
        return [0, *asked[size::size]]

    def _carried(self, new: Renewal, firsts: Sequence[int], figure: bytes, since: int) -> dict[Question, Figure] | None:
        """The figures of a renewal that begins now, or of that of its name that is under way; None where it is over.

        since: the last control event that is known. What was begun before it is for those to tell who asked before it
        (R21): others carry its shares, and find it kept.
        """

        def kept(connection: Connection, now: datetime) -> bool:
            return self._keeping.of(connection, figure, now) is not None

        of = self._sharing.begin(new, firsts, kept)
        return None if of is None else self._shared(of, tells=of == new or of.moment.position >= since)

    def _tell(self, question: Question, fresh: _Fresh | None, actor: str | None) -> Answer | None:
        """Log and answer the figure that is kept, or else the fresh one; those made with it are kept from now on.

        None where neither is of the registration as it stands now, or the hour ended in between, or what is fresh has
        grown old.
        """

        def job(append: Append, change: Change) -> Answer | None:
            terms = _terms(change.city, question)
            name = None if terms is None else self._name(question, terms)
            kept = None if name is None else self._keeping.of(append.connection, name, append.now)
            if kept is not None and name is not None:
                if not kept.told:
                    self._keeping.tell(append.connection, name, kept)
                return self._write(append, change, question, kept, actor)
            if fresh is None or fresh.terms != terms or append.now - fresh.asked.moment.time > sharing.LONGEST:
                return None
            if fresh.rows:
                self._keeping.keep(append.connection, fresh.rows)
                self._sharing.end(append.connection, append.now, fresh.renewal)
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
        """The figures of one recipient at a standing and a time, counted here alone."""
        frame = self._sweep.frame(standing, questions, time)
        return self._sweep.figures(frame, self._sweep.part(standing, frame))

    def carry(self, name: bytes | None = None) -> bool:
        """Carry one share of the renewal of this name, or of any; False where none is free."""
        share = self._sharing.take(name)
        if share is None:
            return False
        try:
            part = self._part(share)
        except BaseException:
            with suppress(HubError, SQLAlchemyError):  # its lease ends by itself
                self._sharing.give_back(share)
            raise
        self._sharing.finish(share, part)
        return True

    def waiting(self) -> int:
        """How many shares of renewals wait for somebody."""
        return self._sharing.waiting()

    def tidy(self) -> None:
        """Forget renewals that nobody came to the end of."""
        self._sharing.tidy()

    def _part(self, share: Share) -> bytes:
        with self._log.entries.snapshot() as (connection, end):
            standing = self._views.at(connection, end.position, share.renewal.moment.position)
            frame = self._frame(standing, share.renewal)
            return self._sweep.part(standing, frame, share.persons).encode(frame)

    def _frame(self, standing: Standing, of: Renewal) -> Frame:
        """The frame of a renewal, made once for all the shares that this process carries."""
        framed = self._framed
        if framed is None or framed[0] != of:
            frame = self._sweep.frame(standing, _questions(of), of.moment.time)
            framed = self._framed = of, frame
        return framed[1]

    def _shared(self, of: Renewal, *, tells: bool) -> dict[Question, Figure] | None:
        """The figures of a renewal: carry what is free, wait for what others carry, and merge. None where it is over.

        tells: whether it may be told here; else it is waited for until it is, and ended where nobody is there to do it.
        Raises Busy where others carry the rest, and nothing comes for longer than a lease lasts.
        """
        before, since = None, time.monotonic()
        while True:
            while self.carry(of.name):
                since = time.monotonic()
            with self._log.entries.snapshot() as (connection, end):
                left = self._sharing.left(connection, of)
                if left is None:
                    return None
                if left == 0 and tells and of.moment.time <= self._now(end.recorded_at):
                    made = self._merged(connection, end.position, of)
                    break
            if left != before:
                before, since = left, time.monotonic()
            if time.monotonic() - since > _STILL_S:
                if left:
                    raise Busy(_ASK_AGAIN)
                made = None
                break
            time.sleep(_LOOK_S)
        if made is None:
            self._sharing.drop(of.name)
        return made

    def _merged(self, connection: Connection, end: int, of: Renewal) -> dict[Question, Figure] | None:
        """The figures of all parts; None where cells were destroyed while it was counted (R17)."""
        frame = self._frame(self._views.at(connection, end, of.moment.position), of)
        whole = Part(frame.questions)
        for encoded in self._sharing.parts(connection, of):
            part = Part.decode(frame, encoded)
            if part is None:
                return None
            whole.take_in(part)
        return self._sweep.figures(frame, whole)


def _terms(city: City, question: Question) -> str | None:
    """The registration that a figure is made for, as far as figures rest on it; None where there may be none."""
    reader = city.recipients.get(question.recipient)
    if reader is None or reader.retired or question.purpose not in reader.purposes:
        return None
    return text({"class": reader.class_, "areas": sorted(reader.areas), "purposes": sorted(reader.purposes)})


def _questions(of: Renewal) -> list[Question]:
    """All that the recipient can ask, in an order that is the same everywhere."""
    first = Question(recipient=of.recipient, purpose=of.purposes[0], kind="safety", by="district", exercise=of.exercise)
    return first.beside(of.purposes)


def _answer(found: Figure) -> Answer:
    return Answer(body=found.body, persons=(), moment=found.moment, counted=found.counted, destroyed=found.destroyed)
