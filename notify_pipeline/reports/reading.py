"""The reading side of the reports: what the ingress asks for.

Belongs here: attaching the current version read-only, moving on when the pointer changes, the queries. Does not belong
here: building or publishing (``build``, ``versions``), HTTP.

Each version is attached under a name of its own to one in-memory database. A query holds the version it began with;
an older version is detached when its last query has ended. Cursors are per query, so threads do not meet.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.versions import Version, current

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


@dataclass
class _Attached:
    version: Version
    name: str
    users: int = 0


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
        self._root = root
        self._lock = threading.Lock()
        self._attached: _Attached | None = None
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": threads,
            # A table that an older version lacks shall be missing, not be a variable of ours that has its name.
            "python_enable_replacements": False,
        }
        self._db = duckdb.connect(":memory:", config=config)
        self._db.execute("SET TimeZone = 'UTC'")

    def close(self) -> None:
        """Release every version."""
        self._db.close()

    def version(self) -> Version | None:
        """Return the version that the next query will read, None before the first is published."""
        return current(self._root)

    def list(self, tenant: str, where: ReportFilter, limit: int, after: Position | None = None) -> list[Row]:
        """Return notifications, newest first, each with its figures over all platforms and per platform.

        Args:
            tenant: Whose.
            where: The filter.
            limit: At most this many.
            after: The position of the last row of the page before.

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
        with self.cursor() as cursor:
            if cursor is None:
                return []
            found = _rows(cursor.execute(sql_text(__file__, "list_notifications.sql"), parameters))
            return _with_platforms(cursor, tenant, found, where.platform)

    def one(self, tenant: str, notification_id: str) -> Row | None:
        """Return one notification's report, None when there is none (yet)."""
        with self.cursor() as cursor:
            if cursor is None:
                return None
            parameters = {"tenant": tenant, "notification_id": notification_id}
            found = _rows(cursor.execute(sql_text(__file__, "one_notification.sql"), parameters))
            reports = _with_platforms(cursor, tenant, found, None)
            return reports[0] if reports else None

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Yield a cursor on the current version, which stays that version meanwhile; None before the first."""
        attached = self._take()
        if attached is None:
            yield None
            return
        cursor = self._db.cursor()
        try:
            cursor.execute(f"USE {attached.name}")
            yield cursor
        finally:
            cursor.close()
            self._give_back(attached)

    def _take(self) -> _Attached | None:
        with self._lock:
            while True:
                version = current(self._root)
                held = self._attached
                if version is None or (held is not None and held.version.number == version.number):
                    break
                name = f"v{version.number}"
                try:
                    path = str(version.path).replace("'", "''")
                    self._db.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
                except duckdb.IOException:
                    # Published and pruned again since we read the pointer; the pointer has moved on.
                    if current(self._root) == version:
                        raise
                    continue
                self._attached = _Attached(version, name)
                if held is not None and held.users == 0:
                    self._db.execute(f"DETACH {held.name}")
                break
            if self._attached is not None:
                self._attached.users += 1
            return self._attached

    def _give_back(self, attached: _Attached) -> None:
        with self._lock:
            attached.users -= 1
            if attached.users == 0 and attached is not self._attached:
                self._db.execute(f"DETACH {attached.name}")


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
