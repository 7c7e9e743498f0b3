"""The hub's clock, and the watch over it.

R1's time never goes back, so one leap forward would end every lease for good. While the wall clock is
more than five minutes off the monotonic one, or was more than seven days past the last event at start,
nothing is appended until `hub clock accept`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from hub.errors import Busy

APART = timedelta(seconds=30)
"""How far the clocks of machines over one log may be apart."""

SKEW = timedelta(minutes=5)
"""A lease that ends later than this behind its longest is one of a clock that leapt."""

DRIFT = timedelta(minutes=5)
PAUSE = timedelta(days=7)


class Untrusted(Busy):
    """The time cannot be trusted: nothing is appended until it can be, or an operator says that it is right."""


class Clock(Protocol):
    """Gives the time of the next entry."""

    def now(self) -> datetime:
        """The hub's time, aware UTC."""
        ...

    def compare(self, other: datetime | None) -> None:
        """Raise Untrusted where another machine's clock, which every process looks at, is far from this one."""
        ...

    def watch(self, last: datetime | None, accepted: datetime | None) -> None:
        """Raise Untrusted where the time cannot be trusted.

        last: when the newest entry was recorded. accepted: the clock that an operator accepted last.
        """
        ...


class SetClock:
    """A clock that says what it was set to: for scenarios, tests and the replay of the past."""

    def __init__(self, time: datetime) -> None:
        self._time = time.astimezone(UTC)

    def set(self, time: datetime) -> None:
        """Say `time` from now on."""
        self._time = time.astimezone(UTC)

    def now(self) -> datetime:
        return self._time

    def compare(self, other: datetime | None) -> None:
        """A clock that is set is always trusted."""

    def watch(self, last: datetime | None, accepted: datetime | None) -> None:
        """A clock that is set is always trusted."""


class WatchedClock:
    """The machine's clock, compared with its monotonic one.

    wall: gives aware UTC. monotonic: gives seconds that never leap.
    """

    def __init__(self, wall: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._begun = self._base = wall()
        self._mark = monotonic()
        self._started = False

    def now(self) -> datetime:
        return self._wall()

    def compare(self, other: datetime | None) -> None:
        if other is not None and abs(self._wall() - other) > APART:
            raise Untrusted(
                "this machine's clock and the database's are more than 30 seconds apart; nothing is appended. "
                "Check the time of both"
            )

    def watch(self, last: datetime | None, accepted: datetime | None) -> None:
        if accepted is not None and accepted > self._base:
            self._base, self._mark, self._started = self._wall(), self._monotonic(), True
        if not self._started:
            known = max(time for time in (last, accepted, datetime.min.replace(tzinfo=UTC)) if time is not None)
            if last is not None and self._begun - known > PAUSE:
                raise Untrusted(
                    "the clock is more than seven days past the last event; nothing is appended. "
                    "Check the machine's time, then run: hub clock accept"
                )
            self._started = True
        expected = self._base + timedelta(seconds=self._monotonic() - self._mark)
        if abs(self._wall() - expected) > DRIFT:
            raise Untrusted(
                "the clock has leapt by more than five minutes; nothing is appended. "
                "Check the machine's time, then run: hub clock accept"
            )
