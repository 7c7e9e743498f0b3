"""Who may do what: the one table. What it does not say is refused.

A cell says on what a role may use a route, or append a kind:

    -     nothing
    own   what is the caller's own: the person, the recipient, the source
    act   the caller's own person, and a person for whom the caller is an active delegate (R16)
    any   everything
    each  as the table of kinds says of each event
    alone where the identity file lets one officer alone declare and amend
    named the caller's own, where the identity file names this kind for the source
    open  (a whole row) nobody is asked

No answer tells whether an id of another exists (R20): what is not the caller's is refused before it is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from fastapi import Request

from hub.errors import Misuse, Refused
from hub.events import CONTROLS, Event
from hub.identity.caller import ROLES, Caller, Role
from hub.rules import matches
from hub.web.operation import template
from hub.web.problems import Problem

Cell = Literal["-", "own", "act", "any", "each", "alone", "named"]

_ROUTES = """
                                                 source service citizen officer operator auditor
POST   /v1/events                                each   each    each    each    each     -
POST   /v1/connectors/{name}                     own    -       -       -       -        -
PUT    /v1/persons/{person}                      -      -       own     -       any      -
DELETE /v1/persons/{person}                      -      -       own     -       any      -
GET    /v1/persons/{person}/grants               -      -       act     -       -        -
POST   /v1/persons/{person}/grants               -      -       act     -       -        -
DELETE /v1/persons/{person}/grants/{grant}       -      -       act     -       -        -
GET    /v1/persons/{person}/blocks               -      -       act     -       -        -
POST   /v1/persons/{person}/blocks               -      -       act     -       -        -
DELETE /v1/persons/{person}/blocks/{block}       -      -       act     -       -        -
GET    /v1/persons/{person}/delegations          -      -       act     -       -        -
POST   /v1/persons/{person}/delegations          -      -       own     -       any      -
DELETE /v1/persons/{person}/delegations/{delegation} -  -       own     -       any      -
GET    /v1/persons/{person}/relations            -      -       act     -       -        -
POST   /v1/persons/{person}/relations            -      -       own     -       any      -
DELETE /v1/persons/{person}/relations/{relation} -      -       own     -       any      -
GET    /v1/persons/{person}/preferences          -      -       act     -       -        -
PUT    /v1/persons/{person}/preferences          -      -       act     -       -        -
GET    /v1/persons/{person}/requests             -      -       act     -       -        -
POST   /v1/persons/{person}/requests             -      -       act     -       -        -
POST   /v1/persons/{person}/requests/{request}   -      -       act     -       -        -
GET    /v1/persons/{person}/notices              -      -       act     -       -        -
GET    /v1/persons/{person}/disclosures          -      -       act     -       -        -
POST   /v1/persons/{person}/preview              -      -       act     -       -        -
GET    /v1/persons/{person}/consents             -      -       act     -       -        -
GET    /v1/persons/{person}/export               -      -       own     -       -        -
GET    /v1/persons/{person}/links                -      -       own     -       -        -
PUT    /v1/persons/{person}/links/{source}       own    -       -       -       any      -
DELETE /v1/persons/{person}/links/{source}       -      -       own     -       any      -
GET    /v1/recipients                            any    any     any     any     any      any
GET    /v1/recipients/{recipient}                any    any     any     any     any      any
PUT    /v1/recipients/{recipient}                -      -       -       -       any      -
DELETE /v1/recipients/{recipient}                -      -       -       -       any      -
GET    /v1/kinds                                 any    any     any     any     any      any
POST   /v1/kinds                                 -      -       -       -       any      -
GET    /v1/places                                any    any     any     any     any      any
GET    /v1/emergencies                           any    any     any     any     any      any
POST   /v1/emergencies                           -      -       -       any     -        -
POST   /v1/emergencies/{emergency}/confirm       -      -       -       any     -        -
POST   /v1/emergencies/{emergency}/reject        -      -       -       any     -        -
POST   /v1/emergencies/{emergency}/undo          -      -       -       any     -        -
DELETE /v1/emergencies/{emergency}               -      -       -       any     -        -
GET    /v1/overrides                             -      -       -       any     -        any
POST   /v1/overrides                             -      -       -       any     -        -
DELETE /v1/overrides/{override}                  -      -       -       any     -        -
GET    /v1/views/{recipient}                     -      own     -       own     -        -
GET    /v1/views/{recipient}/changes             -      own     -       own     -        -
GET    /v1/views/{recipient}/stream              -      own     -       own     -        -
GET    /v1/audit/views/{recipient}               -      -       -       -       -        any
GET    /v1/audit/explain                         -      -       -       -       -        any
GET    /v1/audit/disclosures                     -      -       -       -       -        any
GET    /v1/audit/provisions                      -      -       -       -       -        any
GET    /v1/audit/events                          -      -       -       -       -        any
GET    /v1/quarantine                            -      -       -       -       any      -
GET    /v1/quarantine/{item}                     -      -       -       -       any      -
POST   /v1/quarantine/{item}                     -      -       -       -       any      -
DELETE /v1/quarantine/{item}                     -      -       -       -       any      -
GET    /registry/subjects                        any    any     any     any     any      any
GET    /registry/subjects/{subject}/versions     any    any     any     any     any      any
GET    /registry/subjects/{subject}/versions/{version} any any  any     any     any      any
GET    /registry/subjects/{subject}/versions/{version}/schema any any any any   any      any
POST   /registry/subjects/{subject}              any    any     any     any     any      any
POST   /registry/subjects/{subject}/versions     any    any     any     any     any      any
GET    /registry/schemas/types                   any    any     any     any     any      any
GET    /registry/schemas/ids/{id}                any    any     any     any     any      any
GET    /registry/schemas/ids/{id}/schema         any    any     any     any     any      any
GET    /registry/schemas/ids/{id}/subjects       any    any     any     any     any      any
GET    /registry/schemas/ids/{id}/versions       any    any     any     any     any      any
POST   /registry/compatibility/subjects/{subject}/versions any any any  any     any      any
POST   /registry/compatibility/subjects/{subject}/versions/{version} any any any any any any
GET    /registry/config                          any    any     any     any     any      any
GET    /registry/config/{subject}                any    any     any     any     any      any
GET    /registry/mode                            any    any     any     any     any      any
GET    /registry/mode/{subject}                  any    any     any     any     any      any
GET    /metrics                                  -      -       -       -       any      any
GET    /auth/session                             any    any     any     any     any      any
POST   /auth/logout                              any    any     any     any     any      any
GET    /auth/login                               open
GET    /auth                                     open
GET    /livez                                    open
GET    /readyz                                   open
GET    /openapi.json                             open
"""

_KINDS = """
                        source service citizen officer operator auditor
