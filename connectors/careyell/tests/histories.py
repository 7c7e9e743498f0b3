"""What may become of updates: written, corrected, moved to another person, withdrawn, written again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st

from .records import Record, record, withdrawal

REFS = 3
"""Ids at the service; the first two are of one person, the third is another's."""


@dataclass(frozen=True)
class Told:
    """What becomes of one update: of each revision the number of the id, whether it is withdrawn, and a drill."""

    type: str
    revisions: list[tuple[int, bool, bool]]


TYPES = ("condition", "allergies", "carers", "medication")
_SELDOM = (False, False, False, True)


def histories() -> st.SearchStrategy[list[Told]]:
    """Any history of one to four updates."""
    seldom = st.sampled_from(_SELDOM)
    revision = st.tuples(st.integers(0, REFS - 1), seldom, seldom)
    told = st.builds(Told, st.sampled_from(TYPES), st.lists(revision, min_size=1, max_size=4))
    return st.lists(told, min_size=1, max_size=4)


def history(rng: Random, updates: int) -> list[Told]:
    """One of so many updates."""

    def revision() -> tuple[int, bool, bool]:
        return rng.randrange(REFS), rng.choice(_SELDOM), rng.choice(_SELDOM)

    return [Told(rng.choice(TYPES), [revision() for _ in range(rng.randint(1, 4))]) for _ in range(updates)]


def written(told: list[Told], place: str) -> list[Record]:
    """The records of a history, in order, with ids of their own at `place`."""
    return [made for number, update in enumerate(told) for made in _revisions(update, number, place)]


def _revisions(update: Told, number: int, place: str) -> list[Record]:
    records: list[Record] = []
    for revision, (who, withdrawn, drill) in enumerate(update.revisions, 1):
        person = f"{place}-{who}"
        before = dict.fromkeys(made["person"] for made in records if made["person"] != person)
        common = {"person": person, "former_persons": list(before) or None}
        name = f"{place}-u{number}"
        if withdrawn:
            records.append(withdrawal(name, revision, **common))
            continue
        content = {"condition": None, "type": update.type, update.type: _content(update.type, f"{number}.{revision}")}
        at = f"2026-05-31T20:{number:02}:00Z"
        records.append(record(name, revision, observed_at=at, drill=drill, **(common | content)))
    return records


def _content(type_: str, text: str) -> Record:
    match type_:
        case "allergies":
            return {"allergies": [{"substance": text}]}
        case "carers":
            return {"carers": [{"role": "family", "name": text}]}
        case "medication":
            return {"prescriber": "見本内科", "medications": [{"name": text}]}
        case _:
            return {"condition": text}


def expected(told: list[Told]) -> list[tuple[int, str]]:
    """Whose, and which event, is to be seen in the end: of each update the last revision, if it is there and real."""
    ends = [(number, len(update.revisions), update.revisions[-1]) for number, update in enumerate(told)]
    return sorted((who // 2, f"u{number}:{n}") for number, n, (who, withdrawn, drill) in ends if not withdrawn | drill)
