"""Alerts, updates and cancellations in a real hub, by the policy that ships: any order ends in the same emergencies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, permutations
from typing import Any
from urllib.parse import quote

import pytest

from hub.hub import Hub
from hub.log.clock import SetClock

from .alerts import AIZU, KITAKATA, SENDER, alert, area, atom, cap, info, inside, named, told

BANDAI = ("JIS X 0402", "07407")
NOW = datetime(2026, 6, 2, 6, tzinfo=UTC)
LEASE = timedelta(hours=72)
OVER: dict[str, str] = {"response": "AllClear", "urgency": "Past", "severity": "Minor"}


def at(hour: int) -> str:
    """A time that day in Aizu."""
    return f"2026-06-02T{hour:02}:00:00+09:00"


def until(hour: int) -> datetime:
    return datetime(2026, 6, 2, tzinfo=UTC) + timedelta(hours=hour - 9) + LEASE


def ends_at(hour: int) -> datetime:
    return until(hour) - LEASE


def expires(hour: int) -> str:
    return f"<expires>{at(hour)}</expires>"


def first(*codes: tuple[str, str], identifier: str = "a1", hour: int = 9, **words: Any) -> str:
    return alert(info(area(*codes), **words), identifier=identifier, sent=at(hour))


def later(type_: str, hour: int, *names: str, infos: Sequence[str] = (), **more: Any) -> str:
    return alert(*infos, type_=type_, identifier=f"{type_}-{hour}", sent=at(hour), names=names, **more)


def update(hour: int, *names: str, codes: Sequence[tuple[str, str]] = (), **words: Any) -> str:
    return later("Update", hour, *names, infos=[info(area(*codes), **words)])


ROOT = named("a1", at(9))
SECOND = named("Update-10", at(10))
THIRD = named("Update-11", at(11))
WIDER = update(10, ROOT, codes=[AIZU, KITAKATA])

STORIES: dict[str, tuple[list[str], list[tuple[str, list[str], datetime]]]] = {
    "an alert stands": ([first(AIZU)], [("active", ["07202"], until(9))]),
    "an update amends it and renews its lease": ([first(AIZU), WIDER], [("active", ["07202", "07208"], until(10))]),
    "an update that names an area no more lifts it there": (
        [first(AIZU, KITAKATA), update(10, ROOT, codes=[KITAKATA])],
        [("active", ["07208"], until(10))],
    ),
    "an update that is all clear lifts it": (
        [first(AIZU), WIDER, update(11, ROOT, SECOND, codes=[AIZU], **OVER)],
        [],
    ),
    "a cancellation lifts it": ([first(AIZU), WIDER, later("Cancel", 11, ROOT, SECOND)], []),
    "a cancellation that names the first alone lifts it": ([first(AIZU), WIDER, later("Cancel", 11, ROOT)], []),
    "an update after a cancellation declares anew": (
        [first(AIZU), later("Cancel", 10, ROOT), update(11, ROOT, codes=[BANDAI])],
        [("active", ["07407"], until(11))],
    ),
    "what falls to severe is proposed and what falls further is lifted": (
        [first(AIZU), update(10, ROOT, codes=[AIZU], severity="Severe")],
        [("proposed", ["07202"], until(10))],
    ),
    "what rises from severe is declared": (
        [first(AIZU, severity="Severe"), update(10, ROOT, codes=[AIZU])],
        [("active", ["07202"], until(10))],
    ),
    "one update of two alerts ends the second": (
        [
            first(AIZU),
            first(KITAKATA, identifier="b1", hour=10),
            update(11, ROOT, named("b1", at(10)), codes=[AIZU, BANDAI]),
        ],
        [("active", ["07202", "07407"], until(11))],
    ),
    "one cancellation of two alerts ends both": (
        [first(AIZU), first(KITAKATA, identifier="b1", hour=10), later("Cancel", 11, ROOT, named("b1", at(10)))],
        [],
    ),
    "two alerts are two emergencies": (
        [first(AIZU), first(KITAKATA, identifier="b1", hour=10)],
        [("active", ["07202"], until(9)), ("active", ["07208"], until(10))],
    ),
    "a drill changes nothing": (
        [first(AIZU), later("Cancel", 10, ROOT, status="Exercise"), later("Cancel", 11, ROOT, status="Test")],
        [("active", ["07202"], until(9))],
    ),
    "what an outline alone places, or a code of another country, declares nothing": (
        [
            first(("FIPS6", "006037")),
            alert(info(area(inside="<polygon>37,139 38,139 38,140 37,139</polygon>")), identifier="p"),
        ],
        [],
    ),
    "an alert that expires before its lease ends then": (
        [first(AIZU, more=expires(18))],
        [("active", ["07202"], ends_at(18))],
    ),
    "an alert that had expired before it came declares nothing": ([first(AIZU, more=expires(14))], []),
    "an alert that had expired before it came proposes nothing": (
        [first(AIZU, severity="Severe", more=expires(14))],
        [],
    ),
    "an alert that expires after its lease stands for the lease": (
        [first(AIZU, more="<expires>2026-06-30T09:00:00+09:00</expires>")],
        [("active", ["07202"], until(9))],
    ),
    "an update makes it end earlier": (
        [first(AIZU, more=expires(22)), update(10, ROOT, codes=[AIZU], more=expires(18))],
        [("active", ["07202"], ends_at(18))],
    ),
    "an update makes it end later": (
        [first(AIZU, more=expires(18)), update(10, ROOT, codes=[AIZU], more=expires(22))],
        [("active", ["07202"], ends_at(22))],
    ),
    "an update without an end stands for its lease": (
        [first(AIZU, more=expires(14)), update(10, ROOT, codes=[AIZU])],
        [("active", ["07202"], until(10))],
    ),
    "an update that has expired ends an alert that has not": (
        [first(AIZU, more=expires(22)), update(10, ROOT, codes=[AIZU], more=expires(12))],
        [],
    ),
    "an update that expires when it is sent ends it": (
        [first(AIZU), update(10, ROOT, codes=[AIZU], more=expires(10))],
        [],
    ),
    "a cancellation of what expires lifts it": (
        [first(AIZU, more=expires(22)), update(10, ROOT, codes=[AIZU], more=expires(20)), later("Cancel", 11, ROOT)],
        [],
    ),
    "what is over of a lesser hazard does not end the greater": (
        [alert(info(area(AIZU), more=expires(18)), info(area(AIZU), severity="Minor", more=expires(14)), sent=at(9))],
        [("active", ["07202"], ends_at(18))],
    ),
    "an alert and its update of the same second": (
        [first(AIZU), alert(info(area(KITAKATA)), type_="Update", identifier="u", sent=at(9), names=[ROOT])],
        [("active", ["07208"], until(9))],
    ),
}

LAST_ONLY = (
    [
        first(AIZU),
        update(10, ROOT, codes=[AIZU, KITAKATA]),
        update(11, SECOND, codes=[BANDAI]),
    ],
    [("active", ["07407"], until(11))],
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One for all: each sequence has a sender of its own (`ends`), and so chains of its own."""
    found = Hub.open(f"sqlite:///{tmp_path_factory.mktemp('cap')}/hub.sqlite3", SetClock(NOW), durable=False)
    found.init()
    yield found
    found.close()


