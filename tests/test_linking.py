"""ID links: a fact under an id at a service waits sealed, enters when it is linked, and stops when it is severed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import delete, select

from conftest import MINUTE, Said, Town
from hub import waiting as room
from hub.commits import Commits
from hub.errors import Busy, Conflict, PayloadError, Refused, Tampered
from hub.events import Entry, Event
from hub.intake import NOT_LINKED_ANY_MORE, Intake, Result
from hub.linking import Linking
from hub.log.sealing import parked_key
from hub.scenario import SOURCE
from hub.views.links import severed
from hub.waiting import KEPT, Waiting, waiting
from hub.web.quarantine import translator

SECRET = "the key is under the pot, ZQX-7731"
REF = "careyell-user-55QZ81"


@pytest.fixture
def home(town: Town) -> Town:
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("person.enrolled", person="taro", areas=["07202"])
    return town


def fact(town: Town, id: str, ref: str = REF, **data: Any) -> Result:
    return town.hand_in("safety.answered", id, ref=ref, **({"status": "safe"} | data))


def link(town: Town, person: str = "hanako", ref: str = REF) -> int:
    return town.tell("identity.linked", person=person, source=SOURCE, ref=ref)


def unlink(town: Town, person: str = "hanako", ref: str = REF) -> int:
    return town.tell("identity.unlinked", person=person, source=SOURCE, ref=ref)


def entered(town: Town) -> list[Entry]:
    """The safety answers in the log."""
    with town.hub.log.entries.snapshot() as (connection, _):
        entries = [entry for entry in town.hub.log.scan(connection) if isinstance(entry, Entry)]
    return [entry for entry in entries if entry.event.kind == "safety.answered"]


def whose(town: Town) -> list[tuple[str, str | None]]:
    return [(entry.event.id, entry.event.person) for entry in entered(town)]


def keys(town: Town) -> int:
    with town.hub.engines[1].connect() as connection:
        return len(list(connection.scalars(select(parked_key.c.item))))


def readable(town: Town, *values: str) -> set[str]:
    """Which values stand readable in a file of the town."""
    held = b"".join(path.read_bytes() for path in sorted(town.folder.rglob("*")) if path.is_file())
    return {value for value in values if value.encode() in held}


def proved(town: Town) -> None:
    """The log proves itself, and the views are the same when they are derived again."""
    town.hub.audit.verify()
    before = town.views()
    town.hub.views.rebuild()
    assert town.views() == before


# What is let in, and as what


def test_a_fact_under_a_linked_id_is_as_if_the_source_had_named_the_person(home: Town) -> None:
    link(home)
    assert fact(home, "s1").status == "accepted"
    [entry] = entered(home)
    assert (entry.event.person, entry.event.ref, entry.event.source) == ("hanako", None, SOURCE)
    assert home.hand_in("safety.answered", "s1", person="hanako", status="safe").status == "duplicate"
    proved(home)


def test_what_waits_enters_in_its_order_with_the_time_of_its_arrival(home: Town) -> None:
    early = home.now
    came = []
    for name in ("s2", "s1", "s3"):
        result = fact(home, name, occurred_at=early)
        came.append(home.now)
        assert (result.status, result.position) == ("waiting", None)
        assert result.event.ref == REF
    fact(home, "other", ref="nobody's")
    assert whose(home) == []

    position = link(home)

    assert whose(home) == [("s2", "hanako"), ("s1", "hanako"), ("s3", "hanako")]
    assert [entry.position for entry in entered(home)] == [position + 1, position + 2, position + 3]
    assert [entry.received_at for entry in entered(home)] == came
    assert {entry.recorded_at for entry in entered(home)} == {home.now}
    assert {entry.effective_at for entry in entered(home)} == {early}
    assert home.hub.waiting.count() == 1
    assert keys(home) == 1
    proved(home)


def test_a_fact_without_its_link_survives_a_restart(home: Town) -> None:
    fact(home, "s1")
    home.reopen()
    link(home)
    assert whose(home) == [("s1", "hanako")]


def test_a_batch_may_hold_facts_their_link_and_the_enrolment(town: Town) -> None:
    events = [
        town.event("safety.answered", "s1", ref=REF, status="safe"),
        town.event("person.enrolled", person="hanako", areas=[]),
        town.event("identity.linked", person="hanako", source=SOURCE, ref=REF),
        town.event("safety.answered", "s2", ref=REF, status="safe"),
        town.event("identity.unlinked", person="hanako", source=SOURCE, ref=REF),
        town.event("safety.answered", "s3", ref=REF, status="safe"),
    ]
    results = town.hub.intake.take(events)
    assert [r.status for r in results] == ["waiting", "accepted", "accepted", "accepted", "accepted", "refused"]
    assert whose(town) == [("s2", "hanako")], "what waited was destroyed when the id was unlinked"
    assert (town.hub.waiting.count(), keys(town)) == (0, 0)
    proved(town)


def test_the_same_again_is_the_same_event_before_and_after_it_is_linked(home: Town) -> None:
    assert [fact(home, "s1").status for _ in range(3)] == ["waiting"] * 3
    twice = [home.event("safety.answered", "s9", ref=REF, status="safe") for _ in range(2)]
    assert [result.status for result in home.hub.intake.take(twice)] == ["waiting"] * 2
    assert (home.hub.waiting.count(), keys(home)) == (2, 2)
    for other in ({"status": "injured"}, {"ref": "another"}, {"occurred_at": home.now}, {"exercise": True}):
        result = fact(home, "s1", **other)
        assert isinstance(result.error, Conflict), other

    link(home)

    assert fact(home, "s1").status == "duplicate"
    assert isinstance(fact(home, "s1", status="injured").error, Conflict)
    link(home, "taro")
    assert fact(home, "s1").status == "duplicate", "its source sent the same, whoever the id belongs to now"
    assert isinstance(fact(home, "s1", status="injured").error, Conflict)
    assert whose(home) == [("s1", "hanako"), ("s9", "hanako")]


def test_an_id_never_linked_to_the_person_of_an_event_does_not_make_it_the_same(home: Town) -> None:
    home.tell("safety.answered", "s1", person="hanako", status="safe")
    assert isinstance(fact(home, "s1").error, Conflict)
    link(home, "taro")
    assert isinstance(fact(home, "s1").error, Conflict)


def test_the_same_again_is_a_duplicate_after_the_person_is_erased_and_the_id_anothers(home: Town) -> None:
    link(home)
    fact(home, "s1")
    link(home, "taro")
    home.tell("person.erased", person="hanako")
    assert fact(home, "s1").status == "duplicate"
    proved(home)


# What may not even wait


@pytest.mark.parametrize(
    ("kind", "data", "path"),
    [
        ("safety.answered", {"ref": REF, "person": "hanako", "status": "safe"}, "ref"),
        ("safety.answered", {"ref": "", "status": "safe"}, "ref"),
        ("safety.answered", {"ref": "a\nb", "status": "safe"}, "ref"),
        ("safety.answered", {"ref": "x" * 201, "status": "safe"}, "ref"),
        ("safety.answered", {"ref": 7, "status": "safe"}, "ref"),
        ("safety.answered", {"ref": REF, "status": "fine"}, "status"),
        ("safety.answered", {"ref": REF, "status": "safe", "note": "x" * (1024 * 1024)}, "data"),
        ("shelter.reported", {"ref": REF, "shelter": "s", "status": "open"}, "ref"),
    ],
)
def test_a_bad_fact_is_refused_at_once(home: Town, kind: str, data: dict[str, Any], path: str) -> None:
    result = home.hand_in(kind, "bad", **data)
    assert isinstance(result.error, PayloadError)
    assert result.error.path == path
    assert REF not in str(result.error)
    assert (home.hub.waiting.count(), keys(home)) == (0, 0)


def test_a_control_event_names_its_person(home: Town) -> None:
    event = Event(source=SOURCE, id="m", kind="person.moved", ref=REF, data={"areas": []})
    [result] = home.hub.intake.take([event])
    assert isinstance(result.error, PayloadError)
    assert result.error.path == "ref"


def test_a_kind_that_was_not_introduced_does_not_wait(new_town: Callable[[str], Town]) -> None:
    town = new_town("bare")
    result = fact(town, "s1")
    assert isinstance(result.error, Refused)
    assert (result.error.rule, town.hub.waiting.count()) == ("R8", 0)


def test_over_a_bound_the_new_fact_is_refused_and_nothing_is_dropped(
    home: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_OF_A_REF", 2)
    monkeypatch.setattr(room, "MOST_OF_A_SOURCE", 3)
    monkeypatch.setattr(room, "MOST_FACTS", 4)
    batch = [home.event("safety.answered", f"s{n}", ref=REF, status="safe") for n in range(3)]
    results = home.hub.intake.take(batch)
    assert [result.status for result in results] == ["waiting", "waiting", "refused"]
    assert "for this id" in str(results[2].error)
    assert fact(home, "s0").status == "waiting", "what waits already is acknowledged again"
    assert fact(home, "t1", ref="r2").status == "waiting"
    assert "of this source" in str(fact(home, "t2", ref="r3").error)

    def of_another(id: str) -> Result:
        event = Event(source="elsewhere", id=id, kind="safety.answered", ref="r", data={"status": "safe"})
        return home.hub.intake.take([event])[0]

    assert of_another("u1").status == "waiting"
    error = of_another("u2").error
    assert isinstance(error, Refused)
    assert ("4 facts" in error.reason, error.rule, error.path) == (True, "R1a", "ref")
    assert (home.hub.waiting.count(), keys(home)) == (4, 4)

    link(home)
    assert whose(home) == [("s0", "hanako"), ("s1", "hanako")]
    assert of_another("u2").status == "waiting"


def test_what_waits_is_destroyed_after_30_days(home: Town) -> None:
    fact(home, "old")
    home.wait(KEPT - MINUTE)
    fact(home, "new", ref="another")
    assert home.hub.waiting.count() == 2
    home.wait(2 * MINUTE)
    link(home)
    assert whose(home) == []
    assert (home.hub.waiting.count(), keys(home)) == (1, 1)
    home.wait(KEPT)
    home.reopen()
    assert (home.hub.waiting.count(), keys(home)) == (0, 0)


def test_what_has_waited_for_30_days_makes_room(home: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_OF_A_REF", 1)
    fact(home, "old")
    assert fact(home, "new").status == "refused"
    home.wait(KEPT)
    assert fact(home, "new").status == "waiting"
    assert (home.hub.waiting.count(), keys(home)) == (1, 1)


def test_a_clock_that_leapt_destroys_nothing_that_waits(home: Town) -> None:
    from hub.hub import Hub
    from hub.log.clock import WatchedClock

    fact(home, "s1")
    leapt = home.now + 2 * KEPT
    home.close()
    other = Hub.open(home.url, WatchedClock(lambda: leapt, lambda: 0.0), folder=home.folder)
    with pytest.raises(Busy):
        other.waiting.sweep()
    other.close()
    home.reopen()
    link(home)
    assert whose(home) == [("s1", "hanako")]


def test_a_fact_is_refused_at_its_entry_as_at_any_door_and_goes_to_the_quarantine(home: Town) -> None:
    fact(home, "drill", exercise=True, note=SECRET)
    fact(home, "real", occurred_at=home.now)
    until = home.now + timedelta(hours=9)
    home.tell("emergency.declared", emergency="e", areas=["07202"], until=until, hazard="earthquake")

    link(home)

    assert whose(home) == [("real", "hanako")]
    [item] = home.hub.quarantine.items()
    assert (item.via, item.kind, item.rule, item.path) == ("events", "safety.answered", "R17", "exercise")
    assert home.hub.waiting.count() == 0
    home.tell("emergency.lifted", emergency="e")
    [result] = home.hub.quarantine.replay(item.item, translator(home.hub.plugins))
    assert result.status == "accepted"
    [_, entry] = entered(home)
    assert (entry.event.exercise, entry.event.data["note"]) == (True, SECRET)
    assert keys(home) == 0


def test_digits_and_times_of_a_fact_that_waited_are_as_they_came(home: Town) -> None:
    digits = "37.49166666666666666667"
    data = {"lat_deg": digits, "lon_deg": "139.875", "accuracy_m": 1}
    home.hand_in("location.reported", "l1", ref=REF, exercise=True, **data)
    until = home.now + timedelta(hours=9)
    home.tell("emergency.declared", emergency="e", areas=["07202"], until=until, hazard="earthquake")
    link(home)
    home.tell("emergency.lifted", emergency="e")
    [item] = home.hub.quarantine.items()
    assert [result.status for result in home.hub.quarantine.replay(item.item, translator(home.hub.plugins))] == [
        "accepted"
    ]
    with home.hub.log.entries.snapshot() as (connection, end):
        entry = home.hub.log.read(connection, [end.position])[end.position]
    assert isinstance(entry, Entry)
    assert str(entry.event.data["lat_deg"]) == digits


# Severing


def test_unlinking_stops_the_flow_and_its_source_is_told(home: Town) -> None:
    link(home)
    fact(home, "s1")
    unlink(home)
    for name in ("s1", "s2"):
        result = fact(home, name)
        assert isinstance(result.error, Refused)
        assert (result.error.reason, result.error.rule) == (NOT_LINKED_ANY_MORE, "R1a")
    assert home.hub.waiting.count() == 0
    home.reopen()
    home.hub.views.rebuild()
    assert fact(home, "s2").status == "refused"
    link(home)
    assert fact(home, "s2").status == "accepted"
    proved(home)


def test_unlinking_a_pair_that_does_not_stand_changes_nothing(home: Town) -> None:
    fact(home, "s0")
    unlink(home)
    assert fact(home, "s00").status == "waiting"
    link(home)
    unlink(home, "taro")
    unlink(home, ref="another")
    assert fact(home, "s1").status == "accepted"
    link(home, "taro")
    unlink(home, "hanako")
    assert fact(home, "s2").status == "accepted"
    assert whose(home)[-1] == ("s2", "taro")
    proved(home)


def shown(town: Town) -> set[tuple[str, str]]:
    answer = json.loads(town.read("city", "rescue").body)
    return {(person["person"], item["event"]) for person in answer["persons"] for item in person["items"]}


def retract(town: Town, id: str, ref: str, event: str) -> Result:
    town.wait()
    said = Event(source=SOURCE, id=id, kind="fact.retracted", ref=ref, data={"event": event})
    [result] = town.hub.intake.take([said])
    return result


@pytest.fixture
def seen(home: Town) -> Town:
    home.tell("recipient.registered", **{"recipient": "city", "class": "x", "areas": ["*"], "purposes": ["rescue"]})
    for person in ("hanako", "taro"):
        said = {"grant": f"g-{person}", "to": {"class": "x"}, "kinds": ["*"], "purposes": ["rescue"]}
        home.tell("consent.granted", person=person, modes=["normal"], data="all", **said)
    return home


def test_a_retraction_reaches_the_fact_that_it_names_though_the_id_is_anothers_by_now(seen: Town) -> None:
    link(seen, "hanako")
    fact(seen, "s1")
    link(seen, "taro")
    fact(seen, "s2")
    assert shown(seen) == {("hanako", "s1"), ("taro", "s2")}
    assert retract(seen, "r1", REF, "s1").status == "accepted"
    assert shown(seen) == {("taro", "s2")}
    assert retract(seen, "r1", REF, "s1").status == "duplicate"
    seen.hub.views.rebuild()
    assert shown(seen) == {("taro", "s2")}
    proved(seen)


def test_a_retraction_under_an_id_that_was_never_the_persons_takes_back_nothing_of_theirs(seen: Town) -> None:
    link(seen, "hanako")
    link(seen, "taro", "taros")
    fact(seen, "s1")
    assert retract(seen, "r1", "taros", "s1").status == "accepted"
    assert shown(seen) == {("hanako", "s1")}


def test_a_retraction_under_a_severed_id_does_not_tell_who_was_erased(seen: Town) -> None:
    for ref in ("a", "b"):
        link(seen, "hanako", ref)
        fact(seen, f"s-{ref}", ref=ref)
    link(seen, "taro", "a")
    seen.tell("person.erased", person="hanako")
    unlink(seen, "taro", "a")
    told = {str(retract(seen, f"r-{ref}", ref, f"s-{ref}").error) for ref in ("a", "b")}
    assert len(told) == 1


def test_in_one_batch_a_retraction_finds_the_fact_of_the_former_person(seen: Town) -> None:
    said = [
        seen.event("identity.linked", "l1", person="hanako", source=SOURCE, ref=REF),
        seen.event("safety.answered", "s1", ref=REF, status="safe"),
        seen.event("identity.linked", "l2", person="taro", source=SOURCE, ref=REF),
        Event(source=SOURCE, id="r1", kind="fact.retracted", ref=REF, data={"event": "s1"}),
    ]
    assert [result.status for result in seen.hub.intake.take(said)] == ["accepted"] * 4
    assert shown(seen) == set()


def test_the_id_of_an_erased_person_answers_as_one_that_was_unlinked(home: Town) -> None:
    link(home, "hanako", "erased")
    link(home, "taro", "unlinked")
    for ref in ("erased", "unlinked"):
        fact(home, f"s-{ref}", ref=ref)
    home.tell("person.erased", person="hanako")
    unlink(home, "taro", "unlinked")
    for name in ("s", "new"):
        for content in ("safe", "injured"):
            told = {str(fact(home, f"{name}-{ref}", ref=ref, status=content).error) for ref in ("erased", "unlinked")}
            assert len(told) == 1
    home.reopen()
    assert fact(home, "later", ref="erased").status == "refused"
    proved(home)


def test_an_erasure_does_not_let_an_older_link_stand_again(home: Town) -> None:
    link(home, "hanako")
    link(home, "taro")
    home.tell("person.erased", person="taro")
    proved(home)
    assert isinstance(fact(home, "s1").error, Refused)
    assert home.hub.directory.links("hanako") == []
    link(home, "hanako")
    assert fact(home, "s1").status == "accepted"
    proved(home)


def test_after_an_erasure_nothing_of_what_waited_can_be_read(home: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    fact(home, "s1", note=SECRET)
    fact(home, "s2", ref="of another", note=SECRET)
    assert readable(home, SECRET, REF) == set()
    monkeypatch.setattr(Linking, "drain", lambda *_: 0)  # the link's own work was cut off
    link(home)
    assert home.hub.waiting.count() == 2
    home.tell("person.erased", person="hanako")
    assert (home.hub.waiting.count(), keys(home)) == (1, 1)
    home.close()
    assert readable(home, SECRET, REF) == set()


def test_an_erasure_that_was_cut_off_is_finished_at_the_next_start(home: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: object) -> None:
        raise KeyboardInterrupt

    fact(home, "s1")
    with monkeypatch.context() as patched:
        patched.setattr(Linking, "drain", lambda *_: 0)
        link(home)
        patched.setattr(home.hub.commits, "erase", killed)
        with pytest.raises(KeyboardInterrupt):
            home.tell("person.erased", person="hanako")
    assert keys(home) == 1
    home.reopen()
    assert (home.hub.waiting.count(), keys(home)) == (0, 0)


def test_the_quarantine_keeps_nothing_of_a_severed_id(home: Town) -> None:
    from hub.quarantine import Refusal

    def keep(ref: str) -> None:
        home.hub.quarantine.keep(
            [
                Refusal(
                    via="events", reason="is no status", source=SOURCE, refs=(ref,), payload=f"{SECRET} {ref}".encode()
                )
            ]
        )

    keep(REF)
    keep("another")
    link(home)
    keep(f"{REF}")
    home.tell("person.erased", person="hanako")
    assert [item.kept for item in home.hub.quarantine.items()] == [True]
    keep(REF)
    assert sorted(item.kept for item in home.hub.quarantine.items()) == [False, True]
    home.close()
    assert readable(home, SECRET, REF) == set()


def test_a_refusal_of_a_linked_id_goes_with_its_person(home: Town) -> None:
    from hub.quarantine import Refusal

    link(home)
    home.hub.quarantine.keep([Refusal(via="events", reason="bad", source=SOURCE, refs=(REF,), payload=SECRET.encode())])
    link(home, "taro")
    home.tell("person.erased", person="hanako")
    assert home.hub.quarantine.items() == []


# Cut off, and two at once


def test_a_link_whose_work_was_cut_off_is_finished_at_the_next_start_and_the_next_link(
    home: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> int:
        raise Busy("the log is held")

    fact(home, "s1")
    fact(home, "s2", ref="r2")
    with monkeypatch.context() as patched:
        patched.setattr(Linking, "drain", busy)
        link(home)
    assert whose(home) == []
    link(home, "taro", "r2")
    assert whose(home) == [("s1", "hanako"), ("s2", "taro")]

    fact(home, "s3", ref="r3")
    with monkeypatch.context() as patched:
        patched.setattr(Linking, "drain", busy)
        link(home, "taro", "r3")
    home.reopen()
    assert whose(home)[2:] == [("s3", "taro")]
    proved(home)


def test_what_entered_and_was_not_taken_out_is_not_doubled(home: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    fact(home, "s1")
    fact(home, "drill", exercise=True)
    until = home.now + timedelta(hours=9)
    home.tell("emergency.declared", emergency="e", areas=["07202"], until=until, hazard="earthquake")
    with monkeypatch.context() as patched:
        patched.setattr(Waiting, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            link(home)
    assert home.hub.waiting.count() == 2
    home.reopen()
    assert whose(home) == [("s1", "hanako")]
    assert [item.count for item in home.hub.quarantine.items()] == [2]
    assert home.hub.waiting.count() == 0


def test_two_hubs_that_drain_at_once_double_nothing(
    home: Town, open_town: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"s{number:03}" for number in range(120)]
    home.hub.intake.take(home.event("safety.answered", name, ref=REF, status="safe") for name in ids)
    with open_town(home.folder) as other:
        other.clock.set(home.now)
        enter = Intake.enter

        def both(intake: Intake, waited: Any) -> list[Result]:
            waited = list(waited)
            if intake is home.hub.intake:
                other.hub.linking.drain()
            return enter(intake, waited)

        monkeypatch.setattr(Intake, "enter", both)
        link(home)
        monkeypatch.undo()
        assert whose(home) == [(name, "hanako") for name in ids]
        assert (home.hub.waiting.count(), keys(home), home.hub.quarantine.items()) == (0, 0, [])

        other.clock.set(home.now)
        assert fact(other, "t1", ref="r2").status == "waiting"
        link(home, "taro", "r2")
        assert fact(other, "t2", ref="r2").status == "accepted"
        unlink(home, "taro", "r2")
        assert fact(other, "t3", ref="r2").status == "refused"
    proved(home)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import Town
from hub.scenario import SOURCE
town = Town(Path(sys.argv[1]))
waits, left = town.hub.intake.enter, int(sys.argv[4])
def say(line):
    global left
    sys.stdout.write(f"{line}\\n"); sys.stdout.flush()
    left -= 1
    if not left:
        sys.stdin.read()  # until it is killed
def slow(waited):
    results = waits(waited)
    say(len(results))
    return results
object.__setattr__(town.hub.linking, "_intake", type("I", (), {"enter": staticmethod(slow)}))
say("open")
town.tell("identity.linked", "link", person="hanako", source=SOURCE, ref=sys.argv[3])
say("done")
"""


