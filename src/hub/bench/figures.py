"""What a measure is: sizes, figures, floors, and how their numbers come about."""

from __future__ import annotations

import cProfile
import math
import os
import pstats
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hub.bench.profiled import Stats


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is measured.

        persons: enrolled, each with one grant and one ping. few: enrolled when the first emergency is declared.
    enrolled: how many are enrolled in one call, for that figure. codec: pings encoded or sealed a round.
    singles: events a round that are appended one a call, by one caller and by `callers` at once. small, large:
    events in a batch. smalls, larges: batches a round. page: persons on one. pages: how many are read, cold and
    warm. views: full views, warm. requests: single events a round over HTTP. streams: open at once. more: pings
    that a process takes in for the figure of memory.
    """

    persons: int = 50_000
    few: int = 1_000
    enrolled: int = 200
    codec: int = 4_000
    singles: int = 300
    callers: int = 16
    small: int = 100
    smalls: int = 10
    large: int = 1_000
    larges: int = 3
    rounds: int = 5
    page: int = 100
    pages: int = 20
    views: int = 2
    requests: int = 3_000
    streams: int = 50
    more: int = 10_000


FULL = Sizes()
QUICK = Sizes(
    persons=2_000,
    few=500,
    enrolled=50,
    codec=1_000,
    singles=50,
    smalls=3,
    larges=1,
    rounds=2,
    pages=5,
    views=1,
    requests=500,
    streams=20,
    more=2_000,
)

_COSTS = 14

Act = Callable[[], object]
Trial = Callable[[], Act]
"""Prepares one round, and gives what is timed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """What DESIGN aims at: in words, and as a number of the figure's unit where the two can be compared."""

    text: str
    value: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """What the work costs without the hub. ratio: how many times as much the figure costs."""

    name: str
    value: float
    ratio: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One function under the profiler: seconds with and without what it calls, as shares of the whole."""

    function: str
    calls: int
    cumulative: float
    own: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measure: the median of its rounds. p95: the slow end, which is the slowest where rounds are few.

    on_cpu: its share of one core meanwhile; well under 1 it waited, for the disk or for a core.
    elsewhere: the share of the machine that other processes took; None where the system does not say.
    waits: the median and the 95th percentile of a request's wait, in seconds. load: over HTTP, the share of the
    asking process in the processor time of asking and answering.
    """

    name: str
    unit: Literal["1/s", "s", "MB"]
    value: float
    p95: float
    rounds: int
    floors: tuple[Floor, ...]
    aim: str | None
    met: bool | None
    on_cpu: float | None
    elsewhere: float | None
    costs: tuple[Cost, ...] = field(default=())
    waits: tuple[float, float] | None = None
    load: float | None = None


def value_of(unit: str, count: int, seconds: float) -> float:
    return count / max(seconds, 1e-9) if unit == "1/s" else seconds / count


def ratio_of(unit: str, value: float, least: float) -> float:
    """How many times the floor the figure costs."""
    return least / value if unit == "1/s" else value / least


def cpu_seconds() -> float:
    """Of this process, and of its children that have ended."""
    return time.process_time() + sum(os.times()[2:4])


def slow_end(seconds: Sequence[float]) -> float:
    return sorted(seconds)[math.ceil(len(seconds) * 0.95) - 1]


def costs_of(act: Act) -> tuple[Cost, ...]:
    """The functions that cost most, with what they call."""
    profiler = cProfile.Profile()
    profiler.runcall(act)
    return costliest(pstats.Stats(profiler).stats)  # type: ignore[attr-defined]


def costliest(stats: Stats) -> tuple[Cost, ...]:
    """The functions that cost most of what was profiled."""
    total = sum(own for _, _, own, _, _ in stats.values())
    rows = [
        Cost(
            function=_function(*name),
            calls=calls,
            cumulative=round(min(1.0, cumulative / total), 3),
            own=round(own / total, 3),
        )
        for name, (_, calls, own, cumulative, _) in stats.items()
        if "/hub/bench/" not in name[0] and not name[0].endswith("contextlib.py") and total
    ]
    return tuple(sorted(rows, key=lambda row: -row.cumulative)[:_COSTS])


def _function(file: str, line: int, name: str) -> str:
    if file == "~":
        return name.strip("<>")
    parts = Path(file).parts
    return f"{'/'.join(parts[-2:])}:{line} {name}"


Jiffies = tuple[float, float, float]


def cpu_of_group(group: int) -> float:
    """Processor time so far of the processes of a group, in seconds; 0 where the system does not say."""
    spent = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found = path.read_text().rpartition(")")[2].split()
            spent += (int(found[2]) == group) * (int(found[11]) + int(found[12]))
    return spent / os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Processor time so far of one process, in seconds; 0 where the system does not say."""
    with suppress(OSError):
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(found[11]) + int(found[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def jiffies(ours: float = 0.0) -> Jiffies | None:
    """Seconds so far, over all cores: all, busy, and of these our own, our children's, and `ours`."""
    try:
        ticks = [int(part) for part in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    hertz, own = os.sysconf("SC_CLK_TCK"), os.times()
    return sum(ticks) / hertz, (sum(ticks) - ticks[3] - ticks[4]) / hertz, sum(own[:4]) + ours


def taken_elsewhere(
    before: tuple[float, float, float] | None, after: tuple[float, float, float] | None
) -> float | None:
    if before is None or after is None or after[0] <= before[0]:
        return None
    every, busy, own = (now - then for now, then in zip(after, before, strict=True))
    return round(min(1.0, max(0.0, (busy - own) / every)), 2)
