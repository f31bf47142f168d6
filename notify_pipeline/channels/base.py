"""What every channel is to the delivery engine: prepare once, send to many, report each exactly once.

Belongs here: the interface, its value types, and the words that channels share. Does not belong here: anything that
knows a provider or a protocol.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias

from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform

Clock: TypeAlias = Callable[[], datetime]
Report: TypeAlias = Callable[[int, AttemptResult], None]
# From a recipient and a delivery id to path and body; None where this recipient's payload is too large.
Render: TypeAlias = Callable[[Recipient, str], tuple[str, bytes] | None]

# provider_code of an attempt is the provider's own word, or one of these where no provider spoke; a colon and the
# particular follow the first three. All of them are few and fixed, so that failures can be counted by code.
NOT_PROCESSED = "not_processed"
NO_ANSWER = "no_answer"
CREDENTIALS = "credentials"  # whoever watches attempts alerts on it; nothing is dropped, and the send is tried again
TTL = "ttl"
BAD_ADDRESS = "bad_address"
OPTED_OUT = "opted_out"  # the provider's word: whoever has this address replied STOP; its own code follows a colon
PAYLOAD_TOO_LARGE = "payload_too_large"  # of all recipients, or of one with what it puts into personal fields
# The provider asked for a pause before this recipient's turn came: it was never called for it. The outcome is
# throttled, and retry_after_s is what is left of the pause.
HELD = f"{NOT_PROCESSED}:held"


class ContentRejected(Exception):
    """This content cannot be sent on this channel, to anyone, however often it is tried."""

    def __init__(self, code: str, detail: str) -> None:
        """Args: code: low-cardinality word for reports. detail: for people."""
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class CredentialsRejected(Exception):
    """The provider, or whoever issues its tokens, does not take our credentials, or cannot be asked."""

    def __init__(self, code: str, detail: str) -> None:
        """Args: code: low-cardinality word for reports. detail: for people; holds no secret."""
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Message:
    """A notification made ready for one platform by a channel. Only that channel reads what its subclass adds."""

    notification: Notification
    platform: Platform


class Verdict(NamedTuple):
    """A provider's answer, classified.

    Attributes:
        outcome: Its class.
        code: The provider's word for it; None for an acceptance.
        message_id: The provider's id of an accepted message.
        retry_after_s: How long it asked to wait.
        drop_token: True only when the answer unambiguously says that this address is dead.
        unregistered_at: Since when, where it says so.
        credentials: True when the answer is about our credentials and not about this recipient or message.
        renew: True when newer credentials might be taken.
        hold: True when nothing else may be sent with our credentials either before ``retry_after_s`` is over.
    """

    outcome: Outcome
    code: str | None = None
    message_id: str | None = None
    retry_after_s: float | None = None
    drop_token: bool = False
    unregistered_at: datetime | None = None
    credentials: bool = False
    renew: bool = False
    hold: bool = False


class ChannelSender(Protocol):
    """Sends prepared messages to recipients of one channel."""

    @property
    def name(self) -> Channel:
        """The channel."""
        ...

    @property
    def provider(self) -> str:
        """The provider's name, as attempts and receipts record it."""
        ...

    @property
    def held_for_s(self) -> float:
        """Seconds for which this sender takes nothing, because its provider asked for a pause; 0.0 when it is open.

        Whoever sends starts nothing new meanwhile: it would come back at once, unsent.
        """
        ...

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        """Build what is the same for all recipients of a notification on a platform; no I/O.

        Raises:
            ContentRejected: It can never be sent, for example because it is larger than the provider takes.
        """
        ...

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        """Send a prepared message, many recipients at a time, and report how each call ended.

        Args:
            message: From this sender's ``prepare``.
            recipients: Addresses on this channel.
            delivery_ids: One for each recipient.
            report: Called in the event loop's thread with the recipient's position and its result, exactly once for
                each, in any order; must not block. A result that says ``is_retryable`` may be sent again.

        Raises:
            asyncio.CancelledError: The caller was cancelled. Recipients not reported by then were certainly not sent
                to; those cut off half-way are reported, as ambiguous where a request may have been processed.
            ValueError: There are not as many delivery ids as recipients, or one is malformed.
        """
        ...

    async def aclose(self) -> None:
        """Close what the sender holds open."""
        ...
