"""What is too old is destroyed by kind and month, for everyone: said as such, and nothing else changes by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

import worlds
from hub import retention
from hub.answer import Query
from hub.audit import Repeated
from hub.errors import Busy, Misuse, Tampered
from hub.hub import Hub
from hub.log import sealing
from hub.log.clock import SetClock, WatchedClock
from hub.log.log import Closed
from hub.retention import Month, Retention
from hub.rules import LOST
from hub.scenario import flat_event
from hub.schemas import packaged
from hub.views.facts import fact
from test_erasure import in_files, in_log

if TYPE_CHECKING:
    from conftest import Town

JUNE = {"latitude": "37.4912345678", "longitude": "139.9298765432", "note": "裏口の鍵は植木鉢の下XZQ"}
LATE = {"lat_deg": Decimal("37.4856781234"), "lon_deg": Decimal("139.9311222333"), "accuracy_m": 9}
AUGUST = {"lat_deg": Decimal("37.5"), "lon_deg": Decimal("139.95"), "accuracy_m": 5}
HERE = {"lat_deg": Decimal(JUNE["latitude"]), "lon_deg": Decimal(JUNE["longitude"]), "accuracy_m": 5}

OVER = datetime(2027, 7, 15, tzinfo=UTC)
"""The end of June 2026, 14 days to live, 365 days kept: when June's locations are due."""

JUNES = Month(kind="location.reported", month="2026-06", entries=4)


def at(town: Town, *time: int) -> None:
    town.clock.set(datetime(*time, tzinfo=UTC))  # type: ignore[misc, arg-type]


def grant(town: Town, name: str, to: str, **terms: Any) -> None:
    said = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal", "emergency"], "data": "all", **terms}
    town.tell("consent.granted", person="hanako", grant=name, to={"recipient": to}, **said)


@pytest.fixture
def past(town: Town) -> Town:
    """June to August 2026: who was where; the last location of June arrives late, in July."""
    for name in ("aizu-city", "latest", "coarse"):
        municipality = {"class": "municipality", "areas": ["*"], "purposes": ["rescue"]}
        town.tell("recipient.registered", recipient=name, **municipality)
    for person in ("hanako", "taro"):
        town.tell("person.enrolled", person=person, areas=["13101"])
    grant(town, "g1", "aizu-city")
    grant(town, "g2", "latest", data="latest")
    grant(town, "g3", "coarse", precision={"*": "1km"})
    town.tell("safety.answered", person="hanako", status="safe")
    town.tell("transport.requested", "t1", person="hanako", **{"from": "home", "note": JUNE["note"]})
    at(town, 2026, 6, 28)
    town.tell("location.reported", "taken-back", person="hanako", **HERE)
    town.tell("fact.retracted", person="hanako", event="early")
    town.tell("location.reported", "early", person="hanako", **HERE)
    town.tell("location.reported", "of-taro", person="taro", occurred_at="2026-06-27T00:00:00Z", **HERE)
    town.tell("location.reported", "june", person="hanako", **HERE)
    town.read("aizu-city", "rescue")
    at(town, 2026, 7, 2)
    town.tell("fact.retracted", person="hanako", event="taken-back")
    town.tell("location.reported", "late", person="hanako", occurred_at="2026-06-25T00:00:00Z", **LATE)
    for recipient in ("aizu-city", "latest", "coarse"):
        town.read(recipient, "rescue")
    town.read("aizu-city", "rescue", history=True)
    at(town, 2026, 8, 1)
    town.tell("location.reported", "august", person="hanako", **AUGUST)
    town.read("aizu-city", "rescue")
    return town


def retain(town: Town, time: datetime = OVER) -> tuple[Month, ...]:
    """What is destroyed of locations."""
    town.clock.set(time)
    return tuple(month for month in town.hub.retention.retain().destroyed if month.kind == "location.reported")


def repeated(town: Town) -> list[Repeated]:
    return [town.hub.audit.repeat(position) for position in town.hub.audit.disclosures()]


def items(body: bytes) -> list[str]:
    """The ids of the events shown."""
    return [item["event"] for person in json.loads(body)["persons"] for item in person["items"]]


def locations(again: Repeated) -> set[str]:
    return {"june", "late", "august", "early", "taken-back"} & set(items(again.answer.body))


