"""What a new version of a kind may change: it reads whatever an earlier one wrote, and it means the same.

The log keeps bytes of every version for ever, and messages on their way hold them too, so each version is held against
all before it. What Avro asks is judged here in words, and by the official library, whose no is final; what it does not
see is judged here alone: logical types, formats, units, defaults, and what our schemas say of a kind beyond Avro.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import avro.errors
import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from hub.codec import Decode, Encode, compile_schema
from hub.errors import Misuse, PayloadError
from hub.schemas import Kind, Schemas

Found = Iterator[tuple[str, str]]

_WIDER = {"int": ("long", "float", "double"), "long": ("float", "double"), "float": ("double",)}
"""What a number may become: the bytes of the narrower are read as the wider (Avro, schema resolution)."""

_LOOSER = {("area-code", "area-code-or-any"), ("kind", "kind-pattern")}
"""Formats, old and new, where the new one takes all that the old one took."""

_OWN = {
    "category": "decides how the log treats the kind; introduce a new kind",
    "about": "decides under whose key it is sealed and who may see it; introduce a new kind",
    "latest_by": "decides which fact replaces which: facts of the log would vanish or come back; introduce a new kind",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong. path: the field, as `to.recipient` or `areas[]`; empty for the whole file."""

    file: str
    path: str
    reason: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, self.reason) if part)


def check(
    files: Mapping[str, bytes], released: Mapping[str, str], base: Mapping[str, bytes] | None = None
) -> list[Finding]:
    """What is wrong with schema files, by name.

    released: the SHA-256 of the files that were given out, by name. base: such files themselves, where at hand.
    """
    base = base or {}
    known = {name: hashlib.sha256(content).hexdigest() for name, content in base.items()} | dict(released)
    found = [*_changed(files, known, base)]
    kinds: dict[str, dict[int, Kind]] = {}
    for name, content in sorted({**base, **files}.items()):
        try:
            [kind] = Schemas([(name, content)]).every()
        except Misuse as error:
            found.append(Finding(file=name, path="", reason=str(error).removeprefix(f"{name}: ")))
            continue
        kinds.setdefault(kind.name, {})[kind.version] = kind
        found += [Finding(file=name, path=path, reason=reason) for path, reason in faults(kind)]
    for versions in kinds.values():
        found += _in_turn(versions)
    return found


def _changed(files: Mapping[str, bytes], known: Mapping[str, str], base: Mapping[str, bytes]) -> Iterator[Finding]:
    for name, sha256 in sorted(known.items()):
        if name not in files:
            reason = "is released and is gone: events of it stand in the log. Bring it back"
            if name not in base:
                yield Finding(file=name, path="", reason=reason)
        elif hashlib.sha256(files[name]).hexdigest() != sha256:
            kind, _, version = name.removesuffix(".avsc").rpartition(".")
            following = f"{kind}.{int(version) + 1}.avsc" if version.isdigit() else "a new version"
            reason = f"is released and never changes: the log is read by it. Bring it back, and write {following}"
            where = _first_difference(base[name], files[name]) if name in base else ""
            yield Finding(file=name, path=where, reason=reason)


def _first_difference(old: bytes, new: bytes) -> str:
    try:
        before = {field["name"]: field for field in json.loads(old)["fields"]}
        after = {field["name"]: field for field in json.loads(new)["fields"]}
    except (ValueError, KeyError, TypeError):
        return ""
    return next((name for name in [*before, *after] if before.get(name) != after.get(name)), "")


def _in_turn(versions: Mapping[int, Kind]) -> Iterator[Finding]:
    for number in sorted(versions):
        new = versions[number]
        file = f"{new.topic}.avsc"
        if number > 1 and number - 1 not in versions:
            yield Finding(file=file, path="", reason=f"comes after version {number - 1}, of which there is no file")
        told: set[str] = set()
        for earlier in sorted(versions):
            if earlier >= number:
                break
            for path, reason in breaks(new.schema, versions[earlier].schema):
                if path not in told:  # once for each field: the first version that it breaks
                    told.add(path)
                    yield Finding(file=file, path=path, reason=f"{reason} (version {earlier})")


def faults(kind: Kind) -> Found:
    """What is wrong with one version by itself."""
    schema = kind.schema
    if (schema.get("kind"), schema.get("version")) != (kind.name, kind.version):
        yield "", f"does not name itself: it has to say kind {kind.name!r} and version {kind.version}, as its file does"
    try:
        _parsed(schema)
    except avro.errors.AvroException as error:
        yield "", f"is no Avro schema: {error}"
    names = {field["name"] for field in schema["fields"]}
    for name in kind.latest_by:
        if name not in names:
            yield "latest_by", f"names the field {name!r}, which the kind does not have"
    yield from _defaults(schema, "", {})


