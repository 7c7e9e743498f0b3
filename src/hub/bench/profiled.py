"""A server under the profiler, for the bench alone: what is run after `begin`, in the same process.

Every thread has a profiler of its own, by the processor time of that thread: to wait costs nothing here. A line on
standard input names a file, into which goes what was spent so far, of all threads together.
"""

from __future__ import annotations

import cProfile
import marshal
import sys
import threading
import time
from pathlib import Path
from typing import Any

Stats = dict[tuple[str, int, str], tuple[int, int, float, float, Any]]
"""As `pstats` has it: by function, calls without and with recursion, seconds alone and with what it calls."""

_profiles: list[cProfile.Profile] = []


def begin() -> None:
    """Profile this thread, and every one that is started from now on."""
    threading.Thread(target=_answer, daemon=True).start()  # before threads are profiled
    threading.setprofile(_begin_thread)
    _begin()


def _begin() -> None:
    profile = cProfile.Profile(time.thread_time, builtins=False)
    _profiles.append(profile)
    profile.enable()


def _begin_thread(*_: Any) -> None:
    """Called at a thread's first step; its own profiler takes this one's place."""
    sys.setprofile(None)
    _begin()


def _spent() -> Stats:
    together: Stats = {}
    for profile in list(_profiles):
        profile.snapshot_stats()
        for name, (calls, all_calls, own, cumulative, _) in profile.stats.items():
            before = together.get(name, (0, 0, 0.0, 0.0, {}))
            added = calls + before[0], all_calls + before[1], own + before[2], cumulative + before[3]
            together[name] = (*added, {})
    return together


def _answer() -> None:
    for line in sys.stdin:
        Path(line.strip()).write_bytes(marshal.dumps(_spent()))
        sys.stdout.write("written\n")
        sys.stdout.flush()


def between(before: Stats, after: Stats) -> Stats:
    """What was spent from one moment to another."""
    none: tuple[int, int, float, float, Any] = (0, 0, 0.0, 0.0, {})
    spent: Stats = {}
    for name, now in after.items():
        then = before.get(name, none)
        if now[1] > then[1]:
            spent[name] = (now[0] - then[0], now[1] - then[1], now[2] - then[2], now[3] - then[3], {})
    return spent


def read(path: Path) -> Stats:
    """What `path` says was spent."""
    found: Stats = marshal.loads(path.read_bytes())  # noqa: S302 -- our own process wrote it
    return found
