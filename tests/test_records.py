"""What is exported: consent records in the words of the W3C's DPV, and the record of provisions of a period."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Said, Town
from hub.records import COLUMNS, CONTEXT, write

HOUR = timedelta(hours=1)
NOTICE = {"id": "n1", "version": "2", "language": "ja", "sha256": "ab" * 32}


@pytest.fixture
def home(town: Town) -> Town:
    """花子 and taro; the hospital and the city may be shown things."""
    town.tell(
        "recipient.registered", recipient="central-hospital", **{"class": "hospital"}, areas=["*"], purposes=["care"]
    )
    town.tell(
        "recipient.registered",
        recipient="aizu-city",
        **{"class": "municipality"},
        areas=["07202"],
        purposes=["rescue"],
        overrides=["life_protection"],
    )
    for person in ("花子", "taro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
        town.tell("location.reported", person=person, lat_deg=37.4948, lon_deg=139.9298, accuracy_m=5)
        town.tell("safety.answered", person=person, status="safe")
    return town


def grant(town: Town, person: str, name: str, **said: Any) -> int:
    terms: dict[str, Any] = {
        "to": {"recipient": "central-hospital"},
        "kinds": ["safety.answered", "location.reported"],
        "purposes": ["care"],
        "modes": ["normal"],
        "data": "all",
        "precision": {"location.reported": "1km"},
    }
    return town.tell("consent.granted", person=person, grant=name, **{**terms, **said})


def consents(town: Town, person: str | None = None) -> dict[str, dict[str, Any]]:
    """The records by their identifier."""
    document = json.loads(b"".join(town.hub.records.consent_records(person)))
    assert document["@context"] == CONTEXT
    return {record["dct:identifier"]: record for record in document["@graph"]}


def states(record: dict[str, Any]) -> list[str]:
    return [event["@type"].removeprefix("dpv:") for event in record["dpv:hasConsentStatus"]]


def lines(town: Town, since: datetime, until: datetime, **asked: Any) -> list[dict[str, str]]:
    """The lines of the record of provisions, by the English half of each column's name."""
    written = b"".join(town.hub.records.provisions(since, until, **asked))
    assert written.startswith(b"\xef\xbb\xbf")
    assert written.count(b"\n") == written.count(b"\r\n")
    rows = list(csv.reader(io.StringIO(written.decode("utf-8-sig"), newline="")))
    assert rows[0] == list(COLUMNS)
    return [dict(zip([name.split()[1] for name in COLUMNS], row, strict=True)) for row in rows[1:]]


def ever(town: Town) -> tuple[datetime, datetime]:
    return datetime(2000, 1, 1, tzinfo=UTC), town.now + 100 * HOUR


# Consent records


def test_every_grant_ever_made_is_told_with_what_became_of_it(home: Town) -> None:
    grant(home, "花子", "running", notice=NOTICE)
    grant(home, "花子", "withdrawn", valid_until=home.now + HOUR)
    grant(home, "花子", "over", valid_until=home.now + HOUR)
    grant(home, "花子", "spent", uses=1, kinds=["location.reported"], precision={"location.reported": "exact"})
    home.tell("consent.revoked", person="花子", grant="withdrawn")
    home.read("central-hospital", "care")
    home.wait(2 * HOUR)

    found = consents(home)

    assert {name: states(record) for name, record in found.items()} == {
        "running": ["ConsentGiven"],
        "withdrawn": ["ConsentGiven", "ConsentWithdrawn"],
        "over": ["ConsentGiven", "ConsentExpired"],
        "spent": ["ConsentGiven", "ConsentExpired"],
    }
    assert [found[name]["dpv:hasConsentStatus"][1].get("hub:endedBy") for name in ("over", "spent")] == ["time", "uses"]
    assert found["spent"]["hub:used"] == 1
    assert found["over"]["dpv:hasProcess"]["dpv:hasLegalBasis"] == {"@id": "dpv:Consent"}  # no notice: not informed
    assert list(found) == ["running", "withdrawn", "over", "spent"]


