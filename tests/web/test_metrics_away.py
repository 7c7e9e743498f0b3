"""Figures of a worker while the database is away: what needs it is left out, and nothing is logged for each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.errors import Busy
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
