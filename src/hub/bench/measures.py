"""The measures of the parts, over one temporary hub that fills as they go on."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal
from uuid import UUID

from hub.bench.figures import (
    FULL,
    Act,
    Aim,
    Figure,
    Floor,
    Sizes,
    Trial,
    costs_of,
    cpu_seconds,
    jiffies,
    ratio_of,
    slow_end,
    taken_elsewhere,
    value_of,
)
from hub.bench.floors import PAGE, PLAINTEXT_BYTES, Avro, Bare, Sealed, at_once, json_writer, plainly, sync
from hub.bench.http import Doors
from hub.bench.processes import answer_in_a_process, append_for_ever, fill_memory, fresh_process, import_alone
from hub.bench.town import (
    PURPOSE,
    READER,
    RESCUER,
    TIME,
    all_accepted,
    declared,
    enrolled,
    envelope_of,
    granted,
    lifted,
    name_of,
    registered,
)
from hub.disclosure import Answer, Query
from hub.errors import HubError
from hub.events import LOCATION, Event, Position
from hub.hub import Hub
from hub.intake import Result
from hub.log.clock import SetClock
from hub.rules import Moment, Reading
from hub.schemas import packaged


class Bench:
    """One run over one temporary hub, which fills as the measures go on."""

    def __init__(self, folder: Path, sizes: Sizes, say: Callable[[str], None], *, profile: bool) -> None:
        self._folder, self._sizes, self._say, self._profile = folder, sizes, say, profile
        self._path = folder / "hub.sqlite3"
        self._clock = SetClock(TIME)
        self._random = random.Random(1)  # noqa: S311 -- the same city in every run
        self._hub = self._open()
        self._bare = {False: Bare(folder, keyed=False), True: Bare(folder, keyed=True)}
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
        Doors(self._path, self._sizes, self.measure).run()
        self._restart()
        return self.figures

    # How a measure is taken.

    def measure(
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
        alone: bool = True,
    ) -> Figure:
        """Take figure and floors in turns. count: operations in a round; each floor has its own.

        profiled: False where the work is not this thread's, which is all that the profiler sees. alone: False
        where another process does the work, which would be counted among the others.
        """
        self._say(name)
        trials = [("", trial, count), *floors]
        taken: list[list[float]] = [[] for _ in trials]
        cpu = wall = 0.0
        gc.collect()
        before = jiffies()
        for _ in range(rounds or self._sizes.rounds):
            for number, (_, prepare, _) in enumerate(trials):
                act = prepare()
                on_cpu, began = cpu_seconds(), time.perf_counter()
                act()
                seconds = time.perf_counter() - began
                taken[number].append(seconds)
                if number == 0:
                    cpu, wall = cpu + cpu_seconds() - on_cpu, wall + seconds
        values = [
            (value_of(unit, count, statistics.median(found)), value_of(unit, count, slow_end(found)))
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
                Floor(name=named, value=least, ratio=ratio_of(unit, value, least))
                for (named, _, _), (least, _) in zip(trials[1:], rest, strict=True)
            ),
            aim=aim.text if aim else None,
            met=self._met(unit, p95 if judged_by_p95 else value, aim),
            on_cpu=round(cpu / wall, 2) if wall else None,
            elsewhere=taken_elsewhere(before, jiffies()) if alone else None,
            costs=costs_of(trial()) if self._profile and profiled else (),
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
        return all_accepted(self._hub.intake.take(events))

    def _enrolments(self) -> None:
        self._hub.init()
        said = ((READER, "municipality"), (RESCUER, "fire"))
        self._take([registered(recipient, class_) for recipient, class_ in said])
        count, first = self._sizes.enrolled, 0

        def enrolments(_: int) -> list[Event]:
            nonlocal first
            events = [enrolled(number) for number in range(first, first + count)]
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
            self._take([enrolled(number) for number in numbers])
        numbers = range(0 if first == self._sizes.enrolled else first, last)
        for at in range(0, len(numbers), 1_000):
            self._say(f"settling the city: {at:,} of {len(numbers):,} grants and pings")
            self._take([granted(number) for number in numbers[at : at + 1_000]])
            self._take([self._ping(number) for number in numbers[at : at + 1_000]])
        if numbers[0] == 0:
            self._take([granted(0, recipient=RESCUER, modes=["emergency"])])

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
            person=name_of(person),
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
        library = Avro(kind)
        plain = [
            {**ping.data, "lat_deg": str(ping.data["lat_deg"]), "lon_deg": str(ping.data["lon_deg"])} for ping in pings
        ]
        self.measure(
            "schemas: validate and encode a ping",
            "1/s",
            lambda: lambda: [kind.encode(ping.data) for ping in pings],
            count=count,
            floors=[(library.name, lambda: lambda: [library.encode(said) for said in plain], count)],
        )
        self.measure(
            "schemas: decode a ping",
            "1/s",
            lambda: lambda: [kind.decode(record) for record in encoded],
            count=count,
            floors=[(library.name, lambda: lambda: [library.decode(record) for record in encoded], count)],
        )

    def _sealing(self) -> None:
        count, keyring = self._sizes.codec, self._hub.log.keyring
        plaintext, bound_to, subjects = os.urandom(PLAINTEXT_BYTES), os.urandom(40), range(10**9, 10**9 + 100)
        keyring.create(subjects)
        month = 318
        bare = Sealed(100)
        turns = [subjects[number % 100] for number in range(count)]

        def seal() -> list[bytes]:
            return [keyring.seal(s, plaintext, kind=LOCATION, month=month, bound_to=bound_to) for s in turns]

        states = seal()

        def unseal() -> list[bytes]:
            pairs = zip(turns, states, strict=True)
            return [keyring.open(s, state, kind=LOCATION, bound_to=bound_to) for s, state in pairs]

        floors = [("bare AES-256-GCM", lambda: lambda: bare.seal(count), count)]
        self.measure("sealing: seal a ping", "1/s", lambda: seal, count=count, floors=floors)
        floors = [("bare AES-256-GCM", lambda: lambda: bare.open(count), count)]
        self.measure("sealing: open a ping", "1/s", lambda: unseal, count=count, floors=floors)

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
                return lambda: at_once(callers, parts, self._take)
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
        self.measure(name, "1/s", trial, count=count, floors=floors, aim=aim, rounds=rounds, profiled=alone)

    def _syncs(self, count: int) -> Trial:
        """Writes that are durable one by one: what no commit can do without."""

        def act() -> None:
            with open(self._folder / "synced", "wb", buffering=0) as file:
                for _ in range(count):
                    file.write(PAGE)
                    sync(file.fileno())

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
            names = [name_of(number) for number in range(min(1_000, self._sizes.persons))]
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
                [found for grant in policy.grants.values() if plainly(grant, facts[0], now.time) for found in facts]

        floors = [("the same comparisons, bare", lambda: lambda: compare(), len(cases))]
        self.measure(name, "s", lambda: decide, count=len(cases), floors=floors)

    def _everyone(self, limit: int | None = None, cursor: str | None = None) -> Query:
        return Query(recipient=READER, purpose=PURPOSE, kinds=(LOCATION,), limit=limit, cursor=cursor)

    def _one(self, number: int, recipient: str = READER) -> Query:
        named = (self._hub.disclosure.name_of(name_of(number)),)
        return Query(recipient=recipient, purpose=PURPOSE, kinds=(LOCATION,), persons=named)

    def _pages(self) -> None:
        size, queries = self._sizes.page, [self._everyone(limit=self._sizes.page)]
        of = f"a page of {size} persons of {self._sizes.persons:,}"

        def first() -> Act:
            self._reopen()
            return lambda: queries.append(self._turn(queries[0]))

        floors = self._view_floors(size)
        self.measure(f"{of}: the first after a start", "s", first, rounds=1, floors=floors)
        del queries[2:]

        def cold() -> Act:
            return lambda: queries.append(self._turn(queries[-1]))

        def warm() -> Act:
            query = queries[1 + warmed.pop() % (len(queries) - 2)]
            return lambda: self._hub.disclosure.read(query)

        aim = Aim(text="p95 under 20 ms", value=0.020)
        pages = min(self._sizes.pages, self._sizes.persons // size - 3)
        warmed = list(range(pages + 1))
        self.measure(f"{of}: cold", "s", cold, rounds=pages, floors=floors, aim=aim, judged_by_p95=True)
        self.measure(f"{of}: warm", "s", warm, rounds=pages, floors=floors, aim=aim, judged_by_p95=True)

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

        self.measure(f"{name}: cold", "s", cold, rounds=1, floors=floors, aim=aim)
        self.measure(f"{name}: warm", "s", lambda: self._read_all, rounds=self._sizes.views, floors=floors, aim=aim)

    def _read_all(self) -> Answer:
        answer = self._hub.disclosure.read(self._everyone())
        if len(answer.persons) != self._sizes.persons:
            raise HubError("the bench's own view does not show everyone")
        return answer

    def _view_floors(self, count: int) -> list[tuple[str, Trial, int]]:
        """What is left of a view without the hub: the payloads decrypted, the answer written as JSON, and hashed."""
        answer = json.loads(self._hub.disclosure.read(self._everyone(limit=1)).body)
        [person] = answer["persons"]
        answer["persons"] = [{**person, "person": name_of(number)} for number in range(count)]
        sealed, (dumps, library) = Sealed(min(count, 5_000)), json_writer()

        def act() -> None:
            sealed.open(count)
            hashlib.sha256(dumps(answer)).digest()

        return [(f"decrypt and {library} alone", lambda: act, 1)]

    def _declare(self) -> None:
        """Declare an emergency for everyone."""
        self._clock.set(self._clock.now() + timedelta(seconds=1))
        self._emergencies += 1
        self._standing = f"bench-{self._emergencies}"
        self._take([declared(self._standing, self._clock.now() + timedelta(hours=72))])

    def _lift(self) -> None:
        if self._standing:
            self._take([lifted(self._standing)])
        self._standing = ""

    def _emergency(self, persons: int) -> None:
        """From handing in the declaration to the answer of the very next read, which it alone opens."""

        def trial() -> Act:
            self._lift()
            query = self._one(0, RESCUER)
            if self._hub.disclosure.read(query).persons:
                raise HubError("the bench's own emergency grant is open without an emergency")

            def act() -> None:
                self._declare()
                if not self._hub.disclosure.read(query).persons:
                    raise HubError("the read after the declaration does not see it")

            return act

        name = "an emergency declared for all, and the next read"
        floors = [("4 KiB written and synced, twice", self._syncs(2), 1)]
        figure = self.measure(
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
        self.measure(f"replay: a past page of {size}", "s", lambda: repeat(page), floors=self._view_floors(size))
        self.measure(
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
        sealed, envelope = Sealed(min(count, 5_000)), Avro(log.schemas.kind("entry"))
        ping = self._ping(0)
        record = log.schemas.kind(LOCATION).encode(ping.data)
        wrapped = log.schemas.kind("entry").encode(envelope_of(ping, record))
        inner = Avro(log.schemas.kind(LOCATION))

        def scan() -> None:
            with log.entries.snapshot() as (connection, end):
                for _ in log.scan(connection, stop=min(count, end.position)):
                    pass

        def bare() -> None:
            sealed.open(count)
            for _ in range(count):
                envelope.decode(wrapped)
                inner.decode(record)

        self.measure(
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
            with fresh_process(append_for_ever, url, persons) as (process, pipe):
                acknowledged = [pipe.recv() for _ in range(3)][-1]
                process.kill()
                process.join()
            return lambda: answered(acknowledged)

        def answered(acknowledged: int) -> None:
            nonlocal position
            with fresh_process(answer_in_a_process, url, persons) as (_, pipe):
                position = pipe.recv()
            if position < acknowledged:
                raise HubError("something that was acknowledged is gone")

        def imported() -> Act:
            return lambda: import_alone()

        self.measure(
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
        with fresh_process(fill_memory, url, persons, more) as (_, pipe):
            peak = pipe.recv()
        least = import_alone()
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
