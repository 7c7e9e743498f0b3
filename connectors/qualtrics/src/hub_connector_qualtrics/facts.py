"""What a response says, as events: the answers, and what the mapping makes of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from hub.connector import Event, PayloadError, is_id, parse_time, stable_id
from hub_connector_qualtrics.answers import Answer, Columns, collected
from hub_connector_qualtrics.mapping import ANY, Choice, Meanings
from hub_connector_qualtrics.responses import Response

SOURCE = "qualtrics"
SURVEY, SAFETY, EVACUATION, RETRACTED = "survey.answered", "safety.answered", "evacuation.changed", "fact.retracted"

_RESPONSE_ID = re.compile(r"[A-Za-z]{1,4}_[0-9A-Za-z]{1,60}")
_NAIVE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]{1,9})?)?")
_PREVIEW, _TEST, _SPAM = 1, 2, 8
_STATUSES = {
    "ip address": 0,
    "survey preview": 1,
    "survey test": 2,
    "imported": 4,
    "spam": 8,
    "survey preview spam": 9,
    "imported spam": 12,
    "offline": 16,
    "offline survey preview": 17,
    "ex": 32,
    "ex spam": 40,
    "ex offline": 48,
}
"""Qualtrics' number for a status, a sum of flags, by its English words; the mapping adds those of other languages."""

_GRAVEST_FIRST = ("need_help", "injured", "unknown", "safe")
_FINISHED = {"1": True, "true": True, "0": False, "false": False}
_UNTESTED = "preview"


class ZonelessError(PayloadError):
    """A time without an offset, and no zone set: nothing of its file can be read."""


