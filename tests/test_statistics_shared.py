"""A renewal of figures that is shared out (R20): nobody is lost or counted twice, whoever carries what and dies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from random import Random
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import select, update

from conftest import Town
from hub.errors import Busy, HubError, Tampered
from hub.events import Event, Position
from hub.hub import Hub
from hub.log.clock import WatchedClock
from hub.log.recorder import head
from hub.rules import Moment
from hub.statistics import Question, Statistics, counting, sharing
from hub.statistics.carrier import Carrier
from hub.statistics.keeping import Figure, figure
from hub.statistics.sharing import Renewal, Share, portion, renewal
from hub.statistics.statistics import _questions
from test_statistics import answered, city, enrolled, granted, question, registered  # noqa: F401 -- a fixture

TINY = timedelta(microseconds=1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of six persons and purposes, and nobody is waited for long."""
    monkeypatch.setattr(sharing, "AT_ONCE", 6)
    monkeypatch.setattr("hub.statistics.statistics._STILL_S", 0.05)
    monkeypatch.setattr("hub.statistics.statistics._LOOK_S", 0.01)


@pytest.fixture
def counted(city: Town) -> Town:  # noqa: F811
    """Thirty persons in ten shares, for two purposes; nothing is rounded away."""
    answered(city, 20)
    answered(city, 10, "need_help", first=20)
    return city


@pytest.fixture
def join(counted: Town) -> Iterator[Callable[[], Hub]]:
    """Opens the hub once more, as another process does."""
    with ExitStack() as rooms:

        def opened() -> Hub:
            hub = Hub.open(counted.url, counted.clock, folder=counted.folder, durable=False)
            rooms.callback(hub.close)
            return hub

        yield opened


def single(hub: Hub, of: Renewal) -> dict[Question, Figure]:
    """What one sweep gives at the moment of a renewal."""
    with hub.log.entries.snapshot() as (connection, end):
        standing = hub.views.at(connection, end.position, of.moment.position)
        return hub.statistics._figures(standing, _questions(of), of.moment.time)


def begun(hub: Hub, asked: Question | None = None) -> Renewal:
    """A renewal that somebody begins, who is killed before carrying anything."""
    killed: list[Renewal] = []

    def die(of: Renewal, *, tells: bool) -> None:
        killed.append(of)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub.statistics, "_shared", die)
        with pytest.raises(KeyboardInterrupt):
            hub.statistics.read(asked or question())
    return killed[0]


def rows(hub: Hub) -> int:
    with hub.log.entries.snapshot() as (connection, _):
        return len(connection.execute(select(renewal.c.name)).all() + connection.execute(select(portion.c.name)).all())


def finished(hub: Hub, share: Share) -> bool:
    return hub.statistics._sharing.finish(share, hub.statistics._part(share))


def taken(hub: Hub) -> Share:
    share = hub.statistics._sharing.take()
    assert share is not None
    return share


def at_once(town: Town, kind: str, persons: range, **data: Any) -> None:
    """Events while the clock stands: nothing is over by them."""
    results = town.hub.intake.take([town.event(kind, person=f"p{n}", **data) for n in persons])
    assert {result.status for result in results} == {"accepted"}


def safe(body: bytes) -> int:
    return sum(cell["counts"]["safe"] for cell in json.loads(body)["cells"])


def test_who_asks_alone_carries_everything_and_nothing_is_left_behind(counted: Town) -> None:
    answer = counted.hub.statistics.read(question())
    assert safe(answer.body) == 20
    assert len(answer.counted or ()) == 30
    assert rows(counted.hub) == 0
    assert counted.hub.audit.repeat(counted.hub.audit.disclosures()[-1]).same


def test_a_renewal_of_one_share_touches_no_table(counted: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "AT_ONCE", 60)
    monkeypatch.setattr(counted.hub.statistics._sharing, "begin", lambda *of: pytest.fail("it was shared out"))
    assert safe(counted.hub.statistics.read(question()).body) == 20


