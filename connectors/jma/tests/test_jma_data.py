"""JMA's own telegrams, official samples and what was sent: each is read, and each scenario ends the same in any order.

They lie beside the repository, in ../shared/data/1-jma, and are skipped elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hub.connector import Translation
from hub.events import Event
from hub.hub import Hub
from hub.log.clock import SetClock
from hub.schemas import packaged
from hub_connector_jma import JMA, READS

DATA = Path(__file__).parents[4] / "shared" / "data" / "1-jma"
FILES = sorted(DATA.glob("*/*.xml"))
OFFICIAL = [path for path in FILES if path.parent.name == "official-samples"]
TYPE = re.compile(r"_([A-Z]{4}(?:\d\d|ii))")
NOT_READ = re.compile(
    r"VXSE(43|52|61)|VYSE5[012]|VZSE40|VTSE5[12]|VFVO(5[12345]|60)|VPTI5[012]|VPBS50|VPZJ51|VPHW5[01]|VPOA50|VPNO50"
)

pytestmark = pytest.mark.skipif(not FILES, reason="JMA's telegrams are not in ../shared/data/1-jma")


def type_of(path: Path) -> str:
    found = TYPE.search(path.name)
    assert found
    return found[1]


def scenario_of(path: Path) -> str:
    """`32-39_12` of `32-39_12_07_250206_VTSE41.xml`; all that was sent live is one."""
    series, number, *_ = path.name.split("_")
    return f"{series}_{number}" if path in OFFICIAL else "live"


def scenarios(paths: Sequence[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(scenario_of(path), []).append(path)
    return found


SCENARIOS = scenarios([path for path in FILES if not NOT_READ.fullmatch(type_of(path))])
DRILLS = scenarios([path for paths in SCENARIOS.values() for path in paths if "<Status>訓練<" in path.read_text()])


@cache
def translated(path: Path, *, as_if_real: bool = False) -> Translation:
    """What a telegram gives. as_if_real: a drill as though it were none, so that it declares too."""
    payload = path.read_bytes()
    if as_if_real:
        payload = payload.replace("<Status>訓練<".encode(), "<Status>通常<".encode())
    return JMA().translate(payload)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_telegram_gives_events_that_fit_their_schema_or_a_reason(path: Path) -> None:
    kind = packaged().newest("hazard.reported")
    assert kind is not None
    translation = translated(path)
    assert translation.reported_at is not None
    assert bool(translation.events) is not bool(translation.nothing)
    for event in translation.events:
        kind.encode(event.data)
        assert event.data["report"] == type_of(path).replace("ii", "") or type_of(path).startswith("VXKO")
        assert event.exercise is (event.data["status"] == "exercise")
    assert len({event.id for event in translation.events}) == len(translation.events)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_not_read_is_what_the_readme_says(path: Path) -> None:
    translation = translated(path)
    assert bool(translation.events) is not bool(NOT_READ.fullmatch(type_of(path)))
    if translation.nothing:
        assert translation.nothing.startswith(type_of(path)[:4])


def test_no_title_that_is_read_is_without_a_telegram_here() -> None:
    """A title with a typing error would read nothing, and nobody would notice."""
    titles = {title for path in FILES for title in re.findall(r"<Title>([^<]*)</Title>", path.read_text()[:600])}
    assert READS.keys() - titles <= {title for title in READS if READS[title].report in _SEEN_NOWHERE}


_SEEN_NOWHERE: frozenset[str] = frozenset()
"""Types of which the data holds no sample."""


def events_of(paths: Sequence[Path], *, as_if_real: bool) -> list[list[Event]]:
    return [list(translated(path, as_if_real=as_if_real).events) for path in paths]


Ends = Callable[[Sequence[Sequence[Event]], datetime], list[dict[str, Any]]]


@pytest.fixture
def ends_as(tmp_path: Path) -> Iterator[Ends]:
    """Every emergency that a real hub knows when it has heard these telegrams, in this order, all at one time.

    One hub for all at that time: each order has chains of its own there, and starts from nothing.
    """
    hubs: dict[datetime, Hub] = {}
    orders = count()

    def ends(telegrams: Sequence[Sequence[Event]], now: datetime) -> list[dict[str, Any]]:
        if now not in hubs:
            hubs[now] = Hub.open(f"sqlite:///{tmp_path}/{len(hubs)}.sqlite3", SetClock(now), durable=False)
            hubs[now].init()
        own = f"{next(orders)}x"
        for events in telegrams:
            moved = [replace(e, id=own + e.id, data={**e.data, "chain": own + e.data["chain"]}) for e in events]
            for result in hubs[now].intake.take(moved):
                assert result.status in ("accepted", "duplicate"), result.error
        found = [row for row in hubs[now].audit.emergencies() if f":jma:{own}" in row["emergency"]]
        return [{**row, "emergency": row["emergency"].replace(f":jma:{own}", ":jma:")} for row in found]

    yield ends
    for hub in hubs.values():
        hub.close()


@pytest.mark.parametrize(
    ("scenario", "as_if_real"),
    [*((scenario, False) for scenario in SCENARIOS), *((scenario, True) for scenario in DRILLS)],
)
def test_a_scenario_ends_in_the_same_emergencies_in_order_reversed_and_doubled(
    scenario: str, as_if_real: bool, ends_as: Ends
) -> None:
    telegrams = events_of(SCENARIOS[scenario], as_if_real=as_if_real)
    reported = [event.data["reported_at"] for events in telegrams for event in events]
    now = max(reported) + timedelta(minutes=1)
    orders = {
        "in order": telegrams,
        "reversed": telegrams[::-1],
        "doubled": [*telegrams, *telegrams],
        "each twice, backwards": [events for events in telegrams[::-1] for _ in (1, 2)],
        "from the middle": [*telegrams[len(telegrams) // 2 :], *telegrams[: len(telegrams) // 2]],
    }
    ends = {name: ends_as(order, now) for name, order in orders.items()}
    assert all(standing(end) == standing(ends["in order"]) for end in ends.values()), ends


def standing(emergencies: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What is in force or waits for an officer; what has ended, or never was, says nothing."""
    names = ("emergency", "hazard", "areas", "until", "exercise", "state")
    return sorted(tuple(repr(one[name]) for name in names) for one in emergencies if one["state"] != "ended")


