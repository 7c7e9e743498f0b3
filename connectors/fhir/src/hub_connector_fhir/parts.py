"""A part of a payload: where it stands, and as a payload of its own, to be mended and sent again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hub.connector import PayloadError
from hub_connector_fhir import content
from hub_connector_fhir.bundle import RECORDS, TAG, VIEW, Bundle, Entry
from hub_connector_fhir.identity import subject_of
from hub_connector_fhir.terms import text_of


def path_of(entry: Entry, name: str = "") -> str:
    """Where a resource stands; of one alone, its type."""
    where = entry.resource.path or ("" if name else entry.type)
    return ".".join(part for part in (where, name) if part)


def tags_of(bundle: Bundle | None) -> frozenset[tuple[str, str]]:
    """The tags and security labels of a Bundle and of those in which it stands."""
    found: frozenset[tuple[str, str]] = frozenset()
    while bundle is not None:
        found |= bundle.tags
        bundle = bundle.up
    return found


def part_of(bundle: Bundle, raws: list[Mapping[str, Any]], entry: Entry | None) -> bytes:
    """A part of a payload that translates alone: its entry, and the Patient and others that it refers to."""
    try:
        near = list(raws)
        for found in _near(entry) if entry is not None else ():
            if found.raw is not None and found.raw not in near:
                near.append(found.raw)
        said = {
            "resourceType": "Bundle",
            "meta": {"tag": [{"system": TAG, "code": VIEW if (TAG, VIEW) in tags_of(bundle) else RECORDS}]},
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
