"""Opening SMS: Twilio, Amazon SNS, or the sandbox's stand-in for Twilio.

Belongs here: turning settings into the sender. Does not belong here: what it does (``twilio``, ``sns``).
"""

import logging
from pathlib import Path

import requests.utils

from notify_pipeline.channels.base import ChannelSender
from notify_pipeline.channels.each import EachSender
from notify_pipeline.channels.opening import Around, ChannelsMisconfigured
from notify_pipeline.channels.sms.message import SmsMessage
from notify_pipeline.channels.sms.sns import SnsCarrier, Target
from notify_pipeline.channels.sms.twilio import Account, TwilioCarrier
from notify_pipeline.core.settings import Settings

TWILIO_URL = "https://api.twilio.com"
STATUS_PATH = "/sms/status/twilio"

log = logging.getLogger(__name__)


async def open_sms(around: Around) -> ChannelSender | None:
    """Open SMS with the provider that the settings name; see ``Opener``.

    Raises:
        ChannelsMisconfigured: Twilio is named without account, token or sender.
    """
    settings = around.settings
    if settings.sms_provider == "sns":
        return await _open_sns(around)
    if settings.sms_provider == "twilio":
        return await _open_twilio(around, _account(settings))
    sandbox = around.sandbox
    if sandbox is None or "sms_url" not in sandbox:
        log.warning("sms: not opened, NOTIFY_SMS_PROVIDER is not set")
        return None
    url = settings.twilio_url or sandbox["sms_url"]
    log.warning("sms: no provider is set, so this speaks to the sandbox at %s: no real phone gets anything", url)
    status_url = settings.public + STATUS_PATH
    token = Path(sandbox["sms_auth_token"]).read_text()
    account = Account(url, sandbox["sms_account_sid"], token, sandbox["sms_from"], status_url)
    return await _open_twilio(around, account)


def _account(settings: Settings) -> Account:
    sid, token, sender = settings.twilio_account_sid, settings.twilio_auth_token, settings.twilio_from
    if not sid or token is None or not sender:
        raise ChannelsMisconfigured(
            "NOTIFY_SMS_PROVIDER=twilio also needs NOTIFY_TWILIO_ACCOUNT_SID, NOTIFY_TWILIO_AUTH_TOKEN and "
            "NOTIFY_TWILIO_FROM"
        )
    url = (settings.twilio_url or TWILIO_URL).rstrip("/")
    if settings.public_url is None:
        # Twilio refuses a message whose callback has no public host. https://www.twilio.com/docs/api/errors/21609
        log.warning("sms: NOTIFY_PUBLIC_URL is not set, so nobody learns whether a message was delivered")
    status_url = None if settings.public_url is None else settings.public + STATUS_PATH
    ca = settings.provider_ca or Path(requests.utils.DEFAULT_CA_BUNDLE_PATH)
    return Account(url, sid, token.get_secret_value(), sender, status_url, ca)


async def _open_twilio(around: Around, account: Account) -> ChannelSender:
    settings = around.settings
    carrier = TwilioCarrier(
        account,
        around.clock,
        at_once=settings.sms_connections,
        timeout_s=settings.request_timeout_s,
        most_segments=settings.sms_max_segments,
    )
    gate = await around.gate(f"twilio:{account.sid}", settings.sms_per_minute)
    return EachSender[SmsMessage](carrier, gate, around.clock, settings.sms_connections)


async def _open_sns(around: Around) -> ChannelSender:
    settings = around.settings
    price = settings.sns_max_price
    target = Target(
        settings.sns_region,
        settings.sns_endpoint_url,
        settings.sns_sender_id,
        None if price is None else format(price, "f"),
        settings.provider_ca,
    )
    carrier = SnsCarrier(
        target,
        at_once=settings.sms_connections,
        timeout_s=settings.request_timeout_s,
        most_segments=settings.sms_max_segments,
    )
    gate = await around.gate(f"sns:{target.region or 'default'}", settings.sms_per_minute)
    return EachSender[SmsMessage](carrier, gate, around.clock, settings.sms_connections)
