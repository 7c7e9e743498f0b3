"""An answer in the format that was asked for. All say the same: the canonical JSON is what was disclosed.

Connectors may bring further formats (`hub.connector.Renders`).

GeoJSON (RFC 7946): a feature an item; a location at a grid level is the square itself, not a point in it.
CSV (RFC 4180): a line an item, UTF-8 with a byte order mark, since it is opened in spreadsheets; a text that
a spreadsheet would run as a formula is preceded by an apostrophe.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.responses import Response

from hub import areas
from hub.canonical import dumps
from hub.connector import Renders
from hub.plugins import Plugins
from hub.web.problems import Problem

JSON = "application/json"
GEOJSON = "application/geo+json"
CSV = "text/csv"
FORMATS = (JSON, GEOJSON, CSV)

_ABOUT = ("exercise", "format", "next", "purpose", "recipient", "time")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_FIXED = ("person", "mode", "kind", "event", "source", "occurred_at", "recorded_at", "precision", "basis", "basis_id")


Renderers = Mapping[str, Renders]
"""By media type, the connectors that write answers in a format of their own."""


def renderers(plugins: Plugins) -> Renderers:
    """What the installed connectors offer beside the hub's own formats."""
    offered = [plugin for plugin in plugins.loaded() if isinstance(plugin, Renders)]
    return {form: plugin for plugin in offered for form in plugin.media_types if form not in FORMATS}


def chosen(accept: str | None, more: Renderers) -> str:
    """The format that `Accept` prefers, `more` being offered too. Raises Problem where none is offered."""
    if not accept:
        return JSON
    best: tuple[float, int, str] | None = None
    for number, part in enumerate(accept.split(",")):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        for offered in (*FORMATS, *more):
            fits = name in (offered, "*/*", offered.split("/")[0] + "/*")
            if fits and weight > 0 and (best is None or (-weight, number) < best[:2]):
                best = -weight, number, offered
    if best is None:
        raise Problem("not-acceptable", f"Offered: {', '.join((*FORMATS, *more))}.")
    return best[2]


def rendered(body: bytes, form: str, more: Renderers) -> bytes:
    """The answer `body` (canonical JSON) in a format."""
    if form == JSON:
        return body
    answer = json.loads(body)
    if form in more:
        return more[form].render(answer, form)
    return _geojson(answer) if form == GEOJSON else _csv(answer)


def etag(body: bytes, form: str) -> str:
    """A weak tag of what an answer shows: the time of the answer aside, and nothing but what is in it (R20)."""
    answer = json.loads(body)
    answer.pop("time", None)
    return f'W/"{hashlib.sha256(form.encode() + dumps(answer)).hexdigest()[:32]}"'


def matches(header: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names the tag (weak comparison, RFC 9110 13.1.2)."""
    if header is None:
        return False
    names = [part.strip().removeprefix("W/") for part in header.split(",")]
    return "*" in names or tag.removeprefix("W/") in names


UNKEPT = {"Cache-Control": "private, no-cache", "Vary": "Accept", "X-Content-Type-Options": "nosniff"}
"""What every answer says to caches on the way."""


def response(body: bytes, form: str, headers: Mapping[str, str]) -> Response:
    """The answer as it leaves, in its format already."""
    kind = f"{form}; charset=utf-8" if form == CSV else form
    return Response(body, headers={**UNKEPT, **headers, "Content-Type": kind})


def _items(answer: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for person in answer["persons"]:
        for item in person["items"]:
            [(basis, basis_id)] = item["basis"].items()
            told = {**item, "person": person["person"], "mode": person["mode"], "basis": basis, "basis_id": basis_id}
            yield {name: told[name] for name in _FIXED}, item["data"]


def _geojson(answer: Mapping[str, Any]) -> bytes:
    features = [
        {"type": "Feature", "geometry": _geometry(data), "properties": {**fixed, "data": data}}
        for fixed, data in _items(answer)
    ]
    about = {name: answer[name] for name in _ABOUT}
    return dumps({"type": "FeatureCollection", "features": features, **about})


def _geometry(data: Mapping[str, Any]) -> dict[str, Any] | None:
    if "mesh" in data:
        south, west, north, east = areas.bounds(data["mesh"])
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        return {"type": "Polygon", "coordinates": [ring]}
    if "lat_deg" in data and "lon_deg" in data:
        lat_deg, lon_deg = data["lat_deg"], data["lon_deg"]
        if -90 <= lat_deg <= 90 and -180 <= lon_deg <= 180:
            return {"type": "Point", "coordinates": [lon_deg, lat_deg]}
    return None


def _csv(answer: Mapping[str, Any]) -> bytes:
    rows = list(_items(answer))
    names = sorted({name for _, data in rows for name in data})
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*_FIXED, *(f"data.{name}" for name in names)])
    for fixed, data in rows:
        writer.writerow([_cell(fixed[name]) for name in _FIXED] + [_cell(data.get(name)) for name in names])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return dumps(value).decode()
