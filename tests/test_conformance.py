"""The suite that every connector inherits: a new package passes it, and whatever is hostile fails it."""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub import scaffold
from hub.conformance import CHECKS, Package, package
from hub.errors import Misuse
from hub.watching import watched

GOOD = '            data={"status": record.need("status").one_of(_STATUSES)},'
FIRST = "        events, rejected = [], []"


@pytest.fixture
def bent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Package]:
    """A new connector's package with its plugin changed."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def bend(name: str, *changes: tuple[str, str]) -> Package:
        folder = scaffold.write(name, tmp_path)
        file = folder / "src" / f"hub_connector_{name}" / "__init__.py"
        text = file.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, 1)
        file.write_text(text)
        sys.modules.pop(f"hub_connector_{name}")
        importlib.invalidate_caches()
        return package(folder)

    return bend


def found(mine: Package, check: str) -> list[str]:
    return list(CHECKS[check](mine))


@pytest.mark.parametrize("check", CHECKS)
def test_a_new_package_passes(bent: Any, check: str) -> None:
    assert found(bent("fresh"), check) == []


def inside(line: str) -> tuple[str, str]:
    """Do something while translating."""
    return FIRST, f"        {line}\n{FIRST}"


def bad(status: str) -> tuple[str, str]:
    """Make the status by an expression that may use what `_WRONG` defines."""
    return 'data={"status": record.need("status").one_of(_STATUSES)},', f'data={{"status": {status}}},'


_WRONG = """

status = dict(ok="safe", help="need_help")
seen: list[int] = []


def wrong(value: str) -> str:
    raise PayloadError(f"is wrong {value}", path="status" if value else "")


def caused(value: str) -> str:
    try:
        return status[value]
    except (KeyError, TypeError):
        raise PayloadError("is wrong", path="status") from ValueError(value)
