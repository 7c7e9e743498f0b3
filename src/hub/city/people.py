"""The simulated city: who lives there, what they agreed to, and what their day sends.

Seeded: equal people, seed and time of the earthquake give equal events, to the last id and digit. It only
writes events down; `demo` hands them to intake. What people agreed to is kept (`consents`), so that
answers can be held against it without asking the rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from hub import areas
from hub.city.offers import (
    ALLERGY,
    CITY,
    CONDITION,
    HANAKO,
    JST,
    MEDICATION,
    MOVED,
    NONE,
    OFFERS,
    ORGANISATIONS,
    PROFILE,
    RIDE,
    SAFETY,
    SHARES,
    SURVEYED,
    Offer,
    Reader,
)
from hub.events import LOCATION, Event
from hub.hub import areas as city_areas

QUAKE = datetime(2026, 6, 2, 9, 5, tzinfo=JST)
"""When our own telegram is reported; a telegram that is given sets the day by its own report time."""

_TELEGRAM = Path(__file__).parents[1] / "demo-telegram.xml"

APP, CARE, SURVEY, MOBILITY, DESK = "myhazard", "care-app", "shelter-survey", "mobility", "city-desk"

LATE = timedelta(minutes=15)
"""A fact that arrives later than this after it happened counts as late on the screen."""

STREAM_MIN = 175
_CENTRE, _SPREAD = (Decimal("37.4948"), Decimal("139.9298")), 0.012
_TOKYO = (Decimal("35.6895"), Decimal("139.6917"))
_ELSEWHERE = ("07203", "13104", "04103")
_NEEDS = ("車いす", "在宅酸素", "人工透析", "要約筆記", "日本語以外の案内")
_MEDICINES = (
    ("ワルファリン", "2 mg"),
    ("アムロジピン", "5 mg"),
    ("メトホルミン", "500 mg"),
    ("プレドニゾロン", "5 mg"),
)
_CONDITIONS = ("落ち着いている", "疲れている", "息苦しい", "発熱", "眠れていない")
_SHELTERS = ("北避難所", "南避難所", "東避難所", "西避難所")

Batch = tuple[datetime, list[Event]]
"""The hub's time, and what arrives then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Citizen:
    """One who enrolled. home: where the pings scatter around; for a visitor, where they are staying."""

    id: str
    asks: str
    areas: tuple[str, ...]
    home: tuple[Decimal, Decimal]
    family: str | None
    carer: str | None

    @property
    def resident(self) -> bool:
        """Whether enrolled in the city; a visitor is enrolled elsewhere."""
        return self.areas[0].startswith(CITY)


