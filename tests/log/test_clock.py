"""The watch over the clock: a leap stops appends until an operator accepts it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hub.errors import Busy
from hub.log.clock import SetClock, WatchedClock
from hub.scenario import World, flat_event

NOON = datetime(2026, 6, 1, 3, tzinfo=UTC)


class Machine:
    """A machine's two clocks, set by the test."""

    def __init__(self) -> None:
        self.wall, self.monotonic = NOON, 1_000.0

    def pass_(self, seconds: float, *, leap_s: float = 0) -> None:
        self.wall += timedelta(seconds=seconds + leap_s)
        self.monotonic += seconds

    def clock(self) -> WatchedClock:
        return WatchedClock(lambda: self.wall, lambda: self.monotonic)


def test_time_that_passes_evenly_is_trusted() -> None:
    machine = Machine()
    clock = machine.clock()
    for _ in range(10):
        machine.pass_(3 * 86_400)
        clock.watch(machine.wall - timedelta(days=3), None)


@pytest.mark.parametrize("leap_s", [301, -301, 10 * 365 * 86_400])
def test_a_leap_of_more_than_five_minutes_stops_appends_until_it_is_accepted(leap_s: float) -> None:
    machine = Machine()
    clock = machine.clock()
    clock.watch(NOON, None)
    machine.pass_(60, leap_s=leap_s)
    with pytest.raises(Busy, match="hub clock accept"):
        clock.watch(NOON, None)
    if leap_s > 0:
        clock.watch(NOON, machine.wall)


@pytest.mark.parametrize("leap_s", [299, -299])
def test_a_small_step_is_trusted(leap_s: float) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.pass_(60, leap_s=leap_s)
    clock.watch(NOON, None)


def test_a_start_more_than_seven_days_after_the_last_event_waits_for_an_operator() -> None:
    machine = Machine()
    week = NOON - timedelta(days=7)
    machine.clock().watch(week, None)
    clock = machine.clock()
    with pytest.raises(Busy, match="seven days"):
        clock.watch(week - timedelta(seconds=1), None)
    machine.clock().watch(week - timedelta(seconds=1), NOON - timedelta(hours=1))


def test_nothing_is_appended_while_the_clock_is_not_trusted() -> None:
    with World.fresh() as world:
        world.append(NOON - timedelta(days=8), "kind.introduced", {"kind": "safety.answered"})
        machine = Machine()
        world.hub.log.entries.clock = machine.clock()
        introduced = flat_event("kind.introduced", {"kind": "survey.answered"}, "k2")
        with pytest.raises(Busy, match="hub clock accept"):
            world.hub.intake.take([introduced])
        assert world.hub.log.entries.max_notification_id() == 1
        world.hub.log.entries.accept_clock()
        assert world.hub.intake.take([introduced])[0].position == 2


def test_a_clock_that_is_set_is_always_trusted() -> None:
    SetClock(NOON).watch(NOON - timedelta(days=400), None)
