"""Who a resource is about, what it is called, and under which ids events of it may be known.

An event's id is the resource's name and version, so that a correction can name what it corrects. Where the source
does not count its versions 1, 2, 3 …, the id is made of the content and its status instead: then an entry that was
`entered-in-error` is recognised by what it said before with another status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from hub.connector import is_id, stable_id
from hub.connector.json import Field
from hub_connector_fhir import content
from hub_connector_fhir.bundle import Entry, number, target
from hub_connector_fhir.choices import Choices
from hub_connector_fhir.terms import codings, listed, text_of

MEDICATION, STATEMENT = "MedicationRequest", "MedicationStatement"
OBSERVATION, CONDITION, ALLERGY, CONSENT = "Observation", "Condition", "AllergyIntolerance", "Consent"
FACTS = (MEDICATION, STATEMENT, OBSERVATION, CONDITION, ALLERGY)
READ = (*FACTS, CONSENT)

ERROR = "entered-in-error"
MOST_VERSIONS = 20
"""How many versions back a correction retracts; each was retracted by the one after it, too."""

LONGEST_NAME = 100

_STATUSES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    MEDICATION: {"status": ("active", "on-hold", "cancelled", "completed", "stopped", "unknown")},
    STATEMENT: {"status": ("active", "completed", "intended", "stopped", "on-hold", "unknown", "not-taken")},
    OBSERVATION: {"status": ("preliminary", "final", "amended", "corrected", "unknown")},
    CONDITION: {
        "clinicalStatus": ("active", "recurrence", "relapse", "inactive", "remission", "resolved", ""),
        "verificationStatus": ("unconfirmed", "provisional", "differential", "confirmed", ""),
    },
    ALLERGY: {
        "clinicalStatus": ("active", "inactive", "resolved", ""),
        "verificationStatus": ("unconfirmed", "confirmed", ""),
    },
}
"""What a status may have been before it became `entered-in-error`."""

_ASIDE = ("meta", "text", "statusReason", "implicitRules")


def subject_of(type_: str) -> str:
    """The name of the field that says whom a resource of a type is about."""
    return "patient" if type_ in (ALLERGY, CONSENT) else "subject"


def ref_of(entry: Entry, choices: Choices) -> str:
    """The source's own id of the person whom a resource is about. Raises PayloadError."""
    subject = entry.about or entry.resource.need(subject_of(entry.type))
    said = text_of(subject, "reference")
    found = None if said is None else entry.bundle.find(entry, said)
    if found is not None:
        ref = _of_patient(found, subject, choices)
    elif choices.identifier_system is not None:
        ref = _of_identifier(subject, choices.identifier_system)
    else:
        ref = _of_reference(subject, said, entry, choices)
    if not is_id(ref):
        raise subject.wrong("gives no id of 1 to 200 characters")
    return ref


def _of_patient(found: Entry, subject: Field, choices: Choices) -> str:
    if found.type != "Patient":
        raise subject.wrong("is no Patient")
    if choices.identifier_system is not None:
        wanted = choices.identifier_system
        known = {
            text_of(part, "value") or ""
            for part in listed(found.resource, "identifier")
            if text_of(part, "system") == wanted and text_of(part, "use") != "old"
        } - {""}
        if len(known) != 1:
            reason = "several identifiers" if known else "no identifier"
            raise subject.wrong(f"leads to a Patient with {reason} of options.identifier_system")
        return known.pop()
    if found.id is None or found.inside is not None:
        raise subject.wrong("leads to a Patient without an id of its own; set options.identifier_system")
    return _ref(found.base, found.id, subject, found, choices)


def _of_identifier(subject: Field, system: str) -> str:
    identifier = subject.optional("identifier")
    if identifier is None or text_of(identifier, "system") != system:
        raise subject.wrong(
            "leads to no Patient in the payload, and has no identifier of options.identifier_system itself"
        )
    return identifier.need("value").word()


def _of_reference(subject: Field, said: str | None, entry: Entry, choices: Choices) -> str:
    named = None if said is None else target(said)
    if named is None or named.type != "Patient":
        raise subject.wrong("leads to no Patient with an id, in the payload or on a server")
    base = named.base or (entry.inside or entry).base
    return _ref(base, named.id, subject, entry, choices)


