"""A view's answer as a Bundle: what is in it, and what is not."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.connector import PayloadError, Renders, Settings
from hub_connector_fhir import FHIR
from hub_connector_fhir.view import PERSON

_spec = importlib.util.spec_from_file_location("fhir_judge", Path(__file__).parent / "judge.py")
assert _spec is not None
assert _spec.loader is not None
judge = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(judge)

TYPE = "application/fhir+json"


def item(kind: str, /, event: str = "e1", **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "event": event,
        "source": "careyell",
        "kind": kind,
        "occurred_at": "2026-06-02T00:01:00.000000Z",
        "recorded_at": "2026-06-02T00:01:05.000000Z",
        "precision": "full",
        "basis": {"grant": "g1"},
        "data": {},
    }
    return {**said, **more}


def answer(*items: Any, **more: Any) -> dict[str, Any]:
    persons = [{"person": "hanako", "mode": "emergency", "items": list(items)}] if items else []
    said: dict[str, Any] = {
        "format": "view/1",
        "recipient": "aizu-city",
        "purpose": "rescue",
        "exercise": False,
        "time": "2026-06-02T00:02:00.000000Z",
        "persons": persons,
        "next": None,
    }
    return {**said, **more}


def rendered(*items: Any, **more: Any) -> bytes:
    return FHIR().render(answer(*items, **more), TYPE)


def resources(*items: Any, **more: Any) -> dict[str, list[dict[str, Any]]]:
    """The resources by type, after the Bundle was looked over."""
    payload = rendered(*items, **more)
    judge.looked_over(payload)
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in json.loads(payload).get("entry", []):
        found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return found


MEDICATION = item(
    "care.medication_updated",
    data={
        "medications": [
            {"name": "アムロジピン", "dose": "2.50 mg", "timing": "朝食後", "code": "urn:x|1"},
            {"name": "頓服", "dose": "半錠", "code": "HOT 1"},
        ],
        "prescriber": "見本診療所",
        "note": "家族が管理",
    },
)
CONDITION = item(
    "care.condition_updated",
    data={
        "condition": "発熱",
        "vitals": {
            "temperature_degC": 38.5,
            "blood_pressure_systolic_mmHg": 142.0,
            "blood_pressure_diastolic_mmHg": 90.0,
            "steps": 12.0,
            "mood": "良い",
        },
        "note": "昨夜から",
    },
)
LOCATION = item(
    "location.reported", precision="1km", data={"lat_deg": 37.49583, "lon_deg": 139.93125, "mesh": "56391794"}
)
PROFILE = item(
    "profile.updated",
    data={
        "name": "会津 花子",
        "name_kana": "アイヅ ハナコ",
        "birth_date": "1950-02-31",
        "sex": "女",
        "phone": "0242-00-0000",
        "address": "会津若松市",
        "language": "ja",
        "needs": ["車いす"],
    },
)
ALL = (
    MEDICATION,
    {**CONDITION, "event": "c1"},
    {**LOCATION, "event": "l1"},
    {**PROFILE, "event": "p1"},
    item("care.medication_updated", "e2", data={"medications": [], "prescriber": "見本"}),
    item("care.medication_updated", "e3", data={"note": "不明"}),
    item("care.condition_updated", "e4", data={"note": "変わりなし"}),
    item("care.condition_updated", "e5", precision="summary", data={"condition": "発熱"}),
    item("care.condition_updated", "e6", precision="summary", data={}),
    item("care.allergy_updated", "e7", data={"allergies": ["そば", "卵"], "note": "じんま疹"}),
    item("care.allergy_updated", "e8", data={"allergies": []}),
    item("safety.answered", "e9", data={"status": "need_help", "note": "足をけが", "place": "2階"}),
    item("evacuation.changed", "e10", data={"status": "at_shelter", "shelter": "s1", "companions": 2}),
    item("transport.requested", "e11", data={"from": "自宅", "to": "病院"}),
    item("survey.answered", "e12", occurred_at=None, data={"answers": {"q1": " "}}),
    item(
        "location.reported",
        "e13",
        basis={"override": "o 1"},
        precision="exact",
        data={"lat_deg": 37.5, "lon_deg": 139.9, "accuracy_m": 5.0, "altitude_m": 212.0, "speed_mps": 0.0},
    ),
    item("some.citys_own_kind", "e14", data={"anything": [1, {"x": None}]}),
    item("care.medication_updated", "e16", data={"medications": [], "record": "r1", "note": "終了"}),
    item("care.allergy_updated", "e17", data={"allergies": [], "record": "r2"}),
    item("care.condition_updated", "e15", data={"original": "no FHIR", "original_type": TYPE, "condition": "x"}),
)


def test_it_renders() -> None:
    assert isinstance(FHIR(), Renders)
    with pytest.raises(PayloadError):
        FHIR().render(answer(), "text/csv")


def test_every_kind_is_fhir_by_an_independent_judge() -> None:
    judge.judged(rendered(*ALL))


def test_each_fact_has_its_provenance_and_each_person_one_patient() -> None:
    found = resources(*ALL)
    assert len(found["Provenance"]) == len(ALL)
    assert len(found["Patient"]) == 1


def test_an_answer_without_anyone_is_a_bundle_without_entries() -> None:
    assert resources() == {}
    assert "entry" not in json.loads(rendered())


def test_a_medicine_is_a_statement_with_what_it_says() -> None:
    first, second = resources(MEDICATION)["MedicationStatement"]
    assert first["medicationCodeableConcept"] == {"text": "アムロジピン", "coding": [{"system": "urn:x", "code": "1"}]}
    assert first["dosage"] == [{"doseAndRate": [{"doseQuantity": {"value": 2.5, "unit": "mg"}}], "text": "朝食後"}]
    assert first["note"] == [{"text": "家族が管理"}]
    assert first["dateAsserted"] == "2026-06-02T00:01:00.000000Z"
    assert second["dosage"] == [{"text": "半錠"}]
    assert b'"value":2.50' in rendered(MEDICATION)


def test_only_what_says_the_whole_says_that_there_is_nothing() -> None:
    for kind, name, told in (
        ("care.medication_updated", "medications", "List"),
        ("care.allergy_updated", "allergies", "AllergyIntolerance"),
    ):
        assert told in resources(item(kind, data={name: []}))
        assert told in resources(item(kind, data={name: [], "record": "careyell"}, source="careyell"))
        assert set(resources(item(kind, data={name: [], "record": "r1"}))) == {"Patient", "Basic", "Provenance"}


def test_measurements_have_their_loinc_codes_and_ucum_units() -> None:
    found = resources(CONDITION)["Observation"]
    [temperature] = [each for each in found if each["code"].get("text") == "temperature_degC"]
    assert temperature["code"]["coding"] == [{"system": "http://loinc.org", "code": "8310-5"}]
    assert temperature["valueQuantity"]["code"] == "Cel"
    [pressure] = [each for each in found if "component" in each]
    assert [part["valueQuantity"]["value"] for part in pressure["component"]] == [90.0, 142.0]
    assert resources(CONDITION)["Condition"][0]["code"] == {"text": "発熱"}


def test_a_square_is_shown_as_the_square_and_its_centre() -> None:
    [place] = resources(LOCATION)["Observation"][0]["contained"]
    assert place["position"] == {"latitude": 37.49583, "longitude": 139.93125}
    assert place["identifier"] == [{"system": "urn:saigai-hub:mesh", "value": "56391794"}]


def test_a_patient_has_the_pseudonym_and_what_the_profile_shows() -> None:
    [patient] = resources(LOCATION)["Patient"]
    assert patient["identifier"] == [{"system": "urn:saigai-hub:person", "value": "hanako"}]
    assert set(patient) == {"resourceType", "id", "extension", "identifier"}
    [patient] = resources(PROFILE)["Patient"]
    assert [name["text"] for name in patient["name"]] == ["会津 花子", "アイヅ ハナコ"]
    assert "birthDate" not in patient  # there is no such day
    assert patient["gender"] == "female"


def test_each_fact_says_where_it_came_from_and_on_which_ground() -> None:
    found = resources(MEDICATION, item("safety.answered", "e2", basis={"override": "o 1"}, data={"status": "safe"}))
    first, second = found["Provenance"]
    assert len(first["target"]) == 2
    assert first["recorded"] == "2026-06-02T00:01:05.000000Z"
    assert first["agent"][0]["who"]["identifier"] == {"system": "urn:saigai-hub:source", "value": "careyell"}
    assert first["entity"][0]["what"]["identifier"] == {"system": "urn:saigai-hub:event", "value": "e1"}
    assert first["policy"] == ["urn:saigai-hub:grant:g1"]
    assert second["policy"] == ["urn:saigai-hub:override:o%201"]
    assert first["reason"] == [{"coding": [{"system": "urn:saigai-hub:purpose", "code": "rescue"}]}]


def test_a_fact_that_was_mapped_has_its_own_fields_beside_it_without_loss() -> None:
    for said in ALL:
        found = [
            part for each in resources(said).values() for resource in each for part in resource.get("extension", [])
        ]
        [data] = [part["valueString"] for part in found if part["url"] == "urn:saigai-hub:fhir:data"]
        assert json.loads(data) == said["data"]


def test_equal_answers_give_equal_bytes_and_others_do_not() -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: shuffled(value[name]) for name in reversed(list(value))}
        return [shuffled(part) for part in value] if isinstance(value, list) else value

    assert FHIR().render(shuffled(answer(*ALL)), TYPE) == rendered(*ALL)
    assert rendered(MEDICATION) != rendered({**MEDICATION, "event": "e9"})


def test_a_drill_is_marked_as_test_data_and_comes_back_as_an_exercise() -> None:
    payload = rendered(CONDITION, exercise=True)
    assert judge.looked_over(payload)["meta"]["security"][0]["code"] == "HTEST"
    events = FHIR(Settings(options={"identifier_system": PERSON})).translate(payload).events
    assert events
    assert all(event.exercise for event in events)


def test_the_next_page_is_a_link() -> None:
    payload = rendered(next="3d/1f")
    assert judge.looked_over(payload)["link"] == [{"relation": "next", "url": "?cursor=3d%2F1f"}]


def test_nothing_is_told_that_is_not_in_the_answer() -> None:
    """Every text of it is of the answer, an id that is made of the content, or a word of FHIR and its systems."""
    words: set[str] = set()

    def gather(value: Any, at: set[str]) -> set[str]:
        if isinstance(value, dict | list):
            for part in value.values() if isinstance(value, dict) else value:
                gather(part, at)
        elif isinstance(value, str):
            at.add(value)
        return at

    said = gather(answer(MEDICATION), set())
    words = {word for word in gather(json.loads(rendered(MEDICATION)), set()) if word not in said}
    words = {word for word in words if not word.startswith(("urn:", "http://terminology.hl7.org/"))}
    ids = {word for word in words if len(word) == 36 and word.count("-") == 4}
    data = {word for word in words if word.startswith("{")}
    assert (
        words - ids - data
        == {
            *(
                "Bundle",
                "searchset",
                "view",
                "Patient",
                "MedicationStatement",
                "Provenance",
                "active",
                "match",
                "include",
            ),
            *("source", "author", "1", "mg", "半錠", "recipient", "purpose", "exercise"),
        }
        - said
    )


ORIGINAL = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
    "subject": {"reference": "Patient/p1", "display": "見本"},
    "effectiveDateTime": "2026-06-01",
    "valueQuantity": {"value": 36.5, "code": "Cel", "system": "http://unitsofmeasure.org"},
}


def original(text: str, **more: Any) -> dict[str, Any]:
    data = {"vitals": {"temperature_degC": 36.5}, "original": text, "original_type": f"{TYPE}; fhirVersion=4.0"}
    return item("care.condition_updated", source="fhir", data=data, **more)


def test_what_came_in_fhir_goes_out_as_it_came_but_for_its_subject() -> None:
    text = json.dumps(ORIGINAL).replace("36.5", "36.50")
    [observation] = resources(original(text))["Observation"]
    subject = observation.pop("subject")
    assert observation == {name: value for name, value in ORIGINAL.items() if name != "subject"}
    assert subject["reference"].startswith("urn:uuid:")
    assert subject["extension"] == [{"url": "urn:saigai-hub:fhir:reference", "valueString": "Patient/p1"}]
    assert b"36.50" in rendered(original(text))


def test_a_summary_shows_no_original() -> None:
    [observation] = resources(original(json.dumps(ORIGINAL), precision="summary"))["Observation"]
    assert observation["id"] != "o1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"resourceType":"Patient"}',
        '{"resourceType":"Bundle","entry":[{}]}',
        "[" * 9000,
        '{"a":"\\ud800"}',
    ],
)
def test_an_original_that_is_no_resource_of_a_fact_is_mapped(text: str) -> None:
    found = resources(original(text))
    assert found["Observation"][0]["valueQuantity"]["value"] == 36.5


GOLDENS = sorted((Path(__file__).parents[1] / "goldens").glob("*.json"))


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.name)
def test_the_goldens_are_fhir_but_for_the_one_time_without_its_offset(path: Path) -> None:
    models = pytest.importorskip("fhir.resources.R4B", reason=judge.WHY)
    said = json.loads(path.read_bytes())
    for entry in said.get("entry", []):
        resource = entry.get("resource", {})
        if resource.get("id") == "o34":
            resource["effectiveDateTime"] += "+09:00"
    models.get_fhir_model_class(said["resourceType"]).model_validate_json(json.dumps(said))


if __name__ == "__main__":
    sys.stdout.buffer.write(rendered(*ALL))
