"""Bodies: read with a limit of size and of time, unpacked with the same limit, parsed strictly."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from hub.connector.json import parse
from hub.errors import PayloadError
from hub.web.problems import Problem

LARGEST_BYTES = 16 * 1024 * 1024
"""Of a batch. One event is refused beyond `EVENT_BYTES`."""

EVENT_BYTES = 1024 * 1024
SLOWEST_S = 30.0

DRAINED_BYTES = 64 * 1024 * 1024
"""Of a body that is too large, what is still read and thrown away: who is sending hears the answer only then."""


def media_type(header: str | None) -> str:
    """The type and subtype of a Content-Type, in lower case. Raises Problem for a charset that is not UTF-8."""
    whole, *parameters = (header or "").split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise Problem("wrong-media-type", "Send the body as UTF-8.")
    return whole.strip().lower()


async def read(request: Request, limit: int = LARGEST_BYTES) -> bytes:
    """The body, unpacked where it is gzip. Raises Problem where it is too large, too slow or packed otherwise."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Problem("wrong-media-type", "Send the body as it is, or as gzip.", headers={"Accept-Encoding": "gzip"})
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > max(limit, DRAINED_BYTES):
        raise _too_large(limit)
    try:
        async with asyncio.timeout(SLOWEST_S):
            packed = await _received(request, limit)
    except TimeoutError:
        raise Problem("too-slow", f"The whole body has to arrive within {SLOWEST_S:.0f} s.", headers=_CLOSE) from None
    except ClientDisconnect:
        raise Problem("not-read", "The connection ended within the body.") from None
    return packed if encoding == "identity" else _unpacked(packed, limit)


_CLOSE = {"Connection": "close"}


async def _received(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif size > max(limit, DRAINED_BYTES):
            break
    if size > limit:
        raise _too_large(limit)
    return b"".join(parts)


def _unpacked(packed: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        body = unpacker.decompress(packed, limit + 1)
    except zlib.error:
        raise Problem("not-read", "The body is no gzip.") from None
    if len(body) > limit:
        raise _too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise Problem("not-read", "The gzip does not end where the body ends.")
    return body


def _too_large(limit: int) -> Problem:
    return Problem("too-large", f"At most {limit // 1024} KiB are taken at once; send smaller pieces.", headers=_CLOSE)


async def json_object(request: Request, *, optional: bool = False) -> dict[str, Any]:
    """The object that a small JSON body holds. Raises Problem.

    optional: an empty body is an empty object.
    """
    body = await read(request, EVENT_BYTES)
    if optional and not body:
        return {}
    kind = media_type(request.headers.get("content-type"))
    if kind not in ("application/json", "") and not kind.endswith("+json"):
        raise Problem("wrong-media-type", "Send application/json.")
    try:
        said = parse(body)
    except PayloadError as error:
        raise Problem("not-read", "The body cannot be read.", [{"path": "", "reason": error.reason}]) from None
    if not isinstance(said, dict):
        raise Problem("not-read", "The body cannot be read.", [{"path": "", "reason": "is no object"}])
    return said
