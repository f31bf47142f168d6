"""Messages that Amazon SNS posts: reading them, and proving that they are Amazon's.

Belongs here: their form, what is signed of them, which addresses in them may be called at all. Does not belong here:
calling those (``ingest_api.email.certificates``), what a message is about.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html. A signature proves that some AWS account
had SNS send the message, and anybody may have one: whose topic it came through is for the caller to compare.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

# SNS's own limit for a message, with its envelope; all of it escaped once more.
MAX_BYTES = 600_000
# Whatever else belongs to amazonaws.com may be anybody's, such as an S3 bucket.
_HOST = re.compile(r"sns\.[a-z]{2}(-[a-z]{1,12}){1,3}-[0-9]{1,2}\.amazonaws\.com(\.cn)?")
_CERTIFICATE = re.compile(r"\.amazonaws\.com(\.cn)?/SimpleNotificationService-[0-9a-f]{1,64}\.pem\Z")
_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {"1": hashes.SHA1, "2": hashes.SHA256}  # noqa: S303 - Amazon's


class SnsType(StrEnum):
    """What SNS posts."""

    NOTIFICATION = "Notification"
    SUBSCRIBE = "SubscriptionConfirmation"
    UNSUBSCRIBE = "UnsubscribeConfirmation"


_SIGNED = {
    SnsType.NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SnsType.SUBSCRIBE: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    SnsType.UNSUBSCRIBE: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


class NotSns(ValueError):
    """It is no message of SNS's; says why."""


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """One message, as it says itself: nothing of it is proven before ``is_signed``."""

    type: SnsType
    topic_arn: str
    message: str
    sent_at: datetime
    certificate_url: str
    subscribe_url: str | None
    _fields: Mapping[str, str]

    @classmethod
    def of(cls, raw: bytes) -> "SnsMessage":
        """Read a request's body.

        Raises:
            NotSns: It is none, or names a certificate that SNS does not have.
        """
        try:
            found: Any = orjson.loads(raw)
            fields = {name: value for name, value in found.items() if isinstance(value, str)}
            kind = SnsType(fields["Type"])
            sent_at = datetime.fromisoformat(fields["Timestamp"])
            signed = {name for name in _SIGNED[kind] if name != "Subject"}
            if missing := {*signed, "Signature", "SignatureVersion", "SigningCertURL"} - fields.keys():
                raise NotSns(f"lacks {', '.join(sorted(missing))}")
        except NotSns:
            raise
        except (ValueError, KeyError, AttributeError) as error:
            raise NotSns("is no message of Amazon SNS") from error
        if sent_at.tzinfo is None:
            raise NotSns("has a Timestamp without a time zone")
        certificate = fields["SigningCertURL"]
        # As the whole address ends like this, it has no query either.
        if not _is_of_sns(certificate) or not _CERTIFICATE.search(certificate):
            raise NotSns("names a certificate that is not Amazon SNS's")
        subscribe = fields.get("SubscribeURL")
        if subscribe is not None and not _is_of_sns(subscribe):
            raise NotSns("names an address that is not Amazon SNS's")
        return cls(kind, fields["TopicArn"], fields["Message"], sent_at, certificate, subscribe, fields)

    def is_signed(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Tell whether a certificate from ``certificate_url`` signed all of this, and is in force."""
        fields, key = self._fields, certificate.public_key()
        algorithm = _HASHES.get(fields["SignatureVersion"])
        if algorithm is None or not isinstance(key, rsa.RSAPublicKey):
            return False
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return False
        try:
            signature = base64.b64decode(fields["Signature"], validate=True)
            key.verify(signature, self.signed_text.encode(), padding.PKCS1v15(), algorithm())
        except (binascii.Error, InvalidSignature, UnicodeEncodeError):
            return False
        return True

    @property
    def signed_text(self) -> str:
        """What the signature is over: names and values, a line each."""
        fields = self._fields
        return "".join(f"{name}\n{fields[name]}\n" for name in _SIGNED[self.type] if name in fields)


def _is_of_sns(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = parts.port is None and parts.username is None and not parts.fragment
    except ValueError:
        return False
    # Byte for byte: no other reader of this address may find another host in it.
    return parts.scheme == "https" and plain and url.isascii() and _HOST.fullmatch(parts.netloc) is not None
