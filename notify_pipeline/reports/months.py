"""Months: files that have the rows of many days once more, so that questions about years open few files.

Belongs here: which months there are, which of their days hold for a version, and which month is to be written next.
Does not belong here: writing one (``merging``), attaching (``reading_versions``).

A day's own segment is what counts. A month says which segments' rows it has; segments never change, so a day in it
holds for every version that has this very segment, and is passed over for any other. A month may therefore be missing,
late or out of date at any time, and no version has to know of it.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final

import orjson

from notify_pipeline.reports.composed import Part, part_of
from notify_pipeline.reports.manifests import Segment, Version
from notify_pipeline.reports.versions import replace_file

_INDEX: Final = "months.json"
# A month is copied whole, in a second or two; of larger ones the days take longer to read than to open.
_MOST: Final = 250_000
# Fewer days are opened themselves: they are no more than what a page of a list needs, and may be open.
_WORTH: Final = 4
# A month that still goes on is written anew so often at most, not every day.
_BATCH: Final = 8
# Versions that readers are on at once.
_REMEMBERED: Final = 8


@dataclass(frozen=True, slots=True)
class Month:
    """A file with the rows of many days, each row with its ``segment_day``.

    Attributes:
        name: ``YYYY-MM``.
        file: Where it lies, relative to the reports root.
        schema: See ``Segment``.
        tables: See ``Segment``.
        days: The file of the segment that it has the rows of, by day.
    """

    name: str
    file: str
    schema: str
    tables: tuple[str, ...]
    days: Mapping[str, str]


def load(root: Path) -> tuple[Month, ...]:
    """Return the months that there are."""
    try:
        found = orjson.loads((root / _INDEX).read_bytes())
    except FileNotFoundError:
        return ()
    return tuple(Month(**{**each, "tables": tuple(each["tables"])}) for each in found)


def save(root: Path, found: Sequence[Month]) -> None:
    """Have readers use these from now on. Only the writer may do this (``versions.writer``)."""
    replace_file(root / _INDEX, orjson.dumps([asdict(each) for each in found]))


def due(version: Version, found: Sequence[Month], quiet: set[str], today: date) -> tuple[str, list[Segment]] | None:
    """Return the month to write next, with the days that it is to have; None: all is well. Pure.

    Args:
        version: The current one.
        found: The months that there are.
        quiet: The segments' files that are worth copying: those that nothing has changed for a while.
        today: In UTC.
    """
    known = {month.name: month.days for month in found}
    by_month: dict[str, list[Segment]] = {}
    for segment in version.segments:
        if segment.name:
            by_month.setdefault(segment.name[:7], []).append(segment)
    waiting = []
    for name in known.keys() | by_month.keys():
        segments, days = by_month.get(name, []), known.get(name, {})
        fresh = [each for each in segments if each.file in quiet or days.get(each.name) == each.file]
        if sum(each.notifications for each in segments) > _MOST or len(fresh) < _WORTH:
            fresh = []
        missing = sum(days.get(each.name) != each.file for each in fresh)
        gone = len(days.keys() - {each.name for each in segments}) if fresh else len(days)
        enough = _BATCH if name >= f"{today:%Y-%m}" else 1
        if gone or missing >= enough:
            waiting.append((missing + gone, name, fresh))
    if not waiting:
        return None
    _, name, fresh = max(waiting, key=lambda each: each[:2])
    return name, fresh


def parts(segments: Sequence[Segment], places: Mapping[str, Part]) -> tuple[Part, ...]:
    """Return what to open for some days: months, where they have several of them, and days.

    Args:
        segments: Of a version.
        places: That version's (``Months.of``).
    """
    wanted = Counter(places[each.name].file for each in segments if each.name in places)
    found: dict[str, Part] = {}
    for segment in segments:
        place = places.get(segment.name)
        part = part_of(segment) if place is None or wanted[place.file] < _WORTH else place
        found.setdefault(part.file, part)
    return tuple(found.values())


class Months:
    """The months below one reports root, as readers find them. Thread-safe."""

    def __init__(self, root: Path) -> None:
        """Open nothing yet."""
        self._root = root
        self._lock = threading.Lock()
        self._token: tuple[int, int] | None = None
        self._found: tuple[Month, ...] = ()
        self._places: dict[int, Mapping[str, Part]] = {}

    def of(self, version: Version) -> Mapping[str, Part]:
        """Return the month to read each day of a version from, for those that are in one."""
        with self._lock:
            token = self._looked()
            if token != self._token:
                self._found, self._places, self._token = load(self._root), {}, token
            if version.number not in self._places:
                if len(self._places) >= _REMEMBERED:
                    self._places.pop(min(self._places))
                self._places[version.number] = _places(version, self._found)
            return self._places[version.number]

    def _looked(self) -> tuple[int, int] | None:
        try:
            found = (self._root / _INDEX).stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino


def _places(version: Version, found: Sequence[Month]) -> Mapping[str, Part]:
    files = {segment.name: segment.file for segment in version.segments}
    places = {}
    for month in found:
        hidden = tuple(sorted(day for day, file in month.days.items() if files.get(day) != file))
        part = Part(month.file, month.schema, month.tables, hidden)
        places.update(dict.fromkeys(month.days.keys() - set(hidden), part))
    return places
