"""The citizen's own pages of the API: how often to ask, what waits, what to know, who looked, what would be seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from starlette.responses import Response, StreamingResponse

from hub.errors import PayloadError, Refused
from hub.events import Event
from hub.intake import Result
from hub.schemas import Schemas
from hub.web import spec
from hub.web.bodies import json_object
from hub.web.door import Door, door, said, signed
from hub.web.gate import entered
from hub.web.problems import Problem, told, written

_READ = ("too-slow", "too-large", "wrong-media-type", "refused")
_MOST_ANSWERS = 200
_NDJSON = "application/x-ndjson"
_JSONLD = "application/ld+json"

_PREFERENCES: dict[str, Any] = {"ask": "each_new_kind", "recipients": {"aizu-city": "once"}, "language": "ja"}
_WOULD = {
    "to": {"recipient": "aizu-city"},
    "kinds": ["safety.answered"],
    "purposes": ["rescue"],
    "modes": ["emergency"],
}
_REQUEST = {
    "request": "r-1",
    "type": "asked",
    "since": "2026-06-01T00:00:00.000000Z",
    "until": None,
    "grant": None,
    "message": None,
    "would_grant": _WOULD,
    "text": "aizu-city: asks to see: The person's answer to a safety check",
    "text_ja": "aizu-city: 次を見たいと求めています: 安否の回答",
}
_ANSWER = {"answer": "approve", "grant": {"modes": ["normal", "emergency"]}}
_NOTICE = {
    "notice": "override:o1",
    "type": "override",
    "since": "2026-06-01T00:00:00.000000Z",
    "text": "aizu-city may look at your data without your consent, to protect life …",
    "text_ja": "aizu-cityが、あなたの同意によらずデータを見ることができます。…",
}
_DISCLOSURE = {
    "disclosure": "5d41402abc4b2a76b9719d911017c592",
    "statistics": False,
    "time": "2026-06-01T00:00:00.000000Z",
    "recipient": "aizu-city",
    "actor": "city:officer-7",
    "purpose": "rescue",
    "mode": "emergency",
    "exercise": False,
    "items": [{"kind": "location.reported", "precision": "1km", "count": 1, "basis": {"grant": "g1"}}],
    "text": "aizu-city saw, for rescue: Where the person's device was. Ground: your consent g1",
    "text_ja": "aizu-cityが、rescueのために見ました: 本人の端末があった場所。根拠: あなたの同意 g1",
}
_SEES = {
    "recipient": "aizu-city",
    "class": "municipality",
    "purpose": "rescue",
    "kind": "location.reported",
    "precision": "1km",
    "finest": False,
    "fields": ["lat_deg", "lon_deg", "mesh"],
    "new": True,
    "text": "aizu-city would see, for rescue: Where the person is (1km)",
    "text_ja": "aizu-cityが、rescueのために見られる: 本人の位置(1km)",
}
_CHOICE = spec.obj(
    {"answer": {"type": "string", "enum": ["approve", "refuse"]}},
    {"grant": {"type": "object", "description": "What is granted otherwise than asked: modes, precision, an end …"}},
)
_ANSWERED = spec.obj(
    {"request": spec.TEXT, "status": {"type": "string", "enum": ["approved", "refused", "rejected"]}},
    {"grant": spec.TEXT, "error": spec.ERROR},
)
_ROW: spec.Json = {"type": "object"}


def add_routes(app: FastAPI, schemas: Schemas, prefix: str) -> None:
    """Add the routes under `prefix`."""
    router = APIRouter(tags=["citizen"], prefix="/persons/{person}")
    _add_preferences(router, schemas)
    _add_requests(router)
    _add_looks(router)
    _add_export(router)
    app.include_router(router, prefix=prefix)


def _add_preferences(router: APIRouter, schemas: Schemas) -> None:
    body = spec.body_of(schemas, "preferences.changed", without=["by"])
    shown = spec.obj({"ask": spec.TEXT, "recipients": {"type": "object"}, "language": spec.MAYBE_TEXT})

    @router.get(
        "/preferences",
        summary="How often the person wishes to be asked",
        responses=spec.answers(200, "As it was set last", shown, _PREFERENCES) | spec.problems(),
    )
    async def get_preferences(request: Request, person: str) -> Response:
        """`ask` is the default for new grants, `recipients` says otherwise for single ones."""
        at = door(request)
        return said(await at.read(lambda: at.hub.citizen.preferences(person)))

    @router.put(
        "/preferences",
        summary="Set how often to be asked",
        openapi_extra=spec.request_body(body, _PREFERENCES),
        responses=spec.answers(200, "As it is now", shown, _PREFERENCES, ["Hub-Position"]) | spec.problems(*_READ),
    )
    async def put_preferences(request: Request, person: str) -> Response:
        """Replaces what was set. It holds for grants that are made from now on and do not say `ask` themselves."""
        at, data = door(request), await json_object(request)
        result = await at.tell(request, "preferences.changed", data, person)
        now = await at.read(lambda: at.hub.citizen.preferences(person))
        return said(now, headers=at.positioned(result.position))


def _add_requests(router: APIRouter) -> None:
    @router.get(
        "/requests",
        summary="What waits for the person's answer",
        responses=spec.answers(
            200, "Requests, oldest first", spec.obj({"requests": spec.rows(_ROW)}), {"requests": [_REQUEST]}
        )
        | spec.problems(),
    )
    async def get_requests(request: Request, person: str) -> Response:
        """Recipients' requests, readings that are asked each time, new kinds, consents that ended. `would_grant` is
        what an approval grants, unless the answer says otherwise."""
        at = door(request)
        await at.at_least(request)
        return said({"requests": await at.read(partial(at.hub.citizen.requests, person, located=_located(request)))})

    @router.post(
        "/requests",
        summary="Answer several requests",
        openapi_extra=spec.request_body(
            spec.obj({"answers": spec.rows(_with_request(_CHOICE))}),
            {"answers": [{"request": "r-1", "answer": "refuse"}]},
        ),
        responses=spec.answers(
            200,
            "What became of each, in order",
            spec.obj({"results": spec.rows(_ANSWERED)}),
            {"results": [{"request": "r-1", "status": "refused"}]},
            ["Hub-Position"],
        )
        | spec.problems(*_READ),
    )
    async def post_requests(request: Request, person: str) -> Response:
        """Each is answered by itself; one that cannot be does not hold up the others."""
        at, data = door(request), await json_object(request)
        answers = data.get("answers")
        if not isinstance(answers, list) or set(data) != {"answers"} or not 0 < len(answers) <= _MOST_ANSWERS:
            where = [{"path": "answers", "reason": f"is no list of 1 to {_MOST_ANSWERS} answers"}]
            raise Problem("not-read", "See errors.", where)
        rows, position, _ = await _answer(at, request, person, answers)
        return said({"results": rows}, headers=at.positioned(position))

    @router.post(
        "/requests/{request}",
        summary="Answer a request",
        openapi_extra=spec.request_body(_CHOICE, _ANSWER),
        responses=spec.answers(
            200, "Recorded", _ANSWERED, {"request": "r-1", "status": "approved", "grant": "5eb6…"}, ["Hub-Position"]
        )
        | spec.problems(*_READ),
    )
    async def post_request(request: Request, person: str) -> Response:
        """Approve, which makes a grant, or refuse: the same is then not asked again for 30 days."""
        at, data, name = door(request), await json_object(request), request.path_params["request"]
        if "request" in data:
            raise Problem("not-read", "See errors.", [{"path": "request", "reason": "stands in the path"}])
        rows, position, error = await _answer(at, request, person, [{"request": name, **data}])
        if error is not None:
            raise error
        return said(rows[0], headers=at.positioned(position))


def _located(request: Request) -> bool:
    """Whether where the person is counts in the answer: a delegate would learn it."""
    return not entered(request).delegate


def _with_request(choice: spec.Json) -> spec.Json:
    return {**choice, "properties": {"request": spec.TEXT, **choice["properties"]}, "required": ["request", "answer"]}


async def _answer(
    at: Door, request: Request, person: str, answers: list[Any]
) -> tuple[list[dict[str, Any]], int | None, PayloadError | Refused | None]:
    """What became of each answer; the last position; the first error. Raises Problem where one has not the form."""
    wrong = [error for number, said in enumerate(answers) for error in _misformed(said, f"answers[{number}]")]
    if wrong:
        raise Problem("not-read", "See errors.", wrong)
    judged = await at.read(partial(at.hub.citizen.answer, person, answers, located=_located(request)))
    by = entered(request)
    events = [_signed(event, by) for event in judged if isinstance(event, Event)]
    taken = iter(await at.take(events))
    rows, last, first = [], None, None
    for sent, found in zip(answers, judged, strict=True):
        result = next(taken) if isinstance(found, Event) else found
        error = result.error if isinstance(result, Result) else result
        row: dict[str, Any] = {"request": sent["request"]}
        if error is not None:
            first = first or error
            row |= {"status": "rejected", "error": told(error)}
        elif isinstance(result, Result):
            granted = result.event.kind == "consent.granted"
            row |= {"status": "approved" if granted else "refused"}
            row |= {"grant": result.event.data["grant"]} if granted else {}
            last = max(last or 0, result.position or 0)
        rows.append(row)
    return rows, last, first


def _misformed(said: Any, path: str) -> list[dict[str, str]]:
    if not isinstance(said, Mapping) or set(said) - {"request", "answer", "grant"}:
        return [{"path": path, "reason": "is no answer: request, answer, grant"}]
    found = []
    if not isinstance(said.get("request"), str):
        found.append({"path": f"{path}.request", "reason": "is missing or no text"})
    if said.get("answer") not in ("approve", "refuse"):
        found.append({"path": f"{path}.answer", "reason": "is neither approve nor refuse"})
    if "grant" in said and not isinstance(said["grant"], Mapping):
        found.append({"path": f"{path}.grant", "reason": "is no object"})
    return found


def _signed(event: Event, by: Any) -> Event:
    return Event(
        source=event.source,
        id=event.id,
        kind=event.kind,
        person=event.person,
        data=signed(by, event.data, event.kind),
    )


def _add_looks(router: APIRouter) -> None:
    @router.get(
        "/notices",
        summary="What the person should know",
        responses=spec.answers(
            200, "Notices, newest first", spec.obj({"notices": spec.rows(_ROW)}), {"notices": [_NOTICE]}
        )
        | spec.problems(),
    )
    async def get_notices(request: Request, person: str) -> Response:
        """Looks without consent and why (`override`), what an emergency that is over had opened, who saw what and
        what is closed again (`report`, `mistake`), what delegates did (`act`)."""
        at = door(request)
        await at.at_least(request)
        return said({"notices": await at.read(partial(at.hub.citizen.notices, person, located=_located(request)))})

    @router.get(
        "/disclosures",
        summary="Who looked",
        responses=spec.answers(
            200,
            "Looks at the person's data, newest first",
            spec.obj({"disclosures": spec.rows(_ROW), "next": spec.MAYBE_TEXT}),
            {"disclosures": [_DISCLOSURE], "next": "9c0f…"},
        )
        | spec.problems("refused"),
    )
    async def get_disclosures(
        request: Request,
        person: str,
        limit: Annotated[int, Query(ge=1, le=500, description="How many")] = 50,
        before: Annotated[str | None, Query(description="`next` of the page before")] = None,
    ) -> Response:
        """Who, which desk, at what, what for, on which ground, when: in words, Japanese and English. `statistics`:
        nobody saw the person, who was counted in a figure. It is a look at the trace, and recorded as one."""
        at, actor = door(request), door(request).actor(request)
        await at.at_least(request)
        position = None if before is None else at.unseal(before, "before")

        def work() -> tuple[list[dict[str, Any]], int | None]:
            rows, last = at.hub.citizen.disclosures(person, before=position, limit=limit)
            about = {"disclosures_of": at.hub.disclosure.name_of(person)}
            at.hub.audit.looked(about, actor=actor, count=len(rows))
            return rows, last

        rows, last = await at.read(work)
        return said({"disclosures": rows, "next": None if last is None else at.seal(last)})

    @router.post(
        "/preview",
        summary="What a grant would show",
        openapi_extra=spec.request_body(
            spec.obj({}, {"grant": {"type": "object"}, "mode": spec.MODE}), {"grant": _WOULD, "mode": "emergency"}
        ),
        responses=spec.answers(
            200, "Who would see which fields, how exactly", spec.obj({"sees": spec.rows(_ROW)}), {"sees": [_SEES]}
        )
        | spec.problems(*_READ),
    )
    async def post_preview(request: Request, person: str) -> Response:
        """With this grant, if the person were in this mode: each recipient, field and precision. `new` where it is this
        grant that opens it. Nothing is recorded. Without `grant`: what holds as it is."""
        at, data = door(request), await json_object(request)
        grant, mode = data.get("grant"), data.get("mode", "normal")
        if mode not in ("normal", "emergency", "exercise") or not isinstance(grant, dict | None):
            wrong = not isinstance(grant, dict | None)
            path, reason = ("grant", "is no object") if wrong else ("mode", "is not normal, emergency or exercise")
            raise Problem("not-read", "See errors.", [{"path": path, "reason": reason}])
        if set(data) - {"grant", "mode"}:
            raise Problem("not-read", "See errors.", [{"path": "", "reason": "holds more than grant and mode"}])
        return said(
            {"sees": await at.read(partial(at.hub.citizen.preview, person, grant, mode, located=_located(request)))}
        )


_EXPORTED: spec.Responses = {
    200: {"description": "One event a line, in order", "content": {_NDJSON: {"schema": {"type": "string"}}}}
}
_RECORDS: spec.Responses = {
    200: {"description": "Consent records (ISO/IEC TS 27560)", "content": {_JSONLD: {"schema": {"type": "object"}}}}
}


def _add_export(router: APIRouter) -> None:
    @router.get(
        "/export",
        summary="The person's own data",
        responses=_EXPORTED | spec.problems("refused"),
        response_class=StreamingResponse,
    )
    async def get_export(request: Request, person: str) -> Response:
        """All that the hub holds about the person, for the person alone. It is a look, and recorded as one."""
        at, actor = door(request), door(request).actor(request)
        about = {"export_of": at.hub.disclosure.name_of(person)}
        await at.read(partial(at.hub.audit.looked, about, actor=actor, count=1))

        def lines() -> Iterator[bytes]:
            for row in at.hub.citizen.export(person):
                yield written(row) + b"\n"

        headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": 'attachment; filename="export.ndjson"',
        }
        return StreamingResponse(lines(), headers=headers, media_type=_NDJSON)

    @router.get(
        "/consents",
        summary="Consent records",
        responses=_RECORDS | spec.problems("refused"),
        response_class=StreamingResponse,
    )
    async def get_consents(request: Request, person: str) -> Response:
        """Every consent that was ever given, with what became of it: JSON-LD in the structure of ISO/IEC TS 27560 with
        terms of the W3C's Data Privacy Vocabulary."""
        at, actor = door(request), door(request).actor(request)
        about = {"consents_of": at.hub.disclosure.name_of(person)}
        await at.read(partial(at.hub.audit.looked, about, actor=actor, count=1))
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return StreamingResponse(at.hub.records.consent_records(person), headers=headers, media_type=_JSONLD)
