"""What happens while a backup is taken or the log is verified spoils neither: no snapshot is held meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

import databases
from conftest import Town
from hub import verifying
from hub.backup import Databases, restore, take_keys, take_log, taking
from hub.errors import Busy, Tampered
from hub.hub import Hub
from hub.log import recorder
from hub.log.log import Log
from hub.scenario import SOURCE
from hub.verifying import Verified
from hub.views.facts import fact

HERE = {"lat_deg": Decimal("37.49"), "lon_deg": Decimal("139.93"), "accuracy_m": 5}
OVER = datetime(2027, 7, 15, tzinfo=UTC)
"""When June's locations are due."""

PAGE = 6


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_PAGE", PAGE)
    monkeypatch.setattr(verifying, "_IDENTITIES", PAGE)
    monkeypatch.setattr(taking, "AT_ONCE", PAGE)


@pytest.fixture
def home(town: Town) -> Town:
    """June 2026: disclosures, something that waits, links; and an entry of July, so that June may go."""
    municipality = {"class": "municipality", "areas": ["07"], "purposes": ["rescue"]}
    town.tell("recipient.registered", recipient="aizu", **municipality)
    for person in ("hanako", "taro", "jiro"):
        town.tell("person.enrolled", person=person, areas=["07202"])
        terms = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal", "emergency"], "data": "all", "uses": 9}
        town.tell("consent.granted", person=person, grant=f"g-{person}", to={"recipient": "aizu"}, **terms)
        town.tell("location.reported", person=person, **HERE)
        town.tell("identity.linked", person=person, source=SOURCE, ref=f"r-{person}")
    town.tell("delegation.added", person="taro", delegate="hanako")
    assert town.hand_in("safety.answered", ref="u-1", status="safe").status == "waiting"
    town.read("aizu", "rescue")
    town.clock.set(datetime(2026, 7, 2, tzinfo=UTC))
    town.tell("location.reported", person="taro", **HERE)
    return town


def append(town: Town) -> None:
    town.tell("location.reported", person="jiro", **HERE)
    town.hand_in("safety.answered", ref="u-2", status="safe")
    town.read("aizu", "rescue")


def erase(town: Town) -> None:
    town.tell("person.erased", person="hanako")


def retain(town: Town) -> None:
    town.clock.set(OVER)
    assert town.hub.retention.retain().destroyed


HAPPENS = [append, erase, retain]


class At:
    """Has something happen once, when a page is read: the first, one in the middle, the last. pages: how many were."""

    def __init__(self, number: int = 0, act: Callable[[], object] = lambda: None) -> None:
        self._number, self._act, self.pages = number, act, 0

    def __call__(self, after: int) -> None:
        self.pages += 1
        if self.pages == self._number:
            self._act()


def backed_up(town: Town, to: Path, at: At) -> tuple[Path, Path]:
    """A backup of the log and then of its keys; `at` is told of each page of the log."""
    rows_of = taking._rows

    def rows(connection: Any, table: Any, *positions: Any) -> Iterator[Any]:
        if table is recorder.log:
            at(positions[0])
        yield from rows_of(connection, table, *positions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taking, "_rows", rows)
        take_log(town.hub, to / "log")
    take_keys(town.hub, to / "keys")
    return to / "log", to / "keys"


def verified(town: Town, at: Callable[[int], None]) -> Verified:
    """What a look at the log comes to; `at` is told of each page."""
    rows_of = Log.rows

    def rows(self: Log, *args: Any, **said: Any) -> Iterator[Any]:
        if "after" in said and self is town.hub.log:
            at(said["after"])
        yield from rows_of(self, *args, **said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "rows", rows)
        return town.hub.audit.verify()


def end(town: Town) -> int:
    return town.hub.log.entries.max_notification_id() or 0


