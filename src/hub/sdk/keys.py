"""Content keys: fetched from the hub with the recipient's own credential, and not written anywhere."""

from __future__ import annotations

import base64
import binascii
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

_LARGEST = 64 * 1024
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ContentKey:
    """32 bytes, and until when (seconds since 1970) the hub keeps them; what is sealed with them is shown no longer."""

    secret: bytes = field(repr=False)
    until: float


class KeyGone(Exception):
    """The hub has no such key any more, or never had: what was sealed with it counts as removed."""


class KeysAway(Exception):
    """The hub cannot be asked now: the same record again, later."""


class KeySource(Protocol):
    """Where content keys come from."""

    def fetch(self, key: str) -> ContentKey:
        """The content key of that id. Raises KeyGone, KeysAway; PermissionError where the hub refuses the caller."""
        ...


class HttpKeys:
    """Content keys from the hub's API. url: of the hub, without `/v1`. token: gives the bearer token to show now."""

    def __init__(
        self,
        url: str,
        recipient: str,
        token: Callable[[], str],
        *,
        context: ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Raises ValueError for a URL that would send the token in the clear beyond this machine."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _HERE):
            raise ValueError("the hub is asked by https; by http on this machine alone")
        self._url = f"{url.rstrip('/')}/v1/recipients/{quote(recipient, safe='')}/keys/"
        self._token, self._timeout_s = token, timeout_s
        secure = urllib.request.HTTPSHandler(context=context)
        self._opener = urllib.request.build_opener(secure, _Straight)

    def fetch(self, key: str) -> ContentKey:
        """As KeySource says."""
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        request = urllib.request.Request(self._url + quote(key, safe=""), headers=headers)  # noqa: S310 -- see __init__
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return _read(answer.read(_LARGEST))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                raise KeyGone(key) from None
            if error.code in (401, 403):
                raise PermissionError("the hub refuses this credential; see the recipient's registration") from None
            raise KeysAway(f"the hub answers {error.code}") from None
        except (OSError, ValueError, KeyError, binascii.Error) as error:
            raise KeysAway(f"the hub gives no key ({type(error).__name__})") from None


_HERE = ("localhost", "127.0.0.1", "::1")


class _Straight(urllib.request.HTTPRedirectHandler):
    """No redirect is followed: the token is for the hub alone."""

    def redirect_request(self, *args: Any, **named: Any) -> None:
        return None


def _read(body: bytes) -> ContentKey:
    said = json.loads(body)
    secret = base64.b64decode(said["key"], validate=True)
    if len(secret) != _KEY_BYTES:
        raise ValueError
    return ContentKey(secret, datetime.fromisoformat(said["until"].replace("Z", "+00:00")).timestamp())
