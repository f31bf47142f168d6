"""What stands behind a report: timeline, failures, latencies.

Belongs here: those routes. Does not belong here: reports themselves (``routes``), files (``download_routes``).
"""

from collections.abc import Mapping
from typing import Any

from flask import Response

from ingest_api.endpoint import Answer, Call
from ingest_api.errors import not_found
from ingest_api.fields import NotificationId
from ingest_api.keys import Access
from ingest_api.paging import pack
from ingest_api.reports import asking
from ingest_api.reports.models import FailurePage, LatencyPage, TimelinePage
from ingest_api.reports.questions import DetailQuery, TimelineQuery
from ingest_api.reports.routes import GONE, GROUP, NOT_CHANGED, UNKNOWN, shown
from ingest_api.reports.serving import VALIDATOR_HEADERS, Served
from notify_pipeline.core.ids import to_micros
from notify_pipeline.reports import reading_details
from notify_pipeline.reports.reading_details import Detail

__all__ = ["GROUP"]

_ERRORS = {404: f"{UNKNOWN} Or: {GONE}"}


@GROUP.endpoint(
    "GET",
    "/reports/{notification_id}/timeline",
    access=Access.SECRET,
    answers={200: Answer("A page, from acceptance on.", TimelinePage, VALIDATOR_HEADERS), 304: NOT_CHANGED},
    errors=_ERRORS,
)
def show_timeline(call: Call, notification_id: NotificationId, query: TimelineQuery) -> Response:
    """Show when deliveries were accepted and received.

    By platform, in steps of ten seconds or of as many more as are asked for.
    """
    return _page(call, Detail.TIMELINE, notification_id, query, {"step_s": query.step_s})


@GROUP.endpoint(
    "GET",
    "/reports/{notification_id}/failures",
    access=Access.SECRET,
    answers={200: Answer("A page, the most deliveries first.", FailurePage, VALIDATOR_HEADERS), 304: NOT_CHANGED},
    errors=_ERRORS,
)
def show_failures(call: Call, notification_id: NotificationId, query: DetailQuery) -> Response:
    """Show what was not accepted, and why.

    By platform, provider, outcome and the provider's code; recipients that no provider was called for too.
    """
    return _page(call, Detail.FAILURES, notification_id, query, {})


@GROUP.endpoint(
    "GET",
    "/reports/{notification_id}/latencies",
    access=Access.SECRET,
    answers={200: Answer("A page, by platform and stage.", LatencyPage, VALIDATOR_HEADERS), 304: NOT_CHANGED},
    errors=_ERRORS,
)
def show_latencies(call: Call, notification_id: NotificationId, query: DetailQuery) -> Response:
    """Show how long each stage took, by platform."""
    return _page(call, Detail.LATENCIES, notification_id, query, {})


def _page(call: Call, kind: Detail, notification_id: str, query: DetailQuery, asked: Mapping[str, Any]) -> Response:
    (tenant,) = asking.tenants_of(call, query)
    version, offset = asking.offset_of(call, query.cursor, query.as_of)
    served = Served(call, version, (tenant,))
    if (known := served.known) is not None:
        return known
    rows = None
    if version is not None:
        with asking.kept():
            rows = reading_details.details(
                call.services.reports,
                kind,
                tenant,
                notification_id,
                as_of=version.published_at,
                limit=query.limit + 1,
                offset=offset,
                asked=asked,
            )
    if rows is None or version is None:
        raise not_found("There is no report of this notification (yet).")
    following = None
    if len(rows) > query.limit:
        following = pack(version.number, to_micros(version.published_at), offset + query.limit)
    page = {"notification_id": notification_id, **asked, "items": rows[: query.limit], "next_cursor": following}
    return served.answer({**shown(version), **page})
