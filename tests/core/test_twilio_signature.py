"""Twilio's signature: Twilio's library's own example, and whatever else is signed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.twilio_signature import is_signed, signature

_FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}
_TEXTS = st.text(max_size=20)


def test_the_librarys_example() -> None:
    # https://github.com/twilio/twilio-python/blob/main/tests/unit/test_request_validator.py
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert signature("12345", url, _FORM.items()) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


@pytest.mark.parametrize(
    ("signed", "called"),
    [
        ("https://a.example/x?y=1", "https://a.example:443/x?y=1"),
        ("https://a.example:443/x?y=1", "https://a.example/x?y=1"),
        ("http://a.example:80/x", "http://a.example/x"),
        ("http://a.example:8080/x", "http://a.example:8080/x"),
    ],
)
def test_a_default_port_may_be_written_or_not(signed: str, called: str) -> None:
    assert is_signed("t", called, _FORM.items(), signature("t", signed, _FORM.items()))


@given(_TEXTS, st.lists(st.tuples(_TEXTS, _TEXTS), max_size=5))
def test_what_is_signed_holds_in_any_order_and_nothing_else_does(token: str, form: list[tuple[str, str]]) -> None:
    url = "https://a.example/x"
    given_signature = signature(token, url, form)
    assert is_signed(token, url, reversed(form), given_signature)
    assert not is_signed(token, url + "?", form, given_signature)
    assert not is_signed(token + "x", url, form, given_signature)
    assert not is_signed(token, url, [*form, ("one", "more")], given_signature) or ("one", "more") in form


@given(_TEXTS)
def test_anything_may_be_presented(text: str) -> None:
    assert not is_signed("token", "https://a.example/x", [], text)
