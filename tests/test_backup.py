"""Backups: taken while the hub runs, told where anything was changed, restored to the same answers, erased for ever."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from conftest import Said, Town
from hub.answer import Query
from hub.backup import Databases, check, restore, tables, take_keys, take_log, taking
from hub.backup.folder import MANIFEST, decode, encode
from hub.errors import Misuse, Tampered
from hub.events import Event
from hub.log import recorder, sealing
from hub.log.recorder import metadata
from hub.quarantine import Refusal
from hub.scenario import SOURCE
from hub.views.views import Views

MASTER = "master.key"
ASKED = Query(recipient="aizu-city", purpose="rescue")


@pytest.fixture
def home(town: Town) -> Town:
    """A town in which something stands in every table that a backup keeps."""
    municipality = {"class": "municipality", "areas": ["07"], "purposes": ["rescue"]}
    town.tell("recipient.registered", recipient="aizu-city", **municipality)
    for person in ("hanako", "taro", "jiro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
        terms = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal", "emergency"], "data": "all"}
        town.tell("consent.granted", person=person, grant=f"g-{person}", to={"recipient": "aizu-city"}, **terms)
        town.tell("safety.answered", person=person, status="safe", note=f"a note of {person}")
        here = {"lat_deg": Decimal("37.4912"), "lon_deg": Decimal("139.9298"), "accuracy_m": 5}
        town.tell("location.reported", person=person, **here)
    town.tell("identity.linked", person="jiro", source=SOURCE, ref="u-9")
    town.tell("identity.unlinked", person="jiro", source=SOURCE, ref="u-9")
    assert town.hand_in("safety.answered", ref="u-7", status="safe").status == "waiting"
    town.hub.quarantine.keep([Refusal(via="events", reason="is no status", person="taro", payload=b"{}")])
    town.read("aizu-city", "rescue")
    with town.hub.log.entries.maintaining() as connection:
        values = {"name": "village", "state": "5", "due_us": 1, "lease_us": 0, "failures": 0}
        connection.execute(metadata.tables["polled"].insert().values(**values))
    town.hub.log.entries.accept_clock()
    return town.reopen()  # which keeps the schemas that connectors brought


@pytest.fixture
def backup(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Takes a backup of a town, the log first."""

    def take(town: Town, name: str = "b1") -> tuple[Path, Path]:
        log, keys = tmp_path / "backups" / name, tmp_path / "keys" / name
        take_log(town.hub, log)
        take_keys(town.hub, keys)
        return log, keys

    return take


@pytest.fixture
def other(tmp_path: Path, new_town: Callable[[str], Town]) -> Iterator[Callable[..., Town]]:
    """Restores into a folder of its own, and opens what stands there."""
    opened: list[Town] = []

    def to(town: Town, log: Path | None, keys: Path | None, name: str = "other", **said: Any) -> Town:
        target = tmp_path / name
        target.mkdir(exist_ok=True)
        shutil.copy(town.folder / MASTER, target / MASTER)
        restore(place(target), key(town), log=log, keys=keys, **said)
        found = Town(target)
        found.clock.set(town.now)
        found._ids = town._ids
        opened.append(found)
        return found

    yield to
    for town in opened:
        town.close()


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/hub.sqlite3"


def place(folder: Path) -> Databases:
    return Databases(url(folder))


def key(town: Town) -> bytes:
    return bytes.fromhex((town.folder / MASTER).read_text())


def beside(town: Town) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that a backup keeps, the log's aside."""
    with town.hub.log.entries.snapshot() as (connection, _):
        return {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in tables.kept()[1:]}


def body(town: Town, position: int) -> bytes:
    """What the city would have been answered at a position. Asking is a look, which is logged."""
    return town.hub.audit.replay(ASKED, position=position).answer.body


def end(town: Town) -> int:
    return town.hub.log.entries.max_notification_id() or 0


