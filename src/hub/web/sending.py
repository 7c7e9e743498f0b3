"""What is sent to recipients by Kafka: their streams, and the content keys that open what comes by them."""

from __future__ import annotations

from base64 import b64encode

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from hub.canonical import timestamp
from hub.log.content import ContentKey
from hub.schemas import Schemas
from hub.web import spec
from hub.web.bodies import json_object
from hub.web.door import Door, done, door, place, said
from hub.web.problems import Problem

_READ = ("too-slow", "too-large", "wrong-media-type", "refused")
_STREAM = {"purpose": "rescue", "kinds": ["location.reported", "safety.*"]}
_ROW = {"stream": "rescue", "recipient": "aizu-city", **_STREAM, "exercise": False, "history": False}
_NAMES = {"recipient": "aizu-city", "stream": "rescue"}
_KEY = {
    "id": "9f86d081884c7d659a2feaa0c55ad015",
    "key": "n4bQgYhMfWWaL-example-of-32-bytes-in-base64=",
    "recipient": "aizu-city",
    "until": "2026-06-08T00:00:00.000000Z",
}


def add_routes(app: FastAPI, schemas: Schemas, prefix: str) -> None:
    """Add the routes under `prefix`."""
    router = APIRouter(tags=["streams"])
    _add_streams(router, schemas)
    _add_keys(router)
    app.include_router(router, prefix=prefix)


def _add_streams(router: APIRouter, schemas: Schemas) -> None:
    names = {"recipient": spec.TEXT, "stream": spec.TEXT}
    flag: spec.Json = {"type": "boolean"}
    row = spec.obj({**names, "purpose": spec.TEXT, "kinds": spec.rows(spec.TEXT), "exercise": flag, "history": flag})

    @router.get(
        "/recipients/{recipient}/streams",
        summary="The streams of a recipient",
        responses=spec.answers(200, "Its streams, by name", spec.obj({"streams": spec.rows(row)}), {"streams": [_ROW]})
        | spec.problems(),
    )
    async def get_streams(request: Request, recipient: str) -> Response:
        """What the recipient is sent by the topic `hub.view.<recipient>`; empty for one that is not registered."""
        at = door(request)
        return said({"streams": await at.read(lambda: at.hub.directory.streams(recipient))})

    @router.get(
        "/recipients/{recipient}/streams/{stream}",
        summary="One stream",
        responses=spec.answers(200, "Its terms", row, _ROW) | spec.problems(),
    )
    async def get_stream(request: Request, recipient: str, stream: str) -> Response:
        """The terms of one stream."""
        at = door(request)
        for found in await at.read(lambda: at.hub.directory.streams(recipient)):
            if found["stream"] == stream:
                return said(found)
        raise Problem("not-found", "No such stream is registered.")

    @router.put(
        "/recipients/{recipient}/streams/{stream}",
        summary="Register a stream",
        openapi_extra=spec.request_body(
            spec.body_of(schemas, "stream.registered", without=["recipient", "stream"]), _STREAM
        ),
        status_code=201,
        responses=spec.told(201, "Registered", names, _NAMES)
        | spec.told(200, "The same request was taken before", names, _NAMES)
        | spec.problems(*_READ),
    )
    async def put_stream(request: Request, recipient: str, stream: str) -> Response:
        """Have a recipient sent what it may see, or on other terms: then all is taken back, and told anew."""
        at, data = door(request), await json_object(request)
        name = {"recipient": recipient, "stream": stream}
        result = await at.tell(request, "stream.registered", {**data, **name})
        return done(request, result, name, location=place(request))

    @router.delete(
        "/recipients/{recipient}/streams/{stream}",
        summary="End a stream",
        responses=spec.told(200, "Ended: all that was sent is taken back", names, _NAMES) | spec.problems("refused"),
    )
    async def delete_stream(request: Request, recipient: str, stream: str) -> Response:
        """End a stream; its name may be used again."""
        at, name = door(request), {"recipient": recipient, "stream": stream}
        return done(request, await at.tell(request, "stream.ended", name), name, status=200)


def _add_keys(router: APIRouter) -> None:
    key = spec.obj({"id": spec.TEXT, "key": spec.TEXT, "recipient": spec.TEXT, "until": spec.TIME})

    @router.get(
        "/recipients/{recipient}/keys/{key}",
        summary="A content key",
        responses=spec.answers(200, "32 bytes in base64; keep them in memory alone", key, _KEY) | spec.problems(),
    )
    async def get_key(request: Request, recipient: str, key: str) -> Response:
        """The content key that a record of the recipient's streams names, until it is destroyed. A key of another
        recipient is answered as one that never was."""
        at = door(request)
        found = await at.read(lambda: _key(at, recipient, key))
        if found is None:
            raise Problem("not-found", "There is no such key, or its time is over: what it opens is shown no longer.")
        body = {"id": found.id, "key": b64encode(found.secret).decode(), "recipient": recipient}
        return said(body | {"until": timestamp(found.until)})


def _key(at: Door, recipient: str, key: str) -> ContentKey | None:
    if not at.hub.directory.registered(recipient):
        return None
    return at.hub.content.find(recipient, key, at.hub.log.clock.now())
