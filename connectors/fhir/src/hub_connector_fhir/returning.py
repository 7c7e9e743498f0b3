"""A Bundle that the hub wrote itself, read again: each Provenance names the resources of one fact."""

from __future__ import annotations

from typing import Any

from hub.connector import PayloadError
from hub.connector.json import Field
from hub_connector_fhir.bundle import LIST, RECORDS, TAG, VIEW, Bundle, Entry, target
from hub_connector_fhir.identity import subject_of
from hub_connector_fhir.terms import listed, text_of

REFERENCE = "urn:saigai-hub:fhir:reference"
"""Extension of a Reference that the hub turned to the resources beside it: the Reference as the source wrote it."""

PLACE = "urn:saigai-hub:fhir:full-url"
"""Extension of a Provenance's target: the fullUrl that the resource had at its source."""

WHOLE = "urn:saigai-hub:fhir:list"
"""Extension of a Provenance: its targets are one list; the time that the list said, where it said one."""


def unfolded(bundle: Bundle) -> Bundle:
    """`bundle`, where it is one of the hub's own with its facts as Bundles inside, else as it is."""
    if (TAG, VIEW) not in bundle.tags:
        return bundle
    told: set[int] = set()
    kept = list(bundle.entries)
    inner = []
    for entry in kept:
        if entry.type == "Provenance":
            told.add(id(entry))
            inner.append(_fact(bundle, entry, told))
    rest = Bundle(bundle.root, bundle.type, home=bundle.home, inner=inner, broken=bundle.broken)
    for entry in kept:
        if id(entry) not in told:
            rest.add(_returned(entry, rest))
    return rest


def _fact(bundle: Bundle, provenance: Entry, told: set[int]) -> Bundle:
    """The Bundle of one fact: its resources with the references that they came with."""
    tag, made = RECORDS, None
    for extension in listed(provenance.resource, "extension"):
        if _is(extension, WHOLE):
            tag, made = LIST, text_of(extension, "valueInstant")
    root = {"resourceType": "Bundle", "meta": {"tag": [{"system": TAG, "code": tag}]}, "type": "collection"}
    fact = Bundle(
        Field({**root, **({"timestamp": made} if made else {})}, provenance.resource.path),
        "collection",
        up=bundle,
        home=bundle.home,
        listed=tag == LIST,
    )
    for reference in listed(provenance.resource, "target"):
        said = text_of(reference, "reference")
        found = bundle.find(provenance, said) if said else None
        if found is None:
            continue
        told.add(id(found))
        places = [text_of(part, "valueString") for part in listed(reference, "extension") if _is(part, PLACE)]
        fact.add(_returned(found, fact, next(iter(places), None)))
    return fact


def _is(extension: Field, url: str) -> bool:
    return text_of(extension, "url") == url


def _returned(entry: Entry, bundle: Bundle, url: str | None = None) -> Entry:
    """An entry as its source wrote it, about the Patient beside it."""
    resource = Field(restored(entry.resource.value), entry.resource.path)
    name = subject_of(entry.type)
    turned = entry.resource.value.get(name) != resource.value.get(name)
    about = entry.resource.optional(name) if turned else None
    named = target(url) if url else None
    base = named.base if named else None
    if bundle.home is None:
        bundle.home = base
    return Entry(resource, entry.type, bundle, id=entry.id, raw=entry.raw, url=url, base=base, about=about)


def restored(value: Any) -> Any:
    """A resource with the references that its source wrote. Raises PayloadError."""
    try:
        return _restored(value)
    except RecursionError:
        raise PayloadError("is nested too deeply", path="entry") from None


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(part) for part in value]
    if not isinstance(value, dict):
        return value
    extensions = value.get("extension")
    if isinstance(extensions, list) and extensions and _is_ours(extensions[-1]):
        value = dict(value)
        before = extensions[-1].get("valueString")
        if before is None:
            value.pop("reference", None)
        else:
            value["reference"] = before
        if len(extensions) > 1:
            value["extension"] = extensions[:-1]
        else:
            del value["extension"]
    return {name: _restored(part) for name, part in value.items()}


def _is_ours(extension: Any) -> bool:
    return isinstance(extension, dict) and extension.get("url") == REFERENCE
