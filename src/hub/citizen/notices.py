"""What the person should know: overrides that concern them, what an ended emergency opened, who acted for them.

Derived from the log whenever it is asked for (R1). A report of an emergency says who saw what under it, on which
ground, and what is closed again; a mistaken declaration is told as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from hub.canonical import timestamp
from hub.events import EPOCH, Entry
from hub.log.log import Log
from hub.policy import Declaration, Emergency, Grant, Policy
from hub.rules import Place, alerts, place_area
from hub.traces import Sighting, Traces
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
    "block.added": ("added a block", "遮断を加えました"),
    "block.removed": ("removed a block", "遮断を外しました"),
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

    def of(self, person: str, ordinal: int) -> list[Row]:
        """Everything that the person should know, newest first."""
        with self._log.entries.snapshot() as (connection, end):
            now = self._log.clock.now()
            now = now if end.recorded_at is None else max(now, end.recorded_at)
            looking = _Looking(self._log, self._views, connection, end.position, ordinal)
            own = self._views.pointers.events(connection, ordinal, end.position)
            rows = [*_acts(own, person), *self._overrides(looking, now)]
            runs = [(run, looking.grants_closed(run)) for run in _runs(looking.city_now(), now) if looking.covered(run)]
            spans = [looking.span(run) for run, _ in runs]
        for (run, closed), (after, before) in zip(runs, spans, strict=True):
            seen = self._traces.of_person(person, after=after, before=before, limit=MOST_SIGHTINGS)
            rows.append(_report(run, closed, [s for s in seen if s.mode == "emergency"], len(seen) == MOST_SIGHTINGS))
        return sorted(rows, key=lambda row: (row["since"], row["notice"]), reverse=True)

    def _overrides(self, looking: _Looking, now: datetime) -> Iterator[Row]:
        kinds = ["override.opened", "override.closed"]
        entries = self._views.pointers.events(looking.connection, CITY, looking.end, kinds)
        closed = {e.event.data["override"]: e.recorded_at for e in reversed(entries) if e.event.kind == kinds[1]}
        for entry in entries:
            data = entry.event.data
            if entry.event.kind != kinds[0] or not looking.concerned(entry):
                continue
            until = min(data["until"], closed.get(data["override"], data["until"]))
            english, japanese = _BASES[data["basis"]]
            yield {
                "notice": f"override:{data['override']}",
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
    """One person, looked at as things stood at several positions."""

    def __init__(self, log: Log, views: Views, connection: Connection, end: int, ordinal: int) -> None:
        self._log, self._views, self._ordinal = log, views, ordinal
        self.connection, self.end = connection, end

    def city_now(self) -> Iterable[Emergency]:
        return self._views.at(self.connection, self.end).city.emergencies.values()

    def _at(self, time: datetime) -> tuple[Standing, Policy, Place | None] | None:
        position = self._log.position_at(self.connection, time, self.end)
        return self._standing(position)

    def _standing(self, position: int) -> tuple[Standing, Policy, Place | None] | None:
        if not self._views.persons.enrolled_by(self._ordinal, position):
            return None
        standing = self._views.at(self.connection, self.end, position)
        policy = standing.policies([self._ordinal])[self._ordinal]
        return standing, policy, standing.places([self._ordinal]).get(self._ordinal)

    def covered(self, run: _Run) -> bool:
        """Whether the run covered the person when one of its declarations was made, or just before its end."""
        for declared in run.declarations:
            found = self._at(declared.recorded_at)
            if found is not None and self._codes_covered(found, declared.areas, declared.recorded_at):
                return True
        last = run.declarations[-1]
        position = self._log.position_at(self.connection, run.ended, self.end) - (last.lifted_at is not None)
        found = self._standing(position)
        return found is not None and self._codes_covered(found, last.areas, run.ended)

    def _codes_covered(
        self, found: tuple[Standing, Policy, Place | None], areas: tuple[str, ...], time: datetime
    ) -> bool:
        standing, policy, place = found
        area = place_area(place, time, alerts(standing.city, time, exercise=False))
        cover = standing.city.cover(areas)
        return any(map(cover.covers, policy.areas if area is None else (*policy.areas, area)))

    def grants_closed(self, run: _Run) -> list[Grant]:
        """The person's grants that reached into the emergency and not beyond it, as they stood at its end."""
        found = self._at(run.ended)
        grants = found[1].grants.values() if found is not None else ()
        return [g for g in grants if "emergency" in g.modes and "normal" not in g.modes]

    def span(self, run: _Run) -> tuple[int, int]:
        """The positions between which the run's disclosures stand."""
        after = self._log.position_at(self.connection, run.since, self.end) - 1
        return max(after, 0), self._log.position_at(self.connection, run.ended, self.end) + 1

    def concerned(self, entry: Entry) -> bool:
        """Whether an override was, when it was opened, for the person: listed, or on the roster in its areas (R14)."""
        found = self._standing(entry.position)
        if found is None:
            return False
        standing, policy, place = found
        data = entry.event.data
        if policy.listed_as in (data["persons"] or ()):
            return True
        if data["basis"] != "roster" or not policy.on_roster:
            return False
        return self._codes_covered((standing, policy, place), tuple(data["areas"] or ()), entry.recorded_at)


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


def _report(run: _Run, closed: Sequence[Grant], seen: Sequence[Sighting], more: bool) -> Row:
    hazard, count = run.emergency.hazard, len({sighting.recipient for sighting in seen})
    saw = f"{count} recipient{'' if count == 1 else 's'} saw data of yours."
    if run.mistaken:
        text = f"An emergency ({hazard}) was declared by mistake and undone. {saw}"
        text_ja = (
            f"有事({hazard})が誤って宣言され、取り消されました。その間に{count}件の提供先があなたのデータを見ました。"
        )
    else:
        text = f"The emergency ({hazard}) is over, what it opened is closed. {saw}"
        text_ja = (
            f"有事({hazard})は終わり、そのために開かれたものは閉じました。"
            f"その間に{count}件の提供先があなたのデータを見ました。"
        )
    number = f"{run.since.timestamp():.6f}"
    return {
        "notice": f"emergency:{run.emergency.id}:{number}",
        "type": "mistake" if run.mistaken else "report",
        "since": timestamp(max(run.ended, EPOCH)),
        "emergency": run.emergency.id,
        "hazard": hazard,
        "began": timestamp(run.since),
        "alone": any(declared.alone for declared in run.declarations),
        "seen": _seen(seen),
        "more": more,
        "closed": [{"grant": g.id, "kinds": list(g.kinds), "purposes": list(g.purposes)} for g in closed],
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
    """What delegates did in the person's name."""
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
            "text": f"{by} {english} in your name.",
            "text_ja": f"{by}が、あなたの代理で{japanese}。",
        }
