"""What holds for everyone: recipients, kinds, places, emergencies, overrides."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from starlette.responses import Response

from hub.canonical import timestamp
from hub.codec import is_id, parse_time
from hub.errors import PayloadError, Refused
from hub.hub import introductions
from hub.schemas import Schemas
from hub.web import spec
from hub.web.bodies import json_object
from hub.web.door import Door, done, door, place, said
from hub.web.gate import entered
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
    "by": "city:officer-8",
    "alone": False,
    "mistaken": False,
    "proposed": {
        "proposal": "2c26b46b68ffc68ff99b453c1d304134",
        "hazard": "flood",
        "exercise": False,
        "areas": ["07"],
        "until": "2026-06-05T00:00:00.000000Z",
        "by": "city:officer-7",
    },
}
_OVERRIDE = {
    "recipient": "aizu-city",
    "basis": "life_protection",
    "persons": ["hanako"],
    "kinds": ["location.reported"],
    "purposes": ["rescue"],
    "until": "2026-06-01T21:00:00+09:00",
    "reason": "Does not answer, the house is under water",
}


_OVERRIDE_ROW = {
    "override": "o1",
    **{name: _OVERRIDE[name] for name in ("recipient", "basis", "kinds", "purposes", "reason")},
    "areas": [],
    "persons_count": 1,
    "since": "2026-06-01T00:00:00.000000Z",
    "until": "2026-06-01T12:00:00.000000Z",
    "actor": "city:officer-7",
    "state": "open",
}


def add_routes(app: FastAPI, schemas: Schemas, prefix: str) -> None:
    """Add the routes under `prefix`."""
    router = APIRouter(tags=["city"])
    _add_recipients(router, schemas)
    _add_kinds(router)
    _add_places(router)
    _add_emergencies(router, schemas)
    _add_decisions(router)
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
        return done(request, result, {"recipient": recipient}, location=place(request))

    @router.delete(
        "/recipients/{recipient}",
        summary="Retire a recipient",
        responses=spec.told(200, "Retired: it sees nothing any more", name, {"recipient": "aizu-city"})
        | spec.problems("refused"),
    )
    async def delete_recipient(request: Request, recipient: str) -> Response:
        """Retire a recipient for ever; its id is not used again."""
        at = door(request)
        return done(
            request,
            await at.tell(request, "recipient.retired", {"recipient": recipient}),
            {"recipient": recipient},
            status=200,
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
        return done(request, await at.tell(request, "kind.introduced", terms), {"kind": kind})


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
        on: Annotated[str | None, Query(description="How things stood at this time, by all that is known")] = None,
        history: Annotated[bool, Query(description="Every report, not only the newest of each place")] = False,
    ) -> Response:
        """Facts of places (R22): they name no person, so no disclosure is logged."""
        here, time, stood = door(request), time_of(at, "at"), time_of(on, "on")
        await here.at_least(request)
        return said(
            {
                "places": await here.read(
                    lambda: here.hub.directory.places(kind, area=area, time=time, on=stood, history=history)
                )
            }
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
    body["properties"]["alone"] = {"type": "boolean", "description": "Declare it at once, without another officer."}

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
        return said({"emergencies": await here.read(lambda: here.hub.audit.emergencies(time, details=True))})

    @router.post(
        "/emergencies",
        summary="Propose an emergency, or an amendment of one",
        openapi_extra=spec.request_body(body, _EMERGENCY),
        status_code=201,
        responses=spec.told(
            201, "Proposed; it holds once another officer confirms it", name, {"emergency": "e1", "state": "proposed"}
        )
        | spec.told(200, "The same request was taken before", name, {"emergency": "e1", "state": "proposed"})
        | spec.problems(*_READ),
    )
    async def post_emergency(request: Request) -> Response:
        """What an officer proposes; another confirms it. Without `until` it is for 72 hours. The id of an emergency
        that is active proposes an amendment. `alone: true` declares at once, where the city lets one officer do so."""
        at, data = door(request), await json_object(request)
        data.setdefault("emergency", at.key(request))
        emergency = data["emergency"]
        before = await _emergency(at, emergency) if is_id(emergency) and "until" not in data else None
        data.setdefault("until", _until_again(before, data, entered(request).caller.actor))
        data["until"] = data["until"] or timestamp(at.hub.log.clock.now() + _LEASE)
        if data.pop("alone", None) is True:
            row = await _emergency(at, emergency) if is_id(emergency) else None
            _check_alone(at, "amend" if row is not None and row["state"] == "active" else "declare")
            result = await at.tell(request, "emergency.declared", {**data, "alone": True})
            state = "active"
        else:
            result = await at.tell(request, "emergency.proposed", data)
            state = "proposed"
        return done(request, result, {"emergency": emergency, "state": state}, location=place(request, emergency))


def _add_decisions(router: APIRouter) -> None:
    """What a second officer, or one alone, decides of an emergency."""
    name = {"emergency": spec.TEXT, "state": spec.TEXT}

    @router.post(
        "/emergencies/{emergency}/confirm",
        summary="Confirm a proposed emergency",
        openapi_extra=spec.request_body(
            spec.obj({"proposal": spec.TEXT}, {"reason": spec.TEXT}), {"proposal": "2c26b46b68ffc68ff99b453c1d304134"}
        ),
        responses=spec.told(200, "Declared: it holds from now on", name, {"emergency": "e1", "state": "active"})
        | spec.problems(*_READ),
    )
    async def confirm_emergency(request: Request, emergency: str) -> Response:
        """Declare what another officer, or the hazard policy, proposed: the very next read sees it. `proposal` names
        what was seen (`GET /emergencies`): where another stands by now, nothing is declared."""
        at, data = door(request), await json_object(request)
        row = await _emergency(at, emergency)
        waits = row["proposed"] if row is not None else None
        if waits is None:
            raise Problem("not-found", "No emergency of this id waits for a confirmation.")
        if data.get("proposal") != waits["proposal"]:
            raise PayloadError("is not what waits now; look again at what you confirm", path="proposal")
        if waits["by"] == entered(request).caller.actor:
            raise Problem("forbidden", "You proposed it; another officer confirms it.")
        declared = {field: waits[field] for field in ("hazard", "exercise", "areas", "until")}
        said = {"emergency": emergency, **declared, "confirms": data.pop("proposal")}
        result = await at.tell(request, "emergency.declared", {**data, **said})
        return done(request, result, {"emergency": emergency, "state": "active"}, status=200)

    @router.post(
        "/emergencies/{emergency}/reject",
        summary="Reject what was proposed",
        responses=spec.told(200, "Rejected", name, {"emergency": "e1", "state": "ended"}) | spec.problems("refused"),
    )
    async def reject_emergency(request: Request, emergency: str) -> Response:
        """Takes back a proposal, or the amendment of an emergency that is active, which goes on as it was."""
        at = door(request)
        row = await _emergency(at, emergency)
        if row is None or row["proposed"] is None:
            raise Problem("not-found", "No emergency of this id waits for a confirmation.")
        return await _ended(request, emergency, "emergency.rejected")

    @router.delete(
        "/emergencies/{emergency}",
        summary="Lift an emergency, or reject a proposed one",
        responses=spec.told(200, "Over", name, {"emergency": "e1", "state": "ended"}) | spec.problems("refused"),
    )
    async def delete_emergency(request: Request, emergency: str) -> Response:
        """The end of an emergency: at once, for everyone. It opens nothing, so one officer is enough."""
        at = door(request)
        row = await _emergency(at, emergency)
        if row is None:
            raise Problem("not-found", "No emergency has this id.")
        if row["state"] == "active" and row["proposed"] is not None:
            raise Refused("an amendment waits: confirm it, or reject it first (POST …/reject)", rule="R10")
        kind = "emergency.rejected" if row["state"] == "proposed" else "emergency.lifted"
        return await _ended(request, emergency, kind)

    @router.post(
        "/emergencies/{emergency}/undo",
        summary="Undo a mistaken declaration",
        openapi_extra=spec.request_body(spec.obj({"reason": spec.TEXT}), {"reason": "A drill was sent as real"}),
        responses=spec.told(200, "Over, and told to those concerned", name, {"emergency": "e1", "state": "ended"})
        | spec.problems(*_READ),
    )
    async def undo_emergency(request: Request, emergency: str) -> Response:
        """Lifts it at once. Everyone whom it covered finds a notice: that it was a mistake, and who saw what."""
        at, data = door(request), await json_object(request)
        if not isinstance(data.get("reason"), str) or not data["reason"].strip():
            raise PayloadError("says no reason", path="reason", kind="emergency.lifted")
        row = await _emergency(at, emergency)
        if row is None or row["state"] != "active":
            raise Problem("not-found", "No emergency of this id is active.")
        said = {"emergency": emergency, "reason": data["reason"], "mistaken": True}
        result = await at.tell(request, "emergency.lifted", said)
        return done(request, result, {"emergency": emergency, "state": "ended"}, status=200)


def _until_again(before: Any, data: dict[str, Any], actor: str) -> str | None:
    """The end that the same officer's same proposal got before: the request was sent again, without an answer."""
    waits = before["proposed"] if before is not None else None
    if waits is None or waits["by"] != actor or waits["areas"] != sorted(map(str, data.get("areas") or ())):
        return None
    return str(waits["until"]) if waits["hazard"] == data.get("hazard") else None


