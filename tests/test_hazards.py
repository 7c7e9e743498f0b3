"""What reports of a hazard conclude, by the policy that ships: given reports, then the emergency's events."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hub.errors import Misuse
from hub.hazards import SCALES, Report, Standing, conclude, emergency_id, load, turn

DEFAULT = (Path(__file__).parents[1] / "src" / "hub" / "hazard-policy.toml").read_bytes()
POLICY = load(DEFAULT)
LEASE = timedelta(hours=72)
QUAKE = datetime(2026, 6, 2, 0, 0, tzinfo=UTC)
NOW = QUAKE + timedelta(hours=2)
ID = "earthquake:jma:20260602090012"

AIZU, KITAKATA, MISATO, BANDAI = "07202", "07208", "07447", "07407"


def at(minute: int) -> datetime:
    return QUAKE + timedelta(minutes=minute)


def full(minute: int, levels: Mapping[str, str], **changes: Any) -> Report:
    """A VXSE53 of `minute`, or what `changes` make of it."""
    areas = [{"area": area, "level": level} for area, level in levels.items()]
    return report(minute, "VXSE53", areas, **changes)


def flash(minute: int, **changes: Any) -> Report:
    return report(minute, "VXSE51", [{"area": None, "region": "252", "level": "6-"}], **changes)


def warning(minute: int, levels: Mapping[str, str], hazard: str = "heavy_rain", **changes: Any) -> Report:
    """A report of a chain that never ends: the warnings of a forecast area."""
    areas = [{"area": area, "level": level} for area, level in levels.items()]
    return report(minute, changes.pop("type_", "VPWW54"), areas, hazard=hazard, chain="070000", **changes)


def cancelled(minute: int, type_: str = "VXSE53", **changes: Any) -> Report:
    return report(minute, type_, [], action="cancelled", **changes)


def no_warning(minute: int, **changes: Any) -> Report:
    """The forecast area's report that nothing is warned of any more."""
    return warning(minute, dict.fromkeys((AIZU, KITAKATA, MISATO, BANDAI), "0"), **changes)


def report(minute: int, type_: str, areas: list[dict[str, Any]], **changes: Any) -> Report:
    data = {
        "hazard": "earthquake",
        "chain": "20260602090012",
        "report": type_,
        "serial": None,
        "action": "issued",
        "status": "actual",
        "reported_at": at(minute),
        "sent_at": None,
        "areas": areas,
    } | {name: value for name, value in changes.items() if name not in ("source", "id", "exercise")}
    said = f"{type_}-{data['hazard']}-{minute}-{data['action']}-{data['serial']}-{data['status']}"
    return Report(
        data=data,
        source=changes.get("source", "jma"),
        id=changes.get("id", said),
        exercise=changes.get("exercise", False),
    )


