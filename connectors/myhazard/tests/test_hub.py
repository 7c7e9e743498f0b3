"""What a recipient who may see the latest is shown of the app's records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from hub_connector_myhazard import MyHazard


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    town.hub.init()
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("identity.linked", person="hanako", source="myhazard", ref="u-1")
    town.tell(
        "recipient.registered", recipient="aizu-city", **{"class": "municipality"}, areas=["*"], purposes=["rescue"]
    )
    whole = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"], "data": "latest"}
    town.tell("consent.granted", person="hanako", grant="g1", to={"recipient": "aizu-city"}, **whole)
    yield town
    town.close()


def request(id: str, rev: int, minute: int, **more: Any) -> dict[str, Any]:
    at = f"2026-05-31T09:{minute:02}:00+09:00"
    return {"type": "transport", "id": id, "rev": rev, "user": "u-1", "at": at, "status": "requested"} | more


def take(town: Town, *records: dict[str, Any]) -> None:
    town.wait()
    payload = json.dumps({"format": "myhazard/1", "records": records}).encode()
    results = town.hub.intake.take(MyHazard().translate(payload).events)
    assert {result.status for result in results} == {"accepted"}


def shown(town: Town) -> list[tuple[str, str]]:
    persons = json.loads(town.read("aizu-city", "rescue").body)["persons"]
    items = persons[0]["items"] if persons else []
    return sorted((item["data"]["request"], item["data"]["to"]) for item in items)


def test_open_requests_of_a_person_stand_side_by_side_each_as_it_is_now_until_it_is_cancelled(town: Town) -> None:
    take(town, request("t1", 1, 1, to="竹田綜合病院"), request("t2", 1, 2, to="鶴城小学校"))
    assert shown(town) == [("t1", "竹田綜合病院"), ("t2", "鶴城小学校")]
    take(town, request("t1", 2, 3, to="会津中央病院"))
    assert shown(town) == [("t1", "会津中央病院"), ("t2", "鶴城小学校")]
    take(town, request("t1", 3, 4, status="cancelled", voids=[1, 2]))
    assert shown(town) == [("t2", "鶴城小学校")]
