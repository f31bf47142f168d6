"""Signatures of messages to callbacks, as Standard Webhooks wants them.

Belongs here: what is signed and how it is written. Does not belong here: making secrets (``core.ledger.callbacks``).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from notify_pipeline.core.ledger.callbacks import secret_bytes


def signed_headers(message_id: str, payload: bytes, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """Return the three headers that let a receiver know the sender, and tell a repetition from a replay.

    Args:
        message_id: The same in every attempt.
        payload: The body.
        secrets: Each one signs; receivers accept what any secret of theirs has signed.
        now: When this attempt is made.
    """
    timestamp = str(int(now.timestamp()))
    content = f"{message_id}.{timestamp}.".encode() + payload
    signatures = [hmac.digest(secret_bytes(secret), content, hashlib.sha256) for secret in secrets]
    written = " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures)
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": written}
