"""Warnings and advisories of the weather (気象特別警報・警報・注意報): what they say of each municipality, by hazard.

    VPWW50, 53, 54   one telegram for all hazards of a forecast area
    VPWW55 to 61     one telegram for each hazard, since 2026-05-29 (Ｒ０６), with 警戒レベル in the names

A telegram is complete for its area: a hazard of which it says nothing is not warned of any more. So each telegram gives
a report for every hazard of its form, with all municipalities, and those without a warning have level 0.

**Levels** are 警戒レベル. Ｒ０６ writes them into the names (レベル４大雨危険警報). Before, the names have those of
内閣府「避難情報に関するガイドライン」 and JMA's 「防災気象情報と警戒レベルとの対応について」, as from 2021 to May 2026:
大雨警報 and 洪水警報 3, 高潮警報 4, 注意報 2. Wind, snow and waves are not in that table: their 警報 count as 3, their
特別警報 as 5. 高潮特別警報 counts as 5 as well, since a 特別警報 declares; that table has it at 4 with 高潮警報.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.connector import PayloadError
from hub.connector.xml import Node
from hub_connector_jma.offices import area_of
from hub_connector_jma.telegram import HEAD, METEOROLOGY, MUNICIPALITIES, About, Hazard, Reading, Said, municipality

NONE = "0"
"""No warning, or lifted (解除)."""

_KINDS: Mapping[str, tuple[str, str]] = {
    "02": ("storm", "3"),  # 暴風雪警報
    "03": ("heavy_rain", "3"),  # 大雨警報
    "04": ("flood", "3"),  # 洪水警報
    "05": ("storm", "3"),  # 暴風警報
    "06": ("snow", "3"),  # 大雪警報
    "07": ("waves", "3"),  # 波浪警報
    "08": ("surge", "4"),  # 高潮警報; レベル３高潮警報 in Ｒ０６
    "09": ("landslide", "3"),  # レベル３土砂災害警報
    "10": ("heavy_rain", "2"),  # 大雨注意報
    "12": ("snow", "2"),  # 大雪注意報
    "13": ("storm", "2"),  # 風雪注意報
    "14": ("weather", "2"),  # 雷注意報
    "15": ("storm", "2"),  # 強風注意報
    "16": ("waves", "2"),  # 波浪注意報
    "17": ("weather", "2"),  # 融雪注意報
    "18": ("flood", "2"),  # 洪水注意報
    "19": ("surge", "2"),  # 高潮注意報
    "20": ("weather", "2"),  # 濃霧注意報
    "21": ("weather", "2"),  # 乾燥注意報
    "22": ("weather", "2"),  # なだれ注意報
    "23": ("weather", "2"),  # 低温注意報
    "24": ("weather", "2"),  # 霜注意報
    "25": ("weather", "2"),  # 着氷注意報
    "26": ("weather", "2"),  # 着雪注意報
    "27": ("weather", "2"),  # その他の注意報
    "29": ("landslide", "2"),  # レベル２土砂災害注意報
    "32": ("storm", "5"),  # 暴風雪特別警報
    "33": ("heavy_rain", "5"),  # 大雨特別警報
    "35": ("storm", "5"),  # 暴風特別警報
    "36": ("snow", "5"),  # 大雪特別警報
    "37": ("waves", "5"),  # 波浪特別警報
    "38": ("surge", "5"),  # 高潮特別警報
    "39": ("landslide", "5"),  # レベル５土砂災害特別警報
    "43": ("heavy_rain", "4"),  # レベル４大雨危険警報
    "48": ("surge", "4"),  # レベル４高潮危険警報
    "49": ("landslide", "4"),  # レベル４土砂災害危険警報
}
"""By Kind/Code: the hazard, and the level where the name does not say it."""

_ALL = ("heavy_rain", "flood", "storm", "snow", "waves", "surge", "weather")
_ASIDE = ("landslide",)
"""Part of 大雨 before Ｒ０６: told where a telegram of an older form names it."""
_LEVEL = re.compile(r"レベル([１-５1-5])")
_ADVISORY = "注意報"
_LIFTED, _NOTHING = "解除", "発表警報・注意報はなし"
_IN_FORCE = re.compile(r"発表|継続|[^ ]{2,8}から[^ ]{2,8}")

_OFFICE = "気象警報・注意報（府県予報区等）"
_PLACES = "気象警報・注意報（市町村等）"
_AREA_CODE = re.compile(r"[0-9]{6}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Warning:
    """One kind of warning of one municipality. name: None where it is lifted."""

    hazard: str
    level: str
    name: str | None
    lifted: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """A municipality, or a part of one. area: the fields that say where; said: its warnings."""

    area: dict[str, Any]
    said: Sequence[_Warning]


def _reader(form: str, hazards: Sequence[str], aside: Sequence[str] = ()) -> Callable[[Node, About], Said]:
    """A reader of telegrams of one form, which say all there is of these hazards; `aside`: those that it may name too.

    VPWW53 and VPWW54 say the same, and share a chain. VPWW50 knows no 特別警報, and Ｒ０６ has other levels: theirs are
    chains of their own, so that none undoes what another says.
    """

    def read(report: Node, about: About) -> Said:
        if about.cancelled:
            chain = _office_of_title(about, report) + form
            return [{"hazard": hazard, "chain": chain, "areas": []} for hazard in (*hazards, *aside)]
        sections = report.need("Body", METEOROLOGY).children("Warning")
        chain = _office(_section(sections, _OFFICE)) + form
        places = [_place(item, (*hazards, *aside)) for item in _section(sections, _PLACES).children("Item")]
        if not places:
            raise PayloadError("names no municipality", path="Body/Warning")
        named = {one.hazard for place in places for one in place.said}
        said = (*hazards, *(hazard for hazard in aside if hazard in named))
        return [_hazard(hazard, chain, places, about) for hazard in said]

    return read


def _section(sections: Sequence[Node], type_: str) -> Node:
    for section in sections:
        if section.attribute("type") == type_:
            return section
    raise PayloadError(f"is missing with type {type_}", path="Body/Warning")


def _office(section: Node) -> str:
    """The code of the forecast area. Where there are several, all: they are always the same ones."""
    codes = [item.need("Area").need("Code") for item in section.children("Item")]
    if not codes:
        raise section.wrong("names no forecast area")
    for code in codes:
        if not _AREA_CODE.fullmatch(code.text()):
            raise code.wrong("is no code of a forecast area (six digits)")
    return "-".join(sorted({code.text() for code in codes}))


def _office_of_title(about: About, report: Node) -> str:
    area = area_of(about.title or "")
    if area is None:
        raise report.need("Head", HEAD).need("Title").wrong("begins with the name of no forecast area")
    return area


def _place(item: Node, hazards: Sequence[str]) -> _Place:
    said = [found for kind in item.children("Kind") if (found := _kind(kind))]
    if any(one.hazard not in hazards for one in said):
        raise item.wrong("has a kind of warning that does not go with Control/Title")
    area = item.need("Area")
    code = area.need("Code")
    return _Place(
        area={
            "area": municipality(code),
            "region": code.text(),
            "region_system": MUNICIPALITIES,
            "name": area.optional("Name"),
        },
        said=said,
    )


def _kind(kind: Node) -> _Warning | None:
    status = kind.need("Status")
    if status.word() == _NOTHING:
        return None
    code, name = kind.need("Code"), kind.need("Name")
    if code.word() not in _KINDS:
        if name.word().endswith(_ADVISORY):  # a new one must not keep out the 特別警報 beside it
            return None
        raise code.wrong("is no kind of warning that is known")
    hazard, level = _KINDS[code.text()]
    if status.text() == _LIFTED:
        return _Warning(hazard=hazard, level=NONE, name=None, lifted=True)
    if not _IN_FORCE.fullmatch(status.text()):
        raise status.wrong("is no status of a warning")
    return _Warning(hazard=hazard, level=_level(name, level), name=name.text())


def _level(name: Node, otherwise: str) -> str:
    if not name.word().startswith("レベル"):
        return otherwise
    said = _LEVEL.match(name.text())
    if not said:
        raise name.wrong("names no 警戒レベル from 1 to 5")
    return str(int(said[1]))


def _hazard(hazard: str, chain: str, places: Sequence[_Place], about: About) -> Hazard:
    areas = [_area(place, hazard) for place in places]
    max_level = max(area["level"] for area in areas)
    lifted = any(one.hazard == hazard and one.lifted for place in places for one in place.said)
    over = about.action == "issued" and lifted and max_level == NONE
    return {
        "hazard": hazard,
        "chain": chain,
        "areas": areas,
        "max_level": max_level,
        **({"action": "lifted"} if over else {}),
    }


def _area(place: _Place, hazard: str) -> dict[str, Any]:
    """What the municipality has of one hazard; with the names of what is highest there."""
    said = [one for one in place.said if one.hazard == hazard]
    level = max((one.level for one in said), default=NONE)
    names = [one.name for one in said if one.level == level and one.name]
    return {**place.area, "level": level, "warning": "、".join(names) or None}


_KIND = "気象警報・注意報"
_R06 = ".R06"

READS: Mapping[str, Reading] = {
    "気象警報・注意報": Reading(report="VPWW50", info_kind=_KIND, read=_reader(".VPWW50", _ALL, _ASIDE)),
    "気象特別警報・警報・注意報": Reading(report="VPWW53", info_kind=_KIND, read=_reader("", _ALL, _ASIDE)),
    "気象警報・注意報（Ｈ２７）": Reading(report="VPWW54", info_kind=_KIND, read=_reader("", _ALL, _ASIDE)),
    **{
        f"気象警報・注意報（Ｒ０６）（{name}）": Reading(report=type_, info_kind=_KIND, read=_reader(_R06, [hazard]))
        for type_, name, hazard in (
            ("VPWW55", "大雨", "heavy_rain"),
            ("VPWW56", "土砂", "landslide"),
            ("VPWW57", "高潮", "surge"),
            ("VPWW58", "暴風", "storm"),
            ("VPWW59", "波浪", "waves"),
            ("VPWW60", "大雪", "snow"),
            ("VPWW61", "その他注意報", "weather"),
        )
    },
}
