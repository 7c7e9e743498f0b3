"""A page of updates, as the webhook brings it, the feed gives it and a file holds it."""

from __future__ import annotations

from hub.connector import Event, PayloadError, Rejected, Translation
from hub.connector.json import Field, read, written
from hub_connector_careyell import update
from hub_connector_careyell.words import flag, listed

FORMAT = "careyell/1"
MOST_UPDATES = 10_000
MOST_EVENTS = 50_000
"""More than a page of the feed can ask for: 100 updates in their 99th revision, of a person with four former ids."""


def translate(payload: bytes) -> Translation:
    """What a page says; an update that cannot be read is rejected by itself. Raises PayloadError."""
    said = read(payload)
    said.need("format").one_of({FORMAT: True})
    sent_at = said.need("sent_at")
    reported_at, wake = sent_at.time(), flag(said, "changed") or False
    if wake and said.optional("updates") is None:
        return Translation(nothing="says only that there are updates to ask for", reported_at=reported_at, wake=True)
    events: dict[str, Event] = {}
    rejected = []
    records = listed(said, "updates", MOST_UPDATES)
    for record in records:
        try:
            _add(events, record)
        except PayloadError as error:
            rejected.append(_rejected(record, sent_at, error))
        if len(events) > MOST_EVENTS:
            raise said.need("updates").wrong(f"retracts too much: more than {MOST_EVENTS:,} events in one page")
    return Translation(
        events=tuple(events.values()),
        nothing=None if events or rejected else _nothing(records),
        rejected=rejected,
        reported_at=reported_at,
        wake=wake,
    )


def _add(events: dict[str, Event], record: Field) -> None:
    """Add what a record says. The same again is left out; another thing under the same id is refused."""
    for event in update.events(record):
        before = events.setdefault(event.id, event)
        if before != event:
            raise record.need("revision").wrong("stands twice in this page, and says two things")


def _nothing(records: list[Field]) -> str:
    return "withdraws only what was never published" if records else "holds no update"


def _rejected(record: Field, sent_at: Field, error: PayloadError) -> Rejected:
    alone = {"format": FORMAT, "sent_at": sent_at.value, "updates": [record.value]}
    return Rejected(error=error, payload=written(alone), refs=update.people(record))
