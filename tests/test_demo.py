"""The demonstration on a real hub: given a city of 60, what it tells is what the hub says when it is asked again."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hub import areas
from hub.city import run
from hub.city.offers import HANAKO, NONE, SHARES
from hub.city.people import CITY, QUAKE, City, own_telegram
from hub.errors import Misuse
from hub.events import Entry
from hub.hub import Hub
from hub.hub import areas as city_areas
from hub.log.clock import SetClock

MASTER = bytes(32)
FAR = Path(__file__).parents[1] / "connectors" / "jma" / "goldens" / "08-far.xml"


@dataclass(frozen=True)
class Shown:
    """A demonstration that was given: its figures, what stood on the screen, and the hub, still open."""

    figures: dict[str, Any]
    text: str
    hub: Hub


def show(folder: Path, *, lang: str = "en", people: int = 60, telegram: bytes | None = None) -> Shown:
    clock = SetClock(datetime(2000, 1, 1, tzinfo=UTC))
    hub = Hub.open(f"sqlite:///{folder}/hub.sqlite3", clock, master=MASTER)
    screen = io.StringIO()
    console = Console(file=screen, width=100, force_terminal=False)
    figures = run(hub, clock, console, people=people, seed=7, lang=lang, telegram=telegram)
    return Shown(figures, screen.getvalue(), hub)


@pytest.fixture(scope="module", params=["ja", "en"])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    done = show(tmp_path_factory.mktemp("demo"), lang=request.param)
    yield done
    done.hub.close()


def entry(hub: Hub, position: int) -> Entry:
    with hub.log.entries.snapshot() as (connection, _):
        found = hub.log.read(connection, [position])[position]
    assert isinstance(found, Entry)
    return found


def test_all_five_lines_hold_and_stand_last_on_the_screen(shown: Shown) -> None:
    proved = shown.figures["proved"]
    japanese = "確かめたこと" in shown.text
    told = "".join(line["ja" if japanese else "en"] for line in proved)
    assert [line["holds"] for line in proved] == [True] * 5
    last = re.split("確かめたこと|What was just shown", shown.text)[1]
    assert re.sub(r"[\s○]", "", last) == re.sub(r"\s", "", told)


def test_consent_line_is_what_the_logged_answers_show_again(shown: Shown) -> None:
    consent, hub = shown.figures["consent"], shown.hub
    answers = [hub.audit.repeat(position).answer for position in hub.audit.disclosures()]
    assert len(answers) == consent["answers"]
    assert sum(1 for answer in answers for _ in answer.items) == consent["items"] > 0
    people = City(60, 7, QUAKE).citizens
    none = {citizen.id for citizen in people if citizen.asks == NONE}
    assert len(none) == consent["none"] > 0
    assert not none & {shown.person for answer in answers for shown in answer.persons}


def test_each_table_cell_is_what_the_logged_answer_shows_again(shown: Shown) -> None:
    views, hub = shown.figures["views"], shown.hub
    positions = hub.audit.disclosures()
    looks = {"before": positions[:6], "during": positions[6:12], "after": positions[-6:]}
    for phase, found in looks.items():
        for position, cells in zip(found, views[phase].values(), strict=True):
            assert entry(hub, position).event.data["persons_count"] == cells["persons"]
            assert sum(1 for _ in hub.audit.repeat(position).answer.items) == cells["items"]


def test_what_an_emergency_opens_is_open_only_while_it_lasts(shown: Shown) -> None:
    opened, views, hub = shown.figures["opened"], shown.figures["views"], shown.hub
    assert opened["before"] == opened["after"] == 0 < opened["during"]
    assert views["before"]["city"]["persons"] < views["during"]["city"]["persons"]
    assert views["before"]["shelters"]["persons"] == views["after"]["shelters"]["persons"] == 0
    modes = [{p.mode for p in hub.audit.repeat(position).answer.persons} for position in hub.audit.disclosures()]
    assert set().union(*modes[:6], *modes[-6:]) == {"normal"}
    assert "emergency" in set().union(*modes[6:12])


def test_hanako_is_gone_at_the_read_right_after_her_revocation(shown: Shown) -> None:
    revocation, hub = shown.figures["revocation"], shown.hub
    revoked = entry(hub, revocation["position"])
    assert (revoked.event.kind, revoked.event.person) == ("consent.revoked", HANAKO)
    assert revocation["next_read"] == revocation["position"] + 1
    before, after = (hub.audit.repeat(revocation["position"] + step).answer for step in (-1, 1))
    assert {p.person for p in before.persons} - {p.person for p in after.persons} == {HANAKO}
    assert len(after.persons) == revocation["persons_after"]


def test_an_approval_for_one_look_is_spent_at_the_second(shown: Shown) -> None:
    approvals = shown.figures["approvals"]
    assert approvals["asked"] >= approvals["approved"] >= approvals["shown"] > approvals["shown_again"] == 0


def test_replayed_answer_has_the_bytes_that_the_line_says(shown: Shown) -> None:
    replay = shown.figures["replay"]
    again = shown.hub.audit.repeat(replay["position"])
    assert again.same
    assert len(again.answer.body) == replay["bytes"]
    assert hashlib.sha256(again.answer.body).hexdigest() == replay["sha256"]


def test_log_is_as_long_as_the_line_says_and_still_verifies(shown: Shown) -> None:
    log, intake = shown.figures["log"], shown.figures["intake"]
    found = shown.hub.audit.verify()
    assert (found.size, found.root.hex(), found.disclosures) == (log["size"], log["root"], log["disclosures"])
    with shown.hub.log.entries.snapshot() as (connection, end):
        kinds = [
            e.event.kind for e in shown.hub.log.scan(connection) if isinstance(e, Entry) and e.event.source != "hub"
        ]
    assert end.position == log["size"]
    assert len(kinds) == intake["accepted"]


def test_late_repeated_and_wrong_ones_are_among_what_streams_in(shown: Shown) -> None:
    stream = shown.figures["stream"]
    assert stream["late"] > 0
    assert stream["duplicate"] > 0
    reasons = [name for name in stream if name.startswith("refused:") and stream[name]]
    assert reasons == ["refused:stranger", "refused:fields", "refused:reused", "refused:drill"]
    assert sum(stream[name] for name in reasons) == stream["refused"]


def test_hospital_and_not_the_bus_company_is_explained(shown: Shown) -> None:
    explained = shown.figures["explained"]
    assert explained["hospital"]["shown"]
    assert not explained["bus"]["shown"]


def test_consents_come_in_the_shares_of_the_trial(shown: Shown) -> None:
    people = shown.figures["people"]
    assert people["asks"] == {name: round(60 * share / 100) for name, share in SHARES.items()}


def test_equal_arguments_give_equal_figures_in_either_language(tmp_path: Path) -> None:
    def figures(lang: str, folder: Path) -> dict[str, Any]:
        folder.mkdir()
        done = show(folder, lang=lang, people=30)
        done.hub.close()
        del done.figures["log"]["root"]
        return done.figures

    assert figures("ja", tmp_path / "one") == figures("en", tmp_path / "two")


def test_another_seed_is_another_city() -> None:
    def evening(seed: int) -> list[Any]:
        return list(City(60, seed, QUAKE).evening())

    assert evening(1) == evening(1) != evening(2)


def test_a_telegram_from_elsewhere_opens_nothing(tmp_path: Path) -> None:
    done = show(tmp_path, people=30, telegram=FAR.read_bytes())
    done.hub.close()
    assert not done.figures["emergency"]["here"]
    assert done.figures["opened"] == {"before": 0, "during": 0, "after": 0}
    assert [line["holds"] for line in done.figures["proved"]] == [True] * 5
    assert "No emergency for Aizuwakamatsu follows." in done.text


def test_where_the_policy_only_proposes_an_officer_declares(tmp_path: Path) -> None:
    milder = own_telegram().replace(b"<MaxInt>6-</MaxInt>", b"<MaxInt>5-</MaxInt>")
    done = show(tmp_path, people=30, telegram=milder.replace(b"<MaxInt>5+</MaxInt>", b"<MaxInt>5-</MaxInt>"))
    done.hub.close()
    assert done.figures["emergency"]["here"]
    assert done.figures["opened"]["during"] > 0
    assert "asks an officer" in done.text


def test_a_hub_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    clock = SetClock(QUAKE)
    hub = Hub.open(f"sqlite:///{tmp_path}/hub.sqlite3", clock, master=MASTER)
    hub.init()
    with pytest.raises(Misuse):
        run(hub, clock, Console(quiet=True), people=20, seed=1, lang="en", telegram=None)
    hub.close()


def test_the_clock_of_a_demonstration_is_marked_as_simulated(shown: Shown) -> None:
    assert shown.hub.simulated
    with shown.hub.log.entries.snapshot() as (_, end):
        assert end.recorded_at is not None
        assert end.recorded_at.date() == (QUAKE + timedelta(hours=9)).date()


@pytest.mark.parametrize(
    ("where", "lat_deg", "lon_deg", "inside"),
    [
        ("city hall", "37.4948", "139.9298", True),
        ("Higashiyama", "37.478", "139.962", True),
        ("Minato", "37.46", "140.05", True),
        ("Kitakata station", "37.6509", "139.8652", False),
        ("Aizubange", "37.5614", "139.8217", False),
        ("Koriyama station", "37.3983", "140.3886", False),
    ],
)
def test_grid_squares_of_the_city_tell_it_from_its_neighbours(
    where: str, lat_deg: str, lon_deg: str, inside: bool
) -> None:
    contains = {event.data["area"]: tuple(event.data["contains"]) for event in city_areas()}
    square = areas.mesh(Decimal(lat_deg), Decimal(lon_deg))
    assert areas.cover([CITY], contains).covers(f"m{square}") is inside


def test_no_grid_square_of_the_city_lies_within_another() -> None:
    [event] = [event for event in city_areas() if event.data["area"] == CITY]
    codes = set(event.data["contains"])
    assert len(codes) == len(event.data["contains"])
    assert not [code for code in codes for length in (7, 9, 10) if length < len(code) and code[:length] in codes]
    assert sum({11: 1, 10: 4, 9: 16, 7: 1600}[len(code)] for code in codes) == 5_947
