"""津波警報・注意報・予報 (VTSE41): what stands on each coast, and on which municipalities.

A telegram names forecast areas (津波予報区) alone; `coasts.toml` says which municipalities lie on each. Every VTSE41
is complete for its earthquakes: an area that it leaves out has nothing. One about several earthquakes speaks for the
chain of each.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from hub.connector import PayloadError
from hub.connector.xml import Node
from hub_connector_jma.telegram import BASIS, SEISMOLOGY, About, Hazard, Reading, Said, one_of

FORECAST_AREAS = "津波予報区"

COASTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    code: tuple((area, name) for area, name in coast["municipalities"])
    for code, coast in tomllib.loads(
        files("hub_connector_jma").joinpath("coasts.toml").read_text(encoding="utf-8")
    ).items()
}
"""By the forecast area's code: the municipalities on it, code and name."""

LEVELS: Mapping[str, int] = {
    "00": 0,  # 津波なし
    "50": 0,  # 警報解除
    "51": 4,  # 津波警報
    "52": 5,  # 大津波警報
    "53": 5,  # 大津波警報：発表
    "60": 0,  # 津波注意報解除
    "62": 2,  # 津波注意報
    "71": 1,  # 津波予報（若干の海面変動）
    "72": 1,
    "73": 1,
}
"""By the code of the kind. What is 2 or more asks people to leave the sea or the coast."""

_ADVISORY = 2
_HEIGHT = re.compile(r"\d{1,3}(?:\.\d{1,2})?")


def _warning(report: Node, about: About) -> Said:
    if not about.event_ids:
        raise PayloadError("is empty", path="Head/EventID")
    said = {"areas": []} if about.cancelled else _forecast(report, about)
    return [{"hazard": "tsunami", "chain": chain, **said} for chain in about.event_ids]


def _forecast(report: Node, about: About) -> Hazard:
    items = report.need("Body", SEISMOLOGY).need("Tsunami").need("Forecast").children("Item")
    if not items:
        raise PayloadError("is missing", path="Body/Tsunami/Forecast/Item")
    now = [_level(item, "Kind") for item in items]
    before = [_level(item, "LastKind") for item in items]
    return {
        "action": _action(about.action, now, before),
        "areas": [place for item, level in zip(items, now, strict=True) for place in _places(item, str(level))],
        "max_level": str(max(now)),
    }


def _action(said: str, now: Sequence[int], before: Sequence[int]) -> str:
    """発表 is said of a change and of the end as well; the kinds before and now tell them apart."""
    if said == "amended" or max(before) < _ADVISORY:
        return said
    return "amended" if max(now) >= _ADVISORY else "lifted"


def _level(item: Node, name: str) -> int:
    category = item.need("Category")
    kind = category.need("Kind") if name == "Kind" else category.child(name)
    return one_of(LEVELS, kind.need("Code")) if kind else 0


def _places(item: Node, level: str) -> list[dict[str, Any]]:
    """The coast's municipalities; the area alone where we know none."""
    area = item.need("Area")
    code = area.need("Code")
    if not re.fullmatch(r"[0-9]{3}", code.text()):
        raise code.wrong("is no code of a tsunami forecast area (three digits)")
    first = item.child("FirstHeight")
    said = {
        "region": code.text(),
        "region_system": FORECAST_AREAS,
        "level": level,
        "warning": item.need("Category").need("Kind").optional("Name"),
        "arrival_at": first.optional_time("ArrivalTime") if first else None,
        "height_m": _height(item),
    }
    said = {name: value for name, value in said.items() if value is not None}
    known = COASTS.get(code.text())
    if known is None:
        return [{"area": None, "name": area.optional("Name"), **said}]
    return [{"area": municipality, "name": name, **said} for municipality, name in known]


def _height(item: Node) -> float | None:
    """Metres. None where JMA gives a word (巨大, 高い) instead, with NaN in the place of a number."""
    highest = item.child("MaxHeight")
    found = highest.child("TsunamiHeight", BASIS) if highest else None
    if found is None or found.text() in ("", "NaN"):
        return None
    if not _HEIGHT.fullmatch(found.text()):
        raise found.wrong("is no height in metres")
    return float(found.text())


READS: Mapping[str, Reading] = {
    "津波警報・注意報・予報a": Reading(report="VTSE41", info_kind="津波警報・注意報・予報", read=_warning),
}
