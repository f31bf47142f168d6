"""Unsubscribe tokens: what lets whoever holds a message say that they want no more of its kind, without a key.

Belongs here: making and checking them. Does not belong here: the page behind them (``ingest_api``), what is stored
then (``ledger.preferences``), the header that carries them (``channels``).

A token never expires: somebody may unsubscribe with a message of years ago. It says nothing that its message does not
show or that its holder could use against anybody else; its signature keeps others from being unsubscribed.
"""

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

import orjson

from notify_pipeline.core.vocabulary import Channel

# The name of the installation's secret that signs them.
SECRET = "unsubscribe-tokens"  # noqa: S105 - its name
# 128 bits: nobody guesses one, and the header that carries a token has 998 characters at most (RFC 5322 section 2.1.1).
_SIGNATURE_BYTES = 16
# The longest that can be made: a recipient of 261 characters of up to four bytes each, and a category of 100.
MAX_LENGTH = 2_500


class InvalidUnsubscribeToken(Exception):
    """The token was not made by this installation."""


class Unsubscribing(NamedTuple):
    """What a token is about.

    Attributes:
        tenant: Whose message it was.
        recipient: Who got it, as ``consents.recipient`` names them.
        category: Of the message; empty where it had none.
        channel: That it came by.
    """

    tenant: str
    recipient: str
    category: str
    channel: Channel


def mint(secret: bytes, about: Unsubscribing) -> str:
    """Return a token of characters that URLs take as they are; the same about the same."""
    said = orjson.dumps([about.tenant, about.recipient, about.category, about.channel.value])
    return _text(said + _signature(secret, said))


def check(secret: bytes, token: str) -> Unsubscribing:
    """Return what a token is about.

    Raises:
        InvalidUnsubscribeToken: It is none.
    """
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidUnsubscribeToken("not an unsubscribe token of this installation") from error
    said, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
    # The spelling counts too: base64 has several for the same bytes where bits are left over.
    if not hmac.compare_digest(signature, _signature(secret, said)) or _text(raw) != token:
        raise InvalidUnsubscribeToken("not an unsubscribe token of this installation")
    tenant, recipient, category, channel = orjson.loads(said)
    return Unsubscribing(tenant, recipient, category, Channel(channel))


def _signature(secret: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, said, hashlib.sha256)[:_SIGNATURE_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
