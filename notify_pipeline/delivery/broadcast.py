"""Broadcasts, as whoever runs them calls them: snapshot once, send each shard, finish.

Belongs here: the outer interface and the end. Does not belong here: how each part works (``snapshot``, ``shard``).
"""

from notify_pipeline.core.ledger import broadcasts, shards
from notify_pipeline.core.ledger.broadcasts import DueBroadcast, due
from notify_pipeline.core.vocabulary import RequestState
from notify_pipeline.delivery.audience import NotLanded
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.shard import ShardTotals, send_shard, send_shards
from notify_pipeline.delivery.snapshot import ShardRef, snapshot

__all__ = [
    "DueBroadcast",
    "NotLanded",
    "ShardRef",
    "ShardTotals",
    "due",
    "finish",
    "send_shard",
    "send_shards",
    "snapshot",
]


def finish(ctx: DeliveryContext, request_id: str) -> RequestState:
    """Move a broadcast whose shards are all done to its end, and delete what dead snapshots left of it.

    Returns:
        The end state, the same again when it had ended before; ``sending`` where shards are left for later.

    Raises:
        ValueError: Shards are not done.
        KeyError: There is no such request.
    """
    state = broadcasts.finish(ctx.ledger, request_id, ctx.clock())
    named = {row.path for row in shards.shards(ctx.ledger, request_id)}
    found = ctx.lake.list(f"snapshots/request={request_id}/")
    ctx.lake.delete(file.path for file in found if file.path not in named)
    return state
