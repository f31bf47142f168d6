"""Sends a notification to a user's WebSocket connections.

Belongs here: the order of things for one user, and what the answers of its connections come to. Does not belong here:
HTTP (``posting``), the ledger (``desk``), the payload (``message``).

A message is stored before anybody is called, under the delivery's id: a repetition stores nothing and is ignored by
clients that have it. It stays until the send expires, so whoever was not connected finds it by its cursor.
"""

import asyncio
import logging
from collections.abc import Sequence

import orjson
from sqlalchemy.exc import SQLAlchemyError

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ChannelSender, Clock, CredentialsRejected, Verdict
from notify_pipeline.channels.each import EachSender, NoAnswer, NotCalled
from notify_pipeline.channels.opening import Around
from notify_pipeline.channels.websocket import message
from notify_pipeline.channels.websocket.desk import Desk
from notify_pipeline.channels.websocket.message import PROVIDER, WebSocketMessage
from notify_pipeline.channels.websocket.posting import AwsPoster, OwnPoster, Poster
from notify_pipeline.core import gateway
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.connections import FOREIGN, Held
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.user_messages import NOTIFICATION, NewMessage, Stored
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform

log = logging.getLogger(__name__)

# provider_code of a user who is connected nowhere.
NOT_CONNECTED = "not_connected"
# Users at once: so many share a transaction and a look for connections.
_AT_ONCE = 256
_GONE = Verdict(Outcome.SKIPPED, NOT_CONNECTED)
# What one user's connections answered comes to the first of these that is among them.
_ORDER = (Outcome.ACCEPTED, Outcome.AMBIGUOUS, Outcome.TRANSIENT, Outcome.THROTTLED, Outcome.PERMANENT, Outcome.SKIPPED)


class WebSocketCarrier:
    """Carries notifications to connections (an ``each.Carrier``)."""

    name = Channel.WEBSOCKET
    provider = PROVIDER

    def __init__(self, desk: Desk, own: Poster, aws: Poster, clock: Clock, receipt_url: str) -> None:
        """Take the parts; ``own`` and ``aws`` post to our gateways and to API Gateway."""
        self._desk = desk
        self._own = own
        self._aws = aws
        self._clock = clock
        self._receipt_url = receipt_url

    def prepare(self, notification: Notification, platform: Platform) -> WebSocketMessage:
        """See ``ChannelSender.prepare``."""
        return message.prepare(notification, platform, self._receipt_url)

    def is_address(self, address: str) -> bool:
        """Tell whether it could be a user's id: whatever the API takes for one."""
        return bool(address)

    async def call(self, message: WebSocketMessage, recipient: Recipient, delivery_id: str) -> Verdict:
        """See ``each.Carrier``."""
        payload = message.payload(recipient, delivery_id)
        if payload is None:
            return Verdict(Outcome.PERMANENT, PAYLOAD_TOO_LARGE)
        notification = message.notification
        new = NewMessage(
            notification.tenant,
            recipient.address,
            delivery_id,
            NOTIFICATION,
            orjson.loads(payload),
            to_micros(notification.expires_at),
        )
        try:
            stored, held = await self._desk.put(new)
        except (LedgerError, SQLAlchemyError) as error:
            raise NotCalled("ledger", type(error).__name__) from None
        text = gateway.message(stored.seq, payload.decode())
        answers = await asyncio.gather(*(self._post(each, text, stored) for each in held))
        return self._together(answers, stored)

    def _together(self, answers: Sequence[Verdict | Exception], stored: Stored) -> Verdict:
        """Return what the answers of all of a user's connections come to; no connection is as one that is gone."""
        verdicts = [each for each in answers if isinstance(each, Verdict)] or [_GONE]
        if any(each.outcome is Outcome.ACCEPTED for each in verdicts):
            return Verdict(Outcome.ACCEPTED, message_id=str(stored.seq))
        for kind in (NoAnswer, NotCalled, CredentialsRejected):
            for each in answers:
                if isinstance(each, kind):
                    raise each
        return min(verdicts, key=lambda each: _ORDER.index(each.outcome))

    async def _post(self, held: Held, text: str, stored: Stored) -> Verdict | Exception:
        poster = self._aws if held.gateway == FOREIGN else self._own
        try:
            status = await poster.post(held, text, stored)
        except (NoAnswer, NotCalled, CredentialsRejected) as error:
            return error
        verdict = _classified(status)
        if verdict is _GONE:
            await self._forget(held)
        return verdict

    async def _forget(self, held: Held) -> None:
        try:
            await self._desk.remove(held)
        except (LedgerError, SQLAlchemyError) as error:
            # Whoever posts to it next is told again.
            log.warning("a connection that is gone could not be forgotten: %s", type(error).__name__)

    async def aclose(self) -> None:
        """See ``each.Carrier``."""
        await self._desk.aclose()
        await self._own.aclose()
        await self._aws.aclose()


def _classified(status: int) -> Verdict:
    """Say what an answer's status means.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
    """
    if status == 200:
        return Verdict(Outcome.ACCEPTED)
    if status == 410:
        return _GONE
    if status == 413:
        return Verdict(Outcome.PERMANENT, PAYLOAD_TOO_LARGE)
    if status == 429:
        return Verdict(Outcome.THROTTLED, "LimitExceededException")
    if status in (401, 403):
        return Verdict(Outcome.TRANSIENT, f"http_{status}", credentials=True)
    return Verdict(Outcome.TRANSIENT if status >= 500 else Outcome.PERMANENT, f"http_{status}")


async def open_websocket(around: Around) -> ChannelSender | None:
    """Open the channel: it needs nothing but the ledger, which says where users are connected; see ``Opener``."""
    settings, ledger, clock = around.settings, around.ledger, around.clock
    credentials = await asyncio.to_thread(gateway.credentials, settings, ledger)
    timeout_s = settings.request_timeout_s
    carrier = WebSocketCarrier(
        Desk(ledger, clock),
        OwnPoster(credentials, clock, timeout_s),
        AwsPoster(timeout_s),
        clock,
        around.receipt_url,
    )
    gate = await around.gate(PROVIDER, None)
    return EachSender(carrier, gate, clock, _AT_ONCE)
