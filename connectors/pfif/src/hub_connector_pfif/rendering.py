"""A view's answer as PFIF 1.4: what of it PFIF has a place for, and nothing that is not in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from lxml import etree

from hub.connector import parse_time
from hub_connector_pfif.notes import ANSWERED, SOURCE, told, unmarked

MEDIA_TYPES: Sequence[str] = ("application/pfif+xml",)
_PFIF = "http://zesty.ca/pfif/1.4"
_PROFILE = "profile.updated"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Item = Mapping[str, Any]


def rendered(answer: Mapping[str, Any], domain: str, keep: timedelta) -> bytes:
    """The answer as a PFIF document. keep: how long a reader may keep it, from the answer's time.

    A drill's answer has no records: PFIF has no mark for a drill, and other registers would take them for real.
    """
    root = etree.Element(f"{{{_PFIF}}}pfif", nsmap={"pfif": _PFIF})
    if answer["exercise"]:
        root.append(etree.Comment(" a drill (訓練): no records "))
    else:
        for person in answer["persons"]:
            _person(root, person, answer["time"], domain, keep)
    written: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)
    return written


def _person(root: etree._Element, person: Mapping[str, Any], time: str, domain: str, keep: timedelta) -> None:
    """A record of the person with their notes where the name is visible, which PFIF demands of one; else the notes.

    A note by itself cannot say when it ends: where there is no record to say so, one that ends is left out.
    """
    profile: Item = next((item["data"] for item in person["items"] if item["kind"] == _PROFILE), {})
    name, inside = profile.get("name"), root
    answers = [item for item in person["items"] if item["kind"] == ANSWERED and (name or _end(item) is None)]
    if not answers:
        return
    record_id = f"{domain}/person.{_local(person['person'])}"
    if name:
        inside = etree.SubElement(root, f"{{{_PFIF}}}person")
        _fields(
            inside,
            person_record_id=record_id,
            entry_date=_date(parse_time(time)),
            expiry_date=_date(min([_kept_until(parse_time(time), keep), *filter(None, map(_end, answers))])),
            source_date=max(map(_source_date, answers)),
            full_name=name,
            alternate_names=profile.get("name_kana"),
        )
    for item in answers:
        _note(inside, item, record_id, domain, name)


def _note(inside: etree._Element, item: Item, record_id: str, domain: str, name: str | None) -> None:
    data = item["data"]
    status, contact, text = _said(item)
    _fields(
        etree.SubElement(inside, f"{{{_PFIF}}}note"),
        note_record_id=f"{domain}/note.{_local(item['source'])}.{_local(item['event'])}",
        person_record_id=record_id,
        entry_date=_date(parse_time(item["recorded_at"])),
        author_name=data.get("answered_by") or name or item["source"],
        source_date=_source_date(item),
        author_made_contact="true" if contact else None,
        status=status,
        last_known_location=data.get("place"),
        text=text,
    )


def _said(item: Item) -> tuple[str | None, bool, str]:
    """Status, contact and text. What came as PFIF goes out as it came; other answers say their status in the text too.

    Who is hurt or needs help is alive; of whom nothing is known, no status is said: that no one knows is no search.
    """
    data = item["data"]
    note = data.get("note") or ""
    if item["source"] == SOURCE and (came := unmarked(note)) is not None:
        status, contact, text = came
        return status, contact, text or told(data["status"])
    alive = "believed_alive" if data.get("answered_by") else "is_note_author"
    text = told(data["status"]) + (f"\n{note}" if note else "")
    return None if data["status"] == "unknown" else alive, False, text


def _end(item: Item) -> datetime | None:
    ends_at = item["data"].get("expires_at")
    return None if ends_at is None else parse_time(ends_at)


def _kept_until(time: datetime, keep: timedelta) -> datetime:
    """The end of the day: a reader that asks every hour is told another date only once a day."""
    return (time + keep).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _source_date(item: Item) -> str:
    return _date(parse_time(item["occurred_at"] or item["recorded_at"]))


def _date(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _local(id_: str) -> str:
    return quote(id_, safe="")


def _fields(record: etree._Element, **fields: str | None) -> None:
    for name, value in fields.items():
        if value:
            etree.SubElement(record, f"{{{_PFIF}}}{name}").text = _NOT_XML.sub("", value)
