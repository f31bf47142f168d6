"""The maintenance room's definitions, put together.

Belongs here: the list. Does not belong here: the definitions.
"""

import dagster as dg

from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.maintenance import audience, compaction, erasure, lake_tables, retention, tidy


def build(settings: Settings) -> dg.Definitions:
    """Jobs, schedules and sensors of maintenance."""
    return dg.Definitions(
        assets=lake_tables.specs(),
        jobs=[
            audience.rebuild_audience_base,
            compaction.compact_lake,
            erasure.erase_from_lake,
            retention.let_go_of_the_old,
            tidy.tidy,
        ],
        schedules=[audience.hourly, compaction.hourly, retention.daily, tidy.hourly],
        sensors=[audience.rebuild_when_the_delta_is_large, erasure.erase_when_somebody_is_to_be],
    )
