"""Creations, corrections, withdrawals and merges through a real hub: in any order, repeated, the view ends the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count, permutations
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.connector import stable_id
from hub.intake import Result

from .histories import REFS, Told, expected, histories, written
from .homes import Home, Shown, home, said
from .records import SECRET, Record, page, record, withdrawal


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Home]:
    with home(tmp_path / "home") as opened:
        for person, ref in (("hanako", "cy-1"), ("taro", "cy-2")):
            opened.welcome(person)
            opened.link(ref, person)
        yield opened


def statuses(results: list[Result]) -> list[str]:
    return [result.status for result in results]


def word(text: str) -> Record:
    return {"condition": text}


def as_told(text: str) -> Record:
    return {**word(text), "record": "careyell"}


# Told by example


def test_the_highest_revision_shows_in_every_order(tmp_path: Path) -> None:
    revisions = [record("u1", 1), record("u1", 2, condition=word("悪い")), record("u1", 3, condition=word("普通"))]
    with home(tmp_path / "home") as town:
        for number, order in enumerate(permutations(revisions)):
            town.welcome(f"p{number}")
            town.link(f"cy-{number}", f"p{number}")
            for update in order:
                town.bring(page(update | {"id": f"u{number}", "person": f"cy-{number}"}))
                assert len(town.shown(f"p{number}")) <= 1, "two revisions are never shown side by side"
            assert said(town.shown(f"p{number}")) == [(f"p{number}", f"u{number}:3", as_told("普通"))]


def test_a_withdrawal_hides_the_update_that_comes_after_it_and_a_later_revision_brings_it_back(town: Home) -> None:
    town.bring(page(withdrawal("u1", 2)))
    town.bring(page(record("u1", 1)))
    assert town.shown() == []
    town.bring(page(record("u1", 3)))
    assert [event for _, event, _ in said(town.shown())] == ["u1:3"]


def test_a_withdrawn_correction_brings_back_an_older_update_but_not_what_it_corrected(town: Home) -> None:
    town.bring(page(record("old", 1, observed_at="2026-05-30T00:00:00Z", condition=word("前日"))))
    town.bring(page(record("u1", 1), record("u1", 2), withdrawal("u1", 3)))
    assert said(town.shown(history=False)) == [("hanako", "old:1", as_told("前日"))]


def test_what_was_written_about_the_wrong_person_leaves_them(town: Home) -> None:
    town.bring(page(record("u1", 1)))
    town.bring(page(record("u1", 2, person="cy-2", former_persons=["cy-1"])))
    assert said(town.shown()) == [("taro", "u1:2", as_told("良い"))]


def test_the_first_revision_that_comes_last_does_not_show_with_the_wrong_person(town: Home) -> None:
    town.bring(page(record("u1", 3, person="cy-2", former_persons=["cy-1"])))
    town.bring(page(record("u1", 1)))
    town.bring(page(record("u1", 2, person="cy-2", former_persons=["cy-1"])))
    assert [(person, event) for person, event, _ in said(town.shown())] == [("taro", "u1:3")]


def test_two_users_who_are_one_person_here_are_merged(town: Home) -> None:
    town.link("cy-0", "hanako")
    town.bring(page(record("u1", 1, person="cy-0")))
    results = town.bring(page(record("u1", 2, former_persons=["cy-0"])))
    assert statuses(results) == ["accepted"] * 3
    assert [event for _, event, _ in said(town.shown())] == ["u1:2"]


def test_a_correction_waits_with_what_it_corrects_until_the_id_is_linked(town: Home) -> None:
    town.welcome("yuki")
    for update in (record("u1", 2, person="cy-9", condition=word("悪い")), record("u1", 1, person="cy-9")):
        assert set(statuses(town.bring(page(update)))) == {"waiting"}
    town.link("cy-9", "yuki")
    assert town.waiting() == 0
    assert said(town.shown("yuki")) == [("yuki", "u1:2", as_told("悪い"))]


def test_webhook_and_feed_say_the_same_thing_twice(town: Home) -> None:
    once = town.bring(page(record("u1", 3)))
    again = town.bring(page(record("u1", 3), changed=True))
    then = town.bring(page(record("u1", 4)))
    assert statuses(once) == ["accepted"] * 3
    assert statuses(again) == ["duplicate"] * 3
    assert statuses(then) == ["accepted", "duplicate", "duplicate", "accepted"]


def test_of_two_prescribers_a_correction_changes_one_list_only(town: Home) -> None:
    def medication(prescriber: str, name: str) -> Record:
        return {"type": "medication", "medication": {"prescriber": prescriber, "medications": [{"name": name}]}}

    town.bring(page(record("a", 1, **medication("内科", "甲")), record("b", 1, **medication("眼科", "乙"))))
    town.bring(page(record("a", 2, **medication("内科", "丙"))))
    shown = [data["medications"][0]["name"] for _, _, data in said(town.shown(history=False))]
    assert sorted(shown) == ["丙", "乙"]


def test_the_packages_own_kind_is_disclosed_like_the_hubs_own_and_at_summary_without_names(town: Home) -> None:
    carers = {"carers": [{"role": "family", "name": SECRET, "phone": "0242"}]}
    town.bring(page(record("c1", 1, type="carers", carers=carers)))
    assert [data["carers"][0]["name"] for _, _, data in said(town.shown())] == [SECRET]
    town.tell("consent.revoked", person="hanako", grant="all")
    assert town.shown() == []
    town.tell(
        "consent.granted",
        person="hanako",
        grant="rough",
        to={"recipient": "clinic"},
        kinds=["care.*"],
        purposes=["medical"],
        modes=["normal"],
        data="all",
        precision={"care.carers_updated": "summary"},
    )
    assert said(town.shown()) == [("hanako", "c1:1", {"roles": ["family"]})]


def test_a_drill_is_not_shown_as_real_and_a_correction_can_make_it_real(town: Home) -> None:
    town.bring(page(record("u1", 1, drill=True)))
    assert town.shown() == []
    town.bring(page(record("u1", 2)))
    assert [event for _, event, _ in said(town.shown())] == ["u1:2"]


def test_in_a_real_emergency_a_drills_update_is_refused_and_says_nothing_of_the_person(town: Home) -> None:
    until = "2026-06-03T00:00:00Z"
    town.tell("emergency.declared", emergency="quake", areas=["07202"], until=until, hazard="earthquake")
    [result] = town.bring(page(record("u1", 1, drill=True, condition=word(SECRET))))
    assert result.status == "refused"
    assert SECRET not in str(result.error)


def test_no_id_of_the_service_stands_in_the_log_or_in_any_file(town: Home) -> None:
    ref = "careyell-user-55QZ81"
    town.link(ref, "hanako")
    town.bring(page(record("u1", 2, person="cy-2", former_persons=[ref], condition=word(SECRET))))
    town.close()
    held = b"".join(path.read_bytes() for path in sorted(town.folder.rglob("*")) if path.is_file())
    town.reopen()
    assert [value for value in (ref, SECRET, stable_id("u1", 1, ref)) if value.encode() in held] == []


# Random histories. Long form: HUB_TEST_WORLDS=all.


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Iterator[int]]]:
    with home(tmp_path_factory.mktemp("crowd")) as opened:
        yield opened, count()


def played(town: Home, told: list[Told], place: str, rng: Random | None, size: int) -> list[list[Shown]]:
    """What is seen in the end, with and without history, where a history happened at a place.

    rng: None where each comes once, in order, with its person known; else shuffled, doubled, and linked any time, and
    of an update that was revised soon after, the feed may never have given an earlier revision.
    """
    people = [f"{place}-p0", f"{place}-p1"]
    town.welcome(*people)
    records = written(told, place)
    if rng is not None:
        last = {made["id"]: made for made in records}
        records = [made for made in records if made is last[made["id"]] or rng.random() < 0.7]
        records += rng.sample(records, rng.randint(0, len(records)))
        rng.shuffle(records)
    pages = [records[at : at + size] for at in range(0, len(records), size)]
    links = [rng.randint(0, len(pages)) if rng else 0 for _ in range(REFS)]
    for turn in range(len(pages) + 1):
        for who in (who for who, when in enumerate(links) if when == turn):
            town.link(f"{place}-{who}", people[who // 2])
        if turn < len(pages):
            assert {r.status for r in town.bring(page(*pages[turn]))} <= {"accepted", "duplicate", "waiting"}
    assert town.waiting() == 0
    found = [town.shown(*people, history=whole, prefix=f"{place}-") for whole in (True, False)]
    return [[(person.removeprefix(f"{place}-"), *rest) for person, *rest in shown] for shown in found]


@settings(max_examples=60 if os.environ.get("HUB_TEST_WORLDS") == "all" else 20, deadline=None)
@given(told=histories(), rng=st.randoms(use_true_random=False), size=st.integers(1, 4))
def test_any_history_shuffled_and_doubled_ends_in_the_view_of_the_undisturbed_one(
    crowd: tuple[Home, Iterator[int]], told: list[Told], rng: Random, size: int
) -> None:
    town, numbers = crowd
    number = next(numbers)
    undisturbed = played(town, told, f"a{number}", None, size)
    assert sorted((int(person[1:]), event) for person, _, event, _ in undisturbed[0]) == expected(told)
    assert played(town, told, f"b{number}", rng, size) == undisturbed


def test_the_town_of_random_histories_proves_itself(crowd: tuple[Home, Iterator[int]]) -> None:
    town, _ = crowd
    town.hub.audit.verify()
    before = town.views()
    town.hub.views.rebuild()
    assert town.views() == before