def test_a_record_says_who_what_for_what_and_under_which_notice(home: Town) -> None:
    position = grant(home, "花子", "g", notice=NOTICE, to={"class": "hospital"}, uses=3)
    record = consents(home, "花子")["g"]
    process = record["dpv:hasProcess"]

    assert record["@type"] == "dpv:ConsentRecord"
    assert record["dpv:hasDataSubject"]["dct:identifier"] == "花子"
    assert record["dpv:hasNotice"]["hub:sha256"] == NOTICE["sha256"]
    assert record["dpv:hasNotice"]["dct:language"] == "ja"
    assert [kind["dct:identifier"] for kind in process["dpv:hasPersonalData"]] == [
        "safety.answered",
        "location.reported",
    ]
    assert [purpose["dct:identifier"] for purpose in process["dpv:hasPurpose"]] == ["care"]
    assert process["dpv:hasRecipient"]["hub:class"] == "hospital"
    assert process["hub:precision"] == {"location.reported": "1km"}
    assert process["dpv:hasLegalBasis"] == {"@id": "dpv:ExpressedConsent"}
    assert (process["hub:modes"], process["hub:window"], process["hub:uses"]) == (["normal"], "all", 3)
    with home.hub.log.entries.snapshot() as (connection, _):
        recorded_at = home.hub.log.recorded_at(connection, position)
    assert recorded_at is not None
    assert datetime.fromisoformat(record["dct:created"]) == recorded_at


def test_a_delegate_who_ends_a_consent_revokes_it_and_one_who_is_erased_is_not_named(home: Town) -> None:
    home.tell("delegation.added", person="花子", delegate="taro")
    grant(home, "花子", "g", by="taro")
    assert consents(home)["g"]["hub:delegationActive"] is True
    home.tell("consent.revoked", person="花子", grant="all", by="taro")
    [given, revoked] = consents(home)["g"]["dpv:hasConsentStatus"]
    assert revoked["@type"] == "dpv:ConsentRevoked"
    assert given["dpv:isIndicatedBy"]["dct:identifier"] == "taro"

    home.tell("person.erased", person="taro")

    assert "taro" not in json.dumps(consents(home))


def test_a_declined_request_is_a_record_too(home: Town) -> None:
    asked = {"recipient": "central-hospital", "kinds": ["care.*"], "purpose": "care"}
    home.tell("consent.requested", person="花子", request="r1", **asked)
    home.tell("consent.requested", person="花子", request="r2", **asked)
    home.tell("consent.declined", person="花子", request="r1")
    grant(home, "花子", "g", request="r2")

    found = consents(home)

    assert {name: states(record) for name, record in found.items()} == {
        "r1": ["ConsentRequested", "ConsentRefused"],
        "g": ["ConsentRequested", "ConsentGiven"],
    }


def test_who_is_erased_is_in_no_record(home: Town) -> None:
    grant(home, "花子", "g")
    grant(home, "taro", "h")
    assert (home.hub.records.persons(), list(consents(home))) == (2, ["g", "h"])
    home.tell("person.erased", person="花子")
    assert (home.hub.records.persons(), list(consents(home)), consents(home, "花子")) == (1, ["h"], {})


def test_every_word_of_a_record_is_in_its_context_and_equal_logs_give_equal_bytes(home: Town) -> None:
    grant(home, "花子", "g: +1/2", notice=NOTICE)
    written = b"".join(home.hub.records.consent_records())
    assert written == b"".join(home.hub.records.consent_records())
    for record in json.loads(written)["@graph"]:
        for word in words(record):
            assert word.startswith("@") or word.partition(":")[0] in CONTEXT, word
        assert all(re.fullmatch(r"[!-~]+", name) for name in names(record))


def words(value: Any) -> list[str]:
    """Every property and type, and what is referred to by a short name."""
    match value:
        case dict():
            own = [name for name in value if name != "hub:precision"]
            types = [value["@type"]] if "@type" in value else []
            return own + types + [word for name in own for word in words(value[name])]
        case list():
            return [word for part in value for word in words(part)]
        case _:
            return []


def names(value: Any) -> list[str]:
    match value:
        case dict():
            return [part for name, part in value.items() if name == "@id"] + [
                n for p in value.values() for n in names(p)
            ]
        case list():
            return [name for part in value for name in names(part)]
        case _:
            return []


# Provisions


def test_a_provision_tells_recipient_person_items_ground_and_day(home: Town) -> None:
    grant(home, "花子", "g")
    home.clock.set(datetime(2026, 6, 1, 14, 58, tzinfo=UTC))
    answer = home.read("central-hospital", "care")

    [line] = lines(home, *ever(home))

    assert line == {
        "date": "2026-06-01",
        "time_utc": "2026-06-01T14:59:00.000000Z",
        "recipient": "central-hospital",
        "class": "hospital",
        "actor": "",
        "person": "花子",
        "items": "location.reported(1km)1件、safety.answered(full)1件",
        "ground": "本人の同意",
        "ground_id": "g",
        "purpose": "care",
        "exercise": "",
        "disclosure": answer.disclosure,
    }


