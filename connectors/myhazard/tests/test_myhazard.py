"""The connector `myhazard`: the suite that every connector inherits, what its records give, and hostile payloads."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub.conformance import Conformance
from hub.connector import Event, PayloadError, Request, Settings, Translation, Unsigned
from hub.schemas import packaged
from hub_connector_myhazard import MOST_REJECTED, MyHazard, locations, parts, records, words

PACKAGE = Path(__file__).parents[1]
LINE = [7, 1_780_272_000_000, 37.4947, 139.9299, 8.5]


class TestSuite(Conformance):
    package = PACKAGE


def translated(payload: Any) -> Translation:
    return MyHazard().translate(payload if isinstance(payload, bytes) else json.dumps(payload).encode())


def envelope(*listed: Any) -> dict[str, Any]:
    return {"format": "myhazard/1", "records": list(listed)}


def record(type: str, **more: Any) -> dict[str, Any]:
    return {"type": type, "id": "r", "rev": 1, "user": "u-1", "at": "2026-06-01T09:00:00+09:00"} | more


def bundle(*fixes: Any, **more: Any) -> dict[str, Any]:
    return {"type": "location_bundle", "id": "b", "rev": 1, "user": "u-1", "device": "d", "fixes": list(fixes)} | more


def events(*listed: Any) -> list[Event]:
    said = translated(envelope(*listed))
    assert not said.rejected, said.rejected
    return list(said.events)


def only(*listed: Any) -> Event:
    (event,) = events(*listed)
    return event


def refusal(payload: Any) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        translated(payload)
    return caught.value


def unread(payload: Any) -> list[str]:
    return [str(part.error) for part in translated(payload).rejected]


def encoded(event: Event) -> bytes:
    kind = packaged().newest(event.kind)
    assert kind is not None
    return kind.encode(event.data)


# What the records say


@pytest.mark.parametrize("status", words.SAFETY)
def test_a_safety_status_is_mapped_and_kept_in_the_note_where_the_kind_has_no_word(status: str) -> None:
    wanted, original = words.SAFETY[status]
    event = only(record("safety", status=status, comment="坂の上にいます"))
    assert event.data["status"] == wanted
    note = event.data["note"].split("\n")
    assert note == ([] if original is None else [f"アプリでの区分: {original}"]) + ["坂の上にいます"]
    assert encoded(event)


@pytest.mark.parametrize("status", words.EVACUATION)
def test_an_evacuation_status_is_mapped_and_kept_in_the_note_where_the_kind_has_no_word(status: str) -> None:
    wanted, original = words.EVACUATION[status]
    event = only(record("evacuation", status=status))
    assert event.data["status"] == wanted
    assert event.data.get("note") == (None if original is None else f"アプリでの区分: {original}")
    assert encoded(event)


@pytest.mark.parametrize("status", words.EVACUATION)
def test_a_place_is_where_the_person_is_and_of_one_under_way_where_they_go(status: str) -> None:
    said = only(record("evacuation", status=status, place="鶴ヶ城公園", comment="犬がいる")).data
    notes = said["note"].split("\n")
    assert said.get("place") == (None if status == "moving" else "鶴ヶ城公園")
    assert ("避難先: 鶴ヶ城公園" in notes) == (status == "moving")
    assert notes[-1] == "犬がいる"


def test_a_request_for_transport_says_which_it_is_in_each_of_its_revisions() -> None:
    said = events(
        *(record("transport", id=name, rev=rev, status="requested") for name, rev in (("a", 1), ("a", 2), ("b", 1)))
    )
    assert [event.data["request"] for event in said] == ["a", "a", "b"]


def test_an_answer_for_a_family_member_is_about_the_member_and_names_the_other_without_their_id() -> None:
    by = {"user": "u-9", "relation": "娘", "name": "会津 桜"}
    event = only(record("safety", status="safe", by=by))
    assert (event.ref, event.data["answered_by"]) == ("u-1", "会津 桜(娘)")
    assert "u-9" not in repr(event)
    assert only(record("safety", status="safe", by={"relation": "娘"})).data["answered_by"] == "娘"


def test_a_correction_hides_the_revisions_that_were_wrong_and_no_other() -> None:
    said = events(record("safety", id="s", rev=4, voids=[3, 1, 3], status="safe"))
    assert [(event.id, event.data.get("event")) for event in said] == [
        ("s:4", None),
        ("s:4:voids:1", "s:1"),
        ("s:4:voids:3", "s:3"),
    ]


@pytest.mark.parametrize("voids", [[1], [0], [-1], [True], ["1"], [], 1, [1.5]])
def test_a_first_revision_has_nothing_to_void(voids: Any) -> None:
    (told,) = unread(envelope(record("safety", status="safe", voids=voids)))
    assert told.startswith("records[0].voids")


def test_a_transport_that_is_cancelled_is_only_taken_back() -> None:
    said = events(record("transport", rev=3, voids=[1, 2], status="cancelled"))
    assert {(event.kind, event.data["event"]) for event in said} == {
        ("fact.retracted", "r:1"),
        ("fact.retracted", "r:2"),
    }
    assert unread(envelope(record("transport", rev=2, status="cancelled"))) == [
        "records[0].voids: is missing: which revisions are cancelled"
    ]


def test_a_deletion_hides_what_was_sent_before_of_every_type() -> None:
    household = record("household", id="h", members=[{"user": "u-1", "profile": {"name": "会津 花子"}}])
    sent = events(
        record("profile", id="p", name="会津 花子"),
        household,
        record("safety", id="s", status="safe"),
        record("evacuation", id="e", status="home"),
        record("transport", id="t", status="requested"),
        record("location", id="l", device="d", n=6, lat=37.4, lon=139.9, accuracy=5),
        bundle(LINE),
    )
    of: list[dict[str, Any]] = [
        {"type": kind, "id": name, "revs": [1]}
        for kind, name in [
            ("profile", "p"),
            ("household", "h"),
            ("safety", "s"),
            ("evacuation", "e"),
            ("transport", "t"),
        ]
    ]
    of.append({"type": "location", "device": "d", "n": [6, 7]})
    hidden = events(record("deletion", id="x", of=of))
    assert {event.data["event"] for event in hidden} == {event.id for event in sent}
    assert {(event.kind, event.ref) for event in hidden} == {("fact.retracted", "u-1")}
    assert len({event.id for event in hidden}) == len(sent)


def test_a_drill_is_an_exercise_and_what_takes_it_back_is_none_since_the_hub_knows_none() -> None:
    said = events(record("safety", rev=2, voids=[1], drill=True, status="trapped"), bundle(LINE, drill=True))
    assert [(event.kind, event.exercise) for event in said] == [
        ("safety.answered", True),
        ("fact.retracted", False),
        ("location.reported", True),
    ]


def test_each_member_of_a_household_has_a_whole_profile_and_no_id_says_whose() -> None:
    members = [
        {"user": "u-1", "profile": {"name": "会津 花子", "contact": "隣家"}},
        {"user": "u-2", "profile": {"name": "会津 太郎"}},
    ]
    one, other = events(record("household", address="東栄町3-46", contact="会津 桜", size=2, members=members))
    assert (one.ref, one.data) == (
        "u-1",
        {"name": "会津 花子", "contact": "隣家", "address": "東栄町3-46", "household": 2},
    )
    assert (other.ref, other.data["contact"]) == ("u-2", "会津 桜")
    assert one.id != other.id
    assert "u-1" not in one.id


def test_a_member_who_cannot_be_read_or_stands_twice_costs_nobody_else_their_profile() -> None:
    members = [
        {"user": "u-1", "profile": {"birth_date": "1950-02-30"}},
        {"user": "u-2", "profile": {"name": "会津 太郎"}},
        {"user": "u-2", "profile": {"name": "会津 次郎"}},
        {"profile": {}},
    ]
    said = translated(envelope(record("household", user="u-2", members=members)))
    assert [event.ref for event in said.events] == ["u-2"]
    assert [(part.error.path, part.refs) for part in said.rejected] == [
        ("records[0].members[0].profile.birth_date", ("u-2", "u-1")),
        ("records[0].members[2]", ("u-2",)),
        ("records[0].members[3].user", ("u-2",)),
    ]


def test_a_record_by_itself_says_what_it_says_in_an_envelope() -> None:
    for one in (record("safety", status="safe"), bundle(LINE), record("profile", household="夫婦")):
        assert translated({"format": "myhazard/1"} | one).events == events(one)


# Locations


def test_coordinates_keep_the_digits_in_which_they_came() -> None:
    payload = (
        b'{"format": "myhazard/1", "type": "location_bundle", "id": "b", "rev": 1, "user": "u", "device": "d",'
        b' "fixes": [[1, 1780272000000, 37.494700, 139.92987450001234, 5], [2, 1780272000001, 37, 1.399e2, 5.0]]}'
    )
    one, two = translated(payload).events
    assert (str(one.data["lat_deg"]), str(one.data["lon_deg"])) == ("37.494700", "139.92987450001234")
    assert two.data["lat_deg"] == Decimal(37)
    assert b"139.9" in encoded(two)


def test_a_location_is_one_event_alone_in_a_bundle_and_in_the_next_bundle() -> None:
    alone = only(
        record("location", device="d", n=7, at="2026-06-01T09:00:00.000+09:00", lat=37.4947, lon=139.9299, accuracy=8.5)
    )
    first, second = events(bundle(LINE), bundle(LINE, id="c", rev=9))
    assert alone == first == second
    other_device, other_number = events(bundle(LINE, device="e"), bundle([8, *LINE[1:]]))
    assert len({alone.id, other_device.id, other_number.id}) == 3


@pytest.mark.parametrize("ms", [946_684_800_000, 1_780_272_000_001, 1_780_272_000_999, 4_102_444_799_999])
def test_the_time_of_a_fix_is_exact_to_the_millisecond(ms: int) -> None:
    at = only(bundle([1, ms, *LINE[2:]])).occurred_at
    assert at is not None
    assert at.utcoffset() is not None
    assert round(at.timestamp() * 1000) == ms
    assert at.microsecond == ms % 1000 * 1000


BAD_FIXES: list[tuple[Any, str]] = [
    (None, ""),
    (5, ""),
    ({"lat": 1}, ""),
    ([], ""),
    (LINE[:4], ""),
    ([*LINE, 1, 2, 3, 4], ""),
    ([None, *LINE[1:]], ".n"),
    ([True, *LINE[1:]], ".n"),
    ([1.5, *LINE[1:]], ".n"),
    ([-1, *LINE[1:]], ".n"),
    ([2**53, *LINE[1:]], ".n"),
    ([1, 1_780_272_000, *LINE[2:]], ".t"),
    ([1, 1_780_272_000_000_000, *LINE[2:]], ".t"),
    ([1, "2026-06-01T09:00:00Z", *LINE[2:]], ".t"),
    ([1, None, *LINE[2:]], ".t"),
    ([1, LINE[1], 90.0001, 139.9, 5], ".lat"),
    ([1, LINE[1], "37.4", 139.9, 5], ".lat"),
    ([1, LINE[1], True, 139.9, 5], ".lat"),
    ([1, LINE[1], None, 139.9, 5], ".lat"),
    ([1, LINE[1], 10**400, 139.9, 5], ".lat"),
    ([1, LINE[1], 37.4, -180.5, 5], ".lon"),
    ([1, LINE[1], 37.4, 180.5, 5], ".lon"),
    ([1, LINE[1], -90.5, 139.9, 5], ".lat"),
    ([1, LINE[1], 37.4, [139.9], 5], ".lon"),
    ([1, LINE[1], 37.4, 139.9, None], ".accuracy"),
    ([1, LINE[1], 37.4, 139.9, -1], ".accuracy"),
    ([1, LINE[1], 37.4, 139.9, 10**400], ".accuracy"),
    ([*LINE, 99_999], ".altitude"),
    ([*LINE, -1_001], ".altitude"),
    ([*LINE, None, -2], ".speed"),
    ([*LINE, None, "fast"], ".speed"),
    ([*LINE, None, None, 360.5], ".heading"),
    ([*LINE, None, None, False], ".heading"),
]


@pytest.mark.parametrize(("fix", "path"), BAD_FIXES)
def test_a_bad_fix_is_rejected_by_itself_and_its_part_translates_alone(fix: Any, path: str) -> None:
    good = [900, *LINE[1:]]
    said = translated(envelope(bundle([1_000, *LINE[1:]], fix, good, drill=True)))
    assert len(said.events) == 2
    (part,) = said.rejected
    assert (part.error.path, part.refs) == (f"records[0].fixes[1]{path}", ("u-1",))
    (again,) = translated(part.payload).rejected
    assert (again.error.path, again.error.reason) == (f"records[0].fixes[0]{path}", part.error.reason)
    mended = json.loads(part.payload)
    mended["records"][0]["fixes"] = [good]
    assert translated(mended).events == said.events[1:]


@pytest.mark.parametrize("number", [b"37." + b"1" * 29, b"1e-40", b"0e-99999", b"0e999", b"37.0" + b"0" * 5_000])
def test_a_coordinate_of_too_many_digits_is_rejected_and_every_other_can_be_encoded(number: bytes) -> None:
    head = (
        b'{"format": "myhazard/1", "type": "location_bundle", "id": "b", "rev": 1, "user": "u", "device": "d", "fixes":'
    )
    fixes = (
        b"[[1,1780272000000,%b,139.9,5],[2,1780272000000,37.%b,139.9,5],[3,1780272000000,1e-29,139.9,5],"
        b"[4,1780272000000,37.4,%b,5]]"
    )
    said = translated(head + fixes % (number, b"1" * 28, number) + b"}")
    assert [part.error.path for part in said.rejected] == ["fixes[0].lat", "fixes[3].lon"]
    assert len([encoded(event) for event in said.events]) == 2


def test_a_fix_whose_number_another_one_has_is_rejected() -> None:
    said = translated(envelope(bundle(LINE, LINE, [7, LINE[1] + 1, *LINE[2:]])))
    assert len(said.events) == 1
    assert [part.error.path for part in said.rejected] == ["records[0].fixes[2].n"]


def test_after_a_thousand_bad_fixes_the_rest_of_a_bundle_is_not_looked_at() -> None:
    for bad, taken in ((records.MOST_UNREAD, True), (records.MOST_UNREAD + 1, False)):
        said = translated(envelope(bundle(*([[]] * bad), LINE)))
        assert bool(said.events) is taken
        assert len(said.rejected) == (bad if taken else 1)
    events, unread = locations.bundle([[]] * 50 + [LINE], user="u", device="d", drill=False, most=10)
    assert (events, len(unread)) == ([], 11)


def test_an_unknown_speed_or_heading_is_left_out_and_an_altitude_of_minus_one_is_one() -> None:
    event = only(bundle([*LINE, -1, -1, -1.0]))
    assert dict(event.data) == {
        "lat_deg": Decimal("37.4947"),
        "lon_deg": Decimal("139.9299"),
        "accuracy_m": 8.5,
        "altitude_m": -1.0,
    }


def test_the_sample_has_as_many_locations_as_were_asked_for_and_all_fit_their_schema() -> None:
    said = MyHazard().translate(MyHazard().sample(3_000))
    assert (len(said.events), list(said.rejected), said.nothing) == (3_000, [], None)
    assert len({event.id for event in said.events}) == 3_000
    assert all(map(encoded, said.events))


# Whose request it is

SECRET = "wh-s3cret"
BODY = b'{"format": "myhazard/1", "records": []}'


def signature(stamp: str = "1780272000", body: bytes = BODY, secret: str = SECRET) -> str:
    return "v1=" + hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def asked(stamp: str | None, shown: str | None, body: bytes = BODY, secret: str | None = SECRET) -> None:
    headers = {"myhazard-timestamp": stamp, "myhazard-signature": shown}
    request = Request(headers={name: value for name, value in headers.items() if value is not None}, body=body)
    MyHazard(Settings(secrets={} if secret is None else {"webhook": secret})).verify(request)


def test_a_signed_webhook_is_the_apps_also_with_the_signature_of_the_next_key_beside() -> None:
    asked("1780272000", signature())
    asked("1780272000", f"{signature(secret='next')}, {signature()}")


@pytest.mark.parametrize(
    ("stamp", "shown", "body", "secret"),
    [
        (None, None, BODY, SECRET),
        ("1780272000", None, BODY, SECRET),
        (None, signature(), BODY, SECRET),
        ("1780272001", signature(), BODY, SECRET),
        ("1780272000", signature(), BODY + b" ", SECRET),
        ("1780272000", signature(secret="another"), BODY, SECRET),
        ("1780272000", signature().removeprefix("v1="), BODY, SECRET),
        ("1780272000", signature().upper(), BODY, SECRET),
        ("1780272000", "v1=", BODY, SECRET),
        ("1780272000", "v1=\u00e9\udcff", BODY, SECRET),
        ("1780272000\n", signature("1780272000\n"), BODY, SECRET),
        ("١٧", signature("١٧"), BODY, SECRET),
        ("1780272000", ",".join(["v1=0"] * 4 + [signature()]), BODY, SECRET),
        ("1780272000", signature(secret=""), BODY, None),
        ("1780272000", signature(secret=""), BODY, ""),
    ],
)
def test_whatever_is_not_signed_so_is_refused(stamp: str | None, shown: str, body: bytes, secret: str | None) -> None:
    with pytest.raises(Unsigned):
        asked(stamp, shown, body, secret)


# Hostile payloads


def raw(record: bytes) -> bytes:
    return b'{"format": "myhazard/1", "records": [' + record + b"]}"


HEAD = b'{"type": "location_bundle", "id": "b", "rev": 1, "user": "u", "device": "d", "fixes": '

QUICK_S = 5.0
"""Of the processor, on a machine that is busy with others: what grows with the square of its input is far above."""

HOSTILE: dict[str, bytes] = {
    "not UTF-8": raw(b'"\xff"'),
    "another encoding": BODY.decode().encode("utf-16"),
    "cp932": raw(json.dumps(record("profile", name="会津"), ensure_ascii=False).encode("cp932")),
    "nested as a whole": b"[" * 200_000,
    "nested in a record": raw(b'{"type": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "a name twice": b'{"format": "myhazard/1", "format": "myhazard/1", "records": []}',
    "not a number": raw(HEAD + b"[[1, NaN, 37, 139, 5]]}"),
    "a number of many digits": raw(HEAD + b"[[" + b"9" * 5_000 + b", 1, 37, 139, 5]]}"),
    "a far exponent": raw(HEAD + b"[[1, 1780272000000, 1e999999999999999999999, 139, 5]]}"),
    "too large": b" " * (16 * 1024 * 1024 + 1),
    "a zip": b"PK\x03\x04" + b"\0" * 1_000,
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    "records that are none": raw(b",".join([b"{}"] * (MOST_REJECTED + 1))),
    "text": b'"myhazard/1"',
    "no format": b'{"records": []}',
    "records of null": b'{"format": "myhazard/1", "records": null}',
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_payload_is_refused_quickly_and_whole(payload: bytes) -> None:
    begun = time.process_time()
    error = refusal(payload)
    assert time.process_time() - begun < QUICK_S
    assert error.reason


def fixes(row: bytes, count: int) -> bytes:
    return raw(HEAD + b"[" + b",".join([row] * count) + b"]}")


REJECTED: dict[str, tuple[bytes, str]] = {
    "nested a little": (raw(b'{"type": "safety", "x": ' + b"[" * 500 + b"]" * 500 + b"}"), "records[0].rev"),
    "a list": (raw(b"[]"), "records[0]"),
    "half a surrogate as user": (
        raw(json.dumps(record("safety", user="\ud800", status="safe")).encode()),
        "records[0].user",
    ),
    "half a surrogate in a text": (
        raw(json.dumps(record("safety", status="safe", comment="a\ud800")).encode()),
        "records[0].comment",
    ),
    "a long text": (
        raw(json.dumps(record("safety", status="safe", comment="あ" * 4_001)).encode()),
        "records[0].comment",
    ),
    "many bad fixes": (fixes(b"[]", 100_000), "records[0].fixes"),
    "a deletion of everything": (
        raw(
            json.dumps(
                record("deletion", of=[{"type": "location", "device": "d", "n": list(range(9_999)), "revs": [1, 2]}])
            ).encode()
        ),
        "records[0].of",
    ),
    "a deletion of everything, often": (
        raw(
            json.dumps(
                record(
                    "deletion",
                    of=[{"type": "location", "device": "d", "n": [1] * 9_999 + [2], "revs": list(range(1, 101))}] * 40,
                )
            ).encode()
        ),
        "records[0].of",
    ),
    "a deletion of too many": (
        raw(json.dumps(record("deletion", of=[{"type": "location", "device": "d", "n": [1] * 100_000}])).encode()),
        "records[0].of[0].n",
    ),
    "many voids": (
        raw(json.dumps(record("safety", rev=900_000, status="safe", voids=[1] * 100_000)).encode()),
        "records[0].voids",
    ),
    "many members": (
        raw(json.dumps(record("household", members=[{"user": "u"}] * 50_000)).encode()),
        "records[0].members",
    ),
    "many needs": (raw(json.dumps(record("profile", needs=["a"] * 100_000)).encode()), "records[0].needs"),
    "an id that splits another": (raw(json.dumps(record("safety", id="a:1", status="safe")).encode()), "records[0].id"),
    "an unknown type": (raw(json.dumps(record("battery")).encode()), "records[0].type"),
    "an unknown status": (raw(json.dumps(record("safety", status="fine")).encode()), "records[0].status"),
    "a time without offset": (
        raw(json.dumps(record("safety", status="safe", at="2026-06-01T09:00:00")).encode()),
        "records[0].at",
    ),
    "voids of a bundle": (raw(json.dumps(bundle(LINE, rev=2, voids=[1])).encode()), "records[0].voids"),
    "voids of a deletion": (
        raw(json.dumps(record("deletion", rev=2, voids=[1], of=[{"type": "safety", "id": "s", "revs": [1]}])).encode()),
        "records[0].voids",
    ),
}


@pytest.mark.parametrize(("payload", "path"), REJECTED.values(), ids=REJECTED)
def test_a_hostile_record_is_rejected_by_itself_and_names_its_field(payload: bytes, path: str) -> None:
    good = json.dumps(record("safety", id="good", status="safe")).encode()
    begun = time.process_time()
    said = translated(payload[:-2] + b"," + good + b"]}")
    assert time.process_time() - begun < QUICK_S
    assert [event.id for event in said.events] == ["good:1"]
    assert {part.error.path for part in said.rejected} == {path}


@pytest.mark.parametrize(("payload", "path"), REJECTED.values(), ids=REJECTED)
def test_a_rejected_part_is_small_enough_to_be_kept_and_translates_alone(payload: bytes, path: str) -> None:
    for part in translated(payload).rejected:
        assert 0 < len(part.payload) <= parts.KEPT_BYTES
        assert {again.error.path for again in translated(part.payload).rejected} >= {path.replace("[1]", "[0]")}


def test_a_large_bundle_whose_head_cannot_be_read_is_kept_in_pieces_that_lose_no_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "KEPT_BYTES", 5_000)
    many = [[n, *LINE[1:], 210.4, 1.25, 87.5] for n in range(1_000)]
    said = translated(envelope(bundle(*many, user="", note="二つ")))
    assert 10 < len(said.rejected) < 30
    assert all(len(part.payload) <= 5_000 for part in said.rejected)
    found: list[Event] = []
    for part in said.rejected:
        mended = json.loads(part.payload)
        assert mended["records"][0]["note"] == "二つ"
        mended["records"][0]["user"] = "u-1"
        found += translated(mended).events
    assert found == events(bundle(*many))


def test_no_error_repeats_what_stands_in_the_payload() -> None:
    planted = "PLANTED-5512"
    spoilt: list[Callable[[], Any]] = [
        lambda: record(planted),
        lambda: record("safety", status=planted),
        lambda: record("safety", id=planted + "\n", status="safe"),
        lambda: record("safety", status="safe", at=planted),
        lambda: record("profile", birth_date=planted, language=planted),
        lambda: record("profile", language=planted * 2),
        lambda: bundle([planted, *LINE[1:]], [1, planted, *LINE[2:]], [2, LINE[1], planted, 1, 1]),
        lambda: record("deletion", of=[{"type": planted}]),
    ]
    for make in spoilt:
        told = unread(envelope(make()))
        assert told
        assert planted not in "".join(told)


def test_what_the_app_adds_later_is_not_read_and_does_no_harm() -> None:
    plain = record("safety", status="safe")
    assert events(plain | {"mood": {"deep": [1]}, "app": "4.3"}) == events(plain)


def test_an_empty_envelope_and_an_empty_bundle_say_that_there_is_nothing() -> None:
    for payload in (envelope(), envelope(bundle()), {"format": "myhazard/1"} | bundle()):
        said = translated(payload)
        assert (list(said.events), said.nothing) == ([], "it holds no record, and no location")


def test_every_type_of_record_stands_in_the_readme() -> None:
    readme = (PACKAGE / "README.md").read_text("utf-8")
    for word in (*records._READERS, *words.SAFETY, *words.EVACUATION, *words.TRANSPORT):
        assert f"`{word}`" in readme, word
