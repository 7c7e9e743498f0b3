"""What intake refused, kept outside the log until an operator mends, replays or drops it.

Each item is sealed under a key of its own in the keys' database, so that destroying the key takes it away in
backups too. What is about a person goes when the person is erased; of someone who is erased nothing is kept
but that something was refused. Bounded in number, size and time: it is a waiting room, no second log.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Row, String, Table, delete, func, insert, select, update

from hub.canonical import timestamp
from hub.codec import is_id
from hub.errors import PayloadError, Refused
from hub.events import EPOCH, Event, micros
from hub.intake import Intake, Result
from hub.log.log import Log
from hub.log.recorder import Number, metadata
from hub.log.sealing import Gone
from hub.views import links
from hub.views.persons import person as person_table
from hub.views.views import Views

MOST_ITEMS = 10_000
MOST_OF_A_SOURCE = 1_000
LARGEST_BYTES = 1024 * 1024
KEPT = timedelta(days=30)

_AT_ONCE = 100
"""Items kept in one transaction: intake waits for the end of each."""

_LISTED = 4
"""Items that are in memory at once while many are listed: each may hold LARGEST_BYTES."""

_STRUCTURED = "application/cloudevents+json"

parked = Table(
    "parked",
    metadata,
    Column("item", String, primary_key=True),
    Column("fingerprint", LargeBinary(16), nullable=False, unique=True),
    Column("source", Number, nullable=False, index=True),
    Column("received_us", Number, nullable=False, index=True),
    Column("times", Number, nullable=False),
    Column("via", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("box", LargeBinary, nullable=False),
)


parked_about = Table(
    "parked_about",
    metadata,
    Column("item", String, primary_key=True),
    Column("person", LargeBinary(16), primary_key=True, index=True),
)
"""Whom an item is about: the person's digest, or that of an id at a service which nobody has linked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Something that was refused. via: the door, as `events` or `connector:jma`. payload: as it was sent.

    kind, person, source, id, refs (the source's own ids of people): as far as they could be read.
    """

    via: str
    reason: str
    path: str = ""
    rule: str = ""
    kind: str = ""
    source: str | None = None
    id: str | None = None
    person: str | None = None
    refs: tuple[str, ...] = ()
    media_type: str = "application/json"
    payload: bytes = b""

    @classmethod
    def of(cls, error: PayloadError | Refused, **said: Any) -> Refusal:
        """The refusal that an error says."""
        rule = error.rule if isinstance(error, Refused) else ""
        return cls(reason=error.reason, path=error.path, rule=rule, **said)

    @classmethod
    def of_event(cls, error: PayloadError | Refused, event: Event) -> Refusal:
        """The refusal of one event, kept as the structured CloudEvent that its source could have sent."""
        return cls.of(
            error,
            via="events",
            media_type=_STRUCTURED,
            payload=_written(event),
            source=event.source,
            id=event.id,
            kind=event.kind,
            person=event.person,
            refs=() if event.ref is None else (event.ref,),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """What is kept of a refusal. count: how often the same was sent. kept: whether its payload is there."""

    item: str
    received_at: datetime
    count: int
    via: str
    kind: str
    source: str | None
    reason: str
    path: str
    rule: str
    kept: bool


Translate = Callable[[str, bytes], Sequence[Event]]
"""The events of a payload that came by a door. Raises PayloadError."""

Allow = Callable[[str | None, Event], object]
"""Whether an event may be made of what a source had sent. Raises Refused where not."""


class Quarantine:
    """The waiting room of one hub."""

    def __init__(self, log: Log, views: Views, intake: Intake) -> None:
        self._log, self._views, self._intake = log, views, intake

    def keep(self, refusals: Iterable[Refusal]) -> list[str]:
        """Keep what was refused; its items, in order. The same sent again is the same item."""
        refusals = list(refusals)
        parts = (refusals[at : at + _AT_ONCE] for at in range(0, len(refusals), _AT_ONCE))
        return [item for part in parts for item in self._keep_some(part)]

    def _keep_some(self, refusals: Sequence[Refusal]) -> list[str]:
        items = []
        keys = self._log.keyring.park([os.urandom(16).hex() for _ in refusals])
        unused = set(keys)
        with self._log.entries.maintaining() as connection:
            now = self._log.clock.now()
            for refusal, name in zip(refusals, keys, strict=True):
                item = self._keep(connection, refusal, name, now)
                unused -= {item}
                items.append(item)
            gone = self._overflow(connection, now)
        self._log.keyring.destroy_parked(unused | gone)
        return items

    def has_room(self, refusals: Sequence[Refusal]) -> bool:
        """Whether all of these, of one source, can be kept without any other item being pushed out."""
        if not refusals:
            return True
        source = self._log.keyring.number("source", _named(refusals[0].source))
        with self._log.entries.snapshot() as (connection, _):
            names = sorted({self._fingerprint(self._reduced(connection, refusal)[0]) for refusal in refusals})
            known = sum(
                connection.scalar(select(func.count()).where(parked.c.fingerprint.in_(names[at : at + 500]))) or 0
                for at in range(0, len(names), 500)
            )
            count = select(func.count()).where(parked.c.received_us >= micros(self._log.clock.now() - KEPT))
            of_it = connection.scalar(count.where(parked.c.source == source)) or 0
            of_all = connection.scalar(count) or 0
        more = len(names) - known
        return more == 0 or (of_it + more <= MOST_OF_A_SOURCE and of_all + more <= MOST_ITEMS)

    def _reduced(self, connection: Connection, refusal: Refusal) -> tuple[Refusal, set[bytes]]:
        """What may be kept of a refusal, and the digests of whom it is about."""
        about, gone = self._about(connection, refusal)
        if len(refusal.payload) > LARGEST_BYTES:
            refusal = replace(refusal, payload=b"")
        if gone:
            refusal, about = replace(refusal, payload=b"", id=None, person=None, refs=()), set()
        return refusal, about

    def _fingerprint(self, refusal: Refusal) -> bytes:
        whole = base64.b64encode(refusal.payload).decode()
        names = (_named(refusal.source), _named(refusal.id))
        return self._log.keyring.digest("parked", refusal.via, *names, whole)

    def _keep(self, connection: Connection, refusal: Refusal, name: str, now: datetime) -> str:
        refusal, about = self._reduced(connection, refusal)
        fingerprint = self._fingerprint(refusal)
        row = connection.execute(select(parked.c.item).where(parked.c.fingerprint == fingerprint)).first()
        if row is not None:
            same = parked.c.fingerprint == fingerprint
            connection.execute(update(parked).where(same).values(times=parked.c.times + 1))
            return str(row.item)
        known = self._log.schemas.newest(refusal.kind) is not None
        connection.execute(
            insert(parked).values(
                item=name,
                fingerprint=fingerprint,
                source=self._log.keyring.number("source", _named(refusal.source)),
                received_us=micros(now),
                times=1,
                via=refusal.via,
                kind=refusal.kind if known else "",
                box=self._sealed(name, refusal),
            )
        )
        if about:
            connection.execute(insert(parked_about), [{"item": name, "person": digest} for digest in sorted(about)])
        return name

    def _about(self, connection: Connection, refusal: Refusal) -> tuple[set[bytes], bool]:
        """The digests of whom it is about, and whether of one of them nothing may be kept.

        A ref that is linked means the person; one that is not stands for itself, until it is severed.
        """
        if person := _named(refusal.person):
            digest = self._views.persons.digest(person)
            return {digest}, self._erased(connection, digest)
        source = _named(refusal.source)
        names = [links.digest(self._log, source, ref) for ref in refusal.refs if source and _named(ref)]
        known = links.resolve(connection, names)
        about = set()
        for name in names:
            ordinal = known.get(name)
            if ordinal is None and name in known:
                return set(), True
            query = select(person_table.c.digest).where(person_table.c.ordinal == ordinal)
            about.add(name if ordinal is None else connection.scalar(query) or name)
        return about, False

    def _erased(self, connection: Connection, person: bytes) -> bool:
        query = select(person_table.c.erased).where(person_table.c.digest == person)
        return connection.scalar(query) is not None

    def _sealed(self, item: str, refusal: Refusal) -> bytes:
        said = {
            "reason": refusal.reason,
            "path": refusal.path,
            "rule": refusal.rule,
            "source": _named(refusal.source) or None,
            "media_type": refusal.media_type,
            "payload": base64.b64encode(refusal.payload).decode(),
        }
        return self._log.keyring.seal_parked(item, json.dumps(said).encode())

    def _opened(self, item: str, box: bytes) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._log.keyring.open_parked(item, box))
        return said

    def _overflow(self, connection: Connection, now: datetime) -> set[str]:
        """Take out what is too old or too much, the oldest first; the items taken."""
        oldest = select(parked.c.item).order_by(parked.c.received_us, parked.c.item)
        gone = set(connection.scalars(oldest.where(parked.c.received_us < micros(now - KEPT))))
        many = select(parked.c.source, func.count()).group_by(parked.c.source).having(func.count() > MOST_OF_A_SOURCE)
        for source, count in connection.execute(many).all():
            gone |= set(connection.scalars(oldest.where(parked.c.source == source).limit(count - MOST_OF_A_SOURCE)))
        more = (connection.scalar(select(func.count()).select_from(parked)) or 0) - len(gone) - MOST_ITEMS
        if more > 0:
            gone |= set(connection.scalars(oldest.limit(len(gone) + more)))
        _delete(connection, gone)
        return gone

    def items(self, *, limit: int = 100, after: str | Item | None = None) -> list[Item]:
        """The items, newest first; `after` continues behind an item: one that was listed may be gone meanwhile, of an
        id PayloadError is raised then. No person's id is told.
        """
        query = select(parked).order_by(parked.c.received_us.desc(), parked.c.item.desc()).limit(limit)
        with self._log.entries.snapshot() as (connection, _):
            if after is not None:
                received_us, name = self._place(connection, after)
                earlier = (parked.c.received_us < received_us) | (
                    (parked.c.received_us == received_us) & (parked.c.item < name)
                )
                query = query.where(earlier)
            with closing(connection.execute(query.execution_options(yield_per=_LISTED))) as rows:
                return [item for row in rows if (item := self._item(row)) is not None]

    def _place(self, connection: Connection, of: str | Item) -> tuple[int, str]:
        """Where an item stands among the others."""
        if isinstance(of, Item):
            return micros(of.received_at), of.item
        last = connection.execute(select(parked.c.received_us).where(parked.c.item == of)).first()
        if last is None:
            raise PayloadError("is no item of the quarantine", path="after")
        return last.received_us, of

    def _item(self, row: Row[Any]) -> Item | None:
        """A row as it is told; None where its key is gone."""
        try:
            said = self._opened(row.item, row.box)
        except Gone:
            return None
        return Item(
            item=row.item,
            received_at=EPOCH + timedelta(microseconds=row.received_us),
            count=row.times,
            via=row.via,
            kind=row.kind,
            kept=bool(said["payload"]),
            **{name: said[name] for name in ("source", "reason", "path", "rule")},
        )

    def open(self, item: str) -> tuple[str, str, bytes]:
        """By which door an item came, its media type and its payload. Raises PayloadError where there is none."""
        via, media_type, _, payload = self._whole(item)
        return via, media_type, payload

    def _whole(self, item: str) -> tuple[str, str, str | None, bytes]:
        with self._log.entries.snapshot() as (connection, _):
            row = connection.execute(select(parked).where(parked.c.item == item)).first()
        try:
            said = self._opened(item, row.box) if row is not None else {}
        except Gone:
            said = {}
        if row is None or not said.get("payload"):
            raise PayloadError("is no item of the quarantine whose payload is kept", path="item")
        return row.via, said["media_type"], said["source"], base64.b64decode(said["payload"])

    def replay(
        self,
        item: str,
        translate: Translate,
        payload: bytes | None = None,
        *,
        allow: Allow = lambda source, event: None,
    ) -> list[Result]:
        """Hand an item to intake again, mended where `payload` is given; it is gone once all of it was taken.

        Raises PayloadError where it still cannot be read, Refused where it may not be said so; then, and where an
        event is refused again, the item stays, with the new reason.
        """
        via, _, source, kept = self._whole(item)
        try:
            events = translate(via, kept if payload is None else payload)
            for event in events:
                allow(source, event)
            results = self._intake.take(events)
        except (PayloadError, Refused) as error:
            self._change_reason(item, error)
            raise
        refused = next((result.error for result in results if result.error is not None), None)
        if refused is None:
            self.drop(item)
        else:
            self._change_reason(item, refused)
        return results

    def _change_reason(self, item: str, error: PayloadError | Refused) -> None:
        with self._log.entries.maintaining() as connection:
            row = connection.execute(select(parked).where(parked.c.item == item)).first()
            if row is None:
                return
            rule = error.rule if isinstance(error, Refused) else ""
            said = self._opened(item, row.box) | {"reason": error.reason, "path": error.path, "rule": rule}
            box = self._log.keyring.seal_parked(item, json.dumps(said).encode())
            connection.execute(update(parked).where(parked.c.item == item).values(box=box))

    def drop(self, item: str) -> bool:
        """Destroy an item; whether there was one."""
        with self._log.entries.maintaining() as connection:
            found = connection.scalar(select(parked.c.item).where(parked.c.item == item)) is not None
            _delete(connection, {item})
        self._log.keyring.destroy_parked([item])
        return found

    def drop_source(self, source: str) -> int:
        """Destroy every item of a source; how many there were."""
        of_it = parked.c.source == self._log.keyring.number("source", source)
        with self._log.entries.maintaining() as connection:
            gone = set(connection.scalars(select(parked.c.item).where(of_it)))
            _delete(connection, gone)
        self._log.keyring.destroy_parked(gone)
        return len(gone)

    def erase(self, digests: Iterable[bytes]) -> None:
        """Destroy what is about persons who were erased (R15), or came under refs that were severed: keys first."""
        digests = set(digests)
        with self._log.entries.snapshot() as (connection, _):
            if not digests.intersection(connection.scalars(select(parked_about.c.person))):
                return
        with self._log.entries.maintaining() as connection:
            rows = connection.execute(select(parked_about))
            gone = {row.item for row in rows if row.person in digests}
            self._log.keyring.destroy_parked(gone)
            _delete(connection, gone)


def _named(said: str | None) -> str:
    """An id as it was sent; empty for what can be none."""
    return said if said is not None and is_id(said) else ""


def _delete(connection: Connection, items: Iterable[str]) -> None:
    gone = sorted(items)
    for at in range(0, len(gone), 500):
        part = gone[at : at + 500]
        connection.execute(delete(parked_about).where(parked_about.c.item.in_(part)))
        connection.execute(delete(parked).where(parked.c.item.in_(part)))


def _written(event: Event) -> bytes:
    """The fact as a structured CloudEvent, as its source could have sent it."""
    said = {
        "specversion": "1.0",
        "type": event.kind,
        "source": event.source,
        "id": event.id,
        "ref": event.ref,
        **({} if event.person is None else {"subject": event.person}),
        "time": None if event.occurred_at is None else timestamp(event.occurred_at),
        "exercise": event.exercise,
        "data": _present(event.data),
    }
    return json.dumps(said, ensure_ascii=False, sort_keys=True, default=_text).encode()


def _present(value: Any) -> Any:
    """Options that were left out are left out again."""
    if isinstance(value, dict):
        return {name: _present(part) for name, part in value.items() if part is not None}
    return [_present(part) for part in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"{type(value).__name__} stands in no fact")
