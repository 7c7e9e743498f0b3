"""After an erasure no file of the hub holds a readable value of the person, and the log still proves itself (R15)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from hub.answer import Answer, Query, parse_query, scope
from hub.errors import Refused
from hub.events import CONTROLS, Entry
from hub.log import sealing
from hub.log.log import Closed
from hub.schemas import packaged

if TYPE_CHECKING:
    from conftest import Town

HANAKO, TARO = "hanako-K7Q2-person", "taro-M3X9-person"
"""Ids as distinctive as the values, so that no byte of chance looks like them."""

VALUES = {
    "person": HANAKO,
    "name": "蛇口花子ZQX",
    "phone": "090-7731-4420",
    "diagnosis": "特発性肺線維症QZ",
    "medicine": "ニンテダニブXQ",
    "allergy": "落花生アレルギーQX",
    "address": "追手町九九番地ZZ",
    "note": "裏口の鍵は植木鉢の下XZQ",
    "latitude": "37.4912345678",
    "longitude": "139.9298765432",
    "grant": "grant-8fq2-hanako",
    "approval": "approval-8fq2-hanako",
    "request": "request-8fq2-hanako",
    "reference": "careyell-user-55QZ81",
    "relative": "daughter-of-8fq2",
    "event": "event-8fq2-",
}


def about(person: str, value: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """An event of every kind that there is about a person, full of values; but for the erasure."""
    city, family = {"recipient": "aizu-city"}, {"relation": "family"}
    yield "person.enrolled", {"areas": ["07202"]}
    yield "person.moved", {"areas": ["07202-12"]}
    yield "relation.added", {"recipient": value["relative"], "role": "family"}
    yield "relation.added", {"recipient": "carer", "role": "carer"}
    yield "relation.ended", {"recipient": "carer", "role": "carer"}
    yield "delegation.added", {"delegate": value["relative"]}
    yield "delegation.ended", {"delegate": value["relative"]}
    yield "identity.linked", {"source": "careyell", "ref": value["reference"]}
    yield "identity.unlinked", {"source": "careyell", "ref": value["reference"]}
    yield "identity.linked", {"source": "scenario", "ref": value["reference"]}
    yield "roster.listed", {}
    yield "roster.removed", {}
    terms = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"], "data": "all"}
    yield "consent.granted", {"grant": value["grant"], "to": city, "precision": {"*": "full"}, **terms}
    yield "consent.granted", {"grant": f"{value['grant']}-2", "to": city, "ask": "every_time", **terms}
    approved = {"grant": value["approval"], "approves": f"{value['grant']}-2", "uses": 1}
    yield "consent.granted", {**approved, "to": city, **terms}
    counted = {"kinds": ["care.*"], "purposes": ["care"], "modes": ["normal"], "data": "all"}
    yield "consent.granted", {"grant": f"{value['grant']}-3", "to": city, "uses": 9, **counted}
    wanted = {"recipient": "aizu-city", "kinds": ["*"], "purpose": "rescue"}
    yield "consent.requested", {"request": value["request"], **wanted}
    yield "consent.declined", {"request": value["request"]}
    yield "preferences.changed", {"ask": "once", "recipients": {value["request"]: "every_time"}}
    yield "consent.revoked", {"grant": value["approval"]}
    yield "block.added", {"to": family}
    yield "block.removed", {"to": family}
    place = {"lat_deg": Decimal(value["latitude"]), "lon_deg": Decimal(value["longitude"]), "accuracy_m": 5}
    yield "location.reported", place
    yield "safety.asked", {"question": value["note"]}
    yield "safety.answered", {"status": "injured", "note": value["note"]}
    yield "evacuation.changed", {"status": "at_home", "note": value["note"]}
    yield "care.condition_updated", {"condition": value["diagnosis"], "note": value["note"]}
    yield "care.medication_updated", {"medications": [{"name": value["medicine"]}], "prescriber": value["name"]}
    yield "care.allergy_updated", {"allergies": [value["allergy"]]}
    yield "survey.answered", {"answers": {"telephone": value["phone"], value["name"]: "yes"}}
    yield "transport.requested", {"from": value["address"], "note": value["phone"]}
    yield "profile.updated", {"address": value["address"], "name": value["name"], "phone": value["phone"]}


def settle(town: Town, person: str, value: dict[str, str]) -> None:
    """Everything about one person, the last fact retracted."""
    number, kinds = 0, {"person.erased"}
    for number, (kind, data) in enumerate(about(person, value)):
        town.tell(kind, f"{value['event']}{number}", person=person, **data)
        kinds.add(kind)
    town.tell("fact.retracted", f"{value['event']}x", person=person, event=f"{value['event']}{number}")
    town.tell("fact.retracted", f"{value['event']}y", person=person, event=f"{value['event']}not-yet")
    known = {kind.name for kind in packaged() if kind.about == "person" and kind.category != "hub"}
    assert kinds | {"fact.retracted"} == known, "every kind about a person is told of"
    assert kinds & CONTROLS.keys()


def taros(text: str) -> str:
    return text.replace("hanako", "taro").replace("8fq2", "5tm7").replace("Q", "P").replace("Z", "Y")


TAROS = {name: taros(value) for name, value in VALUES.items()} | {
    "person": TARO,
    "phone": "090-6624-1180",
    "latitude": "37.4056781234",
    "longitude": "139.9111222333",
}


def look(town: Town, person: str) -> list[Answer]:
    """Reads that show the person: all, only her, page by page; and a replay and an explanation."""
    name = town.hub.disclosure.name_of(person)
    answers = [
        town.read("aizu-city", "rescue", history=True),
        town.read("aizu-city", "rescue", persons=(name,)),
        town.read("aizu-city", "rescue", request="r1"),
        town.read("aizu-city", "care"),
    ]
    page = town.read("aizu-city", "rescue", limit=1)
    while page is not None:
        answers.append(page)
        following = json.loads(page.body)["next"]
        page = town.read("aizu-city", "rescue", limit=1, cursor=following) if following else None
    town.hub.audit.replay(Query(recipient="aizu-city", purpose="rescue", persons=(name,)))
    town.hub.audit.explain(recipient="aizu-city", purpose="rescue", person=person)
    return answers


@pytest.fixture
def peopled(town: Town) -> Town:
    """hanako and taro, of whom everything was said and much was read."""
    terms = {"class": "municipality", "areas": ["*"], "purposes": ["rescue", "care"], "overrides": ["life_protection"]}
    town.tell("recipient.registered", recipient="aizu-city", **terms)
    settle(town, HANAKO, VALUES)
    settle(town, TARO, TAROS)
    town.tell(
        "override.opened",
        override="o1",
        recipient="aizu-city",
        basis="life_protection",
        persons=[HANAKO, TARO],
        kinds=["*"],
        purposes=["rescue"],
        until=town.now + timedelta(hours=70),
        reason="no answer at the door",
        actor="officer-7",
    )
    shown = {person["person"] for answer in look(town, HANAKO) for person in json.loads(answer.body)["persons"]}
    assert shown == {HANAKO, TARO}
    return town


def in_bytes(value: str) -> list[bytes]:
    """The value as it could stand in a file."""
    return [
        value.encode(),
        value.encode("utf-16-le"),
        value.encode("utf-16-be"),
        value.encode("utf-8").hex().encode(),
        json.dumps(value).strip('"').encode(),
    ]


def in_files(folder: Path, values: dict[str, str]) -> set[tuple[str, str]]:
    """Which value stands readable in which file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"hub.sqlite3", "hub.keys.sqlite3", "master.key"} <= {path.name for path in files}
    found = set()
    for path in files:
        held = path.read_bytes()
        found |= {(path.name, name) for name, value in values.items() if any(form in held for form in in_bytes(value))}
    return found


