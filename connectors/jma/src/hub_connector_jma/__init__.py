"""Telegrams of the Japan Meteorological Agency (気象庁防災情報XML) as `hazard.reported`.

Read are 震度速報 (VXSE51) and 震源・震度に関する情報 (VXSE53); see README.md for what of them. Every other
telegram is answered with "nothing" and why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hub.connector import UNSET, Event, Settings, Translation
from hub.connector.xml import Node, fingerprint
from hub_connector_jma import earthquake
from hub_connector_jma.telegram import HEAD, SEISMOLOGY, read

SOURCE = "jma"
KIND = "hazard.reported"

_TYPES = {"震度速報": ("VXSE51", "震度速報"), "震源・震度に関する情報": ("VXSE53", "地震情報")}
"""By Control/Title: the type code, which a telegram does not carry, and the InfoKind that goes with it."""

_STATUSES = {"通常": "actual", "訓練": "exercise", "試験": "test"}
_ACTIONS = {"発表": "issued", "訂正": "amended", "取消": "cancelled"}
_EVENT_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
_SERIAL = re.compile(r"[0-9]{1,9}")
_TITLE_LENGTH = 60


class JMA:
    """The connector `jma`. It holds no state."""

    name = "jma"
    source = SOURCE
    kinds: Sequence[str] = (KIND,)
    quality: Mapping[str, str] = {
        "refs": "exempt: a telegram is about no person",
        "corrections": "done",
        "drills": "done",
        "signature": "exempt: telegrams come as files or by a relay that shows a token",
        "polling": "exempt: telegrams are brought",
        "hostile": "done",
        "measured": "done",
        "documented": "done",
    }

    def __init__(self, settings: Settings = UNSET) -> None:
        """There is nothing to set."""

    def translate(self, payload: bytes) -> Translation:
        """One event for an earthquake telegram, else nothing and why. Raises PayloadError."""
        report = read(payload)
        control, head = report.need("Control"), report.need("Head", HEAD)
        title = control.need("Title").word()
        reported_at = head.need("ReportDateTime").time()
        if title not in _TYPES:
            return Translation(nothing=_other(title), reported_at=reported_at)
        status = _one_of(_STATUSES, control.need("Status"))
        if status == "test":
            return Translation(
                nothing=f"「{title}」 is a test of the line (試験); nothing to record",
                reported_at=reported_at,
            )
        return Translation(events=(_event(report, title, status, reported_at),), reported_at=reported_at)


def _other(title: str) -> str:
    shown = "".join(letter for letter in title[:_TITLE_LENGTH] if letter.isprintable())
    return f"「{shown}」 is not an earthquake telegram (震度速報, 震源・震度情報); nothing to record"


def _event(report: Node, title: str, status: str, reported_at: datetime) -> Event:
    """occurred_at is the report's time: the fact is the report, and the newest report is the newest fact.

    When the ground shook is `origin_at`.
    """
    control, head = report.need("Control"), report.need("Head", HEAD)
    type_, info_kind = _TYPES[title]
    if head.need("InfoKind").word() != info_kind:
        raise head.need("InfoKind").wrong("does not go with Control/Title")
    chain, serial = _matching(_EVENT_ID, head.need("EventID")), head.need("Serial")
    action = _one_of(_ACTIONS, head.need("InfoType"))
    number = _matching(_SERIAL, serial) if serial.text() else None
    data: dict[str, Any] = {
        "hazard": "earthquake",
        "chain": chain,
        "report": type_,
        "serial": number,
        "action": action,
        "status": status,
        "reported_at": reported_at,
        "sent_at": control.need("DateTime").time(),
        "target_at": head.optional_time("TargetDateTime"),
        "issuer": control.optional("PublishingOffice"),
        "title": head.optional("Title"),
        "headline": head.need("Headline").optional("Text"),
        **_said(report, type_, cancelled=action == "cancelled"),
    }
    moment = reported_at.strftime("%Y%m%dT%H%M%SZ")
    return Event(
        source=SOURCE,
        id=":".join((type_, chain, number or "-", action, moment, status, fingerprint(report))),
        kind=KIND,
        occurred_at=reported_at,
        exercise=status == "exercise",
        data={name: value for name, value in data.items() if value is not None},
    )


def _said(report: Node, type_: str, *, cancelled: bool) -> dict[str, Any]:
    """What the body adds; a cancellation has only a sentence there."""
    if cancelled:
        return {"areas": []}
    body = report.need("Body", SEISMOLOGY)
    if type_ == "VXSE51":
        return earthquake.flash(body)
    listed = report.need("Head", HEAD).need("Headline").children("Information")
    return earthquake.full(body, felt=bool(listed))


def _one_of(words: Mapping[str, str], said: Node) -> str:
    if said.word() not in words:
        raise said.wrong(f"is none of {', '.join(words)}")
    return words[said.word()]


def _matching(pattern: re.Pattern[str], said: Node) -> str:
    if not pattern.fullmatch(said.word()):
        raise said.wrong(f"is not of the form {pattern.pattern}")
    return said.word()
