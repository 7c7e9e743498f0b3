"""What is registered: a person's consents, blocks, delegates and relations; recipients, kinds, places.

For citizens' pages, desks and connectors. Each row is what its control event said, with when and where it
was recorded. Nothing here decides who may see what; facts of places (R22) are the only facts shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hub.areas import mesh
from hub.canonical import plain, timestamp
from hub.errors import PayloadError
from hub.events import Entry, To
from hub.log.log import Log
from hub.policy import Policy
from hub.schemas import Kind
from hub.views import links
from hub.views.policies import CITY
from hub.views.views import Standing, Views

Row = dict[str, Any]


class Directory:
    """Answers what is registered in one log."""

    def __init__(self, log: Log, views: Views) -> None:
        self._log, self._views = log, views

    def grants(self, person: str) -> list[Row]:
        """The grants that were not revoked, in their order; of someone who is not enrolled none (R20)."""

        def rows(standing: Standing, policy: Policy) -> list[Row]:
            entries = self._log.read(standing.connection, [g.position for g in policy.grants.values()])
            spent = standing.spent([(self._ordinal(person), policy)])
            found = []
            for grant in sorted(policy.grants.values(), key=lambda grant: grant.position):
                entry = entries[grant.position]
                if isinstance(entry, Entry):
                    row = plain(entry.event.data) | {"recorded_at": timestamp(entry.recorded_at)}
                    if grant.uses is not None:
                        row["used"] = spent(grant)
                    found.append(row)
            return found

        return self._of(person, rows)

    def blocks(self, person: str) -> list[Row]:
        """The blocks in place."""
        return self._of(
            person,
            lambda _, policy: [
                {"block": block_id(to), "to": _to(to), "by": block.by, "protective": block.protective}
                for to, block in sorted(policy.blocks.items(), key=lambda pair: block_id(pair[0]))
            ],
        )

    def delegations(self, person: str) -> list[Row]:
        """The delegates, and until when."""
        return self._of(
            person,
            lambda _, policy: [
                {"delegate": delegate, "until": None if until is None else timestamp(until)}
                for delegate, until in sorted(policy.delegations.items())
            ],
        )

    def relations(self, person: str) -> list[Row]:
        """The recipients that have a role for the person."""
        return self._of(
            person,
            lambda _, policy: [
                {"relation": f"{role}@{recipient}", "recipient": recipient, "role": role}
                for recipient, role in sorted(policy.relations)
            ],
        )

    def delegated(self, person: str, delegate: str) -> bool:
        """Whether `delegate` may act for the person now (R16); for someone who is not enrolled never."""
        return person in self.acts_for([person], delegate)

    def acts_for(self, persons: Iterable[str], delegate: str) -> frozenset[str]:
        """For whom among `persons` the delegate may act now (R16)."""
        found = set()
        with self._log.entries.snapshot() as (connection, end):
            standing = self._views.at(connection, end.position)
            now = self._log.clock.now()
            now = now if end.recorded_at is None else max(now, end.recorded_at)
            ordinals = {self._ordinal(person): person for person in persons}
            present = [o for o in ordinals if self._views.persons.enrolled_by(o, end.position)]
            for ordinal, policy in standing.policies(present).items():
                if policy.delegated(delegate, now):
                    found.add(ordinals[ordinal])
        return frozenset(found)

    def links(self, person: str) -> list[Row]:
        """The person's ids at services that are linked, in the order of linking (ID連携)."""

        def rows(standing: Standing, _: Policy) -> list[Row]:
            positions = links.of_person(standing.connection, self._ordinal(person))
            entries = self._log.read(standing.connection, positions)
            return [
                {
                    "source": entry.event.data["source"],
                    "ref": entry.event.data["ref"],
                    "recorded_at": timestamp(entry.recorded_at),
                }
                for position in positions
                if isinstance(entry := entries[position], Entry)
            ]

        return self._of(person, rows)

    def _ordinal(self, person: str) -> int:
        ordinal = self._views.persons.ordinal(person)
        return 0 if ordinal is None else ordinal

    def _of(self, person: str, rows: Callable[[Standing, Policy], list[Row]]) -> list[Row]:
        with self._log.entries.snapshot() as (connection, end):
            standing = self._views.at(connection, end.position)
            ordinal = self._ordinal(person)
            if not self._views.persons.enrolled_by(ordinal, end.position):
                return []
            return rows(standing, standing.policies([ordinal])[ordinal])

    def recipients(self) -> list[Row]:
        """Every registration that is not retired, by id."""
        with self._log.entries.snapshot() as (connection, end):
            city = self._views.at(connection, end.position).city
        return [
            {
                "recipient": found.id,
                "class": found.class_,
                "areas": list(found.areas),
                "purposes": list(found.purposes),
                "overrides": list(found.overrides),
            }
            for _, found in sorted(city.recipients.items())
            if not found.retired
        ]

    def registered(self, recipient: str) -> bool:
        """Whether a recipient is registered and not retired."""
        with self._log.entries.snapshot() as (connection, end):
            found = self._views.at(connection, end.position).city.recipients.get(recipient)
        return found is not None and not found.retired

    def streams(self, recipient: str) -> list[Row]:
        """What a recipient is sent as it changes, by the streams' names; nothing once it is retired."""
        with self._log.entries.snapshot() as (connection, end):
            city = self._views.at(connection, end.position).city
        reader = city.recipients.get(recipient)
        return [
            {
                "stream": found.name,
                "recipient": found.recipient,
                "purpose": found.purpose,
                "kinds": list(found.kinds),
                "exercise": found.exercise,
                "history": found.history,
            }
            for (owner, _), found in sorted(city.streams.items())
            if owner == recipient and reader is not None and not reader.retired
        ]

    def overrides(self) -> list[Row]:
        """Every override that was opened, newest first; persons are counted, not named."""
        with self._log.entries.snapshot() as (connection, end):
            city = self._views.at(connection, end.position).city
            opened = self._views.pointers.events(connection, CITY, end.position, ["override.opened", "override.closed"])
            now = self._log.clock.now()
        rows: dict[str, Row] = {}
        for entry in opened:
            data = entry.event.data
            if entry.event.kind == "override.closed":
                if data["override"] in rows and rows[data["override"]]["until"] > timestamp(entry.recorded_at):
                    rows[data["override"]]["until"] = timestamp(entry.recorded_at)
                continue
            name = data["override"]
            rows[name] = {
                **{
                    part: data[part]
                    for part in ("override", "recipient", "basis", "kinds", "purposes", "reason", "actor")
                },
                "areas": data["areas"] or [],
                "persons_count": len(data["persons"] or ()),
                "since": timestamp(entry.recorded_at),
                "until": timestamp(data["until"]),
                "state": "open" if name in city.overrides and now < data["until"] else "ended",
            }
        return list(rows.values())[::-1]

    def kinds(self) -> list[Row]:
        """Every kind of fact that was introduced, or of which this hub has a schema, by name."""
        with self._log.entries.snapshot() as (connection, end):
            city = self._views.at(connection, end.position).city
        rows = []
        for kind in self._log.schemas:
            if kind.category == "fact":
                terms = city.kinds.get(kind.name)
                rows.append(_kind(kind) | {"introduced": terms is not None})
        return rows

    def places(
        self,
        kind: str,
        *,
        area: str | None = None,
        time: datetime | None = None,
        on: datetime | None = None,
        history: bool = False,
    ) -> list[Row]:
        """The facts of places of a kind (R22), newest of each place first; `time`: as known then.

        area: only those that lie in the area, as far as they say where they are. on: how things stood then, by all
        that is known. history: every one; otherwise without those that a list, once whole, no longer names.
        Raises PayloadError for a kind that is about persons.
        """
        schema = self._log.schemas.newest(kind)
        if schema is None or schema.category != "fact" or schema.about != "place":
            raise PayloadError("is no kind of a place (hazard.reported, shelter.reported)", path="kind")
        with self._log.entries.snapshot() as (connection, end):
            position = end.position if time is None else self._log.position_at(connection, time, end.position)
            standing = self._views.at(connection, end.position, position)
            terms = standing.city.kinds.get(kind)
            if terms is None:
                return []
            if history:
                positions = self._views.facts.of_place(connection, terms, position, by=on)
            else:
                positions = self._views.facts.newest_of_place(connection, terms, position, by=on)
            entries = self._log.read(connection, positions)
            cover = standing.city.cover((area,)) if area else None
        found = [entry for at in positions if isinstance(entry := entries[at], Entry)]
        found = found if history else _still_listed(found)
        return [_place(entry) for entry in found if cover is None or any(map(cover.covers, _codes(entry)))]


