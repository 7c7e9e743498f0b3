"""From the resources of a payload to events: which of them count, which make one fact together, what they retract.

A Bundle holds whole lists (collection, document, message, a search for one patient) or single records (transaction,
batch, history, any other search, a resource alone). In lists, the medicines of one prescriber make one fact, what was
measured within an hour another. A record by itself is a fact by itself, so that a later version can retract it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hub.connector import Event, PayloadError, Rejected, Translation
from hub.connector.json import Field
from hub_connector_fhir import allergy, condition, consent, content, medication
from hub_connector_fhir.allergy import Allergy
from hub_connector_fhir.bundle import ALONE, LIST, RECORDS, TAG, VIEW, Bundle, Entry, labels, number, target
from hub_connector_fhir.choices import Choices
from hub_connector_fhir.condition import Finding
from hub_connector_fhir.identity import (
    ALLERGY,
    CONDITION,
    CONSENT,
    FACTS,
    MEDICATION,
    OBSERVATION,
    READ,
    STATEMENT,
    before,
    id_of_event,
    id_of_list,
    is_error,
    name_of,
    once_said,
    ref_of,
    stamp_of,
    subject_of,
    versions_of,
)
from hub_connector_fhir.medication import Medicine
from hub_connector_fhir.terms import moment, period, text_of

SOURCE = "fhir"
ORIGINAL_TYPE = "application/fhir+json; fhirVersion=4.0"

MEDICATIONS, CONDITIONS, ALLERGIES = "care.medication_updated", "care.condition_updated", "care.allergy_updated"
RETRACTED, REQUESTED = "fact.retracted", "consent.requested"

LARGEST_ORIGINAL = 512 * 1024
TOGETHER = timedelta(hours=1)
"""Measurements that far from the first are one look at the person."""

_RESTRICTED = {("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", code) for code in ("R", "V")}
_TEST = ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST")
_ERROR, _NEWER, _DELETED = "entered-in-error", "newer-version", "deleted"
_EPOCH = datetime.fromisoformat("0001-01-01T00:00:00+00:00")

Said = Medicine | Finding | Allergy


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One resource that counts. said: None where it was `entered-in-error`, or tells nothing any more.

    older: ids of events that it takes back. lane: who prescribed it.
    """

    entry: Entry
    ref: str
    name: str | None
    id: str
    at: datetime | None
    test: bool
    error: bool
    said: Said | None = None
    lane: str | None = None
    older: list[str] = field(default_factory=list)


