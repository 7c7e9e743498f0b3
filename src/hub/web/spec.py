"""What OpenAPI says of bodies: request bodies follow from the Avro schemas, so that no field is said twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hub.schemas import Schemas
from hub.web.problems import MEDIA_TYPE, TITLES

Json = dict[str, Any]
Responses = dict[int | str, Any]

_ENVELOPE = {
    "occurred_at": {"type": "string", "format": "date-time", "description": "When it was done, if not now."},
}
_FORMATS: dict[str, Json] = {
    "id": {"minLength": 1, "maxLength": 200},
    "name": {"pattern": "^[a-z0-9][a-z0-9_.-]{0,99}$"},
    "kind": {"pattern": "^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)+$"},
}


def body_of(schemas: Schemas, kind: str, *, without: Iterable[str] = (), optional: Iterable[str] = ()) -> Json:
    """The JSON Schema of the body of a route that appends `kind`. without: fields that stand in the path."""
    left, free = set(without), set(optional)
    fields = [found for found in schemas.kind(kind).schema["fields"] if found["name"] not in left]
    required = [found["name"] for found in fields if "default" not in found and found["name"] not in free]
    properties = {found["name"]: _type(found["type"]) | {"description": found["doc"]} for found in fields}
    made: Json = {"type": "object", "properties": properties | _ENVELOPE, "additionalProperties": False}
    return made | ({"required": required} if required else {})


def _type(schema: Any) -> Json:
    match schema:
        case list():
            return {"anyOf": [_type(part) for part in schema]}
        case {"type": "record", "fields": fields}:
            named = {found["name"]: _type(found["type"]) for found in fields}
            required = [found["name"] for found in fields if "default" not in found]
            made: Json = {"type": "object", "properties": named, "additionalProperties": False}
            return made | ({"required": required} if required else {})
        case {"type": "enum", "symbols": symbols}:
            return {"type": "string", "enum": list(symbols)}
        case {"type": "array", "items": items}:
            return {"type": "array", "items": _type(items)}
        case {"type": "map", "values": values}:
            return {"type": "object", "additionalProperties": _type(values)}
        case {"logicalType": "timestamp-micros"}:
            return {"type": "string", "format": "date-time"}
        case {"type": inner, "format": form} if form == "decimal":
            return {"type": ["number", "string"]}
        case {"type": inner, **rest}:
            return _type(inner) | _FORMATS.get(str(rest.get("format")), {})
        case "null":
            return {"type": "null"}
        case "boolean":
            return {"type": "boolean"}
        case "int" | "long":
            return {"type": "integer"}
        case "float" | "double":
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case _:
            return {}


def request_body(schema: Json, example: Any, *, required: bool = True) -> Json:
    """`openapi_extra` of a route that reads one JSON object."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": required, "content": content}}


def problems(*names: str) -> Responses:
    """The errors that a route may answer, by status."""
    found: Responses = {}
    for name in ("not-read", "unauthenticated", "forbidden", "foreign-origin", "not-found", "failed", "busy", *names):
        status, title = TITLES[name]
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        before = found.get(status, {}).get("description")
        found[status] = {"description": f"{before}; {title}" if before else title, "content": content}
    return found


def answers(status: int, description: str, schema: Json, example: Any, headers: Iterable[str] = ()) -> Responses:
    """One response of a route, with an example."""
    said: Json = {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}
    if headers:
        said["headers"] = {name: HEADERS[name] for name in headers}
    return {status: said}


SECURITY: Json = {
    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token (RFC 9068)."},
    "session": {"type": "apiKey", "in": "cookie", "name": "hub", "description": "A browser that is logged in."},
}
"""How a caller says who it is; docs/access.md says what that lets it do."""

HEADERS: dict[str, Json] = {
    "Hub-Position": {"description": "A sealed position for Hub-At-Least.", "schema": {"type": "string"}},
    "Hub-Disclosure": {"description": "The id of the disclosure that was logged.", "schema": {"type": "string"}},
    "ETag": {"description": "A weak tag of what is shown.", "schema": {"type": "string"}},
    "Location": {"description": "Where it is found.", "schema": {"type": "string"}},
}

TEXT: Json = {"type": "string"}
TIME: Json = {"type": "string", "format": "date-time"}
MAYBE_TEXT: Json = {"type": ["string", "null"]}


