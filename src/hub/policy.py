"""What the control events of the log come to: a person's policy and the city's, folded entry by entry.

Both are values: `apply` returns a new one, and equal entries give equal policies. `rules` decides on
them, `intake` checks new control events against them. Nothing here reads a clock or a database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar, assert_never

from hub.areas import Cover, cover
from hub.events import (
    AreaIntroduced,
    Ask,
    BlockAdded,
    BlockRemoved,
    CityControl,
    ConsentDeclined,
    ConsentGranted,
    ConsentRequested,
    ConsentRevoked,
    DataFrom,
    DelegationAdded,
    DelegationEnded,
    EmergencyDeclared,
    EmergencyLifted,
    EmergencyProposed,
    EmergencyRejected,
    FactRetracted,
    IdentityLinked,
    IdentityUnlinked,
    KindIntroduced,
    Mode,
    OverrideBasis,
    OverrideClosed,
    OverrideOpened,
    PersonControl,
    PersonEnrolled,
    PersonErased,
    PersonMoved,
    Position,
    PreferencesChanged,
    RecipientRegistered,
    RecipientRetired,
    RelationAdded,
    RelationEnded,
    RosterListed,
    RosterRemoved,
    To,
)

K = TypeVar("K")
V = TypeVar("V")

ALL = "all"
"""The word that a revocation says for every grant; no grant may be called so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """One opt-in as it was recorded. `start` is where R4 lets it begin; `by` is None where the person made it."""

    id: str
    position: Position
    by: str | None
    to: To
    kinds: tuple[str, ...]
    purposes: tuple[str, ...]
    modes: tuple[Mode, ...]
    window: str | DataFrom
    precision: Mapping[str, str]
    start: datetime
    until: datetime | None
    uses: int | None
    ask: Ask
    approves: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A block in place: who set it (the person's own id or a delegate's), and whether it is protective (支援措置)."""

    by: str
    protective: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What holds of one person at a position.

    listed_as: the name under which lists of persons outside the person's own events hold them.
    grants: those not revoked. every_time: ids of all grants ever made with that `ask` (R8).
    delegations: until when, by delegate; None is without end. relations: (recipient, role).
    """

    person: str
    listed_as: str
    areas: tuple[str, ...] = ()
    grants: Mapping[str, Grant] = field(default_factory=dict)
    every_time: frozenset[str] = frozenset()
    blocks: Mapping[To, Block] = field(default_factory=dict)
    delegations: Mapping[str, datetime | None] = field(default_factory=dict)
    relations: frozenset[tuple[str, str]] = frozenset()
    relations_ever: frozenset[tuple[str, str]] = frozenset()
    on_roster: bool = False
    erased: bool = False

    def delegated(self, delegate: str, time: datetime) -> bool:
        """Whether `delegate` may act for the person at `time` (R16)."""
        if delegate not in self.delegations:
            return False
        until = self.delegations[delegate]
        return until is None or time < until

    def apply(self, event: PersonControl, position: Position, recorded_at: datetime) -> Policy:
        """The policy after `event`, which took `position` at `recorded_at`."""
        match event:
            case PersonEnrolled() | PersonMoved():
                return replace(self, areas=event.areas)
            case PersonErased():
                return Policy(person=self.person, listed_as=self.listed_as, erased=True)
            case RelationAdded():
                pair = (event.recipient, event.role)
                return replace(self, relations=self.relations | {pair}, relations_ever=self.relations_ever | {pair})
            case RelationEnded():
                return replace(self, relations=self.relations - {(event.recipient, event.role)})
            case DelegationAdded():
                return replace(self, delegations={**self.delegations, event.delegate: event.until})
            case DelegationEnded():
                return replace(self, delegations=_without(self.delegations, event.delegate))
            case RosterListed() | RosterRemoved():
                return replace(self, on_roster=isinstance(event, RosterListed))
            case ConsentGranted():
                grant = _grant(event, position, recorded_at)
                asked = {grant.id} if grant.ask == "every_time" else set()
                return replace(self, grants={**self.grants, grant.id: grant}, every_time=self.every_time | asked)
            case ConsentRevoked():
                return replace(self, grants={} if event.grant == ALL else _without(self.grants, event.grant))
            case BlockAdded():
                block = Block(by=event.by or event.person, protective=event.protective)
                return replace(self, blocks={**self.blocks, event.to: block})
            case BlockRemoved():
                return replace(self, blocks=_without(self.blocks, event.to))
            case IdentityLinked() | IdentityUnlinked() | FactRetracted():
                return self
            case ConsentRequested() | ConsentDeclined() | PreferencesChanged():
                return self
        assert_never(event)

    def without_delegate(self, delegate: str) -> Policy:
        """The policy once `delegate` was erased: no delegation to that id is active again (R15)."""
        return replace(self, delegations=_without(self.delegations, delegate))


