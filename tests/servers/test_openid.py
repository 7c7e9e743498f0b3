"""End to end with a real OpenID provider: services, sources, citizens with a browser, keys that change."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from doors import Client, Process, Reply, cloudevent
from hub.identity.keys import COOLDOWN_S
from openid import OTHER, VIEW, Browser, Provider, free_port, hub_of, query_of, until

GRANT = {"to": {"recipient": "aizu-city"}, "kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"]}


class Place:
    """A provider, and a hub of two workers that believes it."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self._browsers: list[Browser] = []
        self.provider = Provider(port)
        try:
            self.hub = hub_of(self.provider, folder, port, workers=2)
        except BaseException:
            self.provider.close()
            raise

    def browser(self) -> Browser:
        self._browsers.append(Browser(self.hub))
        return self._browsers[-1]

    def close(self) -> None:
        for browser in self._browsers:
            browser.close()
        self.hub.kill()
        self.provider.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("place") / "hub")
    yield found
    found.close()


def bearing(hub: Process, token: str | None, method: str = "GET", path: str = VIEW, body: Any = None) -> Reply:
    client = Client(hub.port)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        query = "?purpose=rescue" if path.startswith("/v1/views/") else ""
        if method == "POST" and path == "/v1/events":
            headers["Content-Type"] = "application/cloudevents+json"
        connection = client._connection
        connection.request(method, path + query, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return Reply(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())
    finally:
        client.close()


def refused(answer: httpx2.Response) -> None:
    """The login did not succeed, and left no session."""
    assert answer.status_code == 401, answer.text
    assert not [cookie for cookie in answer.headers.get_list("set-cookie") if cookie.startswith("hub=")]


def test_a_service_reads_its_own_view_and_another_ones_refusal_is_in_the_log(place: Place) -> None:
    token = place.provider.token("svc")
    assert bearing(place.hub, token).status == 200
    other = bearing(place.hub, token, path="/v1/views/koriyama-city")
    assert other.status == 403
    ops = place.provider.token("ops")
    rows = bearing(place.hub, ops, path="/v1/audit/events").json
    assert "view.refused" in json.dumps(rows)


def test_no_token_is_told_how_to_send_one(place: Place) -> None:
    reply = bearing(place.hub, None)
    assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Bearer realm="hub"')


def test_a_token_for_another_audience_is_refused(place: Place) -> None:
    reply = bearing(place.hub, place.provider.token("svc", resource=OTHER))
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]
    assert "another audience" in reply.body.decode()


def test_a_token_of_an_issuer_that_is_not_configured_is_refused(place: Place) -> None:
    stranger = Provider()
    try:
        reply = bearing(place.hub, stranger.token("svc"))
    finally:
        stranger.close()
    assert reply.status == 401
    assert "issuer" in reply.body.decode()


def test_an_id_token_is_no_bearer_token(place: Place) -> None:
    kept = _own_tokens(place)
    assert bearing(place.hub, kept["access_token"], path="/auth/session").status == 200
    reply = bearing(place.hub, kept["id_token"], path="/auth/session")
    assert reply.status == 401


def _own_tokens(place: Place) -> dict[str, str]:
    """What the provider gives for a code: a login whose verifier the test chose."""
    verifier = "v" * 50
    challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    back = f"http://127.0.0.1:{place.hub.port}/auth"
    said = {"client_id": "web", "response_type": "code", "scope": "openid", "redirect_uri": back, "nonce": "n"}
    asked = said | {"code_challenge": challenge, "code_challenge_method": "S256", "state": "s"}
    browser = place.browser()
    there = browser.http.get(f"{place.provider.issuer}/auth", params=asked)
    code = query_of(browser.followed(there, "hanako"))["code"]
    sent = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, "code_verifier": verifier}
    answer = browser.http.post(f"{place.provider.issuer}/token", data=sent, auth=("web", place.provider.secret))
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


def test_a_source_writes_under_its_own_name_alone(place: Place) -> None:
    token = place.provider.token("src")
    own = cloudevent("safety.answered", "s1", "hanako", source="device", status="safe")
    assert bearing(place.hub, token, "POST", "/v1/events", own).status == 201
    for other in ({**own, "source": "another", "id": "s2"}, {**own, "type": "care.requested", "id": "s3"}):
        assert bearing(place.hub, token, "POST", "/v1/events", other).status == 403


