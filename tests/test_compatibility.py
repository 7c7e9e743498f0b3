"""What a new version of a schema may change: a breaking change of every sort, and those that break nothing."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import avro.schema
import fastavro
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from hub.compatibility import Finding, breaks, check, faults
from hub.schemas import Schemas

ROOT = Path(__file__).parents[1]
Change = Callable[[dict[str, Any]], Any]

TIME = {"type": "long", "logicalType": "timestamp-micros"}
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}

LATER = {"name": "later", "type": "string", "default": "any"}


def inner(name: str, *more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": "value", "type": "int"}, *more]}


GRADE = {"type": "enum", "name": "Grade", "symbols": ["low", "high"]}
FIRST: dict[str, Any] = {
    "type": "record",
    "name": "WellTested",
    "namespace": "hub",
    "doc": "A well is tested.",
    "kind": "well.tested",
    "version": 1,
    "category": "fact",
    "about": "place",
    "ttl_s": 3600,
    "latest_by": ["well"],
    "fields": [
        {"name": "well", "type": {"type": "string", "format": "id"}, "summary": True},
        {"name": "depth_m", "type": "int", "unit": "m"},
        {"name": "at", "type": TIME},
        {"name": "cost", "type": MONEY},
        {"name": "ratio", "type": {"type": "string", "format": "decimal"}},
        {"name": "grade", "type": GRADE},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "turns", "type": "long", "default": 0},
        {"name": "areas", "type": {"type": "array", "items": {"type": "string", "format": "area-code"}}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "samples", "type": {"type": "array", "items": inner("Sample")}},
        {"name": "spots", "type": {"type": "map", "values": inner("Spot")}},
        {
            "name": "by",
            "type": [
                "null",
                {"type": "record", "name": "By", "fields": [{"name": "name", "type": "string"}]},
            ],
            "default": None,
        },
    ],
}


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return next(part for part in schema["fields"] if part["name"] == name)


def sets(name: str, **props: Any) -> Change:
    return lambda schema: field(schema, name).update(props)


def drops(name: str, prop: str) -> Change:
    return lambda schema: field(schema, name).pop(prop)


def adds(**props: Any) -> Change:
    return lambda schema: schema["fields"].append(props)


def says(**props: Any) -> Change:
    return lambda schema: schema.update(props)


def removes(name: str) -> Change:
    return lambda schema: schema["fields"].remove(field(schema, name))


def second(change: Change) -> dict[str, Any]:
    schema = copy.deepcopy(FIRST) | {"version": 2}
    change(schema)
    return schema


BY_AVRO: list[tuple[str, Change, str, str]] = [
    ("a field without a default", adds(name="taste", type="string"), "taste", "has no default"),
    ("another type", sets("note", type=["null", "int"]), "note", "could be string"),
    ("a narrower number", sets("turns", type="int"), "turns", "was long and is int"),
    ("null no more", sets("note", type="string"), "note", "could be left out"),
    ("a branch no more", sets("by", type=["null", "string"]), "by", "could be By"),
    ("a type by another name", sets("grade", type={**GRADE, "name": "Mark"}), "grade", "is called Mark"),
    ("another name of the record", says(name="WellLooked"), "", "is called WellLooked"),
    ("a symbol no more", sets("grade", type={**GRADE, "symbols": ["low"]}), "grade", "high are gone"),
    ("another type of items", sets("areas", type={"type": "array", "items": "boolean"}), "areas[]", "was string"),
    ("another type of values", sets("counts", type={"type": "map", "values": "string"}), "counts{}", "was int"),
    ("a list that was a map", sets("counts", type={"type": "array", "items": "int"}), "counts", "was map and is array"),
    (
        "a field without a default inside",
        lambda schema: field(schema, "by")["type"][1]["fields"].append({"name": "role", "type": "string"}),
        "by.role",
        "has no default",
    ),
]
BEYOND_AVRO: list[tuple[str, Change, str, str]] = [
    (
        "a time in another unit",
        sets("at", type={"type": "long", "logicalType": "timestamp-millis"}),
        "at",
        "logicalType",
    ),
    ("a time that is a number", sets("at", type="long"), "at", "logicalType"),
    ("another scale", sets("cost", type={**MONEY, "scale": 3}), "cost", "scale was 2 and is 3"),
    ("another precision", sets("cost", type={**MONEY, "precision": 12}), "cost", "precision was 9"),
    ("text for bytes", sets("cost", type="string"), "cost", "was decimal and is string"),
    ("a number that is a text", sets("ratio", type="string"), "ratio", "a number here, a text there"),
    (
        "a closer format",
        sets("areas", type={"type": "array", "items": {"type": "string", "format": "id"}}),
        "areas[]",
        "values that were taken",
    ),
    (
        "a symbol no more, and a default",
        sets("grade", type={**GRADE, "symbols": ["low"], "default": "low"}),
        "grade",
        "which nobody said",
    ),
    (
        "a symbol more, no default",
        sets("grade", type={**GRADE, "symbols": ["low", "high", "dry"]}),
        "grade",
        "has no default",
    ),
    ("a field no more", removes("turns"), "turns", "is gone"),
    (
        "a field renamed",
        lambda schema: field(schema, "turns").update(name="rounds", aliases=["turns"]),
        "turns",
        "follows no aliases",
    ),
    ("a default no more", drops("turns", "default"), "turns", "had a default"),
    ("another default", sets("turns", default=1), "turns", "default was 0 and is 1"),
    ("another unit", sets("depth_m", unit="ft"), "depth_m", 'unit was "m" and is "ft"'),
    ("no unit", drops("depth_m", "unit"), "depth_m", "unit"),
    ("more in the summary", sets("note", summary=True), "note", "more than was granted"),
    (
        "a new field in the summary",
        adds(name="taste", type=["null", "string"], default=None, summary=True),
        "taste",
        "more than was granted",
    ),
    ("longer shown", says(ttl_s=7200), "ttl_s", "longer than was said"),
    ("shown for ever", lambda schema: schema.pop("ttl_s"), "ttl_s", "longer than was said"),
    ("replaced otherwise", says(latest_by=["well", "grade"]), "latest_by", "which fact replaces which"),
    ("never replaced", lambda schema: schema.pop("latest_by"), "latest_by", "which fact replaces which"),
    ("opened to a roster", says(roster=True), "roster", "closed to them"),
    ("about someone else", says(about="person"), "about", "under whose key"),
    ("of another category", says(category="hub"), "category", "how the log treats"),
]
HARMLESS: list[tuple[str, Change]] = [
    ("nothing", lambda schema: None),
    ("another doc", says(doc="A well was tested.")),
    ("a field with a default", adds(name="taste", type=["null", "string"], default=None)),
    (
        "a field inside with a default",
        lambda schema: field(schema, "by")["type"][1]["fields"].append(
            {"name": "role", "type": "string", "default": "any"}
        ),
    ),
    (
        "a field of items with a default",
        lambda schema: field(schema, "samples")["type"]["items"]["fields"].append(LATER),
    ),
    (
        "a field of values with a default",
        lambda schema: field(schema, "spots")["type"]["values"]["fields"].append(LATER),
    ),
    ("a wider number", sets("depth_m", type="long")),
    ("a number with a fraction", sets("depth_m", type="double")),
    ("may be left out", sets("depth_m", type=["null", "int"])),
    ("another order", lambda schema: schema["fields"].reverse()),
    (
        "a symbol more, and a default",
        sets("grade", type={**GRADE, "symbols": ["dry", "low", "high"], "default": "low"}),
    ),
    (
        "a looser format",
        sets("areas", type={"type": "array", "items": {"type": "string", "format": "area-code-or-any"}}),
    ),
    ("no format", sets("well", type="string")),
    ("less in the summary", drops("well", "summary")),
    ("shorter shown", says(ttl_s=60)),
    ("a type more", sets("note", type=["null", "string", "int"])),
]
ONCE = {"well": "w1", "depth_m": 3, "at": 5, "cost": b"\x01", "ratio": "0.5", "grade": "high", "turns": 2}
ONCE |= {"note": None, "areas": ["07202"], "counts": {"a": 1}, "by": {"name": "hanako"}}
ONCE |= {"samples": [{"value": 1}], "spots": {"a": {"value": 2}}}


SAID = ("note", "grade", "turns", "by", "samples", "spots")


def official(new: dict[str, Any], old: dict[str, Any]) -> bool:
    reader, writer = avro.schema.parse(json.dumps(new)), avro.schema.parse(json.dumps(old))
    judged = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
    return judged.compatibility is SchemaCompatibilityType.compatible


def names(rows: list[Any]) -> list[str]:
    return [row[0] for row in rows]


@pytest.mark.parametrize(("_", "change", "path", "words"), BY_AVRO, ids=names(BY_AVRO))
def test_what_avro_refuses_is_refused_in_words_with_the_path(_: str, change: Change, path: str, words: str) -> None:
    new = second(change)
    [(where, reason)] = breaks(new, FIRST)
    assert where == path
    assert words in reason
    assert not official(new, FIRST)


@pytest.mark.parametrize(("_", "change", "path", "words"), BEYOND_AVRO, ids=names(BEYOND_AVRO))
def test_what_avro_lets_pass_and_means_something_else_is_refused(_: str, change: Change, path: str, words: str) -> None:
    new = second(change)
    [(where, reason)] = breaks(new, FIRST)
    assert where == path
    assert words in reason
    assert official(new, FIRST)


@pytest.mark.parametrize(("_", "change"), HARMLESS, ids=names(HARMLESS))
def test_what_breaks_nothing_passes_and_reads_the_bytes_of_before(_: str, change: Change) -> None:
    new = second(change)
    assert breaks(new, FIRST) == []
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _plain(FIRST), ONCE)
    out.seek(0)
    read = fastavro.schemaless_reader(out, _plain(FIRST), _plain(new))
    schemas = Schemas([(f"well.tested.{s['version']}.avsc", json.dumps(s).encode()) for s in (FIRST, new)])
    ours = schemas.decode("well.tested.1", out.getvalue())
    assert set(ours) == set(read)
    assert {name: read[name] for name in SAID} == {name: ours[name] for name in SAID}


def _plain(schema: dict[str, Any]) -> Any:
    """Without logical types, whose values a library of its own would make others of."""
    text = json.dumps(schema).replace('"logicalType"', '"formerly"')
    return fastavro.parse_schema(json.loads(text))


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (says(version=3), "", "does not name itself"),
        (says(kind="well.seen"), "", "does not name itself"),
        (says(latest_by=["bucket"]), "latest_by", "does not have"),
        (sets("turns", default="none"), "turns", "does not fit its type"),
        (sets("note", default="none"), "note", "first type of its union"),
        (sets("at", default="2026-06-01T00:00:00Z"), "at", "as it stands"),
        (sets("grade", default="dry"), "grade", "does not fit its type"),
    ],
)
def test_a_version_that_is_wrong_by_itself_is_refused(change: Change, path: str, words: str) -> None:
    new = second(change)
    [kind] = Schemas([("well.tested.2.avsc", json.dumps(new).encode())]).every()
    [(where, reason)] = faults(kind)
    assert where == path
    assert words in reason


def test_the_official_library_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.compatibility._differs", lambda new, old, path: [])
    [(_, reason)] = breaks(second(sets("turns", type="int")), FIRST)
    assert reason.startswith("Avro says: ")


def files(*schemas: dict[str, Any]) -> dict[str, bytes]:
    return {f"well.tested.{schema['version']}.avsc": json.dumps(schema).encode() for schema in schemas}


def test_each_version_is_held_against_all_before_it() -> None:
    middle = second(adds(name="taste", type=["null", "string"], default=None))
    last = copy.deepcopy(middle) | {"version": 3}
    field(last, "taste").update(type="string", default="")
    found = check(files(FIRST, middle, last), {})
    assert {(one.file, one.path) for one in found} == {("well.tested.3.avsc", "taste")}
    assert "(version 2)" in found[0].reason

    late = copy.deepcopy(middle) | {"version": 3, "ttl_s": 3600}
    middle["ttl_s"] = 60
    [found_late] = check(files(FIRST, middle, late), {})
    assert (found_late.file, found_late.path) == ("well.tested.3.avsc", "ttl_s")


def test_a_released_file_that_is_changed_or_gone_is_refused_with_the_field() -> None:
    released = files(FIRST)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in released.items()}
    changed = copy.deepcopy(FIRST)
    field(changed, "depth_m")["unit"] = "ft"
    [by_sum] = check(files(changed), sums)
    assert "write well.tested.2.avsc" in by_sum.reason
    [by_base] = check(files(changed), {}, released)
    assert by_base.path == "depth_m"
    [gone] = check({}, sums)
    assert "is gone" in gone.reason
    assert check(released, sums, released) == []


def test_a_gap_between_versions_and_a_file_that_is_none_are_told() -> None:
    [gap] = check(files(FIRST, second(says(version=3))), {})
    assert gap == Finding(file="well.tested.3.avsc", path="", reason="comes after version 2, of which there is no file")
    beyond_the_gap = check(files(FIRST, second(lambda schema: (removes("note")(schema), says(version=3)(schema)))), {})
    assert [found.path for found in beyond_the_gap] == ["", "note"]
    [broken] = check({"well.tested.1.avsc": b"{"}, {})
    assert (broken.file, broken.path) == ("well.tested.1.avsc", "")


def hub(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = "from hub.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "schemas", *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_the_command_says_what_breaks_where_and_ends_with_1(tmp_path: Path) -> None:
    for name, content in files(FIRST, second(removes("note"))).items():
        (tmp_path / name).write_bytes(content)
    done = hub("check", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.startswith("BAD  well.tested.2.avsc: note: is gone: ")
    told = json.loads(hub("check", str(tmp_path), "--json").stdout)
    assert [(row["file"], row["path"]) for row in told] == [("well.tested.2.avsc", "note")]
    assert hub("check", str(tmp_path / "none")).returncode not in (0, 1)


def test_the_schemas_of_this_tree_pass_and_a_changed_one_does_not(tmp_path: Path) -> None:
    connectors = [str(path) for path in ROOT.glob("connectors/*/src/*/avro")]
    assert hub("check", "schemas/avro", *connectors).returncode == 0
    assert hub("check").returncode == 0
    for path in (ROOT / "schemas/avro").glob("*.avsc"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    entry = tmp_path / "entry.1.avsc"
    entry.write_text(entry.read_text().replace("envelope around", "cover around"))
    done = hub("check", str(tmp_path), "--released", "tests/released-schemas.json")
    assert (done.returncode, done.stdout.count("BAD")) == (1, 1)
    assert "entry.1.avsc: is released and never changes" in done.stdout
    assert "entry.1.avsc: doc" not in hub("check", str(tmp_path), "--base", "schemas/avro").stdout


def test_the_list_gives_each_version_its_id() -> None:
    rows = json.loads(hub("list", "--json").stdout)
    assert {"kind": "location.reported", "version": 1, "id": 2105561774} in [
        {name: row[name] for name in ("kind", "version", "id")} for row in rows
    ]
