"""One revision of one update: the fact that it says, and the retractions of every revision before it.

The highest revision is the one that shows, in whatever order they arrive: each knows its own number, so it retracts all
lower ones, arrived or not (R12). A retraction is the same event whoever says it: its id is made of the revision that it
hides, and it carries no time and no reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from hub.connector import Event, is_id, stable_id
from hub.connector.json import Field
from hub_connector_careyell.contents import CONTENTS, SOURCE
from hub_connector_careyell.words import ROLES, flag, lines, listed, role

RETRACTED = "fact.retracted"
MOST_REVISIONS = 99
MOST_FORMER = 4

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_LONGEST_REF = 100


def events(said: Field) -> list[Event]:
    """What a record says; empty where a first revision is withdrawn. Raises PayloadError."""
    update, revision = _id(said.need("id")), said.need("revision").whole(1, MOST_REVISIONS)
    refs = _refs(said)
    written_at = said.need("written_at").time()
    if flag(said, "withdrawn"):
        return list(_retractions(update, revision, refs))
    return [_fact(said, f"{update}:{revision}", refs[0], written_at), *_retractions(update, revision, refs)]


def _fact(said: Field, id: str, ref: str, written_at: datetime) -> Event:
    observed_at = said.need("observed_at").time()
    if observed_at > written_at:
        raise said.need("observed_at").wrong("is later than written_at")
    type_ = said.need("type")
    kind, read = type_.one_of(CONTENTS)
    data = read(said.need(type_.text()))
    data["note"] = lines(data["note"], _author(said))
    return Event(
        source=SOURCE,
        id=id,
        kind=kind,
        ref=ref,
        occurred_at=observed_at,
        exercise=flag(said, "drill") or False,
        data=_present(data),
    )


def _retractions(update: str, revision: int, refs: list[str]) -> Iterator[Event]:
    """R12 hides an event of one person, so that a lower revision is hidden from every person it may have been of."""
    for lower in range(1, revision):
        for ref in refs:
            yield Event(
                source=SOURCE,
                id=f"{update}:{lower}:retracted:{stable_id(update, lower, ref)}",
                kind=RETRACTED,
                ref=ref,
                data={"event": f"{update}:{lower}"},
            )


def _id(said: Field) -> str:
    if not _ID.fullmatch(said.word()):
        raise said.wrong("is no id of an update (1 to 64 of A-Z, a-z, 0-9, _ and -)")
    return said.text()


def _refs(said: Field) -> list[str]:
    """The person's id, then those under which earlier revisions were written, each once."""
    former = listed(said, "former_persons", MOST_FORMER) if said.optional("former_persons") else []
    return list(dict.fromkeys(map(_ref, [said.need("person"), *former])))


def _ref(said: Field) -> str:
    if not is_id(said.word(_LONGEST_REF)) or said.value != said.text():
        raise said.wrong("is no id of a person")
    return said.text()


def _author(said: Field) -> str | None:
    author = said.optional("author")
    if author is None:
        return None
    name, other = role(author.need("role"))
    return f"記入: {other or ROLES[name]}"


def people(said: Field) -> list[str]:
    """The ids of persons in a record that cannot be read, as far as they can be."""
    if not isinstance(said.value, dict):
        return []
    former = said.value.get("former_persons")
    found = [said.value.get("person"), *(former[:MOST_FORMER] if isinstance(former, list) else [])]
    return [ref for ref in dict.fromkeys(ref for ref in found if isinstance(ref, str)) if is_id(ref)]


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _present(part) for name, part in value.items() if part is not None}
    return [_present(part) for part in value] if isinstance(value, list) else value
