"""The reports room's definitions, put together.

Belongs here: the list. Does not belong here: the definitions.
"""

import dagster as dg

from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.reports import assets, catalogue, extract, follow, sensor


def build(settings: Settings) -> dg.Definitions:
    """Assets, checks, jobs, schedules and the sensor of reports."""
    jobs = assets.make_jobs()
    extracted = extract.make_extract(settings, [assets.published_report.key])
    return dg.Definitions(
        assets=[
            assets.report_candidate,
            assets.published_report,
            extracted,
            *catalogue.specs(assets.published_report.key),
        ],
        asset_checks=[assets.check_candidate, assets.equals_full_rebuild],
        jobs=[*jobs, follow.follow_broadcasts, extract.make_job(extracted)],
        schedules=[sensor.hourly, sensor.daily, extract.extract_nightly, extract.extract_what_changed],
        sensors=[sensor.make_sensor([jobs[0], follow.follow_broadcasts])],
        resources={"report_writer": assets.report_writer},
    )
