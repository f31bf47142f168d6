"""What a send leaves in its users' inboxes: planned beside its deliveries, stored with them.

Belongs here: which users have an item, from when on, and what is recorded of it. Does not belong here: storing
(``core.ledger.planned_items``), everybody else whom the send is for (``planning``, ``snapshot``).

An item disturbs nobody, so it waits for no quiet hours and counts for no frequency cap.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from notify_pipeline.core.ids import DeliveryIds, to_micros
from notify_pipeline.core.ledger.inbox import NewItem
from notify_pipeline.core.ledger.planned_items import InboxPart, PlannedItem
from notify_pipeline.core.ledger.plans import Plan
from notify_pipeline.core.ledger.progress import AUDIENCE, PENDING, Counts, add
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, DeliveryMode, Outcome, Platform, QuietHours, RequestState
from notify_pipeline.delivery import consenting, planning
from notify_pipeline.delivery.consenting import Ruling
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.known import Known, wanted_channels
from notify_pipeline.delivery.planning import Rules
from notify_pipeline.delivery.scheduling import Schedule, Schedules
from notify_pipeline.delivery.timing import AT_ONCE, Person, Slot, Timing

# Who takes items, in attempts rows.
PROVIDER = "inbox"
# A send of which nothing is left to do once its items are stored.
_ITEMS_ONLY = (RequestState.ROUTED, RequestState.DONE)


def plan(
    notification: Notification,
    known: Known,
    rules: Rules,
    now: datetime,
    schedule: Schedule | None = None,
    rulings: Sequence[Ruling] | None = None,
) -> Plan:
    """Plan a send as ``planning.plan`` does, with what it leaves in inboxes; a broadcast does that with its shards."""
    if Channel.INBOX not in wanted_channels(notification):
        return planning.plan(notification, known, rules, now, schedule, rulings)
    ruled = _ruled(known.recipients, rulings)
    others = [each for each in ruled if each[0].platform is not Platform.INBOX]
    rest = None if rulings is None else [ruling for _, ruling in others if ruling is not None]
    deliveries = Known([recipient for recipient, _ in others], known.unregistered)
    made = planning.plan(notification, deliveries, rules, now, schedule, rest)
    if made.mode is DeliveryMode.BROADCAST:
        return made
    mine = [each for each in ruled if each[0].platform is Platform.INBOX]
    return _with(made, part(notification, mine, rules.secret, now, rules.run_id, schedule))


def _with(made: Plan, found: InboxPart) -> Plan:
    nothing_else = found.items and not made.deliveries
    return replace(
        made,
        moves=_ITEMS_ONLY if nothing_else else made.moves,
        reason=None if nothing_else else made.reason,
        skipped=[*made.skipped, *found.skipped],
        audiences=[*made.audiences, *found.audiences],
        counts=add(made.counts, found.counts),
        inbox=found.items,
    )


def of_broadcast(ctx: DeliveryContext, notification: Notification, known: Known, now: datetime) -> InboxPart:
    """Return what a broadcast leaves in inboxes."""
    mine = [recipient for recipient in known.recipients if recipient.platform is Platform.INBOX]
    if not mine:
        return InboxPart()
    schedule = Schedules(ctx.ledger).find(notification, mine)
    rulings: Sequence[Ruling] | None = None
    with ctx.ledger.read() as conn:
        if of_tenants := consenting.read(conn, {notification.tenant}):
            (rulings,) = consenting.rule(conn, [(notification, mine)], of_tenants)
    return part(notification, _ruled(mine, rulings), ctx.delivery_secret, now, ctx.run_id, schedule)


def part(
    notification: Notification,
    ruled: Sequence[tuple[Recipient, Ruling | None]],
    secret: bytes,
    now: datetime,
    run_id: str,
    schedule: Schedule | None = None,
) -> InboxPart:
    """Return what a send leaves in inboxes.

    Args:
        notification: The send.
        ruled: The users, and who of them wants it; None: nobody said anything.
        secret: Makes delivery ids.
        now: The moment.
        run_id: For the attempts rows.
        schedule: What applies to these users, if anything does.
    """
    if not ruled:
        return InboxPart()
    at, content = to_micros(now), _content(notification)
    ids = DeliveryIds(secret, notification.tenant, notification.notification_id, Channel.INBOX.value)
    items: list[PlannedItem] = []
    skipped: list[Mapping[str, Any]] = []
    for recipient, ruling in ruled:
        told = {"consent": None if ruling is None else ruling.word}
        row = _attempt(notification, recipient.address, ids, at, run_id) | told
        if ruling is not None and ruling.skip is not None:
            skipped.append(row | _skip(ruling.skip))
        elif notification.dry_run:
            items.append(PlannedItem(None, row | {"outcome": Outcome.DRY_RUN.value}))
        else:
            slot = _slot(notification, recipient, schedule, now)
            items.append(PlannedItem(_item(notification, recipient.address, content, slot), row))
    audiences = planning.audiences_rows(notification, {(Channel.INBOX.value, Platform.INBOX.value): len(ruled)}, at)
    return InboxPart(items, skipped, _counts(notification, len(items), len(skipped)), audiences)


def _ruled(recipients: Sequence[Recipient], rulings: Sequence[Ruling] | None) -> list[tuple[Recipient, Ruling | None]]:
    return list(zip(recipients, itertools.repeat(None) if rulings is None else rulings, strict=False))


def _attempt(notification: Notification, user_id: str, ids: DeliveryIds, at: int, run_id: str) -> dict[str, Any]:
    return {
        "notification_id": notification.notification_id,
        "tenant": notification.tenant,
        "request_id": notification.request_id,
        "channel": Channel.INBOX.value,
        "platform": Platform.INBOX.value,
        "provider": PROVIDER,
        "recipient": user_id,
        "user_id": user_id,
        "delivery_id": ids.of(user_id),
        "attempt_no": 1,
        "sent_at": at,
        "answered_at": at,
        "outcome": Outcome.ACCEPTED.value,
        "run_id": run_id,
    }


def _skip(code: str) -> dict[str, Any]:
    """Return what is different in the row of a user who wants none."""
    return {
        "provider": None,
        "attempt_no": 0,
        "answered_at": None,
        "outcome": Outcome.SKIPPED.value,
        "provider_code": code,
    }


def _item(notification: Notification, user_id: str, content: Mapping[str, Any], slot: Slot) -> NewItem:
    until = to_micros(notification.expires_at) if slot.expires_at is None else slot.expires_at
    return NewItem(
        tenant=notification.tenant,
        user_id=user_id,
        notification_id=notification.notification_id,
        type=notification.type,
        content=content,
        category=notification.category,
        request_id=notification.request_id,
        visible_at=slot.due_at,
        # By default a send is delivered within a day or not at all; what was delivered stays.
        expires_at=until if notification.has_ttl else None,
    )


def _slot(notification: Notification, recipient: Recipient, schedule: Schedule | None, now: datetime) -> Slot:
    if notification.send_at_local is None:
        return AT_ONCE
    quiet = None if schedule is None else schedule.timing.quiet
    person = Person(recipient.timezone) if schedule is None else schedule.person(recipient)
    # The tenant's quiet hours say what zone its users are in where nobody else does.
    return Timing(replace(notification, quiet_hours=QuietHours.IGNORE), quiet).slot(person, now)


def _content(notification: Notification) -> dict[str, Any]:
    shown = notification.content_on(Channel.INBOX)
    return {
        "title": shown.title,
        "body": shown.body,
        "link": shown.link,
        "image_url": shown.image_url,
        "icon_url": shown.icon_url,
        "actions": [action.stored for action in shown.actions],
        "data": dict(shown.data),
    }


def _counts(notification: Notification, items: int, skipped: int) -> Counts:
    outcome = Outcome.DRY_RUN if notification.dry_run else Outcome.ACCEPTED
    by_outcome = {outcome.value: items, Outcome.SKIPPED.value: skipped}
    found = {name: number for name, number in by_outcome.items() if number}
    return {Channel.INBOX.value: {AUDIENCE: items + skipped, PENDING: 0, **found}}
