"""Login with a browser: authorization code with PKCE at the configured provider, then a session at the hub.

    /auth/login -> the provider -> /auth?code -> tokens, checked like any -> a session, its cookie -> next

What the login needs when the browser comes back stays at the hub, bound to this browser by a cookie of its own.
OAuth 2.0 Security Best Current Practice (RFC 9700), OpenID Connect Core 1.0 3.1, RFC 9207.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlencode

from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from fastapi import APIRouter, Query, Request
from httpx2 import HTTPError, InvalidURL
from starlette.responses import RedirectResponse, Response

from hub.canonical import timestamp
from hub.identity.caller import ROLES, Caller, Unauthenticated
from hub.identity.keys import TIMEOUT_S, Unfetched
from hub.identity.settings import Login, safe_url
from hub.identity.tokens import actor_of
from hub.sessions import LOGIN_S
from hub.web import operation, spec
from hub.web.door import Door, door, said
from hub.web.gate import Gate, entered
from hub.web.problems import Problem

router = APIRouter(tags=["login"], prefix="/auth")

_FAILED = "The login did not succeed; begin again at /auth/login."
_MOVED: spec.Responses = {303: {"description": "On to the provider, or to where it began"}}
_SESSION = spec.obj(
    {
        "actor": spec.TEXT,
        "roles": spec.rows({"type": "string", "enum": list(ROLES)}),
        "person": spec.MAYBE_TEXT,
        "recipient": spec.MAYBE_TEXT,
        "source": spec.MAYBE_TEXT,
        "expires": spec.TIME,
        "csrf": spec.MAYBE_TEXT,
    }
)
_EXAMPLE: dict[str, Any] = {
    "actor": "city:hanako",
    "roles": ["source", "service", "citizen"],
    "person": "hanako",
    "recipient": "aizu-city",
    "source": "myhazard",
    "expires": "2026-06-01T08:00:00.000000Z",
    "csrf": "k3Jv…",
}


@router.get("/login", summary="Log in", responses=_MOVED | spec.problems("unauthenticated", "provider-silent"))
async def get_login(
    request: Request, next: Annotated[str, Query(description="Where to go afterwards, a path here")] = "/"
) -> Response:
    """Sends the browser to the provider. 404 where no login is configured."""
    at, login = door(request), _login(request)
    metadata = await _metadata(at.gate, login)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    async with _client(login) as client:
        url, _ = client.create_authorization_url(
            metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
        )
    kept = {"state": state, "nonce": nonce, "verifier": verifier, "next": _path(next)}
    cookie = await at.read(lambda: at.gate.sessions.begin_login(kept))
    response = RedirectResponse(url, 303, {"Cache-Control": "no-store"})
    _set(response, at.gate, _login_cookie(at.gate), cookie, LOGIN_S)
    return response


@router.get(
    "", summary="The provider's way back", responses=_MOVED | spec.problems("unauthenticated", "provider-silent")
)
async def get_back(
    request: Request,
    state: Annotated[str, Query(description="As it was sent")] = "",
    code: Annotated[str, Query(description="The code to fetch the tokens with")] = "",
    iss: Annotated[str | None, Query(description="Who sends the browser back (RFC 9207)")] = None,
    error: Annotated[str | None, Query(description="Why there is no code")] = None,
    error_description: Annotated[str | None, Query(description="The same in words")] = None,
    error_uri: Annotated[str | None, Query(description="Where more is said")] = None,
    session_state: Annotated[str | None, Query(description="Of the provider's own session")] = None,
    scope: Annotated[str | None, Query(description="What was granted")] = None,
) -> Response:
    """Fetches and checks the tokens, and begins a session."""
    at, login = door(request), _login(request)
    cookie = request.cookies.get(_login_cookie(at.gate), "")
    kept = await at.read(lambda: at.gate.sessions.take_login(cookie)) if cookie else None
    if kept is None or error is not None or not hmac.compare_digest(kept["state"].encode(), state.encode()):
        raise Problem("unauthenticated", _FAILED)
    metadata = await _metadata(at.gate, login)
    unsaid = iss is None and metadata.get("authorization_response_iss_parameter_supported") is True
    if not code or unsaid or (iss is not None and iss != metadata["issuer"]):
        raise Problem("unauthenticated", _FAILED)
    try:
        async with asyncio.timeout(TIMEOUT_S), _client(login) as client:
            token = await client.fetch_token(
                metadata["token_endpoint"], code=code, code_verifier=kept["verifier"], grant_type="authorization_code"
            )
        if not isinstance(token, dict):
            raise ValueError("no object")
    except OAuthError as failed:
        operation.log().warning("login refused", error=type(failed).__name__)
        raise Problem("unauthenticated", _FAILED) from None
    except (HTTPError, InvalidURL, OSError, ValueError, TypeError, AttributeError) as failed:
        operation.log().error("login", error=type(failed).__name__)
        raise _silent() from None
    caller = await _checked(at, login, token, kept["nonce"])
    before = request.cookies.get(at.gate.cookie)
    if before:  # the browser forgets its name now: nobody could end it any more
        await at.read(lambda: at.gate.sessions.end(before))
    begun = await at.read(lambda: at.gate.sessions.begin(caller, token.get("id_token")))
    response = RedirectResponse(kept["next"], 303, {"Cache-Control": "no-store"})
    _set(response, at.gate, _login_cookie(at.gate), "", 0)
    _set(response, at.gate, at.gate.cookie, begun, login.longest_s)
    return response


async def _checked(at: Door, login: Login, token: Any, nonce: str) -> Caller:
    """Whom the tokens say. Both are checked: the one is for the hub, the other is of this login."""
    access, identity = token.get("access_token"), token.get("id_token")
    try:
        if not isinstance(access, str) or not isinstance(identity, str):
            raise Unauthenticated("the provider gave no access token or no ID token")
        caller = await at.gate.tokens.caller(access)
        types = (None, "jwt")
        read = await at.gate.tokens.read(identity, issuer=login.issuer, audience=login.client_id, types=types)
        own = read.claims
        of_this = isinstance(own.get("nonce"), str) and hmac.compare_digest(own["nonce"].encode(), nonce.encode())
        party = own.get("azp", login.client_id)
        if not of_this or party != login.client_id or actor_of(read.issuer, own) != caller.actor:
            raise Unauthenticated("the tokens are not of this login")
    except Unauthenticated as refused:
        operation.log().warning("login refused", problem=refused.reason)
        raise Problem("unauthenticated", _FAILED) from None
    return caller


@router.get(
    "/session",
    summary="Who is asking",
    responses=spec.answers(200, "Who the hub takes the caller for", _SESSION, _EXAMPLE) | spec.problems(),
)
async def get_session(request: Request) -> Response:
    """Roles and ids of the caller; `csrf` is what a session has to send as Hub-CSRF with what changes something."""
    at, caller = door(request), entered(request).caller
    session = None if "authorization" in request.headers else await at.gate.session(request)
    names = ("actor", "person", "recipient", "source")
    return said(
        {name: getattr(caller, name) for name in names}
        | {
            "roles": sorted(caller.roles, key=ROLES.index),
            "expires": timestamp(caller.expires),
            "csrf": session.csrf if session else None,
        }
    )


@router.post(
    "/logout",
    summary="Log out",
    responses=spec.answers(
        200,
        "The session has ended; `location` ends it at the provider too",
        spec.obj({"location": spec.MAYBE_TEXT}),
        {"location": "https://id.example/logout?id_token_hint=…"},
    )
    | spec.problems(),
)
async def post_logout(request: Request) -> Response:
    """Ends the session of the cookie. A token cannot be ended here: it ends by itself."""
    at, location = door(request), None
    session, cookie = await at.gate.session(request), request.cookies.get(at.gate.cookie, "")
    login = at.gate.identity.login
    if session is not None:
        await at.read(lambda: at.gate.sessions.end(cookie))
    if session is not None and session.id_token is not None and login is not None:
        ends = None
        with suppress(Unfetched):
            ends = (await at.gate.keys[login.issuer].discovered()).get("end_session_endpoint")
        if isinstance(ends, str) and safe_url(ends):
            location = f"{ends}?{urlencode({'id_token_hint': session.id_token, 'client_id': login.client_id})}"
    response = said({"location": location})
    _set(response, at.gate, at.gate.cookie, "", 0)
    return response


def _login(request: Request) -> Login:
    login: Login | None = door(request).gate.identity.login
    if login is None:
        raise Problem("not-found", "No login is configured here; send a token.")
    return login


async def _metadata(gate: Gate, login: Login) -> dict[str, Any]:
    try:
        metadata = await gate.keys[login.issuer].discovered()
    except Unfetched as error:
        operation.log().error("login", error=type(error).__name__)
        raise _silent() from None
    for name in ("authorization_endpoint", "token_endpoint"):
        if not isinstance(metadata.get(name), str) or not safe_url(metadata[name]):
            raise _silent()
    return metadata


def _silent() -> Problem:
    return Problem("provider-silent", "The login's provider does not answer as it should. Try again.")


def _client(login: Login) -> AsyncOAuth2Client:
    return AsyncOAuth2Client(
        login.client_id,
        login.client_secret,
        scope=login.scope,
        redirect_uri=f"{login.public_url}/auth",
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic" if login.client_secret else "none",
        follow_redirects=False,
        trust_env=False,
        timeout=TIMEOUT_S,
    )


def _path(said: str) -> str:
    """A path of this host: a login never ends at another site."""
    plain = said.startswith("/") and not said.startswith(("//", "/\\")) and said.isprintable() and len(said) < 1000
    return said if plain and "\\" not in said else "/"


def _login_cookie(gate: Gate) -> str:
    return "__Host-hub-login" if gate.secure else "hub-login"


def _set(response: Response, gate: Gate, name: str, value: str, max_age_s: int) -> None:
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=gate.secure, httponly=True, samesite="lax")
