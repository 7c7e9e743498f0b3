"""What the connector makes of webhooks, exports and replies: its own payloads bent, hostile ones, and real ones."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.conformance import outcome, package, told
from hub.connector import Misuse, PayloadError, Request, Settings, Translation, Unsigned
from hub_connector_qualtrics import Qualtrics

HERE = Path(__file__).parent
GOLDENS = HERE.parent / "goldens"
EXAMPLE = HERE.parent / "example"
REAL = HERE.parents[2].parent / "shared" / "data" / "5-qualtrics"
FILES = {"qsf": (EXAMPLE / "survey.qsf").read_bytes(), "mapping": (EXAMPLE / "mapping.toml").read_bytes()}
SECRET = "a secret of the goldens"

real = pytest.mark.skipif(not REAL.exists(), reason=f"real payloads are read where {REAL.parent.name}/ lies beside")


def made(**settings: Any) -> Qualtrics:
    options = {"survey": "SV_0aizuShelter001", "time_zone": "Asia/Tokyo", **settings.pop("options", {})}
    return Qualtrics(Settings(options=options, files=settings.pop("files", FILES), **settings))


def mapped(text: str, **options: Any) -> Qualtrics:
    return made(files={**FILES, "mapping": text.encode()}, options=options)


def golden(name: str) -> bytes:
    return (GOLDENS / name).read_bytes()


def responses() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(golden("02-responses.json"))["responses"]
    return found


def export(*said: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"responses": said, **more}).encode()


def hanako(**values: Any) -> dict[str, Any]:
    said = responses()[0]
    for name, value in values.items():
        said["values"][name] = value
        said["labels"].pop(name, None)
    return said


def data(translation: Translation, kind: str = "survey.answered") -> dict[str, Any]:
    (found,) = [dict(event.data) for event in translation.events if event.kind == kind]
    return found


def answers(payload: bytes, connector: Qualtrics | None = None) -> dict[str, str]:
    found: dict[str, str] = data((connector or made()).translate(payload))["answers"]
    return found


def ids(payload: bytes, connector: Qualtrics | None = None) -> list[str]:
    return [event.id for event in (connector or made()).translate(payload).events]


def refusal(payload: bytes, connector: Qualtrics | None = None) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        (connector or made()).translate(payload)
    return caught.value


def rows(name: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(golden(name).decode("utf-8-sig"), newline="")))


def written(table: list[list[str]], delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows(table)
    return out.getvalue().encode()


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return out.getvalue()


# forms


@pytest.mark.parametrize(
    "name",
    ["05-lines.ndjson", "07-three-headers.csv", "08-words-split.csv", "10-responses.xml", "11-export.zip"],
)
def test_a_response_is_the_same_event_in_whatever_form_it_comes(name: str) -> None:
    assert ids(golden(name))[:3] == ids(export(responses()[0]))


def test_a_reply_about_one_response_is_the_same_event_as_its_export() -> None:
    assert ids(golden("04-single.json")) == ids(export(responses()[1]))
    assert ids(json.dumps(responses()[1]).encode()) == ids(export(responses()[1]))


def test_a_tsv_as_qualtrics_writes_it_in_utf_16_is_read() -> None:
    tsv = written(rows("07-three-headers.csv")[:5], delimiter="\t").decode()
    for payload in (tsv.encode(), tsv.encode("utf-16")):
        assert ids(payload) == ids(golden("05-lines.ndjson"))


def test_the_order_of_columns_and_fields_changes_no_id() -> None:
    table = rows("08-words-split.csv")
    said = responses()[0]
    said["values"] = dict(reversed(said["values"].items()))
    assert ids(written([row[::-1] for row in table])) == ids(golden("08-words-split.csv")) == ids(export(said))


def test_a_table_without_import_ids_is_read_by_the_surveys_tags() -> None:
    table = rows("08-words-split.csv")
    assert ids(written([table[0], *table[3:]])) == ids(golden("08-words-split.csv"))


def test_an_old_export_with_numbered_columns_is_read_by_its_second_row() -> None:
    table = rows("09-two-headers.csv")
    old = [f"V{number}" for number in range(1, 11)] + table[0][10:]
    assert ids(written([old, *table[1:]])) == ids(golden("09-two-headers.csv"))


def test_an_old_export_of_words_without_a_definition_tells_its_own_titles_and_no_embedded_data() -> None:
    connector = made(files={"mapping": b'ref = "RegionalId"'})
    found = answers(golden("09-two-headers.csv"), connector)
    assert set(found) == {"いまの状態を教えてください", "困っていることを書いてください", "どこで過ごしていますか"}


def test_without_a_definition_the_answers_have_the_labels_and_the_questions_ids() -> None:
    found = answers(export(responses()[0]), made(files={"mapping": b'ref = "RegionalId"'}))
    assert (found["QID1"], found["QID2"]) == ("無事", "薬, 車いす, その他")


def test_choices_whose_text_holds_a_comma_are_told_apart_in_one_cell() -> None:
    table = rows("08-words-split.csv")
    at = table[0].index("Q2_1")
    cells = [*table[3][:at], "水, 食料,薬", "", "", "", *table[3][at + 4 :]]
    heads = [[*row[:at], head, "", "", "", *row[at + 4 :]] for row, head in zip(table, ["Q2", "", "", ""], strict=True)]
    heads[2][at] = '{"ImportId":"QID2"}'
    narrow = [[c for n, c in enumerate(row) if n not in (at + 1, at + 2, at + 3)] for row in [*heads[:3], cells]]
    assert answers(written(narrow))["必要なものをすべて選んでください"] == "薬, 水, 食料"


def test_a_choice_is_shown_in_words_where_only_its_number_came() -> None:
    said = hanako(QID1=9, QID2=["1"], QID4_1=2, QID5="car")
    found = answers(export({**said, "labels": {}}))
    assert (found["いまの状態を教えてください"], found["どこで過ごしていますか"]) == ("わからない", "車で過ごす")
    assert (found["必要なものをすべて選んでください"], found["ひとりでできますか: 歩く"]) == ("水, 食料", "できない")


# whose, and which


def test_nothing_that_names_or_finds_the_person_is_among_the_answers() -> None:
    said = hanako(recipientEmail="hanako@example.jp", locationLatitude="37.49", Phone="090", QID8_LAST_CLICK=3)
    translation = made().translate(export(said))
    text = str([event.data for event in translation.events])
    assert not any(word in text for word in ("aizu-0001", "hanako@", "37.49", "090", "192.0.2.7", "LAST_CLICK"))


def test_clicks_browsers_and_the_order_of_display_are_no_answers_without_a_definition_either() -> None:
    said = hanako(QID8_LAST_CLICK=3, QID9_BROWSER="Firefox", QID2_DO="1|2", QID3_TEXT_0a1b2c3d4e5fTopics="寒さ")
    found = answers(export(said), made(files={"mapping": b'ref = "RegionalId"'}))
    assert not set(found) & {"QID8_FIRST_CLICK", "QID8_LAST_CLICK", "QID9_BROWSER", "QID2_DO"}
    assert "寒さ" not in found.values()


def test_a_ref_that_the_person_wrote_is_no_answer() -> None:
    connector = mapped('ref = "Q3"')
    translation = connector.translate(export(hanako(QID3_TEXT="M-17")))
    assert {event.ref for event in translation.events} == {"M-17"}
    assert "M-17" not in str([event.data for event in translation.events])


def test_the_ref_is_qualtrics_own_reference_where_no_mapping_names_another() -> None:
    said = hanako(externalDataReference="X-1")
    assert {event.ref for event in Qualtrics().translate(export(said)).events} == {"X-1"}
    assert {event.ref for event in mapped('ref = "ExternalReference"').translate(export(said)).events} == {"X-1"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"finished": 0}, "unfinished"),
        ({"finished": "False"}, "unfinished"),
        ({"status": 1}, "a preview or a test"),
        ({"status": 2}, "a preview or a test"),
        ({"status": 17}, "a preview or a test"),
        ({"status": "Survey Preview"}, "a preview or a test"),
        ({"distributionChannel": "preview"}, "a preview or a test"),
        ({"status": 8}, "spam"),
        ({"status": 12}, "spam"),
        ({"status": "Spam"}, "spam"),
        ({"RegionalId": ""}, "without the person's id"),
        ({"RegionalId": None}, "without the person's id"),
    ],
)
def test_what_is_left_out_is_told_with_its_reason(change: dict[str, Any], why: str) -> None:
    translation = made().translate(export(hanako(**change)))
    assert (translation.events, translation.rejected) == ([], [])
    assert translation.nothing == f"responses that are left out: 1 {why}"


@pytest.mark.parametrize("status", [0, 4, 16, 32, 36, "IP Address", "Imported", "Offline", "IP-Adresse"])
def test_responses_that_were_imported_or_given_offline_are_taken(status: Any) -> None:
    assert made().translate(export(hanako(status=status))).events


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"status": "Unbekannt"}, "status"),
        ({"status": 256}, "status"),
        ({"status": None}, "status"),
        ({"finished": "Wahr"}, "finished"),
        ({"finished": None}, "finished"),
        ({"endDate": "yesterday"}, "endDate"),
        ({"endDate": "2026-02-30T00:00:00Z"}, "endDate"),
        ({"endDate": 20260602}, "endDate"),
        ({"RegionalId": "x" * 201}, "(a field)"),
        ({"RegionalId": "a\nb"}, "(a field)"),
        ({"QID3_TEXT": "あ" * 10_001}, "QID3_TEXT"),
        ({"QID3_TEXT": "\ud800"}, "QID3_TEXT"),
        ({"QID2": [["1"]]}, "QID2"),
        ({"QID2": ["1"] * 1001}, "QID2"),
        ({"QID1": {"choice": "1"}}, "QID1"),
    ],
)
def test_a_response_that_cannot_be_read_is_rejected_by_itself(change: dict[str, Any], path: str) -> None:
    translation = made().translate(export(hanako(**change), responses()[1]))
    (rejected,) = translation.rejected
    assert rejected.error.path == f"responses[0].values.{path}"
    assert [event.ref for event in translation.events] == ["aizu-0002"] * 3
    again = made().translate(rejected.payload)
    assert [(r.error.path.removeprefix("values."), r.error.reason) for r in again.rejected] == [
        (path, rejected.error.reason)
    ]
    assert not again.events


def test_a_rejected_response_that_is_mended_and_replayed_is_the_event_that_it_would_have_been() -> None:
    (rejected,) = made().translate(export(hanako(status="Unbekannt"))).rejected
    assert rejected.refs == ("aizu-0001",)
    assert ids(rejected.payload.replace(b'"Unbekannt"', b"0")) == ids(export(responses()[0]))


def test_rows_are_rejected_one_by_one_with_their_header_and_can_be_mended() -> None:
    translation = made().translate(golden("07-three-headers.csv"))
    ragged, zoneless = translation.rejected
    assert (ragged.error.path, zoneless.error.path) == ("line 7", "line 8, endDate")
    assert zoneless.refs == ("aizu-0012",)
    mended = zoneless.payload.replace(b"6/2/2026 9:12", b"2026-06-02 09:12:00")
    assert [event.ref for event in made().translate(mended).events] == ["aizu-0012"] * 2
    assert [found.error.reason for found in made().translate(ragged.payload).rejected] == [ragged.error.reason]


def test_a_row_with_cells_too_many_is_rejected_with_the_id_of_its_person() -> None:
    table = rows("08-words-split.csv")
    (rejected,) = made().translate(written([*table, [*table[3], "one more"]])).rejected
    assert (rejected.error.path, rejected.refs) == ("line 6", ["aizu-0001"])


# meanings


def test_needs_stand_beside_the_answers_and_a_profile_is_never_replaced() -> None:
    translation = made().translate(export(responses()[0]))
    assert data(translation)["needs"] == ["medicine", "wheelchair", "step-free toilet", "help with walking"]
    assert "needs" not in data(translation)["answers"]
    assert "profile.updated" not in {event.kind for event in translation.events} | set(Qualtrics.kinds)


def test_a_question_that_is_called_needs_is_an_answer_as_any_other() -> None:
    text = 'ref = "RegionalId"\nnames = { QID3 = "needs" }\nneeds = [{ question = "Q1", answer = "*", needs = ["a"] }]'
    said = data(mapped(text).translate(export(responses()[0])))
    assert said["needs"] == ["a"]
    assert said["answers"]["needs"] not in ("", "a")


def test_who_said_nothing_of_needs_has_none_rather_than_an_empty_list() -> None:
    text = 'ref = "RegionalId"\nneeds = [{ question = "Q1", answer = "no such answer", needs = ["a"] }]'
    assert "needs" not in data(mapped(text).translate(export(responses()[0])))


def test_needs_are_told_where_the_survey_asks_nothing_else_that_is_told() -> None:
    told = mapped('ref = "RegionalId"\nneeds = [{ question = "Drill", answer = "*", needs = ["a", "b"] }]')
    values = {name: value for name, value in responses()[0]["values"].items() if not name.startswith("QID")}
    said = export({**responses()[0], "values": {**values, "Drill": "x"}, "labels": {}})
    assert data(told.translate(said)) == {"answers": {}, "survey": "SV_0aizuShelter001", "needs": ["a", "b"]}


def test_a_safety_answer_without_a_meaning_is_unknown_with_its_words() -> None:
    assert data(made().translate(export(responses()[1])), "safety.answered") == {
        "status": "unknown",
        "note": "わからない",
    }


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (["無事", "けがをしている"], "injured"),
        (["無事", "助けが必要", "けがをしている"], "need_help"),
        (["無事", "家にとじこめられている"], "unknown"),
        (["無事"], "safe"),
    ],
)
def test_of_several_choices_the_gravest_counts(said: list[str], status: str) -> None:
    told = data(made().translate(export(hanako(QID1=said))), "safety.answered")
    assert told["status"] == status
    assert all(word in told["note"] for word in said)


def test_an_unanswered_question_says_nothing_of_safety() -> None:
    said = hanako(QID1=None)
    assert "safety.answered" not in {event.kind for event in made().translate(export(said)).events}


def test_who_is_elsewhere_is_at_no_shelter() -> None:
    said = responses()[0]
    said["values"]["QID5"], said["labels"]["QID5"] = 2, "車で過ごす"
    assert "shelter" not in data(made().translate(export(said)), "evacuation.changed")


def test_any_answer_can_have_a_meaning_and_a_shelter_can_be_the_same_for_all() -> None:
    connector = mapped(
        'ref = "RegionalId"\nshelter = { always = "s1" }\n'
        'evacuation = { question = "ShelterId", words = { "*" = "at_shelter" } }'
    )
    translation = connector.translate(export(responses()[0]))
    assert data(translation)["shelter"] == data(translation, "evacuation.changed")["shelter"] == "s1"


@pytest.mark.parametrize(("said", "count"), [("3", 3), ("三人", None), ("1000", None), ("-1", None), ("3.5", None)])
def test_companions_are_told_where_they_are_a_number(said: str, count: int | None) -> None:
    found = data(made().translate(export(hanako(QID6_TEXT=said))), "evacuation.changed")
    assert found.get("companions") == count


def test_what_is_said_in_a_drill_is_an_exercise() -> None:
    assert {event.exercise for event in made().translate(export(hanako(Drill="訓練"))).events} == {True}
    assert {event.exercise for event in made().translate(export(hanako(Drill="本番"))).events} == {False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ref = 1", "ref: is no text"),
        ("what = 1", "what: is no key"),
        ("[[needs]]\nquestion = 'Q1'", "needs[0].needs: names none"),
        ("[[needs]]\nneeds = ['a']\nanswer = 'b'", "needs[0].question: is no text"),
        ("[safety]\nquestion = 'Q1'\nwords = { '無事' = 'fine' }", "safety.words.無事: is none of safe"),
        ("[safety]\nquestion = 'Q1'", "safety.words: is missing"),
        ("[evacuation]\nwords = { a = 'moving' }", "evacuation.question: is no text"),
        ("[status]\nSpam = 'x'", "status.Spam: is no whole number"),
        ("keep = 'a'", "keep: is no list of texts"),
        ("needs = 1", "needs: is no list of tables"),
        ("ref = ", "is no TOML"),
    ],
)
def test_a_mapping_that_is_wrong_stops_the_connector_with_its_key(text: str, message: str) -> None:
    with pytest.raises(Misuse) as caught:
        mapped(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"SurveyElements": [{"Element": "SQ"}]}', b'{"result": 5}', b"PK"]
)
def test_a_definition_that_is_none_stops_the_connector(content: bytes) -> None:
    with pytest.raises(Misuse, match=r"files\.qsf"):
        made(files={"qsf": content})


@pytest.mark.parametrize(
    "options",
    [{"survey": "x"}, {"survey": 5}, {"time_zone": "Mars/Olympus"}, {"time_zone": "../etc"}, {"time_zone": 9},
     {"encoding": "utf-7"}, {"patience_s": 1000}, {"whole_h": -1}, {"whole_h": True}],
)  # fmt: skip
def test_an_option_that_is_wrong_stops_the_connector(options: dict[str, Any]) -> None:
    with pytest.raises(Misuse, match=f"options.{next(iter(options))}"):
        made(options=options)


# times


def test_a_time_without_an_offset_is_refused_where_no_zone_is_set() -> None:
    connector = Qualtrics(Settings(options={"survey": "SV_0aizuShelter001"}, files=FILES))
    for name in ("07-three-headers.csv", "10-responses.xml"):
        error = refusal(golden(name), connector)
        assert "options.time_zone" in error.reason
        assert error.path.endswith("endDate")
    assert connector.translate(golden("05-lines.ndjson")).events


def test_one_response_without_an_offset_keeps_out_no_other() -> None:
    connector = Qualtrics(Settings(options={"survey": "SV_0aizuShelter001"}, files=FILES))
    found = connector.translate(export(hanako(endDate="2026-06-02 09:00:00"), responses()[1]))
    assert [rejected.error.path for rejected in found.rejected] == ["responses[0].values.endDate"]
    assert found.events


@pytest.mark.parametrize("local", ["2026-03-29 02:30:00", "2026-10-25 02:30:00"])
def test_an_hour_that_a_zone_has_twice_or_not_at_all_is_refused(local: str) -> None:
    connector = made(options={"time_zone": "Europe/Berlin"})
    (rejected,) = connector.translate(export(hanako(endDate=local))).rejected
    assert rejected.error.reason == "is a time that its zone has twice, or not at all"


def test_a_response_is_told_of_when_it_was_ended_and_reported_when_it_was_recorded() -> None:
    said = hanako(endDate="2026-06-01T10:00:00Z", recordedDate="2026-06-02T12:00:00Z")
    translation = made().translate(export(said))
    assert {event.occurred_at.isoformat() for event in translation.events if event.occurred_at} == {
        "2026-06-01T10:00:00+00:00"
    }
    assert translation.reported_at is not None
    assert translation.reported_at.isoformat() == "2026-06-02T12:00:00+00:00"


# edits and deletions


def test_an_edited_response_is_a_new_event_and_the_same_one_again_is_none() -> None:
    before, after = ids(export(responses()[0])), ids(export(hanako(QID3_TEXT="別のこと")))
    assert before != after
    assert ids(export(hanako(QID3_TEXT="別のこと"))) == after


def test_what_an_export_names_as_deleted_is_retracted_by_the_id_that_it_had() -> None:
    deletes = [{"responseId": responses()[0]["responseId"], "decrementQuotas": False}]
    translation = made().translate(export(responses()[0], responses()[1], deletes=deletes))
    retracted = [event for event in translation.events if event.kind == "fact.retracted"]
    assert [event.data["event"] for event in retracted] == ids(export(responses()[0]))
    assert {event.ref for event in retracted} == {"aizu-0001"}
    assert [event.ref for event in translation.events if event.kind == "survey.answered"] == ["aizu-0002"]


def test_a_deleted_response_of_which_nothing_is_known_is_told_of() -> None:
    (rejected,) = made().translate(export(deletes=[{"responseId": "R_9"}])).rejected
    assert rejected.error.path == "deletes[0].responseId"
    assert made().translate(rejected.payload).rejected[0].error.reason == rejected.error.reason


# webhooks


def signed(payload: bytes, secret: str = SECRET) -> Any:
    return made(secrets={"webhook": secret}).verify(Request(headers={}, body=payload))


def test_a_webhook_that_is_signed_wakes_the_poll_and_holds_nothing() -> None:
    signed(golden("01-webhook.form"))
    translation = made().translate(golden("01-webhook.form"))
    assert (translation.wake, list(translation.events)) == (True, [])


@pytest.mark.parametrize(
    "bend",
    [
        lambda body: body.replace(b"R_0aizu0000000001", b"R_0aizu0000000002"),
        lambda body: body.replace(b"HMAC=", b"HMAC=0"),
        lambda body: body.partition(b"&")[2],
        lambda body: b"HMAC=&" + body.partition(b"&")[2],
        lambda body: body + b"&MSG=%7B%7D",
        lambda body: b"MSG=%7B%7D&" + body,
        lambda body: body.replace(b"MSG=", b"msg="),
        lambda body: b"HMAC=\xff&" + body.partition(b"&")[2],
        lambda body: body + b"&a=" + b"b" * 70_000,
        lambda body: b"",
        lambda body: b'{"HMAC": "", "MSG": ""}',
    ],
)
def test_a_webhook_that_was_bent_is_not_signed(bend: Any) -> None:
    with pytest.raises(Unsigned):
        signed(bend(golden("01-webhook.form")))


def test_a_webhook_is_not_signed_by_another_secret_or_by_none() -> None:
    with pytest.raises(Unsigned):
        signed(golden("01-webhook.form"), "another")
    with pytest.raises(Unsigned):
        made().verify(Request(headers={}, body=golden("01-webhook.form")))


def test_a_webhook_encoded_with_plus_signs_and_an_upper_case_signature_is_signed_too() -> None:
    head, _, rest = golden("01-webhook.form").partition(b"&")
    signed(head.replace(b"HMAC=", b"").upper().join([b"HMAC=", b"&"]) + rest.replace(b"%20", b"+"))


def form(**message: Any) -> bytes:
    from urllib.parse import urlencode

    return urlencode({"HMAC": "0", "MSG": json.dumps(message), "Topic": "aizu.controlpanel.activateSurvey"}).encode()


@pytest.mark.parametrize("message", [{"SurveyID": "SV_0aizuShelter001"}, {"SurveyID": "SV_2", "ResponseID": "R_1"}])
def test_a_webhook_about_something_else_wakes_nobody(message: dict[str, Any]) -> None:
    translation = made().translate(form(**message))
    assert (translation.wake, translation.nothing is None) == (False, False)


def test_an_encrypted_webhook_is_refused_with_what_to_do() -> None:
    error = refusal(b"HMAC=0&MSG=c2VjcmV0&Topic=a")
    assert (error.path, "encrypt" in error.reason) == ("MSG", True)


# other payloads


def test_a_definition_or_another_reply_holds_nothing_to_record() -> None:
    assert "files.qsf" in str(made().translate(FILES["qsf"]).nothing)
    for result in ({"progressId": "ES_1", "percentComplete": 0.0, "status": "inProgress"}, {"elements": []}):
        payload = json.dumps({"result": result, "meta": {"httpStatus": "200 - OK"}}).encode()
        assert made().translate(payload).nothing == "a reply of the API that holds no response"


# hostile


def bomb() -> bytes:
    return zipped(("a.json", b"[" + b"1," * 40_000_000 + b"1]"))


def lying(payload: bytes, size: int) -> bytes:
    """The zip with another unpacked size in both of its headers."""
    at = payload.index(b"PK\x01\x02")
    told_size = size.to_bytes(4, "little")
    return payload[:22] + told_size + payload[26 : at + 24] + told_size + payload[at + 28 :]


def encrypted() -> bytes:
    payload = bytearray(zipped(("a.json", b"{}")))
    payload[6] |= 1
    payload[payload.index(b"PK\x01\x02") + 8] |= 1
    return bytes(payload)


def bad_lines() -> bytes:
    return golden("05-lines.ndjson").replace(b"R_", b"")


def bent(payload: bytes, at: int) -> bytes:
    return payload[:at] + bytes(byte ^ 0xFF for byte in payload[at : at + 4]) + payload[at + 4 :]


HOSTILE: dict[str, tuple[Any, str]] = {
    "a zip bomb": (bomb, "zip"),
    "a zip bomb that lies about its size": (lambda: lying(bomb(), 100), "zip"),
    "a zip of two files": (lambda: zipped(("a.csv", b"a"), ("b.csv", b"b")), "zip"),
    "a zip of many files": (lambda: zipped(*((f"{n}.csv", b"") for n in range(20_000))), "zip"),
    "a zip of no file": (zipped, "zip"),
    "a zip that climbs": (lambda: zipped(("../../etc/passwd", b"a")), "zip"),
    "a zip with a folder": (lambda: zipped(("a/", b"")), "zip"),
    "a zip with an absolute path": (lambda: zipped(("C:\\a.csv", b"a")), "zip"),
    "a zip in a zip": (lambda: zipped(("a.zip", zipped(("a.csv", b"a")))), "zip"),
    "a zip with a password": (encrypted, "zip"),
    "a zip packed otherwise": (lambda: zipped(("a.csv", b"a" * 100), method=zipfile.ZIP_LZMA), "zip"),
    "a zip cut off": (lambda: golden("11-export.zip")[:-30], "zip"),
    "a zip with another content": (
        lambda: golden("11-export.zip")[:60] + b"\0\0\0\0" + golden("11-export.zip")[64:],
        "zip",
    ),
    "JSON nested deeply": (lambda: b'{"responses":' + b"[" * 1_000_000, ""),
    "JSON of many numbers": (lambda: b'{"responses":[' + b"1," * 9_000_000 + b"1]}", ""),
    "JSON of many responses that are none": (lambda: b'{"responses":[' + b"1," * 90_000 + b"1]}", "responses[0]"),
    "JSON of more responses than can be": (lambda: b'{"responses":[' + b"1," * 7_000_000 + b"1]}", "responses"),
    "lines without end": (lambda: golden("05-lines.ndjson") + b"\n" * 15_000_000, ""),
    "many lines that are none": (
        lambda: golden("05-lines.ndjson").replace(b"R_", b"") + b"1\n" * 90_000,
        "line 1.responseId",
    ),
    "XML of more responses than can be": (
        lambda: b"<Responses>" + b"<Response/>" * 300_000 + b"</Responses>",
        "Responses",
    ),
    "many ragged rows": (lambda: golden("07-three-headers.csv").partition(b"\n2026")[0] + b"\na" * 90_000, "line 4"),
    "a table of lines without end": (lambda: golden("07-three-headers.csv") + b"\n" * 15_000_000, ""),
    "JSON with a name twice": (lambda: b'{"responses": [], "responses": []}', ""),
    "XML with entities": (lambda: b'<!DOCTYPE a [<!ENTITY b "c">]><Responses>&b;</Responses>', ""),
    "XML that fetches": (lambda: b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><Responses/>', ""),
    "XML nested deeply": (lambda: b"<Responses>" + b"<a>" * 1_000_000, ""),
    "XML of another root": (lambda: b"<Answers/>", "Responses"),
    "XML in another encoding": (lambda: b'<?xml version="1.0" encoding="UTF-7"?><Responses/>', ""),
    "a table with a cell of a million letters": (lambda: golden("07-three-headers.csv") + b"x" * 1_000_000, "line 9"),
    "a table with a quotation mark that does not close": (lambda: golden("07-three-headers.csv") + b'"', "line 9"),
    "a table of columns without end": (lambda: b"ResponseId" + b",a" * 3_000_000, "line 1"),
    "a table in cp932": (lambda: golden("09-two-headers.csv").decode("utf-8-sig").encode("cp932"), ""),
    "a table of zero bytes": (lambda: b"ResponseId\0,a", ""),
    "half of UTF-16": (lambda: b"\xff\xfeR", ""),
    "a table of something else": (lambda: b"a,b\n1,2\n", "line 1"),
    "nothing": (lambda: b"", ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_payload_is_refused_quickly_and_whole(name: str) -> None:
    make, path = HOSTILE[name]
    payload = make()
    connector = made()
    start = time.process_time()
    error = refusal(payload, connector)
    assert time.process_time() - start < 5, "far below a second by itself; this tells a bomb from a slow machine"
    assert error.path == path
    assert error.reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (bomb, "is larger than 64 MiB when unpacked"),
        (encrypted, "has a password"),
        (lambda: zipped(*((f"{n}.csv", b"") for n in range(17))), "holds many files; one is meant"),
        (lambda: zipped(("a.csv", b"a"), ("b.csv", b"b")), "holds 2 files; one is meant"),
    ],
)
def test_a_zip_that_is_refused_says_why(payload: Any, reason: str) -> None:
    assert refusal(payload()).reason == reason


def test_many_cells_of_brackets_and_commas_take_no_long_time() -> None:
    said = hanako(QID1="<" * 9_999, QID2="," * 9_999, QID3_TEXT="&" * 9_999)
    start = time.process_time()
    made().translate(export(*[{**said, "responseId": f"R_{n}"} for n in range(50)]))
    assert time.process_time() - start < 5


def test_a_table_in_cp932_is_read_where_the_operator_says_so() -> None:
    payload = golden("09-two-headers.csv").decode("utf-8-sig").encode("cp932")
    assert ids(payload, made(options={"encoding": "cp932"})) == ids(golden("09-two-headers.csv"))


def test_the_sample_is_as_large_as_asked_for_whatever_field_holds_the_ref() -> None:
    for connector in (Qualtrics(), made()):
        translation = connector.translate(connector.sample(50))
        assert len([event for event in translation.events if event.kind == "survey.answered"]) == 50


# what others wrote


@real
def test_a_webhook_that_qualtrics_sent_is_signed_and_wakes() -> None:
    body = (REAL / "webhook" / "completedResponse-1.form").read_bytes().strip()
    connector = Qualtrics(Settings(secrets={"webhook": "kyma4ever"}))
    connector.verify(Request(headers={}, body=body))
    assert connector.translate(body).wake
    with pytest.raises(Unsigned):
        connector.verify(Request(headers={}, body=body.replace(b"R_1l9", b"R_2l9")))


@real
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_replies_about_subscriptions_hold_nothing(method: str) -> None:
    assert made().translate((REAL / "webhook" / f"{method}_API_v3_eventsubscriptions.json").read_bytes()).nothing


@real
def test_a_real_csv_in_german_is_read() -> None:
    payload = (REAL / "csv-exports" / "ropensci-sample.csv").read_bytes()
    table = list(csv.reader(io.StringIO(payload.decode("utf-8-sig"), newline="")))
    assert Qualtrics(Settings(options={"time_zone": "UTC"})).translate(payload).nothing == (
        "responses that are left out: 1 without the person's id"
    )
    table[3][table[0].index("ExternalReference")] = "someone"
    translation = Qualtrics(Settings(options={"time_zone": "UTC"})).translate(written(table))
    (event,) = translation.events
    assert event.data["answers"] == {
        "This is a multiple choice question.": "2",
        "This is a free text question.": "Hello World!",
    }
    assert event.occurred_at is not None
    assert event.occurred_at.isoformat() == "2017-07-18T08:28:48+00:00"


@real
def test_a_real_single_response_is_read() -> None:
    said = json.loads((REAL / "response-json" / "asist-single-response.json").read_bytes())
    said["values"]["externalDataReference"] = "someone"
    (event,) = Qualtrics().translate(json.dumps(said).encode()).events
    assert event.data["answers"] == {"QID1_TEXT": "wedw", "QID3": "Slightly uncomfortable", "QID2": "Tuesday"}


@real
@pytest.mark.parametrize("path", sorted((REAL / "qsf").glob("*.qsf")), ids=lambda path: path.stem)
def test_a_real_definition_names_its_questions(path: Path) -> None:
    connector = made(files={"qsf": path.read_bytes()}, options={})
    assert connector._survey.questions
    assert not any("<" in question.text for question in connector._survey.questions.values())


@real
def test_a_reply_of_the_api_about_a_survey_names_its_questions_too() -> None:
    yaml = pytest.importorskip("yaml")
    recorded = yaml.safe_load((REAL / "api-recordings" / "metadata.yml").read_text())
    reply = recorded["http_interactions"][0]["response"]["body"]["string"].encode()
    said = hanako(externalDataReference="x", QID63=2)
    said["labels"] = {}
    found = answers(export(said), Qualtrics(Settings(files={"qsf": reply})))
    assert found["How often do you typically use your beskar armor?"] == "Weekly"


@real
def test_every_real_file_gives_events_or_a_reason_and_never_another_error() -> None:
    found = [outcome(made(), path.read_bytes()) for path in real_files()]
    assert len(found) >= 15
    assert all(said.keys() & {"events", "rejected", "nothing", "error"} for said in found)


def real_files() -> Iterator[Path]:
    return (path for path in sorted(REAL.rglob("*")) if path.is_file())


def test_the_goldens_are_those_of_the_package() -> None:
    assert "02-responses.json" in package(HERE.parent).payloads
    assert told(made().translate(golden("03-left-out.json"))) == json.loads(golden("03-left-out.json.golden"))