class Reading:
    """One payload while it is read."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self.events: dict[str, Event] = {}
        self.rejected: list[Rejected] = []
        self.reasons: dict[str, int] = {}

    def translation(self, reported_at: datetime | None) -> Translation:
        """What was read."""
        if self.events:
            nothing = None
        elif self.reasons:
            nothing = "; ".join(f"{reason} ({count})" for reason, count in sorted(self.reasons.items()))
        else:
            nothing = None if self.rejected else "holds no resource"
        retractions = [event for event in self.events.values() if event.kind == RETRACTED]
        others = [event for event in self.events.values() if event.kind != RETRACTED]
        return Translation(
            events=(*retractions, *others), nothing=nothing, rejected=tuple(self.rejected), reported_at=reported_at
        )

    def take(self, bundle: Bundle) -> None:
        """Read a Bundle, and those in it."""
        for error, raw in bundle.broken:
            self._reject(error, bundle, [raw])
        found = [record for entry in bundle.entries if (record := self._record(entry)) is not None]
        people: dict[tuple[str, bool], list[Record]] = {}
        for record in self._newest(found):
            people.setdefault((record.ref, record.test), []).append(record)
        for own in people.values():
            for group in _groups(own, listed=bundle.listed):
                self._tell(bundle, group)
        self._delete(bundle, found)
        for inner in bundle.inner:
            self.take(inner)

    def skip(self, reason: str) -> None:
        """Something gives no event, for a reason."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def _record(self, entry: Entry) -> Record | None:
        if entry.type not in READ:
            self.skip("a resource of a type that is not read")
            return None
        ref: list[str] = []
        try:
            return self._read(entry, ref)
        except PayloadError as error:
            self._reject(error, entry.bundle, [entry.raw or {}], ref, entry)
            return None

    def _read(self, entry: Entry, refs: list[str]) -> Record | None:
        ref = ref_of(entry, self._choices)
        refs.append(ref)
        marks = labels(entry.resource) | _tags(entry.bundle)
        if marks & _RESTRICTED and not self._choices.restricted:
            raise PayloadError("is labelled as restricted: see options.restricted", path=_path(entry, "meta.security"))
        test = _TEST in marks
        if entry.type == CONSENT:
            self._ask(entry, ref, test=test)
            return None
        name = name_of(entry, self._choices)
        error = is_error(entry.resource, entry.type)
        said = None if error and not _is_stamped(entry, name) else self._said(entry)
        if said is not None and len(content.written(entry.resource.value)) > LARGEST_ORIGINAL // 2:
            raise PayloadError("is larger than 256 KiB", path=_path(entry))
        return Record(
            entry=entry,
            ref=ref,
            name=name,
            id=id_of_event(entry, name),
            at=self._time(entry),
            test=test,
            error=error,
            said=said,
            lane=medication.prescriber(entry) if entry.type in (MEDICATION, STATEMENT) else None,
            older=list(once_said(entry, name)) if error else before(entry, name),
        )

    def _said(self, entry: Entry) -> Said | None:
        """What the resource tells; None, with the reason noted, where it tells nothing now."""
        match entry.type:
            case "MedicationRequest" | "MedicationStatement":
                found: Said | str = medication.read(entry)
            case "Observation":
                found = condition.read_observation(entry, self._choices)
            case "Condition":
                found = condition.read_condition(entry)
            case _:
                found = allergy.read(entry)
        if isinstance(found, str):
            self.skip(f"{entry.type} {found}")
            return None
        return found

    def _time(self, entry: Entry) -> datetime | None:
        """When a resource says that it was so; of a record that is kept up to date, when it was last changed."""
        resource, zone = entry.resource, self._choices.zone
        meta = resource.optional("meta")
        changed = None if meta is None else moment(meta.optional("lastUpdated"), zone)
        own = next((at for name in _TIMES[entry.type] if (at := _moment(resource, name, zone)) is not None), None)
        if entry.type == OBSERVATION:
            return own or changed or _stated(entry.bundle, zone)
        return changed or own or _stated(entry.bundle, zone)

    def _ask(self, entry: Entry, ref: str, *, test: bool) -> None:
        wrong: list[PayloadError] = []
        asked = consent.read(entry, self._choices, wrong)
        if isinstance(asked, str):
            self.skip(f"Consent {asked}")
            return
        if test:
            self.skip("Consent is test data")
            return
        for error in wrong:
            self._reject(error, entry.bundle, [entry.raw or {}], [ref], entry)
        for one in asked:
            self._add(one.id, REQUESTED, ref, one.occurred_at, {k: v for k, v in one.data.items() if v is not None})

    def _newest(self, records: Sequence[Record]) -> list[Record]:
        """Of several versions of one resource the newest, which retracts the others."""
        by_name: dict[str, list[Record]] = {}
        for record in records:
            by_name.setdefault(f"{record.ref}\n{record.name or record.id}", []).append(record)
        found = []
        for versions in by_name.values():
            newest = _newest(versions)
            if newest is None:
                for record in versions:
                    error = PayloadError(
                        "stands more than once, and nothing says which is newer", path=_path(record.entry)
                    )
                    self._reject(error, record.entry.bundle, [record.entry.raw or {}], [record.ref], record.entry)
                continue
            newest.older.extend(r.id for r in versions if r.id != newest.id)
            found.append(newest)
        return found

    def _tell(self, bundle: Bundle, group: Group) -> None:
        """What a group retracts, and its fact where anything of it holds."""
        held = [record for record in group.records if record.said is not None]
        for record in group.records:
            if record.said is None or (len(held) == 1 and not group.whole):
                self._retract(record)
        void = [record for record in group.records if record.error]
        if len(void) == 1 and (held or group.kind != CONDITIONS):
            for older in void[0].older:
                ids = [older, *(record.id for record in held)]
                self._hide(id_of_list(group.kind, ids, None), void[0].ref, _ERROR)
        if held:
            self._fact(bundle, replace(group, records=held))

    def _retract(self, record: Record) -> None:
        for older in dict.fromkeys(record.older):
            self._hide(older, record.ref, _ERROR if record.error else _NEWER)

    def _hide(self, event: str, ref: str, reason: str) -> None:
        self._add(f"retracted/{reason}/{event}", RETRACTED, ref, None, {"event": event, "reason": reason})

    def _delete(self, bundle: Bundle, records: Sequence[Record]) -> None:
        """A deletion says whose the resource was only where the payload holds an earlier version of it."""
        for deleted in bundle.deleted:
            try:
                self._delete_one(bundle, deleted, records)
            except PayloadError as error:
                self._reject(error, bundle, [deleted.value])

    def _delete_one(self, bundle: Bundle, deleted: Field, records: Sequence[Record]) -> None:
        request = deleted.need("request")
        url = request.need("url").word(1000)
        named = target(url)
        if named is None:
            raise request.need("url").wrong("deletes by a search, which is not read")
        if named.type not in FACTS:
            self.skip("a resource of a type that is not read")
            return
        home = self._choices.base or bundle.home
        name = f"{named.type}/{named.id}" if named.base in (None, home) else f"{named.base}/{named.type}/{named.id}"
        known = [record for record in records if record.name == name]
        if not known:
            raise request.need("url").wrong("does not say whose it was: send the resource as entered-in-error")
        last = [number(record.entry.version) or 0 for record in known]
        response = deleted.optional("response")
        tags = (text_of(request, "ifMatch"), None if response is None else text_of(response, "etag"))
        last += [number(tag.strip().removeprefix("W/").strip('"')) or 0 for tag in tags if tag]
        for event in dict.fromkeys((*(record.id for record in known), *versions_of(name, max(last)))):
            self._hide(event, known[0].ref, _DELETED)
            self.events.pop(event, None)

    def _fact(self, bundle: Bundle, group: Group) -> None:
        """The fact of a group, all of whose records hold; record by record where it would be too large."""
        data = _data(group)
        if data is None:
            self.skip("AllergyIntolerance names nothing that holds, and is no whole list")
            return
        original = _original(bundle, group)
        if len(original.encode()) > LARGEST_ORIGINAL:
            if len(group.records) == 1:
                record = group.records[0]
                error = PayloadError("is larger than 512 KiB with what it refers to", path=_path(record.entry))
                self._reject(error, bundle, [record.entry.raw or {}], [record.ref], record.entry)
                return
            for record in group.records:
                self._fact(bundle, Group(kind=group.kind, records=[record], whole=False))
            return
        first = group.records[0]
        data = {**data, "original": original, "original_type": ORIGINAL_TYPE}
        at = _time_of(bundle, group, self._choices)
        self._add(_id(bundle, group), group.kind, first.ref, at, data, exercise=first.test)

    def _add(
        self, id_: str, kind: str, ref: str, at: datetime | None, data: Mapping[str, Any], *, exercise: bool = False
    ) -> None:
        event = Event(source=SOURCE, id=id_, kind=kind, ref=ref, occurred_at=at, exercise=exercise, data=data)
        self.events.setdefault(id_, event)

    def _reject(
        self,
        error: PayloadError,
        bundle: Bundle,
        raws: Iterable[Mapping[str, Any]],
        refs: Sequence[str] = (),
        entry: Entry | None = None,
    ) -> None:
        if not error.path:
            error = PayloadError(error.reason, path="entry" if entry is None else _path(entry))
        self.rejected.append(Rejected(error=error, payload=_part(bundle, list(raws), entry), refs=tuple(refs)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The records that make one fact. whole: whether they are the whole of a list; at: then the newest of them, also of
    those that do not hold any more."""

    kind: str
    records: list[Record]
    whole: bool = False
    at: datetime | None = None


_TIMES: Mapping[str, tuple[str, ...]] = {
    MEDICATION: ("authoredOn",),
    STATEMENT: ("dateAsserted", "effectiveDateTime", "effectivePeriod"),
    OBSERVATION: ("effectiveInstant", "effectiveDateTime", "effectivePeriod", "issued"),
    CONDITION: ("recordedDate", "onsetDateTime", "onsetPeriod"),
    ALLERGY: ("recordedDate", "lastOccurrence", "onsetDateTime"),
}


def _moment(resource: Field, name: str, zone: Any) -> datetime | None:
    found = resource.optional(name)
    if name.endswith("Period"):
        return period(found, "start", zone)
    return moment(found, zone)


def _stated(bundle: Bundle, zone: Any) -> datetime | None:
    """When a Bundle says that it was put together."""
    return None if bundle.type == ALONE else moment(bundle.root.optional("timestamp"), zone)


def _tags(bundle: Bundle | None) -> frozenset[tuple[str, str]]:
    found: frozenset[tuple[str, str]] = frozenset()
    while bundle is not None:
        found |= bundle.tags
        bundle = bundle.up
    return found


def _newest(versions: list[Record]) -> Record | None:
    """The newest of several versions of a resource; None where nothing says which it is."""
    if len({record.id for record in versions}) == 1:
        return versions[0]
    counts = [number(record.entry.version) for record in versions]
    if None not in counts and len(set(counts)) == len(counts):
        return max(zip(counts, versions, strict=True), key=lambda pair: pair[0] or 0)[1]
    times = [_changed(record) for record in versions]
    if None not in times and len(set(times)) == len(times):
        return max(zip(times, versions, strict=True), key=lambda pair: pair[0] or "")[1]
    return versions[0] if versions[0].entry.bundle.type == "history" else None


def _changed(record: Record) -> datetime | None:
    meta = record.entry.resource.optional("meta")
    return None if meta is None else moment(meta.optional("lastUpdated"), UTC)


def _groups(own: list[Record], *, listed: bool) -> Iterator[Group]:
    """The records of one person, as facts."""
    medicines = [record for record in own if record.entry.type in (MEDICATION, STATEMENT)]
    findings = [record for record in own if record.entry.type in (CONDITION, OBSERVATION)]
    allergies = [record for record in own if record.entry.type == ALLERGY]
    if listed:
        yield from _by_prescriber(medicines)
        yield from _by_time(findings)
    else:
        for record in medicines:
            yield Group(kind=MEDICATIONS, records=[record])
        for record in findings:
            yield Group(kind=CONDITIONS, records=[record])
    if allergies:
        yield Group(kind=ALLERGIES, records=allergies, whole=listed, at=_last(allergies))


def _by_prescriber(medicines: list[Record]) -> Iterator[Group]:
    found: dict[str | None, list[Record]] = {}
    for record in medicines:
        found.setdefault(record.lane, []).append(record)
    for records in found.values():
        yield Group(kind=MEDICATIONS, records=records, whole=True, at=_last(records))


def _last(records: Iterable[Record]) -> datetime | None:
    return max((record.at for record in records if record.at is not None), default=None)


def _by_time(findings: list[Record]) -> Iterator[Group]:
    """What was measured within an hour, together; the conditions with the newest of it."""
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
        yield Group(kind=CONDITIONS, records=look)


def _data(group: Group) -> dict[str, Any] | None:
    """The fields of a group's kind; None where they would say less than nothing."""
    said = [record.said for record in group.records]
    if group.kind == MEDICATIONS:
        return _medications(group, [found for found in said if isinstance(found, Medicine)])
    if group.kind == ALLERGIES:
        return _allergies(group, [found for found in said if isinstance(found, Allergy)])
    return _conditions(group)


def _medications(group: Group, medicines: list[Medicine]) -> dict[str, Any]:
    """A record alone is a list by itself, so that it takes the place of its own earlier state and of nothing else."""
    notes = [note for medicine in medicines for note in medicine.notes]
    record = group.records[0]
    prescriber = record.lane
    if not group.whole:
        name = record.name or record.id
        prescriber = f"{record.lane} ({name})" if record.lane else name
    return _without_none(
        {
            "medications": [medicine.item for medicine in medicines if medicine.taken],
            "prescriber": prescriber,
            "note": "\n".join(dict.fromkeys(notes)) or None,
        }
    )


def _allergies(group: Group, found: list[Allergy]) -> dict[str, Any] | None:
    """One that does not hold any more is no list: told by itself, it would hide the list that was told before."""
    names = list(dict.fromkeys(one.name for one in found if one.name is not None))
    if not names and not group.whole and not any(one.none_known for one in found):
        return None
    notes = [note for one in found for note in one.notes]
    return _without_none({"allergies": names, "note": "\n".join(dict.fromkeys(notes)) or None})


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
        }
    )


