"""The connector `shelters`: lists of our own making, hostile ones, and the real ones of Nanao and Fukushima.

The real head-counts are read a second time here, by the csv module alone, to say what each day must show.
"""

from __future__ import annotations

import csv
import io
import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from hub.conformance import Conformance
from hub.connector import Misuse, PayloadError, Settings, Translation
from hub.hub import Hub
from hub.importing import import_files
from hub.log.clock import SetClock
from hub_connector_shelters import Shelters, municipalities, times

PACKAGE = Path(__file__).parents[1]
GOLDENS = PACKAGE / "goldens"
DATA = PACKAGE.parents[2] / "shared" / "data" / "4-shelters-geo"
SNAPSHOTS = sorted((DATA / "nanao-2024").glob("open_shelter_*.csv"))
NATIONAL = sorted((DATA / "gsi-shelters").glob("e*/*.json"))
JAPAN = timezone(timedelta(hours=9))
HEADER = "ID,名称,人数,時点,所在地_都道府県,所在地_市区町村"
HERE = "福島県,会津若松市"
SIX = "令和8年6月2日午前6時"

needs_nanao = pytest.mark.skipif(not SNAPSHOTS, reason=f"Nanao's head-counts are not at {DATA}")
needs_national = pytest.mark.skipif(not NATIONAL, reason=f"the national lists are not at {DATA}")


class TestConformance(Conformance):
    package = PACKAGE


def translated(text: str | bytes, **options: Any) -> Translation:
    payload = text.encode() if isinstance(text, str) else text
    return Shelters(Settings(options=options)).translate(payload)


def table(*rows: str, header: str = HEADER) -> str:
    return "\r\n".join((header, *rows)) + "\r\n"


def refusal(payload: str | bytes) -> PayloadError:
    started = time.thread_time()  # whatever else the machine does
    with pytest.raises(PayloadError) as caught:
        translated(payload)
    assert time.thread_time() - started < 5, "a refusal that takes so long is none"
    return caught.value


def reasons(translation: Translation) -> list[str]:
    return [str(found.error) for found in translation.rejected]


# Times


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("令和6年1月9日午後6時時点", "2024-01-09T18:00+09:00"),
        ("令和元年10月12日午前0時", "2019-10-12T00:00+09:00"),
        ("R6年1月9日 18時30分現在", "2024-01-09T18:30+09:00"),
        ("２０２４年１月９日午前６時半", "2024-01-09T06:30+09:00"),
        ("2024/1/9 6:00", "2024-01-09T06:00+09:00"),
        ("2024-01-09T06:00:05", "2024-01-09T06:00:05+09:00"),
        ("2024-01-09T06:00:00+00:00", "2024-01-09T06:00+00:00"),
        ("2024年1月9日(火)午後6時", "2024-01-09T18:00+09:00"),
    ],
)
def test_a_time_is_read_as_municipalities_write_it(said: str, expected: str) -> None:
    assert times.read(said) == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "said",
    [
        "令和6年1月9日",
        "午後6時",
        "令和6年1月9日午後12時",
        "令和6年2月30日午前6時",
        "2024-01/09 6:00",
        "9" * 999,
        "昨日",
    ],
)
def test_a_time_that_says_no_one_moment_is_refused(said: str) -> None:
    with pytest.raises(PayloadError):
        times.read(said)


# Municipalities


def test_the_code_of_a_municipality_is_read_in_all_its_lengths() -> None:
    assert municipalities.of_code("072028") == "07202"
    assert municipalities.of_code("07202") == "07202"
    assert municipalities.of_code("72028") == "07202"
    assert municipalities.of_code("172022.0") == "17202"
    for wrong in ("072029", "7202", "00000", "482028", "x72028", "０７２０２８"):
        with pytest.raises(PayloadError):
            municipalities.of_code(wrong)


def test_five_digits_that_could_be_two_codes_are_refused() -> None:
    with pytest.raises(PayloadError, match="two"):
        municipalities.of_code("11002")  # Sapporo's 011002 without its zero, or one of Saitama


def test_a_name_is_found_with_its_district_and_in_an_address() -> None:
    assert municipalities.of_name("福島県大沼郡会津美里町") == "07447"
    assert municipalities.of_name("福島県石川郡石川町字下泉") == "07501"
    assert municipalities.of_name("石川県七尾市山王町ツ３４") == "17202"
    assert municipalities.of_name("熊本県熊本市") == "43"
    assert municipalities.of_name("福島県どこか") == "07"
    assert municipalities.of_name("会津若松市") is None


