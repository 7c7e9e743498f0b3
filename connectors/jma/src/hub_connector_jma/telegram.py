"""A telegram of 気象庁防災情報XML: its root, its namespaces, what Control and Head say, and how one type is read.

A telegram is read by the module of its family (`earthquake`, `tsunami`, `volcano`, `warnings`, `landslide`, `flood`).
Each module has `READS`: by Control/Title, the type and the function that reads the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from hub.connector import PayloadError, xml
from hub.connector.xml import Node

LIMIT_BYTES = 4 * 1024 * 1024
"""The largest telegrams of JMA's own samples have 0.3 MiB; a quake felt all over the country about 1 MiB."""

JMX = "http://xml.kishou.go.jp/jmaxml1/"
HEAD = "http://xml.kishou.go.jp/jmaxml1/informationBasis1/"
SEISMOLOGY = "http://xml.kishou.go.jp/jmaxml1/body/seismology1/"
METEOROLOGY = "http://xml.kishou.go.jp/jmaxml1/body/meteorology1/"
VOLCANOLOGY = "http://xml.kishou.go.jp/jmaxml1/body/volcanology1/"
BASIS = "http://xml.kishou.go.jp/jmaxml1/elementBasis1/"

MUNICIPALITIES = "気象・地震・火山情報／市町村等"
"""The code system of seven digits: the municipality's five, and two that divide a few of them."""

STATUSES = {"通常": "actual", "訓練": "exercise", "試験": "test"}
ACTIONS = {"発表": "issued", "遅延": "issued", "訂正": "amended", "取消": "cancelled"}

T = TypeVar("T")
_SERIAL = re.compile(r"[0-9]{1,9}")
_EVENT_ID_LENGTH = 64
_MOST_EVENT_IDS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What Control and Head say, the same for every hazard of the telegram.

    report: the type code, as VTSE41. event_ids: of Head/EventID, which is a list; empty where there is none.
    serial: None where it is empty.
    """

    report: str
    status: str
    action: str
    reported_at: datetime
    sent_at: datetime
    target_at: datetime | None
    valid_until: datetime | None
    event_ids: tuple[str, ...]
    serial: str | None
    issuer: str | None
    title: str | None
    headline: str | None

    @property
    def cancelled(self) -> bool:
        """Whether the telegram takes back an earlier one (取消); its body then has only a sentence."""
        return self.action == "cancelled"

    @property
    def event_id(self) -> str:
        """The one EventID. Raises PayloadError where there is none, or several."""
        if len(self.event_ids) != 1:
            raise PayloadError("is empty, or holds several ids", path="Head/EventID")
        return self.event_ids[0]


Hazard = dict[str, Any]
"""What a reader adds to the fields of About, for one hazard and one chain: fields of `hazard.reported`.

It has at least `hazard`, `chain` and `areas`; what is None is left out. It may say `action` ("lifted") or `report`
otherwise than the telegram's head.
"""

Said = Sequence[Hazard] | str
"""The hazards of a telegram, one for each hazard and chain; or why there is none, without a word of the payload."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a telegram of one Control/Title is read.

    report: its type code, which it does not carry. info_kind: what Head/InfoKind then is. read: gets the root.
    """

    report: str
    info_kind: str
    read: Callable[[Node, About], Said]


def read(payload: bytes) -> Node:
    """The root `Report` of a JMA telegram, which is UTF-8. Raises PayloadError."""
    root = xml.read(payload, LIMIT_BYTES)
    if root.element.tag != f"{{{JMX}}}Report":
        raise PayloadError(f"is no JMA report: the root is not Report of {JMX}")
    return root


def about(report: Node, reading: Reading) -> About:
    """What the telegram's Control and Head say. Raises PayloadError."""
    control, head = report.need("Control"), report.need("Head", HEAD)
    if head.need("InfoKind").word() != reading.info_kind:
        raise head.need("InfoKind").wrong("does not go with Control/Title")
    return About(
        report=reading.report,
        status=one_of(STATUSES, control.need("Status")),
        action=one_of(ACTIONS, head.need("InfoType")),
        reported_at=head.need("ReportDateTime").time(),
        sent_at=control.need("DateTime").time(),
        target_at=head.optional_time("TargetDateTime"),
        valid_until=head.optional_time("ValidDateTime"),
        event_ids=_event_ids(head.need("EventID")),
        serial=_serial(head.need("Serial")),
        issuer=control.optional("PublishingOffice"),
        title=head.optional("Title"),
        headline=head.need("Headline").optional("Text"),
    )


def _event_ids(said: Node) -> tuple[str, ...]:
    ids = said.text().split()
    if len(ids) > _MOST_EVENT_IDS or len(set(ids)) != len(ids):
        raise said.wrong(f"is no list of up to {_MOST_EVENT_IDS} ids")
    if any(len(one) > _EVENT_ID_LENGTH or not one.isprintable() for one in ids):
        raise said.wrong(f"is no id of up to {_EVENT_ID_LENGTH} printable characters")
    return tuple(ids)


def _serial(said: Node) -> str | None:
    if said.text() and not _SERIAL.fullmatch(said.text()):
        raise said.wrong("is no number of up to nine digits")
    return said.text() or None


def one_of(words: Mapping[str, T], said: Node) -> T:
    """What `words` says of the element's text. Raises PayloadError."""
    if said.word() not in words:
        raise said.wrong(f"is none of {', '.join(words)}")
    return words[said.word()]


def municipality(code: Node) -> str:
    """The area code of a municipality: the first five digits of JMA's seven. Raises PayloadError."""
    if not re.fullmatch(r"[0-9]{7}", code.text()):
        raise code.wrong("is no code of a municipality (seven digits)")
    return code.text()[:5]
