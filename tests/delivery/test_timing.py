"""When one recipient is due: local time over every zone and clock change, and quiet hours against a plain model."""

# ruff: noqa: DTZ001 - wall clocks are naive

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core import wall_clock
from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.records import Audience, Content, Notification
from notify_pipeline.core.vocabulary import QuietHours
from notify_pipeline.delivery.timing import AT_ONCE, Person, Slot, Timing, Window

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NIGHT = Window(time(22), time(7))
ZONES = st.sampled_from(sorted(available_timezones()))
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
CLOCKS = st.times()
WINDOWS = st.builds(Window, CLOCKS, CLOCKS)


def send(at: datetime = NOON, ttl_s: float = 86_400, **more: object) -> Notification:
    return Notification(
        "t1", "r1", "n1", "news", Audience(users=("u",)), Content("Hello"), at, at + timedelta(seconds=ttl_s),
        ttl_s=ttl_s, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def berlin(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)  # type: ignore[arg-type, misc]


@given(MOMENTS, ZONES)
def test_a_wall_clock_is_a_moment_at_which_it_shows_that_time_unless_it_leaps_over_it(
    wall: datetime, name: str
) -> None:
    wall, zone = wall.replace(tzinfo=None), ZoneInfo(name)
    moment = wall_clock.moment_of(wall, zone)
    shown = moment.astimezone(zone).replace(tzinfo=None, fold=0)
    assert shown >= wall
    if shown == wall:
        # Of two moments that show it, this is the first.
        later = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
        assert moment <= later
    else:
        before, after = zone.utcoffset(moment - timedelta(days=1)), zone.utcoffset(moment)  # type: ignore[arg-type]
        assert shown - wall <= timedelta(days=1) and (before != after or shown - wall < timedelta(days=1))


def test_leaps_and_second_hours() -> None:
    zone = ZoneInfo("Europe/Berlin")
    assert wall_clock.moment_of(datetime(2026, 3, 29, 2, 30), zone) == berlin(2026, 3, 29, 3, 30)
    assert wall_clock.moment_of(datetime(2026, 10, 25, 2, 30), zone) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@given(WINDOWS, MOMENTS, ZONES)
def test_quiet_hours_end_ahead_outside_of_them_and_within_a_day(window: Window, at: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    end = window.ends(at, zone)
    inside = window.holds(at.astimezone(zone).time())
    assert (end is not None) == inside
    if end is not None:
        assert at < end <= at + timedelta(days=2)  # a day, an hour for a clock change, and the day that Samoa left out
        assert not window.holds(end.astimezone(zone).time())


@given(WINDOWS, CLOCKS)
def test_a_window_holds_what_lies_between_its_ends_going_round_the_clock(window: Window, local: time) -> None:
    def since_start(moment: time) -> timedelta:
        day = date(2026, 1, 1)
        gone = datetime.combine(day, moment) - datetime.combine(day, window.start)
        return gone % timedelta(days=1)

    assert window.holds(local) == (since_start(local) < since_start(window.end))


@pytest.mark.parametrize(
    ("at", "until"),
    [
        pytest.param((2026, 11, 21, 21, 59), None, id="before"),
        pytest.param((2026, 11, 21, 22, 0), (2026, 11, 22, 7, 0), id="begins"),
        pytest.param((2026, 11, 22, 6, 59), (2026, 11, 22, 7, 0), id="after midnight"),
        pytest.param((2026, 11, 22, 7, 0), None, id="over"),
        pytest.param((2026, 3, 28, 23, 0), (2026, 3, 29, 7, 0), id="a night of 23 hours"),
        pytest.param((2026, 10, 24, 23, 0), (2026, 10, 25, 7, 0), id="a night of 25 hours"),
    ],
)
def test_a_night(at: tuple[int, ...], until: tuple[int, ...] | None) -> None:
    assert NIGHT.ends(berlin(*at), ZoneInfo("Europe/Berlin")) == (None if until is None else berlin(*until))


def test_the_end_of_quiet_hours_in_the_second_of_two_equal_hours() -> None:
    window, zone = Window(time(22), time(2, 30)), ZoneInfo("Europe/Berlin")
    first, second = (datetime(2026, 10, 25, hour, 10, tzinfo=UTC) for hour in (0, 1))
    assert window.ends(first, zone) == first + timedelta(minutes=20)
    assert window.ends(second, zone) == second + timedelta(minutes=20)


def test_whose_time_zone_counts() -> None:
    timing = Timing(send(), Window(time(1), time(2), "Asia/Tokyo"))
    assert str(timing.zone(Person("Europe/Paris", "Asia/Kolkata"))) == "Europe/Paris"
    assert str(timing.zone(Person(None, "Asia/Kolkata"))) == "Asia/Kolkata"
    assert str(timing.zone(Person("Mars/Olympus", "../x"))) == "Asia/Tokyo"
    assert Timing(send()).zone(Person()) is UTC


def test_a_send_without_wishes_is_due_at_once() -> None:
    assert Timing(send()).slot(Person("Europe/Paris"), NOON) is AT_ONCE


def test_local_time_is_each_zone_s_own_and_the_ttl_counts_from_it() -> None:
    timing = Timing(send(send_at_local=datetime(2026, 11, 22, 9), ttl_s=3600))
    slots = {name: timing.slot(Person(name), NOON) for name in ("Asia/Tokyo", "Europe/Berlin", "America/New_York")}
    assert {name: from_micros(slot.due_at or 0) for name, slot in slots.items()} == {
        "Asia/Tokyo": datetime(2026, 11, 22, 0, tzinfo=UTC),
        "Europe/Berlin": datetime(2026, 11, 22, 8, tzinfo=UTC),
        "America/New_York": datetime(2026, 11, 22, 14, tzinfo=UTC),
    }
    assert all(slot.expires_at == (slot.due_at or 0) + 3_600_000_000 for slot in slots.values())


def test_a_local_moment_that_has_passed_is_at_once_and_expires_as_it_would_have() -> None:
    timing = Timing(send(send_at_local=datetime(2026, 11, 21, 9), ttl_s=5 * 3600))
    assert timing.slot(Person("Europe/London"), NOON) == Slot(None, to_micros(NOON + timedelta(hours=2)))
    # Over in Tokyo: due at once, so that it is recorded as expired.
    assert timing.slot(Person("Asia/Tokyo"), NOON) == Slot(None, to_micros(NOON - timedelta(hours=7)))


@pytest.mark.parametrize(
    ("wish", "ttl_s", "expected"),
    [
        (QuietHours.WAIT, 86_400, Slot(to_micros(NOON + timedelta(hours=10)))),  # 07:00 in Tokyo
        (QuietHours.WAIT, 36_000, Slot(skip="quiet_hours")),
        (QuietHours.SKIP, 86_400, Slot(skip="quiet_hours")),
        (QuietHours.IGNORE, 86_400, AT_ONCE),
    ],
)
def test_what_a_send_does_in_quiet_hours(wish: QuietHours, ttl_s: float, expected: Slot) -> None:
    night = Window(time(20), time(7))
    assert Timing(send(ttl_s=ttl_s, quiet_hours=wish), night).slot(Person("Asia/Tokyo"), NOON) == expected
    assert Timing(send(ttl_s=ttl_s, quiet_hours=wish), night).slot(Person("Europe/Paris"), NOON) == AT_ONCE


def test_a_user_s_own_quiet_hours_come_first_in_the_zone_that_they_name() -> None:
    siesta = Window(time(12), time(14))
    assert Timing(send(), NIGHT).slot(Person("UTC", None, siesta), NOON) == Slot(to_micros(NOON + timedelta(hours=2)))
    assert Timing(send(), siesta).slot(Person("UTC", None, NIGHT), NOON) == AT_ONCE
    elsewhere = Window(time(20), time(22), "Asia/Tokyo")
    assert Timing(send()).slot(Person("UTC", None, elsewhere), NOON) == Slot(to_micros(NOON + timedelta(hours=1)))


@given(
    st.none() | MOMENTS.map(lambda moment: moment.replace(tzinfo=None)),
    st.none() | WINDOWS,
    st.builds(Person, st.none() | ZONES, st.none() | ZONES, st.none() | WINDOWS),
    st.sampled_from(QuietHours),
    st.integers(0, 2_419_200),
    MOMENTS,
    st.timedeltas(timedelta(0), timedelta(days=3)),
)
def test_nobody_is_due_early_in_quiet_hours_or_after_the_expiry(
    local: datetime | None,
    quiet: Window | None,
    person: Person,
    wish: QuietHours,
    ttl_s: int,
    accepted: datetime,
    waited: timedelta,
) -> None:
    now = accepted + waited
    notification = send(accepted, ttl_s, send_at_local=local, quiet_hours=wish)
    timing = Timing(notification, quiet)
    slot = timing.slot(person, now)
    due = now if slot.due_at is None else from_micros(slot.due_at)
    expires = notification.expires_at if slot.expires_at is None else from_micros(slot.expires_at)
    assert due >= now
    if slot.skip is not None:
        assert wish is not QuietHours.IGNORE and (quiet or person.own)
        return
    if local is not None:
        planned = wall_clock.moment_of(local, timing.zone(person))
        assert due >= planned and expires == planned + timedelta(seconds=ttl_s)
    if due < expires:
        assert timing.quiet_until(person, due) is None
    else:
        assert slot.due_at is None or local is not None  # to be recorded as expired, not to be waited for
