"""Responses pulled from a fake Qualtrics over real HTTP, by the hub's own polling, into a real log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_qualtrics import HANG_S, SURVEY, FakeQualtrics, response

from hub import fetching
from hub.connector import Misuse, Settings
from hub.events import Event
from hub.fetching import Fetcher
from hub.hub import Hub
from hub.log.clock import SetClock
from hub.plugins import Plugins, Setting
from hub_connector_qualtrics import Qualtrics

TOKEN = "token-of-the-tests"
EXAMPLE = Path(__file__).parents[1] / "example"
FILES = {"qsf": (EXAMPLE / "survey.qsf").read_bytes(), "mapping": (EXAMPLE / "mapping.toml").read_bytes()}
PEOPLE = 12


def settings(**options: Any) -> Settings:
    said = {"survey": SURVEY, "patience_s": 5, **options}
    return Settings(options=said, files=FILES, secrets={"token": TOKEN, "webhook": "hook"})


@pytest.fixture
def there() -> Iterator[FakeQualtrics]:
    with FakeQualtrics(TOKEN) as found:
        yield found


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    hubs: list[Hub] = []

    def open_(there: FakeQualtrics, **options: Any) -> Hub:
        plugins = Plugins({"qualtrics": Setting(url=there.url, settings=settings(**options))})
        clock = SetClock(datetime(2026, 6, 3, tzinfo=UTC))
        hub = Hub.open(f"sqlite:///{tmp_path}/hub{len(hubs)}.sqlite3", clock, plugins=plugins, durable=False)
        hubs.append(hub)
        hub.init()
        hub.intake.take([made for number in range(PEOPLE) for made in person(number)])
        return hub

    yield open_
    for hub in hubs:
        hub.close()


def person(number: int) -> Iterator[Event]:
    who, link = f"p{number}", {"source": "qualtrics", "ref": f"aizu-{number:04d}"}
    yield Event(source="city", id=f"e{number}", kind="person.enrolled", person=who, data={"areas": ["07202"]})
    yield Event(source="city", id=f"l{number}", kind="identity.linked", person=who, data=link)


def people(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [response(number, f"aizu-{number % PEOPLE:04d}") for number in range(first, first + count)]


def answered(hub: Hub) -> list[str]:
    rows = hub.audit.events(after=0, limit=100_000)
    return sorted(str(row["id"]).partition(":")[0] for row in rows if row["kind"] == "survey.answered")


def ids(count: int) -> list[str]:
    return [f"R_0aizu{number:010d}" for number in range(count)]


def ask(hub: Hub) -> Any:
    done = hub.polling.ask("qualtrics")
    assert done is not None
    return done


def test_all_responses_are_pulled_and_the_next_poll_goes_on_by_the_token(there: Any, opened: Any) -> None:
    there.responses += people(3)
    hub = opened(there)
    assert ask(hub).error is None
    there.responses += people(2, first=3)
    assert ask(hub).error is None
    assert answered(hub) == ids(5)
    first, *later = there.starts()
    assert first == {"format": "ndjson", "compress": True, "allowContinuation": True}
    assert all("continuationToken" in body and "allowContinuation" not in body for body in later)


def test_exports_that_hold_a_page_each_are_asked_for_until_none_is_left(opened: Any) -> None:
    with FakeQualtrics(TOKEN, page=2) as there:
        there.responses += people(5)
        hub = opened(there)
        assert ask(hub).error is None
    assert answered(hub) == ids(5)
    assert len(there.starts()) == 4


def test_a_large_export_is_taken_in_by_pages(there: Any, opened: Any) -> None:
    there.responses += people(1200)
    hub = opened(there)
    assert ask(hub).pages == 3 + 1
    assert len(answered(hub)) == 1200


def test_a_hub_that_stops_between_two_pages_gets_the_whole_export_again(there: Any) -> None:
    there.responses += people(1200)
    fetch = Fetcher(there.url, [TOKEN])
    first = next(iter(Qualtrics(settings()).poll(None, fetch)))
    again = list(Qualtrics(settings()).poll(first.state, fetch))
    fetch.close()
    assert sum(pulled.payload.count(b'"responseId"') for pulled in again) == 1200
    assert (first.up_to, again[0].up_to) == (None, None)
    assert len([body for body in there.starts() if "allowContinuation" in body]) == 1, "the same export, not another"


def test_what_is_repeated_and_out_of_order_doubles_nothing(opened: Any) -> None:
    with FakeQualtrics(TOKEN, page=3, overlap=2, turned=True) as there:
        there.responses += people(7)
        hub = opened(there)
        assert ask(hub).error is None
        assert ask(hub).error is None
    assert answered(hub) == ids(7)


def test_a_source_that_says_the_same_for_ever_ends_the_poll(opened: Any) -> None:
    with FakeQualtrics(TOKEN, overlap=100) as there:
        there.responses += people(3)
        hub = opened(there)
        assert ask(hub).error is None
    assert len(there.starts()) == 2


def test_without_a_token_to_go_on_by_everything_is_asked_for_each_time(there: Any, opened: Any) -> None:
    there.names_tokens = False
    there.responses += people(2)
    hub = opened(there)
    assert (ask(hub).error, ask(hub).error) == (None, None)
    assert answered(hub) == ids(2)
    assert all(body["allowContinuation"] for body in there.starts())


@pytest.mark.parametrize("route", ["start", "progress", "file"])
@pytest.mark.parametrize("fault", [429, 500, 503, "hang up", "cut"])
def test_a_source_that_fails_in_the_middle_is_asked_again_and_nothing_is_lost(
    there: Any, opened: Any, route: str, fault: Any
) -> None:
    there.responses += people(3)
    there.script(route, fault)
    hub = opened(there)
    done = ask(hub)
    assert "the source" in done.error
    if fault == 429:
        assert done.again_s >= 7
    assert ask(hub).error is None
    assert answered(hub) == ids(3)


@pytest.mark.parametrize("route", ["start", "progress", "file"])
def test_a_source_that_does_not_answer_in_time_is_asked_again(
    there: Any, opened: Any, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.responses += people(1)
    there.script(route, "hang")
    hub = opened(there)
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_TIMEOUT", httpx2.Timeout(HANG_S / 30))
        assert ask(hub).error == "the source does not answer in time"
    assert ask(hub).error is None
    assert answered(hub) == ids(1)


@pytest.mark.parametrize(
    ("route", "fault"), [("progress", 404), ("progress", "failed"), ("file", 404), ("file", "garbage")]
)
def test_an_export_that_vanishes_fails_or_comes_damaged_is_made_anew(
    there: Any, opened: Any, route: str, fault: Any
) -> None:
    there.responses += people(2)
    there.script(route, fault)
    hub = opened(there)
    assert ask(hub).error is not None
    assert ask(hub).error is None
    assert answered(hub) == ids(2)


def test_an_export_that_takes_long_is_waited_for_the_next_time(there: Any, opened: Any) -> None:
    there.responses += people(2)
    there.script("progress", *["slow"] * 3)
    hub = opened(there, patience_s=0.5)
    done = ask(hub)
    assert (done.error, done.accepted) == (None, 0)
    assert (ask(hub).error, ask(hub).error) == (None, None)
    assert answered(hub) == ids(2)
    assert len([body for body in there.starts() if "allowContinuation" in body]) == 1


def test_an_export_that_was_waited_for_and_vanished_is_made_anew_at_once(there: Any, opened: Any) -> None:
    there.responses += people(2)
    there.script("progress", *["slow"] * 2, "failed")
    hub = opened(there, patience_s=0.3)
    ask(hub)
    assert ask(hub).error is None
    assert answered(hub) == ids(2)


def test_a_token_that_has_gone_stale_leads_to_a_whole_export(there: Any, opened: Any) -> None:
    there.responses += people(2)
    hub = opened(there)
    ask(hub)
    there.expire()
    there.responses += people(1, first=2)
    assert ask(hub).error is None
    assert answered(hub) == ids(3)


def test_a_response_that_was_edited_is_seen_by_the_next_whole_export(there: Any, opened: Any) -> None:
    there.responses += people(1)
    hub = opened(there, whole_h=0.00001)
    ask(hub)
    there.responses[0]["values"]["QID1"] = 3
    there.responses[0]["labels"]["QID1"] = "助けが必要"
    for _ in range(5):
        ask(hub)
        if len(answered(hub)) == 2:
            break
        time.sleep(1.0)  # the source's clock, by which a whole export is due, counts whole seconds
    assert answered(hub) == ids(1) * 2


def test_a_wrong_token_is_told_to_the_operator_and_the_token_to_nobody(opened: Any) -> None:
    with FakeQualtrics("another token") as there:
        hub = opened(there)
        error = ask(hub).error
    assert error == "the source answers 401: see the secret or token, and what it may do there"
    assert TOKEN not in str(there.asked)
    assert there.headers[0]["x-api-token"] == TOKEN


def test_the_token_stands_in_no_address_and_no_person_in_the_state(there: Any) -> None:
    there.responses += people(2)
    fetch = Fetcher(there.url, [TOKEN])
    states = [pulled.state for pulled in Qualtrics(settings()).poll(None, fetch)]
    fetch.close()
    assert not any(TOKEN in path for _, path, _ in there.asked)
    assert not any(word in state for state in states for word in ("aizu-0", "R_0aizu", TOKEN))
    assert all(len(state) < 1000 for state in states)


def test_it_says_up_to_when_everything_was_pulled_by_the_sources_own_clock(there: Any) -> None:
    there.responses += people(1)
    fetch = Fetcher(there.url, [TOKEN])
    *_, last = Qualtrics(settings()).poll(None, fetch)
    fetch.close()
    assert last.up_to is not None
    assert abs((datetime.now(UTC) - last.up_to).total_seconds()) < 60


@pytest.mark.parametrize(
    "state", ["", "no JSON", "[]", "{}", '{"survey": 1}', json.dumps({"survey": "SV_other", "token": "t"})]
)
def test_a_state_that_is_not_its_own_is_begun_anew(there: Any, state: str) -> None:
    there.responses += people(1)
    fetch = Fetcher(there.url, [TOKEN])
    pages = [pulled.payload for pulled in Qualtrics(settings()).poll(state, fetch)]
    fetch.close()
    assert b"R_0aizu0000000000" in pages[0]
    assert "continuationToken" not in there.starts()[0]


def test_a_line_too_long_to_be_kept_is_cut_refused_and_stops_nothing(there: Any, opened: Any) -> None:
    there.responses += people(2)
    there.responses[0]["values"]["QID3_TEXT"] = "あ" * 1_000_000
    hub = opened(there)
    done = ask(hub)
    assert (done.error, done.refused) == (None, 1)
    assert answered(hub) == ids(2)[1:]


def test_an_export_that_comes_unpacked_is_read_too(there: Any, opened: Any) -> None:
    there.compresses = False
    there.responses += people(2)
    hub = opened(there)
    assert ask(hub).error is None
    assert answered(hub) == ids(2)


@pytest.mark.parametrize("missing", ["survey", "token"])
def test_a_poll_without_a_survey_or_a_token_is_the_operators_matter(there: Any, missing: str) -> None:
    said = settings()
    options = {} if missing == "survey" else said.options
    secrets = {} if missing == "token" else said.secrets
    fetch = Fetcher(there.url)
    with pytest.raises(Misuse, match=f"{missing} is not set"):
        list(Qualtrics(Settings(options=options, secrets=secrets)).poll(None, fetch))
    fetch.close()
