"""Records of the service, as the tests write them."""

from __future__ import annotations

import json
from typing import Any

Record = dict[str, Any]

SECRET = "ZQX7731の薬"
"""Stands for what nobody but the person's own may read."""


def page(*updates: Any, **more: Any) -> bytes:
    """A page that holds these updates."""
    said = {"format": "careyell/1", "sent_at": "2026-06-01T10:00:00+09:00", "updates": list(updates), **more}
    return json.dumps(said).encode()


def record(id: str = "u1", revision: int = 1, **more: Any) -> Record:
    """A revision of an update: a condition, unless a `type` says otherwise. What is None is left out."""
    said = {
        "id": id,
        "revision": revision,
        "type": "condition",
        "person": "cy-1",
        "observed_at": "2026-05-31T23:00:00Z",
        "written_at": "2026-05-31T23:30:00Z",
        "condition": {"condition": "良い"},
    }
    return {name: value for name, value in (said | more).items() if value is not None}


def withdrawal(id: str = "u1", revision: int = 2, **more: Any) -> Record:
    """A revision that takes the update back."""
    return record(id, revision, type=None, observed_at=None, condition=None, withdrawn=True, **more)
