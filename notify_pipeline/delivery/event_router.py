"""The event router: claims events that wait, decides about them, and stores what becomes of them, beside the lanes.

Belongs here: the asyncio work between the ledger's queue of events and enrichment. Does not belong here: deciding
(``event_routing``), storing (``core.ledger.event_moves``), enriching (``enrichment``).

It shares the drain's event loop with the lanes and nothing else: its ledger calls come one after the other, in a
thread. Events that are being enriched are held by leases that it extends; when the drain has to end, they are given
back.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.ledger import event_claims, event_moves
from notify_pipeline.core.ledger.event_claims import EventsWanted
from notify_pipeline.core.ledger.event_moves import Settled
from notify_pipeline.core.ledger.event_rows import EventRow
from notify_pipeline.core.ledger.limits import LimitsBook
from notify_pipeline.core.vocabulary import EventState
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.enrichment.base import Again, Enriched, Found, Stage
from notify_pipeline.delivery.enrichment.stage import open_stage
from notify_pipeline.delivery.event_routing import Routing, ToEnrich, enriched
from notify_pipeline.delivery.idling import Idling

log = logging.getLogger(__name__)

# Claimed and stored together: a transaction of some 50 ms.
_BATCH = 256
# Sends of one transaction, but for those of one event: others wait for it.
_MOST_SENDS = 1_000
# Of one tenant, being enriched or waiting for it in this process; beyond it those that need enrichment are put off, and
# those that need none go on.
_MOST_HELD = 64
# Likewise of all tenants: then only those of whom nothing is held.
_MOST_HELD_IN_ALL = 2_048
# Enrichments under way, of one tenant and in all.
_ENRICHING, _ENRICHING_IN_ALL = 16, 128
# An event that is put off comes again after so long at least, and at most.
_PUT_OFF_S = (1.0, 60.0)
# What failed begins again after this long.
_PAUSE_S = 1.0


async def run(ctx: DeliveryContext, closing: asyncio.Event) -> None:
    """Route events until ``closing``. What fails begins again; the lanes never hear of it."""
    while not closing.is_set():
        try:
            await _Router(ctx).run(closing)
        except Exception:
            log.exception("routing events failed; it begins again")
            await asyncio.sleep(_PAUSE_S)


class _Router:
    def __init__(self, ctx: DeliveryContext) -> None:
        self._ctx = ctx
        # Its own, so that what one that failed had claimed is left to its successor.
        self._owner = f"{ctx.run_id}/{new_id()}"
        self._lease_s = ctx.settings.lease_seconds
        self._limits = LimitsBook(ctx.ledger)
        self._wake = asyncio.Event()
        self._last = ""
        self._held: dict[str, EventRow] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_tenant: dict[str, asyncio.Semaphore] = {}
        self._in_all = asyncio.Semaphore(_ENRICHING_IN_ALL)
        self._answers: list[tuple[EventRow, Enriched]] = []
        self._stage: Stage | None = None

    async def run(self, closing: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            keeper = asyncio.create_task(self._keep())
            try:
                with Idling(self._ctx, self._wake) as idling:
                    while not closing.is_set():
                        if not await self._work(stack):
                            await idling.pause()
                        if keeper.done():
                            keeper.result()
            finally:
                keeper.cancel()
                await self._end()

    async def _work(self, stack: AsyncExitStack) -> bool:
        """Do what is to be done now; return False when there was nothing."""
        self._wake.clear()
        answers, self._answers = self._answers, []
        if answers:
            await asyncio.to_thread(self._store, answers)
            for row, _ in answers:
                del self._held[row.event_id]
        to_enrich = await asyncio.to_thread(self._route)
        if to_enrich is None:
            return bool(answers)
        if to_enrich and self._stage is None:
            self._stage = await stack.enter_async_context(open_stage(self._ctx))
        for each in to_enrich:
            self._held[each.row.event_id] = each.row
            task = asyncio.create_task(self._enrich(each))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    def _route(self) -> list[ToEnrich] | None:
        """Claim, decide and store a batch; return those that need enrichment, None when nothing was due."""
        ctx, now = self._ctx, self._ctx.clock()
        wanted = EventsWanted(self._owner, _BATCH, self._last)
        if not event_claims.is_due(ctx.ledger, wanted, now, self._lease_s):
            return None
        rows = event_claims.claim(ctx.ledger, wanted, now, self._lease_s)
        if not rows:
            return None
        self._last = rows[-1].tenant
        to_enrich = self._decide(rows)
        event_claims.begin_enrichment(ctx.ledger, self._owner, [each.row.event_id for each in to_enrich])
        return to_enrich

    def _decide(self, rows: Sequence[EventRow]) -> list[ToEnrich]:
        """Decide and store, a bounded number of sends at a time; return those that need enrichment."""
        ctx, sends, renewed_at = self._ctx, 0, time.monotonic()
        # Never behind what a put-off was counted from: by that it is known if the clock is set back in between.
        now = ctx.clock()
        routing = Routing(ctx.ledger, self._limits, ctx.settings.max_audience_list, rows)
        to_enrich: list[ToEnrich] = []
        settled: list[Settled] = []
        held = Counter(row.tenant for row in self._held.values())
        for row in rows:
            # Lanes run in the loop's thread: it need not wait out the interpreter's interval of 5 ms for each step.
            time.sleep(0)
            decided = routing.decide(row)
            if not isinstance(decided, ToEnrich):
                settled.append(decided)
                sends += len(decided.sends)
            elif self._has_room(held, row.tenant):
                to_enrich.append(decided)
                held[row.tenant] += 1
            else:
                now = max(now, ctx.clock())
                settled.append(_put_off(row, now))
            if sends >= _MOST_SENDS:
                event_moves.settle(ctx.ledger, self._owner, settled, max(now, ctx.clock()))
                settled, sends = [], 0
            if time.monotonic() - renewed_at > self._lease_s / 3:
                renewed_at = time.monotonic()
                event_claims.extend(ctx.ledger, self._owner, [r.event_id for r in rows], ctx.clock(), self._lease_s)
        event_moves.settle(ctx.ledger, self._owner, settled, max(now, ctx.clock()))
        return to_enrich

    def _has_room(self, held: Counter[str], tenant: str) -> bool:
        """Tell whether one more event of a tenant may be held."""
        return held[tenant] < (_MOST_HELD if held.total() < _MOST_HELD_IN_ALL else 1)

    async def _enrich(self, each: ToEnrich) -> None:
        row = each.row
        if self._stage is None:
            raise RuntimeError("the stage is opened before")
        async with self._of_tenant.setdefault(row.tenant, asyncio.Semaphore(_ENRICHING)), self._in_all:
            try:
                answer = await self._stage.enrich(each.need)
            except Exception as error:
                log.exception("enriching event %s broke", row.event_id)
                answer = Again(self._lease_s, f"internal: {type(error).__name__}")
        self._answers.append((row, answer))
        self._wake.set()

    def _store(self, answers: list[tuple[EventRow, Enriched]]) -> None:
        now = self._ctx.clock()
        settled = [_settled(row, answer, now) for row, answer in answers]
        event_moves.settle(self._ctx.ledger, self._owner, settled, now)

    async def _keep(self) -> None:
        """Extend the leases of what is being enriched."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            held = tuple(self._held)
            if held:
                ctx = self._ctx
                await asyncio.to_thread(event_claims.extend, ctx.ledger, self._owner, held, ctx.clock(), self._lease_s)

    async def _end(self) -> None:
        """Store what is known, and give back what is not."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        answers, self._answers = self._answers, []
        if answers:
            await asyncio.to_thread(self._store, answers)
        left = self._held.keys() - {row.event_id for row, _ in answers}
        await asyncio.to_thread(event_claims.give_back, self._ctx.ledger, self._owner, left)


def _put_off(row: EventRow, now: datetime) -> Settled:
    """Let an event come again when its tenant may have room."""
    # In proportion to its age, so that a backlog of any size is not gone through all the time.
    waited_s = (now - row.counts_from).total_seconds()
    wait_s = min(max(waited_s / 4, _PUT_OFF_S[0]), _PUT_OFF_S[1])
    due_at = to_micros(now) + round(wait_s * 1e6)
    return Settled(row, row.state, reason="waits for its turn to be enriched", due_at=due_at)


def _settled(row: EventRow, answer: Enriched, now: datetime) -> Settled:
    if isinstance(answer, Found):
        return enriched(row, answer)
    if isinstance(answer, Again):
        return Settled(row, row.state, reason=answer.reason, due_at=to_micros(now) + round(answer.after_s * 1e6))
    return Settled(row, EventState.DEAD, reason=answer.reason)
