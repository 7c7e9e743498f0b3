"""Bad input at every door: an error that names file, kind, path and reason, never a value, and no effect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hub import cli
from hub.events import Event
from hub.hub import Hub
from hub.log import recorder
from hub.log.clock import SetClock
from hub.scenario import World
from hub.schemas import packaged
from hub.views.views import TABLES

TELEGRAMS = Path(__file__).parents[1] / "connectors" / "jma" / "goldens"
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
        (["verify", "--database", "postgresql://localhost/hub"], "HUB_MASTER_KEY_FILE"),
        (["verify", "--database", "mysql://localhost/hub"], "PostgreSQL"),
        (["verify", "--database", "::"], "URL is none"),
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


# Every field of every kind, with every bad value


MORNING = recorder.EPOCH.replace(year=2026)
LATER = "2026-01-02T00:00:00Z"
GRANT = {"to": {"recipient": "aizu-city"}, "kinds": ["safety.*"], "purposes": ["rescue"], "modes": ["normal"]}
AREA = {"area": "07202", "region": "0720200", "region_system": "x", "name": "会津若松市", "level": "6-"}
SAID: dict[str, dict[str, Any]] = {
    "kind.introduced": {"kind": "location.reported", "ttl_s": 60, "latest_by": ["accuracy_m"], "roster": True},
    "area.introduced": {"area": "07202", "contains": ["m5639"]},
    "recipient.registered": {"recipient": "clinic", "class": "hospital", "areas": ["*"], "purposes": ["care"]},
    "person.enrolled": {"person": "taro", "areas": ["07202"]},
    "relation.added": {"person": "hanako", "recipient": "daughter", "role": "family"},
    "delegation.added": {"person": "hanako", "delegate": "taro", "until": LATER},
    "identity.linked": {"person": "hanako", "source": "careyell", "ref": "55"},
    "consent.granted": {"person": "hanako", "grant": "g", **GRANT, "precision": {"care.*": "summary"}, "uses": 1},
    "consent.revoked": {"person": "hanako", "grant": "all"},
    "block.added": {"person": "hanako", "to": {"relation": "family"}, "protective": True},
    "emergency.declared": {"emergency": "quake", "areas": ["07202"], "until": LATER, "hazard": "earthquake"},
    "override.opened": {
        "override": "o",
        "recipient": "aizu-city",
        "basis": "life_protection",
        "persons": ["hanako"],
        "kinds": ["*"],
        "purposes": ["rescue"],
        "until": LATER,
        "reason": "no answer",
        "actor": "officer",
    },
    "fact.retracted": {"person": "hanako", "event": "s1", "source": "app"},
    "location.reported": {"person": "hanako", "occurred_at": LATER, "lat_deg": 37.5, "lon_deg": 139.9, "accuracy_m": 5},
    "safety.answered": {"person": "hanako", "exercise": True, "status": "safe", "note": "at home"},
    "care.medication_updated": {"person": "hanako", "medications": [{"name": "アムロジピン", "dose": "5 mg"}]},
    "survey.answered": {"person": "hanako", "answers": {"water": "yes"}},
    "hazard.reported": {
        "hazard": "earthquake",
        "chain": "20260101",
        "report": "VXSE53",
        "serial": "1",
        "action": "issued",
        "status": "actual",
        "reported_at": LATER,
        "areas": [AREA],
    },
    "shelter.reported": {},
}
NOT_MET: Any = object()
HUGE = 10**400
HOSTILE: list[Any] = [
    *(None, True, -1, 0.5, HUGE, float("nan"), float("inf"), Decimal("NaN"), Decimal("1e999"), b"bytes", NOT_MET),
    *("", " ", "x" * 300, f"{SECRET}\n", f"\x00{SECRET}", f"{SECRET}\ud800", SECRET, "０７２０２", "0720", "m99"),
    *("2026-06-01T09:00:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-06-01", "9999-12-31T23:59:59-23:59"),
    *("0001-01-01T00:00:00Z", datetime(2026, 6, 1), datetime(9999, 12, 31, tzinfo=UTC)),  # noqa: DTZ001
    *([], [SECRET], [[SECRET]], [None], {}, {SECRET: SECRET}, {"from": SECRET}, {1: 2}, {None: SECRET}, {SECRET}, DEEP),
]


def changed(value: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Every place in some data, with a way to put something else there."""
    yield "", lambda bad: bad
    if isinstance(value, dict):
        for name, part in value.items():
            for path, put in changed(part):
                yield f".{name}{path}", lambda bad, name=name, put=put: {**value, name: put(bad)}  # type: ignore[misc]
    if isinstance(value, list):
        for path, put in changed(value[0]) if value else ():
            yield f"[0]{path}", lambda bad, put=put: [*value, put(bad)]  # type: ignore[misc]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World.fresh() as world:
        for kind in sorted({kind for kind in SAID if packaged().kind(kind).category == "fact"} - {"location.reported"}):
            assert world.append(MORNING, "kind.introduced", {"kind": kind}) == "accepted"
        world.append(MORNING, "person.enrolled", {"person": "hanako", "areas": ["07202"]})
        yield world


