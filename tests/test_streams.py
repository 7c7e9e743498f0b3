"""Streams: whoever takes every record, however often and in whatever order, shows just what a view would show."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import delete, func, select

import worlds
from conftest import Town
from hub.answer import Query
from hub.canonical import dumps
from hub.errors import Refused
from hub.feeds import feeds
from hub.hub import Hub
from hub.log.sealing import content_key
from hub.policy import City
from hub.registry import Registry
from hub.relay.broker import LARGEST_VALUE_BYTES, Broker, Message
from hub.relay.settings import load
from hub.relay.views import AT_ONCE, ViewLine, ViewLines, query_of
from hub.relayed import Relayed, relayed
from hub.scenario import World
from hub.sdk import View, topic_of
from hub.sdk.record import GENERATION, SEQUENCE, bound_to, parse
from streams import LEASE, HubKeys, Sending, compacted, read, shown, thrice
from test_feeds import HOUR, grant, shown_now

DAY = timedelta(days=1)
QUERY = Query(recipient="aizu-city", purpose="rescue")


@pytest.fixture
def home(town: Town) -> Town:
    """hanako and taro, of whom aizu-city is sent safety and location by the stream `rescue`."""
    for recipient in ("aizu-city", "other-city"):
        town.tell(
            "recipient.registered",
            recipient=recipient,
            **{"class": "municipality"},
            areas=["07202"],
            purposes=["rescue", "medical"],
        )
    for person in ("hanako", "taro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
        grant(town, person)
        town.tell("safety.answered", f"s {person}", person=person, status="safe")
    town.tell("stream.registered", stream="rescue", recipient="aizu-city", purpose="rescue")
    return town


def everyone(sending: Sending) -> dict[str, Any]:
    """What a consumer shows that begins now, and is given each record three times and shuffled."""
    view = sending.consumer()
    read(view, thrice(sending.sent, Random(len(sending.sent))))
    return shown(view)


def test_a_stream_sends_what_is_visible_and_then_what_changes(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    mark, *first = sending.to_rest()
    assert (mark.key, mark.value) == (b"rescue/", None)
    assert [message.value is not None for message in first] == [True, True]
    assert everyone(sending) == shown_now(home.hub, QUERY)

    home.tell("safety.answered", person="taro", status="need_help")

    [changed] = sending.to_rest()
    assert changed.key in {message.key for message in first}
    assert everyone(sending) == shown_now(home.hub, QUERY)
    assert sending.to_rest() == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("consent.revoked", {"grant": "g taro"}),
        ("block.added", {"to": {"class": "municipality"}}),
        ("person.erased", {}),
        ("fact.retracted", {"event": "s taro"}),
    ],
)
def test_what_is_withdrawn_leaves_a_tombstone(home: Town, kind: str, said: dict[str, Any]) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sent = sending.to_rest()
    [ref] = [entry["ref"] for entry in _opened(sending, sent) if entry["person"] == "taro"]
    home.tell(kind, person="taro", **said)
    [message] = sending.to_rest()
    assert (message.key, message.value) == (f"rescue/{ref}".encode(), None)
    assert list(everyone(sending)) == ["hanako"]


def _opened(sending: Sending, messages: Any) -> list[dict[str, Any]]:
    view = sending.consumer()
    read(view, messages)
    return list(view)


def test_time_alone_leaves_tombstones(home: Town) -> None:
    home.tell("person.enrolled", person="jiro", areas=["07202"])
    grant(home, "jiro", modes=["emergency"])
    home.tell("safety.answered", person="jiro", status="safe")
    until = home.now + 3 * HOUR
    home.tell("emergency.declared", emergency="e", areas=["07202"], until=until, hazard="flood")
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    assert "jiro" in everyone(sending)
    home.clock.set(until)
    told = sending.to_rest()
    assert sum(message.value is None for message in told) == 1
    assert sorted(everyone(sending)) == ["hanako", "taro"]


@pytest.mark.parametrize("ends", ["stream.ended", "recipient.retired", "purpose", "terms"])
def test_what_a_stream_sent_is_taken_back_when_it_ends(home: Town, ends: str) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sent = {message.key for message in sending.to_rest() if message.value is not None}
    view = sending.consumer()
    read(view, sending.sent)
    assert len(view) == 2
    match ends:
        case "stream.ended":
            home.tell("stream.ended", stream="rescue", recipient="aizu-city")
        case "recipient.retired":
            home.tell("recipient.retired", recipient="aizu-city")
        case "purpose":
            class_ = {"class": "municipality"}
            home.tell("recipient.registered", recipient="aizu-city", **class_, areas=["07202"], purposes=["medical"])
        case "terms":
            home.tell("stream.registered", stream="rescue", recipient="aizu-city", purpose="medical")
    told = sending.to_rest()
    assert sent <= {message.key for message in told if message.value is None}
    read(view, thrice(told, Random(3)))
    assert shown(view) == everyone(sending) == {}
    assert all(home.hub.audit.repeat(position).same for position in home.hub.audit.disclosures())
    if ends != "purpose" and ends != "terms":
        assert _rows(home.hub, feeds.feed) == _rows(home.hub, feeds.held) == _rows(home.hub, feeds.kept_feed) == 0


def _rows(hub: Hub, table: Any) -> int:
    with hub.log.entries.snapshot() as (connection, _):
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_a_stream_that_ended_may_begin_again(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    home.tell("stream.ended", stream="rescue", recipient="aizu-city")
    sending.to_rest()
    home.tell("stream.registered", stream="rescue", recipient="aizu-city", purpose="rescue", kinds=["safety.*"])
    sending.to_rest()
    assert sorted(everyone(sending)) == ["hanako", "taro"]


def test_a_line_is_there_as_long_as_its_stream_or_what_was_sent_by_it(home: Town, tmp_path: Path) -> None:
    file = tmp_path / "kafka.toml"
    file.write_text('bootstrap = ["127.0.0.1:9"]\n')
    lines = ViewLines(home.hub, Broker(load(file, {})), Registry(home.hub.log.schemas))
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    assert [line.name for line in lines.lines()] == ["hub.view.aizu-city/rescue"]
    home.tell("recipient.retired", recipient="aizu-city")
    assert [line.name for line in lines.lines()] == ["hub.view.aizu-city/rescue"]
    assert [lag.name for lag in home.hub.relayed.lags()] == ["hub.view.aizu-city/rescue"]
    sending.to_rest()
    assert lines.lines() == []
    home.tell("person.enrolled", person="saburo", areas=["07202"])
    assert home.hub.relayed.lags() == [], "nothing more comes by it: it is not behind"

    def remembered() -> list[str]:
        with home.hub.log.entries.snapshot() as (connection, _):
            return list(connection.scalars(select(relayed.c.name)))

    assert remembered() == ["hub.view.aizu-city/rescue"]
    home.wait(2 * HOUR)
    assert lines.lines() == []
    assert remembered() == []


def test_a_feed_that_is_lost_makes_void_what_was_sent(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    early = sending.consumer()
    read(early, sending.sent)
    with home.hub.log.entries.maintaining() as connection:
        for table in (feeds.feed, feeds.held, feeds.kept_feed):
            connection.execute(delete(table))
    home.tell("consent.revoked", person="taro", grant="g taro")
    told = sending.to_rest()
    read(early, told)
    assert list(shown(early)) == list(everyone(sending)) == ["hanako"]


def test_a_stream_is_not_dropped_for_its_age_or_for_the_number_of_feeds(
    home: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    monkeypatch.setattr(feeds, "MOST_FEEDS", 2)
    home.wait(feeds.KEPT + HOUR)
    for _ in range(4):
        home.hub.feeds.advance(QUERY, None)
    home.tell("safety.answered", person="taro", status="need_help")
    generations = {dict(message.headers)["hub-generation"] for message in [*sending.sent, *sending.to_rest()]}
    assert len(generations) == 1


def test_a_relay_that_was_killed_before_it_stored_sends_what_holds_now(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.step()
    sending.step(stored=False)  # the first message: nobody knows that it left
    home.tell("consent.revoked", person="taro", grant="g taro")
    sending.again()
    sending.to_rest()
    assert list(everyone(sending)) == ["hanako"]
    home.tell("safety.answered", person="hanako", status="injured")
    sending.step(stored=False)
    home.tell("block.added", person="hanako", to={"class": "municipality"})
    sending.again()
    sending.to_rest()
    assert everyone(sending) == {}


def test_what_a_relay_sends_that_lost_its_lease_is_void_however_late_it_arrives(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    home.tell("safety.answered", person="taro", status="need_help")
    stalled = sending.relayed, sending.relayed.take(sending.line.name, LEASE)
    assert stalled[1] is not None
    late = sending.line.piece(stalled[1])
    assert late is not None
    home.wait(LEASE + timedelta(seconds=1))
    home.tell("consent.revoked", person="taro", grant="g taro")
    registry = Registry(home.hub.log.schemas)
    sending.relayed = Relayed(home.hub.log)
    sending.line = ViewLine(home.hub, registry, "aizu-city", "rescue", topic=sending.topic, check=lambda: None)
    sending.to_rest()
    sending.sent += late.messages
    assert not stalled[0].renew(stalled[1], LEASE)
    assert list(everyone(sending)) == ["hanako"]
    fresh = sending.consumer()
    read(fresh, compacted(sending.sent))
    assert list(shown(fresh)) == ["hanako"]


@pytest.fixture
def large(home: Town) -> Town:
    """taro has more data in his history than a message can hold."""
    home.tell("stream.registered", stream="rescue", recipient="aizu-city", purpose="rescue", history=True)
    for number in range(9):
        home.tell("safety.answered", f"l {number}", person="taro", status="safe", note="x" * 1_000_000)
    return home


def test_who_has_more_data_than_a_message_holds_is_taken_back_and_holds_up_nobody(large: Town) -> None:
    sending = Sending(large.hub, "aizu-city", "rescue")
    sending.to_rest()
    assert all(len(message.value or b"") <= LARGEST_VALUE_BYTES for message in sending.sent)
    assert list(everyone(sending)) == ["hanako"]
    [lag] = large.hub.relayed.lags()
    assert lag.error is not None
    assert lag.error.startswith("1 times since the stream began")
    assert "taro" not in lag.error
    large.tell("consent.revoked", person="hanako", grant="g hanako")
    sending.to_rest()
    assert everyone(sending) == {}


def test_tombstones_are_sent_before_the_values_of_their_message(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    home.tell("safety.answered", person="hanako", status="injured")
    home.tell("consent.revoked", person="taro", grant="g taro")
    first, second = sending.step(), sending.step()
    assert first is not None
    assert second is not None
    assert [message.value is None for message in first.messages] == [True]
    assert [message.value is None for message in second.messages] == [False]
    assert sending.to_rest() == []
    assert everyone(sending) == shown_now(home.hub, QUERY)


def test_a_relay_that_ends_between_tombstones_and_values_loses_neither(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    home.tell("safety.answered", person="hanako", status="injured")
    home.tell("consent.revoked", person="taro", grant="g taro")
    sending.step()
    sending.again()
    sending.to_rest()
    assert everyone(sending) == shown_now(home.hub, QUERY)


def test_a_delivery_that_fails_is_sent_again_as_it_was_and_takes_no_second_use(home: Town) -> None:
    home.tell("person.enrolled", person="jiro", areas=["07202"])
    grant(home, "jiro", uses=2)
    home.tell("safety.answered", "s jiro", person="jiro", status="safe")
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.step()
    first = sending.step(arrives=False)
    assert first is not None
    end = home.hub.log.entries.max_notification_id()
    for _ in range(3):
        again = sending.step(arrives=False)
        assert again is not None
        assert again.messages == first.messages
    assert home.hub.log.entries.max_notification_id() == end
    sending.to_rest()
    assert sorted(everyone(sending)) == ["hanako", "jiro", "taro"]


def test_a_delivery_that_fails_is_decided_anew_where_something_bears_on_it(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    home.tell("safety.answered", person="taro", status="need_help")
    sending.step(arrives=False)
    home.tell("consent.revoked", person="taro", grant="g taro")
    assert [message.value for message in sending.to_rest()] == [None]
    home.tell("safety.answered", person="hanako", status="injured")
    sending.step(arrives=False)
    home.wait(400 * DAY)
    sending.to_rest()
    assert everyone(sending) == shown_now(home.hub, QUERY)


@pytest.mark.parametrize("kinds", [[f"k.a{n}" for n in range(101)], [f"k.a{n}{'x' * 100}" for n in range(50)]])
def test_a_stream_names_only_so_many_kinds_that_its_line_can_be_stored(home: Town, kinds: list[str]) -> None:
    said = {"stream": "rescue", "recipient": "aizu-city", "purpose": "rescue"}
    result = home.hand_in("stream.registered", **said, kinds=kinds)
    assert (result.status, getattr(result.error, "path", None)) == ("refused", "kinds")


def test_the_most_kinds_that_a_stream_may_name_are_stored(home: Town) -> None:
    name = "😀" * 200
    home.tell("recipient.registered", recipient=name, **{"class": "c"}, areas=["07202"], purposes=["rescue"])
    kinds = ["safety.answered", *(f"k.a{n:02}{'x' * 35}" for n in range(99))]
    home.tell("stream.registered", stream="r" * 100, recipient=name, purpose="rescue", kinds=kinds)
    grant(home, "taro", "for all", to={"recipient": name})
    sending = Sending(home.hub, name, "r" * 100)
    for number in range(100):
        home.tell("safety.answered", f"h {number}", person="taro", status="safe")
        sending.to_rest()
        home.wait(HOUR)
    assert list(everyone(sending)) == ["taro"]


def test_nothing_is_decided_while_the_broker_is_away(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    checks = sending.checks
    home.tell("safety.answered", person="hanako", status="injured")
    sending.step(arrives=False)
    sending.away = True
    end = home.hub.log.entries.max_notification_id()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            sending.step()
    assert home.hub.log.entries.max_notification_id() == end
    sending.away = False
    [message] = sending.to_rest()
    assert message.value is not None
    assert sending.checks == checks + 4
    assert everyone(sending) == shown_now(home.hub, QUERY)


def test_no_record_says_who_or_where(home: Town) -> None:
    home.tell("location.reported", person="taro", lat_deg=37.4948, lon_deg=139.9298, accuracy_m=5)
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    home.tell("consent.revoked", person="taro", grant="g taro")
    sending.to_rest()
    whole = b"".join(
        message.key + (message.value or b"") + b"".join(name.encode() + value for name, value in message.headers)
        for message in sending.sent
    )
    assert len(sending.sent) == 4
    for said in (b"taro", b"hanako", b"37.49", b"139.9", b"safe", b"location"):
        assert said not in whole
    for name in ("taro", "hanako"):
        assert home.hub.disclosure.name_of(name).encode() not in whole


def test_ids_are_each_records_own_and_the_same_when_it_comes_again(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    home.tell("safety.answered", person="taro", status="need_help")
    sending.to_rest()
    ids = [dict(message.headers)["ce_id"] for message in sending.sent]
    assert len(ids) == len(set(ids)) == 4


def test_a_revocation_goes_before_a_sweep(home: Town) -> None:
    people = [f"p{number:04}" for number in range(2 * AT_ONCE)]
    home.hub.intake.take([home.event("person.enrolled", person=person, areas=["07202"]) for person in people])
    terms = {"to": {"recipient": "aizu-city"}, "kinds": ["*"], "purposes": ["rescue"], "modes": ["emergency"]}
    home.hub.intake.take([home.event("consent.granted", person=p, grant=f"g {p}", **terms) for p in people])
    home.hub.intake.take([home.event("safety.answered", person=person, status="safe") for person in people])
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    until = home.now + HOUR
    home.tell("emergency.declared", emergency="e", areas=["07202"], until=until, hazard="flood")
    first = sending.step()
    assert first is not None
    assert len(first.messages) == AT_ONCE
    home.tell("consent.revoked", person="taro", grant="g taro")
    second = sending.step()
    assert second is not None
    assert [message.value is None for message in second.messages].count(True) == 1
    assert second.messages[0].value is None
    sending.to_rest()
    assert len(everyone(sending)) == 2 * AT_ONCE + 1


def test_who_is_shown_for_longer_than_a_key_lives_is_sent_again_under_a_new_one(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue", keeps_ms=6 * 3_600_000)
    sending.to_rest()
    view = sending.consumer()
    read(view, sending.sent)
    for _ in range(20):
        home.wait(HOUR)
        read(view, sending.to_rest())
        assert len(view) == 2, "they were not sent again in time"
        view.forget()
    shows = [message for message in sending.sent if message.value is not None]
    assert 8 <= len(shows) <= 16
    assert everyone(sending) == shown_now(home.hub, QUERY)
    with home.hub.log.keyring.engine.connect() as connection:
        assert (connection.scalar(select(func.count()).select_from(content_key)) or 0) <= 3


def test_a_consumer_that_is_sent_nothing_more_forgets_by_itself(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    sending.to_rest()
    view = sending.consumer()
    read(view, sending.sent)
    home.wait(8 * DAY)
    assert shown(view) == {}
    view.forget()
    assert read(sending.consumer(), sending.sent) == ["removed"] * 3


def test_content_keys_are_made_by_the_hour_and_go_with_their_recipient(home: Town) -> None:
    hub, now = home.hub, home.now
    first = hub.content.current("aizu-city", now, DAY)
    assert hub.content.current("aizu-city", now + timedelta(minutes=9), DAY) == first
    assert hub.content.current("other-city", now, DAY).secret != first.secret
    second = hub.content.current("aizu-city", now + HOUR, DAY)
    assert second.id != first.id
    assert hub.content.find("other-city", first.id, now) is None
    assert hub.content.find("aizu-city", first.id, now + DAY) is None
    assert hub.content.find("aizu-city", first.id, now) is None, "an expired key came back"
    assert hub.content.find("aizu-city", second.id, now) == second
    home.tell("recipient.retired", recipient="aizu-city")
    assert hub.content.find("aizu-city", second.id, now) is None
    hub.log.keyring.check()


def test_a_retirement_that_was_cut_off_destroys_the_keys_when_the_hub_opens(home: Town) -> None:
    key = home.hub.content.current("aizu-city", home.now, DAY)
    home.hub.commits.retire = lambda recipients: None
    home.tell("recipient.retired", recipient="aizu-city")
    assert home.hub.content.find("aizu-city", key.id, home.now) is not None
    home.reopen()
    assert home.hub.content.find("aizu-city", key.id, home.now) is None


def test_a_stream_is_of_a_recipient_that_is_registered(home: Town) -> None:
    home.tell("recipient.retired", recipient="other-city")
    for recipient in ("nobody", "other-city"):
        result = home.hand_in("stream.registered", stream="rescue", recipient=recipient, purpose="rescue")
        assert result.status == "refused"
    assert home.hub.directory.streams("aizu-city") == [
        {"stream": "rescue", "recipient": "aizu-city", "purpose": "rescue", "kinds": [], "exercise": False,
         "history": False}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("terms", "path", "rule"),
    [({"purpose": "research"}, "purpose", "R7"), ({"purpose": "rescue", "kinds": ["sefety.*"]}, "kinds", "R8")],
)
def test_a_stream_that_could_never_send_anything_is_refused(
    home: Town, terms: dict[str, Any], path: str, rule: str
) -> None:
    result = home.hand_in("stream.registered", stream="other", recipient="aizu-city", **terms)
    assert result.status == "refused"
    assert isinstance(result.error, Refused)
    assert (result.error.path, result.error.rule) == (path, rule)
    kinds = ["sefety.*", "location.*"]
    mixed = home.hand_in("stream.registered", stream="other", recipient="aizu-city", purpose="rescue", kinds=kinds)
    assert mixed.status == "accepted"


def test_a_record_of_another_recipient_key_or_number_does_not_open(home: Town) -> None:
    sending = Sending(home.hub, "aizu-city", "rescue")
    *_, first, second = sending.to_rest()
    view = sending.consumer()
    assert view.take(first.key, second.value, second.headers) == "unreadable"
    headers = [(name, b"9" if name == "hub-sequence" else value) for name, value in first.headers]
    assert view.take(first.key, first.value, headers) == "unreadable"
    assert view.take(first.key, first.value[:-1] if first.value else None, first.headers) == "unreadable"
    assert view.take(first.key, b"\0", first.headers) == "unreadable"
    assert view.take(first.key, first.value, []) == "unreadable"
    assert view.take(None, first.value, first.headers) == "unreadable"
    assert read(view, [first, first, second]) == ["shown", "old", "shown"]
    assert view.take(first.key, b"\0", headers) == "unreadable"
    assert len(view) == 1, "who cannot be read is still shown"
    other = type(view)("other-city", HubKeys(home.hub, "aizu-city"), clock=lambda: home.now.timestamp())
    assert read(other, [first]) == ["unreadable"]


def test_a_record_holds_canonical_json_of_what_the_disclosure_says(home: Town) -> None:
    home.tell("person.enrolled", person='花子 "é"', areas=["07202"])
    grant(home, '花子 "é"')
    home.tell("location.reported", person='花子 "é"', lat_deg=37.4948, lon_deg=139.9298, accuracy_m=5)
    sending = Sending(home.hub, "aizu-city", "rescue")
    keys, said = HubKeys(home.hub, "aizu-city"), {}
    for message in sending.to_rest():
        if message.value is None:
            continue
        sealed, headers = parse(message.value), dict(message.headers)
        name, numbers = message.key.decode(), (int(headers[GENERATION]), int(headers[SEQUENCE]))
        box = AESGCM(keys.fetch(sealed.key).secret).decrypt(
            sealed.nonce, sealed.box, bound_to("aizu-city", name, *numbers)
        )
        record = json.loads(box)
        assert dumps(record) == box
        said[record["person"]] = record
    position = home.hub.audit.disclosures()[-1]
    body = json.loads(home.hub.audit.repeat(position).answer.body)
    assert len(body["persons"]) == len(said) == 3
    for person in body["persons"]:
        record = said[person["person"]]
        assert {name: record[name] for name in person} == person
        assert {record[name] == body[name] for name in ("exercise", "purpose", "recipient", "time")} == {True}
        assert (record["stream"], record["format"]) == ("rescue", "visible/1")


@pytest.mark.parametrize(
    ("recipient", "topic"),
    [
        ("aizu-city", "hub.view.aizu-city"),
        ("aizu_city", "hub.view.aizu_city"),
        ("aizu.city", "hub.view.-d6d91c8ddb2fe9e2b2c4f0f33d2f0d69"),
        ("会津若松市", None),
        ("-d6d91c8ddb2fe9e2b2c4f0f33d2f0d69", None),
        ("a" * 101, None),
    ],
)
def test_topics_are_told_apart_and_are_names_for_kafka(recipient: str, topic: str | None) -> None:
    made = topic_of(recipient)
    assert len(made) < 150
    assert made.isascii()
    assert made.removeprefix("hub.view.").replace("-", "").replace("_", "").isalnum()
    assert (made == f"hub.view.{recipient}") is (topic == f"hub.view.{recipient}")


def test_the_sdk_stands_alone() -> None:
    script = "import sys, hub.sdk, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60).stdout
    modules = json.loads(out)
    ours = [name for name in modules if name.startswith("hub.")]
    assert ours == ["hub.sdk", "hub.sdk.keys", "hub.sdk.record", "hub.sdk.view"]
    others = {"sqlalchemy", "fastapi", "kafka", "eventsourcing", "pydantic"}
    assert not others & {name.partition(".")[0] for name in modules}


class Play:
    """A world, lines of which some are killed, and consumers; what they show has to be what a view would."""

    def __init__(self, seed: int, world: World) -> None:
        self.seed, self.world, self.hub = seed, world, world.hub
        self.rng = Random(f"streams {seed}")
        self.lines: list[Sending] = []
        self.early: list[View] = []
        self.taken: list[int] = []

    @property
    def city(self) -> City:
        with self.hub.log.entries.snapshot() as (connection, end):
            return self.hub.views.at(connection, end.position).city

    def register(self) -> None:
        """A stream for each recipient and purpose."""
        for recipient in self.city.recipients.values():
            keeps_ms = self.rng.choice((6, 24, 168)) * 3_600_000  # of the topic, which a recipient has one of
            for purpose in worlds.PURPOSES[:2] if not recipient.retired else ():
                self.lines.append(Sending(self.hub, recipient.id, purpose, keeps_ms=keeps_ms))
                self.early.append(self.lines[-1].consumer())
                self.taken.append(0)
                self.change(self.lines[-1], purpose)

    def change(self, line: Sending, purpose: str) -> None:
        """Registers it, or its other terms; now and then it ends."""
        rng, data = self.rng, {"stream": line.stream, "recipient": line.recipient}
        now = self.world.clock.now()
        if rng.random() < 0.1:
            self.world.append(now, "stream.ended", data)
            return
        terms = {"purpose": purpose, "history": rng.random() < 0.3, "exercise": rng.random() < 0.1}
        self.world.append(now, "stream.registered", {**data, **terms})

    def check(self, index: int, *, whole: bool = False) -> None:
        """Some pieces go astray, and the relay is killed; in the end consumers show what may be seen.

        whole: also one that begins only now.
        """
        line, rng, late = self.lines[index], self.rng, list[Message]()
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            piece = line.step(arrives=rng.random() < 0.7, stored=rng.random() < 0.5)
            if rng.random() < 0.5:
                line.again()
            elif rng.random() < 0.3:
                line.again(killed=True)
                late += piece.messages if piece is not None else ()
        line.to_rest()
        line.sent += late
        read(self.early[index], thrice(line.sent[self.taken[index] :], rng))
        self.taken[index] = len(line.sent)
        found = self.city.streams.get((line.recipient, line.stream))
        expected = {} if found is None else shown_now(self.hub, query_of(found))
        assert shown(self.early[index]) == expected, f"seed {self.seed}, {line.line.name}"
        if whole:
            assert everyone(line) == expected, f"seed {self.seed}, {line.line.name}, from the beginning"
            fresh = line.consumer()
            read(fresh, compacted(line.sent))
            assert shown(fresh) == expected, f"seed {self.seed}, {line.line.name}, compacted"


def sent_in(seed: int) -> int:
    """Plays a world before streams; how many persons were sent."""
    with World.fresh() as world:
        play = Play(seed, world)
        for number, step in enumerate(worlds.world(9000 + seed, length=70)):
            if "kind" in step:
                worlds.play(world, {**step, "at": max(world.clock.now(), worlds.when(step)).isoformat()})
            else:
                world.clock.set(max(world.clock.now(), worlds.when(step)))
            if number == 25:
                play.register()
            if number > 25 and play.lines:
                play.check(play.rng.randrange(len(play.lines)))
                if play.rng.random() < 0.05:
                    play.change(play.rng.choice(play.lines), play.rng.choice(worlds.PURPOSES[:2]))
        for index in range(len(play.lines)):
            play.check(index, whole=True)
        return sum(message.value is not None for line in play.lines for message in line.sent)


def test_in_random_worlds_every_consumer_shows_what_a_view_shows() -> None:
    seeds = worlds.few(range(8))
    assert sum(map(sent_in, seeds)) > 6 * len(seeds), "too little was sent"
