"""What must be true of a candidate before anybody sees it. Every check blocks.

Belongs here: the checks and their results. Does not belong here: what to do about a failure.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import duckdb

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import HOUR, hour_start, partition_of
from notify_pipeline.core.schemas import ATTEMPTS, RECEIPTS
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import database
from notify_pipeline.reports.build import Candidate
from notify_pipeline.reports.lake_files import local_files

# Each check by name: what it says, and the rows that break it.
_RULES: Final = {
    "received_within_accepted": (
        "received, opened and clicked never exceed accepted",
        "SELECT notification_id FROM report.main.platform_reports WHERE greatest(received, opened, clicked) > accepted",
    ),
    "attempts_reconcile": (
        "attempted = accepted + failed + invalid + ambiguous",
        "SELECT notification_id FROM report.main.platform_reports"
        " WHERE attempted <> accepted + failed + invalid + ambiguous",
    ),
    "audience_covers_outcomes": (
        "nobody has an outcome who was not in the audience",
        "SELECT notification_id FROM report.main.platform_reports"
        " WHERE audience < attempted + skipped + expired + dry_run",
    ),
    "figures_in_range": (
        "no count is negative, shares lie within 0 and 1, percentiles ascend",
        "SELECT notification_id FROM report.main.platform_reports"
        " WHERE least(audience, attempted, accepted, accepted_by_beacon, failed, throttled, invalid, ambiguous,"
        " skipped, expired, dry_run, received, opened, clicked, hits) < 0 OR hits < received OR throttled > failed"
        " OR share_120s < 0 OR share_120s > 1 OR p50_s > p90_s OR p90_s > p99_s OR p50_s < 0"
        " OR first_accepted_at > last_accepted_at",
    ),
    "totals_are_sums": (
        "a notification's figures are the sums of its platforms'",
        "SELECT tenant || '/' || notification_id FROM (SELECT tenant, notification_id, audience, attempted, accepted,"
        " failed, invalid, received, hits FROM report.main.notifications WHERE audience > 0 EXCEPT SELECT tenant,"
        " notification_id, sum(audience), sum(attempted), sum(accepted), sum(failed), sum(invalid), sum(received),"
        " sum(hits) FROM report.main.platform_reports GROUP BY ALL)",
    ),
    "actions_within_clicked": (
        "no action was clicked on more deliveries than were clicked at all",
        "SELECT notification_id FROM (SELECT tenant, notification_id, action, sum(clicked) AS clicks"
        " FROM report.main.actions GROUP BY ALL) AS a JOIN report.main.notifications AS n USING (tenant,"
        " notification_id) WHERE a.clicks > n.clicked",
    ),
    "consumed_is_accepted": (
        "what a domain consumed is what providers accepted of its notifications",
        "SELECT notification_id FROM (SELECT tenant, notification_id, sum(accepted) AS consumed"
        " FROM report.main.consumed GROUP BY ALL) AS c FULL JOIN (SELECT tenant, notification_id, accepted"
        " - accepted_by_beacon AS accepted FROM report.main.notifications WHERE domain IS NOT NULL) AS n"
        " USING (tenant, notification_id) WHERE coalesce(c.consumed, 0) <> coalesce(n.accepted, 0)",
    ),
    "one_row_each": (
        "one row per notification",
        "SELECT notification_id FROM report.main.notifications GROUP BY tenant, notification_id HAVING count(*) > 1",
    ),
}
SAMPLE_CHECK: Final = "sample_matches_lake"
NAMES: Final = (*_RULES, SAMPLE_CHECK)
# The recount reads the hours' files whole, whatever the index says; a few notifications tell whether it is right.
_SAMPLE: Final = 3
_SAMPLE_FILES: Final = 400
_EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of one candidate."""

    name: str
    passed: bool
    description: str
    offending: int
    examples: list[str]


def run(candidate: Candidate, lake: Lake, settings: Settings) -> list[CheckResult]:
    """Run every check on a candidate.

    Args:
        candidate: As built.
        lake: What it was built from.
        settings: DuckDB's limits.
    """
    return run_on(candidate.path, lake, settings)


