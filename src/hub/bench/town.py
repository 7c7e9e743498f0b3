"""What the bench says to a hub: the city that is measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hub.errors import HubError
from hub.events import LOCATION, Event
from hub.intake import Result

TIME = datetime(2026, 6, 1, tzinfo=UTC)
READER, RESCUER, PURPOSE = "aizu-city", "fire-brigade", "rescue"
_CITY = "07202"


def all_accepted(results: list[Result]) -> list[Result]:
    refused = next((result for result in results if result.status != "accepted"), None)
    if refused is not None:
        raise HubError(f"the bench's own events were not accepted: {refused.error or refused.status}")
    return results


def name_of(number: int) -> str:
    return f"person-{number:06}"


def _control(kind: str, id: str, data: dict[str, Any], person: str | None = None) -> Event:
    return Event(source="bench", id=f"{kind}:{id}", kind=kind, person=person, data=data)


def registered(recipient: str, class_: str) -> Event:
    data = {"recipient": recipient, "class": class_, "areas": [_CITY], "purposes": [PURPOSE]}
    return _control("recipient.registered", recipient, data)


def enrolled(number: int) -> Event:
    return _control("person.enrolled", str(number), {"areas": [_CITY]}, name_of(number))


def granted(number: int, recipient: str = READER, modes: Sequence[str] = ("normal", "emergency")) -> Event:
    data = {
        "grant": f"{recipient}:{number}",
        "to": {"recipient": recipient},
        "kinds": [LOCATION],
        "purposes": [PURPOSE],
        "modes": list(modes),
        "data": "latest",
    }
    return _control("consent.granted", data["grant"], data, name_of(number))  # type: ignore[arg-type]


def declared(emergency: str, until: datetime) -> Event:
    data = {"emergency": emergency, "areas": [_CITY], "until": until, "hazard": "earthquake"}
    return _control("emergency.declared", emergency, data)


def lifted(emergency: str) -> Event:
    return _control("emergency.lifted", emergency, {"emergency": emergency})


def envelope_of(event: Event, record: bytes) -> dict[str, Any]:
    return {
        "source": event.source,
        "id": event.id,
        "person": event.person,
        "occurred_at": event.occurred_at,
        "received_at": event.occurred_at,
        "exercise": False,
        "data": record,
    }
