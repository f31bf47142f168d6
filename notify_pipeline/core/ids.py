"""Identifiers: how they are made, and how a delivery id proves its own origin.

Belongs here: making and checking ids. Does not belong here: storing or looking them up.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime

import uuid_utils

# 96 bits of identity: at 10^9 deliveries the chance of any collision is about 6e-12.
_IDENTITY_BYTES = 12
# 64 bits of proof: a guess passes once in 1.8e19, and the reports join on known deliveries besides.
_PROOF_BYTES = 8
DELIVERY_ID_LENGTH = 2 * (_IDENTITY_BYTES + _PROOF_BYTES)


def new_id() -> str:
    """Return a new time-ordered id (UUID version 7, RFC 9562) as 32 hex digits."""
    return uuid_utils.uuid7().hex


class DeliveryIds:
    """Makes the delivery ids of one notification on one channel.

    A delivery id is a keyed digest (BLAKE2b, RFC 7693) of tenant, notification, channel and recipient, so it is the
    same in every retry, followed by a keyed digest of that digest, so that whoever holds the secret can tell a genuine
    id without looking anything up, and nobody else can make one.
    """

    __slots__ = ("_base", "_proof")

    def __init__(self, secret: bytes, tenant: str, notification_id: str, channel: str) -> None:
        self._base = hashlib.blake2b(key=secret, digest_size=_IDENTITY_BYTES)
        for part in (tenant, notification_id, channel):
            raw = part.encode()
            self._base.update(len(raw).to_bytes(4, "big") + raw)
        self._proof = _proof_base(secret)

    def of(self, recipient: str) -> str:
        """Return the delivery id of one recipient: 40 lower-case hex digits."""
        return self.of_all((recipient,))[0]

    def of_all(self, recipients: Iterable[str]) -> list[str]:
        """Return the delivery id of each recipient; cheaper than one by one."""
        base, proof_base = self._base.copy, self._proof.copy
        found = []
        for recipient in recipients:
            identity = base()
            identity.update(recipient.encode())
            digest = identity.digest()
            proof = proof_base()
            proof.update(digest)
            found.append(digest.hex() + proof.hexdigest())
        return found


def is_genuine(secret: bytes, delivery_id: str) -> bool:
    """Tell whether a delivery id was made with this secret. Any text is allowed; malformed ids are not genuine."""
    if len(delivery_id) != DELIVERY_ID_LENGTH or not delivery_id.isascii():
        return False
    try:
        raw = bytes.fromhex(delivery_id)
    except ValueError:
        return False
    proof = _proof_base(secret)
    proof.update(raw[:_IDENTITY_BYTES])
    return hmac.compare_digest(proof.digest(), raw[_IDENTITY_BYTES:])


def _proof_base(secret: bytes) -> "hashlib.blake2b":
    return hashlib.blake2b(key=secret, digest_size=_PROOF_BYTES, person=b"delivery-proof")


def own_collapse_key(tenant: str, notification_id: str) -> str:
    """Return the collapse key of a notification whose sender gave none: no other notification's."""
    return "n-" + short_hash(f"{tenant}\0{notification_id}")


def short_hash(text: str) -> str:
    """Return 32 base64url characters (24 bytes of SHA-256) that stand for any text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest[:24]).decode()


def to_micros(moment: datetime) -> int:
    """Return microseconds since the Unix epoch of an aware datetime, exactly. A naive one is refused."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place on the time line; pass an aware one")
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(micros: int) -> datetime:
    """Return the aware UTC datetime of microseconds since the Unix epoch."""
    seconds, rest = divmod(micros, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
