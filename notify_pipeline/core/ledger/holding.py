"""Sends held to their tenants' limits once their recipients are known.

Belongs here: what is refused then, in the transaction that would begin to send. Does not belong here: counting
(``usage``), what limits there are (``limits``), refusing to accept (``accepting``).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import progress
from notify_pipeline.core.ledger.limits import Limits
from notify_pipeline.core.ledger.plans import Plan
from notify_pipeline.core.ledger.usage import QUOTA_EXCEEDED, Tally
from notify_pipeline.core.vocabulary import DeliveryMode, RequestState


def recipients(counts: progress.Counts) -> int:
    """Return how many recipients counts speak of, skipped ones included."""
    return sum(values.get(progress.AUDIENCE, 0) for values in counts.values())


def within_limits(
    conn: Connection, plans: Sequence[Plan], tenants: Mapping[str, str], limits: Mapping[str, Limits], now: datetime
) -> list[Plan]:
    """Use what plans need of their tenants' quotas; return all, those that are over a limit as failed.

    A broadcast's recipients are not counted yet; it is held to its limits when they are (``refusal``).

    Args:
        conn: The transaction.
        plans: What is to be stored, its requests locked.
        tenants: Whose each request is.
        limits: Of tenants that have any.
        now: The moment of planning.
    """
    held = {
        plan.request_id: limits[tenants[plan.request_id]]
        for plan in plans
        if tenants[plan.request_id] in limits and plan.mode is not DeliveryMode.BROADCAST and plan.counts
    }
    if not held:
        return list(plans)
    at = to_micros(now)
    tally = Tally(conn, [(one.recipient_quotas, at) for one in held.values()])
    result = [plan if plan.request_id not in held else _held(plan, held[plan.request_id], tally, at) for plan in plans]
    tally.store()
    return result


def refusal(conn: Connection, limits: Limits, number: int, now: datetime) -> str | None:
    """Use so many recipients of a tenant's quotas, or return why a send to them is not made."""
    at = to_micros(now)
    tally = Tally(conn, [(limits.recipient_quotas, at)])
    reason = _refusal(limits, tally, number, at)
    tally.store()
    return reason


def _held(plan: Plan, limits: Limits, tally: Tally, at: int) -> Plan:
    number = recipients(plan.counts)
    reason = _refusal(limits, tally, number, at)
    if reason is None:
        return plan
    detail = {"recipients": number}
    return Plan(plan.request_id, plan.priority_rank, (RequestState.FAILED,), reason=reason, detail=detail)


def _refusal(limits: Limits, tally: Tally, number: int, at: int) -> str | None:
    reason = limits.refuses(number)
    if reason is None and not tally.take_recipients(limits.recipient_quotas, number, at):
        reason = QUOTA_EXCEEDED
    return reason
