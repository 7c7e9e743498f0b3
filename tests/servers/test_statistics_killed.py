"""A renewal of figures by several processes that are killed at random: it comes to what one sweep gives.

Long form: HUB_TEST_KILLS=50. Whoever asks is a process too, and is killed now and then; another asks again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import delete, func, select

import databases
from conftest import Town
from hub.events import EPOCH
from hub.hub import Hub
from hub.log.clock import WatchedClock
from hub.scenario import flat_event
from hub.statistics import BY, Question
from hub.statistics.keeping import figure
from hub.statistics.sharing import portion

KILLS = int(os.environ.get("HUB_TEST_KILLS", "3"))
PERSONS = 120
PATIENCE_S = 120
QUICK = """
from datetime import timedelta
from hub.statistics import sharing
sharing.AT_ONCE, sharing.LEASE = 4, timedelta(seconds=2)
"""
"""Small shares, and who is dead is waited for two seconds."""

DERIVE = QUICK + "from hub.cli import main; main()"
ASK = (
    QUICK
    + """
import os, sys
from hub.cli.opening import opened
from hub.statistics import Question
with opened(os.environ["HUB_DATABASE_URL"]) as hub:
    asked = Question(recipient="aizu-city", purpose="rescue", kind="safety", by="district")
    sys.stdout.buffer.write(hub.statistics.read(asked).body)
"""
)


def process(code: str, town: Town, *arguments: str, out: int | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **databases.settings(town.folder)}
    with Path(town.folder / "processes.out").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments], env=environment, stdout=out or said, stderr=said
        )


def filled(town: Town) -> Hub:
    """A city of today, on the machine's clock as the processes are."""
    clock = WatchedClock(lambda: datetime.now(UTC), time.monotonic)
    hub = Hub.open(town.url, clock, folder=town.folder, durable=False)
    hub.init()
    told = {"class": "municipality", "areas": ["07202"], "purposes": ["rescue", "care"]}
    events = [flat_event("recipient.registered", {"recipient": "aizu-city", **told}, "r")]
    for n in range(PERSONS):
        grant = {"grant": f"g{n}", "to": {"recipient": "aizu-city"}, "kinds": ["*"], "purposes": ["rescue", "care"]}
        for kind, data in (
            ("person.enrolled", {"areas": ["07202"]}),
            ("consent.granted", {**grant, "modes": ["normal"], "data": "all"}),
            ("safety.answered", {"status": ("safe", "injured", "need_help")[n % 3]}),
        ):
            events.append(flat_event(kind, {"person": f"p{n}", **data}, f"{kind}{n}"))
    results = hub.intake.take(events)
    assert {result.status for result in results} == {"accepted"}
    return hub


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def done(hub: Hub) -> int:
    """How many shares are there."""
    with hub.log.entries.snapshot() as (connection, _):
        return connection.scalar(select(func.count()).select_from(portion).where(portion.c.box.is_not(None))) or 0


def figures(hub: Hub) -> int:
    with hub.log.entries.snapshot() as (connection, _):
        return connection.scalar(select(func.count()).select_from(figure)) or 0


def checked(hub: Hub) -> None:
    """All figures that are kept are those of one sweep at their moment, and count whom it counts."""
    with hub.log.entries.snapshot() as (connection, end):
        row = connection.execute(select(figure.c.position, figure.c.time_us)).first()
        assert row is not None
        moment = EPOCH + (datetime.fromtimestamp(row.time_us // 1_000_000, UTC) - EPOCH)
        moment = moment.replace(microsecond=row.time_us % 1_000_000)
        first = Question(recipient="aizu-city", purpose="rescue", kind="safety", by="district")
        questions = first.beside(("rescue", "care"))
        standing = hub.views.at(connection, end.position, row.position)
        wanted = hub.statistics._figures(standing, questions, moment)
    for by in BY:
        for purpose in ("rescue", "care"):
            asked = Question(recipient="aizu-city", purpose=purpose, kind="safety", by=by)
            answer = hub.statistics.read(asked)
            assert answer.body == wanted[asked].body
            if (by, purpose) != ("district", "rescue"):  # that one was told to the process that asked
                assert list(answer.counted or ()) == list(wanted[asked].counted)
                assert len(wanted[asked].counted) == PERSONS


def test_processes_that_are_killed_at_random_lose_nobody_and_count_nobody_twice(
    new_town: Callable[[str], Town],
) -> None:
    rng, town = random.Random(20), new_town("town")
    hub = filled(town)
    derives = [process(DERIVE, town, "derive") for _ in range(2)]
    asking: subprocess.Popen[bytes] | None = None
    carried = 0
    try:
        for turn in range(KILLS):
            asking = process(ASK, town, out=subprocess.PIPE)
            until(lambda: done(hub) > 0 or figures(hub) > 0, "nobody carries")
            carried += figures(hub) == 0
            time.sleep(rng.uniform(0.0, 0.5))  # anywhere in the renewal
            victim = derives.pop(rng.randrange(2))
            victim.send_signal(rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
            if turn % 2:
                asking.kill()
                asking.communicate(timeout=60)
                asking = process(ASK, town, out=subprocess.PIPE)
            body, _ = asking.communicate(timeout=PATIENCE_S)
            assert asking.returncode == 0, (town.folder / "processes.out").read_text()[-2_000:]
            assert b'"kind":"safety"' in body
            victim.wait(60)
            checked(hub)
            assert done(hub) == 0, "what is told is over"
            with hub.log.entries.maintaining() as connection:  # as if the hour had passed
                connection.execute(delete(figure))
            derives.append(process(DERIVE, town, "derive"))
        assert carried > 0, "each renewal was over before anybody was killed"
        hub.audit.verify()
        positions = hub.audit.disclosures()
        assert all(hub.audit.repeat(position).same for position in positions)
    finally:
        for left in [*derives, *([asking] if asking else [])]:
            left.kill()
            left.wait(60)
        hub.close()
