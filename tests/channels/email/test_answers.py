"""What relays say, and what is made of it; answers as Postfix, Exim, Exchange, Gmail and Amazon SES write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE
from notify_pipeline.channels.email.answers import DAILY_S, THROTTLED_S, Answer, Stage, verdict_of
from notify_pipeline.core.vocabulary import Outcome

MAIL, RCPT, DATA, CONTENT = Stage
DEAD, NO, LATER, SLOW = Outcome.INVALID_RECIPIENT, Outcome.PERMANENT, Outcome.TRANSIENT, Outcome.THROTTLED


@pytest.mark.parametrize(
    ("stage", "code", "text", "outcome", "word"),
    [
        (RCPT, 550, "5.1.1 <ada@example.com>: Recipient address rejected: User unknown", DEAD, "550 5.1.1"),
        (RCPT, 550, "5.1.10 null MX", DEAD, "550 5.1.10"),
        (RCPT, 550, "5.2.1 The email account that you tried to reach is disabled.", DEAD, "550 5.2.1"),
        (RCPT, 550, "No such user here", DEAD, "550"),
        (RCPT, 550, "ada@example.com: User does not exist", DEAD, "550"),
        (CONTENT, 550, "5.1.1 nobody", DEAD, "550 5.1.1"),
        (RCPT, 550, "Administrative prohibition", NO, "550"),
        (RCPT, 550, "5.7.1 Service unavailable, client host blocked", NO, "550 5.7.1"),
        (RCPT, 552, "5.2.2 Mailbox full", NO, "552 5.2.2"),
        (RCPT, 553, "5.1.8 sender's address has no MX", NO, "553 5.1.8"),
        (MAIL, 550, "5.1.1 unknown sender", NO, "550 5.1.1"),
        (MAIL, 552, "5.3.4 Message size exceeds fixed limit", NO, PAYLOAD_TOO_LARGE),
        (CONTENT, 552, "Message too large", NO, PAYLOAD_TOO_LARGE),
        (CONTENT, 552, "5.7.0 This message was blocked", NO, "552 5.7.0"),
        (CONTENT, 554, "Message rejected: Email address is not verified.", NO, "554"),
        (RCPT, 450, "4.2.0 <ada@example.com>: Recipient address rejected: Greylisted", LATER, "450 4.2.0"),
        (RCPT, 450, "4.7.1 <ada@example.com>: come again in five minutes", LATER, "450 4.7.1"),
        (RCPT, 452, "4.2.2 over quota", LATER, "452 4.2.2"),
        (CONTENT, 451, "4.3.0 Mail server temporarily rejected message", LATER, "451 4.3.0"),
        (MAIL, 421, "Service not available, closing transmission channel", LATER, "421"),
        (MAIL, 421, "4.7.28 Gmail has detected an unusual rate of mail", SLOW, "421 4.7.28"),
        (CONTENT, 454, "Throttling failure: Maximum sending rate exceeded.", SLOW, "454"),
        (MAIL, 454, "Throttling failure: Daily message quota exceeded.", SLOW, "454"),
    ],
)
def test_what_answers_mean(stage: Stage, code: int, text: str, outcome: Outcome, word: str) -> None:
    verdict = verdict_of(Answer(stage, code, text))
    assert (verdict.outcome, verdict.code) == (outcome, word)
    assert verdict.drop_token is (outcome is DEAD)
    assert verdict.hold is (outcome is SLOW)
    wait_s = (DAILY_S if "Daily" in text else THROTTLED_S) if outcome is SLOW else None
    assert verdict.retry_after_s == wait_s


def test_authentication_is_nobody_s_fault_but_ours() -> None:
    for text, code in [("5.7.0 Authentication required", 530), ("5.7.8 bad", 554), ("", 535)]:
        verdict = verdict_of(Answer(MAIL, code, text))
        assert verdict.credentials and verdict.outcome is LATER and not verdict.drop_token


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2.0.0 Ok: queued as 4XyZ1a", "4XyZ1a"),
        ("Ok 0100018f-7b-000000", "0100018f-7b-000000"),
        ("OK id=1rA-0001", "id=1rA-0001"),
        ("", None),
    ],
)
def test_what_a_relay_calls_an_accepted_message(text: str, found: str | None) -> None:
    verdict = verdict_of(Answer(CONTENT, 250, text))
    assert (verdict.outcome, verdict.code, verdict.message_id) == (Outcome.ACCEPTED, None, found)


@given(st.sampled_from(Stage), st.integers(100, 599), st.text(max_size=80))
def test_any_answer_has_a_class_and_a_word_that_holds_nothing_of_it(stage: Stage, code: int, text: str) -> None:
    verdict = verdict_of(Answer(stage, code, text))
    assert (verdict.outcome is Outcome.ACCEPTED) is (200 <= code < 300)
    if verdict.code is not None and verdict.code != PAYLOAD_TOO_LARGE:
        assert all(part.isdigit() for part in verdict.code.replace(".", " ").split())
    assert not verdict.drop_token or (code >= 500 and stage is not MAIL)
