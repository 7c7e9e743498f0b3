"""Notes of the People Finder Interchange Format (PFIF 1.1 to 1.4) as `safety.answered`, and answers as PFIF 1.4.

See README.md for what is read, and for what becomes of records that expire.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from hub.connector import UNSET, Misuse, Settings, Translation
from hub_connector_pfif import feed, notes, reading, rendering

_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,98}[a-z0-9])?")
_KEEP_DAYS = 30
_MOST_SAMPLED = 5_000  # a payload has at most 4 MiB


class PFIF:
    """The connector `pfif`. It holds its options, and no state."""

    name = "pfif"
    source = notes.SOURCE
    kinds: Sequence[str] = (notes.ANSWERED, notes.RETRACTED)
    quality: Mapping[str, str] = {
        "refs": "done",
        "corrections": "done",
        "drills": "exempt: PFIF has no mark for a drill",
        "signature": "exempt: feeds come as files or by a relay that shows a token",
        "polling": "exempt: feeds are brought",
        "hostile": "done",
        "measured": "done",
        "documented": "done",
    }

    def __init__(self, settings: Settings = UNSET) -> None:
        """options.domain: ours, for the ids of records that go out; without it no answer is offered as PFIF.

        options.keep_days: how long a reader of an answer may keep it. Raises Misuse.
        """
        domain, days = settings.options.get("domain"), settings.options.get("keep_days", _KEEP_DAYS)
        if domain is not None and not (isinstance(domain, str) and _DOMAIN.fullmatch(domain)):
            raise Misuse("options.domain is no domain: hub.example")
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 366:
            raise Misuse("options.keep_days is no whole number from 1 to 366")
        self._domain: str | None = domain
        self._keep = timedelta(days=days)
        self.media_types: Sequence[str] = rendering.MEDIA_TYPES if domain else ()

    def translate(self, payload: bytes) -> Translation:
        """An answer for each note that says how a person is. Raises PayloadError where it is no PFIF."""
        return reading.translated(feed.parse(payload), self._domain)

    def render(self, answer: Mapping[str, Any], media_type: str) -> bytes:
        """A view's answer as PFIF 1.4. Raises Misuse where no domain is set."""
        if self._domain is None:
            raise Misuse("options.domain is not set")
        return rendering.rendered(answer, self._domain, self._keep)

    def sample(self, records: int) -> bytes:
        """Persons with a note each."""
        persons = "".join(
            f"<pfif:person><pfif:person_record_id>example.org/person.{n}</pfif:person_record_id>"
            f"<pfif:source_date>2026-06-02T00:00:00Z</pfif:source_date><pfif:full_name>会津 {n}</pfif:full_name>"
            f"<pfif:note><pfif:note_record_id>example.org/note.{n}</pfif:note_record_id>"
            f"<pfif:author_name>花子</pfif:author_name><pfif:source_date>2026-06-02T00:01:00Z</pfif:source_date>"
            f"<pfif:status>believed_alive</pfif:status><pfif:text>体育館で会いました</pfif:text></pfif:note></pfif:person>"
            for n in range(min(records, _MOST_SAMPLED))
        )
        return f'<pfif:pfif xmlns:pfif="http://zesty.ca/pfif/1.4">{persons}</pfif:pfif>'.encode()
