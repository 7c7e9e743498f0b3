"""The lines `hub.view.<recipient>`: what a recipient with a stream may see, a record for each person, as it changes.

    feed -> message, logged as a disclosure -> a record for each person, sealed with a content key; tombstones

A line is a consumer of its stream's feed (`hub.feeds`), which decides, and keeps what the topic holds. What a delivery
that failed had said is sent again as it was while nothing came that bears on it, else it is decided anew. A generation
is one feed's life: with the next, what earlier ones sent is void, however late it arrives.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select

from hub.answer import Query, Shown, members, parse_query, query_text
from hub.canonical import text
from hub.errors import PayloadError
from hub.events import EPOCH, micros
from hub.feeds import Message as FeedMessage
from hub.hub import Hub
from hub.log.content import ContentKey
from hub.policy import City, Stream
from hub.registry import Registry
from hub.relay.broker import LARGEST_VALUE_BYTES, VIEWS, Broker, Message, Topic
from hub.relay.line import Line, Piece
from hub.relayed import Held, relayed
from hub.sdk.record import GENERATION, MARK, SEQUENCE, bound_to, topic_of
from hub.wire import frame, headers

ACTOR = "hub:relay"
AT_ONCE = 500
"""Persons in a message: what is urgent waits for one at the most."""

AGAIN_AT_ONCE = 100
"""Of those, whose key is old and who are told again."""

_SOURCE, _TYPE = "hub", "visible"
_SECOND = 1_000_000
_HOUR_US = 3_600 * _SECOND
_LONGEST_S = 86_400.0
_FORGOTTEN = timedelta(hours=1)
"""How long a stream that ended is remembered: its next generation is a greater number by then, whatever was before."""
_NOTE_S = 2.0
"""How often a line at rest says how far it has looked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """What is stored of a line once the broker has a piece. next: where its feed stands; None where none has begun.

    hours: by hour the last message of it, as long as its persons have not been told again. ended: nothing of it counts.
    run: chance, so that no two that are stored are alike. too_large: how often a tombstone was sent for a person whose
    data no message can hold.
    """

    recipient: str
    stream: str
    generation: int
    query: str
    next: str | None = None
    hours: Mapping[str, int] = field(default_factory=dict)
    ended: bool = False
    run: str = field(default_factory=lambda: os.urandom(8).hex())
    too_large: int = 0

    @property
    def token(self) -> str:
        return json.dumps(asdict(self))

    def again(self) -> _State:
        """The same, stored under another token."""
        return replace(self, run=os.urandom(8).hex())

    @property
    def error(self) -> str | None:
        if not self.too_large:
            return None
        return (
            f"{self.too_large} times since the stream began, a person has more data than a message can hold, and is"
            " sent as not visible; give the stream fewer kinds, or leave out its history"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """A message of the feed as pieces, by the token behind which each comes, while they may have to be sent."""

    next: str
    position: int
    pieces: Mapping[str, Piece]


class ViewLines:
    """The lines of one hub's streams."""

    def __init__(self, hub: Hub, broker: Broker, registry: Registry, *, at_once: int = AT_ONCE) -> None:
        self._hub, self._broker, self._registry, self._at_once = hub, broker, registry, at_once
        self._turn = threading.Lock()

    def lines(self) -> list[Line]:
        """A line for each stream that is registered, and for each that was and is not cleared away."""
        with self._hub.log.entries.snapshot() as (connection, end):
            city = self._hub.views.at(connection, end.position).city
            rows = connection.execute(select(relayed).where(relayed.c.name.startswith(VIEWS))).all()
        states = {row: _State(**json.loads(row.token)) for row in rows if row.token is not None}
        long_ago = self._hub.log.clock.now() - _FORGOTTEN
        ended = [row.name for row, state in states.items() if state.ended and row.updated_us < micros(long_ago)]
        if ended:
            self._hub.relayed.forget(ended, long_ago)
        names = {name for name, stream in city.streams.items() if _is_registered(city, stream.recipient)}
        names |= {(state.recipient, state.stream) for state in states.values() if not state.ended}
        return [self._line(recipient, stream) for recipient, stream in sorted(names)]

    def _line(self, recipient: str, stream: str) -> Line:
        topic = self._broker.view(topic_of(recipient).removeprefix(VIEWS))
        check, at_once = self._broker.check, self._at_once
        return ViewLine(
            *(self._hub, self._registry, recipient, stream),
            topic=topic,
            check=check,
            at_once=at_once,
            turn=self._turn,
        )


class ViewLine:
    """One stream of one recipient. check: raises where the broker does not answer.

    turn: held by one line at a time while it decides and seals: threads that take turns within a message take longer.
    """

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        recipient: str,
        stream: str,
        *,
        topic: Topic,
        check: Callable[[], None],
        at_once: int = AT_ONCE,
        turn: threading.Lock | None = None,
    ) -> None:
        self._hub, self._recipient, self._stream = hub, recipient, stream
        self._topic, self._check, self._at_once = topic, check, at_once
        self._turn = turn or threading.Lock()
        self._visible, self._schema = hub.log.schemas.kind(_TYPE), registry.id_of("hub.view")
        self._lives = timedelta(milliseconds=self._topic.retention_ms)
        self._given: str | None = None
        """The token behind which the last piece came: where it stands there still, the piece was not delivered."""
        self._made: _Made | None = None
        self._sure = False
        """Whether the broker has answered this line before."""
        self._begun: str | None = None
        """The token of a generation that this line has just begun, and has told nothing in yet."""
        self._looked: tuple[str, int, datetime] | None = None
        """The token at which nothing was to be told, up to which position, and until when time changes nothing."""
        self._noted = 0.0

    @property
    def name(self) -> str:
        """As the topic and the stream are called."""
        return f"{topic_of(self._recipient)}/{self._stream}"

    @property
    def topics(self) -> Sequence[Topic]:
        """The one topic."""
        return [self._topic]

    def piece(self, held: Held) -> Piece | None:
        """What the stream's feed tells next; while the broker is away nothing is decided, since nothing could leave."""
        if not held.taken_over and self._rests(held):
            return self._note(held)
        if held.token == self._given or not self._sure:
            self._sure = False
            self._check()
            self._sure = True
        with self._hub.log.entries.snapshot() as (connection, end):
            city, now = self._hub.views.at(connection, end.position).city, self._hub.log.clock.now()
            now = now if end.recorded_at is None else max(now, end.recorded_at)
        query = self._query(city)
        state = None if held.token is None else _State(**json.loads(held.token))
        if state is None or state.ended:
            return None if query is None else self._begin(held, query_text(query), state, end.position, now)
        if held.taken_over:  # what another had in hand may come after what is sent now, and a topic keeps the last
            return self._begin(held, state.query, state, end.position, now)
        if query is None or query_text(query) != state.query:
            return self._close(held, query, state, end.position, now)
        return self._go_on(held, query, state, end.position, now)

    def _query(self, city: City) -> Query | None:
        """What the stream is of now; None where it has ended or its recipient is retired."""
        found = city.streams.get((self._recipient, self._stream))
        return None if found is None or not _is_registered(city, self._recipient) else query_of(found)

    def _rests(self, held: Held) -> bool:
        """Whether there is nothing to tell for certain: this line's state, the log and the time are as they were."""
        if self._looked is None or self._looked[0] != held.token:
            return False
        token, position, until = self._looked
        position, matters = self._hub.feeds.look(position)
        if matters or self._hub.log.clock.now() >= until:
            return False
        self._looked = token, position, until
        return True

    def _note(self, held: Held) -> Piece | None:
        """Have it stored how far was looked, now and then, so that a line at rest does not seem behind."""
        position = self._looked[1] if self._looked else held.position
        if position <= held.position or time.monotonic() < self._noted + _NOTE_S:
            return None
        self._noted = time.monotonic()
        error = None if held.token is None else _State(**json.loads(held.token)).error
        return Piece(messages=[], position=position, token=held.token, error=error)

    def _begin(self, held: Held, query: str, state: _State | None, position: int, now: datetime) -> Piece:
        """A generation that nothing came before: the mark makes void what earlier ones sent."""
        generation = max(micros(now) // _SECOND, 0 if state is None else state.generation + 1)
        begun = _State(recipient=self._recipient, stream=self._stream, generation=generation, query=query)
        self._begun = begun.token
        return self._marked(held, begun, position, now, more=True)

    def _marked(self, held: Held, state: _State, position: int, now: datetime, *, more: bool) -> Piece:
        mark = self._tombstone(MARK, state, 0, now)
        return self._piece(held, [mark], max(position, held.position), state, more=more)

    def _close(self, held: Held, query: Query | None, state: _State, position: int, now: datetime) -> Piece:
        """Take back everyone whom the feed shows; after the last the stream ends, or begins anew on other terms."""
        message, self._made = None, None
        if state.next is not None:
            with suppress(PayloadError):  # the feed is gone: the mark alone makes void what was sent
                message = self._advance(parse_query(state.query), state, closes=True)
        if message is not None:
            return self._told(held, message, state).pieces[held.token or ""]
        self._hub.feeds.drop(self.name)
        if query is not None:
            return self._begin(held, query_text(query), state, position, now)
        ended = replace(state, generation=state.generation + 1, next=None, hours={}, ended=True)
        return self._marked(held, ended, position, now, more=False)

    def _go_on(self, held: Held, query: Query, state: _State, position: int, now: datetime) -> Piece | None:
        if (piece := self._still(held, query)) is not None:
            return piece
        if state.next is None and held.token != self._begun:
            return self._begin(held, state.query, state, position, now)  # nobody knows what was told in this one
        self._begun = None
        state = self._again(query, state, now)
        try:
            with self._turn:
                message = self._advance(query, state)
                self._made = None if message is None else self._told(held, message, state)
        except PayloadError as error:
            if error.path != "since":
                raise
            return self._begin(held, state.query, state, position, now)  # the feed is gone: what was sent is void
        if self._made is not None:
            return self._made.pieces[held.token or ""]
        if state.token != held.token:
            return self._piece(held, [], position, state, more=False)
        quiet_s = min(self._hub.feeds.quiet_s(query, state.next or ""), _LONGEST_S)
        until = min(now + timedelta(seconds=quiet_s), self._due(state, now))
        self._looked = held.token, position, until
        return self._note(held)

    def _still(self, held: Held, query: Query) -> Piece | None:
        """The piece that was made to come behind `held.token`, as long as what it says holds."""
        made, self._made = self._made, None
        piece = made.pieces.get(held.token or "") if made is not None else None
        if made is None or piece is None:
            return None
        with suppress(PayloadError):  # the feed is gone
            if self._hub.feeds.stands(query, made.next, made.position):
                self._made, self._given = made, held.token
                return piece
        return None

    def _advance(self, query: Query, state: _State, *, closes: bool = False) -> FeedMessage | None:
        first = state.next is None
        return self._hub.feeds.advance(
            query,
            state.next,
            actor=ACTOR,
            limit=self._at_once,
            at_rest="answer" if first else "nothing",
            name=self.name if first else None,
            closes=closes,
        )

    def _again(self, query: Query, state: _State, now: datetime) -> _State:
        """Have those told again whose content key is in the second half of its life, a few at a time."""
        old = {hour: number for hour, number in state.hours.items() if _begins(hour) + self._lives / 2 <= now}
        if not old or state.next is None:
            return state
        try:
            if self._hub.feeds.renew(query, state.next, max(old.values()), AGAIN_AT_ONCE):
                return state
        except PayloadError:  # the feed is gone, as its next message will say
            return state
        return replace(state, hours={hour: number for hour, number in state.hours.items() if hour not in old})

    def _due(self, state: _State, now: datetime) -> datetime:
        """When the oldest content key comes into the second half of its life."""
        return min(map(_begins, state.hours), default=now + timedelta(days=1)) + self._lives / 2

    def _told(self, held: Held, message: FeedMessage, state: _State) -> _Made:
        """The records of a message of the feed; tombstones by themselves and first, so that they wait for no value."""
        at = message.time
        refs = sorted(map(self._ref, message.removed))
        removed = [self._tombstone(f"{MARK}{ref}", state, message.number, at) for ref in refs]
        shown: list[Message] = []
        hours = dict(state.hours)
        if message.persons:
            self._hub.content.end(at)
            key = self._hub.content.current(self._recipient, at, self._lives)
            query = parse_query(state.query)
            sealed = [self._sealed(person, query, message, state, key) for person in message.persons]
            shown = [message for message in sealed if message.value is not None]
            removed += [message for message in sealed if message.value is None]
            hours[str(micros(at) // _HOUR_US)] = message.number
        large = len(message.persons) - len(shown)
        after = replace(state, next=message.next, hours=hours, too_large=state.too_large + large)
        if not removed or not shown:
            pieces = {held.token or "": self._piece(held, [*removed, *shown], message.position, after, more=True)}
        else:
            between = replace(state.again(), too_large=after.too_large)
            first = self._piece(held, removed, held.position, between, more=True)
            rest = Piece(messages=shown, position=message.position, token=after.token, more=True, error=after.error)
            pieces = {held.token or "": first, between.token: rest}
        return _Made(next=message.next, position=message.position, pieces=pieces)

    def _piece(self, held: Held, messages: Sequence[Message], position: int, state: _State, *, more: bool) -> Piece:
        self._given = held.token
        return Piece(messages=messages, position=position, token=state.token, more=more, error=state.error)

    def _ref(self, ordinal: int) -> str:
        return self._hub.disclosure.ref(self._recipient, ordinal)

    def _sealed(self, person: Shown, query: Query, message: FeedMessage, state: _State, key: ContentKey) -> Message:
        """What a person shows, as in the feed's message; a tombstone where no message can hold it."""
        ref = self._ref(person.ordinal)
        whole = (  # canonical: the names in their order
            f'{{"disclosure":{text(message.disclosure)},"exercise":{text(query.exercise)},"format":"visible/1",{members(person)},'
            f'"purpose":{text(query.purpose)},"recipient":{text(query.recipient)},"ref":{text(ref)},'
            f'"stream":{text(self._stream)},"time":{text(message.time)}}}'
        )
        name, nonce = f"{self._stream}{MARK}{ref}", os.urandom(12)
        bound = bound_to(self._recipient, name, state.generation, message.number)
        box = AESGCM(key.secret).encrypt(nonce, whole.encode(), bound)
        value = frame(self._schema, self._visible.encode({"key": key.id, "nonce": nonce, "box": box}))
        fits = len(value) <= LARGEST_VALUE_BYTES
        return self._message(name, value if fits else None, state, message.number, message.time)

    def _tombstone(self, rest: str, state: _State, number: int, at: datetime) -> Message:
        return self._message(self._stream + rest, None, state, number, at)

    def _message(self, name: str, value: bytes | None, state: _State, number: int, at: datetime) -> Message:
        said = headers(id=f"{state.generation}-{number}-{name}", source=_SOURCE, type=_TYPE, time=at)
        numbers = [(GENERATION, str(state.generation).encode()), (SEQUENCE, str(number).encode())]
        return Message(topic=self._topic.name, key=name.encode(), value=value, headers=[*said, *numbers])


def _is_registered(city: City, recipient: str) -> bool:
    reader = city.recipients.get(recipient)
    return reader is not None and not reader.retired


def _begins(hour: str) -> datetime:
    return EPOCH + timedelta(microseconds=int(hour) * _HOUR_US)


def query_of(stream: Stream) -> Query:
    """What a stream asks for."""
    return Query(
        recipient=stream.recipient,
        purpose=stream.purpose,
        exercise=stream.exercise,
        kinds=stream.kinds,
        history=stream.history,
    )
