"""Pages of reports: filtered, in many orders, each list on one version to its end.

Belongs here: orders and positions in them, a page with its platforms. Does not belong here: sums (``reading_totals``),
one notification (``reading_details``), HTTP.

A position names the version that its list was begun on, and the pages that follow are read from that one, whatever is
published meanwhile: no row is skipped or comes twice. Should that version be pruned before the last page, a list by
acceptance goes on with what the present one says, since a notification keeps its place there; in other orders, where
figures decide, there is no going on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import duckdb

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.composed import Part
from notify_pipeline.reports.reading import ReportReader, VersionGoneError
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.reading_rows import DESCRIPTION, MEASURES, PLACE, SETTLING, Row, rows_of, selected
from notify_pipeline.reports.reading_spans import even, growing, within_day
from notify_pipeline.reports.versions import Version

__all__ = ["ListEndedError", "Page", "Place", "Sort", "Version", "page", "with_platforms"]

# No figure comes last in either direction. Beyond all counts, and all seconds.
_ABSENT = 1e18


class Sort(StrEnum):
    """What a list is in order of; with a minus the largest, or newest, first. Equal ones are in order of acceptance."""

    OLDEST = "accepted_at"
    NEWEST = "-accepted_at"
    AUDIENCE_UP = "audience"
    AUDIENCE = "-audience"
    ACCEPTED_UP = "accepted"
    ACCEPTED = "-accepted"
    FAILED_UP = "failed"
    FAILED = "-failed"
    RECEIVED_UP = "received"
    RECEIVED = "-received"
    OPENED_UP = "opened"
    OPENED = "-opened"
    CLICKED_UP = "clicked"
    CLICKED = "-clicked"
    SHARE_120S_UP = "share_120s"
    SHARE_120S = "-share_120s"
    P50_UP = "p50_s"
    P50 = "-p50_s"
    P90_UP = "p90_s"
    P90 = "-p90_s"
    P99_UP = "p99_s"
    P99 = "-p99_s"

    @property
    def column(self) -> str:
        """The column of the figure."""
        return self.value.removeprefix("-")

    @property
    def is_descending(self) -> bool:
        """True when the largest come first."""
        return self.value.startswith("-")

    @property
    def is_by_time(self) -> bool:
        """True when notifications keep their places whatever is published."""
        return self.column == "accepted_at"


@dataclass(frozen=True, slots=True)
class Place:
    """A row's position in a list: the version, by its number and when it was published, the order, and the row's keys.

    Attributes:
        version: The version's number.
        published_us: When it was published, in microseconds since the epoch.
        sort: The order.
        key: The figure; microseconds since the epoch where that is the acceptance.
        accepted_us: The row's acceptance.
        tenant: The row's tenant.
        notification_id: The row's notification.
    """

    version: int
    published_us: int
    sort: Sort
    key: float
    accepted_us: int
    tenant: str
    notification_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page: the version it was read from, None before any, its reports, and where the next one goes on, if any."""

    version: Version | None
    rows: list[Row]
    following: Place | None


class ListEndedError(Exception):
    """The version that a list was begun on is no longer kept, and its order is another one by now."""


def page(
    reader: ReportReader,
    where: ListFilter,
    limit: int,
    sort: Sort = Sort.NEWEST,
    after: Place | None = None,
    *,
    as_of: datetime | None = None,
) -> Page:
    """Return a page of reports, each with its figures over all platforms and per platform.

    Args:
        reader: The published reports.
        where: Which notifications.
        limit: At most this many, at least one.
        sort: In which order; that of ``after``, where that is given.
        after: Where the page before ended.
        as_of: Read from the version that was current then. A list that goes on stays on its own.

    Returns:
        Rows with the notification's description, ``totals`` and ``platforms``. With a platform or channel in the
        filter only those platforms' rows; ``totals``, which the order is by, are of all.

    Raises:
        VersionGoneError: See ``ReportReader.version``.
        ListEndedError: It cannot be gone on from ``after``.
    """
    version = _version(reader, after, as_of)
    if version is None:
        return Page(None, [], None)
    sort = sort if after is None else after.sort
    found = _found(reader, version, _narrowed(where, sort, after), limit + 1, sort, after)
    following = _place(version, sort, found[limit - 1][1]) if len(found) > limit else None
    if not sort.is_by_time:  # a few rows of many days: to open these alone is less than all between them once more
        places = reader.places(version)
        found = [(_narrowest(span, row["accepted_at"], places), row) for span, row in found]
    return Page(version, _reports(reader, version, found[:limit]), following)


def with_platforms(cursor: duckdb.DuckDBPyConnection, found: list[Row], where: ListFilter) -> list[Row]:
    """Turn flat rows of notifications into reports with their platforms."""
    reports: dict[tuple[str, str], Row] = {}
    for row in found:
        described = {name: row[name] for name in (*DESCRIPTION, *SETTLING)}
        figures = {name: row[name] for name in MEASURES}
        reports[row["tenant"], row["notification_id"]] = described | {"totals": figures, "platforms": []}
    if reports:
        query = sql_text(__file__, "platforms_of_reports.sql")
        query = query.format(columns=selected((*PLACE, *MEASURES), "p"), of_platforms=where.of_platforms)
        names = {name: value for name, value in where.given.items() if name in ("platform", "channel")}
        moments = [row["accepted_at"] for row in found]
        keys = {"tenants": [tenant for tenant, _ in reports], "ids": [name for _, name in reports]}
        bounds = {"moments": moments, "first_at": min(moments), "last_at": max(moments)}
        for row in rows_of(cursor.execute(query, names | keys | bounds)):
            reports[row.pop("tenant"), row.pop("notification_id")]["platforms"].append(row)
    return list(reports.values())


