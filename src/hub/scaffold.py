"""A new connector's package, which passes `hub connectors check` from the start."""

from __future__ import annotations

import keyword
from pathlib import Path
from string import Template

from hub import conformance
from hub.errors import Misuse
from hub.plugins import NAME

_TEMPLATES = Path(__file__).parent / "connector" / "new"


def write(name: str, into: Path) -> Path:
    """Write the package for a source called `name` into a new folder below `into`; the folder.

    Raises Misuse where the name cannot be one, or something is there already.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise Misuse("a connector's name begins with a letter, and has lower-case letters, digits and _")
    folder = into / name
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"src/hub_connector_{name}/__init__.py": "plugin.py",
        f"tests/test_{name}.py": "test.py",
        "goldens/answers.json": "golden.json",
    }
    try:
        folder.mkdir(parents=True)
        for path, template in files.items():
            text = (_TEMPLATES / f"{template}.template").read_text("utf-8")
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(Template(text).safe_substitute(name=name), "utf-8")
        (folder / f"src/hub_connector_{name}/py.typed").touch()
    except FileExistsError:
        raise Misuse(f"{folder} is there already") from None
    except OSError as error:
        raise Misuse(f"{folder} cannot be written: {error.strerror or type(error).__name__}") from None
    conformance.write_goldens(conformance.package(folder))
    return folder
