"""Scenarios: the rules by example, played through the real intake, log, views and disclosure.

A file holds YAML documents: first `world:`, steps that come before every scenario, then one scenario a
document. Each is played on a fresh database with the clock that its steps state. It is also the city's
what-if tool: a difference is told with the step, what was wanted and what came.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from hub.answer import Answer, Query
from hub.codec import parse_time
from hub.errors import HubError, Misuse, PayloadError
from hub.events import Event
from hub.hub import Hub
from hub.intake import Result
from hub.log.clock import SetClock
from hub.log.migrations import throwaway
from hub.schemas import packaged

SOURCE = "scenario"
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
_ENVELOPE = ("person", "occurred_at", "exercise", "ref")


@dataclass(frozen=True)
class Sight:
    """What an answer showed: fact ids by person, and of each fact its basis (type, id) and level."""

    sees: dict[str, frozenset[str]]
    because: dict[str, tuple[str, str]]
    precision: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A step that did not come out as written."""

    file: str
    title: str
    step: int
    wanted: str
    got: str

    def __str__(self) -> str:
        return f"{self.file}: {self.title}\n  step {self.step}\n  wanted: {self.wanted}\n  got:    {self.got}"


class World:
    """A fresh hub with a clock that is set, and the steps that a scenario can take on it."""

    def __init__(self, hub: Hub, clock: SetClock) -> None:
        self.hub, self.clock = hub, clock
        self.named = "step"
        self._unnamed = 0
        self.last: Result | None = None

    server: ClassVar[str | None] = None
    """The PostgreSQL on which fresh worlds are, where none is named."""

    @classmethod
    @contextmanager
    def fresh(cls, server: str | None = None) -> Iterator[World]:
        """A hub on embedded SQLite in a folder, or in schemas of its own on a PostgreSQL; removed afterwards."""
        with ExitStack() as rooms:
            folder = rooms.enter_context(tempfile.TemporaryDirectory(prefix="hub-world-"))
            url = rooms.enter_context(throwaway(server or cls.server or f"sqlite:///{folder}/hub.sqlite3"))
            clock = SetClock(_BEGINNING)
            hub = Hub.open(url, clock, folder=Path(folder), master=bytes(32), durable=False)
            rooms.callback(hub.close)
            yield cls(hub, clock)

    def append(
        self, at: datetime, kind: str, data: Mapping[str, Any], id: str | None = None
    ) -> Literal["accepted", "duplicate", "refused", "waiting"]:
        """Hand one event to intake; `data` is flat, as in a scenario's step."""
        self.clock.set(at)
        self._unnamed += id is None
        name = f"{self.named}-{self._unnamed}" if id is None else id
        try:
            event = flat_event(kind, data, name)
        except PayloadError as error:
            self.last = Result(event=Event(source=SOURCE, id=name, kind=kind), status="refused", error=error)
            return "refused"
        [self.last] = self.hub.intake.take([event])
        return self.last.status

    def read(
        self,
        at: datetime,
        recipient: str,
        purpose: str,
        kinds: Sequence[str] | None = None,
        exercise: bool = False,
    ) -> Sight:
        """A real read: answered, and appended as `view.disclosed`."""
        self.clock.set(at)
        return sight(self.hub.disclosure.read(_query(recipient, purpose, kinds, exercise)))

    def expect(
        self,
        at: datetime,
        recipient: str,
        purpose: str,
        kinds: Sequence[str] | None = None,
        exercise: bool = False,
        as_of: int | None = None,
    ) -> Sight:
        """The decision alone, which appends nothing; `as_of` asks it of the log cut after that position."""
        return sight(self._decide(at, _query(recipient, purpose, kinds, exercise), as_of))

    def answer(
        self,
        at: datetime,
        recipient: str,
        purpose: str,
        kinds: Sequence[str] | None = None,
        exercise: bool = False,
        history: bool = True,
    ) -> bytes:
        """The bytes of an answer, appending nothing."""
        query = Query(
            recipient=recipient, purpose=purpose, exercise=exercise, kinds=tuple(kinds or ()), history=history
        )
        return self._decide(at, query, None).body

    def rebuild(self) -> None:
        """Drop all views and derive them again."""
        self.hub.views.rebuild()

    def _decide(self, at: datetime, query: Query, as_of: int | None) -> Answer:
        with self.hub.log.entries.snapshot() as (connection, end):
            position = end.position if as_of is None else min(as_of, end.position)
            last = self.hub.log.recorded_at(connection, position)
            standing = self.hub.views.at(connection, end.position, position)
            time = at.astimezone(UTC)
            return self.hub.disclosure.deciding.decide(standing, query, time if last is None else max(time, last))


