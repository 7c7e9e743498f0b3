"""Signed alerts: what a sender that signs is read from, and every way around a signature that is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from signxml.algorithms import CanonicalizationMethod
from signxml.signer import XMLSigner

from hub.connector import Settings
from hub_connector_cap import CAP

from .alerts import AIZU, KITAKATA, SENDER, V12, alert, area, atom, info, inside, named, only, refusal, told

EXCLUSIVE = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0
INCLUSIVE = CanonicalizationMethod.CANONICAL_XML_1_0
OTHER = "other@kitakata.example"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def signer(name: str, kind: str = "ec", first: int = 2025, last: int = 2027) -> tuple[Key, x509.Certificate]:
    """A key made here, and its certificate for these years."""
    key: Key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(called).issuer_name(called).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(datetime(first, 1, 1, tzinfo=UTC))
    return key, builder.not_valid_after(datetime(last, 1, 1, tzinfo=UTC)).sign(key, hashes.SHA256())


def pem(*names: Any) -> bytes:
    signers = [signer(*name) if isinstance(name, tuple) else signer(name) for name in names]
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for _, certificate in signers)


def signed(payload: str, by: Any = "aizu", method: CanonicalizationMethod = EXCLUSIVE, **more: Any) -> str:
    """The alert with its signature in it."""
    key, certificate = signer(*by) if isinstance(by, tuple) else signer(by)
    algorithm = "ecdsa-sha256" if isinstance(key, ec.EllipticCurvePrivateKey) else "rsa-sha256"
    root = etree.fromstring(payload)
    done = XMLSigner(signature_algorithm=algorithm, c14n_algorithm=method).sign(
        root, key=key, cert=[certificate], **more
    )
    return etree.tostring(done, encoding="unicode")


def cap(*names: Any, **files: bytes) -> CAP:
    """Believes SENDER, who signs with the certificate called `aizu` or with those given, and OTHER, who signs too."""
    return CAP(
        Settings(
            options={"senders": {SENDER: "aizu", OTHER: "kitakata", "unsigned@x.example": False}},
            files={"aizu": pem(*names) if names else pem("aizu"), "kitakata": pem("kitakata"), **files},
        )
    )


GOOD = alert(info(area(AIZU)), sent="2026-06-02T09:00:00+09:00")


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("method", [EXCLUSIVE, INCLUSIVE])
def test_a_signed_alert_says_what_it_would_unsigned(kind: str, method: CanonicalizationMethod) -> None:
    by = ("aizu", kind)
    event = only(signed(GOOD, by, method), cap(by))
    assert event == only(GOOD, CAP(Settings(options={"senders": [SENDER]})))


def test_what_is_not_signed_is_refused_where_the_sender_signs_and_only_there() -> None:
    error = refusal(GOOD, cap())
    assert (error.path, "signed" in error.reason) == ("Signature", True)
    assert only(GOOD.replace(SENDER, "unsigned@x.example"), cap())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("07202", "07208"),
        lambda text: text.replace("<severity>Extreme", "<severity>Minor"),
        lambda text: text.replace("<status>Actual", "<status>Exercise"),
        lambda text: text.replace("<status>Actual", "<status>Test"),
        lambda text: text.replace("<msgType>Alert", "<msgType>Ack"),
        lambda text: text.replace("<scope>Public", "<scope>Private"),
        lambda text: text.replace("2026-06-02", "2026-06-03"),
        lambda text: text.replace("</info>", "</info>" + info(area(KITAKATA)), 1),
        lambda text: text.replace("<info>", "<note>x</note><info>", 1),
        lambda text: text.replace("DigestValue>", "DigestValue>AAAA", 1),
        lambda text: text.replace("SignatureValue>", "SignatureValue>AAAA", 1),
        lambda text: text.replace("ecdsa-sha256", "hmac-sha256"),
        lambda text: text.replace("ecdsa-sha256", "rsa-sha1"),
        lambda text: text.replace("xmlenc#sha256", "xmlenc#md5"),
        lambda text: text.replace('URI=""', 'URI="http://cap.example/x"'),
        lambda text: text.replace('URI=""', 'URI="#xpointer(/)"'),
        lambda text: text.replace('URI=""', ""),
        lambda text: text.replace("xml-exc-c14n#", "xml-exc-c14n#x"),
        lambda text: text.replace("<ds:SignedInfo>", "<ds:Signed>").replace("</ds:SignedInfo>", "</ds:Signed>"),
    ],
)
def test_a_signed_alert_that_was_changed_is_refused(change: Callable[[str], str]) -> None:
    text = signed(GOOD)
    assert change(text) != text
    assert refusal(change(text), cap()).path == "Signature"


def test_comments_and_prolog_are_no_part_of_what_is_signed() -> None:
    text = "<?xml version='1.0' encoding='UTF-8'?><!-- a -->" + signed(GOOD).replace("<info>", "<!-- b --><info>", 1)
    assert only(text, cap())


def test_another_key_is_refused_even_with_its_certificate_enclosed() -> None:
    assert refusal(signed(GOOD, "mallory"), cap()).path == "Signature"


def test_a_sender_cannot_sign_for_another() -> None:
    assert refusal(signed(GOOD.replace(SENDER, OTHER), "aizu"), cap()).path == "Signature"
    assert only(signed(GOOD.replace(SENDER, OTHER), "kitakata"), cap())


def test_who_does_not_sign_cannot_end_or_change_what_a_signing_sender_said() -> None:
    for type_ in ("Update", "Cancel"):
        payload = alert(info(area(AIZU)), type_=type_, identifier="x", sender="unsigned@x.example", names=[named("a1")])
        assert refusal(payload, cap()).path == "references"
        both = payload.replace(
            ",2026-06-02T09:00:00+09:00<", ",2026-06-02T09:00:00+09:00 u@x.example,b,2026-06-02T09:00:00Z<"
        )
        assert refusal(both, cap()).path == "references"
        other = alert(info(area(AIZU)), type_=type_, identifier="x", sender=OTHER, names=[named("a1")])
        assert only(signed(other, "kitakata"), cap()).data["chain"].startswith(SENDER)


def test_of_two_certificates_either_will_do() -> None:
    both = cap("old", "aizu")
    assert only(signed(GOOD, "aizu"), both)
    assert only(signed(GOOD, "old"), both)


@pytest.mark.parametrize("years", [(2020, 2024), (2027, 2030)])
def test_a_certificate_counts_for_what_was_sent_in_its_time(years: tuple[int, int]) -> None:
    by = ("aizu", "ec", *years)
    error = refusal(signed(GOOD, by), cap(by))
    assert (error.path, "not valid when" in error.reason) == ("Signature", True)
    within = GOOD.replace("2026", str(years[0] + 1))
    assert only(signed(within, by), cap(by))


def test_two_signatures_are_refused() -> None:
    assert refusal(signed(signed(GOOD), "mallory"), cap()).path == "Signature"


def test_a_signature_of_the_sha_1_age_is_refused() -> None:
    text = signed(GOOD)
    assert refusal(
        text.replace("http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2000/09/xmldsig#sha1"), cap()
    )


# Wrapping: a genuine signature, and around it what nobody signed


def wrapped(genuine: str, *, evil: str, keep: Callable[[str], str]) -> str:
    """`evil`, with the genuine alert's signature as its own, and the genuine alert where `keep` puts it."""
    start, end = genuine.index("<ds:Signature"), genuine.index("</ds:Signature>") + len("</ds:Signature>")
    signature, bare = genuine[start:end], genuine[:start] + genuine[end:]
    return evil.replace("</alert>", signature + keep(bare) + "</alert>")


