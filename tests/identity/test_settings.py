"""The identity file: whatever is wrong in it is said by the name of the setting; the local issuer stays local."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hub.errors import Misuse
from hub.identity.local import LocalIssuer
from hub.identity.settings import load

ISSUER = """
[[issuers]]
name = "city"
issuer = "https://id.example"
audience = "urn:hub"
algorithms = ["ES256"]
"""
SECOND = ISSUER.replace("city", "other").replace("https://id", "https://other")
LOGIN = '[login]\nissuer = "city"\nclient_id = "browser"\npublic_url = "https://hub.example"\n'

WRONG = {
    "algorithm": (ISSUER.replace("ES256", "ES999"), "algorithms"),
    "HS256": (ISSUER.replace("ES256", "HS256"), "algorithms"),
    "none": (ISSUER.replace("ES256", "none"), "algorithms"),
    "no algorithm": (ISSUER.replace('["ES256"]', "[]"), "algorithms"),
    "misspelt": (ISSUER + 'typs = ["jwt"]', "typs"),
    "misspelt at the top": ("host = []\n" + ISSUER, "host"),
    "misspelt role": (ISSUER + '[[issuers.roles.citicen]]\nclaim = "a"\nvalue = "b"', "citicen"),
    "condition without value": (ISSUER + '[[issuers.roles.citizen]]\nclaim = "a"', "value"),
    "http": (ISSUER.replace("https:", "http:"), "issuer"),
    "http that only looks like loopback": (ISSUER.replace("https://id.example", "http://127.0.0.1.x"), "issuer"),
    "password": (ISSUER.replace("id.example", "u:p@id.example"), "issuer"),
    "two of a name": (ISSUER + SECOND.replace("other", "city", 1), "name"),
    "two of an issuer": (ISSUER + ISSUER.replace("city", "b"), "issuer"),
    "colon in a name": (ISSUER.replace("city", "a:b"), "name"),
    "client role": (ISSUER + '[issuers.clients.a]\nroles = ["mayor"]', "roles"),
    "client that is the hub": (ISSUER + '[issuers.clients.a]\nsource = "hub"', "source"),
    "source that is the hub": (ISSUER + '[sources.api]\nkinds = ["*"]', "sources.api"),
    "source without kinds": (ISSUER + "[sources.jma]", "kinds"),
    "ID tokens as access tokens": (ISSUER + LOGIN.replace("browser", "urn:hub"), "client_id"),
    "login at nobody": (ISSUER + LOGIN.replace("city", "x"), "login.issuer"),
    "secret not set": (ISSUER + LOGIN + 'client_secret_env = "NOT_SET"', "client_secret_env"),
    "night without span": (ISSUER + '[officers]\nalone_at_night = ["declare"]', "night"),
    "night of one hour": (ISSUER + '[officers]\nnight = ["21:00"]', "night"),
    "unknown act": (ISSUER + '[officers]\nalone = ["lift"]', "alone"),
    "unknown zone": (ISSUER + '[officers]\nzone = "Mars/Base"', "zone"),
    "lives for ever": (ISSUER + "longest_s = 86401", "longest_s"),
    "true for a number": (ISSUER + "leeway_s = true", "leeway_s"),
    "empty": ("", "issuers"),
    "no TOML": ("[", "TOML"),
}


@pytest.mark.parametrize(("content", "name"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_named(content: str, name: str) -> None:
    with pytest.raises(Misuse, match=name.replace(".", r"\.")):
        load(content.encode())


def test_a_right_file_is_read_and_what_is_no_utf_8_is_not() -> None:
    assert [issuer.name for issuer in load((ISSUER + SECOND + LOGIN).encode()).issuers] == ["city", "other"]
    with pytest.raises(Misuse, match="TOML"):
        load(b"\xff" + ISSUER.encode())


def test_the_local_key_is_its_owner_s_alone_and_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    code = "import sys; from pathlib import Path; from hub.identity.local import LocalIssuer as L; L(Path(sys.argv[1]))"
    every = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(2)]
    assert [process.wait(60) for process in every] == [0, 0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["key"]
    before = path.read_bytes()
    LocalIssuer(path)
    assert path.read_bytes() == before


def hub(folder: Path, *said: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from hub.cli import main; main()"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return subprocess.run(
        [sys.executable, "-c", code, *said, "--database", f"sqlite:///{folder}/hub.sqlite3"],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_where_an_identity_file_is_set_no_local_token_is_made(tmp_path: Path) -> None:
    done = hub(tmp_path, "token", "--as", "operator", HUB_IDENTITY="identity.toml")
    assert done.returncode == 2
    assert done.stdout == ""
    assert os.listdir(tmp_path) == []


def test_without_an_identity_file_the_hub_listens_on_loopback_alone(tmp_path: Path) -> None:
    done = hub(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "HUB_IDENTITY" in done.stderr
