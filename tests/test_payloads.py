"""A source's payload, by whichever door: taken in, refused in parts, kept for mending, erased with whom it is about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from hub.connector import Event, PayloadError, Settings, Translation
from hub.payloads import Delivery, Taken
from hub.plugins import Plugins
from hub.web.quarantine import translator
from sources import install

NAME = "village"
CITY = {"recipient": "city", "class": "municipality", "areas": ["*"], "purposes": ["rescue"]}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    install(monkeypatch, tmp_path / "path", NAME)
    town = Town(tmp_path / "town", Plugins())
    town.hub.init()
    for person, ref in (("hanako", "u1"), ("taro", "u2")):
        town.tell("person.enrolled", person=person, areas=["07202"])
        town.tell("identity.linked", person=person, source=NAME, ref=ref)
    yield town
    town.close()


def payload(*records: dict[str, Any]) -> bytes:
    return json.dumps({"records": records}).encode()


def answer(id: str, user: str = "u1", status: str = "safe") -> dict[str, Any]:
    return {"id": id, "user": user, "status": status}


def take(home: Town, *records: dict[str, Any], raw: bytes | None = None) -> Taken:
    plugin = home.hub.plugins.find(NAME)
    return home.hub.payloads.take(Delivery(connector=plugin, payload=raw or payload(*records), via="import"))


def log(home: Town) -> list[tuple[str, str]]:
    return [(row["kind"], row["id"]) for row in home.hub.audit.events(after=0) if row["source"] == NAME]


def replay(home: Town, item: str, mended: bytes | None = None) -> list[str]:
    return [done.status for done in home.hub.quarantine.replay(item, translator(home.hub.plugins), mended)]


def test_the_same_payload_again_changes_nothing(home: Town) -> None:
    assert take(home, answer("a"), answer("b")).status == "accepted"
    again = take(home, answer("a"), answer("b"))
    assert (again.status, again.reason) == ("nothing", "received before")
    assert len(log(home)) == 2


def test_a_record_that_cannot_be_read_is_kept_alone_and_the_rest_is_taken(home: Town) -> None:
    taken = take(home, answer("a"), {"id": "b", "user": "u2"}, answer("c"))
    assert (taken.status, taken.reason, taken.lost) == ("refused", "records[1].status: is missing", False)
    assert log(home) == [("safety.answered", "a"), ("safety.answered", "c")]
    [item] = home.hub.quarantine.items()
    _, _, kept = home.hub.quarantine.open(item.item)
    assert json.loads(kept) == {"records": [{"id": "b", "user": "u2"}]}
    assert replay(home, item.item, payload(answer("b", "u2"))) == ["accepted"]
    assert home.hub.quarantine.items() == []


def test_what_intake_refuses_of_one_person_is_kept_as_the_payload(home: Town) -> None:
    assert take(home, answer("a", status="fine")).status == "refused"
    [item] = home.hub.quarantine.items()
    assert (item.via, item.kind) == ("import:village", "safety.answered")
    assert home.hub.quarantine.open(item.item)[2] == payload(answer("a", status="fine"))


def test_what_intake_refuses_of_several_is_kept_for_each_by_itself(home: Town) -> None:
    take(home, answer("a", "u1", "fine"), answer("b", "u2", "well"), answer("c"))
    items = home.hub.quarantine.items()
    assert [item.via for item in items] == ["events", "events"]
    home.tell("person.erased", person="hanako")
    [left] = home.hub.quarantine.items()
    said = json.loads(home.hub.quarantine.open(left.item)[2])
    assert (said["id"], said["ref"]) == ("b", "u2")


@pytest.mark.parametrize("user", ["u1", "u9"])
def test_an_erasure_and_an_unlinking_reach_what_was_rejected(home: Town, user: str) -> None:
    if user == "u9":
        home.tell("identity.linked", person="hanako", source=NAME, ref="u9")
    take(home, {"id": "b", "user": user})
    take(home, {"id": "c", "user": "u2"})
    home.tell("person.erased", person="hanako")
    [left] = home.hub.quarantine.items()
    assert b'"u2"' in home.hub.quarantine.open(left.item)[2]


def test_an_erasure_reaches_a_rejected_record_beside_an_event_that_intake_refused(home: Town) -> None:
    take(home, answer("a", "u1", "fine"), {"id": "b", "user": "u2"})
    home.tell("person.erased", person="taro")
    kept = [home.hub.quarantine.open(item.item)[2] for item in home.hub.quarantine.items()]
    assert len(kept) == 1
    assert b"u2" not in kept[0]


def test_of_a_payload_that_is_refused_throughout_only_so_much_is_kept_and_the_rest_told_as_lost(
    home: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept for a hundred thousand rows, one after the other, it would hold up intake for minutes."""
    monkeypatch.setattr("hub.payloads.MOST_OF_A_SOURCE", 3)
    asked: list[int] = []
    keep = home.hub.quarantine.keep
    monkeypatch.setattr(home.hub.quarantine, "keep", lambda given: asked.append(len(given)) or keep(given))
    assert not take(home, *({"id": str(n), "user": "u1"} for n in range(3))).lost
    assert take(home, *({"id": str(n), "user": "u1"} for n in range(4))).lost
    assert asked == [3, 3]


