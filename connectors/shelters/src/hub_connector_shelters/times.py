"""Times as Japanese municipalities write them. A time without an offset is Japan's, as the README says."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

from hub.connector import PayloadError, parse_time

_JAPAN = timezone(timedelta(hours=9))
_ERAS = {"令和": 2018, "平成": 1988, "R": 2018, "H": 1988}
_CALENDAR = re.compile(
    r"(?:(?P<era>令和|平成|R|H) ?(?P<of_era>\d{1,2}|元)|(?P<year>\d{4}))年 ?(?P<month>\d{1,2})月 ?(?P<day>\d{1,2})日 ?"
    r"(?:\(.\) ?)?(?P<half>午前|午後)? ?(?P<hour>\d{1,2})(?:時|:) ?(?:(?P<minute>\d{1,2})分?|(?P<thirty>半))?",
    re.ASCII,
)
_FIGURES = re.compile(
    r"(?P<year>\d{4})(?P<sign>[-/.])(?P<month>\d{1,2})(?P=sign)(?P<day>\d{1,2})[T ](?P<hour>\d{1,2}):(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d))?",
    re.ASCII,
)
_LONGEST = 40


def read(text: str) -> datetime:
    """The moment that `text` says, in UTC: 令和6年1月9日午後6時(30分)(時点), 2024/1/9 18:30, or RFC 3339.

    Raises PayloadError. 午前12時 and 午後12時 are refused: some write noon so, others midnight.
    """
    said = unicodedata.normalize("NFKC", text).strip()
    if len(said) > _LONGEST:
        raise PayloadError("is no time")
    said = said.removesuffix("現在").removesuffix("時点")
    found = _CALENDAR.fullmatch(said) or _FIGURES.fullmatch(said)
    return _moment(found.groupdict()) if found else parse_time(said)


def _moment(said: dict[str, str | None]) -> datetime:
    hour = int(said["hour"] or 0)
    if half := said.get("half"):
        if hour >= 12:
            raise PayloadError("is 12 o'clock or later with 午前 or 午後: noon or midnight")
        hour += 12 if half == "午後" else 0
    minute = 30 if said.get("thirty") else int(said["minute"] or 0)
    try:
        day = datetime(_year(said), int(said["month"] or 0), int(said["day"] or 0), tzinfo=_JAPAN)
        return day.replace(hour=hour, minute=minute, second=int(said.get("second") or 0)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PayloadError("is no date that exists") from None


def _year(said: dict[str, str | None]) -> int:
    if said.get("era") is None:
        return int(said["year"] or 0)
    of_era = said["of_era"] or ""
    return _ERAS[said["era"] or ""] + (1 if of_era == "元" else int(of_era))
