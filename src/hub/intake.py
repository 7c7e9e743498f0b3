"""The door in: every event comes through here, whoever brings it.

Outside the lock an event is validated against its kind's schema and encoded. Under the lock it is judged
by what holds at its position, in this order: erasure, duplicates, the rest (R1a). What is accepted is
appended and folded into the views in one transaction; what is refused is refused by itself, with kind,
path and reason, and never a value of a person.

What names its person by the source's own id (`ref`) is taken as if it named whoever that id is linked to; where
nobody has linked it yet, it waits beside the log (`hub.waiting`). A fact may, a retraction, and a request for consent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from hub import hazards
from hub.codec import is_id
from hub.commits import Commits
from hub.errors import Conflict, PayloadError, Refused
from hub.events import (
    CONTROLS,
    BlockAdded,
    BlockRemoved,
    ConsentDeclined,
    ConsentGranted,
    ConsentRevoked,
    Control,
    DelegationAdded,
    DelegationEnded,
    EmergencyDeclared,
    Entry,
    Event,
    KindIntroduced,
    OverrideOpened,
    PersonControl,
    PersonErased,
    PreferencesChanged,
    RecipientRegistered,
    RelationAdded,
    RelationEnded,
    StreamRegistered,
    To,
    control,
)
from hub.hazards import HazardPolicy, Report
from hub.log.log import Closed, Log
from hub.log.recorder import NO_CLAIM, Append
from hub.policy import ALL, City, Policy
from hub.rules import matches, mode_of
from hub.schemas import Kind
from hub.views import chains, links
from hub.views.views import Change, Views
from hub.waiting import Keeping, Waiting

HUB = "hub"
"""The source of what the hub appends itself."""

HAZARD = hazards.KIND
OVERRIDE_LONGEST = timedelta(hours=72)
_AT_ONCE = 1_000
_MOST_KINDS, _LONGEST_KINDS = 100, 4_096
"""Kinds that a stream names, and their characters: how it stands is stored whole at each step."""

RETRACTED = "fact.retracted"
BY_REF = frozenset({RETRACTED, "consent.requested"})
"""The control kinds that may name their person by the source's own id, as facts may."""

USED_ALREADY = "this id was used already"
USED_FOR_ANOTHER = "this id was used for another event"
UNKNOWN_PERSON = "no such person is enrolled"
NOT_LINKED_ANY_MORE = "this id is not linked to a person any more; send nothing under it until it is linked again"

