"""MedicationRequest and MedicationStatement: one medicine each, of one prescriber."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.connector.json import Field
from hub_connector_fhir.bundle import Entry
from hub_connector_fhir.dosing import timing
from hub_connector_fhir.identity import ERROR, MEDICATION, STATEMENT
from hub_connector_fhir.medicines import code_of
from hub_connector_fhir.terms import codings, listed, notes, quantity, text_of, understood, word_of, words

PRESCRIBER = "urn:saigai-hub:fhir:prescriber"
"""Extension of a MedicationStatement that the hub wrote: who prescribed it, which R4 has no field for."""

_TAKEN: Mapping[str, Mapping[str, bool]] = {
    MEDICATION: {
        "active": True,
        "completed": True,
        "unknown": True,
        "on-hold": False,
        "cancelled": False,
        "stopped": False,
        ERROR: False,
    },
    STATEMENT: {
        "active": True,
        "unknown": True,
        "intended": False,
        "completed": False,
        "stopped": False,
        "on-hold": False,
        "not-taken": False,
        ERROR: False,
    },
}
"""By status, whether the medicine is in the list. A Japanese prescription is `completed` once it is written
(電子処方箋, CLINS), so that a completed request is no reason to leave its medicine out; the note says it."""

_ORDERS = ("order", "original-order", "reflex-order", "filler-order", "instance-order")
_NO_ORDERS = ("proposal", "plan", "option")
_ORDERED = "http://terminology.hl7.org/CodeSystem/dose-rate-type|ordered"
_UNSAID = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Medicine:
    """One medicine. taken: whether it belongs in the list. needs: further resources from which its words come."""

    item: dict[str, Any]
    taken: bool
    notes: list[str]
    needs: list[Entry] = field(default_factory=list)


def read(entry: Entry) -> Medicine | str:
    """The medicine of a resource, or why it tells none. Raises PayloadError."""
    resource = entry.resource
    if text_of(resource, "status") == "draft":
        return "is a draft"
    if entry.type == MEDICATION:
        intent = word_of(resource, "intent", dict.fromkeys((*_ORDERS, *_NO_ORDERS)))
        if intent in _NO_ORDERS:
            return "is a proposal, a plan or an option, and no order"
    status = word_of(resource, "status", _TAKEN[entry.type])
    needs: list[Entry] = []
    item = _item(entry, needs)
    said = notes(resource)
    taken = _TAKEN[entry.type][status]
    refused = resource.optional("doNotPerform")
    if refused is not None and refused.flag():
        taken, said = False, ["do not give", *said]
    if status not in ("active", "unknown"):
        said = [status, *said]
    _prescriber(entry, needs)
    told = [f"{item['name']}: {'; '.join(said)}"] if said else []
    return Medicine(item=item, taken=taken, notes=told, needs=needs)


def prescriber(entry: Entry) -> str | None:
    """Who prescribed it, in words."""
    return _prescriber(entry, [])


def _item(entry: Entry, needs: list[Entry]) -> dict[str, Any]:
    concept, display = _concept(entry, needs)
    name = words(concept) or display
    if name is None:
        raise entry.resource.wrong("names no medicine")
    codes = codings(concept)
    item = {"name": name, "code": code_of(codes[0]) if codes else None, **_dosage(entry)}
    return {key: value for key, value in item.items() if value}


def _concept(entry: Entry, needs: list[Entry]) -> tuple[Field | None, str | None]:
    """The medicine's code, and what its reference displays."""
    resource = entry.resource
    concept = resource.optional("medicationCodeableConcept")
    reference = resource.optional("medicationReference")
    if concept is not None or reference is None:
        return concept, None
    display, said = text_of(reference, "display"), text_of(reference, "reference")
    found = entry.bundle.find(entry, said) if said else None
    if found is None or found.type != "Medication":
        return None, display
    if found.inside is None:
        understood(found.resource)
        needs.append(found)
    concept = found.resource.optional("code")
    return concept, display if concept is not None else (_mixed(found.resource) or display)


def _mixed(medication: Field) -> str | None:
    """What a medicine without a name of its own is mixed of, as an infusion."""
    parts = [words(part.optional("itemCodeableConcept")) for part in listed(medication, "ingredient")]
    return " + ".join(part for part in parts if part) or None


def _dosage(entry: Entry) -> dict[str, str | None]:
    """How much at a time, and when; of several instructions in one order, so that they belong together."""
    name = "dosageInstruction" if entry.type == MEDICATION else "dosage"
    steps = [(_doses(dosage), timing(dosage)) for dosage in listed(entry.resource, name)]
    doses = [dose for dose, _ in steps]
    if len(set(doses)) < 2:
        return {"dose": doses[0] if doses else None, "timing": _joined(when for _, when in steps if when)}
    return {
        "dose": "; ".join(dose or _UNSAID for dose in doses),
        "timing": "; ".join(when or _UNSAID for _, when in steps) if any(when for _, when in steps) else None,
    }


def _joined(parts: Iterable[str]) -> str | None:
    return "; ".join(dict.fromkeys(parts)) or None


def _doses(dosage: Field) -> str | None:
    """The first dose that is told: the others say the same amount in another way."""
    return next(filter(None, map(_dose, listed(dosage, "doseAndRate"))), None)


def _dose(rate: Field) -> str | None:
    """An amount, and of what sort it is: 1 g of a powder (製剤量) and of what is in it (原薬量) are not the same."""
    span = rate.optional("doseRange")
    if span is None:
        said = quantity(rate.optional("doseQuantity"))
    else:
        low, high = quantity(span.optional("low")), quantity(span.optional("high"))
        said = f"{low} - {high}" if low and high else f">={low}" if low else f"<={high}" if high else None
    sort = rate.optional("type")
    if said is None or sort is None or _ORDERED in {code.key for code in codings(sort)}:
        return said
    told = words(sort)
    return f"{said} ({told})" if told else said


def _prescriber(entry: Entry, needs: list[Entry]) -> str | None:
    """Who prescribed it, in words: what the reference displays, else the name of whom it leads to."""
    for extension in listed(entry.resource, "extension"):
        if text_of(extension, "url") == PRESCRIBER:
            return text_of(extension, "valueString")
    requester = entry.resource.optional("requester")
    if requester is None:
        return None
    display, said = text_of(requester, "display"), text_of(requester, "reference")
    if display or not said:
        return display
    found = entry.bundle.find(entry, said)
    if found is None:
        return None
    if found.inside is None:
        needs.append(found)
    return _name(found, needs)


def _name(found: Entry, needs: list[Entry]) -> str | None:
    """The name of a practitioner or an organisation; of a role, that of its organisation or practitioner."""
    if found.type == "PractitionerRole":
        for part in ("organization", "practitioner"):
            reference = found.resource.optional(part)
            display = None if reference is None else text_of(reference, "display")
            said = None if reference is None else text_of(reference, "reference")
            if display:
                return display
            further = found.bundle.find(found, said) if said else None
            if further is not None and further.type in ("Practitioner", "Organization"):
                if further.inside is None:
                    needs.append(further)
                return _name(further, needs)
        return None
    name = found.resource.optional("name")
    if name is None or isinstance(name.value, str):
        return None if name is None else (name.text() or None)
    for human in name.items():
        given = [part.text() for part in listed(human, "given")]
        whole = text_of(human, "text") or " ".join(part for part in (text_of(human, "family"), *given) if part)
        if whole:
            return whole
    return None
