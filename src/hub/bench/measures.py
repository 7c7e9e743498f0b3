"""The measures of the parts, over one temporary hub that fills as they go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from hub.answer import Answer, Query
from hub.bench import sources, tokens
from hub.bench.figures import (
    FULL,
    Act,
    Aim,
    Figure,
    Floor,
    Trial,
)
from hub.bench.floors import PLAINTEXT_BYTES, Avro, Sealed, at_once, json_writer, plainly
from hub.bench.http import Doors
from hub.bench.processes import answer_in_a_process, append_for_ever, fill_memory, fresh_process, import_alone
from hub.bench.stage import Stage
from hub.bench.town import (
    READER,
    RESCUER,
    declared,
    enrolled,
    envelope_of,
    lifted,
    name_of,
    registered,
)
from hub.errors import HubError
from hub.events import LOCATION, Event, Position
from hub.rules import Moment, Reading
from hub.schemas import packaged


class Bench(Stage):
    """One run over one temporary hub, which fills as the measures go on."""

    def run(self, *, sources_only: bool = False) -> list[Figure]:
        """Every measure, in an order in which each finds what it needs. sources_only: the connectors alone."""
        try:
            if sources_only:
                sources.measure(self)
                self._hub.close()
                return self.figures
            self._parts()
            Doors(self).run()
            self._restart()
        finally:
            for bare in self.bare.values():
                bare.close()
        return self.figures

    def _parts(self) -> None:
        try:
            self._codec()
            self._sealing()
            tokens.measure(self)
            sources.measure(self)
            self._enrolments()
            self._settle(self.sizes.enrolled, self.sizes.few)
            self._emergency(self.sizes.few)
            self._settle(self.sizes.few, self.sizes.persons)
            self._appends()
            self._decisions()
            self._pages()
            self._full_views()
            self._emergency(self.sizes.persons)
            self._replays()
            self._rebuild()
        finally:
            self._hub.close()

    def _enrolments(self) -> None:
        self._hub.init()
        said = ((READER, "municipality"), (RESCUER, "fire"))
        self._take([registered(recipient, class_) for recipient, class_ in said])
        count, first = self.sizes.enrolled, 0

        def enrolments(_: int) -> list[Event]:
            nonlocal first
            events = [enrolled(number) for number in range(first, first + count)]
            first = self.sizes.persons  # under the profiler: people whom nothing else asks about
            return events

        self._append(f"enrol {count:,} persons in one call", count, 1, make=enrolments, rounds=1)

    # The measures.

    def _codec(self) -> None:
        count, kind = self.sizes.codec, packaged().kind(LOCATION)
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
        count, keyring = self.sizes.codec, self._hub.log.keyring
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
        sizes = self.sizes
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
                self.bare[keyed].follow(start)
                rows = self.bare[keyed].rows(start)
                return lambda: self.bare[keyed].insert(rows, size)

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
            names = [name_of(number) for number in range(min(1_000, self.sizes.persons))]
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

    def _pages(self) -> None:
        size, queries = self.sizes.page, [self._everyone(limit=self.sizes.page)]
        of = f"a page of {size} persons of {self.sizes.persons:,}"

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
        pages = min(self.sizes.pages, self.sizes.persons // size - 3)
        warmed = list(range(pages + 1))
        self.measure(f"{of}: cold", "s", cold, rounds=pages, floors=floors, aim=aim, judged_by_p95=True)
        self.measure(f"{of}: warm", "s", warm, rounds=pages, floors=floors, aim=aim, judged_by_p95=True)

    def _turn(self, query: Query) -> Query:
        """Read a page; the query of the next one."""
        answer = self._hub.disclosure.read(query)
        return replace(query, cursor=json.loads(answer.body)["next"])

    def _full_views(self) -> None:
        name = f"a view of all {self.sizes.persons:,}, an item each"
        floors = self._view_floors(self.sizes.persons)
        aim = Aim(text="under 1 s", value=1.0)

        def cold() -> Act:
            self._reopen()
            return self._read_all

        self.measure(f"{name}: cold", "s", cold, rounds=1, floors=floors, aim=aim)
        self.measure(f"{name}: warm", "s", lambda: self._read_all, rounds=self.sizes.views, floors=floors, aim=aim)

    def _read_all(self) -> Answer:
        answer = self._hub.disclosure.read(self._everyone())
        if len(answer.persons) != self.sizes.persons:
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
                name=f"at {self.sizes.few:,} persons", value=earlier.value, ratio=figure.value / earlier.value
            )
            self.figures[-1] = replace(figure, floors=(*figure.floors, grown))
        self._lift()

    def _replays(self) -> None:
        size = self.sizes.page
        page = self._logged(self._hub.disclosure.read(self._everyone(limit=size)))
        everyone = self._logged(self._read_all())
        self._take(self._pings(self.sizes.more // 10))

        def repeat(position: int) -> Act:
            def act() -> None:
                if not self._hub.audit.repeat(position).same:
                    raise HubError("a replayed answer is not the one that was given")

            return act

        persons = self.sizes.persons
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
        url, persons = self.url, self.sizes.persons
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
            rounds=(self.sizes.rounds + 1) // 2,
            floors=[("a new process that only imports the hub", imported, 1)],
            aim=aim,
            profiled=False,
        )
        self.say("memory")
        more = self.sizes.more
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