@pytest.mark.parametrize("lines", [1, 2, 4, 8])
def test_a_kill_between_linking_and_entering_loses_and_doubles_nothing(home: Town, lines: int) -> None:
    """Killed when it was opened, and after 1, 3 or 7 of the 8 transactions in which the facts enter."""
    ids = [f"s{number:03}" for number in range(400)]
    home.hub.intake.take(home.event("safety.answered", name, ref=REF, status="safe") for name in ids)
    home.close()
    run = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home.folder), str(Path(__file__).parent), REF, str(lines)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdin is not None
    said = [run.stdout.readline() for _ in range(lines)]
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert "done\n" not in [*said, *run.stdout.readlines()]
    run.stdout.close()
    run.stdin.close()

    home.reopen()
    if lines > 1:
        assert home.hub.waiting.count() == 0, "it was linked when it was killed"
    link(home)
    assert whose(home) == [(name, "hanako") for name in ids]
    assert (home.hub.waiting.count(), keys(home)) == (0, 0)
    proved(home)


def test_a_link_is_answered_when_what_waited_has_entered_and_its_turn_is_given_back(home: Town) -> None:
    seen: list[tuple[int, int]] = []
    fact(home, "s1")
    home.hub.commits.observe = lambda jobs, events: seen.append((jobs, events))
    link(home)
    assert seen == [(1, 1), (1, 1)], "the link's own transaction, then that of the fact"
    assert isinstance(home.hub.commits, Commits)


