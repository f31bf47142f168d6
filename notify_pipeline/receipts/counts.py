"""How much each log file held, and an hour's files together: what operators see of an hour.

Belongs here: those numbers, from a parsed file to the notes in its result and back, and their sum over an hour. Does
not belong here: parsing (``files``), results (``hours``, ``results``).

An hour of a busy ingress has a thousand files. So that their notes need not be opened each time, the numbers of an hour
are also kept in one file of the lake. It is a copy: what it lacks is read from the notes, and losing it loses nothing.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Self

import orjson
import pyarrow.compute as pc

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.schemas import RECEIPTS
from notify_pipeline.receipts.files import ParsedFile
from notify_pipeline.receipts.results import result_keys, result_path

FOLDER: Final = "log_counts"
_FILE: Final = "counts.json"
# The notes of a result, beside those that say what it is of.
_NOTES: Final = {"lines": "lines", "other": "other_lines", "quarantined": "quarantined_lines"}
_MORE: Final = "counts"


@dataclass(frozen=True, slots=True)
class FileCounts:
    """One log file's numbers.

    Attributes:
        size: Its bytes as stored.
        lines: All lines.
        events: Lines that are beacons of ours.
        other: Lines of other traffic, and blank ones.
        reasons: Lines, and rests of damaged files, in quarantine, by reason.
        latest: The last beacon, microseconds since the epoch.
    """

    size: int = 0
    lines: int = 0
    events: int = 0
    other: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    latest: int | None = None

    @classmethod
    def of(cls, parsed: ParsedFile, size: int) -> Self:
        """Count."""
        reasons = Counter(parsed.quarantine["reason"].to_pylist())
        latest = pc.max(parsed.events["at"].cast("int64")).as_py()
        events = parsed.events.num_rows
        return cls(size, parsed.lines, events, parsed.other, dict(sorted(reasons.items())), latest)

    @property
    def quarantined(self) -> int:
        """How many lines, and rests of files, are in quarantine."""
        return sum(self.reasons.values())

    def notes(self) -> dict[str, str]:
        """Return what a result says of its file."""
        plain = {note: str(getattr(self, name)) for name, note in _NOTES.items()}
        return {**plain, _MORE: self.text().decode()}

    def text(self) -> bytes:
        """Return them as JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def read(cls, lake: Lake, path: str) -> Self | None:
        """Read the notes of a result; None when it is gone."""
        try:
            with lake.open_parquet(path) as file:
                notes, rows = file.schema_arrow.metadata or {}, file.metadata.num_rows
        except FileNotFoundError:
            return None
        if found := notes.get(_MORE.encode()):
            return cls(**orjson.loads(found))
        # Results of before there were these: there are fewer numbers.
        lines, other, quarantined = (int(notes.get(note.encode(), 0)) for note in _NOTES.values())
        return cls(0, lines, rows, other, {"unknown": quarantined} if quarantined else {})


@dataclass(frozen=True, slots=True)
class HourCounts:
    """An hour's files together; ``latest`` is the last beacon."""

    files: int
    size: int
    lines: int
    events: int
    other: int
    quarantined: int
    reasons: dict[str, int]
    latest: datetime | None

    @classmethod
    def of(cls, files: Mapping[str, FileCounts]) -> Self:
        """Add them up."""
        every = list(files.values())
        reasons = sum((Counter(one.reasons) for one in every), Counter[str]())
        latest = max((one.latest for one in every if one.latest is not None), default=None)
        return cls(
            files=len(every),
            size=sum(one.size for one in every),
            lines=sum(one.lines for one in every),
            events=sum(one.events for one in every),
            other=sum(one.other for one in every),
            quarantined=reasons.total(),
            reasons=dict(sorted(reasons.items())),
            latest=None if latest is None else from_micros(latest),
        )


def hour_counts(lake: Lake, hour: datetime, fresh: Mapping[str, FileCounts] | None = None) -> HourCounts:
    """Return the numbers of an hour's results, and keep them for the next time.

    Args:
        lake: Has the results.
        hour: Any moment of the hour.
        fresh: Those that are known, by the name of the result.
    """
    path = f"{partition(FOLDER, hour)}/{_FILE}"
    kept = _kept(lake, path)
    known = {**kept, **(fresh or {})}
    counts = {
        key: one
        for key in sorted(result_keys(lake, hour))
        if (one := known.get(key) or FileCounts.read(lake, result_path(RECEIPTS, hour, key))) is not None
    }
    if counts != kept:
        lake.write_bytes(path, orjson.dumps({key: asdict(one) for key, one in counts.items()}))
    return HourCounts.of(counts)


def _kept(lake: Lake, path: str) -> dict[str, FileCounts]:
    try:
        found: dict[str, dict[str, Any]] = orjson.loads(lake.read_bytes(path))
    except FileNotFoundError:
        return {}
    return {key: FileCounts(**one) for key, one in found.items()}
