"""The service's signature under a webhook: HMAC-SHA-256 of the body, by a key that the header names.

Two keys are valid at once, so that one can be changed while requests are on their way. A request says no time: one that
is sent again says nothing new, since every event of it is known by its id.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hub.connector import Misuse, Request, Unsigned

HEADER = "careyell-signature"
SHORTEST_SECRET = 32

_GIVEN = re.compile(r"(?P<key>[0-9A-Za-z._-]{1,40}):(?P<secret>\S+)")
_SIGNED = re.compile(r"(?P<key>[0-9A-Za-z._-]{1,40})=(?P<hex>[0-9a-f]{64})")
_LONGEST_HEADER = 1_000
_PREFIX = b"careyell/1\n"
"""What is signed begins with it, so that no signature made for another purpose counts here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signers:
    """The keys that count, by their id."""

    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, secrets: Mapping[str, str], names: Iterable[str]) -> Signers:
        """Those that are set under `names`, each `<key id>:<secret>`. Raises Misuse, never with a value."""
        keys: dict[str, bytes] = {}
        for name in names:
            if name not in secrets:
                continue
            found = _GIVEN.fullmatch(secrets[name])
            if not found or len(found["secret"]) < SHORTEST_SECRET:
                raise Misuse(f"secrets.{name} is not <key id>:<secret of {SHORTEST_SECRET} characters or more>")
            if found["key"] in keys:
                raise Misuse(f"secrets.{name} has the key id of another one")
            keys[found["key"]] = found["secret"].encode()
        return cls(keys=keys)

    def verify(self, request: Request) -> None:
        """Return if one signature of the request is that of a key that counts. Raises Unsigned."""
        header = request.headers.get(HEADER, "")
        offered = header[:_LONGEST_HEADER].split(",")
        for part in offered:
            found = _SIGNED.fullmatch(part.strip())
            key = self.keys.get(found["key"]) if found else None
            if found and key and hmac.compare_digest(signature(key, request.body), found["hex"]):
                return
        raise Unsigned("the signature is missing or wrong")


def signature(secret: bytes, body: bytes) -> str:
    """The signature of a body, in hexadecimal."""
    return hmac.new(secret, _PREFIX + body, hashlib.sha256).hexdigest()
