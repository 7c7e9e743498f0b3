"""The language: what can be said to the hub, and what the log holds.

An `Event` is what a source says. An `Entry` is an event that the log has taken. The control kinds
are a closed set: a frozen dataclass each, in the one union `Control`, which `rules` and `intake`
match exhaustively. Facts are open data: a kind, a person, a time and a payload that its Avro schema
describes. Fields are those of the table in docs/rules.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal, NewType

Position = NewType("Position", int)
"""Place of an entry in the log: 1, 2, 3 … without a gap (R1)."""

Ordinal = NewType("Ordinal", int)
"""Number of a person in the order of enrolment: 1, 2, 3 … It stands for the person outside sealed payloads."""

Mode = Literal["normal", "emergency", "exercise"]
Ask = Literal["once", "each_new_kind", "every_time"]
OverrideBasis = Literal["life_protection", "roster"]

LOCATION = "location.reported"
"""The one fact kind that the rules know by name: it places a person (R10)."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    """Whole microseconds since 1970-01-01T00:00:00Z, exactly."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What a source says, before the log has taken it.

    data: the fields of the kind's schema, by their names on the wire.
    occurred_at: the source's claim, aware; None where it claims none.
    ref: of a fact about a person, a retraction or a request for consent, the source's own id of the person, instead
    of `person`; intake resolves it, so that no entry of the log holds one.
    """

    source: str
    id: str
    kind: str
    person: str | None = None
    ref: str | None = None
    occurred_at: datetime | None = None
    exercise: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An event in the log. `subject` stands for the person where there is one."""

    position: Position
    recorded_at: datetime
    received_at: datetime
    version: int
    subject: Ordinal | None
    event: Event

    @property
    def effective_at(self) -> datetime:
        """The time at which the fact counts: a claim from the future counts as its arrival (R2)."""
        claimed = self.event.occurred_at
        return self.recorded_at if claimed is None or claimed > self.recorded_at else claimed


@dataclass(frozen=True, kw_only=True, slots=True)
class To:
    """Whom a grant or a block means: exactly one of the three (R6)."""

    recipient: str | None = None
    class_: str | None = None
    relation: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFrom:
    """A data window that begins at a stated time (R9)."""

    from_: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """The text that the person was shown when granting: which, and its hash."""

    id: str
    version: str
    language: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KindIntroduced:
    kind: str
    ttl_s: int | None = None
    latest_by: tuple[str, ...] = ()
    roster: bool = False
    schema: str | None = None
    schema_sha256: str | None = None
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AreaIntroduced:
    area: str
    contains: tuple[str, ...]
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipientRegistered:
    recipient: str
    class_: str
    areas: tuple[str, ...]
    purposes: tuple[str, ...]
    overrides: tuple[OverrideBasis, ...] = ()
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipientRetired:
    recipient: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamRegistered:
    """`stream` names it among those of its recipient."""

    stream: str
    recipient: str
    purpose: str
    kinds: tuple[str, ...] = ()
    exercise: bool = False
    history: bool = False
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamEnded:
    stream: str
    recipient: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonEnrolled:
    person: str
    areas: tuple[str, ...]
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonMoved:
    person: str
    areas: tuple[str, ...]
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonErased:
    person: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RelationAdded:
    person: str
    recipient: str
    role: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RelationEnded:
    person: str
    recipient: str
    role: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DelegationAdded:
    person: str
    delegate: str
    until: datetime | None = None
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DelegationEnded:
    person: str
    delegate: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityLinked:
    person: str
    source: str
    ref: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityUnlinked:
    person: str
    source: str
    ref: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RosterListed:
    person: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RosterRemoved:
    person: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsentGranted:
    person: str
    grant: str
    to: To
    kinds: tuple[str, ...]
    purposes: tuple[str, ...]
    modes: tuple[Mode, ...]
    data: str | DataFrom | None = None
    precision: Mapping[str, str] | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    uses: int | None = None
    ask: Ask = "once"
    approves: str | None = None
    notice: Notice | None = None
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsentRevoked:
    """`grant` is a grant's id, or `"all"`."""

    person: str
    grant: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsentRequested:
    person: str
    request: str
    recipient: str
    kinds: tuple[str, ...]
    purpose: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsentDeclined:
    person: str
    request: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferencesChanged:
    """How often the person wishes to be asked: a default for new grants, and for single recipients."""

    person: str
    ask: Ask | None = None
    recipients: Mapping[str, Ask] = field(default_factory=dict)
    language: str | None = None
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockAdded:
    person: str
    to: To
    protective: bool = False
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRemoved:
    person: str
    to: To
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EmergencyProposed:
    emergency: str
    areas: tuple[str, ...]
    until: datetime
    hazard: str
    exercise: bool = False
    policy_sha256: str | None = None
    cause: str | None = None
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EmergencyDeclared:
    emergency: str
    areas: tuple[str, ...]
    until: datetime
    hazard: str
    exercise: bool = False
    policy_sha256: str | None = None
    cause: str | None = None
    by: str | None = None
    alone: bool = False
    confirms: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EmergencyLifted:
    emergency: str
    policy_sha256: str | None = None
    cause: str | None = None
    by: str | None = None
    mistaken: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class EmergencyRejected:
    emergency: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OverrideOpened:
    override: str
    recipient: str
    basis: OverrideBasis
    kinds: tuple[str, ...]
    purposes: tuple[str, ...]
    until: datetime
    reason: str
    actor: str
    persons: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OverrideClosed:
    override: str
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FactRetracted:
    """`event` is the fact's id at `source`; without a source, at the retraction's own (R12)."""

    person: str
    event: str
    source: str | None = None
    by: str | None = None


