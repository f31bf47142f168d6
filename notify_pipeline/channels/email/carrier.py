"""E-mail by way of a relay: the carrier, and opening it.

Belongs here: putting the parts together. Does not belong here: the parts (``message``, ``pool``, ``answers``).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from notify_pipeline.channels.base import ChannelSender, Clock, Verdict
from notify_pipeline.channels.each import EachSender
from notify_pipeline.channels.email import message
from notify_pipeline.channels.email.answers import verdict_of
from notify_pipeline.channels.email.message import Letterhead, Mail
from notify_pipeline.channels.email.pool import Pool
from notify_pipeline.channels.email.relay import Relay
from notify_pipeline.channels.opening import Around, ChannelsMisconfigured
from notify_pipeline.core import mail_origin, unsubscribe_tokens
from notify_pipeline.core.mail_addresses import is_mail_address
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, Platform

log = logging.getLogger(__name__)

# example.com belongs to nobody (RFC 2606).
_SANDBOX_FROM = "Sandbox <sandbox@example.com>"


@dataclass(frozen=True, slots=True)
class _Target:
    relay: Relay
    sender: str


class EmailCarrier:
    """Hands each recipient's message to the relay."""

    name = Channel.EMAIL
    provider = "smtp"

    def __init__(self, pool: Pool, letterhead: Letterhead, clock: Clock) -> None:
        self._pool = pool
        self._letterhead = letterhead
        self._clock = clock

    def prepare(self, notification: Notification, platform: Platform) -> Mail:
        """See ``Carrier``."""
        return message.prepare(notification, platform, self._letterhead)

    def is_address(self, address: str) -> bool:
        """See ``Carrier``."""
        return is_mail_address(address)

    async def call(self, message_: Mail, recipient: Recipient, delivery_id: str) -> Verdict:
        """See ``Carrier``."""
        raw = message.render(message_, self._letterhead, recipient, delivery_id, self._clock())
        return verdict_of(await self._pool.deliver(self._letterhead.sender, recipient.address, raw))

    async def aclose(self) -> None:
        """See ``Carrier``."""
        await self._pool.aclose()


async def open_email(around: Around) -> ChannelSender | None:
    """Open the channel; None where the settings leave it out.

    Raises:
        ChannelsMisconfigured: The settings name half a relay, or none that could be.
    """
    settings = around.settings
    if (target := _target(settings, around.sandbox)) is None:
        return None
    try:
        name, sender = message.sender_of(target.sender)
    except ValueError as error:
        raise ChannelsMisconfigured(f"NOTIFY_SMTP_FROM {error}") from error
    letterhead = Letterhead(
        sender=sender,
        name=name,
        public_url=settings.public,
        unsubscribe_secret=around.ledger.secret(unsubscribe_tokens.SECRET),
        origin_secret=around.ledger.secret(mail_origin.SECRET),
        configuration_set=settings.ses_configuration_set,
    )
    carrier = EmailCarrier(Pool(target.relay), letterhead, around.clock)
    gate = await around.gate(f"smtp:{target.relay.name}", settings.smtp_per_minute)
    return EachSender(carrier, gate, around.clock, settings.smtp_connections)


def _target(settings: Settings, sandbox: Mapping[str, str] | None) -> _Target | None:
    if settings.smtp_url is not None:
        if settings.smtp_from is None:
            raise ChannelsMisconfigured("NOTIFY_SMTP_URL also needs NOTIFY_SMTP_FROM")
        return _Target(_relay(settings, settings.smtp_url.get_secret_value(), settings.provider_ca), settings.smtp_from)
    if sandbox is None:
        log.warning("email: not opened, NOTIFY_SMTP_URL is not set")
        return None
    log.warning("email: no relay is set, so this speaks to the sandbox: nobody gets any e-mail")
    ca = settings.provider_ca or Path(sandbox["ca"])
    return _Target(_relay(settings, sandbox["smtp_url"], ca), settings.smtp_from or _SANDBOX_FROM)


def _relay(settings: Settings, url: str, ca: Path | None) -> Relay:
    try:
        return Relay.of_url(url, ca, settings.request_timeout_s, settings.smtp_answer_timeout_s)
    except ValueError as error:
        raise ChannelsMisconfigured(f"NOTIFY_SMTP_URL {error}") from error