@needs_national
def test_the_table_of_codes_agrees_with_the_ministry_s() -> None:
    listed = json.loads((DATA / "gsi-shelters" / "city-to-code.json").read_text())
    expected = {name: code[:5] for name, code in listed.items() if code[:2] in ("07", "17") and code[2:5] != "000"}
    assert expected == municipalities.CODES
    for code in listed.values():
        assert municipalities.of_code(code) == code[:5]


def test_the_operator_says_the_municipality_of_files_that_name_none() -> None:
    text = table(f"S1,体育館,3,{SIX}", header="ID,名称,人数,時点")
    assert reasons(translated(text)) == ["line 2: names no municipality; the operator can set options.area"]
    (event,) = translated(text, area="07202").events
    assert (event.data["list"], event.data["area"]) == ("open:07202", "07202")
    for wrong in ("7202", 7202, "会津若松", "99999"):
        with pytest.raises(Misuse):
            Shelters(Settings(options={"area": wrong}))


# One issue of a list


def test_the_same_list_in_another_encoding_and_order_of_columns_says_the_same() -> None:
    text = table(f"S1,髙﨑①体育館,3,{SIX},{HERE}")
    (plain,) = translated(text).events
    assert list(translated(text.encode("utf-8-sig")).events) == [plain]
    assert list(translated(text.encode("cp932")).events) == [plain]
    rows = [row[::-1] for row in csv.reader(io.StringIO(text))]
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    assert list(translated(out.getvalue()).events) == [plain]


def test_the_same_issue_gives_the_same_ids_and_another_day_others() -> None:
    first = translated(table(f"S1,体育館,3,{SIX},{HERE}")).events
    assert translated(table(f"S1,体育館,3,{SIX},{HERE}")).events == first
    assert translated(table(f"S1,体育館,3,令和8年6月3日午前6時,{HERE}")).events[0].id != first[0].id
    assert translated(table(f"S1,体育館,4,{SIX},{HERE}")).events[0].id != first[0].id


def test_a_row_that_cannot_be_read_is_rejected_alone_and_still_counts() -> None:
    found = translated(table(f"S1,体育館,3,{SIX},{HERE}", "S2,公民館", f",,5,{SIX},{HERE}"))
    assert [event.data["shelter"] for event in found.events] == ["S1"]
    assert found.events[0].data["listed"] == 3
    assert [error.split(":")[0] for error in reasons(found)] == ["line 3", "line 4"]
    mended = found.rejected[0].payload.decode().replace("S2,公民館", f"S2,公民館,7,{SIX},{HERE}").encode()
    (event,) = translated(mended).events
    assert (event.data["shelter"], event.data["people"], event.occurred_at) == ("S2", 7, found.events[0].occurred_at)


def test_a_cell_that_cannot_be_read_takes_nothing_else_with_it() -> None:
    header = HEADER + ",緯度,経度,標高,電話番号"
    found = translated(table(f"S1,体育館,およそ30,{SIX},{HERE},999,139.9,高い,花子 090", header=header))
    (event,) = found.events
    assert {"people", "lat_deg", "lon_deg", "altitude_m", "phone"}.isdisjoint(event.data)
    assert event.data["status"] == "open"
    assert len(found.rejected) == 1
    assert "およそ" not in str(reasons(found))


def test_an_id_that_is_named_again_with_other_content_is_rejected() -> None:
    row = f"S1,体育館,3,{SIX},{HERE}"
    found = translated(table(row, row, f"S1,体育館,4,{SIX},{HERE}"))
    assert [event.data["people"] for event in found.events] == [3]
    assert reasons(found) == ["line 4: names a place again, with other content"]


def test_the_newest_time_of_its_rows_is_the_issue_s() -> None:
    found = translated(table(f"S1,体育館,3,{SIX},{HERE}", f"S2,公民館,4,令和8年6月2日午前7時,{HERE}"))
    assert {event.occurred_at for event in found.events} == {found.reported_at}
    assert [event.data["counted_at"].hour for event in found.events] == [21, 22]


def test_a_list_of_two_municipalities_is_two_lists() -> None:
    found = translated(table(f"NEW001,体育館,3,{SIX},{HERE}", f"NEW001,公民館,4,{SIX},石川県,七尾市"))
    assert [(event.data["list"], event.data["listed"]) for event in found.events] == [
        ("open:07202", 1),
        ("open:17202", 1),
    ]
    assert len({event.id for event in found.events}) == 2


def test_a_municipality_without_a_known_code_has_a_list_by_its_name() -> None:
    (event,) = translated(table(f"S1,体育館,3,{SIX},熊本県,熊本市")).events
    assert (event.data["list"], event.data["area"]) == ("open:熊本県熊本市", "43")


def test_of_the_keepers_of_a_shelter_nothing_is_read() -> None:
    header = HEADER + ",管理責任者,管理責任者電話番号,担当者メール"
    found = translated(table(f"S1,体育館,3,{SIX},{HERE},会津花子,090-0000-0000,hanako@example.jp", header=header))
    assert not any(secret in str(found) for secret in ("花子", "090", "hanako@"))


