"""A consumer's copy of what it may see. However often and in whatever order records come, it ends the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.sdk.keys import ContentKey, KeyGone, KeySource
from hub.sdk.record import GENERATION, MARK, SEQUENCE, bound_to, parse

Taken = Literal["shown", "removed", "old", "unreadable"]
"""What became of a record. old: a newer one of the same key was there. unreadable: it is no record of the hub's, or was
changed; whoever it stands for is not shown until one comes that can be read."""

_MOST_KEYS = 1_000


@dataclass(slots=True)
class _Held:
    """The newest record of a key. person: None where nobody is shown by it."""

    sequence: int
    person: dict[str, Any] | None = None
    until: float = 0.0


@dataclass(slots=True)
class _Stream:
    """What is known of one stream: nothing of an earlier generation counts."""

    generation: int = -1
    held: dict[str, _Held] = field(default_factory=dict)


class View:
    """What one recipient may see now, by its streams. Of one thread at a time; it keeps all in memory.

    It has to be given every record of the topic, from the beginning or from where it was left, of all partitions.
    clock: gives seconds since 1970.
    """

    def __init__(self, recipient: str, keys: KeySource, *, clock: Callable[[], float] = time.time) -> None:
        self._recipient, self._source, self._clock = recipient, keys, clock
        self._streams: dict[str, _Stream] = {}
        self._keys: dict[str, ContentKey | None] = {}

    def take(self, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> Taken:
        """Take one record, as a Kafka client gives it: key, value (None is a tombstone) and headers.

        Nothing changes where it raises, so that the same record may be given again. Raises KeysAway, PermissionError.
        """
        found = _numbers(key, headers)
        if found is None:
            return "unreadable"
        name, generation, sequence = found
        stream = self._streams.setdefault(name.partition("/")[0], _Stream())
        before = stream.held.get(name) if generation == stream.generation else None
        if generation < stream.generation or (before is not None and sequence <= before.sequence):
            return "old"
        if value is None or name.endswith(MARK):
            self._put(stream, generation, name, _Held(sequence))
            return "removed"
        try:
            person, until = self._open(name, value, generation, sequence)
        except KeyGone:
            self._put(stream, generation, name, _Held(sequence))
            return "removed"
        except (InvalidTag, ValueError):
            if name in stream.held:  # its numbers are not believed either
                stream.held[name].person = None
            return "unreadable"
        self._put(stream, generation, name, _Held(sequence, person, until))
        return "shown"

    def _put(self, stream: _Stream, generation: int, name: str, held: _Held) -> None:
        if generation > stream.generation:
            stream.generation, stream.held = generation, {}
        stream.held[name] = held

    def _open(self, name: str, value: bytes, generation: int, sequence: int) -> tuple[dict[str, Any], float]:
        sealed = parse(value)
        key = self._key(sealed.key)
        box = AESGCM(key.secret).decrypt(
            sealed.nonce, sealed.box, bound_to(self._recipient, name, generation, sequence)
        )
        person = json.loads(box)
        if not isinstance(person, dict):
            raise ValueError
        return person, key.until

    def _key(self, name: str) -> ContentKey:
        """The content key, asked for once. Raises KeyGone, also once its time is over."""
        if name not in self._keys:
            if len(self._keys) >= _MOST_KEYS:
                self._keys.clear()
            try:
                self._keys[name] = self._source.fetch(name)
            except KeyGone:
                self._keys[name] = None
        found = self._keys[name]
        if found is None or found.until <= self._clock():
            self._keys[name] = None
            raise KeyGone(name)
        return found

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Who is visible now: `person`, `mode`, `items`, `ref`, `purpose`, `time` and the rest that was disclosed."""
        now = self._clock()
        for stream in self._streams.values():
            for held in stream.held.values():
                if held.person is not None and held.until > now:
                    yield held.person

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def forget(self) -> None:
        """Let go of persons and keys whose time is over: what the hub has not sent again by then is not shown."""
        now = self._clock()
        for stream in self._streams.values():
            for held in stream.held.values():
                if held.until <= now:
                    held.person = None
        self._keys = {name: key for name, key in self._keys.items() if key is not None and key.until > now}


def _numbers(key: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> tuple[str, int, int] | None:
    """The record's key, generation and number; None where it has none."""
    said = {name: value for name, value in headers if name in (GENERATION, SEQUENCE) and value is not None}
    try:
        name = (key or b"").decode()
        generation, sequence = int(said[GENERATION]), int(said[SEQUENCE])
    except (KeyError, ValueError):
        return None
    return (name, generation, sequence) if "/" in name and generation >= 0 and sequence >= 0 else None
