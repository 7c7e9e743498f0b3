"""The rules through HTTP: every scenario, and random worlds against the naive reading."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

import worlds
from doors import WebWorld
from hub.scenario import play
from naive import Naive

FILES = sorted((Path(__file__).parent.parent / "scenarios").glob("*.yaml"))
SEEDS = range(6)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_step_comes_out_as_written(path: Path) -> None:
    played = list(play(path, WebWorld.fresh))
    assert played
    assert [str(difference) for _, found in played for difference in found] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_random_worlds_are_read_as_the_naive_reading_does(seed: int) -> None:
    rng, naive = Random(f"web {seed}"), Naive()
    shown = 0
    with WebWorld.fresh() as world:
        steps = worlds.looking_back(seed, worlds.world(5000 + seed), lambda: len(naive.log))
        for number, step in enumerate(steps):
            wanted, came = worlds.play(naive, step), worlds.play(world, step)
            if isinstance(wanted, str):
                assert came == wanted, f"seed {seed}, step {number}: {step}"
                continue
            shown += bool(wanted.sees)
            assert (came.sees, came.because, came.precision) == (wanted.sees, wanted.because, wanted.precision), (
                f"seed {seed}, step {number}: {step}"
            )
            if rng.random() < 0.02:
                world.rebuild()
    assert shown
