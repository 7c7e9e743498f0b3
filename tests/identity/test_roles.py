"""What claims make their bearer, as providers write them."""

from __future__ import annotations

from typing import Any

import pytest

from hub.identity.caller import Caller, Unauthenticated
from hub.identity.settings import Client, Condition, Issuer
from hub.identity.tokens import caller_of
from issuers import NOW, Provider

BASE = {"sub": "user-1", "exp": NOW}


def by(claims: dict[str, Any], **settings: Any) -> Caller:
    issuer: Issuer = Provider("city", **settings).issuer
    return caller_of(issuer, BASE | claims)


KEYCLOAK = {
    "roles": {"citizen": (Condition(claim="realm_access.roles", value="hub-citizen"),)},
    "person": "attributes.person",
}


def test_keycloak_s_nested_roles() -> None:
    found = by({"realm_access": {"roles": ["x", "hub-citizen"]}, "attributes": {"person": "hanako"}}, **KEYCLOAK)
    assert (found.roles, found.person, found.actor) == ({"citizen"}, "hanako", "city:user-1")


def test_entra_s_flat_roles_with_a_name_that_is_an_address() -> None:
    name = "https://city.example/role"
    found = by({name: "Hub.Officer", "oid": "o-1"}, roles={"officer": (Condition(claim=name, value="Hub.Officer"),)})
    assert found.roles == {"officer"}
    assert by({"oid": "o-1", "roles": []}, actor="oid").actor == "city:o-1"


def test_a_scope_is_words_and_not_a_part_of_one() -> None:
    settings = {"roles": {"operator": (Condition(claim="scope", value="hub:operate"),)}}
    assert by({"scope": "openid hub:operate"}, **settings).roles == {"operator"}
    assert by({"scope": "openid hub:operate2 xhub:operate"}, **settings).roles == frozenset()


@pytest.mark.parametrize("odd", [1, True, None, {"citizen": True}, {"citizen"}, [["citizen"]], "citizens", ""])
def test_a_role_that_is_written_oddly_is_not_given(odd: Any) -> None:
    assert by({"roles": odd, "person": "hanako"}).roles == frozenset()


@pytest.mark.parametrize("odd", [1, None, ["hanako"], {"id": "hanako"}, "", "a\nb", "a\x00", "x" * 201, "\ud800"])
def test_a_role_whose_id_is_missing_or_odd_is_not_given(odd: Any) -> None:
    found = by({"roles": ["citizen"], "person": odd})
    assert (found.roles, found.person) == (frozenset(), None)


def test_a_person_is_not_kept_of_a_token_without_the_role() -> None:
    assert by({"roles": [], "person": "hanako"}).person is None


@pytest.mark.parametrize("odd", [1, None, [], "", "a\x1b"])
def test_nobody_is_whose_subject_is_odd(odd: Any) -> None:
    with pytest.raises(Unauthenticated):
        by({"sub": odd})


def test_a_configured_client_is_what_the_file_says_and_no_claim_changes_it() -> None:
    clients = {"app-1": Client(roles=frozenset({"source"}), source="myhazard")}
    found = by({"azp": "app-1", "source": "jma", "src": "jma"}, clients=clients, source="src")
    assert (found.roles, found.source, found.client) == ({"source"}, "myhazard", "app-1")
    assert by({"azp": "app-2"}, clients=clients).roles == frozenset()


@pytest.mark.parametrize("name", ["hub", "api"])
def test_nobody_is_a_source_under_the_hub_s_own_name(name: str) -> None:
    """The ids of the hub's own events can be foreseen: who takes one keeps the hub from writing its own."""
    settings = {"roles": {"source": (Condition(claim="roles", value="source"),)}, "source": "source"}
    found = by({"roles": ["source"], "source": name}, **settings)
    assert (found.roles, found.source) == (frozenset(), None)
    assert by({"roles": ["source"], "source": "jma"}, **settings).source == "jma"