class City:
    """A city of `people`, and its day around an earthquake that is reported at `quake`."""

    def __init__(self, people: int, seed: int, quake: datetime) -> None:
        self._seed, self.quake = seed, quake
        self._sent = 0
        self._squares = areas.cover([CITY], {e.data["area"]: tuple(e.data["contains"]) for e in city_areas()})
        self.citizens = self._settle(people)
        self.relations = {
            (c.id, recipient, role)
            for c in self.citizens
            for recipient, role in ((c.family, "family"), (c.carer, "carer"))
            if recipient
        }
        self.consents: dict[str, Event] = {}

    @cached_property
    def by_id(self) -> Mapping[str, Citizen]:
        """The citizens by their id."""
        return {citizen.id: citizen for citizen in self.citizens}

    @cached_property
    def classes(self) -> Mapping[str, str]:
        """The class of each recipient that is registered."""
        return {event.data["recipient"]: event.data["class"] for event in self._recipients()}

    def agreed(self, grant: str, *, person: str, reader: Reader, kind: str, mode: str) -> bool:
        """Whether the person said so: this consent, to this recipient, for this purpose, kind and mode."""
        event = self.consents.get(grant)
        if event is None or event.person != person:
            return False
        said, to = event.data, event.data["to"]
        meant = (
            to.get("recipient") == reader.recipient
            or to.get("class") == self.classes[reader.recipient]
            or (person, reader.recipient, to.get("relation")) in self.relations
        )
        named = any(kind == name or (name.endswith(".*") and kind.startswith(name[:-1])) for name in said["kinds"])
        return meant and named and reader.purpose in said["purposes"] and mode in said["modes"]

    def evening(self) -> Iterator[Batch]:
        """The evening before: recipients are registered, people enrol, agree and say who they are."""
        begin = self.quake - timedelta(hours=15)
        yield begin, self._recipients()
        chance = self._chance("evening")
        for number, some in enumerate(_cut(self.citizens, 50)):
            at = begin + timedelta(minutes=10, seconds=5 * number)
            yield at, [event for citizen in some for event in self._enrolment(citizen, chance, at)]

    def morning(self) -> Iterator[Batch]:
        """An ordinary morning, from two and a half hours before the report: pings, care, rides."""
        chance = self._chance("morning")
        said: list[tuple[int, Event]] = []
        for citizen in self.citizens:
            visiting = not citizen.resident
            for _ in range(1 if visiting else chance.choice((0, 0, 1, 1, 2))):
                said.append(self._ping(citizen, chance, chance.randrange(-150, -20)))
            if citizen.carer and chance.random() < 0.6:
                said.append(self._condition(citizen, chance, chance.randrange(-150, -20)))
            if chance.random() < 0.04:
                said.append(self._ride(citizen, chance, chance.randrange(-150, -20)))
        return self._arriving(said)

    def aftermath(self, *, emergency: bool) -> Iterator[Batch]:
        """The three hours after the report, minute by minute: late ones, repeated ones and wrong ones among them.

        emergency: whether one was declared; then the city asks those who want to be asked every time.
        """
        chance = self._chance("aftermath")
        said: list[tuple[int, Event]] = []
        for citizen in self.citizens:
            facts = self._facts(citizen, chance)
            if emergency and citizen.asks == "every_time":
                said += self._asked(citizen, chance)
            for minute, fact in facts:
                arrives = minute
                if chance.random() < 0.08:  # the telephone had no signal
                    arrives = min(STREAM_MIN, minute + chance.randrange(20, 90))
                said.append((arrives, fact))
                if chance.random() < 0.04:  # the app did not hear the answer and sends it again
                    said.append((min(STREAM_MIN, arrives + chance.randrange(1, 6)), fact))
        said += self._wrong(chance)
        return self._arriving(said)

    def _chance(self, part: str) -> Random:
        """A stream of its own for each part of the day, so that one does not shift another."""
        return Random(f"{self._seed}:{part}")  # noqa: S311 – a simulation, nothing secret

    def _settle(self, people: int) -> list[Citizen]:
        chance = self._chance("people")
        asks = [name for name, share in SHARES.items() for _ in range(round(people * share / 100))]
        asks = (asks + ["once"] * people)[:people]
        chance.shuffle(asks)
        first = asks.index("once")
        asks[0], asks[first] = asks[first], asks[0]
        families = ["taro", *(f"family-{n:04}" for n in range(1, max(2, people // 10)))]
        carers = ["sato", *(f"carer-{n:03}" for n in range(1, max(2, people // 100)))]
        return [self._citizen(number, asks[number], families, carers, chance) for number in range(people)]

    def _citizen(self, number: int, asks: str, families: list[str], carers: list[str], chance: Random) -> Citizen:
        home = self._point(chance)
        district = (f"{CITY}-{chance.randrange(1, 17):02}",) if chance.random() < 0.6 else (CITY,)
        visiting = chance.random() < 0.05
        family = chance.choice(families) if chance.random() < 0.2 else None
        carer = chance.choice(carers) if chance.random() < 0.12 else None
        if number < 3:  # Hanako and two more of Taro's family; the first two are Sato's clients
            visiting, family, carer = False, "taro", "sato" if number < 2 else carer
        return Citizen(
            id=HANAKO if number == 0 else f"p{number:05}",
            asks=asks,
            areas=(chance.choice(_ELSEWHERE),) if visiting else district,
            home=home,
            family=family,
            carer=carer,
        )

    def _point(self, chance: Random) -> tuple[Decimal, Decimal]:
        """A point in the city, denser towards its middle."""
        while True:
            lat, lon = (_moved(middle, chance, _SPREAD) for middle in _CENTRE)
            square = areas.mesh(lat, lon)
            if square and self._squares.covers("m" + square):
                return lat, lon

    def _recipients(self) -> list[Event]:
        people = {(c.family, "family_contact") for c in self.citizens} | {(c.carer, "care") for c in self.citizens}
        humans = sorted((name, purpose) for name, purpose in people if name)
        said = [
            *ORGANISATIONS,
            *({"recipient": n, "class": "individual", "areas": ["*"], "purposes": [p]} for n, p in humans),
        ]
        return [_event(DESK, f"recipient:{data['recipient']}", "recipient.registered", data) for data in said]

    def _enrolment(self, citizen: Citizen, chance: Random, at: datetime) -> list[Event]:
        def said(name: str, source: str, kind: str, data: Mapping[str, Any], occurred: bool = False) -> Event:
            return _event(source, f"{name}:{citizen.id}", kind, data, citizen.id, at if occurred else None)

        events = [said("enrolled", DESK, "person.enrolled", {"areas": list(citizen.areas)})]
        for recipient, role in ((citizen.family, "family"), (citizen.carer, "carer")):
            if recipient:
                events.append(said(role, DESK, "relation.added", {"recipient": recipient, "role": role}))
        events += self._grants(citizen, chance)
        if chance.random() < 0.7 or citizen.id == HANAKO:
            data: dict[str, Any] = {
                "household": chance.randrange(1, 6),
                "needs": [chance.choice(_NEEDS)] if chance.random() < 0.12 else None,
            }
            events.append(said("profile", APP, PROFILE, data, True))
        if citizen.carer or chance.random() < 0.25:
            name, dose = chance.choice(_MEDICINES)
            data = {"medications": [{"name": name, "dose": dose}], "prescriber": "かかりつけ医"}
            events.append(said("medication", CARE, MEDICATION, data, True))
        if chance.random() < 0.12:
            events.append(
                said("allergy", CARE, ALLERGY, {"allergies": [chance.choice(("卵", "そば", "ペニシリン"))]}, True)
            )
        return events

    def _grants(self, citizen: Citizen, chance: Random) -> list[Event]:
        """What the person agrees to; those who have no family or carer here are not offered theirs."""
        granted = []
        for offer in OFFERS:
            role = offer.to.get("relation")
            offered = role is None or (citizen.family if role == "family" else citizen.carer) is not None
            taken = chance.randrange(100) < offer.share
            if citizen.id == HANAKO:
                taken = offer.name not in ("patient", "bus-day", "bus")
            level = chance.choice(offer.location) if offer.location else None
            if citizen.asks != NONE and offered and taken:
                granted.append(self._grant(citizen, offer, level))
        return granted

    def _grant(self, citizen: Citizen, offer: Offer, level: str | None) -> Event:
        grant = f"{citizen.id}-{offer.name}"
        data = {
            "grant": grant,
            "to": dict(offer.to),
            "kinds": list(offer.kinds),
            "purposes": [offer.purpose],
            "modes": list(offer.modes),
            "ask": citizen.asks,
            "precision": {LOCATION: level} if level else None,
        }
        return self._consent(_event(APP, f"grant:{grant}", "consent.granted", data, citizen.id))

    def _consent(self, event: Event) -> Event:
        self.consents[event.data["grant"]] = event
        return event

    def _asked(self, citizen: Citizen, chance: Random) -> list[tuple[int, Event]]:
        """The city asks who wants to be asked every time; six in ten approve, each for one look."""
        standing, request = f"{citizen.id}-city", f"{citizen.id}-ask"
        if standing not in self.consents:
            return []
        asked = {"request": request, "recipient": "aizu-city", "kinds": [LOCATION, SAFETY], "purpose": "rescue"}
        said = [(5, _event("aizu-city", f"request:{request}", "consent.requested", asked, citizen.id))]
        if chance.random() < 0.6:
            data = {
                "grant": f"{citizen.id}-yes",
                "to": {"recipient": "aizu-city"},
                "kinds": [LOCATION, SAFETY],
                "purposes": ["rescue"],
                "modes": ["emergency"],
                "approves": standing,
                "uses": 1,
                "request": request,
            }
            yes = self._consent(_event(APP, f"grant:{citizen.id}-yes", "consent.granted", data, citizen.id))
            said.append((chance.randrange(8, 90), yes))
        return said

    def _facts(self, citizen: Citizen, chance: Random) -> list[tuple[int, Event]]:
        """What one person's day sends after the earthquake, by the minute at which it happened."""

        def minute() -> int:
            return chance.randrange(3, STREAM_MIN - 20)

        sure = citizen.id == HANAKO
        pings = chance.choice((1, 1, 2) if sure else (0, 1, 1, 2, 3))
        facts = [self._ping(citizen, chance, minute()) for _ in range(pings)]
        if sure or chance.random() < 0.7:
            facts.append(self._safety(citizen, chance, minute()))
        if chance.random() < 0.25:
            facts += self._shelter(citizen, chance, minute())
        if (citizen.carer and chance.random() < 0.8) or chance.random() < 0.05:
            facts.append(self._condition(citizen, chance, minute()))
        if chance.random() < 0.06:
            facts.append(self._ride(citizen, chance, minute()))
        return facts

    def _ping(self, citizen: Citizen, chance: Random, minute: int) -> tuple[int, Event]:
        # one resident in thirty is away
        away = citizen.resident and citizen.id != HANAKO and int(citizen.id[1:]) % 30 == 29
        lat, lon = (_moved(degrees, chance, 0.002) for degrees in (_TOKYO if away else citizen.home))
        data = {"lat_deg": lat, "lon_deg": lon, "accuracy_m": float(chance.choice((8, 15, 40, 120)))}
        return self._fact(APP, LOCATION, citizen, minute, data)

    def _safety(self, citizen: Citizen, chance: Random, minute: int) -> tuple[int, Event]:
        status = chance.choices(("safe", "need_help", "injured", "unknown"), (90, 4, 2, 4))[0]
        return self._fact(APP, SAFETY, citizen, minute, {"status": status})

    def _condition(self, citizen: Citizen, chance: Random, minute: int) -> tuple[int, Event]:
        return self._fact(CARE, CONDITION, citizen, minute, {"condition": chance.choice(_CONDITIONS)})

    def _ride(self, citizen: Citizen, chance: Random, minute: int) -> tuple[int, Event]:
        return self._fact(MOBILITY, RIDE, citizen, minute, {"to": chance.choice((*_SHELTERS, "中央病院"))})

    def _shelter(self, citizen: Citizen, chance: Random, minute: int) -> list[tuple[int, Event]]:
        """Someone goes to a shelter; most answer its survey."""
        shelter = chance.choice(_SHELTERS)
        facts = [self._fact(APP, MOVED, citizen, minute, {"status": "at_shelter", "shelter": shelter})]
        if chance.random() < 0.7:
            answers = {"足りないもの": chance.choice(("水", "毛布", "薬", "おむつ", "なし"))}
            data = {"answers": answers, "survey": "shelter-1", "shelter": shelter}
            facts.append(self._fact(SURVEY, SURVEYED, citizen, minute + chance.randrange(5, 20), data))
        return facts

    def _fact(
        self, source: str, kind: str, citizen: Citizen, minute: int, data: Mapping[str, Any]
    ) -> tuple[int, Event]:
        self._sent += 1
        occurred_at = self.quake + timedelta(minutes=minute)
        return minute, _event(source, f"{self._sent:07}", kind, data, citizen.id, occurred_at)

    def _wrong(self, chance: Random) -> list[tuple[int, Event]]:
        """What intake is there to refuse: strangers, gaps, an id used twice, an app left in drill mode."""
        wrong = []
        for number in range(max(1, len(self.citizens) // 400)):
            citizen, minute = chance.choice(self.citizens), chance.randrange(3, STREAM_MIN - 30)
            _, ping = self._ping(citizen, chance, minute)
            _, call = self._safety(self.citizens[0], chance, minute)
            gap = {name: value for name, value in ping.data.items() if name != "accuracy_m"}
            wrong += [
                (minute, replace(ping, id=f"stranger-{number}", person=f"stranger-{number}")),
                (minute, replace(ping, id=f"gap-{number}", data=gap)),
                (minute, ping),
                (minute + 5, replace(ping, data={**ping.data, "accuracy_m": 3.0})),
                (minute, replace(call, exercise=True, data={"status": "need_help"})),
            ]
        return wrong

    def _arriving(self, said: Iterable[tuple[int, Event]]) -> Iterator[Batch]:
        """By minute of arrival, in the order in which they were said."""
        minutes: dict[int, list[Event]] = defaultdict(list)
        for minute, event in said:
            minutes[minute].append(event)
        for minute in sorted(minutes):
            yield self.quake + timedelta(minutes=minute), minutes[minute]


def _moved(degrees: Decimal, chance: Random, spread: float) -> Decimal:
    """Five decimals: about a metre."""
    return round(degrees + Decimal(round(chance.gauss(0, spread), 5)), 5)


def _event(
    source: str,
    id: str,
    kind: str,
    data: Mapping[str, Any],
    person: str | None = None,
    occurred_at: datetime | None = None,
) -> Event:
    data = {name: value for name, value in data.items() if value is not None}
    return Event(source=source, id=id, kind=kind, person=person, occurred_at=occurred_at, data=data)


def _cut(whole: Sequence[Citizen], size: int) -> Iterator[Sequence[Citizen]]:
    return (whole[at : at + size] for at in range(0, len(whole), size))


def own_telegram() -> bytes:
    """Our own telegram, with the times of the simulated day."""
    shaken = QUAKE - timedelta(minutes=5)
    text = _TELEGRAM.read_text("utf-8").format(
        sent_at=(QUAKE + timedelta(seconds=20)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        reported_at=QUAKE.isoformat(),
        shaken_at=shaken.isoformat(),
        event_id=shaken.strftime("%Y%m%d%H%M%S"),
    )
    return text.encode()
