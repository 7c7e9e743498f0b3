"""Carries shares of renewals that others began, in a thread of its own."""

from __future__ import annotations

from hub.derived.beside import Beside, Failed
from hub.statistics.statistics import Statistics

EVERY_S = 0.5
"""How often it looks for shares."""


class Carrier(Beside):
    """Looks for shares until it is stopped. Several may run, in as many processes; each share is carried by one."""

    def __init__(self, statistics: Statistics, failed: Failed = lambda error: None) -> None:
        super().__init__("statistics", EVERY_S, failed)
        self._statistics = statistics

    def _round(self) -> None:
        while not self._stop.is_set() and self._statistics.carry():
            pass
        self._statistics.tidy()
