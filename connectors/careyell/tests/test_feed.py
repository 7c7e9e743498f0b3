"""The feed and the webhook over real HTTP, through a real hub: whatever goes wrong on the way, the same is there."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from doors import Client, served
from hub import fetching
from hub.connector import Settings
from hub.plugins import Plugins, Setting
from hub.polling import Round
from hub_connector_careyell.feed import PAGE

from .fake_careyell import RETRY_AFTER_S, TROUBLES, FakeCareyell
from .histories import REFS, expected, history, written
from .homes import Home, Shown, home, said
from .records import SECRET, Record, page, record, withdrawal

TOKEN = "token-of-careyell-ZQX"
OLD, NEW = "o" * 32, "n" * 40
PEOPLE = ("p0", "p1")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has the hub wait for half a second instead of half a minute; a slow machine is then asked again, too."""
    return lambda: monkeypatch.setattr(fetching, "_TIMEOUT", 0.5)


def plugins(url: str, **secrets: str) -> Plugins:
    settings = Settings(secrets={"token": TOKEN, **secrets})
    return Plugins({"careyell": Setting(url=url, every_s=60, settings=settings)})


@contextmanager
def town(folder: Path, fake: FakeCareyell) -> Iterator[Home]:
    with home(folder, plugins(fake.url)) as opened:
        opened.welcome(*PEOPLE)
        for who in range(REFS):
            opened.link(f"x-{who}", PEOPLE[who // 2])
        yield opened


def ask(town: Home) -> Round:
    done = town.hub.polling.ask("careyell")
    assert done is not None
    town.wait()
    return done


def asked_until_done(town: Home, restart: bool = False) -> list[Round]:
    """The rounds until one ends well, as many as it takes."""
    rounds = [ask(town)]
    while rounds[-1].error is not None:
        assert len(rounds) < 40, rounds[-1].error
        if restart:
            town.reopen()
        rounds.append(ask(town))
    return rounds


def seen(town: Home) -> list[list[Shown]]:
    return [town.shown(history=whole, prefix="x-") for whole in (True, False)]


UPDATES = history(Random(7), 9)
FEED = written(UPDATES, "x")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[list[Shown]]:
    """What is seen after a run in which nothing went wrong."""
    with FakeCareyell(FEED, token=TOKEN) as fake, town(tmp_path_factory.mktemp("calm") / "home", fake) as calm:
        [done] = asked_until_done(calm)
        assert (done.error, done.refused, done.pages) == (None, 0, -(-len(FEED) // fake.page))
        found = seen(calm)
    assert sorted((int(person[1:]), event) for person, _, event, _ in found[0]) == expected(UPDATES)
    assert len(found[0]) >= 4
    return found


@pytest.mark.parametrize("trouble", TROUBLES)
def test_whatever_goes_wrong_at_every_second_request_the_same_is_there(
    tmp_path: Path, undisturbed: list[list[Shown]], impatient: Callable[[], None], trouble: str
) -> None:
    if trouble == "silent":
        impatient()
    passing = trouble in ("repeat", "reorder", "forgotten")
    troubles = [None, trouble] * (2 if trouble == "forgotten" else 20)
    with FakeCareyell(FEED, token=TOKEN, troubles=troubles) as fake, town(tmp_path / "home", fake) as disturbed:
        rounds = asked_until_done(disturbed)
        assert (len(rounds) == 1) is passing
        assert seen(disturbed) == undisturbed
        assert disturbed.hub.quarantine.items() == []


@pytest.mark.parametrize("seed", range(4))
def test_in_any_storm_with_restarts_and_in_any_order_the_same_is_there(
    tmp_path: Path, undisturbed: list[list[Shown]], impatient: Callable[[], None], seed: int
) -> None:
    impatient()
    rng = Random(seed)
    feed = FEED + rng.sample(FEED, 6)
    rng.shuffle(feed)
    troubles = [rng.choice((None, *TROUBLES)) for _ in range(rng.randint(8, 20))]
    size = rng.randint(1, 5)
    with FakeCareyell(feed, token=TOKEN, page=size, troubles=troubles) as fake, town(tmp_path / "h", fake) as disturbed:
        asked_until_done(disturbed, restart=True)
        assert seen(disturbed) == undisturbed
        disturbed.hub.audit.verify()


def test_it_goes_on_where_it_was_and_asks_only_for_what_is_new(tmp_path: Path) -> None:
    with FakeCareyell([record(), record("u2")], token=TOKEN) as fake, town(tmp_path / "home", fake) as calm:
        asked_until_done(calm)
        fake.updates.append(withdrawal())
        calm.reopen()
        [done] = asked_until_done(calm)
    assert (done.pages, done.accepted) == (1, 0)
    assert fake.asked == [{"limit": str(PAGE)}, {"limit": str(PAGE), "after": "c-2"}]


def test_a_limit_is_kept_to_and_what_came_before_it_is_there(tmp_path: Path) -> None:
    feed = [record(f"u{n}", person="x-0", observed_at=f"2026-05-31T20:0{n}:00Z") for n in range(5)]
    with FakeCareyell(feed, token=TOKEN, page=2, troubles=[None, "limit"]) as fake, town(tmp_path / "h", fake) as calm:
        done = ask(calm)
        assert (done.pages, done.again_s >= RETRY_AFTER_S) == (1, True)
        assert len(calm.shown()) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        page(next="c-1", more=False).replace(b"careyell/1", b"careyell/2"),
        page(next="c-1"),
        page(next="c-1", more="no"),
        page(next="", more=False),
        page(next=SECRET, more=False),
        page(next="c-" + "9" * 200, more=False),
        page(next="c-1", more=False, complete_to="yesterday"),
        b"[" * 1_000_000,
    ],
)
def test_a_page_that_is_none_is_not_passed_over(tmp_path: Path, body: bytes) -> None:
    feed = [record(person="x-0")]
    with FakeCareyell(feed, token=TOKEN, troubles=[body]) as fake, town(tmp_path / "home", fake) as calm:
        first, second = asked_until_done(calm)
        assert "cannot be read" in str(first.error)
        assert SECRET not in str(first.error)
        assert (second.accepted, fake.asked[1]) == (1, fake.asked[0])


def test_a_feed_that_turns_in_a_circle_is_told_of(tmp_path: Path) -> None:
    turning = [page(record(), next="c-1", more=True)] * 2
    with FakeCareyell([], token=TOKEN, troubles=turning) as fake, town(tmp_path / "home", fake) as calm:
        assert "the same cursor" in str(ask(calm).error)


def test_a_service_that_forgets_its_beginning_is_told_of(tmp_path: Path) -> None:
    class Forgetful(FakeCareyell):
        def _say(self, handler: Any, status: int, body: bytes, headers: Record | None = None) -> None:
            super()._say(handler, 410, b"", headers)

    with Forgetful([], token=TOKEN) as fake, town(tmp_path / "home", fake) as calm:
        assert "its own beginning" in str(ask(calm).error)


def test_a_wrong_token_is_the_operators_to_mend_and_is_not_shown(tmp_path: Path) -> None:
    with FakeCareyell([], token="another") as fake, town(tmp_path / "home", fake) as calm:
        done = ask(calm)
        assert "401" in str(done.error)
        assert TOKEN not in str(done.error)


def test_without_a_token_nobody_is_asked(tmp_path: Path) -> None:
    with FakeCareyell([], token=TOKEN) as fake:
        with home(tmp_path / "home", Plugins({"careyell": Setting(url=fake.url)})) as calm:
            assert "secrets.token is not set" in str(ask(calm).error)
        assert fake.asked == []


def test_one_update_that_cannot_be_read_stops_nothing_and_waits_for_an_operator(tmp_path: Path) -> None:
    bad = record("bad", person="x-0", condition={"note": SECRET + "\u0000"})
    nested = record("deep", 0, person="x-0", more=json.loads("[" * 300 + "]" * 300))
    feed = [record("u1", person="x-0"), bad, nested, record("u2", person="x-2")]
    with FakeCareyell(feed, token=TOKEN) as fake, town(tmp_path / "home", fake) as calm:
        [done] = asked_until_done(calm)
        assert (done.accepted, done.refused) == (2, 2)
        assert [event for _, event, _ in said(calm.shown())] == ["u1:1", "u2:1"]
        items = calm.hub.quarantine.items()
        assert len(items) == 2
        assert SECRET not in repr(items)
        assert SECRET not in repr(calm.hub.polling.standings())


# The webhook


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Callable[[bytes, tuple[str, str]], Any]]:
    keys = {"webhook": f"k1:{OLD}", "webhook_next": f"k2:{NEW}"}
    with home(tmp_path / "home", plugins("https://careyell.example", **keys)) as calm:
        calm.welcome("hanako")
        calm.link("cy-1", "hanako")
        with served().over(calm.hub) as client:
            yield lambda body, key: _sent(client, body, key)
        assert [event for _, event, _ in said(calm.shown())] == ["u1:2"]


def _sent(client: Client, body: bytes, key: tuple[str, str]) -> Any:
    name, secret = key
    signature = hmac.new(secret.encode(), b"careyell/1\n" + body, "sha256").hexdigest()
    headers = {"Careyell-Signature": f"{name}={signature}", "Content-Type": "application/json"}
    return client.call("POST", "/v1/connectors/careyell", body, headers=headers, as_="")


def test_a_webhook_signed_by_either_key_is_taken_and_by_no_other(door: Callable[..., Any]) -> None:
    def events(body: bytes, key: tuple[str, str]) -> list[str]:
        return [event["status"] for event in door(body, key).json["events"]]

    assert events(page(record("u1", 2)), ("k1", OLD)) == ["accepted", "accepted"]
    assert events(page(record("u1", 1)), ("k2", NEW)) == ["accepted"]
    assert events(page(record("u1", 2)), ("k2", NEW)) == ["duplicate", "duplicate"]
    refused = door(page(record("u9", 1, condition={"condition": SECRET})), ("k1", NEW))
    assert refused.status in (401, 403)
    assert SECRET not in json.dumps(refused.json, ensure_ascii=False)
