"""The reports room's definitions, put together.

Belongs here: the list. Does not belong here: the definitions.
"""

import dagster as dg

from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.reports import assets, catalogue, sensor


def build(settings: Settings) -> dg.Definitions:
    """Assets, checks, jobs, schedules and the sensor of reports."""
    return dg.Definitions(
        assets=[assets.report_candidate, assets.published_report, *catalogue.specs(assets.published_report.key)],
        asset_checks=[assets.check_candidate, assets.equals_full_rebuild],
        jobs=assets.make_jobs(),
        schedules=[sensor.hourly, sensor.daily],
        sensors=[sensor.build_when_the_lake_changed],
        resources={"report_writer": assets.report_writer},
    )