(a fact)                own    -       -       -       -        -
kind.introduced         -      -       -       -       any      -
area.introduced         -      -       -       -       any      -
recipient.registered    -      -       -       -       any      -
recipient.retired       -      -       -       -       any      -
person.enrolled         -      -       own     -       any      -
person.moved            -      -       own     -       any      -
person.erased           -      -       own     -       any      -
relation.added          -      -       own     -       any      -
relation.ended          -      -       own     -       any      -
delegation.added        -      -       own     -       any      -
delegation.ended        -      -       own     -       any      -
identity.linked         -      -       -       -       any      -
identity.unlinked       -      -       own     -       any      -
roster.listed           -      -       -       -       any      -
roster.removed          -      -       -       -       any      -
preferences.changed     -      -       act     -       -        -
consent.granted         -      -       act     -       -        -
consent.revoked         -      -       act     -       -        -
consent.declined        -      -       act     -       -        -
consent.requested       named  own     -       own     -        -
block.added             -      -       act     -       -        -
block.removed           -      -       act     -       -        -
emergency.proposed      -      -       -       any     -        -
emergency.declared      -      -       -       alone   -        -
emergency.lifted        -      -       -       any     -        -
emergency.rejected      -      -       -       any     -        -
override.opened         -      -       -       any     -        -
override.closed         -      -       -       any     -        -
fact.retracted          own    -       own     -       any      -
"""

FACT = "(a fact)"
OPEN = "open"
WEBHOOK = "POST /v1/connectors/{name}"


def _table(written: str, words: int) -> dict[str, dict[Role, Cell] | None]:
    """A table by its rows' names; None for an open row. A row or a cell that is not there is a fault of the table."""
    head, *lines = written.strip("\n").splitlines()
    if tuple(head.split()) != ROLES:
        raise ValueError("the table's columns are not the roles")
    found: dict[str, dict[Role, Cell] | None] = {}
    for line in lines:
        parts = line.replace(FACT, "(fact)").split()
        name = " ".join(parts[:words]).replace("(fact)", FACT)
        cells = parts[words:]
        if cells == [OPEN]:
            found[name] = None
            continue
        if len(cells) != len(ROLES) or not set(cells) <= set(get_args(Cell)) or name in found:
            raise ValueError(f"the row {name} has not one cell for each role")
        found[name] = {role: cast(Cell, cell) for role, cell in zip(ROLES, cells, strict=True)}
    return found


ROUTES = _table(_ROUTES, 2)
"""By method and template; None where nobody is asked."""

KINDS = _table(_KINDS, 1)
"""By kind, facts as one."""

if not set(CONTROLS) <= set(KINDS):
    raise ValueError("a control kind has no row in the table")

NOT_THEIRS = "is not for this caller to append"
FORBIDDEN = "Your role may not do this. Who may do what: docs/access.md."


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """Who was let in, in which role; `delegate` where a citizen acts for another."""

    caller: Caller
    role: Role
    delegate: bool = False

    @property
    def by(self) -> str | None:
        """What a control event says of who did it; None for a person's own act."""
        if self.role == "citizen":
            return self.caller.person if self.delegate else None
        return self.caller.actor


