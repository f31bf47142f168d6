"""What the lake holds of one landing table, by the ledger's word.

Belongs here: reading which files have landed. Does not belong here: planning or writing them (``core.lander``,
``core.compaction``).
"""

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, case, or_, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import SEGMENTS
from notify_pipeline.core.partitions import hour_start


@dataclass(frozen=True, slots=True)
class LandedSegments:
    """The readable segments of one table at one moment.

    Attributes:
        paths: Path below the lake root by segment id, of segments that have landed and were not replaced.
        sources: For a segment made by a compaction, the segments whose rows it holds, as far as still known.
    """

    paths: dict[str, str]
    sources: dict[str, tuple[str, ...]]

    def not_in(self, known: Set[str]) -> dict[str, str]:
        """Return the segments that may hold a row which no segment in ``known`` holds.

        A compacted segment is left out only where every segment that it was made of is known.
        """
        return {segment: path for segment, path in self.paths.items() if not self._covered(segment, known)}

    def _covered(self, segment: str, known: Set[str]) -> bool:
        waiting = [segment]
        while waiting:
            one = waiting.pop()
            if one in known:
                continue
            sources = self.sources.get(one)
            if not sources:
                return False
            waiting += sources
        return True


def landed_between(
    ledger: Ledger, lake_table: str, first: datetime, last: datetime, since: datetime | None
) -> list[str]:
    """Return the paths of readable segments that may hold rows of some hours, in the order in which they were planned.

    What a compaction made comes first; chunks of broadcasts are left out, until they are in one of those.

    Args:
        ledger: The ledger.
        lake_table: Of this table.
        first: A row's own time lies in this hour or later.
        last: ... and in this hour or before.
        since: Rows were committed then or later, so that their segments were planned then or later; None for nothing
            but what compactions made.
    """
    compacted = SEGMENTS.c.kind == "compaction"
    small = [] if since is None else [and_(SEGMENTS.c.kind == "landing", SEGMENTS.c.planned_at >= to_micros(since))]
    query = (
        select(SEGMENTS.c.path)
        .where(
            SEGMENTS.c.state == "landed",
            SEGMENTS.c.lake_table == lake_table,
            SEGMENTS.c.partition_at.between(to_micros(hour_start(first)), to_micros(hour_start(last))),
            or_(compacted, *small),
        )
        .order_by(case((compacted, 0), else_=1), SEGMENTS.c.planned_at, SEGMENTS.c.segment_id)
    )
    with ledger.read() as conn:
        return list(conn.execute(query).scalars())


def landed(ledger: Ledger, lake_table: str) -> LandedSegments:
    """Return the segments of a landing table that can be read now, in one consistent view."""
    query = select(SEGMENTS.c.segment_id, SEGMENTS.c.path, SEGMENTS.c.state, SEGMENTS.c.replaced_by).where(
        SEGMENTS.c.lake_table == lake_table, SEGMENTS.c.state.in_(("landed", "replaced"))
    )
    paths: dict[str, str] = {}
    sources: dict[str, tuple[str, ...]] = {}
    with ledger.read() as conn:
        for segment, path, state, replaced_by in conn.execute(query):
            if state == "landed":
                paths[segment] = path
            elif replaced_by is not None:
                sources[replaced_by] = (*sources.get(replaced_by, ()), segment)
    return LandedSegments(paths, sources)
