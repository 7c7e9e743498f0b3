"""Asking a feed: only what is new, only below `url`, and one alert that cannot be had keeps no other waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from hub.connector import Settings
from hub.plugins import Plugins, Setting
from sources import source

from .alerts import AIZU, SENDER, alert, area, info, inside
from .fake_cap import HUNG_UP, Feed, serving


def one(name: str, **said: Any) -> str:
    return alert(info(area(AIZU)), identifier=name, **said)


@pytest.fixture
def feed() -> Iterator[Feed]:
    with serving() as found:
        yield found


@pytest.fixture
def new_town(tmp_path: Path) -> Iterator[Callable[..., Town]]:
    towns: list[Town] = []

    def make(url: str, **options: Any) -> Town:
        settings = Settings(options={"senders": [SENDER], "feed": "feed.atom", **options})
        plugins = Plugins({"cap": Setting(url=url, every_s=60, settings=settings)})
        towns.append(Town(tmp_path / str(len(towns)), plugins))
        towns[-1].hub.init()
        return towns[-1]

    yield make
    for town in towns:
        town.close()


@pytest.fixture
def town(new_town: Callable[..., Town], feed: Feed) -> Town:
    return new_town(feed.here.url)


def polled(town: Town) -> tuple[list[str], str | None]:
    """The alerts that came in by one round, and its error."""
    before = len(heard(town))
    found = town.hub.polling.ask("cap")
    assert found
    town.wait(timedelta(hours=2))
    return heard(town)[before:], found.error


def heard(town: Town) -> list[str]:
    rows = town.hub.audit.events(after=0)
    return [row["id"].split(":")[1] for row in rows if row["kind"] == "hazard.reported"]


def refused(town: Town) -> list[tuple[str, str]]:
    return [(item.path, item.reason) for item in town.hub.quarantine.items()]


def test_the_alerts_that_a_feed_links_to_are_fetched_once_the_oldest_first(town: Town, feed: Feed) -> None:
    feed.documents |= {"b.xml": one("b"), "a.xml": one("a")}
    feed.lists(feed.link("b.xml"), feed.link("a.xml"))
    assert polled(town) == (["a", "b"], None)
    assert feed.asked == ["feed.atom", "a.xml", "b.xml"]
    assert polled(town) == ([], None)
    assert feed.asked == ["feed.atom"]
    assert feed.here.headers[-1]["if-none-match"]
    feed.documents["c.xml"] = one("c")
    feed.lists(feed.link("c.xml"), feed.link("b.xml"), feed.link("a.xml"))
    town.reopen()
    assert polled(town) == (["c"], None)
    assert feed.asked == ["feed.atom", "c.xml"]
    assert not refused(town)


def test_alerts_inside_a_feed_need_no_second_request(town: Town, feed: Feed) -> None:
    feed.lists(*[f"<id>{name}</id>{inside(one(name))}" for name in ("b", "a")])
    assert polled(town) == (["a", "b"], None)
    assert feed.asked == ["feed.atom"]


def test_a_feed_that_only_says_when_it_was_changed_is_asked_by_that(town: Town, feed: Feed) -> None:
    feed.modified = "Tue, 02 Jun 2026 00:00:00 GMT"
    feed.lists(f"<id>a</id>{inside(one('a'))}")
    assert polled(town) == (["a"], None)
    feed.lists(f"<id>b</id>{inside(one('b'))}")
    assert polled(town) == ([], None)
    feed.modified = "Tue, 02 Jun 2026 01:00:00 GMT"
    assert polled(town) == (["b"], None)


def test_an_entry_that_was_changed_is_fetched_again(town: Town, feed: Feed) -> None:
    feed.documents["a.xml"] = one("a")
    feed.lists(feed.link("a.xml", "1"))
    assert polled(town) == (["a"], None)
    feed.documents["a.xml"] = one("a2")
    feed.lists(feed.link("a.xml", "2"))
    assert polled(town) == (["a2"], None)


def test_how_far_it_has_come_is_the_feeds_own_time(town: Town, feed: Feed) -> None:
    feed.lists(f"<id>a</id>{inside(one('a'))}")
    polled(town)
    (standing,) = town.hub.polling.standings()
    assert standing.lag_s == (town.now - datetime(2026, 6, 2, tzinfo=UTC)).total_seconds() or standing.lag_s == 0.0
    assert standing.error is None


@pytest.mark.parametrize(
    "failure",
    [
        HUNG_UP,
        (503, {}, b""),
        (429, {"Retry-After": "1"}, b""),
        (500, {}, b"no"),
        (401, {}, b""),
        (200, {}, b"<alert", 3),
    ],
    ids=["gone", "503", "429", "500", "401", "cut"],
)
def test_an_alert_that_cannot_be_had_now_keeps_no_other_waiting(town: Town, feed: Feed, failure: Any) -> None:
    feed.documents |= {name: one(name[0]) for name in ("a.xml", "b.xml", "c.xml")}
    feed.lists(*[feed.link(name) for name in ("c.xml", "b.xml", "a.xml")])
    feed.failing["a.xml"] = [failure]
    found, error = polled(town)
    assert (found, bool(error)) == (["b", "c"], True)
    feed.asked.clear()
    assert polled(town) == (["a"], None)
    assert feed.asked == ["feed.atom", "a.xml"]
    assert polled(town) == ([], None)


def test_where_nothing_answers_it_stops_after_three(town: Town, feed: Feed) -> None:
    names = [f"{n}.xml" for n in range(9)]
    feed.lists(*[feed.link(name) for name in names])
    feed.failing = {name: [(503, {}, b"")] for name in names}
    assert polled(town)[1]
    assert len(feed.asked) == 4


def test_a_feed_that_vanishes_is_asked_again(town: Town, feed: Feed) -> None:
    feed.lists(f"<id>a</id>{inside(one('a'))}")
    feed.failing["feed.atom"] = [HUNG_UP, (503, {"Retry-After": "30"}, b"")]
    assert polled(town)[1]
    assert polled(town)[1]
    assert polled(town) == (["a"], None)


@pytest.mark.parametrize(
    "link",
    [
        "http://127.0.0.1:9/x.xml",
        "https://elsewhere.example/x.xml",
        "file:///etc/passwd",
        "../secret.xml",
        "/secret.xml",
        "//127.0.0.1/secret.xml",
        "feed/../../secret.xml",
        "{url}/../secret.xml",
        "{url}/%2e%2e/secret.xml",
        "http://[",
        "http://user@127.0.0.1/x",
        "{url}.evil.example/x.xml",
        "{url}/gone.xml",
        "x y",
        "http://\u30a2.example/",
        "javascript:alert(1)",
    ],
)
def test_an_alert_elsewhere_is_not_asked_for_and_an_operator_sees_it(town: Town, feed: Feed, link: str) -> None:
    link = link.format(url=feed.here.url)
    feed.lists(f'<id>a</id><link href="{link}"/>', f"<id>b</id>{inside(one('b'))}")
    assert polled(town) == (["b"], None)
    assert set(feed.asked) <= {"feed.atom", "gone.xml"}
    assert [path for path, _ in refused(town)] == ["entry"]
    assert polled(town) == ([], None)


def test_of_several_links_the_one_of_the_type_of_cap_is_taken(town: Town, feed: Feed) -> None:
    feed.documents["a.cap"] = one("a")
    feed.lists(
        "<id>a</id>"
        + "".join(
            f'<link type="{type_}" href="{feed.here.url}/{name}"/>'
            for type_, name in (("text/html", "a.html"), ("text/xml", "a.xml"), ("application/cap+xml", "a.cap"))
        )
    )
    assert polled(town) == (["a"], None)
    assert feed.asked == ["feed.atom", "a.cap"]


def test_a_link_is_relative_to_the_feed(new_town: Callable[..., Town], feed: Feed) -> None:
    town = new_town(feed.here.url, feed="sub/feed.atom")
    feed.lists('<id>a</id><link href="a.xml"/>')
    feed.documents |= {"sub/feed.atom": feed.documents.pop("feed.atom"), "sub/a.xml": one("a")}
    assert polled(town) == (["a"], None)


def test_rss_is_polled_too(town: Town, feed: Feed) -> None:
    items = "".join(f"<item><link>{feed.here.url}/{name}</link></item>" for name in ("a.xml", "gone.xml"))
    stamp = "<lastBuildDate>Tue, 02 Jun 2026 00:00:00 GMT</lastBuildDate>"
    feed.documents |= {"a.xml": one("a"), "feed.atom": f'<rss version="2.0"><channel>{stamp}{items}</channel></rss>'}
    assert polled(town) == (["a"], None)
    assert [path for path, _ in refused(town)] == ["item"]


def test_a_url_that_gives_one_alert_is_polled_too(town: Town, feed: Feed) -> None:
    feed.documents["feed.atom"] = one("a")
    assert polled(town) == (["a"], None)
    assert polled(town) == ([], None)


@pytest.mark.parametrize("body", ["", "<html/>", "<feed", '<!DOCTYPE a [<!ENTITY b "c">]><feed/>'])
def test_a_feed_that_cannot_be_read_is_kept_for_an_operator_and_asked_again_once_it_changes(
    town: Town, feed: Feed, body: str
) -> None:
    feed.documents["feed.atom"] = body or " "
    assert polled(town) == ([], None)
    assert len(refused(town)) == 1
    feed.lists(f"<id>a</id>{inside(one('a'))}")
    assert polled(town) == (["a"], None)


def test_a_bad_alert_is_kept_for_an_operator_and_the_others_are_read(town: Town, feed: Feed) -> None:
    feed.documents |= {"a.xml": one("a").replace("Public", "World"), "b.xml": one("b"), "c.xml": "<html/>"}
    feed.lists(*[feed.link(name) for name in ("c.xml", "b.xml", "a.xml")])
    assert polled(town) == (["b"], None)
    assert sorted(path for path, _ in refused(town)) == ["", "scope"]
    assert polled(town) == ([], None)


def test_what_cannot_be_read_and_is_too_large_to_keep_ends_no_polling(town: Town, feed: Feed) -> None:
    huge = one("a").replace("<info>", f"<note>{'x' * 1_100_000}</note><info>")
    feed.documents |= {"a.xml": huge.replace("Public", "World"), "b.xml": huge.replace("a</id", "b</id")}
    inner = f"<id>c</id>{inside(huge.replace('Public', 'World'))}"
    feed.lists(inner, feed.link("b.xml"), feed.link("a.xml"))
    assert polled(town) == (["b"], None)
    assert [path for path, _ in refused(town)] == ["entry", "entry"]


def test_the_state_stays_small_for_a_feed_of_any_length(town: Town, feed: Feed) -> None:
    entries = [f"<id>{n}</id><link href='https://elsewhere.example/{n}'/>" for n in range(40)]
    feed.lists(*entries)
    polled(town)
    kept = state(town)
    assert len(kept) < 40 * 12 + 200
    feed.lists(*entries[:5])
    polled(town)
    assert len(state(town)) < 5 * 12 + 200


def state(town: Town) -> str:
    from sqlalchemy import select

    from hub.polling import polled as table

    with town.hub.log.entries.snapshot() as (connection, _):
        return str(connection.scalar(select(table.c.state)))


def test_headers_that_are_none_are_not_sent_back(new_town: Callable[..., Town]) -> None:
    body = f'<feed xmlns="http://www.w3.org/2005/Atom"><entry>{inside(one("a"))}</entry></feed>'.encode()
    with source(lambda path: (200, {"ETag": '"' + "x" * 5_000 + '"'}, body)) as here:
        town = new_town(here.url)
        assert polled(town) == (["a"], None)
        assert polled(town) == ([], None)
        assert "if-none-match" not in here.headers[-1]
