"""Unsubscribe tokens: what was made is read again, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core import unsubscribe_tokens
from notify_pipeline.core.unsubscribe_tokens import InvalidUnsubscribeToken, Unsubscribing
from notify_pipeline.core.vocabulary import Channel

SECRET = b"s" * 32
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=256)
abouts = st.builds(Unsubscribing, st.text(max_size=40), words, st.text(max_size=100), st.sampled_from(Channel))
MADE = unsubscribe_tokens.mint(SECRET, Unsubscribing("p_1", "device:ada@example.com", "news", Channel.EMAIL))


@given(abouts)
def test_a_token_says_what_it_was_made_of(about: Unsubscribing) -> None:
    token = unsubscribe_tokens.mint(SECRET, about)
    assert unsubscribe_tokens.check(SECRET, token) == about
    assert len(token) <= unsubscribe_tokens.MAX_LENGTH and token.replace("-", "").replace("_", "").isalnum()
    with pytest.raises(InvalidUnsubscribeToken):
        unsubscribe_tokens.check(b"t" * 32, token)


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda raw: raw.hex())))
def test_what_was_not_made_here_is_refused(token: str) -> None:
    with pytest.raises(InvalidUnsubscribeToken):
        unsubscribe_tokens.check(SECRET, token)


@given(at=st.integers(0, len(MADE) - 1), letter=st.sampled_from("AZaz09-_=+/. "))
def test_no_letter_may_be_another(at: int, letter: str) -> None:
    changed = MADE[:at] + letter + MADE[at + 1 :]
    if changed == MADE:
        return
    with pytest.raises(InvalidUnsubscribeToken):
        unsubscribe_tokens.check(SECRET, changed)


def test_one_of_a_mailbox_fits_into_a_header() -> None:
    longest = Unsubscribing("p_" + "1" * 32, "device:" + "a" * 64 + "@" + "d" * 189, "c" * 100, Channel.EMAIL)
    assert len(unsubscribe_tokens.mint(SECRET, longest)) < 700
