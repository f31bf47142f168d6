"""The reports as assets: a candidate, the checks that block it, and the published version.

Belongs here: assets, checks and their job. Does not belong here: building, checking, publishing (``reports``), when
(``sensor``).
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.schemas import ATTEMPTS, AUDIENCES, AUDIT, RECEIPTS, REGISTRATIONS, REQUESTS
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs import lanes, metadata
from notify_pipeline.defs.maintenance import lake_tables
from notify_pipeline.defs.process import yield_to_delivery
from notify_pipeline.defs.reports import catalogue
from notify_pipeline.reports import build, checks, merging, verification, versions

JOB = "build_reports"
VERIFY_JOB = "verify_reports"
GROUP = "reports"
# A rebuild by hand holds the right to build for as long as it takes; a run that waits longer gives its place up.
_WRITER_WAIT_S = 60.0
_LANDED = (REQUESTS, AUDIT, AUDIENCES, ATTEMPTS, REGISTRATIONS)
_SOURCES = (*(lake_tables.key_of(table.name) for table in _LANDED), dg.AssetKey(RECEIPTS.name))


@dg.resource(required_resource_keys={"settings"}, description="The right to build reports, held for a whole run.")
def report_writer(context: dg.InitResourceContext) -> Iterator[Path]:
    """Take it, waiting for another builder to end; give the folder."""
    yield_to_delivery()
    root: Path = context.resources.settings.reports
    deadline = time.monotonic() + _WRITER_WAIT_S
    while True:
        try:
            with versions.writer(root):
                yield root
            return
        except versions.WriterBusyError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


@dg.asset(
    deps=_SOURCES,
    group_name=GROUP,
    description="The next version: the current one's days, but for those in which the lake changed something.",
)
def report_candidate(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    report_writer: dg.ResourceParam[Path],
) -> build.Candidate:
    """Build it."""
    candidate = build.build_candidate(lake, report_writer, settings, datetime.now(UTC))
    context.add_output_metadata({**metadata.of(candidate.changes), "version": candidate.number})
    return candidate


@dg.multi_asset_check(
    name="check_candidate",
    specs=[dg.AssetCheckSpec(name, asset=report_candidate, blocking=True) for name in checks.NAMES],
    description="What must be true of a version before anybody sees it.",
)
def check_candidate(
    report_candidate: build.Candidate, settings: dg.ResourceParam[Settings], lake: dg.ResourceParam[Lake]
) -> Iterator[dg.AssetCheckResult]:
    """Run every check."""
    for result in checks.run(report_candidate, lake, settings):
        yield dg.AssetCheckResult(
            asset_key="report_candidate",
            check_name=result.name,
            passed=result.passed,
            description=result.description,
            metadata={"offending": result.offending, "examples": list(result.examples)},
        )


@dg.asset(
    group_name=GROUP,
    description="The current version: immutable DuckDB files, one of each day, that a manifest names.",
)
def published_report(
    context: dg.AssetExecutionContext,
    report_candidate: build.Candidate,
    settings: dg.ResourceParam[Settings],
    report_writer: dg.ResourceParam[Path],
) -> None:
    """Make the candidate the current version, unless it says nothing new."""
    candidate = report_candidate
    if not candidate.is_changed:
        candidate.discard()
        merged = merging.merge_next(report_writer, settings, datetime.now(UTC))
        context.add_output_metadata({"unchanged": True, "merged_month": merged or ""})
        return
    version = build.publish(candidate, settings, datetime.now(UTC))
    for news in catalogue.published(version):
        context.log_event(news)
    merged = merging.merge_next(report_writer, settings, datetime.now(UTC))
    found = {"version": version.number, "days": len(version.segments), "new_days": len(candidate.changed)}
    context.add_output_metadata({**found, "merged_month": merged or ""})


@dg.asset_check(
    asset=published_report,
    description="Computing everything from the lake gives the same tables as computing what changed.",
)
def equals_full_rebuild(
    settings: dg.ResourceParam[Settings], lake: dg.ResourceParam[Lake], report_writer: dg.ResourceParam[Path]
) -> dg.AssetCheckResult:
    """Build both and compare them."""
    differing = verification.verify(lake, report_writer, settings, datetime.now(UTC))
    rows = {table: difference.rows for table, difference in differing.items()}
    examples = {table: difference.examples for table, difference in differing.items()}
    return dg.AssetCheckResult(passed=not differing, metadata={"differing_rows": rows, "examples": examples})


def make_jobs() -> list[UnresolvedAssetJobDefinition]:
    """The job that builds and publishes, and the one that compares with a full rebuild."""
    everything = dg.AssetSelection.assets(report_candidate, published_report)
    verifying = dg.AssetSelection.checks(equals_full_rebuild)
    return [
        dg.define_asset_job(
            JOB,
            selection=everything - verifying,
            executor_def=dg.in_process_executor,
            tags=lanes.tag(lanes.REPORTS),
            description="Builds the next version, checks it, and publishes it if every check passes.",
        ),
        dg.define_asset_job(
            VERIFY_JOB,
            selection=verifying,
            executor_def=dg.in_process_executor,
            tags=lanes.tag(lanes.REPORTS),
            description="Computes the reports from the whole lake and compares. Publishes nothing.",
        ),
    ]