def test_a_restored_hub_has_the_same_rows_and_gives_the_same_answers(home: Town, backup: Any, other: Any) -> None:
    log, keys = backup(home)
    rows, kept, last = home.rows(), beside(home), end(home)
    assert all(kept.values()), "a table is empty: its rows are not tested"
    answers = [body(home, position) for position in range(last - 8, last + 1)]
    disclosures = [p for p in home.hub.audit.disclosures() if p <= last]

    restored = other(home, log, keys)

    assert restored.rows() == rows
    assert beside(restored) == kept
    assert [body(restored, position) for position in range(last - 8, last + 1)] == answers
    assert [restored.hub.audit.repeat(position).same for position in disclosures] == [True]
    restored.hub.audit.verify()
    assert b"a note of hanako" in answers[-1]


def test_a_restored_hub_goes_on(home: Town, backup: Any, other: Any) -> None:
    restored = other(home, *backup(home))
    last = end(restored)
    assert restored.tell("safety.answered", "n1", person="hanako", status="injured") == last + 1
    assert restored.hand_in("safety.answered", "n1", person="hanako", status="injured").status == "duplicate"
    assert restored.hand_in("safety.answered", ref="u-7", status="injured").status == "waiting"
    restored.tell("identity.linked", person="taro", source=SOURCE, ref="u-7")
    assert restored.hub.waiting.count() == 0, "what waited before the backup enters"
    assert [item.kept for item in restored.hub.quarantine.items()] == [True]
    assert b"injured" in restored.read("aizu-city", "rescue").body
    restored.hub.audit.verify()


def test_a_backup_goes_from_hub_to_hub_and_back_unchanged(home: Town, backup: Any, other: Any) -> None:
    log, keys = backup(home)
    second = other(home, log, keys)
    again, keys_again = backup(second, "b2")
    third = other(home, again, keys_again, "third")
    assert third.rows() == home.rows()
    for name in sorted(path.name for path in [*log.iterdir(), *keys.iterdir()] if path.name != MANIFEST):
        first, then = (log, again) if (log / name).exists() else (keys, keys_again)
        assert (first / name).read_bytes() == (then / name).read_bytes(), name


def test_every_table_is_decided() -> None:
    assert tables.KEPT.keys() & tables.LEFT_OUT.keys() == set()
    assert set(metadata.tables) <= tables.KEPT.keys() | tables.LEFT_OUT.keys(), "say in backup/tables.py what it is"
    assert set(sealing.metadata.tables) <= {table.name for table in tables.KEYS} | tables.KEYS_LEFT_OUT.keys()


def test_a_backup_is_for_its_owner_alone_and_nothing_of_a_person_is_readable_in_it(home: Town, backup: Any) -> None:
    log, keys = backup(home)
    for folder in (log, keys):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    written = b"".join(path.read_bytes() for folder in (log, keys) for path in folder.iterdir())
    for secret in (b"hanako", b"note of", b"u-7", b"37.4912", key(home), key(home).hex().encode()):
        assert secret not in written
    for name in ("log", "chunk", "waiting", "parked"):
        assert not (keys / f"{name}.rows").exists(), "a backup of keys holds nothing that they open"
    for table in tables.KEYS[:-1]:
        assert not (log / f"{table.name}.rows").exists(), "a backup of the log holds no key"


def test_a_backup_never_takes_the_place_of_another(home: Town, tmp_path: Path) -> None:
    take_log(home.hub, tmp_path / "b1")
    before = (tmp_path / "b1" / MANIFEST).read_bytes()
    with pytest.raises(Misuse, match="b1 is there already"):
        take_log(home.hub, tmp_path / "b1")
    assert (tmp_path / "b1" / MANIFEST).read_bytes() == before
    assert not (tmp_path / "b1.unfinished").exists()


# What was changed is told, with its name


def altered(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


def flipped(content: bytes) -> bytes:
    at = len(content) - 9
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_bit_that_flips_in_any_file_is_told_with_its_name(home: Town, backup: Any, tmp_path: Path) -> None:
    log, keys = backup(home)
    files = [path for folder in (log, keys) for path in sorted(folder.iterdir())]
    assert len(files) == len(tables.kept()) + 1 + len(tables.KEYS) + 2
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(flipped(whole))
        with pytest.raises(Tampered, match=f"{path.parent.name}(/|: ){path.name}"):
            restore(place(tmp_path / "other"), key(home), log=log, keys=keys)
        path.write_bytes(whole)
    assert not (tmp_path / "other").exists(), "nothing is made before all is checked"
    check(key(home), log=log, keys=keys)


@pytest.mark.parametrize("name", ["log.rows", "chunk.rows", "setting.rows"])
@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"\0", lambda c: b""])
def test_a_file_that_was_cut_or_grew_is_told(
    name: str, change: Callable[[bytes], bytes], home: Town, backup: Any, tmp_path: Path
) -> None:
    log, keys = backup(home)
    altered(log, name, change)
    with pytest.raises(Tampered, match=f"b1/{name} has .* bytes"):
        restore(place(tmp_path / "other"), key(home), log=log, keys=keys)


