"""One alert: what it says, as events.

    Alert, Update --> one `hazard.reported` of its chain: all that holds from now on
    Cancel        --> one that takes back what the chain said before
    both          --> one for each further alert that they name, which takes that back: it may head a chain of its own

An alert is known by sender, identifier and the time at which it was sent. A chain is known by the first alert of it:
the earliest of those that an Update or a Cancel names. So every alert says its chain by itself, and any order of
arrival comes to the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from hub.connector import Event, PayloadError, Translation, parse_time, stable_id
from hub.connector.xml import Node
from hub_connector_cap import places

SOURCE = "cap"
KIND = "hazard.reported"
HAZARD = "cap"
"""Which hazard an alert is about is free text in any language: to read it would be to guess."""

NAMESPACES = ("urn:oasis:names:tc:emergency:cap:1.2", "urn:oasis:names:tc:emergency:cap:1.1")
LEVELS = ("none", "unknown", "minor", "moderate", "severe", "extreme", "extreme-immediate")
"""What the hub's policy decides by, the lowest first."""

NOT_PUBLIC = "is not of scope Public, and everyone may read what the hub reports of places"
TEST = "is a Test, System or Draft message: nothing to record"
BETWEEN_SYSTEMS = "is an Ack or Error message, from one system to another"

_STATUSES = {"Actual": "actual", "Exercise": "exercise", "Test": "", "System": "", "Draft": ""}
_ACTIONS = {"Alert": "issued", "Update": "amended", "Cancel": "cancelled", "Ack": "", "Error": ""}
_SCOPES = {"Public": True, "Restricted": False, "Private": False}
_SEVERITIES = {word: word.lower() for word in ("Extreme", "Severe", "Moderate", "Minor", "Unknown")}
_URGENCIES = {word: word for word in ("Immediate", "Expected", "Future", "Past", "Unknown")}
_CERTAINTIES = {word: word for word in ("Observed", "Likely", "Possible", "Unlikely", "Unknown")} | {
    "Very Likely": "Likely"  # CAP 1.0, which some still write
}

_NAME = re.compile(r"[^\s,<&]{1,200}")
_LONGEST_TEXT = 2_000
_LONGEST_EVENT = 300
_LONGEST_LANGUAGE = 40
_LANGUAGES = ("ja", "en")
_UNSAID_LANGUAGE = "en-us"
_MOST_INFOS = 200
_MOST_ROWS = 5_000
_MOST_LETTERS = 2_000_000
"""Of names that are said again for each place: a small alert must not become a huge event."""

_MOST_REFERENCES = 500
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manner:
    """How senders write, as far as the operator has to say it.

    systems: by plain valueName, the form of its codes. may_name: whether a sender can update what another said.
    last_only: an Update names the alert before it and none that came before that, so that each alert is a chain of
    its own which ends when the next one names it.
    """

    systems: Mapping[str, str]
    may_name: Callable[[str, str], bool]
    last_only: bool = False


@dataclass(frozen=True, order=True, slots=True)
class Identity:
    """Which alert: as CAP's `references` name it."""

    sent: datetime
    sender: str
    identifier: str

    @property
    def chain(self) -> str:
        """Its name as the head of a chain, in UTC: one alert may be named with any offset."""
        return f"{self.sender},{self.identifier},{_written(self.sent)}"

    @property
    def hash(self) -> str:
        """128 bits of it."""
        return stable_id(self.sender, self.identifier, _written(self.sent))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Info:
    """One `info`: what it says in one language."""

    node: Node
    language: str
    event: str
    level: str
    severity: str
    certainty: str
    urgency: str

    @property
    def tongue(self) -> str:
        return self.language.partition("-")[0]


