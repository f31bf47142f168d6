"""A broadcast's recipients, fixed once: the audience streamed into shard files, then made the request's in one step.

Belongs here: how many shards there are, and making them the request's. Does not belong here: finding the audience
(``audience``, ``known``), who is due when (``assigning``), writing files (``shard_writer``), sending (``shard``).

A part is what one process sends at a time: a shard of each channel. All parts are filled at once, a row group at a time
in turn, so that they are equal in every channel without anybody knowing how many recipients there will be.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import broadcasts, routing, shards
from notify_pipeline.core.ledger.limits import LimitsBook
from notify_pipeline.core.ledger.planned_items import InboxPart
from notify_pipeline.core.ledger.shards import ShardRow
from notify_pipeline.core.records import Notification
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Platform, RequestState
from notify_pipeline.delivery import audience, domain_sends, inbox_items, notifications, planning
from notify_pipeline.delivery.assigning import Assigner
from notify_pipeline.delivery.audience import AudienceReader
from notify_pipeline.delivery.audience_base import PROFILE
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.domain_sends import DOMAIN_DISABLED
from notify_pipeline.delivery.known import Known, find_known
from notify_pipeline.delivery.scheduling import Schedules
from notify_pipeline.delivery.shard_writer import ShardWriter
from notify_pipeline.delivery.timing import AT_ONCE, Slot

log = logging.getLogger(__name__)

_FRAME_SCHEMA = pl.Schema(dict.fromkeys((*PROFILE, "fields"), pl.String()))


@dataclass(frozen=True, slots=True)
class ShardRef:
    """One shard of a broadcast, for whoever sends it; those of one ``part`` are sent by one process, side by side.

    ``due_at`` is in microseconds since the epoch, None means at once.
    """

    shard: int
    part: int
    channel: str
    recipients: int
    due_at: int | None = None
    done: bool = False

    def is_open(self, now: datetime) -> bool:
        """Tell whether it is due and not done."""
        return not self.done and (self.due_at is None or self.due_at <= to_micros(now))


def snapshot(ctx: DeliveryContext, request_id: str) -> list[ShardRef]:
    """Fix who gets a broadcast, unless that was done before; return its shards.

    A process that dies on the way leaves files that nothing names. Files carry the execution's own name, so that two
    executions never write the same one; whose shards count is decided by the ledger, once.

    Raises:
        KeyError: There is no such request.
        HeldBy: Another process is at it.
        NotLanded: Registrations accepted before the send are not in the lake yet; try again.
        ValueError: The request is no broadcast, or not yet routed.
    """
    found = routing.load(ctx.ledger, [request_id])
    if not found:
        raise KeyError(request_id)
    state = found[0].state
    if state is RequestState.ROUTED:
        _write(ctx, notifications.parse(found[0]))
    elif state is not RequestState.SENDING and not state.is_final:
        raise ValueError(f"request {request_id} is {state}: it is not routed yet")
    return _refs(shards.shards(ctx.ledger, request_id))


def _refs(rows: Sequence[ShardRow]) -> list[ShardRef]:
    begun: Counter[tuple[Slot, str]] = Counter()  # a channel's shards that are due together are in different parts
    parts: dict[tuple[Slot, int], int] = {}
    refs = []
    for row in rows:
        slot = Slot(row.due_at, row.expires_at, row.skip)
        part = parts.setdefault((slot, begun[slot, row.channel]), len(parts))
        begun[slot, row.channel] += 1
        refs.append(ShardRef(row.shard, part, row.channel, row.recipients, row.due_at, row.done_at is not None))
    return refs


def part_count(settings: Settings, at_least: int) -> int:
    """Return how many parts to cut an audience into.

    One for each process, because they are equal and all done at the same time; fewer where a part would have less than
    ``shard_min`` recipients and so be mostly overhead, more where it would have more than ``shard_max``.

    Args:
        settings: The configuration.
        at_least: How many recipients are known of; there may be more.
    """
    per_process = min(settings.broadcast_processes, at_least // settings.shard_min)
    return max(1, per_process, -(-at_least // settings.shard_max))


def _write(ctx: DeliveryContext, notification: Notification) -> None:
    request_id = notification.request_id
    with _held(ctx, request_id):
        if (end := _unsent(ctx, notification)) is not None:
            broadcasts.end_unsent(ctx.ledger, request_id, *end, ctx.clock())
            return
        known = None if notification.audience.is_counted_out else _known(ctx, notification)
        at_least, frames = _counted_out(ctx, notification) if known is None else _named(known)
        schedule = (schedules := Schedules(ctx.ledger)).without_users(notification)
        asked = schedules.consents([notification])
        assigner = None if schedule is None else Assigner(ctx.ledger, schedule, ctx.clock(), asked)
        with ShardWriter(ctx, notification, part_count(ctx.settings, at_least)) as writer:
            for frame in frames:
                for slot, part in [(AT_ONCE, frame)] if assigner is None else assigner.split(frame):
                    writer.add(part, slot)
            writer.finish()
        rows = writer.rows()
        now = ctx.clock()
        audiences = planning.audiences_rows(notification, writer.sizes, to_micros(now))
        limits = LimitsBook(ctx.ledger).of(notification.tenant)
        left = InboxPart() if known is None else inbox_items.of_broadcast(ctx, notification, known, now)
        won = broadcasts.start(ctx.ledger, broadcasts.Snapshot(request_id, rows, audiences, now, limits, left))
    if not won:
        log.warning("request %s is cancelled, over a limit, or was snapshot by another process", request_id)
        ctx.lake.delete(row.path for row in rows)
    elif not rows:
        # Nobody is there to send to, so no step will come to finish it.
        broadcasts.finish(ctx.ledger, request_id, ctx.clock())


def _unsent(ctx: DeliveryContext, notification: Notification) -> tuple[RequestState, str] | None:
    """Return the end of a broadcast that nobody shall get any more, and why; None where they shall."""
    if notification.expires_at <= ctx.clock():
        return RequestState.EXPIRED, "expired before its audience was fixed"
    if domain_sends.disabled(ctx.ledger, [notification]):
        return RequestState.CANCELLED, DOMAIN_DISABLED
    return None


def _counted_out(ctx: DeliveryContext, notification: Notification) -> tuple[int, Iterator[pl.DataFrame]]:
    """Return how many recipients there are at least, and their frames."""
    audience.wait_until_landed(ctx.ledger, ctx.settings.landing_wait_s, ctx.clock, time.sleep)
    asked = AudienceReader(ctx.lake, ctx.ledger).find(notification.tenant, notification.audience)
    return asked.at_least, asked.batches()


def _known(ctx: DeliveryContext, notification: Notification) -> Known:
    return find_known(ctx.ledger, [notification])[notification.request_id]


def _named(known: Known) -> tuple[int, Iterator[pl.DataFrame]]:
    """Like ``_counted_out``, of those whom the ledger knows; what they have in their inboxes is in no shard."""
    rows = [(r.address, r.platform.value, *r[2:]) for r in known.recipients if r.platform is not Platform.INBOX]
    return len(rows), iter([pl.DataFrame(rows, schema=_FRAME_SCHEMA, orient="row")])


@contextmanager
def _held(ctx: DeliveryContext, request_id: str) -> Iterator[None]:
    """Hold the request's lease, extended by a thread, so that nobody snapshots it at the same time for nothing."""
    lease_s = ctx.settings.lease_seconds

    def hold() -> None:
        shards.hold_request(ctx.ledger, request_id, ctx.owner, ctx.clock(), lease_s)

    def keep() -> None:
        while not over.wait(lease_s / 3):
            try:
                hold()
            except shards.HeldBy:
                return  # the other one is at it too, and the ledger decides

    hold()
    over = threading.Event()
    keeper = threading.Thread(target=keep, name="snapshot-lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        shards.release_request(ctx.ledger, request_id, ctx.owner)