def run_on(path: Path, lake: Lake, settings: Settings) -> list[CheckResult]:
    """Run every check on a report database that nobody is writing."""

    def check(memory: str) -> list[CheckResult]:
        connection = database.connect(memory, settings.duckdb_threads, path.parent / "spill")
        try:
            with database.attached(connection, path, read_only=True):
                results = [_rule(connection, name, *rule) for name, rule in _RULES.items()]
                results.append(_sample(connection, lake))
                return results
        finally:
            connection.close()

    return database.within((settings.report_memory, settings.duckdb_memory), check)


def _rule(connection: duckdb.DuckDBPyConnection, name: str, description: str, query: str) -> CheckResult:
    rows = connection.execute(query).fetchall()
    examples = sorted({str(row[0]) for row in rows})[:_EXAMPLES]
    return CheckResult(name, not rows, description, len(rows), examples)


def _sample(connection: duckdb.DuckDBPyConnection, lake: Lake) -> CheckResult:
    """Count the latest notifications' deliveries straight from the hours' files, not by the index of notifications."""
    rows = connection.execute(
        "SELECT tenant, notification_id, accepted_at, attempted + skipped + expired"
        " + dry_run, received, hits FROM report.main.notifications WHERE last_attempt_at IS NOT NULL"
        " ORDER BY last_attempt_at DESC, tenant, notification_id LIMIT ?",
        [_SAMPLE],
    ).fetchall()
    wrong, counted = [], 0
    for tenant, notification_id, accepted_at, *reported in rows:
        attempts = _files(connection, ATTEMPTS.name, accepted_at)
        receipts = _files(connection, RECEIPTS.name, accepted_at)
        if len(attempts) + len(receipts) > _SAMPLE_FILES:
            continue
        try:
            actual = _count(connection, lake, tenant, notification_id, attempts, receipts)
        except (FileNotFoundError, duckdb.IOException):  # compacted or replaced since the candidate was built
            continue
        counted += 1
        if actual != reported:
            wrong.append(f"{tenant}/{notification_id}: reported {reported}, counted {actual}")
    description = f"{counted} of the latest {len(rows)} notifications counted again from the hours' files"
    return CheckResult(SAMPLE_CHECK, not wrong, description, len(wrong), wrong[:_EXAMPLES])


def _files(connection: duckdb.DuckDBPyConnection, table: str, since: datetime) -> list[str]:
    """Return the candidate's files of a table from the hour of a moment on."""
    rows = connection.execute(
        "SELECT path FROM report.internal.files WHERE lake_table = ? ORDER BY path", [table]
    ).fetchall()
    first = hour_start(since) - HOUR  # hosts' clocks differ
    return [path for (path,) in rows if partition_of(path) >= first]


def _count(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    tenant: str,
    notification_id: str,
    attempts: list[str],
    receipts: list[str],
) -> list[int]:
    """Return distinct deliveries, those received, and received lines."""
    with local_files(lake, [*attempts, *receipts]) as files:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE recount AS SELECT delivery_id,"
            " bool_or(outcome NOT IN ('skipped', 'expired', 'dry_run')) AS called"
            " FROM read_parquet($files, hive_partitioning = false)"
            " WHERE tenant = $tenant AND notification_id = $notification_id GROUP BY delivery_id",
            {"files": files[: len(attempts)], "tenant": tenant, "notification_id": notification_id},
        )
        found = [0, 0]
        if receipts:
            row = database.first_row(
                connection,
                "SELECT count(DISTINCT delivery_id), count(*) FROM read_parquet($files, hive_partitioning = false)"
                " WHERE event = 'received' AND notification_id = $notification_id"
                " AND delivery_id IN (SELECT delivery_id FROM recount WHERE called)",
                {"files": files[len(attempts) :], "notification_id": notification_id},
            )
            found = [0, 0] if row is None else [int(row[0]), int(row[1])]
    row = database.first_row(connection, "SELECT count(*) FROM recount")
    return [0 if row is None else int(row[0]), *found]
