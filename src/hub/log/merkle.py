"""The log's hash tree (RFC 6962, 2.1): leaf i is the entry at position i + 1.

Only the frontier is kept: the roots of the perfect subtrees that the tree is made of, largest first. A
leaf is version 1 for ever; a later form gets another version byte.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

_LEAF_VERSION = 1
_FIXED = struct.Struct(">BQqQQ16sB16s")
EMPTY_ROOT = hashlib.sha256().digest()


def leaf(
    *,
    position: int,
    recorded_us: int,
    subject: int,
    identity: bytes,
    identity_version: int,
    claim: bytes,
    topic: str,
    state: bytes,
    commitment: bytes,
) -> bytes:
    """The hash of one entry: all that stands in the clear beside the hash of the sealed bytes.

    subject is 0 where the entry is about no person, claim is empty where it claims no id. Destroying a
    key changes nothing of this, so that an erased entry still verifies.
    """
    fixed = _FIXED.pack(_LEAF_VERSION, position, recorded_us, subject, identity_version, identity, len(claim), claim)
    name = topic.encode()
    sealed = hashlib.sha256(state).digest()
    return hashlib.sha256(b"\x00" + fixed + struct.pack(">H", len(name)) + name + sealed + commitment).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """A tree of `size` leaves, as the roots of its perfect subtrees, largest first."""

    size: int = 0
    roots: list[bytes] = field(default_factory=list)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes."""
        roots, size = self.roots, self.size
        for hashed in leaves:
            filled = size
            while filled & 1:
                hashed = node(roots.pop(), hashed)
                filled >>= 1
            roots.append(hashed)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """The tree's hash: of 32 bytes, also when it is empty."""
        if not self.roots:
            return EMPTY_ROOT
        *earlier, hashed = self.roots
        for left in reversed(earlier):
            hashed = node(left, hashed)
        return hashed

    def encode(self) -> bytes:
        """The roots in one string; `size` stands beside it."""
        return b"".join(self.roots)

    @classmethod
    def decode(cls, size: int, encoded: bytes) -> Frontier:
        """The tree of `size` leaves that `encoded` says."""
        return cls(size, [encoded[at : at + 32] for at in range(0, len(encoded), 32)])


def root(leaves: Iterable[bytes]) -> bytes:
    """The hash of a tree of these leaf hashes."""
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()
