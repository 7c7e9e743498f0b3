"""What a message of `hub.ingest` says: one event, or a batch; each read or not, by itself.

CloudEvents over Kafka, both modes: structured (`application/cloudevents+json`, or a batch), and binary: `ce_*` headers
with JSON, or with Avro in Confluent's wire format under the id of the kind's own schema.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from hub.connector.json import parse
from hub.errors import PayloadError
from hub.events import Event
from hub.registry import Registry
from hub.relay.broker import Record
from hub.schemas import Schemas
from hub.web import bodies, cloudevents
from hub.web.cloudevents import BATCH, MOST_EVENTS, STRUCTURED, Sent, Unread
from hub.web.problems import Problem
from hub.wire import attributes, read_headers

_AVRO = ("application/avro", "application/vnd.apache.avro+binary", "avro/binary", "application/vnd.confluent.avro")
_UNREADABLE = "is no record of Kafka that can be read: a header's name that is not UTF-8, or bytes in no order"
_SAID = f"has neither ce_ headers nor the content-type {STRUCTURED}"


class Reading:
    """Reads messages with the schemas of one hub."""

    def __init__(self, schemas: Schemas, registry: Registry) -> None:
        self._schemas, self._registry = schemas, registry

    def events(self, record: Record) -> Sequence[Sent]:
        """The events of a message, at least one: what cannot be read is one that was not."""
        value = record.value
        try:
            if not record.readable:
                raise PayloadError(_UNREADABLE)
            said = read_headers(record.headers)
            content = _media_type(said.get("datacontenttype"))
            if value is None:
                raise PayloadError("has no value")
            if content == BATCH:
                return self._batch(value)
            if len(value) > bodies.EVENT_BYTES:
                raise PayloadError(f"is larger than {bodies.EVENT_BYTES // 1024} KiB")
            if content == STRUCTURED:
                return [cloudevents.sent(parse(value))]
            if "specversion" not in said and "type" not in said:
                raise PayloadError(_SAID)
        except PayloadError as error:
            return [Sent(Unread(error), value or b"")]
        return [self._binary(said, content, value)]

    def _batch(self, value: bytes) -> Sequence[Sent]:
        if len(value) > bodies.LARGEST_BYTES:
            raise PayloadError(f"is larger than {bodies.LARGEST_BYTES // 1024} KiB")
        said = parse(value)
        if not isinstance(said, list):
            raise PayloadError("is no array of events")
        if len(said) > MOST_EVENTS:
            raise PayloadError(f"holds more than {MOST_EVENTS} events")
        if not said:
            raise PayloadError("is an empty array")
        return [cloudevents.sent(part) for part in said]

    def _binary(self, said: Mapping[str, Any], content: str, value: bytes) -> Sent:
        if content in _AVRO or (not content and value[:1] == b"\x00"):
            return self._avro(said, value)
        try:
            data = {"data": parse(value)} if value else {}
        except PayloadError as error:
            return cloudevents.unread(said, PayloadError(error.reason, path="data"), said)
        return cloudevents.sent({**said, **data})

    def _avro(self, said: Mapping[str, Any], value: bytes) -> Sent:
        try:
            fields = attributes(said)
            kind, _ = self._registry.decode(value)  # says what is wrong, in words without a value
            if kind.name != fields["kind"]:
                raise PayloadError("is of another kind than its schema", path="type")
            data = self._schemas.decode(kind.topic, value[_HEAD_BYTES:])
        except PayloadError as error:
            path = error.path or "data"
            packed = {**said, "data_base64": base64.b64encode(value).decode()}
            return cloudevents.unread(said, PayloadError(error.reason, path=path), packed)
        return Sent(Event(**fields, data=data), None)


_HEAD_BYTES = 5


def _media_type(header: str | None) -> str:
    try:
        return bodies.media_type(header)
    except Problem:
        raise PayloadError("is in a charset that is not UTF-8", path="datacontenttype") from None
