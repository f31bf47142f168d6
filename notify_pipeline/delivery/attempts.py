"""Attempts rows: what the lake is told of each call, and of each recipient that got none.

Belongs here: building those rows, one by one and by columns. Does not belong here: writing them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger.chunk_rows import NewChunk
from notify_pipeline.core.ledger.deliveries import Claimed
from notify_pipeline.core.ledger.progress import NO_CHANNEL
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Channel, Outcome

# provider_code where it was not a provider that spoke.
UNREGISTERED = "unregistered"  # a device that the send names and nobody has registered
NOT_CONFIGURED = "channel_not_configured"  # the recipient's channel has no credentials in this installation
ABANDONED = "abandoned"  # the process that claimed it died: it may have been called or not
LAPSED = "not_processed:lease_lapsed"  # this process was late, so it did not call
STOPPED = "not_processed:stopped"  # this run was told to stop before it called
NOT_PREPARED = "not_processed:prepare_failed"  # the channel's own code failed before it called anybody
SENDER_FAILED = "sender_failed"  # the channel's own code failed: it may have been called or not
# Columns that a result holds under the same name and in the same form.
_AS_REPORTED = ("sent_at", "answered_at", "provider_code", "provider_message_id")


def of_claim(
    notification: Notification, channel: Channel, provider: str, claimed: Claimed, result: AttemptResult, run_id: str
) -> dict[str, Any]:
    """Return the row of one attempt of the drain."""
    return {
        "notification_id": notification.notification_id,
        "tenant": notification.tenant,
        "request_id": claimed.request_id,
        "channel": channel.value,
        "platform": claimed.platform,
        "provider": provider,
        "recipient": claimed.address,
        "delivery_id": claimed.delivery_id,
        "attempt_no": claimed.attempt_no,
        "sent_at": result.sent_at,
        "answered_at": result.answered_at,
        "outcome": result.outcome.value,
        "provider_code": result.provider_code,
        "provider_message_id": result.provider_message_id,
        "run_id": run_id,
    }


def skipped(
    notification: Notification,
    address: str,
    recipient: Recipient | None,
    code: str,
    secret: bytes,
    at: int,
    run_id: str,
) -> dict[str, Any]:
    """Return the row of a recipient that gets no call: ``recipient`` is None where it is not even known."""
    channel = None if recipient is None else recipient.platform.channel.value
    ids = DeliveryIds(secret, notification.tenant, notification.notification_id, channel or NO_CHANNEL)
    return {
        "notification_id": notification.notification_id,
        "tenant": notification.tenant,
        "request_id": notification.request_id,
        "channel": channel,
        "platform": None if recipient is None else recipient.platform.value,
        "recipient": address,
        "delivery_id": ids.of(address),
        "attempt_no": 0,
        "sent_at": at,
        "outcome": Outcome.SKIPPED.value,
        "provider_code": code,
        "run_id": run_id,
    }


def of_chunk(
    notification: Notification,
    channel: str,
    provider: str | None,
    chunk: NewChunk,
    recipients: Mapping[str, Sequence[str]],
    results: Sequence[AttemptResult],
) -> pa.Table:
    """Return the rows of one chunk of a broadcast, in the chunk's order.

    Args:
        notification: What was sent.
        channel: The shard's channel.
        provider: Its provider, None where the channel is not configured.
        chunk: The chunk.
        recipients: ``recipient``, ``platform`` and ``delivery_id`` of its recipients.
        results: Their results.
    """
    same = {
        "notification_id": notification.notification_id,
        "tenant": notification.tenant,
        "request_id": notification.request_id,
        "channel": channel,
        "provider": provider,
        "shard": chunk.shard,
        "run_id": chunk.run_id,
    }
    each = {
        **recipients,
        "attempt_no": chunk.attempts,
        "outcome": [result.outcome.value for result in results],
        **{name: [getattr(result, name) for result in results] for name in _AS_REPORTED},
    }
    columns = [
        pa.array(each[column.name], column.type)
        if column.name in each
        else pa.repeat(pa.scalar(same[column.name], column.type), len(results))
        for column in ATTEMPTS.schema
    ]
    return pa.table(columns, schema=ATTEMPTS.schema)
