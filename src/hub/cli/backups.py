"""`hub backup` and `hub restore`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.opening import MASTER_KEY, Database, Json, Opening, one_of, opened, print_json, say, to_open

if TYPE_CHECKING:
    from hub.backup import Taken
    from hub.backup.folder import Manifest


def backup(
    database: Database = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="The log and what stands beside it; a new folder.")
    ] = None,
    keys_out: Annotated[
        Path | None, typer.Option("--keys-out", metavar="FOLDER", help="Its keys; a new folder, in another place.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a backup while the hub runs. The log cannot be read without its keys, nor these without the master key."""
    from hub.backup import take_keys, take_log
    from hub.errors import Misuse

    if out is None and keys_out is None:
        raise Misuse("say where to: --out FOLDER for the log, --keys-out FOLDER for the keys, or both")
    if out is not None and keys_out is not None:
        log_at, keys_at = out.resolve(), keys_out.resolve()
        if log_at.is_relative_to(keys_at) or keys_at.is_relative_to(log_at):
            raise Misuse("the keys go to a folder of their own, neither in that of the log nor around it")
    with opened(database) as hub:
        taken = [take(hub, folder) for take, folder in ((take_log, out), (take_keys, keys_out)) if folder is not None]
    for one in taken:
        _show(one, as_json)


def _show(taken: Taken, as_json: bool) -> None:
    manifest = taken.manifest
    if as_json:
        print_json({"folder": str(taken.folder), **asdict(manifest)})
        return
    what = "Log" if manifest.of == "log" else "Keys"
    root = f", root {manifest.root}" if manifest.root else ""
    say(
        f"{what} up to position {manifest.position}: {taken.rows:,} rows, {taken.bytes:,} bytes in {taken.folder}{root}"
    )


def restore(
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="The backup of the log.")] = None,
    keys: Annotated[Path | None, typer.Option("--keys", metavar="FOLDER", help="The backup of its keys.")] = None,
    database: Database = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the backup is whole and this hub's; restore nothing.")
    ] = False,
    erase_missing: Annotated[
        bool,
        typer.Option("--erase-missing", help="Record as erased whose keys are missing. It cannot be undone."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore a backup into a database that is empty, and prove it. Cut off, run it again: nothing opens it before."""
    from hub.backup import Databases
    from hub.backup import check as check_backup
    from hub.backup import restore as restore_backup
    from hub.cli.opening import connectors
    from hub.errors import Misuse

    one_of(check=check, erase_missing=erase_missing)
    if folder is None and keys is None:
        raise Misuse("name the folder of a backup, or of one of the keys: --keys FOLDER")
    opening = to_open(database, create=True)
    master = _master(opening)
    if check:
        manifests = check_backup(master, log=folder, keys=keys)
        for manifest in manifests:
            _checked(manifest, as_json)
        _check_ages({manifest.of: manifest.position for manifest in manifests})
        return
    plugins = connectors(opening.connectors_file)
    at = Databases(opening.url, opening.keys_url)
    done = restore_backup(at, master, log=folder, keys=keys, erase_missing=erase_missing, plugins=plugins)
    numbers = {"erased_again": done.erased_again, "unknown_keys": done.unknown_keys}
    if as_json:
        root = done.verified.root.hex()
        print_json({"position": done.verified.size, "root": root, **numbers})
        return
    if done.erased_again:
        sys.stderr.write(f"hub: {done.erased_again} persons whose keys are missing are recorded as erased\n")
    if done.unknown_keys:
        sys.stderr.write(f"hub: {done.unknown_keys} keys of persons whom this log does not know are destroyed\n")
    closed = f"{done.verified.closed} closed for ever"
    say(f"Restored and proven: {done.verified.size} entries, {done.verified.opened} opened, {closed}.")
    say(f"Root {done.verified.root.hex()}")


def _check_ages(positions: Mapping[str, int]) -> None:
    """Raise HubError where the keys were taken before the log. positions: by what the backup is of."""
    from hub.errors import HubError

    log, keys = positions.get("log", 0), positions.get("keys")
    if keys is not None and keys < log:
        raise HubError(
            f"these keys (position {keys}) are older than the log (position {log}): persons enrolled between cannot be "
            "read; take the keys' backup of then or later"
        )


def _checked(manifest: Manifest, as_json: bool) -> None:
    if as_json:
        print_json(asdict(manifest))
        return
    root = f", root {manifest.root}" if manifest.root else ""
    say(f"The backup of the {manifest.of} of {manifest.taken_at} is whole: up to position {manifest.position}{root}")


def _master(opening: Opening) -> bytes:
    """The master key, which no backup holds and a restore never makes."""
    from hub.errors import Misuse

    beside = Path(opening.folder or ".") / "master.key"
    path = Path(opening.master_file or beside)
    if not path.exists():
        raise Misuse(f"the master key is in no backup: put {path.name} beside the database, or name it in {MASTER_KEY}")
    try:
        return bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError):
        raise Misuse(f"{path.name} holds no key of 32 bytes in hexadecimal") from None
