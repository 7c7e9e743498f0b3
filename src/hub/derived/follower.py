"""Follows the log beside the hub's other work, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from hub.derived.index import Index
from hub.errors import HubError
from hub.log.log import Log

EVERY_S = 1.0
"""How often a follower looks for what other processes appended."""

_GATHER_S = 0.2
_AGAIN_S = 5.0


class Follower:
    """Brings the index along until it is stopped. Several may run, in as many processes: one of them works."""

    def __init__(self, log: Log, index: Index, failed: Callable[[Exception | None], None] = lambda error: None) -> None:
        """failed: told of each step that failed; it is tried again. None: one goes well again."""
        self._log, self._index, self._failed = log, index, failed
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, name="derive", daemon=True)

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step under way, and wait for that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def run(self) -> None:
        """Follow until `stop`."""
        grown = threading.Event()
        self._log.entries.listen(grown)
        try:
            while not self._stop.is_set():
                grown.clear()
                self._work()
                self._wait(grown)
        finally:
            self._log.entries.unlisten(grown)

    def _work(self) -> None:
        try:
            while not self._stop.is_set() and self._index.step():
                pass
        except (HubError, SQLAlchemyError) as error:  # as of a full disk: it may pass, and answers are exact without
            self._failing = True
            self._failed(error)
            self._stop.wait(_AGAIN_S)
        else:
            if self._failing:
                self._failed(None)
            self._failing = False

    def _wait(self, grown: threading.Event) -> None:
        """Until something was appended, or may have been elsewhere; then a moment, so that more is taken at once."""
        grown.wait(EVERY_S)
        self._stop.wait(_GATHER_S)
