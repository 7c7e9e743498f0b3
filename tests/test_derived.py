"""The index of disclosures by person: it may lag, be folded twice or by several at once, and every answer is exact."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

import pytest
from sqlalchemy import delete, insert, select, update

import worlds
from conftest import Town
from doors import served
from hub.answer import Query
from hub.derived import index as derived
from hub.derived.follower import Follower
from hub.derived.index import Index
from hub.errors import Busy, Tampered
from hub.events import Entry
from hub.identity.local import identity
from hub.views import index
from hub.views.index import share, shown
from test_traces import EVER, lived, seen  # noqa: F401 -- a fixture


def rows(town: Town) -> list[tuple[int, int, int]]:
    with town.hub.log.entries.snapshot() as (connection, _):
        return sorted(map(tuple, connection.execute(select(shown))))


def by_chunks(town: Town) -> list[tuple[int, int, int]]:
    """What the chunks of all disclosures say, of everyone who is not erased."""
    found = []
    with town.hub.log.entries.snapshot() as (connection, end):
        town.hub.views.at(connection, end.position)
        for entry in town.hub.log.read(connection, town.hub.audit.disclosures()).values():
            assert isinstance(entry, Entry)
            for number, ordinals in enumerate(index.named(town.hub.log, connection, entry)):
                kept = (o for o in ordinals if town.hub.views.persons.erased_at(o) is None)
                found += [(index._number(town.hub.log, ordinal), entry.position, number) for ordinal in kept]
    return sorted(found)


def told(town: Town) -> dict[str, object]:
    """All that is asked of the index."""
    of = {person: town.hub.traces.of_person(person, limit=10_000) for person in worlds.PERSONS}
    traced = {person: [row["position"] for row in town.hub.audit.trace(person=person)] for person in worlds.PERSONS}
    to_one = [
        row["position"]
        for row in town.hub.audit.trace(person=worlds.PERSONS[0], recipient=next(iter(worlds.RECIPIENTS)))
    ]
    return of | {f"{person} traced": positions for person, positions in traced.items()} | {"to one": to_one}


def catch_up(town: Town) -> None:
    while town.hub.index.step():
        pass


@pytest.mark.parametrize("seed", [0, 3])
def test_whatever_the_lag_the_answers_are_those_without_an_index(seed: int, new_town: Callable[[str], Town]) -> None:
    town, rng = lived(new_town("world"), seed), Random(seed)
    without = told(town)
    assert rows(town) == []
    positions = town.hub.audit.disclosures()
    for some in (rng.sample(positions, len(positions) // 3), positions[: len(positions) // 2]):
        town.hub.index.take(some)
        assert told(town) == without
        town.hub.audit.verify()
    catch_up(town)
    assert told(town) == without
    assert rows(town) == by_chunks(town)
    assert town.hub.index.lag().waiting == 0

    person = next(person for person in worlds.PERSONS if without[person])
    with town.hub.log.entries.snapshot() as (connection, end):
        town.hub.views.at(connection, end.position)
    ordinal = town.hub.views.persons.ordinal(person)
    at = {"at": town.wait().isoformat(), "kind": "person.erased", "data": {"person": person}, "id": "erasure"}
    worlds.play(town.world, at)
    assert ordinal is not None
    assert all(row[0] != index._number(town.hub.log, ordinal) for row in rows(town)), (
        "an erasure takes the person's rows in its own transaction"
    )
    assert rows(town) == by_chunks(town)
    assert told(town)[f"{person} traced"] == without[f"{person} traced"], "the chunks still name the ordinal"

    before = rows(town)
    town.hub.audit.verify()
    town.hub.views.rebuild()
    assert rows(town) == before
    assert town.hub.index.lag().waiting == 0


def test_a_rebuild_brings_a_lagging_index_to_the_end(seen: Town) -> None:  # noqa: F811
    seen.hub.views.rebuild()
    assert rows(seen) == by_chunks(seen)
    assert seen.hub.index.lag().waiting == 0
    seen.read("clinic", "care")
    assert seen.hub.index.lag().waiting == 1
    assert len(seen.hub.traces.of_person("hanako")) == 4


def test_how_far_the_index_is_behind_is_measured(seen: Town) -> None:  # noqa: F811
    with served().over(seen.hub, identity()) as client:

        def waiting() -> str:
            lines = client.get("/metrics", as_="operator").body.decode().splitlines()
            return next(line for line in lines if line.startswith("hub_derived_lag_disclosures{"))

        assert waiting() == 'hub_derived_lag_disclosures{worker="1"} 3.0'
        catch_up(seen)
        assert waiting() == 'hub_derived_lag_disclosures{worker="1"} 0.0'


def test_what_does_not_follow_from_the_log_is_found(seen: Town) -> None:  # noqa: F811
    first, second, _ = seen.hub.audit.disclosures()

    def found(statement: object) -> bool:
        with seen.hub.log.entries.maintaining() as connection:
            connection.execute(statement)  # type: ignore[call-overload]
        try:
            seen.hub.audit.verify()
        except Tampered as error:
            seen.hub.views.rebuild()
            return "hub rebuild" in str(error)
        return False

    assert found(insert(shown).values(person=1, position=first - 1, removed=0)), "a row that no disclosure gave"
    assert found(delete(shown).where(shown.c.position == second)), "a row that is missing"
    assert found(update(shown).where(shown.c.position == second).values(removed=1))
    catch_up(seen)
    assert found(update(share).where(share.c.name == index.WHOLE).values(next=10**6)) is False
    seen.hub.views.rebuild()
    seen.read("clinic", "care")
    assert found(update(share).where(share.c.name == index.WHOLE).values(next=10**6)), "held, it says, and is not"


def test_a_disclosure_of_many_is_written_in_pieces_and_counts_when_the_last_one_is(
    seen: Town,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(derived, "MOST_ROWS", 2)
    seen.tell("emergency.declared", emergency="e", areas=["07202"], until="2026-06-03T00:00:00Z", hazard="flood")
    grant = {"to": {"recipient": "clinic"}, "kinds": ["safety.answered"], "purposes": ["care"], "modes": ["emergency"]}
    for n in range(7):
        seen.tell("person.enrolled", person=f"p{n}", areas=["07202"])
        seen.tell("consent.granted", person=f"p{n}", grant=f"g{n}", **grant)
        seen.tell("safety.answered", person=f"p{n}", status="safe")
    seen.read("clinic", "care")
    last = seen.hub.audit.disclosures()[-1]
    portions = list(seen.hub.index._portions([last]))
    assert [len(pieces) for _, pieces in portions] == [1, 1, 1, 1]
    assert [whole for whole, _ in portions] == [[], [], [], [last]]

    with seen.hub.log.entries.maintaining() as connection:  # killed after the first piece
        for position, ordinals, removed in portions[0][1]:
            index.put(seen.hub.log, connection, position, ordinals, removed=removed)
    assert [len(seen.hub.traces.of_person(f"p{n}")) for n in range(7)] == [1] * 7
    seen.hub.audit.verify()
    catch_up(seen)
    assert rows(seen) == by_chunks(seen)


def test_two_workers_with_one_share_neither_lose_nor_repeat(seen: Town) -> None:  # noqa: F811
    first, second, third = seen.hub.audit.disclosures()
    here, zombie = seen.hub.index, Index(seen.hub.log)
    assert here.take_share("hub.events/0", None, 5, [first])
    assert not zombie.take_share("hub.events/0", None, 5, [first, second]), "it began where another had been"
    assert here.take_share("hub.events/0", 5, 9, [first, second])
    assert not zombie.take_share("hub.events/0", 5, 7, [second])
    assert here.offset("hub.events/0") == 9
    assert here.take_share("hub.events/0", 9, 12, []), "an offset moves over what is nothing to the index"
    assert here.take_share("hub.events/1", None, 3, [third])
    assert rows(seen) == by_chunks(seen)
    assert seen.hub.index.lag().waiting == 0


def test_one_of_several_followers_works(seen: Town) -> None:  # noqa: F811
    other = Index(seen.hub.log)
    assert seen.hub.index.step() == 3
    seen.hub.disclosure.read(Query(recipient="clinic", purpose="care"))
    assert other.step() == 0, "the first has the lease"
    assert seen.hub.index.step() == 1
    seen.read("clinic", "care")
    seen.wait(derived.LEASE * 2)
    assert other.step() == 1, "who has left is not waited for"


def test_a_follower_comes_to_the_end_while_the_log_grows(seen: Town) -> None:  # noqa: F811
    failed: list[object] = []
    follower = Follower(seen.hub.log, seen.hub.index, failed.append)
    done = threading.Event()
    follower.start()
    try:
        for _ in range(5):
            seen.read("clinic", "care")
        for _ in range(2_400):
            if seen.hub.index.lag().waiting == 0 or done.wait(0.05):
                break
    finally:
        follower.stop()
    assert rows(seen) == by_chunks(seen)
    assert not failed
    assert list(seen.hub.traces.between(*EVER)) == seen.hub.traces.of_person("hanako")[::-1]


def test_a_follower_tells_each_try_that_failed_and_that_one_goes_well_again(
    seen: Town,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Exception | None] = []
    follower = Follower(seen.hub.log, seen.hub.index, told.append)
    follower._stop.set()  # nothing is waited for
    away = Busy("the database does not answer; try again")

    def step() -> int:
        raise away

    monkeypatch.setattr(seen.hub.index, "step", step)
    monkeypatch.setattr(follower._stop, "is_set", lambda: False)
    follower._work()
    follower._work()
    monkeypatch.setattr(seen.hub.index, "step", lambda: 0)
    follower._work()
    follower._work()
    assert told == [away, away, None]