def read(alert: Node, manner: Manner) -> Translation:
    """What one alert says, or why it says nothing here. Raises PayloadError."""
    own = _identity(alert)
    scope = _one_of(_SCOPES, alert.need("scope"))
    status, action = _one_of(_STATUSES, alert.need("status")), _one_of(_ACTIONS, alert.need("msgType"))
    named = _references(alert, own)
    if not scope:
        return Translation(nothing=NOT_PUBLIC, reported_at=own.sent)
    if not status:
        return Translation(nothing=TEST, reported_at=own.sent)
    if not action:
        return Translation(nothing=BETWEEN_SYSTEMS, reported_at=own.sent)
    if action != "issued" and not all(manner.may_name(own.sender, identity.sender) for identity in named):
        raise alert.need("references").wrong("names an alert of a sender who signs, and this one's sender does not")
    if action == "cancelled" and not named:
        raise _missing(alert, "references", "is missing, so that what is cancelled is unknown")
    return Translation(events=tuple(_events(alert, own, status, action, named, manner)), reported_at=own.sent)


def is_drill(alert: Node) -> bool:
    """Whether it says of itself that it is not Actual."""
    return alert.need("status").word() != "Actual"


def _events(
    alert: Node, own: Identity, status: str, action: str, named: Sequence[Identity], manner: Manner
) -> Iterable[Event]:
    """The alert's own event first: what it declares stands before what it supersedes is lifted."""
    infos = _infos(alert)
    head, superseded = _chains(own, action, named, manner)
    if action == "amended" and infos and all(info.level == "none" for info in infos):
        action = "lifted"
    base = {
        "hazard": HAZARD,
        "report": "CAP",
        "status": status,
        "reported_at": own.sent,
        "references": [identity.chain for identity in named] or None,
    }
    id_ = ":".join(("CAP", own.identifier[:90], own.sent.strftime("%Y%m%dT%H%M%SZ"), own.hash))
    said = {"action": action, **_said(own, infos, manner, cancelled=action == "cancelled")}
    yield _event(id_, own, status, {**base, "chain": head.chain, **said})
    for identity in superseded:
        taken = {"chain": identity.chain, "action": "cancelled", "areas": [], "references": [identity.chain]}
        yield _event(f"{id_}:{identity.hash}", own, status, {**base, **taken})


def _chains(
    own: Identity, action: str, named: Sequence[Identity], manner: Manner
) -> tuple[Identity, Sequence[Identity]]:
    """The head of the alert's chain, and the further alerts that it supersedes."""
    if action == "issued" or not named:
        return own, ()
    if action == "amended" and manner.last_only:
        return own, named
    return named[0], named[1:]


def _event(id_: str, own: Identity, status: str, data: Mapping[str, Any]) -> Event:
    """The fact is the alert, so it happened when the alert was sent."""
    return Event(
        source=SOURCE,
        id=id_,
        kind=KIND,
        occurred_at=own.sent,
        exercise=status == "exercise",
        data={name: value for name, value in data.items() if value is not None},
    )


def _said(own: Identity, infos: Sequence[_Info], manner: Manner, *, cancelled: bool) -> dict[str, Any]:
    """What the infos come to. A Cancel repeats what it cancels: of it only the words are kept."""
    if not infos:
        return {"issuer": own.sender, "areas": []}
    tongue = _tongue(infos)
    leading = max(infos, key=lambda info: (LEVELS.index(info.level), info.tongue == tongue))
    words = {
        "issuer": _text(leading.node, "senderName") or own.sender,
        "title": leading.event,
        "headline": _text(leading.node, "headline"),
    }
    if cancelled:
        return {**words, "areas": []}
    begin = [_begin(info.node) for info in infos]
    ends = [(info, info.node.optional_time("expires")) for info in infos]
    end = [time for info, time in ends if (info.level, info.tongue) == (leading.level, leading.tongue)]
    return {
        **words,
        "target_at": min((time for time in begin if time), default=None),
        "valid_until": None if None in end else max(time for time in end if time),
        "areas": _areas(infos, tongue, manner),
        "max_level": leading.level,
        "severity": leading.severity,
        "certainty": leading.certainty,
        "urgency": leading.urgency,
    }