def test_a_month_goes_when_it_is_over_and_the_time_to_live_and_the_days_to_keep_it(past: Town) -> None:
    assert retain(past, OVER - timedelta(microseconds=1)) == ()
    assert retain(past, OVER) == (JUNES,)
    assert retain(past, OVER) == ()
    july_over = datetime(2027, 8, 15, tzinfo=UTC)
    assert retain(past, july_over - timedelta(microseconds=1)) == ()
    [july] = retain(past, july_over)
    assert (july.month, july.entries) == ("2026-07", 1), "late is of the month in which it was recorded"


def test_kinds_without_a_time_to_live_are_never_destroyed(past: Town) -> None:
    at(past, 2126, 6, 1)
    past.tell("safety.answered", person="taro", status="safe")
    assert {month.kind for month in past.hub.retention.retain().destroyed} == {
        "location.reported",
        "transport.requested",
    }
    with past.hub.log.entries.snapshot() as (connection, _):
        closed = {entry.kind for entry in past.hub.log.scan(connection) if isinstance(entry, Closed)}
    assert closed == {"location.reported", "transport.requested"}


def test_the_month_in_which_the_log_stands_is_kept_whatever_the_clock_says(town: Town) -> None:
    town.tell("person.enrolled", person="hanako", areas=[])
    town.tell("location.reported", person="hanako", **HERE)
    assert retain(town, datetime(2099, 1, 1, tzinfo=UTC)) == ()
    town.clock.set(datetime(2026, 6, 3, tzinfo=UTC))
    town.tell("location.reported", person="hanako", **HERE)


@pytest.mark.sqlite("it looks into the files")
def test_no_file_and_no_payload_holds_it_any_more_and_its_key_is_nowhere(past: Town) -> None:
    assert {kind for kind, _ in in_log(past, JUNE)} == {"location.reported", "transport.requested"}
    with past.hub.engines[1].connect() as connection:
        keys = connection.execute(select(sealing.period_key)).all()
    junes = [row.wrapped for row in keys if row.month == 318]
    assert len(junes) == 2
    retain(past)
    assert in_log(past, JUNE) == set()
    assert in_files(past.folder, JUNE) == set()
    held = {path.name for path in past.folder.iterdir() for key in junes if key in path.read_bytes()}
    assert held == set()
    assert {value for _, value in in_log(past, {"late": "37.4856781234", "august": "139.95"})} == {"late", "august"}


