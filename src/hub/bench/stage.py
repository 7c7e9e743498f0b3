"""The temporary hub that is measured: its city, and how a figure is taken with its floors."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import UUID

from hub.answer import Query
from hub.bench.figures import (
    FULL,
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
from hub.bench.floors import PAGE, Bare, sync
from hub.bench.town import (
    PURPOSE,
    READER,
    RESCUER,
    TIME,
    all_accepted,
    enrolled,
    granted,
    name_of,
)
from hub.events import LOCATION, Event
from hub.hub import Hub
from hub.intake import Result
from hub.log.clock import SetClock
from hub.log.database import parse_url


class Urls(NamedTuple):
    """Where the temporary hub is, and the bare tables beside which it is measured."""

    hub: str
    bare: str
    keyed: str


class Stage:
    """One temporary hub; `figures` fill in the order in which they are taken."""

    def __init__(self, folder: Path, urls: Urls, sizes: Sizes, say: Callable[[str], None], *, profile: bool) -> None:
        self.folder, self.url, self.sizes, self.say, self.profile = folder, urls.hub, sizes, say, profile
        self._clock = SetClock(TIME)
        self._random = random.Random(1)  # noqa: S311 -- the same city in every run
        self._hub = self._open()
        source = parse_url(urls.hub)
        self.bare = {
            False: Bare(parse_url(urls.bare), source, keyed=False),
            True: Bare(parse_url(urls.keyed), source, keyed=True),
        }
        self._emergencies, self._standing = 0, ""
        self.figures: list[Figure] = []
        self.ours: Callable[[], float] = lambda: 0.0
        """Processor seconds so far of processes that are the bench's too, and that still run."""

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
    ) -> Figure:
        """Take figure and floors in turns. count: operations in a round; each floor has its own.

        profiled: False where the work is not this thread's, which is all that the profiler sees.
        """
        self.say(name)
        trials = [("", trial, count), *floors]
        taken: list[list[float]] = [[] for _ in trials]
        cpu = wall = 0.0
        gc.collect()
        before = jiffies(self.ours())
        for _ in range(rounds or self.sizes.rounds):
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
            elsewhere=taken_elsewhere(before, jiffies(self.ours())),
            costs=costs_of(trial()) if self.profile and profiled else (),
        )
        self.figures.append(figure)
        return figure

    def _met(self, unit: str, value: float, aim: Aim | None) -> bool | None:
        """Whether the aim was reached; None where the sizes are not those that it speaks of."""
        if aim is None or aim.value is None or self.sizes.persons < FULL.persons:
            return None
        return value >= aim.value if unit == "1/s" else value <= aim.value

    # The city.

    def _open(self) -> Hub:
        return Hub.open(self.url, self._clock, master=bytes(32))

    def _reopen(self) -> None:
        """A hub that holds nothing in memory, as after a start."""
        self._hub.close()
        self._hub = self._open()

    def _take(self, events: Sequence[Event]) -> list[Result]:
        return all_accepted(self._hub.intake.take(events))

    def _settle(self, first: int, last: int) -> None:
        """Enrol persons, with a grant and a ping each. Their keys are made beforehand, a thousand a transaction."""
        for at in range(first, last, 1_000):
            self.say(f"settling the city: {at:,} of {last:,} persons")
            numbers = range(at, min(at + 1_000, last))
            ordinal = len(self._hub.views.persons) + 1
            self._hub.log.keyring.create(range(ordinal, ordinal + len(numbers)))
            self._take([enrolled(number) for number in numbers])
        numbers = range(0 if first == self.sizes.enrolled else first, last)
        for at in range(0, len(numbers), 1_000):
            self.say(f"settling the city: {at:,} of {len(numbers):,} grants and pings")
            self._take([granted(number) for number in numbers[at : at + 1_000]])
            self._take([self._ping(number) for number in numbers[at : at + 1_000]])
        if numbers[0] == 0:
            self._take([granted(0, recipient=RESCUER, modes=["emergency"])])

    def _ping(self, number: int | None = None) -> Event:
        some = self._random
        person = some.randrange(self.sizes.persons) if number is None else number
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

    def _syncs(self, count: int) -> Trial:
        """Writes that are durable one by one: what no commit can do without."""

        def act() -> None:
            with open(self.folder / "synced", "wb", buffering=0) as file:
                for _ in range(count):
                    file.write(PAGE)
                    sync(file.fileno())

        return lambda: act

    def _end(self) -> int:
        return self._hub.log.entries.max_notification_id() or 0

    def _everyone(self, limit: int | None = None, cursor: str | None = None) -> Query:
        return Query(recipient=READER, purpose=PURPOSE, kinds=(LOCATION,), limit=limit, cursor=cursor)

    def _one(self, number: int, recipient: str = READER) -> Query:
        named = (self._hub.disclosure.name_of(name_of(number)),)
        return Query(recipient=recipient, purpose=PURPOSE, kinds=(LOCATION,), persons=named)
