"""The door out: for reads, streams, relays and pages alike.

    snapshot at (d, t) -> decide -> confirm under the head lock, append view.disclosed -> the bytes

The decision is taken outside the lock. Under it, a control event after d that bears on a person shown,
or a use taken meanwhile, sends it round again (R18, R19, R21). Equal log, query, d and t give equal bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from hub.answer import (
    FEED_FORMAT,
    FIGURE_FORMAT,
    FORMAT,
    Answer,
    FeedPart,
    Query,
    Shown,
    answer_hash,
    body_of,
    parse_query,
    query_text,
    uses_of,
)
from hub.codec import is_id
from hub.commits import Commits
from hub.deciding import Deciding
from hub.errors import Busy, Conflict, PayloadError
from hub.events import Entry, Event
from hub.intake import HUB
from hub.log import merkle
from hub.log.log import Log
from hub.log.recorder import NO_CLAIM, Append
from hub.log.sealing import Gone
from hub.rules import Moment
from hub.views import index
from hub.views.views import DISCLOSED, Change, Standing, Views

REFUSED = "view.refused"
RULES = 1
"""Version of the rules that decided; it stands in every disclosure."""

_TRIES = 4

Decide = Callable[[Standing, datetime], Answer]
Write = Callable[[Append, Change, "Answer | None"], "Answer | None"]


class Disclosure:
    """Answers reads of one log."""

    def __init__(self, log: Log, views: Views, commits: Commits) -> None:
        self._log, self._views, self._commits = log, views, commits
        self.deciding = Deciding(log, views)

    def name_of(self, person: str) -> str:
        """What stands for a person's id in a query, which is logged and outlives an erasure. Raises PayloadError."""
        if not is_id(person):
            raise PayloadError("is no id", path="person")
        return self._views.persons.digest(person).hex()

    def read(self, query: Query, *, actor: str | None = None, request: str | None = None) -> Answer:
        """Decide, append `view.disclosed`, then answer.

        request: the same read sent again with the same id gets the answer that was logged (R19). Raises
        Conflict where the id was used for another query, Busy where nothing can be appended now.
        """
        if request is not None and not is_id(request):
            raise PayloadError("is no id", path="request")
        claim = self._log.keyring.digest("request", query.recipient, request) if request else NO_CLAIM

        def decide(standing: Standing, time: datetime) -> Answer:
            return self.deciding.decide(standing, query, time)

        def write(append: Append, change: Change, answer: Answer | None) -> Answer | None:
            if claim in change.known([claim] if claim else []):
                return self._logged(append, claim, query)  # None where the same request is in this very transaction
            return None if answer is None else self.append(append, change, answer, query, actor, request, claim)

        return self.confirmed(decide, write)

    def refuse(self, recipient: str, purpose: str | None, *, actor: str) -> None:
        """Append `view.refused`: someone asked in the name of a recipient for whom they may not."""
        kind = self._log.schemas.kind(REFUSED)
        data = {
            "recipient": recipient if is_id(recipient) else "",
            "purpose": purpose if is_id(purpose) else None,
            "actor": actor,
            "reason": "the caller may not ask for this recipient",
        }
        record = kind.encode(data)

        def job(append: Append, change: Change) -> None:
            event = Event(source=HUB, id=f"refused-{append.position + 1}", kind=REFUSED, data=kind.decode(record))
            identity = self._log.identify(event)
            entry = self._log.add(append, event, kind, record, received_at=append.now, identity=identity)
            change.append(entry, identity, NO_CLAIM)

        self._commits.run(job, rank="answer")

    def confirmed(self, decide: Decide, write: Write) -> Answer:
        """Decide on a snapshot, then have `write` append it under the head lock, or its likeness of before.

        Overtaken by what bears on it (R18, R19), it is decided again; overtaken too often, under the lock.
        decide: the answer at a standing and a time. write: is given None instead of an answer that was
        overtaken; returns None to have it decided again.
        """
        for _ in range(_TRIES):
            decided = self._decided(decide)
            answer = self._commits.run(partial(self._write, write=write, decided=decided), rank="answer")
            if answer is not None:
                return answer

        def at_last(append: Append, change: Change) -> Answer | None:
            standing = self._views.at(append.connection, append.start.position)
            return write(append, change, decide(standing, append.now))

        answer = self._commits.run(at_last, rank="alone")
        if answer is None:
            raise Busy("the same is asked for too often at once")
        return answer

    def _decided(self, decide: Decide) -> Answer:
        with self._log.entries.snapshot() as (connection, end):
            now = self._log.clock.now()
            standing = self._views.at(connection, end.position)
            return decide(standing, now if end.recorded_at is None else max(now, end.recorded_at))

    def _write(self, append: Append, change: Change, *, write: Write, decided: Answer) -> Answer | None:
        stale = self._stale(append.connection, decided)
        return write(append, change, None if stale else decided)

    def _stale(self, connection: Connection, answer: Answer) -> bool:
        """Whether what was decided may be wrong by now (R18, R19)."""
        after = answer.moment.position
        if self._views.bears(connection, [shown.ordinal for shown in answer.persons], after):
            return True
        return self._views.consumed(connection, answer.uses, after)

    def _logged(self, append: Append, claim: bytes, query: Query) -> Answer | None:
        """The answer that was given to the same request before this transaction (R19)."""
        position = self._log.entries.known(append.connection, [claim]).get(claim)
        if position is None:
            return None
        entry = self._log.read(append.connection, [position])[position]
        if not isinstance(entry, Entry) or entry.event.data["query"] != query_text(query):
            raise Conflict("this request id was used for another query", rule="R19", path="request")
        return self.repeat(append.connection, append.start.position, entry)

    def repeat(self, connection: Connection, end: int, entry: Entry) -> Answer:
        """What `view.disclosed` at `entry` let out, decided again at its own position and time."""
        data = entry.event.data
        standing = self._views.at(connection, end, data["position"])
        query = parse_query(data["query"])
        for answer in self._again(standing, query, entry):
            if answer_hash(data["salt"], answer.body) == data["answer_sha256"]:
                break
        return replace(answer, disclosure=data["disclosure"], position=entry.position)

    def _again(self, standing: Standing, query: Query, entry: Entry) -> Iterator[Answer]:
        """The decision taken again; and, as an erasure moves the ends of a page, for those alone whom it showed."""
        time, digest_of = entry.event.data["time"], self._views.persons.digest_of
        if entry.event.data["format"] == FORMAT:
            with suppress(PayloadError):  # the page began after someone who is erased now
                yield self.deciding.decide(standing, query, time)
        shown, removed = self.named(standing.connection, entry)
        named = tuple(digest_of(ordinal).hex() for ordinal in shown)
        answer = self.deciding.decide(standing, replace(query, persons=named, limit=None, cursor=None), time)
        if entry.event.data["format"] == FEED_FORMAT:
            said = FeedPart(removed=tuple(removed), next=entry.event.data["next"], more=entry.event.data["more"])
            message = self.message(query, answer.persons, said, answer.moment)
            yield replace(message, destroyed=answer.destroyed)
            return
        if answer.persons:
            following = self.deciding.cursor(query, answer.persons[-1].ordinal)
            yield replace(answer, body=body_of(query, answer.persons, time, following))
        yield answer

    def named(self, connection: Connection, entry: Entry) -> tuple[list[int], list[int]]:
        """Whom a disclosure showed, and whom it took back: ordinals."""
        return index.named(self._log, connection, entry)

    def message(self, query: Query, persons: Sequence[Shown], feed: FeedPart, moment: Moment) -> Answer:
        """A message of a feed, in the order of the persons' ids; of who is taken back the `ref` alone."""
        body = body_of(query, persons, moment.time, feed, lambda ordinal: self.ref(query.recipient, ordinal))
        return Answer(body=body, persons=persons, moment=moment, feed=feed, uses=uses_of(persons))

    def ref(self, recipient: str, ordinal: int) -> str:
        """What stands for a person to one recipient; it can be told of an erased id too."""
        digest = self._views.persons.digest_of(ordinal)
        return self._log.keyring.digest("ref", recipient, digest.hex()).hex()

    def append(
        self,
        append: Append,
        change: Change,
        answer: Answer,
        query: Query,
        actor: str | None,
        request: str | None = None,
        claim: bytes = NO_CLAIM,
    ) -> Answer:
        """Append `view.disclosed` with its chunks; the answer with its disclosure."""
        feed = answer.feed
        shown = index.pieces([shown.ordinal for shown in answer.persons])
        said = {
            "query": query_text(query),
            "format": FORMAT if feed is None else FEED_FORMAT,
            "persons_count": len(answer.persons),
            "persons_chunks": len(shown) if feed else None,
            "request": request,
        }
        if feed is not None:
            said |= {"removed_count": len(feed.removed), "next": feed.next, "more": feed.more}
        return self._append(
            append, change, answer, query, said, shown + index.pieces(feed.removed if feed else ()), actor, claim
        )

    def append_figure(
        self,
        append: Append,
        change: Change,
        answer: Answer,
        query: Query,
        asked: str,
        actor: str | None,
        *,
        persons: int,
        first: bool,
    ) -> Answer:
        """Append `view.disclosed` of a figure of statistics. asked: the question as it is logged.

        first: whether it is the first answer of its hour, which names in its chunks whom it counts.
        """
        said = {
            "query": asked,
            "format": FIGURE_FORMAT,
            "persons_count": persons,
            "persons_chunks": None if first else 0,
        }
        pieces = index.pieces(answer.counted or ()) if first else []
        return self._append(append, change, answer, query, said, pieces, actor, NO_CLAIM)

    def _append(
        self,
        append: Append,
        change: Change,
        answer: Answer,
        query: Query,
        said: Mapping[str, Any],
        pieces: Sequence[bytes],
        actor: str | None,
        claim: bytes,
    ) -> Answer:
        disclosure, salt = os.urandom(16).hex(), os.urandom(16)
        data = {
            "disclosure": disclosure,
            "recipient": query.recipient,
            "actor": actor,
            "purpose": query.purpose,
            "exercise": query.exercise,
            "position": answer.moment.position,
            "time": answer.moment.time,
            "rules": RULES,
            "items_count": sum(len(shown.items) for shown in answer.persons),
            "answer_sha256": answer_hash(salt, answer.body),
            "salt": salt,
            "root": self.root(answer, salt),
            "uses": [{"person": person, "grant": grant} for person, grant in sorted(answer.uses)],
            "chunks": [hashlib.sha256(piece).digest() for piece in pieces],
            "removed_count": 0,
            "more": False,
            **said,
        }
        kind = self._log.schemas.kind(DISCLOSED)
        record = kind.encode(data)
        event = Event(source=HUB, id=disclosure, kind=DISCLOSED, data=kind.decode(record))
        identity = self._log.identify(event)
        entry = self._log.add(append, event, kind, record, received_at=append.now, identity=identity, claim=claim)
        for number, piece in enumerate(pieces):
            append.add_chunk(entry.position, number, self._log.seal_chunk(entry.position, number, piece))
        change.append(entry, identity, claim)
        return replace(answer, disclosure=disclosure, position=entry.position)

    def root(self, answer: Answer, salt: bytes) -> bytes:
        """The Merkle root over the items, each salted with the person's key: an erasure takes the salt away."""
        leaves = []
        for shown in answer.persons:
            try:
                own = hmac.digest(self._log.keyring.secret(shown.ordinal, "item"), salt, "sha256")[:16]
            except Gone:
                continue
            leaves += [hashlib.sha256(b"\x00" + own + item.json.encode()).digest() for item in shown.items]
        return merkle.root(leaves)
