"""docs/operating.md: its commands run as they stand, its metrics are there, its symptoms are what the hub says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from conftest import Said, Town
from doors import served
from hub.cli.metrics import DeriveFigures, IngestFigures
from hub.log.recorder import metadata

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operating.md").read_text()
SOURCES = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))


def test_the_commands_of_the_page_back_up_restore_and_prove_a_hub(
    hub_main: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for text in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in text.splitlines()]
    assert {shlex.split(line)[1] for line in lines if line.startswith("hub ")} == {
        "init",
        "backup",
        "restore",
        "verify",
    }
    for line in lines:
        program, *arguments = shlex.split(line)
        if program == "hub":
            said = hub_main(*arguments)
            assert said.status == 0, f"{line}: {said.err}"
        elif program == "mkdir":
            Path(arguments[-1]).mkdir()
        else:
            assert program == "cp"
            (tmp_path / arguments[1] / Path(arguments[0]).name).write_text(Path(arguments[0]).read_text())
    found = re.findall(r"[0-9a-f]{64}", hub_main("verify").out)
    assert found == re.findall(r"[0-9a-f]{64}", hub_main("verify", "--database", "sqlite:///restored/hub.sqlite3").out)


def test_each_metric_of_the_page_is_there_and_each_of_the_hub_is_on_the_page(town: Town) -> None:
    with town.hub.log.entries.maintaining() as connection:
        asked = {"name": "village", "due_us": 1, "lease_us": 0, "failures": 0, "done_us": 1, "up_to_us": 1}
        connection.execute(metadata.tables["polled"].insert().values(**asked))
        line = {"name": "hub.events", "position": 0, "updated_us": 1, "holder": "", "fence": 0, "lease_us": 0}
        connection.execute(metadata.tables["relayed"].insert().values(**line, failures=0))
    with served().over(town.hub) as client:
        metrics = served().app.state.door.metrics
        metrics.request("GET", "/v1/places", 200, 1.0)
        metrics.events("accepted", 1)
        metrics.refused("R1a")
        metrics.decided("shown")
        metrics.committed(1, 1)
        text = client.get("/metrics", as_="operator").body.decode()
    commands = DeriveFigures(lambda: 0), IngestFigures(shares=lambda: 0, left=lambda: 0)
    text += "".join(generate_latest(figures.registry).decode() for figures in commands)
    known = {name for name in re.findall(r"^# TYPE (hub_\w+) ", text, re.M) if not name.endswith("_created")}
    watch = PAGE.split("\n## Watch\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`(hub_\w+)(?:\{\w+\})?`", watch))
    assert named <= known
    assert known <= named


@pytest.mark.parametrize(
    "said", [said for row in re.findall(r"^\| (.*?) \|", PAGE, re.M) for said in re.findall(r'"([^"]+)"', row)]
)
def test_each_symptom_that_the_page_quotes_is_what_the_hub_says(said: str) -> None:
    words = said.replace("…", "").strip()
    assert words in SOURCES or any(part in SOURCES for part in said.split(" … ") if len(part) > 20), said


@pytest.mark.parametrize("quoted", re.findall(r'^\*\*"(.*?)"\*\*', PAGE, re.M | re.S))
def test_what_a_restore_says_of_keys_is_called_by_its_own_words(quoted: str) -> None:
    rest = "s are missing, and this log does not say that they were destroyed"
    sources = re.sub(r'"\n\s+f?"', "", SOURCES).lower()
    for part in quoted.replace("\n", " ").strip("….").split(" … "):
        assert part.strip().lower().removesuffix(rest) in sources


def test_the_links_of_the_page_lead_somewhere() -> None:
    headings = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^## (.*)$", PAGE, re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        assert (ROOT / "docs" / path).exists(), target
        if not path:
            assert anchor in headings, target
