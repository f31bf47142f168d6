"""Attempts rows: what the lake is told of each call, and of each recipient that got none.

Belongs here: building those rows, one by one and by columns. Does not belong here: writing them.
"""

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger.chunk_rows import NewChunk
from notify_pipeline.core.ledger.deliveries import Claimed
from notify_pipeline.core.ledger.progress import NO_CHANNEL
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Channel, Outcome
from notify_pipeline.delivery.recipients import Recipients

# provider_code where it was not a provider that spoke.
UNREGISTERED = "unregistered"  # a device that the send names and nobody has registered
NOT_CONFIGURED = "channel_not_configured"  # the recipient's channel has no credentials in this installation
ABANDONED = "abandoned"  # the process that claimed it died: it may have been called or not
LAPSED = "not_processed:lease_lapsed"  # this process was late, so it did not call
STOPPED = "not_processed:stopped"  # this run was told to stop before it called
NOT_PREPARED = "not_processed:prepare_failed"  # the channel's own code failed before it called anybody
SENDER_FAILED = "sender_failed"  # the channel's own code failed: it may have been called or not
RECORD_FAILED = "record_failed"  # it may have been called, and what came of it cannot be recorded (``recording``)
NOT_LOOKED = "not_processed:look_failed"  # what has changed since it was queued cannot be read: nobody was called
# Columns that a result holds under the same name and in the same form.
_AS_REPORTED = ("outcome", "sent_at", "answered_at", "provider_code", "provider_message_id")
# Columns of which hardly two rows are equal.
UNIQUE_COLUMNS = ("recipient", "user_id", "delivery_id", "sent_at", "answered_at", "provider_message_id")


class Results(NamedTuple):
    """``AttemptResult`` by columns: the fields of many, in their order."""

    outcome: tuple[Outcome, ...]
    provider_code: tuple[str | None, ...]
    sent_at: tuple[int, ...]
    answered_at: tuple[int | None, ...]
    provider_message_id: tuple[str | None, ...]
    retry_after_s: tuple[float | None, ...]
    drop_token: tuple[bool, ...]
    unregistered_at: tuple[datetime | None, ...]

    def row(self, at: int) -> AttemptResult:
        """Return one of them."""
        return AttemptResult(*(column[at] for column in self))  # type: ignore[arg-type]


def of_claim(
    notification: Notification, channel: Channel, provider: str, claimed: Claimed, result: AttemptResult, run_id: str
) -> dict[str, Any]:
    """Return the row of one attempt of the drain; ``provider`` is empty where the channel has none."""
    return {
        "notification_id": notification.notification_id,
        "tenant": notification.tenant,
        "request_id": claimed.request_id,
        "channel": channel.value,
        "platform": claimed.platform,
        "provider": provider or None,
        "recipient": claimed.address,
        "user_id": orjson.loads(claimed.recipient)[0],
        "delivery_id": claimed.delivery_id,
        "attempt_no": claimed.attempt_no,
        **of_result(result),
        "run_id": run_id,
        "consent": claimed.consent,
    }


def of_result(result: AttemptResult) -> dict[str, Any]:
    """Return what a row says of how its attempt ended."""
    return {
        "sent_at": result.sent_at,
        "answered_at": result.answered_at,
        "outcome": result.outcome.value,
        "provider_code": result.provider_code,
        "provider_message_id": result.provider_message_id,
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
        "user_id": None if recipient is None else recipient.user_id,
        "delivery_id": ids.of(address),
        "attempt_no": 0,
        "sent_at": at,
        "outcome": Outcome.SKIPPED.value,
        "provider_code": code,
        "run_id": run_id,
    }


def by_column(results: Sequence[AttemptResult]) -> Results:
    """Turn the results of one chunk into columns."""
    # Field by field: zip(*results) has as many iterators alive as there are results, which sets off a full collection.
    return Results(*(tuple(map(itemgetter(at), results)) for at in range(len(Results._fields))))


def of_chunk(
    notification: Notification,
    channel: str,
    provider: str | None,
    chunk: NewChunk,
    recipients: Recipients,
    results: Results,
    words: Sequence[str] | None = None,
) -> pa.Table:
    """Return the rows of one chunk of a broadcast, in the chunk's order; what is the same in all is stored once.

    ``provider`` is None where the channel is not configured, ``words`` (on whose each is sent to) where nobody was
    asked.
    """
    same = {
        "notification_id": notification.notification_id,
        "tenant": notification.tenant,
        "request_id": notification.request_id,
        "channel": channel,
        "provider": provider,
        "shard": chunk.shard,
        "run_id": chunk.run_id,
        "consent": None,
    }
    each: dict[str, Any] = {
        **{name: recipients.rows[name] for name in ("recipient", "platform", "user_id")},
        "delivery_id": recipients.delivery_ids,
        "attempt_no": chunk.attempts,
        **{name: getattr(results, name) for name in _AS_REPORTED},
        **({} if words is None else {"consent": words}),
    }
    columns = [
        _column(each[field.name], field.type)
        if field.name in each
        else _same(same[field.name], field.type, len(recipients.addresses))
        for field in ATTEMPTS.schema
    ]
    return pa.table(columns, names=ATTEMPTS.schema.names)


def fits(results: Results, words: Sequence[str] | None) -> bool:
    """Tell whether these results, and words, are ones that an attempts file takes."""
    given = {name: getattr(results, name) for name in _AS_REPORTED} | ({} if words is None else {"consent": words})
    try:
        for name, values in given.items():
            pa.array(values, ATTEMPTS.schema.field(name).type)
    except Exception:  # whatever it is: it would be raised for the file, too
        return False
    return True


def _column(values: Any, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return values if isinstance(values, pa.ChunkedArray) else pa.array(values, kind)


def _same(value: object, kind: pa.DataType, size: int) -> pa.Array:
    if value is None:
        return pa.nulls(size, kind)
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int8()), size), pa.array([value], kind))