def part(evil: bool) -> str:
    return alert(info(area(KITAKATA if evil else AIZU)))


@pytest.mark.parametrize("attribute", ["Id", "ID", "id", "xml:id"])
def test_a_signature_of_an_alert_inside_does_not_count_for_the_one_around(attribute: str) -> None:
    inner = part(evil=False).replace("<alert ", f'<alert {attribute}="a" ', 1)
    genuine = signed(inner, reference_uri="#a")
    for keep in (
        lambda bare: bare,
        lambda bare: f"<note>{bare}</note>",
        lambda bare: f'<ds:Object xmlns:ds="http://www.w3.org/2000/09/xmldsig#">{bare}</ds:Object>',
    ):
        assert refusal(wrapped(genuine, evil=part(evil=True), keep=keep), cap()).path == "Signature"


def test_a_signature_of_a_part_is_refused_also_where_the_part_is_genuine() -> None:
    payload = GOOD.replace("<info>", '<info Id="i">', 1)
    assert refusal(signed(payload, reference_uri="#i"), cap()).path == "Signature"
    whole = GOOD.replace("<alert ", '<alert Id="a" ', 1)
    assert refusal(signed(whole, reference_uri="#a"), cap()).path == "Signature"


def test_a_whole_signature_does_not_count_for_an_alert_around_it() -> None:
    genuine = signed(part(evil=False))
    assert refusal(wrapped(genuine, evil=part(evil=True), keep=lambda bare: bare), cap()).path == "Signature"
    around = part(evil=True).replace("</alert>", genuine + "</alert>")
    assert refusal(around, cap()).path == "Signature"


