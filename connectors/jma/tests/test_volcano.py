"""Volcanic warnings (VFVO50): the alert level in each municipality; and flash reports of eruptions (VFVO56)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.errors import PayloadError
from hub_connector_jma import JMA

GOLDENS = Path(__file__).parents[1] / "goldens"
THREE, FIVE, LIFTED, ERUPTION = (
    (GOLDENS / f"{name}.xml").read_text()
    for name in ("15-volcano-3", "16-volcano-5", "17-volcano-lifted", "18-eruption")
)


def told(text: str) -> dict[str, Any]:
    (event,) = JMA().translate(text.encode()).events
    return dict(event.data)


def levels(text: str) -> dict[str, str]:
    return {area["area"]: area["level"] for area in told(text)["areas"]}


def changed(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_each_municipality_that_the_telegram_lists_has_the_alert_level() -> None:
    assert levels(THREE) == {"07201": "3", "07322": "3"}
    assert levels(FIVE) == {"07201": "5", "07322": "5"}


def test_the_chain_is_the_volcano() -> None:
    assert {told(text)["chain"] for text in (THREE, FIVE, LIFTED)} == {"213"}


def test_a_municipality_that_has_only_a_crater_warning_has_level_3_at_most() -> None:
    lower = changed(FIVE, ("<Name>噴火警報</Name><Code>01<", "<Name>火口周辺警報</Name><Code>02<"))
    assert levels(lower) == {"07201": "3", "07322": "3"}
    assert told(lower)["max_level"] == "5"


def test_a_level_that_goes_down_to_1_lifts() -> None:
    assert told(LIFTED)["action"] == "lifted"
    assert levels(LIFTED) == {"07201": "1", "07322": "1"}


def test_a_level_that_goes_down_but_stays_above_1_does_not_lift_by_itself() -> None:
    down = changed(FIVE, ("<Code>15<", "<Code>12<"), ("<Code>13<", "<Code>15<"), ("<Code>01<", "<Code>02<"))
    assert (told(down)["action"], levels(down)) == ("issued", {"07201": "2", "07322": "2"})


def test_level_1_that_was_level_1_before_lifts_nothing() -> None:
    same = changed(LIFTED, ("<Code>15<", "<Code>11<"))
    assert told(same)["action"] == "issued"


@pytest.mark.parametrize(
    ("code", "level"), [("21", "1"), ("22", "2"), ("23", "3"), ("24", "4"), ("25", "5"), ("35", "1"), ("36", "2")]
)
def test_a_volcano_without_levels_has_those_that_its_words_stand_for(code: str, level: str) -> None:
    assert set(levels(changed(FIVE, ("<Code>15<", f"<Code>{code}<"))).values()) == {level}


def test_a_warning_for_the_sea_reaches_no_higher_than_2() -> None:
    assert set(levels(changed(FIVE, ("<Code>01<", "<Code>03<"))).values()) == {"2"}


def test_the_summit_is_in_degrees() -> None:
    data = told(FIVE)
    assert (data["lat_deg"], data["lon_deg"]) == (37.73533, 140.2445)
    assert "lat_deg" not in told(changed(FIVE, ("+3744.12+14014.67+1949/", "")))


def test_a_cancellation_takes_back_the_volcanos_warning() -> None:
    head, body = changed(FIVE, ("<InfoType>発表", "<InfoType>取消")).split("<Body", 1)
    text = head + "<Body" + body[: body.index(">") + 1] + "<Text>取り消します。</Text></Body></Report>"
    data = told(text)
    assert (data["action"], data["chain"], data["areas"]) == ("cancelled", "213", [])


def test_an_eruption_is_a_chain_of_its_own_without_a_level_of_the_scale() -> None:
    data = told(ERUPTION)
    assert (data["chain"], data["report"]) == ("20260605095800_213", "VFVO56")
    assert levels(ERUPTION) == {"07201": "eruption", "07322": "eruption"}
    assert data["origin_at"].isoformat() == "2026-06-05T00:55:00+00:00"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("<EventID>213<", "<EventID><", "Head/EventID"),
        ("<Code>15<", "<Code>16<", "Kind/Code"),
        ("<Code>13<", "<Code>16<", "LastKind/Code"),
        ("<Code>01<", "<Code>41<", "Kind/Code"),
        ("<Code>0720100<", "<Code>07201<", "Areas/Area[1]/Code"),
        ("+3744.12+14014.67+1949/", "+37.7+140.2/", "Coordinate"),
        ("+3744.12+14014.67+1949/", "+9944.12+14014.67+1949/", "Coordinate"),
        ("（対象火山）", "（対象）", "Body/VolcanoInfo"),
        ("<Areas codeType", "<Area codeType", ""),
    ],
)
def test_what_is_wrong_is_named_by_its_path(old: str, new: str, path: str) -> None:
    with pytest.raises(PayloadError) as caught:
        JMA().translate(changed(FIVE, (old, new)).encode())
    assert caught.value.path.endswith(path)


def test_a_telegram_about_several_volcanoes_is_refused_since_its_municipalities_are_not_told_apart() -> None:
    area = FIVE[FIVE.index('<Areas codeType="火山名">') : FIVE.index("</Areas>")].partition(">")[2]
    with pytest.raises(PayloadError) as caught:
        JMA().translate(changed(FIVE, (area, area + area)).encode())
    assert caught.value.reason == "names no volcano, or several"
