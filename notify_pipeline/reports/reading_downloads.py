"""All reports that a filter fits, however many, as a file; and what stands behind one report as a file.

Belongs here: going through any range in parts of bounded size. Does not belong here: the formats
(``reading_formats``), pages (``reading_lists``), HTTP.

One version is held from the first byte to the last. A range is gone through by days of acceptance, and within a day by
parts of about ``_PART`` notifications, so that neither DuckDB nor Python holds more than one part of any range.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.reading_details import Detail, one, query_of
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.reading_formats import Format
from notify_pipeline.reports.reading_rows import COUNTS, DESCRIPTION, MEASURES, PLACE, SETTLING, Row, is_time
from notify_pipeline.reports.reading_spans import even

__all__ = ["Download", "of_list", "of_report"]

# Some 5 MB of CSV and 20 MB in memory; a query of it takes 50 ms.
_PART: Final = 10_000
_DAY_US: Final = 86_400_000_000
NOTIFICATION_COLUMNS: Final = (*DESCRIPTION, *MEASURES, *SETTLING)
PLATFORM_COLUMNS: Final = (*DESCRIPTION, *PLACE, *MEASURES, *SETTLING)


@dataclass(frozen=True, slots=True)
class Download:
    """A file to be. Until it is closed, its version is held.

    Attributes:
        pieces: Its bytes, once.
        rows: How many notifications it has; of one report, how many rows.
        held: What is let go when it is closed.
    """

    pieces: Generator[bytes]
    rows: int
    held: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Let the version go; harmless when that was done. Not while a piece is being made."""
        self.pieces.close()
        self.held.close()


def of_list(
    reader: ReportReader,
    where: ListFilter,
    format_: Format,
    *,
    by_platform: bool = False,
    newest_first: bool = True,
    as_of: datetime | None = None,
) -> Download:
    """Return the reports that a filter fits.

    Args:
        reader: The published reports.
        where: Which notifications.
        format_: The file's form.
        by_platform: A row for each channel, platform and provider of each, instead of one with its totals.
        newest_first: The order, by acceptance.
        as_of: See ``ReportReader.version``.

    Raises:
        VersionGoneError: See ``ReportReader.version``.
    """
    columns = PLATFORM_COLUMNS if by_platform else NOTIFICATION_COLUMNS
    plan = _Plan(format_.selected(columns), by_platform, newest_first)
    version, days = reader.version(as_of), list[_Day]()
    with ExitStack() as failing:
        if version is not None:
            for span in even(reader, version, where, 1):
                # Each day is held by a cursor of its own: one over all would plan each query over all of them.
                cursor = failing.enter_context(reader.cursor(span.since, span.until, as_of=version.published_at))
                days += [] if cursor is None else [_Day(cursor, span, *found) for found in _days(cursor, span)]
        held = failing.pop_all()
    pieces = format_.written(_parts(plan, days), columns, schema_of(columns))
    return Download(pieces, sum(day.rows for day in days), held)


def of_report(
    reader: ReportReader,
    kind: Detail,
    tenant: str,
    notification_id: str,
    format_: Format,
    *,
    as_of: datetime | None = None,
) -> Download | None:
    """Return what stands behind a report as a file; None when there is no report.

    Raises:
        VersionGoneError: See ``ReportReader.version``.
    """
    if one(reader, tenant, notification_id, as_of=as_of) is None:
        return None
    wanted = {"tenant": tenant, "notification_id": notification_id, "limit": None, "offset": 0}
    if kind is Detail.TIMELINE:
        wanted["step_s"] = 10
    query = f"SELECT {format_.selected(kind.columns)} FROM ({query_of(kind, ', '.join(kind.columns))}) AS r"  # noqa: S608
    with reader.cursor_of(tenant, notification_id, as_of=as_of) as cursor:
        if cursor is None:
            return None
        try:
            table = _table(cursor, query, wanted)
        except duckdb.CatalogException:
            if kind is not Detail.LATENCIES:
                raise
            return Download(format_.written(iter(()), kind.columns, schema_of(kind.columns)), 0)
    return Download(format_.written(iter([table]), kind.columns, schema_of(kind.columns)), table.num_rows)


@dataclass(frozen=True, slots=True)
class _Plan:
    selected: str
    by_platform: bool
    newest_first: bool


@dataclass(frozen=True, slots=True)
class _Day:
    """A day with rows: where they are read, which, its number counted from the epoch, and how many they are."""

    cursor: duckdb.DuckDBPyConnection
    where: ListFilter
    number: int
    rows: int


def _days(cursor: duckdb.DuckDBPyConnection, where: ListFilter) -> list[tuple[int, int]]:
    """Return the days of a span that have rows, counted from the epoch, and how many."""
    query = sql_text(__file__, "download_days.sql").format(where=where.where)
    return cursor.execute(query, where.given).fetchall()


def _parts(plan: _Plan, days: list[_Day]) -> Iterator[pa.Table]:
    for day in reversed(days) if plan.newest_first else days:
        begin, end = day.number * _DAY_US, (day.number + 1) * _DAY_US
        begins = [begin]
        if day.rows > _PART:
            whole = _within(day.where, begin, end)
            query = sql_text(__file__, "download_steps.sql").format(where=whole.where)
            begins = [row[0] for row in day.cursor.execute(query, {**whole.given, "size": _PART}).fetchall()]
        parts = list(zip(begins, [*begins[1:], end], strict=True))
        for since, until in reversed(parts) if plan.newest_first else parts:
            part = _within(day.where, since, until)
            yield _table(day.cursor, _query(plan, part), part.given)


def _table(cursor: duckdb.DuckDBPyConnection, query: str, parameters: Row) -> pa.Table:
    # Not by execute, which copies the rows once more.
    return cursor.sql(query, params=parameters).to_arrow_table()


def _query(plan: _Plan, part: ListFilter) -> str:
    name = "download_platforms.sql" if plan.by_platform else "download_notifications.sql"
    return sql_text(__file__, name).format(
        selected=plan.selected,
        where=part.where,
        of_platforms=part.of_platforms,
        order="DESC" if plan.newest_first else "ASC",
    )


def _within(where: ListFilter, since_us: int, until_us: int) -> ListFilter:
    """Return the filter for what of its range lies in a span."""
    since, until = from_micros(since_us), from_micros(until_us)
    return replace(
        where,
        since=since if where.since is None else max(since, where.since),
        until=until if where.until is None else min(until, where.until),
    )


_KINDS: Final[Row] = {
    "topics": pa.list_(pa.string()),
    "is_dry_run": pa.bool_(),
    "settled": pa.bool_(),
    **dict.fromkeys(("p50_s", "p90_s", "p99_s", "max_s", "share_120s"), pa.float64()),
    **dict.fromkeys((*COUNTS, "bucket_s", "attempts", "deliveries"), pa.int64()),
}


def schema_of(columns: tuple[str, ...]) -> pa.Schema:
    """Return the schema of a Parquet file with these columns."""
    moment = pa.timestamp("us", "UTC")
    return pa.schema([(name, moment if is_time(name) else _KINDS.get(name, pa.string())) for name in columns])
