"""What a record of a stream is made of: the topic's name, the key, two headers, and the sealed value."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

TOPIC = "hub.view."
GENERATION, SEQUENCE = "hub-generation", "hub-sequence"

MARK = "/"
"""Ends the key of the record that begins a generation: the key of a stream, and no `ref`."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_HEAD = 5


class Sealed(NamedTuple):
    """The parts of a value: the id of the content key, and what was sealed with it."""

    key: str
    nonce: bytes
    box: bytes


def topic_of(recipient: str) -> str:
    """The topic of a recipient, without a prefix that the broker's people may have set.

    A recipient whose id is not of the form `[A-Za-z0-9][A-Za-z0-9_-]*`, or is longer than 100, stands as `-` and the
    first 32 hexadecimal digits of the SHA-256 of its id in UTF-8. No dots: Kafka takes `a.b` and `a_b` for one.
    """
    if _PLAIN.fullmatch(recipient):
        return TOPIC + recipient
    return f"{TOPIC}-{hashlib.sha256(recipient.encode()).hexdigest()[:32]}"


def bound_to(recipient: str, key: str, generation: int, sequence: int) -> bytes:
    """What the box is bound to (AAD): a record that is moved, renamed or renumbered does not open."""
    return "\0".join(["hub.visible/1", topic_of(recipient), key, str(generation), str(sequence)]).encode()


def parse(value: bytes) -> Sealed:
    """The parts of a value: Confluent's frame, then Avro of `visible` version 1. Raises ValueError."""
    if len(value) < _HEAD or value[0] != 0:
        raise ValueError("is not in the wire format: one byte 0, a schema's id in four, and the record")
    key, at = _bytes(value, _HEAD)
    nonce, at = _bytes(value, at)
    box, at = _bytes(value, at)
    if at != len(value):
        raise ValueError("is no record of `visible` version 1; take a newer SDK")
    return Sealed(key.decode(), nonce, box)


def _bytes(value: bytes, at: int) -> tuple[bytes, int]:
    """Avro's bytes and strings: the length, zigzag in steps of seven bits, then so many bytes."""
    number = shift = 0
    while True:
        if at >= len(value) or shift > 35:
            raise ValueError("ends within a field")
        byte, at = value[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    size = number >> 1
    if number & 1 or size > len(value) - at:
        raise ValueError("ends within a field")
    return value[at : at + size], at + size
