"""What is huge, nested, packed, expanding or wrongly encoded: refused with a reason, without work in proportion."""

from __future__ import annotations

import re
import time

import pytest

from hub.connector import Translation
from hub.connector.xml import read
from hub.schemas import packaged

from .alerts import AIZU, SENDER, alert, area, atom, cap, info, inside, named, refusal, told

GOOD = alert(info(area(AIZU)))
BOMB = '<!DOCTYPE a [<!ENTITY b "{}">{}]>'.format(
    "x" * 1000, "".join(f'<!ENTITY b{n} "{"&b;" * 100}">' for n in range(100))
)
EXTERNAL = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
PARAMETER = '<!DOCTYPE a [<!ENTITY % b SYSTEM "http://127.0.0.1:1/b"> %b;]>'
PROLOG = '<?xml version="1.0" encoding="{}"?>'


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{}", "is not well-formed"),
        (b"PK\x03\x04" + b"\0" * 1000, "is not well-formed"),
        (b"\x1f\x8b" + b"\0" * 1000, "is not UTF-8"),
        (GOOD.encode()[:-20], "is not well-formed"),
        (GOOD.encode("utf-16"), "is not"),
        (GOOD.encode("utf-32"), "is not"),
        (GOOD.encode("cp932"), "is not UTF-8"),
        ((PROLOG.format("Shift_JIS") + GOOD).encode("cp932"), "declares an encoding"),
        ((PROLOG.format("UTF-7") + GOOD).encode(), "declares an encoding"),
        ((BOMB + GOOD).encode(), "DOCTYPE"),
        ((EXTERNAL + GOOD.replace("大雨特別警報", "&b;")).encode(), "DOCTYPE"),
        ((PARAMETER + GOOD).encode(), "DOCTYPE"),
        (GOOD.replace("大雨特別警報", "&b;").encode(), "is not well-formed"),
        (GOOD.replace("大雨特別警報", "\ud800").encode("utf-8", "surrogatepass"), "is not UTF-8"),
        (GOOD.replace("大雨特別警報", "&#xD800;").encode(), "is not well-formed"),
        (GOOD.replace("大雨特別警報", "&#0;").encode(), "is not well-formed"),
        (b"<a>" * 3_000_000, "is not well-formed"),
        (b"<a" + b" x='1'" * 400_000 + b"/>", "is not well-formed"),
        (b"<a>" + b"x" * 17_000_000 + b"</a>", "is larger than"),
        (b"<alert>" + b"x" * 11_000_000 + b"</alert>", "is not well-formed"),
        (b"<alert/>", "no alert of CAP"),
        (b'<html xmlns="http://www.w3.org/1999/xhtml"/>', "no alert of CAP"),
        (b'<feed xmlns="urn:other"/>', "no alert of CAP"),
        (b'<rss xmlns="urn:other"/>', "no alert of CAP"),
        (b"<rss/>", "is missing"),
    ],
)
def test_what_is_no_alert_is_refused(payload: bytes, reason: str) -> None:
    started = time.process_time()
    assert reason in refusal(payload).reason
    assert time.process_time() - started < 5  # a fuse against expansion, far above what it takes


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("<identifier>a1</identifier>", ""), "identifier"),
        (("<identifier>a1</identifier>", "<identifier>a 1</identifier>"), "identifier"),
        (("<identifier>a1</identifier>", "<identifier>a,1</identifier>"), "identifier"),
        (("<identifier>a1</identifier>", "<identifier>a&amp;1</identifier>"), "identifier"),
        (("<identifier>a1</identifier>", f"<identifier>{'a' * 201}</identifier>"), "identifier"),
        (("<identifier>a1</identifier>", "<identifier>a\u202e1</identifier>"), "identifier"),
        (("<identifier>", "<identifier>a0</identifier><identifier>"), "identifier"),
        (("<sent>2026-06-02T09:00:00+09:00</sent>", ""), "sent"),
        (("T09:00:00+09:00", "T09:00:00"), "sent"),
        (("2026-06-02T", "2026-02-30T"), "sent"),
        (("2026-06-02T09", "0001-01-01T08"), "sent"),
        (("<status>Actual", "<status>actual"), "status"),
        (("<status>Actual</status>", ""), "status"),
        (("<msgType>Alert", "<msgType>Alerts"), "msgType"),
        (("<scope>Public", "<scope>World"), "scope"),
        (("<scope>Public</scope>", ""), "scope"),
        (("<severity>Extreme", "<severity>Extremely"), "info/severity"),
        (("<severity>Extreme</severity>", "<severity/>"), "info/severity"),
        (("<certainty>Observed", "<certainty>Sure"), "info/certainty"),
        (("<urgency>Immediate", "<urgency>Now"), "info/urgency"),
        (("<event>大雨特別警報</event>", ""), "info/event"),
        (("<event>大雨特別警報", "<event>" + "大" * 301), "info/event"),
        (("<language>ja-JP", "<language>" + "j" * 41), "info/language"),
        (("<areaDesc>会津</areaDesc>", ""), "info/area/areaDesc"),
        (("<areaDesc>会津", "<areaDesc>" + "会" * 4001), "info/area/areaDesc"),
        (("<value>07202</value>", ""), "info/area/geocode/value"),
        (("<valueName>JIS X 0402</valueName>", ""), "info/area/geocode/valueName"),
        (("<value>07202", "<value>" + "1" * 201), "info/area/geocode/value"),
        (("<area>", "<senderName>" + "x" * 2001 + "</senderName><area>"), "info/senderName"),
        (("<area>", "<expires>tomorrow</expires><area>"), "info/expires"),
        (("<area>", "<onset>2026-06-02T09:00:00</onset><area>"), "info/onset"),
        (("<info>", "<references>a1</references><info>"), "references"),
        (("<info>", "<references>a,b</references><info>"), "references"),
        (("<info>", "<references>a,b,2026-06-02T09:00:00</references><info>"), "references"),
        (("<info>", "<references>a,b,2026-06-02T09:00:00+09:00,c</references><info>"), "references"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change: tuple[str, str], path: str) -> None:
    assert change[0] in GOOD
    assert refusal(GOOD.replace(*change, 1)).path == path


