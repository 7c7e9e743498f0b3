"""From the resources of a payload to events: which of them count, which make one fact together, what they retract.

A Bundle holds whole lists (collection, document, message, a search for one patient) or single records (transaction,
batch, history, any other search, a resource alone): `groups`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hub.connector import Event, PayloadError, Rejected, Translation
from hub.connector.json import Field
from hub_connector_fhir import allergy, clinical, condition, consent, content, medication
from hub_connector_fhir.bundle import ALONE, Bundle, Entry, labels, number, target
from hub_connector_fhir.choices import Choices
from hub_connector_fhir.groups import (
    KINDS,
    SOURCE,
    Group,
    Record,
    Said,
    data_of,
    groups,
    id_of,
    last,
    lone,
    original,
    withdrawn,
)
from hub_connector_fhir.identity import (
    ALLERGY,
    CONDITION,
    CONSENT,
    FACTS,
    MEDICATION,
    MOST_VERSIONS,
    OBSERVATION,
    READ,
    STATEMENT,
    before,
    id_of_event,
    id_of_list,
    is_error,
    name_of,
    names_all,
    once_said,
    ref_of,
    stamp_of,
    versions_of,
)
from hub_connector_fhir.parts import part_of, path_of, tags_of
from hub_connector_fhir.terms import moment, period, text_of, understood

ORIGINAL_TYPE = "application/fhir+json; fhirVersion=4.0"

RETRACTED, REQUESTED = "fact.retracted", "consent.requested"

LARGEST_ORIGINAL = 512 * 1024
_RESTRICTED = {("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", code) for code in ("R", "V")}
_TEST = ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST")
_ANYONE = ""
_NEXT = timedelta(microseconds=1)
_ERROR, _NEWER, _DELETED = "entered-in-error", "newer-version", "deleted"


class Reading:
    """One payload while it is read."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self.events: dict[str, Event] = {}
        self.rejected: list[Rejected] = []
        self.reasons: dict[str, int] = {}
        self._unread: dict[tuple[int, str, str], int] = {}

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
            self._miss(bundle, _type_of(raw), _ANYONE)
        found = [record for entry in bundle.entries if (record := self._record(entry)) is not None]
        people: dict[tuple[str, bool], list[Record]] = {}
        for record in self._newest(found):
            people.setdefault((record.ref, record.test), []).append(record)
        for own in people.values():
            for group in groups(own, listed=bundle.listed):
                unread = sum(self._unread.get((id(bundle), whose, group.kind), 0) for whose in (own[0].ref, _ANYONE))
                self._tell(bundle, replace(group, unread=unread if group.whole else 0))
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
            self._miss(entry.bundle, entry.type, ref[0] if ref else _ANYONE)
            return None

    def _miss(self, bundle: Bundle, type_: str | None, ref: str) -> None:
        """Count what cannot be read, for the list that lacks it; of whom it is not known, for everybody's."""
        if type_ in KINDS:
            key = id(bundle), ref, KINDS[type_]
            self._unread[key] = self._unread.get(key, 0) + 1

    def _read(self, entry: Entry, refs: list[str]) -> Record | None:
        ref = ref_of(entry, self._choices)
        refs.append(ref)
        marks = labels(entry.resource) | tags_of(entry.bundle)
        if marks & _RESTRICTED and not self._choices.restricted:
            raise PayloadError(
                "is labelled as restricted: see options.restricted", path=path_of(entry, "meta.security")
            )
        test = _TEST in marks
        if entry.type == CONSENT:
            understood(entry.resource)
            self._ask(entry, ref, test=test)
            return None
        name = name_of(entry, self._choices)
        error = is_error(entry.resource, entry.type)
        if not error:
            understood(entry.resource)
        said = None if error and not _is_stamped(entry, name) else self._said(entry)
        text = "" if said is None else content.written(entry.resource.value)
        if len(text) > LARGEST_ORIGINAL // 2:
            raise PayloadError("is larger than 256 KiB", path=path_of(entry))
        kept = clinical.kept(entry, self._choices)
        beyond = error and not names_all(entry, name)
        return Record(
            entry=entry,
            ref=ref,
            name=name,
            id=id_of_event(entry, name, kept),
            at=self._time(entry),
            test=test,
            error=error,
            said=said,
            kept=kept,
            text=text if kept is entry.resource.value or said is None else content.written(kept),
            beyond=beyond,
            prescriber=medication.prescriber(entry) if entry.type in (MEDICATION, STATEMENT) else None,
            lane=self._lane(entry, name, kept) if said is not None or beyond else "",
            older=list(once_said(entry, name, kept)) if error else before(entry, name),
        )

    def _lane(self, entry: Entry, name: str | None, kept: Mapping[str, Any]) -> str:
        """What a record is the newest state of; empty of an Observation that does not say what was measured."""
        if entry.type == OBSERVATION:
            return "" if entry.resource.optional("code") is None else condition.lane(entry, self._choices)
        return name or id_of_event(entry, None, kept)

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
                        "stands more than once, and nothing says which is newer", path=path_of(record.entry)
                    )
                    self._reject(error, record.entry.bundle, [record.entry.raw or {}], [record.ref], record.entry)
                self._miss(versions[0].entry.bundle, versions[0].entry.type, versions[0].ref)
                continue
            newest.older.extend(r.id for r in versions if r.id != newest.id)
            found.append(newest)
        return found

    def _tell(self, bundle: Bundle, group: Group) -> None:
        """What a group retracts, and its fact where anything of it holds."""
        held = [r for r in group.records if r.said is not None and not (r.error and group.lane is not None)]
        for record in group.records:
            if record.said is None or group.lane is not None:
                self._retract(record)
                self._withdraw(record)
        void = [record for record in group.records if record.error]
        if len(void) == 1 and (held or void[0].entry.type != OBSERVATION):
            for older in void[0].older:
                ids = [older, *(record.id for record in held)]
                self._hide(id_of_list(group.kind, ids, None), void[0].ref, _ERROR)
        try:
            if held:
                self._fact(bundle, replace(group, records=held))
        except PayloadError as error:
            for record in held:
                self._reject(error, bundle, [record.entry.raw or {}], [record.ref], record.entry)

    def _retract(self, record: Record) -> None:
        for older in dict.fromkeys(record.older):
            self._hide(older, record.ref, _ERROR if record.error else _NEWER)

    def _withdraw(self, record: Record) -> None:
        """Let what was entered in error be the newest state of its lane, where an older one may stand that has no name.

        A measurement counts from when it was made: the withdrawal comes right after it, so as to hide no later one.
        """
        if record.beyond and record.lane:
            at = record.at if record.at is None or record.entry.type != OBSERVATION else record.at + _NEXT
            kind = KINDS[record.entry.type]
            self._add(record.id, kind, record.ref, at, withdrawn(record), exercise=record.test)

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
        counts = [number(record.entry.version) or 0 for record in known]
        response = deleted.optional("response")
        tags = (text_of(request, "ifMatch"), None if response is None else text_of(response, "etag"))
        counts += [number(tag.strip().removeprefix("W/").strip('"')) or 0 for tag in tags if tag]
        for event in dict.fromkeys((*(record.id for record in known), *versions_of(name, max(counts)))):
            self._hide(event, known[0].ref, _DELETED)
            self.events.pop(event, None)
        newest = max(known, key=lambda record: number(record.entry.version) or 0)
        if max(counts) > MOST_VERSIONS and newest.lane:
            at = newest.at if newest.entry.type == OBSERVATION else _stated(bundle, self._choices.zone) or newest.at
            gone = replace(newest, id=f"{_DELETED}/{name}/{max(counts)}", at=None if at is None else at + _NEXT)
            self._add(gone.id, KINDS[named.type], gone.ref, gone.at, withdrawn(gone), exercise=gone.test)

    def _fact(self, bundle: Bundle, group: Group) -> None:
        """The fact of a group, all of whose records hold.

        What would be too large is told record by record; a whole list is one for all that, without its original.
        """
        data = data_of(group)
        first = group.records[0]
        kept = original(bundle, group, whole=self._choices.original == clinical.WHOLE)
        if self._choices.original != clinical.NONE and len(kept.encode()) <= LARGEST_ORIGINAL:
            data |= {"original": kept, "original_type": ORIGINAL_TYPE}
        elif self._choices.original == clinical.NONE:
            pass
        elif not group.whole and len(group.records) > 1:
            for record in group.records:
                self._fact(bundle, lone(record))
            return
        elif not group.whole:
            error = PayloadError("is larger than 512 KiB with what it refers to", path=path_of(first.entry))
            self._reject(error, bundle, [first.entry.raw or {}], [first.ref], first.entry)
            return
        stated = _stated(bundle, self._choices.zone) if group.whole else None
        at = stated or (group.at if group.whole else last(group.records))
        self._add(id_of(bundle, group), group.kind, first.ref, at, data, exercise=first.test)

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
            error = PayloadError(error.reason, path="entry" if entry is None else path_of(entry))
        self.rejected.append(Rejected(error=error, payload=part_of(bundle, list(raws), entry), refs=tuple(refs)))


