"""What the bench prints: the machine, the command, each figure with its floors."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from hub.bench.figures import Figure, Sizes
from hub.log.database import open_database, parse_url


def load_average() -> list[float]:
    return [round(number, 2) for number in os.getloadavg()]


def described(folder: Path, url: str) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "python": platform.python_version(),
        "database": _database(url),
        "sqlalchemy": version("sqlalchemy"),
        "cryptography": version("cryptography"),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(folder),
        "load_before": load_average(),
    }


def _database(url: str) -> str:
    at = parse_url(url)
    if at.get_backend_name() == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    engine = open_database(at)
    with engine.begin() as connection:
        said = connection.exec_driver_sql("SHOW server_version").scalar_one()
        fsync = connection.exec_driver_sql("SHOW fsync").scalar_one()
    engine.dispose()
    return f"PostgreSQL {said} (fsync {fsync})"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return f"{said['model name']} ({float(said['cpu MHz']) / 1000:.1f} GHz)"
    except (OSError, KeyError, ValueError):
        return platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str:
    """The kind of file system that the temporary hub stands on; on a tmpfs a sync costs nothing."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    resolved = folder.resolve()
    inside = [(where, kind) for where, kind in mounts if resolved.is_relative_to(where)]
    return max(inside, key=lambda mount: len(mount[0]))[1] if inside else "unknown"


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Says on standard error what is being measured: a line that moves on a terminal, else a line each."""
    console, began = Console(stderr=True), time.perf_counter()
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
        return
    last = ""

    def say(what: str) -> None:
        nonlocal last
        if what.partition(":")[0] == "settling the city" and last == "settling the city":
            return
        last = what.partition(":")[0]
        sys.stderr.write(f"{time.perf_counter() - began:6.1f} s  {what}\n")
        sys.stderr.flush()

    yield say


def told(
    command: str, machine: dict[str, Any], sizes: Sizes, seconds: float, figures: Sequence[Figure]
) -> Iterator[str]:
    yield f"{command}: {sizes.persons:,} persons, {seconds:.0f} s"
    before, after = (" ".join(map(str, machine[name])) for name in ("load_before", "load_after"))
    yield f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    yield f"{machine['kernel']}, {machine['filesystem']}"
    yield (
        f"Python {machine['python']}, {machine['database']}, SQLAlchemy {machine['sqlalchemy']}, "
        f"cryptography {machine['cryptography']}"
    )
    yield f"load average before {before}, after {after}"
    yield ""
    yield f"{'':62}{'measured':>10} {'p95':>10} {'× floor':>8} {'others':>7}  aim"
    for figure in figures:
        yield from _lines(figure)
    yield ""
    yield "p95: the slow end of the rounds. × floor: what it costs, in times of the floor. others: the share of the"
    yield "machine that other processes took meanwhile."
    for figure in figures:
        if figure.costs:
            yield from _spent(figure)


def _lines(figure: Figure) -> Iterator[str]:
    others = "" if figure.elsewhere is None else f"{figure.elsewhere:.0%}"
    verdict = {True: ": met", False: ": missed", None: ""}[figure.met]
    aim = f"{figure.aim}{verdict}" if figure.aim else ""
    value, p95 = _number(figure.unit, figure.value), _number(figure.unit, figure.p95)
    yield f"{figure.name:<62}{value:>10} {p95:>10} {'':>8} {others:>7}  {aim}".rstrip()
    for floor in figure.floors:
        yield f"  {floor.name:<60}{_number(figure.unit, floor.value):>10} {'':>10} {floor.ratio:>8.1f}"
    yield from _asked(figure)


def _asked(figure: Figure) -> Iterator[str]:
    if figure.waits is not None:
        median, p95 = (_number("s", wait) for wait in figure.waits)
        share = "" if figure.load is None else f"; the load took {figure.load:.0%} of the processor time"
        yield f"  a request waited {median}, p95 {p95}{share}"


def _spent(figure: Figure) -> Iterator[str]:
    yield ""
    yield f"{figure.name}: what costs what"
    yield f"  {'with what it calls':>18} {'alone':>7} {'calls':>10}"
    for cost in figure.costs:
        yield f"  {cost.cumulative:>18.1%} {cost.own:>7.1%} {cost.calls:>10,}  {cost.function}"


def _number(unit: str, value: float) -> str:
    if unit == "1/s":
        return f"{value:,.0f}/s"
    if unit == "MB":
        return f"{value:,.0f} MB"
    for scale, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * scale >= 1 or name == "µs":
            return f"{value * scale:,.{2 if value * scale < 10 else 0}f} {name}"
    raise AssertionError
