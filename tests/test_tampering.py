"""What is changed in the files by other means than the hub is found, and the message says where."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from hub.log import recorder, sealing

if TYPE_CHECKING:
    from conftest import Said

FLIPS = 40

Verify = Callable[[Path], "Said"]

pytestmark = pytest.mark.sqlite("it changes the files byte by byte")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, open_town: Callable[[Path], Any]) -> Path:
    """The folder of a hub of which every table holds something."""
    folder = tmp_path_factory.mktemp("kept")
    with open_town(folder) as town:
        town.hub.init()
        terms = {"class": "municipality", "areas": ["*"], "purposes": ["rescue"], "overrides": ["roster"]}
        town.tell("recipient.registered", recipient="aizu-city", **terms)
        for person in ("hanako", "taro"):
            town.tell("person.enrolled", person=person, areas=["07202"])
            opened = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"], "uses": 9}
            town.tell("consent.granted", person=person, grant=f"g-{person}", to={"recipient": "aizu-city"}, **opened)
            town.tell("fact.retracted", person=person, event=f"not-yet-{person}")
            town.tell("identity.linked", person=person, source="careyell", ref=f"55-{person}")
            for number in range(8):
                town.tell("safety.answered", person=person, status="safe", note=f"{person} is at place {number}")
                town.tell("location.reported", person=person, lat_deg=37.49, lon_deg=139.93, accuracy_m=number)
        rain = {"hazard": "heavy_rain", "chain": "070000", "report": "VPWW54", "action": "issued", "status": "actual"}
        town.tell("hazard.reported", **rain, reported_at=town.now, areas=[{"area": "07202", "level": "3"}])
        for _ in range(3):
            town.read("aizu-city", "rescue")
        town.tell("safety.answered", person="taro", status="injured")
        assert all(rows for table, rows in town.rows().items() if table != "setting")
        town.wait(timedelta(days=1))
    assert not (folder / "hub.sqlite3-wal").exists()
    return folder


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    shutil.copytree(kept, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def verify(hub_main: Callable[..., Said]) -> Verify:
    return lambda folder: hub_main("verify", "--database", f"sqlite:///{folder}/hub.sqlite3")


def change(folder: Path, *statements: str, file: str = "hub.sqlite3") -> None:
    """Change a database as its owner can: without the triggers."""
    with closing(sqlite3.connect(folder / file)) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        changed = sum(connection.execute(statement).rowcount for statement in statements)
        assert changed, "the change changed something"
        connection.commit()


def flipped(column: str, at: int) -> str:
    """SQL: the bytes of a column with the one at `at` (from 1, or from the end) changed."""
    other = f"CASE hex(substr({column}, {at}, 1)) WHEN '41' THEN x'42' ELSE x'41' END"
    if at < 0:
        return f"CAST(substr({column}, 1, length({column}) - {-at}) || {other} AS BLOB)"
    return f"CAST(substr({column}, 1, {at - 1}) || {other} || substr({column}, {at + 1}) AS BLOB)"


def found(said: Said) -> str:
    """The message of a verification that failed as it should."""
    assert said.status == 1
    assert said.out == ""
    assert re.fullmatch(r"hub: [^\n]+\n", said.err)
    assert not re.search(r"hanako|taro|place \d", said.err)
    return said.err


def test_an_untouched_copy_verifies(copy: Path, verify: Verify) -> None:
    said = verify(copy)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("The log holds: ")


FACT, ENROLLED, DISCLOSED = (
    f"(SELECT max(position) FROM log WHERE topic = '{topic}')"
    for topic in ("location.reported.1", "person.enrolled.1", "view.disclosed.2")
)
STATE = {"version": 1, "month": 2, "nonce": 4, "commitment": 20, "box": 60, "tag": -1}


def position(folder: Path, which: str) -> int:
    with closing(sqlite3.connect(folder / "hub.sqlite3")) as connection:
        [(at,)] = connection.execute(f"SELECT {which}").fetchall()
    return int(at)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("recorded_us", "recorded_us + 1"),
        ("recorded_us", "recorded_us - 90000000"),
        ("subject", "3 - subject"),
        ("subject", "0"),
        ("subject", "-1"),
        ("identity", flipped("identity", 7)),
        ("identity", "x'00'"),
        ("identity_version", "2"),
        ("topic", "'location.reporteb.1'"),
        ("topic", "'safety.answered.1'"),
        ("topic", "'location.reported.9'"),
        ("topic", "''"),
        *(("state", flipped("state", at)) for at in STATE.values()),
        ("state", "x''"),
        ("state", "substr(state, 1, 70)"),
        ("leaf", flipped("leaf", 1)),
        ("leaf", "x''"),
    ],
)
def test_a_changed_column_of_an_entry_is_found_at_its_position(
    column: str, value: str, copy: Path, verify: Verify
) -> None:
    at = position(copy, FACT)
    change(copy, f"UPDATE log SET {column} = {value} WHERE position = {at}")
    assert f"position {at}: " in found(verify(copy))


def test_a_changed_position_is_found_where_it_is_missing(copy: Path, verify: Verify) -> None:
    at = position(copy, FACT)
    change(copy, f"UPDATE log SET position = 9000 WHERE position = {at}")
    assert f"position {at + 1}: " in found(verify(copy))


def test_a_changed_claim_is_found_at_its_position(copy: Path, verify: Verify) -> None:
    at = position(copy, ENROLLED)
    change(copy, f"UPDATE log SET claim = {flipped('claim', 3)} WHERE position = {at}")
    assert f"position {at}: " in found(verify(copy))


@pytest.mark.parametrize("topic", ["kind.introduced.1", "area.introduced.1", "recipient.registered.1"])
def test_a_changed_entry_about_the_city_is_found_at_its_position(topic: str, copy: Path, verify: Verify) -> None:
    at = position(copy, f"(SELECT max(position) FROM log WHERE topic = '{topic}')")
    change(copy, f"UPDATE log SET state = {flipped('state', 80)} WHERE position = {at}")
    assert f"position {at}: " in found(verify(copy))


def test_the_last_entry_taken_away_is_found(copy: Path, verify: Verify) -> None:
    last = position(copy, "(SELECT max(position) FROM log)")
    change(copy, f"DELETE FROM log WHERE position = {last}")
    assert f"position {last}: the end of the log is missing" in found(verify(copy))


def test_an_entry_taken_from_the_middle_is_found(copy: Path, verify: Verify) -> None:
    at = position(copy, FACT)
    change(copy, f"DELETE FROM log WHERE position = {at}")
    assert f"position {at + 1}: the entry before it is missing" in found(verify(copy))


def test_an_entry_put_at_the_end_is_found(copy: Path, verify: Verify) -> None:
    last = position(copy, "(SELECT max(position) FROM log)")
    change(
        copy,
        f"INSERT INTO log SELECT {last + 1}, recorded_us, subject, identity, identity_version, claim, topic, state, "
        f"leaf FROM log WHERE position = {last}",
    )
    assert f"position {last + 1}: " in found(verify(copy))


def test_two_entries_that_changed_places_are_found_at_the_first(copy: Path, verify: Verify) -> None:
    at = position(copy, FACT)
    swap(copy, at, at - 2)
    assert f"position {at - 2}: " in found(verify(copy))


def swap(folder: Path, one: int, other: int) -> None:
    change(
        folder,
        f"UPDATE log SET position = 9000 WHERE position = {one}",
        f"UPDATE log SET position = {one} WHERE position = {other}",
        f"UPDATE log SET position = {other} WHERE position = 9000",
    )


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE identity SET digest = {flipped('digest', 5)} WHERE position = 20",
        "UPDATE identity SET version = 7 WHERE position = 20",
        "UPDATE identity SET position = 21 WHERE position = 20",
        "DELETE FROM identity WHERE position = 20",
        "INSERT INTO identity VALUES (zeroblob(16), 1, 20)",
        "UPDATE log SET claim = zeroblob(16) WHERE length(claim) = 0",
        "UPDATE log SET claim = x'00' WHERE length(claim) = 0",
        "UPDATE head SET position = position - 1",
        "UPDATE head SET position = position + 1",
        "UPDATE head SET recorded_us = recorded_us + 1",
        f"UPDATE head SET frontier = {flipped('frontier', 3)}",
        f"UPDATE head SET frontier = {flipped('frontier', -1)}",
        "UPDATE head SET frontier = x''",
        "DELETE FROM head",
        "UPDATE head SET id = 2",
        "INSERT INTO head SELECT 2, position, recorded_us, frontier FROM head",
        "DELETE FROM log",
    ],
)
def test_changed_identities_and_head_are_found(statement: str, copy: Path, verify: Verify) -> None:
    change(copy, statement)
    found(verify(copy))


def test_a_trigger_that_no_longer_guards_the_log_is_found(copy: Path, verify: Verify) -> None:
    change(copy, "UPDATE log SET topic = topic", "CREATE TRIGGER log_update BEFORE UPDATE ON log BEGIN SELECT 1; END")
    assert "append-only" in found(verify(copy))


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE chunk SET state = {flipped('state', -1)} WHERE position = {DISCLOSED}",
        f"UPDATE chunk SET state = {flipped('state', 1)} WHERE position = {DISCLOSED}",
        "UPDATE chunk SET state = x''",
        "UPDATE chunk SET number = 1",
        "DELETE FROM chunk",
        "INSERT INTO chunk SELECT position, number + 1, state FROM chunk",
        "INSERT INTO chunk SELECT position + 1000, number, state FROM chunk",
        f"INSERT INTO chunk SELECT {FACT}, number, state FROM chunk LIMIT 1",
    ],
)
def test_changed_chunks_are_found(statement: str, copy: Path, verify: Verify) -> None:
    change(copy, statement)
    found(verify(copy))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE person SET digest = zeroblob(16) WHERE ordinal = 1",
        "UPDATE person SET enrolled = enrolled + 1 WHERE ordinal = 1",
        "UPDATE person SET erased = 30 WHERE ordinal = 1",
        "DELETE FROM person WHERE ordinal = 2",
        "INSERT INTO person VALUES (3, zeroblob(16), 30, NULL)",
        "UPDATE policy SET until = 50 WHERE person = 1",
        "UPDATE policy SET grantee = grantee + 1 WHERE person = 1",
        "DELETE FROM policy WHERE person = 1",
        "DELETE FROM policy WHERE person = 0",
        "INSERT INTO policy VALUES (0, 30, 4611686018427387904, 0)",
        "INSERT INTO policy VALUES (0, 9000, 4611686018427387904, 0)",
        "UPDATE fact SET until = 50 WHERE person = 1",
        "UPDATE fact SET effective_us = effective_us + 1 WHERE person = 1",
        "UPDATE fact SET variant = 1 WHERE person = 2",
        "DELETE FROM fact WHERE person = 2",
        "UPDATE retraction SET position = position + 1",
        "DELETE FROM retraction",
        "UPDATE disclosure SET recipient = recipient + 1",
        "DELETE FROM disclosure",
        "UPDATE consumed SET position = position + 100",
        "DELETE FROM consumed",
        "UPDATE link SET person = 3 - person",
        "UPDATE link SET position = position + 1",
        "DELETE FROM link WHERE person = 1",
    ],
)
def test_changed_views_are_found_and_mended_by_a_rebuild(
    statement: str, copy: Path, verify: Verify, hub_main: Callable[..., Said]
) -> None:
    change(copy, statement)
    found(verify(copy))
    assert hub_main("rebuild", "--database", f"sqlite:///{copy}/hub.sqlite3").status == 0
    assert verify(copy).status == 0


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE person_key SET wrapped = {flipped('wrapped', 11)} WHERE subject = 0",
        f"UPDATE person_key SET wrapped = {flipped('wrapped', 11)} WHERE subject = 1",
        "UPDATE person_key SET wrapped = x'' WHERE subject = 1",
        "UPDATE person_key SET wrapped = (SELECT wrapped FROM person_key WHERE subject = 2) WHERE subject = 1",
        "DELETE FROM person_key WHERE subject = 0",
        "DELETE FROM person_key WHERE subject = 1",
        f"UPDATE period_key SET wrapped = {flipped('wrapped', 11)}",
        "UPDATE period_key SET wrapped = x''",
        "DELETE FROM hub_key",
    ],
)
def test_changed_keys_are_found(statement: str, copy: Path, verify: Verify) -> None:
    change(copy, statement, file="hub.keys.sqlite3")
    found(verify(copy))


def test_a_key_that_is_missing_though_nobody_was_erased_is_found_at_her_first_entry(copy: Path, verify: Verify) -> None:
    change(copy, "DELETE FROM person_key WHERE subject = 1", file="hub.keys.sqlite3")
    at = position(copy, "(SELECT min(position) FROM log WHERE subject = 1)")
    assert f"position {at}: its key is missing" in found(verify(copy))


def test_a_changed_index_key_is_taken_for_another_master_key(copy: Path, verify: Verify) -> None:
    change(copy, f"UPDATE hub_key SET wrapped = {flipped('wrapped', 11)}", file="hub.keys.sqlite3")
    said = verify(copy)
    assert (said.status, said.out) == (2, "")
    assert "master key" in said.err


TABLES = {"hub.sqlite3": recorder.metadata.tables, "hub.keys.sqlite3": sealing.metadata.tables}


def rows(database: Path) -> list[Any] | None:
    """All rows of the hub's tables in a file, or None where they cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            tables = sorted(TABLES[database.name])
            return [sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables]
    except (sqlite3.Error, UnicodeDecodeError):
        return None


