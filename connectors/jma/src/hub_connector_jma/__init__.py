"""Telegrams of the Japan Meteorological Agency (気象庁防災情報XML) as `hazard.reported`.

    Control/Title --> Reading of one family --> hazards, one for each hazard and chain --> events
                 \\-> titles.UNREAD, or unknown --> nothing, and why

README.md says what of each telegram is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub.connector import UNSET, Event, Settings, Translation, stable_id
from hub.connector.xml import fingerprint
from hub_connector_jma import earthquake, flood, landslide, tsunami, volcano, warnings
from hub_connector_jma.telegram import HEAD, About, Hazard, Reading, about, read
from hub_connector_jma.titles import UNREAD

SOURCE = "jma"
KIND = "hazard.reported"

READS: Mapping[str, Reading] = {
    title: reading
    for family in (earthquake, tsunami, volcano, warnings, landslide, flood)
    for title, reading in family.READS.items()
}

_CHAIN_LENGTH = 64


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
        """One event for each hazard and chain of the telegram, else nothing and why. Raises PayloadError."""
        report = read(payload)
        title = report.need("Control").need("Title").word()
        reported_at = report.need("Head", HEAD).need("ReportDateTime").time()
        if title not in READS:
            return Translation(nothing=_unread(title), reported_at=reported_at)
        head = about(report, READS[title])
        if head.status == "test":
            nothing = f"{head.report}: a test of the line (試験); nothing to record"
            return Translation(nothing=nothing, reported_at=reported_at)
        said = READS[title].read(report, head)
        if isinstance(said, str):
            return Translation(nothing=f"{head.report}: {said}; nothing to record", reported_at=reported_at)
        print_ = fingerprint(report)
        return Translation(events=[_event(head, hazard, print_) for hazard in said], reported_at=reported_at)

    def sample(self, records: int) -> bytes:
        """A 震源・震度 telegram that names about `records` municipalities, as many as Japan has (1,900)."""
        return earthquake.sample(min(records, 1_900))


def _unread(title: str) -> str:
    if title not in UNREAD:
        return "a telegram of a kind that is not read; nothing to record"
    type_, reason = UNREAD[title]
    return f"{type_}: {reason}; nothing to record"


def _event(head: About, hazard: Hazard, print_: str) -> Event:
    """occurred_at is the report's time: the fact is the report, and the newest report is the newest fact.

    When the ground shook is `origin_at`.
    """
    data: Hazard = {
        "hazard": hazard["hazard"],
        "chain": hazard["chain"],
        "report": head.report,
        "serial": head.serial,
        "action": head.action,
        "status": head.status,
        "reported_at": head.reported_at,
        "sent_at": head.sent_at,
        "target_at": head.target_at,
        "valid_until": head.valid_until if _is_forecast(hazard) else None,
        "issuer": head.issuer,
        "title": head.title,
        "headline": head.headline,
        **hazard,
    }
    return Event(
        source=SOURCE,
        id=_id(data, print_),
        kind=KIND,
        occurred_at=head.reported_at,
        exercise=head.status == "exercise",
        data={name: value for name, value in data.items() if value is not None},
    )


def _is_forecast(hazard: Hazard) -> bool:
    """Whether a report's ValidDateTime is the end of all that it says: the hub ends a lease with it.

    It is the end of a 津波予報, and stands where warnings and advisories are over. A warning has none.
    """
    return hazard["hazard"] == "tsunami" and hazard.get("max_level") in ("0", "1")


def _id(data: Hazard, print_: str) -> str:
    chain = data["chain"]
    parts = (
        data["report"],
        data["hazard"],
        chain if len(chain) <= _CHAIN_LENGTH else stable_id(chain),
        data["serial"] or "-",
        data["action"],
        data["reported_at"].strftime("%Y%m%dT%H%M%SZ"),
        data["status"],
        print_,
    )
    return ":".join(parts)
