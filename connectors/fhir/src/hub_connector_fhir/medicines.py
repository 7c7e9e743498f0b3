"""Codes of medicines: what their systems are called in the hub, where every source names them alike, and in FHIR."""

from __future__ import annotations

from collections.abc import Mapping

from hub_connector_fhir.terms import Coding

_YJ = "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code"
_HOT = "http://medis.or.jp/CodeSystem/master-HOT"
_IN: Mapping[str, str] = {
    _YJ: "YJ",
    "urn:oid:1.2.392.100495.20.1.73": "YJ",
    **{f"{_HOT}{digits}": "HOT" for digits in (7, 9, 13)},
    "urn:oid:1.2.392.200119.4.403.2": "HOT",  # 7 digits
    "urn:oid:1.2.392.200119.4.403.1": "HOT",  # 9 digits
    "urn:oid:1.2.392.200119.4.402.1": "HOT",  # 13 digits
}
_OUT: Mapping[tuple[str, int], str] = {
    ("YJ", 12): _YJ,
    **{("HOT", digits): f"{_HOT}{digits}" for digits in (7, 9, 13)},
}


def code_of(coding: Coding) -> str:
    """`system|code`, of a Japanese system by the name that the hub has for it: `YJ|…`, `HOT|…`."""
    return f"{_IN[coding.system]}|{coding.code}" if coding.system in _IN else coding.key


def system_of(name: str, code: str) -> str:
    """The URL of a system by the name that the hub has for it."""
    return _OUT.get((name, len(code)), name)
