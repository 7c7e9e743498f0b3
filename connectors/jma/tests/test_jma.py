"""The connector `jma`: the dispatch, earthquakes, and telegrams that are hostile or none.

What each golden gives is judged by test_conformance.py, JMA's own telegrams by test_jma_data.py.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hub.connector import Translation
from hub.errors import PayloadError
from hub_connector_jma import JMA, READS
from hub_connector_jma.titles import UNREAD

HERE = Path(__file__).parent
TELEGRAMS = HERE.parent / "goldens"
FULL = (TELEGRAMS / "02-full.xml").read_text()


def shown(translation: Translation) -> dict[str, Any]:
    events = [
        {
            "source": event.source,
            "id": event.id,
            "kind": event.kind,
            "occurred_at": event.occurred_at,
            "exercise": event.exercise,
            "data": event.data,
        }
        for event in translation.events
    ]
    plain = {"nothing": translation.nothing, "reported_at": translation.reported_at, "events": events}
    return json.loads(json.dumps(plain, default=datetime.isoformat))  # type: ignore[no-any-return]


def given(text: str, *changes: tuple[str, str]) -> bytes:
    """The telegram with each first member replaced by the second, once; it must be there."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text.encode()


def only_id(payload: bytes) -> str:
    (event,) = JMA().translate(payload).events
    return event.id


def refusal(payload: bytes) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        JMA().translate(payload)
    return caught.value


def test_municipalities_have_five_digits_and_the_level_that_was_observed() -> None:
    (event,) = JMA().translate(FULL.encode()).events
    levels = {area["area"]: area["level"] for area in event.data["areas"]}
    assert levels["07202"] == "6-"
    assert levels["07208"] == "5+"
    assert levels["07203"] == "4"


def test_5_lower_or_more_not_received_is_a_level_of_its_own_with_or_without_an_observation() -> None:
    (event,) = JMA().translate(FULL.encode()).events
    levels = {area["area"]: area["level"] for area in event.data["areas"]}
    assert levels["07402"] == levels["07444"] == "5-?"


def test_what_was_observed_counts_where_it_is_5_lower_or_more_although_more_has_not_come_in() -> None:
    payload = given(FULL, ("<MaxInt>4</MaxInt><Condition>", "<MaxInt>6+</MaxInt><Condition>"))
    (event,) = JMA().translate(payload).events
    assert {area["area"]: area["level"] for area in event.data["areas"]}["07402"] == "6+"


def test_a_flash_report_names_regions_and_no_municipality() -> None:
    (event,) = JMA().translate((TELEGRAMS / "01-flash.xml").read_bytes()).events
    assert [(area["area"], area["region"]) for area in event.data["areas"]] == [
        (None, "252"),
        (None, "250"),
        (None, "251"),
    ]


def test_a_flash_report_that_is_cancelled_has_only_a_sentence_in_its_body() -> None:
    flash = (TELEGRAMS / "01-flash.xml").read_text().replace("<InfoType>発表", "<InfoType>取消")
    data = first_data(
        re.sub(r"<Intensity>.*</Intensity>", "<Text>取り消します。</Text>", flash, flags=re.DOTALL).encode()
    )
    assert (data["action"], data["areas"], "max_level" in data) == ("cancelled", [], False)


def test_the_parts_of_a_divided_municipality_have_its_five_digits() -> None:
    payload = given(FULL, ("<Code>0720700</Code>", "<Code>4621501</Code>"), ("0720300", "4621502"))
    (event,) = JMA().translate(payload).events
    assert [a["region"] for a in event.data["areas"] if a["area"] == "46215"] == ["4621502", "4621501"]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace('encoding="UTF-8"', 'encoding="utf-8"'),
        lambda t: t.partition("?>")[2].lstrip(),
        lambda t: re.sub(r">\s+<", "><", t),
        lambda t: re.sub(r">\s+<", ">\r\n\t\t<", t),
        lambda t: "\ufeff" + t,
        lambda t: t.replace("<Control>", "<!-- 電文 --><Control>"),
        lambda t: t.replace("jmx_eb:", "eb:").replace("xmlns:jmx_eb", "xmlns:eb"),
        lambda t: t.replace("<EventID>", "<EventID>\n ").replace("</EventID>", "\n</EventID>"),
        lambda t: t.replace('type="Mj" description="Ｍ６．４"', 'description="Ｍ６．４"  type="Mj"'),
    ],
)
def test_the_same_telegram_written_otherwise_is_the_same_event(change: Any) -> None:
    other = change(FULL)
    assert other != FULL
    assert shown(JMA().translate(other.encode())) == shown(JMA().translate(FULL.encode()))


