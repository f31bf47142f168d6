"""The reading side of the reports: cursors on published versions.

Belongs here: the reader. Does not belong here: attaching versions (``reading_versions``), building or publishing
(``build``, ``versions``), any question (``reading_lists``, ``reading_details`` and the other ``reading_*``), HTTP.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import duckdb

from notify_pipeline.core.settings import Settings
from notify_pipeline.reports.composed import Part
from notify_pipeline.reports.reading_versions import VersionGoneError, Versions
from notify_pipeline.reports.versions import Version

__all__ = ["ReportReader", "VersionGoneError"]


class ReportReader:
    """Attaches the version that the pointer names, or an earlier one. Thread-safe; make one per process."""

    def __init__(self, root: Path, memory_limit: str = "256MB", threads: int = 2) -> None:
        """Open nothing yet: the first query attaches.

        Args:
            root: The reports root.
            memory_limit: DuckDB's for this process.
            threads: DuckDB's for this process.
        """
        self._versions = Versions(root, memory_limit, threads)

    def close(self) -> None:
        """Release every version."""
        self._versions.close()

    def version(self, as_of: datetime | None = None) -> Version | None:
        """Return the version that the next query will read, None before the first is published.

        Args:
            as_of: The version that was current then. None: the current one.

        Raises:
            VersionGoneError: None that was current then is kept.
        """
        return self._versions.find(as_of)

    def places(self, version: Version) -> Mapping[str, Part]:
        """Return the months that a version's days are read from, by day; others are files of their own."""
        return self._versions.places(version)

    @contextmanager
    def cursor(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        as_of: datetime | None = None,
        by_activity: bool = False,
        described: bool = False,
    ) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Yield a cursor on a version, which stays that version until the block ends; None before the first.

        ``facts.<table>``, ``main.<view>`` and ``main.build`` hold at least what was accepted in the range, perhaps
        more: a query states its range again.

        Args:
            since: The range's beginning, of acceptance by the API; None: from the first on.
            until: Its end, exclusive; None: to the last.
            as_of: See ``version``.
            by_activity: The range is one of attempts and providers' words: at least those are there, and beacons of
                such deliveries, whenever the API accepted their notifications.
            described: Give views and columns the comments that tell people what is in them.

        Raises:
            VersionGoneError: See ``version``.
        """
        with self._versions.cursor(since, until, as_of, by_activity=by_activity, described=described) as cursor:
            yield cursor

    @contextmanager
    def cursor_of(
        self, tenant: str, notification_id: str, *, as_of: datetime | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Yield a cursor as ``cursor`` does, on at least what belongs to one notification.

        Args:
            tenant: Whose.
            notification_id: Which.
            as_of: See ``version``.

        Raises:
            VersionGoneError: See ``version``.
        """
        with self._versions.cursor_of(tenant, notification_id, as_of) as cursor:
            yield cursor


@contextmanager
def opened(settings: Settings) -> Iterator[ReportReader]:
    """Yield a reader of an installation's reports, within its limits, and release every version when the block ends."""
    reader = ReportReader(settings.reports, settings.duckdb_memory, settings.duckdb_threads)
    try:
        yield reader
    finally:
        reader.close()
