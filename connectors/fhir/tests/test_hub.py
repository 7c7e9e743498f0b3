"""FHIR through a real hub: in, granted, read, out as a Bundle, and in again at another hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from hub.connector import Settings
from hub.payloads import Delivery, Taken
from hub_connector_fhir import FHIR
from hub_connector_fhir.view import PERSON

GOLDENS = Path(__file__).parents[1] / "goldens"
SYSTEM = "urn:oid:1.2.392.100495.20.3.51.10711234567"
HANAKO = "00000010"


@pytest.fixture
def city(tmp_path: Path) -> Iterator[Callable[..., Town]]:
    """Makes a town where hanako has granted her care data to the hospital, and is known to the source by a ref."""
    made: list[Town] = []

    def make(name: str, ref: str = HANAKO, data: str = "all") -> Town:
        town = Town(tmp_path / name)
        made.append(town)
        town.hub.init()
        town.tell("person.enrolled", person="hanako", areas=["07202"])
        town.tell("identity.linked", person="hanako", source="fhir", ref=ref)
        town.tell("recipient.registered", recipient="hospital", **{"class": "hospital"}, areas=["*"], purposes=["care"])
        town.tell(
            "consent.granted",
            person="hanako",
            grant=f"g-{name}",
            to={"recipient": "hospital"},
            kinds=["care.*"],
            purposes=["care"],
            modes=["normal"],
            data=data,
        )
        return town

    yield make
    for town in made:
        town.close()


def settings(system: str) -> FHIR:
    return FHIR(Settings(options={"identifier_system": system}))


def take(town: Town, said: Any, connector: FHIR | None = None) -> Taken:
    town.wait()
    payload = said if isinstance(said, bytes) else json.dumps(said).encode()
    return town.hub.payloads.take(Delivery(connector=connector or settings(SYSTEM), payload=payload, via="test"))


def seen(town: Town, **asked: Any) -> list[dict[str, Any]]:
    persons = json.loads(town.read("hospital", "care", **asked).body)["persons"]
    return persons[0]["items"] if persons else []


def told(town: Town, **asked: Any) -> list[Any]:
    """What is said of hanako, whoever asks, whenever it was recorded."""
    return sorted(
        ([item["kind"], item["event"], item["occurred_at"], item["data"]] for item in seen(town, **asked)), key=str
    )


def golden(name: str) -> bytes:
    return (GOLDENS / name).read_bytes()


def observation(**more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
        "subject": {"identifier": {"system": SYSTEM, "value": HANAKO}},
        "effectiveDateTime": "2026-05-31T09:00:00+09:00",
        "valueQuantity": {"value": 37.5, "system": "http://unitsofmeasure.org", "code": "Cel"},
    }
    return {**said, **more}


def request(**more: Any) -> dict[str, Any]:
    said = {
        "resourceType": "MedicationRequest",
        "id": "r1",
        "status": "active",
        "intent": "order",
        "subject": {"identifier": {"system": SYSTEM, "value": HANAKO}},
        "medicationCodeableConcept": {"text": "アムロジピン"},
        "authoredOn": "2026-05-01",
    }
    return {**said, **more}


def allergy(id_: str, name: str, **more: Any) -> dict[str, Any]:
    patient = {"identifier": {"system": SYSTEM, "value": HANAKO}}
    return {"resourceType": "AllergyIntolerance", "id": id_, "patient": patient, "code": {"text": name}, **more}


def bundle(type_: str, *resources: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": type_, "entry": [{"resource": each} for each in resources], **more}


def version(number: int, **more: Any) -> dict[str, Any]:
    return {"meta": {"versionId": str(number)}, **more}


@pytest.mark.parametrize("history", [False, True], ids=["newest", "history"])
def test_a_view_as_a_bundle_gives_the_same_facts_at_another_hub(city: Callable[..., Town], history: bool) -> None:
    here, there = city("here"), city("there", ref="hanako")
    for name in ("01-document.json", "02-transaction.json", "07-statement.json", "09-several.json"):
        take(here, golden(name))
    out = settings(SYSTEM).render(
        json.loads(here.read("hospital", "care", history=history).body), "application/fhir+json"
    )
    taken = take(there, out, settings(PERSON))
    assert not taken.refused
    assert len(told(here, history=history)) > 4
    assert told(there, history=True) == told(here, history=history)


def test_what_was_entered_in_error_is_not_seen_any_more(city: Callable[..., Town]) -> None:
    town = city("town")
    for said in (observation(), observation(**version(1, id="o2")), request(), allergy("a1", "そば")):
        take(town, said)
    assert len(seen(town, history=True)) == 4
    wrong = {"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
    for said in (
        observation(status="entered-in-error"),
        observation(**version(2, id="o2", status="entered-in-error")),
        request(status="entered-in-error"),
        allergy("a1", "そば", **wrong),
    ):
        assert not take(town, said).refused
    assert seen(town, history=True) == []


def error(number: int, **more: Any) -> dict[str, Any]:
    """What makes a version of a measurement or a medicine one that never held."""
    return {"meta": {"versionId": str(number), "lastUpdated": "2026-06-01T09:00:00+09:00"}, **more}


WRONG = {"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
BEFORE = {"lastUpdated": "2026-05-30T09:00:00+09:00"}
FAR = {
    "measurement": (
        observation(**version(3), valueQuantity={"value": 47.5, "unit": "Cel"}),
        observation(**error(48211), status="entered-in-error"),
    ),
    "medicine": (request(**version(3)), request(**error(48211), status="entered-in-error")),
    "allergy": (allergy("a1", "そば", meta=BEFORE | {"versionId": "3"}), allergy("a1", "粉", **error(48211), **WRONG)),
    "allergy of versions that are not counted": (
        allergy("a1", "そば", meta=BEFORE),
        allergy("a1", "そば粉", meta={"lastUpdated": "2026-06-01T09:00:00+09:00"}, **WRONG),
    ),
}


@pytest.mark.parametrize("name", FAR)
def test_of_what_was_entered_in_error_many_versions_later_the_latest_says_nothing(
    city: Callable[..., Town], name: str
) -> None:
    said, wrong = FAR[name]
    for number, order in enumerate(((said, wrong), (wrong, said), (said, wrong, said, wrong))):
        town = city(f"town{number}")
        for one in order:
            assert not take(town, one).refused
        [item] = seen(town)
        assert item["data"]["note"] == "entered-in-error"
        assert not item["data"].get("medications")
        assert not item["data"].keys() & {"vitals", "condition", "allergies", "original"}


def test_what_is_measured_after_what_was_entered_in_error_is_the_latest(city: Callable[..., Town]) -> None:
    town = city("town")
    said, wrong = FAR["measurement"]
    after = observation(id="o2", effectiveDateTime="2026-05-31T09:00:01+09:00")
    for one in (said, after, wrong):
        take(town, one)
    assert [item["data"]["vitals"] for item in seen(town)] == [{"temperature_degC": 37.5}]


def test_a_version_after_what_was_entered_in_error_takes_its_place(city: Callable[..., Town]) -> None:
    """The oldest first: a measurement of the same time that no later version names is the newest that came."""
    said, wrong = FAR["measurement"]
    for number, order in enumerate(permutations((wrong, observation(**error(48212))))):
        town = city(f"town{number}")
        for one in (said, *order):
            take(town, one)
        assert [item["data"].get("vitals") for item in seen(town)] == [{"temperature_degC": 37.5}]


def test_a_deletion_many_versions_later_leaves_nothing_in_the_latest(city: Callable[..., Town]) -> None:
    town = city("town")
    take(town, observation(**version(3)))
    gone = {"request": {"method": "DELETE", "url": "Observation/o1"}, "response": {"status": "204", "etag": 'W/"900"'}}
    history = bundle("history", observation(**version(880)))
    history["entry"].append(gone)
    assert not take(town, history).refused
    assert [item["data"] for item in seen(town)] == [
        {"note": "entered-in-error", "record": "fhir:Observation/temperature_degC"}
    ]


def test_a_correction_that_arrives_first_holds(city: Callable[..., Town]) -> None:
    values = {1: 47.5, 2: 37.5, 3: 37.6}
    said = [observation(**version(n), valueQuantity={"value": v, "unit": "Cel"}) for n, v in values.items()]
    for number, order in enumerate(permutations(said)):
        town = city(f"town{number}")
        for one in [*order, *order]:
            take(town, one)
        assert [item["data"]["vitals"] for item in seen(town, history=True)] == [{"temperature_degC": 37.6}]


def test_a_record_of_one_prescriber_does_not_hide_another(city: Callable[..., Town]) -> None:
    town = city("town")
    by = {"requester": {"display": "見本医師"}}
    take(town, request(**by))
    take(town, request(**by, id="r2", medicationCodeableConcept={"text": "メトホルミン"}))
    names = [item["data"]["medications"][0]["name"] for item in seen(town)]
    assert sorted(names) == ["アムロジピン", "メトホルミン"]
    take(town, request(**by, **version(2), status="stopped"))
    listed = {item["data"]["record"]: item["data"]["medications"] for item in seen(town)}
    assert listed["fhir:MedicationRequest/r1"] == []
    assert len(listed["fhir:MedicationRequest/r2"]) == 1
    assert {item["data"]["prescriber"] for item in seen(town)} == {"見本医師"}


def test_a_newer_list_takes_the_place_of_the_older_one(city: Callable[..., Town]) -> None:
    town = city("town")
    soba, egg = allergy("a1", "そば"), allergy("a2", "卵")
    take(town, bundle("collection", soba, egg, timestamp="2026-05-02T00:00:00Z"))
    take(town, bundle("collection", egg, timestamp="2026-05-03T00:00:00Z"))
    take(town, bundle("collection", soba, egg, allergy("a3", "えび"), timestamp="2026-05-01T00:00:00Z"))
    assert [item["data"]["allergies"] for item in seen(town)] == [["卵"]]


def latest(town: Town) -> list[tuple[Any, ...]]:
    """What is shown of hanako, each with the record that it is of."""
    names = ("allergies", "condition", "vitals", "note")
    return sorted(
        (item["data"].get("record", ""), *(item["data"][name] for name in names if name in item["data"]))
        for item in seen(town)
    )


def test_who_may_see_the_latest_sees_the_whole_list_and_each_allergy_that_came_later(city: Callable[..., Town]) -> None:
    town = city("town", data="latest")
    soba, egg = allergy("a1", "そば"), allergy("a2", "卵")
    take(town, bundle("collection", soba, egg, timestamp="2026-05-02T00:00:00Z"))
    take(town, allergy("a3", "えび", recordedDate="2026-05-03"))
    assert latest(town) == [("fhir", ["そば", "卵"]), ("fhir:AllergyIntolerance/a3", ["えび"])]
    resolved = {"clinicalStatus": {"coding": [{"code": "resolved"}]}}
    take(town, allergy("a3", "えび", recordedDate="2026-05-04", **resolved))
    assert latest(town) == [("fhir", ["そば", "卵"]), ("fhir:AllergyIntolerance/a3", "えび (resolved)")]
    take(town, bundle("collection", egg, timestamp="2026-05-05T00:00:00Z"))
    assert latest(town) == [("fhir", ["卵"]), ("fhir:AllergyIntolerance/a3", "えび (resolved)")]


def test_a_familys_empty_list_does_not_hide_the_hospitals_allergies(city: Callable[..., Town]) -> None:
    careyell = pytest.importorskip("hub_connector_careyell", reason="needs the connector careyell beside this one")
    town = city("town", data="latest")
    town.tell("identity.linked", person="hanako", source="careyell", ref="cy-1")
    take(town, bundle("collection", allergy("a1", "そば"), timestamp="2026-05-02T00:00:00Z"))
    update = {
        "id": "u1",
        "revision": 1,
        "type": "allergies",
        "person": "cy-1",
        "observed_at": "2026-05-03T00:00:00Z",
        "written_at": "2026-05-03T00:00:00Z",
        "author": {"role": "family"},
        "allergies": {"allergies": []},
    }
    page = {"format": "careyell/1", "sent_at": "2026-05-03T00:00:00Z", "updates": [update]}
    assert [result.status for result in take(town, page, careyell.Careyell()).results] == ["accepted"]
    assert latest(town) == [("careyell", [], "記入: 家族"), ("fhir", ["そば"])]


def test_who_may_see_the_latest_sees_one_of_twenty_temperatures_and_what_else_is_known(
    city: Callable[..., Town],
) -> None:
    town = city("town", data="latest")
    patient = {"identifier": {"system": SYSTEM, "value": HANAKO}}
    ill = {"resourceType": "Condition", "id": "c1", "code": {"text": "発熱"}, "subject": patient}
    take(town, {**ill, "recordedDate": "2026-05-01"})
    pulse = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    beats = {"value": 72, "unit": "/min"}
    take(town, observation(id="p1", code=pulse, valueQuantity=beats, effectiveDateTime="2026-05-02T08:00:00Z"))
    measured = [
        observation(
            id=f"o{hour}",
            effectiveDateTime=f"2026-05-03T{hour:02}:00:00Z",
            valueQuantity={"value": 36 + hour / 10, "unit": "Cel"},
        )
        for hour in range(20)
    ]
    take(town, bundle("transaction", *measured[10:]))
    for one in measured[:10]:
        take(town, one)
    newest = [
        ("fhir:Condition/c1", "発熱"),
        ("fhir:Observation/pulse_bpm", {"pulse_bpm": 72.0}),
        ("fhir:Observation/temperature_degC", {"temperature_degC": 37.9}),
    ]
    assert latest(town) == newest
    over = {"clinicalStatus": {"coding": [{"code": "inactive"}]}}
    take(town, {**ill, **over, "recordedDate": "2026-05-04"})
    assert latest(town) == [("fhir:Condition/c1", "発熱 (inactive)"), *newest[1:]]


def test_what_was_mapped_comes_back_as_the_whole_that_it_was(city: Callable[..., Town]) -> None:
    here, there = city("here"), city("there", ref="hanako")
    for day, names in enumerate((["そば", "卵"], ["卵"]), 1):
        here.wait()
        here.tell("care.allergy_updated", person="hanako", allergies=names, note=f"{day}日に家族から")
        out = settings(SYSTEM).render(json.loads(here.read("hospital", "care").body), "application/fhir+json")
        assert not take(there, out, settings(PERSON)).refused
        assert [item["data"]["allergies"] for item in seen(there)] == [names]


def test_a_list_without_what_was_wrong_takes_the_place_of_the_one_with_it(city: Callable[..., Town]) -> None:
    town = city("town")
    soba, egg = allergy("a1", "そば"), allergy("a2", "卵", recordedDate="2026-05-01")
    take(town, bundle("collection", soba, egg))
    wrong = {"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
    take(town, bundle("collection", soba, {**egg, **wrong}))
    assert [item["data"]["allergies"] for item in seen(town, history=True)] == [["そば"]]


def test_a_prescription_that_goes_on_after_a_pause_is_seen_again(city: Callable[..., Town]) -> None:
    town = city("town")
    for day, status in enumerate(("active", "on-hold", "active"), 1):
        take(town, request(status=status, meta={"lastUpdated": f"2026-05-0{day}T00:00:00Z"}))
    assert [len(item["data"]["medications"]) for item in seen(town)] == [1]
    take(town, request(status="entered-in-error", meta={"lastUpdated": "2026-05-04T00:00:00Z"}))
    assert [item["data"]["medications"] for item in seen(town)] == [[]]


def test_a_deletion_in_a_history_hides_what_was_taken_before(city: Callable[..., Town]) -> None:
    town = city("town")
    first = observation(**version(1, id="o5"))
    take(town, first)
    deleted = {"request": {"method": "DELETE", "url": "Observation/o5"}, "response": {"etag": 'W/"2"'}}
    take(town, {"resourceType": "Bundle", "type": "history", "entry": [deleted, {"resource": first}]})
    assert seen(town, history=True) == []


def test_a_consent_waits_for_the_person_and_grants_nothing(city: Callable[..., Town]) -> None:
    town = city("town")
    terms = (GOLDENS / ".terms.toml").read_bytes()
    connector = FHIR(Settings(options={"identifier_system": SYSTEM}, files={"terms": terms}))
    taken = take(town, golden("05-consent.json"), connector)
    assert [result.status for result in taken.results] == ["accepted", "accepted"]
    again = take(town, golden("05-consent.json"), connector)
    assert [result.status for result in again.results] == ["duplicate", "duplicate"]
