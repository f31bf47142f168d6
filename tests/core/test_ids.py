"""Identifiers: stable where they must be, unforgeable where they are trusted."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core import ids

SECRET = b"s" * 32
TEXT = st.text(min_size=1, max_size=50)


def test_new_ids_are_distinct_and_in_time_order() -> None:
    made = [ids.new_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert made == sorted(made)


@given(TEXT, TEXT, TEXT, TEXT)
def test_a_delivery_id_is_stable_and_genuine(tenant: str, notification: str, channel: str, recipient: str) -> None:
    made = ids.DeliveryIds(SECRET, tenant, notification, channel).of(recipient)
    assert made == ids.DeliveryIds(SECRET, tenant, notification, channel).of(recipient)
    assert len(made) == ids.DELIVERY_ID_LENGTH
    assert ids.is_genuine(SECRET, made)
    assert not ids.is_genuine(b"t" * 32, made)


@given(st.lists(TEXT, min_size=4, max_size=4), st.lists(TEXT, min_size=4, max_size=4))
def test_different_deliveries_have_different_ids(one: list[str], other: list[str]) -> None:
    first = ids.DeliveryIds(SECRET, *one[:3]).of(one[3])
    second = ids.DeliveryIds(SECRET, *other[:3]).of(other[3])
    assert (first == second) == (one == other)


@given(st.integers(0, ids.DELIVERY_ID_LENGTH - 1), st.sampled_from("0123456789abcdef"))
def test_a_changed_digit_is_noticed(position: int, digit: str) -> None:
    genuine = ids.DeliveryIds(SECRET, "t", "n", "fcm").of("r")
    changed = genuine[:position] + digit + genuine[position + 1 :]
    assert ids.is_genuine(SECRET, changed) == (changed == genuine)


@given(st.text(max_size=60))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    assert ids.is_genuine(SECRET, text) is False


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])))
def test_micros_are_exact_both_ways(moment: datetime) -> None:
    assert ids.from_micros(ids.to_micros(moment)) == moment


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        ids.to_micros(datetime(2026, 1, 1))  # noqa: DTZ001
