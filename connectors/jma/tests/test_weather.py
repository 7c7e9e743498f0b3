"""Warnings of the weather, landslides and floods: telegrams of our own making, wrong ones, and JMA's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hub.errors import PayloadError
from hub.events import Event
from hub_connector_jma import JMA

HERE = Path(__file__).parent
TELEGRAMS = HERE.parent / "goldens"
SAMPLES = HERE.parents[3] / "shared" / "data" / "1-jma" / "official-samples"

AIZU, KORIYAMA, IWAKI, KITAKATA = "07202", "07203", "07204", "07208"
BANDAI, BANGE, YUGAWA, MISATO = "07407", "07421", "07422", "07447"
OLD = ["heavy_rain", "flood", "storm", "snow", "waves", "surge", "weather"]

WARNINGS = (TELEGRAMS / "30-warnings.xml").read_text()
RAIN = (TELEGRAMS / "40-r06-rain.xml").read_text()
LANDSLIDE = (TELEGRAMS / "50-landslide.xml").read_text()
FLOOD = (TELEGRAMS / "53-flood.xml").read_text()


def told(name: str) -> dict[str, Event]:
    """The events of one of our telegrams, by hazard."""
    return by_hazard((TELEGRAMS / name).read_bytes())


def by_hazard(payload: bytes) -> dict[str, Event]:
    events = JMA().translate(payload).events
    found = {event.data["hazard"]: event for event in events}
    assert len(found) == len(events)
    return found


def levels(event: Event) -> dict[str, str]:
    """By municipality the highest level of its parts, where there is one."""
    found: dict[str, str] = {}
    for area in event.data["areas"]:
        if area["area"] is not None and area["level"] > found.get(area["area"], "0"):
            found[area["area"]] = area["level"]
    return found


def changed(text: str, *changes: tuple[str, str]) -> bytes:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text.encode()


def refusal(payload: bytes) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        JMA().translate(payload)
    return caught.value


# Warnings


def test_a_telegram_tells_every_hazard_of_its_form_and_every_municipality() -> None:
    events = told("30-warnings.xml")
    assert list(events) == OLD
    assert {len(event.data["areas"]) for event in events.values()} == {8}
    assert levels(events["heavy_rain"]) == {AIZU: "5", MISATO: "5", KITAKATA: "3", KORIYAMA: "3"}
    assert levels(events["flood"]) == {AIZU: "3"}
    assert levels(events["storm"]) == {KORIYAMA: "3"}
    assert levels(events["surge"]) == {IWAKI: "4"}
    assert levels(events["waves"]) == {IWAKI: "5"}
    assert levels(events["weather"]) == {AIZU: "2", KITAKATA: "2", MISATO: "2"}
    assert levels(events["snow"]) == {}


def test_the_parts_of_a_municipality_stand_apart_with_its_five_digits() -> None:
    areas = told("30-warnings.xml")["heavy_rain"].data["areas"]
    parts = [(a["region"], a["level"], a["warning"]) for a in areas if a["area"] == KORIYAMA]
    assert parts == [("0720301", "2", "大雨注意報"), ("0720302", "3", "大雨警報")]


def test_what_is_lifted_or_lowered_has_its_level_at_once() -> None:
    events = told("32-warnings-less.xml")
    assert levels(events["heavy_rain"]) == {AIZU: "2", KITAKATA: "3"}
    assert levels(events["surge"]) == {IWAKI: "2"}
    actions = {hazard: event.data["action"] for hazard, event in events.items()}
    assert [hazard for hazard, action in actions.items() if action == "lifted"] == [
        "flood",
        "storm",
        "waves",
        "weather",
    ]
    assert {event.data["chain"] for event in events.values()} == {"070000"}


def test_the_two_forms_of_one_warning_share_a_chain_and_the_oldest_does_not() -> None:
    chains = {
        event.data["chain"]
        for name in ("30-warnings.xml", "31-warnings-other-form.xml")
        for event in told(name).values()
    }
    assert chains == {"070000"}
    assert {event.data["chain"] for event in told("35-warnings-2010.xml").values()} == {"070000.VPWW50"}


def test_a_cancellation_knows_its_chains_by_the_title_alone() -> None:
    events = told("33-warnings-cancelled.xml")
    assert list(events) == [*OLD, "landslide"]
    assert {(e.data["chain"], e.data["action"], len(e.data["areas"])) for e in events.values()} == {
        ("070000", "cancelled", 0)
    }
    (storm,) = told("45-r06-storm-cancelled.xml").values()
    assert (storm.data["hazard"], storm.data["chain"]) == ("storm", "070000.R06")


def test_a_drill_is_marked_as_one() -> None:
    assert {(event.exercise, event.data["status"]) for event in told("34-warnings-drill.xml").values()} == {
        (True, "exercise")
    }


@pytest.mark.parametrize(
    ("name", "hazard", "wanted"),
    [
        ("40-r06-rain.xml", "heavy_rain", {AIZU: "5", KITAKATA: "4", KORIYAMA: "3", BANDAI: "2"}),
        ("41-r06-landslide.xml", "landslide", {AIZU: "5", MISATO: "4", KITAKATA: "3"}),
        ("42-r06-landslide-lifted.xml", "landslide", {}),
        ("43-r06-surge.xml", "surge", {IWAKI: "3"}),
        ("44-r06-others.xml", "weather", {AIZU: "2"}),
    ],
)
def test_since_may_2026_a_telegram_is_of_one_hazard_and_its_names_have_the_level(
    name: str, hazard: str, wanted: Mapping[str, str]
) -> None:
    events = told(name)
    assert list(events) == [hazard]
    assert levels(events[hazard]) == wanted
    assert events[hazard].data["chain"] == "070000.R06"


def test_several_advisories_of_one_place_stand_together() -> None:
    areas = told("44-r06-others.xml")["weather"].data["areas"]
    assert areas[0]["warning"] == "雷注意報、濃霧注意報"


@pytest.mark.parametrize(
    ("code", "name", "hazard", "level"),
    [
        ("02", "暴風雪警報", "storm", "3"),
        ("08", "高潮警報", "surge", "4"),
        ("08", "レベル３高潮警報", "surge", "3"),
        ("12", "大雪注意報", "snow", "2"),
        ("19", "高潮注意報", "surge", "2"),
        ("32", "暴風雪特別警報", "storm", "5"),
        ("35", "暴風特別警報", "storm", "5"),
        ("36", "大雪特別警報", "snow", "5"),
        ("38", "高潮特別警報", "surge", "5"),
        ("49", "レベル４土砂災害危険警報", "landslide", "4"),
        ("43", "レベル4大雨危険警報", "heavy_rain", "4"),
    ],
)
def test_a_kind_of_warning_has_the_level_of_the_table_unless_its_name_says_one(
    code: str, name: str, hazard: str, level: str
) -> None:
    old = "<Name>大雨特別警報</Name><Code>33</Code><Status>発表</Status><Condition>土砂災害、浸水害</Condition>"
    before, municipalities = WARNINGS.split("（市町村等）")
    new = f"<Name>{name}</Name><Code>{code}</Code><Status>発表</Status>"
    payload = before.encode() + "（市町村等）".encode() + changed(municipalities, (old, new))
    assert levels(by_hazard(payload)[hazard])[AIZU] == level


def test_a_new_kind_of_advisory_keeps_out_no_special_warning_beside_it() -> None:
    before, municipalities = WARNINGS.split("（市町村等）")
    new = changed(municipalities, ("<Name>雷注意報</Name><Code>14</Code>", "<Name>砂嵐注意報</Name><Code>99</Code>"))
    events = by_hazard(before.encode() + "（市町村等）".encode() + new)
    assert levels(events["heavy_rain"])[AIZU] == "5"
    assert AIZU not in levels(events["weather"])


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ([("<Code>33</Code>", "<Code>99</Code>")], "Code"),
        ([("<Code>33</Code>", "<Code></Code>")], "Code"),
        ([("<Status>発表</Status><Condition>", "<Status>なし</Status><Condition>")], "Status"),
        ([("<Code>0720200<", "<Code>07202<")], "Area/Code"),
        ([("<Area><Name>会津若松市</Name><Code>0720200</Code></Area>", "")], "Area"),
    ],
)
def test_what_is_wrong_in_a_municipality_is_named_by_its_path(changes: list[tuple[str, str]], path: str) -> None:
    before, municipalities = WARNINGS.split("（市町村等）")
    error = refusal(before.encode() + "（市町村等）".encode() + changed(municipalities, *changes))
    assert re.fullmatch(rf"Body/Warning(\[2\])?/Item\[1\]/(Kind\[1\]/)?{path}", error.path or "")
    assert "07202" not in str(error).replace("Item", "")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("<Code>070000</Code>", "<Code>07</Code>"), "Body/Warning[1]/Item/Area/Code"),
        (("気象警報・注意報（府県予報区等）", "別のもの"), "Body/Warning"),
        (("気象警報・注意報（市町村等）", "別のもの"), "Body/Warning"),
        (("<InfoKind>気象警報・注意報<", "<InfoKind>別のもの<"), "Head/InfoKind"),
    ],
)
def test_what_is_wrong_in_the_telegram_is_named_by_its_path(change: tuple[str, str], path: str) -> None:
    assert refusal(changed(WARNINGS, change)).path == path


def test_a_cancellation_whose_title_names_no_area_is_refused() -> None:
    text = (TELEGRAMS / "33-warnings-cancelled.xml").read_text()
    assert refusal(changed(text, ("<Title>福島県気象", "<Title>架空県気象"))).path == "Head/Title"


@pytest.mark.parametrize("name", ["レベル９大雨警報", "レベル大雨警報", "レベル０大雨警報"])
def test_a_level_in_a_name_is_from_1_to_5(name: str) -> None:
    before, municipalities = RAIN.split("（市町村等）")
    payload = before.encode() + "（市町村等）".encode() + changed(municipalities, ("レベル５大雨特別警報", name))
    assert (refusal(payload).path or "").endswith("Kind/Name")


def test_a_warning_of_another_hazard_than_the_title_says_is_refused() -> None:
    before, municipalities = RAIN.split("（市町村等）")
    new = ("<Name>レベル５大雨特別警報</Name><Code>33<", "<Name>暴風警報</Name><Code>05<")
    error = refusal(before.encode() + "（市町村等）".encode() + changed(municipalities, new))
    assert "does not go with Control/Title" in str(error)


def test_of_two_warnings_of_one_hazard_the_higher_counts_and_is_named() -> None:
    before, municipalities = WARNINGS.split("（市町村等）")
    kind = "<Kind><Name>{}</Name><Code>{}</Code><Status>発表</Status></Kind>"
    old = kind.format("暴風警報", "05")
    new = kind.format("風雪注意報", "13") + kind.format("暴風雪特別警報", "32") + old
    payload = before.encode() + "（市町村等）".encode() + changed(municipalities, (old, new))
    storm = by_hazard(payload)["storm"]
    assert levels(storm) == {KORIYAMA: "5"}
    assert [area["warning"] for area in storm.data["areas"] if area["level"] != "0"] == ["暴風雪特別警報"]


# Landslides


def test_a_landslide_alert_is_level_4_and_everything_else_is_none() -> None:
    (event,) = told("50-landslide.xml").values()
    assert levels(event) == {AIZU: "4", MISATO: "4"}
    assert (event.data["chain"], event.data["serial"]) == ("福島県土砂災害警戒情報", "2")


def test_the_end_of_a_landslide_alert_lifts_the_chain() -> None:
    (event,) = told("51-landslide-lifted.xml").values()
    assert (event.data["action"], levels(event)) == ("lifted", {})


def test_a_cancelled_landslide_alert_has_the_chain_of_its_report() -> None:
    (event,) = told("52-landslide-cancelled.xml").values()
    assert (event.data["action"], event.data["chain"]) == ("cancelled", "福島県土砂災害警戒情報")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("<Code>3</Code>", "<Code>2</Code>"), "Body/Warning/Item[1]/Kind/Code"),
        (("<Code>0720200<", "<Code>072020x<"), "Body/Warning/Item[1]/Area/Code"),
        (('<Warning type="土砂災害警戒情報">', '<Warning type="別のもの">'), "Body/Warning"),
        (("<EventID>福島県土砂災害警戒情報<", "<EventID><"), "Head/EventID"),
    ],
)
def test_what_is_wrong_in_a_landslide_alert_is_named_by_its_path(change: tuple[str, str], path: str) -> None:
    assert refusal(changed(LANDSLIDE, change)).path == path


# Floods


def test_a_municipality_has_the_level_of_its_gauge_and_not_the_rivers() -> None:
    (event,) = told("53-flood.xml").values()
    assert event.data["max_level"] == "5"
    assert levels(event) == {BANGE: "5", KITAKATA: "5", AIZU: "4"}
    assert MISATO in {area["area"] for area in event.data["areas"]}


def test_behind_two_gauges_the_higher_level_counts_whichever_comes_first() -> None:
    first, second = "【警戒レベル５相当】災害", "【警戒レベル４相当】避難"
    swapped = changed(FLOOD, (first, "【警戒レベル４相当】災害"), (second, "【警戒レベル５相当】避難"))
    (event,) = by_hazard(swapped).values()
    assert levels(event) == {BANGE: "4", KITAKATA: "5", AIZU: "5"}
    assert len([area for area in event.data["areas"] if area["area"] == KITAKATA]) == 1


def test_the_river_itself_stands_first_and_is_no_municipality() -> None:
    (event,) = told("53-flood.xml").values()
    river = event.data["areas"][0]
    assert (river["area"], river["region"], river["name"]) == (None, "999910000100", "架空川上流")
    assert event.data["chain"] == "999910000100"


def test_where_it_broke_out_the_flooded_municipalities_have_the_rivers_level() -> None:
    (event,) = told("54-flood-where-it-broke-out.xml").values()
    assert levels(event) == {YUGAWA: "5", BANGE: "5"}


def test_gauges_without_a_level_in_their_texts_give_all_municipalities_the_rivers() -> None:
    (event,) = told("57-flood-before-2019.xml").values()
    assert levels(event) == {BANGE: "4", AIZU: "4"}


def test_gauges_that_do_not_account_for_the_rivers_level_are_not_believed() -> None:
    (event,) = by_hazard(changed(FLOOD, ("【警戒レベル５相当】災害", "【警戒レベル３相当】災害"))).values()
    assert levels(event) == {BANGE: "5", KITAKATA: "5", AIZU: "5", MISATO: "5"}


def test_a_municipality_whose_gauge_has_no_text_has_the_rivers_level() -> None:
    text = re.sub(
        r"      <Item>\n        <Kind><Property><Type>主文</Type><Text>架空川の空想橋.*?</Item>\n",
        "",
        FLOOD,
        flags=re.S,
    )
    assert text != FLOOD
    (event,) = by_hazard(text.encode()).values()
    assert levels(event)[MISATO] == "5"


def test_the_end_of_a_flood_forecast_lifts_the_chain() -> None:
    (event,) = told("55-flood-lifted.xml").values()
    assert (event.data["action"], event.data["max_level"], levels(event)) == ("lifted", "0", {})


def test_a_forecast_of_the_headline_alone_names_no_municipality() -> None:
    (event,) = told("56-flood-headline-only.xml").values()
    assert (event.data["max_level"], levels(event), len(event.data["areas"])) == ("3", {}, 1)


def test_a_code_of_no_prefecture_is_no_area() -> None:
    (event,) = by_hazard(changed(FLOOD, ("<CityCode>0742100<", "<CityCode>0000000<"))).values()
    [area] = [area for area in event.data["areas"] if area["name"] == "会津坂下町"]
    assert (area["area"], area["region"], area["level"]) == (None, None, "5")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("<Code>51</Code>", "<Code>61</Code>"), "Head/Headline/Information/Item/Kind/Code"),
        (("<Code>51</Code>", "<Code>5</Code>"), "Head/Headline/Information/Item/Kind/Code"),
        (("<Code>999910000100</Code>", "<Code>x</Code>"), "Head/Headline/Information/Item/Areas/Area/Code"),
        (('type="指定河川洪水予報（予報区域）"', 'type="別のもの"'), "Head/Headline/Information"),
        (("<CityCode>0742100<", "<CityCode>7421<"), "Body/Warning/Item[4]/Areas/Area[1]/CityCode"),
    ],
)
def test_what_is_wrong_in_a_flood_forecast_is_named_by_its_path(change: tuple[str, str], path: str) -> None:
    assert refusal(changed(FLOOD, change)).path == path


# Anything else


@pytest.mark.parametrize("seed", range(60))
def test_a_telegram_with_one_element_gone_or_doubled_is_read_or_refused_and_never_fails(seed: int) -> None:
    random = Random(seed)
    text = random.choice((WARNINGS, RAIN, LANDSLIDE, FLOOD))
    whole = list(re.finditer(r"<(\w+)(?: [^<>]*)?>[^<>]*</\1>", text))
    for found in random.sample(whole, 8):
        for instead in ("", found[0] * 2, re.sub(r">[^<>]*<", "><", found[0])):
            payload = (text[: found.start()] + instead + text[found.end() :]).encode()
            with suppress(PayloadError):
                JMA().translate(payload)


# JMA's own


def sample(name: str) -> dict[str, Event]:
    if not SAMPLES.exists():
        pytest.skip("JMA's samples are not beside the repository (../shared/data/1-jma)")
    return by_hazard((SAMPLES / name).read_bytes())


GOJO, YOSHINO, TOTSUKAWA, IKOMA = "29207", "29441", "29449", "29209"
NARA: Mapping[str, tuple[int, Any]] = {
    "15_08_01_130412_VPWW53.xml": (26, {GOJO: "5", YOSHINO: "5", TOTSUKAWA: "5", IKOMA: "2"}),
    "15_08_02_130412_VPWW53.xml": (39, {GOJO: "5", YOSHINO: "5", TOTSUKAWA: "5", IKOMA: "5"}),
    "15_08_03_160628_VPWW53.xml": (26, {GOJO: "5", YOSHINO: "5", TOTSUKAWA: "5", IKOMA: "2"}),
    "15_08_04_160628_VPWW53.xml": (11, {GOJO: "5", YOSHINO: "2", TOTSUKAWA: "5", IKOMA: "2"}),
    "15_08_05_130412_VPWW53.xml": (0, {GOJO: None, YOSHINO: None, TOTSUKAWA: None, IKOMA: None}),
}


@pytest.mark.parametrize("name", NARA)
def test_the_rain_of_nara_has_these_levels_step_by_step(name: str) -> None:
    found = levels(sample(name)["heavy_rain"])
    highest, some = NARA[name]
    assert sum(level == "5" for level in found.values()) == highest
    assert {place: found.get(place) for place in some} == some


def test_ogasawara_has_four_special_warnings_and_tokyo_a_storm_warning() -> None:
    events = sample("15_13_01_161226_VPWW54.xml")
    assert [h for h, event in events.items() if levels(event).get("13421") == "5"] == [
        "heavy_rain",
        "storm",
        "waves",
        "surge",
    ]
    assert levels(events["storm"])["13101"] == "3"


def test_a_surge_warning_was_level_4_and_is_level_3() -> None:
    assert levels(sample("15_15_01_220314_VPWW54.xml")["surge"]) == {"36403": "4"}
    assert levels(sample("15_16_02_250630_VPWW57.xml")["surge"])["26212"] == "3"


def test_the_alert_of_kanagawa_spreads_and_ends() -> None:
    found = [sample(f"17_04_0{n}_250630_VXWW50.xml")["landslide"] for n in (1, 2, 3)]
    assert [sorted(levels(event)) for event in found] == [
        ["14206", "14383", "14384"],
        ["14206", "14382", "14383", "14384"],
        [],
    ]
    assert found[-1].data["action"] == "lifted"


def test_the_flood_of_the_rokkaku_names_five_municipalities() -> None:
    found = levels(sample("16_02_02_220728_VXKOii.xml")["flood"])
    assert found == dict.fromkeys(("41206", "41209", "41423", "41424", "41425"), "3")
