"""A broadcast's recipients, fixed once: the audience streamed into shard files, then made the request's in one step.

Belongs here: writing the shards. Does not belong here: finding the audience (``audience``, ``planning``), sending
(``shard``).
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.ledger import broadcasts, routing, shards
from notify_pipeline.core.ledger.shards import ShardRow
from notify_pipeline.core.records import Notification
from notify_pipeline.core.schemas import SNAPSHOT
from notify_pipeline.core.vocabulary import Platform, RequestState
from notify_pipeline.delivery import audience, notifications, planning
from notify_pipeline.delivery.audience import AudienceReader
from notify_pipeline.delivery.audience_base import PROFILE
from notify_pipeline.delivery.context import DeliveryContext

log = logging.getLogger(__name__)

_CHANNEL_OF = {platform.value: platform.channel.value for platform in Platform}
_FRAME_SCHEMA = pl.Schema(dict.fromkeys(PROFILE, pl.String()))


@dataclass(frozen=True, slots=True)
class ShardRef:
    """One shard of a broadcast, for whoever sends it."""

    shard: int
    channel: str
    recipients: int


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
    return [ShardRef(row.shard, row.channel, row.recipients) for row in shards.shards(ctx.ledger, request_id)]


def _write(ctx: DeliveryContext, notification: Notification) -> None:
    request_id = notification.request_id
    with _held(ctx, request_id):
        if notification.expires_at <= ctx.clock():
            broadcasts.expire(ctx.ledger, request_id, ctx.clock())
            return
        writer = _ShardWriter(ctx, notification)
        for frame in _frames(ctx, notification):
            writer.add(frame)
        rows = writer.finish()
        now = ctx.clock()
        audiences = planning.audiences_rows(notification, writer.sizes, to_micros(now))
        won = broadcasts.start(ctx.ledger, broadcasts.Snapshot(request_id, rows, audiences, now))
    if not won:
        log.warning("request %s was snapshot by another process; its shards count", request_id)
        ctx.lake.delete(row.path for row in rows)
    elif not rows:
        # Nobody is there to send to, so no step will come to finish it.
        broadcasts.finish(ctx.ledger, request_id, ctx.clock())


def _frames(ctx: DeliveryContext, notification: Notification) -> Iterator[pl.DataFrame]:
    if notification.audience.topics:
        audience.wait_until_landed(ctx.ledger, ctx.settings.landing_wait_s, ctx.clock, time.sleep)
        asked = AudienceReader(ctx.lake, ctx.ledger).topics(notification.tenant, notification.audience.topics)
        yield from asked.batches()
        return
    known = planning.find_known(ctx.ledger, [notification])[notification.request_id]
    rows = [(r.address, r.platform.value, r.user_id, r.locale, r.timezone, r.app_version) for r in known.recipients]
    yield pl.DataFrame(rows, schema=_FRAME_SCHEMA, orient="row")


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


class _ShardWriter:
    """Cuts frames into files of ``shard_size`` recipients of one channel each."""

    def __init__(self, ctx: DeliveryContext, notification: Notification) -> None:
        self._ctx = ctx
        self._request_id = notification.request_id
        self._wanted = [channel.value for channel in planning.wanted_channels(notification)]
        self._name = new_id()
        self._held: dict[str, list[pl.DataFrame]] = {}
        self._rows: list[ShardRow] = []
        self.sizes: Counter[tuple[str | None, str | None]] = Counter()

    def add(self, frame: pl.DataFrame) -> None:
        by_channel = frame.with_columns(channel=pl.col("platform").replace_strict(_CHANNEL_OF))
        wanted = by_channel.filter(pl.col("channel").is_in(self._wanted))
        for (channel,), part in wanted.partition_by("channel", as_dict=True, include_key=False).items():
            self._count(str(channel), part)
            held = self._held.setdefault(str(channel), [])
            held.append(part)
            while sum(each.height for each in held) >= self._ctx.settings.shard_size:
                held[:] = self._put(str(channel), pl.concat(held))

    def finish(self) -> list[ShardRow]:
        for channel in sorted(self._held):
            if rest := [frame for frame in self._held[channel] if frame.height]:
                self._put(channel, pl.concat(rest))
        return self._rows

    def _count(self, channel: str, part: pl.DataFrame) -> None:
        for platform, number in part["platform"].value_counts().iter_rows():
            self.sizes[channel, platform] += number

    def _put(self, channel: str, frame: pl.DataFrame) -> list[pl.DataFrame]:
        """Write one shard from the head of a frame; return the rest."""
        size = self._ctx.settings.shard_size
        number = len(self._rows)
        # One platform after another: chunks then rarely need more than one message.
        mine = frame.head(size).sort("platform", "token").rename({"token": "recipient"})
        path = f"snapshots/request={self._request_id}/{self._name}-shard-{number:05d}.parquet"
        self._ctx.lake.write(path, mine.to_arrow().select(SNAPSHOT.names).cast(SNAPSHOT))
        self._rows.append(ShardRow(self._request_id, number, channel, path, mine.height, None, None, None))
        return [frame.slice(size)]
