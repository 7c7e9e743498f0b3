"""One hub, put together: databases, keys, clock, log, views, intake, disclosure.

Doors (`cli`, `web`, `scenario`, `city`) open a hub and use its parts; nothing else puts them together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, inspect, select

from hub import hazards, retention
from hub.audit import Audit
from hub.citizen import Citizen
from hub.commits import Commits
from hub.derived.index import Index
from hub.directory import Directory
from hub.disclosure import Disclosure
from hub.errors import Misuse, Refused, Tampered
from hub.events import Event
from hub.feeds import Feeds
from hub.hazards import HazardPolicy
from hub.intake import HUB, Intake
from hub.linking import Linking
from hub.log import migrations, recorder
from hub.log.clock import Clock
from hub.log.content import ContentKeys
from hub.log.database import naming, open_database, place
from hub.log.log import RESTORING, Closed, Log
from hub.log.sealing import Keyring
from hub.payloads import Payloads
from hub.plugins import Plugins
from hub.polling import Polling
from hub.quarantine import Quarantine
from hub.records import Records
from hub.relayed import Relayed
from hub.retention import Retention, RetentionPolicy
from hub.schemas import Schemas, packaged
from hub.sessions import Sessions  # noqa: F401 -- its table is one of the log's database
from hub.statistics import Statistics
from hub.traces import Traces
from hub.views import persons
from hub.views.views import Views
from hub.waiting import Waiting

_SIMULATED = "simulated"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hub:
    """The parts of one hub. `close` it when done."""

    log: Log
    views: Views
    commits: Commits
    intake: Intake
    disclosure: Disclosure
    feeds: Feeds
    statistics: Statistics
    audit: Audit
    directory: Directory
    traces: Traces
    records: Records
    citizen: Citizen
    quarantine: Quarantine
    retention: Retention
    waiting: Waiting
    linking: Linking
    plugins: Plugins
    payloads: Payloads
    polling: Polling
    index: Index
    relayed: Relayed
    content: ContentKeys
    engines: tuple[Engine, ...]

    @classmethod
    def open(
        cls,
        url: str,
        clock: Clock,
        *,
        keys_url: str | None = None,
        folder: Path | None = None,
        master: bytes | None = None,
        schemas: Schemas | None = None,
        policy: HazardPolicy | None = None,
        retention_policy: Callable[[Schemas], RetentionPolicy] | None = None,
        plugins: Plugins | None = None,
        durable: bool = True,
        restoring: bool = False,
    ) -> Hub:
        """The hub whose log is at `url`; its databases are created where they are missing.

        keys_url: where the keys are; without it, beside the log. folder: for the files of a hub whose log is on a
        server. master: the key that wraps the hub's keys, 32 bytes; without it, the file `master.key` beside the
        database, which is made where there is none. retention_policy: makes it of the schemas that are here, those
        too whose connector is gone. plugins: the connectors, with what was set for each. durable:
        False for a hub that is thrown away. restoring: whether `hub restore` itself opens what it has not finished.
        Raises Misuse.
        """
        at = place(url, keys_url, folder or Path("hub-data"))
        plugins = plugins or Plugins()
        schemas = schemas or plugins.extend(packaged())
        engine, keys = open_database(at.log, durable=durable), open_database(at.keys, "keys", durable=durable)
        if not restoring:
            with naming(engine, "log"):
                _check_restored(engine)
        migrations.prepare(keys, "keys")
        keyring = Keyring(keys, _master(at.folder / "master.key") if master is None else master)
        migrations.prepare(engine, "log")
        log = Log(engine, keyring, schemas, clock)
        views = Views(log)
        commits = Commits(log, views)
        intake = Intake(log, views, commits, policy or default_policy())
        quarantine = Quarantine(log, views, intake)
        waiting = Waiting(log)
        linking = Linking(log, intake, waiting, quarantine)
        payloads = Payloads(intake, quarantine)
        commits.erase, commits.link = linking.severed, linking.linked
        content = ContentKeys(keyring)
        commits.retire = content.retire
        disclosure = Disclosure(log, views, commits)
        statistics = Statistics(log, views, commits, disclosure)
        traces = Traces(log, views, disclosure)
        hub = cls(
            log=log,
            views=views,
            commits=commits,
            intake=intake,
            disclosure=disclosure,
            feeds=Feeds(log, views, disclosure),
            statistics=statistics,
            audit=Audit(log, views, commits, disclosure, statistics),
            directory=Directory(log, views),
            traces=traces,
            records=Records(log, views, traces),
            citizen=Citizen(log, views, traces),
            quarantine=quarantine,
            retention=Retention(log, views, (retention_policy or default_retention)(log.schemas)),
            waiting=waiting,
            linking=linking,
            plugins=plugins,
            payloads=payloads,
            polling=Polling(log, payloads, plugins),
            index=Index(log),
            relayed=Relayed(log),
            content=content,
            engines=(engine, keys),
        )
        with suppress(Tampered):  # a view that was changed: hub verify tells, and hub rebuild has to open it
            hub._keep_schemas()
        with suppress(Misuse):  # a role that only looks leaves it to the next one that may
            hub.finish()
        return hub

    def finish(self) -> None:
        """Finish what a stop, or a commit whose acknowledgement was lost, cut off, here or on another machine.

        Destroy what the log says is to be destroyed, and let in what it says is linked. Cheap enough for every minute.
        """
        self.commits.unsure = False
        self._finish_erasures()
        with suppress(Tampered):  # of a view that was changed: hub verify tells
            self._finish_retirements()
        self.retention.finish()
        self.linking.finish()

    def renew(self) -> None:
        """Drop from memory what another process destroyed: keys of persons and of months. Cheap, for every second."""
        self.retention.renew()
        with suppress(Tampered), self.log.entries.snapshot() as (connection, end):
            self.views.at(connection, end.position)
        self.log.keyring.forget_all(self.views.persons.erased)

    def _keep_schemas(self) -> None:
        """Keep the files of kinds that connectors bring and that are in use here, if they are those of their facts.

        What is not kept here is so with its first fact; this is for facts from before, and for older versions.
        """
        kept = self.log.kept.topics()
        missing = [kind for kind in self.log.schemas.brought if kind.topic not in kept]
        if not missing:
            return
        with self.log.entries.snapshot() as (connection, end):
            kinds = self.views.at(connection, end.position).city.kinds
        missing = [kind for kind in missing if kind.name in kinds]
        if missing:
            # a role that only looks leaves it to the next one that may
            with suppress(Misuse), self.log.entries.maintaining() as connection:
                for kind in missing:
                    with suppress(Refused):  # intake tells of it, with each fact
                        self.log.kept.hold(connection, self.log.schemas, kind.topic, kinds[kind.name])

    def _finish_erasures(self) -> None:
        """Destroy the keys of those whose erasure was recorded just before the hub was stopped (R15).

        The log decides: a row of a view, which anything may have damaged, destroys nobody's key.
        """
        with self.log.entries.snapshot() as (connection, _):
            erased = persons.erased(connection)
            left = {erased[ordinal]: ordinal for ordinal in self.log.keyring.held(erased)}
            entries = self.log.read(connection, left)
            digests = persons.erased_digests(connection)
        for position, entry in entries.items():
            kind = entry.kind if isinstance(entry, Closed) else entry.event.kind
            if kind == "person.erased" and entry.subject == left[position]:
                self.log.keyring.erase(left[position])
        self.quarantine.erase(digests)

    def _finish_retirements(self) -> None:
        """Destroy the content keys of recipients whose retirement was recorded just before the hub was stopped."""
        with self.log.entries.snapshot() as (connection, end):
            recipients = self.views.at(connection, end.position).city.recipients.values()
        self.content.retire(found.id for found in recipients if found.retired)
        self.content.end(self.log.clock.now())

    @property
    def empty(self) -> bool:
        """Whether the log holds nothing yet."""
        return self.log.entries.max_notification_id() is None

    def init(self) -> bool:
        """Introduce the packaged kinds and the city's areas to an empty log; False where it is not empty."""
        if not self.empty:
            return False
        self.intake.take([*introductions(self.log.schemas), *areas()])
        return True

    def simulate(self) -> None:
        """Mark the database for ever as one whose clock is the payloads' own.

        Raises Misuse where real events are in it.
        """
        if self.simulated:
            return
        if not self.empty:
            raise Misuse("this database holds real events; --simulate needs one of its own")
        self.log.entries.set(_SIMULATED, "true")

    @property
    def simulated(self) -> bool:
        """Whether the database replays the past."""
        return self.log.entries.get(_SIMULATED) is not None

    def close(self) -> None:
        """Close the databases."""
        for engine in self.engines:
            engine.dispose()


