"""Responses to a survey, as any form of export tells them: JSON, JSON by lines, CSV or TSV, XML, one by itself.

Each form becomes `Response`s with the API's names (`_recordId`, `endDate`, `QID5_1`), one by one: what cannot be
read is rejected by itself, in a form that can be read again.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from lxml import etree

from hub.connector import PayloadError, Rejected
from hub.connector.json import Field, parse
from hub.connector.table import Ragged, Row, decoded
from hub.connector.table import read as read_table
from hub.connector.xml import Node
from hub.connector.xml import read as read_xml
from hub_connector_qualtrics.survey import Survey, plain

LARGEST_JSON_BYTES = LARGEST_XML_BYTES = 16 * 1024 * 1024
MOST_VALUES = 1_000
MOST_RESPONSES = 100_000
_MOST_LINES = 1_000_000
_LOOKED_AT, _LOOKED_AT_LINES = 4 * 1024 * 1024, 20
LONGEST = 10_000

NAMES = {
    "responseid": "_recordId",
    "recordid": "_recordId",
    "status": "status",
    "finished": "finished",
    "startdate": "startDate",
    "enddate": "endDate",
    "recordeddate": "recordedDate",
    "distributionchannel": "distributionChannel",
    "externalreference": "externalDataReference",
    "externaldatareference": "externalDataReference",
}
"""What exports call a field that the API names, in lower case and without spaces."""

_OLD_COLUMN = re.compile(r"V[0-9]{1,3}")
_DATA = re.compile(r"R_[0-9A-Za-z]{1,60}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}\S{0,9}")
_QID = re.compile(r"(?:[0-9]{1,4}_)?QID[0-9]{1,9}(?:[_#][0-9A-Z_#]{1,40})?")
_NOT_A_LETTER = re.compile(r"[\s_]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """What a file says of its columns by their key: the name in its first row, the text in its second."""

    tags: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """One response. fields: what it says, by the API's names. labels: the same in words, where the form has both.

    where: the path of a field, for errors. alone: this response as a payload of its own.
    """

    fields: Mapping[str, Any]
    labels: Mapping[str, Any] = field(default_factory=dict)
    where: Callable[[str], str]
    alone: Callable[[], bytes]

    def texts(self, key: str) -> Sequence[str]:
        """What a field says: none where it is absent, null or empty; several where it is a list."""
        return texts(self.fields.get(key), self.where(key))

    def text(self, key: str) -> str:
        """What a field says, as one text; empty where it says nothing."""
        return ", ".join(self.texts(key))


def texts(value: Any, path: str) -> Sequence[str]:
    """The texts that a value holds, without white space around them. Raises PayloadError."""
    if value is None:
        return ()
    if not isinstance(value, list):
        text = _text(value, path)
        return (text,) if text else ()
    if len(value) > MOST_VALUES:
        raise PayloadError(f"holds more than {MOST_VALUES:,} values", path=path)
    return [text for part in value if part is not None and (text := _text(part, path))]


def _text(value: Any, path: str) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, Decimal):  # 5.0 is what another form of the export calls 5
        value = int(value) if abs(value) < 10**15 and value == int(value) else f"{value}"
    text = str(value) if isinstance(value, int) else value
    if not isinstance(text, str):
        raise PayloadError("is no text, number or list of them", path=path)
    if len(text) > LONGEST:
        raise PayloadError(f"is longer than {LONGEST:,} characters", path=path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PayloadError("holds half a surrogate", path=path) from None
    return text.replace("\r\n", "\n").strip()


Read = Iterator[Response | Rejected]


def of_json(top: Field) -> Read:
    """The responses of one JSON value: an export, a single reply, a response by itself."""
    if top.value.__class__ is dict and "responses" in top.value:
        listed = top.need("responses")
        if isinstance(listed.value, list):
            _bounded(len(listed.value), listed.path)
        for said in listed.items():
            yield _one(said, lambda said=said: json_bytes(said.value))  # type: ignore[misc]
        return
    result = top.optional("result") or top
    yield _one(result, lambda: json_bytes(result.value))


def _bounded(count: int, path: str = "", most: int = MOST_RESPONSES) -> None:
    if count > most:
        raise PayloadError(f"holds more than {most:,} {'responses' if most == MOST_RESPONSES else 'lines'}", path=path)


def are_lines(payload: bytes) -> bool:
    """Whether what is no JSON as a whole is JSON by lines: one of the first lines is a response by itself."""
    lines = [line.strip() for line in payload[:_LOOKED_AT].split(b"\n", _LOOKED_AT_LINES)]
    return any(line.startswith(b"{") and line.endswith(b"}") and b'"values"' in line for line in lines)


def of_lines(payload: bytes) -> Read:
    """The responses of JSON by lines."""
    _bounded(payload.count(b"\n"), most=_MOST_LINES)
    for number, line in enumerate(payload.split(b"\n"), 1):
        if not line.strip():
            continue
        path = f"line {number}"
        if len(line) > LARGEST_JSON_BYTES:
            yield Rejected(error=PayloadError("is larger than 16 MiB", path=path), payload=line[:1000])
            continue
        try:
            said = Field(parse(line), path)
        except PayloadError as error:
            yield Rejected(error=PayloadError(error.reason, path=path), payload=line.strip())
            continue
        yield _one(said, lambda line=line: line.strip())  # type: ignore[misc]


def _one(said: Field, alone: Callable[[], bytes]) -> Response | Rejected:
    prefix = f"{said.path}." if said.path else ""
    try:
        values, labels = said.need("values"), said.optional("labels")
        for part in (values, labels):
            if part is not None and not isinstance(part.value, dict):
                raise part.wrong("is no object")
        named = said.optional("responseId")
        fields = {**values.value, "_recordId": named.value} if named else values.value
    except PayloadError as error:
        return Rejected(error=error, payload=alone())
    return Response(
        fields=fields,
        labels=labels.value if labels else {},
        where=lambda key: f"{prefix}responseId" if key == "_recordId" and named else f"{prefix}values.{shown(key)}",
        alone=alone,
    )


def json_bytes(value: Any) -> bytes:
    """A value that was read from JSON, as JSON again."""
    return json.dumps(value, default=_number).encode()


def _number(value: Decimal) -> float | str:
    number = float(value)
    return number if abs(number) < 1e300 else str(value)


def shown(key: str) -> str:
    """A key as an error may show it: one of the format's own, never a word that somebody wrote."""
    return key if key in _KEYS or _QID.fullmatch(key) else "(a field)"


