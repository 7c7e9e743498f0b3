"""The command about the heavier derived views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.opening import Database, Json, kept_up, opened, print_json, say
from hub.cli.relay import broker_of, until_signal

if TYPE_CHECKING:
    from hub.relay.derive import Derived


def derive(
    database: Database = None,
    once: Annotated[bool, typer.Option("--once", help="Bring them to the end of the log, then end.")] = False,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="As a member of a group over the topic hub.events; run several.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="How far they are behind.")] = False,
    as_json: Json = False,
) -> None:
    """Fold the heavier derived views (who was shown to whom), until SIGTERM or Ctrl+C. hub serve does it too."""
    from hub.derived.follower import Follower

    with opened(database) as hub, kept_up(hub):
        if status:
            lag = hub.index.lag()
            row = {"disclosures_waiting": lag.waiting, "position": lag.end}
            print_json(row) if as_json else say(f"{lag.waiting} disclosures wait; the log ends at {lag.end}")
            return
        if once:
            while hub.index.step():
                pass
            return
        if kafka:
            from hub.relay.derive import Member

            broker = broker_of(hub)
            stop = until_signal()
            say(f"Deriving from {', '.join(broker.settings.bootstrap)}. Ctrl+C ends it.")
            Member(hub.index, broker).run(stop, _Telling())
            return
        follower = Follower(hub.log, hub.index, _failed)
        stop = until_signal()
        follower.start()
        say("Deriving. Ctrl+C ends it.")
        stop.wait()
        follower.stop()


def _failed(error: Exception) -> None:
    from hub.errors import HubError

    said = str(error) if isinstance(error, HubError) else f"the hub's database failed ({type(error).__name__})"
    say(f"{said}; it is tried again")


class _Telling:
    """Says what fails, once while it fails."""

    def __init__(self) -> None:
        self._failing: str | None = None

    def __call__(self, derived: Derived) -> None:
        if derived.error is not None and derived.error != self._failing:
            say(f"{derived.error}; it is tried again")
        elif derived.error is None and self._failing is not None:
            say("Deriving again.")
        self._failing = derived.error
