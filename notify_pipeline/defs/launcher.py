"""Dagster's default launcher, able to say whether a run's process still lives.

Belongs here: that question. Does not belong here: what follows from a death (Dagster's run monitoring marks the run as
failed; the sensors launch a successor).
"""

from dagster import DagsterRun, deserialize_value
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._grpc.types import GetCurrentRunsResult

# The server answers from memory. One that takes longer is busy, which says nothing about its runs.
_BUSY = "DEADLINE_EXCEEDED"


class LocalRunLauncher(DefaultRunLauncher):
    """Launches runs as processes of the code server, and asks that server about them.

    A code server notices the death of its own runs within half a second. What it cannot notice is its own: the runs of
    a server that is gone, or was replaced, would stay "started" for ever and hold their places in the queue.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Tell whether the process of a started run lives."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:  # finished meanwhile, or started by hand in a process that we know nothing of
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            runs = deserialize_value(client.get_current_runs(), GetCurrentRunsResult).current_runs
        except DagsterUserCodeUnreachableError as error:
            if _BUSY in str(error.__cause__ or error):
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the code server that started it is gone")
        if run.run_id in runs:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the code server does not run it any more")
