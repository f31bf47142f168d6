"""Builds the next report version as a candidate: what changed in the lake is computed anew, all else is shared.

Belongs here: whether to build, from what, and a candidate's way to being current. Does not belong here: computing
(``fold``), checks (``checks``), the folder's layout (``versions``), SQL (``sql/*.sql``).
"""

import hashlib
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb

from notify_pipeline.core import log_watermark
from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import database, frozen, state, versions
from notify_pipeline.reports.fold import Changes, Fold, Folded
from notify_pipeline.reports.lake_diff import OF_NOTIFICATIONS, Diff, difference
from notify_pipeline.reports.manifests import Build, Segment, Version
from notify_pipeline.reports.state import State

# A compaction may remove a file between listing and reading it. It does so once per file, so the next try sees a
# settled lake, unless compactions follow each other without pause.
_TRIES: Final = 5


class LakeKeepsChangingError(RuntimeError):
    """Files went away while they were read, time and again."""


class DamagedSegmentError(RuntimeError):
    """A published segment cannot be read, and the lake may not have what it was made of any more."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version to be.

    Attributes:
        root: The reports root that it is for.
        folder: What it has of its own; belongs to the caller, to publish or to discard.
        version: Its manifest to be.
        based_on: The version that it shares what did not change with; None for a full rebuild.
        changes: Lake files and notifications that changed.
        is_changed: Whether it says anything that the current version does not.
        changed: Those of its segments that are new.
        fresh_state: What the builder is to remember from now on, if that is not what it remembers and some changes.
    """

    root: Path
    folder: Path
    version: Version
    based_on: int | None
    changes: Changes
    is_changed: bool
    changed: tuple[Segment, ...]
    fresh_state: Path | None

    @property
    def number(self) -> int:
        """The version number it will have."""
        return self.version.number

    @property
    def delta(self) -> Path:
        """What changes in the builder's memory once it is published."""
        return self.folder / state.DELTA

    def path_of(self, segment: Segment) -> Path:
        """Return where a segment's file lies."""
        return (self.folder if segment in self.changed else self.root) / segment.file

    def discard(self) -> None:
        """Remove what it has of its own, if that is still there."""
        shutil.rmtree(self.folder, ignore_errors=True)


def build_candidate(
    lake: Lake, reports_root: Path, settings: Settings, now: datetime, *, full: bool = False
) -> Candidate:
    """Build the next version.

    Only one process may do this for a reports root at a time (``versions.writer``).

    Args:
        lake: The lake.
        reports_root: Where versions lie.
        settings: Limits and the settling time.
        now: The present.
        full: Compute everything from the lake, whatever the last version says; but for what is frozen.

    Returns:
        The candidate, perhaps unchanged.

    Raises:
        LakeKeepsChangingError: Files kept going away while they were read.
        DamagedSegmentError: A frozen day's file is missing or damaged. Any other day's is computed anew, with all else.
        duckdb.OutOfMemoryException: ``duckdb_memory`` does not suffice.
    """

    def build(memory: str) -> Candidate:
        folder = versions.building(reports_root) / uuid.uuid4().hex
        folder.mkdir()
        try:
            return _build(lake, reports_root, folder, settings, now, memory, full=full)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    error: Exception | None = None
    for _ in range(_TRIES):
        try:
            return database.within((settings.report_memory, settings.duckdb_memory), build)
        except (FileNotFoundError, duckdb.IOException) as caught:
            error = caught
            full = _is_damaged(reports_root, caught) or full
    raise LakeKeepsChangingError(f"gave up after {_TRIES} tries; the last: {error}") from error


def publish(candidate: Candidate, settings: Settings, now: datetime) -> Version:
    """Make a candidate the current version, prune old ones, and remember what was folded.

    Args:
        candidate: As built, checked, and changed; it is used up.
        settings: How many versions are kept.
        now: Stored as the moment of publishing.

    Raises:
        StaleCandidateError: Another version came first; the candidate stays as it is.
    """
    version = versions.publish(
        candidate.root,
        candidate.version.published(now),
        candidate.folder,
        settings.report_versions_kept,
        settings.report_version_days,
    )
    state.keep(candidate.root, candidate.fresh_state, candidate.delta)
    candidate.discard()
    return version


