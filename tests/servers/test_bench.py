"""The bench: it prints every row, and its JSON can be read. No clock is asserted on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from brokers import Broker, needed
from hub.bench import Sizes, relaying, run
from hub.relay.broker import Broker as Kafka
from hub.relay.settings import load

TINY = Sizes(
    persons=60,
    few=20,
    enrolled=5,
    codec=20,
    singles=3,
    callers=2,
    small=10,
    smalls=1,
    large=40,
    larges=1,
    rounds=1,
    page=10,
    pages=2,
    views=1,
    requests=4,
    streams=3,
    more=100,
)

SOURCES = ["cap", "careyell", "fhir", "jma", "myhazard", "pfif", "qualtrics", "shelters"]
"""The connectors of ours; all of them make samples."""

ROWS = [
    "schemas: validate and encode a ping",
    "schemas: decode a ping",
    "sealing: seal a ping",
    "sealing: open a ping",
    "tokens: check a new one, RS256",
    "tokens: check a new one, ES256",
    "tokens: check a new one, Ed25519",
    "tokens: know one that is kept",
    *(f"connectors: {name}, translate and validate" for name in SOURCES),
    "enrol 5 persons in one call",
    "an emergency declared for all, and the next read: 20 persons",
    "append: batches of 40 pings",
    "append: batches of 10 pings",
    "append: one ping a call",
    "append: one ping a call, 2 callers",
    "append: 40 pings, the first batch after a start",
    "one decision, in peacetime",
    "one decision, in an emergency",
    "a page of 10 persons of 60: the first after a start",
    "a page of 10 persons of 60: cold",
    "a page of 10 persons of 60: warm",
    "a view of all 60, an item each: cold",
    "a view of all 60, an item each: warm",
    "an emergency declared for all, and the next read: 60 persons",
    "replay: a past page of 10",
    "replay: a past view of all 60",
    "rebuild: all views",
    "http: one ping a request, 4 connections",
    "http: batches of 10 pings, 8 connections",
    "http: batches of 40 pings, 4 connections",
    "http: a page of 10 persons of 60",
    "http: a page of 10 persons of 60, 16 connections",
    "http: what changed after one ping",
    "http: one ping to 3 streams, to the last of them",
    "http: a revocation to 3 streams, to the last of them",
    "http: one ping a request, 4 connections, 2 workers",
    "restart after kill -9: a new process, to its first answer",
    "memory: peak after a full view and 100 pings",
]


def test_the_bench_prints_every_figure_with_its_floor(capsys: pytest.CaptureFixture[str]) -> None:
    run(quick=True, profile=False, as_json=False, sizes=TINY)
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0].startswith("hub bench --quick: 60 persons")
    assert "SQLite" in lines[3]
    at = [next(i for i, line in enumerate(lines) if line.startswith(row)) for row in ROWS]
    assert at == sorted(at)
    assert all(lines[i + 1].startswith("  ") for i in at), "a figure stands without its floor"
    assert any(line.startswith("  a request waited ") for line in lines)
    assert "settling the city" in told.err


def test_the_bench_says_what_costs_what_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    run(quick=True, profile=True, as_json=True, sizes=TINY)
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said["command"] == "hub bench --quick --profile"
    assert {"cpu", "cores", "memory_gb", "python", "database", "kernel", "filesystem"} <= said["machine"].keys()
    figures = said["figures"]
    assert all(figure["name"].startswith(row) for figure, row in zip(figures, ROWS, strict=True))
    assert all(figure["value"] > 0 and figure["floors"] for figure in figures)
    assert all(floor["value"] > 0 and floor["ratio"] > 0 for figure in figures for floor in figure["floors"])
    asked = [figure for figure in figures if figure["waits"]]
    assert [figure["name"] for figure in asked] == [
        row for row in ROWS if row.startswith("http: ") and "connections" in row
    ]
    assert all(0 < figure["waits"][0] <= figure["waits"][1] for figure in asked)
    unseen = ("append: one ping a call, 2 callers", "http: one ping a request, 4 connections, 2 workers", *ROWS[-2:])
    assert all(figure["costs"] or figure["name"].startswith(unseen) for figure in figures), "a profile is missing"
    assert all(figure["met"] is None for figure in figures), "an aim was judged at sizes that it does not speak of"


def test_the_relay_is_measured_against_a_real_broker(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed(apache=True)
    monkeypatch.setattr(relaying, "_A_SECOND", 100)
    monkeypatch.setattr(relaying, "_SECONDS", 5)
    server = Broker()
    server.start()
    try:
        monkeypatch.setenv("HUB_KAFKA", str(server.settings()))
        broker = Kafka(load(server.settings(), {}))
        run(quick=False, profile=False, as_json=True, broker=broker, sizes=TINY)
    finally:
        server.close()
    said = json.loads(capsys.readouterr().out)
    assert said["command"] == "hub bench --relay"
    rows = [figure["name"].split(" at ")[0] for figure in said["figures"]]
    assert rows[0].startswith("relay: a log of ")
    assert rows[1:] == [
        "relay: seconds behind",
        "relay: until everything of these is sent",
        "relay: an emergency opens 60 persons to four recipients",
        "relay: its end takes 60 persons back from four recipients",
        "relay: an emergency opens 60 persons to four recipients, two relays",
        "relay: its end takes 60 persons back from four recipients, two relays",
    ]


def test_figures_for_planning_are_measured_with_a_real_hub_derive(capsys: pytest.CaptureFixture[str]) -> None:
    run(quick=False, profile=False, as_json=True, figures_only=True, sizes=TINY)
    said = json.loads(capsys.readouterr().out)
    assert said["command"] == "hub bench --statistics"
    assert [figure["name"] for figure in said["figures"]] == [
        "figures for planning of 60 persons: one process",
        "figures for planning of 60 persons: with one hub derive",
    ]
    assert all(figure["value"] > 0 for figure in said["figures"])
