"""A telegram as a tree that can be trusted to be small, whole and UTF-8, with a path for every error.

Whatever is wrong raises PayloadError with the path of the element and never its content. Nothing is
fetched and nothing expanded: a DOCTYPE is refused before the parser sees it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from lxml import etree

from hub.errors import PayloadError

LIMIT_BYTES = 4 * 1024 * 1024
"""The largest telegrams of JMA's own samples have 0.3 MiB; a quake felt all over the country about 1 MiB."""

JMX = "http://xml.kishou.go.jp/jmaxml1/"
HEAD = "http://xml.kishou.go.jp/jmaxml1/informationBasis1/"
SEISMOLOGY = "http://xml.kishou.go.jp/jmaxml1/body/seismology1/"
BASIS = "http://xml.kishou.go.jp/jmaxml1/elementBasis1/"

_DECLARED = re.compile(r"""\s*<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}["']([^"']{0,40})""")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")
_WHITESPACE = re.compile(r"[ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class Node:
    """An element and the path that leads to it, as `Body/Intensity/Observation/Pref[2]/Code`."""

    element: etree._Element
    path: str

    def children(self, name: str, namespace: str | None = None) -> list[Node]:
        """Those called `name`, in order; in the element's own namespace unless another is named."""
        tag = f"{{{namespace or etree.QName(self.element).namespace}}}{name}"
        found = [child for child in self.element if child.tag == tag]
        several = len(found) > 1
        return [Node(e, self._inner(f"{name}[{n}]" if several else name)) for n, e in enumerate(found, 1)]

    def child(self, name: str, namespace: str | None = None) -> Node | None:
        """The one called `name`, or None. Two are an error: which of them counts would be a guess."""
        found = self.children(name, namespace)
        if len(found) > 1:
            raise PayloadError("stands more than once", path=self._inner(name))
        return found[0] if found else None

    def need(self, name: str, namespace: str | None = None) -> Node:
        """The one called `name`."""
        found = self.child(name, namespace)
        if found is None:
            raise PayloadError("is missing, or in another namespace", path=self._inner(name))
        return found

    def text(self) -> str:
        """Its text, with each run of ASCII white space as one space; empty where there is none."""
        return squeezed(self.element.text)

    def word(self) -> str:
        """Its text, which must not be empty."""
        text = self.text()
        if not text:
            raise self.wrong("is empty")
        return text

    def optional(self, name: str) -> str | None:
        """The text of the child called `name`; None where it is absent or empty."""
        found = self.child(name)
        return (found.text() or None) if found else None

    def time(self) -> datetime:
        """The xs:dateTime that it holds, in UTC. Refused without an offset: the zone would be a guess."""
        text = self.word()
        if not _TIME.fullmatch(text):
            raise self.wrong("is no time with its offset (2026-06-01T09:00:00+09:00)")
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.wrong("is no date that exists") from None

    def optional_time(self, name: str) -> datetime | None:
        """The time in the child called `name`; None where it is absent or empty (xsi:nil)."""
        found = self.child(name)
        return found.time() if found and found.text() else None

    def wrong(self, reason: str) -> PayloadError:
        """The error to raise about this element."""
        return PayloadError(reason, path=self.path)

    def _inner(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


def squeezed(text: str | None) -> str:
    """`text` without what pretty-printing adds. The ideographic space stays: it is written on purpose."""
    return _WHITESPACE.sub(" ", text or "").strip(" ")


def read(payload: bytes) -> Node:
    """The root `Report` of a JMA telegram. Raises PayloadError."""
    text = _decoded(payload)
    if "<!DOCTYPE" in text:
        raise PayloadError("has a DOCTYPE, which no JMA telegram has")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise PayloadError(f"is not well-formed XML (line {error.lineno})") from None
    if root.tag != f"{{{JMX}}}Report":
        raise PayloadError(f"is no JMA report: the root is not Report of {JMX}")
    return Node(root, "")


def _decoded(payload: bytes) -> str:
    """The payload's text. JMA sends UTF-8 only; a declared or guessed other encoding is not followed."""
    if not payload.strip():
        raise PayloadError("is empty")
    if len(payload) > LIMIT_BYTES:
        raise PayloadError(f"is larger than {LIMIT_BYTES // 1024 // 1024} MiB")
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PayloadError("is not UTF-8") from None
    declared = _DECLARED.match(text)
    if declared and declared[1].lower() not in ("utf-8", "utf8"):
        raise PayloadError("declares an encoding other than UTF-8")
    return text


def fingerprint(report: Node) -> str:
    """128 bits, in hexadecimal, of all that the telegram says.

    Equal for telegrams that differ only in indentation, comments, the order of attributes, prefixes of
    namespaces, or the XML declaration. Iterative, since a telegram may be nested deeper than the stack.
    """
    digest = hashlib.sha256()

    def say(*parts: object) -> None:
        digest.update(json.dumps(parts, ensure_ascii=False).encode() + b"\n")

    for event, element in etree.iterwalk(report.element, events=("start", "end")):
        if event == "start":
            say(
                element.tag,
                sorted((str(k), str(v)) for k, v in element.attrib.items()),
                squeezed(element.text),
            )
        else:
            say(squeezed(element.tail))
    return digest.hexdigest()[:32]