class Hub:
    """The log of one chain, and the emergency as the city's fold has it; officers act through `by_hand`."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self.reports: list[Report] = []
        self.standing: Standing | None = None
        self.proposed_until: datetime | None = None

    def hears(self, report: Report) -> list[tuple[str, dict[str, Any]]]:
        events = conclude(POLICY, report, self.reports, self.standing, self.now)
        self.reports.append(report)
        for kind, data in events:
            self.by_hand(kind, **data)
        return events

    def by_hand(self, kind: str, **data: Any) -> None:
        was = self.standing or Standing()
        match kind:
            case "emergency.proposed":
                self.standing = Standing(areas=was.areas, until=was.until, proposed=tuple(data["areas"]))
                self.proposed_until = data["until"]
            case "emergency.declared":
                self.standing = Standing(areas=tuple(data["areas"]), until=data["until"])
            case "emergency.lifted":
                self.standing = Standing()
            case "emergency.rejected":
                self.standing = Standing(areas=was.areas, until=was.until)

    def confirms(self) -> None:
        assert self.standing
        self.by_hand("emergency.declared", areas=self.standing.proposed, until=self.proposed_until)

    @property
    def declared(self) -> list[str]:
        return list(self.standing.areas) if self.standing else []

    @property
    def proposed(self) -> list[str]:
        return list(self.standing.proposed) if self.standing else []

    @property
    def until(self) -> datetime | None:
        return self.standing.until if self.standing else None

    @property
    def ends_as(self) -> tuple[Any, ...]:
        return self.declared, self.until, self.proposed, self.proposed_until if self.proposed else None

    def holds(self, time: datetime) -> tuple[Any, ...]:
        """As `ends_as`, without what ended with its lease before `time`."""
        declared, until, proposed, proposed_until = self.ends_as
        over = until is not None and until <= time
        lapsed = proposed_until is not None and proposed_until <= time
        return *((None, None) if over or not declared else (declared, until)), *(
            (None, None) if lapsed or not proposed else (proposed, proposed_until)
        )


def heard(reports: Iterable[Report], now: datetime = NOW) -> Hub:
    hub = Hub(now)
    for one in reports:
        hub.hears(one)
    return hub


def kinds(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [kind for kind, _ in events]


# What a report declares


@pytest.mark.parametrize("level", ["5+", "6-", "6+", "7"])
def test_5_upper_and_above_declares_by_itself(level: str) -> None:
    first = full(5, {AIZU: level, KITAKATA: "4"})
    assert Hub().hears(first) == [
        (
            "emergency.declared",
            {
                "emergency": ID,
                "areas": [AIZU],
                "until": at(5) + LEASE,
                "hazard": "earthquake",
                "policy_sha256": hashlib.sha256(DEFAULT).hexdigest(),
                "cause": first.id,
            },
        )
    ]


@pytest.mark.parametrize("level", ["5-", "5-?"])
def test_5_lower_and_5_lower_or_more_not_received_wait_for_an_officer(level: str) -> None:
    events = Hub().hears(full(5, {AIZU: level}))
    assert kinds(events) == ["emergency.proposed"]
    assert events[0][1]["areas"] == [AIZU]
    assert events[0][1]["until"] == at(5) + LEASE


@pytest.mark.parametrize("level", ["0", "1", "2", "3", "4", "5強"])
def test_what_is_below_is_recorded_only(level: str) -> None:
    assert Hub().hears(full(5, {AIZU: level})) == []


def test_regions_without_municipalities_declare_nothing() -> None:
    assert Hub().hears(flash(2)) == []


def test_areas_are_sorted_and_each_stands_once_with_its_strongest_level() -> None:
    parts = [{"area": a, "level": lv} for a, lv in (("46215", "6-"), ("07202", "5+"), ("46215", "5-"))]
    assert [d["areas"] for _, d in Hub().hears(report(5, "VXSE53", parts))] == [["07202", "46215"]]


def test_5_lower_beside_5_upper_is_proposed_together_with_what_is_declared() -> None:
    hub = Hub()
    assert kinds(hub.hears(full(5, {AIZU: "6-", BANDAI: "5-"}))) == [
        "emergency.declared",
        "emergency.proposed",
    ]
    assert hub.declared == [AIZU]
    assert hub.proposed == [AIZU, BANDAI]
    hub.confirms()
    assert hub.declared == [AIZU, BANDAI]


def test_one_emergency_for_each_hazard_source_and_chain() -> None:
    base = full(5, {})
    others = [full(5, {}, chain="other"), full(5, {}, hazard="tsunami"), full(5, {}, source="cap")]
    assert emergency_id(base) == emergency_id(cancelled(9)) == ID
    assert len({emergency_id(one) for one in [base, *others]}) == 4


def test_separators_in_a_chain_or_a_source_make_no_two_chains_one() -> None:
    assert emergency_id(full(5, {}, source="a:b", chain="c")) != emergency_id(full(5, {}, source="a", chain="b:c"))


def test_an_officer_can_read_the_id_of_a_chain_in_japanese() -> None:
    chain = "渡島・檜山地方土砂災害警戒情報"
    assert emergency_id(full(5, {}, hazard="landslide", chain=chain)) == f"landslide:jma:{chain}"
    assert emergency_id(full(5, {}, chain="a b%:/\n")) == "earthquake:jma:a%20b%25%3A%2F%0A"


def test_a_long_chain_still_gives_an_id() -> None:
    ids = {emergency_id(full(5, {}, chain=end * 500)) for end in "ab"}
    assert len(ids) == 2
    assert all(len(one) <= 200 for one in ids)


# The other hazards

DECLARES = {
    **dict.fromkeys(("heavy_rain", "landslide", "flood", "storm", "snow", "waves", "surge"), ("5",)),
    "tsunami": ("4", "5"),
    "volcano": ("4", "5"),
    "cap": ("extreme-immediate",),
}
PROPOSES = {
    **dict.fromkeys(("heavy_rain", "landslide", "flood", "storm", "snow", "waves", "surge"), ("4",)),
    "tsunami": (),
    "volcano": ("3",),
    "cap": ("extreme", "severe"),
}


@pytest.mark.parametrize(("hazard", "level"), [(h, level) for h in DECLARES for level in sorted(SCALES[h])])
def test_a_level_declares_proposes_or_is_recorded_as_the_table_says(hazard: str, level: str) -> None:
    source, lowest = ("cap", "none") if hazard == "cap" else ("jma", "0")
    one = warning(5, {AIZU: level, KITAKATA: lowest}, hazard, source=source)
    events = Hub().hears(one)
    if level in DECLARES[hazard]:
        wanted = ["emergency.declared"]
    else:
        wanted = ["emergency.proposed"] if level in PROPOSES[hazard] else []
    assert kinds(events) == wanted
    assert all(data["areas"] == [AIZU] and data["until"] == at(5) + LEASE for _, data in events)


def test_the_policy_that_ships_knows_every_hazard_but_advisories() -> None:
    assert set(POLICY.hazards) == {"earthquake", *DECLARES} == set(SCALES) - {"weather"}


def test_a_place_that_is_outside_every_municipality_warned_of_is_not_touched() -> None:
    hub = heard([warning(5, {AIZU: "5", KITAKATA: "3", MISATO: "2", BANDAI: "0"})])
    assert (hub.declared, hub.proposed) == ([AIZU], [])


def test_hazards_of_one_telegram_are_emergencies_of_their_own() -> None:
    rain, storm = Hub(), Hub()
    rain.hears(warning(5, {AIZU: "5"}, "heavy_rain"))
    storm.hears(warning(5, {KITAKATA: "5"}, "storm"))
    assert emergency_id(rain.reports[0]) != emergency_id(storm.reports[0])
    assert (rain.declared, storm.declared) == ([AIZU], [KITAKATA])


def test_a_part_of_a_municipality_that_is_warned_of_keeps_it_declared() -> None:
    north = {"area": AIZU, "region": "0720201", "level": "5"}
    south = {"area": AIZU, "region": "0720202", "level": "0"}
    hub = heard([report(5, "VPWW54", [north, south], hazard="heavy_rain", chain="070000")])
    assert hub.declared == [AIZU]
    hub.hears(report(9, "VPWW54", [{**north, "level": "3"}, south], hazard="heavy_rain", chain="070000"))
    assert hub.declared == []


def test_two_forms_of_one_chain_at_one_minute_declare_once() -> None:
    hub = heard([warning(5, {AIZU: "5"}, type_="VPWW53")])
    assert hub.hears(warning(5, {AIZU: "5"}, type_="VPWW54")) == []
    assert kinds(hub.hears(warning(9, {AIZU: "0"}, type_="VPWW53"))) == ["emergency.lifted"]


def test_where_one_form_is_cancelled_the_other_still_stands_with_its_own_lease() -> None:
    one = warning(5, {AIZU: "5"}, type_="VPWW53")
    other = warning(65, {AIZU: "5", KITAKATA: "5"}, type_="VPWW54")
    taken_back = warning(70, {}, type_="VPWW54", action="cancelled")
    for order in permutations((one, other, taken_back)):
        hub = heard(order)
        assert (hub.declared, hub.until) == ([AIZU], at(5) + LEASE)


def test_a_warning_that_is_lifted_by_level_ends_at_once() -> None:
    hub = heard([warning(5, {AIZU: "5", BANDAI: "4"})])
    assert kinds(hub.hears(no_warning(60, action="lifted"))) == ["emergency.lifted"]
    assert (hub.declared, hub.proposed) == ([], [])


# A chain that never ends


def test_what_was_declared_long_ago_is_not_declared_again_by_another_flood() -> None:
    year = 365 * 24 * 60
    hub = heard([warning(5, {AIZU: "5"})], now=at(year))
    hub.by_hand("emergency.declared", areas=[AIZU, "07203"], until=at(5) + LEASE)
    hub.hears(warning(year, {KITAKATA: "5"}))
    assert (hub.declared, hub.until) == ([KITAKATA], at(year) + LEASE)


def test_a_warning_that_goes_on_after_a_silence_longer_than_its_lease_is_declared_anew() -> None:
    hub = Hub(now=at(60 * 24 * 30))
    hub.hears(warning(5, {AIZU: "5"}))
    later = warning(5 + 80 * 60, {AIZU: "5"})
    assert kinds(hub.hears(later)) == ["emergency.declared"]
    assert (hub.declared, hub.until) == ([AIZU], later.data["reported_at"] + LEASE)


@pytest.mark.parametrize(("level", "by_hand"), [("5", "emergency.lifted"), ("4", "emergency.rejected")])
def test_an_officers_no_lasts_no_longer_than_the_lease_of_what_it_was_about(level: str, by_hand: str) -> None:
    hub = Hub(now=at(60 * 24 * 30))
    said = kinds(hub.hears(warning(5, {AIZU: level})))
    hub.by_hand(by_hand)
    assert hub.hears(warning(5 + 71 * 60, {AIZU: level})) == []
    assert kinds(hub.hears(warning(5 + 144 * 60, {AIZU: level}))) == said


def test_what_an_officer_extended_beyond_the_lease_ends_when_it_is_no_longer_warranted() -> None:
    hub = Hub(now=at(60 * 24 * 30))
    hub.hears(warning(5, {AIZU: "5"}))
    hub.by_hand("emergency.declared", areas=[AIZU, "07203"], until=at(60 * 24 * 20))
    hub.hears(warning(60 * 24 * 10, {KITAKATA: "5"}))
    assert (hub.declared, hub.until) == (["07203", KITAKATA], at(60 * 24 * 20))


def test_an_old_report_that_comes_after_the_lease_changes_nothing() -> None:
    hub = Hub(now=at(60 * 24 * 30))
    hub.hears(warning(600, {AIZU: "5"}))
    hub.by_hand("emergency.declared", areas=[AIZU], until=at(30))
    assert hub.hears(warning(60, {KITAKATA: "5"})) == []
    assert hub.declared == [AIZU]


def some_chain(random: Random) -> list[Report]:
    """Warnings up and down, in two forms, corrected, cancelled, drilled; some of one minute, some months apart."""
    minute, chain = 0, []
    for number in range(random.randint(4, 9)):
        minute += random.choice((0, 0, 7, 60, 600, 60 * 80, 60 * 24 * 90))
        type_ = random.choice(("VPWW53", "VPWW54"))
        action = random.choices(("issued", "amended", "cancelled", "lifted"), (6, 1, 2, 1))[0]
        levels = {area: random.choice("001345") for area in (AIZU, KITAKATA, MISATO, BANDAI)}
        drill = random.random() < 0.1
        changes = {"exercise": True, "status": "exercise"} if drill else {}
        sent_at = at(minute) + timedelta(seconds=number)
        chain.append(
            warning(minute, levels, type_=type_, action=action, sent_at=sent_at, id=f"r{number}", **changes)
            if action != "cancelled"
            else warning(minute, {}, type_=type_, action=action, sent_at=sent_at, id=f"r{number}", **changes)
        )
    return chain


@pytest.mark.parametrize("seed", range(300))
def test_any_chain_ends_in_the_same_state_whatever_the_order_and_however_often_it_arrives(seed: int) -> None:
    random = Random(seed)
    chain = some_chain(random)
    now = random.choice((at(0) + timedelta(days=900), NOW))
    end = min(now, max(one.data["reported_at"] for one in chain))
    in_order = heard(chain, now).holds(end)
    for _ in range(4):
        shuffled = random.sample(chain, len(chain))
        assert heard(shuffled, now).holds(end) == in_order
        assert heard([*shuffled, *random.choices(chain, k=4)], now).holds(end) == in_order


@pytest.mark.parametrize("seed", range(100))
def test_the_newest_report_of_each_turn_is_all_that_a_chain_is_judged_by(seed: int) -> None:
    random = Random(seed)
    chain = some_chain(random)
    hub = Hub()
    for number, one in enumerate(chain):
        newest = {found[:2]: r for r in sorted(chain[:number], key=lambda r: turn(r) or ()) if (found := turn(r))}
        assert len(newest) <= 4
        few = conclude(POLICY, one, list(newest.values()), hub.standing, hub.now)
        assert few == hub.hears(one)


# Exercises, tests, foreign sources


@pytest.mark.parametrize(
    "not_actual",
    [
        {"status": "exercise", "exercise": True},
        {"status": "test"},
        {"exercise": True},
        {"status": "exercise"},
    ],
)
def test_what_is_not_actual_declares_lifts_and_amends_nothing(not_actual: dict[str, Any]) -> None:
    assert Hub().hears(full(5, {AIZU: "7"}, **not_actual)) == []
    hub = heard([full(5, {AIZU: "6-"})])
    assert hub.hears(full(9, {AIZU: "7", KITAKATA: "7"}, **not_actual)) == []
    assert hub.hears(cancelled(10, **not_actual)) == []
    assert hub.hears(full(11, {AIZU: "6-", MISATO: "6-"})) != []
    assert hub.declared == [AIZU, MISATO]


def test_a_source_that_the_policy_does_not_name_declares_nothing() -> None:
    assert Hub().hears(full(5, {AIZU: "7"}, source="someone")) == []


def test_a_hazard_that_the_policy_does_not_name_declares_nothing() -> None:
    assert Hub().hears(full(5, {AIZU: "7"}, hazard="meteor")) == []


def test_a_drill_of_the_same_id_is_left_alone() -> None:
    hub = Hub()
    hub.standing = Standing(areas=(AIZU,), until=at(600), exercise=True)
    assert hub.hears(full(5, {AIZU: "7"})) == []


def test_reports_of_other_chains_and_hazards_are_left_out() -> None:
    other = full(9, {KITAKATA: "7"}, chain="another")
    events = conclude(POLICY, full(5, {AIZU: "6-"}), [other, cancelled(9, hazard="flood")], None, NOW)
    assert [data["areas"] for _, data in events] == [[AIZU]]


# The chain goes on


def test_a_newer_report_replaces_the_areas_and_renews_the_lease() -> None:
    hub = heard([full(5, {AIZU: "6-", KITAKATA: "5+"})])
    assert kinds(hub.hears(full(11, {AIZU: "6-", MISATO: "5+"}))) == ["emergency.declared"]
    assert hub.declared == [AIZU, MISATO]
    assert hub.until == at(11) + LEASE


def test_a_newer_report_that_says_the_same_renews_the_lease() -> None:
    hub = heard([full(5, {AIZU: "6-"})])
    assert kinds(hub.hears(full(11, {AIZU: "6-"}))) == ["emergency.declared"]
    assert hub.until == at(11) + LEASE


def test_a_correction_of_the_same_minute_that_changes_no_municipality_gives_no_event() -> None:
    hub = heard([full(5, {AIZU: "6-"}, serial="1")])
    assert hub.hears(full(5, {AIZU: "6+"}, serial="1", action="amended")) == []


def test_a_correction_replaces_what_it_corrects_in_the_same_minute() -> None:
    hub = heard([full(5, {AIZU: "6-"}, serial="1")])
    hub.hears(full(5, {KITAKATA: "6-"}, serial="1", action="amended"))
    assert hub.declared == [KITAKATA]


def test_serial_decides_within_a_minute_as_a_number() -> None:
    hub = heard([full(5, {AIZU: "6-"}, serial="10")])
    assert hub.hears(full(5, {KITAKATA: "6-"}, serial="9")) == []


@pytest.mark.parametrize("serial", ["", "1a", "²", "9" * 5000])
def test_a_serial_that_is_no_number_of_nine_digits_counts_as_none(serial: str) -> None:
    hub = heard([full(5, {AIZU: "6-"}, serial="1")])
    assert hub.hears(full(5, {KITAKATA: "6-"}, serial=serial)) == []


def test_reports_with_and_without_a_time_of_sending_can_be_ordered() -> None:
    hub = heard([full(5, {AIZU: "6-"}, sent_at=at(5) + timedelta(seconds=40))])
    assert hub.hears(full(5, {KITAKATA: "6-"}, id="x")) == []


def test_the_time_of_sending_decides_where_minute_and_serial_do_not() -> None:
    hub = heard([full(5, {AIZU: "6-"}, sent_at=at(5) + timedelta(seconds=40), id="a")])
    assert hub.hears(full(5, {KITAKATA: "6-"}, sent_at=at(5) + timedelta(seconds=10), id="b")) == []


def test_a_cancellation_lifts_at_once_what_was_declared_and_what_was_proposed() -> None:
    hub = heard([full(5, {AIZU: "6-", BANDAI: "5-"})])
    events = hub.hears(cancelled(9))
    assert [(kind, data["emergency"]) for kind, data in events] == [("emergency.lifted", ID)]
    assert (hub.declared, hub.proposed) == ([], [])


def test_a_cancellation_without_a_serial_reaches_the_reports_of_its_minute() -> None:
    hub = heard([full(5, {AIZU: "6-"}, serial="3")])
    assert kinds(hub.hears(cancelled(5))) == ["emergency.lifted"]


def test_a_cancellation_reaches_no_later_report_of_its_minute() -> None:
    hub = heard([full(5, {AIZU: "6-"}, serial="2")])
    assert hub.hears(cancelled(5, serial="1")) == []


def test_a_cancellation_with_a_serial_reaches_a_report_without_one() -> None:
    hub = heard([full(5, {AIZU: "6-"})])
    assert kinds(hub.hears(cancelled(5, serial="1"))) == ["emergency.lifted"]


def test_a_cancellation_closes_a_proposal_that_nobody_confirmed() -> None:
    hub = heard([full(5, {BANDAI: "5-"})])
    assert kinds(hub.hears(cancelled(9))) == ["emergency.lifted"]
    assert hub.proposed == []


def test_a_report_after_a_cancellation_declares_again() -> None:
    hub = heard([full(5, {AIZU: "6-"}), cancelled(9)])
    assert kinds(hub.hears(full(12, {AIZU: "6-"}))) == ["emergency.declared"]


def test_an_old_report_after_a_cancellation_changes_nothing() -> None:
    hub = heard([full(5, {AIZU: "6-"}), cancelled(9)])
    assert hub.hears(full(7, {AIZU: "7"})) == []


def test_a_cancellation_that_overtakes_its_report_still_cancels_it() -> None:
    hub = Hub()
    assert hub.hears(cancelled(9)) == []
    assert hub.hears(full(5, {AIZU: "6-"})) == []


def test_an_old_report_changes_nothing_newer() -> None:
    hub = heard([full(11, {AIZU: "6-"})])
    assert hub.hears(full(5, {KITAKATA: "7"})) == []
    assert hub.hears(cancelled(8)) == []


def test_a_downgrade_below_the_threshold_lifts() -> None:
    hub = heard([full(5, {AIZU: "5+"})])
    assert kinds(hub.hears(full(11, {AIZU: "4"}))) == ["emergency.lifted"]


def test_a_downgrade_to_5_lower_lifts_and_asks_an_officer() -> None:
    hub = heard([full(5, {AIZU: "5+"})])
    assert kinds(hub.hears(full(11, {AIZU: "5-"}))) == ["emergency.lifted", "emergency.proposed"]
    assert (hub.declared, hub.proposed) == ([], [AIZU])


@pytest.mark.parametrize("areas", [[], [{"area": AIZU, "level": "0"}], [{"area": AIZU, "level": "6-"}]])
def test_what_an_authority_lifts_is_lifted_and_stays_so(areas: list[dict[str, Any]]) -> None:
    hub = heard([full(5, {AIZU: "6-"})])
    assert kinds(hub.hears(report(20, "VXSE53", areas, action="lifted"))) == ["emergency.lifted"]
    assert hub.hears(full(11, {AIZU: "7"})) == []


@pytest.mark.parametrize("minute", [2, 5, 30])
def test_a_flash_report_does_not_undo_what_the_full_one_declared(minute: int) -> None:
    hub = heard([full(5, {AIZU: "6-"})])
    assert hub.hears(flash(minute)) == []
    assert hub.hears(cancelled(minute + 1, "VXSE51")) == []
    assert hub.declared == [AIZU]


def test_a_full_report_without_municipalities_does_not_undo_either() -> None:
    hub = heard([full(5, {AIZU: "6-"})])
    assert hub.hears(full(11, {})) == []


def test_the_same_report_twice_concludes_nothing_the_second_time() -> None:
    hub = heard([full(5, {AIZU: "6-", BANDAI: "5-"})])
    assert hub.hears(full(5, {AIZU: "6-", BANDAI: "5-"})) == []


CHAINS = {
    "up, corrected, on": [
        flash(2),
        full(5, {AIZU: "6-", BANDAI: "5-"}, serial="1"),
        full(5, {AIZU: "6-", KITAKATA: "5+"}, serial="1", action="amended"),
        full(11, {AIZU: "6-", KITAKATA: "5-", MISATO: "5+"}, serial="2"),
        flash(12),
        full(12, {AIZU: "5-?", KITAKATA: "5+", BANDAI: "5-"}, serial="3"),
    ],
    "cancelled for good": [
        flash(2),
        full(5, {AIZU: "6-", BANDAI: "5-"}, serial="1"),
        full(11, {AIZU: "6-", KITAKATA: "5+"}, serial="2"),
        cancelled(15, "VXSE51"),
        cancelled(15, serial="2"),
        full(40, {AIZU: "7"}, status="exercise", exercise=True),
    ],
    "cancelled and issued again": [
        full(5, {AIZU: "6-", MISATO: "5-"}, serial="1"),
        cancelled(9, serial="1"),
        full(12, {AIZU: "5-", KITAKATA: "6-"}, serial="2"),
        full(14, {AIZU: "5-", KITAKATA: "6-"}, serial="3"),
        flash(30),
        cancelled(31, "VXSE51"),
    ],
    "down to nothing": [
        full(5, {AIZU: "5+", BANDAI: "5-"}, serial="1"),
        full(11, {AIZU: "5-", BANDAI: "5-"}, serial="2"),
        full(12, {AIZU: "5-"}, serial="3"),
        full(13, {AIZU: "4"}, serial="4"),
        full(13, {AIZU: "4", KITAKATA: "3"}, serial="4", action="amended"),
    ],
}
ENDS = {
    "up, corrected, on": ([KITAKATA], at(12) + LEASE, sorted([AIZU, KITAKATA, BANDAI]), at(12) + LEASE),
    "cancelled for good": ([], None, [], None),
    "cancelled and issued again": ([KITAKATA], at(14) + LEASE, [AIZU, KITAKATA], at(14) + LEASE),
    "down to nothing": ([], None, [], None),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_ends_in_the_same_state_in_whatever_order_it_arrives(name: str) -> None:
    for order in permutations(CHAINS[name]):
        assert heard(order).ends_as == ENDS[name]


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_ends_in_the_same_state_with_every_report_doubled(name: str) -> None:
    for order in permutations(CHAINS[name][:4]):
        doubled = [one for report in order for one in (report, report)]
        assert heard([*doubled, *doubled]).ends_as == heard(CHAINS[name][:4]).ends_as


# The clock


def test_a_report_whose_lease_is_over_is_declared_as_in_its_time() -> None:
    hub = Hub(now=at(5) + timedelta(days=400))
    assert kinds(hub.hears(full(5, {AIZU: "6-"}))) == ["emergency.declared"]
    assert hub.until == at(5) + LEASE


def test_a_report_from_the_future_gets_no_lease_beyond_one_from_now() -> None:
    hub = Hub(now=at(5))
    hub.hears(full(60 * 24 * 365, {AIZU: "6-"}))
    assert hub.until == at(5) + LEASE


# What a report itself says of its end


def short(minute: int, ends: int, levels: Mapping[str, str] | None = None, **changes: Any) -> Report:
    """A report that says until which minute it counts."""
    return full(minute, {AIZU: "6-"} if levels is None else levels, valid_until=at(ends), **changes)


def test_a_report_that_ends_before_its_lease_declares_until_its_end() -> None:
    hub = Hub()
    assert [data["until"] for _, data in hub.hears(short(5, 300))] == [at(300)]
    hub.hears(short(9, 400, {BANDAI: "5-"}))
    assert (hub.proposed, hub.proposed_until) == ([BANDAI], at(400))


def test_a_report_that_holds_for_longer_than_the_lease_declares_for_the_lease() -> None:
    assert heard([short(5, 60 * 24 * 30)]).until == at(5) + LEASE


@pytest.mark.parametrize("level", ["6-", "5-"])
@pytest.mark.parametrize("ends", [6, 119, 120])
def test_a_report_that_ended_before_it_arrived_declares_and_proposes_nothing(level: str, ends: int) -> None:
    assert Hub(now=at(120)).hears(short(5, ends, {AIZU: level})) == []


def test_in_the_clock_of_its_time_a_report_that_is_over_now_declares_as_it_did() -> None:
    assert kinds(Hub(now=at(6)).hears(short(5, 100))) == ["emergency.declared"]


@pytest.mark.parametrize("ends", [9, 5, -60])
def test_a_report_that_ends_when_it_is_given_lifts_what_its_chain_declared(ends: int) -> None:
    hub = heard([short(5, 600)])
    assert kinds(hub.hears(short(9, ends))) == ["emergency.lifted"]
    assert hub.declared == []


def test_a_newer_report_may_end_earlier_than_the_one_before_it() -> None:
    hub = heard([full(5, {AIZU: "6-"}), short(9, 300)])
    assert (hub.declared, hub.until) == ([AIZU], at(300))
    assert kinds(hub.hears(full(10, {AIZU: "6-"}))) == ["emergency.declared"]
    assert hub.until == at(10) + LEASE


def test_an_update_that_arrives_after_its_end_ends_what_the_one_before_declared_for_longer() -> None:
    hub = heard([short(5, 600)])
    hub.hears(short(9, 60))
    assert hub.until == at(60) < hub.now


def test_what_an_officer_extended_stays_beyond_the_end_of_the_report() -> None:
    hub = heard([short(5, 300)])
    hub.by_hand("emergency.declared", areas=[AIZU], until=at(900))
    hub.hears(short(9, 400))
    assert (hub.declared, hub.until) == ([AIZU], at(900))


def test_a_report_after_the_end_of_the_one_before_begins_anew() -> None:
    for minute, wanted in ((299, []), (300, ["emergency.declared"])):
        hub = Hub(now=at(10))
        hub.hears(short(5, 300))
        hub.by_hand("emergency.lifted")
        hub.now = at(1000)
        assert kinds(hub.hears(short(minute, 1100))) == wanted


@pytest.mark.parametrize("late", [15, 250])
@pytest.mark.parametrize("seed", range(150))
def test_reports_that_end_leave_the_same_in_force_whatever_the_order(seed: int, late: int) -> None:
    """What is in force and proposed at the time of arrival; what came after its end may have left no event."""
    random = Random(seed)
    chain = []
    for one in some_chain(random):
        ends = one.data["reported_at"] + timedelta(minutes=random.randint(-9, 400))
        said = {**one.data, "valid_until": ends if random.random() < 0.7 else None}
        chain.append(replace(one, data=said))
    now = random.choice([one.data["reported_at"] for one in chain]) + timedelta(minutes=late)
    chain = [one for one in chain if one.data["reported_at"] <= now]
    wanted = _in_force(chain, now)
    for _ in range(4):
        shuffled = random.sample(chain, len(chain))
        assert heard(shuffled, now).holds(now) == wanted
        assert heard([*shuffled, *random.choices(chain, k=4)], now).holds(now) == wanted


def _in_force(chain: list[Report], now: datetime) -> tuple[Any, ...]:
    """As the chain's reports came to be in force, each arriving in its own minute."""
    hub = Hub()
    for one in sorted(chain, key=lambda one: (one.data["reported_at"], one.data["sent_at"])):
        hub.now = one.data["reported_at"]
        hub.hears(one)
    return hub.holds(now)


