"""What an update says, by its type: the fields of the kind that it becomes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hub.connector.json import Field
from hub_connector_careyell.words import flag, lines, listed, optional_lines, optional_word, role, word

Data = dict[str, Any]

SOURCE = "careyell"

_VITALS = {
    ("temperature", "degC"): "temperature_degC",
    ("pulse", "bpm"): "pulse_bpm",
    ("respiration", "per_min"): "respiration_per_min",
    ("spo2", "percent"): "spo2_percent",
    ("blood_pressure_systolic", "mmHg"): "blood_pressure_systolic_mmHg",
    ("blood_pressure_diastolic", "mmHg"): "blood_pressure_diastolic_mmHg",
    ("blood_glucose", "mg/dL"): "blood_glucose_mg_per_dL",
    ("weight", "kg"): "weight_kg",
}
_HIGHEST = 10_000
_CODES = {
    "YJ": (re.compile(r"[0-9]{7}[A-Z][0-9]{4}"), "is no YJ code (7 digits, a letter, 4 digits)"),
    "HOT": (re.compile(r"[0-9]{7}(?:[0-9]{2}){0,3}"), "is no HOT code (7, 9, 11 or 13 digits)"),
}
_SEVERITIES = {"mild": "軽い", "moderate": "中くらい", "severe": "重い"}

MOST_MEDICATIONS = 200
MOST_VITALS = 50
MOST_ALLERGIES = 200
MOST_CARERS = 100


def medication(said: Field) -> Data:
    """The whole list of one prescriber."""
    return {
        "prescriber": word(said.need("prescriber")),
        "medications": [_medicine(found) for found in listed(said, "medications", MOST_MEDICATIONS)],
        "note": optional_lines(said, "note"),
        "record": SOURCE,
    }


def _medicine(said: Field) -> Data:
    code = said.optional("code")
    return {
        "name": word(said.need("name")),
        "dose": optional_word(said, "dose"),
        "code": None if code is None else _code(code),
        "timing": optional_word(said, "timing"),
    }


def _code(said: Field) -> str:
    pattern, reason = said.need("system").one_of(_CODES)
    value = said.need("value")
    if not pattern.fullmatch(value.word(20)):
        raise value.wrong(reason)
    return f"{said.need('system').text()}|{value.text()}"


def condition(said: Field) -> Data:
    """How the person is. A measurement that version 1 does not list stays in the note, as it was said."""
    vitals: dict[str, float | str] = {}
    others = []
    measured = listed(said, "vitals", MOST_VITALS) if said.optional("vitals") else []
    for found in measured:
        name, unit = word(found.need("name"), 40), word(found.need("unit"), 20)
        value = _value(found.need("value"))
        known = _VITALS.get((name, unit))
        if known is None:
            others.append(f"{name} {value if isinstance(value, str) else format(value, '.10g')} {unit}")
        elif known in vitals:
            raise found.need("name").wrong("stands twice; which of the values counts is not said")
        else:
            vitals[known] = value
    data: Data = {
        "condition": optional_word(said, "condition"),
        "vitals": vitals or None,
        "note": lines(optional_lines(said, "note"), *others),
    }
    if all(part is None for part in data.values()):
        raise said.wrong("says neither condition, vitals nor note")
    return {**data, "record": SOURCE}


def _value(said: Field) -> float | str:
    """A number, or what an instrument shows instead of one (`Lo`)."""
    return word(said, 20) if isinstance(said.value, str) else float(said.number(0, _HIGHEST))


def allergies(said: Field) -> Data:
    """What the person must not have, the whole list."""
    found = [(word(one.need("substance")), _reaction(one)) for one in listed(said, "allergies", MOST_ALLERGIES)]
    return {
        "allergies": [substance for substance, _ in found],
        "note": lines(
            optional_lines(said, "note"), *(f"{substance}: {reaction}" for substance, reaction in found if reaction)
        ),
        "record": SOURCE,
    }


def _reaction(said: Field) -> str:
    severity = said.optional("severity")
    parts = (optional_word(said, "reaction"), None if severity is None else severity.one_of(_SEVERITIES))
    return "、".join(part for part in parts if part)


def carers(said: Field) -> Data:
    """Who cares for the person, the whole list."""
    found = [_carer(one) for one in listed(said, "carers", MOST_CARERS)]
    return {
        "roles": sorted({carer["role"] for carer in found}),
        "carers": found,
        "note": optional_lines(said, "note"),
    }


def _carer(said: Field) -> Data:
    name, other = role(said.need("role"))
    return {
        "role": name,
        "role_text": lines(other, optional_word(said, "role_text")),
        "name": optional_word(said, "name"),
        "organisation": optional_word(said, "organisation"),
        "phone": optional_word(said, "phone", 40),
        "lives_with_person": flag(said, "lives_with_person"),
        "first_contact": flag(said, "first_contact"),
    }


CONTENTS: Mapping[str, tuple[str, Callable[[Field], Data]]] = {
    "medication": ("care.medication_updated", medication),
    "condition": ("care.condition_updated", condition),
    "allergies": ("care.allergy_updated", allergies),
    "carers": ("care.carers_updated", carers),
}
"""By the type of an update, which is also the name of the field that holds it: the kind, and how it is read."""
