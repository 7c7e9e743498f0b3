"""Which connectors are installed, and what the operator set for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import Town
from hub.connector import Settings
from hub.errors import Misuse
from hub.plugins import Plugins, Setting, load
from sources import TOWN, install

SECRET = "never-to-be-shown-anywhere"


def written(folder: Path, text: str) -> Path:
    path = folder / "connectors.toml"
    path.write_text(text)
    return path


def test_a_file_sets_options_files_and_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path / "path", "village")
    (tmp_path / "needs.toml").write_text("a = 1")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    text = """
        [village]
        url = "https://village.example/api/"
        every_s = 60
        options = { survey = "SV_1" }
        files = { needs = "needs.toml" }
        secrets = { token = { file = "secret" }, webhook = { env = "VILLAGE_WEBHOOK" } }
    """
    setting = load(written(tmp_path, text), {"VILLAGE_WEBHOOK": SECRET + "-2"}).setting("village")
    assert (setting.url, setting.every_s) == ("https://village.example/api", 60)
    assert setting.settings.option("survey") == "SV_1"
    assert setting.settings.files["needs"] == b"a = 1"
    assert [setting.settings.secret(name) for name in ("token", "webhook")] == [SECRET, SECRET + "-2"]
    assert SECRET not in repr(setting)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("village = 1", "village: is no table"),
        ("[village]\nurls = 1", "village.urls: is no key"),
        ('[village]\nurl = "ftp://x"', "village.url: is no http URL"),
        ('[village]\nurl = "http://example.com"', "village.url: is not https"),
        (f'[village]\nurl = "https://u:{SECRET}@example.com"', "village.url: holds more than host and path"),
        (f'[village]\nurl = "https://example.com/?key={SECRET}"', "village.url: holds more than host and path"),
        (f'[village]\nurl = "https://example.com/{SECRET}"\nsecrets = {{ a = {{ env = "S" }} }}', "holds a secret"),
        ("[village]\nevery_s = 0", "village.every_s: is no whole number"),
        ("[village]\nevery_s = true", "village.every_s: is no whole number"),
        ('[village]\nfiles = { a = "missing" }', "village.files.a: cannot be read"),
        (f'[village]\nsecrets = {{ a = "{SECRET}" }}', "village.secrets.a: is neither"),
        ('[village]\nsecrets = { a = { env = "NOT_SET" } }', "village.secrets.a: is empty"),
        ('[village]\nsecrets = { a = { env = "SHORT" } }', "village.secrets.a: is shorter than 8"),
        ('[village]\nsecrets = { a = { file = "missing" } }', "village.secrets.a: cannot be read"),
        (f'[village]\nsecrets = {{ a = {{ env = "S", value = "{SECRET}" }} }}', "village.secrets.a: is neither"),
        ("[village", "is no TOML"),
    ],
)
def test_what_is_wrong_is_named_and_never_shown(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Misuse) as caught:
        load(written(tmp_path, text), {"S": SECRET, "SHORT": "abc"})
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_missing_file_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="HUB_CONNECTORS names no file"):
        load(tmp_path / "none.toml", {})


BROKEN: dict[str, str] = {
    "imports": "import nothing_of_this_name",
    "exits": "import sys; sys.exit(3)",
    "raises": TOWN.replace("self.settings = settings", "raise ValueError('no')"),
    "misuse": TOWN.replace("self.settings = settings", "settings.option('survey')"),
    "lacks": "class Plugin:\n    def __init__(self, settings): pass",
    "named": TOWN.replace('name = source = "NAME"', 'name = source = "another"'),
    "schema": TOWN.replace("    signed =", '    schemas = {"care.x.1.avsc": b"{}"}\n    signed ='),
    "hub": TOWN.replace('name = source = "NAME"', 'name, source = "NAME", "hub"'),
    "number": TOWN.replace('name = source = "NAME"', 'name, source = "NAME", 5'),
    "spills": TOWN.replace("self.settings = settings", "int(settings.secret('token'))"),
    "no_schemas": TOWN.replace("    signed =", "    schemas = 5\n    signed ="),
    "no_schema": TOWN.replace("    signed =", '    schemas = {"care.x.1.avsc": None}\n    signed ='),
    "list": TOWN.replace("    signed =", '    schemas = {"care.x.1.avsc": b"[]"}\n    signed ='),
    "deep": TOWN.replace("    signed =", '    schemas = {"care.x.1.avsc": b"[" * 100000}\n    signed ='),
    "steals": TOWN.replace("    signed =", '    schemas = {"safety.answered.2.avsc": b"{}"}\n    signed ='),
}
REASONS = {
    "imports": "ModuleNotFoundError",
    "exits": "SystemExit",
    "raises": "ValueError",
    "misuse": "options.survey is not set",
    "lacks": "lacks name, source, kinds, quality or translate",
    "named": "not that of its entry point",
    "schema": "care.x.1.avsc",
    "hub": "one of the hub's own",
    "number": "is no id",
    "spills": "ValueError",
    "no_schemas": "AttributeError",
    "no_schema": "Error",
    "list": "",
    "deep": "",
    "steals": "safety.answered.2.avsc",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_connector_is_told_of_and_stops_nothing(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "path", f"broken_{how}", BROKEN[how])
    secrets = Settings(secrets={"token": SECRET})
    town = Town(tmp_path / "town", Plugins({f"broken_{how}": Setting(settings=secrets)}))
    town.hub.init()
    rows = {found.name: found for found in town.hub.plugins.installed()}
    assert rows["jma"].error is None
    assert REASONS[how] in (rows[f"broken_{how}"].error or "")
    assert SECRET not in (rows[f"broken_{how}"].error or "")
    with pytest.raises(Misuse, match="does not load"):
        town.hub.plugins.find(f"broken_{how}")
    town.close()


SCHEMA = """{"type": "record", "name": "WalkTaken", "namespace": "hub", "doc": "A walk.", "doc_ja": "散歩。",
 "kind": "walk.taken", "version": 1, "category": "fact", "about": "person",
 "fields": [{"name": "steps", "type": "int", "doc": "Steps.", "doc_ja": "歩数。"}]}"""


def test_a_connector_brings_a_kind_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = TOWN.replace("    signed =", f"    schemas = {{'walk.taken.1.avsc': {SCHEMA!r}.encode()}}\n    signed =")
    install(monkeypatch, tmp_path / "path", "walks", code)
    town = Town(tmp_path / "town", Plugins())
    town.hub.init()
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    assert town.hand_in("walk.taken", person="hanako", steps=4000).status == "accepted"
    assert town.hand_in("walk.taken", person="hanako", steps="many").status == "refused"
    town.close()


def test_facts_of_a_kind_stay_readable_while_its_connector_is_set_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its secret was renewed with a slip: else no view of whoever has such a fact could be read."""
    code = TOWN.replace("    signed =", f"    schemas = {{'walk.taken.1.avsc': {SCHEMA!r}.encode()}}\n    signed =")
    code = code.replace("self.settings = settings", "settings.secret('token')")
    install(monkeypatch, tmp_path / "path", "strolls", code)
    town = Town(tmp_path / "town", Plugins({"strolls": Setting(settings=Settings(secrets={"token": SECRET}))}))
    town.hub.init()
    town.tell("person.enrolled", person="hanako", areas=["07202"])
    town.tell("recipient.registered", **{"recipient": "city", "class": "x", "areas": ["*"], "purposes": ["rescue"]})
    said = {"grant": "g", "to": {"class": "x"}, "kinds": ["*"], "purposes": ["rescue"], "modes": ["normal"]}
    town.tell("consent.granted", person="hanako", **said)
    town.tell("walk.taken", person="hanako", steps=4000)
    town.plugins = Plugins()
    town.reopen()
    assert {found.name: found.error for found in town.hub.plugins.installed()}["strolls"] == "secrets.token is not set"
    assert b"4000" in town.read("city", "rescue").body
    town.close()


def test_an_unknown_connector_is_misuse_that_names_the_known() -> None:
    with pytest.raises(Misuse, match=r"known: .*jma"):
        Plugins().find("nobody")


def test_hub_connectors_list_shows_the_broken_and_the_polled(
    hub_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "path", "hopeless", BROKEN["imports"])
    monkeypatch.setenv("HUB_DATABASE_URL", f"sqlite:///{tmp_path}/none.sqlite3")
    said = hub_main("connectors", "list")
    assert said.status == 0
    assert "hopeless    does not load: ModuleNotFoundError" in said.out
    assert "jma         hazard.reported" in said.out
    assert not (tmp_path / "none.sqlite3").exists(), "to list makes no database"
