"""The app's updates: pages in the order of its own, with a cursor from each to the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from hub.connector import Fetch, Misuse, PayloadError, Pulled, Unavailable
from hub.connector.json import Field, parse, read

PATH = "/v1/updates"
LIMIT, MOST_LIMIT = 500, 5_000
_GONE = 410
_LONGEST_CURSOR = 1_000


def poll(state: str | None, fetch: Fetch, *, token: str, limit: Any) -> Iterator[Pulled]:
    """The pages since `state`. A cursor that the app has forgotten (410) begins anew: what came is known by its id.

    Raises Unavailable for an answer that is no page, Misuse for settings that are wrong.
    """
    cursor = None if state is None else _cursor_of(state)
    headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
    size = {"limit": str(_limit(limit))}
    asked, begun_anew = {cursor}, False
    while True:
        params = size if cursor is None else {**size, "cursor": cursor}
        response = fetch(PATH, params=params, headers=headers, allow=(_GONE,))
        if response.status == _GONE:
            if cursor is None or begun_anew:
                raise Unavailable("the app knows no cursor, its own neither (410)")
            cursor, begun_anew, asked = None, True, {None}
            continue
        following, more, up_to = _page(response.body)
        yield Pulled(payload=response.body, state=json.dumps({"cursor": following}), up_to=up_to)
        if not more:
            return
        if following in asked:
            raise Unavailable("the app says that there is more, and gives a cursor again that was asked for")
        cursor = following
        asked.add(cursor)


def _page(body: bytes) -> tuple[str, bool, datetime | None]:
    """Where a page leads: the cursor, whether there is more now, and up to when this is all."""
    try:
        root = read(body)
        root.need("records").items()
        more, cursor, generated = root.need("more").flag(), root.need("cursor").word(_LONGEST_CURSOR), None
        if not more and (said := root.optional("generated_at")) is not None:
            generated = said.time()
    except PayloadError as error:
        raise Unavailable(f"the app answers what is no page: {error}") from None
    return cursor, more, generated


def _cursor_of(state: str) -> str:
    try:
        return Field(parse(state)).need("cursor").word(_LONGEST_CURSOR)
    except PayloadError:
        raise Misuse("the stored state is not one of this connector") from None


def _limit(value: Any) -> int:
    if value is None:
        return LIMIT
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_LIMIT:
        raise Misuse(f"options.limit is no whole number from 1 to {MOST_LIMIT:,}")
    return value
