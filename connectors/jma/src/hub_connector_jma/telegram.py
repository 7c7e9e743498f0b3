"""A telegram of 気象庁防災情報XML: its root, and the namespaces in it."""

from __future__ import annotations

from hub.connector import PayloadError, xml
from hub.connector.xml import Node

LIMIT_BYTES = 4 * 1024 * 1024
"""The largest telegrams of JMA's own samples have 0.3 MiB; a quake felt all over the country about 1 MiB."""

JMX = "http://xml.kishou.go.jp/jmaxml1/"
HEAD = "http://xml.kishou.go.jp/jmaxml1/informationBasis1/"
SEISMOLOGY = "http://xml.kishou.go.jp/jmaxml1/body/seismology1/"
METEOROLOGY = "http://xml.kishou.go.jp/jmaxml1/body/meteorology1/"
VOLCANOLOGY = "http://xml.kishou.go.jp/jmaxml1/body/volcanology1/"
BASIS = "http://xml.kishou.go.jp/jmaxml1/elementBasis1/"


def read(payload: bytes) -> Node:
    """The root `Report` of a JMA telegram, which is UTF-8. Raises PayloadError."""
    root = xml.read(payload, LIMIT_BYTES)
    if root.element.tag != f"{{{JMX}}}Report":
        raise PayloadError(f"is no JMA report: the root is not Report of {JMX}")
    return root
