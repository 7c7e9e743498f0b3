"""土砂災害警戒情報 (VXWW50): in which municipalities landslides are so likely that all must leave (警戒レベル４相当).

Since 2026-05-29 it is called レベル４土砂災害危険警報 in titles and texts, in the same form. Ｒ０６ says the same by
VPWW56, which knows the levels 2, 3 and 5 besides (`warnings`); that is another chain.
"""

from __future__ import annotations

from collections.abc import Mapping

from hub.connector import PayloadError
from hub.connector.xml import Node
from hub_connector_jma.telegram import METEOROLOGY, MUNICIPALITIES, About, Hazard, Reading, Said, municipality, one_of

_TYPE = "土砂災害警戒情報"
_NONE, _ALERT = "0", "4"
_LIFTED = "1"
_LEVELS = {"0": _NONE, _LIFTED: _NONE, "3": _ALERT}
"""By Kind/Code: なし, 解除, 警戒."""


def _read(report: Node, about: About) -> Said:
    """All municipalities of the area; the chain is the EventID, which names area and kind and stays the same."""
    base: Hazard = {"hazard": "landslide", "chain": about.event_id}
    if about.cancelled:
        return [{**base, "areas": []}]
    items = [
        item
        for section in report.need("Body", METEOROLOGY).children("Warning")
        if section.attribute("type") == _TYPE
        for item in section.children("Item")
    ]
    if not items:
        raise PayloadError("names no municipality", path="Body/Warning")
    areas = [_area(item) for item in items]
    max_level = max(area["level"] for area in areas)
    lifted = any(item.need("Kind").need("Code").text() == _LIFTED for item in items)
    over = about.action == "issued" and lifted and max_level == _NONE
    return [{**base, "areas": areas, "max_level": max_level, **({"action": "lifted"} if over else {})}]


def _area(item: Node) -> Hazard:
    area, level = item.need("Area"), one_of(_LEVELS, item.need("Kind").need("Code"))
    code = area.need("Code")
    return {
        "area": municipality(code),
        "region": code.text(),
        "region_system": MUNICIPALITIES,
        "name": area.optional("Name"),
        "level": level,
        "warning": _TYPE if level == _ALERT else None,
    }


READS: Mapping[str, Reading] = {_TYPE: Reading(report="VXWW50", info_kind=_TYPE, read=_read)}
