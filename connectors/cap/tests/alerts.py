"""Alerts and feeds of our own making, and a connector that believes their sender."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape

from hub.connector import Event, PayloadError, Settings, Translation
from hub_connector_cap import CAP

SENDER = "cap@aizu.example"
V12, V11 = "urn:oasis:names:tc:emergency:cap:1.2", "urn:oasis:names:tc:emergency:cap:1.1"
AIZU, KITAKATA = ("JIS X 0402", "07202"), ("JIS X 0402", "07208")


def area(*codes: tuple[str, str], name: str = "会津", inside: str = "") -> str:
    """An `area`; inside: polygons and circles."""
    said = "".join(f"<geocode><valueName>{n}</valueName><value>{v}</value></geocode>" for n, v in codes)
    return f"<area><areaDesc>{name}</areaDesc>{inside}{said}</area>"


def info(
    *areas: str,
    language: str | None = "ja-JP",
    event: str = "大雨特別警報",
    severity: str = "Extreme",
    certainty: str = "Observed",
    urgency: str = "Immediate",
    response: str | None = None,
    more: str = "",
) -> str:
    """An `info` that declares, unless told otherwise. more: what stands between eventCode and area."""
    return "".join(
        (
            "<info>",
            f"<language>{language}</language>" if language else "",
            f"<category>Met</category><event>{event}</event>",
            f"<responseType>{response}</responseType>" if response else "",
            f"<urgency>{urgency}</urgency><severity>{severity}</severity><certainty>{certainty}</certainty>{more}",
            *areas,
            "</info>",
        )
    )


def alert(
    *infos: str,
    identifier: str = "a1",
    sent: str = "2026-06-02T09:00:00+09:00",
    sender: str = SENDER,
    status: str = "Actual",
    type_: str = "Alert",
    scope: str = "Public",
    names: Iterable[str] | None = None,
    version: str = V12,
    more: str = "",
) -> str:
    """An alert. names: what stands in `references`."""
    references = "" if names is None else f"<references>{escape(' '.join(names))}</references>"
    return (
        f'<alert xmlns="{version}"><identifier>{identifier}</identifier><sender>{sender}</sender><sent>{sent}</sent>'
        f"<status>{status}</status><msgType>{type_}</msgType><scope>{scope}</scope>{references}{more}"
        f"{''.join(infos)}</alert>"
    )


def named(identifier: str, sent: str = "2026-06-02T09:00:00+09:00", sender: str = SENDER) -> str:
    """How `references` names an alert."""
    return f"{sender},{identifier},{sent}"


def atom(*entries: str) -> str:
    """An Atom feed of these entries' content."""
    said = "".join(f"<entry><id>urn:{n}</id><title>t</title>{entry}</entry>" for n, entry in enumerate(entries))
    return f'<feed xmlns="http://www.w3.org/2005/Atom"><id>urn:f</id><title>t</title>{said}</feed>'


def inside(alert: str) -> str:
    """An alert as an Atom entry's content."""
    return f'<content type="application/cap+xml">{alert}</content>'


def cap(**options: Any) -> CAP:
    """The connector that believes SENDER."""
    return CAP(Settings(options={"senders": [SENDER], **options}))


def told(payload: str, connector: CAP | None = None) -> Translation:
    return (connector or cap()).translate(payload.encode())


def only(payload: str, connector: CAP | None = None) -> Event:
    (event,) = told(payload, connector).events
    return event


def refusal(payload: str | bytes, connector: CAP | None = None) -> PayloadError:
    """The error that a payload is refused with."""
    try:
        (connector or cap()).translate(payload.encode() if isinstance(payload, str) else payload)
    except PayloadError as error:
        return error
    raise AssertionError("it is not refused")
