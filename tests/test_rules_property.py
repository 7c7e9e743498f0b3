"""The rules held against the naive reading, on random worlds.

The same steps go to `hub.scenario.World`, which is the real intake, log, views and disclosure, and to
`Naive`, which reads RULES.md by itself. Every outcome and every sight must be the same. What differs
is printed as a scenario that can be saved and played by `hub scenario`, with what the naive reading
wants; which of the two is right is for RULES.md to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import worlds
from hub.scenario import World
from naive import Naive, Sight
from worlds import Step, Story

PARTS = [range(part, 72, 6) for part in range(6)]
LEAST_OUT = 250
PAIRS = worlds.few(range(8))
MOST_TRIES = 120
DIFFERENT = "The hub and the naive reading differ"


class Differs(AssertionError):
    """The two readings gave different answers to the last of these steps."""


def plain(outcome: Any) -> Any:
    """An outcome as it is; a sight as three plain dictionaries, whoever's class it is."""
    if isinstance(outcome, str):
        return outcome
    return {
        "sees": {person: sorted(facts) for person, facts in outcome.sees.items()},
        "because": {fact: tuple(basis) for fact, basis in outcome.because.items()},
        "precision": dict(outcome.precision),
    }


def wanted(step: Step, outcome: Any) -> Step:
    """The step as a scenario writes it, with what the naive reading says of it."""
    if "kind" in step:
        return {**step, "refused": True} if outcome == "refused" else step
    name = "read" if "read" in step else "expect"
    sight = plain(outcome)
    sight["because"] = {fact: dict([basis]) for fact, basis in sight["because"].items()}
    return {**step, name: {**step[name], **sight}}


def scenario(title: str, steps: Iterable[Step]) -> str:
    """A scenario file with the steps and what the naive reading wants of each."""
    hub = Naive()
    return worlds.as_yaml(title, [wanted(step, worlds.play(hub, step)) for step in steps])


class Pair:
    """The hub and the naive reading, given the same steps. Counts the decisions that let something out."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.naive = Naive()
        self.steps: list[Step] = []
        self.decisions = 0
        self.out = 0

    def play(self, step: Step) -> None:
        """One step to both; raises `Differs` at the first difference."""
        self.steps.append(step)
        right = plain(worlds.play(self.naive, step))
        got = plain(worlds.play(self.world, step))
        if "kind" not in step:
            self.decisions += 1
            self.out += bool(right["sees"])
        if got != right:
            raise Differs(f"step {len(self.steps)}, {step}:\n  naive: {right}\n  hub:   {got}")


def differs(steps: list[Step]) -> str | None:
    """How the two readings differ on these steps, if they do."""
    with World.fresh() as world:
        pair = Pair(world)
        try:
            for step in steps:
                pair.play(step)
        except Differs as difference:
            return str(difference)
    return None


def shrunk(steps: list[Step]) -> list[Step]:
    """Fewer steps on which they still differ: ever smaller pieces left out, within a number of tries."""
    tries, size = MOST_TRIES, len(steps) // 2
    while size and tries:
        start = 0
        while start < len(steps) and tries:
            fewer, tries = steps[:start] + steps[start + size :], tries - 1
            if differs(fewer):
                steps = fewer
            else:
                start += size
        size //= 2
    return steps


def explained(title: str, difference: str, steps: list[Step]) -> str:
    """What to read when a world shows a difference: where, and the world, as small as it could be made."""
    small = shrunk(steps) if differs(steps) else steps
    return f"{DIFFERENT}, {title}. {differs(small) or difference}\n\n{scenario(title, small)}"


# (b) Many whole worlds, always the same ones.


def whole_world(seed: int) -> tuple[int, int]:
    """Plays a world, with questions as of earlier positions and a rebuild; decisions, and how many showed
    something."""
    rng = Random(seed)
    with World.fresh() as world:
        pair = Pair(world)
        steps = worlds.looking_back(seed, worlds.world(seed), lambda: len(pair.naive.log))
        try:
            for step in steps:
                pair.play(step)
                if rng.random() < 0.01:
                    world.rebuild()
            world.rebuild()
            ask_everything_again(pair)
        except Differs as difference:
            found = str(difference)
        else:
            return pair.decisions, pair.out
    pytest.fail(explained(f"world {seed}", found, pair.steps), pytrace=False)


def ask_everything_again(pair: Pair) -> None:
    """The last questions once more, now at the end."""
    questions = [step.get("read") or step["expect"] for step in pair.steps if "kind" not in step]
    at = max(step["at"] for step in map(in_one_zone, pair.steps))
    for query in questions[-6:]:
        pair.play({"at": at, "expect": query})


def in_one_zone(step: Step) -> Step:
    """The step with its time written in the story's zone, so that times sort as text."""
    return {**step, "at": worlds.when(step).astimezone(worlds.JST).isoformat(timespec="milliseconds")}


@pytest.mark.parametrize("seeds", PARTS, ids=str)
def test_the_hub_reads_the_rules_as_the_naive_reading_does(seeds: range) -> None:
    """Some 7,000 decisions in all; every run plays all of the worlds, since a third of them overlooks some boundaries.
    Should the worlds ever let out too little, they prove too little."""
    decisions, out = (sum(counts) for counts in zip(*map(whole_world, seeds), strict=True))
    assert out >= LEAST_OUT, f"{out} of {decisions} decisions let something out"
    assert out >= decisions // 4, f"{out} of {decisions} decisions let something out"