def is_stale(lake: Lake, reports_root: Path, settings: Settings) -> bool:
    """Tell whether a build would change anything. Looks at the lake's folders, opens no file of it, needs no DuckDB.

    Registrations do not count: they come all the time, and what they change is a matter of days. The next build has
    them.
    """
    base = versions.current(reports_root)
    if base is None or base.build is None or base.source != source_token(settings):
        return True
    path = state.state_path(reports_root)
    if state.meta_of(path) != _meta(base.number):
        return True
    mark = log_watermark.read(lake)
    with state.opened(path) as remembered:
        if _is_told_otherwise(base, _latest(_beacon(remembered.through_us(())), mark)):
            return True
        return bool(difference(lake, remembered, [table.name for table in OF_NOTIFICATIONS]))


def source_token(settings: Settings) -> str:
    """Return a digest of everything beside the lake that a version follows from: models and settings."""
    return hashlib.sha256(f"{database.model_version()}\0{settings.settle_hours}".encode()).hexdigest()


def _is_damaged(root: Path, error: Exception) -> bool:
    """Tell whether what failed was to read a published segment.

    Raises:
        DamagedSegmentError: It is frozen.
    """
    last = versions.current(root)
    failed = next((each for each in last.segments if each.file in str(error)), None) if last else None
    day = frozen.before(root)
    if failed is not None and day is not None and failed.name < day.isoformat():
        raise DamagedSegmentError(f"{root / failed.file} is frozen and cannot be read: put it back from a backup")
    return failed is not None


def _meta(number: int) -> dict[str, str]:
    return {"version": str(number), "models": database.model_version()}


def _is_told_otherwise(version: Version, through: datetime | None) -> bool:
    """Tell whether a version says something else for how far the logs are read.

    Further on changes nothing once all is settled. It goes back where a clock that was ahead had moved the mark.
    """
    was = None if version.build is None else version.build.received_through
    if through is None or (was is not None and through < was):
        return through != was
    return through != was and not version.is_settled


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _beacon(through_us: int | None) -> datetime | None:
    return None if through_us is None else from_micros(through_us)


def _build(
    lake: Lake, root: Path, folder: Path, settings: Settings, now: datetime, memory: str, *, full: bool
) -> Candidate:
    last = versions.current(root)
    source = source_token(settings)
    path = state.state_path(root)
    models = state.meta_of(path).get("models")
    base = None if full or last is None or last.build is None or models != database.model_version() else last
    with _remembered(path if base else None, folder) as remembered:
        mark = log_watermark.read(lake)  # before the listing: all that it speaks of is there
        diff = difference(lake, remembered)
        day = frozen.before(root)  # after the listing: nothing that was frozen is missing without being known as such
        fold = Fold(lake, root, folder, remembered, diff, last, day, is_full=base is None)
        number = 1 if last is None else last.number + 1
        folded = fold.run(memory, settings.duckdb_threads, _meta(number))
        build = _signed(number, folded, remembered, diff, mark, settings, now)
    is_changed = (
        base is None
        or base.build is None
        or base.source != source
        or bool(diff)
        or folded.segments != base.segments  # what was published unremembered was of files that are gone
        or _is_told_otherwise(base, build.received_through)
    )
    return Candidate(
        root,
        folder,
        Version(number, now, source, build, folded.segments, day),
        None if base is None else base.number,
        folded.changes,
        is_changed,
        folded.changed,
        None if base else folder / state.FILE,
    )


@contextmanager
def _remembered(path: Path | None, folder: Path) -> Iterator[State]:
    """Open what is remembered; None: begin anew, in the candidate's folder."""
    if path is None:
        path = folder / state.FILE
        with state.made(path, "state.sql"):
            pass
    try:
        with state.opened(path) as found:
            yield found
    except sqlite3.DatabaseError as error:
        raise RuntimeError(f"{path} cannot be read ({error}): remove it, and everything is computed anew") from error


def _signed(
    number: int, folded: Folded, remembered: State, diff: Diff, mark: datetime | None, settings: Settings, now: datetime
) -> Build:
    removed = [file_id for _, file_id in diff.removed]
    through = _latest(folded.through, _beacon(remembered.through_us(removed)), mark)
    return Build(
        number,
        now,
        through,
        None if through is None else through - timedelta(hours=settings.settle_hours),
        remembered.count_files() - len(removed) + len(diff.added),
        folded.changes.affected,
        sum(segment.foreign_deliveries for segment in folded.segments),
        sum(segment.foreign_hits for segment in folded.segments),
    )