def test_a_signature_deeper_in_the_alert_is_none() -> None:
    text = signed(GOOD)
    start, end = text.index("<ds:Signature"), text.index("</ds:Signature>") + len("</ds:Signature>")
    moved = text[:start] + text[end:]
    moved = moved.replace("<info>", f"<note>{text[start:end]}</note><info>", 1)
    assert refusal(moved, cap()).path == "Signature"


def test_another_sender_inside_the_signed_alert_is_not_hidden_by_one_outside() -> None:
    """Two senders in one alert are refused before the signature is looked at."""
    text = signed(GOOD.replace(SENDER, OTHER), "kitakata").replace("<sender>", f"<sender>{SENDER}</sender><sender>", 1)
    assert refusal(text, cap()).path == "sender"


# Feeds


@pytest.mark.parametrize("method", [EXCLUSIVE, INCLUSIVE])
def test_a_signed_alert_in_a_feed_is_verified_as_the_document_that_it_was(method: CanonicalizationMethod) -> None:
    text = signed(
        GOOD.replace("<alert ", '<alert xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '), method=method
    )
    feed = atom(inside(text)).replace("<feed ", '<feed xmlns:x="urn:x" xmlns:cap="urn:c" ')
    assert len(told(feed, cap()).events) == 1


def test_an_alert_that_is_rejected_out_of_a_feed_keeps_its_signature() -> None:
    feed = atom(inside(signed(GOOD).replace("07202", "07208")), inside(signed(GOOD)))
    translation = told(feed, cap())
    assert len(translation.events) == 1
    (rejected,) = translation.rejected
    assert rejected.error.path == "entry[1]/content/alert/Signature"
    mended = rejected.payload.decode().replace("07208", "07202")
    assert only(mended, cap())


# Hostile signatures


def long_values() -> Sequence[str]:
    text = signed(GOOD)
    return [
        text.replace("SignatureValue>", "SignatureValue>" + "A" * 2_000_000, 1),
        text.replace("DigestValue>", "DigestValue>" + "A" * 2_000_000, 1),
        text.replace("<ds:Transforms>", "<ds:Transforms>" + '<ds:Transform Algorithm="x"/>' * 20_000, 1),
        text.replace("<ds:Reference", '<ds:Reference URI="">x</ds:Reference>' * 20_000 + "<ds:Reference", 1),
        text.replace(
            "<ds:Transform ", '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"/><ds:Transform ', 1
        ),
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_hostile_signature_is_refused(number: int) -> None:
    error = refusal(long_values()[number], cap())
    assert error.path == "Signature"
    assert "AAAA" not in str(error)


@pytest.mark.parametrize("number", [2, 3])
def test_a_signature_of_many_elements_is_not_even_begun(number: int) -> None:
    assert "more than 100 elements" in refusal(long_values()[number], cap()).reason


def test_what_a_signature_says_of_keys_does_not_count() -> None:
    text = signed(GOOD)
    key = "<ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AQAB</ds:Modulus><ds:Exponent>AQAB</ds:Exponent></ds:RSAKeyValue>"
    assert only(text.replace("<ds:X509Data>", key + "</ds:KeyValue><ds:X509Data>", 1), cap())


def test_an_unknown_namespace_is_kept_as_signed() -> None:
    text = signed(GOOD.replace("</alert>", '<x:more xmlns:x="urn:x" y="z"/></alert>'))
    assert only(text, cap())
    assert V12 in text
