"""What may be asked for a figure: nothing of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hub.answer import Query
from hub.canonical import text
from hub.codec import is_id
from hub.errors import PayloadError
from hub.statistics.counting import BY, KINDS, Count


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked: no persons, no area, no kinds of one's own. kind: of `KINDS`; by: of `BY`."""

    recipient: str
    purpose: str
    kind: str
    by: str
    exercise: bool = False

    def __post_init__(self) -> None:
        """Raises PayloadError for what can be asked of nobody."""
        for path, name in (("recipient", self.recipient), ("purpose", self.purpose)):
            if not is_id(name):
                raise PayloadError("is no name", path=path)
        for path, name, known in (("kind", self.kind, KINDS), ("by", self.by, BY)):
            if name not in known:
                raise PayloadError(f"is none of {', '.join(known)}", path=path)

    @property
    def count(self) -> Count:
        """What is counted."""
        return KINDS[self.kind]

    @property
    def query(self) -> Query:
        """What the one decision is asked: every fact that is counted, or that places a person."""
        kinds = tuple(sorted({*self.count.facts, *BY[self.by]}))
        return Query(recipient=self.recipient, purpose=self.purpose, exercise=self.exercise, kinds=kinds)

    def text(self) -> str:
        """As it is logged: canonical JSON; equal for two names of one count."""
        said = {"recipient": self.recipient, "purpose": self.purpose, "exercise": self.exercise}
        return text({**said, "kind": self.count.name, "by": self.by})

    def beside(self, purposes: Iterable[str]) -> list[Question]:
        """All that the recipient can ask of the same data, this question among them, for each of `purposes`."""
        names = sorted({count.name for count in KINDS.values()})
        return [
            replace(self, purpose=purpose, kind=name, by=by)
            for purpose in sorted({*purposes, self.purpose})
            for name in names
            for by in BY
        ]

    @property
    def plain(self) -> Question:
        """The question by the name of its count."""
        return replace(self, kind=self.count.name)

    @classmethod
    def logged(cls, said: str) -> Question:
        """The question that `text` wrote."""
        return cls(**json.loads(said))
