"""Readings of landslide: written on branch c-jma2."""

from __future__ import annotations

from collections.abc import Mapping

from hub_connector_jma.telegram import Reading

READS: Mapping[str, Reading] = {}
