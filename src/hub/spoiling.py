"""Payloads spoilt in many ways, for the tests of connectors: each leaf changed, cut, packed, nested, encoded wrongly.

Values are planted that no honest payload holds, so that an error which repeats one is found out.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from lxml import etree

PLANTED = "PLANTED-7Q9X"
NUMBER = 918273645546372
MOST_LEAVES = 60


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A payload, what was done to it, and whether that was to a field, which an error then has to name."""

    what: str
    payload: bytes
    field: bool = False


def spoilt(payload: bytes) -> Iterator[Spoilt]:
    """A payload in many spoilt forms, the same ones each time."""
    yield from _whole(payload)
    for spoil in (_json, _xml, _form, _table):
        found = list(spoil(payload))
        if found:
            yield from found
            return


def _whole(payload: bytes) -> Iterator[Spoilt]:
    yield Spoilt("empty", b"")
    yield Spoilt("white space", b" \n")
    for parts in (4, 2):
        yield Spoilt(f"cut after 1/{parts}", payload[: len(payload) // parts])
    yield Spoilt("cut at the end", payload[:-1])
    for at in range(0, len(payload), max(1, len(payload) // 16)):
        yield Spoilt(f"byte {at} changed", payload[:at] + bytes([payload[at] ^ 0x80]) + payload[at + 1 :])
    yield Spoilt("a zero byte in it", payload[:10] + b"\0" + payload[10:])
    yield Spoilt("not UTF-8", b"\xff\xfe" + payload)
    yield Spoilt("UTF-16", payload.decode("latin-1").encode("utf-16"))
    yield Spoilt("twice", payload + payload)
    yield Spoilt("JSON that is nested deeply", b"[" * 100_000)
    yield Spoilt("JSON with half a surrogate", b'{"a": "\\ud800"}')
    yield Spoilt("JSON with a huge number", b'{"a": 1e999999999, "b": ' + b"9" * 5000 + b"}")
    yield Spoilt("an array of nothing", b"[]")
    yield Spoilt("an object of nothing", b"{}")
    yield Spoilt("a text", json.dumps(PLANTED).encode())
    yield Spoilt("a zip of nothing", b"PK\x05\x06" + b"\0" * 18)
    outside = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>'
    yield Spoilt("XML with an entity from outside", b'<?xml version="1.0"?>' + outside)
    yield Spoilt("XML with its type from outside", b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a/>')
    laughs = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    yield Spoilt("XML that expands", b'<!DOCTYPE a [<!ENTITY l0 "ha">' + laughs + b"]><a>&l9;</a>")
    entities = b'<!DOCTYPE a [<!ENTITY b "' + PLANTED.encode() + b'">]><a>&b;</a>'
    yield Spoilt("XML with entities", b'<?xml version="1.0"?>' + entities)


def _json(payload: bytes) -> Iterator[Spoilt]:
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        return
    if not isinstance(said, dict | list):
        return
    leaves = _spread(list(_leaves(said)))
    values: list[Any] = [PLANTED, NUMBER, -1, "", None, [], {PLANTED: PLANTED}, True]
    for steps in leaves:
        where = ".".join(map(str, steps))
        for value in values:
            yield Spoilt(f"{where} = {type(value).__name__}", _with(said, steps, value), field=True)
        yield Spoilt(f"{where} taken out", _with(said, steps, _GONE), field=True)
    if isinstance(said, dict):
        for name, value in said.items():
            if isinstance(value, list):
                yield Spoilt(f"{name} is empty, and a field more", _with({**said, PLANTED: PLANTED}, (name,), []))
    yield Spoilt("a field more", _with(said, (*leaves[0][:-1], PLANTED), 1) if leaves else payload)


_GONE = object()


def _leaves(said: Any, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    parts: Any = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    for step, part in parts:
        yield (*steps, step)
        yield from _leaves(part, (*steps, step))


def _with(said: Any, steps: tuple[Any, ...], value: Any) -> bytes:
    fresh = json.loads(json.dumps(said))
    at = fresh
    for step in steps[:-1]:
        at = at[step]
    if value is _GONE:
        del at[steps[-1]]
    elif isinstance(at, dict) or isinstance(steps[-1], int):
        at[steps[-1]] = value
    return json.dumps(fresh, ensure_ascii=False).encode()


def _xml(payload: bytes) -> Iterator[Spoilt]:
    if not payload.lstrip().removeprefix(b"\xef\xbb\xbf").startswith(b"<"):
        return
    try:
        root = etree.fromstring(payload, etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        return
    count = sum(1 for _ in root.iter(etree.Element))
    for number in _spread(list(range(count))):
        for what in ("text", "number", "empty", "gone", "twice"):
            yield Spoilt(f"element {number} {what}", _changed(payload, number, what), field=what != "gone")


def _changed(payload: bytes, number: int, what: str) -> bytes:
    root = etree.fromstring(payload, etree.XMLParser(resolve_entities=False, no_network=True))
    element = list(root.iter(etree.Element))[number]
    parent = element.getparent()
    match what:
        case "text" | "number":
            element.text = PLANTED if what == "text" else str(NUMBER)
            for name in element.attrib:
                element.attrib[name] = element.text
        case "empty":
            element.text = None
        case "gone" if parent is not None:
            parent.remove(element)
        case "twice" if parent is not None:
            copy = etree.fromstring(etree.tostring(element, with_tail=False))
            parent.insert(parent.index(element), copy)
    return etree.tostring(root)


def _form(payload: bytes) -> Iterator[Spoilt]:
    line = payload.strip()
    if b"\n" in line or b"=" not in line or line[:1] in b"{[<":
        return
    pairs = parse_qsl(line.decode("latin-1"), keep_blank_values=True)
    for number, (name, _) in enumerate(pairs):
        for value in (PLANTED, "", str(NUMBER)):
            changed = [*pairs[:number], (name, value), *pairs[number + 1 :]]
            yield Spoilt(f"{name} = {'text' if value else 'empty'}", urlencode(changed).encode(), field=True)
        yield Spoilt(f"{name} taken out", urlencode(pairs[:number] + pairs[number + 1 :]).encode(), field=True)


def _table(payload: bytes) -> Iterator[Spoilt]:
    text, encoding = _text(payload)
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:
        return
    cells = [(y, x) for y, row in enumerate(rows[:6]) for x in range(len(row))]
    for y, x in _spread(cells):
        for value in (PLANTED, str(NUMBER), "", "-1"):
            changed = [list(row) for row in rows]
            changed[y][x] = value
            yield Spoilt(f"line {y + 1}, cell {x + 1}", _csv(changed, delimiter, encoding), field=y > 0)
    for y in range(min(len(rows), 4)):
        yield Spoilt(f"line {y + 1} shorter", _csv([*rows[:y], rows[y][:-1], *rows[y + 1 :]], delimiter, encoding))
        yield Spoilt(
            f"line {y + 1} longer", _csv([*rows[:y], [*rows[y], PLANTED], *rows[y + 1 :]], delimiter, encoding)
        )


def _text(payload: bytes) -> tuple[str, str]:
    for encoding in ("utf-8-sig", "cp932"):
        try:
            return payload.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return payload.decode("latin-1"), "latin-1"


def _csv(rows: list[list[str]], delimiter: str, encoding: str) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode(encoding)


def _spread(found: list[Any]) -> list[Any]:
    """At most MOST_LEAVES of them, spread evenly."""
    if len(found) <= MOST_LEAVES:
        return found
    return [found[number * len(found) // MOST_LEAVES] for number in range(MOST_LEAVES)]
