"""The citizens' personal disaster app (マイハザード): its export format `myhazard/1`, as README.md describes it.

webhook, file: one record, or an envelope of records --+
updates of the API: pages, each an envelope -----------+--> translate
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from hub.connector import (
    UNSET,
    Event,
    Fetch,
    PayloadError,
    Pulled,
    Rejected,
    Request,
    Settings,
    Translation,
    Unsigned,
)
from hub.connector.json import Field, read
from hub_connector_myhazard import records, updates, walk
from hub_connector_myhazard.locations import LOCATION, SOURCE
from hub_connector_myhazard.parts import FORMAT, pieces

__all__ = ["MyHazard"]

TIMESTAMP, SIGNATURE = "myhazard-timestamp", "myhazard-signature"
_STAMP = re.compile(r"[0-9]{1,20}")
_MOST_SIGNATURES = 4
MOST_REJECTED = 5_000


class MyHazard:
    """The connector `myhazard`. It holds nothing but its settings.

    Secrets: `webhook`, by which the app signs; `token`, by which the updates are asked for.
    """

    name = "myhazard"
    source = SOURCE
    kinds: Sequence[str] = (
        "profile.updated",
        LOCATION,
        "safety.answered",
        "evacuation.changed",
        "transport.requested",
        records.RETRACTED,
    )
    quality: Mapping[str, str] = {
        "refs": "done",
        "corrections": "done",
        "drills": "done",
        "signature": "done",
        "polling": "done",
        "hostile": "done",
        "measured": "done",
        "documented": "done",
    }
    signed = "webhook"

    def __init__(self, settings: Settings = UNSET) -> None:
        self._settings = settings

    def translate(self, payload: bytes) -> Translation:
        """What the records of an envelope say, or a record by itself. Raises PayloadError."""
        root = read(payload)
        if root.need("format").text() != FORMAT:
            raise root.need("format").wrong(f"is not {FORMAT}, the only one that is read")
        if "records" not in root.value:
            said = records.read(root)
            return _told(said.events, said.rejected, None)
        generated = root.optional("generated_at")
        reported_at = None if generated is None else generated.time()
        return _told(*_every(root.need("records")), reported_at)

    def verify(self, request: Request) -> None:
        """Return if one of the signatures is that of timestamp and body. Raises Unsigned."""
        secret = self._settings.secrets.get(self.signed, "").encode()
        stamp = request.headers.get(TIMESTAMP, "")
        shown = request.headers.get(SIGNATURE, "").split(",")
        if not secret or not _STAMP.fullmatch(stamp) or len(shown) > _MOST_SIGNATURES:
            raise Unsigned("the request is not signed by the app")
        wanted = sign(secret, stamp, request.body).encode()
        matches = [hmac.compare_digest(wanted, one.strip().encode("utf-8", "replace")) for one in shown]
        if not any(matches):
            raise Unsigned("the request is not signed by the app")

    def poll(self, state: str | None, fetch: Fetch) -> Iterator[Pulled]:
        """The updates since `state`, page by page. Raises Unavailable and Misuse."""
        return updates.poll(
            state, fetch, token=self._settings.secret("token"), limit=self._settings.options.get("limit")
        )

    def sample(self, records: int) -> bytes:
        """One bundle of a made-up walk through Aizuwakamatsu, a fix every five seconds."""
        return walk.sample(records)


def sign(secret: bytes, stamp: str, body: bytes) -> str:
    """The signature that the app sends: HMAC-SHA-256 of timestamp, a full stop and the body."""
    return "v1=" + hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _every(listed: Field) -> tuple[list[Event], list[Rejected]]:
    events: list[Event] = []
    rejected: list[Rejected] = []
    for record in listed.items():
        try:
            said = records.read(record)
            events += said.events
            rejected += said.rejected
        except PayloadError as error:
            refs = records.users(record.value)
            rejected += (Rejected(error=error, payload=piece, refs=refs) for piece in pieces(record))
        if len(rejected) > MOST_REJECTED:
            raise listed.wrong(f"has more than {MOST_REJECTED:,} parts that cannot be read, so that none is taken")
    return events, rejected


def _told(events: Sequence[Event], rejected: Sequence[Rejected], reported_at: datetime | None) -> Translation:
    nothing = None if events or rejected else "it holds no record, and no location"
    return Translation(events=events, nothing=nothing, rejected=rejected, reported_at=reported_at)
