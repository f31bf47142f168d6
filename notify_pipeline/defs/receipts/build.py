"""The receipts room's definitions, put together.

Belongs here: the list. Does not belong here: the definitions.
"""

import dagster as dg

from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.receipts.asset import RAW_LOGS, make_job, make_receipts
from notify_pipeline.defs.receipts.schedules import nightly, recent
from notify_pipeline.defs.receipts.sensor import process_changed_hours


def build(settings: Settings) -> dg.Definitions:
    """Assets, job, schedules and sensor of receipts."""
    asset = make_receipts(settings)
    return dg.Definitions(
        assets=[RAW_LOGS, asset],
        jobs=[make_job(asset)],
        schedules=[recent, nightly],
        sensors=[process_changed_hours],
    )
