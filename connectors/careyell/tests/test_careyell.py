"""The connector `careyell`: what an update becomes, what hides what, what is refused, and who may bring it."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub.connector import Event, Misuse, PayloadError, Request, Settings, Translation, Unsigned
from hub.plugins import Plugins
from hub.schemas import packaged
from hub_connector_careyell import CARERS, Careyell

from .records import SECRET, Record, page, record, withdrawal

SCHEMA = Path(__file__).parents[1] / "src" / "hub_connector_careyell" / "avro" / CARERS
RELEASED = "146884da"

OLD, NEW = "o" * 32, "n" * 40
PREFIX = b"careyell/1\n"


def told(*updates: Any) -> Translation:
    return Careyell().translate(page(*updates))


def fact(**changes: Any) -> Event:
    event, *_ = told(record(**changes)).events
    return event


def hidden(*updates: Any) -> list[tuple[str, str | None]]:
    """What is retracted: the event, and of whom."""
    return [(e.data["event"], e.ref) for e in told(*updates).events if e.kind == "fact.retracted"]


def refusal(update: Any) -> PayloadError:
    """Why one update is refused, while the one beside it is taken."""
    translation = told(update, record("beside"))
    assert [event.id for event in translation.events] == ["beside:1"]
    [rejected] = translation.rejected
    assert SECRET not in str(rejected.error)
    with pytest.raises(PayloadError) as again:
        _raise(Careyell().translate(rejected.payload))
    assert again.value.reason == rejected.error.reason, "the part alone is refused for the same reason"
    return rejected.error


def _raise(translation: Translation) -> None:
    raise translation.rejected[0].error


# What an update becomes


def test_a_fact_is_of_the_time_at_which_it_was_so_and_of_the_persons_id_at_the_service() -> None:
    event = fact(observed_at="2026-06-01T08:00:00.25+09:00", written_at="2026-06-01T09:00:00+09:00")
    assert (event.id, event.ref, event.person, event.source) == ("u1:1", "cy-1", None, "careyell")
    assert event.occurred_at == datetime(2026, 5, 31, 23, 0, 0, 250_000, tzinfo=UTC)
    assert event.exercise is False


def test_a_drill_is_an_exercise() -> None:
    assert fact(drill=True).exercise is True


def test_a_measurement_is_named_with_its_unit_and_one_that_is_not_listed_stays_in_the_note() -> None:
    vitals = [
        {"name": "temperature", "value": 37.5, "unit": "degC"},
        {"name": "temperature", "value": 99.5, "unit": "degF"},
        {"name": "blood_glucose", "value": "Lo", "unit": "mg/dL"},
        {"name": "pulse", "value": 80, "unit": "bpm"},
        {"name": "mood", "value": 3, "unit": "of 5"},
    ]
    event = fact(condition={"vitals": vitals, "note": "朝"})
    assert event.data["vitals"] == {"temperature_degC": 37.5, "blood_glucose_mg_per_dL": "Lo", "pulse_bpm": 80.0}
    assert event.data["note"] == "朝\ntemperature 99.5 degF\nmood 3 of 5"


def test_the_note_says_who_wrote_it_also_where_the_role_is_a_new_one() -> None:
    assert fact(author={"role": "family"}).data["note"] == "記入: 家族"
    assert fact(author={"role": "歯科衛生士"}).data["note"] == "記入: 歯科衛生士"
    assert "note" not in fact().data


def test_an_empty_list_is_said_and_is_not_the_same_as_no_list() -> None:
    empty = {"prescriber": "見本内科", "medications": []}
    said = fact(type="medication", medication=empty).data
    assert said == {"prescriber": "見本内科", "medications": [], "record": "careyell"}
    assert fact(type="allergies", allergies={"allergies": []}).data == {"allergies": [], "record": "careyell"}
    with pytest.raises(ValueError, match="not enough"):
        fact(type="allergies", allergies={})


def test_at_level_summary_no_name_and_no_number_of_a_carer_is_left() -> None:
    kind = packaged().extended(Careyell.schemas.items()).kind("care.carers_updated")
    carer = {"role": "family", "role_text": "長女", "name": "花江", "phone": "0242"}
    data = fact(type="carers", carers={"carers": [carer, {"role": "family"}], "note": "花江へ"}).data
    assert {name: value for name, value in data.items() if name in kind.summary} == {"roles": ["family"]}


def test_the_hub_takes_up_the_packages_own_kind_by_its_entry_point() -> None:
    kind = Plugins().extend(packaged()).kind("care.carers_updated")
    assert (kind.about, kind.category, kind.roster) == ("person", "fact", False)
    assert packaged().newest("care.carers_updated") is None


def test_each_field_of_the_schema_is_told_in_both_languages() -> None:
    def fields(schema: Any) -> list[Record]:
        inner = schema if isinstance(schema, list) else [*schema.get("fields", [])] if isinstance(schema, dict) else []
        own = schema.get("fields", []) if isinstance(schema, dict) else []
        deeper = [schema[name] for name in ("type", "items") if isinstance(schema, dict) and name in schema]
        return [*own, *(found for part in [*inner, *deeper] for found in fields(part))]

    schema = json.loads(SCHEMA.read_bytes())
    assert len(fields(schema)) >= 10
    assert [part["name"] for part in [schema, *fields(schema)] if not (part["doc"] and part["doc_ja"])] == []


def test_the_schema_never_changes() -> None:
    assert hashlib.sha256(SCHEMA.read_bytes()).hexdigest()[:8] == RELEASED


# Corrections and withdrawals


def test_a_correction_is_another_event_and_hides_every_revision_before_it() -> None:
    assert fact(revision=3).id == "u1:3"
    assert hidden(record(revision=3)) == [("u1:1", "cy-1"), ("u1:2", "cy-1")]
    assert hidden(record()) == []


def test_a_withdrawal_hides_all_before_it_and_says_nothing() -> None:
    assert hidden(withdrawal(revision=3)) == [("u1:1", "cy-1"), ("u1:2", "cy-1")]
    assert {event.kind for event in told(withdrawal(revision=3)).events} == {"fact.retracted"}
    assert told(withdrawal(revision=1)).nothing is not None


def test_where_the_person_changed_a_revision_is_hidden_from_all_whose_it_may_have_been() -> None:
    merged = record(revision=2, person="cy-2", former_persons=["cy-1", "cy-0", "cy-2"])
    assert hidden(merged) == [("u1:1", "cy-2"), ("u1:1", "cy-1"), ("u1:1", "cy-0")]


def test_a_retraction_is_the_same_event_whoever_says_it() -> None:
    def retraction(update: Record) -> list[Event]:
        return [e for e in told(update).events if e.data.get("event") == "u1:1"]

    [second] = retraction(record(revision=2))
    assert retraction(record(revision=3, written_at="2026-06-01T00:00:00Z")) == [second]
    assert retraction(withdrawal(revision=9)) == [second]
    assert second.occurred_at is None
    assert "cy-1" not in second.id


def test_revisions_in_one_page_share_their_retractions() -> None:
    ids = [event.id for event in told(record(revision=3), record(revision=2), record(), record(revision=3)).events]
    assert len(ids) == len(set(ids)) == 5


def test_the_last_revision_of_someone_merged_four_times_is_read() -> None:
    last = record(revision=99, former_persons=["a", "b", "c", "d"])
    assert len(hidden(last)) == 98 * 5


def test_another_thing_under_the_same_revision_is_refused() -> None:
    translation = told(record(), record(condition={"condition": "悪い"}))
    assert [event.data["condition"] for event in translation.events] == ["良い"]
    assert [found.error.path for found in translation.rejected] == ["updates[1].revision"]


# What is refused


def one(type_: str, **content: Any) -> Record:
    return record(**{"condition": None, "type": type_, type_: content})


def medicine(**more: Any) -> Record:
    return one("medication", prescriber="見本内科", medications=[{"name": SECRET, **more}])


def allergy(**more: Any) -> Record:
    return one("allergies", allergies=[{"substance": SECRET, **more}])


def vital(value: Any, **more: Any) -> Record:
    return one("condition", vitals=[{"name": "pulse", "unit": "bpm", "value": value, **more}])


@pytest.mark.parametrize(
    ("update", "path"),
    [
        (7, "updates[0]"),
        (record(id=SECRET), "updates[0].id"),
        (record(id="a:b"), "updates[0].id"),
        (record(id="a" * 65), "updates[0].id"),
        (record(revision=0), "updates[0].revision"),
        (record(revision=100), "updates[0].revision"),
        (record(revision=1.0), "updates[0].revision"),
        (record(revision=True), "updates[0].revision"),
        (record(revision="1"), "updates[0].revision"),
        (record(person=None), "updates[0].person"),
        (record(person=""), "updates[0].person"),
        (record(person=" cy-1"), "updates[0].person"),
        (record(person="cy\u0000"), "updates[0].person"),
        (record(person="\ud800"), "updates[0].person"),
        (record(person="x" * 101), "updates[0].person"),
        (record(former_persons="cy-2"), "updates[0].former_persons"),
        (record(former_persons=["a", "b", "c", "d", "e"]), "updates[0].former_persons"),
        (record(former_persons=[7]), "updates[0].former_persons[0]"),
        (record(withdrawn="yes"), "updates[0].withdrawn"),
        (record(drill="yes"), "updates[0].drill"),
        (record(observed_at="2026-05-31T23:00:00"), "updates[0].observed_at"),
        (record(observed_at="2026-05-31T23:30:00.000001Z"), "updates[0].observed_at"),
        (record(written_at=None), "updates[0].written_at"),
        (withdrawal(written_at="yesterday"), "updates[0].written_at"),
        (record(type="message"), "updates[0].type"),
        (record(type="medication"), "updates[0].medication"),
        (record(condition={}), "updates[0].condition"),
        (record(condition={"condition": " ", "vitals": []}), "updates[0].condition"),
        (record(condition={"condition": SECRET * 40}), "updates[0].condition.condition"),
        (record(condition={"note": SECRET + "\ud800"}), "updates[0].condition.note"),
        (record(condition={"note": SECRET + "\u0000"}), "updates[0].condition.note"),
        (record(condition={"note": SECRET * 2000}), "updates[0].condition.note"),
        (record(author={}), "updates[0].author.role"),
        (vital(SECRET * 9), "updates[0].condition.vitals[0].value"),
        (vital(-1), "updates[0].condition.vitals[0].value"),
        (vital(10**400), "updates[0].condition.vitals[0].value"),
        (vital(True), "updates[0].condition.vitals[0].value"),
        (vital(None), "updates[0].condition.vitals[0].value"),
        (vital(7, unit=""), "updates[0].condition.vitals[0].unit"),
        (one("condition", vitals=[{}] * 51), "updates[0].condition.vitals"),
        (one("medication", medications=[]), "updates[0].medication.prescriber"),
        (one("medication", prescriber="p"), "updates[0].medication.medications"),
        (one("medication", prescriber="p", medications=[{}] * 201), "updates[0].medication.medications"),
        (medicine(code=SECRET), "updates[0].medication.medications[0].code"),
        (medicine(code={"system": SECRET, "value": "1"}), "updates[0].medication.medications[0].code.system"),
        (medicine(code={"system": "HOT", "value": "12345678"}), "updates[0].medication.medications[0].code.value"),
        (medicine(dose=5), "updates[0].medication.medications[0].dose"),
        (medicine(timing="朝\n夜"), "updates[0].medication.medications[0].timing"),
        (one("allergies", allergies=[SECRET]), "updates[0].allergies.allergies[0]"),
        (allergy(severity="x"), "updates[0].allergies.allergies[0].severity"),
        (allergy(reaction=7), "updates[0].allergies.allergies[0].reaction"),
        (one("allergies", allergies=[{}] * 201), "updates[0].allergies.allergies"),
        (one("carers", carers=[{"name": SECRET}]), "updates[0].carers.carers[0].role"),
        (one("carers", carers=[{"role": "x", "first_contact": "1"}]), "updates[0].carers.carers[0].first_contact"),
        (one("carers", carers=[{}] * 101), "updates[0].carers.carers"),
    ],
)  # fmt: skip
def test_an_update_that_cannot_be_read_is_refused_by_itself_with_its_path(update: Any, path: str) -> None:
    assert refusal(update).path == path


def test_what_is_refused_says_whose_it_is_so_that_an_erasure_reaches_it() -> None:
    [rejected] = told(record(revision=0, former_persons=["cy-9", 7, "\ud800"])).rejected
    assert list(rejected.refs) == ["cy-1", "cy-9"]


def test_the_part_that_is_kept_has_the_digits_as_they_came_and_can_be_mended() -> None:
    text = page(vital(7, name="x", note="\ud83d\ude00\ud800")).replace(b'"value": 7', b'"value": -36.500E+1')
    [rejected] = Careyell().translate(text).rejected
    assert b"-365.00" in rejected.payload
    mended = rejected.payload.replace(b"-365.00", b"365.00")
    [event] = Careyell().translate(mended).events
    assert event.data["note"] == "x 365 bpm"


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (b"", ""),
        (b"\xff\xfe", ""),
        (page().decode().encode("utf-16"), ""),
        (page().decode().encode("utf-32"), ""),
        (json.dumps({"format": "careyell/1", "x": SECRET}, ensure_ascii=False).encode("cp932"), ""),
        (b"[]", ""),
        (b'{"format": "careyell/1", "format": "careyell/1"}', ""),
        (page().replace(b"careyell/1", b"careyell/2"), "format"),
        (page().replace(b"+09:00", b""), "sent_at"),
        (page().replace(b"[]", b"{}"), "updates"),
        (page().replace(b"[]", b"null"), "updates"),
        (page(changed="yes"), "changed"),
        (page().replace(b"[]", b"NaN"), ""),
        (b"[" * 1_000_000, ""),
        (b'{"a":' * 200_000, ""),
        (page().replace(b"[]", b"[" * 300_000 + b"]" * 300_000), ""),
        (page().replace(b"[]", b"9" * 100_000), ""),
        (page().replace(b"[]", b"1e" + b"9" * 100_000), ""),
        (page().replace(b"[]", b"[" + b"0," * 2_000_000 + b"0]"), "updates"),
        (b" " * (16 * 1024 * 1024 + 1), ""),
        (b'"' + SECRET.encode() * 500_000 + b'"', ""),
        (page(*(record(f"u{n}", 99, former_persons=["a", "b", "c", "d"]) for n in range(10_000))), "updates"),
        (b"PK\x03\x04" + b"\0" * 1_000_000, ""),
        (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', ""),
    ],
)
def test_a_hostile_payload_is_refused_whole_and_soon(payload: bytes, path: str) -> None:
    before = time.process_time()
    with pytest.raises(PayloadError) as refused:
        Careyell().translate(payload)
    assert refused.value.path == path
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    assert time.process_time() - before < 5, "far from it: this only catches what explodes"


def test_an_update_nested_as_deeply_as_it_can_be_read_is_rejected_with_all_of_it() -> None:
    nested = page({"x": "DEEP"}).replace(b'"DEEP"', b"[" * 400 + b"]" * 400)
    [rejected] = Careyell().translate(nested).rejected
    assert b"[" * 400 in rejected.payload


def test_what_the_format_does_not_name_is_ignored() -> None:
    assert fact(mood={"x": [1, None]}, condition={"condition": "良い", "colour": "red"}) == fact()
    assert told(record()).events == Careyell().translate(b"\xef\xbb\xbf" + page(record(), cursor=1)).events


def test_a_webhook_may_only_say_that_there_is_something_to_ask_for() -> None:
    said = {"format": "careyell/1", "sent_at": "2026-06-01T10:00:00+09:00", "changed": True}
    translation = Careyell().translate(json.dumps(said).encode())
    assert (translation.wake, translation.events) == (True, ())
    assert translation.nothing
    assert Careyell().translate(page(record(), changed=True)).wake is True


def test_nothing_of_a_person_is_said_in_what_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    spoilt = [
        medicine(code={"system": "YJ", "value": SECRET}),
        one("carers", carers=[{"role": 7, "name": SECRET}]),
        record(revision=SECRET),
        record(**{SECRET: 1}, type=SECRET),
        {SECRET: SECRET},
    ]
    translation = told(*spoilt)
    assert len(translation.rejected) == len(spoilt)
    shown = [str(found.error) + repr(found.error) + str(found.error.__cause__) for found in translation.rejected]
    assert SECRET not in "".join([*shown, str(translation.nothing), caplog.text])


# Who may bring it


def signed(body: bytes, *keys: tuple[str, str]) -> Request:
    """The request as the service signs it, by what README.md says."""
    parts = [
        f"{key}={hmac.new(s.encode(), b'careyell/1' + chr(10).encode() + body, 'sha256').hexdigest()}"
        for key, s in keys
    ]
    return Request(headers={"careyell-signature": ", ".join(parts)}, body=body)  # fmt: skip


def listening(**secrets: str) -> Careyell:
    return Careyell(Settings(secrets=secrets))


def test_both_keys_count_while_one_is_changed_and_the_old_one_does_not_afterwards() -> None:
    before, during = listening(webhook=f"k1:{OLD}"), listening(webhook=f"k1:{OLD}", webhook_next=f"k2:{NEW}")
    after = listening(webhook=f"k2:{NEW}")
    by_old, by_new = signed(page(), ("k1", OLD)), signed(page(), ("k2", NEW))
    by_both = signed(page(), ("k1", OLD), ("k2", NEW))
    taken = [(before, by_old), (before, by_both), (during, by_old), (during, by_new), (during, by_both)]
    for connector, request in [*taken, (after, by_new), (after, by_both)]:
        connector.verify(request)
    for connector, request in [(before, by_new), (after, by_old)]:
        with pytest.raises(Unsigned):
            connector.verify(request)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "k1=",
        "k1=" + "0" * 64,
        hmac.new(OLD.encode(), PREFIX + page(), "sha256").hexdigest(),
        "k1=" + hmac.new(OLD.encode(), page(), "sha256").hexdigest(),
        "k1=" + hmac.new(OLD.encode(), PREFIX + page(), "sha256").hexdigest().upper(),
        "k1=" + hmac.new(OLD.encode(), PREFIX + page() + b" ", "sha256").hexdigest(),
        "k2=" + hmac.new(OLD.encode(), PREFIX + page(), "sha256").hexdigest(),
        "k1=" + hmac.new(b"", PREFIX + page(), "sha256").hexdigest(),
        "k1=" + "ü" * 64,
        "=" * 1_000_000,
        "k1=\x00\ud800",
    ],
)
def test_any_other_signature_is_refused(header: str) -> None:
    connector = listening(webhook=f"k1:{OLD}", webhook_next=f"k2:{NEW}")
    with pytest.raises(Unsigned) as refused:
        connector.verify(Request(headers={"careyell-signature": header}, body=page()))
    assert str(refused.value) == "the signature is missing or wrong"


def test_without_a_key_the_door_is_closed() -> None:
    for connector in (Careyell(), listening(webhook_next=f"k2:{NEW}")):
        with pytest.raises(Misuse):
            connector.verify(signed(page(), ("k2", NEW)))


@pytest.mark.parametrize("secret", [OLD, f":{OLD}", f"k1:{OLD[:31]}", f"k 1:{OLD}", f"k1:{OLD} {OLD}"])
def test_a_secret_of_another_form_is_told_and_not_shown(secret: str) -> None:
    with pytest.raises(Misuse) as refused:
        listening(webhook=secret)
    assert OLD[:31] not in str(refused.value)


def test_two_keys_of_one_id_are_refused_and_none_is_shown() -> None:
    with pytest.raises(Misuse):
        listening(webhook=f"k1:{OLD}", webhook_next=f"k1:{NEW}")
    shown = repr(vars(listening(webhook=f"k1:{OLD}")))
    assert OLD not in shown


def test_a_sample_of_any_size_is_taken_whole() -> None:
    for records in (1, 60, 10_000):
        translation = Careyell().translate(Careyell().sample(records))
        facts = [event for event in translation.events if event.kind != "fact.retracted"]
        assert (len(facts), len(translation.rejected)) == (records, 0)
