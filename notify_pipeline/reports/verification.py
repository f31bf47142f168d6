"""Tells whether the reports are what the whole lake says.

Belongs here: building both ways and comparing. Does not belong here: the comparison itself (``comparison``).
"""

from datetime import datetime
from pathlib import Path
from typing import Final

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import merging
from notify_pipeline.reports.build import build_candidate
from notify_pipeline.reports.comparison import Difference, compare, files_of

# Rows may land between the two builds that are compared; three times in a row they do not by chance.
_TRIES: Final = 3


def verify(lake: Lake, root: Path, settings: Settings, now: datetime) -> dict[str, Difference]:
    """Compare what building step by step gives with what computing everything from the lake gives.

    What is frozen is in both as it is. Damaged copies of days are removed. Only the writer may do this
    (``versions.writer``).

    Returns:
        By table, what differs: ``a`` is step by step, ``b`` is everything. Empty if nothing does.
    """
    merging.drop_unreadable(root, settings)
    differing: dict[str, Difference] = {}
    for _ in range(_TRIES):
        step = build_candidate(lake, root, settings, now)
        try:
            whole = build_candidate(lake, root, settings, now, full=True)
            try:
                differing = compare(files_of(step, root), files_of(whole, root), settings.duckdb_memory)
            finally:
                whole.discard()
        finally:
            step.discard()
        if not differing:
            break
    return differing
