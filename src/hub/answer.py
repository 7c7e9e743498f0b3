"""What is asked of a view, what is shown, and the canonical bytes of both: equal ones are equal texts. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from hub.areas import AREA_CODE
from hub.canonical import text, timestamp
from hub.codec import is_id
from hub.errors import PayloadError
from hub.events import Entry
from hub.rules import Ask, Moment, Permit

FORMAT = "view/1"
FEED_FORMAT = "changes/1"
FIGURE_FORMAT = "statistics/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What is asked of a view.

    persons: only these, each named by `Disclosure.name_of`; None for everyone. area: only those whom a
    location that is shown, at the level at which it is shown, places in it. history: every visible item,
    not only the newest of each kind, where what has ended by itself keeps its place (R11). limit: persons on a
    page. cursor: `next` of the page before.
    """

    recipient: str
    purpose: str
    exercise: bool = False
    kinds: tuple[str, ...] = ()
    persons: tuple[str, ...] | None = None
    area: str | None = None
    history: bool = False
    limit: int | None = None
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Raises PayloadError for what could be no recipient, purpose, kind or area."""
        for path, names in (("recipient", [self.recipient]), ("purpose", [self.purpose]), ("kinds", self.kinds)):
            if not all(map(is_id, names)):
                raise PayloadError("is no name", path=path)
        if self.area is not None and not AREA_CODE.fullmatch(self.area):
            raise PayloadError("is no area code (07, 07202, 07202-12, m5639)", path="area")

    @property
    def ask(self) -> Ask:
        """The part that the rules look at."""
        return Ask(
            recipient=self.recipient, purpose=self.purpose, exercise=self.exercise, kinds=tuple(sorted(set(self.kinds)))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One fact that is shown: the permit, its entry, and its canonical JSON."""

    permit: Permit
    entry: Entry
    json: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One person in an answer."""

    ordinal: int
    person: str
    mode: str
    items: Sequence[Item]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedPart:
    """What a message of a feed says besides persons: ordinals of those who are taken back, `next`, `more`."""

    removed: tuple[int, ...]
    next: str
    more: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a read lets out. body: canonical JSON. disclosure, position: of its event; None where none was appended.

    feed: what a message of a feed says besides persons; None for a view. counted: ordinals of those whom a figure of
    statistics counts; None for what names persons. destroyed: at most how many items,
    and places that decide a mode, are missing since their retention ended; 0 in an answer of now.
    """

    body: bytes
    persons: Sequence[Shown]
    moment: Moment
    feed: FeedPart | None = None
    disclosure: str | None = None
    position: int | None = None
    uses: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    destroyed: int = 0
    counted: Sequence[int] | None = None

    @property
    def items(self) -> Iterator[Item]:
        """Every item shown, in the order of the body."""
        return (item for shown in self.persons for item in shown.items)


def answer_hash(salt: bytes, body: bytes) -> bytes:
    """What a disclosure keeps of the answer's bytes."""
    return hashlib.sha256(salt + body).digest()


def query_text(query: Query) -> str:
    """The query as it is logged: canonical JSON, so that equal queries are equal texts."""
    return text(
        {
            "recipient": query.recipient,
            "purpose": query.purpose,
            "exercise": query.exercise,
            "kinds": sorted(set(query.kinds)),
            "persons": None if query.persons is None else sorted(set(query.persons)),
            "area": query.area,
            "history": query.history,
            "limit": query.limit,
            "cursor": query.cursor,
        }
    )


def parse_query(logged: str) -> Query:
    """The query that `query_text` wrote."""
    said = json.loads(logged)
    kinds, persons = tuple(said.pop("kinds")), said.pop("persons")
    return Query(**said, kinds=kinds, persons=None if persons is None else tuple(persons))


def scope(query: Query) -> bytes:
    """What a cursor belongs to: the query without its cursor."""
    return query_text(replace(query, cursor=None)).encode()


def uses_of(shown: Iterable[Shown]) -> frozenset[tuple[int, int]]:
    """The uses that an answer takes: person's ordinal, grant's position (R19)."""
    return frozenset(
        (person.ordinal, item.permit.basis.position)
        for person in shown
        for item in person.items
        if item.permit.basis.limited
    )


def body_of(
    query: Query,
    shown: Iterable[Shown],
    time: datetime,
    following: str | FeedPart | None,
    ref: Callable[[int], str] | None = None,
) -> bytes:
    """The canonical bytes. following: `next` of a view; of a message of a feed what it says besides persons."""
    persons = ",".join(f"{{{members(person)}{_ref_member(ref, person.ordinal)}}}" for person in shown)
    feed = following if isinstance(following, FeedPart) else None
    parts = [
        f'"exercise":{text(query.exercise)}',
        f'"format":"{FORMAT if feed is None else FEED_FORMAT}"',
        *([] if feed is None else [f'"more":{text(feed.more)}']),
        f'"next":{text(following if feed is None else feed.next)}',
        f'"persons":[{persons}]',
        f'"purpose":{text(query.purpose)}',
        f'"recipient":{text(query.recipient)}',
        *([] if feed is None or ref is None else [f'"removed":{text(sorted(map(ref, feed.removed)))}']),
        f'"time":"{timestamp(time)}"',
    ]
    return ("{" + ",".join(parts) + "}").encode()


def members(shown: Shown) -> str:
    """What is said of one person: canonical members, as they stand in the body."""
    items = ",".join([item.json for item in shown.items])
    return f'"items":[{items}],"mode":"{shown.mode}","person":{text(shown.person)}'


def _ref_member(ref: Callable[[int], str] | None, ordinal: int) -> str:
    return "" if ref is None else f',"ref":"{ref(ordinal)}"'
