"""Feeds: a consumer that applies every message holds at every rest just what a view would show."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

import worlds
from conftest import Town
from hub.answer import Query
from hub.errors import PayloadError
from hub.feeds import Message, feeds
from hub.hub import Hub
from hub.scenario import World
from hub.views.views import Views

HOUR = timedelta(hours=1)


class Consumer:
    """One copy of a view, by `ref`. It may lose what it was told last, and ask again with an older token."""

    def __init__(self, query: Query, limit: int = 500) -> None:
        self.query, self.limit = query, limit
        self.tokens: list[str] = []
        self.copies: list[dict[str, Any]] = [{}]
        self.bodies: list[bytes] = []

    @property
    def held(self) -> dict[str, Any]:
        """What it holds: by person, mode and items."""
        return {entry["person"]: (entry["mode"], entry["items"]) for entry in self.copies[-1].values()}

    def take(self, message: Message) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(message.body)
        assert said["format"] == "changes/1"
        assert (said["next"], said["more"]) == (message.next, message.more)
        assert len(said["persons"]) + len(said["removed"]) <= self.limit
        copy = dict(self.copies[-1])
        for entry in said["persons"]:
            copy[entry["ref"]] = entry
        for ref in said["removed"]:
            copy.pop(ref, None)
        self.tokens.append(message.next)
        self.copies.append(copy)
        self.bodies.append(message.body)
        return said

    def ask(self, hub: Hub) -> dict[str, Any]:
        message = hub.feeds.advance(self.query, self.tokens[-1] if self.tokens else None, limit=self.limit)
        assert message is not None
        return self.take(message)

    def to_rest(self, hub: Hub) -> list[dict[str, Any]]:
        """Ask until there is no more; what was told."""
        told = [self.ask(hub)]
        while told[-1]["more"]:
            told.append(self.ask(hub))
        return told

    def lose(self, count: int) -> None:
        """The last messages never arrived."""
        count = min(count, len(self.tokens) - 1)
        if count > 0:
            del self.tokens[-count:], self.copies[-count:], self.bodies[-count:]


def shown_now(hub: Hub, query: Query) -> dict[str, Any]:
    """What a view shows now, appending nothing."""
    with hub.log.entries.snapshot() as (connection, end):
        standing = hub.views.at(connection, end.position)
        time = max(hub.log.clock.now(), end.recorded_at or hub.log.clock.now())
        body = json.loads(hub.disclosure.deciding.decide(standing, query, time).body)
    return {entry["person"]: (entry["mode"], entry["items"]) for entry in body["persons"]}


QUERY = Query(recipient="aizu-city", purpose="rescue")


@pytest.fixture
def home(town: Town) -> Town:
    """hanako and taro, of whom aizu-city sees safety and location in normal times and emergencies."""
    town.tell(
        "recipient.registered",
        recipient="aizu-city",
        **{"class": "municipality"},
        areas=["07202"],
        purposes=["rescue"],
        overrides=["life_protection"],
    )
    for person in ("hanako", "taro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
        grant(town, person)
        town.tell("safety.answered", f"s {person}", person=person, status="safe")
    return town


def grant(town: Town, person: str, name: str = "", **said: Any) -> int:
    terms: dict[str, Any] = {
        "to": {"recipient": "aizu-city"},
        "kinds": ["safety.answered", "location.reported"],
        "purposes": ["rescue"],
        "modes": ["normal", "emergency"],
        "data": "all",
    }
    return town.tell("consent.granted", person=person, grant=name or f"g {person}", **{**terms, **said})


def refs(said: dict[str, Any]) -> dict[str, str]:
    return {entry["person"]: entry["ref"] for entry in said["persons"]}


def test_the_first_message_shows_all_and_the_next_what_changed(home: Town) -> None:
    consumer = Consumer(QUERY)
    first = consumer.ask(home.hub)
    assert sorted(refs(first)) == ["hanako", "taro"]
    assert consumer.ask(home.hub)["persons"] == []

    home.tell("safety.answered", person="taro", status="need_help")

    [entry] = consumer.ask(home.hub)["persons"]
    assert (entry["person"], entry["items"][0]["data"]) == ("taro", {"status": "need_help"})
    assert consumer.held == shown_now(home.hub, QUERY)


def removals(home: Town) -> dict[str, Callable[[], object]]:
    return {
        "a revocation": lambda: home.tell("consent.revoked", person="taro", grant="g taro"),
        "a block": lambda: home.tell("block.added", person="taro", to={"class": "municipality"}),
        "an erasure": lambda: home.tell("person.erased", person="taro"),
        "a retraction": lambda: home.tell("fact.retracted", person="taro", event="s taro"),
    }


@pytest.mark.parametrize("what", ["a revocation", "a block", "an erasure", "a retraction"])
def test_what_is_withdrawn_is_taken_back(home: Town, what: str) -> None:
    consumer = Consumer(QUERY)
    ref = refs(consumer.ask(home.hub))["taro"]

    removals(home)[what]()

    said = consumer.ask(home.hub)
    assert (said["persons"], said["removed"]) == ([], [ref])
    assert consumer.ask(home.hub)["removed"] == []


def test_a_retired_recipient_is_told_to_forget_everyone(home: Town) -> None:
    consumer = Consumer(QUERY)
    known = refs(consumer.ask(home.hub))
    home.tell("recipient.retired", recipient="aizu-city")
    assert consumer.ask(home.hub)["removed"] == sorted(known.values())


def test_a_lease_that_ends_by_itself_takes_back_what_it_opened(home: Town) -> None:
    home.tell("person.enrolled", person="jiro", areas=["07202"])
    grant(home, "jiro", modes=["emergency"])
    home.tell("safety.answered", person="jiro", status="safe")
    consumer = Consumer(QUERY)
    assert "jiro" not in refs(consumer.ask(home.hub))

    until = home.now + 3 * HOUR
    home.tell("emergency.declared", emergency="e", areas=["07202"], until=until, hazard="flood")
    opened = consumer.ask(home.hub)
    assert {e["person"]: e["mode"] for e in opened["persons"]} == dict.fromkeys(("hanako", "jiro", "taro"), "emergency")
    assert 0 < home.hub.feeds.quiet_s(QUERY, consumer.tokens[-1]) <= 3 * 3600

    home.wait(3 * HOUR)
    ended = consumer.ask(home.hub)
    assert sorted(e["person"] for e in ended["persons"]) == ["hanako", "taro"]
    assert ended["removed"] == [refs(opened)["jiro"]]


def test_time_alone_opens_and_closes(home: Town) -> None:
    home.tell("person.enrolled", person="jiro", areas=["07202"])
    home.tell("safety.answered", person="jiro", status="safe")
    begin, end = home.now + HOUR, home.now + 2 * HOUR
    grant(home, "jiro", valid_from=begin, valid_until=end)
    consumer = Consumer(QUERY)
    assert "jiro" not in refs(consumer.ask(home.hub))
    assert home.hub.feeds.quiet_s(QUERY, consumer.tokens[-1]) <= 3600

    home.wait(HOUR)
    assert sorted(refs(consumer.ask(home.hub))) == ["jiro"]
    home.wait(HOUR)
    assert len(consumer.ask(home.hub)["removed"]) == 1


def test_a_time_to_live_ends_in_a_removal(home: Town) -> None:
    consumer = Consumer(Query(recipient="aizu-city", purpose="rescue", kinds=("location.reported",)))
    home.tell("location.reported", person="taro", lat_deg=37.49, lon_deg=139.93, accuracy_m=5)
    assert sorted(refs(consumer.ask(home.hub))) == ["taro"]
    wait_s = home.hub.feeds.quiet_s(consumer.query, consumer.tokens[-1])

    home.wait(timedelta(seconds=wait_s))
    while not (said := consumer.ask(home.hub))["removed"]:  # a location's 24 hours come before its time to live
        wait_s = home.hub.feeds.quiet_s(consumer.query, consumer.tokens[-1])
        assert wait_s < 40 * 24 * 3600
        home.wait(timedelta(seconds=wait_s))
    assert said["persons"] == []


def test_a_fact_s_own_end_takes_it_back_and_nothing_older_takes_its_place(home: Town) -> None:
    end = home.now + 2 * HOUR
    home.tell("safety.answered", person="taro", status="injured", expires_at=end)
    home.tell("safety.answered", person="taro", status="need_help", answered_by="hanako", expires_at=end + HOUR)
    consumer = Consumer(Query(recipient="aizu-city", purpose="rescue", kinds=("safety.answered",)))
    assert statuses(consumer.ask(home.hub), "taro") == ["need_help", "injured"]
    assert home.hub.feeds.quiet_s(consumer.query, consumer.tokens[-1]) <= 2 * 3600

    home.wait(2 * HOUR)
    assert statuses(consumer.ask(home.hub), "taro") == ["need_help"]
    assert consumer.held == shown_now(home.hub, consumer.query)
    assert home.hub.feeds.quiet_s(consumer.query, consumer.tokens[-1]) <= 3600

    home.wait(HOUR)
    said = consumer.ask(home.hub)
    assert (said["persons"], len(said["removed"])) == ([], 1)
    assert sorted(consumer.held) == ["hanako"]
    history = replace(consumer.query, history=True)
    assert [item["data"] for item in shown_now(home.hub, history)["taro"][1]] == [{"status": "safe"}]


def statuses(said: dict[str, Any], person: str) -> list[str]:
    [shown] = [entry for entry in said["persons"] if entry["person"] == person]
    return [item["data"]["status"] for item in shown["items"]]


def test_a_last_use_that_another_reader_takes_closes_the_feed(home: Town) -> None:
    home.tell("person.enrolled", person="jiro", areas=["07202"])
    home.tell("safety.answered", person="jiro", status="safe")
    grant(home, "jiro", uses=2)
    consumer = Consumer(QUERY)
    ref = refs(consumer.ask(home.hub))["jiro"]
    home.read("aizu-city", "rescue")
    assert consumer.ask(home.hub)["removed"] == [ref]


def test_who_is_as_before_costs_no_use(home: Town) -> None:
    home.tell("person.enrolled", person="jiro", areas=["07202"])
    home.tell("safety.answered", person="jiro", status="safe")
    grant(home, "jiro", uses=3)
    consumer = Consumer(QUERY)
    consumer.ask(home.hub)
    for _ in range(5):
        home.tell("safety.answered", person="taro", status="safe")
        assert sorted(refs(consumer.ask(home.hub))) == ["taro"]
    [row] = home.hub.directory.grants("jiro")
    assert row["used"] == 1


def test_what_a_lost_message_said_is_told_again_at_the_consent_of_now(home: Town) -> None:
    consumer = Consumer(QUERY)
    ref = refs(consumer.ask(home.hub))["taro"]
    home.tell("consent.revoked", person="taro", grant="g taro")
    consumer.ask(home.hub)
    home.tell("safety.answered", person="hanako", status="injured")
    consumer.ask(home.hub)
    consumer.lose(2)

    said = consumer.ask(home.hub)

    assert (sorted(refs(said)), said["removed"]) == (["hanako"], [ref])
    assert consumer.held == shown_now(home.hub, QUERY)


def test_a_token_of_another_query_or_of_nobody_is_refused(home: Town) -> None:
    consumer = Consumer(QUERY)
    consumer.ask(home.hub)
    other = Query(recipient="aizu-city", purpose="rescue", history=True)
    for query, token in (
        (other, consumer.tokens[0]),
        (QUERY, "00"),
        (QUERY, "x"),
        (QUERY, consumer.tokens[0][:-2] + ("01" if consumer.tokens[0].endswith("00") else "00")),
    ):
        with pytest.raises(PayloadError, match="since"):
            home.hub.feeds.advance(query, token)


def test_feeds_that_nobody_asks_for_are_dropped(home: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Consumer(QUERY)
    old.ask(home.hub)
    home.wait(feeds.KEPT + HOUR)
    Consumer(QUERY).ask(home.hub)
    with pytest.raises(PayloadError, match="since"):
        old.ask(home.hub)

    monkeypatch.setattr(feeds, "MOST_FEEDS", 3)
    many = []
    for _ in range(5):
        home.wait()
        many.append(Consumer(QUERY))
        many[-1].ask(home.hub)
    many[-1].ask(home.hub)
    with pytest.raises(PayloadError, match="since"):
        many[0].ask(home.hub)


def test_at_rest_a_stream_is_told_nothing_and_nothing_is_appended(home: Town) -> None:
    consumer = Consumer(QUERY)
    consumer.ask(home.hub)
    home.tell("person.enrolled", person="jiro", areas=["07202"])
    end = home.hub.log.entries.max_notification_id()
    for _ in range(3):
        assert home.hub.feeds.advance(QUERY, consumer.tokens[-1], at_rest="nothing") is None
    assert home.hub.log.entries.max_notification_id() == end


def test_messages_come_in_pieces_with_events_in_between(home: Town) -> None:
    rng = Random(7)
    people = [f"p{number:03}" for number in range(60)]
    for person in people:
        home.tell("person.enrolled", person=person, areas=["07202"])
        grant(home, person)
        home.tell("safety.answered", person=person, status="safe")
    consumer = Consumer(QUERY, limit=7)
    said = consumer.ask(home.hub)
    while said["more"]:
        person = rng.choice(people)
        rng.choice(
            (
                lambda person=person: home.tell("safety.answered", person=person, status="injured"),
                lambda person=person: home.tell("consent.revoked", person=person, grant=f"g {person}"),
                lambda: (
                    home.tell(
                        "emergency.declared",
                        emergency=f"e{home.now}",
                        areas=["07202"],
                        until=home.now + HOUR,
                        hazard="flood",
                    )
                    if rng.random() < 0.1
                    else None
                ),
            )
        )()
        said = consumer.ask(home.hub)
    consumer.to_rest(home.hub)
    assert consumer.held == shown_now(home.hub, QUERY)


def test_every_message_can_be_repeated_to_the_same_bytes(home: Town) -> None:
    consumer = Consumer(QUERY)
    consumer.ask(home.hub)
    home.tell("consent.revoked", person="taro", grant="g taro")
    home.tell("safety.answered", person="hanako", status="injured")
    consumer.ask(home.hub)
    positions = home.hub.audit.disclosures()
    for position, body in zip(positions, consumer.bodies, strict=True):
        repeated = home.hub.audit.repeat(position)
        assert repeated.same
        assert repeated.answer.body == body
    home.hub.audit.verify()
    home.hub.views.rebuild()
    home.tell("safety.answered", person="hanako", status="safe")
    assert sorted(refs(consumer.ask(home.hub))) == ["hanako"]


def told_in(seed: int) -> int:
    """Plays a world before consumers that lose messages; how much they were told."""
    rng = Random(f"feeds {seed}")
    with World.fresh() as world:
        consumers = [
            Consumer(
                Query(recipient=recipient, purpose=purpose, exercise=rng.random() < 0.2, history=rng.random() < 0.3),
                limit=rng.choice((1, 3, 500)),
            )
            for recipient in worlds.RECIPIENTS
            for purpose in ("rescue", "medical")
        ]
        told = 0
        for step in worlds.world(7000 + seed, length=90):
            if "kind" not in step:
                world.clock.set(max(world.clock.now(), worlds.when(step)))
                continue
            worlds.play(world, {**step, "at": max(world.clock.now(), worlds.when(step)).isoformat()})
            for consumer in rng.sample(consumers, 3):
                if rng.random() < 0.15:
                    consumer.lose(rng.randint(1, 3))
                if rng.random() < 0.2 and consumer.tokens:
                    world.hub.feeds.advance(consumer.query, consumer.tokens[-1], limit=consumer.limit)  # lost
                said = consumer.to_rest(world.hub)
                told += sum(len(message["persons"]) + len(message["removed"]) for message in said)
                # a message takes uses itself, so that it may close what it has just shown
                said = consumer.to_rest(world.hub)
                if not any(message["persons"] for message in said):
                    assert consumer.held == shown_now(world.hub, consumer.query), f"seed {seed}, {step}"
        for position in world.hub.audit.disclosures()[-40:]:
            repeated = world.hub.audit.repeat(position)
            assert repeated.same or repeated.erased
    return told


def test_in_random_worlds_every_consumer_holds_what_a_view_shows() -> None:
    seeds = worlds.few(range(12))
    assert sum(map(told_in, seeds)) > 12 * len(seeds), "too little was told"


def test_two_hubs_serve_one_feed(home: Town, open_town: Callable[[Path], Any]) -> None:
    consumer = Consumer(QUERY)
    consumer.ask(home.hub)
    with open_town(home.folder) as other:
        other.clock.set(home.now)
        home.tell("safety.answered", person="taro", status="injured")
        assert sorted(refs(consumer.ask(other.hub))) == ["taro"]
    home.tell("consent.revoked", person="taro", grant="g taro")
    assert len(consumer.ask(home.hub)["removed"]) == 1


def test_two_hubs_take_turns_in_one_sweep_while_what_opens_it_changes(
    home: Town, open_town: Callable[[Path], Any]
) -> None:
    people = [f"p{number:03}" for number in range(30)]
    for person in people:
        home.tell("person.enrolled", person=person, areas=["07202"])
        grant(home, person, to={"class": "municipality"})
        home.tell("safety.answered", person=person, status="safe")
    consumer = Consumer(QUERY, limit=4)
    terms = {"areas": ["07202"], "purposes": ["rescue"], "overrides": ["life_protection"]}
    with open_town(home.folder) as other:

        def turns(count: int) -> None:
            for _ in range(count):
                for hub in (home.hub, other.hub):
                    other.clock.set(home.now)
                    consumer.ask(hub)

        turns(2)
        home.tell("recipient.registered", recipient="aizu-city", **{"class": "fire"}, **terms)  # nobody granted that
        turns(1)
        consumer.to_rest(other.hub)
        assert sorted(consumer.held) == ["hanako", "taro"]
        home.tell("recipient.registered", recipient="aizu-city", **{"class": "municipality"}, **terms)
        turns(1)
        home.tell("person.enrolled", person="late", areas=["07202"])
        grant(home, "late", to={"class": "municipality"})
        home.tell("safety.answered", person="late", status="safe")
        turns(2)
        home.tell("emergency.declared", emergency="e", areas=["07202"], until=home.now + HOUR, hazard="flood")
        turns(1)
        consumer.to_rest(home.hub)
    assert len(consumer.held) == 33
    assert consumer.held == shown_now(home.hub, QUERY)


def test_a_sweep_lists_everyone_once(home: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        home.tell("person.enrolled", person=f"p{number:03}", areas=["07202"])
        grant(home, f"p{number:03}")
        home.tell("safety.answered", person=f"p{number:03}", status="safe")
    listed: list[int] = []
    candidates = Views.candidates

    def counting(*of: Any, **said: Any) -> set[int]:
        found = candidates(*of, **said)
        listed.append(len(found))
        return found

    monkeypatch.setattr(Views, "candidates", counting)
    consumer = Consumer(QUERY, limit=5)
    told = consumer.to_rest(home.hub)
    assert len(told) == 7
    assert listed == [32]
