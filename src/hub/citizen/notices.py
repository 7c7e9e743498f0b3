"""What the person should know: overrides that concern them, what an ended emergency opened, who acted for them.

Derived from the log whenever it is asked for (R1). A report of an emergency says who saw what under it, on which
ground, and what is closed again; a mistaken declaration is told as one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from hub.canonical import timestamp
from hub.events import EPOCH, Entry, control
from hub.log.log import Log
from hub.policy import City, Declaration, Emergency, Grant, Policy
from hub.rules import Place, alerts, mode_of, place_area
from hub.traces import UNKNOWN, Sighting, Traces
from hub.views.policies import CITY
from hub.views.views import Standing, Views

Row = dict[str, Any]

MOST_SIGHTINGS = 1_000
"""Disclosures that a report looks through; `more` says where there were more."""

_BASES = {
    "life_protection": (
        "to protect life (Act on the Protection of Personal Information, art. 27-1-2)",
        "生命の保護のため(個人情報保護法 27条1項2号)",
    ),
    "roster": (
        "by the roster (Basic Act on Disaster Management, art. 49-11-3)",
        "避難行動要支援者名簿による(災害対策基本法 49条の11第3項)",
    ),
}
_ACTS = {
    "consent.granted": ("gave a consent", "同意しました"),
    "consent.revoked": ("withdrew a consent", "同意を撤回しました"),
    "consent.declined": ("declined a request", "求めを断りました"),
    "block.added": ("added a block", "提供停止(遮断)を設定しました"),
    "block.removed": ("removed a block", "提供停止(遮断)を解除しました"),
    "delegation.added": ("named someone who may act for you", "代理人を登録しました"),
    "delegation.ended": ("ended a delegation", "代理を終わらせました"),
    "relation.added": ("recorded a relation", "つながりを登録しました"),
    "relation.ended": ("ended a relation", "つながりを終わらせました"),
    "preferences.changed": ("changed how often you are asked", "尋ねる頻度を変えました"),
}


@dataclass(frozen=True, slots=True)
class _Run:
    """An emergency from its first declaration to its end."""

    emergency: Emergency
    declarations: tuple[Declaration, ...]

    @property
    def since(self) -> datetime:
        return self.declarations[0].recorded_at

    @property
    def ended(self) -> datetime:
        last = self.declarations[-1]
        return last.until if last.lifted_at is None else min(last.until, last.lifted_at)

    @property
    def mistaken(self) -> bool:
        return self.declarations[-1].mistaken


class Notices:
    """The notices of one log."""

    def __init__(self, log: Log, views: Views, traces: Traces) -> None:
        self._log, self._views, self._traces = log, views, traces

    def of(self, person: str, ordinal: int, *, located: bool) -> list[Row]:
        """Everything that the person should know, newest first. located: whether where the person was counts."""
        with self._log.entries.snapshot() as (connection, end):
            now = self._log.clock.now()
            now = now if end.recorded_at is None else max(now, end.recorded_at)
            looking = _Looking(self._log, self._views, connection, end.position, ordinal, located=located)
            own = self._views.pointers.events(connection, ordinal, end.position)
            rows = [*_acts(own, person), *_overrides(looking, own, now)]
            runs = [(run, looking.span(run), *looking.stood(run)) for run in _runs(looking.emergencies(), now)]
        for run, (after, before), covered, closed in runs:
            found = self._traces.of_person(person, after=after, before=before, limit=MOST_SIGHTINGS)
            seen = [s for s in found if s.mode in ("emergency", UNKNOWN) and not s.counted]
            if covered or seen:
                rows.append(_report(run, closed, seen, len(found) == MOST_SIGHTINGS))
        return sorted(rows, key=lambda row: (row["since"], row["notice"]), reverse=True)


def _overrides(looking: _Looking, own: Sequence[Entry], now: datetime) -> Iterator[Row]:
    opened: dict[str, tuple[Entry, datetime]] = {}
    for entry in looking.said:
        name = str(entry.event.data.get("override"))
        if entry.event.kind == "override.opened":
            opened[name] = entry, entry.event.data["until"]
        elif entry.event.kind == "override.closed" and name in opened:
            opened[name] = opened[name][0], min(opened[name][1], entry.recorded_at)
    for name, (entry, until) in opened.items():
        data = entry.event.data
        later = [said.position for said in own if said.position > entry.position and said.recorded_at < until]
        if not any(looking.concerned(entry, position) for position in (entry.position, *later)):
            continue
        english, japanese = _BASES[data["basis"]]
        yield {
            "notice": f"override:{name}",
            "type": "override",
            "since": timestamp(entry.recorded_at),
            "until": timestamp(until),
            "over": now >= until,
            "recipient": data["recipient"],
            "actor": data["actor"],
            "basis": data["basis"],
            "reason": data["reason"],
            "kinds": data["kinds"],
            "purposes": data["purposes"],
            "text": f"{data['recipient']} may look at your data without your consent, {english}: {data['reason']}",
            "text_ja": f"{data['recipient']}が、あなたの同意によらずデータを見ることができます。"
            f"根拠は{japanese}。理由: {data['reason']}",
        }


class _Looking:
    """One person, looked at as things stood at several positions. The city is folded once, outside any lock.

    said: what was said of the city, in order.
    """

    def __init__(
        self, log: Log, views: Views, connection: Connection, end: int, ordinal: int, *, located: bool
    ) -> None:
        self._log, self._views, self._ordinal, self._located = log, views, ordinal, located
        self._connection, self._end = connection, end
        self._name = views.persons.digest_of(ordinal).hex()
        self.said = views.pointers.events(connection, CITY, end)
        city = City()
        self._cities = [city]
        for entry in self.said:
            city = city.apply(control(entry.event), entry.position, entry.recorded_at)  # type: ignore[arg-type]
            self._cities.append(city)
        self._positions = [entry.position for entry in self.said]

    def emergencies(self) -> Iterable[Emergency]:
        """Every emergency there ever was."""
        return self._cities[-1].emergencies.values()

    def _city(self, position: int) -> City:
        return self._cities[bisect_right(self._positions, position)]

    def _standing(self, position: int) -> tuple[Standing, Policy, Place | None] | None:
        if not self._views.persons.enrolled_by(self._ordinal, position):
            return None
        standing = Standing(self._views, self._connection, position, self._end, self._city(position))
        policy = standing.policies([self._ordinal])[self._ordinal]
        place = standing.places([self._ordinal]).get(self._ordinal) if self._located else None
        return standing, policy, place

    def _position(self, time: datetime) -> int:
        return self._log.position_at(self._connection, time, self._end)

    def stood(self, run: _Run) -> tuple[bool, list[Grant] | None]:
        """Whether the run covered the person when one of its declarations was made, or just before its end.

        Also the grants that reached into the emergency and not beyond; None where another one went on.
        """
        last = run.declarations[-1]
        moments = [(self._position(d.recorded_at), d.areas, d.recorded_at) for d in run.declarations]
        moments.append((self._position(run.ended) - (last.lifted_at is not None), last.areas, run.ended))
        covered = any(
            (found := self._standing(position)) is not None and _covered(found, areas, time)
            for position, areas, time in moments
        )
        after = self._standing(self._position(run.ended))
        if after is None:
            return covered, []
        standing, policy, place = after
        if mode_of(policy, standing.city, place, run.ended) == "emergency":
            return covered, None
        return covered, [g for g in policy.grants.values() if "emergency" in g.modes and "normal" not in g.modes]

    def span(self, run: _Run) -> tuple[int, int]:
        """The positions between which the run's disclosures stand."""
        return max(self._position(run.since) - 1, 0), self._position(run.ended) + 1

    def concerned(self, opened: Entry, position: int) -> bool:
        """Whether an override was for the person at `position`: listed, or on the roster in its areas (R14)."""
        data = opened.event.data
        listed = self._name in (data["persons"] or ())
        reader = self._city(position).recipients.get(data["recipient"])
        right = reader is not None and not reader.retired and data["basis"] in reader.overrides
        if not right or reader is None or not (listed or data["basis"] == "roster"):
            return False
        found, time = self._standing(position), self._log.recorded_at(self._connection, position)
        if found is None or time is None or (data["basis"] == "roster" and not found[1].on_roster):
            return False
        own = tuple(area for area in reader.areas if area != "*")
        near = "*" in reader.areas or _covered(found, own, time)
        return listed or (near and _covered(found, tuple(data["areas"] or ()), time))


