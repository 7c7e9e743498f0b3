"""All derived tables together: what holds at a position, and the folding of each new entry.

One path for live and past: `at` gives the standing of any position. What is in memory is the directory
of persons and the policies that were used lately, each with the position since which it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sqlalchemy import Connection, delete, select

from hub.areas import mesh
from hub.errors import Tampered
from hub.events import (
    CONTROLS,
    LOCATION,
    Control,
    Entry,
    FactRetracted,
    IdentityLinked,
    IdentityUnlinked,
    PersonEnrolled,
    PersonErased,
    RecipientRetired,
    control,
)
from hub.hazards import KIND as HAZARD
from hub.log import recorder
from hub.log.log import Closed, Log
from hub.log.recorder import Append
from hub.policy import City, Grant, Policy
from hub.rules import LOST_MESH, Place
from hub.views import chains, facts, index, links, persons, policies, uses
from hub.views.facts import Facts
from hub.views.persons import Persons
from hub.views.policies import FOREVER, Held, Policies

TABLES = (
    *(persons.person, policies.policy, links.link, facts.fact, facts.retraction),
    *(chains.chain, uses.disclosure, uses.consumed),
)
LAGGING = (index.shown,)
"""What is derived behind the log's back (`hub.derived`); a rebuild brings it to the end too."""

DISCLOSED = "view.disclosed"

