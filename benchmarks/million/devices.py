"""A million registered devices in a fresh home: what the broadcast's topics are made of.

Registering over HTTP would take minutes and is measured elsewhere (``benchmarks.ingress``). Here registrations land in
the lake as the lander writes them, and are folded into the audience base as the hourly job does it. The ledger has no
rows of these devices; a topic's audience is read from the lake only.
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl
from sqlalchemy import Connection, insert

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import SEGMENTS
from notify_pipeline.core.schemas import REGISTRATIONS
from notify_pipeline.delivery.audience import rebuild_base

_PIECE = 250_000
# An FCM token is an installation id of 22 characters, a colon, and a signature of 140; APNs' is 32 bytes in hex.
_FCM_LENGTH = 163
_FCM_MARK = ":APA91b"
_APNS_BYTES = 32


def topic(size: int) -> str:
    """The topic that so many devices have."""
    return f"size-{size}"


def register(lake: Lake, ledger: Ledger, tenant: str, sizes: Sequence[int]) -> int:
    """Land as many devices as the largest size, every other one Android, and fold them into a base.

    Args:
        lake: An empty one.
        ledger: Where landed segments are listed.
        tenant: Whose devices.
        sizes: One topic each; the first ``size`` devices have it, so that the topics are nested.

    Returns:
        How many there are.
    """
    now = datetime.now(UTC)
    draw = random.Random(20261121)
    for first in range(0, max(sizes), _PIECE):
        rows = _rows(first, min(_PIECE, max(sizes) - first), tenant, sizes, now, draw)
        segment = new_id()
        path = f"{partition(REGISTRATIONS, now)}/seg-{segment}.parquet"
        lake.write(path, rows.to_arrow().select(REGISTRATIONS.schema.names).cast(REGISTRATIONS.schema))
        ledger.write(_landed, (segment, path, to_micros(now)))
    return rebuild_base(lake, ledger, now).rows


def _rows(
    first: int, count: int, tenant: str, sizes: Sequence[int], now: datetime, draw: random.Random
) -> pl.DataFrame:
    tokens = [_token(number, draw) for number in range(first, first + count)]
    topics = [pl.when(pl.col("n") < size).then(pl.lit(topic(size))) for size in sizes]
    return (
        pl.DataFrame({"token": tokens})
        .with_row_index("n", first)
        .select(
            "token",
            tenant=pl.lit(tenant),
            platform=pl.when(pl.col("n") % 2 == 0).then(pl.lit("android")).otherwise(pl.lit("ios")),
            user_id=pl.format("u{}", pl.col("n") // 2),
            topics=pl.concat_list(topics).list.drop_nulls(),
            app_version=pl.lit("8.1.0"),
            locale=pl.lit("en-GB"),
            timezone=pl.lit("Europe/London"),
            op=pl.lit("upsert"),
            reason=pl.lit(None, pl.String),
            domain=pl.lit(None, pl.String),
            previous=pl.lit(None, pl.String),
            revision=pl.lit(1, pl.Int64),
            at=pl.lit(to_micros(now), pl.Int64).cast(pl.Datetime("us", "UTC")),
        )
    )


def _token(number: int, draw: random.Random) -> str:
    """A token as long and as random as a real one: even numbers FCM's, odd ones APNs'."""
    if number % 2:
        return draw.randbytes(_APNS_BYTES).hex()
    digits = draw.randbytes(_FCM_LENGTH // 2).hex()
    return f"{digits[:22]}{_FCM_MARK}{digits[22 : 22 + _FCM_LENGTH - 22 - len(_FCM_MARK)]}"


def _landed(conn: Connection, items: Sequence[tuple[str, str, int]]) -> list[None]:
    common = {"lake_table": REGISTRATIONS.name, "kind": "landing", "state": "landed"}
    rows = [
        {"segment_id": segment, "path": path, "partition_at": at, "planned_at": at, **common}
        for segment, path, at in items
    ]
    conn.execute(insert(SEGMENTS), rows)
    return [None] * len(items)
