"""Connectors of the tests, installed as anyone's are: a module and an entry point on the path. And their source."""

from __future__ import annotations

import importlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hub import plugins

TOWN = '''
import hmac, json
from hub.connector import Event, PayloadError, Pulled, Rejected, Translation, Unsigned, parse_time
from hub.connector.json import read, written

QUALITY = {rule: "done" for rule in ("refs", "drills", "hostile", "documented")}


class Plugin:
    """A source whose records are {"id", "user", "status", "undo"?}; pages are {"records", "next"?}."""

    name = source = "NAME"
    kinds = ("safety.answered", "fact.retracted", "consent.requested")
    quality = QUALITY
    signed = "webhook"

    def __init__(self, settings):
        self.settings = settings

    def translate(self, payload):
        said = read(payload)
        if said.optional("ping"):
            return Translation(nothing="there is something to ask for", wake=True)
        events, rejected = [], []
        for record in said.need("records").items():
            try:
                events.append(self._event(record))
            except PayloadError as error:
                alone = written({"records": [record.value]})
                refs = [record.value["user"]] if isinstance(record.value.get("user"), str) else []
                rejected.append(Rejected(error=error, payload=alone, refs=refs))
        return Translation(events=events, rejected=rejected, nothing=None if events or rejected else "no record")

    def _event(self, record):
        user, name = record.need("user").word(), record.need("id").word()
        if undo := record.optional("undo"):
            return Event(source=self.source, id=name, kind="fact.retracted", ref=user, data={"event": undo.word()})
        if asks := record.optional("asks"):
            data = {"request": name, "recipient": asks.word(), "kinds": ["care.*"], "purpose": "rescue"}
            return Event(source=self.source, id=name, kind="consent.requested", ref=user, data=data)
        data = {"status": record.need("status").word()}
        return Event(source=self.source, id=name, kind="safety.answered", ref=user, data=data)

    def verify(self, request):
        wanted = hmac.new(self.settings.secret("webhook").encode(), request.body, "sha256").hexdigest()
        if not hmac.compare_digest(request.headers.get("x-signature", ""), wanted):
            raise Unsigned("the signature does not hold")

    def poll(self, state, fetch):
        at = json.loads(state)["next"] if state else "0"
        while at:
            answer = fetch("records", params={"from": at}, headers={"X-Token": self.settings.secret("token")})
            page = json.loads(answer.body)
            at = page.get("next")
            up_to = parse_time(page["up_to"]) if "up_to" in page else None
            yield Pulled(payload=answer.body, state=json.dumps({"next": at or page["last"]}), up_to=up_to)
            if page.get("next") is None:
                return
'''


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, code: str = TOWN) -> None:
    """Put a connector called `name` on the path, with its entry point."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"source_{name}.py").write_text(code.replace("NAME", name))
    info = folder / f"source_{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: source-{name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[hub.connectors]\n{name} = source_{name}:Plugin\n")
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop(f"source_{name}", None)  # another test's of the same name
    find_anew(monkeypatch)


def uninstall(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """Take a connector off the path again, as by `pip uninstall`."""
    (folder / f"source_{name}.py").unlink()
    shutil.rmtree(folder / f"source_{name}-1.dist-info")
    sys.modules.pop(f"source_{name}", None)
    find_anew(monkeypatch)


def find_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the entry points looked for again, as a new process does; no later test finds those of this one."""
    importlib.invalidate_caches()
    monkeypatch.setattr(plugins, "_points", cache(plugins._points.__wrapped__))


@dataclass
class Source:
    """A source over real HTTP. answers: what is answered to each request, in order, the last one for ever: status,
    headers, body; `None` hangs up, a number sends half and hangs up."""

    answers: list[Callable[[str], Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""


@contextmanager
def source(*answers: Callable[[str], Any]) -> Iterator[Source]:
    """Serve a source on this machine until the end of the block."""
    here = Source(list(answers))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                here.bodies.append(body)
                here.asked.append(self.path)
                here.headers.append({name.lower(): value for name, value in self.headers.items()})
                answer = here.answers[0] if len(here.answers) == 1 else here.answers.pop(0)
            said = answer(self.path)
            if said is None:
                self.close_connection = True
                return
            status, headers, body, *cut = said
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: cut[0]] if cut else body)
            self.close_connection = bool(cut)

        do_POST = do_GET  # noqa: N815 -- the name that http.server asks for

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Whoever hangs up is meant to."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    here.url = f"http://127.0.0.1:{server.server_address[1]}/api"
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
