"""Looking back: replay, explanation, and the trace. Each look is appended as one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from hub.canonical import timestamp
from hub.web import answers, spec, views
from hub.web.city import time_of
from hub.web.door import door, said
from hub.web.problems import Problem

router = APIRouter(tags=["audit"], prefix="/audit")

At = Annotated[str | None, Query(description="A position of the log, or a time: the state that was known then")]
Time = Annotated[str | None, Query(description="The time of the decision, if another than the state's own")]

_LINE = spec.obj({"holds": {"type": "boolean"}, "text": spec.TEXT, "text_ja": spec.TEXT, "rule": spec.TEXT})
_EXPLAINED = {
    "shown": False,
    "lines": [
        {
            "holds": False,
            "text": "the person granted nothing",
            "text_ja": "本人の同意がひとつもない",
            "rule": "R3",
        }
    ],
}
_TRACE = {
    "position": 108,
    "disclosure": "5d41402abc4b2a76b9719d911017c592",
    "recipient": "aizu-city",
    "actor": "officer-7",
    "purpose": "rescue",
    "exercise": False,
    "format": "view/1",
    "time": "2026-06-01T00:00:00.000000Z",
    "at": 107,
    "persons_count": 1,
    "items_count": 2,
}


def moment_of(at: str | None, time: str | None) -> tuple[int | None, datetime | None]:
    """Position and time of a question about the past. Raises Problem."""
    if at is not None and at.isascii() and at.isdigit():
        if len(at) > 18:
            raise Problem("not-read", "See errors.", [{"path": "at", "reason": "is beyond the end of the log"}])
        return int(at), time_of(time, "time")
    if at is not None and time is not None:
        reason = "is a time; beside `time` it has to be a position"
        raise Problem("not-read", "See errors.", [{"path": "at", "reason": reason}])
    return None, time_of(at, "at") or time_of(time, "time")


@router.get(
    "/views/{recipient}",
    summary="What a recipient was, or would have been, answered",
    responses=spec.answers(200, "The answer as of then, the same bytes", spec.ref("View"), views.EXAMPLE)
    | spec.problems("refused", "not-acceptable"),
)
async def replay(
    request: Request,
    recipient: str,
    purpose: views.Purpose,
    at: At = None,
    time: Time = None,
    kinds: views.Kinds = None,
    persons: views.Persons = None,
    area: views.Area = None,
    history: views.History = False,
    exercise: views.Drill = False,
    limit: Annotated[int | None, Query(ge=1, description="Persons on a page")] = None,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> Response:
    """Replay to a position or a time. `Hub-Hypothetical: true` where the log had gone on before that time;
    `Hub-Erased` says how many of the persons asked for are erased, `Hub-Destroyed` how many items at most are missing
    since the time to keep them has ended."""
    here = door(request)
    more = answers.renderers(here.hub.plugins)
    form = answers.chosen(request.headers.get("accept"), more)
    position, moment = moment_of(at, time)
    query = views.query_of(
        here, recipient, purpose, kinds, persons, area, history=history, exercise=exercise, limit=limit, cursor=cursor
    )
    actor = here.actor(request)
    found = await here.read(lambda: here.hub.audit.replay(query, position=position, time=moment, actor=actor))
    headers = {
        "Hub-Hypothetical": str(found.hypothetical).lower(),
        "Hub-Erased": str(found.erased),
        "Hub-Destroyed": str(found.destroyed),
    }
    return answers.response(answers.rendered(found.answer.body, form, more), form, headers)


@router.get(
    "/explain",
    summary="Why, and why not",
    responses=spec.answers(
        200,
        "What was asked, in order, with the rules' numbers",
        spec.obj({"shown": {"type": "boolean"}, "lines": spec.rows(_LINE)}),
        _EXPLAINED,
    )
    | spec.problems("refused"),
)
async def explain(
    request: Request,
    recipient: Annotated[str, Query(description="Who asks", examples=["aizu-city"])],
    purpose: views.Purpose,
    person: Annotated[str, Query(description="About whom", examples=["hanako"])],
    kind: Annotated[str | None, Query(description="Only this kind")] = None,
    event: Annotated[str | None, Query(description="Only the fact with this id")] = None,
    exercise: views.Drill = False,
    at: At = None,
    time: Time = None,
) -> Response:
    """Every grant, override and fact that bears on it, and what stands against each."""
    here = door(request)
    position, moment = moment_of(at, time)
    actor = here.actor(request)
    found = await here.read(
        lambda: here.hub.audit.explain(
            recipient=recipient,
            purpose=purpose,
            person=person,
            kind=kind,
            event=event,
            exercise=exercise,
            position=position,
            time=moment,
            actor=actor,
        )
    )
    lines = [{"holds": r.holds, "text": r.text, "text_ja": r.text_ja, "rule": r.rule} for r in found.lines]
    return said({"shown": found.shown, "lines": lines})


_Size = Annotated[int, Query(ge=1, le=1_000, description="How many rows")]


@router.get(
    "/disclosures",
    summary="The trace: what was let out to whom",
    responses=spec.answers(
        200,
        "Disclosures, newest first",
        spec.obj({"disclosures": spec.rows({"type": "object"})}),
        {"disclosures": [_TRACE]},
    )
    | spec.problems("refused"),
)
async def disclosures(
    request: Request,
    recipient: Annotated[str | None, Query(description="Only those to this recipient")] = None,
    person: Annotated[str | None, Query(description="Only those that showed this person")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**53, description="Only those at an earlier position")] = None,
    limit: _Size = 100,
) -> Response:
    """Each answer that left the hub: recipient, purpose, when, how much. `at` is the position it was decided on."""
    here, actor = door(request), door(request).actor(request)
    rows = await here.read(
        lambda: here.hub.audit.trace(recipient=recipient, person=person, before=before, limit=limit, actor=actor)
    )
    return said({"disclosures": rows})


_PROVISIONS: spec.Responses = {200: {"description": "A line for each person and ground", "content": {answers.CSV: {}}}}


@router.get(
    "/provisions",
    summary="The record of provisions to third parties",
    responses=_PROVISIONS | spec.problems("refused"),
    response_class=StreamingResponse,
)
async def provisions(
    request: Request,
    since: Annotated[str, Query(description="From this time on", examples=["2026-06-01T00:00:00+09:00"])],
    until: Annotated[str, Query(description="Before this time", examples=["2026-07-01T00:00:00+09:00"])],
    exercises: Annotated[bool, Query(description="Drills too")] = False,
) -> Response:
    """個人情報保護法 29条: to whom which items of whom were given, on which ground, when; as CSV (docs/records.md)."""
    here, actor = door(request), door(request).actor(request)
    begin, end = time_of(since, "since"), time_of(until, "until")
    asked = {"provisions": {"since": timestamp(begin), "until": timestamp(end), "exercises": exercises}}
    await here.read(lambda: here.hub.audit.looked(asked, actor=actor))
    rows = here.hub.records.provisions(begin, end, exercises=exercises)
    headers = {**answers.UNKEPT, "Content-Disposition": 'attachment; filename="provisions.csv"'}
    return StreamingResponse(rows, headers=headers, media_type=f"{answers.CSV}; charset=utf-8")


@router.get(
    "/events",
    summary="The log",
    responses=spec.answers(
        200,
        "Entries in order; `closed` where the key was destroyed, with `reason`: `erased` or `retention ended`",
        spec.obj({"events": spec.rows({"type": "object"})}),
        {"events": [{"position": 1, "recorded_at": "2026-06-01T00:00:00.000000Z", "kind": "kind.introduced"}]},
    )
    | spec.problems("refused"),
)
async def events(
    request: Request,
    after: Annotated[int, Query(ge=0, le=2**53, description="Only later positions")] = 0,
    limit: _Size = 100,
) -> Response:
    """The entries of the log, opened where they still can be."""
    here, actor = door(request), door(request).actor(request)
    return said({"events": await here.read(lambda: here.hub.audit.events(after=after, limit=limit, actor=actor))})
