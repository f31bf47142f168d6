"""What the token desk and whoever asks it agree on.

Belongs here: the form of questions and answers, who may ask, and which platforms' tokens can be checked at all. Does
not belong here: the desk (``delivery.token_desk``), its client (``ingest_api.token_desk``).

A question is ``POST /check`` with a bearer token and ``{"platform": …, "token": …}``, with ``"anew": true`` where it
has been found dead since it may have been found good; the answer is ``{"is_valid": true | false | null, "code": …}``.
"""

import hashlib
from dataclasses import dataclass

import orjson

from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.vocabulary import Channel, Platform

CHECK_PATH = "/check"
# A provider says what a token is worth only if it can take a message without delivering it: FCM can
# (``validate_only``); APNs and browsers' push services cannot, and what they accept is shown to somebody.
CHECKED_CHANNELS = frozenset({Channel.FCM})
# The installation's secret that the bearer token is derived from.
_SECRET = "token_desk"  # noqa: S105 - its name


@dataclass(frozen=True, slots=True)
class TokenState:
    """What is known of a device token.

    Attributes:
        is_valid: The provider's word; None where it gave none, or could not be asked.
        code: The provider's word for what is wrong with it (``UNREGISTERED``); where it is unknown, the reason, if any.
    """

    is_valid: bool | None
    code: str | None = None


UNKNOWN = TokenState(None)


def is_checked(platform: Platform) -> bool:
    """Tell whether tokens of this platform can be checked."""
    return platform.channel in CHECKED_CHANNELS


def bearer(ledger: Ledger) -> str:
    """Return what proves to a desk that it is asked by its own installation."""
    return hashlib.blake2b(key=ledger.secret(_SECRET), digest_size=32, person=b"desk-bearer").hexdigest()


def question(platform: Platform, token: str, anew: bool = False) -> bytes:
    """Return the body of a question; ``anew``: that a token was found good before does not count."""
    return orjson.dumps({"platform": platform, "token": token, **({"anew": True} if anew else {})})


def read_question(body: bytes) -> tuple[Platform, str, bool]:
    """Read a question: platform, token, and whether it is asked anew.

    Raises:
        ValueError: It is none.
    """
    asked = orjson.loads(body)
    if not isinstance(asked, dict):
        raise ValueError("not a question")
    platform, token = asked.get("platform"), asked.get("token")
    if not isinstance(platform, str) or not isinstance(token, str) or not token:
        raise ValueError("not a question")
    return Platform(platform), token, asked.get("anew") is True


def answer(state: TokenState) -> bytes:
    """Return the body of an answer."""
    return orjson.dumps({"is_valid": state.is_valid, "code": state.code})


def read_answer(body: bytes) -> TokenState:
    """Read an answer.

    Raises:
        ValueError: It is none.
    """
    said = orjson.loads(body)
    if not isinstance(said, dict):
        raise ValueError("not an answer")
    is_valid, code = said.get("is_valid"), said.get("code")
    if not (is_valid is None or isinstance(is_valid, bool)) or not (code is None or isinstance(code, str)):
        raise ValueError("not an answer")
    return TokenState(is_valid, code)
