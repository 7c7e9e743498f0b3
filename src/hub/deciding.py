"""What a recipient may see, decided: the one path for live and past, for answers, feeds, figures and traces.

    standing at (d, t) -> who could be shown -> policy and place of each -> permits by kind -> items

Nothing is appended here. Equal standing, query and time give equal bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from hub import areas
from hub.answer import Answer, Item, Query, Shown, body_of, scope, uses_of
from hub.areas import Cover
from hub.canonical import text, timestamp
from hub.errors import PayloadError
from hub.events import LOCATION, Entry, Event, Mode, Position
from hub.log.log import Closed, Log
from hub.log.sealing import CITY
from hub.rules import LOST, Basis, Decision, Moment, Opening, Permit, Reading, lasting, levels_of
from hub.views.views import Standing, Views

_AT_ONCE = 1_000
_KEPT_QUEUES = 16


class Telling(NamedTuple):
    """So many facts of one kind that are shown alike: at one level, on one basis."""

    kind: str
    level: str
    basis: Basis
    items: int


class Seen(NamedTuple):
    """One fact that is visible: its payload as it would be shown, at which level, and when it took effect."""

    kind: str
    level: str
    data: Mapping[str, Any]
    effective_at: datetime


class Deciding:
    """Decides on one log."""

    def __init__(self, log: Log, views: Views) -> None:
        self._log, self._views = log, views
        self._queues: dict[tuple[str, str], tuple[int, list[tuple[str, int]]]] = {}

    def decide(self, standing: Standing, query: Query, time: datetime) -> Answer:
        """The answer to `query` at `standing` and `time`, appending nothing. One path for live and past.

        Raises PayloadError for a cursor that is not of this query, or ends with someone who is gone.
        """
        moment = Moment(position=Position(standing.position), time=time)
        reading = Reading(standing.city, query.ask, moment)
        limit = query.limit if query.limit is not None else 2**62
        after = self._after(standing, query)
        shown: list[Shown] = []
        queue = self._queue(standing, reading, query)
        begin = bisect_right(queue, (after, 2**62)) if after is not None else 0
        size, destroyed = min(_AT_ONCE, limit + 1), 0
        for at in range(begin, len(queue), size):
            some, missing = self._decide_some(standing, reading, query, queue[at : at + size])
            shown, destroyed = shown + some, destroyed + missing
            if len(shown) > limit:
                break
        following = self.cursor(query, shown[limit - 1].ordinal) if len(shown) > limit else None
        shown = shown[:limit]
        body = body_of(query, shown, time, following)
        return Answer(body=body, persons=shown, moment=moment, uses=uses_of(shown), destroyed=destroyed)

    def _queue(self, standing: Standing, reading: Reading, query: Query) -> list[tuple[str, int]]:
        """All who could be shown, by id; kept for the next page until a control event about someone comes."""
        reader, persons, since = reading.reader, self._views.persons, self._views.persons_since
        whole = query.persons is None and not reading.overrides and not reading.refusal
        key = (reader.id, reader.class_) if whole and reader is not None else None
        kept = self._queues.get(key) if key and since <= standing.position else None
        if kept is not None and kept[0] == since:
            return kept[1]
        names = persons.names(standing.connection, self.candidates(standing, reading, query))
        queue = sorted((name, ordinal) for ordinal, name in names.items())
        if key and since <= standing.position and self._views.persons_since == since:
            if len(self._queues) >= _KEPT_QUEUES:
                self._queues.clear()
            self._queues[key] = since, queue
        return queue

    def candidates(
        self, standing: Standing, reading: Reading, query: Query, ordinals: range | None = None
    ) -> list[int]:
        """Ordinals of all who could be shown, or of those in a range; the rules decide on each."""
        reader, persons = reading.reader, self._views.persons
        if reader is None or reading.refusal:
            return []
        if query.persons is not None:
            named = (persons.ordinal_of(bytes.fromhex(name)) for name in query.persons)
            found = {ordinal for ordinal in named if ordinal is not None}
        else:
            roster = any(override.basis == "roster" for override in reading.overrides)
            found = self._views.candidates(standing, reader.id, reader.class_, roster=roster, ordinals=ordinals)
            listed = (name for override in reading.overrides for name in override.persons)
            found |= {o for name in listed if (o := persons.ordinal_of(bytes.fromhex(name))) is not None}
        among = found if ordinals is None else filter(ordinals.__contains__, found)
        return [ordinal for ordinal in among if persons.enrolled_by(ordinal, standing.position)]

    def _decide_some(
        self, standing: Standing, reading: Reading, query: Query, queue: Sequence[tuple[str, int]]
    ) -> tuple[list[Shown], int]:
        """Who is shown, and how much of it is destroyed."""
        permitted, destroyed = self._permitted(standing, reading, query, [ordinal for _, ordinal in queue])
        wanted = (
            permit.fact.position for _, kinds in permitted.values() for found in kinds.values() for permit in found
        )
        entries = self._log.read(standing.connection, wanted)
        destroyed += sum(map(_is_destroyed, entries.values()))
        shown = []
        for name, ordinal in queue:
            if ordinal not in permitted:
                continue
            mode, kinds = permitted[ordinal]
            items = [
                Item(permit=permit, entry=entry, json=self._item(entry, permit))
                for found in kinds.values()
                for permit in found
                if isinstance(entry := entries[permit.fact.position], Entry)
            ]
            if items:
                shown.append(Shown(ordinal=ordinal, person=name, mode=mode, items=items))
        if query.area is None:
            return shown, destroyed
        cover = standing.city.cover((query.area,))
        return [person for person in shown if any(_lies_in(cover, item) for item in person.items)], destroyed

    def lasting(
        self,
        standing: Standing,
        query: Query,
        time: datetime,
        missed: Callable[[int], None],
        ordinals: range | None = None,
    ) -> Iterator[tuple[int, tuple[str, ...], list[Seen]]]:
        """What grants that last show to `query`, person by person: ordinal, areas of residence, facts (R20).

        Persons in the order of enrolment; of whom nothing is shown so, nothing comes. missed: told of how many items,
        and places that decide a mode, are destroyed, as in `Answer`. ordinals: only these; None for everyone.
        """
        reading = Reading(standing.city, query.ask, Moment(position=Position(standing.position), time=time))
        queue = sorted(self.candidates(standing, reading, query, ordinals))
        for at in range(0, len(queue), _AT_ONCE):
            part = queue[at : at + _AT_ONCE]
            permitted, destroyed = self._permitted(standing, reading, query, part, counting=True)
            wanted = [
                (o, kind, p) for o, (_, kinds) in permitted.items() for kind, found in kinds.items() for p in found
            ]
            entries = self._log.read(standing.connection, (permit.fact.position for _, _, permit in wanted))
            missed(destroyed + sum(map(_is_destroyed, entries.values())))
            seen: dict[int, list[Seen]] = {}
            for ordinal, kind, permit in wanted:
                entry = entries[permit.fact.position]
                if isinstance(entry, Entry):
                    data = self._data(entry.event, permit.level)
                    seen.setdefault(ordinal, []).append(Seen(kind, permit.level, data, entry.effective_at))
            policies = standing.policies(list(seen))
            for ordinal, facts in seen.items():
                yield ordinal, policies[ordinal].areas, facts

    def tellings(
        self, standing: Standing, query: Query, time: datetime, ordinals: Iterable[int], *, counting: bool = False
    ) -> dict[int, tuple[Mode, tuple[Telling, ...]]]:
        """What of these persons is shown to `query` at `standing` and `time`, by ordinal; no payload is told.

        They are taken as chosen: the query's persons, area and page are not asked for again. Of someone who
        is erased there is nothing. A fact whose payload was destroyed since counts as one that was shown.
        counting: only what grants that last show, as for statistics.
        """
        reading = Reading(standing.city, query.ask, Moment(position=Position(standing.position), time=time))
        present = [o for o in ordinals if self._views.persons.enrolled_by(o, standing.position)]
        permitted, _ = self._permitted(standing, reading, query, present, counting=counting)
        return {o: (mode, _tellings(kinds)) for o, (mode, kinds) in permitted.items()}

    def _permitted(
        self, standing: Standing, reading: Reading, query: Query, ordinals: Sequence[int], *, counting: bool = False
    ) -> tuple[dict[int, tuple[Mode, dict[str, list[Permit]]]], int]:
        """The mode of each person of whom something is shown, and what is shown by kind, in the order of their names.

        Also how many places that may decide a mode were destroyed.
        """
        policies = standing.policies(ordinals)
        places = standing.places(ordinals) if reading.needs_places else {}
        spent = standing.spent(policies.items())
        decided: dict[int, Decision] = {}
        asked: dict[str, list[int]] = {}
        for ordinal in ordinals:
            decision = reading.decide(policies[ordinal], places.get(ordinal), spent)
            if counting and decision is not None:
                decision = lasting(decision)
            if decision is not None:
                decided[ordinal] = decision
                for kind in reading.open_kinds(decision):
                    asked.setdefault(kind, []).append(ordinal)
        permitted: dict[int, tuple[Mode, dict[str, list[Permit]]]] = {}
        for kind in sorted(asked):
            open_to = {o: levels for o in asked[kind] if (levels := reading.permits(decided[o], kind))}
            for ordinal, permits in self._permits(standing, reading, query, open_to, kind).items():
                permitted.setdefault(ordinal, (decided[ordinal].mode, {}))[1][kind] = permits
        return permitted, sum(map(reading.misses, places.values()))

    def _permits(
        self,
        standing: Standing,
        reading: Reading,
        query: Query,
        open_to: Mapping[int, Sequence[tuple[str, Opening]]],
        kind: str,
    ) -> dict[int, list[Permit]]:
        """What is shown of one kind, by person: newest first; without `history` the newest of each variant."""
        terms, exercise = standing.city.kinds[kind], reading.ask.exercise
        facts, connection = self._views.facts, standing.connection
        short = not query.history and not terms.latest_by
        asked = connection, list(open_to), terms, exercise, standing.position
        rows = facts.newest(*asked, ends=self._ends(kind)) if short else facts.history(*asked)
        finest = levels_of(kind)[0]
        coarse = [o for o in rows if kind == LOCATION and any(level != finest for level, _ in open_to[o])]
        meshes = self._views.meshes(connection, [row.position for o in coarse for row in rows[o]])
        if short and None in meshes.values():
            # outside the grid an older location may be the newest that is visible (R10)
            off = [o for o in coarse if meshes[rows[o][0].position] is None]
            rows |= facts.history(connection, off, terms, exercise, standing.position)
            meshes |= self._views.meshes(connection, [row.position for o in off for row in rows[o]])
        shown = {}
        for ordinal, found in rows.items():
            facts_of = found if query.history else reading.current(found)
            permits = reading.shown(open_to[ordinal], kind, facts_of, lambda position: meshes[position] is not None)
            if permits:
                shown[ordinal] = permits if query.history else _newest(permits)
        return shown

    def _ends(self, kind: str) -> bool:
        """Whether facts of the kind may carry their own end."""
        schema = self._log.schemas.newest(kind)
        return schema is not None and schema.ends

    def _item(self, entry: Entry, permit: Permit) -> str:
        event = entry.event
        occurred = "null" if event.occurred_at is None else f'"{timestamp(event.occurred_at)}"'
        return (  # canonical: the names in their order
            f'{{"basis":{{"{permit.basis.type}":{text(permit.basis.id)}}},'
            f'"data":{text(self._data(event, permit.level))},"event":{text(event.id)},"kind":"{event.kind}",'
            f'"occurred_at":{occurred},"precision":"{permit.level}",'
            f'"recorded_at":"{timestamp(entry.recorded_at)}","source":{text(event.source)}}}'
        )

    def _data(self, event: Event, level: str) -> Mapping[str, Any]:
        """The payload at a level (R9a); options that the source left out stay out."""
        if event.kind == LOCATION and level != "exact":
            # the rules let no point without a square through at these levels (R10)
            code = (areas.mesh(event.data["lat_deg"], event.data["lon_deg"]) or "")[: areas.MESH_DIGITS[level]]
            lat_deg, lon_deg = areas.centre(code)
            return {"mesh": code, "lat_deg": lat_deg, "lon_deg": lon_deg}
        kept = event.data
        if level == "summary":
            kind = self._log.schemas.newest(event.kind)
            kept = {name: value for name, value in kept.items() if kind is not None and name in kind.summary}
        return _without_null(kept)  # type: ignore[no-any-return]

    def cursor(self, query: Query, last: int) -> str:
        """Where the next page begins: the last person's digest, sealed; equal for equal queries (R20).

        It is logged with the next page's query, so that it must not hold an id that may be erased.
        """
        digest = self._views.persons.digest_of(last)
        return AESSIV(self._log.keyring.secret(CITY, "cursor")).encrypt(digest, [scope(query)]).hex()

    def _after(self, standing: Standing, query: Query) -> str | None:
        """The id that the page before ended with."""
        if query.cursor is None:
            return None
        try:
            sealed = bytes.fromhex(query.cursor)
            digest = AESSIV(self._log.keyring.secret(CITY, "cursor")).decrypt(sealed, [scope(query)])
        except (ValueError, InvalidTag):
            raise PayloadError("is not the `next` of this query; ask again without it", path="cursor") from None
        last = self._views.persons.ordinal_of(digest)
        names = self._views.persons.names(standing.connection, [] if last is None else [last])
        if not names:
            raise PayloadError("ends with someone who is gone; ask again without it", path="cursor")
        return names[last] if last is not None else None


def _is_destroyed(entry: Entry | Closed) -> bool:
    return isinstance(entry, Closed) and entry.reason == "retention ended"


def _tellings(kinds: Mapping[str, Sequence[Permit]]) -> tuple[Telling, ...]:
    counts = Counter((kind, permit.level, permit.basis) for kind, found in kinds.items() for permit in found)
    return tuple(Telling(*alike, count) for alike, count in sorted(counts.items()))


def _newest(permits: Sequence[Permit]) -> list[Permit]:
    """The first of each variant; nothing behind one that was destroyed, whose variant nobody knows any more."""
    first: dict[int, Permit] = {}
    for permit in permits:
        first.setdefault(permit.fact.variant, permit)
        if permit.fact.variant == LOST:
            break
    return list(first.values())


def _lies_in(cover: Cover, item: Item) -> bool:
    """Whether a location, as exactly as it is shown, lies in what is covered: nothing beyond the answer is told."""
    data, level = item.entry.event.data, item.permit.level
    if item.entry.event.kind != LOCATION:
        return False
    square = areas.mesh(data["lat_deg"], data["lon_deg"])
    return square is not None and cover.covers(f"m{square[: areas.MESH_DIGITS.get(level, 10)]}")


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_null(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_null(part) for part in value]
    return value
