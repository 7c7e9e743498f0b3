"""Condition and Observation: how the person is, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hub.connector import stable_id
from hub.connector.json import Field
from hub_connector_fhir import vitals
from hub_connector_fhir.bundle import Entry
from hub_connector_fhir.choices import Choices
from hub_connector_fhir.identity import LONGEST_NAME
from hub_connector_fhir.terms import (
    choice,
    coding,
    codings,
    listed,
    notes,
    quantity,
    text_of,
    word_of,
    words,
)

_CURRENT = ("active", "recurrence", "relapse")
_CLINICAL = dict.fromkeys((*_CURRENT, "inactive", "remission", "resolved"))
_CERTAIN = ("confirmed", "unconfirmed", "provisional", "differential", "refuted")
_OBSERVED = dict.fromkeys(("registered", "preliminary", "final", "amended", "corrected", "cancelled", "unknown"))
_HIGHEST = 1_000_000_000
_MOST_PARTS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one resource says.

    condition: a diagnosis that holds, in words. measured: by name with its unit. notes: all else, in words.
    """

    condition: str | None = None
    measured: Mapping[str, float | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_condition(entry: Entry) -> Finding:
    """A diagnosis or problem. One that is over, or was refuted, is told in the note."""
    resource = entry.resource
    name = words(resource.optional("code"))
    if name is None:
        name = " ".join(filter(None, map(words, listed(resource, "bodySite")))) or None
    if name is None:
        raise resource.wrong("names no condition")
    clinical, certain = (
        status_of(resource, "clinicalStatus", _CLINICAL),
        status_of(resource, "verificationStatus", _CERTAIN),
    )
    holds = (clinical is None or clinical in _CURRENT) and certain != "refuted"
    doubt = [word for word in (clinical, certain) if word not in (None, "active", "confirmed")]
    told = f"{name} ({', '.join(map(str, doubt))})" if doubt else name
    said = [text for text in (words(resource.optional("severity")), *notes(resource)) if text]
    if holds:
        return Finding(condition=told, notes=[f"{name}: {'; '.join(said)}"] if said else [])
    return Finding(notes=["; ".join((told, *said))])


def status_of(resource: Field, name: str, known: Mapping[str, None] | tuple[str, ...]) -> str | None:
    concept = resource.optional(name)
    if concept is None:
        return None
    codes = [found.code for found in codings(concept)]
    if not codes or codes[0] not in known:
        raise concept.wrong(f"is none of {', '.join(known)}")
    return codes[0]


def read_observation(entry: Entry, choices: Choices) -> Finding | str:
    """What was measured, or why it is not read. Raises PayloadError."""
    resource = entry.resource
    status = word_of(resource, "status", _OBSERVED)
    if status in ("registered", "cancelled"):
        return "has no result: it is registered or cancelled"
    subject = resource.optional("subject")
    if any(subject is None or _whom(focus) != _whom(subject) for focus in listed(resource, "focus")):
        return "is about another than its subject: it has a focus"
    measured: dict[str, float | str] = {}
    said: list[str] = []
    vital = _is_vital(resource)
    for number, part in enumerate((resource, *listed(resource, "component"))):
        if number > _MOST_PARTS:
            raise part.wrong(f"is one component more than the {_MOST_PARTS} that are read")
        vital |= _measure(part, choices, measured, said)
    if not vital and not choices.every_observation:
        return "is no vital sign"
    said += notes(resource)
    if not measured and not said:
        return "has no value"
    return Finding(measured=measured, notes=said)


def lane(entry: Entry, choices: Choices) -> str:
    """What an Observation measures: one name, whichever resource tells it, by whichever of its codes."""
    code = entry.resource.need("code")
    found = codings(code)
    name = vitals.name_of(found, text_of(code, "text"), choices.observations)
    if name is None:
        keys = [part.key for part in sorted(found, key=lambda part: part.system != vitals.LOINC)]
        name = keys[0] if keys else words(code) or "-"
    said = f"{entry.type}/{name}"
    return said if len(said) <= LONGEST_NAME else f"{entry.type}/~{stable_id(name)}"


def _whom(reference: Field) -> str | None:
    return text_of(reference, "reference")


def _is_vital(resource: Field) -> bool:
    return any(
        coding(part).code == "vital-signs"
        for category in listed(resource, "category")
        for part in listed(category, "coding")
    )


def _measure(part: Field, choices: Choices, measured: dict[str, float | str], said: list[str]) -> bool:
    """Put what a part says under its name, else in words; whether it has a name."""
    code = part.need("code")
    name = vitals.name_of(codings(code), text_of(code, "text"), choices.observations)
    value = _value(part, name)
    if value is None:
        return name is not None
    if name is not None and (
        not isinstance(value, str) or (name not in measured and _needs_no_unit(part, name, value))
    ):
        measured[name] = value
    else:
        told = words(code)
        said.append(f"{told}: {value}" if told else str(value))
    return name is not None


def _needs_no_unit(part: Field, name: str, value: str) -> bool:
    """Whether words may stand under a name with its unit: they must hold no number in another unit, or in none."""
    amount = part.optional("valueQuantity")
    if amount is None or amount.optional("value") is None:
        return not any(sign.isdigit() for sign in value)
    return vitals.is_unit(name, _unit(amount))


def _unit(amount: Field) -> str:
    unit = text_of(amount, "code") if text_of(amount, "system") == vitals.UCUM else text_of(amount, "unit")
    return unit or text_of(amount, "unit") or ""


def _value(part: Field, name: str | None) -> float | str | None:
    """The number in the name's unit; else in words as it was written."""
    amount = part.optional("valueQuantity")
    if amount is not None and amount.optional("value") is not None and name is not None:
        value = amount.need("value").number(-_HIGHEST, _HIGHEST)
        number = vitals.converted(name, value, _unit(amount))
        if number is not None and text_of(amount, "comparator") is None:
            return number
    if amount is not None:
        return quantity(amount)
    for kind in ("valueString", "valueDateTime", "valueTime"):
        said = text_of(part, kind)
        if said:
            return said
    whole, flag = part.optional("valueInteger"), part.optional("valueBoolean")
    if whole is not None:
        count = whole.whole(-_HIGHEST, _HIGHEST)
        scored = None if name is None else vitals.converted(name, count, "{score}")
        return str(count) if scored is None else scored
    if flag is not None:
        return "yes" if flag.flag() else "no"
    return words(choice(part, "value", "CodeableConcept"))
