"""The judge is judged: the naive reading passes the scenarios, and the random worlds find wrong readings.

Every entry of `WRONG` is one rule read wrongly. If no random world tells it from the naive reading,
then the worlds do not reach that rule, and the property test proves less than it seems to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import naive
import worlds
from naive import Ask, Entry, Naive, Now, Permit, Sight, author, degrees, effective, moment, quarter_mesh

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))
MOST_WORLDS = 100


# Scenarios.


class Digits(yaml.SafeLoader):
    """Numbers with a point stay the digits that were written, which a float would round (R10)."""


Digits.add_constructor("tag:yaml.org,2002:float", lambda loader, node: str(node.value))


def scenarios() -> Iterator[Any]:
    """One case for each scenario of each file, with the steps of its world before its own."""
    for path in SCENARIOS:
        first, *rest = yaml.load_all(path.read_text(encoding="utf-8"), Digits)
        for scenario in rest:
            yield pytest.param(first["world"] + scenario["steps"], id=f"{path.stem}: {scenario['title']}")


def question(step: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a step asks, and what it wants."""
    asked = step.get("read") or step["expect"]
    wanted = {name: asked[name] for name in ("sees", "because", "precision") if name in asked}
    return {name: value for name, value in asked.items() if name not in wanted}, wanted


def check(sight: Sight, wanted: dict[str, Any]) -> None:
    """`sees` says all that is visible; `because` and `precision` say something of some facts."""
    assert {p: set(ids) for p, ids in sight.sees.items()} == {p: set(i) for p, i in wanted["sees"].items()}
    for fact, basis in wanted.get("because", {}).items():
        assert sight.because[fact] == next(iter(basis.items()))
    for fact, level in wanted.get("precision", {}).items():
        assert sight.precision[fact] == level


def test_the_scenarios_are_there() -> None:
    assert {path.stem for path in SCENARIOS} >= {"emergency", "grants", "persons"}


@pytest.mark.parametrize("steps", list(scenarios()))
def test_the_naive_reading_passes_the_scenario(steps: list[dict[str, Any]]) -> None:
    hub = Naive()
    for step in steps:
        before = len(hub.log)
        if "kind" in step:
            outcome = worlds.play(hub, step)
            assert (outcome == "refused") is bool(step.get("refused")), step
            if outcome != "accepted" or step["kind"] != "identity.linked":  # a link lets in what waited
                assert len(hub.log) == before + (outcome == "accepted")
            continue
        query, wanted = question(step)
        check(worlds.play(hub, {"at": step["at"], "read" if "read" in step else "expect": query}), wanted)
        assert len(hub.log) == before + ("read" in step)


# Pieces that the scenarios show too little of.


@pytest.mark.parametrize(
    ("lat", "lon", "code"),
    [
        ("35.681236", "139.767125", "5339461132"),  # Tokyo station, third mesh 53394611
        ("37.4948", "139.9298", "5639179414"),  # the example of the design, third mesh 56391794
        ("37.5", "139.9375", "5639270511"),  # on the southern and the western edge: belongs to the cell
        ("37.49999999999999999999999", "139.9375", "5639179533"),  # a float would round it up
        ("37.4916666666666666666", "139.9375", "5639178533"),
        ("37.4916666666666666667", "139.9375", "5639179511"),
        ("20", "122", "3022000011"),
        ("45.9999999999999999", "153.9999999999999999", "6853779944"),
        ("46", "140", None),
        ("19.9999999999999999", "140", None),
        ("37", "154", None),
        ("37", "121.9999999999999999", None),
    ],
)
def test_the_mesh_is_exact_on_its_edges(lat: str, lon: str, code: str | None) -> None:
    assert quarter_mesh(degrees(lat), degrees(lon)) == code


def hub_with_areas(**contents: list[str]) -> Naive:
    hub = Naive()
    for area, contains in contents.items():
        data = {"area": area.removeprefix("a").replace("_", "-"), "contains": contains}
        assert hub.append(worlds.DAWN, "area.introduced", data) == "accepted"
    return hub


@pytest.mark.parametrize(
    ("code", "other", "covered"),
    [
        ("07", "07202-12", True),
        ("07202", "07", False),
        ("07202-1", "07202-12", False),
        ("07202-12", "07202-12", True),
        ("07202-12", "m5639179414", True),  # what a district contains
        ("07", "m5640002211", True),  # by way of 07203
        ("m5639", "m5639179414", True),
        ("13104", "m5640002211", True),  # 13104 and 07203 contain each other
        ("13104", "07202", False),
        ("*", "07202", False),
    ],
)
def test_what_an_area_code_covers(code: str, other: str, covered: bool) -> None:
    hub = hub_with_areas(a07202_12=["m563917"], a07203=["m5640", "13104"], a13104=["07203"])
    assert hub.covers(len(hub.log), code, other) is covered


