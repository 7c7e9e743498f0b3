"""When an issuer is asked for its keys, and who waits for it."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from hub.identity.caller import Unauthenticated
from hub.identity.keys import COOLDOWN_S, FRESH_S, PATIENCE_S, STALE_S, Keys, Unfetched
from hub.identity.settings import Issuer
from hub.identity.tokens import Tokens

ISSUER = Issuer(name="city", issuer="https://id.example", audience="hub", algorithms=("Ed25519",))
AT = "https://id.example/keys"


class Far:
    """An issuer, and the clock of who asks it. doing: what its keys' address does instead."""

    def __init__(self) -> None:
        self.now, self.asked, self.discoveries = 0.0, 0, 0
        self.keys = [OKPKey.generate_key("Ed25519", auto_kid=True)]
        self.doing: Callable[[], Awaitable[None]] | None = None
        self.known = Keys(ISSUER, lambda: self.now, self.fetch)

    async def fetch(self, url: str) -> bytes:
        if url != AT:
            self.discoveries += 1
            return json.dumps({"issuer": ISSUER.issuer, "jwks_uri": AT}).encode()
        self.asked += 1
        said = json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()
        if self.doing is not None:
            await self.doing()
        return said

    async def finds(self, kid: str | None = None) -> bool:
        return await self.known.find(kid or self.keys[0].kid, "Ed25519") is not None


async def silent() -> None:
    raise Unfetched("did not answer")


async def slow() -> None:
    await asyncio.sleep(60)


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing: what would be waited for is over."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose time goes on only where everyone waits, so that it takes what it should on any machine."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


def run(story: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(story)


@pytest.fixture
def far() -> Far:
    return Far()


def test_a_key_that_is_new_is_fetched_at_once_each_time(far: Far) -> None:
    async def story() -> None:
        for _ in range(5):
            far.keys = [OKPKey.generate_key("Ed25519", auto_kid=True)]
            assert await far.finds()

    run(story())
    assert far.asked == 5


def test_many_who_wait_for_a_key_share_one_fetch(far: Far) -> None:
    async def story() -> list[bool]:
        return await asyncio.gather(*(far.finds() for _ in range(50)))

    assert all(run(story()))
    assert far.asked == 1


def test_a_key_that_became_known_while_a_fetch_was_under_way_is_found(far: Far) -> None:
    """The fetch under way may have been answered before the key was there."""

    far.doing = lambda: asyncio.sleep(0.05)

    async def story() -> bool:
        first = asyncio.create_task(far.finds())
        await asyncio.sleep(0.02)
        new = OKPKey.generate_key("Ed25519", auto_kid=True)
        far.keys.append(new)
        return all(await asyncio.gather(first, far.finds(new.kid)))

    assert run(story())


def test_ids_that_mean_nothing_are_asked_for_once_in_a_pause(far: Far) -> None:
    async def story() -> None:
        assert await far.finds()
        for number in range(1_000):
            assert not await far.finds(f"k{number}")
        assert far.asked == 2
        far.now += COOLDOWN_S
        assert not await far.finds("k")
        assert far.asked == 3

    run(story())


def test_who_goes_away_does_not_take_the_pause_with_them(far: Far) -> None:
    far.doing = lambda: asyncio.sleep(0.05)

    async def story() -> None:
        for number in range(20):
            asking = asyncio.create_task(far.finds(f"k{number}"))
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
        await asyncio.sleep(0.1)

    run(story())
    assert far.asked == 1


def test_nobody_whose_key_is_known_waits_long_for_a_slow_issuer(far: Far) -> None:
    async def story() -> None:
        assert await far.finds()
        far.now += FRESH_S
        far.doing = slow
        now = asyncio.get_running_loop().time
        begun = now()
        assert all(await asyncio.gather(*(far.finds() for _ in range(20))))
        assert now() - begun == pytest.approx(PATIENCE_S)
        begun = now()
        assert await far.finds(), "the fetch goes on, and nobody waits for it again"
        assert now() == begun

    run(story())


def test_known_keys_serve_for_a_day_while_the_issuer_is_away(far: Far) -> None:
    async def story() -> None:
        assert await far.finds()
        far.doing = silent
        far.now += STALE_S - 1
        assert await far.finds()
        far.now += 2
        assert not await far.finds()

    run(story())


def test_what_the_issuer_dropped_is_gone_with_the_next_fetch(far: Far) -> None:
    async def story() -> None:
        old = far.keys[0].kid
        assert await far.finds(old)
        far.keys = [OKPKey.generate_key("Ed25519", auto_kid=True)]
        assert await far.finds(old)
        far.now += FRESH_S
        assert not await far.finds(old)

    run(story())


def test_the_discovery_document_is_asked_for_again(far: Far) -> None:
    async def story() -> None:
        for at in (0.0, FRESH_S - 1, FRESH_S):
            far.now = at
            await far.known.discovered()

    run(story())
    assert far.discoveries == 2


def test_a_token_in_its_leeway_is_taken_as_often_as_it_is_shown(far: Far) -> None:
    wall = [1_000.0]
    tokens = Tokens([(ISSUER, far.known)], lambda: wall[0])
    claims: dict[str, Any] = {"iss": ISSUER.issuer, "aud": "hub", "sub": "s", "iat": 900, "exp": 990}
    key = far.keys[0]
    token = jwt.encode({"alg": "Ed25519", "typ": "at+jwt", "kid": key.kid}, claims, key, algorithms=["Ed25519"])

    async def story() -> None:
        for _ in range(3):
            assert (await tokens.caller(token)).subject == "s"
        wall[0] += ISSUER.leeway_s
        for _ in range(3):
            with pytest.raises(Unauthenticated, match="expired"):
                await tokens.caller(token)

    run(story())
