"""Streams and content keys over HTTP; the SDK fetches keys with the recipient's own token."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from conftest import Town
from doors import Client, served
from hub.sdk import HttpKeys, KeyGone, KeysAway, View
from openid import free_port
from streams import Sending, read, shown
from test_feeds import QUERY, grant, shown_now

STREAM = "/v1/recipients/aizu-city/streams/rescue"
OWN, OTHER = "service:aizu-city", "service:other-city"


@pytest.fixture
def home(town: Town) -> Iterator[tuple[Town, Client]]:
    for recipient in ("aizu-city", "other-city"):
        class_ = {"class": "municipality"}
        town.tell("recipient.registered", recipient=recipient, **class_, areas=["07202"], purposes=["rescue"])
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    grant(town, "hanako")
    town.tell("safety.answered", person="hanako", status="safe")
    with served().over(town.hub) as client:
        yield town, client


def keys(client: Client, who: str, recipient: str = "aizu-city") -> HttpKeys:
    return HttpKeys(f"http://127.0.0.1:{client.port}", recipient, lambda: client.tokens.of(who))


def test_an_operator_registers_shows_and_ends_a_stream(home: tuple[Town, Client]) -> None:
    _, client = home
    made = client.call("PUT", STREAM, {"purpose": "rescue", "kinds": ["safety.*"]}, as_="operator")
    assert (made.status, made.headers["location"]) == (201, STREAM)
    row = {"stream": "rescue", "recipient": "aizu-city", "purpose": "rescue", "kinds": ["safety.*"]}
    row |= {"exercise": False, "history": False}
    assert client.get(STREAM, as_=OWN).json == row
    assert client.get("/v1/recipients/aizu-city/streams", as_=OWN).json == {"streams": [row]}
    assert client.get("/v1/recipients/aizu-city/streams", as_=OTHER).status == 403
    assert client.call("DELETE", STREAM, as_="operator").status == 200
    assert client.get(STREAM, as_="operator").status == 404


@pytest.mark.parametrize(
    ("body", "path"),
    [({}, "purpose"), ({"purpose": "rescue", "kinds": ["*.x"]}, "kinds[0]"), ({"purpose": "rescue", "x": 1}, "x")],
)
def test_a_stream_that_is_wrong_is_refused_by_its_path(home: tuple[Town, Client], body: object, path: str) -> None:
    reply = home[1].call("PUT", STREAM, body, as_="operator")
    assert (reply.status, reply.json["errors"][0]["path"]) == (422, path)
    unknown = home[1].call("PUT", STREAM.replace("aizu-city", "nobody"), {"purpose": "rescue"}, as_="operator")
    assert (unknown.status, unknown.json["errors"][0]["path"]) == (422, "recipient")


def test_a_recipient_fetches_its_keys_and_nobody_else_does(home: tuple[Town, Client]) -> None:
    town, client = home
    key = town.hub.content.current("aizu-city", town.now, timedelta(days=1))
    path = f"/v1/recipients/aizu-city/keys/{key.id}"
    found = client.get(path, as_=OWN)
    assert (found.status, found.headers["cache-control"]) == (200, "no-store")
    assert keys(client, OWN).fetch(key.id).secret == key.secret
    for who in (OTHER, "operator", "auditor", "officer:officer-1@aizu-city", "citizen:hanako", "source:myhazard"):
        assert client.get(path, as_=who).status == 403, who
    stolen = client.get(f"/v1/recipients/other-city/keys/{key.id}", as_=OTHER)
    unknown = client.get("/v1/recipients/other-city/keys/none", as_=OTHER)
    assert (stolen.status, stolen.body) == (unknown.status, unknown.body)
    assert stolen.status == 404
    with pytest.raises(PermissionError):
        keys(client, OTHER).fetch(key.id)
    with pytest.raises(KeyGone):
        keys(client, OTHER, "other-city").fetch(key.id)


def test_a_consumer_opens_its_stream_with_its_own_credential(home: tuple[Town, Client]) -> None:
    town, client = home
    client.call("PUT", STREAM, {"purpose": "rescue"}, as_="operator")
    sending = Sending(town.hub, "aizu-city", "rescue")
    sending.to_rest()
    view = View("aizu-city", keys(client, OWN), clock=lambda: town.now.timestamp())
    assert read(view, sending.sent) == ["removed", "shown"]
    assert shown(view) == shown_now(town.hub, QUERY)
    stranger = View("aizu-city", keys(client, OTHER), clock=lambda: town.now.timestamp())
    with pytest.raises(PermissionError):
        read(stranger, sending.sent)
    town.tell("recipient.retired", recipient="aizu-city")
    again = View("aizu-city", keys(client, OWN), clock=lambda: town.now.timestamp())
    assert read(again, sending.sent) == ["removed", "removed"]


def test_a_hub_that_is_away_is_not_taken_for_a_key_that_is_gone(home: tuple[Town, Client]) -> None:
    away = HttpKeys(f"http://127.0.0.1:{free_port()}", "aizu-city", lambda: "x", timeout_s=2)
    with pytest.raises(KeysAway):
        away.fetch("k")
    with pytest.raises(ValueError, match="https"):
        HttpKeys("http://hub.example", "aizu-city", lambda: "x")
