"""Figures over HTTP, and R20 of them: what a recipient may not see changes no byte."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest
from test_silence import WebWitness

import worlds
from conftest import Town
from doors import WebWorld, served
from hub.statistics import BY, KINDS, Question, counting


@pytest.fixture
def city(town: Town) -> Town:
    """aizu-city, and ten persons whose safety it may see."""
    said = {"class": "municipality", "areas": ["07202"], "purposes": ["rescue"]}
    town.tell("recipient.registered", recipient="aizu-city", **said)
    grant = {"to": {"recipient": "aizu-city"}, "kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"]}
    for n in range(10):
        town.tell("person.enrolled", person=f"p{n}", areas=["07202"])
        town.tell("consent.granted", person=f"p{n}", grant=f"g{n}", **grant)
        town.tell("safety.answered", person=f"p{n}", status="safe")
    return town


class Counted(WebWitness):
    """Two worlds that differ in what is unseen: their figures are equal to the byte, though nothing is rounded."""

    counted = 0
    figures = 0

    def compare(self, at: Any, query: dict[str, Any]) -> None:
        before = self.alike
        super().compare(at, query)
        if self.alike == before or self.set_back(at) or query.get("as_of"):
            return
        asked = {name: query.get(name, False) for name in ("recipient", "purpose")} | {
            "exercise": query.get("exercise", False)
        }
        whole = {**query, "kinds": None}
        one, other = (naive.expect(at, **whole) for naive in (self.right, self.right_other))
        if one != other or self.modes(self.right, at, one) != self.modes(self.right_other, at, other):
            return
        for kind in KINDS:
            for by in BY:
                bodies = [
                    self.figure(world, at, Question(kind=kind, by=by, **asked)) for world in (self.one, self.other)
                ]
                assert bodies[0] == bodies[1], f"R20: {kind} by {by} at {at}: {query}"
                self.figures += 1
                self.counted += any(any(c["counts"].values()) for c in json.loads(bodies[0])["cells"])

    def figure(self, world: WebWorld, at: Any, asked: Question) -> bytes:
        hub = world.hub
        with hub.log.entries.snapshot() as (connection, end):
            return hub.statistics._figure(hub.views.at(connection, end.position), asked, at).body


def test_what_a_recipient_may_not_see_changes_no_byte_of_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "FEWEST", 1)
    monkeypatch.setattr(counting, "STEP", 1)
    with ExitStack() as rooms:
        witness = Counted(*(rooms.enter_context(WebWorld.fresh(server)) for server in range(2)))
        for step, added in worlds.unseen(7, worlds.world(2007, length=60)):
            witness.play(step, added)
    assert witness.figures > 200, witness.figures
    assert witness.counted > 10, witness.counted


def test_over_http_a_recipients_own_officers_and_services_ask_and_get_the_hours_bytes(city: Town) -> None:
    with served().over(city.hub) as client:
        asked = {"purpose": "rescue", "kind": "safety", "by": "district"}
        first = client.get("/v1/statistics/aizu-city", **asked)
        again = client.get("/v1/statistics/aizu-city", **asked)
        assert first.status == 200
        assert first.body == again.body
        assert len(first.headers["hub-position"]) == len(again.headers["hub-position"])
        assert str(city.hub.audit.disclosures()[0]).encode() not in first.body
        kept = client.get("/v1/statistics/aizu-city", headers={"If-None-Match": first.headers["etag"]}, **asked)
        assert kept.status == 304
        for wrong in ({"kind": "x"}, {"by": "x"}, {"persons": "p1"}, {"kinds": "safety.answered"}, {"area": "07202"}):
            assert client.get("/v1/statistics/aizu-city", **{**asked, **wrong}).status == 400
    assert len(city.hub.audit.disclosures()) == 3, "each answer is an event"
