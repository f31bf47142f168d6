"""A clock that remembers how far ahead it was."""

from datetime import UTC, datetime, timedelta

from notify_pipeline.delivery.watched_clock import WatchedClock

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Hands:
    """A clock that may be set, and one that may not."""

    def __init__(self) -> None:
        self.passed, self.offset = 0.0, 0.0

    def clock(self) -> datetime:
        return START + timedelta(seconds=self.passed + self.offset)

    def watched(self) -> WatchedClock:
        return WatchedClock(self.clock, lambda: self.passed)


def test_time_that_passes_and_a_clock_that_is_set_forward_are_nothing() -> None:
    hands = Hands()
    watched = hands.watched()
    hands.passed = 100
    assert watched() == START + timedelta(seconds=100)
    hands.offset = 3_600
    assert watched.set_back_by(1) == 0.0


def test_what_was_read_in_between_is_seen_and_what_was_not_is_not() -> None:
    hands = Hands()
    watched = hands.watched()
    hands.offset = 3_600
    hands.offset = 0
    assert watched.set_back_by(1) == 0.0
    hands.offset = 3_600
    watched()
    hands.offset = 0
    assert watched.set_back_by(1) == 3_600
    assert watched.set_back_by(1) == 0.0


def test_little_by_little_adds_up() -> None:
    hands = Hands()
    watched = hands.watched()
    hands.offset = -4
    assert watched.set_back_by(6) == 0.0
    hands.offset = -8
    assert watched.set_back_by(6) == 8


def looks(hands: Hands, watched: WatchedClock, seconds: int) -> list[float]:
    found = []
    for _ in range(seconds):
        hands.passed += 1
        if watched.is_to_look(2):
            found.append(hands.passed)
    return found


def test_one_looks_until_what_was_read_before_is_stored() -> None:
    hands = Hands()
    watched = hands.watched()
    assert looks(hands, watched, 300) == [1, 3, 7, 15, 31, 63]
    hands.offset = -3_600
    assert watched.set_back_by(6) == 3_600
    assert looks(hands, watched, 300) == [301, 303, 307, 315, 331, 363]
