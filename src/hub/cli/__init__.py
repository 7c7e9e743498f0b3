"""The command line, and the composition root: the only reader of the environment and of the clock."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import backups, databases, derive, looking, quarantine, relay, schemas, sources
from hub.cli.opening import (
    IDENTITY,
    Database,
    Json,
    Opening,
    Out,
    connectors,
    one_of,
    opened,
    print_json,
    say,
    time_of,
    to_open,
)

if TYPE_CHECKING:
    from rich.console import Console

    from hub.hub import Hub
    from hub.identity.settings import Identity
    from hub.log.clock import SetClock
    from hub.web.gate import Gate

app = typer.Typer(
    name="hub",
    help="The hub: a city's data exchange for disaster response, by the citizens' consent.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
clock_app = typer.Typer(help="The hub's clock.", no_args_is_help=True)
export_app = typer.Typer(help="Records in the form in which others ask for them.", no_args_is_help=True)


def main() -> None:
    """Run a command; errors go to standard error with status 1, misuse with 2."""
    from hub.errors import HubError, Misuse

    if isinstance(sys.stdout, io.TextIOWrapper):  # the name of a file need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except Misuse as error:
        _fail(error, 2)
    except HubError as error:
        _fail(error, 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, SQLAlchemyError):
            raise
        said = f"the database failed ({type(getattr(error, 'orig', None) or error).__name__}); its own log says more"
        _fail(HubError(said), 1)


def _fail(error: Exception, status: int) -> None:
    sys.stderr.write(f"hub: {error}\n")
    sys.exit(status)


@app.command()
def init(database: Database = None) -> None:
    """Make a database and introduce the packaged kinds and the city's areas to it."""
    with opened(database, create=True) as hub:
        done = hub.init()
    say("The database is ready." if done else "The database was ready already; nothing was changed.")


@dataclass(frozen=True)
class _Gating:
    """How the gate of a worker is opened; a fresh process can be handed it."""

    url: str
    identity_file: str | None = None

    @property
    def local_key(self) -> Path:
        """Where the local issuer's key stands: beside the database."""
        from hub.cli.opening import place_of

        return place_of(self.url).folder / "local-issuer.key"

    def identity(self) -> Identity:
        """Who is believed. Raises Misuse where the file does not say it well."""
        from hub.errors import Misuse
        from hub.identity import local, settings

        if self.identity_file is None:
            return local.identity()
        try:
            content = Path(self.identity_file).read_bytes()
        except OSError:
            raise Misuse(f"{IDENTITY} names no file that can be read") from None
        return settings.load(content, os.environ)

    def __call__(self, hub: Hub) -> Gate:
        from hub.identity.local import LocalIssuer
        from hub.web.gate import Gate

        own = LocalIssuer(self.local_key) if self.identity_file is None else None
        return Gate(hub, self.identity(), own)


@app.command()
def serve(
    database: Database = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; loopback alone without an identity file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for any that is free.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes over the one database.")] = 1,
) -> None:
    """Answer over HTTP: events in, answers out. Ends on SIGTERM or Ctrl+C, without losing what it took in."""
    from hub.web import serve as web

    opening = to_open(database, create=True)
    gating = _Gating(opening.url, os.environ.get(IDENTITY))
    identity = gating.identity()
    with web.listen(host, port, identity=gating.identity_file is not None) as bound:
        fresh = _prepared(opening, gating)
        if fresh:
            say("The database is ready: kinds and areas are introduced.")
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{bound.getsockname()[1]}/v1  (OpenAPI: /openapi.json)")
        if gating.identity_file is None:
            say("For trying out, on this machine alone: tokens come from `hub token --as citizen:ID`.")
        else:
            say(f"Tokens are taken from: {', '.join(issuer.issuer for issuer in identity.issuers)}")
        web.serve(opening, gating, bound, workers, identity.hosts)


def _prepared(opening: Opening, gating: _Gating) -> bool:
    """See, before anybody is answered, that the hub can be served; whether its database is new. Raises Misuse."""
    hub = opening()
    try:
        hub.log.entries.check_role()
        fresh = hub.init()
        gating(hub)
    finally:
        hub.close()
    return fresh


@app.command()
def token(
    as_: Annotated[
        str,
        typer.Option(
            "--as", help="citizen:ID, service:RECIPIENT, source:NAME, officer:ID@RECIPIENT, operator, auditor."
        ),
    ],
    database: Database = None,
    hours: Annotated[int, typer.Option("--hours", min=1, max=24, help="How long it holds.")] = 8,
) -> None:
    """A token of the local issuer, for trying the hub out on this machine. Never where an identity file is set."""
    from hub.errors import Misuse
    from hub.identity.local import LocalIssuer, claims_of

    if os.environ.get(IDENTITY):
        raise Misuse(f"{IDENTITY} is set: tokens come from its issuers alone")
    claims = claims_of(as_)
    gating = _Gating(to_open(database, create=True).url)
    say(LocalIssuer(gating.local_key).token(claims, now=time.time(), lifetime_s=hours * 3600))


