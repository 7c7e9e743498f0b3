"""Who is enrolled: ordinals by digest, and since which position someone is erased."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Column, Connection, LargeBinary, Table, select, update

from hub.events import Entry
from hub.log.database import insert_many
from hub.log.log import Log
from hub.log.recorder import Number, metadata

person = Table(
    "person",
    metadata,
    Column("ordinal", Number, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(16), nullable=False, unique=True),
    Column("enrolled", Number, nullable=False),
    Column("erased", Number, nullable=True),
)

_CACHED = 200_000


class Persons:
    """The directory of ids, in memory: some hundred bytes a person. Ids come from the log, on demand."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ordinals: dict[bytes, int] = {}
        self._digests: dict[int, bytes] = {}
        self._enrolled: dict[int, int] = {}
        self._erased: dict[int, int] = {}
        self._ids: dict[int, str] = {}
        self._named: dict[str, bytes] = {}

    def digest(self, name: str) -> bytes:
        """What stands for a person's id outside sealed payloads."""
        digest = self._named.get(name)
        if digest is None:
            if len(self._named) >= _CACHED:
                self._named.clear()
            digest = self._named[name] = self._log.keyring.digest("person", name)
        return digest

    def load(self, connection: Connection) -> None:
        """Fetch the whole directory. Who looks meanwhile finds what was there before."""
        fresh = Persons(self._log)
        for row in connection.execute(select(person)):
            fresh.add(row.ordinal, row.digest, row.enrolled)
            if row.erased is not None:
                fresh.erase(row.ordinal, row.erased)
        self._erased = fresh._erased
        self._ordinals, self._digests, self._enrolled = fresh._ordinals, fresh._digests, fresh._enrolled
        self._ids, self._named = fresh._ids, fresh._named

    def add(self, ordinal: int, digest: bytes, position: int, name: str | None = None) -> None:
        """Someone was enrolled at `position`."""
        self._ordinals[digest] = ordinal
        self._digests[ordinal] = digest
        self._enrolled[ordinal] = position
        if name is not None:
            self._ids[ordinal] = name

    def erase(self, ordinal: int, position: int) -> None:
        """Someone was erased at `position`."""
        self._erased[ordinal] = position
        self._ids.pop(ordinal, None)
        self._named.clear()

    def __len__(self) -> int:
        return len(self._digests)

    def ordinal(self, name: str) -> int | None:
        """The ordinal of an id that was ever enrolled."""
        return self._ordinals.get(self.digest(name))

    def ordinal_of(self, digest: bytes) -> int | None:
        """The ordinal by the digest of the id."""
        return self._ordinals.get(digest)

    def digest_of(self, ordinal: int) -> bytes:
        """The digest of the id by its ordinal."""
        return self._digests[ordinal]

    def erased_at(self, ordinal: int) -> int | None:
        """Since which position someone is erased."""
        return self._erased.get(ordinal)

    @property
    def erased(self) -> Mapping[int, int]:
        """Everyone who is erased, and since which position."""
        return self._erased

    def present(self, position: int) -> list[int]:
        """Everyone who was enrolled at `position` and is not erased now (R15 reaches back)."""
        return [o for o, since in self._enrolled.items() if since <= position and o not in self._erased]

    def enrolled_by(self, ordinal: int, position: int) -> bool:
        """Whether the person was enrolled at `position` and is not erased now."""
        since = self._enrolled.get(ordinal)
        return since is not None and since <= position and ordinal not in self._erased

    def names(self, connection: Connection, ordinals: Iterable[int]) -> dict[int, str]:
        """The ids of persons who are not erased."""
        ordinals = list(ordinals)
        held = self._ids
        missing = {self._enrolled[o]: o for o in ordinals if o not in held and o in self._enrolled}
        for position, entry in self._log.read(connection, missing).items() if missing else ():
            if isinstance(entry, Entry) and entry.event.person is not None:
                held[missing[position]] = entry.event.person
        return {o: name for o in ordinals if (name := held.get(o)) is not None}


def insert_rows(connection: Connection, rows: list[tuple[int, bytes, int, int | None]]) -> None:
    """Write those who were enrolled: ordinal, digest, enrolled, erased."""
    insert_many(connection, person, rows)


def mark_erased(connection: Connection, ordinal: int, position: int) -> None:
    """Write who was erased."""
    connection.execute(update(person).where(person.c.ordinal == ordinal).values(erased=position))


def erased(connection: Connection) -> dict[int, int]:
    """Who was erased, and at which position."""
    rows = connection.execute(select(person.c.ordinal, person.c.erased).where(person.c.erased.is_not(None)))
    return {row.ordinal: row.erased for row in rows}


def erased_digests(connection: Connection) -> list[bytes]:
    """The digests of the ids of all who were erased."""
    return list(connection.scalars(select(person.c.digest).where(person.c.erased.is_not(None))))
