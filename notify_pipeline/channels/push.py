"""The sender that both push providers share: credentials, gate, transport, in that order.

Belongs here: the order of things for one ``send``. Does not belong here: recipients one by one (``sending``), a
provider's payload, words or credentials (``fcm``, ``apns``), how much may be sent when (``rates``), bytes on the wire
(``transport``), whether and when to try again (``delivery``).
"""

import logging
from collections.abc import Sequence
from typing import Protocol

from notify_pipeline.channels.base import Clock, CredentialsRejected, Message, Report
from notify_pipeline.channels.codec import Codec
from notify_pipeline.channels.rates import Gate
from notify_pipeline.channels.sending import Sending
from notify_pipeline.channels.splice import check_delivery_ids
from notify_pipeline.channels.transport import Headers, Transport
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Platform

log = logging.getLogger(__name__)


class Credentials(Protocol):
    """Where bearer tokens come from."""

    async def bearer(self) -> str:
        """Return a good token. Raises ``CredentialsRejected``."""
        ...

    async def renew(self, refused: str) -> str:
        """Return a newer token than a refused one. Raises ``CredentialsRejected``."""
        ...

    async def aclose(self) -> None:
        """Release what is held."""
        ...


class PushSender:
    """A ``ChannelSender`` made of a codec, credentials, a transport and a gate."""

    def __init__(self, codec: Codec, credentials: Credentials, transport: Transport, clock: Clock, gate: Gate) -> None:
        """Take the parts; all but the clock are closed with the sender.

        Args:
            codec: Speaks the provider's language.
            credentials: Give the bearer tokens.
            transport: Carries the requests.
            clock: Tells the time.
            gate: Says how much may be sent when.
        """
        self._codec = codec
        self._credentials = credentials
        self._transport = transport
        self._clock = clock
        self._gate = gate

    @property
    def name(self) -> Channel:
        """See ``ChannelSender``."""
        return self._codec.name

    @property
    def provider(self) -> str:
        """See ``ChannelSender``."""
        return self._codec.provider

    @property
    def held_for_s(self) -> float:
        """See ``ChannelSender``."""
        return self._gate.held_for_s

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        """See ``ChannelSender``."""
        return self._codec.prepare(notification, platform)

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        """See ``ChannelSender``."""
        check_delivery_ids(recipients, delivery_ids)
        sending = Sending(self._codec, self._gate, self._clock, message, recipients, delivery_ids, report)
        try:
            await self._send(sending, message)
        finally:
            sending.report_refused()
            sending.log_troubles()

    async def _send(self, sending: Sending, message: Message) -> None:
        try:
            if message.notification.dry_run and not self._codec.can_dry_run:
                sending.pretend()
                return
            bearer = await self._post(sending, message)
            if not sending.refused:
                return
            # A newer token may be taken; asked once, so that a dead key cannot make a loop.
            await self._credentials.renew(bearer)
            sending.again()
            await self._post(sending, message)
        except CredentialsRejected as error:
            log.error("%s: %s", self.provider, error)
            sending.no_credentials(error.code)

    async def _post(self, sending: Sending, message: Message) -> str:
        """Post what is to be drawn, as much at a time as the gate lets through; return the token used last."""
        bearer = ""
        headers: Headers = ()
        rank = message.notification.priority.rank
        while left := sending.left:
            granted = await self._gate.take(left, rank)
            pauses = self._gate.pauses  # those that this grant knows of
            if not granted:
                sending.hold_back()
                continue
            # Each time, because under a low limit a send may outlive its token.
            current = await self._credentials.bearer()
            if current != bearer:
                bearer, headers = current, self._codec.headers(message, current)
            await self._transport.post_many(sending.requests(granted, headers, pauses), sending.ended)
        return bearer

    async def aclose(self) -> None:
        """See ``ChannelSender``."""
        await self._transport.aclose()
        await self._gate.aclose()
        await self._credentials.aclose()
