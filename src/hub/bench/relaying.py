"""The relay against the real broker that HUB_KAFKA names: how fast it catches up, how far it is behind, and what an
emergency costs that opens everybody to four recipients at once, and closes them again. A real `hub relay` does the
work, in its own process; at last two of them share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from hub.bench.figures import Figure
from hub.bench.living import Living
from hub.bench.stage import Stage
from hub.bench.town import PURPOSE, declared, enrolled, lifted, name_of, registered
from hub.errors import HubError
from hub.events import LOCATION, Event
from hub.relay.broker import Broker

_RECIPIENTS = tuple(f"department-{number}" for number in range(4))
_CLASS = "municipality"
_A_SECOND, _SECONDS, _BATCH = 5_000, 10, 500
_LONGEST_S = 3_600.0


def measure(stage: Stage, broker: Broker) -> list[Figure]:
    """Every measure of the relay, on the stage's database and on topics of the broker that are new."""
    return _Relaying(stage, broker).run()


class _Relaying(Living):
    def __init__(self, stage: Stage, broker: Broker) -> None:
        super().__init__(stage)
        self._broker, self._random = broker, Random(1)  # noqa: S311 -- the same city in every run
        self._pings = 0

    def run(self) -> list[Figure]:
        try:
            self._settle()
            with self.command("relay"):
                self._backlog()
                self._steady()
                self._streams()
                self._burst("alone")
                with self.command("relay"):
                    self._until(lambda: len({lag.relay for lag in self.hub.relayed.lags()} - {None}) == 2)
                    self._burst("shared")
        finally:
            self.hub.close()
        return self.stage.figures

    def _settle(self) -> None:
        """Persons with a grant for emergencies, to every department, and a ping each."""
        persons, take = self.stage.sizes.persons, self.take
        self.hub.init()
        take([registered(recipient, _CLASS) for recipient in _RECIPIENTS])
        for at in range(0, persons, 1_000):
            self.stage.say(f"settling the city: {at:,} of {persons:,} persons")
            numbers = range(at, min(at + 1_000, persons))
            take([enrolled(number) for number in numbers])
            take([_granted(number) for number in numbers])
            take([self._ping(number) for number in numbers])

    def _backlog(self) -> None:
        self.stage.say("relay: a log that nobody has sent yet")
        end = self.hub.log.entries.max_notification_id() or 0
        began = time.perf_counter()
        self._until(lambda: self._sent("hub.events") >= end)
        self.figure(f"relay: a log of {end:,} entries to hub.events", "1/s", [end / (time.perf_counter() - began)])

    def _steady(self) -> None:
        self.stage.say(f"relay: {_A_SECOND:,} events a second")
        lags: list[float] = []
        began = time.perf_counter()
        for number in range(_A_SECOND * _SECONDS // _BATCH):
            persons = (self._random.randrange(self.stage.sizes.persons) for _ in range(_BATCH))
            self.take([self._ping(person) for person in persons])
            lags.append(max((lag.lag_s for lag in self.hub.relayed.lags()), default=0.0))
            time.sleep(max(0.0, began + (number + 1) * _BATCH / _A_SECOND - time.perf_counter()))
        rate = _A_SECOND * _SECONDS / (time.perf_counter() - began)
        self.figure(f"relay: seconds behind at {rate:,.0f} events/s for {_SECONDS} s", "s", lags)
        end = self.hub.log.entries.max_notification_id() or 0
        began = time.perf_counter()
        self._until(lambda: self._sent("hub.events") >= end)
        self.figure("relay: until everything of these is sent", "s", [time.perf_counter() - began])

    def _streams(self) -> None:
        """Four streams stand and show nobody."""
        self.take([_stream(recipient) for recipient in _RECIPIENTS])
        self._until(lambda: all(self._sent(f"hub.view.{recipient}/all") > 0 for recipient in _RECIPIENTS))

    def _burst(self, name: str) -> None:
        """An emergency opens everybody, and its end takes everybody back."""
        persons, by = f"{self.stage.sizes.persons:,} persons", "" if name == "alone" else ", two relays"
        until = datetime.now(UTC) + timedelta(hours=10)
        self._everybody(f"relay: an emergency opens {persons} to four recipients{by}", declared(name, until))
        self._everybody(f"relay: its end takes {persons} back from four recipients{by}", lifted(name))

    def _everybody(self, name: str, event: Event) -> None:
        """Until each topic has a record more for each person."""
        self.stage.say(name)
        before = {recipient: self._records(recipient) for recipient in _RECIPIENTS}
        began = time.perf_counter()
        self.take([event])
        took: dict[str, float] = {}

        def told() -> bool:
            for recipient in _RECIPIENTS:
                if recipient not in took and self._records(recipient) - before[recipient] >= self.stage.sizes.persons:
                    took[recipient] = time.perf_counter() - began
                    self.stage.say(f"relay: {len(took)} of four recipients have been told of everybody")
            return len(took) == len(_RECIPIENTS)

        self._until(told, look_s=0.5)
        self.figure(name, "s", list(took.values()))

    def _ping(self, person: int) -> Event:
        self._pings += 1
        where = {
            "lat_deg": Decimal(f"37.{self._random.randrange(450_000, 550_000)}"),
            "lon_deg": Decimal(f"139.{self._random.randrange(850_000, 990_000)}"),
            "accuracy_m": 30,
        }
        name, now = f"ping-{self._pings}", datetime.now(UTC)
        return Event(source="myhazard", id=name, kind=LOCATION, person=name_of(person), occurred_at=now, data=where)

    def _sent(self, line: str) -> int:
        return next((lag.position for lag in self.hub.relayed.lags() if lag.name == line), 0)

    def _records(self, recipient: str) -> int:
        return self._broker.written(self._broker.view(recipient))

    def _until(self, there: Callable[[], bool], look_s: float = 0.05) -> None:
        deadline = time.monotonic() + _LONGEST_S
        while not there():
            if time.monotonic() > deadline:
                raise HubError("the relay of the bench did not get there; hub relay --status says why")
            time.sleep(look_s)


def _granted(number: int) -> Event:
    data = {
        "grant": f"emergencies:{number}",
        "to": {"class": _CLASS},
        "kinds": [LOCATION],
        "purposes": [PURPOSE],
        "modes": ["emergency"],
        "data": "latest",
    }
    name = f"consent.granted:emergencies:{number}"
    return Event(source="bench", id=name, kind="consent.granted", person=name_of(number), data=data)


def _stream(recipient: str) -> Event:
    data = {"stream": "all", "recipient": recipient, "purpose": PURPOSE}
    return Event(source="bench", id=f"stream.registered:{recipient}", kind="stream.registered", data=data)
