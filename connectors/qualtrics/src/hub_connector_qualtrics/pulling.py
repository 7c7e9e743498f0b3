"""Responses pulled by API v3: an export is started, waited for, downloaded, and cut into pages.

    POST …/export-responses -> GET …/{progressId} until complete -> GET …/{fileId}/file -> pages of a zip of JSON lines

A continuation token has the next export hold only what was recorded since. It goes stale after some days, and tells
of no edit: so a whole export is made from time to time, and where the token is refused. What came before is known by
its id. An export that takes long is remembered in the state and waited for the next time.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from hub.connector import Fetch, Misuse, PayloadError, Pulled, Response, Settings, Unavailable, parse_time
from hub.connector.json import Field, read
from hub_connector_qualtrics import unpacking

NONE = b'{"responses": []}'
"""What is yielded where there is a state to keep, and no response."""

MOST_ROUNDS = 200
"""Exports of one poll. Each but the last brought responses that were not seen before."""

_PAGE_LINES, _PAGE_BYTES = 500, 768 * 1024
_LONGEST_LINE, _SHOWN_LINE = 768 * 1024, 1000
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 5.0
_ID = re.compile(r"[0-9A-Za-z_.-]{1,200}")
_LONGEST_TOKEN = 8 * 1024
_RESPONSE = re.compile(rb'"responseId"\s*:\s*"([^"\\]{1,100})"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """patience_s: how long one poll waits for an export. whole_h: hours between two whole exports, 0 for never."""

    patience_s: float = 60.0
    whole_h: float = 24.0


def options(settings: Settings) -> Options:
    """What the operator set. Raises Misuse."""
    patience_s, whole_h = _number(settings, "patience_s", 60, 90), _number(settings, "whole_h", 24, 8760)
    return Options(patience_s=patience_s, whole_h=whole_h)


def _number(settings: Settings, name: str, absent: float, high: float) -> float:
    value = settings.options.get(name, absent)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        raise Misuse(f"options.{name}: is no number from 0 to {high}")
    return float(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Where to go on. survey: whose it is.

    token: what continues the last export. asked_at, whole_at: by Qualtrics' clock, when the last export and the last
    whole one were started. export: one that was started and is not taken yet; whole: whether it is of everything.
    """

    survey: str
    token: str | None = None
    asked_at: str | None = None
    whole_at: str | None = None
    export: str | None = None
    whole: bool = True

    def text(self) -> str:
        """As the hub keeps it."""
        return json.dumps(asdict(self))

    def is_stale(self, whole_h: float) -> bool:
        """Whether the last whole export is long ago, by the last one's time."""
        if not whole_h or self.asked_at is None or self.whole_at is None:
            return False
        return parse_time(self.asked_at) - parse_time(self.whole_at) >= timedelta(hours=whole_h)


def _remembered(state: str | None, survey: str) -> Memory:
    """What the state says; nothing where it is of another survey, or of another version of this connector."""
    try:
        said = json.loads(state) if state else {}
        found = Memory(**said)
        for moment in (found.asked_at, found.whole_at):
            if moment is not None:
                parse_time(moment)
    except (ValueError, TypeError, PayloadError):
        return Memory(survey=survey)
    return found if found.survey == survey else Memory(survey=survey)


