"""One channel's lane of the drain: claims its deliveries, sends them, and stores their outcomes as they come.

Belongs here: the asyncio work between the queue and one sender. Does not belong here: filling the queue
(``drain_planner``), starting and stopping lanes (``drain``).

Lanes share nothing but the ledger, so what happens to one channel does not delay another.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from notify_pipeline.channels.base import TTL, ChannelSender, ContentRejected, Message
from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.ledger import deliveries, fair
from notify_pipeline.core.ledger.deliveries import Claimed, Ended, Settlement
from notify_pipeline.core.ledger.fair import Wanted
from notify_pipeline.core.records import AttemptResult, Notification
from notify_pipeline.core.vocabulary import Outcome, Platform
from notify_pipeline.delivery import attempts, dead_letters, notifications, recording, tokens
from notify_pipeline.delivery.claims import Claims, Together
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.drain_recovery import Recovery
from notify_pipeline.delivery.idling import Idling
from notify_pipeline.delivery.notifications import Messages
from notify_pipeline.delivery.patience import patiently
from notify_pipeline.delivery.planning import recipient_of
from notify_pipeline.delivery.retry import Again, RetryPolicy
from notify_pipeline.delivery.retry_policies import RetryPolicies
from notify_pipeline.delivery.scheduling import Schedules
from notify_pipeline.delivery.tokens import DropGuard

log = logging.getLogger(__name__)

# Claiming for less than this part of a batch would mean a transaction for a handful, while the rest is being sent.
_LEAST_ROOM = 8


class _Result(NamedTuple):
    claimed: Claimed
    notification: Notification
    result: AttemptResult


class Lane:
    """Claims, sends and stores for one channel. Use it in one event loop."""

    def __init__(self, ctx: DeliveryContext, sender: ChannelSender, schedules: Schedules) -> None:
        self._ctx = ctx
        self._sender = sender
        self.channel = sender.name
        # Its own, so that what a lane that failed had claimed is not renewed with its successor's claims.
        self._owner = f"{ctx.run_id}/{new_id()}"
        self._policies = RetryPolicies(ctx.ledger, self.channel, RetryPolicy.of(ctx.settings, ctx.draw))
        self._claims = Claims(ctx, self.channel, self._owner, schedules)
        self._messages = Messages(sender)
        self._guards: dict[str, DropGuard] = {}
        self._results: list[_Result] = []
        self._results_ready = asyncio.Event()
        self._sends: set[asyncio.Task[None]] = set()
        self._finishing, self._is_closing = False, lambda: False
        self._renewed_at = time.monotonic()
        self._least_room = max(1, ctx.settings.drain_batch // _LEAST_ROOM)
        self.wake = asyncio.Event()
        self.in_flight = 0
        self.outcomes: Counter[str] = Counter()
        self.late = 0
        self.recovered = 0
        # When it last began a look for work that found none, by the monotonic clock.
        self.looked_at = 0.0

    async def run(self, closing: asyncio.Event) -> None:
        """Work until ``closing``, then let what is under way end and be stored."""
        self._is_closing = closing.is_set
        with Idling(self._ctx, self.wake) as idling:
            await self._work(closing, idling)

    async def _work(self, closing: asyncio.Event, idling: Idling) -> None:
        failed: Exception | None = None
        async with asyncio.TaskGroup() as group:
            recovery = Recovery(self._ctx, self.channel, self._owner, self._decide_taken_over, self._taken_over)
            helpers = [group.create_task(self._keep()), group.create_task(recovery.run())]
            recorder = group.create_task(self._record())
            try:
                await self._start_what_is_due(group, closing, idling)
            except Exception as error:
                # Whoever was called was called: that is stored before this lane ends and another one begins.
                failed = error
            await self._end_sends()
            self._finishing = True
            self._results_ready.set()
            await recorder
            for helper in helpers:
                helper.cancel()
        if failed is not None:
            raise failed

    async def _start_what_is_due(self, group: asyncio.TaskGroup, closing: asyncio.Event, idling: Idling) -> None:
        while not closing.is_set():
            woken = self.wake.is_set()
            self.wake.clear()
            begun, wanted = time.monotonic(), self._wanted()
            # What is claimed while the provider has asked for a pause comes back unsent: an attempt for nothing.
            may_claim = wanted.lowest >= 0 and self._sender.held_for_s <= 0
            claimed = await asyncio.to_thread(self._claims.take, wanted, woken) if may_claim else []
            if claimed:
                self._start(group, claimed)
            else:
                self.looked_at = begun
                await idling.pause()

    async def _end_sends(self) -> None:
        if self._sends:
            await asyncio.wait(self._sends, timeout=self._ctx.settings.request_timeout_s)
        for task in self._sends:
            task.cancel()
        if self._sends:
            await asyncio.wait(self._sends)

    def _wanted(self) -> Wanted:
        """What is in flight may be slow; so that high priority need not wait for it, lower ones leave it room."""
        settings = self._ctx.settings
        return Wanted(
            fair.rooms(settings.drain_batch, settings.priority_reserve, self.in_flight, self._least_room),
            self._claims.turns,
        )

    def _start(self, group: asyncio.TaskGroup, together: Sequence[Together]) -> None:
        for part in together:
            self.in_flight += len(part.claims)
            if part.skip is not None:
                self._all(part.claims, part.notification, Outcome.SKIPPED, part.skip)
                continue
            task = group.create_task(self._send(part.claims, part.notification))
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)

    async def _send(self, claims: Sequence[Claimed], notification: Notification) -> None:
        platform = Platform(claims[0].platform)
        if time.monotonic() - self._renewed_at > self._ctx.settings.lease_seconds:
            # Somebody may be sending these already. If nobody is, this releases them to be tried again.
            return self._all(claims, notification, Outcome.TRANSIENT, attempts.LAPSED)
        if self._ctx.clock() >= notification.expires_at:
            return self._all(claims, notification, Outcome.EXPIRED, TTL)
        try:
            message = self._messages.get(notification, platform)
        except ContentRejected as rejected:
            log.error("%s cannot send request %s: %s", self.channel, notification.request_id, rejected)
            return self._all(claims, notification, Outcome.PERMANENT, rejected.code)
        except Exception:
            # One send that breaks the channel's code must not stop the channel for the others.
            log.exception("%s cannot prepare request %s", self.channel, notification.request_id)
            return self._all(claims, notification, Outcome.TRANSIENT, attempts.NOT_PREPARED)
        await self._call(message, claims, notification)

    async def _call(self, message: Message, claims: Sequence[Claimed], notification: Notification) -> None:
        recipients = [recipient_of(each.address, each.platform, each.recipient) for each in claims]
        open_ = dict(enumerate(claims))

        def report(index: int, result: AttemptResult) -> None:
            self._ended(_Result(open_.pop(index), notification, result))

        try:
            await self._sender.send(message, recipients, [each.delivery_id for each in claims], report)
        except asyncio.CancelledError:
            # By the sender's contract nobody who is still open was called.
            self._all(list(open_.values()), notification, Outcome.TRANSIENT, attempts.STOPPED)
            raise
        except Exception:
            log.exception("%s failed on request %s", self.channel, notification.request_id)
        if open_:
            log.error("%s reported nothing for %d recipients", self.channel, len(open_))
            self._all(list(open_.values()), notification, Outcome.AMBIGUOUS, attempts.SENDER_FAILED)

    def _all(self, claims: Sequence[Claimed], notification: Notification, outcome: Outcome, code: str) -> None:
        now = to_micros(self._ctx.clock())
        result = AttemptResult(outcome, code, now, None if outcome is Outcome.AMBIGUOUS else now)
        for each in claims:
            self._ended(_Result(each, notification, result))

    def _ended(self, result: _Result) -> None:
        self._results.append(result)
        self._results_ready.set()

    async def _record(self) -> None:
        """Store whatever has ended since the last transaction began, as long as there is anything to come."""
        while True:
            await self._results_ready.wait()
            self._results_ready.clear()
            batch, self._results = self._results, []
            if batch:
                await self._store(batch)
                self.in_flight -= len(batch)
                self.wake.set()
            if self._finishing and not self._results:
                return

    async def _store(self, batch: Sequence[_Result]) -> None:
        undecided = {each.notification.tenant for each in batch if each.result.outcome.is_retryable}
        if undecided and self._policies.stale(undecided):
            await asyncio.to_thread(self._policies.refresh, undecided)
        now = to_micros(self._ctx.clock())
        ended = [self._decided(each, now) for each in batch]
        # First: should we die in between, whoever takes over asks again, and hears it again.
        try:
            await self._drop_tokens(batch)
        except Exception:
            log.exception("%s: dead tokens stay until a send finds them again", self.channel)
        settlement = await self._settle(ended)
        self.late += len(settlement.late)
        if settlement.late:
            log.warning("%s: %d outcomes came after their lease was taken over", self.channel, len(settlement.late))
        self.outcomes.update(each.outcome.value for each in ended)

    async def _settle(self, ended: Sequence[Ended]) -> Settlement:
        """Store, again where the ledger is away: a settlement that was stored already changes nothing."""
        ctx, channel = self._ctx, self.channel.value

        def settle(some: Sequence[Ended]) -> Settlement:
            return deliveries.settle(ctx.ledger, channel, some, ctx.clock())

        async def store() -> Settlement:
            return await asyncio.to_thread(recording.settle_apart, settle, ended)

        what = f"{channel}: {len(ended)} outcomes"
        return await patiently(store, ctx.settings.lease_seconds, what, self._is_closing)

    def _decided(self, ended: _Result, now: int) -> Ended:
        try:
            return self._decide(*ended, now, self._ctx.run_id)
        except Exception:
            log.exception("what follows delivery %s cannot be decided; it ends", ended.claimed.delivery_id)
        result, provider = recording.unknown(ended.claimed.intended_at), self._sender.provider
        row = attempts.of_claim(ended.notification, self.channel, provider, ended.claimed, result, self._ctx.run_id)
        return recording.without_outcome(Ended(ended.claimed, result.outcome, None, row))

    def _decide(
        self, claimed: Claimed, notification: Notification, result: AttemptResult, now: int, run_id: str
    ) -> Ended:
        decision = self._policies.of(notification.tenant).after(
            result.outcome, claimed.attempt_no, now, notifications.wishes(notification), result.retry_after_s
        )
        row = attempts.of_claim(notification, self.channel, self._sender.provider, claimed, result, run_id)
        if isinstance(decision, Again):
            return Ended(claimed, result.outcome, decision.due_at, row, decided_at=now)
        reason = None if decision.reason is None else decision.reason.value
        return Ended(claimed, result.outcome, None, row, reason, dead_letters.of_claim(claimed, result, decision))

    async def _drop_tokens(self, batch: Sequence[_Result]) -> None:
        by_tenant: dict[str, list[_Result]] = {}
        for each in batch:
            if tokens.is_answer(each.result):
                by_tenant.setdefault(each.notification.tenant, []).append(each)
        for tenant, answers in by_tenant.items():
            guard = self._guards.setdefault(tenant, DropGuard(self._ctx.settings, whole_send=False))
            was = guard.stopped
            dead = [
                tokens.drop_of(e.notification.notification_id, e.claimed.address, e.result)
                for e in answers
                if e.result.drop_token
            ]
            drops = guard.admit(len(answers), dead)
            ledger, now = self._ctx.ledger, self._ctx.clock()
            if guard.stopped and not was:
                about = answers[-1].notification
                await asyncio.to_thread(tokens.report_stop, ledger, guard, self._sender.provider, about, now)
            if drops:
                await asyncio.to_thread(tokens.drop, ledger, tenant, self.channel, drops, now)

    async def _keep(self) -> None:
        """Extend the leases on what is in flight."""
        ctx, channel, lease_s = self._ctx, self.channel.value, self._ctx.settings.lease_seconds
        while True:
            await asyncio.sleep(lease_s / 3)
            began, now = time.monotonic(), ctx.clock()
            if not self.in_flight:  # what is being claimed just now has a lease as new as this
                self._renewed_at = began
                continue
            try:
                await asyncio.to_thread(deliveries.renew, ctx.ledger, channel, self._owner, now, lease_s)
            except Exception:
                # Nothing more is sent once the leases may have run out.
                log.exception("%s: leases were not extended", self.channel)
            else:
                self._renewed_at = began

    def _decide_taken_over(
        self, claimed: Claimed, notification: Notification, result: AttemptResult, now: int, run_id: str
    ) -> Ended:
        """Like ``_decide``, outside the event loop."""
        self._policies.refresh((notification.tenant,))
        return self._decide(claimed, notification, result, now, run_id)

    def _taken_over(self, number: int) -> None:
        self.recovered += number
        self.wake.set()
