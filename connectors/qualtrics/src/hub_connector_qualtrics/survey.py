"""A survey's questions and choices, from its definition: the QSF that Qualtrics exports, or the API's reply.

An export says `2` or `QID5_3` where the person read words. Without a definition the answers stay as they came.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hub.connector import Misuse, PayloadError
from hub.connector.json import Field, read

UNTOLD = frozenset({"DB", "Timing", "Meta", "Captcha", "FileUpload", "Draw", "Signature", "HeatMap", "HotSpot"})
"""Types of questions that ask the person nothing in words."""

_BREAK = re.compile(r"<\s*/?\s*(?:br|p|div|li|ul|ol|tr|td|th|h[1-6])\b[^<>]*>", re.IGNORECASE)
_MARKUP = re.compile(r"</?[A-Za-z!][^<>]*>")
_WHITESPACE = re.compile(r"\s+")
_ID = re.compile(r"QID[0-9]{1,9}")
_LONGEST_NAME = 300
_MOST_COMMAS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question. text: what the person reads, without markup, unlike that of every other question.

    rows: its statements or fields, by their number. options: what can be chosen, in order, by number.
    numbers: the number of an option by any way to say it: its code, its name as a variable, its text.
    """

    id: str
    tag: str
    text: str
    type: str
    several: bool = False
    rows: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)

    def shown(self, said: str) -> str:
        """An option in words; what is none stays as it is."""
        number = self.numbers.get(said)
        return said if number is None else self.options[number]

    def chosen(self, said: str) -> Sequence[str]:
        """The options that one cell holds, told apart where their own texts have commas in them."""
        if not self.several or said in self.numbers or not 0 < said.count(",") <= _MOST_COMMAS:
            return [said]
        return _parts(said, sorted(self.numbers, key=len, reverse=True))


def _parts(said: str, known: Sequence[str]) -> Sequence[str]:
    found: list[str] = []
    while said:
        start = next((word for word in known if said == word or said.startswith(f"{word},")), None)
        if start is None:
            start = said.partition(",")[0]
        found.append(start.strip())
        said = said[len(start) + 1 :].lstrip()
    return [part for part in found if part]


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What is known of a survey; empty where there is no definition."""

    id: str | None = None
    questions: Mapping[str, Question] = field(default_factory=dict)

    def by_tag(self, tag: str) -> tuple[Question, str] | None:
        """The question that a column's name belongs to, and what follows its tag in it."""
        for end in sorted({len(tag), *(at.start() for at in re.finditer(r"[_#]", tag))}, reverse=True):
            for question in self.questions.values():
                if question.tag == tag[:end]:
                    return question, tag[end:]
        return None


def plain(text: str) -> str:
    """`text` without markup, references and runs of white space."""
    if "<" in text or "&" in text:
        text = html.unescape(_MARKUP.sub("", _BREAK.sub(" ", text)))
    return _WHITESPACE.sub(" ", text).strip()


def load(content: bytes | None) -> Survey:
    """A survey by its definition. Raises Misuse."""
    if content is None:
        return Survey()
    try:
        top = read(content)
        result = top.optional("result") or top
        if result.optional("SurveyElements"):
            named, found = _qsf(result)
        elif result.optional("questions"):
            named, found = _reply(result)
        else:
            raise PayloadError("is neither a QSF nor the API's reply about a survey")
    except PayloadError as error:
        raise Misuse(f"files.qsf: {error}") from None
    return Survey(id=named, questions=_distinct(found))


def _distinct(found: Sequence[Question]) -> Mapping[str, Question]:
    often = Counter(question.text for question in found)
    return {
        question.id: question
        if often[question.text] == 1
        else Question(
            **{name: getattr(question, name) for name in Question.__slots__ if name != "text"},
            text=f"{question.text} ({question.tag})",
        )
        for question in found
    }


def _qsf(top: Field) -> tuple[str | None, Sequence[Question]]:
    entry = top.optional("SurveyEntry")
    named = entry.optional("SurveyID") if entry else None
    found = [
        _question(element.need("Payload"))
        for element in top.need("SurveyElements").items()
        if element.need("Element").text() == "SQ"
    ]
    return named.text() if named else None, found


