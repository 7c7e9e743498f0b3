"""The app's webhooks at the hub's own door, over real HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from doors import Client, served
from hub.connector import Settings
from hub.plugins import Plugins, Setting

SECRET = "wh-s3cret"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[tuple[Town, Client]]:
    town = Town(tmp_path / "town", Plugins({"myhazard": Setting(settings=Settings(secrets={"webhook": SECRET}))}))
    town.hub.init()
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("identity.linked", person="hanako", source="myhazard", ref="u-1")
    with served().over(town.hub) as client:
        yield town, client
    town.close()


def send(client: Client, body: bytes, secret: str = SECRET, stamp: str = "1780272000") -> Any:
    shown = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"Myhazard-Timestamp": stamp, "Myhazard-Signature": f"v1={shown}"}
    return client.call("POST", "/v1/connectors/myhazard", body, headers=headers, as_="")


FIXES = [[n, 1_780_272_000_000 + n, 37.4947, 139.9299, 8.5] for n in range(3)]
RECORD = {"format": "myhazard/1", "type": "location_bundle", "id": "b", "rev": 1, "user": "u-1", "device": "d"}
BODY = json.dumps(RECORD | {"fixes": FIXES}).encode()


def test_what_the_app_signed_is_taken_and_the_same_request_again_appends_nothing(home: tuple[Town, Client]) -> None:
    town, client = home
    first = send(client, BODY)
    end = town.hub.log.entries.max_notification_id()
    again = send(client, BODY)
    assert [event["status"] for event in first.json["events"]] == ["accepted"] * 3
    assert [event["status"] for event in again.json["events"]] == ["duplicate"] * 3
    assert town.hub.log.entries.max_notification_id() == end


def test_a_request_that_another_signed_is_nobodys(home: tuple[Town, Client]) -> None:
    _, client = home
    assert send(client, BODY, secret="another").status == 401


def test_a_bad_fix_is_kept_in_the_quarantine_and_the_others_are_taken(home: tuple[Town, Client]) -> None:
    town, client = home
    reply = send(client, json.dumps(RECORD | {"fixes": [*FIXES, [9, 1_780_272_000, 37.4947, 139.9299, 8.5]]}).encode())
    assert len([event for event in reply.json["events"] if event["status"] == "accepted"]) == 3
    assert len(town.hub.quarantine.items()) == 1
