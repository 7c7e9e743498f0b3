"""A worker while the database is away: figures that need it are left out, and what fails is logged once."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from hub.errors import Busy
from hub.web.app import Deriving
from hub.web.operation import Metrics


def away() -> float:
    raise Busy("the database does not answer; try again")


def away_by() -> dict[str, float]:
    raise Busy("the database does not answer; try again")


def test_what_cannot_be_read_is_left_out_and_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics(tmp_path, 1)
    metrics.gauge("hub.log.position", "Where the log ends", "", away)
    metrics.gauge_by("hub.relay.lag", "line", "How far a line is behind", "s", away_by)
    metrics.gauge("hub.queue.events", "Events that wait", "", lambda: 3)
    metrics.leave()
    [left] = tmp_path.glob("*.prom")
    samples = [line for line in left.read_text().splitlines() if line.startswith("hub_")]
    assert [line.partition("{")[0] for line in samples] == ["hub_queue_events"]
    assert caplog.records == []


def test_what_fails_in_folding_is_logged_once_with_its_reason() -> None:
    deriving, away = Deriving(), Busy("the database does not answer; try again")
    with structlog.testing.capture_logs() as lines:
        for error in (away, away, OSError("/secret"), None, away):
            deriving(error)
    said = [(line["event"], line.get("error"), line.get("reason")) for line in lines]
    assert said == [
        ("problem", "Busy", str(away)),
        ("problem", "OSError", None),
        ("working again", None, None),
        ("problem", "Busy", str(away)),
    ]
