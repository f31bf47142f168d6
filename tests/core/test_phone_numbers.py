"""Phone numbers: one spelling for each, none for what no country has, and none in logs."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.phone_numbers import NotANumber, is_e164, masked, normalized


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("+447700900123", "+447700900123"),
        ("+44 (0)7700 900-123", "+447700900123"),
        ("+1 (415) 555-2671", "+14155552671"),
        ("+39 06 123 4567", "+39061234567"),  # Italy's zero belongs to the number
        ("+800 1234 5678", "+80012345678"),  # of no country
    ],
)
def test_a_number_has_one_spelling(written: str, stored: str) -> None:
    assert normalized(written) == stored
    assert normalized(stored) == stored


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("07700 900123", "country code"),
        ("4915112345678", "country code"),
        ("+1-800-FLOWERS", "country code"),
        ("tel:+447700900123", "country code"),
        ("+447700900123\n", "country code"),
        ("+٤٤٧٧٠٠٩٠٠١٢٣", "country code"),
        ("", "country code"),
        ("+999123456789", "begin with a country's code"),
        ("+1555555", "too short for a number of +1"),
        ("+44 7700 9001", "too short for a number of +44"),  # good within a town only
        ("+4477009001234567", "too long for a number of +44"),
    ],
)
def test_what_no_country_has_is_refused(written: str, fault: str) -> None:
    with pytest.raises(NotANumber, match=fault.replace("+", r"\+")) as caught:
        normalized(written)
    assert not written or written not in str(caught.value)


def test_every_countrys_own_example_is_taken() -> None:
    numbers = [
        phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        for region in sorted(phonenumbers.SUPPORTED_REGIONS)
        if (example := phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)) is not None
    ]
    assert len(numbers) > 200
    assert [normalized(number) for number in numbers] == numbers
    assert [number for number in numbers if not is_e164(number)] == []


@given(st.text(alphabet="+0123456789 ().-x", max_size=36))
def test_what_is_taken_has_the_stored_form_and_stays_as_it_is(text: str) -> None:
    try:
        stored = normalized(text)
    except NotANumber:
        return
    assert is_e164(stored)
    assert normalized(stored) == stored


@given(st.text(max_size=20))
def test_a_log_line_holds_two_digits_at_most(text: str) -> None:
    assert len(masked(text)) <= len("+…") + 2
    assert masked("+447700900123") == "+…23"
