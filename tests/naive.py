"""A second reading of the rules: plain, slow, obviously right.

It keeps the accepted entries in a list and answers every question by going through that list
from the start. Nothing is folded, remembered or made fast, and nothing of hub is imported:
where this reading and `hub.rules` differ, one of the two is wrong. Rule numbers are RULES.md's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any

DAY = timedelta(hours=24)
SIX_HOURS = timedelta(hours=6)
LONGEST_OVERRIDE = timedelta(hours=72)

LOCATION = "location.reported"
FACTS = frozenset(
    {
        LOCATION,
        "safety.answered",
        "care.medication_updated",
        "care.condition_updated",
        "care.allergy_updated",
        "survey.answered",
    }
)
PLACES = frozenset({"hazard.reported", "shelter.reported"})
CONTROLS = frozenset(
    {
        "kind.introduced",
        "area.introduced",
        "recipient.registered",
        "recipient.retired",
        "person.enrolled",
        "person.moved",
        "person.erased",
        "relation.added",
        "relation.ended",
        "delegation.added",
        "delegation.ended",
        "identity.linked",
        "identity.unlinked",
        "roster.listed",
        "roster.removed",
        "consent.granted",
        "consent.revoked",
        "consent.requested",
        "consent.declined",
        "block.added",
        "block.removed",
        "emergency.proposed",
        "emergency.declared",
        "emergency.lifted",
        "emergency.rejected",
        "override.opened",
        "override.closed",
        "fact.retracted",
    }
)
DELEGABLE = frozenset({"consent.granted", "consent.revoked", "consent.declined", "block.added", "block.removed"})
NOT_FOR_DELEGATES = frozenset(
    {"delegation.added", "delegation.ended", "relation.added", "relation.ended", "person.erased"}
)
AREA_CODE = re.compile(r"[0-9]{2}|[0-9]{5}(-[0-9A-Za-z]+)?|m([0-9]{4}|[0-9]{6}|[0-9]{8}|[0-9]{9}|[0-9]{10})")
POSITION_LEVELS = ("exact", "250m", "1km", "10km")
OTHER_LEVELS = ("full", "summary")

Data = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One accepted event, at its position (R1)."""

    position: int
    recorded_at: datetime
    kind: str
    data: Data
    id: str


@dataclass(frozen=True)
class Now:
    """The pair (d, t) at which a decision is taken (R1)."""

    d: int
    t: datetime


@dataclass(frozen=True)
class Ask:
    """One question: who reads, for what, which kinds (none: every kind), in a drill or not."""

    now: Now
    recipient: str
    purpose: str
    kinds: tuple[str, ...] | None
    exercise: bool


@dataclass(frozen=True)
class Permit:
    """One basis that covers one fact, and the level that it allows (R9a)."""

    fact: Entry
    level: str
    basis: tuple[str, str]
    limited: bool
    position: int


@dataclass(frozen=True)
class Sight:
    """What a recipient sees: ids of facts by person, with basis and level of each fact."""

    sees: dict[str, frozenset[str]] = field(default_factory=dict)
    because: dict[str, tuple[str, str]] = field(default_factory=dict)
    precision: dict[str, str] = field(default_factory=dict)


def moment(value: str | datetime) -> datetime:
    """An instant as data carries it: an aware datetime or ISO 8601 with an offset."""
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    assert when.tzinfo is not None, "a time without an offset is no instant"
    return when


def author(entry: Entry) -> str:
    """Who did it: `by`, where that is not the person."""
    return str(entry.data.get("by") or entry.data["person"])


def effective(fact: Entry) -> datetime:
    """R2: a claim from the future is no newer than its arrival."""
    claimed = fact.data.get("occurred_at")
    return fact.recorded_at if claimed is None else min(moment(claimed), fact.recorded_at)


def matches(name: str, kind: str) -> bool:
    """R8: an exact name, `care.*` or `*`."""
    if name == "*":
        return True
    return kind.startswith(name[:-1]) if name.endswith(".*") else kind == name


def levels_of(kind: str) -> tuple[str, ...]:
    """R9a: the levels of a kind, finest first."""
    return POSITION_LEVELS if kind == LOCATION else OTHER_LEVELS


def level_allowed(precision: dict[str, str], kind: str) -> str:
    """R9a: exact name before pattern, longer pattern before shorter; an unknown level is the coarsest."""
    levels = levels_of(kind)
    names = [name for name in precision if matches(name, kind)]
    if not names:
        return levels[0]
    wanted = precision[kind if kind in names else max(names, key=len)]
    if wanted in ("exact", "full"):
        return levels[0]
    return wanted if wanted in levels else levels[-1]


def degrees(digits: object) -> Fraction:
    """R10: the decimal digits received, exactly; a float stands for its shortest digits."""
    return Fraction(str(digits))


