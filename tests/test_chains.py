"""A chain of reports in a real hub: the same end whatever the order, and the same cost however long it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import event as database_event

from conftest import MORNING, Said, Town
from hub.events import Event

AIZU, KITAKATA = "07202", "07208"
HOUR = timedelta(hours=1)


def warning(at: datetime, levels: dict[str, str], type_: str = "VPWW54", action: str = "issued") -> Event:
    """One of the reports on heavy rain in Fukushima, which are one chain for ever."""
    return Event(
        source="jma",
        id=f"{type_}:{action}:{at.isoformat()}",
        kind="hazard.reported",
        occurred_at=at,
        data={
            "hazard": "heavy_rain",
            "chain": "070000",
            "report": type_,
            "action": action,
            "status": "actual",
            "reported_at": at,
            "areas": [{"area": area, "level": level} for area, level in levels.items()],
        },
    )


def many(count: int, start: datetime = MORNING - 9_000 * HOUR) -> list[Event]:
    """Reports of every hour, up and down."""
    return [warning(start + n * HOUR, {AIZU: "2345"[n % 4], KITAKATA: "0"}) for n in range(count)]


@contextmanager
def steps_of(town: Town) -> Iterator[Callable[[], int]]:
    """How many steps SQLite's machine took, all connections together."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def before(connection: Any, *_: Any) -> None:
        connection.connection.dbapi_connection.set_progress_handler(step, 1)

    engine = town.hub.log.engine
    database_event.listen(engine, "before_cursor_execute", before)
    try:
        yield lambda: steps
    finally:
        database_event.remove(engine, "before_cursor_execute", before)


@pytest.mark.sqlite("it counts the steps of SQLite's machine")
def test_the_next_report_of_a_chain_costs_the_same_after_two_thousand_as_after_twenty(town: Town) -> None:
    reports = many(2_044)
    town.hub.intake.take(reports[:20])
    with steps_of(town) as steps:
        town.hub.intake.take(reports[20:32])
        few = steps()
    town.hub.intake.take(reports[32:2_032])
    with steps_of(town) as steps:
        town.hub.intake.take(reports[2_032:])
        assert steps() < few * 1.5
    assert len(town.views()["chain"]) == 1


def state(town: Town) -> dict[str, tuple[list[str], list[str]]]:
    """Of each emergency what is in force now, and what waits for an officer."""
    with town.hub.log.entries.snapshot() as (connection, head):
        city = town.hub.views.at(connection, head.position).city
    return {
        name: (
            sorted(known.declarations[-1].areas) if known.active(town.now) else [],
            sorted(known.proposed.areas) if known.proposed else [],
        )
        for name, known in city.emergencies.items()
    }


def story() -> list[Event]:
    """Up to level 5, sent in two forms, one cancelled, a part lifted, then level 4."""
    start = MORNING - 10 * HOUR
    return [
        warning(start, {AIZU: "3", KITAKATA: "4"}),
        warning(start + HOUR, {AIZU: "5", KITAKATA: "4"}, "VPWW53"),
        warning(start + HOUR, {AIZU: "5", KITAKATA: "4"}),
        warning(start + 2 * HOUR, {AIZU: "5", KITAKATA: "5"}),
        warning(start + 2 * HOUR + HOUR / 2, {}, action="cancelled"),
        warning(start + 3 * HOUR, {AIZU: "5", KITAKATA: "4"}, "VPWW53"),
        warning(start + 3 * HOUR, {AIZU: "5", KITAKATA: "4"}),
    ]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_a_chain_ends_as_it_should_in_any_order_and_in_batches_of_any_size(town: Town, seed: int, batch: int) -> None:
    random = Random(seed)
    reports = random.sample(story(), len(story()))
    reports += random.choices(reports, k=3)
    for at in range(0, len(reports), batch):
        town.hub.intake.take(reports[at : at + batch])
    assert state(town) == {"heavy_rain:jma:070000": ([AIZU], [AIZU, KITAKATA])}


def test_what_decides_a_chain_follows_from_the_log(town: Town) -> None:
    reports: Sequence[Event] = Random(7).sample(story(), len(story()))
    town.hub.intake.take(reports)
    before = town.views()
    assert len(before["chain"]) == 3
    town.hub.views.rebuild()
    assert town.views() == before
    assert town.hub.audit.verify(views=True).view_rows > 0


def test_a_wrong_date_in_the_future_hides_no_true_warning_after_it(town: Town) -> None:
    report = town.hub.intake.take
    town.wait()
    report([warning(MORNING + 100_000 * HOUR, {AIZU: "5", KITAKATA: "5"})])
    assert state(town) == {"heavy_rain:jma:070000": ([AIZU, KITAKATA], [])}
    town.wait(2 * HOUR)
    report([warning(MORNING + 2 * HOUR, {AIZU: "0", KITAKATA: "5"})])
    assert state(town) == {"heavy_rain:jma:070000": ([KITAKATA], [])}, "lifted where it is over"
    town.wait(1_000 * HOUR)
    report([warning(MORNING + 1_002 * HOUR, {AIZU: "5", KITAKATA: "0"})])
    assert state(town) == {"heavy_rain:jma:070000": ([AIZU], [])}, "declared again, a month later"
    before = town.views()
    town.hub.views.rebuild()
    assert town.views() == before


def test_reports_of_the_next_minute_are_still_told_apart_by_their_serial(town: Town) -> None:
    first, second = (
        replace(one, id=f"s{n}", data={**one.data, "serial": str(n)})
        for n, one in enumerate(
            [warning(MORNING + HOUR / 30, {AIZU: "5"}), warning(MORNING + HOUR / 30, {KITAKATA: "5"})], 1
        )
    )
    town.hub.intake.take([second])
    town.wait()
    town.hub.intake.take([first])
    assert state(town) == {"heavy_rain:jma:070000": ([KITAKATA], [])}


def test_the_commands_say_what_waits_for_an_officer_and_what_is_in_force_where(
    town: Town, hub_main: Callable[..., Said]
) -> None:
    town.wait()
    town.hub.intake.take([warning(MORNING, {AIZU: "5", KITAKATA: "4", "07447": "0"})])
    asked = ("--at", town.now.isoformat(), "--database", town.url)
    [_, areas, waits] = hub_main("emergencies", *asked).out.splitlines()
    assert (areas.split(), waits.split()) == ([AIZU], ["waits", "for", "an", "officer:", KITAKATA])
    [_, places] = hub_main("places", "--kind", "hazard.reported", *asked).out.splitlines()
    assert places.strip() == f"heavy_rain issued; level 5: {AIZU}; level 4: {KITAKATA}"


def test_a_proposal_that_nobody_joined_to_anything_is_said_once(town: Town, hub_main: Callable[..., Said]) -> None:
    town.wait()
    town.hub.intake.take([warning(MORNING, {AIZU: "4"})])
    [first, areas] = hub_main("emergencies", "--at", town.now.isoformat(), "--database", town.url).out.splitlines()
    assert (first.split()[0], areas.split()) == ("proposed", [AIZU])