def test_a_reading_finds_its_own_event_again() -> None:
    hub = Naive()
    event = (worlds.DAWN, "person.enrolled", {"person": "hanako", "areas": ["07202"]}, "c1")
    assert [hub.append(*event), hub.append(*event)] == ["accepted", "duplicate"]
    assert hub.append(worlds.DAWN, "roster.listed", {"person": "hanako"}, "c1") == "refused"
    assert hub.append(worlds.DAWN, "person.erased", {"person": "hanako"}) == "accepted"
    assert hub.append(*event) == "refused"


# Wrong readings.


@dataclass(frozen=True)
class Wrong:
    """One rule read wrongly: what takes the place of a method of `Naive`, or of a function of naive."""

    says: str
    place: str
    instead: Callable[..., Any]


def without_until(hub: Naive, now: Now, person: str, delegate: str) -> bool:
    found = hub.of_person(now.d, person, "delegation.added", "delegation.ended")
    latest = [e for e in found if e.data["delegate"] == delegate][-1:]
    return any(e.kind == "delegation.added" for e in latest) and delegate not in hub.erased(now.d)


def until_inclusive(hub: Naive, exercise: bool, now: Now) -> list[Entry]:
    earlier = Now(now.d, now.t - timedelta(microseconds=1))
    return RIGHT["active_emergencies"](hub, earlier, exercise)


def first_declaration(hub: Naive, now: Now, emergency: str, areas: list[str]) -> Any:
    declared = hub.entries(now.d, "emergency.declared")
    return next(e.recorded_at for e in declared if e.data["emergency"] == emergency)


def start_despite(hub: Naive, now: Now, emergency: str, areas: list[str], broken_by: set[str]) -> Any:
    """`start`, but only some of the three things begin a new run."""
    start = until = None
    for e in hub.entries(now.d, "emergency.declared", "emergency.lifted"):
        if e.data["emergency"] != emergency:
            continue
        if e.kind == "emergency.lifted":
            start = None if "lifted" in broken_by else start
            continue
        if not hub.any_covers(now.d, e.data["areas"], areas):
            start = None if "elsewhere" in broken_by else start
            continue
        if start is None or ("expired" in broken_by and until is not None and e.recorded_at >= until):
            start = e.recorded_at
        until = moment(e.data["until"])
    return start


def started_where_it_was_not(hub: Naive, now: Now, emergency: str, areas: list[str]) -> Any:
    """A declaration that covers none of the areas counted as the first of the new run."""
    start = until = None
    for e in hub.entries(now.d, "emergency.declared", "emergency.lifted"):
        if e.data["emergency"] != emergency:
            continue
        if e.kind == "emergency.lifted":
            start = None
            continue
        elsewhere = not hub.any_covers(now.d, e.data["areas"], areas)
        if start is None or elsewhere or e.recorded_at >= until:
            start = e.recorded_at
        until = moment(e.data["until"])
    return start


def place_for_a_day_only(hub: Naive, now: Now, person: str) -> list[str]:
    ping = [f for f in hub.facts(now.d, person, exercise=False) if f.kind == naive.LOCATION]
    recent = [naive.newest(ping)] if ping and effective(naive.newest(ping)) > now.t - naive.DAY else []
    return [mesh for mesh in map(naive.mesh_of, recent) if mesh]


def place_for_ever(hub: Naive, now: Now, person: str) -> list[str]:
    pings = [f for f in hub.facts(now.d, person, exercise=False) if f.kind == naive.LOCATION]
    return [mesh for mesh in map(naive.mesh_of, [naive.newest(pings)] if pings else []) if mesh]


def place_by_any_ping(hub: Naive, now: Now, person: str) -> list[str]:
    """The last ping that has a mesh, not the last."""
    pings = [f for f in hub.facts(now.d, person, exercise=False) if f.kind == naive.LOCATION]
    pings = [f for f in pings if naive.mesh_of(f) and effective(f) > now.t - naive.DAY]
    return [str(naive.mesh_of(naive.newest(pings)))] if pings else []


def addressed_with(places: Callable[[Naive, Ask, str, str], list[str]]) -> Callable[..., bool]:
    def addressed(hub: Naive, ask: Ask, person: str, mode: str, to: dict[str, str]) -> bool:
        if "class" not in to:
            return RIGHT["addressed"](hub, ask, person, mode, to)
        registered = hub.registration(ask.now.d, ask.recipient)
        if registered is None or registered["class"] != to["class"]:
            return False
        codes = places(hub, ask, person, mode)
        return "*" in registered["areas"] or hub.any_covers(ask.now.d, registered["areas"], codes)

    return addressed


def permits_despite_blocks(hub: Naive, ask: Ask, person: str) -> list[Permit]:
    mode = hub.mode_of_decision(ask, person)
    found = [
        *hub.permits_by_override(ask, person),
        *(hub.permits_by_grant(ask, person, mode) if mode else []),
    ]
    return [permit for permit in found if hub.visible(ask, permit)]


