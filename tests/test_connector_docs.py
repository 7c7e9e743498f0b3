"""docs/connectors.md leads to a connector that works: its steps and snippets are run as they stand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from hub.conformance import CHECKS
from hub.connector import QUALITY, Polls, Request, Settings, Unsigned, Verifies
from hub.plugins import Plugins, load
from sources import install

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "connectors.md").read_text()


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


PYTHON = {name: next(text for text in snippets("python") if f"class {name}" in text) for name in (
    "Plugin", "TestVillage", "Signed", "Asked",
)}  # fmt: skip


def test_the_ten_minutes_lead_to_a_connector_that_is_installed_and_used(
    hub_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    new, check, *_ = [line for text in snippets("sh") for line in text.splitlines()]
    assert hub_main(*new.split()[1:]).status == 0
    said = hub_main(*check.split()[1:])
    assert said.out.count("ok ") == len(CHECKS) == 9, "`check` prints `ok` nine times"

    package = tmp_path / "village"
    (package / "goldens" / "walks.json").write_text(snippets("json")[0])
    (package / "src" / "hub_connector_village" / "__init__.py").write_text(PYTHON["Plugin"])
    for golden in (package / "goldens").glob("answers.json*"):
        golden.unlink()
    sys.modules.pop("hub_connector_village")
    said = hub_main("connectors", "check", "village", "--write-goldens")
    assert said.status == 0, said.out
    golden = json.loads((package / "goldens" / "walks.json.golden").read_text())
    assert [(event["id"], event["ref"], event["data"]) for event in golden["events"]] == [
        ("walk-7", "u-12", {"status": "at_shelter"}),
    ]  # fmt: skip

    install(monkeypatch, tmp_path / "installed", "village", PYTHON["Plugin"])
    said = hub_main("import", "village", package / "goldens" / "walks.json", "--database", f"sqlite:///{tmp_path}/h.db")
    assert "1 of its facts wait until their id is linked" in said.out
    with (package / "tests" / "test_village.py").open("w") as file:
        file.write(PYTHON["TestVillage"])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "tests")]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)
    assert "9 passed" in done.stdout, done.stdout


def test_the_settings_of_the_page_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "village-needs.toml").write_text("")
    (tmp_path / "secret").write_text("a-secret-of-length")
    text = snippets("toml")[0].replace("/run/secrets/village", "secret")
    (tmp_path / "connectors.toml").write_text(text)
    setting = load(tmp_path / "connectors.toml", {"VILLAGE_WEBHOOK": "another-secret"}).setting("village")
    assert setting.settings.option("ward") == "east"
    assert setting.settings.secret("webhook") == "another-secret"


def test_the_snippets_of_webhooks_and_polling_do_what_the_page_says() -> None:
    import hashlib
    import hmac

    room: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + PYTHON["Signed"] + PYTHON["Asked"], room)

    class Both(room["Signed"], room["Asked"]):  # type: ignore[misc]
        settings = Settings(secrets={"webhook": "w" * 8, "token": "t" * 8})

    both = Both()
    assert isinstance(both, Verifies)
    assert isinstance(both, Polls)
    signature = hmac.new(b"w" * 8, b"body", hashlib.sha256).hexdigest()
    both.verify(Request(headers={"x-signature": signature}, body=b"body"))
    with pytest.raises(Unsigned):
        both.verify(Request(headers={"x-signature": signature}, body=b"another"))

    pages = iter([b'{"walks": [1], "last": 5}', b'{"walks": []}'])
    asked: list[str] = []

    def fetch(path: str, *, params: dict[str, str], headers: dict[str, str]) -> Any:
        asked.append(params["since"])
        return type("Answer", (), {"body": next(pages)})

    assert [pulled.state for pulled in both.poll(None, fetch)] == ["5"]
    assert asked == ["", "5"]


@pytest.mark.parametrize("check", CHECKS)
def test_the_page_names_every_check(check: str) -> None:
    assert f"| `{check}` |" in PAGE


def test_the_page_names_every_connector_of_ours_and_each_has_a_page_and_declares_its_quality() -> None:
    ours = {path.name for path in (ROOT / "connectors").iterdir() if path.is_dir()}
    listed = set(re.findall(r"^\| `(\w+)` \| .* \[README\]\(\.\./connectors/\w+/README\.md\) \|$", PAGE, re.M))
    assert listed == ours
    found = {plugin.name: plugin for plugin in Plugins().loaded()}
    assert ours <= set(found), "make the environment anew: a connector is not installed"
    for name in ours:
        assert (ROOT / "connectors" / name / "README.md").exists()
        assert set(found[name].quality) == set(QUALITY)


def test_every_connector_of_ours_loads_in_a_hub(town: Town) -> None:
    assert [found.error for found in town.hub.plugins.installed()] == [None] * len(town.hub.plugins.names)
