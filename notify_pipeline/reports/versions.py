"""Published report versions: manifests of immutable segments, and the pointer that names the current one.

Belongs here: the folder's layout, the writer's lock, moving the pointer, pruning. Does not belong here: what is in a
version (``build``), which versions are kept (``thinning``), querying (``reading``).

Layout below the reports root::

    current.json                          the pointer
    versions/<number>.json                a version's manifest
    segments/<day>/<random>.duckdb, .ids  a day's rows; versions share the days that did not change
    months/<month>-<random>.duckdb        the rows of many days once more, to open fewer files (``months``)
    months.json                           which these are
    frozen.json                           the day before which nothing is computed anew (``frozen``)
    builder/                              what the builder remembers (``state``); lags behind the pointer after a crash
    building/                             what is not published; writer.lock

Manifests and segments are never changed. The pointer is replaced whole, so a reader sees the old or the new version.
"""

import fcntl
import os
import re
import shutil
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

from notify_pipeline.reports import manifests
from notify_pipeline.reports.manifests import Segment, Version
from notify_pipeline.reports.thinning import kept

__all__ = ["Segment", "Version"]

_DIGITS: Final = 10
_LOOK_S: Final = 0.05  # a tenth of the shortest build
# What a step that died has left is looked for once in so many versions: that takes the longer the more days there are.
_SWEEP: Final = 32
_MOMENT: Final = re.compile(rb'^{"number":\d+,"published_at":"([^"]+)"')
_HEAD: Final = 128
_remembered = lru_cache(maxsize=64)(manifests.load)  # a manifest never changes once the pointer has named it


class WriterBusyError(RuntimeError):
    """Another process is building reports in this folder."""


class StaleCandidateError(RuntimeError):
    """Another version was published since this one was begun."""


def current(root: Path) -> Version | None:
    """Return what the pointer names, None before anything was published."""
    while True:
        pointer = _pointer(root)
        if pointer is None:
            return None
        try:
            return _remembered(manifest_path(root, pointer["version"]))
        except FileNotFoundError:
            # A home that had one file for each version, while the first build with segments is not done.
            old = Path("versions") / f"{pointer['version']:0{_DIGITS}d}.duckdb"
            if (root / old).exists():
                published_at = datetime.fromisoformat(pointer["published_at"])
                return Version(pointer["version"], published_at, segments=(Segment("", str(old)),))
            if _pointer(root) == pointer:
                raise


def at(root: Path, moment: datetime) -> Version | None:
    """Return the version that was current at a moment, None when it is not kept any more, or none was.

    Args:
        root: The reports root.
        moment: Aware.
    """
    newest = current(root)
    if newest is None or newest.published_at <= moment:
        return newest
    numbers = [number for number in _numbers(root) if number < newest.number]
    low, high = 0, len(numbers)
    try:
        while low < high:  # the first that was published after the moment
            middle = (low + high) // 2
            if _remembered(manifest_path(root, numbers[middle])).published_at <= moment:
                low = middle + 1
            else:
                high = middle
        return _remembered(manifest_path(root, numbers[low - 1])) if low else None
    except FileNotFoundError:  # pruned meanwhile
        return at(root, moment)


def manifest_path(root: Path, number: int) -> Path:
    """Return the manifest of a version."""
    return root / "versions" / f"{number:0{_DIGITS}d}.json"


