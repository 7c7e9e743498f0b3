"""Sealing: what a key opens, what it does not, and what is gone with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from hub.errors import Misuse, Tampered
from hub.log import sealing
from hub.log.database import open_database
from hub.log.sealing import CITY, Gone, Keyring

MASTER = bytes(range(32))
HANAKO, TARO = 1, 2


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_database(tmp_path / "keys.sqlite3", journal="DELETE")
    yield made
    made.dispose()


@pytest.fixture
def keyring(engine: Engine) -> Keyring:
    made = Keyring(engine, MASTER)
    made.create([HANAKO, TARO])
    return made


def sealed(keyring: Keyring, subject: int = HANAKO, month: int = 0) -> bytes:
    return keyring.seal(subject, b"plain", kind="location.reported", month=month, bound_to=b"row")


def opened(keyring: Keyring, state: bytes, subject: int = HANAKO, bound_to: bytes = b"row") -> bytes:
    return keyring.open(subject, state, kind="location.reported", bound_to=bound_to)


@pytest.mark.parametrize("month", [0, 318])
def test_what_was_sealed_opens_also_after_a_restart(keyring: Keyring, engine: Engine, month: int) -> None:
    state = sealed(keyring, month=month)
    assert b"plain" not in state
    assert opened(keyring, state) == b"plain"
    assert opened(Keyring(engine, MASTER), state) == b"plain"


def test_the_same_plaintext_never_gives_the_same_bytes_nor_commitment(keyring: Keyring) -> None:
    one, other = sealing.parse(sealed(keyring)), sealing.parse(sealed(keyring))
    assert one.box != other.box
    assert one.commitment != other.commitment


@pytest.mark.parametrize("at", [1, 2, 5, 20, 60, -1])
def test_a_changed_byte_does_not_open(keyring: Keyring, at: int) -> None:
    state = bytearray(sealed(keyring))
    state[at] ^= 1
    with pytest.raises((Tampered, Gone)):
        opened(keyring, bytes(state))


def test_nobody_elses_key_opens_it_and_no_other_row(keyring: Keyring) -> None:
    with pytest.raises(Tampered):
        opened(keyring, sealed(keyring), subject=TARO)
    with pytest.raises(Tampered):
        opened(keyring, sealed(keyring), bound_to=b"another row")


def test_a_destroyed_key_opens_nothing_and_leaves_the_others(keyring: Keyring, engine: Engine) -> None:
    hers, his, months = sealed(keyring), sealed(keyring, TARO), sealed(keyring, month=318)
    keyring.erase(HANAKO)
    for ring in (keyring, Keyring(engine, MASTER)):
        for state in (hers, months):
            with pytest.raises(Gone):
                opened(ring, state)
        assert opened(ring, his, TARO) == b"plain"


def test_a_month_without_its_secret_is_gone_for_everyone(keyring: Keyring, engine: Engine) -> None:
    june, july = sealed(keyring, month=318), sealed(keyring, month=319)
    with engine.begin() as connection:
        connection.execute(sealing.period_key.delete().where(sealing.period_key.c.month == 318))
    ring = Keyring(engine, MASTER)
    with pytest.raises(Gone):
        opened(ring, june)
    assert opened(ring, july) == b"plain"


def test_another_master_key_is_refused(keyring: Keyring, engine: Engine) -> None:
    with pytest.raises(Misuse, match="not the one"):
        Keyring(engine, bytes(32))
    with pytest.raises(Misuse, match="32 bytes"):
        Keyring(engine, b"short")


def test_a_changed_wrapped_key_is_found(keyring: Keyring, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            sealing.person_key.update().where(sealing.person_key.c.subject == TARO).values(wrapped=bytes(40))
        )
    with pytest.raises(Tampered):
        Keyring(engine, MASTER).check()


def test_digests_tell_parts_apart_and_depend_on_the_hub(keyring: Keyring, tmp_path: Path) -> None:
    assert keyring.digest("event", "ab", "c") != keyring.digest("event", "a", "bc")
    assert keyring.digest("event", "a") != keyring.digest("grant", "a")
    assert keyring.digest("event", "a") == keyring.digest("event", "a")
    assert 0 < keyring.number("event", "a") < 2**63
    other = open_database(tmp_path / "other.sqlite3")
    assert Keyring(other, MASTER).digest("event", "a") != keyring.digest("event", "a")
    other.dispose()


def test_the_city_has_a_key_from_the_start(engine: Engine) -> None:
    ring = Keyring(engine, MASTER)
    assert opened(ring, sealed(ring, CITY), CITY) == b"plain"


def test_months_count_from_january_2000() -> None:
    assert sealing.month_of(datetime(2000, 1, 31, tzinfo=UTC)) == 1
    assert sealing.month_of(datetime(2026, 6, 1, tzinfo=UTC)) == 318