_KEYS = frozenset(NAMES.values())


def of_table(payload: bytes, survey: Survey, encoding: str, ref: str) -> tuple[Heads, Read]:
    """The responses of a CSV or TSV, and what its header rows say. ref: the column of the person's id.

    Raises PayloadError.
    """
    if payload.startswith((b"\xff\xfe", b"\xfe\xff")):  # as Qualtrics writes TSV
        try:
            payload, encoding = payload.decode("utf-16").encode(), "utf-8"
        except UnicodeError:
            raise PayloadError("is not UTF-16, as its first bytes say") from None
    _bounded(payload.count(b"\n"), most=_MOST_LINES)
    text = decoded(payload, (encoding,))
    first = text.partition("\n")[0]
    names, rows = read_table(text, "\t" if "\t" in first and "," not in first else ",")
    head, rows = _head(rows)
    keys = _keys(names, head, survey)
    if "_recordId" not in keys.values():
        raise PayloadError("the table has no column of response ids; is it an export of Qualtrics?", path="line 1")
    twice = [key for key, count in Counter(keys.values()).items() if count > 1]
    if twice:
        raise PayloadError("two of its columns have one import id", path=f"line {len(head) + 1}, {shown(twice[0])}")
    written = [names, *([row.cells.get(name, "") for name in names] for row in head)]
    return _heads(keys, head), _table_rows(rows, keys, written, ref)


def _head(rows: Iterator[Row | Ragged]) -> tuple[list[Row], Iterator[Row | Ragged]]:
    """The rows under the first that belong to the header: none, the texts, the import ids, or both."""
    head: list[Row] = []
    for row in rows:
        if isinstance(row, Ragged) and not head and not _DATA.search(_cells(row)[1]):
            raise row.error
        if not isinstance(row, Row) or not _belongs(row, head):
            return head, _again(row, rows)
        head.append(row)
    return head, iter(())