def introductions(schemas: Schemas) -> list[Event]:
    """`kind.introduced` for every fact kind that can be written here, with what its schema says of it."""
    events = []
    for name in [kind.name for kind in schemas if kind.category == "fact"]:
        if (kind := schemas.writing(name)) is not None:
            data = {
                "kind": kind.name,
                "ttl_s": kind.ttl_s,
                "latest_by": list(kind.latest_by) or None,
                "roster": kind.roster or None,
                "schema": kind.topic,
                "schema_sha256": kind.sha256,
            }
            events.append(Event(source=HUB, id=f"kind:{kind.topic}", kind="kind.introduced", data=data))
    return events


def areas() -> list[Event]:
    """`area.introduced` for each area of the city, with the grid squares that lie in it."""
    said = json.loads(Path(__file__).with_name("city-areas.json").read_bytes())
    return [
        Event(source=HUB, id=f"area:{area}", kind="area.introduced", data={"area": area, "contains": said[area]})
        for area in sorted(said)
    ]


def default_policy() -> HazardPolicy:
    """The hazard policy that ships with the hub."""
    return hazards.load(Path(__file__).with_name("hazard-policy.toml").read_bytes())


def default_retention(schemas: Schemas) -> RetentionPolicy:
    """The retention policy that ships with the hub."""
    return retention.load(Path(__file__).with_name("retention.toml").read_bytes(), schemas)


def _check_restored(engine: Engine) -> None:
    """Raise Misuse where a restore has not ended; before anything is made there, keys above all."""
    with engine.connect() as connection:
        unfinished = inspect(connection).has_table(recorder.setting.name) and connection.scalar(
            select(recorder.setting.c.name).where(recorder.setting.c.name == RESTORING)
        )
    if unfinished:
        engine.dispose()
        raise Misuse("this database is being restored, or its restore was cut off; run hub restore again")


def _master(path: Path) -> bytes:
    """The master key in a file that only its owner reads; made where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(os.urandom(32).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process made it in the meantime: that one counts
            os.link(fresh, path)
        os.unlink(fresh)
    try:
        return bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError):
        raise Misuse(f"{path.name} holds no key of 32 bytes in hexadecimal") from None