class LeftOutError(Exception):
    """A response that is left out on purpose. Its text is why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What one response says. recorded_at: when Qualtrics recorded it."""

    events: Sequence[Event]
    recorded_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Teller:
    """Turns responses into events. survey: the id of theirs. zone: of times without an offset, None where not set."""

    meanings: Meanings
    survey: str | None
    zone: tzinfo | None

    def ref(self, response: Response, columns: Columns) -> str:
        """The source's own id of the person, empty where there is none. Raises PayloadError."""
        key = columns.key(self.meanings.ref, response.fields)
        ref = response.text(key)
        if ref and not is_id(ref):
            raise PayloadError("is no id: 1 to 200 characters, none of them a control", path=response.where(key))
        return ref

    def tell(self, response: Response, columns: Columns) -> Told:
        """Its events. Raises LeftOutError, and PayloadError."""
        name = response.text("_recordId")
        if not _RESPONSE_ID.fullmatch(name):
            raise PayloadError("is no id of a response", path=response.where("_recordId"))
        self._sort_out(response)
        ref = self.ref(response, columns)
        if not ref:
            raise LeftOutError("without the person's id")
        at, recorded_at = self._times(response)
        said = _Said(response, collected(response, columns, self.meanings.ref), columns)
        exercise = said.meaning(self.meanings.exercise) is not None
        events = [
            Event(
                source=SOURCE,
                id=f"{name}:{kind}:{stable_id(kind, ref, at.isoformat(), str(exercise), *_flat(data))[:16]}",
                kind=kind,
                ref=ref,
                occurred_at=at,
                exercise=exercise,
                data=data,
            )
            for kind, data in self._said(said)
        ]
        if not events:
            raise LeftOutError("without an answer")
        return Told(events=events, recorded_at=recorded_at)

    def _sort_out(self, response: Response) -> None:
        status = self._status(response)
        if status & _SPAM:
            raise LeftOutError("spam")
        if status & (_PREVIEW | _TEST) or response.text("distributionChannel").casefold() == _UNTESTED:
            raise LeftOutError("a preview or a test")
        finished = _FINISHED.get(response.text("finished").casefold())
        if finished is None:
            raise PayloadError("is neither 1 or True nor 0 or False", path=response.where("finished"))
        if not finished:
            raise LeftOutError("unfinished")

    def _status(self, response: Response) -> int:
        said = response.text("status").casefold()
        if said.isascii() and said.isdigit() and len(said) <= 3 and int(said) <= 255:
            return int(said)
        status = self.meanings.statuses.get(said, _STATUSES.get(said))
        if status is None:
            reason = "is no status that is known; export numbers, or name it in the mapping's [status]"
            raise PayloadError(reason, path=response.where("status"))
        return status

    def _times(self, response: Response) -> tuple[datetime, datetime]:
        """When the person ended it, and when it was recorded; either stands for the other where that is missing."""
        times = [self._time(response, key) for key in ("endDate", "recordedDate")]
        known = [time for time in times if time is not None]
        if not known:
            raise PayloadError("is missing", path=response.where("endDate"))
        return times[0] or known[0], times[1] or known[0]

    def _time(self, response: Response, key: str) -> datetime | None:
        text = response.text(key)
        if not text:
            return None
        try:
            return _moment(text, self.zone).replace(microsecond=0)
        except ZonelessError as error:
            raise ZonelessError(error.reason, path=response.where(key)) from None
        except PayloadError as error:
            raise PayloadError(error.reason, path=response.where(key)) from None

    def _said(self, said: _Said) -> Iterator[tuple[str, dict[str, Any]]]:
        shelter = self._shelter(said)
        texts = {name: answer.text() for name, answer in said.answers.items()}
        needs = self._needs(said)
        if texts or needs:
            yield SURVEY, _present(answers=texts, survey=self.survey, shelter=shelter, needs=needs or None)
        yield from self._safety(said)
        yield from self._evacuation(said, shelter)

    def _needs(self, said: _Said) -> list[str]:
        found: dict[str, None] = {}
        for need in self.meanings.needs:
            ways = said.ways(need.question)
            if need.answer in ways or (need.answer == ANY and ways):
                found.update(dict.fromkeys(need.needs))
        return list(found)

    def _safety(self, said: _Said) -> Iterator[tuple[str, dict[str, Any]]]:
        """An answer without a meaning is `unknown` with its words: somebody should look."""
        choice = self.meanings.safety
        ways = said.ways(choice.question) if choice else []
        if choice is None or not ways:
            return
        note = [ways[0]]
        if self.meanings.safety_note is not None:
            note += said.ways(self.meanings.safety_note)[:1]
        yield SAFETY, {"status": _gravest(choice, ways, said.choices(choice.question)), "note": "\n".join(note)}

    def _evacuation(self, said: _Said, shelter: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
        choice = self.meanings.evacuation
        status = said.meaning(choice)
        if choice is None or status is None:
            return
        companions = said.ways(self.meanings.companions) if self.meanings.companions else []
        yield (
            EVACUATION,
            _present(
                status=status,
                shelter=shelter if status == "at_shelter" else None,
                companions=_count(companions[0]) if companions else None,
                note=said.ways(choice.question)[0],
            ),
        )

    def _shelter(self, said: _Said) -> str | None:
        choice = self.meanings.shelter
        ways = said.ways(choice.question) if choice else []
        if choice is None or not ways:
            return self.meanings.shelter_always
        return choice.meaning(ways) or ways[0]


@dataclass(frozen=True, slots=True)
class _Said:
    """A response with its answers."""

    response: Response
    answers: Mapping[str, Answer]
    columns: Columns

    def ways(self, name: str) -> list[str]:
        """The ways to say the answer to a question, or what a field holds; in words first."""
        found = [answer for answer in self.answers.values() if name in answer.names]
        if found:
            whole = [answer.text() for answer in found if len(answer.shown) > 1]
            return [*whole, *(way for answer in found for way in answer.said)]
        text = self.response.text(self.columns.key(name, self.response.fields))
        return [text] if text else []

    def choices(self, name: str) -> list[list[str]]:
        """The ways to say each choice of the answer to a question by itself."""
        return [ways for answer in self.answers.values() if name in answer.names for ways in answer.choices]

    def meaning(self, choice: Choice | None) -> str | None:
        """What the answer means; None where it means nothing, or there is no such question."""
        return choice.meaning(self.ways(choice.question)) if choice else None


def _gravest(choice: Choice, ways: Sequence[str], choices: Sequence[Sequence[str]]) -> str:
    """What an answer means; of several choices the gravest, so that no "safe" hides who is hurt besides."""
    whole = choice.words.get(ways[0])
    if whole is not None or len(choices) < 2:
        return whole or choice.meaning(ways) or "unknown"
    return min((choice.meaning(one) or "unknown" for one in choices), key=_GRAVEST_FIRST.index)


def _count(said: str) -> int | None:
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 3 else None


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _flat(data: Mapping[str, Any]) -> Iterator[str]:
    """All that an event says, in an order that does not hang on that of the columns."""
    for name, value in sorted(data.items()):
        yield name
        if isinstance(value, Mapping):
            yield str(len(value))
            yield from _flat(value)
        elif isinstance(value, list):
            yield str(len(value))
            yield from value
        else:
            yield str(value)


def _moment(text: str, zone: tzinfo | None) -> datetime:
    found = _NAIVE.fullmatch(text)
    if found is None:
        return parse_time(text)
    if zone is None:
        raise ZonelessError("has no offset; set options.time_zone to the zone of the export")
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
        local = datetime(year, month, day, hour, minute, second, tzinfo=zone)
        time = local.astimezone(UTC)
        if local.replace(fold=1).utcoffset() != local.utcoffset():
            raise PayloadError("is a time that its zone has twice, or not at all")
    except (ValueError, OverflowError):
        raise PayloadError("is no date that exists") from None
    return time
