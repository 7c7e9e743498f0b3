"""The folder of a backup: a file of rows for each table, and a manifest that says what they have to be.

A file is `hub-rows/1`, a line, then frames: four bytes of length, big-endian, and as many bytes. The first frame is
JSON and names the table and its columns; each other one is a row, a value for each column: one byte of type (0 null,
1 number, 2 bytes, 3 text), numbers in eight bytes with a sign, the others with four bytes of length. Nothing is
compressed: sealed payloads do not get smaller.

A backup is made under another name and renamed when all of it is on the disk, so that a folder of the name is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hub.canonical import text
from hub.errors import Busy, HubError, Misuse, Tampered

FORMAT = 1
MANIFEST = "manifest.json"

_MAGIC = b"hub-rows/1\n"
_LENGTH = struct.Struct(">I")
_NUMBER = struct.Struct(">q")
_LARGEST_FRAME = 64 * 1024 * 1024
_BUFFER = 1024 * 1024
_NAME = re.compile(r"[a-z_]+\.rows")

Row = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a backup has to be. of: `log` or `keys`. files: by name, `{"rows", "bytes", "sha256"}`.

    id: random, a name for this one backup. keys: which hub's keys it belongs to, as a keyed digest. position, root,
    recorded_at: where the log ended; in a backup of keys the position alone, and no root.
    """

    of: str
    id: str
    hub_version: str
    taken_at: str
    keys: str
    position: int
    recorded_at: str | None
    root: str | None
    files: Mapping[str, Mapping[str, Any]]

    def rows(self, table: str) -> int:
        """How many rows of a table there are."""
        return int(self.files[f"{table}.rows"]["rows"])


class Writing:
    """The file of one table."""

    def __init__(self, file: BinaryIO, head: bytes) -> None:
        self._file, self._hashed = file, hashlib.sha256()
        self._rows = self._bytes = 0
        self._waiting = bytearray(_MAGIC + _LENGTH.pack(len(head)) + head)

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows behind those that are there."""
        for row in rows:
            encoded = encode(row)
            self._waiting += _LENGTH.pack(len(encoded)) + encoded
            self._rows += 1
            if len(self._waiting) >= _BUFFER:
                self._write()

    def end(self) -> dict[str, Any]:
        """See that all of it is on the disk; what the manifest says of it."""
        self._write()
        _sync(self._file)
        return {"rows": self._rows, "bytes": self._bytes, "sha256": self._hashed.hexdigest()}

    def _write(self) -> None:
        self._file.write(self._waiting)
        self._hashed.update(self._waiting)
        self._bytes += len(self._waiting)
        self._waiting = bytearray()


class Making:
    """A backup that is being made. Nothing of it counts before `finish`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: dict[str, dict[str, Any]] = {}

    @contextmanager
    def writing(self, table: str, columns: Iterable[str]) -> Iterator[Writing]:
        """The file of a table, as long as rows come; it counts once the block has ended well."""
        name = f"{table}.rows"
        with _create(self._folder / name) as file:
            writing = Writing(file, text({"table": table, "columns": list(columns)}).encode())
            yield writing
            self.files[name] = writing.end()

    def finish(self, said: Mapping[str, Any], mac_key: bytes) -> Manifest:
        """Write the manifest, the last file: from now on the backup can be told from a part of one."""
        whole = {"format": FORMAT, **said, "files": self.files}
        signed = whole | {"mac": _mac(mac_key, whole)}
        with _create(self._folder / MANIFEST) as file:
            file.write(text(signed).encode() + b"\n")
            _sync(file)
        return _manifest(whole)


