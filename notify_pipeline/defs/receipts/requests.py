"""From a batch of hours to a request for a run of them.

Belongs here: that. Does not belong here: which hours (``hours``), when (``sensor``, ``schedules``).
"""

from datetime import datetime

import dagster as dg

from notify_pipeline.defs import spans
from notify_pipeline.defs.receipts.asset import key_of
from notify_pipeline.defs.receipts.hours import Batch


def run_request(batch: Batch) -> dg.RunRequest:
    """One run of all of a batch's hours."""
    first, last = (key_of(datetime.fromisoformat(moment)) for moment in (batch.first, batch.last))
    return spans.run_request(batch.run_key, first, last)
