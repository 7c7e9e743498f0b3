"""FHIR in: who, what, when, and what makes one fact."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from hub.connector import Connector, Measures, Misuse, PayloadError, Settings, Translation
from hub_connector_fhir import FHIR

SYSTEM = "urn:mihon:patients"
BASE = "http://fhir.example/r4"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"


def observation(**more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-06-01T09:00:00+09:00",
        "valueQuantity": {"value": 36.5, "system": "http://unitsofmeasure.org", "code": "Cel"},
    }
    return {name: value for name, value in {**said, **more}.items() if value is not None}


def request(**more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "MedicationRequest",
        "id": "r1",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "medicationCodeableConcept": {"text": "アムロジピン"},
        "authoredOn": "2026-05-01",
    }
    return {name: value for name, value in {**said, **more}.items() if value is not None}


def entry(resource: Any, url: str | None = None, **more: Any) -> dict[str, Any]:
    return {**({"fullUrl": url} if url else {}), "resource": resource, **more}


def bundle(*entries: Any, type: str = "collection", **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": type, "entry": list(entries), **more}


def patient(id_: str | None, *values: str) -> dict[str, Any]:
    identifiers = [{"system": SYSTEM, "value": value} for value in values]
    return {"resourceType": "Patient", **({"id": id_} if id_ else {}), "identifier": identifiers}


def read(said: Any, files: Any = None, **options: Any) -> Translation:
    known = options if "identifier_system" in options else {"base": BASE, **options}
    return FHIR(Settings(options=known, files=files or {})).translate(json.dumps(said).encode())


def refs(said: Any, **options: Any) -> list[str | None]:
    return [event.ref for event in read(said, **options).events]


def reasons(said: Any, **options: Any) -> list[str]:
    return [found.error.reason for found in read(said, **options).rejected]


def only(said: Any, **options: Any) -> Any:
    [event] = read(said, **options).events
    return event


def test_it_is_a_connector() -> None:
    assert isinstance(FHIR(), Connector)
    assert isinstance(FHIR(), Measures)


# who


@pytest.mark.parametrize(
    ("subject", "url", "ref"),
    [
        ({"reference": "Patient/p1"}, None, "p1"),
        ({"reference": "Patient/p1/_history/2"}, None, "p1"),
        ({"reference": f"{BASE}/Patient/p1"}, f"{BASE}/Observation/o1", "p1"),
        ({"reference": f"{BASE}/Patient/p1"}, None, "p1"),
        ({"reference": "http://other.example/Patient/p1"}, f"{BASE}/Observation/o1", "http://other.example/Patient/p1"),
    ],
)
def test_on_the_server_that_is_set_the_logical_id_is_the_ref(subject: Any, url: str | None, ref: str) -> None:
    assert refs(bundle(entry(observation(subject=subject), url))) == [ref]


@pytest.mark.parametrize(
    ("subject", "url", "people"),
    [
        ({"reference": f"{BASE}/Patient/p1"}, None, []),
        ({"reference": f"{BASE}/Patient/p1/_history/2"}, "http://other.example/Observation/o1", []),
        ({"reference": "Patient/p1"}, f"{BASE}/Observation/o1", []),
        ({"reference": "Patient/p1"}, f"{BASE}/Observation/o1", [entry(patient("p1"), f"{BASE}/Patient/p1")]),
    ],
)
def test_without_a_setting_the_whole_url_is_the_ref(subject: Any, url: str | None, people: Any) -> None:
    said = bundle(*people, entry(observation(subject=subject), url))
    [event] = FHIR().translate(json.dumps(said).encode()).events
    assert event.ref == f"{BASE}/Patient/p1"


@pytest.mark.parametrize(
    ("reference", "people"),
    [
        ("Patient/p1", []),
        ("/Patient/p1", []),
        ("Patient/p1", [entry(patient("p1"))]),
        ("urn:uuid:6c1d", [entry(patient("p1"), "urn:uuid:6c1d")]),
    ],
)
def test_without_a_setting_an_id_of_no_known_server_is_refused(reference: str, people: Any) -> None:
    said = bundle(*people, entry(observation(subject={"reference": reference})))
    found = FHIR().translate(json.dumps(said).encode())
    assert not found.events
    [rejected] = found.rejected
    assert str(rejected.error.path).endswith("resource.subject.reference")
    assert "set options.base or options.identifier_system" in rejected.error.reason
    assert FHIR(Settings(options={"base": BASE})).translate(rejected.payload).events[0].ref == "p1"


def test_an_id_of_another_server_is_another_id() -> None:
    here, there = f"{BASE}/Observation/o1", "http://other.example/r4/Observation/o1"
    said = bundle(entry(observation(), here), entry(observation(), there))
    first, second = read(said).events
    assert (first.ref, second.ref) == ("p1", "http://other.example/r4/Patient/p1")
    assert first.id != second.id
    assert refs(said, base="http://other.example/r4") == [f"{BASE}/Patient/p1", "p1"]


@pytest.mark.parametrize(
    ("url", "reference"),
    [
        (f"{BASE}/Patient/p1", "Patient/p1"),
        (f"{BASE}/Patient/p1", f"{BASE}/Patient/p1"),
        ("urn:uuid:6c1d3a52-7d1c-4e1f-9b4e-0a4f2f0a9c11", "urn:uuid:6c1d3a52-7d1c-4e1f-9b4e-0a4f2f0a9c11"),
        (None, "Patient/p1"),
    ],
)
def test_the_identifier_of_the_patient_in_the_bundle_is_the_ref(url: str | None, reference: str) -> None:
    about = entry(observation(subject={"reference": reference}), f"{BASE}/Observation/o1" if url else None)
    assert refs(bundle(about, entry(patient("p1", "77"), url)), identifier_system=SYSTEM) == ["77"]


def test_the_identifier_may_stand_in_a_contained_patient_or_in_the_reference() -> None:
    held = observation(subject={"reference": "#p"}, contained=[patient("p", "77")])
    named = observation(subject={"identifier": {"system": SYSTEM, "value": "77"}})
    assert refs(held, identifier_system=SYSTEM) == refs(named, identifier_system=SYSTEM) == ["77"]


@pytest.mark.parametrize(
    ("people", "subject", "reason"),
    [
        ([], {"reference": "Patient/p1"}, "leads to no Patient in the payload"),
        ([patient("p1")], {"reference": "Patient/p1"}, "with no identifier"),
        ([patient("p1", "77", "78")], {"reference": "Patient/p1"}, "with several identifiers"),
        ([], {"identifier": {"system": "urn:other", "value": "77"}}, "leads to no Patient in the payload"),
        ([{"resourceType": "Group", "id": "g"}], {"reference": "Group/g"}, "is no Patient"),
    ],
)
def test_who_has_no_identifier_of_the_system_is_nobody(people: Any, subject: Any, reason: str) -> None:
    said = bundle(*map(entry, people), entry(observation(subject=subject)))
    assert reason in reasons(said, identifier_system=SYSTEM)[0]
    assert not read(said, identifier_system=SYSTEM).events


def test_an_old_identifier_does_not_count() -> None:
    person = patient("p1", "77", "78")
    person["identifier"][0]["use"] = "old"
    assert refs(bundle(entry(person), entry(observation())), identifier_system=SYSTEM) == ["78"]


@pytest.mark.parametrize("subject", [{"reference": "Device/d1"}, {"display": "花子"}, {"reference": "#p"}, {}])
def test_who_has_no_id_is_refused(subject: Any) -> None:
    with pytest.raises(PayloadError, match="subject"):
        read(observation(subject=subject))


def test_a_version_that_a_reference_names_is_the_one_that_counts() -> None:
    url = f"{BASE}/Patient/p1"
    old = {**patient("p1", "77"), "meta": {"versionId": "1"}}
    new = {**patient("p1", "78"), "meta": {"versionId": "2"}}
    people = [entry(old, url), entry(new, url)]
    for reference, ref in (("Patient/p1/_history/1", "77"), ("Patient/p1", "78")):
        about = entry(observation(subject={"reference": reference}), f"{BASE}/Observation/o1")
        assert refs(bundle(*people, about), identifier_system=SYSTEM) == [ref]


# when


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-06-01T09:00:00+09:00", datetime(2026, 6, 1, 0, 0, tzinfo=UTC)),
        ("2026-06-01T09:00:00.5Z", datetime(2026, 6, 1, 9, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-06-01", datetime(2026, 5, 31, 15, 0, tzinfo=UTC)),
        ("2026-06", datetime(2026, 5, 31, 15, 0, tzinfo=UTC)),
        ("2026", datetime(2025, 12, 31, 15, 0, tzinfo=UTC)),
    ],
)
def test_a_date_is_the_earliest_moment_that_it_can_mean(written: str, meant: datetime) -> None:
    assert only(observation(effectiveDateTime=written)).occurred_at == meant


@pytest.mark.parametrize(
    "written", ["2026-06-01T09:00:00", "2026-06-01T09:00", "2026-13", "2026-02-30", "0001-01-01", ""]
)
def test_a_time_without_its_offset_or_a_day_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(PayloadError, match="effectiveDateTime"):
        read(observation(effectiveDateTime=written))


def test_a_date_is_read_in_the_zone_that_is_set() -> None:
    said = observation(effectiveDateTime="2026-06-01")
    assert only(said, zone="UTC").occurred_at == datetime(2026, 6, 1, tzinfo=UTC)


def test_nothing_is_said_of_a_time_that_the_source_does_not_say() -> None:
    assert only(observation(effectiveDateTime=None)).occurred_at is None


def test_a_record_that_is_kept_up_to_date_counts_from_its_last_change() -> None:
    said = request(meta={"lastUpdated": "2026-05-30T00:00:00Z"})
    assert only(said).occurred_at == datetime(2026, 5, 30, tzinfo=UTC)
    said = observation(meta={"lastUpdated": "2026-06-02T00:00:00Z"})
    assert only(said).occurred_at == datetime(2026, 6, 1, tzinfo=UTC)


# measurements and conditions


@pytest.mark.parametrize(
    ("code", "value", "vitals"),
    [
        ("8310-5", {"value": 98.6, "code": "[degF]"}, {"temperature_degC": 37.0}),
        ("8867-4", {"value": 72, "code": "/min"}, {"pulse_bpm": 72.0}),
        ("2708-6", {"value": 0.97, "code": "1"}, {"spo2_percent": 97.0}),
        ("8480-6", {"value": 16, "code": "kPa"}, {"blood_pressure_systolic_mmHg": 120.01}),
        ("29463-7", {"value": 110, "code": "[lb_av]"}, {"weight_kg": 49.9}),
        ("29463-7", {"value": 3250, "code": "g"}, {"weight_kg": 3.25}),
        ("8302-2", {"value": 1.58, "code": "m"}, {"height_cm": 158.0}),
        ("15074-8", {"value": 5.5, "code": "mmol/L"}, {"blood_glucose_mg_per_dL": 99.09}),
        ("8310-5", {"value": 36.5, "unit": "℃", "system": None}, {"temperature_degC": 36.5}),
        ("8310-5", {"value": 35, "comparator": "<", "code": "Cel"}, {"temperature_degC": "<35 Cel"}),
    ],
)
def test_a_measurement_has_its_name_and_its_unit(code: str, value: Any, vitals: Any) -> None:
    amount = {"system": "http://unitsofmeasure.org", **value}
    said = observation(
        code={"coding": [{"system": "http://loinc.org", "code": code}]},
        valueQuantity={name: part for name, part in amount.items() if part is not None},
    )
    assert only(said).data["vitals"] == vitals


def test_a_code_of_the_site_is_known_by_its_words_or_by_the_operators_table() -> None:
    said = observation(code={"coding": [{"system": "urn:site", "code": "T1", "display": "体温"}]})
    assert only(said).data["vitals"] == {"temperature_degC": 36.5}
    said = observation(code={"coding": [{"system": "urn:site", "code": "T1"}]})
    assert "is no vital sign" in (read(said).nothing or "")
    terms = b'[observations]\n"urn:site|T1" = "temperature_degC"\n'
    [event] = read(said, files={"terms": terms}).events
    assert event.data["vitals"] == {"temperature_degC": 36.5}


def test_what_is_no_vital_sign_is_not_read_unless_that_is_set() -> None:
    said = observation(code={"text": "遺伝子検査"}, valueQuantity=None, valueString="変異あり")
    assert "is no vital sign" in (read(said).nothing or "")
    assert only(said, observations="all").data["note"] == "遺伝子検査: 変異あり"


def test_what_was_measured_within_an_hour_is_one_fact_in_a_list_and_the_conditions_go_with_the_newest() -> None:
    pulse = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    per_min = {"value": 72, "system": "http://unitsofmeasure.org", "code": "/min"}
    said = bundle(
        entry(observation(id="o0", effectiveDateTime="2026-05-01")),
        entry(observation()),
        entry(observation(id="o2", code=pulse, valueQuantity=per_min, effectiveDateTime="2026-06-01T09:59:00+09:00")),
        entry(
            {
                "resourceType": "Condition",
                "id": "c1",
                "code": {"text": "高血圧症"},
                "subject": {"reference": "Patient/p1"},
                "recordedDate": "2020",
            }
        ),
    )
    old, new = read(said).events
    assert old.data["vitals"] == {"temperature_degC": 36.5}
    assert new.data["vitals"] == {"temperature_degC": 36.5, "pulse_bpm": 72.0}
    assert new.data["condition"] == "高血圧症"
    assert new.occurred_at == datetime(2026, 6, 1, 0, 59, tzinfo=UTC)
    assert len(read({**said, "type": "batch"}).events) == 4


@pytest.mark.parametrize(
    ("clinical", "verification", "condition", "note"),
    [
        ("active", "confirmed", "発熱", None),
        (None, None, "発熱", None),
        ("relapse", "confirmed", "発熱 (relapse)", None),
        ("active", "provisional", "発熱 (provisional)", None),
        ("resolved", "confirmed", None, "発熱 (resolved)"),
        ("active", "refuted", None, "発熱 (refuted)"),
    ],
)
def test_a_condition_that_does_not_hold_is_told_in_the_note(
    clinical: str | None, verification: str | None, condition: str | None, note: str | None
) -> None:
    said: dict[str, Any] = {"resourceType": "Condition", "id": "c1", "subject": {"reference": "Patient/p1"}}
    said["code"] = {"text": "発熱"}
    for name, code in (("clinicalStatus", clinical), ("verificationStatus", verification)):
        if code:
            said[name] = {"coding": [{"code": code}]}
    data = only(said).data
    assert (data.get("condition"), data.get("note")) == (condition, note)


# medicines


def test_in_a_list_the_medicines_of_one_prescriber_are_one_fact() -> None:
    by, other = {"requester": {"display": "見本医師"}}, {"requester": {"display": "架空医院"}}
    said = bundle(
        entry(request(**by)),
        entry(request(**by, id="r2", medicationCodeableConcept={"text": "メトホルミン"})),
        entry(request(**other, id="r3", medicationCodeableConcept={"text": "ロキソプロフェン"})),
        entry(request(**by, id="r4", status="stopped", medicationCodeableConcept={"text": "ワルファリン"})),
        timestamp="2026-06-01T00:00:00Z",
    )
    first, second = read(said).events
    assert [medicine["name"] for medicine in first.data["medications"]] == ["アムロジピン", "メトホルミン"]
    assert first.data["prescriber"] == "見本医師"
    assert first.data["note"] == "ワルファリン: stopped"
    assert second.data["prescriber"] == "架空医院"
    assert first.occurred_at == datetime(2026, 6, 1, tzinfo=UTC)
    assert len(read({**said, "type": "transaction"}).events) == 4


SEARCH = f"{BASE}/MedicationRequest?patient=p1&status=active"


@pytest.mark.parametrize(
    ("links", "facts"),
    [
        ([("self", SEARCH)], 1),
        ([("self", f"{BASE}/MedicationRequest?subject:Patient=p1")], 1),
        ([("self", SEARCH), ("next", f"{BASE}?page=2")], 2),
        ([("self", f"{SEARCH}&_lastUpdated=gt2026-05-01")], 2),
        ([("self", f"{BASE}/MedicationRequest?status=active")], 2),
        ([], 2),
    ],
)
def test_a_search_is_a_list_where_it_asks_for_one_patients_and_is_whole(links: Any, facts: int) -> None:
    said = bundle(entry(request()), entry(request(id="r2")), type="searchset")
    said["link"] = [{"relation": relation, "url": url} for relation, url in links]
    assert len(read(said).events) == facts


@pytest.mark.parametrize(
    ("more", "why"),
    [({"status": "draft"}, "is a draft"), ({"intent": "plan"}, "no order"), ({"intent": "proposal"}, "no order")],
)
def test_a_draft_or_a_plan_is_no_prescription(more: Any, why: str) -> None:
    assert why in (read(request(**more)).nothing or "")


def test_a_medicine_that_must_not_be_given_is_not_in_the_list() -> None:
    data = only(request(doNotPerform=True)).data
    assert data["medications"] == []
    assert "do not give" in data["note"]


def test_the_medicine_may_stand_in_a_resource_of_its_own_and_is_kept_with_it() -> None:
    medicine = {"resourceType": "Medication", "id": "m1", "code": {"text": "アムロジピン"}}
    said = request(medicationCodeableConcept=None, medicationReference={"reference": "Medication/m1"})
    event = only(bundle(entry(medicine), entry(said), type="batch"))
    assert event.data["medications"] == [{"name": "アムロジピン"}]
    kept = json.loads(event.data["original"])
    assert [part["resource"] for part in kept["entry"]] == [said, medicine]
    assert only(kept).data == event.data


# corrections


def ids(said: Any, **options: Any) -> tuple[list[str], list[str]]:
    """The ids of facts, and of what is retracted."""
    events = read(said, **options).events
    return (
        [event.id for event in events if event.kind != "fact.retracted"],
        [event.data["event"] for event in events if event.kind == "fact.retracted"],
    )


def test_a_version_retracts_those_before_it() -> None:
    facts, hidden = ids(observation(meta={"versionId": "3"}))
    assert facts == ["Observation/o1/3"]
    assert hidden == ["Observation/o1/1", "Observation/o1/2"]
    assert len(ids(observation(meta={"versionId": "999999999"}))[1]) == 20


@pytest.mark.parametrize(("number", "more"), [(1, 0), (21, 0), (22, 1), (999_999_999, 1)])
def test_what_was_entered_in_error_is_withdrawn_where_it_has_versions_that_are_not_retracted(
    number: int, more: int
) -> None:
    facts, hidden = ids(observation(status="entered-in-error", meta={"versionId": str(number)}))
    assert len(facts) == more
    assert len(hidden) == min(20, number - 1)


def test_a_measurement_without_its_code_is_retracted_all_the_same() -> None:
    facts, hidden = ids(observation(status="entered-in-error", code=None, meta={"versionId": "999"}))
    assert (facts, len(hidden)) == ([], 20)


def test_of_several_versions_in_a_payload_the_newest_counts_whatever_their_order() -> None:
    versions = [entry(observation(meta={"versionId": str(number)})) for number in (2, 3, 1)]
    for said in (versions, versions[::-1]):
        facts, hidden = ids(bundle(*said, type="history"))
        assert facts == ["Observation/o1/3"]
        assert sorted(hidden) == ["Observation/o1/1", "Observation/o1/2"]


def test_a_measurement_that_was_cancelled_retracts_what_it_said() -> None:
    said = observation(status="cancelled", meta={"versionId": "2"})
    assert ids(said) == ([], ["Observation/o1/1"])


@pytest.mark.parametrize("url", ["Observation/o1", f"{BASE}/Observation/o1", "/Observation/o1"])
def test_a_deletion_is_of_whom_the_payload_says(url: str) -> None:
    known = entry(observation(meta={"versionId": "1"}), f"{BASE}/Observation/o1")
    gone = {"request": {"method": "DELETE", "url": url, "ifMatch": 'W/"2"'}}
    facts, hidden = ids(bundle(gone, known, type="history"))
    assert facts == []
    assert sorted(hidden) == ["Observation/o1/1", "Observation/o1/2"]
    assert "does not say whose it was" in reasons(bundle(gone, type="transaction"))[0]


def test_a_deletion_by_a_search_and_a_patch_are_not_read() -> None:
    gone = {"request": {"method": "DELETE", "url": "Observation?status=final"}}
    patch = entry({"resourceType": "Binary"}, request={"method": "PATCH", "url": "Observation/o1"})
    assert reasons(bundle(gone, patch, type="transaction")) == [
        "is a PATCH; send the whole resource",
        "deletes by a search, which is not read",
    ]


# labels, consents, settings


def test_test_data_is_an_exercise() -> None:
    mark = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}
    assert only(observation(meta=mark)).exercise
    assert only(bundle(entry(observation()), meta=mark)).exercise
    assert not only(observation()).exercise


@pytest.mark.parametrize("code", ["R", "V"])
def test_what_is_labelled_as_restricted_stays_outside_unless_that_is_set(code: str) -> None:
    said = observation(meta={"security": [{"system": CONFIDENTIALITY, "code": code}]})
    assert reasons(bundle(entry(said))) == ["is labelled as restricted: see options.restricted"]
    assert only(said, restricted="take").data["vitals"] == {"temperature_degC": 36.5}


TERMS = b"""
[recipients]
"Organization/city" = "aizu-city"
[purposes]
"ETREAT" = "rescue"
[kinds]
"*" = ["care.*"]
"""


def consent(**more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "Consent",
        "id": "n1",
        "status": "active",
        "patient": {"reference": "Patient/p1"},
        "dateTime": "2026-05-30T09:00:00+09:00",
        "provision": permit(),
    }
    return {**said, **more}


def permit(**more: Any) -> dict[str, Any]:
    actor = {"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": "Organization/city"}}
    return {"type": "permit", "actor": [actor], "purpose": [{"code": "ETREAT"}], **more}


def test_a_permission_asks_the_person() -> None:
    [event] = read(consent(), files={"terms": TERMS}).events
    assert event.kind == "consent.requested"
    assert event.ref == "p1"
    assert {k: v for k, v in event.data.items() if k != "request"} == {
        "recipient": "aizu-city",
        "kinds": ["care.*"],
        "purpose": "rescue",
    }
    [again] = read(consent(meta={"versionId": "7"}), files={"terms": TERMS}).events
    assert again == event


@pytest.mark.parametrize("status", ["draft", "rejected", "inactive", "entered-in-error"])
def test_a_consent_that_is_not_in_force_is_no_grant(status: str) -> None:
    assert "is not in force" in (read(consent(status=status), files={"terms": TERMS}).nothing or "")


@pytest.mark.parametrize(
    "provision",
    [None, {}, permit(type="deny"), {"provision": [permit(type="deny")]}, {"actor": permit()["actor"]}],
)
def test_a_denial_is_no_grant(provision: Any) -> None:
    said = {name: value for name, value in consent(provision=provision).items() if value is not None}
    assert "permits nothing" in (read(said, files={"terms": TERMS}).nothing or "")


@pytest.mark.parametrize(
    ("provision", "reason"),
    [
        (permit(provision=[permit(type="deny")]), "denies a part"),
        ({"provision": [permit(), permit(type="deny", **{"class": [{"code": "Condition"}]})]}, "denies a part"),
        (permit(data=[{"meaning": "related"}]), "narrows the permission"),
        (permit(dataPeriod={"start": "2026-01-01"}), "narrows the permission"),
        (permit(securityLabel=[{"code": "N"}]), "narrows the permission"),
        (permit(actor=[]), "names no actor"),
        (permit(purpose=[]), "names no purpose"),
        (permit(purpose=[{"code": "HMARKT"}]), "has no word in this city"),
        (permit(**{"class": [{"code": "Observation"}]}), "has no word in this city"),
        (permit(period={"end": "2027-03"}), "is no day"),
    ],
)
def test_what_a_request_cannot_say_is_refused(provision: Any, reason: str) -> None:
    found = read(bundle(entry(consent(provision=provision))), files={"terms": TERMS})
    assert not found.events
    assert any(reason in rejected.error.reason for rejected in found.rejected)
    assert found.rejected[0].refs == ("p1",)


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({"nonsense": 1}, {}),
        ({"zone": "Aizu"}, {}),
        ({"observations": "some"}, {}),
        ({"restricted": True}, {}),
        ({"base": 1}, {}),
        ({}, {"terms": b"["}),
        ({}, {"other": b""}),
        ({}, {"terms": b"[nonsense]"}),
        ({}, {"terms": b'[recipients]\n"a" = 1'}),
        ({}, {"terms": b'[kinds]\n"a" = "care"'}),
        ({}, {"terms": b'[purposes]\n"a" = "A B"'}),
        ({}, {"terms": b'[observations]\n"a" = "steps"'}),
    ],
)
def test_a_setting_that_is_wrong_is_told(options: Any, files: Any) -> None:
    with pytest.raises(Misuse):
        FHIR(Settings(options=options, files=files))


# parts


def test_a_part_that_is_refused_can_be_mended_and_translated_alone() -> None:
    person = entry(patient("p1", "77"), f"{BASE}/Patient/p1")
    bad = entry(observation(effectiveDateTime="2026-06-01T09:00:00"), f"{BASE}/Observation/o1")
    good = entry(observation(id="o2"), f"{BASE}/Observation/o2")
    [rejected] = read(bundle(person, bad, good), identifier_system=SYSTEM).rejected
    assert rejected.refs == ("77",)
    assert b"o2" not in rejected.payload
    mended = rejected.payload.replace(b'"2026-06-01T09:00:00"', b'"2026-06-01T09:00:00+09:00"')
    [event] = FHIR(Settings(options={"identifier_system": SYSTEM})).translate(mended).events
    assert (event.ref, event.id) == ("77", read(observation(), base=BASE).events[0].id)


def test_a_mended_medicine_does_not_take_the_place_of_its_list() -> None:
    by = {"requester": {"display": "見本医師"}}
    bad = request(**by, authoredOn="yesterday")
    found = read(bundle(entry(bad), entry(request(**by, id="r2"))))
    mended = found.rejected[0].payload.replace(b"yesterday", b"2026-05-01")
    [event] = FHIR(Settings(options={"base": BASE})).translate(mended).events
    assert (event.data["prescriber"], event.data["record"]) == ("見本医師", "fhir:MedicationRequest/r1")


def test_a_list_of_which_something_could_not_be_read_says_so() -> None:
    allergies = [
        {"resourceType": "AllergyIntolerance", "id": f"a{n}", "patient": {"reference": "Patient/p1"}, **more}
        for n, more in enumerate(({"code": {"text": "そば"}}, {}, {"code": {"text": "卵"}, "recordedDate": "x"}))
    ]
    found = read(bundle(*map(entry, allergies)))
    assert found.events[0].data["allergies"] == ["そば", "could not be read: 2 more"]
    assert found.events[0].data["note"] == "could not be read: 2 more"
    assert len(found.rejected) == 2


def test_a_relative_reference_leads_to_the_server_of_its_own_entry() -> None:
    other = "http://other.example/r4"
    people = [entry(patient("p1", ref), f"{base}/Patient/p1") for base, ref in ((BASE, "77"), (other, "88"))]
    about = [entry(observation(), f"{base}/Observation/o1") for base in (other, BASE)]
    assert refs(bundle(*people, *about, type="batch"), identifier_system=SYSTEM) == ["88", "77"]


def test_an_allergy_that_does_not_hold_any_more_hides_no_list() -> None:
    said = {
        "resourceType": "AllergyIntolerance",
        "id": "a1",
        "meta": {"versionId": "2"},
        "clinicalStatus": {"coding": [{"code": "resolved"}]},
        "code": {"text": "卵"},
        "patient": {"reference": "Patient/p1"},
    }
    assert ids(said) == (["AllergyIntolerance/a1/2"], ["AllergyIntolerance/a1/1"])
    assert lanes(said) == {"fhir:AllergyIntolerance/a1": {"note": "卵 (resolved)"}}
    [event] = read(bundle(entry(said))).events
    assert event.data["allergies"] == []
    assert event.data["note"] == "卵 (resolved)"


def condition(**more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "Condition",
        "id": "c1",
        "code": {"text": "高血圧症"},
        "subject": {"reference": "Patient/p1"},
    }
    return {**said, **more}


def allergy(**more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "AllergyIntolerance",
        "id": "a1",
        "code": {"text": "卵"},
        "patient": {"reference": "Patient/p1"},
    }
    return {**said, **more}


def lanes(said: Any, **options: Any) -> dict[str | None, dict[str, Any]]:
    """What is said of each record, and under "fhir" of the whole."""
    facts = [event.data for event in read(said, **options).events if event.kind != "fact.retracted"]
    aside = ("record", "original", "original_type")
    found = {data.get("record"): {n: value for n, value in data.items() if n not in aside} for data in facts}
    assert len(found) == len(facts)
    return found


def test_each_record_that_is_kept_up_to_date_is_the_newest_of_itself() -> None:
    ended = {"clinicalStatus": {"coding": [{"code": "resolved"}]}}
    by = {"requester": {"display": "見本医師"}}
    said = [
        request(**by),
        request(**by, id="r2", status="stopped"),
        condition(),
        condition(id="c2", **ended),
        allergy(),
    ]
    medicine = {"name": "アムロジピン"}
    assert lanes(bundle(*map(entry, said), type="transaction")) == {
        "fhir:MedicationRequest/r1": {"medications": [medicine], "prescriber": "見本医師"},
        "fhir:MedicationRequest/r2": {"medications": [], "prescriber": "見本医師", "note": "アムロジピン: stopped"},
        "fhir:Condition/c1": {"condition": "高血圧症"},
        "fhir:Condition/c2": {"note": "高血圧症 (resolved)"},
        "fhir:AllergyIntolerance/a1": {"allergies": ["卵"]},
    }
    assert set(lanes(allergy(id=None))) != set(lanes(allergy(id=None, code={"text": "そば"})))


def test_a_whole_list_is_of_the_source_alone() -> None:
    told = read(bundle(*map(entry, (request(), condition(), allergy(), allergy(id="a2"))))).events
    assert [(event.kind, event.data["record"]) for event in told] == [
        ("care.medication_updated", "fhir"),
        ("care.condition_updated", "fhir"),
        ("care.allergy_updated", "fhir"),
    ]


def loinc(*codes: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://loinc.org", "code": code} for code in codes]}


@pytest.mark.parametrize(
    ("more", "lane"),
    [
        ({"id": "o2"}, "fhir:Observation/temperature_degC"),
        ({"id": None}, "fhir:Observation/temperature_degC"),
        ({"code": loinc("8331-1")}, "fhir:Observation/temperature_degC"),
        (
            {"code": {"text": "体温"}, "valueQuantity": None, "valueString": "測れない"},
            "fhir:Observation/temperature_degC",
        ),
        (
            {"code": {"coding": [{"code": "X1"}, *loinc("85354-9")["coding"]]}},
            "fhir:Observation/http://loinc.org|85354-9",
        ),
        ({"code": {"coding": [{"system": "urn:x", "code": "X1"}]}}, "fhir:Observation/urn:x|X1"),
        ({"code": {"text": "意識"}}, "fhir:Observation/意識"),
        ({"code": {"coding": [{}]}}, "fhir:Observation/-"),
        ({"code": {"text": "意" * 90}}, "fhir:Observation/~a77f141849eabce25c61104586afe83b"),
    ],
)
def test_a_measurement_is_the_newest_of_what_it_measures_and_not_of_its_resource(more: Any, lane: str) -> None:
    assert set(lanes(observation(**more), observations="all")) == {lane}


def test_a_measurement_without_another_beside_it_is_the_same_fact_in_a_list() -> None:
    said = [
        observation(),
        observation(id="o2", code={"text": "遺伝子検査"}, valueQuantity=None, valueString="変異あり"),
    ]
    assert read(bundle(*map(entry, said))).events == read(bundle(*map(entry, said), type="batch")).events


def test_a_condition_that_was_alone_in_its_list_is_taken_back_when_it_was_wrong() -> None:
    wrong = {"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
    assert ids(bundle(entry(condition())))[0][0] in ids(condition(**wrong))[1]


def test_no_allergy_known_is_an_empty_list_and_none_of_one_sort_is_not() -> None:
    def snomed(code: str) -> dict[str, Any]:
        return {"coding": [{"system": "http://snomed.info/sct", "code": code, "display": "None"}]}

    assert lanes(allergy(code=snomed("716186003"))) == {"fhir:AllergyIntolerance/a1": {"allergies": []}}
    assert lanes(allergy(code=snomed("409137002"))) == {"fhir:AllergyIntolerance/a1": {"note": "None"}}


def test_versions_that_are_not_counted_retract_one_another_where_they_come_together() -> None:
    old = request(status="active", meta={"lastUpdated": "2026-05-01T00:00:00Z"})
    new = request(status="stopped", meta={"lastUpdated": "2026-05-02T00:00:00Z"})
    [before], [after] = ids(old)[0], ids(new)[0]
    for said in ([entry(old), entry(new)], [entry(new), entry(old)]):
        assert ids(bundle(*said, type="history")) == ([after], [before])


def test_only_who_receives_is_asked_for() -> None:
    keeper = {"role": {"coding": [{"code": "CST"}]}, "reference": {"reference": "Organization/other"}}
    found = read(consent(provision=permit(actor=[keeper, *permit()["actor"]])), files={"terms": TERMS})
    assert [event.data["recipient"] for event in found.events] == ["aizu-city"]
    assert not found.rejected
