"""The relay: every line in a thread of its own, so that none holds up another; each goes on where it stands.

Several relays share the lines, each an equal part: who holds more gives one back between two pieces, and who holds
less takes it. A line that fails with one is taken by another, however many that holds.

While the broker is away a line waits longer after each failure, and takes up again by itself; the log goes on
without it. A delivery that failed is sent again, never passed over.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from hub.errors import Busy, HubError, Tampered
from hub.relay.broker import Broker, Sender
from hub.relay.line import Line, Piece
from hub.relayed import Held, Relayed

FIRST_S, LONGEST_S = 0.5, 30.0
"""How long a line waits after a first failure, and at the most; twice as long after each."""

IDLE_S = 0.1
_LOOK_S = 2.0
_LONGEST_DECISION_S = 600.0
"""How long a line is kept by who decides its next piece: one that hangs is another's then."""

_GRACE_S = 5.0
"""How long a stop waits for the piece in flight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What became of a piece. error: why nothing was sent; it is tried again in `wait_s`.

    Without an error and without messages: nothing fails any more, and nothing is to be sent here.
    """

    name: str
    messages: int = 0
    position: int = 0
    error: str | None = None
    wait_s: float = 0.0


Told = Callable[[Sent], None]


class Relay:
    """Sends the lines of one hub. lines: asked again and again, since recipients come and go."""

    def __init__(self, relayed: Relayed, broker: Broker, lines: Callable[[], Sequence[Line]]) -> None:
        self._relayed, self._broker, self._lines = relayed, broker, lines
        self._lease = timedelta(seconds=broker.settings.lease_s)
        self._look_s = min(_LOOK_S, broker.settings.lease_s / 3)
        self._part = _Part()
        self._turns: dict[str, _Turn] = {}
        self._tampered: list[Tampered] = []

    def run(self, stop: threading.Event, told: Told) -> None:
        """Send until `stop`. told: by any thread. Raises Tampered, once all lines have ended."""
        running: dict[str, tuple[threading.Event, threading.Thread]] = {}
        failing, over = False, threading.Event()
        beating = threading.Thread(target=self._beat, args=(over,), name="relay leases")
        beating.start()
        while not stop.is_set():
            try:
                lines = self._lines()
                self._part.most = math.ceil(len(lines) / self._relayed.present(self._lease))
                self._match(running, lines, stop, told)
                if failing:
                    told(Sent(name="lines"))
                failing = False
            except Tampered as error:
                self._tampered.append(error)
                break
            except Exception as failure:  # as of a full disk: those that run go on
                failing = True
                told(Sent(name="lines", error=reason_of(failure), wait_s=self._look_s))
            stop.wait(self._look_s)
        for ends, _ in running.values():
            ends.set()
        for _, thread in running.values():
            thread.join()
        over.set()
        beating.join()
        with suppress(HubError, SQLAlchemyError):  # its lease ends by itself
            self._relayed.leave()
        if self._tampered:
            raise self._tampered[0]

    def _beat(self, over: threading.Event) -> None:
        """Keep what is this relay's while its lines decide, which takes long where memory is cold."""
        while not over.wait(self._lease.total_seconds() / 3):
            with suppress(HubError, SQLAlchemyError):  # whose line it is then, the line itself finds out
                self._relayed.present(self._lease)
                for turn in list(self._turns.values()):
                    turn.keep()

    def _match(
        self,
        running: dict[str, tuple[threading.Event, threading.Thread]],
        lines: Sequence[Line],
        stop: threading.Event,
        told: Told,
    ) -> None:
        """Start the lines that are new, and end those that are no more."""
        wanted = {line.name: line for line in lines}
        for name in running.keys() - wanted.keys():
            running[name][0].set()
        for name, (_, thread) in list(running.items()):
            if not thread.is_alive():
                del running[name]
        for name in wanted.keys() - running.keys():
            ends = threading.Event()
            thread = threading.Thread(target=self._line, args=(wanted[name], ends, stop, told), name=f"relay {name}")
            running[name] = ends, thread
            thread.start()

    def once(self, told: Told) -> bool:
        """Send what is there, line by line; False where something failed or another relay sends."""
        whole = True
        for line in self._lines():
            turn = self._turn(line, threading.Event())
            try:
                while turn.step(told) is not None:
                    continue
                whole = whole and turn.held is not None
            except Tampered:
                raise
            except Exception as failure:
                turn.fail(failure)
                told(Sent(name=line.name, error=reason_of(failure)))
                whole = False
            finally:
                turn.close()
        return whole

    def _line(self, line: Line, ends: threading.Event, stop: threading.Event, told: Told) -> None:
        turn, failures, failing = self._turn(line, ends), 0, False
        self._turns[line.name] = turn
        try:
            while not ends.is_set():
                try:
                    piece = turn.step(told)
                    if failing and piece is None:  # all is sent, or another relay sends
                        told(Sent(name=line.name))
                    failing = False
                    if turn.held is not None:  # else another relay may do what this one cannot
                        failures = 0
                    if piece is None or not piece.more:
                        ends.wait(IDLE_S if turn.held is not None else min(1.0, self._lease.total_seconds() / 4))
                except Tampered as error:
                    self._tampered.append(error)
                    stop.set()
                    return
                except _Stopped:
                    return
                except Exception as failure:
                    failures, failing = failures + 1, True
                    turn.fail(failure)
                    wait_s = backoff_s(failures)
                    told(Sent(name=line.name, error=reason_of(failure), wait_s=wait_s))
                    ends.wait(wait_s)
        finally:
            del self._turns[line.name]
            turn.close()

    def _turn(self, line: Line, ends: threading.Event) -> _Turn:
        return _Turn(self._relayed, self._broker, line, self._lease, ends, self._part)


