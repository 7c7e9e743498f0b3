"""The figures of commands that run for long: on loopback, on a port that is asked for, and of no person."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

import pytest
from sqlalchemy.exc import TimeoutError as NoConnection

import databases
from conftest import Said, Town
from hub.cli.metrics import STATUSES, DeriveFigures, Figures, IngestFigures
from hub.errors import Busy, Misuse
from hub.relay.derive import Derived
from hub.relay.ingest import Came

PATIENCE_S = 120


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def asked(port: int) -> dict[str, float]:
    """The hub's samples at a port, by name with labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return {
        name: float(value) for name, value in re.findall(r"^(hub_\S+) (\S+)$", text, re.M) if "_created" not in name
    }


def shown(figures: Figures) -> dict[str, float]:
    port = free_port()
    with figures.shown(str(port)):
        return asked(port)


def test_a_member_that_derives_says_shares_records_and_failures() -> None:
    figures = DeriveFigures(lambda: 7)
    figures(Derived(shares=3, records=40))
    figures(Derived(shares=2, records=2))
    wanted = {"hub_derived_lag_disclosures": 7, "hub_derived_shares": 2, "hub_derived_records_total": 42}
    assert shown(figures) == wanted | {"hub_derived_failures_total": 0}
    figures(Derived(shares=0, records=0, error="the broker is away", wait_s=1))
    assert shown(figures) == wanted | {"hub_derived_shares": 0, "hub_derived_failures_total": 1}


@pytest.mark.parametrize("error", [Busy("the database does not answer"), NoConnection("no connection was free")])
def test_while_the_database_is_away_the_other_figures_are_shown(
    error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    def away() -> float:
        raise error

    figures = DeriveFigures(away)
    figures.failed()
    found = shown(figures)
    assert found["hub_derived_failures_total"] == 1
    assert "hub_derived_lag_disclosures" not in found
    assert capfd.readouterr().err == ""


def test_what_comes_by_the_topic_is_counted_by_status() -> None:
    figures = IngestFigures(shares=lambda: 4, left=lambda: 9)
    figures(Came(counts={"accepted": 5, "refused": 1}))
    figures(Came(counts={"accepted": 2, "waiting": 1}))
    figures(Came(counts={}, error="the broker is away", wait_s=1))
    by_status = {"accepted": 7, "duplicate": 0, "waiting": 1, "refused": 1}
    assert by_status.keys() == set(STATUSES)
    assert shown(figures) == {
        "hub_ingest_shares": 4,
        "hub_ingest_lag_records": 9,
        "hub_ingest_failures_total": 1,
        **{f'hub_ingest_events_total{{status="{status}"}}': count for status, count in by_status.items()},
    }


@pytest.mark.parametrize("at", ["", "x", "0", "65536", "127.0.0.1:", "127.0.0.1:x", "²"])
def test_what_is_no_port_is_refused(at: str) -> None:
    with pytest.raises(Misuse, match="is no port"), IngestFigures(shares=lambda: 0, left=lambda: 0).shown(at):
        pass


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Misuse, match="cannot be listened on"), DeriveFigures(lambda: 0).shown(at):
            pass


def test_without_a_host_only_this_machine_reaches_it() -> None:
    port = free_port()
    with DeriveFigures(lambda: 0).shown(str(port)), socket.socket() as elsewhere:
        elsewhere.bind(("127.0.0.2", port))  # free: not every address is listened on


def test_options_that_end_at_once_have_no_port(town: Town, hub_main: Callable[..., Said]) -> None:
    for option in ("--once", "--status"):
        said = hub_main("derive", option, "--metrics-port", "9401", "--database", town.url)
        assert said.status == 2


def test_a_process_that_derives_shows_how_far_it_is(town: Town) -> None:
    town.tell(
        "recipient.registered", recipient="aizu", **{"class": "municipality", "areas": ["07"], "purposes": ["rescue"]}
    )
    town.tell("person.enrolled", person="hanako-9", areas=["07202"])
    terms = {"kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"], "data": "all"}
    town.tell("consent.granted", person="hanako-9", grant="g", to={"recipient": "aizu"}, **terms)
    town.tell("safety.answered", person="hanako-9", status="safe")
    town.read("aizu", "rescue")
    assert town.hub.index.lag().waiting == 1
    port = free_port()
    command = [sys.executable, "-c", "from hub.cli import main; main()", "derive", "--metrics-port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, **databases.settings(town.folder)})
    try:
        deadline = time.monotonic() + PATIENCE_S
        found: dict[str, float] = {}
        while found.get("hub_derived_lag_disclosures") != 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                found = asked(port)
            except OSError:  # it does not listen yet
                time.sleep(0.1)
        assert found["hub_derived_failures_total"] == 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert town.hub.index.lag().waiting == 0
