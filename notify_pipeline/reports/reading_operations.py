"""What operators ask of the published version: how it stands itself, and how channels have done lately.

Belongs here: those queries. Does not belong here: what the ledger knows (``core.ledger.overview``), putting it together
(``ingest_api.operations``).

A version counts calls by hour: "lately" is the hour under way and the one before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.schemas import QUARANTINE
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.reading import ReportReader

_HOUR = timedelta(hours=1)
# A file is one log file's bad lines, and most log files have none.
_MOST_FILES = 200


@dataclass(frozen=True, slots=True)
class Build:
    """The published version.

    Attributes:
        version: Its number.
        published_at: Since when it is the current one.
        received_through: How far the logs have been read; None before any was.
        settled_through: What ended before is settled.
        foreign_deliveries: Deliveries that beacons name and nobody made.
        foreign_hits: Those beacons.
    """

    version: int
    published_at: datetime
    received_through: datetime | None
    settled_through: datetime | None
    foreign_deliveries: int
    foreign_hits: int


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """How one provider has done on one channel since ``since``, as far as the version knows.

    Attributes:
        channel: The channel.
        provider: The provider.
        since: The beginning of the hour before the one under way.
        attempts: Calls.
        accepted: Of them.
        throttled: Of them; also in ``failed``.
        failed: Throttled, refused for now, or refused for good.
        invalid: The provider says that the recipient does not exist.
        ambiguous: No answer came.
        mean_s: Seconds to an answer; None without any.
        p50_s: The median, to within a tenth.
        p99_s: Likewise.
        codes: The most frequent reasons of those that were not accepted, with the number of calls of each.
    """

    channel: str
    provider: str
    since: datetime
    attempts: int
    accepted: int
    throttled: int
    failed: int
    invalid: int
    ambiguous: int
    mean_s: float | None
    p50_s: float | None
    p99_s: float | None
    codes: tuple[tuple[str, int], ...]


def build(reader: ReportReader) -> Build | None:
    """Return how the current version stands; None before the first."""
    version = reader.version()
    if version is not None and version.build is not None:
        known = version.build
        through, settled = known.received_through, known.settled_through
        return Build(
            known.version, version.published_at, through, settled, known.foreign_deliveries, known.foreign_hits
        )
    with reader.cursor() as cursor:  # from before versions had manifests
        if cursor is None or version is None:
            return None
        row = cursor.execute(
            "SELECT version, epoch_us(received_through), epoch_us(settled_through), foreign_deliveries, foreign_hits"
            " FROM main.build"
        ).fetchone()
    if row is None:
        return None
    through, settled = (None if moment is None else from_micros(moment) for moment in row[1:3])
    return Build(int(row[0]), version.published_at, through, settled, int(row[3]), int(row[4]))


def channels(reader: ReportReader, now: datetime, tenants: Sequence[str] | None = None) -> list[ChannelHealth]:
    """Return how channels have done lately, by channel and provider; of these tenants' sends only, if given."""
    since = now.replace(minute=0, second=0, microsecond=0) - _HOUR
    wanted = {"since": since, "tenants": None if tenants is None else list(tenants)}
    # Acceptance is what dates a notification: what is sent lately may have been accepted a while ago.
    with reader.cursor(since - timedelta(days=1)) as cursor:
        if cursor is None:
            return []
        try:
            rows = _rows(cursor.execute(sql_text(__file__, "channels_lately.sql"), wanted))
        except duckdb.CatalogException:  # published before versions counted calls by hour
            return []
        codes: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for row in _rows(cursor.execute(sql_text(__file__, "codes_lately.sql"), wanted)):
            codes.setdefault((row["channel"], row["provider"]), []).append((row["provider_code"], row["attempts"]))
    return [
        ChannelHealth(**row, since=since, codes=tuple(codes.get((row["channel"], row["provider"]), ()))) for row in rows
    ]


def quarantined(lake: Lake, now: datetime) -> int:
    """Return how many lines of the logs of today and yesterday could not be read.

    From the footers of their files; where there are very many files, of the newest.
    """
    days = (now - timedelta(days=1), now)
    files = [file for day in days for file in lake.list(f"{QUARANTINE.name}/date={day:%Y-%m-%d}")]
    count = 0
    for file in files[-_MOST_FILES:]:
        try:
            with lake.open_parquet(file.path) as opened:
                count += opened.metadata.num_rows
        except FileNotFoundError:  # its hour was processed again meanwhile
            continue
    return count


def _rows(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
