"""PostgreSQL's own: a tailing reader misses nothing, roles may what they need, what is changed is found."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
from eventsourcing.persistence import StoredEvent
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import IntegrityError, ProgrammingError

import databases
from conftest import Said
from doors import served
from hub.answer import Query
from hub.backup import Databases, restore, take_keys, take_log
from hub.errors import Busy, HubError, Misuse, PayloadError, Tampered
from hub.hub import Hub
from hub.log import migrations
from hub.log.clock import SetClock
from hub.log.database import Place, dialect, open_database, parse_url, place
from hub.log.postgres import fits, grant
from hub.log.recorder import Recorder, hold
from hub.scenario import SOURCE, flat_event

NOON = datetime(2026, 6, 1, 3, tzinfo=UTC)
EACH = int(os.environ.get("HUB_TEST_TAILED", "40"))
WRITERS = 16


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Place]:
    made = place(databases.url(tmp_path, postgres=True))
    yield made
    databases.drop(made)


@pytest.fixture
def engine(at: Place) -> Iterator[Engine]:
    made = open_database(at.log, durable=False)
    yield made
    made.dispose()


class _Undone(Exception):
    """A transaction that is rolled back on purpose."""


def tailed(write: Any, read: Any, last: Any) -> tuple[list[int], list[int]]:
    """What writers, of whom one in fifty is rolled back, were given; and what a reader saw that only ever goes on."""
    given: list[int] = []
    seen: list[int] = []
    lock, done = threading.Lock(), threading.Event()

    def writer(seed: int) -> None:
        some = random.Random(seed)
        for _ in range(EACH):
            with suppress(_Undone):
                found = write(some.random() < 0.02, some)
                with lock:
                    given.extend(found)

    def reader() -> None:
        after = 0
        while not (done.is_set() and after >= last()):
            rows = read(after)
            seen.extend(rows)
            after = rows[-1] if rows else after

    threads = [threading.Thread(target=writer, args=(seed,)) for seed in range(WRITERS)]
    tail = threading.Thread(target=reader)
    for thread in (*threads, tail):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    tail.join()
    return sorted(given), seen


def test_a_tailing_reader_misses_nothing_and_finds_no_gap(engine: Engine) -> None:
    """Each writer as another process would be: what they wait for is the row of the head."""
    recorder, writers = Recorder(engine, SetClock(NOON)), threading.local()

    def write(undone: bool, some: random.Random) -> list[int]:
        if not hasattr(writers, "own"):
            writers.own = Recorder(engine, SetClock(NOON))
        with writers.own.appending() as append:
            found = [
                append.add(topic="topic", state=b"state", identity=uuid4().bytes) for _ in range(some.randint(1, 5))
            ]
            if undone:
                raise _Undone
        return found

    def read(after: int) -> list[int]:
        return [row.id for row in recorder.select_notifications(after + 1, 100)]

    given, seen = tailed(write, read, lambda: recorder.max_notification_id() or 0)
    assert seen == given == list(range(1, len(given) + 1))
    assert len(given) > WRITERS * EACH


def test_a_snapshot_stays_as_it_is_and_nothing_is_written_in_it(engine: Engine) -> None:
    recorder = Recorder(engine, SetClock(NOON))
    event = StoredEvent(originator_id=uuid4(), originator_version=1, topic="topic", state=b"x")
    with recorder.snapshot() as (connection, end):
        Recorder(engine, SetClock(NOON)).insert_events([event])
        assert recorder.end(connection) == end
        with pytest.raises(Busy, match="read-only"):
            connection.execute(text("UPDATE head SET position = position"))
    assert recorder.max_notification_id() == 1


def test_with_positions_from_a_sequence_the_same_reader_would_miss_some(engine: Engine) -> None:
    """The control: were nothing missed here, the test above would prove nothing."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE numbered (position bigserial PRIMARY KEY, state bytea)"))

    def write(undone: bool, some: random.Random) -> list[int]:
        with engine.begin() as connection:
            found = []
            for _ in range(some.randint(1, 5)):
                query = text("INSERT INTO numbered (state) VALUES ('x') RETURNING position")
                found.append(int(connection.execute(query).scalar_one()))
            if undone:
                raise _Undone
        return found

    def read(after: int) -> list[int]:
        query = text("SELECT position FROM numbered WHERE position > :after ORDER BY position LIMIT 100")
        with engine.begin() as connection:
            return [row.position for row in connection.execute(query, {"after": after})]

    def last() -> int:
        with engine.begin() as connection:
            return int(connection.execute(text("SELECT coalesce(max(position), 0) FROM numbered")).scalar_one())

    given, seen = tailed(write, read, last)
    assert set(seen) < set(given), "a sequence gave every position in order: no race came about"
    assert given != list(range(1, len(given) + 1)), "what was rolled back left no gap"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET state = 'other'",
        "DELETE FROM log",
        "TRUNCATE log",
        "UPDATE identity SET position = 1",
        "DELETE FROM identity",
        "TRUNCATE identity",
        "UPDATE chunk SET state = 'other'",
        "DELETE FROM chunk",
        "TRUNCATE chunk",
        "UPDATE head SET position = position - 1",
        "UPDATE head SET id = 2",
        "DELETE FROM head",
        "TRUNCATE head",
        "INSERT INTO log SELECT position + 5, recorded_us, subject, identity, identity_version, claim, topic, state, "
        "leaf FROM log",
        "INSERT INTO log SELECT position * 2 + 2, recorded_us, subject, identity, identity_version, claim, topic, "
        "state, leaf FROM log",
        "INSERT INTO log SELECT position - 5, recorded_us, subject, identity, identity_version, claim, topic, state, "
        "leaf FROM log",
    ],
)
def test_the_owner_itself_cannot_change_what_is_recorded(engine: Engine, statement: str) -> None:
    recorder = Recorder(engine, SetClock(NOON))
    events = [StoredEvent(originator_id=uuid4(), originator_version=1, topic="topic", state=b"x") for _ in range(3)]
    recorder.insert_events(events)
    with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))