# Officers


def test_what_an_officer_lifted_is_not_resurrected_by_a_report_that_warrants_nothing_new() -> None:
    hub = heard([full(5, {AIZU: "6-"})])
    hub.by_hand("emergency.lifted")
    assert hub.hears(full(11, {AIZU: "6-"})) == []
    assert hub.hears(full(12, {AIZU: "5-"})) == []


def test_after_a_lifting_by_hand_a_report_declares_what_is_new_and_only_that() -> None:
    hub = heard([full(5, {AIZU: "6-"})])
    hub.by_hand("emergency.lifted")
    assert kinds(hub.hears(full(11, {AIZU: "6-", KITAKATA: "5+"}))) == ["emergency.declared"]
    assert hub.declared == [KITAKATA]
    hub.hears(full(12, {AIZU: "6-", KITAKATA: "5+"}))
    assert hub.declared == [KITAKATA]


def test_a_proposal_that_an_officer_rejected_is_not_made_again() -> None:
    hub = heard([full(5, {BANDAI: "5-"})])
    hub.by_hand("emergency.rejected")
    assert hub.hears(full(11, {BANDAI: "5-"})) == []
    hub.hears(full(12, {BANDAI: "5-", MISATO: "5-"}))
    assert hub.proposed == [MISATO]


def test_a_rejected_municipality_that_rises_to_5_upper_is_declared() -> None:
    hub = heard([full(5, {BANDAI: "5-"})])
    hub.by_hand("emergency.rejected")
    hub.hears(full(11, {BANDAI: "5+"}))
    assert hub.declared == [BANDAI]


