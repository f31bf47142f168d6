"""Sums over all notifications that a filter fits, in all and by day.

Belongs here: adding up. Does not belong here: pages (``reading_lists``), tables that are sums themselves, HTTP.

A notification counts on the UTC day on which the API accepted it, with all that became of it, whenever that was. With a
platform or channel in the filter only those platforms' figures are added. Percentiles have no sums, and are missing.
"""

from datetime import UTC, datetime, timedelta

from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.reading_rows import COUNTS, Row, rows_of

_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def totals(reader: ReportReader, where: ListFilter, *, as_of: datetime | None = None) -> Row:
    """Return ``notifications`` (how many), the sum of each count, and ``share_120s`` (None where none was accepted).

    Raises:
        VersionGoneError: See ``ReportReader.version``.
    """
    found = _sums(reader, where, "NULL::BIGINT", as_of)
    nothing: Row = {"notifications": 0, **dict.fromkeys(COUNTS, 0), "share_120s": None}
    # Sums of no rows are null.
    return {name: found[0][name] for name in nothing} if found and found[0]["notifications"] else nothing


def daily(reader: ReportReader, where: ListFilter, *, as_of: datetime | None = None) -> list[Row]:
    """Return the same for each day (``day``, a date), in their order; days without notifications have no row.

    Raises:
        VersionGoneError: See ``ReportReader.version``.
    """
    found = _sums(reader, where, f"epoch_us(n.accepted_at) // {_DAY_US}", as_of)
    return [{"day": (_EPOCH + timedelta(days=row.pop("period"))).date(), **row} for row in found]


def _sums(reader: ReportReader, where: ListFilter, period: str, as_of: datetime | None) -> list[Row]:
    name = "report_totals_of_platforms.sql" if where.is_of_platforms else "report_totals.sql"
    query = sql_text(__file__, name).format(
        where=where.where,
        of_platforms=where.of_platforms,
        period=period,
        sums=", ".join(f"sum(n.{count})::BIGINT AS {count}" for count in COUNTS),
    )
    with reader.cursor(where.since, where.until, as_of=as_of) as cursor:
        return [] if cursor is None else rows_of(cursor.execute(query, where.given))
