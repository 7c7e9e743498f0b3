"""Store and forward: kept while the hub is away, sent once it is back, the urgent first, nothing lost, nothing doubled.

With real processes, killed: tests/servers/test_forwarding.py.
"""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from doors import cloudevent
from hub.errors import Busy, Misuse
from hub.forwarding.door import Door, keep, listen
from hub.forwarding.drain import Drain
from hub.forwarding.outbox import Outbox, rank_of
from hub.web.access import NOT_THEIRS
from hub.web.cloudevents import ndjson
from sources import Source, source

NOW = datetime(2026, 6, 2, tzinfo=UTC)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.sqlite3")
    yield box
    box.close()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("a.b.c\n")
    return path


def put(outbox: Outbox, *events: dict[str, Any]) -> list[str]:
    return [row["status"] for row in keep(outbox, ndjson(b"\n".join(json.dumps(e).encode() for e in events)), NOW)]


def order(outbox: Outbox) -> list[str]:
    return [waiting.id for waiting in outbox.next(1_000, 10**9)]


def ping(id: str, person: str = "hanako") -> dict[str, Any]:
    return cloudevent("location.reported", id, person, lat_deg=37.5, lon_deg=139.9, accuracy_m=5)


def answered(*statuses: str, error: dict[str, str] | None = None) -> Callable[[str], Any]:
    rows = [{"id": "x", "status": status} | ({"error": error} if error else {}) for status in statuses]
    return lambda path: (200, {}, json.dumps({"results": rows}).encode())


@contextmanager
def hub(*answers: Callable[[str], Any]) -> Iterator[Source]:
    with source(*answers) as here:
        yield here


def test_the_urgent_leave_first_and_pings_last(outbox: Outbox) -> None:
    put(
        outbox,
        ping("p"),
        cloudevent("profile.updated", "u", "hanako"),
        cloudevent("safety.answered", "s", "hanako", status="safe"),
        cloudevent("block.added", "b", "taro", to={"class": "x"}),
    )
    assert order(outbox) == ["s", "b", "u", "p"]


def test_a_revocation_does_not_overtake_the_grant_that_it_revokes(outbox: Outbox) -> None:
    """Before it, it would revoke nothing, and the grant would stand for ever (R1a, R4)."""
    put(
        outbox,
        ping("p"),
        cloudevent("person.enrolled", "e", "hanako", areas=["07202"]),
        cloudevent("consent.granted", "g", "hanako", grant="g1"),
        cloudevent("consent.granted", "other", "taro", grant="g2"),
    )
    revoked = cloudevent("consent.revoked", "r", "hanako", grant="g1")
    put(outbox, revoked, cloudevent("consent.granted", "later", "hanako", grant="g3"))
    assert order(outbox) == ["e", "g", "r", "other", "later", "p"]


def test_an_urgent_fact_does_not_overtake_the_enrolment_of_its_person(outbox: Outbox) -> None:
    put(
        outbox,
        cloudevent("person.enrolled", "e", "hanako", areas=["07202"]),
        cloudevent("safety.answered", "s", "hanako", status="need_help"),
    )
    assert order(outbox) == ["e", "s"]


def test_the_end_of_an_override_does_not_overtake_its_beginning(outbox: Outbox) -> None:
    """Closed before it is opened, it would stay open for its 72 hours."""
    put(
        outbox,
        ping("p"),
        cloudevent("override.opened", "o", None, override="o1", recipient="city"),
        cloudevent("override.opened", "other", None, override="o2", recipient="city"),
        cloudevent("override.closed", "c", None, override="o1"),
    )
    assert order(outbox) == ["o", "c", "other", "p"]


def test_the_same_event_is_kept_once_and_other_content_under_its_id_refused(outbox: Outbox) -> None:
    answer = cloudevent("safety.answered", "s", "hanako", status="safe")
    assert put(outbox, answer, answer) == ["kept", "duplicate"]
    assert put(outbox, cloudevent("safety.answered", "s", "hanako", status="injured")) == ["rejected"]
    assert len(order(outbox)) == 1


def test_what_is_no_event_is_told_at_once(outbox: Outbox) -> None:
    rows = keep(outbox, ndjson(b'{"id": "x"}\nno json'), NOW)
    assert [(row["status"], row["error"]["path"]) for row in rows] == [("rejected", "specversion"), ("rejected", "")]


def test_it_is_full_before_anything_is_dropped(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "small.sqlite3", most=2)
    assert put(outbox, ping("a"), ping("b")) == ["kept", "kept"]
    with pytest.raises(Busy, match="holds 2 events"):
        put(outbox, ping("c"))
    assert put(outbox, ping("a")) == ["duplicate"]
    outbox.settle([outbox.next(1, 10**6)[0].number], [])
    assert put(outbox, ping("c")) == ["kept"]
    assert order(outbox) == ["b", "c"]
    outbox.close()


