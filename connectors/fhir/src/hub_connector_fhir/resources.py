"""A fact as FHIR resources, where its source did not say it in FHIR or the answer shows only a summary of it.

Each gives resources without `id`; what R4 has no field for stands in the fact's own JSON beside them (`view`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from hub_connector_fhir import vitals
from hub_connector_fhir.medication import PRESCRIBER
from hub_connector_fhir.medicines import system_of

Resource = dict[str, Any]
Item = Mapping[str, Any]

KIND = "urn:saigai-hub:kind"
DATA = "urn:saigai-hub:fhir:data"
"""Extension: the fact's own fields, as JSON."""

_STATUS = "urn:saigai-hub:status"
_MESH = "urn:saigai-hub:mesh"
_REACH_M: Mapping[int, float] = {6: 8_100.0, 8: 810.0, 10: 210.0}
"""How far a grid square reaches from its centre at most, in metres, by the digits of its code."""

_TERMS = "http://terminology.hl7.org/CodeSystem"
_NONE_KNOWN = {"system": "http://snomed.info/sct", "code": "716186003", "display": "No known allergy"}
_DOSE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?) ([^\W\d][^\s;,()-]{0,60}|%)")
"""One number and one unit. What says more, as a range or several doses, stays in words."""

_CODE = re.compile(r"\S{1,200}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LANGUAGE = re.compile(r"[a-zA-Z]{2,8}(?:-[a-zA-Z0-9]{1,8}){0,4}", re.ASCII)
_GENDERS = {"男": "male", "男性": "male", "male": "male", "女": "female", "女性": "female", "female": "female"}


def mapped(item: Item, subject: Resource) -> list[Resource]:
    """The resources of one fact. subject: the Reference to its person."""
    found = _WRITERS.get(item["kind"], _nothing)(item, subject)
    return found or [_basic(item, subject)]


def has_own_data(resources: Iterable[Resource]) -> bool:
    """Whether the fact's JSON stands in the resources themselves."""
    return all(resource["resourceType"] == "Basic" for resource in resources)


def is_single(item: Item) -> bool:
    """Whether a fact says the state of one record of its source, not the whole."""
    return bool(item["data"].get("record", item["source"]) != item["source"])


def _nothing(item: Item, subject: Resource) -> list[Resource]:
    return []


def _basic(item: Item, subject: Resource) -> Resource:
    return {"resourceType": "Basic", "code": _kind(item), "subject": subject}


def _medications(item: Item, subject: Resource) -> list[Resource]:
    data = item["data"]
    medicines = data.get("medications")
    if medicines is None:
        return []
    shared = {"subject": subject, **_at(item, "dateAsserted"), **_prescriber(data)}
    found = [_statement(medicine, shared) for medicine in medicines if _text(medicine.get("name"))]
    if not medicines and is_single(item):
        return []
    if not medicines:
        found = [
            {
                "resourceType": "List",
                "status": "current",
                "mode": "snapshot",
                "code": {"coding": [{"system": vitals.LOINC, "code": "10160-0"}]},
                "subject": subject,
                **_at(item, "date"),
                **_prescriber(data),
                "emptyReason": {"text": "nothing of this prescriber or record; others may have prescribed"},
            }
        ]
    return _noted(found, data)


def _prescriber(data: Mapping[str, Any]) -> Resource:
    said = _text(data.get("prescriber"))
    return {"extension": [{"url": PRESCRIBER, "valueString": said}]} if said else {}


def _statement(medicine: Mapping[str, Any], shared: Resource) -> Resource:
    dose, timing = _text(medicine.get("dose")), _text(medicine.get("timing"))
    amount = _DOSE.fullmatch(dose) if dose else None
    dosage: Resource = {}
    if amount:
        dosage["doseAndRate"] = [{"doseQuantity": {"value": Decimal(amount[1]), "unit": amount[2]}}]
        dose = None
    text = "; ".join(part for part in (dose, timing) if part)
    if text:
        dosage["text"] = text
    return {
        "resourceType": "MedicationStatement",
        "status": "active",
        "medicationCodeableConcept": {"text": medicine["name"], **_coded(medicine.get("code"))},
        **shared,
        **({"dosage": [dosage]} if dosage else {}),
    }


def _coded(code: str | None) -> Resource:
    system, bar, value = (code or "").rpartition("|")
    if not _CODE.fullmatch(value) or (bar and not _CODE.fullmatch(system)):
        return {}
    return {"coding": [{"system": system_of(system, value), "code": value} if bar else {"code": value}]}


def _conditions(item: Item, subject: Resource) -> list[Resource]:
    data = item["data"]
    found: list[Resource] = []
    said = _text(data.get("condition"))
    if said:
        found.append(
            {
                "resourceType": "Condition",
                "clinicalStatus": _term("condition-clinical", "active"),
                "code": {"text": said},
                "subject": subject,
                **_at(item, "recordedDate"),
            }
        )
    measured = dict(data.get("vitals") or {})
    shared = {"subject": subject, **_at(item, "effectiveDateTime")}
    pressure = {name: measured.pop(name) for name in (vitals.SYSTOLIC, vitals.DIASTOLIC) if name in measured}
    if pressure:
        panel = {"coding": [{"system": vitals.LOINC, "code": "85354-9"}]}
        parts = [{"code": _measure(name), **_value(name, pressure[name])} for name in sorted(pressure)]
        found.append(_observation(panel, shared, vital=True) | {"component": parts})
    for name in sorted(measured):
        vital = vitals.coded(name) is not None
        found.append(_observation(_measure(name), shared, vital=vital) | _value(name, measured[name]))
    if not found and _text(data.get("note")):
        found.append(_observation(_kind(item), shared) | {"valueString": data["note"]})
        return found
    return _noted(found, data)


def _observation(code: Resource, shared: Resource, *, vital: bool = False) -> Resource:
    category = {"category": [_term("observation-category", "vital-signs")]} if vital else {}
    return {"resourceType": "Observation", "status": "final", **category, "code": code, **shared}


def _measure(name: str) -> Resource:
    known = vitals.coded(name)
    return {"text": name, **({"coding": [{"system": vitals.LOINC, "code": known[0]}]} if known else {})}


def _value(name: str, value: Any) -> Resource:
    known = vitals.coded(name)
    if isinstance(value, str):
        return {"valueString": value} if _text(value) else {}
    unit = {"unit": known[1], "system": vitals.UCUM, "code": known[1]} if known else {}
    return {"valueQuantity": {"value": value, **unit}}


def _allergies(item: Item, subject: Resource) -> list[Resource]:
    data = item["data"]
    names = data.get("allergies")
    if names is None or (not names and is_single(item)):
        return []
    codes = [{"text": name} for name in names if _text(name)] if names else [{"coding": [_NONE_KNOWN]}]
    found = [
        {
            "resourceType": "AllergyIntolerance",
            "clinicalStatus": _term("allergyintolerance-clinical", "active"),
            "code": code,
            "patient": subject,
            **_at(item, "recordedDate"),
        }
        for code in codes
    ]
    return _noted(found, data)


def _location(item: Item, subject: Resource) -> list[Resource]:
    """An Observation about a Location that it contains; of a grid square its centre, how far that is from its corners,
    and the square's code."""
    data = item["data"]
    position = {"latitude": data["lat_deg"], "longitude": data["lon_deg"]}
    if "altitude_m" in data:
        position["altitude"] = data["altitude_m"]
    place: Resource = {"resourceType": "Location", "id": "place", "mode": "instance", "position": position}
    if "mesh" in data:
        place["identifier"] = [{"system": _MESH, "value": data["mesh"]}]
        place["description"] = "a grid square (地域メッシュ), of which the position is the centre"
        if len(data["mesh"]) in _REACH_M:
            data = {**data, "accuracy_m": _REACH_M[len(data["mesh"])]}
    parts = [
        {"code": {"text": name}, "valueQuantity": {"value": data[name], "unit": u, "system": vitals.UCUM, "code": u}}
        for name, u in (("accuracy_m", "m"), ("speed_mps", "m/s"), ("heading_deg", "deg"))
        if name in data
    ]
    said = _observation(_kind(item), {"subject": subject, **_at(item, "effectiveDateTime")})
    return [
        {**said, "contained": [place], "focus": [{"reference": "#place"}], **({"component": parts} if parts else {})}
    ]


def _status(item: Item, subject: Resource) -> list[Resource]:
    """Safety and evacuation: the status as a code, what else is said as components."""
    data = item["data"]
    parts = [
        {"code": {"text": name}, "valueInteger" if isinstance(value, int) else "valueString": value}
        for name, value in sorted(data.items())
        if name not in ("status", "note") and (isinstance(value, int) or (isinstance(value, str) and _text(value)))
    ]
    value = {"coding": [{"system": f"{_STATUS}:{item['kind']}", "code": data["status"]}]}
    said = _observation(_kind(item), {"subject": subject, **_at(item, "effectiveDateTime")})
    said |= {"valueCodeableConcept": value, **({"component": parts} if parts else {})}
    return _noted([said], data)


_WRITERS: Mapping[str, Callable[[Item, Resource], list[Resource]]] = {
    "care.medication_updated": _medications,
    "care.condition_updated": _conditions,
    "care.allergy_updated": _allergies,
    "location.reported": _location,
    "safety.answered": _status,
    "evacuation.changed": _status,
}


def person(profile: Mapping[str, Any]) -> Resource:
    """What a Patient can say of a profile that is shown."""
    found: Resource = {}
    names: list[Resource] = [{"use": "official", "text": said} for said in (_text(profile.get("name")),) if said]
    kana = _text(profile.get("name_kana"))
    if kana:
        sign = {"url": "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation", "valueCode": "SYL"}
        names.append({"extension": [sign], "use": "official", "text": kana})
    if names:
        found["name"] = names
    phone, address = _text(profile.get("phone")), _text(profile.get("address"))
    if phone:
        found["telecom"] = [{"system": "phone", "value": phone}]
    if address:
        found["address"] = [{"text": address}]
    if _is_date(profile.get("birth_date") or ""):
        found["birthDate"] = profile["birth_date"]
    if profile.get("sex") in _GENDERS:
        found["gender"] = _GENDERS[profile["sex"]]
    language = profile.get("language") or ""
    if _LANGUAGE.fullmatch(language):
        code = {"coding": [{"system": "urn:ietf:bcp:47", "code": language}]}
        found["communication"] = [{"language": code, "preferred": True}]
    return found


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    year, month, day = map(int, text.split("-"))
    days = (31, 29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return year > 0 and 1 <= month <= 12 and 1 <= day <= days[month - 1]


def _noted(found: list[Resource], data: Mapping[str, Any]) -> list[Resource]:
    """The fact's note, on the first of its resources."""
    note = _text(data.get("note"))
    if note and found:
        found[0] = {**found[0], "note": [{"text": note}]}
    return found


def _at(item: Item, name: str) -> Resource:
    return {name: item["occurred_at"]} if item.get("occurred_at") else {}


def _kind(item: Item) -> Resource:
    return {"coding": [{"system": KIND, "code": item["kind"]}]}


def _term(system: str, code: str) -> Resource:
    return {"coding": [{"system": f"{_TERMS}/{system}", "code": code}]}


def _text(value: Any) -> str | None:
    """A text that FHIR takes: none is empty."""
    return value if isinstance(value, str) and value.strip() else None
