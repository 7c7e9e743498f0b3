"""Every answer can be given again, byte for byte: whatever the process, the zone, the rebuilding; and no use twice."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

import databases
from hub.answer import Answer, Query
from hub.canonical import timestamp
from hub.deciding import Deciding
from hub.disclosure import Disclosure
from hub.errors import Conflict

if TYPE_CHECKING:
    from conftest import Town

PEOPLE = ["hanako", "taro", *(f"citizen-{number:02}" for number in range(28))]
READS = 200
RECIPIENTS: dict[str, dict[str, Any]] = {
    "aizu-city": {"class": "municipality", "areas": ["07202"], "purposes": ["rescue", "care"], "overrides": ["roster"]},
    "central-hospital": {"class": "hospital", "areas": ["*"], "purposes": ["care"], "overrides": ["life_protection"]},
    "daughter": {"class": "individual", "areas": [], "purposes": ["family"]},
    "bus-company": {"class": "company", "areas": ["07"], "purposes": ["rescue"]},
}
TO = (
    {"recipient": "aizu-city"},
    {"recipient": "bus-company"},
    {"class": "municipality"},
    {"class": "hospital"},
    {"relation": "family"},
)
KINDS = ("*", "care.*", "location.reported", "safety.answered", "survey.answered", "care.medication_updated")
WINDOWS = (None, "all", "latest", "since_grant", "since_emergency")
ENVIRONMENTS = [("1", "UTC"), ("2", "Asia/Tokyo"), ("random", "America/St_Johns")]

AGAIN = """
import hashlib, json, sys
from datetime import UTC, datetime
from pathlib import Path
from hub.hub import Hub
from hub.log.clock import SetClock

hub = Hub.open(sys.argv[1], SetClock(datetime(2031, 3, 9, 7, 30, tzinfo=UTC)), folder=Path(sys.argv[2]))
found = {}
for position in hub.audit.disclosures():
    again = hub.audit.repeat(position)
    found[position] = [again.same, hashlib.sha256(again.answer.body).hexdigest()]
