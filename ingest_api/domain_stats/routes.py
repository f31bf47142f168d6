"""A domain's figures over time, for its owner.

Belongs here: those routes. Does not belong here: queries (``reports.reading_domain_stats``), single messages
(``domain_messages``).
"""

from itertools import islice

from flask import Response

from ingest_api.domain_stats.models import (
    MAX_PERIODS,
    ConsumedShown,
    Figures,
    PeriodShown,
    RangeQuery,
    StatsQuery,
    StatsShown,
)
from ingest_api.domains.finding import own_domain
from ingest_api.domains.models import DomainName
from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import FieldError, unprocessable
from ingest_api.inputs import check_order
from ingest_api.keys import Access
from notify_pipeline.reports import reading_domain_stats
from notify_pipeline.reports.reading_domain_stats import Period, Sums

GROUP = Group("domain figures", "What became of all messages of a domain, by period.")
_UNKNOWN = {404: "`unknown_domain`: there is none, or it is another tenant's."}


@GROUP.endpoint(
    "GET",
    "/push-contacts/{domain}/stats",
    access=Access.SECRET,
    answers={200: Answer("The figures.", StatsShown)},
    errors=_UNKNOWN,
)
def show_domain_stats(call: Call, domain: DomainName, query: StatsQuery) -> Response:
    """Show a domain's figures.

    A message counts in the period that it was accepted in, by day, week (from Monday), month or year in UTC, with all
    that became of it. What was sent is counted as of now, what browsers reported as of `receivedThrough`.
    """
    own_domain(call, domain)
    check_order(query.since, query.until)
    periods = _periods(query)
    services = call.services
    stats = reading_domain_stats.stats(services.ledger, services.reports, call.tenant, domain, query.since, query.until)
    shown = StatsShown(
        domain=domain,
        since=query.since,
        until=query.until,
        group_by=query.group_by,
        totals=Figures(**_figures(stats.totals)),
        periods=[
            PeriodShown(period=period.name, since=period.since, until=period.until, **_figures(sums))
            for period, sums in zip(periods, stats.by(periods), strict=True)
        ],
        received_through=stats.received_through,
    )
    return answer(200, shown)


@GROUP.endpoint(
    "GET",
    "/push-contacts/{domain}/consumed",
    access=Access.SECRET,
    answers={200: Answer("How many.", ConsumedShown)},
    errors=_UNKNOWN,
)
def show_consumed(call: Call, domain: DomainName, query: RangeQuery) -> Response:
    """Show how many deliveries a domain consumed.

    Those that a provider accepted in the range, by the moment of its word, whenever their messages were accepted; each
    once. The range is of whole seconds. From the report published last: what has not landed by then is in the next.
    """
    own_domain(call, domain)
    check_order(query.since, query.until)
    for name, moment in (("from", query.since), ("until", query.until)):
        if moment.microsecond:
            raise unprocessable(FieldError(name, "must be a whole second"))
    found = reading_domain_stats.consumed(call.services.reports, call.tenant, domain, query.since, query.until)
    shown = ConsumedShown(
        domain=domain, since=query.since, until=query.until, consumed=found.deliveries, as_of=found.as_of
    )
    return answer(200, shown)


def _periods(query: StatsQuery) -> list[Period]:
    """Return the periods that are asked for.

    Raises:
        ApiError: 422 naming ``groupBy`` when they are too many.
    """
    if query.group_by is None:
        return []
    found = list(islice(reading_domain_stats.periods(query.since, query.until, query.group_by), MAX_PERIODS + 1))
    if len(found) > MAX_PERIODS:
        raise unprocessable(FieldError("groupBy", f"gives more than {MAX_PERIODS:,} periods in this range"))
    return found


def _figures(sums: Sums) -> dict[str, object]:
    return {
        "messages": sums.messages,
        "sent": sums.counts.sent,
        "delivered": sums.counts.delivered,
        "not_delivered": sums.counts.not_delivered,
        "pending": sums.counts.pending,
        "received": sums.received,
        "accepted_by_beacon": sums.accepted_by_beacon,
        "clicked": sums.clicked,
        "action_clicks": dict(sorted(sums.action_clicks.items())),
    }