def test_what_was_taken_out_cannot_be_put_back_otherwise(engine: Engine) -> None:
    recorder = Recorder(engine, SetClock(NOON))
    events = [StoredEvent(originator_id=uuid4(), originator_version=1, topic="topic", state=b"x") for _ in range(3)]
    recorder.insert_events(events)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("DELETE FROM log WHERE position = 2"))
    columns = "recorded_us, subject, identity, identity_version, claim, topic, 'other', leaf"
    with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
        connection.execute(text(f"INSERT INTO log SELECT 2, {columns} FROM log WHERE position = 1"))


def role(engine: Engine, name: str) -> URL:
    """A role of the server that may nothing yet, and the URL to be it with."""
    with engine.begin() as connection:
        connection.execute(text(f"DROP ROLE IF EXISTS {name}"))
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'tried'"))
    return databases.server().set(username=name, password="tried")


@pytest.fixture
def roles(at: Place, engine: Engine) -> Iterator[dict[str, str]]:
    """The URLs of the hub as the roles that append, and that look."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    names = {name: f"hub_{name}{worker}" for name in ("append", "read")}
    urls = {}
    for name, called in names.items():
        of = role(engine, called).update_query_dict({"schema": str(at.log.query["schema"])})
        urls[name] = of.render_as_string(hide_password=False)
    for which, url in migrations.databases(at):
        owner = open_database(url, which)
        with owner.begin() as connection:
            grant(connection, which, names["append"], names["read"])
        owner.dispose()
    yield urls
    with engine.begin() as connection:
        for called in names.values():
            connection.execute(text(f"DROP OWNED BY {called}"))
            connection.execute(text(f"DROP ROLE {called}"))


def test_the_appending_role_serves_and_may_not_touch_what_is_recorded(roles: dict[str, str], tmp_path: Path) -> None:
    hub = Hub.open(roles["append"], SetClock(NOON), folder=tmp_path)
    hub.init()
    hub.audit.verify()
    assert hub.views.rebuild() > 0
    for statement in (
        "UPDATE log SET state = 'other'",
        "DELETE FROM log",
        "TRUNCATE log",
        "ALTER TABLE log DISABLE TRIGGER ALL",
        "DROP TABLE log",
        "DELETE FROM head",
        "CREATE TABLE other (x int)",
        "DROP TRIGGER log_update ON log",
    ):
        with pytest.raises(HubError, match=r"may not|damaged"), hub.log.entries.engine.begin() as connection:
            connection.execute(text(statement))
    hub.close()


def rights(url: str) -> dict[str, set[str]]:
    """What a role may do besides looking, by table of the log and of the keys."""
    query = text(
        "SELECT c.relname AS at, p.may FROM pg_class c, unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p(may) "
        "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND has_table_privilege(c.oid, may)"
    )
    found: dict[str, set[str]] = {}
    for which, at in migrations.databases(place(url)):
        engine = open_database(at, which)
        with engine.begin() as connection:
            assert connection.scalar(text("SELECT current_schema()")) == at.query["schema"]
            for row in connection.execute(query):
                found.setdefault(row.at, set()).add(row.may)
        engine.dispose()
    return found


def test_each_role_may_what_it_needs_and_no_more(roles: dict[str, str]) -> None:
    assert rights(roles["read"]) == {}
    may = rights(roles["append"])
    narrow = {"log": {"INSERT"}, "identity": {"INSERT"}, "chunk": {"INSERT"}, "head": {"UPDATE"}}
    assert {table: may.pop(table) for table in narrow} == narrow
    assert {frozenset(of) for of in may.values()} == {frozenset({"INSERT", "UPDATE", "DELETE"})}
    assert "alembic_version" not in may


SECOND = ("renewal", "renewal_share", "relay")
"""The tables that the second form made."""


def first_form(engine: Engine) -> None:
    """Take away what the second form made, as the owner may."""
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {', '.join(SECOND)}"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))


def test_who_could_use_all_before_a_migration_uses_what_it_makes(
    roles: dict[str, str], at: Place, tmp_path: Path, hub_main: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    may, owner = rights(roles["append"]), open_database(at.log)
    first_form(owner)
    with pytest.raises(Misuse, match=r"of an earlier release's form; .* run: hub migrate"):
        Hub.open(roles["append"], SetClock(NOON), folder=tmp_path)
    monkeypatch.setenv("HUB_DATABASE_URL", at.log.render_as_string(hide_password=False))
    said = hub_main("migrate")
    assert (said.status, said.err) == (0, "")
    assert "of the log was brought to the form" in said.out
    assert rights(roles["append"]) == may
    assert rights(roles["read"]) == {}
    for url in roles.values():
        hub = Hub.open(url, SetClock(NOON), folder=tmp_path)
        assert hub.statistics.waiting() == 0
        hub.close()
    owner.dispose()


def test_who_could_use_a_part_is_given_nothing_and_is_named(
    roles: dict[str, str], at: Place, hub_main: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    named, owner = str(parse_url(roles["append"]).username), open_database(at.log)
    with owner.begin() as connection:
        connection.execute(text(f"REVOKE ALL ON setting FROM {named}"))
    before = rights(roles["append"])
    first_form(owner)
    monkeypatch.setenv("HUB_DATABASE_URL", at.log.render_as_string(hide_password=False))
    for _ in range(2):
        said = hub_main("migrate")
        assert said.status == 0
        assert f"the role {named} may not use all of the database of the log" in said.err
        assert "of the keys" not in said.err
    assert rights(roles["append"]) == {table: of for table, of in before.items() if table not in SECOND}
    said = hub_main("migrate", "--append", named)
    assert (said.status, said.err) == (0, "")
    owner.dispose()


def test_the_appending_role_can_let_a_fact_wait(roles: dict[str, str], tmp_path: Path) -> None:
    hub = Hub.open(roles["append"], SetClock(NOON), folder=tmp_path)
    hub.init()
    place = {"ref": "55-123", "lat_deg": 37.5, "lon_deg": 139.9, "accuracy_m": 5}
    [result] = hub.intake.take([flat_event("location.reported", place, "l1")])
    assert result.status == "waiting"
    hub.close()


def test_the_looking_role_looks_and_cannot_append(roles: dict[str, str], tmp_path: Path) -> None:
    made = Hub.open(roles["append"], SetClock(NOON), folder=tmp_path)
    made.init()
    made.close()
    hub = Hub.open(roles["read"], SetClock(NOON), folder=tmp_path)
    assert hub.audit.verify().size > 0
    assert take_log(hub, tmp_path / "log").rows > 0
    assert take_keys(hub, tmp_path / "keys").rows > 0
    assert hub.audit.emergencies(None, details=True) == []
    assert hub.relayed.lags() == []
    assert hub.index.lag().end > 0
    with pytest.raises(Misuse, match="may not"):
        hub.intake.take([flat_event("person.enrolled", {"person": "hanako", "areas": ["07202"]}, "e1")])
    hub.close()


def test_a_hub_that_only_looks_does_not_start_and_is_not_ready(
    roles: dict[str, str], tmp_path: Path, hub_main: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_FOLDER", str(tmp_path))
    made = Hub.open(roles["append"], SetClock(NOON), folder=tmp_path)
    made.init()
    made.close()
    (tmp_path / "kafka.toml").write_text('bootstrap = ["127.0.0.1:1"]\n[ingest.sources]\nmyhazard = ["location.*"]\n')
    monkeypatch.setenv("HUB_KAFKA", str(tmp_path / "kafka.toml"))
    for command in (("serve", "--port", "0"), ("relay", "--once"), ("ingest-kafka",)):
        said = hub_main(*command, "--database", roles["read"])
        assert (said.status, "only looks" in said.err) == (2, True), command
    hub = Hub.open(roles["read"], SetClock(NOON), folder=tmp_path)
    with served().over(hub) as client, structlog.testing.capture_logs() as lines:
        unready = client.get("/readyz")
    hub.close()
    assert unready.status == 503
    assert any("only looks" in line.get("reason", "") for line in lines)


def test_a_trigger_that_is_off_or_changed_is_found(at: Place, engine: Engine, tmp_path: Path) -> None:
    hub = Hub.open(at.log.render_as_string(hide_password=False), SetClock(NOON), folder=tmp_path)
    hub.init()
    hub.audit.verify()
    for off, on in (
        ("ALTER TABLE log DISABLE TRIGGER log_update", "ALTER TABLE log ENABLE TRIGGER log_update"),
        ("ALTER FUNCTION hub_refuse RENAME TO other", "ALTER FUNCTION other RENAME TO hub_refuse"),
    ):
        with engine.begin() as connection:
            connection.execute(text(off))
        with pytest.raises(Tampered, match="triggers"):
            hub.audit.verify()
        with engine.begin() as connection:
            connection.execute(text(on))
        hub.audit.verify()
    hub.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET state = state || 'x' WHERE position = 3",
        "UPDATE log SET recorded_us = recorded_us + 1 WHERE position = 3",
        "DELETE FROM log WHERE position = 3",
        "DELETE FROM log WHERE position = (SELECT max(position) FROM log)",
        "UPDATE identity SET position = position + 1",
        "UPDATE head SET frontier = ''",
        "DELETE FROM head",
        "DELETE FROM policy",
    ],
)
def test_what_an_owner_changes_without_the_triggers_is_found(
    at: Place, engine: Engine, tmp_path: Path, statement: str
) -> None:
    hub = Hub.open(at.log.render_as_string(hide_password=False), SetClock(NOON), folder=tmp_path)
    hub.init()
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(statement))
    with pytest.raises(Tampered):
        hub.audit.verify()
    hub.close()


def test_a_database_that_was_not_migrated_says_what_to_do(tmp_path: Path) -> None:
    url = databases.server().update_query_dict({"schema": "nothing_there"}).render_as_string(hide_password=False)
    with pytest.raises(Misuse, match=r"of the keys .*schema nothing_there_keys.* holds no hub: is HUB_.*hub migrate"):
        Hub.open(url, SetClock(NOON), folder=tmp_path)


def test_a_role_that_the_server_does_not_have_is_told(
    at: Place, hub_main: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", at.log.render_as_string(hide_password=False))
    said = hub_main("migrate", "--append", "nosuchrole")
    assert said.status == 2
    assert "of the keys" in said.err
    assert "the server has no such role; make it first" in said.err
    assert (at.log.password or "?") not in said.err


@pytest.mark.parametrize("name", ['hub" WITH GRANT OPTION; --', "ハブ", ""])
def test_what_is_no_name_of_a_role_is_refused(
    at: Place, hub_main: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", at.log.render_as_string(hide_password=False))
    said = hub_main("migrate", "--read", name)
    assert (said.status, "letters, digits and _" in said.err) == (2, True)


def test_several_processes_may_migrate_at_once(tmp_path: Path) -> None:
    named = databases.server().update_query_dict({"schema": f"t{os.getpid()}_at_once"})
    at, failed = place(named.render_as_string(hide_password=False)), []

    def migrate() -> None:
        try:
            for which, url in migrations.databases(at):
                engine = open_database(url, which)
                migrations.upgrade(engine, which)
                engine.dispose()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    databases.prepare(at)
    databases.drop(at)


def until_waited_for(connection: Connection, thread: threading.Thread) -> None:
    """Until somebody waits for what this transaction holds."""
    me = connection.scalar(text("SELECT pg_backend_pid()"))
    waits = text("SELECT count(*) FROM pg_stat_activity WHERE :me = ANY(pg_blocking_pids(pid))")
    while not connection.scalar(waits, {"me": me}):
        assert thread.is_alive()
        connection.execute(text("SELECT pg_stat_clear_snapshot()"))


def test_a_migration_waits_for_who_is_appending_and_stops_nobody(at: Place, engine: Engine) -> None:
    """As before a roll-out, while the last release serves: neither may have to take back what the other waits for."""
    recorder, failed = Recorder(engine, SetClock(NOON)), []

    def migrate() -> None:
        try:
            migrations.upgrade(engine, "log")
        except HubError as error:
            failed.append(error)

    migrating = threading.Thread(target=migrate)
    with recorder.appending() as append:
        append.add(topic="topic", state=b"state", identity=uuid4().bytes)
        append.connection.execute(text("LOCK TABLE identity IN ROW EXCLUSIVE MODE"))  # as with the first row it writes
        migrating.start()
        until_waited_for(append.connection, migrating)
    migrating.join()
    assert (failed, recorder.max_notification_id()) == ([], 1)


def test_what_an_append_and_a_read_of_one_person_cost_does_not_grow_with_the_log(at: Place, tmp_path: Path) -> None:
    """No table is read from end to end, by the hub or by its triggers."""
    people, read = 1_000, list[tuple[str, int]]()
    hub = Hub.open(at.log.render_as_string(hide_password=False), SetClock(NOON), folder=tmp_path, master=bytes(32))
    hub.init()

    def tell(kind: str, said: list[dict[str, Any]]) -> None:
        begin = hub.log.entries.max_notification_id() or 0
        results = hub.intake.take([flat_event(kind, one, f"{begin}-{number}") for number, one in enumerate(said)])
        assert {result.error for result in results} == {None}

    def answers(status: str, persons: range) -> None:
        tell("safety.answered", [{"person": f"p{person}", "status": status} for person in persons])

    @event.listens_for(hub.log.engine, "commit")
    @event.listens_for(hub.log.engine, "rollback")
    def look(connection: Connection) -> None:
        seen = "SELECT relname, seq_tup_read FROM pg_stat_xact_user_tables WHERE seq_tup_read >= %s"
        read.extend((row.relname, row.seq_tup_read) for row in connection.exec_driver_sql(seen, (people,)))

    class_ = {"class": "municipality"}
    tell("recipient.registered", [{"recipient": "aizu-city", **class_, "areas": ["07202"], "purposes": ["rescue"]}])
    terms = {"to": class_, "kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"], "data": "all"}
    tell("person.enrolled", [{"person": f"p{person}", "areas": ["07202"]} for person in range(people)])
    tell("consent.granted", [{"person": f"p{person}", "grant": f"g{person}", **terms} for person in range(people)])
    answers("safe", range(people))
    with hub.log.entries.maintaining() as connection:
        connection.execute(text("ANALYZE"))  # as the server does by itself within a minute
    hub.log.engine.dispose()  # a connection tells of transactions before, too
    read.clear()
    for person in range(8):  # from the sixth run on the server keeps one plan for all values
        answers("injured", range(person, person + 1))
        named = (hub.disclosure.name_of(f"p{person}"),)
        assert len(hub.disclosure.read(Query(recipient="aizu-city", purpose="rescue", persons=named)).persons) == 1
    hub.close()
    assert read == []


def test_two_may_grant_at_once(roles: dict[str, str], engine: Engine) -> None:
    """As two machines that are set up at once: to the server the second changes what the first just did."""
    named, failed = str(parse_url(roles["append"]).username), []

    def granting() -> None:
        try:
            with engine.begin() as connection:
                grant(connection, "log", named, None)
        except HubError as error:
            failed.append(error)

    second = threading.Thread(target=granting)
    with engine.begin() as connection:
        grant(connection, "log", named, None)
        second.start()
        until_waited_for(connection, second)
    second.join()
    assert failed == []


def test_who_waited_long_for_its_turn_compares_the_clock_of_its_turn(engine: Engine) -> None:
    """What waited for a rebuild would else be told, of clocks that agree, that they are apart."""
    compared: list[datetime | None] = []

    class Compared(SetClock):
        def compare(self, other: datetime | None) -> None:
            compared.append(other)

    holder, waiter = Recorder(engine, SetClock(NOON)), Recorder(engine, Compared(NOON))

    def wait() -> None:
        with waiter.maintaining(timed=True):
            pass

    waiting = threading.Thread(target=wait)
    with holder.maintaining() as connection:
        waiting.start()
        until_waited_for(connection, waiting)
        let_go = connection.scalar(text("SELECT clock_timestamp()"))
    waiting.join()
    [turn] = compared
    assert turn is not None
    assert turn >= let_go


def test_a_restore_and_a_migration_wait_for_each_other_in_one_order(at: Place, engine: Engine, tmp_path: Path) -> None:
    master, other = bytes(32), place(databases.url(tmp_path / "other", postgres=True))
    old = other.log.render_as_string(hide_password=False)
    hub = Hub.open(old, SetClock(NOON), folder=tmp_path, master=master)
    hub.init()
    take_log(hub, tmp_path / "log")
    take_keys(hub, tmp_path / "keys")
    hub.close()
    failed: list[Exception] = []

    def restoring() -> None:
        try:
            into = Databases(at.log.render_as_string(hide_password=False))
            restore(into, master, log=tmp_path / "log", keys=tmp_path / "keys")
        except Exception as error:
            failed.append(error)

    restorer = threading.Thread(target=restoring)
    with engine.begin() as connection:
        hold(connection)  # as a migration begins
        restorer.start()
        until_waited_for(connection, restorer)
        connection.execute(text("LOCK TABLE log IN SHARE ROW EXCLUSIVE MODE"))  # as for its triggers
    restorer.join()
    assert failed == []
    databases.drop(other)


def test_the_looking_role_opens_a_hub_in_which_something_is_left_to_finish(
    roles: dict[str, str], tmp_path: Path
) -> None:
    made = Hub.open(roles["append"], SetClock(NOON), folder=tmp_path)
    made.init()
    person = {"person": "hanako", "areas": ["07202"]}
    link = {"person": "hanako", "source": SOURCE, "ref": "55-123"}
    answer = {"ref": "55-124", "status": "safe"}
    told = [("person.enrolled", person), ("identity.linked", link), ("identity.unlinked", link)]
    for number, (kind, data) in enumerate([*told, ("safety.answered", answer)]):
        [result] = made.intake.take([flat_event(kind, data, f"e{number}")])
        assert result.status in ("accepted", "waiting")
    made.close()
    hub = Hub.open(roles["read"], SetClock(NOON), folder=tmp_path)
    assert hub.audit.verify().size > 0
    hub.close()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("postgresql://hub@127.0.0.1/hub?schema=A-b", "schema"),
        ("mysql://hub@127.0.0.1/hub", "PostgreSQL"),
        ("postgresql://hub@127.0.0.1/hub?schma=x", r"`schma` is no option .* \?schema=NAME"),
    ],
)
def test_urls_that_are_none_are_refused(url: str, word: str) -> None:
    with pytest.raises(Misuse, match=word):
        parse_url(url)


def test_a_server_that_is_not_there_and_a_wrong_password_are_told_in_the_hubs_words(tmp_path: Path) -> None:
    wrong = databases.server().set(password="wrong").render_as_string(hide_password=False)
    with pytest.raises(Misuse, match="refuses this user or password"):
        Hub.open(wrong, SetClock(NOON), folder=tmp_path)
    with pytest.raises(Misuse, match="no such database; create it first"):
        Hub.open(databases.server().set(database="none").render_as_string(hide_password=False), SetClock(NOON))
    log = databases.server().render_as_string(hide_password=False)
    away = "postgresql://hub:secret@127.0.0.1:1/hub?schema=away"
    named = r"^the database of the {} \(127\.0\.0\.1:1/hub, schema away\) does not answer; try again$"
    with pytest.raises(HubError, match=named.format("log")):
        Hub.open(away, SetClock(NOON), folder=tmp_path)
    with pytest.raises(HubError, match=named.format("keys")):
        Hub.open(log, SetClock(NOON), keys_url=away, folder=tmp_path)


PASSWORD = "refuses this user or password; see .* HUB_DATABASE_PASSWORD_FILE"


@pytest.mark.parametrize(
    ("made", "change", "kind", "words"),
    [
        ("", {"password": None}, Misuse, PASSWORD),
        ("ALTER ROLE {0} NOLOGIN", {}, Misuse, PASSWORD),
        ("ALTER ROLE {0} CONNECTION LIMIT 0", {}, Busy, "no room left: .* connections"),
        ("CREATE DATABASE {0}; REVOKE ALL ON DATABASE {0} FROM PUBLIC", {"database": "{0}"}, Misuse, "may not do that"),
        ("", {"query": {"sslmode": "require"}}, Misuse, "TLS with the database fails: see sslmode"),
        ("", {"query": {"sslmode": "verify-full", "sslrootcert": "/none"}}, Misuse, "see sslmode and sslrootcert"),
    ],
)
def test_a_connection_that_is_refused_says_what_to_look_at(
    engine: Engine, made: str, change: dict[str, Any], kind: type[HubError], words: str
) -> None:
    named = "hub_refused" + os.environ.get("PYTEST_XDIST_WORKER", "")
    own, admin = role(engine, named), engine.execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        try:
            for statement in filter(None, made.format(named).split("; ")):
                connection.execute(text(statement))
            values = {name: named if value == "{0}" else value for name, value in change.items()}
            refused = open_database(own._replace(**values))
            with pytest.raises(kind, match=words), refused.connect():
                pass
            refused.dispose()
        finally:
            connection.execute(text(f"DROP DATABASE IF EXISTS {named}"))
            connection.execute(text(f"DROP ROLE {named}"))


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("08006", Busy, "does not answer; try again"),
        ("57P01", Busy, "does not answer; try again"),
        ("25P03", Busy, "does not answer; try again"),
        ("53100", Busy, "no room left"),
        ("53300", Busy, "no room left"),
        ("40001", Busy, "try again"),
        ("40P01", Busy, "try again"),
        ("55P03", Busy, "another process holds the log"),
        ("25006", Busy, "name the primary"),
        ("28P01", Misuse, "user or password"),
        ("3D000", Misuse, "no such database"),
        ("42501", Misuse, "may not"),
        ("42704", Misuse, "no such role"),
        ("42P01", Tampered, "damaged"),
        ("42703", Tampered, "damaged"),
        ("XX001", Tampered, "damaged"),
    ],
)
def test_what_the_server_refuses_is_told_by_what_to_do(
    engine: Engine, state: str, kind: type[HubError], words: str
) -> None:
    fails = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'hanako'; END $$"
    with pytest.raises(kind, match=words) as told, engine.begin() as connection:
        connection.execute(text(fails))
    assert type(told.value) is kind
    assert "hanako" not in str(told.value)


def test_text_that_the_server_cannot_keep_is_the_payloads_fault(engine: Engine) -> None:
    with pytest.raises(PayloadError, match="cannot keep"), engine.begin() as connection:
        connection.execute(text("SELECT :said"), {"said": "a\0b"})


def test_what_the_driver_says_itself_is_one_line_without_its_values(
    at: Place, hub_main: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = at.log.update_query_dict({"sslmode": "mistyped"})
    monkeypatch.setenv("HUB_DATABASE_URL", url.render_as_string(hide_password=False))
    said = hub_main("migrate")
    assert said.status in (1, 2)
    assert said.err.count("\n") == 1
    assert "mistyped" not in said.err


def test_the_database_fails_in_a_way_that_nobody_thought_of(
    hub_main: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(self: object) -> None:
        raise ProgrammingError("SELECT secret", {"a": "value"}, ValueError("value"))

    monkeypatch.setattr(Hub, "init", fail)
    said = hub_main("init", "--database", f"sqlite:///{tmp_path}/hub.sqlite3")
    assert (said.status, said.err) == (1, "hub: the database failed (ValueError); its own log says more\n")


def test_the_dialect_of_a_server_is_its_own(engine: Engine) -> None:
    assert dialect(engine).name == "postgresql"


@pytest.mark.parametrize("url", ["postgresql://hub@db/hub", "sqlite:///a/hub.sqlite3"])
def test_log_and_keys_in_one_place_are_refused(url: str) -> None:
    with pytest.raises(Misuse, match="the keys' database is the log's"):
        place(url, url)
    assert place(url).keys != place(url).log


def test_a_database_that_keeps_text_otherwise_is_refused(at: Place) -> None:
    name = "t" + uuid4().hex
    admin = open_database(at.log, durable=False).execution_options(isolation_level="AUTOCOMMIT")
    for encoding in ("LATIN1", "SQL_ASCII"):
        with admin.connect() as connection:
            connection.execute(
                text(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
            )
        engine = open_database(at.log.set(database=name), durable=False)
        with pytest.raises(Misuse, match=f"keeps text as {encoding}, and the hub needs UTF8"):
            migrations.upgrade(engine, "log")
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name}"))
    admin.dispose()


def test_a_server_of_before_15_is_refused() -> None:
    fits(150_000, "UTF8")
    with pytest.raises(Misuse, match="is PostgreSQL 14, and the hub needs 15 or newer"):
        fits(140_019, "UTF8")
