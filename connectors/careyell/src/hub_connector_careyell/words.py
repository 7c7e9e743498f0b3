"""Text of the service's records, and the words that it has a list of."""

from __future__ import annotations

import re

from hub.connector.json import Field

ROLES = {
    "self": "本人",
    "family": "家族",
    "helper": "ヘルパー",
    "care_manager": "ケアマネジャー",
    "nurse": "看護師",
    "doctor": "医師",
    "pharmacist": "薬剤師",
    "volunteer": "民生委員・近隣",
    "other": "その他",
}
SHORT, LONG = 200, 10_000

_NO_TEXT = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")
_NO_LINES = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\ud800-\\udfff]")


def word(field: Field, longest: int = SHORT) -> str:
    """Text of one line, not empty."""
    return _clean(field, field.word(longest), _NO_TEXT)


def optional_word(record: Field, name: str, longest: int = SHORT) -> str | None:
    """Text of one line; None where it is absent or empty."""
    field = record.optional(name)
    return None if field is None else _clean(field, field.text(longest), _NO_TEXT) or None


def optional_lines(record: Field, name: str) -> str | None:
    """Text of several lines; None where it is absent or empty."""
    field = record.optional(name)
    return None if field is None else _clean(field, field.text(LONG), _NO_LINES) or None


def _clean(field: Field, text: str, forbidden: re.Pattern[str]) -> str:
    if forbidden.search(text):
        raise field.wrong("holds a control character or half a surrogate pair")
    return text


def flag(record: Field, name: str) -> bool | None:
    """Whether it is true; None where it is absent."""
    field = record.optional(name)
    return None if field is None else field.flag()


def role(field: Field) -> tuple[str, str | None]:
    """One of ROLES, and the word itself where the service has one that version 1 does not list."""
    said = word(field, 40)
    return (said, None) if said in ROLES else ("other", said)


def listed(record: Field, name: str, most: int) -> list[Field]:
    """The values of an array, which holds at most so many."""
    field = record.need(name)
    if isinstance(field.value, list) and len(field.value) > most:
        raise field.wrong(f"holds more than {most:,}")
    return list(field.items())


def lines(*parts: str | None) -> str | None:
    """What is said, a line each; None where nothing is."""
    return "\n".join(part for part in parts if part) or None
