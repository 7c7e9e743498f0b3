"""Restoring: into tables that are empty, and not done before the audit says so.

While the setting `restoring` stands no hub opens the database. The rows of the log are one transaction, those of the
keys another: a restore that was killed has all of them or none, and the same one, run again, goes on from there.

What was erased stays erased, however old the keys are: whom the log says is erased, the months that it says are
destroyed and the items that nothing waits for any more lose their keys before anything is opened (R15). So does whom
the log does not know: who is enrolled next takes the number, and must not take the key of somebody who was lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, delete, func, select, update

from hub.backup import tables
from hub.backup.databases import Databases, writing
from hub.backup.folder import Manifest, Row, check_files, read_manifest, read_rows
from hub.backup.taking import AT_ONCE, Growing
from hub.errors import Misuse, Tampered
from hub.events import EPOCH, Event
from hub.feeds import kept_feed
from hub.hub import Hub
from hub.intake import HUB
from hub.log import recorder, sealing
from hub.log.clock import SetClock
from hub.log.content import ContentKeys
from hub.log.database import insert_many
from hub.log.log import RESTORING, Log
from hub.log.sealing import CITY, Keyring
from hub.plugins import Plugins
from hub.schemas import packaged
from hub.verifying import Verified
from hub.views import facts
from hub.views.views import Views

_ERASED = "person.erased"
_CLAIM_VERSION = 0
"""The version under which the log keeps what an entry claims."""

_ERASING = "restoring:erasing"
"""The setting that says for whom a key is made only to record an erasure."""

_AT_ONCE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What a restore came to. erased_again: persons whose keys are missing, recorded as erased now.

    unknown_keys: keys that were destroyed, since the log knows nobody whose they are.
    """

    verified: Verified
    erased_again: int
    unknown_keys: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A backup that was checked."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be restored."""

    log: _Part | None
    keys: _Part | None

    @property
    def mark(self) -> str:
        """What stands in the database while this restore is not finished."""
        parts = {"log": self.log, "keys": self.keys}
        return json.dumps({name: part.manifest.id for name, part in parts.items() if part is not None})

    @property
    def mark_put(self) -> str:
        """The same, once the rows of the log stand there."""
        return f"{self.mark} put"

    @property
    def manifests(self) -> list[Manifest]:
        return [part.manifest for part in (self.log, self.keys) if part is not None]


def check(master: bytes, *, log: Path | None = None, keys: Path | None = None) -> list[Manifest]:
    """Whether backups are whole and this hub's, without restoring them: manifests, files, leaves and root."""
    asked = _checked(master, log, keys)
    if asked.log is not None:
        _, rows = read_rows(asked.log.folder, recorder.log.name)
        growing = Growing()
        for row in rows:
            growing.add(*row)
        _same_root(growing, asked.log.manifest)
    return asked.manifests


def _checked(master: bytes, log: Path | None, keys: Path | None) -> _Asked:
    secret = sealing.backup_secret(master)
    first, second = _part(log, "log", secret), _part(keys, "keys", secret)
    if first is not None and second is not None and first.manifest.keys != second.manifest.keys:
        raise Misuse("these keys are another hub's: they do not belong to this backup of the log")
    return _Asked(first, second)


def _part(path: Path | None, of: str, secret: bytes) -> _Part | None:
    if path is None:
        return None
    manifest = read_manifest(path, of, secret)
    check_files(path, manifest)
    return _Part(path, manifest)


