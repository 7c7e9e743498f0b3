"""The Kafka file: what is wrong is told by its key, never by its value; what is not said is not allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.errors import Misuse
from hub.relay.settings import Kafka, load

SECRET = "correct-horse-battery"
WHOLE = """
bootstrap = ["kafka-1.city.example:9093", "[2001:db8::1]:9093"]
security = "SASL_SSL"
lease_s = 30
[sasl]
user = "hub"
password = { env = "PASSWORD" }
[topics]
create = false
partitions = 6
replication = 3
prefix = "aizu."
views_hours = 2
[ingest.sources]
myhazard = ["location.*", "safety.answered"]
"""


def loaded(folder: Path, text: str, **environment: str) -> Kafka:
    path = folder / "kafka.toml"
    path.write_text(text)
    return load(path, environment)


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE, PASSWORD=SECRET)
    assert found.bootstrap == ("kafka-1.city.example:9093", "[2001:db8::1]:9093")
    assert (found.security, found.mechanism, found.user, found.password) == (
        "SASL_SSL", "SCRAM-SHA-512", "hub", SECRET,
    )  # fmt: skip
    assert (found.topics.create, found.topics.partitions, found.topics.replication) == (False, 6, 3)
    assert (found.topics.views_s, found.topics.prefix, found.lease_s) == (7200, "aizu.", 30.0)
    assert found.sources == {"myhazard": ("location.*", "safety.answered")}
    assert SECRET not in repr(found)


def test_a_password_may_stand_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    assert loaded(tmp_path, WHOLE.replace('{ env = "PASSWORD" }', '{ file = "secret" }')).password == SECRET


def test_by_itself_nothing_may_come_in(tmp_path: Path) -> None:
    found = loaded(tmp_path, 'bootstrap = ["127.0.0.1:9092"]')
    assert (found.security, found.sources) == ("PLAINTEXT", {})


WRONG = {
    "no TOML": ("bootstrap = [", "is no TOML"),
    "nothing": ("", "bootstrap: is no list"),
    "no port": ('bootstrap = ["kafka"]', "bootstrap: holds what is no host:port"),
    "a password in the address": (
        'bootstrap = ["hub:correct-horse@kafka:9093"]',
        "bootstrap: holds what is no host:port",
    ),
    "plain to elsewhere": ('bootstrap = ["kafka.example:9092"]', "security: is PLAINTEXT"),
    "plain to elsewhere too": ('bootstrap = ["127.0.0.1:9092", "10.0.0.1:9092"]', "security: is PLAINTEXT"),
    "a protocol": ('bootstrap = ["a:1"]\nsecurity = "SASL_PLAINTEXT"', "security: is none of"),
    "a password over plain": ('bootstrap = ["localhost:1"]\n[sasl]\nuser = "u"', "sasl: is for security = SASL_SSL"),
    "no password": ('bootstrap = ["a:1"]\nsecurity = "SASL_SSL"\n[sasl]\nuser = "u"', "sasl.password: is neither"),
    "a password itself": (WHOLE.replace('{ env = "PASSWORD" }', f'"{SECRET}"'), "sasl.password: is neither"),
    "an empty password": (WHOLE, "sasl.password: is empty"),
    "no file": (WHOLE.replace("env =", "file ="), "sasl.password: cannot be read"),
    "a CA": ('bootstrap = ["a:1"]\nsecurity = "SSL"\nca_file = "none"', "ca_file: names no file"),
    "a key": ('bootstrap = ["localhost:1"]\npasswort = 1', "passwort: is no key; known: bootstrap"),
    "a key of topics": ('bootstrap = ["localhost:1"]\n[topics]\nparts = 1', "topics.parts: is no key"),
    "no partitions": ('bootstrap = ["localhost:1"]\n[topics]\npartitions = 0', "topics.partitions: is no whole number"),
    "a truth": ('bootstrap = ["localhost:1"]\n[topics]\npartitions = true', "topics.partitions: is no whole number"),
    "views for a month": (
        'bootstrap = ["localhost:1"]\n[topics]\nviews_hours = 720',
        "topics.views_hours: is no whole",
    ),
    "a prefix": ('bootstrap = ["localhost:1"]\n[topics]\nprefix = "a/b"', "topics.prefix: is no beginning"),
    "all sources": ('bootstrap = ["localhost:1"]\n[ingest.sources]\n"*" = ["*"]', "ingest.sources: names a source"),
    "the hub": ('bootstrap = ["localhost:1"]\n[ingest.sources]\nhub = ["a.b"]', "ingest.sources: names a source"),
    "all kinds": (
        'bootstrap = ["localhost:1"]\n[ingest.sources]\na = ["*"]',
        "ingest.sources.a: holds what is no kind",
    ),
    "no kinds": ('bootstrap = ["localhost:1"]\n[ingest.sources]\na = []', "ingest.sources.a: is no list of kinds"),
    "a control kind": (
        'bootstrap = ["localhost:1"]\n[ingest.sources]\na = ["consent.granted"]',
        "ingest.sources.a: holds a control kind",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_by_its_key(tmp_path: Path, name: str) -> None:
    text, reason = WRONG[name]
    with pytest.raises(Misuse) as caught:
        loaded(tmp_path, text)
    assert reason in str(caught.value)
    assert "correct-horse" not in str(caught.value)


def test_plain_to_another_machine_has_to_be_said(tmp_path: Path) -> None:
    text = 'bootstrap = ["kafka:9092"]\nplaintext_beyond_this_machine = true'
    assert loaded(tmp_path, text).bootstrap == ("kafka:9092",)