def _covered(found: tuple[Standing, Policy, Place | None], areas: tuple[str, ...], time: datetime) -> bool:
    standing, policy, place = found
    area = place_area(place, time, alerts(standing.city, time, exercise=False))
    cover = standing.city.cover(areas)
    return any(map(cover.covers, policy.areas if area is None else (*policy.areas, area)))


def _runs(emergencies: Iterable[Emergency], now: datetime) -> list[_Run]:
    """The real emergencies that are over, by run."""
    found = []
    for emergency in emergencies:
        if emergency.exercise:
            continue
        runs: list[list[Declaration]] = []
        for declared in emergency.declarations:
            if runs and runs[-1][-1].continued_by(declared):
                runs[-1].append(declared)
            else:
                runs.append([declared])
        found += [_Run(emergency, tuple(run)) for run in runs]
    return [run for run in found if run.ended <= now]


def _report(run: _Run, closed: Sequence[Grant] | None, seen: Sequence[Sighting], more: bool) -> Row:
    """closed: None where another emergency went on for the person."""
    hazard, count = run.declarations[-1].hazard, len({sighting.recipient for sighting in seen})
    if run.mistaken:
        text = f"An emergency ({hazard}) was declared by mistake and undone."
        text_ja = f"有事({hazard})が誤って宣言され、取り消されました。"
    else:
        text = f"The emergency ({hazard}) is over."
        text_ja = f"有事({hazard})は終わりました。"
    text += " Another one goes on." if closed is None else " What it opened is closed."
    text_ja += "別の有事が続いています。" if closed is None else "そのために開かれたものは閉じました。"
    text += f" {count or 'No'} recipient{'' if count == 1 else 's'} saw data of yours."
    text_ja += (
        f"その間に{count}件の提供先があなたのデータを見ました。"
        if count
        else "その間にあなたのデータを見た提供先はありません。"
    )
    return {
        "notice": f"emergency:{run.emergency.id}:{run.since.timestamp():.6f}",
        "type": "mistake" if run.mistaken else "report",
        "since": timestamp(max(run.ended, EPOCH)),
        "emergency": run.emergency.id,
        "hazard": hazard,
        "began": timestamp(run.since),
        "alone": any(declared.alone for declared in run.declarations),
        "seen": _seen(seen),
        "more": more,
        "continues": closed is None,
        "closed": [{"grant": g.id, "kinds": list(g.kinds), "purposes": list(g.purposes)} for g in closed or ()],
        "text": text,
        "text_ja": text_ja,
    }


