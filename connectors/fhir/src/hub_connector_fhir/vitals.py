"""What is measured: the names of `care.condition_updated`, their LOINC and Japanese codes, and their units (UCUM)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from hub_connector_fhir.terms import Coding

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
_JP_BODY = "http://jpfhir.jp/fhir/core/CodeSystem/JP_ObservationBodyMeasurementCode_CS"
_JP_NURSING = "urn:oid:1.2.392.200119.4.804"

SYSTOLIC = "blood_pressure_systolic_mmHg"
DIASTOLIC = "blood_pressure_diastolic_mmHg"

_LOINC: Mapping[str, str] = {
    "8310-5": "temperature_degC",
    "8331-1": "temperature_degC",  # oral
    "8328-7": "temperature_degC",  # axillary
    "8329-5": "temperature_degC",  # core
    "8332-5": "temperature_degC",  # rectal
    "8333-7": "temperature_degC",  # tympanic
    "8867-4": "pulse_bpm",
    "8889-8": "pulse_bpm",  # by pulse oximetry
    "8893-0": "pulse_bpm",  # by palpation
    "9279-1": "respiration_per_min",
    "2708-6": "spo2_percent",
    "59408-5": "spo2_percent",  # by pulse oximetry
    "8480-6": SYSTOLIC,
    "8462-4": DIASTOLIC,
    "8478-0": "blood_pressure_mean_mmHg",
    "29463-7": "weight_kg",
    "3141-9": "weight_kg",  # measured
    "8302-2": "height_cm",
    "8306-3": "height_cm",  # lying
    "39156-5": "bmi_kg_per_m2",
    "9843-4": "head_circumference_cm",
    "8287-5": "head_circumference_cm",  # by tape
    "2339-0": "blood_glucose_mg_per_dL",
    "2345-7": "blood_glucose_mg_per_dL",  # serum or plasma
    "41653-7": "blood_glucose_mg_per_dL",  # capillary, by glucometer
    "15074-8": "blood_glucose_mg_per_dL",  # in mmol/L
    "9269-2": "glasgow_coma_score",
}
_CODES: Mapping[str, str] = {
    **{f"{LOINC}|{code}": name for code, name in _LOINC.items()},
    f"{_JP_BODY}|31000296": "weight_kg",
    f"{_JP_NURSING}|31001369": "respiration_per_min",
}
_WORDS: Mapping[str, str] = {
    "体温": "temperature_degC",
    "脈拍": "pulse_bpm",
    "脈拍数": "pulse_bpm",
    "心拍数": "pulse_bpm",
    "呼吸数": "respiration_per_min",
    "酸素飽和度": "spo2_percent",
    "経皮的動脈血酸素飽和度": "spo2_percent",
    "SpO2": "spo2_percent",
    "収縮期血圧": SYSTOLIC,
    "最高血圧": SYSTOLIC,
    "拡張期血圧": DIASTOLIC,
    "最低血圧": DIASTOLIC,
    "平均血圧": "blood_pressure_mean_mmHg",
    "体重": "weight_kg",
    "身長": "height_cm",
    "BMI": "bmi_kg_per_m2",
    "頭囲": "head_circumference_cm",
    "血糖": "blood_glucose_mg_per_dL",
    "血糖値": "blood_glucose_mg_per_dL",
}
"""By what a code displays, for sites that code by tables of their own."""

_ONE, _NONE = Decimal(1), Decimal(0)
_PER_MIN = {"/min": (_ONE, _NONE), "{beats}/min": (_ONE, _NONE), "{breaths}/min": (_ONE, _NONE), "bpm": (_ONE, _NONE)}
_MMHG = {"mm[Hg]": (_ONE, _NONE), "kPa": (Decimal("7.500615758"), _NONE), "mmHg": (_ONE, _NONE)}
_CM = {
    "cm": (_ONE, _NONE),
    "m": (Decimal(100), _NONE),
    "mm": (Decimal("0.1"), _NONE),
    "[in_i]": (Decimal("2.54"), _NONE),
}

_UNITS: Mapping[str, Mapping[str, tuple[Decimal, Decimal]]] = {
    "temperature_degC": {
        "Cel": (_ONE, _NONE),
        "[degF]": (Decimal(5) / 9, Decimal(-160) / 9),
        "K": (_ONE, Decimal("-273.15")),
        "C": (_ONE, _NONE),
        "degC": (_ONE, _NONE),
        "℃": (_ONE, _NONE),
        "°C": (_ONE, _NONE),
    },
    "pulse_bpm": {**_PER_MIN, "回/分": (_ONE, _NONE), "拍/分": (_ONE, _NONE)},
    "respiration_per_min": {**_PER_MIN, "回": (_ONE, _NONE), "回/分": (_ONE, _NONE)},
    "spo2_percent": {"%": (_ONE, _NONE), "1": (Decimal(100), _NONE), "％": (_ONE, _NONE)},
    SYSTOLIC: _MMHG,
    DIASTOLIC: _MMHG,
    "blood_pressure_mean_mmHg": _MMHG,
    "weight_kg": {
        "kg": (_ONE, _NONE),
        "g": (Decimal("0.001"), _NONE),
        "[lb_av]": (Decimal("0.45359237"), _NONE),
    },
    "height_cm": _CM,
    "head_circumference_cm": _CM,
    "bmi_kg_per_m2": {"kg/m2": (_ONE, _NONE), "kg/m²": (_ONE, _NONE)},
    "blood_glucose_mg_per_dL": {"mg/dL": (_ONE, _NONE), "mmol/L": (Decimal("18.016"), _NONE)},
    "glasgow_coma_score": {"{score}": (_ONE, _NONE)},
}
"""By name, then unit: the factor and what is added. UCUM codes first, then what is written where there is no code."""

_OUT: Mapping[str, tuple[str, str]] = {
    "temperature_degC": ("8310-5", "Cel"),
    "pulse_bpm": ("8867-4", "/min"),
    "respiration_per_min": ("9279-1", "/min"),
    "spo2_percent": ("2708-6", "%"),
    SYSTOLIC: ("8480-6", "mm[Hg]"),
    DIASTOLIC: ("8462-4", "mm[Hg]"),
    "blood_pressure_mean_mmHg": ("8478-0", "mm[Hg]"),
    "weight_kg": ("29463-7", "kg"),
    "height_cm": ("8302-2", "cm"),
    "bmi_kg_per_m2": ("39156-5", "kg/m2"),
    "head_circumference_cm": ("9843-4", "cm"),
    "blood_glucose_mg_per_dL": ("2339-0", "mg/dL"),
    "glasgow_coma_score": ("9269-2", "{score}"),
}


def name_of(codes: Iterable[Coding], text: str | None, local: Mapping[str, str]) -> str | None:
    """The name of what is measured; None where it is none that is known. local: the operator's own codes."""
    codes = list(codes)
    for known in (local, _CODES):
        for code in codes:
            if code.key in known:
                return known[code.key]
    said = [*(code.display for code in codes), text or ""]
    return next((_WORDS[word] for word in said if word in _WORDS), None)


def converted(name: str, value: int | Decimal, unit: str) -> float | None:
    """The value in the unit that the name says; None where the unit is no known one of it."""
    found = _UNITS.get(name, {}).get(unit)
    if found is None:
        return None
    factor, added = found
    return float(value) if (factor, added) == (_ONE, _NONE) else float(round(value * factor + added, 2))


def is_unit(name: str, unit: str) -> bool:
    """Whether a unit is that of the name itself."""
    return _UNITS.get(name, {}).get(unit) == (_ONE, _NONE)


def is_known(name: str) -> bool:
    """Whether a name is one of those that are read here."""
    return name in _UNITS


def coded(name: str) -> tuple[str, str] | None:
    """LOINC code and UCUM unit of a name; None where it is not known."""
    return _OUT.get(name)
