"""What a person answered, under names that a reader understands, whatever form the response came in.

A question of several choices is one answer, also where the export gives each choice a column; a statement of a
matrix is an answer of its own. What is no question (names, addresses, positions, embedded data) is left out, unless
the mapping keeps it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hub.connector import PayloadError
from hub_connector_qualtrics.mapping import Meanings
from hub_connector_qualtrics.responses import NAMES, Heads, Response, texts
from hub_connector_qualtrics.survey import UNTOLD, Question, Survey, plain

_COLUMN = re.compile(r"(?:([0-9]{1,4})_)?(QID[0-9]{1,9})((?:[_#].{1,120})?)", re.DOTALL)
_BESIDES = re.compile(
    r"_DO(?:_|$)|_(?:FIRST_CLICK|LAST_CLICK|PAGE_SUBMIT|CLICK_COUNT|BROWSER|VERSION|OS|RESOLUTION|USERAGENT)$"
    r"|_FILE_[A-Z]+$|_NPS_GROUP$|_TEXT_[0-9a-f]{6}"
)
"""Kept by Qualtrics of the asking, not said by the person: the order of display, clicks, browsers, topics of texts."""

_DEFAULT_TAG = re.compile(r"Q[0-9]{1,9}(?:[._#][\w.#]{0,80})?", re.ASCII)
_SYSTEM = frozenset(NAMES.values())
_MOST_ANSWERS = 1_000


@dataclass(slots=True)
class Answer:
    """One answer. shown: in words, in order. said: by every way in which the mapping may call it.

    choices: the same ways, of each choice by itself.
    """

    names: frozenset[str]
    shown: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    choices: list[list[str]] = field(default_factory=list)
    order: Mapping[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """All of it as one text, choices in the order of the survey."""
        return ", ".join(sorted(self.shown, key=lambda text: self.order.get(text, -1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column that holds answers. name: of the answer; names: what the mapping may call it.

    option: the choice whose column it is, where each choice has one.
    """

    name: str
    names: frozenset[str]
    question: Question | None = None
    option: str | None = None
    is_text: bool = False


class Columns:
    """The columns of one payload. Each is looked at once."""

    def __init__(self, survey: Survey, meanings: Meanings, heads: Heads) -> None:
        self._survey, self._meanings, self._heads = survey, meanings, heads
        self._often = Counter(title for title in heads.titles.values() if title)
        self._keys = {tag: key for key, tag in heads.tags.items()}
        self._known: dict[str, Column | None] = {}

    def column(self, key: str) -> Column | None:
        """The column with this key; None where it holds no answer."""
        if key not in self._known:
            self._known[key] = self._look(key)
        return self._known[key]

    def key(self, name: str, fields: Mapping[str, object]) -> str:
        """The key of the field that the mapping calls `name`; the name itself where there is none."""
        for key in (name, self._keys.get(name), NAMES.get(name.casefold())):
            if key is not None and key in fields:
                return key
        columns = ((key, self.column(key)) for key in fields)
        return next((key for key, column in columns if column is not None and name in column.names), name)

    def _look(self, key: str) -> Column | None:
        tag = self._heads.tags.get(key, "")
        found = _COLUMN.fullmatch(key)
        if found is None:
            return self._embedded(key, tag)
        loop, number, rest = found[1], found[2], found[3]
        if _BESIDES.search(rest):
            return None
        question = self._survey.questions.get(number)
        tags = {tag, tag.removesuffix(rest) if rest else tag}
        if question is not None:
            if question.type in UNTOLD:
                return None
            tags |= {question.tag, f"{question.tag}{rest}"}
        names = frozenset({key, number, f"{number}{rest}", *tags} - {""})
        turn = f" [{loop}]" if loop else ""
        if question is None:
            return Column(name=self._called(key, tag, self._title(key)) + turn, names=names)
        return self._of(question, rest, names, turn)

    def _embedded(self, key: str, tag: str) -> Column | None:
        """Embedded data that is kept, or a question of an old export, which has no ids."""
        kept = {key, tag} & self._meanings.keep
        if kept:
            return Column(name=self._called(key, tag, tag or key), names=frozenset({key, tag}) - {""})
        if key in _SYSTEM or not _DEFAULT_TAG.fullmatch(key):
            return None
        base = re.split(r"[._#]", key, maxsplit=1)[0]
        return Column(name=self._called(key, base, self._title(key)), names=frozenset({key, base}))

    def _called(self, key: str, tag: str, otherwise: str) -> str:
        names = self._meanings.names
        return names.get(key) or names.get(tag) or otherwise

    def _title(self, key: str) -> str:
        title, tag = self._heads.titles.get(key, ""), self._heads.tags.get(key, "") or key
        return title if title and self._often[title] == 1 else f"{title} ({tag})" if title else tag

    def _of(self, question: Question, rest: str, names: frozenset[str], turn: str) -> Column:
        base = self._called(question.id, question.tag, question.text) + turn
        whole = self._meanings.names.get(f"{question.id}{rest}") or self._meanings.names.get(f"{question.tag}{rest}")
        parts = [part for part in re.split(r"[_#]", rest) if part]
        is_text = bool(parts) and parts[-1] == "TEXT"
        if is_text:
            parts.pop()
        option: str | None = None
        of_option = question.type == "MC" or len(parts) > 1
        if parts and not is_text and of_option and parts[-1] in question.options:
            option = parts.pop()
        steps = [question.rows.get(part) or question.options.get(part) or part for part in parts]
        name = ": ".join([base, *steps])
        if is_text and question.type != "TE":
            name += " (text)"
        if rest and whole and option is None:
            name = whole + turn
        return Column(name=name, names=names, question=question, option=option, is_text=is_text)


def collected(response: Response, columns: Columns, ref: str) -> dict[str, Answer]:
    """The answers of a response, by name, in its order. ref: what holds the person's id, which is none.

    Raises PayloadError.
    """
    found: dict[str, Answer] = {}
    for key in response.fields:
        column = columns.column(key)
        if column is None or ref in column.names:
            continue
        said = response.texts(key)
        if not said:
            continue
        labels = [plain(label) for label in texts(response.labels.get(key), response.where(key))]
        _add(found, column, said, labels if len(labels) == len(said) else [])
        if len(found) > _MOST_ANSWERS:
            raise PayloadError(f"holds more than {_MOST_ANSWERS:,} answers", path=response.where(key))
    return found


def _add(found: dict[str, Answer], column: Column, said: Sequence[str], labels: Sequence[str]) -> None:
    question = column.question
    answer = found.get(column.name)
    if answer is None:
        answer = found[column.name] = Answer(names=column.names)
        if question is not None and question.options:
            answer.order = {text: number for number, text in enumerate(question.options.values())}
    else:
        answer.names |= column.names
    if column.option is not None and question is not None:
        text = question.options[column.option]
        answer.shown.append(text)
        ways = [text, *(way for way, number in question.numbers.items() if number == column.option)]
        answer.said += ways
        answer.choices.append(ways)
        return
    of_options = question if question is not None and question.options and not column.is_text else None
    for number, one in enumerate(said):
        for part in of_options.chosen(one) if of_options else [one]:
            label = labels[number] if labels else part
            text = of_options.shown(plain(label)) if of_options else label
            answer.shown.append(text)
            answer.said += [text, label, part]
            answer.choices.append([text, label, part])
        if question is None and "," in one:
            answer.said += [part.strip() for part in one.split(",")]
