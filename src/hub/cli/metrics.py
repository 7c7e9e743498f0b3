"""Metrics of commands that run for long without answering over HTTP: Prometheus' text, on a port of their own.

No figure is about a person, and a label's values are those that are listed here. Whoever reaches the port may read
them, so it is on loopback where no address is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from hub.errors import HubError, Misuse

if TYPE_CHECKING:
    from hub.relay.derive import Derived
    from hub.relay.ingest import Came

STATUSES = ("accepted", "duplicate", "waiting", "refused")
"""What may become of an event; no other value does the label have."""

_LOOPBACK = "127.0.0.1"


class Figures:
    """The figures of one command, read when they are asked for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """A figure that is read when it is asked for; left out while it cannot be, as of a database that is away."""
        self.registry.register(_Read(name, description, read))

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        """A figure that only grows."""
        return Counter(name, description, labels, registry=self.registry)

    @contextmanager
    def shown(self, at: str | None) -> Iterator[Self]:
        """Have them answered at `[HOST:]PORT`, if that is named, as long as the block runs. Raises Misuse."""
        if at is None:
            yield self
            return
        host, port = _address(at)
        try:
            server, thread = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise Misuse(f"--metrics-port: {at} cannot be listened on: {error.strerror}") from None
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Read(Collector):
    def __init__(self, name: str, description: str, read: Callable[[], float]) -> None:
        self._name, self._description, self._read = name, description, read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._description)
        with suppress(HubError, SQLAlchemyError):
            family.add_metric([], self._read())
        yield family


class DeriveFigures(Figures):
    """lag: disclosures that wait. Shares and records are those of a member of the group (`--kafka`)."""

    def __init__(self, lag: Callable[[], float]) -> None:
        super().__init__()
        self._shares = 0
        self.gauge("hub_derived_lag_disclosures", "Disclosures that the index does not hold yet", lag)
        self.gauge("hub_derived_shares", "Partitions of hub.events that this member has", lambda: self._shares)
        self._records = self.counter("hub_derived_records", "Records of hub.events that this member took")
        self._failures = self.counter("hub_derived_failures", "Tries that failed; each is made again")

    def __call__(self, derived: Derived) -> None:
        self._shares = derived.shares
        self._records.inc(derived.records)
        if derived.error is not None:
            self.failed()

    def failed(self) -> None:
        """A try failed."""
        self._failures.inc()


class IngestFigures(Figures):
    """What became of what came by the topic, and how much is left there for this member."""

    def __init__(self, *, shares: Callable[[], float], left: Callable[[], float]) -> None:
        super().__init__()
        self.gauge("hub_ingest_shares", "Partitions of hub.ingest that this member has", shares)
        self.gauge("hub_ingest_lag_records", "Records of its partitions that this member has not read", left)
        events = self.counter("hub_ingest_events", "Events that came by the topic, by status", ["status"])
        self._events = {status: events.labels(status=status) for status in STATUSES}
        self._failures = self.counter("hub_ingest_failures", "Tries that failed; each is made again")

    def __call__(self, came: Came) -> None:
        for status, count in came.counts.items():
            self._events[status].inc(count)
        if came.error is not None:
            self._failures.inc()


def _address(at: str) -> tuple[str, int]:
    host, _, port = at.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise Misuse(f"--metrics-port: {at} is no port, nor HOST:PORT")
    return host.strip("[]") or _LOOPBACK, int(port)
