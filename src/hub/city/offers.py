"""What the simulated city is made of: its recipients, what its app offers to agree to, how people want to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import Any

from hub.events import LOCATION

JST = timezone(timedelta(hours=9))
CITY = "07202"
HANAKO = "hanako"
"""She wants to be asked once, has family and a carer, and shares with the hospital only in an emergency, with the bus
company never."""

NONE = "none"
SHARES = {"once": 40, "each_new_kind": 33, "every_time": 17, NONE: 10}
"""Per cent of people, as in the field trial: how often they want to be asked; none wants no sharing."""

SAFETY, MOVED, PROFILE = "safety.answered", "evacuation.changed", "profile.updated"
MEDICATION, CONDITION, ALLERGY = "care.medication_updated", "care.condition_updated", "care.allergy_updated"
SURVEYED, RIDE = "survey.answered", "transport.requested"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """One who looks, for one purpose. ja, en: the name on the screen."""

    key: str
    recipient: str
    purpose: str
    ja: str
    en: str


READERS = (
    Reader(key="family", recipient="taro", purpose="family_contact", ja="家族(太郎)", en="family (Taro)"),
    Reader(key="carer", recipient="sato", purpose="care", ja="介護者(佐藤)", en="carer (Sato)"),
    Reader(key="city", recipient="aizu-city", purpose="rescue", ja="市・救助", en="city, rescue"),
    Reader(key="shelters", recipient="aizu-city", purpose="shelter_support", ja="市・避難所", en="city, shelters"),
    Reader(key="hospital", recipient="central-hospital", purpose="medical", ja="病院", en="hospital"),
    Reader(key="bus", recipient="machi-bus", purpose="transport", ja="バス会社", en="bus company"),
)

ORGANISATIONS: tuple[dict[str, Any], ...] = (
    {
        "recipient": "aizu-city",
        "class": "municipality",
        "areas": [CITY],
        "purposes": ["rescue", "shelter_support"],
        "name": "会津若松市",
    },
    {
        "recipient": "central-hospital",
        "class": "hospital",
        "areas": ["07"],
        "purposes": ["medical"],
        "name": "中央病院(架空)",
    },
    {
        "recipient": "machi-bus",
        "class": "company",
        "areas": [CITY],
        "purposes": ["transport"],
        "name": "まちなかバス(架空)",
    },
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A consent that the app offers. share: of those who consent at all, how many per cent take it."""

    name: str
    to: Mapping[str, str]
    kinds: tuple[str, ...]
    purpose: str
    modes: tuple[str, ...]
    share: int
    location: tuple[str, ...] = ()
    """Precisions of a location among which the person chooses; empty: as it is."""


_BOTH, _DAY, _EMERGENCY = ("normal", "emergency"), ("normal",), ("emergency",)
_FAMILY, _CARER = {"relation": "family"}, {"relation": "carer"}
_CITY, _HOSPITAL, _COMPANY = {"class": "municipality"}, {"class": "hospital"}, {"class": "company"}
_WHERE = (LOCATION, SAFETY, MOVED)

OFFERS = (
    Offer(
        name="family-day",
        to=_FAMILY,
        kinds=(LOCATION,),
        purpose="family_contact",
        modes=_DAY,
        share=60,
        location=("1km",),
    ),
    Offer(name="family", to=_FAMILY, kinds=_WHERE, purpose="family_contact", modes=_EMERGENCY, share=95),
    Offer(name="carer-day", to=_CARER, kinds=("care.*",), purpose="care", modes=_BOTH, share=95),
    Offer(
        name="carer",
        to=_CARER,
        kinds=_WHERE,
        purpose="care",
        modes=_EMERGENCY,
        share=80,
        location=("250m", "exact"),
    ),
    Offer(name="city-day", to=_CITY, kinds=(PROFILE,), purpose="rescue", modes=_BOTH, share=35),
    Offer(
        name="city",
        to=_CITY,
        kinds=(*_WHERE, PROFILE),
        purpose="rescue",
        modes=_EMERGENCY,
        share=88,
        location=("exact", "exact", "250m", "1km"),
    ),
    Offer(name="shelters", to=_CITY, kinds=("survey.*", MOVED), purpose="shelter_support", modes=_EMERGENCY, share=70),
    Offer(name="patient", to=_HOSPITAL, kinds=("care.*",), purpose="medical", modes=_DAY, share=8),
    Offer(name="hospital", to=_HOSPITAL, kinds=("care.*",), purpose="medical", modes=_EMERGENCY, share=72),
    Offer(name="bus-day", to=_COMPANY, kinds=(RIDE,), purpose="transport", modes=_BOTH, share=8),
    Offer(
        name="bus",
        to=_COMPANY,
        kinds=(LOCATION, RIDE),
        purpose="transport",
        modes=_EMERGENCY,
        share=25,
        location=("1km", "10km"),
    ),
)
