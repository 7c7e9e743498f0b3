"""Content keys: what a recipient is sent by a stream is sealed with one, which it fetches with its own credential.

One for each recipient and hour, made when it is first needed. Its time is fixed then; when that is over, or the
recipient is retired, it is destroyed, and what is sealed with it can be read by nobody any more, wherever copies are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from hub.events import EPOCH, micros
from hub.log.database import dialect, insert_missing
from hub.log.sealing import Keyring, content_key

HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentKey:
    """One content key. until: when it is destroyed."""

    id: str
    secret: bytes = field(repr=False)
    until: datetime


class ContentKeys:
    """The content keys of one hub, asked for in its database each time: what was destroyed is gone everywhere."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring, self._engine = keyring, keyring.engine
        self._writers = dialect(self._engine).writing(self._engine)

    def current(self, recipient: str, now: datetime, lives: timedelta) -> ContentKey:
        """The key of the hour. lives: for how long it is kept. Durable when it returns."""
        hour = micros(now) // micros(EPOCH + HOUR)
        where = (content_key.c.recipient == self._name(recipient)) & (content_key.c.hour == hour)
        with self._engine.connect() as connection:
            row = connection.execute(select(content_key).where(where)).first()
        if row is None:
            values = {"id": os.urandom(16).hex(), "recipient": self._name(recipient), "hour": hour}
            values |= {"created_us": micros(now), "until_us": micros(now + lives)}
            values["wrapped"] = self._keyring.wrap(os.urandom(32))
            with self._writers.begin() as connection:
                insert_missing(connection, content_key, [values])
                row = connection.execute(select(content_key).where(where)).one()
        return self._key(row)

    def find(self, recipient: str, id: str, now: datetime) -> ContentKey | None:
        """The key of that id, if it is this recipient's and its time is not over."""
        where = (content_key.c.recipient == self._name(recipient)) & (content_key.c.id == id)
        with self._engine.connect() as connection:
            row = connection.execute(select(content_key).where(where)).first()
        if row is None:
            return None
        if row.until_us <= micros(now):
            self.end(now)
            return None
        return self._key(row)

    def end(self, now: datetime) -> int:
        """Destroy the keys whose time is over; how many. Durable when it returns."""
        over = content_key.c.until_us <= micros(now)
        with self._engine.connect() as connection:
            if connection.execute(select(content_key.c.id).where(over).limit(1)).first() is None:
                return 0
        with self._writers.begin() as connection:
            return connection.execute(delete(content_key).where(over)).rowcount

    def retire(self, recipients: Iterable[str]) -> None:
        """Destroy every key of these recipients. Durable when it returns."""
        for recipient in recipients:
            theirs = content_key.c.recipient == self._name(recipient)
            with self._engine.connect() as connection:
                if connection.execute(select(content_key.c.id).where(theirs).limit(1)).first() is None:
                    continue
            with self._writers.begin() as connection:
                connection.execute(delete(content_key).where(theirs))

    def destroy(self) -> None:
        """Destroy every key. Durable when it returns."""
        with self._writers.begin() as connection:
            connection.execute(delete(content_key))

    def _name(self, recipient: str) -> bytes:
        return self._keyring.digest("content", recipient)

    def _key(self, row: object) -> ContentKey:
        until = EPOCH + timedelta(microseconds=row.until_us)  # type: ignore[attr-defined]
        return ContentKey(id=row.id, secret=self._keyring.unwrap(row.wrapped), until=until)  # type: ignore[attr-defined]
