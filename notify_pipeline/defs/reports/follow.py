"""Reads log files and builds reports in one run while broadcasts are sent.

Belongs here: the job, and what it does time and again. Does not belong here: when a run of it is asked for
(``sensor``), the rule for builds (``watch``), reading and building (``receipts``, ``reports``).

A run for each log file and another for each build cost seconds where processes are busy sending: each is asked for,
queued and started, and notes some fifty events, one by one on the disk. Here that happens once for two minutes of both,
and a log file is seen within a second or so. Checks block a version as they do elsewhere. An hour that cannot be read,
or a build that fails, is logged and tried again: everything else goes on. The hour's own run, which the schedule asks
for, shows what is wrong with it.
"""

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from notify_pipeline.core.ids import new_id
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import broadcasts, leases
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs import lanes
from notify_pipeline.defs.interrupts import is_cancelled, run_stoppable
from notify_pipeline.defs.process import name_process
from notify_pipeline.defs.receipts.following import LEASE, news, waiting_hours
from notify_pipeline.defs.reports import catalogue
from notify_pipeline.defs.reports.watch import FIRST_PAUSE, Build, may_build
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.reports import build, checks, versions
from notify_pipeline.reports.manifests import Version

if TYPE_CHECKING:
    from notify_pipeline.receipts.hours import HourReport

log = logging.getLogger(__name__)

JOB = "follow_broadcasts"
# Others that build, by hand or by schedule, get their turn after this time.
LONGEST = timedelta(minutes=2)
_LOOK_S = 0.5
# A look lists what some hours hold: it may take this share of the time, so that a slow store is asked less often.
_SHARE = 0.1
_LONGEST_PAUSE_S = 5.0
# What could not be read, or asked for, is tried again after this time.
_RETRY = timedelta(seconds=5)
# A process that died keeps files from the sensor, and its successor from following, for so long. A build that takes
# longer does no harm: who follows meanwhile may go on.
_LEASE_S = 20.0
# Enough to see how many builds failed in a row.
_LATEST = 8


@dataclass(slots=True)
class Follower:
    """One run's work, and what it has done so far; ``unread`` has when an hour that failed may be tried again."""

    settings: Settings
    ledger: Ledger
    lake: Lake
    logs: Logs
    read: dict[datetime, "HourReport"] = field(default_factory=dict)
    unread: dict[datetime, datetime] = field(default_factory=dict)
    published: Version | None = None
    builds: list[Build] = field(default_factory=list)
    _beacons: bool = True

    def run(self, stop: threading.Event) -> None:
        """Read and build until no broadcast is sent any more, the time is up, or somebody says stop."""
        began = datetime.now(UTC)
        lease = leases.acquire(self.ledger, LEASE, f"follower-{new_id()}", _LEASE_S, began)
        if lease is None:
            return
        try:
            while not stop.is_set():
                now = datetime.now(UTC)
                if now > began + LONGEST or not broadcasts.due(self.ledger, now):
                    return
                if leases.renew(self.ledger, lease, _LEASE_S, now) is None:
                    return
                pause = self._look(now)
                # The run was asked for when a first build was due.
                if may_build(self.builds, now, sending_since=began - FIRST_PAUSE, beacons=self._beacons):
                    self._build()
                stop.wait(pause)
        finally:
            # The sensor asks who follows after it has looked: what it left to us is there by now.
            leases.release(self.ledger, lease)
            self._look(datetime.now(UTC))

    def _look(self, now: datetime) -> float:
        """Read what log files came; return how many seconds to wait before the next look."""
        try:
            hours = waiting_hours(self.lake, self.logs, now, self.settings.receipts_from)
        except Exception:
            log.exception("which log files there are could not be found out")
            return _LONGEST_PAUSE_S
        pause = (datetime.now(UTC) - now).total_seconds() / _SHARE
        # What could not be read may have been taken away.
        self.unread = {hour: again for hour, again in self.unread.items() if hour in hours}
        for hour in hours:
            if hour not in self.unread or now >= self.unread[hour]:
                self._read(hour)
        return min(max(_LOOK_S, pause), _LONGEST_PAUSE_S)

    def _read(self, hour: datetime) -> None:
        from notify_pipeline.receipts.hours import process_hour  # loads polars

        self._beacons = True  # of some files, even if another one fails
        try:
            self.read[hour] = process_hour(self.lake, self.logs, hour)
            self.unread.pop(hour, None)
        except Exception:
            log.exception("not every log file of the hour %s could be read", hour)
            self.unread[hour] = datetime.now(UTC) + _RETRY

    def _build(self) -> None:
        """Build a version, check it, and publish it if every check passes and it says anything new."""
        began, passed = datetime.now(UTC), False
        try:
            if not build.is_stale(self.lake, self.settings.reports, self.settings):
                return
            self._beacons = False
            with versions.writer(self.settings.reports):
                candidate = build.build_candidate(self.lake, self.settings.reports, self.settings, began)
                passed = self._publish(candidate)
        except versions.WriterBusyError:
            self._beacons = True
            return
        except Exception:
            log.exception("a build of the reports failed")
        ended = datetime.now(UTC)
        self.builds = [Build(ended, not passed, ended - began), *self.builds][:_LATEST]

    def _publish(self, candidate: build.Candidate) -> bool:
        passed = all(result.passed for result in checks.run(candidate, self.lake, self.settings))
        if passed and candidate.is_changed:
            self.published = build.publish(candidate, self.settings, datetime.now(UTC))
        else:
            candidate.discard()
        return passed


@dg.op(description="Reads log files that come, and builds, checks and publishes reports, while broadcasts are sent.")
def follow(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    lake: dg.ResourceParam[Lake],
    logs: dg.ResourceParam[Logs],
) -> None:
    """Follow, and tell Dagster at the end what came of it."""
    # As urgent as what it follows: with a share of the processors a build is soon over.
    name_process("notify-follower")
    follower = Follower(settings, ledger, lake, logs)
    try:
        run_stoppable(follower.run, lambda: not is_cancelled(context))
    finally:
        for report in follower.read.values():
            for materialization in news(report):
                context.log_event(materialization)
        if follower.published is not None:
            for materialization in catalogue.published(follower.published):
                context.log_event(materialization)
    failed = sum(each.failed for each in follower.builds)
    context.add_output_metadata({"hours": len(follower.read), "builds": len(follower.builds), "failed": failed})
    for hour in follower.unread:
        context.log.error(f"not every log file of {hour:%Y-%m-%d %H:%M} could be read: a run of this hour says why")
    if failed == len(follower.builds) > 0:
        raise dg.Failure("no build succeeded: run build_reports, which says what fails")


@dg.job(
    name=JOB,
    executor_def=dg.in_process_executor,
    tags=lanes.tag(lanes.REPORTS),
    description="Has reports follow broadcasts that are being sent: beacons within seconds of their log file.",
)
def follow_broadcasts() -> None:
    """One op."""
    follow()
