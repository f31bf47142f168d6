"""VAPID headers: what RFC 8292 wants of them, checked by another library, and when they are signed anew."""

from datetime import UTC, datetime, timedelta

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from py_vapid import Vapid02

from notify_pipeline.channels.webpush.vapid import VapidTokens, origin_of
from notify_pipeline.core.vapid import key_of, public_text

KEY = key_of(b"s" * 32)
SUBJECT = "mailto:ops@example.com"
ORIGIN = "https://push.example"
DAY_S = 86_400


def parts(header: str) -> tuple[str, str]:
    scheme, _, rest = header.partition(" ")
    assert scheme == "vapid"
    token, key = (part.partition("=")[2] for part in rest.split(","))
    return token, key


def test_another_library_takes_the_signature() -> None:
    header = VapidTokens(KEY, SUBJECT, lambda: datetime.now(UTC)).header(ORIGIN)
    token, key = parts(header)
    assert key == public_text(KEY)
    assert Vapid02.verify(header)
    assert not Vapid02.verify(header.replace(key, public_text(key_of(b"t" * 32))))
    claims = jwt.decode(token, KEY.public_key(), ["ES256"], audience=ORIGIN)
    assert claims["sub"] == SUBJECT
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT"}


@given(st.lists(st.integers(-40 * 3_600, 40 * 3_600), min_size=1, max_size=30))
def test_whatever_the_clock_does_the_token_is_good_for_hours_and_less_than_a_day(steps: list[int]) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    tokens = VapidTokens(KEY, SUBJECT, lambda: now)
    for step in steps:
        now += timedelta(seconds=step)
        token, _ = parts(tokens.header(ORIGIN))
        left_s = jwt.decode(token, options={"verify_signature": False})["exp"] - now.timestamp()
        assert DAY_S / 2 <= left_s <= DAY_S - 3_600


def test_a_token_is_signed_once_per_service_and_quarter_of_a_day() -> None:
    now = datetime(2026, 11, 1, 6, tzinfo=UTC)
    tokens = VapidTokens(KEY, SUBJECT, lambda: now)
    first, other = tokens.header(ORIGIN), tokens.header("https://other.example")
    assert first != other
    now += timedelta(hours=5, minutes=59)
    assert tokens.header(ORIGIN) is first
    now += timedelta(minutes=1)
    assert tokens.header(ORIGIN) != first
    for number in range(2_500):
        tokens.header(f"https://{number}.example")
    assert len(tokens._headers) <= 1_000


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("https://fcm.googleapis.com/fcm/send/x:y", "https://fcm.googleapis.com"),
        ("https://Push.Example:443/a?b=https://c", "https://push.example"),
        ("https://push.example:8443/a", "https://push.example:8443"),
        ("http://127.0.0.1:80/a", "http://127.0.0.1"),
        ("https://[2606:4700::1111]:8443/a", "https://[2606:4700::1111]:8443"),
    ],
)
def test_origins(endpoint: str, origin: str) -> None:
    assert origin_of(endpoint) == origin
