"""Emergencies by two officers; what one alone may do, always or at night; amendments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

import doors
from conftest import Town
from doors import Client, cloudevent, served
from hub.identity.local import identity
from hub.identity.settings import Officers

FIRST, SECOND = "officer:officer-1", "officer:officer-2"
FLOOD = {"hazard": "flood", "areas": ["07202"]}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
TELEGRAM = Path(__file__).parents[2] / "connectors/jma/goldens/02-full.xml"

Serve = Callable[..., AbstractContextManager[Client]]


@pytest.fixture
def serve(town: Town) -> Serve:
    @contextmanager
    def over(**officers: Any) -> Iterator[Client]:
        with served().over(town.hub, replace(identity(), officers=Officers(**officers))) as client:
            yield client

    return over


def state(client: Client) -> dict[str, Any]:
    [row] = client.get("/v1/emergencies").json["emergencies"]
    found: dict[str, Any] = row
    return found


def propose(client: Client, who: str = FIRST, **said: Any) -> str:
    reply = client.call("POST", "/v1/emergencies", {**FLOOD, **said}, as_=who)
    assert reply.status == 201, reply
    return str(reply.json["emergency"])


def confirm(client: Client, name: str, who: str, seen: str | None = None) -> int:
    return doors.confirm(client, name, as_=who, seen=seen).status


def test_who_proposes_does_not_confirm(serve: Serve) -> None:
    with serve() as client:
        name = propose(client)
        assert (state(client)["state"], state(client)["proposed"]["by"]) == ("proposed", "local:officer-1")
        assert confirm(client, name, FIRST) == 403
        assert confirm(client, name, "operator") == 403
        assert confirm(client, name, SECOND) == 200
        assert (state(client)["state"], state(client)["by"], state(client)["alone"]) == (
            "active",
            "local:officer-2",
            False,
        )
        assert confirm(client, name, SECOND) == 404


def test_one_officer_alone_declares_neither_by_the_route_nor_by_an_event(serve: Serve, town: Town) -> None:
    with serve() as client:
        assert client.call("POST", "/v1/emergencies", {**FLOOD, "alone": True}, as_=FIRST).status == 403
        until = (town.now + timedelta(hours=5)).isoformat()
        event = cloudevent("emergency.declared", "e", emergency="e", hazard="flood", areas=["07202"], until=until)
        reply = client.call("POST", "/v1/events", event, headers=STRUCTURED, as_=FIRST)
        assert (reply.status, "two officers" in reply.json["errors"][0]["reason"]) == (403, True)
        assert client.get("/v1/emergencies").json["emergencies"] == []


def test_what_one_alone_may_do_at_night_is_marked(serve: Serve, town: Town) -> None:
    night = (time(21), time(6))
    with serve(alone_at_night=frozenset({"declare"}), night=night) as client:
        town.clock.set(datetime.fromisoformat("2026-06-02T20:59:00+09:00"))
        assert client.call("POST", "/v1/emergencies", {**FLOOD, "alone": True}, as_=FIRST).status == 403
        town.clock.set(datetime.fromisoformat("2026-06-02T23:30:00+09:00"))
        made = client.call("POST", "/v1/emergencies", {**FLOOD, "alone": True}, as_=FIRST)
        assert (made.status, state(client)["alone"], state(client)["by"]) == (201, True, "local:officer-1")
        name = made.json["emergency"]
        wider = {**FLOOD, "emergency": name, "areas": ["07"], "alone": True}
        assert client.call("POST", "/v1/emergencies", wider, as_=FIRST).status == 403, "to amend takes two at night too"
        town.clock.set(datetime.fromisoformat("2026-06-03T06:00:00+09:00"))
        assert client.call("POST", "/v1/emergencies", {**FLOOD, "alone": True}, as_=FIRST).status == 403


def test_an_amendment_takes_two_and_changes_nothing_until_it_is_confirmed(serve: Serve) -> None:
    with serve() as client:
        name = propose(client)
        assert confirm(client, name, SECOND) == 200
        propose(client, SECOND, emergency=name, areas=["07202", "07208"])
        row = state(client)
        assert (row["state"], row["areas"], row["proposed"]["areas"]) == ("active", ["07202"], ["07202", "07208"])
        assert confirm(client, name, SECOND) == 403
        assert confirm(client, name, FIRST) == 200
        row = state(client)
        assert (row["state"], row["areas"], row["proposed"]) == ("active", ["07202", "07208"], None)


def test_a_lease_ends_by_itself_and_what_was_only_proposed_lapses(serve: Serve, town: Town) -> None:
    with serve() as client:
        name = propose(client, until=(town.now + timedelta(hours=2)).isoformat())
        town.wait(timedelta(hours=3))
        assert state(client)["state"] == "ended"
        assert confirm(client, name, SECOND) == 404
        again = propose(client, emergency="second", until=(town.now + timedelta(hours=2)).isoformat())
        assert confirm(client, again, SECOND) == 200
        town.wait(timedelta(hours=2))
        states = {row["emergency"]: row["state"] for row in client.get("/v1/emergencies").json["emergencies"]}
        assert states == {name: "ended", "second": "ended"}


def test_what_the_hazard_policy_proposes_one_officer_confirms(serve: Serve) -> None:
    with serve() as client:
        sent = client.call("POST", "/v1/connectors/jma", TELEGRAM.read_bytes(), as_="source:jma")
        assert sent.status == 200
        waiting = [row for row in client.get("/v1/emergencies").json["emergencies"] if row["proposed"]]
        assert waiting, "the telegram proposes an emergency for some municipalities"
        assert waiting[0]["proposed"]["by"] is None
        assert confirm(client, waiting[0]["emergency"], FIRST) == 200


def test_whoever_is_no_officer_neither_declares_nor_lifts(serve: Serve) -> None:
    with serve() as client:
        name = propose(client)
        for who in ("citizen:hanako", "service:aizu-city", "source:jma", "operator", "auditor"):
            assert client.call("POST", "/v1/emergencies", FLOOD, as_=who).status == 403
            assert client.call("DELETE", f"/v1/emergencies/{name}", as_=who).status == 403
        assert client.call("DELETE", f"/v1/emergencies/{name}", as_=SECOND).status == 200
        assert confirm(client, name, SECOND) == 404


def test_what_is_confirmed_is_what_was_seen(serve: Serve) -> None:
    with serve() as client:
        name = propose(client)
        seen = state(client)["proposed"]["proposal"]
        propose(client, emergency=name, areas=["07", "13"])
        assert confirm(client, name, SECOND, seen) == 422
        assert client.call("POST", f"/v1/emergencies/{name}/confirm", {}, as_=SECOND).status == 422
        assert state(client)["state"] == "proposed"
        assert confirm(client, name, SECOND) == 200
        assert state(client)["areas"] == ["07", "13"]


def test_of_a_confirmation_and_a_rejection_at_once_one_holds(serve: Serve, town: Town) -> None:
    """The rejection is appended between the look of who confirms and their declaration."""
    with serve() as client:
        name = propose(client)
        row = state(client)["proposed"]
        town.tell("emergency.rejected", emergency=name)
        data = {"emergency": name, **FLOOD, "until": row["until"], "confirms": row["proposal"]}
        result = town.hand_in("emergency.declared", **data)
        assert (result.status, result.error.path if result.error else "") == ("refused", "proposal")
        assert state(client)["state"] == "ended"


@pytest.mark.parametrize("first", [True, False])
def test_a_drill_is_never_declared_as_real_nor_the_reverse(serve: Serve, first: bool) -> None:
    with serve() as client:
        name = propose(client, exercise=first)
        assert client.call("DELETE", f"/v1/emergencies/{name}", as_=FIRST).status == 200
        propose(client, emergency=name, exercise=not first, hazard="tsunami")
        assert state(client)["proposed"]["exercise"] is not first
        assert confirm(client, name, SECOND) == 200
        assert (state(client)["exercise"], state(client)["hazard"]) == (not first, "tsunami")


def test_to_reject_an_amendment_ends_nothing_else(serve: Serve) -> None:
    with serve() as client:
        name = propose(client)
        assert confirm(client, name, SECOND) == 200
        propose(client, emergency=name, areas=["07"])
        refused = client.call("DELETE", f"/v1/emergencies/{name}", as_=SECOND)
        assert (refused.status, "amendment" in refused.json["errors"][0]["reason"]) == (422, True)
        assert client.call("POST", f"/v1/emergencies/{name}/reject", as_=SECOND).status == 200
        assert (state(client)["state"], state(client)["areas"], state(client)["proposed"]) == (
            "active",
            ["07202"],
            None,
        )
        assert client.call("POST", f"/v1/emergencies/{name}/reject", as_=SECOND).status == 404
        assert client.call("DELETE", f"/v1/emergencies/{name}", as_=SECOND).json["state"] == "ended"


def test_who_may_only_declare_alone_does_not_amend_by_an_event(serve: Serve, town: Town) -> None:
    until = (town.now + timedelta(hours=5)).isoformat()
    event = cloudevent("emergency.declared", "e", emergency="e", hazard="flood", areas=["07202"], until=until)
    with serve(alone=frozenset({"declare"})) as client:
        assert client.call("POST", "/v1/events", event, headers=STRUCTURED, as_=FIRST).status == 403
    with serve(alone=frozenset({"declare", "amend"})) as client:
        assert client.call("POST", "/v1/events", event, headers=STRUCTURED, as_=FIRST).status == 201
        assert state(client)["alone"]


def test_a_proposal_that_is_sent_again_is_the_same(serve: Serve, town: Town) -> None:
    with serve() as client:
        key = {"Idempotency-Key": "at night"}
        first = client.call("POST", "/v1/emergencies", FLOOD, headers=key, as_=FIRST)
        town.wait()
        again = client.call("POST", "/v1/emergencies", FLOOD, headers=key, as_=FIRST)
        assert (first.status, again.status, again.json["emergency"]) == (201, 200, first.json["emergency"])
