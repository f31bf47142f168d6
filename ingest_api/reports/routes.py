"""What became of notifications: the list, one report, two side by side.

Belongs here: those routes. Does not belong here: what stands behind a report (``detail_routes``), files
(``download_routes``), queries (``reports.reading_*``), building.
"""

from datetime import datetime

from flask import Response

from ingest_api.endpoint import Answer, Call, Group
from ingest_api.errors import not_found
from ingest_api.fields import NotificationId
from ingest_api.keys import Access
from ingest_api.reports import asking
from ingest_api.reports.models import ComparisonShown, ReportPage, ReportShown
from ingest_api.reports.questions import ComparisonQuery, OneQuery, ReportQuery
from ingest_api.reports.serving import VALIDATOR_HEADERS, Served
from notify_pipeline.core.ledger import live
from notify_pipeline.reports import reading_comparison, reading_details, reading_lists, reading_live, reading_totals
from notify_pipeline.reports.reading_lists import Version
from notify_pipeline.reports.reading_rows import Row

GROUP = Group("reports", "How many were sent, received, opened and clicked, and how fast.")
NOT_CHANGED = Answer("The caller has it already: it carried this `ETag` in `If-None-Match`.", headers=VALIDATOR_HEADERS)
UNKNOWN = "This tenant has no such notification, or no version with it was published yet."
GONE = "No version is kept that was published by `as_of`."
_PUBLISHED = {"figures_from": reading_live.PUBLISHED}


@GROUP.endpoint(
    "GET",
    "/reports",
    access=Access.SECRET,
    answers={200: Answer("A page.", ReportPage, VALIDATOR_HEADERS), 304: NOT_CHANGED},
    errors={404: f"{GONE} Or the key sees no such organization."},
)
def list_reports(call: Call, query: ReportQuery) -> Response:
    """List reports.

    From the version published last; empty before the first. The pages of a list are all of the version that it was
    begun on, and none of its rows is left out or comes twice. Should that version be pruned before the last page, a
    list by `accepted_at` goes on with the present one; in another order the cursor is refused. A page may show of sends
    under way what the ledger knows; the list's order and its filters are of the published figures.
    """
    tenants = asking.tenants_of(call, query)
    where, after = asking.filter_of(query, tenants), asking.place_of(query.cursor, query.sort)
    reports, ledger = call.services.reports, call.services.ledger
    version = asking.version_of(call, query.as_of)
    served = Served(call, version, tenants, "" if query.as_of else live.token_of_open(ledger, tenants))
    if (known := served.known) is not None:
        return known
    with asking.kept():
        page = reading_lists.page(reports, where, query.limit, query.sort, after, as_of=_moment(version))
        sums = reading_totals.totals(reports, where, as_of=_moment(page.version)) if query.include_totals else None
    items = page.rows
    if query.as_of is None:
        items = reading_live.overlay(ledger, items, query.platform, query.channel)
    else:
        items = [row | _PUBLISHED for row in items]
    following = asking.cursor_of(page.following)
    return served.answer({**shown(page.version), "items": items, "totals": sums, "next_cursor": following})


@GROUP.endpoint(
    "GET",
    "/reports/{notification_id}",
    access=Access.SECRET,
    answers={200: Answer("The report.", ReportShown, VALIDATOR_HEADERS), 304: NOT_CHANGED},
    errors={404: f"{UNKNOWN} Or: {GONE}"},
)
def show_report(call: Call, notification_id: NotificationId, query: OneQuery) -> Response:
    """Show one notification's report.

    While it is being sent, what is counted of sending comes from the ledger and moves within seconds.
    """
    (tenant,) = asking.tenants_of(call, query)
    version = asking.version_of(call, query.as_of)
    token = "" if query.as_of else live.token(call.services.ledger, tenant, notification_id)
    served = Served(call, version, (tenant,), token)
    return served.known or served.answer(_report(call, tenant, notification_id, query, version))


@GROUP.endpoint(
    "GET",
    "/reports/{notification_id}/comparison",
    access=Access.SECRET,
    answers={200: Answer("Both, and how they differ.", ComparisonShown, VALIDATOR_HEADERS), 304: NOT_CHANGED},
    errors={404: f"{UNKNOWN} Or: {GONE}"},
)
def compare_reports(call: Call, notification_id: NotificationId, query: ComparisonQuery) -> Response:
    """Compare two sends.

    Figures side by side, in all and by platform, with differences, ratios and rates, and the reasons why they may not
    be compared as they stand.
    """
    (tenant,) = asking.tenants_of(call, query)
    version = asking.version_of(call, query.as_of)
    names = (notification_id, query.other)
    tokens = [] if query.as_of else [live.token(call.services.ledger, tenant, name) for name in names]
    served = Served(call, version, (tenant,), " ".join(tokens))
    if (known := served.known) is not None:
        return known
    first = _report(call, tenant, notification_id, query, version)
    other = _report(call, tenant, query.other, query, version, "with")
    return served.answer({**shown(version), **reading_comparison.compared(first, other)})


def shown(version: Version | None) -> Row:
    """Return a ``VersionShown``."""
    if version is None:
        return {"version": None, "published_at": None}
    return {"version": version.number, "published_at": version.published_at}


def _report(
    call: Call, tenant: str, notification_id: str, query: OneQuery, version: Version | None, field: str | None = None
) -> Row:
    ledger = call.services.ledger
    with asking.kept():
        row = reading_details.one(call.services.reports, tenant, notification_id, as_of=_moment(version))
    if query.as_of is not None:
        found = None if row is None else row | _PUBLISHED
    elif row is None:
        found = reading_live.unpublished(ledger, tenant, notification_id)
    else:
        (found,) = reading_live.overlay(ledger, [row])
    if found is None:
        raise not_found("There is no report of this notification (yet).", field)
    return found


def _moment(version: Version | None) -> datetime | None:
    return None if version is None else version.published_at
