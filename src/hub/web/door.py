"""What every route has at hand: the hub, the queue before intake, threads for reads, the figures."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request
from starlette.responses import Response

from hub.codec import is_id, parse_time
from hub.errors import Busy, PayloadError, Refused
from hub.events import Event
from hub.hub import Hub
from hub.identity.caller import Caller
from hub.intake import Result
from hub.log.clock import Untrusted
from hub.log.sealing import CITY
from hub.registry import Registry
from hub.web.access import Admitted
from hub.web.gate import Gate, entered
from hub.web.inlet import Inlet
from hub.web.operation import Metrics
from hub.web.problems import Problem, written
from hub.web.tail import Tail

T = TypeVar("T")

API = "api"
"""The source of control events that people and services append, each under ids of their own."""

_READERS = 16
_MOST_READS = 1_000
_PATIENCE_S = 2.0


class Door:
    """One worker's share of a hub."""

    def __init__(self, hub: Hub, metrics: Metrics, gate: Gate) -> None:
        self.hub, self.metrics, self.gate = hub, metrics, gate
        self.inlet = Inlet(hub.intake.take)
        self.stopping = threading.Event()
        self.tail = Tail(hub.feeds.look)
        self.streams = 0
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
        self._reads = 0
        self._cipher = AESGCM(hub.log.keyring.secret(CITY, "position")[:32])
        hub.commits.observe = metrics.committed
        hub.commits.erase = _both(hub.commits.erase, gate.sessions.erase)
        metrics.gauge("hub.queue.events", "Events that wait to be taken", "1", lambda: self.inlet.waiting)
        metrics.gauge("hub.queue.reads", "Reads that wait or run", "1", lambda: self._reads)
        metrics.gauge("hub.streams", "Streams that are open", "1", lambda: self.streams)
        metrics.gauge("hub.log.position", "The last position of the log", "1", self.position)
        metrics.gauge("hub.log.age", "Time since the last entry was recorded", "s", self._age)
        metrics.gauge_by("hub.connector.lag", "connector", "How far a polled source is behind", "s", self._lags)
        metrics.gauge_by("hub.connector.failures", "connector", "Failed rounds in a row", "1", self._failures)
        metrics.gauge_by("hub.relay.lag", "line", "How far a line to the broker is behind", "s", self._relayed)
        metrics.gauge_by("hub.relay.lag.events", "line", "Entries that a line has not sent", "1", self._unsent)
        waiting = "Disclosures that the index by person does not hold yet"
        metrics.gauge("hub.derived.lag.disclosures", waiting, "1", lambda: hub.index.lag().waiting)
        metrics.gauge("hub.clock.trusted", "1 while the clock is trusted, else 0", "1", self._clock)

    @cached_property
    def registry(self) -> Registry:
        """The hub's schemas, by subject and id."""
        return Registry(self.hub.log.schemas)

    def stop(self) -> None:
        """Take what waits, and let nobody in any more."""
        self.stopping.set()
        self.inlet.stop()
        self._readers.shutdown()

    def close(self) -> None:
        """Stop, then close the hub."""
        self.stop()
        self.hub.close()

    def position(self) -> int:
        """The last position of the log."""
        return self.hub.log.entries.max_notification_id() or 0

    def _age(self) -> float:
        with self.hub.log.entries.snapshot() as (_, end):
            return (self.hub.log.clock.now() - end.recorded_at).total_seconds() if end.recorded_at else 0.0

    def _lags(self) -> dict[str, float]:
        return {s.name: s.lag_s for s in self.hub.polling.standings() if s.lag_s is not None}

    def _failures(self) -> dict[str, float]:
        return {s.name: s.failures for s in self.hub.polling.standings()}

    def _relayed(self) -> dict[str, float]:
        return {lag.name: lag.lag_s for lag in self.hub.relayed.lags()}

    def _unsent(self) -> dict[str, float]:
        return {lag.name: lag.events for lag in self.hub.relayed.lags()}

    def _clock(self) -> float:
        return 0.0 if self.clock_problem() else 1.0

    def clock_problem(self) -> str | None:
        """Why nothing can be appended for the clock's sake; None while it is trusted. Raises Busy."""
        try:
            self.hub.log.entries.check_clock()
        except Untrusted as error:
            return str(error)
        return None

    async def read(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread. Raises Busy where too many wait."""
        if self._reads >= _MOST_READS:
            raise Busy("more is asked than can be answered")
        self._reads += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)
        finally:
            self._reads -= 1

    async def take(self, events: Sequence[Event]) -> list[Result]:
        """Hand events to intake, and count what became of them."""
        results = await self.inlet.take(events)
        for status in ("accepted", "duplicate", "refused", "waiting"):
            count = sum(result.status == status for result in results)
            if count:
                self.metrics.events(status, count)
        for result in results:
            if result.error is not None:
                self.metrics.refused(result.error.rule if isinstance(result.error, Refused) else "")
        return results

    def name_of(self, caller: Caller) -> str:
        """What stands for a caller in the trace; for a citizen a digest, so that an erasure leaves no name behind."""
        if caller.person is not None:
            return f"person:{self.hub.disclosure.name_of(caller.person)}"
        return caller.actor

    def actor(self, request: Request) -> str:
        """Who asks, as the trace names them."""
        return self.name_of(entered(request).caller)

    def id_of(self, caller: Caller, name: str | None) -> str:
        """The id of an event that `caller` calls `name`: nobody takes an id that another wants, or learns of it."""
        if name is None:
            return uuid.uuid4().hex
        return self.hub.log.keyring.digest("own", caller.actor, caller.person or "", name).hex()

    def key(self, request: Request) -> str:
        """The id for what a request makes: the same for the same `Idempotency-Key` of the same caller."""
        key = request.headers.get("idempotency-key")
        if key is not None and not is_id(key):
            raise Problem("not-read", "See errors.", [{"path": "Idempotency-Key", "reason": "is no id"}])
        return self.id_of(entered(request).caller, key)

    async def tell(
        self,
        request: Request,
        kind: str,
        data: Mapping[str, Any],
        person: str | None = None,
        *,
        part: str = "",
    ) -> Result:
        """Append one control event that a route makes; `Idempotency-Key` is its id. Raises what refused it.

        part: tells the events of one request apart.
        """
        self.gate.check_names(kind, data, person)
        said, name = signed(entered(request), data, kind), self.key(request) + part
        occurred_at = said.pop("occurred_at", None)
        if isinstance(occurred_at, str):
            try:
                occurred_at = parse_time(occurred_at)
            except PayloadError as error:
                raise PayloadError(error.reason, path="occurred_at", kind=kind) from None
        event = Event(source=API, id=name, kind=kind, person=person, occurred_at=occurred_at, data=said)
        [result] = await self.take([event])
        if result.error is not None:
            raise result.error
        return result

    def seal(self, position: int) -> str:
        """A position as it may leave (R20): sealed, never the same twice."""
        nonce = os.urandom(12)
        return (nonce + self._cipher.encrypt(nonce, position.to_bytes(8), b"position")).hex()

    def unseal(self, token: str, where: str) -> int:
        """The position that `seal` sealed. Raises Problem that names `where` the token stood."""
        try:
            sealed = bytes.fromhex(token)
            return int.from_bytes(self._cipher.decrypt(sealed[:12], sealed[12:], b"position"))
        except (ValueError, InvalidTag):
            errors = [{"path": where, "reason": "was not given out by this hub"}]
            raise Problem("not-read", "See errors.", errors) from None

    async def at_least(self, request: Request) -> None:
        """Wait until the log holds what `Hub-At-Least` asks for. Raises Busy where it does not come."""
        token = request.headers.get("hub-at-least")
        if token is None:
            return
        wanted = self.unseal(token, "Hub-At-Least")
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while await self.read(self.position) < wanted:
            if asyncio.get_running_loop().time() > deadline:
                raise Busy("the state asked for has not arrived here yet")
            await asyncio.sleep(0.05)

    def positioned(self, position: int | None) -> dict[str, str]:
        """The header that a later read may give back as `Hub-At-Least`."""
        return {} if position is None else {"Hub-Position": self.seal(position)}


def _both(
    first: Callable[[Sequence[bytes]], None], second: Callable[[Sequence[bytes]], None]
) -> Callable[[Sequence[bytes]], None]:
    def told(digests: Sequence[bytes]) -> None:
        first(digests)
        second(digests)

    return told


def signed(admitted: Admitted, data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """`data` with who did it. Raises PayloadError where it says that someone else did."""
    by, own = data.get("by"), admitted.by
    if by is not None and by != (own or admitted.caller.person):
        raise PayloadError("is not who asks; leave it out", path="by", kind=kind)
    return {**data, "by": own} if own is not None else dict(data)


def door(request: Request) -> Door:
    """The door of the worker that answers `request`."""
    found: Door = request.app.state.door
    return found


def place(request: Request, *parts: str) -> str:
    """The path of what a request made, for `Location`."""
    return quote("/".join([request.scope["path"], *parts]), safe="/")


def said(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(written(body), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def done(
    request: Request,
    result: Result,
    names: Mapping[str, Any],
    *,
    status: int | None = None,
    location: str | None = None,
) -> Response:
    """What a route answers that appended one event: 201, or 200 where it was there before; `status` where it says.

    Who reads for a recipient is told no position: from their gaps they would learn of others (R20).
    """
    at = door(request)
    body = {**names, "event": result.event.id, "status": result.status}
    if entered(request).caller.recipient is None:
        body["position"] = result.position
    headers = at.positioned(result.position)
    if location is not None and result.status == "accepted":
        headers["Location"] = location
    return said(body, status or (201 if result.status == "accepted" else 200), headers)
