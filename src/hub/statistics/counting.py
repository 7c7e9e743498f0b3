"""What is counted, in which cells, and how a count is rounded (R20). Pure.

Nothing here may depend on who happens to be there: categories and cells are fixed lists, what stands in none of
them is `other`, and every cell appears with every category, empty or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hub import areas
from hub.areas import Cover
from hub.canonical import text
from hub.deciding import Seen
from hub.events import LOCATION
from hub.policy import City, Recipient

FEWEST = 5
"""Persons in a cell below whom it counts as empty (秘匿)."""

DOMINANT = 0.5
"""The share of a cell above which one person's count hides it: the dominance rule with n = 1, k = 50 %."""

STEP = 5
OTHER = "other"

MOST_COMPANIONS = 20
"""Of one person; more are not counted, so that no single answer makes a figure."""

SAFETY, EVACUATION, SURVEY = "safety.answered", "evacuation.changed", "survey.answered"
PROFILE, TRANSPORT = "profile.updated", "transport.requested"

NEEDS: Mapping[str, tuple[str, ...]] = {
    "mobility": ("車椅子", "車いす", "歩行", "ストレッチャー", "wheelchair", "walking", "stretcher"),
    "power": ("電源", "人工呼吸器", "吸引器", "power", "ventilator"),
    "oxygen": ("酸素", "oxygen"),
    "medicine": ("薬", "インスリン", "透析", "medicine", "medication", "insulin", "dialysis"),
    "food": ("食事", "食物", "アレルギー", "food", "allergy"),
    "infant": ("授乳", "乳児", "ミルク", "おむつ", "infant", "baby", "diaper"),
    "toilet": ("トイレ", "オストメイト", "toilet", "ostomy"),
    "communication": ("通訳", "手話", "筆談", "interpreter", "sign language"),
    "care": ("介護", "介助", "見守り", "care", "help"),
}
"""What is needed, by the words in which it is told; a person counts once in each."""


Tally = Mapping[str, int]
"""By category how many a person counts for; nothing where the person is not counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """One thing that can be asked. facts: the kinds that it rests on. reported: whether places report it too."""

    name: str
    facts: tuple[str, ...]
    categories: tuple[str, ...]
    tally: Callable[[Sequence[Seen]], Tally]
    reported: bool = False


def _newest(seen: Iterable[Seen], kind: str) -> Seen | None:
    return max((s for s in seen if s.kind == kind), key=lambda s: s.effective_at, default=None)


def _safety(seen: Sequence[Seen]) -> Tally:
    """What the person said, where that can be told; else the newest that was said."""
    own = [s for s in seen if s.level == "full" and s.data.get("answered_by") is None]
    newest = _newest(own, SAFETY) or _newest(seen, SAFETY)
    return {} if newest is None else {newest.data["status"]: 1}


def _evacuation(seen: Sequence[Seen]) -> Tally:
    newest = _newest(seen, EVACUATION)
    return {} if newest is None else {newest.data["status"]: 1}


def _needs(seen: Sequence[Seen]) -> Tally:
    said: list[str] = []
    for needs in (s.data.get("needs") for s in seen if s.kind in (SURVEY, PROFILE, TRANSPORT)):
        said += [needs] if isinstance(needs, str) else list(needs or ())
    return {category: 1 for words in said for category in _needed(words.casefold())}


def _needed(words: str) -> list[str]:
    found = [category for category, known in NEEDS.items() if any(word in words for word in known)]
    return found if found or not words.strip() else [OTHER]


def _transport(seen: Sequence[Seen]) -> Tally:
    return {"requested": 1} if _newest(seen, TRANSPORT) is not None else {}


def _heads(seen: Sequence[Seen]) -> Tally:
    """The person and who is along, where the person is at a shelter."""
    if shelter_of(seen) is None:
        return {}
    newest = _newest(seen, EVACUATION)
    along = newest.data.get("companions") or 0 if newest is not None and newest.data["status"] == "at_shelter" else 0
    return {"people": 1 + max(0, min(int(along), MOST_COMPANIONS))}


def shelter_of(seen: Sequence[Seen]) -> str | None:
    """The shelter where a person is: as the newest change of the evacuation says, or a survey answered there since.

    `OTHER` where the shelter has no name.
    """
    moved = _newest(seen, EVACUATION)
    answered = _newest((s for s in seen if s.data.get("shelter")), SURVEY)
    if answered is not None and (moved is None or answered.effective_at > moved.effective_at):
        return str(answered.data["shelter"])
    if moved is None or moved.data["status"] != "at_shelter":
        return None
    return str(moved.data.get("shelter") or OTHER)


_STATUSES = ("safe", "injured", "need_help", "unknown")
_EVACUATIONS = ("at_home", "moving", "at_shelter", "elsewhere")
_ALL_NEEDS = (*NEEDS, OTHER)

KINDS: Mapping[str, Count] = {
    asked: count
    for count, names in (
        (Count(name="safety", facts=(SAFETY,), categories=_STATUSES, tally=_safety), (SAFETY,)),
        (Count(name="needs", facts=(PROFILE, SURVEY, TRANSPORT), categories=_ALL_NEEDS, tally=_needs), ()),
        (
            Count(name="heads", facts=(EVACUATION, SURVEY), categories=("people",), tally=_heads, reported=True),
            (),
        ),
        (Count(name=EVACUATION, facts=(EVACUATION,), categories=_EVACUATIONS, tally=_evacuation), ()),
        (Count(name=SURVEY, facts=(SURVEY,), categories=_ALL_NEEDS, tally=_needs), ()),
        (Count(name=PROFILE, facts=(PROFILE,), categories=_ALL_NEEDS, tally=_needs), ()),
        (Count(name=TRANSPORT, facts=(TRANSPORT,), categories=("requested",), tally=_transport), ()),
    )
    for asked in (count.name, *names)
}
"""What may be asked. Two names of one count are one question, so that asking twice tells no more."""

BY: Mapping[str, tuple[str, ...]] = {"shelter": (EVACUATION, SURVEY), "district": (), "mesh": (LOCATION,)}
"""The kinds of cells, each with the facts that place a person."""


def edition() -> str:
    """What is counted and how, as one text: two processes in which it differs do not count one figure together."""
    kinds = {count.name: [count.facts, count.categories] for count in KINDS.values()}
    return text({"by": BY, "kinds": kinds, "needs": NEEDS, "companions": MOST_COMPANIONS})


class Cells:
    """The fixed cells of one recipient, and which of them a person is in."""

    def __init__(self, by: str, city: City, reader: Recipient | None, shelters: Iterable[str]) -> None:
        """shelters: the ids of all that were reported."""
        self._city, self._by = city, by
        own = () if reader is None else reader.areas
        self._everywhere = "*" in own
        self._cover = city.cover(tuple(code for code in own if code != "*"))
        if by == "shelter":
            names = set() if reader is None else set(shelters)
        elif by == "district":
            names = {code for code in (*city.contains, *own) if code != "*" and code[0] != "m" and self._mine(code)}
        else:
            names = {square for code in self._squares() for square in _kilometres(code)}
        self.names = (*sorted(names - {OTHER}), OTHER)
        self._names = set(self.names)
        self._covers: list[tuple[str, Cover]] = (
            [(name, city.cover((name,))) for name in self.names[:-1]] if by == "district" else []
        )
        self._districts: dict[tuple[str, ...], str] = {}

    def _mine(self, code: str) -> bool:
        return self._everywhere or self._cover.covers(code)

    def _squares(self) -> Iterable[str]:
        codes = {code for inside in self._city.contains.values() for code in inside} if self._everywhere else set()
        return (code[1:] for code in codes | self._cover.codes if code[0] == "m")

    def of(self, homes: tuple[str, ...], seen: Sequence[Seen]) -> str:
        """The cell of a person. homes: the areas of residence."""
        if self._by == "shelter":
            found = shelter_of(seen)
        elif self._by == "mesh":
            found = _square(seen)
        else:
            found = self._district(homes)
        return found if found in self._names and found is not None else OTHER

    def _district(self, homes: tuple[str, ...]) -> str:
        """The narrowest cell around the first of a person's areas that lies in any."""
        if homes not in self._districts:
            around = ([name for name, cover in self._covers if cover.covers(code)] for code in homes)
            narrow = (max(names, key=lambda name: (len(name), name)) for names in around if names)
            self._districts[homes] = next(narrow, OTHER)
        return self._districts[homes]


