"""What a call does besides computing: files, network, processes, threads, the clock, chance.

Python's own audit events tell of files, network and processes, in every thread; a profile of the call tells of the
rest. What an import does is left out.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

Watched = list[str]

_EVENTS = {
    "open": "opens a file",
    "os.": "touches the file system",
    "shutil.": "touches the file system",
    "socket.": "uses the network",
    "http.client.": "uses the network",
    "urllib.": "uses the network",
    "subprocess.": "starts a process",
    "_posixsubprocess.": "starts a process",
    "sqlite3.": "opens a database",
}
_CLOCK = frozenset({"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "localtime", "gmtime", "ctime"})
_CLASSES = frozenset({"datetime.now", "datetime.utcnow", "datetime.today", "date.today"})
_LOOKS = frozenset({"stat", "lstat", "access", "readlink"})
_CHANCE = frozenset({"random", "getrandbits", "urandom", "getrandom"})

_seen: Watched | None = None
_hooked = False
_lock = threading.Lock()


def watched(call: Callable[[], object], *, profiled: bool = True) -> Watched:
    """What `call` did besides, in words, each once. profiled: False leaves out clock, chance and threads; quicker."""
    global _seen
    with _lock:
        _hook()
        seen: Watched = []
        _seen = seen
        collects = gc.isenabled()
        gc.disable()  # what others have called after a collection is not the call's doing
        sys.setprofile(_profile if profiled else None)
        try:
            call()
        finally:
            sys.setprofile(None)
            _seen = None
            if collects:
                gc.enable()
    return list(dict.fromkeys(seen))


def _hook() -> None:
    global _hooked
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    for prefix, what in _EVENTS.items():
        if event.startswith(prefix) and not _importing(sys._getframe()):
            _seen.append(f"{what} ({event})")
            return


def _profile(frame: FrameType, event: str, arg: Any) -> None:
    if event != "c_call" or _seen is None:
        return
    name, module = getattr(arg, "__name__", ""), getattr(arg, "__module__", None)
    qualified = getattr(arg, "__qualname__", "")
    if (module == "time" and name in _CLOCK) or qualified in _CLASSES:
        _note(frame, f"asks the clock ({qualified})")
    elif module in ("posix", "nt") and name in _LOOKS:
        _note(frame, f"touches the file system ({name})")
    elif name == "start_new_thread":
        _note(frame, "starts a thread")
    elif name in _CHANCE and (module in ("posix", "nt", "_random") or "Random" in qualified):
        _note(frame, f"asks chance ({name})")


def _note(frame: FrameType, what: str) -> None:
    if _seen is not None and not _importing(frame):
        _seen.append(what)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