def test_the_file_is_its_owners_alone(outbox: Outbox, tmp_path: Path) -> None:
    put(outbox, ping("a"))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("outbox*")}
    assert modes == {0o600}


def test_one_process_drains_it(outbox: Outbox, tmp_path: Path) -> None:
    outbox.claim()
    other = Outbox(tmp_path / "outbox.sqlite3")
    with pytest.raises(Misuse, match="another hub forward"):
        other.claim()
    other.close()


def test_what_the_hub_takes_leaves_and_what_it_refuses_stays_with_the_reason(outbox: Outbox, token: Path) -> None:
    put(outbox, ping("a"), ping("b"), ping("c"), ping("d"))
    rows = [{"id": "a", "status": "accepted"}, {"id": "b", "status": "duplicate"}, {"id": "c", "status": "waiting"}]
    rows.append({"id": "d", "status": "rejected", "error": {"path": "lat_deg", "reason": "is no number"}})
    with hub(lambda path: (200, {}, json.dumps({"results": rows}).encode())) as here:
        drain = Drain(outbox, here.url, token)
        sent = drain.once()
        assert (sent.taken, sent.refused, sent.error) == (3, 1, None)
        assert drain.once() is None
        drain.close()
    assert here.headers[0]["authorization"] == "Bearer a.b.c"
    state = outbox.state()
    assert (state.waiting, state.refused) == (0, [("d", "location.reported", "lat_deg: is no number")])
    assert outbox.retry() == 1
    assert order(outbox) == ["d"]


@pytest.mark.parametrize(
    ("answer", "told", "least_s"),
    [
        (lambda path: (503, {"Retry-After": "7"}, b""), "answers 503", 7),
        (lambda path: None, "cannot be reached", 1),
        (lambda path: (401, {}, b""), "answers 401", 1),
        (lambda path: (200, {}, b"<html>"), "is not that of a hub", 1),
        (lambda path: (200, {}, b'{"results": []}'), "is not that of a hub", 1),
        (lambda path: (200, {}, b'{"results": [{"id": "a"}]}'), "is not that of a hub", 1),
    ],
    ids=["busy", "gone", "token", "no hub", "too few", "no status"],
)
def test_where_sending_fails_everything_stays(
    outbox: Outbox, token: Path, answer: Any, told: str, least_s: float
) -> None:
    put(outbox, ping("a"))
    with hub(answer) as here:
        drain = Drain(outbox, here.url, token)
        waits = []
        for _ in range(2):
            sent = drain.once()
            assert told in sent.error
            waits.append(sent.wait_s)
        drain.close()
    assert waits[0] >= least_s
    assert waits[1] >= waits[0] or least_s > 1
    assert order(outbox) == ["a"]


def test_what_the_bearer_may_not_append_holds_up_nothing_else_and_is_tried_again(outbox: Outbox, token: Path) -> None:
    put(outbox, cloudevent("safety.answered", "foreign", "hanako", source="another", status="safe"), ping("a"))
    put(outbox, cloudevent("safety.answered", "urgent", "hanako", status="safe"))
    theirs = False

    def answer(path: str) -> Any:
        rows = []
        for line in here.bodies[-1].split(b"\n"):
            name, refusal = json.loads(line)["id"], {"reason": NOT_THEIRS, "rule": "R16"}
            foreign = name == "foreign" and not theirs
            said = {"status": "rejected", "error": refusal} if foreign else {"status": "accepted"}
            rows.append({"id": name, **said})
        return (200, {}, json.dumps({"results": rows}).encode())

    with hub(answer) as here:
        drain = Drain(outbox, here.url, token)
        first = drain.once()
        assert (first.taken, first.refused, first.wait_s) == (2, 0, 0)
        assert "may not append" in first.error
        assert order(outbox) == ["foreign"]
        put(outbox, ping("later"))
        assert order(outbox) == ["later", "foreign"]
        assert drain.once().taken == 1
        waits = [drain.once().wait_s for _ in range(2)]
        assert 1 <= waits[0] < waits[1]
        assert (outbox.state().urgent, outbox.state().refused_count) == (1, 0)
        theirs = True  # the operator mends the token
        assert drain.once().taken == 1
        drain.close()