# (a) Step by step, with hypothesis to find a short story.


class TwoReadings(RuleBasedStateMachine):
    """One story told to both readings; after every step they say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms = ExitStack()
        self.pair = Pair(self.rooms.enter_context(World.fresh()))
        self.story = Story()

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """One pair of dice for the story: those that hypothesis throws itself fall on small numbers, so
        that hardly any grant would meet a fact."""
        self.rng = Random(f"story {seed}")
        self.tell(self.story.prelude(self.rng))

    @rule(count=st.integers(1, 4))
    def events(self, count: int) -> None:
        self.tell([self.story.event(self.rng) for _ in range(count)])

    @rule()
    def a_question(self) -> None:
        self.tell([self.story.question(self.rng)])

    @rule(share=st.floats(0, 1))
    def a_question_as_of_earlier(self, share: float) -> None:
        head = len(self.pair.naive.log)
        position = head - int(share * (head // 2))
        self.tell([{"at": self.end(), "expect": {**self.story.query(self.rng), "as_of": position}}])

    @rule()
    def a_rebuild(self) -> None:
        self.pair.world.rebuild()

    def end(self) -> str:
        """The story's clock, never before the last step's."""
        return self.story.now.isoformat()

    def tell(self, steps: list[Step]) -> None:
        """The steps to both."""
        try:
            for step in steps:
                self.pair.play(step)
        except Differs as difference:
            pytest.fail(explained("a story", str(difference), self.pair.steps), pytrace=False)

    def teardown(self) -> None:
        self.rooms.close()


TestTwoReadings = TwoReadings.TestCase
TestTwoReadings.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.generate,),  # `shrunk` is quicker, since it leaves out steps and not dice
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


# (c) What one may not see changes no byte of what one gets (R20).


class Witness:
    """Two hubs with their naive readings: the second also hears the steps that concern someone else."""

    def __init__(self, one: Any, other: Any) -> None:
        self.one, self.other = one, other
        self.right, self.right_other = Naive(), Naive()
        self.alike = self.shown = self.asked = self.added = 0

    def play(self, step: Step, added: bool) -> None:
        """One step; a question is asked of both before it is answered and logged."""
        if "kind" not in step:
            self.compare(worlds.when(step), step.get("read") or step["expect"])
        outcomes = [worlds.play(self.other, step), worlds.play(self.right_other, step)]
        if not added:
            outcomes += [worlds.play(self.one, step), worlds.play(self.right, step)]
        assert plain(outcomes[0]) == plain(outcomes[1]), f"{DIFFERENT} on {step}"

    def compare(self, at: datetime, query: dict[str, Any]) -> None:
        """If the recipient may see the same in both, the bytes are the same, and their number too."""
        one, other = (naive.expect(at, **query) for naive in (self.right, self.right_other))
        self.asked += 1
        if one != other or self.modes(self.right, at, one) != self.modes(self.right_other, at, other):
            return
        self.alike += 1
        self.shown += bool(one.sees)
        for history in (True, False):
            got, got_other = (hub.answer(at, history=history, **query) for hub in (self.one, self.other))
            assert isinstance(got, bytes)
            assert got == got_other, f"R20: {query} at {at}, history={history}:\n{got!r}\n{got_other!r}"

    def modes(self, naive: Naive, at: datetime, sight: Sight) -> dict[str, str]:
        """The modes of the persons shown, which the answer tells."""
        return {person: naive.mode(at, person) for person in sight.sees}


def witnessed(seed: int) -> Witness:
    """Plays a world twice, the second time with what is unseen."""
    with World.fresh() as one, World.fresh() as other:
        witness = Witness(one, other)
        for step, added in worlds.unseen(seed, worlds.world(1000 + seed)):
            witness.play(step, added)
        witness.added = len(witness.right_other.log) - len(witness.right.log)
    return witness


def test_what_a_recipient_may_not_see_changes_no_byte_of_the_answer() -> None:
    witnesses = [witnessed(seed) for seed in PAIRS]
    asked, alike, shown = (sum(getattr(w, name) for w in witnesses) for name in ("asked", "alike", "shown"))
    assert sum(w.added for w in witnesses) >= 25 * len(witnesses), "too little was added"
    assert alike >= asked // 2, f"only {alike} of {asked} questions could be compared"
    assert shown >= 12 * len(PAIRS), f"only {shown} of them showed something"


def test_an_answer_to_nobody_known_is_like_one_to_nobody_shown() -> None:
    """R20: with no person at all, with one who granted nothing, with one erased: the same bytes."""
    start, later = worlds.DAWN, worlds.DAWN + timedelta(hours=1)
    recipient = {**worlds.RECIPIENTS["aizu-city"], "recipient": "aizu-city", "purposes": ["rescue"]}
    answers = []
    for persons in ([], ["hanako"], ["hanako", "taro"]):
        with World.fresh() as world:
            world.append(start, "kind.introduced", {"kind": "safety.answered"})
            world.append(start, "recipient.registered", recipient)
            for person in persons:
                world.append(start, "person.enrolled", {"person": person, "areas": ["07202"]})
                world.append(start, "safety.answered", {"person": person, "status": "safe"}, f"f {person}")
            if "taro" in persons:
                world.append(start, "person.erased", {"person": "taro"})
            answers.append(world.answer(later, "aizu-city", "rescue"))
    assert len(set(answers)) == 1
