"""Who is believed: the senders that the operator names, and the certificates that some of them sign with.

A sender's name is only a text in the alert, so it says nothing by itself: whoever brings an alert, or writes a feed,
can write it. What a sender signs is read from the signed element that the verifier gives back, and from nowhere else,
so that nothing that was put around it counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from hub.connector import Misuse, PayloadError, Settings
from hub.connector.xml import Node

ANYONE = "*"
_DSIG = "http://www.w3.org/2000/09/xmldsig#"
_WEAK = ("SHA1", "SHA224", "SHA3_224")
_METHODS = frozenset(
    method
    for method in SignatureMethod
    if method.name.startswith(("RSA_", "ECDSA_")) or method.name.endswith("_RSA_MGF1")
    if not any(weak in method.name for weak in _WEAK)
)
_MOST_ELEMENTS = 100
_DIGESTS = frozenset(digest for digest in DigestAlgorithm if digest.name not in _WEAK)

Certificates = Sequence[x509.Certificate]


class Senders:
    """The senders of `options.senders`. None is believed where it is not set, and then only drills are read."""

    def __init__(self, settings: Settings) -> None:
        """Raises Misuse with the key that is wrong."""
        said = settings.options.get("senders")
        if isinstance(said, list):
            said = dict.fromkeys(said, False) if all(isinstance(name, str) for name in said) else None
            if said is None:
                raise Misuse("options.senders holds something that is no text")
        if said is not None and not isinstance(said, dict):
            raise Misuse("options.senders is neither a list of senders nor a table")
        self._known: Mapping[str, Certificates] | None = None
        if said is not None:
            self._known = {name: _certificates(settings, name, file) for name, file in said.items()}
        if self._known and any(self._known.values()):
            XMLVerifier.schemas()  # type: ignore[no-untyped-call]  # reads files, now and not while translating

    @property
    def named(self) -> bool:
        """Whether the operator named any, so that what is actual may be read."""
        return bool(self._known)

    @property
    def unsigned(self) -> str | None:
        """A sender that is named and does not sign; None where there is none."""
        names = [name for name, certificates in (self._known or {}).items() if not certificates and name != ANYONE]
        return names[0] if names else None

    def heard(self, alert: Node) -> Node | None:
        """The alert as its sender is believed to say it; None where the sender is not one of those named.

        Where none is named at all, any is heard: the caller lets only drills through. Raises PayloadError for a
        signature that is missing, or that none of the sender's certificates made.
        """
        if not self._known:
            return alert
        sender = alert.need("sender").word()
        certificates = self._known.get(sender, self._known.get(ANYONE))
        if certificates is None:
            return None
        return _signed(alert, sender, certificates) if certificates else alert

    def may_name(self, sender: str, other: str) -> bool:
        """Whether alerts of `sender` can update or cancel those of `other`: not if only the latter signs."""
        known = self._known or {}
        return bool(known.get(sender)) or not known.get(other)


def _certificates(settings: Settings, sender: str, file: Any) -> Certificates:
    key = "options.senders"
    if file is False:
        return ()
    if sender == ANYONE:
        raise Misuse(f"{key}: {ANYONE} can have no certificate")
    if not isinstance(file, str) or file not in settings.files:
        raise Misuse(f"{key} names, for one of them, neither `false` nor a key of files")
    try:
        found = x509.load_pem_x509_certificates(settings.files[file])
    except ValueError:
        raise Misuse(f"files.{file} holds no certificates in PEM") from None
    return found


def alone(element: etree._Element) -> bytes:
    """An alert as the document that it was before a feed took it in: without the names that the feed declares."""
    parent = element.getparent()
    if parent is None:
        return etree.tostring(element)
    around = parent.nsmap
    own = [prefix for prefix, uri in element.nsmap.items() if prefix is not None and around.get(prefix) != uri]
    copy = etree.fromstring(etree.tostring(element, with_tail=False), etree.XMLParser(resolve_entities=False))
    etree.cleanup_namespaces(copy, keep_ns_prefixes=own)
    return etree.tostring(copy)


def _signed(alert: Node, sender: str, certificates: Certificates) -> Node:
    """The alert as one of the certificates signed it, whole. Raises PayloadError."""
    signature = alert.child("Signature", _DSIG)
    if signature is None:
        path = f"{alert.path}/Signature" if alert.path else "Signature"
        raise PayloadError("is missing: this sender's alerts are signed", path=path)
    if sum(1 for _ in signature.element.iter()) > _MOST_ELEMENTS:
        raise signature.wrong(f"has more than {_MOST_ELEMENTS} elements")
    document = alone(alert.element)
    for certificate in certificates:
        said = _verified(document, certificate)
        if said is None:
            continue
        whole = said.signed_xml
        reference = said.signature_xml.find(f".//{{{_DSIG}}}Reference")
        if whole is None or whole.tag != alert.element.tag or reference is None or reference.get("URI") != "":
            raise signature.wrong("does not sign the alert as a whole")
        node = Node(whole, alert.path)
        sent = node.need("sent").time()
        if node.need("sender").word() != sender:
            raise signature.wrong("signs another sender")
        if not _in_force(certificate, sent):
            raise signature.wrong("is by a certificate that was not valid when the alert was sent")
        return node
    raise signature.wrong("was made by none of the sender's certificates, or the alert was changed since")


def _verified(document: bytes, certificate: x509.Certificate) -> VerifyResult | None:
    """What the certificate signed in the document; None where it signed nothing of it.

    When it was valid is judged afterwards, by the time that the alert says and not by the clock.
    """
    expected = SignatureConfiguration(
        location="./",
        expect_references=1,
        signature_methods=_METHODS,
        digest_algorithms=_DIGESTS,
        ignore_ambiguous_key_info=True,  # the key is the certificate's, whatever the signature says of keys
        verification_time=certificate.not_valid_before_utc,
    )
    try:
        said = XMLVerifier().verify(document, x509_cert=certificate, expect_config=expected)
    except Exception:  # a hostile signature fails in more ways than the verifier has errors for
        return None
    return said if isinstance(said, VerifyResult) else None


def _in_force(certificate: x509.Certificate, sent: datetime) -> bool:
    return certificate.not_valid_before_utc <= sent <= certificate.not_valid_after_utc
