"""FHIR in and out: what must not be read as something else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hub.connector import Settings, Translation
from hub_connector_fhir import FHIR

PATIENT = {"reference": "Patient/p1"}
UNKNOWN = [{"url": "urn:mihon:negated", "valueBoolean": True}]


def read(*resources: Any, type: str = "collection", **options: Any) -> Translation:
    """What a Bundle of these resources gives; one of type `alone`, what the one by itself does."""
    said = resources[0] if type == "alone" else {"resourceType": "Bundle", "type": type, "entry": []}
    if type != "alone":
        said["entry"] = [part if "resource" in part else {"resource": part} for part in resources]
    return FHIR(Settings(options=options)).translate(json.dumps(said).encode())


def only(said: Any, **asked: Any) -> Any:
    [event] = read(said, **asked).events
    return event


def reasons(*resources: Any) -> list[str]:
    return [found.error.reason for found in read(*resources).rejected]


def request(*dosage: Any, **more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "MedicationRequest",
        "id": "r1",
        "status": "active",
        "intent": "order",
        "subject": PATIENT,
        "medicationCodeableConcept": {"text": "アムロジピン"},
        "dosageInstruction": list(dosage),
    }
    return {name: value for name, value in {**said, **more}.items() if value}


def observation(code: str = "8310-5", **more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": PATIENT,
        "valueQuantity": {"value": 36.5, "system": "http://unitsofmeasure.org", "code": "Cel"},
    }
    return {name: value for name, value in {**said, **more}.items() if value}


def allergy(**more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "AllergyIntolerance",
        "id": "a1",
        "patient": PATIENT,
        "code": {"text": "ペニシリン"},
    }
    return {**said, **more}


@pytest.mark.parametrize(
    "said",
    [
        request(modifierExtension=UNKNOWN),
        request({"text": "1日1回", "modifierExtension": UNKNOWN}),
        observation(component=[{"code": {"text": "x"}, "modifierExtension": UNKNOWN}]),
        allergy(contained=[{"resourceType": "Provenance", "modifierExtension": UNKNOWN}]),
    ],
)
def test_what_an_unknown_modifier_may_turn_round_is_refused(said: Any) -> None:
    [reason] = reasons(said, {**observation(), "id": "o2"})
    assert "modifierExtension" in reason
    assert len(read(said, {**observation(), "id": "o2"}).events) == 1


def test_so_are_rules_that_are_not_known_and_a_medicine_beside_it() -> None:
    assert "rules" in reasons(request(implicitRules="urn:mihon:rules"))[0]
    medicine = {"resourceType": "Medication", "id": "m1", "code": {"text": "薬"}, "modifierExtension": UNKNOWN}
    prescribed = request(medicationCodeableConcept=None, medicationReference={"reference": "Medication/m1"})
    assert "modifierExtension" in reasons(prescribed, medicine)[0]
    assert "modifierExtension" in reasons({"resource": request(), "modifierExtension": UNKNOWN})[0]


def test_an_error_takes_back_what_was_said_whatever_modifies_it() -> None:
    wrong = request(status="entered-in-error", meta={"versionId": "2"}, modifierExtension=UNKNOWN)
    hidden = [event.data["event"] for event in read(wrong, type="batch").events]
    assert "MedicationRequest/r1/1" in hidden


GLUCOSE, TEMPERATURE, SCORE = "2339-0", "8310-5", "9269-2"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (GLUCOSE, {"valueQuantity": {"value": 5.5}}),
        (GLUCOSE, {"valueQuantity": {"value": 5.5, "unit": "mM"}}),
        (GLUCOSE, {"valueQuantity": {"value": 2.2, "comparator": "<", "unit": "mmol/L"}}),
        (GLUCOSE, {"valueQuantity": None, "valueString": "5.5"}),
        (TEMPERATURE, {"valueQuantity": {"value": 98, "unit": "F"}}),
        ("8867-4", {"valueQuantity": None, "valueInteger": 72}),
    ],
)
def test_a_number_stands_under_no_name_whose_unit_it_does_not_have(code: str, value: Any) -> None:
    data = only(observation(code, **value)).data
    assert "vitals" not in data
    assert any(digit in data["note"] for digit in "5279")


def test_that_a_unit_is_missing_is_said() -> None:
    assert only(observation(GLUCOSE, valueQuantity={"value": 5.5})).data["note"] == f"{GLUCOSE}: 5.5 (no unit)"


def test_what_has_its_unit_or_needs_none_keeps_its_name() -> None:
    low = {"value": 40, "comparator": "<", "unit": "mg/dL"}
    assert only(observation(GLUCOSE, valueQuantity=low)).data["vitals"] == {"blood_glucose_mg_per_dL": "<40 mg/dL"}
    text = observation(GLUCOSE, valueQuantity=None, valueString="Lo")
    assert only(text).data["vitals"] == {"blood_glucose_mg_per_dL": "Lo"}
    score = observation(SCORE, valueQuantity=None, valueInteger=15)
    assert read(score, observations="all").events[0].data["vitals"] == {"glasgow_coma_score": 15.0}


def test_what_was_measured_of_an_unborn_child_is_not_the_persons() -> None:
    said = read(observation(focus=[{"reference": "RelatedPerson/child"}]))
    assert not said.events
    assert said.nothing == "Observation is about another than its subject: it has a focus (1)"
    assert not read(observation(focus=[{"display": "a fetus"}])).events
    assert only(observation(focus=[PATIENT])).data["vitals"] == {"temperature_degC": 36.5}
