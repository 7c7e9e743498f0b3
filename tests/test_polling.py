"""Sources that are asked: resuming, backing off, showing how they stand; over real HTTP."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from conftest import Town
from hub import polling
from hub.connector import Misuse, Pulled, Settings, Unavailable
from hub.errors import Busy, Tampered
from hub.fetching import Fetcher
from hub.hub import introductions
from hub.plugins import Plugins, Setting
from hub.polling import FIRST_S, LEASE
from hub.quarantine import KEPT, Refusal
from hub.web.quarantine import translator
from sources import Source, install, source
from walks import ONE, bringing

SECRET = "s3cret-of-the-source"


def page(*ids: str, next: str | None = None, last: str = "end", status: str = "safe") -> Callable[[str], Any]:
    records = [{"id": name, "user": "u1", "status": status} for name in ids]
    return lambda path: (200, {}, json.dumps({"records": records, "next": next, "last": last}).encode())


def failing(status: int, **headers: str) -> Callable[[str], Any]:
    return lambda path: (status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def hung_up(path: str) -> Any:
    return None


def cut(path: str) -> Any:
    return (200, {}, b'{"records": [], "last": "end"}', 10)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    install(monkeypatch, tmp_path / "path", "village")
    towns: list[Town] = []

    def open_(here: Source) -> Town:
        settings = Settings(secrets={"token": SECRET})
        plugins = Plugins({"village": Setting(url=here.url, every_s=60, settings=settings)})
        town = Town(tmp_path / f"town{len(towns)}", plugins)
        town.hub.init()
        town.tell("person.enrolled", person="hanako", areas=["07202"])
        town.tell("identity.linked", person="hanako", source="village", ref="u1")
        towns.append(town)
        return town

    yield open_
    for town in towns:
        town.close()


def ids(town: Town) -> list[str]:
    rows = town.hub.audit.events(after=0)
    return [row["id"] for row in rows if row["kind"] == "safety.answered"]


def test_all_pages_are_taken_and_the_next_round_goes_on_where_it_was(opened: Any) -> None:
    with source(page("a", "b", next="2"), page("c", last="3"), page("d", last="4")) as here:
        town = opened(here)
        first = town.hub.polling.ask("village")
        town.reopen()
        second = town.hub.polling.ask("village")
    assert (first.pages, first.accepted, first.error) == (2, 3, None)
    assert (second.pages, second.accepted) == (1, 1)
    assert here.asked == ["/api/records?from=0", "/api/records?from=2", "/api/records?from=3"]
    assert ids(town) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("failure", [failing(503), failing(500), hung_up, cut], ids=["503", "500", "gone", "cut"])
def test_a_source_that_vanishes_in_the_middle_is_asked_again_from_there(opened: Any, failure: Any) -> None:
    with source(page("a", next="2"), failure, page("b")) as here:
        town = opened(here)
        done = town.hub.polling.ask("village")
        assert (done.pages, done.accepted) == (1, 1)
        assert "the source" in done.error
        again = town.hub.polling.ask("village")
    assert (again.error, again.accepted) == (None, 1)
    assert here.asked[1:] == ["/api/records?from=2"] * 2
    assert ids(town) == ["a", "b"]


def test_pages_that_come_twice_and_out_of_order_double_nothing(opened: Any) -> None:
    with source(page("b", next="2"), page("a", "b", next="3"), page("a")) as here:
        town = opened(here)
        assert town.hub.polling.ask("village").accepted == 2
    assert sorted(ids(town)) == ["a", "b"]


def test_it_waits_twice_as_long_after_each_failure_and_once_it_works_no_more(opened: Any) -> None:
    with source(failing(503), failing(503), failing(503), page("a")) as here:
        town = opened(here)
        waits = [town.hub.polling.ask("village").again_s for _ in range(3)]
        assert [FIRST_S * 2**n <= wait <= FIRST_S * 2**n * 1.25 for n, wait in enumerate(waits)] == [True] * 3
        [standing] = town.hub.polling.standings()
        assert (standing.failures, standing.lag_s) == (3, None)
        assert standing.error == "the source answers 503"
        assert town.hub.polling.due_s("village") == pytest.approx(waits[2])
        town.hub.polling.wake("village")
        assert town.hub.polling.due_s("village") > 0, "a source that fails is not hurried"
        assert town.hub.polling.ask("village").again_s == 60
    [standing] = town.hub.polling.standings()
    assert (standing.failures, standing.error, standing.lag_s) == (0, None, 0)
    town.wait(timedelta(hours=2))
    assert town.hub.polling.standings()[0].lag_s == 7200
    town.hub.polling.wake("village")
    assert town.hub.polling.due_s("village") == 0


def test_what_is_fully_pulled_is_not_behind_however_old_its_newest_record_is(opened: Any) -> None:
    def old(path: str) -> Any:
        return (200, {}, b'{"records": [], "last": "9", "up_to": "2026-01-01T00:00:00Z"}')

    with source(old, failing(503)) as here:
        town = opened(here)
        town.hub.polling.ask("village")
        assert town.hub.polling.standings()[0].lag_s == 0
        town.wait(timedelta(minutes=10))
        town.hub.polling.ask("village")
        [standing] = town.hub.polling.standings()
        assert (standing.failures, standing.lag_s) == (1, 600)


def test_facts_that_wait_for_a_link_are_counted(opened: Any) -> None:
    with source(page("a", "b")) as here:
        town = opened(here)
        town.tell("identity.unlinked", person="hanako", source="village", ref="u1")
        assert town.hub.polling.ask("village").refused == 2, "severed: not taken at all"
    other = lambda path: (200, {}, b'{"records": [{"id": "c", "user": "u2", "status": "safe"}], "last": "1"}')  # noqa: E731
    with source(other) as here:
        assert opened(here).hub.polling.ask("village").waiting == 1


def test_it_waits_at_least_as_long_as_the_source_asks_for(opened: Any) -> None:
    dated = failing(429, Retry_After="Mon, 01 Jun 2026 01:00:00 GMT", Date="Mon, 01 Jun 2026 00:00:00 GMT")
    with source(failing(429, Retry_After="700"), dated) as here:
        town = opened(here)
        assert town.hub.polling.ask("village").again_s == 700
        assert 3600 - 2 <= town.hub.polling.ask("village").again_s <= 3600


def test_a_wrong_secret_is_told_without_the_secret(opened: Any) -> None:
    with source(failing(401)) as here:
        town = opened(here)
        done = town.hub.polling.ask("village")
    assert done.error == "the source answers 401: see the secret or token, and what it may do there"
    assert here.headers[0]["x-token"] == SECRET
    assert SECRET not in here.asked[0] + done.error


def test_what_is_refused_of_a_page_is_kept_and_the_rest_goes_on(opened: Any) -> None:
    with source(page("a", next="2", status="fine"), page("b")) as here:
        town = opened(here)
        done = town.hub.polling.ask("village")
    assert (done.pages, done.accepted, done.refused) == (2, 1, 1)
    [item] = town.hub.quarantine.items()
    assert (item.via, item.source, item.path) == ("poll:village", "village", "status")


def test_a_page_that_could_not_be_kept_is_not_passed_over(opened: Any) -> None:
    def huge(path: str) -> Any:
        return (200, {}, b'{"records": 1, "next": null, "last": "9", "more": "' + b"x" * 1024 * 1024 + b'"}')

    with source(huge) as here:
        town = opened(here)
        done = town.hub.polling.ask("village")
        town.hub.polling.ask("village")
    assert "than can be kept" in done.error
    assert here.asked == ["/api/records?from=0"] * 2


@pytest.fixture
def room_for_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.quarantine.MOST_OF_A_SOURCE", 3)
    monkeypatch.setattr("hub.payloads.MOST_OF_A_SOURCE", 3)


def refused_pages(count: int) -> list[Callable[[str], Any]]:
    """Pages of which each has one thing to keep, and at the end one that is taken."""
    bad = [page(f"r{number}", next=str(number + 1), status="fine") for number in range(count)]
    return [*bad, page("good", last="end")]


@pytest.mark.usefixtures("room_for_three")
def test_a_page_whose_refused_records_would_push_out_others_stops_its_source_and_is_told(
    opened: Any, hub_main: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    *kept, last, good = refused_pages(4)
    with source(*kept, last, last, last, good) as here:
        town = opened(here)
        done = town.hub.polling.ask("village")
        items = [item.item for item in town.hub.quarantine.items()]
        assert (done.pages, done.refused, len(items)) == (3, 3, 3)
        assert done.error == (
            "stopped before a page: the quarantine has no room for what is refused of it, first: safety.answered: "
            "status: is none of safe, injured, need_help, unknown. Mend that, or make room "
            "(hub quarantine drop --source village); then it goes on by itself"
        )
        assert town.hub.polling.ask("village").error == done.error
        assert [item.item for item in town.hub.quarantine.items()] == items, "nothing was pushed out"
        assert f"fails, 2 in a row: {done.error}" in hub_main("connectors", "list", "--database", town.url).out

        listed = hub_main("quarantine", "list", "--source", "village", "--database", town.url).out
        assert listed.count("safety.answered") == 3
        assert (
            hub_main("quarantine", "drop", "--source", "village", "--database", town.url).out == "3 items destroyed.\n"
        )
        again = town.hub.polling.ask("village")
    assert (again.error, again.pages, again.accepted, again.refused) == (None, 2, 1, 1)
    assert here.asked[3:6] == ["/api/records?from=3"] * 3, "the page came again"
    assert ids(town) == ["good"]


@pytest.mark.usefixtures("room_for_three")
def test_a_full_quarantine_stops_no_page_whose_refused_records_it_holds(opened: Any) -> None:
    *bad, good = refused_pages(3)
    with source(*bad, good, *bad, good) as here:
        town = opened(here)
        assert town.hub.polling.ask("village").error is None
        town.hub.polling.forget("village")
        done = town.hub.polling.ask("village")
    assert (done.error, done.pages, done.refused) == (None, 4, 3)
    assert [item.count for item in town.hub.quarantine.items()] == [2, 2, 2]


def test_a_polled_page_pushes_out_nothing_of_other_sources(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.quarantine.MOST_ITEMS", 2)
    with source(*refused_pages(2)) as here:
        town = opened(here)
        others = [Refusal(via="events", reason="is no status", source="m", id=name, payload=b"{}") for name in "ab"]
        kept = town.hub.quarantine.keep(others)
        assert "no room" in town.hub.polling.ask("village").error
        assert sorted(item.item for item in town.hub.quarantine.items()) == sorted(kept)
        town.wait(KEPT + timedelta(days=1))
        assert "no room" not in (town.hub.polling.ask("village").error or "")


@pytest.mark.usefixtures("room_for_three")
def test_of_a_page_with_more_than_is_kept_of_a_source_nothing_is_kept(opened: Any) -> None:
    records = [{"id": f"r{number}", "user": f"u{number}", "status": "fine"} for number in range(4)]
    many = json.dumps({"records": records, "next": None, "last": "end"}).encode()
    with source(page("kept", next="1", status="fine"), lambda path: (200, {}, many)) as here:
        town = opened(here)
        done = town.hub.polling.ask("village")
    assert (done.pages, done.error) == (1, "more of a page is refused than can be kept; it is not passed over")
    assert len(town.hub.quarantine.items()) == 1


@pytest.mark.usefixtures("room_for_three")
def test_a_backlog_of_a_kind_that_was_not_introduced_is_all_here_once_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walks(path: str) -> Any:
        at = int(path.rpartition("=")[2])
        records = [{"id": f"w{at}", "user": "u1", "steps": 100 + at}]
        following = str(at + 1) if at < 9 else None
        return (200, {}, json.dumps({"records": records, "next": following, "last": "9"}).encode())

    town = Town(tmp_path / "town")
    town.hub.init()
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("identity.linked", person="hanako", source="village", ref="u1")
    install(monkeypatch, tmp_path / "path", "village", bringing(ONE))
    with source(walks) as here:
        setting = Setting(url=here.url, settings=Settings(secrets={"token": SECRET}))
        town.plugins = Plugins({"village": setting})
        town.reopen()
        assert "this kind was not introduced here" in town.hub.polling.ask("village").error
        kept = town.hub.quarantine.items()
        [introduced] = [e for e in introductions(town.hub.log.schemas) if e.data["kind"] == "walk.taken"]
        town.hub.intake.take([introduced])
        assert town.hub.polling.ask("village").error is None
        for item in kept:
            town.hub.quarantine.replay(item.item, translator(town.hub.plugins))
        town.hub.polling.forget("village")
        assert town.hub.polling.ask("village").accepted == 0
    found = [row["id"] for row in town.hub.audit.events(limit=1_000) if row["kind"] == "walk.taken"]
    assert sorted(found) == [f"w{number}" for number in range(10)]
    town.close()


def test_a_source_is_read_again_from_its_start_and_nothing_is_doubled(opened: Any) -> None:
    with source(page("a", next="2"), page("b", last="9"), page("a", next="2"), page("b", last="9")) as here:
        town = opened(here)
        town.hub.polling.ask("village")
        town.hub.polling.forget("village")
        assert town.hub.polling.due_s("village") == 0
        assert town.hub.polling.standings()[0].lag_s is None
        done = town.hub.polling.ask("village")
    assert (done.pages, done.accepted) == (2, 0)
    assert here.asked == ["/api/records?from=0", "/api/records?from=2"] * 2
    assert ids(town) == ["a", "b"]


def test_while_a_source_is_asked_its_state_is_not_forgotten(opened: Any) -> None:
    told: list[str] = []

    def slow(path: str) -> Any:
        other = Town(town.folder, town.plugins)
        other.clock.set(town.now)
        try:
            other.hub.polling.forget("village")
        except Busy as error:
            told.append(str(error))
        other.close()
        return page("a", last="9")(path)

    with source(slow, page("b")) as here:
        town = opened(here)
        town.hub.polling.ask("village")
        town.hub.polling.ask("village")
    assert told == ["village is being asked now; end that process, or try again in 150 s at the latest"]
    assert here.asked[-1] == "/api/records?from=9"


def test_hub_poll_from_start_forgets_by_name(
    opened: Any, hub_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source(page("a", last="9")) as here:
        town = opened(here)
        town.hub.polling.ask("village")
        (tmp_path / "connectors.toml").write_text(f'[village]\nurl = "{here.url}"\n')
        monkeypatch.setenv("HUB_CONNECTORS", str(tmp_path / "connectors.toml"))
        at = ("--database", town.url)
        said = hub_main("poll", "--from-start", "village", *at)
        assert (said.status, said.out) == (0, "village: its next poll reads all again\n")
        town.hub.polling.ask("village")
        for wrong in ((), ("village", "--once"), ("jma",)):
            assert hub_main("poll", "--from-start", *wrong, *at).status == 2
    assert here.asked == ["/api/records?from=0"] * 2


def test_a_connector_that_fails_harms_only_itself(opened: Any) -> None:
    with source(lambda path: (200, {}, b"no JSON")) as here:
        done = opened(here).hub.polling.ask("village")
    assert done.error == "the connector failed (JSONDecodeError); tell its author"


def test_of_two_processes_one_asks(opened: Any, tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(path: str) -> Any:
        entered.set()
        leave.wait(30)
        return page("a")(path)

    with source(slow) as here:
        town = opened(here)
        other = Town(town.folder, town.plugins)
        other.clock.set(town.now)
        asking = threading.Thread(target=town.hub.polling.ask, args=("village",))
        asking.start()
        assert entered.wait(30)
        assert other.hub.polling.ask("village") is None
        leave.set()
        asking.join()
        assert other.hub.polling.ask("village") is not None
        other.close()


def test_after_a_kill_another_process_goes_on_once_the_lease_is_over(opened: Any) -> None:
    with source(page("a", next="2"), page("b")) as here:
        town = opened(here)
        assert town.hub.polling._lease("village") is not None, "as by a process that is killed now"
        other = Town(town.folder, town.plugins)
        other.clock.set(town.now)
        assert other.hub.polling.ask("village") is None
        other.wait(LEASE + timedelta(seconds=1))
        assert other.hub.polling.ask("village").accepted == 2
        other.close()


def test_who_lost_the_lease_does_not_turn_the_state_back(opened: Any) -> None:
    town: Town

    def slow(path: str) -> Any:
        other = Town(town.folder, town.plugins)
        other.clock.set(town.now + LEASE * 2)
        assert other.hub.polling.ask("village").accepted == 2
        other.close()
        return page("a", next="1")(path)

    with source(slow, page("a", "b", last="9"), page("c")) as here:
        town = opened(here)
        assert town.hub.polling.ask("village") is None
        town.wait(LEASE * 3)
        town.hub.polling.ask("village")
    assert here.asked[-1] == "/api/records?from=9"


def test_it_runs_until_it_is_told_to_stop(opened: Any) -> None:
    stop, rounds = threading.Event(), []
    with source(page("a")) as here:
        town = opened(here)

        def told(done: Any) -> None:
            rounds.append(done.name)
            stop.set()

        town.hub.polling.run(["village"], stop, told)
    assert rounds == ["village"]


def test_a_page_of_many_requests_keeps_the_lease(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that took it from each other in turn would never get on."""
    with source(page("a", last="9")) as here:
        town = opened(here)
        other = Town(town.folder, town.plugins)

        def poll(state: str | None, fetch: Any) -> Any:
            for _ in range(3):
                town.wait(LEASE * 0.7)
                other.clock.set(town.now)
                assert other.hub.polling._lease("village") is None
                answer = fetch("records")
            yield Pulled(payload=answer.body, state="9")

        plugin = town.hub.plugins.find("village")
        monkeypatch.setattr(plugin, "poll", poll)
        assert town.hub.polling.ask("village").accepted == 1
        other.close()


