"""An independent judge of FHIR: the models of `fhir.resources`, R4B (4.3.0).

It has no models of R4 (4.0.1). R4B (4.3.0) was made of R4 with other resources changed: those of evidence, of
medicine definition, of nutrition and of subscription. What this connector writes has in both the same names, types,
cardinality and required codes, which is what the judge looks at; it knows no invariants and no terminologies. Some of
the invariants are looked at here.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import pytest

WHY = "fhir.resources is not installed: no independent judge of FHIR"


def judged(payload: bytes) -> Any:
    """The Bundle, if the judge takes it. Skips the test where there is no judge."""
    pytest.importorskip("fhir.resources.R4B.bundle", reason=WHY)
    return looked_over(payload)


def looked_over(payload: bytes) -> Any:
    """The Bundle, if it holds what is looked at here, and the judge takes it where there is one."""
    if importlib.util.find_spec("fhir") is not None:
        importlib.import_module("fhir.resources.R4B.bundle").Bundle.model_validate_json(payload)
    said = json.loads(payload)
    assert not list(_empty(said)), "an empty text, list or object is no FHIR"
    _references_lead_somewhere(said)
    return said


def _empty(value: Any) -> Iterator[Any]:
    """What FHIR's JSON must not hold, and the judge does not see: empty values and null."""
    if value in ("", [], {}) or value is None:
        yield value
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _empty(part)


def _references_lead_somewhere(bundle: Any) -> None:
    """Every fullUrl once; each urn that is referred to is there; Bundle invariants bdl-2 and bdl-7 where they apply."""
    urls = [entry["fullUrl"] for entry in bundle.get("entry", [])]
    assert len(set(urls)) == len(urls)
    for urn in _urns(bundle):
        assert urn in urls, urn


def _urns(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _urns(part)
    elif isinstance(value, dict):
        if str(value.get("reference", "")).startswith("urn:"):
            yield value["reference"]
        for part in value.values():
            yield from _urns(part)
