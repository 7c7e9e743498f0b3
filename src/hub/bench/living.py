"""A hub on the machine's own clock, beside which real commands run in processes of their own."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

from hub.bench.figures import Figure
from hub.bench.stage import Stage
from hub.bench.town import all_accepted
from hub.errors import HubError
from hub.events import Event
from hub.hub import Hub
from hub.log.clock import WatchedClock

_HUB = ("-c", "from hub.cli import main; main()")


class Living:
    """The hub that is measured, in the stage's database."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.hub = Hub.open(stage.url, WatchedClock(lambda: datetime.now(UTC), time.monotonic), master=bytes(32))

    def take(self, events: list[Event]) -> None:
        """Have events accepted."""
        all_accepted(self.hub.intake.take(events))

    @contextmanager
    def command(self, *words: str) -> Iterator[None]:
        """`hub WORDS` over the same database, from when it says that it runs to the end of the block."""
        key = self.stage.folder / "bench.key"
        key.write_text("00" * 32)
        environment = os.environ | {"HUB_DATABASE_URL": self.stage.url, "HUB_MASTER_KEY_FILE": str(key)}
        process = subprocess.Popen(  # noqa: S603 -- our own interpreter and arguments
            [sys.executable, *_HUB, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            if process.stdout is None or not process.stdout.readline():
                raise HubError(f"hub {words[0]} of the bench did not start")
            yield
        finally:
            process.terminate()
            process.communicate()

    def figure(self, name: str, unit: Literal["1/s", "s"], values: list[float]) -> None:
        """Tell a figure that has no floor."""
        slow = sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]
        figure = Figure(
            name=name,
            unit=unit,
            value=statistics.median(values),
            p95=slow,
            rounds=len(values),
            floors=(),
            aim=None,
            met=None,
            on_cpu=None,
            elsewhere=None,
        )
        self.stage.figures.append(figure)
