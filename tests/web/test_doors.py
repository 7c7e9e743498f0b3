"""The doors one by one: formats, tags, request ids, the quarantine over HTTP, kinds, places, emergencies."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from doors import Client, cloudevent, confirm, served
from hub.areas import mesh

TELEGRAM = Path(__file__).parents[2] / "connectors/jma/goldens/02-full.xml"
VIEW = "/v1/views/aizu-city"


@pytest.fixture
def home(town: Town) -> Iterator[tuple[Town, Client]]:
    town.tell(
        "recipient.registered",
        recipient="aizu-city",
        **{"class": "municipality"},
        areas=["07202"],
        purposes=["rescue"],
        overrides=["life_protection"],
    )
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell(
        "consent.granted",
        person="hanako",
        grant="g",
        to={"recipient": "aizu-city"},
        kinds=["*"],
        purposes=["rescue"],
        modes=["normal"],
        data="all",
        precision={"location.reported": "1km"},
    )
    town.tell("location.reported", "l", person="hanako", lat_deg=37.4947, lon_deg=139.9298, accuracy_m=10)
    town.tell("safety.answered", "s", person="hanako", status="safe", note="=HYPERLINK(1)")
    with served().over(town.hub) as client:
        yield town, client


def test_geojson_shows_the_square_that_is_known_and_not_a_point(home: tuple[Town, Client]) -> None:
    _, client = home
    reply = client.get(VIEW, headers={"Accept": "application/geo+json"}, purpose="rescue")
    assert reply.headers["content-type"] == "application/geo+json"
    shown = {f["properties"]["kind"]: f for f in reply.json["features"]}
    assert shown["safety.answered"]["geometry"] is None
    square = shown["location.reported"]["geometry"]
    assert square["type"] == "Polygon"
    [ring] = square["coordinates"]
    assert ring[0] == ring[-1]
    (west, south), _, (east, north), *_ = ring
    assert west < 139.9298 < east
    assert south < 37.4947 < north
    assert (round(east - west, 6), round(north - south, 6)) == (0.0125, 0.008333)
    assert "139.9298" not in reply.body.decode()
    turns = sum((b[0] - a[0]) * (b[1] + a[1]) for a, b in pairwise(ring))
    assert turns < 0, "the ring has to run against the clock (RFC 7946)"


def test_csv_is_for_spreadsheets_and_runs_no_formula(home: tuple[Town, Client]) -> None:
    _, client = home
    reply = client.get(VIEW, headers={"Accept": "text/csv"}, purpose="rescue")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    rows = {row["kind"]: row for row in csv.DictReader(io.StringIO(reply.body.decode("utf-8-sig"), newline=""))}
    assert reply.body.startswith(b"\xef\xbb\xbf")
    assert rows["safety.answered"]["data.note"] == "'=HYPERLINK(1)"
    assert (rows["location.reported"]["data.mesh"], rows["location.reported"]["basis_id"]) == ("56391794", "g")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("text/*, application/json;q=0.5", "text/csv; charset=utf-8"),
        ("application/json;q=0, application/geo+json", "application/geo+json"),
        ("text/html, application/geo+json;q=0.9, */*;q=0.1", "application/geo+json"),
    ],
)
def test_the_format_is_the_one_that_is_preferred(home: tuple[Town, Client], accept: str, kind: str) -> None:
    assert home[1].get(VIEW, headers={"Accept": accept}, purpose="rescue").headers["content-type"] == kind


def test_a_format_that_is_not_offered_is_told(home: tuple[Town, Client]) -> None:
    town, client = home
    end = town.hub.log.entries.max_notification_id()
    reply = client.get(VIEW, headers={"Accept": "text/html"}, purpose="rescue")
    assert (reply.status, reply.json["type"]) == (406, "urn:saigai-hub:problem:not-acceptable")
    assert town.hub.log.entries.max_notification_id() == end


def test_a_tag_holds_while_the_same_is_shown_and_each_asking_is_a_read(home: tuple[Town, Client]) -> None:
    town, client = home
    first = client.get(VIEW, purpose="rescue")
    before = len(town.hub.audit.disclosures())
    town.wait()
    same = client.get(VIEW, headers={"If-None-Match": first.headers["etag"]}, purpose="rescue")
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", first.headers["etag"])
    assert len(town.hub.audit.disclosures()) == before + 1
    town.tell("safety.answered", person="hanako", status="injured")
    assert client.get(VIEW, headers={"If-None-Match": first.headers["etag"]}, purpose="rescue").status == 200


def test_the_same_request_id_gets_the_logged_answer_and_takes_no_use(home: tuple[Town, Client]) -> None:
    town, client = home
    town.tell("consent.revoked", person="hanako", grant="g")
    grant = {
        "to": {"recipient": "aizu-city"},
        "kinds": ["safety.answered"],
        "purposes": ["rescue"],
        "modes": ["normal"],
    }
    town.tell("consent.granted", person="hanako", grant="once", **grant, data="all", uses=1)
    replies = [client.get(VIEW, headers={"Hub-Request": "r-1"}, purpose="rescue") for _ in range(3)]
    assert len({reply.body for reply in replies}) == 1
    assert replies[0].json["persons"]
    assert client.get(VIEW, headers={"Hub-Request": "r-2"}, purpose="rescue").json["persons"] == []
    other = client.get(VIEW, headers={"Hub-Request": "r-1"}, purpose="rescue", history=True)
    assert (other.status, other.json["errors"][0]["path"]) == (422, "request")


def test_an_area_shows_who_a_shown_location_places_there_and_tells_no_home(home: tuple[Town, Client]) -> None:
    town, client = home
    town.tell("person.enrolled", person="taro", areas=["07202"])
    town.tell(
        "consent.granted",
        person="taro",
        grant="t",
        to={"recipient": "aizu-city"},
        kinds=["safety.answered"],
        purposes=["rescue"],
        modes=["normal"],
        data="all",
    )
    town.tell("safety.answered", person="taro", status="safe")

    def shown(area: str) -> list[str]:
        return [entry["person"] for entry in client.get(VIEW, purpose="rescue", area=area).json["persons"]]

    assert shown("m56391794") == shown("m5639") == shown("07202") == ["hanako"]
    exactly = mesh(Decimal("37.4947"), Decimal("139.9298"))
    assert shown(f"m{exactly}") == [], "an area finer than what is shown must not tell"
    assert shown("m5640") == []
    assert client.get(VIEW, purpose="rescue", area="Aizu").status == 422


def test_a_parameter_that_does_not_exist_is_refused(home: tuple[Town, Client]) -> None:
    reply = home[1].get(VIEW, purpose="rescue", person="hanako")
    assert (reply.status, reply.json["errors"]) == (
        400,
        [{"path": "query", "reason": "there is no such parameter here"}],
    )


def test_pages_end_where_the_next_begins(home: tuple[Town, Client]) -> None:
    town, client = home
    for number in range(4):
        town.tell("person.enrolled", person=f"p{number}", areas=["07202"])
        grant = {"to": {"recipient": "aizu-city"}, "kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"]}
        town.tell("consent.granted", person=f"p{number}", grant=f"g{number}", **grant, data="all")
        town.tell("safety.answered", person=f"p{number}", status="safe")
    found: list[str] = []
    cursor = None
    while True:
        page = client.get(VIEW, purpose="rescue", limit=2, cursor=cursor).json
        found += [entry["person"] for entry in page["persons"]]
        if (cursor := page["next"]) is None:
            break
    assert found == ["hanako", "p0", "p1", "p2", "p3"]


def test_the_quarantine_is_listed_mended_and_replayed(home: tuple[Town, Client]) -> None:
    town, client = home
    bad = cloudevent("safety.answered", "q1", "hanako", status="hypertension")
    assert client.event(bad).status == 422
    town.wait()
    assert client.call("POST", "/v1/connectors/jma", b"<no telegram/>").status == 422
    webhook, event = client.get("/v1/quarantine").json["items"]
    assert (webhook["via"], event["via"], event["path"]) == ("connector:jma", "events", "status")
    assert "hypertension" not in json.dumps([webhook, event])

    payload = client.get(f"/v1/quarantine/{event['item']}")
    assert payload.json == bad
    again = client.call("POST", f"/v1/quarantine/{event['item']}")
    assert again.json["results"][0]["status"] == "rejected"
    mended = client.call("POST", f"/v1/quarantine/{event['item']}", {**bad, "data": {"status": "safe"}})
    assert mended.json["results"][0]["status"] == "accepted"
    assert client.get(f"/v1/quarantine/{event['item']}").status == 404

    taken = client.call("POST", f"/v1/quarantine/{webhook['item']}", TELEGRAM.read_bytes())
    assert [row["status"] for row in taken.json["results"]] == ["accepted"]
    assert client.get("/v1/quarantine").json["items"] == []

    assert client.event({**bad, "id": "q2"}).status == 422
    [item] = client.get("/v1/quarantine").json["items"]
    assert client.call("DELETE", f"/v1/quarantine/{item['item']}").status == 200
    assert client.call("DELETE", f"/v1/quarantine/{item['item']}").status == 404


def test_a_webhook_is_translated_and_repeated_without_effect(home: tuple[Town, Client]) -> None:
    _, client = home
    first = client.call("POST", "/v1/connectors/jma", TELEGRAM.read_bytes())
    kinds = [event["kind"] for event in first.json["events"]]
    assert kinds == ["hazard.reported", "emergency.declared", "emergency.proposed"][: len(kinds)]
    again = client.call("POST", "/v1/connectors/jma", TELEGRAM.read_bytes())
    assert [event["status"] for event in again.json["events"]] == ["duplicate"]
    assert client.call("POST", "/v1/connectors/no-such", b"x").status == 403


def test_places_show_the_newest_of_each_now_and_then(home: tuple[Town, Client]) -> None:
    town, client = home

    def people(**asked: Any) -> dict[str, int]:
        reply = client.get("/v1/places", kind="shelter.reported", **asked)
        assert reply.status == 200, reply
        return {place["data"]["shelter"]: place["data"]["people"] for place in reply.json["places"]}

    town.tell("shelter.reported", shelter="a", people=10, area="07202")
    town.tell("shelter.reported", shelter="b", people=5, area="07208")
    then = town.now.isoformat()
    town.tell("shelter.reported", shelter="a", people=30, area="07202")
    assert people() == {"a": 30, "b": 5}
    assert people(at=then) == {"a": 10, "b": 5}
    assert people(area="07202") == {"a": 30}
    assert len(client.get("/v1/places", kind="shelter.reported", history=True).json["places"]) == 3
    assert client.get("/v1/places", kind="safety.answered").status == 422
    assert client.get("/v1/places", kind="shelter.reported", at="noon").status == 400


def test_the_command_line_shows_the_same_places(town: Town, hub_main: Any) -> None:
    town.tell("shelter.reported", shelter="a", people=10, area="07202")
    then = town.now.isoformat()
    town.tell("shelter.reported", shelter="a", people=30, area="07202")
    asked = ("places", "--kind", "shelter.reported", "--database", town.url, "--json")
    [now] = json.loads(hub_main(*asked).out)
    [before] = json.loads(hub_main(*asked, "--at", then).out)
    assert (now["data"]["people"], before["data"]["people"]) == (30, 10)
    assert hub_main("places", "--kind", "safety.answered", "--database", town.url).status == 1


def test_a_kind_is_introduced_from_its_schema(town: Town, new_town: Any) -> None:
    bare = new_town("bare")
    with served().over(bare.hub) as client:
        assert not any(kind["introduced"] for kind in client.get("/v1/kinds").json["kinds"])
        assert client.call("POST", "/v1/kinds", {"kind": "safety.answered"}).status == 201
        assert client.call("POST", "/v1/kinds", {"kind": "safety.answered"}).status == 422
        assert client.call("POST", "/v1/kinds", {"kind": "consent.granted"}).status == 422
        found = {kind["kind"]: kind["introduced"] for kind in client.get("/v1/kinds").json["kinds"]}
        assert [kind for kind, introduced in found.items() if introduced] == ["safety.answered"]


def test_an_emergency_is_proposed_confirmed_and_lifted(home: tuple[Town, Client]) -> None:
    _, client = home
    proposed = client.call("POST", "/v1/emergencies", {"hazard": "flood", "areas": ["07202"]}).json["emergency"]

    def state() -> str:
        [row] = client.get("/v1/emergencies").json["emergencies"]
        return str(row["state"])

    assert state() == "proposed"
    assert client.get(VIEW, purpose="rescue").json["persons"][0]["mode"] == "normal"
    assert confirm(client, proposed).status == 200
    assert state() == "active"
    assert client.get(VIEW, purpose="rescue").json["persons"] == [], "the grant is for normal times alone"
    assert confirm(client, proposed).status == 404
    assert client.call("DELETE", f"/v1/emergencies/{proposed}").status == 200
    assert state() == "ended"


def test_an_idempotency_key_makes_a_repeated_request_one_event(home: tuple[Town, Client]) -> None:
    town, client = home
    body = {"to": {"class": "company"}}
    replies = [
        client.call("POST", "/v1/persons/hanako/blocks", body, headers={"Idempotency-Key": "k-1"}) for _ in range(2)
    ]
    assert [reply.status for reply in replies] == [201, 200]
    assert replies[0].json["position"] == replies[1].json["position"]
    moves = [
        client.call("PUT", "/v1/persons/hanako", {"areas": ["07208"]}, headers={"Idempotency-Key": "k-2"})
        for _ in range(2)
    ]
    assert [(reply.status, reply.json["status"]) for reply in moves] == [(200, "accepted"), (200, "duplicate")]
    town.hub.audit.verify()


def test_an_override_opens_and_closes(home: tuple[Town, Client]) -> None:
    town, client = home
    town.tell("consent.revoked", person="hanako", grant="all")
    until = (town.now + 3600 * (town.now - town.now).resolution * 10**6).isoformat()
    override = {
        "recipient": "aizu-city",
        "basis": "life_protection",
        "persons": ["hanako"],
        "kinds": ["safety.answered"],
        "purposes": ["rescue"],
        "until": until,
        "reason": "does not answer",
    }
    made = client.call("POST", "/v1/overrides", override)
    assert made.status == 201
    [person] = client.get(VIEW, purpose="rescue").json["persons"]
    assert person["items"][0]["basis"] == {"override": made.json["override"]}
    assert client.call("DELETE", f"/v1/overrides/{made.json['override']}").status == 200
    assert client.get(VIEW, purpose="rescue").json["persons"] == []
    assert client.call("POST", "/v1/overrides", {**override, "reason": " "}).json["errors"][0]["rule"] == "R14"


def test_the_trace_and_a_replay_tell_what_was_answered(home: tuple[Town, Client]) -> None:
    _, client = home
    live = client.get(VIEW, purpose="rescue")
    client.call("DELETE", "/v1/persons/hanako/grants/all")
    [row] = client.get("/v1/audit/disclosures", recipient="aizu-city", person="hanako", limit=1).json["disclosures"]
    assert (row["disclosure"], row["persons_count"]) == (live.headers["hub-disclosure"], 1)
    past = client.get("/v1/audit/views/aizu-city", purpose="rescue", at=row["at"], time=row["time"])
    assert past.body != client.get("/v1/audit/views/aizu-city", purpose="rescue").body
    assert {**past.json, "next": None} == live.json
    assert past.headers["hub-hypothetical"] == "false"
    why = client.get("/v1/audit/explain", recipient="aizu-city", purpose="rescue", person="hanako").json
    assert why["shown"] is False
    assert client.get("/v1/audit/disclosures", person="nobody").json == {"disclosures": []}
    looks = [row["kind"] for row in client.get("/v1/audit/events", limit=1000).json["events"]]
    assert looks.count("view.audited") >= 4
