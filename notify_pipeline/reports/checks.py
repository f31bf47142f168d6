"""What must be true of a candidate before anybody sees it. Every check blocks.

Belongs here: the checks and their results. Does not belong here: what to do about a failure.
"""

from dataclasses import dataclass
from typing import Final

import duckdb

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.sql import quoted
from notify_pipeline.reports import database, recount
from notify_pipeline.reports.build import Candidate
from notify_pipeline.reports.composed import attach_empty, compose, part_of

# Each check by name: what it says, and the rows that break it.
_RULES: Final = {
    "received_within_accepted": (
        "received, opened and clicked never exceed accepted",
        "SELECT notification_id FROM main.platform_reports WHERE greatest(received, opened, clicked) > accepted",
    ),
    "attempts_reconcile": (
        "attempted = accepted + failed + invalid + ambiguous",
        "SELECT notification_id FROM main.platform_reports WHERE attempted <> accepted + failed + invalid + ambiguous",
    ),
    "audience_covers_outcomes": (
        "nobody has an outcome who was not in the audience",
        "SELECT notification_id FROM main.platform_reports WHERE audience < attempted + skipped + expired + dry_run",
    ),
    "figures_in_range": (
        "no count is negative, shares lie within 0 and 1, percentiles ascend",
        "SELECT notification_id FROM main.platform_reports"
        " WHERE least(audience, attempted, accepted, accepted_by_beacon, failed, throttled, invalid, ambiguous,"
        " skipped, expired, dry_run, received, opened, clicked, hits) < 0 OR hits < received OR throttled > failed"
        " OR share_120s < 0 OR share_120s > 1 OR p50_s > p90_s OR p90_s > p99_s OR p50_s < 0"
        " OR first_accepted_at > last_accepted_at",
    ),
    "totals_are_sums": (
        "a notification's figures are the sums of its platforms'",
        "SELECT tenant || '/' || notification_id FROM (SELECT tenant, notification_id, audience, attempted, accepted,"
        " failed, invalid, received, hits FROM main.notifications WHERE audience > 0 EXCEPT SELECT tenant,"
        " notification_id, sum(audience), sum(attempted), sum(accepted), sum(failed), sum(invalid), sum(received),"
        " sum(hits) FROM main.platform_reports GROUP BY ALL)",
    ),
    "actions_within_clicked": (
        "no action was clicked on more deliveries than were clicked at all",
        "SELECT notification_id FROM (SELECT tenant, notification_id, action, sum(clicked) AS clicks"
        " FROM main.actions GROUP BY ALL) AS a JOIN main.notifications AS n USING (tenant,"
        " notification_id) WHERE a.clicks > n.clicked",
    ),
    "consumed_is_accepted": (
        "what a domain consumed is what providers accepted of its notifications",
        "SELECT notification_id FROM (SELECT tenant, notification_id, sum(accepted) AS consumed"
        " FROM main.consumed GROUP BY ALL) AS c FULL JOIN (SELECT tenant, notification_id, accepted"
        " - accepted_by_beacon AS accepted FROM main.notifications WHERE domain IS NOT NULL) AS n"
        " USING (tenant, notification_id) WHERE coalesce(c.consumed, 0) <> coalesce(n.accepted, 0)",
    ),
    "stages_reconcile": (
        "every call was queued for, every acceptance and every beacon timed, and longer shares take no less time",
        "SELECT notification_id FROM (SELECT tenant, notification_id, channel, platform, provider,"
        " sum(deliveries) FILTER (stage = 'queued') AS queued, sum(deliveries) FILTER (stage = 'provider') AS answered,"
        " sum(deliveries) FILTER (stage = 'device') AS shown, sum(deliveries) FILTER (stage = 'total') AS total,"
        " bool_and(0 <= p50_s AND p50_s <= p90_s AND p90_s <= p99_s AND p99_s <= max_s) AS ascends"
        " FROM main.latencies GROUP BY ALL) AS l FULL JOIN main.platform_reports AS p"
        " USING (tenant, notification_id, channel, platform, provider) WHERE NOT ascends"
        " OR coalesce(queued, 0) IS DISTINCT FROM attempted OR coalesce(total, 0) IS DISTINCT FROM received"
        " OR coalesce(answered, 0) IS DISTINCT FROM accepted - accepted_by_beacon"
        " OR coalesce(shown, 0) > least(answered, received)",
    ),
    "calls_reconcile": (
        "calls by the hour are the attempts: those that failed are those of failures, and what was accepted was called",
        "SELECT notification_id FROM (SELECT tenant, notification_id, sum(attempts) FILTER (outcome = 'accepted')"
        " AS accepting, sum(attempts) FILTER (outcome <> 'accepted') AS others FROM facts.calls GROUP BY ALL) AS c"
        " FULL JOIN (SELECT tenant, notification_id, sum(attempts) AS failing FROM main.failures"
        " WHERE outcome NOT IN ('skipped', 'expired') GROUP BY ALL) AS f USING (tenant, notification_id)"
        " FULL JOIN main.notifications AS n USING (tenant, notification_id) WHERE coalesce(others, 0) <>"
        " coalesce(failing, 0) OR coalesce(accepting, 0) < n.accepted - n.accepted_by_beacon",
    ),
    "one_row_each": (
        "one row per notification",
        "SELECT notification_id FROM main.notifications GROUP BY tenant, notification_id HAVING count(*) > 1",
    ),
}
SAMPLE_CHECK: Final = "sample_matches_lake"
NAMES: Final = (*_RULES, SAMPLE_CHECK)
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
    """Run every check on what a candidate has of its own; what it shares has passed them.

    Args:
        candidate: As built.
        lake: What it was built from.
        settings: DuckDB's limits.
    """

    def check(memory: str) -> list[CheckResult]:
        connection = database.connect(memory, settings.duckdb_threads, candidate.folder / "spill")
        try:
            facts = attach_empty(connection)
            members = []
            for number, segment in enumerate(candidate.changed):
                path = quoted(str(candidate.path_of(segment)))
                connection.execute(f"ATTACH {path} AS segment_{number} (READ_ONLY)")
                members.append((f"segment_{number}", part_of(segment)))
            compose(connection, "candidate", facts, members, candidate.version.build)
            connection.execute("USE candidate")
            results = [_rule(connection, name, *rule) for name, rule in _RULES.items()]
            picked = recount.pick(connection, facts, candidate.number)
            connection.execute("USE memory")
            return [*results, _recounted(recount.compute(connection, facts, candidate, lake, picked))]
        finally:
            connection.close()

    return database.within((settings.report_memory, settings.duckdb_memory), check)


def _rule(connection: duckdb.DuckDBPyConnection, name: str, description: str, query: str) -> CheckResult:
    rows = connection.execute(query).fetchall()
    examples = sorted({str(row[0]) for row in rows})[:_EXAMPLES]
    return CheckResult(name, not rows, description, len(rows), examples)


def _recounted(found: recount.Recount) -> CheckResult:
    description = (
        f"{found.counted} of {found.picked} changed notifications, computed again from the hours' files, are the same"
    )
    return CheckResult(SAMPLE_CHECK, not found.wrong, description, len(found.wrong), found.wrong[:_EXAMPLES])
