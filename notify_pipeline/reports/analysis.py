"""The report tables and the lake on one DuckDB connection, for whoever asks with SQL: the shell and notebooks.

Belongs here: opening that connection. Does not belong here: any query, printing (``commands.sql``).

The report tables are attached read-only and stay one version until the connection is closed or asked to move on. Of
the lake only files are read. What is made with CREATE TEMP lives in memory and ends with the connection.
"""

from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import duckdb

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.sql import quoted
from notify_pipeline.reports import database, lake_views
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.versions import Version

# Queries may call functions that do more than read: ``enable_logging`` writes files, a name that DuckDB does not know
# makes it download the extension that does.
_LOCKED: Final = (
    "SET autoinstall_known_extensions = false; SET autoload_known_extensions = false; SET lock_configuration = true"
)


class Analysis:
    """An open connection; close it, or use it in a ``with`` block.

    Attributes:
        db: DuckDB's connection: ``notifications`` and the other report views by their plain names, the lake's tables
            as ``lake.attempts`` and so on. One thread at a time.
        version: The report version; None: none was published yet, and there are no report tables.
    """

    db: duckdb.DuckDBPyConnection
    version: Version | None

    def __init__(
        self,
        settings: Settings,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
        memory: str | None = None,
        only_reads: bool = False,
    ) -> None:
        """See ``connect``."""
        self._settings = settings
        self._range = (since, until)
        self._as_of = as_of
        self._memory = memory or settings.duckdb_memory
        self._only_reads = only_reads
        self._open = ExitStack()
        self._begin()

    def refresh(self) -> None:
        """Move on to the version that is current now, and to the lake's files of now. ``db`` is another then."""
        self._open.close()
        self._begin()

    def close(self) -> None:
        """End the connection and give the version back."""
        self._open.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _begin(self) -> None:
        with ExitStack() as opening:
            scratch = Path(opening.enter_context(TemporaryDirectory(prefix="notify-sql-")))
            reader = ReportReader(self._settings.reports, self._memory, self._settings.duckdb_threads)
            opening.callback(reader.close)
            self.version = reader.version(self._as_of)
            cursor = opening.enter_context(reader.cursor(*self._range, as_of=self._as_of, described=True))
            if cursor is None:
                cursor = database.connect(self._memory, self._settings.duckdb_threads)
                opening.callback(cursor.close)
            cursor.execute(f"SET temp_directory = {quoted(str(scratch / 'spill'))}")
            lake_views.make_views(cursor, Lake(self._settings.lake, self._settings.s3_endpoint_url), scratch)
            if self._only_reads:
                cursor.execute(_LOCKED)
            self.db = cursor
            self._open = opening.pop_all()


def connect(
    settings: Settings | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    as_of: datetime | None = None,
    memory: str | None = None,
    only_reads: bool = False,
) -> Analysis:
    """Open the report tables and the lake for queries.

    ``with connect() as reports: reports.db.sql("SELECT …")``. Beside a running system this costs it nothing but the
    reading; nothing is written to either.

    Args:
        settings: Where everything is and DuckDB's limits; default: as the environment (``NOTIFY_*``) says.
        since: Leave out report segments of days before; for speed only, and only where there are many.
        until: ... and of days from this moment on.
        as_of: The report version that was current then. The lake is always that of now.
        memory: DuckDB's memory limit, such as ``4GB``, instead of ``duckdb_memory``.
        only_reads: Let no query change what DuckDB is set to, write its logs into files, or fetch an extension.

    Raises:
        VersionGoneError: No version that was current then is kept.
        OSError: The lake cannot be reached.
    """
    return Analysis(settings or Settings(), since=since, until=until, as_of=as_of, memory=memory, only_reads=only_reads)