@pytest.mark.parametrize(
    "change",
    [
        ("<Serial>1<", "<Serial>2<"),
        ("<InfoType>発表<", "<InfoType>訂正<"),
        ("<Status>通常<", "<Status>訓練<"),
        ("09:05:00+09:00</Report", "09:06:00+09:00</Report"),
        ("<EventID>20260602090012<", "<EventID>20260602090013<"),
        ("<MaxInt>5-</MaxInt></City>", "<MaxInt>5+</MaxInt></City>"),
        ("+37.5+139.8-10000/", "+37.5+139.8-20000/"),
        ('description="Ｍ６．４"', 'description="Ｍ６．５"'),
        ("00:05:20Z", "00:05:21Z"),
    ],
)
def test_a_telegram_that_says_something_else_is_another_event(change: tuple[str, str]) -> None:
    assert only_id(given(FULL, change)) != only_id(FULL.encode())


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("<Title>震源・震度に関する情報</Title>", ""), "Control/Title"),
        (("<Title>震源・震度に関する情報</Title>", "<Title> </Title>"), "Control/Title"),
        (("<DateTime>2026-06-02T00:05:20Z</DateTime>", ""), "Control/DateTime"),
        (("<Status>通常</Status>", ""), "Control/Status"),
        (("<Status>通常", "<Status>平常"), "Control/Status"),
        (("<ReportDateTime>2026-06-02T09:05:00+09:00</ReportDateTime>", ""), "Head/ReportDateTime"),
        (("09:05:00+09:00</Report", "09:05:00</Report"), "Head/ReportDateTime"),
        (("2026-06-02T09:05:00+09:00</Report", "2026-02-30T09:05:00+09:00</Report"), "Head/ReportDateTime"),
        (("2026-06-02T09:05:00+09:00</Report", "0001-01-01T00:00:00+09:00</Report"), "Head/ReportDateTime"),
        (("<EventID>20260602090012</EventID>", ""), "Head/EventID"),
        (("<EventID>20260602090012<", "<EventID>20260602 090012<"), "Head/EventID"),
        (("<EventID>", "<EventID>1</EventID><EventID>"), "Head/EventID"),
        (("<InfoType>発表</InfoType>", ""), "Head/InfoType"),
        (("<InfoType>発表", "<InfoType>延期"), "Head/InfoType"),
        (("<Serial>1</Serial>", ""), "Head/Serial"),
        (("<Serial>1<", "<Serial>" + "9" * 5000 + "<"), "Head/Serial"),
        (("<InfoKind>地震情報<", "<InfoKind>震度速報<"), "Head/InfoKind"),
        (("Head xmlns=", "Head xmlns:x="), "Head"),
        (("Body xmlns=", "Body xmlns:x="), "Body"),
        (("<MaxInt>5-</MaxInt></City>", "<MaxInt>5弱</MaxInt></City>"), "Pref/Area[1]/City[5]/MaxInt"),
        (("<MaxInt>5-</MaxInt></City>", "</City>"), "Pref/Area[1]/City[5]/MaxInt"),
        (("<Code>0742100</Code>", "<Code>07421</Code>"), "Pref/Area[1]/City[5]/Code"),
        (("+37.5+139.8-10000/", "37.5,139.8"), "Earthquake/Hypocenter/Area/Coordinate"),
        (("+37.5+139.8-10000/", "+97.5+139.8-10000/"), "Earthquake/Hypocenter/Area/Coordinate"),
        (("+37.5+139.8-10000/", "+37.5+189.8-10000/"), "Earthquake/Hypocenter/Area/Coordinate"),
        ((">6.4<", ">strong<"), "Earthquake/Magnitude"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change: tuple[str, str], path: str) -> None:
    error = refusal(given(FULL, change))
    assert error.path.endswith(path)
    assert error.reason


def without(text: str, tag: str) -> bytes:
    """The telegram without the elements called `tag`; there must be one."""
    shorter = re.sub(rf"<{tag}[ >].*?</{tag}>", "", text, flags=re.DOTALL)
    assert shorter != text
    return shorter.encode()


def first_data(payload: bytes) -> Any:
    return JMA().translate(payload).events[0].data


