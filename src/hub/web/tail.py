"""Where the log ends, watched for all streams of a worker at once: this process appends, and others do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from hub.errors import HubError

EVERY_S = 0.1


class Tail:
    """Wakes those who wait once something was appended that may change what somebody is shown.

    look: gives the last position, and whether what was appended since another one may matter.
    """

    def __init__(self, look: Callable[[int], tuple[int, bool]]) -> None:
        self._look = look
        self._looked = 0
        self._grown = asyncio.Event()
        self.position = 0
        """The last position at which something mattered."""

    async def run(self, wanted: Callable[[], bool]) -> None:
        """Look again and again, while it is wanted."""
        while True:
            await asyncio.sleep(EVERY_S)
            if not wanted():
                continue
            with contextlib.suppress(HubError, SQLAlchemyError):  # the next look tries again
                self._looked, matters = await asyncio.to_thread(self._look, self._looked)
                if matters:
                    self.position = self._looked
                    self.wake()

    def wake(self) -> None:
        """Wake everyone who waits."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def grown(self, seen: int, longest_s: float) -> bool:
        """Wait until the log is longer than `seen`, for at most so many seconds; whether it is."""
        if self.position > seen:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(longest_s, 0.0)):
                await self._grown.wait()
        return self.position > seen