def test_what_a_source_tells_of_while_it_is_asked_is_asked_for_at_once(opened: Any) -> None:
    town: Town

    def told_meanwhile(path: str) -> Any:
        town.hub.polling.wake("village")
        return page("a")(path)

    with source(told_meanwhile, page("b")) as here:
        town = opened(here)
        town.hub.polling.ask("village")
        assert town.hub.polling.due_s("village") == 0
        town.hub.polling.ask("village")
        assert town.hub.polling.due_s("village") > 0


def test_a_clock_that_leapt_and_came_back_silences_no_source(opened: Any) -> None:
    with source(page("a")) as here:
        town = opened(here)
        now = town.now
        town.clock._time = now + timedelta(days=3650)
        town.hub.polling.ask("village")
        town.hub.polling._lease("village")
        town.clock._time = now
        other = Town(town.folder, town.plugins)
        other.clock.set(now)
        assert other.hub.polling.due_s("village") == 0
        assert other.hub.polling._lease("village") is not None
        other.close()


def test_a_database_that_fails_for_a_while_ends_no_polling(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with source(page("a")) as here:
        town = opened(here)
        finish, stop, errors = town.hub.polling._finish, threading.Event(), []

        def full(*how: Any) -> None:
            monkeypatch.setattr(town.hub.polling, "_finish", finish)
            raise OperationalError("", {}, sqlite3.OperationalError("database or disk is full"))

        def told(done: Any) -> None:
            errors.append(done.error)
            if done.error is None:
                stop.set()

        monkeypatch.setattr(polling, "FIRST_S", 0.1)
        monkeypatch.setattr(town.hub.polling, "_finish", full)
        town.hub.polling.run(["village"], stop, told)
    assert errors == ["the hub's database failed (OperationalError); see the disk", None]


def test_a_log_that_was_changed_ends_all_polling(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*_: Any) -> Any:
        raise Tampered("the log was changed")

    with source(page("a")) as here:
        town = opened(here)
        monkeypatch.setattr(town.hub.payloads, "take", changed)
        stop = threading.Event()
        with pytest.raises(Tampered):
            town.hub.polling.run(["village"], stop, lambda done: None)
        assert stop.is_set()


def test_a_round_ends_after_a_page_where_it_is_told_to_stop(opened: Any) -> None:
    with source(page("a", next="2"), page("b", next="3"), page("c")) as here:
        town = opened(here)
        stop = threading.Event()
        stop.set()
        assert town.hub.polling.ask("village", stop) is None
        assert ids(town) == ["a"]
        assert town.hub.polling.standings()[0].lag_s is None
        assert town.hub.polling.ask("village").accepted == 2


def test_only_what_is_below_the_sources_url_is_asked() -> None:
    with source(page("a")) as here:
        fetch = Fetcher(here.url, [SECRET])
        for path in (
            "http://127.0.0.1:1/api/x",
            f"{here.url}/../x",
            f"{here.url}x",
            "%2e%2e/x",
            "https://example.com/",
        ):
            with pytest.raises(Misuse, match="below the source's url"):
                fetch(path)
        with pytest.raises(Misuse, match="a secret would stand in the address"):
            fetch("x", params={"token": SECRET})
        assert fetch(f"{here.url}/records").status == 200
        fetch.close()
    assert here.asked == ["/api/records"]


def test_a_redirect_is_not_followed() -> None:
    with source(failing(302, Location="http://127.0.0.1:1/")) as here:
        fetch = Fetcher(here.url)
        with pytest.raises(Misuse, match="302"):
            fetch("records")
        fetch.close()


def test_an_answer_that_does_not_end_is_given_up() -> None:
    ticks = iter(range(0, 10_000, 100))
    with source(lambda path: (200, {}, b"x" * 1_000_000)) as here:
        fetch = Fetcher(here.url, monotonic=lambda: float(next(ticks)))
        with pytest.raises(Unavailable, match="two minutes"):
            fetch("records")
        fetch.close()
