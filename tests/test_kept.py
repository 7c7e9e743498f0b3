"""Kinds that connectors bring: what the log holds of them is read when the connector is gone, and proves itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update

from conftest import Town
from hub.errors import Refused, Tampered
from hub.events import Event
from hub.hub import Hub
from hub.intake import Result
from hub.log.kept import kept_schema
from hub.plugins import Plugins
from sources import find_anew, install, uninstall
from walks import ONE, OTHER, PLACE, TWO, bringing, schema

NAME = "walks"
TOPIC = "walk.taken.1"
SHOWN = {"class": "x", "areas": ["*"], "purposes": ["rescue"]}
GRANT = {"grant": "g", "to": {"class": "x"}, "kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"]}


class World:
    """A hub that is opened anew after each change of what is installed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.patch = folder / "path", monkeypatch
        self.town: Town
        self._folder, self._installed = folder / "town", False

    def with_connector(self, files: dict[str, str]) -> Town:
        self._remove()
        install(self.patch, self.path, NAME, bringing(files))
        self._installed = True
        return self._opened()

    def without_connector(self) -> Town:
        self._remove()
        return self._opened()

    def with_one_that_fails(self) -> Town:
        self._remove()
        install(self.patch, self.path, NAME, "import nothing_of_this_name")
        self._installed = True
        return self._opened()

    def _remove(self) -> None:
        if self._installed:
            uninstall(self.patch, self.path, NAME)
            self._installed = False

    def _opened(self) -> Town:
        if hasattr(self, "town"):
            self.town.plugins = Plugins()
            return self.town.reopen()
        self.town = Town(self._folder, Plugins())
        self.town.hub.init()
        self.town.tell("person.enrolled", person="hanako", areas=["07202"])
        self.town.tell("recipient.registered", recipient="city", **SHOWN)
        self.town.tell("consent.granted", person="hanako", **GRANT)
        return self.town


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    yield made
    made.town.close()


def seen(town: Town) -> list[dict[str, Any]]:
    """What the city sees of hanako's walks."""
    persons = json.loads(town.read("city", "rescue").body)["persons"]
    return [item["data"] for person in persons for item in person["items"] if item["kind"] == "walk.taken"]


def refused(result: Result) -> str:
    assert isinstance(result.error, Refused), result.status
    return str(result.error)


def kept(town: Town) -> set[str]:
    """Which versions are kept of this kind; installed connectors bring others."""
    return {topic for topic in town.hub.log.kept.topics() if topic.startswith("walk.")}


def forget(town: Town) -> None:
    """Take the kept files out, as in a database of before, or as the owner of the file can."""
    with town.hub.log.entries.maintaining() as connection:
        connection.execute(delete(kept_schema))


def change(town: Town, **values: Any) -> None:
    """Change the kept row as the owner of the file can."""
    with town.hub.log.entries.maintaining() as connection:
        assert (
            connection.execute(update(kept_schema).where(kept_schema.c.topic == TOPIC).values(**values)).rowcount == 1
        )


GONE = {"uninstalled": World.without_connector, "its import fails": World.with_one_that_fails}


@pytest.mark.parametrize("gone", GONE.values(), ids=GONE.keys())
def test_facts_are_read_replayed_verified_and_rebuilt_when_their_connector_is_gone(
    world: World, gone: Callable[[World], Town]
) -> None:
    town = world.with_connector(ONE)
    town.tell("walk.taken", person="hanako", steps=4000)
    before, views = town.read("city", "rescue").body, town.views()
    [disclosed] = town.hub.audit.disclosures()

    town = gone(world)

    assert seen(town) == [{"steps": 4000}]
    repeated = town.hub.audit.repeat(disclosed)
    assert (repeated.same, repeated.answer.body) == (True, before)
    assert town.hub.audit.verify().size
    town.hub.views.rebuild()
    assert {name: rows for name, rows in town.views().items() if name == "fact"} == {"fact": views["fact"]}
    assert town.hub.audit.verify().size


def test_what_is_new_of_a_kind_is_refused_until_its_connector_is_back(world: World) -> None:
    world.with_connector(ONE).tell("walk.taken", person="hanako", steps=4000)
    town = world.without_connector()
    assert refused(town.hand_in("walk.taken", "w2", person="hanako", steps=1)) == (
        "walk.taken: facts of this kind are only read here now: the connector that brings it is not installed, does "
        "not load, or has another file of the same version; see: hub connectors list (R8)"
    )
    assert town.hand_in("safety.answered", person="hanako", status="safe").status == "accepted"
    town = world.with_connector(ONE)
    assert town.hand_in("walk.taken", "w2", person="hanako", steps=1).status == "accepted"


def test_a_kind_that_is_not_in_use_is_not_kept_and_stays_unknown(world: World) -> None:
    world.without_connector()
    town = world.with_connector(ONE)
    assert "was not introduced" in refused(town.hand_in("walk.taken", person="hanako", steps=1))
    assert kept(town) == set()
    town = world.without_connector()
    assert "no schema says" in refused(town.hand_in("walk.taken", person="hanako", steps=1))


