"""Several processes over one log: what one could not finish another does; what one destroyed no other uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as NoConnection

from conftest import Town
from hub.answer import Query
from hub.errors import Busy
from hub.hub import Hub
from hub.log.clock import APART, WatchedClock
from hub.log.sealing import Gone
from hub.web.tail import Tail

HERE = {"lat_deg": 37.49, "lon_deg": 139.93, "accuracy_m": 5}


@pytest.fixture
def two(town: Town, open_town: Callable[[Path], Any]) -> Any:
    """A town with someone in it, and another process's hub over the same log."""
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("location.reported", person="hanako", **HERE)
    with open_town(town.folder) as other:
        other.clock.set(town.now)
        yield town, other


def key_of(town: Town, person: str) -> int:
    with town.hub.log.entries.snapshot() as (connection, end):
        town.hub.views.at(connection, end.position)
    ordinal = town.hub.views.persons.ordinal(person)
    assert ordinal is not None
    return ordinal


def test_an_erasure_that_one_process_could_not_finish_is_finished_by_another(
    two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    town, other = two
    ordinal = key_of(town, "hanako")

    def away(subject: int) -> None:
        raise Busy("the keys' database does not answer")

    monkeypatch.setattr(town.hub.log.keyring, "erase", away)
    with pytest.raises(Busy):
        town.tell("person.erased", person="hanako")
    assert town.hub.commits.unsure
    assert other.hub.log.keyring.held([ordinal]) == [ordinal]
    other.hub.finish()
    assert other.hub.log.keyring.held([ordinal]) == []
    monkeypatch.undo()
    town.hub.finish()
    assert not town.hub.commits.unsure


def test_a_key_that_another_process_destroyed_leaves_memory(two: Any) -> None:
    town, other = two
    ordinal = key_of(other, "hanako")
    other.hub.log.keyring.load([ordinal])
    town.tell("person.erased", person="hanako")
    key_of_all = other.hub.log.keyring._persons
    with other.hub.log.entries.snapshot() as (connection, end):
        other.hub.views.at(connection, end.position)
    key_of_all[ordinal] = bytes(32)  # read again, as by a scan, before the other had destroyed it
    other.hub.renew()
    assert ordinal not in key_of_all
    with pytest.raises(Gone):
        other.hub.log.keyring.secret(ordinal, "item")


def test_a_key_that_another_process_destroyed_leaves_the_memory_of_one_that_does_nothing(two: Any) -> None:
    town, other = two
    ordinal = key_of(other, "hanako")
    other.hub.log.keyring.load([ordinal])
    town.tell("person.erased", person="hanako")
    other.hub.renew()
    assert ordinal not in other.hub.log.keyring._persons


@pytest.mark.parametrize("reload", [20_000, 0])
def test_an_auditor_is_told_nothing_of_whom_another_process_erased(
    two: Any, monkeypatch: pytest.MonkeyPatch, reload: int
) -> None:
    """However far behind the auditor's process is, also where it reads while the key is not destroyed yet."""
    town, other = two
    erase = town.hub.log.keyring.erase
    assert told_of(other.hub, "hanako")
    monkeypatch.setattr("hub.views.views._RELOAD", reload)

    def destroy(subject: int) -> None:
        assert not told_of(other.hub, "hanako")
        erase(subject)

    monkeypatch.setattr(town.hub.log.keyring, "erase", destroy)
    town.tell("person.erased", person="hanako")
    assert not told_of(other.hub, "hanako")


def told_of(hub: Hub, person: str) -> list[Any]:
    """The entries about a person that an auditor reads."""
    return [row for row in hub.audit.events(limit=1_000) if row["state"] == "open" and row["person"] == person]


def test_an_export_under_way_ends_where_another_process_erases(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    town, other = two
    monkeypatch.setattr("hub.citizen.citizen._AT_ONCE", 1)
    rows = other.hub.citizen.export("hanako")
    assert "data" in next(rows)
    town.tell("person.erased", person="hanako")
    assert [row.get("destroyed") for row in rows] == ["erased"]


def test_an_auditor_finds_who_was_enrolled_and_shown_by_another_process(two: Any) -> None:
    town, other = two
    terms = {"class": "municipality", "areas": ["07"], "purposes": ["rescue"]}
    town.tell("recipient.registered", recipient="aizu-city", **terms)
    town.tell("person.enrolled", person="taro", areas=["07202"])
    granted = {"to": {"recipient": "aizu-city"}, "kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"]}
    town.tell("consent.granted", person="taro", grant="g", **granted)
    town.tell("safety.answered", person="taro", status="safe")
    shown = town.read("aizu-city", "rescue")
    assert [row["disclosure"] for row in other.hub.audit.trace(person="taro")] == [shown.disclosure]


def test_a_feed_that_is_decided_while_another_process_erases_shows_nothing_and_does_not_fail(two: Any) -> None:
    town, other = two
    terms = {"class": "municipality", "areas": ["07"], "purposes": ["rescue"]}
    town.tell("recipient.registered", recipient="aizu-city", **terms)
    granted = {"to": {"recipient": "aizu-city"}, "kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"]}
    town.tell("consent.granted", person="hanako", grant="g", **granted)
    town.tell("safety.answered", person="hanako", status="safe")
    told = other.hub.feeds.advance(Query(recipient="aizu-city", purpose="rescue"), None)
    assert b"hanako" in told.body
    erased = []

    def meanwhile(*said: Any) -> None:
        if said[2].startswith("SELECT held.feed") and not erased:  # it is decided who is shown, and not told yet
            erased.append(town.tell("person.erased", person="hanako"))
            other.hub.renew()

    event.listen(other.hub.log.engine, "after_cursor_execute", meanwhile)
    told = other.hub.feeds.advance(Query(recipient="aizu-city", purpose="rescue"), None)
    assert erased
    assert b"hanako" not in told.body