def test_what_an_officer_confirmed_stays_and_is_renewed_while_it_is_warranted() -> None:
    hub = heard([full(5, {AIZU: "6-", BANDAI: "5-"})])
    hub.confirms()
    assert kinds(hub.hears(full(11, {AIZU: "6-", BANDAI: "5-"}))) == ["emergency.declared"]
    assert hub.declared == [AIZU, BANDAI]
    assert hub.until == at(11) + LEASE
    hub.hears(full(12, {AIZU: "6-", BANDAI: "4"}))
    assert hub.declared == [AIZU]


def test_what_an_officer_confirmed_is_not_asked_again_when_another_proposal_goes() -> None:
    hub = heard([full(5, {BANDAI: "5-"})])
    hub.confirms()
    hub.hears(full(11, {BANDAI: "5-", MISATO: "5-"}))
    assert hub.proposed == [BANDAI, MISATO]
    assert kinds(hub.hears(full(12, {BANDAI: "5-"}))) == ["emergency.declared"]
    assert (hub.declared, hub.proposed) == ([BANDAI], [])


def test_what_an_officer_confirmed_ends_with_the_cancellation() -> None:
    hub = heard([full(5, {BANDAI: "5-"})])
    hub.confirms()
    assert kinds(hub.hears(cancelled(9))) == ["emergency.lifted"]


