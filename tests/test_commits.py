"""Shared commits: who waits together is written together, and only the one at fault hears of it."""

from __future__ import annotations

import json
import threading

import pytest

from conftest import Town
from hub.commits import Commits
from hub.errors import Busy
from hub.log.recorder import Append
from hub.views.views import Change


def at_once(commits: Commits, *jobs: object) -> list[object]:
    """What each job came to, all having waited for the same turn."""
    held, entered = threading.Event(), threading.Event()
    came: list[object] = [None] * len(jobs)

    def hold(append: Append, change: Change) -> None:
        entered.set()
        held.wait(30)

    def run(number: int, job: object) -> None:
        try:
            came[number] = commits.run(job)  # type: ignore[arg-type]
        except Exception as error:
            came[number] = error

    first = threading.Thread(target=commits.run, args=(hold,))
    first.start()
    entered.wait(30)
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    while len(commits._waiting) < len(jobs):
        threads[0].join(0.001)
    held.set()
    for thread in (first, *threads):
        thread.join()
    return came


def test_those_who_wait_share_a_transaction(town: Town) -> None:
    seen: list[tuple[int, int]] = []
    town.hub.commits.observe = lambda jobs, events: seen.append((jobs, events))
    transactions = at_once(town.hub.commits, *[lambda append, _: id(append)] * 5)
    assert len(set(transactions)) == 1
    assert seen == [(1, 0), (5, 0)]


def test_one_that_fails_fails_alone(town: Town) -> None:
    def fail(append: Append, change: Change) -> None:
        raise ZeroDivisionError

    came = at_once(town.hub.commits, lambda append, _: 1, fail, lambda append, _: 3)
    assert [came[0], came[2]] == [1, 3]
    assert isinstance(came[1], ZeroDivisionError)


def test_of_one_by_itself_too_it_is_remembered_that_nobody_knows_whether_it_is_durable(town: Town) -> None:
    def fail(append: Append, change: Change) -> None:
        raise ZeroDivisionError

    def lost(append: Append, change: Change) -> None:
        raise Busy("the database does not answer")

    came = at_once(town.hub.commits, fail, lambda append, _: 2)
    assert (came[1], town.hub.commits.unsure) == (2, False)
    at_once(town.hub.commits, fail, lost)
    assert town.hub.commits.unsure


def test_a_duplicate_in_the_same_transaction_is_one_event(town: Town) -> None:
    town.tell("person.enrolled", person="hanako", areas=[])
    event = town.event("safety.answered", "s", person="hanako", status="safe")
    taken = town.hub.intake.take
    results: list[str] = []
    commits = town.hub.commits
    run = commits.run
    jobs: list[object] = []
    commits.run = lambda job, **_: jobs.append(job) or []  # type: ignore[method-assign,assignment,func-returns-value]
    taken([event])
    taken([event])
    commits.run = run  # type: ignore[method-assign]
    for came in at_once(commits, *jobs):
        results += [result.status for result in came]  # type: ignore[attr-defined]
    assert sorted(results) == ["accepted", "duplicate"]


def test_an_erasure_whose_key_cannot_be_destroyed_is_not_acknowledged_and_tried_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.tell("person.enrolled", person="hanako", areas=[])
    town.tell("person.enrolled", person="taro", areas=[])

    def busy(subject: int) -> None:
        raise Busy("the keys are held")

    monkeypatch.setattr(town.hub.log.keyring, "erase", busy)
    with pytest.raises(Busy):
        town.hand_in("person.erased", "e", person="hanako")
    assert 1 in town.hub.log.keyring.subjects()
    monkeypatch.undo()

    town.tell("safety.answered", person="taro", status="safe")

    assert 1 not in town.hub.log.keyring.subjects()
    town.hub.audit.verify()


@pytest.mark.parametrize("order", [("answer", "retraction"), ("retraction", "answer")])
def test_a_fact_and_its_retraction_in_one_batch_show_nothing(town: Town, order: tuple[str, str]) -> None:
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    city = {"recipient": "aizu-city", "class": "municipality", "areas": ["*"], "purposes": ["rescue"]}
    town.tell("recipient.registered", **city)
    terms = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"]}
    town.tell("consent.granted", person="hanako", grant="g", to={"recipient": "aizu-city"}, **terms)
    events = {
        "answer": town.event("safety.answered", "a", person="hanako", status="safe"),
        "retraction": town.event("fact.retracted", "r", person="hanako", event="a"),
    }
    assert {found.status for found in town.hub.intake.take([events[name] for name in order])} == {"accepted"}
    assert json.loads(town.read("aizu-city", "rescue").body)["persons"] == []
    town.hub.audit.verify()
