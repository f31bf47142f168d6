"""The delivery room's definitions, put together.

Belongs here: the list. Does not belong here: the definitions.
"""

import dagster as dg

from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.delivery.broadcast import launch_broadcasts, make_broadcast_job
from notify_pipeline.defs.delivery.drain import drain_job, keep_drain_alive


def build(settings: Settings) -> dg.Definitions:
    """Jobs and sensors of delivery."""
    return dg.Definitions(jobs=[drain_job, make_broadcast_job(settings)], sensors=[keep_drain_alive, launch_broadcasts])
