"""Which hazards declare an emergency: what a report of a chain changes, by the operator's policy.

    reports of the chain --> what they warrant now --+
                                                     +--> what the hub appends, in the same transaction
    the emergency as it stands, officers included ---+

Pure. An emergency is of one hazard and one chain of reports (JMA's EventID; a forecast area's warnings). What a
chain warrants is what its newest report says of municipalities, newest by report time and then serial, never by
arrival: so a late one changes nothing newer, and any order of arrival ends in the same state. Only a report from
the future has the time of its arrival (`heard`). Reports that name no municipality (VXSE51) say nothing here and
undo nothing; a cancellation (取消) takes back the reports of its own type up to it. What is not actual (訓練, 試験)
is left out altogether. So of a chain that never ends two
reports of each type count (`turn`), however long it is.

A lease ends with the report's own `valid_until`, where that is earlier. Which telegram's end is one of its warning is
the connector's to know: what it tells as `valid_until`, counts here.

An officer's hand stays. A report changes the emergency only by what it changes in what the chain
warrants: a municipality that an officer took out, by lifting or by declaring again without it, comes
back only when a report newly warrants it, having not warranted it before; one that an officer added
stays until an officer ends it; one that was confirmed stays while it is warranted at all. A later
`until` set by hand stays; an earlier one gives way to the next report, as lifting is what ends it. All that ends
with the lease: a report after it begins anew, with what it warrants itself.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from hub.errors import Misuse

KIND = "hazard.reported"

_WARNINGS = frozenset(("0", "1", "2", "3", "4", "5"))
SCALES: Mapping[str, frozenset[str]] = {
    "earthquake": frozenset(("0", "1", "2", "3", "4", "5-", "5-?", "5+", "6-", "6+", "7")),
    "cap": frozenset(("extreme-immediate", "extreme", "severe", "moderate", "minor", "unknown", "none")),
    "volcano": _WARNINGS | {"eruption"},
    **dict.fromkeys(
        ("tsunami", "heavy_rain", "landslide", "flood", "storm", "snow", "waves", "surge", "weather"), _WARNINGS
    ),
}
"""The levels that each hazard's reports can have, so that `5強` in a policy is an error, not a silence.

