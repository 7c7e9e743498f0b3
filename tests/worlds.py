"""Random worlds: a small cast, every rule often, times that fall exactly on boundaries.

A `Story` writes one step after another in the format of the scenarios; `world(seed)` gives a whole
one. It knows what it has written, so that later steps refer to earlier ones, but decides nothing:
what is accepted and what is seen is for the two readings of the rules to say.

A run plays every third of the worlds that a test names. Long form, all of them: HUB_TEST_WORLDS=all, as
`make test-servers` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import yaml

Step = dict[str, Any]
Data = dict[str, Any]

JST = timezone(timedelta(hours=9))
DAWN = datetime(2026, 6, 1, 8, 0, tzinfo=JST)
MILLISECOND = timedelta(milliseconds=1)

PERSONS = ("hanako", "taro", "jiro", "saburo", "yuki")
DELEGATES = ("taro", "yuki", "daughter", "ex-husband", "son")
ROLES = ("family", "carer")
CLASSES = ("municipality", "hospital", "individual", "company")
PURPOSES = ("rescue", "medical", "family_contact", "shelter_support")
MODES = ("normal", "emergency", "exercise")
BASES = ("roster", "life_protection")

RECIPIENTS: dict[str, Data] = {
    "aizu-city": {"class": "municipality", "areas": ["07202", "m5639"], "overrides": ["roster"]},
    "koriyama-city": {
        "class": "municipality",
        "areas": ["07203"],
        "overrides": ["roster", "life_protection"],
    },
    "central-hospital": {"class": "hospital", "areas": ["*"], "overrides": ["life_protection"]},
    "clinic": {"class": "hospital", "areas": ["07202-12", "m56391794"]},
    "daughter": {"class": "individual", "areas": []},
    "ex-husband": {"class": "individual", "areas": ["07"], "overrides": ["life_protection"]},
    "bus-company": {"class": "company", "areas": ["*"], "overrides": ["roster"]},
}
HOMES = ("07202", "07202", "07202-12", "07202-1", "07203", "07203-12", "13104", "m5639179414", "m564002")
AREAS = (
    *("07", "07", "07202", "07202", "07203", "07202-12", "07202-1", "13", "13104"),
    *("m5639", "m563917", "m563927", "m56391794", "m563917941", "m5639179414", "m5639178533", "m5640"),
)
CONTENTS = {
    "07": ["m5640", "13104"],
    "07202": ["m563917", "m563927"],
    "07202-12": ["m56391794", "07203"],
    "07202-1": ["m5639179511"],
    "07203": ["m5640", "07202-12"],
    "13104": ["m5339", "07202-1"],
    "m5640": ["07203"],
}
BAD_AREAS = ("072028", "0720", "7", "m56", "m56391", "m5639179", "aizu", "*", "")

# Points on and beside the edges of cells. Digits that a float would round stand as strings.
POINTS: tuple[tuple[Any, Any], ...] = (
    *((37.4948, 139.9298), (37.4948, 139.9298), ("37.4948", "139.9298"), (37.49, 139.93)),
    *((37.5, 139.9375), ("37.4916666666666666667", "139.9375"), ("37.4916666666666666666", "139.9375")),
    *((37.49375, 139.925), (37.49374, 139.925), ("37.4948", "139.9249999999999999999999")),
    *(("37.49999999999999999999999", "139.93"), ("37.4166666666666666667", 140), (37.4, 140.36)),
    *((35.69, 139.70), (51.5, -0.12), (46, 140.5), (20, 122), (37.49, 154), ("19.99999999999999999999", 139)),
)
KINDS: dict[str, Data] = {
    "location.reported": {
        "ttl_s": (3600 * 6, 3600 * 24, 3600 * 30, 3600 * 48),
        "latest_by": [["accuracy_m"]],
    },
    "safety.answered": {"ttl_s": (3600 * 12,), "latest_by": [["status"]]},
    "care.medication_updated": {"ttl_s": (3600 * 36,), "latest_by": [["prescriber"], ["prescriber", "note"]]},
    "care.condition_updated": {"ttl_s": (3600 * 3,), "latest_by": [["condition"]]},
    "care.allergy_updated": {"ttl_s": (3600 * 24,), "latest_by": [["note"]]},
    "survey.answered": {"ttl_s": (3600 * 24,), "latest_by": [["survey"], ["survey", "shelter"]]},
}
NAMES = (
    *(
        ["*"],
        ["*"],
        ["*"],
        ["*"],
        ["care.*"],
        ["care.*", "location.*"],
        ["location.reported"],
        ["location.reported", "*"],
    ),
    *(["safety.answered"], ["safety.*", "location.reported"], ["care.medication_updated", "survey.answered"]),
    *(
        ["care.allergy_updated", "safety.*"],
        ["survey.*", "care.condition_updated"],
        ["car.*"],
        ["care.med.*"],
    ),
)
LEVELS = ("exact", "full", "250m", "1km", "10km", "summary", "coarse")
EMERGENCIES = ("quake", "flood", "rain")
DRILLS = ("drill", "night-drill")


def few(seeds: range) -> range:
    """Those of `seeds` that this run plays."""
    return seeds if os.environ.get("HUB_TEST_WORLDS") == "all" else seeds[::3]


def chance(rng: Random, share: float) -> bool:
    """True in about this share of cases."""
    return rng.random() < share


def some(rng: Random, things: tuple[str, ...], most: int) -> list[str]:
    """One to `most` different things."""
    return rng.sample(list(things), rng.randint(1, min(most, len(things))))


class Story:
    """Writes steps. Remembers names, boundaries in time and its clock, which only now and then goes back."""

    def __init__(self) -> None:
        self.now = DAWN
        self.steps: list[Step] = []
        self.persons: list[str] = []
        self.recipients: list[str] = []
        self.retired: list[str] = []
        self.late_kinds: list[str] = []
        self.boundaries: list[datetime] = []
        self.grants: list[Data] = []
        self.overrides: list[Data] = []
        self.blocks: list[Data] = []
        self.delegations: list[Data] = []
        self.relations: list[Data] = []
        self.fact_times: list[datetime] = []
        self.facts: list[Step] = []
        self.drilling = False
        self.registrations: dict[str, Data] = {}
        self.introduced: dict[str, Data] = {}
        self.plot: Iterator[Step] = iter(())
        self.names = 0
        self.events = list(EVENTS)

    # The clock.

    def tick(self, rng: Random) -> datetime:
        """Minutes mostly; now and then a day, a boundary to the millisecond, or back."""
        draw = rng.random()
        ahead = sorted(when for when in self.boundaries if when > self.now)
        if draw < 0.04:
            return self.now - timedelta(minutes=rng.randint(1, 300))
        if draw < 0.12 and ahead:
            self.now = max(self.now, ahead[0] + rng.choice((-MILLISECOND, timedelta(0), timedelta(0), MILLISECOND)))
        elif draw < 0.15:
            self.now += timedelta(hours=rng.choice((3, 6, 12, 24)))
        elif draw < 0.85:
            self.now += timedelta(minutes=rng.randint(0, 15))
        return self.now

    def iso(self, rng: Random, when: datetime) -> str:
        """The same instant in one of two ways to write it."""
        return (when.astimezone(UTC) if chance(rng, 0.3) else when).isoformat()

    def later(self, rng: Random, *hours: float) -> datetime:
        """A moment after now that the clock will like to visit exactly."""
        when = self.now + timedelta(hours=rng.choice(hours))
        self.boundaries.append(when)
        return when

    def time_near(self, rng: Random) -> datetime:
        """A moment before or at now, often one at which something happened."""
        if self.fact_times and chance(rng, 0.4):
            return rng.choice(self.fact_times)
        return self.now - timedelta(minutes=rng.choice((0, 1, 5, 30, 120, 355, 360, 365, 1440, 2880)))

    def name(self, prefix: str) -> str:
        """A name not given before."""
        self.names += 1
        return f"{prefix}{self.names}"

    # The beginning.

    def prelude(self, rng: Random) -> list[Step]:
        """Kinds, recipients and persons, of each some; the rest may come later, or never.

        Each world goes without some sorts of events, so that others have more room to act.
        """
        steps: list[Step] = []
        absent = {name for name in DISRUPTIVE if chance(rng, 0.5)}
        self.events = [name for name in EVENTS if name not in absent]
        self.drilling = chance(rng, 0.25)
        kinds = list(KINDS)
        rng.shuffle(kinds)
        early = rng.choice((3, 4, 4, 5, 6))
        self.late_kinds = kinds[early:]
        steps += [self.step(rng, "kind.introduced", self.kind(rng, kind)) for kind in kinds[:early]]
        if chance(rng, 0.4):
            steps.append(self.area_introduced(rng))
        self.recipients = rng.sample(list(RECIPIENTS), rng.randint(4, 6))
        steps += [self.step(rng, "recipient.registered", self.registered(rng, r)) for r in self.recipients]
        self.persons = rng.sample(list(PERSONS), rng.choice((2, 3, 3, 4)))
        for person in self.persons:
            steps.append(self.step(rng, "person.enrolled", {"person": person, "areas": self.home(rng)}))
            if chance(rng, 0.6):
                steps.append(self.step(rng, "roster.listed", {"person": person}))
        if self.drilling or chance(rng, 0.5):
            steps.append(self.emergency_declared(rng))
        steps += [self.relation_added(rng) for _ in range(rng.randint(2, 5))]
        steps += [self.consent_granted(rng) for _ in range(2 * len(self.persons))]
        steps += [self.fact(rng) for _ in range(3 * len(self.persons))]
        return steps

    def step(self, rng: Random, kind: str, data: Data, id: str | None = None) -> Step:
        """An event at the next tick; control events at times with an id, or with `occurred_at`."""
        name = self.name("c") if id is None and chance(rng, 0.08) else id
        if kind.startswith(("consent.", "block.", "relation.", "person.")) and chance(rng, 0.05):
            data = {**data, "occurred_at": self.iso(rng, self.now - timedelta(hours=2))}
        step: Step = {"at": self.tick(rng).isoformat(), "kind": kind, "data": data}
        if name is not None:
            step["id"] = name
        self.steps.append(step)
        return step

    def kind(self, rng: Random, kind: str) -> Data:
        """An introduction: ttl, latest_by and roster in all combinations."""
        data: Data = {"kind": kind}
        if chance(rng, 0.6 if kind == "location.reported" else 0.35):
            data["ttl_s"] = rng.choice(KINDS[kind]["ttl_s"])
        if chance(rng, 0.4):
            data["latest_by"] = rng.choice(KINDS[kind]["latest_by"])
        if chance(rng, 0.6):
            data["roster"] = chance(rng, 0.8)
        return self.introduced.setdefault(kind, data) if kind not in self.introduced else data

    def registered(self, rng: Random, recipient: str, **fixed: Any) -> Data:
        """Mostly as in the cast; at times with another class, other areas, fewer rights."""
        data = {"recipient": recipient, **RECIPIENTS[recipient]}
        data["purposes"] = list(PURPOSES) if chance(rng, 0.8) else some(rng, PURPOSES, 3)
        if chance(rng, 0.15):
            data["class"] = rng.choice(CLASSES)
        if chance(rng, 0.25):
            data["areas"] = rng.choice((["*"], some(rng, AREAS, 2), some(rng, AREAS, 2), []))
        if chance(rng, 0.2):
            data["overrides"] = rng.choice((["roster"], ["life_protection"], list(BASES), []))
        data |= fixed
        if chance(rng, 0.03):
            data["areas"] = [rng.choice(BAD_AREAS[:7])]
        else:
            self.registrations[recipient] = data
        return data

    def home(self, rng: Random) -> list[str]:
        """The areas that a person states: none, one or two."""
        return rng.choice(([], *([code] for code in HOMES), some(rng, HOMES, 2)))

    # Who does it.

    def person(self, rng: Random) -> str:
        """One of the cast; now and then nobody of that name."""
        return rng.choice(self.persons) if chance(rng, 0.98) else "nobody"

    def by(self, rng: Random, data: Data, share: float = 0.25) -> Data:
        """The same, at times done by another: a delegate mostly, and mostly one of that person."""
        if not self.delegations or not chance(rng, share):
            return data
        own = [d["delegate"] for d in self.delegations if d["person"] == data["person"]]
        by = rng.choice(own) if own and chance(rng, 0.8) else rng.choice((*DELEGATES, data["person"]))
        return {**data, "by": by}

    def to(self, rng: Random) -> Data:
        """R6: to a recipient, a class or a relation."""
        return rng.choice(
            (
                {"recipient": rng.choice(self.recipients)},
                {"recipient": rng.choice(self.recipients)},
                {"class": rng.choice(CLASSES)},
                {"class": RECIPIENTS[rng.choice(self.recipients)]["class"]},
                {"relation": rng.choice([r["role"] for r in self.relations] or ROLES)},
            )
        )

    # Consents.

    def consent_granted(self, rng: Random, person: str | None = None) -> Step:
        """Every shape of grant; approvals of `every_time` grants, right ones and wrong ones."""
        parents = [grant for grant in self.grants if grant.get("ask") == "every_time"]
        parent = rng.choice(parents) if parents and chance(rng, 0.35) else None
        if parent is None and self.grants and chance(rng, 0.03):
            parent = rng.choice(self.grants)
        if person is None:
            person = parent["person"] if parent and chance(rng, 0.9) else self.person(rng)
        data = self.grant(rng, person)
        if parent is not None:
            data |= self.approval(rng, parent)
        if self.grants and chance(rng, 0.03):
            data["grant"] = rng.choice((rng.choice(self.grants)["grant"], "all"))
        data = self.by(rng, data)
        self.grants.append(data)
        return self.step(rng, "consent.granted", data)

    def grant(self, rng: Random, person: str) -> Data:
        """A grant of its own."""
        modes = rng.choice((["normal"], list(MODES), ["normal", "emergency"], list(MODES), some(rng, MODES, 2)))
        data: Data = {"grant": self.name("g"), "person": person, "to": self.to(rng)}
        data["kinds"] = list(rng.choice(NAMES))
        data["purposes"] = list(PURPOSES) if chance(rng, 0.7) else some(rng, PURPOSES, 3)
        data["modes"] = modes
        if chance(rng, 0.7):
            window = ("all", "all", "all", "latest", "latest", "since_grant", "since_emergency", None)
            data["data"] = rng.choice(window) or {"from": self.iso(rng, self.time_near(rng))}
        if chance(rng, 0.4):
            names = rng.sample(["*", "care.*", "location.*", "location.reported", "safety.answered"], 2)
            data["precision"] = {name: rng.choice(LEVELS) for name in names}
        if chance(rng, 0.3):
            data["ask"] = rng.choice(("once", "each_new_kind", "each_new_kind", "every_time", "every_time"))
        if chance(rng, 0.12):
            data["uses"] = rng.choice((1, 1, 2))
        return data | self.validity(rng)

    def validity(self, rng: Random) -> Data:
        """R4: from, until, neither or both; past, future, empty."""
        data: Data = {}
        if chance(rng, 0.15):
            near = self.time_near(rng) if chance(rng, 0.4) else self.later(rng, 0.25, 1, 3)
            data["valid_from"] = self.iso(rng, near)
        if chance(rng, 0.15):
            data["valid_until"] = self.iso(rng, self.later(rng, -1, 0.5, 4, 12, 24))
        return data

    def approval(self, rng: Random, parent: Data) -> Data:
        """R8: an approval of that grant, sometimes of more than it covers."""
        data: Data = {"approves": parent["grant"], "ask": "once"}
        data["uses"] = rng.choice((1, 1, 1, 1, 1, 1, 1, 1, 2, None))
        if chance(rng, 0.7):
            data |= {"to": parent["to"], "modes": parent["modes"]}
        if chance(rng, 0.5):
            data["kinds"] = list(rng.choice((parent["kinds"], ["*"])))
        if chance(rng, 0.1):
            data["ask"] = rng.choice(("every_time", "each_new_kind"))
        return {name: value for name, value in data.items() if value is not None}

    def consent_revoked(self, rng: Random) -> Step:
        """One grant, all, another person's, one that does not exist."""
        grant = rng.choice(self.grants) if self.grants else {"grant": "none", "person": "hanako"}
        person = grant["person"] if chance(rng, 0.85) else self.person(rng)
        name = rng.choice((grant["grant"], grant["grant"], grant["grant"], "all", "nothing"))
        return self.step(rng, "consent.revoked", self.by(rng, {"person": person, "grant": name}))

    def consent_noise(self, rng: Random) -> Step:
        """Requests, refusals and links decide nothing."""
        person = self.person(rng)
        asked = {"recipient": rng.choice(self.recipients), "kinds": ["*"], "purpose": rng.choice(PURPOSES)}
        kind, data = rng.choice(
            (
                ("consent.requested", {"request": self.name("q"), "person": person, **asked}),
                ("consent.declined", self.by(rng, {"person": person, "request": f"q{self.names}"})),
                ("identity.linked", {"source": "myhazard", "ref": self.name("u"), "person": person}),
            )
        )
        return self.step(rng, kind, data)

    # What withholds.

    def block(self, rng: Random) -> Step:
        """R13: added, replaced, removed; by the person or a delegate; protective or not."""
        if self.blocks and chance(rng, 0.6):
            known = rng.choice(self.blocks)
            data = {"person": known["person"], "to": known["to"]}
            kind = rng.choice(("block.removed", "block.removed", "block.added"))
        else:
            data, kind = {"person": self.person(rng), "to": self.to(rng)}, "block.added"
        if kind == "block.added" and chance(rng, 0.4):
            data["protective"] = chance(rng, 0.8)
        data = self.by(rng, data, 0.5)
        if kind == "block.added":
            self.blocks.append(data)
        return self.step(rng, kind, data)

    def fact_retracted(self, rng: Random) -> Step:
        """R12: a fact that is there, one still to come, or another person's."""
        person, event = self.person(rng), f"f{self.names + rng.randint(1, 4)}"
        if self.facts and chance(rng, 0.6):
            fact = rng.choice(self.facts)
            event = fact["id"]
            person = fact["data"]["person"] if chance(rng, 0.85) else person
        return self.step(rng, "fact.retracted", {"person": person, "event": event})

    def person_erased(self, rng: Random) -> Step:
        """R15."""
        return self.step(rng, "person.erased", self.by(rng, {"person": self.person(rng)}))

    # Persons.

    def person_enrolled(self, rng: Random) -> Step:
        """Late, again, after an erasure."""
        person = rng.choice(PERSONS)
        if person not in self.persons:
            self.persons.append(person)
        areas = self.home(rng) if chance(rng, 0.9) else [rng.choice(BAD_AREAS)]
        return self.step(rng, "person.enrolled", {"person": person, "areas": areas})

    def person_moved(self, rng: Random) -> Step:
        """To another area, to none, to what is no area."""
        areas = self.home(rng) if chance(rng, 0.9) else [rng.choice(BAD_AREAS)]
        return self.step(rng, "person.moved", {"person": self.person(rng), "areas": areas})

    def relation_added(self, rng: Random) -> Step:
        """R6."""
        data = {
            "person": self.person(rng),
            "recipient": rng.choice(self.recipients),
            "role": rng.choice(ROLES),
        }
        self.relations.append(data)
        return self.step(rng, "relation.added", self.by(rng, data, 0.3))

    def relation_ended(self, rng: Random) -> Step:
        """R6; also of what is absent."""
        if not self.relations or chance(rng, 0.1):
            return self.step(
                rng, "relation.ended", {"person": self.person(rng), "recipient": "nobody", "role": "carer"}
            )
        return self.step(rng, "relation.ended", self.by(rng, dict(rng.choice(self.relations)), 0.3))

    def delegation_added(self, rng: Random) -> Step:
        """R16; mostly with an end to come."""
        person = self.person(rng)
        data = {"person": person, "delegate": rng.choice([d for d in DELEGATES if d != person])}
        if chance(rng, 0.5):
            data["until"] = self.iso(rng, self.later(rng, -1, 1, 4, 12, 24))
        self.delegations.append(data)
        return self.step(rng, "delegation.added", self.by(rng, data, 0.3))

    def delegation_ended(self, rng: Random) -> Step:
        """R16; also of what is absent."""
        known = rng.choice(self.delegations) if self.delegations else {"person": "hanako", "delegate": "son"}
        data = {"person": known["person"], "delegate": known["delegate"]}
        return self.step(rng, "delegation.ended", self.by(rng, data, 0.3))

    def roster(self, rng: Random) -> Step:
        """R14."""
        kind = rng.choice(("roster.listed", "roster.listed", "roster.removed"))
        return self.step(rng, kind, {"person": self.person(rng)})

    # The city.

    def area_introduced(self, rng: Random) -> Step:
        """R10: chains, circles, emptied again."""
        area = rng.choice(list(CONTENTS))
        contains = (
            CONTENTS[area] if chance(rng, 0.8) else rng.choice(([], [rng.choice(BAD_AREAS)], some(rng, AREAS, 2)))
        )
        return self.step(rng, "area.introduced", {"area": area, "contains": list(contains)})

    def kind_introduced(self, rng: Random) -> Step:
        """R8: late, and again."""
        kind = self.late_kinds.pop() if self.late_kinds else rng.choice(list(KINDS))
        return self.step(rng, "kind.introduced", self.kind(rng, kind))

    def recipient_registered(self, rng: Random) -> Step:
        """Late, again with other rights, after it was retired."""
        recipient = rng.choice((*self.recipients, rng.choice(list(RECIPIENTS))))
        if self.retired and chance(rng, 0.5):
            recipient = rng.choice(self.retired)
        if recipient not in self.recipients:
            self.recipients.append(recipient)
        return self.step(rng, "recipient.registered", self.registered(rng, recipient))

    def recipient_retired(self, rng: Random) -> Step:
        """R6; also of one who was never registered, who may then come (R1a)."""
        recipient = rng.choice((*self.recipients, rng.choice(list(RECIPIENTS))))
        self.retired.append(recipient)
        return self.step(rng, "recipient.retired", {"recipient": recipient})

    # Emergencies and overrides.

    def emergency_declared(self, rng: Random) -> Step:
        """R10: declared, amended, declared again at the very end; now and then as what it is not."""
        drill = chance(rng, 0.9 if self.drilling else 0.2)
        name = rng.choice(DRILLS if drill else EMERGENCIES)
        areas = some(rng, AREAS, 2) if chance(rng, 0.97) else [rng.choice(BAD_AREAS)]
        until = self.later(rng, *((24, 48, 72) if self.drilling else (-1, 0.5, 2, 6, 12, 24, 24, 48, 72)))
        if drill and chance(rng, 0.75):
            areas = ["07", "13", "m5639"]
        data = {"emergency": name, "areas": areas, "until": self.iso(rng, until), "hazard": "earthquake"}
        if drill != chance(rng, 0.06):
            data["exercise"] = True
        return self.step(rng, "emergency.declared", data)

    def emergency_ended(self, rng: Random) -> Step:
        """R10: lifted, also what is not declared; proposals and rejections of another id change nothing."""
        until = self.iso(rng, self.now + timedelta(hours=24))
        watch = {"emergency": "watch", "areas": ["07"], "until": until, "hazard": "flood"}
        kind, data = rng.choice(
            (
                ("emergency.lifted", {"emergency": rng.choice((*EMERGENCIES, *DRILLS))}),
                ("emergency.lifted", {"emergency": rng.choice(EMERGENCIES)}),
                ("emergency.lifted", {"emergency": rng.choice(EMERGENCIES)}),
                rng.choice((("emergency.proposed", watch), ("emergency.rejected", {"emergency": "watch"}))),
            )
        )
        return self.step(rng, kind, data)

    def override_opened(self, rng: Random) -> Step:
        """R14: both bases, with and without the right, a reason, persons, at the 72 h and beyond."""
        recipient = rng.choice(self.recipients)
        basis = rng.choice((*RECIPIENTS[recipient].get("overrides", []), rng.choice(BASES)))
        name = self.name("o")
        if self.overrides and chance(rng, 0.05):
            name = rng.choice(self.overrides)["override"]
        data: Data = {"override": name, "recipient": recipient, "basis": basis}
        self.overrides.append(data)
        if chance(rng, 0.8 if basis == "life_protection" else 0.4):
            data["persons"] = some(rng, (*self.persons, "nobody"), 3)
        if "persons" not in data or chance(rng, 0.2):
            data["areas"] = some(rng, AREAS, 2)
        data["kinds"] = list(rng.choice(NAMES[:10]))
        data["purposes"] = list(PURPOSES) if chance(rng, 0.7) else some(rng, PURPOSES, 2)
        data["reason"] = "安否確認" if chance(rng, 0.94) else rng.choice(("", " ", "\t\n", "\u3000"))
        data["actor"] = "officer-1"
        hours = (-1, 1, 6, 24, 24, 48, 72, 72, 73)
        step = self.step(rng, "override.opened", data)
        until = datetime.fromisoformat(step["at"]) + timedelta(hours=rng.choice(hours))
        data["until"] = (until + (MILLISECOND if chance(rng, 0.05) else timedelta(0))).isoformat()
        self.boundaries.append(until)
        return step

    def override_closed(self, rng: Random) -> Step:
        """R14; also one that is not open yet."""
        known = [*(o["override"] for o in self.overrides), f"o{self.names + rng.randint(1, 5)}"]
        return self.step(rng, "override.closed", {"override": rng.choice(known)})

    # Facts.

    def fact(self, rng: Random) -> Step:
        """A fact; late, from the future, at the time of another, of a drill."""
        known = KINDS if chance(rng, 0.1) else [kind for kind in KINDS if kind not in self.late_kinds]
        kind = rng.choice(("location.reported", "location.reported", *known))
        data: Data = {"person": self.person(rng), **self.payload(rng, kind)}
        if chance(rng, 0.45):
            claimed = self.time_near(rng) if chance(rng, 0.8) else self.now + timedelta(hours=rng.choice((1, 30)))
            data["occurred_at"] = self.iso(rng, claimed)
        if chance(rng, 0.5 if self.drilling else 0.04):
            data["exercise"] = True
        at = datetime.fromisoformat(data["occurred_at"]) if "occurred_at" in data else self.now
        self.fact_times.append(at)
        self.boundaries += [at + timedelta(hours=hours) for hours in (24, rng.choice((6, 30)))]
        step = self.step(rng, kind, data, self.name("f"))
        self.facts.append(step)
        return step

    def payload(self, rng: Random, kind: str) -> Data:
        """The fields of a kind; few values, so that `latest_by` meets equal ones."""
        if kind == "location.reported":
            lat, lon = rng.choice(POINTS)
            return {"lat_deg": lat, "lon_deg": lon, "accuracy_m": rng.choice((5, 20))}
        if kind == "safety.answered":
            return {
                "status": rng.choice(("safe", "need_help")),
                **self.maybe(rng, "note", "1F", "2F"),
                **self.own_end(rng),
            }
        if kind == "care.medication_updated":
            fields = self.maybe(rng, "prescriber", "clinic-a", "clinic-b") | self.maybe(rng, "note", "朝")
            return {"medications": [{"name": rng.choice(("ワルファリン", "メトホルミン"))}], **fields}
        if kind == "care.condition_updated":
            return self.maybe(rng, "condition", "めまい", "発熱")
        if kind == "care.allergy_updated":
            return {
                "allergies": [rng.choice(("そば", "ペニシリン"))],
                **self.maybe(rng, "note", "重い", "軽い"),
            }
        places = self.maybe(rng, "survey", "first", "second") | self.maybe(rng, "shelter", "a", "b")
        return {"answers": {"毛布": rng.choice(("必要", "不要"))}, **places}

    def own_end(self, rng: Random) -> Data:
        """R11: now and then a fact's own end: to come, or over already."""
        if not chance(rng, 0.3):
            return {}
        end = self.time_near(rng) if chance(rng, 0.2) else self.later(rng, 0.25, 1, 6, 14)
        return {"expires_at": self.iso(rng, end)}

    def maybe(self, rng: Random, field: str, *values: str) -> Data:
        """An optional field, mostly there."""
        return {field: rng.choice(values)} if chance(rng, 0.7) else {}

    def again(self, rng: Random) -> Step:
        """R1a: an event id for the second time: the same event, or another under its name."""
        known = [step for step in self.steps if "id" in step]
        if not known:
            return self.fact(rng)
        old = rng.choice(known)
        data = dict(old["data"])
        if chance(rng, 0.4):
            data["note" if old["id"].startswith("f") else "by"] = "son"
        return self.step(rng, old["kind"], data, old["id"])

    # Questions.

    def query(self, rng: Random) -> Data:
        """Who asks, for what; mostly one to whom something was granted or opened, for what it is for."""
        known = self.recipients if chance(rng, 0.98) else [*RECIPIENTS, "stranger"]
        query: Data = {"recipient": rng.choice(known), "purpose": rng.choice(PURPOSES)}
        drill = chance(rng, 0.45 if self.drilling else 0.05)
        if self.overrides and chance(rng, 0.25):
            override = rng.choice(self.overrides[-4:])
            query = {"recipient": override["recipient"], "purpose": rng.choice(override["purposes"])}
        elif self.grants and chance(rng, 0.85):
            fit = [grant for grant in self.grants if not drill or "exercise" in grant["modes"]]
            grant = rng.choice(fit or self.grants)
            query["purpose"] = rng.choice(grant["purposes"])
            query["recipient"] = rng.choice(self.addressed(grant))
        if chance(rng, 0.15):
            query["kinds"] = list(rng.choice(NAMES))
        if drill:
            query["exercise"] = True
        return query

    def addressed(self, grant: Data) -> list[str]:
        """Recipients that the grant may mean, as far as the story knows."""
        to, found = grant["to"], list(self.recipients)
        if "recipient" in to:
            found = [to["recipient"]]
        elif "class" in to:
            found = [r for r in self.recipients if RECIPIENTS[r]["class"] == to["class"]]
        else:
            who = (grant["person"], to["relation"])
            found = [r["recipient"] for r in self.relations if (r["person"], r["role"]) == who]
        return found or self.recipients

    def question(self, rng: Random) -> Step:
        """A read, or the same put to the decision alone."""
        step: Step = {
            "at": self.tick(rng).isoformat(),
            "read" if chance(rng, 0.35) else "expect": self.query(rng),
        }
        self.steps.append(step)
        return step

    def event(self, rng: Random) -> Step:
        """The next step of a plot, or any event."""
        if chance(rng, 0.75):
            step = next(self.plot, None)
            if step is not None:
                return step
            if chance(rng, 0.5):
                plots: list[Callable[[Random], Iterator[Step]]] = [getattr(self, name) for name in PLOTS]
                self.plot = rng.choice(plots)(rng)
        write: Callable[[Random], Step] = getattr(self, rng.choice(self.events))
        return write(rng)

    # Plots: steps that belong together, for what single events would bring about too seldom.
    # Other events come in between, so that a plot may also fail.

    def a_fact(self, rng: Random, person: str, kind: str | None = None, **fields: Any) -> Step:
        """A fact of the person, of any kind that is known."""
        kind = kind or rng.choice(list(self.introduced))
        data = {"person": person, **self.payload(rng, kind), **fields}
        return self.step(rng, kind, data, self.name("f"))

    def a_grant(self, rng: Random, person: str, to: Data, **fields: Any) -> Step:
        """A grant of everything, but for the fields given."""
        data = {
            "grant": self.name("g"),
            "person": person,
            "to": to,
            "kinds": ["*"],
            "purposes": list(PURPOSES),
        }
        data |= {"modes": list(MODES), "data": "all", **fields}
        return self.step(rng, "consent.granted", {name: value for name, value in data.items() if value is not None})

    def asked(self, rng: Random, recipient: str, at: datetime | None = None, **fields: Any) -> Step:
        """A question by the recipient, for a purpose of theirs; at that very moment, if one is given."""
        known = self.registrations.get(recipient, {}).get("purposes") or PURPOSES
        self.now = max(self.now, at or self.now)
        query = {"recipient": recipient, "purpose": rng.choice(known), **fields}
        step = {"at": (at or self.tick(rng)).isoformat(), "expect": query}
        self.steps.append(step)
        return step

    def declared(self, rng: Random, name: str, areas: list[str], hours: float = 48, **fields: Any) -> Step:
        """A declaration for some hours from now."""
        data = {"emergency": name, "areas": areas, "until": (self.now + timedelta(hours=hours)).isoformat()}
        return self.step(rng, "emergency.declared", {**data, "hazard": "flood", **fields})

    def moved(self, rng: Random, person: str, *areas: str) -> Step:
        """The person lives there now."""
        return self.step(rng, "person.moved", {"person": person, "areas": list(areas)})

    def registers(self, rng: Random, recipient: str, **fixed: Any) -> Step:
        """The recipient is registered, again maybe, with all purposes."""
        data = self.registered(rng, recipient, purposes=list(PURPOSES), **fixed)
        return self.step(rng, "recipient.registered", data)

    def opened(self, rng: Random, recipient: str, basis: str, **fields: Any) -> Step:
        """An override for a day, of everything."""
        data = {"override": self.name("o"), "recipient": recipient, "basis": basis, "kinds": ["*"]}
        data |= {"purposes": list(PURPOSES), "reason": "救助", "actor": "officer-1", **fields}
        until = (self.now + timedelta(hours=24)).isoformat()
        return self.step(rng, "override.opened", {"until": until, **data})

    def plot_of_a_new_kind(self, rng: Random) -> Iterator[Step]:
        """R8: what was granted before a kind was there."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        kind = self.late_kinds[-1] if self.late_kinds else rng.choice(list(KINDS))
        ask = rng.choice(("each_new_kind", "each_new_kind", "once"))
        names = rng.choice((["*"], [kind], [kind.split(".")[0] + ".*"]))
        yield self.a_grant(rng, person, {"recipient": recipient}, ask=ask, kinds=names)
        yield self.kind_introduced(rng)
        yield self.a_fact(rng, person, kind)
        yield self.asked(rng, recipient)

    def plot_of_an_approval(self, rng: Random) -> Iterator[Step]:
        """R4, R8: an approval, until it is used or its consent ends."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        to = {"recipient": recipient}
        parent = self.a_grant(rng, person, to, ask="every_time", kinds=rng.choice((["*"], ["care.*", "safety.*"])))
        yield parent
        name = parent["data"]["grant"]
        yield self.a_fact(rng, person)
        yield self.a_grant(rng, person, to, approves=name, uses=1, data=rng.choice(("latest", "all", None)))
        yield self.asked(rng, recipient)
        if chance(rng, 0.7):
            yield self.step(rng, "consent.revoked", {"person": person, "grant": name})
        else:
            yield self.question(rng)
        yield self.asked(rng, recipient)

    def plot_of_a_run(self, rng: Random) -> Iterator[Step]:
        """R9, R10: an emergency that ends in one of three ways, or does not, and comes again."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        name, to = self.name("e"), {"recipient": recipient}
        yield self.moved(rng, person, "07202")
        yield self.a_grant(rng, person, to, data="since_emergency")
        how = rng.choice(("lifted", "elsewhere", "expired", "amended"))
        yield self.declared(rng, name, ["07202"], 2 if how == "expired" else 48)
        yield self.a_fact(rng, person)
        if how == "lifted":
            yield self.step(rng, "emergency.lifted", {"emergency": name})
        if how == "elsewhere":
            yield self.declared(rng, name, ["47"])
            yield self.a_fact(rng, person)
        self.now += timedelta(hours=rng.choice((7, 8)))
        yield self.declared(rng, name, rng.choice((["07202"], ["07"])))
        yield self.asked(rng, recipient)

    def plot_of_a_block(self, rng: Random) -> Iterator[Step]:
        """R13: a block on who has the relation or the class, or had it; and what removes or replaces it."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        shape = rng.choice(("relation", "class", "recipient"))
        related = {"person": person, "recipient": recipient, "role": "carer"}
        yield self.a_grant(rng, person, {"recipient": recipient})
        if shape == "relation":
            yield self.step(rng, "relation.added", related)
        kinds = {"relation": "carer", "class": self.registrations.get(recipient, {}).get("class", "company")}
        to = {shape: kinds.get(shape, recipient)}
        yield self.step(rng, "block.added", {"person": person, "to": to})
        if shape == "relation":
            yield self.step(rng, "relation.ended", related)
        if shape == "class":
            yield self.registers(rng, recipient, **{"class": rng.choice(CLASSES)})
        yield self.a_fact(rng, person)
        yield self.asked(rng, recipient)
        yield self.step(rng, "block.removed", {"person": person, "to": to})
        yield self.asked(rng, recipient)

    def plot_against_a_block(self, rng: Random) -> Iterator[Step]:
        """R13, R14: an override of either basis, blocks of the person or a delegate, replaced or not."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        basis, whom, blocks = rng.choice(AGAINST_BLOCKS)
        delegate = rng.choice([d for d in DELEGATES if d != person])
        yield self.registers(rng, recipient, overrides=[basis], areas=rng.choice((["07"], ["*"], ["07202"])))
        yield self.moved(rng, person, "07202")
        yield self.step(rng, "delegation.added", {"person": person, "delegate": delegate})
        if basis == "roster":
            yield self.step(rng, "roster.listed", {"person": person})
            yield self.declared(rng, rng.choice(EMERGENCIES), ["07202"])
        yield self.a_fact(rng, person, self.for_roster(rng))
        yield self.opened(rng, recipient, basis, **{whom: [person] if whom == "persons" else ["07202"]})
        for protective, by_delegate in blocks:
            block = {"person": person, "to": {"recipient": recipient}}
            by = {"by": delegate} if by_delegate else {}
            yield self.step(rng, "block.added", {**block, "protective": protective, **by})
            yield self.asked(rng, recipient)
        if chance(rng, 0.5):
            yield self.step(rng, "block.removed", {**block, "by": delegate})
            yield self.asked(rng, recipient)

    def for_roster(self, rng: Random) -> str | None:
        """A kind that was introduced for the roster."""
        kinds = [kind for kind, data in self.introduced.items() if data.get("roster")]
        return rng.choice(kinds) if kinds else None

    def plot_of_the_roster(self, rng: Random) -> Iterator[Step]:
        """R14: by areas or by name; an emergency at home, at the recipient, or far away; closed again."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        registered, home, emergency, whom = rng.choice(NEIGHBOURHOODS)
        yield self.registers(rng, recipient, overrides=["roster"], areas=registered)
        yield self.moved(rng, person, *home)
        if chance(rng, 0.85):
            yield self.step(rng, "roster.listed", {"person": person})
        yield self.a_fact(rng, person, self.for_roster(rng))
        opened = self.opened(rng, recipient, "roster", **{whom: [person] if whom == "persons" else ["07202"]})
        yield opened
        yield self.asked(rng, recipient)
        yield self.declared(rng, rng.choice(EMERGENCIES), emergency)
        yield self.asked(rng, recipient)
        yield self.step(rng, "override.closed", {"override": opened["data"]["override"]})
        yield self.asked(rng, recipient)

    def plot_of_an_area(self, rng: Random) -> Iterator[Step]:
        """R10: an area that contains something, then something else, or what contains more."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        area, home = rng.choice((("07203", "m5639179414"), ("07202-12", "m5639179414"), ("m5640", "13104")))
        yield self.moved(rng, person, home)
        yield self.a_fact(rng, person)
        window = rng.choice(("all", None))
        yield self.a_grant(rng, person, {"recipient": recipient}, modes=["emergency"], data=window)
        yield self.a_fact(rng, person)
        yield self.declared(rng, rng.choice(EMERGENCIES), [area])
        contents = [["m563917"], ["07202-1"], ["13"], []]
        rng.shuffle(contents)
        if chance(rng, 0.5):
            yield self.step(rng, "area.introduced", {"area": "07202-1", "contains": [home[:6]]})
        for contains in contents[:3]:
            yield self.step(rng, "area.introduced", {"area": area, "contains": contains})
            yield self.asked(rng, recipient)

    def plot_of_a_district(self, rng: Random) -> Iterator[Step]:
        """R10: a district is not the beginning of another, neither in an emergency nor in a registration."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        name, here, beside = self.name("e"), "07202-12", "07202-1"
        yield self.moved(rng, person, here)
        yield self.registers(rng, recipient, areas=[rng.choice((here, beside))])
        to = rng.choice(({"recipient": recipient}, {"class": self.registrations[recipient]["class"]}))
        yield self.a_grant(rng, person, to, modes=rng.choice((["normal"], ["emergency"])))
        yield self.a_fact(rng, person)
        yield self.declared(rng, name, [beside])
        yield self.asked(rng, recipient)
        yield self.declared(rng, name, [beside, here])
        yield self.asked(rng, recipient)

    def plot_of_an_end(self, rng: Random) -> Iterator[Step]:
        """R4, R10, R11, R14, R16: a moment before the end, and at it."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        what, to = (
            rng.choice(("valid_from", "valid_until", "ttl", "own", "emergency", "emergency", "delegation")),
            {"recipient": recipient},
        )
        yield self.moved(rng, person, "07202")
        end = self.now + timedelta(hours=rng.choice((1, 2, 3)))
        until, fields = end.isoformat(), {}
        if what == "delegation":
            yield self.step(rng, "delegation.added", {"person": person, "delegate": "son", "until": until})
            fields = {"by": "son"}
        if what == "emergency":
            yield self.declared(rng, self.name("e"), ["07202"], until=until)
            fields = {"modes": [rng.choice(("emergency", "normal"))]}
        if what.startswith("valid"):
            fields = {what: until}
        yield self.a_grant(rng, person, to, **fields)
        mortal = [kind for kind, data in self.introduced.items() if data.get("ttl_s")]
        kind = rng.choice(mortal) if mortal and what == "ttl" else rng.choice(list(self.introduced))
        if what == "ttl":
            end = self.now + timedelta(seconds=self.introduced[kind].get("ttl_s") or 3600)
        own = {"expires_at": until} if what == "own" and "safety.answered" in self.introduced else {}
        if own:
            yield self.a_fact(rng, person, "safety.answered")
            kind = "safety.answered"
        yield self.a_fact(rng, person, kind, occurred_at=self.now.isoformat(), **own)
        yield self.asked(rng, recipient, at=end - MILLISECOND)
        yield self.asked(rng, recipient, at=end)

    def plot_of_a_tie(self, rng: Random) -> Iterator[Step]:
        """R9: two facts of one moment; the greater position is the latest."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        kind, at = rng.choice(list(self.introduced)), self.now.isoformat()
        yield self.a_grant(rng, person, {"recipient": recipient}, data=rng.choice(("latest", None)))
        payload = self.payload(rng, kind)
        for _ in range(2):
            yield self.step(rng, kind, {"person": person, "occurred_at": at, **payload}, self.name("f"))
        yield self.asked(rng, recipient)

    def plot_of_a_relation(self, rng: Random) -> Iterator[Step]:
        """R6: while it lasts; another role is another relation."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        data = {"person": person, "recipient": recipient, "role": rng.choice(ROLES)}
        yield self.a_grant(rng, person, {"relation": rng.choice((data["role"], *ROLES))})
        yield self.step(rng, "relation.added", data)
        yield self.a_fact(rng, person)
        yield self.asked(rng, recipient)
        yield self.step(rng, "relation.ended", data)
        yield self.asked(rng, recipient)

    def plot_of_a_recipient(self, rng: Random) -> Iterator[Step]:
        """R1a, R6: retired for good."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        yield self.a_grant(rng, person, {"recipient": recipient})
        yield self.a_fact(rng, person)
        yield self.asked(rng, recipient)
        if chance(rng, 0.4):
            yield self.step(rng, "recipient.retired", {"recipient": recipient})
        yield self.registers(rng, recipient)
        yield self.asked(rng, recipient)

    def plot_of_a_visitor(self, rng: Random) -> Iterator[Step]:
        """R6, R10, R17: a class reaches a visitor in an emergency only, neither at peace nor in a drill."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        drill = chance(rng, 0.5)
        yield self.moved(rng, person, "13104")
        yield self.registers(rng, recipient, areas=["m5639"])
        yield self.a_fact(rng, person, "location.reported", lat_deg=37.4948, lon_deg=139.9298)
        yield self.a_grant(rng, person, {"class": self.registrations[recipient]["class"]})
        name = rng.choice(DRILLS if drill else EMERGENCIES)
        yield self.declared(rng, name, rng.choice((["m563917"], ["13"])), **({"exercise": True} if drill else {}))
        if drill:
            yield self.a_fact(rng, person, exercise=True)
        yield self.asked(rng, recipient, **({"exercise": True} if drill else {}))
        yield self.a_fact(rng, person, occurred_at=self.now.isoformat())
        self.now += timedelta(hours=rng.choice((7, 25)))
        yield self.asked(rng, recipient)

    def plot_of_a_delegate(self, rng: Random) -> Iterator[Step]:
        """R15, R16: a delegate's grant, until the delegation ends or the delegate is gone."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        others = [other for other in self.persons if other != person]
        delegate = rng.choice((*others, "daughter", "ex-husband", recipient))
        yield self.step(rng, "delegation.added", {"person": person, "delegate": delegate})
        yield self.a_grant(rng, person, {"recipient": recipient}, by=delegate)
        yield self.a_fact(rng, person)
        yield self.asked(rng, recipient)
        if chance(rng, 0.4):
            kind = rng.choice(sorted(NO_DELEGATE))
            data = {
                "person": person,
                "by": delegate,
                "delegate": "son",
                "recipient": "clinic",
                "role": "carer",
            }
            fields = NO_DELEGATE[kind]
            yield self.step(rng, kind, {name: data[name] for name in fields})
        if delegate in others and chance(rng, 0.5):
            yield self.step(rng, "person.erased", {"person": delegate})
            yield self.asked(rng, recipient)
            yield self.step(rng, "delegation.added", {"person": person, "delegate": delegate})
        elif chance(rng, 0.5):
            yield self.step(rng, "delegation.ended", {"person": person, "delegate": delegate})
        yield self.asked(rng, recipient)

    def plot_of_what_comes_too_soon(self, rng: Random) -> Iterator[Step]:
        """R1a: ended before it began, or undone; without effect, but for a retraction (R12)."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        override, fact, grant = self.name("o"), self.name("f"), self.name("g")
        newcomer = rng.choice([r for r in RECIPIENTS if r not in self.registrations] or [recipient])
        yield self.step(rng, "recipient.retired", {"recipient": newcomer})
        yield self.step(rng, "override.closed", {"override": override})
        yield self.step(rng, "consent.revoked", {"person": person, "grant": grant})
        yield self.step(rng, "fact.retracted", {"person": rng.choice(self.persons), "event": fact})
        if newcomer not in self.recipients:
            self.recipients.append(newcomer)
        yield self.registers(rng, newcomer, overrides=["life_protection"])
        kind = rng.choice(list(self.introduced))
        yield self.step(rng, kind, {"person": person, **self.payload(rng, kind)}, fact)
        yield self.opened(rng, newcomer, "life_protection", override=override, persons=[person])
        yield self.asked(rng, newcomer)
        yield self.a_grant(rng, person, {"recipient": newcomer}, grant=grant)
        yield self.asked(rng, newcomer)

    def plot_of_a_late_paper(self, rng: Random) -> Iterator[Step]:
        """R4, R9: a grant signed before it is recorded reaches no further back for that."""
        person, recipient = rng.choice(self.persons), rng.choice(self.recipients)
        yield self.a_fact(rng, person)
        signed = (self.now - timedelta(hours=rng.choice((-2, 1, 2)))).isoformat()
        odd = {rng.choice(("occurred_at", "valid_from")): signed}
        yield self.a_grant(rng, person, {"recipient": recipient}, data=rng.choice((None, "since_grant")), **odd)
        yield self.a_fact(rng, person)
        yield self.asked(rng, recipient)

    def nonsense(self, rng: Random) -> Step:
        """R1a: a kind that no schema knows."""
        return self.step(rng, "rumour.spread", {"person": self.person(rng)}, self.name("f"))


# An override's basis, by what it names the person, and blocks, one after the other: protective or not, by a
# delegate or not.
AGAINST_BLOCKS = (
    ("life_protection", "persons", [(False, True), (True, True)]),
    ("life_protection", "persons", [(False, True), (False, False)]),
    ("life_protection", "persons", [(False, False)]),
    ("life_protection", "persons", [(True, False), (False, True)]),
    ("roster", "areas", [(False, False), (True, False)]),
    ("roster", "areas", [(True, False), (False, False)]),
    ("roster", "areas", [(True, True), (False, True)]),
    ("roster", "persons", [(False, True), (True, False)]),
    ("roster", "persons", [(True, True)]),
)
# Areas of the recipient, of the person and of an emergency; by what an override names the person.
NEIGHBOURHOODS = (
    (["07203"], ["07202", "07203"], ["07202"], "areas"),
    (["07203"], ["07202", "07203"], ["07"], "areas"),
    (["*"], ["07202"], ["07202"], "areas"),
    (["07"], ["07202"], ["07202"], "areas"),
    (["*"], ["13104"], ["47"], "persons"),
    (["47", "*"], ["13104"], ["47"], "persons"),
    (["07"], ["13104"], ["07202-12"], "persons"),
    (["07202-12"], ["13104"], ["07202"], "persons"),
    (["07202"], ["13104"], ["47"], "persons"),
)
NO_DELEGATE = {
    "delegation.added": ("person", "by", "delegate"),
    "delegation.ended": ("person", "by", "delegate"),
    "relation.added": ("person", "by", "recipient", "role"),
    "relation.ended": ("person", "by", "recipient", "role"),
    "person.erased": ("person", "by"),
}
WEIGHTS = {
    "fact": 34,
    "consent_granted": 16,
    "consent_revoked": 4,
    "consent_noise": 1,
    "block": 6,
    "fact_retracted": 4,
    "person_erased": 1,
    "person_enrolled": 3,
    "person_moved": 4,
    "relation_added": 4,
    "relation_ended": 2,
    "delegation_added": 8,
    "delegation_ended": 2,
    "roster": 3,
    "area_introduced": 3,
    "kind_introduced": 3,
    "recipient_registered": 3,
    "recipient_retired": 1,
    "emergency_declared": 12,
    "emergency_ended": 4,
    "override_opened": 12,
    "override_closed": 2,
    "again": 3,
    "nonsense": 1,
}
PLOTS = sorted(name for name in vars(Story) if name.startswith("plot_"))
PLOTS += ["plot_against_a_block", "plot_of_the_roster"]  # the plots with most turns
EVENTS = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
DISRUPTIVE = (
    *("consent_revoked", "block", "fact_retracted", "person_erased", "person_moved", "relation_ended"),
    *("recipient_registered", "recipient_retired", "emergency_ended"),
)


def world(seed: int, length: int = 120, events: float = 0.45) -> list[Step]:
    """The world of that number: a beginning, then events (that share of the steps) and questions."""
    rng, story = Random(seed), Story()
    story.prelude(rng)
    for _ in range(length):
        if chance(rng, events):
            story.event(rng)
        else:
            story.question(rng)
    return story.steps


def when(step: Step) -> datetime:
    """The hub's clock at the step, as far as the step says."""
    return datetime.fromisoformat(step["at"])