@pytest.mark.parametrize(
    ("tag", "path"),
    [
        ("Control", "Control"),
        ("Head", "Head"),
        ("Headline", "Head/Headline"),
        ("Body", "Body"),
        ("Earthquake", "Body/Earthquake"),
        ("Intensity", "Body/Intensity"),
        ("Observation", "Body/Intensity/Observation"),
    ],
)
def test_what_is_missing_is_named_by_its_path(tag: str, path: str) -> None:
    assert refusal(without(FULL, tag)).path == path


def test_a_region_code_that_is_none_is_named_by_its_path() -> None:
    flash = (TELEGRAMS / "01-flash.xml").read_text()
    body = flash.index("<Observation>")
    payload = flash[:body] + flash[body:].replace("<Code>250<", "<Code>福島<")
    assert refusal(payload.encode()).path == "Body/Intensity/Observation/Pref/Area[2]/Code"


def test_an_intensity_that_has_not_come_in_may_stand_in_the_place_of_one() -> None:
    data = first_data(given(FULL, ("<MaxInt>5-</MaxInt></City>", "<MaxInt>震度５弱以上未入電</MaxInt></City>")))
    assert {area["area"]: area["level"] for area in data["areas"]}["07421"] == "5-?"


def test_a_hypocentre_that_is_unknown_is_left_out() -> None:
    data = first_data(without(FULL, "Hypocenter"))
    assert not {"epicentre", "lat_deg", "lon_deg", "depth_m"} & data.keys()
    assert data["magnitude"] == 6.4
    data = first_data(given(FULL, ("+37.5+139.8-10000/", "")))
    assert data["epicentre"] == "福島県会津"
    assert "lat_deg" not in data


def test_a_magnitude_that_is_unknown_is_left_out() -> None:
    assert "magnitude" not in first_data(without(FULL, "jmx_eb:Magnitude"))
    assert "magnitude" not in first_data(given(FULL, (">6.4<", ">NaN<")))


def test_a_coordinate_in_degrees_and_minutes_is_left_to_the_one_in_degrees() -> None:
    minutes = '<jmx_eb:Coordinate type="震源位置（度分）">+3727.0+13950.0-10000/</jmx_eb:Coordinate>'
    data = first_data(given(FULL, ("<jmx_eb:Coordinate ", minutes + "<jmx_eb:Coordinate ")))
    assert (data["lat_deg"], data["lon_deg"], data["depth_m"]) == (37.5, 139.8, 10_000)


def test_a_very_shallow_quake_has_depth_zero_and_an_unknown_depth_none() -> None:
    assert str(first_data(given(FULL, ("-10000/", "+0/")))["depth_m"]) == "0.0"
    assert "depth_m" not in {k for k, v in first_data(given(FULL, ("-10000/", "/"))).items() if v is not None}


def test_of_two_quakes_the_first_is_told() -> None:
    second = re.findall(r"<Earthquake>.*?</Earthquake>", FULL, re.DOTALL)[0].replace(">6.4<", ">5.0<")
    assert first_data(given(FULL, ("</Earthquake>", "</Earthquake>" + second)))["magnitude"] == 6.4


def test_a_target_time_that_is_nil_is_left_out() -> None:
    nil = '<TargetDateTime xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"/>'
    payload = given(FULL, ("<TargetDateTime>2026-06-02T09:05:00+09:00</TargetDateTime>", nil))
    assert "target_at" not in first_data(payload)


def test_an_error_names_no_value() -> None:
    secret = "山田花子"
    for tag in ("Status", "InfoType", "Serial", "InfoKind", "ReportDateTime", "MaxInt"):
        payload = re.sub(rf"<{tag}>[^<]*<", f"<{tag}>{secret}<", FULL, count=1)
        assert secret not in str(refusal(payload.encode()))
    assert secret not in str(refusal(FULL.replace("</Control>", f"</{secret}>").encode()))
    assert secret not in str(refusal(FULL.replace("<EventID>", f"<EventID>{secret * 17}").encode()))


