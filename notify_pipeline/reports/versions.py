"""Published report versions: immutable files, and the pointer that names the current one.

Belongs here: the folder's layout, the writer's lock, moving the pointer, keeping and pruning versions. Does not belong
here: what is in a version (``build``), querying it (``reading``).

Layout below the reports root: ``versions/<number>.duckdb``, ``current.json``, ``building/`` for what is not published,
``writer.lock``. A version is never changed after its rename. The pointer is replaced whole, so a reader sees the old or
the new one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Version:
    """One published version.

    Attributes:
        number: Grows by one.
        path: Its file.
        published_at: When it became current.
        source: A token of what it was made from (``build.source_token``).
    """

    number: int
    path: Path
    published_at: datetime
    source: str = ""


class WriterBusyError(RuntimeError):
    """Another process is building reports in this folder."""


class StaleCandidateError(RuntimeError):
    """Another version was published since this one was begun."""


def current(root: Path) -> Version | None:
    """Return what the pointer names, None before anything was published."""
    try:
        pointer = orjson.loads((root / "current.json").read_bytes())
    except FileNotFoundError:
        return None
    number = pointer["version"]
    published_at = datetime.fromisoformat(pointer["published_at"])
    return Version(number, version_path(root, number), published_at, pointer.get("source", ""))


def version_path(root: Path, number: int) -> Path:
    """Return the file of a version."""
    return root / "versions" / f"{number:0{_DIGITS}d}.duckdb"


def at(root: Path, moment: datetime) -> Version | None:
    """Return the version that was current at a moment, None when it is not kept any more, or none was.

    Args:
        root: The reports root.
        moment: Aware.
    """
    newest = current(root)
    if newest is None or newest.published_at <= moment:
        return newest
    for number in range(newest.number - 1, 0, -1):
        path = version_path(root, number)
        try:
            published_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)  # published as soon as it was written
        except FileNotFoundError:
            return None
        if published_at <= moment:
            return Version(number, path, published_at)
    return None


@contextmanager
def writer(root: Path) -> Iterator[None]:
    """Hold the right to build and publish. It ends with the process, however that ends.

    Removes what builders that died have left.

    Raises:
        WriterBusyError: Somebody else holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root / "writer.lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WriterBusyError(f"another process builds reports in {root}") from None
        for path in building(root).glob("*.duckdb*"):
            path.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def building(root: Path) -> Path:
    """Return the folder of candidates, made if need be."""
    folder = root / "building"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(root: Path, candidate: Path, number: int, now: datetime, keep: int, source: str = "") -> Version:
    """Make a finished candidate the current version and prune old ones.

    The candidate must be checkpointed, detached and on the same file system. Only one process may publish at a time.

    Args:
        root: The reports root.
        candidate: The database file; it is renamed.
        number: The number it was built to have.
        now: Stored as the moment of publishing.
        keep: How many versions to keep, the new one included; at least two, since readers may be on the previous one.
        source: See ``Version``.

    Returns:
        The new version.

    Raises:
        StaleCandidateError: Another version came first; the candidate stays where it is.
    """
    before = current(root)
    if number != (before.number + 1 if before else 1):
        raise StaleCandidateError(f"version {number} does not follow {before.number if before else 'nothing'}")
    path = version_path(root, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sync(candidate)
    # A file of this number that the pointer never named is what a crash before the pointer's move has left.
    candidate.replace(path)
    _sync(path.parent)
    version = Version(number, path, now.astimezone(UTC), source)
    pointer = root / "current.json"
    draft = pointer.with_suffix(".tmp")
    fields = {"version": number, "published_at": version.published_at.isoformat(), "source": source}
    draft.write_bytes(orjson.dumps(fields))
    _sync(draft)
    draft.replace(pointer)
    _sync(root)
    _prune(root, number, max(keep, 2))
    return version


def _prune(root: Path, newest: int, keep: int) -> None:
    for path in (root / "versions").glob("*.duckdb"):
        if path.stem.isdigit() and int(path.stem) <= newest - keep:
            # A reader that has it open keeps its data until it closes; nobody opens it anew.
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