def test_a_severed_id_whose_keys_cannot_be_destroyed_is_told_and_tried_again(
    home: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(home)
    fact(home, "s1", ref="r2")
    with monkeypatch.context() as patched:

        def busy(*_: object) -> None:
            raise Busy("the keys are held")

        patched.setattr(home.hub.commits, "erase", busy)
        with pytest.raises(Busy):
            unlink(home)
    assert home.hub.commits._severed
    home.tell("person.moved", person="taro", areas=[])
    assert not home.hub.commits._severed


# A person's links, and the operator's file


def test_a_persons_links_are_listed_while_they_stand(home: Town) -> None:
    link(home, ref="r1")
    at = home.now
    link(home, ref="r2")
    link(home, "taro", "r2")
    rows = home.hub.directory.links("hanako")
    assert rows == [{"source": SOURCE, "ref": "r1", "recorded_at": at.isoformat(timespec="microseconds")[:-6] + "Z"}]
    assert [row["ref"] for row in home.hub.directory.links("taro")] == ["r2"]
    unlink(home, ref="r1")
    assert home.hub.directory.links("hanako") == []
    home.tell("person.erased", person="taro")
    assert home.hub.directory.links("taro") == home.hub.directory.links("nobody") == []


@pytest.fixture
def replaying(new_town: Callable[[str], Town]) -> Town:
    """Of a database that goes on at its own last time, which a command can be run on."""
    town = new_town("replaying")
    town.hub.simulate()
    town.hub.init()
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("person.enrolled", person="taro", areas=["07202"])
    return town


def test_a_file_of_links_may_be_run_twice(replaying: Town, hub_main: Callable[..., Said], tmp_path: Path) -> None:
    home = replaying
    fact(home, "s1")
    listed = tmp_path / "links.csv"
    lines = [f"{SOURCE},{REF},hanako", f'{SOURCE},"r,2",taro']
    listed.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["source,ref,person", *lines, ""]).encode())
    said = hub_main("link", listed, "--database", home.url, "--json")
    assert (said.status, said.err) == (0, "")
    assert [json.loads(line) for line in said.out.splitlines()] == [
        {"line": 2, "status": "accepted"},
        {"line": 3, "status": "accepted"},
    ]
    assert whose(home) == [("s1", "hanako")]
    assert hub_main("link", listed, "--database", home.url).out == "line 2: duplicate\nline 3: duplicate\n"
    unlink(home)
    assert hub_main("link", listed, "--database", home.url).status == 0
    assert fact(home, "s2").status == "refused", "the file does not undo what was undone since"