PersonControl = (
    PersonEnrolled
    | PersonMoved
    | PersonErased
    | RelationAdded
    | RelationEnded
    | DelegationAdded
    | DelegationEnded
    | IdentityLinked
    | IdentityUnlinked
    | RosterListed
    | RosterRemoved
    | ConsentGranted
    | ConsentRevoked
    | ConsentRequested
    | ConsentDeclined
    | PreferencesChanged
    | BlockAdded
    | BlockRemoved
    | FactRetracted
)
CityControl = (
    KindIntroduced
    | AreaIntroduced
    | RecipientRegistered
    | RecipientRetired
    | StreamRegistered
    | StreamEnded
    | EmergencyProposed
    | EmergencyDeclared
    | EmergencyLifted
    | EmergencyRejected
    | OverrideOpened
    | OverrideClosed
)
Control = PersonControl | CityControl

CONTROLS: dict[str, type[Control]] = {
    "kind.introduced": KindIntroduced,
    "area.introduced": AreaIntroduced,
    "recipient.registered": RecipientRegistered,
    "recipient.retired": RecipientRetired,
    "stream.registered": StreamRegistered,
    "stream.ended": StreamEnded,
    "person.enrolled": PersonEnrolled,
    "person.moved": PersonMoved,
    "person.erased": PersonErased,
    "relation.added": RelationAdded,
    "relation.ended": RelationEnded,
    "delegation.added": DelegationAdded,
    "delegation.ended": DelegationEnded,
    "identity.linked": IdentityLinked,
    "identity.unlinked": IdentityUnlinked,
    "roster.listed": RosterListed,
    "roster.removed": RosterRemoved,
    "consent.granted": ConsentGranted,
    "consent.revoked": ConsentRevoked,
    "consent.requested": ConsentRequested,
    "consent.declined": ConsentDeclined,
    "preferences.changed": PreferencesChanged,
    "block.added": BlockAdded,
    "block.removed": BlockRemoved,
    "emergency.proposed": EmergencyProposed,
    "emergency.declared": EmergencyDeclared,
    "emergency.lifted": EmergencyLifted,
    "emergency.rejected": EmergencyRejected,
    "override.opened": OverrideOpened,
    "override.closed": OverrideClosed,
    "fact.retracted": FactRetracted,
}

_KEYWORDS = {"class": "class_", "from": "from_"}
_PARTS: dict[str, type[To | Notice]] = {"to": To, "notice": Notice}
_FIELDS = {kind: frozenset(part.name for part in fields(cls)) for kind, cls in CONTROLS.items()}


def control(event: Event) -> Control:
    """The control event that `event` says. Its data must have passed the kind's schema.

    Fields that no rule asks for (a contact, a message) stay in the log and are left out here.
    """
    known = _FIELDS[event.kind]
    said: dict[str, Any] = {}
    if "person" in known:
        said["person"] = event.person
    for name, value in event.data.items():
        name = _KEYWORDS.get(name, name)
        if value is not None and name in known:
            said[name] = _part(name, value)
    make: Callable[..., Control] = CONTROLS[event.kind]
    return make(**said)


def _part(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if name in _PARTS:
            parts: dict[str, Any] = {str(_KEYWORDS.get(key, key)): item for key, item in value.items()}
            return _PARTS[name](**parts)
        return DataFrom(from_=value["from"]) if name == "data" else dict(value)
    return tuple(value) if isinstance(value, list) else value
