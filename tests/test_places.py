"""Places that are reported in lists: a whole list ends what it no longer names, in whatever order issues come."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from conftest import Said, Town
from hub.events import Event

DAY = datetime(2026, 5, 1, 9, 0, tzinfo=UTC)
Issue = dict[str, int]


def issue(day: int, people: Issue, *, listed: int | None = None, **changes: object) -> list[Event]:
    """One issue of the list of open shelters: people by shelter. listed: how many it says it names."""
    time = DAY + timedelta(days=day)
    data = {"list": "open:07202", "listed": len(people) if listed is None else listed, **changes}
    return [
        Event(
            source="shelters",
            id=f"{data['list']}:{day}:{shelter}:{count}:{data['listed']}",
            kind="shelter.reported",
            occurred_at=time,
            data={"shelter": shelter, "people": count, **data},
        )
        for shelter, count in people.items()
    ]


def take(town: Town, events: list[Event]) -> None:
    town.wait()
    results = town.hub.intake.take(events)
    assert {result.status for result in results} <= {"accepted", "duplicate"}, [str(r.error) for r in results]


def people(town: Town, **asked: Any) -> Issue:
    rows = town.hub.directory.places("shelter.reported", **asked)
    return {row["data"]["shelter"]: row["data"]["people"] for row in rows}


def test_a_whole_list_ends_what_it_no_longer_names(town: Town) -> None:
    take(town, issue(1, {"a": 10, "b": 5}))
    then = town.now
    take(town, issue(2, {"a": 12}))
    assert people(town) == {"a": 12}
    assert people(town, time=then) == {"a": 10, "b": 5}
    assert len(town.hub.directory.places("shelter.reported", history=True)) == 3


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_in_whatever_order_issues_come_each_day_stands_as_its_own_issue_says(
    town: Town, order: tuple[int, ...]
) -> None:
    said: list[Issue] = [{"a": 10, "b": 5}, {"a": 12}, {"a": 11, "c": 1}]
    for day in (*order, *order):
        take(town, issue(day, said[day]))
    assert people(town) == said[2]
    for day, expected in enumerate(said):
        assert people(town, on=DAY + timedelta(days=day)) == expected
    assert people(town, on=DAY - timedelta(seconds=1)) == {}


def test_a_list_of_which_a_row_is_missing_ends_nothing_until_the_row_is_mended(town: Town) -> None:
    take(town, issue(1, {"a": 10, "b": 5}))
    take(town, issue(2, {"a": 12}, listed=2))
    assert people(town) == {"a": 12, "b": 5}
    take(town, issue(2, {"c": 3}, listed=1))
    assert people(town) == {"a": 12, "c": 3}


def test_what_an_older_whole_list_ended_stays_ended_while_a_newer_one_is_not_whole(town: Town) -> None:
    take(town, issue(1, {"a": 10, "b": 5, "z": 9}))
    take(town, issue(2, {"a": 12, "b": 6}))
    take(town, issue(3, {"a": 13}, listed=2))
    assert people(town) == {"a": 13, "b": 6}


def test_one_id_in_two_lists_is_two_places_and_neither_ends_the_other(town: Town) -> None:
    take(town, issue(1, {"NEW001": 10}))
    take(town, issue(2, {"NEW001": 7, "b": 1}, list="open:17202"))
    rows = [row["data"] for row in town.hub.directory.places("shelter.reported")]
    same = sorted((row["list"], row["people"]) for row in rows if row["shelter"] == "NEW001")
    assert same == [("open:07202", 10), ("open:17202", 7)]


def test_a_report_in_no_list_is_ended_by_none(town: Town) -> None:
    town.tell("shelter.reported", shelter="alone", people=4)
    take(town, issue(1, {"a": 10}))
    assert people(town) == {"a": 10, "alone": 4}


def test_a_drill_s_list_ends_nothing_real(town: Town) -> None:
    take(town, issue(1, {"a": 10, "b": 5}))
    town.wait()
    drill = Event(
        source="shelters",
        id="drill",
        kind="shelter.reported",
        occurred_at=DAY + timedelta(days=2),
        exercise=True,
        data={"shelter": "a", "people": 99, "list": "open:07202", "listed": 1},
    )
    town.hub.intake.take([drill])
    rows = town.hub.directory.places("shelter.reported")
    assert {(row["data"]["shelter"], row["exercise"]) for row in rows} == {("a", True), ("a", False), ("b", False)}


def test_the_command_line_tells_a_past_day_by_what_came_in_later(town: Town, hub_main: Any) -> None:
    take(town, issue(2, {"a": 12}))
    take(town, issue(1, {"a": 10, "b": 5}))
    asked = ("places", "--kind", "shelter.reported", "--database", town.url, "--json")
    shown = json.loads(hub_main(*asked, "--on", (DAY + timedelta(days=1)).isoformat()).out)
    assert {row["data"]["shelter"]: row["data"]["people"] for row in shown} == {"a": 10, "b": 5}
    assert hub_main(*asked, "--on", "yesterday").status == 2


def test_the_command_says_of_each_shelter_its_name_and_how_many_are_there(
    town: Town, hub_main: Callable[..., Said]
) -> None:
    take(town, issue(1, {"a": 10}, name="山王小学校", status="open") + issue(1, {"b": 5}, list="open:07208", listed=1))
    lines = hub_main("places", "--kind", "shelter.reported", "--database", town.url).out.splitlines()
    assert sorted(line.strip() for line in lines[1::2]) == ["b, 5 people", "山王小学校, open, 10 people"]
