"""Commands about Kafka: what goes out, and what comes in."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.opening import (
    KAFKA,
    Database,
    Json,
    MetricsPort,
    counted,
    kept_up,
    note,
    one_of,
    opened,
    print_json,
    say,
    tried_again,
)

if TYPE_CHECKING:
    from hub.hub import Hub
    from hub.relay.broker import Broker
    from hub.relay.ingest import Came
    from hub.relay.relay import Sent
    from hub.relayed import Lag


def relay(
    database: Database = None,
    once: Annotated[
        bool, typer.Option("--once", help="Send what is there, then end; status 1 where not all is.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="How far each line is, and why one fails.")] = False,
    as_json: Json = False,
) -> None:
    """Publish to the broker that HUB_KAFKA names, each line going on where it was, until SIGTERM or Ctrl+C."""
    one_of(once=once, status=status)
    if status:
        with opened(database) as hub:
            _say_lags(hub.relayed.lags(), as_json)
        return
    from hub.errors import Busy
    from hub.registry import Registry
    from hub.relay.events import EventsLine
    from hub.relay.relay import Relay
    from hub.relay.views import ViewLines

    with opened(database) as hub, kept_up(hub):
        broker, registry = broker_of(hub), Registry(hub.log.schemas)
        hub.log.entries.check_role()
        events, views = EventsLine(hub.log, broker, registry), ViewLines(hub, broker, registry)
        lines = Relay(hub.relayed, broker, lambda: [events, *views.lines()])
        told = _Telling(as_json, again=not once)
        if once:
            if not lines.once(told):
                raise Busy(
                    "not everything was sent: a line failed (hub relay --status says why), or another relay sends on it"
                )
            return
        stop = until_signal()
        note(f"Relaying to {', '.join(broker.settings.bootstrap)}. Ctrl+C ends it.", as_json=as_json)
        lines.run(stop, told)


def ingest_kafka(database: Database = None, metrics_port: MetricsPort = None, as_json: Json = False) -> None:
    """Take events from the topic hub.ingest of the broker that HUB_KAFKA names, until SIGTERM or Ctrl+C."""
    from hub.cli.metrics import IngestFigures
    from hub.errors import Misuse
    from hub.registry import Registry
    from hub.relay.ingest import Ingest

    with opened(database, create=True) as hub, kept_up(hub):
        broker = broker_of(hub)
        if not broker.settings.sources:
            raise Misuse("no source may come by the topic: name them under [ingest.sources] in HUB_KAFKA")
        hub.log.entries.check_role()
        hub.init()
        ingest, coming = Ingest(hub, broker, Registry(hub.log.schemas)), _Coming(as_json)
        figures = IngestFigures(shares=lambda: ingest.shares, left=lambda: ingest.left)

        def told(came: Came) -> None:
            figures(came)
            coming(came)

        with figures.shown(metrics_port):
            stop = until_signal()
            note(f"Taking from {', '.join(broker.settings.bootstrap)}. Ctrl+C ends it.", as_json=as_json)
            ingest.run(stop, told)


def broker_of(hub: Hub) -> Broker:
    from hub.errors import Misuse

    if hub.simulated:
        raise Misuse("this database replays the past; it has nothing to do with a broker")
    return broker_named()


def broker_named() -> Broker:
    from hub.errors import Misuse
    from hub.relay.broker import Broker
    from hub.relay.settings import load

    path = os.environ.get(KAFKA)
    if path is None:
        raise Misuse(f"{KAFKA} names no file; docs/kafka.md says what stands in it")
    return Broker(load(Path(path), os.environ))


def until_signal() -> threading.Event:
    """Set once the process is told to end; told twice, it ends at once."""
    stop = threading.Event()

    def end(number: int, frame: Any) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return stop


class _Telling:
    """Says what fails, once while it fails; with --json every piece too."""

    def __init__(self, as_json: bool, again: bool) -> None:
        self._as_json, self._again = as_json, again
        self._failing: dict[str, str] = {}

    def __call__(self, sent: Sent) -> None:
        if self._as_json:
            row = {"line": sent.name, "messages": sent.messages, "position": sent.position, "error": sent.error}
            print_json({**row, "again_s": round(sent.wait_s, 1)})
            return
        before = self._failing.pop(sent.name, None)
        if sent.error is not None:
            self._failing[sent.name] = sent.error
            if sent.error != before:
                say(f"{sent.name}: {tried_again(sent.error) if self._again else sent.error}")
        elif before is not None:
            say(f"{sent.name}: working again")


class _Coming:
    """Says what fails, once while it fails, and what was refused; with --json every part too."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._failing: str | None = None

    def __call__(self, came: Came) -> None:
        if self._as_json:
            print_json({**came.counts, "error": came.error, "again_s": round(came.wait_s, 1)})
            return
        if came.error is not None:
            if came.error != self._failing:
                say(f"Nothing is taken: {tried_again(came.error)}")
            self._failing = came.error
            return
        if self._failing is not None:
            say("Taking again.")
            self._failing = None
        if refused := came.counts.get("refused", 0):
            say(f"{counted(refused, 'event')} refused: see the quarantine, and the topic hub.ingest.refused")


def _say_lags(lags: list[Lag], as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "line": lag.name,
                    "position": lag.position,
                    "lag_events": lag.events,
                    "lag_s": round(lag.lag_s, 3),
                    "updated_at": lag.updated_at.isoformat(timespec="seconds"),
                    "failures": lag.failures,
                    "error": lag.error,
                    "relay": lag.relay,
                }
                for lag in lags
            ]
        )
        return
    if not lags:
        sys.stderr.write("hub: nothing was relayed yet; run: hub relay\n")
    for lag in lags:
        behind = f"{counted(lag.events, 'event')}, {lag.lag_s:.0f} s behind" if lag.events else "all sent"
        by = f"; by {lag.relay}" if lag.relay else "" if lag.failures else "; no relay is sending"
        say(f"{lag.name:30} position {lag.position}: {behind}{by}")
        if lag.error is not None:
            fails = f"fails, {lag.failures} in a row: " if lag.failures else ""
            say(f"{'':30} {fails}{lag.error}")
