"""The drain's planner: claims accepted requests, finds their recipients, and stores what is to become of them.

Belongs here: the asyncio loop around planning. Does not belong here: the plans themselves (``planning``), sending
(``drain_lane``).

Sends to users and devices are planned at once, many together. Sends to topics, domains or everyone wait beside them for
registrations that were accepted before them to land in the lake, and for their scan.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from notify_pipeline.core.ledger import fair, routing
from notify_pipeline.core.ledger.fair import Wanted
from notify_pipeline.core.ledger.limits import LimitsBook
from notify_pipeline.core.ledger.plans import Plan
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.records import Notification
from notify_pipeline.core.turnstile import Turnstile
from notify_pipeline.core.vocabulary import Channel
from notify_pipeline.delivery import audience, consenting, domain_sends, inbox_items, notifications, planning
from notify_pipeline.delivery.audience import AudienceReader
from notify_pipeline.delivery.consenting import Ruling
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.domain_sends import DOMAIN_DISABLED
from notify_pipeline.delivery.idling import Idling
from notify_pipeline.delivery.known import Known, find_known, wanted_channels
from notify_pipeline.delivery.planning import Rules
from notify_pipeline.delivery.scheduling import Schedules

log = logging.getLogger(__name__)

# Requests of one claim: enough for thousands a second, few enough that a crash delays them by one lease only.
_CLAIM = 256
# Sends claimed and not planned yet, at once; more wait in the ledger, where higher priority overtakes them.
_HELD_SENDS = 512
# Recipients named by the sends of one transaction, and what a send costs besides them, in recipients: a few tens of
# milliseconds. Between two transactions, sends of higher priority come first.
_PIECE = 2_000
_SEND = 32
# Scans under way once one of that rank begins: each uses every core and a few hundred megabytes, and one of high
# priority does not wait for others that may take seconds.
_SCANS = (3, 2, 2)
_LANDING_POLL_S = 0.05
_NAMED = ("users", "devices", "emails", "phones", "visitors")
# A send whose registrations do not land is tried again after this long.
_POSTPONE_S = 5.0


class Planner:
    """Plans what is accepted. Use it in one event loop.

    Args:
        ctx: The run's surroundings.
        channels: Those that have a sender.
        wake_lanes: Called with the channels that deliveries were queued for.
        schedules: Finds what applies to whom.
    """

    def __init__(
        self,
        ctx: DeliveryContext,
        channels: frozenset[Channel],
        wake_lanes: Callable[[Collection[str]], None],
        schedules: Schedules,
    ) -> None:
        self._ctx = ctx
        self._schedules = schedules
        self._rules = Rules(channels, ctx.settings.inline_limit, ctx.delivery_secret, ctx.run_id)
        self._reader = AudienceReader(ctx.lake, ctx.ledger)
        self._limits = LimitsBook(ctx.ledger)
        self._wake_lanes = wake_lanes
        self._scans = Turnstile(_SCANS)
        self._turns: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: set[str] = set()
        self.planned = 0
        # When it last began a look for work that found none, by the monotonic clock.
        self.looked_at = 0.0

    @property
    def is_busy(self) -> bool:
        """True while a claimed request is not planned yet."""
        return bool(self._held)

    async def run(self, closing: asyncio.Event) -> None:
        """Plan until ``closing``; sends that still wait then are left to the next drain."""
        with Idling(self._ctx, closing) as idling:
            await self._work(closing, idling)

    async def _work(self, closing: asyncio.Event, idling: Idling) -> None:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._keep())
            while not closing.is_set():
                begun = time.monotonic()
                if not await self._plan_next(group, self._rooms()):
                    self.looked_at = begun
                    await idling.pause()
            held = sorted(self._held)
            for task in (keeper, *self._tasks):
                task.cancel()
        # A scan whose thread ran on may have stored its plan meanwhile; then there is nothing to give back.
        await asyncio.to_thread(routing.release, self._ctx.ledger, self._ctx.owner, held)

    def _rooms(self) -> tuple[int, ...]:
        free = fair.rooms(_HELD_SENDS, self._ctx.settings.priority_reserve, len(self._held))
        return tuple(min(room, _CLAIM) for room in free)

    async def _plan_next(self, group: asyncio.TaskGroup, rooms: tuple[int, ...]) -> bool:
        """Claim what there is room for, and plan it a piece at a time; False where nothing was due."""
        rows = await asyncio.to_thread(self._claim, Wanted(rooms, self._turns))
        self._turns.update((row.priority.rank, row.tenant) for row in rows)
        waiting = {row.request_id for row in rows}
        self._held |= waiting
        try:
            for number, piece in enumerate(pieces := _pieces(rows)):
                ahead = piece[0].priority.rank
                if number and ahead:
                    await self._plan_next(group, (*self._rooms()[:ahead], *(0,) * (len(rooms) - ahead)))
                waiting -= await self._plan_piece(group, piece)
        finally:
            self._held -= waiting
        return bool(pieces)

    def _claim(self, wanted: Wanted) -> list[RequestRow]:
        ctx, now = self._ctx, self._ctx.clock()
        if wanted.lowest < 0 or not routing.is_due(ctx.ledger, now, wanted):
            return []
        return routing.claim(ctx.ledger, ctx.owner, now, ctx.settings.lease_seconds, wanted)

    async def _plan_piece(self, group: asyncio.TaskGroup, rows: Sequence[RequestRow]) -> set[str]:
        """Store the plans of those that the ledger knows the recipients of; return the others, which go on waiting."""
        now = self._ctx.clock()
        plans: list[Plan] = []
        named: list[Notification] = []
        counted_out: list[Notification] = []
        for row in rows:
            plan = planning.without_recipients(row, now)
            if plan is not None:
                plans.append(plan)
                continue
            try:
                notification = notifications.parse(row)
            except (KeyError, TypeError, ValueError) as error:
                log.exception("request %s cannot be read", row.request_id)
                plans.append(planning.unreadable(row, error))
                continue
            (counted_out if notification.audience.is_counted_out else named).append(notification)
        queued = await asyncio.to_thread(self._store_named, plans, named)
        self._held.difference_update([*(plan.request_id for plan in plans), *(n.request_id for n in named)])
        self._wake_lanes(queued)
        if counted_out:
            task = group.create_task(self._plan_counted_out(counted_out))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return {n.request_id for n in counted_out}

    def _store_named(self, plans: list[Plan], named: Sequence[Notification]) -> set[str]:
        now = self._ctx.clock()
        open_, unwanted = self._open(named)
        known = find_known(self._ctx.ledger, open_)
        self._schedules.look(open_)
        return self._store([*plans, *unwanted, *self._plan([(n, known[n.request_id]) for n in open_], now)])

    def _open(self, sends: Sequence[Notification]) -> tuple[Sequence[Notification], list[Plan]]:
        """Return the sends that are wanted, and the plans of those to a domain that was disabled meanwhile."""
        gone = domain_sends.disabled(self._ctx.ledger, sends)
        if not gone:
            return sends, []
        plans = [planning.cancelled(n, DOMAIN_DISABLED) for n in sends if n.request_id in gone]
        return [n for n in sends if n.request_id not in gone], plans

    def _plan(self, named: Sequence[tuple[Notification, Known]], now: datetime) -> list[Plan]:
        of_tenants = self._schedules.consents(notification for notification, _ in named)
        rulings: Sequence[Sequence[Ruling] | None] = [None] * len(named)
        if of_tenants:
            with self._ctx.ledger.read() as conn:
                rulings = consenting.rule(conn, [(n, known.recipients) for n, known in named], of_tenants)
        return [
            inbox_items.plan(n, known, self._rules, now, self._schedules.find(n, known.recipients), ruling)
            for (n, known), ruling in zip(named, rulings, strict=True)
        ]

    def _store(self, plans: Sequence[Plan]) -> set[str]:
        """Store plans; return the channels that they queue deliveries for."""
        ctx, limits = self._ctx, self._limits.all()
        self.planned += sum(routing.store(ctx.ledger, ctx.owner, plans, ctx.clock(), limits))
        return {each.channel for plan in plans for each in plan.deliveries}

    async def _plan_counted_out(self, waiting: Sequence[Notification]) -> None:
        ids = [notification.request_id for notification in waiting]
        try:
            if not await self._landed():
                reason = (
                    f"registrations accepted before it had not landed after {self._ctx.settings.landing_wait_s:g} s"
                )
                log.error("%d sends wait: %s; is the lander running?", len(ids), reason)
                await asyncio.to_thread(self._postpone, ids, reason)
                return
            async with asyncio.TaskGroup() as scans:
                for notification in waiting:
                    scans.create_task(self._plan_one(notification))
        finally:
            self._held.difference_update(ids)

    async def _plan_one(self, notification: Notification) -> None:
        async with self._scans.passed(notification.priority.rank, notification.tenant):
            queued: set[str] = set()
            try:
                queued = await asyncio.to_thread(self._plan_one_blocking, notification)
            except Exception as error:
                # One unreadable file must not stop the drain for everybody. The request stays accepted and comes again.
                log.exception("the audience of request %s cannot be found", notification.request_id)
                reason = f"its audience cannot be found: {type(error).__name__}"
                await asyncio.to_thread(self._postpone, [notification.request_id], reason)
        self._held.discard(notification.request_id)
        self._wake_lanes(queued)

    def _plan_one_blocking(self, notification: Notification) -> set[str]:
        _, unwanted = self._open([notification])
        if unwanted:
            return self._store(unwanted)
        asked = self._reader.find(notification.tenant, notification.audience)
        wanted = wanted_channels(notification)
        found = planning.find_counted_out(asked, wanted, self._ctx.settings.inline_limit)
        now = self._ctx.clock()
        if found is None:
            return self._store([planning.broadcast(notification, (), self._rules, now)])
        return self._store(self._plan([(notification, Known(found))], now))

    async def _landed(self) -> bool:
        """Wait until every registration committed by now has landed; False when that takes too long."""
        mark = await asyncio.to_thread(audience.high_water, self._ctx.ledger)
        deadline = time.monotonic() + self._ctx.settings.landing_wait_s
        while not await asyncio.to_thread(audience.has_landed, self._ctx.ledger, mark):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_LANDING_POLL_S)
        return True

    def _postpone(self, ids: Sequence[str], reason: str) -> None:
        routing.postpone(self._ctx.ledger, self._ctx.owner, ids, reason, self._ctx.clock(), _POSTPONE_S)

    async def _keep(self) -> None:
        """Extend the leases on sends that wait."""
        while True:
            await asyncio.sleep(self._ctx.settings.lease_seconds / 3)
            ids = sorted(self._held)
            now, lease_s = self._ctx.clock(), self._ctx.settings.lease_seconds
            await asyncio.to_thread(routing.renew, self._ctx.ledger, self._ctx.owner, ids, now, lease_s)


def _pieces(rows: Sequence[RequestRow]) -> list[list[RequestRow]]:
    """Cut claimed rows into runs that name few recipients together."""
    pieces: list[list[RequestRow]] = []
    room = 0
    for row in rows:
        # As stored; whether they are what they should be is seen when the row is parsed.
        named = sum(len(found) for kind in _NAMED if isinstance(found := row.body.get(kind), list))
        if not pieces or named + _SEND > room:
            pieces.append([])
            room = _PIECE
        pieces[-1].append(row)
        room -= named + _SEND
    return pieces
