"""The schema registry, as Kafka's clients ask for it: the part of Confluent's API that reading and writing takes.

Everything is read from the schema files; nothing is written here. A new version is released as a file, after
`hub schemas check`. Errors have Confluent's shape, `{"error_code", "message"}`, on these paths only.
Source: Confluent Schema Registry API 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from starlette.responses import Response

from hub.compatibility import breaks, faults
from hub.errors import Misuse, PayloadError
from hub.registry import Registered, Registry, parsed
from hub.schemas import Schemas
from hub.web import bodies, spec
from hub.web.door import door
from hub.web.problems import Problem, written

PREFIX = "/registry"
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
LEVEL = "BACKWARD_TRANSITIVE"

_NO_SUBJECT, _NO_VERSION, _NO_SCHEMA = 40401, 40402, 40403
_BAD_SCHEMA, _BAD_VERSION, _NOT_HERE = 42201, 42202, 42205
_CODES = {400: 400, 401: 40101, 403: 40301}
_LARGEST = 2**31 - 1

READ_ONLY = (
    "This registry is read from files: a new version is released as a file in schemas/avro, after hub schemas check."
)

Offset = Annotated[int, Query(ge=0, description="How many to leave out at the beginning")]
Limit = Annotated[int, Query(ge=-1, description="At most so many; -1 for all")]


class Coded(Problem):
    """A problem with Confluent's own code."""

    def __init__(self, name: str, code: int, detail: str) -> None:
        super().__init__(name, detail)
        self.code = code


def concerns(path: str) -> bool:
    """Whether a path is one of the registry's."""
    return path == PREFIX or path.startswith(PREFIX + "/")


def refusal(problem: Problem) -> Response:
    """A problem in Confluent's shape."""
    code = problem.code if isinstance(problem, Coded) else _CODES.get(problem.status, problem.status)
    reasons = "; ".join(f"{error['path']}: {error['reason']}" for error in problem.errors)
    message = f"{problem.detail} {reasons}".strip()
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(written({"error_code": code, "message": message}), problem.status, headers, MEDIA_TYPE)


def _said(body: Any) -> Response:
    return Response(written(body), 200, {"Cache-Control": "no-store"}, MEDIA_TYPE)


def _text(found: Registered) -> Response:
    return Response(found.text.encode(), 200, {"Cache-Control": "no-store"}, MEDIA_TYPE)


def _registry(request: Request) -> Registry:
    return door(request).registry


def _versions(request: Request, subject: str) -> Mapping[int, Registered]:
    found = _registry(request).versions(subject)
    if not found:
        raise Coded("not-found", _NO_SUBJECT, "There is no such subject; GET /registry/subjects lists them.")
    return found


def _version(request: Request, subject: str, version: str) -> Registered:
    versions = _versions(request, subject)
    if version in ("latest", "-1"):
        return versions[max(versions)]
    number = int(version) if version.isascii() and version.isdigit() and len(version) <= 10 else 0
    if not 0 < number <= _LARGEST:
        raise Coded("refused", _BAD_VERSION, "A version is a number from 1, or latest.")
    if number not in versions:
        raise Coded("not-found", _NO_VERSION, "The subject has no such version.")
    return versions[number]


def _by_id(request: Request, id: str) -> Registered:
    found = _registry(request).by_id(int(id)) if id.isascii() and id.isdigit() and len(id) <= 10 else None
    if found is None:
        raise Coded("not-found", _NO_SCHEMA, "No schema of this hub has this id.")
    return found


async def _sent(request: Request) -> str:
    """The text of the schema that a body holds."""
    said = await bodies.json_object(request)
    text = said.get("schema")
    if said.get("schemaType") not in (None, "AVRO") or said.get("references"):
        raise Coded("refused", _BAD_SCHEMA, "Only schemas of Avro are here, without references.")
    if not isinstance(text, str):
        raise Coded("refused", _BAD_SCHEMA, "The body has to say the schema's text as schema.")
    return text


def _lookup(request: Request, subject: str, text: str) -> Registered | None:
    try:
        return _registry(request).lookup(subject, text)
    except PayloadError as error:
        raise Coded("refused", _BAD_SCHEMA, f"The schema {error.reason}.") from None


def _page(rows: Sequence[Any], offset: int, limit: int) -> list[Any]:
    return list(rows[offset : None if limit < 0 else offset + limit])


def _judged(text: str, against: Sequence[Registered]) -> list[str]:
    """What a schema that is offered as a new version would break, in words."""
    kind = against[-1].kind
    try:
        schema = parsed(text)
        [offered] = Schemas([(f"{kind.name}.{kind.version + 1}.avsc", text.encode())]).every()
        wrong = [(path, reason) for path, reason in faults(offered) if path]
    except (Misuse, PayloadError, UnicodeEncodeError):
        raise Coded("refused", _BAD_SCHEMA, "The schema is none of a kind, as schemas/avro has them.") from None
    broken = [
        (path, f"{reason} (version {v.kind.version})")
        for v in against
        for path, reason in breaks(schema, v.kind.schema)
    ]
    return [": ".join(part for part in one if part) for one in [*wrong, *broken]]


