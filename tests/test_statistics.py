"""Figures for planning (R20): what is counted, how coarsely, how often, and what of it is told to whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

import worlds
from conftest import Town
from hub.answer import Query
from hub.errors import Busy, PayloadError
from hub.scenario import World
from hub.statistics import BY, Question, Statistics, counting
from hub.traces import Trace
from test_rules_property import Witness
from test_traces import EVER

HOUR = timedelta(hours=1)
AIZU = {"lat_deg": 37.4948, "lon_deg": 139.9298}
SQUARE = "56391794"


@pytest.fixture
def city(town: Town) -> Town:
    """aizu-city, and thirty persons who let it see everything, in both modes."""
    registered(town, "aizu-city", ["07202"])
    for n in range(30):
        enrolled(town, f"p{n}")
    return town


def registered(town: Town, recipient: str, areas: list[str], purposes: tuple[str, ...] = ("rescue", "care")) -> None:
    town.tell(
        "recipient.registered",
        recipient=recipient,
        **{"class": "municipality"},
        areas=areas,
        purposes=list(purposes),
        overrides=["roster", "life_protection"],
    )


def enrolled(town: Town, person: str, areas: tuple[str, ...] = ("07202",), **grant: Any) -> None:
    town.tell("person.enrolled", person=person, areas=list(areas))
    granted(town, person, **grant)


def granted(town: Town, person: str, **grant: Any) -> None:
    said = {
        "grant": f"g-{person}",
        "to": {"recipient": "aizu-city"},
        "kinds": ["*"],
        "purposes": ["rescue"],
        "modes": ["normal", "emergency"],
        "data": "all",
    }
    town.tell("consent.granted", person=person, **{**said, **grant})


def answered(town: Town, count: int, status: str = "safe", first: int = 0) -> None:
    for n in range(first, first + count):
        town.tell("safety.answered", person=f"p{n}", status=status)


def question(kind: str = "safety", by: str = "district", **asked: Any) -> Question:
    return Question(**{"recipient": "aizu-city", "purpose": "rescue", "kind": kind, "by": by, **asked})


def read(town: Town, kind: str = "safety", by: str = "district", **asked: Any) -> dict[str, Any]:
    return json.loads(town.hub.statistics.read(question(kind, by, **asked)).body)  # type: ignore[no-any-return]


def later(town: Town, kind: str = "safety", by: str = "district", **asked: Any) -> dict[str, dict[str, int]]:
    """The counts by cell, of a figure that is new; cells in which there is nobody are left out."""
    town.wait(HOUR)
    cells = read(town, kind, by, **asked)["cells"]
    return {cell["cell"]: cell["counts"] for cell in cells if any(cell["counts"].values())}


def test_a_figure_counts_to_the_nearest_five_and_fewer_than_five_as_none(city: Town) -> None:
    told = []
    for n in range(30):
        answered(city, 1, first=n)
        told.append(later(city).get("07202", {}).get("safe", 0))
    assert told == [0] * 4 + [5] * 3 + [10] * 5 + [15] * 5 + [20] * 5 + [25] * 5 + [30] * 3


def test_every_cell_and_category_is_told_whether_anybody_is_there_or_not(city: Town) -> None:
    empty = read(city)
    assert empty["cells"] == [
        {"cell": cell, "counts": {"injured": 0, "need_help": 0, "safe": 0, "unknown": 0}} for cell in ("07202", "other")
    ]
    answered(city, 12, "need_help")
    city.wait(HOUR)
    full = read(city)
    assert full["cells"][0]["counts"] == {"injured": 0, "need_help": 10, "safe": 0, "unknown": 0}
    assert [cell["cell"] for cell in full["cells"]] == ["07202", "other"]
    assert (empty["format"], empty["kind"], empty["by"]) == ("statistics/1", "safety", "district")


def test_within_the_hour_the_same_bytes_whatever_happens_and_after_a_restart(city: Town) -> None:
    answered(city, 10)
    first = city.hub.statistics.read(question())
    city.tell("consent.revoked", person="p1", grant="all")
    city.tell("person.erased", person="p2")
    answered(city, 8, first=10)
    city.wait(timedelta(minutes=30))
    again = city.hub.statistics.read(
        question(kind="safety.answered"), actor="someone"
    )  # the same count, by its other name
    assert again.body == first.body
    assert again.disclosure != first.disclosure
    city.reopen()
    assert city.hub.statistics.read(question()).body == first.body
    until = json.loads(first.body)["until"]
    city.clock.set(city.now.fromisoformat(until) - timedelta(microseconds=1))
    assert city.hub.statistics.read(question()).body == first.body
    city.wait(timedelta(microseconds=1))
    renewed = json.loads(city.hub.statistics.read(question()).body)
    assert renewed["time"] == until
    assert renewed["cells"][0]["counts"]["safe"] == 15, "16 are left"


def test_all_figures_of_a_recipient_are_of_one_moment(city: Town) -> None:
    """Minutes apart, two that agree in their total would tell of the person between (R20)."""
    for n in range(30):
        granted(city, f"p{n}", grant=f"both-{n}", purposes=["rescue", "care"])
    answered(city, 7)
    asked = [(purpose, by) for purpose in ("rescue", "care") for by in BY]
    first = read(city)["time"]
    answered(city, 1, first=7)
    told = []
    for purpose, by in asked:
        city.wait(timedelta(minutes=3))
        found = read(city, by=by, purpose=purpose)
        told.append((found["time"], sum(cell["counts"]["safe"] for cell in found["cells"])))
        assert read(city, "needs", by, purpose=purpose)["time"] == first
    assert told == [(first, 5)] * 6
    city.wait(HOUR)
    assert sum(later_cells["counts"]["safe"] for later_cells in read(city, by="mesh")["cells"]) == 10


def test_a_figure_that_was_made_with_another_says_whom_it_counts_when_it_is_told_first(city: Town) -> None:
    answered(city, 6)
    read(city)
    assert len(city.hub.traces.of_person("p1")) == 1, "what nobody asked for is told to nobody"
    city.tell("person.erased", person="p2")
    city.tell("consent.revoked", person="p3", grant="all")
    city.wait(timedelta(minutes=10))
    city.reopen()
    for _ in range(2):
        read(city, by="mesh")
    assert len(city.hub.traces.of_person("p1")) == 2
    assert len(city.hub.traces.of_person("p3")) == 2, "it counts who was there when it was made"
    assert [trace.erased for trace in city.hub.traces.disclosures(*EVER)] == [1, 1, 0]
    [_, made, again] = city.hub.audit.disclosures()
    assert [city.hub.audit.repeat(position).erased for position in (made, again)] == [1, 1]


@pytest.mark.parametrize(
    "change",
    [
        ("retired", {}),
        ("registered", {"purposes": ["care"]}),
        ("registered", {"areas": ["13104"]}),
        ("registered", {"class": "fire"}),
    ],
)
def test_a_figure_is_told_only_under_the_registration_it_was_made_for(
    town: Town, change: tuple[str, dict[str, Any]]
) -> None:
    registered(town, "aizu-city", ["07202"])
    for n in range(10):
        enrolled(town, f"p{n}", to={"class": "municipality"})
    answered(town, 10)
    assert read(town)["cells"][0]["counts"]["safe"] == 10
    what, said = change
    if what == "registered":
        said = {"class": "municipality", "areas": ["07202"], "purposes": ["rescue", "care"], **said}
    town.tell(f"recipient.{what}", recipient="aizu-city", **said)
    assert not any(any(cell["counts"].values()) for cell in read(town)["cells"])
    assert town.hub.audit.repeat(town.hub.audit.disclosures()[-1]).same
    if what == "registered":
        registered(town, "aizu-city", ["07202"])
        assert read(town)["cells"][0]["counts"]["safe"] == 10


def test_who_is_retired_while_a_figure_is_counted_gets_none(city: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(city, 10)
    inner, overtaken = Statistics._figures, []

    def slow(self: Statistics, *asked: Any) -> Any:
        found = inner(self, *asked)
        if not overtaken:
            overtaken.append(city.tell("recipient.retired", recipient="aizu-city"))
        return found

    monkeypatch.setattr(Statistics, "_figures", slow)
    assert not any(any(cell["counts"].values()) for cell in read(city)["cells"])


def test_two_processes_renew_a_figure_once(city: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(city, 10)
    other = Statistics(city.hub.log, city.hub.views, city.hub.commits, city.hub.disclosure)
    inner = Statistics._figures
    between: list[bytes] = []

    def slow(self: Statistics, *asked: Any) -> Any:
        found = inner(self, *asked)
        if self is other and not between:
            between.append(city.hub.statistics.read(question()).body)
            answered(city, 10, first=10)
        return found

    monkeypatch.setattr(Statistics, "_figures", slow)
    assert other.read(question()).body == between[0]
    monkeypatch.undo()
    assert [trace.counted for trace in city.hub.traces.disclosures(*EVER)] == [True, True]
    assert len(city.hub.traces.of_person("p1")) == 1


@pytest.mark.parametrize(
    ("grant", "counts"),
    [
        ({}, True),
        ({"uses": 3}, False),
        ({"ask": "every_time"}, False),
        ({"purposes": ["care"]}, False),
        ({"kinds": ["location.reported"]}, False),
        ({"modes": ["emergency"]}, False),
        ({"to": {"class": "municipality"}}, True),
        ({"precision": {"*": "summary"}}, True),
        ({"valid_until": "2026-06-01T00:00:01Z"}, False),
    ],
)
def test_only_a_lasting_grant_that_covers_it_counts(town: Town, grant: dict[str, Any], counts: bool) -> None:
    registered(town, "aizu-city", ["07202"])
    for n in range(5):
        if "valid_until" in grant:
            grant = {"valid_until": (town.now + timedelta(minutes=10)).isoformat()}
        enrolled(town, f"p{n}", **grant)
    answered(town, 5)
    assert later(town) == ({"07202": {"safe": 5, "injured": 0, "need_help": 0, "unknown": 0}} if counts else {})


def test_what_an_approval_opens_is_not_counted(city: Town) -> None:
    registered(city, "clinic", ["*"])
    for n in range(6):
        to = {"to": {"recipient": "clinic"}, "kinds": ["safety.answered"], "ask": "every_time"}
        granted(city, f"p{n}", grant=f"e{n}", **to)
        granted(city, f"p{n}", grant=f"a{n}", **{**to, "ask": "once"}, approves=f"e{n}", uses=1)
    answered(city, 6)
    shown = json.loads(city.read("clinic", "rescue").body)["persons"]
    assert len(shown) == 6
    assert later(city, recipient="clinic") == {}


def test_an_override_and_a_block_count_nobody_in_and_a_grant_beside_an_override_still_counts(city: Town) -> None:
    city.tell("recipient.registered", recipient="fire", **{"class": "fire"}, areas=["07202"], purposes=["rescue"],
              overrides=["life_protection"])  # fmt: skip
    answered(city, 12)
    listed = [f"p{n}" for n in range(12)]
    until = (city.now + timedelta(hours=48)).isoformat()
    for recipient in ("fire", "aizu-city"):
        said = {"recipient": recipient, "basis": "life_protection", "persons": listed, "kinds": ["*"]}
        city.tell(
            "override.opened",
            override=f"o-{recipient}",
            **said,
            purposes=["rescue"],
            until=until,
            reason="flood",
            actor="officer-7",
        )
    assert len(json.loads(city.read("fire", "rescue").body)["persons"]) == 12
    assert later(city, recipient="fire") == {}
    assert later(city)["07202"]["safe"] == 10
    for n in range(12):
        city.tell("block.added", person=f"p{n}", to={"recipient": "aizu-city"})
    assert later(city) == {}


def test_needs_are_counted_in_fixed_words_from_profiles_surveys_and_transport(city: Town) -> None:
    for n in range(10):
        city.tell("survey.answered", person=f"p{n}", answers={"q": "a"}, needs=["車椅子", "薬が切れた"])
    for n in range(5, 15):
        city.tell("profile.updated", person=f"p{n}", needs="Wheelchair; 酸素濃縮器(電源)")
    for n in range(15, 20):
        city.tell("transport.requested", person=f"p{n}", needs=["猫と一緒に"])
    counts = later(city, "needs")["07202"]
    assert counts == dict.fromkeys(counting.NEEDS, 0) | {
        "mobility": 15,
        "medicine": 10,
        "oxygen": 10,
        "power": 10,
        "other": 5,
    }
    assert later(city, "survey.answered")["07202"]["mobility"] == 10
    assert later(city, "transport.requested")["07202"] == {"requested": 5}


def test_heads_are_counted_at_shelters_beside_what_the_shelters_report(city: Town) -> None:
    counted_at = "2026-06-01T00:00:00.000000Z"
    city.tell("shelter.reported", shelter="s1", area="07202", people=41, households=9, counted_at=counted_at)
    city.tell("shelter.reported", shelter="s2", area="07202")
    for n in range(5):
        city.tell("evacuation.changed", person=f"p{n}", status="at_shelter", shelter="s1", companions=2)
    for n in range(5, 8):
        city.tell("evacuation.changed", person=f"p{n}", status="at_home")
        city.tell("survey.answered", person=f"p{n}", answers={}, shelter="s1")
    for n in range(8, 11):
        city.tell("survey.answered", person=f"p{n}", answers={}, shelter="s1")
        city.tell("evacuation.changed", person=f"p{n}", status="moving")
    for n in range(11, 15):
        city.tell("evacuation.changed", person=f"p{n}", status="at_shelter", shelter="s2", companions=9)
    for n in range(15, 20):
        city.tell("evacuation.changed", person=f"p{n}", status="at_shelter", shelter="a barn", companions=1_000)
    city.wait(HOUR)
    assert read(city, "heads", "shelter")["cells"] == [
        {
            "cell": "s1",
            "counts": {"people": 20},
            "reported": {"people": 41, "households": 9, "counted_at": counted_at},
        },
        {"cell": "s2", "counts": {"people": 0}, "reported": {"people": None, "households": None, "counted_at": None}},
        {"cell": "other", "counts": {"people": 105}},
    ]


@pytest.mark.parametrize(("companions", "told"), [(3, 10), (4, 0), (17, 0)])
def test_a_cell_in_which_one_family_is_more_than_half_is_told_as_none(city: Town, companions: int, told: int) -> None:
    for n in range(5):
        along = {"companions": companions} if n == 0 else {}
        city.tell("evacuation.changed", person=f"p{n}", status="at_shelter", shelter="s1", **along)
    assert later(city, "heads").get("07202", {"people": 0}) == {"people": told}


def test_profiles_by_shelter_count_what_profiles_say_alone(city: Town) -> None:
    city.tell("shelter.reported", shelter="s1", area="07202")
    for n in range(5):
        city.tell("survey.answered", person=f"p{n}", answers={}, shelter="s1", needs=["酸素"])
        city.tell("profile.updated", person=f"p{n}", needs="薬")
    [found] = later(city, "profile.updated", "shelter").values()
    assert (found["medicine"], found["oxygen"]) == (5, 0)


def test_companions_are_not_counted_where_the_grant_shows_no_more_than_a_summary(town: Town) -> None:
    registered(town, "aizu-city", ["07202"])
    for n in range(5):
        enrolled(town, f"p{n}", precision={"*": "summary"})
        town.tell("evacuation.changed", person=f"p{n}", status="at_shelter", shelter="s1", companions=2)
    assert later(town, "heads")["07202"] == {"people": 5}


def test_a_person_counts_in_the_narrowest_district_of_the_first_area(town: Town) -> None:
    town.tell("area.introduced", area="07202-12", contains=[])
    registered(town, "aizu-city", ["07"])
    for n, areas in enumerate([("07202-12", "13104"), ("07202",), ("07203",), ("13104",)] * 5):
        enrolled(town, f"p{n}", areas)
    answered(town, 20)
    assert {cell: counts["safe"] for cell, counts in later(town).items()} == {
        "07202-12": 5,
        "07202": 5,
        "07": 5,
        "other": 5,
    }


@pytest.mark.parametrize(
    ("level", "cell"), [("exact", SQUARE), ("250m", SQUARE), ("1km", SQUARE), ("10km", "other"), (None, "other")]
)
def test_a_square_is_told_only_where_the_location_is_seen_so_finely(town: Town, level: str | None, cell: str) -> None:
    registered(town, "aizu-city", ["07202"])
    town.tell("area.introduced", area="07202-1", contains=["m56391794", "m563917951"])
    for n in range(5):
        kinds = ["safety.answered", *(["location.reported"] if level else [])]
        enrolled(town, f"p{n}", kinds=kinds, precision={"location.reported": level or "exact"})
        town.tell("location.reported", person=f"p{n}", **AIZU, accuracy_m=5)
    answered(town, 5)
    cells = read(town, by="mesh")["cells"]
    assert {found["cell"] for found in cells if found["counts"]["safe"]} == {cell}
    assert len(cells) > 100
    assert {"56391794", "56391795"} < {found["cell"] for found in cells}


def test_a_drill_counts_what_is_of_the_drill(city: Town) -> None:
    answered(city, 10)
    until = (city.now + timedelta(hours=24)).isoformat()
    city.tell("emergency.declared", emergency="d", areas=["07202"], until=until, hazard="flood", exercise=True)
    for n in range(10):
        granted(city, f"p{n}", grant=f"d{n}", modes=["exercise"])
        city.tell("safety.answered", person=f"p{n}", status="injured", exercise=True)
    assert later(city)["07202"]["safe"] == 10
    drill = later(city, exercise=True)["07202"]
    assert (drill["safe"], drill["injured"]) == (0, 10)


def test_what_is_asked_is_of_the_fixed_lists(city: Town) -> None:
    for wrong in ({"kind": "care.condition_updated"}, {"by": "street"}, {"purpose": "a\nb"}, {"recipient": ""}):
        with pytest.raises(PayloadError):
            question(**wrong)


@pytest.mark.parametrize("asked", [{"recipient": "nobody"}, {"purpose": "tourism"}])
def test_who_may_see_nothing_is_answered_with_empty_cells(city: Town, asked: dict[str, str]) -> None:
    answered(city, 10)
    assert later(city, **asked) == {}
    assert city.hub.traces.of_person("p1") == []
    with city.hub.log.entries.snapshot() as (connection, _):
        from hub.statistics.keeping import figure

        assert connection.execute(figure.select()).all() == [], "names that nobody registered are not kept"


def test_a_citizen_is_told_of_being_counted_once_an_hour_and_a_provision_is_none(city: Town) -> None:
    answered(city, 10)
    for _ in range(3):
        city.hub.statistics.read(question(), actor="officer-7")
    city.wait(HOUR)
    city.hub.statistics.read(question())
    rows, _ = city.hub.citizen.disclosures("p1")
    assert [row["statistics"] for row in rows] == [True, True]
    assert rows[1]["actor"] == "officer-7"
    assert [(item["kind"], item["basis"]) for item in rows[0]["items"]] == [("safety.answered", {"grant": "g-p1"})]
    assert "in statistics" in rows[0]["text"]
    assert "統計" in rows[0]["text_ja"]
    assert city.hub.citizen.disclosures("p20")[0] == [], "who is not counted is told of nothing"
    assert b"".join(city.hub.records.provisions(*EVER)).count(b"\n") == 1
    assert city.hub.traces.persons(*EVER) == 0
    traced = city.hub.audit.trace()
    assert [(row["format"], row["persons_count"]) for row in traced] == [("statistics/1", 10)] * 4


def test_each_answer_can_be_counted_again_to_the_same_bytes(city: Town) -> None:
    answered(city, 12)
    for by in BY:
        city.hub.statistics.read(question(by=by))
        city.hub.statistics.read(question(by=by))
    city.tell("consent.revoked", person="p3", grant="all")
    answered(city, 12, "injured")
    city.wait(HOUR)
    city.hub.statistics.read(question())
    positions = city.hub.audit.disclosures()
    assert [city.hub.audit.repeat(position).same for position in positions] == [True] * 7
    for n in range(5):
        city.tell("person.erased", person=f"p{n}")
    again = [city.hub.audit.repeat(position) for position in positions]
    assert [(found.same, found.erased) for found in again] == [(False, 5)] * 6 + [(False, 4)]
    city.hub.audit.verify()
    city.hub.views.rebuild()
    traces: list[Trace] = list(city.hub.traces.disclosures(*EVER))
    assert [trace.erased for trace in traces] == [5, 0, 5, 0, 5, 0, 4]


def test_what_was_destroyed_since_is_told_where_a_figure_is_counted_again(city: Town) -> None:
    for n in range(6):
        city.tell("transport.requested", person=f"p{n}")
    city.hub.statistics.read(question("transport.requested"))
    city.wait(timedelta(days=500))
    city.tell("person.enrolled", person="later", areas=["07202"])
    assert city.hub.retention.retain().destroyed
    [position] = city.hub.audit.disclosures()
    again = city.hub.audit.repeat(position)
    assert (again.same, again.destroyed, again.erased) == (False, 6, 0)


def test_who_waits_too_long_for_a_figure_is_told_to_ask_again(city: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.statistics.statistics._PATIENCE_S", 0.05)
    with city.hub.statistics._one_at_a_time(question()), pytest.raises(Busy, match="ask again"):
        city.hub.statistics.read(question(by="mesh"))


class Counted(Witness):
    """Two worlds that differ in what is unseen: their figures are equal to the byte, though nothing is rounded."""

    counted = 0
    figures = 0

    def compare(self, at: Any, query: dict[str, Any]) -> None:
        if query.get("as_of"):
            return
        asked = {name: query.get(name, False) for name in ("recipient", "purpose")} | {
            "exercise": query.get("exercise", False)
        }
        for whole in (query, {**query, "kinds": None}):
            one, other = (naive.expect(at, **whole) for naive in (self.right, self.right_other))
            if one != other or self.modes(self.right, at, one) != self.modes(self.right_other, at, other):
                return
        by = list(BY)[self.figures % len(BY)]
        for kind in ("safety", "needs", "heads", "evacuation.changed"):
            bodies = [self.figure(world, at, Question(kind=kind, by=by, **asked)) for world in (self.one, self.other)]
            assert bodies[0] == bodies[1], f"R20: {kind} by {by} at {at}: {query}"
            self.figures += 1
            self.counted += any(any(cell["counts"].values()) for cell in json.loads(bodies[0])["cells"])

    def figure(self, world: World, at: Any, asked: Question) -> bytes:
        hub = world.hub
        with hub.log.entries.snapshot() as (connection, end):
            return hub.statistics._figure(hub.views.at(connection, end.position), asked, at).body


def test_what_a_recipient_may_not_see_changes_no_byte_of_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "FEWEST", 1)
    monkeypatch.setattr(counting, "STEP", 1)
    monkeypatch.setattr(counting, "DOMINANT", 1)
    with ExitStack() as rooms:
        witness = Counted(*(rooms.enter_context(World.fresh()) for _ in range(2)))
        for step, added in worlds.unseen(7, worlds.world(1007)):
            witness.play(step, added)
    assert witness.figures > 20, witness.figures
    assert witness.counted > 5, witness.counted


def test_views_and_figures_do_not_meet(city: Town, new_town: Callable[[str], Town]) -> None:
    """A read of a view by the same recipient is repeated as a view, a figure as a figure."""
    answered(city, 6)
    city.hub.statistics.read(question())
    city.hub.disclosure.read(Query(recipient="aizu-city", purpose="rescue"))
    assert [city.hub.audit.repeat(position).same for position in city.hub.audit.disclosures()] == [True, True]
    assert [row["statistics"] for row in city.hub.citizen.disclosures("p1")[0]] == [False, True]