def in_log(town: Town, values: dict[str, str]) -> set[tuple[str, str]]:
    """Which value stands in the payload of which kind, once all is opened that the hub can open."""
    found = set()
    with town.hub.log.entries.snapshot() as (connection, _):
        for row in town.hub.log.rows(connection):
            entry = town.hub.log.open(row)
            if isinstance(entry, Entry):
                text = repr(entry)
                found |= {(entry.event.kind, name) for name, value in values.items() if value in text}
            for piece in town.hub.log.chunks(connection, row.position):
                found |= {("chunk", name) for name, value in values.items() if value.encode() in piece}
    return found


def erase(town: Town, person: str = HANAKO) -> int:
    return town.tell("person.erased", f"erasure-{len(person)}", person=person)


@pytest.mark.sqlite("it looks into the files")
def test_before_an_erasure_values_stand_sealed_only(peopled: Town) -> None:
    assert in_files(peopled.folder, VALUES) == set()
    held = in_log(peopled, VALUES)
    assert {name for _, name in held} == set(VALUES)
    peopled.close()
    assert in_files(peopled.folder, VALUES) == set()


@pytest.mark.sqlite("it looks into the files")
def test_a_value_in_the_clear_would_be_found(peopled: Town) -> None:
    (peopled.folder / "core.dump").write_bytes(b"\0\1" + VALUES["diagnosis"].encode("utf-16-le") + b"\2")
    (peopled.folder / "export").mkdir()
    (peopled.folder / "export" / "log.txt").write_text(f"asked {VALUES['phone']} twice")
    assert in_files(peopled.folder, VALUES) == {("core.dump", "diagnosis"), ("log.txt", "phone")}


