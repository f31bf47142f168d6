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
SENDER_FAILED = "sender_failed"  # the channel's own code failed: it may have been called or not

_TIME = ATTEMPTS.schema.field("sent_at").type


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
    size = len(results)

    def same(value: object, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), size)

    text = pa.string()
    columns = {
        "notification_id": same(notification.notification_id, text),
        "tenant": same(notification.tenant, text),
        "request_id": same(notification.request_id, text),
        "channel": same(channel, text),
        "platform": pa.array(recipients["platform"], text),
        "provider": same(provider, text),
        "recipient": pa.array(recipients["recipient"], text),
        "delivery_id": pa.array(recipients["delivery_id"], text),
        "shard": same(chunk.shard, pa.int32()),
        "attempt_no": pa.array(chunk.attempts, pa.int32()),
        "sent_at": pa.array([result.sent_at for result in results], _TIME),
        "answered_at": pa.array([result.answered_at for result in results], _TIME),
        "outcome": pa.array([result.outcome.value for result in results], text),
        "provider_code": pa.array([result.provider_code for result in results], text),
        "provider_message_id": pa.array([result.provider_message_id for result in results], text),
        "run_id": same(chunk.run_id, text),
    }
    return pa.table([columns[name] for name in ATTEMPTS.schema.names], schema=ATTEMPTS.schema)