def test_who_reads_while_the_directory_is_read_anew_misses_nobody(town: Town) -> None:
    """As of a process that is far behind: another of its threads decides meanwhile."""
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    persons, seen = town.hub.views.persons, []

    def meanwhile(*_: object) -> None:
        seen.append(persons.ordinal("hanako"))

    with town.hub.log.entries.snapshot() as (connection, _):
        event.listen(connection, "after_cursor_execute", meanwhile)
        persons.load(connection)
    assert seen == [1]


def test_who_reads_while_a_month_is_dropped_from_memory_is_not_held_up(town: Town) -> None:
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    places = [town.tell("location.reported", person="hanako", **HERE) for _ in range(2)]
    views = town.hub.views

    def meanwhile(*_: object) -> None:
        views.forget()

    with town.hub.log.entries.snapshot() as (connection, _):
        before = views.meshes(connection, places[:1])
        event.listen(connection, "after_cursor_execute", meanwhile)
        assert set(views.meshes(connection, places).values()) == set(before.values())
    assert views._meshes == {}


def test_a_machine_whose_clock_is_far_from_the_databases_appends_nothing(town: Town) -> None:
    clock = WatchedClock(town.clock.now, lambda: 0.0)
    clock.compare(None)
    clock.compare(town.now + APART)
    for apart in (APART + timedelta(seconds=1), -APART - timedelta(seconds=1)):
        with pytest.raises(Busy, match="apart"):
            clock.compare(town.now + apart)


def test_a_location_and_what_is_judged_by_it_may_come_in_one_batch(town: Town) -> None:
    town.tell("person.enrolled", person="hanako", areas=["07203"])
    until = town.now + timedelta(hours=5)
    town.tell("emergency.declared", emergency="e1", areas=["07202"], until=until, hazard="flood")
    town.wait()
    events = [
        town.event("location.reported", "l1", person="hanako", **HERE),
        town.event("safety.answered", "s1", person="hanako", status="safe", exercise=True),
    ]
    [ping, drill] = town.hub.intake.take(events)
    assert ping.status == "accepted"
    assert drill.status == "refused", "she is where the emergency is since the ping before it"
    assert "R17" in str(drill.error.rule)  # type: ignore[union-attr]


def test_a_look_at_the_log_that_fails_is_followed_by_the_next() -> None:
    looks: list[int] = []

    def look(after: int) -> tuple[int, bool]:
        looks.append(after)
        if len(looks) == 1:
            raise NoConnection("no connection was free")
        return 7, True

    async def watched() -> int:
        tail = Tail(look)
        running = asyncio.create_task(tail.run(lambda: True))
        await tail.grown(0, 30)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        return tail.position

    assert asyncio.run(watched()) == 7
    assert looks[:2] == [0, 0]
