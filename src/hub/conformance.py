"""Tests that every connector inherits, so that the hub need not trust what it has not seen.

`hub connectors check PATH` runs them, and so does a connector's own test file:

    from hub.conformance import Conformance

    class TestMine(Conformance):
        package = Path(__file__).parents[1]

A package has payloads of its own making in `goldens/`, and beside each `<file>.golden`: what it must give, as `told`
says it. Where the connector needs settings, `goldens/settings.toml` holds them, in the form of HUB_CONNECTORS.
What a check finds are sentences that say where and what; none is good.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from hub import plugins
from hub.canonical import timestamp
from hub.codec import is_id
from hub.connector import (
    GROUP,
    QUALITY,
    UNSET,
    Connector,
    Measures,
    Polls,
    Request,
    Schemed,
    Settings,
    Translation,
    Verifies,
)
from hub.errors import Misuse, PayloadError, Unsigned
from hub.events import Event
from hub.schemas import Schemas, packaged
from hub.spoiling import NUMBER, PLANTED, Spoilt, spoilt
from hub.watching import Watched, watched

Findings = Iterator[str]

_BY_SOURCES = ("fact.retracted", "consent.requested")
_SHORTEST_REASON = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A connector's package as it lies on disk. payloads: what is in `goldens/`, by name."""

    path: Path
    name: str
    connector: Connector
    payloads: Mapping[str, bytes]

    def expected(self, name: str) -> Any:
        """What the golden beside a payload says; None where there is none."""
        golden = self.path / "goldens" / f"{name}.golden"
        return json.loads(golden.read_bytes()) if golden.exists() else None

    def schemas(self) -> Schemas:
        """The hub's kinds and the connector's own."""
        found = packaged()
        return found.extended(self.connector.schemas.items()) if isinstance(self.connector, Schemed) else found


def package(path: Path) -> Package:
    """The package in a folder. Raises Misuse where there is none, or its connector does not load."""
    try:
        project = tomllib.loads((path / "pyproject.toml").read_text("utf-8"))["project"]
        [(name, target)] = project["entry-points"][GROUP].items()
        module, _, attribute = target.partition(":")
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise Misuse(f"{path}: has no pyproject.toml with one entry point in {GROUP}: {type(error).__name__}") from None
    inside = str((path / "src" if (path / "src").is_dir() else path).resolve())
    if inside not in sys.path:
        sys.path.insert(0, inside)
    try:
        connector = getattr(importlib.import_module(module), attribute)(_settings(path, name))
    except Misuse:
        raise
    except (Exception, SystemExit) as error:
        raise Misuse(f"{path}: does not load: {type(error).__name__}: {error}") from None
    reason = plugins.faults(connector, name)
    if reason is not None:
        raise Misuse(f"{path}: {reason}")
    files = sorted((path / "goldens").glob("*"))
    payloads = {file.name: file.read_bytes() for file in files if file.is_file() and _is_payload(file)}
    return Package(path=path, name=name, connector=connector, payloads=payloads)


def _settings(path: Path, name: str) -> Settings:
    file = path / "goldens" / "settings.toml"
    return plugins.load(file, {}).setting(name).settings if file.exists() else UNSET


def _is_payload(file: Path) -> bool:
    return file.suffix != ".golden" and file.name != "settings.toml" and not file.name.startswith(".")


def told(translation: Translation) -> dict[str, Any]:
    """A translation as a golden says it: what is absent is left out, times in UTC, decimals as text."""
    said = {
        "events": [_told_event(event) for event in translation.events],
        "nothing": translation.nothing,
        "rejected": [
            {"path": found.error.path, "reason": found.error.reason, "refs": list(found.refs)}
            for found in translation.rejected
        ],
        "reported_at": translation.reported_at,
        "wake": translation.wake or None,
    }
    plain = {name: value for name, value in said.items() if value not in (None, [])}
    return json.loads(json.dumps(plain, default=_plain))  # type: ignore[no-any-return]


def _told_event(event: Event) -> dict[str, Any]:
    said = {
        "id": event.id,
        "kind": event.kind,
        "person": event.person,
        "ref": event.ref,
        "occurred_at": event.occurred_at,
        "exercise": event.exercise or None,
        "data": _present(event.data),
    }
    return {name: value for name, value in said.items() if value is not None}


def _present(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _present(part) for name, part in value.items() if part is not None}
    return [_present(part) for part in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return timestamp(value) if value.tzinfo else f"{value.isoformat()} (naive)"
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"a {type(value).__name__} stands in no event")


def outcome(connector: Connector, payload: bytes) -> dict[str, Any]:
    """What `translate` makes of a payload, a PayloadError as `{"error": {"path", "reason"}}`."""
    try:
        return told(connector.translate(payload))
    except PayloadError as error:
        return {"error": {"path": error.path, "reason": error.reason}}


def check_goldens(mine: Package) -> Findings:
    """Each golden is reproduced, and one holds events."""
    for name, payload in mine.payloads.items():
        expected = mine.expected(name)
        if expected is None:
            yield f"goldens/{name}: has no {name}.golden; write it, or have it written: --write-goldens"
        elif outcome(mine.connector, payload) != expected:
            yield f"goldens/{name}: does not give what its golden says"
    if not any("events" in outcome(mine.connector, payload) for payload in mine.payloads.values()):
        yield "goldens/: no payload gives an event"


