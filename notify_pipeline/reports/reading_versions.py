"""Report versions, attached for reading.

Belongs here: which segments a question needs, attaching them read-only, letting go of them. Does not belong here:
queries (``reading``, ``reading_*``), publishing (``versions``).

Files are attached to one in-memory database when a question needs them first: days' own segments, or months that have
the rows of many. Views over them are made once for each set of files that is asked for. What a cursor reads from stays
attached until it is closed; beyond that, the sets that were used last stay, so many that their files do not exceed a
number. Cursors are per query, so threads do not meet.
"""

import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb

from notify_pipeline.core.sql import quoted
from notify_pipeline.reports.composed import Part, attach_empty, compose, describe, put_build
from notify_pipeline.reports.manifests import Segment, Version
from notify_pipeline.reports.months import Months, parts
from notify_pipeline.reports.reading_hashes import Hashes
from notify_pipeline.reports.versions import at, current

# Files that stay attached without being used, each a file descriptor and some tens of kilobytes; and sets of them.
_IDLE_FILES: Final = 512
_IDLE_SETS: Final = 128
# A range of years attaches as many files as it has days; a process is usually given 1,024 descriptors.
_DESCRIPTORS: Final = 16_384
# A set's: the version's number, and its files.
_Key = tuple[int, tuple[Part, ...]]
_TICK: Final = timedelta(microseconds=1)


class VersionGoneError(LookupError):
    """No version is kept that was current at the moment asked for."""


@dataclass
class _Attached:
    """A file: attached once ``name`` is in use, by so many sets."""

    name: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_attached: bool = False
    users: int = 0


@dataclass
class _Set:
    """Views over some files of a version, used by so many cursors; ``has_views``: they may be another version's."""

    name: str
    parts: Sequence[Part]
    has_views: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_made: bool = False
    users: int = 0