def test_a_file_or_manifest_that_is_missing_is_told(home: Town, backup: Any, tmp_path: Path) -> None:
    log, keys = backup(home)
    (log / "waiting.rows").unlink()
    with pytest.raises(Tampered, match=r"b1/waiting\.rows is missing"):
        restore(place(tmp_path / "other"), key(home), log=log, keys=keys)
    (log / MANIFEST).unlink()
    with pytest.raises(Misuse, match=r"b1 holds no finished backup: manifest\.json is missing"):
        check(key(home), log=log)


def test_a_manifest_of_another_hub_or_of_another_backup_is_told(
    home: Town, backup: Any, new_town: Callable[[str], Town], tmp_path: Path
) -> None:
    log, keys = backup(home)
    home.tell("safety.answered", person="hanako", status="injured")
    later, _ = backup(home, "b2")
    shutil.copy(later / MANIFEST, log / MANIFEST)
    with pytest.raises(Tampered, match=r"b1/(chunk|log)\.rows has .* bytes"):
        check(key(home), log=log)

    stranger = new_town("stranger")
    theirs, _ = backup(stranger, "theirs")
    shutil.copy(theirs / MANIFEST, log / MANIFEST)
    with pytest.raises(Tampered, match="was not written with this master key"):
        check(key(home), log=log)
    shutil.copy(home.folder / MASTER, tmp_path / "same.key")
    with pytest.raises(Misuse, match="is a backup of the keys, not of the log"):
        check(key(home), log=keys)
    with pytest.raises(Tampered, match="was not written with this master key"):
        check(key(stranger), keys=keys)


def test_a_manifest_that_says_something_else_is_told(home: Town, backup: Any) -> None:
    log, _ = backup(home)
    said = json.loads((log / MANIFEST).read_text())
    for change in ({"position": 1}, {"root": "00" * 32}, {"files": {}}, {"taken_at": "2020-01-01T00:00:00.000000Z"}):
        (log / MANIFEST).write_text(json.dumps(said | change))
        with pytest.raises(Tampered, match="was not written with this master key"):
            check(key(home), log=log)


def test_keys_of_another_hub_with_the_same_master_key_are_told(
    home: Town, backup: Any, new_town: Callable[[str], Town], tmp_path: Path
) -> None:
    log, _ = backup(home)
    (tmp_path / "twin").mkdir()
    shutil.copy(home.folder / MASTER, tmp_path / "twin" / MASTER)
    twin = new_town("twin")
    _, theirs = backup(twin, "twin")
    with pytest.raises(Misuse, match="these keys are another hub's"):
        restore(place(tmp_path / "other"), key(home), log=log, keys=theirs)
    twin.close()
    for path in twin.folder.glob("hub.sqlite3*"):
        path.unlink()
    with pytest.raises(Misuse, match="the keys that stand there are another hub's"):
        restore(place(twin.folder), key(home), log=log)


def test_without_its_keys_a_log_is_not_restored(home: Town, backup: Any, tmp_path: Path) -> None:
    log, keys = backup(home)
    with pytest.raises(Misuse, match="the keys' database is empty"):
        restore(place(tmp_path / "other"), key(home), log=log)
    assert restore(place(tmp_path / "other"), key(home), log=log, keys=keys).verified.size == end(home)


def test_a_restore_stands_beside_nothing_that_is_there(home: Town, backup: Any, other: Any, tmp_path: Path) -> None:
    log, keys = backup(home)
    before = home.rows()
    with pytest.raises(Misuse, match="the database is not empty"):
        restore(Databases(home.url), key(home), log=log, keys=keys)
    assert home.rows() == before
    for path in home.folder.glob("hub.sqlite3*"):
        path.unlink()
    with pytest.raises(Misuse, match="the keys' database is not empty"):
        restore(Databases(home.url), key(home), log=log, keys=keys)
    restored = restore(Databases(home.url), key(home), log=log)
    assert restored.verified.size == end(home.reopen())


