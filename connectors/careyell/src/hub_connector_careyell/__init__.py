"""Updates of the care communication service ケアエール: medication, condition, allergies, carers.

What the service publishes, and what of it is read, stands in README.md. The same updates come by webhook, by poll and
as files; all are pages of one form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hub.connector import UNSET, Fetch, Pulled, Request, Settings, Translation
from hub_connector_careyell import feed, page
from hub_connector_careyell.contents import CONTENTS, SOURCE
from hub_connector_careyell.sample import sample
from hub_connector_careyell.signature import Signers
from hub_connector_careyell.update import RETRACTED

CARERS = "care.carers_updated.1.avsc"
_SCHEMAS = {CARERS: (Path(__file__).parent / "avro" / CARERS).read_bytes()}


class Careyell:
    """The connector `careyell`. Settings: secrets `webhook` and `webhook_next` (`<key id>:<secret>`), `token`."""

    name = "careyell"
    source = SOURCE
    kinds: Sequence[str] = (*(kind for kind, _ in CONTENTS.values()), RETRACTED)
    schemas: Mapping[str, bytes] = _SCHEMAS
    signed = "webhook"
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

    def __init__(self, settings: Settings = UNSET) -> None:
        """Raises Misuse for a secret that is not of the form in which the service gives it."""
        self._settings = settings
        self._signers = Signers.of(settings.secrets, (self.signed, "webhook_next"))

    def translate(self, payload: bytes) -> Translation:
        """A fact for each update's content, and a retraction for each revision before it. Raises PayloadError."""
        return page.translate(payload)

    def verify(self, request: Request) -> None:
        """Return if one of the keys signed the body. Raises Unsigned; Misuse where no key is set."""
        self._settings.secret(self.signed)
        self._signers.verify(request)

    def poll(self, state: str | None, fetch: Fetch) -> Iterator[Pulled]:
        """The pages behind the cursor in `state`."""
        return feed.poll(state, fetch, self._settings.secret("token"))

    def sample(self, records: int) -> bytes:
        """A page of `records` updates, every tenth a correction."""
        return sample(records)
