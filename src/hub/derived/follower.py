"""Follows the log beside the hub's other work, in a thread of its own."""

from __future__ import annotations

import threading

from hub.derived.beside import Beside, Failed
from hub.derived.index import Index
from hub.log.log import Log

EVERY_S = 1.0
"""How often a follower looks for what other processes appended."""

_GATHER_S = 0.2


class Follower(Beside):
    """Brings the index along until it is stopped. Several may run, in as many processes: one of them works.

    Answers are exact without.
    """

    def __init__(self, log: Log, index: Index, failed: Failed = lambda error: None) -> None:
        super().__init__("derive", EVERY_S, failed)
        self._log, self._index = log, index
        self._grown = threading.Event()

    def run(self) -> None:
        """Follow until `stop`."""
        self._log.entries.listen(self._grown)
        try:
            super().run()
        finally:
            self._log.entries.unlisten(self._grown)

    def _round(self) -> None:
        self._grown.clear()
        while not self._stop.is_set() and self._index.step():
            pass

    def _wait(self, wait_s: float) -> None:
        """Until something was appended, or may have been elsewhere; then a moment, so that more is taken at once."""
        if not self._failing:
            self._grown.wait(wait_s)
            wait_s = _GATHER_S
        super()._wait(wait_s)
