"""Whether anything was committed to the ledger since one last asked, for whoever would otherwise query all the time.

Belongs here: that question. Does not belong here: what was committed, and what is due because time has passed.
"""

import sqlite3
from types import TracebackType
from typing import Self

from notify_pipeline.core.ledger.engine import BUSY_TIMEOUT_MS, Ledger


class Commits:
    """One observer of a ledger, for one thread at a time; close it, or use it in a with block.

    SQLite tells from shared memory, in some microseconds: https://www.sqlite.org/pragma.html#pragma_data_version.
    PostgreSQL has nothing like it, so there the answer is always that something may have been.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Begin to observe; what was committed before does not count."""
        self._connection: sqlite3.Connection | None = None
        if ledger.is_sqlite:
            path, timeout_s = str(ledger.url.database), BUSY_TIMEOUT_MS / 1000
            self._connection = sqlite3.connect(path, timeout_s, isolation_level=None, check_same_thread=False)
        self._seen = self._version()

    def moved(self) -> bool:
        """Tell whether anything may have been committed, by any process, since this was asked last.

        Ask before looking: what is committed in between counts at the next time.
        """
        version, seen = self._version(), self._seen
        self._seen = version
        return version is None or version != seen

    def close(self) -> None:
        """Observe no longer. Harmless when closed already."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _version(self) -> int | None:
        if self._connection is None:
            return None
        found: tuple[int] = self._connection.execute("PRAGMA data_version").fetchone()
        return found[0]
