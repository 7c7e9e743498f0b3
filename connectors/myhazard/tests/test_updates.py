"""The app is asked for its updates, over real HTTP, by the hub's own polling."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conftest import Town
from hub import fetching
from hub.connector import Misuse, Response, Settings, Unavailable
from hub.plugins import Plugins, Setting
from hub_connector_myhazard import MyHazard

sys.path.insert(0, str(Path(__file__).parent))
from fake_myhazard import TOKEN, FakeApp

SOURCE = "myhazard"


def answer(id: str, rev: int = 1, user: str = "u-1", status: str = "safe", **more: Any) -> dict[str, Any]:
    at = {"at": f"2026-06-01T09:{rev:02}:00+09:00"}
    return {"type": "safety", "id": id, "rev": rev, "user": user, "status": status} | at | more


A, B, C, D = (answer(name) for name in "abcd")
PAGES = [[A, B], [C], [D]]


class Hubs:
    """A town whose hub asks the app."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.towns = folder, list[Town]()

    def asking(self, app: FakeApp, token: str = TOKEN) -> Town:
        settings = Settings(secrets={"token": token})
        plugins = Plugins({SOURCE: Setting(url=app.url, every_s=60, settings=settings)})
        town = Town(self.folder / f"town{len(self.towns)}", plugins)
        self.towns.append(town)
        town.hub.init()
        town.tell("person.enrolled", person="hanako", areas=["07202"])
        town.tell("identity.linked", person="hanako", source=SOURCE, ref="u-1")
        return town


@pytest.fixture
def hubs(tmp_path: Path) -> Iterator[Hubs]:
    made = Hubs(tmp_path)
    yield made
    for town in made.towns:
        town.close()


def taken(town: Town) -> list[str]:
    rows = town.hub.audit.events(after=0)
    return [row["id"] for row in rows if row["kind"] in ("safety.answered", "fact.retracted")]


def cursors(app: FakeApp) -> list[str | None]:
    return [params.get("cursor") for _, params in app.asked]


def test_every_page_is_taken_and_the_next_round_goes_on_from_the_last_cursor(hubs: Hubs) -> None:
    with FakeApp(PAGES) as app:
        town = hubs.asking(app)
        first = town.hub.polling.ask(SOURCE)
        app.pages.append([answer("e")])
        town.reopen()
        second = town.hub.polling.ask(SOURCE)
    assert (first.pages, first.accepted, first.error) == (3, 4, None)
    assert (second.pages, second.accepted, second.error) == (1, 1, None)
    assert cursors(app) == [None, "page-1", "page-2", "page-3"]
    assert {path for path, _ in app.asked} == {"/api/v1/updates"}
    assert taken(town) == ["a:1", "b:1", "c:1", "d:1", "e:1"]


def test_how_far_the_app_is_known_is_told_by_the_last_page(hubs: Hubs) -> None:
    with FakeApp(PAGES, ["fine", "fine", "busy"]) as app:
        town = hubs.asking(app)
        town.hub.polling.ask(SOURCE)
        with town.hub.log.entries.snapshot() as (connection, _):
            known = connection.exec_driver_sql("SELECT up_to_us FROM polled").scalar()
        assert known is None, "more was to come"
        town.hub.polling.ask(SOURCE)
        with town.hub.log.entries.snapshot() as (connection, _):
            known = connection.exec_driver_sql("SELECT up_to_us FROM polled").scalar()
    assert known == 1_780_273_800_000_000


def test_a_rate_limit_is_waited_for_as_long_as_the_app_says(hubs: Hubs) -> None:
    with FakeApp(PAGES, ["fine", "busy"]) as app:
        town = hubs.asking(app)
        limited = town.hub.polling.ask(SOURCE)
        after = town.hub.polling.ask(SOURCE)
    assert (limited.pages, limited.error) == (1, "the source answers 429")
    assert limited.again_s >= 37
    assert (after.accepted, after.error) == (2, None)
    assert cursors(app) == [None, "page-1", "page-1", "page-2"]
    assert taken(town) == ["a:1", "b:1", "c:1", "d:1"]


