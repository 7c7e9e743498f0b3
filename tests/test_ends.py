"""Facts that carry their own end (R11): in views and histories, in words, by replay, and once destroyed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import MORNING, Town
from hub.answer import Query
from hub.errors import Misuse
from hub.plugins import Plugins
from hub.scenario import flat_event
from hub.schemas import Schemas, packaged
from sources import TOWN, install

HOUR = timedelta(hours=1)
END = MORNING + 6 * HOUR
QUERY = Query(recipient="aizu-city", purpose="rescue")
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "WalkTaken",
    "namespace": "hub",
    "doc": "A walk.",
    "doc_ja": "散歩。",
    "kind": "walk.taken",
    "version": 1,
    "category": "fact",
    "about": "person",
}
TIME = {"type": "long", "logicalType": "timestamp-micros"}
END_OF = {"name": "expires_at", "doc": "Its end.", "doc_ja": "終わり。"}


def home_of(town: Town, kind: str, **terms: Any) -> Town:
    """hanako, of whom aizu-city sees everything. kind, terms: what is introduced."""
    town.hub.intake.take([flat_event("kind.introduced", {"kind": kind, **terms}, "k")])
    city = {"class": "municipality", "areas": ["*"], "purposes": ["rescue"]}
    town.tell("recipient.registered", recipient="aizu-city", **city)
    town.tell("person.enrolled", person="hanako", areas=[])
    said = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"], "data": "all"}
    town.tell("consent.granted", person="hanako", grant="g", to={"recipient": "aizu-city"}, **said)
    return town


@pytest.fixture(params=[[], ["answered_by"]], ids=["one latest", "a latest of each who answered"])
def home(new_town: Callable[[str], Town], request: pytest.FixtureRequest) -> Town:
    """She answered twice; the second time with an end."""
    town = home_of(new_town("town"), "safety.answered", latest_by=request.param)
    town.tell("safety.answered", "older", person="hanako", status="need_help")
    town.tell("safety.answered", "newer", person="hanako", status="safe", expires_at=END)
    return town


def shown(town: Town, *, history: bool = False) -> list[str]:
    body = json.loads(town.read("aizu-city", "rescue", history=history).body)
    return [item["event"] for person in body["persons"] for item in person["items"]]


def test_nothing_older_is_shown_as_the_newest_once_the_newest_has_ended(home: Town) -> None:
    assert shown(home) == ["newer"]
    assert shown(home, history=True) == ["newer", "older"]
    home.clock.set(END)
    assert shown(home) == []
    assert shown(home, history=True) == ["older"]
    home.tell("safety.answered", "again", person="hanako", status="safe")
    assert shown(home) == ["again"]


def test_every_answer_is_repeated_to_the_same_bytes_and_the_rows_are_derived_again(home: Town) -> None:
    for time in (END - HOUR, END):
        home.clock.set(time)
        shown(home)
        shown(home, history=True)
    rows = home.views()
    assert home.hub.views.rebuild() > 0
    assert home.views() == rows
    home.hub.audit.verify()
    positions = home.hub.audit.disclosures()
    assert len(positions) == 4
    assert all(home.hub.audit.repeat(position).same for position in positions)


def test_the_explanation_says_that_the_fact_s_own_end_has_come(home: Town) -> None:
    lines = explained(home, END - timedelta(microseconds=1))
    assert [holds for holds, text, _ in lines if "newer" in text] == [True]
    lines = explained(home, END)
    [told] = [line for line in lines if "newer" in line[1]]
    assert told == (False, "safety.answered newer, grant g: the end that it carries itself has come", "R11")
    assert [holds for holds, text, _ in lines if "older" in text] == [True]


def explained(town: Town, time: datetime) -> list[tuple[bool, str, str]]:
    town.clock.set(time)
    found = town.hub.audit.explain(recipient="aizu-city", purpose="rescue", person="hanako")
    return [(line.holds, line.text, line.rule) for line in found.lines]


def test_of_a_fact_that_is_destroyed_no_end_is_known_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = json.dumps(
        {**SCHEMA, "ttl_s": 14 * 86_400, "fields": [{"type": ["null", TIME], "default": None, **END_OF}]}
    )
    code = TOWN.replace("    signed =", f"    schemas = {{'walk.taken.1.avsc': {schema!r}.encode()}}\n    signed =")
    install(monkeypatch, tmp_path / "path", "walks", code)
    town = home_of(Town(tmp_path / "town", Plugins()), "walk.taken", ttl_s=14 * 86_400)
    town.clock.set(datetime(2026, 6, 28, tzinfo=UTC))
    town.tell("walk.taken", "older", person="hanako")
    town.tell("walk.taken", "newer", person="hanako", expires_at=town.now + HOUR)
    assert shown(town) == ["newer"]
    town.wait(HOUR)
    assert shown(town) == []
    then = town.now
    town.clock.set(datetime(2026, 7, 1, tzinfo=UTC))
    assert shown(town, history=True) == ["older"]
    town.clock.set(datetime(2027, 8, 1, tzinfo=UTC))
    assert [month.month for month in town.hub.retention.retain().destroyed] == ["2026-06"]
    rows = town.views()
    town.hub.views.rebuild()
    assert town.views() == rows
    town.hub.audit.verify()
    replayed = town.hub.audit.replay(replace(QUERY, history=True), time=then)
    assert (json.loads(replayed.answer.body)["persons"], replayed.destroyed) == ([], 2), "at most so many"
    town.close()


def test_an_end_that_is_no_time_is_refused_with_the_schema() -> None:
    def added(**field: Any) -> Schemas:
        schema = {**SCHEMA, "fields": [{**END_OF, **field}]}
        return packaged().extended([("walk.taken.1.avsc", json.dumps(schema).encode())])

    assert added(type=TIME).kind("walk.taken").ends
    assert added(type=["null", TIME], default=None).kind("walk.taken").ends
    with pytest.raises(Misuse, match="expires_at is when a fact ends"):
        added(type="string")
    assert not packaged().kind("location.reported").ends
    assert packaged().kind("safety.answered").ends