def test_a_file_of_links_tells_each_bad_line_without_its_values(
    replaying: Town, hub_main: Callable[..., Said], tmp_path: Path
) -> None:
    home = replaying
    listed = tmp_path / "links.csv"
    bad = [f"{SOURCE},{SECRET[:9]}", f"{SOURCE},{REF},nobody-ZQX", f",{REF},hanako", f"{SOURCE},{'x' * 201},hanako"]
    listed.write_text("\n".join(["source,ref,person", *bad, "", f"{SOURCE},r1,taro"]))
    said = hub_main("link", listed, "--database", home.url, "--json")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert said.status == 1
    assert [(row["line"], row["status"]) for row in rows] == [(n, "refused") for n in range(2, 6)] + [(7, "accepted")]
    assert "ZQX" not in said.out + said.err
    assert REF not in said.out + said.err


@pytest.mark.parametrize(
    "content", [b"", b"ref,source,person\n", b"source,ref,person\n\xff\xfe,a,b\n", b'source,ref,person\n"a']
)
def test_a_file_that_is_no_list_of_links_is_misuse(
    home: Town, hub_main: Callable[..., Said], tmp_path: Path, content: bytes
) -> None:
    listed = tmp_path / "links.csv"
    listed.write_bytes(content)
    said = hub_main("link", listed, "--database", home.url)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("hub: links.csv: ")


