"""Bad input at every door: an error that names file, kind, path and reason, never a value, and no effect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hub import cli
from hub.hub import Hub
from hub.log import recorder
from hub.log.clock import SetClock
from hub.scenario import World
from hub.views.views import TABLES

TELEGRAMS = Path(__file__).parents[1] / "connectors" / "jma" / "tests" / "telegrams"
SECRET = "090-1234-5678"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `hub` with these arguments on a database of its own; status, standard output, standard error."""
    monkeypatch.setenv("HUB_DATABASE_URL", f"sqlite:///{tmp_path}/data/hub.sqlite3")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["hub", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        told = capsys.readouterr()
        assert SECRET not in told.out + told.err
        return status, told.out, told.err

    return run


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of log and views."""
    opened = Hub.open(f"sqlite:///{folder}/data/hub.sqlite3", SetClock(recorder.EPOCH))
    with opened.log.entries.snapshot() as (connection, _):
        tables = [recorder.log, recorder.identity, recorder.head, *TABLES]
        found = {table.name: [tuple(row) for row in connection.execute(select(table))] for table in tables}
    opened.close()
    return found


GOOD = (TELEGRAMS / "02-full.xml").read_text()
ENTITIES = "".join(f'<!ENTITY b{n} "{10 * ("&b" + str(n - 1) + ";")}">' for n in range(1, 9))
BOMB = f'<!DOCTYPE a [<!ENTITY b0 "xxxxxxxxxx">{ENTITIES}]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
PAYLOADS = {
    "empty": b"",
    "no xml": SECRET.encode(),
    "broken": GOOD[: len(GOOD) // 2].encode(),
    "entity bomb": GOOD.replace("<Report", BOMB + "<Report", 1).replace("</Title>", "&b8;</Title>", 1).encode(),
    "outside entity": GOOD.replace("<Report", OUTSIDE + "<Report", 1).replace("</Title>", "&b;</Title>", 1).encode(),
    "huge token": GOOD.replace("</Title>", "x" * 12_000_000 + "</Title>", 1).encode(),
    "another encoding": GOOD.replace("UTF-8", "Shift_JIS", 1).encode("cp932", "replace")[:400],
    "not utf-8": GOOD.encode().replace("震".encode(), b"\xff\xfe", 3),
    "wrong root": f"<note>{SECRET}</note>".encode(),
    "no event id": GOOD.replace("EventID>", "EventIdentity>").encode(),
    "time without offset": GOOD.replace("+09:00</ReportDateTime>", "</ReportDateTime>").encode(),
    "deep": b"<a>" * 100_000 + b"</a>" * 100_000,
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_bad_telegram_is_refused_with_its_file_and_a_reason_and_changes_nothing(
    name: str, hub: Run, tmp_path: Path
) -> None:
    assert hub("import", "jma", "--simulate", TELEGRAMS / "02-full.xml")[0] == 0
    before = rows(tmp_path)
    bad = tmp_path / "bad.xml"
    bad.write_bytes(PAYLOADS[name])

    status, out, _ = hub("import", "jma", "--simulate", "--json", bad)

    [line] = map(json.loads, out.splitlines())
    assert (status, line["path"], line["status"], line["events"]) == (1, str(bad), "refused", [])
    assert len(line["reason"]) > 5
    assert "root:" not in line["reason"]
    assert rows(tmp_path) == before


def test_one_bad_file_does_not_hold_up_the_others(hub: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.xml"
    bad.write_bytes(b"")
    status, out, _ = hub(
        "import", "jma", "--simulate", "--json", bad, tmp_path / "missing.xml", TELEGRAMS / "02-full.xml"
    )
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["refused", "refused", "accepted"]
    assert status == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["import", "nobody", "x"], "no connector is called"),
        (["emergencies", "--at", "yesterday"], "--at: is no time with its offset"),
        (["replay", "--recipient", "a", "--purpose", "b", "--at", "2026-06-01T09:00:00"], "--at: is no time"),
        (["explain", "--recipient", "a", "--purpose", "b", "--person", "c", "--lang", "fr"], "--lang is ja or en"),
        (["verify", "--database", "postgresql://localhost/hub"], "SQLite"),
        (["verify", "--database", "::"], "--database is no URL"),
        (["scenario", "missing.yaml"], "missing.yaml: cannot be read"),
        (["verify", "--database", "sqlite:///none/hub.sqlite3"], "there is no database yet"),
        (["demo", "--telegram", "missing.xml"], "names no file that can be read"),
    ],
)
def test_misuse_is_told_on_standard_error_with_status_2(
    arguments: list[str], told: str, hub: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub("init")[0] == 0
    status, out, err = hub(*arguments)
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_a_position_beyond_the_end_is_an_error(hub: Run) -> None:
    hub("init")
    status, _, err = hub("replay", "--recipient", "a", "--purpose", "b", "--position", 10**9)
    assert (status, err) == (1, "hub: position: is beyond the end of the log\n")


def test_real_and_simulated_time_never_meet_in_one_database(hub: Run) -> None:
    hub("init")
    assert hub("import", "jma", "--simulate", TELEGRAMS / "02-full.xml")[0] == 2


def test_a_database_of_the_past_takes_nothing_at_the_time_of_now(hub: Run) -> None:
    assert hub("import", "jma", "--simulate", TELEGRAMS / "02-full.xml")[0] == 0
    assert hub("import", "jma", TELEGRAMS / "02-full.xml")[0] == 2


@pytest.mark.parametrize(
    "text", ["world: [", "- 1\n- 2\n", "title: x\nsteps: [{at: nonsense, kind: kind.introduced}]", "\x00"]
)
def test_a_broken_scenario_file_is_told_and_no_traceback(text: str, hub: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    status, out, err = hub("scenario", path)
    assert status in (1, 2)
    assert "broken.yaml" in out + err
    assert "Traceback" not in out + err


DEEP: Any = "x"
for _ in range(400):
    DEEP = [DEEP]

EVENTS: list[tuple[str, dict[str, Any], str]] = [
    ("safety.answered", {"person": "hanako", "status": SECRET}, "safety.answered: status"),
    ("safety.answered", {"person": "hanako", "status": "safe", SECRET: 1}, "safety.answered: (a field)"),
    ("safety.answered", {"person": "hanako", "status": "safe", "note": DEEP}, "safety.answered: note"),
    ("safety.answered", {"status": "safe"}, "safety.answered: person"),
    ("safety.answered", {"person": SECRET, "status": "safe"}, "no such person is enrolled"),
    ("safety.answered", {"person": "hanako", "status": "safe", "occurred_at": SECRET}, "safety.answered: occurred_at"),
    ("survey.answered", {"person": "hanako", "answers": {}}, "this kind was not introduced here (R8)"),
    ("rumour.spread", {"person": "hanako"}, "rumour.spread: no schema says what this kind is (R8)"),
    (SECRET, {"person": "hanako"}, "no schema says what this kind is (R8)"),
    ("view.disclosed", {}, "only the hub itself appends this kind"),
    ("entry", {}, "no schema says what this kind is"),
    ("person.enrolled", {"person": "taro", "areas": [SECRET]}, "person.enrolled: areas[0]"),
    ("person.enrolled", {"person": "", "areas": []}, "person"),
    ("person.enrolled", {"person": "x" * 300, "areas": []}, "person"),
    ("person.enrolled", {"person": "ta\nro", "areas": []}, "person"),
    ("person.enrolled", {"person": 3, "areas": []}, "person"),
]


@pytest.mark.parametrize(("kind", "data", "told"), EVENTS, ids=[f"{n}" for n in range(len(EVENTS))])
def test_a_bad_event_is_refused_and_changes_nothing(kind: str, data: dict[str, Any], told: str) -> None:
    with World.fresh() as world:
        at = recorder.EPOCH.replace(year=2026)
        world.append(at, "kind.introduced", {"kind": "safety.answered"})
        world.append(at, "person.enrolled", {"person": "hanako", "areas": ["07202"]})
        size = world.hub.log.entries.max_notification_id()

        assert world.append(at, kind, data) == "refused"

        assert world.last is not None
        assert told in str(world.last.error)
        assert SECRET not in str(world.last.error)
        assert world.hub.log.entries.max_notification_id() == size
        world.hub.audit.verify()
