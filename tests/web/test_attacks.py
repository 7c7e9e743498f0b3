"""What somebody with a right token tries, who wants more than is theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conftest import Town
from doors import STRUCTURED, Client, Reply, cloudevent, served

TARO = "citizen:taro"


@pytest.fixture
def home(town: Town) -> Iterator[tuple[Town, Client]]:
    for person in ("hanako", "taro", "jiro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
    with served().over(town.hub) as client:
        yield town, client


def told(client: Client, event: object, as_: object) -> Reply:
    return client.call("POST", "/v1/events", event, headers={"Content-Type": STRUCTURED}, as_=as_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "person", ["hanako", "Taro", "TARO", "taro ", "taro%00", "ta%72o%20", "%74aro%2F..%2Fhanako", "nobody", "."]
)
def test_no_writing_of_a_path_opens_another_s(home: tuple[Town, Client], person: str) -> None:
    _, client = home
    for path in ("grants", "export", "requests", "disclosures"):
        assert client.get(f"/v1/persons/{person}/{path}", as_=TARO).status in (403, 404)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PROPFIND"])
def test_no_other_method_opens_another_s(home: tuple[Town, Client], method: str) -> None:
    _, client = home
    reply = client.call(method, "/v1/persons/hanako/export", as_=TARO)
    assert reply.status in (403, 405)


def test_no_header_changes_the_method_or_the_path(home: tuple[Town, Client]) -> None:
    town, client = home
    override = {"X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/v1/persons/hanako", "X-User": "operator"}
    token = client.tokens.of(TARO) if client.tokens else ""
    sent = {**override, "Authorization": f"Bearer {token}"}
    assert client.call("GET", "/v1/persons/taro/grants", headers=sent).status == 200
    assert client.call("GET", "/v1/persons/hanako/grants", headers=sent).status == 403
    assert town.hub.directory.grants("taro") == []


def test_who_exists_is_not_told_to_a_stranger(home: tuple[Town, Client]) -> None:
    town, client = home
    town.tell("person.erased", person="jiro")
    replies = [client.get(f"/v1/persons/{name}/grants", as_=TARO) for name in ("hanako", "jiro", "nobody")]
    assert len({(reply.status, reply.body) for reply in replies}) == 1
    kinds = ("block.added", "person.erased", "fact.retracted")
    for kind in kinds:
        same = [told(client, cloudevent(kind, "x", name), TARO) for name in ("hanako", "jiro", "nobody")]
        assert {reply.status for reply in same} == {403}
        assert len({reply.body for reply in same}) == 1


def test_asking_for_consent_tells_nobody_who_exists(home: tuple[Town, Client]) -> None:
    town, client = home
    town.tell("recipient.registered", **{"class": "municipality"}, recipient="aizu-city", areas=["*"], purposes=["rescue"], overrides=[])  # noqa: E501 # fmt: skip
    town.tell("person.erased", person="jiro")
    said = {"recipient": "aizu-city", "kinds": ["safety.answered"], "purpose": "rescue"}
    for again in range(2):
        replies = [
            told(client, cloudevent("consent.requested", "r", name, request="r", **said), "service:aizu-city")
            for name in ("hanako", "jiro", "nobody")
        ]
        assert len({(reply.status, reply.body) for reply in replies}) == 1, again
        assert len({tuple(sorted(reply.headers)) for reply in replies}) == 1
    other = told(client, cloudevent("consent.requested", "r", "hanako", request="r", **said), "service:dr-sato")
    assert other.status == 403


@pytest.mark.parametrize("by", ["hanako", "local:operator", "jiro"])
def test_nobody_says_that_another_did_it(home: tuple[Town, Client], by: str) -> None:
    _, client = home
    assert told(client, cloudevent("block.added", "b", "taro", to={"class": "company"}, by=by), TARO).status == 422


def test_no_id_that_one_chooses_is_taken_from_another(home: tuple[Town, Client]) -> None:
    _, client = home
    for name in ("taro", "hanako"):
        event = cloudevent("block.added", "same", name, to={"class": "company"})
        assert told(client, event, f"citizen:{name}").status == 201


def test_a_source_writes_and_takes_back_its_own_alone(home: tuple[Town, Client]) -> None:
    _, client = home
    fact = cloudevent("safety.answered", "s", "taro", source="other", status="safe")
    assert told(client, fact, "source:myhazard").status == 403
    back = cloudevent("fact.retracted", "r", "taro", source="myhazard", event="s") | {
        "data": {"event": "s", "source": "other"}
    }
    assert told(client, back, "source:myhazard").status == 403
    for own in ("hub", "api"):
        assert told(client, fact | {"source": own}, f"source:{own}").status == 403


def test_two_tokens_are_none(home: tuple[Town, Client]) -> None:
    _, client = home
    token = client.tokens.of(TARO) if client.tokens else ""
    for said in (f"Bearer {token}, Bearer {token}", f"Basic {token}", token, f"Bearer {token}.", "Bearer ", "Bearer"):
        assert client.get("/v1/persons/taro/grants", headers={"Authorization": said}).status == 401