# Against a naive reading


class Naive:
    """Two ids, two people: what the rules say, kept in dictionaries."""

    def __init__(self) -> None:
        self.owner: dict[str, str | None] = {}
        self.room: list[tuple[str, str]] = []
        self.log: dict[str, str] = {}
        self.ever: set[tuple[str, str]] = set()
        self.gone: set[str] = set()

    def fact(self, id: str, ref: str, by_person: str | None) -> str:
        if by_person is not None:
            if by_person in self.gone:
                return "refused"
            if id in self.log:
                return "duplicate" if self.log[id] == by_person else "refused"
            self.log[id] = by_person
            return "accepted"
        if ref not in self.owner:
            if id in self.log or any(there == id and other != ref for there, other in self.room):
                return "refused"
            if (id, ref) not in self.room:
                self.room.append((id, ref))
            return "waiting"
        owner = self.owner[ref]
        if owner is None:
            return "refused"
        if id in self.log:
            person = self.log[id]
            known = person == owner or (ref, person) in self.ever or person in self.gone
            return "duplicate" if known else "refused"
        self.log[id] = owner
        return "accepted"

    def link(self, ref: str, person: str) -> str:
        if person in self.gone:
            return "refused"
        self.owner[ref] = person
        self.ever.add((ref, person))
        for pair in [pair for pair in self.room if pair[1] == ref]:
            self.room.remove(pair)
            self.log.setdefault(pair[0], person)
        return "accepted"

    def unlink(self, ref: str, person: str) -> str:
        if person in self.gone:
            return "refused"
        if self.owner.get(ref) == person:
            self.owner[ref] = None
        return "accepted"

    def erase(self, person: str) -> str:
        if person in self.gone:
            return "refused"
        self.gone.add(person)
        self.owner |= {ref: None for ref, owner in self.owner.items() if owner == person}
        return "accepted"


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_facts_links_and_severings_comes_out_as_a_naive_reading_says(
    seed: int, home: Town, open_town: Callable[[Path], Any]
) -> None:
    rng, naive = Random(f"links {seed}"), Naive()
    with open_town(home.folder) as other:
        for step in range(70):
            town: Town = rng.choice((home, other))
            town.clock.set(max(home.now, other.now))
            ref, person = rng.choice("rs"), rng.choice(("hanako", "taro"))
            act = rng.choices(("fact", "link", "unlink", "erase"), (60, 22, 16, 1 if step > 30 else 0))[0]
            data = {"person": person, "source": SOURCE, "ref": ref}
            match act:
                case "fact":
                    name, named = f"f{rng.randrange(25)}", rng.random() < 0.1
                    wanted = naive.fact(name, ref, person if named else None)
                    came = town.hand_in(
                        "safety.answered", name, **({"person": person} if named else {"ref": ref}), status="safe"
                    )
                case "link":
                    wanted = naive.link(ref, person)
                    came = town.hand_in("identity.linked", f"c{step}", **data)
                case "unlink":
                    wanted = naive.unlink(ref, person)
                    came = town.hand_in("identity.unlinked", f"c{step}", **data)
                case _:
                    wanted = naive.erase(person)
                    came = town.hand_in("person.erased", f"c{step}", person=person)
            assert came.status == wanted, f"seed {seed}, step {step}: {act} {data}: {came.error}"
            if step == 50:
                town.hub.views.rebuild()
                other.reopen()
        other.clock.set(home.now)
    living = {name: owner for name, owner in naive.log.items() if owner not in naive.gone}
    assert dict(whose(home)) == living
    assert home.hub.waiting.count() == len(naive.room)
    proved(home)


