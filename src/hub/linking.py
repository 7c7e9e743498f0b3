"""What follows from a link of an id at a service (ID連携): what waited for it enters; once severed, it is destroyed.

Both come after the commit of the link's own event, and are finished at the next start where the hub was stopped
in between. Entering again what has entered is a duplicate, so that nothing is doubled, by two processes neither.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from hub.errors import Busy, PayloadError, Refused
from hub.events import Event
from hub.intake import NOT_LINKED_ANY_MORE, Intake, Result
from hub.log.log import Log
from hub.quarantine import Quarantine, Refusal
from hub.views import links
from hub.waiting import Waited, Waiting

_STRUCTURED = "application/cloudevents+json"


class Linking:
    """Moves facts of one hub out of the waiting room."""

    def __init__(self, log: Log, intake: Intake, waiting: Waiting, quarantine: Quarantine) -> None:
        self._log, self._intake, self._waiting, self._quarantine = log, intake, waiting, quarantine
        self._lock = threading.Lock()
        self._left: set[bytes] = set()
        """Ids that were linked when nothing could be appended."""

    def linked(self, digests: Sequence[bytes]) -> None:
        """Ids were linked: what waits for them enters, now or at the next link or start."""
        with self._lock:
            self._left.update(digests)
            wanted = sorted(self._left)
        try:
            self.drain(wanted)
        except Busy:
            return
        with self._lock:
            self._left.difference_update(wanted)

    def severed(self, digests: Iterable[bytes]) -> None:
        """Persons were erased, or ids severed: destroy what is kept of them outside the log."""
        digests = list(digests)
        self._quarantine.erase(digests)
        self._waiting.destroy(digests)

    def finish(self) -> None:
        """Finish what a stop cut off: destroy what was severed, and let enter what was linked."""
        with self._log.entries.snapshot() as (connection, _):
            digests = links.all_severed(connection)
        self.severed(digests)
        try:
            self.drain()
        except Busy:
            return

    def drain(self, digests: Sequence[bytes] | None = None) -> int:
        """Hand to intake what waits for ids that are linked, in the order of arrival; how many facts that were.

        digests: only for these ids. What is refused goes to the quarantine. What was changed since it was sealed stays
        where it is, so that it holds up nothing else; `verify` tells of it. Raises Busy.
        """
        self._waiting.sweep()
        after, count = 0, 0
        while waited := self._waiting.linked(digests, after=after):
            after = waited[-1].number
            count += self._enter(waited)
        return count

    def _enter(self, waited: Sequence[Waited]) -> int:
        pairs = [(found.event, found.received_at) for found in waited if found.event is not None]
        results = self._intake.enter(pairs)
        self._quarantine.keep(Refusal.of_event(*refused) for result in results if (refused := _for_quarantine(result)))
        entered = [found.item for found in waited if found.event is not None]
        still = {item for item, result in zip(entered, results, strict=True) if result.status == "waiting"}
        still |= {found.item for found in waited if found.changed}
        self._waiting.remove(found.item for found in waited if found.item not in still)
        return sum(result.status != "waiting" for result in results)


def _for_quarantine(result: Result) -> tuple[PayloadError | Refused, Event] | None:
    if result.error is None or result.error.reason == NOT_LINKED_ANY_MORE:
        return None
    return result.error, result.event
