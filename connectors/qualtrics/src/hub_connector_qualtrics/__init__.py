"""Shelter surveys made with Qualtrics, as `survey.answered`, and by a mapping file safety and evacuation too.

Read are signed webhooks, responses pulled by API v3, and exports in CSV, TSV, JSON and XML, zipped or not; README.md
says what of them. A payload's content tells which it is.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from hub.connector import (
    UNSET,
    Event,
    Fetch,
    Misuse,
    PayloadError,
    Pulled,
    Rejected,
    Request,
    Settings,
    Translation,
    Unsigned,
)
from hub.connector.json import Field, read
from hub_connector_qualtrics import mapping, pulling, responses, unpacking, webhook
from hub_connector_qualtrics.answers import Columns
from hub_connector_qualtrics.facts import (
    EVACUATION,
    RETRACTED,
    SAFETY,
    SOURCE,
    SURVEY,
    LeftOutError,
    Teller,
    ZonelessError,
)
from hub_connector_qualtrics.responses import Heads, Read, Response
from hub_connector_qualtrics.survey import load

_SURVEY_ID = re.compile(r"SV_[0-9A-Za-z]{1,60}")
_ENCODINGS = ("utf-8", "cp932")
_BOM = b"\xef\xbb\xbf"
_ABSENT = "is not in this payload, so what it said is not known"
_MOST_REJECTED = 1_000
_FIRST = datetime(2026, 6, 2, 9, tzinfo=UTC)


class Qualtrics:
    """The connector `qualtrics`. It holds its settings and nothing else."""

    name = "qualtrics"
    source = SOURCE
    kinds: Sequence[str] = (SURVEY, SAFETY, EVACUATION, RETRACTED)
    signed = "webhook"
    quality: Mapping[str, str] = {
        "refs": "done",
        "corrections": "exempt: Qualtrics tells of no edit and no deletion; README.md says how they are brought",
        "drills": "done",
        "signature": "done",
        "polling": "done",
        "hostile": "done",
        "measured": "done",
        "documented": "done",
    }

    def __init__(self, settings: Settings = UNSET) -> None:
        """Raises Misuse where an option, the mapping or the survey's definition is wrong."""
        self._settings = settings
        self._survey = load(settings.files.get("qsf"))
        self._meanings = mapping.read(settings.files.get("mapping"))
        self._encoding = _one_of(settings, "encoding", _ENCODINGS)
        self._id = _survey_id(settings) or self._survey.id
        self._teller = Teller(meanings=self._meanings, survey=self._id, zone=_zone(settings))
        self._pulling = pulling.options(settings)

    def verify(self, request: Request) -> None:
        """Return if Qualtrics signed the webhook with the secret `webhook`. Raises Unsigned."""
        if self.signed not in self._settings.secrets:
            raise Unsigned("there is no secret to verify by")
        webhook.verify(request.body, self._settings.secret(self.signed))

    def poll(self, state: str | None, fetch: Fetch) -> Iterator[Pulled]:
        """The survey's responses since `state`, by exports. Raises Misuse, Unavailable."""
        survey = _survey_id(self._settings)
        if survey is None:
            raise Misuse("options.survey is not set")
        return pulling.Pull(survey, self._settings.secret("token"), self._pulling, fetch).run(state)

    def translate(self, payload: bytes) -> Translation:
        """The events of its responses, or why there are none. Raises PayloadError."""
        if unpacking.is_zip(payload):
            payload = unpacking.unpacked(payload)
        if webhook.is_form(payload):
            return webhook.read(payload, self._id)
        start = payload[:1000].removeprefix(_BOM).lstrip()[:1]
        if start in (b"{", b"["):
            return self._json(payload.removeprefix(_BOM))
        if start == b"<":
            return self._told(responses.of_xml(payload), Heads())
        heads, found = responses.of_table(payload, self._survey, self._encoding, self._meanings.ref)
        return self._told(found, heads)

    def sample(self, records: int) -> bytes:
        """An export in JSON with so many responses of made-up people, one every four seconds."""
        said = [_made_up(number, self._meanings.ref) for number in range(records)]
        return json.dumps({"responses": said}, ensure_ascii=False).encode()

    def _json(self, payload: bytes) -> Translation:
        if len(payload) > unpacking.LARGEST_BYTES:
            raise PayloadError("is larger than 64 MiB")
        try:
            top = read(payload, responses.LARGEST_JSON_BYTES)
        except PayloadError:
            if not responses.are_lines(payload):
                raise
            return self._told(responses.of_lines(payload), Heads(), by_itself=True)
        other = _other(top)
        if other is not None:
            return Translation(nothing=other)
        return self._told(responses.of_json(top), Heads(), _deleted(top), by_itself=True)

    def _told(
        self, found: Read, heads: Heads, deleted: Mapping[str, str] | None = None, *, by_itself: bool = False
    ) -> Translation:
        """The events of these responses. deleted: the ids of those to retract, and where each stands.

        by_itself: a time without an offset is one response's fault, and not that of the whole export.
        """
        account = _Account(deleted=dict(deleted or {}))
        columns = Columns(self._survey, self._meanings, heads)
        for response in found:
            if isinstance(response, Rejected):
                account.rejected.append(response)
            else:
                self._take(response, columns, account, by_itself=by_itself)
            account.give_up()
        return account.translation()

    def _take(self, response: Response, columns: Columns, account: _Account, *, by_itself: bool) -> None:
        try:
            told = self._teller.tell(response, columns)
        except LeftOutError as left_out:
            account.left_out[str(left_out)] += 1
            account.deleted.pop(_id(response), None)
        except PayloadError as error:
            if isinstance(error, ZonelessError) and not by_itself:
                raise PayloadError(error.reason, path=error.path) from None
            account.rejected.append(Rejected(error=error, payload=response.alone(), refs=self._refs(response, columns)))
        else:
            account.take(told.events, told.recorded_at, withdrawn=account.deleted.pop(_id(response), None) is not None)

    def _refs(self, response: Response, columns: Columns) -> Sequence[str]:
        try:
            ref = self._teller.ref(response, columns)
        except PayloadError:
            return ()
        return (ref,) if ref else ()


