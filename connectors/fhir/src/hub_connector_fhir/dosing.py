"""When a medicine is taken, in words: the instruction's own, else what its Timing says."""

from __future__ import annotations

from collections.abc import Iterator

from hub.connector.json import Field
from hub_connector_fhir.terms import choice, listed, quantity, text_of, words

_MOST = 1_000_000


def timing(dosage: Field) -> str | None:
    """The instruction, and whether it is only as needed, and the most that may be taken."""
    said = dosage.optional("timing")
    told = text_of(dosage, "text") or (None if said is None else words(said.optional("code")) or _repeated(said))
    return "; ".join(part for part in (told, _as_needed(dosage), _at_most(dosage)) if part) or None


def _as_needed(dosage: Field) -> str | None:
    needed, reason = dosage.optional("asNeededBoolean"), dosage.optional("asNeededCodeableConcept")
    if reason is not None:
        return f"only as needed: {words(reason) or '-'}"
    return "only as needed" if needed is not None and needed.flag() else None


def _at_most(dosage: Field) -> str | None:
    ratio = dosage.optional("maxDosePerPeriod")
    if ratio is None:
        return None
    amount, span = quantity(ratio.optional("numerator")), quantity(ratio.optional("denominator"))
    return f"at most {amount} / {span}" if amount and span else None


def _repeated(said: Field) -> str | None:
    repeat = said.optional("repeat")
    return None if repeat is None else "; ".join(_parts(repeat)) or None


def _parts(repeat: Field) -> Iterator[str]:
    """How often, and all that makes it less often than that: days of the week, a number of times, an end."""
    often = [repeat.optional(name) for name in ("frequency", "period", "periodUnit")]
    if None not in often:
        times, span = _span(repeat, "frequency"), _span(repeat, "period")
        yield f"{times} x / {span} {repeat.need('periodUnit').word(10)}"
    for name in ("dayOfWeek", "timeOfDay", "when"):
        found = [part.word(20) for part in listed(repeat, name)]
        if found:
            yield ", ".join(found)
    offset, count = repeat.optional("offset"), repeat.optional("count")
    if offset is not None:
        yield f"offset {offset.whole(0, _MOST)} min"
    if count is not None:
        yield f"{_span(repeat, 'count')} x in all"
    bounds = choice(repeat, "bounds", "Duration")
    if bounds is not None and (length := quantity(bounds)):
        yield f"for {length}"
    period = repeat.optional("boundsPeriod")
    for word, name in (("from", "start"), ("until", "end")):
        if period is not None and (day := text_of(period, name)):
            yield f"{word} {day}"


def _span(repeat: Field, name: str) -> str:
    low, high = repeat.need(name).number(0, _MOST), repeat.optional(f"{name}Max")
    return f"{low}" if high is None else f"{low}-{high.number(0, _MOST)}"
