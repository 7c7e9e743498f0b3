"""The gate: who is asking, and whether the table lets them. Every request passes it before anything else is done.

A bearer token says who; without one, the cookie of a session, which for whatever changes something has to come
with the session's CSRF token. Nothing else is looked at.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request

from hub.connector import Request as Signed
from hub.connector import Verifies
from hub.errors import Busy, Misuse, PayloadError
from hub.hub import Hub
from hub.identity import local
from hub.identity.caller import Caller, Unauthenticated
from hub.identity.keys import Keys
from hub.identity.local import LocalIssuer
from hub.identity.settings import Identity, Officers
from hub.identity.tokens import Tokens
from hub.plugins import Plugins
from hub.sessions import Session, Sessions
from hub.web import access, bodies, operation
from hub.web.access import Admitted, Authority
from hub.web.problems import Problem

CSRF = "hub-csrf"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = ("GET", "HEAD", "OPTIONS")
_IDLE_S, _LONGEST_S = 1800, 8 * 3600
_SIGNED_S = 60.0
SIGNED_BYTES = 4 * 1024 * 1024
"""The largest webhook that is read before anybody is known to have sent it."""


class Gate:
    """Who is known to one worker. local_issuer: where no identity file is set."""

    def __init__(
        self,
        hub: Hub,
        identity: Identity,
        local_issuer: LocalIssuer | None = None,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity, self._clock, self._now = identity, hub.log.clock, now
        self.keys = {
            issuer.name: local_issuer.keys(monotonic)
            if local_issuer is not None and issuer.name == local.NAME
            else Keys(issuer, monotonic)
            for issuer in identity.issuers
        }
        self.tokens = Tokens([(issuer, self.keys[issuer.name]) for issuer in identity.issuers], now)
        login = identity.login
        self.sessions = Sessions(
            hub.log,
            now,
            idle_s=login.idle_s if login else _IDLE_S,
            longest_s=login.longest_s if login else _LONGEST_S,
        )
        self.authority = Authority(identity.sources, self.alone)
        self._actors = tuple(f"{issuer.name}:" for issuer in identity.issuers)
        self.secure = login is not None and login.public_url.startswith("https:")

    @property
    def cookie(self) -> str:
        """The name of the session's cookie; `__Host-` has browsers keep it to this one host."""
        return "__Host-hub" if self.secure else "hub"

    def alone(self, act: str) -> bool:
        """Whether one officer may do this alone now."""
        officers = self.identity.officers
        return act in officers.alone or (act in officers.alone_at_night and is_night(officers, self._clock.now()))

    def lasting(self, request: Request, caller: Caller) -> Callable[[], Awaitable[float]]:
        """For how many seconds the caller need not show anew who it is; none once a session has ended."""

        async def left_s() -> float:
            if "authorization" not in request.headers and await self.session(request) is None:
                return 0.0
            return caller.expires.timestamp() - self._now()

        return left_s

    def check_names(self, kind: str, data: Mapping[str, Any], person: object) -> None:
        """Raise PayloadError for a person or delegate who is called as an officer would be: `by` names both."""
        path = {"delegation.added": "delegate", "person.enrolled": "person"}.get(kind)
        name = person if path == "person" else data.get(path or "")
        if isinstance(name, str) and name.startswith(self._actors):
            raise PayloadError("begins like the name of an issuer's own; choose another id", path=path or "", kind=kind)

    async def caller(self, request: Request) -> Caller:
        """Who is asking. Raises Problem where nobody is known to."""
        said = request.headers.getlist("authorization")
        if said:
            scheme, _, token = said[0].partition(" ")
            if len(said) > 1 or scheme.lower() != "bearer":
                raise unauthenticated("send one Authorization header: Bearer and the token")
            return await self.bearer(token.strip(" "))
        session = await self.session(request)
        if session is None:
            raise unauthenticated(None)
        if request.method not in _SAFE:
            sent = request.headers.get(CSRF, "")
            if not hmac.compare_digest(sent.encode(), session.csrf.encode()):
                raise Problem("forbidden", "Send the session's csrf (GET /auth/session) as Hub-CSRF.")
        return session.caller

    async def signer(self, request: Request, route: str) -> Caller | None:
        """The source that signed a webhook, for a request that shows no token; None where there is nothing to verify.

        The body is read for it and stands in the request's state. Raises Problem for a signature that does not hold.
        """
        if route != access.WEBHOOK or "authorization" in request.headers or self.cookie in request.cookies:
            return None
        at = request.app.state.door
        plugins: Plugins = at.hub.plugins
        try:
            plugin = plugins.find(request.path_params["name"])
        except Misuse:
            return None
        if not isinstance(plugin, Verifies) or plugin.signed not in plugins.setting(plugin.name).settings.secrets:
            return None
        at.inlet.check()
        body = await bodies.read(request, SIGNED_BYTES)
        signed = Signed(headers=dict(request.headers), body=body)
        try:
            await at.read(lambda: plugin.verify(signed))
        except Busy:
            raise
        except Exception as error:  # also a connector's own, as for a header that is no ASCII: who fails has not shown
            operation.log().warning("webhook refused", connector=plugin.name, error=type(error).__name__)
            raise unauthenticated("the source's signature does not hold") from None
        request.state.payload = body
        expires = datetime.fromtimestamp(self._now() + _SIGNED_S, UTC)
        return Caller(actor=f"signed:{plugin.name}", roles=frozenset({"source"}), expires=expires, source=plugin.source)

    async def bearer(self, token: str) -> Caller:
        """Whom a token makes its bearer. Raises Problem."""
        try:
            return await self.tokens.caller(token)
        except Unauthenticated as error:
            operation.log().warning("token refused", problem=error.reason)
            raise unauthenticated(error.reason) from None

    async def session(self, request: Request) -> Session | None:
        """The session of the request's cookie; None where there is none."""
        cookie = request.cookies.get(self.cookie)
        if not cookie:
            return None
        at = request.app.state.door
        found: Session | None = await at.read(lambda: self.sessions.find(cookie))
        return found

    async def admit(self, request: Request, route: str) -> Admitted | None:
        """Who may go on, and in which role; None where nobody is asked. Raises Problem for all others."""
        cells = access.cells_of(route)
        if cells is None:
            return None
        caller = await self.signer(request, route) or await self.caller(request)
        found = await access.admitted(request, caller, route)
        if found is None:
            recipient = request.path_params.get("recipient")
            if recipient is not None and route.startswith("GET /v1/views/"):
                at = request.app.state.door
                purpose = request.query_params.get("purpose")
                await at.read(lambda: at.hub.disclosure.refuse(recipient, purpose, actor=at.name_of(caller)))
                at.metrics.decided("refused")
            raise access.forbidden()
        return found