`eruption` is 噴火速報, which has no level yet. `weather`: advisories on thunder, fog and the like. `cap`: an alert of
the Common Alerting Protocol, whatever its hazard; `extreme-immediate` is what is Extreme, Observed or Likely, and
Immediate.
"""

_KEYS = ("sources", "declares", "proposes", "lease_h")
_MAX_LEASE_H = 720
_ID_LENGTH = 200
_ACTIONS = ("issued", "amended", "lifted", "cancelled")
_LAST_SERIAL = 10**9
_AHEAD = timedelta(hours=1)
"""How far a source's clock may be before ours; JMA's report times are whole minutes, now and then the next one."""

Concluded = tuple[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What the policy says of one hazard as these sources report it; the fields are those of the file."""

    sources: frozenset[str]
    declares: frozenset[str]
    proposes: frozenset[str]
    lease: timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class HazardPolicy:
    """The policy file, read. `sha256` is of its bytes, in lower-case hexadecimal."""

    sha256: str
    hazards: Mapping[str, Sequence[Terms]]

    def terms(self, hazard: str, source: str) -> Terms | None:
        """What counts for a hazard of one source; None where the file does not name them."""
        return next((terms for terms in self.hazards.get(hazard, ()) if source in terms.sources), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One `hazard.reported` as the log has it, or is about to.

    data: by the kind's schema; times are aware. source and id: the event's.
    """

    data: Mapping[str, Any]
    source: str
    id: str
    exercise: bool = False


def heard(report: Report, recorded_at: datetime) -> Report:
    """The report as it counts in its chain: one from the future is of the time at which it was recorded.

    Else a single wrong date would be the newest of a chain that never ends, and no true warning would declare again.
    """
    if report.data["reported_at"] <= recorded_at + _AHEAD:
        return report
    return replace(report, data={**report.data, "reported_at": recorded_at, "sent_at": None})


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """An emergency as all events about its id have left it, officers' included.

    areas, until: of the latest declaration, its lease being over or not; empty and None where it was
    lifted since, or never declared. proposed: of a proposal that still waits for an officer; empty once a
    declaration, lifting or rejection followed it.
    """

    areas: tuple[str, ...] = ()
    until: datetime | None = None
    proposed: tuple[str, ...] = ()
    exercise: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Warranted:
    """What a chain's reports come to: municipalities by what the policy does about them.

    ends_itself: whether `until` is the end that the report says, earlier than its lease.
    """

    declares: frozenset[str] = frozenset()
    proposes: frozenset[str] = frozenset()
    until: datetime | None = None
    ends_itself: bool = False

    @property
    def all(self) -> frozenset[str]:
        return self.declares | self.proposes


_NOTHING = _Warranted()


def load(text: bytes) -> HazardPolicy:
    """The policy that the file's bytes say. Raises Misuse with the path of the key that is wrong."""
    try:
        said = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misuse(f"hazard policy: is no TOML in UTF-8: {error}") from None
    _only(said, ("hazards",), "")
    hazards = said.get("hazards")
    if not isinstance(hazards, dict):
        raise _wrong("hazards", "is missing, or is no table")
    terms = {name: _hazard_terms(said, name) for name, said in hazards.items()}
    return HazardPolicy(sha256=hashlib.sha256(text).hexdigest(), hazards=terms)


def _hazard_terms(said: object, name: str) -> tuple[Terms, ...]:
    """Of one table, or of several that name other sources."""
    path = f"hazards.{name}"
    if name not in SCALES:
        raise _wrong(path, f"is no hazard that declares; known: {', '.join(sorted(SCALES))}")
    if not isinstance(said, list):
        return (_terms(said, name, path),)
    terms: list[Terms] = []
    for index, table in enumerate(said):
        found = _terms(table, name, f"{path}[{index}]")
        if any(found.sources & other.sources for other in terms):
            raise _wrong(f"{path}[{index}].sources", "names a source that stands in a table before it")
        terms.append(found)
    return tuple(terms)


def _terms(table: object, name: str, path: str) -> Terms:
    if not isinstance(table, dict):
        raise _wrong(path, "is no table")
    _only(table, _KEYS, f"{path}.")
    sources, declares, proposes = (_texts(table, key, path) for key in ("sources", "declares", "proposes"))
    for key, levels in (("declares", declares), ("proposes", proposes)):
        for index, level in enumerate(levels):
            if level not in SCALES[name]:
                raise _wrong(f"{path}.{key}[{index}]", f"is none of {', '.join(sorted(SCALES[name]))}")
            if key == "proposes" and level in declares:
                raise _wrong(f"{path}.{key}[{index}]", "stands in declares too")
    lease_h = table.get("lease_h")
    if isinstance(lease_h, bool) or not isinstance(lease_h, int) or not 1 <= lease_h <= _MAX_LEASE_H:
        raise _wrong(f"{path}.lease_h", f"is no whole number from 1 to {_MAX_LEASE_H}")
    return Terms(
        sources=frozenset(sources),
        declares=frozenset(declares),
        proposes=frozenset(proposes),
        lease=timedelta(hours=lease_h),
    )


def _texts(table: Mapping[str, object], key: str, path: str) -> list[str]:
    values = table.get(key)
    if not isinstance(values, list):
        raise _wrong(f"{path}.{key}", "is missing, or is no list")
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise _wrong(f"{path}.{key}[{index}]", "is no text")
    return values


def _only(table: Mapping[str, object], known: Sequence[str], prefix: str) -> None:
    for key in table:
        if key not in known:
            raise _wrong(prefix + key, f"is no key of the policy; known: {', '.join(known)}")


def _wrong(path: str, reason: str) -> Misuse:
    return Misuse(f"hazard policy: {path}: {reason}")


def emergency_id(report: Report) -> str:
    """The id of the emergency that the report's chain declares, the same for all its reports.

    `earthquake:jma:20260602090312`. Hazard, source and chain are in it, since JMA uses one EventID for an
    earthquake and its tsunami. A chain too long for an id is replaced by its hash. Letters of any script stand as
    they are, for the officer who reads `landslide:jma:福島県土砂災害警戒情報`.
    """
    hazard, source, chain = (_escaped(part) for part in (_hazard(report), report.source, _chain(report)))
    plain = f"{hazard}:{source}:{chain}"
    if len(plain) <= _ID_LENGTH:
        return plain
    return f"{hazard}:sha256:{hashlib.sha256(plain.encode()).hexdigest()}"


def _escaped(part: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "・" else quote(letter, safe="") for letter in part)


def conclude(
    policy: HazardPolicy,
    report: Report,
    earlier: Sequence[Report],
    standing: Standing | None,
    now: datetime,
) -> list[Concluded]:
    """The emergency events that `report` causes: (kind, data), to be appended in this order after it.

    earlier: of the reports that stand before it in the log at least the newest of each `turn` in the chain, in any
    order; those of other chains are left out here. standing: the emergency `emergency_id(report)`, None where no
    event has named it. now: the `recorded_at` of the report; a report from the future counts as reported then,
    lest its lease never end. One whose lease is over yields what it would have in its time (R1a: without effect).
    One that is over by its own `valid_until` begins no emergency; of one that an event has named, it yields that too,
    since it may end what the report before it declared for longer.

    Empty where the report changes nothing: what is not actual, below the levels, old, or of a source or
    hazard that the policy does not name. A renewed lease is a change. Where an exercise has the id, nothing
    (R1a).
    """
    terms = policy.terms(_hazard(report), report.source)
    if terms is None or not _actual(report):
        return []
    if standing is not None and standing.exercise:
        return []
    emergency = emergency_id(report)
    chain = [r for r in earlier if _actual(r) and emergency_id(r) == emergency]
    after = _warranted(terms, [*chain, report], now)
    before = _warranted(terms, chain, now) if standing is not None else _NOTHING
    if after == before:
        return []
    if standing is None and after.ends_itself and after.until is not None and after.until <= now:
        return []
    standing = standing or Standing()
    time = min(report.data["reported_at"], now)
    if ended := standing.until is not None and standing.until <= time:
        standing = replace(standing, areas=(), until=None)
    anew = ended or (before.until is not None and before.until <= time)
    hashes = {"policy_sha256": policy.sha256, "cause": report.id}
    return [
        (f"emergency.{kind}", {"emergency": emergency, **data, **hashes})
        for kind, data in _changes(before, after, standing, _hazard(report), anew=anew)
    ]


def turn(report: Report) -> tuple[str, bool, Order] | None:
    """What a report can be in its chain: the newest of its type that says something, or the newest that cancels.

    Type, whether it cancels, and what orders it; None where it says nothing here. Of each type and turn only the newest
    can decide what the chain warrants: who cancels the newest of a type cancels the older ones with it.
    """
    if not _actual(report):
        return None
    cancels = report.data["action"] == "cancelled"
    return (report.data["report"], cancels, _order(report)) if cancels or _says(report) else None


def _changes(before: _Warranted, after: _Warranted, standing: Standing, hazard: str, *, anew: bool) -> list[Concluded]:
    """From what stands to what shall stand. anew: the lease of what was warranted is over, so that all of it is new.

    A declaration or a lifting closes the proposal before it, so a proposal that stays open comes after it,
    again. It names what is declared as well, so that confirming it amends the emergency and ends nothing.
    """
    current = frozenset(standing.areas)
    known = _NOTHING if anew else before
    withdrawn = (before.declares - after.declares) | (before.proposes - after.all)
    declared = (current - withdrawn) | (after.declares - known.declares)
    asked = current | frozenset(standing.proposed)
    proposed = (after.proposes & asked | after.proposes - known.all) - declared
    until = _until(declared, before, after, standing)
    closes = bool(standing.proposed) and not proposed

    changes: list[Concluded] = []
    if declared and (declared != current or until != standing.until or closes):
        changes.append(("declared", {"areas": sorted(declared), "until": until, "hazard": hazard}))
    elif not declared and (current or closes):
        changes.append(("lifted", {}))
    if proposed:
        changes.append(("proposed", {"areas": sorted(declared | proposed), "until": until, "hazard": hazard}))
    return changes


def _until(declared: frozenset[str], before: _Warranted, after: _Warranted, standing: Standing) -> datetime | None:
    """The newest report's lease, or the later one that an officer set; who warrants none of it renews nothing."""
    if not declared:
        return after.until
    if not declared & after.all:
        return standing.until
    by_hand = standing.areas and standing.until != before.until
    leases = (after.until, standing.until if by_hand else None)
    return max(lease for lease in leases if lease is not None)


def _warranted(terms: Terms, chain: Sequence[Report], now: datetime) -> _Warranted:
    """What the actual reports of one chain come to, whatever the order in which they are given."""
    cancelled: dict[str, Order] = {}
    for report in sorted(chain, key=_order):
        if report.data["action"] == "cancelled":
            cancelled[report.data["report"]] = _order(report)
    says = [r for r in chain if _says(r) and not _taken_back(r, cancelled)]
    if not says:
        return _NOTHING
    newest = max(says, key=_order)
    declares, proposes = _places(newest, terms.declares), _places(newest, terms.proposes)
    if not declares | proposes:
        return _NOTHING
    time = min(newest.data["reported_at"], now)
    until = _end(newest, time + terms.lease)
    if until <= time:
        return _NOTHING
    return _Warranted(
        declares=declares, proposes=proposes - declares, until=until, ends_itself=until < time + terms.lease
    )


def _end(report: Report, lease: datetime) -> datetime:
    """When what a report warrants is over: with its lease, or by its own word before that."""
    said: datetime | None = report.data.get("valid_until")
    return lease if said is None else min(said, lease)


def _taken_back(report: Report, cancelled: Mapping[str, Order]) -> bool:
    last = cancelled.get(report.data["report"])
    return last is not None and _order(report) < last


def _says(report: Report) -> bool:
    """Whether it says what municipalities had: a report that names none waits for one that does."""
    action: str = report.data["action"]
    if action in ("cancelled", "lifted"):
        return action == "lifted"
    return any(area.get("area") for area in report.data["areas"])


def _places(report: Report, levels: frozenset[str]) -> frozenset[str]:
    if report.data["action"] == "lifted":
        return frozenset()
    areas = report.data["areas"]
    return frozenset(area["area"] for area in areas if area.get("area") and area["level"] in levels)


Order = tuple[datetime, int, datetime, int, str]
"""What says which of two reports is newer: of report time, serial, time of sending, action, id."""


def _order(report: Report) -> Order:
    """Report time, then serial; then what tells the rest apart, and never arrival.

    JMA's report times are whole minutes and some telegrams have no serial: the time of sending decides,
    then the action, then the id. A cancellation without a serial comes after all of its minute.
    """
    data = report.data
    serial, action = data.get("serial") or "", data["action"]
    number = int(serial) if serial.isdecimal() and len(serial) < 10 else 0
    if action == "cancelled" and not serial:
        number = _LAST_SERIAL
    reported_at = data["reported_at"]
    return reported_at, number, data.get("sent_at") or reported_at, _ACTIONS.index(action), report.id


def _actual(report: Report) -> bool:
    return not report.exercise and report.data["status"] == "actual"


def _hazard(report: Report) -> str:
    hazard: str = report.data["hazard"]
    return hazard


def _chain(report: Report) -> str:
    chain: str = report.data["chain"]
    return chain