def obj(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Json:
    """An object of exactly these members."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def rows(of: Json) -> Json:
    """A list."""
    return {"type": "array", "items": of}


PROBLEM = obj(
    {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "errors": rows(obj({"path": TEXT, "reason": TEXT}, {"rule": TEXT, "kind": TEXT})),
    }
)
ITEM = obj(
    {
        "basis": {"type": "object", "additionalProperties": TEXT},
        "data": {"type": "object"},
        "event": TEXT,
        "kind": TEXT,
        "occurred_at": MAYBE_TEXT,
        "precision": TEXT,
        "recorded_at": TIME,
        "source": TEXT,
    }
)
MODE: Json = {"type": "string", "enum": ["normal", "emergency", "exercise"]}
VIEW = obj(
    {
        "exercise": {"type": "boolean"},
        "format": {"const": "view/1"},
        "next": MAYBE_TEXT,
        "persons": rows(obj({"items": rows({"$ref": "#/components/schemas/Item"}), "mode": MODE, "person": TEXT})),
        "purpose": TEXT,
        "recipient": TEXT,
        "time": TIME,
    }
)
CHANGED = obj({"items": rows({"$ref": "#/components/schemas/Item"}), "mode": MODE, "person": TEXT, "ref": TEXT})
CHANGES = obj(
    {
        "exercise": {"type": "boolean"},
        "format": {"const": "changes/1"},
        "more": {"type": "boolean"},
        "next": TEXT,
        "persons": rows(CHANGED),
        "purpose": TEXT,
        "recipient": TEXT,
        "removed": rows(TEXT),
        "time": TIME,
    }
)
REGISTRY_ERROR = obj({"error_code": {"type": "integer"}, "message": TEXT})
ERROR = obj({"path": TEXT, "reason": TEXT}, {"rule": TEXT, "kind": TEXT})
RESULT = obj(
    {"id": MAYBE_TEXT, "status": {"type": "string", "enum": ["accepted", "duplicate", "rejected", "waiting"]}},
    {"position": {"type": "integer"}, "error": ERROR, "quarantine": TEXT},
)
RESULTS = obj(
    {
        "accepted": {"type": "integer"},
        "duplicate": {"type": "integer"},
        "rejected": {"type": "integer"},
        "position": {"type": ["integer", "null"]},
        "results": rows({"$ref": "#/components/schemas/Result"}),
    },
    {"waiting": {"type": "integer"}},
)
CLOUDEVENT = {
    "type": "object",
    "description": "A CloudEvent 1.0 (cloudevents.io). `subject` is the person, `exercise` says a drill; "
    "`ref`, instead of `subject`, is the source's own id of the person.",
    "properties": {
        "specversion": {"const": "1.0"},
        "type": {"type": "string", "minLength": 1, "description": "The kind."},
        "source": {"type": "string", "minLength": 1},
        "id": {"type": "string", "minLength": 1},
        "subject": {"type": ["string", "null"]},
        "ref": {"type": ["string", "null"]},
        "time": {"type": ["string", "null"], "format": "date-time"},
        "datacontenttype": {"type": ["string", "null"]},
        "exercise": {"type": ["boolean", "null"]},
        "data": {"type": ["object", "null"]},
    },
    "required": ["specversion", "type", "source", "id"],
}
PROPOSAL = obj(
    {
        "proposal": TEXT,
        "hazard": TEXT,
        "exercise": {"type": "boolean"},
        "areas": rows(TEXT),
        "until": TIME,
        "by": MAYBE_TEXT,
    }
)
EMERGENCY = obj(
    {
        "emergency": TEXT,
        "hazard": TEXT,
        "areas": rows(TEXT),
        "since": TIME,
        "until": TIME,
        "exercise": {"type": "boolean"},
        "state": {"type": "string", "enum": ["proposed", "active", "ended"]},
        "by": MAYBE_TEXT,
        "alone": {"type": "boolean"},
        "mistaken": {"type": "boolean"},
        "proposed": {
            "anyOf": [{"type": "null"}, PROPOSAL],
            "description": "What waits for another officer's confirmation.",
        },
    }
)
COMPONENTS = {
    "Problem": PROBLEM,
    "RegistryError": REGISTRY_ERROR,
    "Item": ITEM,
    "View": VIEW,
    "Changes": CHANGES,
    "Result": RESULT,
    "Results": RESULTS,
    "CloudEvent": CLOUDEVENT,
    "Emergency": EMERGENCY,
}


def ref(name: str) -> Json:
    """A schema of `COMPONENTS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def told(status: int, description: str, names: Mapping[str, Json], example: Mapping[str, Any]) -> Responses:
    """The response of a route that appended one event."""
    schema = obj(
        {
            **names,
            "event": TEXT,
            "status": {"type": "string", "enum": ["accepted", "duplicate"]},
        },
        {"position": {"type": "integer", "description": "Where it stands; not told to who reads for a recipient."}},
    )
    shown = {**example, "event": "6f1c…", "status": "accepted", "position": 108}
    return answers(status, description, schema, shown, ["Hub-Position"])
