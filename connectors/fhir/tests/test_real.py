"""HL7's own R4 examples and those of JP Core: each gives events or a reason, and is kept without loss."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hub.connector import PayloadError, Settings, Translation
from hub.schemas import packaged
from hub_connector_fhir import FHIR

DATA = Path(__file__).parents[4] / "shared" / "data" / "3-fhir"
FILES = sorted(path for path in DATA.glob("*/*.json") if "package" not in path.name)
TYPE = "application/fhir+json"
FACTS = ("MedicationRequest", "MedicationStatement", "Observation", "Condition", "AllergyIntolerance")

pytestmark = pytest.mark.skipif(not FILES, reason=f"HL7's and JP Core's examples are not at {DATA}")

BASE = "http://fhir.example"
CONNECTOR = FHIR(Settings(options={"base": BASE}))

_spec = importlib.util.spec_from_file_location("fhir_judge", Path(__file__).parent / "judge.py")
assert _spec is not None
assert _spec.loader is not None
judge = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(judge)


def exact(text: str | bytes) -> Any:
    """JSON with the digits of its numbers: 1.0 and 1.00 differ."""
    return json.loads(text, parse_float=lambda digits: ("number", digits), parse_int=lambda digits: ("number", digits))


@cache
def outcome(path: Path) -> Translation | PayloadError:
    try:
        return CONNECTOR.translate(path.read_bytes())
    except PayloadError as error:
        return error


def translations() -> list[tuple[Path, Translation]]:
    return [(path, found) for path in FILES if isinstance(found := outcome(path), Translation)]


def test_every_file_gives_events_or_a_reason() -> None:
    kinds = packaged()
    for path in FILES:
        found = outcome(path)
        if isinstance(found, PayloadError):
            assert found.path, path.name
            continue
        assert found.events or found.nothing or found.rejected, path.name
        for event in found.events:
            kind = kinds.newest(event.kind)
            assert kind is not None
            kind.encode(event.data)


def test_what_is_refused_is_what_names_nobody_with_an_id() -> None:
    refused = {path.name: str(found) for path in FILES if isinstance(found := outcome(path), PayloadError)}
    assert sorted(refused) == ["Observation-10minute-apgar-score.json", "Observation-1minute-apgar-score.json"]
    assert all("without an id of its own" in reason for reason in refused.values())


def test_resources_of_facts_are_read_but_for_what_is_no_vital_sign() -> None:
    """How many of each type give a fact; the rest have a reason, counted in the test above."""
    counted: dict[str, list[int]] = {}
    for path, found in translations():
        type_ = json.loads(path.read_bytes())["resourceType"]
        if type_ in FACTS:
            both = counted.setdefault(type_, [0, 0])
            both[0] += bool(found.events)
            both[1] += 1
    assert counted == {
        "AllergyIntolerance": [4, 4],
        "Condition": [6, 6],
        "MedicationRequest": [25, 25],
        "MedicationStatement": [3, 3],
        "Observation": [11, 32],
    }


def test_the_original_can_be_kept_value_for_value() -> None:
    seen = 0
    for path, _ in translations():
        for event in FHIR(Settings(options={"base": BASE, "original": "whole"})).translate(path.read_bytes()).events:
            original = exact(event.data["original"])
            assert event.data["original_type"] == f"{TYPE}; fhirVersion=4.0"
            assert original == exact(path.read_bytes()), path.name
            seen += 1
    assert seen > 40


def test_what_is_kept_of_a_resource_is_all_of_it_but_what_names_persons() -> None:
    """What else is gone is told by its key: nothing of an amount, a code, a time or a status."""
    gone: set[str] = set()
    for path, found in translations():
        for event in found.events:
            gone |= set(_gone(exact(path.read_bytes()), exact(event.data["original"]), path.name))
    assert gone <= {"text", "display", "recorder", "asserter", "performer", "requester", "name", "gender", "birthDate"}


def _gone(before: Any, after: Any, where: str) -> Iterator[str]:
    if isinstance(before, dict):
        for name, part in before.items():
            if name not in after:
                yield name
            elif name == "extension":
                assert [part for part in after[name] if part["url"] != "urn:saigai-hub:fhir:prescriber"] == part
            else:
                yield from _gone(part, after[name], where)
    elif isinstance(before, list):
        for one, other in zip(before, after, strict=True):
            yield from _gone(one, other, where)
    else:
        assert before == after, where


def test_digits_are_kept_that_a_double_does_not_have() -> None:
    path = DATA / "hl7-r4-examples" / "Observation-body-height.json"
    text = path.read_text().replace("66.899999999999991", "66.900000000000000000001")
    assert text != path.read_text()
    [event] = CONNECTOR.translate(text.encode()).events
    value = json.loads(event.data["original"], parse_float=Decimal)["valueQuantity"]["value"]
    assert value == Decimal("66.900000000000000000001")
    assert event.data["vitals"] == {"height_cm": 169.93}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_gives_a_fact_goes_out_and_comes_back_as_it_was(path: Path) -> None:
    found = outcome(path)
    if isinstance(found, PayloadError) or not any("original" in event.data for event in found.events):
        return
    items = [
        {
            "event": event.id,
            "source": event.source,
            "kind": event.kind,
            "occurred_at": "2026-06-01T00:00:00.000000Z",
            "recorded_at": "2026-06-01T00:00:00.000000Z",
            "precision": "full",
            "basis": {"grant": "g1"},
            "data": event.data,
        }
        for event in found.events
        if "original" in event.data
    ]
    answer = {
        "format": "view/1",
        "recipient": "hospital",
        "purpose": "care",
        "exercise": False,
        "time": "2026-06-01T00:00:00.000000Z",
        "persons": [{"person": "hanako", "mode": "normal", "items": items}],
        "next": None,
    }
    out = CONNECTOR.render(answer, TYPE)
    judge.looked_over(out)
    again = CONNECTOR.translate(out)
    assert not again.rejected
    before = [(e.id, e.kind, e.occurred_at, e.data) for e in found.events if "original" in e.data]
    assert [(e.id, e.kind, e.occurred_at, e.data) for e in again.events if "original" in e.data] == before


def test_entered_in_error_retracts_what_each_of_them_gave() -> None:
    for path, found in translations():
        said = json.loads(path.read_bytes())
        if said["resourceType"] not in FACTS or not found.events:
            continue
        wrong = {"coding": [{"code": "entered-in-error"}]}
        if said["resourceType"] in ("Condition", "AllergyIntolerance"):
            said["verificationStatus"] = wrong
            said.pop("clinicalStatus", None)
        else:
            said["status"] = "entered-in-error"
        hidden = {event.data["event"] for event in CONNECTOR.translate(json.dumps(said).encode()).events}
        assert {event.id for event in found.events} <= hidden, path.name
