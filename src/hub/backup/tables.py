"""Which tables are in a backup, and why not the others. A table that stands in neither list fails a test.

Left out is what follows from the log, and what would be wrong beside a log that ends earlier than the world
outside remembers.
"""

from __future__ import annotations

from sqlalchemy import Table

from hub.log import recorder, sealing
from hub.log.recorder import metadata

KEPT = {
    "log": "the truth",
    "chunk": "whom a disclosure showed: stands in no other place",
    "setting": "what was decided about this database, and which months' rows were brought along",
    "waiting": "facts that were acknowledged and wait for a link: they stand in no other place",
    "parked": "what was refused and waits for an operator",
    "parked_about": "whom that is about, so that an erasure finds it",
    "polled": "how far each polled source was asked: it goes on from there, and what came after comes again",
    "severed": "ids whose person was erased: after that the log cannot say it any more",
    "kept_schema": "schemas that connectors brought: what was written by them is read by them",
}

APPEND_ONLY = frozenset({"log", "chunk"})
"""Of these no row that stands at a position ever changes, so that they need not be read at one moment."""

LEFT_OUT = {
    "identity": "follows from the log, row for row, and is written anew",
    "head": "follows from the log",
    "person": "a view",
    "policy": "a view",
    "link": "a view",
    "fact": "a view",
    "retraction": "a view",
    "chain": "a view",
    "disclosure": "a view",
    "consumed": "a view",
    "feed": "what a consumer was told after the backup would be forgotten; it has to begin again",
    "held": "as feed",
    "kept_feed": "as feed",
    "relayed": "the broker may have what the log has lost; all of it is sent again, and told apart by its ids",
    "relay": "which relays there are",
    "shown": "derived from the log, by a process of its own",
    "ahead": "as shown",
    "share": "as shown",
    "figure": "numbers of the hour; a restored hub counts again",
    "renewal": "as figure: what was under way is begun again",
    "renewal_share": "as figure",
    "session": "who was logged in logs in again",
}

KEYS = (sealing.hub_key, sealing.person_key, sealing.period_key, sealing.parked_key, sealing.ended_period)
"""In this order: a month that ends meanwhile has its tombstone in the backup, whatever became of its key."""

KEYS_LEFT_OUT = {
    "content_key": "lives for hours, and is promised to be nowhere after that; streams begin again with new ones",
}

TOMBSTONES = sealing.ended_period.name
"""Stands in a backup of the log too: what was destroyed by then stays so beside older keys."""


def kept() -> list[Table]:
    """The tables of a backup of the log that this hub has, the log first."""
    return [recorder.log, *(metadata.tables[name] for name in KEPT if name in metadata.tables and name != "log")]
