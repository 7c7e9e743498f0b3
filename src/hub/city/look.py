"""One answer of the demonstration, counted, and held against what people agreed to without asking the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hub.answer import Answer
from hub.city.offers import Reader
from hub.city.people import City


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One answer, counted. opened: items that rest on consents for emergencies only, of the city's residents.

    position: where it stands in the log. approved: persons shown on an approval for one look. unfounded: items
    whose person never agreed to that.
    """

    answer: Answer
    position: int
    persons: frozenset[str]
    kinds: Mapping[str, int]
    opened: int
    approved: frozenset[str]
    unfounded: int

    def items(self) -> dict[str, list[str]]:
        """What was shown of each person, as it was written."""
        return {shown.person: [item.json for item in shown.items] for shown in self.answer.persons}


def counted(city: City, reader: Reader, answer: Answer) -> Look:
    """The answer held against what people agreed to, without asking the rules."""
    kinds: Counter[str] = Counter()
    opened = unfounded = 0
    approved = set()
    for shown in answer.persons:
        for item in shown.items:
            kind, grant = item.entry.event.kind, item.permit.basis.id
            kinds[kind] += 1
            if not city.agreed(grant, person=shown.person, reader=reader, kind=kind, mode=shown.mode):
                unfounded += 1
                continue
            consent = city.consents[grant].data
            opened += "normal" not in consent["modes"] and city.by_id[shown.person].resident
            if "approves" in consent:
                approved.add(shown.person)
    return Look(
        answer=answer,
        position=answer.position or 0,
        persons=frozenset(shown.person for shown in answer.persons),
        kinds=dict(sorted(kinds.items())),
        opened=opened,
        approved=frozenset(approved),
        unfounded=unfounded,
    )
