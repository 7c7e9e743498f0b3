"""Signed webhooks: a door without a token, for whoever holds the source's secret, and nobody else."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from doors import Client, served
from hub.connector import Settings
from hub.identity import local
from hub.plugins import Plugins, Setting
from hub.web.access import NOT_THEIRS
from sources import install, source

SECRET = "the source's own"
PATH = "/v1/connectors/village"


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plugins:
    install(monkeypatch, tmp_path / "path", "village")
    return Plugins({"village": Setting(settings=Settings(secrets={"webhook": SECRET, "token": "token-of-the-source"}))})


@pytest.fixture
def home(plugins: Plugins, tmp_path: Path) -> Iterator[tuple[Town, Client]]:
    town = Town(tmp_path / "town", plugins)
    town.hub.init()
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("identity.linked", person="hanako", source="village", ref="u1")
    with served().over(town.hub) as client:
        yield town, client
    town.close()


def body(**record: Any) -> bytes:
    return json.dumps({"records": [{"id": "a", "user": "u1", "status": "safe", **record}]}).encode()


def signature(payload: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Signature": hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()}


def send(client: Client, payload: bytes, headers: dict[str, str], path: str = PATH) -> Any:
    return client.call("POST", path, payload, headers=headers, as_="")


def test_a_signed_webhook_is_taken_without_a_token(home: tuple[Town, Client]) -> None:
    _, client = home
    reply = send(client, body(), signature(body()))
    assert (reply.status, reply.json["status"]) == (200, "accepted")
    assert [row["status"] for row in reply.json["events"]] == ["accepted"]
    again = send(client, body(), signature(body()))
    assert [row["status"] for row in again.json["events"]] == ["duplicate"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Signature": ""},
        {"X-Signature": "0" * 64},
        signature(body(), "another"),
        signature(body(status="injured")),
    ],
    ids=["none", "empty", "wrong", "another secret", "another body"],
)
def test_what_is_not_signed_so_is_nobodys(home: tuple[Town, Client], headers: dict[str, str]) -> None:
    town, client = home
    end = town.hub.log.entries.max_notification_id()
    reply = send(client, body(), headers)
    assert (reply.status, reply.json["type"].rpartition(":")[2].rpartition("/")[2]) == (401, "unauthenticated")
    assert town.hub.log.entries.max_notification_id() == end
    assert town.hub.quarantine.items() == []


def test_a_signature_that_the_connector_stumbles_over_does_not_hold(home: tuple[Town, Client]) -> None:
    _, client = home
    assert send(client, body(), {"X-Signature": "ö"}).status == 401


def test_a_hub_that_is_busy_does_not_say_that_the_signature_is_wrong(
    home: tuple[Town, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source gives up after 401, and comes again after 503."""
    _, client = home
    monkeypatch.setattr("hub.web.door._MOST_READS", 0)
    assert send(client, body(), signature(body())).status == 503


def test_a_signed_webhook_without_a_body_is_one_that_cannot_be_read(home: tuple[Town, Client]) -> None:
    _, client = home
    assert send(client, b"", signature(b"")).status == 422


def test_a_signature_opens_no_other_door(home: tuple[Town, Client]) -> None:
    _, client = home
    for path in ("/v1/connectors/jma", "/v1/events", "/v1/connectors/nobody"):
        assert send(client, body(), signature(body()), path).status == 401


def test_without_the_secret_the_door_is_closed(plugins: Plugins, tmp_path: Path) -> None:
    town = Town(
        tmp_path / "other", Plugins({"village": Setting(settings=Settings(secrets={"token": "token-of-the-source"}))})
    )
    town.hub.init()
    with served().over(town.hub) as client:
        assert send(client, body(), signature(body(), "")).status == 401
    town.close()


def test_a_token_still_opens_it_to_its_own_source_alone(home: tuple[Town, Client]) -> None:
    _, client = home
    assert client.call("POST", PATH, body(), as_="source:village").status == 200
    assert client.call("POST", PATH, body(), as_="source:careyell").status == 403


def test_a_body_beyond_what_is_read_of_strangers_is_refused(home: tuple[Town, Client]) -> None:
    _, client = home
    huge = body(note="x" * 5 * 1024 * 1024)
    assert send(client, huge, signature(huge)).status == 413


def test_of_a_payload_with_a_bad_record_the_rest_is_taken_and_the_sender_told(home: tuple[Town, Client]) -> None:
    town, client = home
    records = [{"id": "a", "user": "u1", "status": "safe"}, {"id": "b", "user": "u1"}]
    payload = json.dumps({"records": records}).encode()
    reply = send(client, payload, signature(payload))
    assert (reply.status, reply.json["status"]) == (200, "accepted")
    assert reply.json["refused"] == [{"path": "records[1].status", "reason": "is missing"}]
    assert len(town.hub.quarantine.items()) == 1


def test_a_request_for_consent_is_always_answered_alike(home: tuple[Town, Client]) -> None:
    _, client = home
    rows = []
    for user in ("u1", "u-unknown"):
        payload = json.dumps({"records": [{"id": f"q-{user}", "user": user, "asks": "city"}]}).encode()
        reply = send(client, payload, signature(payload))
        rows.append({name: value for name, value in reply.json["events"][0].items() if name != "id"})
    assert rows == [{"kind": "consent.requested", "status": "accepted"}] * 2


def test_a_webhook_that_only_says_that_there_is_something_has_the_source_asked_now(home: tuple[Town, Client]) -> None:
    town, client = home
    page = (200, {}, b'{"records": [], "last": "1"}')
    with source(lambda path: page) as here:
        settings = town.plugins.setting("village").settings  # type: ignore[union-attr]
        town.plugins._settings["village"] = Setting(url=here.url, settings=settings)  # type: ignore[union-attr]
        town.hub.polling.ask("village")
    assert town.hub.polling.standings()[0].error is None
    assert town.hub.polling.due_s("village") > 0
    ping = b'{"ping": true}'
    reply = send(client, ping, signature(ping))
    assert (reply.status, reply.json["status"], reply.json["reason"]) == (
        200, "nothing", "there is something to ask for",
    )  # fmt: skip
    assert town.hub.polling.due_s("village") == 0


def test_the_metrics_show_how_far_a_source_is_behind(home: tuple[Town, Client]) -> None:
    town, client = home
    with source(lambda path: (503, {}, b"")) as here:
        settings = town.plugins.setting("village").settings  # type: ignore[union-attr]
        town.plugins._settings["village"] = Setting(url=here.url, settings=settings)  # type: ignore[union-attr]
        town.hub.polling.ask("village")
    text = client.get("/metrics", as_="operator").body.decode()
    assert 'hub_connector_failures_ratio{worker="1",connector="village"} 1' in text or "hub_connector_failures" in text


def test_what_a_source_may_not_append_is_refused_by_itself_and_kept(home: tuple[Town, Client]) -> None:
    town, _ = home
    identity = replace(local.identity(), sources={"village": ("safety.answered",)})
    records = [{"id": "a", "user": "u1", "status": "safe"}, {"id": "q", "user": "u1", "asks": "city"}]
    with served(1).over(town.hub, identity) as client:
        for payload, status in ((records, 200), (records[1:], 403)):
            sent = json.dumps({"records": payload}).encode()
            reply = send(client, sent, signature(sent))
            assert reply.status == status
    [item] = town.hub.quarantine.items()
    assert (item.kind, item.reason) == ("consent.requested", NOT_THEIRS)
    kinds = [row["kind"] for row in town.hub.audit.events(after=0) if row["source"] == "village"]
    assert kinds == ["safety.answered"]
