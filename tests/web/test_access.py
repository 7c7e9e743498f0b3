"""The table of who may do what, walked whole: every route and every kind, each role, each owner, over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Town
from doors import Client, Reply, cloudevent, served
from hub.events import CONTROLS
from hub.identity.caller import ROLES
from hub.identity.local import identity
from hub.web.access import FACT, KINDS, ROUTES
from hub.web.app import routes

WHO = {
    "source": "source:myhazard",
    "service": "service:aizu-city",
    "citizen": "citizen:hanako",
    "officer": "officer:officer-1@aizu-city",
    "operator": "operator",
    "auditor": "auditor",
}
OWNERS = {
    "own": {"person": "hanako", "recipient": "aizu-city", "source": "myhazard", "name": "jma"},
    "delegating": {"person": "taro", "recipient": "aizu-city", "source": "myhazard", "name": "jma"},
    "other": {"person": "jiro", "recipient": "other-city", "source": "careyell", "name": "jma"},
    "missing": {"person": "nobody", "recipient": "no-city", "source": "none", "name": "none"},
}
"""What stands in a path: the caller's own, that of someone whose delegate the citizen is, another's, nobody's."""

UNDONE = {"Idempotency-Key": "x" * 300}
"""Makes whoever is let in stumble before anything is done."""

TYPE = "urn:saigai-hub:problem:"