"""

ID, VERIFY = (
    "id=record.need",
    """    signed = "s"

    def verify(self, request: object) -> None:
        return

    def translate""",
)
SAFETY = '("safety.answered",)'
HOSTILE: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "another_answer": ("goldens", "does not give what its golden says", [('"ok": "safe"', '"ok": "unknown"')]),
    "no_events": ("goldens", "no payload gives an event", [("events.append(self._answer(record))", "str(record)")]),
    "random_id": ("pure", "another result", [(ID, "id=__import__('uuid').uuid4().hex + record.need")]),
    "remembers": ("pure", "the second time", [(ID, "id=str(seen.append(1) or len(seen)) + record.need")]),
    "hash_seed": ("pure", "hash seed", [(ID, "id=str(hash('a')) + record.need")]),
    "time_zone": ("pure", "time zone", [(ID, "id=str(__import__('time').localtime(0)[3]) + record.need")]),
    "opens_file": ("touches nothing", "opens a file", [inside('open("/etc/hostname").close()')]),
    "lists_files": ("touches nothing", "touches the file system", [inside('__import__("os").listdir("/")')]),
    "looks": ("touches nothing", "touches the file system (stat)", [inside('__import__("os").path.exists("/etc")')]),
    "network": ("touches nothing", "uses the network", [inside('__import__("socket").socket().close()')]),
    "resolves": ("touches nothing", "uses the network", [inside('__import__("socket").getaddrinfo("127.0.0.1", 1)')]),
    "process": ("touches nothing", "starts a process", [inside('__import__("subprocess").run(["true"])')]),
    "thread": ("touches nothing", "starts a thread", [inside('__import__("threading").Thread(target=int).start()')]),
    "clock": ("touches nothing", "asks the clock (datetime.now)", [inside('__import__("datetime").datetime.now()')]),
    "time": ("touches nothing", "asks the clock (time)", [inside('__import__("time").time()')]),
    "chance": ("touches nothing", "asks chance", [inside('__import__("random").random()')]),
    "uuid": ("touches nothing", "asks chance", [inside('__import__("uuid").uuid4()')]),
    "same_id": ("ids", "two of its events have one id", [('id=record.need("id").word()', 'id="one"')]),
    "long_id": ("ids", "is no id", [(ID, 'id="x" * 300 + record.need')]),
    "naive": ("times", "no time with its offset", [('need("at").time()', 'need("at").time().replace(tzinfo=None)')]),
    "misfit": ("schemas", "status", [(GOOD, '            data={"status": "fine"},')]),
    "undeclared": ("schemas", "none of its kinds", [(SAFETY, '("location.reported",)')]),
    "control": ("schemas", "not for a source", [(SAFETY, '("safety.answered", "consent.granted")')]),
    "unknown_kind": ("schemas", "has no schema", [(SAFETY, '("safety.answered", "walk.taken")')]),
    "foreign": ("schemas", "another source", [("source=self.source", 'source="careyell"')]),
    "names_person": ("schemas", "by the hub's id", [("ref=record", "person=record")]),
    "no_ref": ("schemas", "lacks a ref", [('            ref=record.need("user").word(),\n', "")]),
    "raises": ("errors", "raises", [('record.need("user").word()', 'record.value["user"]')]),
    "leaks": ("errors", "repeats the value", [bad("status.get(v := str(record.need('status').value)) or wrong(v)")]),
    "leaks_a_part": (
        "errors",
        "repeats the value",
        [bad("status.get(v := str(record.need('status').value)) or wrong(v.lower()[:8])")],
    ),
    "leaks_in_cause": ("errors", "in its cause", [bad("caused(record.need('status').value)")]),
    "no_path": ("errors", "names no field", [bad("status.get(str(record.need('status').value)) or wrong('')")]),
    "peeks": ("errors", "opens a file", [inside('b"DOCTYPE" in payload and open("/etc/hostname").close()')]),
    "leaks_nothing": ("errors", "`nothing` repeats", [('"it holds no record"', "str(payload)")]),
    "silent": ("errors", "does not say why", [('"it holds no record"', "None")]),
    "undeclared_quality": ("quality", "neither", [('        "drills": "done",\n', "")]),
    "lazy_reason": ("quality", "neither", [('"exempt: the source corrects nothing yet"', '"exempt: no"')]),
    "unknown_quality": ("quality", "is none of", [('"drills": "done"', '"drills": "done", "beauty": "done"')]),
    "boasts": ("quality", "the method is missing", [('"exempt: the source sends by itself"', '"done"')]),
    "takes_unsigned": ("methods", "without a signature", [("    def translate", VERIFY)]),
    "bad_sample": ("methods", "is not translated whole", [('"status": "ok"}\'', '"status": "no"}\'')]),
    "random_sample": ("methods", "the second time", [("% (n, n)", "% (n, seen.append(1) or len(seen))")]),
}  # fmt: skip


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_connector_fails_the_check_that_is_for_it(bent: Any, how: str) -> None:
    check, told, changes = HOSTILE[how]
    changes = [*changes, ("\n\nclass Plugin", f"{_WRONG}\n\nclass Plugin")]
    findings = found(bent(f"x_{how}", *changes), check)
    assert any(told in finding for finding in findings), findings


def test_every_check_has_a_hostile_connector() -> None:
    assert {check for check, _, _ in HOSTILE.values()} == set(CHECKS)


def test_hub_connectors_new_and_check(hub_main: Any, tmp_path: Path) -> None:
    said = hub_main("connectors", "new", "hamlet", "--into", tmp_path)
    assert (said.status, said.err) == (0, "")
    assert hub_main("connectors", "new", "hamlet", "--into", tmp_path).status == 2
    assert hub_main("connectors", "new", "Ham-let", "--into", tmp_path).status == 2
    said = hub_main("connectors", "check", tmp_path / "hamlet")
    assert (said.status, said.out.splitlines()) == (0, [f"ok   {name}" for name in CHECKS])

    golden = tmp_path / "hamlet" / "goldens" / "answers.json.golden"
    whole = json.loads(golden.read_text())
    golden.write_text(json.dumps({**whole, "wake": True}))
    said = hub_main("connectors", "check", tmp_path / "hamlet")
    assert (said.status, said.out.splitlines()[:2]) == (
        1, ["BAD  goldens", "     goldens/answers.json: does not give what its golden says"],
    )  # fmt: skip

    golden.unlink()
    assert "has no answers.json.golden" in hub_main("connectors", "check", tmp_path / "hamlet").out
    said = hub_main("connectors", "check", tmp_path / "hamlet", "--write-goldens", "--json")
    assert (said.status, json.loads(said.out)["goldens"]) == (0, [])
    assert json.loads(golden.read_text()) == whole


@pytest.mark.parametrize(
    "content", [None, "[project]\nname = 'x'", "[project", '[project.entry-points."hub.connectors"]\nx = "nothing:X"']
)
def test_what_is_no_package_is_misuse(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(Misuse):
        package(tmp_path)


def test_what_others_do_after_a_collection_is_not_the_calls_doing() -> None:
    def asks(phase: str, info: dict[str, int]) -> None:
        time.perf_counter()

    gc.callbacks.append(asks)
    try:
        assert watched(lambda: [[] for _ in range(100_000)]) == []
    finally:
        gc.callbacks.remove(asks)
    assert watched(time.time) == ["asks the clock (time)"]