def test_an_error_names_no_value() -> None:
    secret = "山田花子"
    for tag in ("sent", "status", "msgType", "scope", "severity", "certainty", "urgency"):
        payload = re.sub(rf"<{tag}>[^<]*<", f"<{tag}>{secret}<", GOOD, count=1)
        assert secret not in str(refusal(payload))
    for text in (secret, f"{secret},b,c", f"{SENDER},a1,{secret}"):
        assert secret not in str(refusal(alert(info(), type_="Update", names=[text])))
    assert secret not in (told(GOOD.replace(SENDER, secret)).nothing or "")


def spent(payload: str) -> tuple[Translation, int]:
    """What a payload gives, and how many bytes its events take."""
    translation = told(payload)
    kind = packaged().newest("hazard.reported")
    assert kind
    return translation, sum(len(kind.encode(event.data)) for event in translation.events)


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (alert(*[info()] * 201), "info[1]"),
        (alert(info(*[area(*[("X", str(n)) for n in range(5_001)])])), "info/area"),
        (alert(info(area(*[("X", str(n)) for n in range(1_000)], name="会" * 4_000))), "info/area"),
        (alert(info(area(inside=f"<polygon>{'1,1 ' * 10_000}1,1</polygon>"))), "info/area/polygon"),
        (alert(info(area(inside=f"<polygon>{'1' * 700_000}</polygon>"))), "info/area/polygon"),
        (alert(info(), type_="Update", names=[named(str(n)) for n in range(501)]), "references"),
        (atom(*["<link/>"] * 10_001), "feed"),
        (atom(*[inside(alert(identifier=str(n))) for n in range(2_001)]), "entry[2001]/content/alert"),
    ],
    ids=["infos", "codes", "names", "points", "digits", "references", "entries", "alerts"],
)
def test_what_would_grow_too_large_is_refused(payload: str, path: str) -> None:
    assert refusal(payload).path == path


def test_the_largest_that_is_read_stays_small() -> None:
    codes = [("X", str(n)) for n in range(450)]
    translation, size = spent(alert(info(area(*codes, name="会" * 4_000))))
    assert translation.events
    assert size < 8_000_000
    translation, size = spent(alert(info(), identifier="x", type_="Update", names=[named(str(n)) for n in range(500)]))
    assert len(translation.events) == 500
    assert size < 1_000_000


def test_a_sample_of_any_size_is_read_whole() -> None:
    for records in (0, 1, 10, 100_000):
        translation = cap().translate(cap().sample(records))
        assert len(translation.events) == min(max(records // 4, 1), 1_500)
        assert not translation.rejected


@pytest.mark.parametrize("cut", range(0, len(GOOD.encode()) - 1, 37))
def test_an_alert_that_breaks_off_is_refused(cut: int) -> None:
    refusal(GOOD.encode()[:cut])


def test_a_feed_of_bad_alerts_rejects_each() -> None:
    bad = alert(info(severity="Huge"))
    translation = told(atom(*[inside(bad)] * 300))
    assert len(translation.rejected) == 300
    assert read(translation.rejected[0].payload).name == "alert"


def test_unknown_elements_and_attributes_are_ignored() -> None:
    more = GOOD.replace("<info>", '<x:y xmlns:x="urn:x" z="1">x</x:y><unknown/><info more="1">')
    assert told(more).events == told(GOOD).events
    assert cap().translate(b"\xef\xbb\xbf" + GOOD.encode()).events == told(GOOD).events
