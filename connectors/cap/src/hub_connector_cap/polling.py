"""Asking a feed for its alerts, and asking only for what is new.

The feed is asked for with the ETag and the Last-Modified that it gave. Of what it lists, an entry that was not seen
is taken: its alert where it holds one, else what it links to, if that lies below the source's `url`. The state holds
the entries that the feed listed and that are done, and its ETag once all of them are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin, urlsplit

from hub.connector import Fetch, Misuse, PayloadError, Pulled, Response, Unavailable
from hub.connector.xml import Node, read
from hub_connector_cap import carriers
from hub_connector_cap.trust import alone

LIMIT_BYTES = 16 * 1024 * 1024
MOST_KEPT = 1_000
"""Entries that the state can hold in its 16 KiB. Of a longer feed the oldest are asked for again."""

LARGEST_KEPT = 1024 * 1024
"""What the hub keeps of a payload that it refuses."""

_LONGEST_HEADER = 200
_MOST_FAILURES = 3
_MOST_LINKS = 3
_DENIED = (401, 403)
_GONE = (404, 410)
_ROOT = "http://feed.invalid/url/"
"""Stands for the source's `url`, which a connector does not know, while a relative link is resolved."""

_URI = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")


@dataclass(frozen=True, kw_only=True)
class _State:
    etag: str = ""
    modified: str = ""
    seen: dict[str, None] = field(default_factory=dict)

    def text(self) -> str:
        return json.dumps({"etag": self.etag, "modified": self.modified, "seen": "".join(self.seen)})

    def asking(self) -> dict[str, str]:
        said = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in said.items() if value}


def _state(text: str | None) -> _State:
    said = json.loads(text) if text else {}
    seen = said.get("seen", "")
    keys = [seen[at : at + 12] for at in range(0, len(seen), 12)]
    return _State(etag=said.get("etag", ""), modified=said.get("modified", ""), seen=dict.fromkeys(keys))


def poll(path: str, state: str | None, fetch: Fetch, is_read: Callable[[bytes], bool]) -> Iterator[Pulled]:
    """What is new in the feed at `path`, the oldest entry first.

    is_read: whether a payload can be read. One that cannot, and is too large to be kept, would end the polling:
    its bare entry is handed on instead.
    An alert that cannot be had now keeps none of the others waiting: it is asked for again the next time.
    """
    before = _state(state)
    answer = fetch(path, headers=before.asking(), allow=(304,))
    if answer.status == 304:
        return
    after = replace(before, etag=_header(answer, "etag"), modified=_header(answer, "last-modified"))
    try:
        root = read(answer.body, LIMIT_BYTES)
        entries = None if carriers.is_alert(root) else carriers.entries(root)
    except PayloadError:
        entries = None
    if entries is None:  # an alert by itself, or what `translate` refuses with its reason
        yield Pulled(payload=answer.body, state=after.text())
        return
    yield from _new(root, entries, before, after, _Source(path, fetch, is_read))


@dataclass(frozen=True)
class _Source:
    """What is asked, and how."""

    path: str
    fetch: Fetch
    is_read: Callable[[bytes], bool]

    def payloads(self, entry: carriers.Entry) -> list[bytes]:
        """The alerts of an entry, at least one; the bare entry where none is to be had, which is then refused.

        Raises Unavailable and Misuse for what may be had another time.
        """
        found = [alone(alert.element) for alert in entry.alerts] or [*self._linked(entry)]
        small = [
            alert if len(alert) <= LARGEST_KEPT or self.is_read(alert) else carriers.bare(entry) for alert in found
        ]
        return small or [carriers.bare(entry)]

    def _linked(self, entry: carriers.Entry) -> Iterator[bytes]:
        for link in entry.links[:_MOST_LINKS]:
            answer = self._below(link)
            if answer is None or answer.status in _GONE:
                continue
            if answer.status in _DENIED:
                raise Misuse(f"the source answers {answer.status} for an alert that its feed names")
            yield answer.body
            return

    def _below(self, link: str) -> Response | None:
        """What a link leads to; None where it lies elsewhere than below `url`."""
        address = _address(self.path, link)
        try:
            return self.fetch(address, allow=(*_DENIED, *_GONE)) if address else None
        except Misuse:
            return None


def _address(path: str, link: str) -> str | None:
    """A link of the feed at `path` as `fetch` takes it; None where it is none, or leaves what lies below `url`."""
    try:
        whole = urljoin(_ROOT + path, link) if _URI.fullmatch(link) else ""
        urlsplit(whole)
    except ValueError:
        return None
    if whole.startswith(_ROOT):
        return whole.removeprefix(_ROOT)
    return link if link.startswith(("https://", "http://")) else None


def _new(root: Node, entries: list[carriers.Entry], before: _State, after: _State, source: _Source) -> Iterator[Pulled]:
    """The entries that were not seen; at the end the feed without them, with what is remembered of it."""
    listed = {entry.key for entry in entries[:MOST_KEPT]}
    seen = {key: None for key in before.seen if key in listed}
    late: list[Unavailable | Misuse] = []
    for entry in reversed(entries):
        if entry.key in seen:
            continue
        try:
            payloads = source.payloads(entry)
        except (Unavailable, Misuse) as error:
            late.append(error)
            if len(late) == _MOST_FAILURES:
                raise
            continue
        for payload in payloads[:-1]:
            yield Pulled(payload=payload, state=replace(before, seen=seen).text())
        if entry.key in listed:
            seen[entry.key] = None
        yield Pulled(payload=payloads[-1], state=replace(before, seen=seen).text())
    if late:
        raise late[-1]
    done = replace(after, seen=seen)
    if done != before:
        yield Pulled(payload=carriers.empty(root), state=done.text(), up_to=carriers.updated(root))


def _header(answer: Response, name: str) -> str:
    said = answer.headers.get(name, "")
    return said if len(said) <= _LONGEST_HEADER and said.isprintable() and said.isascii() else ""
