"""Area codes and grid squares: what a code may look like, what covers what, and where a point lies (R10).

A code is two digits of a prefecture, five of a municipality, five and a suffix for a district, or `m`
and a grid-square code of JIS X 0410 (4, 6, 8, 9 or 10 digits).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

AREA_CODE = re.compile(
    r"\d{2}(?:\d{3}(?:-[0-9A-Za-z][0-9A-Za-z-]{0,30})?)?|m\d{4}(?:[0-7]{2}(?:\d{2}[1-4]{0,2})?)?", re.ASCII
)
MESH_DIGITS = {"250m": 10, "1km": 8, "10km": 6}
"""Digits of the grid-square code at each level of a location's precision (R9a)."""

_SOUTH, _NORTH, _WEST, _EAST = 20, 46, 122, 154


@dataclass(frozen=True, slots=True)
class Cover:
    """All that some area codes cover: whole codes, and prefixes of codes without a suffix."""

    codes: frozenset[str]
    prefixes: frozenset[str]

    def covers(self, code: str) -> bool:
        """Whether `code` is one of the codes or begins with one that has no suffix."""
        if code in self.codes:
            return True
        prefixes = self.prefixes
        return any(code[:length] in prefixes for length in range(2, len(code)))


def cover(areas: Iterable[str], contains: Mapping[str, tuple[str, ...]]) -> Cover:
    """What `areas` cover, where `contains` says for each introduced area which codes lie in it (R10)."""
    codes = frozenset(areas)
    while True:
        found = _cover(codes)
        inside = {code for area, codes_in in contains.items() if found.covers(area) for code in codes_in}
        if inside <= codes:
            return found
        codes = codes | inside


def _cover(codes: frozenset[str]) -> Cover:
    return Cover(codes, frozenset(code for code in codes if "-" not in code))


def mesh(lat_deg: Decimal, lon_deg: Decimal) -> str | None:
    """The ten-digit quarter grid square (250 m) of a point, exact on its decimal digits; edges south and west belong.

    None outside 20 ≤ latitude < 46, 122 ≤ longitude < 154: such a point has no square.
    """
    if not (_SOUTH <= lat_deg < _NORTH and _WEST <= lon_deg < _EAST):
        return None
    # a quarter square is 1/480 degree high and 1/320 wide: 320 rows and 320 columns in a first-level square
    row, column = _floor(lat_deg, 480), _floor(lon_deg - 100, 320)
    up, row = divmod(row, 320)
    right, column = divmod(column, 320)
    north, row = divmod(row, 40)
    east, column = divmod(column, 40)
    y, row = divmod(row, 4)
    x, column = divmod(column, 4)
    half = 1 + (row // 2) * 2 + column // 2
    quarter = 1 + (row % 2) * 2 + column % 2
    return f"{up:02}{right:02}{north}{east}{y}{x}{half}{quarter}"


def _floor(value: Decimal, times: int) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator * times // denominator


def _square(code: str) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """South, west, height and width of a grid square of 6, 8 or 10 digits, in degrees."""
    lat, lon = Fraction(int(code[0:2]) * 2, 3), Fraction(int(code[2:4]) + 100)
    high, wide = Fraction(1, 12), Fraction(1, 8)
    lat, lon = lat + int(code[4]) * high, lon + int(code[5]) * wide
    if len(code) >= 8:
        high, wide = high / 10, wide / 10
        lat, lon = lat + int(code[6]) * high, lon + int(code[7]) * wide
    for digit in code[8:]:
        high, wide = high / 2, wide / 2
        lat, lon = lat + (int(digit) - 1) // 2 * high, lon + (int(digit) - 1) % 2 * wide
    return lat, lon, high, wide


def centre(code: str) -> tuple[float, float]:
    """Latitude and longitude of the centre of a grid square of 6, 8 or 10 digits, in degrees, to five decimals."""
    lat, lon, high, wide = _square(code)
    return float(round(lat + high / 2, 5)), float(round(lon + wide / 2, 5))


def bounds(code: str) -> tuple[float, float, float, float]:
    """South, west, north and east edge of a grid square of 6, 8 or 10 digits, in degrees, to seven decimals."""
    lat, lon, high, wide = _square(code)
    return float(round(lat, 7)), float(round(lon, 7)), float(round(lat + high, 7)), float(round(lon + wide, 7))
