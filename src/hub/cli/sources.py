"""Commands about sources: the connectors, and asking who is polled."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.opening import Database, Json, connectors, opened, print_json, say, to_open

if TYPE_CHECKING:
    from hub.polling import Round, Standing

connectors_app = typer.Typer(help="The connectors: those installed, a new one, checking one.", no_args_is_help=True)


@connectors_app.command("list")
def connectors_list(database: Database = None, as_json: Json = False) -> None:
    """The connectors that are installed, those that do not load, and how those stand that are polled."""
    from hub.errors import Misuse

    found = connectors().installed()
    standings: dict[str, Standing] = {}
    try:
        opening = to_open(database, create=False)
    except Misuse:
        opening = None  # nothing was polled yet
    if opening is not None:
        hub = opening()
        standings = {standing.name: standing for standing in hub.polling.standings()}
        hub.close()
    rows = [_row(c.name, list(c.plugin.kinds) if c.plugin else [], c.error, standings.get(c.name)) for c in found]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        kinds = ", ".join(row["kinds"]) if row["error"] is None else f"does not load: {row['error']}"
        say(f"{row['name']:12}{kinds}")
        if row["polled"] is not None:
            say(f"{'':12}{_told(row['polled'])}")


def _row(name: str, kinds: list[str], error: str | None, standing: Standing | None) -> dict[str, Any]:
    polled = None
    if standing is not None:
        polled = {
            "lag_s": None if standing.lag_s is None else round(standing.lag_s),
            "last_success": None if standing.done_at is None else standing.done_at.isoformat(timespec="seconds"),
            "next": standing.due_at.isoformat(timespec="seconds"),
            "failures": standing.failures,
            "error": standing.error,
        }
    return {"name": name, "kinds": kinds, "error": error, "polled": polled}


def _told(polled: dict[str, Any]) -> str:
    lag = "nothing pulled yet" if polled["lag_s"] is None else f"{polled['lag_s']} s behind"
    if polled["error"] is None:
        return f"polled: {lag}"
    return f"polled: {lag}; fails, {polled['failures']} in a row: {polled['error']}"


@connectors_app.command("new")
def connectors_new(
    name: Annotated[str, typer.Argument(help="The source's name: lower-case letters, digits, _.")],
    into: Annotated[Path, typer.Option("--into", metavar="FOLDER", help="Where its folder is made.")] = Path(),
) -> None:
    """Write a package that passes, to be changed into what your source needs."""
    from hub import scaffold

    folder = scaffold.write(name, into)
    say(f"{folder} is written. Next: hub connectors check {folder}")


@connectors_app.command("check")
def connectors_check(
    path: Annotated[Path, typer.Argument(help="The package's folder, with its pyproject.toml.")],
    write_goldens: Annotated[
        bool,
        typer.Option(
            "--write-goldens", help="First write the goldens that are missing; read them before you keep them."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge a connector: what it must do, and what it must never do."""
    from hub import conformance

    mine = conformance.package(path)
    if write_goldens:
        for name in conformance.write_goldens(mine):
            sys.stderr.write(f"hub: written, to be read: goldens/{name}\n")
    found = {name: list(check(mine)) for name, check in conformance.CHECKS.items()}
    if as_json:
        print_json(found)
    else:
        for name, findings in found.items():
            say(f"{'ok' if not findings else 'BAD':5}{name}")
            for finding in findings:
                say(f"     {finding}")
    if any(found.values()):
        sys.exit(1)


def poll(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="Else all that have a url.")] = None,
    database: Database = None,
    once: Annotated[bool, typer.Option("--once", help="One round each, then end; status 1 where one fails.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the sources that are polled, each going on where it was, until SIGTERM or Ctrl+C."""
    from hub.errors import Misuse

    with opened(database, create=True) as hub:
        if hub.simulated:
            raise Misuse("this database replays the past; it asks nobody")
        hub.init()
        wanted = names or hub.polling.names()
        unknown = sorted(set(wanted) - set(hub.polling.names()))
        if unknown or not wanted:
            which = unknown[0] if unknown else "no connector"
            raise Misuse(f"{which} is to be polled: a url in HUB_CONNECTORS and a connector with `poll` are needed")

        def told(done: Round) -> None:
            _say_round(done, as_json)

        if once:
            rounds = [done for name in wanted if (done := hub.polling.ask(name)) is not None]
            for done in rounds:
                told(done)
            if any(done.error for done in rounds):
                sys.exit(1)
            return
        stop = threading.Event()

        def end(number: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        say(f"Polling: {', '.join(wanted)}. Ctrl+C ends it.")
        hub.polling.run(wanted, stop, told)


def _say_round(done: Round, as_json: bool) -> None:
    if as_json:
        row = {"name": done.name, "pages": done.pages, "accepted": done.accepted, "refused": done.refused}
        print_json({**row, "error": done.error, "again_s": round(done.again_s)})
        return
    if done.error is not None:
        say(f"{done.name}: {done.error}; again in {done.again_s:.0f} s")
    if done.pages:
        refused = f", {done.refused} refused: see the quarantine" if done.refused else ""
        say(f"{done.name}: {done.accepted} events{refused}")
