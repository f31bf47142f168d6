"""Lanes: which jobs queue behind which. The limits are in dagster.yaml.

Belongs here: the tag and its values, and how sensors look at the runs of a job. Does not belong here: jobs.
"""

from datetime import datetime

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

TAG = "notify/lane"
DRAIN = "drain"
BROADCAST = "broadcast"
# Those of high priority: two others that run for minutes do not keep one waiting.
BROADCAST_HIGH = "broadcast-high"
RECEIPTS = "receipts"
REPORTS = "reports"
MAINTENANCE = "maintenance"

# A run of this kind will start by itself.
WAITING = (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING)
FINISHED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
OPEN = (*WAITING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)


def tag(lane: str) -> dict[str, str]:
    """The tags of a job in this lane."""
    return {TAG: lane}


def limits(instance: DagsterInstance) -> dict[str, int]:
    """How many runs may be under way, by lane; a lane that is not named has no limit."""
    config = instance.get_concurrency_config().run_queue_config
    found = () if config is None else config.tag_concurrency_limits
    return {str(limit["value"]): int(limit["limit"]) for limit in found if limit["key"] == TAG and "value" in limit}


def failures_in_a_row(instance: DagsterInstance, job_name: str, limit: int) -> list[datetime]:
    """When the latest finished runs of a job failed, newest first, up to the first that did not, or the limit."""
    finished = RunsFilter(job_name=job_name, statuses=list(FINISHED))
    failures = []
    for record in instance.get_run_records(finished, limit=limit):
        if record.dagster_run.status is not DagsterRunStatus.FAILURE:
            break
        failures.append(record.update_timestamp)
    return failures


def open_runs(instance: DagsterInstance, job_name: str, tags: dict[str, str] | None = None) -> list[RunRecord]:
    """The runs of a job that are not finished, newest first."""
    found = instance.get_run_records(RunsFilter(job_name=job_name, statuses=list(OPEN), tags=tags or {}))
    return list(found)