class Versions:
    """The versions below one reports root. Thread-safe."""

    def __init__(self, root: Path, memory_limit: str, threads: int) -> None:
        """Open nothing yet: the first query attaches. Limits are DuckDB's for this process."""
        self._root = root
        self._hashes = Hashes(root)
        self._months = Months(root)
        self._lock = threading.Lock()
        self._names = 0
        self._files: dict[str, _Attached] = {}
        self._sets: OrderedDict[_Key, _Set] = OrderedDict()  # those used last come last
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": threads,
            # A table that an older version lacks shall be missing, not be a variable of ours that has its name.
            "python_enable_replacements": False,
        }
        self._db = duckdb.connect(":memory:", config=config)
        self._db.execute("SET TimeZone = 'UTC'")
        self._facts = attach_empty(self._db)
        _allow_descriptors()

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

    def places(self, version: Version) -> Mapping[str, Part]:
        """Return the months that a version's days are read from, by day, where that is so."""
        return self._months.of(version)

    @contextmanager
    def cursor(
        self,
        since: datetime | None,
        until: datetime | None,
        as_of: datetime | None,
        *,
        by_activity: bool = False,
        described: bool = False,
    ) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Yield a cursor on a version's rows of a range; None before the first. See ``ReportReader.cursor``.

        Raises:
            VersionGoneError: See ``find``.
        """
        with self._cursor(as_of, lambda version: _within(version, since, until, by_activity=by_activity)) as cursor:
            if cursor is not None and described:
                describe(cursor)
            yield cursor

    @contextmanager
    def cursor_of(
        self, tenant: str, notification_id: str, as_of: datetime | None
    ) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Yield a cursor on a version's rows of a notification; None before the first.

        Raises:
            VersionGoneError: See ``find``.
        """
        with self._cursor(
            as_of, lambda version: self._hashes.holding(version.segments, tenant, notification_id)
        ) as cursor:
            yield cursor

    @contextmanager
    def _cursor(
        self, as_of: datetime | None, choose: Callable[[Version], Sequence[Segment]]
    ) -> Iterator[duckdb.DuckDBPyConnection | None]:
        views = self._take(as_of, choose)
        if views is None:
            yield None
            return
        cursor = self._db.cursor()
        try:
            cursor.execute(f"USE {views.name}")
            yield cursor
        finally:
            cursor.close()
            self._give_back(views)

    def _take(self, as_of: datetime | None, choose: Callable[[Version], Sequence[Segment]]) -> _Set | None:
        while True:
            version = self.find(as_of)
            if version is None:
                return None
            places = self._months.of(version)
            try:
                return self._held(version, parts(choose(version), places))
            except (duckdb.Error, FileNotFoundError):  # for a wrong checksum DuckDB raises no narrower one
                # Pruned since we looked; by now another answers, or none is kept.
                if self.find(as_of) == version and self._months.of(version) == places:
                    # A month that cannot be read is no more than days that take longer.
                    return self._held(version, parts(choose(version), {}))

    def _held(self, version: Version, found: tuple[Part, ...]) -> _Set:
        key = (version.number, found)
        with self._lock:
            views = self._sets.get(key) or self._idle_with(key)
            if views is None:
                views = self._sets[key] = _Set(self._name("views"), found)
                for part in found:
                    self._files.setdefault(part.file, _Attached(self._name("file"))).users += 1
            self._sets.move_to_end(key)
            views.users += 1
        try:
            with views.lock:
                if not views.is_made:
                    self._make(views, version)
        except BaseException:
            self._give_back(views, key)
            raise
        return views

    def _idle_with(self, key: _Key) -> _Set | None:
        """Take over what another version shares and nobody uses: of a new version, most days are as they were."""
        wanted = key[1]
        found = next(
            (k for k, each in self._sets.items() if k[1] == wanted and each.has_views and not each.users), None
        )
        if found is None or not wanted:
            return None
        views = self._sets[key] = self._sets.pop(found)
        views.is_made = False
        return views

    def _make(self, views: _Set, version: Version) -> None:
        """Attach what is missing and make the views: slow for long ranges, and nobody waits but who needs the same."""
        if views.has_views and version.build is not None:
            put_build(self._db.cursor(), views.name, version.build)
            views.is_made = True
            return
        members = []
        connection = self._db.cursor()
        try:
            for part in views.parts:
                attached = self._files[part.file]
                with attached.lock:
                    if not attached.is_attached:
                        path = quoted(str(self._root / part.file))
                        connection.execute(f"ATTACH {path} AS {attached.name} (READ_ONLY)")
                        attached.is_attached = True
                members.append((attached.name, part if part.schema else _looked_into(connection, attached.name, part)))
            compose(connection, views.name, self._facts, members, version.build)
            views.is_made = views.has_views = True
        finally:
            connection.close()

    def _give_back(self, views: _Set, failed: _Key | None = None) -> None:
        with self._lock:
            views.users -= 1
            if failed is not None and views.users == 0 and not views.is_made and self._sets.get(failed) is views:
                self._drop(failed)
            idle = [key for key, each in self._sets.items() if each.users == 0]
            while idle and (len(self._sets) > _IDLE_SETS or len(self._files) > _IDLE_FILES):
                self._drop(idle.pop(0))

    def _drop(self, key: _Key) -> None:
        """Let go of a set that nobody uses, and of the files that no other set has."""
        views = self._sets.pop(key)
        self._db.execute(f"DETACH DATABASE IF EXISTS {views.name}")
        for part in views.parts:
            attached = self._files[part.file]
            attached.users -= 1
            if attached.users == 0:
                del self._files[part.file]
                if attached.is_attached:
                    self._db.execute(f"DETACH {attached.name}")

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}_{self._names}"


def _within(
    version: Version, since: datetime | None, until: datetime | None, *, by_activity: bool
) -> tuple[Segment, ...]:
    """Return the segments of a range, oldest first."""
    first = "" if since is None else f"{since.astimezone(UTC):%Y-%m-%d}"
    last = "9999-12-31" if until is None else f"{until.astimezone(UTC) - _TICK:%Y-%m-%d}"

    def concerns(segment: Segment) -> bool:
        if not segment.name:
            return True
        if by_activity:
            through = segment.active_through
            return segment.name <= last and (since is None or (through is not None and through >= since))
        return first <= segment.name <= last

    return tuple(segment for segment in version.segments if concerns(segment))


def _looked_into(connection: duckdb.DuckDBPyConnection, name: str, part: Part) -> Part:
    """Return what can be told of a file from before there were segments."""
    rows = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'facts'", [name]
    ).fetchall()
    return Part(part.file, "", tuple(table for (table,) in rows))


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