def test_no_view_tells_any_more_when_it_happened_or_whether_it_was_a_drill(past: Town) -> None:
    occurred_us = (datetime(2026, 6, 27, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)
    assert occurred_us in {row[3] for row in past.views()["fact"]}
    retain(past)
    assert occurred_us not in {row[3] for row in past.views()["fact"]}
    rows = [row for row in past.views()["fact"] if row[5] == LOST]
    assert len({row[4] for row in rows}) == JUNES.entries + 1, "and the transport"
    with past.hub.log.entries.snapshot() as (connection, _):
        for person, _, exercise, effective_us, position, *_ in rows:
            entry = past.hub.log.read(connection, [position])[position]
            assert isinstance(entry, Closed)
            assert entry.subject == person
            assert effective_us == (entry.recorded_at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)
            assert exercise in (0, 1)


def test_an_answer_that_showed_it_is_given_again_without_it_and_says_so(past: Town) -> None:
    before = repeated(past)
    assert all(again.same and not again.destroyed for again in before)
    assert [locations(again) for again in before] == [
        {"june"},
        {"june"},
        {"june"},
        {"june"},
        {"june", "late"},
        {"august"},
    ]
    retain(past)
    after = repeated(past)
    assert [again.same for again in after] == [False, False, False, False, False, True]
    assert [again.destroyed > 0 for again in after] == [True, True, True, True, True, False]
    assert all(again.erased == 0 for again in after)
    assert set(items(after[0].answer.body)) == set(items(before[0].answer.body)) - {"june", "t1"}


def test_nothing_that_was_behind_it_takes_its_place_in_the_past(past: Town) -> None:
    retain(past)
    everything, *others, history, now = repeated(past)
    assert locations(everything) == set()
    assert [locations(again) for again in others] == [set(), set(), set()], "late was behind june, at every level"
    assert locations(history) == {"late"}, "it was shown beside june"
    assert locations(now) == {"august"}


def test_nothing_of_another_variant_takes_its_place_in_the_past(new_town: Callable[[str], Town]) -> None:
    town = new_town("variants")
    terms = {"kind": "transport.requested", "ttl_s": 14 * 86_400, "latest_by": ["from"]}
    town.hub.intake.take([flat_event("kind.introduced", terms, "k")])
    town.tell("recipient.registered", **{"recipient": "a", "class": "x", "areas": ["*"], "purposes": ["rescue"]})
    town.tell("person.enrolled", person="hanako", areas=[])
    for name, data in (("g1", "all"), ("g2", "latest")):
        town.tell("recipient.registered", **{"recipient": data, "class": "x", "areas": ["*"], "purposes": ["rescue"]})
        grant(town, name, data, data=data)
    at(town, 2026, 6, 28)
    town.tell("transport.requested", "june", person="hanako", **{"from": "home"})
    at(town, 2026, 7, 2)
    town.tell("transport.requested", "late", person="hanako", occurred_at="2026-06-25T00:00:00Z", **{"from": "home"})
    for data in ("all", "latest"):
        assert items(town.read(data, "rescue").body) == ["june"]
    assert items(town.read("latest", "rescue", history=True).body) == ["june"]
    at(town, 2027, 7, 15)
    assert town.hub.retention.retain().destroyed
    assert [items(again.answer.body) for again in repeated(town)] == [[], [], []]
    rows = town.views()
    town.hub.views.rebuild()
    assert town.views() == rows
    town.hub.audit.verify()


def test_replay_to_a_time_says_how_many_items_are_missing(past: Town) -> None:
    query = Query(recipient="latest", purpose="rescue", kinds=("location.reported",))
    then = datetime(2026, 7, 2, 1, tzinfo=UTC)
    assert past.hub.audit.replay(query, time=then).destroyed == 0
    retain(past)
    replayed = past.hub.audit.replay(query, time=then)
    assert (items(replayed.answer.body), replayed.destroyed, replayed.erased) == ([], 1, 0)
    assert past.hub.audit.replay(query).destroyed == 0


def test_of_someone_who_is_erased_nothing_is_told(past: Town) -> None:
    at(past, 2026, 9, 1)
    past.tell("person.erased", person="hanako")
    assert retain(past) == (Month(kind="location.reported", month="2026-06", entries=1),), "taro's"
    assert all(again.destroyed == 0 for again in repeated(past))
    verified = past.hub.audit.verify()
    assert verified.ended == 1
    assert verified.closed == verified.erased + 1
    rows = {row["kind"]: row for row in past.hub.audit.events(limit=1000) if row.get("reason") == "erased"}
    assert {"person.enrolled", "location.reported"} <= rows.keys()


def test_the_log_proves_itself_and_says_why_entries_are_closed(past: Town) -> None:
    before = past.hub.audit.verify()
    retain(past)
    after = past.hub.audit.verify()
    assert (before.ended, before.erased) == (0, 0)
    assert (after.ended, after.erased, after.size) == (JUNES.entries + 1, 0, before.size)
    reasons = [row["reason"] for row in past.hub.audit.events(limit=1000) if row.get("state") == "closed"]
    assert reasons == ["retention ended"] * after.ended


def test_a_rebuild_gives_the_same_rows(past: Town) -> None:
    retain(past)
    rows = past.views()
    past.hub.views.rebuild()
    assert past.views() == rows
    past.hub.audit.verify()
    past.reopen()
    assert past.views() == rows


def test_a_key_that_was_removed_without_a_tombstone_is_found_with_the_position(past: Town) -> None:
    with past.hub.engines[1].begin() as connection:
        connection.execute(sealing.period_key.delete().where(sealing.period_key.c.kind == "location.reported"))
    past.reopen()
    with past.hub.log.entries.snapshot() as (connection, _):
        first = next(r.position for r in past.hub.log.rows(connection) if r.topic.startswith("location.reported."))
    with pytest.raises(Tampered, match="missing") as found:
        past.hub.audit.verify()
    assert found.value.position == first


def test_a_view_that_says_something_else_of_what_was_destroyed_is_found(past: Town) -> None:
    retain(past)
    with past.hub.log.entries.maintaining() as connection:
        connection.execute(fact.delete().where(fact.c.variant == LOST, fact.c.exercise == 1))
    with pytest.raises(Tampered, match="the view fact does not follow"):
        past.hub.audit.verify()


def test_another_process_that_holds_the_key_lets_go_of_it_when_it_looks(
    past: Town, open_town: Callable[[Path], Any]
) -> None:
    then = datetime(2026, 7, 2, 1, tzinfo=UTC)
    query = Query(recipient="coarse", purpose="rescue", kinds=("location.reported",))
    with open_town(past.folder) as other:
        other.clock.set(OVER)
        assert not other.hub.retention.renew()
        assert items(other.hub.audit.replay(query, time=then).answer.body) == ["june"]
        retain(past)
        assert any(other.hub.views._meshes.values())
        assert other.hub.retention.renew()
        assert not any(other.hub.views._meshes.values())
        assert not other.hub.retention.renew()
        assert items(other.hub.audit.replay(query, time=then).answer.body) == []
        assert in_log(other, JUNE) == set()
        other.tell("location.reported", "other", person="hanako", **HERE)
        assert items(other.read("coarse", "rescue", kinds=("location.reported",)).body)


def test_a_dry_run_says_the_same_and_changes_nothing(past: Town) -> None:
    rows = past.rows()
    past.clock.set(OVER)
    would = past.hub.retention.retain(dry_run=True)
    assert past.rows() == rows
    assert past.hub.log.keyring.ended() == {}
    assert past.hub.retention.retain() == would


@pytest.mark.parametrize("cut", ["_fold", "the views"])
def test_cut_off_behind_the_key_it_is_finished_at_the_next_start(
    past: Town, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if cut == "_fold":
            patched.setattr(Retention, "_fold", cut_off)
        else:
            patched.setattr(past.hub.log.entries, "set", cut_off)
        with pytest.raises(KeyboardInterrupt):
            retain(past)
    assert past.hub.log.keyring.ended().keys() == {("location.reported", 318)}
    past.reopen()
    past.hub.audit.verify()
    assert {month.kind for month in past.hub.retention.retain().destroyed} == {"transport.requested"}
    past.hub.audit.verify()
    rows = past.views()
    past.hub.views.rebuild()
    assert past.views() == rows


def test_what_is_shown_now_and_what_feeds_hold_does_not_change(past: Town) -> None:
    past.clock.set(OVER - timedelta(minutes=5))
    past.tell("location.reported", "fresh", person="hanako", **HERE)
    query = Query(recipient="aizu-city", purpose="rescue")
    first = past.hub.feeds.advance(query, None)
    assert first is not None
    before = json.loads(past.read("aizu-city", "rescue", history=True).body)["persons"]
    assert retain(past) == (JUNES,)
    assert json.loads(past.read("aizu-city", "rescue", history=True).body)["persons"] == before
    assert past.hub.feeds.advance(query, first.next, at_rest="nothing") is None


def declare(town: Town, until: str) -> None:
    town.tell("emergency.declared", emergency="q", areas=["m5639"], hazard="earthquake", until=until)


def test_locations_are_kept_while_an_emergency_that_found_people_there_lasts(past: Town) -> None:
    past.clock.set(datetime(2026, 8, 1, 12, tzinfo=UTC))
    declare(past, "2030-01-01T00:00:00Z")
    [shown] = json.loads(past.read("aizu-city", "rescue").body)["persons"]
    assert shown["mode"] == "emergency"
    past.clock.set(datetime(2028, 1, 1, tzinfo=UTC))
    assert retain(past, past.now) == (JUNES,)
    past.tell("safety.answered", person="taro", status="safe")
    done = past.hub.retention.retain()
    assert (done.destroyed, [m.month for m in done.waiting]) == ((), ["2026-07", "2026-08"])
    [shown] = json.loads(past.read("aizu-city", "rescue").body)["persons"]
    assert shown["mode"] == "emergency"
    past.tell("emergency.lifted", emergency="q")
    assert [m.month for m in past.hub.retention.retain().destroyed] == ["2026-07", "2026-08"]


def test_where_the_mode_of_then_cannot_be_known_any_more_nothing_is_shown_of_the_person(town: Town) -> None:
    town.tell("recipient.registered", **{"recipient": "a", "class": "x", "areas": ["*"], "purposes": ["rescue"]})
    town.tell("person.enrolled", person="hanako", areas=["13101"])
    grant(town, "g", "a", kinds=["safety.answered"], modes=["normal"], data="all")
    town.tell("safety.answered", "s", person="hanako", status="safe")
    town.tell("location.reported", person="hanako", **HERE)
    declare(town, "2026-06-02T00:00:00Z")
    assert items(town.read("a", "rescue").body) == [], "she was in the emergency, for which she granted nothing"
    then = town.now
    at(town, 2026, 7, 1)
    assert items(town.read("a", "rescue").body) == ["s"]
    query = Query(recipient="a", purpose="rescue")
    assert town.hub.audit.replay(query, time=then).destroyed == 0
    assert retain(town)
    replayed = town.hub.audit.replay(query, time=then)
    assert (items(replayed.answer.body), replayed.destroyed) == ([], 1)
    explained = town.hub.audit.explain(recipient="a", purpose="rescue", person="hanako", time=then)
    assert "where the person was is destroyed" in explained.lines[0].text
    assert items(town.read("a", "rescue").body) == ["s"]
    declare(town, "2029-01-01T00:00:00Z")
    assert items(town.read("a", "rescue").body) == ["s"], "another run of the same emergency found her elsewhere"


def test_a_clock_that_is_not_trusted_destroys_nothing(past: Town) -> None:
    past.close()
    clock = WatchedClock(lambda: OVER, lambda: 0.0)
    hub = Hub.open(past.url, clock, folder=past.folder)
    try:
        for dry_run in (True, False):
            with pytest.raises(Busy, match="clock accept"):
                hub.retention.retain(dry_run=dry_run)
        assert hub.log.keyring.ended() == {}
        hub.log.entries.accept_clock()
    finally:
        hub.close()
    past.hub = Hub.open(past.url, SetClock(OVER), folder=past.folder)


def test_the_command_destroys_at_the_last_time_of_a_database_that_replays_the_past(
    new_town: Callable[[str], Town], hub_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    town = new_town("simulated")
    town.hub.simulate()
    town.hub.init()
    town.tell("person.enrolled", person="hanako", areas=[])
    town.tell("location.reported", person="hanako", **HERE)
    at(town, 2026, 9, 1)
    town.tell("safety.answered", person="hanako", status="safe")
    town.close()
    asked = ("retain", "--database", town.url)
    assert hub_main(*asked) == (0, "nothing to destroy\n", "")
    policy = tmp_path / "retention.toml"
    policy.write_text('[keep_days]\ndefault = 365\n"location.reported" = 30\n')
    monkeypatch.setenv("HUB_RETENTION", str(policy))
    dry = hub_main(*asked, "--dry-run")
    assert dry == (0, "location.reported 2026-06: would be destroyed, 1 entries closed\n", "")
    said = json.loads(hub_main(*asked, "--json").out)
    month = {"kind": "location.reported", "month": "2026-06", "entries": 1}
    assert said == {"dry_run": False, "destroyed": [month], "waiting": []}
    assert hub_main(*asked).out == "nothing to destroy\n"
    verified = hub_main("verify", "--database", town.url)
    assert "1 closed for ever (0 erased, 1 retention ended)" in verified.out
    said = json.loads(hub_main("verify", "--database", town.url, "--json").out)
    assert (said["closed"], said["erased"], said["retention_ended"]) == (1, 0, 1)
    policy.write_text("[keep_days]\n")
    assert hub_main(*asked) == (2, "", "hub: retention policy: keep_days.default: is missing\n")
    monkeypatch.setenv("HUB_RETENTION", str(tmp_path / "nowhere"))
    assert hub_main(*asked).status == 2


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "keep_days: is missing"),
        ("keep_days = 3", "keep_days: is missing, or is no table"),
        ("[keep_days]\ndefault = 1\n[other]", "other: is no key"),
        ("[keep_days]", "keep_days.default: is missing"),
        ("[keep_days]\ndefault = -1", "keep_days.default: is no whole number"),
        ("[keep_days]\ndefault = 1.5", "keep_days.default: is no whole number"),
        ("[keep_days]\ndefault = true", "keep_days.default: is no whole number"),
        ("[keep_days]\ndefault = 36501", "keep_days.default: is no whole number"),
        ('[keep_days]\ndefault = 1\n"location.reported" = "2"', 'keep_days."location.reported": is no whole number'),
        ('[keep_days]\ndefault = 1\n"location.repotred" = 2', 'keep_days."location.repotred": is no kind'),
        ('[keep_days]\ndefault = 1\n"consent.granted" = 2', 'keep_days."consent.granted": is no kind'),
        ('[keep_days]\ndefault = 1\n"hazard.reported" = 2', 'keep_days."hazard.reported": is no kind'),
        ("[keep_days\n", "is no TOML"),
        ("# \udcff", "is no TOML"),
    ],
)
def test_a_policy_that_is_not_understood_is_refused_by_the_name_of_its_key(text: str, names: str) -> None:
    with pytest.raises(Misuse) as refused:
        retention.load(text.encode(errors="surrogateescape"), packaged())
    assert names in str(refused.value)


