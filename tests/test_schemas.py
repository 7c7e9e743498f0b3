"""Kinds, the compiled Avro codec, canonical JSON and grid squares, each against an independent judge."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import fastavro
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from jismesh import utils as jismesh

from hub import areas, canonical
from hub.codec import parse_time
from hub.errors import PayloadError
from hub.events import CONTROLS
from hub.schemas import Kind, packaged

FOLDER = Path(__file__).parents[1] / "schemas" / "avro"
FILES = sorted(FOLDER.glob("*.avsc"))
RELEASED = json.loads((Path(__file__).parent / "released-schemas.json").read_text())
KINDS = {path.name: packaged().topic(path.name.removesuffix(".avsc")) for path in FILES}

FORMATS = {
    "id": st.from_regex(r"[A-Za-z0-9:_-]{1,12}", fullmatch=True),
    "name": st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True),
    "area-code": st.sampled_from(["07", "07202", "07202-12", "m5639", "m5639179414"]),
    "area-code-or-any": st.sampled_from(["*", "07202", "m563917"]),
    "kind": st.sampled_from(["care.medication_updated", "location.reported"]),
    "kind-pattern": st.sampled_from(["*", "care.*", "safety.answered"]),
    "decimal": st.decimals(-180, 180, places=7, allow_nan=False),
}
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


def values(schema: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Data that the schema holds, as it is on the wire."""
    match schema:
        case list():
            return st.one_of([values(branch, named) for branch in schema])
        case {"type": "record", "name": name, "fields": parts}:
            named[name] = st.fixed_dictionaries({part["name"]: values(part["type"], named) for part in parts})
            return named[name]
        case {"type": "enum", "name": name, "symbols": symbols}:
            named[name] = st.sampled_from(symbols)
            return named[name]
        case {"type": "array", "items": items}:
            return st.lists(values(items, named), max_size=3)
        case {"type": "map", "values": items}:
            return st.dictionaries(TEXT, values(items, named), max_size=3)
        case {"logicalType": "timestamp-micros"}:
            return TIMES
        case {"type": "string", "format": form}:
            return FORMATS[form]
        case {"type": inner}:
            return values(inner, named)
        case str() if schema in named:
            return named[schema]
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "int": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
        "double": st.floats(allow_nan=False, allow_infinity=False),
        "string": TEXT,
        "bytes": st.binary(max_size=20),
    }[schema]


