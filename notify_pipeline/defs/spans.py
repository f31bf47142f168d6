"""Runs over several partitions of an asset at once.

Belongs here: how Dagster is asked for one. Does not belong here: which partitions (the rooms' sensors and schedules).
"""

import dagster as dg

_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"


def run_request(run_key: str, first: str, last: str) -> dg.RunRequest:
    """One run of all partitions from the first key to the last, which may be the same."""
    if first == last:
        return dg.RunRequest(run_key=run_key, partition_key=first)
    return dg.RunRequest(run_key=run_key, tags=tags(first, last))


def tags(first: str, last: str) -> dict[str, str]:
    """The tags of a run over all partitions from the first key to the last."""
    return {_RANGE_START: first, _RANGE_END: last}