def _again(first: Row | Ragged, rows: Iterator[Row | Ragged]) -> Iterator[Row | Ragged]:
    yield first
    yield from rows


def _belongs(row: Row, head: Sequence[Row]) -> bool:
    """A response has an id of Qualtrics' form, or a time; a row of texts has neither."""
    if any(_are_imports(found) for found in head):
        return False
    return _are_imports(row) or (not head and not any(_DATA.fullmatch(cell.strip()) for cell in row.cells.values()))


def _are_imports(row: Row) -> bool:
    return any(cell.lstrip().startswith('{"ImportId"') for cell in row.cells.values())


def _keys(names: Sequence[str], head: Sequence[Row], survey: Survey) -> dict[str, str]:
    """The API's name of each named column."""
    imports = next((row.cells for row in head if _are_imports(row)), {})
    titles = _titles(head)
    return {
        name: _import_id(imports.get(name, ""))
        or _key(titles.get(name, name).strip() if _OLD_COLUMN.fullmatch(name) else name, survey)
        for name in names
        if name
    }


def _titles(head: Sequence[Row]) -> Mapping[str, str]:
    return next((row.cells for row in head if not _are_imports(row)), {})


def _import_id(cell: str) -> str | None:
    try:
        said = parse(cell) if cell.lstrip().startswith("{") else None
    except PayloadError:
        return None
    found = said.get("ImportId") if isinstance(said, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= 200 else None


def _key(name: str, survey: Survey) -> str:
    known = NAMES.get(_NOT_A_LETTER.sub("", name).casefold())
    if known is not None:
        return known
    found = survey.by_tag(name)
    return f"{found[0].id}{found[1]}" if found else name


def _heads(keys: Mapping[str, str], head: Sequence[Row]) -> Heads:
    titles = _titles(head)
    return Heads(
        tags={key: name for name, key in keys.items()},
        titles={key: plain(titles.get(name, "")[:2_000])[:300] for name, key in keys.items()},
    )


def _table_rows(rows: Iterator[Row | Ragged], keys: Mapping[str, str], head: Sequence[Sequence[str]], ref: str) -> Read:
    at = next((number for number, name in enumerate(head[0]) if name and ref in (name, keys[name])), None)
    for row in rows:
        if isinstance(row, Ragged):
            cells, _ = _cells(row)
            refs = [cells[at].strip()] if at is not None and at < len(cells) and cells[at].strip() else []
            yield Rejected(error=row.error, payload=_written([*head, cells]), refs=refs)
            continue
        yield Response(
            fields={key: row.cells[name] for name, key in keys.items()},
            where=lambda key, row=row: f"line {row.number}, {shown(key)}",  # type: ignore[misc]
            alone=lambda row=row: _written([*head, [row.cells.get(name, "") for name in head[0]]]),  # type: ignore[misc]
        )


def _cells(row: Ragged) -> tuple[list[str], str]:
    """The cells of a row that has too few or too many, and its text."""
    text = row.alone().decode()
    first = text.partition("\r\n")[0]
    delimiter = "\t" if "\t" in first and "," not in first else ","
    cells = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))[-1]
    return cells, delimiter.join(cells)


def _written(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()


def of_xml(payload: bytes) -> Read:
    """The responses of an XML export. Raises PayloadError."""
    root = read_xml(payload, LARGEST_XML_BYTES)
    if root.name != "Responses":
        raise PayloadError("its root is not Responses", path="Responses")
    _bounded(len(root.element), root.name)
    for said in root.children("Response"):
        yield _element(said)


def _element(said: Node) -> Response | Rejected:
    def where(key: str) -> str:
        return f"{said.path}/{shown(key)}"

    def alone() -> bytes:
        written: bytes = etree.tostring(said.element, with_tail=False)
        return b"<Responses>" + written + b"</Responses>"

    fields: dict[str, Any] = {}
    for part in said.element:
        name = Node(part).name
        if name in fields:
            return Rejected(error=PayloadError("stands more than once", path=where(name)), payload=alone())
        fields[name] = part.text or ""
    return Response(fields=fields, where=where, alone=alone)
