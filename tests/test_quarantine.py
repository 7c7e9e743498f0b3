"""The quarantine: what was refused is kept sealed, mended, replayed, dropped, and erased with the person."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from conftest import Town
from hub import quarantine
from hub.errors import PayloadError
from hub.log.sealing import Gone, parked_key
from hub.quarantine import KEPT, Refusal
from hub.web.quarantine import translator

SECRET = b"hypertension of Hanako Sato, 090-1234-5678"


def event_payload(id: str, person: str = "hanako", status: str = "safe") -> bytes:
    return (
        f'{{"specversion":"1.0","type":"safety.answered","source":"m","id":"{id}","subject":"{person}",'
        f'"data":{{"status":"{status}"}}}}'
    ).encode()


def refusal(id: str = "s1", person: str | None = "hanako", payload: bytes | None = None, **said: str) -> Refusal:
    return Refusal(
        via=said.get("via", "events"),
        reason="is no status",
        path="status",
        kind="safety.answered",
        source=said.get("source", "m"),
        id=id,
        person=person,
        payload=event_payload(id, status="fine") if payload is None else payload,
    )


def files(town: Town) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(town.folder.rglob("*")) if path.is_file())


@pytest.fixture
def home(town: Town) -> Town:
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    return town


def test_what_was_refused_is_listed_without_its_payload_and_without_the_person(home: Town) -> None:
    home.hub.quarantine.keep([refusal("s1"), refusal("s2", person=None, payload=SECRET)])

    items = home.hub.quarantine.items()

    assert [(i.via, i.kind, i.source, i.path, i.reason, i.count, i.kept) for i in items] == [
        ("events", "safety.answered", "m", "status", "is no status", 1, True)
    ] * 2
    assert "hanako" not in repr(items)


def test_nothing_of_a_payload_can_be_read_in_any_file(home: Town) -> None:
    home.hub.quarantine.keep([refusal(payload=SECRET), refusal("x", person="taro-not-enrolled", payload=SECRET)])
    home.close()

    assert SECRET not in files(home)
    assert b"taro-not-enrolled" not in files(home)
    assert b"hypertension" not in files(home)


def test_the_same_sent_again_is_the_same_item(home: Town) -> None:
    first, again = (home.hub.quarantine.keep([refusal()]) for _ in range(2))

    assert first == again
    assert [item.count for item in home.hub.quarantine.items()] == [2]
    assert len(keys(home)) == 1, "a key was left over"


def keys(town: Town) -> list[str]:
    with town.hub.engines[1].connect() as connection:
        return list(connection.scalars(select(parked_key.c.item)))


def test_a_mended_item_is_taken_and_gone(home: Town) -> None:
    [item] = home.hub.quarantine.keep([refusal()])
    assert home.hub.quarantine.open(item)[2] == event_payload("s1", status="fine")

    [result] = home.hub.quarantine.replay(item, translator(home.hub.plugins), event_payload("s1"))

    assert result.status == "accepted"
    assert home.hub.quarantine.items() == []
    assert keys(home) == []
    with pytest.raises(PayloadError):
        home.hub.quarantine.open(item)


def test_an_item_that_is_refused_again_stays_with_the_new_reason(home: Town) -> None:
    [item] = home.hub.quarantine.keep([refusal("s9", person="nobody", payload=event_payload("s9", "nobody"))])

    [result] = home.hub.quarantine.replay(item, translator(home.hub.plugins))
    assert result.status == "refused"
    assert [i.reason for i in home.hub.quarantine.items()] == ["no such person is enrolled"]

    with pytest.raises(PayloadError):
        home.hub.quarantine.replay(item, translator(home.hub.plugins), b"{")
    assert [i.reason for i in home.hub.quarantine.items()] == ["is no JSON, at line 1, column 2"]

    home.tell("person.enrolled", person="nobody", areas=[])
    [result] = home.hub.quarantine.replay(item, translator(home.hub.plugins))
    assert result.status == "accepted"


def test_what_is_about_a_person_goes_when_they_are_erased(home: Town) -> None:
    home.hub.quarantine.keep([refusal("later", person="taro", payload=SECRET)])
    home.tell("person.enrolled", person="taro", areas=[])
    home.hub.quarantine.keep([refusal("s2", person="taro"), refusal("s1")])

    home.tell("person.erased", person="taro")

    assert [item.item for item in home.hub.quarantine.items()] == [home.hub.quarantine.keep([refusal("s1")])[0]]
    assert len(keys(home)) == 1


def test_of_who_is_erased_nothing_is_kept_but_that_something_was_refused(home: Town) -> None:
    home.tell("person.erased", person="hanako")

    [item] = home.hub.quarantine.keep([refusal("s1", payload=SECRET)])

    assert [(i.item, i.kept, i.reason) for i in home.hub.quarantine.items()] == [(item, False, "is no status")]
    with pytest.raises(PayloadError):
        home.hub.quarantine.open(item)


def test_an_erasure_that_was_cut_off_is_finished_at_the_next_start(home: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    home.hub.quarantine.keep([refusal("s1")])

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(home.hub.commits, "erase", killed)
    with pytest.raises(KeyboardInterrupt):
        home.tell("person.erased", person="hanako")
    assert keys(home)

    home.reopen()

    assert home.hub.quarantine.items() == []
    assert keys(home) == []


def test_a_key_that_is_destroyed_takes_the_payload_with_it(home: Town) -> None:
    [item] = home.hub.quarantine.keep([refusal()])
    home.hub.log.keyring.destroy_parked([item])

    assert home.hub.quarantine.items() == []
    with pytest.raises(PayloadError):
        home.hub.quarantine.open(item)
    with pytest.raises(Gone):
        home.hub.log.keyring.open_parked(item, b"")


def test_it_is_bounded_by_source_by_number_and_by_time(home: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MOST_OF_A_SOURCE", 3)
    monkeypatch.setattr(quarantine, "MOST_ITEMS", 5)
    [quiet] = home.hub.quarantine.keep([refusal("q", source="quiet")])
    for number in range(6):
        home.wait()
        home.hub.quarantine.keep([refusal(f"n{number}", source="noisy")])
    listed = [item.item for item in home.hub.quarantine.items()]
    assert quiet in listed
    assert len(listed) == 4

    for number in range(6):
        home.wait()
        home.hub.quarantine.keep([refusal(f"m{number}", source=f"other {number}")])
    assert len(home.hub.quarantine.items()) == 5

    home.wait(KEPT + timedelta(days=1))
    home.hub.quarantine.keep([refusal("new")])
    assert len(home.hub.quarantine.items()) == 1
    assert len(keys(home)) == 1


def test_a_payload_that_is_too_large_is_not_kept(home: Town) -> None:
    home.hub.quarantine.keep([refusal(payload=b"x" * (quarantine.LARGEST_BYTES + 1))])
    assert [item.kept for item in home.hub.quarantine.items()] == [False]


def test_large_items_are_not_in_memory_all_at_once_to_be_listed(home: Town) -> None:
    home.hub.quarantine.keep(
        refusal(f"n{n}", payload=b"%d" % n + b"x" * (quarantine.LARGEST_BYTES - 9)) for n in range(40)
    )
    tracemalloc.start()
    try:
        assert len(home.hub.quarantine.items()) == 40
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20 * quarantine.LARGEST_BYTES


def test_pages_end_where_the_next_begins(home: Town) -> None:
    for number in range(5):
        home.wait()
        home.hub.quarantine.keep([refusal(f"n{number}")])
    whole = [item.item for item in home.hub.quarantine.items()]
    pages, last = [], None
    while page := home.hub.quarantine.items(limit=2, after=last):
        pages += [item.item for item in page]
        last = page[-1].item
    assert pages == whole


def test_a_page_begins_behind_an_item_that_was_dropped_meanwhile(home: Town) -> None:
    for number in range(3):
        home.wait()
        home.hub.quarantine.keep([refusal(f"n{number}")])
    whole = home.hub.quarantine.items()
    [first] = home.hub.quarantine.items(limit=1)
    home.hub.quarantine.drop(first.item)
    assert home.hub.quarantine.items(after=first) == whole[1:]
    with pytest.raises(PayloadError, match="is no item"):
        home.hub.quarantine.items(after=first.item)


def test_verify_and_rebuild_leave_it_alone(home: Town) -> None:
    home.hub.quarantine.keep([refusal()])
    home.hub.views.rebuild()
    home.hub.audit.verify()
    assert len(home.hub.quarantine.items()) == 1


def test_two_hubs_share_it(home: Town, open_town: Callable[[Path], object]) -> None:
    [item] = home.hub.quarantine.keep([refusal()])
    with open_town(home.folder) as other:  # type: ignore[attr-defined]
        other.clock.set(home.now)
        assert other.hub.quarantine.open(item)[0] == "events"
        other.tell("person.erased", "erased by the other", person="hanako")
    assert home.hub.quarantine.items() == []


def test_what_an_import_refuses_is_kept_and_can_be_replayed(home: Town, tmp_path: Path) -> None:
    from hub.importing import import_files

    bad = tmp_path / "bad.xml"
    bad.write_bytes(b"<Report>" + SECRET)
    assert [done.status for done in import_files(home.hub, home.hub.plugins.find("jma"), [bad])] == ["refused"]

    [item] = home.hub.quarantine.items()
    assert (item.via, item.source) == ("import:jma", "jma")
    with pytest.raises(PayloadError):
        home.hub.quarantine.replay(item.item, translator(home.hub.plugins))
