"""Consent: a permission that somebody wrote down elsewhere becomes a request to the person; only they grant.

What it permits, to whom and what for is told in the city's own words by the tables of `files.terms`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hub.connector import PayloadError, stable_id
from hub.connector.json import Field
from hub_connector_fhir.bundle import Entry
from hub_connector_fhir.choices import Choices
from hub_connector_fhir.identity import name_of
from hub_connector_fhir.terms import coding, codings, listed, moment, text_of, word_of

_STATUSES = dict.fromkeys(("draft", "proposed", "active", "rejected", "inactive", "entered-in-error"))
_READ = ("proposed", "active")
_RECIPIENTS = ("IRCP", "PRCP", "GRANTEE")
"""Roles of an actor who receives (v3-ParticipationType, v3-RoleCode). A custodian or author does not."""

ANY = "*"
"""The key in `kinds` for a permission that names no class of information."""

_DAY_LENGTH = len("2026-06-01")
_MOST_REQUESTS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request. id: stable for what it says, so that the same Consent asks once."""

    id: str
    data: dict[str, Any]
    occurred_at: datetime | None


def read(entry: Entry, choices: Choices, wrong: list[PayloadError]) -> list[Asked] | str:
    """The requests of a Consent, or why it gives none. wrong: takes what has no word in this city."""
    resource = entry.resource
    if word_of(resource, "status", _STATUSES) not in _READ:
        return "is not in force: it is no grant"
    root = resource.optional("provision")
    permits, denies = _provisions(root)
    if not permits:
        return "permits nothing: it is no grant"
    if denies:
        raise denies[0].wrong("denies a part of what it permits, which a request cannot say")
    asked: dict[tuple[str, str, datetime | None], set[str]] = {}
    for permit in permits:
        for recipient, purpose, until, kinds in _asks(entry, permit, choices, wrong):
            asked.setdefault((recipient, purpose, until), set()).update(kinds)
    if len(asked) > _MOST_REQUESTS:
        raise resource.wrong(f"asks for more than {_MOST_REQUESTS} grants")
    at = moment(resource.optional("dateTime"), choices.zone)
    name = name_of(entry, choices)
    return [_asked(name, at, *key, sorted(kinds)) for key, kinds in asked.items()]


def _asked(
    name: str | None, at: datetime | None, recipient: str, purpose: str, until: datetime | None, kinds: list[str]
) -> Asked:
    data = {"recipient": recipient, "kinds": kinds, "purpose": purpose, "until": until}
    said = [part.isoformat() if isinstance(part, datetime) else part for part in (at, recipient, purpose, until)]
    id_ = f"Consent/{stable_id(name, *said, *kinds)}"
    return Asked(id=id_, data={"request": id_, **data}, occurred_at=at)


def _provisions(root: Field | None) -> tuple[list[Field], list[Field]]:
    """What is permitted by name, and what is denied of that.

    R4 gives the root provision no type, but it is often written; a permission below a denial is its exception. Beside a
    permission a denial may be of a part of it.
    """
    if root is None:
        return [], []
    inner = list(listed(root, "provision"))
    permitted = [part for part in inner if text_of(part, "type") == "permit"]
    denied = [part for part in inner if text_of(part, "type") == "deny"]
    if text_of(root, "type") == "permit":
        return [root, *permitted], denied
    below = [deeper for part in permitted for deeper in listed(part, "provision")]
    beside = [] if text_of(root, "type") == "deny" else denied
    return permitted, [*beside, *(part for part in below if text_of(part, "type") == "deny")]


def _asks(
    entry: Entry, permit: Field, choices: Choices, wrong: list[PayloadError]
) -> Iterator[tuple[str, str, datetime | None, tuple[str, ...]]]:
    recipients = list(_mapped(_actors(entry, permit), choices.recipients, permit, "actor", wrong))
    purposes = list(_mapped(_purposes(permit), choices.purposes, permit, "purpose", wrong))
    kinds = {kind for found in _mapped(_classes(permit), choices.kinds, permit, "class", wrong) for kind in found}
    until = _until(permit, choices)
    for recipient in recipients:
        for purpose in purposes:
            if kinds:
                yield recipient, purpose, until, tuple(sorted(kinds))


def _mapped(
    said: list[tuple[Field, list[str]]], words: Any, permit: Field, name: str, wrong: list[PayloadError]
) -> Iterator[Any]:
    """What the table says of each, by the first of its keys that is known; what it does not say goes to `wrong`."""
    if not said:
        wrong.append(permit.wrong(f"names no {name} that a request needs"))
    for field, keys in said:
        known = next((words[key] for key in keys if key in words), None)
        if known is None:
            wrong.append(field.wrong("has no word in this city: see files.terms"))
        else:
            yield known


def _actors(entry: Entry, permit: Field) -> list[tuple[Field, list[str]]]:
    found = []
    for actor in listed(permit, "actor"):
        if not {code.code for code in codings(actor.optional("role"))} & set(_RECIPIENTS):
            continue
        reference = actor.need("reference")
        found.append((reference, list(_keys(entry, reference))))
    return found


def _keys(entry: Entry, reference: Field) -> Iterator[str]:
    """By what an organisation may stand in the table: its identifiers, and what the reference says."""
    identifiers = [part for part in (reference.optional("identifier"),) if part is not None]
    said = text_of(reference, "reference")
    target = entry.bundle.find(entry, said) if said else None
    if target is not None:
        identifiers += list(listed(target.resource, "identifier"))
    for identifier in identifiers:
        yield f"{text_of(identifier, 'system') or ''}|{text_of(identifier, 'value') or ''}"
    if said:
        yield said
    if target is not None and target.id is not None and target.inside is None:
        yield f"{target.type}/{target.id}"


def _purposes(permit: Field) -> list[tuple[Field, list[str]]]:
    return [(part, [coding(part).key]) for part in listed(permit, "purpose")]


def _classes(permit: Field) -> list[tuple[Field, list[str]]]:
    """The classes and codes of what is permitted."""
    found = [(part, [coding(part).key]) for part in listed(permit, "class")]
    found += [(part, [code.key for code in codings(part)]) for part in listed(permit, "code")]
    narrowed = [part for name in ("data", "securityLabel") for part in listed(permit, name)]
    narrowed += [part for part in (permit.optional("dataPeriod"),) if part is not None]
    if narrowed:
        raise narrowed[0].wrong("narrows the permission in a way that a request cannot say")
    return found or [(permit, [ANY])]


def _until(permit: Field, choices: Choices) -> datetime | None:
    """The end of the permission; a day that is named as its end belongs to it."""
    span = permit.optional("period")
    end = None if span is None else span.optional("end")
    at = moment(end, choices.zone)
    if end is None or at is None or len(end.word()) > _DAY_LENGTH:
        return at
    if len(end.word()) < _DAY_LENGTH:
        raise end.wrong("is no day")
    return at + timedelta(days=1)
