"""The rules by example, through the real intake, log, views and disclosure."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.scenario import load, play

FOLDER = Path(__file__).parent / "scenarios"
FILES = sorted(FOLDER.glob("*.yaml"))
RULES = {f"R{number}" for number in range(1, 23)} | {"R1a", "R9a"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_step_comes_out_as_written(path: Path) -> None:
    played = list(play(path))
    assert played
    assert [str(difference) for _, found in played for difference in found] == []


def test_every_rule_has_a_world() -> None:
    shown = {rule for path in FILES for scenario in load(path)[1] for rule in scenario["rules"]}
    assert shown == RULES


def test_a_wrong_expectation_is_told_with_title_step_wanted_and_got(tmp_path: Path) -> None:
    world, [scenario, *_] = load(FOLDER / "grants.yaml")
    text = (FOLDER / "grants.yaml").read_text().split("---")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text[0] + "---" + text[1].replace("sees: {}", "sees: {hanako: [l1]}"))

    [(title, [difference])] = play(wrong)

    assert title == scenario["title"]
    assert difference.step == len(world) + 2
    assert difference.wanted == "sees hanako: l1"
    assert difference.got == "sees nobody"


def test_an_event_that_should_have_been_refused_is_a_difference(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        'world:\n- {at: "2026-06-01T08:00:00+09:00", kind: kind.introduced, refused: true, '
        "data: {kind: safety.answered}}\n---\ntitle: too strict\nrules: [R1a]\nsteps: []\n"
    )

    [(_, [difference])] = play(wrong)

    assert difference.wanted == "kind.introduced is refused"
    assert difference.got == "accepted"
