"""A source's payload, whoever brought it: translated, taken in, and what of it is refused kept for an operator.

    payload -> connector.translate -> intake
                    |                   |
                    +---- rejected -----+-> quarantine

There is one way for files, webhooks and what is polled. A connector that fails, or says what it may not, costs its
payload, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypedDict

from hub.connector import Connector, Translation
from hub.errors import PayloadError, Refused
from hub.events import CONTROLS, Event
from hub.intake import Intake, Result
from hub.quarantine import LARGEST_BYTES, MOST_OF_A_SOURCE, Quarantine, Refusal

BEFORE = "received before"
POLL = "poll"
"""The door of what the hub asks for."""

_CONTROLS = ("fact.retracted", "consent.requested")


class _Keeping(TypedDict):
    lost: bool
    full: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What became of one payload, durable already.

    results: of its events, in order. refused: each error once, in the payload's order.
    lost: something was refused and could not be kept, being too large or too much. full: of a payload that can be asked
    for again nothing of what was refused was kept, since it would have pushed out other items.
    """

    results: Sequence[Result] = ()
    refused: Sequence[PayloadError | Refused] = ()
    nothing: str | None = None
    wake: bool = False
    lost: bool = False
    full: bool = False

    @property
    def status(self) -> Literal["accepted", "nothing", "refused"]:
        """`refused` where any part of it was; `nothing` also for what was received before."""
        if self.refused:
            return "refused"
        took = any(result.status in ("accepted", "waiting") for result in self.results)
        return "accepted" if took else "nothing"

    @property
    def reason(self) -> str | None:
        """Why nothing, or what was refused and how much waits, in words."""
        waiting = sum(result.status == "waiting" for result in self.results)
        waits = f"{waiting} of its facts wait until their id is linked" if waiting else None
        if self.status == "nothing":
            return BEFORE if self.results else self.nothing
        shown = "; ".join(str(error) for error in self.refused[:3])
        more = len(self.refused) - 3
        return "; ".join(part for part in (shown, f"and {more} more" if more > 0 else None, waits) if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A payload as it came. via: the door, as `import` or `poll`."""

    connector: Connector
    payload: bytes = field(repr=False)
    via: str
    media_type: str = "application/octet-stream"

    @property
    def comes_again(self) -> bool:
        """Whether its source can be asked for it again."""
        return self.via == POLL

    def refusal(
        self, error: PayloadError | Refused, payload: bytes, refs: Iterable[str] = (), kind: str = ""
    ) -> Refusal:
        """What to keep of it, or of a part of it."""
        return Refusal.of(
            error,
            via=f"{self.via}:{self.connector.name}",
            media_type=self.media_type,
            payload=payload,
            source=self.connector.source,
            kind=kind,
            refs=tuple(refs),
        )


class Payloads:
    """The way of payloads into one hub. `take` goes it whole; a door with a queue of its own goes it by steps."""

    def __init__(self, intake: Intake, quarantine: Quarantine) -> None:
        self._intake, self._quarantine = intake, quarantine

    def take(self, delivery: Delivery, reported: Callable[[datetime], None] = lambda time: None) -> Taken:
        """Translate a payload and take it in. reported: told of its own report time before. Raises Busy."""
        translation = self.read(delivery)
        if isinstance(translation, Taken):
            return translation
        if translation.reported_at is not None:
            reported(translation.reported_at)
        return self.conclude(delivery, translation, self._intake.take(translation.events))

    def read(self, delivery: Delivery) -> Translation | Taken:
        """What the payload says; where it cannot be read, what became of it."""
        try:
            return translated(delivery.connector, delivery.payload)
        except PayloadError as error:
            return Taken(refused=[error], **self._keep(delivery, [delivery.refusal(error, delivery.payload)]))

    def conclude(self, delivery: Delivery, translation: Translation, results: Sequence[Result]) -> Taken:
        """What became of it: all of it is in the log, waits, or is kept in the quarantine."""
        refused = [(result.error, result.event) for result in results if result.error is not None]
        errors = [*(found.error for found in translation.rejected), *(error for error, _ in refused)]
        # what was rejected may be about others than what intake refused: each is kept by itself
        parts = [delivery.refusal(found.error, found.payload, found.refs) for found in translation.rejected]
        kept = self._keep(delivery, [*parts, *_refusals(delivery, results, refused, whole=not parts)])
        return Taken(results=results, refused=errors, nothing=translation.nothing, wake=translation.wake, **kept)

    def _keep(self, delivery: Delivery, refusals: Sequence[Refusal]) -> _Keeping:
        """Keep them; whether one was too large to be kept, or more were refused than are kept of a source.

        What comes again pushes out nothing: by pages that follow each other, a backlog would push out itself.
        """
        many = len(refusals) > MOST_OF_A_SOURCE
        if delivery.comes_again and not self._quarantine.has_room(refusals):
            return {"lost": True, "full": not many}
        if refusals:
            self._quarantine.keep(refusals[:MOST_OF_A_SOURCE])
        return {"lost": many or any(len(refusal.payload) > LARGEST_BYTES for refusal in refusals), "full": False}


def _refusals(
    delivery: Delivery,
    results: Sequence[Result],
    refused: Sequence[tuple[PayloadError | Refused, Event]],
    *,
    whole: bool,
) -> list[Refusal]:
    """What to keep of the events that intake refused: the payload; where it is about several people or too large,
    or may not be kept whole, each event by itself, so that the erasure of one reaches all of theirs, and no other's."""
    refs = {result.event.ref for result in results if result.event.ref is not None}
    if refused and whole and len(refs) <= 1 and len(delivery.payload) <= LARGEST_BYTES:
        error, event = refused[0]
        return [delivery.refusal(error, delivery.payload, refs, event.kind)]
    return [Refusal.of_event(error, event) for error, event in refused]


def translated(connector: Connector, payload: bytes) -> Translation:
    """What a connector makes of a payload, looked over. Raises PayloadError, also where the connector fails."""
    try:
        translation = connector.translate(payload)
        for number, event in enumerate(translation.events):
            _look_over(connector, event, f"events[{number}]")
    except PayloadError:
        raise
    except (Exception, SystemExit) as error:
        raise PayloadError(f"the connector failed ({type(error).__name__}); tell its author") from None
    return translation


def _look_over(connector: Connector, event: Event, path: str) -> None:
    """What no table of authorities sees where a payload is imported or polled: whatever a connector lists as its
    kinds, it registers no recipient, opens no override, and takes back nothing of another source."""
    allowed = event.kind not in CONTROLS or event.kind in _CONTROLS
    if not allowed or event.source != connector.source or event.kind not in connector.kinds:
        raise PayloadError("the connector says what it may not; tell its author", path=path)
    if event.kind == "fact.retracted" and event.data.get("source") not in (None, connector.source):
        raise PayloadError("the connector takes back a fact of another source; tell its author", path=path)
    if event.person is not None or (event.data.get("by") is not None and event.kind in _CONTROLS):
        raise PayloadError("the connector names who it cannot know; tell its author", path=path)
