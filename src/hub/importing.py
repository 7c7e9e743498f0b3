"""Files in: each payload is translated by a connector and handed to intake, one transaction a payload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hub.connector import Connector, Translation
from hub.errors import PayloadError, Refused
from hub.hub import Hub
from hub.intake import Result
from hub.log.clock import SetClock
from hub.quarantine import Refusal

_LARGEST_BYTES = 64 * 1024 * 1024
BEFORE = "received before"


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
    payload = b""
    try:
        payload = _read(path)
        translation = connector.translate(payload)
    except PayloadError as error:
        _keep(hub, connector, payload, error)
        return Imported(path=name, status="refused", reason=str(error))
    if simulated is not None and translation.reported_at is not None:
        simulated.set(max(simulated.now(), translation.reported_at))
    results = hub.intake.take(translation.events)
    refused = next((result.error for result in results if result.error is not None), None)
    if refused is not None:
        _keep(hub, connector, payload, refused)
    return _told(name, translation, results)


def _keep(hub: Hub, connector: Connector, payload: bytes, error: PayloadError | Refused) -> None:
    if payload:
        hub.quarantine.keep(
            [Refusal.of(error, via=f"import:{connector.name}", payload=payload, source=connector.source)]
        )


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise PayloadError("the file is larger than 64 MiB")
        return path.read_bytes()
    except OSError as error:
        raise PayloadError(f"the file cannot be read: {error.strerror or type(error).__name__}") from None


def _told(name: str, translation: Translation, results: list[Result]) -> Imported:
    events: list[tuple[int, str, str]] = []
    for result in results:
        if result.status == "accepted" and result.position is not None:
            events.append((result.position, result.event.kind, result.event.id))
            events += [(entry.position, entry.event.kind, entry.event.id) for entry in result.caused]
    refused = [result for result in results if result.status == "refused"]
    if refused:
        reason = "; ".join(str(result.error) for result in refused)
        return Imported(path=name, status="refused", reason=reason, events=tuple(events))
    waiting = sum(result.status == "waiting" for result in results)
    if events or waiting:
        reason = f"{waiting} of its facts wait until their id is linked" if waiting else None
        return Imported(path=name, status="accepted", reason=reason, events=tuple(events))
    return Imported(path=name, status="nothing", reason=BEFORE if results else translation.nothing)