@contextmanager
def making(out: Path) -> Iterator[Making]:
    """Make a backup that is called `out` once the block has ended well. Raises Misuse where something has that name.

    A killed one leaves `NAME.unfinished`, which the next of the name clears away.
    """
    if out.exists():
        raise Misuse(f"{out.name} is there already: a backup never takes the place of another")
    unfinished = out.with_name(out.name + ".unfinished")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise Misuse(f"no backup can be made there: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy(f"another process makes {out.name} now") from None
        try:
            for left in unfinished.iterdir():
                left.unlink()
            yield Making(unfinished)
            os.fsync(lock)
            os.rename(unfinished, out)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise Misuse(f"the backup could not be written: {error.strerror}") from None
        except HubError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _sync_folder(out.parent)
    finally:
        os.close(lock)


def read_manifest(folder: Path, of: str, mac_key: bytes) -> Manifest:
    """What a finished backup has to be. Raises Misuse where there is none, Tampered where it is not this hub's."""
    try:
        raw = (folder / MANIFEST).read_bytes()
    except OSError:
        raise Misuse(f"{folder.name} holds no finished backup: {MANIFEST} is missing or cannot be read") from None
    try:
        said = json.loads(raw)
        mac = bytes.fromhex(said.pop("mac"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Tampered(f"{folder.name}: {MANIFEST} is damaged; take another backup") from None
    if not hmac.compare_digest(mac, bytes.fromhex(_mac(mac_key, said))):
        raise Tampered(
            f"{folder.name}: {MANIFEST} was not written with this master key: it was changed, or is another hub's, "
            "or HUB_MASTER_KEY_FILE names another key"
        )
    if said["format"] != FORMAT:
        raise Misuse(f"{folder.name} has format {said['format']}; restore it with hub {said['hub_version']}")
    if said["of"] != of:
        raise Misuse(f"{folder.name} is a backup of the {said['of']}, not of the {of}")
    return _manifest(said)


def check_files(folder: Path, manifest: Manifest) -> None:
    """That every file is the one that was written. Raises Tampered with the name of the first that is not."""
    for name, said in manifest.files.items():
        where = f"{folder.name}/{name}"
        if not _NAME.fullmatch(name):
            raise Tampered(f"{where} is no name of a file in a backup")
        hashed, size = hashlib.sha256(), 0
        try:
            with (folder / name).open("rb") as file:
                while piece := file.read(_BUFFER):
                    hashed.update(piece)
                    size += len(piece)
        except FileNotFoundError:
            raise Tampered(f"{where} is missing; take another backup") from None
        except OSError as error:
            raise Misuse(f"{where} cannot be read: {error.strerror}") from None
        if size != said["bytes"]:
            raise Tampered(f"{where} has {size:,} bytes and not {said['bytes']:,}: it was cut or changed")
        if hashed.hexdigest() != said["sha256"]:
            raise Tampered(f"{where} was changed since it was written; take another backup")


def read_rows(folder: Path, table: str) -> tuple[list[str], Iterator[Row]]:
    """The columns of a table's file, and its rows in order. Raises Tampered where it does not hold together."""
    frames = _frames(folder / f"{table}.rows", f"{folder.name}/{table}.rows")
    try:
        columns = json.loads(next(frames))["columns"]
    except (StopIteration, ValueError, KeyError, TypeError):
        raise Tampered(f"{folder.name}/{table}.rows says not which columns it has") from None
    return columns, (decode(frame, len(columns)) for frame in frames)


def _frames(path: Path, where: str) -> Iterator[bytes]:
    with path.open("rb", buffering=_BUFFER) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise Tampered(f"{where} is no file of rows")
        while head := file.read(_LENGTH.size):
            length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else _LARGEST_FRAME + 1
            frame = file.read(length) if length <= _LARGEST_FRAME else b""
            if len(frame) != length:
                raise Tampered(f"{where} ends in the middle of a row")
            yield frame


def encode(row: Row) -> bytes:
    """A row as bytes."""
    parts: list[bytes] = []
    for value in row:
        if value is None:
            parts.append(b"\x00")
        elif isinstance(value, int):
            parts.append(b"\x01" + _NUMBER.pack(value))
        elif isinstance(value, str):
            said = value.encode()
            parts.append(b"\x03" + _LENGTH.pack(len(said)) + said)
        else:
            parts.append(b"\x02" + _LENGTH.pack(len(value)) + bytes(value))
    return b"".join(parts)


def decode(frame: bytes, columns: int) -> Row:
    """The row that `encode` wrote. Raises Tampered where it is none of so many columns."""
    values: list[Any] = []
    at = 0
    try:
        for _ in range(columns):
            kind = frame[at]
            if kind == 0:
                values.append(None)
                at += 1
            elif kind == 1:
                values.append(_NUMBER.unpack_from(frame, at + 1)[0])
                at += 1 + _NUMBER.size
            else:
                begin = at + 1 + _LENGTH.size
                at = begin + _LENGTH.unpack_from(frame, at + 1)[0]
                values.append(frame[begin:at] if kind == 2 else frame[begin:at].decode())
    except (IndexError, struct.error, UnicodeDecodeError):
        at = -1
    if at != len(frame):
        raise Tampered("a row of the backup does not hold together")
    return tuple(values)


def _manifest(said: Mapping[str, Any]) -> Manifest:
    return Manifest(**{name: said[name] for name in Manifest.__dataclass_fields__})


def _mac(key: bytes, said: Mapping[str, Any]) -> str:
    return hmac.digest(key, text(said).encode(), "sha256").hex()


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
