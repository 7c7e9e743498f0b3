"""The rows of a table and the features of a GeoJSON file, as one thing: cells by the plain names of their columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from hub.connector import PayloadError, table
from hub.connector.json import Field
from hub.connector.json import read as read_json
from hub.connector.table import Cell
from hub_connector_shelters import columns

T = TypeVar("T")
MOST_BYTES = 16 * 1024 * 1024
MOST_RECORDS = 20_000
ENCODINGS = ("utf-8", "cp932")
"""UTF-8 with or without its mark, else what Excel of a Japanese Windows writes."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the file says of one place. where: its line or feature. alone: it alone, as a payload.

    wrong: what is wrong with its form as a whole; it may still have cells.
    """

    where: str
    cells: Mapping[str, str]
    alone: Callable[[], bytes]
    wrong: PayloadError | None = None

    def cell(self, names: tuple[str, ...]) -> Cell | None:
        """The first of the columns called so that the file has; None where it has none."""
        for name in names:
            if name in self.cells:
                return Cell(self.cells[name].strip(), f"{self.where}, {name}")
        return None

    def text(self, names: tuple[str, ...]) -> str:
        """What stands in the first of the columns called so that is not empty; else nothing."""
        return next((found for name in names if (found := self.cells.get(name, "").strip())), "")


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A file that says that there is no list of this municipality."""


def read(payload: bytes) -> list[Record] | Unavailable:
    """The records of a payload, CSV or GeoJSON. Raises PayloadError."""
    start = payload[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"{", b"[")):
        return _geojson(read_json(payload, MOST_BYTES))
    return list(_few(_table(table.decoded(payload, ENCODINGS, MOST_BYTES))))


def _few(found: Iterable[T]) -> Iterator[T]:
    """As many as a prefecture may have; more are no list of one publisher."""
    for number, one in enumerate(found):
        if number >= MOST_RECORDS:
            raise PayloadError(f"names more than {MOST_RECORDS:,} places")
        yield one


def _table(text: str) -> Iterator[Record]:
    header, rows = table.read(text)
    names = [(columns.plain(name), name) for name in header if name]
    if not any(name in columns.NAME for name, _ in names):  # an ID in ASCII is read in any wrong encoding
        reason = "has no 名称 among its columns: it is no list of shelters, or in another encoding"
        raise PayloadError(reason, path="line 1")
    if len({name for name, _ in names}) != len(names):
        raise PayloadError("its header says a name twice", path="line 1")
    times = [(name, time) for name, _ in names if (time := columns.timed(name))]
    for row in rows:
        where = f"line {row.number}"
        if isinstance(row, table.Ragged):
            yield Record(where, {}, row.alone, row.error)
        else:
            cells = {name: row.cells[said] for name, said in names}
            yield Record(where, _with_time(cells, times), row.alone)


def _with_time(cells: dict[str, str], times: list[tuple[str, str]]) -> dict[str, str]:
    """The cells, where a head-count's column says the time, as if they stood in two columns."""
    for name, time in times:
        cells.setdefault(columns.PEOPLE[0], cells[name])
        cells.setdefault(columns.COUNTED_AT[0], time)
    return cells


def _geojson(file: Field) -> list[Record] | Unavailable:
    if not isinstance(file.value, dict):
        raise PayloadError("is no GeoJSON FeatureCollection")
    type_ = file.need("type").word()
    if type_ == "unavailable":
        return Unavailable()
    if type_ != "FeatureCollection":
        raise file.need("type").wrong("is not FeatureCollection")
    found = [_feature(feature) for feature in _few(file.need("features").items())]
    names = {name for record in found for name in record.cells}
    if names and not names.intersection(columns.NAME):
        raise file.need("features").wrong("have no 名称: it is no list of shelters")
    return found


def _feature(feature: Field) -> Record:
    """A feature; one whose geometry cannot be read keeps what else it says."""
    alone = _alone(feature.value)
    cells: dict[str, str] = {}
    try:
        for name, value in _properties(feature).items():
            cells.setdefault(columns.plain(name), _text(value))
        _with_time(cells, [(name, time) for name in cells if (time := columns.timed(name))])
    except PayloadError as error:
        return Record(feature.path, {}, alone, error)
    try:
        cells |= _point(feature.optional("geometry"))
    except PayloadError as error:
        return Record(feature.path, cells, alone, error)
    return Record(feature.path, cells, alone)


def _properties(feature: Field) -> dict[str, Any]:
    properties = feature.need("properties")
    if not isinstance(properties.value, dict):
        raise properties.wrong("is no object")
    try:
        "".join(part for pair in properties.value.items() for part in pair if isinstance(part, str)).encode()
    except UnicodeEncodeError:
        raise properties.wrong("holds half a surrogate pair") from None
    return properties.value


def _text(value: Any) -> str:
    """A property as a cell would have it; lists and objects are nothing that a form has."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, str | int | Decimal) else ""


def _point(geometry: Field | None) -> dict[str, str]:
    """Longitude and latitude. A third number is a height above the ellipsoid, not above the sea: it is not read."""
    if geometry is None:
        return {}
    if geometry.need("type").word() != "Point":
        raise geometry.need("type").wrong("is not Point")
    numbers = list(geometry.need("coordinates").items())
    if len(numbers) not in (2, 3):
        raise geometry.need("coordinates").wrong("has not two or three numbers")
    lon, lat = (number.number(-1e9, 1e9) for number in numbers[:2])
    return {columns.LON[0]: f"{float(lon):.8f}", columns.LAT[0]: f"{float(lat):.8f}"}


def _alone(feature: Any) -> Callable[[], bytes]:
    def written() -> bytes:
        collection = {"type": "FeatureCollection", "features": [feature]}
        try:
            return json.dumps(collection, default=_number).encode()
        except RecursionError:
            return b""

    return written


def _number(value: Decimal) -> float | str:
    number = float(value)
    return number if abs(number) < 1e300 else str(value)
