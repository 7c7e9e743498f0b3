"""The SDK: all that a connector's author imports. `hub.connector.json`, `.xml` and `.table` read payloads safely.

A connector turns a source's own payload into events:

    payload --+-- POST /v1/connectors/NAME (verify) --+
              +-- hub import NAME FILE ---------------+--> translate --> intake
              +-- hub poll (poll) --------------------+

`translate` is pure: the same payload gives the same events, with the same ids, whenever it is asked; it touches no
network, no file, no clock and no chance. Where the source knows people by its own ids, an event has that id as its
`ref`, and no `person`. A connector is found by its entry point, which is called with its `Settings`:

    [project.entry-points."hub.connectors"]
    jma = "hub_connector_jma:JMA"

What a connector can do besides is told by the methods that it has: `Verifies`, `Polls`, `Renders`, `Measures`,
`Schemed`. `hub connectors check PATH` judges one; docs/connectors.md leads through it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from json import dumps
from typing import Any, Protocol, runtime_checkable

from hub.codec import is_id, parse_time
from hub.errors import Misuse, PayloadError, Unavailable, Unsigned
from hub.events import Event

__all__ = [
    "GROUP",
    "QUALITY",
    "Connector",
    "Event",
    "Fetch",
    "Measures",
    "Misuse",
    "PayloadError",
    "Polls",
    "Pulled",
    "Rejected",
    "Renders",
    "Request",
    "Response",
    "Schemed",
    "Settings",
    "Translation",
    "Unavailable",
    "Unsigned",
    "Verifies",
    "is_id",
    "parse_time",
    "stable_id",
]

GROUP = "hub.connectors"

QUALITY: Mapping[str, str] = {
    "refs": "people are named by the source's own ids, in `ref`",
    "corrections": "what the source corrects or withdraws is retracted",
    "drills": "what the source marks as a drill is an exercise",
    "signature": "a webhook's signature is checked: `verify`",
    "polling": "the source is asked, and goes on where it was: `poll`",
    "hostile": "what is huge, packed, nested or wrongly encoded is refused quickly; a test shows it",
    "measured": "`sample` makes payloads for `hub bench`",
    "documented": "README.md says which version of the format is read, and what is not",
}
"""What a connector says of itself, in `quality`: `done`, or `exempt: ` and the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the operator set for one connector in the file of HUB_CONNECTORS; empty where nothing was.

    options: plain values. files: the content of each file that is named there, so that `translate` opens none.
    secrets: each from a file or the environment. They belong in no event, error or log.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def option(self, name: str) -> Any:
        """One option. Raises Misuse where it is not set."""
        if name not in self.options:
            raise Misuse(f"options.{name} is not set")
        return self.options[name]

    def secret(self, name: str) -> str:
        """One secret. Raises Misuse where it is not set."""
        if name not in self.secrets:
            raise Misuse(f"secrets.{name} is not set")
        return self.secrets[name]


UNSET = Settings()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A part of a payload that cannot be read: a row, a record. The rest is taken.

    payload: that part alone, in a form that `translate` reads, so that it can be mended and replayed; empty where
    there is none. refs: the source's ids of the people whom it is about, so that an erasure reaches it.
    """

    error: PayloadError
    payload: bytes = b""
    refs: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """What a payload says.

    events: in the order in which they are to be appended; empty where the payload holds none.
    nothing: why it holds none, for the person who sent it, without a value of the payload; None where it holds some.
    rejected: the parts that cannot be read.
    reported_at: the payload's own report time, aware; None where it states none.
    wake: the payload only says that there is something to ask for: poll now.
    """

    events: Sequence[Event] = ()
    nothing: str | None = None
    rejected: Sequence[Rejected] = ()
    reported_at: datetime | None = None
    wake: bool = False


@runtime_checkable
class Connector(Protocol):
    """What the hub asks of a connector.

    name: as in `hub import NAME`. source: the `source` of its events.
    kinds: the kinds that it emits, each known to the hub by a schema; of control kinds only `fact.retracted` and
    `consent.requested`. quality: of each rule in QUALITY, `done` or `exempt: ` and the reason.
    """

    name: str
    source: str
    kinds: Sequence[str]
    quality: Mapping[str, str]

    def translate(self, payload: bytes) -> Translation:
        """What `payload` says. Raises PayloadError with the field's path and a reason without its value."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A webhook as it came. headers: names in lower case. body: as `translate` gets it."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@runtime_checkable
class Verifies(Protocol):
    """A connector whose source signs its webhooks. Such a request needs no token.

    signed: the secret without which there is nothing to verify by; where it is not set, the door is closed.
    """

    signed: str

    def verify(self, request: Request) -> None:
        """Return if the source signed this request, compared in constant time. Raises Unsigned."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """What a source answered, with a status of 2xx, 304, or one that was asked for. headers: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Fetch(Protocol):
    """How a connector asks its source; the hub sees to addresses, time, size, waiting and secrets in URLs."""

    def __call__(
        self,
        path: str,
        *,
        method: str = "GET",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        allow: Sequence[int] = (),
    ) -> Response:
        """The answer to one request below the source's `url`. allow: further statuses that are no error.

        `path` may be a whole URL where it lies below `url`. Raises Unavailable for what may pass (no answer, 408,
        425, 429, 5xx), Misuse for what the operator has to mend (401, 403, 404, a secret in the URL).
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulled:
    """A payload that was asked for.

    state: where to go on once all of this payload is durable, at most 16 KiB, without anything of a person.
    up_to: how far in the source's own time everything was pulled, aware; None where it does not say.
    """

    payload: bytes = field(repr=False)
    state: str
    up_to: datetime | None = None


@runtime_checkable
class Polls(Protocol):
    """A connector that asks its source. It keeps nothing between two calls."""

    def poll(self, state: str | None, fetch: Fetch) -> Iterator[Pulled]:
        """What came since `state`, page by page; None: from the beginning. The hub translates and appends each page
        before it asks for the next. Ends where there is nothing more for now."""
        ...


@runtime_checkable
class Renders(Protocol):
    """A connector that writes an answer in its own format too.

    media_types: those that it offers for `Accept`.
    """

    media_types: Sequence[str]

    def render(self, answer: Mapping[str, Any], media_type: str) -> bytes:
        """A view's answer (`view/1`, parsed) in `media_type`: the same facts, none added, none of another person."""
        ...


@runtime_checkable
class Measures(Protocol):
    """A connector whose throughput `hub bench` measures."""

    def sample(self, records: int) -> bytes:
        """A payload of about `records` records, of made-up people or places, that `translate` takes whole."""
        ...


@runtime_checkable
class Schemed(Protocol):
    """A connector with kinds of its own.

    schemas: the content of each schema file by its name, `<kind>.<version>.avsc`.
    """

    schemas: Mapping[str, bytes]


def stable_id(*parts: str | int | None) -> str:
    """An id of 32 hexadecimal digits that depends on the parts alone, for what its source gives none."""
    return hashlib.sha256(dumps(parts, ensure_ascii=False).encode()).hexdigest()[:32]