def plain(value: Any) -> Any:
    """The value as other Avro libraries want it: decimals as the text that is kept."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_bytes_are_those_of_fastavro_and_avro_reads_them(path: Path, data: st.DataObject) -> None:
    kind, schema = KINDS[path.name], json.loads(path.read_text())
    assert kind is not None
    record = data.draw(values(schema, {}))

    encoded = kind.encode(record)

    judged = io.BytesIO()
    fastavro.schemaless_writer(judged, fastavro.parse_schema(schema), plain(record))
    assert encoded == judged.getvalue()
    reader = avro.io.DatumReader(avro.schema.parse(path.read_text()))
    assert reader.read(avro.io.BinaryDecoder(io.BytesIO(encoded))) == plain(record)
    assert plain(kind.decode(encoded)) == plain(record)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_released_schema_never_changes(path: Path) -> None:
    assert RELEASED[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_released_schema_is_missing() -> None:
    assert set(RELEASED) == {path.name for path in FILES}


def fields(schema: Any) -> list[dict[str, Any]]:
    """Every field of a schema, those of inner records too."""
    if isinstance(schema, list):
        return [field for branch in schema for field in fields(branch)]
    if not isinstance(schema, dict):
        return []
    own = list(schema.get("fields", []))
    inner = [field for part in own for field in fields(part["type"])]
    return own + inner + fields(schema.get("items")) + fields(schema.get("values"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_field_is_told_in_both_languages_and_the_file_names_its_kind(path: Path) -> None:
    schema = json.loads(path.read_text())
    assert path.name == f"{schema['kind']}.{schema['version']}.avsc"
    told = [schema, *fields(schema)]
    assert [part["name"] for part in told if not part.get("doc") or not part.get("doc_ja")] == []


def test_every_control_kind_has_a_schema_and_a_class() -> None:
    assert {kind.name for kind in packaged() if kind.category == "control"} == set(CONTROLS)


@pytest.fixture
def answered() -> Kind:
    return packaged().kind("safety.answered")


@pytest.mark.parametrize(
    ("kind", "data", "path"),
    [
        ("safety.answered", {}, "status"),
        ("safety.answered", {"status": "花子"}, "status"),
        ("safety.answered", {"status": None}, "status"),
        ("safety.answered", {"status": "safe", "phone": "090"}, "phone"),
        ("safety.answered", {"status": "safe", "花子は090-1234": 1}, "(a field)"),
        ("safety.answered", {"status": "safe", "note": "\ud800"}, "note"),
        ("location.reported", {"lat_deg": True, "lon_deg": 1, "accuracy_m": 1}, "lat_deg"),
        ("location.reported", {"lat_deg": float("nan"), "lon_deg": 1, "accuracy_m": 1}, "lat_deg"),
        ("location.reported", {"lat_deg": Decimal("1e400"), "lon_deg": 1, "accuracy_m": 1}, "lat_deg"),
        ("location.reported", {"lat_deg": 1, "lon_deg": 1, "accuracy_m": float("inf")}, "accuracy_m"),
        ("survey.answered", {"answers": {"秘密": 3}}, "answers{}"),
        ("person.moved", {"areas": ["07202", "072028"]}, "areas[1]"),
        ("person.moved", {"areas": ["０７２０２"]}, "areas[0]"),
        ("consent.granted", {"grant": " ", "to": {}, "kinds": [], "purposes": [], "modes": []}, "grant"),
        ("emergency.declared", {"emergency": "e", "areas": [], "until": "2026-06-01", "hazard": "flood"}, "until"),
        (
            "emergency.declared",
            {"emergency": "e", "areas": [], "until": "2026-13-01T00:00:00Z", "hazard": "x"},
            "until",
        ),
    ],
)
def test_what_a_schema_does_not_hold_is_told_by_path_and_never_by_value(
    kind: str, data: dict[str, Any], path: str
) -> None:
    with pytest.raises(PayloadError) as told:
        packaged().kind(kind).encode(data)
    assert (told.value.kind, told.value.path) == (kind, path)
    assert not any(secret in str(told.value) for secret in ("花子", "090", "秘密", "072028"))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-06-01T09:00:00+09:00", datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-06-01T00:00:00.1234567Z", datetime(2026, 6, 1, 0, 0, 0, 123456, tzinfo=UTC)),
        ("2026-05-31T23:30:00-00:30", datetime(2026, 6, 1, tzinfo=UTC)),
    ],
)
def test_times_are_read_with_their_offset(text: str, time: datetime) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize(
    "text", ["2026-06-01T09:00:00", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+09:00", "２０２６-06-01T00:00:00Z", ""]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(PayloadError):
        parse_time(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_is_that_of_rfc_8785(value: Any) -> None:
    assert canonical.dumps(value) == rfc8785.dumps(value)


def test_names_are_ordered_by_their_utf_16_units() -> None:
    assert canonical.dumps({"！": 1, "😀": 2}) == '{"😀":2,"！":1}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, "\ud800"])
def test_what_json_cannot_say_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        canonical.dumps(value)


def plain_mesh(lat: Fraction, lon: Fraction) -> str:
    """JIS X 0410 as the standard tells it: divide again and again, in exact fractions."""
    p, a = divmod(lat * 60, 40)
    q, b = divmod(a, 5)
    r, c = divmod(b * 60, 30)
    s, d = divmod(c, 15)
    t, _ = divmod(d, Fraction(15, 2))
    u, f = divmod(lon - 100, 1)
    v, g = divmod(f * 60, Fraction(15, 2))
    w, h = divmod(g * 60, 45)
    x, i = divmod(h, Fraction(45, 2))
    y, _ = divmod(i, Fraction(45, 4))
    return f"{p:02}{u:02}{q}{v}{r}{w}{s * 2 + x + 1}{t * 2 + y + 1}"


LATITUDES = st.decimals("20", "45.9999999", places=7) | st.integers(0, 12479).map(lambda n: Decimal(9600 + n) / 480)
LONGITUDES = st.decimals("122", "153.9999999", places=7) | st.integers(0, 10239).map(lambda n: Decimal(39040 + n) / 320)


@given(LATITUDES, LONGITUDES)
def test_the_grid_square_is_exact_on_the_digits(lat: Decimal, lon: Decimal) -> None:
    assert areas.mesh(lat, lon) == plain_mesh(Fraction(lat), Fraction(lon))


@given(st.integers(0, 12479), st.integers(0, 10239))
def test_jismesh_agrees_in_the_middle_of_a_square(row: int, column: int) -> None:
    lat, lon = 20 + (row + 0.5) / 480, 122 + (column + 0.5) / 320
    code = areas.mesh(Decimal(repr(lat)), Decimal(repr(lon)))
    assert code == str(jismesh.to_meshcode(lat, lon, 5))
    assert code is not None
    for digits, level in ((10, 5), (8, 3), (6, 2)):
        centre = jismesh.to_meshpoint(code[:digits], 0.5, 0.5)
        assert areas.centre(code[:digits]) == pytest.approx(centre, abs=6e-6)
        assert str(jismesh.to_meshcode(*areas.centre(code[:digits]), level)) == code[:digits]


@pytest.mark.parametrize(("lat", "lon"), [("19.9999999", "139"), ("46", "139"), ("37", "121.99"), ("37", "154")])
def test_a_point_outside_has_no_square(lat: str, lon: str) -> None:
    assert areas.mesh(Decimal(lat), Decimal(lon)) is None
