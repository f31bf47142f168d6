"""What became of notifications, from the published report version.

Belongs here: the report routes. Does not belong here: queries (``reports.reading``), building.
"""

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import not_found
from ingest_api.fields import NotificationId
from ingest_api.inputs import check_order
from ingest_api.keys import Access
from ingest_api.paging import cut, unpack_key
from ingest_api.reports.models import ReportPage, ReportQuery, ReportShown
from notify_pipeline.core.ids import to_micros
from notify_pipeline.reports.reading import ReportFilter

GROUP = Group("reports", "How many were sent, received, opened and clicked, and how fast.")


@GROUP.endpoint("GET", "/reports", access=Access.SECRET, answers={200: Answer("A page, newest first.", ReportPage)})
def list_reports(call: Call, query: ReportQuery) -> Response:
    """List reports.

    From the version published last; empty before the first.
    """
    check_order(query.since, query.until)
    where = ReportFilter(query.since, query.until, query.type, query.platform, query.include_dry_run)
    rows = call.services.reports.list(call.tenant, where, query.limit + 1, unpack_key(query.cursor))
    page, cursor = cut(rows, query.limit, lambda row: (to_micros(row["accepted_at"]), row["notification_id"]))
    return answer(200, {"items": page, "next_cursor": cursor})


@GROUP.endpoint(
    "GET",
    "/reports/{notification_id}",
    access=Access.SECRET,
    answers={200: Answer("The report.", ReportShown)},
    errors={404: "This tenant has no such notification, or no version with it was published yet."},
)
def show_report(call: Call, notification_id: NotificationId) -> Response:
    """Show one notification's report."""
    row = call.services.reports.one(call.tenant, notification_id)
    if row is None:
        raise not_found("There is no report of this notification (yet).")
    return answer(200, row)
