"""What is kept of feeds beside the log: how far each has come, and by person what its consumer holds."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Index, LargeBinary, String, Table

from hub.log.recorder import Number, metadata

NEVER = 0
"""The number of a message that spoke of someone: none."""

TOLD = b""
"""The digest of someone who was told of in a message that the consumer may not have: it has to be told again."""

feed = Table(
    "feed",
    metadata,
    Column("feed", LargeBinary(8), primary_key=True),
    Column("sequence", Number, nullable=False),
    Column("position", Number, nullable=False),
    Column("time_us", Number, nullable=False),
    Column("swept", Number, nullable=True),
    Column("used_us", Number, nullable=False, index=True),
)
held = Table(
    "held",
    metadata,
    Column("feed", LargeBinary(8), primary_key=True),
    Column("person", Number, primary_key=True, autoincrement=False),
    Column("sequence", Number, nullable=False),
    Column("digest", LargeBinary(16), nullable=True),
    Column("next_us", Number, nullable=False),
    Index("held_next", "feed", "next_us"),
    sqlite_with_rowid=False,
)

kept_feed = Table(
    "kept_feed",
    metadata,
    Column("name", String, primary_key=True),
    Column("feed", LargeBinary(8), nullable=False),
)
"""The feeds that are not dropped for their age or number: of registered streams, one for each name."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Which feed, and the last message that its consumer has; no feed yet where it begins.

    closes: nothing is visible to this consumer any more.
    """

    feed: bytes
    number: int
    begins: bool
    closes: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """How far a feed has come: the last message, the log and the time that were looked at, the sweep."""

    sequence: int
    position: int
    time_us: int
    swept: int | None