def test_facts_of_before_are_kept_readable_by_opening_the_hub_with_their_connector(world: World) -> None:
    """As of a database that an earlier release wrote."""
    town = world.with_connector(ONE)
    town.tell("walk.taken", person="hanako", steps=4000)
    forget(town)
    assert kept(town.reopen()) == {TOPIC}
    assert seen(world.without_connector()) == [{"steps": 4000}]


def test_without_file_and_connector_the_message_names_what_is_missing(world: World) -> None:
    town = world.with_connector(ONE)
    at = town.tell("walk.taken", person="hanako", steps=4000)
    forget(town)
    town = world.without_connector()
    wanted = f"position {at}: there is no schema of {TOPIC} here: install the connector that brings it"
    for look in (lambda: seen(town), lambda: town.hub.audit.verify()):
        with pytest.raises(Tampered, match=wanted):
            look()


def test_a_connector_may_bring_a_new_version_and_go(world: World) -> None:
    world.with_connector(ONE).tell("walk.taken", person="hanako", steps=4000)
    town = world.with_connector(TWO)
    assert kept(town) == {TOPIC, "walk.taken.2"}
    town.tell("walk.taken", person="hanako", steps=5000, place="school")
    views = town.views()
    town = world.without_connector()
    assert seen(town) == [{"steps": 5000, "place": "school"}]
    assert town.hub.audit.verify().size
    town.hub.views.rebuild()
    assert town.views()["fact"] == views["fact"]


def test_a_connector_that_goes_back_writes_its_own_version_and_reads_both(world: World) -> None:
    world.with_connector(TWO).tell("walk.taken", person="hanako", steps=5000, place="school")
    town = world.with_connector(ONE)
    assert seen(town) == [{"steps": 5000, "place": "school"}]
    at = town.tell("walk.taken", person="hanako", steps=6000)
    with town.hub.log.entries.snapshot() as (connection, _):
        assert town.hub.log.read(connection, [at])[at].version == 1  # type: ignore[union-attr]
    assert seen(town) == [{"steps": 6000}]
    assert town.hub.audit.verify().size


def test_a_file_that_was_changed_without_a_new_version_writes_nothing_and_is_not_read_by(world: World) -> None:
    world.with_connector(ONE).tell("walk.taken", person="hanako", steps=4000)
    town = world.with_connector({"walk.taken.1.avsc": schema(1, PLACE)})
    assert seen(town) == [{"steps": 4000}]
    assert "only read here" in refused(town.hand_in("walk.taken", person="hanako", steps=1))
    assert town.hub.audit.verify().size


def test_a_file_that_is_not_the_one_of_the_introduction_writes_nothing(world: World) -> None:
    town = world.with_connector(ONE)
    forget(town)
    town = world.with_connector(OTHER)
    assert "walk.taken.1.avsc is not the file by which this kind came into use here" in refused(
        town.hand_in("walk.taken", person="hanako", steps=1)
    )
    assert kept(town) == set()


CHANGES: dict[str, dict[str, Any]] = {
    "content": {"content": schema(1, PLACE).encode()},
    "hash": {"sha256": "0" * 64},
    "seal": {"seal": bytes(16)},
    "text": {"content": text("'no bytes'")},
    "topic": {"topic": "walk.taken.3"},
}


@pytest.mark.parametrize("values", CHANGES.values(), ids=CHANGES.keys())
def test_a_kept_file_that_was_changed_is_told_of_by_its_topic(world: World, values: dict[str, Any]) -> None:
    town = world.with_connector(ONE)
    town.tell("walk.taken", person="hanako", steps=4000)
    change(town, **values)
    topic = values.get("topic", TOPIC)
    with pytest.raises(Tampered, match=f"the kept schema {topic} was changed"):
        town.hub.audit.verify()
    town = world.without_connector()
    wanted = f"the kept schema {TOPIC} was changed" if topic == TOPIC else f"there is no schema of {TOPIC}"
    for look in (lambda: seen(town), lambda: town.hub.audit.verify()):
        with pytest.raises(Tampered, match=wanted):
            look()
    assert town.hand_in("safety.answered", person="hanako", status="safe").status == "accepted"


def test_who_can_write_the_database_cannot_exchange_a_kept_file_by_another_with_its_hash(world: World) -> None:
    from hashlib import sha256

    town = world.with_connector(ONE)
    town.tell("walk.taken", person="hanako", steps=4000)
    other = OTHER["walk.taken.1.avsc"].encode()
    change(town, content=other, sha256=sha256(other).hexdigest())
    town = world.without_connector()
    with pytest.raises(Tampered, match=f"the kept schema {TOPIC} was changed"):
        seen(town)


def test_while_a_kept_file_is_changed_its_connector_writes_nothing_and_the_rest_goes_on(world: World) -> None:
    town = world.with_connector(ONE)
    town.tell("walk.taken", person="hanako", steps=4000)
    change(town, sha256="0" * 64)
    town.reopen()
    assert "was changed; run: hub verify" in refused(town.hand_in("walk.taken", person="hanako", steps=1))
    assert seen(town) == [{"steps": 4000}]
    assert town.hand_in("safety.answered", person="hanako", status="safe").status == "accepted"


