"""Folds what changed in the lake into segments: which notifications are concerned, their rows, their days.

Belongs here: the way from a difference of the lake to segments and to what the builder has to remember. Does not belong
here: whether to build (``build``), reading lake files (``lake_files``), writing a segment (``segments``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.schemas import REGISTRATIONS, REQUESTS
from notify_pipeline.reports import database, deltas, segments
from notify_pipeline.reports.composed import Fact, attach_empty
from notify_pipeline.reports.lake_diff import OF_NOTIFICATIONS, Diff
from notify_pipeline.reports.lake_files import load_stage, read_keys
from notify_pipeline.reports.manifests import Segment, Version
from notify_pipeline.reports.segments import Day
from notify_pipeline.reports.state import State


@dataclass(frozen=True, slots=True)
class Changes:
    """What came and went: files of the lake, and the notifications that they tell of."""

    added: int
    removed: int
    affected: int

    @property
    def any(self) -> bool:
        """True when the lake is not what the facts were made of."""
        return bool(self.added or self.removed)


@dataclass(frozen=True, slots=True)
class Folded:
    """The next version's segments, those of them that are new, and the latest beacon of the files that came."""

    segments: tuple[Segment, ...]
    changed: tuple[Segment, ...]
    changes: Changes
    through: datetime | None


