"""Persons: enrolment, and the four lists that a person keeps: grants, blocks, delegations, relations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from hub.directory import Directory
from hub.errors import Conflict, Refused
from hub.intake import USED_ALREADY
from hub.schemas import Schemas
from hub.web import spec
from hub.web.bodies import json_object
from hub.web.door import done, door, place, said
from hub.web.problems import Problem

_AREAS = {"areas": ["07202"]}


@dataclass(frozen=True, kw_only=True, slots=True)
class _List:
    """One of the lists. name: of an entry; `ended` gives the data of the event that ends the entry of an id."""

    path: str
    name: str
    added: str
    ended_kind: str
    rows: Callable[[Directory, str], list[dict[str, Any]]]
    ended: Callable[[str], Mapping[str, Any]]
    id_of: Callable[[Mapping[str, Any]], str]
    example: Mapping[str, Any]
    row: Mapping[str, Any]


def _block(block: str) -> Mapping[str, Any]:
    name, _, value = block.partition(":")
    if name not in ("recipient", "class", "relation") or not value:
        raise Problem("not-found", "A block is called recipient:ID, class:NAME or relation:ROLE.")
    return {"to": {name: value}}


def _relation(relation: str) -> Mapping[str, Any]:
    role, _, recipient = relation.partition("@")
    if not recipient:
        raise Problem("not-found", "A relation is called ROLE@RECIPIENT.")
    return {"recipient": recipient, "role": role}


def _of_to(data: Mapping[str, Any]) -> str:
    [(name, value)] = data["to"].items()
    return f"{name}:{value}"


_GRANT = {
    "grant": "g1",
    "to": {"recipient": "aizu-city"},
    "kinds": ["location.reported", "safety.answered"],
    "purposes": ["rescue"],
    "modes": ["emergency"],
    "precision": {"location.reported": "1km"},
}
LISTS = (
    _List(
        path="grants",
        name="grant",
        added="consent.granted",
        ended_kind="consent.revoked",
        rows=Directory.grants,
        ended=lambda grant: {"grant": grant},
        id_of=lambda data: str(data["grant"]),
        example=_GRANT,
        row=_GRANT | {"ask": "once", "recorded_at": "2026-06-01T00:00:00.000000Z"},
    ),
    _List(
        path="blocks",
        name="block",
        added="block.added",
        ended_kind="block.removed",
        rows=Directory.blocks,
        ended=_block,
        id_of=_of_to,
        example={"to": {"class": "company"}},
        row={"block": "class:company", "to": {"class": "company"}, "by": "hanako", "protective": False},
    ),
    _List(
        path="delegations",
        name="delegation",
        added="delegation.added",
        ended_kind="delegation.ended",
        rows=Directory.delegations,
        ended=lambda delegate: {"delegate": delegate},
        id_of=lambda data: str(data["delegate"]),
        example={"delegate": "taro", "until": "2027-03-31T23:59:59+09:00"},
        row={"delegate": "taro", "until": "2027-03-31T14:59:59.000000Z"},
    ),
    _List(
        path="relations",
        name="relation",
        added="relation.added",
        ended_kind="relation.ended",
        rows=Directory.relations,
        ended=_relation,
        id_of=lambda data: f"{data['role']}@{data['recipient']}",
        example={"recipient": "dr-sato", "role": "doctor"},
        row={"relation": "doctor@dr-sato", "recipient": "dr-sato", "role": "doctor"},
    ),
)


def add_routes(app: FastAPI, schemas: Schemas, prefix: str) -> None:
    """Add the routes under `prefix`."""
    router = APIRouter(tags=["persons"])
    _add_person(router, schemas)
    for found in LISTS:
        _add_list(router, schemas, found)
    app.include_router(router, prefix=prefix)


def _add_person(router: APIRouter, schemas: Schemas) -> None:
    person = {"person": spec.TEXT}

    @router.put(
        "/persons/{person}",
        summary="Enrol a person, or have them move",
        openapi_extra=spec.request_body(spec.body_of(schemas, "person.enrolled"), _AREAS),
        status_code=201,
        responses=spec.told(201, "Enrolled", person, {"person": "hanako"})
        | spec.told(200, "Moved", person, {"person": "hanako"})
        | spec.problems("too-slow", "too-large", "wrong-media-type", "refused"),
    )
    async def put_person(request: Request, person: str) -> Response:
        """The areas of a person: codes of prefecture, municipality, district or grid square."""
        at, data = door(request), await json_object(request)
        names = {"person": person}
        try:
            result = await at.tell(request, "person.enrolled", data, person)
        except Refused as error:
            enrolled = error.path == "person" and error.reason == USED_ALREADY
            if not enrolled and not isinstance(error, Conflict):
                raise
        else:
            return done(request, result, names, location=place(request))
        result = await at.tell(request, "person.moved", data, person)
        return done(request, result, names, status=200)

    @router.delete(
        "/persons/{person}",
        summary="Erase a person for ever",
        responses=spec.told(200, "Erased: nothing about the person can be read any more", person, {"person": "hanako"})
        | spec.problems("refused"),
    )
    async def delete_person(request: Request, person: str) -> Response:
        """Destroy the keys of all that is about the person (R15). It cannot be undone; the id is not used again."""
        at = door(request)
        return done(request, await at.tell(request, "person.erased", {}, person), {"person": person}, status=200)


def _add_list(router: APIRouter, schemas: Schemas, of: _List) -> None:
    body = spec.body_of(schemas, of.added, optional=["grant"])
    row: spec.Json = {"type": "object"}
    name = of.path[:-1]

    @router.get(
        f"/persons/{{person}}/{of.path}",
        summary=f"The {of.path} of a person",
        responses=spec.answers(
            200, f"The {of.path} in place", spec.obj({of.path: spec.rows(row)}), {of.path: [dict(of.row)]}
        )
        | spec.problems(),
    )
    async def get_rows(request: Request, person: str) -> Response:
        at = door(request)
        await at.at_least(request)
        return said({of.path: await at.read(lambda: of.rows(at.hub.directory, person))})

    @router.post(
        f"/persons/{{person}}/{of.path}",
        summary=f"Add one of the {of.path}",
        openapi_extra=spec.request_body(body, dict(of.example)),
        status_code=201,
        responses=spec.told(201, "Added", {name: spec.TEXT}, {name: of.id_of(of.example)})
        | spec.told(200, "The same request was taken before", {name: spec.TEXT}, {name: of.id_of(of.example)})
        | spec.problems("too-slow", "too-large", "wrong-media-type", "refused"),
    )
    async def post_row(request: Request, person: str) -> Response:
        at, data = door(request), await json_object(request)
        if of.name == "grant" and "grant" not in data:
            data["grant"] = at.key(request)
        if of.name == "grant" and data.get("ask") is None and isinstance(data.get("to"), dict):
            to = data["to"].get("recipient")
            data["ask"] = await at.read(lambda: at.hub.citizen.ask_of(person, to))
        result = await at.tell(request, of.added, data, person)
        entry = of.id_of(data)
        return done(request, result, {name: entry}, location=place(request, entry))

    @router.delete(
        f"/persons/{{person}}/{of.path}/{{{name}}}",
        summary=f"End one of the {of.path}",
        responses=spec.told(200, "Ended; nothing where there was none", {name: spec.TEXT}, {name: of.id_of(of.example)})
        | spec.problems("refused"),
    )
    async def delete_row(request: Request, person: str) -> Response:
        at, entry = door(request), request.path_params[name]
        result = await at.tell(request, of.ended_kind, of.ended(entry), person)
        return done(request, result, {name: entry}, status=200)

    for route in (get_rows, post_row, delete_row):
        route.__name__ = f"{route.__name__}_{of.path}"
        route.__doc__ = route.__doc__ or f"{of.path.capitalize()} of a person; `grant` may be `all` where one is ended."
