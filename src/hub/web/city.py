"""What holds for everyone: recipients, kinds, places, emergencies, overrides."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from starlette.responses import Response

from hub.canonical import timestamp
from hub.codec import parse_time
from hub.errors import PayloadError
from hub.hub import introductions
from hub.schemas import Schemas
from hub.web import spec
from hub.web.bodies import json_object
from hub.web.door import done, door, place, said
from hub.web.problems import Problem

_READ = ("too-slow", "too-large", "wrong-media-type", "refused")
_LEASE = timedelta(hours=72)
_RECIPIENT = {"class": "municipality", "areas": ["07202"], "purposes": ["rescue"], "overrides": ["life_protection"]}
_RECIPIENT_ROW = {"recipient": "aizu-city", **_RECIPIENT}
_EMERGENCY: dict[str, Any] = {"hazard": "flood", "areas": ["07202"], "until": "2026-06-04T09:00:00+09:00"}
_EMERGENCY_ROW = {
    "emergency": "e1",
    "hazard": "flood",
    "areas": ["07202"],
    "since": "2026-06-01T00:00:00.000000Z",
    "until": "2026-06-04T00:00:00.000000Z",
    "exercise": False,
    "state": "active",
}
_OVERRIDE = {
    "recipient": "aizu-city",
    "basis": "life_protection",
    "persons": ["hanako"],
    "kinds": ["location.reported"],
    "purposes": ["rescue"],
    "until": "2026-06-01T21:00:00+09:00",
    "reason": "Does not answer, the house is under water",
    "actor": "officer-7",
}


def add_routes(app: FastAPI, schemas: Schemas, prefix: str) -> None:
    """Add the routes under `prefix`."""
    router = APIRouter(tags=["city"])
    _add_recipients(router, schemas)
    _add_kinds(router)
    _add_places(router)
    _add_emergencies(router, schemas)
    _add_overrides(router, schemas)
    app.include_router(router, prefix=prefix)


def _add_recipients(router: APIRouter, schemas: Schemas) -> None:
    name = {"recipient": spec.TEXT}
    row = spec.obj(
        {
            "recipient": spec.TEXT,
            "class": spec.TEXT,
            **{field: spec.rows(spec.TEXT) for field in ("areas", "purposes", "overrides")},
        }
    )

    @router.get(
        "/recipients",
        summary="All recipients",
        responses=spec.answers(
            200, "Registered recipients", spec.obj({"recipients": spec.rows(row)}), {"recipients": [_RECIPIENT_ROW]}
        )
        | spec.problems(),
    )
    async def get_recipients(request: Request) -> Response:
        """Every recipient that is registered: whom data may be given to, and for which purposes."""
        at = door(request)
        return said({"recipients": await at.read(at.hub.directory.recipients)})

    @router.get(
        "/recipients/{recipient}",
        summary="One recipient",
        responses=spec.answers(200, "The registration", row, _RECIPIENT_ROW) | spec.problems(),
    )
    async def get_recipient(request: Request, recipient: str) -> Response:
        """The registration of one recipient."""
        at = door(request)
        for found in await at.read(at.hub.directory.recipients):
            if found["recipient"] == recipient:
                return said(found)
        raise Problem("not-found", "No such recipient is registered.")

    @router.put(
        "/recipients/{recipient}",
        summary="Register a recipient",
        openapi_extra=spec.request_body(
            spec.body_of(schemas, "recipient.registered", without=["recipient"]), _RECIPIENT
        ),
        status_code=201,
        responses=spec.told(201, "Registered", name, {"recipient": "aizu-city"})
        | spec.told(200, "The same request was taken before", name, {"recipient": "aizu-city"})
        | spec.problems(*_READ),
    )
    async def put_recipient(request: Request, recipient: str) -> Response:
        """Register a recipient, or register it anew: the latest registration counts."""
        at, data = door(request), await json_object(request)
        result = await at.tell(request, "recipient.registered", {**data, "recipient": recipient})
        return done(at, result, {"recipient": recipient}, location=place(request))

    @router.delete(
        "/recipients/{recipient}",
        summary="Retire a recipient",
        responses=spec.told(200, "Retired: it sees nothing any more", name, {"recipient": "aizu-city"})
        | spec.problems("refused"),
    )
    async def delete_recipient(request: Request, recipient: str) -> Response:
        """Retire a recipient for ever; its id is not used again."""
        at = door(request)
        return _ok(
            done(at, await at.tell(request, "recipient.retired", {"recipient": recipient}), {"recipient": recipient})
        )


def _add_kinds(router: APIRouter) -> None:
    row: spec.Json = {"type": "object", "required": ["kind", "version", "about", "introduced", "schema"]}
    shown = {"kind": "safety.answered", "version": 1, "about": "person", "introduced": True, "schema": {}}

    @router.get(
        "/kinds",
        summary="The catalogue of kinds",
        responses=spec.answers(
            200, "Kinds of facts, with their Avro schemas", spec.obj({"kinds": spec.rows(row)}), {"kinds": [shown]}
        )
        | spec.problems(),
    )
    async def get_kinds(request: Request) -> Response:
        """Every kind of fact of which this hub has a schema, and whether it was introduced."""
        at = door(request)
        return said({"kinds": await at.read(at.hub.directory.kinds)})

    @router.post(
        "/kinds",
        summary="Introduce a kind",
        openapi_extra=spec.request_body(spec.obj({"kind": spec.TEXT}), {"kind": "safety.answered"}),
        status_code=201,
        responses=spec.told(201, "Introduced", {"kind": spec.TEXT}, {"kind": "safety.answered"})
        | spec.told(200, "The same request was taken before", {"kind": spec.TEXT}, {"kind": "safety.answered"})
        | spec.problems(*_READ),
    )
    async def post_kind(request: Request) -> Response:
        """Introduce a kind of which this hub has a schema: time to live and the rest are the schema's."""
        at, data = door(request), await json_object(request)
        kind = data.get("kind")
        terms = next((e.data for e in introductions(at.hub.log.schemas) if e.data["kind"] == kind), None)
        if terms is None or len(data) != 1:
            reason = "is no kind of fact of which this hub has a schema" if terms is None else "stands beside kind"
            raise PayloadError(reason, path="kind" if terms is None else "", kind="kind.introduced")
        return done(at, await at.tell(request, "kind.introduced", terms), {"kind": kind})