def test_a_head_count_without_a_time_is_refused() -> None:
    assert "no time" in refusal(table(f"S1,体育館,3,,{HERE}")).reason
    assert (
        "no time" in refusal(table(f"S1,体育館,3,{HERE}", header="ID,名称,人数,所在地_都道府県,所在地_市区町村")).reason
    )
    assert refusal(table(f"S1,体育館,3,昨日,{HERE}")).path == "line 2, 時点"


# Hostile payloads


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xef\xbb\xbf",
        b"PK\x03\x04\x14\0\0\0",
        table(f"S1,体育館,3,{SIX},{HERE}").encode("utf-16"),
        table(f"S1,体育館,3,{SIX},{HERE}").encode("euc_jp"),
        table(f"S1,体育館,3,{SIX},{HERE}").encode()[:-3],
        table(f"S1,体育館,3,{SIX},{HERE}").encode("cp932")[:-3],
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        table(f'S1,"体育館,3,{SIX},{HERE}'),
        table(f"S1,体育館,3,{SIX},{HERE}", header=HEADER.replace("時点", "人数")),
        table("S1", header="ID," + ",".join(f"c{n}" for n in range(3000))),
        table(f"S1,{'あ' * 140_000},3,{SIX},{HERE}"),
        "ID,名称\r\n" + "S1,体育館\r\n" * 1_000_000,
        b"[" * 100_000,
        b"{" * 10,
        b'{"type": "FeatureCollection"}',
        b'{"type": "FeatureCollection", "features": {}}',
        b'{"type": "Topology", "features": []}',
        b'{"type": "FeatureCollection", "features": [{"properties": {"a": ' + b"[" * 50_000,
        b'{"type": "FeatureCollection", "features": [{"properties": {"a": ' + b"9" * 9_999 + b"}}]}",
        b'{"type": "FeatureCollection", "type": "FeatureCollection", "features": []}',
    ],
    ids=range(21),
)
def test_what_is_no_list_is_refused_quickly(payload: bytes | str) -> None:
    error = refusal(payload)
    assert error.reason
    assert "体育館" not in str(error)


def feature(geometry: Any, **more: Any) -> bytes:
    properties = {
        "共通ID": "E0720200000101",
        "施設・場所名": "広場",
        "都道府県名及び市町村名": "福島県会津若松市",
        **more,
    }
    one = {"type": "Feature", "geometry": geometry, "properties": properties}
    return json.dumps({"type": "FeatureCollection", "features": [one]}).encode()


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Point", "coordinates": [37.4, 139.9]},
        {"type": "Point", "coordinates": [0, 0]},
        {"type": "Point", "coordinates": [139.9]},
        {"type": "Point", "coordinates": [139.9, 37.4, 0, 0]},
        {"type": "Point", "coordinates": ["139.9", "37.4"]},
        {"type": "Point", "coordinates": [1e300, -1e300]},
        {"type": "Point", "coordinates": None},
        {"type": "Point", "coordinates": {"lat": 37.4}},
        {"type": "MultiPoint", "coordinates": [[139.9, 37.4]]},
        {"type": "GeometryCollection", "geometries": []},
        {"type": ["Point"], "coordinates": [139.9, 37.4]},
        "POINT(139.9 37.4)",
        [139.9, 37.4],
    ],
    ids=str,
)
def test_a_place_whose_geometry_is_odd_is_taken_without_it(geometry: Any) -> None:
    found = translated(feature(geometry))
    (event,) = found.events
    assert "lat_deg" not in event.data
    assert "lon_deg" not in event.data
    (rejected,) = found.rejected
    assert translated(rejected.payload).events == found.events


def test_numbers_of_any_size_in_a_geometry_cost_nothing() -> None:
    huge = feature(None).replace(b"null", b'{"type": "Point", "coordinates": [1e-999999999, 1e999999999]}')
    found = translated(huge)
    assert len(found.events) == len(found.rejected) == 1
    assert found.rejected[0].payload


def test_the_third_number_of_a_point_is_no_height_above_the_sea() -> None:
    (event,) = translated(feature({"type": "Point", "coordinates": [139.9, 37.4, 250.5]})).events
    assert (event.data["lat_deg"], event.data["lon_deg"]) == (37.4, 139.9)
    assert "altitude_m" not in event.data


def test_half_a_surrogate_pair_is_rejected() -> None:
    found = translated(feature(None).replace(b"E0720200000101", b"\\ud800"))
    assert not found.events
    assert reasons(found) == ["features[0].properties: holds half a surrogate pair"]


# The real lists