class _Part:
    """The lines that are this relay's, among all that are there. most: how many; without a bound until it was asked."""

    def __init__(self) -> None:
        self.most: float = math.inf
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def full(self) -> bool:
        """Whether no more should be taken."""
        return len(self._held) >= self.most

    def gives(self, name: str) -> bool:
        """Whether this line is one too many; the caller gives it back then."""
        with self._lock:
            found = len(self._held) > self.most
            if found:
                self._held.discard(name)
            return found

    def set(self, name: str, *, held: bool) -> None:
        with self._lock:
            (self._held.add if held else self._held.discard)(name)


class _Turn:
    """One relay's turn at one line."""

    def __init__(
        self,
        relayed: Relayed,
        broker: Broker,
        line: Line,
        lease: timedelta,
        ends: threading.Event,
        part: _Part,
    ) -> None:
        self._relayed, self._broker, self._line = relayed, broker, line
        self._lease, self._ends, self._part = lease, ends, part
        self._sender: Sender = broker.sender()
        self._renewed = self._ended = 0.0
        self._held: Held | None = None
        self._deciding: float | None = None
        """Since when the next piece is being decided."""
        self._lock = threading.Lock()

    @property
    def held(self) -> Held | None:
        """The line, while it is ours."""
        return self._held

    @held.setter
    def held(self, held: Held | None) -> None:
        self._held = held
        self._part.set(self._line.name, held=held is not None)

    def step(self, told: Told) -> Piece | None:
        """Send the next piece, and store that it was; None where there is none, or where the line is another's."""
        try:
            return self._step(told)
        except _Lost:
            self.held = None
            return None

    def _step(self, told: Told) -> Piece | None:
        if self.held is None:
            self.held = self._relayed.take(self._line.name, self._lease, failing=self._part.full())
            self._renewed = time.monotonic()
        elif self._part.gives(self._line.name):
            self._give()
        if self.held is None:
            return None
        self._renew()
        self._broker.ensure(self._line.topics)  # first: what is decided takes uses, and has to be able to leave
        piece = self._decide(self.held)
        if piece is None:
            return None
        self._send(self.held, piece)
        if self.held is not None:
            told(Sent(name=self._line.name, messages=len(piece.messages), position=piece.position))
        return piece if self.held is not None else None

    def _decide(self, held: Held) -> Piece | None:
        self._deciding = time.monotonic()
        try:
            return self._line.piece(held)
        finally:
            with self._lock:  # so that a line that is given back is not kept any more
                self._deciding = None

    def keep(self) -> None:
        """Hold the line for longer while its next piece is being decided, but not for ever. By another thread."""
        with self._lock:
            if self._held is None or self._deciding is None or time.monotonic() > self._deciding + _LONGEST_DECISION_S:
                return
            if self._relayed.renew(self._held, self._lease):
                self._renewed = time.monotonic()

    def _send(self, held: Held, piece: Piece) -> None:
        """The one order that loses nothing: the broker first, then our own word for it.

        The lease is looked at once more before: deciding may have taken longer than it.
        """
        if piece.messages:
            self._renew(anyway=True)
        self._sender.deliver(piece.messages, self._meanwhile)
        self.held = self._relayed.advance(
            held, self._lease, position=piece.position, token=piece.token, stored=piece.stored, error=piece.error
        )
        self._renewed = time.monotonic()

    def _meanwhile(self) -> None:
        self._renew()
        if not self._ends.is_set():
            self._ended = 0.0
        elif not self._ended:
            self._ended = time.monotonic()
        elif time.monotonic() > self._ended + _GRACE_S:
            raise _Stopped

    def _renew(self, *, anyway: bool = False) -> None:
        """Hold the line for longer, in good time. One who lost it sends nothing more: raises _Lost."""
        in_time = time.monotonic() <= self._renewed + self._lease.total_seconds() / 3
        if self.held is not None and (anyway or not in_time):
            if not self._relayed.renew(self.held, self._lease):
                raise _Lost
            self._renewed = time.monotonic()

    def fail(self, failure: Exception) -> None:
        """Say why, and give the line to whoever can."""
        held, self.held = self.held, None
        if held is not None:
            with suppress(HubError, SQLAlchemyError):  # what cannot be told now is told by the next failure
                self._relayed.fail(held, reason_of(failure))

    def close(self) -> None:
        """Give the line back."""
        self._sender.close()
        self._give()

    def _give(self) -> None:
        held, self.held = self.held, None
        if held is not None:
            with suppress(HubError, SQLAlchemyError):  # the lease ends by itself
                self._relayed.release(held)


class _Stopped(Busy):
    """A stop did not wait for the broker."""


class _Lost(Busy):
    """The line is another relay's by now."""


def backoff_s(failures: int) -> float:
    """Twice as long after each failure, spread by a half so that lines and relays do not all ask at once."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 10)) * random.uniform(0.75, 1.25)  # noqa: S311 -- no secret


def reason_of(failure: Exception) -> str:
    """What is shown of a failure: our own words, and of a foreign error its name alone."""
    if isinstance(failure, HubError):
        return str(failure)
    if isinstance(failure, SQLAlchemyError):
        return f"the hub's database failed ({type(failure).__name__}); see its disk and, of a server, its own log"
    return f"the hub failed ({type(failure).__name__}); tell its makers"
