"""Telling callbacks: claims messages that are due, posts them, and stores what came of it, beside the drain's lanes.

Belongs here: the asyncio work between the ledger's queue and the HTTP client. Does not belong here: queueing
(``core.ledger.callback_messages``), the client (``callback_sending``), how many at once (``callback_room``).

It shares the event loop with the lanes and nothing else: its ledger calls come one after the other, its lookups of
names have threads of their own, and when the drain has to end, it waits for no receiver.
"""

import asyncio
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from notify_pipeline.core.ids import new_id
from notify_pipeline.core.ledger import callback_claims
from notify_pipeline.core.ledger.callback_claims import Claimed, Told
from notify_pipeline.core.ledger.callbacks import shown_url
from notify_pipeline.core.vocabulary import MessageState
from notify_pipeline.delivery import callback_schedule
from notify_pipeline.delivery.callback_room import Room
from notify_pipeline.delivery.callback_schedule import Answer
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.idling import Idling

if TYPE_CHECKING:
    from notify_pipeline.delivery.callback_sending import CallbackClient

log = logging.getLogger(__name__)

# What is under way when the drain has to end gets this long; then it is broken off, and its successor sends it again.
_GRACE_S = 1.0
# What failed begins again after this long.
_PAUSE_S = 1.0
_FORGET_EVERY_S = 3_600.0


async def run(ctx: DeliveryContext, closing: asyncio.Event) -> None:
    """Tell callbacks until ``closing``. What fails begins again; the lanes never hear of it."""
    while not closing.is_set():
        try:
            await _Callbacks(ctx).run(closing)
        except Exception:
            log.exception("telling callbacks failed; it begins again")
            await asyncio.sleep(_PAUSE_S)


class _Callbacks:
    def __init__(self, ctx: DeliveryContext) -> None:
        self._ctx = ctx
        # Its own, so that what one that failed had claimed is left to its successor.
        self._owner = f"{ctx.run_id}/{new_id()}"
        # A claim outlives the attempt, so nothing has to be renewed.
        self._lease_s = ctx.settings.callback_timeout_s + ctx.settings.lease_seconds
        self._room = Room()
        self._wake = asyncio.Event()
        self._told: list[Told] = []
        self._told_any = asyncio.Event()
        self._finishing = False
        self._sends: set[asyncio.Task[None]] = set()
        self._forgot_at = time.monotonic() - _FORGET_EVERY_S

    async def run(self, closing: asyncio.Event) -> None:
        # The client's library takes a while to load: most drains have nobody to tell.
        claimed = await self._first(closing)
        if not claimed:
            return
        from notify_pipeline.delivery.callback_sending import CallbackClient

        async with CallbackClient(self._ctx.settings) as client:
            recorder = asyncio.create_task(self._record())
            try:
                self._start(client, claimed)
                await self._work(client, closing, recorder)
            finally:
                await self._end(recorder)

    async def _first(self, closing: asyncio.Event) -> list[Claimed]:
        with Idling(self._ctx, closing) as idling:
            while not closing.is_set():
                if claimed := await self._claim():
                    return claimed
                await self._forget()
                await idling.pause()
        return []

    async def _work(self, client: "CallbackClient", closing: asyncio.Event, recorder: asyncio.Task[None]) -> None:
        with Idling(self._ctx, self._wake) as idling:
            while not closing.is_set():
                if recorder.done():
                    return recorder.result()
                self._wake.clear()
                claimed = await self._claim()
                self._start(client, claimed)
                if not claimed:
                    await self._forget()
                    await idling.pause()

    async def _claim(self) -> list[Claimed]:
        ctx, now = self._ctx, self._ctx.clock()
        due = await asyncio.to_thread(callback_claims.due, ctx.ledger, self._owner, now, self._lease_s)
        shares = self._room.share(due, time.monotonic())
        if not shares:
            return []
        return await asyncio.to_thread(callback_claims.claim, ctx.ledger, self._owner, shares, now, self._lease_s)

    def _start(self, client: "CallbackClient", claimed: list[Claimed]) -> None:
        for each in claimed:
            self._room.begin(each)
            task = asyncio.create_task(self._send(client, each))
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)

    async def _send(self, client: "CallbackClient", claimed: Claimed) -> None:
        began = time.monotonic()
        try:
            answer = await client.send(claimed, self._ctx.clock())
        except asyncio.CancelledError:
            self._note(Told(claimed, MessageState.WAITING, counts=False))
            raise
        except Exception as error:
            # Not its words: they may hold the URL, and with it somebody's token.
            log.error("telling %s broke with %s", shown_url(claimed.url), type(error).__name__)
            answer = Answer(error="internal")
        ended, settings = time.monotonic(), self._ctx.settings
        held_until = ended + (answer.retry_after_s or 0.0) if answer.asks_for_a_pause else 0.0
        self._room.answered(claimed, answer.is_success, ended - began, held_until)
        base_s, draw = settings.callback_retry_base_s, self._ctx.draw
        self._note(callback_schedule.told(claimed, answer, base_s, draw, self._ctx.clock()))

    def _note(self, told: Told) -> None:
        self._told.append(told)
        self._told_any.set()

    async def _record(self) -> None:
        """Store what came of attempts, together whatever has come meanwhile."""
        while not self._finishing or self._told:
            await self._told_any.wait()
            self._told_any.clear()
            await self._store()
            self._wake.set()

    async def _store(self) -> None:
        told, self._told = self._told, []
        try:
            await asyncio.to_thread(callback_claims.record, self._ctx.ledger, told, self._ctx.clock())
        except Exception:
            self._told = [*told, *self._told]
            raise
        for each in told:
            self._room.end(each.claimed)

    async def _end(self, recorder: asyncio.Task[None]) -> None:
        if self._sends:
            await asyncio.wait(self._sends, timeout=_GRACE_S)
        for task in self._sends:
            task.cancel()
        if self._sends:
            await asyncio.wait(self._sends)
        self._finishing = True
        self._told_any.set()
        await asyncio.wait([recorder])
        # Nothing is left unless the recorder failed; then this is a last try, and after it the leases run out.
        await self._store()

    async def _forget(self) -> None:
        now = time.monotonic()
        if now - self._forgot_at >= _FORGET_EVERY_S:
            self._forgot_at = now
            before = self._ctx.clock() - timedelta(days=self._ctx.settings.callback_history_days)
            await asyncio.to_thread(callback_claims.forget, self._ctx.ledger, before)
