"""Sealing: what a key opens, what it does not, and what is gone with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

import databases
from hub.errors import Misuse, Tampered
from hub.log import migrations, sealing
from hub.log.database import open_database
from hub.log.sealing import CITY, Ended, Gone, Keyring

MASTER = bytes(range(32))
HANAKO, TARO = 1, 2


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_database(databases.place_of(tmp_path).keys, "keys")
    migrations.prepare(made, "keys")
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


NOW = datetime(2027, 8, 1, tzinfo=UTC)


def test_a_month_that_was_ended_is_gone_for_everyone_and_is_never_made_again(keyring: Keyring, engine: Engine) -> None:
    june, july = sealed(keyring, month=318), sealed(keyring, month=319)
    with engine.connect() as connection:
        wrapped = connection.scalars(select(sealing.period_key.c.wrapped).order_by(sealing.period_key.c.month)).first()
    keyring.end("location.reported", 318, NOW)
    keyring.end("location.reported", 318, NOW + timedelta(days=1))
    for ring in (keyring, Keyring(engine, MASTER)):
        with pytest.raises(Ended):
            opened(ring, june)
        assert opened(ring, july) == b"plain"
        assert ring.ended() == {("location.reported", 318): NOW}
        assert ring.periods() == [("location.reported", 319)]
        with pytest.raises(Tampered, match="behind its keys"):
            sealed(ring, month=318)
    files = list(Path(str(engine.url.database)).parent.iterdir())
    assert wrapped
    assert files
    assert [file for file in files if file.is_file() and wrapped in file.read_bytes()] == []


def test_a_month_whose_key_is_missing_without_a_tombstone_was_tampered_with(keyring: Keyring, engine: Engine) -> None:
    june, july = sealed(keyring, month=318), sealed(keyring, month=319)
    with engine.begin() as connection:
        connection.execute(sealing.period_key.delete().where(sealing.period_key.c.month == 318))
    ring = Keyring(engine, MASTER)
    with pytest.raises(Tampered, match="missing"):
        opened(ring, june)
    assert opened(ring, july) == b"plain"


def test_a_tombstone_that_the_hub_did_not_set_is_found(keyring: Keyring, engine: Engine) -> None:
    june = sealed(keyring, month=318)
    with engine.begin() as connection:
        connection.execute(sealing.period_key.delete())
        forged = {"kind": "location.reported", "month": 318, "ended_us": 0, "proof": bytes(32)}
        connection.execute(sealing.ended_period.insert().values(forged))
    ring = Keyring(engine, MASTER)
    for asked in (ring.check, ring.ended, ring.renew, lambda: opened(ring, june)):
        with pytest.raises(Tampered, match="tombstone"):
            asked()


def test_what_another_process_ended_is_dropped_from_memory_at_the_next_renewal(
    keyring: Keyring, engine: Engine
) -> None:
    june, july, always = sealed(keyring, month=318), sealed(keyring, month=319), sealed(keyring)
    other = Keyring(engine, MASTER)
    assert [opened(other, state) for state in (june, july, always)] == [b"plain"] * 3
    assert not other.renew()
    keyring.end("location.reported", 318, NOW)
    assert opened(other, june) == b"plain", "it holds the key in memory"
    assert other.renew()
    assert ("location.reported", 318) not in other._periods
    assert not any(month == 318 for _, _, month in other._ciphers)
    with pytest.raises(Ended):
        opened(other, june)
    assert [opened(other, state) for state in (july, always)] == [b"plain"] * 2
    assert not other.renew()


def test_a_month_begins_on_its_first_day() -> None:
    for month in (1, 12, 13, 318):
        assert sealing.month_of(sealing.first_of(month)) == month
        assert sealing.month_of(sealing.first_of(month + 1) - timedelta(microseconds=1)) == month


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
    other = open_database(databases.place_of(tmp_path / "other").keys, "keys")
    migrations.prepare(other, "keys")
    assert Keyring(other, MASTER).digest("event", "a") != keyring.digest("event", "a")
    other.dispose()


def test_the_city_has_a_key_from_the_start(engine: Engine) -> None:
    ring = Keyring(engine, MASTER)
    assert opened(ring, sealed(ring, CITY), CITY) == b"plain"


def test_months_count_from_january_2000() -> None:
    assert sealing.month_of(datetime(2000, 1, 31, tzinfo=UTC)) == 1
    assert sealing.month_of(datetime(2026, 6, 1, tzinfo=UTC)) == 318
