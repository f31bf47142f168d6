"""One notification's report, and what stands behind its figures: timeline, failures, latencies.

Belongs here: questions that name a notification. Does not belong here: lists (``reading_lists``), HTTP.

Each question about a notification that the version has no report of is answered with None.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import duckdb

from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.reading_lists import with_platforms
from notify_pipeline.reports.reading_rows import DESCRIPTION, MEASURES, PLACE, Row, rows_of, selected


class Detail(StrEnum):
    """What is kept of a notification beside its report, by the name of its table."""

    PLATFORMS = "platform_reports"
    TIMELINE = "timeline"
    FAILURES = "failures"
    LATENCIES = "latencies"
    ACTIONS = "actions"

    @property
    def columns(self) -> tuple[str, ...]:
        """What a row of it has, in order."""
        return _COLUMNS[self]


_COLUMNS = {
    Detail.PLATFORMS: (*PLACE, *MEASURES),
    Detail.TIMELINE: ("platform", "bucket_s", "accepted", "received"),
    Detail.FAILURES: (*PLACE, "outcome", "provider_code", "attempts", "deliveries", "first_at", "last_at"),
    Detail.ACTIONS: ("platform", "action", "clicked", "hits"),
    Detail.LATENCIES: (*PLACE, "stage", "deliveries", "p50_s", "p90_s", "p99_s", "max_s"),
}
# As fine as the table is.
_DEFAULTS: dict[Detail, dict[str, Any]] = {kind: {"step_s": 10} if kind is Detail.TIMELINE else {} for kind in Detail}
# Stages in the order in which a delivery goes through them.
_ORDERS = {
    Detail.ACTIONS: "n.clicked DESC, n.action, n.platform",
    Detail.PLATFORMS: "n.platform, n.channel, n.provider",
    Detail.TIMELINE: "n.bucket_s, n.platform",
    Detail.FAILURES: (
        "n.deliveries DESC, n.attempts DESC, n.platform, n.channel, n.provider, n.outcome, n.provider_code"
    ),
    Detail.LATENCIES: (
        "n.platform, n.channel, n.provider, list_position(['queued', 'provider', 'device', 'total'], n.stage), n.stage"
    ),
}


def one(reader: ReportReader, tenant: str, notification_id: str, *, as_of: datetime | None = None) -> Row | None:
    """Return a notification's report: its description, ``totals`` and ``platforms``.

    Raises:
        VersionGoneError: See ``ReportReader.version``; so with all functions here.
    """
    with reader.cursor_of(tenant, notification_id, as_of=as_of) as cursor:
        return None if cursor is None else _one(cursor, tenant, notification_id)


def timeline(
    reader: ReportReader,
    tenant: str,
    notification_id: str,
    *,
    as_of: datetime | None = None,
    limit: int | None = None,
    offset: int = 0,
    step_s: int = 10,
) -> list[Row] | None:
    """Return how many deliveries were accepted and received in each step of time after acceptance, per platform.

    Steps in which there were none of either have no row.

    Args:
        reader: The published reports.
        tenant: Whose.
        notification_id: Which.
        as_of: See ``ReportReader.version``.
        limit: See ``details``.
        offset: Likewise.
        step_s: How long a step is; a multiple of ten, which is as fine as it is kept.
    """
    asked = {"step_s": step_s}
    return details(
        reader, Detail.TIMELINE, tenant, notification_id, as_of=as_of, limit=limit, offset=offset, asked=asked
    )


def failures(
    reader: ReportReader, tenant: str, notification_id: str, *, as_of: datetime | None = None
) -> list[Row] | None:
    """Return how deliveries failed: by outcome and the provider's code, the most deliveries first."""
    return details(reader, Detail.FAILURES, tenant, notification_id, as_of=as_of)


def actions(
    reader: ReportReader, tenant: str, notification_id: str, *, as_of: datetime | None = None
) -> list[Row] | None:
    """Return clicks on the notification's actions (buttons), the most clicked first."""
    return details(reader, Detail.ACTIONS, tenant, notification_id, as_of=as_of)


def latencies(
    reader: ReportReader, tenant: str, notification_id: str, *, as_of: datetime | None = None
) -> list[Row] | None:
    """Return percentiles of each stage of deliveries, per platform; nothing from versions older than that table."""
    return details(reader, Detail.LATENCIES, tenant, notification_id, as_of=as_of)


def details(
    reader: ReportReader,
    kind: Detail,
    tenant: str,
    notification_id: str,
    *,
    as_of: datetime | None = None,
    limit: int | None = None,
    offset: int = 0,
    asked: Mapping[str, Any] = MappingProxyType({}),
) -> list[Row] | None:
    """Return rows of one kind about a notification.

    Args:
        reader: The published reports.
        kind: Which rows.
        tenant: Whose.
        notification_id: Which.
        as_of: See ``ReportReader.version``.
        limit: At most this many; None: all.
        offset: Without so many first ones; their order is fixed within a version.
        asked: What else the query of this kind takes.
    """
    with reader.cursor_of(tenant, notification_id, as_of=as_of) as cursor:
        if cursor is None or _one(cursor, tenant, notification_id) is None:
            return None
        wanted = {"tenant": tenant, "notification_id": notification_id, "limit": limit, "offset": offset}
        try:
            query = query_of(kind, selected(kind.columns, "n"))
            return rows_of(cursor.execute(query, {**_DEFAULTS[kind], **wanted, **asked}))
        except duckdb.CatalogException:
            if kind is Detail.LATENCIES:
                return []
            raise


def query_of(kind: Detail, columns: str) -> str:
    """Return the query of one kind of rows. Parameters: tenant, notification_id, limit, offset; timeline: step_s."""
    name = "timeline_of_report.sql" if kind is Detail.TIMELINE else "details_of_report.sql"
    return sql_text(__file__, name).format(table=kind.value, columns=columns, order=_ORDERS[kind])


def _one(cursor: duckdb.DuckDBPyConnection, tenant: str, notification_id: str) -> Row | None:
    query = sql_text(__file__, "one_report.sql").format(columns=selected((*DESCRIPTION, *MEASURES), "n"))
    found = rows_of(cursor.execute(query, {"tenant": tenant, "notification_id": notification_id}))
    reports = with_platforms(cursor, found, ListFilter((tenant,)))
    return reports[0] if reports else None
