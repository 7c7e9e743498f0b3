"""Figures for planning: counts over fixed cells, rounded, renewed at most once an hour (R20)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from hub.statistics import BY, KINDS, Question
from hub.web import answers, spec, views
from hub.web.door import door

router = APIRouter(tags=["views"])

_EXAMPLE: dict[str, Any] = {
    "by": "district",
    "cells": [
        {"cell": "07202", "counts": {"injured": 0, "need_help": 15, "safe": 340, "unknown": 0}},
        {"cell": "other", "counts": {"injured": 0, "need_help": 0, "safe": 5, "unknown": 0}},
    ],
    "exercise": False,
    "format": "statistics/1",
    "kind": "safety",
    "purpose": "rescue",
    "recipient": "aizu-city",
    "time": "2026-06-02T00:02:00.000000Z",
    "until": "2026-06-02T01:02:00.000000Z",
}
_MAYBE_NUMBER: spec.Json = {"type": ["integer", "null"]}
_REPORTED = spec.obj({"people": _MAYBE_NUMBER, "households": _MAYBE_NUMBER, "counted_at": spec.MAYBE_TEXT})
_COUNTS: spec.Json = {"type": "object", "additionalProperties": {"type": "integer", "multipleOf": 5}}
_FIGURE = spec.obj(
    {
        "by": {"type": "string", "enum": list(BY)},
        "cells": spec.rows(spec.obj({"cell": spec.TEXT, "counts": _COUNTS}, {"reported": _REPORTED})),
        "exercise": {"type": "boolean"},
        "format": {"const": "statistics/1"},
        "kind": spec.TEXT,
        "purpose": spec.TEXT,
        "recipient": spec.TEXT,
        "time": spec.TIME,
        "until": spec.TIME,
    }
)


@router.get(
    "/statistics/{recipient}",
    summary="How many, for planning",
    responses=spec.answers(
        200,
        "The figure of the hour; it was logged as a disclosure before it left",
        _FIGURE,
        _EXAMPLE,
        ("ETag", "Hub-Disclosure", "Hub-Position"),
    )
    | {304: {"description": "It is the figure with this ETag still"}}
    | spec.problems("refused"),
)
async def get_statistics(
    request: Request,
    recipient: str,
    purpose: views.Purpose,
    kind: Annotated[str, Query(description=f"What is counted: {', '.join(KINDS)}", examples=["safety"])],
    by: Annotated[str, Query(description=f"In which cells: {', '.join(BY)}", examples=["district"])],
    exercise: views.Drill = False,
) -> Response:
    """Of persons whose grants show it to the recipient: how many in each cell, to the nearest 5, and 0 for fewer than 5
    persons. The cells are fixed; each appears, `other` among them. `until`: when it may be renewed."""
    at, actor = door(request), door(request).actor(request)
    await at.at_least(request)
    question = Question(recipient=recipient, purpose=purpose, kind=kind, by=by, exercise=exercise)
    answer = await at.read(lambda: at.hub.statistics.read(question, actor=actor))
    at.metrics.decided("answered")
    headers = at.positioned(answer.position) | {
        "Hub-Disclosure": answer.disclosure or "",
        "ETag": answers.etag(answer.body, answers.JSON),
    }
    return views.answered(request, answer.body, answers.JSON, headers)