@contextmanager
def writer(root: Path, wait_s: float = 0) -> Iterator[None]:
    """Hold the right to build and publish. It ends with the process, however that ends.

    Removes what builders that died have left.

    Args:
        root: The folder of reports.
        wait_s: How long to wait for it.

    Raises:
        WriterBusyError: Somebody else holds it all that time.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root / "writer.lock", os.O_CREAT | os.O_RDWR, 0o644)
    deadline = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise WriterBusyError(f"another process builds reports in {root}") from None
                time.sleep(_LOOK_S)
        shutil.rmtree(building(root))
        yield
    finally:
        os.close(handle)


def building(root: Path) -> Path:
    """Return the folder of candidates, made if need be."""
    folder = root / "building"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(root: Path, version: Version, folder: Path, keep: int, keep_days: int) -> Version:
    """Make a version the current one and prune old ones. Only one process may publish at a time.

    Args:
        root: The reports root.
        version: With ``published_at`` as it shall be told; later versions are told of as later ones, whatever the
            clock says, because readers come back to a version by its moment.
        folder: Holds those of its segments' files that are new, by their names relative to the root; they are moved.
        keep: See ``thinning.kept``.
        keep_days: Likewise.

    Raises:
        StaleCandidateError: Another version came first.
    """
    before = _pointer(root)
    if version.number != (before["version"] + 1 if before else 1):
        raise StaleCandidateError(f"version {version.number} does not follow {before['version'] if before else 'none'}")
    if before:
        earliest = datetime.fromisoformat(before["published_at"]) + timedelta(microseconds=1)
        version = version.published(max(version.published_at, earliest))
    for new in sorted(folder.glob("segments/*/*")):
        place = root / new.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        move_in(new, place)
    (root / "versions").mkdir(exist_ok=True)
    _sync(root)
    # A manifest of this number that the pointer never named is what a crash before the pointer's move has left.
    replace_file(manifest_path(root, version.number), manifests.dump(version))
    fields = {"version": version.number, "published_at": version.published_at, "source": version.source}
    replace_file(root / "current.json", orjson.dumps(fields))
    _prune(root, version.number, keep, keep_days)
    return version


def move_in(draft: Path, place: Path) -> None:
    """Move a file that is written whole to its place, for good."""
    _sync(draft)
    draft.replace(place)
    _sync(place.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and for good."""
    draft = path.with_suffix(".tmp")
    draft.write_bytes(content)
    move_in(draft, path)


def _pointer(root: Path) -> dict[str, Any] | None:
    try:
        pointer: dict[str, Any] = orjson.loads((root / "current.json").read_bytes())
    except FileNotFoundError:
        return None
    return pointer


def _numbers(root: Path) -> list[int]:
    return sorted(int(path.stem) for path in (root / "versions").glob("*.json") if path.stem.isdigit())


def _prune(root: Path, newest: int, keep: int, keep_days: int) -> None:
    """Remove versions that are not kept, and segments that no kept version names.

    A reader that has a segment open keeps its data until it closes it; nobody opens it anew.
    """
    numbers = [number for number in _numbers(root) if number <= newest]
    staying = kept([(number, _published_at(root, number)) for number in numbers], keep, keep_days)
    sweeps = newest % _SWEEP == 0
    dropped = set() if sweeps else _named_by_these_alone(root, numbers, staying)
    for number in numbers:
        if number not in staying:
            manifest_path(root, number).unlink()
    for old in (root / "versions").glob("*.duckdb"):  # from before there were segments
        old.unlink()
    if sweeps:
        named = {file for number in staying for file in _files_of(root, number)}
        found = {str(path.relative_to(root).with_suffix(".duckdb")) for path in root.glob("segments/*/*")}
        dropped = found - named
    for file in dropped:
        for path in (root / file).parent.glob(f"{Path(file).stem}.*"):
            path.unlink()


def _named_by_these_alone(root: Path, numbers: Sequence[int], staying: set[int]) -> set[str]:
    """Return the segments' files that versions name which are to go, and no other does.

    Versions share a segment from the one it was made for to the last one before its day changed: who names it follow
    one another. So of those that stay, only the nearest ones have to be looked at.
    """
    found: set[str] = set()
    ordered = sorted(staying)
    for number in numbers:
        if number not in staying:
            place = bisect_left(ordered, number)
            near = ordered[max(place - 1, 0) : place + 1]
            found |= _files_of(root, number).difference(*(_files_of(root, each) for each in near))
    return found


def _published_at(root: Path, number: int) -> datetime:
    """Return when a version was published, from the beginning of its manifest: the whole has a line for each day."""
    path = manifest_path(root, number)
    with path.open("rb") as file:
        found = _MOMENT.search(file.read(_HEAD))
    return manifests.load(path).published_at if found is None else datetime.fromisoformat(found[1].decode())


def _files_of(root: Path, number: int) -> set[str]:
    fields = orjson.loads(manifest_path(root, number).read_bytes())
    return {segment["file"] for segment in fields["segments"]}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
