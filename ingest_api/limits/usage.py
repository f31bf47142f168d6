"""What a tenant has used: by day, and of today's quotas.

Belongs here: that answer. Does not belong here: counting (``core.ledger.usage``, ``core.ledger.figures``), limits
(``routes``).
"""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from ingest_api.endpoint import Call
from ingest_api.errors import FieldError, unprocessable
from ingest_api.inputs import check_order
from ingest_api.limits.models import MAX_DAYS, UsageQuery
from notify_pipeline.core.ledger import figures
from notify_pipeline.core.ledger.figures import DayFigures
from notify_pipeline.core.ledger.usage import Quota, day_of, requests_on, start_of

_WEEK = timedelta(days=6)


def usage_of(call: Call, query: UsageQuery) -> Mapping[str, Any]:
    """Return the figures of ``models.UsageShown``.

    Raises:
        ApiError: 422 when the days make no sense.
    """
    now = call.services.clock()
    today = now.date()
    first, until = _span(query, today)
    day, tenants = day_of(now), call.reads(query.include_organizations)
    limits = call.services.limits.of(call.tenant)
    with call.services.ledger.read() as conn:
        found = {
            start_of(used.day).date(): used for used in figures.by_day(conn, tenants, _number(first), _number(until))
        }

        def used_of(quota: Quota, name: str) -> int | None:
            if quota.subject not in tenants:
                return None
            if name == "daily_requests":
                return requests_on(conn, quota.subject, day)
            return figures.recipients_counted(conn, quota.subject, day)

        quotas = {
            name: [
                _quota(quota.subject == call.tenant, getattr(quota, name), used_of(quota, name)) for quota in counting
            ]
            for name, counting in (
                ("daily_requests", limits.request_quotas),
                ("daily_recipients", limits.recipient_quotas),
            )
        }
    days = [first + timedelta(days=n) for n in range((until - first).days + 1)]
    shown = {"day": today, "resets_at": start_of(day + 1), **quotas}
    return {"days": [_day(each, found.get(each)) for each in days], "today": shown}


def _span(query: UsageQuery, today: date) -> tuple[date, date]:
    until = query.until or today
    first = query.from_ or max(until, date.min + _WEEK) - _WEEK
    check_order(query.from_, query.until)
    if first > until:
        raise unprocessable(FieldError("from", "must not lie after today"))
    if (until - first).days >= MAX_DAYS:
        raise unprocessable(FieldError("from", f"must lie at most {MAX_DAYS - 1} days before until"))
    return first, until


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _day(day: date, used: DayFigures | None) -> Mapping[str, Any]:
    if used is None:
        return {"day": day, "requests": 0, "recipients": 0, "channels": {}}
    return {"day": day, "requests": used.requests, "recipients": used.recipients, "channels": used.channels}


def _quota(is_own: bool, limit: int, used: int | None) -> Mapping[str, Any]:
    left = None if used is None else max(0, limit - used)
    return {"of": "own" if is_own else "product", "limit": limit, "used": used, "left": left}
