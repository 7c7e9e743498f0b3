"""CloudEvents 1.0 in: structured, batch, binary and NDJSON, each event to the hub's own `Event`.

What the attributes say is read in `hub.wire`; `data` says the rest. What cannot be read is told by path,
without its value.
Source: CloudEvents 1.0.2, JSON format 1.0.2 and HTTP binding 1.0.2.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from hub.codec import is_id
from hub.connector.json import parse
from hub.errors import PayloadError
from hub.events import Event
from hub.web import bodies
from hub.web.problems import Problem
from hub.wire import attributes, with_exercise

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
NDJSON = "application/x-ndjson"
MOST_EVENTS = 10_000

_JSON = re.compile(r"(?:[a-z0-9!#$&^_.+-]+/)?(?:[a-z0-9!#$&^_.+-]+\+)?json", re.ASCII)


@dataclass(frozen=True, slots=True)
class Unread:
    """An event that cannot be read. id, source, kind, person, ref: as far as they can be."""

    error: PayloadError
    id: str | None = None
    source: str | None = None
    kind: str = ""
    person: str | None = None
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """One event of a request: read or not, and its own bytes as one structured CloudEvent."""

    event: Event | Unread
    raw: Any

    @property
    def id(self) -> str | None:
        """The id that it gives itself."""
        return self.event.id


def structured(body: bytes) -> Sent:
    """One event in the JSON format."""
    try:
        said = parse(body)
    except PayloadError as error:
        raise Problem("not-read", "The body cannot be read.", [{"path": "", "reason": error.reason}]) from None
    return sent(said)


def batch(body: bytes) -> list[Sent]:
    """The events of a JSON array."""
    try:
        said = parse(body)
    except PayloadError as error:
        raise Problem("not-read", "The body cannot be read.", [{"path": "", "reason": error.reason}]) from None
    if not isinstance(said, list):
        raise Problem("not-read", "The body cannot be read.", [{"path": "", "reason": "is no array of events"}])
    _check_count(len(said))
    return [sent(part) for part in said]


def ndjson(body: bytes) -> list[Sent]:
    """One event a line; a line that is no JSON is refused by itself."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    _check_count(len(lines))
    found = []
    for line in lines:
        try:
            found.append(sent(parse(line)))
        except PayloadError as error:
            found.append(Sent(Unread(error), line))
    return found


def binary(headers: Mapping[str, str], body: bytes) -> Sent:
    """One event whose attributes stand in `ce-*` headers."""
    said: dict[str, Any] = {}
    for name, value in headers.items():
        if name.startswith("ce-"):
            said[name[3:]] = _header(value)
    content = headers.get("content-type")
    if content is not None:
        said["datacontenttype"] = content
    with_exercise(said)
    if body:
        try:
            said["data"] = parse(body)
        except PayloadError as error:
            return Sent(_unread(said, PayloadError(error.reason, path="data")), said)
    return sent(said)


def _header(value: str) -> str:
    """Percent-decoded UTF-8, as the HTTP binding writes what is not printable ASCII (3.1.3.2)."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        value = value.encode("latin-1").decode("utf-8")
        return unquote(value, errors="strict")
    except UnicodeError:
        return "\0"  # no attribute may hold it: the check says which


def _check_count(count: int) -> None:
    if count > MOST_EVENTS:
        raise Problem("too-large", f"At most {MOST_EVENTS} events are taken at once; send smaller pieces.")


def sent(said: Any) -> Sent:
    """The event that a structured CloudEvent says."""
    try:
        return Sent(_event(said), said)
    except PayloadError as error:
        return Sent(_unread(said, error), said)


def events_of(payload: bytes) -> list[Event]:
    """The event of one structured CloudEvent that was kept. Raises PayloadError."""
    return [_event(parse(payload))]


def _unread(said: Any, error: PayloadError) -> Unread:
    known = said if isinstance(said, dict) else {}

    def plain(name: str) -> str | None:
        return known[name] if is_id(known.get(name)) else None

    return Unread(error, plain("id"), plain("source"), plain("type") or "", plain("subject"), plain("ref"))


def _event(said: Any) -> Event:
    if not isinstance(said, dict):
        raise PayloadError("is no object")
    return Event(**attributes(said), data=_data(said))


def _data(said: Mapping[str, Any]) -> dict[str, Any]:
    content = said.get("datacontenttype")
    if content is not None:
        plain = content.split(";")[0].strip().lower() if isinstance(content, str) else ""
        if not _JSON.fullmatch(plain):
            raise PayloadError("is not JSON (application/json)", path="datacontenttype")
    schema = said.get("dataschema")
    if schema is not None and not (isinstance(schema, str) and schema):
        raise PayloadError("is no URI", path="dataschema")
    if "data_base64" in said:
        if said.get("data") is not None:
            raise PayloadError("stands beside data", path="data_base64")
        data = _packed(said["data_base64"])
    else:
        data = said.get("data")
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise PayloadError("is no object", path="data")
    return data


def _packed(said: Any) -> Any:
    try:
        return parse(base64.b64decode(said, validate=True))
    except (TypeError, ValueError, binascii.Error):
        raise PayloadError("is no base64", path="data_base64") from None
    except PayloadError as error:
        raise PayloadError(error.reason, path="data_base64") from None


def read(content: str, headers: Mapping[str, str], body: bytes) -> tuple[list[Sent], bool]:
    """The events of a request, and whether it is a single one. Raises Problem."""
    match content:
        case "application/cloudevents+json":
            _check_size(body)
            return [structured(body)], True
        case "application/cloudevents-batch+json":
            return batch(body), False
        case "application/x-ndjson" | "application/ndjson" | "application/jsonl":
            return ndjson(body), False
        case _ if "ce-specversion" in headers or "ce-type" in headers:
            if content and not _JSON.fullmatch(content):
                raise Problem("wrong-media-type", "The data of an event has to be JSON.")
            _check_size(body)
            return [binary(headers, body)], True
        case _:
            offered = f"{STRUCTURED}, {BATCH}, {NDJSON}, or JSON with ce-* headers"
            raise Problem("wrong-media-type", f"Send one of: {offered}.")


def _check_size(body: bytes) -> None:
    if len(body) > bodies.EVENT_BYTES:
        raise Problem("too-large", f"One event has at most {bodies.EVENT_BYTES // 1024} KiB.")
