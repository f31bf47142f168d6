"""What becomes of an accepted request: through the queue, as a broadcast, or to its end at once.

Belongs here: turning requests and recipients into plans. Does not belong here: finding recipients (``known``,
``audience``), storing plans (``core.ledger.routing``), the loop that asks for them (``drain_planner``).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from notify_pipeline.core.ids import DeliveryIds, to_micros
from notify_pipeline.core.ledger import caps
from notify_pipeline.core.ledger.caps import FREQUENCY_CAP
from notify_pipeline.core.ledger.plans import Capped, NewDelivery, Plan
from notify_pipeline.core.ledger.progress import AUDIENCE, NO_CHANNEL, PENDING, Counts, add
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import PUSH_CHANNELS, Channel, DeliveryMode, Outcome, Platform, RequestState
from notify_pipeline.delivery import attempts
from notify_pipeline.delivery.audience import CountedAudience
from notify_pipeline.delivery.consenting import Ruling
from notify_pipeline.delivery.known import Known, wanted_channels
from notify_pipeline.delivery.scheduling import Schedule
from notify_pipeline.delivery.timing import AT_ONCE, QUIET_HOURS, Slot

_TO_QUEUE = (RequestState.ROUTED, RequestState.SENDING)


@dataclass(frozen=True, slots=True)
class Rules:
    """What planning goes by.

    Attributes:
        open_channels: Channels that this installation can send on.
        inline_limit: A send to more recipients is a broadcast.
        secret: Makes delivery ids.
        run_id: For the attempts rows of skipped recipients.
    """

    open_channels: frozenset[Channel]
    inline_limit: int
    secret: bytes
    run_id: str


def without_recipients(row: RequestRow, now: datetime) -> Plan | None:
    """Return the plan of a request whose recipients need not be known: it has expired; None for any other."""
    if row.expires_at <= now:
        reason = "expired before it was planned"
        states = (RequestState.EXPIRED,)
        return Plan(row.request_id, row.priority.rank, states, reason=reason, revision=row.revision)
    return None


def unreadable(row: RequestRow, error: Exception) -> Plan:
    """Return the plan of a request that cannot be understood: failed, with the reason."""
    reason = f"unreadable request: {type(error).__name__}: {error}"
    return Plan(row.request_id, row.priority.rank, (RequestState.FAILED,), reason=reason, revision=row.revision)


def cancelled(notification: Notification, reason: str) -> Plan:
    """Return the plan of a send that nobody shall get any more."""
    rank, moves = notification.priority.rank, (RequestState.CANCELLED,)
    return Plan(notification.request_id, rank, moves, reason=reason, revision=notification.revision)


def find_counted_out(audience: CountedAudience, wanted: frozenset[Channel], limit: int) -> list[Recipient] | None:
    """Return an audience's recipients on these channels; None when there are more than ``limit``."""
    if audience.at_least > limit and wanted >= PUSH_CHANNELS:
        return None
    found: list[Recipient] = []
    for frame in audience.batches():
        for recipient in recipients_of(frame):
            if recipient.platform.channel in wanted:
                found.append(recipient)
                if len(found) > limit:
                    return None
    return found


def recipients_of(frame: pl.DataFrame) -> Iterator[Recipient]:
    """Yield the recipients in a frame of an audience, with or without the column of their fields."""
    for address, platform, *more in frame.iter_rows():
        yield Recipient(address, Platform(platform), *more)


def plan(
    notification: Notification,
    known: Known,
    rules: Rules,
    now: datetime,
    schedule: Schedule | None = None,
    rulings: Sequence[Ruling] | None = None,
) -> Plan:
    """Plan a send whose recipients are known: what applies to them, if anything, and who of them gets it, or all."""
    fitting, refused = _fitting(known.recipients, wanted_channels(notification), rulings)
    sent = [r for r in fitting if r.platform.channel in rules.open_channels]
    if len(sent) > rules.inline_limit:
        return broadcast(notification, known.unregistered, rules, now)
    closed = [r for r in fitting if r.platform.channel not in rules.open_channels]
    slots = [AT_ONCE if schedule is None else schedule.slot(recipient, now) for recipient in sent]
    quiet = [recipient for recipient, slot in zip(sent, slots, strict=True) if slot.skip is not None]
    due = [(recipient, slot) for recipient, slot in zip(sent, slots, strict=True) if slot.skip is None]
    at, rank = to_micros(now), notification.priority.rank
    skipped = _skipped(notification, known.unregistered, closed, quiet, rules, at)
    skipped += [_refused(notification, *each, rules, at) for each in refused]
    left_out = [*closed, *quiet, *(recipient for recipient, _ in refused)]
    counts = _counts([recipient for recipient, _ in due], left_out, len(known.unregistered))
    audiences = _audiences(notification, [recipient for recipient, _ in due] + left_out, len(known.unregistered), at)
    detail = {"skipped": {QUIET_HOURS: len(quiet)}} if quiet else None
    if due:
        queue = _deliveries(notification, due, rules.secret)
        capped = _capped(schedule, due, queue, rules, at) if schedule is not None and schedule.capped else None
        return Plan(
            notification.request_id, rank, _TO_QUEUE, DeliveryMode.DRAIN, None, queue, skipped, audiences, counts,
            detail, capped, notification.revision,
        )  # fmt: skip
    state, reason = RequestState.DONE, None
    if known.recipients and not quiet and not refused:
        state = RequestState.UNROUTED
        reason = "no channel that the send allows, and that is configured, reaches its recipients"
    return Plan(
        notification.request_id, rank, (state,), None, reason, (), skipped, audiences, counts, detail,
        revision=notification.revision,
    )  # fmt: skip