def _kilometres(code: str) -> Iterable[str]:
    """The squares of a kilometre in a grid-square code, or the one around it."""
    if len(code) >= 8:
        return [code[:8]]
    if len(code) == 6:
        return [f"{code}{n:02}" for n in range(100)]
    return [square for up in range(8) for right in range(8) for square in _kilometres(f"{code}{up}{right}")]


def _square(seen: Sequence[Seen]) -> str | None:
    """The square of a kilometre where the newest location lies, if that is shown so finely."""
    newest = _newest(seen, LOCATION)
    if newest is None or newest.level not in ("exact", "250m", "1km"):
        return None
    if newest.level == "exact":
        return (areas.mesh(newest.data["lat_deg"], newest.data["lon_deg"]) or OTHER)[:8]
    return str(newest.data["mesh"])[:8]


Row = tuple[str, str, int, int, int]
"""Cell, category, how many, from how many persons, the most from one of them."""


class Sums:
    """What one question adds up, by cell and category."""

    def __init__(self) -> None:
        self._values: Counter[tuple[str, str]] = Counter()
        self._persons: Counter[tuple[str, str]] = Counter()
        self._most: dict[tuple[str, str], int] = {}

    def add(self, cell: str, tally: Tally) -> None:
        """Count one person."""
        for category, value in tally.items():
            at = cell, category
            self._values[at] += value
            self._persons[at] += 1
            self._most[at] = max(value, self._most.get(at, 0))

    def take_in(self, other: Sums) -> None:
        """Add what others add up, who counted other persons."""
        self._values.update(other._values)
        self._persons.update(other._persons)
        for at, most in other._most.items():
            self._most[at] = max(most, self._most.get(at, 0))

    def rows(self) -> list[Row]:
        """As rows, in an order of their own."""
        return [(*at, self._values[at], self._persons[at], self._most[at]) for at in sorted(self._values)]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Sums:
        """The sums that `rows` gave."""
        made = cls()
        for cell, category, value, persons, most in rows:
            at = cell, category
            made._values[at], made._persons[at], made._most[at] = value, persons, most
        return made

    def told(self, cell: str, category: str) -> int:
        """The count as it is told."""
        at = cell, category
        return rounded(self._values[at], self._persons[at], self._most.get(at, 0))


def rounded(value: int, persons: int, most: int) -> int:
    """A count as it is told: 0 where fewer than `FEWEST` persons make it, or one of them more than `DOMINANT` of it.

    Else to the nearest multiple of `STEP`. most: what the person counts for who counts for most.
    """
    if persons < FEWEST or most > value * DOMINANT:
        return 0
    return (value + STEP // 2) // STEP * STEP