def play(hub: Any, step: Step) -> Any:
    """One step put to either reading: the outcome of an event, or what is seen."""
    if "kind" in step:
        return hub.append(when(step), step["kind"], step["data"], step.get("id"))
    ask = hub.read if "read" in step else hub.expect
    return ask(when(step), **(step.get("read") or step["expect"]))


def looking_back(seed: int, steps: list[Step], length: Callable[[], int]) -> Iterator[Step]:
    """The steps, and after each tenth or so a question as of an earlier position.

    length: positions that the log has by then; only who plays the steps knows.
    """
    rng, latest, queries = Random(seed), DAWN, []
    for step in steps:
        yield step
        latest = max(latest, when(step))
        if "kind" not in step:
            queries.append(step.get("read") or step["expect"])
        if queries and chance(rng, 0.1):
            query = {**rng.choice(queries[-6:]), "as_of": rng.randint(length() // 3, length())}
            yield {"at": latest.isoformat(), "expect": query}


def unseen(seed: int, steps: list[Step]) -> list[tuple[Step, bool]]:
    """The steps, each with False, and between them others with True that concern someone else.

    shiro is nobody to most recipients: with facts and no grant, with grants that others made use of,
    blocked, retracted, erased. Besides, the cast gets facts and consents that few may see. The clock of
    the added steps is one that went back, so that they move positions but no time (R1).
    """
    rng, before = Random(f"unseen {seed}"), (DAWN - timedelta(days=1)).isoformat()
    told: list[tuple[Step, bool]] = []
    names = iter(range(10**6))
    for step in steps:
        told.append((step, False))
        while chance(rng, 0.35):
            kind, data, name = added(rng, next(names))
            extra: Step = {"at": before, "kind": kind, "data": data}
            told.append(({**extra, "id": name} if name else extra, True))
    return told


def added(rng: Random, n: int) -> tuple[str, Data, str | None]:
    """One event about shiro, or about one of the cast that concerns few."""
    if n == 0:
        return "person.enrolled", {"person": "shiro", "areas": ["07202"]}, None
    person = rng.choice(("shiro", "shiro", "shiro", *PERSONS[:3]))
    story = Story()
    story.recipients = list(RECIPIENTS)
    fact = rng.choice(("survey.answered", "care.allergy_updated", "care.condition_updated", "safety.answered"))
    facts = fact if person != "shiro" else rng.choice((fact, "location.reported"))
    to = story.to(rng)
    grant = {"grant": f"x{n}", "person": person, "to": to, "kinds": [fact], "purposes": list(PURPOSES)}
    return rng.choice(
        (
            (facts, {"person": person, **story.payload(rng, facts)}, f"x{n}"),
            (facts, {"person": person, "exercise": True, **story.payload(rng, facts)}, f"x{n}"),
            ("consent.granted", {**grant, "modes": ["exercise"]}, None),
            ("consent.granted", {**grant, "modes": list(MODES), "uses": 1}, None),
            ("consent.granted", {**grant, "modes": ["normal"], "valid_until": DAWN.isoformat()}, None),
            ("block.added", {"person": "shiro", "to": to}, None),
            ("fact.retracted", {"person": "shiro", "event": f"x{max(0, n + rng.randint(-3, 3))}"}, None),
            ("consent.revoked", {"person": "shiro", "grant": "all"}, None),
            ("roster.listed", {"person": "shiro"}, None),
            (
                "relation.added",
                {"person": "shiro", "recipient": rng.choice(list(RECIPIENTS)), "role": "carer"},
                None,
            ),
            ("person.erased", {"person": "shiro"}, None)
            if chance(rng, 0.05)
            else ("roster.removed", {"person": "shiro"}, None),
        )
    )


def as_yaml(title: str, steps: list[Step]) -> str:
    """A scenario file that replays the steps."""
    lines = [
        yaml.safe_dump(step, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
        for step in steps
    ]
    body = "".join(f"- {line}" for line in lines)
    return f"world: []\n---\ntitle: {title}\nrules: []\nsteps:\n{body}"