def _without(mapping: Mapping[K, V], key: K) -> Mapping[K, V]:
    return {k: v for k, v in mapping.items() if k != key}


def _grant(event: ConsentGranted, position: Position, recorded_at: datetime) -> Grant:
    return Grant(
        id=event.grant,
        position=position,
        by=None if event.by in (None, event.person) else event.by,
        to=event.to,
        kinds=event.kinds,
        purposes=event.purposes,
        modes=event.modes,
        window=event.data or ("since_grant" if "normal" in event.modes else "latest"),
        precision=event.precision or {},
        start=max(event.valid_from or recorded_at, recorded_at),
        until=event.valid_until,
        uses=event.uses,
        ask=event.ask,
        approves=event.approves,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class KindTerms:
    """What was said when a kind was introduced. schema, schema_sha256: the version of then, and its file's hash."""

    position: Position
    introduced_at: datetime
    ttl_s: int | None
    latest_by: tuple[str, ...]
    roster: bool
    schema: str | None = None
    schema_sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipient:
    """A registration as it stands. `classes_ever`: every class that the recipient was registered with (R13)."""

    id: str
    class_: str
    areas: tuple[str, ...]
    purposes: tuple[str, ...]
    overrides: tuple[OverrideBasis, ...]
    classes_ever: frozenset[str]
    retired: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """One declaration of an emergency; `lifted_at` where a lifting followed it before the next one.

    by: who declared or proposed it; None for the hub itself. hazard, exercise: as it says itself. alone: whether one
    officer did. mistaken: whether it was undone.
    """

    areas: tuple[str, ...]
    recorded_at: datetime
    until: datetime
    lifted_at: datetime | None = None
    by: str | None = None
    alone: bool = False
    mistaken: bool = False
    hazard: str = ""
    exercise: bool = False

    @property
    def token(self) -> str:
        """What stands for a proposal as it was shown to who confirms it."""
        parts = (*self.areas, self.until.isoformat(), self.recorded_at.isoformat(), self.hazard, str(self.exercise))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def continued_by(self, following: Declaration) -> bool:
        """Whether `following`, the next declaration of the same id, goes on with the same run (R10)."""
        return self.lifted_at is None and following.recorded_at < self.until


@dataclass(frozen=True, kw_only=True, slots=True)
class Emergency:
    """All declarations of one id, in order; empty while it was only proposed.

    proposed: what waits for an officer. withdrawn: a proposal that was rejected or closed before anything was declared.
    """

    id: str
    hazard: str
    exercise: bool
    declarations: tuple[Declaration, ...] = ()
    proposed: Declaration | None = None
    withdrawn: Declaration | None = None

    def active(self, time: datetime) -> bool:
        """Whether the latest declaration still holds at `time` (R10)."""
        last = self.declarations[-1] if self.declarations else None
        return last is not None and last.lifted_at is None and time < last.until


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """A break-glass reading, as it was opened (R14)."""

    id: str
    position: Position
    recipient: str
    basis: OverrideBasis
    persons: frozenset[str]
    areas: tuple[str, ...]
    kinds: tuple[str, ...]
    purposes: tuple[str, ...]
    until: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class City:
    """What holds for everyone at a position: kinds, areas, recipients, emergencies, overrides that are open."""

    kinds: Mapping[str, KindTerms] = field(default_factory=dict)
    contains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipients: Mapping[str, Recipient] = field(default_factory=dict)
    emergencies: Mapping[str, Emergency] = field(default_factory=dict)
    overrides: Mapping[str, Override] = field(default_factory=dict)
    _covers: dict[tuple[str, ...], Cover] = field(default_factory=dict, compare=False, repr=False)

    def cover(self, areas: tuple[str, ...]) -> Cover:
        """What `areas` cover, introduced areas included (R10)."""
        if areas not in self._covers:
            self._covers[areas] = cover(areas, self.contains)
        return self._covers[areas]

    def apply(self, event: CityControl, position: Position, recorded_at: datetime) -> City:
        """The city after `event`, which took `position` at `recorded_at`."""
        match event:
            case KindIntroduced():
                terms = KindTerms(
                    position=position,
                    introduced_at=recorded_at,
                    ttl_s=event.ttl_s,
                    latest_by=event.latest_by,
                    roster=event.roster,
                    schema=event.schema,
                    schema_sha256=event.schema_sha256,
                )
                return self._with(kinds={**self.kinds, event.kind: terms})
            case AreaIntroduced():
                contains = {**self.contains, event.area: event.contains}
                return replace(self, contains=contains, _covers={})
            case RecipientRegistered():
                return self._with(recipients={**self.recipients, event.recipient: self._registered(event)})
            case RecipientRetired():
                if event.recipient not in self.recipients:
                    return self
                retired = replace(self.recipients[event.recipient], retired=True)
                return self._with(recipients={**self.recipients, event.recipient: retired})
            case EmergencyProposed() | EmergencyDeclared():
                return self._with(emergencies={**self.emergencies, event.emergency: self._declared(event, recorded_at)})
            case EmergencyLifted() | EmergencyRejected():
                if event.emergency not in self.emergencies:
                    return self
                ended = self._ended(event, recorded_at)
                return self._with(emergencies={**self.emergencies, event.emergency: ended})
            case OverrideOpened():
                return self._with(overrides={**self.overrides, event.override: _override(event, position)})
            case OverrideClosed():
                return self._with(overrides=_without(self.overrides, event.override))
        assert_never(event)

    def _with(
        self,
        *,
        kinds: Mapping[str, KindTerms] | None = None,
        recipients: Mapping[str, Recipient] | None = None,
        emergencies: Mapping[str, Emergency] | None = None,
        overrides: Mapping[str, Override] | None = None,
    ) -> City:
        """A city with one mapping changed; what areas cover stays, since no area changed."""
        return City(
            kinds=self.kinds if kinds is None else kinds,
            contains=self.contains,
            recipients=self.recipients if recipients is None else recipients,
            emergencies=self.emergencies if emergencies is None else emergencies,
            overrides=self.overrides if overrides is None else overrides,
            _covers=self._covers,
        )

    def _registered(self, event: RecipientRegistered) -> Recipient:
        before = self.recipients.get(event.recipient)
        return Recipient(
            id=event.recipient,
            class_=event.class_,
            areas=event.areas,
            purposes=event.purposes,
            overrides=event.overrides,
            classes_ever=(before.classes_ever if before else frozenset()) | {event.class_},
        )

    def _declared(self, event: EmergencyProposed | EmergencyDeclared, recorded_at: datetime) -> Emergency:
        before = self.emergencies.get(event.emergency)
        known = before or Emergency(id=event.emergency, hazard=event.hazard, exercise=event.exercise)
        said = Declaration(
            areas=event.areas,
            recorded_at=recorded_at,
            until=event.until,
            by=event.by,
            hazard=event.hazard,
            exercise=event.exercise,
        )
        if isinstance(event, EmergencyProposed):
            return replace(known, proposed=said)
        said = replace(said, alone=event.alone)
        return replace(
            known,
            hazard=event.hazard,
            exercise=event.exercise,
            declarations=(*known.declarations, said),
            proposed=None,
        )

    def _ended(self, event: EmergencyLifted | EmergencyRejected, recorded_at: datetime) -> Emergency:
        known = self.emergencies[event.emergency]
        if isinstance(event, EmergencyRejected) or not known.declarations:
            withdrawn = replace(known.proposed, lifted_at=recorded_at) if known.proposed else known.withdrawn
            return replace(known, proposed=None, withdrawn=withdrawn)
        *earlier, last = known.declarations
        lifted = last if last.lifted_at else replace(last, lifted_at=recorded_at, mistaken=event.mistaken)
        return replace(known, declarations=(*earlier, lifted), proposed=None)


def _override(event: OverrideOpened, position: Position) -> Override:
    return Override(
        id=event.override,
        position=position,
        recipient=event.recipient,
        basis=event.basis,
        persons=frozenset(event.persons),
        areas=event.areas,
        kinds=event.kinds,
        purposes=event.purposes,
        until=event.until,
    )