@pytest.mark.sqlite("it looks into the files")
def test_after_an_erasure_no_file_and_no_payload_holds_a_value(peopled: Town) -> None:
    erase(peopled)
    assert in_files(peopled.folder, VALUES) == set()
    assert in_log(peopled, VALUES) == set()
    peopled.reopen()
    assert in_files(peopled.folder, VALUES) == set()
    assert in_log(peopled, VALUES) == set()


def test_after_an_erasure_no_logged_cursor_opens_to_her_id(peopled: Town) -> None:
    erase(peopled)
    with peopled.hub.log.entries.snapshot() as (connection, _):
        entries = [e for e in peopled.hub.log.scan(connection) if isinstance(e, Entry)]
    asked = [parse_query(e.event.data["query"]) for e in entries if e.event.kind == "view.disclosed"]
    cipher = AESSIV(peopled.hub.log.keyring.secret(sealing.CITY, "cursor"))
    opened = [cipher.decrypt(bytes.fromhex(q.cursor), [scope(q)]) for q in asked if q.cursor]
    assert opened
    assert HANAKO.encode() not in b"".join(opened)


@pytest.mark.sqlite("it looks into the files")
def test_after_an_erasure_her_key_stands_nowhere(peopled: Town) -> None:
    with peopled.hub.log.entries.snapshot() as (connection, _):
        peopled.hub.views.at(connection, 0)
    ordinal = peopled.hub.views.persons.ordinal(HANAKO)
    assert ordinal is not None
    key = peopled.hub.log.keyring._persons[ordinal]
    with peopled.hub.engines[1].connect() as connection:
        rows = connection.execute(sealing.person_key.select()).all()
    [wrapped] = [row.wrapped for row in rows if row.subject == ordinal]
    held = {path.name for path in peopled.folder.iterdir() if wrapped in path.read_bytes()}
    assert held == {"hub.keys.sqlite3"}

    erase(peopled)
    held = [path for path in peopled.folder.iterdir() if wrapped in (raw := path.read_bytes()) or key in raw]
    assert held == []
    assert ordinal not in peopled.hub.log.keyring._persons


def test_no_view_keeps_a_row_of_her_but_that_she_is_erased(peopled: Town) -> None:
    ordinal = peopled.hub.views.persons.ordinal(HANAKO)
    persons = {"policy": 0, "link": 1, "fact": 0, "retraction": 1, "consumed": 0}
    before = peopled.views()
    erase(peopled)
    views = peopled.views()
    for table, column in persons.items():
        assert ordinal in [row[column] for row in before[table]]
        assert ordinal not in [row[column] for row in views[table]]
    assert len([row for row in views["person"] if row[3] is not None]) == 1


