"""What each installed connector gives: a sample translated, and each event validated and encoded, on one core."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping

from lxml import etree

from hub.bench.figures import Aim
from hub.bench.stage import Stage
from hub.connector import Connector, Measures
from hub.plugins import Plugins
from hub.schemas import Schemas, packaged

AIMS: Mapping[str, Aim] = {"myhazard": Aim(text="30,000 locations/s", value=30_000)}


def measure(stage: Stage) -> None:
    """A figure for every connector that makes samples; its floor is the payload parsed and thrown away."""
    plugins = Plugins()
    schemas = plugins.extend(packaged())
    for plugin in plugins.loaded():
        if isinstance(plugin, Measures):
            _measure(stage, plugin, plugin.sample(stage.sizes.codec), schemas)


def _measure(stage: Stage, plugin: Connector, payload: bytes, schemas: Schemas) -> None:
    count, parse = _taken(plugin, payload, schemas), _parser(payload)
    stage.measure(
        f"connectors: {plugin.name}, translate and validate",
        "1/s",
        lambda: lambda: _taken(plugin, payload, schemas),
        count=count,
        floors=[("the payload parsed", lambda: parse, count)],
        aim=AIMS.get(plugin.name),
    )


def _taken(plugin: Connector, payload: bytes, schemas: Schemas) -> int:
    """Translate and validate; how many events that were."""
    translation = plugin.translate(payload)
    for event in translation.events:
        schemas.kind(event.kind).encode(event.data)
    return len(translation.events)


def _parser(payload: bytes) -> Callable[[], object]:
    start = payload.lstrip()[:1]
    if start in (b"{", b"["):
        return lambda: json.loads(payload)
    if start == b"<":
        return lambda: etree.fromstring(payload)
    return lambda: list(csv.reader(io.StringIO(payload.decode(errors="replace"))))
