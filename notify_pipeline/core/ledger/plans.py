"""What is to become of one claimed request.

Belongs here: plans, and a plan without those who are over a frequency cap. Does not belong here: deciding plans
(``delivery.planning``), storing them (``routing``), counting (``caps``).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from notify_pipeline.core.ledger import caps, progress
from notify_pipeline.core.ledger.caps import Uses
from notify_pipeline.core.ledger.planned_items import PlannedItem
from notify_pipeline.core.vocabulary import DeliveryMode, Outcome, RequestState


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One recipient of a small send. ``recipient`` is the JSON of what a channel needs beyond the address.

    Times in microseconds since the epoch: ``due_at`` None means at once, ``expires_at`` None with its request.
    """

    delivery_id: str
    channel: str
    platform: str
    address: str
    recipient: str
    due_at: int | None = None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Capped:
    """What a plan needs to go by frequency caps.

    Attributes:
        uses: What the send would use.
        who: Whom each delivery is for, as ``uses`` names them.
        skipped: Makes the attempts row of a delivery that is over a cap.
    """

    uses: Uses
    who: Mapping[str, str]
    skipped: Callable[[NewDelivery], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of one claimed request.

    Attributes:
        request_id: Which.
        priority_rank: For the queue's order.
        moves: The states that it goes through from accepted, in order; the last is where it stands then.
        mode: How it is sent; None when it is not.
        reason: Why it is not sent.
        deliveries: The queue's new rows.
        skipped: Attempts rows (for the lake) of recipients that get no call.
        audiences: Audiences rows (for the lake).
        counts: The request's counts from here on.
        detail: What else the audit is to know.
        capped: Where a frequency cap may apply.
        revision: Of the request that it was made of: when it was edited since, the plan is nothing.
        inbox: What it leaves in inboxes.
    """

    request_id: str
    priority_rank: int
    moves: tuple[RequestState, ...]
    mode: DeliveryMode | None = None
    reason: str | None = None
    deliveries: Sequence[NewDelivery] = ()
    skipped: Sequence[Mapping[str, Any]] = ()
    audiences: Sequence[Mapping[str, Any]] = ()
    counts: progress.Counts = field(default_factory=dict)
    detail: Mapping[str, Any] | None = None
    capped: Capped | None = None
    revision: int = 0
    inbox: Sequence[PlannedItem] = ()

    def told_at(self, state: RequestState, now: int) -> dict[str, Any] | None:
        """Return what the audit says of one of its moves: what was decided, what was queued, or why it ended."""
        if state is RequestState.SENDING:
            later = sum(each.due_at is not None and each.due_at > now for each in self.deliveries)
            return {"queued": len(self.deliveries), **({"later": later} if later else {})}
        told: dict[str, Any] = {}
        if state is RequestState.ROUTED:
            if self.mode is not None:
                told["mode"] = self.mode
            told["channels"] = {channel: values[progress.AUDIENCE] for channel, values in self.counts.items()}
        if self.skipped:
            told["skipped"] = dict(Counter(str(row["provider_code"]) for row in self.skipped))
        return {**(self.detail or {}), **told, **({"reason": self.reason} if self.reason else {})} or None


def within_caps(conn: Connection, plans: Sequence[Plan]) -> list[Plan]:
    """Take the uses of plans that frequency caps may apply to; return all without the deliveries that are over."""
    asking = {plan.request_id: plan.capped.uses for plan in plans if plan.capped is not None}
    if not asking:
        return list(plans)
    over = dict(zip(asking, caps.take_all(conn, list(asking.values())), strict=True))
    return [_without(plan, over[plan.request_id]) if over.get(plan.request_id) else plan for plan in plans]


def _without(plan: Plan, over: Set[str]) -> Plan:
    capped = plan.capped
    if capped is None:
        return plan
    gone = [each for each in plan.deliveries if capped.who[each.delivery_id] in over]
    kept = [each for each in plan.deliveries if capped.who[each.delivery_id] not in over]
    by_channel = Counter(each.channel for each in gone)
    changes = {name: {progress.PENDING: -number, Outcome.SKIPPED.value: number} for name, number in by_channel.items()}
    reasons = {**(plan.detail or {}).get("skipped", {}), caps.FREQUENCY_CAP: len(gone)}
    return replace(
        plan,
        moves=plan.moves if kept else ((RequestState.ROUTED,) if plan.inbox else ()) + (RequestState.DONE,),
        mode=plan.mode if kept else None,
        deliveries=kept,
        skipped=[*plan.skipped, *map(capped.skipped, gone)],
        counts=progress.add(plan.counts, changes),
        detail={**(plan.detail or {}), "skipped": reasons},
    )
