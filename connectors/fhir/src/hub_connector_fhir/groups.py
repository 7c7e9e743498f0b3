"""Which records make one fact together, and what that fact says.

In a Bundle of whole lists, the medicines of one prescriber are one fact, the allergies another, and what was measured
within an hour a third. In one of records each is a fact by itself, so that a later version can retract it. It has a
lane of its own, in the kind's `record`: it takes the place of its former state, and hides no list and no other record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hub_connector_fhir import content
from hub_connector_fhir.allergy import Allergy
from hub_connector_fhir.bundle import LIST, RECORDS, TAG, Bundle, Entry
from hub_connector_fhir.clinical import without_persons
from hub_connector_fhir.condition import Finding
from hub_connector_fhir.identity import ALLERGY, CONDITION, MEDICATION, OBSERVATION, STATEMENT, id_of_list
from hub_connector_fhir.medication import Medicine
from hub_connector_fhir.terms import text_of

SOURCE = "fhir"
MEDICATIONS, CONDITIONS, ALLERGIES = "care.medication_updated", "care.condition_updated", "care.allergy_updated"

KINDS = {
    MEDICATION: MEDICATIONS,
    STATEMENT: MEDICATIONS,
    OBSERVATION: CONDITIONS,
    CONDITION: CONDITIONS,
    ALLERGY: ALLERGIES,
}
"""The kind that resources of a type give."""

WITHDRAWN = "entered-in-error"
"""The note of what was withdrawn, in FHIR's own word."""

TOGETHER = timedelta(hours=1)
"""Measurements that far from the first are one look at the person."""

_EPOCH = datetime.fromisoformat("0001-01-01T00:00:00+00:00")

Said = Medicine | Finding | Allergy


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One resource that counts. said: None where it was `entered-in-error`, or tells nothing any more.

    older: ids of events that it takes back. kept: what is kept of the resource, and as JSON (`text`). beyond: whether
    versions may be known that `older` does not name. lane: what it tells the newest state of,
    where it is told by itself: the resource, but of an Observation what is measured, which is a new resource each time.
    """

    entry: Entry
    ref: str
    name: str | None
    id: str
    at: datetime | None
    test: bool
    error: bool
    said: Said | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    beyond: bool = False
    prescriber: str | None = None
    lane: str = ""
    older: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The records that make one fact.

    lane: of a record that is told by itself, its own; else None. whole: whether they are the whole of a list. at: then
    the newest of them, also of those that do not hold any more. unread: how many more the list has, that could not be
    read.
    """

    kind: str
    records: list[Record]
    lane: str | None = None
    whole: bool = False
    at: datetime | None = None
    unread: int = 0

    @property
    def gap(self) -> list[str]:
        """What the note says of those that could not be read."""
        return [f"could not be read: {self.unread} more"] if self.unread else []


def groups(own: list[Record], *, listed: bool) -> Iterator[Group]:
    """The records of one person, as facts."""
    if not listed:
        yield from map(lone, own)
        return
    medicines = [record for record in own if record.entry.type in (MEDICATION, STATEMENT)]
    findings = [record for record in own if record.entry.type in (CONDITION, OBSERVATION)]
    allergies = [record for record in own if record.entry.type == ALLERGY]
    yield from _by_prescriber(medicines)
    yield from _by_time(findings)
    if allergies:
        yield Group(kind=ALLERGIES, records=allergies, whole=True, at=last(allergies))


def lone(record: Record) -> Group:
    """A record that is a fact by itself."""
    return Group(kind=KINDS[record.entry.type], records=[record], lane=record.lane)


def _by_prescriber(medicines: list[Record]) -> Iterator[Group]:
    found: dict[str | None, list[Record]] = {}
    for record in medicines:
        found.setdefault(record.prescriber, []).append(record)
    for records in found.values():
        yield Group(kind=MEDICATIONS, records=records, whole=True, at=last(records))


def last(records: Iterable[Record]) -> datetime | None:
    return max((record.at for record in records if record.at is not None), default=None)


def _by_time(findings: list[Record]) -> Iterator[Group]:
    """What was measured within an hour, together; the conditions with the newest of it.

    A measurement with no other beside it is a record here too, and so the same fact whichever way it comes.
    """
    diagnoses = [record for record in findings if record.entry.type == CONDITION]
    measured = [record for record in findings if record.entry.type == OBSERVATION]
    looks: list[list[Record]] = []
    for record in sorted(measured, key=lambda record: record.at or _EPOCH):
        if looks and (record.at or _EPOCH) - (looks[-1][0].at or _EPOCH) <= TOGETHER:
            looks[-1].append(record)
        else:
            looks.append([record])
    if diagnoses:
        looks = [*looks[:-1], [*diagnoses, *(looks[-1] if looks else [])]]
    for look in looks:
        telling = [record for record in look if record.said is not None or record.error]
        if len(telling) == 1 and telling[0].entry.type == OBSERVATION:
            yield from map(lone, look)
        else:
            yield Group(kind=CONDITIONS, records=look)


