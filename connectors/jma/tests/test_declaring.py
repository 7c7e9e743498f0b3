"""What JMA's telegrams do to a real hub by the policy that ships: who comes into an emergency, and when it is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from conftest import Town
from hub_connector_jma import JMA

GOLDENS = Path(__file__).parents[1] / "goldens"
HOMES = {
    "namie": "07547",
    "shinchi": "07561",
    "ishinomaki": "04202",
    "hitachi": "08202",
    "aizu": "07202",
    "azuma": "07201",
}
"""By the person's name: the municipality. The first two lie on the coast of Fukushima, the last two inland."""


@pytest.fixture
def coast(tmp_path: Path) -> Iterator[Town]:
    """Everyone shows the city their answers in an emergency, and in nothing else."""
    town = Town(tmp_path)
    town.hub.init()
    areas = sorted(HOMES.values())
    town.tell("recipient.registered", recipient="city", **{"class": "municipality"}, areas=areas, purposes=["rescue"])
    for person, area in HOMES.items():
        town.tell("person.enrolled", person=person, areas=[area])
        terms = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["emergency"], "data": "all"}
        town.tell("consent.granted", person=person, grant=f"g-{person}", to={"recipient": "city"}, **terms)
        town.tell("safety.answered", person=person, status="need_help")
    yield town
    town.close()


def hears(town: Town, *names: str) -> None:
    """The hub takes in these goldens, each at its own report's time or later."""
    for name in names:
        translation = JMA().translate((GOLDENS / f"{name}.xml").read_bytes())
        assert translation.reported_at is not None
        town.clock.set(max(town.now, translation.reported_at))
        for result in town.hub.intake.take(translation.events):
            assert result.status in ("accepted", "duplicate"), result.error


def in_an_emergency(town: Town) -> set[str]:
    """Whom the city sees now, by name; all of them in mode emergency."""
    persons = json.loads(town.read("city", "rescue").body)["persons"]
    assert {person["mode"] for person in persons} <= {"emergency"}
    return {person["person"] for person in persons}


def states(town: Town) -> dict[str, str]:
    return {one["emergency"]: one["state"] for one in town.hub.audit.emergencies(town.now)}


def test_a_tsunami_warning_reaches_those_on_its_coasts_and_nobody_inland(coast: Town) -> None:
    hears(coast, "09-tsunami-major")
    assert in_an_emergency(coast) == {"namie", "shinchi", "ishinomaki"}


def test_an_advisory_is_recorded_only(coast: Town) -> None:
    hears(coast, "07-tsunami")
    assert in_an_emergency(coast) == set()
    assert states(coast) == {}


def test_a_switch_takes_out_the_coast_that_has_an_advisory_now(coast: Town) -> None:
    hears(coast, "09-tsunami-major", "10-tsunami-switched")
    assert in_an_emergency(coast) == {"namie", "shinchi"}


def test_the_end_of_the_warnings_ends_the_emergency(coast: Town) -> None:
    hears(coast, "09-tsunami-major", "10-tsunami-switched", "11-tsunami-lifted")
    assert in_an_emergency(coast) == set()
    assert states(coast) == {"tsunami:jma:20260604140030": "ended"}


def test_a_cancellation_ends_it_at_once(coast: Town) -> None:
    hears(coast, "09-tsunami-major", "12-tsunami-cancelled")
    assert in_an_emergency(coast) == set()


def test_a_drill_of_a_tsunami_declares_nothing(coast: Town) -> None:
    hears(coast, "13-tsunami-drill")
    assert in_an_emergency(coast) == set()
    assert states(coast) == {}


def test_a_tsunami_of_two_earthquakes_stands_for_each_until_both_are_over(coast: Town) -> None:
    hears(coast, "09-tsunami-major", "14-tsunami-of-two-quakes")
    assert states(coast) == {"tsunami:jma:20260604140030": "active", "tsunami:jma:20260604143510": "active"}
    assert in_an_emergency(coast) == {"namie", "shinchi", "ishinomaki"}


@pytest.mark.parametrize(
    "order", [*permutations(("09-tsunami-major", "10-tsunami-switched", "14-tsunami-of-two-quakes"))]
)
def test_tsunami_reports_may_come_in_any_order_and_twice(coast: Town, order: tuple[str, ...]) -> None:
    hears(coast, *order, *order)
    assert in_an_emergency(coast) == {"namie", "shinchi", "ishinomaki"}


def test_an_earthquake_and_its_tsunami_are_two_emergencies_of_one_event_id(coast: Town) -> None:
    hears(coast, "02-full", "07-tsunami")
    assert states(coast) == {"earthquake:jma:20260602090012": "active"}
    assert in_an_emergency(coast) == {"aizu"}


def test_alert_level_3_waits_for_an_officer(coast: Town) -> None:
    hears(coast, "15-volcano-3")
    assert states(coast) == {"volcano:jma:213": "proposed"}
    assert in_an_emergency(coast) == set()


def test_alert_level_5_declares_for_the_municipalities_that_are_listed(coast: Town) -> None:
    hears(coast, "15-volcano-3", "18-eruption", "16-volcano-5")
    assert states(coast) == {"volcano:jma:213": "active"}
    assert in_an_emergency(coast) == {"azuma"}


def test_a_flash_report_of_an_eruption_is_recorded_only(coast: Town) -> None:
    hears(coast, "18-eruption")
    assert states(coast) == {}


@pytest.mark.parametrize("order", [*permutations(("15-volcano-3", "16-volcano-5", "17-volcano-lifted"))])
def test_a_volcano_that_calms_down_ends_it_in_whatever_order_the_reports_come(
    coast: Town, order: tuple[str, ...]
) -> None:
    hears(coast, *order)
    assert "active" not in states(coast).values()
    assert "proposed" not in states(coast).values()
    assert in_an_emergency(coast) == set()
