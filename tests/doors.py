"""The doors, as the tests use them: a server in this process over a hub whose clock is set, and real ones."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, cast
from urllib.parse import quote, unquote, urlencode

import uvicorn

import databases
from hub.canonical import timestamp
from hub.codec import is_id
from hub.connector.json import written
from hub.events import CONTROLS
from hub.identity import local
from hub.identity.caller import ROLES
from hub.identity.local import LocalIssuer, claims_of
from hub.identity.settings import Identity, Officers
from hub.scenario import SOURCE, Sight, World
from hub.schemas import packaged
from hub.web.access import KINDS
from hub.web.app import layered, routes
from hub.web.door import Door
from hub.web.gate import Gate
from hub.web.operation import Metrics
from hub.web.serve import SETTINGS

PATIENCE_S = 120
"""How long a real process is waited for, on a machine that has much else to do."""

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@dataclass(frozen=True)
class Reply:
    """What came back. headers: by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Bearing(Protocol):
    """Where a client has its tokens from."""

    def of(self, said: str | Mapping[str, Any]) -> str: ...


class Tokens:
    """Tokens of the local issuer whose key stands at a path, made once each."""

    def __init__(self, key: Path) -> None:
        self._key = key
        self._made: dict[str, str] = {}

    def of(self, said: str | Mapping[str, Any]) -> str:
        """said: as `hub token --as`, or the claims."""
        claims = claims_of(said) if isinstance(said, str) else dict(said)
        name = json.dumps(claims, sort_keys=True)
        if name not in self._made:
            self._made[name] = LocalIssuer(self._key).token(claims, now=time.time(), lifetime_s=8 * 3600)
        return self._made[name]


def asker(method: str, path: str, body: Any, headers: Mapping[str, str] | None = None) -> str | Mapping[str, Any]:
    """Who may ask this, for tests that are about something else than who may."""
    parts = path.split("?")[0].removeprefix("/v1/").split("/")
    match parts:
        case ["persons", _, "links", *_] if method == "PUT":
            return "operator"
        case ["persons", person, *_]:
            return _named("citizen", person)
        case ["views" | "statistics", recipient, *_] | ["recipients", recipient, "keys", _]:
            return _named("service", recipient)
        case ["connectors", name]:
            return _named("source", name)
        case ["events"]:
            binary = {n[3:].lower(): unquote(v) for n, v in (headers or {}).items() if n.lower().startswith("ce-")}
            return _appender(binary or body)
        case ["emergencies", _, "confirm"]:
            return "officer:officer-2"
        case ["emergencies" | "overrides", *_] if method != "GET" or parts[0] == "overrides":
            return "officer:officer-1"
        case ["audit", *_]:
            return "auditor"
        case _:
            return "operator"


def _named(role: str, name: str) -> Mapping[str, Any]:
    member = {"citizen": "person", "service": "recipient", "source": "source"}[role]
    plain = unquote(name) if is_id(unquote(name)) else "nobody"
    return {"sub": plain, "roles": [role], member: plain}


def _parsed(body: bytes) -> Any:
    """The JSON of a body, or of its lines."""
    for tried in (body, b"[" + b",".join(line for line in body.splitlines() if line.strip()) + b"]"):
        with suppress(ValueError, RecursionError, OSError, EOFError, zlib.error):
            return json.loads(gzip.decompress(tried) if tried[:2] == b"\x1f\x8b" and len(tried) < 10_000 else tried)
    return None


def _appender(body: Any) -> Mapping[str, Any]:
    """Of several events: someone who may append them all, as far as one can."""
    if isinstance(body, bytes):
        body = _parsed(body)
    events = [event for event in (body if isinstance(body, list) else [body]) if isinstance(event, Mapping)]
    said: dict[str, Any] = {"sub": "everyone", "roles": list(ROLES), "source": SOURCE}
    for event in reversed(events):
        kind, data = event.get("type"), event.get("data")
        by = data.get("by") if isinstance(data, Mapping) else None
        if isinstance(kind, str) and kind in CONTROLS and (KINDS[kind] or {})["citizen"] != "-":
            said["person"] = by or event.get("subject")
        if kind == "consent.requested" and isinstance(data, Mapping):
            said["recipient"] = data.get("recipient")
        if is_id(event.get("source")) and (kind not in CONTROLS or kind == "fact.retracted"):
            said["source"] = event["source"]
    if said.get("person") is not None and not is_id(said["person"]):
        del said["person"]
    if "person" in said:
        said["roles"] = [role for role in ROLES if role != "operator"] if len(events) == 1 else list(ROLES)
    return said