@needs_national
@pytest.mark.parametrize("path", NATIONAL, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_national_list_is_read_whole(path: Path) -> None:
    found = translated(path.read_bytes())
    listed = json.loads(path.read_text()).get("features")
    if listed is None:
        assert found.nothing
        return
    assert not found.rejected
    assert len({event.id for event in found.events}) == len(found.events) == len(listed)
    for event, said in zip(found.events, listed, strict=True):
        properties = said["properties"]
        assert event.data["shelter"] == properties["共通ID"]
        assert event.data["area"] == path.stem[:5]
        assert [event.data["lon_deg"], event.data["lat_deg"]] == said["geometry"]["coordinates"]
        marked = [name for name in ("洪水", "地震", "津波") if properties.get(name) == "1"]
        ours = {"洪水": "flood", "地震": "earthquake", "津波": "tsunami"}
        assert [ours[name] for name in marked] == [
            hazard for hazard in ("flood", "earthquake", "tsunami") if hazard in event.data.get("hazards", [])
        ]


def read_independently(path: Path) -> tuple[datetime, dict[str, int]]:
    """Time by the file's name, and people by shelter: the csv module and nothing of ours."""
    day, hour = path.stem.rsplit("_", 1)[1].rsplit("-", 1)
    when = datetime.fromisoformat(day).replace(hour=int(hour[:2]), minute=int(hour[2:]), tzinfo=JAPAN)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    [column] = [name for name in rows[0] if name.startswith("人数")]
    return when, {row["ID"]: int(row[column]) for row in rows}


@pytest.fixture
def hub_of(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Makes a hub into which files were imported; its clock is the payloads', or it stands in 2026."""
    made: list[Hub] = []

    def make(paths: list[Path], *, simulate: bool) -> Hub:
        clock = SetClock(datetime(1970, 1, 1, tzinfo=UTC) if simulate else datetime(2026, 6, 1, tzinfo=UTC))
        hub = Hub.open(f"sqlite:///{tmp_path / f'{len(made)}.sqlite3'}", clock, durable=False)
        made.append(hub)
        if simulate:
            hub.simulate()
        hub.init()
        for done in import_files(hub, Shelters(), paths, clock if simulate else None):
            assert done.status in ("accepted", "nothing"), done
        return hub

    yield make
    for hub in made:
        hub.close()


def shown(hub: Hub, **asked: Any) -> dict[str, int]:
    rows = hub.directory.places("shelter.reported", **asked)
    assert all(row["data"]["status"] == "open" for row in rows)
    return {row["data"]["shelter"]: row["data"]["people"] for row in rows}


def shuffled(paths: list[Path]) -> list[Path]:
    mixed = list(paths)
    random.Random(5).shuffle(mixed)
    return mixed


@needs_nanao
def test_every_day_of_nanao_is_rebuilt_as_it_was_known(hub_of: Callable[..., Hub]) -> None:
    hub = hub_of(SNAPSHOTS, simulate=True)
    days = [read_independently(path) for path in SNAPSHOTS]
    assert (len(days[0][1]), sum(days[0][1].values())) == (29, 1886)
    for (when, expected), (following, _) in zip(days, [*days[1:], (days[-1][0] + timedelta(days=9), {})], strict=True):
        assert shown(hub, time=when) == expected
        assert shown(hub, time=following - timedelta(seconds=1)) == expected
    assert shown(hub, time=days[0][0] - timedelta(seconds=1)) == {}


@needs_nanao
@pytest.mark.parametrize("simulate", [True, False], ids=["simulated", "real"])
@pytest.mark.parametrize(
    "order",
    [lambda paths: paths[::-1], lambda paths: shuffled(paths + paths)],
    ids=["reversed", "shuffled and doubled"],
)
def test_every_day_of_nanao_is_rebuilt_in_whatever_order_it_came(
    hub_of: Callable[..., Hub], order: Callable[[list[Path]], list[Path]], simulate: bool
) -> None:
    hub = hub_of(order(SNAPSHOTS), simulate=simulate)
    for path in SNAPSHOTS:
        when, expected = read_independently(path)
        assert shown(hub, on=when) == expected
    assert shown(hub) == expected


@needs_nanao
def test_a_designated_list_that_comes_later_hides_no_head_count(hub_of: Callable[..., Hub]) -> None:
    register = DATA / "nanao-2024" / "reference_data.csv"
    hub = hub_of([SNAPSHOTS[0], register], simulate=True)
    rows = hub.directory.places("shelter.reported")
    counted = {row["data"]["shelter"]: row["data"]["people"] for row in rows if row["data"].get("status") == "open"}
    assert counted == read_independently(SNAPSHOTS[0])[1]
    assert len(rows) == len(counted) + 112