def test_a_full_disk_ends_no_sending(outbox: Outbox, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(outbox, ping("a"))
    settle, sent = outbox.settle, []

    def full(*_: Any) -> None:
        monkeypatch.setattr(outbox, "settle", settle)
        raise OperationalError("", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(outbox, "settle", full)
    with hub(answered("accepted"), answered("duplicate")) as here:
        drain = Drain(outbox, here.url, token)
        drain.run(threading.Event(), sent.append, until_empty=True)
        drain.close()
    assert ["see the disk" in (one.error or "") for one in sent] == [True, False]
    assert outbox.state().waiting == 0


def test_a_day_that_a_proxy_asks_for_is_not_waited(outbox: Outbox, token: Path) -> None:
    put(outbox, ping("a"))
    with hub(lambda path: (503, {"Retry-After": "86400"}, b"")) as here:
        drain = Drain(outbox, here.url, token)
        assert drain.once().wait_s == 600
        drain.close()


def test_a_batch_that_is_too_large_is_sent_in_smaller_ones_and_a_poisoned_event_alone(
    outbox: Outbox, token: Path
) -> None:
    put(outbox, ping("a"), ping("b"), ping("poison"), ping("c"))
    sizes = []

    def answer(path: str) -> Any:
        body = here.bodies[-1]
        names = [json.loads(line)["id"] for line in body.split(b"\n")]
        sizes.append(len(names))
        if "poison" in names:
            return (413, {}, b'{"type": "urn:saigai-hub:problem:too-large"}')
        return (200, {}, json.dumps({"results": [{"id": n, "status": "accepted"} for n in names]}).encode())

    with hub(answer) as here:
        drain = Drain(outbox, here.url, token)
        while (sent := drain.once()) is not None:
            assert sent.wait_s == 0
        drain.close()
    state = outbox.state()
    assert (state.waiting, [row[0] for row in state.refused]) == (0, ["poison"])
    assert sizes[0] == 4


def test_a_hub_that_is_not_reached_over_tls_or_on_this_machine_is_not_told(outbox: Outbox, token: Path) -> None:
    for url in ("http://hub.example", "ftp://x", "https://u:p@hub.example", "hub.example"):
        with pytest.raises(Misuse):
            Drain(outbox, url, token)


def test_the_door_is_for_this_machine_and_its_key(outbox: Outbox, tmp_path: Path) -> None:
    for address in ("0.0.0.0:1", "10.0.0.1:80", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"):
        with pytest.raises(Misuse):
            listen(address)
    (tmp_path / "short").write_text("short")
    with pytest.raises(Misuse, match="less than 16"):
        Door(outbox, tmp_path / "short", lambda: NOW)


def test_put_status_retry_and_drop(hub_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = tmp_path / "box.sqlite3"
    monkeypatch.setenv("HUB_OUTBOX", str(box))
    assert hub_main("forward", "status").status == 2
    lines = [json.dumps(ping("a")), "", json.dumps(cloudevent("safety.answered", "s", "hanako", status="safe")), "bad"]
    (tmp_path / "events").write_text("\n".join(lines))
    said = hub_main("forward", "put", tmp_path / "events")
    assert (said.status, said.out) == (1, "2 kept, 0 here already, 1 rejected\n")
    assert "event 3: is no JSON" in said.err
    assert json.loads(hub_main("forward", "status", "--json").out)["waiting"] == {"urgent": 1, "usual": 0, "pings": 1}
    (tmp_path / "token").write_text("x.y.z")
    refusal = {"path": "status", "reason": "is none of them", "rule": "R8"}
    with hub(answered("accepted", "rejected", error=refusal)) as here:
        url = here.url
        said = hub_main("forward", "run", "--to", url, "--token-file", tmp_path / "token", "--once")
    assert (said.status, said.out) == (0, "1 events were refused by the hub: hub forward status\n")
    said = hub_main("forward", "status")
    assert "1 refused by the hub" in said.out
    assert "location.reported  a: status: is none of them: R8" in said.out
    said = hub_main("forward", "run", "--to", url, "--token-file", tmp_path / "token", "--once")
    assert said.status == 0, "nothing waits"
    assert hub_main("forward", "retry").out == "1 events wait again.\n"
    said = hub_main("forward", "run", "--to", url, "--token-file", tmp_path / "token", "--once")
    assert (said.status, "Not sent: the hub cannot be reached" in said.out) == (1, True)
    assert "Not sent:" in hub_main("forward", "status").out


def test_the_ranks_of_kinds() -> None:
    from hub.web.cloudevents import events_of

    def rank(kind: str) -> int:
        [event] = events_of(json.dumps(cloudevent(kind, "x", "hanako")).encode())
        return rank_of(event)

    assert [rank(k) for k in ("consent.revoked", "fact.retracted", "safety.answered", "consent.granted")] == [
        0,
        0,
        0,
        1,
    ]
    assert rank("location.reported") == 2


def test_tokens_are_read_anew(outbox: Outbox, token: Path) -> None:
    put(outbox, ping("a"))
    with hub(lambda path: (401, {}, b""), answered("accepted")) as here:
        drain = Drain(outbox, here.url, token)
        drain.once()
        token.write_text("d.e.f")
        assert drain.once().taken == 1
        drain.close()
    assert [said["authorization"] for said in here.headers] == ["Bearer a.b.c", "Bearer d.e.f"]
