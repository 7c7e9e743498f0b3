"""The citizen's side over HTTP: cadence, requests, notices, disclosures, preview, export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from conftest import Town
from doors import Client, cloudevent, confirm, served
from hub.identity.local import identity

VIEW = "/v1/views/aizu-city"
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
HANAKO = "/v1/persons/hanako"


@pytest.fixture
def home(town: Town) -> Iterator[tuple[Town, Client]]:
    for recipient, class_ in (("aizu-city", "city"), ("dr-sato", "doctor")):
        town.tell(
            "recipient.registered",
            recipient=recipient,
            **{"class": class_},
            areas=["07202"],
            purposes=["rescue", "care"],
            overrides=["life_protection", "roster"],
        )
    for person in ("hanako", "taro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
    with served().over(town.hub, identity()) as client:
        yield town, client


def granted(**said: Any) -> dict[str, Any]:
    whole = {
        "to": {"recipient": "aizu-city"},
        "kinds": ["*"],
        "purposes": ["rescue"],
        "modes": ["normal"],
        "data": "all",
    }
    return {**whole, **said}


def ask(
    client: Client, request: str, *, recipient: str = "aizu-city", kinds: tuple[str, ...] = ("safety.answered",)
) -> None:
    data = {"request": request, "recipient": recipient, "kinds": list(kinds), "purpose": "rescue"}
    event = cloudevent("consent.requested", f"{recipient} {request}", "hanako", **data)
    assert client.call("POST", "/v1/events", event, headers=STRUCTURED, as_=f"service:{recipient}").status == 201


def waiting(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{HANAKO}/requests").json["requests"]
    return found


def shown(client: Client, recipient: str = "aizu-city") -> list[str]:
    view = client.get(f"/v1/views/{recipient}", purpose="rescue").json
    return [item["event"] for person in view["persons"] for item in person["items"]]


def test_the_cadence_is_a_default_for_new_grants_with_exceptions(home: tuple[Town, Client]) -> None:
    _, client = home
    assert client.get(f"{HANAKO}/preferences").json == {"ask": "once", "recipients": {}, "language": None}
    wish = {"ask": "each_new_kind", "recipients": {"dr-sato": "every_time"}, "language": "ja"}
    assert client.call("PUT", f"{HANAKO}/preferences", wish).json == wish
    for number, (to, ask_) in enumerate([("aizu-city", None), ("dr-sato", None), ("aizu-city", "once")]):
        body = granted(grant=f"g{number}", to={"recipient": to}) | ({"ask": ask_} if ask_ else {})
        assert client.call("POST", f"{HANAKO}/grants", body).status == 201
    assert [g["ask"] for g in client.get(f"{HANAKO}/grants").json["grants"]] == ["each_new_kind", "every_time", "once"]
    assert client.call("PUT", f"{HANAKO}/preferences", {"ask": "daily"}).status == 422
    assert client.get("/v1/persons/taro/preferences").json["ask"] == "once"


def test_a_request_is_approved_as_the_person_wishes(home: tuple[Town, Client]) -> None:
    town, client = home
    town.tell("safety.answered", "s", person="hanako", status="safe")
    ask(client, "r")
    [request] = waiting(client)
    assert (request["type"], request["request"], request["would_grant"]["modes"]) == ("asked", "r", ["normal"])
    assert "安否" in request["text_ja"]
    answer = {"answer": "approve", "grant": {"data": "all", "precision": {"safety.answered": "summary"}}}
    done = client.call("POST", f"{HANAKO}/requests/r", answer)
    assert (done.status, done.json["status"]) == (200, "approved"), done
    assert shown(client) == ["s"]
    assert waiting(client) == []
    [grant] = client.get(f"{HANAKO}/grants").json["grants"]
    assert (grant["grant"], grant["request"]) == (done.json["grant"], "r")
    assert client.call("POST", f"{HANAKO}/requests/r", answer).status == 422
    assert client.call("POST", f"{HANAKO}/requests/other", answer).status == 422


def test_what_was_refused_is_not_asked_again_at_once(home: tuple[Town, Client]) -> None:
    town, client = home
    ask(client, "r1", kinds=("safety.answered", "location.reported"))
    refused = client.call("POST", f"{HANAKO}/requests/r1", {"answer": "refuse"})
    assert (refused.status, refused.json["status"]) == (200, "refused")
    ask(client, "r2")
    assert waiting(client) == []
    ask(client, "r3", kinds=("care.medication_updated",))
    assert [request["request"] for request in waiting(client)] == ["r3"]
    town.wait(timedelta(days=31))
    ask(client, "r4")
    assert [request["request"] for request in waiting(client)] == ["r3", "r4"]


def test_a_batch_is_answered_each_by_itself(home: tuple[Town, Client]) -> None:
    _, client = home
    for name in ("a", "b", "c"):
        ask(client, name, kinds=(f"care.{ {'a': 'medication', 'b': 'condition', 'c': 'allergy'}[name] }_updated",))
    answers = [
        {"request": "a", "answer": "approve"},
        {"request": "none", "answer": "approve"},
        {"request": "b", "answer": "refuse"},
        {"request": "c", "answer": "approve", "grant": {"to": {"recipient": "dr-sato"}}},
    ]
    reply = client.call("POST", f"{HANAKO}/requests", {"answers": answers})
    assert [row["status"] for row in reply.json["results"]] == [
        "approved",
        "rejected",
        "refused",
        "rejected",
    ]
    assert reply.json["results"][3]["error"]["path"] == "answers[3].grant"
    assert [request["request"] for request in waiting(client)] == ["c"]
    for body in ({}, {"answers": []}, {"answers": "all"}, {"answers": answers, "more": 1}):
        assert client.call("POST", f"{HANAKO}/requests", body).status == 400
    good = {"request": "c", "answer": "refuse"}
    for bad in (
        {"request": "c", "answer": "perhaps"},
        {**good, "grant": []},
        {"answer": "refuse"},
        "c",
        {**good, "x": 1},
    ):
        reply = client.call("POST", f"{HANAKO}/requests", {"answers": [good, bad]})
        assert (reply.status, reply.json["errors"][0]["path"][:10]) == (400, "answers[1]")
    assert [request["request"] for request in waiting(client)] == ["c"]


def test_a_reading_is_approved_each_time(home: tuple[Town, Client]) -> None:
    town, client = home
    assert client.call("POST", f"{HANAKO}/grants", granted(grant="each", ask="every_time")).status == 201
    town.tell("safety.answered", "s", person="hanako", status="safe")
    assert shown(client) == []
    ask(client, "now")
    [request] = waiting(client)
    assert (request["type"], request["grant"]) == ("every_time", "each")
    assert client.call("POST", f"{HANAKO}/requests/now", {"answer": "approve", "grant": {"uses": 5}}).status == 422
    assert client.call("POST", f"{HANAKO}/requests/now", {"answer": "approve"}).status == 200
    assert (shown(client), shown(client)) == (["s"], [])


def test_a_new_kind_waits_for_an_answer_where_the_person_wants_to_be_asked(new_town: Any) -> None:
    from hub.hub import introductions

    town = new_town("kinds")
    late = [e for e in introductions(town.hub.log.schemas) if e.data["kind"] == "care.allergy_updated"]
    town.hub.intake.take([e for e in introductions(town.hub.log.schemas) if e not in late])
    town.tell("recipient.registered", recipient="aizu-city", **{"class": "c"}, areas=["*"], purposes=["rescue"])
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    with served().over(town.hub, identity()) as client:
        body = granted(grant="g", kinds=["care.*"], ask="each_new_kind", precision={"care.*": "summary"})
        assert client.call("POST", f"{HANAKO}/grants", body).status == 201
        assert waiting(client) == []
        town.wait()
        town.hub.intake.take(late)
        town.tell("care.allergy_updated", "a", person="hanako", allergies=["egg"])
        [request] = waiting(client)
        assert (request["type"], request["grant"]) == ("new_kind", "g")
        assert request["would_grant"]["kinds"] == ["care.allergy_updated"]
        assert shown(client) == []
        assert client.call("POST", f"{HANAKO}/requests/{request['request']}", {"answer": "approve"}).status == 200
        assert shown(client) == ["a"]
        assert waiting(client) == []


def test_a_consent_that_ended_may_be_renewed(home: tuple[Town, Client]) -> None:
    town, client = home
    until = (town.now + timedelta(days=10)).isoformat()
    assert client.call("POST", f"{HANAKO}/grants", granted(grant="g", valid_until=until)).status == 201
    assert waiting(client) == []
    town.wait(timedelta(days=11))
    [request] = waiting(client)
    assert (request["type"], request["grant"]) == ("expired", "g")
    assert client.call("POST", f"{HANAKO}/requests/{request['request']}", {"answer": "approve"}).status == 200
    assert waiting(client) == []
    [_, renewed] = client.get(f"{HANAKO}/grants").json["grants"]
    assert renewed["valid_until"] > until
    town.wait(timedelta(days=11))
    [again] = waiting(client)
    assert client.call("POST", f"{HANAKO}/requests/{again['request']}", {"answer": "refuse"}).status == 200
    assert waiting(client) == []


def test_whoever_is_blocked_is_not_heard(home: tuple[Town, Client]) -> None:
    _, client = home
    ask(client, "r")
    assert client.call("POST", f"{HANAKO}/blocks", {"to": {"class": "city"}}).status == 201
    assert waiting(client) == []


def test_a_grant_keeps_the_notice_that_was_shown(home: tuple[Town, Client]) -> None:
    _, client = home
    notice = {"id": "consent-text", "version": "3", "language": "ja", "sha256": "ab" * 32}
    assert client.call("POST", f"{HANAKO}/grants", granted(notice=notice)).status == 201
    [grant] = client.get(f"{HANAKO}/grants").json["grants"]
    assert grant["notice"] == notice


def test_who_looked_is_told_in_words_page_by_page(home: tuple[Town, Client]) -> None:
    town, client = home
    client.call("POST", f"{HANAKO}/grants", granted(grant="g", precision={"location.reported": "1km"}))
    town.tell("location.reported", "l", person="hanako", lat_deg=37.4947, lon_deg=139.9298, accuracy_m=10)
    for _ in range(3):
        client.get(VIEW, purpose="rescue", as_="officer:officer-7@aizu-city")
    page = client.get(f"{HANAKO}/disclosures", limit=2).json
    rest = client.get(f"{HANAKO}/disclosures", limit=2, before=page["next"]).json
    assert (len(page["disclosures"]), len(rest["disclosures"]), rest["next"]) == (2, 1, None)
    row = page["disclosures"][0]
    assert (row["recipient"], row["actor"], row["purpose"]) == ("aizu-city", "local:officer-7", "rescue")
    assert row["items"] == [{"kind": "location.reported", "precision": "1km", "count": 1, "basis": {"grant": "g"}}]
    assert "aizu-city" in row["text"]
    assert row["text_ja"].startswith("aizu-cityが、rescueのために見ました: 本人の端末があった場所。")
    assert row["text"].endswith("Ground: your consent g")
    assert client.get("/v1/persons/taro/disclosures").json["disclosures"] == []
    assert client.get(f"{HANAKO}/disclosures", before="00").status == 400
    looks = [r["data"]["actor"] for r in town.hub.audit.events(limit=1000) if r["kind"] == "view.audited"]
    assert all(actor.startswith("person:") and "hanako" not in actor for actor in looks)


def test_a_preview_says_who_would_see_which_fields_and_records_nothing(home: tuple[Town, Client]) -> None:
    town, client = home
    end = town.hub.log.entries.max_notification_id()
    thought = granted(to={"class": "city"}, modes=["emergency"], precision={"location.reported": "1km", "*": "summary"})

    def sees(mode: str, grant: Any = thought) -> dict[tuple[str, str], dict[str, Any]]:
        reply = client.call("POST", f"{HANAKO}/preview", {"grant": grant, "mode": mode})
        assert reply.status == 200, reply
        return {(row["recipient"], row["kind"]): row for row in reply.json["sees"]}

    assert sees("normal") == {}
    found = sees("emergency")
    assert {recipient for recipient, _ in found} == {"aizu-city"}
    location = found["aizu-city", "location.reported"]
    assert (location["precision"], location["fields"], location["new"]) == ("1km", ["lat_deg", "lon_deg", "mesh"], True)
    assert found["aizu-city", "safety.answered"]["fields"] == ["status", "expires_at"]
    assert sees("exercise") == {}
    assert town.hub.log.entries.max_notification_id() == end
    assert client.call("POST", f"{HANAKO}/preview", {"grant": {"to": 1}, "mode": "normal"}).status == 422
    assert client.call("POST", f"{HANAKO}/preview", {"grant": thought, "mode": "war"}).status == 400


def test_a_preview_shows_what_the_grant_then_shows(home: tuple[Town, Client]) -> None:
    town, client = home
    thought = granted(kinds=["safety.*", "location.reported"], precision={"location.reported": "10km"})
    preview = client.call("POST", f"{HANAKO}/preview", {"grant": thought, "mode": "normal"}).json["sees"]
    assert client.call("POST", f"{HANAKO}/grants", thought).status == 201
    town.tell("location.reported", "l", person="hanako", lat_deg=37.4947, lon_deg=139.9298, accuracy_m=10)
    town.tell("safety.answered", "s", person="hanako", status="safe", note="at the school")
    [person] = client.get(VIEW, purpose="rescue").json["persons"]
    for item in person["items"]:
        [row] = [r for r in preview if (r["kind"], r["purpose"]) == (item["kind"], "rescue")]
        assert (row["precision"], set(item["data"]) <= set(row["fields"])) == (item["precision"], True)


def test_the_export_holds_everything_about_the_person_and_nobody_else(home: tuple[Town, Client]) -> None:
    town, client = home
    client.call("POST", f"{HANAKO}/grants", granted(grant="g"))
    client.call("POST", "/v1/persons/taro/grants", granted(grant="t"))
    town.tell("safety.answered", "s", person="hanako", status="safe")
    town.tell("safety.answered", "t", person="taro", status="need_help")
    town.tell("fact.retracted", person="hanako", event="s")
    reply = client.get(f"{HANAKO}/export")
    rows = [json.loads(line) for line in reply.body.splitlines()]
    kinds = ["person.enrolled", "consent.granted", "safety.answered", "fact.retracted"]
    assert [row["kind"] for row in rows] == kinds
    assert (rows[2]["data"]["status"], reply.headers["cache-control"]) == ("safe", "no-store")
    assert "need_help" not in reply.body.decode()
    records = client.get(f"{HANAKO}/consents")
    assert records.headers["content-type"] == "application/ld+json"
    assert json.loads(records.body)["@graph"]


def emergency(client: Client, **said: Any) -> str:
    body = {"hazard": "flood", "areas": ["07202"], **said}
    name: str = client.call("POST", "/v1/emergencies", body, as_="officer:officer-1").json["emergency"]
    assert confirm(client, name, as_="officer:officer-2").status == 200
    return name


def notices(client: Client, person: str = "hanako", **of: Any) -> list[dict[str, Any]]:
    rows = client.get(f"/v1/persons/{person}/notices").json["notices"]
    return [row for row in rows if all(row.get(name) == value for name, value in of.items())]


@pytest.mark.parametrize("end", ["lifted", "lapsed", "mistaken"])
def test_an_emergency_that_is_over_leaves_a_report(home: tuple[Town, Client], end: str) -> None:
    town, client = home
    client.call("POST", f"{HANAKO}/grants", granted(grant="e", kinds=["safety.*"], modes=["emergency"]))
    town.tell("safety.answered", "s", person="hanako", status="injured")
    town.tell("person.enrolled", person="jiro", areas=["13101"])
    town.wait()
    name = emergency(client)
    town.wait()
    assert shown(client) == ["s"]
    assert notices(client) == []
    town.wait()
    if end == "lapsed":
        town.wait(timedelta(hours=73))
    elif end == "lifted":
        assert client.call("DELETE", f"/v1/emergencies/{name}", as_="officer:officer-1").status == 200
    else:
        undone = {"reason": "a drill was sent as real"}
        assert client.call("POST", f"/v1/emergencies/{name}/undo", {}, as_="officer:officer-1").status == 422
        assert client.call("POST", f"/v1/emergencies/{name}/undo", undone, as_="officer:officer-1").status == 200
    town.wait()
    assert shown(client) == []
    [report] = notices(client)
    assert (report["type"], report["emergency"]) == ("mistake" if end == "mistaken" else "report", name)
    [seen] = report["seen"]
    assert (seen["recipient"], seen["kind"], seen["basis"], seen["times"]) == (
        "aizu-city", "safety.answered", {"grant": "e"}, 1,
    )  # fmt: skip
    assert [row["grant"] for row in report["closed"]] == ["e"]
    [taro] = notices(client, "taro")
    assert (taro["seen"], taro["closed"]) == ([], [])
    assert notices(client, "jiro") == []


def test_an_override_is_told_to_those_whom_it_concerns(home: tuple[Town, Client]) -> None:
    town, client = home
    town.tell("roster.listed", person="taro")
    until = (town.now + timedelta(hours=5)).isoformat()
    opened = {"recipient": "aizu-city", "kinds": ["safety.*"], "purposes": ["rescue"], "until": until}
    listed = {**opened, "basis": "life_protection", "persons": ["hanako"], "reason": "does not answer"}
    made = client.call("POST", "/v1/overrides", listed, as_="officer:officer-7")
    assert made.status == 201, made
    roster = {**opened, "basis": "roster", "areas": ["07202"], "reason": "the dyke may break"}
    assert client.call("POST", "/v1/overrides", roster, as_="officer:officer-7").status == 201
    [told] = notices(client)
    assert (told["type"], told["reason"], told["actor"], told["over"]) == (
        "override", "does not answer", "local:officer-7", False,
    )  # fmt: skip
    assert "生命" in told["text_ja"]
    [other] = notices(client, "taro")
    assert (other["basis"], other["reason"]) == ("roster", "the dyke may break")
    assert client.call("DELETE", f"/v1/overrides/{made.json['override']}", as_="officer:officer-7").status == 200
    [told] = notices(client)
    assert told["over"]
    rows = client.get("/v1/overrides", as_="auditor").json["overrides"]
    assert [(row["state"], row["persons_count"]) for row in rows] == [("open", 0), ("ended", 1)]
    assert "hanako" not in json.dumps(rows)
    forged = client.call(
        "POST", "/v1/overrides", {**listed, "override": "o2", "actor": "local:other"}, as_="officer:officer-7"
    )
    assert (forged.status, forged.json["errors"][0]["path"]) == (422, "actor")
    assert all(
        row["actor"] == "local:officer-7" for row in client.get("/v1/overrides", as_="auditor").json["overrides"]
    )


def test_what_a_delegate_did_is_told(home: tuple[Town, Client]) -> None:
    town, client = home
    assert client.call("POST", f"{HANAKO}/delegations", {"delegate": "taro"}).status == 201
    assert client.call("POST", f"{HANAKO}/grants", granted(grant="d"), as_="citizen:taro").status == 201
    town.wait()
    ask(client, "r")
    assert client.call("POST", f"{HANAKO}/requests/r", {"answer": "refuse"}, as_="citizen:taro").status == 200
    assert [(row["by"], row["kind"]) for row in notices(client, type="act")] == [
        ("taro", "consent.declined"), ("taro", "consent.granted"),
    ]  # fmt: skip


def test_of_an_erased_person_nothing_is_left_to_ask(home: tuple[Town, Client]) -> None:
    town, client = home
    client.call("POST", f"{HANAKO}/grants", granted(grant="g"))
    town.tell("safety.answered", "s", person="hanako", status="safe")
    assert shown(client) == ["s"]
    assert client.call("DELETE", HANAKO).status == 200
    for path, empty in (("requests", "requests"), ("notices", "notices"), ("disclosures", "disclosures")):
        assert client.get(f"{HANAKO}/{path}").json[empty] == []
    assert client.get(f"{HANAKO}/export").body == b""
    assert client.call("POST", f"{HANAKO}/preview", {"mode": "normal"}).json == {"sees": []}
    assert client.get(f"{HANAKO}/preferences").json == {"ask": "once", "recipients": {}, "language": None}


def test_an_approval_follows_the_cadence_that_the_person_set(home: tuple[Town, Client]) -> None:
    _, client = home
    client.call("PUT", f"{HANAKO}/preferences", {"ask": "each_new_kind"})
    ask(client, "r", kinds=("care.*",))
    assert client.call("POST", f"{HANAKO}/requests/r", {"answer": "approve", "grant": []}).status == 400
    assert client.call("POST", f"{HANAKO}/requests/r", {"answer": "approve"}).status == 200
    assert [grant["ask"] for grant in client.get(f"{HANAKO}/grants").json["grants"]] == ["each_new_kind"]
    client.call("PUT", f"{HANAKO}/preferences", {"ask": "every_time"})
    sees = client.call("POST", f"{HANAKO}/preview", {"grant": granted(kinds=["safety.*"])}).json["sees"]
    assert [row for row in sees if row["new"]] == []


def test_two_recipients_may_call_their_requests_alike(home: tuple[Town, Client]) -> None:
    _, client = home
    ask(client, "1")
    ask(client, "1", recipient="dr-sato")
    found = {row["would_grant"]["to"]["recipient"]: row["request"] for row in waiting(client)}
    assert set(found) == {"aizu-city", "dr-sato"}
    assert client.call("POST", f"{HANAKO}/requests/{found['dr-sato']}", {"answer": "refuse"}).status == 200
    assert [row["would_grant"]["to"]["recipient"] for row in waiting(client)] == ["aizu-city"]


def test_the_same_in_another_order_is_one_request_and_nobody_fills_the_page(home: tuple[Town, Client]) -> None:
    _, client = home
    ask(client, "a", kinds=("safety.answered", "location.reported"))
    ask(client, "b", kinds=("location.reported", "safety.answered"))
    assert [row["request"] for row in waiting(client)] == ["b"]
    for number in range(25):
        ask(client, f"n{number}", kinds=(f"care.kind_{'x' * number}",))
    assert len(waiting(client)) == 20


def test_a_reading_each_time_is_asked_under_the_grant_that_reaches_it(home: tuple[Town, Client]) -> None:
    town, client = home
    for name, mode in (("e", "emergency"), ("n", "normal")):
        client.call("POST", f"{HANAKO}/grants", granted(grant=name, ask="every_time", modes=[mode]))
    town.tell("safety.answered", "s", person="hanako", status="safe")
    ask(client, "r")
    [request] = waiting(client)
    assert request["grant"] == "n"
    client.call("POST", f"{HANAKO}/requests/r", {"answer": "refuse"})
    ask(client, "again")
    assert [row["request"] for row in waiting(client)] == ["again"], "not now is not never"
    client.call("POST", f"{HANAKO}/requests/again", {"answer": "approve"})
    assert shown(client) == ["s"]


def test_whoever_is_blocked_or_retired_asks_for_no_renewal(home: tuple[Town, Client]) -> None:
    town, client = home
    until = (town.now + timedelta(days=1)).isoformat()
    for name, to in (("g", "aizu-city"), ("d", "dr-sato")):
        client.call("POST", f"{HANAKO}/grants", granted(grant=name, to={"recipient": to}, valid_until=until, uses=None))
    town.wait(timedelta(days=2))
    assert len(waiting(client)) == 2
    client.call("POST", f"{HANAKO}/blocks", {"to": {"recipient": "aizu-city"}})
    town.tell("recipient.retired", recipient="dr-sato")
    assert waiting(client) == []


def test_a_delegate_learns_from_no_preview_where_the_person_is(home: tuple[Town, Client]) -> None:
    town, client = home
    town.tell("recipient.registered", recipient="cell", **{"class": "city"}, areas=["m5339"], purposes=["rescue"])
    client.call("POST", f"{HANAKO}/delegations", {"delegate": "taro"})
    thought = {"grant": granted(to={"class": "city"}, modes=["emergency"]), "mode": "emergency"}

    def recipients(who: str) -> set[str]:
        rows = client.call("POST", f"{HANAKO}/preview", thought, as_=who).json["sees"]
        return {row["recipient"] for row in rows}

    before = recipients("citizen:taro")
    town.tell("location.reported", "l", person="hanako", lat_deg=35.68, lon_deg=139.76, accuracy_m=5)
    assert "cell" in recipients("citizen:hanako")
    assert recipients("citizen:taro") == before


@pytest.mark.parametrize(
    "grant",
    [
        {"to": {}},
        {"to": {"recipient": "aizu-city", "class": "city"}},
        {"to": []},
        {"to": {"class": "city"}, "uses": "x"},
    ],
)
def test_a_preview_of_what_is_no_grant_says_so(home: tuple[Town, Client], grant: Any) -> None:
    _, client = home
    reply = client.call("POST", f"{HANAKO}/preview", {"grant": {**granted(), **grant}})
    assert reply.status == 422
    own = granted(approves="preview", uses=1)
    assert client.call("POST", f"{HANAKO}/preview", {"grant": own}).status == 200


def test_a_report_comes_to_whoever_was_seen_and_says_what_goes_on(home: tuple[Town, Client]) -> None:
    town, client = home
    town.tell("person.enrolled", person="jiro", areas=["13101"])
    grant = granted(to={"recipient": "aizu-city"}, kinds=["safety.*"], modes=["emergency"])
    client.call("POST", "/v1/persons/jiro/grants", {**grant, "grant": "j"})
    client.call("POST", f"{HANAKO}/grants", {**grant, "grant": "h"})
    town.tell("safety.answered", "j", person="jiro", status="safe")
    first, second = emergency(client, emergency="first"), emergency(client, emergency="second", hazard="landslide")
    town.wait()
    town.tell("person.moved", person="jiro", areas=["07202"])
    assert shown(client) == ["j"]
    town.tell("person.moved", person="jiro", areas=["13101"])
    client.call("DELETE", f"/v1/emergencies/{first}", as_="officer:officer-1")
    town.wait()
    [report] = notices(client)
    assert (report["continues"], report["closed"], report["hazard"]) == (True, [], "flood")
    assert "別の有事が続いています" in report["text_ja"]
    client.call("DELETE", f"/v1/emergencies/{second}", as_="officer:officer-1")
    town.wait()
    assert [(row["continues"], [g["grant"] for g in row["closed"]]) for row in notices(client)] == [
        (False, ["h"]), (True, []),
    ]  # fmt: skip
    seen = [row for row in notices(client, "jiro") if row["seen"]]
    assert {row["emergency"] for row in seen} == {"first", "second"}


def test_an_override_that_opens_nothing_is_told_to_nobody_and_one_closed_before_is_open(
    home: tuple[Town, Client],
) -> None:
    town, client = home
    town.tell(
        "recipient.registered",
        recipient="far",
        **{"class": "city"},
        areas=["13"],
        purposes=["rescue"],
        overrides=["roster"],
    )
    town.tell("roster.listed", person="hanako")
    until = (town.now + timedelta(hours=5)).isoformat()
    opened = {"kinds": ["safety.*"], "purposes": ["rescue"], "until": until, "reason": "the dyke may break"}
    roster = {**opened, "basis": "roster", "areas": ["07202"], "recipient": "far"}
    assert client.call("POST", "/v1/overrides", roster).status == 201
    life = {**opened, "basis": "life_protection", "persons": ["hanako"]}
    assert client.call("POST", "/v1/overrides", {**life, "recipient": "far"}).status == 201
    assert notices(client) == []
    client.call("DELETE", "/v1/overrides/o9")
    town.wait()
    assert client.call("POST", "/v1/overrides", {**life, "recipient": "aizu-city", "override": "o9"}).status == 201
    [told] = notices(client)
    assert told["over"] is False


def test_who_comes_under_an_open_override_later_is_told_too(home: tuple[Town, Client]) -> None:
    town, client = home
    until = (town.now + timedelta(hours=5)).isoformat()
    opened = {"kinds": ["safety.*"], "purposes": ["rescue"], "until": until, "reason": "the dyke may break"}
    roster = {**opened, "basis": "roster", "areas": ["07202"], "recipient": "aizu-city"}
    assert client.call("POST", "/v1/overrides", roster).status == 201
    assert notices(client) == []
    town.tell("roster.listed", person="hanako")
    assert [row["reason"] for row in notices(client)] == ["the dyke may break"]
    town.wait(timedelta(hours=6))
    town.tell("roster.listed", person="taro")
    assert notices(client, "taro") == []