def test_shares_carried_by_several_come_to_what_one_sweep_gives(counted: Town, join: Callable[[], Hub]) -> None:
    of = begun(counted.hub)
    helpers = [join() for _ in range(3)]
    assert counted.hub.statistics.waiting() == 10
    for helper in (*helpers, *helpers):
        assert helper.statistics.carry()
    wanted = single(counted.hub, of)
    at_once(counted, "safety.answered", range(30), status="injured")  # what happens meanwhile is of the next hour
    answer = helpers[0].statistics.read(question())
    assert answer.body == wanted[question()].body
    assert list(answer.counted or ()) == wanted[question()].counted
    assert answer.moment == of.moment
    assert not helpers[1].statistics.carry()
    mesh = question(by="mesh")
    assert counted.hub.statistics.read(mesh).body == wanted[mesh].body
    positions = counted.hub.audit.disclosures()
    assert [counted.hub.audit.repeat(position).same for position in positions] == [True, True]


def test_nobody_who_asks_after_a_revocation_tells_what_was_begun_before_it(
    counted: Town, join: Callable[[], Hub]
) -> None:
    """Its shares were all carried, and who asked is gone: it is begun anew (R21)."""
    of = begun(counted.hub)
    while counted.hub.statistics.carry():
        continue
    at_once(counted, "consent.revoked", range(5), grant="all")
    answer = join().statistics.read(question())
    assert safe(answer.body) == 15
    assert answer.moment.position > of.moment.position
    assert rows(counted.hub) == 0


