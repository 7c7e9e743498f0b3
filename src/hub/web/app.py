"""The application of one worker: routes, the order of layers, start and stop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from hub.derived.follower import Follower
from hub.errors import HubError, Misuse
from hub.hub import Hub
from hub.schemas import packaged
from hub.web import (
    audit,
    citizen,
    city,
    events,
    links,
    login,
    operation,
    persons,
    quarantine,
    registry,
    sending,
    spec,
    statistics,
    streams,
    views,
)
from hub.web.access import cells_of
from hub.web.door import Door, door, said
from hub.web.gate import Gate, Hosts, enter
from hub.web.operation import PREFIX, Metrics, Timed
from hub.web.problems import Problem, problem_of

Layer = Callable[[Any, Any, Any], Awaitable[None]]
Endpoint = Callable[[Request], Awaitable[Response]]

_LEAVE_S = 2.0
_FINISH_TURNS = 30
_FIGURES: spec.Responses = {200: {"description": "Figures of all workers", "content": {"text/plain": {}}}}


def create(
    open_hub: Callable[[], Hub], open_gate: Callable[[Hub], Gate], hosts: frozenset[str], folder: Path, worker: int
) -> Layer:
    """The application of a worker. hosts: the names that the hub is reached by, beside this machine's own.

    folder: where the workers of this machine leave their figures.
    """
    metrics = Metrics(folder, worker)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hub = await asyncio.to_thread(open_hub)
        at = app.state.door = Door(hub, metrics, open_gate(hub))
        at.inlet.start()
        follower = Follower(hub.log, hub.index, Deriving())
        follower.start()
        running = [asyncio.create_task(_leave(at)), asyncio.create_task(at.tail.run(lambda: at.streams > 0))]
        _end_streams_first(at)
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.to_thread(follower.stop)
            await asyncio.to_thread(at.close)
            operation.log().info("stopped")

    return layered(routes(lifespan), metrics, hosts)


def layered(app: FastAPI, metrics: Metrics, hosts: frozenset[str] = frozenset()) -> Layer:
    """The layers around the routes, outermost first: time and log, the hub's own names, the fast way."""
    return Timed(Hosts(Direct(app, {("POST", f"{PREFIX}/events"): events.post_events}), hosts), metrics)


def routes(lifespan: Any = None) -> FastAPI:
    """Every route, with its description. What they work on is `state.door`."""
    app = FastAPI(
        title="The hub",
        summary="A city's data exchange for disaster response, by the citizens' consent",
        version="0.1.0",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        telemetry={
            "tracing": False,
            "logs": False,
            "metrics": False,
            "operation_spans": False,
            "auto_configure": False,
        },
        dependencies=[Depends(enter), Depends(_parameters)],
    )
    schemas = packaged()
    for router in (events.router, views.router, statistics.router, audit.router, quarantine.router, streams.router):
        app.include_router(router, prefix=PREFIX)
    app.include_router(login.router)
    persons.add_routes(app, schemas, PREFIX)
    citizen.add_routes(app, schemas, PREFIX)
    links.add_routes(app, PREFIX)
    city.add_routes(app, schemas, PREFIX)
    registry.add_routes(app, schemas)
    sending.add_routes(app, schemas, PREFIX)
    app.include_router(_operation())
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    for kind in (Problem, HubError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _told)
    return app


