"""R20 over HTTP: two worlds that differ only in what a recipient may not see answer with equal bytes.

Over formats, pages, cursors, tags and errors. What is random in every answer (the disclosure's id, sealed
positions and cursors) is compared by its form alone.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from datetime import datetime, timedelta
from random import Random
from typing import Any

import worlds
from doors import Client, Reply, WebWorld
from test_rules_property import Witness

PAIRS = worlds.few(range(3))
FORMATS = ("application/json", "application/geo+json", "text/csv")
RANDOM = ("hub-disclosure", "hub-position")
_REF = re.compile(rb'(?<=")[0-9a-f]{32}(?=")')
_TOKEN = re.compile(rb'("next":)"([0-9a-f]+)"')


def plainly(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """An answer without what is random in it: of that the length alone."""
    headers = {name: str(len(value)) if name in RANDOM else value for name, value in reply.headers.items()}
    body = _TOKEN.sub(lambda found: found[1] + str(len(found[2])).encode(), reply.body)
    return reply.status, headers, _REF.sub(b"ref", body)


class WebWitness(Witness):
    """Two hubs behind two servers."""

    pages = errors = reads = messages = told = 0

    def play(self, step: dict[str, Any], added: bool) -> None:
        super().play(step, added)
        if "read" in step and not added and self.comparable:
            assert plainly(self.one.reply) == plainly(self.other.reply), f"R20: {step}"
            self.reads += 1

    def compare(self, at: datetime, query: dict[str, Any]) -> None:
        before = self.alike
        if not self.set_back(at):
            super().compare(at, query)
        self.comparable = self.alike > before
        if not self.comparable:
            return
        asked = {name: query.get(name) for name in ("purpose", "kinds", "exercise")}
        for form in FORMATS:
            self.alike_in(at, query["recipient"], asked, form)
        self.page_by_page(at, query["recipient"], asked)
        for wrong in ({"cursor": "00"}, {"area": "x"}, {"persons": ["nobody"]}, {"kinds": ["no kind"]}, {"limit": 0}):
            self.alike_in(at, query["recipient"], asked | wrong, FORMATS[0])
            self.errors += 1

    def feeds(self, seed: int) -> None:
        """Feeds of every recipient, to rest; then again, after more of what is unseen happened in one of the worlds."""
        rng = Random(f"feeds {seed}")
        at = max(world.clock.now() for world in (self.one, self.other)) + timedelta(hours=1)
        for world in (self.one, self.other):
            world.clock.set(at)
        for number, recipient in enumerate(worlds.RECIPIENTS):
            asked = {"purpose": "rescue", "limit": 2}
            since: list[str | None] = [None, None]
            for turn in range(3):
                query = {"recipient": recipient, "purpose": "rescue"}
                one, other = (naive.expect(at, **query) for naive in (self.right, self.right_other))
                if one != other or self.modes(self.right, at, one) != self.modes(self.right_other, at, other):
                    break
                while True:
                    path = f"/v1/views/{recipient}/changes"
                    replies = [
                        world.client.get(path, since=token, **asked)
                        for world, token in zip((self.one, self.other), since, strict=True)
                    ]
                    assert plainly(replies[0]) == plainly(replies[1]), f"R20: a message to {recipient}, turn {turn}"
                    self.messages += 1
                    self.told += len(replies[0].json["persons"])
                    since = [reply.json["next"] for reply in replies]
                    if not replies[0].json["more"]:
                        break
                for extra in range(3):
                    kind, data, name = worlds.added(rng, 1_000 + 100 * number + 10 * turn + extra)
                    step = {"at": at.isoformat(), "kind": kind, "data": data}
                    self.play({**step, "id": name} if name else step, True)

    def set_back(self, at: datetime) -> bool:
        """Whether one of the logs has gone on already: then t is its last event's time (R1), and says so."""
        for world in (self.one, self.other):
            with world.hub.log.entries.snapshot() as (_, end):
                if max(end.recorded_at or at, world.clock.now()) > at:
                    return True
        return False

    def alike_in(self, at: datetime, recipient: str, asked: dict[str, Any], form: str) -> list[Reply]:
        replies = [world.replayed(at, recipient, asked, accept=form) for world in (self.one, self.other)]
        assert plainly(replies[0]) == plainly(replies[1]), f"R20: {asked} at {at} as {form}"
        return replies

    def page_by_page(self, at: datetime, recipient: str, asked: dict[str, Any]) -> None:
        cursors: list[str | None] = [None, None]
        while True:
            replies = [
                world.replayed(at, recipient, {**asked, "limit": 1, "cursor": cursor})
                for world, cursor in zip((self.one, self.other), cursors, strict=True)
            ]
            assert plainly(replies[0]) == plainly(replies[1]), f"R20: a page of {asked} at {at}"
            self.pages += 1
            cursors = [reply.json["next"] for reply in replies]
            if cursors[0] is None:
                return


def witnessed(seed: int) -> WebWitness:
    """Plays a world twice, the second time with what is unseen."""
    with ExitStack() as rooms:
        witness = WebWitness(*(rooms.enter_context(WebWorld.fresh(server)) for server in range(2)))
        for step, added in worlds.unseen(seed, worlds.world(2000 + seed, length=70)):
            witness.play(step, added)
        witness.added = len(witness.right_other.log) - len(witness.right.log)
        witness.feeds(seed)
    return witness


def test_what_a_recipient_may_not_see_changes_no_byte_of_any_answer() -> None:
    witnesses = [witnessed(seed) for seed in PAIRS]
    names = ("added", "alike", "shown", "pages", "errors", "reads", "messages", "told")
    counted = {name: sum(getattr(witness, name) for witness in witnesses) for name in names}
    assert counted["added"] >= 15 * len(witnesses), "too little was added"
    assert counted["shown"] >= 3 * len(witnesses), counted
    assert counted["pages"] > counted["alike"] >= 16 * len(witnesses), counted
    assert counted["errors"], counted
    assert counted["reads"], counted
    assert counted["messages"] >= 5 * len(witnesses), counted
    assert counted["told"], counted


def test_whoever_asks_for_nobody_is_answered_as_for_somebody_who_shows_nothing() -> None:
    """An id that was never enrolled, one that granted nothing, one that was erased: the same answer."""
    with WebWorld.fresh() as world:
        at = worlds.DAWN
        recipient = {**worlds.RECIPIENTS["aizu-city"], "recipient": "aizu-city", "purposes": ["rescue"]}
        world.append(at, "kind.introduced", {"kind": "safety.answered"})
        world.append(at, "recipient.registered", recipient)
        for person in ("hanako", "taro"):
            world.append(at, "person.enrolled", {"person": person, "areas": ["07202"]})
            world.append(at, "safety.answered", {"person": person, "status": "safe"}, f"f {person}")
        world.append(at, "person.erased", {"person": "taro"})
        answers = [
            plainly(view(world.client, persons=[person], purpose="rescue")) for person in ("nobody", "hanako", "taro")
        ]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] == 200
        lists = [world.client.get(f"/v1/persons/{person}/grants") for person in ("nobody", "hanako", "taro")]
        assert {reply.body for reply in lists} == {b'{"grants":[]}'}
        refusals = [
            world.client.event(worlds_fact(person)).body.replace(person.encode(), b"") for person in ("nobody", "taro")
        ]
        assert refusals[0] == refusals[1]


def view(client: Client, **asked: Any) -> Reply:
    return client.get("/v1/views/aizu-city", **asked)


def worlds_fact(person: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "safety.answered",
        "source": "scenario",
        "id": f"later {len(person)}",
        "subject": person,
        "data": {"status": "safe"},
    }