hub.close()
print(json.dumps(found))
"""
RAIN = {"hazard": "heavy_rain", "chain": "070000", "report": "VPWW54", "action": "issued", "status": "actual"}


@dataclass(frozen=True)
class Past:
    """A town with a past: where it stands, and what was answered, by the position of the disclosure."""

    folder: Path
    answered: dict[int, bytes]


def enrol(town: Town) -> None:
    for name, said in RECIPIENTS.items():
        town.tell("recipient.registered", recipient=name, **said)
    for number, person in enumerate(PEOPLE):
        town.tell("person.enrolled", person=person, areas=[("07202", "07203", "07202-12")[number % 3]])
        if number % 4 == 0:
            town.tell("relation.added", person=person, recipient="daughter", role="family")
        if number % 5 == 0:
            town.tell("roster.listed", person=person)
        if number % 3 == 0:
            town.tell("identity.linked", person=person, source="careyell", ref=f"user {number}")


def consent(town: Town, random: Random, person: str, grant: str) -> None:
    ask = random.choice(["once", "once", "each_new_kind", "every_time"])
    said = {
        "grant": grant,
        "person": person,
        "to": random.choice(TO),
        "kinds": random.sample(KINDS, random.randint(1, 2)),
        "purposes": random.sample(["rescue", "care", "family"], 2),
        "modes": random.choice([["normal"], ["emergency"], ["normal", "emergency"]]),
        "data": random.choice(WINDOWS),
        "uses": random.choice([None, None, 1, 3]) if ask != "every_time" else None,
        "precision": random.choice([None, {"location.reported": "1km", "care.*": "summary"}]),
        "ask": ask,
    }
    town.tell("consent.granted", **said)
    if ask == "every_time":
        approval = {**said, "grant": f"{grant}-yes", "approves": grant, "uses": 1, "ask": "once", "data": "all"}
        town.tell("consent.granted", **approval)


def fact(town: Town, random: Random, person: str, name: str = "") -> str:
    kind, data = random.choice(
        [
            (
                "location.reported",
                {"lat_deg": 37.4 + random.random() / 5, "lon_deg": 139.9 + random.random() / 7, "accuracy_m": 8},
            ),
            ("safety.answered", {"status": random.choice(["safe", "injured", "need_help"]), "note": "二階にいます"}),
            ("care.medication_updated", {"medications": [{"name": "アムロジピン", "dose": f"{random.random()} mg"}]}),
            ("survey.answered", {"answers": {"water": "yes", "水": "ある", "a": "b"}, "shelter": "school"}),
        ]
    )
    occurred_at = town.now - timedelta(minutes=random.randint(0, 400))
    name = name or f"f{random.getrandbits(40)}"
    town.tell(kind, name, person=person, occurred_at=occurred_at, **data)
    return name


def query(random: Random) -> Query:
    recipient = random.choice(list(RECIPIENTS))
    return Query(
        recipient=recipient,
        purpose=random.choice(RECIPIENTS[recipient]["purposes"]),
        kinds=random.choice([(), (), ("location.reported",), ("survey.answered", "care.*", "safety.answered")]),
        history=random.random() < 0.5,
        limit=random.choice([None, None, 2, 5]),
        exercise=random.random() < 0.05,
    )


def read(town: Town, random: Random, last: tuple[Query, Answer] | None) -> tuple[Query, Answer]:
    """A random read, or the next page of the last."""
    asked = query(random)
    following = json.loads(last[1].body)["next"] if last else None
    if last is not None and following is not None:
        asked = replace(last[0], cursor=following)
    elif random.random() < 0.15:
        asked = replace(asked, persons=tuple(map(town.hub.disclosure.name_of, random.sample(PEOPLE, 6))))
    town.wait()
    return asked, town.hub.disclosure.read(asked, actor="desk-3")


def live(town: Town, random: Random) -> dict[int, bytes]:
    """Consents, facts, an emergency, revocations, blocks and overrides, with reads in between."""
    answered: dict[int, bytes] = {}
    facts: list[tuple[str, str]] = []
    last = None
    for number in range(READS):
        person = random.choice(PEOPLE)
        if number < 60 or random.random() < 0.3:
            consent(town, random, person, f"g{number}")
        for _ in range(2):
            someone = random.choice(PEOPLE)
            facts.append((someone, fact(town, random, someone)))
        if number % 23 == 0:
            town.tell("consent.revoked", person=person, grant="all")
        if number % 29 == 0:
            town.tell("block.added", person=person, to=random.choice(TO))
        if number % 31 == 0:
            someone, name = random.choice(facts)
            town.tell("fact.retracted", person=someone, event=name)
        if number % 13 == 0:
            town.tell("fact.retracted", person=person, event=f"late-{number}")
            fact(town, random, person, f"late-{number}")
        if number % 100 == 50:
            until = town.now + timedelta(hours=40)
            town.tell("emergency.declared", emergency="quake", areas=["07202"], until=until, hazard="earthquake")
            town.tell(
                "override.opened",
                override=f"o{number}",
                recipient="aizu-city",
                basis="roster",
                areas=["07202"],
                kinds=["*"],
                purposes=["rescue"],
                until=until,
                reason="wells are dry",
                actor="officer-7",
            )
        if number % 100 == 90:
            town.tell("emergency.lifted", emergency="quake")
        if number % 50 == 7:
            town.tell("hazard.reported", **RAIN, reported_at=town.now, areas=[{"area": "07202", "level": "3"}])
        last = read(town, random, last)
        assert last[1].position is not None
        answered[last[1].position] = last[1].body
    return answered


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, open_town: Callable[[Path], Any]) -> Past:
    folder = tmp_path_factory.mktemp("past")
    with open_town(folder) as town:
        town.hub.init()
        enrol(town)
        return Past(folder, live(town, Random(20260601)))


@pytest.fixture
def past(lived: Past, tmp_path: Path) -> Past:
    """A copy, since looking back is a look and appends."""
    databases.copy(lived.folder, tmp_path / "past")
    return replace(lived, folder=tmp_path / "past")


def repeated(past: Past, hash_seed: str, zone: str) -> dict[int, tuple[bool, str]]:
    """What another process gives for each disclosure: whether it calls the bytes the same, and their hash."""
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, databases.url(past.folder), str(past.folder)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {int(position): (same, hashed) for position, (same, hashed) in json.loads(done.stdout).items()}


@pytest.mark.parametrize("rebuilt", [False, True], ids=["as it was", "rebuilt"])
def test_past_answers_come_out_the_same_in_any_process_and_zone(
    rebuilt: bool, past: Past, open_town: Callable[[Path], Any]
) -> None:
    given = {position: (True, hashlib.sha256(body).hexdigest()) for position, body in past.answered.items()}
    assert len(given) == READS
    assert sum(b'"items":' in body for body in past.answered.values()) > READS / 4
    if rebuilt:
        with open_town(past.folder) as town:
            town.hub.views.rebuild()
    for hash_seed, zone in ENVIRONMENTS:
        assert repeated(past, hash_seed, zone) == given


def test_rebuilding_gives_the_same_rows_once_and_again(past: Past, open_town: Callable[[Path], Any]) -> None:
    with open_town(past.folder) as town:
        before = town.views()
        assert all(before[table] for table in before)
        town.hub.views.rebuild()
        assert town.views() == before
        town.hub.views.rebuild()
        assert town.views() == before
        town.hub.audit.verify()


def test_after_erasures_a_rebuild_gives_the_same_rows_and_only_answers_that_showed_the_erased_differ(
    past: Past, open_town: Callable[[Path], Any]
) -> None:
    random, differ = Random(4), 0
    with open_town(past.folder) as town:
        town.clock.set(town.now + timedelta(days=1))
        for number, person in enumerate(random.sample(PEOPLE, 10)):
            town.tell("person.erased", f"erasure-{number}", person=person)
            read(town, random, None)
        for _ in range(2):
            before = town.views()
            town.hub.audit.verify()
            town.hub.views.rebuild()
            assert town.views() == before
        for position in town.hub.audit.disclosures():
            again = town.hub.audit.repeat(position)
            assert again.same is (again.erased == 0), position
            if position in past.answered:
                shown_then = {person["person"] for person in json.loads(past.answered[position])["persons"]}
                assert {shown.person for shown in again.answer.persons} <= shown_then
            differ += not again.same
    assert differ > READS / 8


def test_after_a_rebuild_the_next_answers_are_those_of_a_hub_that_was_not_rebuilt(
    past: Past, open_town: Callable[[Path], Any]
) -> None:
    random, asked = Random(3), []
    with open_town(past.folder) as town:
        town.clock.set(town.now + timedelta(days=20))
        queries = [query(random) for _ in range(12)]
        asked = [town.hub.audit.replay(q).answer.body for q in queries]
        town.hub.views.rebuild()
        assert [town.hub.audit.replay(q).answer.body for q in queries] == asked
    assert any(b'"items":' in body for body in asked)


def test_a_changed_answer_is_called_different(past: Past, open_town: Callable[[Path], Any], monkeypatch: Any) -> None:
    position = next(at for at, body in past.answered.items() if b'"items":' in body)
    decide = Deciding.decide

    def rounded(*given: Any) -> Answer:
        answer = decide(*given)
        return replace(answer, body=answer.body.replace(b"00Z", b"01Z", 1))

    with open_town(past.folder) as town:
        assert town.hub.audit.repeat(position).same
        monkeypatch.setattr(Deciding, "decide", rounded)
        assert not town.hub.audit.repeat(position).same


# One use


@pytest.fixture
def one_use(town: Town) -> Town:
    """hanako lets the hospital look once at her medication."""
    town.tell("recipient.registered", recipient="central-hospital", **RECIPIENTS["central-hospital"])
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell(
        "consent.granted",
        grant="once",
        person="hanako",
        to={"class": "hospital"},
        kinds=["care.*"],
        purposes=["care"],
        modes=["normal"],
        uses=1,
    )
    town.tell("care.medication_updated", "m1", person="hanako", medications=[{"name": "アムロジピン"}])
    town.wait()
    return town


def sees(answer: Answer) -> list[str]:
    return [item.entry.event.id for item in answer.items]


def test_the_same_read_sent_again_gets_the_logged_answer_and_takes_no_use(one_use: Town) -> None:
    first = one_use.read("central-hospital", "care", request="r1")
    assert sees(first) == ["m1"]
    length = one_use.hub.log.entries.max_notification_id()
    again = one_use.read("central-hospital", "care", request="r1")
    assert (again.body, again.disclosure, again.position) == (first.body, first.disclosure, first.position)
    assert one_use.hub.log.entries.max_notification_id() == length
    assert len(one_use.views()["consumed"]) == 1

    assert sees(one_use.read("central-hospital", "care", request="r2")) == []
    one_use.reopen()
    assert one_use.read("central-hospital", "care", request="r1").body == first.body


def test_a_request_id_does_not_serve_for_another_query_nor_another_recipient(one_use: Town) -> None:
    one_use.tell("recipient.registered", recipient="clinic", **RECIPIENTS["central-hospital"])
    one_use.read("central-hospital", "care", request="r1")
    with pytest.raises(Conflict):
        one_use.read("central-hospital", "care", kinds=("care.*",), request="r1")
    other = one_use.read("clinic", "care", request="r1")
    assert json.loads(other.body)["recipient"] == "clinic"


def read_at_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What two threads see that have both decided before either has appended its answer."""
    both_decided = threading.Barrier(2, timeout=30)
    first_time = threading.local()
    decided = Disclosure._decided

    def meet(self: Disclosure, decide: Any) -> Answer:
        answer = decided(self, decide)
        if not getattr(first_time, "over", False):
            first_time.over = True
            both_decided.wait()
        return answer

    monkeypatch.setattr(Disclosure, "_decided", meet)
    seen: list[list[str]] = []
    asked = Query(recipient="central-hospital", purpose="care")
    threads = [threading.Thread(target=lambda: seen.append(sees(town.hub.disclosure.read(asked)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(seen) == 2
    return sorted(seen)


def test_two_threads_never_share_the_last_use(one_use: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_at_once(one_use, monkeypatch) == [[], ["m1"]]
    assert len(one_use.views()["consumed"]) == 1


def test_without_the_confirming_step_two_threads_would_share_it(one_use: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disclosure, "_stale", lambda *_: False)
    assert read_at_once(one_use, monkeypatch) == [["m1"], ["m1"]]


READER = """
import sys
from datetime import datetime
from pathlib import Path
from hub.answer import Query
from hub.disclosure import Disclosure
from hub.hub import Hub
from hub.log.clock import SetClock

hub = Hub.open(sys.argv[1], SetClock(datetime.fromisoformat(sys.argv[2])), folder=Path(sys.argv[4]))
decided = Disclosure._decided

def meet(self, decide):
    answer = decided(self, decide)
    print("decided", flush=True)
    sys.stdin.readline()
    return answer

Disclosure._decided = meet
if sys.argv[3] == "careless":
    Disclosure._stale = lambda *_: False
answer = hub.disclosure.read(Query(recipient="central-hospital", purpose="care"))
hub.close()
print(*[item.entry.event.id for item in answer.items], flush=True)
"""


def read_in_two_processes(town: Town, care: str) -> list[str]:
    """What two processes see that have both decided before either has appended its answer."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", READER, town.url, town.now.isoformat(), care, str(town.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "decided\n"
    seen = []
    for process in running:
        said, errors = process.communicate("go on\n" * 9, timeout=60)
        assert process.returncode == 0, errors
        seen.append(said.splitlines()[-1])
    return sorted(seen)


def test_two_processes_never_share_the_last_use(one_use: Town) -> None:
    assert read_in_two_processes(one_use, "careful") == ["", "m1"]
    one_use.reopen()
    assert len(one_use.views()["consumed"]) == 1
    one_use.hub.audit.verify()


def test_without_the_confirming_step_two_processes_would_share_it(one_use: Town) -> None:
    assert read_in_two_processes(one_use, "careless") == ["m1", "m1"]


def test_an_emergency_that_was_over_when_it_came_ends_no_earlier_than_it_began(town: Town) -> None:
    over = town.now - timedelta(hours=1)
    town.tell("emergency.declared", emergency="old", areas=["07202"], until=over, hazard="flood")
    [row] = town.hub.audit.emergencies()
    assert (row["state"], row["since"], row["until"]) == ("ended", timestamp(over), timestamp(over))
