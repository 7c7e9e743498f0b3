"""What is kept of a resource beside its fact: nothing that names a person, unless the operator wants it whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hub.connector import Misuse, PayloadError, Settings
from hub_connector_fhir import FHIR
from hub_connector_fhir.clinical import without_persons

GOLDENS = Path(__file__).parents[1] / "goldens"
NAMED = (GOLDENS / "11-named.json").read_bytes()
SYSTEM = "urn:oid:1.2.392.100495.20.3.51.10711234567"
OPTIONS = {"identifier_system": SYSTEM, "base": "http://fhir.example/r4"}
CODES = {"coding": [{"display": "喘息"}], "text": "喘息"}


def facts(payload: bytes = NAMED, **options: Any) -> dict[str, Any]:
    found = FHIR(Settings(options={**OPTIONS, **options})).translate(payload)
    assert not found.rejected
    return {event.kind: event.data for event in found.events}


def left(**more: Any) -> dict[str, Any]:
    kept = without_persons({"resourceType": "Condition", "code": CODES, **more})
    assert kept.pop("resourceType") == "Condition"
    assert kept.pop("code") == CODES
    return kept


def test_the_original_names_nobody() -> None:
    """But who prescribed, which is a field of the fact itself."""
    medication, condition = facts()["care.medication_updated"], facts()["care.condition_updated"]
    for said in (medication["original"], condition["original"]):
        for name in ("花子", "見本 母", "見本 父", "薬剤師", "看護師", "0242", "1950", "架空市", "div"):
            assert name not in said
    assert "医師" not in condition["original"]
    assert medication["original"].count("見本 医師") == 1
    assert medication["prescriber"] == "見本 医師"


def test_what_is_clinical_stays() -> None:
    kept = json.loads(facts()["care.condition_updated"]["original"])
    assert kept["code"] == CODES
    assert kept["encounter"] == {"display": "外来"}
    assert kept["extension"] == [{"url": "http://example.org/fhir/side", "valueCode": "left"}]
    assert "粉砕不可" in facts()["care.medication_updated"]["original"]


def test_what_is_kept_gives_the_same_fact_again() -> None:
    for kind, data in facts().items():
        assert facts(data["original"].encode())[kind] == data


def test_the_whole_can_be_kept() -> None:
    said = facts(original="whole")["care.condition_updated"]["original"]
    assert json.loads(said) == json.loads(NAMED)["entry"][2]["resource"]


def test_nothing_can_be_kept() -> None:
    for kind, data in facts(original="none").items():
        assert not data.keys() & {"original", "original_type"}
        assert data == {name: value for name, value in facts()[kind].items() if not name.startswith("original")}


def test_another_word_is_a_mistake() -> None:
    with pytest.raises(Misuse, match="is none of clinical, whole, none"):
        FHIR(Settings(options={"original": "part"}))


@pytest.mark.parametrize(
    "reference",
    [
        {"reference": "Patient/p1"},
        {"reference": "http://fhir.example/r4/Practitioner/d1"},
        {"reference": "PractitionerRole/d1"},
        {"reference": "#mo"},
        {"reference": "urn:uuid:7d4b3a52-0f0a-4d3b-8a39-000000000000"},
        {"type": "RelatedPerson"},
        {"identifier": {"value": "1"}},
        {"type": "http://hl7.org/fhir/StructureDefinition/Patient"},
    ],
)
def test_a_reference_to_a_person_shows_no_name(reference: dict[str, Any]) -> None:
    inside = [{"resourceType": "RelatedPerson", "id": "mo"}]
    said = {"contained": inside, "asserter": {**reference, "display": "見本 花子", "_display": {"id": "d"}}}
    assert left(**said) == {"contained": inside, "asserter": reference}


@pytest.mark.parametrize(
    "field",
    [
        {"recorder": {"reference": "Organization/o1", "display": "見本病院"}},
        {
            "asserter": {"reference": "#dev", "display": "体温計"},
            "contained": [{"resourceType": "Device", "id": "dev"}],
        },
        {"encounter": {"display": "外来"}},
        {"stage": [{"assessment": [{"display": "遺伝子検査"}]}]},
        {"bodySite": [{"coding": [{"display": "左腕"}]}]},
        {"stage": [{"type": {"coding": [{"code": "x", "display": "I"}]}}]},
        {"meta": {"tag": [{"display": "見本"}]}},
        {"extension": [{"url": "u", "valueCoding": {"display": "x"}}]},
        {"note": []},
    ],
)
def test_what_leads_to_a_thing_or_is_a_code_keeps_its_words(field: dict[str, Any]) -> None:
    assert left(**field) == field


def test_nothing_empty_is_left() -> None:
    said = {
        "recorder": {"display": "見本"},
        "note": [{"authorString": "見本", "text": "咳"}, {"authorReference": {"display": "見本"}, "text": "熱"}],
        "extension": [
            {"url": "a", "valueAddress": {"text": "架空市"}},
            {"url": "b", "valueReference": {"display": "x"}},
        ],
    }
    assert left(**said) == {"note": [{"text": "咳"}, {"text": "熱"}]}


def test_what_is_nested_too_deeply_is_refused() -> None:
    said: dict[str, Any] = {}
    for _ in range(100_000):
        said = {"extension": [said]}
    with pytest.raises(PayloadError):
        without_persons({"resourceType": "Condition", "x": said})
