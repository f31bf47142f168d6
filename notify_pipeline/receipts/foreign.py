"""Beacons that are well formed and belong to nothing, for people: where they came in, and what is wrong with them.

Belongs here: finding them among some hours' events. Does not belong here: leaving them out of reports, which the report
tables' models do (``reports``), the command (``commands``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.schemas import RECEIPTS
from notify_pipeline.receipts.hours import SOURCE_FILE
from notify_pipeline.receipts.logs import source_of

_SCHEMA: Final = pa.schema([("source", pa.string()), ("notification_id", pa.string()), ("delivery_id", pa.string())])
# A delivery that no provider was called for cannot have arrived: as the report models have it.
_FOREIGN: Final = """
SELECT b.source, CASE WHEN n.notification_id IS NULL THEN 'unknown_notification' ELSE 'unknown_delivery' END AS reason,
    b.notification_id, count(DISTINCT b.delivery_id) AS deliveries, count(*) AS hits
FROM beacons AS b
ANTI JOIN (
    SELECT notification_id, delivery_id FROM lake.attempts
    WHERE notification_id IN (SELECT notification_id FROM facts.foreign_beacons)
        AND outcome NOT IN ('skipped', 'dry_run', 'expired')
) AS a USING (notification_id, delivery_id)
LEFT JOIN (SELECT DISTINCT notification_id FROM facts.notifications) AS n USING (notification_id)
GROUP BY ALL
ORDER BY hits DESC, b.source, b.notification_id
LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Beacons of one source that name a notification and do not belong to it.

    Attributes:
        source: The first folder of their log files.
        reason: ``unknown_notification``, or ``unknown_delivery`` of one that there is.
        notification_id: What they name.
        deliveries: Distinct delivery ids.
        hits: Lines.
    """

    source: str
    reason: str
    notification_id: str
    deliveries: int
    hits: int


def foreign(db: duckdb.DuckDBPyConnection, lake: Lake, hours: Iterable[datetime], limit: int) -> list[Foreign]:
    """Return the foreign beacons of some hours, as far as reports were built, the most first.

    Args:
        db: With a report version, and the lake's tables (``reports.analysis``).
        lake: The same lake.
        hours: Of the log files.
        limit: So many at most.
    """
    named = [name for (name,) in db.execute("SELECT DISTINCT notification_id FROM facts.foreign_beacons").fetchall()]
    names = pa.array(named, pa.string())
    parts = [part for hour in hours for part in _beacons(lake, hour, names)]
    db.register("beacons", pa.concat_tables([_SCHEMA.empty_table(), *parts]))
    rows = db.execute(_FOREIGN, [limit]).fetchall()
    db.unregister("beacons")
    return [Foreign(*row) for row in rows]


def _beacons(lake: Lake, hour: datetime, names: pa.Array) -> Iterable[pa.Table]:
    """Yield each file's beacons that name one of these notifications."""
    for file in lake.list(partition(RECEIPTS, hour)):
        try:
            with lake.open_parquet(file.path) as opened:
                notes = opened.schema_arrow.metadata or {}
                rows = opened.read(columns=["notification_id", "delivery_id"])
        except FileNotFoundError:  # its log file was replaced meanwhile
            continue
        rows = rows.filter(pc.is_in(rows["notification_id"], value_set=names)).replace_schema_metadata()
        source = source_of(notes.get(SOURCE_FILE.encode(), b"").decode())
        yield rows.add_column(0, "source", pa.array([source] * rows.num_rows, pa.string()))