def test_a_citizen_logs_in_and_does_what_is_theirs_until_they_log_out(place: Place) -> None:
    browser = place.browser()
    landed = browser.log_in("hanako", next="/me?tab=grants")
    assert (landed.status_code, landed.headers["location"]) == (303, "/me?tab=grants")
    [cookie] = [said for said in browser.set_cookies if said.startswith("hub=")]
    assert {"httponly", "samesite=lax", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    session = browser.session()
    assert (session["person"], session["roles"], session["actor"]) == ("hanako", ["citizen"], "city:hanako")
    own = "/v1/persons/hanako/grants"
    assert {browser.get(own).status_code for _ in range(20)} == {200}, "both workers know the session"
    assert browser.get("/v1/persons/taro/grants").status_code == 403
    assert browser.http.post(browser.home + own, json=GRANT).status_code == 403
    assert browser.http.post(browser.home + own, json=GRANT, headers={"Hub-CSRF": "x"}).status_code == 403
    csrf = {"Hub-CSRF": session["csrf"]}
    assert browser.http.post(browser.home + own, json=GRANT, headers=csrf).status_code == 201
    old = browser.http.cookies["hub"]
    assert browser.http.post(f"{browser.home}/auth/logout").status_code == 403
    ended = browser.http.post(f"{browser.home}/auth/logout", headers=csrf)
    assert ended.status_code == 200
    assert ended.json()["location"].startswith(f"{place.provider.issuer}/session/end?id_token_hint=")
    assert browser.get("/auth/session").status_code == 401
    for _ in range(10):
        assert httpx2.get(f"{browser.home}/auth/session", cookies={"hub": old}).status_code == 401


def test_every_worker_can_say_where_the_provider_ends_its_session(place: Place) -> None:
    for _ in range(6):
        browser = place.browser()
        browser.log_in("hanako")
        csrf = browser.session()["csrf"]
        with httpx2.Client(cookies={"hub": browser.http.cookies["hub"]}) as fresh:  # another connection: any worker
            ended = fresh.post(f"{browser.home}/auth/logout", headers={"Hub-CSRF": csrf})
        assert ended.json()["location"] is not None


def test_a_new_login_ends_the_session_that_the_browser_had(place: Place) -> None:
    browser = place.browser()
    browser.log_in("hanako")
    old = browser.http.cookies["hub"]
    browser.log_in("hanako")
    assert browser.session()["person"] == "hanako"
    assert httpx2.get(f"{browser.home}/auth/session", cookies={"hub": old}).status_code == 401


def test_a_way_back_that_another_browser_took_is_refused(place: Place) -> None:
    url = place.browser().way_back("hanako")
    refused(place.browser().get(url))
    victim = place.browser()
    victim.way_back("taro")
    refused(victim.get(url))


def test_a_way_back_is_gone_once(place: Place) -> None:
    browser = place.browser()
    url = browser.way_back("hanako")
    kept = browser.http.cookies["hub-login"]
    assert browser.get(url).status_code == 303
    refused(httpx2.get(url, cookies={"hub-login": kept}))


@pytest.mark.parametrize(
    "change",
    [
        {"state": "x" * 43},
        {"state": ""},
        {"code": ""},
        {"code": "another"},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"code": None},
        {"state": None},
    ],
    ids=str,
)
def test_a_way_back_that_was_changed_is_refused(place: Place, change: dict[str, str | None]) -> None:
    browser = place.browser()
    said: dict[str, str | None] = {**query_of(browser.way_back("hanako")), **change}
    refused(browser.get("/auth", params={name: value for name, value in said.items() if value is not None}))


def test_who_does_not_agree_at_the_provider_is_not_logged_in(place: Place) -> None:
    browser = place.browser()
    url = browser.way_back("hanako", abort=True)
    assert query_of(url)["error"] == "access_denied"
    refused(browser.get(url))


def test_the_code_of_one_login_is_no_use_in_another(place: Place) -> None:
    code = query_of(place.browser().way_back("taro"))["code"]
    browser = place.browser()
    refused(browser.get("/auth", params=query_of(browser.way_back("hanako")) | {"code": code}))


@pytest.mark.parametrize(("member", "first"), [("id_token", "hanako"), ("id_token", "taro"), ("access_token", "taro")])
def test_tokens_of_two_logins_do_not_mix(place: Place, member: str, first: str) -> None:
    """Real tokens of the provider: with the ID token of an earlier login of the same person the nonce differs."""
    assert place.browser().log_in(first).status_code == 303
    browser = place.browser()
    url = browser.way_back("hanako")
    place.provider.mix(member)
    refused(browser.get(url))