class Fold:
    """One run, for one candidate."""

    def __init__(
        self,
        lake: Lake,
        root: Path,
        folder: Path,
        state: State,
        diff: Diff,
        last: Version | None,
        frozen_before: date | None,
        *,
        is_full: bool,
    ) -> None:
        """Take what there is.

        Args:
            lake: The lake.
            root: The reports root.
            folder: Where new segments and the delta are put.
            state: What is remembered; nothing for a full run.
            diff: What changed in the lake since.
            last: The current version.
            frozen_before: See ``frozen``.
            is_full: Carry nothing over but what is frozen.
        """
        self._lake, self._root, self._folder, self._state, self._diff = lake, root, folder, state, diff
        self._frozen = "" if frozen_before is None else frozen_before.isoformat()  # days as text sort as they follow
        self._is_full = is_full
        before = () if last is None or last.build is None else last.segments
        self._before = {each.name: each for each in before if not is_full or each.name < self._frozen}

    def run(self, memory: str, threads: int, meta: dict[str, str]) -> Folded:
        """Compute, and leave the delta in the candidate's folder.

        Args:
            memory: DuckDB's memory_limit.
            threads: DuckDB's threads.
            meta: What the state is to say of itself.
        """
        connection = database.connect(memory, threads, self._folder / "spill")
        try:
            facts = attach_empty(connection)
            read_keys(connection, self._lake, self._diff.added)
            names, days = self._affected(connection, self._catch_up(connection))
            affected = self._put_affected(connection, names, days)
            if affected or days:
                load_stage(connection, self._lake, self._paths(names, days))
                database.run_models(connection)
            segments.place(connection)
            located = self._state.located(names)
            self._freeze(connection, located)
            found, changed = self._write(connection, facts, {name for _, name in located}, days)
            deltas.write(self._folder, connection, self._diff, found, names, self._frozen, meta)
            row = database.first_row(connection, "SELECT max(through) FROM stage.added")
        finally:
            connection.close()
        changes = Changes(len(self._diff.added), len(self._diff.removed), affected)
        return Folded(tuple(found), tuple(changed), changes, row[0] if row else None)

    def _catch_up(self, connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
        """Learn what lies in segments that were published without being remembered, or that are frozen; return it."""
        known = self._state.segment_files()
        learned = {}
        for segment in self._before.values():
            if known.get(segment.name) != segment.file:
                learned[segment.name] = segments.names_in(connection, segment, self._root)
                self._state.catch_up(segment.name, segment.file, learned[segment.name])
        return learned

    def _affected(
        self, connection: duckdb.DuckDBPyConnection, learned: Mapping[str, Sequence[str]]
    ) -> tuple[list[str], list[date]]:
        """Return what has to be computed anew (all, if that is remembered nowhere: none), and registrations' days.

        What was published without being remembered is among it: of the files that it was made of nothing is known, and
        some may be gone by now.
        """
        of_days = {file_id for table, file_id in self._diff.removed if table == REGISTRATIONS.name}
        others = {file_id for _, file_id in self._diff.removed} - of_days
        days = self._state.keys_of(of_days) | _keys(connection, f"lake_table = '{REGISTRATIONS.name}'") | learned.keys()
        touched = sorted(date.fromisoformat(day) for day in days if day >= self._frozen)
        if self._is_full:  # nothing is remembered, and nothing has to be looked up
            return [], touched
        names = self._state.keys_of(others) | _keys(connection, f"lake_table <> '{REGISTRATIONS.name}'")
        names.update(*learned.values())
        return sorted(names - self._frozen_names(connection, names)), touched

    def _frozen_names(self, connection: duckdb.DuckDBPyConnection, names: set[str]) -> set[str]:
        """Return those that have rows in frozen segments only, and whose requests did not change."""
        if not self._frozen:
            return set()
        located = self._state.located(names)
        moving = {name for name, segment in located if segment >= self._frozen}
        requested = _keys(connection, f"lake_table = '{REQUESTS.name}'")
        return {name for name, _ in located} - moving - requested

    def _put_affected(self, connection: duckdb.DuckDBPyConnection, names: Sequence[str], days: Sequence[date]) -> int:
        connection.execute(
            "CREATE OR REPLACE TABLE stage.affected_days AS SELECT unnest($days::DATE[]) AS day", {"days": days}
        )
        if self._is_full:
            connection.execute(
                "CREATE OR REPLACE TABLE stage.affected AS SELECT DISTINCT key AS notification_id FROM stage.contents"
                " WHERE lake_table <> ?",
                [REGISTRATIONS.name],
            )
        else:
            connection.execute(
                "CREATE OR REPLACE TABLE stage.affected AS SELECT unnest($names::VARCHAR[]) AS notification_id",
                {"names": names},
            )
        row = database.first_row(connection, "SELECT count(*) FROM stage.affected")
        return int(row[0]) if row else 0

    def _paths(self, names: Sequence[str], days: Sequence[date]) -> dict[str, list[str]]:
        """Return the files that tell of what is computed anew, by table: those that came, and those that stay."""
        gone = {file_id for _, file_id in self._diff.removed}
        of_names = self._state.files_of(names, [table.name for table in OF_NOTIFICATIONS])
        of_days = self._state.files_of([day.isoformat() for day in days], [REGISTRATIONS.name])
        found: dict[str, list[str]] = {}
        for table, file in self._diff.added:
            found.setdefault(table, []).append(file.path)
        for file_id, table, path in (*of_names, *of_days):
            if file_id not in gone:
                found.setdefault(table, []).append(path)
        return found

    def _freeze(self, connection: duckdb.DuckDBPyConnection, located: Iterable[tuple[str, str]]) -> None:
        """Put into ``stage.frozen_names`` those whose beacons that belong to nothing are counted for good."""
        connection.execute("CREATE OR REPLACE TABLE stage.frozen_names (notification_id VARCHAR)")
        if self._is_full:
            for segment in self._before.values():
                names = segments.names_in(connection, segment, self._root)
                connection.execute("INSERT INTO stage.frozen_names SELECT unnest($names::VARCHAR[])", {"names": names})
            return
        names = sorted({name for name, segment in located if segment < self._frozen})
        connection.execute("INSERT INTO stage.frozen_names SELECT unnest($names::VARCHAR[])", {"names": names})

    def _write(
        self, connection: duckdb.DuckDBPyConnection, facts: Sequence[Fact], located: set[str], days: Sequence[date]
    ) -> tuple[list[Segment], list[Segment]]:
        """Write the segments of the days that rows were in, are in, or that registrations changed."""
        # Rows shall lie in the order that queries look for; one thread does that with the least memory.
        connection.execute("SET preserve_insertion_order = true; SET threads = 1")
        concerned = {day.isoformat() for day in (*segments.days_of_rows(connection, facts), *days)}
        found, changed = dict(self._before), []
        for name in sorted(concerned | (located & self._before.keys())):
            if name < self._frozen:
                continue
            before = self._before.get(name)
            day = Day(date.fromisoformat(name), before)
            made = segments.write(connection, facts, day, self._root, self._folder)
            found.pop(name, None)
            if made is not None:
                found[name] = made
                if made != before:
                    changed.append(made)
        return [found[name] for name in sorted(found)], changed


def _keys(connection: duckdb.DuckDBPyConnection, which: str) -> set[str]:
    rows = connection.execute(f"SELECT DISTINCT key FROM stage.contents WHERE {which}").fetchall()  # noqa: S608 - ours
    return {key for (key,) in rows}
