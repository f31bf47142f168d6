"""The installation's VAPID key pair: by which push services know who sends (RFC 8292).

Belongs here: where the key comes from, and its public half as pages need it. Does not belong here: signing
(``channels.webpush``).

Browsers tie a subscription to the public key that the page subscribed with: whoever changes the key loses all
subscriptions. So it is made from a secret of the installation that never changes, and is the same in every process.
"""

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from notify_pipeline.core.push_subscriptions import from_base64url, to_base64url

if TYPE_CHECKING:
    from notify_pipeline.core.ledger.engine import Ledger
    from notify_pipeline.core.settings import Settings

# The name of the installation's secret that the key is made of.
SECRET = "vapid"  # noqa: S105 - its name
# The order of P-256's group (SP 800-186 section 3.2.1.3): private keys are 1 to this less 1.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_KEY_BYTES = 32


def installation_key(settings: "Settings", ledger: "Ledger") -> EllipticCurvePrivateKey:
    """Return the key that this installation sends with."""
    if settings.vapid_private_key is not None:
        return read_key(settings.vapid_private_key.get_secret_value())
    return key_of(ledger.secret(SECRET))


def key_of(secret: bytes) -> EllipticCurvePrivateKey:
    """Return the key that belongs to an installation's secret of 32 bytes."""
    return derive_private_key(int.from_bytes(secret, "big") % (_ORDER - 1) + 1, SECP256R1())


def read_key(text: str) -> EllipticCurvePrivateKey:
    """Return a key that was made elsewhere: 32 bytes in base64url, as Web Push libraries write it.

    Raises:
        ValueError: It is none.
    """
    raw = from_base64url(text.strip())
    number = int.from_bytes(raw, "big")
    if len(raw) != _KEY_BYTES or not 0 < number < _ORDER:
        raise ValueError("not a P-256 private key of 32 bytes in base64url")
    return derive_private_key(number, SECP256R1())


def public_text(key: EllipticCurvePrivateKey) -> str:
    """Return the public half as a page's ``applicationServerKey``: an uncompressed point in base64url."""
    return to_base64url(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