async def enter(request: Request) -> None:
    """Let a request in, or raise. What it is let in as stands in its state."""
    gate: Gate = request.app.state.door.gate
    request.state.admitted = await gate.admit(request, access.route_of(request))


def entered(request: Request) -> Admitted:
    """As what a request was let in."""
    found: Any = getattr(request.state, "admitted", None)
    if not isinstance(found, Admitted):
        raise access.forbidden()
    return found


def unauthenticated(reason: str | None) -> Problem:
    """401, with what to do about it. None: nothing was sent that says who asks."""
    if reason is None:
        headers = {"WWW-Authenticate": 'Bearer realm="hub"'}
        return Problem("unauthenticated", "Send a token: Authorization: Bearer …", headers=headers)
    headers = {"WWW-Authenticate": 'Bearer realm="hub", error="invalid_token"'}
    return Problem("unauthenticated", "See errors.", [{"path": "Authorization", "reason": reason}], headers)


def is_night(officers: Officers, now: datetime) -> bool:
    """Whether `now` lies in the span that is night, which may pass midnight."""
    if officers.night is None:
        return False
    begin, end = officers.night
    there = now.astimezone(officers.zone).time()
    return begin <= there < end if begin <= end else there >= begin or there < end


class Hosts:
    """Only by the names that the hub is reached by, and from no page of another site (DNS rebinding, CSRF)."""

    def __init__(self, app: Any, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, LOOPBACK | hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            origin = headers.get(b"origin")
            elsewhere = headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
            foreign = elsewhere and scope["path"] not in _ENTRIES and not _arrives(scope, headers)
            known = _host(b"//" + headers.get(b"host", b"")) in self._hosts
            if not known or foreign or (origin is not None and _host(origin) not in self._hosts):
                problem = Problem("foreign-origin", "Ask by a name that the hub is reached by, from a page of its own.")
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


_ENTRIES = ("/auth", "/auth/login")
"""Where a browser comes to from another site: a link to the login, and the provider's way back."""


def _arrives(scope: Any, headers: dict[bytes, bytes]) -> bool:
    """Whether a browser comes to a page by a link, or from the login: its way there counts as from another site. The
    API is no page: a link to a view would have an answer given, and uses taken."""
    navigates = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
    return bool(navigates and scope["method"] == "GET" and not scope["path"].startswith("/v1/"))


def _host(origin: bytes) -> str | None:
    try:
        return urlsplit(origin.decode("latin-1")).hostname
    except ValueError:
        return None