@pytest.mark.parametrize("file", ["hub.sqlite3", "hub.keys.sqlite3"])
def test_flipped_bytes_are_found_or_change_nothing_that_the_file_says(
    file: str, kept: Path, tmp_path: Path, verify: Verify
) -> None:
    whole = (kept / file).read_bytes()
    said_before, random, caught = rows(kept / file), Random(12), 0
    assert said_before is not None
    places = [place for place, byte in enumerate(whole) if byte]
    for number, place in enumerate(random.sample(places, min(FLIPS, len(places)))):
        folder = tmp_path / str(number)
        shutil.copytree(kept, folder)
        changed = bytearray(whole)
        changed[place] ^= 1 << random.randrange(8)
        (folder / file).write_bytes(changed)
        says_now = rows(folder / file)
        said = verify(folder)
        assert "Traceback" not in said.err
        if said.status:
            caught += 1
            assert re.fullmatch(r"hub: [^\n]+\n", said.err)
            assert said.out == ""
        else:
            assert says_now == said_before, f"byte {place} was changed and nothing was found"
    assert caught > FLIPS * 2 / 3


@pytest.mark.parametrize("index", ["policy_grantee", "disclosure_recipient", "sqlite_autoindex_person_1"])
def test_a_damaged_index_is_found(index: str, copy: Path, verify: Verify) -> None:
    with closing(sqlite3.connect(copy / "hub.sqlite3")) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (index,)).fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
    raw = bytearray((copy / "hub.sqlite3").read_bytes())
    raw[page * size - 1] ^= 1
    (copy / "hub.sqlite3").write_bytes(raw)
    assert "damaged" in found(verify(copy))


def test_a_file_that_is_cut_short_or_no_database_is_found(copy: Path, verify: Verify) -> None:
    whole = (copy / "hub.sqlite3").read_bytes()
    for left in (b"", b"no database at all\n" * 300, whole[: len(whole) // 2], whole[:4096], whole[:50]):
        (copy / "hub.sqlite3").write_bytes(left)
        said = verify(copy)
        if said.status == 0:
            assert said.out.startswith("The log holds: 0 entries")  # an empty file is an empty database
            assert left == b""
        else:
            found(said)


def test_a_process_of_its_own_says_it_on_standard_error(
    copy: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    at = position(copy, FACT)
    change(copy, f"UPDATE log SET recorded_us = recorded_us + 1 WHERE position = {at}")
    done = command("verify", "--database", f"sqlite:///{copy}/hub.sqlite3")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"hub: position {at}: the entry is not the one whose hash was kept\n"