ONLY_READ = (
    "facts of this kind are only read here now: the connector that brings it is not installed, does not load, or has "
    "another file of the same version; see: hub connectors list"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of one event: position where it stands in the log, error where it was refused.

    waiting: it is kept beside the log until its ref is linked. event: as it was sent, a ref not resolved.
    """

    event: Event
    status: Literal["accepted", "duplicate", "refused", "waiting"]
    position: int | None = None
    error: PayloadError | Refused | None = None
    caused: tuple[Entry, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prepared:
    """An event that passed its schema: the record, and the digests under which it is known.

    link: the digest of source and ref where the event names its person so; retracts: then of the fact that it takes
    back. received_at: when it came to the door, where that is not now.
    """

    event: Event
    kind: Kind
    record: bytes
    identity: bytes
    claim: bytes
    link: bytes = b""
    retracts: bytes = b""
    received_at: datetime | None = None


class Intake:
    """Takes events into one log."""

    def __init__(self, log: Log, views: Views, commits: Commits, policy: HazardPolicy) -> None:
        self._log, self._views, self._commits, self._policy = log, views, commits, policy
        self._waiting = Waiting(log)

    def take(self, events: Iterable[Event]) -> list[Result]:
        """Append what may be appended; the results in the order of the events. What it returns is durable.

        Raises Busy where nothing can be appended now; then nothing of the last thousand was.
        """
        events, results = list(events), []
        for at in range(0, len(events), _AT_ONCE):
            results += self._take([self._prepare(event) for event in events[at : at + _AT_ONCE]])
        return results

    def enter(self, waited: Iterable[tuple[Event, datetime]]) -> list[Result]:
        """As `take`, for facts that waited: each with the time at which it came to the door."""
        return self._take([self._prepare(event, received_at) for event, received_at in waited])

    def _take(self, prepared: Sequence[_Prepared | Result]) -> list[Result]:
        passed = [found for found in prepared if isinstance(found, _Prepared)]
        if not passed:
            return [found for found in prepared if isinstance(found, Result)]
        keepings: list[Keeping] = []

        def job(append: Append, change: Change) -> list[Result]:
            batch = _Batch(self._log, self._views, self._policy, append, change)
            keepings.append(batch.keeping)
            batch.prepare(passed)
            return [found if isinstance(found, Result) else batch.take(found) for found in prepared]

        if any(found.link for found in passed):
            self._waiting.sweep()
        try:
            return self._commits.run(job, weight=len(passed))
        finally:
            made = {item for keeping in keepings for item in keeping.made}
            self._log.keyring.destroy_parked(made - (keepings[-1].used if keepings else set()))

    def _prepare(self, event: Event, received_at: datetime | None = None) -> _Prepared | Result:
        try:
            kind = self._kind(event, waited=received_at is not None)
            record = kind.encode(event.data)
            if kind.category == "control" or kind.name == HAZARD or kind.latest_by:
                event = replace(event, data=kind.decode(record))
            if kind.category == "control":
                _check_shape(event)
            if event.kind == "override.opened":
                event = self._pseudonymous(event)
                record = kind.encode(event.data)
            return _Prepared(
                event=event,
                kind=kind,
                record=record,
                identity=self._log.identify(event),
                claim=self._claim(event),
                link=b"" if event.ref is None else links.digest(self._log, event.source, event.ref),
                retracts=self._retracts(event),
                received_at=received_at,
            )
        except (PayloadError, Refused) as error:
            return Result(event=event, status="refused", error=error)

    def _kind(self, event: Event, *, waited: bool) -> Kind:
        """The version by which an event is written. waited: it came in before, and needs its connector no more."""
        schemas, name = self._log.schemas, event.kind if isinstance(event.kind, str) else ""
        kind = schemas.newest(name) if waited else schemas.writing(name)
        if kind is None and schemas.newest(name) is not None:
            raise Refused(ONLY_READ, rule="R8", kind=name)
        if kind is None or kind.category == "envelope":
            raise Refused("no schema says what this kind is", rule="R8", kind=_printable(event.kind))
        if kind.category == "hub":
            raise Refused("only the hub itself appends this kind", rule="R1", kind=event.kind)
        _check_envelope(event)
        if event.ref is not None and (kind.about != "person" or (kind.category != "fact" and kind.name not in BY_REF)):
            raise PayloadError("is for facts about persons only", path="ref", kind=event.kind)
        if event.ref is None and (event.person is not None) is not (kind.about == "person"):
            reason = "is missing" if kind.about == "person" else "is given, but the kind is about no person"
            raise PayloadError(reason, path="person", kind=event.kind)
        if event.exercise and kind.category == "control":
            raise PayloadError("is for facts only", path="exercise", kind=event.kind)
        return kind

    def _retracts(self, event: Event) -> bytes:
        if event.ref is None or event.kind != RETRACTED:
            return b""
        return self._log.keyring.digest("event", event.data["source"] or event.source, event.data["event"])

    def _claim(self, event: Event) -> bytes:
        """The digest of the id that the event takes for ever: a person's, a grant's, an override's."""
        digest = self._log.keyring.digest
        match event.kind:
            case "person.enrolled":
                return digest("person", event.person or "")
            case "consent.granted":
                return digest("grant", event.data["grant"])
            case "override.opened":
                return digest("override", event.data["override"])
            case _:
                return NO_CLAIM

    def _pseudonymous(self, event: Event) -> Event:
        """Outside a person's own events a person is named by digest, so that an erasure leaves no name behind."""
        named = event.data.get("persons")
        if named is None:
            return event
        digests = [self._views.persons.digest(name).hex() for name in named]
        return replace(event, data={**event.data, "persons": digests})


class _Batch:
    """The events of one transaction, judged one after the other."""

    def __init__(self, log: Log, views: Views, policy: HazardPolicy, append: Append, change: Change) -> None:
        self._log, self._views, self._policy = log, views, policy
        self._append, self._change = append, change
        self._known: dict[bytes, int] = {}
        self._links: dict[bytes, int | None] = {}
        self._asked: set[bytes] = set()
        self._held: set[str] = set()
        self._reports: dict[int, Entry] = {}
        self._changes_of_links = -1
        self.keeping = Keeping(log, append.connection, append.now)

    def prepare(self, prepared: Sequence[_Prepared]) -> None:
        """Look up ids and keys of the whole batch at once, and make keys for all who may be enrolled.

        A key that stays unused harms nobody.
        """
        self._known = self._change.known(d for p in prepared for d in (p.identity, p.claim, p.retracts) if d)
        digest, ordinal = self._views.persons.digest, self._change.ordinal
        named = (ordinal(digest(p.event.person)) for p in prepared if p.event.person is not None)
        self._log.keyring.load(found for found in named if found is not None)
        if refs := [p.link for p in prepared if p.link]:
            self._load_links(refs)
            self._log.keyring.load(found for found in self._links.values() if found is not None)
            self.keeping.prepare(sum(name not in self._links for name in refs))
        enrolments = sum(p.kind.name == "person.enrolled" for p in prepared)
        first = self._change.next_ordinal()
        self._log.keyring.create(range(first, first + enrolments))

    def take(self, prepared: _Prepared) -> Result:
        """Append one event, or say why not."""
        event = prepared.event
        try:
            if prepared.link:
                person = self._linked(prepared)
                if person is None:
                    self._wait(prepared)
                    return Result(event=event, status="waiting")
                person = self._retracted_of(prepared) or person
                prepared = replace(prepared, event=replace(event, person=person, ref=None))
            subject = self._subject(prepared.event)
            before = self._duplicate(prepared)
            if before is not None:
                return Result(event=event, status="duplicate", position=before)
            self._check(prepared, subject)
        except (PayloadError, Refused) as error:
            return Result(event=event, status="refused", error=error)
        if event.kind != HAZARD:
            return Result(event=event, status="accepted", position=self._add(prepared, subject).position)
        earlier = self._earlier(prepared.event)
        entry = self._add(prepared, subject)
        self._reports[entry.position] = entry
        caused = self._conclude(entry, earlier)
        return Result(event=event, status="accepted", position=entry.position, caused=caused)

    def _add(self, prepared: _Prepared, subject: int | None) -> Entry:
        if prepared.event.kind == "person.enrolled":
            subject = self._change.next_ordinal()
        entry = self._log.add(
            self._append,
            prepared.event,
            prepared.kind,
            prepared.record,
            received_at=prepared.received_at or self._append.now,
            identity=prepared.identity,
            subject=subject or 0,
            claim=prepared.claim,
        )
        self._change.append(entry, prepared.identity, prepared.claim)
        for digest in (prepared.identity, prepared.claim):
            if digest:
                self._known[digest] = entry.position
        return entry

    def _load_links(self, names: Iterable[bytes]) -> None:
        """Look up whose the ids are; anew once a link changed in this transaction."""
        changes = len(self._change.linked) + len(self._change.severed)
        if changes != self._changes_of_links:
            self._links, self._asked, self._changes_of_links = {}, set(), changes
        missing = set(names) - self._asked
        if missing:
            self._links |= links.resolve(self._append.connection, missing)
            self._asked |= missing

    def _linked(self, prepared: _Prepared) -> str | None:
        """The id of the person that the ref is linked to; None where it never was. Looked at as erasure is: first."""
        self._load_links([prepared.link])
        if prepared.link not in self._links:
            return None
        ordinal = self._links[prepared.link]
        name = None if ordinal is None else self._change.name(ordinal)
        if name is None:
            raise Refused(NOT_LINKED_ANY_MORE, rule="R1a", path="ref", kind=prepared.event.kind)
        return name

    def _retracted_of(self, prepared: _Prepared) -> str | None:
        """Whose the fact is that a retraction under a ref takes back, if the ref was ever theirs; else None.

        Of whoever the ref is linked to now it would take back nothing, and the fact would stay visible.
        """
        position = self._known.get(prepared.retracts) if prepared.retracts else None
        if position is None:
            return None
        here = self._change.here.get(prepared.retracts)
        found = here or self._log.read(self._append.connection, [position])[position]
        if found.subject is None or self._change.is_erased(found.subject) or not self._was_theirs(prepared.link, found):
            return None
        return self._change.name(found.subject)

    def _wait(self, prepared: _Prepared) -> None:
        """Have the fact wait for its link, if it is one that could enter then."""
        event = prepared.event
        if prepared.identity in self._known:
            raise Conflict(USED_FOR_ANOTHER, rule="R1a", path="id", kind=event.kind)
        if event.kind not in BY_REF:
            self._check_in_use(event, prepared.kind)
        self.keeping.keep(event, prepared.kind, prepared.record, link=prepared.link, identity=prepared.identity)

    def _subject(self, event: Event) -> int | None:
        """The person's ordinal; None for who is to be enrolled, and where there is no person (R15, R1a)."""
        if event.person is None:
            return None
        ordinal = self._change.ordinal(self._views.persons.digest(event.person))
        enrolling = event.kind == "person.enrolled"
        if ordinal is None and enrolling:
            return None
        if ordinal is None or self._change.is_erased(ordinal):
            raise Refused(UNKNOWN_PERSON, rule="R1a", path="person", kind=event.kind)
        return ordinal

    def _duplicate(self, prepared: _Prepared) -> int | None:
        """Where the same event stands already. Raises Conflict where its id is taken by another."""
        position = self._known.get(prepared.identity)
        if position is None:
            return None
        event, kind = prepared.event, prepared.kind
        said = replace(event, data=kind.decode(prepared.record))
        here = self._change.here.get(prepared.identity)
        found = here or self._log.read(self._append.connection, [position])[position]
        if here is not None and here.event.kind == event.kind:
            found = replace(here, event=replace(here.event, data=kind.decode(kind.encode(here.event.data))))
        if isinstance(found, Closed):
            same = found.kind == event.kind and found.subject == self._subject(event)
        else:
            same = found.event == said
        if not same and not (prepared.link and self._same_before(found, said, prepared.link)):
            raise Conflict(USED_FOR_ANOTHER, rule="R1a", path="id", kind=event.kind)
        return position

    def _same_before(self, found: Entry | Closed, said: Event, link: bytes) -> bool:
        """Whether an event under a ref is the one that came in when the ref was linked to somebody else."""
        if found.subject is None:
            return False
        if isinstance(found, Closed):
            return found.kind == said.kind and self._change.is_erased(found.subject)
        if replace(found.event, person=said.person) != said:
            return False
        return self._was_theirs(link, found)

    def _was_theirs(self, link: bytes, found: Entry | Closed) -> bool:
        """Whether an id was ever linked to the person of an entry, in this transaction too."""
        if found.subject is None:
            return False
        here = (e for e in self._change.here.values() if e.event.kind == "identity.linked")
        said_here = (e.event.data for e in here if e.subject == found.subject)
        refs = {links.digest(self._log, data["source"], data["ref"]) for data in said_here}
        return link in refs | links.ever(self._log, self._append.connection, found.subject)

    def _check(self, prepared: _Prepared, subject: int | None) -> None:
        """R1a and what R8, R14, R16 and R17 refuse."""
        event, kind = prepared.event, prepared.kind
        if kind.category == "fact":
            self._check_fact(event, kind, subject)
        else:
            said = control(event)
            if subject is not None:
                policy = self._change.policy(subject)
                check_delegate(said, policy, self._append)  # type: ignore[arg-type]
                check_person(said, policy)
            check_city(said, self._change.city, self._append)
        if prepared.claim and prepared.claim in self._known:
            raise Refused(USED_ALREADY, rule="R1a", path=_claim_path(event), kind=event.kind)

    def _check_fact(self, event: Event, kind: Kind, subject: int | None) -> None:
        self._check_in_use(event, kind)
        if not event.exercise or subject is None:
            return
        city = self._change.city
        place = self._change.place(subject, self._append.position) if city.emergencies else None
        if mode_of(self._change.policy(subject), city, place, self._append.now) == "emergency":
            raise Refused(
                "the person is in a real emergency; this may be a real call: ask them, and send it without exercise",
                rule="R17",
                path="exercise",
                kind=event.kind,
            )

    def _check_in_use(self, event: Event, kind: Kind) -> None:
        """R8; and that the file of a kind that a connector brought is kept for as long as the fact is."""
        terms = self._change.city.kinds.get(event.kind)
        if terms is None:
            raise Refused("this kind was not introduced here", rule="R8", kind=event.kind)
        if self._log.schemas.is_brought(kind) and kind.topic not in self._held:
            self._log.kept.hold(self._append.connection, self._log.schemas, kind.topic, terms)
            self._held.add(kind.topic)

    def _conclude(self, entry: Entry, earlier: Sequence[Report]) -> tuple[Entry, ...]:
        """Append what the hazard policy concludes from a report (DESIGN: which hazards declare)."""
        report = chains.report_of(entry)
        emergency = hazards.emergency_id(report)
        standing = _standing(self._change.city, emergency)
        concluded = hazards.conclude(self._policy, report, earlier, standing, self._append.now)
        caused = []
        for number, (name, data) in enumerate(concluded):
            kind = self._log.schemas.kind(name)
            event = Event(source=HUB, id=f"{report.source}:{report.id}:{number}", kind=name, data=data)
            event = replace(event, data=kind.decode(kind.encode(data)))
            prepared = _Prepared(
                event=event,
                kind=kind,
                record=kind.encode(data),
                identity=self._log.identify(event),
                claim=NO_CLAIM,
            )
            caused.append(self._add(prepared, None))
        return tuple(caused)

    def _earlier(self, event: Event) -> list[Report]:
        """The reports that decide what the chain of `event` warrants so far; never more than two of a type."""
        asked = Report(data=event.data, source=event.source, id=event.id, exercise=event.exercise)
        positions = chains.deciding(self._append.connection, self._log, asked)
        stored = self._log.read(self._append.connection, [p for p in positions if p not in self._reports])
        found = [self._reports.get(position) or stored[position] for position in positions]
        return [chains.report_of(entry) for entry in found if isinstance(entry, Entry)]


def _printable(kind: object) -> str:
    plain = (
        isinstance(kind, str)
        and kind.isascii()
        and kind.replace(".", "").replace("_", "").isalnum()
        and kind[0].isalpha()
    )
    return str(kind) if plain and len(str(kind)) < 80 else ""


def _claim_path(event: Event) -> str:
    return {"consent.granted": "grant", "override.opened": "override"}.get(event.kind, "person")


def _standing(city: City, emergency: str) -> hazards.Standing | None:
    known = city.emergencies.get(emergency)
    if known is None:
        return None
    last = known.declarations[-1] if known.declarations and known.declarations[-1].lifted_at is None else None
    return hazards.Standing(
        areas=last.areas if last else (),
        until=last.until if last else None,
        proposed=known.proposed.areas if known.proposed else (),
        exercise=known.exercise,
    )


def _check_envelope(event: Event) -> None:
    """What stands around the data, whoever put it there."""
    for path, value in (("source", event.source), ("id", event.id), ("person", event.person), ("ref", event.ref)):
        if not is_id(value) and (path not in ("person", "ref") or value is not None):
            raise PayloadError("is missing" if value is None else "is no id", path=path, kind=event.kind)
    if event.ref is not None and event.person is not None:
        raise PayloadError("stands beside a person; give one of them", path="ref", kind=event.kind)
    if event.occurred_at is not None and not (isinstance(event.occurred_at, datetime) and event.occurred_at.tzinfo):
        raise PayloadError("is no time with its offset", path="occurred_at", kind=event.kind)
    if not isinstance(event.exercise, bool):
        raise PayloadError("is not true or false", path="exercise", kind=event.kind)


def _check_shape(event: Event) -> None:
    """What the schema's types cannot say."""
    said = control(event)
    to = getattr(said, "to", None)
    if isinstance(to, To) and sum(part is not None for part in (to.recipient, to.class_, to.relation)) != 1:
        raise PayloadError("names not exactly one of recipient, class, relation", path="to", kind=event.kind)
    if isinstance(said, StreamRegistered) and (
        len(said.kinds) > _MOST_KINDS or sum(map(len, said.kinds)) > _LONGEST_KINDS
    ):
        reason = f"holds more than {_MOST_KINDS} kinds, or {_LONGEST_KINDS} characters; name patterns (care.*)"
        raise PayloadError(reason, path="kinds", kind=event.kind)
    if isinstance(said, ConsentGranted) and said.grant == ALL:
        raise Refused("no grant may be called all", rule="R1a", path="grant", kind=event.kind)
    if isinstance(said, ConsentGranted) and said.approves is not None and said.uses != 1:
        raise Refused("an approval is for one use", rule="R8", path="uses", kind=event.kind)


def check_delegate(said: PersonControl, policy: Policy, append: Append) -> None:
    """R16: what someone who is not the person may do for them."""
    by = said.by
    if by is None or by == policy.person:
        return
    active = policy.delegated(by, append.now)
    kind = _kind_of(said)
    match said:
        case (
            ConsentGranted()
            | ConsentRevoked()
            | ConsentDeclined()
            | PreferencesChanged()
            | BlockAdded()
            | BlockRemoved()
        ):
            if not active:
                raise Refused("no delegation is active for who did this", rule="R16", path="by", kind=kind)
        case DelegationAdded() | DelegationEnded() | RelationAdded() | RelationEnded() | PersonErased():
            if active:
                raise Refused("a delegate may not do this", rule="R16", path="by", kind=kind)
        case _:
            pass  # who else may append what is the table of authorities' matter
    if isinstance(said, BlockAdded | BlockRemoved):
        standing = policy.blocks.get(said.to)
        if standing is not None and standing.by != by:
            raise Refused("a delegate may not touch a block of someone else", rule="R16", path="to", kind=kind)


def check_person(said: Control, policy: Policy) -> None:
    """R8: an approval names a grant that asks every time."""
    if isinstance(said, ConsentGranted) and said.approves is not None and said.approves not in policy.every_time:
        raise Refused(
            "names no grant of the person that asks every time", rule="R8", path="approves", kind=_kind_of(said)
        )


def check_city(said: Control, city: City, append: Append) -> None:
    """R1a and R14, for what is about no one person."""
    kind = _kind_of(said)
    match said:
        case KindIntroduced() if said.kind in city.kinds:
            raise Refused("this kind was introduced already", rule="R1a", path="kind", kind=kind)
        case RecipientRegistered() if (known := city.recipients.get(said.recipient)) and known.retired:
            raise Refused("this recipient is retired; choose another id", rule="R1a", path="recipient", kind=kind)
        case StreamRegistered():
            _check_stream(said, city)
        case EmergencyDeclared():
            declared = city.emergencies.get(said.emergency)
            if declared and declared.declarations and declared.exercise is not said.exercise:
                raise Refused("an exercise never becomes real, nor the reverse", rule="R17", path="exercise", kind=kind)
            waits = declared.proposed if declared else None
            if said.confirms is not None and (waits is None or waits.token != said.confirms):
                raise Refused(
                    "the proposal is not that one any more; look again", rule="R10", path="proposal", kind=kind
                )
        case OverrideOpened():
            if not said.reason.strip():
                raise Refused("says no reason", rule="R14", path="reason", kind=kind)
            if said.until - append.now > OVERRIDE_LONGEST:
                raise Refused("is more than 72 hours ahead", rule="R14", path="until", kind=kind)
            if said.basis == "life_protection" and not said.persons:
                raise Refused("lists no person", rule="R14", path="persons", kind=kind)
        case _:
            pass


def _check_stream(said: StreamRegistered, city: City) -> None:
    """R1a, R7 and R8: a stream that could never send anything is refused."""
    kind = _kind_of(said)
    found = city.recipients.get(said.recipient)
    if found is None or found.retired:
        raise Refused("no such recipient is registered", rule="R1a", path="recipient", kind=kind)
    if said.purpose not in found.purposes:
        raise Refused("the recipient is not registered for this purpose", rule="R7", path="purpose", kind=kind)
    if said.kinds and not any(matches(name, said.kinds) for name in city.kinds):
        raise Refused("no kind here is called so; GET /v1/kinds lists them", rule="R8", path="kinds", kind=kind)


_KIND_OF = {cls: kind for kind, cls in CONTROLS.items()}


def _kind_of(said: Control) -> str:
    return _KIND_OF[type(said)]
