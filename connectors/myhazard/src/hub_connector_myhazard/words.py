"""The app's own words, and what they are here. What a kind has no word for is kept in the note, in these words."""

from __future__ import annotations

from collections.abc import Mapping

SAFETY: Mapping[str, tuple[str, str | None]] = {
    "safe": ("safe", None),
    "safe_evacuated": ("safe", "無事(避難済み)"),
    "safe_no_utilities": ("safe", "無事(停電・断水など)"),
    "minor_injury": ("injured", "軽傷"),
    "serious_injury": ("need_help", "重傷"),
    "unwell": ("need_help", "体調不良"),
    "need_rescue": ("need_help", "救助が必要"),
    "trapped": ("need_help", "閉じ込め"),
    "isolated": ("need_help", "孤立"),
    "need_supplies": ("need_help", "水・食料・薬が必要"),
    "unreachable": ("unknown", "連絡がつかない"),
    "unknown": ("unknown", None),
}
"""Of each status the kind's, and what the note keeps. Whoever cannot help themselves needs help, hurt or not."""

MOVING = "moving"

EVACUATION: Mapping[str, tuple[str, str | None]] = {
    "home": ("at_home", None),
    "preparing": ("at_home", "避難の準備中"),
    "upstairs": ("at_home", "自宅の上階へ避難(垂直避難)"),
    "returned": ("at_home", "避難先から帰宅"),
    "moving": (MOVING, None),
    "shelter": ("at_shelter", None),
    "relatives": ("elsewhere", "親戚・知人宅"),
    "hotel": ("elsewhere", "ホテル・旅館"),
    "in_car": ("elsewhere", "車中泊"),
    "elsewhere": ("elsewhere", None),
}

TRANSPORT: Mapping[str, bool] = {"requested": True, "cancelled": False}

_ORIGINAL = "アプリでの区分: "


def note(original: str | None, *lines: str | None) -> str | None:
    """The app's own status, where it has to be kept, and further lines; None where there is neither."""
    kept = None if original is None else _ORIGINAL + original
    return "\n".join(line for line in (kept, *lines) if line) or None