def _without_none(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}


def _time_of(bundle: Bundle, group: Group, choices: Choices) -> datetime | None:
    """When a list says that it was made; else the newest of its records."""
    stated = _stated(bundle, choices.zone) if group.whole else None
    return stated or (group.at if group.whole else _last(group.records))


def _id(bundle: Bundle, group: Group) -> str:
    """A record alone has its own id; so has a group of one, unless it stands for a whole list."""
    ids = [record.id for record in group.records]
    if len(ids) == 1 and not group.whole:
        return ids[0]
    made = text_of(bundle.root, "timestamp") if group.whole else None
    return id_of_list(group.kind, ids, made)


def _original(bundle: Bundle, group: Group) -> str:
    """The resource as it came; where it is several, or takes words from others, a Bundle of all of them."""
    needs: dict[int, Entry] = {}
    for record in group.records:
        if isinstance(record.said, Medicine):
            needs.update((id(entry), entry) for entry in record.said.needs)
    if len(group.records) == 1 and not needs and not group.whole:
        return content.written(group.records[0].entry.resource.value)
    tag = LIST if group.whole or group.kind == CONDITIONS else RECORDS
    made = bundle.root.value.get("timestamp") if group.whole else None
    entries = [record.entry for record in group.records] + list(needs.values())
    return content.written(wrapped(tag, made, [(entry.url, entry.resource.value) for entry in entries]))