def _query(recipient: str, purpose: str, kinds: Sequence[str] | None, exercise: bool) -> Query:
    return Query(recipient=recipient, purpose=purpose, exercise=exercise, kinds=tuple(kinds or ()), history=True)


def sight(answer: Answer) -> Sight:
    """What an answer showed, in the words of a scenario."""
    return Sight(
        sees={shown.person: frozenset(item.entry.event.id for item in shown.items) for shown in answer.persons},
        because={i.entry.event.id: (i.permit.basis.type, i.permit.basis.id) for i in answer.items},
        precision={i.entry.event.id: i.permit.level for i in answer.items},
    )


def flat_event(kind: str, data: Mapping[str, Any], id: str) -> Event:
    """The event of flat data: beside the payload's fields `person`, `occurred_at` and, of a fact, `exercise`, `ref`."""
    schema = packaged().newest(kind)
    fact = schema is not None and schema.category == "fact"
    envelope = _ENVELOPE if fact else _ENVELOPE[:2]
    occurred_at = data.get("occurred_at")
    if isinstance(occurred_at, str):
        try:
            occurred_at = parse_time(occurred_at)
        except PayloadError as error:
            raise PayloadError(error.reason, path="occurred_at", kind=kind) from None
    return Event(
        source=SOURCE,
        id=id,
        kind=kind,
        person=data.get("person"),
        ref=data.get("ref") if fact else None,
        occurred_at=occurred_at,
        exercise=data.get("exercise", False) if fact else False,
        data={name: value for name, value in data.items() if name not in envelope},
    )