def test_nothing_is_kept_of_who_is_erased(home: Town) -> None:
    home.tell("person.erased", person="hanako")
    taken = take(home, {"id": "b", "user": "u1", "status": 3})
    assert taken.status == "refused"
    [item] = home.hub.quarantine.items()
    assert not item.kept


def test_a_part_that_is_too_large_to_be_kept_is_told_as_lost(home: Town) -> None:
    assert take(home, {"id": "b", "user": "u1", "note": "x" * 1024 * 1024}).lost


def test_a_connector_that_was_mended_takes_what_it_refused_before(
    home: Town, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old_form = b'{"rows": [["a", "u1", "safe"]]}'
    assert take(home, raw=old_form).reason == "records: is missing"
    [item] = home.hub.quarantine.items()
    plugin = home.hub.plugins.find(NAME)
    before = plugin.translate

    def mended(payload: bytes) -> Translation:
        said = json.loads(payload)
        if "rows" in said:
            keys = ("id", "user", "status")
            said = {"records": [dict(zip(keys, row, strict=True)) for row in said["rows"]]}
        return before(json.dumps(said).encode())

    monkeypatch.setattr(plugin, "translate", mended)
    assert replay(home, item.item) == ["accepted"]
    assert log(home) == [("safety.answered", "a")]


def test_a_retraction_by_the_sources_own_id_hides_the_fact_whichever_comes_first(home: Town) -> None:
    home.tell("recipient.registered", **CITY)
    home.tell(
        "consent.granted", person="hanako", grant="g", to={"class": "municipality"}, kinds=["*"], purposes=["rescue"],
        modes=["normal"],
    )  # fmt: skip

    def seen() -> bool:
        return bool(json.loads(home.read("city", "rescue").body)["persons"])

    take(home, answer("a"))
    assert seen()
    take(home, {"id": "r1", "user": "u1", "undo": "a"})
    assert not seen()
    take(home, {"id": "r2", "user": "u1", "undo": "b"}, answer("b"))
    assert not seen()


def test_a_retraction_and_a_request_wait_for_the_link_as_facts_do(home: Town) -> None:
    home.tell("recipient.registered", **CITY)
    taken = take(
        home, answer("a", "u3"), {"id": "r", "user": "u3", "undo": "a"}, {"id": "q", "user": "u3", "asks": "city"}
    )
    assert taken.reason == "3 of its facts wait until their id is linked"
    home.tell("person.enrolled", person="jiro", areas=["07202"])
    home.tell("identity.linked", person="jiro", source=NAME, ref="u3")
    assert log(home) == [("safety.answered", "a"), ("fact.retracted", "r"), ("consent.requested", "q")]
    assert [found["request"] for found in home.hub.citizen.requests("jiro")] == ["q"]
    assert home.hub.audit.verify().size


class Broken:
    """What a connector may not do."""

    name = source = NAME
    kinds = ("safety.answered", "recipient.registered", "fact.retracted")
    quality: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, does: str) -> None:
        self.does = does

    def translate(self, payload: bytes) -> Translation:
        data = {"status": "safe"}
        match self.does:
            case "raises":
                raise KeyError("hanako's number is 090-1234-5678")
            case "source":
                event = Event(source="careyell", id="x", kind="safety.answered", ref="u1", data=data)
            case "kind":
                event = Event(source=NAME, id="x", kind="location.reported", ref="u1", data={})
            case "person":
                event = Event(source=NAME, id="x", kind="safety.answered", person="hanako", data=data)
            case "control":
                data = {"recipient": "x", "class": "municipality", "areas": ["*"], "purposes": ["rescue"]}
                event = Event(source=NAME, id="x", kind="recipient.registered", data=data)
            case "retracts":
                data = {"event": "x", "source": "careyell"}
                event = Event(source=NAME, id="x", kind="fact.retracted", ref="u1", data=data)
            case "data":
                event = Event(source=NAME, id="x", kind="safety.answered", ref="u1", data=None)  # type: ignore[arg-type]
            case "nothing":
                return None  # type: ignore[return-value]
            case "exits":
                raise SystemExit(3)
        return Translation(events=[event])


DOES = ["raises", "source", "kind", "person", "control", "retracts", "data", "nothing", "exits"]


@pytest.mark.parametrize("does", DOES)
def test_a_connector_that_does_what_it_may_not_costs_its_payload_alone(home: Town, does: str) -> None:
    taken = home.hub.payloads.take(Delivery(connector=Broken(does), payload=b"p", via="import"))
    assert taken.status == "refused"
    assert "tell its author" in (taken.reason or "")
    assert "090" not in (taken.reason or "")
    assert log(home) == []
    assert [item.kept for item in home.hub.quarantine.items()] == [True]


def test_a_replay_is_looked_over_as_the_payload_was(home: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    take(home, answer("a", status="fine"))
    [item] = home.hub.quarantine.items()
    for does in DOES:
        monkeypatch.setattr(home.hub.plugins.find(NAME), "translate", Broken(does).translate)
        with pytest.raises(PayloadError, match="tell its author"):
            replay(home, item.item)
    assert log(home) == []


def test_settings_reach_the_connector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path / "other", "hamlet")
    from hub.plugins import Setting

    plugins = Plugins({"hamlet": Setting(settings=Settings(options={"a": 1}))})
    assert plugins.find("hamlet").settings.option("a") == 1
