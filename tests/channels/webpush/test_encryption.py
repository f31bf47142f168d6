"""RFC 8291, against its own example and a second reading of it."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.channels.webpush.encryption import encrypted
from notify_pipeline.channels.webpush.message import MAX_PLAINTEXT_BYTES
from notify_pipeline.core.push_subscriptions import Subscription, from_base64url, to_base64url
from tests.channels.webpush.browsers import CURVE, Browser, point

# RFC 8291 section 5 and appendix A.
PLAINTEXT = b"When I grow up, I want to be a watermelon"
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
RECEIVER = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
RECEIVER_POINT = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl"
    "7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def private(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(from_base64url(text), "big"), CURVE)


def test_the_example_of_the_rfc() -> None:
    browser = Browser(private(RECEIVER), from_base64url(AUTH))
    assert to_base64url(point(browser.key)) == RECEIVER_POINT
    body = encrypted(PLAINTEXT, browser.subscription("https://push"), private(SENDER), from_base64url(SALT))
    assert to_base64url(body) == BODY
    assert browser.opened(body) == PLAINTEXT


@given(st.binary(min_size=1, max_size=MAX_PLAINTEXT_BYTES))
def test_whatever_is_sent_is_read_by_this_browser_alone(plaintext: bytes) -> None:
    browser = Browser.numbered(7)
    body = encrypted(plaintext, browser.subscription("https://push"))
    assert browser.opened(body) == plaintext
    assert len(body) == len(plaintext) + 103 <= 4_096
    assert body != encrypted(plaintext, browser.subscription("https://push")), "each has a key and a salt of its own"
    with pytest.raises(Exception, match="^$"):  # InvalidTag has no words
        Browser(browser.key, b"x" * 16).opened(body)


def test_a_key_off_the_curve_is_an_error() -> None:
    with pytest.raises(ValueError, match="."):
        encrypted(b"x", Subscription("https://push", b"\x04" + b"\1" * 64, b"a" * 16))
