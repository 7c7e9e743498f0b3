"""One shape for every error: RFC 9457 problem+json with path and reason, and never a value of a person.

{"type", "title", "status", "detail", "errors": [{"path", "reason", "rule"?, "kind"?}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hub.errors import Busy, Conflict, HubError, Misuse, PayloadError, Refused, Tampered

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1

TITLES = {
    "not-read": (400, "The request cannot be read"),
    "unauthenticated": (401, "Nobody is known to be asking"),
    "forbidden": (403, "This is not for the caller"),
    "foreign-origin": (403, "The request comes from another site"),
    "not-found": (404, "There is nothing here"),
    "wrong-method": (405, "This method does nothing here"),
    "not-acceptable": (406, "No such format is offered"),
    "too-slow": (408, "The body did not arrive in time"),
    "too-large": (413, "The body is too large"),
    "wrong-media-type": (415, "The body is in a format that is not read here"),
    "head-too-large": (431, "Path and headers are too large"),
    "refused": (422, "Refused"),
    "provider-silent": (502, "The login's provider does not answer"),
    "busy": (503, "The hub is busy"),
    "stopped": (503, "The hub has stopped"),
    "failed": (500, "The hub failed"),
}
"""Every problem by the last part of its `type`: status and title."""


class Problem(Exception):
    """A request that ends without an answer. errors: what is wrong where, in words without a value."""

    def __init__(
        self,
        name: str,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.detail, self.errors, self.headers = name, detail, errors, headers or {}
        super().__init__(name)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return TITLES[self.name][0]

    def response(self) -> Response:
        """The response that says it."""
        status, title = TITLES[self.name]
        body = {
            "type": f"urn:saigai-hub:problem:{self.name}",
            "title": title,
            "status": status,
            "detail": self.detail,
            "errors": [dict(error) for error in self.errors],
        }
        headers = {"Cache-Control": "no-store", **self.headers}
        return Response(written(body), status, headers, MEDIA_TYPE)


def written(body: Any) -> bytes:
    """JSON that can be read; a lone surrogate, which UTF-8 cannot say, as its escape."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def told(error: PayloadError | Refused) -> dict[str, str]:
    """One error of an event: where, why, by which rule."""
    said = {"path": error.path, "reason": error.reason}
    if isinstance(error, Refused):
        said["rule"] = error.rule
    if error.kind:
        said["kind"] = error.kind
    return said


def problem_of(error: Exception) -> Problem:
    """The problem that an error of the hub is for the caller."""
    match error:
        case Problem():
            return error
        case Conflict():
            return Problem("refused", "The id is taken by other content; choose another id.", [told(error)])
        case PayloadError() | Refused():
            return Problem("refused", "See errors: mend the request, or leave it.", [told(error)])
        case NoConnection():
            return problem_of(Busy("too much is asked of the database at once"))
        case Busy():
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            why = str(error).partition("; try again")[0]
            return Problem("busy", f"{why}. Send the same again later.", headers=headers)
        case Tampered():
            return Problem("stopped", "The log does not prove itself. Its operator has to run: hub verify")
        case Misuse():
            return Problem("stopped", "A setting is wrong; the hub's own log says which.")
        case HubError():
            return Problem("failed", "The hub's own log says more.")
        case RequestValidationError():
            return Problem("not-read", "See errors.", [_parameter(found) for found in error.errors()])
        case HTTPException(status_code=404):
            return Problem("not-found", "No such path; see /openapi.json.")
        case HTTPException(status_code=405):
            allow = (error.headers or {}).get("Allow", "")
            return Problem("wrong-method", f"Allowed here: {allow}.", headers={"Allow": allow})
        case HTTPException(status_code=413):
            return Problem("too-large", "Send it in smaller pieces.")
        case HTTPException(status_code=status) if status < 500:
            return Problem("not-read", "The request cannot be read.")
        case _:
            return Problem("failed", "The hub's own log says more.")


def _parameter(found: Mapping[str, Any]) -> dict[str, str]:
    """A parameter that does not fit, without what stood there."""
    path = ".".join(str(part) for part in found["loc"][1:])
    reason = {"missing": "is missing", "bool_parsing": "is not true or false"}.get(found["type"], "does not fit")
    if found["type"].startswith(("int_", "greater_", "less_")):
        reason = "is no number in the range"
    return {"path": path, "reason": reason}