def _ref(base: str | None, id_: str, subject: Field, entry: Entry, choices: Choices) -> str:
    """A Patient's id on the server that is set; else the whole URL: each server has its own `Patient/1`."""
    if choices.base is not None:
        return _named(base, "Patient", id_, entry, choices).removeprefix("Patient/")
    if base is None:
        reason = "does not say on which server the Patient is; set options.base or options.identifier_system"
        raise subject.need("reference").wrong(reason)
    return f"{base}/Patient/{id_}"


def _named(base: str | None, type_: str, id_: str, entry: Entry, choices: Choices) -> str:
    """`Type/id` on the source's own server; the whole URL of one on another, whose ids are other ids."""
    home = choices.base or entry.bundle.home
    return f"{type_}/{id_}" if base is None or home is None or base == home else f"{base}/{type_}/{id_}"


def name_of(entry: Entry, choices: Choices) -> str | None:
    """What a resource is called, whatever its version; None where it has no id."""
    if entry.id is None:
        return None
    name = _named(entry.base, entry.type, entry.id, entry, choices)
    return name if len(name) <= LONGEST_NAME else f"{entry.type}/~{stable_id(name)}"


def is_error(resource: Field, type_: str) -> bool:
    """Whether a resource says that it never held."""
    if type_ in (CONDITION, ALLERGY):
        return ERROR in _codes(resource, "verificationStatus")
    return text_of(resource, "status") == ERROR


def _codes(resource: Field, name: str) -> list[str]:
    return [coding.code for coding in codings(resource.optional(name))]


def _status(resource: Field, type_: str) -> list[str]:
    if type_ in (CONDITION, ALLERGY):
        return [next(iter(_codes(resource, name)), "") for name in _STATUSES[type_]]
    return [text_of(resource, name) or "" for name in _STATUSES[type_]]


def _by_content(entry: Entry, name: str | None, kept: Mapping[str, Any], status: list[str]) -> str:
    aside = (*_ASIDE, *_STATUSES[entry.type])
    said = {key: value for key, value in kept.items() if key not in aside}
    return f"{name or f'{entry.type}/-'}/~{stable_id(content.alike(said), *status)}"


def stamp_of(entry: Entry) -> str | None:
    """What tells two states of a medication apart that say the same: it may be active, on hold and active again."""
    if entry.type not in (MEDICATION, STATEMENT):
        return None
    meta = entry.resource.optional("meta")
    return entry.version or (None if meta is None else text_of(meta, "lastUpdated"))


def id_of_event(entry: Entry, name: str | None, kept: Mapping[str, Any]) -> str:
    """The id of the event of one resource. kept: what is kept of it, so that its original gives the same id again."""
    if name is not None and number(entry.version) is not None:
        return f"{name}/{entry.version}"
    stamp = stamp_of(entry)
    if name is not None and stamp is not None:
        return f"{name}/@{stable_id(stamp)}"
    return _by_content(entry, name, kept, _status(entry.resource, entry.type))


def before(entry: Entry, name: str | None) -> list[str]:
    """The ids of the versions before this one, as far as the payload tells them."""
    count = number(entry.version)
    if name is None or count is None:
        return []
    return [f"{name}/{earlier}" for earlier in range(max(1, count - MOST_VERSIONS), count)]


def once_said(entry: Entry, name: str | None, kept: Mapping[str, Any]) -> Iterator[str]:
    """For a resource that is `entered-in-error`: the ids under which it may have been taken before."""
    if name is not None and number(entry.version) is not None:
        yield from before(entry, name)
        return
    for status in product(*_STATUSES[entry.type].values()):
        yield _by_content(entry, name, kept, list(status))


def names_all(entry: Entry, name: str | None) -> bool:
    """Whether `once_said` names every version that there may have been: where they are few, or none is told apart."""
    if name is None:
        return True
    count = number(entry.version)
    if count is not None:
        return count <= MOST_VERSIONS + 1
    meta = entry.resource.optional("meta")
    return entry.version is None and (meta is None or text_of(meta, "lastUpdated") is None)


def versions_of(name: str, last: int) -> list[str]:
    """The ids of a resource up to a version."""
    return [f"{name}/{count}" for count in range(max(1, last - MOST_VERSIONS + 1), last + 1)]


def id_of_list(kind: str, members: list[str], at: str | None) -> str:
    """The id of an event that several resources make, or that a list makes which says when it was made."""
    return f"{kind}/{stable_id(at, *sorted(members))}"
