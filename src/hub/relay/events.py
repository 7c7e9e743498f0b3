"""The line `hub.events`: every entry of the log, sealed as it stands there.

The key keeps what has an order together: a person's entries under the person's number, the city's control events and
places under 0. Traces of the hub's own have none among them, and are spread by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, select

from hub.events import EPOCH
from hub.log.log import Log
from hub.log.recorder import log as entries
from hub.log.sealing import CITY
from hub.registry import Registry
from hub.relay.broker import EVENTS, Broker, Message, Topic
from hub.relay.line import Piece
from hub.relayed import Held
from hub.wire import frame, headers

SOURCE = "hub"
AT_ONCE = 2_000
PIECE_BYTES = 16 * 1024 * 1024

_SEALED = "sealed"
_READ = 200


class EventsLine:
    """Tails the log of one hub by position."""

    name = EVENTS

    def __init__(self, log: Log, broker: Broker, registry: Registry, *, at_once: int = AT_ONCE) -> None:
        self._log, self._at_once = log, at_once
        self._topic = broker.events()
        self._sealed, self._schema = log.schemas.kind(_SEALED), registry.id_of(EVENTS)
        self._traces = {kind.name for kind in log.schemas if kind.category == "hub"}

    @property
    def topics(self) -> Sequence[Topic]:
        """The one topic."""
        return [self._topic]

    def piece(self, held: Held) -> Piece | None:
        """The entries behind `held.position`, at most so many, and of so many bytes."""
        query = select(entries).where(entries.c.position > held.position).order_by(entries.c.position)
        query = query.limit(self._at_once).execution_options(yield_per=_READ)
        messages: list[Message] = []
        position, size, whole = held.position, 0, True
        with self._log.entries.snapshot() as (connection, _):
            for row in connection.execute(query):
                messages.append(self._message(row))
                position, size = row.position, size + len(row.state)
                if size >= PIECE_BYTES:
                    whole = False
                    break
        if not messages:
            return None
        return Piece(messages=messages, position=position, more=not whole or len(messages) == self._at_once)

    def _message(self, row: Row[Any]) -> Message:
        kind = row.topic.rpartition(".")[0]
        key = str(row.position if row.subject == CITY and kind in self._traces else row.subject)
        return Message(
            topic=self._topic.name,
            key=key.encode(),
            value=frame(self._schema, self._sealed.encode(row._asdict())),
            headers=headers(
                id=name_of(row.identity, row.identity_version),
                source=SOURCE,
                type=kind,
                subject=key,
                time=EPOCH + timedelta(microseconds=row.recorded_us),
                position=str(row.position),  # an integer of CloudEvents has 32 bits
            ),
        )


def name_of(identity: bytes, version: int) -> str:
    """The `ce_id` of an entry: by it a message that came twice is known."""
    return f"{identity.hex()}-{version}"
