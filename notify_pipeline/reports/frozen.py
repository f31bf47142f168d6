"""The day before which reports stay as they are.

Belongs here: that mark. Does not belong here: when it moves (retention), what it means for a build (``build``).

Whoever deletes what reports are made of moves the mark first: notifications accepted before it are neither computed
anew nor dropped, whatever becomes of the lake's files. A build reads the mark after it has listed the lake.
"""

from datetime import date
from pathlib import Path
from typing import Final

import orjson

from notify_pipeline.reports.versions import replace_file

_FILE: Final = "frozen.json"


def before(root: Path) -> date | None:
    """Return the mark, None as long as everything follows the lake."""
    try:
        return date.fromisoformat(orjson.loads((root / _FILE).read_bytes())["before"])
    except FileNotFoundError:
        return None


def move(root: Path, day: date) -> date:
    """Move the mark to a day, unless it is there or beyond already; return where it is now. One at a time may do this.

    Args:
        root: The reports root.
        day: Notifications accepted before this day (UTC) shall stay as they are.
    """
    now = before(root)
    if now is not None and now >= day:
        return now
    root.mkdir(parents=True, exist_ok=True)
    replace_file(root / _FILE, orjson.dumps({"before": day}))
    return day
