"""Events in: one intake for CloudEvents in every mode and for connectors' webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub.codec import is_id
from hub.errors import Misuse, PayloadError, Refused
from hub.events import Event
from hub.identity.caller import Caller
from hub.intake import Result
from hub.payloads import Delivery, Taken
from hub.web import bodies, cloudevents, spec
from hub.web.access import FORBIDDEN, NOT_THEIRS, Admitted, check_source
from hub.web.cloudevents import Sent, Unread
from hub.web.door import API, Door, door, said, signed
from hub.web.gate import entered
from hub.web.problems import Problem, problem_of, told

router = APIRouter(tags=["events"])

REQUESTED = "consent.requested"

_EXAMPLE = {
    "specversion": "1.0",
    "type": "safety.answered",
    "source": "myhazard",
    "id": "s-1",
    "subject": "hanako",
    "time": "2026-06-01T09:00:00+09:00",
    "data": {"status": "safe"},
}
_RESULTS_EXAMPLE = {
    "accepted": 1,
    "duplicate": 0,
    "rejected": 0,
    "position": 108,
    "results": [{"id": "s-1", "status": "accepted", "position": 108}],
}
_COUNTS: dict[str, spec.Json] = {n: {"type": "integer"} for n in ("accepted", "duplicate", "rejected", "waiting")}
_WAITING = spec.answers(
    202,
    "The one event waits until its ref is linked",
    # OpenAPI's writer drops what is null in an example
    spec.obj({**_COUNTS, "results": spec.rows(spec.ref("Result"))}, {"position": {"type": "null"}}),
    {"accepted": 0, "duplicate": 0, "rejected": 0, "waiting": 1, "results": [{"id": "s-1", "status": "waiting"}]},
)
_EVENTS: spec.Json = {
    "requestBody": {
        "required": True,
        "content": {
            cloudevents.STRUCTURED: {"schema": spec.ref("CloudEvent"), "example": _EXAMPLE},
            cloudevents.BATCH: {"schema": spec.rows(spec.ref("CloudEvent")), "example": [_EXAMPLE]},
            cloudevents.NDJSON: {"schema": {"type": "string"}, "example": "(one CloudEvent a line)"},
            "application/json": {"schema": {"type": "object"}, "example": {"status": "safe"}},
        },
    }
}


@router.post(
    "/events",
    summary="Append events",
    openapi_extra=_EVENTS,
    status_code=201,
    responses=spec.answers(201, "The one event was accepted", spec.ref("Results"), _RESULTS_EXAMPLE, ["Hub-Position"])
    | spec.answers(200, "A duplicate, or a batch: see results", spec.ref("Results"), _RESULTS_EXAMPLE)
    | _WAITING
    | spec.problems("too-slow", "too-large", "wrong-media-type", "refused"),
)
async def post_events(request: Request) -> Response:
    """One CloudEvent (structured, or binary with `ce-*` headers), a batch, or NDJSON.

    What is acknowledged is durable. The same event again is a duplicate; one bad event of a batch is
    refused by itself, and kept in the quarantine. A fact under a `ref` that nobody has linked waits. Who may
    append which kind: docs/access.md.
    """
    at, caller = door(request), entered(request).caller
    at.inlet.check()
    content = bodies.media_type(request.headers.get("content-type"))
    body = await bodies.read(request)
    sent, single = cloudevents.read(content, request.headers, body)
    results = await take(at, caller, sent)
    error = results[0].error if single else None
    if error is not None and isinstance(results[0], _NotTheirs):
        raise Problem("forbidden", FORBIDDEN, [told(error)])
    if error is not None:
        raise problem_of(error)
    return _response(at, sent, results, single, told_where=caller.recipient is None)


async def take(at: Door, caller: Caller, sent: Sequence[Sent]) -> list[Result | _Rejected]:
    """What became of each event that was sent, in order; what was refused to a source is in the quarantine."""
    judged = await _judged(at, caller, sent)
    taken = iter(await at.take([found for found in judged if isinstance(found, Event)]))
    results: list[Result | _Rejected] = []
    for found in judged:
        match found:
            case Unread():
                results.append(_Rejected(found.error))
            case _NotTheirs():
                results.append(found)
            case Event():
                result = next(taken)
                asked = found.kind == REQUESTED and not isinstance(result.error, PayloadError)
                results.append(_ASKED if asked else result)
    own = caller.source is not None
    refused = [
        cloudevents.refusal(one, result.error)
        for one, result in zip(sent, results, strict=True)
        if own and result.error is not None and not isinstance(result, _NotTheirs)
    ]
    if refused:
        await at.read(lambda: at.hub.quarantine.keep(refused))
    return results


async def _judged(at: Door, caller: Caller, sent: Sequence[Sent]) -> list[Event | Unread | _NotTheirs]:
    """Each event as its caller may append it; what they may not, and what could not be read."""
    authority = at.gate.authority
    events = [one.event for one in sent if isinstance(one.event, Event)]
    others = {event.person for event in events if is_id(event.person) and authority.needs_delegations(caller, event)}
    acts_for: frozenset[str] = frozenset()
    if others and caller.person is not None:
        delegate = caller.person
        acts_for = await at.read(lambda: at.hub.directory.acts_for(map(str, others), delegate))
    found: list[Event | Unread | _NotTheirs] = []
    for one in sent:
        if isinstance(one.event, Unread):
            found.append(one.event)
            continue
        try:
            found.append(_owned(at, authority.check(caller, one.event, acts_for), one.event))
        except Refused as error:
            found.append(_NotTheirs(error))
        except PayloadError as error:
            found.append(Unread(error, one.event.id, one.event.source, one.event.kind, one.event.person))
    return found


def _owned(at: Door, admitted: Admitted, event: Event) -> Event:
    """The event with who did it; what is no source's stands under the API's own source, ids apart by caller."""
    at.gate.check_names(event.kind, event.data, event.person)
    if admitted.role == "source":
        check_source(event)
        return event
    data = signed(admitted, event.data, event.kind)
    if event.kind == "fact.retracted":
        data["source"] = data.get("source") or event.source
    if event.kind == "emergency.declared":
        data["alone"] = True
    name = at.id_of(admitted.caller, f"{event.source}\0{event.id}")
    return replace(event, source=API, id=name, data=data)


class _Rejected:
    """An event that could not be read."""

    status = "refused"
    position: int | None = None

    def __init__(self, error: PayloadError | Refused | None) -> None:
        self.error = error


class _NotTheirs(_Rejected):
    """An event that its sender may not append."""


class _Asked(_Rejected):
    """A request to a person. Whether it reached anybody is told to nobody (R20)."""

    status = "accepted"


_ASKED = _Asked(None)


def _response(
    at: Door, sent: Sequence[Sent], results: Sequence[Result | _Rejected], single: bool, *, told_where: bool
) -> Response:
    """told_where: whether positions stand in it; who reads for a recipient would learn from their gaps (R20)."""
    counts = {"accepted": 0, "duplicate": 0, "rejected": 0}
    waiting = sum(result.status == "waiting" for result in results)
    counts |= {"waiting": waiting} if waiting else {}
    rows = []
    last: int | None = None
    for one, result in zip(sent, results, strict=True):
        status = "rejected" if result.status == "refused" else result.status
        if status != "waiting":
            counts[status] += 1
        row: dict[str, Any] = {"id": one.id, "status": status}
        if result.position is not None:
            last = max(last or 0, result.position)
            row |= {"position": result.position} if told_where else {}
        if result.error is not None:
            row["error"] = told(result.error)
        rows.append(row)
    code = 202 if single and waiting else 201 if single and counts["accepted"] else 200
    position = last if told_where else None
    return said({**counts, "position": position, "results": rows}, code, at.positioned(last))


@router.post(
    "/connectors/{name}",
    summary="A source's own payload",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    responses=spec.answers(
        200,
        "What became of its events",
        spec.obj(
            {
                "status": {"type": "string", "enum": ["accepted", "nothing"]},
                "reason": spec.MAYBE_TEXT,
                "events": spec.rows(
                    spec.obj(
                        {"id": spec.TEXT, "kind": spec.TEXT, "status": spec.TEXT}, {"position": {"type": "integer"}}
                    )
                ),
            },
            {"refused": spec.rows(spec.ERROR)},
        ),
        {
            "status": "nothing",
            "reason": "VXSE52: reports of the epicentre alone are not read",
            "events": [],
        },
        ["Hub-Position"],
    )
    | spec.problems("too-slow", "too-large", "wrong-media-type", "refused"),
)
async def post_payload(request: Request, name: str) -> Response:
    """A webhook: the payload as its source sends it, translated by the connector called `name`."""
    at, caller = door(request), entered(request).caller
    at.inlet.check()
    try:
        plugin = at.hub.plugins.find(name)
    except Misuse:
        raise Problem("not-found", "No connector of this name is installed here.") from None
    signed_for: bytes | None = getattr(request.state, "payload", None)
    payload = await bodies.read(request) if signed_for is None else signed_for
    media_type = bodies.media_type(request.headers.get("content-type"))
    delivery = Delivery(connector=plugin, payload=payload, via="connector", media_type=media_type)
    read = await at.read(lambda: at.hub.payloads.read(delivery))
    if isinstance(read, Taken):
        raise read.refused[0]
    results = await _taken(at, caller, read.events)
    if results and all(_is_foreign(result) for result in results):
        raise Problem("forbidden", FORBIDDEN, [told(results[0].error)])  # type: ignore[arg-type]
    taken = await at.read(lambda: at.hub.payloads.conclude(delivery, read, results))
    if taken.wake:
        await at.read(lambda: at.hub.polling.wake(name))
    asked = [result for result in results if result.event.kind == REQUESTED and not _is_foreign(result)]
    hidden = {id(result.error) for result in asked}  # whether it reached anybody (R20)
    refused = [error for error in taken.refused if id(error) not in hidden]
    shown = [result for result in results if result.error is None or result in asked]
    rows = [_told(result, entry) for result in shown for entry in (None, *result.caused)]
    if refused and not rows:
        raise refused[0]
    last = max((row["position"] for row in rows if "position" in row), default=None)
    reason = taken.nothing if not rows else None
    body = {"status": "accepted" if rows else "nothing", "reason": reason, "events": rows}
    if refused:
        body["refused"] = [told(error) for error in refused]
    return said(body, headers=at.positioned(last))


async def _taken(at: Door, caller: Caller, events: Sequence[Event]) -> list[Result]:
    """What became of each event, in order; what the source may not append is refused by itself."""
    foreign: dict[int, Refused] = {}
    for number, event in enumerate(events):
        try:
            at.gate.authority.check(caller, event)
        except Refused as error:
            foreign[number] = error
    allowed = iter(await at.take([event for number, event in enumerate(events) if number not in foreign]))
    return [
        Result(event=event, status="refused", error=foreign[number]) if number in foreign else next(allowed)
        for number, event in enumerate(events)
    ]


def _is_foreign(result: Result) -> bool:
    return isinstance(result.error, Refused) and result.error.reason == NOT_THEIRS


def _told(result: Result, caused: Any) -> Mapping[str, Any]:
    event, position = (result.event, result.position) if caused is None else (caused.event, caused.position)
    if event.kind == REQUESTED:
        return {"id": event.id, "kind": event.kind, "status": "accepted"}  # whether it reached anybody (R20)
    row = {"id": event.id, "kind": event.kind, "status": result.status}
    return row if position is None else row | {"position": position}