def check_pure(mine: Package) -> Findings:
    """The same payload gives the same, whatever came before, in another process, zone and hash seed."""
    first = {name: outcome(mine.connector, payload) for name, payload in mine.payloads.items()}
    again = {name: outcome(mine.connector, mine.payloads[name]) for name in reversed(list(mine.payloads))}
    elsewhere = _elsewhere(mine)
    for name, said in first.items():
        if again[name] != said:
            yield f"goldens/{name}: gives another result the second time"
        elif elsewhere.get(name) != said:
            yield f"goldens/{name}: gives another result in another process, time zone or hash seed"


def _elsewhere(mine: Package) -> dict[str, Any]:
    code = "import sys; from hub.conformance import _tell; _tell(sys.argv[1])"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati"}
    environment["PYTHONPATH"] = os.pathsep.join(part for part in sys.path if part)
    command = [sys.executable, "-c", code, str(mine.path)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)  # noqa: S603
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no word"]
        raise Misuse(f"{mine.path}: does not run in another process: {lines[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _tell(path: str) -> None:
    mine = package(Path(path))
    said = {name: outcome(mine.connector, payload) for name, payload in mine.payloads.items()}
    sys.stdout.write("\n" + json.dumps(said) + "\n")


def check_touches_nothing(mine: Package) -> Findings:
    """While translating, no network, no file, no process, no clock, no chance."""
    for name, payload in mine.payloads.items():
        outcome(mine.connector, payload)  # what is imported late is imported now
        seen: Watched = watched(lambda payload=payload: outcome(mine.connector, payload))  # type: ignore[misc]
        for what in seen:
            yield f"goldens/{name}: translate {what}"


def check_ids(mine: Package) -> Findings:
    """Every id can be one, and no two events of a payload share one."""
    for name, event, _ in _events(mine):
        if not is_id(event.id):
            yield f"goldens/{name}: an id of {event.kind} is no id: 1 to 200 characters, none of them a control"
    for name, translation in _translations(mine):
        ids = [event.id for event in translation.events]
        if len(set(ids)) != len(ids):
            yield f"goldens/{name}: two of its events have one id"


def check_times(mine: Package) -> Findings:
    """Every time says its offset."""
    for name, translation in _translations(mine):
        for what, time in [
            ("reported_at", translation.reported_at),
            *((f"occurred_at of {event.kind}", event.occurred_at) for event in translation.events),
        ]:
            if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
                yield f"goldens/{name}: {what} is no time with its offset"


def check_schemas(mine: Package) -> Findings:
    """Every event fits the schema of its kind, is of a declared kind and of the connector's own source."""
    known = mine.schemas()
    for name, event, where in _events(mine):
        reason = _misfit(mine, known, event)
        if reason:
            yield f"goldens/{name}: {where}: {reason}"
    for kind in mine.connector.kinds:
        found = known.newest(kind)
        if found is None:
            yield f"kinds: {kind} has no schema; bring it in `schemas`"
        elif found.category != "fact" and kind not in _BY_SOURCES:
            yield f"kinds: {kind} is not for a source to append"


def _misfit(mine: Package, known: Schemas, event: Event) -> str | None:
    kind = known.newest(event.kind)
    if kind is None or event.kind not in mine.connector.kinds:
        return f"{event.kind} is none of its kinds"
    if event.source != mine.connector.source:
        return f"{event.kind} has another source than the connector"
    if event.person is not None:
        return f"{event.kind} names a person by the hub's id; a source knows its own, in `ref`"
    if (event.ref is not None) is not (kind.about == "person"):
        return f"{event.kind} {'lacks a ref' if kind.about == 'person' else 'has a ref, but is about no person'}"
    try:
        kind.encode(event.data)
    except PayloadError as error:
        return str(error)
    return None


def check_errors(mine: Package) -> Findings:
    """A payload that is spoilt gives a translation, or a PayloadError that names the field and not the value; and
    touches nothing."""
    found: list[str] = []
    seen = watched(lambda: found.extend(_errors(mine)), profiled=False)
    yield from found
    for what in seen:
        yield f"a payload that is spoilt: translate {what}"


def _errors(mine: Package) -> Findings:
    seen: set[str] = set()
    for name, payload in mine.payloads.items():
        for bad in spoilt(payload):
            found = _judged(mine.connector, bad)
            if found is not None and found not in seen:
                seen.add(found)
                yield f"goldens/{name}, {bad.what}: {found}"


def _judged(connector: Connector, bad: Spoilt) -> str | None:
    try:
        translation = connector.translate(bad.payload)
    except PayloadError as error:
        return _leak(error) or (
            "a PayloadError names no field; give it a path" if bad.field and not error.path else None
        )
    except Exception as error:
        return f"raises {type(error).__name__}, where a PayloadError belongs"
    for rejected in translation.rejected:
        found = _leak(rejected.error)
        if found is None and not rejected.error.path:
            found = "a rejected part names no field; give its error a path"
        if found:
            return found
    if _holds(translation.nothing or ""):
        return "`nothing` repeats a value of the payload"
    if not translation.events and not translation.rejected and not translation.nothing:
        return "gives no events and does not say why"
    return None


def _leak(error: PayloadError) -> str | None:
    if _holds(str(error)):
        return "a PayloadError repeats the value"
    before = None if error.__suppress_context__ else error.__context__
    if _holds(str(before)) or _holds(str(error.__cause__)):
        return "a PayloadError carries the value in its cause; raise it `from None`"
    return None


def _holds(text: str) -> bool:
    """Whether a planted value is in it, in other letters or cut off too."""
    digits = text.replace(",", "").replace("_", "")
    return PLANTED[:7].casefold() in text.casefold() or str(NUMBER)[:9] in digits


def check_quality(mine: Package) -> Findings:
    """Every rule of QUALITY is declared, with a reason where it is exempt, and what is said to be done is there."""
    said = dict(mine.connector.quality)
    for rule in sorted(said.keys() - QUALITY.keys()):
        yield f"quality: {rule} is none of {', '.join(QUALITY)}"
    for rule in QUALITY:
        value = said.get(rule, "")
        reason = value.removeprefix("exempt:").strip() if value.startswith("exempt:") else ""
        if value != "done" and len(reason) < _SHORTEST_REASON:
            yield f"quality: {rule} is neither `done` nor `exempt: ` and a reason"
    for rule, has in (
        ("signature", isinstance(mine.connector, Verifies)),
        ("polling", isinstance(mine.connector, Polls)),
        ("measured", isinstance(mine.connector, Measures)),
    ):
        if (said.get(rule) == "done") is not has:
            yield f"quality: {rule} is {'not ' if has else ''}`done`, but the method is {'there' if has else 'missing'}"
    if said.get("documented") == "done" and not (mine.path / "README.md").exists():
        yield "quality: documented is `done`, but there is no README.md"


def check_methods(mine: Package) -> Findings:
    """What it can do besides works: an unsigned webhook is refused, a sample is taken whole."""
    connector = mine.connector
    if isinstance(connector, Verifies):
        for name, payload in mine.payloads.items():
            try:
                connector.verify(Request(headers={}, body=payload))
                yield f"goldens/{name}: verify takes it without a signature"
            except (Unsigned, Misuse):
                continue
    if isinstance(connector, Measures):
        translation = connector.translate(connector.sample(10))
        if translation.rejected or not translation.events:
            yield "sample: is not translated whole"
        if connector.sample(10) != connector.sample(10):
            yield "sample: gives another payload the second time"


def _translations(mine: Package) -> Iterator[tuple[str, Translation]]:
    for name, payload in mine.payloads.items():
        try:
            translation = mine.connector.translate(payload)
        except PayloadError:
            continue
        yield name, translation


def _events(mine: Package) -> Iterator[tuple[str, Event, str]]:
    for name, translation in _translations(mine):
        for number, event in enumerate(translation.events):
            yield name, event, f"events[{number}]"


CHECKS: Mapping[str, Callable[[Package], Findings]] = {
    "goldens": check_goldens,
    "pure": check_pure,
    "touches nothing": check_touches_nothing,
    "ids": check_ids,
    "times": check_times,
    "schemas": check_schemas,
    "errors": check_errors,
    "quality": check_quality,
    "methods": check_methods,
}


def write_goldens(mine: Package) -> list[str]:
    """Write the goldens that are missing; their names. Read them before you keep them."""
    written = []
    for name, payload in mine.payloads.items():
        if mine.expected(name) is None:
            said = json.dumps(outcome(mine.connector, payload), ensure_ascii=False, indent=1)
            (mine.path / "goldens" / f"{name}.golden").write_text(said + "\n", "utf-8")
            written.append(f"{name}.golden")
    return written


class Conformance:
    """The suite as a class of tests. package: the folder with pyproject.toml."""

    package: ClassVar[Path]

    def _none(self, check: Callable[[Package], Findings]) -> None:
        found = list(check(package(self.package)))
        assert not found, "\n".join(found)  # noqa: S101

    def test_goldens(self) -> None:
        """See check_goldens."""
        self._none(check_goldens)

    def test_pure(self) -> None:
        """See check_pure."""
        self._none(check_pure)

    def test_touches_nothing(self) -> None:
        """See check_touches_nothing."""
        self._none(check_touches_nothing)

    def test_ids(self) -> None:
        """See check_ids."""
        self._none(check_ids)

    def test_times(self) -> None:
        """See check_times."""
        self._none(check_times)

    def test_schemas(self) -> None:
        """See check_schemas."""
        self._none(check_schemas)

    def test_errors(self) -> None:
        """See check_errors."""
        self._none(check_errors)

    def test_quality(self) -> None:
        """See check_quality."""
        self._none(check_quality)

    def test_methods(self) -> None:
        """See check_methods."""
        self._none(check_methods)


assert {f"test_{name.replace(' ', '_')}" for name in CHECKS} == {n for n in vars(Conformance) if n.startswith("test_")}  # noqa: S101
