"""The SDK: all that a connector's author imports, with `hub.events` and `hub.errors`.

A connector turns a source's own payload into events. It is pure: the same payload gives the same
events, with the same ids, whenever it is asked; it touches no network, no file and no clock. Where the
source knows people by its own ids, a fact has that id as its `ref`, and no `person`. A connector is
found by its entry point in the group `hub.connectors`:

    [project.entry-points."hub.connectors"]
    jma = "hub_connector_jma:JMA"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from hub.errors import Misuse
from hub.events import Event

GROUP = "hub.connectors"


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What a payload says.

    events: in the order in which they are to be appended; empty where the payload holds none.
    nothing: why it holds none, for the person who sent it; None where it holds some.
    reported_at: the payload's own report time, aware; None where it states none.
    """

    events: Sequence[Event] = ()
    nothing: str | None = None
    reported_at: datetime | None = None


@runtime_checkable
class Connector(Protocol):
    """What the hub asks of a connector.

    name: as in `hub import NAME`. source: the `source` of its events.
    kinds: the kinds that it emits, each known to the hub by a schema.
    """

    name: str
    source: str
    kinds: Sequence[str]

    def translate(self, payload: bytes) -> Translation:
        """The events of `payload`. Raises PayloadError with the field's path and a reason without its value."""
        ...


def find(name: str) -> Connector:
    """The installed connector called `name`. Raises Misuse where there is none, or where it does not load."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none is installed"
        raise Misuse(f"no connector is called {name!r}; known: {known}")
    try:
        plugin = found[name].load()()
    except Exception as error:
        raise Misuse(f"connector {name!r} does not load: {type(error).__name__}: {error}") from None
    if not isinstance(plugin, Connector):
        raise Misuse(f"connector {name!r} lacks name, source, kinds or translate")
    return plugin


def installed() -> list[dict[str, Any]]:
    """Every connector that an entry point names: name, kinds, and the error of one that does not load."""
    rows: list[dict[str, Any]] = []
    for name in sorted(point.name for point in entry_points(group=GROUP)):
        try:
            rows.append({"name": name, "kinds": list(find(name).kinds), "error": None})
        except Misuse as error:
            rows.append({"name": name, "kinds": [], "error": str(error)})
    return rows