def place_of_what_is_visible(hub: Naive, now: Now, person: str) -> list[str]:
    """An expired ping gives no area."""
    pings = [f for f in hub.facts(now.d, person, exercise=False) if f.kind == naive.LOCATION]
    return [] if pings and hub.expired(now, naive.newest(pings)) else RIGHT["place"](hub, now, person)


def blocks_never_replaced(hub: Naive, d: int, person: str) -> list[Entry]:
    blocks: list[Entry] = []
    for e in hub.of_person(d, person, "block.added", "block.removed"):
        if e.kind == "block.added":
            blocks.append(e)
        else:
            blocks = [b for b in blocks if b.data["to"] != e.data["to"]]
    return blocks


def meant_now(hub: Naive, d: int, block: Entry, recipient: str) -> bool:
    """Who is of the class or has the relation, not who was or had."""
    to, person = block.data["to"], block.data["person"]
    if "relation" in to:
        return hub.related(d, person, recipient, to["relation"])
    registered = hub.registration(d, recipient) or {}
    return to.get("recipient") == recipient or ("class" in to and registered.get("class") == to["class"])


def meant_only(*shapes: str) -> Callable[..., bool]:
    return lambda hub, d, block, r: bool({*block.data["to"]} & {*shapes}) and RIGHT["meant"](hub, d, block, r)


def begins_as_text(code: str, other: str) -> bool:
    return other.startswith(code)


def direct_contents(hub: Naive, d: int, code: str, other: str) -> bool:
    contents = hub.introduced_areas(d)
    inner = [c for area, codes in contents.items() if naive.begins(code, area) for c in codes]
    return any(naive.begins(c, other) for c in [code, *inner])


def first_contents(hub: Naive, d: int) -> dict[str, list[str]]:
    found = reversed(hub.entries(d, "area.introduced"))
    return {e.data["area"]: e.data["contains"] for e in found}


def rank_by(*names: str) -> Callable[[Naive, Permit], tuple[Any, ...]]:
    def rank(hub: Naive, permit: Permit) -> tuple[Any, ...]:
        level = naive.levels_of(permit.fact.kind).index(permit.level)
        values = {"level": level, "limited": permit.limited, "position": permit.position}
        values |= {"later": -permit.position, "coarsest": -level, "spent first": not permit.limited}
        return tuple(values[name] for name in names)

    return rank


def level_by_first_name(precision: dict[str, str], kind: str) -> str:
    """Any name that matches, not the exact one or the longest."""
    levels = [level for name, level in precision.items() if naive.matches(name, kind)]
    return RIGHT["level_allowed"]({"*": levels[0]} if levels else {}, kind)


def unknown_level_is_finest(precision: dict[str, str], kind: str) -> str:
    known = {name: level for name, level in precision.items() if level in naive.levels_of(kind)}
    return RIGHT["level_allowed"](known, kind)


def full_is_no_position_level(precision: dict[str, str], kind: str) -> str:
    mine = naive.levels_of(kind)
    odd = {"exact", "full"} - {mine[0]}
    return RIGHT["level_allowed"]({n: (mine[-1] if v in odd else v) for n, v in precision.items()}, kind)


def mesh_by_float(digits: object) -> Any:
    return naive.Fraction(float(str(digits)))


def opened_when_valid(hub: Naive, grant: Entry) -> Any:
    return moment(grant.data.get("valid_from") or grant.recorded_at)


def opened_when_done(hub: Naive, grant: Entry) -> Any:
    return moment(grant.data.get("occurred_at") or RIGHT["opened_at"](hub, grant))


def revoked_whose(hub: Naive, d: int, grant: Entry, *, anyone: bool, all_too: bool, before: bool) -> bool:
    names = (grant.data["grant"], "all") if all_too else (grant.data["grant"],)
    return any(
        e.data["grant"] in names
        and (before or e.position > grant.position)
        and (anyone or e.data["person"] == grant.data["person"])
        for e in hub.entries(d, "consent.revoked")
    )


def in_force_despite(*excuses: str) -> Callable[..., bool]:
    def in_force(hub: Naive, now: Now, grant: Entry) -> bool:
        data, parent = dict(grant.data), hub.parent(now.d, grant)
        for field in excuses:
            data.pop(field, None)
        eased = Entry(grant.position, grant.recorded_at, grant.kind, data, grant.id)
        within = parent is None or "approves" in excuses or hub.in_force(now, parent)
        return within and RIGHT["in_force"](hub, now, eased)

    return in_force


