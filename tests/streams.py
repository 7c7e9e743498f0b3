"""Lines of streams, driven as the relay drives them, and what a consumer makes of what they sent; without a broker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

from hub.hub import Hub
from hub.registry import Registry
from hub.relay.broker import Message, Topic
from hub.relay.line import Piece
from hub.relay.views import ViewLine
from hub.relayed import Relayed
from hub.sdk import ContentKey, KeyGone, View, topic_of

LEASE = timedelta(seconds=15)
WEEK_MS = 7 * 86_400_000


class HubKeys:
    """Content keys, asked for at the hub itself."""

    def __init__(self, hub: Hub, recipient: str) -> None:
        self._hub, self._recipient = hub, recipient
        self.asked = 0

    def fetch(self, key: str) -> ContentKey:
        self.asked += 1
        found = self._hub.content.find(self._recipient, key, self._hub.log.clock.now())
        if found is None:
            raise KeyGone(key)
        return ContentKey(found.secret, found.until.timestamp())


class Sending:
    """One stream's line. sent: all that ever came to the broker, in its order. `again`: as another process."""

    def __init__(self, hub: Hub, recipient: str, stream: str, *, keeps_ms: int = WEEK_MS) -> None:
        self.hub, self.recipient, self.stream = hub, recipient, stream
        self.topic = Topic(name=topic_of(recipient), configs={"retention.ms": str(keeps_ms)}, partitions=1)
        self.sent: list[Message] = []
        self.checks = 0
        self.away = False
        self._killed = False
        self.again()

    def again(self, *, killed: bool = False) -> None:
        """The relay was stopped, or killed; another begins, once the lease is over."""
        self._killed = self._killed or killed  # until something is stored, as `Relayed` has it
        if hasattr(self, "relayed"):
            held = self.relayed.take(self.line.name, LEASE)
            assert held is not None
            self.relayed.release(held)
        self.relayed = Relayed(self.hub.log)
        self.line = ViewLine(
            self.hub, Registry(self.hub.log.schemas), self.recipient, self.stream, topic=self.topic, check=self._check
        )

    def _check(self) -> None:
        self.checks += 1
        if self.away:
            raise ConnectionError

    def step(self, *, arrives: bool = True, stored: bool = True) -> Piece | None:
        """One piece. arrives: whether the broker has it. stored: whether the relay lives to say so."""
        held = self.relayed.take(self.line.name, LEASE)
        assert held is not None
        piece = self.line.piece(replace(held, taken_over=held.taken_over or self._killed))
        if piece is None:
            return None
        if arrives:
            self.sent += piece.messages
        if arrives and stored:
            advanced = self.relayed.advance(
                held, LEASE, position=piece.position, token=piece.token, stored=piece.stored, error=piece.error
            )
            assert advanced is not None
            self._killed = False
        return piece

    def to_rest(self) -> list[Message]:
        """Everything that there is to send; the messages."""
        before = len(self.sent)
        while self.step() is not None:
            continue
        return self.sent[before:]

    def consumer(self) -> View:
        """A consumer that has nothing yet, with the hub's clock."""
        keys = HubKeys(self.hub, self.recipient)
        return View(self.recipient, keys, clock=lambda: self.hub.log.clock.now().timestamp())


def read(view: View, messages: Iterable[Message]) -> list[str]:
    """Have a consumer take messages; what became of each."""
    return [view.take(message.key, message.value, message.headers) for message in messages]


def compacted(messages: Sequence[Message]) -> list[Message]:
    """What is left of messages once the broker has compacted them: the last of each key."""
    last = {message.key: number for number, message in enumerate(messages)}
    return [messages[number] for number in sorted(last.values())]


def thrice(messages: Sequence[Message], rng: Random) -> list[Message]:
    """Each three times, in any order."""
    return rng.sample([*messages, *messages, *messages], 3 * len(messages))


def shown(view: View) -> dict[str, Any]:
    """What a consumer shows: by person, mode and items."""
    return {entry["person"]: (entry["mode"], entry["items"]) for entry in view}