class Client:
    """One connection to a hub. Each request bears the token of who may ask it, unless it is told another."""

    def __init__(self, port: int, timeout_s: float = 60, *, tokens: Bearing | None = None) -> None:
        self.port, self._timeout_s, self.tokens = port, timeout_s, tokens
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        as_: str | Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Reply:
        """One request; `body` is bytes, or something that is sent as JSON. as_: who asks; empty for nobody."""
        sent = dict(headers or {})
        if self.tokens is not None and as_ != "" and not {"Authorization", "Cookie"} & set(sent):
            sent["Authorization"] = (
                f"Bearer {self.tokens.of(asker(method, path, body, headers) if as_ is None else as_)}"
            )
        if body is not None and not isinstance(body, bytes):
            body = written(body)
            sent.setdefault("Content-Type", "application/json")
        said = {name: value for name, value in parameters.items() if value is not None}
        query = urlencode({n: str(v).lower() if isinstance(v, bool) else v for n, v in said.items()}, doseq=True)
        target = quote(path, safe="/:@%") + (f"?{query}" if query else "")
        self._connection.request(method, target, body, sent)
        answer = self._connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, answer.read())

    def get(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        as_: str | Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Reply:
        return self.call("GET", path, headers=headers, as_=as_, **parameters)

    def event(self, event: Mapping[str, Any]) -> Reply:
        """One structured CloudEvent."""
        return self.call("POST", "/v1/events", event, headers={"Content-Type": STRUCTURED})

    def batch(self, events: Sequence[Mapping[str, Any]]) -> Reply:
        return self.call("POST", "/v1/events", list(events), headers={"Content-Type": BATCH})

    def close(self) -> None:
        self._connection.close()


def confirm(client: Client, emergency: str, *, as_: str | None = None, seen: str | None = None) -> Reply:
    """A second officer confirms what waits under the id; `seen` instead of what waits."""
    rows = client.get("/v1/emergencies").json["emergencies"]
    waits = next((row["proposed"] for row in rows if row["emergency"] == emergency), None)
    proposal = seen or (waits or {}).get("proposal", "none")
    return client.call("POST", f"/v1/emergencies/{emergency}/confirm", {"proposal": proposal}, as_=as_)


def cloudevent(kind: str, id: str, person: str | None = None, *, source: str = SOURCE, **data: Any) -> dict[str, Any]:
    """A structured CloudEvent; `occurred_at` and, of a fact, `exercise` are its own."""
    event: dict[str, Any] = {"specversion": "1.0", "type": kind, "source": source, "id": id}
    if person is not None:
        event["subject"] = person
    if "occurred_at" in data:
        event["time"] = data.pop("occurred_at")
    if "exercise" in data:
        event["exercise"] = data.pop("exercise")
    return {**event, "data": data}


class Served:
    """A server in this process, whose routes work on whatever hub is put behind them."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hub-doors-")
        self.key = Path(self.folder.name) / "local-issuer.key"
        self.tokens = Tokens(self.key)
        self.metrics = Metrics(Path(self.folder.name), 1)
        self.app = routes()
        config = uvicorn.Config(layered(self.app, self.metrics), lifespan="off", port=0, **SETTINGS)
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()
        while not self.server.started:
            self._thread.join(0.01)
        self.port: int = self.server.servers[0].sockets[0].getsockname()[1]

    @contextmanager
    def over(self, hub: Any, identity: Identity | None = None) -> Iterator[Client]:
        """A client of `hub`, which stays open afterwards. identity: instead of the local issuer's, with an officer who
        may act alone."""
        identity = identity or replace(local.identity(), officers=Officers(alone=frozenset({"declare", "amend"})))
        door = Door(hub, Metrics(Path(self.folder.name), 1), Gate(hub, identity, LocalIssuer(self.key)))
        self.app.state.door = door
        door.inlet.start()
        client = Client(self.port, tokens=self.tokens)
        try:
            yield client
        finally:
            client.close()
            door.stop()


@cache
def served(number: int = 0) -> Served:
    """A server of this process, which ends with it; several where worlds are compared."""
    return Served()


DELEGATED = ("consent.granted", "consent.revoked", "consent.declined", "block.added", "block.removed")
UNDELEGATED = ("delegation.added", "delegation.ended", "relation.added", "relation.ended", "person.erased")


class WebWorld(World):
    """A world whose every step goes through HTTP, as `hub.scenario.World` plays it on the parts."""

    client: Client
    reply: Reply
    """The last answer to a read."""

    def __init__(self, hub: Any, clock: Any) -> None:
        super().__init__(hub, clock)
        self.positions: list[int] = []

    @classmethod
    @contextmanager
    def fresh(cls, server: int = 0) -> Iterator[WebWorld]:
        with super().fresh() as made, served(server).over(made.hub) as client:
            world = cast(WebWorld, made)
            world.client = client
            yield world

    def append(
        self, at: datetime, kind: str, data: Mapping[str, Any], id: str | None = None
    ) -> Literal["accepted", "duplicate", "refused"]:
        self.clock.set(at)
        self._unnamed += id is None
        name = f"{self.named}-{self._unnamed}" if id is None else id
        before = self.hub.log.entries.max_notification_id() or 0
        reply = self.client.event(flat(kind, self._said(kind, data), name))
        assert reply.status in (200, 201, 202, 403, 422), reply
        if reply.status in (403, 422):
            return "refused"
        [result] = reply.json["results"]
        after = self.hub.log.entries.max_notification_id() or 0
        self.positions += range(before + 1, after + 1)  # a link lets in what waited
        return cast(Literal["accepted", "duplicate"], result["status"])

    def _said(self, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Over HTTP `by` is who asks: it stays where delegates may act (R16), or are refused; else who may asks."""
        person, by = data.get("person"), data.get("by")
        if kind in DELEGATED or by in (None, person):
            return data
        if kind in UNDELEGATED and is_id(by) and is_id(person) and self.hub.directory.delegated(str(person), str(by)):
            return data
        return {name: value for name, value in data.items() if name != "by"}

    def read(
        self, at: datetime, recipient: str, purpose: str, kinds: Sequence[str] | None = None, exercise: bool = False
    ) -> Sight:
        self.clock.set(at)
        self.reply = self.client.get(f"/v1/views/{recipient}", **_asked(purpose, kinds, exercise))
        self.positions.append(self.hub.log.entries.max_notification_id() or 0)
        return seen(self.reply)

    def expect(
        self,
        at: datetime,
        recipient: str,
        purpose: str,
        kinds: Sequence[str] | None = None,
        exercise: bool = False,
        as_of: int | None = None,
    ) -> Sight:
        return seen(self.replayed(at, recipient, _asked(purpose, kinds, exercise), as_of))

    def answer(
        self,
        at: datetime,
        recipient: str,
        purpose: str,
        kinds: Sequence[str] | None = None,
        exercise: bool = False,
        history: bool = True,
    ) -> bytes:
        asked = {**_asked(purpose, kinds, exercise), "history": history}
        return self.replayed(at, recipient, asked).body

    def replayed(
        self, at: datetime, recipient: str, asked: dict[str, Any], as_of: int | None = None, accept: str = "*/*"
    ) -> Reply:
        """The decision alone: a replay at a position of the scenario's own, since each look takes one too."""
        head = self.positions[-1] if self.positions else 0
        position = head if as_of is None or as_of > len(self.positions) else [0, *self.positions][as_of]
        where = {"at": position, "time": timestamp(at)}
        return self.client.get(f"/v1/audit/views/{recipient}", headers={"Accept": accept}, **where, **asked)


def _asked(purpose: str, kinds: Sequence[str] | None, exercise: bool) -> dict[str, Any]:
    return {"purpose": purpose, "kinds": list(kinds) if kinds else None, "exercise": exercise, "history": True}


def seen(reply: Reply) -> Sight:
    """What an answer showed, in the words of a scenario."""
    assert reply.status == 200, reply
    items = [(person["person"], item) for person in reply.json["persons"] for item in person["items"]]
    sees: dict[str, set[str]] = {}
    for person, item in items:
        sees.setdefault(person, set()).add(item["event"])
    return Sight(
        sees={person: frozenset(events) for person, events in sees.items()},
        because={item["event"]: cast(tuple[str, str], next(iter(item["basis"].items()))) for _, item in items},
        precision={item["event"]: item["precision"] for _, item in items},
    )


_OF_FACTS = (("exercise", "exercise"), ("ref", "ref"))


def flat(kind: str, data: Mapping[str, Any], id: str) -> dict[str, Any]:
    """The CloudEvent of a scenario's flat data, which may be wrong in any way."""
    schema = packaged().newest(kind) if isinstance(kind, str) else None
    fact = schema is not None and schema.category == "fact"
    event: dict[str, Any] = {"specversion": "1.0", "type": kind, "source": SOURCE, "id": id}
    for name, attribute in (("person", "subject"), ("occurred_at", "time"), *_OF_FACTS):
        if name in data and (fact or (name, attribute) not in _OF_FACTS):
            event[attribute] = data[name]
    left = ("person", "occurred_at", "exercise", "ref") if fact else ("person", "occurred_at")
    return event | {"data": {name: _plain(value) for name, value in data.items() if name not in left}}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return timestamp(value)
        case Mapping():
            return {name: _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case float():
            return Decimal(repr(value))
        case _:
            return value


class Process:
    """A real `hub serve`, started and ended by its pid. all_up: it is there once every worker answers.

    tokens: what its clients bear where an identity file is set; else the local issuer's.
    """

    def __init__(
        self,
        database: Path,
        *,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        all_up: bool = True,
        port: int = 0,
        tokens: Bearing | None = None,
    ) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the process
        self._said = ""
        self._clients: list[Client] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        kept |= databases.settings(database.parent)
        command = [sys.executable, "-c", "from hub.cli import main; main()", "serve", "--port", str(port)]
        self.popen = subprocess.Popen(
            [*command, "--workers", str(workers)],
            env={**kept, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        assert self.popen.stdout is not None
        said = ""
        for line in self.popen.stdout:
            said += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/v1", line):
                self.port = int(found[1])
            if "hub token" in line or "Tokens are" in line:
                break
        else:
            self.kill()
            raise AssertionError(f"hub serve did not start: {said} {self.said()}")
        self.announced = said
        self.tokens = tokens or Tokens(database.with_name("local-issuer.key"))
        if workers > 1 and all_up:
            try:
                self.wait_for_workers(workers)
            except BaseException:
                self.kill()  # or its parent would start workers for ever
                raise

    def workers(self) -> set[int]:
        """The worker processes; none where the parent answers itself."""
        found = set()
        for pid in Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended since it was listed
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(int(pid))
        return found

    def wait_for_workers(self, count: int) -> None:
        """Until so many answer: the first does so seconds before the last, and would be given every connection."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, self.said()
            client = Client(self.port, tokens=self.tokens)
            with suppress(OSError, http.client.HTTPException):  # a worker that was killed takes connections with it
                started = client.get("/metrics").body.decode()
                workers = self.workers()
                if len(workers) == count and all(f'worker="{worker}"' in started for worker in workers):
                    client.close()
                    return
            client.close()
            time.sleep(0.05)

    def figures(self, name: str, total: int) -> dict[int, int]:
        """A counter of /metrics by worker, once it comes to `total`: each worker leaves its own every two seconds."""
        deadline = time.monotonic() + PATIENCE_S
        found: Counter[int] = Counter()
        while found.total() < total:
            assert time.monotonic() < deadline, found
            found.clear()
            client = Client(self.port, tokens=self.tokens)
            for line in client.get("/metrics").body.decode().splitlines():
                if line.startswith(f"{name}{{"):
                    found[int(line.split('worker="')[1].split('"')[0])] += int(float(line.rsplit(" ", 1)[1]))
            client.close()
            time.sleep(0.05)
        return dict(found)

    def said(self) -> str:
        """What it logged, so far."""
        if not self.log.closed:
            self.log.seek(0)
            self._said = self.log.read().decode()
        return self._said

    def client(self) -> Client:
        """A client, which is closed with the process."""
        self._clients.append(Client(self.port, tokens=self.tokens))
        return self._clients[-1]

    def kill(self) -> None:
        """kill -9, parent and workers; nothing where it has ended."""
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
        self._ended()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """A signal to end; the exit status."""
        self.popen.send_signal(number)
        return self._ended()

    def _ended(self) -> int:
        status = self.popen.wait(PATIENCE_S)
        self.said()
        self.log.close()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        for client in self._clients:
            client.close()
        return status
