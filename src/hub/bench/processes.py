"""What needs a process of its own: a start after `kill -9`, the memory of one."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any
from uuid import UUID

from hub.answer import Query
from hub.bench.town import PURPOSE, READER, TIME, all_accepted, name_of
from hub.errors import HubError
from hub.events import LOCATION, Event
from hub.hub import Hub
from hub.log.clock import SetClock


@contextmanager
def fresh_process(target: Callable[..., None], *args: Any) -> Iterator[tuple[Any, Pipe]]:
    """A fresh Python process, and the end of a pipe to it; it is gone afterwards."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    except (EOFError, ConnectionError):
        raise HubError("a process of the bench ended before it answered; what it said stands above") from None
    finally:
        process.kill()
        process.join()
        ours.close()


def import_alone() -> float:
    """The peak memory, in MB, of a process that only imports the hub."""
    with fresh_process(_import) as (_, pipe):
        return float(pipe.recv())


def _import(pipe: Pipe) -> None:
    pipe.send(_peak_mb())


def _opened(url: str) -> tuple[Hub, SetClock]:
    clock = SetClock(TIME + timedelta(days=1))
    return Hub.open(url, clock, master=bytes(32)), clock


def _a_ping(number: int) -> Event:
    data = {"lat_deg": Decimal("37.4948"), "lon_deg": Decimal("139.9298"), "accuracy_m": 12.0}
    person = name_of(number)
    return Event(
        source=f"killed-{os.getpid()}", id=str(UUID(bytes=os.urandom(16))), kind=LOCATION, person=person, data=data
    )


def append_for_ever(pipe: Pipe, url: str, persons: int) -> None:
    hub, _ = _opened(url)
    while True:
        results = hub.intake.take([_a_ping(number) for number in range(min(100, persons))])
        pipe.send(all_accepted(results)[-1].position)


def _first_answer(hub: Hub) -> int:
    named = (hub.disclosure.name_of(name_of(1)),)
    answer = hub.disclosure.read(Query(recipient=READER, purpose=PURPOSE, kinds=(LOCATION,), persons=named))
    return answer.position or 0


def answer_in_a_process(pipe: Pipe, url: str, persons: int) -> None:
    hub, _ = _opened(url)
    pipe.send(_first_answer(hub))


def fill_memory(pipe: Pipe, url: str, persons: int, more: int) -> None:
    hub, _ = _opened(url)
    hub.disclosure.read(Query(recipient=READER, purpose=PURPOSE, kinds=(LOCATION,)))
    hub.intake.take([_a_ping(number % persons) for number in range(more)])
    pipe.send(_peak_mb())


def _peak_mb() -> float:
    """The most memory that this process ever held; a child's `ru_maxrss` would begin with its parent's."""
    try:
        status = Path("/proc/self/status").read_text()
        [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(kib) / 1024
    except (OSError, ValueError):
        resource = import_module("resource")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak) / (1024**2 if sys.platform == "darwin" else 1024)
