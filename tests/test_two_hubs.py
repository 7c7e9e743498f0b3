"""Two hubs over one database, as two processes have them: each sees at once what the other appended."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

import databases
import worlds
from hub.hub import Hub
from hub.log.clock import SetClock
from hub.scenario import World
from naive import Naive

SEEDS = range(3)


def compared(outcome: Any) -> Any:
    """An outcome of either reading, in one shape."""
    return outcome if isinstance(outcome, str) else (outcome.sees, outcome.because, outcome.precision)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_step_may_be_taken_by_either_hub(seed: int, tmp_path: Path) -> None:
    rng, naive = Random(f"two hubs {seed}"), Naive()
    clocks = [SetClock(worlds.DAWN), SetClock(worlds.DAWN)]
    url = databases.url(tmp_path)
    hubs = [Hub.open(url, clock, master=bytes(32), durable=False) for clock in clocks]
    pair = [World(hub, clock) for hub, clock in zip(hubs, clocks, strict=True)]
    pair[1].named = "other"
    try:
        for number, step in enumerate(worlds.world(seed, length=80)):
            came, wanted = compared(worlds.play(rng.choice(pair), step)), compared(worlds.play(naive, step))
            assert came == wanted, f"seed {seed}, step {number}: {step}"
        for hub in hubs:
            hub.audit.verify()
    finally:
        for hub in hubs:
            hub.close()