@pytest.mark.parametrize("next", ["//evil.example", "https:evil", "https://evil.example/", "/\\evil.example", "/\t/e"])
def test_a_login_never_ends_at_another_site(place: Place, next: str) -> None:
    assert place.browser().log_in("hanako", next).headers["location"] == "/"


def test_a_browser_may_come_from_the_provider_to_a_page_but_not_to_a_view(place: Place) -> None:
    """A browser calls the whole chain of redirects from the provider's page cross-site."""
    browser = place.browser()
    browser.log_in("hanako")
    arriving = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    page = browser.get("/", headers=arriving)
    assert "foreign-origin" not in page.text
    for path, headers in [(VIEW, arriving), ("/", arriving | {"Sec-Fetch-Dest": "iframe"})]:
        assert "foreign-origin" in browser.get(path, headers=headers).text


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[tuple[Provider, Process]]:
    """A provider, and a hub of one worker."""
    port = free_port()
    provider = Provider(port)
    try:
        hub = hub_of(provider, tmp_path / "hub", port, more=f'jwks_uri = "{provider.issuer}/jwks"')
        try:
            yield provider, hub
        finally:
            hub.kill()
    finally:
        provider.close()


def test_keys_change_under_load_and_no_valid_token_is_refused(lone: tuple[Provider, Process]) -> None:
    provider, hub = lone
    done, statuses, rotations = threading.Event(), Counter[int](), 8

    def work() -> None:
        client = Client(hub.port)
        with httpx2.Client(trust_env=False, timeout=60) as http:
            while not done.is_set():
                sent = {"grant_type": "client_credentials"}
                said = http.post(f"{provider.issuer}/token", data=sent, auth=("svc", provider.secret)).json()
                headers = {"Authorization": f"Bearer {said['access_token']}"}
                statuses[client.get(VIEW, purpose="rescue", headers=headers).status] += 1
        client.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(rotations):
        provider.rotate(keep=True)
        shown = statuses.total()
        until(lambda shown=shown: statuses.total() >= shown + 20, within_s=60)
    done.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}, statuses
    assert rotations <= provider.asked() <= rotations + 2, "a key that is new is asked for once"

    old = provider.token("svc")
    assert bearing(hub, old).status == 200
    provider.rotate(keep=False)
    assert bearing(hub, provider.token("svc")).status == 200, "the new key is fetched at once"
    assert bearing(hub, old).status == 401, "and what the issuer dropped is gone with that fetch"


def test_a_thousand_unknown_keys_cost_the_issuer_a_fetch(lone: tuple[Provider, Process]) -> None:
    provider, hub = lone
    valid = provider.token("svc")
    assert bearing(hub, valid).status == 200
    before, (_, claims, signature), begun = provider.asked(), valid.split("."), time.monotonic()
    client = Client(hub.port)
    for number in range(1_000):
        head = urlsafe_b64encode(json.dumps({"alg": "RS256", "typ": "at+jwt", "kid": f"k{number}"}).encode())
        token = f"{head.rstrip(b'=').decode()}.{claims}.{signature}"
        assert client.get("/v1/kinds", headers={"Authorization": f"Bearer {token}"}).status == 401
    client.close()
    pauses = int((time.monotonic() - begun) / COOLDOWN_S)
    assert provider.asked() - before <= 2 + pauses
    assert bearing(hub, valid).status == 200


def test_while_the_provider_is_away_tokens_are_taken_and_logins_are_told(lone: tuple[Provider, Process]) -> None:
    provider, hub = lone
    known, unseen = provider.token("svc"), provider.token("svc")
    assert bearing(hub, known).status == 200
    provider.kill()
    assert bearing(hub, known).status == 200
    assert bearing(hub, unseen).status == 200
    browser = Browser(hub)
    silent = browser.get("/auth/login")
    assert (silent.status_code, silent.json()["type"]) == (502, "urn:saigai-hub:problem:provider-silent")
    provider.start()
    until(lambda: browser.get("/auth/login").status_code == 303, within_s=60)
    assert browser.log_in("hanako").status_code == 303, "the provider has another key now"
    url = browser.way_back("hanako")
    provider.kill()
    assert browser.get(url).status_code == 502
    browser.close()