def where(pages: int) -> list[int]:
    return [1, pages // 2, pages - 1, pages]


@pytest.mark.parametrize("happens", HAPPENS)
def test_a_backup_in_whose_middle_something_happens_restores_to_a_hub_that_verifies(
    home: Town, tmp_path: Path, happens: Callable[[Town], None]
) -> None:
    """Who is erased between two pages is erased in the log that follows: nothing has to be recorded again by hand."""
    at = At(3, lambda: happens(home))
    log, keys = backed_up(home, tmp_path, at)
    assert at.pages > 4
    target = tmp_path / "restored"
    master = bytes.fromhex((home.folder / "master.key").read_text())
    try:
        done = restore(Databases(databases.url(target)), master, log=log, keys=keys)
    finally:
        databases.drop(databases.place_of(target))
    assert done.erased_again == done.unknown_keys == 0
    assert done.verified.size == end(home), "what came meanwhile is in it too"
    assert (done.verified.erased > 0, done.verified.ended > 0) == (happens is erase, happens is retain)


@pytest.mark.parametrize("happens", HAPPENS)
@pytest.mark.parametrize("place", range(4))
def test_what_happens_while_the_log_is_verified_is_no_damage(
    home: Town, happens: Callable[[Town], None], place: int
) -> None:
    looked = At()
    verified(home, looked)
    found = verified(home, At(where(looked.pages)[place], lambda: happens(home)))
    assert found.size == end(home) or place > 1
    again = home.hub.audit.verify()
    assert (again.erased > 0, again.ended > 0) == (happens is erase, happens is retain)


def test_what_was_changed_is_found_though_something_happens_meanwhile(home: Town) -> None:
    with home.hub.log.entries.maintaining() as connection:
        connection.execute(update(fact).where(fact.c.position == end(home)).values(ends_us=1))
    for happens in HAPPENS:
        with pytest.raises(Tampered, match="the view fact does not follow"):
            verified(home, At(3, lambda happens=happens: happens(home)))  # type: ignore[misc]


def test_a_month_whose_rows_are_not_brought_along_yet_is_no_damage(home: Town) -> None:
    """Killed between the key and the rows: the next look says what it waits for; once the hub went on, it holds."""
    home.clock.set(OVER)
    [(kind, month)] = [period for period in home.hub.log.keyring.periods() if period[0] == "location.reported"][:1]
    home.hub.log.keyring.end(kind, month, OVER)
    with pytest.raises(Busy, match="brings the views along"):
        home.hub.audit.verify()
    home.hub.finish()
    assert home.hub.audit.verify().ended > 0


def test_who_is_erased_behind_the_last_snapshot_whose_key_is_gone_by_then_is_no_damage(home: Town) -> None:
    begun, behind = end(home), 0

    def act(after: int) -> None:
        nonlocal behind
        if after == 0 and end(home) == begun:
            append(home)
        behind += after >= begun
        if after >= begun and behind == 2:  # the views of the rest are derived: what was opened is opened again
            home.tell("person.erased", person="jiro")

    found = verified(home, act)
    assert (found.erased > 0, found.size) == (True, end(home))


@pytest.mark.parametrize("place", range(4))
def test_a_month_that_another_process_destroys_while_the_log_is_verified_is_no_damage(home: Town, place: int) -> None:
    """The keys that this process holds in memory open what the other's rows say is lost."""
    looked = At()
    verified(home, looked)
    home.clock.set(OVER)
    other = Hub.open(home.url, home.clock, folder=home.folder, durable=False)
    try:
        found = verified(home, At(where(looked.pages)[place], other.retention.retain))
    finally:
        other.close()
    assert found.size == end(home)
    assert home.hub.audit.verify().ended > 0


@pytest.mark.parametrize("place", range(4))
def test_an_id_that_was_linked_to_somebody_else_who_is_erased_meanwhile_is_no_damage(home: Town, place: int) -> None:
    """What the log says of the later link cannot be read when it is gone through: the earlier one does not stand."""

    def act() -> None:
        home.tell("person.enrolled", person="saburo", areas=["07202"])
        home.tell("identity.linked", person="saburo", source=SOURCE, ref="r-hanako")
        home.tell("person.erased", person="saburo")

    looked = At()
    verified(home, looked)
    found = verified(home, At(where(looked.pages)[place], act))
    assert found.size == end(home) or place > 1
    assert home.hub.audit.verify().erased > 0
