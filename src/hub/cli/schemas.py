"""Commands about schemas: those that a hub has, and whether new versions may be released."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.opening import Json, connectors, print_json, say

schemas_app = typer.Typer(help="The schemas of kinds: those there are, checking new versions.", no_args_is_help=True)

_FOLDER = Path("schemas/avro")
_RELEASED = Path("tests/released-schemas.json")

Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PATH]…", help="Schema files, or folders of them; else schemas/avro, or those installed."),
]


@schemas_app.command("list")
def schemas_list(as_json: Json = False) -> None:
    """Every version of every kind's schema, with its id in messages (docs/http.md)."""
    from hub.registry import Registry
    from hub.schemas import packaged

    schemas = connectors().extend(packaged())
    registry = Registry(schemas)
    rows = [
        {"kind": kind.name, "version": kind.version, "id": registry.id_of(kind.topic), "sha256": kind.sha256}
        for kind in schemas.every()
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(f"{row['kind']:32}{row['version']:>3}{row['id']:>12}")


@schemas_app.command("check")
def schemas_check(
    paths: Paths = None,
    released: Annotated[
        Path | None,
        typer.Option("--released", help="JSON: the SHA-256 of each released file; else tests/released-schemas.json."),
    ] = None,
    base: Annotated[
        Path | None, typer.Option("--base", help="A folder of the files as they were released, where there is one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Whether each version reads what all before it wrote, and no released file was changed; status 1 where not."""
    from hub.compatibility import check

    chosen = paths or ([_FOLDER] if _FOLDER.is_dir() else [_installed()])
    files: dict[str, bytes] = {}
    for path in chosen:
        files |= _read(path)
    own = released or (_RELEASED if not paths or _holds(paths, _FOLDER) else None)
    findings = check(files, _sums(own), _read(base) if base else {})
    if as_json:
        print_json([{"file": f.file, "path": f.path, "reason": f.reason} for f in findings])
    else:
        for finding in findings:
            say(f"BAD  {finding}")
        if not findings:
            say(f"ok   {len(files)} schema files")
    if findings:
        sys.exit(1)


def _holds(paths: list[Path], folder: Path) -> bool:
    return any(path.resolve() == folder.resolve() for path in paths)


def _installed() -> Path:
    from hub.schemas import folder

    return folder()


def _read(path: Path) -> dict[str, bytes]:
    from hub.errors import Misuse

    try:
        found = sorted(path.glob("*.avsc")) if path.is_dir() else [path]
        files = {file.name: file.read_bytes() for file in found}
    except OSError:
        raise Misuse(f"{path} cannot be read") from None
    if not files:
        raise Misuse(f"{path} holds no schema file (<kind>.<version>.avsc)")
    return files


def _sums(path: Path | None) -> dict[str, str]:
    from hub.errors import Misuse

    if path is None or (path == _RELEASED and not path.is_file()):
        return {}
    try:
        said: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise Misuse(f"{path} cannot be read as JSON") from None
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise Misuse(f"{path} has to say the SHA-256 of each file by its name")
    return said