def test_who_asked_before_a_revocation_tells_and_who_asks_after_it_finds_it_kept(
    counted: Town, join: Callable[[], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, merged, found = join(), counted.hub.statistics._merged, list[bytes]()

    def overtaken(*of: Any) -> Any:
        monkeypatch.undo()
        at_once(counted, "consent.revoked", range(5), grant="all")
        later = Thread(target=lambda: found.append(other.statistics.read(question()).body))
        later.start()
        asking.append(later)
        return merged(*of)

    asking: list[Thread] = []
    monkeypatch.setattr(counted.hub.statistics, "_merged", overtaken)
    answer = counted.hub.statistics.read(question())
    asking[0].join()
    assert safe(answer.body) == 20
    assert found == [answer.body]


def test_two_who_ask_share_the_work_and_the_figure(
    counted: Town, join: Callable[[], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, between = join(), list[bytes]()
    inner = Statistics._tell

    def slow(self: Statistics, asked: Question, fresh: Any, actor: str | None) -> Any:
        if self is other.statistics and fresh is not None and not between:  # merged by both, told by the first
            between.append(counted.hub.statistics.read(question()).body)
        return inner(self, asked, fresh, actor)

    monkeypatch.setattr(Statistics, "_tell", slow)
    assert other.statistics.read(question()).body == between[0]
    monkeypatch.undo()
    assert len(counted.hub.traces.of_person("p1")) == 1, "the first answer alone names whom it counts"
    assert rows(counted.hub) == 0


def test_a_share_of_who_is_dead_is_carried_by_another_when_its_lease_ends(
    counted: Town, join: Callable[[], Hub]
) -> None:
    of = begun(counted.hub)
    dead = taken(join())
    with pytest.raises(Busy, match="ask again"):
        counted.hub.statistics.read(question())
    assert counted.hub.statistics.waiting() == 0
    counted.wait(sharing.LEASE + TINY)
    assert counted.hub.statistics.waiting() == 1
    assert counted.hub.statistics.read(question()).body == single(counted.hub, of)[question()].body
    assert not finished(counted.hub, dead), "it wakes when all is told"
    assert rows(counted.hub) == 0


def test_who_lost_a_lease_may_finish_and_a_share_counts_once(counted: Town, join: Callable[[], Hub]) -> None:
    of, other = begun(counted.hub), join()
    frozen = taken(other)
    counted.wait(sharing.LEASE + TINY)
    again = taken(counted.hub)
    assert (again.number, again.lease == frozen.lease) == (frozen.number, False)
    other.statistics._sharing.give_back(frozen)  # it is no longer theirs to give
    assert taken(other).number != again.number
    assert finished(other, frozen)
    assert not finished(counted.hub, again)
    counted.wait(sharing.LEASE + TINY)
    assert counted.hub.statistics.read(question()).body == single(counted.hub, of)[question()].body


def test_a_part_of_a_renewal_that_was_begun_anew_since_is_not_taken(counted: Town, join: Callable[[], Hub]) -> None:
    other = join()
    begun(counted.hub)
    frozen = taken(other)
    part = other.statistics._part(frozen)
    answered(counted, 10)
    counted.wait(sharing.ABANDONED + TINY)
    anew = begun(counted.hub)
    assert anew.name == frozen.renewal.name
    assert anew.moment != frozen.renewal.moment
    assert not other.statistics._sharing.finish(frozen, part)
    assert counted.hub.statistics.read(question()).body == single(counted.hub, anew)[question()].body


@pytest.mark.parametrize(
    "meanwhile", [[sharing.ABANDONED + TINY], [sharing.ABANDONED - timedelta(seconds=1)] * 8, [timedelta(hours=-1)]]
)
def test_no_figure_is_made_of_an_old_standing(counted: Town, join: Callable[[], Hub], meanwhile: list[Any]) -> None:
    """Given up by all, carried for too long, or begun by a clock that leapt: it is begun anew (R21)."""
    first = begun(counted.hub)
    if meanwhile[0] < timedelta(0):  # only an empty second of the log lets its time go back
        leap(counted, first, meanwhile[0])
    else:
        for pause in meanwhile:
            counted.clock.set(counted.now + pause)
            counted.hub.statistics.carry()
    at_once(counted, "consent.revoked", range(5), grant="all")
    answer = counted.hub.statistics.read(question())
    assert safe(answer.body) == 15
    assert answer.moment != first.moment
    assert rows(counted.hub) == 0


def test_who_was_frozen_before_telling_tells_nothing_old(counted: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, slept = Statistics._tell, list[Any]()

    def frozen(self: Statistics, asked: Question, fresh: Any, actor: str | None) -> Any:
        if not slept:
            slept.append(fresh)
            counted.wait(sharing.LONGEST + TINY)
            at_once(counted, "consent.revoked", range(5), grant="all")
        return inner(self, asked, fresh, actor)

    monkeypatch.setattr(Statistics, "_tell", frozen)
    assert safe(counted.hub.statistics.read(question()).body) == 15


def leap(town: Town, of: Renewal, by: timedelta) -> None:
    """As if the renewal had been begun, and one share leased, by a clock that was that far ahead."""
    ahead = int((town.now - by).timestamp() * 1_000_000)
    with town.hub.log.entries.maintaining() as connection:
        connection.execute(update(portion).where(portion.c.number == 3).values(lease="x", lease_us=ahead))
        connection.execute(update(renewal).values(used_us=ahead))


class Leaping(WatchedClock):
    """Goes by the town's clock, which is far from that of PostgreSQL's server."""

    def compare(self, other: Any) -> None:
        pass


def test_a_machine_whose_clock_leapt_ends_nothing_that_others_carry(counted: Town) -> None:
    """It appends nothing, and may have no other way to say so."""
    of, leapt = begun(counted.hub), timedelta()
    before = rows(counted.hub)
    clock = Leaping(lambda: counted.clock.now() + leapt, lambda: 0.0)
    hub = Hub.open(counted.url, clock, folder=counted.folder, durable=False)
    try:
        assert hub.statistics.carry()
        share = hub.statistics._sharing.take()
        assert share is not None
        leapt = timedelta(hours=1)
        for act in (
            hub.statistics.tidy,
            lambda: hub.statistics._sharing.drop(of.name),
            lambda: hub.statistics._sharing.finish(share, b"{}"),
            lambda: hub.statistics.read(question()),
        ):
            with pytest.raises(Busy, match="clock"):
                act()
        assert rows(counted.hub) == before
        leapt = timedelta(seconds=1)
        assert hub.statistics.carry()
    finally:
        hub.close()
    counted.clock.set(counted.now + sharing.LEASE + TINY)
    assert counted.hub.statistics.read(question()).moment == of.moment


def test_a_lease_of_a_clock_that_leapt_ends(counted: Town) -> None:
    begun(counted.hub)
    ahead = int((counted.now + timedelta(hours=1)).timestamp() * 1_000_000)
    with counted.hub.log.entries.maintaining() as connection:
        connection.execute(update(portion).where(portion.c.number == 3).values(lease="x", lease_us=ahead))
    assert safe(counted.hub.statistics.read(question()).body) == 20


def test_a_renewal_is_of_one_registration(counted: Town) -> None:
    begun(counted.hub)
    registered(counted, "aizu-city", ["13104"])
    body = counted.hub.statistics.read(question()).body
    assert {cell["cell"] for cell in json.loads(body)["cells"]} == {"13104", "other"}
    assert not any(any(cell["counts"].values()) for cell in json.loads(body)["cells"][:1])


def test_a_drill_is_renewed_apart(counted: Town) -> None:
    of = begun(counted.hub)
    drill = begun(counted.hub, question(exercise=True))
    assert of.name != drill.name
    assert safe(counted.hub.statistics.read(question(exercise=True)).body) == 0
    assert counted.hub.statistics.read(question()).body == single(counted.hub, of)[question()].body


def test_who_asked_is_killed_when_all_is_carried_and_the_next_tells_it(
    counted: Town, join: Callable[[], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*of: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(counted.hub.statistics, "_tell", die)
    with pytest.raises(KeyboardInterrupt):
        counted.hub.statistics.read(question())
    other = join()
    monkeypatch.setattr(other.statistics, "carry", lambda name=None: False)
    assert safe(other.statistics.read(question()).body) == 20
    assert rows(other) == 0


def test_who_is_erased_meanwhile_is_in_no_share_that_comes_later(
    counted: Town, join: Callable[[], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = join()
    finish = other.statistics._sharing.finish

    def first(*of: Any) -> bool:
        monkeypatch.undo()
        done = finish(*of)
        at_once(counted, "person.erased", range(1, 2))  # in the first share, and counted by then
        at_once(counted, "person.erased", range(19, 20))
        return done

    monkeypatch.setattr(other.statistics._sharing, "finish", first)
    answer = other.statistics.read(question())
    assert len(answer.counted or ()) == 29
    again = counted.hub.audit.repeat(counted.hub.audit.disclosures()[-1])
    assert (again.erased, again.same) == (1, True), "19 and 18 are both told as 20"


def test_a_share_that_fails_is_given_back(counted: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(counted.hub)
    inner = counted.hub.statistics._part

    def fail(share: Share) -> bytes:
        raise Busy("the database does not answer; try again")

    monkeypatch.setattr(counted.hub.statistics, "_part", fail)
    with pytest.raises(Busy, match="does not answer"):
        counted.hub.statistics.carry()
    assert counted.hub.statistics.waiting() == 10
    monkeypatch.setattr(counted.hub.statistics, "_part", inner)
    assert counted.hub.statistics.carry()


def test_what_stands_beside_the_log_is_sealed_and_bound_to_its_place(counted: Town) -> None:
    begun(counted.hub)
    assert counted.hub.statistics.carry()
    assert counted.hub.statistics.carry()
    with counted.hub.log.entries.snapshot() as (connection, _):
        found = [*connection.execute(select(renewal)).all(), *connection.execute(select(portion)).all()]
    kept = b"".join(bytes(value) for row in found for value in row if isinstance(value, bytes))
    for name in (b"aizu", b"rescue", b"care", b"07202", b"safety"):
        assert name not in kept
    boxes = {row.number: row.box for row in found[1:] if row.box is not None}
    assert sorted(boxes) == [0, 1]
    with counted.hub.log.entries.maintaining() as connection:
        for number, other in ((0, 1), (1, 0)):
            connection.execute(update(portion).where(portion.c.number == number).values(box=boxes[other]))
    with pytest.raises(Tampered, match="renewal"):
        counted.hub.statistics.read(question())


def test_another_release_leaves_the_shares_of_this_one_be(
    counted: Town, join: Callable[[], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(counted.hub)
    monkeypatch.setattr(counting, "MOST_COMPANIONS", 7)
    other = join()
    assert not other.statistics.carry()
    assert safe(other.statistics.read(question()).body) == 20
    assert counted.hub.statistics.waiting() == 10


def test_what_nobody_came_to_the_end_of_is_forgotten(counted: Town) -> None:
    begun(counted.hub)
    carrier = Carrier(counted.hub.statistics)
    counted.hub.statistics.tidy()
    assert rows(counted.hub) == 11
    counted.wait(sharing.ABANDONED + TINY)
    assert counted.hub.statistics.waiting() == 0
    carrier._work()
    assert rows(counted.hub) == 0


def test_a_carrier_carries_what_others_began_and_tells_each_failure(
    counted: Town, join: Callable[[], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    of, other = begun(counted.hub), join()
    told: list[Exception | None] = []
    carrier = Carrier(other.statistics, told.append)
    with monkeypatch.context() as patch:
        patch.setattr(other.statistics, "_part", lambda share: (_ for _ in ()).throw(HubError("away")))
        assert [carrier._work() > 1 for _ in range(3)] == [True] * 3
    assert [str(error) for error in told] == ["away"] * 3
    carrier.start()
    try:
        for _ in range(6_000):
            with counted.hub.log.entries.snapshot() as (connection, _end):
                if counted.hub.statistics._sharing.left(connection, of) == 0:
                    break
            carrier._stop.wait(0.02)
        else:
            pytest.fail("it carries nothing")
    finally:
        carrier.stop()
    assert told[3:] == [None]
    monkeypatch.setattr(counted.hub.statistics, "carry", lambda name=None: False)
    assert counted.hub.statistics.read(question()).body == single(counted.hub, of)[question()].body


def test_shares_that_wait_are_told(counted: Town, hub_main: Callable[..., Any]) -> None:
    begun(counted.hub)
    counted.clock.set(counted.now)
    assert "shares of statistics wait" in hub_main("derive", "--status", "--database", counted.url).out
    said = json.loads(hub_main("derive", "--status", "--json", "--database", counted.url).out)
    assert said.keys() == {"disclosures_waiting", "position", "shares_waiting"}


def test_a_position_of_then_is_counted_and_not_the_end_of_the_log(counted: Town) -> None:
    """The control of these tests: a share that reads the end of the log gives another figure."""
    of = begun(counted.hub)
    at_once(counted, "safety.answered", range(30), status="injured")
    with counted.hub.log.entries.snapshot() as (connection, end):
        now = counted.hub.statistics._figures(
            counted.hub.views.at(connection, end.position), _questions(of), of.moment.time
        )
        assert connection.scalar(select(head.c.position)) == end.position
    assert now[question()].body != single(counted.hub, of)[question()].body


@pytest.mark.parametrize("seed", range(4))
def test_random_cities_in_random_shares_come_to_one_sweep(seed: int, new_town: Callable[[str], Town]) -> None:
    rng, town = Random(seed), new_town("random")
    town.hub.init()
    said = {"class": "municipality", "areas": ["07202"], "purposes": ["rescue", "care"]}
    town.hub.intake.take([town.event("recipient.registered", recipient="aizu-city", **said)])
    town.hub.intake.take([town.event("shelter.reported", shelter=name, area="07202") for name in ("s1", "s2")])
    for n in range(24):
        town.hub.intake.take(list(lived(town, rng, f"p{n}")))
    filled = sum(compared(town.hub, rng) for _ in range(3))
    assert filled > 10


def lived(town: Town, rng: Random, person: str) -> Iterator[Event]:
    """What one person does, in some order."""
    yield town.event("person.enrolled", person=person, areas=rng.sample(["07202", "13104", "07203"], 2))
    for n in range(rng.randint(0, 3)):
        yield town.event(
            "consent.granted",
            person=person,
            grant=f"{person}-{n}",
            to=rng.choice([{"recipient": "aizu-city"}, {"class": "municipality"}, {"recipient": "clinic"}]),
            kinds=rng.choice([["*"], ["safety.answered", "survey.answered"], ["evacuation.changed"]]),
            purposes=rng.choice([["rescue"], ["care"], ["rescue", "care"]]),
            modes=rng.choice([["normal"], ["normal", "exercise"]]),
            data="all",
            **rng.choice([{}, {}, {"uses": 2}, {"precision": {"*": "summary"}}]),
        )
    for _ in range(rng.randint(0, 6)):
        kind, data = rng.choice(
            [
                ("safety.answered", {"status": rng.choice(["safe", "injured"])}),
                ("evacuation.changed", {"status": "at_shelter", "shelter": "s1", "companions": rng.randint(0, 9)}),
                ("survey.answered", {"answers": {}, "needs": [rng.choice(["薬", "酸素", "猫"])], "shelter": "s2"}),
                ("profile.updated", {"needs": "車椅子"}),
                ("transport.requested", {"needs": []}),
                ("location.reported", {"lat_deg": 37.4948, "lon_deg": 139.9298, "accuracy_m": 5}),
            ]
        )
        yield town.event(kind, person=person, exercise=rng.random() < 0.2, **data)
    if rng.random() < 0.2:
        yield town.event("consent.revoked", person=person, grant="all")
    if rng.random() < 0.1:
        yield town.event("person.erased", person=person)


def compared(hub: Hub, rng: Random) -> int:
    """Figures by shares of random size, carried in random order by two, against one sweep; how many count anybody."""
    carriers = [Statistics(hub.log, hub.views, hub.commits, hub.disclosure) for _ in range(2)]
    with hub.log.entries.snapshot() as (connection, end):
        persons, now = len(hub.views.persons), carriers[0]._sharing.now(connection)
    cuts = sorted(rng.sample(range(1, persons + 1), rng.randint(1, persons)))
    of = Renewal(
        name=rng.randbytes(16),
        moment=Moment(position=Position(end.position), time=now),
        recipient="aizu-city",
        purposes=("care", "rescue"),
        exercise=rng.random() < 0.2,
    )
    assert carriers[0]._sharing.begin(of, [0, *cuts], lambda connection, now: False) == of
    while rng.choice(carriers).carry(of.name):
        pass
    found = carriers[0]._shared(of, tells=True)
    assert found is not None
    wanted = single(hub, of)
    for asked, made in wanted.items():
        assert found[asked].body == made.body, asked
        assert list(found[asked].counted) == list(made.counted), asked
        assert (found[asked].persons, found[asked].destroyed) == (made.persons, made.destroyed), asked
    return sum(bool(made.counted) for made in found.values())


def test_nothing_is_kept_of_figures_that_no_registration_allows(counted: Town) -> None:
    counted.hub.statistics.read(question(recipient="nobody"))
    with counted.hub.log.entries.snapshot() as (connection, _):
        assert connection.execute(figure.select()).all() == []
    assert rows(counted.hub) == 0


def test_shares_are_of_those_who_granted_something(counted: Town) -> None:
    """Who is enrolled and granted nothing takes no place in a share."""
    for n in range(40):
        counted.tell("person.enrolled", person=f"x{n}", areas=["07202"])
    enrolled(counted, "y", kinds=["safety.answered"])
    granted(counted, "p3", grant="g-more")
    begun(counted.hub)
    assert counted.hub.statistics.waiting() == 11
