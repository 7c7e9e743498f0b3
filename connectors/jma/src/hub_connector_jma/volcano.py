"""噴火警報・予報 (VFVO50), the volcano's alert level in each municipality, and 噴火速報 (VFVO56), that it erupts.

The chain of warnings is the volcano's code; each VFVO50 is complete for its volcano. An eruption is a chain of its own
(EventID), so that a flash report hides no level.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hub.connector import PayloadError
from hub.connector.xml import Node
from hub_connector_jma.telegram import (
    MUNICIPALITIES,
    VOLCANOLOGY,
    About,
    Hazard,
    Reading,
    Said,
    municipality,
    one_of,
)

ERUPTION = "eruption"
"""The level of 噴火速報, which states none: that the volcano erupts. It stands outside the scale."""

LEVELS: Mapping[str, int] = {
    "11": 1,
    "12": 2,
    "13": 3,
    "14": 4,
    "15": 5,
    # Volcanoes without levels: 活火山であることに留意, 火口周辺危険, 入山危険, 山麓厳重警戒, 居住地域厳重警戒
    "21": 1,
    "22": 2,
    "23": 3,
    "24": 4,
    "25": 5,
    # Under the sea: 活火山であることに留意, 周辺海域警戒
    "35": 1,
    "36": 2,
}
"""By the code of what is said of the volcano."""

_REACHES: Mapping[str, int] = {
    "01": 5,  # 噴火警報
    "02": 3,  # 火口周辺警報
    "03": 2,  # 噴火警報（周辺海域）
    "04": 1,  # 噴火予報：警報解除
    "05": 1,  # 噴火予報
}
"""By the code of what is said of a municipality: the highest level that it can mean there."""

_OF_VOLCANO = "噴火警報・予報（対象火山）"
_OF_MUNICIPALITIES = "噴火警報・予報（対象市町村等）"
_ERUPTION_OF_VOLCANO = "噴火速報"
_ERUPTION_OF_MUNICIPALITIES = "噴火速報（対象市町村等）"
_POINT = re.compile(r"([+-])(\d{2})(\d{2}\.\d{1,4})([+-])(\d{3})(\d{2}\.\d{1,4})(?:[+-]\d{1,5})?/")


def _warning(report: Node, about: About) -> Said:
    if about.cancelled:
        return [_hazard(about.event_id, areas=[])]
    body = report.need("Body", VOLCANOLOGY)
    item, volcano = _volcano(body, _OF_VOLCANO)
    level = one_of(LEVELS, item.need("Kind").need("Code"))
    last = item.child("LastKind")
    before = one_of(LEVELS, last.need("Code")) if last and last.optional("Code") else 1
    areas = [
        _place(area, str(min(level, one_of(_REACHES, kind.need("Code")))), kind)
        for kind, area in _municipalities(body, _OF_MUNICIPALITIES)
    ]
    ended = about.action == "issued" and level == 1 < before
    return [
        _hazard(
            about.event_id,
            action="lifted" if ended else None,
            areas=areas,
            max_level=str(level),
            **_point(volcano),
        )
    ]


def _eruption(report: Node, about: About) -> Said:
    if about.cancelled:
        return [_hazard(about.event_id, areas=[])]
    body = report.need("Body", VOLCANOLOGY)
    item, volcano = _volcano(body, _ERUPTION_OF_VOLCANO)
    areas = [_place(area, ERUPTION, kind) for kind, area in _municipalities(body, _ERUPTION_OF_MUNICIPALITIES)]
    event_time = item.child("EventTime")
    began_at = event_time.optional_time("EventDateTime") if event_time else None
    return [_hazard(about.event_id, areas=areas, max_level=ERUPTION, origin_at=began_at, **_point(volcano))]


def _hazard(chain: str, **said: Any) -> Hazard:
    return {"hazard": "volcano", "chain": chain, **{name: value for name, value in said.items() if value is not None}}


def _infos(body: Node, type_: str) -> list[Node]:
    return [info for info in body.children("VolcanoInfo") if info.attribute("type") == type_]


def _volcano(body: Node, type_: str) -> tuple[Node, Node]:
    """The one item about the volcano, and the volcano. Municipalities are not told by volcano, so two are an error."""
    found = [
        (item, area)
        for info in _infos(body, type_)
        for item in info.children("Item")
        for area in item.need("Areas").children("Area")
    ]
    if len(found) != 1:
        raise PayloadError("names no volcano, or several", path="Body/VolcanoInfo")
    return found[0]


def _municipalities(body: Node, type_: str) -> Iterator[tuple[Node, Node]]:
    """What is said, and of which municipality; none for a volcano in the sea."""
    for info in _infos(body, type_):
        for item in info.children("Item"):
            for area in item.need("Areas").children("Area"):
                yield item.need("Kind"), area


def _place(area: Node, level: str, kind: Node) -> dict[str, Any]:
    code = area.need("Code")
    place = {
        "area": municipality(code),
        "region": code.text(),
        "region_system": MUNICIPALITIES,
        "name": area.optional("Name"),
        "level": level,
        "warning": kind.optional("Name"),
    }
    return {name: value for name, value in place.items() if value is not None}


def _point(volcano: Node) -> dict[str, float]:
    """Degrees of the summit, which JMA gives in degrees and minutes (+3514.00+13901.25+1438/)."""
    said = volcano.child("Coordinate")
    if said is None or not said.text():
        return {}
    found = _POINT.fullmatch(said.text())
    if not found:
        raise said.wrong("is no point in degrees and minutes (+3514.00+13901.25+1438/)")
    lat_deg, lon_deg = (
        float(sign + "1") * round(float(degrees) + float(minutes) / 60, 5)
        for sign, degrees, minutes in (found.groups()[:3], found.groups()[3:])
    )
    if abs(lat_deg) > 90 or abs(lon_deg) > 180:
        raise said.wrong("is no point on Earth")
    return {"lat_deg": lat_deg, "lon_deg": lon_deg}


READS: Mapping[str, Reading] = {
    "噴火警報・予報": Reading(report="VFVO50", info_kind="噴火警報・予報", read=_warning),
    "噴火速報": Reading(report="VFVO56", info_kind="噴火速報", read=_eruption),
}
