"""For one browser's eyes only: the body of a Web push request (RFC 8291).

Belongs here: that. Does not belong here: what is in it (``message``), how it gets there (``carrier``).
"""

from typing import TYPE_CHECKING

from notify_pipeline.core.push_subscriptions import Subscription

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

# RFC 8188 section 2: one record holds any payload that a push service must take.
_RECORD_BYTES = 4_096


def encrypted(
    plaintext: bytes,
    subscription: Subscription,
    key: "EllipticCurvePrivateKey | None" = None,
    salt: bytes | None = None,
) -> bytes:
    """Return the body: a header with salt and public key, and one record of AES-128-GCM.

    Args:
        plaintext: At most 3,993 bytes, for a body of 4,096; not empty, for which the library makes no record.
        subscription: The browser's.
        key: By default one of this message's own, which keeps what was sent secret whatever becomes known later.
        salt: By default 16 random bytes.

    Raises:
        ValueError: The browser's key is no point on the curve.
    """
    import http_ece
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    body: bytes = http_ece.encrypt(
        plaintext,
        salt=salt,
        private_key=key or generate_private_key(SECP256R1()),
        dh=subscription.p256dh,
        auth_secret=subscription.auth,
        rs=_RECORD_BYTES,
        version="aes128gcm",
    )
    return body
