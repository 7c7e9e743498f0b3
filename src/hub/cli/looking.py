"""Commands that look back: what stood, what was reported, who would be answered what, and why."""

from __future__ import annotations

import json
import locale
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hub.cli.opening import At, AtPosition, Database, Exercise, Json, opened, print_json, say, time_of


def emergencies(database: Database = None, at: At = None, as_json: Json = False) -> None:
    """The emergencies: proposed, active, ended."""
    with opened(database) as hub:
        rows = hub.audit.emergencies(time_of(at), details=not as_json)
    if as_json:
        print_json(rows)
        return
    if not rows:
        say("No emergency was ever declared or proposed.")
    for row in rows:
        drill = " (exercise)" if row["exercise"] else ""
        say(f"{row['state']:9}{row['hazard']}{drill}  {row['since']} – {row['until']}  {row['emergency']}")
        say(f"         {' '.join(row['areas'])}")
        asked = set(row["proposed"]["areas"]).difference(row["areas"]) if row["proposed"] else ()
        if asked:
            say(f"         waits for an officer: {' '.join(sorted(asked))}")


def places(
    kind: Annotated[str, typer.Option("--kind", help="hazard.reported or shelter.reported.")],
    database: Database = None,
    area: Annotated[str | None, typer.Option("--area", help="Only those in this area.")] = None,
    at: At = None,
    on: Annotated[
        str | None, typer.Option("--on", help="How things stood at a time, also by what came in later.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Every report, not only the newest of each place.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hazards and shelters: the newest report of each, now or as known at a time. They name no person."""
    with opened(database) as hub:
        rows = hub.directory.places(kind, area=area, time=time_of(at), on=time_of(on, "--on"), history=history)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        drill = " (exercise)" if row["exercise"] else ""
        say(f"{row['recorded_at']}  {row['source']}  {row['event']}{drill}")
        say(f"         {_in_short(row['data'])}")


def _in_short(said: Mapping[str, Any]) -> str:
    """What a report says, in a line: of a shelter its people; of a hazard the areas by level, the highest first."""
    if "shelter" in said:
        words = [said.get("name") or said["shelter"], said.get("status") or " ".join(said.get("designations") or ())]
        words += [f"{said[of]} {of}" for of in ("people", "households") if said.get(of) is not None]
        return ", ".join(word for word in words if word)
    levels: dict[str, set[str]] = {}
    for area in said["areas"]:
        place = next((area[of] for of in ("area", "name", "region") if area.get(of)), "an outline")
        levels.setdefault(area["level"], set()).add(place)
    order = sorted(levels.keys() - {"0", "none"}, key=lambda level: level.replace("+", "~"), reverse=True)
    places = [f"level {level}: {' '.join(sorted(levels[level]))}" for level in order] or ["nothing in force"]
    return "; ".join([f"{said['hazard']} {said['action']}", *places])


def replay(
    recipient: Annotated[str, typer.Option("--recipient", help="Who asked.")],
    purpose: Annotated[str, typer.Option("--purpose", help="What for.")],
    database: Database = None,
    exercise: Exercise = False,
    at: At = None,
    position: AtPosition = None,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind or pattern; repeatable.")] = None,
    persons: Annotated[list[str] | None, typer.Option("--person", help="Only this person; repeatable.")] = None,
    history: Annotated[bool, typer.Option("--history", help="Every visible item, not only the newest.")] = False,
    as_json: Json = False,
) -> None:
    """What a recipient would be answered: now, at a time, or at a position. It is a look, and is recorded as one."""
    from hub.answer import Query

    with opened(database) as hub:
        query = Query(
            recipient=recipient,
            purpose=purpose,
            exercise=exercise,
            kinds=tuple(kinds or ()),
            persons=tuple(map(hub.disclosure.name_of, persons)) if persons else None,
            history=history,
        )
        done = hub.audit.replay(query, position=position, time=time_of(at), actor=actor())
        if done.erased:
            sys.stderr.write(f"hub: {done.erased} of the persons asked for: erased\n")
        if done.destroyed:
            sys.stderr.write(f"hub: at most {done.destroyed} items are missing: retention ended\n")
        if done.hypothetical:
            sys.stderr.write("hub: hypothetical: the log had gone on before that time\n")
    _show_answer(done.answer.body, as_json)


def _show_answer(body: bytes, as_json: bool) -> None:
    if as_json:
        sys.stdout.flush()
        sys.stdout.buffer.write(body + b"\n")
        sys.stdout.flush()
        return
    answer = json.loads(body)
    say(f"{answer['recipient']}, {answer['purpose']}, {answer['time']}: {len(answer['persons'])} persons")
    for person in answer["persons"]:
        say(f"{person['person']} ({person['mode']})")
        for item in person["items"]:
            [(basis, name)] = item["basis"].items()
            say(f"  {item['recorded_at']}  {item['kind']}  {item['precision']}  {basis} {name}")


def actor() -> str:
    """Who runs the command, as the machine knows it."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def explain(
    recipient: Annotated[str, typer.Option("--recipient", help="Who asks.")],
    purpose: Annotated[str, typer.Option("--purpose", help="What for.")],
    person: Annotated[str, typer.Option("--person", help="About whom.")],
    database: Database = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="Only the fact with this id.")] = None,
    exercise: Exercise = False,
    at: At = None,
    position: AtPosition = None,
    lang: Annotated[str | None, typer.Option("--lang", help="ja or en; default by locale.")] = None,
    as_json: Json = False,
) -> None:
    """Why a recipient sees something of a person, and why not, with the rules' numbers."""
    with opened(database) as hub:
        done = hub.audit.explain(
            recipient=recipient,
            purpose=purpose,
            person=person,
            kind=kind,
            event=event,
            exercise=exercise,
            position=position,
            time=time_of(at),
            actor=actor(),
        )
    japanese = language(lang) == "ja"
    lines = [(r.holds, r.text_ja if japanese else r.text, r.rule) for r in done.lines]
    if as_json:
        rows = [{"holds": holds, "text": text, "rule": rule} for holds, text, rule in lines]
        print_json({"shown": done.shown, "lines": rows})
        return
    for holds, text, rule in lines:
        say(f"{'+' if holds else '-'} {text} ({rule})")
    say(
        ("提供される。" if done.shown else "提供されない。")
        if japanese
        else f"{'Shown' if done.shown else 'Not shown'}."
    )


def language(given: str | None) -> str:
    from hub.errors import Misuse

    if given is None:
        name = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
        return "ja" if (name or locale.getlocale()[0] or "").startswith("ja") else "en"
    if given not in ("ja", "en"):
        raise Misuse("--lang is ja or en")
    return given