def _add_places(router: APIRouter) -> None:
    row: spec.Json = {"type": "object", "required": ["event", "source", "kind", "recorded_at", "exercise", "data"]}
    shown = {
        "event": "s1",
        "source": "shelters",
        "kind": "shelter.reported",
        "occurred_at": "2026-06-01T00:00:00.000000Z",
        "recorded_at": "2026-06-01T00:00:00.000000Z",
        "exercise": False,
        "data": {"shelter": "s-12", "people": 40},
    }

    @router.get(
        "/places",
        summary="Hazards and shelters",
        responses=spec.answers(
            200, "The newest fact of each place", spec.obj({"places": spec.rows(row)}), {"places": [shown]}
        )
        | spec.problems("refused"),
    )
    async def get_places(
        request: Request,
        kind: Annotated[str, Query(description="hazard.reported, shelter.reported")],
        area: Annotated[str | None, Query(description="Only those in this area")] = None,
        at: Annotated[str | None, Query(description="As known at this time")] = None,
        history: Annotated[bool, Query(description="Every report, not only the newest of each place")] = False,
    ) -> Response:
        """Facts of places (R22): they name no person, so no disclosure is logged."""
        here, time = door(request), time_of(at, "at")
        await here.at_least(request)
        return said(
            {"places": await here.read(lambda: here.hub.directory.places(kind, area=area, time=time, history=history))}
        )


def time_of(text: str | None, path: str) -> Any:
    """The time that a parameter says. Raises Problem."""
    if text is None:
        return None
    try:
        return parse_time(text.replace(" ", "+"))
    except PayloadError as error:
        raise Problem("not-read", "See errors.", [{"path": path, "reason": error.reason}]) from None