async def _ended(request: Request, emergency: str, kind: str) -> Response:
    """Tell the end of an emergency or a proposal, and answer how it stands then."""
    at = door(request)
    result = await at.tell(request, kind, {"emergency": emergency})
    row = await _emergency(at, emergency)
    state = row["state"] if row is not None else "ended"
    return done(request, result, {"emergency": emergency, "state": state}, status=200)


def _check_alone(at: Door, act: str) -> None:
    """Raise Problem where one officer may not do this alone now."""
    if not at.gate.alone(act):
        raise Problem("forbidden", "It takes two officers now: leave `alone` out, and have another confirm.")


async def _emergency(at: Any, emergency: str) -> Any:
    rows = await at.read(lambda: at.hub.audit.emergencies(details=True))
    return next((row for row in rows if row["emergency"] == emergency), None)


def _add_overrides(router: APIRouter, schemas: Schemas) -> None:
    name = {"override": spec.TEXT}
    row = spec.obj(
        {
            "override": spec.TEXT,
            "recipient": spec.TEXT,
            "basis": spec.TEXT,
            **{field: spec.rows(spec.TEXT) for field in ("areas", "kinds", "purposes")},
            "persons_count": {"type": "integer"},
            "since": spec.TIME,
            "until": spec.TIME,
            "reason": spec.TEXT,
            "actor": spec.TEXT,
            "state": {"type": "string", "enum": ["open", "ended"]},
        }
    )

    @router.get(
        "/overrides",
        summary="The overrides",
        responses=spec.answers(
            200, "Every override, newest first", spec.obj({"overrides": spec.rows(row)}), {"overrides": [_OVERRIDE_ROW]}
        )
        | spec.problems(),
    )
    async def get_overrides(request: Request) -> Response:
        """Who looks, or looked, without a grant: on which ground, for which reason, until when. No person is named."""
        at = door(request)
        return said({"overrides": await at.read(at.hub.directory.overrides)})

    @router.post(
        "/overrides",
        summary="Open an override",
        openapi_extra=spec.request_body(
            spec.body_of(schemas, "override.opened", optional=["override"], without=["actor", "by"]), _OVERRIDE
        ),
        status_code=201,
        responses=spec.told(201, "Open until its end, at most 72 hours", name, {"override": "o1"})
        | spec.told(200, "The same request was taken before", name, {"override": "o1"})
        | spec.problems(*_READ),
    )
    async def post_override(request: Request) -> Response:
        """Break-glass (R14): for the protection of life, or by the roster in a disaster; with a reason. Everyone
        concerned finds a notice."""
        at, data = door(request), await json_object(request)
        data.setdefault("override", at.key(request))
        own = entered(request).caller.actor
        if data.setdefault("actor", own) != own:
            raise PayloadError("is not who asks; leave it out", path="actor", kind="override.opened")
        result = await at.tell(request, "override.opened", data)
        override = data["override"]
        return done(request, result, {"override": override}, location=place(request, override))

    @router.delete(
        "/overrides/{override}",
        summary="Close an override",
        responses=spec.told(200, "Closed", name, {"override": "o1"}) | spec.problems("refused"),
    )
    async def delete_override(request: Request, override: str) -> Response:
        """The end of an override: it shows nothing any more."""
        at = door(request)
        return done(
            request,
            await at.tell(request, "override.closed", {"override": override}),
            {"override": override},
            status=200,
        )
