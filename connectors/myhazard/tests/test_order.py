"""Whatever the order of the app's pages and however often they come, the same is known in the end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from conftest import Town
from hub.connector import Event
from hub_connector_myhazard import MyHazard

USERS = ("u-1", "u-2", "u-3")
NOON = datetime(2026, 6, 1, 3, tzinfo=UTC)


def time(minute: int) -> str:
    return (NOON + timedelta(minutes=minute)).isoformat()


@st.composite
def stories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What the app has to tell: records in several revisions, corrections, fixes alone and in bundles that overlap."""
    told: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 6))):
        user, drill = draw(st.sampled_from(USERS)), draw(st.booleans())
        said = draw(st.sampled_from(["safety", "evacuation", "transport"]))
        status = {"safety": ["safe", "trapped"], "evacuation": ["home", "in_car"], "transport": ["requested"]}[said]
        for rev in range(1, draw(st.integers(1, 4)) + 1):
            voids = draw(st.lists(st.integers(1, rev - 1), max_size=3)) if rev > 1 else []
            told.append(
                {"type": said, "id": f"r{number}", "rev": rev, "user": user, "at": time(number * 10 + rev)}
                | {"status": draw(st.sampled_from(status)), "drill": drill}
                | ({"voids": voids} if voids else {})
            )
    for number in range(draw(st.integers(0, 4))):
        device = draw(st.sampled_from("de"))
        first, last = draw(st.integers(0, 9)), draw(st.integers(0, 9))
        told.append(
            {"type": "location_bundle", "id": f"b{number}", "rev": 1, "user": f"u-{device}", "device": device}
            | {"fixes": [_fix(device, n) for n in range(first, last + 1)]}
        )
        n, t, lat, lon, accuracy = _fix(device, first)
        at = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=t)).isoformat()
        told.append(
            {"type": "location", "id": f"l{number}", "rev": 1, "user": f"u-{device}", "device": device}
            | {"n": n, "at": at, "lat": lat, "lon": lon, "accuracy": accuracy}
        )
    if draw(st.booleans()):
        of: list[dict[str, Any]] = [
            {"type": "safety", "id": "r0", "revs": [1, 2]},
            {"type": "location", "device": "d", "n": [1, 4]},
        ]
        told.append({"type": "deletion", "id": "x", "rev": 1, "user": "u-1", "at": time(99), "of": of})
    return told


def _fix(device: str, n: int) -> list[Any]:
    return [n, 1_780_272_000_000 + 5_000 * n, round(37.49 + n / 1_000, 4), 139.93 if device == "d" else 139.94, 8.5]


@st.composite
def pages(draw: st.DrawFn, told: list[dict[str, Any]]) -> list[bytes]:
    """All that is told, some of it several times, in any order, on pages of any size."""
    again = draw(st.lists(st.sampled_from(told), max_size=10))
    order = draw(st.permutations([*told, *again]))
    cut = draw(st.integers(1, len(order)))
    return [
        json.dumps({"format": "myhazard/1", "records": order[at : at + cut]}).encode()
        for at in range(0, len(order), cut)
    ]


def known(payloads: list[bytes]) -> dict[str, Event]:
    """Every event by its id. One id never says two things."""
    found: dict[str, Event] = {}
    for payload in payloads:
        said = MyHazard().translate(payload)
        assert not said.rejected, [str(part.error) for part in said.rejected]
        for event in said.events:
            assert found.setdefault(event.id, event) == event
    return found


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_order_and_repetition_of_pages_gives_the_same_events(data: st.DataObject) -> None:
    told = data.draw(stories())
    in_order = known([json.dumps({"format": "myhazard/1", "records": [one]}).encode() for one in told])
    assert known(data.draw(pages(told))) == in_order


def shown(folder: Path, payloads: list[bytes]) -> set[str]:
    """What a recipient who may see everything is shown, by a hub that took these in: what no retraction hides."""
    town = Town(folder)
    try:
        town.hub.init()
        town.clock.set(NOON + timedelta(hours=3))
        town.tell(
            "recipient.registered", recipient="aizu-city", **{"class": "municipality"}, areas=["*"], purposes=["rescue"]
        )
        for number, ref in enumerate((*USERS, "u-d", "u-e")):
            town.tell("person.enrolled", person=f"p{number}", areas=["07202"])
            town.tell("identity.linked", person=f"p{number}", source="myhazard", ref=ref)
            whole = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"], "data": "all"}
            to = {"recipient": "aizu-city"}
            town.tell("consent.granted", person=f"p{number}", grant=f"g{number}", to=to, **whole)
        for payload in payloads:
            results = town.hub.intake.take(MyHazard().translate(payload).events)
            assert {result.status for result in results} <= {"accepted", "duplicate"}
        answer = json.loads(town.read("aizu-city", "rescue", history=True).body)
        return {
            json.dumps([person["person"], item["event"], item["kind"], item["occurred_at"], item["data"]])
            for person in answer["persons"]
            for item in person["items"]
        }
    finally:
        town.close()


@settings(max_examples=4, deadline=None, phases=[Phase.generate])
@given(data=st.data())
def test_a_hub_shows_the_same_after_any_order(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    told = data.draw(stories())
    first, second = data.draw(pages(told)), data.draw(pages(told))
    one, other = (shown(tmp_path_factory.mktemp("hub"), payloads) for payloads in (first, second))
    assert one == other
    said = known(first)
    takings = {(event.ref, event.data["event"]) for event in said.values() if event.kind == "fact.retracted"}
    facts = {event.id for event in said.values() if event.kind != "fact.retracted" and not event.exercise}
    taken_back = {name for ref, name in takings if name in said and said[name].ref == ref}
    assert {json.loads(item)[1] for item in one} == facts - taken_back, "only one's own facts can be taken back"
