"""Computes a few notifications of a candidate anew from the hours' lake files, whatever the builder remembers.

Belongs here: the sample, and comparing every row of it. Does not belong here: the other checks (``checks``), comparing
everything (``comparison``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import duckdb

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import HOUR, partition
from notify_pipeline.reports import database, state
from notify_pipeline.reports.build import Candidate
from notify_pipeline.reports.composed import Fact
from notify_pipeline.reports.lake_diff import OF_NOTIFICATIONS
from notify_pipeline.reports.lake_files import load_stage

# The latest are those that a mistake in folding would show in first; the others differ from version to version.
_LATEST: Final = 3
_DRAWN: Final = 3
# One that was accepted longer ago is told of by too many files to read them all for it. The nightly check does.
_FILES: Final = 400
_PICK: Final = (
    "CREATE OR REPLACE TEMP TABLE picked AS WITH known AS (FROM main.notifications)"
    " (SELECT tenant, notification_id, accepted_at FROM known ORDER BY last_attempt_at DESC NULLS LAST, tenant,"
    " notification_id LIMIT $latest) UNION"
    " (SELECT tenant, notification_id, accepted_at FROM known ORDER BY md5(notification_id || $number), tenant"
    " LIMIT $drawn)"
)


@dataclass(frozen=True, slots=True)
class Recount:
    """How many were picked and counted, and the differences by notification and table."""

    picked: int
    counted: int
    wrong: list[str]


def pick(connection: duckdb.DuckDBPyConnection, facts: Sequence[Fact], number: int) -> list[tuple[str, datetime]]:
    """Draw the sample from the composed database in use, and keep its rows as ``reported_<table>``.

    Returns:
        Notification ids and when the API accepted them.
    """
    connection.execute(_PICK, {"latest": _LATEST, "drawn": _DRAWN, "number": str(number)})
    for fact in facts:
        if fact.is_by_notification:
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE reported_{fact.name} AS"  # noqa: S608 - our own names
                f" FROM facts.{fact.name} SEMI JOIN picked USING (tenant, notification_id)"
            )
    return connection.execute("SELECT notification_id, accepted_at FROM picked ORDER BY accepted_at DESC").fetchall()


def compute(
    connection: duckdb.DuckDBPyConnection,
    facts: Sequence[Fact],
    candidate: Candidate,
    lake: Lake,
    picked: Sequence[tuple[str, datetime]],
) -> Recount:
    """Compute the sample anew into the empty database ``report``, and compare."""
    names: list[str] = []
    paths: dict[str, list[str]] = {}
    for name, accepted_at in picked:
        found = _paths(candidate, accepted_at)
        if sum(map(len, found.values())) > _FILES:
            break  # the others were accepted even earlier
        names, paths = [*names, name], found
    connection.execute("CREATE SCHEMA IF NOT EXISTS stage")
    connection.execute(
        "CREATE OR REPLACE TABLE stage.affected AS SELECT DISTINCT unnest($names::VARCHAR[]) AS notification_id",
        {"names": names},
    )
    connection.execute("CREATE OR REPLACE TABLE stage.affected_days (day DATE)")
    try:
        load_stage(connection, lake, paths)
    except (FileNotFoundError, duckdb.IOException):  # compacted or replaced since the candidate was built
        return Recount(len(picked), 0, [])
    database.run_models(connection)
    wrong = [text for fact in facts if fact.is_by_notification for text in _differing(connection, fact)]
    return Recount(len(picked), len(names), wrong)


def _differing(connection: duckdb.DuckDBPyConnection, fact: Fact) -> list[str]:
    of = "SEMI JOIN stage.affected USING (notification_id)"
    reported, counted = (
        f"(FROM reported_{fact.name} {of})",
        f"(FROM report.facts.{fact.name} SEMI JOIN picked USING (tenant, notification_id))",
    )
    found = []
    for side, one, other in (("reported", reported, counted), ("counted", counted, reported)):
        rows = connection.execute(
            f"SELECT tenant || '/' || notification_id, t::VARCHAR FROM ({one} EXCEPT ALL {other}) AS t ORDER BY ALL"  # noqa: S608
        ).fetchall()
        found += [f"{name}: {side} in {fact.name}: {text}" for name, text in rows]
    return found


def _paths(candidate: Candidate, accepted_at: datetime) -> dict[str, list[str]]:
    """Return all files from the hour of a moment on, by table, that the candidate was built from."""
    since = partition(accepted_at - HOUR)  # hosts' clocks differ
    path = candidate.fresh_state or state.state_path(candidate.root)
    with state.opened(path) as remembered:
        remembered.look_ahead(candidate.delta)
        return {table.name: remembered.files_from(table.name, f"{table.name}/{since}") for table in OF_NOTIFICATIONS}
