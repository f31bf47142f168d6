"""Keeps Dagster's own storage from growing without end.

Belongs here: forgetting finished runs of the routine. Does not belong here: anything of the pipeline's own data.

Sensors start thousands of runs a day, and each takes 130 kB on SQLite (a file per run): a day of one run every ten
seconds is 1.1 GB. What such a run did is in the ledger and the lake. Runs that somebody started by hand, broadcasts and
failed runs stay.
"""

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from notify_pipeline.defs import lanes

# The oldest first, so that a run that ends here leaves the rest for the next.
_MAX_PER_RUN = 5_000
_PAGE = 200
_ROUTINE = (lanes.DRAIN, lanes.RECEIPTS, lanes.REPORTS, lanes.MAINTENANCE)
# Set by Dagster on what a sensor or a schedule started.
_BY_ITSELF = ("dagster/sensor_name", "dagster/schedule_name")
_PARTITION = "dagster/partition"


def forget_runs(instance: DagsterInstance, before: datetime, limit: int = _MAX_PER_RUN) -> int:
    """Delete finished routine runs that ended before a moment.

    A run that made the latest version of an asset's partition stays: Dagster's view of that partition comes from it.

    Args:
        instance: Dagster's.
        before: The moment.
        limit: At most this many.

    Returns:
        How many were deleted.
    """
    doomed: list[str] = []
    for run in _finished(instance, before):
        if len(doomed) == limit:
            break
        if not _is_latest(instance, run):
            doomed.append(run.run_id)
    for run_id in doomed:
        instance.delete_run(run_id)
        _delete_files(Path(instance.root_directory), run_id)
    return len(doomed)


def _finished(instance: DagsterInstance, before: datetime) -> Iterator[DagsterRun]:
    statuses = [DagsterRunStatus.SUCCESS, DagsterRunStatus.CANCELED]
    chosen = RunsFilter(statuses=statuses, tags={lanes.TAG: list(_ROUTINE)}, updated_before=before)
    cursor = None
    while page := instance.get_run_records(chosen, limit=_PAGE, cursor=cursor, ascending=True):
        yield from (r.dagster_run for r in page if any(tag in r.dagster_run.tags for tag in _BY_ITSELF))
        cursor = page[-1].dagster_run.run_id


def _is_latest(instance: DagsterInstance, run: DagsterRun) -> bool:
    chosen = RunsFilter(job_name=run.job_name, statuses=[DagsterRunStatus.SUCCESS], tags=_same_partition(run))
    newest = instance.get_run_records(chosen, limit=1)
    return bool(newest) and newest[0].dagster_run.run_id == run.run_id


def _same_partition(run: DagsterRun) -> dict[str, str]:
    return {key: value for key, value in run.tags.items() if key.startswith((_PARTITION, "dagster/asset_partition_"))}


def _delete_files(root: Path, run_id: str) -> None:
    """What Dagster leaves behind of a deleted run: its event file, and what its steps handed to each other."""
    (root / "history" / "runs" / f"{run_id}.db").unlink(missing_ok=True)
    shutil.rmtree(root / "storage" / run_id, ignore_errors=True)