def restore(
    at: Databases,
    master: bytes,
    *,
    log: Path | None = None,
    keys: Path | None = None,
    erase_missing: bool = False,
    plugins: Plugins | None = None,
) -> Restored:
    """Restore a backup of the log, of its keys, or both, into databases that are empty, and prove it.

    Without `keys` those that stand in the keys' database are used; without `log` the log that stands. erase_missing:
    record as erased whose keys are missing; without it that is refused. Raises Misuse, and Tampered with the name of
    the file or the position that does not hold.
    """
    asked = _checked(master, log, keys)
    plugins = plugins or Plugins()
    with ExitStack() as closing:
        engine, keys_engine = at.engines()
        closing.callback(engine.dispose)
        closing.callback(keys_engine.dispose)
        _put(engine, keys_engine, master, asked)
        last = _last(engine)
        standing = Log(engine, Keyring(keys_engine, master), plugins.extend(packaged()), SetClock(last))
        if asked.log is not None:
            _bury(standing.keyring, asked.log.folder)
        again, unknown = _settle(standing, erase_missing=erase_missing)
        Views(standing).rebuild()
    return Restored(verified=_prove(at, master, plugins, last), erased_again=again, unknown_keys=unknown)


def _put(engine: Engine, keys_engine: Engine, master: bytes, asked: _Asked) -> None:
    """Have all rows of the backups stand in the tables."""
    put = _begin(engine, keys_engine, master, asked)
    if asked.keys is not None:
        _put_keys(keys_engine, asked.keys)
    if asked.log is not None and not put:
        _put_log(engine, asked.log, asked.mark_put)


def _bury(keyring: Keyring, path: Path) -> None:
    """Destroy the keys of the months that were destroyed when the log's backup was taken."""
    _, tombstones = read_rows(path, tables.TOMBSTONES)
    for kind, month, ended_us, _ in tombstones:
        keyring.end(kind, month, EPOCH + timedelta(microseconds=ended_us))


def _begin(engine: Engine, keys: Engine, master: bytes, asked: _Asked) -> bool:
    """Mark the database as one that is being restored; whether the rows of this very restore stand there already.

    Raises Misuse where anything stands there that it would be put beside.
    """
    entries = recorder.Recorder(engine, SetClock(EPOCH))
    before = entries.get(RESTORING)
    if before in (asked.mark, asked.mark_put):
        return before == asked.mark_put
    if before is not None:
        raise Misuse("another restore was begun here and not finished: run that one again, or make the database anew")
    if asked.log is not None:
        _check_empty(engine)
    elif entries.max_notification_id() is None:
        raise Misuse("there is no log here that these keys could belong to: name its backup too")
    if asked.keys is not None and _has_keys(keys):
        raise Misuse("the keys' database is not empty: leave --keys out to use what stands there, or move it away")
    if asked.keys is None:
        _check_keys(keys, master, asked)
    entries.set(RESTORING, asked.mark)
    return False


def _check_keys(keys: Engine, master: bytes, asked: _Asked) -> None:
    """Raise Misuse where the keys that stand there are not those of the backup; none are made."""
    if not _has_keys(keys):
        raise Misuse("the keys' database is empty, and nothing of a log can be read without its keys: --keys FOLDER")
    digest = Keyring(keys, master).digest("backup").hex()
    if any(manifest.keys != digest for manifest in asked.manifests):
        raise Misuse("the keys that stand there are another hub's; name the backup of this hub's: --keys FOLDER")


def _check_empty(engine: Engine) -> None:
    with engine.connect() as connection:
        for table in recorder.metadata.sorted_tables:
            if table is not recorder.head and _any(connection, table):
                raise Misuse(f"the database is not empty (table {table.name}): restore into one of its own")


def _any(connection: Connection, table: Table) -> bool:
    return connection.execute(select(table).limit(1)).first() is not None


def _has_keys(engine: Engine) -> bool:
    with engine.connect() as connection:
        return any(_any(connection, table) for table in tables.KEYS)


def _put_keys(engine: Engine, part: _Part) -> None:
    """Insert the keys, all of them in one transaction; nothing where that was done."""
    with writing(engine).begin() as connection:
        if not any(_any(connection, table) for table in tables.KEYS):
            for table in tables.KEYS:
                _insert(connection, table, part)


