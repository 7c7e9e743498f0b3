"""The log's table: the library's own contract, append-only, positions without a gap."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import TestCase
from uuid import uuid4

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.tests import persistence as contract
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError as DatabaseError

import databases
from hub.log import migrations
from hub.log import recorder as tables
from hub.log.clock import SetClock
from hub.log.database import open_database, parse_url
from hub.log.recorder import Recorder

NOON = datetime(2026, 6, 1, 3, tzinfo=UTC)


def opened(folder: Path, clock: SetClock | None = None) -> Recorder:
    """A recorder on the database of `folder`."""
    engine = open_database(parse_url(databases.url(folder)), durable=False)
    migrations.prepare(engine, "log")
    return Recorder(engine, clock or SetClock(NOON))


class FreshRecorder(TestCase):
    """Gives the library's tests a recorder of ours for each test."""

    def create_recorder(self) -> Recorder:
        folder = tempfile.TemporaryDirectory()
        made = opened(Path(folder.name))
        self.addCleanup(folder.cleanup)
        self.addCleanup(made.engine.dispose)
        return made


class TestApplicationRecorder(FreshRecorder, contract.ApplicationRecorderTestCase[Recorder]):
    """`eventsourcing`'s contract for an application recorder."""


class TestNonInterleaving(FreshRecorder, contract.NonInterleavingNotificationIDsBaseCase):
    """`eventsourcing`'s contract: the events of one insert stand together."""


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = opened(tmp_path)
    yield made
    made.engine.dispose()


def stored(state: bytes = b"state") -> StoredEvent:
    return StoredEvent(originator_id=uuid4(), originator_version=1, topic="topic", state=state)


def everything(recorder: Recorder) -> list[tuple[object, ...]]:
    with recorder.engine.begin() as connection:
        return [tuple(row) for table in tables.metadata.sorted_tables for row in connection.execute(select(table))]


@pytest.mark.parametrize(
    "change",
    [
        update(tables.log).values(state=b"other"),
        update(tables.log).where(tables.log.c.position == 2).values(position=9),
        delete(tables.log).where(tables.log.c.position == 2),
        delete(tables.log),
        pytest.param(
            insert(tables.log)
            .prefix_with("OR REPLACE")
            .values(
                position=1,
                recorded_us=0,
                subject=0,
                identity=bytes(16),
                identity_version=1,
                claim=b"",
                topic="topic",
                state=b"other",
                leaf=bytes(32),
            ),
            marks=pytest.mark.sqlite("no other database replaces"),
        ),
        update(tables.identity).values(position=1),
        delete(tables.identity),
        update(tables.head).values(position=1),
        delete(tables.head),
    ],
    ids=str,
)
def test_the_hubs_own_connection_cannot_change_what_is_recorded(recorder: Recorder, change: object) -> None:
    recorder.insert_events([stored(), stored()])
    before = everything(recorder)

    with pytest.raises(DatabaseError, match="append-only"), recorder.maintaining() as connection:
        connection.execute(change)  # type: ignore[call-overload]

    assert everything(recorder) == before


def test_a_chunk_cannot_be_changed(recorder: Recorder) -> None:
    with recorder.appending() as append:
        position = append.add(topic="topic", state=b"state", identity=uuid4().bytes)
        append.add_chunk(position, 0, b"piece")
    for change in (update(tables.chunk).values(state=b"other"), delete(tables.chunk)):
        with pytest.raises(DatabaseError, match="append-only"), recorder.maintaining() as connection:
            connection.execute(change)


def test_an_error_leaves_no_gap(recorder: Recorder) -> None:
    recorder.insert_events([stored()])
    with suppress(ZeroDivisionError), recorder.appending() as append:
        append.add(topic="topic", state=b"lost", identity=uuid4().bytes)
        raise ZeroDivisionError
    twice = stored()
    with pytest.raises(IntegrityError):
        recorder.insert_events([twice, twice])

    assert list(recorder.insert_events([stored()])) == [2]


def test_many_threads_leave_no_gap(recorder: Recorder) -> None:
    given: list[int] = []

    def write() -> None:
        for _ in range(20):
            given.extend(recorder.insert_events([stored(), stored()]))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(given) == list(range(1, 321))
    assert [n.id for n in recorder.select_notifications(None, 1_000)] == list(range(1, 321))


WRITER = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_recorder import opened, stored
recorder = opened(Path(sys.argv[1]))
for _ in range(40):
    print(*recorder.insert_events([stored(), stored()]))
"""


def test_two_processes_leave_no_gap(recorder: Recorder, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        WRITER,
        str(tmp_path),
        str(Path(__file__).parent),
        str(Path(__file__).parent.parent),
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    given = [int(word) for process in running for word in process.communicate()[0].split()]

    assert [process.returncode for process in running] == [0, 0]
    assert sorted(given) == list(range(1, 161))
    assert recorder.max_notification_id() == 160


def test_a_clock_that_goes_back_counts_as_the_last_events_time(tmp_path: Path) -> None:
    clock = SetClock(NOON)
    recorder = opened(tmp_path, clock)
    recorder.insert_events([stored()])
    clock.set(NOON - timedelta(hours=1))
    recorder.insert_events([stored()])

    with recorder.engine.begin() as connection:
        times = list(connection.scalars(select(tables.log.c.recorded_us)))
    recorder.engine.dispose()

    assert times[0] == times[1]
