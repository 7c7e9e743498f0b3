"""What is huge, nested, circular or wrongly encoded: refused with a reason, and quickly."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from hub.connector import PayloadError, Settings, Translation
from hub_connector_fhir import FHIR
from hub_connector_fhir.content import LIMIT_BYTES

SECRET = "山田花子-7731"
CONNECTOR = FHIR(Settings(options={"base": "http://fhir.example"}))


def observation(**more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-06-01",
        "valueQuantity": {"value": 36.5, "unit": "Cel"},
    }
    return {**said, **more}


def bundle(*entries: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "collection", "entry": list(entries), **more}


def translated(said: Any) -> Translation:
    return CONNECTOR.translate(said if isinstance(said, bytes) else json.dumps(said).encode())


def refusal(said: Any) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        translated(said)
    return caught.value


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"extension": [value]}
    return value


def deep(levels: int) -> bytes:
    text = json.dumps(observation(extension="DEEP"))
    return text.replace('"DEEP"', "[" * levels + "]" * levels).encode()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is no JSON"),
        (b"[]", "is no FHIR resource"),
        (b"null", "is no FHIR resource"),
        (b"{}", "resourceType: is missing"),
        (b'{"resourceType":{}}', "resourceType: is no text"),
        (b'{"resourceType":"Bundle"}', "type: is missing"),
        (b'{"resourceType":"Bundle","type":"all"}', "type: is no type of a Bundle"),
        (b'{"resourceType":"Bundle","type":"batch","entry":{}}', "entry: is no list"),
        (b"<Bundle/>", "is no JSON"),
        (json.dumps(observation()).encode("utf-16"), "is not UTF-8"),
        (json.dumps(observation(), ensure_ascii=False).replace("o1", SECRET).encode("cp932"), "is not UTF-8"),
        (json.dumps(observation()).encode()[:-9], "is no JSON"),
        (b'{"resourceType":"Patient","id":"a","id":"b"}', "says a name twice"),
        (b'{"resourceType":"Patient","a":NaN}', "a number that JSON does not have"),
        (json.dumps(observation(note=[{"text": "\ud800"}])).encode(), "half a character"),
        (deep(100_000), "nested too deeply"),
        (deep(500), "nested too deeply"),
        (json.dumps(observation()).replace("36.5", "9" * 9000).encode(), "number that is out of range"),
        (json.dumps(observation()).replace("36.5", "1e999999999").encode(), "valueQuantity.value: is not from"),
        (b" " * (LIMIT_BYTES + 1), "is larger than"),
    ],
    ids=range(21),
)
def test_what_is_no_fhir_is_refused(payload: bytes, reason: str) -> None:
    assert reason in str(refusal(payload))


def test_a_number_that_is_too_small_for_a_double_is_taken() -> None:
    [event] = translated(json.dumps(observation()).replace("36.5", "1e-999999").encode()).events
    assert event.data["vitals"] == {"temperature_degC": 0.0}
    assert "1E-999999" in event.data["original"]


def test_what_nobody_reads_may_be_nested() -> None:
    text = json.dumps(
        bundle({"resource": {"resourceType": "Patient", "id": "p1", "x": "DEEP"}}, {"resource": observation()})
    )
    payload = text.replace('"DEEP"', "[" * 300 + "]" * 300).encode()
    assert len(translated(payload).events) == 1


def test_half_a_character_is_refused_wherever_it_stands() -> None:
    person = {"resourceType": "Patient", "id": "p1", "name": [{"text": "\ud800"}]}
    found = translated(json.dumps(bundle({"resource": person}, {"resource": observation()})).encode())
    assert ["half a character" in rejected.error.reason for rejected in found.rejected] == [True]
    assert "half a character" in refusal({**observation(), "note": [{"text": "\ud800"}]}).reason
    assert "half a character" in refusal({**bundle({"resource": observation()}), "timestamp": "\ud800"}).reason


def test_a_medicine_that_is_nested_costs_only_what_refers_to_it() -> None:
    medicine = {"resourceType": "Medication", "id": "m", "code": {"text": "x"}, "extension": nested(80)}
    request = {
        "resourceType": "MedicationRequest",
        "id": "r",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "medicationReference": {"reference": "Medication/m"},
    }
    found = translated(bundle({"resource": medicine}, {"resource": request}, {"resource": observation()}))
    assert [event.kind for event in found.events] == ["care.condition_updated"]
    assert found.rejected[0].error.path == "entry[1].resource"


def test_a_circle_of_references_is_no_loop() -> None:
    role = {"resourceType": "PractitionerRole", "id": "r", "organization": {"reference": "PractitionerRole/r"}}
    request = {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "#a"},
        "medicationReference": {"reference": "#m"},
        "requester": {"reference": "PractitionerRole/r"},
        "contained": [
            {
                "resourceType": "Medication",
                "id": "m",
                "code": {"text": "x"},
                "ingredient": [{"itemReference": {"reference": "#m"}}],
            },
            {"resourceType": "Patient", "id": "a", "link": [{"other": {"reference": "#a"}}]},
        ],
    }
    assert translated(bundle({"resource": role}, {"resource": request})).rejected
    request["subject"] = {"reference": "Patient/p1"}
    [event] = translated(bundle({"resource": role}, {"resource": request})).events
    assert event.data["medications"] == [{"name": "x"}]


def test_two_patients_with_one_full_url_are_not_taken_for_one_another() -> None:
    url = "http://fhir.example/Patient/p1"
    system = "urn:mihon"
    people = [
        {
            "fullUrl": url,
            "resource": {"resourceType": "Patient", "id": "p1", "identifier": [{"system": system, "value": v}]},
        }
        for v in ("1", "2")
    ]
    about = {"fullUrl": "http://fhir.example/Observation/o1", "resource": observation()}
    connector = FHIR(Settings(options={"identifier_system": system}))
    found = connector.translate(json.dumps(bundle(*people, about)).encode())
    assert not found.events
    assert "several resources with one fullUrl" in found.rejected[0].error.reason


def test_one_record_twice_with_other_content_is_refused_where_nothing_says_which_is_newer() -> None:
    other = observation(valueQuantity={"value": 39.9, "unit": "Cel"})
    found = translated(bundle({"resource": observation()}, {"resource": other}, type="batch"))
    assert not found.events
    assert len(found.rejected) == 2
    assert len(translated(bundle({"resource": observation()}, {"resource": observation()})).events) == 1


def test_a_huge_attachment_is_refused_with_its_record_and_the_rest_is_taken() -> None:
    huge = observation(id="o2", contained=[{"resourceType": "Media", "content": {"data": "A" * 3_000_000}}])
    found = translated(bundle({"resource": huge}, {"resource": observation()}))
    assert [event.id.split("/")[1] for event in found.events] == ["o1"]
    assert "is larger than 256 KiB" in found.rejected[0].error.reason


def test_a_list_that_is_too_large_for_one_fact_is_told_record_by_record() -> None:
    image = [{"resourceType": "Media", "content": {"data": "A" * 200_000}}]
    entries = [{"resource": observation(id=f"o{n}", contained=image)} for n in range(4)]
    found = translated(bundle(*entries))
    assert len(found.events) == 4
    assert not found.rejected


def test_bundles_in_bundles_end_somewhere() -> None:
    said = bundle({"resource": observation()})
    for _ in range(30):
        said = bundle({"resource": said})
    assert "which is not read" in translated(said).rejected[0].error.reason


def test_more_entries_than_are_read_are_refused_whole() -> None:
    assert "one entry more" in str(refusal(bundle(*[{}] * 50_001)))


def test_ten_thousand_records_are_read_whole() -> None:
    found = FHIR().translate(FHIR().sample(10_000))
    assert len(found.events) == 10_000
    assert not found.rejected


@pytest.mark.parametrize(
    "said",
    [
        deep(100_000),
        b'{"resourceType":"Bundle","type":"batch","entry":[' + b'{"resource":' * 50_000,
        json.dumps(observation(component=[{"code": {"text": "x"}}] * 20_000)).encode(),
        json.dumps(observation(code={"coding": [{"code": "x" * 3_000_000}]})).encode(),
        json.dumps(observation(subject={"reference": "http://" + "a/" * 100_000})).encode(),
        json.dumps(observation(subject={"reference": "Patient/" + "A" * 1_000_000})).encode(),
        json.dumps(
            bundle(*[{"resource": observation(id=f"o{n}", subject={"reference": "#x"})} for n in range(500)])
        ).encode(),
    ],
    ids=range(7),
)
def test_it_is_quick_about_it(said: bytes) -> None:
    start = time.process_time()
    try:
        found = translated(said)
        assert found.rejected
    except PayloadError:
        pass
    assert time.process_time() - start < 2


def test_a_message_holds_no_value_of_the_payload() -> None:
    for name in ("id", "status", "effectiveDateTime", "subject", "code", "valueQuantity", "meta", "contained"):
        for value in (SECRET, [SECRET], {SECRET: SECRET}, [{SECRET: SECRET}], {"reference": SECRET}, {"value": SECRET}):
            payload = json.dumps(observation(**{name: value})).encode()
            assert SECRET not in said_of(payload)


def said_of(payload: bytes) -> str:
    """What the one who sent a payload is told, with all that an error carries."""
    try:
        return str(translated(payload).nothing)
    except PayloadError as error:
        return f"{error} {error.__cause__} {'' if error.__suppress_context__ else error.__context__}"