PLACES = [("37.49", "139.93"), ("37.41", "139.91"), ("35.68", "139.76"), ("10.5", "139.76")]
"""Two in Aizu, one in Tokyo, one outside the grid."""


def random_past(town: Town, rng: Random) -> None:
    """Three months of two persons: late facts, drills, retractions, emergencies, and reads of every shape."""
    readers = ("aizu-city", "daughter")
    for reader in readers:
        town.tell(
            "recipient.registered", **{"recipient": reader, "class": "m", "areas": ["07"], "purposes": ["rescue"]}
        )
    people = {"hanako": ["13101"], "taro": ["07202"]}
    for person, areas in people.items():
        town.tell("person.enrolled", person=person, areas=areas)
    for number in range(14):
        terms = {
            "kinds": rng.choice((["*"], ["location.reported"], ["safety.answered"])),
            "modes": rng.choice((["normal"], ["emergency"], ["normal", "emergency", "exercise"])),
            "to": rng.choice(({"recipient": readers[0]}, {"recipient": readers[1]}, {"class": "m"})),
            "data": rng.choice(("all", "latest", "since_grant", "since_emergency")),
            "precision": rng.choice(({}, {"*": "1km"})),
        }
        person = rng.choice(list(people))
        town.tell("consent.granted", person=person, grant=f"g{number}", purposes=["rescue"], **terms)
    facts: list[tuple[str, str]] = []
    until = datetime(2026, 8, 20, tzinfo=UTC)
    while town.now < until:
        town.wait(timedelta(hours=rng.choice((1, 6, 30, 90))))
        person, act = rng.choice(list(people)), rng.random()
        late = {"occurred_at": town.now - timedelta(hours=rng.choice((0, 2, 40, 200)))}
        lat, lon = rng.choice(PLACES)
        name = f"f{len(facts)}"
        if act < 0.45:
            drill = {"exercise": True} if rng.random() < 0.1 else {}
            place = {"lat_deg": Decimal(lat), "lon_deg": Decimal(lon), "accuracy_m": 5}
            if town.hand_in("location.reported", name, person=person, **late, **drill, **place).status == "accepted":
                facts.append((name, person))
        elif act < 0.6:
            kind = rng.choice(("safety.answered", "transport.requested"))
            data = {"status": "safe"} if kind == "safety.answered" else {"from": "home"}
            town.tell(kind, name, person=person, **late, **data)
            facts.append((name, person))
        elif act < 0.65 and facts:
            event, of = rng.choice(facts)
            town.tell("fact.retracted", person=of, event=event)
        elif act < 0.72:
            ends = town.now + timedelta(hours=rng.choice((20, 200, 700)))
            drill = {"exercise": True} if rng.random() < 0.2 else {}
            name = f"q{rng.randrange(2)}{'d' if drill else ''}"
            town.tell("emergency.declared", emergency=name, areas=["07202"], hazard="flood", until=ends, **drill)
        else:
            asked = {"history": rng.random() < 0.4, "exercise": rng.random() < 0.1}
            town.read(rng.choice(readers), "rescue", **asked)