def test_a_log_that_was_changed_gives_no_backup(home: Town, tmp_path: Path) -> None:
    with home.hub.log.entries.maintaining() as connection:
        connection.exec_driver_sql("DROP TRIGGER log_update")
        connection.execute(recorder.log.update().where(recorder.log.c.position == 9).values(topic="a.lie.1"))
    with pytest.raises(Tampered, match="position 9"):
        take_log(home.hub, tmp_path / "b1")
    assert list(tmp_path.glob("b1*")) == []


# Erased stays erased


def test_who_was_erased_before_the_backup_cannot_be_read_after_it(home: Town, backup: Any, other: Any) -> None:
    home.tell("person.erased", person="hanako")
    restored = other(home, *backup(home))
    assert b"hanako" not in body(restored, end(home))
    assert restored.hub.audit.verify().erased > 0


def test_who_was_erased_since_the_keys_were_taken_is_erased_again(home: Town, backup: Any, other: Any) -> None:
    """The keys' backup is older, and still holds the key; the log says that it is destroyed."""
    _, old_keys = backup(home, "old")
    home.tell("person.erased", person="hanako")
    log, _ = backup(home, "new")
    restored = other(home, log, old_keys)
    assert restored.rows() == home.rows()
    last = end(home)
    assert b"hanako" not in body(restored, last)
    assert b"taro" in body(restored, last)
    assert restored.hub.audit.verify().erased == home.hub.audit.verify().erased > 0
    keys = {row.subject for row in restored.hub.engines[1].connect().execute(select(sealing.person_key))}
    assert len(keys) == 3, "the city, taro and jiro"


