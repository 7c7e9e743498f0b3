"""The areas of an alert as rows of `hazard.reported`: area codes where a code surely is one, all else as written.

An `area` of CAP has any number of outlines and codes, in code systems that each sender names as it likes. Each of them
gives a row. What is not surely the code of a Japanese municipality or prefecture stays the sender's own region, and
declares nothing.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from hub.connector.xml import Node

SYSTEMS: Mapping[str, str] = {
    "jisx0401": "prefecture",
    "都道府県コード": "prefecture",
    "jisx0402": "municipality",
    "jisx04010402": "municipality",
    "市区町村コード": "municipality",
    "市町村コード": "municipality",
    "地方公共団体コード": "municipality",
    "全国地方公共団体コード": "municipality",
    "areainformationcity": "jma",
    "気象情報市町村等": "jma",
    "気象地震火山情報市町村等": "jma",
}
"""What a valueName says its codes are, by its letters and digits alone: `JIS X 0402:2020` is `jisx0402`."""

FORMS = ("prefecture", "municipality", "jma")
POLYGON, CIRCLE = "polygon", "circle"
LONGEST_NAME = 4_000
MOST_POINTS = 10_000
_LONGEST_CODE = 200
_LONGEST_POINT = 60

_POINT = re.compile(r"([+-]?\d{1,3}(?:\.\d{1,15})?),([+-]?\d{1,3}(?:\.\d{1,15})?)", re.ASCII)
_CIRCLE = re.compile(rf"{_POINT.pattern} (\d{{1,5}}(?:\.\d{{1,9}})?)", re.ASCII)
_EDITION = re.compile(r"[:\-]\d{4}$", re.ASCII)
_CHECK_WEIGHTS = (6, 5, 4, 3, 2)
_CORNERS = 36
_EARTH_KM = 6371.0088
_LARGEST_KM = 1_000


def rows(area: Node, systems: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of one `area`, without level; a single one with its name where it has neither code nor outline.

    systems: by plain valueName, the form of its codes. Raises PayloadError.
    """
    name = limited(area.need("areaDesc"), LONGEST_NAME)
    places = [*_codes(area, systems), *_outlines(area)]
    for place in places or [{}]:
        yield {"name": name, **place}


def plain(value_name: str) -> str:
    """A valueName without its edition, and of it the letters and digits only, so that spelling does not count."""
    name = unicodedata.normalize("NFKC", value_name).casefold()
    return "".join(letter for letter in _EDITION.sub("", name) if letter.isalnum())


def limited(node: Node, longest: int) -> str:
    """Its text, which must not be empty, nor longer than `longest`."""
    text = node.word()
    if len(text) > longest:
        raise node.wrong(f"is longer than {longest:,} characters")
    return text


def _codes(area: Node, systems: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for geocode in area.children("geocode"):
        system = limited(geocode.need("valueName"), _LONGEST_CODE)
        value = geocode.need("value")
        if not value.text():
            continue
        code = limited(value, _LONGEST_CODE)
        found = _area_code(code, systems.get(plain(system)))
        row = {"region": code, "region_system": system}
        yield row if found is None else {"area": found, **row}


def _area_code(code: str, form: str | None) -> str | None:
    """The area code that a code of this form says; None where it says none."""
    if not code.isascii() or not code.isdigit() or not 1 <= int(code[:2]) <= 47:
        return None
    match form, len(code):
        case "prefecture", 2:
            return code
        case "municipality", 5:
            return _municipality(code)
        case "municipality", 6 if code[5] == _check_digit(code):
            return _municipality(code[:5])
        case "jma", 7 if code[2:5] != "000":
            return code[:5]
    return None


def _municipality(code: str) -> str:
    """07000 is the prefecture itself in the list of local governments."""
    return code[:2] if code[2:] == "000" else code


def _check_digit(code: str) -> str:
    total = sum(int(digit) * weight for digit, weight in zip(code[:5], _CHECK_WEIGHTS, strict=True))
    return str((11 - total % 11) % 10)


def _outlines(area: Node) -> Iterator[dict[str, Any]]:
    """An outline that is none is kept as written: an alert must not hang on a point of a map."""
    for polygon in area.children("polygon"):
        if polygon.text():
            outline = _polygon(polygon)
            yield {"polygon": outline} if outline else {"region": _cut(polygon), "region_system": POLYGON}
    for circle in area.children("circle"):
        if circle.text():
            outline = _round(circle.text())
            row = {"region": _cut(circle), "region_system": CIRCLE}
            yield {**row, "polygon": outline} if outline else row


def _cut(node: Node) -> str:
    return node.text()[:_LONGEST_CODE]


def _polygon(node: Node) -> str | None:
    """The outline with its digits as written; None where it is none: too few points, not closed, no coordinates."""
    text = node.text()
    if text.count(" ") >= MOST_POINTS or len(text) > MOST_POINTS * _LONGEST_POINT:
        raise node.wrong(f"has more than {MOST_POINTS:,} points")
    points = []
    for pair in text.split(" "):
        found = _POINT.fullmatch(pair)
        if not found or not _on_earth(found):
            return None
        points.append(f"{found[1].lstrip('+')},{found[2].lstrip('+')}")
    closed = len(points) >= 4 and points[0] == points[-1]
    return " ".join(points) if closed else None


def _on_earth(found: re.Match[str]) -> bool:
    return abs(float(found[1])) <= 90 and abs(float(found[2])) <= 180


def _round(text: str) -> str | None:
    """A polygon of 36 corners around the circle, for the map; None for a point or a pole, across 180°, or if huge."""
    found = _CIRCLE.fullmatch(text)
    if not found or not _on_earth(found) or not 0 < float(found[3]) <= _LARGEST_KM:
        return None
    lat, lon = math.radians(float(found[1])), math.radians(float(found[2]))
    angle = float(found[3]) / _EARTH_KM / math.cos(math.pi / _CORNERS)
    if abs(lat) + angle >= math.radians(89):
        return None
    corners = []
    for number in range(_CORNERS):
        bearing = 2 * math.pi * number / _CORNERS
        north = math.asin(math.sin(lat) * math.cos(angle) + math.cos(lat) * math.sin(angle) * math.cos(bearing))
        ahead = math.cos(angle) - math.sin(lat) * math.sin(north)
        east = lon + math.atan2(math.sin(bearing) * math.sin(angle) * math.cos(lat), ahead)
        if abs(math.degrees(east)) > 180:
            return None
        corners.append(f"{math.degrees(north):.4f},{math.degrees(east):.4f}")
    return " ".join([*corners, corners[0]])
