"""Opening Web push: with which key, and to whom.

Belongs here: turning settings into a sender. Does not belong here: what it does (``carrier``).

There is no provider to have an account with: whoever has a key pair may send to the browsers that subscribed with it.
What makes this channel real is ``NOTIFY_VAPID_SUBJECT``, the address at which push services can reach its operator.
"""

import logging
import ssl

from notify_pipeline.channels.base import ChannelSender
from notify_pipeline.channels.each import EachSender
from notify_pipeline.channels.opening import Around
from notify_pipeline.channels.webpush.carrier import Reach, WebPushCarrier
from notify_pipeline.channels.webpush.vapid import VapidTokens
from notify_pipeline.core import vapid
from notify_pipeline.core.ids import short_hash

log = logging.getLogger(__name__)

_SANDBOX_SUBJECT = "mailto:sandbox@notify.invalid"


async def open_webpush(around: Around) -> ChannelSender | None:
    """Return a sender to browsers; None where no subject is set and there is no sandbox."""
    settings = around.settings
    subject, reach = settings.vapid_subject, Reach(settings.webpush_allow_private, tls=_trust(around))
    if subject is None:
        if around.sandbox is None:
            log.warning("webpush: not opened, NOTIFY_VAPID_SUBJECT is not set")
            return None
        url = around.sandbox["webpush_url"]
        log.warning("webpush: no subject is set, so this speaks to the sandbox at %s: no real browser gets any", url)
        subject, reach = _SANDBOX_SUBJECT, Reach(allow_private=True, only_below=f"{url}/")
    key = vapid.installation_key(settings, around.ledger)
    tokens = VapidTokens(key, subject, around.clock)
    carrier = WebPushCarrier(tokens, reach, around.receipt_url, settings.request_timeout_s, around.clock)
    gate = await around.gate(f"webpush:{short_hash(vapid.public_text(key))}", settings.webpush_per_minute)
    return EachSender(carrier, gate, around.clock, settings.webpush_connections)


def _trust(around: Around) -> ssl.SSLContext | None:
    ca = around.settings.provider_ca
    return None if ca is None else ssl.create_default_context(cafile=str(ca))
