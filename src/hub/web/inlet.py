"""The queue before intake: bounded, the urgent first; requests that wait together share a commit.

Safety answers, consent and what else protects someone come before the rest, pings come last. Above its
capacity the queue says so at once, pings first, so that what is urgent still finds room.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hub.errors import Busy
from hub.events import CONTROLS, LOCATION, Event
from hub.intake import Result

URGENT, USUAL, PING = 0, 1, 2
_SHARES = (1.0, 0.8, 0.5)
"""How full the queue may be for each urgency to be let in."""

_AT_ONCE = 1_000
_THREADS = 2
CAPACITY = 20_000
"""Events that may wait."""

FULL = "more arrives than can be written"


def urgency(event: Event) -> int:
    """How soon an event has to be taken: 0 before 1 before 2."""
    if event.kind in CONTROLS or event.kind in ("safety.answered", "hazard.reported"):
        return URGENT
    return PING if event.kind == LOCATION else USUAL


@dataclass(slots=True)
class _Waiting:
    events: Sequence[Event]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[list[Result]]


class Inlet:
    """The one way of requests into intake. Its threads run from `start` to `stop`."""

    def __init__(self, take: Callable[[Sequence[Event]], list[Result]], capacity: int = CAPACITY) -> None:
        self._take, self._capacity = take, capacity
        self._queues: tuple[deque[_Waiting], ...] = (deque(), deque(), deque())
        self._changed = threading.Condition()
        self._waiting = 0
        self.taking = 0
        """Events that are being taken."""
        self._open = False
        self._threads: list[threading.Thread] = []

    @property
    def waiting(self) -> int:
        """Events that wait or are being taken."""
        return self._waiting

    def start(self) -> None:
        """Let requests in."""
        self._open = True
        self._threads = [threading.Thread(target=self._run, name=f"inlet-{n}", daemon=True) for n in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let nobody in any more, take what waits, and end."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Raise Busy where not even the most urgent would find room: asked before a body is read."""
        if not self._open:
            raise Busy("the hub is stopping")
        if self._waiting >= self._capacity:
            raise Busy(FULL)

    async def take(self, events: Sequence[Event]) -> list[Result]:
        """What became of each event, once it is durable. Raises Busy where the queue is full."""
        if not events:
            return []
        urgent = min(map(urgency, events))
        loop = asyncio.get_running_loop()
        waiting = _Waiting(events, loop, loop.create_future())
        with self._changed:
            if not self._open:
                raise Busy("the hub is stopping")
            # a request larger than the room finds it when nothing else waits
            if self._waiting and self._waiting + len(events) > self._capacity * _SHARES[urgent]:
                raise Busy(FULL)
            self._waiting += len(events)
            self._queues[urgent].append(waiting)
            self._changed.notify()
        return await waiting.answer

    def _run(self) -> None:
        while together := self._next():
            results: list[Result] | None = None
            error: Exception | None = None
            events = [event for waiting in together for event in waiting.events]
            try:
                results = self._take(events)
            except Exception as failed:
                error = failed
            with self._changed:
                self._waiting -= len(events)
                self.taking -= len(events)
            at = 0
            answers: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, list[Result]]]] = {}
            for waiting in together:
                part = results[at : at + len(waiting.events)] if results is not None else []
                at += len(waiting.events)
                answers.setdefault(waiting.loop, []).append((waiting, part))
            for loop, told in answers.items():
                loop.call_soon_threadsafe(_answer, told, error)

    def _next(self) -> list[_Waiting]:
        """The most urgent requests, as many as share a commit; empty when the inlet has ended."""
        with self._changed:
            while not any(self._queues):
                if not self._open:
                    return []
                self._changed.wait()
            together: list[_Waiting] = []
            count = 0
            for queue in self._queues:
                while queue and (not together or count + len(queue[0].events) <= _AT_ONCE):
                    together.append(queue.popleft())
                    count += len(together[-1].events)
            self.taking += count
            return together


def _answer(told: list[tuple[_Waiting, list[Result]]], error: Exception | None) -> None:
    for waiting, results in told:
        if waiting.answer.done():  # the caller went away; the events are in the log all the same
            continue
        if error is None:
            waiting.answer.set_result(results)
        else:
            waiting.answer.set_exception(error)