def test_an_override_is_told_with_its_article_after_it_was_closed_too(home: Town) -> None:
    home.tell(
        "override.opened",
        override="o1",
        recipient="aizu-city",
        basis="life_protection",
        persons=["花子"],
        kinds=["location.reported"],
        purposes=["rescue"],
        until=home.now + HOUR,
        reason="捜索",
        actor="officer",
    )
    home.read("aizu-city", "rescue")
    home.tell("override.closed", override="o1")
    [line] = lines(home, *ever(home))
    assert (line["ground"], line["ground_id"]) == ("法令に基づく緊急閲覧(個人情報保護法27条1項2号)", "o1")


def test_a_period_begins_with_its_first_moment_and_ends_before_its_last(home: Town) -> None:
    grant(home, "花子", "g")
    home.read("central-hospital", "care")
    at = home.now
    microsecond = timedelta(microseconds=1)
    assert len(lines(home, at, at + microsecond)) == 1
    assert lines(home, at + microsecond, at + HOUR) == []
    assert lines(home, at - HOUR, at) == []


def test_drills_are_told_where_they_are_asked_for(home: Town) -> None:
    until = home.now + HOUR
    home.tell("emergency.declared", emergency="d", areas=["07202"], until=until, hazard="flood", exercise=True)
    grant(home, "花子", "g", modes=["exercise"], data="latest")
    home.tell("safety.answered", person="花子", status="safe", exercise=True)
    home.read("central-hospital", "care", exercise=True)
    assert lines(home, *ever(home)) == []
    assert [line["exercise"] for line in lines(home, *ever(home), exercises=True)] == ["訓練"]


def test_of_the_erased_their_number_alone_is_told(home: Town) -> None:
    grant(home, "花子", "g")
    grant(home, "taro", "h")
    home.read("central-hospital", "care")
    home.tell("person.erased", person="花子")
    [taro, erased] = lines(home, *ever(home))
    assert (taro["person"], erased["person"]) == ("taro", "(消去された本人 1人)")
    assert (erased["items"], erased["ground_id"]) == ("(消去により不明)", "")


def test_no_cell_is_run_as_a_formula(home: Town) -> None:
    name = "=HYPERLINK"
    home.tell("person.enrolled", person=name, areas=["07202"])
    home.tell("safety.answered", person=name, status="safe")
    grant(home, name, "+g")
    home.read("central-hospital", "care")
    [line] = lines(home, *ever(home))
    assert (line["person"], line["ground_id"]) == ("'=HYPERLINK", "'+g")


# Files and commands


def test_a_file_is_its_owners_alone_and_stands_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write(str(path), [b"a", b"b"])
    assert path.read_bytes() == b"ab"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def breaks() -> Any:
        yield b"c"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(str(path), breaks())
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("out.csv", b"ab")]


def looks(town: Town) -> list[dict[str, Any]]:
    with town.hub.log.entries.snapshot() as (connection, _):
        entries = list(town.hub.log.scan(connection))
    return [
        dict(entry.event.data)
        for entry in entries
        if getattr(entry, "event", None) and entry.event.kind == "view.audited"
    ]


def test_the_commands_log_the_look_before_they_write(home: Town, hub_main: Callable[..., Said], tmp_path: Path) -> None:
    grant(home, "花子", "g")
    home.clock.set(datetime(2026, 6, 1, 14, 58, tzinfo=UTC))  # the night of June 1 in Tokyo
    home.read("central-hospital", "care")
    database = ["--database", home.url]
    assert hub_main("clock", "accept", *database).status == 0

    said = hub_main("export", "consents", *database, "--out", tmp_path / "c.jsonld", "--person", "花子")
    assert said.status == 0, said.err
    assert [r["dct:identifier"] for r in json.loads((tmp_path / "c.jsonld").read_bytes())["@graph"]] == ["g"]
    day = ["--since", "2026-06-01", "--until", "2026-06-01"]
    said = hub_main("export", "provisions", *database, *day, "--out", "-")
    assert said.status == 0, said.err
    assert "花子" in said.out
    assert (
        "花子"
        not in hub_main(
            "export", "provisions", *database, "--since", "2026-06-02", "--until", "2026-06-03", "--out", "-"
        ).out
    )

    assert [(json.loads(look["query"]).popitem()[0], look["persons_count"]) for look in looks(home)] == [
        ("consents", 1),
        ("provisions", 1),
        ("provisions", 0),
    ]
    assert "花子" not in json.dumps([look["query"] for look in looks(home)], ensure_ascii=False)

    assert hub_main("export", "consents", *database, "--out", tmp_path / "none" / "c").status == 2
    assert (
        hub_main(
            "export", "provisions", *database, "--since", "2026-06-02", "--until", "2026-06-01", "--out", "-"
        ).status
        == 2
    )
    assert (
        hub_main("export", "provisions", *database, "--since", "June", "--until", "2026-06-01", "--out", "-").status
        == 2
    )
