"""What a line to the broker is: a name, topics, and the next piece behind where it stands.

    piece -> the broker has it -> position and token stored -> the next piece

A line is asked by one thread at a time. What it gives may be sent twice, after a failure, a stop, or by two relays
for a moment: whoever reads it drops what it has (`ce_id`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from hub.relay.broker import Message, Topic
from hub.relayed import Held


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What is sent next. position, token: what is stored once the broker has all of it.

    messages: may be none, where only the position moves. more: whether the next piece is there already. stored: called
    in the transaction that stores the position, to write what has to hold with it. error: what is wrong although all is
    sent, for whoever looks how the line stands.
    """

    messages: Sequence[Message]
    position: int
    token: str | None = None
    more: bool = False
    stored: Callable[[Connection], None] | None = None
    error: str | None = None


class Line(Protocol):
    """One line: `hub.events`, or the view of one recipient."""

    @property
    def name(self) -> str:
        """Under which it is stored, and told of."""

    @property
    def topics(self) -> Sequence[Topic]:
        """The topics that it sends to."""

    def piece(self, held: Held) -> Piece | None:
        """What comes behind `held.position` and `held.token`; None where there is nothing.

        Of bounded size, so that a stop need not wait for long. Raises HubError: it is asked again after a while.
        """
