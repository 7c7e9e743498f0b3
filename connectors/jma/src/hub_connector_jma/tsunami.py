"""Readings of tsunami: written on branch c-jma1."""

from __future__ import annotations

from collections.abc import Mapping

from hub_connector_jma.telegram import Reading

READS: Mapping[str, Reading] = {}
