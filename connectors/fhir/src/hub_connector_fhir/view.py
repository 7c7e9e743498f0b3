"""A view's answer as a Bundle: a Patient for each person, the resources of each fact, and where it came from.

Nothing is in it that is not in the answer, and equal answers give equal bytes: ids come of the content, times of the
facts. A fact that came in FHIR goes out in its source's own resources, turned to the Patient beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote
from uuid import UUID

from hub.connector import PayloadError
from hub_connector_fhir import content, resources
from hub_connector_fhir.bundle import LIST, TAG, VIEW
from hub_connector_fhir.groups import KINDS
from hub_connector_fhir.identity import FACTS, subject_of
from hub_connector_fhir.resources import DATA, KIND, Item, Resource
from hub_connector_fhir.returning import PLACE, REFERENCE, WHOLE

MEDIA_TYPE = "application/fhir+json"

PERSON, SOURCE, EVENT, PURPOSE = (f"urn:saigai-hub:{name}" for name in ("person", "source", "event", "purpose"))
_MODE, _PRECISION, _QUERY = (f"urn:saigai-hub:fhir:{name}" for name in ("mode", "precision", "query"))
_TEST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
_AUTHOR = {"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "author"}
_FULL = "full"


def rendered(answer: Mapping[str, Any]) -> bytes:
    """The answer as a Bundle, in UTF-8."""
    entries = [entry for person in answer["persons"] for entry in _person(person, answer["purpose"])]
    bundle: Resource = {
        "resourceType": "Bundle",
        "meta": _meta(answer),
        "type": "searchset",
        "timestamp": answer["time"],
    }
    if answer.get("next"):
        bundle["link"] = [{"relation": "next", "url": f"?cursor={quote(answer['next'], safe='')}"}]
    if entries:
        bundle["entry"] = entries
    bundle["id"] = _uuid(content.written(bundle))
    return content.written(bundle).encode()


def _meta(answer: Mapping[str, Any]) -> Resource:
    asked = [
        {"url": "recipient", "valueString": answer["recipient"]},
        {"url": "purpose", "valueString": answer["purpose"]},
        {"url": "exercise", "valueBoolean": answer["exercise"]},
    ]
    meta: Resource = {"extension": [{"url": _QUERY, "extension": asked}], "tag": [{"system": TAG, "code": VIEW}]}
    return {**meta, "security": [_TEST]} if answer["exercise"] else meta


def _person(person: Mapping[str, Any], purpose: str) -> list[Resource]:
    name, items = person["person"], person["items"]
    profile: Mapping[str, Any] = next((item["data"] for item in items if item["kind"] == "profile.updated"), {})
    id_ = _uuid("person", name)
    patient = {
        "resourceType": "Patient",
        "id": id_,
        "extension": [{"url": _MODE, "valueCode": person["mode"]}],
        "identifier": [{"system": PERSON, "value": name}],
        **resources.person(profile),
    }
    entries = [_entry(_urn(id_), patient, "match")]
    for item in items:
        entries += _fact(item, name, _urn(id_), purpose)
    return entries


def _fact(item: Item, person: str, patient: str, purpose: str) -> list[Resource]:
    """The entries of one fact, its Provenance last."""
    about = (person, item["source"], item["event"])
    came = _originals(item)
    if came is not None:
        whole, found = came
        urns = [_urn(_uuid(*about, str(number))) for number in range(len(found))]
        targets = [_target(urn, url) for urn, (url, _) in zip(urns, found, strict=True)]
        written = _turned(found, urns, patient)
        signs = whole
    else:
        own = resources.mapped(item, {"reference": patient})
        data = [{"url": DATA, "valueString": content.ordered(item["data"])}]
        signs = [] if resources.has_own_data(own) else [*data, *_whole(item)]
        ids = [_uuid(*about, str(number)) for number in range(len(own))]
        urns = [_urn(id_) for id_ in ids]
        targets = [_target(urn, None) for urn in urns]
        written = [
            {**resource, "id": id_, **({"extension": data} if not signs else {})}
            for resource, id_ in zip(own, ids, strict=True)
        ]
    entries = [
        _entry(urn, resource, "match" if came is None or resource.get("resourceType") in FACTS else "include")
        for urn, resource in zip(urns, written, strict=True)
    ]
    id_ = _uuid(*about, "provenance")
    return [*entries, _entry(_urn(id_), {**_provenance(item, targets, signs, purpose), "id": id_}, "include")]


def _originals(item: Item) -> tuple[list[Resource], list[tuple[str | None, Resource]]] | None:
    """The source's own resources with their fullUrls, and what tells that they are a list; None without any."""
    data = item["data"]
    if item["precision"] != _FULL or not str(data.get("original_type", "")).startswith(MEDIA_TYPE):
        return None
    try:
        root = content.read(str(data.get("original", "")).encode("utf-8", "replace")).value
        content.written(root)
    except PayloadError:
        return None
    if root.get("resourceType") in FACTS:
        return [], [(None, root)]
    tag = next(iter(_tags(root)), None)
    if root.get("resourceType") != "Bundle" or tag is None or not isinstance(root.get("entry"), list):
        return None
    found = [(part.get("fullUrl"), part["resource"]) for part in root["entry"] if _holds_resource(part)]
    if len(found) != len(root["entry"]) or not found:
        return None
    made = root.get("timestamp")
    value = {"valueInstant": made} if isinstance(made, str) else {"valueBoolean": True}
    return ([{"url": WHOLE, **value}] if tag == LIST else []), found


