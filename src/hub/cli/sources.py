"""Commands about sources: the connectors, asking who is polled, and forwarding at a source's side."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.opening import OUTBOX, Database, Json, connectors, kept_up, opened, place_of, print_json, say

if TYPE_CHECKING:
    from hub.forwarding.outbox import Outbox
    from hub.polling import Round, Standing

connectors_app = typer.Typer(help="The connectors: those installed, a new one, checking one.", no_args_is_help=True)


@connectors_app.command("list")
def connectors_list(database: Database = None, as_json: Json = False) -> None:
    """The connectors that are installed, those that do not load, and how those stand that are polled."""
    plugins = connectors()
    found = plugins.installed()
    for name in plugins.strange:
        sys.stderr.write(f"hub: {name} stands in HUB_CONNECTORS, and no connector of this name is installed\n")
    standings: dict[str, Standing] = {}
    file = place_of(database).file
    if file is None or file.exists():  # else nothing was polled yet
        with opened(database) as hub:
            standings = {standing.name: standing for standing in hub.polling.standings()}
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


def _span(seconds: int) -> str:
    """A span as a person says it."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _told(polled: dict[str, Any]) -> str:
    lag = "nothing pulled yet" if polled["lag_s"] is None else f"{_span(polled['lag_s'])} behind"
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
    from_start: Annotated[
        bool,
        typer.Option("--from-start", help="Ask nobody now: forget where these go on, so that all of it comes again."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask the sources that are polled, each going on where it was, until SIGTERM or Ctrl+C."""
    from hub.errors import Misuse

    with opened(database, create=True) as hub, kept_up(hub):
        if hub.simulated:
            raise Misuse("this database replays the past; it asks nobody")
        hub.init()
        wanted = names or hub.polling.names()
        unknown = sorted(set(wanted) - set(hub.polling.names()))
        if unknown or not wanted:
            which = f"{unknown[0]} cannot be polled" if unknown else "nothing is polled"
            raise Misuse(f"{which}: it takes a connector with `poll`, and its url in HUB_CONNECTORS")

        if from_start:
            if not names or once:
                raise Misuse("--from-start takes the names of sources, and no --once")
            for name in names:
                hub.polling.forget(name)
                say(f"{name}: its next poll reads all again")
            return

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
        row = {"name": done.name, "pages": done.pages, "accepted": done.accepted, "waiting": done.waiting}
        print_json({**row, "refused": done.refused, "error": done.error, "again_s": round(done.again_s)})
        return
    if done.error is not None:
        say(f"{done.name}: {done.error}; again in {done.again_s:.0f} s")
    if done.pages:
        waiting = f", {done.waiting} wait until their id is linked" if done.waiting else ""
        refused = f", {done.refused} refused: see the quarantine" if done.refused else ""
        say(f"{done.name}: {done.accepted} events{waiting}{refused}")


forward_app = typer.Typer(
    help="Store and forward at a source's side: what the hub cannot be told now is kept, and told later.",
    no_args_is_help=True,
)
OutboxFile = Annotated[
    Path,
    typer.Option("--outbox", envvar=OUTBOX, metavar="FILE", help="Where events are kept until then."),
]
_OUTBOX = Path("hub-outbox.sqlite3")


@forward_app.command("run")
def forward_run(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The hub: https://hub.example.")],
    token_file: Annotated[Path, typer.Option("--token-file", help="The bearer token; read anew for each batch.")],
    outbox: OutboxFile = _OUTBOX,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="127.0.0.1:PORT", help="Take events over HTTP there."),
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", help="Who sends there bears this key.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End once nothing waits; status 1 where sending fails.")] = False,
) -> None:
    """Send what is kept, safety and revocations first, until SIGTERM or Ctrl+C."""
    from hub.errors import Busy, Misuse
    from hub.forwarding.drain import Drain, Sent
    from hub.forwarding.outbox import Outbox

    if (listen is None) is not (key_file is None):
        raise Misuse("--listen and --key-file go together")
    box = Outbox(outbox)
    box.claim()
    drain, stop = Drain(box, to, token_file), threading.Event()
    failing = False

    def told(sent: Sent) -> None:
        nonlocal failing
        if sent.error is not None and (once or not failing):
            say(f"Not sent: {sent.error}. It is kept, and tried again.")
        if sent.error is None and failing:
            say("Sending again.")
        if sent.refused:
            say(f"{sent.refused} events were refused by the hub: hub forward status")
        failing = sent.error is not None and sent.wait_s > 0
        if once and failing:
            stop.set()

    try:
        for number in (signal.SIGTERM, signal.SIGINT):  # the door's server hands a signal on to these
            signal.signal(number, lambda *_: stop.set())
        if listen is None or key_file is None:
            drain.run(stop, told, until_empty=once)
        else:
            _forward_with_door(box, drain, stop, told, listen, key_file)
    finally:
        drain.close()
        box.close()
    if once and failing:
        raise Busy("not everything was sent")


def _forward_with_door(box: Any, drain: Any, stop: threading.Event, told: Any, listen: str, key_file: Path) -> None:
    from hub.forwarding import door

    bound = door.listen(listen)
    here = door.Door(box, key_file, lambda: datetime.now(UTC))
    say(f"http://127.0.0.1:{bound.getsockname()[1]}/v1/events")
    sender = threading.Thread(target=drain.run, args=(stop, told), name="drain")
    sender.start()
    try:
        door.serve(here, bound)
    finally:
        stop.set()
        sender.join()


@forward_app.command("put")
def forward_put(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE…", help="NDJSON: a CloudEvent a line; - for input.")],
    outbox: OutboxFile = _OUTBOX,
    as_json: Json = False,
) -> None:
    """Keep events, durably, for `hub forward run` to send."""
    from hub.forwarding.door import keep
    from hub.forwarding.outbox import Outbox
    from hub.web.cloudevents import MOST_EVENTS, ndjson

    box = Outbox(outbox)
    counts = {"kept": 0, "duplicate": 0, "rejected": 0}
    try:
        for path in paths:
            for first, lines in _lines(path, min(MOST_EVENTS, 2_000)):
                for number, row in enumerate(keep(box, ndjson(b"\n".join(lines)), datetime.now(UTC)), first):
                    counts[row["status"]] += 1
                    if row["status"] == "rejected":
                        where = ": ".join(part for part in (row["error"]["path"], row["error"]["reason"]) if part)
                        sys.stderr.write(f"hub: {path}, event {number}: {where}\n")
    finally:
        box.close()
    if as_json:
        print_json(counts)
    else:
        say(f"{counts['kept']} kept, {counts['duplicate']} here already, {counts['rejected']} rejected")
    if counts["rejected"]:
        sys.exit(1)


def _lines(path: Path, at_once: int) -> Iterator[tuple[int, list[bytes]]]:
    """The lines that are not empty, so many at once, each portion with the number of its first."""
    from hub.errors import Misuse

    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            first, portion = 1, []
            for line in file:
                if line.strip():
                    portion.append(line.strip())
                if len(portion) == at_once:
                    yield first, portion
                    first, portion = first + at_once, []
            if portion:
                yield first, portion
    except OSError as error:
        raise Misuse(f"{path}: cannot be read: {error.strerror or type(error).__name__}") from None


@forward_app.command("status")
def forward_status(outbox: OutboxFile = _OUTBOX, as_json: Json = False) -> None:
    """What waits, since when, what the hub refused, and why nothing is sent."""
    box = _existing(outbox)
    state = box.state()
    box.close()
    if as_json:
        oldest = None if state.oldest_at is None else state.oldest_at.isoformat(timespec="seconds")
        refused = [{"id": name, "kind": kind, "reason": reason} for name, kind, reason in state.refused]
        waiting = {"urgent": state.urgent, "usual": state.usual, "pings": state.pings}
        error = state.words.get("error") or None
        print_json(
            {"waiting": waiting, "oldest": oldest, "refused": state.refused_count, "shown": refused, "error": error}
        )
        return
    since = "" if state.oldest_at is None else f", the oldest since {state.oldest_at.isoformat(timespec='seconds')}"
    say(f"{state.waiting} wait: {state.urgent} urgent, {state.usual} usual, {state.pings} pings{since}")
    if state.words.get("error"):
        say(f"Not sent: {state.words['error']}")
    if state.refused_count:
        say(
            f"{state.refused_count} refused by the hub; to send them again: hub forward retry; "
            "to destroy them: hub forward drop"
        )
    for name, kind, reason in state.refused:
        say(f"  {kind}  {name}: {reason}")


@forward_app.command("retry")
def forward_retry(outbox: OutboxFile = _OUTBOX) -> None:
    """Send again what the hub refused, as after a kind was introduced there."""
    box = _existing(outbox)
    count = box.retry()
    box.close()
    say(f"{count} events wait again.")


@forward_app.command("drop")
def forward_drop(outbox: OutboxFile = _OUTBOX) -> None:
    """Destroy what the hub refused. The hub keeps it in its quarantine for 30 days."""
    box = _existing(outbox)
    count = box.drop_refused()
    box.close()
    say(f"{count} events destroyed.")


def _existing(outbox: Path) -> Outbox:
    from hub.errors import Misuse
    from hub.forwarding.outbox import Outbox

    if not outbox.exists():
        raise Misuse(f"{outbox} is not there: name the outbox by --outbox or HUB_OUTBOX")
    return Outbox(outbox)
