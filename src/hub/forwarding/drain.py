"""Sending what the outbox holds: by batches, the urgent first, again and again until the hub acknowledges it."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from hub.connector.json import parse
from hub.errors import Busy, HubError, Misuse, PayloadError, Unavailable
from hub.fetching import Fetcher
from hub.forwarding.outbox import Outbox, Waiting
from hub.web.access import NOT_THEIRS
from hub.web.cloudevents import NDJSON

AT_ONCE = 1_000
BATCH_BYTES = 4 * 1024 * 1024
FIRST_S, LONGEST_S = 1.0, 60.0
"""How long it waits after a first failure, and at the most; twice as long after each."""

LONGEST_ASKED_S = 600.0
"""Of `Retry-After`: a day that a proxy on the way asks for would hold up calls for help."""

_IDLE_S = 0.5
_TAKEN = ("accepted", "duplicate", "waiting")
_PROBLEM = b"urn:saigai-hub:problem:"
"""What every refusal of a hub holds; a proxy's does not, and must not be taken for the hub's word."""

_FOREIGN = "the token's bearer may not append some events; see its role and source"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What one batch came to. error: why it has to be sent again, None where it need not."""

    taken: int = 0
    refused: int = 0
    error: str | None = None
    wait_s: float = 0.0


class Drain:
    """Sends one outbox to one hub. token: the file with the bearer token, read anew for each batch."""

    def __init__(self, outbox: Outbox, url: str, token: Path) -> None:
        """Raises Misuse for a url that is not the hub's, over TLS or on this machine."""
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.username:
            raise Misuse("--to is no http URL of a hub, as https://hub.example")
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise Misuse("--to is not https, and not on this machine")
        self._outbox, self._token, self._fetch = outbox, token, Fetcher(url, whom="the hub")
        self._limit, self._failures = AT_ONCE, 0

    def close(self) -> None:
        """Close the connection."""
        self._fetch.close()

    def once(self) -> Sent | None:
        """Send one batch; None where nothing waits."""
        batch = self._outbox.next(self._limit, BATCH_BYTES)
        if not batch:
            return None
        try:
            done, refused, foreign = self._send(batch)
        except HubError as error:
            self._failures += 1
            return Sent(error=str(error), wait_s=self._wait_s(error))
        try:
            fresh = self._outbox.settle(done, refused, foreign)
        except (SQLAlchemyError, Busy) as error:  # as of a full disk: sent again, they are duplicates there
            self._failures += 1
            reason = f"the outbox cannot be written ({type(error).__name__}); see the disk"
            return Sent(error=reason, wait_s=self._wait_s(Busy(reason)))
        if foreign and not (done or refused or fresh):  # nothing else is left to be sent
            self._failures += 1
            return Sent(error=_FOREIGN, wait_s=self._wait_s(Misuse(_FOREIGN)))
        self._failures, self._limit = 0, min(AT_ONCE, self._limit * 2)
        return Sent(taken=len(done), refused=len(refused), error=_FOREIGN if foreign else None)

    def _send(self, batch: Sequence[Waiting]) -> tuple[list[int], list[tuple[int, str]], list[int]]:
        """The numbers of what was taken, of what was refused with the reason, and of what the token's bearer may not
        append. Raises HubError for the whole."""
        headers = {"Authorization": f"Bearer {self._bearer()}", "Content-Type": NDJSON}
        body = b"\n".join(waiting.body for waiting in batch)
        answer = self._fetch("v1/events", method="POST", headers=headers, body=body, allow=(400, 413, 415, 422))
        if answer.status != 200 and _PROBLEM not in answer.body[:4096]:
            raise Unavailable(f"something on the way to the hub answers {answer.status}")
        if answer.status != 200:
            if len(batch) == 1:
                return [], [(batch[0].number, f"the hub answers {answer.status} to it")], []
            self._limit = max(1, len(batch) // 2)
            raise Unavailable(f"the hub answers {answer.status} to a batch; a smaller one follows", retry_after_s=0)
        try:
            results = parse(answer.body)["results"]
            pairs = list(zip(batch, results, strict=True))
            statuses = [(waiting.number, str(result["status"]), result.get("error") or {}) for waiting, result in pairs]
        except (PayloadError, KeyError, TypeError, ValueError, AttributeError):
            raise Unavailable("the answer is not that of a hub") from None
        done = [number for number, status, _ in statuses if status in _TAKEN]
        foreign = [number for number, _, error in statuses if error.get("reason") == NOT_THEIRS]
        left = {number: error for number, _, error in statuses}.keys() - set(done) - set(foreign)
        refused = [(number, _reason(error)) for number, _, error in statuses if number in left]
        return done, refused, foreign

    def _bearer(self) -> str:
        try:
            token = self._token.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise Misuse("--token-file names no file that can be read") from None
        if not token or not token.isascii() or not token.isprintable():
            raise Misuse("--token-file holds no token")
        return token

    def _wait_s(self, error: HubError) -> float:
        asked_s = error.retry_after_s if isinstance(error, Unavailable) else None
        if asked_s == 0:
            return 0.0
        backoff_s = min(FIRST_S * 2.0 ** min(self._failures - 1, 20), LONGEST_S)
        return max(min(asked_s or 0.0, LONGEST_ASKED_S), backoff_s * random.uniform(1.0, 1.25))  # noqa: S311 -- no secret hangs on it

    def run(self, stop: threading.Event, told: Callable[[Sent], None], *, until_empty: bool = False) -> None:
        """Send until `stop`, or until nothing waits. told: of each batch."""
        while not stop.is_set():
            sent = self.once()
            if sent is None:
                if until_empty:
                    return
                stop.wait(_IDLE_S)
                continue
            with suppress(SQLAlchemyError, Busy):
                self._outbox.say(error=sent.error or "", failures=str(self._failures))
            told(sent)
            if sent.wait_s:
                stop.wait(sent.wait_s)


def _reason(error: object) -> str:
    """What the hub says of an event, which holds no value of it."""
    if not isinstance(error, dict):
        return "refused"
    said = [error.get(name) for name in ("path", "reason", "rule")]
    return ": ".join(part for part in said if isinstance(part, str) and part) or json.dumps("refused")
