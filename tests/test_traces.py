"""Who saw what, told again from the log: just what the answers themselves showed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

import worlds
from conftest import Town
from hub.answer import Query
from hub.events import EPOCH
from hub.traces import Sighting

EVER = EPOCH, EPOCH + timedelta(days=365 * 200)
DAY = timedelta(days=1)


def in_body(body: bytes) -> dict[str, tuple[str, Counter[tuple[str, str, str, str]]]]:
    """By person the mode, and how many items of a kind, level and basis the bytes of an answer show."""
    found = {}
    for person in json.loads(body)["persons"]:
        items = [(item["kind"], item["precision"], *next(iter(item["basis"].items()))) for item in person["items"]]
        found[person["person"]] = person["mode"], Counter(items)
    return found


def told(sightings: list[Sighting]) -> dict[str, tuple[str, Counter[tuple[str, str, str, str]]]]:
    """The same, of what is told again of one disclosure."""
    return {
        seen.person: (
            seen.mode,
            Counter({(kind.kind, kind.level, kind.basis_type, kind.basis): kind.items for kind in seen.kinds}),
        )
        for seen in sightings
    }


def lived(town: Town, seed: int) -> Town:
    """A random world in which every question is a read, some by page, area or history, and feeds go on beside."""
    rng, feeds, world = Random(seed), dict[Query, str](), town.world
    for step in worlds.world(seed, length=100, events=0.6):
        asked = step.get("read") or step.get("expect")
        if asked is None:
            worlds.play(world, step)
            continue
        town.clock.set(max(town.now, worlds.when(step)))
        query = Query(
            recipient=asked["recipient"],
            purpose=asked["purpose"],
            exercise=asked.get("exercise", False),
            kinds=tuple(asked.get("kinds") or ()),
            area=rng.choice((None, None, None, "07202", "m5639")),
            history=worlds.chance(rng, 0.3),
            limit=rng.choice((None, None, 1, 2)),
        )
        answer = town.hub.disclosure.read(query)
        following = json.loads(answer.body)["next"]
        if following:
            town.hub.disclosure.read(replace(query, cursor=following))
        query = replace(query, limit=None, area=None)
        message = town.hub.feeds.advance(query, feeds.get(query), limit=rng.choice((1, 100)))
        if message is not None:
            feeds[query] = message.next
    return town


@pytest.mark.parametrize("seed", worlds.few(range(6)))
def test_what_is_told_again_is_what_each_answer_showed(seed: int, new_town: Callable[[str], Town]) -> None:
    town = lived(new_town("world"), seed)
    agree(town)

    most = Counter(sighting.person for sighting in town.hub.traces.between(*EVER)).most_common(1)
    for person, count in most:
        worlds.play(
            town.world,
            {"at": town.wait().isoformat(), "kind": "person.erased", "data": {"person": person}, "id": "erasure"},
        )
        assert town.hub.traces.of_person(person) == []
        agree(town)
        assert sum(trace.erased for trace in town.hub.traces.disclosures(*EVER)) == count


def agree(town: Town) -> None:
    """What is told of each disclosure and of each person is what the answers showed, as far as they can be repeated."""
    again = {position: town.hub.audit.repeat(position) for position in town.hub.audit.disclosures()}
    assert all(answer.same is (answer.erased == 0) for answer in again.values())

    traces = list(town.hub.traces.disclosures(*EVER))
    assert {trace.position: told(list(trace.sightings)) for trace in traces} == {
        position: in_body(repeated.answer.body) for position, repeated in again.items()
    }
    assert {trace.position: trace.erased for trace in traces} == {
        position: repeated.erased for position, repeated in again.items()
    }

    between = list(town.hub.traces.between(*EVER))
    for person in worlds.PERSONS:
        seen = town.hub.traces.of_person(person, limit=10_000)
        assert seen == [sighting for sighting in between if sighting.person == person][::-1]


@pytest.fixture
def seen(town: Town) -> Town:
    """hanako, whose location the hospital has seen three times, to a square of a kilometre."""
    town.tell("recipient.registered", recipient="clinic", **{"class": "hospital"}, areas=["*"], purposes=["care"])
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("location.reported", person="hanako", lat_deg=37.4948, lon_deg=139.9298, accuracy_m=5)
    town.tell(
        "consent.granted",
        person="hanako",
        grant="g",
        to={"recipient": "clinic"},
        kinds=["location.reported"],
        purposes=["care"],
        modes=["normal"],
        data="all",
        precision={"location.reported": "1km"},
    )
    for _ in range(3):
        town.read("clinic", "care")
    return town


def test_of_a_person_the_newest_come_first_strictly_between(seen: Town) -> None:
    first, second, third = seen.hub.audit.disclosures()

    def positions(**asked: int) -> list[int]:
        return [sighting.position for sighting in seen.hub.traces.of_person("hanako", **asked)]

    assert positions() == [third, second, first]
    assert positions(limit=2) == [third, second]
    assert positions(before=third) == [second, first]
    assert positions(after=first) == [third, second]
    assert positions(before=third, after=first) == [second]
    assert seen.hub.traces.of_person("nobody") == []


def test_a_consent_that_was_withdrawn_since_is_told_as_it_was(seen: Town) -> None:
    before = seen.hub.traces.of_person("hanako")
    seen.tell("consent.revoked", person="hanako", grant="g")
    assert seen.hub.traces.of_person("hanako") == before


def test_what_was_destroyed_at_the_end_of_its_retention_counts_as_shown(seen: Town) -> None:
    before = seen.hub.traces.of_person("hanako")
    seen.wait(timedelta(days=500))
    seen.tell("person.enrolled", person="saburo", areas=["07202"])
    assert [month.kind for month in seen.hub.retention.retain().destroyed] == ["location.reported"]
    again = seen.reopen()
    assert again.hub.traces.of_person("hanako") == before
    assert again.hub.audit.repeat(before[0].position).answer.persons == []
