"""What a renewal of figures for planning costs (R20): in the process that is asked alone, and with `hub derive`."""

from __future__ import annotations

import time
from decimal import Decimal
from random import Random
from typing import Any

from hub.bench.figures import Figure
from hub.bench.living import Living
from hub.bench.stage import Stage
from hub.bench.town import PURPOSE, enrolled, name_of, registered
from hub.events import LOCATION, Event
from hub.statistics import Question

_CLASS, _KINDS = "municipality", (LOCATION, "safety.answered", "evacuation.changed")
_READERS = ("alone", "helped")


def measure(stage: Stage) -> list[Figure]:
    """Both figures, on the stage's database."""
    return _Counting(stage).run()


class _Counting(Living):
    def run(self) -> list[Figure]:
        try:
            self._settle()
            name = f"figures for planning of {self.stage.sizes.persons:,} persons"
            self.stage.say("statistics: one process counts")
            self.figure(f"{name}: one process", "s", [self._renewal("alone")])
            self.stage.say("statistics: with one hub derive beside")
            with self.command("derive"):
                self._renewal(
                    "helped", exercise=True
                )  # it has read by then who granted what, as in every hour but the first
                self.figure(f"{name}: with one hub derive", "s", [self._renewal("helped")])
        finally:
            self.hub.close()
        return self.stage.figures

    def _settle(self) -> None:
        """Persons who granted the class everything that is counted, each with a place, an answer and a shelter."""
        persons, some = self.stage.sizes.persons, Random(1)  # noqa: S311 -- the same city in every run
        self.hub.init()
        self.take([registered(reader, _CLASS) for reader in _READERS])
        for at in range(0, persons, 500):
            self.stage.say(f"settling the city: {at:,} of {persons:,} persons")
            numbers = range(at, min(at + 500, persons))
            self.take([enrolled(number) for number in numbers])
            self.take([_granted(number) for number in numbers])
            self.take([fact for number in numbers for fact in _facts(number, some)])

    def _renewal(self, reader: str, *, exercise: bool = False) -> float:
        question = Question(recipient=reader, purpose=PURPOSE, kind="safety", by="district", exercise=exercise)
        began = time.perf_counter()
        self.hub.statistics.read(question)
        return time.perf_counter() - began


def _granted(number: int) -> Event:
    data = {
        "grant": f"planning:{number}",
        "to": {"class": _CLASS},
        "kinds": list(_KINDS),
        "purposes": [PURPOSE],
        "modes": ["normal", "emergency"],
        "data": "latest",
    }
    name = f"consent.granted:planning:{number}"
    return Event(source="bench", id=name, kind="consent.granted", person=name_of(number), data=data)


def _facts(number: int, some: Random) -> list[Event]:
    where: dict[str, Any] = {
        "lat_deg": Decimal(f"37.{some.randrange(450_000, 550_000)}"),
        "lon_deg": Decimal(f"139.{some.randrange(850_000, 990_000)}"),
        "accuracy_m": 30,
    }
    said: dict[str, Any] = {"status": some.choice(("safe", "injured", "need_help"))}
    moved: dict[str, Any] = {
        "status": "at_shelter",
        "shelter": f"shelter-{some.randrange(40):02}",
        "companions": some.randrange(4),
    }
    person = name_of(number)
    return [
        Event(source="myhazard", id=f"{kind}:{number}", kind=kind, person=person, occurred_at=None, data=data)
        for kind, data in zip(_KINDS, (where, said, moved), strict=True)
    ]