@pytest.mark.parametrize("seed", worlds.few(range(6)))
def test_whatever_was_said_replays_show_only_what_was_shown_and_nothing_of_now_changes(town: Town, seed: int) -> None:
    rng = Random(f"retention {seed}")
    random_past(town, rng)
    policy = retention.RetentionPolicy(default=0, days={})
    retaining = Retention(town.hub.log, town.hub.views, policy)
    positions = town.hub.audit.disclosures()
    shown = {position: town.hub.audit.repeat(position).answer.body for position in positions}
    destroyed = 0
    for _ in range(6):
        town.wait(timedelta(days=rng.choice((5, 11, 20))))
        town.tell("safety.answered", person="taro", status="safe")
        asked = [
            Query(recipient=reader, purpose="rescue", history=history, exercise=exercise)
            for reader in ("aizu-city", "daughter")
            for history in (False, True)
            for exercise in (False, True)
        ]
        before = [town.hub.audit.replay(query, time=town.now).answer.body for query in asked]
        destroyed += sum(month.entries for month in retaining.retain().destroyed)
        assert [town.hub.audit.replay(query, time=town.now).answer.body for query in asked] == before
        for position in positions:
            again = town.hub.audit.repeat(position)
            assert again.same or again.destroyed
            left = json.loads(again.answer.body)["persons"]
            then = {person["person"]: person for person in json.loads(shown[position])["persons"]}
            for person in left:
                assert {item["event"] for item in person["items"]} <= {
                    item["event"] for item in then[person["person"]]["items"]
                }
        rows = town.views()
        town.hub.audit.verify()
        town.hub.views.rebuild()
        assert town.views() == rows
    assert destroyed > 10
