"""Carries shares of renewals that others began, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from hub.errors import HubError
from hub.statistics.statistics import Statistics

EVERY_S = 0.5
"""How often it looks for shares."""

_AGAIN_S = 5.0


class Carrier:
    """Looks for shares until it is stopped. Several may run, in as many processes; each share is carried by one."""

    def __init__(self, statistics: Statistics, failed: Callable[[Exception | None], None] = lambda error: None) -> None:
        """failed: told of each try that failed; it is made again. None: one goes well again."""
        self._statistics, self._failed = statistics, failed
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, name="statistics", daemon=True)

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the share under way, and wait for that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def run(self) -> None:
        """Carry until `stop`."""
        while not self._stop.wait(self._work()):
            pass

    def _work(self) -> float:
        """Carry what waits; the seconds until it is looked for again."""
        try:
            while not self._stop.is_set() and self._statistics.carry():
                pass
            self._statistics.tidy()
        except (HubError, SQLAlchemyError) as error:  # as of a database that is away
            self._failing = True
            self._failed(error)
            return _AGAIN_S
        if self._failing:
            self._failed(None)
        self._failing = False
        return EVERY_S