# The pieces themselves


def test_a_waiting_fact_that_was_changed_is_told_and_holds_up_no_other(home: Town) -> None:
    fact(home, "s1")
    fact(home, "s2")
    with home.hub.log.entries.maintaining() as connection:
        connection.execute(waiting.update().where(waiting.c.number == 1).values(box=b"x" * 60))
    with pytest.raises(Tampered):
        fact(home, "s1")
    link(home)
    home.reopen()
    assert whose(home) == [("s2", "hanako")]
    assert home.hub.waiting.count() == 1
    with pytest.raises(Tampered):
        home.hub.audit.verify()


def test_an_import_says_what_waits(home: Town, tmp_path: Path) -> None:
    from hub.connector import Translation
    from hub.importing import import_files

    class Care:
        name, source, kinds, quality = "care", "careyell", ("safety.answered",), dict[str, str]()

        def translate(self, payload: bytes) -> Translation:
            data = {"status": payload.decode()}
            return Translation(events=[Event(source="careyell", id="c1", kind="safety.answered", ref=REF, data=data)])

    (tmp_path / "payload").write_text("safe")
    [done] = import_files(home.hub, Care(), [tmp_path / "payload"])
    assert (done.status, done.events) == ("accepted", ())
    assert done.reason == "1 of its facts wait until their id is linked"
    home.tell("identity.linked", person="hanako", source="careyell", ref=REF)
    assert whose(home) == [("c1", "hanako")]
    [again] = import_files(home.hub, Care(), [tmp_path / "payload"])
    assert again.status == "nothing"


def test_without_what_is_kept_of_severed_ids_a_rebuild_would_differ(home: Town) -> None:
    """What `severed` is for: the table is the only one to know."""
    link(home, "hanako")
    link(home, "taro")
    home.tell("person.erased", person="taro")
    before = home.views()["link"]
    with home.hub.log.entries.maintaining() as connection:
        connection.execute(delete(severed))
    home.hub.views.rebuild()
    assert home.views()["link"] != before
