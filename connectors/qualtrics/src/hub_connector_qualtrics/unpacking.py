"""Zipped exports, unpacked in memory and within bounds: one file, plainly packed, of a size that was foreseen."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator

from hub.connector import PayloadError

LARGEST_BYTES = 64 * 1024 * 1024
"""Unpacked, in one piece."""

LARGEST_PULLED_BYTES = 1024 * 1024 * 1024
"""Unpacked, line by line."""

_MOST_PACKED_BYTES = 64 * 1024 * 1024
_MOST_ENTRIES = 16
_ENTRY, _MAGIC = b"PK\x01\x02", (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PIECE = 1024 * 1024
_BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)


def is_zip(payload: bytes) -> bool:
    """Whether it says that it is a zip."""
    return payload.startswith(_MAGIC)


def unpacked(payload: bytes) -> bytes:
    """The one file in a zip. Raises PayloadError."""
    content = b"".join(pieces(payload, LARGEST_BYTES))
    if is_zip(content):
        raise _wrong("holds a zip in a zip")
    return content


def pieces(payload: bytes, largest_bytes: int) -> Iterator[bytes]:
    """The content of the one file in a zip, piece by piece. Raises PayloadError, also after some pieces."""
    try:
        with _archive(payload) as archive, archive.open(_only(archive, largest_bytes)) as file:
            left = largest_bytes
            while piece := file.read(min(_PIECE, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise _too_large(largest_bytes)
                yield piece
    except _BROKEN:
        raise _wrong("cannot be unpacked") from None


def _archive(payload: bytes) -> zipfile.ZipFile:
    if len(payload) > _MOST_PACKED_BYTES:
        raise _wrong(f"is larger than {_MOST_PACKED_BYTES // 1024 // 1024} MiB")
    if payload.count(_ENTRY) > _MOST_ENTRIES:  # before each of them is read
        raise _wrong("holds many files; one is meant")
    return zipfile.ZipFile(io.BytesIO(payload))


def _only(archive: zipfile.ZipFile, largest_bytes: int) -> zipfile.ZipInfo:
    files = archive.infolist()
    if len(files) != 1:
        raise _wrong(f"holds {len(files)} files; one is meant")
    (file,) = files
    if file.is_dir() or "/" in file.filename or "\\" in file.filename or "\0" in file.filename:
        raise _wrong("holds a folder; Qualtrics writes none")
    if file.flag_bits & _ENCRYPTED:
        raise _wrong("has a password")
    if file.compress_type not in _METHODS:
        raise _wrong("is packed in another way than Qualtrics packs")
    if file.file_size > largest_bytes:
        raise _too_large(largest_bytes)
    return file


def _too_large(largest_bytes: int) -> PayloadError:
    return _wrong(f"is larger than {largest_bytes // 1024 // 1024} MiB when unpacked")


def _wrong(reason: str) -> PayloadError:
    return PayloadError(reason, path="zip")