def _defaults(schema: Any, path: str, named: dict[str, Any]) -> Found:
    match schema:
        case list():
            for branch in schema:
                yield from _defaults(branch, path, named)
        case {"type": "record", "fields": fields}:
            for field in fields:
                where = _join(path, field["name"])
                codec = compile_schema(field["type"], named)
                if "default" in field and (wrong := _misfit(field["default"], field["type"], codec)):
                    yield where, f"has a default that {wrong}"
                yield from _defaults(field["type"], where, named)
        case {"type": "array", "items": items}:
            yield from _defaults(items, f"{path}[]", named)
        case {"type": "map", "values": values}:
            yield from _defaults(values, f"{path}{{}}", named)
        case {"type": dict() | list() as inner}:
            yield from _defaults(inner, path, named)
        case _:
            pass


def _misfit(default: Any, schema: Any, codec: tuple[Encode, Decode]) -> str:
    if isinstance(schema, list) and (default is None) != (schema[0] == "null"):
        return f"is not of the first type of its union, as Avro asks: {_name(schema[0])}"
    encode, decode = codec
    out = bytearray()
    try:
        encode(default, out)
    except PayloadError as error:
        return f"does not fit its type: {error}"
    if decode(bytes(out), 0)[0] != default:
        return "is a text where a time or a number is read: the hub gives it out as it stands; let it be null"
    return ""


