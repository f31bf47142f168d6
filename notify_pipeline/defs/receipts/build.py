"""The receipts room's definitions, put together.

Belongs here: the list. Does not belong here: the definitions.
"""

import dagster as dg

from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.receipts.asset import (
    RAW_LOGS,
    make_freshness_check,
    make_freshness_job,
    make_job,
    make_receipts,
    quarantine,
)
from notify_pipeline.defs.receipts.schedules import hourly_check, nightly, recent
from notify_pipeline.defs.receipts.sensor import process_changed_hours


def build(settings: Settings) -> dg.Definitions:
    """Assets, job, schedules and sensor of receipts."""
    asset = make_receipts(settings)
    return dg.Definitions(
        assets=[RAW_LOGS, asset, quarantine(settings)],
        asset_checks=[make_freshness_check(asset)],
        jobs=[make_job(asset), make_freshness_job(asset)],
        schedules=[recent, nightly, hourly_check],
        sensors=[process_changed_hours],
    )
