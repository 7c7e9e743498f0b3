"""Tracks of real phones, moved to Aizu. They are for research only, so nothing of them is copied here."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from hub.schemas import packaged
from hub_connector_myhazard import MyHazard

TRACKS = Path(__file__).parents[4] / "shared" / "data" / "6-gps"
TO_AIZU = {"beijing": (Decimal("-2.4"), Decimal("23.6")), "zurich": (Decimal("-9.9"), Decimal("131.4"))}

pytestmark = pytest.mark.skipif(not TRACKS.is_dir(), reason="../shared/data/6-gps is not there")


def moved(lat: str, lon: str, by: tuple[Decimal, Decimal]) -> tuple[str, str]:
    return str(Decimal(lat) + by[0]), str(Decimal(lon) + by[1])


def millis(text: str) -> int:
    """A track's own time: two of them say no zone, and stand for UTC here."""
    time = datetime.fromisoformat(text)
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def geolife(folder: Path) -> Iterator[tuple[int, str, str, str, str | None]]:
    """Time, latitude, longitude, accuracy, altitude of each point of one person; feet to metres."""
    for path in sorted(folder.glob("*.plt")):
        for line in path.read_text().splitlines()[6:]:
            lat, lon, _, feet, _, day, clock = line.split(",")
            altitude = None if feet == "-777" else f"{float(feet) * 0.3048:.1f}"
            yield millis(f"{day}T{clock}+00:00"), *moved(lat, lon, TO_AIZU["beijing"]), "10", altitude


def table(path: Path) -> Iterator[tuple[int, str, str, str, str | None]]:
    place = "beijing" if path.name.startswith("geolife") else "zurich"
    with path.open() as file:
        for row in csv.DictReader(file, delimiter=";"):
            lat, lon = moved(row["latitude"], row["longitude"], TO_AIZU[place])
            yield millis(row["tracked_at"]), lat, lon, row["accuracy"], row.get("elevation")


def bundle(track: Iterator[tuple[int, str, str, str, str | None]]) -> tuple[bytes, int]:
    fixes = [
        f"[{n},{at},{lat},{lon},{accuracy},{altitude or 'null'}]"
        for n, (at, lat, lon, accuracy, altitude) in enumerate(track)
    ]
    head = {"format": "myhazard/1", "type": "location_bundle", "id": "track", "rev": 1, "user": "u", "device": "d"}
    return f'{json.dumps(head)[:-1]}, "fixes": [{",".join(fixes)}]}}'.encode(), len(fixes)


def read_whole(payload: bytes, count: int) -> None:
    kind = packaged().newest("location.reported")
    assert kind is not None
    said = MyHazard().translate(payload)
    assert [str(part.error) for part in said.rejected] == []
    assert len(said.events) == len({event.id for event in said.events}) == count > 0
    for event, fix in zip(said.events, json.loads(payload, parse_float=str)["fixes"], strict=True):
        stored = kind.decode(kind.encode(event.data))
        assert (str(stored["lat_deg"]), str(stored["lon_deg"])) == (str(fix[2]), str(fix[3]))
        assert event.occurred_at is not None
        assert round(event.occurred_at.timestamp() * 1000) == fix[1]


@pytest.mark.parametrize("person", ["000", "001", "002", "003", "004"])
def test_a_persons_whole_time_with_a_logger_is_read_in_the_digits_that_it_has(person: str) -> None:
    read_whole(*bundle(geolife(TRACKS / "geolife-raw" / person)))


@pytest.mark.parametrize("name", ["geolife", "google", "gpsies", "posmo"])
def test_a_track_of_another_app_is_read_in_the_digits_that_it_has(name: str) -> None:
    read_whole(*bundle(table(TRACKS / "trackintel-examples" / f"{name}_trajectory.csv")))
