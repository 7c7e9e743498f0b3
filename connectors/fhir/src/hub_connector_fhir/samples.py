"""Payloads of any size, of made-up people, for `hub bench`."""

from __future__ import annotations

import json
from typing import Any

_VITALS = (("8310-5", "Cel", 36.5), ("8867-4", "/min", 72), ("59408-5", "%", 97))
_A_PERSON = 5
_BASE = "https://fhir.example/r4"


def payload(records: int, base: str | None = None, identifier_system: str | None = None) -> bytes:
    """A transaction of `records` resources, five to a person; of people as the settings know them."""
    entries: list[dict[str, Any]] = []
    for number in range(records):
        person, turn = divmod(number, _A_PERSON)
        patient: dict[str, Any] = {"reference": f"{base or _BASE}/Patient/p{person:06d}"}
        if identifier_system is not None:
            patient["identifier"] = {"system": identifier_system, "value": f"p{person:06d}"}
        resource = _resource(f"{number:07d}", patient, turn, number)
        url = f"{resource['resourceType']}/{resource['id']}"
        entries.append({"resource": resource, "request": {"method": "PUT", "url": url}})
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}, ensure_ascii=False).encode()


def _resource(id_: str, patient: dict[str, Any], turn: int, number: int) -> dict[str, Any]:
    about = {"id": f"r{id_}", "meta": {"versionId": "1"}, "subject": patient}
    if turn == 0:
        return {
            "resourceType": "MedicationRequest",
            **about,
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": {"text": "アムロジピン錠5mg"},
            "authoredOn": "2026-05-01T09:00:00+09:00",
            "requester": {"display": "見本診療所"},
            "dosageInstruction": [
                {"text": "1日1回 朝食後", "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "錠"}}]}
            ],
        }
    if turn == 1:
        return {
            "resourceType": "Condition",
            **about,
            "code": {"text": "高血圧症"},
            "recordedDate": "2026-05-01T09:00:00+09:00",
        }
    code, unit, value = _VITALS[turn - 2]
    return {
        "resourceType": "Observation",
        **about,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": "2026-05-01T09:00:00+09:00",
        "valueQuantity": {
            "value": value + number % 3,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }
