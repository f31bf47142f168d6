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
from notify_pipeline.reports.reading_spans import even

_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def totals(reader: ReportReader, where: ListFilter, *, as_of: datetime | None = None) -> Row:
    """Return ``notifications`` (how many), the sum of each count, and ``share_120s`` (None where none was accepted).

    Raises:
        VersionGoneError: See ``ReportReader.version``.
    """
    return _added(_sums(reader, where, "NULL::BIGINT", as_of))


def daily(reader: ReportReader, where: ListFilter, *, as_of: datetime | None = None) -> list[Row]:
    """Return the same for each day (``day``, a date), in their order; days without notifications have no row.

    Raises:
        VersionGoneError: See ``ReportReader.version``.
    """
    found = _sums(reader, where, f"epoch_us(n.accepted_at) // {_DAY_US}", as_of)
    return [{"day": (_EPOCH + timedelta(days=row["period"])).date(), **_added([row])} for row in found]


def _sums(reader: ReportReader, where: ListFilter, period: str, as_of: datetime | None) -> list[Row]:
    # The filter's own bounds are parameters, and its other conditions the same in every span.
    name = "report_totals_of_platforms.sql" if where.is_of_platforms else "report_totals.sql"
    query = sql_text(__file__, name).format(
        where=where.where,
        of_platforms=where.of_platforms,
        period=period,
        sums=", ".join(f"sum(n.{count})::BIGINT AS {count}" for count in COUNTS),
    )
    version, found = reader.version(as_of), list[Row]()
    if version is None:
        return found
    for span in even(reader, version, where):
        with reader.cursor(span.since, span.until, as_of=version.published_at) as cursor:
            found += [] if cursor is None else rows_of(cursor.execute(query, span.given))
    return found


def _added(rows: list[Row]) -> Row:
    """Return the sum of sums."""
    found = {name: sum(row[name] or 0 for row in rows) for name in ("notifications", *COUNTS, "within_120s")}
    within = found.pop("within_120s")
    return {**found, "share_120s": within / found["accepted"] if found["accepted"] else None}
