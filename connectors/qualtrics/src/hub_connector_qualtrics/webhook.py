"""Webhooks of Qualtrics' event subscriptions: a form with HMAC, MSG and Topic, of which MSG alone is signed.

They carry ids, never an answer: what they say is that there is something to ask for.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from hub.connector import PayloadError, Translation, Unsigned
from hub.connector.json import Field, parse

LARGEST_BYTES = 64 * 1024
_FORM = re.compile(rb"[A-Za-z]{1,40}=[^\s&]*(?:&[A-Za-z]{1,40}=[^\s&]*)*")
_MOST_FIELDS = 20


def is_form(payload: bytes) -> bool:
    """Whether it is a webhook's body."""
    return len(payload) <= LARGEST_BYTES and b"MSG=" in payload and bool(_FORM.fullmatch(payload.strip()))


def verify(body: bytes, secret: str) -> None:
    """Return if MSG, decoded, has the SHA-512 HMAC that is told. Raises Unsigned."""
    try:
        said = _fields(body)
        told, message = said[b"HMAC"], said[b"MSG"]
    except (PayloadError, KeyError):
        raise Unsigned("the webhook has no signature") from None
    meant = hmac.new(secret.encode(), message, hashlib.sha512).hexdigest().encode()
    if not hmac.compare_digest(told.strip().lower(), meant):
        raise Unsigned("the webhook's signature is wrong")


def read(body: bytes, survey: str | None) -> Translation:
    """Wake where it tells of a response to `survey`, or to any where None. Raises PayloadError."""
    message = _fields(body).get(b"MSG", b"")
    try:
        said = Field(parse(message), "MSG")
    except PayloadError as error:
        raise PayloadError(f"{error.reason}; one of a subscription with encrypt is not read", path="MSG") from None
    response, of = said.optional("ResponseID"), said.optional("SurveyID")
    if response is None:
        return Translation(nothing="a webhook of Qualtrics about no response; nothing to record")
    response.word()
    if survey is not None and (of is None or of.word() != survey):
        return Translation(nothing="a webhook about a response to another survey; nothing to record")
    return Translation(nothing="a webhook that carries ids only; the responses are asked for now", wake=True)


def _fields(body: bytes) -> Mapping[bytes, bytes]:
    """The form's fields, decoded. One that stands twice is refused: which of them is signed would be a guess."""
    pairs = [pair.partition(b"=") for pair in body.strip().split(b"&")] if len(body) <= LARGEST_BYTES else []
    if not 0 < len(pairs) <= _MOST_FIELDS:
        raise PayloadError("is no form of a webhook")
    found = {name: unquote_to_bytes(value.replace(b"+", b" ")) for name, _, value in pairs}
    if len(found) != len(pairs):
        raise PayloadError("has a field twice")
    return found
