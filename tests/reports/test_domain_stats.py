"""A domain's figures by period: where periods begin, and that nothing is lost or counted twice."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.ledger.domain_messages import SentCounts
from notify_pipeline.reports.reading_domain_stats import DomainStats, GroupBy, Sums, periods

MOST = 60
moments = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
groupings = st.sampled_from(GroupBy)


@pytest.mark.parametrize(
    ("by", "names", "borders"),
    [
        (GroupBy.DAY, ["2026-12-31", "2027-01-01", "2027-01-02"], ["2027-01-01", "2027-01-02"]),
        (GroupBy.WEEK, ["2026-W53"], []),
        (GroupBy.MONTH, ["2026-12", "2027-01"], ["2027-01-01"]),
        (GroupBy.YEAR, ["2026", "2027"], ["2027-01-01"]),
    ],
)
def test_periods_have_names_and_begin_at_midnight(by: GroupBy, names: list[str], borders: list[str]) -> None:
    since, until = datetime(2026, 12, 31, 13, tzinfo=UTC), datetime(2027, 1, 2, 6, tzinfo=UTC)
    found = list(periods(since, until, by))
    assert [period.name for period in found] == names
    assert [f"{period.since:%Y-%m-%d}" for period in found[1:]] == borders
    assert (found[0].since, found[-1].until) == (since, until)


def test_the_last_period_of_all_ends_with_its_range() -> None:
    since, until = datetime(9999, 12, 31, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)
    for by in GroupBy:
        (period,) = periods(since, until, by)
        assert (period.since, period.until) == (since, until)
    assert list(periods(until, until, GroupBy.DAY)) == []


@given(moments, st.timedeltas(timedelta(0), timedelta(days=4_000)), groupings)
def test_periods_tile_the_range(since: datetime, length: timedelta, by: GroupBy) -> None:
    until = since + length
    found = list(islice(periods(since, until, by), MOST))
    assert all(period.since < period.until for period in found)
    assert all(before.until == after.since for before, after in pairwise(found))
    assert len({period.name for period in found}) == len(found)
    assert not found or found[0].since == since
    if len(found) < MOST:
        assert not found or found[-1].until == until
    for period in found[1:]:
        begin = period.since
        assert (begin.hour, begin.minute, begin.second, begin.microsecond) == (0, 0, 0, 0)
        assert by is not GroupBy.WEEK or begin.weekday() == 0
        assert by is not GroupBy.MONTH or begin.day == 1
        assert by is not GroupBy.YEAR or (begin.month, begin.day) == (1, 1)


@given(st.data(), moments, groupings)
def test_sums_of_periods_are_the_totals(data: st.DataObject, since: datetime, by: GroupBy) -> None:
    until = since + timedelta(days=data.draw(st.integers(1, 90)))
    first, last = ((moment.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days for moment in (since, until))
    numbers = st.integers(0, 1_000)
    days = {}
    for day in data.draw(st.sets(st.integers(first, last - 1), max_size=8)):
        sent = SentCounts(*(data.draw(numbers) for _ in range(3)))
        days[day] = Sums(data.draw(numbers), sent, data.draw(numbers), data.draw(numbers), data.draw(numbers))
        days[day].action_clicks.update(data.draw(st.dictionaries(st.sampled_from("abc"), st.integers(1, 9))))
    stats = DomainStats(days, None)
    found = list(periods(since, until, by))
    whole = Sums()
    for period, sums in zip(found, stats.by(found), strict=True):
        whole.add(sums)
        mine = [
            each
            for day, each in days.items()
            if period.since.date() <= (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date()
            and datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day) < period.until
        ]
        assert sums.messages == sum(each.messages for each in mine)
        assert sums.counts.sent == sum(each.counts.delivered + each.counts.not_delivered for each in mine)
    assert whole == stats.totals
