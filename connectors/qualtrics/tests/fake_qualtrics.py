"""A Qualtrics that is not there: the response export of API v3 over real HTTP, with faults by a script.

    with FakeQualtrics(TOKEN) as there:
        there.responses.append(response(1, "aizu-0001"))
        there.script("file", "cut", None)      # the first download breaks off, the second is fine
        ... ask there.url ...
        there.asked                             # [("POST", "/API/v3/surveys/…", {…}), …]

Faults: a status (429 says `Retry-After: 7`), `hang` (no answer for a while), `hang up`, `cut` (breaks off in the
middle), `garbage` (bytes that are none of ours), and of progress `slow` (still in progress) and `failed`.
"""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SURVEY = "SV_0aizuShelter001"
HANG_S = 60.0


def response(number: int, ref: str, **values: Any) -> dict[str, Any]:
    at = f"2026-06-02T{number // 60 % 24:02d}:{number % 60:02d}:00Z"
    said = {"endDate": at, "recordedDate": at, "status": 0, "finished": 1, "distributionChannel": "anonymous"}
    said |= {"_recordId": f"R_0aizu{number:010d}", "RegionalId": ref, "QID1": 1, **values}
    return {"responseId": said["_recordId"], "values": said, "labels": {"QID1": "無事"}}


class FakeQualtrics:
    """page: the most responses of one export. overlap: how many a continued one repeats. turned: in reverse order.

    steps: how often an export is still in progress. names_tokens: whether a reply gives a token to go on by.
    """

    def __init__(self, token: str, *, page: int | None = None, overlap: int = 0, turned: bool = False) -> None:
        self.responses: list[dict[str, Any]] = []
        self.page, self.overlap, self.turned = page, overlap, turned
        self.steps, self.names_tokens, self.compresses = 1, True, True
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self._token = token
        self._faults: defaultdict[str, deque[Any]] = defaultdict(deque)
        self._exports: dict[str, dict[str, Any]] = {}
        self._continued: dict[str, int] = {}
        self._lock, self.over = threading.Lock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def script(self, route: str, *faults: Any) -> None:
        """What goes wrong at the next requests to `start`, `progress` or `file`; None for nothing."""
        self._faults[route].extend(faults)

    def expire(self) -> None:
        """Forget every continuation token, as after a week."""
        self._continued.clear()

    def starts(self) -> list[dict[str, Any]]:
        return [body for method, _, body in self.asked if method == "POST"]

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[Any, int, bytes]:
        """A fault, a status and a body."""
        with self._lock:
            said = json.loads(body) if body else {}
            self.asked.append((method, path, said))
            self.headers.append(headers)
            if headers.get("x-api-token") != self._token:
                return None, 401, _reply(error="Unauthorized")
            steps = path.strip("/").split("/")
            if steps[:3] != ["API", "v3", "surveys"] or steps[3] != SURVEY or steps[4] != "export-responses":
                return None, 404, _reply(error="Not Found")
            route = "start" if method == "POST" else "file" if steps[-1] == "file" else "progress"
            fault = self._faults[route].popleft() if self._faults[route] else None
            if isinstance(fault, int):
                return fault, fault, _reply(error="scripted")
            status, reply = getattr(self, f"_{route}")(steps, said, fault)
            return fault, status, reply

    def _start(self, steps: list[str], said: dict[str, Any], fault: Any) -> tuple[int, bytes]:
        token = said.get("continuationToken")
        if said.get("format") != "ndjson" or (token is not None and token not in self._continued):
            return 400, _reply(error="Bad Request")
        first = self._continued[token] if token else 0
        last = len(self.responses) if self.page is None else min(first + self.page, len(self.responses))
        rows = self.responses[max(0, first - self.overlap) if token else 0 : last]
        name = f"ES_{len(self._exports)}"
        self._exports[name] = {"rows": json.loads(json.dumps(rows)), "last": last, "steps": self.steps}
        return 200, _reply({"progressId": name, "percentComplete": 0.0, "status": "inProgress"})

    def _progress(self, steps: list[str], said: dict[str, Any], fault: Any) -> tuple[int, bytes]:
        export = self._exports.get(steps[5])
        if export is None:
            return 404, _reply(error="Not Found")
        if fault == "failed":
            return 200, _reply({"percentComplete": 100.0, "status": "failed", "fileId": None})
        if fault == "slow" or export["steps"] > 0:
            export["steps"] -= fault != "slow"
            return 200, _reply({"percentComplete": 50.0, "status": "inProgress"})
        result = {"percentComplete": 100.0, "status": "complete", "fileId": f"{steps[5]}-def"}
        if self.names_tokens:
            token = f"token/+={len(self._continued)}"
            self._continued[token] = export["last"]
            result["continuationToken"] = token
        return 200, _reply(result)

    def _file(self, steps: list[str], said: dict[str, Any], fault: Any) -> tuple[int, bytes]:
        export = self._exports.get(steps[5].removesuffix("-def"))
        if export is None:
            return 404, _reply(error="Not Found")
        rows = export["rows"][::-1] if self.turned else export["rows"]
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        if fault == "garbage":
            return 200, b"PK\x03\x04 and nothing that can be unpacked"
        if not self.compresses:
            return 200, content
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("避難所アンケート.json", content)
        return 200, packed.getvalue()


def _reply(result: Any = None, *, error: str | None = None) -> bytes:
    meta: dict[str, Any] = {"requestId": "0", "httpStatus": "200 - OK"}
    if error is not None:
        return json.dumps({"meta": {**meta, "httpStatus": error, "error": {"errorMessage": error}}}).encode()
    return json.dumps({"result": result, "meta": meta}).encode()


def _handler(there: FakeQualtrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._do()

        def do_POST(self) -> None:
            self._do()

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            fault, status, reply = there.answer(self.command, self.path, headers, body)
            if fault == "hang":
                there.over.wait(HANG_S)
            if fault in ("hang", "hang up"):
                self.close_connection = True
                return
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "7")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply[: len(reply) // 2] if fault == "cut" else reply)
            self.close_connection = self.close_connection or fault == "cut"

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    return Handler