class Pull:
    """One poll of one survey."""

    def __init__(self, survey: str, token: str, options: Options, fetch: Fetch) -> None:
        self._survey, self._options, self._fetch = survey, options, fetch
        self._headers = {"X-API-TOKEN": token, "Content-Type": "application/json", "Accept": "application/json"}
        self._exports = f"API/v3/surveys/{survey}/export-responses"
        self._seen: set[bytes] = set()

    def run(self, state: str | None) -> Iterator[Pulled]:
        """All pages that there are now. Raises Unavailable, Misuse."""
        memory = _remembered(state, self._survey)
        if memory.export is None and memory.is_stale(self._options.whole_h):
            memory = replace(memory, token=None)
        for _ in range(MOST_ROUNDS):
            started, done = self._exported(memory)
            if done is None:
                yield Pulled(payload=NONE, state=started.text())
                return
            body = self._file(done)
            after = _after(started, done)
            before, is_new = len(self._seen), False
            for page, is_last in _marked(self._pages(body)):
                self._seen.update(_RESPONSE.findall(page))
                is_new = len(self._seen) > before
                yield Pulled(
                    payload=page, state=(after if is_last else started).text(), up_to=_up_to(after) if is_last else None
                )
            memory = after
            if not is_new or memory.token is None:
                return

    def _exported(self, memory: Memory) -> tuple[Memory, Field | None]:
        """An export that was started and what its progress says when it is complete; None where it takes too long."""
        if memory.export is not None:
            done = self._waited(memory.export)
            if done is not _LOST:
                return memory, done
        started = self._start(replace(memory, export=None))
        done = self._waited(str(started.export))
        if done is _LOST:
            raise Unavailable("Qualtrics could not make the export; another is started")
        return started, done

    def _start(self, memory: Memory) -> Memory:
        """Start an export: of what is new by the token, of everything where there is none or it is refused."""
        said: dict[str, Any] = {"format": "ndjson", "compress": True}
        said |= {"continuationToken": memory.token} if memory.token else {"allowContinuation": True}
        answer = self._fetch(
            self._exports,
            method="POST",
            headers=self._headers,
            body=json.dumps(said).encode(),
            allow=(400, 404) if memory.token else (),
        )
        if answer.status in (400, 404):
            return self._start(replace(memory, token=None))
        asked_at = _date(answer)
        return replace(
            memory,
            export=_named(_result(answer), "progressId"),
            whole=memory.token is None,
            asked_at=asked_at,
            whole_at=asked_at if memory.token is None else memory.whole_at,
        )

    def _waited(self, export: str) -> Field | None:
        """What is said of an export that is complete; None where it takes too long, _LOST where nothing comes of it."""
        wait_s, waited_s = _FIRST_WAIT_S, 0.0
        while True:
            answer = self._fetch(f"{self._exports}/{export}", headers=self._headers, allow=(404,))
            if answer.status == 404:
                return _LOST
            progress = _result(answer)
            status = progress.optional("status")
            if status and status.value == "complete":
                return progress
            if status and status.value == "failed":
                return _LOST
            if waited_s + wait_s > self._options.patience_s:
                return None
            time.sleep(wait_s)
            waited_s, wait_s = waited_s + wait_s, min(wait_s * 2, _LONGEST_WAIT_S)

    def _file(self, done: Field) -> bytes:
        file = _named(done, "fileId")
        answer = self._fetch(f"{self._exports}/{file}/file", headers=self._headers, allow=(404,))
        if answer.status == 404:
            raise Unavailable("the file of the export has gone; another is started")
        return answer.body

    def _pages(self, body: bytes) -> Iterator[bytes]:
        """The export in pages of whole lines. Raises Unavailable where it does not unpack: it came damaged."""
        pieces = unpacking.pieces(body, unpacking.LARGEST_PULLED_BYTES) if unpacking.is_zip(body) else iter((body,))
        page: list[bytes] = []
        size = 0
        try:
            for line in _lines(pieces):
                if page and (len(page) == _PAGE_LINES or size + len(line) > _PAGE_BYTES):
                    yield b"\n".join(page)
                    page, size = [], 0
                page.append(line)
                size += len(line)
        except PayloadError as error:
            raise Unavailable(f"the file of the export {error.reason}; it is asked for again") from None
        if page:
            yield b"\n".join(page)


_LOST = Field(None)


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The lines that are not empty. Of one that is too long only the beginning, which is then refused and kept."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from _short(whole)
        if len(rest) > 2 * _LONGEST_LINE:
            rest = rest[: _LONGEST_LINE + 1]
    yield from _short([rest])


def _short(lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line.strip():
            yield line if len(line) <= _LONGEST_LINE else line[:_SHOWN_LINE]


def _marked(pages: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each page, and whether it is the last; one without a response where there is none."""
    page = next(pages, NONE)
    for following in pages:
        yield page, False
        page = following
    yield page, True


def _after(started: Memory, done: Field) -> Memory:
    """Where to go on once the export is taken. A token that the reply does not renew is used again."""
    token = done.optional("continuationToken")
    if token is None or not isinstance(token.value, str) or not 0 < len(token.value) <= _LONGEST_TOKEN:
        return replace(started, export=None)
    return replace(started, export=None, token=token.value)


def _up_to(memory: Memory) -> datetime | None:
    return parse_time(memory.asked_at) if memory.asked_at else None


def _result(answer: Response) -> Field:
    try:
        return read(answer.body).need("result")
    except PayloadError:
        raise Unavailable("Qualtrics answers in another form than its API's") from None


def _named(said: Field, name: str) -> str:
    """An id, as a step of an address."""
    found = said.value.get(name) if isinstance(said.value, Mapping) else None
    if not isinstance(found, str) or not _ID.fullmatch(found) or found.strip(".") == "":
        raise Unavailable(f"Qualtrics answers without a {name}")
    return found


def _date(answer: Response) -> str | None:
    """When Qualtrics answered, by its own clock."""
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).astimezone(UTC).isoformat()
    except (TypeError, ValueError, OverflowError):
        return None
