"""A page of made-up updates, to measure by."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hub_connector_careyell.page import FORMAT, MOST_UPDATES

_MORNING = datetime(2026, 6, 1, tzinfo=UTC)


def sample(records: int) -> bytes:
    """A page of `records` updates, at most as many as a page may hold; every tenth is a second revision."""
    updates = [_update(number) for number in range(min(records, MOST_UPDATES))]
    page = {"format": FORMAT, "sent_at": "2026-06-03T00:00:00Z", "updates": updates}
    return json.dumps(page, ensure_ascii=False).encode()


def _update(number: int) -> dict[str, Any]:
    type_ = ("condition", "medication", "condition", "allergies", "condition", "carers")[number % 6]
    at = (_MORNING + timedelta(seconds=number)).isoformat()
    return {
        "id": f"sample-{number}",
        "revision": 2 if number % 10 == 9 else 1,
        "type": type_,
        "person": f"cy-{number % 1000}",
        "observed_at": at,
        "written_at": at,
        "author": {"role": "nurse"},
        type_: _CONTENTS[type_],
    }


_CONTENTS: dict[str, Any] = {
    "condition": {
        "condition": "普段どおり",
        "vitals": [
            {"name": "temperature", "value": 36.5, "unit": "degC"},
            {"name": "pulse", "value": 72, "unit": "bpm"},
            {"name": "spo2", "value": 97, "unit": "percent"},
        ],
        "note": "朝食は全量。",
    },
    "medication": {
        "prescriber": "見本内科",
        "medications": [
            {"name": "見本錠5mg", "dose": "1錠", "timing": "朝食後"},
            {"name": "見本カプセル", "dose": "1カプセル", "timing": "夕食後"},
        ],
    },
    "allergies": {"allergies": [{"substance": "そば", "reaction": "じんましん", "severity": "moderate"}]},
    "carers": {"carers": [{"role": "family", "name": "見本 太郎", "first_contact": True}, {"role": "helper"}]},
}