class _Loader(yaml.SafeLoader):
    """YAML with the digits of a number as they are written, and times as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _digits(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    try:
        return Decimal(node.value.replace("_", ""))
    except ArithmeticError:
        return loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:float", _digits)


def load(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The world and the scenarios of a file. Raises Misuse with the file's name where it is none."""
    try:
        written = path.read_text("utf-8")
        documents = [found for found in yaml.load_all(written, _Loader) if found is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{path.name}: cannot be read: {type(error).__name__}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise Misuse(f"{path.name}: {where}is no YAML, or is nested too deeply") from None
    _check_size(path, documents, len(written))
    world: list[dict[str, Any]] = []
    scenarios = []
    for number, document in enumerate(documents):
        if not isinstance(document, dict):
            raise Misuse(f"{path.name}: document {number + 1} is neither world nor scenario")
        part = "world" if "world" in document else "steps"
        if not isinstance(document.get(part, []), list):
            raise Misuse(f"{path.name}: document {number + 1}: {part} is no list of steps")
        if part == "world":
            world = document["world"]
        else:
            scenarios.append(document)
    return world, scenarios


def _check_size(path: Path, documents: list[Any], characters: int) -> None:
    """Refuse what aliases blow up: a part counts wherever it is named, and takes a character to write."""
    left, waiting = characters, list(documents)
    while waiting:
        part = waiting.pop()
        left -= 1
        if left < 0:
            raise Misuse(f"{path.name}: its aliases stand for more parts than it has characters")
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def play(
    path: Path, fresh_world: Callable[[], AbstractContextManager[World]] | None = None
) -> Iterator[tuple[str, list[Difference]]]:
    """Each scenario's title and its differences. fresh_world: where it is played, if not on a hub of its own."""
    world, scenarios = load(path)
    if not scenarios:
        raise Misuse(f"{path.name}: holds no scenario")
    for scenario in scenarios:
        title = str(scenario.get("title", "(no title)"))
        with (fresh_world or World.fresh)() as fresh:
            yield title, list(_play(fresh, path.name, title, [*world, *scenario.get("steps", ())]))


def _play(world: World, file: str, title: str, steps: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    for number, step in enumerate(steps, 1):
        try:
            found = _step(world, step)
        except HubError as error:
            found = "a step that can be played", f"{type(error).__name__}: {error}"
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # its text may hold a value of the step
            found = "a step that can be played", f"a step of another form ({type(error).__name__})"
        if found is not None:
            yield Difference(file=file, title=title, step=number, wanted=found[0], got=found[1])


def _step(world: World, step: Mapping[str, Any]) -> tuple[str, str] | None:
    """Take one step; what was wanted and what came, where they differ."""
    _check_form(step)
    at = step["at"]
    at = at if isinstance(at, datetime) else parse_time(str(at))
    if "kind" in step:
        return _append_step(world, at, step)
    asked = step["read"] if "read" in step else step["expect"]
    question = {name: asked[name] for name in ("recipient", "purpose", "kinds", "exercise") if name in asked}
    if "read" in step:
        return _compare(asked, world.read(at, **question))
    return _compare(asked, world.expect(at, **question, as_of=asked.get("as_of")))


def _check_form(step: Any) -> None:
    """Raises PayloadError with the path of what a step lacks."""
    if not isinstance(step, Mapping):
        raise PayloadError("is no step")
    act = next((name for name in ("kind", "read", "expect") if name in step), None)
    if act is None or "at" not in step:
        raise PayloadError("is missing", path="kind, read or expect" if act is None else "at")
    asked = step.get("data") or {} if act == "kind" else step[act]
    path = "data" if act == "kind" else act
    if not isinstance(asked, Mapping):
        raise PayloadError("is no object", path=path)
    for name in ("recipient", "purpose", "sees") if act != "kind" else ():
        if name not in asked:
            raise PayloadError("is missing", path=f"{path}.{name}")


def _append_step(world: World, at: datetime, step: Mapping[str, Any]) -> tuple[str, str] | None:
    refused = bool(step.get("refused"))
    status = world.append(at, step["kind"], step.get("data") or {}, step.get("id"))
    if refused is (status == "refused"):
        return None
    error = world.last.error if world.last else None
    kind = step["kind"] if packaged().newest(step["kind"]) else "the event"
    return f"{kind} is {'refused' if refused else 'accepted'}", f"{status}{f': {error}' if error else ''}"


def _compare(asked: Mapping[str, Any], got: Sight) -> tuple[str, str] | None:
    wanted = {person: frozenset(map(str, ids)) for person, ids in asked["sees"].items()}
    if got.sees != wanted:
        return f"sees {_words(wanted)}", f"sees {_words(got.sees)}"
    for fact, basis in (asked.get("because") or {}).items():
        [(type_, id_)] = basis.items()
        if got.because.get(fact) != (type_, id_):
            return (
                f"{fact} because of {type_} {id_}",
                f"{fact} because of {' '.join(got.because.get(fact, ('nothing',)))}",
            )
    for fact, level in (asked.get("precision") or {}).items():
        if got.precision.get(fact) != level:
            return f"{fact} at {level}", f"{fact} at {got.precision.get(fact, 'no level')}"
    return None


def _words(sees: Mapping[str, frozenset[str]]) -> str:
    if not sees:
        return "nobody"
    return "; ".join(f"{person}: {', '.join(sorted(ids))}" for person, ids in sorted(sees.items()))
