"""A town that `careyell` writes to: people, their ids at the service, and a clinic that may see their care."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import Town
from hub.intake import Result
from hub.plugins import Plugins
from hub_connector_careyell import Careyell

Shown = tuple[str, str, str, str]
"""Person, kind, event and what it says."""


class Home(Town):
    """A town whose hub has the connector, with what the operator set for it."""

    def __init__(self, folder: Path, plugins: Plugins | None = None) -> None:
        super().__init__(folder, plugins)
        self.hub.init()
        clinic = {"recipient": "clinic", "class": "hospital", "areas": ["*"], "purposes": ["medical"]}
        self.tell("recipient.registered", **clinic)

    def welcome(self, *persons: str) -> None:
        """Enrol people who let the clinic see their care."""
        grant = {"to": {"recipient": "clinic"}, "kinds": ["care.*"], "purposes": ["medical"], "modes": ["normal"]}
        events = []
        for person in persons:
            events.append(self.event("person.enrolled", person=person, areas=["07202"]))
            events.append(self.event("consent.granted", person=person, grant=f"g-{person}", data="all", **grant))
        assert {result.status for result in self.hub.intake.take(events)} == {"accepted"}

    def link(self, ref: str, person: str) -> None:
        self.tell("identity.linked", person=person, source="careyell", ref=ref)

    def bring(self, payload: bytes) -> list[Result]:
        """Translate a page and take it in."""
        self.wait()
        return self.hub.intake.take(Careyell().translate(payload).events)

    def shown(self, *persons: str, history: bool = True, prefix: str = "") -> list[Shown]:
        """What the clinic sees; `prefix` is taken off the ids."""
        names = tuple(map(self.hub.disclosure.name_of, persons)) or None
        answer = json.loads(self.read("clinic", "medical", history=history, persons=names).body)
        return sorted(
            (said["person"], item["kind"], item["event"].removeprefix(prefix), json.dumps(item["data"], sort_keys=True))
            for said in answer["persons"]
            for item in said["items"]
        )

    def waiting(self) -> int:
        return self.hub.waiting.count()


@contextmanager
def home(folder: Path, plugins: Plugins | None = None) -> Iterator[Home]:
    """A home in an empty folder, closed at the end."""
    opened = Home(folder, plugins)
    try:
        yield opened
    finally:
        opened.close()


def said(shown: list[Shown]) -> list[tuple[str, str, Any]]:
    """Person, event and data."""
    return [(person, event, json.loads(data)) for person, _, event, data in shown]
