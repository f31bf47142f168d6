"""The installation's VAPID key: one for all processes and for good, or the operator's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py_vapid import Vapid02
from pydantic import SecretStr, ValidationError

from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.push_subscriptions import from_base64url, is_point, to_base64url
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vapid import installation_key, key_of, public_text, read_key


def test_every_process_has_the_same_key(ledger: Ledger, ledger_url: str) -> None:
    key = public_text(installation_key(Settings(), ledger))
    with Ledger.open(ledger_url) as other:
        assert public_text(installation_key(Settings(), other)) == key


def test_an_operators_own_key_goes_first(sqlite_ledger: Ledger) -> None:
    made = Vapid02()
    made.generate_keys()
    number = made.private_key.private_numbers().private_value
    text = to_base64url(number.to_bytes(32, "big"))
    settings = Settings(vapid_private_key=SecretStr(text))
    key = installation_key(settings, sqlite_ledger)
    assert key.private_numbers().private_value == number


@given(st.binary(min_size=32, max_size=32) | st.sampled_from([b"\0" * 32, b"\xff" * 32]))
def test_any_secret_makes_a_key(secret: bytes) -> None:
    key = key_of(secret)
    assert is_point(from_base64url(public_text(key)))
    assert public_text(key_of(secret)) == public_text(key)


@pytest.mark.parametrize(
    "text", ["", "x", "é", to_base64url(b"\1" * 31), to_base64url(b"\0" * 32), to_base64url(b"\xff" * 32)]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        read_key(text)


def test_a_setting_that_is_no_key_is_an_error_at_the_start_that_does_not_show_it() -> None:
    with pytest.raises(ValidationError, match="vapid_private_key") as caught:
        Settings(vapid_private_key=SecretStr("my-secret-key"))
    assert "my-secret" not in str(caught.value)
