"""Designated shelters and head-counts of open shelters, as municipalities publish them, as `shelter.reported`.

A payload is CSV or GeoJSON. Which of the two lists it is, its columns tell: a head-count says how many people there
are, and when; see README.md.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from hub.connector import UNSET, Misuse, Settings, Translation
from hub_connector_shelters import issue, municipalities, records
from hub_connector_shelters.records import Unavailable


class Shelters:
    """The connector `shelters`. It holds its option, and no state."""

    name = "shelters"
    source = issue.SOURCE
    kinds: Sequence[str] = (issue.KIND,)
    quality: Mapping[str, str] = {
        "refs": "exempt: a shelter is no person, and of its keepers nothing is read",
        "corrections": "done",
        "drills": "exempt: the forms have no mark for a drill",
        "signature": "exempt: lists come as files or by a relay that shows a token",
        "polling": "exempt: lists are brought",
        "hostile": "done",
        "measured": "done",
        "documented": "done",
    }

    def __init__(self, settings: Settings = UNSET) -> None:
        """options.area: the municipality, by its five digits, of files that name none. Raises Misuse."""
        area = settings.options.get("area")
        if area is not None and not (isinstance(area, str) and municipalities.exists(area)):
            raise Misuse("options.area is no municipality's code of five digits")
        self._area: str | None = area

    def translate(self, payload: bytes) -> Translation:
        """An event for each place that the list names. Raises PayloadError where it is no such list."""
        found = records.read(payload)
        if isinstance(found, Unavailable):
            return Translation(nothing="says that this municipality's list is not published")
        if not found:
            return Translation(nothing="names no place")
        return issue.translated(found, self._area)

    def sample(self, records: int) -> bytes:
        """One head-count of made-up shelters."""
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerow(["ID", "名称", "人数", "時点", "所在地_都道府県", "所在地_市区町村", "緯度", "経度"])
        here = ("令和6年1月9日午後6時", "福島県", "会津若松市")
        for n in range(records):
            when, prefecture, city = here
            lat, lon = 37.4 + n % 997 / 9970, 139.9 + n % 499 / 4990
            writer.writerow([f"S{n:06}", f"第{n}体育館", n % 300, when, prefecture, city, f"{lat:.5f}", f"{lon:.5f}"])
        return out.getvalue().encode()