def covering_without(field: str) -> Callable[..., bool]:
    def covers(hub: Naive, ask: Ask, person: str, override: Entry) -> bool:
        data = {name: value for name, value in override.data.items() if name != field}
        eased = Entry(override.position, override.recorded_at, override.kind, data, override.id)
        return RIGHT["override_covers_person"](hub, ask, person, eased)

    return covers


def roster_for_all_listed(hub: Naive, ask: Ask, person: str, override: Entry) -> bool:
    """By the roster: the listed also where no emergency is near."""
    if override.data["basis"] == "roster" and person in (override.data.get("persons") or []):
        return hub.on_roster(ask.now.d, person)
    return RIGHT["override_covers_person"](hub, ask, person, override)


def two_areas_will_do(hub: Naive, ask: Ask, person: str, override: Entry) -> bool:
    """One area that the override covers, and maybe another that the recipient covers."""
    registered = hub.registration(ask.now.d, ask.recipient) or {"areas": []}
    areas, d = hub.areas(ask.now, person), ask.now.d
    mine = ("*" in registered["areas"] and bool(areas)) or hub.any_covers(d, registered["areas"], areas)
    return mine and hub.any_covers(d, override.data.get("areas") or [], areas)


def star_is_no_area(hub: Naive, ask: Ask, person: str, override: Entry) -> bool:
    registered = hub.registration(ask.now.d, ask.recipient) or {"areas": []}
    return "*" not in registered["areas"] and RIGHT["in_area_of_override"](hub, ask, person, override)


def star_is_everywhere(hub: Naive, ask: Ask) -> bool:
    registered = hub.registration(ask.now.d, ask.recipient) or {"areas": []}
    anything = "*" in registered["areas"] and bool(hub.active_emergencies(ask.now, exercise=False))
    return anything or RIGHT["emergency_at_recipient"](hub, ask)


def one_way_only(hub: Naive, ask: Ask) -> bool:
    registered = hub.registration(ask.now.d, ask.recipient) or {"areas": []}
    active = hub.active_emergencies(ask.now, exercise=False)
    return any(hub.any_covers(ask.now.d, e.data["areas"], registered["areas"]) for e in active)


def mode_by_any_emergency(hub: Naive, now: Now, person: str) -> str:
    areas = hub.areas(now, person)
    return "emergency" if hub.starts(now, areas, False) or hub.starts(now, areas, True) else "normal"


def mode_at_home(hub: Naive, now: Now, person: str) -> str:
    return "emergency" if hub.starts(now, hub.home(now.d, person), exercise=False) else "normal"


def drill_in_their_own_mode(hub: Naive, ask: Ask, person: str) -> str | None:
    mode = RIGHT["mode_of_decision"](hub, ask, person)
    return hub.mode_of(ask.now, person) if mode == "exercise" else mode


def drill_for_all(hub: Naive, ask: Ask, person: str) -> str | None:
    return "exercise" if ask.exercise else hub.mode_of(ask.now, person)


def facts_of_both_sorts(hub: Naive, d: int, person: str, exercise: bool) -> list[Entry]:
    return [f for f in hub.of_person(d, person, *naive.FACTS) if not hub.retracted(d, f)]


def retracted_only_before(hub: Naive, d: int, fact: Entry) -> bool:
    found = hub.of_person(d, fact.data["person"], "fact.retracted")
    return any(e.data["event"] == fact.id and e.position > fact.position for e in found)


def retracted_by_anyone(hub: Naive, d: int, fact: Entry) -> bool:
    return any(e.data["event"] == fact.id for e in hub.entries(d, "fact.retracted"))


def retired_by_name(hub: Naive, d: int, recipient: str) -> bool:
    return any(e.data["recipient"] == recipient for e in hub.entries(d, "recipient.retired"))


def first_registration(hub: Naive, d: int, recipient: str) -> Any:
    found = [e.data for e in hub.entries(d, "recipient.registered") if e.data["recipient"] == recipient]
    return found[0] if found and not hub.retired(d, recipient) else None


def related_once(hub: Naive, d: int, person: str, recipient: str, role: str) -> bool:
    found = hub.of_person(d, person, "relation.added")
    return any((e.data["recipient"], e.data["role"]) == (recipient, role) for e in found)


def any_role(hub: Naive, d: int, person: str, recipient: str, role: str) -> bool:
    roles = {e.data["role"] for e in hub.of_person(d, person, "relation.added")}
    return any(RIGHT["related"](hub, d, person, recipient, one) for one in roles)


def serves_alone(hub: Naive, ask: Ask, mode: str, grant: Entry) -> bool:
    """An approval looked at without the grant that it names, except whether that is in force."""
    data = grant.data
    return (
        mode in data["modes"]
        and ask.purpose in data["purposes"]
        and hub.addressed(ask, data["person"], mode, data["to"])
    )