def _question(said: Field) -> Question:
    sort, tag = said.need("QuestionType").text(), said.need("DataExportTag").text()
    choices = _listed(said, "Choices", "Display", "ChoiceOrder")
    answers = _listed(said, "Answers", "Display", "AnswerOrder")
    options, rows = (choices, {}) if sort == "MC" else (answers, choices)
    codes = dict(_said(said, "RecodeValues"))
    names = dict(_said(said, "VariableNaming"))
    return Question(
        id=_matching(said.need("QuestionID")),
        tag=tag,
        text=_name(said.need("QuestionText").text(1_000_000), tag),
        type=sort,
        several=_several(said),
        rows=rows,
        options=options,
        numbers=_numbers(options, codes, names),
    )


def _several(said: Field) -> bool:
    parts = [said.optional(name) for name in ("Selector", "SubSelector")]
    selector, sub = (part.text() if part else "" for part in parts)
    return selector.startswith("MA") or selector == "MSB" or sub == "MultipleAnswer"


def _listed(said: Field, name: str, text: str, order: str) -> dict[str, str]:
    """Choices by number, in the order in which they are shown. PHP writes an empty object as a list."""
    listed = said.optional(name)
    if listed is None:
        return {}
    if isinstance(listed.value, list):
        return {str(number): _shown(choice, text) for number, choice in enumerate(listed.items())}
    found = {number: _shown(choice, text) for number, choice in _members(listed)}
    ordered = said.optional(order)
    first = [str(part.value) for part in ordered.items()] if ordered and isinstance(ordered.value, list) else []
    return {number: found[number] for number in dict.fromkeys([*first, *found]) if number in found}


def _shown(choice: Field, name: str) -> str:
    text = choice.optional(name)
    return plain(text.text(1_000_000))[:_LONGEST_NAME] if text and isinstance(text.value, str) else ""


def _said(said: Field, name: str) -> Iterator[tuple[str, str]]:
    found = said.optional(name)
    if found is not None and isinstance(found.value, dict):
        for number, part in _members(found):
            if isinstance(part.value, str | int) and not isinstance(part.value, bool):
                yield number, str(part.value).strip()


def _members(said: Field) -> Iterator[tuple[str, Field]]:
    if not isinstance(said.value, dict):
        raise said.wrong("is no object")
    for name in said.value:
        found = said.optional(name)
        if found is not None:
            yield name, found


def _numbers(options: Mapping[str, str], codes: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """A text that two options share belongs to neither."""
    ways: dict[str, str] = {}
    for number, text in options.items():
        for way in {codes.get(number, number), names.get(number, ""), text} - {""}:
            ways[way] = number if ways.get(way, number) == number else ""
    return {way: number for way, number in ways.items() if number}


def _name(text: str, tag: str) -> str:
    return plain(text)[:_LONGEST_NAME] or tag


def _matching(said: Field) -> str:
    if not _ID.fullmatch(said.text()):
        raise said.wrong("is no id of a question")
    return said.text()


def _reply(top: Field) -> tuple[str | None, Sequence[Question]]:
    """The reply to GET /API/v3/surveys/{id}: the same in other names; rows stand apart from options there."""
    named, found = top.optional("id"), []
    for number, said in _members(top.need("questions")):
        kind = said.need("questionType")
        choices = dict(_members(said.need("choices"))) if said.optional("choices") else {}
        rows = dict(_members(said.need("subQuestions"))) if said.optional("subQuestions") else {}
        options = {key: _shown(choice, "choiceText") for key, choice in choices.items()}
        codes = {key: part.text() for key, choice in choices.items() if (part := choice.optional("recode"))}
        names = {key: part.text() for key, choice in choices.items() if (part := choice.optional("variableName"))}
        sort, tag = kind.need("type").text(), said.need("questionName").text()
        parts = [kind.optional(name) for name in ("selector", "subSelector")]
        selector, sub = (part.text() if part else "" for part in parts)
        is_choice = sort in ("MC", "Matrix")
        found.append(
            Question(
                id=_matching(Field(number, f"questions.{number}")),
                tag=tag,
                text=_name(said.need("questionText").text(1_000_000), tag),
                type=sort,
                several=selector.startswith("MA") or selector == "MSB" or sub == "MultipleAnswer",
                rows={key: _shown(row, "choiceText") for key, row in rows.items()} if is_choice else options,
                options=options if is_choice else {},
                numbers=_numbers(options, codes, names) if is_choice else {},
            )
        )
    return named.text() if named else None, found