def forbidden() -> Problem:
    """The one refusal, whatever was asked and whether it exists."""
    return Problem("forbidden", FORBIDDEN)


def route_of(request: Request) -> str:
    """The row of the table that a request falls under."""
    method = "GET" if request.method == "HEAD" else request.method
    return f"{method} {template(request.scope)}"


def cells_of(route: str) -> Mapping[Role, Cell] | None:
    """The cells of a route; None where nobody is asked. A route that has no row is refused to everyone."""
    return ROUTES.get(route, {})


async def admitted(request: Request, caller: Caller, route: str) -> Admitted | None:
    """In which role the caller may use the route with the ids that stand in its path; None where in none."""
    cells = cells_of(route) or {}
    params = request.path_params
    for role in sorted(caller.roles, key=ROLES.index):
        cell = cells.get(role, "-")
        if cell in ("any", "each") or (cell in ("own", "act") and _own(request, caller, role, params)):
            return Admitted(caller=caller, role=role)
    if "citizen" in caller.roles and cells.get("citizen") == "act":
        person = params.get("person", "")
        if await _delegated(request, caller.person or "", person):
            return Admitted(caller=caller, role="citizen", delegate=True)
    return None


def _own(request: Request, caller: Caller, role: Role, params: Mapping[str, Any]) -> bool:
    match role:
        case "citizen":
            return caller.person is not None and params.get("person") == caller.person
        case "source":
            return caller.source is not None and caller.source == _source_of(request, params)
        case _:
            return caller.recipient is not None and params.get("recipient") == caller.recipient


def _source_of(request: Request, params: Mapping[str, Any]) -> str | None:
    """The source that a path is about: named, or that of the connector that is named."""
    if "name" not in params:
        return params.get("source")
    with suppress(Misuse):
        source: str = request.app.state.door.hub.plugins.find(params["name"]).source
        return source
    return None


async def _delegated(request: Request, delegate: str, person: str) -> bool:
    at = request.app.state.door
    delegated: bool = await at.read(lambda: at.hub.directory.delegated(person, delegate))
    return delegated


class Authority:
    """Who may append which event. sources: the kinds that each source may write; `*` stands for every source.

    alone: whether one officer may do a thing alone now.
    """

    def __init__(self, sources: Mapping[str, tuple[str, ...]], alone: Callable[[str], bool]) -> None:
        self._sources, self._alone = sources, alone

    def needs_delegations(self, caller: Caller, event: Event) -> bool:
        """Whether it hangs on a delegation if the caller may append the event."""
        return _cell(event.kind, "citizen") == "act" and "citizen" in caller.roles and event.person != caller.person

    def check(self, caller: Caller, event: Event, acts_for: frozenset[str] = frozenset()) -> Admitted:
        """In which role the caller may append the event. acts_for: whose active delegate the caller is.

        Raises Refused; alike for a person who does not exist and for one who is not the caller's (R20).
        """
        for role in sorted(caller.roles, key=ROLES.index):
            found = self._allowed(caller, role, event, acts_for)
            if found is not None:
                return found
        if _cell(event.kind, "officer") == "alone" and "officer" in caller.roles:
            raise Refused("takes two officers: POST /v1/emergencies, and another confirms", rule="R16", kind=event.kind)
        raise Refused(NOT_THEIRS, rule="R16", kind=event.kind)

    def _allowed(self, caller: Caller, role: Role, event: Event, acts_for: frozenset[str]) -> Admitted | None:
        match _cell(event.kind, role):
            case "any":
                return Admitted(caller=caller, role=role)
            case "alone" if self._alone("declare") and self._alone("amend"):
                return Admitted(caller=caller, role=role)
            case "own" | "act" if role == "citizen" and event.person == caller.person:
                return Admitted(caller=caller, role=role)
            case "act" if role == "citizen" and isinstance(event.person, str) and event.person in acts_for:
                return Admitted(caller=caller, role=role, delegate=True)
            case "own" if role == "source":
                return Admitted(caller=caller, role=role) if self._writes(caller, event) else None
            case "named" if event.source == caller.source and event.kind in self._kinds(caller):
                return Admitted(caller=caller, role=role)
            case "own" if role in ("service", "officer"):
                own = caller.recipient is not None and event.data.get("recipient") == caller.recipient
                return Admitted(caller=caller, role=role) if own else None
        return None

    def _writes(self, caller: Caller, event: Event) -> bool:
        """Whether the event is of the caller's own source and of a kind that the source may write."""
        if event.source != caller.source or caller.source is None:
            return False
        if event.kind == "fact.retracted":
            return event.data.get("source") in (None, caller.source)
        return matches(event.kind, self._kinds(caller))

    def _kinds(self, caller: Caller) -> tuple[str, ...]:
        """The kinds and patterns that the caller's source may write."""
        return self._sources.get(caller.source or "", self._sources.get("*", ()))


def _cell(kind: str, role: Role) -> Cell:
    row = KINDS.get(kind if kind in CONTROLS else FACT) or {}
    return row.get(role, "-")
