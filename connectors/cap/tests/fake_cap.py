"""A feed and its alerts over real HTTP: changes, repeats, reorders, fails and vanishes as it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sources import Source, source

HUNG_UP = None


@dataclass
class Feed:
    """documents: what stands at each path below `/api/`. failing: what is answered instead, once for each item."""

    documents: dict[str, str] = field(default_factory=dict)
    failing: dict[str, list[Any]] = field(default_factory=dict)
    modified: str | None = None
    here: Source = field(default_factory=Source)

    def __call__(self, path: str) -> Any:
        name = path.removeprefix("/api/")
        if self.failing.get(name):
            return self.failing[name].pop(0)
        if name not in self.documents:
            return (404, {}, b"")
        body = self.documents[name].encode()
        etag = f'"{sha256(body).hexdigest()[:16]}"'
        said = self.here.headers[-1]
        if said.get("if-none-match") == etag or (self.modified and said.get("if-modified-since") == self.modified):
            return (304, {}, b"")
        headers = {"Last-Modified": self.modified} if self.modified else {"ETag": etag}
        return (200, headers, body)

    @property
    def asked(self) -> list[str]:
        """What was asked for since it was last looked at."""
        found = [path.removeprefix("/api/") for path in self.here.asked]
        self.here.asked.clear()
        return found

    def lists(self, *entries: str) -> None:
        """What the feed holds from now on."""
        stamp = "<updated>2026-06-02T09:00:00+09:00</updated>"
        said = "".join(f"<entry>{entry}</entry>" for entry in entries)
        self.documents["feed.atom"] = f'<feed xmlns="http://www.w3.org/2005/Atom"><id>urn:f</id>{stamp}{said}</feed>'

    def link(self, name: str, updated: str = "1") -> str:
        """An entry that links to the document called `name`."""
        return f'<id>{name}</id><updated>{updated}</updated><link href="{self.here.url}/{name}"/>'


@contextmanager
def serving() -> Iterator[Feed]:
    """Serve a feed on this machine until the end of the block."""
    feed = Feed()
    with source(feed) as here:
        feed.here = here
        yield feed
