"""指定河川洪水予報 (VXKOii): floods of a large river (予報区域), by the municipalities that it would flood.

The headline gives the river's level. Which municipalities have it, the body says by gauge: each gauge's 主文
begins with its level (【警戒レベル４相当】), and 浸水想定地区 lists the municipalities behind each gauge. So the town
far upstream, whose gauge is at level 2, is not put at level 5 with the one that is under water.

From 2026-05-29 the names are レベル５氾濫特別警報, レベル４氾濫危険警報, レベル３氾濫警報 and レベル２氾濫注意報; the
codes and the form stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hub.connector import PayloadError
from hub.connector.xml import Node
from hub_connector_jma.telegram import HEAD, METEOROLOGY, MUNICIPALITIES, About, Hazard, Reading, Said, municipality

_TYPE = "指定河川洪水予報"
_RIVER = "指定河川洪水予報（予報区域）"
_NONE = "0"
_CODE = re.compile(r"[1-5][0-9]")
"""The first digit is the level, but 1 is 解除: 10 氾濫注意情報解除, 20 注意, 30 警戒, 40 危険, 50 to 54 発生."""
_LEVEL = re.compile(r"【警戒レベル([１-５1-5])(?:相当)?】")
_RIVER_CODE = re.compile(r"[0-9]{10,12}")
_FLOODED = frozenset(("1", "2"))
"""Kind/Code of 浸水想定地区, and of 浸水想定地区（氾濫発生情報）: where the water goes from where it broke out."""
_PREFECTURES = frozenset(f"{number:02}" for number in range(1, 48))


def _read(report: Node, about: About) -> Said:
    """The chain is the EventID: the forecast area's code, the same for every flood of the river."""
    base: Hazard = {"hazard": "flood", "chain": about.event_id}
    if about.cancelled:
        return [{**base, "areas": []}]
    river = _river(report)
    level, name = river["level"], river["warning"]
    items = [item for section in _sections(report) for item in section.children("Item")]
    levels = {} if level == _NONE else _levels_of_gauges(items, level)
    places: dict[str, dict[str, Any]] = {}
    for area in _flooded(items):
        found = _municipality(area, levels, level, name)
        key = found["region"] or found["name"] or ""
        if key not in places or places[key]["level"] < found["level"]:
            places[key] = found
    over = about.action == "issued" and level == _NONE
    return [
        {
            **base,
            "areas": [river, *places.values()],
            "max_level": level,
            **({"action": "lifted"} if over else {}),
        }
    ]


def _river(report: Node) -> dict[str, Any]:
    """The forecast area, from the headline. It is no area code: it declares nothing."""
    headline = report.need("Head", HEAD).need("Headline")
    found = [one for one in headline.children("Information") if one.attribute("type") == _RIVER]
    if len(found) != 1:
        raise PayloadError(
            "is missing, or stands more than once, for the forecast area", path="Head/Headline/Information"
        )
    item = found[0].need("Item")
    kind, area = item.need("Kind"), item.need("Areas").need("Area")
    code, river = kind.need("Code"), area.need("Code")
    if not _CODE.fullmatch(code.word()):
        raise code.wrong("is no kind of flood forecast (10 to 59)")
    if not _RIVER_CODE.fullmatch(river.word()):
        raise river.wrong("is no code of a forecast area (ten to twelve digits)")
    lifted = code.text()[0] == "1"
    return {
        "area": None,
        "region": river.text(),
        "region_system": _RIVER,
        "name": area.optional("Name"),
        "level": _NONE if lifted else code.text()[0],
        "warning": None if lifted else kind.need("Name").word(),
    }


def _sections(report: Node) -> list[Node]:
    """None where the body is empty: the river's systems failed, and JMA sends the headline alone."""
    body = report.need("Body", METEOROLOGY)
    return [one for one in body.children("Warning") if one.attribute("type") == _TYPE]


def _levels_of_gauges(items: Sequence[Node], level: str) -> dict[str, str]:
    """The level at each gauge that has a 主文, by its code; empty where they do not account for the river's level.

    A 主文 without a level says that the water is below every one. Before 2019 none had a level.
    """
    levels: dict[str, str] = {}
    for item in items:
        stations = item.child("Stations")
        text = _main_text(item)
        if stations is None or text is None:
            continue
        said = _LEVEL.search(text)
        for station in stations.children("Station"):
            code = station.need("Code").word()
            levels[code] = max(levels.get(code, _NONE), str(int(said[1])) if said else _NONE)
    return levels if max(levels.values(), default=_NONE) == level else {}


def _main_text(item: Node) -> str | None:
    for kind in item.children("Kind"):
        for said in kind.children("Property"):
            if said.optional("Type") == "主文":
                return said.optional("Text")
    return None


def _flooded(items: Sequence[Node]) -> Iterator[Node]:
    for item in items:
        if any(kind.optional("Code") in _FLOODED for kind in item.children("Kind")):
            yield from item.need("Areas").children("Area")


def _municipality(area: Node, levels: Mapping[str, str], river: str, name: str | None) -> dict[str, Any]:
    """The level is its gauge's. Where no gauge stands beside it, or nothing is said of that one, the river's.

    A code of no prefecture (0000000 in samples) names no municipality.
    """
    code = area.need("CityCode")
    place = municipality(code)
    known = place[:2] in _PREFECTURES
    level = levels.get(area.optional("Code") or "", river)
    return {
        "area": place if known else None,
        "region": code.text() if known else None,
        "region_system": MUNICIPALITIES if known else None,
        "name": area.optional("City"),
        "level": level,
        "warning": name if level == river else None,
    }


READS: Mapping[str, Reading] = {_TYPE: Reading(report="VXKO", info_kind=_TYPE, read=_read)}
