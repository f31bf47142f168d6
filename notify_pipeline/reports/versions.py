"""Published report versions: immutable files, and the pointer that names the current one.

Belongs here: the folder's layout, moving the pointer, keeping and pruning versions. Does not belong here: what is in a
version (``build``), querying it (``reading``).

Layout below the reports root: ``versions/<number>.duckdb``, ``current.json``, ``building/`` for what is not published.
A version is never changed after its rename. The pointer is replaced whole, so a reader sees the old or the new one.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Version:
    """One published version: its number (grows by one), its file and when it was published."""

    number: int
    path: Path
    published_at: datetime


def current(root: Path) -> Version | None:
    """Return what the pointer names, None before anything was published."""
    try:
        pointer = orjson.loads((root / "current.json").read_bytes())
    except FileNotFoundError:
        return None
    number = pointer["version"]
    return Version(number, version_path(root, number), datetime.fromisoformat(pointer["published_at"]))


def version_path(root: Path, number: int) -> Path:
    """Return the file of a version."""
    return root / "versions" / f"{number:0{_DIGITS}d}.duckdb"


def publish(root: Path, candidate: Path, now: datetime, keep: int) -> Version:
    """Make a finished candidate the current version and prune old ones.

    The candidate must be checkpointed, detached and on the same file system. Only one process may publish at a time.

    Args:
        root: The reports root.
        candidate: The database file; it is renamed.
        now: Stored as the moment of publishing.
        keep: How many versions to keep, the new one included; at least two, since readers may be on the previous one.

    Returns:
        The new version.
    """
    before = current(root)
    number = before.number + 1 if before else 1
    path = version_path(root, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sync(candidate)
    candidate.replace(path)
    _sync(path.parent)
    pointer = root / "current.json"
    draft = pointer.with_suffix(".tmp")
    draft.write_bytes(orjson.dumps({"version": number, "published_at": now.astimezone(UTC).isoformat()}))
    _sync(draft)
    draft.replace(pointer)
    _sync(root)
    _prune(root, number, max(keep, 2))
    return Version(number, path, now)


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
