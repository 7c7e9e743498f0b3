"""Sources that are asked: each goes on where it was, backs off while it fails, and shows how far behind it is.

    poll(state) -> page -> payloads.take -> state stored -> next page

A page's state is stored once all of the page is durable. A stop in between has the page come again, and its events
are known by then: nothing is lost, nothing doubled. Of several processes one asks a source at a time, by a lease.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Row, String, Table, case, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from hub.connector import Fetch, Polls, Pulled, Response
from hub.errors import Busy, HubError, Misuse, PayloadError, Tampered, Unavailable
from hub.events import EPOCH, micros
from hub.fetching import Fetcher
from hub.log.clock import SKEW
from hub.log.log import Log
from hub.log.recorder import Number, metadata
from hub.payloads import POLL, Delivery, Payloads, Taken
from hub.plugins import Plugins

LEASE = timedelta(seconds=150)
"""Longer than one request, or taking one page; renewed at each. After a kill, another asks once it is over."""

FIRST_S, LONGEST_S = 5.0, 3600.0
"""How long it waits after a first failure, and at the most; twice as long after each."""

_LONGEST_WAIT_S = 24 * 3600.0
"""Nobody waits longer: not by `every_s`, nor by `Retry-After`. More is what a clock that leapt left behind."""

_LONGEST_STATE = 16 * 1024
_LOOK_S = 2.0

polled = Table(
    "polled",
    metadata,
    Column("name", String, primary_key=True),
    Column("state", String),
    Column("due_us", Number, nullable=False),
    Column("lease", String),
    Column("lease_us", Number, nullable=False),
    Column("done_us", Number),
    Column("up_to_us", Number),
    Column("failures", Number, nullable=False),
    Column("error", String),
)
"""One row for each source that is asked. `state` is the connector's own; nothing of a person is in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a source that is asked stands.

    lag_s: seconds since the time up to which all of it is here: since the last whole round, or as the pages of a cut
    one say; None before anything was. error: why the last try failed, None where it did not. failures: how many tries
    failed in a row.
    """

    name: str
    due_at: datetime
    done_at: datetime | None
    lag_s: float | None
    failures: int
    error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What one round of asking a source came to. again_s: in how many seconds it is asked again."""

    name: str
    pages: int
    accepted: int
    waiting: int
    refused: int
    error: str | None
    again_s: float


