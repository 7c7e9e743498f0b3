"""Feeds that carry alerts: Atom (RFC 4287) and RSS 2.0, whose entries hold an alert or link to one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from lxml import etree

from hub.connector import PayloadError, parse_time, stable_id
from hub.connector.xml import Node
from hub_connector_cap.alert import NAMESPACES

ATOM = "http://www.w3.org/2005/Atom"
MOST_ENTRIES = 10_000
_LINK_TYPES = ("application/cap+xml", "application/common-alerting-protocol+xml", "application/xml", "text/xml", "")
_LONGEST_LINK = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry of Atom, or item of RSS.

    alerts: those that stand in it. links: where an alert may be had, the likeliest first. key: changes with the entry.
    """

    node: Node
    alerts: Sequence[Node]
    links: Sequence[str]
    key: str


def is_alert(root: Node) -> bool:
    """Whether it is an alert by itself."""
    return root.name == "alert" and root.namespace in NAMESPACES


def entries(root: Node) -> list[Entry] | None:
    """The entries of a feed, in its order, or the entry that stands alone; None where `root` is neither.

    Raises PayloadError.
    """
    match root.name, {ATOM: True, None: False}.get(root.namespace):
        case "feed", True:
            nodes = root.children("entry")
        case "rss", False:
            nodes = root.need("channel").children("item")
        case ("entry", True) | ("item", False):
            nodes = [root]
        case _:
            return None
    if len(nodes) > MOST_ENTRIES:
        raise root.wrong(f"holds more than {MOST_ENTRIES:,} entries")
    return [_entry(node) for node in nodes]


def updated(root: Node) -> datetime | None:
    """When the feed says that it was changed; None where it does not, or in a form that it must not have."""
    if root.namespace == ATOM:
        said = root.children("updated")
        try:
            return parse_time(said[0].text()) if said else None
        except PayloadError:
            return None
    said = [found for channel in root.children("channel") for found in channel.children("lastBuildDate")]
    try:
        time = parsedate_to_datetime(said[0].text()) if said else None
    except (ValueError, TypeError, OverflowError):
        return None
    return time if time and time.tzinfo else None


def bare(entry: Entry) -> bytes:
    """An entry that stands alone, with its first link and nothing else: small enough to be kept, whatever it held."""
    atom = entry.node.namespace == ATOM
    root = etree.Element(f"{{{ATOM}}}entry" if atom else "item")
    for link in entry.links[:1]:
        found = etree.SubElement(root, f"{{{ATOM}}}link" if atom else "link")
        if atom:
            found.set("href", link)
        else:
            found.text = link
    return etree.tostring(root)


def empty(root: Node) -> bytes:
    """The feed without its entries and all else that it carries."""
    return b'<rss version="2.0"><channel/></rss>' if root.name == "rss" else f'<feed xmlns="{ATOM}"/>'.encode()


def _entry(node: Node) -> Entry:
    atom = node.namespace == ATOM
    links = _atom_links(node) if atom else [link.text() for link in node.children("link")]
    names = ("id", "updated") if atom else ("guid", "link", "pubDate")
    known = [found.text() for name in names for found in node.children(name)]
    return Entry(
        node=node,
        alerts=[*_alerts(node)],
        links=[link for link in links if 0 < len(link) <= _LONGEST_LINK],
        key=stable_id(*known)[:12],
    )


def _alerts(node: Node) -> Iterator[Node]:
    """Alerts that are children of the entry, or of one of its children: `content`, or an element of the sender's."""
    for namespace in NAMESPACES:
        yield from node.children("alert", namespace)
    for child in node.element:
        inner = Node(child, f"{node.path}/{Node(child).name}" if node.path else Node(child).name)
        if inner.name != "alert":
            for namespace in NAMESPACES:
                yield from inner.children("alert", namespace)


def _atom_links(node: Node) -> list[str]:
    """Those of the media type of CAP, then those of XML, then those of none; never a page for people."""
    found = []
    for link in node.children("link"):
        type_ = (link.attribute("type") or "").partition(";")[0].strip().lower()
        if type_ in _LINK_TYPES:
            found.append((_LINK_TYPES.index(type_), link.attribute("href") or ""))
    return [href for _, href in sorted(found, key=lambda link: link[0])]