def test_an_erasure_leaves_the_other_person_as_he_was(peopled: Town) -> None:
    before = in_log(peopled, TAROS)
    assert {name for _, name in before} == set(TAROS)
    erase(peopled)
    assert in_log(peopled, TAROS) == before
    [shown] = json.loads(peopled.read("aizu-city", "rescue", history=True).body)["persons"]
    assert shown["person"] == TARO
    assert len(shown["items"]) == 9
    assert peopled.hand_in("person.enrolled", person=HANAKO, areas=[]).status == "refused"


def test_the_log_proves_itself_before_and_after_an_erasure_and_after_a_rebuild(peopled: Town) -> None:
    before = peopled.hub.audit.verify()
    erase(peopled)
    after = peopled.hub.audit.verify()
    assert after.size == before.size + 1
    assert before.closed == 0
    assert after.closed == len(list(about(HANAKO, VALUES))) + 3
    rows = peopled.views()
    peopled.hub.views.rebuild()
    assert peopled.views() == rows
    assert peopled.hub.audit.verify() == after


def test_a_person_erased_and_named_at_an_earlier_position_is_reported_erased(peopled: Town) -> None:
    end = peopled.hub.log.entries.max_notification_id()
    name = peopled.hub.disclosure.name_of(HANAKO)
    asked = Query(recipient="aizu-city", purpose="rescue", persons=(name,))
    shown = peopled.hub.audit.replay(asked, position=end)
    assert (len(shown.answer.persons), shown.erased) == (1, 0)
    erase(peopled)
    shown = peopled.hub.audit.replay(asked, position=end)
    assert (len(shown.answer.persons), shown.erased) == (0, 1)
    explained = peopled.hub.audit.explain(recipient="aizu-city", purpose="rescue", person=HANAKO, position=end)
    unknown = peopled.hub.audit.explain(recipient="aizu-city", purpose="rescue", person="nobody", position=end)
    assert explained == unknown


def test_repeating_an_answer_that_showed_her_says_how_many_are_erased(peopled: Town) -> None:
    positions = peopled.hub.audit.disclosures()
    assert all((again := peopled.hub.audit.repeat(p)).same and again.erased == 0 for p in positions)
    showed = [p for p in positions if HANAKO in str(peopled.hub.audit.repeat(p).answer.body)]
    erase(peopled)
    assert len(showed) >= 4
    for position in positions:
        again = peopled.hub.audit.repeat(position)
        assert again.erased == (position in showed)
        assert again.same is (position not in showed)
        assert HANAKO.encode() not in again.answer.body


def test_an_erasure_that_was_cut_off_before_its_key_was_destroyed_is_finished_at_the_next_start(
    peopled: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinal = peopled.hub.views.persons.ordinal(HANAKO)

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sealing.Keyring, "erase", cut_off)
        with pytest.raises(KeyboardInterrupt):
            erase(peopled)
    assert ordinal in peopled.hub.log.keyring.subjects(), "the key was still there when the process died"

    peopled.reopen()
    assert ordinal not in peopled.hub.log.keyring.subjects()
    assert in_log(peopled, VALUES) == set()
    peopled.hub.audit.verify()
    assert peopled.hand_in("safety.answered", person=HANAKO, status="safe").status == "refused"


def test_another_process_that_held_her_key_shows_nothing_of_her_once_the_erasure_is_acknowledged(
    peopled: Town, open_town: Callable[[Path], Any]
) -> None:
    with open_town(peopled.folder) as other:
        other.clock.set(peopled.now)
        assert HANAKO.encode() in other.read("aizu-city", "rescue").body
        erase(peopled)
        assert HANAKO.encode() not in other.read("aizu-city", "rescue").body
        assert in_log(other, VALUES) == set()


def test_erasing_her_again_is_refused_as_for_someone_unknown(peopled: Town) -> None:
    erase(peopled)
    again = peopled.hand_in("person.erased", person=HANAKO)
    unknown = peopled.hand_in("person.erased", person="nobody")
    assert isinstance(again.error, Refused)
    assert str(again.error) == str(unknown.error)
    with peopled.hub.log.entries.snapshot() as (connection, _):
        closed = [e for e in peopled.hub.log.scan(connection) if isinstance(e, Closed)]
    assert {entry.kind for entry in closed} >= {"person.enrolled", "profile.updated", "person.erased"}
