"""What a record says of its place, cell by cell: a cell that cannot be read takes nothing else with it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from hub.connector import PayloadError, is_id
from hub.connector.table import Cell
from hub_connector_shelters import columns, municipalities, times
from hub_connector_shelters.records import Record

T = TypeVar("T")
_COUNT = re.compile(r"(\d{1,8})(?:\.0)?(?:人|名|世帯)?", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,20})?", re.ASCII)
_PHONE = re.compile(r"[0-9()+ -]{6,20}(?:\(?内線[0-9]{1,6}\)?)?")
_LONGEST_ID, _LONGEST_NAME, _LONGEST = 100, 200, 1_000
_SOUTH, _NORTH, _WEST, _EAST = 20.0, 46.0, 122.0, 154.0


@dataclass
class Place:
    """Reads one record. wrong: what could not be read of it, so far."""

    record: Record
    wrong: list[PayloadError] = field(default_factory=list)

    def tried(self, names: tuple[str, ...], read: Callable[[Cell], T]) -> T | None:
        """What `read` makes of a cell; None where it is absent or empty, or cannot be read, which is kept."""
        cell = self.record.cell(names)
        if cell is None or not cell.text:
            return None
        try:
            return read(cell)
        except PayloadError as error:
            self.wrong.append(PayloadError(error.reason, path=cell.path))
            return None

    def shelter(self) -> str:
        """Its id at the source; its name where the file gives it none. Raises PayloadError."""
        said = self.record.text(columns.ID) or self.record.text(columns.NAME)
        if not said:
            raise PayloadError("has neither an id nor a name", path=self.record.where)
        if len(said) > _LONGEST_ID or not is_id(said):
            raise PayloadError("its id is no id", path=self.record.where)
        return said

    def area(self) -> str | None:
        """The code of its municipality, or of its prefecture; None where it says neither."""
        code = self.tried(columns.CODE, lambda cell: municipalities.of_code(cell.text))
        if code is not None:
            return code
        found = municipalities.of_name(self.municipality()) or municipalities.of_name(
            self.record.text(columns.ADDRESS)[:_LONGEST_NAME]
        )
        if found is None or len(found) == 2:
            national = re.fullmatch(r"E(\d{5})\d{8}", self.record.text(("共通ID",)), re.ASCII)
            return national[1] if national else found
        return found

    def municipality(self) -> str:
        """Prefecture and municipality by their names, as far as columns say them."""
        both = self.record.text(columns.BOTH)
        return (both or self.record.text(columns.PREFECTURE) + self.record.text(columns.MUNICIPALITY))[:_LONGEST_NAME]

    def described(self) -> dict[str, Any]:
        """The fields that a designated list and a head-count have in common."""
        lat, lon = self._point()
        capacity, remark = self._capacity()
        notes = [remark, *(self._named(name) for name in (columns.ADMITTED, columns.NOTE))]
        return {
            "name": self.tried(columns.NAME, _words(_LONGEST_NAME)),
            "name_kana": self.tried(columns.NAME_KANA, _words(_LONGEST_NAME)),
            "address": self.tried(columns.ADDRESS, _words(_LONGEST_NAME)),
            "lat_deg": lat,
            "lon_deg": lon,
            "altitude_m": self.tried(columns.ALTITUDE, _between(-500, 4_000)),
            "phone": self.tried(columns.PHONE, _phone),
            "designations": self._designations(),
            "hazards": self._hazards(),
            "capacity": capacity,
            "note": " / ".join(filter(None, notes)) or None,
        }

    def counted(self) -> dict[str, Any]:
        """The fields of a head-count. A list of open shelters without a status says that each is open."""
        return {
            "people": self.tried(columns.PEOPLE, _count),
            "households": self.tried(columns.HOUSEHOLDS, _count),
            "status": self._status(),
        }

    def time(self, names: tuple[str, ...]) -> datetime | None:
        """The time in a column; None where it is absent or empty, or cannot be read, which is kept."""
        return self.tried(names, lambda cell: times.read(cell.text))

    def _status(self) -> str | None:
        if self.record.cell(columns.CLOSED_AT) and self.record.text(columns.CLOSED_AT) not in columns.NOT_KNOWN:
            return "closed"
        if self.record.cell(columns.STATUS) is None:
            return "open"
        return self.tried(columns.STATUS, lambda cell: cell.one_of(columns.STATUSES))

    def _point(self) -> tuple[float | None, float | None]:
        lat = self.tried(columns.LAT, _between(_SOUTH, _NORTH))
        lon = self.tried(columns.LON, _between(_WEST, _EAST))
        return (None, None) if lat is None or lon is None else (lat, lon)

    def _capacity(self) -> tuple[int | None, str | None]:
        """How many it can take; where that is said in words (屋内480人／屋外…), the words."""
        said = self.record.text(columns.CAPACITY)
        if not said or said in columns.NOT_KNOWN:
            return None, None
        found = _COUNT.fullmatch(_figures(said))
        return (int(found[1]), None) if found else (None, self._named(columns.CAPACITY))

    def _named(self, names: tuple[str, ...]) -> str | None:
        """A cell with the name of its column, for the note."""
        name = next((name for name in names if name in self.record.cells), "")
        said = self.tried(names, _words(_LONGEST))
        return f"{name}: {said}" if said else None

    def _hazards(self) -> list[str] | None:
        """The hazards that are marked; None where none is: blank columns are those of a place that no register has."""
        names = {hazard: (columns.HAZARD_PREFIX + name, name) for name, hazard in columns.HAZARDS.items()}
        return [hazard for hazard, called in names.items() if self.tried(called, _flag)] or None

    def _designations(self) -> list[str] | None:
        """From the form of the list, as the law has it: hazards are told of 指定緊急避難場所 only."""
        record = self.record
        found = set()
        if any(columns.HAZARD_PREFIX + name in record.cells or name in record.cells for name in columns.HAZARDS):
            marked = any(
                record.text((columns.HAZARD_PREFIX + name, name)) not in columns.NO for name in columns.HAZARDS
            )
            found |= {"evacuation_place"} if marked else set()
            found |= {"shelter"} if self.tried(columns.ALSO_SHELTER, _flag) else set()
        elif record.cell(columns.ALSO_PLACE) is not None:
            found |= {"shelter"}
            found |= {"evacuation_place"} if self.tried(columns.ALSO_PLACE, _flag) else set()
            found |= {"welfare_shelter"} if record.text(columns.ADMITTED) else set()
        order = ("evacuation_place", "shelter", "welfare_shelter")
        return [name for name in order if name in found] or None


def _figures(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace(",", "").strip()


def _count(cell: Cell) -> int | None:
    if cell.text in columns.NOT_KNOWN:
        return None
    found = _COUNT.fullmatch(_figures(cell.text))
    if found is None:
        raise cell.wrong("is no count")
    return int(found[1])


def _between(low: float, high: float) -> Callable[[Cell], float]:
    def read(cell: Cell) -> float:
        text = unicodedata.normalize("NFKC", cell.text)
        if not _NUMBER.fullmatch(text):
            raise cell.wrong("is no number")
        if not low <= float(text) <= high:
            raise cell.wrong(f"is not from {low:g} to {high:g}")
        return float(text)

    return read


def _words(longest: int) -> Callable[[Cell], str]:
    def read(cell: Cell) -> str:
        if len(cell.text) > longest:
            raise cell.wrong(f"is longer than {longest:,} characters")
        return cell.text

    return read


def _flag(cell: Cell) -> bool:
    text = unicodedata.normalize("NFKC", cell.text)
    if text in columns.YES or cell.text in columns.YES:
        return True
    if text in columns.NO or cell.text in columns.NO:
        return False
    raise cell.wrong("is neither marked nor unmarked (1, 0, ○, ×)")


def _phone(cell: Cell) -> str | None:
    """A number; words, which may name a human, are not read."""
    text = unicodedata.normalize("NFKC", cell.text)
    return text if _PHONE.fullmatch(text) else None
