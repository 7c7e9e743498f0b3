"""After a restore: keys of whom the log does not know are destroyed, and streams begin anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select

from conftest import Said, Town
from hub.backup import Databases, restore, take_keys, take_log
from hub.errors import Misuse
from hub.log import sealing
from hub.relayed import relayed
from hub.sdk import ContentKey, View
from streams import HubKeys, Sending, read, shown, thrice
from test_backup import ASKED, backup, body, end, home, key, other, place, url

__all__ = ["backup", "home", "other"]


def without_log(town: Town) -> Town:
    """The log's database is lost; the keys' stands."""
    town.close()
    for path in town.folder.glob("hub.sqlite3*"):
        path.unlink()
    return town


def subjects(town: Town) -> set[int]:
    return town.hub.log.keyring.subjects()


def test_who_is_enrolled_next_does_not_take_the_key_of_somebody_who_was_lost(home: Town, tmp_path: Path) -> None:
    take_log(home.hub, tmp_path / "old")
    home.tell("person.enrolled", person="alice", areas=["07202"])
    alice = home.hub.views.persons.ordinal("alice")
    assert alice is not None
    hers = home.hub.log.keyring.secret(alice, "test")
    kept = subjects(home) - {alice}

    done = restore(place(without_log(home).folder), key(home), log=tmp_path / "old")
    assert done.unknown_keys == 1
    home.reopen()
    assert subjects(home) == kept
    home.tell("person.enrolled", person="bob", areas=["07202"])

    assert home.hub.views.persons.ordinal("bob") == alice, "the number is free again"
    assert home.hub.log.keyring.secret(alice, "test") != hers
    home.hub.audit.verify()


def test_keys_that_were_taken_later_than_the_log_lose_whom_it_does_not_know(
    home: Town, other: Any, tmp_path: Path
) -> None:
    take_log(home.hub, tmp_path / "log")
    kept, last = subjects(home), end(home)
    for number in range(3):
        home.tell("person.enrolled", person=f"late-{number}", areas=["07202"])
    take_keys(home.hub, tmp_path / "keys")
    restored = other(home, tmp_path / "log", tmp_path / "keys")
    assert subjects(restored) == kept
    assert sealing.CITY in kept
    assert b"a note of hanako" in body(restored, last), "whom the log knows can be read as before"


def test_a_restore_that_is_refused_destroys_no_key_that_another_log_needs(
    home: Town, other: Any, tmp_path: Path
) -> None:
    take_log(home.hub, tmp_path / "old")
    home.tell("person.enrolled", person="alice", areas=["07202"])
    home.tell("person.erased", person="hanako")
    take_log(home.hub, tmp_path / "new")
    before = subjects(home)
    with pytest.raises(Misuse, match="keys of 1 persons"):
        restore(place(without_log(home).folder), key(home), log=tmp_path / "old")
    for path in home.folder.glob("hub.sqlite3*"):
        path.unlink()
    done = restore(place(home.folder), key(home), log=tmp_path / "new")
    assert (done.unknown_keys, subjects(home.reopen())) == (0, before)


def test_the_command_says_how_many_keys_it_destroyed(home: Town, tmp_path: Path, hub_main: Callable[..., Said]) -> None:
    take_log(home.hub, tmp_path / "old")
    home.tell("person.enrolled", person="alice", areas=["07202"])
    said = hub_main("restore", tmp_path / "old", "--database", url(without_log(home).folder))
    assert said.status == 0
    assert "1 keys of persons whom this log does not know are destroyed" in said.err


# Streams


class TownKeys:
    """Content keys, asked for at the hub that the town has now."""

    def __init__(self, town: Town) -> None:
        self._town = town

    def fetch(self, key: str) -> ContentKey:
        return HubKeys(self._town.hub, "aizu-city").fetch(key)


def streaming(town: Town) -> Sending:
    """A stream to the city, and all of it sent."""
    town.tell("stream.registered", stream="rescue", recipient="aizu-city", purpose="rescue")
    sending = Sending(town.hub, "aizu-city", "rescue")
    sending.to_rest()
    assert shown(sending.consumer()) == {}
    return sending


def visible(town: Town) -> set[str]:
    return {person["person"] for person in json.loads(town.hub.disclosure.read(ASKED).body)["persons"]}


def test_what_was_sent_before_a_restore_can_be_opened_by_nobody(home: Town, tmp_path: Path) -> None:
    """Of a stream, too, that the log has lost: nobody would take it back."""
    take_log(home.hub, tmp_path / "old")
    before = streaming(home)
    reads = before.consumer()
    read(reads, before.sent)
    assert len(shown(reads)) == 3
    restore(place(without_log(home).folder), key(home), log=tmp_path / "old")
    home.reopen()
    with home.hub.engines[1].connect() as connection:
        assert connection.scalar(select(func.count()).select_from(sealing.content_key)) == 0
    begins = Sending(home.hub, "aizu-city", "rescue").consumer()
    assert "shown" not in read(begins, before.sent)
    assert shown(begins) == {}


def test_consumers_take_what_a_restored_hub_sends(home: Town, tmp_path: Path) -> None:
    """By its clock its generation is greater than any before, without the memory of one."""
    streamed = streaming(home)
    take_log(home.hub, tmp_path / "old")
    for status in ("injured", "need_help", "safe"):
        home.wait()
        home.tell("safety.answered", person="hanako", status=status)
        streamed.to_rest()
    home.tell("person.enrolled", person="saburo", areas=["07202"])
    home.tell("consent.revoked", person="jiro", grant="g-jiro")
    streamed.to_rest()
    goes_on = View("aizu-city", TownKeys(home), clock=lambda: home.now.timestamp())
    read(goes_on, streamed.sent)
    assert set(shown(goes_on)) == {"hanako", "taro"}

    restore(place(without_log(home).folder), key(home), log=tmp_path / "old")
    home.clock.set(home.now + timedelta(seconds=1))
    home.reopen()
    home.tell("consent.revoked", person="taro", grant="g-taro")
    restored = Sending(home.hub, "aizu-city", "rescue")
    sent = restored.to_rest()
    assert visible(home) == {"hanako", "jiro"}
    assert generation(sent) > generation(streamed.sent)

    read(goes_on, sent)
    begins = restored.consumer()
    read(begins, thrice([*streamed.sent, *sent], Random(1)))
    assert set(shown(goes_on)) == set(shown(begins)) == visible(home)


def test_where_the_keys_were_lost_and_the_log_stands_streams_tell_all_again(home: Town, tmp_path: Path) -> None:
    streamed = streaming(home)
    streamed.again()  # which gives the line back
    take_keys(home.hub, tmp_path / "keys")
    home.close()
    for path in home.folder.glob("hub.keys.sqlite3*"):
        path.unlink()
    restore(Databases(home.url), key(home), keys=tmp_path / "keys")
    home.reopen()
    with home.hub.log.entries.snapshot() as (connection, _):
        assert connection.scalar(select(relayed.c.token)) is not None, "the generation before is known: no time passed"
    restored = Sending(home.hub, "aizu-city", "rescue")
    sent = restored.to_rest()
    assert generation(sent) > generation(streamed.sent)
    begins = restored.consumer()
    read(begins, [*streamed.sent, *sent])
    assert set(shown(begins)) == visible(home) == {"hanako", "taro", "jiro"}


def generation(sent: list[Any]) -> int:
    return max(int(dict(message.headers)["hub-generation"]) for message in sent)
