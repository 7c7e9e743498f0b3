"""docs/identity.md: every example is loaded, and means what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hub.errors import Misuse
from hub.identity import settings
from hub.identity.tokens import caller_of

PAGE = (Path(__file__).parents[1] / "docs" / "identity.md").read_text()
EXAMPLES = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```toml\n(.*?)^```", PAGE, re.M | re.S)
SECRETS = {"HUB_LOGIN_SECRET": "s"}
TIMES = {"iat": 1, "exp": 2}


def loaded(title: str) -> settings.Identity:
    return settings.load(dict(EXAMPLES)[title].encode(), SECRETS)


def test_every_toml_of_the_page_is_an_example() -> None:
    assert len(EXAMPLES) == PAGE.count("```toml") == 3


@pytest.mark.parametrize("title", [title for title, _ in EXAMPLES])
def test_an_example_is_loaded(title: str) -> None:
    assert loaded(title).issuers[0].roles


@pytest.mark.parametrize("title", [title for title, _ in EXAMPLES])
def test_an_example_with_a_name_that_means_nothing_is_not(title: str) -> None:
    with pytest.raises(Misuse, match="audiense means nothing here"):
        settings.load(dict(EXAMPLES)[title].replace("audience =", 'audiense = ""\naudience =', 1).encode(), SECRETS)


def test_roles_of_a_keycloak_realm_are_found() -> None:
    [issuer] = loaded("Keycloak").issuers
    claims = {"sub": "u1", "realm_access": {"roles": ["offline_access", "citizen"]}, "hub_person": "hanako", **TIMES}
    caller = caller_of(issuer, claims)
    assert (caller.actor, caller.roles, caller.person) == ("city:u1", {"citizen"}, "hanako")
    assert "jwt" in issuer.types


def test_entra_names_people_by_oid_and_programs_by_their_application() -> None:
    [issuer] = loaded("Entra").issuers
    person = caller_of(issuer, {"sub": "x", "oid": "o1", "scp": "a hub.citizen", "extension_hubPerson": "h", **TIMES})
    assert (person.actor, person.roles) == ("entra:o1", {"citizen"})
    [client] = issuer.clients
    program = caller_of(issuer, {"sub": "x", "oid": "o2", "azp": client, **TIMES})
    assert (program.roles, program.recipient) == ({"service"}, "aizu-city")


def test_scopes_of_a_citys_own_provider_are_a_text_with_spaces() -> None:
    [issuer] = loaded("A city's own provider").issuers
    assert caller_of(issuer, {"sub": "s", "scope": "openid write", "system": "care", **TIMES}).source == "care"
    assert caller_of(issuer, {"sub": "s", "scope": "openid write", **TIMES}).roles == set()


@pytest.mark.parametrize("span", ['["21:00"]', '["21:00+09:00", "06:00+09:00"]', '["late", "06:00"]'])
def test_a_night_that_is_no_span_of_the_day_is_told_at_the_start(span: str) -> None:
    with pytest.raises(Misuse, match=r"officers\.night is no span"):
        settings.load(dict(EXAMPLES)["Keycloak"].replace('["21:00", "06:00"]', span).encode(), SECRETS)