SENDERS = (f"cap{number}@aizu.example" for number in count())


def ends(
    hub: Hub, payloads: Sequence[str], sender: str | None = None, **options: Any
) -> list[tuple[str, list[str], datetime]]:
    """The emergencies of `sender` that stand once it sent these payloads, in this order; by default of one who is new.

    Each starts from nothing, whatever came before it.
    """
    sender = sender or next(SENDERS)
    connector = cap(senders=[sender], **options)
    for payload in payloads:
        results = hub.intake.take(told(payload.replace(SENDER, sender), connector).events)
        assert all(result.status in ("accepted", "duplicate") for result in results)
    found = [row for row in of(hub, sender) if row["state"] != "ended"]
    return sorted(
        ((row["state"], row["areas"], datetime.fromisoformat(row["until"])) for row in found), key=lambda row: row[1]
    )


def of(hub: Hub, sender: str) -> list[dict[str, Any]]:
    """The emergencies of a sender's chains."""
    return [row for row in hub.audit.emergencies() if row["emergency"].startswith(f"cap:cap:{quote(sender)}%2C")]


def orders(payloads: Sequence[str]) -> list[list[str]]:
    """Every order; then each doubled, and all twice, the second time backwards."""
    doubled = [payload for payload in payloads for _ in range(2)]
    return [*map(list, permutations(payloads)), doubled, [*payloads, *reversed(payloads)]]


@pytest.mark.parametrize("story", STORIES)
def test_a_chain_ends_in_the_same_emergencies_in_any_order(hub: Hub, story: str) -> None:
    payloads, wanted = STORIES[story]
    for order in orders(payloads):
        assert ends(hub, order) == wanted


def test_a_feed_newest_first_ends_as_its_alerts_do(hub: Hub) -> None:
    for payloads, wanted in STORIES.values():
        feed = atom(*[inside(payload) for payload in dict.fromkeys(reversed(payloads))])
        assert ends(hub, [feed, feed]) == wanted


def test_where_each_names_only_the_one_before_any_order_ends_the_same(hub: Hub) -> None:
    payloads, wanted = LAST_ONLY
    for order in orders(payloads):
        assert ends(hub, order, references="last") == wanted
    gone = [*payloads, later("Cancel", 12, THIRD)]
    for order in (gone, gone[::-1]):
        assert ends(hub, order, references="last") == []


def test_a_chain_that_names_only_the_one_before_needs_the_setting(hub: Hub) -> None:
    """The limit that the README tells of: what the third alert names does not say what the second one named."""
    payloads, _ = LAST_ONLY
    assert [row[1] for row in ends(hub, payloads)] == [["07202", "07208"], ["07407"]]


def test_no_emergency_is_named_by_what_had_expired(hub: Hub) -> None:
    sender = "late@aizu.example"
    assert ends(hub, [first(AIZU, more=expires(14)), update(10, ROOT, codes=[AIZU], more=expires(15))], sender) == []
    assert of(hub, sender) == []


def test_an_officers_hand_stays_over_an_update(hub: Hub) -> None:
    sender = "officer@aizu.example"
    ends(hub, [first(AIZU, severity="Severe")], sender)
    (proposed,) = of(hub, sender)
    assert proposed["state"] == "proposed"
    assert proposed["emergency"].startswith("cap:cap:officer%40aizu.example%2Ca1%2C")
    again = ends(hub, [update(10, ROOT, codes=[AIZU], severity="Severe")], sender)
    assert again == [("proposed", ["07202"], until(10))]
    assert len(of(hub, sender)) == 1