def breaks(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What of `old` the schema `new` would not read, or would read as something else: path and reason."""
    found = [*_of_the_kind(new, old), *_differs(_whole(new, {}), _whole(old, {}), "")]
    if not found:
        try:
            checker: Any = ReaderWriterCompatibilityChecker  # untyped
            judged = checker().get_compatibility(_parsed(new), _parsed(old))
        except avro.errors.AvroException as error:
            return [("", f"is no Avro schema: {error}")]
        if judged.compatibility is not SchemaCompatibilityType.compatible:
            found.append(("", f"Avro says: {'; '.join(sorted(judged.messages))}, at {', '.join(judged.locations)}"))
    return found


def _parsed(schema: Mapping[str, Any]) -> avro.schema.Schema:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a logical type that the library does not know
        return avro.schema.parse(json.dumps(schema))


def _of_the_kind(new: Mapping[str, Any], old: Mapping[str, Any]) -> Found:
    for prop, reason in _OWN.items():
        if new.get(prop) != old.get(prop):
            yield prop, f"was {_said(old.get(prop))} and is {_said(new.get(prop))}: it {reason}"
    if new.get("roster") and not old.get("roster"):
        yield "roster", "would open facts to a roster's overrides that were closed to them when they came; leave it out"
    before, after = old.get("ttl_s"), new.get("ttl_s")
    if before is not None and (after is None or after > before):
        yield "ttl_s", f"was {before} s and is {_said(after)}: facts would be shown longer than was said when they came"


def _said(value: Any) -> str:
    return "not there" if value is None else json.dumps(value, ensure_ascii=False)


def _whole(schema: Any, named: dict[str, Any]) -> Any:
    """The schema with each name in place of which a type was meant filled in, and each type in its plain form."""
    match schema:
        case list():
            return [_whole(branch, named) for branch in schema]
        case {"type": "record", "fields": fields, "name": name}:
            filled = [{**field, "type": _whole(field["type"], named)} for field in fields]
            named[name] = {**schema, "fields": filled}
            return named[name]
        case {"type": "enum" | "fixed", "name": name}:
            named[name] = schema
            return schema
        case {"type": "array", "items": items}:
            return {**schema, "items": _whole(items, named)}
        case {"type": "map", "values": values}:
            return {**schema, "values": _whole(values, named)}
        case {"type": dict() | list() as inner}:
            return _whole(inner, named)
        case str():
            return named.get(schema, {"type": schema})
        case _:
            return schema


def _type(schema: Any) -> str:
    return "union" if isinstance(schema, list) else str(schema["type"])


def _name(schema: Any) -> str:
    """A type as a person calls it."""
    if isinstance(schema, list):
        return " or ".join(_name(branch) for branch in schema)
    if isinstance(schema, str):
        return schema
    return str(schema.get("logicalType") or schema.get("name") or schema["type"])


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _differs(new: Any, old: Any, path: str) -> Found:
    """Both are whole."""
    if isinstance(old, list):
        for branch in old:
            yield from _branch(new, branch, path)
        return
    if isinstance(new, list):
        yield from _branch(new, old, path)
        return
    kind = _type(new)
    if kind != _type(old):
        if kind not in _WIDER.get(_type(old), ()):
            yield path, f"was {_name(old)} and is {_name(new)}: the bytes of before cannot be read as that"
            return
    elif kind in ("record", "enum", "fixed") and new["name"] != old["name"]:
        yield path, f"the type {old['name']} is called {new['name']} now: Avro reads a type by its name; keep it"
        return
    yield from _meaning(new, old, path)
    match kind:
        case "record":
            yield from _fields(new["fields"], old["fields"], path)
        case "enum":
            yield from _symbols(new, old, path)
        case "array":
            yield from _differs(new["items"], old["items"], f"{path}[]")
        case "map":
            yield from _differs(new["values"], old["values"], f"{path}{{}}")
        case "fixed" if new["size"] != old["size"]:
            yield path, f"was {old['size']} bytes and is {new['size']}"


def _branch(new: Any, old: Any, path: str) -> Found:
    """What was one of several types, or is now."""
    offered = new if isinstance(new, list) else [new]
    same = [branch for branch in offered if _type(branch) == _type(old)]
    wider = [branch for branch in offered if _type(branch) in _WIDER.get(_type(old), ())]
    if same or wider:
        named = [branch for branch in same if branch.get("name") == old.get("name")]
        yield from _differs([*named, *same, *wider][0], old, path)
    elif _type(old) == "null":
        yield path, "could be left out (null) and cannot now: events without it stand in the log"
    else:
        yield path, f"could be {_name(old)} and can only be {_name(new)} now: what was written so cannot be read"


def _meaning(new: Mapping[str, Any], old: Mapping[str, Any], path: str) -> Found:
    """Bytes that are read, and mean something else: Avro does not see these."""
    for prop in ("logicalType", "scale", "precision"):
        if new.get(prop) != old.get(prop):
            was, now = _said(old.get(prop)), _said(new.get(prop))
            yield path, f"{prop} was {was} and is {now}: the same bytes would be read as another value"
            return
    pair = old.get("format"), new.get("format")
    told = f"format was {_said(pair[0])} and is {_said(pair[1])}"
    if pair[0] == pair[1] or pair in _LOOSER:
        return
    if "decimal" in pair:
        yield path, f"{told}: the same bytes would be a number here, a text there"
    elif pair[1] is not None:
        yield path, f"{told}: values that were taken till now do not have it"


def _symbols(new: Mapping[str, Any], old: Mapping[str, Any], path: str) -> Found:
    gone = [symbol for symbol in old["symbols"] if symbol not in new["symbols"]]
    if gone:
        default = "" if "default" not in new else f", and would be told as {new['default']!r}, which nobody said"
        yield path, f"the symbols {', '.join(gone)} are gone: they stand in the log{default}. Keep them"
    added = [symbol for symbol in new["symbols"] if symbol not in old["symbols"]]
    if added and new.get("default") not in new["symbols"]:
        yield (
            path,
            (
                f"the symbols {', '.join(added)} are new and the enum has no default among its symbols: give it one,"
                " so that who reads by this version can read later ones"
            ),
        )


def _fields(new: list[dict[str, Any]], old: list[dict[str, Any]], path: str) -> Found:
    before = {field["name"]: field for field in old}
    after = {field["name"]: field for field in new}
    renamed = {alias: field["name"] for field in new for alias in field.get("aliases", ())}
    for name in before:
        if name not in after:
            other = renamed.get(name)
            reason = f"is called {other} now; the hub follows no aliases: keep its name" if other else _GONE
            yield _join(path, name), reason
    for name, field in after.items():
        where = _join(path, name)
        if name in before:
            yield from _field(field, before[name], where)
        elif "default" not in field:
            yield where, "is new and has no default: events of before do not have it, and cannot be read"
        elif field.get("summary") and not path:
            yield (
                where,
                (
                    "is new and marked summary: whoever was granted the summary only would see more than was granted."
                    " Leave the mark out, or introduce a new kind (R7, R9a)"
                ),
            )


_GONE = (
    "is gone: what the log holds of it could be shown to nobody. Keep it; where it has a default, it may be left out"
)


def _field(new: Mapping[str, Any], old: Mapping[str, Any], path: str) -> Found:
    if new.get("unit") != old.get("unit"):
        was, now = _said(old.get("unit")), _said(new.get("unit"))
        yield path, f"unit was {was} and is {now}: the same numbers would mean something else; add another field"
    if new.get("summary") and not old.get("summary"):
        yield (
            path,
            (
                "is marked summary now: whoever was granted the summary only would see more than was granted (R9a)."
                " Leave the mark out, or introduce a new kind"
            ),
        )
    if "default" in old and "default" not in new:
        yield path, "had a default and has none: sources that leave it out would be refused"
    elif "default" in old and json.dumps(new["default"]) != json.dumps(old["default"]):
        was, now = _said(old["default"]), _said(new["default"])
        yield path, f"default was {was} and is {now}: events without the field would say another thing than before"
    yield from _differs(new["type"], old["type"], path)
