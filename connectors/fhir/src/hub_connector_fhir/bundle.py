"""A Bundle, or a resource alone as one of one entry: what stands in it, and what its references lead to.

References are followed as R4 says (Bundle, "Resolving references in Bundles"): `#id` inside a resource, a `urn:` or a
URL by `fullUrl`, `Type/id` on the server of the entry's own `fullUrl`. Nothing is fetched, and only one step is taken
at a time, so that a circle of references is no loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hub.connector import PayloadError
from hub.connector.json import Field
from hub_connector_fhir import content
from hub_connector_fhir.terms import id_of, listed, text_of

TAG = "urn:saigai-hub:fhir"
"""System of the tags by which this connector knows what it wrote itself."""

ALONE = "alone"
LIST, RECORDS, VIEW = "list", "records", "view"

_LISTS = ("collection", "document", "message")
_TYPES = frozenset((*_LISTS, "searchset", "history", "transaction", "batch", "transaction-response", "batch-response"))
_REFERENCE = re.compile(
    r"(?:(https?://[^\s?#]{1,500})/|/)?([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?"
)
_ABOUT_ONE = frozenset(("patient", "subject"))
_LIST_SEARCH = _ABOUT_ONE | {
    *("status", "clinical-status", "verification-status"),
    *("_count", "_elements", "_format", "_include", "_list", "_revinclude", "_sort", "_total"),
}
"""Search parameters that leave a list of what holds whole."""

_MOST_ENTRIES = 50_000


@dataclass(frozen=True, slots=True)
class Target:
    """What a reference names. base: the server, None where it is relative."""

    base: str | None
    type: str
    id: str
    version: str | None


def target(reference: str) -> Target | None:
    """What a RESTful reference or fullUrl names; None for another one (`urn:uuid:`, `#id`)."""
    found = _REFERENCE.fullmatch(reference)
    return Target(found[1], found[2], found[3], found[4]) if found else None


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A resource where it stands.

    raw: the entry, as JSON; None for what is contained. url: its fullUrl. base: the server that its fullUrl is on.
    inside: the resource that contains it. about: the Reference to its person, where the resource's own has lost its
    target on the way through a hub.
    """

    resource: Field
    type: str
    bundle: Bundle = field(repr=False)
    id: str | None = None
    raw: Mapping[str, Any] | None = None
    url: str | None = None
    base: str | None = None
    inside: Entry | None = None
    about: Field | None = None

    @property
    def version(self) -> str | None:
        """Its `meta.versionId`."""
        meta = self.resource.optional("meta")
        return None if meta is None else text_of(meta, "versionId")

    def contained(self, id_: str) -> Entry | None:
        """The contained resource of an id."""
        holder = self.inside or self
        for found in listed(holder.resource, "contained"):
            if id_of(found) == id_:
                return Entry(found, found.need("resourceType").word(), self.bundle, id=id_, inside=holder)
        return None