@pytest.fixture
def home(town: Town) -> Iterator[tuple[Town, Client]]:
    for recipient in ("aizu-city", "other-city"):
        town.tell(
            "recipient.registered",
            recipient=recipient,
            **{"class": "city"},
            areas=["*"],
            purposes=["rescue"],
            overrides=[],
        )
    for person in ("hanako", "taro", "jiro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
    town.tell("delegation.added", person="taro", delegate="hanako")
    with served().over(town.hub, identity()) as client:
        yield town, client


def every_route() -> set[str]:
    described = routes().openapi()["paths"]
    return {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    rows = set(ROUTES) - {"GET /openapi.json"}
    assert every_route() - rows == set(), "a route that nobody declared"
    assert rows - every_route() == set(), "a row without a route"


def test_every_kind_has_a_row_and_every_row_a_kind() -> None:
    assert set(KINDS) - {FACT} == set(CONTROLS)


def test_only_what_says_nothing_about_anyone_is_open() -> None:
    assert {row for row, cells in ROUTES.items() if cells is None} == {
        "GET /livez", "GET /readyz", "GET /openapi.json", "GET /auth", "GET /auth/login",
    }  # fmt: skip


def filled(path: str, names: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "x"), path)


def wanted(row: str, role: str, owner: str) -> bool:
    """Whether the table lets a role in, for an owner."""
    cells = ROUTES[row]
    assert cells is not None
    match cells[role]:  # type: ignore[index]
        case "any" | "each":
            return True
        case "own" if role == "source" and "{name}" in row:
            return False  # the connector's source is jma's own, and this caller is myhazard
        case "own" if role == "citizen":
            return owner == "own"
        case "own":
            return owner in ("own", "delegating")
        case "act":
            return owner in ("own", "delegating")
    return False


def test_each_role_is_let_in_where_the_table_says_and_nowhere_else(home: tuple[Town, Client]) -> None:
    _, client = home
    walked = 0
    for row in sorted(row for row, cells in ROUTES.items() if cells is not None):
        method, path = row.split(" ", 1)
        for role in ROLES:
            for owner, names in OWNERS.items():
                target = filled(path, names)
                reply = client.call(method, target, headers=UNDONE, as_=WHO[role])
                let_in = reply.status != 403
                assert reply.status != 401, (row, role, owner)
                assert let_in is wanted(row, role, owner), (row, role, owner, reply)
                assert let_in or reply.json["type"] == f"{TYPE}forbidden", (row, reply)
                walked += 1
    assert walked == (len(ROUTES) - 5) * len(ROLES) * len(OWNERS)


def test_nobody_is_let_in_without_saying_who_they_are(home: tuple[Town, Client]) -> None:
    _, client = home
    for row, cells in ROUTES.items():
        method, path = row.split(" ", 1)
        reply = client.call(method, re.sub(r"\{\w+\}", "hanako", path), as_="")
        if cells is not None:
            named = reply.json.get("error_code") if path.startswith("/registry") else reply.json["type"]
            assert (reply.status, named) in ((401, 40101), (401, f"{TYPE}unauthenticated")), row
            assert reply.headers["www-authenticate"].startswith("Bearer"), row
        else:
            assert reply.status != 401 or path == "/auth", row


def test_what_is_not_the_callers_is_answered_as_what_does_not_exist(home: tuple[Town, Client]) -> None:
    _, client = home
    compared = 0
    for row, cells in ROUTES.items():
        for role in ROLES if cells is not None else ():
            if not re.search(r"\{(person|recipient)\}", row) or wanted(row, role, "other"):
                continue
            method, path = row.split(" ", 1)
            replies: list[Reply] = []
            for owner in ("other", "missing"):
                target = filled(path, OWNERS[owner])
                replies.append(client.call(method, target, headers=UNDONE, as_=WHO[role]))
            assert (replies[0].status, replies[0].body) == (replies[1].status, replies[1].body), (row, role)
            compared += 1
    assert compared > 150


def test_each_role_may_append_the_kinds_that_the_table_says_and_no_others(home: tuple[Town, Client]) -> None:
    town, client = home
    end = town.hub.log.entries.max_notification_id()
    for kind in (*CONTROLS, "safety.answered"):
        for role in ROLES[:-1]:
            for owner, names in OWNERS.items():
                event = cloudevent(kind, f"{kind}-{role}-{owner}", names["person"], source=names["source"])
                event["data"] = {"no_such_field": True, "recipient": names["recipient"]}
                if kind == "fact.retracted":
                    event["data"]["source"] = names["source"]
                reply = client.call("POST", "/v1/events", event, headers=STRUCTURED, as_=WHO[role])
                let_in = reply.status != 403
                assert let_in is may_append(kind, role, owner), (kind, role, owner, reply)
                assert reply.status in (403, 422)
    assert town.hub.log.entries.max_notification_id() == end


STRUCTURED = {"Content-Type": "application/cloudevents+json"}


def may_append(kind: str, role: str, owner: str) -> bool:
    cells = KINDS[kind if kind in CONTROLS else FACT]
    assert cells is not None
    match cells[role]:  # type: ignore[index]
        case "any":
            return True
        case "own" if role == "citizen":
            return owner == "own"
        case "own" | "named":
            return owner in ("own", "delegating")
        case "act":
            return owner in ("own", "delegating")
    return False  # `alone` too: the local identity lets nobody


def test_a_read_in_the_name_of_another_recipient_is_recorded(home: tuple[Town, Client]) -> None:
    town, client = home
    end = town.hub.log.entries.max_notification_id() or 0
    for path in ("/v1/views/other-city", "/v1/views/other-city/changes", "/v1/views/no-city/stream"):
        assert client.get(path, purpose="rescue", as_="service:aizu-city").status == 403
    assert client.get("/v1/views/aizu-city", purpose="rescue", as_="citizen:hanako").status == 403
    rows = town.hub.audit.events(after=end)
    refused = [row["data"] for row in rows if row["kind"] == "view.refused"]
    assert [(row["recipient"], row["purpose"]) for row in refused] == [
        ("other-city", "rescue"), ("other-city", "rescue"), ("no-city", "rescue"), ("aizu-city", "rescue"),
    ]  # fmt: skip
    assert [row["actor"] for row in refused[:3]] == ["local:aizu-city"] * 3
    assert refused[3]["actor"].startswith("person:")
    assert "hanako" not in str(refused)


def test_who_read_stands_in_the_trace(home: tuple[Town, Client]) -> None:
    _, client = home
    for who in ("service:aizu-city", "officer:officer-1@aizu-city"):
        assert client.get("/v1/views/aizu-city", purpose="rescue", as_=who).status == 200
    rows = client.get("/v1/audit/disclosures", as_="auditor").json["disclosures"]
    assert [row["actor"] for row in rows[:2]] == ["local:officer-1", "local:aizu-city"]
    looks = client.get("/v1/audit/events", limit=1000, as_="auditor").json["events"]
    assert looks[-1]["data"]["actor"] == "local:auditor"


@pytest.mark.parametrize("by", ["taro", "local:officer-9", "hanako2"])
def test_nobody_signs_with_another_name(home: tuple[Town, Client], by: str) -> None:
    _, client = home
    reply = client.call("POST", "/v1/persons/hanako/blocks", {"to": {"class": "x"}, "by": by}, as_="citizen:hanako")
    assert (reply.status, reply.json["errors"][0]["path"]) == (422, "by")
    event = cloudevent("consent.revoked", "e", "hanako", grant="all", by=by)
    assert client.call("POST", "/v1/events", event, headers=STRUCTURED, as_="citizen:hanako").status == 422


def test_a_delegate_signs_and_what_is_forbidden_to_delegates_stays_so(home: tuple[Town, Client]) -> None:
    town, client = home
    assert client.call("POST", "/v1/persons/taro/blocks", {"to": {"class": "x"}}, as_="citizen:hanako").status == 201
    [block] = client.get("/v1/persons/taro/blocks", as_="citizen:taro").json["blocks"]
    assert block["by"] == "hanako"
    for method, path in (("POST", "delegations"), ("POST", "relations"), ("DELETE", ""), ("GET", "export")):
        target = f"/v1/persons/taro/{path}".rstrip("/")
        assert client.call(method, target, {} if method == "POST" else None, as_="citizen:hanako").status == 403
    town.tell("delegation.ended", person="taro", delegate="hanako")
    assert client.get("/v1/persons/taro/blocks", as_="citizen:hanako").status == 403


def test_two_people_who_choose_the_same_ids_do_not_meet(home: tuple[Town, Client]) -> None:
    _, client = home
    key = {"Idempotency-Key": "k"}
    body = {"to": {"class": "x"}}
    first = client.call("POST", "/v1/persons/hanako/blocks", body, headers=key, as_="citizen:hanako")
    second = client.call("POST", "/v1/persons/taro/blocks", body, headers=key, as_="citizen:taro")
    assert (first.status, second.status) == (201, 201)
    for person in ("hanako", "taro"):
        event = cloudevent("consent.revoked", "same", person, source="app", grant="all")
        reply = client.call("POST", "/v1/events", event, headers=STRUCTURED, as_=f"citizen:{person}")
        assert (reply.status, reply.json["results"][0]["id"]) == (201, "same")


def test_whether_a_request_reached_anybody_is_told_to_nobody(home: tuple[Town, Client]) -> None:
    town, client = home

    def asked(person: Any, id: str) -> tuple[int, bytes]:
        data = {"request": "r", "recipient": "aizu-city", "kinds": ["safety.answered"], "purpose": "rescue"}
        event = cloudevent("consent.requested", id, person, **data)
        reply = client.call("POST", "/v1/events", event, headers=STRUCTURED, as_="service:aizu-city")
        return reply.status, reply.body.replace(b'"id":"' + id.encode(), b'"id":"id')

    first = asked("hanako", "a")
    assert first[0] == 201
    town.tell("person.erased", person="jiro")
    assert {asked("nobody", "b"), asked("jiro", "c"), asked("hanako", "a"), asked("taro", "d")} == {first}
    assert b"position" not in first[1] or b'"position":null' in first[1]
    assert town.hub.quarantine.items() == []
    assert asked("hanako", "")[0] == 422
