"""Tokens of subscriptions: one for each, and nothing else is one."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.push_subscriptions import (
    MAX_ENDPOINT_LENGTH,
    MAX_TOKEN_LENGTH,
    PREFIX,
    Subscription,
    from_base64url,
    is_point,
    subscription_of,
    to_base64url,
    token_of,
)
from tests.channels.webpush.browsers import Browser, point

SUBSCRIPTION = Subscription("https://push.example/x", point(Browser.numbered(0).key), b"a" * 16)


@given(
    st.text(min_size=1, max_size=MAX_ENDPOINT_LENGTH, alphabet=st.characters(codec="ascii")),
    st.binary(min_size=65, max_size=65),
)
def test_a_token_stands_for_its_subscription(endpoint: str, key: bytes) -> None:
    made = Subscription(endpoint, key, b"a" * 16)
    token = token_of(made)
    assert token.startswith(PREFIX)
    assert set(token) <= set("wp.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert subscription_of(token) in (made, None)
    if '"' not in endpoint and "\\" not in endpoint and endpoint.isprintable():
        assert len(token) <= MAX_TOKEN_LENGTH < 2_704 - 40
        assert subscription_of(token) == made


@given(st.text(max_size=60) | st.binary(max_size=300).map(lambda raw: PREFIX + to_base64url(raw)))
def test_any_other_text_is_none(text: str) -> None:
    assert subscription_of(text) is None


GOOD = {"endpoint": "https://p", "keys": {"p256dh": to_base64url(b"\4" * 65), "auth": to_base64url(b"a" * 16)}}


@pytest.mark.parametrize(
    "body",
    [
        [],
        None,
        {**GOOD, "endpoint": 1},
        {**GOOD, "endpoint": ""},
        {**GOOD, "endpoint": None},
        {**GOOD, "more": 1},
        {**GOOD, "keys": None},
        {**GOOD, "keys": {"p256dh": 1, "auth": 2}},
        {**GOOD, "keys": {**GOOD["keys"], "auth": to_base64url(b"a" * 15)}},  # type: ignore[dict-item]
        {**GOOD, "keys": {**GOOD["keys"], "p256dh": to_base64url(b"a" * 64)}},  # type: ignore[dict-item]
        {"keys": GOOD["keys"], "endpoint": GOOD["endpoint"]},
    ],
)
def test_what_is_written_in_another_way_is_none(body: object) -> None:
    assert subscription_of(PREFIX + to_base64url(orjson.dumps(GOOD))) is not None
    assert subscription_of(PREFIX + to_base64url(orjson.dumps(body))) is None
    assert subscription_of(PREFIX + to_base64url(orjson.dumps(GOOD)) + "=") is None
    assert subscription_of(PREFIX + to_base64url(orjson.dumps(GOOD, option=orjson.OPT_INDENT_2))) is None


def test_points() -> None:
    assert is_point(SUBSCRIPTION.p256dh)
    compressed = b"\2" + SUBSCRIPTION.p256dh[1:33]
    for raw in (b"", b"\4" + b"\1" * 64, compressed, SUBSCRIPTION.p256dh[:-1], b"\0"):
        assert not is_point(raw)


@given(st.binary(max_size=100))
def test_base64url(raw: bytes) -> None:
    assert from_base64url(to_base64url(raw)) == raw


@pytest.mark.parametrize("text", ["a", "é", "a b", "a=b", "a\n"])
def test_what_is_no_base64url(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        from_base64url(text)
