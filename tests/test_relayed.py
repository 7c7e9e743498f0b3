"""How far the lines to the broker are: the lease that one relay has, what is told of it, the pieces of hub.events."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest

from conftest import Town
from doors import served
from hub.errors import Busy, PayloadError
from hub.identity.local import identity
from hub.log.recorder import chunk
from hub.registry import Registry
from hub.relay import events
from hub.relay.broker import Broker
from hub.relay.derive import position_of
from hub.relay.events import EventsLine
from hub.relay.relay import Relay, Sent
from hub.relay.settings import Kafka
from hub.relayed import Held, Relayed

MINUTE = timedelta(minutes=1)
LINE = "hub.events"


def taken(relayed: Relayed, lease: timedelta = MINUTE) -> Held:
    held = relayed.take(LINE, lease)
    assert held is not None
    return held


def test_one_relay_holds_a_line_until_its_lease_ends(town: Town) -> None:
    one, other = Relayed(town.hub.log), Relayed(town.hub.log)
    first = taken(one)
    assert (first.position, first.token, first.fence) == (0, None, 1)
    assert other.take(LINE, MINUTE) is None
    town.wait(timedelta(seconds=50))
    assert one.renew(first, MINUTE)
    town.wait(timedelta(seconds=50))
    assert other.take(LINE, MINUTE) is None
    town.wait(timedelta(seconds=11))
    assert taken(other).fence == 2
    assert one.advance(first, MINUTE, position=7) is None
    assert not one.renew(first, MINUTE)


def test_who_took_a_line_again_stores_nothing_by_the_hold_of_before(town: Town) -> None:
    one = Relayed(town.hub.log)
    before, now = taken(one), taken(one)
    assert one.advance(before, MINUTE, position=7) is None
    assert not one.renew(before, MINUTE)
    assert one.advance(now, MINUTE, position=5) is not None


def test_a_line_that_is_forgotten_by_one_and_begun_anew_by_another_stands(town: Town) -> None:
    one, other = Relayed(town.hub.log), Relayed(town.hub.log)
    seen = town.now
    town.wait()
    held = other.advance(taken(other), MINUTE, position=5, token="t")
    assert held is not None
    one.forget([LINE], seen)
    assert other.renew(held, MINUTE)
    one.forget([LINE], town.wait())
    assert not other.renew(held, MINUTE)


def test_who_gives_a_line_back_is_followed_at_once_where_it_stands(town: Town) -> None:
    one, other = Relayed(town.hub.log), Relayed(town.hub.log)
    held = one.advance(taken(one), MINUTE, position=5, token="t")
    assert held is not None
    one.release(held)
    town.wait(timedelta(seconds=1))
    assert (taken(other).position, taken(other).token) == (5, "t")


def test_who_takes_over_from_one_that_gave_nothing_back_is_told_so_until_something_is_stored(town: Town) -> None:
    one, other, third = (Relayed(town.hub.log) for _ in range(3))
    assert not taken(one).taken_over
    town.wait(2 * MINUTE)
    held = taken(other)
    assert held.taken_over
    assert taken(other).taken_over
    other.fail(taken(other), "no")
    held = taken(third)
    assert held.taken_over, "what the first had in hand may still come"
    assert third.advance(held, MINUTE, position=1) is not None
    held = taken(third)
    assert not held.taken_over
    third.release(held)
    assert not taken(one).taken_over


def test_who_gave_back_what_it_took_over_is_not_told_so_again_once_another_has_stored_something(town: Town) -> None:
    one, other, third = (Relayed(town.hub.log) for _ in range(3))
    taken(one)
    town.wait(2 * MINUTE)
    other.release(taken(other))
    held = taken(third)
    assert held.taken_over
    held = third.advance(held, MINUTE, position=1)
    assert held is not None
    third.release(held)
    assert not taken(other).taken_over


def test_what_is_wrong_with_what_was_sent_is_said(town: Town) -> None:
    relayed = town.hub.relayed
    assert relayed.advance(taken(relayed), MINUTE, position=1, error="too much") is not None
    assert [(lag.failures, lag.error) for lag in relayed.lags()] == [(0, "too much")]


@pytest.mark.parametrize("position", [None, b"", b"x", b"-1", b"9" * 40, "٣".encode()])
def test_a_record_that_no_relay_sent_is_passed_over(position: bytes | None) -> None:
    said = [("ce_type", b"view.disclosed"), ("ce_position", position)]
    assert position_of(SimpleNamespace(headers=said)) is None
    assert position_of(SimpleNamespace(headers=said[:1])) is None
    assert position_of(SimpleNamespace(headers=[said[0], ("ce_position", b"12")])) == 12


def test_a_lease_of_a_clock_that_leapt_holds_nobody_up(town: Town) -> None:
    one, other = Relayed(town.hub.log), Relayed(town.hub.log)
    town.wait(timedelta(days=400))
    taken(one)
    town.clock.set(town.now - timedelta(days=400))
    assert taken(other).fence == 2


def test_relays_know_how_many_they_are(town: Town) -> None:
    one, other, third = (Relayed(town.hub.log) for _ in range(3))
    assert one.present(MINUTE) == one.present(MINUTE) == 1
    assert (other.present(MINUTE), one.present(MINUTE)) == (2, 2)
    town.wait(timedelta(seconds=50))
    assert other.present(MINUTE) == 2
    town.wait(timedelta(seconds=11))
    assert other.present(MINUTE) == 1, "the first has said nothing for longer than its lease"
    assert third.present(MINUTE) == 2
    other.leave()
    assert third.present(MINUTE) == 1


def test_a_relay_of_a_clock_that_leapt_is_not_counted(town: Town) -> None:
    one, other = Relayed(town.hub.log), Relayed(town.hub.log)
    town.wait(timedelta(days=400))
    assert one.present(MINUTE) == 1
    town.clock.set(town.now - timedelta(days=400))
    assert other.present(MINUTE) == other.present(MINUTE) == 1


def test_who_has_its_part_takes_only_what_fails(town: Town) -> None:
    one, other = Relayed(town.hub.log), Relayed(town.hub.log)
    assert one.take(LINE, MINUTE, failing=True) is None, "nobody has tried"
    held = taken(one)
    one.release(held)
    assert other.take(LINE, MINUTE, failing=True) is None
    one.fail(taken(one), "no")
    held = other.take(LINE, MINUTE, failing=True)
    assert held is not None
    assert other.advance(held, MINUTE, position=1) is not None
    other.release(held)
    assert one.take(LINE, MINUTE, failing=True) is None


def test_who_sends_on_a_line_is_told(town: Town) -> None:
    relayed = town.hub.relayed
    held = taken(relayed)
    [lag] = relayed.lags()
    assert lag.relay is not None
    assert str(os.getpid()) in lag.relay
    town.wait(2 * MINUTE)
    assert [lag.relay for lag in relayed.lags()] == [None]
    relayed.release(held)
    assert [lag.relay for lag in relayed.lags()] == [None]


def test_what_has_to_hold_with_the_position_is_written_with_it_or_not_at_all(town: Town) -> None:
    relayed = town.hub.relayed
    held = taken(relayed)

    def fails(connection: object) -> None:
        raise PayloadError("no")

    with pytest.raises(PayloadError):
        relayed.advance(held, MINUTE, position=5, stored=fails)
    assert [lag.position for lag in relayed.lags()] == [0]


def test_how_far_behind_a_line_is(town: Town) -> None:
    relayed = town.hub.relayed
    held = relayed.advance(taken(relayed), MINUTE, position=town.hub.log.entries.max_notification_id() or 0)
    assert held is not None
    town.wait(timedelta(hours=1))
    [lag] = relayed.lags()
    assert (lag.events, lag.lag_s, lag.error) == (0, 0.0, None)
    held = taken(relayed, timedelta(minutes=50))
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.wait(timedelta(seconds=90))
    relayed.fail(held, "the broker does not answer in time")
    [lag] = relayed.lags()
    assert (lag.events, lag.lag_s, lag.failures, lag.error) == (1, 90.0, 1, "the broker does not answer in time")
    with served().over(town.hub, identity()) as client:
        figures = client.get("/metrics", as_="operator").body.decode()
    assert 'hub_relay_lag_seconds{worker="1",line="hub.events"} 90.0' in figures
    assert 'hub_relay_lag_events{worker="1",line="hub.events"} 1.0' in figures
    assert relayed.advance(taken(relayed), MINUTE, position=1) is not None
    assert [(lag.failures, lag.error) for lag in relayed.lags()] == [(0, None)]


class Failing:
    """A line with nothing to send, which fails at first."""

    name, topics = LINE, ()

    def __init__(self) -> None:
        self.failures = 1

    def piece(self, held: Held) -> None:
        if self.failures:
            self.failures -= 1
            raise Busy("the database does not answer")


def test_what_failed_is_told_to_work_again_though_nothing_is_to_be_sent(town: Town) -> None:
    failing, told, stop = Failing(), [], threading.Event()
    looks = iter(range(6))

    def lines() -> list[Failing]:
        look = next(looks, None)
        if look == 0:
            raise Busy("the database does not answer")
        if look is None:
            stop.set()
        return [failing]

    def tell(sent: Sent) -> None:
        told.append((sent.name, sent.error))
        if len(told) == 4:
            stop.set()

    Relay(town.hub.relayed, Broker(Kafka(bootstrap=("127.0.0.1:1",))), lines).run(stop, tell)
    for name in ("lines", LINE):
        assert [error for of, error in told if of == name] == ["the database does not answer", None]


def line(town: Town, at_once: int) -> EventsLine:
    broker = Broker(Kafka(bootstrap=("127.0.0.1:1",)))
    return EventsLine(town.hub.log, broker, Registry(town.hub.log.schemas), at_once=at_once)


def test_pieces_come_one_behind_the_other_without_a_gap(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    for at_once, most_bytes in ((4, 1 << 24), (1_000, 3_000)):
        monkeypatch.setattr(events, "PIECE_BYTES", most_bytes)
        found, pieces = line(town, at_once), 0
        held, positions = Held(name=LINE, position=0, token=None, fence=1), list[str]()
        while (piece := found.piece(held)) is not None:
            pieces += 1
            positions += [dict(message.headers)["ce_position"].decode() for message in piece.messages]
            assert piece.position == int(positions[-1])
            held = Held(name=LINE, position=piece.position, token=None, fence=1)
            assert piece.more or found.piece(held) is None
        assert positions == [str(n) for n in range(1, (town.hub.log.entries.max_notification_id() or 0) + 1)]
        assert pieces > 1


def test_what_stands_beside_a_disclosure_is_not_published(town: Town) -> None:
    said = {"class": "city", "areas": ["*"], "purposes": ["rescue"], "overrides": []}
    town.tell("recipient.registered", recipient="aizu-city", **said)
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("safety.answered", person="hanako", status="safe")
    terms = {"to": {"recipient": "aizu-city"}, "kinds": ["safety.answered"], "purposes": ["rescue"], "data": "all"}
    town.tell("consent.granted", person="hanako", grant="g", modes=["normal", "emergency"], **terms)
    assert len(town.read("aizu-city", "rescue").persons) == 1
    piece = line(town, 1_000).piece(Held(name=LINE, position=0, token=None, fence=1))
    assert piece is not None
    with town.hub.log.entries.snapshot() as (connection, _):
        beside = [row.state for row in connection.execute(chunk.select())]
    assert beside
    whole = b"".join(message.value or b"" for message in piece.messages)
    assert not any(state in whole for state in beside)