def _put_log(engine: Engine, part: _Part, mark: str) -> None:
    """Insert the log and what stands beside it, in one transaction."""
    growing = Growing()
    with writing(engine).begin() as connection:
        recorder.hold(connection)  # in the order in which everyone locks: hub migrate may run meanwhile
        for table in tables.kept():
            if f"{table.name}.rows" in part.manifest.files:
                _insert(connection, table, part, growing if table is recorder.log else None)
        _same_root(growing, part.manifest)
        head = {"position": growing.tree.size, "recorded_us": growing.recorded_us, "frontier": growing.tree.encode()}
        connection.execute(update(recorder.head).where(recorder.head.c.id == 1).values(**head))
        name = recorder.setting.c.name == RESTORING
        connection.execute(update(recorder.setting).where(name).values(value=mark))


def _insert(connection: Connection, table: Table, part: _Part, growing: Growing | None = None) -> None:
    """Insert the rows of a table's file; of the log, whose tree is `growing`, what identifies each entry too."""
    columns, rows = read_rows(part.folder, table.name)
    names = [column.name for column in table.columns]
    if not {column.name for column in table.columns if not column.nullable} <= set(columns) <= set(names):
        older = f"restore with hub {part.manifest.hub_version}, then upgrade"
        raise Misuse(f"the columns of {table.name} are not those of this version: {older}")
    order = [columns.index(name) if name in columns else None for name in names]
    count = 0
    for piece in _pieces(rows):
        ready = [tuple(None if at is None else row[at] for at in order) for row in piece]
        insert_many(connection, table, ready)
        if growing is not None:
            insert_many(connection, recorder.identity, sorted(_identities(ready, growing)))
        count += len(ready)
    if count != part.manifest.rows(table.name):
        raise Tampered(f"{part.folder.name}/{table.name}.rows has {count:,} rows, the manifest says another number")
    _go_on_counting(connection, table)


def _identities(rows: Sequence[Row], growing: Growing) -> Iterator[tuple[bytes, int, int]]:
    for row in rows:
        growing.add(*row)
        position, _, _, identity, version, claim, *_ = row
        yield identity, version, position
        if claim:
            yield claim, _CLAIM_VERSION, position