@pytest.mark.parametrize("trouble", ["broken", "cut", "garbled", "gone", "silent"])
def test_an_app_that_fails_in_the_middle_is_asked_again_from_there(
    hubs: Hubs, trouble: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeApp(PAGES, ["fine", trouble]) as app:
        town = hubs.asking(app)
        with monkeypatch.context() as patch:
            if trouble == "silent":
                patch.setattr(fetching, "_TIMEOUT", httpx2.Timeout(2))
            first = town.hub.polling.ask(SOURCE)
        second = town.hub.polling.ask(SOURCE)
    assert (first.pages, first.accepted, second.accepted, second.error) == (1, 2, 2, None)
    assert first.error
    assert cursors(app) == [None, "page-1", "page-1", "page-2"]
    assert taken(town) == ["a:1", "b:1", "c:1", "d:1"]


def test_an_app_that_vanishes_between_two_pages_is_found_again(hubs: Hubs) -> None:
    app = FakeApp(PAGES, ["fine", "gone"])
    with app:
        town = hubs.asking(app)
        town.hub.polling.ask(SOURCE)
    away = town.hub.polling.ask(SOURCE)
    with app:
        back = town.hub.polling.ask(SOURCE)
    assert "cannot be reached" in away.error
    assert (back.accepted, back.error) == (2, None)
    assert taken(town) == ["a:1", "b:1", "c:1", "d:1"]


def test_records_that_come_twice_and_out_of_order_double_nothing(hubs: Hubs) -> None:
    corrected = answer("b", 2, status="need_rescue", voids=[1])
    with FakeApp([[corrected, D, A], [B, A, corrected], [C, B]], ["fine", "fine", "same"]) as app:
        town = hubs.asking(app)
        stuck = town.hub.polling.ask(SOURCE)
        done = town.hub.polling.ask(SOURCE)
    assert (stuck.pages, stuck.refused, done.refused, done.error) == (3, 0, 0, None)
    assert sorted(taken(town)) == ["a:1", "b:1", "b:2", "b:2:voids:1", "c:1", "d:1"]


def test_a_cursor_that_the_app_has_forgotten_begins_anew_and_doubles_nothing(hubs: Hubs) -> None:
    with FakeApp(PAGES, ["fine", "fine", "fine", "forgotten"]) as app:
        town = hubs.asking(app)
        town.hub.polling.ask(SOURCE)
        again = town.hub.polling.ask(SOURCE)
    assert (again.pages, again.accepted, again.error) == (3, 0, None)
    assert cursors(app)[3:] == ["page-3", None, "page-1", "page-2"]


def test_an_app_that_forgets_every_cursor_is_not_asked_in_a_circle(hubs: Hubs) -> None:
    with FakeApp(PAGES, ["fine", "forgotten", "fine", "forgotten"]) as app:
        done = hubs.asking(app).hub.polling.ask(SOURCE)
    assert "410" in done.error
    assert len(app.asked) == 4


def test_an_app_whose_pages_lead_in_a_circle_is_left(hubs: Hubs) -> None:
    with FakeApp(PAGES, ["fine", "same", "same"]) as app:
        done = hubs.asking(app).hub.polling.ask(SOURCE)
    assert "gives a cursor again" in done.error


def test_a_record_that_cannot_be_read_stops_neither_its_page_nor_the_next(hubs: Hubs) -> None:
    with FakeApp([[A, 5, answer("x", at="noon"), B], [C]]) as app:
        town = hubs.asking(app)
        done = town.hub.polling.ask(SOURCE)
    assert (done.accepted, done.refused, done.error) == (3, 2, None)


def test_a_wrong_token_is_told_to_the_operator(hubs: Hubs) -> None:
    with FakeApp(PAGES) as app:
        done = hubs.asking(app, token="another").hub.polling.ask(SOURCE)
    assert "401" in done.error


def test_the_token_and_the_size_of_pages_are_settings() -> None:
    def nobody(*_: object, **__: object) -> Response:
        raise AssertionError("is not asked")

    with pytest.raises(Misuse, match=r"secrets\.token"):
        list(MyHazard().poll(None, nobody))
    for limit in (0, True, "many", 5_001):
        settings = Settings(options={"limit": limit}, secrets={"token": TOKEN})
        with pytest.raises(Misuse, match="limit"):
            list(MyHazard(settings).poll(None, nobody))
    with pytest.raises(Misuse, match="state"):
        list(MyHazard(Settings(secrets={"token": TOKEN})).poll("page-1", nobody))


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"records": [], "more": false}',
        b'{"records": {}, "more": false, "cursor": "a"}',
        b'{"records": [], "more": 1, "cursor": "a"}',
        b'{"records": [], "more": false, "cursor": ""}',
        b'{"records": [], "more": false, "cursor": "a", "generated_at": "noon"}',
        json.dumps({"records": [], "more": False, "cursor": "a" * 1_001}).encode(),
    ],
)
def test_an_answer_that_is_no_page_is_asked_for_again_later(body: bytes) -> None:
    connector = MyHazard(Settings(secrets={"token": TOKEN}))
    with pytest.raises(Unavailable, match="no page"):
        list(connector.poll(None, lambda *_, **__: Response(status=200, headers={}, body=body)))
