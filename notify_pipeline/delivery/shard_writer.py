"""Shard files: a broadcast's recipients, written a row group at a time.

Belongs here: dealing frames out to files. Does not belong here: who is due when (``assigning``), how many parts there
are and what becomes of the files (``snapshot``).
"""

from collections import Counter
from contextlib import ExitStack
from typing import Any, Self, TypeAlias

import polars as pl
import pyarrow.parquet as pq

from notify_pipeline.core.ids import new_id
from notify_pipeline.core.ledger.shards import ShardRow
from notify_pipeline.core.records import Notification
from notify_pipeline.core.schemas import SNAPSHOT
from notify_pipeline.core.vocabulary import Platform
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.known import wanted_channels
from notify_pipeline.delivery.timing import AT_ONCE, Slot

_CHANNEL_OF = {platform.value: platform.channel.value for platform in Platform}
# Rows that are written, and later read, at a time: some 2 MB decoded.
_GROUP_ROWS = 10_000
# Of recipients whom the lake counted out: nobody says anything of each of them, and a column of nulls costs, too.
_WITHOUT_FIELDS = SNAPSHOT.remove(SNAPSHOT.get_field_index("fields"))
# What is due together on one channel, and one part of it.
_Pile: TypeAlias = tuple[Slot, str]
_Shard: TypeAlias = tuple[_Pile, int]


class ShardWriter:
    """Deals frames out to one file per slot, channel and part; the files appear when the block ends well.

    Args:
        ctx: The run's surroundings.
        notification: The send.
        parts: How many parts those who are due together are dealt out to.
    """

    def __init__(self, ctx: DeliveryContext, notification: Notification, parts: int) -> None:
        self._ctx = ctx
        self._request_id = notification.request_id
        self._wanted = [channel.value for channel in wanted_channels(notification)]
        self._parts = parts
        self._group_rows = min(_GROUP_ROWS, ctx.settings.shard_min)
        self._name = new_id()
        self._held: dict[_Pile, list[pl.DataFrame]] = {}
        self._groups: Counter[_Pile] = Counter()
        self._files: dict[_Shard, pq.ParquetWriter] = {}
        self._paths: dict[_Shard, str] = {}
        self._recipients: Counter[_Shard] = Counter()
        self._open = ExitStack()
        self.sizes: Counter[tuple[str | None, str | None]] = Counter()

    def __enter__(self) -> Self:
        self._open.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, frame: pl.DataFrame, slot: Slot = AT_ONCE) -> None:
        """Add recipients who are due together; those on channels that the send does not want are left out."""
        by_channel = frame.with_columns(channel=pl.col("platform").replace_strict(_CHANNEL_OF))
        wanted = by_channel.filter(pl.col("channel").is_in(self._wanted))
        for (channel,), part in wanted.partition_by("channel", as_dict=True, include_key=False).items():
            self._count(str(channel), part)
            pile = (slot, str(channel))
            held = self._held.setdefault(pile, [])
            held.append(part)
            if sum(each.height for each in held) >= self._group_rows:
                held[:] = [self._put_whole_groups(pile, pl.concat(held))]

    def finish(self) -> None:
        """Write what is not enough for a row group."""
        for pile in sorted(self._held, key=_in_order):
            rest = pl.concat(self._held[pile])
            if rest.height:
                self._put(pile, rest)

    def rows(self) -> list[ShardRow]:
        """Return the shards: what is due first, part by part; what is skipped comes last."""
        ordered = sorted(self._files, key=lambda key: (*_in_order(key[0])[:-1], key[1], key[0][1]))
        return [
            ShardRow(
                self._request_id,
                number,
                key[0][1],
                self._paths[key],
                self._recipients[key],
                None,
                None,
                None,
                *key[0][0],
            )
            for number, key in enumerate(ordered)
        ]

    def _count(self, channel: str, part: pl.DataFrame) -> None:
        for platform, number in part["platform"].value_counts().iter_rows():
            self.sizes[channel, platform] += number

    def _put_whole_groups(self, pile: _Pile, frame: pl.DataFrame) -> pl.DataFrame:
        """Write as many row groups as there are; return the rest."""
        whole = frame.height - frame.height % self._group_rows
        for start in range(0, whole, self._group_rows):
            self._put(pile, frame.slice(start, self._group_rows))
        return frame.slice(whole)

    def _put(self, pile: _Pile, group: pl.DataFrame) -> None:
        """Write a row group to the part whose turn it is."""
        key = (pile, self._groups[pile] % self._parts)
        schema = SNAPSHOT if "fields" in group.columns else _WITHOUT_FIELDS
        self._groups[pile] += 1
        if key not in self._files:
            name = f"{self._name}-{pile[1]}-{len(self._files):05d}"
            self._paths[key] = f"snapshots/request={self._request_id}/{name}.parquet"
            opened = self._ctx.lake.writer(self._paths[key], schema, unique=("recipient",))
            self._files[key] = self._open.enter_context(opened)
        # One platform after another: chunks then rarely need more than one message.
        mine = group.sort("platform") if group["platform"].n_unique() > 1 else group
        table = mine.rename({"token": "recipient"}).to_arrow().select(schema.names).cast(schema)
        self._files[key].write_table(table, row_group_size=len(table))
        self._recipients[key] += len(table)


def _in_order(pile: _Pile) -> tuple[str, int, int, str]:
    slot, channel = pile
    return slot.skip or "", slot.due_at or 0, slot.expires_at or 0, channel
