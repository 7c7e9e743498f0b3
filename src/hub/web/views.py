"""Answers out: a recipient's view, in the format that is asked for. The one door out is `hub.disclosure`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from hub import answer
from hub.web import answers, spec
from hub.web.door import Door, door
from hub.web.problems import Problem

router = APIRouter(tags=["views"])

MOST_PERSONS = 1_000
"""Persons on a page, where `limit` does not say."""

_LARGEST_PAGE = 100_000

EXAMPLE: dict[str, Any] = {
    "exercise": False,
    "format": "view/1",
    "next": "3d1f…",
    "persons": [
        {
            "items": [
                {
                    "basis": {"grant": "g1"},
                    "data": {"lat_deg": 37.49583, "lon_deg": 139.93125, "mesh": "56391794"},
                    "event": "l1",
                    "kind": "location.reported",
                    "occurred_at": "2026-06-02T00:01:00.000000Z",
                    "precision": "1km",
                    "recorded_at": "2026-06-02T00:01:05.000000Z",
                    "source": "myhazard",
                }
            ],
            "mode": "emergency",
            "person": "hanako",
        }
    ],
    "purpose": "rescue",
    "recipient": "aizu-city",
    "time": "2026-06-02T00:02:00.000000Z",
}

Purpose = Annotated[str, Query(description="What for: one of the recipient's registered purposes", examples=["rescue"])]
Kinds = Annotated[list[str] | None, Query(description="Only these kinds or patterns; repeated, or with commas")]
Persons = Annotated[list[str] | None, Query(description="Only these persons; repeated, or with commas")]
Area = Annotated[str | None, Query(description="Only those whom a location that is shown places in this area")]
Drill = Annotated[bool, Query(description="A drill's reading (R17)")]
History = Annotated[bool, Query(description="Every visible item, not only the newest of each kind")]
Limit = Annotated[int, Query(ge=1, le=_LARGEST_PAGE, description="Persons on a page")]


def query_of(
    at: Door,
    recipient: str,
    purpose: str,
    kinds: Iterable[str] | None,
    persons: Iterable[str] | None,
    area: str | None,
    *,
    history: bool,
    exercise: bool,
    limit: int | None = None,
    cursor: str | None = None,
) -> answer.Query:
    """The query that the parameters of a route say. Raises PayloadError."""
    named = parts(persons)
    return answer.Query(
        recipient=recipient,
        purpose=purpose,
        kinds=tuple(parts(kinds) or ()),
        persons=None if named is None else tuple(map(at.hub.disclosure.name_of, named)),
        area=area,
        history=history,
        exercise=exercise,
        limit=limit,
        cursor=cursor,
    )


def parts(said: Iterable[str] | None) -> list[str] | None:
    """A list that is repeated, or parted by commas."""
    return None if said is None else [part for text in said for part in text.split(",") if part]


_VIEW: spec.Responses = {
    200: {
        "description": "The answer; it was logged as a disclosure before it left",
        "headers": {name: spec.HEADERS[name] for name in ("ETag", "Hub-Disclosure", "Hub-Position")},
        "content": {
            answers.JSON: {"schema": spec.ref("View"), "example": EXAMPLE},
            answers.GEOJSON: {"schema": {"type": "object", "required": ["type", "features"]}},
            answers.CSV: {"schema": {"type": "string"}},
        },
    },
    304: {"description": "What is shown has not changed since the answer with this ETag"},
}


@router.get(
    "/views/{recipient}",
    summary="What a recipient may see now",
    responses=_VIEW | spec.problems("not-acceptable", "refused"),
)
async def get_view(
    request: Request,
    recipient: str,
    purpose: Purpose,
    kinds: Kinds = None,
    persons: Persons = None,
    area: Area = None,
    history: History = False,
    exercise: Drill = False,
    limit: Limit = MOST_PERSONS,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    request_id: Annotated[
        str | None, Header(alias="Hub-Request", description="The same read with the same id takes no further use (R19)")
    ] = None,
) -> Response:
    """Persons by id, items by kind, then newest first. Nobody appears of whom nothing is visible (R20).

    `next` asks for the next page. `Hub-At-Least` takes a `Hub-Position` and asks for at least that state.
    """
    at = door(request)
    more = answers.renderers(at.hub.plugins)
    form = answers.chosen(request.headers.get("accept"), more)
    actor = at.actor(request)
    await at.at_least(request)
    query = query_of(
        at, recipient, purpose, kinds, persons, area, history=history, exercise=exercise, limit=limit, cursor=cursor
    )

    def work() -> tuple[bytes, str, dict[str, str]]:
        found = at.hub.disclosure.read(query, actor=actor, request=request_id)
        headers = at.positioned(found.position) | {"Hub-Disclosure": found.disclosure or ""}
        return answers.rendered(found.body, form, more), answers.etag(found.body, form), headers

    body, tag, headers = await at.read(work)
    at.metrics.decided("answered")
    return answered(request, body, form, headers | {"ETag": tag})


def answered(request: Request, body: bytes, form: str, headers: dict[str, str]) -> Response:
    """The answer, or that the caller has it already."""
    if answers.matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=answers.UNKEPT | headers)
    return answers.response(body, form, headers)


def known_parameters(request: Request, names: Iterable[str]) -> None:
    """Raise Problem for a parameter that the route does not have: a filter that is ignored shows too much."""
    unknown = sorted(set(request.query_params) - set(names))
    if unknown:
        errors: list[dict[str, Any]] = [{"path": "query", "reason": "there is no such parameter here"} for _ in unknown]
        raise Problem("not-read", f"Known parameters: {', '.join(sorted(names)) or 'none'}.", errors)
