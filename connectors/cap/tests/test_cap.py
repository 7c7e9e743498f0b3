"""The connector `cap`: what an alert says, whose alerts are read, how feeds carry them; files that others wrote."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from hub.connector import Misuse, Settings
from hub.schemas import packaged
from hub_connector_cap import CAP

from .alerts import AIZU, KITAKATA, SENDER, V11, alert, area, atom, cap, info, inside, named, only, refusal, told

GOLDENS = Path(__file__).parents[1] / "goldens"
DATA = Path(__file__).parents[4] / "shared" / "data" / "2-cap"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"the samples are not at {DATA}")


def levels(payload: str) -> dict[str | None, str]:
    return {place.get("area"): place["level"] for place in only(payload).data["areas"]}


def places(payload: str, **options: Any) -> list[dict[str, Any]]:
    rows = only(payload, cap(**options)).data["areas"]
    return [{name: row[name] for name in row if name not in ("name", "level", "warning")} for row in rows]


# What an alert says


@pytest.mark.parametrize(
    ("severity", "certainty", "urgency", "level"),
    [
        ("Extreme", "Observed", "Immediate", "extreme-immediate"),
        ("Extreme", "Likely", "Immediate", "extreme-immediate"),
        ("Extreme", "Very Likely", "Immediate", "extreme-immediate"),
        ("Extreme", "Possible", "Immediate", "extreme"),
        ("Extreme", "Unlikely", "Immediate", "extreme"),
        ("Extreme", "Unknown", "Immediate", "extreme"),
        ("Extreme", "Observed", "Expected", "extreme"),
        ("Extreme", "Observed", "Future", "extreme"),
        ("Extreme", "Observed", "Unknown", "extreme"),
        ("Extreme", "Observed", "Past", "none"),
        ("Severe", "Observed", "Immediate", "severe"),
        ("Moderate", "Observed", "Immediate", "moderate"),
        ("Minor", "Observed", "Immediate", "minor"),
        ("Unknown", "Observed", "Immediate", "unknown"),
        ("Severe", "Observed", "Past", "none"),
    ],
)
def test_the_level_is_of_severity_certainty_and_urgency(
    severity: str, certainty: str, urgency: str, level: str
) -> None:
    payload = alert(info(area(AIZU), severity=severity, certainty=certainty, urgency=urgency))
    assert levels(payload) == {"07202": level}
    said = only(payload).data
    assert (said["severity"], said["certainty"], said["urgency"]) == (severity, certainty, urgency)
    assert said["max_level"] == level


def test_what_is_all_clear_has_the_lowest_level() -> None:
    assert levels(alert(info(area(AIZU), response="AllClear"))) == {"07202": "none"}


def test_the_preferred_language_is_japanese_then_english_then_the_first() -> None:
    ja, en, fr = (
        info(area(AIZU, name=name), language=language, event=f"event {name}", more=f"<headline>{name}</headline>")
        for name, language in (("ja", "ja-JP"), ("en", "en-US"), ("fr", "fr"))
    )
    for infos, wanted in (((fr, en, ja), "ja"), ((fr, en), "en"), ((fr,), "fr")):
        said = only(alert(*infos)).data
        assert (said["headline"], said["title"]) == (wanted, f"event {wanted}")
        assert [(place["name"], place["warning"]) for place in said["areas"]] == [(wanted, f"event {wanted}")]


def test_an_info_without_language_is_english() -> None:
    infos = info(area(AIZU), language="de", event="Regen"), info(area(AIZU), language=None, event="rain")
    assert only(alert(*infos)).data["title"] == "rain"


def test_an_area_that_only_another_language_names_is_not_lost() -> None:
    ja, en = info(area(AIZU)), info(area(AIZU), area(KITAKATA), area(name="nowhere"), language="en")
    assert levels(alert(en, ja)) == {"07202": "extreme-immediate", "07208": "extreme-immediate"}
    assert len(only(alert(en, ja)).data["areas"]) == 2


def test_two_hazards_of_one_alert_stand_in_one_event_each_area_with_its_own_level() -> None:
    rain = info(area(AIZU), event="大雨特別警報", more="<expires>2026-06-02T12:00:00+09:00</expires>")
    slide = info(
        area(AIZU),
        area(KITAKATA),
        event="土砂災害警戒情報",
        severity="Severe",
        more="<onset>2026-06-02T10:00:00+09:00</onset><expires>2026-06-02T15:00:00+09:00</expires>",
    )
    said = only(alert(slide, rain)).data
    assert [(place["area"], place["level"], place["warning"]) for place in said["areas"]] == [
        ("07202", "severe", "土砂災害警戒情報"),
        ("07208", "severe", "土砂災害警戒情報"),
        ("07202", "extreme-immediate", "大雨特別警報"),
    ]
    assert (said["title"], said["severity"], said["max_level"]) == ("大雨特別警報", "Extreme", "extreme-immediate")
    assert said["target_at"] == datetime(2026, 6, 2, 1, tzinfo=UTC)
    assert said["valid_until"] == datetime(2026, 6, 2, 3, tzinfo=UTC)


def expiring(hour: int | None, *codes: tuple[str, str], **words: Any) -> str:
    more = "" if hour is None else f"<expires>2026-06-02T{hour}:00:00+09:00</expires>"
    return info(area(*codes or (AIZU,)), more=more, **words)


@pytest.mark.parametrize(
    ("infos", "hour"),
    [
        ([expiring(12), expiring(15, KITAKATA)], 15),
        ([expiring(12), expiring(None, KITAKATA)], None),
        ([expiring(12), expiring(18, severity="Severe")], 12),
        ([expiring(12), expiring(None, severity="Minor")], 12),
        ([expiring(None), expiring(12, severity="Minor")], None),
        ([expiring(18, response="AllClear"), expiring(12)], 12),
        ([expiring(None, language="en"), expiring(12)], 12),
        ([expiring(18, language="en"), expiring(12)], 12),
        ([expiring(18, language="en"), expiring(12, severity="Severe")], 18),
    ],
)
def test_an_alert_holds_until_the_last_of_what_it_warns_of_most_is_over(infos: list[str], hour: int | None) -> None:
    wanted = None if hour is None else datetime(2026, 6, 2, hour - 9, tzinfo=UTC)
    assert only(alert(*infos)).data.get("valid_until") == wanted


def test_onset_comes_before_effective() -> None:
    both = "<effective>2026-06-02T09:00:00+09:00</effective><onset>2026-06-02T10:00:00+09:00</onset>"
    assert only(alert(info(more=both))).data["target_at"] == datetime(2026, 6, 2, 1, tzinfo=UTC)
    effective = "<effective>2026-06-02T09:00:00+09:00</effective>"
    assert only(alert(info(more=effective))).data["target_at"] == datetime(2026, 6, 2, tzinfo=UTC)


def test_the_issuer_is_its_name_else_the_sender() -> None:
    assert only(alert(info(more="<senderName>会津</senderName>"))).data["issuer"] == "会津"
    assert only(alert(info())).data["issuer"] == SENDER


def test_cap_1_1_is_read_too_and_1_0_is_not() -> None:
    assert only(alert(info(area(AIZU)), version=V11)).data["areas"][0]["area"] == "07202"
    assert "no alert of CAP" in refusal(alert(info(), version="http://www.incident.com/cap/1.0")).reason


# Where


@pytest.mark.parametrize(
    ("system", "code", "found"),
    [
        ("JIS X 0402", "07202", "07202"),
        ("JIS X 0402:2020", "07202", "07202"),
        ("jis_x_0402", "07202", "07202"),
        ("ＪＩＳ Ｘ ０４０２", "07202", "07202"),
        ("JIS X 0401/0402", "07202", "07202"),
        ("全国地方公共団体コード", "072028", "07202"),
        ("市町村コード", "13104", "13104"),
        ("全国地方公共団体コード", "072027", None),
        ("全国地方公共団体コード", "070009", "07"),
        ("JIS X 0402", "07000", "07"),
        ("JIS X 0401", "07", "07"),
        ("JIS X 0401", "00", None),
        ("JIS X 0401", "48", None),
        ("JIS X 0401", "07202", None),
        ("JIS X 0402", "202", None),
        ("JIS X 0402", "99202", None),
        ("JIS X 0402", "０７２０２", None),
        ("AreaInformationCity", "0720200", "07202"),
        ("気象情報／市町村等", "0720200", "07202"),
        ("気象・地震・火山情報／市町村等", "4621501", "46215"),
        ("AreaInformationCity", "070030", None),
        ("AreaInformationCity", "0700000", None),
        ("FIPS6", "072028", None),
        ("SAME", "007202", None),
        ("UGC", "07202", None),
        ("profile:CAP-CP:Location:0.3", "3537001", None),
    ],
)
def test_a_code_is_an_area_where_it_surely_is_one_and_always_kept_as_written(
    system: str, code: str, found: str | None
) -> None:
    (place,) = places(alert(info(area((system, code)))))
    assert place.get("area") == found
    assert (place["region"], place["region_system"]) == (code, system)


def test_the_operator_says_what_a_senders_own_codes_are() -> None:
    payload = alert(info(area(("X-City.No", "07202"))))
    assert "area" not in places(payload)[0]
    assert places(payload, geocodes={"x city no": "municipality"})[0]["area"] == "07202"


def test_outlines_are_kept_and_declare_nothing() -> None:
    polygon = "<polygon>+37.4,139.8 37.4,140.0 37.6,140 \n +37.4,139.8</polygon><polygon> </polygon>"
    assert places(alert(info(area(inside=polygon)))) == [
        {"polygon": "37.4,139.8 37.4,140.0 37.6,140 37.4,139.8"},
    ]


def test_a_circle_becomes_an_outline_around_it() -> None:
    (place,) = places(alert(info(area(inside="<circle>37.5,139.9 10</circle>"))))
    assert (place["region"], place["region_system"]) == ("37.5,139.9 10", "circle")
    corners = [tuple(map(float, pair.split(","))) for pair in place["polygon"].split(" ")]
    assert len(corners) == 37
    assert corners[0] == corners[-1]
    assert max(lat for lat, _ in corners) == pytest.approx(37.5 + 10 / 111.2, abs=0.002)
    assert max(lon for _, lon in corners) == pytest.approx(139.9 + 10 / 111.2 / 0.793, abs=0.002)


@pytest.mark.parametrize("circle", ["-35,147 0.0", "89.99,0 50", "0,179.99 50", "37,139 9999", "37.5 139.9 10"])
def test_a_circle_that_no_outline_fits_is_kept_as_written(circle: str) -> None:
    assert places(alert(info(area(inside=f"<circle>{circle}</circle>")))) == [
        {"region": circle, "region_system": "circle"}
    ]


@pytest.mark.parametrize(
    "polygon", ["37,139 38,139 38,140 37,140", "37,139 38,139 37,139", "37,139, 38,139", "37,139 99,139 38,140 37,139"]
)
def test_an_outline_that_is_none_keeps_no_alert_away(polygon: str) -> None:
    assert places(alert(info(area(AIZU, inside=f"<polygon>{polygon}</polygon>")))) == [
        {"area": "07202", "region": "07202", "region_system": "JIS X 0402"},
        {"region": polygon, "region_system": "polygon"},
    ]


def test_an_area_in_words_only_is_a_row_with_its_name() -> None:
    assert only(alert(info(area(name="会津地方")))).data["areas"] == [
        {"name": "会津地方", "level": "extreme-immediate", "warning": "大雨特別警報"}
    ]


# Which alert, which chain


def test_the_same_alert_written_otherwise_is_the_same_event() -> None:
    one = alert(info(area(AIZU)))
    other = one.replace("><", ">\r\n\t<").replace("2026-06-02T09:00:00+09:00", "2026-06-02T00:00:00-00:00")
    other = other.replace("<", "<c:").replace("<c:/", "</c:").replace("xmlns=", "xmlns:c=")
    assert only(other) == only(one)


@pytest.mark.parametrize(
    "change", [{"identifier": "a2"}, {"sender": "a@b.example"}, {"sent": "2026-06-02T09:00:01+09:00"}]
)
def test_another_sender_identifier_or_time_is_another_alert(change: dict[str, str]) -> None:
    anyone = cap(senders=["*"])
    one, other = only(alert(info()), anyone), only(alert(info(), **change), anyone)
    assert one.id != other.id
    assert one.data["chain"] != other.data["chain"]


def test_an_update_goes_on_with_the_chain_of_the_earliest_that_it_names() -> None:
    first = only(alert(info(area(AIZU))))
    names = [named("a2", "2026-06-02T10:00:00+09:00"), named("a1", "2026-06-01T20:00:00-04:00")]
    own, over = told(
        alert(info(area(AIZU)), type_="Update", identifier="a3", sent="2026-06-02T11:00:00+09:00", names=names)
    ).events
    assert (own.data["action"], own.data["chain"]) == ("amended", first.data["chain"])
    assert own.data["references"] == [first.data["chain"], f"{SENDER},a2,2026-06-02T01:00:00Z"]
    assert (over.data["action"], over.data["chain"]) == ("cancelled", f"{SENDER},a2,2026-06-02T01:00:00Z")
    assert over.data["areas"] == []
    assert over.data["reported_at"] == over.occurred_at == own.occurred_at


def test_where_senders_name_only_the_last_one_each_update_is_a_chain_that_ends_the_one_before() -> None:
    payload = alert(info(area(AIZU)), type_="Update", identifier="a3", names=[named("a2")])
    own, over = told(payload, cap(references="last")).events
    assert own.data["chain"].startswith(f"{SENDER},a3,")
    assert (over.data["action"], over.data["chain"].split(",")[1]) == ("cancelled", "a2")
    gone = told(alert(type_="Cancel", identifier="a4", names=[named("a3")]), cap(references="last")).events
    assert [(event.data["action"], event.data["chain"].split(",")[1]) for event in gone] == [("cancelled", "a3")]


def test_an_update_that_is_all_clear_everywhere_lifts_and_one_that_is_not_amends() -> None:
    over, on = info(area(AIZU), response="AllClear"), info(area(KITAKATA))
    for infos, action in (((over,), "lifted"), ((over, on), "amended")):
        payload = alert(*infos, type_="Update", identifier="a2", names=[named("a1")])
        assert only(payload).data["action"] == action
    assert only(alert(over)).data["action"] == "issued"


def test_a_cancel_takes_back_with_or_without_what_it_repeats() -> None:
    for infos in ((), (info(area(AIZU)),)):
        event = only(alert(*infos, type_="Cancel", identifier="a9", names=[named("a1")]))
        assert (event.data["action"], event.data["areas"]) == ("cancelled", [])
        assert event.data["chain"] == only(alert()).data["chain"]


def test_a_cancel_that_does_not_say_of_what_is_refused_and_an_update_is_taken_alone() -> None:
    assert refusal(alert(type_="Cancel")).path == "references"
    assert refusal(alert(type_="Cancel", names=[named("a1")])).path == "references"  # itself
    event = only(alert(info(area(AIZU)), type_="Update"))
    assert (event.data["action"], event.data["chain"]) == ("amended", only(alert()).data["chain"])


def test_what_an_alert_of_type_alert_names_is_kept_and_ends_nothing() -> None:
    event = only(alert(info(), identifier="a2", names=[named("a1")]))
    assert event.data["chain"].startswith(f"{SENDER},a2,")
    assert len(event.data["references"]) == 1


# What is not recorded


@pytest.mark.parametrize("status", ["Test", "System", "Draft"])
def test_tests_and_drafts_are_not_recorded(status: str) -> None:
    assert "Test, System or Draft" in (told(alert(info(), status=status)).nothing or "")


@pytest.mark.parametrize("type_", ["Ack", "Error"])
def test_messages_between_systems_are_not_recorded(type_: str) -> None:
    assert "Ack or Error" in (told(alert(type_=type_, names=[named("a1")])).nothing or "")


@pytest.mark.parametrize("scope", ["Private", "Restricted"])
def test_what_is_not_public_is_not_recorded(scope: str) -> None:
    translation = told(alert(info(area(AIZU)), scope=scope))
    assert "Public" in (translation.nothing or "")
    assert not translation.events


def test_a_drill_is_an_exercise() -> None:
    event = only(alert(info(area(AIZU)), status="Exercise"))
    assert event.exercise
    assert event.data["status"] == "exercise"


# Whom it believes


def test_without_senders_only_drills_are_read() -> None:
    nobody = CAP()
    error = refusal(alert(info(area(AIZU))), nobody)
    assert (error.path, "options.senders" in error.reason) == ("sender", True)
    assert only(alert(info(area(AIZU)), status="Exercise"), nobody).exercise
    assert told(alert(info(), status="Test"), nobody).nothing
    assert refusal(alert(info()), CAP(Settings(options={"senders": []}))).path == "sender"


def test_another_sender_is_not_recorded_whatever_it_says() -> None:
    for status in ("Actual", "Exercise", "Test"):
        assert "does not name" in (told(alert(info(), sender="x@y.example", status=status)).nothing or "")


def test_a_star_believes_anyone() -> None:
    assert only(alert(info(), sender="x@y.example"), cap(senders=["*"]))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"senders": "all"}, "options.senders"),
        ({"senders": [1]}, "options.senders"),
        ({"senders": {"a": "missing"}}, "options.senders"),
        ({"senders": {"a": True}}, "options.senders"),
        ({"senders": {"*": "pem"}}, "options.senders"),
        ({"senders": {"a": "pem"}}, "files.pem"),
        ({"geocodes": {"x": "city"}}, "options.geocodes"),
        ({"geocodes": "x"}, "options.geocodes"),
        ({"geocodes": {"x": []}}, "options.geocodes"),
        ({"references": "first"}, "options.references"),
        ({"references": []}, "options.references"),
        ({"feed": 1}, "options.feed"),
        ({"sender": ["a"]}, "options"),
    ],
)
def test_a_setting_that_is_wrong_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(Misuse, match=named):
        CAP(Settings(options=options, files={"pem": b"no certificate"}))


# Feeds


def test_the_alerts_of_a_feed_come_by_the_time_at_which_they_were_sent() -> None:
    late = alert(info(), identifier="late", sent="2026-06-02T11:00:00+09:00")
    early = alert(info(), identifier="early", sent="2026-06-02T10:00:00+09:00")
    translation = told(atom(inside(late), inside(early)))
    assert [event.id.split(":")[1] for event in translation.events] == ["early", "late"]
    assert translation.reported_at == datetime(2026, 6, 2, 2, tzinfo=UTC)


def test_one_bad_alert_of_a_feed_is_rejected_by_itself_and_translates_alone() -> None:
    bad = alert(info(), identifier="bad").replace("<scope>Public</scope>", "")
    translation = told(atom(inside(bad), inside(alert(info()))))
    assert len(translation.events) == 1
    (rejected,) = translation.rejected
    assert rejected.error.path == "entry[1]/content/alert/scope"
    assert refusal(rejected.payload).path == "scope"
    mended = rejected.payload.replace(b"<info>", b"<scope>Public</scope><info>")
    assert cap().translate(mended).events


def test_an_alert_that_stands_twice_in_a_feed_counts_once_and_two_that_claim_to_be_one_do_not() -> None:
    one, other = alert(info(area(AIZU))), alert(info(area(KITAKATA)))
    assert len(told(atom(inside(one), inside(one))).events) == 1
    translation = told(atom(inside(one), inside(other)))
    assert [event.data["areas"][0]["area"] for event in translation.events] == ["07202"]
    assert [rejected.error.path for rejected in translation.rejected] == ["entry[2]/content/alert/identifier"]


def test_an_entry_that_only_links_says_so() -> None:
    link = '<link href="https://cap.example/1.xml"/>'
    index = told(atom(link, link))
    assert index.nothing
    assert "2 × only links" in index.nothing
    mixed = told(atom(link, inside(alert(info()))))
    assert [rejected.error.path for rejected in mixed.rejected] == ["entry[1]"]
    assert "only links" in refusal(mixed.rejected[0].payload).reason


def test_an_entry_with_neither_alert_nor_link_is_rejected() -> None:
    page = '<link type="text/html" href="https://cap.example/"/>'
    (rejected,) = told(atom(page)).rejected
    assert "neither an alert nor a link" in rejected.error.reason
    assert "neither an alert nor a link" in refusal(rejected.payload).reason
    assert told(atom()).nothing


def test_an_alert_in_an_rss_item_is_read() -> None:
    for item in (alert(info()), f'<x:content xmlns:x="urn:x">{alert(info())}</x:content>'):
        assert only(f'<rss version="2.0"><channel><title>t</title><item>{item}</item></channel></rss>')


def test_an_alert_inside_an_alert_or_deeper_in_an_entry_is_not_read() -> None:
    nested = alert(info(), more=alert(info(), identifier="inner"))
    assert only(nested).id.split(":")[1] == "a1"
    deeper = f"<content><div>{alert(info())}</div></content>"
    assert not told(atom(deeper)).events


# What others wrote

OWN = sorted(path for path in GOLDENS.glob("*.xml") if path.suffix == ".xml")


@needs_data
@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_our_own_alerts_are_valid_by_the_schema_of_cap(path: Path) -> None:
    version = "cap11.xsd" if V11 in path.read_text() else "CAP-v1.2.xsd"
    etree.XMLSchema(file=str(DATA / "schema" / version)).assertValid(etree.parse(str(path)))


@needs_data
def test_our_own_feeds_hold_alerts_that_are_valid_too() -> None:
    schema = etree.XMLSchema(file=str(DATA / "schema" / "CAP-v1.2.xsd"))
    feed = etree.parse(str(GOLDENS / "10-feed.atom"))
    found = [schema.validate(one) for one in feed.iter("{urn:oasis:names:tc:emergency:cap:1.2}alert")]
    assert found == [True, False]  # the second has a time without offset


FILES = {
    "google-cap-library/amber.atom": (["severe"], None),
    "google-cap-library/australia.cap": (["minor"], None),
    "google-cap-library/bushfire_valid.edxlde": ([], "is no alert of CAP"),
    "google-cap-library/canada.cap": (["none", None], None),
    "google-cap-library/earthquake.cap": (["none"], None),
    "google-cap-library/earthquake_index.atom": ([], "only links"),
    "google-cap-library/invalid.cap": ([], "scope: is missing"),
    "google-cap-library/invalid.rss": ([], "neither an alert nor a link"),
    "google-cap-library/noaa_errors.cap": ([], "info/severity: is empty"),
    "google-cap-library/ny_index.rss": ([], "2 × only links"),
    "google-cap-library/weather.atom": (["severe"], None),
    "google-cap-library/weather.cap": (["severe"], None),
    "google-cap-library/weather_index.atom": ([], "2 × only links"),
    "google-cap-library/weather_invalid.atom": ([], "identifier: is no name"),
    "nws-live/noaaExampleSmall.xml": ([], "only links"),
    "nws-live/nws_atom_feed_example.xml": ([], "163 × only links"),
    "oasis/cap_amber_alert_example.xml": (["severe"], None),
}
"""Each file, the highest levels that it gives, or why it gives nothing."""


@needs_data
def test_every_file_is_judged() -> None:
    found = {str(path.relative_to(DATA)) for path in DATA.rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith("schema/")} - {"PROVENANCE.md"} == FILES.keys()


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_others_wrote_gives_events_or_the_reason_why_not(name: str) -> None:
    wanted, reason = FILES[name]
    anyone = cap(senders=["*"])
    payload = (DATA / name).read_bytes()
    if reason and reason.startswith(("is no alert", "scope", "info")):
        assert reason in str(refusal(payload, anyone))
        return
    translation = anyone.translate(payload)
    assert [event.data.get("max_level") for event in translation.events] == wanted
    said = [translation.nothing, *(str(rejected.error) for rejected in translation.rejected)]
    assert [reason] == [reason for text in said if text and reason and reason in text] if reason else said == [None]
    kind = packaged().newest("hazard.reported")
    assert kind
    for event in translation.events:
        kind.encode(event.data)


@needs_data
def test_the_update_of_canada_is_joined_to_the_first_that_it_names_and_clears_its_areas() -> None:
    payload = (DATA / "google-cap-library/canada.cap").read_bytes()
    own, over = cap(senders=["*"]).translate(payload).events
    assert own.data["action"] == "lifted"
    assert own.data["chain"] == "cap@ec.gc.ca,2.49.0.1.124.a3f342a4.2012,2012-05-02T21:45:05Z"
    assert over.data["chain"] == "cap@ec.gc.ca,2.49.0.1.124.60f31a3a.2012,2012-05-02T21:55:21Z"
    assert own.data["title"] == "thunderstorm"
    assert {place["region_system"] for place in own.data["areas"] if "region" in place} == {
        "layer:EC-MSC-SMC:1.0:CLC",
        "profile:CAP-CP:Location:0.3",
    }
    assert sum("polygon" in place for place in own.data["areas"]) == 2
    assert len(own.data["areas"]) == 15