def test_verify_compares_what_is_kept_with_the_introduction(world: World) -> None:
    """Even where it is sealed well, as who holds the keys could."""
    town = world.with_connector(ONE)
    town.tell("walk.taken", person="hanako", steps=4000)
    with pytest.raises(Tampered, match=f"the kept schema {TOPIC} is not the one by which its kind was introduced"):
        town.hub.log.kept.check({TOPIC: "0" * 64})


def test_a_process_that_is_running_reads_what_another_writes_by_a_connector_installed_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = world.without_connector()
    with closing(Town(running.folder, Plugins())) as other:
        other.clock.set(running.now)
        install(monkeypatch, world.path, NAME, bringing(TWO))
        other.plugins = Plugins()
        other.reopen()
        for event in _introductions(other):
            other.wait()
            assert other.hub.intake.take([event])[0].status == "accepted"
        other.tell("walk.taken", "w1", person="hanako", steps=4000, place="school")
        running.clock.set(other.now)
    assert seen(running) == [{"steps": 4000, "place": "school"}]
    assert running.hub.audit.verify().size
    assert "only read here" in refused(running.hand_in("walk.taken", "w2", person="hanako", steps=1))


def _introductions(town: Town) -> list[Any]:
    from hub.hub import introductions

    return [event for event in introductions(town.hub.log.schemas) if event.data["kind"] == "walk.taken"]


def test_what_two_processes_bring_at_once_is_kept_once(world: World) -> None:
    town = world.with_connector(ONE)
    forget(town)
    with closing(Town(town.folder, Plugins())) as other:
        other.clock.set(town.now)
        town.tell("walk.taken", "w1", person="hanako", steps=1)
        other.clock.set(town.now)
        other.tell("walk.taken", "w2", person="hanako", steps=2)
    with town.hub.log.entries.snapshot() as (connection, _):
        topics = [row.topic for row in connection.execute(select(kept_schema))]
    assert topics.count(TOPIC) == 1


def test_a_refused_fact_keeps_nothing_half(world: World) -> None:
    """The file is kept in the transaction of its first fact: none without the other."""
    town = world.with_connector(ONE)
    forget(town)

    def failing(append: Any, *how: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(town.hub.log, "add", failing)
        with pytest.raises(KeyboardInterrupt):
            town.tell("walk.taken", "w1", person="hanako", steps=1)
    assert kept(town) == set()
    town.tell("walk.taken", "w1", person="hanako", steps=1)
    assert kept(town) == {TOPIC}


def test_what_waits_for_a_link_enters_when_its_connector_is_gone(world: World) -> None:
    town = world.with_connector(ONE)
    event = Event(source=NAME, id="w1", kind="walk.taken", ref="u9", data={"steps": 4000})
    assert town.hub.intake.take([event])[0].status == "waiting"
    town = world.without_connector()
    assert town.hub.audit.verify().size
    town.tell("identity.linked", person="hanako", source=NAME, ref="u9")
    assert seen(town) == [{"steps": 4000}]
    assert town.hub.quarantine.items() == []


def test_a_catalogue_shows_the_kind_and_introduces_it_no_more(world: World) -> None:
    world.with_connector(ONE).reopen()
    town = world.without_connector()
    assert kept(town) == {TOPIC}
    [row] = [row for row in town.hub.directory.kinds() if row["kind"] == "walk.taken"]
    assert (row["introduced"], row["version"]) == (True, 1)
    assert _introductions(town) == []


def test_the_commands_go_on_without_the_connector(
    world: World, command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """In processes of their own, which find the connector on their path, or do not."""
    town = world.with_connector(ONE)
    town.tell("identity.linked", person="hanako", source=NAME, ref="u1")
    retention = tmp_path / "retention.toml"
    retention.write_text('keep_days = { default = 30, "walk.taken" = 7 }')
    (tmp_path / "walk.json").write_text('{"records": [{"id": "w1", "user": "u1", "steps": 4000}]}')
    town.close()
    at = ("--database", town.url)
    known = {"PYTHONPATH": os.pathsep.join([str(world.path), os.environ.get("PYTHONPATH", "")])}
    keeps = {"HUB_RETENTION": str(retention)}

    def run(*arguments: str | Path, **environment: str) -> str:
        done = command(*arguments, *at, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    run("clock", "accept")
    assert "accepted: walk.taken" in run("import", NAME, tmp_path / "walk.json", **known, **keeps)
    for environment in (known, {}):
        assert run("verify", **environment, **keeps).startswith("The log holds")
        assert run("rebuild", **environment, **keeps)
    bad = command("import", NAME, tmp_path / "walk.json", *at)
    assert (bad.returncode, bad.stderr[:22]) == (2, "hub: no connector is c")
    find_anew(world.patch)
    town.hub = Hub.open(town.url, town.clock, folder=town.folder, plugins=Plugins(), durable=False)