def grants_kind_eased(hub: Naive, d: int, grant: Entry, kind: str, *, without: str) -> bool:
    data = {name: value for name, value in grant.data.items() if name != without}
    eased = Entry(grant.position, grant.recorded_at, grant.kind, data, grant.id)
    return RIGHT["grants_kind"](hub, d, eased, kind)


def names_not_held_back(hub: Naive, d: int, grant: Entry, kind: str) -> bool:
    """`each_new_kind` taken to hold back exact names too."""
    late = grant.data.get("ask") == "each_new_kind" and not hub.known_before(d, grant, kind)
    return RIGHT["grants_kind"](hub, d, grant, kind) and not late


def window_with_default(default: str) -> Callable[[Naive, Entry], Any]:
    return lambda hub, grant: grant.data.get("data") or default


def since_strictly(hub: Naive, ask: Ask, person: str, grant: Entry, window: Any) -> Any:
    since = RIGHT["since"](hub, ask, person, grant, window)
    return since and since + timedelta(microseconds=1)


def since_latest_start(hub: Naive, ask: Ask, person: str, grant: Entry, window: Any) -> Any:
    starts = hub.starts(ask.now, hub.areas(ask.now, person), ask.exercise)
    if window != "since_emergency" or not starts:
        return RIGHT["since"](hub, ask, person, grant, window)
    return max(starts) - naive.SIX_HOURS


def since_start_itself(hub: Naive, ask: Ask, person: str, grant: Entry, window: Any) -> Any:
    since = RIGHT["since"](hub, ask, person, grant, window)
    return since + naive.SIX_HOURS if since and window == "since_emergency" else since


def visible_coarsely(hub: Naive, ask: Ask, permit: Permit) -> bool:
    """A point without a mesh shown at any level."""
    asked = ask.kinds is None or any(naive.matches(name, permit.fact.kind) for name in ask.kinds)
    return asked and not hub.expired(ask.now, permit.fact)


def expired_after(hub: Naive, now: Now, fact: Entry) -> bool:
    return RIGHT["expired"](hub, Now(now.d, now.t - timedelta(microseconds=1)), fact)


def expired_by_kind(hub: Naive, now: Now, fact: Entry) -> bool:
    """By the kind's time to live alone."""
    kept = {name: value for name, value in fact.data.items() if name != "expires_at"}
    return RIGHT["expired"](hub, now, replace(fact, data=kept))


def expired_by_own_end_first(hub: Naive, now: Now, fact: Entry) -> bool:
    """By the kind's time to live only where the fact has no end of its own."""
    own = fact.data.get("expires_at")
    return now.t >= moment(own) if own is not None else RIGHT["expired"](hub, now, fact)


def latest_of_what_goes_on(hub: Naive, d: int, facts: list[Entry]) -> list[Entry]:
    """As if a fact were no longer the latest once its own end has come: as of the last entry's time."""
    now = hub.clock(hub.log[d - 1].recorded_at, d)
    return RIGHT["latest"](hub, d, [f for f in facts if "expires_at" not in f.data or not hub.expired(now, f)])


def used_by_reads(hub: Naive, d: int, grant: Entry) -> bool:
    """Each use taken to last for one more."""
    taken = [e for e in hub.entries(d, "view.disclosed") if grant.data["grant"] in e.data["consumed"]]
    return grant.data.get("uses") is not None and len(taken) > grant.data["uses"]


def closed_whenever(hub: Naive, now: Now, override: Entry) -> bool:
    name = override.data["override"]
    closed = any(e.data["override"] == name for e in hub.entries(now.d, "override.closed"))
    return not closed and now.t < moment(override.data["until"])


def never_closed(hub: Naive, now: Now, override: Entry) -> bool:
    return now.t < moment(override.data["until"])


def override_without_right(hub: Naive, ask: Ask, override: Entry) -> bool:
    registered = hub.registration(ask.now.d, ask.recipient)
    return (
        registered is not None
        and override.data["recipient"] == ask.recipient
        and ask.purpose in override.data["purposes"]
        and hub.open_now(ask.now, override)
    )


def override_of_any_kind(hub: Naive, d: int, override: Entry, kind: str) -> bool:
    return any(naive.matches(name, kind) for name in override.data["kinds"])


def defeats(rule: Callable[[bool, bool, bool, bool], bool]) -> Callable[..., bool]:
    """rule: of life_protection, protective, added by the person, listed in the override."""

    def block_defeats(hub: Naive, block: Entry, override: Entry) -> bool:
        person = block.data["person"]
        listed = person in (override.data.get("persons") or [])
        life = override.data["basis"] == "life_protection"
        return rule(life, bool(block.data.get("protective")), author(block) == person, listed)

    return block_defeats


def refused_unless(reason: str) -> Callable[..., str | None]:
    """That reason no reason."""

    def refusal(hub: Naive, now: Now, kind: str, data: dict[str, Any]) -> str | None:
        found = RIGHT["refusal"](hub, now, kind, data)
        return None if found == reason else found

    return refusal


