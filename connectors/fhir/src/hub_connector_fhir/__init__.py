"""HL7 FHIR R4 (4.0.1): resources and Bundles in, a view's answer as a Bundle out; see README.md for what of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub.connector import UNSET, PayloadError, Settings, Translation
from hub_connector_fhir import bundle, choices, content, returning, samples, view
from hub_connector_fhir.facts import REQUESTED, RETRACTED, Reading
from hub_connector_fhir.groups import ALLERGIES, CONDITIONS, MEDICATIONS, SOURCE
from hub_connector_fhir.terms import moment


class FHIR:
    """The connector `fhir`. It holds its settings and no state."""

    name = "fhir"
    source = SOURCE
    kinds: Sequence[str] = (MEDICATIONS, CONDITIONS, ALLERGIES, RETRACTED, REQUESTED)
    media_types: Sequence[str] = (view.MEDIA_TYPE,)
    quality: Mapping[str, str] = {
        "refs": "done",
        "corrections": "done",
        "drills": "done",
        "signature": "exempt: R4 signs no webhook; a server shows the hub's own token",
        "polling": "exempt: each server pages and filters its own way; its bundles are brought",
        "hostile": "done",
        "measured": "done",
        "documented": "done",
    }

    def __init__(self, settings: Settings = UNSET) -> None:
        """Raises Misuse where a setting is wrong."""
        self._choices = choices.read(settings)

    def translate(self, payload: bytes) -> Translation:
        """The facts of a resource or a Bundle, and requests for consent. Raises PayloadError."""
        root = content.read(payload)
        type_ = root.need("resourceType").word(64)
        reading = Reading(self._choices)
        if type_ == "Bundle":
            whole = bundle.opened(root, self._choices.base, halves=content.has_halves(payload))
            reading.take(returning.unfolded(whole))
            return reading.translation(moment(root.optional("timestamp"), self._choices.zone))
        reading.take(bundle.alone(root, type_, self._choices.base))
        if reading.rejected and not reading.events:
            error = reading.rejected[0].error
            raise PayloadError(error.reason, path=error.path)
        return reading.translation(None)

    def render(self, answer: Mapping[str, Any], media_type: str) -> bytes:
        """A view's answer as a Bundle of R4. Equal answers give equal bytes."""
        if media_type.partition(";")[0].strip() != view.MEDIA_TYPE:
            raise PayloadError("is no media type of this connector", path="media_type")
        return view.rendered(answer)

    def sample(self, records: int) -> bytes:
        """A transaction of about `records` resources of made-up people."""
        return samples.payload(records, self._choices.base, self._choices.identifier_system)
