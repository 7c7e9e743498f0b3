"""What changed: asked for (`changes`), or as it happens (`stream`, server-sent events). Both are one feed.

A stream looks again when the log grows, whoever appended, and when time alone may change what is shown: a
grant's or a lease's end, a time to live. It asks for the next message only once the last one was taken from
its hands, so that a slow reader waits for itself alone, and is told what holds when it comes back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from hub import answer
from hub.errors import Busy, HubError
from hub.feeds import Message
from hub.web import answers, operation, spec, views
from hub.web.door import Door, door
from hub.web.gate import entered
from hub.web.problems import problem_of

router = APIRouter(tags=["views"])

MOST_STREAMS = 500
"""Streams of one worker."""

_KEEP_ALIVE_S = 15.0
_AT_ONCE = 500

_EXAMPLE = {
    **{name: views.EXAMPLE[name] for name in ("exercise", "purpose", "recipient", "time")},
    "format": "changes/1",
    "more": False,
    "next": "5b1e…",
    "persons": [{**views.EXAMPLE["persons"][0], "ref": "0f343b0931126a20f133d67c2b018a3b"}],
    "removed": ["9e107d9d372bb6826bd81d3542a419d6"],
}
_CHANGES: spec.Responses = {
    200: {
        "description": "What changed since; logged as a disclosure before it left",
        "headers": {name: spec.HEADERS[name] for name in ("Hub-Disclosure", "Hub-Position")},
        "content": {answers.JSON: {"schema": spec.ref("Changes"), "example": _EXAMPLE}},
    }
}
_STREAM: spec.Responses = {
    200: {
        "description": "Events called `changes`: `id` is what a reader gives back as Last-Event-ID, `data` as /changes",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/views/{recipient}/changes",
    summary="What changed since",
    responses=_CHANGES | spec.problems("refused"),
)
async def get_changes(
    request: Request,
    recipient: str,
    purpose: views.Purpose,
    since: Annotated[
        str | None, Query(description="`next` of the message before; without it, from the beginning")
    ] = None,
    kinds: views.Kinds = None,
    persons: views.Persons = None,
    history: views.History = False,
    exercise: views.Drill = False,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Persons in a message")] = _AT_ONCE,
) -> Response:
    """Each person replaces all that was told of them before; `removed` names, by `ref`, those of whom nothing is
    visible any more. `more`: ask again at once."""
    at = door(request)
    await at.at_least(request)
    query = views.query_of(at, recipient, purpose, kinds, persons, None, history=history, exercise=exercise)
    actor = at.actor(request)
    message = await at.read(lambda: at.hub.feeds.advance(query, since, actor=actor, limit=limit, at_rest="answer"))
    assert message is not None  # noqa: S101 -- at rest it answers
    at.metrics.decided("changes")
    headers = at.positioned(message.position) | {"Hub-Disclosure": message.disclosure}
    return Response(message.body, headers=answers.UNKEPT | headers, media_type=answers.JSON)


@router.get(
    "/views/{recipient}/stream",
    summary="What changes, as it happens",
    responses=_STREAM | spec.problems("refused"),
    response_class=StreamingResponse,
)
async def get_stream(
    request: Request,
    recipient: str,
    purpose: views.Purpose,
    kinds: views.Kinds = None,
    persons: views.Persons = None,
    history: views.History = False,
    exercise: views.Drill = False,
    last: Annotated[str | None, Header(alias="Last-Event-ID", description="Where a stream was left")] = None,
) -> Response:
    """Server-sent events, until the token or session that asked for them ends. A stream that was left goes on where
    it was, at the consent of now."""
    at = door(request)
    query = views.query_of(at, recipient, purpose, kinds, persons, None, history=history, exercise=exercise)
    if at.streams >= MOST_STREAMS:
        raise Busy("too many streams are open")
    advance = partial(at.hub.feeds.advance, actor=at.actor(request), limit=_AT_ONCE)
    first = await at.read(lambda: advance(query, last, at_rest="answer"))
    assert first is not None  # noqa: S101 -- at rest it answers
    left_s = at.gate.lasting(request, entered(request).caller)
    return StreamingResponse(
        _events(at, query, first, advance, left_s), headers=_UNKEPT, media_type="text/event-stream"
    )


_UNKEPT = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}


async def _events(
    at: Door,
    query: answer.Query,
    message: Message,
    advance: Callable[..., Message | None],
    left_s: Callable[[], Awaitable[float]],
) -> AsyncIterator[bytes]:
    at.streams += 1
    try:
        yield b"retry: 1000\n\n" + _written(message)
        while not at.stopping.is_set() and (left := await left_s()) > 0:
            seen = at.tail.position
            following = await at.read(partial(advance, query, message.next, at_rest="nothing"))
            if following is not None:
                message = following
                at.metrics.decided("streamed")
                yield _written(message)
                continue
            wait_s = await at.read(partial(at.hub.feeds.quiet_s, query, message.next))
            longest_s = min(_KEEP_ALIVE_S, left)
            if not await at.tail.grown(seen, min(wait_s, longest_s)) and wait_s >= longest_s:
                yield b": still here\n\n"
    except Busy:
        pass  # the reader comes back with its last id
    except HubError as error:
        operation.log().error("stream", problem=problem_of(error).name, error=type(error).__name__)
    finally:
        at.streams -= 1


def _written(message: Message) -> bytes:
    return b"id: " + message.next.encode() + b"\nevent: changes\ndata: " + message.body + b"\n\n"