BOMB = '<!DOCTYPE a [<!ENTITY b "{}">{}]>'.format(
    "x" * 1000, "".join(f'<!ENTITY b{n} "{"&b;" * 100}">' for n in range(100))
)
EXTERNAL = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"\xef\xbb\xbf", "is not well-formed"),
        (b"{}", "is not well-formed"),
        (b"\x00" * 1000, "is not well-formed"),
        (FULL.encode()[:-40], "is not well-formed"),
        (FULL.encode("utf-16"), "is not UTF-8"),
        (FULL.encode("utf-16-le"), "is not"),
        (FULL.replace("UTF-8", "UTF-16").encode("utf-16"), "is not UTF-8"),
        (FULL.replace("UTF-8", "Shift_JIS").encode("cp932"), "declares an encoding"),
        (FULL.encode("euc-jp"), "is not UTF-8"),
        (FULL.replace("UTF-8", "cp932", 1).encode(), "declares an encoding"),
        (FULL.replace("UTF-8", "UTF-16", 1).encode(), "declares an encoding"),
        (FULL.replace("UTF-8", "UTF-7", 1).encode(), "declares an encoding"),
        (FULL.replace("<Report", BOMB + "<Report", 1).encode(), "DOCTYPE"),
        (FULL.replace("<Report", EXTERNAL + "<Report", 1).encode(), "DOCTYPE"),
        (FULL.replace("地震がありました", "&undefined;").encode(), "is not well-formed"),
        (FULL.replace("地震がありました", "あ" * 2_000_000).encode(), "is larger than"),
        (b"<a>" * 1_000_000, "is not well-formed"),
        (b"<a" + b" x='1'" * 400_000 + b"/>", "is not well-formed"),
        (b"<" + b"a" * 4_000_000 + b"/>", "is no"),
        (b"<Report/>", "is no JMA report"),
        (FULL.replace("jmaxml1/", "jmaxml2/").encode(), "is no JMA report"),
        (b'<feed xmlns="http://www.w3.org/2005/Atom"/>', "is no JMA report"),
    ],
)
def test_what_is_no_telegram_is_refused(payload: bytes, reason: str) -> None:
    assert reason in refusal(payload).reason


@pytest.mark.parametrize("cut", range(0, len(FULL.encode()) - 10, 97))
def test_a_telegram_that_breaks_off_is_refused(cut: int) -> None:
    refusal(FULL.encode()[:cut])


def test_a_telegram_that_is_nested_deeper_than_the_stack_is_answered() -> None:
    deep = "<a>" * 200_000 + "</a>" * 200_000
    assert "is not well-formed" in refusal(given(FULL, ("<Headline>", deep + "<Headline>"))).reason


def test_the_title_of_another_telegram_is_never_repeated() -> None:
    translation = JMA().translate(given(FULL, ("震源・震度に関する情報", "あ" * 100_000)))
    assert translation.nothing == "a telegram of a kind that is not read; nothing to record"


@pytest.mark.parametrize("title", sorted(UNREAD.keys() - READS.keys()))
def test_a_known_telegram_that_is_not_read_is_named_by_its_type_and_why(title: str) -> None:
    translation = JMA().translate(given(FULL, ("震源・震度に関する情報", title)))
    type_, reason = UNREAD[title]
    assert translation.nothing == f"{type_}: {reason}; nothing to record"
    assert re.match(r"[A-Z]{4}[0-9]{2}", type_)
    assert not translation.events


def test_a_known_telegram_that_is_not_read_needs_no_more_than_a_title_and_a_time() -> None:
    payload = given(FULL, ("震源・震度に関する情報", "南海トラフ地震臨時情報"), ("<Status>通常", "<Status>平常"))
    nothing = JMA().translate(payload).nothing
    assert nothing is not None
    assert nothing.startswith("VYSE50:")


def test_a_delayed_telegram_counts_as_issued() -> None:
    assert first_data(given(FULL, ("<InfoType>発表", "<InfoType>遅延")))["action"] == "issued"


def test_no_title_is_read_by_two_families() -> None:
    from hub_connector_jma import earthquake, flood, landslide, tsunami, volcano, warnings

    families = (earthquake, tsunami, volcano, warnings, landslide, flood)
    assert sum(len(family.READS) for family in families) == len(READS)


def test_a_test_of_the_line_gives_nothing_and_says_so() -> None:
    translation = JMA().translate(given(FULL, ("<Status>通常", "<Status>試験")))
    assert translation.nothing == "VXSE53: a test of the line (試験); nothing to record"


@pytest.mark.parametrize("ids", ["1 1", " ".join(map(str, range(51))), "a" * 65, "a\u200bb"])
def test_an_event_id_that_is_no_list_of_ids_is_refused(ids: str) -> None:
    assert refusal(given(FULL, ("<EventID>20260602090012<", f"<EventID>{ids}<"))).path == "Head/EventID"


@pytest.mark.parametrize("records", [1, 1000, 10**9])
def test_a_sample_names_as_many_municipalities_as_are_wanted_and_there_are(records: int) -> None:
    (event,) = JMA().translate(JMA().sample(records)).events
    assert len(event.data["areas"]) == min(records, 1_900)
