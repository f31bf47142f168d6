"""A domain's figures by day, week, month and year, and what it consumed in a period.

Belongs here: adding up, and where periods begin. Does not belong here: single messages (``reading_domains``, which also
says what each figure means and where it comes from), HTTP.

Days are UTC's; weeks begin on Monday (ISO 8601). A message belongs to the period that it was accepted in, with
everything that became of it, whenever that was.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

import duckdb

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger import domain_messages
from notify_pipeline.core.ledger.domain_messages import SentCounts
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.reading_domains import actions, received_through

_EPOCH = date(1970, 1, 1)
_DAY = timedelta(days=1)


class GroupBy(StrEnum):
    """How long a period is."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


@dataclass(slots=True)
class Sums:
    """The figures of messages, added up; each as in ``reading_domains``."""

    messages: int = 0
    counts: SentCounts = field(default_factory=SentCounts)
    accepted_by_beacon: int = 0
    received: int = 0
    clicked: int = 0
    action_clicks: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Sums") -> None:
        """Add another's."""
        self.messages += other.messages
        self.counts.delivered += other.counts.delivered
        self.counts.not_delivered += other.counts.not_delivered
        self.counts.pending += other.counts.pending
        self.accepted_by_beacon += other.accepted_by_beacon
        self.received += other.received
        self.clicked += other.clicked
        self.action_clicks.update(other.action_clicks)


@dataclass(frozen=True, slots=True)
class Period:
    """A period: its name, and what of it lies in the range that was asked for."""

    name: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class DomainStats:
    """The figures of a range: in all, and by day (days since the epoch); and how far the logs have been read."""

    days: dict[int, Sums]
    received_through: datetime | None

    @property
    def totals(self) -> Sums:
        """The sums of all days."""
        found = Sums()
        for sums in self.days.values():
            found.add(sums)
        return found

    def by(self, periods: list[Period]) -> list[Sums]:
        """Return the sums of each of these periods, which follow one another and cover the range; of none, nothing."""
        if not periods:
            return []
        firsts = [(period.since.date() - _EPOCH).days for period in periods]
        found = [Sums() for _ in periods]
        for day, sums in self.days.items():
            found[bisect_right(firsts, day) - 1].add(sums)
        return found


@dataclass(frozen=True, slots=True)
class Consumed:
    """Deliveries that providers accepted, and when the report that counts them was made; None before any."""

    deliveries: int
    as_of: datetime | None


def periods(since: datetime, until: datetime, by: GroupBy) -> Iterator[Period]:
    """Yield the periods of a range in their order, those without messages too.

    Args:
        since: Where the range begins; aware UTC.
        until: Where it ends, exclusive; likewise.
        by: How long they are. The first and the last may lie in the range in part only.
    """
    begin = since
    while begin < until:
        name, following = _period(begin.date(), by)
        end = until if following is None else min(until, datetime.combine(following, datetime.min.time(), UTC))
        yield Period(name, begin, end)
        begin = end


def stats(
    ledger: Ledger, reader: ReportReader, tenant: str, domain: str, since: datetime, until: datetime
) -> DomainStats:
    """Return the figures of a domain's messages that were accepted from ``since`` on and before ``until``."""
    with ledger.read() as conn:
        sent = domain_messages.by_day(conn, tenant, domain, since, until)
    days = {each.day: Sums(each.messages, each.counts) for each in sent}
    wanted = {"tenant": tenant, "domain": domain, "since": since, "until": until}
    with reader.cursor(since, until) as cursor:
        rows = None if cursor is None else _rows(cursor, "domain_reported.sql", wanted)
        if cursor is None or rows is None:
            return DomainStats(days, None)
        for number, by_beacon, received, clicked in rows:
            sums = days.setdefault(number, Sums())
            sums.accepted_by_beacon, sums.received, sums.clicked = by_beacon, received, clicked
        for number, action, clicks in actions(cursor, "domain_actions.sql", wanted):
            days.setdefault(number, Sums()).action_clicks[action] = clicks
        return DomainStats(days, received_through(cursor))


def consumed(reader: ReportReader, tenant: str, domain: str, since: datetime, until: datetime) -> Consumed:
    """Return how many deliveries of a domain's messages providers accepted in a range of whole seconds."""
    wanted = {"tenant": tenant, "domain": domain, "since": since, "until": until}
    with reader.cursor(since, until, by_activity=True) as cursor:
        rows = None if cursor is None else _rows(cursor, "domain_consumed.sql", wanted)
    if not rows:
        return Consumed(0, None)
    return Consumed(rows[0][0], from_micros(rows[0][1]))


def _rows(cursor: duckdb.DuckDBPyConnection, query: str, wanted: dict[str, object]) -> list[tuple[int, ...]] | None:
    """Return a query's rows; None from a version that was published before there were domains."""
    try:
        return cursor.execute(sql_text(__file__, query), wanted).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):
        return None


def _period(day: date, by: GroupBy) -> tuple[str, date | None]:
    """Return the name of the period that a day lies in, and the next one's first day; None beyond the last year."""
    year, week, weekday = day.isocalendar()
    names = {
        GroupBy.DAY: day.isoformat(),
        GroupBy.WEEK: f"{year:04d}-W{week:02d}",
        GroupBy.MONTH: f"{day.year:04d}-{day.month:02d}",
        GroupBy.YEAR: f"{day.year:04d}",
    }
    try:
        return names[by], _following(day, weekday, by)
    except (OverflowError, ValueError):
        return names[by], None


def _following(day: date, weekday: int, by: GroupBy) -> date:
    if by is GroupBy.DAY:
        return day + _DAY
    if by is GroupBy.WEEK:
        return day + timedelta(days=8 - weekday)
    if by is GroupBy.MONTH:
        return date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return date(day.year + 1, 1, 1)
