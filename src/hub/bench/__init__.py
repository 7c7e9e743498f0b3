"""What this machine gives, each figure beside a floor that was measured in the same run.

A floor is the least that the work costs here without the hub: the same rows in a bare table, the same bytes
through a bare cipher. Figure and floors take turns, round by round, so that a busy machine slows both and the
ratio between them stays honest. The sizes are parameters; nothing here is ever asserted on a clock.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from hub.bench import counting, relaying
from hub.bench.figures import FULL, QUICK, Sizes
from hub.bench.measures import Bench
from hub.bench.report import described, load_average, progress, told
from hub.bench.stage import Urls
from hub.log.migrations import throwaway
from hub.relay.broker import Broker


def run(
    *,
    quick: bool,
    profile: bool,
    as_json: bool,
    sources_only: bool = False,
    figures_only: bool = False,
    database: str | None = None,
    broker: Broker | None = None,
    sizes: Sizes | None = None,
) -> None:
    """Measure on a temporary hub, and print: the machine, the command, and each figure with its floors.

    profile: take each measure once more under the profiler, and say what costs what. sources_only: the connectors
    alone. figures_only: the figures for planning alone. database: the URL of a PostgreSQL, where the hub is in schemas
    that are dropped; without it, an SQLite file. broker: the relay alone, against it.
    """
    sizes = sizes or (QUICK if quick else FULL)
    flags = {"--quick": quick, "--profile": profile, "--connectors": sources_only, "--relay": broker is not None}
    flags["--statistics"] = figures_only
    command = " ".join(["hub bench", *(flag for flag, is_set in flags.items() if is_set)])
    command += "" if database is None else " --database URL"
    begun = time.perf_counter()
    with ExitStack() as rooms:
        folder = Path(rooms.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        say = rooms.enter_context(progress())
        named = [database or f"sqlite:///{folder / name}.sqlite3" for name in Urls._fields]
        urls = Urls(*(rooms.enter_context(throwaway(url)) for url in named))
        machine = described(folder, urls.hub)
        bench = Bench(folder, urls, sizes, say, profile=profile)
        if broker is not None:
            figures = relaying.measure(bench, broker)
        elif figures_only:
            figures = counting.measure(bench)
        else:
            figures = bench.run(sources_only=sources_only)
        machine["load_after"] = load_average()
    seconds = time.perf_counter() - begun
    if as_json:
        said = {
            "command": command,
            "machine": machine,
            "sizes": asdict(sizes),
            "seconds": round(seconds, 1),
            "figures": [asdict(figure) for figure in figures],
        }
        sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join(told(command, machine, sizes, seconds, figures)) + "\n")
