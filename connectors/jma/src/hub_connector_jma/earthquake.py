"""震度速報 (VXSE51) and 震源・震度に関する情報 (VXSE53): what their bodies say, as fields of the event.

VXSE51 comes first and knows regions (細分区域) only; VXSE53 names the municipalities. Each VXSE53 is
complete: it replaces the one before, and does not add to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hub.connector import PayloadError
from hub.connector.xml import Node
from hub_connector_jma.telegram import (
    BASIS,
    HEAD,
    JMX,
    MUNICIPALITIES,
    SEISMOLOGY,
    About,
    Hazard,
    Reading,
    Said,
    municipality,
)

LEVELS = frozenset(("0", "1", "2", "3", "4", "5-", "5+", "6-", "6+", "7"))
UNRECEIVED = "5-?"
"""震度５弱以上未入電: 5弱 or more is assumed there, but no figure has come in. It is none of LEVELS, so that
nobody takes it for an observation."""

_UNRECEIVED_CONDITION = "震度５弱以上未入電"
_FIVE_AND_ABOVE = frozenset(("5-", "5+", "6-", "6+", "7"))
_REGIONS = "地震情報／細分区域"

_COORDINATE = re.compile(r"([+-]\d{2}(?:\.\d{1,6})?)([+-]\d{3}(?:\.\d{1,6})?)([+-]\d{1,7}(?:\.\d{1,3})?)?/")
_MAGNITUDE = re.compile(r"-?\d{1,2}(?:\.\d{1,3})?")


def _flash(report: Node, about: About) -> Said:
    """震度速報: regions and their intensity, no municipality, no hypocentre."""
    if about.cancelled:
        return [_quake(about, areas=[])]
    observed = report.need("Body", SEISMOLOGY).need("Intensity").need("Observation")
    areas = [_region(area) for pref in observed.children("Pref") for area in pref.children("Area")]
    return [_quake(about, areas=areas, max_level=_max_level(observed))]


def _full(report: Node, about: About) -> Said:
    """震源・震度: the hypocentre, and the intensity in each municipality.

    Where the headline lists areas, the intensities must be there. Without them (遠地地震, or felt nowhere)
    there are no areas.
    """
    if about.cancelled:
        return [_quake(about, areas=[])]
    body = report.need("Body", SEISMOLOGY)
    quakes = body.children("Earthquake")
    if not quakes:
        raise PayloadError("is missing", path="Body/Earthquake")
    felt = report.need("Head", HEAD).need("Headline").children("Information")
    intensity = body.need("Intensity") if felt else body.child("Intensity")
    observed = intensity.need("Observation") if intensity else None
    return [_quake(about, **_hypocentre(quakes[0]), **(_municipalities(observed) if observed else {"areas": []}))]


def _quake(about: About, **said: Any) -> Hazard:
    """A cancellation has only a sentence in its body, and so no areas."""
    return {"hazard": "earthquake", "chain": about.event_id, **said}


def _municipalities(observed: Node) -> dict[str, Any]:
    areas = [
        _municipality(city)
        for pref in observed.children("Pref")
        for area in pref.children("Area")
        for city in area.children("City")
    ]
    return {"areas": areas, "max_level": _max_level(observed)}


def _region(area: Node) -> dict[str, Any]:
    code = area.need("Code")
    if not re.fullmatch(r"[0-9]{3}", code.text()):
        raise code.wrong("is no code of a region (three digits)")
    return {
        "area": None,
        "region": code.text(),
        "region_system": _REGIONS,
        "name": area.optional("Name"),
        "level": _level(area),
    }


def _municipality(city: Node) -> dict[str, Any]:
    code = city.need("Code")
    return {
        "area": municipality(code),
        "region": code.text(),
        "region_system": MUNICIPALITIES,
        "name": city.optional("Name"),
        "level": _level(city),
    }


def _level(place: Node) -> str:
    """The intensity observed; UNRECEIVED where 5弱 or more is assumed and none was observed."""
    if place.optional("Condition") != _UNRECEIVED_CONDITION:
        return _known_level(place.need("MaxInt"))
    said = place.child("MaxInt")
    level = _known_level(said) if said else UNRECEIVED
    return level if level in _FIVE_AND_ABOVE else UNRECEIVED


def _max_level(observed: Node) -> str | None:
    said = observed.child("MaxInt")
    return _known_level(said) if said else None


def _known_level(said: Node) -> str:
    level = said.word()
    if level == _UNRECEIVED_CONDITION:
        return UNRECEIVED
    if level not in LEVELS:
        raise said.wrong("is no seismic intensity (1 to 4, 5-, 5+, 6-, 6+, 7)")
    return level


def _hypocentre(quake: Node) -> dict[str, Any]:
    place = quake.child("Hypocenter")
    area = place.need("Area") if place else None
    return {
        "origin_at": quake.optional_time("OriginTime"),
        "magnitude": _magnitude(quake),
        "epicentre": area.optional("Name") if area else None,
        **(_point(area) if area else {}),
    }


def _magnitude(quake: Node) -> float | None:
    """None where it is unknown: JMA then writes NaN (M不明, Ｍ８を超える巨大地震)."""
    found = quake.children("Magnitude", BASIS)
    if not found:
        return None
    text = found[0].text()
    if text in ("", "NaN"):
        return None
    if not _MAGNITUDE.fullmatch(text):
        raise found[0].wrong("is no magnitude")
    return float(text)


def _point(area: Node) -> dict[str, Any]:
    """Degrees and metres of the first coordinate in degrees; empty where the hypocentre is unknown."""
    for found in area.children("Coordinate", BASIS):
        if found.element.get("type") or not found.text():
            continue
        parts = _COORDINATE.fullmatch(found.text())
        if not parts:
            raise found.wrong("is no coordinate (+37.5+139.9-10000/)")
        lat_deg, lon_deg = float(parts[1]), float(parts[2])
        if abs(lat_deg) > 90 or abs(lon_deg) > 180:
            raise found.wrong("is no point on Earth")
        depth_m = None if parts[3] is None else 0.0 - float(parts[3])
        return {"lat_deg": lat_deg, "lon_deg": lon_deg, "depth_m": depth_m}
    return {}


READS: Mapping[str, Reading] = {
    "震度速報": Reading(report="VXSE51", info_kind="震度速報", read=_flash),
    "震源・震度に関する情報": Reading(report="VXSE53", info_kind="地震情報", read=_full),
}


def sample(municipalities: int) -> bytes:
    """A telegram of its own making about an earthquake that was felt in so many municipalities, numbers made up."""
    levels = sorted(LEVELS)
    cities = "".join(
        f"<City><Name>架空{n}</Name><Code>{n % 47 + 1:02}{n // 47 % 1000:03}00</Code>"
        f"<MaxInt>{levels[n % len(levels)]}</MaxInt></City>"
        for n in range(municipalities)
    )
    return _SAMPLE.format(jmx=JMX, head=HEAD, seismology=SEISMOLOGY, cities=cities).encode()


_SAMPLE = """<Report xmlns="{jmx}">
<Control><Title>震源・震度に関する情報</Title><DateTime>2026-06-02T00:05:20Z</DateTime><Status>通常</Status></Control>
<Head xmlns="{head}"><Title>震源・震度情報</Title><ReportDateTime>2026-06-02T09:05:00+09:00</ReportDateTime>
<EventID>20260602090012</EventID><InfoType>発表</InfoType><Serial>1</Serial><InfoKind>地震情報</InfoKind><Headline/></Head>
<Body xmlns="{seismology}"><Earthquake><OriginTime>2026-06-02T09:00:00+09:00</OriginTime></Earthquake>
<Intensity><Observation><MaxInt>7</MaxInt><Pref><Area>{cities}</Area></Pref></Observation></Intensity></Body>
</Report>
"""
