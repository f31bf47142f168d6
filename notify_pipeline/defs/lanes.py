"""Lanes: which jobs queue behind which. The limits are in dagster.yaml.

Belongs here: the tag and its values, and how sensors look at the runs of a job. Does not belong here: jobs.
"""

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

TAG = "notify/lane"
DRAIN = "drain"
BROADCAST = "broadcast"
RECEIPTS = "receipts"
REPORTS = "reports"
MAINTENANCE = "maintenance"

# A run of this kind will start by itself.
WAITING = (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING)
OPEN = (*WAITING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)


def tag(lane: str) -> dict[str, str]:
    """The tags of a job in this lane."""
    return {TAG: lane}


def open_runs(instance: DagsterInstance, job_name: str, tags: dict[str, str] | None = None) -> list[RunRecord]:
    """The runs of a job that are not finished, newest first."""
    found = instance.get_run_records(RunsFilter(job_name=job_name, statuses=list(OPEN), tags=tags or {}))
    return list(found)