def block_id(to: To) -> str:
    """The name of a block: whom it is against."""
    [(name, value)] = _to(to).items()
    return f"{name}:{value}"


def _to(to: To) -> dict[str, str]:
    found = {"recipient": to.recipient, "class": to.class_, "relation": to.relation}
    return {name: value for name, value in found.items() if value is not None}


def _kind(kind: Kind) -> Row:
    return {
        "kind": kind.name,
        "version": kind.version,
        "about": kind.about,
        "ttl_s": kind.ttl_s,
        "latest_by": list(kind.latest_by),
        "roster": kind.roster,
        "summary": sorted(kind.summary),
        "schema": kind.schema,
        "schema_sha256": kind.sha256,
    }


def _still_listed(newest: list[Entry]) -> list[Entry]:
    """Without what stands in a list that has since come out whole without it.

    newest: the newest fact of each place, newest first. An issue of a list is what has one `occurred_at`; it is whole
    where as many places as it counts (`listed`) are known from it or from a later issue. One that is not whole, as
    when a row of it could not be read, ends nothing: nobody knows whom it leaves out.
    """
    issues: dict[Any, dict[Any, list[Entry]]] = {}
    for entry in newest:
        event = entry.event
        if event.data.get("listed") is not None:
            of = (event.source, event.data["list"], event.exercise)
            issues.setdefault(of, {}).setdefault(event.occurred_at, []).append(entry)
    ended: set[int] = set()
    for older in issues.values():
        known, whole = 0, False
        for entries in older.values():
            if whole:
                ended.update(entry.position for entry in entries)
            known += len(entries)
            whole = whole or known >= max(entry.event.data["listed"] for entry in entries)
    return [entry for entry in newest if entry.position not in ended]


def _place(entry: Entry) -> Row:
    event = entry.event
    return {
        "event": event.id,
        "source": event.source,
        "kind": event.kind,
        "occurred_at": None if event.occurred_at is None else timestamp(event.occurred_at),
        "recorded_at": timestamp(entry.recorded_at),
        "exercise": event.exercise,
        "data": plain(event.data),
    }


def _codes(entry: Entry) -> Iterable[str]:
    """The area codes in which the fact says that it lies."""
    data = entry.event.data
    for name in ("areas", "area", "municipality"):
        said: str | Sequence[Any] | None = data.get(name)
        yield from [said] if isinstance(said, str) else _area_names(said or ())
    lat_deg, lon_deg = data.get("lat_deg"), data.get("lon_deg")
    if lat_deg is not None and lon_deg is not None and (square := mesh(lat_deg, lon_deg)):
        yield f"m{square}"


def _area_names(said: Iterable[Any]) -> Iterable[str]:
    for part in said:
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            yield from (value for name, value in part.items() if name in ("area", "code") and isinstance(value, str))
