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


def safety(rev: int, user: str, **more: Any) -> bytes:
    said = {"type": "safety", "id": "r0", "rev": rev, "user": user, "at": time(rev), "status": "safe", **more}
    return json.dumps({"format": "myhazard/1", "records": [said]}).encode()


def household(rev: int, *members: str, **more: Any) -> bytes:
    named = [{"user": user, "profile": {"name": user}} for user in members]
    said = {"type": "household", "id": "h0", "rev": rev, "user": "u-1", "at": time(rev), "members": named, **more}
    return json.dumps({"format": "myhazard/1", "records": [said | {"address": "追手町1-1"}]}).encode()


@pytest.mark.parametrize("late", [False, True])
def test_what_was_said_of_the_wrong_person_is_taken_back_from_them(tmp_path: Path, late: bool) -> None:
    told = [safety(1, "u-2"), safety(2, "u-1", voids=[1], former_users=["u-2"])]
    told += [household(1, "u-1", "u-2"), household(2, "u-1", voids=[1], former_users=["u-1", "u-2"])]
    seen = {(who, event) for who, event, *_ in map(json.loads, shown(tmp_path, told[::-1] if late else told))}
    assert {who for who, _ in seen} == {"p0"}
    assert {event.split(":")[1] for _, event in seen} == {"2"}


def test_former_users_are_for_records_with_voids() -> None:
    [rejected] = MyHazard().translate(safety(2, "u-1", former_users=["u-2"])).rejected
    assert (rejected.error.path, rejected.refs) == ("records[0].former_users", ("u-1", "u-2"))


def test_a_location_is_taken_back_from_who_had_the_phone_before() -> None:
    fix = {"type": "location", "id": "l0", "device": "d", "n": 7, "at": time(1), "lat": 37.49, "lon": 139.93}
    fix |= {"accuracy": 8.5}
    pages = [{**fix, "rev": 1, "user": "u-2"}, {**fix, "rev": 2, "user": "u-1", "voids": [1], "former_users": ["u-2"]}]
    said = known([json.dumps({"format": "myhazard/1", "records": pages}).encode()])
    [first] = [event.id for event in said.values() if event.kind != "fact.retracted" and event.ref == "u-2"]
    assert first in {event.data["event"] for event in said.values() if event.ref == "u-2" and event.id != first}
