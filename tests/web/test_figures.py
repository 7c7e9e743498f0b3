"""Figures over HTTP."""

from __future__ import annotations

import pytest

from conftest import Town
from doors import served


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
        for wrong, status in (
            ({"kind": "x"}, 422),
            ({"by": "x"}, 422),
            ({"persons": "p1"}, 400),
            ({"kinds": "safety.answered"}, 400),
            ({"area": "07202"}, 400),
        ):
            assert client.get("/v1/statistics/aizu-city", **{**asked, **wrong}).status == status, wrong
    assert len(city.hub.audit.disclosures()) == 3, "each answer is an event"
