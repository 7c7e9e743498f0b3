"""Values of the format beyond what every JSON has: ids, texts, dates, revisions."""

from __future__ import annotations

import re
from datetime import date

from hub.connector import is_id
from hub.connector.json import Field

TEXT, LINE, WORD = 4_000, 500, 50
"""How long a text may be: a comment, a line, a word."""

MOST_REV, MOST_VOIDS = 1_000_000, 100
_MOST_LISTED = 50

_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[0-9A-Za-z]{2,8}){0,3}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def identifier(field: Field) -> str:
    """The id of a record, a device, an inquiry."""
    if not isinstance(field.value, str) or not _ID.fullmatch(field.value):
        raise field.wrong("is no id of 1 to 64 letters, digits, _, . and -")
    return field.value


def user(field: Field) -> str:
    """The app's id of a person."""
    if not is_id(field.value):
        raise field.wrong("is no id of 1 to 200 printable characters")
    return str(field.value)


def plain(field: Field, longest: int) -> str:
    """A text that is not empty and that UTF-8 can hold."""
    said = field.word(longest)
    try:
        said.encode()
    except UnicodeEncodeError:
        raise field.wrong("holds half a surrogate pair") from None
    return said


def text(said: Field, name: str, longest: int = TEXT) -> str | None:
    """A text that may be absent; None where it is, or empty."""
    found = said.optional(name)
    return None if found is None or not found.text(longest) else plain(found, longest)


def language(said: Field, name: str) -> str | None:
    """A language tag; None where it is absent."""
    found = text(said, name, WORD)
    if found is not None and not _LANGUAGE.fullmatch(found):
        raise said.need(name).wrong("is no language tag (ja, pt-BR)")
    return found


def day(said: Field, name: str) -> str | None:
    """A date, as it stands; None where it is absent."""
    found = text(said, name, WORD)
    if found is not None:
        try:
            date.fromisoformat(found if _DATE.fullmatch(found) else "")
        except ValueError:
            raise said.need(name).wrong("is no date that exists (1950-01-31)") from None
    return found


def number(said: Field, name: str) -> int | None:
    """How many people; None where it is absent."""
    found = said.optional(name)
    return None if found is None else found.whole(0, 100)


def listed(said: Field, name: str) -> list[str] | None:
    """A list of short texts; None where it is absent."""
    found = said.optional(name)
    return None if found is None else [plain(item, 200) for item in some(found, _MOST_LISTED, least=0)]


def revisions(field: Field, last: int) -> list[int]:
    """Revisions of a record, each once, in order; none above `last`."""
    return sorted({item.whole(1, last) for item in some(field, MOST_VOIDS)})


def some(field: Field, most: int, *, least: int = 1) -> list[Field]:
    """The values of a list that is not too long."""
    if not isinstance(field.value, list):
        raise field.wrong("is no list")
    if not least <= len(field.value) <= most:
        raise field.wrong(f"has not {least} to {most} entries")
    return list(field.items())
