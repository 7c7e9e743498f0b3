"""Counts persons at one standing: all of them at once, or a range of them, whose parts come together to the same.

    standing, time, questions -> frame; frame, range of ordinals -> part; all parts -> figures

One path for a figure of now and of then, for one process and for many.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.answer import FIGURE_FORMAT, Query
from hub.canonical import dumps, timestamp
from hub.deciding import Deciding
from hub.events import Entry, Position
from hub.log.log import Log
from hub.rules import Moment
from hub.statistics.counting import BY, Cells, Sums
from hub.statistics.keeping import RENEWED, Figure, bits, ordinals
from hub.statistics.question import Question
from hub.views.views import Standing, Views

_SHELTER = "shelter.reported"

Reported = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """What one recipient's questions are counted in at one standing: cells, and what shelters report.

    digest: equal where the cells are.
    """

    questions: Sequence[Question]
    moment: Moment
    cells: Mapping[str, Cells]
    shelters: Reported
    digest: str


class Part:
    """What some persons add up to, for each question; whom each count of a purpose counts; how much is destroyed."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.sums = {question: Sums() for question in questions}
        self.counted: dict[tuple[str, str], list[int]] = {(q.purpose, q.count.name): [] for q in questions}
        self.destroyed: dict[str, int] = dict.fromkeys((q.purpose for q in questions), 0)

    def take_in(self, other: Part) -> None:
        """Add what other persons, with higher ordinals, add up to."""
        for question, sums in other.sums.items():
            self.sums[question].take_in(sums)
        for count, found in other.counted.items():
            self.counted[count] += found
        for purpose, destroyed in other.destroyed.items():
            self.destroyed[purpose] += destroyed

    def encode(self, frame: Frame) -> bytes:
        """As it is kept until all parts are there, for who has the same frame."""
        counted = [(min(found, default=0), found) for found in self.counted.values()]
        said = {
            "frame": frame.digest,
            "sums": [sums.rows() for sums in self.sums.values()],
            "counted": [[first, bits([o - first for o in found]).hex()] for first, found in counted],
            "destroyed": list(self.destroyed.values()),
        }
        return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, frame: Frame, encoded: bytes) -> Part | None:
        """The part that `encode` wrote; None where it was counted in other cells."""
        said = json.loads(encoded)
        if said["frame"] != frame.digest:
            return None
        made = cls(frame.questions)
        made.sums = {q: Sums.of(rows) for q, rows in zip(made.sums, said["sums"], strict=True)}
        for count, (first, held) in zip(made.counted, said["counted"], strict=True):
            made.counted[count] = [first + o for o in ordinals(bytes.fromhex(held))]
        made.destroyed = dict(zip(made.destroyed, said["destroyed"], strict=True))
        return made


class Sweep:
    """Counts the persons of one log."""

    def __init__(self, log: Log, views: Views, deciding: Deciding) -> None:
        self._log, self._views, self._deciding = log, views, deciding

    def frame(self, standing: Standing, questions: Sequence[Question], time: datetime) -> Frame:
        """What questions of one recipient are counted in, at a standing and a time."""
        reader = standing.city.recipients.get(questions[0].recipient)
        reader = None if reader is None or reader.retired else reader
        needs_shelters = any(question.by == "shelter" for question in questions)
        shelters = self._shelters(standing, exercise=questions[0].exercise) if needs_shelters else {}
        cells = {by: Cells(by, standing.city, reader, shelters) for by in BY if any(q.by == by for q in questions)}
        moment = Moment(position=Position(standing.position), time=time)
        names = "\n".join(f"{by}:{name}" for by, of in cells.items() for name in of.names)
        digest = hashlib.sha256(names.encode()).hexdigest()
        return Frame(questions=questions, moment=moment, cells=cells, shelters=shelters, digest=digest)

    def part(self, standing: Standing, frame: Frame, among: range | None = None) -> Part:
        """What everyone adds up to, or those alone whose ordinals are `among` these."""
        made = Part(frame.questions)
        for purpose in made.destroyed:
            self._add(standing, frame, [q for q in frame.questions if q.purpose == purpose], made, among)
        return made

    def _add(
        self, standing: Standing, frame: Frame, questions: Sequence[Question], made: Part, among: range | None
    ) -> None:
        """Count for one purpose; everybody is decided on once."""
        kinds = tuple(sorted({kind for question in questions for kind in question.query.kinds}))
        asked = questions[0]
        query = Query(recipient=asked.recipient, purpose=asked.purpose, exercise=asked.exercise, kinds=kinds)
        counts = {question.count.name: question.count for question in questions}
        of_count: dict[str, list[tuple[str, Sums]]] = {name: [] for name in counts}
        for question in questions:
            of_count[question.count.name].append((question.by, made.sums[question]))
        missed: list[int] = []
        time = frame.moment.time
        for ordinal, homes, seen in self._deciding.lasting(standing, query, time, missed.append, among):
            places = {by: of.of(homes, seen) for by, of in frame.cells.items()}
            for name, count in counts.items():
                tally = count.tally([fact for fact in seen if fact.kind in count.facts])
                if tally:
                    made.counted[asked.purpose, name].append(ordinal)
                    for by, adding in of_count[name]:
                        adding.add(places[by], tally)
        made.destroyed[asked.purpose] += sum(missed)

    def figures(self, frame: Frame, whole: Part) -> dict[Question, Figure]:
        """The figure of each question, of all who are counted."""
        made = {}
        for question, sums in whole.sums.items():
            counted = sorted(whole.counted[question.purpose, question.count.name])
            made[question] = Figure(
                body=_body(question, frame.cells[question.by], sums, frame.shelters, frame.moment.time),
                moment=frame.moment,
                persons=len(counted),
                counted=counted,
                destroyed=whole.destroyed[question.purpose],
            )
        return made

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


def _body(question: Question, cells: Cells, sums: Sums, shelters: Reported, time: datetime) -> bytes:
    count = question.count
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
            "format": FIGURE_FORMAT,
            "kind": count.name,
            "purpose": question.purpose,
            "recipient": question.recipient,
            "time": timestamp(time),
            "until": timestamp(time + RENEWED),
        }
    )