@dataclass(eq=False)
class Bundle:
    """One Bundle. inner: Bundles that stand in it. broken: entries that cannot be read, and why.

    listed: whether it holds whole lists, not single records. up: the Bundle in which it stands.
    """

    root: Field
    type: str
    up: Bundle | None = None
    listed: bool = False
    home: str | None = None
    entries: list[Entry] = field(default_factory=list)
    inner: list[Bundle] = field(default_factory=list)
    deleted: list[Field] = field(default_factory=list)
    broken: list[tuple[PayloadError, Mapping[str, Any]]] = field(default_factory=list)
    _urls: dict[str, list[Entry]] = field(default_factory=dict)
    _names: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take an entry in, so that references find it."""
        self.entries.append(entry)
        if entry.url is not None:
            self._urls.setdefault(entry.url, []).append(entry)
        if entry.id is not None:
            self._names.setdefault((entry.type, entry.id), []).append(entry)

    @cached_property
    def tags(self) -> frozenset[tuple[str, str]]:
        """Its tags and security labels, as system and code."""
        return labels(self.root)

    def find(self, start: Entry, reference: str) -> Entry | None:
        """What a reference in `start` leads to; None where that is not in the payload. Raises PayloadError."""
        if reference.startswith("#"):
            return start.contained(reference[1:])
        named = target(reference)
        base = (start.inside or start).base
        if named is None:
            found = self._at(reference, None)
        elif named.base is None and base is None:
            found = _one(self._names.get((named.type, named.id), []), named.version)
        else:
            found = self._at(f"{named.base or base}/{named.type}/{named.id}", named.version)
        return found if found is not None or self.up is None else self.up.find(start, reference)

    def _at(self, url: str, version: str | None) -> Entry | None:
        return _one(self._urls.get(url, []), version)


def _one(found: list[Entry], version: str | None) -> Entry | None:
    """The one that is meant of several with one URL: that version, else the newest that counts its versions."""
    if version is not None:
        found = [entry for entry in found if entry.version == version] or found
    if len(found) < 2:
        return found[0] if found else None
    numbers = [number(entry.version) for entry in found]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return max(zip(numbers, range(len(found)), found, strict=True))[2]
    if all(entry.resource.value == found[0].resource.value for entry in found):
        return found[0]
    raise PayloadError("leads to several resources with one fullUrl", path=found[0].resource.path)


def number(version: str | None) -> int | None:
    """A version that counts: 1, 2, 3 …; None where it does not."""
    return int(version) if version is not None and re.fullmatch(r"[1-9][0-9]{0,8}", version, re.ASCII) else None


def labels(resource: Field) -> frozenset[tuple[str, str]]:
    """The tags and security labels of a resource, as system and code."""
    meta = resource.optional("meta")
    if meta is None:
        return frozenset()
    found = [*listed(meta, "tag"), *listed(meta, "security")]
    return frozenset((text_of(part, "system") or "", text_of(part, "code") or "") for part in found)


def alone(resource: Field, type_: str, home: str | None) -> Bundle:
    """A resource by itself, as a Bundle of one entry."""
    bundle = Bundle(resource, ALONE, home=home)
    bundle.add(Entry(resource, type_, bundle, id=id_of(resource), raw={"resource": resource.value}))
    return bundle


def opened(root: Field, home: str | None, up: Bundle | None = None, *, halves: bool = False) -> Bundle:
    """A Bundle, read. halves: whether half characters are to be looked for in its entries.

    home: the URL of the source's own server; else that of the first entry which names one.
    """
    type_ = root.need("type")
    if type_.text() not in _TYPES:
        raise type_.wrong("is no type of a Bundle that is read")
    bundle = Bundle(root, type_.text(), up=up, home=home)
    bundle.listed = _is_listed(bundle)
    for count, entry in enumerate(listed(root, "entry")):
        if count >= _MOST_ENTRIES:
            raise entry.wrong(f"is one entry more than the {_MOST_ENTRIES:,} that are read")
        try:
            if halves:
                content.written(entry.value)
            _take(bundle, entry)
        except PayloadError as error:
            bundle.broken.append((error, entry.value if isinstance(entry.value, dict) else {}))
    return bundle


def _is_listed(bundle: Bundle) -> bool:
    """Whether it holds whole lists: by its type; a search where it asked for one patient's and has no further page."""
    for code, verdict in ((LIST, True), (RECORDS, False), (VIEW, False)):
        if (TAG, code) in bundle.tags:
            return verdict
    if bundle.type != "searchset":
        return bundle.type in _LISTS
    links = {text_of(link, "relation"): text_of(link, "url") or "" for link in listed(bundle.root, "link")}
    asked = {part.partition("=")[0].partition(":")[0] for part in links.get("self", "").partition("?")[2].split("&")}
    return bool(asked & _ABOUT_ONE) and asked <= _LIST_SEARCH and not links.keys() & {"next", "previous"}


def _take(bundle: Bundle, entry: Field) -> None:
    """One entry: a resource, a deletion, or a Bundle inside."""
    if entry.optional("modifierExtension") is not None:
        raise entry.wrong("has a modifierExtension, which is not known and may change what all of it means")
    request = entry.optional("request")
    method = text_of(request, "method") if request is not None else None
    if method == "DELETE":
        bundle.deleted.append(entry)
        return
    resource = entry.optional("resource")
    if resource is None:
        return
    if method == "PATCH":
        raise entry.wrong("is a PATCH; send the whole resource")
    type_ = resource.need("resourceType").word(64)
    if type_ == "Bundle":
        _take_inner(bundle, resource)
        return
    url = text_of(entry, "fullUrl")
    named = target(url) if url else None
    base = named.base if named else None
    if bundle.home is None:
        bundle.home = base
    if named and named.version:
        url = f"{named.base}/{named.type}/{named.id}"
    bundle.add(Entry(resource, type_, bundle, id=id_of(resource), raw=entry.value, url=url, base=base))


def _take_inner(bundle: Bundle, resource: Field) -> None:
    if bundle.up is not None:
        raise resource.wrong("is a Bundle in a Bundle in a Bundle, which is not read")
    bundle.inner.append(opened(resource, bundle.home, bundle))


def references(resource: Field) -> Iterator[Field]:
    """The requester and the medicine of a resource: what its fact takes words from."""
    for name in ("medicationReference", "requester"):
        found = resource.optional(name)
        if found is not None:
            yield found


def size(value: Any) -> int:
    """How many bytes a value has as JSON."""
    return len(content.written(value).encode())