_CACHED = 200_000
_RELOAD = 20_000
_UNFOLDED = (
    "identity.linked",
    "identity.unlinked",
    "consent.requested",
    "consent.declined",
    "preferences.changed",
    "fact.retracted",
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds at `position`, read through one connection's snapshot, in which the log ends at `end`."""

    views: Views
    connection: Connection
    position: int
    end: int
    city: City
    _placed: dict[int, Place | None] = field(default_factory=dict, repr=False, compare=False)

    def policies(self, ordinals: Sequence[int]) -> dict[int, Policy]:
        """The policies of persons who are enrolled."""
        return self.views.policies_at(self.connection, ordinals, self.position, self.end)

    def places(self, ordinals: Sequence[int]) -> dict[int, Place]:
        """Where the latest location puts each person (R10); no entry for who never reported one."""
        if missing := [ordinal for ordinal in ordinals if ordinal not in self._placed]:
            found = self.views.places_at(self.connection, self.city, missing, self.position)
            self._placed.update({ordinal: found.get(ordinal) for ordinal in missing})
        return {ordinal: place for ordinal in ordinals if (place := self._placed[ordinal]) is not None}

    def spent(self, of: Iterable[tuple[int, Policy]]) -> Callable[[Grant], int]:
        """How many disclosures have consumed a grant (R19)."""
        limited = [o for o, p in of if any(g.uses is not None for g in p.grants.values())]
        counts = uses.spent(self.connection, limited, self.position) if limited else {}
        return lambda grant: counts.get(grant.position, 0)


class Views:
    """The derived tables of one log. Threads may share it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.persons = Persons(log)
        self.facts = Facts(log)
        self.pointers = Policies(log, self.persons)
        self._lock = threading.RLock()
        self._position = -1
        self.persons_since = 0
        """The last control event about a person, or a later position where memory was filled."""
        self._city: tuple[int, City] = (0, City())
        self._held: dict[int, Held] = {}
        self._meshes: dict[int, str | None] = {}

    @property
    def control_since(self) -> int:
        """The last control event, about a person or the city, or a later position where memory was filled."""
        with self._lock:
            return max(self.persons_since, self._city[0])

    def at(self, connection: Connection, end: int, position: int | None = None) -> Standing:
        """What holds at `position` (default: at the end) of a log that ends at `end` in this snapshot."""
        with self._lock:
            self._catch_up(connection, end)
            position = end if position is None else position
            since, city = self._city
            if since > position:
                city = self.pointers.city(connection, position)
        return Standing(self, connection, position, end, city)

    def candidates(
        self, standing: Standing, recipient: str, class_: str, *, roster: bool, ordinals: range | None = None
    ) -> set[int]:
        """Everyone of whom a recipient might see something, or those in a range; overrides that list persons aside."""
        connection, position = standing.connection, standing.position
        return self.pointers.candidates(connection, recipient, class_, position, roster=roster, ordinals=ordinals)

    def bears(self, connection: Connection, ordinals: Iterable[int], after: int) -> bool:
        """Whether a control event after that position bears on one of the persons (R18)."""
        if any(erased > after for erased in self.persons.erased.values()):
            return True
        return self.pointers.bearing(connection, ordinals, after)

    def consumed(self, connection: Connection, pairs: Iterable[tuple[int, int]], after: int) -> bool:
        """Whether a use of one of these grants (person's ordinal, grant's position) was taken after that position."""
        return uses.taken(connection, pairs, after)

    def policies_at(
        self, connection: Connection, ordinals: Sequence[int], position: int, end: int
    ) -> dict[int, Policy]:
        """The policies at `position`, from memory where they have not changed since.

        end: where the log ends in this snapshot. An older snapshot than what is in memory fills no memory.
        """
        with self._lock:
            found, missing = {}, []
            for ordinal in ordinals:
                held = self._held.get(ordinal)
                if held is not None and held.since <= position:
                    found[ordinal] = held.policy
                else:
                    missing.append(ordinal)
            if missing:
                if len(self._held) + len(missing) > _CACHED:
                    self._held.clear()
                for ordinal, (held, newest) in self.pointers.read(connection, missing, position).items():
                    found[ordinal] = held.policy
                    if newest and end >= self._position:
                        self._held[ordinal] = held
        return found

    def places_at(
        self,
        connection: Connection,
        city: City,
        ordinals: Sequence[int],
        position: int,
        fresh: Mapping[int, Entry] = MappingProxyType({}),
    ) -> dict[int, Place]:
        """Where the latest location puts each person. fresh: entries, by position, whose rows are not written yet."""
        terms = city.kinds.get(LOCATION)
        if terms is None:
            return {}
        newest = self.facts.newest(connection, ordinals, terms, False, position)
        places = {rows[0].position for rows in newest.values()}
        meshes = self.meshes(connection, places - fresh.keys())
        meshes |= {at: _mesh_of(fresh[at]) for at in places & fresh.keys()}
        return {o: Place(meshes[rows[0].position], rows[0].effective_at) for o, rows in newest.items()}

    def meshes(self, connection: Connection, positions: Iterable[int]) -> dict[int, str | None]:
        """The grid square of each location fact; None outside the grid, `LOST_MESH` where it was destroyed."""
        positions = list(positions)
        held = self._meshes  # what other threads drop meanwhile is dropped with what is added here
        missing = [position for position in positions if position not in held]
        if len(held) + len(missing) > _CACHED:
            held = self._meshes = {}
            missing = positions
        for position, entry in self.log.read(connection, missing).items() if missing else ():
            if isinstance(entry, Entry):
                held[position] = _mesh_of(entry)
            else:
                held[position] = LOST_MESH if entry.reason == "retention ended" else None
        return {position: held[position] for position in positions}

    def positions_of(self, connection: Connection, ordinal: int, end: int) -> set[int]:
        """Where everything about a person stands, up to `end`: control events and facts, retracted ones too."""
        found: set[int] = set()
        for table in (policies.policy, facts.fact):
            query = select(table.c.position).where(table.c.person == ordinal, table.c.position <= end)
            found |= set(connection.scalars(query))
        return found

    def forget(self) -> None:
        """Drop what is held in memory of payloads: some were destroyed."""
        self._meshes = {}

    @contextmanager
    def folding(self, append: Append) -> Iterator[Change]:
        """Fold what `append` takes, in its transaction; what is in memory follows once the block ends well."""
        with self._lock:
            self._catch_up(append.connection, append.start.position)
            change = Change(self, append.connection, append.start.position, self._city[1])
        yield change
        change.flush()

    def committed(self, change: Change, end: int) -> None:
        """Take over what `change` folded, now that its transaction is durable."""
        with self._lock:
            if self._position != change.start:
                return  # another thread has read it from the tables already
            for ordinal, digest, position, name in change.enrolled:
                self.persons.add(ordinal, digest, position, name)
            for ordinal, position in change.erased:
                self._erase(ordinal, position)
            self.persons_since = max(self.persons_since, change.persons_since)
            self._held.update({o: held for o, held in change.held.items() if o not in self.persons.erased})
            if change.city_since:
                self._city = change.city_since, change.city
            self._position = end

    def rebuild(self) -> int:
        """Drop every row and derive it again from the log; returns how many entries that took."""
        with self.log.entries.maintaining() as connection:
            for table in TABLES:
                connection.execute(delete(table))
            index.clear(connection)
            count = self.derive(connection)
            index.close_up(connection, count, everything=True)
        with self._lock:
            self._position = -1
        return count

    def derive(self, connection: Connection) -> int:
        """Fold the whole log into tables that are empty; returns the number of entries."""
        change = self.deriving(connection)
        count = 0
        for row in self.log.rows(connection):
            change.take(self.log.open(row), row.identity)
            count += 1
            if count % 5_000 == 0:
                change.flush()
        change.flush()
        return count

    def deriving(self, connection: Connection) -> Change:
        """What folds a log from its beginning into tables that are empty, through one connection."""
        self.log.keyring.doubt()
        blank = Views(self.log)
        blank._position = 0
        return Change(blank, connection, 0, City(), live=False)

    def _catch_up(self, connection: Connection, end: int) -> None:
        """Bring what is in memory to the end of the log as this snapshot sees it."""
        if self._position >= end:
            return
        if self._position < 0 or end - self._position > _RELOAD:
            self.persons.load(connection)
            self.log.keyring.forget_all(self.persons.erased)
            self._held.clear()
            self._city = self.pointers.city_since(connection, end), self.pointers.city(connection, end)
            self._position = self.persons_since = end
            return
        columns = recorder.log.c
        query = select(columns.position, columns.subject, columns.topic, columns.claim)
        query = query.where(columns.position > self._position, columns.position <= end).order_by(columns.position)
        stale_city = False
        for row in connection.execute(query):
            kind = row.topic.rpartition(".")[0]
            if kind == "person.enrolled":
                self.persons.add(row.subject, row.claim, row.position)
            if kind == "person.erased":
                self._erase(row.subject, row.position)
            if kind in CONTROLS:
                self.persons_since = row.position
                self._held.pop(row.subject, None)
                stale_city = stale_city or row.subject == policies.CITY
            if kind == DISCLOSED:
                # a grant whose last use was consumed has ended
                limited = [o for o, h in self._held.items() if any(g.uses for g in h.policy.grants.values())]
                for ordinal in limited:
                    del self._held[ordinal]
        if stale_city:
            self._city = self.pointers.city_since(connection, end), self.pointers.city(connection, end)
        self._position = end

    def _erase(self, ordinal: int, position: int) -> None:
        self.persons.erase(ordinal, position)
        self.log.keyring.forget(ordinal)
        self._held = {o: h for o, h in self._held.items() if o != ordinal and not h.policy.delegations}


def _mesh_of(entry: Entry) -> str | None:
    return mesh(entry.event.data["lat_deg"], entry.event.data["lon_deg"])


class Change:
    """The folding of new entries, in the transaction that appends them (or that rebuilds the views).

    It sees what it folded itself before, so that a later event of a batch is judged by the earlier ones.
    live: False where the views are derived again.
    """

    def __init__(self, views: Views, connection: Connection, start: int, city: City, *, live: bool = True) -> None:
        self.views, self.connection, self.start, self.city, self.live = views, connection, start, city, live
        self.city_since = 0
        self.persons_since = 0
        self.held: dict[int, Held] = {}
        self.enrolled: list[tuple[int, bytes, int, str | None]] = []
        self.erased: list[tuple[int, int]] = []
        self.linked: list[bytes] = []
        """Ids at services that were linked, as digests."""
        self.severed: list[bytes] = []
        """Ids at services that were unlinked, or whose person was erased, as digests."""
        self.retired: list[str] = []
        """Recipients that were retired."""
        self.here: dict[bytes, Entry] = {}
        self._claimed: dict[bytes, int] = {}
        self._ordinals: dict[bytes, int] = {}
        self._facts: list[dict[str, object]] = []
        self._pointers: list[tuple[int, int, int, int]] = []
        self._persons: list[tuple[int, bytes, int, int | None]] = []
        self._gone: set[int] = set()
        self._unreadable: set[int] = set()

    def known(self, digests: Iterable[bytes]) -> dict[bytes, int]:
        """The positions of the identities and claims that are taken, among `digests`, in this change too."""
        digests = list(digests)
        found = self.views.log.entries.known(self.connection, digests)
        for digest in digests:
            if digest in self.here:
                found[digest] = self.here[digest].position
            elif digest in self._claimed:
                found[digest] = self._claimed[digest]
        return found

    def append(self, entry: Entry, identity: bytes, claim: bytes) -> None:
        """Fold an entry that this transaction adds, and know its ids from now on."""
        self.take(entry, identity, claim)
        self.here[identity] = entry
        if claim:
            self._claimed[claim] = entry.position

    def ordinal(self, digest: bytes) -> int | None:
        """The ordinal of someone who was ever enrolled, in this change too."""
        found = self._ordinals.get(digest)
        return self.views.persons.ordinal_of(digest) if found is None else found

    def is_erased(self, ordinal: int) -> bool:
        """Whether someone is erased, in this change too."""
        return ordinal in self._gone or self.views.persons.erased_at(ordinal) is not None

    def name(self, ordinal: int) -> str | None:
        """The id of someone who is enrolled, in this change too."""
        held = self.held.get(ordinal)
        if held is not None:
            return held.policy.person
        return self.views.persons.names(self.connection, [ordinal]).get(ordinal)

    def next_ordinal(self) -> int:
        """The ordinal of the next one to be enrolled."""
        return len(self.views.persons) + len(self._ordinals) + 1

    def policy(self, ordinal: int) -> Policy:
        """The policy as it stands, this change included."""
        held = self.held.get(ordinal)
        if held is not None:
            return held.policy
        found = self.views.policies_at(self.connection, [ordinal], self.start, self.start)[ordinal]
        for delegate in found.delegations:
            known = self.ordinal(self.views.persons.digest(delegate))
            if known is not None and known in self._gone:
                found = found.without_delegate(delegate)
        return found

    def place(self, ordinal: int, position: int) -> Place | None:
        """Where the latest location puts someone, this change included."""
        self._flush_persons()  # the newest fact is looked up from the person's row
        self._flush_facts()
        fresh = {int(entry.position): entry for entry in self.here.values()}
        return self.views.places_at(self.connection, self.city, [ordinal], position, fresh).get(ordinal)

    def take(self, entry: Entry | Closed, identity: bytes, claim: bytes = b"") -> None:
        """Fold one entry, which took its position in this transaction."""
        match entry:
            case Closed(kind="person.enrolled", subject=int(ordinal)):
                self._enrol(ordinal, entry.claim, entry.position, None)
            case Closed(kind="person.erased", subject=int(ordinal)):
                self._erase(ordinal, entry.position)
            case Closed(subject=None):
                raise Tampered("the city's key is missing", position=entry.position)
            case Closed(reason="retention ended", kind=kind, subject=int(ordinal)) if kind in self.city.kinds:
                self._facts += self.views.facts.lost(entry, self.city.kinds[kind], identity)
            case Closed():
                pass
            case Entry(event=event) if event.kind in CONTROLS:
                self._control(entry, control(event), identity, claim)
            case Entry(event=event) if event.kind == DISCLOSED:
                self._disclosed(entry)
            case Entry(event=event):
                if event.kind in self.city.kinds:
                    self._facts.append(self.views.facts.row(entry, self.city.kinds[event.kind], identity))
                if event.kind == HAZARD:
                    chains.fold(self.connection, self.views.log, entry)

    def flush(self) -> None:
        """Write what is still held back."""
        self._flush_persons()
        self._flush_facts()
        self._flush_pointers()

    def _flush_persons(self) -> None:
        persons.insert_rows(self.connection, self._persons)
        self._persons = []

    def _flush_facts(self) -> None:
        if self._facts:
            kept = [row for row in self._facts if row["person"] not in self._gone]
            if kept:
                self.views.facts.insert(self.connection, kept)
            self._facts = []

    def _flush_pointers(self) -> None:
        policies.insert_rows(self.connection, self._pointers)
        self._pointers = []

    def _control(self, entry: Entry, event: Control, identity: bytes, claim: bytes) -> None:
        ordinal = entry.subject
        if ordinal is None:
            self.city = self.city.apply(event, entry.position, entry.recorded_at)  # type: ignore[arg-type]
            self.city_since = entry.position
            if isinstance(event, RecipientRetired):
                self.retired.append(event.recipient)
            self._point(policies.CITY, entry.position, FOREVER, event)
            return
        self.persons_since = entry.position
        if isinstance(event, PersonEnrolled):
            digest = claim or self.views.persons.digest(event.person)
            self._enrol(ordinal, digest, entry.position, event.person)
        if isinstance(event, PersonErased):
            self._erase(ordinal, entry.position)
            return
        before = self.policy(ordinal)
        self._end(ordinal, entry, event, before)
        after = before.apply(event, entry.position, entry.recorded_at)  # type: ignore[arg-type]
        after = self._without_erased(after)
        self.held[ordinal] = Held(since=entry.position, policy=after)
        if isinstance(event, FactRetracted):
            self._retract(ordinal, entry, event)
        if isinstance(event, IdentityLinked | IdentityUnlinked):
            self._link(ordinal, entry.position, event)

    def _end(self, ordinal: int, entry: Entry, event: Control, before: Policy) -> None:
        """Write the event's row, and end those that it ends."""
        ended, folded = policies.endings(event, before)
        folded = folded and entry.event.kind not in _UNFOLDED
        if ended:
            self._flush_pointers()
            policies.end_rows(self.connection, ordinal, ended, entry.position)
        self._point(ordinal, entry.position, FOREVER if folded else entry.position, event)

    def _without_erased(self, after: Policy) -> Policy:
        after, _ = self.views.pointers.without_erased_delegates(after, FOREVER)
        for delegate in list(after.delegations):
            ordinal = self.ordinal(self.views.persons.digest(delegate))
            if ordinal is not None and ordinal in self._gone:
                after = after.without_delegate(delegate)
        return after

    def _point(self, person: int, position: int, until: int, event: Control) -> None:
        grantee = self.views.pointers.grantee(event)
        self._pointers.append((person, position, until, grantee))

    def _enrol(self, ordinal: int, digest: bytes, position: int, name: str | None) -> None:
        self._ordinals[digest] = ordinal
        self.enrolled.append((ordinal, digest, position, name))
        self._persons.append((ordinal, digest, position, None))
        if name is not None:
            self.held[ordinal] = Held(since=position, policy=Policy(person=name, listed_as=digest.hex()))
        else:  # the views are derived again, and the person was erased since
            self._unreadable.add(ordinal)

    def _erase(self, ordinal: int, position: int) -> None:
        self.flush()
        self._gone.add(ordinal)
        self.erased.append((ordinal, position))
        self.held.pop(ordinal, None)
        self.held = {o: replace(h, policy=self._without_erased(h.policy)) for o, h in self.held.items()}
        persons.mark_erased(self.connection, ordinal, position)
        self.severed += links.end_person(self.connection, ordinal, position, live=self.live)
        for table in (policies, facts, uses):
            table.delete_person(self.connection, ordinal)
        index.delete_person(self.views.log, self.connection, ordinal)

    def _link(self, ordinal: int, position: int, event: IdentityLinked | IdentityUnlinked) -> None:
        name = links.digest(self.views.log, event.source, event.ref)
        if isinstance(event, IdentityLinked):
            links.put(self.connection, name, ordinal, position, live=self.live)
            self.linked.append(name)
        elif links.end(self.connection, name, ordinal, position, live=self.live):
            self.severed.append(name)

    def _retract(self, ordinal: int, entry: Entry, event: FactRetracted) -> None:
        self._flush_facts()
        target = self.views.log.keyring.digest("event", event.source or entry.event.source, event.event)
        known = self.known([target]).get(target)  # also what this very transaction appended
        if known is not None and known > entry.position:
            known = None  # only while views are rebuilt: the fact comes later
        self.views.facts.retract(self.connection, ordinal, target, known, entry.position)

    def _disclosed(self, entry: Entry) -> None:
        data = entry.event.data
        pairs = [(use["person"], use["grant"]) for use in data["uses"]]
        pairs = [(o, grant) for o, grant in pairs if not self.is_erased(o) and o not in self._unreadable]
        recipient = self.views.log.keyring.number("recipient", data["recipient"])
        uses.insert_disclosure(self.connection, entry.position, recipient, pairs)
        for ordinal, position in pairs:
            self._end_spent(ordinal, position, entry.position)
        if not self.live:
            self._index(entry)

    def _index(self, entry: Entry) -> None:
        """Write whom a disclosure named; who is erased later is dropped then."""
        log = self.views.log
        for ordinals, removed in zip(index.named(log, self.connection, entry), (False, True), strict=True):
            present = [ordinal for ordinal in ordinals if not self.is_erased(ordinal)]
            index.insert_rows(log, self.connection, entry.position, present, removed=removed)

    def _end_spent(self, ordinal: int, position: int, at: int) -> None:
        """End the row of a grant whose last use was consumed: it is never in force again (R19)."""
        before = self.policy(ordinal)
        grant = next((g for g in before.grants.values() if g.position == position), None)
        if grant is None or grant.uses is None:
            return
        if uses.spent(self.connection, [ordinal], at).get(position, 0) >= grant.uses:
            self._flush_pointers()
            policies.end_rows(self.connection, ordinal, [position], at)
            left = {name: g for name, g in before.grants.items() if name != grant.id}
            self.held[ordinal] = Held(since=at, policy=replace(before, grants=left))
