"""Alerts of the Common Alerting Protocol (OASIS CAP 1.2 and 1.1) as `hazard.reported`.

They come by themselves, or in the entries of Atom and RSS. Read README.md for what is read, and whom the connector
believes: nobody, until the operator names the senders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hub.connector import UNSET, Event, Fetch, Misuse, PayloadError, Pulled, Rejected, Settings, Translation
from hub.connector.xml import Node
from hub.connector.xml import read as read_xml
from hub_connector_cap import alert, carriers, places, polling, samples
from hub_connector_cap.trust import Senders, alone

LIMIT_BYTES = 16 * 1024 * 1024
_MOST = 4_000
_NEVER = datetime.max.replace(tzinfo=UTC)
_OPTIONS = ("senders", "geocodes", "references", "feed")
_EMPTY = "holds neither an alert nor a link to one"
_UNTRUSTED = "is not believed yet: the operator names senders in options.senders"
_UNLISTED = "is of a sender that options.senders does not name"
_LINKED = "only links to its alert; `hub poll` asks for it, where it lies below `url`"


class CAP:
    """The connector `cap`. It holds the operator's settings and no state."""

    name = "cap"
    source = alert.SOURCE
    kinds: Sequence[str] = (alert.KIND,)
    quality: Mapping[str, str] = {
        "refs": "exempt: an alert is about no person",
        "corrections": "done",
        "drills": "done",
        "signature": "exempt: each alert bears its own signature, however it comes; options.senders has it checked",
        "polling": "done",
        "hostile": "done",
        "measured": "done",
        "documented": "done",
    }

    def __init__(self, settings: Settings = UNSET) -> None:
        """Raises Misuse with the key that is wrong."""
        for key in settings.options:
            if key not in _OPTIONS:
                raise Misuse(f"options holds a key that is none of {', '.join(_OPTIONS)}")
        self._senders = Senders(settings)
        self._manner = alert.Manner(
            systems=_systems(settings), may_name=self._senders.may_name, last_only=_last_only(settings)
        )
        self._feed = settings.options.get("feed", "")
        if not isinstance(self._feed, str):
            raise Misuse("options.feed is no text")

    def translate(self, payload: bytes) -> Translation:
        """The events of an alert, or of all alerts in a feed. Raises PayloadError."""
        root = read_xml(payload, LIMIT_BYTES)
        if carriers.is_alert(root):
            return self._one(root)
        entries = carriers.entries(root)
        if entries is None:
            raise PayloadError("is no alert of CAP 1.1 or 1.2, and no Atom or RSS 2.0 feed")
        if [entry.node for entry in entries] == [root] and not entries[0].alerts:
            raise root.wrong(_LINKED if entries[0].links else _EMPTY)
        return self._all(entries)

    def poll(self, state: str | None, fetch: Fetch) -> Iterator[Pulled]:
        """The alerts of the feed at `url` (below it, `options.feed`) that are new since `state`."""
        return polling.poll(self._feed, state, fetch, self._is_read)

    def sample(self, records: int) -> bytes:
        """An Atom feed of alerts for about `records` places, all drills."""
        return samples.feed(records, self._senders.unsigned)

    def _is_read(self, payload: bytes) -> bool:
        """Whether `translate` takes a payload whole."""
        try:
            return not self.translate(payload).rejected
        except PayloadError:
            return False

    def _one(self, said: Node) -> Translation:
        """What one alert says, as far as its sender is believed."""
        believed = self._senders.heard(said)
        if believed is None:
            return Translation(nothing=_UNLISTED)
        if not self._senders.named and not alert.is_drill(believed):
            raise said.need("sender").wrong(_UNTRUSTED)
        return alert.read(believed, self._manner)

    def _all(self, entries: Sequence[carriers.Entry]) -> Translation:
        """What a feed says: its alerts by the time at which they were sent, those that cannot be read by themselves."""
        read, rejected = self._each([found for entry in entries for found in entry.alerts])
        events, repeated = _joined(read)
        empty = [entry for entry in entries if not entry.alerts and not entry.links]
        linking = [entry for entry in entries if not entry.alerts and entry.links]
        rejected += repeated + [_unread(entry, _EMPTY) for entry in empty]
        if events or rejected:
            rejected += [_unread(entry, _LINKED) for entry in linking]
        silent = Counter(one.nothing for one, _ in read if one.nothing) + Counter({_LINKED: len(linking)})
        return Translation(
            events=events,
            nothing=None if events or rejected else _reasons(silent),
            rejected=rejected,
            reported_at=max((one.reported_at for one, _ in read if one.reported_at), default=None),
        )

    def _each(self, alerts: Sequence[Node]) -> tuple[list[tuple[Translation, Node]], list[Rejected]]:
        """Each alert read by itself."""
        read: list[tuple[Translation, Node]] = []
        rejected: list[Rejected] = []
        events = 0
        for said in alerts:
            if len(read) + len(rejected) + events >= _MOST:
                raise said.wrong(f"stands after {_MOST:,} alerts and what they end: the feed is too long")
            try:
                one = self._one(said)
            except PayloadError as error:
                rejected.append(Rejected(error=error, payload=alone(said.element)))
                continue
            read.append((one, said))
            events += len(one.events)
        return read, rejected


def _unread(entry: carriers.Entry, reason: str) -> Rejected:
    return Rejected(error=entry.node.wrong(reason), payload=carriers.bare(entry))


def _joined(read: Sequence[tuple[Translation, Node]]) -> tuple[list[Event], list[Rejected]]:
    """The events of all, the alert sent first before the others; an alert that stands twice counts once."""
    found: dict[str, Event] = {}
    other: list[Rejected] = []
    for one, said in sorted(read, key=lambda pair: pair[0].reported_at or _NEVER):
        if all(found.get(event.id, event) == event for event in one.events):
            found |= {event.id: event for event in one.events}
        else:
            error = said.need("identifier").wrong("is that of another entry, which says something else")
            other.append(Rejected(error=error, payload=alone(said.element)))
    return list(found.values()), other


def _reasons(silent: Mapping[str, int]) -> str:
    if not silent:
        return "the feed holds no entry, or none that is new"
    return "; ".join(f"{count} × {reason}" if count > 1 else reason for reason, count in silent.items())


def _systems(settings: Settings) -> Mapping[str, str]:
    said: Any = settings.options.get("geocodes", {})
    if not isinstance(said, dict) or any(form not in places.FORMS for form in said.values()):
        raise Misuse(f"options.geocodes gives no valueName one of {', '.join(places.FORMS)}")
    return {**places.SYSTEMS, **{places.plain(name): form for name, form in said.items()}}


def _last_only(settings: Settings) -> bool:
    said = settings.options.get("references", "all")
    if said not in ("all", "last"):
        raise Misuse("options.references is neither `all` nor `last`")
    return bool(said == "last")
