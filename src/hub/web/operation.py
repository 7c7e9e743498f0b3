"""Operation: what the hub says of itself in metrics and logs. Fields are allowed by name; no person's data is.

Metrics are OpenTelemetry's, shown in Prometheus' text at /metrics for all workers of a machine: each
worker writes its own to a file, whoever is asked puts them together.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from hub.errors import HubError

ALLOWED = frozenset(
    {"event", "level", "timestamp", "worker", "method", "route", "status", "ms", "bytes", "problem", "error", "where"}
    | {"host", "port", "workers", "connector", "database", "logger", "count", "signal", "reason"}
)
"""The fields that a log line may have."""

PREFIX = "/v1"
"""Where the API begins."""

_MS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


def _only_allowed(_: Any, __: str, said: Any) -> Any:
    return {name: value for name, value in said.items() if name in ALLOWED}


def configure_logs(worker: int) -> None:
    """Write JSON lines to standard error, fields from the allow-list alone.

    Each line and its end are one write: workers share the file, and would run their lines together.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_allowed,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(worker=worker)
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    root.setLevel(logging.WARNING)


class _Foreign(logging.Handler):
    """What a library logs: its name, level and place, never its text, which may hold anything."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        where = f"{Path(record.pathname).name}:{record.lineno}"
        log().warning("library", logger=record.name, where=where, error=error)


def log() -> Any:
    """The logger."""
    return structlog.get_logger()


def where(error: BaseException) -> str:
    """The innermost place of an error, as file and line: no value."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


class Metrics:
    """The figures of one worker. folder: where the workers of this machine leave theirs for each other."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._folder, self._worker = folder, worker
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        reader = PrometheusMetricReader(registry=self._registry, disable_target_info=True)
        views = [
            View(instrument_name="hub.commit.*", aggregation=ExplicitBucketHistogramAggregation(_SIZES)),
            View(instrument_name="hub.request.duration", aggregation=ExplicitBucketHistogramAggregation(_MS)),
        ]
        self.provider = MeterProvider([reader], views=views)
        meter = self.provider.get_meter("hub")
        self._meter = meter
        self._requests = meter.create_histogram("hub.request.duration", "ms", "Time to an answer, by route")
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._counted("hub.events", "status", "Events that intake answered, by status")
        self._counted("hub.decisions", "outcome", "Reads that were decided, by outcome")
        self._counted("hub.refusals", "rule", "Events refused, by rule")
        self._jobs = meter.create_histogram("hub.commit.jobs", description="Requests that shared a commit")
        self._sizes = meter.create_histogram("hub.commit.events", description="Entries of a commit")

    def gauge(self, name: str, description: str, unit: str, read: Callable[[], float]) -> None:
        """A figure that is read when it is asked for; left out while it cannot be, as of a database that is away."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            with suppress(HubError, SQLAlchemyError):
                return [Observation(read())]
            return []

        self._meter.create_observable_gauge(name, [observe], unit, description)

    def gauge_by(
        self, name: str, label: str, description: str, unit: str, read: Callable[[], dict[str, float]]
    ) -> None:
        """Figures by a label, read when they are asked for; left out while they cannot be."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            with suppress(HubError, SQLAlchemyError):
                return [Observation(value, {label: of}) for of, value in read().items()]
            return []

        self._meter.create_observable_gauge(name, [observe], unit, description)

    def _counted(self, name: str, label: str, description: str) -> None:
        """A counter that is read when it is asked for: counting costs less than telling each time."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                counts = dict(self._counts)
            return [Observation(count, {label: value}) for (of, value), count in counts.items() if of == name]

        self._meter.create_observable_counter(name, [observe], description=description)

    def _count(self, name: str, value: str, more: int = 1) -> None:
        with self._lock:
            self._counts[name, value] += more

    def request(self, method: str, route: str, status: int, ms: float) -> None:
        """A request was answered. route: the template, never the path."""
        self._requests.record(ms, {"method": method, "route": route, "status": status})

    def events(self, status: str, count: int) -> None:
        """Intake answered."""
        self._count("hub.events", status, count)

    def refused(self, rule: str) -> None:
        """An event was refused; an empty rule means its payload."""
        self._count("hub.refusals", rule or "payload")

    def decided(self, outcome: str) -> None:
        """A read was decided."""
        self._count("hub.decisions", outcome)

    def committed(self, jobs: int, events: int) -> None:
        """A transaction was made durable."""
        self._jobs.record(jobs)
        self._sizes.record(events)

    def leave(self) -> None:
        """Leave this worker's figures where the others find them."""
        text = generate_latest(self._registry)
        fresh = self._folder / f"{self._worker}.fresh"
        fresh.write_bytes(text)
        os.replace(fresh, self._folder / f"{self._worker}.prom")

    def text(self) -> str:
        """The figures of all workers, each sample with its worker."""
        self.leave()
        families: dict[str, tuple[list[str], list[str]]] = {}
        for path in sorted(self._folder.glob("*.prom")):
            _gather(path.read_text(), path.stem, families)
        return "".join("\n".join([*head, *samples]) + "\n" for head, samples in families.values())


_SCOPE = re.compile(r',?otel_scope_\w+="[^"]*"')
"""Labels that OpenTelemetry puts on every sample; they say nothing here."""


def _gather(text: str, worker: str, families: dict[str, tuple[list[str], list[str]]]) -> None:
    family = ""
    for line in _SCOPE.sub("", text).splitlines():
        if line.startswith("# "):
            family = line.split(" ", 3)[2]
            head, _ = families.setdefault(family, ([], []))
            if line not in head:
                head.append(line)
            continue
        name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
        labels, _, value = rest.rpartition("} ") if "{" in line else ("", "", rest)
        all_labels = ",".join(part for part in (f'worker="{worker}"', labels.strip(",")) if part)
        sample = f"{name}{{{all_labels}}} {value}"
        families.setdefault(family, ([], []))[1].append(sample)


class Timed:
    """The outermost layer: times each request, says each in one line, and ends what failed in one shape."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, size = time.perf_counter(), 0, 0

        async def sending(message: Any) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        failed: BaseException | None = None
        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            failed = error
            if status == 0:
                from hub.web.problems import problem_of

                await problem_of(error).response()(scope, receive, sending)
        ms = (time.perf_counter() - begun) * 1000
        route = template(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.request(method, route, status, ms)
        line = {"method": method, "route": route, "status": status, "ms": round(ms, 2), "bytes": size}
        if failed is not None:
            log().error("request failed", error=type(failed).__name__, where=where(failed), **line)
        elif status >= 500 and status != 503:
            log().error("request", **line)
        elif route not in _QUIET:
            log().info("request", **line)


def template(scope: Any) -> str:
    """The route's template, as /v1/persons/{person}: never the path, in which an id may stand."""
    path = getattr(scope.get("route"), "path", "")
    prefix = PREFIX if scope["path"].startswith(PREFIX + "/") and not path.startswith(PREFIX + "/") else ""
    return f"{prefix}{path}" if path else "none"


_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})
