"""The connector `pfif`: notes of our own making, hostile ones, those of Person Finder's tests, and answers as PFIF."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from hub.answer import Query
from hub.conformance import Conformance
from hub.connector import Event, Misuse, PayloadError, Settings, Translation
from hub.hub import Hub
from hub.importing import import_files
from hub.log.clock import SetClock
from hub.scenario import flat_event
from hub_connector_pfif import PFIF

PACKAGE = Path(__file__).parents[1]
GOLDENS = PACKAGE / "goldens"
RENDERED = Path(__file__).parent / "rendered.xml"
DATA = PACKAGE.parents[2] / "shared" / "data" / "7-pfif"
FEEDS = sorted((DATA / "personfinder-tests").glob("*.xml"))
VALIDATED = sorted((DATA / "pfif-tools-xml").glob("*.xml"))
OURS = Settings(options={"domain": "hub.example"})
P = "{http://zesty.ca/pfif/1.4}"

needs_data = pytest.mark.skipif(not FEEDS, reason=f"Person Finder's files are not at {DATA}")


class TestConformance(Conformance):
    package = PACKAGE


def document(*records: str, version: int = 4) -> str:
    inside = "".join(records)
    return f'<pfif:pfif xmlns:pfif="http://zesty.ca/pfif/1.{version}">{inside}</pfif:pfif>'


def fields(said: dict[str, str]) -> str:
    return "".join(f"<pfif:{name}>{value}</pfif:{name}>" for name, value in said.items() if value is not None)


def note(**changes: Any) -> str:
    said = {
        "note_record_id": "registry.example/note.1",
        "person_record_id": "registry.example/person.hanako",
        "source_date": "2026-06-02T00:10:00Z",
        "status": "believed_alive",
        "text": "体育館で会いました",
    }
    return f"<pfif:note>{fields(said | changes)}</pfif:note>"


def person(*notes: str, **changes: Any) -> str:
    said = {"person_record_id": "registry.example/person.hanako", "full_name": "会津 花子"}
    return f"<pfif:person>{fields(said | changes)}{''.join(notes)}</pfif:person>"


def translated(text: str | bytes, settings: Settings = OURS) -> Translation:
    return PFIF(settings).translate(text.encode() if isinstance(text, str) else text)


def only(text: str) -> Event:
    (event,) = translated(text).events
    return event


def reasons(found: Translation) -> list[str]:
    return [str(rejected.error) for rejected in found.rejected]


# What a note says


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        ("is_note_author", "unknown"),
        ("believed_alive", "unknown"),
        ("believed_missing", "unknown"),
        ("believed_dead", "unknown"),
        ("information_sought", "unknown"),
    ],
)
def test_a_status_is_mapped_and_its_own_word_kept(status: str, ours: str) -> None:
    event = only(document(note(status=status)))
    assert event.data["status"] == ours
    assert event.data["note"] == f"PFIF: {status}\n体育館で会いました"


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_note_is_read_in_every_version_at_the_top_or_in_its_person(version: int) -> None:
    top = translated(document(note(), version=version))
    inside = translated(document(person(note(person_record_id=None)), version=version))
    assert top.events == inside.events
    assert top.events[0].ref == "registry.example/person.hanako"


def test_a_note_without_a_status_says_something_only_where_its_author_met_the_person() -> None:
    assert translated(document(note(status=None))).nothing == "no note in it says how a person is"
    assert translated(document(note(status="", author_made_contact="false"))).events == []
    met = only(document(note(status=None, author_made_contact="true")))
    assert (met.data["status"], met.data["note"]) == ("unknown", "PFIF: in_contact\n体育館で会いました")
    assert only(document(note(status=None, found="true"), version=1)).data == met.data


def test_of_people_no_more_is_taken_than_how_they_are() -> None:
    secrets = {
        "author_name": "会津 次郎",
        "author_email": "jiro@example.jp",
        "author_phone": "090-1111-1111",
        "email_of_found_person": "hanako@example.jp",
        "phone_of_found_person": "090-2222-2222",
        "photo_url": "https://registry.example/photo",
    }
    whole = document(
        person(note(**secrets), date_of_birth="1950-01-31", home_street="追手町1", author_name="会津 次郎")
    )
    broken = document(person(note(**secrets, source_date="きのう"), home_street="追手町1"))
    for found in (translated(whole), translated(broken)):
        said = str(found) + "".join(rejected.payload.decode() for rejected in found.rejected)
        assert not any(secret in said for secret in (*secrets.values(), "追手町", "1950", "会津 花子"))


def test_who_answered_is_the_register_and_never_a_name() -> None:
    assert only(document(note(author_name="会津 次郎"))).data["answered_by"] == "registry.example"
    assert "answered_by" not in only(document(note(status="is_note_author"))).data


def test_a_note_that_comes_again_is_one_event_and_one_that_was_changed_is_told_apart() -> None:
    event = only(document(note(), person(note(person_record_id=None))))
    assert only(document(note(entry_date="2026-06-05T00:00:00Z"))) == event
    later = only(document(note(source_date="2026-06-02T00:11:00Z")))
    assert later.id != event.id
    found = translated(document(note(), note(text="別のことば")))
    assert list(found.events) == [event]
    assert reasons(found) == ["note[2]: is another than the one that has its id and source_date"]


def test_a_note_without_a_record_id_is_known_by_what_it_says() -> None:
    nameless = note(note_record_id=None)
    assert only(document(nameless)) == only(document(nameless, nameless))
    assert only(document(nameless)).id != only(document(note(note_record_id=None, text="別"))).id


def test_a_note_that_went_out_from_here_is_not_taken_when_it_comes_back() -> None:
    found = translated(document(note(note_record_id="hub.example/note.myhazard.s1")))
    assert (list(found.events), found.nothing) == ([], "its notes are this hub's own")
    assert translated(document(note(note_record_id="hub.example.jp/note.1"))).events


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"source_date": "2026-06-02T00:10:00"}, "note/source_date"),
        ({"source_date": None}, "note/source_date"),
        ({"status": "believed_fine"}, "note/status"),
        ({"author_made_contact": "perhaps"}, "note/author_made_contact"),
        ({"person_record_id": None}, "note/person_record_id"),
        ({"person_record_id": "x" * 999}, "note/person_record_id"),
        ({"note_record_id": "x" * 999}, "note/note_record_id"),
        ({"text": "あ" * 20_000}, "note/text"),
        ({"text": "a</pfif:text><pfif:text>b"}, "note/text"),
    ],
)
def test_a_note_that_cannot_be_read_is_rejected_alone(changes: dict[str, Any], path: str) -> None:
    found = translated(document(note(**changes), person(note(note_record_id="registry.example/note.2"))))
    assert len(found.events) == 1
    (rejected,) = found.rejected
    assert rejected.error.path == path
    assert [refused.error.path for refused in translated(rejected.payload).rejected] == [path]


def test_a_note_in_a_person_is_mended_by_itself() -> None:
    (rejected,) = translated(document(person(note(person_record_id=None, source_date="きのう")))).rejected
    assert rejected.refs == ["registry.example/person.hanako"]
    mended = rejected.payload.decode().replace("きのう", "2026-06-02T00:10:00Z")
    assert only(mended) == only(document(note()))


def test_a_note_about_another_than_the_person_it_stands_in_is_rejected() -> None:
    found = translated(document(person(note(person_record_id="registry.example/person.taro"))))
    assert "another" in reasons(found)[0]


# Expiry


def expired(*notes: str, **changes: Any) -> str:
    dates = {"expiry_date": "2026-07-02T00:00:00Z", "entry_date": "2026-07-03T00:00:00Z"}
    return person(*notes, **(dates | changes))


def test_a_note_ends_with_its_person_s_record() -> None:
    record = person(note(), expiry_date="2026-07-02T00:00:00Z")
    event, endless = only(document(record)), only(document(note()))
    assert event.data["expires_at"] == datetime(2026, 7, 2, tzinfo=UTC)
    assert {**event.data, "expires_at": None} == {**endless.data, "expires_at": None}
    assert "expires_at" not in endless.data
    assert only(document(note(), record)) == event, "at the top of a payload that knows the record too"
    assert only(document(note(), record, version=2)) == endless
    other = person(
        full_name="太郎", person_record_id="registry.example/person.taro", expiry_date="2026-06-20T00:00:00Z"
    )
    assert only(document(note(), other)) == endless


def test_a_record_that_is_kept_longer_is_no_conflict() -> None:
    first, second = (
        only(document(person(note(), expiry_date=date))) for date in ("2026-07-02T00:00:00Z", "2026-08-01T00:00:00Z")
    )
    assert first.id != second.id
    twice = translated(document(*(person(expiry_date=f"2026-0{month}-01T00:00:00Z") for month in (9, 7, 8)), note()))
    assert twice.events[0].data["expires_at"] == datetime(2026, 7, 1, tzinfo=UTC), "the earliest"


def test_of_a_record_that_has_expired_nothing_is_taken_and_what_was_taken_is_hidden() -> None:
    taken = [only(document(note())), only(document(person(note(), expiry_date="2026-07-02T00:00:00Z")))]
    hidden = translated(document(expired(note()))).events
    assert [(e.kind, e.ref, e.data["event"]) for e in hidden] == [("fact.retracted", e.ref, e.id) for e in taken]
    assert translated(document(expired(), note())).events == hidden


@pytest.mark.parametrize(
    ("changes", "over"),
    [
        ({}, True),
        ({"entry_date": "2026-07-02T00:00:00Z"}, True),
        ({"entry_date": "2026-07-01T23:59:59Z"}, False),
        ({"entry_date": None}, False),
        ({"entry_date": "someday"}, False),
        ({"entry_date": None, "full_name": None}, False),
        ({"expiry_date": ""}, False),
    ],
)
def test_a_record_s_own_dates_say_whether_it_has_expired(changes: dict[str, Any], over: bool) -> None:
    event, *_ = translated(document(expired(note(), **changes))).events
    assert (event.kind == "fact.retracted") is over


def test_a_feed_s_time_says_it_too_and_before_version_1_3_nothing_expires() -> None:
    record = expired(note(), entry_date=None).replace(
        "<pfif:person>", '<pfif:person xmlns:pfif="http://zesty.ca/pfif/1.4">'
    )
    feed = '<feed xmlns="http://www.w3.org/2005/Atom"><updated>{}</updated><entry>{}</entry></feed>'
    over = translated(feed.format("2026-07-02T00:00:00Z", record)).events
    assert [event.kind for event in over] == ["fact.retracted"] * 2
    assert only(feed.format("2026-07-01T00:00:00Z", record)).kind == "safety.answered"
    assert only(document(expired(note()), version=2)).kind == "safety.answered"


def test_what_is_left_of_an_expired_record_names_no_note_to_hide() -> None:
    left = person(full_name="", source_date="2026-07-03T00:00:00Z", expiry_date="2026-07-02T00:00:00Z")
    assert "expired" in (translated(document(left)).nothing or "")


def test_an_expiry_date_that_cannot_be_read_keeps_the_record_out() -> None:
    found = translated(document(person(note(), expiry_date="soon")))
    assert not found.events
    assert [(r.error.path, r.refs) for r in found.rejected] == [
        ("person/expiry_date", ["registry.example/person.hanako"])
    ]
    mended = found.rejected[0].payload.decode().replace("soon", "2026-07-02T00:00:00Z")
    assert only(mended) == only(document(person(note(), expiry_date="2026-07-02T00:00:00Z")))


def test_a_note_that_is_mended_by_itself_still_ends() -> None:
    found = translated(document(person(note(source_date="きのう"), expiry_date="2026-07-02T00:00:00Z")))
    mended = found.rejected[0].payload.decode().replace("きのう", "2026-06-02T00:10:00Z")
    assert only(mended) == only(document(person(note(), expiry_date="2026-07-02T00:00:00Z")))


# Hostile payloads


def bomb(depth: int) -> str:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, depth))
    return f'<!DOCTYPE pfif [<!ENTITY e0 "x">{entities}]>' + document(note(text=f"&e{depth - 1};"))


@pytest.mark.parametrize(
    "payload",
    [
        "",
        " \n",
        "<",
        document(note())[:-5],
        bomb(9),
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">' + document(),
        '<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1:9/">]>' + document(note(text="&x;")),
        document(note(text="&undefined;")),
        document().encode("utf-16"),
        '<?xml version="1.0" encoding="EUC-JP"?>' + document(note()),
        document(note()).encode("cp932"),
        document(note(text="\x00")),
        "<a>" * 100_000,
        document("<pfif:person>" * 5_000),
        document(note(text="あ" * 3_000_000)),
        f"<{'a' * 11_000_000}/>",
        '<pfif xmlns="http://zesty.ca/pfif/2.0"/>',
        "<pfif><person/></pfif>",
        '<html xmlns="http://zesty.ca/pfif/1.4"/>',
        '<rss version="2.0"/>',
        b"PK\x03\x04",
        b"\x1f\x8b\x08\x00",
    ],
    ids=range(22),
)
def test_what_is_no_pfif_is_refused_quickly(payload: str | bytes) -> None:
    started = time.thread_time()  # whatever else the machine does
    with pytest.raises(PayloadError) as caught:
        translated(payload)
    assert time.thread_time() - started < 5
    assert "会い" not in str(caught.value)


def test_many_attributes_and_fields_cost_nothing() -> None:
    many = "".join(f"<pfif:x{n}>1</pfif:x{n}>" for n in range(50_000))
    assert only(document(person(note()) + f"<pfif:person>{many}</pfif:person>")).ref


# Person Finder's own files


@needs_data
@pytest.mark.parametrize("path", FEEDS, ids=lambda path: path.stem)
def test_a_feed_of_person_finder_is_read_whole(path: Path) -> None:
    """Counted by lxml alone: notes that have a status, or whose author was in contact."""
    root = etree.fromstring(path.read_bytes())
    said = 0
    for element in root.iter("{*}note"):
        words = {etree.QName(child).localname: (child.text or "").strip() for child in element}
        said += bool(words.get("status") or "true" in (words.get("found"), words.get("author_made_contact")))
    found = translated(path.read_bytes())
    assert (len(found.events), list(found.rejected)) == (said, [])
    assert all(event.ref.startswith("test.google.com/person.") for event in found.events if event.ref)
    assert "_test_author" not in str(found)


@needs_data
@pytest.mark.parametrize("path", VALIDATED, ids=lambda path: path.stem)
def test_each_file_of_the_validator_gives_events_or_says_why_not(path: Path) -> None:
    if path.stem in ("XML_INVALID", "XML_NON_PFIF_ROOT", "XML_NO_NAMESPACE"):
        with pytest.raises(PayloadError):
            translated(path.read_bytes())
        return
    found = translated(path.read_bytes())
    assert found.events or found.nothing or found.rejected


# Answers as PFIF


def item(kind: str, event: str, source: str = "myhazard", **data: Any) -> dict[str, Any]:
    return {
        "event": event,
        "source": source,
        "kind": kind,
        "occurred_at": "2026-06-02T00:01:00.000000Z",
        "recorded_at": "2026-06-02T00:01:05.500000Z",
        "precision": "exact",
        "basis": {"grant": "g1"},
        "data": data,
    }


def answer(*persons: dict[str, Any], exercise: bool = False) -> dict[str, Any]:
    return {
        "format": "view/1",
        "recipient": "aizu-city",
        "purpose": "rescue",
        "exercise": exercise,
        "time": "2026-06-02T00:02:00.000000Z",
        "persons": list(persons),
        "next": None,
    }


ANSWER = answer(
    {
        "person": "hanako",
        "mode": "emergency",
        "items": [
            item("location.reported", "l1", lat_deg=37.49583, lon_deg=139.93125),
            item("profile.updated", "p1", name="会津 花子", name_kana="アイヅ ハナコ", address="追手町1", needs=["杖"]),
            item("safety.answered", "s1", status="need_help", note="足を\x0bけが <しました>", place="鶴城小学校"),
        ],
    },
    {
        "person": "taro/a b",
        "mode": "emergency",
        "items": [
            item("safety.answered", "s2", status="unknown", answered_by="民生委員"),
            item(
                "safety.answered",
                "n1@1",
                "pfif",
                status="unknown",
                note="PFIF: believed_dead, in_contact\nそう聞きました",
            ),
            {**item("safety.answered", "s3", status="safe"), "occurred_at": None},
        ],
    },
    {"person": "jiro", "mode": "normal", "items": [item("profile.updated", "p2", name="会津 次郎")]},
)


def written(said: dict[str, Any], **options: Any) -> etree._Element:
    settings = Settings(options={"domain": "hub.example"} | options)
    return etree.fromstring(PFIF(settings).render(said, "application/pfif+xml"))


def test_an_answer_is_written_as_its_golden_says() -> None:
    rendered = PFIF(OURS).render(ANSWER, "application/pfif+xml")
    assert rendered == PFIF(OURS).render(json.loads(json.dumps(ANSWER)), "application/pfif+xml")
    assert rendered.decode() == RENDERED.read_text()


def test_no_more_goes_out_than_pfif_needs_and_nothing_of_who_did_not_answer() -> None:
    rendered = PFIF(OURS).render(ANSWER, "application/pfif+xml").decode()
    assert not any(word in rendered for word in ("追手町", "杖", "37.49", "次郎", "jiro", "g1"))


def test_a_person_is_named_where_the_name_is_visible_and_may_be_kept_for_a_time() -> None:
    root = written(ANSWER, keep_days=7)
    (record,) = root.findall(f"{P}person")
    assert record.findtext(f"{P}full_name") == "会津 花子"
    assert record.findtext(f"{P}expiry_date") == "2026-06-10T00:00:00Z"
    assert record.findtext(f"{P}entry_date") == "2026-06-02T00:02:00Z"
    assert [n.findtext(f"{P}person_record_id") for n in root.findall(f"{P}note")] == [
        "hub.example/person.taro%2Fa%20b"
    ] * 3


def test_what_ends_by_itself_goes_out_with_its_end_or_not_at_all() -> None:
    named = item("profile.updated", "p1", name="会津 花子")
    ends = item("safety.answered", "s1", status="safe", expires_at="2026-06-05T12:00:00.500000Z")
    stays = item("safety.answered", "s2", status="safe", answered_by="民生委員")
    (record,) = written(answer({"person": "hanako", "items": [named, ends, stays]})).findall(f"{P}person")
    assert record.findtext(f"{P}expiry_date") == "2026-06-05T12:00:00Z"
    assert len(record.findall(f"{P}note")) == 2
    nameless = written(answer({"person": "hanako", "items": [ends, stays]}))
    assert [one.findtext(f"{P}author_name") for one in nameless.findall(f"{P}note")] == ["民生委員"]
    assert len(written(answer({"person": "hanako", "items": [ends]}))) == 0
    late = {**ends, "data": {**ends["data"], "expires_at": "2027-01-01T00:00:00.000000Z"}}
    (record,) = written(answer({"person": "hanako", "items": [named, late]})).findall(f"{P}person")
    assert record.findtext(f"{P}expiry_date") == "2026-07-03T00:00:00Z", "no longer than a reader may keep anything"


def test_every_record_has_what_pfif_demands_of_it() -> None:
    root = written(ANSWER)
    for record in root.iter(f"{P}person"):
        assert all(record.findtext(P + name) for name in ("person_record_id", "source_date", "full_name"))
    for one in root.iter(f"{P}note"):
        assert all(one.findtext(P + name) for name in ("note_record_id", "author_name", "source_date", "text"))
        assert one.findtext(f"{P}status") in (None, "is_note_author", "believed_alive", "believed_dead")


def test_what_came_as_pfif_goes_out_as_it_came() -> None:
    came = only(document(note(status="believed_missing", author_made_contact="true")))
    said = answer(
        {"person": "hanako", "mode": "normal", "items": [item("safety.answered", came.id, "pfif", **came.data)]}
    )
    (one,) = written(said).iter(f"{P}note")
    assert one.findtext(f"{P}status") == "believed_missing"
    assert one.findtext(f"{P}author_made_contact") == "true"
    assert one.findtext(f"{P}text") == "体育館で会いました"


def test_who_needs_help_is_alive_and_of_whom_nothing_is_known_no_status_is_said() -> None:
    def status(**data: Any) -> str | None:
        said = answer({"person": "hanako", "mode": "normal", "items": [item("safety.answered", "s1", **data)]})
        return written(said).findtext(f"{P}note/{P}status")

    assert status(status="injured") == "is_note_author"
    assert status(status="need_help", answered_by="娘") == "believed_alive"
    assert status(status="unknown") is None


def test_another_reader_of_pfif_takes_an_answer_as_it_was_said() -> None:
    found = PFIF(Settings(options={"domain": "other.example"})).translate(
        PFIF(OURS).render(ANSWER, "application/pfif+xml")
    )
    assert not found.rejected
    assert [event.data["status"] for event in found.events] == ["need_help", "unknown", "safe"]
    assert PFIF(OURS).translate(PFIF(OURS).render(ANSWER, "application/pfif+xml")).events == []


def test_a_drill_has_no_records() -> None:
    assert len(list(written(answer(*ANSWER["persons"], exercise=True)).iter("*"))) == 1


def test_without_a_domain_no_answer_is_offered_as_pfif() -> None:
    assert not PFIF().media_types
    with pytest.raises(Misuse):
        PFIF().render(ANSWER, "application/pfif+xml")
    for options in (
        {"domain": "HUB example"},
        {"domain": 1},
        {"keep_days": 0},
        {"keep_days": True},
        {"keep_days": "7"},
    ):
        with pytest.raises(Misuse):
            PFIF(Settings(options=options))


# With a hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """hanako let aizu-city see how she is, taro did not; both are linked to their records."""
    clock = SetClock(datetime(2026, 6, 1, tzinfo=UTC))
    found = Hub.open(f"sqlite:///{tmp_path / 'hub.sqlite3'}", clock, durable=False)
    found.init()
    city = {"recipient": "aizu-city", "class": "municipality", "areas": ["07202"], "purposes": ["rescue"]}
    grant = {
        "grant": "g1",
        "person": "hanako",
        "to": {"recipient": "aizu-city"},
        "kinds": ["safety.answered", "profile.updated"],
        "purposes": ["rescue"],
        "modes": ["normal"],
    }
    told: list[tuple[str, dict[str, Any]]] = [
        ("recipient.registered", city),
        *(("person.enrolled", {"person": who, "areas": ["07202"]}) for who in ("hanako", "taro")),
        ("consent.granted", grant),
        *(
            ("identity.linked", {"person": who, "source": "pfif", "ref": f"registry.example/person.{who}"})
            for who in ("hanako", "taro")
        ),
    ]
    for number, (kind, data) in enumerate(told):
        (result,) = found.intake.take([flat_event(kind, data, f"e{number}")])
        assert result.status == "accepted", result.error
    clock.set(datetime(2026, 6, 3, tzinfo=UTC))
    profile = {"person": "hanako", "name": "会津 花子"}
    (result,) = found.intake.take([flat_event("profile.updated", profile, "p1")])
    assert result.status == "accepted", result.error
    yield found
    found.close()


def seen(hub: Hub) -> bytes:
    body = hub.disclosure.read(Query(recipient="aizu-city", purpose="rescue")).body
    return PFIF(OURS).render(json.loads(body), "application/pfif+xml")


def test_notes_of_linked_people_go_out_for_who_consents_and_are_hidden_when_they_expire(hub: Hub) -> None:
    assert [done.status for done in import_files(hub, PFIF(OURS), [GOLDENS / "01-notes-1.4.xml"])] == ["accepted"]
    root = etree.fromstring(seen(hub))
    assert {one.findtext(f"{P}person_record_id") for one in root.iter(f"{P}note")} == {"hub.example/person.hanako"}
    assert root.findtext(f"{P}person/{P}note/{P}status") == "is_note_author"

    assert [done.status for done in import_files(hub, PFIF(OURS), [GOLDENS / "04-expired-1.3.xml"])] == ["accepted"]
    root = etree.fromstring(seen(hub))
    # of note.1 the expired record said nothing
    assert root.findtext(f"{P}person/{P}note/{P}status") == "information_sought"


def test_a_note_is_gone_on_the_day_its_record_expires_and_comes_back_where_that_is_put_off(
    hub: Hub, tmp_path: Path
) -> None:
    clock = hub.log.clock
    assert isinstance(clock, SetClock)
    list(import_files(hub, PFIF(OURS), [GOLDENS / "01-notes-1.4.xml"]))
    clock.set(datetime(2026, 7, 1, 23, 59, tzinfo=UTC))
    record = etree.fromstring(seen(hub)).find(f"{P}person")
    assert record is not None
    assert record.findtext(f"{P}expiry_date") == "2026-07-02T00:00:00Z"

    clock.set(datetime(2026, 7, 2, tzinfo=UTC))
    assert len(etree.fromstring(seen(hub))) == 0
    assert [done.status for done in import_files(hub, PFIF(OURS), [GOLDENS / "05-expired-placeholder-1.4.xml"])] == [
        "nothing"
    ]

    longer = tmp_path / "longer.xml"
    said = (GOLDENS / "01-notes-1.4.xml").read_text()
    longer.write_text(said.replace("2026-07-02T00:00:00Z", "2026-08-01T00:00:00Z"))
    assert [done.status for done in import_files(hub, PFIF(OURS), [longer])] == ["accepted"]
    assert etree.fromstring(seen(hub)).findtext(f"{P}person/{P}expiry_date") == "2026-08-01T00:00:00Z"
    clock.set(datetime(2026, 8, 1, tzinfo=UTC))
    assert len(etree.fromstring(seen(hub))) == 0


def test_a_retraction_that_comes_first_hides_the_note_that_comes_late(hub: Hub) -> None:
    for name in ("04-expired-1.3.xml", "01-notes-1.4.xml", "01-notes-1.4.xml", "04-expired-1.3.xml"):
        list(import_files(hub, PFIF(OURS), [GOLDENS / name]))
    root = etree.fromstring(seen(hub))
    assert [one.findtext(f"{P}status") for one in root.iter(f"{P}note")] == ["information_sought"]
