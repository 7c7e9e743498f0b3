"""The mapping file: what the city agreed on about a survey's questions. README.md describes its tables.

Everything wrong with it raises Misuse when the hub starts, with the key and never a guess.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.connector import Misuse

ANY = "*"
"""Among the words of a question: every answer that is not empty."""

SAFETY = ("safe", "injured", "need_help", "unknown")
EVACUATION = ("at_home", "moving", "at_shelter", "elsewhere")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What the answers to one question or field mean."""

    question: str
    words: Mapping[str, str] = field(default_factory=dict)

    def meaning(self, said: Sequence[str]) -> str | None:
        """What the first of these ways to say the answer means; None where none does."""
        found = next((self.words[way] for way in said if way in self.words), None)
        return found if found is not None or not said else self.words.get(ANY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """An answer, and the words for what it tells that the person needs."""

    question: str
    answer: str
    needs: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Meanings:
    """What a survey's answers mean. A question is called by its id (QID5), its export tag, or its field's name.

    ref: the field that holds the source's own id of the person. keep: embedded data that is told with the answers.
    names: what a question is called among the answers. statuses: Qualtrics' number for the words of a status.
    """

    ref: str = "externalDataReference"
    keep: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    needs: Sequence[Need] = ()
    shelter: Choice | None = None
    shelter_always: str | None = None
    safety: Choice | None = None
    safety_note: str | None = None
    evacuation: Choice | None = None
    companions: str | None = None
    exercise: Choice | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)


def read(content: bytes | None) -> Meanings:
    """What a mapping file says; the least where there is none. Raises Misuse."""
    if content is None:
        return Meanings()
    try:
        said = tomllib.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Misuse(f"files.mapping: is no TOML in UTF-8 ({type(error).__name__})") from None
    return _meanings(_Table("", said))


def _meanings(top: _Table) -> Meanings:
    top.only("ref", "keep", "names", "needs", "shelter", "safety", "evacuation", "exercise", "status")
    shelter, safety, evacuation = top.table("shelter"), top.table("safety"), top.table("evacuation")
    shelter.only("question", "words", "always")
    safety.only("question", "words", "note")
    evacuation.only("question", "words", "companions")
    return Meanings(
        ref=top.text("ref", "externalDataReference"),
        keep=frozenset(top.texts("keep")),
        names=top.table("names").words(),
        needs=[_need(table) for table in top.tables("needs")],
        shelter=_choice(shelter, None) if "question" in shelter.said else None,
        shelter_always=shelter.text("always", "") or None,
        safety=_choice(safety, SAFETY) if safety.said else None,
        safety_note=safety.text("note", "") or None,
        evacuation=_choice(evacuation, EVACUATION) if evacuation.said else None,
        companions=evacuation.text("companions", "") or None,
        exercise=_exercise(top.table("exercise")),
        statuses={word.casefold(): top.table("status").number(word, 255) for word in top.table("status").said},
    )


def _need(table: _Table) -> Need:
    table.only("question", "answer", "needs")
    needs = table.texts("needs")
    if not needs:
        raise table.wrong("needs", "names none")
    return Need(question=table.text("question"), answer=table.text("answer"), needs=needs)


def _choice(table: _Table, allowed: Sequence[str] | None) -> Choice:
    words = table.table("words").words()
    if allowed is not None:
        if not words:
            raise table.wrong("words", "is missing")
        for word, meaning in words.items():
            if meaning not in allowed:
                raise table.wrong(f"words.{word}", f"is none of {', '.join(allowed)}")
    return Choice(question=table.text("question"), words=words)


def _exercise(table: _Table) -> Choice | None:
    table.only("question", "answers")
    if not table.said:
        return None
    return Choice(question=table.text("question"), words=dict.fromkeys(table.texts("answers"), "exercise"))


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the file and the path that leads to it."""

    path: str
    said: Mapping[str, Any]

    def only(self, *known: str) -> None:
        for key in self.said:
            if key not in known:
                raise self.wrong(key, f"is no key; known: {', '.join(known)}")

    def text(self, key: str, absent: str | None = None) -> str:
        value = self.said.get(key, absent)
        if not isinstance(value, str) or (absent is None and not value.strip()):
            raise self.wrong(key, "is no text")
        return value.strip()

    def texts(self, key: str) -> Sequence[str]:
        value = self.said.get(key, [])
        if not isinstance(value, list) or not all(isinstance(part, str) and part.strip() for part in value):
            raise self.wrong(key, "is no list of texts")
        return [part.strip() for part in value]

    def table(self, key: str) -> _Table:
        value = self.said.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "is no table")
        return _Table(self._inner(key), value)

    def tables(self, key: str) -> Sequence[_Table]:
        value = self.said.get(key, [])
        if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
            raise self.wrong(key, "is no list of tables")
        return [_Table(f"{self._inner(key)}[{number}]", part) for number, part in enumerate(value)]

    def words(self) -> Mapping[str, str]:
        return {key.strip(): self.text(key) for key in self.said}

    def number(self, key: str, high: int) -> int:
        value = self.said[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
            raise self.wrong(key, f"is no whole number from 0 to {high}")
        return value

    def wrong(self, key: str, reason: str) -> Misuse:
        return Misuse(f"files.mapping: {self._inner(key)}: {reason}")

    def _inner(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key
