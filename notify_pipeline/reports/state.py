"""What the builder remembers between builds: which lake files are folded, what each tells of, and where that lies.

Belongs here: the state's file, looking things up in it, taking a published candidate's changes into it. Does not belong
here: listing the lake (``lake_diff``), computing (``build``).

A build's cost follows what changed because everything here is found by an index. The state changes after the pointer
has moved, in one transaction: after a crash it tells of an older version and a build computes some things once more;
it never tells of what was not published. Lost, everything is computed from the lake.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from notify_pipeline.core.sql import sql_text

# The names of the state and of what a candidate changes in it; the latter lies in the candidate's folder.
FILE: Final = "state.sqlite"
DELTA: Final = "delta.sqlite"
# Another process reads it while it is written: for a fraction of a second, but of a whole rebuild.
_BUSY_S: Final = 60.0


class State:
    """An open state file. Only the writer changes it, with ``catch_up`` and ``commit``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take an open connection."""
        self._db = connection

    def meta(self) -> dict[str, str]:
        """Return ``version`` and ``models``: of the version that it tells of."""
        return dict(self._db.execute("SELECT name, value FROM meta"))

    def folders(self) -> dict[str, tuple[int, int]]:
        """Return each folder's modification time and when it was listed, in nanoseconds."""
        return {name: (at, listed) for name, at, listed in self._db.execute("SELECT * FROM folders")}

    def files_in(self, folder: str) -> dict[str, tuple[int, str]]:
        """Return id and etag of a folder's files, by path."""
        rows = self._db.execute("SELECT path, file_id, etag FROM files WHERE folder = ?", (folder,))
        return {path: (file_id, etag) for path, file_id, etag in rows}

    def keys_of(self, file_ids: Iterable[int]) -> set[str]:
        """Return what some files tell of."""
        query = "SELECT k.name FROM file_keys JOIN keys AS k USING (key_id) WHERE file_id = ?"
        return {name for file_id in file_ids for (name,) in self._db.execute(query, (file_id,))}

    def files_of(self, names: Iterable[str], tables: Iterable[str]) -> list[tuple[int, str, str]]:
        """Return id, table and path of the tables' files that tell of any of these keys."""
        self._ask(names)
        query = (
            "SELECT DISTINCT f.file_id, f.lake_table, f.path FROM asked AS a CROSS JOIN keys AS k ON k.name = a.name"
            " JOIN file_keys AS t ON t.key_id = k.key_id JOIN files AS f ON f.file_id = t.file_id"
        )
        wanted = set(tables)
        return [row for row in self._db.execute(query) if row[1] in wanted]

    def located(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Return the keys among these that have rows, each with the segment, as often as there are segments."""
        self._ask(names)
        query = (
            "SELECT k.name, s.name FROM asked AS a CROSS JOIN keys AS k ON k.name = a.name"
            " JOIN located AS l ON l.key_id = k.key_id JOIN segments AS s ON s.segment_id = l.segment_id"
        )
        return self._db.execute(query).fetchall()

    def look_ahead(self, delta: Path) -> None:
        """Have ``files_from`` tell of the files of a candidate, published or not."""
        self._db.execute("ATTACH ? AS delta", (str(delta),))

    def files_from(self, lake_table: str, path: str) -> list[str]:
        """Return the paths of a table's files from a path on; only after ``look_ahead``."""
        where = {"lake_table": lake_table, "path": path, "end": f"{lake_table}0"}  # "0" follows "/"
        query = (
            "SELECT path FROM main.files WHERE path >= :path AND path < :end AND lake_table = :lake_table"
            " AND file_id NOT IN (SELECT file_id FROM delta.removed)"
            " UNION SELECT path FROM delta.files WHERE path >= :path AND lake_table = :lake_table"
        )
        return [name for (name,) in self._db.execute(query, where)]

    def through_us(self, but: Sequence[int]) -> int | None:
        """Return the latest beacon of all files but some."""
        without = set(but)
        rows = self._db.execute(
            "SELECT file_id, through_us FROM files WHERE through_us IS NOT NULL ORDER BY through_us DESC"
        )
        return next((through for file_id, through in rows if file_id not in without), None)

    def count_files(self) -> int:
        """Return how many files are folded."""
        return int(self._db.execute("SELECT count(*) FROM files").fetchone()[0])

    def segment_files(self) -> dict[str, str]:
        """Return the file of each segment whose contents are known."""
        return dict(self._db.execute("SELECT name, file FROM segments"))

    def catch_up(self, name: str, file: str, keys: Iterable[str]) -> None:
        """Learn what lies in a segment."""
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO segments (name, file) VALUES (?, ?)", (name, file))
            self._db.execute("UPDATE segments SET file = ? WHERE name = ?", (file, name))
            [segment_id] = self._db.execute("SELECT segment_id FROM segments WHERE name = ?", (name,)).fetchone()
            self._db.execute("DELETE FROM located WHERE segment_id = ?", (segment_id,))
            self._ask(keys)
            self._db.execute("INSERT OR IGNORE INTO keys (name) SELECT name FROM asked")
            self._db.execute(
                "INSERT OR IGNORE INTO located SELECT k.key_id, ? FROM asked CROSS JOIN keys AS k USING (name)",
                (segment_id,),
            )

    def commit(self, delta: Path) -> None:
        """Take a published candidate's changes in."""
        self._db.execute("ATTACH ? AS delta", (str(delta),))
        try:
            self._db.executescript(f"BEGIN IMMEDIATE;{sql_text(__file__, 'apply_delta.sql')}COMMIT;")
        except BaseException:
            self._db.rollback()
            raise
        finally:
            self._db.execute("DETACH delta")

    def _ask(self, names: Iterable[str]) -> None:
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS asked (name TEXT PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("DELETE FROM asked")
        self._db.executemany("INSERT OR IGNORE INTO asked VALUES (?)", ((name,) for name in names))


def state_path(root: Path) -> Path:
    """Return the state's file below a reports root."""
    return root / "builder" / FILE


@contextmanager
def opened(path: Path) -> Iterator[State]:
    """Open a state file that is there.

    Raises:
        sqlite3.Error: It is not there, or is none.
    """
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)
    with closing(connection):
        connection.execute("PRAGMA synchronous = FULL")
        yield State(connection)


@contextmanager
def made(path: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """Make a database for a candidate; what is half-written is thrown away with it, so nothing waits for the disk."""
    connection = sqlite3.connect(path)
    with closing(connection):
        connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {sql_text(__file__, schema)}")
        yield connection
        connection.commit()


def keep(root: Path, fresh: Path | None, delta: Path) -> None:
    """Remember what a candidate has changed, once it is published.

    Args:
        root: The reports root.
        fresh: A state of its own that shall replace the one there is, as a full build makes one.
        delta: What it has changed.
    """
    path = state_path(root)
    with opened(fresh or path) as state:
        state.commit(delta)
    if fresh is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)


def meta_of(path: Path) -> dict[str, str]:
    """Return the meta of a state file, empty when there is none that can be read."""
    try:
        with opened(path) as state:
            return state.meta()
    except sqlite3.Error:
        return {}
