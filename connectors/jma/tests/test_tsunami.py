"""Tsunami warnings (VTSE41): which municipalities, at which level, and what a change or an end is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub.areas import AREA_CODE
from hub.errors import PayloadError
from hub_connector_jma import JMA
from hub_connector_jma.tsunami import COASTS

GOLDENS = Path(__file__).parents[1] / "goldens"
MAJOR, SWITCHED, LIFTED, CANCELLED, DRILL, OF_TWO = (
    (GOLDENS / f"{name}.xml").read_text()
    for name in (
        "09-tsunami-major",
        "10-tsunami-switched",
        "11-tsunami-lifted",
        "12-tsunami-cancelled",
        "13-tsunami-drill",
        "14-tsunami-of-two-quakes",
    )
)
OTHERS = [
    text
    for path in sorted(GOLDENS.glob("*.xml"))
    if "tsunami" not in path.name and "</TargetDateTime>" in (text := path.read_text())
]
FUKUSHIMA = {
    "07204": "いわき市",
    "07209": "相馬市",
    "07212": "南相馬市",
    "07541": "広野町",
    "07542": "楢葉町",
    "07543": "富岡町",
    "07545": "大熊町",
    "07546": "双葉町",
    "07547": "浪江町",
    "07561": "新地町",
}


def told(text: str) -> dict[str, Any]:
    (event,) = JMA().translate(text.encode()).events
    return dict(event.data)


def levels(text: str) -> dict[str, str]:
    return {area["area"]: area["level"] for area in told(text)["areas"]}


def test_the_coast_of_fukushima_is_complete_and_nothing_inland_stands_on_it() -> None:
    assert dict(COASTS["250"]) == FUKUSHIMA


def test_there_are_66_coasts_with_municipalities_of_japan_on_each() -> None:
    assert len(COASTS) == 66
    for code, coast in COASTS.items():
        assert re.fullmatch(r"[1-8]\d\d", code)
        assert coast
        areas = [area for area, _ in coast]
        assert areas == sorted(set(areas))
        assert all(AREA_CODE.fullmatch(area) and len(area) == 5 for area in areas)


@pytest.mark.parametrize(
    "inland", ["07202", "07203", "07201", "20201", "25201", "29201", "10201", "09201", "11100", "19201"]
)
def test_what_lies_inland_lies_on_no_coast(inland: str) -> None:
    assert inland not in {area for coast in COASTS.values() for area, _ in coast}


def test_one_municipality_has_one_name() -> None:
    pairs = {pair for coast in COASTS.values() for pair in coast}
    assert len(pairs) == len({area for area, _ in pairs})


def test_each_municipality_of_a_coast_has_the_level_of_its_warning() -> None:
    found = levels(MAJOR)
    assert {found[area] for area in FUKUSHIMA} == {"5"}
    assert (found["04202"], found["08202"], found["13361"]) == ("4", "2", "1")
    assert told(MAJOR)["max_level"] == "5"


def test_an_area_keeps_its_warning_its_forecast_area_and_when_and_how_high() -> None:
    iwaki = next(area for area in told(SWITCHED)["areas"] if area["area"] == "07204")
    assert iwaki == {
        "area": "07204",
        "name": "いわき市",
        "region": "250",
        "region_system": "津波予報区",
        "level": "4",
        "warning": "津波警報",
        "height_m": 3.0,
    }
    hitachi = next(area for area in told(MAJOR)["areas"] if area["area"] == "08202")
    assert (hitachi["arrival_at"].isoformat(), hitachi["height_m"]) == ("2026-06-04T05:50:00+00:00", 1.0)


def test_a_height_in_words_is_no_number() -> None:
    assert "height_m" not in next(area for area in told(MAJOR)["areas"] if area["area"] == "07204")


def test_a_coast_that_is_not_known_is_told_as_a_region() -> None:
    areas = told(MAJOR.replace("<Code>250<", "<Code>999<"))["areas"]
    assert [area for area in areas if area["region"] == "999"] == [
        {
            "area": None,
            "name": "福島県",
            "region": "999",
            "region_system": "津波予報区",
            "level": "5",
            "warning": "大津波警報：発表",
            "arrival_at": areas[0]["arrival_at"],
        }
    ]


def test_a_switch_amends() -> None:
    assert told(SWITCHED)["action"] == "amended"
    assert told(MAJOR)["action"] == "issued"


def test_the_end_of_the_last_warning_lifts_although_a_forecast_remains() -> None:
    assert told(LIFTED)["action"] == "lifted"
    assert set(levels(LIFTED).values()) == {"0", "1"}


def test_the_end_of_one_warning_among_several_does_not_lift() -> None:
    still = LIFTED.replace("<Name>津波注意報解除</Name><Code>60<", "<Name>津波注意報</Name><Code>62<", 1)
    assert told(still)["action"] == "amended"


def test_a_forecast_that_was_never_a_warning_is_issued() -> None:
    only = re.sub(r"<LastKind><Name>[^<]*</Name><Code>\d\d<", "<LastKind><Name>津波なし</Name><Code>00<", LIFTED)
    assert told(only)["action"] == "issued"


def test_a_forecast_that_ends_is_no_warning_that_is_lifted() -> None:
    ends = re.sub(r"<LastKind><Name>[^<]*</Name><Code>\d\d<", "<LastKind><Name>津波予報</Name><Code>71<", LIFTED)
    assert told(ends)["action"] == "issued"


def test_a_correction_stays_a_correction() -> None:
    assert told(LIFTED.replace("<InfoType>発表", "<InfoType>訂正"))["action"] == "amended"


def test_a_cancellation_names_no_area() -> None:
    assert (told(CANCELLED)["action"], told(CANCELLED)["areas"]) == ("cancelled", [])


def test_a_drill_is_an_exercise() -> None:
    (event,) = JMA().translate(DRILL.encode()).events
    assert (event.exercise, event.data["status"]) == (True, "exercise")


def test_a_telegram_about_two_earthquakes_speaks_for_the_chain_of_each() -> None:
    events = JMA().translate(OF_TWO.encode()).events
    assert [event.data["chain"] for event in events] == ["20260604140030", "20260604143510"]
    assert events[0].data["areas"] == events[1].data["areas"]
    assert events[0].id != events[1].id


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("<EventID>20260604140030<", "<EventID><", "Head/EventID"),
        ("<EventID>20260604140030<", "<EventID>20260604140030 20260604140030<", "Head/EventID"),
        ("<Code>53<", "<Code>54<", "Item[1]/Category/Kind/Code"),
        ("<Code>00<", "<Code>99<", "Item[1]/Category/LastKind/Code"),
        ("<Code>250<", "<Code>25<", "Item[1]/Area/Code"),
        ("<Code>250<", "<Code>２５０<", "Item[1]/Area/Code"),
        (">1</jmx_eb", ">1m</jmx_eb", "Item[3]/MaxHeight/TsunamiHeight"),
        (">1</jmx_eb", ">1e9</jmx_eb", "Item[3]/MaxHeight/TsunamiHeight"),
        ("T14:40:00+09:00<", "T14:40:00<", "Item[1]/FirstHeight/ArrivalTime"),
        ("<Forecast>", "<Observation>", ""),
    ],
)
def test_what_is_wrong_is_named_by_its_path(old: str, new: str, path: str) -> None:
    assert old in MAJOR
    with pytest.raises(PayloadError) as caught:
        JMA().translate(MAJOR.replace(old, new, 1).encode())
    assert caught.value.path.endswith(path)


def test_a_warning_without_a_forecast_is_refused() -> None:
    with pytest.raises(PayloadError) as caught:
        JMA().translate(re.sub(r"<Item>.*</Item>", "", MAJOR, flags=re.DOTALL).encode())
    assert caught.value.path == "Body/Tsunami/Forecast/Item"


def ending(text: str) -> str:
    """The telegram with an end of its own."""
    head, target, rest = text.partition("</TargetDateTime>")
    return f"{head}{target}<ValidDateTime>2026-06-05T09:00:00+09:00</ValidDateTime>{rest}"


def test_the_end_of_a_forecast_is_told_and_no_warning_ends_by_itself() -> None:
    """`ValidDateTime` is of a 津波予報; the hub would end an emergency with it."""
    assert told(LIFTED)["valid_until"] == datetime(2026, 6, 5, tzinfo=UTC)
    assert "valid_until" not in told(ending(MAJOR))
    assert "valid_until" not in told(ending(SWITCHED))


def test_no_other_telegram_ends_by_itself() -> None:
    told = [event for text in OTHERS for event in JMA().translate(ending(text).encode()).events]
    assert {event.data["hazard"] for event in told} >= {"earthquake", "heavy_rain", "landslide", "flood", "volcano"}
    assert all("valid_until" not in event.data for event in told)