def _areas(infos: Sequence[_Info], tongue: str, manner: Manner) -> list[dict[str, Any]]:
    """The rows of the preferred language; of the others those alone that place what it does not."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    told: set[tuple[Any, ...]] = set()
    letters = 0
    for info in sorted(infos, key=lambda info: info.tongue != tongue):
        for area in info.node.children("area"):
            for place in places.rows(area, manner.systems):
                where = tuple(place.get(part) for part in ("area", "region", "region_system", "polygon"))
                if info.tongue != tongue and (not any(where) or (*where, info.level) in told):
                    continue
                told.add((*where, info.level))
                words = (place["name"], info.event)
                found.setdefault((*where, info.level, *words), {**place, "level": info.level, "warning": info.event})
                letters += sum(map(len, words))
                if len(found) > _MOST_ROWS or letters > _MOST_LETTERS:
                    raise area.wrong(f"names, with those before it, more than {_MOST_ROWS:,} places, or too long ones")
    return list(found.values())


def _infos(alert: Node) -> list[_Info]:
    nodes = alert.children("info")
    if len(nodes) > _MOST_INFOS:
        raise nodes[0].wrong(f"stands more than {_MOST_INFOS} times")
    return [_info(node) for node in nodes]


def _info(node: Node) -> _Info:
    severity, certainty, urgency = node.need("severity"), node.need("certainty"), node.need("urgency")
    level = _one_of(_SEVERITIES, severity)
    sure, pressing = _one_of(_CERTAINTIES, certainty), _one_of(_URGENCIES, urgency)
    over = any(response.text() == "AllClear" for response in node.children("responseType"))
    if over or pressing == "Past":
        level = "none"
    elif level == "extreme" and sure in ("Observed", "Likely") and pressing == "Immediate":
        level = "extreme-immediate"
    language = node.child("language")
    said = places.limited(language, _LONGEST_LANGUAGE) if language and language.text() else _UNSAID_LANGUAGE
    return _Info(
        node=node,
        language=said.lower(),
        event=places.limited(node.need("event"), _LONGEST_EVENT),
        level=level,
        severity=severity.word(),
        certainty=certainty.word(),
        urgency=urgency.word(),
    )


def _tongue(infos: Sequence[_Info]) -> str:
    """Japanese, else English, else that of the first info."""
    spoken = [info.tongue for info in infos]
    return next((tongue for tongue in _LANGUAGES if tongue in spoken), spoken[0])


def _begin(info: Node) -> datetime | None:
    onset = info.optional_time("onset")
    return onset or info.optional_time("effective")


def _identity(alert: Node) -> Identity:
    sender, identifier = alert.need("sender"), alert.need("identifier")
    for node in (identifier, sender):
        if not _is_name(node.word()):
            raise node.wrong("is no name of at most 200 characters without space, comma, < and &")
    return Identity(alert.need("sent").time(), sender.word(), identifier.word())


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text)) and text.isprintable()


def _references(alert: Node, own: Identity) -> list[Identity]:
    """The earlier alerts that it names, the earliest first, each once, and not itself."""
    said = alert.child("references")
    found = said.text().split() if said else []
    if said and len(found) > _MOST_REFERENCES:
        raise said.wrong(f"names more than {_MOST_REFERENCES} alerts")
    named = {_reference(said, text) for text in found} if said else set()
    return sorted(named - {own})


def _reference(said: Node, text: str) -> Identity:
    parts = text.split(",")
    if len(parts) != 3 or not all(_is_name(part) for part in parts):
        raise said.wrong("names an alert otherwise than as sender,identifier,sent")
    try:
        return Identity(parse_time(parts[2]), parts[0], parts[1])
    except PayloadError as error:
        raise said.wrong(f"names an alert whose time {error.reason}") from None


def _one_of(words: Mapping[str, T], said: Node) -> T:
    if said.word() not in words:
        raise said.wrong(f"is none of {', '.join(words)}")
    return words[said.word()]


def _text(node: Node, name: str) -> str | None:
    found = node.child(name)
    return places.limited(found, _LONGEST_TEXT) if found and found.text() else None


def _missing(node: Node, name: str, reason: str) -> PayloadError:
    return PayloadError(reason, path=f"{node.path}/{name}" if node.path else name)


def _written(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
