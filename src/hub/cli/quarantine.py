"""Commands about what was refused and is kept: a look, and making room. Mending and replaying: docs/http.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.opening import Database, Json, counted, opened, print_json, say

if TYPE_CHECKING:
    from hub.hub import Hub
    from hub.quarantine import Item

app = typer.Typer(
    help="What was refused and is kept, until it is mended, dropped, or 30 days old.", no_args_is_help=True
)
_PAGE = 500


@app.command("list")
def quarantine_list(
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="Only those of this source.")] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """The items, newest first: source, kind and reason; nothing of a payload."""
    rows = []
    with opened(database) as hub:
        for item in _items(hub):
            if source not in (None, item.source):
                continue
            told = f"{item.path}: {item.reason}" if item.path else item.reason
            row = {
                "item": item.item,
                "received_at": item.received_at.isoformat(timespec="seconds"),
                "count": item.count,
            }
            row |= {"via": item.via, "source": item.source, "kind": item.kind, "reason": told, "rule": item.rule}
            if as_json:
                rows.append(row)
            else:
                say(f"{item.item}  {row['received_at']}  {item.source or '-'}  {item.kind or '-'}  {told}")
    if as_json:
        print_json(rows)


def _items(hub: Hub) -> Iterator[Item]:
    after = None
    while page := hub.quarantine.items(limit=_PAGE, after=after):
        yield from page
        after = page[-1]


@app.command("drop")
def quarantine_drop(
    items: Annotated[list[str] | None, typer.Argument(metavar="[ITEM]…", help="The items.")] = None,
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="All items of this source.")] = None,
    database: Database = None,
) -> None:
    """Destroy items and their keys, for ever. What a polled source had sent comes again by `hub poll --from-start`."""
    from hub.errors import HubError, Misuse

    if bool(items) is bool(source):
        raise Misuse("name items, or a source by --source")
    with opened(database) as hub:
        strange = [] if source else [item for item in items or () if not hub.quarantine.drop(item)]
        count = hub.quarantine.drop_source(source) if source else len(items or ()) - len(strange)
    if count or not strange:
        say(f"{counted(count, 'item')} destroyed.")
    if strange:
        raise HubError(f"no such item: {', '.join(strange)}")
