"""A walk that nobody took, for `hub bench`."""

from __future__ import annotations

import json

from hub_connector_myhazard.parts import FORMAT

_START_MS = 1_780_272_000_000
_EVERY_MS = 5_000


def sample(records: int) -> bytes:
    """One bundle of so many fixes through Aizuwakamatsu, each with all that a phone may say."""
    head = {
        "format": FORMAT,
        "type": "location_bundle",
        "id": "sample",
        "rev": 1,
        "user": "made-up-walker",
        "device": "sample",
    }
    fixes = ",".join(map(_fix, range(records)))
    return f'{json.dumps(head)[:-1]}, "fixes": [{fixes}]}}'.encode()


def _fix(n: int) -> str:
    lat, lon = 37_494_721 + n * 37 % 9_000, 139_929_874 + n * 53 % 9_000
    accuracy, altitude = f"{4 + n % 30}.{n % 10}", f"{210 + n % 9}.4"
    speed, heading = f"{n % 3}.{n % 100:02}", f"{n % 360}.5"
    at = _START_MS + n * _EVERY_MS
    return f"[{n},{at},{lat / 1e6:.6f}5,{lon / 1e6:.6f}5,{accuracy},{altitude},{speed},{heading}]"
