"""What a relay's answers mean.

Belongs here: classifying reply codes and enhanced status codes. Does not belong here: the conversation (``pool``).

RFC 5321 section 4.2.1: 4yz may be tried again, 5yz may not. RFC 3463 says in three further numbers whose fault it is:
x.1.z the address, x.2.z the mailbox, x.3.z the mail system, x.4.z the network, x.7.z security and policy. The text is
for people, and often holds the address: nothing of it is kept.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, Verdict
from notify_pipeline.core.vocabulary import Outcome


class Stage(StrEnum):
    """What a relay answered, in the order of the conversation."""

    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # before the content left
    CONTENT = "content"  # after it


class Answer(NamedTuple):
    """A relay's last word on one message."""

    stage: Stage
    code: int
    text: str


# RFC 3463 section 3.2, RFC 7505 (5.1.10): the address names no mailbox, or no host that takes mail. Not x.1.7 and
# x.1.8, which are about the sender's address.
_NO_MAILBOX = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
# Without an enhanced code 550 is anything from "no such user" to "I do not like you": only plain words count.
_PLAIN_WORDS = re.compile(
    r"(user|mailbox|recipient|address|account)\b.{0,40}"
    r"\b(unknown|does ?n[o']t exist|not found|not exist|invalid|disabled)"
    r"|(unknown|no such|invalid|nonexistent) (local )?(user|mailbox|recipient|address|account)",
    re.IGNORECASE,
)
# RFC 4954 section 6: authentication required, refused, too weak; 5.7.8 and 5.7.9 likewise.
_AUTH_CODES = frozenset({530, 534, 535, 538})
_AUTH_STATUS = frozenset({"5.7.8", "5.7.9"})
# RFC 3463: 5.3.4 message too big for the system, 5.2.3 for the mailbox. 552 is RFC 1870's code for it.
_TOO_LARGE = frozenset({"5.3.4", "5.2.3"})
# Whoever asks a stranger to come again later asks about this recipient, and not about all our mail.
_GREYLISTED = re.compile(r"gr[ae]y.?list", re.IGNORECASE)
# Amazon SES: "454 Throttling failure: Maximum sending rate exceeded", or "... Daily message quota exceeded", with a
# code that RFC 4954 has for authentication. https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-smtp.html
_DAILY = re.compile(r"daily", re.IGNORECASE)
# SMTP has no word for how long. A rate per second is open again by then; retries have a back-off of their own.
THROTTLED_S = 5.0
DAILY_S = 600.0
_STATUS = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})\b")
_QUEUED = re.compile(r"([!-~]{1,200})\s*\Z")


def verdict_of(answer: Answer) -> Verdict:
    """Classify a relay's answer; its code is the reply code, and the enhanced one where it gives one: ``550 5.1.1``."""
    found = _STATUS.match(answer.text)
    status = found[1] if found else ""
    code = f"{answer.code} {status}".rstrip()
    if 200 <= answer.code < 300:
        return Verdict(Outcome.ACCEPTED, message_id=_message_id(answer.text))
    if answer.code in _AUTH_CODES or status in _AUTH_STATUS:
        return Verdict(Outcome.TRANSIENT, code, credentials=True)
    if 400 <= answer.code < 500:
        return _later(answer, status, code)
    return _never(answer, status, code)


def _later(answer: Answer, status: str, code: str) -> Verdict:
    about_recipient = answer.stage is Stage.RCPT and (status == "4.7.1" or _GREYLISTED.search(answer.text))
    if not about_recipient and (status.startswith("4.7.") or answer.code == 454):
        wait_s = DAILY_S if _DAILY.search(answer.text) else THROTTLED_S
        return Verdict(Outcome.THROTTLED, code, retry_after_s=wait_s, hold=True)
    return Verdict(Outcome.TRANSIENT, code)


def _never(answer: Answer, status: str, code: str) -> Verdict:
    if answer.stage is Stage.MAIL:
        # The sender's address, or the size that was announced: nothing is known of the recipient.
        return Verdict(Outcome.PERMANENT, PAYLOAD_TOO_LARGE if _is_size(answer, status) else code)
    if status in _NO_MAILBOX or (not status and answer.code in (550, 551, 553) and _PLAIN_WORDS.search(answer.text)):
        return Verdict(Outcome.INVALID_RECIPIENT, code, drop_token=True)
    if answer.stage is not Stage.RCPT and _is_size(answer, status):
        return Verdict(Outcome.PERMANENT, PAYLOAD_TOO_LARGE)
    return Verdict(Outcome.PERMANENT, code)


def _is_size(answer: Answer, status: str) -> bool:
    return status in _TOO_LARGE or (answer.code == 552 and not status)


def _message_id(text: str) -> str | None:
    """Return what a relay calls the message: the last word, as in ``2.0.0 Ok: queued as 4XyZ`` or ``Ok 0100018f…``."""
    found = _QUEUED.search(text.strip())
    return found[1] if found else None