@pytest.mark.parametrize("kind", SAID)
def test_whatever_stands_in_whichever_field_is_taken_or_refused_by_its_path_and_never_by_its_value(
    kind: str, world: World
) -> None:
    refused = 0
    for path, put in [*changed(SAID[kind]), (".more", lambda bad: {**SAID[kind], "more": bad})]:
        for bad in HOSTILE:
            size = world.hub.log.entries.max_notification_id()
            given = put(bad)
            if not isinstance(given, dict):
                continue
            status = world.append(MORNING, kind, given)
            assert world.last is not None
            told = str(world.last.error)
            assert SECRET not in told, path
            if status == "refused":
                refused += 1
                assert told.startswith(f"{kind}: "), path
                assert world.hub.log.entries.max_notification_id() == size
    assert refused > 10
    world.hub.audit.verify()


@pytest.mark.parametrize("field", ["source", "id", "kind", "person", "occurred_at", "exercise", "data"])
def test_whatever_an_event_is_wrapped_in_is_taken_or_refused(field: str, world: World) -> None:
    whole = Event(source="app", id="s1", kind="safety.answered", person="hanako", data={"status": "safe"})
    size, taken = world.hub.log.entries.max_notification_id() or 0, 0
    for number, bad in enumerate(HOSTILE):
        event = replace(whole, **{"id": f"{field}-{number}", field: bad})
        good = replace(whole, id=f"{field}-{number}-good")
        one, other = world.hub.intake.take([event, good])
        assert other.status == "accepted", "a bad event holds up no other"
        assert SECRET not in str(one.error)
        taken += 1 + (one.status == "accepted")
    assert world.hub.log.entries.max_notification_id() == size + taken
    assert taken < len(HOSTILE) * 1.4
    world.hub.audit.verify()


# Scenario files


