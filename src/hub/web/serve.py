"""Workers: one process, or several over one listening socket and one database file.

The parent binds the socket and starts workers; one that dies is started again. SIGTERM ends them: no new
request is let in, what was taken in is written, streams end, then the process does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from hub.errors import Misuse
from hub.hub import Hub
from hub.identity.settings import is_loopback
from hub.web import operation
from hub.web.app import create
from hub.web.gate import Gate
from hub.web.protocol import Bounded

_GRACE_S = 10
_STARTED_S = 20
"""How long a worker may not answer its parent: on a busy machine it starts slowly, and would be killed for ever. One
that dies while it is asked is missed for as long."""
_KEEP_ALIVE_S = 20
_LONGEST_WAIT = 2048


SETTINGS: dict[str, Any] = {
    "loop": "uvloop",
    "http": Bounded,
    "ws": "none",
    "access_log": False,
    "log_config": None,
    "server_header": False,
    "date_header": False,
    "proxy_headers": False,
    "timeout_keep_alive": _KEEP_ALIVE_S,
    "timeout_graceful_shutdown": _GRACE_S,
    "timeout_worker_healthcheck": _STARTED_S,
}
"""How every server of the hub is run."""


@dataclass(frozen=True, slots=True)
class _Factory:
    """Makes the application of a worker; it is handed to a fresh process."""

    open_hub: Callable[[], Hub]
    open_gate: Callable[[Hub], Gate]
    hosts: frozenset[str]
    folder: Path

    def __call__(self) -> Any:
        worker = os.getpid()
        operation.configure_logs(worker)
        return create(self.open_hub, self.open_gate, self.hosts, self.folder, worker)


def check_host(host: str, *, identity: bool) -> None:
    """Raise Misuse for an address that others can reach, where no identity file says who is believed."""
    if not identity and not is_loopback(host):
        raise Misuse(
            "without an identity file the hub listens on loopback alone: set HUB_IDENTITY (docs/identity.md), "
            "or --host 127.0.0.1"
        )


def listen(host: str, port: int, *, identity: bool) -> socket.socket:
    """The listening socket. Raises Misuse where the port is taken, or others could ask a hub that knows no issuer."""
    check_host(host, identity=identity)
    address = "127.0.0.1" if host == "localhost" else host
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise Misuse(f"port {port} cannot be listened on: {error.strerror}") from None
    bound.listen(_LONGEST_WAIT)
    bound.set_inheritable(True)
    return bound


def serve(
    open_hub: Callable[[], Hub],
    open_gate: Callable[[Hub], Gate],
    bound: socket.socket,
    workers: int,
    hosts: frozenset[str] = frozenset(),
) -> None:
    """Answer requests until SIGTERM or SIGINT.

    open_hub, open_gate: open the hub of a worker, and its gate; a fresh process can take them. hosts: the names
    that the hub is reached by.
    """
    with tempfile.TemporaryDirectory(prefix="hub-serve-") as folder:
        factory = _Factory(open_hub, open_gate, hosts, Path(folder))
        config = uvicorn.Config(factory, factory=True, workers=workers, **SETTINGS)
        if workers == 1:
            for number in (signal.SIGTERM, signal.SIGINT):  # which the server, once it has ended, sends itself again
                signal.signal(number, lambda *_: sys.exit(0))
            uvicorn.Server(config).run([bound])
        else:
            Multiprocess(config, sockets=[bound]).run()
