"""A broadcast's recipients, fixed once: the audience streamed into shard files, then made the request's in one step.

Belongs here: how many shards there are, and writing them. Does not belong here: finding the audience (``audience``,
``planning``), sending (``shard``).

A part is what one process sends at a time: a shard of each channel. All parts are filled at once, a row group at a time
in turn, so that they are equal in every channel without anybody knowing how many recipients there will be.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import polars as pl
import pyarrow.parquet as pq

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.ledger import broadcasts, routing, shards
from notify_pipeline.core.ledger.shards import ShardRow
from notify_pipeline.core.records import Notification
from notify_pipeline.core.schemas import SNAPSHOT
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Platform, RequestState
from notify_pipeline.delivery import audience, notifications, planning
from notify_pipeline.delivery.audience import AudienceReader
from notify_pipeline.delivery.audience_base import PROFILE
from notify_pipeline.delivery.context import DeliveryContext

log = logging.getLogger(__name__)

_CHANNEL_OF = {platform.value: platform.channel.value for platform in Platform}
_FRAME_SCHEMA = pl.Schema(dict.fromkeys(PROFILE, pl.String()))
# Rows that are written, and later read, at a time: some 2 MB decoded.
_GROUP_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class ShardRef:
    """One shard of a broadcast, for whoever sends it; those of one ``part`` are sent by one process, side by side."""

    shard: int
    part: int
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
    begun: Counter[str] = Counter()  # a channel's shards are in as many parts as there are
    refs = []
    for row in shards.shards(ctx.ledger, request_id):
        refs.append(ShardRef(row.shard, begun[row.channel], row.channel, row.recipients))
        begun[row.channel] += 1
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
        if notification.expires_at <= ctx.clock():
            broadcasts.expire(ctx.ledger, request_id, ctx.clock())
            return
        at_least, frames = _frames(ctx, notification)
        with _ShardWriter(ctx, notification, part_count(ctx.settings, at_least)) as writer:
            for frame in frames:
                writer.add(frame)
            writer.finish()
        rows = writer.rows()
        now = ctx.clock()
        audiences = planning.audiences_rows(notification, writer.sizes, to_micros(now))
        won = broadcasts.start(ctx.ledger, broadcasts.Snapshot(request_id, rows, audiences, now))
    if not won:
        log.warning("request %s was snapshot by another process; its shards count", request_id)
        ctx.lake.delete(row.path for row in rows)
    elif not rows:
        # Nobody is there to send to, so no step will come to finish it.
        broadcasts.finish(ctx.ledger, request_id, ctx.clock())


def _frames(ctx: DeliveryContext, notification: Notification) -> tuple[int, Iterator[pl.DataFrame]]:
    """Return how many recipients there are at least, and their frames."""
    if notification.audience.is_counted_out:
        audience.wait_until_landed(ctx.ledger, ctx.settings.landing_wait_s, ctx.clock, time.sleep)
        asked = AudienceReader(ctx.lake, ctx.ledger).find(notification.tenant, notification.audience)
        return asked.at_least, asked.batches()
    known = planning.find_known(ctx.ledger, [notification])[notification.request_id]
    rows = [(r.address, r.platform.value, r.user_id, r.locale, r.timezone, r.app_version) for r in known.recipients]
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


class _ShardWriter:
    """Deals frames out to one file per channel and part; the files appear when the block ends well."""

    def __init__(self, ctx: DeliveryContext, notification: Notification, parts: int) -> None:
        self._ctx = ctx
        self._request_id = notification.request_id
        self._wanted = [channel.value for channel in planning.wanted_channels(notification)]
        self._parts = parts
        self._group_rows = min(_GROUP_ROWS, ctx.settings.shard_min)
        self._name = new_id()
        self._held: dict[str, list[pl.DataFrame]] = {}
        self._groups: Counter[str] = Counter()
        self._files: dict[tuple[int, str], pq.ParquetWriter] = {}
        self._recipients: Counter[tuple[int, str]] = Counter()
        self._open = ExitStack()
        self.sizes: Counter[tuple[str | None, str | None]] = Counter()

    def __enter__(self) -> Self:
        self._open.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, frame: pl.DataFrame) -> None:
        by_channel = frame.with_columns(channel=pl.col("platform").replace_strict(_CHANNEL_OF))
        wanted = by_channel.filter(pl.col("channel").is_in(self._wanted))
        for (channel,), part in wanted.partition_by("channel", as_dict=True, include_key=False).items():
            self._count(str(channel), part)
            held = self._held.setdefault(str(channel), [])
            held.append(part)
            if sum(each.height for each in held) >= self._group_rows:
                held[:] = [self._put_whole_groups(str(channel), pl.concat(held))]

    def finish(self) -> None:
        """Write what is not enough for a row group."""
        for channel in sorted(self._held):
            rest = pl.concat(self._held[channel])
            if rest.height:
                self._put(channel, rest)

    def rows(self) -> list[ShardRow]:
        """Return the shards, part by part."""
        return [
            ShardRow(self._request_id, number, key[1], self._path(*key), self._recipients[key], None, None, None)
            for number, key in enumerate(sorted(self._files))
        ]

    def _path(self, part: int, channel: str) -> str:
        return f"snapshots/request={self._request_id}/{self._name}-{channel}-{part:05d}.parquet"

    def _count(self, channel: str, part: pl.DataFrame) -> None:
        for platform, number in part["platform"].value_counts().iter_rows():
            self.sizes[channel, platform] += number

    def _put_whole_groups(self, channel: str, frame: pl.DataFrame) -> pl.DataFrame:
        """Write as many row groups as there are; return the rest."""
        whole = frame.height - frame.height % self._group_rows
        for start in range(0, whole, self._group_rows):
            self._put(channel, frame.slice(start, self._group_rows))
        return frame.slice(whole)

    def _put(self, channel: str, group: pl.DataFrame) -> None:
        """Write a row group to the part whose turn it is."""
        key = (self._groups[channel] % self._parts, channel)
        self._groups[channel] += 1
        if key not in self._files:
            opened = self._ctx.lake.writer(self._path(*key), SNAPSHOT, unique=("recipient",))
            self._files[key] = self._open.enter_context(opened)
        # One platform after another: chunks then rarely need more than one message.
        mine = group.sort("platform") if group["platform"].n_unique() > 1 else group
        table = mine.rename({"token": "recipient"}).to_arrow().select(SNAPSHOT.names).cast(SNAPSHOT)
        self._files[key].write_table(table, row_group_size=len(table))
        self._recipients[key] += len(table)
