"""Sessions of browsers, without a provider: what they let in, and when they end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from conftest import Town
from doors import Client, served
from hub.identity.caller import Caller
from hub.identity.local import identity

BLOCK = {"to": {"class": "company"}}


class Browser:
    """Someone who is logged in, with the cookie that they hold."""

    def __init__(self, client: Client, person: str) -> None:
        self._client, self.gate = client, served().app.state.door.gate
        caller = Caller(
            actor=f"local:{person}",
            roles=frozenset({"citizen"}),
            expires=datetime.now(UTC),
            person=person,
            subject=person,
        )
        self.cookie = self.gate.sessions.begin(caller, None)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {"Cookie": f"{self.gate.cookie}={self.cookie}", **{n.replace("_", "-"): v for n, v in headers.items()}}
        return self._client.call(method, path, body, headers=sent)

    @property
    def csrf(self) -> str:
        return str(self.call("GET", "/auth/session").json["csrf"])


@pytest.fixture
def home(town: Town) -> Iterator[tuple[Town, Client]]:
    for person in ("hanako", "taro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
    with served().over(town.hub, identity()) as client:
        yield town, client


def test_a_session_changes_something_only_with_its_csrf(home: tuple[Town, Client]) -> None:
    _, client = home
    hanako, taro = Browser(client, "hanako"), Browser(client, "taro")
    path = "/v1/persons/hanako/blocks"
    assert hanako.call("GET", path).status == 200
    assert hanako.call("POST", path, BLOCK).status == 403
    assert hanako.call("POST", path, BLOCK, Hub_CSRF=taro.csrf).status == 403
    assert hanako.call("POST", path, BLOCK, Hub_CSRF=hanako.csrf, Origin="https://evil.example").status == 403
    assert hanako.call("POST", path, BLOCK, Hub_CSRF=hanako.csrf).status == 201
    assert hanako.call("GET", "/v1/persons/taro/blocks").status == 403


def test_a_session_ends_when_it_is_ended_or_not_used(
    home: tuple[Town, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = home
    hanako, idle = Browser(client, "hanako"), Browser(client, "hanako")
    assert hanako.call("POST", "/auth/logout", Hub_CSRF=hanako.csrf).status == 200
    assert hanako.call("GET", "/auth/session").status == 401
    assert idle.call("GET", "/auth/session").status == 200
    monkeypatch.setattr(idle.gate.sessions, "_now", lambda: datetime.now(UTC).timestamp() + 1801)
    assert idle.call("GET", "/auth/session").status == 401


def test_the_session_of_an_erased_person_is_gone_at_once_and_nothing_is_kept_of_it(home: tuple[Town, Client]) -> None:
    town, client = home
    hanako, taro = Browser(client, "hanako"), Browser(client, "taro")
    assert hanako.call("GET", "/auth/session").status == 200
    assert client.call("DELETE", "/v1/persons/hanako").status == 200
    assert hanako.call("GET", "/auth/session").status == 401
    assert taro.call("GET", "/auth/session").status == 200
    with town.hub.log.entries.snapshot() as (connection, _):
        assert connection.exec_driver_sql("SELECT count(*) FROM session").scalar() == 1


def test_an_erasure_by_another_process_ends_the_session_too(home: tuple[Town, Client], new_town: Any) -> None:
    town, client = home
    hanako = Browser(client, "hanako")
    town.hub.commits.erase = lambda digests: None  # as where no server of this process hears of it
    town.tell("person.erased", person="hanako")
    assert hanako.call("GET", "/auth/session").status == 401


def test_what_a_login_keeps_is_no_session(home: tuple[Town, Client]) -> None:
    _, client = home
    hanako = Browser(client, "hanako")
    hanako.cookie = hanako.gate.sessions.begin_login({"state": "s"})
    assert hanako.call("GET", "/auth/session").status == 401
    assert hanako.gate.sessions.take_login(hanako.cookie) == {"state": "s"}
    assert hanako.gate.sessions.take_login(hanako.cookie) is None