_TIMES: Mapping[str, tuple[str, ...]] = {
    MEDICATION: ("authoredOn",),
    STATEMENT: ("dateAsserted", "effectiveDateTime", "effectivePeriod"),
    OBSERVATION: ("effectiveInstant", "effectiveDateTime", "effectivePeriod", "issued"),
    CONDITION: ("recordedDate", "onsetDateTime", "onsetPeriod"),
    ALLERGY: ("recordedDate", "lastOccurrence", "onsetDateTime"),
}


def _type_of(raw: Mapping[str, Any]) -> str | None:
    resource = raw.get("resource")
    type_ = resource.get("resourceType") if isinstance(resource, dict) else None
    return type_ if isinstance(type_, str) else None


def _stated(bundle: Bundle, zone: Any) -> datetime | None:
    """When a Bundle says that it was put together."""
    return None if bundle.type == ALONE else moment(bundle.root.optional("timestamp"), zone)


def _moment(resource: Field, name: str, zone: Any) -> datetime | None:
    found = resource.optional(name)
    if name.endswith("Period"):
        return period(found, "start", zone)
    return moment(found, zone)


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


def _is_stamped(entry: Entry, name: str | None) -> bool:
    """Whether its versions do not count, so that what it says now has to take the place of what it said."""
    return name is not None and number(entry.version) is None and stamp_of(entry) is not None