def test_nothing_of_who_was_erased_is_opened_on_the_way(
    home: Town, backup: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, old_keys = backup(home, "old")
    home.tell("person.erased", person="hanako")
    log, _ = backup(home, "new")
    opened: list[set[int]] = []
    rebuild = Views.rebuild

    def watched(views: Views) -> int:
        opened.append(views.log.keyring.subjects())
        return rebuild(views)

    monkeypatch.setattr(Views, "rebuild", watched)
    other(home, log, old_keys)
    assert [len(subjects) for subjects in opened] == [3], "the city, taro and jiro"


def test_old_keys_put_back_beside_the_log_that_runs_obey_its_erasures(home: Town, backup: Any) -> None:
    _, old_keys = backup(home, "old")
    home.tell("person.erased", person="hanako")
    rows = home.rows()
    home.close()
    (home.folder / "hub.keys.sqlite3").unlink()
    restored = restore(Databases(home.url), key(home), keys=old_keys)
    home.reopen()
    assert restored.erased_again == 0
    assert home.rows() == rows
    assert b"hanako" not in body(home, end(home))


def test_a_month_that_was_destroyed_since_stays_destroyed(home: Town, backup: Any, other: Any) -> None:
    _, old_keys = backup(home, "old")
    home.clock.set(datetime.fromisoformat("2027-08-01T00:00:00+00:00"))
    home.tell("person.moved", person="taro", areas=["07202"])
    assert home.hub.retention.retain().destroyed
    log, _ = backup(home, "new")
    restored = other(home, log, old_keys)
    assert restored.rows() == home.rows()
    assert restored.hub.log.keyring.ended().keys() == home.hub.log.keyring.ended().keys()
    assert restored.hub.audit.verify().ended == home.hub.audit.verify().ended > 0


def test_a_month_that_was_being_destroyed_when_the_log_was_taken_is_destroyed(
    home: Town, backup: Any, other: Any
) -> None:
    """Its key is gone, and nothing beside the log says so yet: the tombstone is in the log's backup."""
    _, old_keys = backup(home, "old")
    home.hub.log.keyring.end("location.reported", sealing.month_of(home.now), home.now)
    log, _ = backup(home, "new")
    restored = other(home, log, old_keys)
    assert restored.hub.log.keyring.ended() == home.hub.log.keyring.ended()
    assert restored.hub.audit.verify().ended > 0


def test_what_was_dropped_since_has_no_key_any_more(home: Town, backup: Any, other: Any) -> None:
    _, old_keys = backup(home, "old")
    [item] = home.hub.quarantine.items()
    home.hub.quarantine.drop(item.item)
    log, _ = backup(home, "new")
    restored = other(home, log, old_keys)
    with restored.hub.engines[1].connect() as connection:
        left = set(connection.scalars(select(sealing.parked_key.c.item)))
    assert item.item not in left
    assert len(left) == restored.hub.waiting.count() == 1


def test_who_was_erased_after_the_log_was_taken_is_recorded_as_erased_on_demand_alone(
    home: Town, backup: Any, other: Any
) -> None:
    """The log's backup is older, and does not say it; the key is gone."""
    log, _ = backup(home, "old")
    home.tell("person.erased", person="hanako")
    _, keys = backup(home, "new")
    with pytest.raises(Misuse, match="keys of 1 persons and 0 months are missing"):
        other(home, log, keys)
    restored = other(home, log, keys, erase_missing=True)
    assert b"hanako" not in body(restored, end(restored))
    assert b"taro" in body(restored, end(restored))
    assert {row[0] for row in beside(restored)["setting"]} == {"clock_accepted"}, "a restore leaves nothing behind"
    assert restored.hand_in("person.enrolled", person="hanako", areas=["07202"]).status == "refused"
    assert restored.hand_in("safety.answered", person="hanako", status="safe").status == "refused"
    restored.hub.audit.verify()
    rows = restored.rows()
    restored.hub.views.rebuild()
    assert restored.rows() == rows


def test_an_erasure_that_was_cut_off_while_it_was_recorded_again_goes_on(
    home: Town, backup: Any, tmp_path: Path, hub_main: Callable[..., Said]
) -> None:
    """Killed when the key that it is recorded under is made: that key is none of the person's."""
    log, _ = backup(home, "old")
    home.tell("person.erased", person="hanako")
    _, keys = backup(home, "new")
    target = tmp_path / "other"
    target.mkdir()
    shutil.copy(home.folder / MASTER, target)
    arguments = ("restore", log, "--keys", keys, "--database", url(target), "--erase-missing")
    killed_at("hub.backup.restoring.Event", 0, *arguments)
    said = hub_main(*arguments)
    assert said.status == 0, said.err
    assert "1 persons whose keys are missing are recorded as erased" in said.err


def test_keys_that_are_older_than_the_log_lose_who_came_since_on_demand_alone(
    home: Town, backup: Any, other: Any
) -> None:
    _, keys = backup(home, "old")
    home.clock.set(home.now + timedelta(days=40))
    home.tell("person.enrolled", person="saburo", areas=["07202"])
    home.tell("location.reported", person="saburo", lat_deg=Decimal("37.5"), lon_deg=Decimal("139.9"), accuracy_m=5)
    home.tell("location.reported", person="taro", lat_deg=Decimal("37.6"), lon_deg=Decimal("139.9"), accuracy_m=5)
    log, _ = backup(home, "new")
    with pytest.raises(Misuse, match="keys of 1 persons and 1 months are missing"):
        other(home, log, keys)
    restored = other(home, log, keys, erase_missing=True)
    verified = restored.hub.audit.verify()
    assert verified.ended == 1, "taro's newest location"
    assert verified.erased == 3, "saburo's enrolment and location, and the erasure"
    assert b"saburo" not in body(restored, end(restored))


# Killed in the middle


RUN = "from hub.cli import main; main()"


def paused(where: str, *arguments: str) -> subprocess.Popen[str]:
    """A `hub` that says `here` and waits when it comes to a function, so that it can be killed there."""
    module, _, name = where.rpartition(".")
    program = f"""
import sys, {module} as room
before, left = room.{name}, {{"calls": int(sys.argv.pop(1))}}
def stopping(*a, **k):
    left["calls"] -= 1
    if left["calls"] < 0:
        print("here", flush=True)
        sys.stdin.readline()
    return before(*a, **k)
room.{name} = stopping
{RUN}
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=kept, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def killed_at(where: str, calls: int, *arguments: str | Path) -> None:
    with paused(where, str(calls), *map(str, arguments)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize("calls", [0, 1, 6])
def test_a_backup_that_was_killed_is_none_and_the_next_clears_it_away(
    calls: int, home: Town, tmp_path: Path, hub_main: Callable[..., Said]
) -> None:
    out = tmp_path / "b1"
    killed_at("hub.backup.folder._sync", calls, "backup", "--out", out, "--database", home.url)
    assert not out.exists()
    assert (tmp_path / "b1.unfinished").exists()
    assert hub_main("restore", "--check", tmp_path / "b1.unfinished", "--database", home.url).status == 2
    said = hub_main("backup", "--out", out, "--database", home.url)
    assert said.status == 0, said.err
    assert hub_main("restore", "--check", out, "--database", home.url).status == 0
    assert not (tmp_path / "b1.unfinished").exists()


def test_two_backups_of_one_name_do_not_run_into_each_other(
    home: Town, tmp_path: Path, hub_main: Callable[..., Said]
) -> None:
    out = tmp_path / "b1"
    with paused("hub.backup.folder._sync", "2", "backup", "--out", str(out), "--database", home.url) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "here\n"
        said = hub_main("backup", "--out", out, "--database", home.url)
        assert "another process makes b1 now" in said.err
        first.stdin.write("\n" * 40)
        first.stdin.close()
        assert first.wait(60) == 0
    assert hub_main("restore", "--check", out, "--database", home.url).status == 0


@pytest.mark.parametrize(
    ("where", "calls"),
    [
        ("hub.backup.restoring._put_keys", 0),
        ("hub.backup.restoring._insert", 3),
        ("hub.backup.restoring._insert", 11),
        ("hub.backup.restoring._settle", 0),
        ("hub.views.persons.insert_rows", 0),
        ("hub.backup.restoring._prove", 0),
    ],
)
def test_a_restore_that_was_killed_opens_to_nobody_and_the_same_goes_on(
    where: str, calls: int, home: Town, backup: Any, tmp_path: Path, hub_main: Callable[..., Said], command: Any
) -> None:
    log, keys = backup(home)
    rows, kept = home.rows(), beside(home)
    target = tmp_path / "other"
    target.mkdir()
    shutil.copy(home.folder / MASTER, target / MASTER)
    arguments = ("restore", log, "--keys", keys, "--database", url(target))

    killed_at(where, calls, *arguments)

    for arguments_of in (["verify"], ["init"], ["backup", "--out", tmp_path / "no"]):
        said = hub_main(*arguments_of, "--database", url(target))
        assert said.status == 2, arguments_of
        assert "run hub restore again" in said.err
    if where.endswith("_settle"):
        served = command("serve", "--port", "0", "--database", url(target))
        assert (served.returncode, "run hub restore again" in served.stderr) == (2, True)
    assert hub_main("restore", log, "--database", url(target)).status == 2, "only the same one"
    said = hub_main(*arguments)
    assert said.status == 0, said.err
    restored = Town(target)
    assert restored.rows() == rows
    assert beside(restored) == kept
    restored.hub.audit.verify()
    restored.close()


# While the hub runs


WRITES = """
import sys
from datetime import UTC, datetime, timedelta
from hub.hub import Hub
from hub.log.clock import SetClock
from hub.scenario import flat_event
hub = Hub.open(sys.argv[1], SetClock(datetime(2026, 6, 2, tzinfo=UTC)), durable=False)
number = 0
while True:
    number += 1
    data = {"person": "taro", "status": "safe", "note": str(number)}
    hub.intake.take([flat_event("safety.answered", data, f"w{number}-{k}") for k in range(7)])
    print(number, flush=True)
"""


def test_a_backup_ends_at_one_position_while_another_process_writes(
    home: Town, backup: Any, other: Any, tmp_path: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITES, home.url], stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            taken: list[tuple[Path, Path]] = []
            positions = []
            for number in range(3):
                taken.append(backup(home, f"b{number}"))
                [manifest] = check(key(home), log=taken[-1][0])
                positions.append(manifest.position)
                while end(home) == manifest.position:
                    assert writer.poll() is None
        finally:
            writer.kill()
    assert positions == sorted(set(positions)), "the hub wrote between the backups"
    before = {row.position: tuple(row) for row in whole_log(home)}
    for number, (log, keys) in enumerate(taken):
        restored = other(home, log, keys, f"other{number}")
        rows = [tuple(row) for row in whole_log(restored)]
        assert len(rows) == positions[number]
        assert rows == [before[position] for position in range(1, len(rows) + 1)]


def whole_log(town: Town) -> list[Any]:
    with town.hub.log.entries.snapshot() as (connection, _):
        return list(connection.execute(select(recorder.log).order_by(recorder.log.c.position)))


def test_a_backup_is_read_from_one_snapshot(home: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is appended after the log's rows were read is in none of the other tables either."""
    rows_of = taking._rows

    def slow(connection: Any, table: Any, *positions: Any) -> Iterator[Any]:
        yield from rows_of(connection, table, *positions)
        if table is recorder.log:
            home.hub.intake.take(
                [Event(source=SOURCE, id="late", kind="safety.answered", ref="u-8", data={"status": "safe"})]
            )
            home.read("aizu-city", "rescue")

    monkeypatch.setattr(taking, "_rows", slow)
    before = {name: len(rows) for name, rows in beside(home).items()}
    taken = take_log(home.hub, tmp_path / "b1")
    assert {name: taken.manifest.rows(name) for name in before} == before
    assert taken.manifest.position == taken.manifest.rows("log") < end(home)


@pytest.mark.parametrize("row", [(None, 0, -1, 2**62, b"", b"\0\xff" * 9, "", "避難所"), (), (-(2**63),)])
def test_a_row_is_the_same_after_its_bytes(row: tuple[Any, ...]) -> None:
    assert decode(encode(row), len(row)) == row
    for cut in range(len(encode(row))):
        with pytest.raises(Tampered):
            decode(encode(row)[:cut], len(row))
    with pytest.raises(Tampered):
        decode(encode(row) + b"\0", len(row))


def test_the_commands_say_what_they_did(home: Town, tmp_path: Path, hub_main: Callable[..., Said]) -> None:
    said = hub_main("backup", "--out", tmp_path / "l", "--keys-out", tmp_path / "k", "--database", home.url, "--json")
    log, keys = map(json.loads, said.out.splitlines())
    assert (log["of"], keys["of"], log["position"], keys["position"]) == ("log", "keys", end(home), end(home))
    target = tmp_path / "other"
    arguments = ("restore", tmp_path / "l", "--keys", tmp_path / "k", "--database", url(target))
    said = hub_main(*arguments)
    assert (said.status, "the master key is in no backup" in said.err) == (2, True)
    assert not target.exists(), "no key is made where the old one has to be"
    target.mkdir()
    shutil.copy(home.folder / MASTER, target)
    said = hub_main(*arguments, "--json")
    assert json.loads(said.out) == {"position": end(home), "root": log["root"], "erased_again": 0, "unknown_keys": 0}
    assert hub_main("verify", "--database", url(target)).status == 0


def test_there_has_to_be_something_to_do(home: Town, hub_main: Callable[..., Said]) -> None:
    assert hub_main("backup", "--database", home.url).status == 2
    assert hub_main("restore", "--database", home.url).status == 2
    for log, keys in (("x", "x"), ("x", "x/keys"), ("y/log", "y")):
        said = hub_main("backup", "--out", log, "--keys-out", keys, "--database", home.url)
        assert (said.status, "neither in that of the log nor around it" in said.err) == (2, True)
        assert not Path("x").exists()


def test_a_check_tells_keys_that_are_older_than_the_log(
    home: Town, tmp_path: Path, hub_main: Callable[..., Said]
) -> None:
    at = ("--database", home.url)
    assert hub_main("backup", "--out", tmp_path / "l1", "--keys-out", tmp_path / "k1", *at).status == 0
    home.tell("person.enrolled", person="saburo", areas=["07202"])
    assert hub_main("backup", "--out", tmp_path / "l2", "--keys-out", tmp_path / "k2", *at).status == 0
    for log, keys, status in (("l1", "k1", 0), ("l2", "k2", 0), ("l1", "k2", 0), ("l2", "k1", 1)):
        said = hub_main("restore", "--check", tmp_path / log, "--keys", tmp_path / keys, *at)
        assert said.status == status, said.err
    assert "these keys (position" in said.err
    assert "are older than the log" in said.err
