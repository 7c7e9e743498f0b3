"""The command about the heavier work behind the log: derived views, and shares of statistics."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.opening import (
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
from hub.cli.relay import broker_of, until_signal

if TYPE_CHECKING:
    from hub.cli.metrics import DeriveFigures
    from hub.derived.index import Lag
    from hub.relay.derive import Derived


def derive(
    database: Database = None,
    once: Annotated[bool, typer.Option("--once", help="Bring them to the end of the log, then end.")] = False,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="As a member of a group over the topic hub.events; run several.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="How far they are behind.")] = False,
    metrics_port: MetricsPort = None,
    as_json: Json = False,
) -> None:
    """Fold the heavier derived views (who was shown to whom) and carry shares of statistics that somebody asked for,
    until SIGTERM or Ctrl+C. hub serve folds too."""
    from hub.cli.metrics import DeriveFigures
    from hub.derived.follower import Follower
    from hub.statistics.carrier import Carrier

    one_of(once=once, kafka=kafka, status=status)
    one_of(once=once, status=status, metrics_port=metrics_port is not None)
    with opened(database) as hub, kept_up(hub), ExitStack() as shown:
        if status:
            lag, shares = hub.index.lag(), hub.statistics.waiting()
            if as_json:
                print_json({**_lag_row(lag), "shares_waiting": shares})
            else:
                wait = "waits" if shares == 1 else "wait"
                say(f"{_lag_in_words(lag)}; {counted(shares, 'share')} of statistics {wait}")
            return
        if once:
            while hub.index.step():
                pass
            lag = hub.index.lag()
            if as_json:
                print_json(_lag_row(lag))
            else:
                say(_lag_in_words(lag))
            return
        figures = shown.enter_context(DeriveFigures(lambda: hub.index.lag().waiting).shown(metrics_port))
        carrier = Carrier(hub.statistics, _Failing("statistics", as_json, figures))
        if kafka:
            from hub.relay.derive import Member

            broker = broker_of(hub)
            stop = until_signal()
            note(f"Deriving from {', '.join(broker.settings.bootstrap)}. Ctrl+C ends it.", as_json=as_json)
            carrier.start()
            try:
                Member(hub.index, broker).run(stop, _Telling(as_json, figures))
            finally:
                carrier.stop()
            return
        follower = Follower(hub.log, hub.index, _Failing("disclosures", as_json, figures))
        stop = until_signal()
        follower.start()
        carrier.start()
        note("Deriving. Ctrl+C ends it.", as_json=as_json)
        stop.wait()
        carrier.stop()
        follower.stop()


def _lag_row(lag: Lag) -> dict[str, int]:
    return {"disclosures_waiting": lag.waiting, "position": lag.end}


def _lag_in_words(lag: Lag) -> str:
    waiting = f"{counted(lag.waiting, 'disclosure')} {'waits' if lag.waiting == 1 else 'wait'}"
    return f"{waiting}; the log ends at {lag.end}"


class _Failing:
    """Says what fails in one of the two works, once while it fails."""

    def __init__(self, work: str, as_json: bool, figures: DeriveFigures) -> None:
        self._work, self._as_json, self._figures = work, as_json, figures
        self._failing: str | None = None

    def __call__(self, error: Exception | None) -> None:
        from hub.errors import HubError

        if error is None:
            self._failing = None
            note(f"{self._work}: working again", as_json=self._as_json)
            return
        self._figures.failed()
        said = str(error) if isinstance(error, HubError) else f"the hub's database failed ({type(error).__name__})"
        if said != self._failing:
            note(f"{self._work}: {tried_again(said)}", as_json=self._as_json)
        self._failing = said


class _Telling:
    """Says what fails, once while it fails."""

    def __init__(self, as_json: bool, figures: DeriveFigures) -> None:
        self._as_json, self._figures = as_json, figures
        self._failing: str | None = None

    def __call__(self, derived: Derived) -> None:
        self._figures(derived)
        if derived.error is not None and derived.error != self._failing:
            note(tried_again(derived.error), as_json=self._as_json)
        elif derived.error is None and self._failing is not None:
            note("Deriving again.", as_json=self._as_json)
        self._failing = derived.error
