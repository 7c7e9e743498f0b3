"""Who may see what, and why. The one rule; views narrow, intake and disclosure only ask it.

A `Reading` is one question put to the city as it stands: a recipient, a purpose, a moment. For each
person it takes the person's policy and place and says what is open (`decide`), and for each kind which
facts that opens, at which level and on which basis (`visible`). Pure: no clock, no database, no cache
that outlives the reading. Rules: R3–R11, R13, R14, R17.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal, NamedTuple

from hub.areas import Cover
from hub.events import LOCATION, DataFrom, Mode, Position, To
from hub.obstacles import (
    APPROVED_ENDED,
    BLOCKED,
    ENDED,
    ERASED,
    EVERY_TIME,
    EXPIRED,
    LOST_PLACE,
    NEWER_KIND,
    NO_DELEGATION,
    NO_DRILL,
    NO_EMERGENCY,
    NO_PURPOSE,
    NO_RELATION,
    NO_ROSTER_EMERGENCY,
    NO_ROSTER_KIND,
    NOT_BEGUN,
    NOT_LATEST,
    NOT_LISTED,
    NOT_MEANT,
    NOT_ON_ROSTER,
    OFF_GRID,
    OTHER_AREA,
    OTHER_CLASS,
    OTHER_KIND,
    OVER,
    OVERRIDE_OVER,
    RETIRED,
    SELF_SERVED,
    SPENT,
    TOO_EARLY,
    UNREGISTERED,
    WRONG_MODE,
    WRONG_PURPOSE,
    Obstacle,
)
from hub.policy import City, Declaration, Emergency, Grant, Override, Policy, Recipient

LOCATION_LEVELS = ("exact", "250m", "1km", "10km")
LEVELS = ("full", "summary")
_FINEST = ("exact", "full")

PLACE_HOLDS = timedelta(hours=24)
BEFORE_EMERGENCY = timedelta(hours=6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Where a decision is taken: the last position that exists, and the hub's time (R1)."""

    position: Position
    time: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """What a recipient asks. kinds: names and patterns; empty means every kind."""

    recipient: str
    purpose: str
    exercise: bool = False
    kinds: tuple[str, ...] = ()


LOST = -1
"""The `variant` of a fact whose payload was destroyed when its retention ended: any value it may have had."""

LOST_MESH = ""
"""The grid square of a location that was destroyed: inside the grid, for all that is known."""


class Place(NamedTuple):
    """Where the latest location puts a person: its ten-digit grid square, or None outside the grid, and when.

    Of a location that was destroyed: `LOST_MESH`, and the latest that it can have been.
    """

    mesh: str | None
    effective_at: datetime


class FactRow(NamedTuple):
    """What the rules need to know of a fact.

    newest: the most recent of its kind, or of its `latest_by` value, for which `variant` stands (R9). ends_at: the
    end that it carries itself (R11).
    """

    position: Position
    effective_at: datetime
    newest: bool
    variant: int
    ends_at: datetime | None = None


class Basis(NamedTuple):
    """On what ground a fact is shown."""

    type: Literal["grant", "override"]
    id: str
    position: Position
    limited: bool