@dataclass(slots=True)
class _Account:
    """What became of a payload's responses."""

    events: dict[str, Event] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    deleted: dict[str, str] = field(default_factory=dict)
    reported_at: datetime | None = None

    def take(self, events: Iterable[Event], recorded_at: datetime, *, withdrawn: bool) -> None:
        for event in events:
            said = _retraction(event) if withdrawn else event
            self.events[said.id] = said
        self.reported_at = max(self.reported_at or recorded_at, recorded_at)

    def give_up(self) -> None:
        """Raise PayloadError where so much of the payload cannot be read that it is another's, or a forgery."""
        if len(self.rejected) == _MOST_REJECTED and not self.events and not self.left_out:
            first = self.rejected[0].error
            raise PayloadError(f"{first.reason}; so are all of its first {_MOST_REJECTED:,} responses", path=first.path)

    def translation(self) -> Translation:
        unknown = [
            Rejected(
                error=PayloadError(_ABSENT, path=path),
                payload=json.dumps({"responses": [], "deletes": [{"responseId": response}]}).encode(),
            )
            for response, path in self.deleted.items()
        ]
        nothing = None if self.events else self._nothing()
        return Translation(
            events=list(self.events.values()),
            nothing=nothing,
            rejected=[*self.rejected, *unknown],
            reported_at=self.reported_at,
        )

    def _nothing(self) -> str:
        if not self.left_out:
            return "there is no response in it that can be recorded"
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
        return f"responses that are left out: {reasons}"


def _retraction(event: Event) -> Event:
    data = {"event": event.id, "reason": "deleted in the survey"}
    return Event(source=SOURCE, id=f"{event.id}:deleted", kind=RETRACTED, ref=event.ref, data=data)


def _id(response: Response) -> str:
    return response.text("_recordId")


def _deleted(top: Field) -> Mapping[str, str]:
    """The responses that an export names under `deletes`, as the API's call to delete them does."""
    deletes = top.optional("deletes")
    if deletes is None:
        return {}
    named = [part.need("responseId") for part in deletes.items()]
    return {response.word(): response.path for response in named}


def _other(top: Field) -> str | None:
    """Why a JSON of Qualtrics holds no response, where it is of another sort."""
    if top.optional("SurveyElements") is not None:
        return "the definition of a survey (QSF): it belongs into files.qsf"
    result = top.optional("result")
    if top.optional("meta") is not None and (result is None or _is_reply(result)):
        return "a reply of the API that holds no response"
    return None


def _is_reply(result: Field) -> bool:
    return isinstance(result.value, dict) and "values" not in result.value and "responseId" not in result.value


def _survey_id(settings: Settings) -> str | None:
    survey = settings.options.get("survey")
    if survey is not None and (not isinstance(survey, str) or not _SURVEY_ID.fullmatch(survey)):
        raise Misuse("options.survey: is no id of a survey (SV_…)")
    return survey


def _one_of(settings: Settings, name: str, known: Sequence[str]) -> str:
    value = settings.options.get(name, known[0])
    if value not in known:
        raise Misuse(f"options.{name}: is none of {', '.join(known)}")
    return str(value)


def _zone(settings: Settings) -> tzinfo | None:
    name = settings.options.get("time_zone")
    if name is None or name == "UTC":
        return UTC if name else None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, AttributeError, OSError):
        raise Misuse("options.time_zone: is no time zone (Asia/Tokyo)") from None


def _made_up(number: int, ref: str) -> dict[str, Any]:
    at = (_FIRST + timedelta(seconds=4 * number)).strftime("%Y-%m-%dT%H:%M:%SZ")
    values = {
        "startDate": at,
        "endDate": at,
        "recordedDate": at,
        "status": 0,
        "finished": 1,
        "progress": 100,
        "distributionChannel": "anonymous",
        "userLanguage": "JA",
        "_recordId": f"R_{number:015d}",
        ref: f"sample-{number % 5000}",
        "QID1": 1 + number % 4,
        "QID2": [str(1 + number % 3), "4"],
        "QID3_TEXT": f"毛布が{1 + number % 5}枚足りません。",
    }
    labels = {"status": "IP Address", "finished": "True", "QID1": "無事", "QID2": ["食料", "薬"]}
    return {"responseId": values["_recordId"], "values": values, "labels": labels}
