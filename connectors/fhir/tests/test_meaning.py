"""FHIR in and out: what must not be read as something else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from hub import areas
from hub.connector import Settings, Translation
from hub_connector_fhir import FHIR

PATIENT = {"reference": "Patient/p1"}
UNKNOWN = [{"url": "urn:mihon:negated", "valueBoolean": True}]


def read(*resources: Any, type: str = "collection", **options: Any) -> Translation:
    """What a Bundle of these resources gives; one of type `alone`, what the one by itself does."""
    said = resources[0] if type == "alone" else {"resourceType": "Bundle", "type": type, "entry": []}
    if type != "alone":
        said["entry"] = [part if "resource" in part else {"resource": part} for part in resources]
    return FHIR(Settings(options={"base": "http://fhir.example", **options})).translate(json.dumps(said).encode())


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


def dose(value: Any, unit: str | None = "mg", **more: Any) -> dict[str, Any]:
    amount = {"value": value, "unit": unit} if unit else {"value": value}
    return {"doseAndRate": [{"doseQuantity": amount}], **more}


def medicine(*dosage: Any) -> Any:
    [found] = only(request(*dosage)).data["medications"]
    return found.get("dose"), found.get("timing")


def test_each_dose_stays_with_its_time() -> None:
    steps = (dose(5, text="朝食後"), dose(10, text="昼食後"), dose(5, text="夕食後"))
    assert medicine(*steps) == ("5 mg; 10 mg; 5 mg", "朝食後; 昼食後; 夕食後")
    assert medicine({"text": "朝食後"}, dose(10, text="夕食後")) == ("-; 10 mg", "朝食後; 夕食後")
    assert medicine(dose(5, text="朝食後"), dose(5, text="夕食後")) == ("5 mg", "朝食後; 夕食後")


def test_a_dose_without_its_unit_is_no_number_of_tablets() -> None:
    assert medicine(dose(5, None)) == ("5 (no unit)", None)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ({"low": {"value": 5, "unit": "mg"}}, ">=5 mg"),
        ({"high": {"value": 10, "unit": "mg"}}, "<=10 mg"),
        ({"low": {"value": 5, "unit": "mg"}, "high": {"value": 10, "unit": "mg"}}, "5 mg - 10 mg"),
    ],
)
def test_an_end_of_a_range_is_not_the_dose(span: Any, said: str) -> None:
    assert medicine({"doseAndRate": [{"doseRange": span}]}) == (said, None)


def test_a_powder_says_of_what_the_dose_is() -> None:
    sort = {"coding": [{"system": "urn:mihon:amounts", "code": "1", "display": "製剤量"}]}
    said = {"doseAndRate": [{"type": sort, "doseQuantity": {"value": 1, "unit": "g"}}]}
    assert medicine(said) == ("1 g (製剤量)", None)


DAILY = {"frequency": 1, "period": 1, "periodUnit": "d"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "1 x / 1 d"),
        ({"dayOfWeek": ["mon"]}, "1 x / 1 d; mon"),
        ({"timeOfDay": ["08:00:00"]}, "1 x / 1 d; 08:00:00"),
        ({"count": 1}, "1 x / 1 d; 1 x in all"),
        ({"frequencyMax": 4, "when": ["PC"]}, "1-4 x / 1 d; PC"),
        ({"boundsDuration": {"value": 7, "unit": "d"}}, "1 x / 1 d; for 7 d"),
        ({"boundsPeriod": {"end": "2026-06-07"}}, "1 x / 1 d; until 2026-06-07"),
    ],
)
def test_what_is_taken_once_a_week_is_not_taken_daily(more: Any, said: str) -> None:
    assert medicine(dose(2, timing={"repeat": {**DAILY, **more}})) == ("2 mg", said)


def test_what_is_taken_as_needed_is_not_taken_always() -> None:
    most = {"numerator": {"value": 4, "unit": "g"}, "denominator": {"value": 1, "unit": "d"}}
    repeat = {"timing": {"repeat": DAILY}}
    assert medicine(dose(1, "g", asNeededBoolean=True, maxDosePerPeriod=most, **repeat)) == (
        "1 g",
        "1 x / 1 d; only as needed; at most 4 g / 1 d",
    )
    pain = {"text": "痛むとき"}
    assert medicine(dose(1, "g", asNeededCodeableConcept=pain)) == ("1 g", "only as needed: 痛むとき")
    assert medicine(dose(1, "g", asNeededBoolean=False, text="毎食後")) == ("1 g", "毎食後")


def shown(kind: str, data: Any, precision: str = "full") -> list[dict[str, Any]]:
    """The resources of one fact in an answer, without its Patient and Provenance."""
    item = {"event": "e1", "source": "careyell", "kind": kind, "precision": precision, "basis": {"grant": "g1"}}
    item |= {"occurred_at": "2026-06-02T00:01:00Z", "recorded_at": "2026-06-02T00:01:00Z", "data": data}
    said = {"recipient": "hospital", "purpose": "care", "exercise": False, "time": "2026-06-02T00:02:00Z"}
    persons = [{"person": "hanako", "mode": "normal", "items": [item]}]
    payload = FHIR().render({**said, "format": "view/1", "persons": persons, "next": None}, "application/fhir+json")
    found = [part["resource"] for part in json.loads(payload)["entry"]]
    return [one for one in found if one["resourceType"] not in ("Patient", "Provenance")]


@pytest.mark.parametrize(
    "dose",
    ["1 mg - 2 mg", "1 - 2 mg", "5 mg; 10 mg", "1 1/2 錠", "1 g (製剤量)", "5", "5 (no unit)", "2 錠、痛むとき 3 錠"],
)
def test_a_dose_that_is_more_than_one_number_with_its_unit_goes_out_in_words(dose: str) -> None:
    [statement] = shown("care.medication_updated", {"medications": [{"name": "薬", "dose": dose}]})
    assert statement["dosage"] == [{"text": dose}]


@pytest.mark.parametrize(
    ("dose", "value", "unit"), [("2.50 mg", 2.5, "mg"), ("1 錠", 1, "錠"), ("10 ug/kg", 10, "ug/kg")]
)
def test_a_dose_of_one_number_and_unit_goes_out_as_a_quantity(dose: str, value: float, unit: str) -> None:
    [statement] = shown("care.medication_updated", {"medications": [{"name": "薬", "dose": dose}]})
    assert statement["dosage"] == [{"doseAndRate": [{"doseQuantity": {"value": value, "unit": unit}}]}]


@pytest.mark.parametrize("precision", ["full", "summary"])
def test_that_one_prescriber_has_nothing_is_not_that_nothing_is_taken(precision: str) -> None:
    data = {"medications": [], **({"prescriber": "見本医師 (MedicationRequest/rx9)"} if precision == "full" else {})}
    [empty] = shown("care.medication_updated", data, precision)
    assert "coding" not in empty["emptyReason"]
    assert "others may have prescribed" in empty["emptyReason"]["text"]
    assert [part["valueString"] for part in empty.get("extension", ())] == [*data.values()][1:]


@pytest.mark.parametrize(("mesh", "reach"), [("563917", 8100.0), ("56391794", 810.0), ("5639179411", 210.0)])
def test_a_grid_square_is_no_exact_point(mesh: str, reach: float) -> None:
    data = {"lat_deg": 37.49583, "lon_deg": 139.93125, "mesh": mesh}
    [said] = shown("location.reported", data, "1km")
    [accuracy] = said["component"]
    assert (accuracy["code"]["text"], accuracy["valueQuantity"]["value"]) == ("accuracy_m", reach)
    assert "grid square" in said["contained"][0]["description"]
    south, west, north, east = areas.bounds(mesh)
    high, wide = (north - south) * 111_320, (east - west) * 111_320 * math.cos(math.radians(20))
    assert math.hypot(high, wide) / 2 < reach


@pytest.mark.parametrize(
    ("system", "code", "known"),
    [
        ("http://capstandard.jp/iyaku.info/CodeSystem/YJ-code", "2171022F1029", "YJ|2171022F1029"),
        ("urn:oid:1.2.392.100495.20.1.73", "2171022F1029", "YJ|2171022F1029"),
        ("http://medis.or.jp/CodeSystem/master-HOT9", "103835401", "HOT|103835401"),
        ("urn:oid:1.2.392.200119.4.403.1", "103835401", "HOT|103835401"),
        ("urn:mihon:own", "1", "urn:mihon:own|1"),
    ],
)
def test_a_medicine_has_one_code_whichever_source_names_it(system: str, code: str, known: str) -> None:
    said = {"coding": [{"system": system, "code": code}], "text": "薬"}
    [found] = only(request(medicationCodeableConcept=said)).data["medications"]
    assert found["code"] == known
    [statement] = shown("care.medication_updated", {"medications": [found]})
    [coding] = statement["medicationCodeableConcept"]["coding"]
    assert coding["system"].startswith(("http://", "urn:"))
    [back] = only({**statement, "id": "s1", "subject": PATIENT}).data["medications"]
    assert back == found


SNOMED = "http://snomed.info/sct"


def none_of(code: str, **more: Any) -> dict[str, Any]:
    return allergy(code={"coding": [{"system": SNOMED, "code": code, "display": "No known"}]}, **more)


def status(code: str) -> dict[str, Any]:
    return {"verificationStatus": {"coding": [{"code": code}]}}


def test_an_allergy_that_cannot_be_read_leaves_no_empty_list() -> None:
    [event] = read(allergy(**status("refuted")), allergy(id="a2", **status("nobody-knows"))).events
    assert event.data["allergies"] == ["could not be read: 1 more"]


def test_no_known_drug_allergy_is_not_no_known_allergy() -> None:
    assert "allergies" not in only(none_of("409137002")).data
    assert only(none_of("409137002")).data["note"] == "No known"
    both = read(none_of("409137002"), allergy(id="a2")).events
    assert both[0].data["allergies"] == ["ペニシリン"]


def test_a_doubt_about_having_no_allergy_is_told() -> None:
    assert only(none_of("716186003")).data == {**only(none_of("716186003")).data, "allergies": []}
    doubtful = only(none_of("716186003", **status("unconfirmed"))).data
    assert "allergies" not in doubtful
    assert doubtful["note"] == "No known (unconfirmed)"


def test_an_allergy_of_which_not_even_the_id_can_be_read_is_missed_in_the_list() -> None:
    found = read(allergy(**status("refuted")), allergy(id="no_id_of_fhir", code={"text": "そば"}))
    assert len(found.rejected) == 1
    assert found.events[0].data["allergies"] == ["could not be read: 1 more"]


def test_an_allergy_of_nobody_and_one_that_stands_twice_are_missed_in_the_list() -> None:
    nobodys, twice = allergy(id="a2", patient={"reference": "Group/g"}), allergy(id="a3", code={"text": "そば"})
    found = read(allergy(**status("refuted")), nobodys, twice, {**twice, "code": {"text": "卵"}})
    assert found.events[0].data["allergies"] == ["could not be read: 2 more"]


@pytest.mark.parametrize("inside", [False, True])
def test_half_a_character_in_one_record_keeps_out_no_other(inside: bool) -> None:
    half = {**observation(), "id": "o2", "note": [{"text": "\ud83d"}]}
    if inside:
        half = {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": half}]}
    found = read(observation(), half)
    assert [event.id.partition("/~")[0] for event in found.events] == ["Observation/o1"]
    assert [rejected.error.reason for rejected in found.rejected] == ["holds half a character (a surrogate alone)"]
    assert found.rejected[0].payload == b""
