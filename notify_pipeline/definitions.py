"""What Dagster loads: the definitions of every room below ``defs/``, bound to resources.

Belongs here: putting together. Does not belong here: any definition.
"""

from collections.abc import Mapping

import dagster as dg

from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.delivery.build import build as delivery
from notify_pipeline.defs.maintenance.build import build as maintenance
from notify_pipeline.defs.receipts.build import build as receipts
from notify_pipeline.defs.reports.build import build as reports
from notify_pipeline.defs.resources import make_resources


def build_defs(settings: Settings, resource_overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """Put the definitions together.

    Args:
        settings: Decides limits; what a run opens, it reads from the environment when it runs.
        resource_overrides: Replace resources by name, for tests.

    Returns:
        Everything, resources bound.
    """
    parts = [build(settings) for build in (delivery, receipts, reports, maintenance)]
    resources = {**make_resources(), **(resource_overrides or {})}
    # In one process by default: what the UI materializes by hand is quick, and the report's steps share a lock.
    common = dg.Definitions(resources=resources, executor=dg.in_process_executor)
    return dg.Definitions.merge(*parts, common)


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions as the environment configures them."""
    return build_defs(Settings())
