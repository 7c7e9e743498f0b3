"""What this machine gives, each figure beside a floor that was measured in the same run.

A floor is the least that the work costs here without the hub: the same rows in a bare table, the same bytes
through a bare cipher. Figure and floors take turns, round by round, so that a busy machine slows both and the
ratio between them stays honest. The sizes are parameters; nothing here is ever asserted on a clock.
"""

from __future__ import annotations

import cProfile
import gc
import hashlib
import json
import math
import multiprocessing
import os
import platform
import pstats
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from importlib.metadata import version
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from sqlalchemy import Engine

from hub.disclosure import Answer, Query
from hub.errors import HubError
from hub.events import LOCATION, Event, Position
from hub.hub import Hub
from hub.intake import Result
from hub.log.clock import SetClock
from hub.log.database import open_database
from hub.rules import FactRow, Moment, Reading
from hub.schemas import Kind, packaged


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is measured.

    persons: enrolled, each with one grant and one ping. few: enrolled when the first emergency is declared.
    enrolled: how many are enrolled in one call, for that figure. codec: pings encoded or sealed a round.
    singles: events a round that are appended one a call, by one caller and by `callers` at once. small, large: events
    in a batch. smalls, larges: batches a round. page: persons on one. pages: how many are read, cold and warm. views:
    full views, warm. more: pings that a process takes in for the figure of memory.
    """

    persons: int = 50_000
    few: int = 1_000
    enrolled: int = 200
    codec: int = 4_000
    singles: int = 300
    callers: int = 16
    small: int = 100
    smalls: int = 10
    large: int = 1_000
    larges: int = 3
    rounds: int = 5
    page: int = 100
    pages: int = 20
    views: int = 2
    more: int = 10_000


FULL = Sizes()
QUICK = Sizes(
    persons=2_000,
    few=500,
    enrolled=50,
    codec=1_000,
    singles=50,
    smalls=3,
    larges=1,
    rounds=2,
    pages=5,
    views=1,
    more=2_000,
)

_TIME = datetime(2026, 6, 1, tzinfo=UTC)
_READER, _RESCUER, _PURPOSE = "aizu-city", "fire-brigade", "rescue"
_CITY = "07202"
_COSTS = 14

Act = Callable[[], object]
Trial = Callable[[], Act]
"""Prepares one round, and gives what is timed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """What DESIGN aims at: in words, and as a number of the figure's unit where the two can be compared."""

    text: str
    value: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """What the work costs without the hub. ratio: how many times as much the figure costs."""

    name: str
    value: float
    ratio: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One function under the profiler: seconds with and without what it calls, as shares of the whole."""

    function: str
    calls: int
    cumulative: float
    own: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measure: the median of its rounds. p95: the slow end, which is the slowest where rounds are few.

    on_cpu: its share of one core meanwhile; well under 1 it waited, for the disk or for a core.
    elsewhere: the share of the machine that other processes took; None where the system does not say.
    """

    name: str
    unit: Literal["1/s", "s", "MB"]
    value: float
    p95: float
    rounds: int
    floors: tuple[Floor, ...]
    aim: str | None
    met: bool | None
    on_cpu: float | None
    elsewhere: float | None
    costs: tuple[Cost, ...] = field(default=())


def run(*, quick: bool, profile: bool, as_json: bool, sizes: Sizes | None = None) -> None:
    """Measure on a temporary hub, and print: the machine, the command, and each figure with its floors.

    profile: take each measure once more under the profiler, and say what costs what.
    """
    sizes = sizes or (QUICK if quick else FULL)
    command = " ".join(["hub bench", *(["--quick"] if quick else []), *(["--profile"] if profile else [])])
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder, _progress() as say:
        machine = _machine(Path(folder))
        figures = _Bench(Path(folder), sizes, say, profile=profile).run()
        machine["load_after"] = _load()
    seconds = time.perf_counter() - begun
    if as_json:
        said = {
            "command": command,
            "machine": machine,
            "sizes": asdict(sizes),
            "seconds": round(seconds, 1),
            "figures": [asdict(figure) for figure in figures],
        }
        sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join(_told(command, machine, sizes, seconds, figures)) + "\n")


