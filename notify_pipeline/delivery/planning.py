"""What becomes of an accepted request: through the queue, as a broadcast, or to its end at once.

Belongs here: turning requests and recipients into plans. Does not belong here: storing them
(``core.ledger.routing``), the loop that asks for them (``drain_planner``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from notify_pipeline.core.ids import DeliveryIds, to_micros
from notify_pipeline.core.ledger import caps, devices
from notify_pipeline.core.ledger.caps import FREQUENCY_CAP
from notify_pipeline.core.ledger.devices import Device
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.plans import Capped, NewDelivery, Plan
from notify_pipeline.core.ledger.progress import AUDIENCE, NO_CHANNEL, PENDING, Counts, add
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import PUSH_CHANNELS, Channel, DeliveryMode, Outcome, Platform, RequestState
from notify_pipeline.delivery import attempts
from notify_pipeline.delivery.audience import CountedAudience
from notify_pipeline.delivery.scheduling import Schedule
from notify_pipeline.delivery.timing import AT_ONCE, QUIET_HOURS, Slot

_TO_QUEUE = (RequestState.ROUTED, RequestState.SENDING)


@dataclass(frozen=True, slots=True)
class Known:
    """The recipients of a send that names users or devices: ``unregistered`` are tokens that nobody registered."""

    recipients: Sequence[Recipient]
    unregistered: Sequence[str] = ()


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


def find_known(ledger: Ledger, notifications: Iterable[Notification]) -> dict[str, Known]:
    """Find the recipients of sends that name users or devices, by request: exact, as of now.

    Sends of one tenant are looked up together: thousands of sends to one user each are a handful of queries.
    """
    by_tenant: dict[str, list[Notification]] = {}
    for notification in notifications:
        by_tenant.setdefault(notification.tenant, []).append(notification)
    found: dict[str, Known] = {}
    for tenant, mine in by_tenant.items():
        users = sorted({user for n in mine for user in n.audience.users})
        tokens = sorted({token for n in mine for token in n.audience.devices})
        by_user: dict[str, list[Device]] = {}
        for device in devices.find_by_users(ledger, tenant, users) if users else ():
            by_user.setdefault(str(device.user_id), []).append(device)
        by_token = {d.token: d for d in (devices.find_by_tokens(ledger, tenant, tokens) if tokens else ())}
        found.update({n.request_id: _known(n, by_user, by_token) for n in mine})
    return found


def _known(n: Notification, by_user: Mapping[str, Sequence[Device]], by_token: Mapping[str, Device]) -> Known:
    mine = {device.token: device for user in n.audience.users for device in by_user.get(user, ())}
    mine.update({token: by_token[token] for token in n.audience.devices if token in by_token})
    unregistered = sorted({token for token in n.audience.devices if token not in by_token})
    return Known([_recipient(mine[token]) for token in sorted(mine)], unregistered)


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
    """Yield the recipients in a frame of an audience."""
    for address, platform, user_id, locale, timezone, app_version in frame.iter_rows():
        yield Recipient(address, Platform(platform), user_id, locale, timezone, app_version)


def wanted_channels(notification: Notification) -> frozenset[Channel]:
    """Return the channels that a send may use: those that it names, else push and what its audience is made of."""
    if notification.channels is not None:
        return notification.channels
    audience = notification.audience
    if audience.emails or audience.phones:
        return PUSH_CHANNELS | {Channel.EMAIL, Channel.SMS}
    return PUSH_CHANNELS


def plan(
    notification: Notification, known: Known, rules: Rules, now: datetime, schedule: Schedule | None = None
) -> Plan:
    """Plan a send whose recipients are known; ``schedule`` is what applies to them, if anything does."""
    wanted = wanted_channels(notification)
    fitting = [r for r in known.recipients if r.platform.channel in wanted]
    sent = [r for r in fitting if r.platform.channel in rules.open_channels]
    if len(sent) > rules.inline_limit:
        return broadcast(notification, known.unregistered, rules, now)
    closed = [r for r in fitting if r.platform.channel not in rules.open_channels]
    slots = [AT_ONCE if schedule is None else schedule.slot(recipient, now) for recipient in sent]
    quiet = [recipient for recipient, slot in zip(sent, slots, strict=True) if slot.skip is not None]
    due = [(recipient, slot) for recipient, slot in zip(sent, slots, strict=True) if slot.skip is None]
    at, rank = to_micros(now), notification.priority.rank
    skipped = _skipped(notification, known.unregistered, closed, quiet, rules, at)
    counts = _counts([recipient for recipient, _ in due], [*closed, *quiet], len(known.unregistered))
    audiences = _audiences(notification, [*sent, *closed], len(known.unregistered), at)
    detail = {"skipped": {QUIET_HOURS: len(quiet)}} if quiet else None
    if due:
        queue = _deliveries(notification, due, rules.secret)
        capped = _capped(schedule, due, queue, rules, at) if schedule is not None and schedule.capped else None
        return Plan(
            notification.request_id, rank, _TO_QUEUE, DeliveryMode.DRAIN, None, queue, skipped, audiences, counts,
            detail, capped, notification.revision,
        )  # fmt: skip
    state, reason = RequestState.DONE, None
    if known.recipients and not quiet:
        state = RequestState.UNROUTED
        reason = "no channel that the send allows, and that is configured, reaches its recipients"
    return Plan(
        notification.request_id, rank, (state,), None, reason, (), skipped, audiences, counts, detail,
        revision=notification.revision,
    )  # fmt: skip


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


def _recipient(device: Device) -> Recipient:
    return Recipient(device.token, device.platform, device.user_id, device.locale, device.timezone, device.app_version)


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
            orjson.dumps([r.user_id, r.locale, r.timezone, r.app_version]).decode(),
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
    """Undo what a delivery row stores of a recipient."""
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
