"""Work beside the hub's other work, in a thread of its own: round after round, whatever fails meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from hub.errors import HubError

Failed = Callable[[Exception | None], None]
"""Told of each round that failed; it is tried again. None: one goes well again."""

_AGAIN_S = 5.0


class Beside:
    """Does rounds until it is stopped. name: of its thread. every_s: between two rounds."""

    def __init__(self, name: str, every_s: float, failed: Failed) -> None:
        self._every_s, self._failed, self._failing = every_s, failed, False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step under way, and wait for that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def run(self) -> None:
        """Do rounds until `stop`."""
        while not self._stop.is_set():
            self._wait(self._work())

    def _round(self) -> None:
        """Do what there is to do, looking after each step whether to stop."""
        raise NotImplementedError

    def _wait(self, wait_s: float) -> None:
        self._stop.wait(wait_s)

    def _work(self) -> float:
        """One round; the seconds until the next."""
        try:
            self._round()
        except (HubError, SQLAlchemyError) as error:  # as of a full disk, or a database that is away: it may pass
            self._failing = True
            self._failed(error)
            return _AGAIN_S
        if self._failing:
            self._failed(None)
        self._failing = False
        return self._every_s
