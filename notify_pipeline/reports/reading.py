"""The reading side of the reports: what the ingress asks for.

Belongs here: the reader, its list and one report. Does not belong here: attaching versions (``reading_versions``),
building or publishing (``build``, ``versions``), other queries (``reading_*``), HTTP.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.reading_versions import VersionGoneError, Versions
from notify_pipeline.reports.versions import Version

__all__ = ["MEASURES", "Position", "ReportFilter", "ReportReader", "Row", "VersionGoneError"]

Row = dict[str, Any]
# Positions of the descending list: acceptance in microseconds, notification id.
Position = tuple[int, str]

_DESCRIPTION = (
    "notification_id",
    "request_id",
    "type",
    "category",
    "priority",
    "title",
    "topics",
    "is_dry_run",
    "state",
    "accepted_at",
    "finished_at",
    "received_through",
    "settled",
)
MEASURES = (
    "audience",
    "attempted",
    "accepted",
    "failed",
    "invalid",
    "ambiguous",
    "skipped",
    "expired",
    "dry_run",
    "received",
    "opened",
    "clicked",
    "hits",
    "first_accepted_at",
    "last_accepted_at",
    "p50_s",
    "p90_s",
    "p99_s",
    "share_120s",
)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Wider than any acceptance.
_FIRST = _EPOCH
_LAST = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """Which notifications to list; None means any. ``since`` is inclusive, ``until`` exclusive, both of acceptance."""

    since: datetime | None = None
    until: datetime | None = None
    type: str | None = None
    platform: str | None = None
    include_dry_run: bool = False


class ReportReader:
    """Answers report queries from the version that the pointer names. Thread-safe; make one per process."""

    def __init__(self, root: Path, memory_limit: str = "256MB", threads: int = 2) -> None:
        """Open nothing yet: the first query attaches.

        Args:
            root: The reports root.
            memory_limit: DuckDB's for this process.
            threads: DuckDB's for this process.
        """
        self._versions = Versions(root, memory_limit, threads)

    def close(self) -> None:
        """Release every version."""
        self._versions.close()

    def version(self, as_of: datetime | None = None) -> Version | None:
        """Return the version that the next query will read, None before the first is published.

        Args:
            as_of: The version that was current then. None: the current one.

        Raises:
            VersionGoneError: None that was current then is kept.
        """
        return self._versions.find(as_of)

    def list(
        self,
        tenant: str,
        where: ReportFilter,
        limit: int,
        after: Position | None = None,
        *,
        as_of: datetime | None = None,
    ) -> list[Row]:
        """Return notifications, newest first, each with its figures over all platforms and per platform.

        Args:
            tenant: Whose.
            where: The filter.
            limit: At most this many.
            after: The position of the last row of the page before.
            as_of: See ``version``.

        Returns:
            One dict per notification: its description, ``totals`` and ``platforms``. With a platform filter, only
            notifications with recipients on that platform, and only that platform's row.
        """
        parameters = {
            "tenant": tenant,
            "since": where.since or _FIRST,
            "until": where.until or _LAST,
            "type": where.type,
            "platform": where.platform,
            "include_dry_run": where.include_dry_run,
            "after_at": from_micros(after[0]) if after else _LAST,
            "after_id": after[1] if after else "",
            "limit": limit,
        }
        # The bound is exclusive, and the page may begin with others of that moment.
        until = from_micros(after[0] + 1) if after else where.until
        with self.cursor(where.since, until, as_of=as_of) as cursor:
            if cursor is None:
                return []
            found = _rows(cursor.execute(sql_text(__file__, "list_notifications.sql"), parameters))
            return _with_platforms(cursor, tenant, found, where.platform)

    def one(self, tenant: str, notification_id: str, *, as_of: datetime | None = None) -> Row | None:
        """Return one notification's report, None when there is none (yet)."""
        with self.cursor_of(tenant, notification_id, as_of=as_of) as cursor:
            if cursor is None:
                return None
            parameters = {"tenant": tenant, "notification_id": notification_id}
            found = _rows(cursor.execute(sql_text(__file__, "one_notification.sql"), parameters))
            reports = _with_platforms(cursor, tenant, found, None)
            return reports[0] if reports else None

    @contextmanager
    def cursor(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        as_of: datetime | None = None,
        by_activity: bool = False,
        described: bool = False,
    ) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Yield a cursor on a version, which stays that version until the block ends; None before the first.

        ``facts.<table>``, ``main.<view>`` and ``main.build`` hold at least what was accepted in the range, perhaps
        more: a query states its range again.

        Args:
            since: The range's beginning, of acceptance by the API; None: from the first on.
            until: Its end, exclusive; None: to the last.
            as_of: See ``version``.
            by_activity: The range is one of attempts and providers' words: at least those are there, and beacons of
                such deliveries, whenever the API accepted their notifications.
            described: Give views and columns the comments that tell people what is in them.

        Raises:
            VersionGoneError: See ``version``.
        """
        with self._versions.cursor(since, until, as_of, by_activity=by_activity, described=described) as cursor:
            yield cursor

    @contextmanager
    def cursor_of(
        self, tenant: str, notification_id: str, *, as_of: datetime | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Yield a cursor as ``cursor`` does, on at least what belongs to one notification.

        Args:
            tenant: Whose.
            notification_id: Which.
            as_of: See ``version``.

        Raises:
            VersionGoneError: See ``version``.
        """
        with self._versions.cursor_of(tenant, notification_id, as_of) as cursor:
            yield cursor


def _with_platforms(
    cursor: duckdb.DuckDBPyConnection, tenant: str, found: "list[Row]", platform: str | None
) -> "list[Row]":
    """Turn flat rows into reports with their platforms."""
    reports = {
        row["notification_id"]: {name: row[name] for name in _DESCRIPTION}
        | {"totals": {name: row[name] for name in MEASURES}, "platforms": []}
        for row in found
    }
    if reports:
        moments = [row["accepted_at"] for row in found]
        wanted = {
            "tenant": tenant,
            "ids": list(reports),
            "first_at": min(moments),
            "last_at": max(moments),
            "platform": platform,
        }
        for row in _rows(cursor.execute(sql_text(__file__, "platforms_of.sql"), wanted)):
            measures = {name: row[name] for name in ("platform", "provider", *MEASURES)}
            reports[row["notification_id"]]["platforms"].append(measures)
    return list(reports.values())


def _rows(cursor: duckdb.DuckDBPyConnection) -> "list[Row]":
    """Return rows as dicts; times come as microseconds and become aware datetimes."""
    names = [column[0] for column in cursor.description or ()]
    times = [name for name in names if name.endswith(("_at", "_through"))]
    rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    for row in rows:
        for name in times:
            if row[name] is not None:
                row[name] = _EPOCH + timedelta(microseconds=row[name])
    return rows
