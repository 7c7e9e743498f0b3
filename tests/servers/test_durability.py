"""`kill -9` in the middle of an import: what was acknowledged is there, once, at its position."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from hub.events import Entry
from hub.hub import Hub
from hub.log.clock import SetClock

JST = timedelta(hours=9)
EARTHQUAKES = 48
KILLS = 5
"""In each of the runs below, of which there are four."""

TELEGRAM = """<?xml version="1.0" encoding="UTF-8"?>
<Report xmlns="http://xml.kishou.go.jp/jmaxml1/">
  <Control><Title>震源・震度に関する情報</Title><DateTime>{sent}Z</DateTime><Status>通常</Status>
    <EditorialOffice>架空の本庁</EditorialOffice><PublishingOffice>架空の気象庁</PublishingOffice></Control>
  <Head xmlns="http://xml.kishou.go.jp/jmaxml1/informationBasis1/">
    <Title>震源・震度情報</Title><ReportDateTime>{reported}+09:00</ReportDateTime>
    <TargetDateTime>{reported}+09:00</TargetDateTime><EventID>{chain}</EventID><InfoType>{action}</InfoType>
    <Serial>{serial}</Serial><InfoKind>地震情報</InfoKind><InfoKindVersion>1.0_1</InfoKindVersion>
    <Headline><Text>（見本）地震がありました。</Text></Headline>
  </Head>
  <Body xmlns="http://xml.kishou.go.jp/jmaxml1/body/seismology1/"
        xmlns:jmx_eb="http://xml.kishou.go.jp/jmaxml1/elementBasis1/">{body}</Body>
</Report>
"""
QUAKE = """
    <Earthquake><OriginTime>{reported}+09:00</OriginTime><ArrivalTime>{reported}+09:00</ArrivalTime>
      <Hypocenter><Area><Name>福島県会津</Name><Code type="震央地名">252</Code>
        <jmx_eb:Coordinate>+37.5+139.8-10000/</jmx_eb:Coordinate></Area></Hypocenter>
      <jmx_eb:Magnitude type="Mj">6.4</jmx_eb:Magnitude></Earthquake>
    <Intensity><Observation><MaxInt>{aizu}</MaxInt><Pref><Name>福島県</Name><Code>07</Code><MaxInt>{aizu}</MaxInt>
      <Area><Name>福島県会津</Name><Code>252</Code><MaxInt>{aizu}</MaxInt>
        <City><Name>会津若松市</Name><Code>0720200</Code><MaxInt>{aizu}</MaxInt></City>
        <City><Name>喜多方市</Name><Code>0720800</Code><MaxInt>{kitakata}</MaxInt></City></Area>
    </Pref></Observation></Intensity>"""
LEVELS = ("3", "4", "5-", "5+", "6-", "6+")


class Line(NamedTuple):
    """An event that the import acknowledged."""

    position: int
    kind: str
    id: str


def telegrams(folder: Path) -> Path:
    """Reports of many earthquakes: amended, cancelled, some twice, some older than the one before."""
    random = Random(20260601)
    folder.mkdir()
    reports = []
    for number in range(EARTHQUAKES):
        begun = datetime(2020, 6, 1, 9, 0) + timedelta(hours=7 * number)  # noqa: DTZ001
        chain = begun.strftime("%Y%m%d%H%M%S")
        actions = ["発表", "発表", "訂正", *(["取消"] if number % 5 == 4 else [])]
        for serial, action in enumerate(actions, 1):
            reported = begun + timedelta(minutes=5 * serial)
            levels = {"aizu": random.choice(LEVELS), "kitakata": random.choice(LEVELS)}
            text = TELEGRAM.format(
                sent=(reported - JST).isoformat(),
                reported=reported.isoformat(),
                chain=chain,
                serial=serial,
                action=action,
                body="" if action == "取消" else QUAKE.format(reported=reported.isoformat(), **levels),
            )
            reports.append(text)
    for at in range(0, len(reports) - 1, 9):
        reports[at], reports[at + 1] = reports[at + 1], reports[at]
    reports += reports[::17]
    for number, text in enumerate(reports):
        (folder / f"{number:04}.xml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def mail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return telegrams(tmp_path_factory.mktemp("mail") / "telegrams")


def command(database: Path, mail: Path, *options: str) -> list[str]:
    start = "from hub.cli import main; main()"
    url = f"sqlite:///{database}"
    return [sys.executable, "-c", start, "import", "jma", str(mail), "--json", "--database", url, *options]


def acknowledged(output: Iterator[str] | list[str]) -> list[Line]:
    """What whole lines of the import's output promise; half a line promises nothing."""
    whole = [json.loads(line) for line in output if line.endswith("\n")]
    return [Line(**event) for line in whole for event in line["events"]]