@pytest.mark.parametrize("scenario", DRILLS)
def test_a_drill_declares_nothing(scenario: str, ends_as: Ends) -> None:
    telegrams = events_of(DRILLS[scenario], as_if_real=False)
    now = max(event.data["reported_at"] for events in telegrams for event in events)
    assert ends_as(telegrams, now) == []


TSUNAMI = "tsunami:jma:20160901071000"


def test_the_great_tsunami_declares_for_coasts_and_ends_when_it_is_lifted(ends_as: Ends) -> None:
    scenario = SCENARIOS.get("32-39_12", [])
    warnings = [path for path in scenario if type_of(path) == "VTSE41"]
    first, second, last = events_of(warnings, as_if_real=True)
    for telegrams in ([first], [first, second], [second, first]):
        [found] = ends_as(telegrams, second[0].data["reported_at"])
        assert (found["emergency"], found["state"]) == (TSUNAMI, "active")
        assert {"08202", "12202", "22203"} <= set(found["areas"])
        assert not {"07202", "08201", "20201", "10201"} & set(found["areas"])
    for telegrams in ([first, second, last], [second, last, first]):
        [found] = ends_as(telegrams, last[0].data["reported_at"])
        assert found["state"] == "ended"
    assert ends_as([last, second, first], last[0].data["reported_at"]) == []


@pytest.mark.skipif(not OFFICIAL, reason="JMA's samples are not in ../shared/data/1-jma")
def test_the_levels_are_those_of_the_headline_of_jmas_sample() -> None:
    """We read the body; the headline says the same in words."""
    words = {"震度５弱": "5-", "震度５強": "5+", "震度６弱": "6-", "震度５弱以上未入電": "5-?"}
    text = (DATA / "official-samples" / "32-35_07_06_240613_VXSE53.xml").read_text()
    headline = text[text.index("（市町村等）") : text.index("</Headline>")]
    wanted = {
        (code[:5], words[item[0]])
        for item in re.findall(r"<Kind><Name>(.*?)</Name>(.*?)</Item>", headline, re.DOTALL)
        for code in re.findall(r"<Code>(\d{7})</Code>", item[1])
    }
    (event,) = JMA().translate(text.encode()).events
    assert {(a["area"], a["level"]) for a in event.data["areas"] if a["level"] in words.values()} == wanted