def delegated_although_erased(hub: Naive, now: Now, person: str, delegate: str) -> bool:
    """The delegation of one who was erased goes on."""
    latest = None
    for e in hub.of_person(now.d, person, "delegation.added", "delegation.ended"):
        latest = e if e.data["delegate"] == delegate else latest
    if latest is None or latest.kind == "delegation.ended":
        return False
    return "until" not in latest.data or now.t < moment(latest.data["until"])


def clock_that_follows(hub: Naive, at: Any, d: int | None = None) -> Now:
    return Now(len(hub.log) if d is None else d, at)


RIGHT: dict[str, Callable[..., Any]] = {**vars(naive), **vars(Naive)}
REASONS = (
    *("R1a no such kind", "R1a not an area code", "R1a enrolled already", "R1a not enrolled"),
    *("R8 kind not introduced", "R17 may be a real call for help", "R1a grant used already"),
    *(
        "R1a override used already",
        "R1a kind used already",
        "R1a recipient retired",
        "R1a a grant called all",
    ),
    *("R8 an approval serves one reading", "R8 approves no grant of the person"),
    *("R8 approves no every_time grant", "R1a changes its exercise", "R14 no reason", "R14 longer than 72 h"),
    *("R14 life_protection without persons", "R16 no active delegation", "R16 not for a delegate"),
    *("R16 someone else's block",),
)
WRONG = [
    Wrong("R1: the clock may go back", "clock", clock_that_follows),
    Wrong(
        "R2: the source's claim counts",
        "effective",
        lambda f: moment(f.data.get("occurred_at", f.recorded_at)),
    ),
    Wrong("R2: the arrival counts", "effective", lambda f: f.recorded_at),
    Wrong("R4: valid_from may reach back", "opened_at", opened_when_valid),
    Wrong("R4: when it was done, not recorded", "opened_at", opened_when_done),
    Wrong("R4: no end", "in_force", in_force_despite("valid_until")),
    Wrong("R4: no beginning", "in_force", in_force_despite("valid_from")),
    Wrong("R4: never revoked", "revoked", lambda hub, d, grant: False),
    Wrong(
        "R4: revoked by anyone",
        "revoked",
        lambda hub, d, g: revoked_whose(hub, d, g, anyone=True, all_too=False, before=False),
    ),
    Wrong(
        "R4: `all` revokes nothing",
        "revoked",
        lambda hub, d, g: revoked_whose(hub, d, g, anyone=False, all_too=False, before=False),
    ),
    Wrong(
        "R4: revoked before it was made",
        "revoked",
        lambda hub, d, g: revoked_whose(hub, d, g, anyone=False, all_too=True, before=True),
    ),
    Wrong("R4: a delegate's grant outlives the delegation", "in_force", in_force_despite("by")),
    Wrong("R4: an approval outlives its consent", "in_force", in_force_despite("approves")),
    Wrong(
        "R6: class everywhere",
        "addressed",
        addressed_with(lambda hub, ask, p, mode: ["07202", "07203", "13104"]),
    ),
    Wrong(
        "R6: class at home only",
        "addressed",
        addressed_with(lambda hub, ask, p, mode: hub.home(ask.now.d, p)),
    ),
    Wrong(
        "R6: class where they are",
        "addressed",
        addressed_with(lambda hub, ask, p, mode: hub.areas(ask.now, p)),
    ),
    Wrong(
        "R6: class where they are in a drill too",
        "addressed",
        addressed_with(lambda hub, ask, p, mode: hub.home(ask.now.d, p) if mode == "normal" else hub.areas(ask.now, p)),
    ),
    Wrong("R6: a relation for ever", "related", related_once),
    Wrong("R6: any relation", "related", any_role),
    Wrong("R6: the first registration", "registration", first_registration),
    Wrong("R6: retired is not retired", "retired", lambda hub, d, recipient: False),
    Wrong("R1a: retired before registered", "retired", retired_by_name),
    Wrong("R8: each_new_kind as once", "known_before", lambda hub, d, grant, kind: True),
    Wrong("R8: each_new_kind holds back names", "grants_kind", names_not_held_back),
    Wrong(
        "R8: every_time opens",
        "grants_kind",
        lambda hub, d, g, kind: grants_kind_eased(hub, d, g, kind, without="ask"),
    ),
    Wrong("R8: an approval beyond its parent's kinds", "names_kind", lambda hub, d, grant, kind: True),
    Wrong("R8: an approval beyond its parent's reach", "serves", serves_alone),
    Wrong(
        "R8: a pattern is a beginning",
        "matches",
        lambda name, kind: kind.startswith(name.rstrip("*").rstrip(".")),
    ),
    Wrong("R9: by default all", "window", window_with_default("all")),
    Wrong("R9: by default latest", "window", window_with_default("latest")),
    Wrong("R9: by default since_grant", "window", window_with_default("since_grant")),
    Wrong("R9: since is after", "since", since_strictly),
    Wrong("R9: since the latest emergency", "since", since_latest_start),
    Wrong("R9: since the emergency itself", "since", since_start_itself),
    Wrong("R9: no latest_by", "latest_by", lambda hub, d, fact: []),
    Wrong(
        "R9: latest ties to the earlier",
        "newest",
        lambda facts: max(facts, key=lambda f: (effective(f), -f.position)),
    ),
    Wrong("R9: latest to arrive", "newest", lambda facts: max(facts, key=lambda f: f.position)),
    Wrong("R9a: any name", "level_allowed", level_by_first_name),
    Wrong("R9a: unknown is finest", "level_allowed", unknown_level_is_finest),
    Wrong("R9a: full is unknown to positions", "level_allowed", full_is_no_position_level),
    Wrong("R9a: the coarsest wins", "rank", rank_by("coarsest", "limited", "position")),
    Wrong("R9a: uses do not matter", "rank", rank_by("level", "position")),
    Wrong("R9a: the limited first", "rank", rank_by("level", "spent first", "position")),
    Wrong("R9a: the later first", "rank", rank_by("level", "limited", "later")),
    Wrong("R9a: position before uses", "rank", rank_by("level", "position", "limited")),
    Wrong("R9a: no mesh, any level", "visible", visible_coarsely),
    Wrong("R10: a district as a beginning", "begins", begins_as_text),
    Wrong("R10: contents of contents left out", "covers", direct_contents),
    Wrong("R10: no contents", "introduced_areas", lambda hub, d: {}),
    Wrong("R10: the first contents by code", "introduced_areas", first_contents),
    Wrong("R10: a ping places for a day only", "place", place_for_a_day_only),
    Wrong("R10: a ping places for ever", "place", place_for_ever),
    Wrong("R10: an expired ping places nobody", "place", place_of_what_is_visible),
    Wrong("R10: the last ping with a mesh", "place", place_by_any_ping),
    Wrong("R10: meshes by floats", "degrees", mesh_by_float),
    Wrong("R10: mode at home", "mode_of", mode_at_home),
    Wrong("R10: drills change the mode", "mode_of", mode_by_any_emergency),
    Wrong(
        "R10: until inclusive",
        "active_emergencies",
        lambda hub, now, exercise: until_inclusive(hub, exercise, now),
    ),
    Wrong("R10: start of the first declaration", "start", first_declaration),
    Wrong(
        "R10: a lifting breaks no run",
        "start",
        lambda hub, now, e, areas: start_despite(hub, now, e, areas, {"elsewhere", "expired"}),
    ),
    Wrong(
        "R10: a declaration elsewhere breaks no run",
        "start",
        lambda hub, now, e, areas: start_despite(hub, now, e, areas, {"lifted", "expired"}),
    ),
    Wrong(
        "R10: the end of a lease breaks no run",
        "start",
        lambda hub, now, e, areas: start_despite(hub, now, e, areas, {"lifted", "elsewhere"}),
    ),
    Wrong("R10: a run begins elsewhere", "start", started_where_it_was_not),
    Wrong("R11: no expiry", "expired", lambda hub, now, fact: False),
    Wrong("R11: expiry a moment later", "expired", expired_after),
    Wrong("R11: a fact's own end does not count", "expired", expired_by_kind),
    Wrong("R11: its own end goes before its kind's", "expired", expired_by_own_end_first),
    Wrong("R9: what has ended by itself is not the latest", "latest", latest_of_what_goes_on),
    Wrong("R12: no retraction", "retracted", lambda hub, d, fact: False),
    Wrong("R12: no retraction in advance", "retracted", retracted_only_before),
    Wrong("R12: anyone's retraction", "retracted", retracted_by_anyone),
    Wrong("R13: blocks stop no grant", "permits", permits_despite_blocks),
    Wrong("R13: a block lies beside the earlier one", "blocks_in_place", blocks_never_replaced),
    Wrong("R13: who is, not who was", "meant", meant_now),
    Wrong("R13: blocks of recipients only", "meant", meant_only("recipient")),
    Wrong("R13: no blocks of relations", "meant", meant_only("recipient", "class")),
    Wrong("R13: no blocks of classes", "meant", meant_only("recipient", "relation")),
    Wrong("R13: no block stops an override", "block_defeats", defeats(lambda life, hard, own, listed: False)),
    Wrong("R13: every block stops every one", "block_defeats", defeats(lambda life, hard, own, listed: True)),
    Wrong(
        "R13: a delegate's block stops life_protection",
        "block_defeats",
        defeats(lambda life, hard, own, listed: life or (hard and not listed)),
    ),
    Wrong(
        "R13: protective does not stop life_protection",
        "block_defeats",
        defeats(lambda life, hard, own, listed: own if life else hard and not listed),
    ),
    Wrong(
        "R13: a protective block stops a listing one",
        "block_defeats",
        defeats(lambda life, hard, own, listed: hard or own if life else hard),
    ),
    Wrong("R14: never closed", "open_now", never_closed),
    Wrong("R14: closed before it was opened", "open_now", closed_whenever),
    Wrong("R14: without the right", "override_serves", override_without_right),
    Wrong("R14: every kind is a roster's", "override_covers_kind", override_of_any_kind),
    Wrong("R14: everyone is on the roster", "on_roster", lambda hub, d, person: True),
    Wrong("R14: listed is nothing", "override_covers_person", covering_without("persons")),
    Wrong("R14: areas are nothing", "override_covers_person", covering_without("areas")),
    Wrong("R14: the listed without an emergency", "override_covers_person", roster_for_all_listed),
    Wrong("R14: one area each", "in_area_of_override", two_areas_will_do),
    Wrong("R14: `*` covers nobody", "in_area_of_override", star_is_no_area),
    Wrong("R14: any emergency is near `*`", "emergency_at_recipient", star_is_everywhere),
    Wrong("R14: no emergency is near", "emergency_at_recipient", lambda hub, ask: False),
    Wrong("R14: near one way", "emergency_at_recipient", one_way_only),
    Wrong("R15: nobody is erased", "erased", lambda hub, d: set()),
    Wrong("R15: the past is not erased", "hidden_persons", lambda hub, ask: hub.erased(ask.now.d)),
    Wrong("R15: an erased delegate goes on", "delegated", delegated_although_erased),
    Wrong("R16: a delegation without end", "delegated", without_until),
    Wrong("R16: a delegate serves himself", "by_the_reader", lambda hub, ask, grant: False),
    Wrong("R17: a drill for everyone", "mode_of_decision", drill_for_all),
    Wrong("R17: a drill in their own mode", "mode_of_decision", drill_in_their_own_mode),
    Wrong("R17: facts of both sorts", "facts", facts_of_both_sorts),
    Wrong("R19: uses are not counted", "used_up", lambda hub, d, grant: False),
    Wrong("R19: one use more", "used_up", used_by_reads),
    *(Wrong(f"{reason}: is accepted", "refusal", refused_unless(reason)) for reason in REASONS),
]