def import_until_killed(database: Path, mail: Path, random: Random, lines: int, *options: str) -> list[Line]:
    """Import until so many lines came, or with none until the database is there; a moment later, SIGKILL.

    It cannot come to its end before the signal does, however late that is: nobody reads on, and the pipe is small.
    """
    run = subprocess.Popen(
        command(database, mail, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        pipesize=4096,
        env={name: value for name, value in os.environ.items() if not name.startswith("HUB_")},
    )
    assert run.stdout is not None
    assert run.stderr is not None
    said = []
    while len(said) < lines:
        said.append(run.stdout.readline())
        assert said[-1], run.stderr.read()
    while not lines and not database.exists():
        assert run.poll() is None
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.008 if lines else 0.08))
    run.send_signal(signal.SIGKILL)
    said += run.stdout.readlines()
    assert run.wait() == -signal.SIGKILL, "it was done before the signal came"
    run.stdout.close()
    run.stderr.close()
    return acknowledged(said)


def import_all(database: Path, mail: Path, *options: str) -> list[Line]:
    done = subprocess.run(
        command(database, mail, *options), capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return acknowledged(done.stdout.splitlines(keepends=True))


def opened(database: Path) -> Hub:
    return Hub.open(f"sqlite:///{database}", SetClock(datetime(2020, 12, 1, tzinfo=UTC)))


def entries(hub: Hub) -> list[Entry]:
    with hub.log.entries.snapshot() as (connection, _):
        found = list(hub.log.scan(connection))
    assert all(isinstance(entry, Entry) for entry in found)
    return found  # type: ignore[return-value]


def assert_kept(promised: list[Line], database: Path) -> None:
    """All that was promised stands once, at its position; no position is left out; the log proves itself."""
    hub = opened(database)
    try:
        held = [Line(entry.position, entry.event.kind, entry.event.id) for entry in entries(hub)]
        hub.audit.verify()
    finally:
        hub.close()
    assert [line.position for line in held] == list(range(1, len(held) + 1))
    often = Counter(held)
    assert all(often[line] == 1 for line in promised)
    assert max(Counter(line.id for line in held).values(), default=1) == 1


def state(database: Path, *, recorded: bool) -> tuple[list[Any], list[dict[str, Any]]]:
    """All events and the emergencies; with `recorded`, also what follows from when the hub recorded them."""
    hub = opened(database)
    try:
        events = [(e.position, e.event, e.recorded_at if recorded else None) for e in entries(hub)]
        emergencies = hub.audit.emergencies()
    finally:
        hub.close()
    if not recorded:
        emergencies = [{k: v for k, v in e.items() if k not in ("since", "until")} for e in emergencies]
    return events, sorted(emergencies, key=lambda e: str(e["emergency"]))


@pytest.fixture(scope="module")
def uninterrupted(mail: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that took all telegrams in one go."""
    database = tmp_path_factory.mktemp("whole") / "hub.sqlite3"
    assert_kept(import_all(database, mail, "--simulate"), database)
    assert import_all(database, mail, "--simulate") == []
    return database


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_an_import_killed_again_and_again_keeps_what_it_acknowledged_and_ends_where_an_unbroken_one_does(
    seed: int, mail: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    random = Random(seed)
    simulate = ["--simulate"] if seed % 2 else []
    database = tmp_path / "hub.sqlite3"
    count = len(list(mail.iterdir()))
    steps = (count - 40) // (KILLS - 1)  # what is left at the last is more than the pipe and its reader hold
    promised: list[Line] = []
    for kill in range(KILLS):
        lines = (kill - 1) * steps + random.randint(1, steps) if kill else 0
        promised += import_until_killed(database, mail, random, lines, *simulate)
        assert_kept(promised, database)
    assert len(promised) > count // 2

    promised += import_all(database, mail, *simulate)
    assert_kept(promised, database)
    recorded = bool(simulate)
    assert state(database, recorded=recorded) == state(uninterrupted, recorded=recorded)


def test_the_telegrams_declare_amend_and_lift(uninterrupted: Path) -> None:
    events, emergencies = state(uninterrupted, recorded=True)
    kinds = Counter(event.kind for _, event, _ in events)
    assert kinds["hazard.reported"] > 120
    assert min(kinds["emergency.declared"], kinds["emergency.lifted"], kinds["emergency.proposed"]) > 5
    assert len(emergencies) > 25


def test_an_acknowledgement_that_was_not_durable_would_be_found(mail: Path, tmp_path: Path) -> None:
    """A hub that promises first and writes later: its database is the one from before the promise."""
    database = tmp_path / "now" / "hub.sqlite3"
    before = import_until_killed(database, mail, Random(5), 20)
    shutil.copytree(database.parent, tmp_path / "before")
    after = import_until_killed(database, mail, Random(5), 60)
    assert_kept(before + after, database)

    assert_kept(before, tmp_path / "before" / "hub.sqlite3")
    with pytest.raises(AssertionError):
        assert_kept(before + after, tmp_path / "before" / "hub.sqlite3")
    last = after[-1]
    with pytest.raises(AssertionError):
        assert_kept([*before, last._replace(position=last.position + 1)], database)