def _seen(sightings: Sequence[Sighting]) -> list[Row]:
    """Who saw what, on which ground: each once, with how often and when."""
    found: dict[tuple[str, str, str, str, str, str], Row] = {}
    for sighting in reversed(sightings):
        for shown in sighting.kinds:
            key = sighting.recipient, sighting.purpose, shown.kind, shown.level, shown.basis_type, shown.basis
            row = found.setdefault(
                key,
                {
                    "recipient": sighting.recipient,
                    "purpose": sighting.purpose,
                    "kind": shown.kind,
                    "precision": shown.level,
                    "basis": {shown.basis_type: shown.basis},
                    "times": 0,
                    "first": timestamp(sighting.time),
                },
            )
            row["times"] += 1
            row["last"] = timestamp(sighting.time)
    return list(found.values())


def _acts(entries: Iterable[Entry], person: str) -> Iterator[Row]:
    """What others did for the person: delegates, and an operator."""
    for entry in entries:
        by = entry.event.data.get("by")
        if by in (None, person) or entry.event.kind not in _ACTS:
            continue
        english, japanese = _ACTS[entry.event.kind]
        yield {
            "notice": f"act:{entry.event.id}",
            "type": "act",
            "since": timestamp(entry.recorded_at),
            "by": by,
            "kind": entry.event.kind,
            "text": f"{by} {english}, for you.",
            "text_ja": f"{by}が、あなたに代わって{japanese}。",
        }
