"""A range of acceptance cut into spans, so that a question opens no more files than it needs.

Belongs here: that cut, by what a version's manifest says of its days. Does not belong here: questions
(``reading_lists``, ``reading_totals``, ``reading_downloads``), attaching days (``reading_versions``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from notify_pipeline.reports.composed import Part
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.versions import Segment, Version

_DAY: Final = timedelta(days=1)
# The first span of a list is of so many notifications, and each next one four times that: a page that the first days
# fill opens no others, and one that they do not, for a rare filter, ends after few spans.
_FIRST: Final = 5_000
_GROWTH: Final = 4
# Of any span. Views over more files take longer to plan than to read; to join so many notifications with their
# platforms takes DuckDB some 100 MB.
_MOST_FILES: Final = 64
_MOST: Final = 250_000


def growing(reader: ReportReader, version: Version, where: ListFilter, *, newest_first: bool) -> Iterator[ListFilter]:
    """Yield the filter for spans that follow one another, the first ones short."""
    days = _days(version, where, newest_first=newest_first)
    return _cut(days, where, reader.places(version), _FIRST, _MOST_FILES)


def even(reader: ReportReader, version: Version, where: ListFilter, files: int = _MOST_FILES) -> Iterator[ListFilter]:
    """Yield the filter for spans that at most so many files have notifications of, oldest first."""
    return _cut(_days(version, where, newest_first=False), where, reader.places(version), _MOST, files)


def within_day(where: ListFilter, moment: datetime) -> ListFilter:
    """Return the filter for the day of a moment that it holds."""
    begin = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return replace(where, since=begin, until=begin + _DAY)


def _cut(
    found: Sequence[Segment], where: ListFilter, places: Mapping[str, Part], wanted: int, most_files: int
) -> Iterator[ListFilter]:
    group: list[Segment] = []
    files: set[str] = set()
    count = 0
    for segment in found:
        place = places.get(segment.name)
        file = segment.file if place is None else place.file
        if group and (len(files | {file}) > most_files or count + segment.notifications > _MOST):
            yield _over(group, where)
            group, files, count = [], set(), 0
        group.append(segment)
        files.add(file)
        count += segment.notifications
        if count >= wanted:
            yield _over(group, where)
            group, files, count, wanted = [], set(), 0, wanted * _GROWTH
    if group:
        yield _over(group, where)


def _days(version: Version, where: ListFilter, *, newest_first: bool) -> list[Segment]:
    """Return the segments of the range that have notifications."""
    found: list[Segment] = [
        each
        for each in version.segments
        if not each.name
        or (
            each.notifications
            and (where.since is None or _begin(each) + _DAY > where.since)
            and (where.until is None or _begin(each) < where.until)
        )
    ]
    return found[::-1] if newest_first else found


def _over(group: Sequence[Segment], where: ListFilter) -> ListFilter:
    """Return the filter for what of its range lies in these days, which follow one another in either direction."""
    if not all(each.name for each in group):  # a whole version in one file
        return where
    first, last = sorted((_begin(group[0]), _begin(group[-1])))
    until = last + _DAY
    return replace(
        where,
        since=first if where.since is None else max(first, where.since),
        until=until if where.until is None else min(until, where.until),
    )


def _begin(segment: Segment) -> datetime:
    return datetime.strptime(segment.name, "%Y-%m-%d").replace(tzinfo=UTC)