class _Bench:
    """One run over one temporary hub, which fills as the measures go on."""

    def __init__(self, folder: Path, sizes: Sizes, say: Callable[[str], None], *, profile: bool) -> None:
        self._folder, self._sizes, self._say, self._profile = folder, sizes, say, profile
        self._path = folder / "hub.sqlite3"
        self._clock = SetClock(_TIME)
        self._random = random.Random(1)  # noqa: S311 -- the same city in every run
        self._hub = self._open()
        self._bare = {False: _Bare(folder, keyed=False), True: _Bare(folder, keyed=True)}
        self._emergencies, self._standing = 0, ""
        self.figures: list[Figure] = []

    def run(self) -> list[Figure]:
        """Every measure, in an order in which each finds what it needs."""
        try:
            self._codec()
            self._sealing()
            self._enrolments()
            self._settle(self._sizes.enrolled, self._sizes.few)
            self._emergency(self._sizes.few)
            self._settle(self._sizes.few, self._sizes.persons)
            self._appends()
            self._decisions()
            self._pages()
            self._full_views()
            self._emergency(self._sizes.persons)
            self._replays()
            self._rebuild()
        finally:
            self._hub.close()
            for bare in self._bare.values():
                bare.close()
        self._restart()
        return self.figures

    # How a measure is taken.

    def _measure(
        self,
        name: str,
        unit: Literal["1/s", "s"],
        trial: Trial,
        *,
        count: int = 1,
        floors: Iterable[tuple[str, Trial, int]] = (),
        aim: Aim | None = None,
        rounds: int | None = None,
        judged_by_p95: bool = False,
        profiled: bool = True,
    ) -> Figure:
        """Take figure and floors in turns. count: operations in a round; each floor has its own.

        profiled: False where the work is not this thread's, which is all that the profiler sees.
        """
        self._say(name)
        trials = [("", trial, count), *floors]
        taken: list[list[float]] = [[] for _ in trials]
        cpu = wall = 0.0
        gc.collect()
        before = _jiffies()
        for _ in range(rounds or self._sizes.rounds):
            for number, (_, prepare, _) in enumerate(trials):
                act = prepare()
                on_cpu, began = _cpu_seconds(), time.perf_counter()
                act()
                seconds = time.perf_counter() - began
                taken[number].append(seconds)
                if number == 0:
                    cpu, wall = cpu + _cpu_seconds() - on_cpu, wall + seconds
        values = [
            (_value(unit, count, statistics.median(found)), _value(unit, count, _p95(found)))
            for (_, _, count), found in zip(trials, taken, strict=True)
        ]
        (value, p95), *rest = values
        figure = Figure(
            name=name,
            unit=unit,
            value=value,
            p95=p95,
            rounds=len(taken[0]),
            floors=tuple(
                Floor(name=named, value=least, ratio=_ratio(unit, value, least))
                for (named, _, _), (least, _) in zip(trials[1:], rest, strict=True)
            ),
            aim=aim.text if aim else None,
            met=self._met(unit, p95 if judged_by_p95 else value, aim),
            on_cpu=round(cpu / wall, 2) if wall else None,
            elsewhere=_elsewhere(before, _jiffies()),
            costs=_costs(trial()) if self._profile and profiled else (),
        )
        self.figures.append(figure)
        return figure

    def _met(self, unit: str, value: float, aim: Aim | None) -> bool | None:
        """Whether the aim was reached; None where the sizes are not those that it speaks of."""
        if aim is None or aim.value is None or self._sizes.persons < FULL.persons:
            return None
        return value >= aim.value if unit == "1/s" else value <= aim.value

    # The city.

    def _open(self) -> Hub:
        return Hub.open(f"sqlite:///{self._path}", self._clock, master=bytes(32))

    def _reopen(self) -> None:
        """A hub that holds nothing in memory, as after a start."""
        self._hub.close()
        self._hub = self._open()

    def _take(self, events: Sequence[Event]) -> list[Result]:
        return _accepted(self._hub.intake.take(events))

    def _enrolments(self) -> None:
        self._hub.init()
        said = ((_READER, "municipality"), (_RESCUER, "fire"))
        self._take([_registered(recipient, class_) for recipient, class_ in said])
        count, first = self._sizes.enrolled, 0

        def enrolments(_: int) -> list[Event]:
            nonlocal first
            events = [_enrolled(number) for number in range(first, first + count)]
            first = self._sizes.persons  # under the profiler: people whom nothing else asks about
            return events

        self._append(f"enrol {count:,} persons in one call", count, 1, make=enrolments, rounds=1)

    def _settle(self, first: int, last: int) -> None:
        """Enrol persons, with a grant and a ping each. Their keys are made beforehand, a thousand a transaction."""
        for at in range(first, last, 1_000):
            self._say(f"settling the city: {at:,} of {last:,} persons")
            numbers = range(at, min(at + 1_000, last))
            ordinal = len(self._hub.views.persons) + 1
            self._hub.log.keyring.create(range(ordinal, ordinal + len(numbers)))
            self._take([_enrolled(number) for number in numbers])
        numbers = range(0 if first == self._sizes.enrolled else first, last)
        for at in range(0, len(numbers), 1_000):
            self._say(f"settling the city: {at:,} of {len(numbers):,} grants and pings")
            self._take([_granted(number) for number in numbers[at : at + 1_000]])
            self._take([self._ping(number) for number in numbers[at : at + 1_000]])
        if numbers[0] == 0:
            self._take([_granted(0, recipient=_RESCUER, modes=["emergency"])])

    def _ping(self, number: int | None = None) -> Event:
        some = self._random
        person = some.randrange(self._sizes.persons) if number is None else number
        data = {
            "lat_deg": Decimal(f"37.{some.randrange(450_000, 550_000)}"),
            "lon_deg": Decimal(f"139.{some.randrange(850_000, 990_000)}"),
            "accuracy_m": some.randrange(30, 500) / 10,
        }
        return Event(
            source="myhazard",
            id=str(UUID(int=some.getrandbits(128))),
            kind=LOCATION,
            person=_name(person),
            occurred_at=self._clock.now(),
            data=data,
        )

    def _pings(self, count: int) -> list[Event]:
        self._clock.set(self._clock.now() + timedelta(seconds=1))
        return [self._ping() for _ in range(count)]

    # The measures.

    def _codec(self) -> None:
        count, kind = self._sizes.codec, packaged().kind(LOCATION)
        pings = [self._ping(0) for _ in range(count)]
        encoded = [kind.encode(ping.data) for ping in pings]
        library = _Avro(kind)
        plain = [
            {**ping.data, "lat_deg": str(ping.data["lat_deg"]), "lon_deg": str(ping.data["lon_deg"])} for ping in pings
        ]
        self._measure(
            "schemas: validate and encode a ping",
            "1/s",
            lambda: lambda: [kind.encode(ping.data) for ping in pings],
            count=count,
            floors=[(library.name, lambda: lambda: [library.encode(said) for said in plain], count)],
        )
        self._measure(
            "schemas: decode a ping",
            "1/s",
            lambda: lambda: [kind.decode(record) for record in encoded],
            count=count,
            floors=[(library.name, lambda: lambda: [library.decode(record) for record in encoded], count)],
        )

    def _sealing(self) -> None:
        count, keyring = self._sizes.codec, self._hub.log.keyring
        plaintext, bound_to, subjects = os.urandom(_PLAINTEXT_BYTES), os.urandom(40), range(10**9, 10**9 + 100)
        keyring.create(subjects)
        month = 318
        bare = _Sealed(100)
        turns = [subjects[number % 100] for number in range(count)]

        def seal() -> list[bytes]:
            return [keyring.seal(s, plaintext, kind=LOCATION, month=month, bound_to=bound_to) for s in turns]

        states = seal()

        def unseal() -> list[bytes]:
            pairs = zip(turns, states, strict=True)
            return [keyring.open(s, state, kind=LOCATION, bound_to=bound_to) for s, state in pairs]

        floors = [("bare AES-256-GCM", lambda: lambda: bare.seal(count), count)]
        self._measure("sealing: seal a ping", "1/s", lambda: seal, count=count, floors=floors)
        floors = [("bare AES-256-GCM", lambda: lambda: bare.open(count), count)]
        self._measure("sealing: open a ping", "1/s", lambda: unseal, count=count, floors=floors)

    def _appends(self) -> None:
        sizes = self._sizes
        batches = Aim(text="50,000/s", value=50_000)
        self._append(f"append: batches of {sizes.large:,} pings", sizes.large, sizes.larges, aim=batches)
        self._append(f"append: batches of {sizes.small:,} pings", sizes.small, sizes.smalls, aim=batches)
        single = Aim(text="10,000/s by HTTP", value=10_000)
        self._append("append: one ping a call", 1, sizes.singles)
        self._append(
            f"append: one ping a call, {sizes.callers} callers", 1, sizes.singles, callers=sizes.callers, aim=single
        )
        # last: afterwards memory holds the keys of few, and an append that has to fetch one is another figure
        first = f"append: {sizes.large:,} pings, the first batch after a start"
        self._append(first, sizes.large, 1, after_start=True, rounds=(sizes.rounds + 1) // 2)

    def _append(
        self,
        name: str,
        size: int,
        batches: int,
        *,
        callers: int = 1,
        after_start: bool = False,
        aim: Aim | None = None,
        make: Callable[[int], list[Event]] | None = None,
        rounds: int | None = None,
    ) -> None:
        """Append `batches` calls of `size` events (pings); as floors the very rows that they wrote, in bare tables."""
        start = 0

        def trial() -> Act:
            nonlocal start
            if after_start:
                self._reopen()
                self._hub.disclosure.read(self._one(0))
            start = self._end()
            parts = [(make or self._pings)(size) for _ in range(batches)]
            if callers > 1:
                return lambda: _at_once(callers, parts, self._take)
            return lambda: [self._take(part) for part in parts]

        def floor(keyed: bool) -> Trial:
            def prepare() -> Act:
                self._bare[keyed].follow(self._path, start)
                rows = self._bare[keyed].rows(self._path, start)
                return lambda: self._bare[keyed].insert(rows, size)

            return prepare

        count = size * batches
        floors = [
            ("the same rows, keyed by position", floor(False), count),
            ("the same rows, and a random 16-byte key", floor(True), count),
        ]
        if size == 1:
            floors.append(("4 KiB written and synced", self._syncs(batches), batches))
        alone = callers == 1
        self._measure(name, "1/s", trial, count=count, floors=floors, aim=aim, rounds=rounds, profiled=alone)

    def _syncs(self, count: int) -> Trial:
        """Writes that are durable one by one: what no commit can do without."""

        def act() -> None:
            with open(self._folder / "synced", "wb", buffering=0) as file:
                for _ in range(count):
                    file.write(_PAGE)
                    _sync(file.fileno())

        return lambda: act

    def _end(self) -> int:
        return self._hub.log.entries.max_notification_id() or 0

    def _decisions(self) -> None:
        self._decision("one decision, in peacetime")
        self._declare()
        self._decision("one decision, in an emergency")
        self._lift()

    def _decision(self, name: str) -> None:
        """One person at a time: all that is open, and which facts that shows. Everything it needs is in memory."""
        with self._hub.log.entries.snapshot() as (connection, end):
            now = Moment(position=Position(end.position), time=self._clock.now())
            standing = self._hub.views.at(connection, end.position)
            names = [_name(number) for number in range(min(1_000, self._sizes.persons))]
            ordinals = [ordinal for name in names if (ordinal := self._hub.views.persons.ordinal(name))]
            policies, places = standing.policies(ordinals), standing.places(ordinals)
            newest = self._hub.views.facts.newest(
                connection, ordinals, standing.city.kinds[LOCATION], False, end.position
            )
            spent = standing.spent(policies.items())
        reading = Reading(standing.city, self._everyone().ask, now)
        cases = [(policies[o], places[o], newest[o]) for o in ordinals]

        def decide() -> None:
            for policy, place, facts in cases:
                decision = reading.decide(policy, place, spent)
                if decision is None or not reading.visible(decision, LOCATION, facts, lambda _: True):
                    raise HubError("the bench's own grant opens nothing")

        def compare() -> None:
            for policy, _, facts in cases:
                [found for grant in policy.grants.values() if _plainly(grant, facts[0], now.time) for found in facts]

        floors = [("the same comparisons, bare", lambda: lambda: compare(), len(cases))]
        self._measure(name, "s", lambda: decide, count=len(cases), floors=floors)

    def _everyone(self, limit: int | None = None, cursor: str | None = None) -> Query:
        return Query(recipient=_READER, purpose=_PURPOSE, kinds=(LOCATION,), limit=limit, cursor=cursor)

    def _one(self, number: int, recipient: str = _READER) -> Query:
        named = (self._hub.disclosure.name_of(_name(number)),)
        return Query(recipient=recipient, purpose=_PURPOSE, kinds=(LOCATION,), persons=named)

    def _pages(self) -> None:
        size, queries = self._sizes.page, [self._everyone(limit=self._sizes.page)]
        of = f"a page of {size} persons of {self._sizes.persons:,}"

        def first() -> Act:
            self._reopen()
            return lambda: queries.append(self._turn(queries[0]))

        floors = self._view_floors(size)
        self._measure(f"{of}: the first after a start", "s", first, rounds=1, floors=floors)
        del queries[2:]

        def cold() -> Act:
            return lambda: queries.append(self._turn(queries[-1]))

        def warm() -> Act:
            query = queries[1 + warmed.pop() % (len(queries) - 2)]
            return lambda: self._hub.disclosure.read(query)

        aim = Aim(text="p95 under 20 ms", value=0.020)
        pages = min(self._sizes.pages, self._sizes.persons // size - 3)
        warmed = list(range(pages + 1))
        self._measure(f"{of}: cold", "s", cold, rounds=pages, floors=floors, aim=aim, judged_by_p95=True)
        self._measure(f"{of}: warm", "s", warm, rounds=pages, floors=floors, aim=aim, judged_by_p95=True)

    def _turn(self, query: Query) -> Query:
        """Read a page; the query of the next one."""
        answer = self._hub.disclosure.read(query)
        return replace(query, cursor=json.loads(answer.body)["next"])

    def _full_views(self) -> None:
        name = f"a view of all {self._sizes.persons:,}, an item each"
        floors = self._view_floors(self._sizes.persons)
        aim = Aim(text="under 1 s", value=1.0)

        def cold() -> Act:
            self._reopen()
            return self._read_all

        self._measure(f"{name}: cold", "s", cold, rounds=1, floors=floors, aim=aim)
        self._measure(f"{name}: warm", "s", lambda: self._read_all, rounds=self._sizes.views, floors=floors, aim=aim)

    def _read_all(self) -> Answer:
        answer = self._hub.disclosure.read(self._everyone())
        if len(answer.persons) != self._sizes.persons:
            raise HubError("the bench's own view does not show everyone")
        return answer

    def _view_floors(self, count: int) -> list[tuple[str, Trial, int]]:
        """What is left of a view without the hub: the payloads decrypted, the answer written as JSON, and hashed."""
        answer = json.loads(self._hub.disclosure.read(self._everyone(limit=1)).body)
        [person] = answer["persons"]
        answer["persons"] = [{**person, "person": _name(number)} for number in range(count)]
        sealed, (dumps, library) = _Sealed(min(count, 5_000)), _json()

        def act() -> None:
            sealed.open(count)
            hashlib.sha256(dumps(answer)).digest()

        return [(f"decrypt and {library} alone", lambda: act, 1)]

    def _declare(self) -> None:
        """Declare an emergency for everyone."""
        self._clock.set(self._clock.now() + timedelta(seconds=1))
        self._emergencies += 1
        self._standing = f"bench-{self._emergencies}"
        self._take([_declared(self._standing, self._clock.now() + timedelta(hours=72))])

    def _lift(self) -> None:
        if self._standing:
            self._take([_lifted(self._standing)])
        self._standing = ""

    def _emergency(self, persons: int) -> None:
        """From handing in the declaration to the answer of the very next read, which it alone opens."""

        def trial() -> Act:
            self._lift()
            query = self._one(0, _RESCUER)
            if self._hub.disclosure.read(query).persons:
                raise HubError("the bench's own emergency grant is open without an emergency")

            def act() -> None:
                self._declare()
                if not self._hub.disclosure.read(query).persons:
                    raise HubError("the read after the declaration does not see it")

            return act

        name = "an emergency declared for all, and the next read"
        floors = [("4 KiB written and synced, twice", self._syncs(2), 1)]
        figure = self._measure(
            f"{name}: {persons:,} persons", "s", trial, floors=floors, aim=Aim(text="does not grow with people")
        )
        earlier = next((f for f in self.figures[:-1] if f.name.startswith(name)), None)
        if earlier is not None:
            grown = Floor(
                name=f"at {self._sizes.few:,} persons", value=earlier.value, ratio=figure.value / earlier.value
            )
            self.figures[-1] = replace(figure, floors=(*figure.floors, grown))
        self._lift()

    def _replays(self) -> None:
        size = self._sizes.page
        page = self._logged(self._hub.disclosure.read(self._everyone(limit=size)))
        everyone = self._logged(self._read_all())
        self._take(self._pings(self._sizes.more // 10))

        def repeat(position: int) -> Act:
            def act() -> None:
                if not self._hub.audit.repeat(position).same:
                    raise HubError("a replayed answer is not the one that was given")

            return act

        persons = self._sizes.persons
        self._measure(f"replay: a past page of {size}", "s", lambda: repeat(page), floors=self._view_floors(size))
        self._measure(
            f"replay: a past view of all {persons:,}",
            "s",
            lambda: repeat(everyone),
            rounds=1,
            floors=self._view_floors(persons),
        )

    def _logged(self, answer: Answer) -> int:
        if answer.position is None:
            raise HubError("the bench's own read was not logged")
        return answer.position

    def _rebuild(self) -> None:
        entries, log = self._end(), self._hub.log
        count = min(entries, 20_000)
        sealed, envelope = _Sealed(min(count, 5_000)), _Avro(log.schemas.kind("entry"))
        ping = self._ping(0)
        record = log.schemas.kind(LOCATION).encode(ping.data)
        wrapped = log.schemas.kind("entry").encode(_envelope(ping, record))
        inner = _Avro(log.schemas.kind(LOCATION))

        def scan() -> None:
            with log.entries.snapshot() as (connection, end):
                for _ in log.scan(connection, stop=min(count, end.position)):
                    pass

        def bare() -> None:
            sealed.open(count)
            for _ in range(count):
                envelope.decode(wrapped)
                inner.decode(record)

        self._measure(
            f"rebuild: all views of {entries:,} entries",
            "1/s",
            lambda: self._hub.views.rebuild,
            count=entries,
            rounds=1,
            floors=[
                ("opening each entry, as the hub does", lambda: scan, count),
                (f"decrypt and {envelope.name}", lambda: bare, count),
            ],
            aim=Aim(text="100,000/s", value=100_000),
        )

    # What needs a process of its own.

    def _restart(self) -> None:
        """Kill a hub while it appends, and time a new process up to its first answer."""
        url, persons = f"sqlite:///{self._path}", self._sizes.persons
        aim = Aim(text="under 2 s, nothing acknowledged lost", value=2.0)
        position = 0

        def killed() -> Act:
            nonlocal position
            with _process(_append_for_ever, url, persons) as (process, pipe):
                acknowledged = [pipe.recv() for _ in range(3)][-1]
                process.kill()
                process.join()
            return lambda: answered(acknowledged)

        def answered(acknowledged: int) -> None:
            nonlocal position
            with _process(_answer, url, persons) as (_, pipe):
                position = pipe.recv()
            if position < acknowledged:
                raise HubError("something that was acknowledged is gone")

        def imported() -> Act:
            return lambda: _alone()

        self._measure(
            "restart after kill -9: a new process, to its first answer",
            "s",
            killed,
            rounds=(self._sizes.rounds + 1) // 2,
            floors=[("a new process that only imports the hub", imported, 1)],
            aim=aim,
            profiled=False,
        )
        self._say("memory")
        more = self._sizes.more
        with _process(_fill_memory, url, persons, more) as (_, pipe):
            peak = pipe.recv()
        least = _alone()
        self.figures.append(
            Figure(
                name=f"memory: peak after a full view and {more:,} pings, {position:,} entries",
                unit="MB",
                value=peak,
                p95=peak,
                rounds=1,
                floors=(Floor(name="a process that only imports the hub", value=least, ratio=peak / least),),
                aim="under 500 MB at 5 M events",
                met=False if peak > 500 and persons >= FULL.persons else None,
                on_cpu=None,
                elsewhere=None,
            )
        )


# What is said to the hub.


def _accepted(results: list[Result]) -> list[Result]:
    refused = next((result for result in results if result.status != "accepted"), None)
    if refused is not None:
        raise HubError(f"the bench's own events were not accepted: {refused.error or refused.status}")
    return results


def _name(number: int) -> str:
    return f"person-{number:06}"


def _control(kind: str, id: str, data: dict[str, Any], person: str | None = None) -> Event:
    return Event(source="bench", id=f"{kind}:{id}", kind=kind, person=person, data=data)


def _registered(recipient: str, class_: str) -> Event:
    data = {"recipient": recipient, "class": class_, "areas": [_CITY], "purposes": [_PURPOSE]}
    return _control("recipient.registered", recipient, data)


def _enrolled(number: int) -> Event:
    return _control("person.enrolled", str(number), {"areas": [_CITY]}, _name(number))


def _granted(number: int, recipient: str = _READER, modes: Sequence[str] = ("normal", "emergency")) -> Event:
    data = {
        "grant": f"{recipient}:{number}",
        "to": {"recipient": recipient},
        "kinds": [LOCATION],
        "purposes": [_PURPOSE],
        "modes": list(modes),
        "data": "latest",
    }
    return _control("consent.granted", data["grant"], data, _name(number))  # type: ignore[arg-type]


def _declared(emergency: str, until: datetime) -> Event:
    data = {"emergency": emergency, "areas": [_CITY], "until": until, "hazard": "earthquake"}
    return _control("emergency.declared", emergency, data)


def _lifted(emergency: str) -> Event:
    return _control("emergency.lifted", emergency, {"emergency": emergency})


def _envelope(event: Event, record: bytes) -> dict[str, Any]:
    return {
        "source": event.source,
        "id": event.id,
        "person": event.person,
        "occurred_at": event.occurred_at,
        "received_at": event.occurred_at,
        "exercise": False,
        "data": record,
    }


# Floors.

_PAGE = os.urandom(4096)
_PLAINTEXT_BYTES = 130
_sync = getattr(os, "fdatasync", os.fsync)


class _Bare:
    """The log's rows in a bare table, with the hub's own pragmas; with `keyed`, a random key in a table beside it."""

    _COLUMNS = "position, recorded_us, subject, identity, identity_version, claim, topic, state, leaf"

    def __init__(self, folder: Path, *, keyed: bool) -> None:
        self._keyed = keyed
        self._engine: Engine = open_database(folder / f"bare-{keyed}.sqlite3")
        self._pooled = self._engine.raw_connection()
        self._raw: sqlite3.Connection = self._pooled.driver_connection  # type: ignore[assignment]
        self._raw.execute(f"CREATE TABLE log ({self._COLUMNS.replace('position', 'position INTEGER PRIMARY KEY')})")
        self._raw.execute("CREATE TABLE identity (digest BLOB PRIMARY KEY, position INTEGER) WITHOUT ROWID")
        self._position = 0

    def follow(self, source: Path, end: int) -> None:
        """Take over what the hub's log holds up to `end`, so that both are of one size."""
        self.insert(self.rows(source, self._position, end), 10_000)

    def rows(self, source: Path, after: int, end: int = 2**62) -> list[tuple[Any, ...]]:
        """Rows of the hub's log, as they stand."""
        reader = sqlite3.connect(source)
        try:
            query = f"SELECT {self._COLUMNS} FROM log WHERE position > ? AND position <= ? ORDER BY position"  # noqa: S608
            return reader.execute(query, (after, end)).fetchall()
        finally:
            reader.close()

    def insert(self, rows: Sequence[tuple[Any, ...]], size: int) -> None:
        """Insert rows, `size` a transaction."""
        raw = self._raw
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", part)
            if self._keyed:
                keys = sorted((row[3], row[0]) for row in part)
                raw.executemany("INSERT INTO identity VALUES (?, ?)", keys)
            raw.execute("COMMIT")
        self._position = rows[-1][0] if rows else self._position

    def close(self) -> None:
        """Close the database."""
        self._pooled.close()
        self._engine.dispose()


class _Sealed:
    """Payloads of a ping's size under keys of their own, through the bare cipher."""

    def __init__(self, persons: int) -> None:
        self._ciphers = [AESGCM(os.urandom(32)) for _ in range(persons)]
        self._plaintext, self._bound_to = os.urandom(_PLAINTEXT_BYTES), os.urandom(40)
        self._boxes = [(cipher, nonce, box) for cipher in self._ciphers for nonce, box in [self._box(cipher)]]

    def _box(self, cipher: AESGCM) -> tuple[bytes, bytes]:
        nonce = os.urandom(12)
        return nonce, cipher.encrypt(nonce, self._plaintext, self._bound_to)

    def seal(self, count: int) -> None:
        """Seal `count` payloads."""
        ciphers = self._ciphers
        for number in range(count):
            self._box(ciphers[number % len(ciphers)])

    def open(self, count: int) -> None:
        """Open `count` payloads."""
        boxes, bound_to = self._boxes, self._bound_to
        for number in range(count):
            cipher, nonce, box = boxes[number % len(boxes)]
            cipher.decrypt(nonce, box, bound_to)


class _Avro:
    """The Avro library that a kind's codec is held against: fastavro, else the hub's own codec again."""

    def __init__(self, kind: Kind) -> None:
        fastavro, io = _optional("fastavro"), import_module("io")
        self.name = "fastavro" if fastavro else "the hub's codec (fastavro is not installed)"
        self.encode: Callable[[Any], bytes] = kind.encode
        self.decode: Callable[[bytes], Any] = kind.decode
        if fastavro:
            schema = fastavro.parse_schema(dict(kind.schema))

            def encode(said: Any) -> bytes:
                out = io.BytesIO()
                fastavro.schemaless_writer(out, schema, said)
                return out.getvalue()  # type: ignore[no-any-return]

            self.encode = encode
            self.decode = lambda record: fastavro.schemaless_reader(io.BytesIO(record), schema, None)


def _optional(name: str) -> Any:
    """A library that makes a better floor, where it is installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def _json() -> tuple[Callable[[Any], bytes], str]:
    msgspec = _optional("msgspec")
    if msgspec:
        return msgspec.json.encode, "msgspec"
    return lambda said: json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode(), "json"


def _plainly(grant: Any, fact: FactRow, time: datetime) -> bool:
    """Whether a grant shows a fact, without a rule's trimmings."""
    return (
        grant.to.recipient == _READER
        and _PURPOSE in grant.purposes
        and LOCATION in grant.kinds
        and "normal" in grant.modes
        and grant.start <= time
        and (grant.until is None or time < grant.until)
        and time - fact.effective_at < timedelta(days=14)
    )


# Other threads and processes.


def _at_once(callers: int, parts: Sequence[Sequence[Event]], take: Callable[[Sequence[Event]], object]) -> None:
    """Hand `parts` in from several threads."""
    failed: list[BaseException] = []

    def work(mine: Sequence[Sequence[Event]]) -> None:
        try:
            for part in mine:
                take(part)
        except BaseException as error:  # told by the thread that waits
            failed.append(error)

    threads = [threading.Thread(target=work, args=(parts[number::callers],)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@contextmanager
def _process(target: Callable[..., None], *args: Any) -> Iterator[tuple[Any, Pipe]]:
    """A fresh Python process, and the end of a pipe to it; it is gone afterwards."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    except EOFError:
        raise HubError("a process of the bench ended before it answered; what it said stands above") from None
    finally:
        process.kill()
        process.join()
        ours.close()


def _alone() -> float:
    """The peak memory, in MB, of a process that only imports the hub."""
    with _process(_import) as (_, pipe):
        return float(pipe.recv())


def _import(pipe: Pipe) -> None:
    pipe.send(_peak_mb())


def _opened(url: str) -> tuple[Hub, SetClock]:
    clock = SetClock(_TIME + timedelta(days=1))
    return Hub.open(url, clock, master=bytes(32)), clock


def _a_ping(number: int) -> Event:
    data = {"lat_deg": Decimal("37.4948"), "lon_deg": Decimal("139.9298"), "accuracy_m": 12.0}
    person = _name(number)
    return Event(
        source=f"killed-{os.getpid()}", id=str(UUID(bytes=os.urandom(16))), kind=LOCATION, person=person, data=data
    )


def _append_for_ever(pipe: Pipe, url: str, persons: int) -> None:
    hub, _ = _opened(url)
    while True:
        results = hub.intake.take([_a_ping(number) for number in range(min(100, persons))])
        pipe.send(_accepted(results)[-1].position)


def _first_answer(hub: Hub) -> int:
    named = (hub.disclosure.name_of(_name(1)),)
    answer = hub.disclosure.read(Query(recipient=_READER, purpose=_PURPOSE, kinds=(LOCATION,), persons=named))
    return answer.position or 0


def _answer(pipe: Pipe, url: str, persons: int) -> None:
    hub, _ = _opened(url)
    pipe.send(_first_answer(hub))


def _fill_memory(pipe: Pipe, url: str, persons: int, more: int) -> None:
    hub, _ = _opened(url)
    hub.disclosure.read(Query(recipient=_READER, purpose=_PURPOSE, kinds=(LOCATION,)))
    hub.intake.take([_a_ping(number % persons) for number in range(more)])
    pipe.send(_peak_mb())


def _peak_mb() -> float:
    """The most memory that this process ever held; a child's `ru_maxrss` would begin with its parent's."""
    try:
        status = Path("/proc/self/status").read_text()
        [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(kib) / 1024
    except (OSError, ValueError):
        resource = import_module("resource")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak) / (1024**2 if sys.platform == "darwin" else 1024)


# Numbers.


def _value(unit: str, count: int, seconds: float) -> float:
    return count / max(seconds, 1e-9) if unit == "1/s" else seconds / count


def _ratio(unit: str, value: float, least: float) -> float:
    """How many times the floor the figure costs."""
    return least / value if unit == "1/s" else value / least


def _cpu_seconds() -> float:
    """Of this process, and of its children that have ended."""
    return time.process_time() + sum(os.times()[2:4])


def _p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[math.ceil(len(seconds) * 0.95) - 1]


def _costs(act: Act) -> tuple[Cost, ...]:
    """The functions that cost most, with what they call."""
    profiler = cProfile.Profile()
    profiler.runcall(act)
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in stats.values())
    rows = [
        Cost(
            function=_function(*name),
            calls=calls,
            cumulative=round(min(1.0, cumulative / total), 3),
            own=round(own / total, 3),
        )
        for name, (_, calls, own, cumulative, _) in stats.items()
        if not name[0].endswith(("bench.py", "contextlib.py")) and total
    ]
    return tuple(sorted(rows, key=lambda row: -row.cumulative)[:_COSTS])


def _function(file: str, line: int, name: str) -> str:
    if file == "~":
        return name.strip("<>")
    parts = Path(file).parts
    return f"{'/'.join(parts[-2:])}:{line} {name}"


# The machine.


def _load() -> list[float]:
    return [round(number, 2) for number in os.getloadavg()]


def _jiffies() -> tuple[float, float, float] | None:
    """Seconds so far, over all cores: all, busy, and of these our own and our children's."""
    try:
        ticks = [int(part) for part in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    hertz, own = os.sysconf("SC_CLK_TCK"), os.times()
    return sum(ticks) / hertz, (sum(ticks) - ticks[3] - ticks[4]) / hertz, sum(own[:4])


def _elsewhere(before: tuple[float, float, float] | None, after: tuple[float, float, float] | None) -> float | None:
    if before is None or after is None or after[0] <= before[0]:
        return None
    every, busy, own = (now - then for now, then in zip(after, before, strict=True))
    return round(min(1.0, max(0.0, (busy - own) / every)), 2)


def _machine(folder: Path) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "sqlalchemy": version("sqlalchemy"),
        "cryptography": version("cryptography"),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(folder),
        "load_before": _load(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return f"{said['model name']} ({float(said['cpu MHz']) / 1000:.1f} GHz)"
    except (OSError, KeyError, ValueError):
        return platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str:
    """The kind of file system that the temporary hub stands on; on a tmpfs a sync costs nothing."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    resolved = folder.resolve()
    inside = [(where, kind) for where, kind in mounts if resolved.is_relative_to(where)]
    return max(inside, key=lambda mount: len(mount[0]))[1] if inside else "unknown"


# What is printed.


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says on standard error what is being measured: a line that moves on a terminal, else a line each."""
    console, began = Console(stderr=True), time.perf_counter()
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
        return
    last = ""

    def say(what: str) -> None:
        nonlocal last
        if what.partition(":")[0] == "settling the city" and last == "settling the city":
            return
        last = what.partition(":")[0]
        sys.stderr.write(f"{time.perf_counter() - began:6.1f} s  {what}\n")
        sys.stderr.flush()

    yield say


def _told(
    command: str, machine: dict[str, Any], sizes: Sizes, seconds: float, figures: Sequence[Figure]
) -> Iterator[str]:
    yield f"{command}: {sizes.persons:,} persons, {seconds:.0f} s"
    before, after = (" ".join(map(str, machine[name])) for name in ("load_before", "load_after"))
    yield f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    yield f"{machine['kernel']}, {machine['filesystem']}"
    yield (
        f"Python {machine['python']}, SQLite {machine['sqlite']}, SQLAlchemy {machine['sqlalchemy']}, "
        f"cryptography {machine['cryptography']}"
    )
    yield f"load average before {before}, after {after}"
    yield ""
    yield f"{'':62}{'measured':>10} {'p95':>10} {'× floor':>8} {'others':>7}  aim"
    for figure in figures:
        yield from _lines(figure)
    yield ""
    yield "p95: the slow end of the rounds. × floor: what it costs, in times of the floor. others: the share of the"
    yield "machine that other processes took meanwhile."
    for figure in figures:
        if figure.costs:
            yield from _spent(figure)


def _lines(figure: Figure) -> Iterator[str]:
    others = "" if figure.elsewhere is None else f"{figure.elsewhere:.0%}"
    verdict = {True: ": met", False: ": missed", None: ""}[figure.met]
    aim = f"{figure.aim}{verdict}" if figure.aim else ""
    value, p95 = _number(figure.unit, figure.value), _number(figure.unit, figure.p95)
    yield f"{figure.name:<62}{value:>10} {p95:>10} {'':>8} {others:>7}  {aim}".rstrip()
    for floor in figure.floors:
        yield f"  {floor.name:<60}{_number(figure.unit, floor.value):>10} {'':>10} {floor.ratio:>8.1f}"


def _spent(figure: Figure) -> Iterator[str]:
    yield ""
    yield f"{figure.name}: what costs what"
    yield f"  {'with what it calls':>18} {'alone':>7} {'calls':>10}"
    for cost in figure.costs:
        yield f"  {cost.cumulative:>18.1%} {cost.own:>7.1%} {cost.calls:>10,}  {cost.function}"


def _number(unit: str, value: float) -> str:
    if unit == "1/s":
        return f"{value:,.0f}/s"
    if unit == "MB":
        return f"{value:,.0f} MB"
    for scale, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * scale >= 1 or name == "µs":
            return f"{value * scale:,.{2 if value * scale < 10 else 0}f} {name}"
    raise AssertionError