def test_a_proposal_that_is_waiting_is_renewed_by_the_next_report() -> None:
    hub = heard([full(5, {BANDAI: "5-"})])
    assert kinds(hub.hears(full(11, {BANDAI: "5-"}))) == ["emergency.proposed"]
    assert hub.proposed_until == at(11) + LEASE


def test_a_proposal_that_is_no_longer_warranted_is_closed_while_the_rest_stays() -> None:
    hub = heard([full(5, {AIZU: "6-", BANDAI: "5-"})])
    assert kinds(hub.hears(full(11, {AIZU: "6-"}))) == ["emergency.declared"]
    assert (hub.declared, hub.proposed) == ([AIZU], [])


def test_what_an_officer_added_stays_when_the_chain_is_cancelled() -> None:
    hub = heard([full(5, {AIZU: "6-"})])
    hub.by_hand("emergency.declared", areas=[AIZU, "07203"], until=at(9000))
    hub.hears(cancelled(9))
    assert (hub.declared, hub.until) == (["07203"], at(9000))


def test_a_lease_that_an_officer_extended_is_not_shortened() -> None:
    hub = heard([full(5, {AIZU: "6-"})])
    hub.by_hand("emergency.declared", areas=[AIZU], until=at(9000))
    hub.hears(full(11, {AIZU: "6-", KITAKATA: "5+"}))
    assert (hub.declared, hub.until) == ([AIZU, KITAKATA], at(9000))