def _answers(description: str, schema: spec.Json, example: Any, *more: str) -> spec.Responses:
    content = {MEDIA_TYPE: {"schema": schema, "example": example}}
    found: spec.Responses = {200: {"description": description, "content": content}}
    error = {MEDIA_TYPE: {"schema": spec.ref("RegistryError")}}
    problems = spec.problems("too-slow", "too-large", "wrong-media-type", "refused", *more)
    return found | {status: {"description": said["description"], "content": error} for status, said in problems.items()}


def add_routes(app: FastAPI, schemas: Schemas) -> None:
    """Add the routes, which stand outside the API's version: clients add their paths to a base URL."""
    shown = _examples(schemas)
    router = APIRouter(tags=["registry"], prefix=PREFIX)
    _add_subjects(router, shown)
    _add_schemas(router, shown)
    _add_offers(router, shown)
    _add_settings(router)
    app.include_router(router)


def _examples(schemas: Schemas) -> dict[str, Any]:
    registry = Registry(schemas, {})
    subject = "roster.listed-value"
    found = registry.versions(subject)[1]
    return {"subject": subject, "version": 1, "id": found.id, "schema": found.text}


_ID: spec.Json = {"type": "integer", "minimum": 1, "maximum": _LARGEST}
_NUMBER: spec.Json = {"type": "integer", "minimum": 1}
_FULL = spec.obj({"subject": spec.TEXT, "version": _NUMBER, "id": _ID, "schema": spec.TEXT})
_SCHEMA: spec.Json = {"type": "object", "description": "The schema itself."}
_PLACE = spec.obj({"subject": spec.TEXT, "version": _NUMBER})


def _full(subject: str, found: Registered) -> Response:
    return _said({"subject": subject, "version": found.kind.version, "id": found.id, "schema": found.text})


def _add_subjects(router: APIRouter, shown: Mapping[str, Any]) -> None:
    @router.get(
        "/subjects", summary="The subjects", responses=_answers("Names", spec.rows(spec.TEXT), [shown["subject"]])
    )
    async def get_subjects(
        request: Request,
        prefix: Annotated[str, Query(alias="subjectPrefix", description="Only those that begin so")] = "",
        offset: Offset = 0,
        limit: Limit = -1,
    ) -> Response:
        """One for each kind, `<kind>-value`, and one for each topic whose messages all have the same schema."""
        found = [name for name in _registry(request).subjects() if name.startswith(prefix)]
        return _said(_page(found, offset, limit))

    @router.get(
        "/subjects/{subject}/versions",
        summary="The versions of a subject",
        responses=_answers("Numbers", spec.rows(_NUMBER), [1]),
    )
    async def get_versions(request: Request, subject: str, offset: Offset = 0, limit: Limit = -1) -> Response:
        """Those of its files."""
        return _said(_page(list(_versions(request, subject)), offset, limit))

    @router.get(
        "/subjects/{subject}/versions/{version}",
        summary="One version of a subject",
        responses=_answers("Its schema and id", _FULL, shown),
    )
    async def get_version(request: Request, subject: str, version: str) -> Response:
        """`latest` is the newest."""
        return _full(subject, _version(request, subject, version))

    @router.get(
        "/subjects/{subject}/versions/{version}/schema",
        summary="The schema of a version, bare",
        responses=_answers("The schema", _SCHEMA, {"type": "record", "name": "RosterListed", "fields": []}),
    )
    async def get_version_schema(request: Request, subject: str, version: str) -> Response:
        """As canonical JSON, of which the id is made."""
        return _text(_version(request, subject, version))


def _add_schemas(router: APIRouter, shown: Mapping[str, Any]) -> None:
    @router.get(
        "/schemas/types", summary="The languages of schemas", responses=_answers("One", spec.rows(spec.TEXT), ["AVRO"])
    )
    async def get_types() -> Response:
        """Avro alone."""
        return _said(["AVRO"])

    @router.get(
        "/schemas/ids/{id}",
        summary="The schema of an id",
        responses=_answers("The schema's text", spec.obj({"schema": spec.TEXT}), {"schema": shown["schema"]}),
    )
    async def get_schema(request: Request, id: str) -> Response:
        """The id stands in each message, after its first byte."""
        return _said({"schema": _by_id(request, id).text})

    @router.get(
        "/schemas/ids/{id}/schema",
        summary="The schema of an id, bare",
        responses=_answers("The schema", _SCHEMA, {"type": "record", "name": "RosterListed", "fields": []}),
    )
    async def get_bare_schema(request: Request, id: str) -> Response:
        """As canonical JSON, of which the id is made."""
        return _text(_by_id(request, id))

    @router.get(
        "/schemas/ids/{id}/subjects",
        summary="The subjects of an id",
        responses=_answers("Names", spec.rows(spec.TEXT), [shown["subject"]]),
    )
    async def get_subjects_of(request: Request, id: str, offset: Offset = 0, limit: Limit = -1) -> Response:
        """Under which the schema stands."""
        return _said(_page([name for name, _ in _places(request, id)], offset, limit))

    @router.get(
        "/schemas/ids/{id}/versions",
        summary="The subjects and versions of an id",
        responses=_answers("Places", spec.rows(_PLACE), [{"subject": shown["subject"], "version": 1}]),
    )
    async def get_versions_of(request: Request, id: str, offset: Offset = 0, limit: Limit = -1) -> Response:
        """Under which the schema stands."""
        rows = [{"subject": name, "version": version} for name, version in _places(request, id)]
        return _said(_page(rows, offset, limit))


