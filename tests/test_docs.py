"""Docs fail like code: commands, settings, kinds, rules and the glossary are checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from hub import cli
from hub.cli import opening
from hub.scenario import load
from hub.schemas import packaged
from hub.web import access

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
RULES = (ROOT / "docs" / "rules.md").read_text()
NUMBERS = ["R1", "R1a", *(f"R{n}" for n in range(2, 10)), "R9a", *(f"R{n}" for n in range(10, 23))]


def commands() -> list[str]:
    """Every command, as it is typed after `hub`."""
    group = typer.main.get_command(cli.app)
    found = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [f"{name} {sub}" for sub in inner] if inner else [name]
    return found


def rows(text: str) -> list[list[str]]:
    """The cells of every table row that is no separator."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]


@pytest.mark.parametrize("command", commands())
def test_the_readme_names_every_command(command: str) -> None:
    assert f"`hub {command}" in README


def test_the_readme_names_no_command_that_does_not_exist() -> None:
    typed = set(re.findall(r"(?:\.venv/bin/|`)hub ([a-z][a-z-]*)", README))
    assert typed <= {command.split()[0] for command in commands()}


@pytest.mark.parametrize(
    "setting", [name for name in vars(opening).values() if isinstance(name, str) and name.startswith("HUB_")]
)
def test_the_readme_names_every_setting(setting: str) -> None:
    assert f"`{setting}`" in README


def test_the_readme_names_every_room() -> None:
    rooms = {path.stem for path in (ROOT / "src" / "hub").iterdir() if path.suffix == ".py" or path.is_dir()}
    rooms -= {"__init__", "__pycache__"}
    assert {room for room in rooms if not re.search(rf"`[^`\n]*\b{room}\b[^`\n]*`", README)} == set()


def test_the_glossary_has_no_hole() -> None:
    found = rows(GLOSSARY)
    assert len(found) > 100
    assert [row for row in found if not all(row)] == []


@pytest.mark.parametrize("kind", [kind.name for kind in packaged()])
def test_the_glossary_names_every_kind(kind: str) -> None:
    assert f"`{kind}`" in GLOSSARY


@pytest.mark.parametrize("number", NUMBERS)
def test_every_rule_is_told_in_english_and_japanese(number: str) -> None:
    section = re.search(rf"^## {number} (.*?)(?=^## |\Z)", RULES, re.M | re.S)
    assert section
    japanese = re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", section[1])
    english = re.findall(r"\b[a-z]{3,}\b", section[1])
    assert len(japanese) > 30
    assert len(english) > 15


def test_the_rules_name_every_vector() -> None:
    titles = [s["title"] for path in sorted((ROOT / "tests" / "scenarios").glob("*.yaml")) for s in load(path)[1]]
    assert [title for title in titles if title not in RULES] == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_locks_pin_every_package_by_hash_and_name_no_registry(name: str) -> None:
    lock = (ROOT / name).read_text()
    pins = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9#]|\Z)", lock, re.M | re.S)
    assert pins
    assert [pin for pin in pins if "--hash=sha256:" not in pin or "==" not in pin] == []
    assert "://" not in lock


def test_the_page_of_access_shows_the_table() -> None:
    page = (ROOT / "docs" / "access.md").read_text()
    for table in (access._ROUTES, access._KINDS):
        assert table.strip("\n") in page
