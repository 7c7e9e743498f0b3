"""A town that `careyell` writes to: people, their ids at the service, and a clinic that may see their care."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub_connector_careyell import Careyell

from conftest import Town
from hub.hub import Hub
from hub.intake import Result
from hub.plugins import Plugins, Setting

Shown = tuple[str, str, str, str]
"""Person, kind, event and what it says."""


class Home(Town):
    """A town whose hub has the connector, with what the operator set for it."""

    def __init__(self, folder: Path, settings: Mapping[str, Setting] | None = None) -> None:
        super().__init__(folder)
        self.settings = settings
        self.reopen()
        self.hub.init()
        self.tell(
            "recipient.registered", recipient="clinic", areas=["*"], purposes=["medical"], **{"class": "hospital"}
        )

    def reopen(self) -> Home:
        self.close()
        self.hub = Hub.open(self.url, self.clock, plugins=Plugins(self.settings))
        return self

    def welcome(self, person: str) -> None:
        """Enrol a person who lets the clinic see their care."""
        self.tell("person.enrolled", person=person, areas=["07202"])
        self.tell(
            "consent.granted",
            person=person,
            grant=f"g-{person}",
            to={"recipient": "clinic"},
            kinds=["care.*"],
            purposes=["medical"],
            modes=["normal"],
            data="all",
        )

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
def home(folder: Path, settings: Mapping[str, Setting] | None = None) -> Iterator[Home]:
    """A home in an empty folder, closed at the end."""
    opened = Home(folder, settings)
    try:
        yield opened
    finally:
        opened.close()


def said(shown: list[Shown]) -> list[tuple[str, str, Any]]:
    """Person, event and data."""
    return [(person, event, json.loads(data)) for person, _, event, data in shown]
