"""Forged, expired, swapped, oversized and confused tokens: none is accepted, and a refusal says nothing of its token.

The controls: the tokens that were changed are accepted unchanged, before and after; and each check, once it is
taken out, lets one of them through.
"""

from __future__ import annotations

import asyncio
import base64
import json
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest
from joserfc import jws
from joserfc._rfc7515 import compact
from joserfc.jwk import OctKey

from hub.identity import tokens as checks
from hub.identity.caller import Unauthenticated
from hub.identity.tokens import LARGEST_BYTES, Tokens
from issuers import ALGORITHMS, AUDIENCE, NOW, Provider, b64, checking, key, mac, signature, token, written

CITY, OTHER, FOREIGN = Provider("city"), Provider("other"), Provider("foreign")
"""Two that are believed, and one that is not."""

MUTATIONS = 10_000
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LOOKALIKE = {"e": "\u0435", "a": "\u0430", "o": "\u043e", "-": "\u2010", "_": "\uff3f", ".": "\uff0e", "A": "\uff21"}


def judged(check: Tokens, *said: str) -> list[str | None]:
    """Why each is refused; None where it is accepted. Anything else that happens is not caught."""

    async def one(text: str) -> str | None:
        try:
            await check.caller(text)
        except Unauthenticated as error:
            return error.reason
        return None

    async def every() -> list[str | None]:
        return [await one(text) for text in said]

    return asyncio.run(every())


@cache
def valid() -> tuple[str, ...]:
    """A token of each algorithm, of both issuers."""
    return tuple(provider.token(algorithm) for provider in (CITY, OTHER) for algorithm in ALGORITHMS)