def _whole(item: Item) -> list[Resource]:
    """What tells that a mapped fact says all there is. A summary does not show whether it is of one record."""
    says = item["kind"] in KINDS.values() and item["precision"] == _FULL and not resources.is_single(item)
    return [{"url": WHOLE, "valueBoolean": True}] if says else []


def _holds_resource(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("resource"), dict)


def _tags(root: Resource) -> Sequence[str]:
    meta = root.get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    return [tag["code"] for tag in tags or () if isinstance(tag, dict) and tag.get("system") == TAG]


def _turned(found: Sequence[tuple[str | None, Resource]], urns: Sequence[str], patient: str) -> list[Resource]:
    """The resources with their subject and their references to one another turned to where those stand now.

    The Reference as it was written is kept beside it, so that it can be had back.
    """
    places: dict[str, str] = {}
    for (url, resource), urn in zip(found, urns, strict=True):
        if isinstance(resource.get("id"), str):
            places.setdefault(f"{resource.get('resourceType')}/{resource['id']}", urn)
        if url:
            places[url] = urn
    return [_turned_one(resource, places, patient) for _, resource in found]


def _turned_one(resource: Resource, places: Mapping[str, str], patient: str) -> Resource:
    turned: Resource = _walk(resource, places)
    name = subject_of(str(resource.get("resourceType")))
    subject = resource.get(name)
    if resource.get("resourceType") not in FACTS or not isinstance(subject, dict):
        return turned
    if not str(subject.get("reference", "")).startswith("#"):
        turned[name] = _reference(subject, patient)
    return turned


def _walk(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_walk(part, places) for part in value]
    if not isinstance(value, dict):
        return value
    said = value.get("reference")
    if isinstance(said, str) and said in places:
        return _reference(value, places[said])
    return {name: _walk(part, places) for name, part in value.items()}


def _reference(said: Resource, urn: str) -> Resource:
    before = said.get("reference")
    sign: Resource = {"url": REFERENCE}
    sign |= {"valueString": before} if isinstance(before, str) else {"valueBoolean": False}
    return {**said, "reference": urn, "extension": [*said.get("extension", ()), sign]}


def _provenance(item: Item, targets: Sequence[Resource], signs: Sequence[Resource], purpose: str) -> Resource:
    [(basis, id_)] = item["basis"].items()
    said: Resource = {
        "resourceType": "Provenance",
        "extension": [{"url": _PRECISION, "valueString": item["precision"]}, *signs],
        "target": list(targets),
        "recorded": item["recorded_at"],
        "policy": [f"urn:saigai-hub:{basis}:{quote(id_, safe='')}"],
        "reason": [{"coding": [{"system": PURPOSE, "code": purpose}]}],
        "activity": {"coding": [{"system": KIND, "code": item["kind"]}]},
        "agent": [{"type": {"coding": [_AUTHOR]}, "who": {"identifier": {"system": SOURCE, "value": item["source"]}}}],
        "entity": [{"role": "source", "what": {"identifier": {"system": EVENT, "value": item["event"]}}}],
    }
    return {**said, "occurredDateTime": item["occurred_at"]} if item.get("occurred_at") else said


def _target(urn: str, url: str | None) -> Resource:
    """The Reference to a resource, with the fullUrl that it had at its source."""
    return {"reference": urn, **({"extension": [{"url": PLACE, "valueString": url}]} if url else {})}


def _entry(url: str, resource: Resource, mode: str) -> Resource:
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}


def _uuid(*parts: str) -> str:
    """A UUID of the content: equal parts, equal id."""
    return str(UUID(bytes=hashlib.sha256(content.written(list(parts)).encode()).digest()[:16], version=5))


def _urn(id_: str) -> str:
    return f"urn:uuid:{id_}"
