"""Words that stop SMS, and words that let them come again."""

import pytest

from notify_pipeline.core.sms_keywords import Wish, wish_of


@pytest.mark.parametrize(
    "text", ["STOP", "stop", " Stop. ", "STOPALL", "unsubscribe", "Cancel", "END", "quit!", "arrêt"]
)
def test_stop(text: str) -> None:
    assert wish_of(text) is Wish.STOP


@pytest.mark.parametrize("text", ["START", "yes", "Unstop\n"])
def test_start(text: str) -> None:
    assert wish_of(text) is Wish.START


@pytest.mark.parametrize("text", ["", "stop please", "don't stop", "HELP", "no", "stopp", "yes, stop"])
def test_anything_else_is_neither(text: str) -> None:
    assert wish_of(text) is None
