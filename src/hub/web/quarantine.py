"""What was refused, for an operator: list, look, mend, replay, drop."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from hub.canonical import timestamp
from hub.errors import Misuse, PayloadError
from hub.events import CONTROLS, Event
from hub.identity.caller import Caller
from hub.payloads import translated
from hub.plugins import Plugins
from hub.quarantine import Item, Translate
from hub.web import bodies, cloudevents, spec
from hub.web.door import door, said
from hub.web.gate import entered
from hub.web.problems import Problem, told

router = APIRouter(tags=["quarantine"], prefix="/quarantine")

_ROW: dict[str, Any] = {
    "item": "0cc175b9c0f1b6a831c399e269772661",
    "received_at": "2026-06-01T00:00:00.000000Z",
    "count": 1,
    "via": "events",
    "kind": "location.reported",
    "source": "myhazard",
    "reason": "is no number",
    "path": "lat_deg",
    "rule": "",
    "kept": True,
}
_ITEM = spec.obj(
    dict.fromkeys(("item", "received_at", "via", "kind", "reason", "path", "rule"), spec.TEXT)
    | {"source": spec.MAYBE_TEXT, "count": {"type": "integer"}, "kept": {"type": "boolean"}}
)
_RESULT = spec.obj(
    {"id": spec.TEXT, "status": {"type": "string", "enum": ["accepted", "duplicate", "rejected", "waiting"]}},
    {"position": {"type": "integer"}, "error": spec.ERROR},
)


_PAYLOAD: spec.Responses = {200: {"description": "As it was sent", "content": {"application/octet-stream": {}}}}


def translator(plugins: Plugins) -> Translate:
    """What reads the payload of an item: its door, or its connector as it is installed now."""

    def translate(via: str, payload: bytes) -> list[Event]:
        door_name, _, name = via.partition(":")
        if door_name == "events":
            return cloudevents.events_of(payload)
        try:
            connector = plugins.find(name)
        except Misuse:
            raise PayloadError("came by a connector that is not installed here any more") from None
        translation = translated(connector, payload)
        for rejected in translation.rejected:
            raise rejected.error
        return list(translation.events)

    return translate


@router.get(
    "",
    summary="What was refused",
    responses=spec.answers(200, "Items, newest first", spec.obj({"items": spec.rows(_ITEM)}), {"items": [_ROW]})
    | spec.problems("refused"),
)
async def get_items(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many")] = 100,
    after: Annotated[str | None, Query(description="Only items behind this one")] = None,
) -> Response:
    """Kind, source, path and reason of each; nothing of the payload. `kept`: whether the payload is there."""
    at = door(request)
    items = await at.read(lambda: at.hub.quarantine.items(limit=limit, after=after))
    return said({"items": [_row(item) for item in items]})


def _row(item: Item) -> dict[str, Any]:
    names = ("item", "count", "via", "kind", "source", "reason", "path", "rule", "kept")
    return {name: getattr(item, name) for name in names} | {"received_at": timestamp(item.received_at)}


@router.get(
    "/{item}",
    summary="The payload of an item",
    responses=_PAYLOAD | spec.problems("refused"),
)
async def get_item(request: Request, item: str) -> Response:
    """The payload as it was sent, to be mended. It is a look, and recorded as one."""
    at, actor = door(request), door(request).actor(request)
    _, _, payload = await at.read(lambda: _open(at.hub, item))
    await at.read(lambda: at.hub.audit.looked({"quarantine": item}, actor=actor))
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(payload, headers=headers, media_type="application/octet-stream")


def _open(hub: Any, item: str) -> tuple[str, str, bytes]:
    try:
        opened: tuple[str, str, bytes] = hub.quarantine.open(item)
    except PayloadError as error:
        raise Problem("not-found", "No such item, or its payload was not kept.") from error
    return opened


@router.post(
    "/{item}",
    summary="Replay an item",
    openapi_extra={
        "requestBody": {
            "required": False,
            "description": "The mended payload; without it, as it was sent",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    responses=spec.answers(
        200,
        "What became of its events; the item is gone once all were taken",
        spec.obj({"results": spec.rows(_RESULT)}),
        {"results": [{"id": "l1", "status": "accepted", "position": 109}]},
    )
    | spec.problems("too-slow", "too-large", "wrong-media-type", "refused"),
)
async def post_item(request: Request, item: str) -> Response:
    """Hand it to intake again, as its source's; mended it may say other facts, no other source and no consent. Where
    it is refused again it stays, with the new reason."""
    at, caller = door(request), entered(request).caller
    mended = await bodies.read(request, bodies.LARGEST_BYTES)

    def allow(source: str | None, event: Event) -> None:
        as_sent = Caller(actor="quarantine", roles=frozenset({"source"}), expires=caller.expires, source=source)
        at.gate.authority.check(as_sent, event)  # mending changes no source, and makes no consent
        if event.kind in CONTROLS and event.data.get("by") is not None:
            raise PayloadError("is not for a source to say", path="by", kind=event.kind)

    def work() -> list[dict[str, Any]]:
        _open(at.hub, item)
        rows = []
        for result in at.hub.quarantine.replay(item, translator(at.hub.plugins), mended or None, allow=allow):
            row: dict[str, Any] = {"id": result.event.id, "status": result.status}
            if result.error is not None:
                row |= {"status": "rejected", "error": told(result.error)}
            if result.position is not None:
                row["position"] = result.position
            rows.append(row)
        return rows

    return said({"results": await at.read(work)})


@router.delete(
    "/{item}",
    summary="Drop an item",
    responses=spec.answers(200, "Destroyed", spec.obj({"item": spec.TEXT}), {"item": _ROW["item"]}) | spec.problems(),
)
async def delete_item(request: Request, item: str) -> Response:
    """Destroy an item and its key."""
    at = door(request)
    if not await at.read(lambda: at.hub.quarantine.drop(item)):
        raise Problem("not-found", "No such item.")
    return said({"item": item})
