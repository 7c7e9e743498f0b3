"""Who may see what, and why. The one rule; views narrow, intake and disclosure only ask it.

A `Reading` is one question put to the city as it stands: a recipient, a purpose, a moment. For each
person it takes the person's policy and place and says what is open (`decide`), and for each kind which
facts that opens, at which level and on which basis (`visible`). Pure: no clock, no database, no cache
that outlives the reading. Rules: R3–R11, R13, R14, R17.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal, NamedTuple

from hub.areas import Cover
from hub.events import LOCATION, DataFrom, Mode, Position, To
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


class Place(NamedTuple):
    """Where the latest location puts a person: its ten-digit grid square, or None outside the grid, and when."""

    mesh: str | None
    effective_at: datetime


class FactRow(NamedTuple):
    """What the rules need to know of a fact.

    newest: the most recent of its kind, or of its `latest_by` value, for which `variant` stands (R9).
    """

    position: Position
    effective_at: datetime
    newest: bool
    variant: int


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


class Alert:
    """An emergency that is active at the reading's time, with what each of its declarations covers."""

    def __init__(self, emergency: Emergency, city: City) -> None:
        self.id = emergency.id
        self._steps = [(declared, city.cover(declared.areas)) for declared in emergency.declarations]
        self.areas, self.cover = emergency.declarations[-1].areas, self._steps[-1][1]

    def start(self, codes: Iterable[str]) -> datetime | None:
        """When it began for these codes: the first declaration of the run that is under way (R10). None: not covered."""
        codes = tuple(codes)
        start: datetime | None = None
        before: Declaration | None = None
        for declared, covered in self._steps:
            unbroken = before is not None and not before.lifted and declared.recorded_at < before.until
            if not _covers(covered, codes):
                start = None
            elif start is None or not unbroken:
                start = declared.recorded_at
            before = declared
        return start


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
    if place is None or place.mesh is None:
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

    @property
    def refusal(self) -> str | None:
        """Why nothing can be open to this reading, whoever it asks about; None where something could."""
        if self.ask.recipient not in self.city.recipients:
            return f"{self.ask.recipient} is not registered (R6)"
        if self.reader is None:
            return f"{self.ask.recipient} is retired (R6)"
        if self.ask.purpose not in self.reader.purposes:
            return f"{self.ask.recipient} is not registered for the purpose {self.ask.purpose} (R7)"
        return None

    @property
    def needs_places(self) -> bool:
        """Whether where people are can matter: a location's area counts only in an emergency or an exercise (R6, R10)."""
        return bool(self.real or self.drills)

    @cached_property
    def overrides(self) -> list[Override]:
        """The overrides that are open to this reading, whoever it asks about (R14)."""
        reader, time = self.reader, self.now.time
        if reader is None or self.ask.exercise or self.refusal:
            return []
        return [
            override
            for override in self.city.overrides.values()
            if override.recipient == reader.id
            and override.basis in reader.overrides
            and self.ask.purpose in override.purposes
            and time < override.until
        ]

    def kinds(self) -> list[str]:
        """The introduced kinds that are asked for, by name."""
        asked = self.ask.kinds or ("*",)
        return sorted(kind for kind in self.city.kinds if matches(kind, asked))

    def decide(self, policy: Policy, place: Place | None, spent: Callable[[Grant], int]) -> Decision | None:
        """What is open of one person; None where nothing is (R3).

        place: the person's latest location, needed only where `needs_places`. spent: how many
        disclosures have consumed a grant (R19).
        """
        reader = self.reader
        if reader is None or policy.erased or self.refusal:
            return None
        area = place_area(place, self.now.time, self.real)
        codes = policy.areas if area is None else (*policy.areas, area)
        if self.ask.exercise and not any(_covers(alert.cover, codes) for alert in self.drills):
            return None
        mode = self._mode(codes)
        since = self._emergency_since(codes)
        blocks = self._blocks(policy, reader)
        # the location's area counts for a class only in an emergency (R6)
        homes = codes if mode == "emergency" else policy.areas
        openings = [] if blocks else self._grants(policy, reader, homes, mode, since, spent)
        for override in self.overrides:
            if self._override_reaches(override, policy, codes, mode) and self._passes(override, policy, blocks):
                openings.append(_override_opening(override))
        openings.sort(key=lambda opening: (opening.basis.limited, opening.basis.position))
        return Decision(mode=mode, openings=tuple(openings)) if openings else None

    def _mode(self, codes: tuple[str, ...]) -> Mode:
        if self.ask.exercise:
            return "exercise"
        return "emergency" if any(_covers(alert.cover, codes) for alert in self.real) else "normal"

    def _emergency_since(self, codes: tuple[str, ...]) -> datetime | None:
        """The earliest start of the emergencies (the exercises, for a drill) that cover the person."""
        running = self.drills if self.ask.exercise else self.real
        starts = [start for alert in running if (start := alert.start(codes)) is not None]
        return min(starts, default=None)

    def _blocks(self, policy: Policy, reader: Recipient) -> list[tuple[bool, bool]]:
        """The blocks that stand against the reader (R13): by the person themself?, protective?"""
        found = []
        for to, block in policy.blocks.items():
            had = to.relation is not None and (reader.id, to.relation) in policy.relations_ever
            if to.recipient == reader.id or to.class_ in reader.classes_ever or had:
                found.append((block.by == policy.person, block.protective))
        return found

    def _passes(self, override: Override, policy: Policy, blocks: list[tuple[bool, bool]]) -> bool:
        """Whether an override goes past the blocks (R13)."""
        if override.basis == "life_protection":
            return not any(own or protective for own, protective in blocks)
        listed = policy.listed_as in override.persons
        return listed or not any(protective for _, protective in blocks)

    def _override_reaches(self, override: Override, policy: Policy, codes: tuple[str, ...], mode: Mode) -> bool:
        """Whether the override is meant for this person (R14), kinds aside."""
        listed = policy.listed_as in override.persons
        if override.basis == "life_protection":
            return listed
        if not policy.on_roster:
            return False
        if not listed and not self._in_areas(override, codes):
            return False
        return mode == "emergency" or (listed and self._emergency_near)

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
        return any(
            _covers(alert.cover, own) or _covers(self._reader_cover, alert.areas) for alert in self.real
        )

    def _grants(
        self,
        policy: Policy,
        reader: Recipient,
        homes: tuple[str, ...],
        mode: Mode,
        since: datetime | None,
        spent: Callable[[Grant], int],
    ) -> list[Opening]:
        def reaches(grant: Grant) -> bool:
            """R4–R7 and R16, and that the grant which this one approves reaches too (R8)."""
            if mode not in grant.modes or self.ask.purpose not in grant.purposes or grant.by == reader.id:
                return False
            if not self._in_force(grant, policy, spent) or not self._to(grant.to, policy, reader, homes):
                return False
            approved = policy.grants.get(grant.approves) if grant.approves else None
            return grant.approves is None or (approved is not None and reaches(approved))

        openings = []
        for grant in policy.grants.values():
            if grant.ask == "every_time" or not reaches(grant):
                continue
            opening = self._opening(grant, policy, since)
            if opening is not None:
                openings.append(opening)
        return openings

    def _in_force(self, grant: Grant, policy: Policy, spent: Callable[[Grant], int]) -> bool:
        """R4 and R19 for one grant alone."""
        time = self.now.time
        if time < grant.start or (grant.until is not None and time >= grant.until):
            return False
        if grant.by is not None and not policy.delegated(grant.by, time):
            return False
        return grant.uses is None or spent(grant) < grant.uses

    def _to(self, to: To, policy: Policy, reader: Recipient, homes: tuple[str, ...]) -> bool:
        if to.recipient is not None:
            return to.recipient == reader.id
        if to.relation is not None:
            return (reader.id, to.relation) in policy.relations
        if to.class_ != reader.class_:
            return False
        return self._reader_everywhere or _covers(self._reader_cover, homes)

    def _opening(self, grant: Grant, policy: Policy, since: datetime | None) -> Opening | None:
        """The grant as an opening; None where its data window reaches nothing now (R9)."""
        window, start, latest = grant.window, None, False
        match window:
            case DataFrom(from_=begin):
                start = begin
            case "since_grant":
                start = grant.start
            case "since_emergency":
                if since is None:
                    return None
                start = since - BEFORE_EMERGENCY
            case "latest":
                latest = True
        chain = [grant]
        while chain[-1].approves is not None:
            chain.append(policy.grants[chain[-1].approves])
        return Opening(
            basis=Basis("grant", grant.id, grant.position, grant.uses is not None),
            kinds=tuple(chain),
            precision=grant.precision,
            since=start,
            latest=latest,
        )

    def permits(self, decision: Decision, kind: str) -> list[tuple[str, Opening]]:
        """The openings that cover `kind`, each with its level: finest first, then unlimited, then earlier (R9a)."""
        levels = levels_of(kind)
        found = []
        for opening in decision.openings:
            if all(self._covers_kind(terms, kind) for terms in opening.kinds):
                found.append((levels.index(level(kind, opening.precision)), opening))
        found.sort(key=lambda pair: pair[0])
        return [(levels[allowed], opening) for allowed, opening in found]

    def _covers_kind(self, terms: Grant | Override, kind: str) -> bool:
        if isinstance(terms, Override):
            roster_kind = terms.basis != "roster" or self.city.kinds[kind].roster
            return roster_kind and matches(kind, terms.kinds)
        if kind in terms.kinds:
            return True
        if terms.ask == "each_new_kind" and self.city.kinds[kind].position > terms.position:
            return False
        return matches(kind, terms.kinds)

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
        permits = self.permits(decision, kind)
        if not permits:
            return []
        ttl_s = self.city.kinds[kind].ttl_s
        alive = None if ttl_s is None else self.now.time - timedelta(seconds=ttl_s)
        shown = []
        for fact in facts:
            if alive is not None and fact.effective_at <= alive:
                continue
            for allowed, opening in permits:
                if _reaches(opening, fact) and (
                    kind != LOCATION or allowed == "exact" or in_grid(fact.position)
                ):
                    shown.append(Permit(fact, allowed, opening.basis))
                    break
        return shown


def _reaches(opening: Opening, fact: FactRow) -> bool:
    """Whether the opening's data window holds the fact (R9)."""
    if opening.latest:
        return fact.newest
    return opening.since is None or fact.effective_at >= opening.since


def _override_opening(override: Override) -> Opening:
    """An override reaches the latest facts at the finest precision (R14)."""
    return Opening(
        basis=Basis("override", override.id, override.position, False),
        kinds=(override,),
        precision={},
        since=None,
        latest=True,
    )