def parts_of(said: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    head, claims, seal = said.split(".")
    return json.loads(_raw(head)), json.loads(_raw(claims)), seal


def _raw(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _bit(rng: Random, said: str) -> str:
    parts = said.split(".")
    at = rng.randrange(3)
    raw = bytearray(_raw(parts[at]))
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    parts[at] = b64(bytes(raw))
    return ".".join(parts)


def _character(rng: Random, said: str) -> str:
    at = rng.randrange(len(said))
    others = [c for c in "".join(chr(n) for n in range(33, 127)) if c != said[at]]
    return said[:at] + rng.choice(others) + said[at + 1 :]


def _swapped(rng: Random, said: str) -> str:
    parts, others = said.split("."), rng.choice([other for other in valid() if other != said]).split(".")
    at = rng.choice([n for n in range(3) if parts[n] != others[n]])
    parts[at] = others[at]
    return ".".join(parts)


def _order(rng: Random, said: str) -> str:
    parts = said.split(".")
    first, second = rng.sample(range(3), 2)
    parts[first], parts[second] = parts[second], parts[first]
    return ".".join(parts)


def _headed(said: str, head: Any) -> str:
    _, claims, seal = said.split(".")
    return f"{written(head)}.{claims}.{seal}"


def _alg(rng: Random, said: str) -> str:
    _, claims, _ = said.split(".")
    plain = parts_of(said)[0]
    every = ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "RS1", "ES256K", "dir", None, 1, ["RS256"]]
    name = rng.choice([other for other in [*every, *ALGORITHMS] if other != plain["alg"]])
    seal = rng.choice(["", said.split(".")[2]])
    return f"{written({**plain, 'alg': name})}.{claims}.{seal}"


def _kid(rng: Random, said: str) -> str:
    head = parts_of(said)[0]
    right = head.pop("kid")
    every = [f"city-{a}" for a in ALGORITHMS] + [f"foreign-{a}" for a in ALGORITHMS]
    every += ["", "../../dev/null", "' OR 1=1 --", "\x00", right.upper(), right + " ", "k" * 201, "\ud800"]
    odd: list[Any] = [*(name for name in every if name != right), None, 1, True, [right], {"kid": right}]
    wrong = rng.choice([head, *({**head, "kid": name} for name in odd)])
    return _headed(said, wrong)


def _twice(rng: Random, said: str) -> str:
    """A name twice: the reading of the first and of the last differ. Signed by a stranger where it is a claim."""
    head, claims, _ = parts_of(said)
    if rng.random() < 0.5:
        name = rng.choice(list(head))
        return _headed(said, f'{{"{name}":{json.dumps(rng.choice(["none", "x", head[name]]))},{json.dumps(head)[1:]}')
    name = rng.choice(list(claims))
    return token(head, f'{{"{name}":1,{json.dumps(claims)[1:]}', head["alg"], key("foreign", head["alg"]))


def _typ(rng: Random, said: str) -> str:
    head = parts_of(said)[0]
    head["typ"] = rng.choice(["JWT", "jwt", "id+jwt", "logout+jwt", "", "at+jwt ", "application/at+jwt", None, 1, []])
    return _headed(said, head)


def _injected(rng: Random, said: str) -> str:
    """A header that brings its own key, signed with it."""
    head, claims, _ = parts_of(said)
    own = key("foreign", head["alg"])
    with_it: dict[str, Any] = {
        "jwk": own.as_dict(private=False),
        "jku": "https://foreign.example/keys",
        "x5u": "https://foreign.example/chain",
        "x5c": [base64.b64encode(b"certificate").decode()],
        "crit": ["exp"],
        "b64": False,
        "zip": "DEF",
        "enc": "A256GCM",
    }
    name = rng.choice(list(with_it))
    extra = {name: with_it[name]} | ({"crit": ["b64"]} if name == "b64" else {})
    if rng.random() < 0.3:
        return _headed(said, {**head, **extra})
    return token({**head, **extra}, claims, head["alg"], own)


def _claim(rng: Random, said: str) -> str:
    _, claims, seal = parts_of(said)
    said_of = {"person": "taro", "sub": "user-2", "exp": NOW + 900, "roles": ["operator", "citizen"], "aud": ["x"]}
    name = rng.choice(list(said_of))
    return f"{said.split('.')[0]}.{written({**claims, name: said_of[name]})}.{seal}"


def _resigned(rng: Random, said: str) -> str:
    """Claims that a stranger signs, or the other issuer, in this one's name or under its own key's."""
    head, claims, _ = parts_of(said)
    mine = claims["iss"].removeprefix("https://").removesuffix(".example")
    signer = rng.choice([name for name in ("city", "other", "foreign") if name != mine])
    changed = {"exp": NOW + rng.randrange(1, 3000), "iat": NOW - rng.randrange(1, 3000), "nbf": NOW - 1}
    changed |= {"aud": [AUDIENCE, "x"], "person": f"p-{rng.randrange(100)}"}
    name = rng.choice(list(changed))
    algorithm = rng.choice(ALGORITHMS)
    kid = rng.choice([f"{mine}-{algorithm}", f"{signer}-{algorithm}"])
    head = {"alg": algorithm, "typ": "at+jwt", "kid": kid}
    return token(head, {**claims, name: changed[name]}, algorithm, key(signer, algorithm))


def _stranger(rng: Random, said: str) -> str:
    """Signed well, by an issuer that is not believed."""
    claims = parts_of(said)[1]
    near = [claims["iss"] + "/", claims["iss"].upper(), claims["iss"] + "#", "http" + claims["iss"][5:], "", None]
    algorithm = rng.choice(ALGORITHMS)
    issuer = rng.choice(["https://foreign.example", *near, 1, [claims["iss"]], {"iss": claims["iss"]}])
    return token(FOREIGN.head(algorithm), {**claims, "iss": issuer}, algorithm, key("foreign", algorithm))


def _secret(rng: Random, said: str) -> str:
    """A shared secret made of what is public (RFC 8725, 2.1)."""
    head, claims, _ = parts_of(said)
    public = key(head["kid"].split("-")[0], head["alg"])
    jwk = public.as_dict(private=False)
    forms = [public.as_pem(private=False), public.as_der(private=False), json.dumps(jwk).encode(), b"", b"\0" * 32]
    forms += [_raw(str(jwk[name])) for name in ("n", "x", "y") if name in jwk] + [public.as_pem(private=False).strip()]
    size = rng.choice(["256", "384", "512"])
    alg = rng.choice([f"HS{size}", head["alg"]])
    return mac({**head, "alg": alg}, claims, rng.choice(forms), f"sha{size}")


def _padded(rng: Random, said: str) -> str:
    parts = said.split(".")
    at = rng.randrange(3)
    white = rng.choice(["=", "==", " ", "\n", "\r\n", "\t", "\x00", "\u00a0", "\u200b", "%", "+", "/", "."])
    place = rng.choice([0, len(parts[at]), rng.randrange(len(parts[at]))])
    parts[at] = parts[at][:place] + white + parts[at][place:]
    return ".".join(parts)


def _trailing(rng: Random, said: str) -> str:
    """The same bytes, written another way: bits behind the last byte that are not zero."""
    parts = said.split(".")
    loose = [at for at in range(3) if len(parts[at]) % 4 in (2, 3)]
    if not loose:
        return said + "="
    at = rng.choice(loose)
    last = _ALPHABET.index(parts[at][-1])
    parts[at] = parts[at][:-1] + _ALPHABET[last ^ rng.choice([1, 2, 3] if len(parts[at]) % 4 == 3 else range(1, 16))]
    return ".".join(parts)


def _alike(rng: Random, said: str) -> str:
    places = [at for at, letter in enumerate(said) if letter in _LOOKALIKE]
    at = rng.choice(places)
    return said[:at] + rng.choice([_LOOKALIKE[said[at]], "\ud800", "\u00e9", "\U0001f600"]) + said[at + 1 :]


def _shape(rng: Random, said: str) -> str:
    """Not the bytes of a signature that the algorithm makes."""
    head, claims, seal = said.split(".")
    raw = _raw(seal)
    half = len(raw) // 2
    order = 2**252 + 27742317777372353535851937790883648493
    more = int.from_bytes(raw[half:], "little") + order
    shifted = raw[:half] + more.to_bytes(half + 1, "little")[:half]
    if len(raw) != 64:
        shifted = raw + b"\0"
    forms = [b"\0" * len(raw), b"\xff" * len(raw), raw[:half] + b"\0" * half, b"\0" * half + raw[half:], raw * 2]
    forms += [b"\x30" + bytes([len(raw) + 4 & 127, 2, half]) + raw[:half] + bytes([2, half]) + raw[half:], raw[::-1]]
    forms += [shifted, raw[half:] + raw[:half], raw + b"\0", b"\0" + raw, b"\0", raw[:-1], raw[1:]]
    return f"{head}.{claims}.{b64(rng.choice(forms))}"


def _short(rng: Random, said: str) -> str:
    head, claims, seal = said.split(".")
    forms = ["", ".", "..", head, f"{head}.{claims}", f"{head}.{claims}.", f".{claims}.{seal}", f"{head}..{seal}"]
    return rng.choice([*forms, said[: rng.randrange(len(said))], said[rng.randrange(1, len(said)) :]])


def _nested(rng: Random, said: str) -> str:
    head, claims, seal = said.split(".")
    plain = parts_of(said)[0]
    flat = json.dumps({"protected": head, "payload": claims, "signature": seal})
    general = json.dumps({"payload": claims, "signatures": [{"protected": head, "signature": seal}]})
    inner = token({**plain, "cty": "JWT"}, said, plain["alg"], key("foreign", plain["alg"]))
    five = [
        f"{said}.{head}.{seal}",
        f"{head}..{claims}.{seal}.{seal}",
        f"{said}.{said}",
        f"Bearer {said}",
        f"{said}, x",
    ]
    return rng.choice([flat, general, inner, b64(flat.encode()), *five])


def _json(rng: Random, said: str) -> str:
    """Parts that are no JSON object, or an odd one."""
    head, claims, seal = said.split(".")
    odd = ["", "null", "1", '"x"', "[]", "{", "NaN", '{"alg":NaN}', "[" * 4000, '{"a":' * 1000, "\x00", "\ufeff{}"]
    odd += ['{"alg":"RS256"}{}', '{"iss":' + "9" * 5000 + "}", '{"exp":1e999999}', "{}", '{"iss":"\\ud800"}']
    part = written(rng.choice(odd))
    return rng.choice([f"{part}.{claims}.{seal}", f"{head}.{part}.{seal}"])


MUTANTS: tuple[Callable[[Random, str], str], ...] = (
    *(_bit, _character, _swapped, _order, _alg, _kid, _twice, _typ, _injected, _claim, _resigned, _stranger, _secret),
    *(_padded, _trailing, _alike, _shape, _short, _nested, _json),
)


def mutations() -> Iterator[tuple[str, str, str]]:
    """Which kind of change, of which token, to what; 10,000 of them, the same each time."""
    rng = Random(20261125)
    for number in range(MUTATIONS):
        change = MUTANTS[number % len(MUTANTS)]
        said = rng.choice(valid())
        yield change.__name__, said, change(rng, said)


def test_unchanged_tokens_of_every_algorithm_are_accepted() -> None:
    assert judged(checking(CITY, OTHER), *valid()) == [None] * len(valid())


def test_none_of_ten_thousand_changed_tokens_is_accepted() -> None:
    check = checking(CITY, OTHER)
    assert judged(check, *valid()) == [None] * len(valid())
    every = list(mutations())
    reasons = judged(check, *(changed for _, _, changed in every))
    let_in = Counter(name for (name, _, _), reason in zip(every, reasons, strict=True) if reason is None)
    assert not let_in
    assert len(every) == MUTATIONS
    assert len({changed for _, _, changed in every}) > MUTATIONS / 2, "most are different ones"
    assert judged(check, *valid()) == [None] * len(valid()), "and the right ones are accepted afterwards"
    assert judged(checking(CITY, OTHER), *valid()) == [None] * len(valid())


def test_a_refusal_says_nothing_of_the_token() -> None:
    every = [(changed, said) for _, said, changed in mutations()][::5]
    said_reasons = set(judged(checking(CITY, OTHER), *(changed for changed, _ in every)))
    assert len(said_reasons) <= 8, said_reasons
    whole = " ".join(str(reason) for reason in said_reasons)
    for _, said in every[:200]:
        head, claims, seal = parts_of(said)
        for value in (*head.values(), *claims.values(), seal, *said.split(".")):
            if isinstance(value, str):
                assert value not in whole


@pytest.mark.parametrize("size", [LARGEST_BYTES + 1, 1024 * 1024])
def test_a_token_that_is_too_large_is_refused_however_well_it_is_signed(size: int) -> None:
    short = CITY.token("ES256", pad="")
    large = CITY.token("ES256", pad="x" * ((size - len(short)) * 3 // 4))
    larger = large + "A" * max(0, size - len(large))
    assert judged(checking(CITY), short, larger) == [None, checks.NOT_ACCEPTED]
    fits = CITY.token("ES256", pad="x" * ((LARGEST_BYTES - len(short)) * 3 // 4 - 4))
    assert judged(checking(CITY), fits) == [None]


def _signed(said: str, **head: Any) -> str:
    """Claims as a text, signed with the right key."""
    return token(CITY.head("ES256", **head), said, "ES256", key("city", "ES256"))


def _with(name: str, text: str) -> str:
    return _signed(json.dumps(CITY.claims(**{name: None}))[:-1] + f', "{name}": {text}}}')


RIGHT_KEY_WRONG_SAID: dict[str, str] = {
    "ended": CITY.token("ES256", exp=NOW - 31, iat=NOW - 600),
    "ends nowhere": CITY.token("ES256", exp=None),
    "ends at a text": CITY.token("ES256", exp=str(NOW + 600)),
    "ends at NaN": _with("exp", "NaN"),
    "ends at Infinity": _with("exp", "Infinity"),
    "ends at 1e400": _with("exp", "1e400"),
    "ends at a number of 400 digits": _with("exp", "9" * 400),
    "ends at a number of 5,000 digits": _with("exp", "9" * 5_000),
    "ends at true": _with("exp", "true"),
    "ends at null": _with("exp", "null"),
    "ends before 1970": _with("exp", "-1"),
    "ends at a list": _with("exp", f"[{NOW + 600}]"),
    "made nowhere": CITY.token("ES256", iat=None),
    "made at a text": CITY.token("ES256", iat=str(NOW)),
    "made at false": _with("iat", "false"),
    "made in the future": CITY.token("ES256", iat=NOW + 31),
    "begins in the future": CITY.token("ES256", nbf=NOW + 31),
    "begins at a text": CITY.token("ES256", nbf="now"),
    "begins at null": _with("nbf", "null"),
    "begins at a number of 400 digits": _with("nbf", "9" * 400),
    "lives too long": CITY.token("ES256", iat=NOW, exp=NOW + 3601),
    "ends before it was made": CITY.token("ES256", iat=NOW + 20, exp=NOW + 10),
    "for a list of others": CITY.token("ES256", aud=["x", AUDIENCE + "/"]),
    "for nobody": CITY.token("ES256", aud=None),
    "for an empty list": CITY.token("ES256", aud=[]),
    "for a text that holds the name": CITY.token("ES256", aud=f"x {AUDIENCE}"),
    "for a table with the name": CITY.token("ES256", aud={AUDIENCE: True}),
    "for a list in a list": CITY.token("ES256", aud=[[AUDIENCE]]),
    "from an issuer with a slash": CITY.token("ES256", iss="https://city.example/"),
    "from another issuer": CITY.token("ES256", iss="https://other.example"),
    "from no issuer": CITY.token("ES256", iss=None),
    "from a list of issuers": CITY.token("ES256", iss=["https://city.example"]),
    "of no type": token({"alg": "ES256", "kid": "city-ES256"}, CITY.claims(), "ES256", key("city", "ES256")),
    "of the type JWT": CITY.token("ES256", {"typ": "JWT"}),
    "of a type that is a number": CITY.token("ES256", {"typ": 1}),
    "of an algorithm that is not allowed": CITY.token("ES256", {"alg": "ES384"}),
    "named twice in its head": _signed(json.dumps(CITY.claims())).replace(
        written(CITY.head("ES256")), written('{"alg":"none",' + json.dumps(CITY.head("ES256"))[1:])
    ),
    "with a claim twice": _signed('{"person": "taro", ' + json.dumps(CITY.claims())[1:]),
    "with a key of its own": CITY.token("ES256", {"jwk": key("city", "ES256").as_dict(private=False)}),
    "with an address of keys": CITY.token("ES256", {"jku": "https://city.example/keys"}),
    "with something critical": CITY.token("ES256", {"crit": ["exp"]}),
    "with claims that are a list": token(CITY.head("ES256"), [CITY.claims()], "ES256", key("city", "ES256")),
    "of nobody": CITY.token("ES256", sub=None),
    "of somebody with a control character": CITY.token("ES256", sub="a\x00b"),
    "of somebody who is a number": CITY.token("ES256", sub=1),
}


@pytest.mark.parametrize("said", RIGHT_KEY_WRONG_SAID.values(), ids=RIGHT_KEY_WRONG_SAID)
def test_the_right_key_does_not_help_a_token_that_is(said: str) -> None:
    [reason] = judged(checking(CITY, OTHER), said)
    assert reason is not None


@pytest.mark.parametrize(
    "said",
    [
        CITY.token("ES256", aud=["x", AUDIENCE]),
        CITY.token("ES256", iat=NOW + 29),
        CITY.token("ES256", exp=NOW - 29, iat=NOW - 600),
        CITY.token("ES256", exp=NOW + 0.5),
        CITY.token("ES256", {"typ": "application/AT+JWT"}),
        CITY.token("ES256", nbf=NOW),
    ],
)
def test_what_is_within_the_bounds_is_accepted(said: str) -> None:
    assert judged(checking(CITY), said) == [None]


def test_a_token_within_the_leeway_is_judged_alike_each_time() -> None:
    """Once it was kept, it was refused every other time."""
    said = CITY.token("ES256", exp=NOW - 10, iat=NOW - 600)
    assert judged(checking(CITY), *[said] * 5) == [None] * 5


def test_a_token_that_was_kept_ends_when_it_ends() -> None:
    now = [float(NOW)]
    check = Tokens([(CITY.issuer, CITY.keys())], lambda: now[0])
    said = CITY.token("ES256")
    assert judged(check, said) == [None]
    now[0] += 700
    assert judged(check, said, said) == [checks.EXPIRED] * 2


def test_an_id_token_is_read_for_its_own_audience_alone() -> None:
    check = checking(CITY, OTHER)
    said = CITY.token("ES256", {"typ": "JWT"}, aud="browser")

    async def read(**other: Any) -> Any:
        asked: dict[str, Any] = {"issuer": "city", "audience": "browser", "types": ("jwt", None)}
        return await check.read(said, **asked | other)

    assert asyncio.run(read()).claims["person"] == "hanako"
    for wrong in ({"issuer": "other"}, {"audience": AUDIENCE}, {"types": ("at+jwt",)}):
        with pytest.raises(Unauthenticated):
            asyncio.run(read(**wrong))


class Everything:
    """Holds whatever is looked for."""

    def __contains__(self, _: object) -> bool:
        return True


class NoType(Tokens):
    def _opened(self, token: str, types: Any) -> Any:
        return super()._opened(token, Everything())  # type: ignore[arg-type]


class NoAudience(Tokens):
    def _check(self, claims: Any, issuer: Any, audience: str) -> None:
        super()._check({**claims, "aud": audience}, issuer, audience)


class NoEnd(Tokens):
    def _check(self, claims: Any, issuer: Any, audience: str) -> None:
        super()._check({**claims, "exp": NOW + 1, "iat": NOW, "nbf": NOW}, issuer, audience)


class NoIssuer(Tokens):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        [only] = self._issuers.values()
        self._issuers = type("Any", (dict,), {"get": lambda self, _: only})()

    def _check(self, claims: Any, issuer: Any, audience: str) -> None:
        super()._check({**claims, "iss": issuer.issuer}, issuer, audience)


@pytest.mark.parametrize(
    ("weaker", "row"),
    [
        (NoType, "of the type JWT"),
        (NoType, "of no type"),
        (NoAudience, "for a list of others"),
        (NoAudience, "for nobody"),
        (NoEnd, "made in the future"),
        (NoEnd, "lives too long"),
        (NoIssuer, "from an issuer with a slash"),
        (NoIssuer, "from another issuer"),
    ],
)
def test_without_a_check_the_token_it_is_for_would_pass(weaker: type[Tokens], row: str) -> None:
    said = RIGHT_KEY_WRONG_SAID[row]
    assert judged(checking(CITY), said) != [None]
    assert judged(checking(CITY, of=weaker), said) == [None]


def test_without_the_end_s_check_an_ended_token_would_pass() -> None:
    later = replace(CITY.issuer, leeway_s=31)
    said = RIGHT_KEY_WRONG_SAID["ended"]
    assert judged(checking(CITY), said) == [checks.EXPIRED]
    assert judged(Tokens([(later, CITY.keys())], lambda: NOW - 2), said) == [None]


def test_without_the_list_of_algorithms_another_one_would_pass() -> None:
    narrow = Provider("city", algorithms=("RS256", "ES256"))
    jwk = dict(key("city", "RS256").as_dict(private=False))
    del jwk["alg"]
    narrow.jwks = lambda: [jwk]  # type: ignore[method-assign]
    said = token({**narrow.head("RS512"), "kid": "city-RS256"}, narrow.claims(), "RS512", key("city", "RS256"))
    assert judged(checking(narrow), said) == [checks.NOT_ACCEPTED]
    narrow.issuer = replace(narrow.issuer, algorithms=Everything())  # type: ignore[arg-type]
    assert judged(checking(narrow), said) == [None]


def _by(name: str) -> list[str]:
    return [changed for of, _, changed in mutations() if of == name]


def _loose(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_without_the_one_way_to_write_it_the_same_signature_would_pass_written_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library looks at it too: both have to be blind."""
    every = _by("_trailing")
    assert None not in judged(checking(CITY, OTHER), *every)
    monkeypatch.setattr(compact, "urlsafe_b64decode", lambda part: _loose(part.decode()))
    assert None not in judged(checking(CITY, OTHER), *every)
    monkeypatch.setattr(checks, "_decoded", _loose)
    assert None in judged(checking(CITY, OTHER), *every)


def test_without_the_check_of_names_one_that_stands_twice_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    said = RIGHT_KEY_WRONG_SAID["with a claim twice"]
    monkeypatch.setattr(checks, "_pairs", dict)
    assert judged(checking(CITY), said) == [None]


def test_without_the_list_of_what_a_head_may_not_hold_its_own_key_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    said = RIGHT_KEY_WRONG_SAID["with a key of its own"]
    monkeypatch.setattr(checks, "_FORBIDDEN", ())
    assert judged(checking(CITY), said) == [None]


def test_without_the_signature_s_check_most_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "payload", lambda token, key, algorithm: _loose(token.split(".")[1]))
    for name in ("_claim", "_resigned", "_shape"):
        assert None in judged(checking(CITY, OTHER), *_by(name)), name


def test_a_verifier_that_takes_a_public_key_for_a_secret_would_believe_the_forgery() -> None:
    """What `_secret` makes is a true forgery: the same library believes it where it is told to."""
    jwk = key("city", "RS256").as_dict(private=False)
    said = mac({**CITY.head("RS256"), "alg": "HS256"}, CITY.claims(), _raw(str(jwk["n"])))
    secret = OctKey.import_key({"kty": "oct", "k": str(jwk["n"])})
    assert jws.deserialize_compact(said, secret, algorithms=["HS256"]).payload
    assert judged(checking(CITY), said) == [checks.NOT_ACCEPTED]
    assert signature("HS256", secret, *said.split(".")[:2]) == said.split(".")[2]
