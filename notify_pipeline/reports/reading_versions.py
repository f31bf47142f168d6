"""Report versions, attached for reading.

Belongs here: attaching versions read-only, moving on when the pointer changes, letting go of them. Does not belong
here: queries (``reading``, ``reading_*``), publishing (``versions``).

Each version is attached under a name of its own to one in-memory database. A query holds the version it began with; one
that is not the current one is detached when its last query has ended. Cursors are per query, so threads do not meet.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from notify_pipeline.reports.versions import Version, at, current


class VersionGoneError(LookupError):
    """No version is kept that was current at the moment asked for."""


@dataclass
class _Attached:
    version: Version
    name: str
    users: int = 0


class Versions:
    """The versions below one reports root. Thread-safe."""

    def __init__(self, root: Path, memory_limit: str, threads: int) -> None:
        """Open nothing yet: the first query attaches. Limits are DuckDB's for this process."""
        self._root = root
        self._lock = threading.Lock()
        self._attached: dict[int, _Attached] = {}
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": threads,
            # A table that an older version lacks shall be missing, not be a variable of ours that has its name.
            "python_enable_replacements": False,
        }
        self._db = duckdb.connect(":memory:", config=config)
        self._db.execute("SET TimeZone = 'UTC'")

    def close(self) -> None:
        """Release every version."""
        self._db.close()

    def find(self, as_of: datetime | None) -> Version | None:
        """Return the current version, or the one that was then; None before the first.

        Raises:
            VersionGoneError: None that was current then is kept.
        """
        newest = current(self._root)
        if newest is None or as_of is None:
            return newest
        found = at(self._root, as_of)
        if found is None:
            raise VersionGoneError(f"no version is kept that was current at {as_of.isoformat()}")
        return found

    @contextmanager
    def cursor(self, as_of: datetime | None) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Yield a cursor on a version, which stays that version until the block ends; None before the first.

        Raises:
            VersionGoneError: See ``find``.
        """
        attached = self._take(as_of)
        if attached is None:
            yield None
            return
        cursor = self._db.cursor()
        try:
            cursor.execute(f"USE {attached.name}")
            yield cursor
        finally:
            cursor.close()
            self._give_back(attached)

    def _take(self, as_of: datetime | None) -> _Attached | None:
        with self._lock:
            while True:
                version = self.find(as_of)
                if version is None:
                    return None
                try:
                    attached = self._attach(version)
                except duckdb.IOException:
                    # Pruned since we looked; by now another answers, or none is kept.
                    if self.find(as_of) == version:
                        raise
                    continue
                attached.users += 1
                self._release([held for held in self._attached.values() if held.version.number < self._newest])
                return attached

    @property
    def _newest(self) -> int:
        return max(self._attached)

    def _attach(self, version: Version) -> _Attached:
        held = self._attached.get(version.number)
        if held is None:
            path = str(version.path).replace("'", "''")
            held = _Attached(version, f"v{version.number}")
            self._db.execute(f"ATTACH '{path}' AS {held.name} (READ_ONLY)")
            self._attached[version.number] = held
        return held

    def _release(self, candidates: Iterable[_Attached]) -> None:
        for held in candidates:
            if held.users == 0:
                del self._attached[held.version.number]
                self._db.execute(f"DETACH {held.name}")

    def _give_back(self, attached: _Attached) -> None:
        with self._lock:
            attached.users -= 1
            if attached.version.number < self._newest:
                self._release([attached])