def _end_streams_first(at: Door) -> None:
    """Have a signal to stop end the streams too: the server waits for them before it stops."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def stop(number: int, frame: FrameType | None, before: Any = before) -> None:
            at.stopping.set()
            loop.call_soon_threadsafe(at.tail.wake)
            if callable(before):
                before(number, frame)

        signal.signal(number, stop)


async def _leave(at: Door) -> None:
    """Leave the figures where the others find them, and see to what other processes did or could not finish."""
    turns = 0
    while True:
        with suppress(HubError, SQLAlchemyError, OSError):  # the next one tries again
            await asyncio.to_thread(at.metrics.leave)
            await asyncio.to_thread(at.hub.renew)
            turns += 1
            if at.hub.commits.unsure or turns % _FINISH_TURNS == 0:
                await asyncio.to_thread(at.hub.finish)
        await asyncio.sleep(_LEAVE_S)


class Deriving:
    """Logs what fails in folding, once while it fails."""

    def __init__(self) -> None:
        self._failing: str | None = None

    def __call__(self, error: Exception | None) -> None:
        if error is None:
            self._failing = None
            operation.log().info("working again", problem="derive")
            return
        words = {"reason": str(error)} if isinstance(error, HubError) else {}
        said = words.get("reason", type(error).__name__)
        if said != self._failing:
            place = {"error": type(error).__name__, "where": operation.where(error)}
            operation.log().error("problem", problem="derive", **place, **words)
        self._failing = said


async def _told(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status >= 500 and problem.name not in ("busy",):
        place = {"error": type(error).__name__, "where": operation.where(error)}
        words = {"reason": str(error)} if isinstance(error, Misuse) else {}  # the hub's own, of a setting
        operation.log().error("problem", problem=problem.name, **place, **words)
    return registry.refusal(problem) if registry.concerns(request.scope["path"]) else problem.response()


async def _parameters(request: Request) -> None:
    """A parameter that the route does not have: refused, since a filter that is ignored shows too much.

    Kafka's clients send the registry parameters of which it knows nothing, as Confluent's own ignores them.
    """
    if registry.concerns(request.scope["path"]):
        return
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is not None and request.scope["query_string"]:
        views.known_parameters(request, {field.alias for field in dependant.query_params})


class Direct:
    """The way past the framework's layers for the one route that has to be fast: the same function, twice as soon.

    straight: the function by method and path.
    """

    def __init__(self, app: FastAPI, straight: Mapping[tuple[str, str], Endpoint]) -> None:
        self._app, self._straight = app, straight

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        found = self._straight.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        scope["app"], scope["route"] = self._app, _Straight(scope["path"])
        request = Request(scope, receive)
        try:
            await enter(request)
            response = await found(request)
        except (Problem, HubError) as error:
            response = await _told(request, error)
        await response(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Straight:
    """Stands where a route does, for those who ask its template."""

    path: str


def _operation() -> APIRouter:
    router = APIRouter(tags=["operation"])
    state = spec.obj({"status": spec.TEXT}, {"reason": spec.TEXT})

    @router.get(
        "/livez",
        summary="Whether the process lives",
        responses=spec.answers(200, "It lives", state, {"status": "live"}) | spec.problems(),
    )
    async def livez() -> Response:
        """Restart the process where this does not answer."""
        return said({"status": "live"})

    @router.get(
        "/readyz",
        summary="Whether requests may be sent here",
        responses=spec.answers(200, "It is ready", state, {"status": "ready"}) | spec.problems(),
    )
    async def readyz(request: Request) -> Response:
        """Whether events can be appended: database and its role, clock and queue."""
        at = door(request)
        at.inlet.check()
        await at.read(at.hub.log.entries.check_role)
        reason = await at.read(at.clock_problem)
        if reason is not None:
            raise Problem("busy", reason)
        return said({"status": "ready"})

    @router.get(
        "/metrics",
        summary="Figures in Prometheus' text",
        responses=_FIGURES | spec.problems(),
        response_class=PlainTextResponse,
    )
    async def metrics(request: Request) -> Response:
        """Queue, commits, requests, decisions, refusals, clock; no person's data."""
        text = await asyncio.to_thread(door(request).metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4")

    return router


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        described = FastAPI.openapi(app)
        schemas = described.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas.update(spec.COMPONENTS)
        described["components"]["securitySchemes"] = spec.SECURITY
        for path, methods in described["paths"].items():
            for method, route in methods.items():
                _mend(route["responses"])
                if cells_of(f"{method.upper()} {path}") is not None:
                    route["security"] = [{name: []} for name in spec.SECURITY]
        app.openapi_schema = described
    return app.openapi_schema


def _mend(responses: dict[str, Any]) -> None:
    """Take out what the framework adds of itself: its own shape of errors, and JSON where there is none."""
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]
    for response in responses.values():
        content = response.get("content", {})
        if "example" not in content.get("application/json", {"example": ""}):
            del content["application/json"]
