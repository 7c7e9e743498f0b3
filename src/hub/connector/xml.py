"""XML of a source, as a tree that can be trusted to be small, whole and well-formed, with a path for every error.

Whatever is wrong raises PayloadError with the path of the element and never its content. Nothing is fetched and
nothing expanded: a DOCTYPE is refused before the parser sees it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from json.encoder import encode_basestring as _quoted

from lxml import etree

from hub.codec import parse_time
from hub.errors import PayloadError

LIMIT_BYTES = 4 * 1024 * 1024

_DECLARED = re.compile(r"""\s*<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}["']([^"']{0,40})""")
_DECLARATION = re.compile(r"\s*<\?xml[^>]{0,400}\?>")
_WHITESPACE = re.compile(r"[ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class Node:
    """An element and the path that leads to it, as `Body/Intensity/Observation/Pref[2]/Code`."""

    element: etree._Element
    path: str = ""

    @property
    def namespace(self) -> str | None:
        """The element's namespace."""
        tag = self.element.tag
        return tag[1:].partition("}")[0] if tag.startswith("{") else None

    @property
    def name(self) -> str:
        """The element's name, without its namespace."""
        return str(etree.QName(self.element).localname)

    def children(self, name: str, namespace: str | None = None) -> list[Node]:
        """Those called `name`, in order; in the element's own namespace unless another is named."""
        inside = namespace or self.namespace
        tag = f"{{{inside}}}{name}" if inside else name
        found = list(self.element.iterchildren(tag))
        if len(found) > 1:
            return [Node(element, self._inner(f"{name}[{n}]")) for n, element in enumerate(found, 1)]
        return [Node(element, self._inner(name)) for element in found]

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

    def attribute(self, name: str) -> str | None:
        """The attribute called `name`; None where it is absent or empty."""
        return squeezed(self.element.get(name)) or None

    def text(self) -> str:
        """Its text, with each run of ASCII white space as one space; empty where there is none."""
        return squeezed(self.element.text)

    def word(self) -> str:
        """Its text, which must not be empty."""
        text = self.text()
        if not text:
            raise self.wrong("is empty")
        return text

    def optional(self, name: str, namespace: str | None = None) -> str | None:
        """The text of the child called `name`; None where it is absent or empty."""
        found = self.child(name, namespace)
        return (found.text() or None) if found else None

    def time(self) -> datetime:
        """The xs:dateTime that it holds, in UTC. Refused without an offset: the zone would be a guess."""
        try:
            return parse_time(self.word())
        except PayloadError as error:
            raise self.wrong(error.reason) from None

    def optional_time(self, name: str, namespace: str | None = None) -> datetime | None:
        """The time in the child called `name`; None where it is absent or empty (xsi:nil)."""
        found = self.child(name, namespace)
        return found.time() if found and found.text() else None

    def wrong(self, reason: str) -> PayloadError:
        """The error to raise about this element."""
        return PayloadError(reason, path=self.path or self.name)

    def _inner(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


def squeezed(text: str | None) -> str:
    """`text` without what pretty-printing adds. The ideographic space stays: it is written on purpose."""
    text = text.strip(" \t\r\n") if text else ""
    return _WHITESPACE.sub(" ", text) if text else ""


def read(payload: bytes, limit_bytes: int = LIMIT_BYTES, encodings: Sequence[str] = ("utf-8",)) -> Node:
    """The root element. encodings: those that may be declared, in lower case; undeclared is UTF-8.

    Raises PayloadError.
    """
    text = _decoded(payload, limit_bytes, encodings)
    if "<!DOCTYPE" in text:
        raise PayloadError("has a DOCTYPE, which is not read")
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
        return Node(etree.fromstring(text.encode(), parser))
    except etree.XMLSyntaxError as error:
        raise PayloadError(f"is not well-formed XML (line {error.lineno})") from None


def _decoded(payload: bytes, limit_bytes: int, encodings: Sequence[str]) -> str:
    """The payload's text. A declared or guessed other encoding is not followed."""
    if not payload.strip():
        raise PayloadError("is empty")
    if len(payload) > limit_bytes:
        raise PayloadError(f"is larger than {limit_bytes // 1024 // 1024} MiB")
    declared = _DECLARED.match(payload[:300].decode("latin-1").removeprefix("ï»¿"))
    encoding = (declared[1] if declared else "utf-8").lower().replace("utf8", "utf-8")
    if encoding not in encodings:
        raise PayloadError(f"declares an encoding other than {', '.join(encodings).upper()}")
    try:
        text = payload.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError:
        raise PayloadError(f"is not {encoding.upper()}") from None
    return text if declared is None else _DECLARATION.sub("", text, count=1)


def fingerprint(root: Node) -> str:
    """128 bits, in hexadecimal, of all that the document says.

    Equal for documents that differ only in indentation, comments, the order of attributes, prefixes of
    namespaces, or the XML declaration. Iterative, since a document may be nested deeper than the stack.
    """
    said: list[str] = []
    for event, element in etree.iterwalk(root.element, events=("start", "end")):
        if event == "start":
            attributes = sorted(element.items())
            pairs = ", ".join([f"[{_quoted(k)}, {_quoted(v)}]" for k, v in attributes]) if attributes else ""
            said.append(f"[{_quoted(element.tag)}, [{pairs}], {_quoted(squeezed(element.text))}]\n")
        else:
            said.append(f"[{_quoted(squeezed(element.tail))}]\n")
    return hashlib.sha256("".join(said).encode()).hexdigest()[:32]
