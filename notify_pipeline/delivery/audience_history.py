"""Letting go of superseded registrations: of an old file, only rows stay that are still their token's last word.

Belongs here: going through old files of registrations. Does not belong here: which are old (``core.retention``), the
audience base itself (``audience_base``).

Only files that the base holds are touched, and a row goes only where the base has a later revision of its token. So the
base, and one that is made anew from what is left, hold the same devices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl
import pyarrow as pa

from notify_pipeline.core.ids import new_id
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import leases, segments
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.schemas import REGISTRATIONS
from notify_pipeline.delivery import audience_base

_LEASE_S = 300.0
_KEY = ["tenant", "token"]


@dataclass(frozen=True, slots=True)
class Thinned:
    """What was done: files gone through, those written anew, rows that went."""

    files: int = 0
    rewritten: int = 0
    rows: int = 0
    stopped_reason: str | None = None


def thin(lake: Lake, ledger: Ledger, paths: Sequence[str], now: datetime) -> Thinned:
    """Take superseded rows out of files of registrations; each is replaced in its own place.

    Held against compactions, which read such files. Doing it again, or going on after a crash, changes nothing more.
    """
    lease = leases.acquire(ledger, f"compaction/{REGISTRATIONS.name}", new_id(), _LEASE_S, now)
    if lease is None:
        return Thinned(stopped_reason="it is being compacted")
    try:
        base = audience_base.load(lake)
        landed = segments.landed(ledger, REGISTRATIONS.name)
        folded = set(landed.paths.values()) - set(landed.not_in(base.folded).values())
        mine = sorted(set(paths) & folded)
        if not mine:
            return Thinned()
        latest = audience_base.scan_devices(lake, base.device_files()).select(*_KEY, last="revision")
        gone = [_thin(lake, ledger, lease, path, latest) for path in mine]
        return Thinned(len(mine), sum(rows > 0 for rows in gone), sum(gone))
    finally:
        leases.release(ledger, lease)


def _thin(lake: Lake, ledger: Ledger, lease: leases.Lease, path: str, latest: pl.LazyFrame) -> int:
    table = lake.read(path)
    rows = pl.DataFrame(table.select([*_KEY, "revision"]))
    known = latest.join(rows.lazy().select(_KEY).unique(), on=_KEY, how="semi").collect()
    stays = rows.join(known, on=_KEY, how="left", maintain_order="left").select(
        pl.col("last").is_null() | (pl.col("revision") >= pl.col("last"))
    )
    kept = table.filter(pa.array(stays.to_series().to_list(), pa.bool_()))
    gone: int = table.num_rows - kept.num_rows
    if gone:
        if leases.renew(ledger, lease, _LEASE_S, ledger.clock()) is None:
            raise leases.LeaseLost("a compaction took over; what is left is for the next run")
        lake.write(path, kept)
    return gone