def _places(request: Request, id: str) -> list[tuple[str, int]]:
    return _registry(request).places(_by_id(request, id).id)


def _add_offers(router: APIRouter, shown: Mapping[str, Any]) -> None:
    body: spec.Json = {
        "type": "object",
        "properties": {"schema": spec.TEXT, "schemaType": {"const": "AVRO"}},
        "required": ["schema"],
    }
    content = {
        form: {"schema": body, "example": {"schema": shown["schema"]}} for form in (MEDIA_TYPE, "application/json")
    }
    extra = {"requestBody": {"required": True, "content": content}}

    @router.post(
        "/subjects/{subject}",
        summary="The version that a schema is",
        openapi_extra=extra,
        responses=_answers("Its version and id", _FULL, shown),
    )
    async def post_lookup(request: Request, subject: str) -> Response:
        """The schema may be written in any way: the order of names, the space between them do not count."""
        text = await _sent(request)
        _versions(request, subject)
        found = _lookup(request, subject, text)
        if found is None:
            raise Coded("not-found", _NO_SCHEMA, "The subject has no such schema.")
        return _full(subject, found)

    @router.post(
        "/subjects/{subject}/versions",
        summary="The id of a schema that is registered",
        openapi_extra=extra,
        responses=_answers("Its id", spec.obj({"id": _ID}), {"id": shown["id"]}),
    )
    async def post_version(request: Request, subject: str) -> Response:
        """For clients that register what they write. A schema that is not here already is refused."""
        found = _lookup(request, subject, await _sent(request))
        if found is None:
            raise Coded("refused", _NOT_HERE, f"The subject has no such schema. {READ_ONLY}")
        return _said({"id": found.id})

    judged = spec.obj({"is_compatible": {"type": "boolean"}}, {"messages": spec.rows(spec.TEXT)})

    @router.post(
        "/compatibility/subjects/{subject}/versions",
        summary="Whether a schema could be the next version",
        openapi_extra=extra,
        responses=_answers("Whether, and what breaks", judged, {"is_compatible": True, "messages": []}),
    )
    async def post_all_compatible(request: Request, subject: str) -> Response:
        """Held against all versions, as `hub schemas check` holds it."""
        return await _compatible(request, list(_versions(request, subject).values()))

    @router.post(
        "/compatibility/subjects/{subject}/versions/{version}",
        summary="Whether a schema reads what one version wrote",
        openapi_extra=extra,
        responses=_answers("Whether, and what breaks", judged, {"is_compatible": True, "messages": []}),
    )
    async def post_compatible(request: Request, subject: str, version: str) -> Response:
        """Held against this version alone; `messages` says what breaks, by field."""
        return await _compatible(request, [_version(request, subject, version)])


async def _compatible(request: Request, against: Sequence[Registered]) -> Response:
    text = await _sent(request)
    broken = await door(request).read(lambda: _judged(text, against))
    return _said({"is_compatible": not broken, "messages": broken})


def _add_settings(router: APIRouter) -> None:
    level = spec.obj({"compatibilityLevel": spec.TEXT})
    mode = spec.obj({"mode": spec.TEXT})

    @router.get(
        "/config", summary="What versions may change", responses=_answers("Level", level, {"compatibilityLevel": LEVEL})
    )
    async def get_config() -> Response:
        """Each version reads what all before it wrote."""
        return _said({"compatibilityLevel": LEVEL})

    @router.get(
        "/config/{subject}",
        summary="What versions of a subject may change",
        responses=_answers("Level", level, {"compatibilityLevel": LEVEL}),
    )
    async def get_subject_config(request: Request, subject: str) -> Response:
        """The same for every subject."""
        _versions(request, subject)
        return _said({"compatibilityLevel": LEVEL})

    @router.get(
        "/mode", summary="Whether schemas are registered here", responses=_answers("Mode", mode, {"mode": "READONLY"})
    )
    async def get_mode() -> Response:
        """They are not: they come as files."""
        return _said({"mode": "READONLY"})

    @router.get(
        "/mode/{subject}",
        summary="Whether schemas of a subject are registered here",
        responses=_answers("Mode", mode, {"mode": "READONLY"}),
    )
    async def get_subject_mode(request: Request, subject: str) -> Response:
        """They are not: they come as files."""
        _versions(request, subject)
        return _said({"mode": "READONLY"})
