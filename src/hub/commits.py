"""Sharing commits: whoever wants to append waits here, and one transaction takes all who wait.

A commit costs a write to the disk, however much is in it. Who has the turn takes in every job that waits
by then, answers first: they are confirmed against what stood before the transaction (R18), and what the
same transaction appends after them overtakes nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from hub.errors import Busy
from hub.log.log import Log
from hub.log.recorder import Append
from hub.views.views import Change, Views

T = TypeVar("T")
Rank = Literal["alone", "answer", "events"]

_AT_ONCE = 1_000


@dataclass(slots=True)
class _Call(Generic[T]):
    job: Callable[[Append, Change], T]
    rank: Rank
    weight: int
    linked: Sequence[bytes] = ()
    done: bool = False
    error: BaseException | None = None
    result: list[T] = field(default_factory=list)


class Commits:
    """The turns of one process at the head of one log."""

    def __init__(self, log: Log, views: Views) -> None:
        self._log, self._views = log, views
        self._waiting: deque[_Call[Any]] = deque()
        self._turn = threading.Lock()
        self._erased: set[int] = set()
        """Ordinals of persons whose erasure is recorded and whose keys are still there."""
        self._severed: set[bytes] = set()
        """Ids at services (digests) that were severed, and of which something may still be kept."""
        self.unsure = False
        """Whether a commit failed of which nobody knows whether it is durable, or what follows it was not done."""
        self.observe: Callable[[int, int], None] = lambda jobs, events: None
        """Told of each commit: how many jobs shared it, how many positions it took."""
        self.erase: Callable[[Sequence[bytes]], None] = lambda digests: None
        """Told of persons who were erased and of ids at services that were severed (digests), to destroy what is
        kept of them elsewhere."""
        self.retire: Callable[[Sequence[str]], None] = lambda recipients: None
        """Told of recipients that were retired, to destroy their keys."""
        self.link: Callable[[Sequence[bytes]], None] = lambda digests: None
        """Told of ids at services that were linked (digests), when that is durable and the turn is given back."""

    def run(self, job: Callable[[Append, Change], T], *, rank: Rank = "events", weight: int = 1) -> T:
        """What `job` returns, once all that it appended is durable.

        A job works through what it is handed alone, since it may be run again: where one job of a
        transaction raises, each is taken by itself, and only the one at fault hears of it.
        rank: answers come before events; `alone` shares with nobody. weight: how many events it may append.
        """
        mine = _Call(job, rank, weight)
        self._waiting.append(mine)
        with self._turn:
            while not mine.done:  # earlier calls may fill a transaction
                self._take()
        if mine.error is not None:
            raise mine.error
        if mine.linked:
            self.link(mine.linked)
        return mine.result[0]

    def _take(self) -> None:
        together: list[_Call[Any]] = []
        weight = 0
        while self._waiting:
            following = self._waiting[0]
            alone = "alone" in (following.rank, together[0].rank if together else None)
            if together and (alone or weight + following.weight > _AT_ONCE):
                break
            together.append(self._waiting.popleft())
            weight += following.weight
        try:
            self._commit(together)
        except Busy as error:
            self.unsure = True
            for call in together:
                call.error = error
        except Exception as error:
            if len(together) == 1:
                together[0].error = error
            else:
                self._one_by_one(together)
        except BaseException as error:
            for call in together:
                call.error = error
            raise
        finally:
            for call in together:
                call.done = True

    def _one_by_one(self, together: Sequence[_Call[Any]]) -> None:
        for call in together:
            try:
                self._commit([call])
            except Exception as error:
                self.unsure = self.unsure or isinstance(error, Busy)
                call.error = error

    def _commit(self, together: Sequence[_Call[Any]]) -> None:
        erasing: list[_Call[Any]] = []
        with self._log.entries.appending() as append, self._views.folding(append) as change:
            for call in sorted(together, key=_order):
                before, linked = len(change.erased) + len(change.severed), len(change.linked)
                call.result = [call.job(append, change)]
                call.linked = change.linked[linked:]
                if len(change.erased) + len(change.severed) > before:
                    erasing.append(call)
        self._views.committed(change, append.position)
        self.observe(len(together), append.position - append.start.position)
        self._erased |= {ordinal for ordinal, _ in change.erased}
        self._severed.update(change.severed)
        try:
            if change.retired:
                self.retire(change.retired)
            self._destroy()
        except Exception as error:  # the others are durable; the next commit tries again
            self.unsure = True
            for call in erasing:
                call.error = error

    def _destroy(self) -> None:
        """Destroy the keys of those whose erasure is recorded, and what is kept of them elsewhere (R15)."""
        if not (self._erased or self._severed):
            return
        for ordinal in self._erased:
            self._log.keyring.erase(ordinal)
        self.erase([*map(self._views.persons.digest_of, self._erased), *self._severed])
        self._erased, self._severed = set(), set()


def _order(call: _Call[Any]) -> bool:
    return call.rank == "events"