def data_of(group: Group) -> dict[str, Any]:
    """The fields of a group's kind."""
    said = [record.said for record in group.records]
    if group.kind == MEDICATIONS:
        return _medications(group, [found for found in said if isinstance(found, Medicine)])
    if group.kind == ALLERGIES:
        return _allergies(group, [found for found in said if isinstance(found, Allergy)])
    return _conditions(group)


def _record(group: Group) -> str:
    """The lane, with the source's name, so that no other source's facts are in it."""
    return SOURCE if group.lane is None else f"{SOURCE}:{group.lane}"


def _medications(group: Group, medicines: list[Medicine]) -> dict[str, Any]:
    """One that is not taken any more is an empty list, which ends its lane."""
    notes = [*group.gap, *(note for medicine in medicines for note in medicine.notes)]
    return _without_none(
        {
            "medications": [medicine.item for medicine in medicines if medicine.taken],
            "prescriber": group.records[0].prescriber,
            "note": "\n".join(dict.fromkeys(notes)) or None,
            "record": _record(group),
        }
    )


def _allergies(group: Group, found: list[Allergy]) -> dict[str, Any]:
    """One that does not hold any more ends its lane by a note; an empty list would say that no allergy is known.

    What could not be read stands in the list too, and "no known drug allergy" makes no empty one: whoever is shown the
    summary sees no note, and would take the person for free of allergies.
    """
    names = [*dict.fromkeys(one.name for one in found if one.name is not None), *group.gap]
    none = any(one.none_known for one in found) or (group.whole and not any(one.partial for one in found))
    notes = [*group.gap, *(note for one in found for note in one.notes)]
    return _without_none(
        {
            "allergies": names if names or none else None,
            "note": "\n".join(dict.fromkeys(notes)) or None,
            "record": _record(group),
        }
    )


def _conditions(group: Group) -> dict[str, Any]:
    """Of several measurements of one thing the newest counts; a note tells the others."""
    measured: dict[str, float | str] = {}
    notes: list[str] = []
    names: list[str] = []
    for record in sorted(group.records, key=lambda r: r.at or _EPOCH):
        assert isinstance(record.said, Finding)  # noqa: S101
        for name, value in record.said.measured.items():
            if name in measured and measured[name] != value:
                notes.append(f"{name} before: {measured[name]}")
            measured[name] = value
    for record in group.records:
        assert isinstance(record.said, Finding)  # noqa: S101
        names += [record.said.condition] if record.said.condition else []
        notes += record.said.notes
    return _without_none(
        {
            "condition": "; ".join(dict.fromkeys(names)) or None,
            "vitals": measured or None,
            "note": "\n".join(dict.fromkeys(notes)) or None,
            "record": _record(group),
        }
    )


def _without_none(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}


def id_of(bundle: Bundle, group: Group) -> str:
    """A record by itself has its own id."""
    ids = [record.id for record in group.records]
    if group.lane is not None:
        return ids[0]
    made = text_of(bundle.root, "timestamp") if group.whole else None
    return id_of_list(group.kind, [*ids, *group.gap], made)


def original(bundle: Bundle, group: Group, *, whole: bool) -> str:
    """The resource as it is kept; where it is several, or takes words from others, a Bundle of all of them.

    whole: whether those others are kept as they came, also who prescribed.
    """
    needs: dict[int, Entry] = {}
    for record in group.records:
        if isinstance(record.said, Medicine):
            needs.update((id(entry), entry) for entry in record.said.needs if whole or entry.type == "Medication")
    if group.lane is not None and not needs:
        return group.records[0].text
    tag = LIST if group.lane is None else RECORDS
    made = bundle.root.value.get("timestamp") if group.whole else None
    own = [(record.entry.url, record.kept) for record in group.records]
    others = [(entry.url, entry.resource.value) for entry in needs.values()]
    if not whole:
        others = [(url, without_persons(value)) for url, value in others]
    return content.written(_wrapped(tag, made, [*own, *others]))


def withdrawn(record: Record) -> dict[str, Any]:
    """What takes the place of a record that never held, where a version of it may be known that nothing names.

    It says nothing of what the record said.
    """
    lists: dict[str, Any] = {"medications": []} if KINDS[record.entry.type] == MEDICATIONS else {}
    said = {"prescriber": record.prescriber, "note": WITHDRAWN, "record": f"{SOURCE}:{record.lane}"}
    return _without_none({**lists, **said})


def _wrapped(tag: str, made: Any, entries: Sequence[tuple[str | None, Mapping[str, Any]]]) -> dict[str, Any]:
    """A Bundle around resources that belong to one fact."""
    return {
        "resourceType": "Bundle",
        "meta": {"tag": [{"system": TAG, "code": tag}]},
        "type": "collection",
        **({"timestamp": made} if made is not None else {}),
        "entry": [{**({"fullUrl": url} if url else {}), "resource": resource} for url, resource in entries],
    }
