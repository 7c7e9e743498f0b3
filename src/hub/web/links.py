"""Ids at services (ID連携): which of a service's ids is the person's.

A service links its own id after the person's login: it shows its own token, and beside it the person's. Neither
alone is enough: a service could name anyone, and a person could name anyone's id. An operator links by a file.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query, Request
from starlette.responses import Response

from hub.web import access, spec
from hub.web.bodies import json_object
from hub.web.door import done, door, said
from hub.web.gate import entered
from hub.web.problems import Problem

_LINK: dict[str, Any] = {"source": "myhazard", "ref": "u-123", "recorded_at": "2026-06-01T00:00:00.000000Z"}
_ENDED = {"person": spec.TEXT, "source": spec.TEXT, "refs": spec.rows(spec.TEXT)}


def add_routes(app: FastAPI, prefix: str) -> None:
    """Add the routes under `prefix`."""
    router = APIRouter(tags=["links"], prefix="/persons/{person}/links")
    row = spec.obj({"source": spec.TEXT, "ref": spec.TEXT, "recorded_at": spec.TIME})

    @router.get(
        "",
        summary="The person's ids at services",
        responses=spec.answers(200, "Links in force", spec.obj({"links": spec.rows(row)}), {"links": [_LINK]})
        | spec.problems(),
    )
    async def get_links(request: Request, person: str) -> Response:
        """By service, the id under which it knows the person."""
        at = door(request)
        return said({"links": await at.read(lambda: at.hub.directory.links(person))})

    name = {"person": spec.TEXT, "source": spec.TEXT}
    shown = {"person": "hanako", "source": "myhazard"}

    @router.put(
        "/{source}",
        summary="Link a service's id to the person",
        openapi_extra=spec.request_body(spec.obj({"ref": spec.TEXT}), {"ref": "u-123"}),
        status_code=201,
        responses=spec.told(201, "Linked; what waited for it enters", name, shown)
        | spec.told(200, "The same request was taken before", name, shown)
        | spec.problems("too-slow", "too-large", "wrong-media-type", "refused"),
    )
    async def put_link(
        request: Request,
        person: str,
        source: str,
        token: Annotated[
            str | None, Header(alias="Hub-Person-Token", description="The person's own token, where a service links")
        ] = None,
    ) -> Response:
        """A service does so with its own token and, as Hub-Person-Token, the one that the person's login gave."""
        at = door(request)
        at.key(request)
        if entered(request).role == "source":
            of = await at.gate.bearer(token) if token is not None else None
            if of is None or of.person != person:
                raise access.forbidden()
        data = await json_object(request)
        if set(data) != {"ref"}:
            raise Problem("not-read", "See errors.", [{"path": "ref", "reason": "is missing, or not alone"}])
        result = await at.tell(request, "identity.linked", {"source": source, "ref": data["ref"]}, person)
        return done(request, result, {"person": person, "source": source})

    @router.delete(
        "/{source}",
        summary="End the links to a service",
        responses=spec.answers(
            200,
            "Ended: what the service sends under them is refused from now on",
            spec.obj(_ENDED),
            {**shown, "refs": ["u-123"]},
            ["Hub-Position"],
        )
        | spec.problems("refused"),
    )
    async def delete_links(
        request: Request,
        person: str,
        source: str,
        ref: Annotated[str | None, Query(description="Only this id of the service")] = None,
    ) -> Response:
        """The service's data does not reach the person's record any more, until it is linked anew."""
        at = door(request)
        at.key(request)
        links = await at.read(lambda: at.hub.directory.links(person))
        refs = [row["ref"] for row in links if row["source"] == source and ref in (None, row["ref"])]
        last = None
        for number, one in enumerate(refs):
            part = f"-{number}-{uuid.uuid4().hex}"
            result = await at.tell(request, "identity.unlinked", {"source": source, "ref": one}, person, part=part)
            last = result.position
        return said({"person": person, "source": source, "refs": refs}, headers=at.positioned(last))

    app.include_router(router, prefix=prefix)
