"""FHIR's data types as they are read here: dates, concepts, quantities, notes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from hub.connector import PayloadError, parse_time
from hub.connector.json import Field

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_HIGHEST = 1_000_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Coding:
    """A code, of a system where it has one."""

    system: str
    code: str
    display: str

    @property
    def key(self) -> str:
        """`system|code`."""
        return f"{self.system}|{self.code}" if self.system else self.code


def moment(field: Field | None, zone: tzinfo) -> datetime | None:
    """The earliest moment that a FHIR date, dateTime or instant can mean; a date without a time is one in `zone`."""
    if field is None:
        return None
    text = field.word(40)
    found = _DATE.fullmatch(text)
    try:
        if not found:
            return parse_time(text)
        year, month, day = (int(part or 1) for part in found.groups())
        return datetime(year, month, day, tzinfo=zone).astimezone(UTC)
    except PayloadError as error:
        raise field.wrong(error.reason) from None
    except (ValueError, OverflowError):
        raise field.wrong("is no date that exists") from None


def period(field: Field | None, end: str, zone: tzinfo) -> datetime | None:
    """The `start` or `end` of a Period."""
    return None if field is None else moment(field.optional(end), zone)


def id_of(resource: Field) -> str | None:
    """The logical id of a resource; None where it has none."""
    said = resource.optional("id")
    if said is None:
        return None
    if not isinstance(said.value, str) or not _ID.fullmatch(said.value):
        raise said.wrong("is no id of FHIR (A-Z, a-z, 0-9, - and ., at most 64)")
    return said.value


def understood(resource: Field) -> None:
    """Return if nothing in it may change what it means. Raises PayloadError: R4 forbids to pass over such a thing."""
    rules = resource.optional("implicitRules")
    if rules is not None:
        raise rules.wrong("names rules that are not known, by which all of it may mean something else")
    left = [resource.value]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, dict):
            if part.get("modifierExtension"):
                raise resource.wrong("has a modifierExtension, which is not known and may change what all of it means")
            left += part.values()


def listed(field: Field, name: str) -> Iterator[Field]:
    """The values of an array that may be absent."""
    found = field.optional(name)
    return iter(()) if found is None else found.items()


def text_of(field: Field, name: str) -> str | None:
    """A text that may be absent; None too where it is empty."""
    found = field.optional(name)
    return None if found is None else (found.text() or None)


def coding(field: Field) -> Coding:
    """A Coding."""
    return Coding(
        system=text_of(field, "system") or "",
        code=text_of(field, "code") or "",
        display=text_of(field, "display") or "",
    )


def codings(concept: Field | None) -> list[Coding]:
    """The codings of a CodeableConcept, those without a code left out."""
    if concept is None:
        return []
    return [found for found in map(coding, listed(concept, "coding")) if found.code]


def words(concept: Field | None) -> str | None:
    """A CodeableConcept in words: its text, else what a coding displays, else a code."""
    if concept is None:
        return None
    said = text_of(concept, "text")
    if said:
        return said
    found = [coding(part) for part in listed(concept, "coding")]
    return next(
        (part.display for part in found if part.display), next((part.code for part in found if part.code), None)
    )


def notes(resource: Field) -> list[str]:
    """The texts of its Annotations."""
    return [said for said in (text_of(note, "text") for note in listed(resource, "note")) if said]


def quantity(field: Field | None) -> str | None:
    """A Quantity in words, as `2 mg`; None where it says no value. That it says no unit is told."""
    if field is None or field.optional("value") is None:
        return None
    value = field.need("value").number(-_HIGHEST, _HIGHEST)
    comparator, unit = text_of(field, "comparator") or "", text_of(field, "unit") or text_of(field, "code")
    return f"{comparator}{value} {unit or '(no unit)'}"


def word_of(field: Field, name: str, words: Mapping[str, Any]) -> str:
    """A code that is one of `words`."""
    said = field.need(name)
    if said.text() not in words:
        raise said.wrong(f"is none of {', '.join(words)}")
    return said.text()


def choice(field: Field, name: str, *types: str) -> Field | None:
    """`value[x]`: the first of its types that is there."""
    return next((found for kind in types if (found := field.optional(name + kind)) is not None), None)
