"""The service's feed of changes: pages behind a cursor, until there are no more for now."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from hub.connector import Fetch, PayloadError, Pulled, Unavailable
from hub.connector.json import Field, read
from hub_connector_careyell.page import FORMAT

PATH = "/v1/updates"
PAGE = 100
MOST_PAGES = 1_000
"""As many as one poll asks for; the next poll goes on there."""

_CURSOR = re.compile(r"[0-9A-Za-z._~-]{1,200}")
_GONE = 410


def poll(state: str | None, fetch: Fetch, token: str) -> Iterator[Pulled]:
    """The pages that came since `state`. Where the service does not know the cursor any more, all from the beginning:
    what is known already are the same events again."""
    cursor = _cursor(state)
    for _ in range(MOST_PAGES):
        params = {"limit": str(PAGE)} | ({} if cursor is None else {"after": cursor})
        response = fetch(PATH, params=params, headers={"Authorization": f"Bearer {token}"}, allow=(_GONE,))
        if response.status == _GONE:
            if cursor is None:
                raise Unavailable("the service does not know its own beginning")
            cursor = None
            continue
        pulled, reached, more = _page(response.body)
        if more and reached == cursor:
            raise Unavailable("the service says that there is more, and gives the same cursor again")
        yield pulled
        cursor = reached
        if not more:
            return


def _page(body: bytes) -> tuple[Pulled, str, bool]:
    """The page, its cursor, and whether there is more. One that cannot be read as a page is not passed over."""
    try:
        said = read(body)
        said.need("format").one_of({FORMAT: True})
        reached, more = said.need("next"), said.need("more").flag()
        if not _CURSOR.fullmatch(reached.word()):
            raise reached.wrong("is no cursor")
        complete_to: Field | None = said.optional("complete_to")
        up_to = None if complete_to is None else complete_to.time()
    except PayloadError as error:
        raise Unavailable(f"the service gave a page that cannot be read: {error}") from None
    state = json.dumps({"after": reached.text()})
    return Pulled(payload=body, state=state, up_to=up_to), reached.text(), more


def _cursor(state: str | None) -> str | None:
    """The cursor in a state; None where there is none that this version wrote."""
    try:
        said = json.loads(state or "{}")
    except ValueError:
        return None
    cursor = said.get("after") if isinstance(said, dict) else None
    return cursor if isinstance(cursor, str) and _CURSOR.fullmatch(cursor) else None