def _pieces(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows in pieces of a bounded number and size."""
    piece: list[Row] = []
    size = 0
    for row in rows:
        piece.append(row)
        size += sum(len(value) for value in row if isinstance(value, bytes))
        if len(piece) >= AT_ONCE or size >= _AT_ONCE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _go_on_counting(connection: Connection, table: Table) -> None:
    """Have a number that PostgreSQL counts go on behind the rows that were inserted with theirs.

    Step by step: to set it is for the owner alone.
    """
    counted = table.autoincrement_column
    if connection.dialect.name == "postgresql" and counted is not None:
        newest = connection.scalar(select(func.max(counted))) or 0
        step = func.nextval(func.pg_get_serial_sequence(table.name, counted.name)).label("step")
        steps = select(step).select_from(func.generate_series(1, newest)).subquery()
        connection.execute(select(func.max(steps.c.step)))


def _same_root(growing: Growing, manifest: Manifest) -> None:
    if (growing.tree.size, growing.tree.root().hex()) != (manifest.position, manifest.root):
        raise Tampered("the entries do not come to the root that the manifest says")


def _last(engine: Engine) -> datetime:
    """When the log's last entry was recorded: what a restore itself appends does not move its time."""
    with engine.connect() as connection:
        us = connection.scalar(select(recorder.head.c.recorded_us).where(recorder.head.c.id == 1))
    return EPOCH + timedelta(microseconds=us or 0)


def _settle(log: Log, *, erase_missing: bool) -> tuple[int, int]:
    """Destroy every key that the log says is destroyed; see that none is missing beyond; destroy what it does not know.

    Returns how many persons were recorded as erased since their keys are missing, and how many keys were unknown.
    """
    with log.entries.snapshot() as (connection, _):
        subjects = set(connection.scalars(select(recorder.log.c.subject).distinct())) - {CITY}
        erased = set(
            connection.scalars(select(recorder.log.c.subject).where(recorder.log.c.topic.like(f"{_ERASED}.%")))
        )
        marked = facts.marked(connection)
        needed = _months(connection)
        items: set[str] = set()
        for name in ("waiting", "parked"):
            items.update(connection.scalars(select(recorder.metadata.tables[name].c.item)))
    keyring = log.keyring
    begun = {int(subject) for subject in (log.entries.get(_ERASING) or "").split()}
    for subject in sorted(keyring.subjects() & (erased | begun)):
        keyring.erase(subject)
    ended = keyring.ended()
    for kind, month in marked:
        if (kind, month) not in ended:
            keyring.end(kind, month, log.clock.now())
    for kind, month in ended:
        keyring.end(kind, month, ended[kind, month])
    keyring.keep_parked(items)
    months = needed - set(keyring.periods()) - keyring.ended().keys()
    persons = subjects - erased - keyring.subjects()
    if (persons or months) and not erase_missing:
        raise Misuse(
            f"the keys of {len(persons):,} persons and {len(months):,} months are missing, and this log does not say "
            "that they were destroyed: they were erased after the backup of the log, or are newer than that of the "
            "keys, or somebody destroyed them. See docs/operating.md; to record them as erased: --erase-missing"
        )
    for kind, month in sorted(months):
        keyring.end(kind, month, log.clock.now())
    unknown = keyring.keep(subjects)  # behind the refusal: what is refused has lost nothing that another log needs
    ContentKeys(keyring).destroy()
    _erase_again(log, sorted(persons))
    return len(persons), unknown


def _months(connection: Connection) -> set[tuple[str, int]]:
    """The kinds and months of recording under whose keys anything is sealed."""
    columns = recorder.log.c
    head = func.substr(columns.state, 1, len(sealing.header(0)))
    query = select(columns.topic, head).where(columns.subject != CITY).distinct()
    found = {(topic.rpartition(".")[0], sealing.month_in(bytes(header))) for topic, header in connection.execute(query)}
    return {(kind, month) for kind, month in found if month}


def _erase_again(log: Log, persons: Sequence[int]) -> None:
    """Record that persons are erased of whom nothing can be read: their ids neither. The views follow from it."""
    kind = log.schemas.kind(_ERASED)
    left = iter(persons)
    while piece := list(islice(left, AT_ONCE)):
        log.entries.set(_ERASING, " ".join(map(str, piece)))  # killed behind this, their new keys go first
        log.keyring.create(piece)
        with log.entries.appending() as append:
            for subject in piece:
                event = Event(source=HUB, id=f"restore:{subject}", kind=_ERASED, person=f"restore:{subject}", data={})
                record = kind.encode({"by": None})
                identity = log.identify(event)
                log.add(append, event, kind, record, received_at=append.now, identity=identity, subject=subject)
        for subject in piece:
            log.keyring.erase(subject)


def _begin_streams_anew(hub: Hub) -> None:
    """Forget what streams were told, where the log stood: nobody can open it any more. The next generation tells it."""
    with hub.log.entries.snapshot() as (connection, _):
        names = list(connection.scalars(select(kept_feed.c.name)))
    for name in names:
        hub.feeds.drop(name)


def _prove(at: Databases, master: bytes, plugins: Plugins, last: datetime) -> Verified:
    """Open the hub, which finishes what the log says; audit everything; and only then let others open it."""
    hub = at.hub(SetClock(last), master, plugins)
    try:
        verified = hub.audit.verify()
        _begin_streams_anew(hub)
        with hub.log.entries.maintaining() as connection:
            connection.execute(delete(recorder.setting).where(recorder.setting.c.name.in_([RESTORING, _ERASING])))
    finally:
        hub.close()
    return verified
