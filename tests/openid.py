"""A real OpenID provider (tests/servers/openid), a hub that believes it, and a browser that logs in there."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
import pytest

from doors import Process, cloudevent

FOLDER = Path(__file__).parent / "servers" / "openid"
AUDIENCE, OTHER = "urn:saigai-hub:test", "urn:another:audience"
SECRET = "only-for-tests-only-for-tests-only-for-tests"
VIEW = "/v1/views/aizu-city"

IDENTITY = """
[[issuers]]
name = "city"
issuer = "{issuer}"
audience = "{audience}"
algorithms = ["RS256"]
{more}

[issuers.claims]
person = "person"
recipient = "recipient"
source = "source"

[issuers.roles]
citizen = [{{claim = "roles", value = "citizen"}}]
service = [{{claim = "roles", value = "service"}}]
source = [{{claim = "roles", value = "source"}}]
operator = [{{claim = "roles", value = "operator"}}]
auditor = [{{claim = "roles", value = "auditor"}}]

[sources.device]
kinds = ["location.*", "safety.*"]

[login]
issuer = "city"
client_id = "web"
client_secret_env = "HUB_LOGIN_SECRET"
public_url = "http://127.0.0.1:{port}"
"""


def needed() -> None:
    """Skip, or fail where servers are required, unless Node and the provider are here."""
    missing = None
    if shutil.which("node") is None:
        missing = "Node is not installed"
    elif not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        missing = "the OpenID provider is not installed: make test-servers"
    if missing and os.environ.get("HUB_TEST_SERVERS") == "require":
        pytest.fail(f"{missing}, and HUB_TEST_SERVERS=require", pytrace=False)
    if missing:
        pytest.skip(missing)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Provider:
    """The provider's process. Its tokens come from here as a client's do: over HTTP."""

    def __init__(self, *hub_ports: int, port: int = 0) -> None:
        needed()
        self.secret = SECRET
        self._redirects = [f"http://127.0.0.1:{hub_port}/auth" for hub_port in hub_ports]
        self.port = port
        self.http = httpx2.Client(trust_env=False, timeout=60)
        self.start()

    def start(self) -> None:
        """Start it, on the port that it had before."""
        said = {"port": self.port, "audience": AUDIENCE, "other": OTHER, "redirects": self._redirects}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the process
        self._popen = subprocess.Popen(
            ["node", "provider.mjs", json.dumps(said)], cwd=FOLDER, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._popen.stdout is not None
        self.issuer = self._popen.stdout.readline().strip()
        if not self.issuer:
            self._log.seek(0)
            raise AssertionError(f"the provider did not start: {self._log.read().decode()}")
        self.port = urlsplit(self.issuer).port or 0

    def kill(self) -> None:
        """kill -9; nothing where it has ended."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait(60)
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        self._log.close()

    def close(self) -> None:
        self.kill()
        self.http.close()

    def token(self, client: str, **parameters: str) -> str:
        """A token by client credentials."""
        said = {"grant_type": "client_credentials", **parameters}
        answer = self.http.post(f"{self.issuer}/token", data=said, auth=(client, SECRET))
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["access_token"]
        return found

    def of(self, said: str | Mapping[str, Any]) -> str:
        """As the tests' clients ask for tokens: the operator's, whatever is said."""
        return self.token("ops")

    def rotate(self, *, keep: bool) -> None:
        """A new first key; whether the old ones are kept."""
        assert self.http.post(f"{self.issuer}/control/rotate?keep={int(keep)}").status_code == 200

    def mix(self, member: str) -> None:
        """The next answer of the token endpoint has the `member` of the one before."""
        assert self.http.post(f"{self.issuer}/control/mix?member={member}").status_code == 200

    def asked(self) -> int:
        """How often the keys were asked for."""
        count: int = self.http.get(f"{self.issuer}/control/asked").json()["asked"]
        return count


def hub_of(provider: Provider, folder: Path, port: int, *, workers: int = 1, more: str = "") -> Process:
    """A hub that believes the provider, with a recipient and two persons."""
    folder.mkdir(exist_ok=True)
    file = folder / "identity.toml"
    file.write_text(IDENTITY.format(issuer=provider.issuer, audience=AUDIENCE, port=port, more=more))
    hub = Process(
        folder / "hub.sqlite3",
        workers=workers,
        port=port,
        tokens=provider,
        environment={"HUB_IDENTITY": str(file), "HUB_LOGIN_SECRET": SECRET},
    )
    registered = {"recipient": "aizu-city", "class": "municipality", "areas": ["07202"], "purposes": ["rescue"]}
    events = [cloudevent("recipient.registered", "r", source="api", **registered)]
    events += [cloudevent("person.enrolled", name, name, source="api", areas=["07202"]) for name in ("hanako", "taro")]
    reply = hub.client().batch(events)
    assert reply.status == 200, (reply, hub.said(), hub.kill())
    assert [result["status"] for result in reply.json["results"]] == ["accepted"] * 3, (reply, hub.kill())
    return hub


class Browser:
    """A browser that follows links and fills in the provider's forms, with one jar of cookies."""

    def __init__(self, hub: Process) -> None:
        self.home = f"http://127.0.0.1:{hub.port}"
        self.http = httpx2.Client(trust_env=False, timeout=60, follow_redirects=False)
        self.set_cookies: list[str] = []

    def get(self, path: str, **kwargs: Any) -> httpx2.Response:
        answer = self.http.get(urljoin(self.home, path), **kwargs)
        self.set_cookies += answer.headers.get_list("set-cookie")
        return answer

    def way_back(self, person: str, next: str = "/", *, abort: bool = False) -> str:
        """Log in at the provider; where it sends the browser back to, not yet gone to."""
        answer = self.get("/auth/login", params={"next": next})
        assert answer.status_code == 303, answer.text
        return self.followed(answer, person, abort=abort)

    def followed(self, answer: httpx2.Response, person: str, *, abort: bool = False) -> str:
        """From the provider's answer to where it sends the browser back to."""
        for _ in range(20):
            if answer.is_redirect:
                target = urljoin(str(answer.url), answer.headers["location"])
                if target.startswith(f"{self.home}/auth"):
                    return target
                answer = self.http.get(target)
                continue
            assert answer.status_code == 200, answer.text
            if abort:
                [there] = re.findall(r'href="([^"]*/abort)"', answer.text)
                answer = self.http.get(urljoin(str(answer.url), there))
                continue
            [action] = re.findall(r'<form[^>]* action="([^"]+)"', answer.text)
            [prompt] = re.findall(r'name="prompt" value="([^"]+)"', answer.text)
            said = {"prompt": prompt} | ({"login": person, "password": "x"} if prompt == "login" else {})
            answer = self.http.post(urljoin(str(answer.url), action), data=said)
        raise AssertionError("the provider does not come to an end")

    def log_in(self, person: str, next: str = "/") -> httpx2.Response:
        """The whole way; the hub's answer to the browser that comes back."""
        return self.get(self.way_back(person, next))

    def session(self) -> dict[str, Any]:
        answer = self.get("/auth/session")
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    def close(self) -> None:
        self.http.close()


def query_of(url: str) -> dict[str, str]:
    """The parameters of a URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def until(holds: Any, within_s: float) -> float:
    """Wait for it; the seconds that it took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < within_s
        time.sleep(0.1)
    return time.monotonic() - begun