def _fitting(
    recipients: Sequence[Recipient], wanted: frozenset[Channel], rulings: Sequence[Ruling] | None
) -> tuple[list[Recipient], list[tuple[Recipient, Ruling]]]:
    """Return who is on a channel that the send wants: those who get it, and those who are refused."""
    if rulings is None:
        return [r for r in recipients if r.platform.channel in wanted], []
    ruled = [(r, each) for r, each in zip(recipients, rulings, strict=True) if r.platform.channel in wanted]
    return [r for r, each in ruled if each.skip is None], [(r, each) for r, each in ruled if each.skip is not None]


def broadcast(notification: Notification, unregistered: Sequence[str], rules: Rules, now: datetime) -> Plan:
    """Plan a send to many: its recipients are counted when they are snapshot."""
    at = to_micros(now)
    return Plan(
        notification.request_id,
        notification.priority.rank,
        (RequestState.ROUTED,),
        DeliveryMode.BROADCAST,
        skipped=_skipped(notification, unregistered, (), (), rules, at),
        audiences=_audiences(notification, (), len(unregistered), at),
        counts=_counts((), (), len(unregistered)),
        revision=notification.revision,
    )


def _deliveries(notification: Notification, due: Sequence[tuple[Recipient, Slot]], secret: bytes) -> list[NewDelivery]:
    ids = {
        channel: DeliveryIds(secret, notification.tenant, notification.notification_id, channel.value)
        for channel in {recipient.platform.channel for recipient, _ in due}
    }
    return [
        NewDelivery(
            ids[r.platform.channel].of(r.address),
            r.platform.channel.value,
            r.platform.value,
            r.address,
            orjson.dumps(r[2:] if r.fields is not None else r[2:-1]).decode(),
            slot.due_at,
            slot.expires_at,
        )
        for r, slot in due
    ]


def _capped(
    schedule: Schedule, due: Sequence[tuple[Recipient, Slot]], queue: Sequence[NewDelivery], rules: Rules, at: int
) -> Capped:
    recipients = {new.delivery_id: recipient for new, (recipient, _) in zip(queue, due, strict=True)}

    def skipped(new: NewDelivery) -> Mapping[str, Any]:
        who, send = recipients[new.delivery_id], schedule.timing.notification
        return attempts.skipped(send, new.address, who, FREQUENCY_CAP, rules.secret, at, rules.run_id)

    who = {name: caps.recipient(recipient.user_id, recipient.address) for name, recipient in recipients.items()}
    return Capped(schedule.uses(recipients.values()), who, skipped)


def recipient_of(address: str, platform: str, stored: str) -> Recipient:
    """Undo what a delivery row stores of a recipient: everything but its fields where it has none."""
    return Recipient(address, Platform(platform), *orjson.loads(stored))


def _skipped(
    notification: Notification,
    unregistered: Sequence[str],
    closed: Sequence[Recipient],
    quiet: Sequence[Recipient],
    rules: Rules,
    at: int,
) -> list[dict[str, object]]:
    who = [(token, None, attempts.UNREGISTERED) for token in unregistered]
    why = [
        *who,
        *((r.address, r, attempts.NOT_CONFIGURED) for r in closed),
        *((r.address, r, QUIET_HOURS) for r in quiet),
    ]
    return [
        attempts.skipped(notification, address, recipient, code, rules.secret, at, rules.run_id)
        for address, recipient, code in why
    ]


def _refused(
    notification: Notification, recipient: Recipient, ruling: Ruling, rules: Rules, at: int
) -> dict[str, object]:
    code, secret = str(ruling.skip), rules.secret
    row = attempts.skipped(notification, recipient.address, recipient, code, secret, at, rules.run_id)
    return {**row, "consent": ruling.word}


def _counts(sent: Sequence[Recipient], skipped: Sequence[Recipient], unregistered: int) -> Counts:
    counts: Counts = {}
    for channel, number in Counter(r.platform.channel.value for r in sent).items():
        counts[channel] = {AUDIENCE: number, PENDING: number}
    for channel, number in Counter(r.platform.channel.value for r in skipped).items():
        counts = add(counts, {channel: {AUDIENCE: number, PENDING: 0, Outcome.SKIPPED.value: number}})
    if unregistered:
        counts[NO_CHANNEL] = {AUDIENCE: unregistered, PENDING: 0, Outcome.SKIPPED.value: unregistered}
    return counts


def _audiences(
    notification: Notification, recipients: Sequence[Recipient], unregistered: int, at: int
) -> list[dict[str, object]]:
    sizes: Counter[tuple[str | None, str | None]] = Counter(
        (r.platform.channel.value, r.platform.value) for r in recipients
    )
    if unregistered:
        sizes[None, None] = unregistered
    return audiences_rows(notification, sizes, at)


def audiences_rows(
    notification: Notification, sizes: Mapping[tuple[str | None, str | None], int], at: int
) -> list[dict[str, object]]:
    """Return the lake's rows of how many recipients a send has by channel and platform."""
    return [
        {
            "tenant": notification.tenant,
            "request_id": notification.request_id,
            "notification_id": notification.notification_id,
            "channel": channel,
            "platform": platform,
            "recipients": number,
            "at": at,
        }
        for (channel, platform), number in sorted(sizes.items(), key=str)
    ]