@cache
def right_outcomes(seed: int) -> list[tuple[dict[str, Any], Any]]:
    """The steps of a world with questions as of earlier positions, each with its outcome."""
    hub, told = Naive(), []
    for step in worlds.looking_back(seed, worlds.world(seed, events=0.7), lambda: len(hub.log)):
        told.append((step, worlds.play(hub, step)))
    return told


def outcome_of(hub: Naive, step: dict[str, Any]) -> Any:
    """What a wrong reading says; that it stumbles tells it apart as well."""
    try:
        return worlds.play(hub, step)
    except (AssertionError, IndexError, KeyError, RecursionError, TypeError):
        return "stumbles"


LATE = {
    "R14: the listed without an emergency": 10,
    "R4: valid_from may reach back": 11,
    "R9a: no mesh, any level": 11,
    "R1a changes its exercise: is accepted": 13,
    "R10: an expired ping places nobody": 14,
    "R10: contents of contents left out": 14,
    "R8 approves no every_time grant: is accepted": 14,
    "R13: protective does not stop life_protection": 15,
    "R9a: any name": 18,
    "R14: any emergency is near `*`": 19,
    "R4: no beginning": 19,
    "R10: a ping places for ever": 24,
    "R10: the end of a lease breaks no run": 24,
    "R10: the first contents by code": 25,
    "R1a a grant called all: is accepted": 25,
    "R8: each_new_kind holds back names": 26,
    "R9: by default since_grant": 28,
    "R9: since the latest emergency": 34,
    "R10: until inclusive": 41,
    "R10: a lifting breaks no run": 48,
    "R11: its own end goes before its kind's": 74,
}
"""Readings that the first worlds do not tell apart, and a world that does: it is tried before the others."""


def told_apart(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """A world in which the wrong reading gives another outcome; where `LATE` names none that does, the first."""
    method = hasattr(Naive, wrong.place)
    reading = type("Wrongly", (Naive,), {wrong.place: wrong.instead}) if method else Naive
    for seed in (LATE.get(wrong.says, 0), *range(MOST_WORLDS)):
        right, hub = right_outcomes(seed), reading()
        with monkeypatch.context() as patch:
            if not method:
                patch.setattr(naive, wrong.place, wrong.instead)
            if any(outcome_of(hub, step) != outcome for step, outcome in right):
                return seed
    return None


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.says)
def test_the_worlds_find_the_wrong_reading(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told_apart(wrong, monkeypatch) is not None