@app.command("import")
def import_(
    connector: Annotated[str, typer.Argument(help="The connector's name; `hub connectors list` shows them.")],
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders of files.")],
    database: Database = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Replay the past: the clock is each payload's own report time.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take in files of a source. A payload that was received before changes nothing."""
    from hub.errors import Misuse
    from hub.importing import import_files
    from hub.log.clock import SetClock

    plugin = connectors().find(connector)
    clock = SetClock(datetime(1970, 1, 1, tzinfo=UTC)) if simulate else None
    refused = False
    with opened(database, clock=clock, create=True) as hub:
        if simulate:
            hub.simulate()
        elif hub.simulated:
            raise Misuse("this database replays the past; add --simulate, or choose another database")
        hub.init()
        for done in import_files(hub, plugin, paths, clock):
            refused = refused or done.status == "refused"
            if as_json:
                print_json(done.as_dict())
            else:
                kinds = ", ".join(f"{kind} at {position}" for position, kind, _ in done.events)
                say(f"{done.path}: {done.status}{': ' if done.reason or kinds else ''}{done.reason or kinds}")
    if refused:
        sys.exit(1)


@app.command()
def link(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with the header source,ref,person.")],
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Say whose the ids at a service are (ID連携). The same file may be run twice."""
    from hub.importing import link_file

    refused = False
    with opened(database) as hub:
        for done in link_file(hub, path):
            refused = refused or done.status == "refused"
            if as_json:
                print_json(done.as_dict())
            else:
                say(f"line {done.line}: {done.status}{f': {done.reason}' if done.reason else ''}")
    if refused:
        sys.exit(1)


@app.command()
def verify(
    database: Database = None,
    log_only: Annotated[bool, typer.Option("--log-only", help="Leave the views out: quicker on a large log.")] = False,
    as_json: Json = False,
) -> None:
    """Derive positions, leaves, root, identities and views again, and compare."""
    from hub.errors import HubError

    with opened(database) as hub:
        done = hub.audit.verify(views=not log_only)
    if not done.size:
        raise HubError("The log is empty: nothing was ever introduced here; is this the database?")
    if as_json:
        print_json(
            {
                "size": done.size,
                "root": done.root.hex(),
                "opened": done.opened,
                "closed": done.closed,
                "erased": done.erased,
                "retention_ended": done.ended,
                "disclosures": done.disclosures,
                "view_rows": done.view_rows,
            }
        )
        return
    views = "the views were left out" if log_only else f"{done.view_rows} rows of views follow from it"
    closed = f"{done.closed} closed for ever ({done.erased} erased, {done.ended} retention ended)"
    say(f"The log holds: {done.size} entries, {done.opened} opened, {closed}; {views}.")
    say(f"Root {done.root.hex()}")


@app.command()
def retain(
    database: Database = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be destroyed; destroy nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Destroy the payloads whose time to be kept is over, a kind and month at a time. It cannot be undone."""
    with opened(database) as hub:
        done = hub.retention.retain(dry_run=dry_run)
    if as_json:
        rows = {
            name: [{"kind": m.kind, "month": m.month, "entries": m.entries} for m in months]
            for name, months in (("destroyed", done.destroyed), ("waiting", done.waiting))
        }
        print_json({"dry_run": dry_run, **rows})
        return
    for month in done.destroyed:
        would = "would be destroyed" if dry_run else "destroyed"
        say(f"{month.kind} {month.month}: {would}, {month.entries} entries closed")
    for month in done.waiting:
        say(f"{month.kind} {month.month}: kept while an emergency that it may place someone in is active")
    if not done.destroyed:
        say("nothing to destroy")


@app.command()
def rebuild(database: Database = None) -> None:
    """Drop all views and derive them again from the log."""
    with opened(database) as hub:
        count = hub.views.rebuild()
    say(f"All views were derived again from {count} entries.")


@app.command()
def scenario(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Scenario files (YAML).")],
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="On this PostgreSQL, in schemas that are dropped.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Play scenario files: the rules by example, or a what-if of your own."""
    from functools import partial

    from hub.scenario import World, play

    played, different = 0, []
    for path in paths:
        for title, found in play(path, partial(World.fresh, database)):
            played += 1
            different += found
            for difference in found if not as_json else ():
                say(str(difference))
            if as_json:
                steps = [{"step": d.step, "wanted": d.wanted, "got": d.got} for d in found]
                print_json({"file": path.name, "title": title, "differences": steps})
    if not as_json:
        say(f"{played} scenarios, {len(different)} differences.")
    if different:
        sys.exit(1)


@clock_app.command("accept")
def clock_accept(database: Database = None) -> None:
    """Say that the machine's clock is right as it is now, after a leap or a long pause."""
    with opened(database) as hub:
        now = hub.log.entries.accept_clock()
    say(f"Accepted: {now.isoformat(timespec='seconds')}")


@export_app.command("consents")
def export_consents(
    out: Out,
    database: Database = None,
    person: Annotated[str | None, typer.Option("--person", help="Theirs alone; else everyone's.")] = None,
) -> None:
    """Write the consent records as JSON-LD (ISO/IEC TS 27560, W3C DPV). A look: it is logged."""
    from hub.records import write

    with opened(database) as hub:
        asked = {"consents": {"person": None if person is None else hub.disclosure.name_of(person)}}
        hub.audit.looked(asked, count=hub.records.persons(person), actor=looking.actor())
        write(out, hub.records.consent_records(person))


@export_app.command("provisions")
def export_provisions(
    out: Out,
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="From this day (Asia/Tokyo), or time.")],
    until: Annotated[str, typer.Option("--until", metavar="DATE", help="To the end of this day, or before a time.")],
    database: Database = None,
    exercises: Annotated[bool, typer.Option("--exercises", help="Drills too.")] = False,
) -> None:
    """Write the record of provisions to third parties as CSV (個人情報保護法29条). A look: it is logged."""
    from hub.errors import Misuse
    from hub.records import write

    begin, end = _day(since, "--since"), _day(until, "--until", last=True)
    if end <= begin:
        raise Misuse("--until is not after --since")
    with opened(database) as hub:
        asked = {"provisions": {"since": begin, "until": end, "exercises": exercises}}
        count = hub.traces.persons(begin, end, exercises=exercises)
        hub.audit.looked(asked, count=count, actor=looking.actor())
        write(out, hub.records.provisions(begin, end, exercises=exercises))


def _day(text: str, option: str, *, last: bool = False) -> datetime:
    """A time, or where a day of Asia/Tokyo begins; `last`: where the day after it does."""
    from datetime import date, timedelta

    from hub.errors import Misuse
    from hub.records import TOKYO

    try:
        day = date.fromisoformat(text)
    except ValueError:
        found = time_of(text, option)
        if found is None:
            raise Misuse(f"{option}: is no day and no time") from None
        return found
    return datetime(day.year, day.month, day.day, tzinfo=TOKYO).astimezone(UTC) + timedelta(days=last)


@app.command()
def demo(
    people: Annotated[int, typer.Option("--people", min=20, max=100_000, help="How many citizens.")] = 2_000,
    seed: Annotated[int, typer.Option("--seed", help="Another number, another city.")] = 1,
    telegram: Annotated[
        Path | None, typer.Option("--telegram", metavar="FILE", help="A real JMA telegram instead of our own.")
    ] = None,
    lang: Annotated[str | None, typer.Option("--lang", help="ja or en; default by locale.")] = None,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Do not serve pages afterwards.")] = False,
    as_json: Json = False,
) -> None:
    """The main job on one screen: a city, an earthquake, who saw what, and the proof."""
    from hub.errors import Misuse, PayloadError

    language = looking.language(lang)
    try:
        payload = telegram.read_bytes() if telegram else None
    except OSError:
        raise Misuse("--telegram names no file that can be read") from None
    with _demo_hub() as (hub, clock, console):
        from hub.city import run

        try:
            figures = run(hub, clock, console(as_json), people=people, seed=seed, lang=language, telegram=payload)
        except PayloadError as error:  # the telegram is the one payload that comes from outside
            raise PayloadError(f"{telegram}: {error}") from None
    if as_json:
        print_json(figures)


@contextmanager
def _demo_hub() -> Iterator[tuple[Hub, SetClock, Callable[[bool], Console]]]:
    import tempfile

    from rich.console import Console

    from hub.hub import Hub
    from hub.log.clock import SetClock

    clock = SetClock(datetime(2000, 1, 1, tzinfo=UTC))
    with tempfile.TemporaryDirectory(prefix="hub-demo-") as folder:
        hub = Hub.open(f"sqlite:///{folder}/hub.sqlite3", clock)
        try:
            yield hub, clock, lambda quiet: Console(quiet=quiet)
        finally:
            hub.close()


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: a look, not a figure.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say what costs what.")] = False,
    connectors: Annotated[bool, typer.Option("--connectors", help="The connectors alone.")] = False,
    relays: Annotated[
        bool, typer.Option("--relay", help="The relay alone, to the broker that HUB_KAFKA names.")
    ] = False,
    figures: Annotated[bool, typer.Option("--statistics", help="The figures for planning alone.")] = False,
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="On this PostgreSQL, in schemas that are dropped.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure this machine, each figure beside its floor."""
    from hub.bench import run
    from hub.cli.relay import broker_named

    one_of(connectors=connectors, relay=relays, statistics=figures)
    run(
        quick=quick,
        profile=profile,
        as_json=as_json,
        sources_only=connectors,
        figures_only=figures,
        database=database,
        broker=broker_named() if relays else None,
    )


app.command("migrate")(databases.migrate)
for look in (looking.emergencies, looking.places, looking.replay, looking.explain):
    app.command()(look)
app.command("poll")(sources.poll)
app.command("relay")(relay.relay)
app.command("ingest-kafka")(relay.ingest_kafka)
app.command("derive")(derive.derive)
app.command("backup")(backups.backup)
app.command("restore")(backups.restore)
app.add_typer(clock_app, name="clock")
app.add_typer(sources.connectors_app, name="connectors")
app.add_typer(sources.forward_app, name="forward")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(schemas.schemas_app, name="schemas")
app.add_typer(export_app, name="export")
