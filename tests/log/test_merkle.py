"""The hash tree, against RFC 6962's own vectors and a plain recursive reading of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.log.merkle import EMPTY_ROOT, Frontier, leaf, root

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "8d-merkle" / "rfc6962-tree-vectors.json"


def plain_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1: MTH(D[n]) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])), k the largest power of two below n."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + plain_root(leaves[:k]) + plain_root(leaves[k:])).digest()


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70), st.integers(0, 70))
def test_the_root_is_that_of_the_rfc_however_the_tree_grew(leaves: list[bytes], cut: int) -> None:
    grown = Frontier()
    grown.extend(leaves[:cut])
    grown = Frontier.decode(grown.size, grown.encode())
    grown.extend(leaves[cut:])

    assert grown.root() == plain_root(leaves)
    assert grown.size == len(leaves)
    assert len(grown.roots) == grown.size.bit_count()


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert root([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_the_vectors_of_rfc_6962() -> None:
    if not VECTORS.exists():
        pytest.skip("../shared/data is not beside the repository: the RFC's vectors cannot be read")
    vectors = json.loads(VECTORS.read_text())
    inputs = [bytes.fromhex(text) for text in vectors["leaf_inputs_hex"]]
    roots = [bytes.fromhex(text) for text in vectors["root_hashes_hex_by_size"]]
    hashed = [hashlib.sha256(b"\x00" + data).digest() for data in inputs]

    assert len(roots) == 9
    assert [root(hashed[:size]) for size in range(9)] == roots


FIELDS = {
    "position": 7,
    "recorded_us": 1_780_000_000_000_000,
    "subject": 3,
    "identity": b"i" * 16,
    "identity_version": 1,
    "claim": b"c" * 16,
    "topic": "safety.answered.1",
    "state": b"sealed",
    "commitment": b"k" * 32,
}


def test_version_1_of_a_leaf_is_this_for_ever() -> None:
    told = (
        b"\x01"
        + (7).to_bytes(8)
        + (1_780_000_000_000_000).to_bytes(8)
        + (3).to_bytes(8)
        + (1).to_bytes(8)
        + b"i" * 16
        + b"\x10"
        + b"c" * 16
        + len("safety.answered.1").to_bytes(2)
        + b"safety.answered.1"
        + hashlib.sha256(b"sealed").digest()
        + b"k" * 32
    )
    assert leaf(**FIELDS) == hashlib.sha256(b"\x00" + told).digest()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FIELDS)
def test_a_leaf_depends_on_every_field(name: str) -> None:
    value = FIELDS[name]
    other = value + 1 if isinstance(value, int) else value[:-1] + type(value)(b"x" if isinstance(value, bytes) else "x")  # type: ignore[operator,index,call-overload]
    assert leaf(**{**FIELDS, name: other}) != leaf(**FIELDS)  # type: ignore[arg-type]