STEP = 'title: x\nsteps:\n- {at: "2026-06-01T09:00:00+09:00", %s}\n'
LOL = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghij")
)
SCENARIOS = {
    "empty": ("", 2, "holds no scenario"),
    "only a world": ("world: []\n", 2, "holds no scenario"),
    "deep lists": ("title: x\nsteps: " + "[" * 100_000, 2, "is no YAML, or is nested too deeply"),
    "deep blocks": ("".join("  " * n + "a:\n" for n in range(2_000)), 2, "nested too deeply"),
    "aliases that blow up a title": (f"{LOL}title: *j\nsteps: []\n", 2, "parts"),
    "aliases that blow up an answer": (LOL + STEP % "expect: {recipient: a, purpose: b, sees: {h: *j}}", 2, "parts"),
    "an alias to itself": ("title: &t [*t]\nsteps: []\n", 2, "parts"),
    "a tag of python's": (f"title: !!python/object/apply:os.system ['echo {SECRET}']\n", 2, "line 1: is no YAML"),
    "too many digits": (STEP % f"kind: kind.introduced, data: {{kind: a.b, ttl_s: {'9' * 6000}}}", 2, "is no YAML"),
    "steps that are none": (f"title: x\nsteps: {SECRET}\n", 2, "document 1: steps is no list of steps"),
    "a world that is none": ("title: x\nsteps: []\n---\nworld: {a: b}\n", 2, "document 2: world is no list of steps"),
    "a step that is none": (f"title: x\nsteps: [{SECRET}]\n", 1, "is no step"),
    "no time": ("title: x\nsteps: [{kind: person.moved}]\n", 1, "at: is missing"),
    "half a time": (f'title: x\nsteps: [{{at: "{SECRET}", kind: a}}]\n', 1, "is no time with its offset"),
    "no act": (STEP % f"do: {SECRET}", 1, "kind, read or expect: is missing"),
    "data that is none": (STEP % f"kind: person.moved, data: {SECRET}", 1, "data: is no object"),
    "nobody asks": (STEP % "expect: {purpose: b, sees: {}}", 1, "expect.recipient: is missing"),
    "nothing is expected": (STEP % "read: {recipient: a, purpose: b}", 1, "read.sees: is missing"),
    "a number asks": (STEP % "read: {recipient: 5, purpose: b, sees: {}}", 1, "recipient: is no name"),
    "half a surrogate pair asks": (STEP % 'read: {recipient: "\\uD800", purpose: b, sees: {}}', 1, "is no name"),
    "half a surrogate pair": (STEP % 'kind: person.enrolled, data: {person: "\\uD800"}', 1, "person: is no id"),
    "a kind that is a value": (STEP % f"kind: {SECRET}", 1, "no schema says what this kind is"),
    "two reasons": (
        STEP % f"expect: {{recipient: a, purpose: b, sees: {{}}, because: {{s: {{x: {SECRET}, y: z}}}}}}",
        *(1, "a step of another form"),
    ),
    "no number": (STEP % "kind: kind.introduced, data: {kind: safety.answered, ttl_s: .nan}", 1, "ttl_s: is no whole"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_bad_scenario_is_told_with_its_file_and_reason(name: str, hub: Run, tmp_path: Path) -> None:
    text, wanted, told = SCENARIOS[name]
    (tmp_path / "bad.yaml").write_text(text)
    status, out, err = hub("scenario", tmp_path / "bad.yaml")
    assert status == wanted
    said = out if status == 1 else err
    assert "bad.yaml" in said
    assert told in said
    assert len(said) < 1_000


def test_a_scenario_file_that_cannot_be_read_is_misuse(hub: Run, tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"title: caf\xe9\n")
    for path in (tmp_path, tmp_path / "latin.yaml"):
        assert hub("scenario", path)[0] == 2


# Names and places on the command line


@pytest.mark.parametrize(
    ("option", "path"),
    [("--recipient", "recipient"), ("--purpose", "purpose"), ("--kind", "kinds"), ("--person", "person")],
)
def test_a_name_that_can_be_none_is_refused_by_its_option(option: str, path: str, hub: Run, tmp_path: Path) -> None:
    hub("init")
    before = rows(tmp_path)
    whole = {"--recipient": "aizu-city", "--purpose": "rescue"}
    for bad in (f"{SECRET}\udcff", f"{SECRET}\n", "x" * 300, ""):
        options = [word for pair in {**whole, option: bad}.items() for word in pair]
        status, out, err = hub("replay", *options)
        assert (status, out) == (1, "")
        assert err.startswith(f"hub: {path}: is no ")
    assert rows(tmp_path) == before


@pytest.mark.parametrize(
    ("where", "status", "told"),
    [
        ("", 2, "has to name a file"),
        ("text.sqlite3", 1, "is no database"),
        ("text.sqlite3/hub.sqlite3", 2, "its folder cannot be made"),
    ],
)
def test_a_place_where_no_database_can_be_is_told(where: str, status: int, told: str, hub: Run, tmp_path: Path) -> None:
    (tmp_path / "text.sqlite3").write_text(f"{SECRET}\n" * 99)
    said = hub("init", "--database", f"sqlite:///{tmp_path}/{where}")
    assert (said[0], said[1]) == (status, "")
    assert told in said[2]


def test_a_server_with_a_password_is_no_place_for_the_log_and_is_not_repeated(hub: Run) -> None:
    status, _, err = hub("init", "--database", f"sqlite://hub:{SECRET}@db/hub")
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("content", [None, "", "zz" * 32, "00" * 31, "\xff"])
def test_a_master_key_that_is_none_is_misuse(
    content: str | None, hub: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub("init")
    if content is not None:
        (tmp_path / "key").write_text(content, "latin-1")
    monkeypatch.setenv("HUB_MASTER_KEY_FILE", str(tmp_path / "key"))
    assert hub("verify")[0] == 2
    monkeypatch.delenv("HUB_MASTER_KEY_FILE")
    assert hub("verify")[0] == 0


def test_the_name_of_a_file_need_not_be_utf_8(hub: Run, tmp_path: Path) -> None:
    (tmp_path / "bad\udcff.xml").write_text("<a/>")
    status, out, _ = hub("import", "jma", "--json", tmp_path / "bad\udcff.xml")
    assert status == 1
    assert json.loads(out)["path"].endswith("bad\udcff.xml")


def test_the_beginning_and_the_end_of_time_can_be_asked_for(hub: Run) -> None:
    hub("import", "jma", "--simulate", TELEGRAMS / "02-full.xml")
    for time in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        assert hub("emergencies", "--at", time)[0] == 0
        status, out, _ = hub("replay", "--recipient", "a", "--purpose", "b", "--json", "--at", time)
        assert status == 0
        assert json.loads(out)["time"] == time.replace("Z", ".000000Z")


def test_a_demo_with_no_telegram_names_the_file(hub: Run) -> None:
    path = Path(__file__)
    status, _, err = hub("demo", "--people", 20, "--lang", "en", "--telegram", path)
    assert (status, err.startswith(f"hub: {path}: ")) == (1, True)
