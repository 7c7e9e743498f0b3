"""Files in: payloads, each translated by a connector and taken in one transaction; and lists of links (ID連携)."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from hub.codec import is_id
from hub.connector import Connector
from hub.errors import Misuse, PayloadError
from hub.events import Event
from hub.hub import Hub
from hub.log.clock import SetClock
from hub.payloads import Delivery, Taken

_LARGEST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What became of one payload. reason: why nothing, or why refused."""

    path: str
    status: Literal["accepted", "nothing", "refused"]
    reason: str | None = None
    events: tuple[tuple[int, str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The line that `hub import --json` prints."""
        events = [{"position": position, "kind": kind, "id": id_} for position, kind, id_ in self.events]
        reason = {} if self.reason is None else {"reason": self.reason}
        return {"path": self.path, "status": self.status, **reason, "events": events}


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that are meant: a folder means all files in it, by name."""
    for path in paths:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file())
        else:
            yield path


def import_files(
    hub: Hub, connector: Connector, paths: Iterable[Path], simulated: SetClock | None = None
) -> Iterator[Imported]:
    """Take each payload in; what is yielded is durable.

    simulated: the clock to set to each payload's own report time, for replaying the past.
    """
    for path in files(paths):
        yield _import(hub, connector, path, simulated)


def _import(hub: Hub, connector: Connector, path: Path, simulated: SetClock | None) -> Imported:
    name = str(path)
    try:
        payload = _read(path)
    except PayloadError as error:
        return Imported(path=name, status="refused", reason=str(error))

    def reported(time: datetime) -> None:
        if simulated is not None:
            simulated.set(max(simulated.now(), time))

    taken = hub.payloads.take(Delivery(connector=connector, payload=payload, via="import"), reported)
    return _told(name, taken)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise PayloadError("the file is larger than 64 MiB")
        return path.read_bytes()
    except OSError as error:
        raise PayloadError(f"the file cannot be read: {error.strerror or type(error).__name__}") from None


def _told(name: str, taken: Taken) -> Imported:
    events: list[tuple[int, str, str]] = []
    for result in taken.results:
        if result.status == "accepted" and result.position is not None:
            events.append((result.position, result.event.kind, result.event.id))
            events += [(entry.position, entry.event.kind, entry.event.id) for entry in result.caused]
    return Imported(path=name, status=taken.status, reason=taken.reason, events=tuple(events))


OPERATOR = "operator"
"""The source of links by a file, and who made them."""

LINK_FIELDS = ["source", "ref", "person"]
_LINKS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Linked:
    """What became of one line of a list of links. reason: why it was refused, without a value of the line."""

    line: int
    status: str
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The line that `hub link --json` prints."""
        return {"line": self.line, "status": self.status} | ({} if self.reason is None else {"reason": self.reason})


def link_file(hub: Hub, path: Path) -> Iterator[Linked]:
    """Take in a list of links: UTF-8 CSV under the header `source,ref,person`. What is yielded is durable.

    A line is the same event whenever it comes, so that a file may be run twice. A link that was undone since is
    not made again by it. Raises Misuse where the file cannot be read as such a list; the lines before are taken.
    """
    together: list[tuple[int, Event | PayloadError]] = []
    for line in _link_lines(path):
        together.append(line)
        if len(together) == _LINKS_AT_ONCE:
            yield from _link(hub, together)
            together = []
    yield from _link(hub, together)


def _link(hub: Hub, lines: list[tuple[int, Event | PayloadError]]) -> Iterator[Linked]:
    results = iter(hub.intake.take(said for _, said in lines if isinstance(said, Event)))
    for number, said in lines:
        if isinstance(said, PayloadError):
            yield Linked(line=number, status="refused", reason=str(said))
        else:
            result = next(results)
            reason = None if result.error is None else str(result.error)
            yield Linked(line=number, status=result.status, reason=reason)


def _link_lines(path: Path) -> Iterator[tuple[int, Event | PayloadError]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            if next(reader, None) != LINK_FIELDS:
                raise Misuse(f"{path.name}: its first line is not {','.join(LINK_FIELDS)}")
            for row in reader:
                if row:
                    yield reader.line_num, _link_event(row)
    except UnicodeDecodeError:
        raise Misuse(f"{path.name}: is no UTF-8") from None
    except csv.Error:
        raise Misuse(f"{path.name}: is no CSV; see its quotation marks") from None
    except OSError as error:
        raise Misuse(f"{path.name}: cannot be read: {error.strerror or type(error).__name__}") from None


def _link_event(row: list[str]) -> Event | PayloadError:
    if len(row) != len(LINK_FIELDS):
        return PayloadError(f"has not {len(LINK_FIELDS)} fields")
    for name, value in zip(LINK_FIELDS, row, strict=True):
        if not is_id(value):
            return PayloadError("is missing" if not value else "is no id", path=name)
    source, ref, person = row
    same = hashlib.sha256(json.dumps(row).encode()).hexdigest()
    data = {"source": source, "ref": ref, "by": OPERATOR}
    return Event(source=OPERATOR, id=f"link:{same}", kind="identity.linked", person=person, data=data)
