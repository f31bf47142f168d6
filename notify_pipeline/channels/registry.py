"""Opening the channels: which provider each speaks to, the real one or the sandbox, and with which credentials.

Belongs here: turning settings into senders. Does not belong here: what a sender does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import requests
import requests.utils

from notify_pipeline.channels.apns.credentials import ProviderTokens
from notify_pipeline.channels.apns.message import ApnsCodec
from notify_pipeline.channels.base import ChannelSender, Clock
from notify_pipeline.channels.email.carrier import open_email
from notify_pipeline.channels.fcm.credentials import OAuthTokens
from notify_pipeline.channels.fcm.message import FcmCodec
from notify_pipeline.channels.opening import Around, ChannelsMisconfigured, Opener
from notify_pipeline.channels.push import PushSender
from notify_pipeline.channels.sms.opening import open_sms
from notify_pipeline.channels.transport import Transport
from notify_pipeline.channels.webpush.opening import open_webpush
from notify_pipeline.channels.websocket.carrier import open_websocket
from notify_pipeline.channels.wire.transport import WireTransport
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel

__all__ = ["ChannelsMisconfigured", "open_channel", "open_channels"]

log = logging.getLogger(__name__)

FCM_URL = "https://fcm.googleapis.com"
# "600,000 per minute" and project, unless Google was asked for more; Apple publishes no number.
# https://firebase.google.com/docs/cloud-messaging/throttling-and-quotas
FCM_PER_MINUTE = 600_000
APNS_URL = "https://api.push.apple.com"
# Apple asks for the provider token as a literal without indexing, to spare its small header table ("Communicating with
# APNs", HPACK).
_APNS_UNINDEXED = ("authorization",)
# The sandbox may be starting beside us.
_SANDBOX_TRIES = 20
_SANDBOX_PAUSE_S = 0.5
_SANDBOX_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _FcmTarget:
    url: str
    ca: Path
    service_account: Path


@dataclass(frozen=True, slots=True)
class _ApnsTarget:
    url: str
    ca: Path
    key: Path
    key_id: str
    team_id: str
    topic: str


def _utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_channels(
    settings: Settings, ledger: Ledger, clock: Clock = _utc_now
) -> AsyncIterator[dict[Channel, ChannelSender]]:
    """Open a sender for every channel that the settings allow, and close them at the end.

    A channel with credentials speaks to the real provider. One without speaks to the sandbox and a log line says so;
    with ``provider_mode`` real it is left out instead.

    Args:
        settings: This process's configuration.
        ledger: Holds what processes share of their providers' rate limits and pauses.
        clock: Tells the time to time-to-live, tokens and time stamps.

    Raises:
        ChannelsMisconfigured: Credentials are incomplete, no channel is left, or there is no sandbox.
        CredentialsRejected: A credential file cannot be used.
    """
    around = await _around(settings, ledger, clock)
    async with AsyncExitStack() as stack:
        senders: dict[Channel, ChannelSender] = {}
        for channel, opener in OPENERS.items():
            sender = await opener(around)
            if sender is not None:
                senders[channel] = sender
                stack.push_async_callback(sender.aclose)
        # WebSockets need no credentials: alone they are what nobody meant.
        if not senders.keys() - {Channel.WEBSOCKET}:
            raise ChannelsMisconfigured("provider_mode is real, and no channel has credentials")
        yield senders


@asynccontextmanager
async def open_channel(
    channel: Channel, settings: Settings, ledger: Ledger, clock: Clock = _utc_now
) -> AsyncIterator[ChannelSender | None]:
    """Open one channel's sender, as ``open_channels`` does, and close it at the end; None where settings leave it out.

    Raises:
        ChannelsMisconfigured: Credentials are incomplete, or there is no sandbox.
        CredentialsRejected: A credential file cannot be used.
    """
    sender = await OPENERS[channel](await _around(settings, ledger, clock))
    try:
        yield sender
    finally:
        if sender is not None:
            await sender.aclose()


async def _around(settings: Settings, ledger: Ledger, clock: Clock) -> Around:
    sandbox = await _ask_sandbox(settings) if settings.needs_sandbox else None
    return Around(settings, ledger, clock, _receipt_url(settings, sandbox), sandbox)


async def _open_fcm(around: Around) -> ChannelSender | None:
    settings, clock = around.settings, around.clock
    if (target := _fcm_target(settings, around.sandbox)) is None:
        return None
    tokens = OAuthTokens(target.service_account, ca=target.ca, clock=clock)
    transport = _fcm_transport(target, tokens.project, settings)
    per_minute: float | None = settings.fcm_per_minute
    if per_minute is None and target.url.rstrip("/") == FCM_URL:
        per_minute = FCM_PER_MINUTE
    gate = await around.gate(f"fcm:{tokens.project}", per_minute)
    return PushSender(FcmCodec(tokens.project, around.receipt_url), tokens, transport, clock, gate)


async def _open_apns(around: Around) -> ChannelSender | None:
    settings, clock = around.settings, around.clock
    if (target := _apns_target(settings, around.sandbox)) is None:
        return None
    tokens = ProviderTokens(target.key, key_id=target.key_id, team_id=target.team_id, clock=clock)
    transport = _apns_transport(target, settings)
    gate = await around.gate(f"apns:{target.team_id}:{target.topic}", settings.apns_per_minute)
    return PushSender(ApnsCodec(target.topic, around.receipt_url), tokens, transport, clock, gate)


# In this order; each opens its channel, or says in the log why it does not and returns None.
OPENERS: Mapping[Channel, Opener] = {
    Channel.FCM: _open_fcm,
    Channel.APNS: _open_apns,
    Channel.EMAIL: open_email,
    Channel.SMS: open_sms,
    Channel.WEBPUSH: open_webpush,
    Channel.WEBSOCKET: open_websocket,
}


# The libraries' transports are imported where they are chosen: what they need takes a fifth of a second to load.


def _fcm_transport(target: _FcmTarget, project: str, settings: Settings) -> Transport:
    url, in_flight, timeout_s = target.url.rstrip("/"), settings.max_in_flight, settings.request_timeout_s
    if settings.transport == "wire":
        return WireTransport(url, ca=target.ca, max_in_flight=in_flight, timeout_s=timeout_s)
    from notify_pipeline.channels.library.fcm import FirebaseTransport

    return FirebaseTransport(url, project, ca=target.ca, max_in_flight=in_flight, timeout_s=timeout_s)


def _apns_transport(target: _ApnsTarget, settings: Settings) -> Transport:
    url, in_flight, timeout_s = target.url.rstrip("/"), settings.max_in_flight, settings.request_timeout_s
    if settings.transport == "wire":
        return WireTransport(url, ca=target.ca, max_in_flight=in_flight, timeout_s=timeout_s, unindexed=_APNS_UNINDEXED)
    from notify_pipeline.channels.library.apns import AioapnsTransport

    return AioapnsTransport(url, ca=target.ca, max_in_flight=in_flight, timeout_s=timeout_s)


async def _ask_sandbox(settings: Settings) -> Mapping[str, str]:
    """Return what the sandbox says of itself: addresses and credential files."""
    url = settings.sandbox_url or f"http://127.0.0.1:{settings.sandbox_port}"
    problem = ""
    for attempt in range(_SANDBOX_TRIES):
        if attempt:
            await asyncio.sleep(_SANDBOX_PAUSE_S)
        try:
            answer = await asyncio.to_thread(_get_json, url)
        except (requests.RequestException, ValueError) as error:
            problem = str(error)
            continue
        return answer
    raise ChannelsMisconfigured(f"no credentials are set, and no sandbox answers at {url}: {problem}")


def _get_json(url: str) -> Mapping[str, str]:
    with requests.Session() as session:
        session.trust_env = False  # a proxy knows no way to a sandbox on this machine
        response = session.get(f"{url.rstrip('/')}/", timeout=_SANDBOX_TIMEOUT_S)
        response.raise_for_status()
        answer = response.json()
    if not isinstance(answer, dict):
        raise ValueError(f"{url} does not describe a sandbox")
    return answer


def _fcm_target(settings: Settings, sandbox: Mapping[str, str] | None) -> _FcmTarget | None:
    if settings.fcm_credentials is not None:
        ca = settings.provider_ca or Path(requests.utils.DEFAULT_CA_BUNDLE_PATH)
        return _FcmTarget(settings.fcm_url or FCM_URL, ca, settings.fcm_credentials)
    if sandbox is None:
        log.warning("fcm: not opened, NOTIFY_FCM_CREDENTIALS is not set")
        return None
    url = settings.fcm_url or sandbox["fcm_url"]
    log.warning("fcm: no credentials are set, so this speaks to the sandbox at %s: no real device gets anything", url)
    return _FcmTarget(url, settings.provider_ca or Path(sandbox["ca"]), Path(sandbox["service_account"]))


def _apns_target(settings: Settings, sandbox: Mapping[str, str] | None) -> _ApnsTarget | None:
    if settings.apns_key is not None:
        key_id, team_id, topic = settings.apns_key_id, settings.apns_team_id, settings.apns_topic
        if not key_id or not team_id or not topic:
            raise ChannelsMisconfigured(
                "NOTIFY_APNS_KEY also needs NOTIFY_APNS_KEY_ID, NOTIFY_APNS_TEAM_ID and NOTIFY_APNS_TOPIC"
            )
        ca = settings.provider_ca or Path(requests.utils.DEFAULT_CA_BUNDLE_PATH)
        return _ApnsTarget(settings.apns_url or APNS_URL, ca, settings.apns_key, key_id, team_id, topic)
    if sandbox is None:
        log.warning("apns: not opened, NOTIFY_APNS_KEY is not set")
        return None
    url = settings.apns_url or sandbox["apns_url"]
    log.warning("apns: no credentials are set, so this speaks to the sandbox at %s: no real device gets anything", url)
    return _ApnsTarget(
        url=url,
        ca=settings.provider_ca or Path(sandbox["ca"]),
        key=Path(sandbox["apns_key"]),
        key_id=sandbox["apns_key_id"],
        team_id=sandbox["apns_team_id"],
        topic=sandbox["apns_topic"],
    )


def _receipt_url(settings: Settings, sandbox: Mapping[str, str] | None) -> str:
    """Return where devices call: the CDN's address, or whoever stands in for it."""
    ingress = f"http://{settings.http_host}:{settings.http_port}"
    return (settings.receipt_url or (sandbox or {}).get("receipt_url") or ingress).rstrip("/")