class Polling:
    """The sources of one hub that are asked."""

    def __init__(self, log: Log, payloads: Payloads, plugins: Plugins) -> None:
        self._log, self._payloads, self._plugins = log, payloads, plugins
        self._me = f"{os.getpid()}-{os.urandom(6).hex()}"

    def names(self) -> list[str]:
        """The connectors that poll and have a url, sorted."""
        return [
            plugin.name
            for plugin in self._plugins.loaded()
            if isinstance(plugin, Polls) and self._plugins.setting(plugin.name).url
        ]

    def standings(self) -> list[Standing]:
        """How each source stands that was ever asked, sorted by name."""
        now = self._log.clock.now()
        with self._log.entries.snapshot() as (connection, _):
            rows = connection.execute(select(polled).order_by(polled.c.name)).all()
        return [_standing(row, now) for row in rows]

    def wake(self, name: str) -> None:
        """Have a source asked now, whoever asks it. One that fails keeps its waiting time."""
        with self._log.entries.maintaining() as connection:
            mine = (polled.c.name == name) & (polled.c.failures == 0)
            connection.execute(update(polled).where(mine).values(due_us=0))

    def forget(self, name: str) -> None:
        """Have a source asked from its beginning, now: what comes again is known, and doubles nothing.

        Raises Busy while another process asks it.
        """
        now = self._log.clock.now()
        with self._log.entries.maintaining() as connection:
            row = connection.execute(select(polled).where(polled.c.name == name)).first()
            if row is None:
                return
            if micros(now) <= row.lease_us <= micros(now + LEASE) and row.lease != self._me:
                left_s = (row.lease_us - micros(now)) / 1e6
                raise Busy(f"{name} is being asked now; end that process, or try again in {left_s:.0f} s at the latest")
            anew = {"state": None, "up_to_us": None, "done_us": None, "failures": 0, "error": None}
            mine = {"lease": self._me, "lease_us": 0, "due_us": 0}
            connection.execute(update(polled).where(polled.c.name == name).values(anew | mine))

    def due_s(self, name: str) -> float:
        """In how many seconds a source is due; 0 where it is."""
        with self._log.entries.snapshot() as (connection, _):
            due_us = connection.scalar(select(polled.c.due_us).where(polled.c.name == name)) or 0
        wait_s = (due_us - micros(self._log.clock.now())) / 1e6
        return 0.0 if wait_s > _LONGEST_WAIT_S else max(0.0, wait_s)

    def ask(self, name: str, stop: threading.Event | None = None) -> Round | None:
        """One round: all pages that there are. None where another process asks this source now.

        stop: ends the round after a page, which gives None; the next goes on from there. What fails is told in the
        round, and waits for its time. Raises Misuse where the source is none that is asked.
        """
        plugin, setting = self._plugins.find(name), self._plugins.setting(name)
        if not isinstance(plugin, Polls) or setting.url is None:
            raise Misuse(f"connector {name!r} is not polled: it has no `poll`, or no url in HUB_CONNECTORS")
        row = self._lease(name)
        if row is None:
            return None
        pages = accepted = waiting = refused = 0
        error, wait_s = None, float(setting.every_s)
        with closing(Fetcher(setting.url, setting.settings.secrets.values())) as fetch:
            try:
                for pulled in plugin.poll(row.state, _Renewing(lambda: self._renew(name), fetch)):
                    self._renew(name)
                    taken = self._payloads.take(Delivery(connector=plugin, payload=pulled.payload, via=POLL))
                    if taken.lost:
                        raise _not_kept(taken, plugin.source)
                    if not self._advance(name, pulled):
                        return None
                    pages += 1
                    accepted += sum(result.status == "accepted" for result in taken.results)
                    waiting += sum(result.status == "waiting" for result in taken.results)
                    refused += len(taken.refused)
                    if stop is not None and stop.is_set():
                        self._write(name, {"lease_us": 0})
                        return None
            except Tampered:
                raise
            except _TakenOver:
                return None
            except Exception as failure:
                error = _told(failure)
                wait_s = _wait_s(row.failures + 1, failure)
        self._finish(name, error, wait_s)
        return Round(
            name=name, pages=pages, accepted=accepted, waiting=waiting, refused=refused, error=error, again_s=wait_s
        )

    def _lease(self, name: str) -> Row[Any, Any] | None:
        now = self._log.clock.now()
        with self._log.entries.maintaining() as connection:
            if connection.scalar(select(polled.c.name).where(polled.c.name == name)) is None:
                connection.execute(insert(polled).values(name=name, due_us=0, lease_us=0, failures=0))
            leapt = polled.c.lease_us > micros(now + LEASE + SKEW)
            free = (polled.c.name == name) & or_(polled.c.lease_us < micros(now), leapt, polled.c.lease == self._me)
            mine = {"lease": self._me, "lease_us": micros(now + LEASE), "due_us": micros(now)}
            if not connection.execute(update(polled).where(free).values(mine)).rowcount:
                return None
            query = select(polled.c.state, polled.c.failures).where(polled.c.name == name)
            return connection.execute(query).one()

    def _renew(self, name: str) -> None:
        if not self._write(name, {"lease_us": micros(self._log.clock.now() + LEASE)}):
            raise _TakenOver

    def _advance(self, name: str, pulled: Pulled) -> bool:
        """Store where to go on; False where another has taken over."""
        if len(pulled.state) > _LONGEST_STATE:
            raise PayloadError("the connector's state is larger than 16 KiB; tell its author")
        values = {"state": pulled.state, "lease_us": micros(self._log.clock.now() + LEASE)}
        if pulled.up_to is not None:
            values["up_to_us"] = micros(pulled.up_to)
        return self._write(name, values)

    def _finish(self, name: str, error: str | None, wait_s: float) -> None:
        now = self._log.clock.now()
        values: dict[str, object] = {"error": error, "due_us": micros(now + timedelta(seconds=wait_s)), "lease_us": 0}
        if error is None:
            woken = case(
                (polled.c.due_us == 0, 0), else_=values["due_us"]
            )  # what it heard of meanwhile is not here yet
            values |= {"failures": 0, "done_us": micros(now), "due_us": woken}
        else:
            values["failures"] = polled.c.failures + 1
        self._write(name, values)

    def _write(self, name: str, values: dict[str, object]) -> bool:
        mine = (polled.c.name == name) & (polled.c.lease == self._me)
        with self._log.entries.maintaining() as connection:
            return bool(connection.execute(update(polled).where(mine).values(values)).rowcount)

    def run(self, names: list[str], stop: threading.Event, told: Callable[[Round], None]) -> None:
        """Ask these sources, each in a thread of its own, until `stop`. told: of each round, by any thread.

        Raises Tampered, once all have ended.
        """
        found: list[Tampered] = []

        def run(name: str) -> None:
            try:
                self._run(name, stop, told)
            except Tampered as error:
                found.append(error)
                stop.set()

        threads = [threading.Thread(target=run, args=(name,), name=f"poll {name}") for name in dict.fromkeys(names)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in found:
            raise error

    def _run(self, name: str, stop: threading.Event, told: Callable[[Round], None]) -> None:
        while not stop.is_set():
            try:
                done = self.ask(name, stop) if self.due_s(name) == 0 else None
                wait_s = min(_LOOK_S, max(self.due_s(name), 0.2))
            except Tampered:
                raise
            except Exception as failure:  # as of a full disk: it may pass, and the source is asked again
                wait_s = FIRST_S
                done = Round(name=name, pages=0, accepted=0, waiting=0, refused=0, error=_told(failure), again_s=wait_s)
            if done is not None:
                told(done)
            stop.wait(wait_s)


def _not_kept(taken: Taken, source: str) -> PayloadError:
    """Why a page is not passed over: what is refused of it is nowhere else than at the source."""
    if not taken.full:
        return PayloadError("more of a page is refused than can be kept; it is not passed over")
    return PayloadError(
        f"stopped before a page: the quarantine has no room for what is refused of it, first: {taken.refused[0]}. "
        f"Mend that, or make room (hub quarantine drop --source {source}); then it goes on by itself"
    )


class _TakenOver(Exception):
    """Another process asks the source now."""


@dataclass(frozen=True)
class _Renewing:
    """`fetch`, with the lease renewed before each request: a page may take several."""

    renew: Callable[[], None]
    fetch: Fetch

    def __call__(self, path: str, **how: Any) -> Response:
        self.renew()
        return self.fetch(path, **how)


def _told(failure: Exception) -> str:
    """What is shown of a failure: our own words, and of a foreign error its name alone."""
    if isinstance(failure, HubError):
        return str(failure)
    if isinstance(failure, SQLAlchemyError):
        return f"the hub's database failed ({type(failure).__name__}); see the disk"
    return f"the connector failed ({type(failure).__name__}); tell its author"


def _wait_s(failures: int, failure: Exception) -> float:
    """Twice as long after each failure, spread by a quarter so that many hubs do not ask at once; never less than the
    source itself asks for."""
    backoff_s = min(FIRST_S * 2.0 ** min(failures - 1, 20), LONGEST_S)
    wait_s = backoff_s * random.uniform(1.0, 1.25)  # noqa: S311 -- no secret hangs on it
    asked_s = failure.retry_after_s if isinstance(failure, Unavailable) else None
    return max(wait_s, asked_s or 0.0)


def _standing(row: Row[Any], now: datetime) -> Standing:
    def time(value: int | None) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)

    known = max((found for found in (time(row.up_to_us), time(row.done_us)) if found is not None), default=None)
    return Standing(
        name=row.name,
        due_at=EPOCH + timedelta(microseconds=row.due_us),
        done_at=time(row.done_us),
        lag_s=None if known is None else max(0.0, (now - known).total_seconds()),
        failures=row.failures,
        error=row.error,
    )
