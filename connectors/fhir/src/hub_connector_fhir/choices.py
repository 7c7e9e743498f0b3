"""What the operator set: who is who, where, and what a Consent's words mean in this city."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from hub.connector import Misuse, Settings, is_id
from hub_connector_fhir import vitals

_OPTIONS = ("identifier_system", "base", "zone", "observations", "restricted", "original")
_ORIGINALS = ("clinical", "whole", "none")
_TABLES = ("recipients", "purposes", "kinds", "observations")
_KIND = re.compile(r"\*|[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*(?:\.\*)?")
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """The settings, read.

    identifier_system: the Patient identifiers that are refs; None for logical ids. base: URL of the source's server, on
    which those are; None for whole URLs as refs.
    every_observation: those that are no vital signs too. restricted: also what is labelled R or V.
    original: what is kept of a resource beside the fact: `clinical`, `whole` or `none`.
    recipients, purposes, kinds: what a Consent's organisations, purposes and classes are here.
    observations: names of measurements by `system|code`.
    """

    identifier_system: str | None = None
    base: str | None = None
    zone: ZoneInfo
    every_observation: bool = False
    restricted: bool = False
    original: str = "clinical"
    recipients: Mapping[str, str] = field(default_factory=dict)
    purposes: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    observations: Mapping[str, str] = field(default_factory=dict)


def read(settings: Settings) -> Choices:
    """The settings of one connector. Raises Misuse with the key that is wrong."""
    for name in settings.options:
        if name not in _OPTIONS:
            raise Misuse(f"options.{name}: there is none; known: {', '.join(_OPTIONS)}")
    for name in settings.files:
        if name != "terms":
            raise Misuse(f"files.{name}: there is none; known: terms")
    tables = _tables(settings.files.get("terms", b""))
    base = _text(settings, "base")
    return Choices(
        identifier_system=_text(settings, "identifier_system"),
        base=None if base is None else base.rstrip("/"),
        zone=_zone(_text(settings, "zone") or "Asia/Tokyo"),
        every_observation=_word(settings, "observations", "vital-signs", "all"),
        restricted=_word(settings, "restricted", "refuse", "take"),
        original=_original(settings),
        recipients=_checked(tables, "recipients", is_id, "is no id of a recipient"),
        purposes=_checked(tables, "purposes", _PURPOSE.fullmatch, "is no name of a purpose"),
        kinds=_kinds(tables),
        observations=_checked(tables, "observations", vitals.is_known, "is no name of a measurement"),
    )


def _text(settings: Settings, name: str) -> str | None:
    value = settings.options.get(name)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise Misuse(f"options.{name}: is no text")
    return value


def _word(settings: Settings, name: str, usual: str, other: str) -> bool:
    value = settings.options.get(name, usual)
    if value not in (usual, other):
        raise Misuse(f"options.{name}: is neither {usual!r} nor {other!r}")
    return bool(value == other)


def _original(settings: Settings) -> str:
    value = settings.options.get("original", "clinical")
    if value not in _ORIGINALS:
        raise Misuse(f"options.original: is none of {', '.join(_ORIGINALS)}")
    return str(value)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise Misuse("options.zone: is no time zone (Asia/Tokyo)") from None


def _tables(content: bytes) -> dict[str, Any]:
    try:
        said = tomllib.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misuse(f"files.terms: is no TOML in UTF-8: {error}") from None
    for name, table in said.items():
        if name not in _TABLES or not isinstance(table, dict):
            raise Misuse(f"files.terms: {name}: is none of its tables: {', '.join(_TABLES)}")
    return said


def _checked(tables: dict[str, Any], name: str, fits: Any, reason: str) -> dict[str, str]:
    table = tables.get(name, {})
    for key, value in table.items():
        if not isinstance(value, str) or not fits(value):
            raise Misuse(f"files.terms: {name}.{key!r}: {reason}")
    return dict(table)


def _kinds(tables: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    found = {}
    for key, value in tables.get("kinds", {}).items():
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(k, str) and _KIND.fullmatch(k) for k in value)
        ):
            raise Misuse(f"files.terms: kinds.{key!r}: is no list of kinds and patterns")
        found[key] = tuple(value)
    return found