class Permit(NamedTuple):
    """Allowed: this fact, at this level, on this basis."""

    fact: FactRow
    level: str
    basis: Basis


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """A grant or override that is open to this reading for one person, whatever the kind.

    kinds: all that must cover a kind: the grant, and the ones that it approves (R8).
    """

    basis: Basis
    kinds: tuple[Grant | Override, ...]
    precision: Mapping[str, str]
    since: datetime | None
    latest: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a reading may see of one person: the person's mode for it, and all that is open."""

    mode: Mode
    openings: tuple[Opening, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One person before one reading: what all grants and overrides are judged by.

    codes: the person's areas, the location's among them while it counts; homes: those that count for a
    class (R6). since: the earliest start of the emergencies that cover the person. blocks: those that
    stand against the reader, as (set by the person?, protective?).
    """

    policy: Policy
    reader: Recipient
    mode: Mode
    codes: tuple[str, ...]
    homes: tuple[str, ...]
    since: datetime | None
    blocks: tuple[tuple[bool, bool], ...]
    spent: Callable[[Grant], int]


class Alert:
    """An emergency that is active at the reading's time, with what each of its declarations covers."""

    def __init__(self, emergency: Emergency, city: City) -> None:
        self.id = emergency.id
        self._steps = [(declared, city.cover(declared.areas)) for declared in emergency.declarations]
        self.areas, self.cover = emergency.declarations[-1].areas, self._steps[-1][1]
        self._reaches_back = reaches_back(emergency)

    def may_count(self, effective_at: datetime) -> bool:
        """Whether a location of then may place someone in it, wherever it was (R10)."""
        return effective_at > self._reaches_back

    def start(self, codes: Iterable[str]) -> datetime | None:
        """When it began for these codes: the first declaration of the run under way (R10). None: not covered."""
        codes = tuple(codes)
        start: datetime | None = None
        before: Declaration | None = None
        for declared, covered in self._steps:
            unbroken = before is not None and before.continued_by(declared)
            if not _covers(covered, codes):
                start = None
            elif start is None or not unbroken:
                start = declared.recorded_at
            before = declared
        return start


def reaches_back(emergency: Emergency) -> datetime:
    """Locations of then or before place nobody in an emergency that is active, wherever it is (R10)."""
    start, before = emergency.declarations[0].recorded_at, emergency.declarations[0]
    for declared in emergency.declarations[1:]:
        if not before.continued_by(declared):
            start = declared.recorded_at
        before = declared
    return start - PLACE_HOLDS


def _covers(cover: Cover, codes: Iterable[str]) -> bool:
    return any(map(cover.covers, codes))


def alerts(city: City, time: datetime, *, exercise: bool) -> list[Alert]:
    """The emergencies (or the exercises) that are active at `time`."""
    return [
        Alert(emergency, city)
        for emergency in city.emergencies.values()
        if emergency.exercise is exercise and emergency.active(time)
    ]


def place_area(place: Place | None, time: datetime, real: Iterable[Alert]) -> str | None:
    """The location's area, while it counts: a day, or as long as the emergency that found the person there (R10)."""
    if place is None or place.mesh is None or place.mesh == LOST_MESH:
        return None
    code = "m" + place.mesh
    if place.effective_at > time - PLACE_HOLDS:
        return code
    starts = (alert.start((code,)) for alert in real)
    return code if any(s is not None and place.effective_at > s - PLACE_HOLDS for s in starts) else None


def mode_of(policy: Policy, city: City, place: Place | None, time: datetime) -> Mode:
    """The person's mode outside exercises (R10)."""
    real = alerts(city, time, exercise=False)
    area = place_area(place, time, real)
    codes = policy.areas if area is None else (*policy.areas, area)
    return "emergency" if any(_covers(alert.cover, codes) for alert in real) else "normal"


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a kind's name is among names and patterns (R8)."""
    return any(_matches(name, pattern) for pattern in patterns)


def _matches(name: str, pattern: str) -> bool:
    return pattern in ("*", name) or (pattern.endswith(".*") and name.startswith(pattern[:-1]))


def level(kind: str, precision: Mapping[str, str]) -> str:
    """The finest level that `precision` allows for `kind`: an exact name, then the longest pattern, then all (R9a)."""
    levels = levels_of(kind)
    said = precision.get(kind)
    if said is None:
        patterns = [pattern for pattern in precision if _matches(kind, pattern)]
        if not patterns:
            return levels[0]
        said = precision[max(patterns, key=len)]
    if said in _FINEST:
        return levels[0]
    return said if said in levels else levels[-1]


def levels_of(kind: str) -> tuple[str, ...]:
    """The levels of a kind, finest first."""
    return LOCATION_LEVELS if kind == LOCATION else LEVELS


class Reading:
    """One question to the city as it stands: what may `ask.recipient` see for `ask.purpose` now?"""

    def __init__(self, city: City, ask: Ask, now: Moment) -> None:
        self.city, self.ask, self.now = city, ask, now
        found = city.recipients.get(ask.recipient)
        self.reader: Recipient | None = None if found is None or found.retired else found
        self.real = alerts(city, now.time, exercise=False)
        self.drills = alerts(city, now.time, exercise=True) if ask.exercise else []
        self._open_kinds: dict[tuple[tuple[str, ...], ...], list[str]] = {}

    @cached_property
    def refusal(self) -> Obstacle | None:
        """Why nothing can be open to this reading, whoever it asks about; None where something could."""
        if self.ask.recipient not in self.city.recipients:
            return UNREGISTERED
        if self.reader is None:
            return RETIRED
        return None if self.ask.purpose in self.reader.purposes else NO_PURPOSE

    @property
    def needs_places(self) -> bool:
        """Whether where people are can matter: a location's area counts only in an emergency or a drill (R6, R10)."""
        return bool(self.real or self.drills)

    @cached_property
    def overrides(self) -> list[Override]:
        """The overrides that are open to this reading, whoever it asks about (R14)."""
        return [override for override in self.city.overrides.values() if self._override_open(override)]

    def _override_open(self, override: Override) -> bool:
        reader = self.reader
        return (
            reader is not None
            and not self.ask.exercise
            and self.refusal is None
            and override.recipient == reader.id
            and override.basis in reader.overrides
            and self.ask.purpose in override.purposes
            and self.now.time < override.until
        )

    def kinds(self) -> list[str]:
        """The introduced kinds that are asked for, by name."""
        asked = self.ask.kinds or ("*",)
        return sorted(kind for kind in self.city.kinds if matches(kind, asked))

    def case(self, policy: Policy, place: Place | None, spent: Callable[[Grant], int]) -> Case | Obstacle:
        """What grants and overrides are judged by for one person; the obstacle where nothing can be open at all.

        place: the person's latest location, needed only where `needs_places`. spent: how many disclosures
        have consumed a grant (R19).
        """
        if self.reader is None or self.refusal is not None:
            return self.refusal or RETIRED
        if policy.erased:
            return ERASED
        area = place_area(place, self.now.time, self.real)
        codes = policy.areas if area is None else (*policy.areas, area)
        if self.ask.exercise and not any(_covers(alert.cover, codes) for alert in self.drills):
            return NO_DRILL
        mode = self._mode(codes)
        if mode == "normal" and self.misses(place):
            return LOST_PLACE
        return Case(
            policy=policy,
            reader=self.reader,
            mode=mode,
            codes=codes,
            # the location's area counts for a class only in an emergency (R6)
            homes=codes if mode == "emergency" else policy.areas,
            since=self._emergency_since(codes),
            blocks=self._blocks(policy, self.reader),
            spent=spent,
        )

    def decide(self, policy: Policy, place: Place | None, spent: Callable[[Grant], int]) -> Decision | None:
        """What is open of one person; None where nothing is (R3). The arguments are those of `case`."""
        case = self.case(policy, place, spent)
        if isinstance(case, Obstacle):
            return None
        openings = []
        for grant in () if case.blocks else policy.grants.values():
            if self.grant_obstacle(case, grant) is None:
                openings.append(self.grant_opening(case, grant))
        for override in self.overrides:
            if self.override_obstacle(case, override) is None:
                openings.append(override_opening(override))
        if not openings:
            return None
        openings.sort(key=lambda opening: (opening.basis.limited, opening.basis.position))
        return Decision(mode=case.mode, openings=tuple(openings))

    def misses(self, place: Place | None) -> bool:
        """Whether a location that was destroyed since may have placed the person in an emergency (R10).

        Only in a decision about the past: `hub retain` keeps what one about now may need.
        """
        lost = place is not None and place.mesh == LOST_MESH
        return lost and any(alert.may_count(place.effective_at) for alert in self.real)  # type: ignore[union-attr]

    def _mode(self, codes: tuple[str, ...]) -> Mode:
        if self.ask.exercise:
            return "exercise"
        return "emergency" if any(_covers(alert.cover, codes) for alert in self.real) else "normal"

    def _emergency_since(self, codes: tuple[str, ...]) -> datetime | None:
        """The earliest start of the emergencies (the exercises, for a drill) that cover the person."""
        running = self.drills if self.ask.exercise else self.real
        starts = [start for alert in running if (start := alert.start(codes)) is not None]
        return min(starts, default=None)

    def _blocks(self, policy: Policy, reader: Recipient) -> tuple[tuple[bool, bool], ...]:
        """The blocks that stand against the reader (R13)."""
        found = []
        for to, block in policy.blocks.items():
            had = to.relation is not None and (reader.id, to.relation) in policy.relations_ever
            if to.recipient == reader.id or to.class_ in reader.classes_ever or had:
                found.append((block.by == policy.person, block.protective))
        return tuple(found)

    def override_obstacle(self, case: Case, override: Override) -> Obstacle | None:
        """Why an override opens nothing of the person, kinds aside (R13, R14); None where it does."""
        if not self._override_open(override):
            return OVERRIDE_OVER
        listed = case.policy.listed_as in override.persons
        if override.basis == "life_protection":
            if not listed:
                return NOT_LISTED
            return BLOCKED if any(own or protective for own, protective in case.blocks) else None
        if not case.policy.on_roster:
            return NOT_ON_ROSTER
        if not listed and not self._in_areas(override, case.codes):
            return NOT_LISTED
        if case.mode != "emergency" and not (listed and self._emergency_near):
            return NO_ROSTER_EMERGENCY
        return BLOCKED if not listed and any(protective for _, protective in case.blocks) else None

    def _in_areas(self, override: Override, codes: tuple[str, ...]) -> bool:
        covered, own = self.city.cover(override.areas), self._reader_cover
        anywhere = self._reader_everywhere
        return any(covered.covers(code) and (anywhere or own.covers(code)) for code in codes)

    @cached_property
    def _reader_everywhere(self) -> bool:
        return self.reader is not None and "*" in self.reader.areas

    @cached_property
    def _reader_cover(self) -> Cover:
        areas = self.reader.areas if self.reader else ()
        return self.city.cover(tuple(code for code in areas if code != "*"))

    @cached_property
    def _emergency_near(self) -> bool:
        """Whether an active emergency covers, or is covered by, a code of the reader's areas (R14)."""
        own = [code for code in (self.reader.areas if self.reader else ()) if code != "*"]
        return any(_covers(alert.cover, own) or _covers(self._reader_cover, alert.areas) for alert in self.real)

    def grant_obstacle(self, case: Case, grant: Grant) -> Obstacle | None:
        """Why a grant opens nothing of the person, kinds and blocks aside (R4–R9, R16, R19); None where it does."""
        if grant.ask == "every_time":
            return EVERY_TIME
        if grant.by == case.reader.id:
            return SELF_SERVED
        if grant.window == "since_emergency" and case.since is None:
            return NO_EMERGENCY
        return self.reach_obstacle(case, grant)

    def reach_obstacle(self, case: Case, grant: Grant) -> Obstacle | None:
        """R4–R7, R16 and R19 for the grant, and for the one that it approves (R8)."""
        if case.mode not in grant.modes:
            return WRONG_MODE
        if self.ask.purpose not in grant.purposes:
            return WRONG_PURPOSE
        obstacle = self._force_obstacle(case, grant) or self._to_obstacle(case, grant.to)
        if obstacle is not None or grant.approves is None:
            return obstacle
        approved = case.policy.grants.get(grant.approves)
        return APPROVED_ENDED if approved is None or self.reach_obstacle(case, approved) else None

    def _force_obstacle(self, case: Case, grant: Grant) -> Obstacle | None:
        """R4, R16 and R19 for one grant alone."""
        time = self.now.time
        if time < grant.start:
            return NOT_BEGUN
        if grant.until is not None and time >= grant.until:
            return OVER
        if grant.by is not None and not case.policy.delegated(grant.by, time):
            return NO_DELEGATION
        return SPENT if grant.uses is not None and case.spent(grant) >= grant.uses else None

    def _to_obstacle(self, case: Case, to: To) -> Obstacle | None:
        if to.recipient is not None:
            return None if to.recipient == case.reader.id else NOT_MEANT
        if to.relation is not None:
            return None if (case.reader.id, to.relation) in case.policy.relations else NO_RELATION
        if to.class_ != case.reader.class_:
            return OTHER_CLASS
        return None if self._reader_everywhere or _covers(self._reader_cover, case.homes) else OTHER_AREA

    def grant_opening(self, case: Case, grant: Grant) -> Opening:
        """A grant that opens something, with where its data window begins (R9)."""
        window, start = grant.window, None
        if isinstance(window, DataFrom):
            start = window.from_
        elif window == "since_grant":
            start = grant.start
        elif window == "since_emergency" and case.since is not None:
            start = case.since - BEFORE_EMERGENCY
        chain = [grant]
        while (approves := chain[-1].approves) is not None:
            chain.append(case.policy.grants[approves])
        return Opening(
            basis=Basis("grant", grant.id, grant.position, grant.uses is not None),
            kinds=tuple(chain),
            precision=grant.precision,
            since=start,
            latest=window == "latest",
        )

    def open_kinds(self, decision: Decision) -> list[str]:
        """The kinds asked for that an opening names: those that `permits` is worth asking about."""
        named = tuple(opening.kinds[0].kinds for opening in decision.openings)
        if named not in self._open_kinds:
            self._open_kinds[named] = [kind for kind in self.kinds() if any(matches(kind, names) for names in named)]
        return self._open_kinds[named]

    def permits(self, decision: Decision, kind: str) -> list[tuple[str, Opening]]:
        """The openings that cover `kind`, each with its level: finest first, then unlimited, then earlier (R9a)."""
        return self.permits_of(decision.openings, kind)

    def permits_of(self, openings: Iterable[Opening], kind: str) -> list[tuple[str, Opening]]:
        """As `permits`, of openings in the order of `Decision`."""
        levels = levels_of(kind)
        found = [
            (levels.index(level(kind, opening.precision)), opening)
            for opening in openings
            if self.kind_obstacle(opening, kind) is None
        ]
        found.sort(key=lambda pair: pair[0])
        return [(levels[allowed], opening) for allowed, opening in found]

    def kind_obstacle(self, opening: Opening, kind: str) -> Obstacle | None:
        """Why an opening does not cover a kind (R8, R14); None where it does."""
        for terms in opening.kinds:
            if not matches(kind, terms.kinds):
                return OTHER_KIND
            if isinstance(terms, Override):
                if terms.basis == "roster" and not self.city.kinds[kind].roster:
                    return NO_ROSTER_KIND
            elif (
                terms.ask == "each_new_kind"
                and kind not in terms.kinds
                and self.city.kinds[kind].position > terms.position
            ):
                return NEWER_KIND
        return None

    def visible(
        self,
        decision: Decision,
        kind: str,
        facts: Iterable[FactRow],
        in_grid: Callable[[Position], bool],
    ) -> list[Permit]:
        """Which of `facts` are shown, each on the first basis that reaches it; in the order given.

        facts: of one person and kind, of the reading's exercise flag, retracted ones left out.
        in_grid: whether a location has a grid square; asked only where the level is not exact (R10).
        """
        return self.shown(self.permits(decision, kind), kind, facts, in_grid)

    def shown(
        self,
        permits: Sequence[tuple[str, Opening]],
        kind: str,
        facts: Iterable[FactRow],
        in_grid: Callable[[Position], bool],
    ) -> list[Permit]:
        """As `visible`, of the openings that `permits` gave."""
        shown = []
        for fact in facts:
            for allowed, opening in permits:
                if self.fact_obstacle(opening, kind, allowed, fact, in_grid) is None:
                    shown.append(Permit(fact, allowed, opening.basis))
                    break
        return shown

    def fact_obstacle(
        self,
        opening: Opening,
        kind: str,
        allowed: str,
        fact: FactRow,
        in_grid: Callable[[Position], bool],
    ) -> Obstacle | None:
        """Why an opening that covers the kind does not show the fact (R9–R11); None where it does."""
        if fact.ends_at is not None and self.now.time >= fact.ends_at:
            return ENDED
        ttl_s = self.city.kinds[kind].ttl_s
        if ttl_s is not None and self.now.time - fact.effective_at >= timedelta(seconds=ttl_s):
            return EXPIRED
        if opening.latest and not fact.newest:
            return NOT_LATEST
        if opening.since is not None and fact.effective_at < opening.since:
            return TOO_EARLY
        if kind == LOCATION and allowed != LOCATION_LEVELS[0] and not in_grid(fact.position):
            return OFF_GRID
        return None

    def current(self, facts: Sequence[FactRow]) -> Sequence[FactRow]:
        """`facts` without those behind one that has ended by itself: it keeps its place, as for `"latest"` (R9).

        A time to live needs no such care: what is older is over as well.
        """
        time = self.now.time
        over = {f.variant for f in facts if f.newest and f.ends_at is not None and time >= f.ends_at}
        return [fact for fact in facts if fact.variant not in over] if over else facts


def override_opening(override: Override) -> Opening:
    """An override reaches the latest facts at the finest precision (R14)."""
    return Opening(
        basis=Basis("override", override.id, override.position, False),
        kinds=(override,),
        precision={},
        since=None,
        latest=True,
    )