def _found(
    reader: ReportReader, version: Version, where: ListFilter, limit: int, sort: Sort, after: Place | None
) -> list[tuple[ListFilter, Row]]:
    """Return the first rows, each with the span that it was found in.

    By acceptance that is the first spans' rows; by a figure it may be any's.
    """
    newest_first = sort.is_descending
    spans = (
        growing(reader, version, where, newest_first=newest_first) if sort.is_by_time else even(reader, version, where)
    )
    found: list[tuple[ListFilter, Row]] = []
    for span in spans:
        wanted = limit - len(found) if sort.is_by_time else limit
        with reader.cursor(span.since, span.until, as_of=version.published_at) as cursor:
            if cursor is not None:
                rows = rows_of(cursor.execute(_query(span, sort, after), _parameters(span, sort, after, wanted)))
                found += [(span, row) for row in rows]
        if not sort.is_by_time:
            found = sorted(found, key=lambda each: _keys(each[1]), reverse=newest_first)[:limit]
        elif len(found) >= limit:
            break
    return found


def _narrowest(span: ListFilter, moment: datetime, places: Mapping[str, Part]) -> ListFilter:
    """Return the filter for the day of a moment; where days share a file that is open, for all of the span."""
    return span if f"{moment:%Y-%m-%d}" in places else within_day(span, moment)


def _keys(row: Row) -> tuple[float, datetime, str, str]:
    return row["sort_key"], row["accepted_at"], row["tenant"], row["notification_id"]


def _reports(reader: ReportReader, version: Version, found: list[tuple[ListFilter, Row]]) -> list[Row]:
    """Return the rows as reports, in their order."""
    by_span: dict[ListFilter, list[Row]] = {}
    for span, row in found:
        by_span.setdefault(span, []).append(row)
    reports: dict[tuple[str, str], Row] = {}
    for span, rows in by_span.items():
        with reader.cursor(span.since, span.until, as_of=version.published_at) as cursor:
            if cursor is not None:
                made = with_platforms(cursor, rows, span)
                reports |= {(each["tenant"], each["notification_id"]): each for each in made}
    return [reports[row["tenant"], row["notification_id"]] for _, row in found]


def _version(reader: ReportReader, after: Place | None, as_of: datetime | None) -> Version | None:
    """Return the version to read."""
    if after is None:
        return reader.version(as_of)
    try:
        version = reader.version(from_micros(after.published_us))
    except VersionGoneError:
        version = None
    if version is not None and version.number == after.version:
        return version
    if not after.sort.is_by_time:
        raise ListEndedError
    return reader.version(as_of)


def _narrowed(where: ListFilter, sort: Sort, after: Place | None) -> ListFilter:
    """Return the filter without the time that the pages before have gone through."""
    if after is None or not sort.is_by_time:
        return where
    if not sort.is_descending:
        at = from_micros(after.accepted_us)
        return replace(where, since=at if where.since is None else max(at, where.since))
    # Exclusive, and others of that moment may be left.
    end = from_micros(after.accepted_us + 1)
    return replace(where, until=end if where.until is None else min(end, where.until))


def _query(where: ListFilter, sort: Sort, after: Place | None) -> str:
    key = "epoch_us(n.accepted_at)" if sort.is_by_time else f"n.{sort.column}"
    return sql_text(__file__, "list_reports.sql").format(
        key=key,
        where=where.where,
        after="TRUE" if after is None else _beyond(key, "<" if sort.is_descending else ">"),
        order="DESC" if sort.is_descending else "ASC",
        columns=selected((*DESCRIPTION, *MEASURES), "n"),
    )


def _beyond(key: str, beyond: str) -> str:
    """Return the condition that a row comes after the place, written out: comparing rows as a whole is slower."""
    condition = f"n.notification_id {beyond} $after_id"
    for column, name in (
        ("n.tenant", "after_tenant"),
        ("epoch_us(n.accepted_at)", "after_at"),
        (f"coalesce({key}, $absent)", "after_key"),
    ):
        condition = f"({column} {beyond} ${name} OR ({column} = ${name} AND {condition}))"
    return condition


def _parameters(where: ListFilter, sort: Sort, after: Place | None, limit: int) -> dict[str, Any]:
    given = where.given | {"absent": -_ABSENT if sort.is_descending else _ABSENT, "limit": limit}
    if after is None:
        return given
    return given | {
        "after_key": after.key,
        "after_at": after.accepted_us,
        "after_tenant": after.tenant,
        "after_id": after.notification_id,
    }


def _place(version: Version, sort: Sort, row: Row) -> Place:
    accepted_us, published_us = to_micros(row["accepted_at"]), to_micros(version.published_at)
    return Place(
        version.number, published_us, sort, row["sort_key"], accepted_us, row["tenant"], row["notification_id"]
    )
