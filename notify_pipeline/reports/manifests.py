"""What a report version consists of: its manifest, which names segments.

Belongs here: the manifest's fields and their form as JSON. Does not belong here: where manifests lie and which is the
current one (``versions``), what is in a segment (``segments``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Segment:
    """An immutable DuckDB file with the rows of one UTC day: of its notifications, by the API's acceptance.

    Attributes:
        name: The day, ``YYYY-MM-DD``; empty for a whole version from before there were segments, of which no more than
            the file is known.
        file: Where it lies, relative to the reports root.
        schema: A digest of the tables' definitions (``segments.schema_digest``).
        tables: Those of ``facts`` that have rows.
        rows: How many, in the order of the tables; empty where that was not counted.
        notifications: How many notifications it has.
        foreign_deliveries: Delivery ids in its beacons that belong to no notification.
        foreign_hits: Lines of such beacons.
        ended_through: The latest end of its notifications that have one; None when none has.
        active_through: The latest moment of an attempt, or of a provider's word, of its notifications.
    """

    name: str
    file: str
    schema: str = ""
    tables: tuple[str, ...] = ()
    notifications: int = 0
    foreign_deliveries: int = 0
    foreign_hits: int = 0
    ended_through: datetime | None = None
    active_through: datetime | None = None
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Build:
    """The one row of ``main.build``; see ``catalogue``."""

    version: int
    built_at: datetime
    received_through: datetime | None
    settled_through: datetime | None
    files: int
    recomputed: int
    foreign_deliveries: int
    foreign_hits: int


@dataclass(frozen=True, slots=True)
class Version:
    """One version, published or to be.

    Attributes:
        number: Grows by one.
        published_at: When it became current.
        source: A digest of what beside the lake it follows from (``build.source_token``).
        build: Its row of ``main.build``; None for a version of a home that knew no segments yet, whose file has it.
        segments: Its segments, sorted by name.
        frozen_before: Notifications accepted before this day are as they were, whatever the lake says.
    """

    number: int
    published_at: datetime
    source: str = ""
    build: Build | None = None
    segments: tuple[Segment, ...] = ()
    frozen_before: date | None = None

    def published(self, at: datetime) -> "Version":
        """Return the same, published at a moment."""
        return replace(self, published_at=at.astimezone(UTC))

    def rows_of(self, table: str) -> int | None:
        """Return how many rows a table of ``facts`` has; None where a segment's were not counted."""
        having = [segment for segment in self.segments if table in segment.tables]
        if not all(segment.rows for segment in having):
            return None
        return sum(segment.rows[segment.tables.index(table)] for segment in having)

    @property
    def is_settled(self) -> bool:
        """True when every notification that has ended is settled: reading the logs further changes no report."""
        through = None if self.build is None else self.build.settled_through
        return through is not None and all(
            segment.ended_through is None or segment.ended_through <= through for segment in self.segments
        )


def dump(version: Version) -> bytes:
    """Return a manifest's JSON."""
    return orjson.dumps(version)


def load(path: Path) -> Version:
    """Read a manifest.

    Raises:
        FileNotFoundError: It is not there.
    """
    fields = orjson.loads(path.read_bytes())
    build = fields["build"]
    frozen = fields["frozen_before"]
    return Version(
        fields["number"],
        datetime.fromisoformat(fields["published_at"]),
        fields["source"],
        None if build is None else Build(**_with_times(build, "built_at", "received_through", "settled_through")),
        tuple(_segment(each) for each in fields["segments"]),
        None if frozen is None else date.fromisoformat(frozen),
    )


def _segment(fields: Mapping[str, Any]) -> Segment:
    lists = {"tables": tuple(fields["tables"]), "rows": tuple(fields.get("rows", ()))}
    return Segment(**_with_times(fields, "ended_through", "active_through") | lists)


def _with_times(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    times = {name: datetime.fromisoformat(fields[name]) for name in names if fields[name] is not None}
    return {**fields, **times}
