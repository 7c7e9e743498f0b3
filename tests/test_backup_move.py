"""How a city moves: a backup of SQLite is restored into PostgreSQL, and one of that back, without a difference."""

from __future__ import annotations

import importlib
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hub.answer import Query
from hub.backup import Databases, restore, tables, take_keys, take_log
from hub.errors import Misuse
from hub.events import Event
from hub.hub import Hub
from hub.log.clock import SetClock
from hub.log.recorder import metadata
from hub.quarantine import Refusal
from hub.scenario import SOURCE, flat_event
from hub.views.views import TABLES
from worlds import DAWN

databases = pytest.importorskip("databases", reason="PostgreSQL comes with another branch")
importlib.import_module("postgres")

MASTER = bytes(range(32))
ASKED = Query(recipient="aizu-city", purpose="rescue")


def told() -> list[Event]:
    municipality = {"class": "municipality", "areas": ["07"], "purposes": ["rescue"]}
    events = [("recipient.registered", {"recipient": "aizu-city", **municipality})]
    for person in ("hanako", "taro"):
        terms = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"], "data": "all"}
        events += [
            ("person.enrolled", {"person": person, "areas": ["07202"]}),
            ("consent.granted", {"person": person, "grant": f"g-{person}", "to": {"recipient": "aizu-city"}, **terms}),
            ("safety.answered", {"person": person, "status": "safe", "note": f"of {person}, 避難所"}),
            ("location.reported", {"person": person, "lat_deg": Decimal("37.49"), "lon_deg": Decimal("139.9"),
                                   "accuracy_m": 5}),
            ("identity.linked", {"person": person, "source": SOURCE, "ref": f"r-{person}"}),
        ]  # fmt: skip
    events += [("safety.answered", {"ref": f"u-{number}", "status": "safe"}) for number in range(3)]
    return [flat_event(kind, data, f"e{number}") for number, (kind, data) in enumerate(events)]


def rows(hub: Hub) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the log, of what follows from it, and of what a backup keeps beside it."""
    names = tables.KEPT.keys() | {"head", "identity"} | {table.name for table in TABLES}
    with hub.log.entries.snapshot() as (connection, _):
        found = {name: connection.execute(select(metadata.tables[name])) for name in names & metadata.tables.keys()}
        return {name: sorted(map(tuple, of), key=repr) for name, of in found.items()}


def test_there_and_back(tmp_path: Path) -> None:
    clock = SetClock(DAWN)
    here = Hub.open(f"sqlite:///{tmp_path}/hub.sqlite3", clock, master=MASTER, durable=False)
    here.init()
    here.close()
    here = Hub.open(f"sqlite:///{tmp_path}/hub.sqlite3", clock, master=MASTER, durable=False)  # keeps what kinds are
    assert {result.status for result in here.intake.take(told())} == {"accepted", "waiting"}
    here.quarantine.keep([Refusal(via="events", reason="is no status", person="taro", payload=b"{}")])
    here.disclosure.read(ASKED)
    take_keys(here, tmp_path / "old-keys")
    here.intake.take([flat_event("person.erased", {"person": "hanako"}, "erased")])
    take_log(here, tmp_path / "log")
    before = rows(here)
    here.close()

    url = databases.url(tmp_path / "there", postgres=True)
    done = restore(Databases(url), MASTER, log=tmp_path / "log", keys=tmp_path / "old-keys")
    assert done.verified.erased > 0
    there = Hub.open(url, clock, master=MASTER, folder=tmp_path / "files")
    assert rows(there) == before
    assert b"hanako" not in there.disclosure.read(ASKED).body

    waits = flat_event("safety.answered", {"ref": "u-9", "status": "safe"}, "later")
    assert [result.status for result in there.intake.take([waits])] == ["waiting"], "numbers go on behind the restored"
    there.intake.take([flat_event("safety.answered", {"person": "taro", "status": "injured"}, "later-too")])
    take_log(there, tmp_path / "log-there")
    take_keys(there, tmp_path / "keys-there")
    before = rows(there)
    with pytest.raises(Misuse, match="the database is not empty"):
        restore(Databases(url), MASTER, log=tmp_path / "log-there", keys=tmp_path / "keys-there")
    there.close()

    back = f"sqlite:///{tmp_path}/back/hub.sqlite3"
    restore(Databases(back), MASTER, log=tmp_path / "log-there", keys=tmp_path / "keys-there")
    again = Hub.open(back, clock, master=MASTER)
    assert rows(again) == before
    again.audit.verify()
    again.close()
    shutil.rmtree(tmp_path / "back")


def test_keys_that_are_newer_than_the_log_lose_whom_it_does_not_know(tmp_path: Path) -> None:
    clock = SetClock(DAWN)
    here = Hub.open(f"sqlite:///{tmp_path}/hub.sqlite3", clock, master=MASTER, durable=False)
    here.init()
    here.intake.take(told())
    take_log(here, tmp_path / "log")
    kept = here.log.keyring.subjects()
    here.intake.take([flat_event("person.enrolled", {"person": "jiro", "areas": ["07202"]}, "late")])
    take_keys(here, tmp_path / "keys")
    here.close()

    url = databases.url(tmp_path / "there", postgres=True)
    done = restore(Databases(url), MASTER, log=tmp_path / "log", keys=tmp_path / "keys")
    assert done.unknown_keys == 1
    there = Hub.open(url, clock, master=MASTER, folder=tmp_path / "files")
    assert there.log.keyring.subjects() == kept
    there.close()
