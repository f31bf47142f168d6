"""Asking providers whether a device token is good: a message that they validate and show to nobody.

Belongs here: how often, how many at once and how long a provider is asked. Does not belong here: a provider's language
(``channels``), what its answer says of a token (``judging``), HTTP (``server``).

Sends come first. A check passes the gate that they pass, with the lowest priority; while the provider has asked for a
pause it is not even tried. A check that cannot be made at once is not made: whoever asks goes on without it.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from notify_pipeline.channels.base import ChannelSender, Clock
from notify_pipeline.core.ids import DeliveryIds, new_id
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.records import AttemptResult, Audience, Content, Notification, Recipient
from notify_pipeline.core.token_desk import TokenState
from notify_pipeline.core.vocabulary import Channel, Platform, Priority
from notify_pipeline.delivery.token_desk.judging import judge
from notify_pipeline.delivery.token_desk.memory import Memory

log = logging.getLogger(__name__)

# Calls at once. With a provider that answers in 100 ms that is 320 a second: 3 % of FCM's quota, whoever floods us.
AT_ONCE = 32
# After so many checks in a row without an answer in time, nobody waits for the provider for a while.
_SLOW = 3
_LATE = 0.5  # of the time that a check may take
REST_S = 5.0
# Why nothing is known, where no provider spoke.
NOT_OPEN, HELD, RESTING, BUSY, TIMEOUT, NO_LEDGER = "not_open", "held", "resting", "busy", "timeout", "ledger"
# What a check is called in its payload; no tenant and no notification has this name.
_TENANT = "token-desk"
_LIFE = timedelta(minutes=1)


class Desk:
    """Checks tokens of one channel. Use it in one event loop.

    Attributes:
        sender: What the channel is asked through; None while it is not open.
    """

    def __init__(self, limit_s: float, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Take the parts.

        Args:
            limit_s: How long one check may take.
            clock: Tells the time.
            monotonic: Tells seconds that pass.
        """
        self.sender: ChannelSender | None = None
        self._limit_s = limit_s
        self._clock = clock
        self._monotonic = monotonic
        self._memory = Memory(monotonic)
        self._under_way: dict[bytes, asyncio.Task[TokenState]] = {}
        self._secret = secrets.token_bytes(32)  # delivery ids that nobody takes for a delivery's
        self._slow = 0
        self._rests_until = 0.0

    async def check(self, platform: Platform, token: str, anew: bool = False) -> TokenState:
        """Return what the platform's provider says of a token.

        Who asks about a token that is asked about already gets the same answer.

        Args:
            platform: One of the sender's channel's; of others nothing is known.
            token: The device token.
            anew: It has been found dead since it may have been found good.
        """
        digest = hashlib.blake2b(f"{platform.channel}:{token}".encode(), digest_size=16).digest()
        known = self._memory.get(digest)
        if known is not None and not (anew and known.is_valid):
            return known
        under_way = self._under_way.get(digest)
        if under_way is None:
            sender = self.sender
            if sender is None or sender.name is not platform.channel:
                return TokenState(None, NOT_OPEN)
            if (why := self._hindrance(sender)) is not None:
                return TokenState(None, why)
            under_way = asyncio.create_task(self._find_out(sender, platform, token, digest))
            self._under_way[digest] = under_way
        # Shielded: whoever else waits for it must not suffer from this caller's end.
        return await asyncio.shield(under_way)

    async def ended(self) -> None:
        """Wait for what is under way, which is not long."""
        if self._under_way:
            await asyncio.wait(self._under_way.values())

    def _hindrance(self, sender: ChannelSender) -> str | None:
        if sender.held_for_s > 0:
            return HELD
        if self._monotonic() < self._rests_until:
            return RESTING
        return BUSY if len(self._under_way) >= AT_ONCE else None

    async def _find_out(self, sender: ChannelSender, platform: Platform, token: str, digest: bytes) -> TokenState:
        try:
            state = await self._ask(sender, platform, token)
            self._memory.put(digest, state)
            return state
        finally:
            del self._under_way[digest]

    async def _ask(self, sender: ChannelSender, platform: Platform, token: str) -> TokenState:
        began = self._monotonic()
        message = sender.prepare(_harmless(self._clock()), platform)
        ids = DeliveryIds(self._secret, _TENANT, message.notification.notification_id, sender.name)
        results: list[AttemptResult] = []
        why = TIMEOUT
        try:
            # For all of it: the transport's own time-out does not count the wait for the gate and for credentials.
            async with asyncio.timeout(self._limit_s):
                await sender.send(
                    message, [Recipient(token, platform)], [ids.of(token)], lambda _, result: results.append(result)
                )
        except TimeoutError:
            pass
        except (LedgerError, SQLAlchemyError) as error:  # the gate's
            log.warning("a token could not be checked: %s", type(error).__name__)
            why = NO_LEDGER
        state = judge(results[0]) if results else TokenState(None, why)
        # What comes to nothing at once costs nobody anything; what comes to nothing late does.
        self._count(is_slow=state.is_valid is None and self._monotonic() - began >= self._limit_s * _LATE)
        return state

    def _count(self, is_slow: bool) -> None:
        if not is_slow and self._slow >= _SLOW:
            log.warning("the provider answers in time again")
        self._slow = self._slow + 1 if is_slow else 0
        if self._slow >= _SLOW:
            if self._slow == _SLOW:
                log.warning("the provider answers too late: tokens are checked only now and then until it is back")
            self._rests_until = self._monotonic() + REST_S


def _harmless(now: datetime) -> Notification:
    """Return a dry run of nothing: no title, no text. If a provider did deliver it, nothing would be shown."""
    return Notification(
        tenant=_TENANT,
        request_id=_TENANT,
        notification_id=new_id(),
        type=_TENANT,
        audience=Audience(),
        content=Content(),
        accepted_at=now,
        expires_at=now + _LIFE,
        priority=Priority.LOW,
        channels=frozenset({Channel.FCM}),
        retry=False,
        dry_run=True,
    )
