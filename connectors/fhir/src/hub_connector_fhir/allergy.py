"""AllergyIntolerance: one thing that the person must not have, or that none is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hub_connector_fhir.bundle import Entry
from hub_connector_fhir.condition import status_of
from hub_connector_fhir.terms import codings, listed, notes, text_of, words

_SNOMED = "http://snomed.info/sct"
NONE_KNOWN = f"{_SNOMED}|716186003"
_NONE_OF: Mapping[str, str] = {
    f"{_SNOMED}|409137002": "drug",
    f"{_SNOMED}|716184000": "latex",
    f"{_SNOMED}|429625007": "food",
    f"{_SNOMED}|428607008": "environmental",
    f"{_SNOMED}|716220001": "animal",
}
"""No known allergy of one sort: it says nothing of the others."""

_CLINICAL = ("active", "inactive", "resolved")
_CERTAIN = ("unconfirmed", "confirmed", "refuted")


@dataclass(frozen=True, kw_only=True, slots=True)
class Allergy:
    """name: of what holds; None where it does not hold. none_known: it says that there is none at all.

    partial: it says that there is none of one sort, or says so with a doubt; that is no empty list.
    """

    name: str | None
    none_known: bool
    partial: bool = False
    notes: list[str]


def read(entry: Entry) -> Allergy:
    """The allergy of a resource. Raises PayloadError."""
    resource = entry.resource
    concept = resource.optional("code")
    codes = {code.key for code in codings(concept)}
    said = _reactions(entry) + notes(resource)
    name = words(concept) or next((words(r.optional("substance")) for r in listed(resource, "reaction")), None)
    if name is None:
        raise resource.wrong("names no allergy")
    clinical, certain = (
        status_of(resource, "clinicalStatus", _CLINICAL),
        status_of(resource, "verificationStatus", _CERTAIN),
    )
    holds = clinical in (None, "active") and certain != "refuted"
    if NONE_KNOWN in codes and holds and certain in (None, "confirmed"):
        return Allergy(name=None, none_known=True, notes=said)
    nothing = bool(codes & {NONE_KNOWN, *_NONE_OF})
    doubt = [word for word in (clinical, certain) if word not in (None, "active", "confirmed")]
    told = f"{name} ({', '.join(map(str, doubt))})" if doubt else name
    listed_ = holds and not nothing
    about = [f"{told}: {'; '.join(said)}"] if said else ([] if listed_ else [told])
    return Allergy(name=told if listed_ else None, none_known=False, partial=nothing, notes=about)


def _reactions(entry: Entry) -> list[str]:
    """How severe it is, and what it did."""
    found = [f"criticality {said}"] if (said := text_of(entry.resource, "criticality")) else []
    for reaction in listed(entry.resource, "reaction"):
        shown = ", ".join(filter(None, (words(part) for part in listed(reaction, "manifestation"))))
        severity = text_of(reaction, "severity")
        text = " ".join(part for part in (shown, f"({severity})" if severity else None) if part)
        if text:
            found.append(text)
    return found