def test_areas_that_only_an_officer_declared_are_not_renewed_by_a_report_of_others() -> None:
    hub = heard([full(5, {AIZU: "5-"})])
    hub.by_hand("emergency.rejected")
    hub.by_hand("emergency.declared", areas=["07203"], until=at(600))
    assert hub.hears(full(11, {AIZU: "5-"})) == []
    assert hub.until == at(600)


def test_a_chain_that_an_earlier_policy_left_alone_is_declared_by_the_next_report() -> None:
    before = full(5, {AIZU: "6-"})
    assert kinds(conclude(POLICY, full(11, {AIZU: "6-"}), [before], None, NOW)) == ["emergency.declared"]


# The policy file


def test_the_policy_is_known_by_the_hash_of_its_bytes() -> None:
    assert load(DEFAULT).sha256 == hashlib.sha256(DEFAULT).hexdigest()
    assert load(DEFAULT + b"\n").sha256 != load(DEFAULT).sha256


def test_an_operator_may_let_5_lower_declare_for_a_day() -> None:
    text = DEFAULT.replace(b'["5+"', b'["5-", "5+"').replace(b'["5-", "5-?"]', b"[]").replace(b"= 72", b"= 24")
    ((kind, data),) = conclude(load(text), full(5, {AIZU: "5-"}), [], None, NOW)
    assert (kind, data["until"]) == ("emergency.declared", at(5) + timedelta(hours=24))


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (b"[hazards.earthquake]", b"[hazard.earthquake]", "hazard:"),
        (b"[hazards.earthquake]", b"[hazards.earthquakes]", "hazards.earthquakes:"),
        (b"declares", b"declare", "hazards.earthquake.declare:"),
        (b'"6+", "7"]', b'"6+", 7]', "hazards.earthquake.declares[3]:"),
        (b'"6+", "7"]', '"6強", "7"]'.encode(), "hazards.earthquake.declares[2]:"),
        (b'["5-", "5-?"]', b'["5-", "5+"]', "hazards.earthquake.proposes[1]:"),
        (b'proposes = ["5-", "5-?"]', b"", "hazards.earthquake.proposes:"),
        (b'["jma"]', b'"jma"', "hazards.earthquake.sources:"),
        (b'["jma"]', b'["jma", 1]', "hazards.earthquake.sources[1]:"),
        (b"= 72", b"= 0", "hazards.earthquake.lease_h:"),
        (b"= 72", b"= 721", "hazards.earthquake.lease_h:"),
        (b"= 72", b"= true", "hazards.earthquake.lease_h:"),
        (b"= 72", b"= 72.5", "hazards.earthquake.lease_h:"),
        (b"lease_h = 72", b"", "hazards.earthquake.lease_h:"),
        (b"lease_h = 72", b"lease_h =", "TOML"),
        (b"lease_h = 72", b"\xff", "TOML"),
    ],
)
def test_a_mistake_in_the_policy_is_named_by_its_path(old: bytes, new: bytes, path: str) -> None:
    # In the section only: the comments above it hold some of the words too.
    comments, section, rest = DEFAULT.partition(b"[hazards.earthquake]")
    with pytest.raises(Misuse) as caught:
        load(comments + (section + rest).replace(old, new, 1))
    assert path in str(caught.value)


