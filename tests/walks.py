"""A connector of the tests with a kind of its own, in versions."""

from __future__ import annotations

import json
from typing import Any

from sources import TOWN

STEPS = {"name": "steps", "type": "int", "doc": "Steps.", "doc_ja": "歩数。"}
PLACE = {"name": "place", "type": ["null", "string"], "default": None, "doc": "Where to.", "doc_ja": "行き先。"}


def schema(version: int, *fields: dict[str, Any], doc: str = "A walk.") -> str:
    said = {
        "type": "record",
        "name": "WalkTaken",
        "namespace": "hub",
        "doc": doc,
        "doc_ja": "散歩。",
        "kind": "walk.taken",
    }
    return json.dumps(said | {"version": version, "category": "fact", "about": "person", "fields": [STEPS, *fields]})


ONE, TWO = {"walk.taken.1.avsc": schema(1)}, {"walk.taken.1.avsc": schema(1), "walk.taken.2.avsc": schema(2, PLACE)}
OTHER = {"walk.taken.1.avsc": schema(1, doc="A walk, told in other words.")}


def bringing(files: dict[str, str]) -> str:
    """A connector of records that may hold `steps`."""
    brought = f"    schemas = {{name: content.encode() for name, content in {files!r}.items()}}\n"
    code = TOWN.replace("    signed =", brought + "    signed =").replace("kinds = (", 'kinds = ("walk.taken", ')
    walk = """        if steps := record.optional("steps"):
            data = {"steps": steps.whole(0, 10**6)}
            return Event(source=self.source, id=name, kind="walk.taken", ref=user, data=data)
"""
    return code.replace("        if undo :=", walk + "        if undo :=")
