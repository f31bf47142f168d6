"""From a batch of hours to a request for a run of them.

Belongs here: that. Does not belong here: which hours (``hours``), when (``sensor``, ``schedules``).
"""

from datetime import datetime

import dagster as dg

from notify_pipeline.defs.receipts.asset import key_of
from notify_pipeline.defs.receipts.hours import Batch

_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"


def run_request(batch: Batch) -> dg.RunRequest:
    """One run of all of a batch's hours."""
    first, last = (key_of(datetime.fromisoformat(moment)) for moment in (batch.first, batch.last))
    if first == last:
        return dg.RunRequest(run_key=batch.run_key, partition_key=first)
    return dg.RunRequest(run_key=batch.run_key, tags=span(first, last))


def span(first: str, last: str) -> dict[str, str]:
    """The tags of a run over all partitions from the first key to the last."""
    return {_RANGE_START: first, _RANGE_END: last}