SEVERAL = b"""
[[hazards.flood]]
sources = ["jma"]
declares = ["5"]
proposes = ["4"]
lease_h = 72

[[hazards.flood]]
sources = ["river-office", "town"]
declares = []
proposes = ["3", "4", "5"]
lease_h = 6
"""


def test_a_hazard_has_other_terms_where_another_source_reports_it() -> None:
    policy = load(SEVERAL)
    said = {
        source: [
            (kind, data["until"])
            for kind, data in conclude(policy, warning(5, {AIZU: "5"}, "flood", source=source), [], None, NOW)
        ]
        for source in ("jma", "river-office", "town", "someone")
    }
    asked = [("emergency.proposed", at(5) + timedelta(hours=6))]
    declared = [("emergency.declared", at(5) + LEASE)]
    assert said == {"jma": declared, "river-office": asked, "town": asked, "someone": []}


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (b'"river-office", "town"', b'"town", "jma"', "hazards.flood[1].sources:"),
        (b'"3", "4", "5"', b'"3", "6"', "hazards.flood[1].proposes[1]:"),
        (b"lease_h = 72", b"lease = 72", "hazards.flood[0].lease:"),
        (b"[[hazards.flood]]", b"[[hazards.floods]]", "hazards.floods:"),
    ],
)
def test_a_mistake_in_one_of_several_tables_is_named_by_its_path(old: bytes, new: bytes, path: str) -> None:
    assert old in SEVERAL
    with pytest.raises(Misuse) as caught:
        load(SEVERAL.replace(old, new, 1))
    assert path in str(caught.value)


@pytest.mark.parametrize("lease_h", [1, 720])
def test_a_lease_is_of_one_hour_to_thirty_days(lease_h: int) -> None:
    text = DEFAULT.replace(b"= 72", f"= {lease_h}".encode())
    ((_, data),) = conclude(load(text), full(5, {AIZU: "6-"}), [], None, NOW)
    assert data["until"] == at(5) + timedelta(hours=lease_h)


@pytest.mark.parametrize("text", [b"", b"hazards = 1", b"[hazards]\nearthquake = 1"])
def test_an_empty_policy_is_a_mistake(text: bytes) -> None:
    with pytest.raises(Misuse):
        load(text)