def quarter_mesh(lat: Fraction, lon: Fraction) -> str | None:
    """R10: the ten digits of the JIS X 0410 quarter mesh; none outside the area of the standard.

    Counted in quarter cells, of which a degree has 480 to the north and 320 to the east. A first mesh is
    320 of them high and wide, a second 40, a third 4, a half 2. What lies on a southern or western edge
    belongs to the cell.
    """
    if not (20 <= lat < 46 and 122 <= lon < 154):
        return None
    row, column = floor(lat * 480), floor((lon - 100) * 320)
    first = f"{row // 320:02d}{column // 320:02d}"
    second = f"{row % 320 // 40}{column % 320 // 40}"
    third = f"{row % 40 // 4}{column % 40 // 4}"
    half = 1 + 2 * (row % 4 // 2) + column % 4 // 2
    quarter = 1 + 2 * (row % 2) + column % 2
    return f"{first}{second}{third}{half}{quarter}"


def mesh_of(ping: Entry) -> str | None:
    """R10: the area code of a ping's quarter mesh."""
    code = quarter_mesh(degrees(ping.data["lat_deg"]), degrees(ping.data["lon_deg"]))
    return None if code is None else "m" + code


def begins(code: str, other: str) -> bool:
    """R10: a code covers what begins with it, one with a suffix only itself."""
    return code == other if "-" in code else other.startswith(code)


def newest(facts: list[Entry]) -> Entry:
    """R9: greatest effective time, ties to the greater position."""
    return max(facts, key=lambda fact: (effective(fact), fact.position))


class Naive:
    """The log as a list, and the rules as questions to it."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.waiting: list[tuple[str, dict[str, Any], str | None]] = []

    # The outside: append, read, expect.

    def append(self, at: datetime, kind: str, data: Data, id: str | None = None) -> str:
        """R1a: erasure is looked at first, then duplicates, then the rest."""
        if "ref" in data and kind in FACTS:
            return self.append_under_ref(at, kind, data, id)
        if data.get("person") in self.erased(len(self.log)):
            return "refused"
        same = [entry for entry in self.log if entry.id == id]
        if same:
            return "duplicate" if (same[0].kind, same[0].data) == (kind, data) else "refused"
        if self.refusal(self.clock(at), kind, data) is not None:
            return "refused"
        self.record(at, kind, data, id)
        if kind == "identity.linked":
            self.enter(at)
        return "accepted"

    def append_under_ref(self, at: datetime, kind: str, data: Data, id: str | None) -> str:
        """A fact that names its person by the source's own id: of whom it is linked to, or it waits."""
        holder = self.holder(data["ref"])
        if "person" in data or holder == "severed":
            return "refused"
        named = {name: value for name, value in data.items() if name != "ref"}
        if holder is not None:
            for entry in self.log:  # the same fact again is the same, whoever holds the id now
                if entry.id == id and {**entry.data, "person": holder} == {**named, "person": holder}:
                    return "duplicate"
            return self.append(at, kind, {**named, "person": holder}, id)
        before = [waits for waits in self.waiting if waits[2] == id]
        if before:
            return "waiting" if before[0][:2] == (kind, data) else "refused"
        checks = (self.refused_schema, self.refused_fact)
        if any(check(self.clock(at), kind, {**named, "exercise": False}) for check in checks):
            return "refused"
        self.waiting.append((kind, dict(data), id))
        return "waiting"

    def holder(self, ref: str) -> str | None:
        """Whose the id of the one source is by the latest word on it; `severed` where that word took it away."""
        found: str | None = None
        for entry in self.log:
            mine = entry.data.get("source") == "scenario" and entry.data.get("ref") == ref
            if entry.kind == "identity.linked" and mine:
                found = entry.data["person"]
            elif found == entry.data.get("person") and (
                entry.kind == "person.erased" or (entry.kind == "identity.unlinked" and mine)
            ):
                found = "severed"
        return found

    def enter(self, at: datetime) -> None:
        """What waited for an id that is linked now enters, in the order of arrival."""
        waited, self.waiting = self.waiting, []
        for kind, data, name in waited:
            self.append_under_ref(at, kind, data, name)

    def read(
        self,
        at: datetime,
        recipient: str,
        purpose: str,
        kinds: Iterable[str] | None = None,
        exercise: bool = False,
    ) -> Sight:
        """R18, R19: the answer, and the disclosure that it leaves in the log."""
        sight = self.expect(at, recipient, purpose, kinds, exercise)
        shown = {name for what, name in sight.because.values() if what == "grant"}
        limited = [
            grant.data["grant"]
            for grant in self.entries(len(self.log), "consent.granted")
            if grant.data["grant"] in shown and grant.data.get("uses") is not None
        ]
        self.record(at, "view.disclosed", {"recipient": recipient, "consumed": limited}, None)
        return sight

    def expect(
        self,
        at: datetime,
        recipient: str,
        purpose: str,
        kinds: Iterable[str] | None = None,
        exercise: bool = False,
        as_of: int | None = None,
    ) -> Sight:
        """The decision alone, at the head or of the log cut after position `as_of`; appends nothing."""
        now = self.clock(at, as_of)
        ask = Ask(now, recipient, purpose, None if kinds is None else tuple(kinds), exercise)
        return self.sight(ask)

    def mode(self, at: datetime, person: str) -> str:
        """R10: `normal` or `emergency`, now."""
        return self.mode_of(self.clock(at), person)

    # R1: one order.

    def clock(self, at: datetime, d: int | None = None) -> Now:
        """R1: t is never earlier than event d's `recorded_at`."""
        d = len(self.log) if d is None else min(d, len(self.log))
        return Now(d, max(at, self.log[d - 1].recorded_at) if d else at)

    def record(self, at: datetime, kind: str, data: Data, id: str | None) -> None:
        """R1: the next position, at a time that never goes back."""
        position = len(self.log) + 1
        recorded_at = self.clock(at).t
        self.log.append(Entry(position, recorded_at, kind, dict(data), id or f"entry {position}"))

    def entries(self, d: int, *kinds: str) -> list[Entry]:
        """Entries of these kinds at positions up to d, in order."""
        return [entry for entry in self.log[:d] if entry.kind in kinds]

    def of_person(self, d: int, person: str, *kinds: str) -> list[Entry]:
        """Those whose `person` it is."""
        return [entry for entry in self.entries(d, *kinds) if entry.data["person"] == person]

    # R1a: what intake refuses. Each check gives a reason, or nothing.

    def refusal(self, now: Now, kind: str, data: Data) -> str | None:
        """R1a: why the event is refused, erasure and duplicates aside; None: it is accepted."""
        checks: list[Callable[[Now, str, Data], str | None]] = [
            self.refused_schema,
            self.refused_person,
            self.refused_fact,
            self.refused_reuse,
            self.refused_grant,
            self.refused_emergency,
            self.refused_override,
            self.refused_delegate,
            self.refused_block_of_delegate,
        ]
        reasons = (check(now, kind, data) for check in checks)
        return next((reason for reason in reasons if reason is not None), None)

    def refused_schema(self, now: Now, kind: str, data: Data) -> str | None:
        """R1a: what the schema does not hold; of that, unknown kinds, malformed area codes, a `to` that is
        not one of the three (R6), a place's fact that names a person (R22)."""
        if kind not in FACTS | PLACES | CONTROLS:
            return "R1a no such kind"
        if kind in PLACES and "person" in data:
            return "R22 a place names no person"
        if kind == LOCATION and not {"lat_deg", "lon_deg"} <= {*data}:
            return "R1a half a location"
        if "to" in data and (len(data["to"]) != 1 or not {*data["to"]} <= {"recipient", "class", "relation"}):
            return "R6 to nobody"
        return self.refused_area(kind, data) if kind in CONTROLS else None

    def refused_area(self, kind: str, data: Data) -> str | None:
        """R1a: what is no area code; `*` is one in a registration only."""
        codes = [*(data.get("areas") or []), *(data.get("contains") or [])]
        if kind == "area.introduced":
            codes.append(data["area"])
        if kind == "recipient.registered":
            codes = [code for code in codes if code != "*"]
        return None if all(AREA_CODE.fullmatch(code) for code in codes) else "R1a not an area code"

    def refused_person(self, now: Now, kind: str, data: Data) -> str | None:
        """R1a: about a person who is not enrolled, or enrolling one who is."""
        if "person" not in data:
            return None
        enrolled = bool(self.of_person(now.d, data["person"], "person.enrolled"))
        if kind == "person.enrolled":
            return "R1a enrolled already" if enrolled else None
        return None if enrolled else "R1a not enrolled"

    def refused_fact(self, now: Now, kind: str, data: Data) -> str | None:
        """R8: of a kind that was not introduced. R17: a drill's fact of one who is in an emergency."""
        if kind not in FACTS | PLACES:
            return None
        if self.introduction(now.d, kind) is None:
            return "R8 kind not introduced"
        if kind in FACTS and data.get("exercise") and self.mode_of(now, data["person"]) == "emergency":
            return "R17 may be a real call for help"
        return None

    def refused_reuse(self, now: Now, kind: str, data: Data) -> str | None:
        """R1a: a name that is taken, or given up."""
        names = {"consent.granted": "grant", "override.opened": "override", "kind.introduced": "kind"}
        if kind in names:
            name = names[kind]
            if any(entry.data[name] == data[name] for entry in self.entries(now.d, kind)):
                return f"R1a {name} used already"
        if kind == "recipient.registered" and self.retired(now.d, data["recipient"]):
            return "R1a recipient retired"
        return None

    def refused_grant(self, now: Now, kind: str, data: Data) -> str | None:
        """R1a: a grant called `all`. R8: an approval needs `uses: 1` and an `every_time` grant."""
        if kind != "consent.granted":
            return None
        if data["grant"] == "all":
            return "R1a a grant called all"
        if data.get("approves") is None:
            return None
        if data.get("uses") != 1:
            return "R8 an approval serves one reading"
        parent = self.grant_named(now.d, data["approves"])
        if parent is None or parent.data["person"] != data["person"]:
            return "R8 approves no grant of the person"
        return None if parent.data.get("ask") == "every_time" else "R8 approves no every_time grant"

    def refused_emergency(self, now: Now, kind: str, data: Data) -> str | None:
        """R1a: a drill never becomes real by an amendment, nor the other way round; what is confirmed has to wait."""
        if kind != "emergency.declared":
            return None
        if data.get("confirms") is not None and data["confirms"] != self.proposal(now.d, data["emergency"]):
            return "R1a confirms another proposal"
        for earlier in self.entries(now.d, "emergency.declared"):
            same = earlier.data["emergency"] == data["emergency"]
            if same and bool(earlier.data.get("exercise")) != bool(data.get("exercise")):
                return "R1a changes its exercise"
        return None

    def proposal(self, d: int, emergency: str) -> str | None:
        """What stands for the proposal that waits under the id; None where none does."""
        kinds = [f"emergency.{what}" for what in ("proposed", "declared", "lifted", "rejected")]
        for entry in reversed(self.entries(d, *kinds)):
            if entry.data["emergency"] != emergency:
                continue
            if entry.kind != "emergency.proposed":
                return None
            times = [moment(entry.data["until"]), entry.recorded_at]
            parts = [*entry.data["areas"], *(time.astimezone(UTC).isoformat() for time in times), entry.data["hazard"]]
            parts.append(str(bool(entry.data.get("exercise"))))
            return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        return None

    def refused_override(self, now: Now, kind: str, data: Data) -> str | None:
        """R14: without a reason, for more than 72 h, to protect the life of nobody in particular."""
        if kind != "override.opened":
            return None
        if not (data.get("reason") or "").strip():
            return "R14 no reason"
        if moment(data["until"]) - now.t > LONGEST_OVERRIDE:
            return "R14 longer than 72 h"
        if data["basis"] == "life_protection" and not data.get("persons"):
            return "R14 life_protection without persons"
        return None

    def refused_delegate(self, now: Now, kind: str, data: Data) -> str | None:
        """R16: what only a delegate may do for the person, and what a delegate may not."""
        by = data.get("by")
        if by is None or by == data.get("person"):
            return None
        if kind in DELEGABLE and not self.delegated(now, data["person"], by):
            return "R16 no active delegation"
        if kind in NOT_FOR_DELEGATES and self.delegated(now, data["person"], by):
            return "R16 not for a delegate"
        return None

    def refused_block_of_delegate(self, now: Now, kind: str, data: Data) -> str | None:
        """R16: a delegate neither lifts nor replaces a block in place that someone else added."""
        by = data.get("by")
        if kind not in ("block.added", "block.removed") or by is None or by == data["person"]:
            return None
        for block in self.blocks_in_place(now.d, data["person"]):
            if block.data["to"] == data["to"] and author(block) != by:
                return "R16 someone else's block"
        return None

    # Who and what there is.

    def erased(self, d: int) -> set[str]:
        """R15: persons erased up to d."""
        return {entry.data["person"] for entry in self.entries(d, "person.erased")}

    def persons(self, d: int) -> list[str]:
        """Persons enrolled up to d, in order."""
        return [entry.data["person"] for entry in self.entries(d, "person.enrolled")]

    def introduction(self, d: int, kind: str) -> Entry | None:
        """R8: the event that introduced the kind."""
        for entry in self.entries(d, "kind.introduced"):
            if entry.data["kind"] == kind:
                return entry
        return None

    def retired(self, d: int, recipient: str) -> bool:
        """R6: retired while registered; retiring one who is absent has no effect (R1a)."""
        registered = False
        for entry in self.entries(d, "recipient.registered", "recipient.retired"):
            if entry.data["recipient"] == recipient:
                if entry.kind == "recipient.retired" and registered:
                    return True
                registered = entry.kind == "recipient.registered"
        return False

    def registration(self, d: int, recipient: str) -> Data | None:
        """R6: what is registered now of the recipient; nothing of one who is retired."""
        if self.retired(d, recipient):
            return None
        latest = None
        for entry in self.entries(d, "recipient.registered"):
            if entry.data["recipient"] == recipient:
                latest = entry.data
        return latest

    def related(self, d: int, person: str, recipient: str, role: str) -> bool:
        """R6: an active relation of that role to the person."""
        active = False
        for entry in self.of_person(d, person, "relation.added", "relation.ended"):
            if (entry.data["recipient"], entry.data["role"]) == (recipient, role):
                active = entry.kind == "relation.added"
        return active

    def delegated(self, now: Now, person: str, delegate: str) -> bool:
        """R16: the latest says so and has not run out; never again for one who was erased (R15)."""
        if delegate in self.erased(now.d):
            return False
        latest = None
        for entry in self.of_person(now.d, person, "delegation.added", "delegation.ended"):
            if entry.data["delegate"] == delegate:
                latest = entry
        if latest is None or latest.kind == "delegation.ended":
            return False
        until = latest.data.get("until")
        return until is None or now.t < moment(until)

    def on_roster(self, d: int, person: str) -> bool:
        """R14: listed and not removed."""
        latest = None
        for entry in self.of_person(d, person, "roster.listed", "roster.removed"):
            latest = entry
        return latest is not None and latest.kind == "roster.listed"

    # R10: areas and modes.

    def introduced_areas(self, d: int) -> dict[str, list[str]]:
        """R10: what introduced areas contain, the latest by code."""
        return {entry.data["area"]: entry.data["contains"] for entry in self.entries(d, "area.introduced")}

    def covers(self, d: int, code: str, other: str) -> bool:
        """R10: by its beginning, or by what the introduced areas that it covers contain, and so on."""
        contents = self.introduced_areas(d)
        reached = [code]
        for one in reached:  # grows while it is gone through
            for area, contains in contents.items():
                if begins(one, area):
                    reached += [inner for inner in contains if inner not in reached]
        return any(begins(one, other) for one in reached)

    def any_covers(self, d: int, codes: Iterable[str], others: Iterable[str]) -> bool:
        """One of these codes covers one of those."""
        others = list(others)
        return any(self.covers(d, code, other) for code in codes for other in others)

    def home(self, d: int, person: str) -> list[str]:
        """R10: the codes of the latest `person.enrolled` or `person.moved`."""
        areas: list[str] = []
        for entry in self.of_person(d, person, "person.enrolled", "person.moved"):
            areas = entry.data["areas"]
        return areas

    def place(self, now: Now, person: str) -> list[str]:
        """R10: the location's area, for a day or as long as an emergency found the person there."""
        pings = [fact for fact in self.facts(now.d, person, exercise=False) if fact.kind == LOCATION]
        if not pings:
            return []
        ping = newest(pings)
        mesh = mesh_of(ping)
        if mesh is None:
            return []
        if effective(ping) > now.t - DAY:
            return [mesh]
        for start in self.starts(now, [mesh], exercise=False):
            if effective(ping) > start - DAY:
                return [mesh]
        return []

    def areas(self, now: Now, person: str) -> list[str]:
        """R10: the areas of a person."""
        return [*self.home(now.d, person), *self.place(now, person)]

    def active_emergencies(self, now: Now, exercise: bool) -> list[Entry]:
        """R10: the latest declaration of each emergency that is active."""
        latest: dict[str, Entry | None] = {}
        for entry in self.entries(now.d, "emergency.declared", "emergency.lifted"):
            latest[entry.data["emergency"]] = entry if entry.kind == "emergency.declared" else None
        return [
            entry
            for entry in latest.values()
            if entry is not None
            and now.t < moment(entry.data["until"])
            and bool(entry.data.get("exercise")) == exercise
        ]

    def start(self, now: Now, emergency: str, areas: list[str]) -> datetime | None:
        """R10: when the latest unbroken run of declarations that cover one of the areas began."""
        start: datetime | None = None
        until: datetime | None = None
        for entry in self.entries(now.d, "emergency.declared", "emergency.lifted"):
            if entry.data["emergency"] != emergency:
                continue
            if entry.kind == "emergency.lifted" or not self.any_covers(now.d, entry.data["areas"], areas):
                start = None
                continue
            if start is None or (until is not None and entry.recorded_at >= until):
                start = entry.recorded_at
            until = moment(entry.data["until"])
        return start

    def starts(self, now: Now, areas: list[str], exercise: bool) -> list[datetime]:
        """R10: the starts, for these areas, of the active emergencies that cover one of them."""
        covering = [
            emergency
            for emergency in self.active_emergencies(now, exercise)
            if self.any_covers(now.d, emergency.data["areas"], areas)
        ]
        starts = [self.start(now, emergency.data["emergency"], areas) for emergency in covering]
        return [start for start in starts if start is not None]

    def mode_of(self, now: Now, person: str) -> str:
        """R10: the mode of a person; an exercise changes no one's."""
        return "emergency" if self.starts(now, self.areas(now, person), exercise=False) else "normal"

    def mode_of_decision(self, ask: Ask, person: str) -> str | None:
        """R5, R17: the mode in which the person is decided; None: a drill that is not theirs."""
        if not ask.exercise:
            return self.mode_of(ask.now, person)
        return "exercise" if self.starts(ask.now, self.areas(ask.now, person), exercise=True) else None

    # Facts.

    def retracted(self, d: int, fact: Entry) -> bool:
        """R12: named by a retraction of that person, before or after it arrived."""
        return any(entry.data["event"] == fact.id for entry in self.of_person(d, fact.data["person"], "fact.retracted"))

    def facts(self, d: int, person: str, exercise: bool) -> list[Entry]:
        """R12, R17: the person's facts with that flag which are not retracted, expired or not."""
        return [
            fact
            for fact in self.of_person(d, person, *FACTS)
            if bool(fact.data.get("exercise")) == exercise and not self.retracted(d, fact)
        ]

    def expired(self, now: Now, fact: Entry) -> bool:
        """R11: a fact lives while t < effective time + ttl, and while t < the end that it carries itself."""
        introduction = self.introduction(now.d, fact.kind)
        ttl = None if introduction is None else introduction.data.get("ttl_s")
        own = fact.data.get("expires_at")
        over = ttl is not None and now.t >= effective(fact) + timedelta(seconds=ttl)
        return over or (own is not None and now.t >= moment(own))

    def latest(self, d: int, facts: list[Entry]) -> list[Entry]:
        """R9: of each kind the most recent; of a kind with `latest_by` one for each value of those."""
        groups: dict[tuple[Any, ...], list[Entry]] = {}
        for fact in facts:
            groups.setdefault((fact.kind, *self.latest_by(d, fact)), []).append(fact)
        return [newest(group) for group in groups.values()]

    def latest_by(self, d: int, fact: Entry) -> list[Any]:
        """R9: the values that tell two latest facts of a kind apart."""
        introduction = self.introduction(d, fact.kind)
        fields = [] if introduction is None else introduction.data.get("latest_by") or []
        return [fact.data.get(name) for name in fields]

    # R4-R9: grants.

    def grant_named(self, d: int, name: str) -> Entry | None:
        """The grant of that id, whoever's."""
        for entry in self.entries(d, "consent.granted"):
            if entry.data["grant"] == name:
                return entry
        return None

    def opened_at(self, grant: Entry) -> datetime:
        """R4: a grant never acts backwards."""
        valid_from = grant.data.get("valid_from")
        return grant.recorded_at if valid_from is None else max(moment(valid_from), grant.recorded_at)

    def revoked(self, d: int, grant: Entry) -> bool:
        """R4: by an event of the same person after it, by its id or by `all`."""
        return any(
            entry.position > grant.position and entry.data["grant"] in (grant.data["grant"], "all")
            for entry in self.of_person(d, grant.data["person"], "consent.revoked")
        )

    def used_up(self, d: int, grant: Entry) -> bool:
        """R19: n disclosures have consumed it."""
        uses = grant.data.get("uses")
        if uses is None:
            return False
        taken = [e for e in self.entries(d, "view.disclosed") if grant.data["grant"] in e.data["consumed"]]
        return len(taken) >= uses

    def in_force(self, now: Now, grant: Entry) -> bool:
        """R4, R16, R19; an approval only while the grant that it names is."""
        person, by = grant.data["person"], author(grant)
        valid_until = grant.data.get("valid_until")
        if self.revoked(now.d, grant) or self.used_up(now.d, grant):
            return False
        if now.t < self.opened_at(grant) or (valid_until is not None and now.t >= moment(valid_until)):
            return False
        if by != person and not self.delegated(now, person, by):
            return False
        parent = self.parent(now.d, grant)
        return parent is None or self.in_force(now, parent)

    def parent(self, d: int, grant: Entry) -> Entry | None:
        """R8: the grant that an approval names."""
        approves = grant.data.get("approves")
        return None if approves is None else self.grant_named(d, approves)

    def addressed(self, ask: Ask, person: str, mode: str, to: dict[str, str]) -> bool:
        """R6: the reader, who is registered, is one of those to whom the grant was given."""
        if "recipient" in to:
            return to["recipient"] == ask.recipient
        if "relation" in to:
            return self.related(ask.now.d, person, ask.recipient, to["relation"])
        registered = self.registration(ask.now.d, ask.recipient)
        if registered is None or registered["class"] != to["class"]:
            return False
        areas = self.areas(ask.now, person) if mode == "emergency" else self.home(ask.now.d, person)
        return "*" in registered["areas"] or self.any_covers(ask.now.d, registered["areas"], areas)

    def serves(self, ask: Ask, mode: str, grant: Entry) -> bool:
        """R5-R7: in this mode, for this reader and purpose; an approval's parent as well (R8)."""
        data = grant.data
        if mode not in data["modes"] or ask.purpose not in data["purposes"]:
            return False
        if not self.addressed(ask, data["person"], mode, data["to"]):
            return False
        parent = self.parent(ask.now.d, grant)
        return parent is None or self.serves(ask, mode, parent)

    def grants_kind(self, d: int, grant: Entry, kind: str) -> bool:
        """R8: exact names always, patterns by `ask`; an approval within what its parent names."""
        if grant.data.get("ask") == "every_time":
            return False
        parent = self.parent(d, grant)
        if parent is not None and not self.names_kind(d, parent, kind):
            return False
        if kind in grant.data["kinds"]:
            return True
        if not any(matches(name, kind) for name in grant.data["kinds"]):
            return False
        return grant.data.get("ask") != "each_new_kind" or self.known_before(d, grant, kind)

    def known_before(self, d: int, grant: Entry, kind: str) -> bool:
        """R8: introduced at a position before the grant's."""
        introduction = self.introduction(d, kind)
        return introduction is not None and introduction.position < grant.position

    def names_kind(self, d: int, grant: Entry, kind: str) -> bool:
        """R8: covered by the grant's kinds and its parent's, `ask` aside."""
        parent = self.parent(d, grant)
        within = parent is None or self.names_kind(d, parent, kind)
        return within and any(matches(name, kind) for name in grant.data["kinds"])

    def window(self, grant: Entry) -> Any:
        """R9: `data`, or its default by `modes`."""
        default = "since_grant" if "normal" in grant.data["modes"] else "latest"
        return grant.data.get("data") or default

    def reached(self, ask: Ask, person: str, grant: Entry) -> list[Entry]:
        """R9: which of the person's facts the grant's window reaches."""
        facts = self.facts(ask.now.d, person, ask.exercise)
        window = self.window(grant)
        if window == "all":
            return facts
        if window == "latest":
            return self.latest(ask.now.d, facts)
        since = self.since(ask, person, grant, window)
        return [] if since is None else [fact for fact in facts if effective(fact) >= since]

    def since(self, ask: Ask, person: str, grant: Entry, window: Any) -> datetime | None:
        """R9: the earliest effective time that a window with a beginning reaches; None: nothing."""
        if window == "since_grant":
            return self.opened_at(grant)
        if window == "since_emergency":
            starts = self.starts(ask.now, self.areas(ask.now, person), ask.exercise)
            return min(starts) - SIX_HOURS if starts else None
        return moment(window["from"])

    def by_the_reader(self, ask: Ask, grant: Entry) -> bool:
        """R16: a grant made by a delegate is no basis for that delegate."""
        return author(grant) != grant.data["person"] and author(grant) == ask.recipient

    def permits_by_grant(self, ask: Ask, person: str, mode: str) -> Iterator[Permit]:
        """R4-R9a: what the person's grants allow, blocks aside."""
        for grant in self.of_person(ask.now.d, person, "consent.granted"):
            if not self.in_force(ask.now, grant) or not self.serves(ask, mode, grant):
                continue
            if self.by_the_reader(ask, grant):
                continue
            basis = ("grant", grant.data["grant"])
            limited = grant.data.get("uses") is not None
            for fact in self.reached(ask, person, grant):
                if self.grants_kind(ask.now.d, grant, fact.kind):
                    level = level_allowed(grant.data.get("precision") or {}, fact.kind)
                    yield Permit(fact, level, basis, limited, grant.position)

    # R13: blocks.

    def blocks_in_place(self, d: int, person: str) -> list[Entry]:
        """R13: the latest `block.added` for each `to` that was not removed after it."""
        blocks: list[Entry] = []
        for entry in self.of_person(d, person, "block.added", "block.removed"):
            blocks = [block for block in blocks if block.data["to"] != entry.data["to"]]
            if entry.kind == "block.added":
                blocks.append(entry)
        return blocks

    def meant(self, d: int, block: Entry, recipient: str) -> bool:
        """R13: `to` of a block matches who is or was of the class, has or had the relation."""
        to = block.data["to"]
        if "recipient" in to:
            return bool(to["recipient"] == recipient)
        if "class" in to:
            return any(
                (entry.data["recipient"], entry.data["class"]) == (recipient, to["class"])
                for entry in self.entries(d, "recipient.registered")
            )
        return any(
            (entry.data["recipient"], entry.data["role"]) == (recipient, to["relation"])
            for entry in self.of_person(d, block.data["person"], "relation.added")
        )

    def blocks_against(self, ask: Ask, person: str) -> list[Entry]:
        """R13: the person's blocks that match the reader."""
        blocks = self.blocks_in_place(ask.now.d, person)
        return [block for block in blocks if self.meant(ask.now.d, block, ask.recipient)]

    def block_defeats(self, block: Entry, override: Entry) -> bool:
        """R13: life_protection yields to the person's own or a protective block; roster to a protective
        one, unless the override lists the person."""
        protective = bool(block.data.get("protective"))
        person = block.data["person"]
        if override.data["basis"] == "life_protection":
            return protective or author(block) == person
        return protective and person not in (override.data.get("persons") or [])

    # R14: overrides.

    def open_now(self, now: Now, override: Entry) -> bool:
        """R14: opened, not closed since, t < until."""
        closed = any(
            entry.data["override"] == override.data["override"] and entry.position > override.position
            for entry in self.entries(now.d, "override.closed")
        )
        return not closed and now.t < moment(override.data["until"])

    def override_serves(self, ask: Ask, override: Entry) -> bool:
        """R14: open, the reader's own, with the right to that basis and for that purpose."""
        registered = self.registration(ask.now.d, ask.recipient)
        return (
            registered is not None
            and override.data["recipient"] == ask.recipient
            and override.data["basis"] in (registered.get("overrides") or [])
            and ask.purpose in override.data["purposes"]
            and self.open_now(ask.now, override)
        )

    def override_covers_person(self, ask: Ask, person: str, override: Entry) -> bool:
        """R14: listed; or, by the roster, listed or placed there, in an emergency."""
        listed = person in (override.data.get("persons") or [])
        if override.data["basis"] == "life_protection":
            return listed
        if not self.on_roster(ask.now.d, person):
            return False
        if not (listed or self.in_area_of_override(ask, person, override)):
            return False
        if self.mode_of(ask.now, person) == "emergency":
            return True
        return listed and self.emergency_at_recipient(ask)

    def in_area_of_override(self, ask: Ask, person: str, override: Entry) -> bool:
        """R14: one area of the person that the override's and the recipient's areas both cover."""
        registered = self.registration(ask.now.d, ask.recipient)
        assert registered is not None
        codes = registered["areas"]
        for area in self.areas(ask.now, person):
            if self.any_covers(ask.now.d, override.data.get("areas") or [], [area]) and (
                "*" in codes or self.any_covers(ask.now.d, codes, [area])
            ):
                return True
        return False

    def emergency_at_recipient(self, ask: Ask) -> bool:
        """R14: an active emergency covers, or is covered by, a registered code; `*` does not count."""
        registered = self.registration(ask.now.d, ask.recipient)
        assert registered is not None
        codes = [code for code in registered["areas"] if code != "*"]
        return any(
            self.any_covers(ask.now.d, emergency.data["areas"], codes)
            or self.any_covers(ask.now.d, codes, emergency.data["areas"])
            for emergency in self.active_emergencies(ask.now, exercise=False)
        )

    def override_covers_kind(self, d: int, override: Entry, kind: str) -> bool:
        """R8 as for `once`; by the roster only kinds introduced for it (R14)."""
        if not any(matches(name, kind) for name in override.data["kinds"]):
            return False
        introduction = self.introduction(d, kind)
        for_roster = introduction is not None and bool(introduction.data.get("roster"))
        return override.data["basis"] == "life_protection" or for_roster

    def permits_by_override(self, ask: Ask, person: str) -> Iterator[Permit]:
        """R13, R14: what overrides allow; nothing in a drill."""
        if ask.exercise:
            return
        blocks = self.blocks_against(ask, person)
        for override in self.entries(ask.now.d, "override.opened"):
            if any(self.block_defeats(block, override) for block in blocks):
                continue
            if not self.override_serves(ask, override):
                continue
            if not self.override_covers_person(ask, person, override):
                continue
            basis = ("override", override.data["override"])
            for fact in self.latest(ask.now.d, self.facts(ask.now.d, person, exercise=False)):
                if self.override_covers_kind(ask.now.d, override, fact.kind):
                    yield Permit(fact, levels_of(fact.kind)[0], basis, False, override.position)

    # The decision.

    def visible(self, ask: Ask, permit: Permit) -> bool:
        """R11, R9a: not expired; a point without a mesh at level `exact` only; a kind that was asked for."""
        fact = permit.fact
        if self.expired(ask.now, fact):
            return False
        if fact.kind == LOCATION and mesh_of(fact) is None and permit.level != "exact":
            return False
        return ask.kinds is None or any(matches(name, fact.kind) for name in ask.kinds)

    def permits(self, ask: Ask, person: str) -> list[Permit]:
        """R3: every basis for every fact of the person that nothing withholds."""
        mode = self.mode_of_decision(ask, person)
        if mode is None:
            return []
        found = list(self.permits_by_override(ask, person))
        if not self.blocks_against(ask, person):
            found += self.permits_by_grant(ask, person, mode)
        return [permit for permit in found if self.visible(ask, permit)]

    def rank(self, permit: Permit) -> tuple[int, bool, int]:
        """R9a: finest level, then one without `uses`, then the earlier position."""
        return levels_of(permit.fact.kind).index(permit.level), permit.limited, permit.position

    def hidden_persons(self, ask: Ask) -> set[str]:
        """R15: erased is gone, also from the past."""
        return self.erased(len(self.log))

    def sight(self, ask: Ask) -> Sight:
        """R3-R17: all that the recipient may see at (d, t)."""
        sees: dict[str, frozenset[str]] = {}
        because: dict[str, tuple[str, str]] = {}
        precision: dict[str, str] = {}
        registered = self.registration(ask.now.d, ask.recipient)
        if registered is None or ask.purpose not in registered["purposes"]:
            return Sight()
        for person in self.persons(ask.now.d):
            if person in self.hidden_persons(ask):
                continue
            permits = self.permits(ask, person)
            for permit in sorted(permits, key=self.rank, reverse=True):  # the best is written last
                because[permit.fact.id] = permit.basis
                precision[permit.fact.id] = permit.level
            if permits:
                sees[person] = frozenset(permit.fact.id for permit in permits)
        return Sight(sees, because, precision)
