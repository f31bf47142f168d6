"""What readers of reports share: columns, and rows as Python has them.

Belongs here: the columns that answers have, reading a result. Does not belong here: any question (``reading_lists``,
``reading_totals``, ``reading_details``), attaching versions (``reading``).
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import duckdb

Row = dict[str, Any]

# Of a notification, in the order in which downloads have them.
DESCRIPTION: Final = (
    "tenant",
    "notification_id",
    "request_id",
    "type",
    "category",
    "priority",
    "title",
    "topics",
    "domain",
    "is_dry_run",
    "state",
    "accepted_at",
    "send_at",
    "finished_at",
)
# Of its deliveries; sums of several are made of these alone.
COUNTS: Final = (
    "audience",
    "attempted",
    "accepted",
    "accepted_by_beacon",
    "failed",
    "throttled",
    "invalid",
    "ambiguous",
    "skipped",
    "expired",
    "dry_run",
    "received",
    "opened",
    "clicked",
    "hits",
)
MEASURES: Final = (
    *COUNTS,
    "first_accepted_at",
    "last_accepted_at",
    "p50_s",
    "p90_s",
    "p99_s",
    "share_120s",
)
PLACE: Final = ("channel", "platform", "provider")
# Of a list's rows, beside a notification's own: how far the logs were read, and whether that is the last word.
SETTLING: Final = ("received_through", "settled")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Wider than any acceptance; bounds are always given, so that what lies outside them is not read.
FIRST: Final = _EPOCH
LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)


def is_time(column: str) -> bool:
    """Tell whether a column holds moments."""
    return column.endswith(("_at", "_through"))


def selected(columns: Sequence[str], table: str) -> str:
    """Return a select list of a table's columns.

    Moments come as microseconds: DuckDB's own conversion of them to Python takes longer than the query.
    """
    return ", ".join(f"epoch_us({table}.{name}) AS {name}" if is_time(name) else f"{table}.{name}" for name in columns)


def rows_of(cursor: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return a result as dicts; moments, which come as microseconds, become aware datetimes."""
    return list(_rows(cursor))


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[Row]:
    names = [column[0] for column in cursor.description or ()]
    times = [name for name in names if is_time(name)]
    for values in cursor.fetchall():
        row = dict(zip(names, values, strict=True))
        for name in times:
            if row[name] is not None:
                row[name] = _EPOCH + timedelta(microseconds=row[name])
        yield row
