"""What is kept of a resource beside the fact: the clinical content, without what names a person.

Whoever may see a fact at precision full sees its original. The fact itself is under the person's pseudonym; their name
in the original, in a display, a contained Patient or the narrative, would undo that for all who may see a temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub.connector import PayloadError
from hub_connector_fhir.bundle import Entry, target
from hub_connector_fhir.choices import Choices
from hub_connector_fhir.identity import MEDICATION, STATEMENT
from hub_connector_fhir.medication import PRESCRIBER, prescriber

WHOLE, CLINICAL, NONE = "whole", "clinical", "none"

_PERSONS = frozenset(("Patient", "RelatedPerson", "Person", "Practitioner", "PractitionerRole"))
_CODINGS = frozenset(("coding", "valueCoding", "tag", "security"))
_THINGS = frozenset(
    (
        *("medicationReference", "itemReference", "reasonReference", "encounter", "context", "device", "specimen"),
        *("basedOn", "partOf", "derivedFrom", "hasMember", "priorPrescription", "supportingInformation", "detail"),
        *("location", "organization", "managingOrganization", "manufacturer", "custodian", "assigner", "insurance"),
        *("assessment", "evidence", "consequence", "detectedIssue", "eventHistory"),
    )
)
"""References that lead to no person, where they do not say to what; what they display is kept."""

_EMPTY: Sequence[Any] = ({}, [])
_NAMES = frozenset(("valueHumanName", "valueAddress", "valueContactPoint"))


def kept(entry: Entry, choices: Choices) -> Mapping[str, Any]:
    """The resource of an entry as it is kept. Raises PayloadError.

    Who prescribed is a field of the fact; it stays beside the order in an extension, as the hub writes it, so that the
    original that goes out gives the same fact again.
    """
    if choices.original == WHOLE:
        return entry.resource.value  # type: ignore[no-any-return]
    found: dict[str, Any] = without_persons(entry.resource.value)
    name = prescriber(entry) if entry.type in (MEDICATION, STATEMENT) else None
    requester, extensions = found.get("requester"), found.get("extension", [])
    shows = isinstance(requester, dict) and "display" in requester
    if name is None or shows or any(_url(part) == PRESCRIBER for part in extensions):
        return found
    return {**found, "extension": [*extensions, {"url": PRESCRIBER, "valueString": name}]}


def without_persons(resource: Mapping[str, Any]) -> dict[str, Any]:
    """A resource without narrative and names of persons; a contained person is left as what references lead to.

    Raises PayloadError.
    """
    inside = resource.get("contained")
    found = inside if isinstance(inside, list) else []
    types = {f"#{one.get('id')}": one.get("resourceType") for one in found if isinstance(one, dict)}
    try:
        return _resource(resource, types)
    except RecursionError:
        raise PayloadError("is nested too deeply") from None


def _resource(resource: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    type_ = resource.get("resourceType")
    if isinstance(type_, str) and type_ in _PERSONS:
        left = ("resourceType", "id", "identifier") if type_ == "Patient" else ("resourceType", "id")
        resource = {name: resource[name] for name in left if name in resource}
    return _object({name: part for name, part in resource.items() if name not in ("text", "_text")}, "", types)


def _object(value: Mapping[str, Any], key: str, types: Mapping[str, Any]) -> dict[str, Any]:
    names_person = _names_person(value, key, types)
    found = {}
    for name, part in value.items():
        plain = name.removeprefix("_")
        if plain in _NAMES or plain == "authorString" or (plain == "display" and names_person):
            continue
        left = _walk(part, plain, types)
        if left not in _EMPTY or part in _EMPTY:
            found[name] = left
    return found


def _walk(value: Any, key: str, types: Mapping[str, Any]) -> Any:
    """What is left of a value. FHIR has nothing empty: what is emptied goes, an extension without its value too."""
    if isinstance(value, list):
        parts = [(part, _walk(part, key, types)) for part in value]
        return [left for part, left in parts if left == part or not _is_emptied(left, key)]
    if not isinstance(value, dict):
        return value
    return _resource(value, types) if "resourceType" in value else _object(value, key, types)


def _is_emptied(left: Any, key: str) -> bool:
    return left in _EMPTY or (key == "extension" and isinstance(left, dict) and not left.keys() - {"url", "id"})


def _names_person(value: Mapping[str, Any], key: str, types: Mapping[str, Any]) -> bool:
    """Whether a value is a Reference to a person, or to what it does not say and may be one."""
    if "display" not in value and "_display" not in value:
        return False
    if key in _CODINGS or "code" in value or "system" in value:
        return False
    said, type_ = value.get("reference"), value.get("type")
    if isinstance(said, str) and type_ is None:
        named = target(said)
        type_ = types.get(said) if named is None else named.type
    if not isinstance(type_, str):
        return key not in _THINGS
    return type_.rpartition("/")[2] in _PERSONS


def _url(extension: Any) -> Any:
    return extension.get("url") if isinstance(extension, dict) else None