def _add_emergencies(router: APIRouter, schemas: Schemas) -> None:
    name = {"emergency": spec.TEXT, "state": spec.TEXT}
    body = spec.body_of(schemas, "emergency.proposed", optional=["emergency", "until"])

    @router.get(
        "/emergencies",
        summary="The emergencies",
        responses=spec.answers(
            200,
            "Proposed, active and ended, by their beginning",
            spec.obj({"emergencies": spec.rows(spec.ref("Emergency"))}),
            {"emergencies": [_EMERGENCY_ROW]},
        )
        | spec.problems(),
    )
    async def get_emergencies(
        request: Request, at: Annotated[str | None, Query(description="As it was at this time")] = None
    ) -> Response:
        """Every emergency as it stands, or stood."""
        here, time = door(request), time_of(at, "at")
        await here.at_least(request)
        return said({"emergencies": await here.read(lambda: here.hub.audit.emergencies(time))})

    @router.post(
        "/emergencies",
        summary="Propose an emergency",
        openapi_extra=spec.request_body(body, _EMERGENCY),
        status_code=201,
        responses=spec.told(
            201, "Proposed; it holds once it is confirmed", name, {"emergency": "e1", "state": "proposed"}
        )
        | spec.told(200, "The same request was taken before", name, {"emergency": "e1", "state": "proposed"})
        | spec.problems(*_READ),
    )
    async def post_emergency(request: Request) -> Response:
        """What an officer proposes; another confirms it. Without `until` it is for 72 hours."""
        at, data = door(request), await json_object(request)
        data.setdefault("emergency", request.headers.get("idempotency-key") or uuid.uuid4().hex)
        data.setdefault("until", timestamp(at.hub.log.clock.now() + _LEASE))
        result = await at.tell(request, "emergency.proposed", data)
        emergency = data["emergency"]
        return done(at, result, {"emergency": emergency, "state": "proposed"}, location=place(request, emergency))

    @router.post(
        "/emergencies/{emergency}/confirm",
        summary="Confirm a proposed emergency",
        openapi_extra=spec.request_body(spec.obj({}, {"by": spec.TEXT}), {"by": "officer-8"}, required=False),
        responses=spec.told(200, "Declared: it holds from now on", name, {"emergency": "e1", "state": "active"})
        | spec.problems(*_READ),
    )
    async def confirm_emergency(request: Request, emergency: str) -> Response:
        """Declare what was proposed: the very next read sees it."""
        at, data = door(request), await json_object(request, optional=True)
        row = await _emergency(at, emergency)
        if row is None or row["state"] != "proposed":
            raise Problem("not-found", "No emergency of this id waits for a confirmation.")
        declared = {field: row[field] for field in ("emergency", "areas", "until", "hazard", "exercise")}
        result = await at.tell(request, "emergency.declared", {**data, **declared})
        return _ok(done(at, result, {"emergency": emergency, "state": "active"}))

    @router.delete(
        "/emergencies/{emergency}",
        summary="Lift an emergency, or reject a proposed one",
        responses=spec.told(200, "Over", name, {"emergency": "e1", "state": "ended"}) | spec.problems("refused"),
    )
    async def delete_emergency(request: Request, emergency: str) -> Response:
        """The end of an emergency: at once, for everyone."""
        at = door(request)
        row = await _emergency(at, emergency)
        if row is None:
            raise Problem("not-found", "No emergency has this id.")
        kind = "emergency.rejected" if row["state"] == "proposed" else "emergency.lifted"
        result = await at.tell(request, kind, {"emergency": emergency})
        return _ok(done(at, result, {"emergency": emergency, "state": "ended"}))


async def _emergency(at: Any, emergency: str) -> Any:
    rows = await at.read(at.hub.audit.emergencies)
    return next((row for row in rows if row["emergency"] == emergency), None)


def _add_overrides(router: APIRouter, schemas: Schemas) -> None:
    name = {"override": spec.TEXT}

    @router.post(
        "/overrides",
        summary="Open an override",
        openapi_extra=spec.request_body(spec.body_of(schemas, "override.opened", optional=["override"]), _OVERRIDE),
        status_code=201,
        responses=spec.told(201, "Open until its end, at most 72 hours", name, {"override": "o1"})
        | spec.told(200, "The same request was taken before", name, {"override": "o1"})
        | spec.problems(*_READ),
    )
    async def post_override(request: Request) -> Response:
        """Break-glass (R14): for the protection of life, or by the roster in a disaster; with a reason."""
        at, data = door(request), await json_object(request)
        data.setdefault("override", request.headers.get("idempotency-key") or uuid.uuid4().hex)
        result = await at.tell(request, "override.opened", data)
        override = data["override"]
        return done(at, result, {"override": override}, location=place(request, override))

    @router.delete(
        "/overrides/{override}",
        summary="Close an override",
        responses=spec.told(200, "Closed", name, {"override": "o1"}) | spec.problems("refused"),
    )
    async def delete_override(request: Request, override: str) -> Response:
        """The end of an override: it shows nothing any more."""
        at = door(request)
        return _ok(done(at, await at.tell(request, "override.closed", {"override": override}), {"override": override}))


def _ok(response: Response) -> Response:
    """An end is no new thing: 200."""
    response.status_code = 200
    return response