def wrapped(tag: str, made: Any, entries: Sequence[tuple[str | None, Any]]) -> dict[str, Any]:
    """A Bundle around resources that belong to one fact."""
    return {
        "resourceType": "Bundle",
        "meta": {"tag": [{"system": TAG, "code": tag}]},
        "type": "collection",
        **({"timestamp": made} if made is not None else {}),
        "entry": [{**({"fullUrl": url} if url else {}), "resource": resource} for url, resource in entries],
    }


def _path(entry: Entry, name: str = "") -> str:
    """Where a resource stands; of one alone, its type."""
    where = entry.resource.path or ("" if name else entry.type)
    return ".".join(part for part in (where, name) if part)


def _is_stamped(entry: Entry, name: str | None) -> bool:
    """Whether its versions do not count, so that what it says now has to take the place of what it said."""
    return name is not None and number(entry.version) is None and stamp_of(entry) is not None


def _part(bundle: Bundle, raws: list[Mapping[str, Any]], entry: Entry | None) -> bytes:
    """A part of a payload that translates alone: its entry, and the Patient and others that it refers to."""
    try:
        near = list(raws)
        for found in _near(entry) if entry is not None else ():
            if found.raw is not None and found.raw not in near:
                near.append(found.raw)
        said = {
            "resourceType": "Bundle",
            "meta": {"tag": [{"system": TAG, "code": VIEW if (TAG, VIEW) in _tags(bundle) else RECORDS}]},
            "type": "history" if bundle.type == "history" else "batch",
            "entry": near,
        }
        return content.written(said).encode()
    except PayloadError:
        return b""


def _near(entry: Entry) -> Iterator[Entry]:
    for name in (subject_of(entry.type), "medicationReference", "requester"):
        try:
            reference = entry.about if name == subject_of(entry.type) and entry.about else entry.resource.optional(name)
            said = None if reference is None else text_of(reference, "reference")
            found = entry.bundle.find(entry, said) if said else None
        except PayloadError:
            continue
        if found is not None and found.inside is None:
            yield found
