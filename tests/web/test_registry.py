"""The registry over HTTP, asked by Confluent's own client where it is installed, and by plain requests."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import fastavro
import pytest

from doors import Client, Process, Reply
from hub.registry import Registry
from hub.schemas import packaged
from hub.wire import frame, unframe

MEDIA = "application/vnd.schemaregistry.v1+json"
SUBJECT = "location.reported-value"
HERE = {"lat_deg": "37.4947", "lon_deg": "139.9298", "accuracy_m": 8.5}
REGISTRY = Registry(packaged())
ID = REGISTRY.id_of("location.reported.1")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    found = Process(tmp_path_factory.mktemp("registry") / "hub.sqlite3", workers=2)
    yield found
    assert found.stop() == 0


@pytest.fixture(scope="module")
def client(hub: Process) -> Client:
    return hub.client()


def post(client: Client, path: str, schema: Any, **more: Any) -> Reply:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    body = json.dumps({"schema": text, **more}).encode()
    return client.call("POST", f"/registry{path}", body, headers={"Content-Type": MEDIA})


def schema_of(subject: str, version: int = 1) -> dict[str, Any]:
    return dict(REGISTRY.versions(subject)[version].kind.schema)


@pytest.mark.parametrize("who", ["citizen:hanako", "source:myhazard", "service:aizu-city", "officer:o@c", "auditor"])
def test_whoever_is_known_reads_the_schemas_and_nobody_else(client: Client, who: str) -> None:
    reply = client.get("/registry/subjects", as_=who)
    assert (reply.status, reply.headers["content-type"]) == (200, MEDIA)
    assert SUBJECT in reply.json
    refused = client.get("/registry/subjects", as_="")
    assert (refused.status, refused.json["error_code"], set(refused.json)) == (401, 40101, {"error_code", "message"})
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_subjects_versions_and_ids_lead_to_one_another(client: Client) -> None:
    assert client.get("/registry/subjects/emergency.declared-value/versions").json == [1, 2]
    found = client.get("/registry/subjects/emergency.declared-value/versions/2").json
    assert found == client.get("/registry/subjects/emergency.declared-value/versions/latest").json
    assert json.loads(found["schema"]) == schema_of("emergency.declared-value", 2)
    assert client.get(f"/registry/schemas/ids/{found['id']}").json == {"schema": found["schema"]}
    assert client.get(f"/registry/schemas/ids/{found['id']}/schema").body.decode() == found["schema"]
    assert client.get("/registry/subjects/emergency.declared-value/versions/2/schema").body.decode() == found["schema"]
    assert client.get(f"/registry/schemas/ids/{found['id']}/versions").json == [
        {"subject": "emergency.declared-value", "version": 2}
    ]
    assert client.get(f"/registry/schemas/ids/{found['id']}/subjects").json == ["emergency.declared-value"]
    assert client.get("/registry/schemas/types").json == ["AVRO"]


def test_lists_are_given_in_pages_and_what_confluent_knows_besides_is_ignored(client: Client) -> None:
    every = client.get("/registry/subjects", deleted=False, offset=0, limit=-1).json
    assert client.get("/registry/subjects", offset=2, limit=3).json == every[2:5]
    assert client.get("/registry/subjects", offset=len(every), limit=3).json == []
    assert client.get("/registry/subjects", subjectPrefix="care.").json == [n for n in every if n.startswith("care.")]
    assert client.get(f"/registry/schemas/ids/{ID}", subject=SUBJECT, fetchMaxId=False).status == 200


def test_a_schema_is_found_however_it_is_written(client: Client) -> None:
    schema = schema_of(SUBJECT)
    for text in (json.dumps(schema, indent=4), json.dumps(dict(reversed(list(schema.items()))), ensure_ascii=False)):
        found = post(client, f"/subjects/{SUBJECT}", text)
        assert (found.status, found.json["id"], found.json["version"]) == (200, ID, 1)
        assert post(client, f"/subjects/{SUBJECT}/versions", text).json == {"id": ID}
    assert post(client, "/subjects/hub.LocationReported", schema).json["id"] == ID


def test_nothing_is_registered_and_the_refusal_says_how_it_is_done(client: Client) -> None:
    schema = schema_of(SUBJECT) | {"doc": "Another."}
    for subject in (SUBJECT, "well.tested-value"):
        refused = post(client, f"/subjects/{subject}/versions", schema)
        assert (refused.status, refused.json["error_code"]) == (422, 42205)
        assert "hub schemas check" in refused.json["message"]
    assert post(client, f"/subjects/{SUBJECT}", schema).json["error_code"] == 40403
    assert client.get("/registry/mode").json == client.get(f"/registry/mode/{SUBJECT}").json == {"mode": "READONLY"}


@pytest.mark.parametrize("field", [{"name": 5, "type": "string"}, {"name": "q", "type": [], "default": 1}])
def test_a_schema_that_is_none_is_refused_and_is_no_fault(client: Client, field: dict[str, Any]) -> None:
    schema = schema_of(SUBJECT)
    offered = schema | {"fields": [*schema["fields"], field]}
    refused = post(client, f"/compatibility/subjects/{SUBJECT}/versions", offered)
    assert (refused.status, refused.json["error_code"]) == (422, 42201)


def test_whether_a_schema_could_be_the_next_version_is_told_with_the_field(client: Client) -> None:
    schema = schema_of(SUBJECT)
    path = f"/compatibility/subjects/{SUBJECT}/versions"
    fine = schema | {"fields": [*schema["fields"], {"name": "floor", "type": ["null", "int"], "default": None}]}
    for where in (path, f"{path}/latest", f"{path}/1"):
        assert post(client, where, fine).json == {"is_compatible": True, "messages": []}
    bad = schema | {"fields": [*schema["fields"], {"name": "floor", "type": "int"}]}
    told = post(client, path, bad).json
    assert told["is_compatible"] is False
    assert told["messages"] == [
        "floor: is new and has no default: events of before do not have it, and cannot be read (version 1)"
    ]
    for level in (client.get("/registry/config").json, client.get(f"/registry/config/{SUBJECT}").json):
        assert level == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/subjects/none-value/versions", 404, 40401),
        ("/subjects/none-value/versions/1", 404, 40401),
        (f"/subjects/{SUBJECT}/versions/9", 404, 40402),
        (f"/subjects/{SUBJECT}/versions/0", 422, 42201 + 1),
        (f"/subjects/{SUBJECT}/versions/newest", 422, 42202),
        ("/schemas/ids/7", 404, 40403),
        ("/schemas/ids/x", 404, 40403),
        ("/schemas/ids/99999999999999999999", 404, 40403),
        ("/config/none-value", 404, 40401),
        ("/nothing", 404, 404),
    ],
)
def test_what_is_not_there_is_told_in_confluents_shape(client: Client, path: str, status: int, code: int) -> None:
    reply = client.get(f"/registry{path}")
    assert (reply.status, reply.json["error_code"]) == (status, code)
    assert reply.json["message"]
    assert reply.headers["content-type"] == MEDIA


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, 400),
        (b"[]", 400, 400),
        (b"{}", 422, 42201),
        (b'{"schema": 1}', 422, 42201),
        (b'{"schema": "{"}', 422, 42201),
        (b'{"schema": "{}", "schemaType": "JSON"}', 422, 42201),
        (b'{"schema": "\\ud800"}', 422, 42201),
    ],
)
@pytest.mark.parametrize("path", [f"/subjects/{SUBJECT}", f"/compatibility/subjects/{SUBJECT}/versions"])
def test_what_is_no_schema_is_told_in_confluents_shape(
    client: Client, path: str, body: bytes, status: int, code: int
) -> None:
    reply = client.call("POST", f"/registry{path}", body, headers={"Content-Type": MEDIA})
    assert (reply.status, reply.json["error_code"]) == (status, code)


def test_a_method_that_does_nothing_is_refused(client: Client) -> None:
    reply = client.call("DELETE", f"/registry/subjects/{SUBJECT}")
    assert reply.status in (404, 405)
    assert set(reply.json) == {"error_code", "message"}
    assert client.call("PUT", "/registry/config", {"compatibility": "NONE"}).status == 405


@pytest.fixture
def confluent(hub: Process) -> Iterator[Any]:
    reason = "Confluent's client lacks a package: pip install confluent-kafka[schemaregistry,avro]"
    pytest.importorskip("cachetools", reason=reason)
    pytest.importorskip("attrs", reason=reason)
    from confluent_kafka import schema_registry

    token = hub.tokens.of("source:myhazard")
    settings = {
        "url": f"http://127.0.0.1:{hub.port}/registry",
        "bearer.auth.credentials.source": "STATIC_TOKEN",
        "bearer.auth.token": token,
        "bearer.auth.logical.cluster": "hub",
        "bearer.auth.identity.pool.id": "hub",
    }
    with schema_registry.SchemaRegistryClient(settings) as client:
        yield client


@pytest.mark.parametrize(
    "conf", [{"auto.register.schemas": True}, {"auto.register.schemas": False}, {"use.latest.version": True}], ids=str
)
def test_confluents_serializer_writes_the_bytes_of_the_hub_and_reads_them(confluent: Any, conf: dict[str, Any]) -> None:
    from confluent_kafka.schema_registry import avro as theirs
    from confluent_kafka.serialization import MessageField, SerializationContext

    strategy = {"subject.name.strategy": lambda ctx, name: SUBJECT}
    if conf.get("use.latest.version"):
        conf = {"auto.register.schemas": False, **conf}
    text = (Path(__file__).parents[2] / "schemas/avro/location.reported.1.avsc").read_text()
    context = SerializationContext("hub.ingest", MessageField.VALUE)
    record = {part["name"]: HERE.get(part["name"]) for part in schema_of(SUBJECT)["fields"]}

    value = theirs.AvroSerializer(confluent, text, conf=conf | strategy)(record, context)

    assert value == REGISTRY.encode("location.reported", HERE)
    assert unframe(value)[0] == ID
    assert theirs.AvroDeserializer(confluent)(value, context) == record
    assert _judged(value) == record


def test_confluents_strategy_of_record_names_finds_the_kind(confluent: Any) -> None:
    from confluent_kafka.schema_registry import avro as theirs
    from confluent_kafka.schema_registry import record_subject_name_strategy
    from confluent_kafka.serialization import MessageField, SerializationContext

    conf = {"auto.register.schemas": False, "subject.name.strategy": record_subject_name_strategy}
    text = json.dumps(schema_of(SUBJECT))
    record = {part["name"]: HERE.get(part["name"]) for part in schema_of(SUBJECT)["fields"]}
    context = SerializationContext("hub.ingest", MessageField.VALUE)
    assert theirs.AvroSerializer(confluent, text, conf=conf)(record, context) == REGISTRY.encode(
        "location.reported", HERE
    )


def test_confluents_client_asks_everything_that_it_knows(confluent: Any) -> None:
    from confluent_kafka.schema_registry import Schema
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    schema = Schema(json.dumps(schema_of(SUBJECT)), "AVRO")
    assert SUBJECT in confluent.get_subjects()
    assert confluent.get_versions(SUBJECT) == [1]
    assert confluent.get_latest_version(SUBJECT).schema_id == ID
    assert confluent.get_version(SUBJECT, 1).schema_id == ID
    assert confluent.lookup_schema(SUBJECT, schema).schema_id == ID
    assert confluent.register_schema(SUBJECT, schema) == ID
    assert confluent.test_compatibility(SUBJECT, schema) is True
    assert confluent.get_subjects_by_schema_id(ID) == [SUBJECT]
    assert [(v.subject, v.version) for v in confluent.get_schema_versions(ID)] == [(SUBJECT, 1)]
    assert json.loads(confluent.get_schema(ID).schema_str) == schema_of(SUBJECT)
    assert confluent.get_schema_types() == ["AVRO"]
    assert confluent.get_config(SUBJECT).compatibility_level == "BACKWARD_TRANSITIVE"
    with pytest.raises(SchemaRegistryError) as told:
        confluent.register_schema(SUBJECT, Schema('{"type": "string"}', "AVRO"))
    assert (told.value.http_status_code, told.value.error_code) == (422, 42205)


@pytest.mark.parametrize("kind", packaged().every(), ids=lambda kind: kind.topic)
def test_what_is_fetched_by_the_id_of_a_message_reads_it(client: Client, kind: Any) -> None:
    """For judges who know the hub by HTTP alone: both libraries parse what is served."""
    number, _ = unframe(frame(REGISTRY.id_of(kind.topic), b""))
    text = client.get(f"/registry/schemas/ids/{number}").json["schema"]
    fastavro.parse_schema(json.loads(text))
    assert avro.schema.parse(text).fullname == kind.record


def _judged(value: bytes) -> Any:
    schema = avro.schema.parse(json.dumps(schema_of(SUBJECT)))
    return avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(io.BytesIO(value[5:])))
