"""What commands refuse before they begin, and what they say where: results to output, in one form, counted right."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import Said, Town
from hub.cli.derive import _Failing
from hub.cli.metrics import DeriveFigures
from hub.cli.opening import counted, note
from hub.cli.relay import _Telling
from hub.errors import Busy
from hub.hub import Hub
from hub.log.clock import SetClock
from hub.quarantine import Refusal
from hub.relay.relay import Sent


@pytest.mark.parametrize(
    "asked",
    [
        "derive --kafka --once",
        "derive --once --status",
        "derive --kafka --status",
        "relay --once --status",
        "restore --check --erase-missing x",
    ],
)
def test_options_that_contradict_each_other_are_refused(asked: str, hub_main: Callable[..., Said]) -> None:
    said = hub_main(*asked.split())
    assert (said.status, "contradict each other; choose one" in said.err, said.out) == (2, True, "")


def test_an_empty_log_is_not_called_whole(tmp_path: Path, hub_main: Callable[..., Said]) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite3"
    said = hub_main("migrate", "--database", url)
    assert (said.status, said.err) == (2, "hub: there is no database yet; run: hub init\n")
    assert list(tmp_path.iterdir()) == []
    Hub.open(url, SetClock(datetime(2026, 6, 1, tzinfo=UTC))).close()
    said = hub_main("verify", "--database", url)
    assert (said.status, said.out, "The log is empty" in said.err) == (1, "", True)
    assert hub_main("init", "--database", url).status == 0
    assert hub_main("verify", "--database", url).status == 0
    assert hub_main("migrate", "--database", url).status == 0


def test_what_derive_did_is_json(town: Town, hub_main: Callable[..., Said]) -> None:
    said = hub_main("derive", "--once", "--json", "--database", town.url)
    assert json.loads(said.out) == {"disclosures_waiting": 0, "position": town.hub.log.entries.max_notification_id()}
    assert "0 disclosures wait;" in hub_main("derive", "--status", "--database", town.url).out


def test_what_is_no_result_does_not_stand_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    note("Relaying.", as_json=True)
    assert capsys.readouterr() == ("", "hub: Relaying.\n")
    note("Relaying.", as_json=False)
    assert capsys.readouterr() == ("Relaying.\n", "")
    assert [counted(count, "item") for count in (0, 1, 2)] == ["0 items", "1 item", "2 items"]


def test_items_of_the_quarantine_are_one_list_and_one_that_is_not_there_is_told(
    town: Town, hub_main: Callable[..., Said]
) -> None:
    at = ("--database", town.url)
    assert json.loads(hub_main("quarantine", "list", "--json", *at).out) == []
    for number in range(2):
        town.hub.quarantine.keep([Refusal(via="events", reason="is no status", payload=b"%d" % number)])
    items = [row["item"] for row in json.loads(hub_main("quarantine", "list", "--json", *at).out)]
    assert len(items) == 2
    said = hub_main("quarantine", "drop", "WRONG", *at)
    assert (said.status, said.out, said.err) == (1, "", "hub: no such item: WRONG\n")
    said = hub_main("quarantine", "drop", items[0], "WRONG", *at)
    assert (said.status, said.out, said.err) == (1, "1 item destroyed.\n", "hub: no such item: WRONG\n")
    assert hub_main("quarantine", "drop", items[1], *at).status == 0


def test_connectors_are_listed_without_a_database_but_not_by_a_wrong_setting(
    hub_main: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "connectors.toml").write_text("[jma]\n[jmaa]\n")
    monkeypatch.setenv("HUB_CONNECTORS", str(tmp_path / "connectors.toml"))
    said = hub_main("connectors", "list", "--database", f"sqlite:///{tmp_path}/none.sqlite3")
    assert (said.status, "jma" in said.out) == (0, True)
    assert said.err == "hub: jmaa stands in HUB_CONNECTORS, and no connector of this name is installed\n"
    said = hub_main("connectors", "list", "--database", "postgresql://hub@127.0.0.1:1/hub?schem=x")
    assert (said.status, "`schem` is no option" in said.err) == (2, True)


def test_a_work_of_derive_says_what_fails_once_and_counts_each_try(capsys: pytest.CaptureFixture[str]) -> None:
    figures = DeriveFigures(lambda: 0)
    failing = _Failing("statistics", as_json=False, figures=figures)
    for error in (Busy("the database does not answer; try again"),) * 3 + (OSError("/secret"), None):
        failing(error)
    assert capsys.readouterr().out.splitlines() == [
        "statistics: the database does not answer; it is tried again",
        "statistics: the hub's database failed (OSError); it is tried again",
        "statistics: working again",
    ]
    assert figures.registry.get_sample_value("hub_derived_failures_total") == 4


def test_derive_once_says_how_far_it_came(town: Town, hub_main: Callable[..., Said]) -> None:
    said = hub_main("derive", "--once", "--database", town.url)
    assert (said.status, said.out.startswith("0 disclosures wait; the log ends at ")) == (0, True)


@pytest.mark.parametrize(("again", "end"), [(False, "; try again"), (True, "; it is tried again")])
def test_a_relay_that_ends_does_not_say_that_it_tries_again(
    again: bool, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _Telling(as_json=False, again=again)
    told(Sent(name="hub.events", messages=0, position=1, error="the broker is away; try again", wait_s=1.0))
    assert capsys.readouterr().out == f"hub.events: the broker is away{end}\n"
